"""Where commands write: said before the work if they cannot, and never over what a person has made or changed.

What a command wrote, and nobody has changed since, it may replace. Which that is stands in a hidden file beside the
results, a line for each with the SHA-256 of its content, as `sha256sum` writes them. Without it nothing is replaced
but with --overwrite.
"""

import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ..files_fedn import file_sha256
from ..media_fedn import FednError
from .terminal import UsageError

LEDGER = ".fedn.sha256"


def check_folder(out: Path) -> None:
    """
    Make sure that this is a folder that takes files, or can become one, before hours are spent on what goes into it.

    Raises:
        UsageError: a file lies there, or where a folder above it would; or nothing may be written there.
    """
    there = next((path for path in (out, *out.parents) if path.exists()), out)
    if not there.is_dir():
        raise UsageError(f"{out}: cannot be a folder, for {there} is a file; name another")
    try:
        with tempfile.TemporaryFile(dir=there):  # what permissions say is not all: a disk may be read-only, or full
            pass
    except OSError as error:
        raise UsageError(f"{out}: {there} cannot be written to ({error.strerror}); name another folder") from None


def check_file(out: Path, overwrite: bool) -> None:
    """
    Make sure that this file may be written, before the work.

    Raises:
        UsageError: a folder lies there, the folder that it would lie in is not there or takes no files, or there is a
            file that `check_replaceable` keeps.
    """
    if out.is_dir():
        raise UsageError(f"{out}: a folder; name a file with -o")
    if not out.parent.is_dir():
        raise UsageError(f"{out.parent}: no such folder; -o names a file in a folder that is there")
    check_folder(out.parent)
    if not overwrite:
        try:
            check_replaceable([out])
        except FednError as error:
            raise UsageError(str(error)) from None


def check_replaceable(paths: Iterable[Path]) -> None:
    """
    Make sure that nothing is lost where these are written.

    Raises:
        FednError: one of them is there, and no command wrote it, or it has been changed since.
    """
    for path in filter(Path.is_file, paths):
        known = [sha256 for sha256, _, name in (line.partition("  ") for line in _lines(path)) if name == path.name]
        if file_sha256(path) not in known:
            what = "has been changed since fedn wrote it" if known else "is there already, and not from fedn"
            raise FednError(f"{path} {what}; move it, name another place with -o, or replace it with --overwrite")


def remember(paths: Iterable[Path]) -> None:
    """Note that these have just been written by a command. Who cannot note it must ask with --overwrite later."""
    for path in filter(Path.is_file, paths):
        with suppress(OSError), open(path.with_name(LEDGER), "ab", opener=_open_itself) as ledger:
            ledger.write(f"{file_sha256(path)}  {path.name}\n".encode(errors="surrogateescape"))


def _open_itself(path: str, flags: int) -> int:
    """A folder that comes from somebody else may hold a link, and what it leads to would be written to."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _lines(path: Path) -> list[str]:
    """What is noted of the files in the folder of this one; nothing where nothing can be read."""
    try:
        return path.with_name(LEDGER).read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    except OSError:
        return []


__all__ = ["LEDGER", "check_file", "check_folder", "check_replaceable", "remember"]
