"""`fedn benchmark`: how fast a detector is here, and where the time goes."""

import json
from pathlib import Path
from typing import Annotated

import typer

from . import options
from .detect import _load
from .inputs import check_there
from .terminal import UsageError, say, table
from .written import check_file, remember


def benchmark(
    video: Annotated[str, typer.Argument(metavar="VIDEO", help="A video file.", show_default=False)],
    model: options.Model = None,
    revision: options.Revision = None,
    device: options.Device = None,
    threads: options.Threads = None,
    batch_size: options.BatchSize = None,
    start: options.Start = None,
    end: options.End = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FILE", help="Also write the figures, as JSON.")
    ] = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Measure how fast a video is worked through on this machine: decoding alone, every stage alone, and the whole.

    \b
    Examples:
      fedn benchmark interview.mp4
      fedn benchmark interview.mp4 --end 60 --model my-checkpoint --device cuda:0 --batch-size 8 -o speed.json
    """
    reading = options.reading_of("largest", start, end, None)
    if out is not None:
        check_file(out, overwrite)
    check_there(Path(video))

    import torch

    from ..files_fedn import replacing
    from ..media_fedn import FednError
    from ..speed import measure

    if threads is not None:
        torch.set_num_threads(threads)
    try:
        found = measure(
            _load(model, revision, device),
            video,
            start_s=reading["start_s"],
            end_s=reading["end_s"],
            batch_size=batch_size or 1,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    rows = table("stage", ">frames/s", ">ms per frame")
    for stage, fps in found["fps"].items():
        rows.add_row(stage, f"{fps:,.0f}", f"{1000 / fps:.2f}")
    say(
        f"{video}: {found['width']} x {found['height']}, {found['duration_s']:.1f} s, a face in "
        f"{found['frames_with_face']} of {found['frames']} frames",
        f"{found['device']}, {found['dtype']}, {found['threads']} CPU threads",
        rows,
        "Stages alone run on one core, one after the other; end to end they run side by side.",
        f"{found['real_time_factor']:.1f} x real time, {found['ratio_to_plain_decode']:.1f} x as long as plain "
        f"decoding; peak memory {found['peak_memory_mb']:,.0f} MB"
        + (f", of the GPU {found['peak_gpu_memory_mb']:,.0f} MB" if "peak_gpu_memory_mb" in found else ""),
    )
    if out is not None:
        try:
            with replacing(out) as unfinished:
                unfinished.write_text(json.dumps({"video": video, **found}, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise FednError(f"{out}: cannot be written ({error.strerror})") from error
        remember([out])


__all__ = ["benchmark"]
