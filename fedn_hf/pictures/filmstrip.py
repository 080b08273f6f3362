"""The face at onset, apex and offset of each event: what a trained coder looks at before believing a detector."""

from collections.abc import Sequence
from pathlib import Path, PurePath

from ..annotation import ExpressionAnnotation, ExpressionInterval
from ..media_fedn import FednError
from ..tracks import PARTS, event_crops, video_of
from .style import FAINT, GAP, INK, clock, new_figure, plain, rules, shortened, type_of

MOST = 12  # events in a picture
_TILE_IN, _COLUMNS = 1.2, 3


def draw_filmstrip(annotation: ExpressionAnnotation, video: str | Path | None = None):
    """
    Draw the face at onset, apex and offset of every event; of many events the twelve with the highest scores.

    Args:
        annotation: of one video.
        video: file or folder of images; by default where the annotation says that it lies.

    Returns:
        A matplotlib `Figure`. It shows people: share it only as you may share the video.

    Raises:
        `FednError`: no events, another video, or matplotlib is not installed.
        `MediaError`: the video cannot be read.
    """
    if not len(annotation):
        raise FednError("a filmstrip shows events, and this annotation has none")
    events = strongest(annotation, MOST)
    with rules():
        crops = event_crops(annotation, video_of(annotation) if video is None else video, events)
        columns = min(_COLUMNS, len(events))
        rows = -(-len(events) // columns)
        step_x, step_y = 3.2, 1.45  # of an event, in tiles
        width, height = columns * step_x, rows * step_y
        figure = new_figure(width * _TILE_IN, height * _TILE_IN + 0.3)
        axes = figure.subplots()
        axes.set_axis_off()
        axes.set(xlim=(0, width), ylim=(height, 0))
        for number, (event, tiles) in enumerate(zip(events, crops, strict=True)):
            left, top = number % columns * step_x, number // columns * step_y + 0.22
            axes.text(left, top - 0.06, describe(event), va="bottom", color=INK, fontsize=8.5)
            for place, part in enumerate(PARTS):
                _draw_tile(axes, tiles[part], left + place * 1.02, top)
                time_s = getattr(event, f"{part}_s")
                words = f"no {part}" if time_s is None else f"{part} {clock(time_s, 2)}"
                axes.text(left + place * 1.02, top + 1.03, words, va="top", color=INK, fontsize=7)
        axes.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
        name = shortened(PurePath(str(annotation.video.get("path", "video"))).name, 60)
        few = "" if len(events) == len(annotation) else f", {len(events)} of {len(annotation)} events: {which(events)}"
        axes.set_title(f"{name}{few}", pad=6)
        return figure


def strongest(annotation: ExpressionAnnotation, most: int) -> list[ExpressionInterval]:
    """The events with the highest scores, in order of time."""
    best = sorted(annotation, key=lambda event: -(event.score or 0.0))[:most]
    return sorted(best, key=lambda event: event.onset_s)


def which(events: Sequence[ExpressionInterval]) -> str:
    """Which of many `strongest` has chosen."""
    return "the first" if all(event.score is None for event in events) else "the highest scores"


def describe(event: ExpressionInterval) -> str:
    """One line on an event."""
    words = [type_of(event).removesuffix("-expression"), event.label or "no label"]
    words += [] if event.score is None else [f"score {event.score:.2f}"]
    return plain(", ".join([*words, f"{event.duration_s:.2f} s"]))


def _draw_tile(axes, picture, left: float, top: float) -> None:
    if picture is not None:
        axes.imshow(picture, extent=(left, left + 1, top + 1, top), interpolation="lanczos")
        return
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((left, top), 1, 1, facecolor=GAP, edgecolor="#c4c4c4", hatch="\\\\", lw=0))
    axes.text(left + 0.5, top + 0.5, "face\nnot seen", ha="center", va="center", color=FAINT, fontsize=8)


__all__ = ["MOST", "describe", "draw_filmstrip", "strongest", "which"]
