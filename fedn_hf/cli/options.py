"""The options that several commands share, so that a flag means the same everywhere, and what their values mean."""

import math
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from .terminal import UsageError

_INPUT, _NETWORK, _REPORT, _RESULTS = "What is read", "Network", "What is reported", "Where results go"
# What flags of several commands say that differ in all else.
FPS = "Frames per second of what carries no times: folders of images, tables, features."
NEW_OR_STOPPED = "New, or of a run that was stopped."
SEED = "The same seed gives the same result."
TYPES = {"macro": "macro-expression", "micro": "micro-expression"}

Model = Annotated[
    str | None,
    typer.Option(
        metavar="CHECKPOINT", help="A folder, or a model on the Hub; else the package's own.", rich_help_panel=_NETWORK
    ),
]
Revision = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Branch, tag or commit of a model on the Hub.", rich_help_panel=_NETWORK),
]
Device = Annotated[
    str | None, typer.Option(metavar="NAME", help='Such as "cpu" or "cuda:0".', rich_help_panel=_NETWORK)
]
Threads = Annotated[int | None, typer.Option(min=1, metavar="N", help="CPU threads to use.", rich_help_panel=_NETWORK)]
BatchSize = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="More is faster on a GPU and takes more memory.", rich_help_panel=_NETWORK),
]
Start = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Begin here: seconds, or h:mm:ss.", rich_help_panel=_INPUT),
]
End = Annotated[
    str | None, typer.Option(metavar="TIME", help="End before this: seconds, or h:mm:ss.", rich_help_panel=_INPUT)
]
Faces = Annotated[
    str,
    typer.Option(
        metavar="largest|all|RANK", help="Faces to follow; ranks count from 0, the largest.", rich_help_panel=_INPUT
    ),
]
Fps = Annotated[float | None, typer.Option(metavar="RATE", help=FPS, rich_help_panel=_INPUT)]
AllowUrl = Annotated[bool, typer.Option("--allow-url", help="Open http(s) addresses.", rich_help_panel=_INPUT)]
Sandbox = Annotated[
    bool,
    typer.Option(
        "--sandbox",
        help="Read each video in a process of its own, with limits: for files from strangers.",
        rich_help_panel=_INPUT,
    ),
]
Follow = Annotated[
    bool,
    typer.Option(
        "--follow",
        help="Print each expression as soon as nothing to come can change it: of long and of live videos.",
        rich_help_panel=_REPORT,
    ),
]
ScoreThreshold = Annotated[
    float | None,
    typer.Option(
        min=0, max=1, metavar="SCORE", help="Lowest score; else the checkpoint's own.", rich_help_panel=_REPORT
    ),
]
Types = Annotated[
    list[str] | None,
    typer.Option("--type", metavar="macro|micro", help="Only this type.", rich_help_panel=_REPORT),
]
Labels = Annotated[
    list[str] | None,
    typer.Option("--label", metavar="LABEL", help="Only this label; may be given again.", rich_help_panel=_REPORT),
]
MinDuration = Annotated[
    float | None,
    typer.Option(min=0, metavar="SECONDS", help="Shortest expression.", rich_help_panel=_REPORT),
]
MaxDuration = Annotated[
    float | None,
    typer.Option(min=0, metavar="SECONDS", help="Longest expression.", rich_help_panel=_REPORT),
]
Truth = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Compare with what was marked in the video: a file of any format that `fedn export` reads.",
        rich_help_panel=_REPORT,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option("-o", "--out", metavar="FOLDER", help="Write a file for each video.", rich_help_panel=_RESULTS),
]
Formats = Annotated[
    list[str] | None,
    typer.Option(
        "--format",
        metavar="json,csv,...",
        help="Kinds of files, as `fedn export --help` lists them; json and csv if not given.",
        rich_help_panel=_RESULTS,
    ),
]
SaveRaw = Annotated[
    bool,
    typer.Option("--save-raw", help="Also keep what `fedn postprocess` takes.", rich_help_panel=_RESULTS),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Replace files that are there, also such as a person made or changed; else only what fedn wrote is.",
        rich_help_panel=_RESULTS,
    ),
]
SkipExisting = Annotated[
    bool,
    typer.Option("--skip-existing", help="Leave out videos whose results are there.", rich_help_panel=_RESULTS),
]
Mapping = Annotated[
    Path | None,
    typer.Option(metavar="YAML", help="What the tiers and codes of coders mean; see `fedn export --help`."),
]
Protocol = Annotated[
    str,
    typer.Option(
        metavar="NAME", help="Rules to score by: strict, megc2020_mdmd, lgsnet, auwgcn, softnet, strs or activitynet."
    ),
]
Token = Annotated[
    str | None, typer.Option(metavar="TOKEN", help="Of your account on the Hub; else that of `hf auth login`.")
]


