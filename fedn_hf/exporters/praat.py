"""Praat's TextGrid: an interval tier for each face and type, and one of details beside it.

A tier fills the whole recording, with empty intervals where nothing is. Read here and not by a library: praatio takes
a label such as "item [1]" for the next part of the file.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..media_fedn import FednError
from .marks import Mark, Span, Tier, annotation_of_marks, end_ms_of, tiers_of

if TYPE_CHECKING:
    from ..annotation import ExpressionAnnotation
    from .mapping import CodeMapping

_DETAILS = " details"
_TOKEN = re.compile(
    r'"(?P<text>(?:[^"]|"")*+)"|(?P<unclosed>")|<(?P<flag>\w+)>|!.*'
    r"|(?<!\S)(?P<number>-?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)(?!\S)"
)


def write_textgrid(annotation: "ExpressionAnnotation", path: Path, target: Path) -> None:
    """A TextGrid in Praat's long form, UTF-8."""
    tiers = tiers_of(annotation) or [Tier("face 0", 0, None, [])]  # Praat knows no grid without tiers
    end_ms = end_ms_of(annotation, tiers)
    rows = [(tier.name, tier.spans, lambda span: span.code) for tier in tiers]
    rows += [
        (tier.name + _DETAILS, tier.spans, lambda span: span.details)
        for tier in tiers
        if any(span.details for span in tier.spans)
    ]
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.write('File type = "ooTextFile"\nObject class = "TextGrid"\n\n')
        file.write(f"xmin = 0\nxmax = {_seconds(end_ms)}\ntiers? <exists>\nsize = {len(rows)}\nitem []:\n")
        for number, (name, spans, text_of) in enumerate(rows, start=1):
            file.write(f'    item [{number}]:\n        class = "IntervalTier"\n        name = {_quoted(name)}\n')
            filled = list(_filled(spans, text_of, end_ms))
            file.write(
                f"        xmin = 0\n        xmax = {_seconds(end_ms)}\n        intervals: size = {len(filled)}\n"
            )
            for place, (start, stop, text) in enumerate(filled, start=1):
                file.write(
                    f"        intervals [{place}]:\n            xmin = {_seconds(start)}\n"
                    f"            xmax = {_seconds(stop)}\n            text = {_quoted(text)}\n"
                )


def _filled(spans: list[Span], text_of: Callable[[Span], str], end_ms: int) -> Iterator[tuple[int, int, str]]:
    """The spans, and what lies between them."""
    at = 0
    for span in spans:
        if span.start_ms > at:
            yield at, span.start_ms, ""
        yield span.start_ms, span.stop_ms, text_of(span)
        at = span.stop_ms
    if at < end_ms:
        yield at, end_ms, ""


def _seconds(thousandths: int) -> str:
    return f"{thousandths // 1000}.{thousandths % 1000:03}"


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def read_textgrid(path: Path, mapping: "CodeMapping | None") -> list["ExpressionAnnotation"]:
    """
    What we wrote, or a coder's tiers by a mapping, in Praat's long or short form; a point is an expression that lasts
    no time.
    """
    from . import facts_beside

    tiers = _tiers(path)
    names = {name for name, _ in tiers}
    details = {
        (name.removesuffix(_DETAILS), start): text
        for name, rows in tiers
        if name.endswith(_DETAILS)
        for start, _, text in rows
    }
    marks = [
        Mark(name, text.strip(), start, stop, details.get((name, start), ""))
        for name, rows in tiers
        if not (name.endswith(_DETAILS) and name.removesuffix(_DETAILS) in names)
        for start, stop, text in rows
        if text.strip()
    ]
    return [annotation_of_marks(path, marks, mapping, next(iter(facts_beside(path)), None))]


def _tiers(path: Path) -> list[tuple[str, list[tuple[float, float, str]]]]:
    """
    Name and rows (start, stop, text) of every tier.

    Praat reads the numbers, texts and flags that stand free and nothing else; so does this, whatever texts hold.
    """
    content = path.read_bytes()
    if content.startswith(b"ooBinaryFile"):
        raise FednError("it is a binary TextGrid; save it in Praat as a text file")
    text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    tokens = (found for found in _TOKEN.finditer(text) if found.lastgroup is not None)

    def take(kind: str) -> str:
        found = next(tokens, None)
        if found is None or found.lastgroup != kind:
            given = "its end" if found is None else repr(found[0][:40])
            raise FednError(f"not a TextGrid, or a damaged one: a {kind} was expected, got {given}")
        return found[kind]

    if (take("text"), take("text")) != ("ooTextFile", "TextGrid"):
        raise FednError("not a TextGrid of Praat")
    take("number"), take("number")
    if take("flag") != "exists":
        return []
    tiers = []
    for _ in range(int(take("number"))):
        kind, name = take("text"), take("text").replace('""', '"')
        take("number"), take("number")
        rows = []
        for _ in range(int(take("number"))):
            start = float(take("number"))
            stop = float(take("number")) if kind == "IntervalTier" else start
            rows.append((start, stop, take("text").replace('""', '"')))
        tiers.append((name, rows))
    return tiers


__all__ = ["read_textgrid", "write_textgrid"]
