"""From the raw detections of all folds to numbers, strict and nested first.

What is reported for a subject is chosen by the others: the epoch and a threshold for each type are those with which
the networks that left *them* out find most on them. `metrics.select` does the same for one threshold, and shows beside
it what oracles would get. (Those networks trained on the subject itself. So what they find on others depends on it a
little; nothing but a network for every pair of subjects would help, which nobody trains.)
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
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
from .detections import read_detections
from .inputs import Row
from .loso import DETECTIONS, RECIPE
from .selection import THRESHOLDS, choose_by_type
from .settings import TrainingError

REPORT = "report.json"
# For `select`, which takes the first of equals: a subject on whom no threshold finds anything keeps the fewest.
FALLING = THRESHOLDS[::-1]


@dataclass(frozen=True)
class FoldsReport:
    """
    The numbers of a leave-one-subject-out run, or of a corpus that others trained for.

    Args:
        by_type: For every subject the epoch and a threshold per type that are best on all others (nested), or those
            that the validation subjects of the other corpora chose.
        choices: Subject -> type -> threshold, and "epoch".
        by_each: As `by_type`, where each type's threshold is the best for its own F1; `None` where others chose.
        intervals: 95 % intervals of `by_type` over subjects.
        detection: Average precision of everything found in the epochs that `by_type` chose, without thresholds.
        selection: The same raw detections with one threshold for both types, under every way of choosing; `None` where
            others chose.
        predictions: What `by_type` scores.
    """

    by_type: SpottingResult
    choices: dict[str, dict[str, Any]]
    by_each: SpottingResult | None
    intervals: dict[str, Interval]
    detection: DetectionResult | None
    selection: SelectionReport | None
    predictions: Expressions = dataclasses.field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        name = "validated_by_type" if self.selection is None else "nested_by_type"
        return {
            name: {**self.by_type.to_dict(), "choices": self.choices},
            "nested_by_each_type": None if self.by_each is None else self.by_each.to_dict(),
            "intervals": {name: interval._asdict() for name, interval in self.intervals.items()},
            "detection": None if self.detection is None else self.detection.to_dict(),
            "selection": None if self.selection is None else self.selection.to_dict(),
        }

    def __str__(self) -> str:
        lines = ["nested, a threshold per type: epoch and thresholds chosen on the other subjects"]
        if self.selection is None:
            lines = ["a threshold per type: epoch and thresholds chosen on the validation subjects of other corpora"]
        lines += [str(self.by_type)]
        lines += [f"{name}: {interval} (95 % over subjects)" for name, interval in self.intervals.items()]
        if self.detection is not None:
            lines += ["", "detection, all thresholds", str(self.detection)]
        if self.selection is not None:
            lines += ["", "nested, each type's threshold chosen by its own F1", str(self.by_each)]
            lines += ["", "one threshold for both types", str(self.selection)]
        return "\n".join(lines)


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
    write_report(report, folder)
    return report


def write_report(report: FoldsReport, folder: Path) -> None:
    """Write `report.json`."""
    with replacing(folder / REPORT) as unfinished:
        unfinished.write_text(json.dumps(report.to_dict(), indent=1), encoding="utf-8")


def tables_of(folder: str | Path, rows: Sequence[Row]) -> tuple[Expressions, Expressions, Videos]:
    """The raw detections of all folds that are done, what coders marked, and all videos."""
    files = [Path(folder) / "folds" / name / DETECTIONS for name in sorted({row["subject_id"] for row in rows})]
    raw = expressions([row for file in files if file.exists() for row in read_detections(file)])
    if json.loads((Path(folder) / RECIPE).read_text("utf-8"))["num_validation"]:
        raw = dataclasses.replace(raw, epoch=None)  # every fold's own best, chosen by its validation subjects
    return raw, *truth_of(rows)


def truth_of(rows: Sequence[Row]) -> tuple[Expressions, Videos]:
    """What coders marked, and all videos."""
    names = [_names(row) for row in rows]
    videos = Videos(
        [name["video"] for name in names],
        [name["subject"] for name in names],
        [row["num_frames"] for row in rows],
        [name["fps"] for name in names],
    )
    return expressions(event_rows(rows)), videos


def missing_folds(folder: str | Path, rows: Sequence[Row]) -> list[str]:
    """Names of the folds that are not done."""
    subjects = sorted({row["subject_id"] for row in rows})
    return [subject for subject in subjects if not (Path(folder) / "folds" / subject / DETECTIONS).exists()]


def report_on(
    raw: Expressions,
    events: Expressions,
    videos: Videos,
    protocol: Protocol | str = STRICT,
    thresholds: Mapping[str, float] | None = None,
) -> FoldsReport:
    """
    The report of tables; `raw` holds what each subject's own fold found, perhaps in several epochs. Thresholds per
    type that others chose take the place of nested ones.
    """
    if not len(raw):
        raise TrainingError("nothing was found, not even with a low score; look at the losses")
    if thresholds is None:
        choices = choose_by_type(raw, events, videos)
    else:
        choices = {subject: {"epoch": None, **thresholds} for subject in sorted(set(videos.subject))}
    predictions, found = _chosen(raw, choices)
    result, by_each = spotting(predictions, events, STRICT, videos), None
    if thresholds is None:
        of_each = choose_by_type(raw, events, videos, each=True)
        by_each = spotting(_chosen(raw, of_each)[0], events, STRICT, videos)
    has_emotions = len(found) and None not in found.label and any(label is not None for label in events.label)
    return FoldsReport(
        by_type=result,
        choices=choices,
        by_each=by_each,
        intervals=bootstrap(result),
        detection=detection(found, events, STRICT, videos) if has_emotions else None,
        selection=select(raw, events, protocol, videos, score_thresholds=FALLING) if thresholds is None else None,
        predictions=predictions,
    )


def _chosen(raw: Expressions, choices: Mapping[str, Mapping[str, Any]]) -> tuple[Expressions, Expressions]:
    """Of each subject's raw detections what its choice of thresholds leaves, and all of the epoch that it chose."""
    chosen, whole = [], []
    for subject, choice in choices.items():
        mine = np.array([name == subject for name in raw.subject], dtype=bool)
        if choice["epoch"] is not None:
            mine &= raw.epoch == choice["epoch"]
        whole.append(raw[mine])
        least = np.array([choice.get(kind, np.inf) for kind in raw.type], dtype=float)
        chosen.append(raw[mine & (raw.score >= least)])
    left, found = (dataclasses.replace(concatenate(parts), epoch=None) for parts in (chosen, whole))
    return left, found


def _names(row: Row) -> dict[str, Any]:
    return {"subject": row["subject_id"], "video": row["video_id"], "fps": float(row["fps"])}


def event_rows(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """What coders marked in all videos, one row for each event."""
    return [
        {**{n: event.get(n) for n in ("onset", "apex", "offset", "type", "emotion")}, **_names(row)}
        for row in rows
        for event in row["events"]
    ]


def expressions(rows: Sequence[dict[str, Any]]) -> Expressions:
    """A table of rows; our `emotion` is its `label`."""
    return Expressions.from_rows([{("label" if k == "emotion" else k): v for k, v in row.items()} for row in rows])


__all__ = [
    "REPORT",
    "THRESHOLDS",
    "FoldsReport",
    "choose_by_type",
    "event_rows",
    "expressions",
    "missing_folds",
    "report_on",
    "score_folds",
    "tables_of",
    "truth_of",
    "write_report",
]