def reading_of(faces: str, start: str | None, end: str | None, fps: float | None) -> dict[str, Any]:
    """
    What is read of each video, as the pipeline takes it.

    Raises:
        UsageError: values that mean nothing, or contradict each other.
    """
    if faces not in ("largest", "all") and not faces.isdecimal():
        raise UsageError(f'--faces takes "largest", "all" or a rank from 0, not "{faces}"')
    check_fps(fps)
    start_s, end_s = _seconds("--start", start), _seconds("--end", end)
    if end_s is not None and end_s <= (start_s or 0.0):
        raise UsageError(f"--end must lie after --start, got --start {start or 0} and --end {end}")
    return {
        "faces": faces if faces in ("largest", "all") else int(faces),
        "start_s": start_s,
        "end_s": end_s,
        "fps": fps,
    }


def settings_of(
    score_threshold: float | None,
    types: list[str] | None,
    labels: list[str] | None,
    min_duration: float | None,
    max_duration: float | None,
) -> dict[str, Any]:
    """
    What is reported, as `FednDetections.describe` takes it: only what was given.

    Raises:
        UsageError: values that contradict each other.
    """
    if not (min_duration or 0.0) <= (math.inf if max_duration is None else max_duration):
        raise UsageError(
            f"--max-duration must not be below --min-duration, got --min-duration {min_duration} and "
            f"--max-duration {max_duration}"
        )
    if score_threshold is not None and math.isnan(score_threshold):
        raise UsageError("--score-threshold takes a number from 0 to 1, not nan")
    settings = {
        "score_threshold": score_threshold,
        "types": [TYPES.get(name, name) for name in types or []] or None,
        "labels": labels or None,
        "min_duration_s": min_duration,
        "max_duration_s": max_duration,
    }
    return {name: value for name, value in settings.items() if value is not None}


def check_fps(fps: float | None) -> None:
    """
    Raises:
        UsageError: no frame rate.
    """
    if fps is not None and not (math.isfinite(fps) and fps > 0):
        raise UsageError(f"--fps takes a positive number of frames per second, not {fps:g}")


def mapping_of(path: Path | None):
    """
    The `CodeMapping` in a file.

    Raises:
        UsageError: no such file, or none of this kind.
    """
    from ..exporters.mapping import CodeMapping
    from ..media_fedn import FednError

    try:
        return None if path is None else CodeMapping.read(path)
    except FednError as error:
        raise UsageError(str(error)) from None


def check_names(settings: dict[str, Any], types: list[str], labels: list[str]) -> None:
    """
    Make sure that the network knows the types and labels that are asked for.

    Raises:
        UsageError: it does not.
    """
    for option, name, known in (("--type", "types", types), ("--label", "labels", labels)):
        if unknown := [wish for wish in settings.get(name, []) if wish not in known]:
            there = ", ".join(known) or "none, for this network does not recognise"
            raise UsageError(f"{option} {unknown[0]}: not among what the network knows ({there})")


def _seconds(option: str, text: str | None) -> float | None:
    """Seconds, or m:ss, or h:mm:ss; all may have decimals."""
    if text is None:
        return None
    if not re.fullmatch(r"(\d+:)?(\d+:)?\d+(\.\d*)?", text, re.ASCII):
        raise UsageError(f'{option} takes seconds or h:mm:ss, such as 90.5 or 0:01:30.5, not "{text}"')
    seconds = 0.0
    for part in text.split(":"):
        seconds = 60 * seconds + float(part)
    return seconds


__all__ = [
    "FPS",
    "NEW_OR_STOPPED",
    "SEED",
    "AllowUrl",
    "BatchSize",
    "Device",
    "End",
    "Faces",
    "Follow",
    "Formats",
    "Fps",
    "Labels",
    "Mapping",
    "MaxDuration",
    "MinDuration",
    "Model",
    "Out",
    "Overwrite",
    "Protocol",
    "Revision",
    "Sandbox",
    "SaveRaw",
    "ScoreThreshold",
    "SkipExisting",
    "Start",
    "Threads",
    "Token",
    "Types",
    "check_fps",
    "check_names",
    "mapping_of",
    "reading_of",
    "settings_of",
]
