"""The result people work with: the expressions of one video, where there was a face, and how it all came about.

What a network found and what a coder marked are the same kind of object: what a coder does not say (a score, an apex,
a frame) is `None`. Every operation gives a new object, and times stay on the clock of the recording.
"""

import base64
import copy
import html
import io
import itertools
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from . import exporters
from .annotation_parts import concatenate, crop
from .media_fedn import FednError
from .results_fedn import SCHEMA, chosen
from .time_budget import AnnotationError, co_occurrence, discretize, observed, tidy_table, time_budget

if TYPE_CHECKING:
    import pandas as pd

_MOMENTS = ("onset", "apex", "offset")
# Numbers beyond it are damage: of seconds more than thirty thousand years, of frames more than a thousand at 1000/s.
_LARGEST = 1e12
_Kind = type  # in a class with a field of that name `type` is the field
_SHOWN_ROWS = 30
_DEEPEST = 30  # lists in lists; what copies and writes facts ends at some hundreds
# Facts that are reckoned with; all others are only kept.
_VIDEO_NUMBERS = ("fps", "duration_s", "num_frames", "truncated_at_s")
_READING_NUMBERS = ("start_s", "end_s", "frame_rate", "image_size")


@dataclass(frozen=True)
class ExpressionInterval:
    """
    One expression: `onset <= apex <= offset`, in seconds and in 0-based frames of the file (inclusive; the offset in
    seconds is the end of the last frame).

    label: emotion class that coders would give it, `None` from a network that does not recognise.
    score: 0 to 1; `None` from a coder.
    type: "macro-expression" or "micro-expression"; `None` where a coder did not say.
    onset_s, apex_s, offset_s: seconds of the recording; the apex may be `None`, which is unknown.
    onset_frame, apex_frame, offset_frame: `None` where the frame rate is not known.
    face_id: number of the face.
    label_scores: of every class, 0 to 1 each.

    Raises:
        `AnnotationError`: a `FednError` and `ValueError` that says which value cannot be.

    Example:
        >>> smile = ExpressionInterval("happiness", 0.9, "macro-expression", 1.0, 1.2, 2.0, 25, 30, 49, face_id=0)
        >>> smile.duration_s
        1.0
    """

    label: str | None
    score: float | None
    type: str | None
    onset_s: float
    apex_s: float | None
    offset_s: float
    onset_frame: int | None = None
    apex_frame: int | None = None
    offset_frame: int | None = None
    face_id: int = 0
    label_scores: dict[str, float] = field(default_factory=dict, hash=False)

    def __post_init__(self):
        for name in ("label", "type"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, str) and value.strip()):
                raise AnnotationError(f"{name} must be a text or None, got {_quoted(value)}")
        for name in ("onset_s", "apex_s", "offset_s"):
            self._settle(name, Real, float, "a number of seconds", optional=name == "apex_s")
        for name in ("onset_frame", "apex_frame", "offset_frame", "face_id"):
            self._settle(name, Integral, int, "a whole number, 0 or more", optional=name != "face_id", lowest=0)
        self._settle("score", Real, float, "a number from 0 to 1", optional=True, lowest=0, highest=1)
        if (self.onset_frame is None) != (self.offset_frame is None):
            raise AnnotationError(
                "onset_frame and offset_frame must both be known or both be None, got "
                f"{self.onset_frame} and {self.offset_frame}"
            )
        for unit in ("s", "frame"):
            times = tuple(getattr(self, f"{name}_{unit}") for name in _MOMENTS)
            known = [time for time in times if time is not None]
            if known != sorted(known):
                raise AnnotationError(f"onset <= apex <= offset must hold, got {times} ({unit})")
        if not isinstance(self.label_scores, Mapping):
            raise AnnotationError(f"label_scores must be a dict of label and score, got {_quoted(self.label_scores)}")
        for label, score in self.label_scores.items():
            if not (isinstance(label, str) and isinstance(score, Real) and 0 <= score <= 1):
                raise AnnotationError(
                    f"label_scores must hold numbers from 0 to 1 by label, got {_quoted(label)}: {_quoted(score)}"
                )

    def _settle(
        self, name: str, kind: _Kind, plain: _Kind, what: str, optional: bool, lowest=-_LARGEST, highest=_LARGEST
    ) -> None:
        """Make sure that a value is of a kind and within bounds, and keep it as one that JSON knows."""
        value = getattr(self, name)
        if (value is None and optional) or (type(value) is plain and lowest <= value <= highest):
            return
        if isinstance(value, bool) or not isinstance(value, kind) or not lowest <= value <= highest:
            raise AnnotationError(f"{name} must be {what}{' or None' if optional else ''}, got {_quoted(value)}")
        object.__setattr__(self, name, plain(value))

    @property
    def duration_s(self) -> float:
        """Seconds from the onset to the end of the last frame."""
        return self.offset_s - self.onset_s

    def cut(self, start_s: float, end_s: float) -> "ExpressionInterval":
        """The part between two times. Its frames are those in proportion; an apex that is cut away is unknown."""
        if start_s <= self.onset_s and self.offset_s <= end_s:
            return self
        onset_s, offset_s = max(start_s, self.onset_s), min(end_s, self.offset_s)
        keeps_apex = self.apex_s is not None and onset_s <= self.apex_s <= offset_s
        times: dict[str, Any] = {
            "onset_s": onset_s,
            "apex_s": self.apex_s if keeps_apex else None,
            "offset_s": offset_s,
        }
        if self.onset_frame is None or self.offset_frame is None:
            return replace(self, **times)
        rate = (self.offset_frame + 1 - self.onset_frame) / self.duration_s
        first = self.onset_frame + math.floor((onset_s - self.onset_s) * rate + 1e-6)
        last = self.onset_frame + math.ceil((offset_s - self.onset_s) * rate - 1e-6) - 1
        first = min(first, self.offset_frame)
        last = min(max(first, last), self.offset_frame)
        apex = min(max(first, self.apex_frame), last) if keeps_apex and self.apex_frame is not None else None
        return replace(self, **times, onset_frame=first, apex_frame=apex, offset_frame=last)

    def with_frames(self, fps: float) -> "ExpressionInterval":
        """The same with frame numbers at a constant rate, if it has none."""
        if self.onset_frame is not None:
            return self
        first = max(0, round(self.onset_s * fps))
        last = max(first, round(self.offset_s * fps) - 1)
        apex = None if self.apex_s is None else min(max(first, math.floor(self.apex_s * fps + 1e-6)), last)
        return replace(self, onset_frame=first, apex_frame=apex, offset_frame=last)


