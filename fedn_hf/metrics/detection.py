"""What happened and when: average precision per emotion and per type, as action detection measures it."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..media_fedn import FednError
from .expressions import Expressions, Videos
from .matching import Pairs, Problem, keep, match, overlaps, passing, prepare
from .protocol import STRICT, Protocol, get_protocol

ACTIVITYNET_IOUS = (0.3, 0.4, 0.5, 0.6, 0.7)
COCO_IOUS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
_IOUS = tuple(sorted({*ACTIVITYNET_IOUS, *COCO_IOUS}))


@dataclass(frozen=True)
class AveragePrecisions:
    """
    Average precision of every class that has events, at every IoU threshold.

    per_class: class -> IoU threshold -> average precision.
    """

    per_class: dict[str, dict[float, float]]

    def mean(self, *ious: float) -> float:
        """Mean over the classes at some IoU thresholds, all by default; 0 without classes."""
        values = [[row[iou] for iou in ious or row] for row in self.per_class.values()]
        return float(np.mean(values)) if values else 0.0

    def summary(self) -> dict[str, float]:
        """mAP at 0.5, its mean over 0.3:0.1:0.7 (ActivityNet, THUMOS) and over 0.5:0.05:0.95 (COCO)."""
        return {
            "mAP@0.5": self.mean(0.5),
            "mAP@0.3:0.7": self.mean(*ACTIVITYNET_IOUS),
            "mAP@0.5:0.95": self.mean(*COCO_IOUS),
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        rows = {name: {str(iou): value for iou, value in row.items()} for name, row in self.per_class.items()}
        return {**self.summary(), "mAP": {str(iou): self.mean(iou) for iou in _IOUS}, "per_class": rows}


@dataclass(frozen=True)
class DetectionResult:
    """
    How well expressions were detected with their class, and under which protocol.

    protocol: the rules; `iou_threshold` and `class_rule` do not apply here.
    emotions: [`AveragePrecisions`] per emotion; no classes if no event has an emotion.
    types: per type, macro and micro; no classes if no event has a type.
    unknown_emotion: how many events have no emotion; `protocol.unknown_label` says what became of them.
    """

    protocol: Protocol
    emotions: AveragePrecisions
    types: AveragePrecisions
    unknown_emotion: int
    _curves: dict[str, list["_Curve"]] = field(repr=False)
    subjects: tuple[str, ...] = field(repr=False)

    def resample(self, weights: np.ndarray) -> dict[str, float]:
        """The mAPs if subject i had been there `weights[i]` times; see `bootstrap`."""
        values: dict[str, float] = {}
        for name, curves in self._curves.items():
            found = _average_precisions(curves, self.protocol.ap_interpolation, weights)
            values |= {f"{key} {name}": value for key, value in found.summary().items()}
        return values

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {
            "protocol": self.protocol.to_dict(),
            "emotions": self.emotions.to_dict(),
            "types": self.types.to_dict(),
            "unknown_emotion": self.unknown_emotion,
        }

    def __str__(self) -> str:
        lines = [f"protocol: {self.protocol.title}"]
        for name, found in (("emotions", self.emotions), ("types", self.types)):
            if found.per_class:
                lines.append(f"{name}: " + ", ".join(f"{key} {value:.4f}" for key, value in found.summary().items()))
                lines += [f"  {kind:12} AP@0.5 {row[0.5]:.4f}" for kind, row in found.per_class.items()]
        return "\n".join(lines)


@dataclass(frozen=True)
class _Curve:
    """
    What one class's predictions found at one IoU threshold, down to each of the R scores at which something was found.

    Between these scores recall stands still and precision falls, so nothing there is part of the area.
    """

    name: str
    iou: float
    right: np.ndarray  # (R, S) true positives of each subject
    found: np.ndarray  # (R, S) predictions of each subject
    events: np.ndarray  # (S,)


def _curve(
    name: str, iou: float, score: np.ndarray, right: np.ndarray, subject: np.ndarray, events: np.ndarray
) -> _Curve:
    """The curve of N predictions in any order; equal scores enter it together."""
    scores = np.unique(score[right])[::-1]
    place = np.searchsorted(-scores, -score)  # the first of these scores that lets a prediction in
    counts = np.zeros((2, len(scores), len(events)))
    for count, mine in zip(counts, (right, place < len(scores)), strict=True):
        np.add.at(count, (place[mine], subject[mine]), 1)
    so_far = np.cumsum(counts, axis=1)
    return _Curve(name, iou, so_far[0], so_far[1], events)


def average_precision(score: np.ndarray, right: np.ndarray, events: int, interpolation: str = "envelope") -> float:
    """
    Area under the curve of precision over recall.

    Args:
        score (N,): of the predictions, in any order. Equal scores enter the curve together, so that no result depends
            on the order of rows.
        right (N,): whether each is a true positive.
        events: how many there were to find.
        interpolation: as `ap_interpolation` of [`Protocol`].

    Source:
        Everingham et al., The Pascal visual object classes challenge: a retrospective, IJCV 2015, for "envelope";
        AP = Σ (R_n - R_(n-1)) P_n, as in scikit-learn, for "step".

    Example:
        >>> average_precision(np.array([0.9, 0.8, 0.7]), np.array([True, False, True]), events=2)
        0.8333333333333333
    """
    score, right = np.asarray(score, dtype=float), np.asarray(right, dtype=bool)
    curve = _curve("", 0.0, score, right, np.zeros(len(score), dtype=int), np.array([events]))
    return _area(curve, interpolation, np.ones(1))


def detection(
    predictions: Expressions,
    events: Expressions,
    protocol: Protocol | str = STRICT,
    videos: Videos | None = None,
) -> DetectionResult:
    """
    Average precision per emotion (column `label`) and per type.

    A prediction of a class is right where it takes an event of that class, by the protocol's `matching`. Matching per
    event ("event_order", "event_best", ...) makes no curve of scores, but is scored all the same: each prediction is
    right or not.

    Args:
        predictions: what a detector found, with scores and with labels, types or both.
        events: what coders marked. Events without an emotion are treated as `protocol.unknown_label` says.
        protocol: the rules, or a preset's name.
        videos: as in `spotting`.

    Raises:
        `FednError`: predictions without scores, or one without the label or type that the events have.

    Source:
        Heilbron et al., ActivityNet, CVPR 2015: one curve per class over all videos, then the mean over classes.

    Example:
        >>> rows = [("v1", 10, 29, "macro", 0.9, "joy"), ("v2", 5, 20, "macro", 0.4, "fear")]
        >>> events = Expressions.from_rows(rows)
        >>> found = Expressions.from_rows([rows[0], ("v2", 5, 20, "macro", 0.4, "joy")])
        >>> result = detection(found, events)
        >>> result.emotions.mean(0.5), result.types.mean(0.5)
        (0.5, 1.0)
    """
    protocol = get_protocol(protocol)
    if predictions.score is None and len(predictions):
        raise FednError("average precision needs scores, and these predictions have none; `spotting` does without")
    curves: dict[str, list[_Curve]] = {}
    subjects: tuple[str, ...] = ()
    for name, column in (("emotions", "label"), ("types", "type")):
        curves[name], subjects = _curves(predictions, events, protocol, videos, column)
    emotions, types = (_average_precisions(curves[name], protocol.ap_interpolation) for name in ("emotions", "types"))
    unknown = int(sum(name is None for name in events.label))
    return DetectionResult(protocol, emotions, types, unknown, curves, subjects)


def _curves(
    predictions: Expressions, events: Expressions, protocol: Protocol, videos: Videos | None, column: str
) -> tuple[list[_Curve], tuple[str, ...]]:
    whole = prepare(predictions, events, dataclasses.replace(protocol, class_rule="agnostic"), videos)
    rows = keep(whole, protocol.score_threshold, protocol.top_k)
    classes = sorted({name for name in getattr(whole.events.table, column) if name is not None})
    if not classes:
        return [], whole.subjects
    problem, ignored = _by_class(whole, column, classes)
    loose = overlaps(problem, rows, min(_IOUS))
    # Overlaps with events of unknown class, for predictions that took no event of their own.
    excuse = overlaps(ignored, rows, min(_IOUS)) if len(ignored.events) else None
    curves = []
    for iou in _IOUS:
        right = np.zeros(len(problem.predictions), dtype=bool)
        right[match(problem, passing(loose, iou, protocol.comparison)).prediction] = True
        counted = np.zeros(len(right), dtype=bool)
        counted[rows] = True
        if excuse is not None:
            counted &= right | ~_excused(ignored, excuse, right, iou)
        curves += _per_class(problem, classes, right, counted, iou)
    return curves, whole.subjects


def _by_class(whole: Problem, column: str, classes: list[str]) -> tuple[Problem, Problem]:
    """The problem with one kind per class, and the one of all predictions against events without a class."""
    place = {name: number for number, name in enumerate(classes)}
    labels = [getattr(side.table, column) for side in (whole.predictions, whole.events)]
    if any(name is None for name in labels[0]):
        row = whole.predictions.row[[name is None for name in labels[0]].index(True)]
        raise FednError(
            f"prediction {row} has no {column}, and events have; fill the column, or leave it out in events"
        )
    # Classes that no event has share one number behind all others: nothing to find, and no part of the mean.
    found, marked = (np.array([place.get(name, len(classes)) for name in names], dtype=int) for names in labels)
    known = np.array([name is not None for name in labels[1]], dtype=bool)
    events = dataclasses.replace(whole.events, kind=marked).at(np.flatnonzero(known))
    if whole.protocol.videos_scored == "with_events_of_type":
        rows = np.isin(
            found + whole.predictions.video * (len(classes) + 1), events.kind + events.video * (len(classes) + 1)
        )
        found = np.where(rows, found, len(classes))
    problem = dataclasses.replace(
        whole,
        predictions=dataclasses.replace(whole.predictions, kind=found),
        events=events,
        kinds=(*classes, "no event"),
    )
    unknown = np.flatnonzero(~known if whole.protocol.unknown_label == "ignore" else np.zeros(len(known), dtype=bool))
    return problem, dataclasses.replace(whole, events=whole.events.at(unknown))


def _excused(ignored: Problem, excuse: Pairs, right: np.ndarray, iou: float) -> np.ndarray:
    """Predictions that found nothing of their class, but an event of which nobody knows the class."""
    left = excuse.at(np.flatnonzero(~right[excuse.prediction]))
    excused = np.zeros(len(right), dtype=bool)
    excused[passing(left, iou, ignored.protocol.comparison).prediction] = True
    return excused


def _per_class(
    problem: Problem, classes: list[str], right: np.ndarray, counted: np.ndarray, iou: float
) -> list[_Curve]:
    found, marked, curves = problem.predictions, problem.events, []
    subject = problem.subject_of_video
    for number, name in enumerate(classes):
        mine = np.flatnonzero(counted & (found.kind == number))
        events = np.bincount(subject[marked.video[marked.kind == number]], minlength=len(problem.subjects))
        score = np.zeros(0) if found.table.score is None else found.table.score[mine]
        curves.append(_curve(name, iou, score, right[mine], subject[found.video[mine]], events))
    return curves


def _average_precisions(curves: list[_Curve], how: str, weights: np.ndarray | None = None) -> AveragePrecisions:
    per_class: dict[str, dict[float, float]] = {}
    for curve in curves:
        weight = np.ones(len(curve.events)) if weights is None else weights
        if weight @ curve.events > 0:
            per_class.setdefault(curve.name, {})[curve.iou] = _area(curve, how, weight)
    return AveragePrecisions(per_class)


def _area(curve: _Curve, how: str, weights: np.ndarray) -> float:
    total, right, found = float(weights @ curve.events), curve.right @ weights, curve.found @ weights
    precision = np.divide(right, found, out=np.zeros(len(found)), where=found > 0)
    recall = right / total if total else np.zeros(len(right))
    if how == "envelope":
        precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0.0) * precision).sum())


__all__ = ["ACTIVITYNET_IOUS", "COCO_IOUS", "AveragePrecisions", "DetectionResult", "average_precision", "detection"]
