"""Subtitles that a player shows over the video: WebVTT and SRT.

A cue shows type and label. In WebVTT its identifier, which nobody sees, holds tier and details; SRT has no place for
them but a second line.
"""

import html
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..media_fedn import FednError, install
from .marks import Mark, Span, Tier, annotation_of_marks, face_and_type, readable, tiers_of

if TYPE_CHECKING:
    from ..annotation import ExpressionAnnotation
    from .mapping import CodeMapping

_NOTE = "NOTE fedn_hf "
_HIDDEN_ARROW = "--\u200b>"
_TIME = re.compile(r"(?:(\d{1,6}):)?(\d{1,2}):(\d{1,2})[.,](\d{1,3})")
_OUR_CUE = re.compile(r"(face \d.*) \|(?: (.*))?")
_CAPTIONS = "captions"  # the tier of subtitles that somebody else has written


def write_vtt(annotation: "ExpressionAnnotation", path: Path, target: Path) -> None:
    """A cue per expression, named by its tier and details; provenance stands in a comment at the top."""
    from . import facts_of

    with open(path, "w", encoding="utf-8", newline="\n") as file:
        # A comment must not hold an arrow.
        file.write("WEBVTT\n\n" + _NOTE + json.dumps(facts_of(annotation)).replace(">", "\\u003e") + "\n")
        for tier, span in _in_order(annotation):
            known = _without_arrow(f"{tier.name} | {span.details}")
            times = f"{_clock(span.start_ms, '.')} --> {_clock(span.stop_ms, '.')}"
            file.write(f"\n{known}\n{times}\n{html.escape(_shown(tier, span), quote=False)}\n")


def write_srt(annotation: "ExpressionAnnotation", path: Path, target: Path) -> None:
    """A numbered subtitle per expression, whose last line holds tier and details: SRT has no names and no comments."""
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for number, (tier, span) in enumerate(_in_order(annotation), start=1):
            times = f"{_clock(span.start_ms, ',')} --> {_clock(span.stop_ms, ',')}"
            shown = _without_arrow(f"{_shown(tier, span)}\n{tier.name} | {span.details}")
            file.write(f"{number}\n{times}\n{shown}\n\n")


def _without_arrow(text: str) -> str:
    """The arrow belongs to times: one in a text gets a space that nobody sees."""
    return text.replace("-->", _HIDDEN_ARROW)


def _in_order(annotation: "ExpressionAnnotation") -> list[tuple[Tier, Span]]:
    rows = [(tier, span) for tier in tiers_of(annotation) for span in tier.spans]
    return sorted(rows, key=lambda row: (row[1].start_ms, row[0].face_id, row[0].name))


def _shown(tier: Tier, span: Span) -> str:
    return span.code if tier.type is None or span.event.label is None else f"{readable(tier.type)}: {span.code}"


def _clock(thousandths: int, mark: str) -> str:
    seconds, thousandths = divmod(thousandths, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{mark}{thousandths:03}"


def read_vtt(path: Path, mapping: "CodeMapping | None") -> list["ExpressionAnnotation"]:
    """What we wrote, or anybody's captions by a mapping, as a tier "captions"."""
    text = path.read_text(encoding="utf-8-sig")
    facts = None
    if note := re.search(rf"^{_NOTE}(.*)$", text, re.MULTILINE):
        facts = json.loads(note[1])
    marks = [
        _mark(cue.identifier or "", html.unescape(cue.raw_text), cue) for cue in _cues().from_string(text, strict=True)
    ]
    return [annotation_of_marks(path, marks, mapping, facts)]


def read_srt(path: Path, mapping: "CodeMapping | None") -> list["ExpressionAnnotation"]:
    """As `read_vtt`, with the provenance that lies beside the file."""
    from . import facts_beside

    cues = _cues()
    is_empty = not path.read_text(encoding="utf-8-sig").strip()
    marks = []
    for cue in [] if is_empty else cues.from_srt(str(path)):
        text, _, last = cue.raw_text.rpartition("\n")
        marks.append(_mark(last, text, cue) if text and _OUR_CUE.fullmatch(last) else _mark("", cue.raw_text, cue))
    return [annotation_of_marks(path, marks, mapping, next(iter(facts_beside(path)), None))]


def _cues():
    try:
        from webvtt import WebVTT
    except ImportError as error:
        raise FednError(f"subtitles are read with webvtt-py: {install('export')}") from error
    return WebVTT


def _mark(known: str, text: str, cue: Any) -> Mark:
    """A cue of ours by what we know it by, or the words of somebody else."""
    times = (_seconds(cue.start), _seconds(cue.end))
    known, text = (words.replace(_HIDDEN_ARROW, "-->") for words in (known, text))
    if not (ours := _OUR_CUE.fullmatch(known)):
        return Mark(_CAPTIONS, " ".join(text.split()), *times)
    tier, details = ours[1], ours[2] or ""
    _, kind = face_and_type(tier) or (None, None)
    is_labelled = "unlabelled" not in details.split()
    return Mark(tier, text.removeprefix(f"{kind}: ") if kind and is_labelled else text, *times, details)


def _seconds(clock: str) -> float:
    if (found := _TIME.fullmatch(clock)) is None:
        raise FednError(f"times like 00:01:02.500 were expected, got {clock[:40]!r}")
    hours, minutes, seconds, thousandths = found.groups()
    whole = 3600 * int(hours or 0) + 60 * int(minutes) + int(seconds)
    return (1000 * whole + int(thousandths.ljust(3, "0"))) / 1000


__all__ = ["read_srt", "read_vtt", "write_srt", "write_vtt"]
