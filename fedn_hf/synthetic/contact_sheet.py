"""A picture of everything that one synthetic person does, to be looked at before a set is trusted."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import av
import numpy as np

from ..media_fedn import FednError, install

_TILE, _PAD, _TEXT, _BAR = 96, 6, 14, 30
_COLUMNS = 12  # pictures beside each other: four expressions
_MOST = 16  # expressions of one video that are shown
# Colour-blind safe (Okabe & Ito, 2008); micro-expressions are drawn lower as well, so colour is not needed.
_COLOURS = {"macro-expression": (0, 114, 178), "micro-expression": (213, 94, 0)}
_GREY = (150, 150, 150)


def draw_contact_sheet(videos: Mapping[str, Path], truths: Mapping[str, dict[str, Any]], path: Path) -> None:
    """
    Draw, for each video of a person, a bar with all events in time, and each expression's onset, apex and offset.

    Args:
        videos: name -> video file.
        truths: name -> what `render` writes into truth/NAME.json.
        path: of the PNG.

    Raises:
        `FednError`: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise FednError(f"contact sheets are drawn with Pillow: {install('synthetic')}") from error
    strips = [_video_strip(name, videos[name], truths[name]) for name in videos]
    sheet = Image.new("RGB", (_COLUMNS * _TILE + 2 * _PAD, sum(strip.height for strip in strips)), "white")
    top = 0
    for strip in strips:
        sheet.paste(strip, (0, top))
        top += strip.height
    sheet.save(path, format="png", optimize=True)


def _video_strip(name: str, video: Path, truth: dict[str, Any]):
    from PIL import Image, ImageDraw

    events = truth["expressions"]
    shown = events[:_MOST]
    frames = [event[f"{what}_frame"] for event in shown for what in ("onset", "apex", "offset")]
    pictures, count = _pictures(video, {0, *frames})
    rows = -(-max(len(shown), 1) * 3 // _COLUMNS)
    height = 2 * _PAD + _TEXT + _BAR + rows * (_TILE + _TEXT + _PAD)
    strip = Image.new("RGB", (_COLUMNS * _TILE + 2 * _PAD, height), "white")
    pen = ImageDraw.Draw(strip)
    person = ", ".join(f"{key} {value}" for key, value in truth["person"].items())
    fps = truth["camera"]["fps"]
    pen.text((_PAD, _PAD), f"{name}: {count / fps:.0f} s at {fps:g} fps; {person}", fill="black")
    _draw_bar(pen, truth, count)
    for place, event in enumerate(shown):
        left = _PAD + (3 * place % _COLUMNS) * _TILE
        top = _PAD + _TEXT + _BAR + (3 * place // _COLUMNS) * (_TILE + _TEXT + _PAD)
        for step, what in enumerate(("onset", "apex", "offset")):
            tile = Image.fromarray(pictures[event[f"{what}_frame"]]).resize((_TILE - 2, _TILE - 2))
            strip.paste(tile, (left + step * _TILE, top))
        units = "+".join(event["action_units"])
        words = f"{event['type'][:5]} {event['emotion']} {event['intensity']:.2f}  AU {units}  {event['onset_frame']}"
        pen.text((left, top + _TILE - 2), words[: 3 * _TILE // 6], fill=_COLOURS[event["type"]])
    if not shown:
        strip.paste(Image.fromarray(pictures[0]).resize((_TILE, _TILE)), (_PAD, _PAD + _TEXT + _BAR))
    if len(events) > _MOST:
        pen.text((_PAD + 900, _PAD), f"{len(events) - _MOST} more are not shown", fill="black")
    return strip


def _draw_bar(pen, truth: dict[str, Any], count: int) -> None:
    """Time from left to right: macro-expressions above, micro-expressions below, ticks for everything else."""
    top, scale = _PAD + _TEXT + 2, (_COLUMNS * _TILE - 1) / count
    pen.rectangle((_PAD, top, _PAD + scale * count, top + 22), outline=_GREY)
    for other in truth["distractors"]:
        if other["last_frame"] - other["first_frame"] < count / 2:
            pen.line(
                (_PAD + scale * other["first_frame"], top + 16, _PAD + scale * other["first_frame"], top + 22), _GREY
            )
    for event in truth["expressions"]:
        is_micro = event["type"].startswith("micro")
        box = (_PAD + scale * event["onset_frame"], top + 1 + 8 * is_micro)
        pen.rectangle((*box, _PAD + scale * (event["offset_frame"] + 1), box[1] + 6), fill=_COLOURS[event["type"]])


def _pictures(video: Path, wanted: set[int]) -> tuple[dict[int, np.ndarray], int]:
    """These frames of a video, and how many it has."""
    found, number = {}, -1
    with av.open(str(video)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number in wanted:
                found[number] = frame.to_ndarray(format="rgb24")
    return found, number + 1


__all__ = ["draw_contact_sheet"]
