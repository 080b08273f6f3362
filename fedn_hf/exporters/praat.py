"""Praat's TextGrid: an interval tier for each face and type, and one of details beside it.

A tier fills the whole recording, with empty intervals where nothing is. Praat draws both tiers with the same borders.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..media_fedn import FednError
from .marks import Mark, Span, Tier, annotation_of_marks, end_ms_of, tiers_of

if TYPE_CHECKING:
    from ..annotation import ExpressionAnnotation
    from .mapping import CodeMapping

_DETAILS = " details"


def write_textgrid(annotation: "ExpressionAnnotation", path: Path, target: Path) -> None:
    """A TextGrid in Praat's long form, UTF-8."""
    tiers = tiers_of(annotation) or [Tier("face 0", 0, None, [])]  # Praat knows no grid without tiers
    end_ms = end_ms_of(annotation, tiers)
    rows = [(tier.name, tier.spans, lambda span: span.code) for tier in tiers]
    rows += [
        (tier.name + _DETAILS, tier.spans, lambda span: span.details)
        for tier in tiers
        if any(span.details for span in tier.spans)
    ]
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.write('File type = "ooTextFile"\nObject class = "TextGrid"\n\n')
        file.write(f"xmin = 0\nxmax = {_seconds(end_ms)}\ntiers? <exists>\nsize = {len(rows)}\nitem []:\n")
        for number, (name, spans, text_of) in enumerate(rows, start=1):
            file.write(f'    item [{number}]:\n        class = "IntervalTier"\n        name = {_quoted(name)}\n')
            filled = list(_filled(spans, text_of, end_ms))
            file.write(
                f"        xmin = 0\n        xmax = {_seconds(end_ms)}\n        intervals: size = {len(filled)}\n"
            )
            for place, (start, stop, text) in enumerate(filled, start=1):
                file.write(
                    f"        intervals [{place}]:\n            xmin = {_seconds(start)}\n"
                    f"            xmax = {_seconds(stop)}\n            text = {_quoted(text)}\n"
                )


def _filled(spans: list[Span], text_of: Callable[[Span], str], end_ms: int) -> Iterator[tuple[int, int, str]]:
    """The spans, and what lies between them."""
    at = 0
    for span in spans:
        if span.start_ms > at:
            yield at, span.start_ms, ""
        yield span.start_ms, span.stop_ms, text_of(span)
        at = span.stop_ms
    if at < end_ms:
        yield at, end_ms, ""


def _seconds(thousandths: int) -> str:
    return f"{thousandths // 1000}.{thousandths % 1000:03}"


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def read_textgrid(path: Path, mapping: "CodeMapping | None") -> list["ExpressionAnnotation"]:
    """What we wrote, or a coder's tiers by a mapping; a point is an expression that lasts no time."""
    try:
        from praatio import textgrid
    except ImportError as error:
        raise FednError("TextGrids are read with praatio: pip install 'fedn_hf[export]'") from error
    from . import facts_beside

    grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=False, duplicateNamesMode="rename")
    names = set(grid.tierNames)
    details = {
        (name, entry.start): entry.label
        for name in names
        if name + _DETAILS in names
        for entry in grid.getTier(name + _DETAILS).entries
    }
    marks = []
    for name in grid.tierNames:
        if name.endswith(_DETAILS) and name.removesuffix(_DETAILS) in names:
            continue
        for entry in grid.getTier(name).entries:
            times = (entry.time, entry.time) if hasattr(entry, "time") else (entry.start, entry.end)
            marks.append(Mark(name, entry.label.replace('""', '"'), *times, details.get((name, times[0]), "")))
    return [annotation_of_marks(path, marks, mapping, next(iter(facts_beside(path)), None))]


__all__ = ["read_textgrid", "write_textgrid"]
