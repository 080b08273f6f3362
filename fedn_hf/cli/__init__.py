"""The command line, `fedn`. Everything that takes time to import is imported by the command that needs it."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ..version import __version__

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Find facial expressions in long videos.")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"fedn {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    pass


@app.command()
def detect(
    video: Annotated[Path, typer.Argument(help="A video file, or a folder of images.")],
    faces: Annotated[str, typer.Option(help='Which faces to follow: "largest", "all", or a rank from 0.')] = "largest",
    fps: Annotated[float, typer.Option(help="Frames per second of a folder of images.")] = 30.0,
) -> None:
    """Follow the faces in a video, and report when each can be seen and how well.

    Example: fedn detect interview.mp4
    """
    from ..video_io_fedn import MediaError, VideoReader

    errors = Console(stderr=True, soft_wrap=True)
    try:
        rank = faces if faces in ("largest", "all") else int(faces)
    except ValueError:
        errors.print(f'error: --faces takes "largest", "all" or a rank from 0, not "{faces}"', markup=False)
        raise typer.Exit(1) from None
    try:
        reader = VideoReader(video, native_fps=fps)
        _report(reader, rank)
    except (MediaError, ValueError) as error:
        errors.print(f"error: {error}", markup=False)
        raise typer.Exit(2 if isinstance(error, MediaError) else 1) from None


def _report(reader, faces: str | int) -> None:
    import numpy as np

    from ..face_fedn import FaceCropper

    info, console = reader.info, Console(soft_wrap=True)
    rate = f"{info.fps:.4g} fps" if info.fps else "unknown rate"
    console.print(f"{info.path}: {info.width} x {info.height}, {rate}, {info.codec or info.container}", markup=False)
    columns = TextColumn("following faces"), BarColumn(), TextColumn("{task.completed:.0f} s"), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=info.duration_s)
        rows, frames = {}, 0
        for batch in FaceCropper(faces=faces)(reader):
            for face_id in sorted(set(batch.face_id[batch.mask].tolist())):
                here = batch.face_id == face_id
                row = rows.setdefault(face_id, {"from": batch.time_s[here][0], "sums": 0.0})
                row["to"] = batch.time_s[here][-1]
                numbers = (here, batch.face_size_px, batch.confidence, batch.fit)
                row["sums"] += np.array([values[here].sum(dtype=float) for values in numbers])
            frames = max(frames, int(batch.frame[-1]) + 1)
            progress.update(task, completed=float(batch.time_s[-1]))
    table = Table("face", "from s", "to s", "frames", "height px", "confidence", "fit")
    for face_id, row in rows.items():
        count, size, confidence, fit = row["sums"] / [1, *[row["sums"][0]] * 3]
        cells = (
            f"{row['from']:.2f}",
            f"{row['to']:.2f}",
            f"{count:.0f}",
            f"{size:.0f}",
            f"{confidence:.2f}",
            f"{fit:.2f}",
        )
        table.add_row(str(face_id), *cells)
    seen = sum(int(row["sums"][0]) for row in rows.values())
    if rows:
        console.print(table)
    console.print(f"{seen} face crops from {frames} frames.")
    if reader.truncated_at_s is not None:
        console.print(f"The file is damaged: what comes after {reader.truncated_at_s:.2f} s could not be read.")
    console.print("No trained detector is part of this version yet, so no expressions are reported.")


def main() -> None:
    """Entry point of the `fedn` command."""
    app()


__all__ = ["app", "main"]
