"""`fedn cache info` and `fedn cache clear`: the features that training has computed and kept."""

from pathlib import Path
from typing import Annotated

import typer

from .terminal import SOME_FAILED, UsageError, say, say_error

Folder = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Of the cache; else FEDN_CACHE, or ~/.cache/fedn_hf.", show_default=False),
]
cache = typer.Typer(no_args_is_help=True)


@cache.callback()
def _describe() -> None:
    """See how large the cache of frame features is, or empty it."""


@cache.command()
def info(folder: Folder = None) -> None:
    """Print what the cache holds.

    \b
    Example:
      fedn cache info
    """
    from ..data.cache import FeatureCache

    cache = FeatureCache(folder)
    _check(cache.folder)
    held = cache.info()
    lines = [f"{held.folder}: {held.videos} videos, {held.frames} frames, {_size(held.size_bytes)}"]
    if held.unfinished_bytes:
        lines.append(f"{_size(held.unfinished_bytes)} of this are unfinished or damaged, to be written over")
    say(*lines)


@cache.command()
def clear(folder: Folder = None) -> None:
    """Remove everything from the cache; it is computed again when it is needed. Other files in its folder stay.

    \b
    Example:
      fedn cache clear
    """
    from ..data.cache import FeatureCache

    held = FeatureCache(folder)
    _check(held.folder)
    size = held.info().size_bytes
    removed, busy = held.clear()
    say(f"{held.folder}: removed {removed} videos, {_size(size - held.info().size_bytes)}")
    if busy:
        say_error(f"error: {busy} videos are being computed at this moment, and stay; try again later")
        raise typer.Exit(SOME_FAILED)


def _check(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: a file; the cache is a folder, which --folder or FEDN_CACHE names")


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.2f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.2f} MB"


__all__ = ["cache", "clear", "info"]
