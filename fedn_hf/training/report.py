"""From the raw detections of all folds to numbers, strict and nested first.

What is reported for a subject is chosen by the others: the epoch and a threshold for each type are those with which
the networks that left *them* out find most on them. `metrics.select` does the same for one threshold, and shows beside
it what oracles would get.
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..files_fedn import replacing
from ..metrics import (
    STRICT,
    DetectionResult,
    Expressions,
    Interval,
    Protocol,
    SelectionReport,
    SpottingResult,
    Videos,
    bootstrap,
    concatenate,
    detection,
    select,
    spotting,
)
from ..metrics.matching import match, overlaps, prepare
from ..metrics.spotting import count
from .inputs import Row
from .loso import DETECTIONS, RECIPE, read_detections
from .settings import TrainingError

# Fixed beforehand, so that nothing about a test subject can be in it.
THRESHOLDS = tuple(round(0.02 * step, 2) for step in range(1, 50))
REPORT = "report.json"


@dataclass(frozen=True)
class FoldsReport:
    """
    The numbers of a leave-one-subject-out run.

    Args:
        by_type: Nested: for every subject the epoch and a threshold per type that are best on all others.
        choices: Subject -> type -> threshold, and "epoch".
        intervals: 95 % intervals of `by_type` over subjects.
        detection: Average precision of everything found in the epochs that `by_type` chose, without thresholds.
        selection: The same raw detections with one threshold for both types, under every way of choosing.
        predictions: What `by_type` scores.
    """

    by_type: SpottingResult
    choices: dict[str, dict[str, Any]]
    intervals: dict[str, Interval]
    detection: DetectionResult | None
    selection: SelectionReport
    predictions: Expressions = dataclasses.field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {
            "nested_by_type": {**self.by_type.to_dict(), "choices": self.choices},
            "intervals": {name: interval._asdict() for name, interval in self.intervals.items()},
            "detection": None if self.detection is None else self.detection.to_dict(),
            "selection": self.selection.to_dict(),
        }

    def __str__(self) -> str:
        lines = ["nested, a threshold per type: epoch and thresholds chosen on the other subjects", str(self.by_type)]
        lines += [f"{name}: {interval} (95 % over subjects)" for name, interval in self.intervals.items()]
        if self.detection is not None:
            lines += ["", "detection, all thresholds", str(self.detection)]
        return "\n".join([*lines, "", "one threshold for both types", str(self.selection)])


def score_folds(folder: str | Path, rows: Sequence[Row], protocol: Protocol | str = STRICT) -> FoldsReport:
    """
    Score all folds of a run, and write `report.json`.

    Args:
        folder: Of `run_folds`.
        rows: The same as there.
        protocol: Rules that `selection` is made by beside the strict ones; `by_type` is strict always.

    Raises:
        TrainingError: folds that are not done, by name.

    Example:

    ```python
    >>> from fedn_hf.training.report import score_folds

    >>> print(score_folds("run", rows))  # doctest: +SKIP
    ```
    """
    folder = Path(folder)
    subjects = sorted({row["subject_id"] for row in rows})
    if missing := missing_folds(folder, rows):
        raise TrainingError(f"{folder}: {len(missing)} of {len(subjects)} folds are not done: {', '.join(missing)}")
    report = report_on(*tables_of(folder, rows), protocol)
    with replacing(folder / REPORT) as unfinished:
        unfinished.write_text(json.dumps(report.to_dict(), indent=1), encoding="utf-8")
    return report


def tables_of(folder: str | Path, rows: Sequence[Row]) -> tuple[Expressions, Expressions, Videos]:
    """The raw detections of all folds that are done, what coders marked, and all videos."""
    files = [Path(folder) / "folds" / name / DETECTIONS for name in sorted({row["subject_id"] for row in rows})]
    raw = _expressions([row for file in files if file.exists() for row in read_detections(file)])
    if json.loads((Path(folder) / RECIPE).read_text("utf-8"))["num_validation"]:
        raw = dataclasses.replace(raw, epoch=None)  # every fold's own best, chosen by its validation subjects
    events = _expressions(
        [
            {**{n: event.get(n) for n in ("onset", "apex", "offset", "type", "emotion")}, **_names(row)}
            for row in rows
            for event in row["events"]
        ]
    )
    names = [_names(row) for row in rows]
    videos = Videos(
        [name["video"] for name in names],
        [name["subject"] for name in names],
        [row["num_frames"] for row in rows],
        [name["fps"] for name in names],
    )
    return raw, events, videos


def missing_folds(folder: str | Path, rows: Sequence[Row]) -> list[str]:
    """Names of the folds that are not done."""
    subjects = sorted({row["subject_id"] for row in rows})
    return [subject for subject in subjects if not (Path(folder) / "folds" / subject / DETECTIONS).exists()]


def report_on(raw: Expressions, events: Expressions, videos: Videos, protocol: Protocol | str = STRICT) -> FoldsReport:
    """The report of tables; `raw` holds what each subject's own fold found, perhaps in several epochs."""
    if not len(raw):
        raise TrainingError("nothing was found in any fold, not even with a low score; look at the losses")
    choices = choose_by_type(raw, events, videos)
    chosen, whole = [], []
    for subject, choice in choices.items():
        mine = np.array([name == subject for name in raw.subject], dtype=bool)
        if choice["epoch"] is not None:
            mine &= raw.epoch == choice["epoch"]
        whole.append(raw[mine])
        least = np.array([choice.get(kind, np.inf) for kind in raw.type], dtype=float)
        chosen.append(raw[mine & (raw.score >= least)])
    predictions, found = (dataclasses.replace(concatenate(parts), epoch=None) for parts in (chosen, whole))
    result = spotting(predictions, events, STRICT, videos)
    has_emotions = len(found) and None not in found.label and any(label is not None for label in events.label)
    return FoldsReport(
        by_type=result,
        choices=choices,
        intervals=bootstrap(result),
        detection=detection(found, events, STRICT, videos) if has_emotions else None,
        selection=select(raw, events, protocol, videos, score_thresholds=THRESHOLDS),
        predictions=predictions,
    )


