"""How much, how often, at the same time: numbers of expressions over time, of one annotation and of many.

Rates stand over the time in which an expression could have been seen. Where it is known when there was a face, that is
this time; else it is how long the recording is, and the result says so.
"""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .media_fedn import FednError

if TYPE_CHECKING:
    import pandas as pd

    from .annotation import ExpressionAnnotation

_BY = ("type", "label", "face_id")
_MOST_BINS = 10_000_000


class AnnotationError(FednError, ValueError):
    """An expression or annotation that contradicts itself, or a question that it cannot answer."""


def observed(annotation: "ExpressionAnnotation", face_id: int | None = None) -> tuple[float | None, str]:
    """
    Seconds in which an expression could have been seen, of all faces together or of one, and what they are:
    "coverage", "duration" or "unknown".
    """
    if _knows_coverage(annotation):
        faces = {row["face_id"] for row in annotation.coverage} if face_id is None else {face_id}
        return math.fsum(_length(_covered(annotation, face)) for face in faces), "coverage"
    start_s, end_s = _read(annotation)
    return (None, "unknown") if end_s is None else (max(0.0, end_s - start_s), "duration")


def time_budget(annotation: "ExpressionAnnotation", by: Sequence[str] = ("type", "label")) -> list[dict[str, Any]]:
    """See [`ExpressionAnnotation.time_budget`]."""
    by = [by] if isinstance(by, str) else list(by)
    if set(by) - set(_BY):
        raise AnnotationError(f"by may hold {', '.join(_BY)}, got {', '.join(map(repr, by))}")
    groups: dict[tuple, dict[int, list]] = {} if by else {(): {}}
    for event in annotation:
        key = tuple(getattr(event, name) for name in by)
        groups.setdefault(key, {}).setdefault(event.face_id, []).append((event.onset_s, event.offset_s))
    rows = []
    for key in sorted(groups, key=lambda key: [(value is None, value) for value in key]):
        faces = groups[key]
        seconds, what = observed(annotation, key[by.index("face_id")] if "face_id" in by else None)
        count = sum(map(len, faces.values()))
        rows.append(
            {
                **dict(zip(by, key, strict=True)),
                "count": count,
                "total_s": math.fsum(_length(_union(spans)) for spans in faces.values()),
                "per_minute": 60 * count / seconds if seconds else None,
                "observed_s": seconds,
                "observed_by": what,
            }
        )
    return rows


def discretize(annotation: "ExpressionAnnotation", step_s: float) -> "pd.DataFrame":
    """See [`ExpressionAnnotation.discretize`]."""
    import pandas as pd

    if not 0 < step_s < math.inf:
        raise AnnotationError(f"step_s must be a positive number of seconds, got {step_s!r}")
    start_s, end_s = _read(annotation)
    ends = [event.offset_s for event in annotation] + [row["end_s"] for row in annotation.coverage]
    end_s = max([start_s, *ends]) if end_s is None else end_s
    bins = (end_s - start_s) / step_s
    if bins > _MOST_BINS:
        raise AnnotationError(f"steps of {step_s!r} s would give {bins:.3g} rows, more than {_MOST_BINS}")
    edges = start_s + step_s * np.arange(math.ceil(bins - 1e-9) + 1)  # (T + 1,)
    face = _union([(row["start_s"], row["end_s"]) for row in annotation.coverage])
    columns = {"face": _shares(face, edges) if _knows_coverage(annotation) else np.full(len(edges) - 1, np.nan)}
    for name, union in _by_name(annotation).items():
        columns[name] = _shares(union, edges)
    return pd.DataFrame(columns, index=pd.Index(edges[:-1], name="time_s"))


def co_occurrence(annotation: "ExpressionAnnotation", other: "ExpressionAnnotation") -> "pd.DataFrame":
    """See [`ExpressionAnnotation.co_occurrence`]."""
    import pandas as pd

    mine, theirs = _by_name(annotation), _by_name(other)
    table = np.zeros((len(mine), len(theirs)))
    for row, union in enumerate(mine.values()):
        for column, their_union in enumerate(theirs.values()):
            table[row, column] = np.diff(_measure_until(their_union, union), axis=1).sum()
    return pd.DataFrame(table, index=list(mine), columns=list(theirs))


def tidy_table(annotations: Iterable["ExpressionAnnotation"]) -> "pd.DataFrame":
    """
    The expressions of many annotations as one table, one row each: `video` (its path), the fields of
    [`ExpressionInterval`], `duration_s`, and `score_LABEL` for every label with scores. A video without expressions
    has no row here; [`budget_table`] knows it.

    Example:
        >>> from fedn_hf import ExpressionAnnotation, ExpressionInterval
        >>> smile = ExpressionInterval("happiness", 0.9, "macro-expression", 1.0, 1.2, 2.0)
        >>> days = [ExpressionAnnotation({"path": name}, [smile]) for name in ("mon.mp4", "tue.mp4")]
        >>> tidy_table(days)[["video", "label", "duration_s"]].values.tolist()
        [['mon.mp4', 'happiness', 1.0], ['tue.mp4', 'happiness', 1.0]]
    """
    import pandas as pd

    annotations = list(annotations)
    events = [(annotation.video["path"], event) for annotation in annotations for event in annotation]
    # Names of files need not be text, and tables hold nothing else.
    columns: dict[str, Any] = {"video": [path.encode("utf-8", "backslashreplace").decode() for path, _ in events]}
    for name in ("face_id", "type", "label", "onset_s", "apex_s", "offset_s", "duration_s", "score"):
        columns[name] = [getattr(event, name) for _, event in events]
    for name in ("apex_s", "score"):
        columns[name] = np.array(columns[name], dtype=float)  # None becomes NaN
    for name in ("onset_frame", "apex_frame", "offset_frame"):
        columns[name] = pd.array([getattr(event, name) for _, event in events], dtype="Int64")
    listed = [label for annotation in annotations for label in annotation.labels]
    scored = {label for _, event in events for label in event.label_scores}
    for label in [name for name in dict.fromkeys([*listed, *sorted(scored)]) if name in scored]:
        columns[f"score_{label}"] = np.array([event.label_scores.get(label) for _, event in events], dtype=float)
    return pd.DataFrame(columns)


