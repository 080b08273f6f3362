"""`fedn render`: a copy of a video that shows what was found in it."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import RenderableType

from . import options
from .batch import go_through
from .inputs import Item, check_there
from .terminal import UsageError, describe_damage
from .written import check_file, remember

_SOUND = {
    "none": "The video has no sound.",
    "copied": "Sound is copied.",
    "encoded again": "Sound is encoded again: the new file could not hold it as it was.",
    "damaged": "The sound is damaged and ends early.",
}


def render(
    video: Annotated[Path, typer.Argument(metavar="VIDEO", help="The video file, or folder of images.")],
    annotation: Annotated[
        Path, typer.Argument(metavar="ANNOTATION", help="What was found or marked in it: .json, .eaf, .csv, ...")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="The video to write, .mp4 or .mkv.")],
    blur: Annotated[bool, typer.Option("--blur", help="Hide the faces. Voices stay.")] = False,
    overwrite: options.Overwrite = False,
) -> None:
    """Copy a video with faces, expressions and a running timeline drawn on it.

    With --blur every face that is found is hidden; one that is turned away, covered or very small may not be found, so
    look through the copy before you pass it on.

    \b
    Examples:
      fedn render interview.mp4 results/interview.json -o interview.found.mp4
      fedn render interview.mp4 results/interview.json -o to-share.mp4 --blur
    """
    from ..annotation import ExpressionAnnotation
    from ..overlay import CONTAINERS
    from ..overlay import render as render_video

    if out.suffix.lower() not in CONTAINERS:
        raise UsageError(f"{out}: videos are written as {' or '.join(CONTAINERS)}; name such a file with -o")
    check_file(out, overwrite)
    check_there(video, annotation)
    known = ExpressionAnnotation.read(annotation)

    def work(item: Item, hook) -> list[RenderableType]:
        done = render_video(known, video, out, blur=blur, hook=hook)
        remember([out])
        said = [f"{out}: {done.frames} frames. {_SOUND[done.sound]}"]
        if blur:
            said.append("Faces that were found are hidden, voices are not; look and listen before you pass it on.")
        if done.truncated_at_s is not None:
            said.append(describe_damage(done.truncated_at_s))
        return said

    go_through([Item(str(video), video.stem)], work)


__all__ = ["render"]
