"""Tables, a row for each expression: CSV and TSV for spreadsheets and statistics, Parquet for data frames.

CSV and TSV are read by people: times are to the millisecond and scores to four digits. Parquet and JSON are exact.

Spreadsheets run a cell that begins with =, +, -, @, a tab or a carriage return as a formula, wherever the text came
from. Such texts are written with an apostrophe before them, which the reader takes away again.
"""

import base64
import csv
import json
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..media_fedn import FednError
from . import boris
from .mapping import COLUMNS
from .marks import annotation_of

if TYPE_CHECKING:
    from ..annotation import ExpressionAnnotation, ExpressionInterval
    from .mapping import CodeMapping

_TIMES = ("onset_s", "apex_s", "offset_s", "onset_frame", "apex_frame", "offset_frame")
_FIELDS = ("label", "score", "type", *_TIMES, "face_id")
_SCORE = "score_"
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")
_METADATA = b"fedn_annotations"
_CURVES = b"fedn_curves"  # JSON as well, but packed: of two hours it would have twelve million characters
_MAX_CELLS = 25_000_000  # of a Parquet file, in which a thousand that are the same take no room
_ALIASES = {
    "video": ("video", "video_name", "file"),
    "onset_s": ("onset_s", "start_s"),
    "offset_s": ("offset_s", "end_s"),
    "onset_frame": ("onset_frame", "onset", "start_frame"),
    "offset_frame": ("offset_frame", "offset", "end_frame"),
    "apex_frame": ("apex_frame", "apex"),
    "label": ("label", "emotion", "code"),
}


# --- CSV and TSV --------------------------------------------------------------------------------------------------


def write_csv(annotations: Sequence["ExpressionAnnotation"], path: Path, target: Path) -> None:
    """A row per expression, between commas; texts that spreadsheets would run as formulas are guarded."""
    _write_text(annotations, path, ",")


def write_tsv(annotations: Sequence["ExpressionAnnotation"], path: Path, target: Path) -> None:
    """As `write_csv`, between tabs."""
    _write_text(annotations, path, "\t")


def read_csv(path: Path, mapping: "CodeMapping | None") -> list["ExpressionAnnotation"]:
    """A table of ours, of a coder, or of BORIS."""
    header, rows = read_rows(path)
    if any(boris.is_export(row) for row in [header, *rows[: boris.MOST_ROWS_BEFORE]]):
        return boris.annotations_of(path, [header, *rows], mapping)
    if len(set(header)) < len(header):
        raise FednError(f"two columns have the same name: {', '.join(header)[:200]}")
    return _annotations_of(path, header, [dict(zip(header, row, strict=False)) for row in rows], mapping)


def read_rows(path: Path) -> tuple[list[str], list[list[str]]]:
    """First row and all others, as spreadsheets in any country write them."""
    with open(path, encoding=_encoding(path), newline="") as file:
        first = file.readline()
        # Where a comma is the decimal mark, there are semicolons between cells.
        delimiter = max("\t;,", key=first.count)
        file.seek(0)
        rows = [[unguarded(cell) for cell in row] for row in csv.reader(file, delimiter=delimiter)]
    header, *rows = rows or [[]]
    if delimiter == ";":
        rows = [[cell.replace(",", ".") if _is_decimal(cell) else cell for cell in row] for row in rows]
    return header, rows


def is_ours(header: Sequence[str]) -> bool:
    """Whether a table has the columns that we write, and no others."""
    known = {*_FIELDS, "video"}
    return {"onset_s", "offset_s"} <= set(header) and all(n in known or n.startswith(_SCORE) for n in header)


read_tsv = read_csv


def shown(name: str, value: Any) -> Any:
    """A cell for people, of the column of this name: sixteen digits say no more than three or four."""
    if not isinstance(value, float):
        return value
    return round(value, 3 if name.endswith("_s") else 4)