@dataclass(frozen=True)
class ExpressionAnnotation:
    """
    All expressions of a video.

    video: `path`, `duration_s`, `fps`, `num_frames`, ... as the file declares them; only `path` must be there.
    intervals: [`ExpressionInterval`]s in order of onset; iterating the annotation gives them.
    coverage: where there was a face; see [`FednDetections.coverage`]. Empty from coders, who do not say.
    curves: score and intensity over time; see [`FednDetections.curves`].
    labels, types: the names that the network or the coder knows.
    provenance: versions, model and revision, device, settings; `start_s` and `end_s` of what was looked at.

    Raises:
        `AnnotationError`: parts that contradict each other.

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

    def __post_init__(self):
        for name, kind in (("video", Mapping), ("provenance", Mapping)):
            if not isinstance(getattr(self, name), kind):
                raise AnnotationError(f"{name} must be a dict, got {_quoted(getattr(self, name))}")
            if _is_deeper(getattr(self, name), _DEEPEST):
                raise AnnotationError(f"{name} must not be nested more than {_DEEPEST} times")
        if not isinstance(self.video.get("path"), str):
            raise AnnotationError(f'video must say its "path", got {_quoted(dict(self.video))}')
        _check_facts("video", self.video, _VIDEO_NUMBERS)
        _check_facts("provenance", self.provenance, _READING_NUMBERS)
        if not isinstance(self.provenance.get("source"), str | None):
            raise AnnotationError(f"source in provenance must be a text, got {_quoted(self.provenance['source'])}")
        for name in ("intervals", "coverage", "curves", "labels", "types"):
            if isinstance(getattr(self, name), (str, Mapping)) or not isinstance(getattr(self, name), Iterable):
                raise AnnotationError(f"{name} must be a list, got {_quoted(getattr(self, name))}")
            object.__setattr__(self, name, list(getattr(self, name)))
        for event in self.intervals:
            if not isinstance(event, ExpressionInterval):
                raise AnnotationError(f"intervals must hold ExpressionIntervals, got {_quoted(event)}")
        for name in (*self.labels, *self.types):
            if not isinstance(name, str):
                raise AnnotationError(f"labels and types must be texts, got {_quoted(name)}")
        for row in self.coverage:
            _check_coverage(row)
        for row in self.curves:
            _check_curve(row)
        self.intervals.sort(key=lambda event: (event.onset_s, event.face_id))

    def __iter__(self) -> Iterator[ExpressionInterval]:
        return iter(self.intervals)

    def __len__(self) -> int:
        return len(self.intervals)

    # --- to and from files ---

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "ExpressionAnnotation":
        """
        The object for what `to_dict` or [`FednDetections.describe`] gave.

        Raises:
            `FednError`: data of another kind, or of a newer version.
        """
        if not isinstance(data, Mapping):
            raise FednError(f"not an annotation: a dict was expected, got {_quoted(data)}")
        data = dict(data)
        schema = data.pop("schema", None)
        if schema != SCHEMA:
            newer = isinstance(schema, int) and schema > SCHEMA
            hint = "written by a newer version of fedn_hf; install that" if newer else "not a file of this package?"
            raise FednError(f"an annotation of schema {SCHEMA} was expected, got {_quoted(schema)}; {hint}")
        try:
            return cls(**{**data, "intervals": [ExpressionInterval(**row) for row in data["intervals"]]})
        except (KeyError, TypeError, AnnotationError) as error:
            raise FednError(f"not an annotation: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data, of which nothing is shared with the annotation."""
        return {
            "schema": SCHEMA,
            "video": copy.deepcopy(self.video),
            "intervals": [{**vars(event), "label_scores": dict(event.label_scores)} for event in self],
            "coverage": [dict(row) for row in self.coverage],
            # Of hours of video these hold millions of numbers, which need no deep copy.
            "curves": [
                {name: list(values) if isinstance(values, list) else values for name, values in row.items()}
                for row in self.curves
            ],
            "labels": list(self.labels),
            "types": list(self.types),
            "provenance": copy.deepcopy(self.provenance),
        }

    def write(self, path: str | Path, format: str | None = None) -> None:
        """
        Write a file of the kind its suffix names, or of a `format` of [`fedn_hf.exporters`]. JSON, JSONL and Parquet
        hold everything; the others what their programs know.

        Raises:
            `FednError`: no such format, or a package that is missing for it.
        """
        exporters.write(self, path, format)

    @classmethod
    def read(cls, path: str | Path) -> "ExpressionAnnotation":
        """
        Read a file that holds one annotation; see [`fedn_hf.exporters.read`], which also takes a mapping of tiers and
        codes.

        Raises:
            `FednError`: a file that cannot be read, or that holds several annotations.
        """
        annotations = exporters.read(path)
        if len(annotations) != 1:
            raise FednError(f"{path} holds {len(annotations)} annotations; fedn_hf.exporters.read gives all of them")
        return annotations[0]

    # --- parts and views ---

    def crop(self, start_s: float, end_s: float) -> "ExpressionAnnotation":
        """
        What lies between two times. Expressions, coverage and curves are cut there; times stay those of the recording.

        Raises:
            `AnnotationError`: an end that is not after the start.
        """
        return crop(self, start_s, end_s)

    def filter(
        self,
        *,
        types: str | Collection[str] | None = None,
        labels: str | Collection[str] | None = None,
        faces: int | Collection[int] | None = None,
        score_threshold: float = 0.0,
        min_duration_s: float = 0.0,
        max_duration_s: float = math.inf,
    ) -> "ExpressionAnnotation":
        """
        Only some expressions. With `faces` coverage and curves are those of these faces, too.

        Args:
            types, labels, faces: one or several; all by default.
            score_threshold: lowest score; an expression without one, which is a coder's, stays.
            min_duration_s, max_duration_s: shortest and longest, in seconds.

        Raises:
            `ValueError`: a type or label that does not occur here.
        """
        of_faces = None if faces is None else {faces} if isinstance(faces, (int, Integral)) else set(faces)
        wanted = {
            "type": chosen("types", types, self._known("type")),
            "label": chosen("labels", labels, self._known("label")),
            "face_id": of_faces,
        }
        kept = [
            event
            for event in self
            if all(keep is None or getattr(event, name) in keep for name, keep in wanted.items())
            and (event.score is None or event.score >= score_threshold)
            and min_duration_s <= event.duration_s <= max_duration_s
        ]
        rows: dict[str, Any] = {
            name: [row for row in getattr(self, name) if of_faces is None or row["face_id"] in of_faces]
            for name in ("coverage", "curves")
        }
        return replace(self, intervals=kept, **rows)

    def merge(self, gap_s: float = 0.0) -> "ExpressionAnnotation":
        """
        Join expressions of one face, type and label that overlap or have at most `gap_s` seconds between them. The
        joined one has the score and the apex of the surest.

        Raises:
            `AnnotationError`: a gap that is no number of seconds.
        """
        if not 0 <= gap_s < math.inf:
            raise AnnotationError(f"gap_s must be a number of seconds, 0 or more, got {gap_s!r}")
        joined: dict[tuple, list[ExpressionInterval]] = {}
        for event in self:
            group = joined.setdefault((event.face_id, event.type, event.label), [])
            # The tolerance lets 0.3 - 0.2 be a gap of 0.1.
            if group and event.onset_s - group[-1].offset_s <= gap_s + 1e-9:
                group[-1] = _joined(group[-1], event)
            else:
                group.append(event)
        return replace(self, intervals=list(itertools.chain(*joined.values())))

    def relabel(self, names: Mapping[str, str | None]) -> "ExpressionAnnotation":
        """
        Other labels: those that `names` does not hold stay, `None` is unknown. The score of a label that several
        became is the highest of theirs.

        Example:
            >>> event = ExpressionInterval("anger", 0.9, "macro-expression", 1.0, 1.2, 2.0)
            >>> ExpressionAnnotation({"path": "a.mp4"}, [event]).relabel({"anger": "negative"}).labels
            ['negative']
        """
        events = []
        for event in self:
            scores: dict[str, float] = {}
            for label, score in event.label_scores.items():
                if (name := names.get(label, label)) is not None:
                    scores[name] = max(score, scores.get(name, 0.0))
            name = names.get(event.label, event.label)  # type: ignore[arg-type]  # no label may get a name, too
            events.append(replace(event, label=name, label_scores=scores))
        labels = [names.get(label, label) for label in self._known("label")]
        return replace(self, intervals=events, labels=list(dict.fromkeys(name for name in labels if name is not None)))

    def with_frames(self, fps: float | None = None) -> "ExpressionAnnotation":
        """
        Frame numbers for expressions that have none, by a constant rate: `fps`, or else the video's own.

        Raises:
            `AnnotationError`: they are needed and there is no rate.
        """
        if all(event.onset_frame is not None for event in self):
            return self
        rate = self.video.get("fps") if fps is None else fps
        if not (_is_real(rate) and 0 < rate < math.inf):
            raise AnnotationError(f"{self.video['path']}: its frames per second are not known: give fps= (--fps)")
        return replace(self, video={**self.video, "fps": rate}, intervals=[event.with_frames(rate) for event in self])

    @classmethod
    def concatenate(cls, parts: Sequence["ExpressionAnnotation"]) -> "ExpressionAnnotation":
        """
        One annotation of the parts of one recording, in their order.

        Parts of one file (detected with `start_s` and `end_s`, or cropped) keep their times. Files that a camera began
        one after the other are put end to end: each must say its `duration_s`. Who is face 0 in one file need not be
        in the next. `merge()` joins what a border has cut.

        Raises:
            `AnnotationError`: no parts, or a file that does not say how long it is.
        """
        return concatenate(parts)

    # --- how much, how often ---

    @property
    def observed_s(self) -> float | None:
        """Seconds in which an expression could have been seen, all faces together; see `observed_by`."""
        return observed(self)[0]

    @property
    def observed_by(self) -> str:
        """What `observed_s` counts: "coverage" (a face was seen), "duration" (no coverage is known), "unknown"."""
        return observed(self)[1]

    def time_budget(self, by: Sequence[str] = ("type", "label")) -> list[dict[str, Any]]:
        """
        How often and how long, one row for each type and label that occurs.

        Args:
            by: what rows stand for, among "type", "label" and "face_id"; `()` for all in one row.

        Returns:
            `list[dict]` in order of `by`, each with these and `count`, `total_s` (seconds in which at least one lasts,
            summed over faces), `per_minute` (of `observed_s`; `None` where that is unknown or nothing), `observed_s`
            and `observed_by`.

        Example:
            >>> smile = ExpressionInterval("happiness", 0.9, "macro-expression", 1.0, 1.2, 2.0)
            >>> ExpressionAnnotation({"path": "a.mp4", "duration_s": 30.0}, [smile]).time_budget(by=["label"])
            [{'label': 'happiness', 'count': 1, 'total_s': 1.0, 'per_minute': 2.0, 'observed_s': 30.0,
              'observed_by': 'duration'}]
        """
        return time_budget(self, by)

    def discretize(self, step_s: float) -> "pd.DataFrame":
        """
        The recording in equal steps of time: how much of each an expression fills, from 0 to 1.

        Returns:
            `pandas.DataFrame` with one row a step, indexed by its beginning `time_s`; a column "TYPE LABEL" for each
            pair that occurs, and before them `face`, how much of the step a face could be seen (NaN if unknown).
            `table > 0` says whether there was any, `table >= 0.5` whether it filled half of the step.

        Raises:
            `AnnotationError`: a step that is not positive, or so short that there would be ten million.
        """
        return discretize(self, step_s)

    def co_occurrence(self, other: "ExpressionAnnotation") -> "pd.DataFrame":
        """
        Seconds in which an expression of this annotation (rows, "TYPE LABEL") and one of another (columns) last at the
        same time: two people who talk, two coders, a coder and a network.
        """
        return co_occurrence(self, other)

    def to_pandas(self) -> "pd.DataFrame":
        """
        One row for each expression: `video`, the fields of [`ExpressionInterval`], `duration_s`, and `score_LABEL` for
        every label with scores. [`tidy_table`] does it for many annotations.
        """
        return tidy_table([self])

    # --- in notebooks ---

    def _repr_html_(self) -> str:
        picture = self._repr_png_()
        shown = f'<img src="data:image/png;base64,{base64.b64encode(picture).decode()}">' if picture else ""
        names = ("type", "label", "score", "onset_s", "apex_s", "offset_s", "face_id")
        head = "".join(f"<th>{name}</th>" for name in names)
        rows = [
            "".join(f"<td>{_cell(getattr(event, name))}</td>" for name in names)
            for event in self.intervals[:_SHOWN_ROWS]
        ]
        more = f"<p>and {len(self) - _SHOWN_ROWS} more</p>" if len(self) > _SHOWN_ROWS else ""
        title = f"<p><b>{_cell(self.video['path'])}</b>: {len(self)} expression{'s' * (len(self) != 1)}</p>"
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return f"<div>{title}{shown}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}</div>"

    def _repr_png_(self) -> bytes | None:
        """The timeline, where matplotlib is there to draw it."""
        try:
            from .pictures import draw_timeline

            figure = draw_timeline(self)
        except (ImportError, FednError):
            return None
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        return buffer.getvalue()

    def _known(self, name: str) -> list[str]:
        """Types or labels that the annotation lists or that occur in it."""
        listed = self.types if name == "type" else self.labels
        used = (getattr(event, name) for event in self)
        return list(dict.fromkeys([*listed, *(value for value in used if value is not None)]))