def budget_table(
    annotations: Iterable["ExpressionAnnotation"], by: Sequence[str] = ("type", "label")
) -> "pd.DataFrame":
    """
    The time budgets of many annotations as one table: for every `video` a row for each type and label that occurs in
    any of them, with 0 where it does not, so that means over videos are right. Columns as in
    [`ExpressionAnnotation.time_budget`].

    Example:
        >>> from fedn_hf import ExpressionAnnotation, ExpressionInterval
        >>> smile = ExpressionInterval("happiness", 0.9, "macro-expression", 1.0, 1.2, 2.0)
        >>> days = [ExpressionAnnotation({"path": "mon.mp4"}, [smile]), ExpressionAnnotation({"path": "tue.mp4"}, [])]
        >>> budget_table(days)[["video", "label", "count"]].values.tolist()
        [['mon.mp4', 'happiness', 1], ['tue.mp4', 'happiness', 0]]
    """
    import pandas as pd

    by = [by] if isinstance(by, str) else list(by)
    annotations = list(annotations)
    budgets = [{tuple(row[name] for name in by): row for row in time_budget(a, by)} for a in annotations]
    keys = sorted(set().union(*budgets), key=lambda key: [(value is None, value) for value in key])
    rows = []
    for annotation, budget in zip(annotations, budgets, strict=True):
        for key in keys:
            seconds, what = observed(annotation, key[by.index("face_id")] if "face_id" in by else None)
            nothing: dict[str, Any] = {"count": 0, "total_s": 0.0, "per_minute": 0.0 if seconds else None}
            nothing |= {"observed_s": seconds, "observed_by": what}
            row = budget.get(key, {**dict(zip(by, key, strict=True)), **nothing})
            rows.append({"video": annotation.video["path"], **row})
    names = ["video", *by, "count", "total_s", "per_minute", "observed_s", "observed_by"]
    return pd.DataFrame(rows, columns=names)


def _knows_coverage(annotation: "ExpressionAnnotation") -> bool:
    """A network says where there was a face, even if there was none; a coder does not."""
    return bool(annotation.coverage) or "model" in annotation.provenance


def _read(annotation: "ExpressionAnnotation") -> tuple[float, float | None]:
    """The part of the recording that was looked at, in seconds."""
    end_s = annotation.provenance.get("end_s")
    limits = (end_s, annotation.video.get("truncated_at_s"), annotation.video.get("duration_s"))
    return annotation.provenance.get("start_s") or 0.0, min((s for s in limits if s is not None), default=None)


def _by_name(annotation: "ExpressionAnnotation") -> dict[str, np.ndarray]:
    """Where at least one expression of a type and label lasts, as unions (K, 2), by "TYPE LABEL"."""
    spans: dict[str, list[tuple[float, float]]] = {}
    for event in annotation:
        name = f"{event.type or 'unknown-type'} {event.label or 'unknown-label'}"
        spans.setdefault(name, []).append((event.onset_s, event.offset_s))
    return {name: _union(spans[name]) for name in sorted(spans)}


def _covered(annotation: "ExpressionAnnotation", face_id: int) -> np.ndarray:
    rows = (row for row in annotation.coverage if row["face_id"] == face_id)
    return _union([(row["start_s"], row["end_s"]) for row in rows])


def _union(spans: Iterable[tuple[float, float]]) -> np.ndarray:
    """Intervals that overlap or touch become one, (K, 2), in order."""
    spans = np.array(sorted(spans), dtype=float).reshape(-1, 2)
    if not len(spans):
        return spans
    ends = np.maximum.accumulate(spans[:, 1])
    begins = np.flatnonzero(np.append(True, spans[1:, 0] > ends[:-1]))
    return np.stack((spans[begins, 0], ends[np.append(begins[1:] - 1, len(ends) - 1)]), axis=1)


def _length(union: np.ndarray) -> float:
    return float(np.diff(union, axis=1).sum())


def _measure_until(union: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Seconds of a union (K, 2) that lie before each time."""
    if not len(union):
        return np.zeros(np.shape(times))
    lengths = np.zeros(union.shape)
    lengths[:, 1] = np.diff(union, axis=1)[:, 0].cumsum()
    lengths[1:, 0] = lengths[:-1, 1]
    return np.interp(times, union.ravel(), lengths.ravel())


def _shares(union: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.clip(np.diff(_measure_until(union, edges)) / np.diff(edges), 0.0, 1.0)


__all__ = ["AnnotationError", "budget_table", "co_occurrence", "discretize", "observed", "tidy_table", "time_budget"]
