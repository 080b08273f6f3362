"""Expressions as columns: what coders marked and what detectors found are the same kind of table.

Tables come from annotations of this package, from CSV files with whatever column names, or from plain tuples and
dictionaries. What no metric could use is refused here, with the row that holds it.
"""

import csv
import gzip
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..media_fedn import FednError

# Names that the corpora's sheets and the peers' tables use, the most exact first.
_ALIASES = {
    "video": ("video", "video_name", "video_dir", "video_code", "vid"),
    "subject": ("subject",),
    "type": ("type", "type_idx"),
    "label": ("label", "emotion", "objective_emotion", "me_emotion"),
    "self_report": ("self_report",),
    "onset": ("onset", "onset_frame", "start_frame", "startFrame", "start"),
    "apex": ("apex", "apex_frame"),
    "offset": ("offset", "offset_frame", "end_frame", "endFrame", "offset_raw", "end"),
    "score": ("score",),
    "fps": ("fps",),
    "epoch": ("epoch",),
    "id": ("id",),
    "num_frames": ("num_frames", "n_frames", "frame_num", "duration"),
}
_TEXTS = ("video", "subject", "type", "label", "self_report", "id")
_TUPLE = ("video", "onset", "offset", "type", "score", "label")
_TYPES = {"1": "macro", "2": "micro", "mae": "macro", "me": "micro"}

Columns = Mapping[str, str | Callable[[Mapping[str, str]], Any]]
# What a column may be given as; in a table it is an array.
Values = Sequence[Any] | np.ndarray
_UNKNOWN: Any = None  # a column that is not given becomes one in which nothing is known