def _joined(first: ExpressionInterval, second: ExpressionInterval) -> ExpressionInterval:
    """One expression from the onset of the first to the later offset; the surer one says what it is like."""
    # Of the two parts of one that a border has cut, one has lost the apex.
    surest = max(first, second, key=lambda event: (event.score or 0.0, event.apex_s is not None))
    last = second if second.offset_s > first.offset_s else first
    known = [event.offset_frame for event in (first, second) if event.offset_frame is not None]
    frames: dict[str, Any] = {
        "onset_frame": first.onset_frame,
        "offset_frame": max(known) if len(known) == 2 else None,
    }
    if len(known) < 2:
        frames = {"onset_frame": None, "offset_frame": None, "apex_frame": None}
    return replace(surest, onset_s=first.onset_s, offset_s=last.offset_s, **frames)


def _is_real(value: Any) -> TypeGuard[float]:
    """Whether it is a number of any kind; checkers do not know that a `Real` can be compared."""
    return isinstance(value, Real)


def _is_deeper(value: Any, levels: int) -> bool:
    """Whether lists and dicts lie in each other more often than that."""
    if not isinstance(value, (Mapping, list, tuple)):
        return False
    inside = value.values() if isinstance(value, Mapping) else value
    return levels == 0 or any(_is_deeper(one, levels - 1) for one in inside)


