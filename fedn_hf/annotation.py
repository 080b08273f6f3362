"""The result people work with: the expressions of one video, where there was a face, and how it all came about."""

import csv
import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .files_fedn import replacing
from .media_fedn import FednError
from .results_fedn import SCHEMA


@dataclass(frozen=True)
class ExpressionInterval:
    """
    One expression: `onset <= apex <= offset`, in seconds and in 0-based frames of the file (inclusive; the offset in
    seconds is the end of the last frame).

    label: emotion class that coders would give it, `None` from a network that does not recognise.
    type: "macro-expression" or "micro-expression".
    score: 0 to 1.
    label_scores: of every class, 0 to 1 each.

    Example:
        >>> smile = ExpressionInterval("happiness", 0.9, "macro-expression", 1.0, 1.2, 2.0, 25, 30, 49, face_id=0)
        >>> smile.offset_s - smile.onset_s
        1.0
    """

    label: str | None
    score: float
    type: str
    onset_s: float
    apex_s: float
    offset_s: float
    onset_frame: int
    apex_frame: int
    offset_frame: int
    face_id: int
    label_scores: dict[str, float] = field(default_factory=dict)

    def __post_init__(self):
        for unit in ("s", "frame"):
            times = tuple(getattr(self, f"{name}_{unit}") for name in ("onset", "apex", "offset"))
            if not times[0] <= times[1] <= times[2]:
                raise ValueError(f"onset <= apex <= offset must hold, got {times} ({unit})")


@dataclass(frozen=True)
class ExpressionAnnotation:
    """
    All expressions of a video.

    video: `path`, `duration_s`, `fps`, `num_frames`, ... as the file declares them.
    intervals: [`ExpressionInterval`]s in order of onset; iterating the annotation gives them.
    coverage: where there was a face; see [`FednDetections.coverage`].
    curves: score and intensity over time; see [`FednDetections.curves`].
    labels, types: the names that the network knows.
    provenance: versions, model and revision, device, settings.

    Example:
        >>> annotation = ExpressionAnnotation({"path": "a.mp4"}, [
        ...     ExpressionInterval("anger", 0.9, "macro-expression", 1.0, 1.2, 2.0, 25, 30, 49, face_id=0)])
        >>> [(event.label, event.onset_s) for event in annotation]
        [('anger', 1.0)]
        >>> ExpressionAnnotation.from_dict(annotation.to_dict()) == annotation
        True
    """

    video: dict[str, Any]
    intervals: list[ExpressionInterval]
    coverage: list[dict[str, Any]] = field(default_factory=list)
    curves: list[dict[str, Any]] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    types: list[str] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)

    def __iter__(self) -> Iterator[ExpressionInterval]:
        return iter(self.intervals)

    def __len__(self) -> int:
        return len(self.intervals)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "ExpressionAnnotation":
        """
        The object for what `to_dict` or [`FednDetections.describe`] gave.

        Raises:
            `FednError`: data of another kind, or of a newer version.
        """
        data = dict(data)
        if (schema := data.pop("schema", None)) != SCHEMA:
            raise FednError(f"an annotation of schema {SCHEMA} was expected, got {schema!r}; made by another version?")
        try:
            return cls(**{**data, "intervals": [ExpressionInterval(**row) for row in data["intervals"]]})
        except (KeyError, TypeError) as error:
            raise FednError(f"not an annotation: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {"schema": SCHEMA, **dataclasses.asdict(self)}

    def write(self, path: str | Path) -> None:
        """
        Write a file of the kind its suffix names: `.json` holds everything, `.csv` one row per expression.

        Raises:
            `FednError`: another suffix.
        """
        path = Path(path)
        writers = {".json": self._write_json, ".csv": self._write_csv}
        if path.suffix.lower() not in writers:
            raise FednError(f"{path}: no writer for {path.suffix or 'no suffix'}; there is {', '.join(writers)}")
        # Names of files need not be text; what is not stays readable, and valid in JSON, as an escape.
        with (
            replacing(path) as unfinished,
            open(unfinished, "w", encoding="utf-8", errors="backslashreplace", newline="") as file,
        ):
            writers[path.suffix.lower()](file)

    def _write_json(self, file) -> None:
        json.dump(self.to_dict(), file, ensure_ascii=False, indent=1)

    def _write_csv(self, file) -> None:
        names = [f.name for f in dataclasses.fields(ExpressionInterval) if f.name != "label_scores"]
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows([getattr(interval, name) for name in names] for interval in self)


__all__ = ["ExpressionAnnotation", "ExpressionInterval"]
