"""BORIS, the event logger of behavioural science: a workbook that it imports, and what it exports.

An expression is a state event: two rows with its subject ("face 0"), code (the label) and modifier (the type), one
where it begins and one where it ends. BORIS pairs them by turns, so a second one of the same kind at the same time
gets a subject of its own, "face 0 (2)". Scores, apexes and frames stand in the comment of the first row.
"""

import itertools
import json
import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..media_fedn import FednError, install
from .marks import Mark, Span, annotation_of_marks, lanes, readable, span_of

if TYPE_CHECKING:
    from ..annotation import ExpressionAnnotation
    from .mapping import CodeMapping

_COLUMNS = ("time", "subject", "code", "modifier", "comment")
_MAX_SHEET_BYTES = 256 * 2**20
MOST_ROWS_BEFORE = 60  # older versions put facts about the observation above the table
_OUR_SUBJECT = re.compile(r"(face \d+)(?: \(\d+\))?")
_NAMES = {
    "time": ("time",),
    "start": ("start (s)",),
    "stop": ("stop (s)",),
    "subject": ("subject",),
    "code": ("code", "behavior"),
    "modifier": ("modifier", "modifiers"),
    "status": ("behavior type", "status"),
    "comment": ("comment", "comment start"),
    "video": ("media file name", "media file path", "media file", "observation id"),
}


class _Row(NamedTuple):
    """One moment of an observation."""

    time_s: float
    video: str
    subject: str
    code: str
    modifier: str
    status: str  # "START", "STOP", or "" where they take turns
    comment: str
    stop_s: float | None = None  # of a row that says it all


def write_boris(annotation: "ExpressionAnnotation", path: Path, target: Path) -> None:
    """A workbook with one sheet, for "Import observations" or "Import events" of BORIS."""
    openpyxl = _openpyxl()

    from . import facts_of

    book = openpyxl.Workbook(write_only=True)
    book.properties.creator = "fedn_hf"
    book.properties.description = json.dumps(facts_of(annotation))
    sheet = book.create_sheet("expressions")
    sheet.append(_COLUMNS)
    for time_ms, is_start, subject, span in _in_turns(annotation):
        kind = readable(span.event.type) if span.event.type else ""
        texts = [subject, span.code, kind, span.details if is_start else ""]
        sheet.append([time_ms / 1000, *(_text_cell(sheet, text) for text in texts)])
    book.save(path)


def _text_cell(sheet, text: str) -> Any:
    """A text that stays one, even if it begins like a formula."""
    if not text.startswith("="):
        return text
    from openpyxl.cell import WriteOnlyCell

    cell = WriteOnlyCell(sheet, text)
    cell.data_type = "s"
    return cell


def _in_turns(annotation: "ExpressionAnnotation") -> list[tuple[int, bool, str, Span]]:
    """Beginnings and ends in order of time; where one ends and the next begins, the end comes first."""
    groups: dict[tuple, list[Span]] = {}
    for event in annotation:
        span = span_of(event)
        groups.setdefault((event.face_id, event.type, span.code), []).append(span)
    rows = []
    for (face_id, _, _), spans in groups.items():
        for number, lane in enumerate(lanes(spans), start=1):
            subject = f"face {face_id}" if number == 1 else f"face {face_id} ({number})"
            for span in lane:
                rows += [(span.start_ms, True, subject, span), (span.stop_ms, False, subject, span)]
    return sorted(rows, key=lambda row: row[:3])


def _openpyxl():
    try:
        import openpyxl
    except ImportError as error:
        raise FednError(f"BORIS workbooks need openpyxl: {install('export')}") from error
    return openpyxl


# --- reading ------------------------------------------------------------------------------------------------------


def read_boris(path: Path, mapping: "CodeMapping | None") -> list["ExpressionAnnotation"]:
    """
    A workbook that BORIS exported ("tabular events" or "aggregated events"), or one of ours. With a mapping, tiers are
    subjects, and a code with modifiers is "code|modifier".
    """
    with zipfile.ZipFile(path) as archive:
        # Room is made for both sizes that a part claims, packed and unpacked.
        if (size := sum(max(part.file_size, part.compress_size) for part in archive.infolist())) > _MAX_SHEET_BYTES:
            raise FednError(f"unpacked it has {size} bytes, more than the {_MAX_SHEET_BYTES} that are read")
    book = _openpyxl().load_workbook(path, read_only=True, data_only=True, keep_links=False)
    try:
        description = book.properties.description if book.properties.creator == "fedn_hf" else None
        facts = json.loads(description) if description else None
        if not book.worksheets:
            raise FednError("the workbook has no sheet")
        rows = list(book.worksheets[0].iter_rows(values_only=True))
    finally:
        book.close()
    return annotations_of(path, rows, mapping, facts)


def is_export(header: Iterable[Any]) -> bool:
    """Whether these are the columns of a table of BORIS."""
    names = set(_plain(header))
    has_code = any(name in names for name in _NAMES["code"]) and "subject" in names
    return has_code and ("time" in names or "start (s)" in names)