@dataclass(frozen=True)
class Expressions:
    """
    N expressions, of coders or of a detector. Order matters only within a video and only among equal scores.

    Frames of predictions and events must count from the same number: those of [`ExpressionAnnotation`] from 0, those
    of most sheets from 1 (`shifted` moves them).

    Args:
        video: (N,) names. Subject and video together name a video where both tables have subjects.
        onset, offset: (N,) frames, float64; the last frame belongs to the expression unless the protocol says
            otherwise. An offset may be missing (NaN), as it may in sheets, which write 0 or -1.
        subject, type, label, self_report, id: (N,) names, `None` where unknown. Types are "macro" and "micro";
            "macro-expression", 1 and 2 and the like become these.
        apex: (N,) frames, NaN where unknown.
        score: (N,) or `None` where there are none.
        fps: (N,) frames per second, NaN where unknown.
        epoch: (N,) int64, of raw detections of several epochs, or `None`.

    Raises:
        `FednError`: columns of different lengths, an onset that is no number, a score that is no number, an
            identifier that occurs twice. An offset before the onset is an error in events only: detectors do say such
            things (LGSNet does 104 times), and what they say then is a false prediction.

    Example:
        >>> found = Expressions.from_rows([("v1", 10, 30, "macro", 0.9), ("v1", 50, 58, "micro", 0.4)])
        >>> len(found), found.type.tolist(), found.offset.tolist()
        (2, ['macro', 'micro'], [30.0, 58.0])
    """

    video: np.ndarray
    onset: np.ndarray
    offset: np.ndarray
    subject: np.ndarray = _UNKNOWN
    type: np.ndarray = _UNKNOWN
    label: np.ndarray = _UNKNOWN
    self_report: np.ndarray = _UNKNOWN
    apex: np.ndarray = _UNKNOWN
    score: np.ndarray | None = None
    fps: np.ndarray = _UNKNOWN
    epoch: np.ndarray | None = None
    id: np.ndarray = _UNKNOWN

    if TYPE_CHECKING:  # what a table is made of; what it then has stands above

        def __init__(
            self,
            video: Values,
            onset: Values,
            offset: Values,
            subject: Values | None = None,
            type: Values | None = None,
            label: Values | None = None,
            self_report: Values | None = None,
            apex: Values | None = None,
            score: Values | None = None,
            fps: Values | None = None,
            epoch: Values | None = None,
            id: Values | None = None,
        ) -> None: ...

    def __post_init__(self):
        count = len(self.video)
        for field in fields(self):
            values = getattr(self, field.name)
            if field.name in _TEXTS:
                column = np.array([None] * count if values is None else [_text(v) for v in values], dtype=object)
            elif field.name in ("score", "epoch") and values is None:
                continue
            else:
                empty = values is None
                column = np.full(count, np.nan) if empty else np.array([_number(v) for v in values], dtype=float)
            if len(column) != count:
                raise FednError(f"{field.name} has {len(column)} rows, video has {count}")
            object.__setattr__(self, field.name, column)
        object.__setattr__(self, "type", np.array([_type(name) for name in self.type], dtype=object))
        self._check()
        if self.epoch is not None:
            object.__setattr__(self, "epoch", self.epoch.astype(np.int64))

    def _check(self) -> None:
        # Sheets write 0 (CAS(ME)^2) or -1 (SAMM-LV) for what was not marked.
        for name in ("offset", "apex"):
            values = getattr(self, name)
            unmarked = np.isin(values, (0, -1)) & (values < self.onset)
            object.__setattr__(self, name, np.where(unmarked, np.nan, values))
        twice = [name for name, count in Counter(self.id.tolist()).items() if count > 1 and name is not None]
        if twice:
            raise FednError(f"identifier {twice[0]!r} occurs more than once; every expression needs its own")
        self.refuse(np.array([name is None for name in self.video], bool), "a video's name is needed")
        self.refuse(~np.isfinite(self.onset), "an onset must be a frame number")
        self.refuse(np.isinf(self.offset), "an offset must be a frame number, or empty where it was not marked")
        if self.score is not None:
            self.refuse(~np.isfinite(self.score), "a score must be a number; leave the column out if there are none")
        if self.epoch is not None:
            self.refuse(~np.isfinite(self.epoch), "an epoch must be a whole number")

    def refuse(self, wrong: np.ndarray, reason: str) -> None:
        """Raise a [`FednError`] that names the first wrong row."""
        if wrong.any():
            row = int(wrong.argmax())
            score = "" if self.score is None else f", score {self.score[row]}"
            where = f"row {row} (video {self.video[row]}, onset {self.onset[row]}, offset {self.offset[row]}{score})"
            raise FednError(f"{where}: {reason}" + (f"; and {wrong.sum() - 1} more" if wrong.sum() > 1 else ""))

    def __len__(self) -> int:
        return len(self.video)

    def __getitem__(self, rows: Any) -> "Expressions":
        """The expressions at an index array, a mask or a slice."""
        taken = object.__new__(Expressions)  # what was checked once need not be checked again
        for field in fields(self):
            values = getattr(self, field.name)
            object.__setattr__(taken, field.name, None if values is None else values[rows])
        return taken

    def shifted(self, frames: float) -> "Expressions":
        """The same expressions, all `frames` later: 1 for 0-based frames beside 1-based ones."""
        return replace(self, onset=self.onset + frames, apex=self.apex + frames, offset=self.offset + frames)

    def with_types_by_duration(self, micro_max_s: float = 0.5) -> "Expressions":
        """
        The same expressions, those without a type called micro up to `micro_max_s` seconds and macro beyond; for
        detectors that do not say. An expression lasts `offset - onset + 1` whole frames.

        Raises:
            `FednError`: no frame rate.
        """
        self.refuse(np.isnan(self.fps), "the frame rate is needed to tell types by duration: give fps= (--fps)")
        frames = np.floor(self.offset) - np.floor(self.onset) + 1
        kind = np.where(frames <= micro_max_s * self.fps + 1e-9, "micro", "macro")
        unknown = np.array([name is None for name in self.type], dtype=bool)
        return replace(self, type=np.where(unknown, kind, self.type))

    @classmethod
    def from_rows(cls, rows: Iterable[Mapping[str, Any] | Sequence[Any]], fps: float | None = None) -> "Expressions":
        """
        Expressions of dictionaries, with the names of the columns as keys, or of tuples
        `(video, onset, offset[, type[, score[, label]]])`.

        Args:
            rows: may be empty.
            fps: frames per second of all rows that do not say.

        Raises:
            `FednError`: a key that is no column, a tuple of another length, a score in some rows only.
        """
        named = [row if isinstance(row, Mapping) else _from_tuple(row) for row in rows]
        names = {name for row in named for name in row}
        known = {field.name for field in fields(cls)}
        if names - known:
            raise FednError(f"no column {', '.join(sorted(names - known))}; there is {', '.join(sorted(known))}")
        for name in ("video", "onset"):
            for place, row in enumerate(named):
                if row.get(name) is None:
                    raise FednError(f"every expression needs {name}; row {place} has {', '.join(row) or 'nothing'}")
        needed = names | {"video", "onset", "offset"}
        columns = {name: [row.get(name) for row in named] for name in needed}
        for name in ("score", "epoch"):
            if name in columns and all(value is None for value in columns[name]):
                del columns[name]
        if fps is not None:
            given = columns.get("fps", [None] * len(named))
            columns["fps"] = [fps if _text(value) is None else value for value in given]
        return cls(**columns)

    @classmethod
    def from_nested(
        cls, videos: Iterable[Iterable[Mapping[str, Any]]], subjects: Sequence[str] | None = None
    ) -> "Expressions":
        """
        Expressions of one list of dictionaries per video, as the evaluate library passes them: videos are named by
        their number, empty texts and `None` are unknown.

        Args:
            videos: V lists, any of which may be empty.
            subjects: (V,) names.

        Example:
            >>> Expressions.from_nested([[{"onset": 3, "offset": 9, "type": "micro"}], []]).video.tolist()
            ['0']
        """
        rows = []
        for number, video in enumerate(videos):
            subject = None if subjects is None else subjects[number]
            rows += [{**row, "video": str(number), "subject": subject} for row in video]
        return cls.from_rows(rows)

    @classmethod
    def from_annotations(cls, annotations: Iterable[Any], subjects: Mapping[str, str] | None = None) -> "Expressions":
        """
        Expressions of [`ExpressionAnnotation`]s; a video is named by its file's name without folder and suffix.

        Args:
            annotations: one for each video.
            subjects: video -> subject, where they are known.

        Raises:
            `FednError`: two annotations of one video.
        """
        rows: list[dict[str, Any]] = []
        seen: set[str] = set()
        for annotation in annotations:
            video = Path(annotation.video["path"]).stem
            if video in seen:
                raise FednError(f"two annotations of the video {video!r}; give only one")
            seen.add(video)
            for interval in annotation:
                row = {name: getattr(interval, name) for name in ("label", "score", "type")}
                row |= {name: getattr(interval, f"{name}_frame") for name in ("onset", "apex", "offset")}
                fps = annotation.video.get("fps")
                rows.append({**row, "video": video, "subject": (subjects or {}).get(video), "fps": fps})
        return cls.from_rows(rows)

    @classmethod
    def from_csv(cls, path: str | Path, columns: Columns | None = None, fps: float | None = None) -> "Expressions":
        """
        Expressions of a CSV file, which may be gzipped.

        Args:
            path: the file. This package's own files name no video: then it is the file's name without suffix.
            columns: column of the table -> where it is in the file: a column's name, a format of several
                (`"{subject}_{video}"`; `"{score_text:.5}"` takes five characters), or a function of the row. Columns
                with the usual names need not be given; `""` leaves one out.
            fps: frames per second of all rows that do not say.

        Raises:
            `FednError`: no such file or column, or a value that no metric could use.
        """
        rows = [row for row in _read_table(path, columns, {field.name for field in fields(cls)})]
        for row in rows:
            row.setdefault("video", Path(str(path).removesuffix(".gz")).stem)
        try:
            return cls.from_rows(rows, fps)
        except FednError as error:
            raise FednError(f"{path}: {error}") from error

    @classmethod
    def read(cls, path: str | Path, fps: float | None = None, mapping: Any = None) -> "Expressions":
        """
        Expressions of a file or a folder of files: tables, annotations of this package, and what coders made with
        ELAN, Praat or BORIS. In a folder x.csv beside x.json says the same again, as `fedn detect -o` writes them: the
        JSON is read.

        Args:
            path: file or folder.
            fps: frames per second, for files that do not say.
            mapping: what tiers and codes of coders mean; see [`CodeMapping`].

        Raises:
            `FednError`: nothing to read there.
        """
        from .codings import read_codings

        return read_codings([path], fps, mapping).tables[0]


