"""When something happened: true positives, precision, recall, F1, and how well the boundaries were hit."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .expressions import Expressions, Videos
from .matching import Pairs, Problem, keep, match, overlaps, passing, prepare
from .protocol import STRICT, Protocol, get_protocol

IOU_SWEEP = tuple(round(0.1 * step, 1) for step in range(1, 10))
OVERALL = "overall"


@dataclass(frozen=True)
class Counts:
    """
    What was found. Where there is nothing to divide by, a ratio is 0, as in the field's papers.

    Example:
        >>> counts = Counts(true_positives=131, predictions=208, events=357)
        >>> counts.f1
        0.463716814159292
    """

    true_positives: int
    predictions: int
    events: int

    @property
    def precision(self) -> float:
        """Part of the predictions that found an event; 0 without any."""
        return self.true_positives / self.predictions if self.predictions else 0.0

    @property
    def recall(self) -> float:
        """Part of the events that were found; 0 without any."""
        return self.true_positives / self.events if self.events else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return f1_score(self.precision, self.recall)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        names = ("true_positives", "predictions", "events", "precision", "recall", "f1")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class BoundaryError:
    """
    How far off onset, apex or offset of the found events are, over `count` of them (those where both are known).

    mean_abs_frames, mean_abs_ms: size of the error; milliseconds are `None` where the frame rate is not known.
    bias_frames: mean of predicted minus marked; positive is too late.
    """

    count: int
    mean_abs_frames: float | None
    mean_abs_ms: float | None
    bias_frames: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return dict(vars(self))


@dataclass(frozen=True)
class SpottingResult:
    """
    How well expressions were spotted, and under which protocol.

    protocol: the rules; `print(result.protocol)` shows all of them.
    overall, per_type: [`Counts`], summed over the corpus whatever `protocol.pooling` is.
    per_subject: subject -> type or "overall" -> [`Counts`].
    pooled: type or "overall" -> precision, recall and f1, pooled as the protocol says.
    iou_sweep: IoU threshold -> [`Counts`] of all types together.
    boundaries: "onset", "apex", "offset" -> [`BoundaryError`].
    false_alarms_per_minute: `None` where the videos' lengths are not known.
    pairs: (row of the prediction, row of the event, IoU) of every true positive; rows of the tables that were given.
    """

    protocol: Protocol
    overall: Counts
    per_type: dict[str, Counts]
    per_subject: dict[str, dict[str, Counts]]
    pooled: dict[str, dict[str, float]]
    iou_sweep: dict[float, Counts]
    boundaries: dict[str, BoundaryError]
    false_alarms_per_minute: float | None
    pairs: list[tuple[int, int, float]] = field(repr=False)
    _counts: np.ndarray = field(repr=False)  # (V, K, 3) true positives, predictions, events
    _subject_of_video: np.ndarray = field(repr=False)

    @property
    def f1(self) -> float:
        """F1 of all types together, pooled as the protocol says."""
        return self.pooled[OVERALL]["f1"]

    @property
    def precision(self) -> float:
        """Precision of all types together, pooled as the protocol says."""
        return self.pooled[OVERALL]["precision"]

    @property
    def recall(self) -> float:
        """Recall of all types together, pooled as the protocol says."""
        return self.pooled[OVERALL]["recall"]

    @property
    def subjects(self) -> tuple[str, ...]:
        """Subjects, in order."""
        return tuple(self.per_subject)

    def resample(self, weights: np.ndarray) -> dict[str, float]:
        """F1 of each type and overall if subject i had been there `weights[i]` times; see `bootstrap`."""
        values = pool(self._counts, self._subject_of_video, self.protocol.pooling, weights)
        return {f"f1 {name}": float(f1) for name, f1 in zip([*self.per_type, OVERALL], values[:, 2], strict=True)}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        alarms = self.false_alarms_per_minute
        return {
            "protocol": self.protocol.to_dict(),
            "overall": {**self.overall.to_dict(), **self.pooled[OVERALL]},
            "per_type": {name: {**c.to_dict(), **self.pooled[name]} for name, c in self.per_type.items()},
            "per_subject": {s: {k: c.to_dict() for k, c in row.items()} for s, row in self.per_subject.items()},
            "iou_sweep": {str(threshold): counts.to_dict() for threshold, counts in self.iou_sweep.items()},
            "boundaries": {name: error.to_dict() for name, error in self.boundaries.items()},
            "false_alarms_per_minute": alarms,
        }

    def __str__(self) -> str:
        lines = [f"{'':12}{'TP':>6}{'found':>8}{'events':>8}{'precision':>11}{'recall':>9}{'F1':>9}"]
        for name, counts in {**self.per_type, OVERALL: self.overall}.items():
            row = self.pooled[name]
            lines.append(
                f"{name:12}{counts.true_positives:6}{counts.predictions:8}{counts.events:8}"
                f"{row['precision']:11.4f}{row['recall']:9.4f}{row['f1']:9.4f}"
            )
        return "\n".join([f"protocol: {self.protocol.title}", *lines])


def f1_score(precision: float, recall: float) -> float:
    """Harmonic mean of the two; 0 where both are."""
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def spotting(
    predictions: Expressions,
    events: Expressions,
    protocol: Protocol | str = STRICT,
    videos: Videos | None = None,
) -> SpottingResult:
    """
    Score when expressions happened.

    Args:
        predictions: what a detector found. Both tables may be empty: then the counts are 0, and so are the ratios.
        events: what coders marked.
        protocol: the rules, or a preset's name.
        videos: all videos of the corpus, with lengths, for false alarms per minute; without it those that occur.

    Raises:
        `FednError`: see `prepare`.

    Source:
        Li et al., MEGC2020 - the third facial micro-expression grand challenge, FG 2020: an event is found by an
        interval with an IoU of at least 0.5; TP, FP and FN are summed over all videos and both types.

    Example:
        >>> events = Expressions.from_rows([("v1", 10, 29, "macro"), ("v1", 50, 58, "micro")])
        >>> found = Expressions.from_rows([("v1", 12, 30, "macro", 0.9), ("v1", 80, 99, "macro", 0.2)])
        >>> result = spotting(found, events)
        >>> result.overall, result.f1
        (Counts(true_positives=1, predictions=2, events=2), 0.5)
    """
    problem = prepare(predictions, events, get_protocol(protocol), videos)
    rows = keep(problem, problem.protocol.score_threshold, problem.protocol.top_k)
    loose = overlaps(problem, rows, min(*IOU_SWEEP, problem.protocol.iou_threshold))
    chosen = match(problem, passing(loose, problem.protocol.iou_threshold, problem.protocol.comparison))
    counts = count(problem, rows, chosen)
    sweep = {}
    for threshold in IOU_SWEEP:
        hits = match(problem, passing(loose, threshold, problem.protocol.comparison))
        sweep[threshold] = _as_counts(count(problem, rows, hits).sum(axis=(0, 1)))
    return _result(problem, rows, chosen, counts, sweep)


def count(problem: Problem, rows: np.ndarray, chosen: Pairs) -> np.ndarray:
    """(V, K, 3) true positives, predictions, events of each video and class."""
    shape = (len(problem.videos), len(problem.kinds))
    counts = np.zeros((*shape, 3), dtype=int)
    found, marked = problem.predictions, problem.events
    np.add.at(counts[..., 0], (marked.video[chosen.event], marked.kind[chosen.event]), 1)
    np.add.at(counts[..., 1], (found.video[rows], found.kind[rows]), 1)
    np.add.at(counts[..., 2], (marked.video, marked.kind), 1)
    return counts


def pool(
    counts: np.ndarray, subject_of_video: np.ndarray, pooling: str, weights: np.ndarray | None = None
) -> np.ndarray:
    """
    Precision, recall and F1 (K + 1, 3) of each class and of all together, pooled over videos.

    Args:
        counts (V, K, 3): true positives, predictions, events.
        subject_of_video (V,): number of each video's subject, below S.
        pooling: as in [`Protocol`].
        weights (S,): how often each subject counts; once by default.
    """
    full = np.concatenate([counts, counts.sum(axis=1, keepdims=True)], axis=1).astype(float)
    subjects = int(subject_of_video.max(initial=-1)) + 1
    weights = np.ones(subjects) if weights is None else np.asarray(weights, dtype=float)
    if pooling == "video":
        groups, weight = full, weights[subject_of_video]
    else:
        groups = np.zeros((subjects, *full.shape[1:]))
        np.add.at(groups, subject_of_video, full)
        weight = weights[:subjects]
    if pooling == "corpus":
        groups, weight = np.tensordot(weight, groups, 1)[None], np.ones(1)
    tp, found, marked = np.moveaxis(groups, -1, 0)
    precision, recall = _ratio(tp, found), _ratio(tp, marked)
    values = np.stack([precision, recall, _ratio(2 * precision * recall, precision + recall)], axis=-1)
    weight = weight[:, None] * (found + marked > 0)
    total = weight.sum(axis=0)[:, None]
    # Added up by size: the same to the last bit whatever videos and subjects are called.
    summed = np.sort(weight[..., None] * values, axis=0).sum(axis=0)
    return _ratio(summed, np.broadcast_to(total, values.shape[1:]))


def _ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    return np.divide(top, bottom, out=np.zeros(np.broadcast(top, bottom).shape), where=bottom > 0)


def _as_counts(row: Sequence[int]) -> Counts:
    return Counts(*(int(number) for number in row))


def _result(problem: Problem, rows: np.ndarray, chosen: Pairs, counts: np.ndarray, sweep: dict) -> SpottingResult:
    by_subject = np.zeros((len(problem.subjects), *counts.shape[1:]), dtype=int)
    np.add.at(by_subject, problem.subject_of_video, counts)
    names = [*problem.kinds, OVERALL]
    totals = counts.sum(axis=0)
    pooled = pool(counts, problem.subject_of_video, problem.protocol.pooling)
    alarms = len(rows) - len(np.unique(chosen.prediction))
    # Predictions in videos that are not scored were left out, so their time does not count either.
    minutes = problem.minutes[_looked_at(problem)].sum()
    return SpottingResult(
        problem.protocol,
        _as_counts(totals.sum(axis=0)),
        {kind: _as_counts(row) for kind, row in zip(problem.kinds, totals, strict=True)},
        {
            subject: {n: _as_counts(r) for n, r in zip(names, [*table, table.sum(axis=0)], strict=True)}
            for subject, table in zip(problem.subjects, by_subject, strict=True)
        },
        {
            name: dict(zip(("precision", "recall", "f1"), row.tolist(), strict=True))
            for name, row in zip(names, pooled, strict=True)
        },
        sweep,
        {name: _boundary_error(problem, chosen, name) for name in ("onset", "apex", "offset")},
        float(alarms / minutes) if minutes > 0 else None,
        _given_rows(problem, chosen),
        counts,
        problem.subject_of_video,
    )


def _looked_at(problem: Problem) -> np.ndarray:
    if problem.protocol.videos_scored == "all":
        return np.ones(len(problem.videos), dtype=bool)
    return np.isin(np.arange(len(problem.videos)), problem.events.video)


def _given_rows(problem: Problem, chosen: Pairs) -> list[tuple[int, int, float]]:
    prediction, event = problem.predictions.row[chosen.prediction], problem.events.row[chosen.event]
    return sorted(zip(prediction.tolist(), event.tolist(), chosen.iou.tolist(), strict=True))


def _boundary_error(problem: Problem, chosen: Pairs, name: str) -> BoundaryError:
    found, marked = problem.predictions, problem.events
    if name == "apex":
        predicted, true = found.table.apex[chosen.prediction], marked.table.apex[chosen.event]
    else:
        predicted, true = getattr(found, name)[chosen.prediction], getattr(marked, name)[chosen.event]
    fps = marked.table.fps[chosen.event]
    fps = np.where(np.isnan(fps), found.table.fps[chosen.prediction], fps)
    error, known = predicted - true, ~np.isnan(predicted - true)
    if not known.any():
        return BoundaryError(0, None, None, None)
    ms = (np.abs(error) / fps * 1000)[known]
    return BoundaryError(
        int(known.sum()),
        _mean(np.abs(error[known])),
        None if np.isnan(ms).any() else _mean(ms),
        _mean(error[known]),
    )


def _mean(values: np.ndarray) -> float:
    """The same to the last bit in whatever order the videos come."""
    return math.fsum(values) / len(values)


__all__ = ["IOU_SWEEP", "OVERALL", "BoundaryError", "Counts", "SpottingResult", "f1_score", "spotting"]