def annotations_of(
    path: Path, rows: Sequence[Sequence[Any]], mapping: "CodeMapping | None", facts: dict[str, Any] | None = None
) -> list["ExpressionAnnotation"]:
    """The annotations in the rows of a table of BORIS, one for each video."""
    place = next((place for place, row in enumerate(rows[:MOST_ROWS_BEFORE]) if is_export(row)), None)
    if place is None:
        raise FednError("no row has the names of BORIS's columns: subject, code or Behavior, time or Start (s)")
    names = _plain(rows[place])
    places = {name: next((names.index(a) for a in aliases if a in names), None) for name, aliases in _NAMES.items()}
    modifiers = [number for number, name in enumerate(names) if name.startswith("modifier")]
    marks: dict[str, list[Mark]] = {}
    moments = [moment for cells in rows[place + 1 :] for moment in _moments(cells, places, modifiers)]
    for video, mark in _paired(moments, is_ours=tuple(names) == _COLUMNS):
        marks.setdefault(video, []).append(mark)
    if facts is not None or not marks:
        return [annotation_of_marks(path, itertools.chain(*marks.values()), mapping, facts)]
    return [annotation_of_marks(path, mine, mapping, None, video or None) for video, mine in marks.items()]


def _plain(header: Iterable[Any]) -> list[str]:
    return [str(name or "").strip().lower() for name in header]


def _moments(cells: Sequence[Any], places: dict[str, int | None], modifiers: Sequence[int]) -> Iterator[_Row]:
    """What a row of the table says: one moment, or of an aggregated event both."""

    def text(name: str) -> str:
        place = places[name]
        return "" if place is None or place >= len(cells) or cells[place] is None else str(cells[place]).strip()

    if not any(cell not in (None, "") for cell in cells):
        return
    modifier = "|".join(
        str(cells[n]).strip() for n in modifiers if n < len(cells) and cells[n] not in (None, "", "None")
    )
    who = (text("video"), text("subject"), text("code"), modifier)
    if places["time"] is None:
        yield _Row(_seconds(text("start")), *who, "", text("comment"), _seconds(text("stop")))
        return
    time_s, status = _seconds(text("time")), text("status").upper()
    if status not in ("", "START", "STOP", "POINT"):
        raise FednError(f"a behavior type START, STOP or POINT was expected, got {status[:40]!r}")
    yield _Row(time_s, *who, status, text("comment"), time_s if status == "POINT" else None)


def _seconds(text: str) -> float:
    """Seconds, or h:mm:ss.fff, in which BORIS can export, too."""
    seconds = 0.0
    try:
        for part in text.lstrip("-").split(":"):
            seconds = 60 * seconds + float(part.replace(",", "."))
    except ValueError:
        raise FednError(f"a time in seconds or h:mm:ss was expected, got {text[:40]!r}") from None
    return -seconds if text.startswith("-") else seconds


def _paired(moments: Iterable[_Row], is_ours: bool) -> Iterator[tuple[str, Mark]]:
    """Marks of beginnings and ends."""
    groups: dict[tuple, list[_Row]] = {}
    for row in moments:
        if row.stop_s is not None:
            yield row.video, _mark(row, row.stop_s, is_ours)
        else:
            groups.setdefault(row[1:5], []).append(row)
    for rows in groups.values():
        rows.sort(key=lambda row: row.time_s)
        for place in range(0, len(rows), 2):
            # One may end in the moment in which the next begins, whichever stands first.
            for later in range(place, min(place + 2, len(rows))):
                wrong = "START" if later % 2 else "STOP"
                if rows[later].status == wrong:
                    swap = later + 1
                    if swap == len(rows) or rows[swap].time_s != rows[later].time_s or rows[swap].status == wrong:
                        what = "begins while it already lasts" if later % 2 else "ends and had not begun"
                        raise FednError(f"{_named(rows[later])} {what}")
                    rows[later], rows[swap] = rows[swap], rows[later]
            if place + 1 == len(rows):
                raise FednError(f"{_named(rows[place])} begins and never ends")
            yield rows[place].video, _mark(rows[place], rows[place + 1].time_s, is_ours)


def _named(row: _Row) -> str:
    return f"{row.code[:80]!r} of {row.subject[:80] or 'nobody'} at {row.time_s:g} s"


def _mark(row: _Row, stop_s: float, is_ours: bool) -> Mark:
    """Of ours the modifier is the type; of others it belongs to the code."""
    if is_ours and (ours := _OUR_SUBJECT.fullmatch(row.subject)):
        # A number at the end keeps one that belongs to the type.
        tier = f"{ours[1]} {row.modifier} (1)" if row.modifier else ours[1]
        return Mark(tier, row.code, row.time_s, stop_s, row.comment)
    code = f"{row.code}|{row.modifier}" if row.modifier else row.code
    return Mark(row.subject, code, row.time_s, stop_s)


__all__ = ["MOST_ROWS_BEFORE", "annotations_of", "is_export", "read_boris", "write_boris"]