@dataclass(frozen=True)
class Videos:
    """
    The M videos of a corpus, also those in which nothing happens: needed for false alarms per minute, kappa and ICC.

    Args:
        video, subject: (M,) names; subjects may be `None`.
        num_frames: (M,) or `None`.
        fps: frames per second, (M,), one number, or `None`.

    Raises:
        `FednError`: a video that occurs twice.

    Example:
        >>> len(Videos(["v1", "v2"], num_frames=[900, 1800], fps=30))
        2
    """

    video: np.ndarray
    subject: np.ndarray = _UNKNOWN
    num_frames: np.ndarray = _UNKNOWN
    fps: np.ndarray = _UNKNOWN

    if TYPE_CHECKING:

        def __init__(
            self,
            video: Values,
            subject: Values | None = None,
            num_frames: Values | None = None,
            fps: Values | float | None = None,
        ) -> None: ...

    def __post_init__(self):
        count = len(self.video)
        for name in ("video", "subject"):
            values = getattr(self, name)
            texts = [None] * count if values is None else [_text(value) for value in values]
            object.__setattr__(self, name, np.array(texts, dtype=object))
        for name in ("num_frames", "fps"):
            values = getattr(self, name)
            values = [values] * count if values is None or np.isscalar(values) else values
            object.__setattr__(self, name, np.array([_number(value) for value in values], dtype=float))
        keys = list(zip(self.subject, self.video, strict=True))
        if len(set(keys)) < count:
            raise FednError(f"video {next(key for key in keys if keys.count(key) > 1)!r} occurs more than once")

    def __len__(self) -> int:
        return len(self.video)

    @classmethod
    def from_annotations(cls, annotations: Iterable[Any], subjects: Mapping[str, str] | None = None) -> "Videos":
        """Videos of [`ExpressionAnnotation`]s, named as in [`Expressions.from_annotations`]."""
        facts = [(Path(a.video["path"]).stem, a.video.get("num_frames"), a.video.get("fps")) for a in annotations]
        names, num_frames, fps = ([row[i] for row in facts] for i in range(3))
        return cls(names, [(subjects or {}).get(name) for name in names], num_frames, fps)

    @classmethod
    def from_csv(cls, path: str | Path, columns: Columns | None = None, fps: float | None = None) -> "Videos":
        """Videos of a CSV file; `columns` as in [`Expressions.from_csv`]."""
        rows = _read_table(path, columns, {"video", "subject", "num_frames", "fps"})
        unique = list({(row.get("subject"), row.get("video")): row for row in rows}.values())
        video, subject, num_frames = ([row.get(name) for row in unique] for name in ("video", "subject", "num_frames"))
        return cls(video, subject, num_frames, [fps if row.get("fps") is None else row["fps"] for row in unique])


