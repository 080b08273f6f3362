"""Markdown that shows values as people gave them, whatever is in them: of them a card is made."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

NOT_STATED = "not stated"


def printable(text: str) -> str:
    """Without control characters, lone surrogates, separators of lines, and marks that turn the reading direction."""
    turns = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    return "".join(" " if c in turns or unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in text)


def line(value: Any) -> str:
    """One line of plain text; empty for None."""
    return "" if value is None else " ".join(printable(str(value)).split())


def lines(value: str) -> str:
    """Plain text that keeps its lines: a command may be continued on the next one."""
    return "\n".join(printable(part.expandtabs(4)).rstrip() for part in value.splitlines()).strip()


def text(value: Any) -> str:
    """A value as Markdown that shows it as it is, in a table as well as at the start of a paragraph."""
    shown = re.sub(r"([\\`*_\[\]<>#|~&$])", r"\\\1", line(value))
    shown = re.sub(r"^(?=[-+=])|^(\d+)(?=[.)](\s|$))", r"\1\\", shown)  # neither a list nor a rule
    return shown or NOT_STATED


def number(value: float | None) -> str:
    """With four digits, or that it is not stated."""
    return NOT_STATED if value is None else f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"


def link(said: str, url: str | None) -> str:
    """A text that leads to an address of the web; the text alone where there is none."""
    address = quote(line(url), safe="/:?#@!$&'*+,;=%~")
    return f"[{text(said)}]({address})" if re.match(r"https?://.", address) else text(said)


def fence(code: str, language: str) -> str:
    """A block of code, whatever backticks are in it."""
    ticks = "`" * max(3, 1 + max(map(len, re.findall("`+", code)), default=0))
    return f"{ticks}{language}\n{code}\n{ticks}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells that are Markdown already."""
    every = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in every)


def gap(*said: str, columns: int) -> tuple[str, ...]:
    """A row that says once that there is nothing to show."""
    return (*said, *["–"] * (columns - len(said)))


def facts(known: Mapping[str, str]) -> str:
    """A list of names and what is known of each, Markdown already."""
    return "\n".join(f"- **{name}:** {value}" for name, value in known.items())


__all__ = ["NOT_STATED", "facts", "fence", "gap", "line", "lines", "link", "number", "printable", "table", "text"]