def choose_by_type(raw: Expressions, events: Expressions, videos: Videos) -> dict[str, dict[str, Any]]:
    """
    For every subject, the epoch and the threshold per type with the highest strict F1 over both types on all others;
    of equal ones the earliest and lowest.

    Returns:
        Subject -> `{"epoch": epoch or None, type: threshold, ...}`.

    Example:

    ```python
    >>> from fedn_hf.metrics import Expressions, Videos
    >>> from fedn_hf.training.report import choose_by_type

    >>> columns = ("subject", "video", "onset", "offset", "type", "score")
    >>> truth = [("a", "v", 0, 9, "macro"), ("b", "w", 0, 9, "macro")]
    >>> found = [(*row, 0.9) for row in truth] + [("a", "v", 50, 60, "macro", 0.3), ("b", "w", 50, 60, "macro", 0.1)]
    >>> raw, events = (Expressions.from_rows([dict(zip(columns, row)) for row in rows]) for rows in (found, truth))
    >>> choose_by_type(raw, events, Videos(["v", "w"], ["a", "b"]))
    {'a': {'epoch': None, 'macro': 0.12}, 'b': {'epoch': None, 'macro': 0.32}}
    ```
    """
    problem = prepare(dataclasses.replace(raw, epoch=None), events, STRICT, videos)
    owner, kinds = problem.subject_of_video, problem.kinds
    row, score = problem.predictions.row, raw.score[problem.predictions.row]
    epochs = [None] if raw.epoch is None or not len(raw) else np.unique(raw.epoch).tolist()
    counts = np.zeros((len(epochs), len(THRESHOLDS), len(problem.subjects), len(kinds), 3))
    for e, epoch in enumerate(epochs):
        in_epoch = np.ones(len(row), bool) if epoch is None else raw.epoch[row] == epoch
        for t, threshold in enumerate(THRESHOLDS):
            rows = np.flatnonzero(in_epoch & (score >= threshold))
            part = dataclasses.replace(problem, predictions=problem.predictions.at(rows))
            here = np.arange(len(rows))
            hits = match(part, overlaps(part, here, STRICT.iou_threshold))
            np.add.at(counts[e, t], owner, count(part, here, hits))
    total = counts.sum(axis=2)
    return {
        subject: _best_choice(total - counts[:, :, number], epochs, kinds)
        for number, subject in enumerate(problem.subjects)
    }


def _best_choice(counts: np.ndarray, epochs: list[int | None], kinds: Sequence[str]) -> dict[str, Any]:
    """Of counts (epochs, thresholds, types, 3) summed over the others. Types are matched apart, so counts add up."""
    found = np.zeros((len(epochs), *[1] * len(kinds)))
    sizes = found.copy()  # predictions and events together
    for place in range(len(kinds)):
        shape = [len(epochs), *[1] * len(kinds)]
        shape[1 + place] = len(THRESHOLDS)
        found = found + counts[:, :, place, 0].reshape(shape)
        sizes = sizes + counts[:, :, place, 1:].sum(-1).reshape(shape)
    f1 = np.round(2 * found / np.maximum(sizes, 1), 12)
    epoch, *thresholds = np.unravel_index(int(f1.argmax()), f1.shape)
    chosen = {kind: THRESHOLDS[index] for kind, index in zip(kinds, thresholds, strict=True)}
    return {"epoch": epochs[epoch], **chosen}


def _names(row: Row) -> dict[str, Any]:
    return {"subject": row["subject_id"], "video": row["video_id"], "fps": float(row["fps"])}


def _expressions(rows: Sequence[dict[str, Any]]) -> Expressions:
    """Our `emotion` is the tables' `label`."""
    return Expressions.from_rows([{("label" if k == "emotion" else k): v for k, v in row.items()} for row in rows])


__all__ = [
    "REPORT",
    "THRESHOLDS",
    "FoldsReport",
    "choose_by_type",
    "missing_folds",
    "report_on",
    "score_folds",
    "tables_of",
]
