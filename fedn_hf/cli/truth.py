"""`fedn detect --truth`: what was found beside what was marked, expression by expression."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import RenderableType

from ..media_fedn import FednError
from .inputs import Item, check_there
from .terminal import UsageError, clock, table


def read_truth(path: Path, items: list[Item]):
    """
    What was marked in the video that is asked for: an `ExpressionAnnotation`.

    Raises:
        UsageError: more than one video, or a file that does not say what was marked in it.
    """
    from ..exporters import read

    if len(items) > 1:
        raise UsageError(f"--truth goes with one video, and here are {len(items)}; `fedn evaluate` scores many")
    check_there(path)
    try:
        known = read(path)
    except FednError as error:
        # Options for what coders' names mean are not repeated here.
        raise FednError(str(error).replace("--mapping", "`fedn export --mapping` makes one for --truth")) from None
    video = Path(items[0].source).stem
    mine = known if len(known) == 1 else [one for one in known if Path(one.video["path"]).stem == video]
    if len(mine) != 1:
        raise UsageError(f"{path}: of the {len(known)} videos in it {len(mine)} are called {video}; one should be")
    return mine[0]


def beside(annotation, marked, path: Path) -> list[RenderableType]:
    """
    A line for each expression that was marked, and for each that was found and should not have been; then the count.

    Args:
        annotation, marked: `ExpressionAnnotation`s, of what was found and of what was marked.
        path: where the marks were read from.
    """
    from ..metrics import spotting

    found, truth, marked = _tables(annotation, marked)
    result = spotting(found, truth)
    hits = {event: (row, iou) for row, event, iou in result.pairs}
    near = _near_misses(found, truth, result)
    lines = []
    for place, event in enumerate(marked):
        said = "missed"
        if place in hits:
            row, iou = hits[place]
            said = f"found, tIoU {iou:.2f}{_other_label(annotation.intervals[row].label, event.label)}"
        elif place in near:
            row, iou = near[place]
            said = f"missed; tIoU {iou:.2f} with a {found.type[row]}"
        lines.append((event, truth.type[place], said))
    taken = {row for row, _ in hits.values()}
    alarms = [row for row in range(len(found)) if row not in taken]
    lines += [
        (annotation.intervals[row], found.type[row], f"false alarm, score {found.score[row]:.3f}") for row in alarms
    ]
    shown = table("type", "label", ">onset", ">offset", "outcome")
    for event, kind, said in sorted(lines, key=lambda line: line[0].onset_s):
        shown.add_row(kind, event.label or "-", clock(event.onset_s), clock(event.offset_s), said)
    count = result.overall
    return [
        "",
        f"{path}: {count.events} marked",
        *([shown] if lines else []),
        f"{count.true_positives} of {count.events} found, {len(alarms)} false alarm{'s' * (len(alarms) != 1)}, "
        f"F1 {result.f1:.2f} (found: the type is right, and the overlap, tIoU, at least "
        f"{result.protocol.iou_threshold:g}).",
    ]


def _tables(annotation, marked) -> tuple:
    """Both as tables of frames, and of the marks those that lie in what was read and are of a kind asked for."""
    from ..metrics import Expressions

    start_s, end_s = (annotation.provenance.get(name) for name in ("start_s", "end_s"))
    if start_s is not None or end_s is not None:
        marked = marked.crop(start_s or 0.0, math.inf if end_s is None else end_s)
    asked = annotation.provenance["settings"]
    for name, known in (("type", asked.get("types")), ("label", asked.get("labels"))):
        if known is not None:
            marked = replace(marked, intervals=[event for event in marked if getattr(event, name) in known])
    marked = replace(marked, video=annotation.video).with_frames()
    found, truth = (Expressions.from_annotations([one]) for one in (annotation, marked))
    if any(name is None for name in truth.type):
        truth = truth.with_types_by_duration()
    return found, truth, marked


def _near_misses(found, truth, result) -> dict[int, tuple[int, float]]:
    """Marked row -> found row and overlap, where both are left over and overlap in some way."""
    from ..metrics import spotting

    left = [
        np.setdiff1d(np.arange(len(side)), [pair[place] for pair in result.pairs]).astype(int)
        for place, side in enumerate((found, truth))
    ]
    # In the order of events, each takes what overlaps it most.
    any_overlap = replace(result.protocol, iou_threshold=0.0, class_rule="agnostic", matching="event_order")
    pairs = spotting(found[left[0]], truth[left[1]], any_overlap).pairs
    return {int(left[1][event]): (int(left[0][row]), iou) for row, event, iou in pairs}


def _other_label(found: str | None, marked: str | None) -> str:
    return "" if None in (found, marked) or found == marked else f", as {found}"


__all__ = ["beside", "read_truth"]