def _write_text(annotations: Sequence["ExpressionAnnotation"], path: Path, delimiter: str) -> None:
    header = _header(annotations)
    with open(path, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(map(guarded, header))
        for annotation in annotations:
            for event in annotation:
                cells = zip(header, _cells(annotation, event, header), strict=True)
                writer.writerow([guarded(shown(name, value)) for name, value in cells])


def guarded(value: Any) -> Any:
    """A text that no spreadsheet takes for a formula; numbers as they are."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def unguarded(text: str) -> str:
    """The text that was guarded."""
    return text[1:] if text[:1] == "'" and text[1:].startswith(_FORMULA) else text


def _header(annotations: Sequence["ExpressionAnnotation"]) -> list[str]:
    """Columns of a table, the same for one video and for many."""
    labels = [label for annotation in annotations for label in annotation.labels]
    scored = dict.fromkeys(label for annotation in annotations for event in annotation for label in event.label_scores)
    columns = [f"{_SCORE}{label}" for label in dict.fromkeys([*labels, *scored]) if label in scored]
    return ["video", *_FIELDS, *columns]


def _cells(annotation: "ExpressionAnnotation", event: "ExpressionInterval", header: Sequence[str]) -> list[Any]:
    scores = [event.label_scores.get(name[len(_SCORE) :]) for name in header[1 + len(_FIELDS) :]]
    return [annotation.video["path"], *(getattr(event, name) for name in _FIELDS), *scores]


def _encoding(path: Path) -> str:
    with open(path, "rb") as file:
        return "utf-16" if file.read(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def _is_decimal(text: str) -> bool:
    whole, mark, part = text.strip().lstrip("+-").partition(",")
    return bool(mark) and whole.isdecimal() and part.isdecimal()


# --- Parquet ------------------------------------------------------------------------------------------------------


def write_parquet(annotations: Sequence["ExpressionAnnotation"], path: Path, target: Path) -> None:
    """The columns of CSV, and all that is no row in the file's metadata."""
    import pyarrow as pa
    from pyarrow import parquet

    from . import facts_of

    header = _header(annotations)
    rows = [_cells(annotation, event, header) for annotation in annotations for event in annotation]
    kinds = {name: pa.string() for name in ("video", "label", "type")}
    kinds |= {name: pa.int64() for name in header if name.endswith("_frame") or name == "face_id"}
    kinds = {name: kinds.get(name, pa.float64()) for name in header}
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(header)
    arrays = [
        pa.array([_utf8(value) for value in values] if kind == pa.string() else values, kind)
        for values, kind in zip(columns, kinds.values(), strict=True)
    ]
    facts = [{**facts_of(annotation), "intervals": len(annotation)} for annotation in annotations]
    curves = json.dumps([annotation.curves for annotation in annotations]).encode()
    metadata = {_METADATA: json.dumps(facts).encode(), _CURVES: base64.b64encode(zlib.compress(curves, 1))}
    schema = pa.schema([pa.field(_utf8(name), kind) for name, kind in kinds.items()])
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
        writer.add_key_value_metadata(metadata)  # as part of the schema it would be written twice


def read_parquet(path: Path, mapping: "CodeMapping | None") -> list["ExpressionAnnotation"]:
    """
    Everything of a file of ours; of other tables what their columns say, as for CSV.

    Raises:
        `FednError`: more rows than are read, or columns that are none of ours without a mapping.
    """
    from ..annotation import ExpressionAnnotation
    from . import MAX_BYTES

    header, rows, metadata = read_parquet_rows(path)
    known = metadata.get(_METADATA)
    if known is None:  # a table of somebody else, or one that has been worked on
        return _annotations_of(path, header, rows, mapping)
    annotations = []
    unpacked = zlib.decompressobj()
    curves = json.loads(unpacked.decompress(base64.b64decode(metadata[_CURVES]), MAX_BYTES))
    for facts, mine_curves in zip(json.loads(known), curves, strict=True):
        mine, rows = rows[: facts["intervals"]], rows[facts["intervals"] :]
        if len(mine) < facts["intervals"]:
            raise FednError("it has fewer rows than its metadata says")
        events = [_event(row) for row in mine]
        annotations.append(ExpressionAnnotation.from_dict({**facts, "curves": mine_curves, "intervals": events}))
    return annotations


def read_parquet_rows(
    path: Path, wanted: Sequence[str] | None = None
) -> tuple[list[str], list[dict[str, Any]], dict[bytes, bytes]]:
    """
    Names of columns, rows, and metadata. A text that stands in many rows is held once, as in the file: a megabyte of
    file may stand for terabytes.

    Args:
        wanted: columns, as far as they are there; else all that hold no lists and the like.

    Raises:
        `FednError`: more than is read.
    """
    import pyarrow as pa
    from pyarrow import parquet

    from . import MAX_BYTES

    with parquet.ParquetFile(path) as file:
        facts, schema = file.metadata, file.schema_arrow
    names = [one.name for one in schema if not pa.types.is_nested(one.type) and (wanted is None or one.name in wanted)]
    size = sum(facts.row_group(number).total_byte_size for number in range(facts.num_row_groups))
    if facts.num_rows * max(1, len(names)) > _MAX_CELLS or size > MAX_BYTES:
        raise FednError(
            f"{facts.num_rows} rows of {len(names)} columns with {size} bytes are more than the {_MAX_CELLS} cells "
            f"and {MAX_BYTES} bytes that are read"
        )
    with parquet.ParquetFile(path, read_dictionary=names) as file:
        table = file.read(names)
    cells = zip(*map(_cells_of, table.columns), strict=True)
    return names, [dict(zip(names, row, strict=True)) for row in cells], facts.metadata or {}


def _cells_of(column) -> Iterator[Any]:
    for part in column.chunks:
        if hasattr(part, "dictionary"):
            texts = part.dictionary.to_pylist()
            yield from (None if place is None else texts[place] for place in part.indices.to_pylist())
        else:
            yield from part.to_pylist()


def _event(row: Mapping[str, Any]) -> dict[str, Any]:
    fields = {name: row[name] for name in _FIELDS}
    scores = {name[len(_SCORE) :]: value for name, value in row.items() if name.startswith(_SCORE)}
    return {**fields, "label_scores": {label: value for label, value in scores.items() if value is not None}}


def _utf8(text: str | None) -> str | None:
    return None if text is None else text.encode("utf-8", "backslashreplace").decode()


# --- from rows to annotations -------------------------------------------------------------------------------------


def _annotations_of(
    path: Path, header: Sequence[str], rows: Iterable[Mapping[str, Any]], mapping: "CodeMapping | None"
) -> list["ExpressionAnnotation"]:
    """One annotation for each video that a table names, or for the file's name."""
    from . import facts_beside

    if facts_beside(path) or (is_ours(header) and mapping and not set(mapping.columns.values()) <= set(header)):
        mapping = None  # what we wrote needs none
    places = _places(header, mapping)
    beside = {facts["video"]["path"]: facts for facts in facts_beside(path)}
    events: dict[str | None, list] = {} if "video" in places else {None: []}
    for number, row in enumerate(rows, start=2):
        if all(value in (None, "") for value in row.values()):
            continue
        try:
            fields = _fields_of({name: row.get(place) for name, place in places.items()}, row, mapping)
        except (FednError, ValueError, OverflowError) as error:
            raise FednError(f"row {number}: {error}") from error
        if fields is not None:
            events.setdefault(fields.pop("video", None), []).append(fields)
    if len(beside) == 1 and len(events) <= 1:
        return [annotation_of(path, next(iter(events.values()), []), next(iter(beside.values())))]
    # A video in which nothing was found has no row; the file beside the table knows it.
    videos = dict.fromkeys([*beside, *events]) or [None]
    return [annotation_of(path, events.get(video, []), beside.get(video), video) for video in videos]


def _places(header: Sequence[str], mapping: "CodeMapping | None") -> dict[str, str]:
    """Column of ours -> column of the table."""
    places = {name: name for name in COLUMNS if name in header}
    for name, aliases in _ALIASES.items():
        if name not in places and (found := next((alias for alias in aliases if alias in header), None)):
            places[name] = found
    if mapping is not None:
        if absent := [theirs for theirs in mapping.columns.values() if theirs not in header]:
            raise FednError(f"no column {absent[0]!r}; there is {', '.join(header)[:300]}")
        replaced = {name.rpartition("_")[0] for name in mapping.columns}
        places = {name: place for name, place in places.items() if name.rpartition("_")[0] not in replaced - {""}}
        places |= mapping.columns
    if not any(f"onset_{unit}" in places for unit in ("s", "ms", "frame")):
        raise FednError(
            f"no column of onsets; its columns are {', '.join(map(str, header))[:300]}. A mapping file with `columns` "
            "says which is onset_s, onset_ms or onset_frame"
        )
    return places


def _fields_of(
    cells: Mapping[str, Any], row: Mapping[str, Any], mapping: "CodeMapping | None"
) -> dict[str, Any] | None:
    """The fields of an expression, and whose it is; `None` if the mapping leaves it out."""
    fields: dict[str, Any] = {name: cells.get(name) or None for name in ("video", "label", "type")}
    if fields["video"] is None:
        del fields["video"]
    if mapping is not None:
        meaning = mapping.meaning(fields["type"] or "", fields["label"] or "")
        if meaning is None:
            return None
        fields |= {"label": meaning["label"] or None, "type": meaning["type"] or fields["type"]}
    fields["face_id"] = whole_of(cells.get("face_id")) or 0
    fields["score"] = number_of(cells.get("score"))
    for moment in ("onset", "apex", "offset"):
        seconds, thousandths = (number_of(cells.get(f"{moment}_{unit}")) for unit in ("s", "ms"))
        fields[f"{moment}_s"] = thousandths / 1000 if seconds is None and thousandths is not None else seconds
        fields[f"{moment}_frame"] = whole_of(cells.get(f"{moment}_frame"))
    lasts = number_of(cells.get("duration_s"))
    if lasts is None and (thousandths := number_of(cells.get("duration_ms"))) is not None:
        lasts = thousandths / 1000
    if fields["offset_s"] is None and lasts is not None and fields["onset_s"] is not None:
        fields["offset_s"] = fields["onset_s"] + lasts
    if fields["onset_s"] is None:
        _seconds_of_frames(fields, mapping)
    scores = {k[len(_SCORE) :]: number_of(v) for k, v in row.items() if k.startswith(_SCORE)}
    fields["label_scores"] = {label: score for label, score in scores.items() if score is not None}
    return fields


def _seconds_of_frames(fields: dict[str, Any], mapping: "CodeMapping | None") -> None:
    """Frames are inclusive: the last one ends where the next begins."""
    if fields["onset_frame"] is None or fields["offset_frame"] is None:
        raise FednError("an onset and an offset are needed, in seconds or in frames")
    if mapping is None or mapping.fps is None:
        raise FednError("it has frames and no seconds; a mapping file with `fps` says how long a frame lasts")
    for moment, more in (("onset", 0), ("apex", 0), ("offset", 1)):
        frame = fields[f"{moment}_frame"]
        fields[f"{moment}_s"] = None if frame is None else (frame + more) / mapping.fps


def number_of(value: Any) -> float | None:
    """The number in a cell, `None` in an empty one; a `FednError` for all else."""
    if value is None or (isinstance(value, str) and value.strip() in ("", "n/a", "NA")):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise FednError(f"a number was expected, got {str(value)[:80]!r}") from None
    if not math.isfinite(number):
        raise FednError(f"a finite number was expected, got {str(value)[:80]!r}")
    return number


def whole_of(value: Any) -> int | None:
    """As `number_of`, for whole numbers."""
    number = number_of(value)
    if number is not None and number != int(number):
        raise FednError(f"a whole number was expected, got {str(value)[:80]!r}")
    return None if number is None else int(number)


__all__ = [
    "guarded",
    "is_ours",
    "number_of",
    "read_csv",
    "read_parquet",
    "read_parquet_rows",
    "read_rows",
    "read_tsv",
    "shown",
    "unguarded",
    "whole_of",
    "write_csv",
    "write_parquet",
    "write_tsv",
]
