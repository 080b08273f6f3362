"""How the commands speak: what goes to the screen, how it looks, and how a command ends."""

import re
import sys
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table

# Exit codes. Ctrl-C gives what shells give for it.
WRONG_USE, SOME_FAILED, INTERRUPTED = 1, 2, 130
# All but tab and line end, and what turns the direction of writing around.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class UsageError(Exception):
    """What was asked for cannot be done: said in one line, before any work where possible, with exit code 1."""


def say(*things: RenderableType) -> None:
    """Print to stdout: results, which may be piped on."""
    _console(sys.stdout).print(*map(harmless, things), sep="\n", markup=False, highlight=False, soft_wrap=True)


def say_error(message: str) -> None:
    """Print to stderr."""
    _console(sys.stderr).print(harmless(message), markup=False, highlight=False, soft_wrap=True)


def harmless(thing: RenderableType) -> RenderableType:
    """
    A text that does nothing to the terminal. Names of files and labels come from anywhere; with control characters in
    them they would colour, clear or rename the window, type into it, or turn the order of letters around.
    """
    return (
        _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), thing)
        if isinstance(thing, str)
        else thing
    )


def _console(stream) -> Console:
    # A file has no width, and rich would cut tables for it at 80 columns.
    return Console(file=stream, width=None if stream.isatty() else 200)


def show_download_bars_to_people() -> None:
    """The Hub's client would draw its bars into files and pipes, too; what the user has set for it goes first."""
    from huggingface_hub import constants
    from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

    if constants.HF_HUB_DISABLE_PROGRESS_BARS is None:
        (enable_progress_bars if sys.stderr.isatty() else disable_progress_bars)()


class _Table(Table):
    def add_row(self, *cells: Any, **style: Any) -> None:
        super().add_row(*map(harmless, cells), **style)


def clock(seconds: float) -> str:
    """As players show it: h:mm:ss.mmm."""
    thousandths = round(seconds * 1000)
    minutes, thousandths = divmod(thousandths, 60_000)
    return f"{minutes // 60}:{minutes % 60:02}:{thousandths // 1000:02}.{thousandths % 1000:03}"


def table(*columns: str) -> Table:
    """An empty table; columns that begin with ">" hold numbers."""
    empty = _Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        is_number = column.startswith(">")
        empty.add_column(column.removeprefix(">"), justify="right" if is_number else "left", no_wrap=True)
    return empty


def describe_video(video: dict[str, Any]) -> str:
    """One line on what a video says about itself."""
    facts = [f"{video['width']} x {video['height']}"] if video.get("width") else []
    facts.append(f"{video['fps']:.4g} fps" if video.get("fps") else "unknown rate")
    facts += [name for name in (video.get("codec") or video.get("container"),) if name]
    facts += [clock(video["duration_s"])] if video.get("duration_s") else []
    return f"{video['path']}: {', '.join(facts)}"


def describe_damage(truncated_at_s: float) -> str:
    """What was not read of a damaged file."""
    return f"The file is damaged: what comes after {clock(truncated_at_s)} could not be read."


def _no_face(asked: dict[str, Any]) -> list[str]:
    """Which face was not found in what was read, and what to do about it."""
    from ..face_finder_fedn import FaceFinder

    if isinstance(rank := asked.get("faces"), int) and rank:
        said = [f"No face of rank {rank} was found in what was read, so no expressions."]
        return [*said, "Ranks count from 0, the largest face; --faces all follows every face that there is."]
    said = ["No face was found in what was read, so no expressions."]
    height = f"{FaceFinder.MIN_FACE_PX:.0f} pixels"
    said.append(f"Look at it: a face can be read from {height} height on, and with both eyes in the picture.")
    if asked.get("start_s") is not None or asked.get("end_s") is not None:
        said.append("It was read from --start to --end alone; without them it is read as a whole.")
    return said


def describe_annotation(annotation) -> list[RenderableType]:
    """A video's expressions as a table, and what must be known beside them."""
    said: list[RenderableType] = [describe_video(annotation.video)]
    if len(annotation):
        rows = table("type", "label", ">score", ">onset", ">apex", ">offset", ">face")
        for event in annotation:
            times = (clock(getattr(event, f"{name}_s")) for name in ("onset", "apex", "offset"))
            kind = event.type.removesuffix("-expression")
            rows.add_row(kind, event.label or "-", f"{event.score:.3f}", *times, str(event.face_id))
        said.append(rows)
    elif annotation.coverage:
        threshold = annotation.provenance["settings"]["score_threshold"]
        said.append(f"No expressions found (score threshold {threshold:g}).")
    else:
        said += _no_face(annotation.provenance)
    if annotation.video.get("truncated_at_s") is not None:
        said.append(describe_damage(annotation.video["truncated_at_s"]))
    return said


__all__ = [
    "INTERRUPTED",
    "SOME_FAILED",
    "WRONG_USE",
    "UsageError",
    "clock",
    "describe_annotation",
    "describe_damage",
    "describe_video",
    "harmless",
    "say",
    "say_error",
    "show_download_bars_to_people",
    "table",
]
