"""Parts of a recording: cut out of it, and put together again."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .time_budget import AnnotationError

if TYPE_CHECKING:
    from .annotation import ExpressionAnnotation, ExpressionInterval


def crop(annotation: "ExpressionAnnotation", start_s: float, end_s: float) -> "ExpressionAnnotation":
    """See [`ExpressionAnnotation.crop`]."""
    if not -math.inf < start_s < end_s:
        raise AnnotationError(f"crop needs start_s < end_s, got {start_s!r} and {end_s!r}")
    inside = [
        event.cut(start_s, end_s)
        for event in annotation
        if event.onset_s < end_s and (event.offset_s > start_s or event.onset_s >= start_s)
    ]
    before, after = annotation.provenance.get("start_s") or 0.0, annotation.provenance.get("end_s")
    limits = [end_s, *(limit for limit in (after, annotation.video.get("duration_s")) if limit is not None)]
    read = {"start_s": max(start_s, before), "end_s": min(limits) if math.isfinite(min(limits)) else None}
    return replace(
        annotation,
        intervals=inside,
        coverage=[cut for row in annotation.coverage for cut in _cut_coverage(row, start_s, end_s)],
        curves=[_cut_curve(row, start_s, end_s) for row in annotation.curves],
        provenance={**annotation.provenance, **read},
    )


def concatenate(parts: Sequence["ExpressionAnnotation"]) -> "ExpressionAnnotation":
    """See [`ExpressionAnnotation.concatenate`]."""
    if not parts:
        raise AnnotationError("concatenate needs at least one part")
    is_one_file = len({part.video["path"] for part in parts}) == 1
    moved = list(parts) if is_one_file else list(_end_to_end(parts))
    provenances = [part.provenance for part in parts]
    read = [{"start_s": None, "end_s": None} for _ in parts]
    if is_one_file:
        read = [{name: part.provenance.get(name) for name in ("start_s", "end_s")} for part in parts]
    rest = [{name: value for name, value in p.items() if name not in ("start_s", "end_s")} for p in provenances]
    provenance = dict(rest[0]) if all(other == rest[0] for other in rest) else {"parts": provenances}
    starts, ends = ([row[name] for row in read] for name in ("start_s", "end_s"))
    provenance |= {
        "start_s": None if None in starts else min(starts),
        "end_s": None if None in ends else max(ends),
    }
    return replace(
        parts[0],
        video=parts[0].video if is_one_file else _whole_video(parts),
        # Parts that overlap may have found the same things.
        intervals=list(dict.fromkeys(event for part in moved for event in part)),
        coverage=[row for part in moved for row in part.coverage],
        curves=[row for part in moved for row in part.curves],
        labels=list(dict.fromkeys(name for part in parts for name in part.labels)),
        types=list(dict.fromkeys(name for part in parts for name in part.types)),
        provenance=provenance,
    )


def _cut_coverage(row: dict[str, Any], start_s: float, end_s: float) -> list[dict[str, Any]]:
    if row["end_s"] <= start_s or row["start_s"] >= end_s:
        return []
    times = {"start_s": max(start_s, row["start_s"]), "end_s": min(end_s, row["end_s"])}
    if "frames" in row and row["end_s"] > row["start_s"]:
        share = (times["end_s"] - times["start_s"]) / (row["end_s"] - row["start_s"])
        times["frames"] = round(row["frames"] * share)
    return [{**row, **times}]


def _cut_curve(curve: dict[str, Any], start_s: float, end_s: float) -> dict[str, Any]:
    keep = [start_s <= time < end_s for time in curve["time_s"]]
    return {
        name: list(itertools.compress(values, keep)) if isinstance(values, Sequence) else values
        for name, values in curve.items()
    }


def _end_to_end(parts: Sequence["ExpressionAnnotation"]) -> Iterator["ExpressionAnnotation"]:
    """The parts, each moved behind the one before."""
    later_s, later_frames = 0.0, 0
    for place, part in enumerate(parts):
        yield replace(
            part,
            intervals=[_moved(event, later_s, later_frames) for event in part],
            coverage=[{**row, **{k: row[k] + later_s for k in ("start_s", "end_s")}} for row in part.coverage],
            curves=[{**row, "time_s": [time + later_s for time in row["time_s"]]} for row in part.curves],
        )
        duration_s, frames = part.video.get("duration_s"), part.video.get("num_frames")
        if place == len(parts) - 1:
            return
        if not duration_s:
            raise AnnotationError(f"{part.video['path']}: its duration_s is not known, so nothing can follow it")
        later_s += duration_s
        later_frames = None if frames is None or later_frames is None else later_frames + frames


def _moved(event: "ExpressionInterval", by_s: float, by_frames: int | None) -> "ExpressionInterval":
    moved = {}
    for name in ("onset", "apex", "offset"):
        time, frame = getattr(event, f"{name}_s"), getattr(event, f"{name}_frame")
        moved[f"{name}_s"] = None if time is None else time + by_s
        moved[f"{name}_frame"] = None if frame is None or by_frames is None else frame + by_frames
    return replace(event, **moved)


def _whole_video(parts: Sequence["ExpressionAnnotation"]) -> dict[str, Any]:
    """What is known of a recording that lies in several files."""
    videos = [part.video for part in parts]
    same = {name: value for name, value in videos[0].items() if all(v.get(name) == value for v in videos)}
    sums = {}
    for name in ("duration_s", "num_frames"):
        values = [video.get(name) for video in videos]
        sums[name] = None if None in values else sum(values)
    return {**same, "path": videos[0]["path"], **sums, "parts": [video["path"] for video in videos]}


__all__ = ["concatenate", "crop"]