def concatenate(tables: Sequence[Expressions]) -> Expressions:
    """
    One table of several; scores and epochs are kept if all tables that have rows have them.

    Example:
        >>> day, night = (Expressions.from_rows([(name, 0, 9)]) for name in ("day", "night"))
        >>> len(concatenate([day, night]))
        2
    """
    full = [table for table in tables if len(table)] or [Expressions.from_rows([])]
    columns: dict[str, Any] = {}
    for field in fields(Expressions):
        parts = [getattr(table, field.name) for table in full]
        columns[field.name] = None if any(part is None for part in parts) else np.concatenate(parts)
    return Expressions(**columns)


def _read_table(path: str | Path, columns: Columns | None, wanted: set[str]) -> list[dict[str, Any]]:
    opened = gzip.open if str(path).endswith(".gz") else open
    try:
        with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            header, rows = reader.fieldnames or [], list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error  # of the system: without a number
        raise FednError(f"{path}: not a CSV file that can be read: {reason}") from error
    places: dict[str, Any] = {
        name: next((alias for alias in _ALIASES[name] if alias in header), None) for name in wanted
    }
    if unknown := set(columns or {}) - wanted:
        raise FednError(f"{path}: no column {', '.join(sorted(unknown))}; there is {sorted(wanted)}")
    places = {name: place for name, place in {**places, **(columns or {})}.items() if place}
    try:
        return [{name: _cell(row, place) for name, place in places.items()} for row in rows]
    except (KeyError, ValueError, TypeError) as error:
        raise FednError(f"{path}: {error!r} while reading {columns}; its columns are {', '.join(header)}") from error


def _cell(row: Mapping[str, str], place: str | Callable[[Mapping[str, str]], Any]) -> Any:
    if callable(place):
        return place(row)
    return place.format(**row) if "{" in place else row[place]


def _from_tuple(row: Sequence[Any]) -> dict[str, Any]:
    if isinstance(row, str) or not 3 <= len(row) <= len(_TUPLE):
        raise FednError(f"a tuple holds ({', '.join(_TUPLE[:3])}[, {'[, '.join(_TUPLE[3:])}]]]), got {row!r}")
    return dict(zip(_TUPLE, row, strict=False))


def _text(value: Any) -> str | None:
    return None if value is None or value == "" or value != value else str(value)


def _number(value: Any) -> float:
    try:
        return np.nan if value is None or value == "" else float(value)
    except (TypeError, ValueError) as error:
        raise FednError(f"a number was expected, got {value!r}") from error


def _type(name: str | None) -> str | None:
    if name is None:
        return None
    plain = name.strip().lower()
    return next((kind for kind in ("macro", "micro") if plain.startswith(kind)), _TYPES.get(plain, plain))


__all__ = ["Expressions", "Videos", "concatenate"]
