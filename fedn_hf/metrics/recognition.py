"""Which emotion: recognition over the expressions that were found, and the score of spotting and recognising."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..media_fedn import FednError
from .expressions import Expressions, Videos
from .matching import keep, match, overlaps, prepare
from .protocol import PRESETS, STRICT, Protocol, get_protocol
from .spotting import OVERALL, SpottingResult, f1_score, spotting


@dataclass(frozen=True)
class RecognitionResult:
    """
    How well the emotions of the expressions that were found were recognised, and under which protocol.

    Means over classes are over all emotions of either table, also one of which no event was found (it counts as 0).

    protocol: the rules by which expressions were found.
    classes (C,): names of the emotions.
    confusion (C, C): rows are marked emotions, columns predicted ones.
    accuracy: share that is right.
    uf1: unweighted F1, mean of the classes' F1 = 2 TP / (2 TP + FP + FN).
    uar: unweighted average recall.
    macro_precision, macro_recall: means of the classes' precision and recall (so `macro_recall` is `uar`).
    f1_analysis: 2 P R / (P + R) of `macro_precision` and `macro_recall`: not `uf1`.
    without_emotion: how many found events have no emotion, and are not in the confusion matrix.
    """

    protocol: Protocol
    classes: tuple[str, ...]
    confusion: np.ndarray
    accuracy: float
    uf1: float
    uar: float
    macro_precision: float
    macro_recall: float
    f1_analysis: float
    without_emotion: int
    subjects: tuple[str, ...] = field(repr=False)
    _per_subject: np.ndarray = field(repr=False)  # (S, C, C)

    def resample(self, weights: np.ndarray) -> dict[str, float]:
        """Accuracy, UF1 and UAR if subject i had been there `weights[i]` times; see `bootstrap`."""
        scores = _scores(np.tensordot(weights, self._per_subject, 1))
        return {name: scores[name] for name in ("accuracy", "uf1", "uar")}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        names = ("accuracy", "uf1", "uar", "macro_precision", "macro_recall", "f1_analysis", "without_emotion")
        numbers = {name: getattr(self, name) for name in names}
        facts = {"classes": list(self.classes), "confusion": self.confusion.tolist()}
        return {"protocol": self.protocol.to_dict(), **numbers, **facts}

    def __str__(self) -> str:
        width = max([10, *map(len, self.classes)]) + 2
        lines = [
            f"protocol: {self.protocol.title}",
            f"accuracy {self.accuracy:.4f}, UF1 {self.uf1:.4f}, UAR {self.uar:.4f}, "
            f"macro precision {self.macro_precision:.4f}",
            f"{'marked':{width}}" + "".join(f"{name:>{width}}" for name in self.classes),
        ]
        rows = zip(self.classes, self.confusion, strict=True)
        return "\n".join([*lines, *(f"{c:{width}}" + "".join(f"{n:{width}}" for n in row) for c, row in rows)])


@dataclass(frozen=True)
class StrsResult:
    """
    Spot-then-recognize score and its parts.

    strs: `f1_spotting * f1_analysis`.
    spotting, recognition: the full results.
    """

    strs: float
    f1_spotting: float
    f1_analysis: float
    spotting: SpottingResult
    recognition: RecognitionResult

    @property
    def protocol(self) -> Protocol:
        """The rules by which events were spotted."""
        return self.spotting.protocol

    @property
    def subjects(self) -> tuple[str, ...]:
        """Subjects, in order."""
        return self.spotting.subjects

    def resample(self, weights: np.ndarray) -> dict[str, float]:
        """The score and its parts if subject i had been there `weights[i]` times; see `bootstrap`."""
        f1_spotting = self.spotting.resample(weights)[f"f1 {OVERALL}"]
        f1_analysis = _scores(np.tensordot(weights, self.recognition._per_subject, 1))["f1_analysis"]
        return {"strs": f1_spotting * f1_analysis, "f1 spotting": f1_spotting, "f1 analysis": f1_analysis}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        numbers = {name: getattr(self, name) for name in ("strs", "f1_spotting", "f1_analysis")}
        return {**numbers, "spotting": self.spotting.to_dict(), "recognition": self.recognition.to_dict()}

    def __str__(self) -> str:
        return (
            f"protocol: {self.protocol.title}\n"
            f"STRS {self.strs:.5f} = F1 spotting {self.f1_spotting:.4f} x F1 analysis {self.f1_analysis:.4f}"
        )


def recognition(
    predictions: Expressions,
    events: Expressions,
    protocol: Protocol | str = STRICT,
    videos: Videos | None = None,
) -> RecognitionResult:
    """
    Compare the emotions (column `label`) of predictions and of the events that they found.

    Args:
        predictions, events, protocol, videos: as in `spotting`. Without any true positive all scores are 0.

    Raises:
        `FednError`: a prediction that found an event with an emotion has none itself.

    Source:
        See et al., MEGC 2019 - the second facial micro-expressions grand challenge, FG 2019, for UF1 and UAR.

    Example:
        >>> rows = [("v1", 10, 29, "macro", 0.9, "joy"), ("v2", 5, 20, "macro", 0.4, "fear")]
        >>> events = Expressions.from_rows(rows)
        >>> found = Expressions.from_rows([rows[0], ("v2", 5, 20, "macro", 0.4, "joy")])
        >>> result = recognition(found, events)
        >>> result.accuracy, result.classes, result.confusion.tolist()
        (0.5, ('fear', 'joy'), [[0, 1], [0, 1]])
    """
    problem = prepare(predictions, events, get_protocol(protocol), videos)
    rows = keep(problem, problem.protocol.score_threshold, problem.protocol.top_k)
    chosen = match(problem, overlaps(problem, rows, problem.protocol.iou_threshold))
    predicted = problem.predictions.table.label[chosen.prediction]
    marked = problem.events.table.label[chosen.event]
    known = np.array([name is not None for name in marked], dtype=bool)
    for row in np.flatnonzero(known):
        if predicted[row] is None:
            given = problem.predictions.row[chosen.prediction[row]]
            raise FednError(f"prediction {given} has no emotion, and the event that it found has: {marked[row]!r}")
    # Every emotion of the tables is a class, also one that no found event has: it was there to be recognised.
    named = {name for side in (problem.events, problem.predictions.at(rows)) for name in side.table.label}
    classes = tuple(sorted(named - {None}))
    place = {name: number for number, name in enumerate(classes)}
    per_subject = np.zeros((len(problem.subjects), len(classes), len(classes)), dtype=int)
    for row in np.flatnonzero(known):
        subject = problem.subject_of_video[problem.events.video[chosen.event[row]]]
        per_subject[subject, place[marked[row]], place[predicted[row]]] += 1
    confusion = per_subject.sum(axis=0)
    unknown = int((~known).sum())
    return RecognitionResult(
        problem.protocol, classes, confusion, **_scores(confusion), without_emotion=unknown,
        subjects=problem.subjects, _per_subject=per_subject,
    )  # fmt: skip


def strs(
    predictions: Expressions,
    events: Expressions,
    protocol: Protocol | str = PRESETS["strs"],
    videos: Videos | None = None,
) -> StrsResult:
    """
    The spot-then-recognize score: F1 of spotting times F1 of analysis over what was found.

    Args:
        predictions, events, protocol, videos: as in `spotting`, with emotions. The default protocol is the metric's.

    Raises:
        `FednError`: as `spotting` and `recognition`.

    Source:
        Liong et al., Spot-then-recognize: A micro-expression analysis network for seamless evaluation of long videos,
        SPIC 2023, equations for STRS; F1 of analysis is that of the classes' mean precision and mean recall. (What
        the public STRS code calls UAR is the mean precision; here `uar` is the mean recall.)

    Example:
        >>> events = Expressions.from_rows([("v1", 10, 29, None, None, "joy"), ("v2", 5, 20, None, None, "joy")])
        >>> found = Expressions.from_rows([("v1", 12, 30, None, None, "joy")])
        >>> round(strs(found, events).strs, 4)
        0.6667
    """
    spotted = spotting(predictions, events, protocol, videos)
    recognised = recognition(predictions, events, protocol, videos)
    return StrsResult(spotted.f1 * recognised.f1_analysis, spotted.f1, recognised.f1_analysis, spotted, recognised)


def confusion_scores(
    marked: Sequence[str], predicted: Sequence[str], classes: Sequence[str] | None = None
) -> dict[str, float]:
    """
    Accuracy, UF1, UAR, macro precision and recall of plain lists of emotions.

    Args:
        marked, predicted: of the same N expressions.
        classes: over which the means go; those that occur by default.

    Raises:
        `FednError`: lists of different lengths, or an emotion that is not among the classes.

    Example:
        >>> confusion_scores(["joy", "joy", "fear"], ["joy", "fear", "fear"])["uar"]
        0.75
    """
    if len(marked) != len(predicted):
        raise FednError(f"{len(marked)} marked and {len(predicted)} predicted emotions; there must be as many")
    names = sorted({*marked, *predicted}) if classes is None else list(classes)
    if strange := {*marked, *predicted} - set(names):
        raise FednError(f"{', '.join(map(repr, sorted(strange)))} is not among the classes {', '.join(names)}")
    table = np.zeros((len(names), len(names)), dtype=int)
    for true, said in zip(marked, predicted, strict=True):
        table[names.index(true), names.index(said)] += 1
    return _scores(table)


def _scores(confusion: np.ndarray) -> dict[str, float]:
    """All numbers of a confusion matrix; a ratio without anything to divide by is 0."""
    right, marked, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    recall, precision = (np.divide(right, n, out=np.zeros(len(right)), where=n > 0) for n in (marked, predicted))
    f1 = np.divide(2 * right, marked + predicted, out=np.zeros(len(right)), where=marked + predicted > 0)
    means = [float(values.mean()) if len(right) else 0.0 for values in (f1, recall, precision)]
    return {
        "accuracy": float(right.sum() / confusion.sum()) if confusion.sum() else 0.0,
        "uf1": means[0],
        "uar": means[1],
        "macro_precision": means[2],
        "macro_recall": means[1],
        "f1_analysis": f1_score(means[2], means[1]),
    }


__all__ = ["RecognitionResult", "StrsResult", "confusion_scores", "recognition", "strs"]