def _check_facts(what: str, facts: Mapping[str, Any], numbers: Iterable[str]) -> None:
    for name in numbers:
        value = facts.get(name)
        if value is not None and not (isinstance(value, Real) and math.isfinite(value)):
            raise AnnotationError(f"{name} in {what} must be a number, got {_quoted(value)}")


def _check_coverage(row: Any) -> None:
    if not isinstance(row, Mapping) or not {"face_id", "start_s", "end_s"} <= row.keys():
        raise AnnotationError(f"a row of coverage must have face_id, start_s and end_s, got {_quoted(row)}")
    _check_face(row)
    times = (row["start_s"], row["end_s"])
    if not all(_is_real(time) and abs(time) <= _LARGEST for time in times) or times[0] > times[1]:
        raise AnnotationError(f"start_s <= end_s must hold in coverage, got {_quoted(times)}")


def _check_curve(row: Any) -> None:
    if not isinstance(row, Mapping) or not {"face_id", "time_s"} <= row.keys():
        raise AnnotationError(f"a curve must have face_id and time_s, got {_quoted(row)}")
    _check_face(row)
    lengths = {name: len(values) for name, values in row.items() if isinstance(values, Sequence)}
    if len(set(lengths.values())) > 1:
        raise AnnotationError(f"the columns of a curve must be equally long, got {lengths}")


def _check_face(row: Mapping[str, Any]) -> None:
    if not isinstance(row["face_id"], Integral):
        raise AnnotationError(f"face_id must be a whole number, got {_quoted(row['face_id'])}")


def _quoted(value: Any) -> str:
    """A value in a message, however long it is."""
    try:
        text = repr(value)
    except ValueError:  # whole numbers of thousands of digits
        return "a very large number"
    return text if len(text) <= 100 else f"{text[:97]}..."


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}"
    return html.escape(str(value).encode("utf-8", "backslashreplace").decode())  # names of files need not be text


__all__ = ["AnnotationError", "ExpressionAnnotation", "ExpressionInterval"]
