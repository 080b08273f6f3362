"""RTTM, the table of who speaks when, which tools for diarisation and its metrics take: here, who shows what when.

    SPEAKER <file> <channel: face + 1> <onset> <duration> <NA> <type> <label> <score> <NA>

Fields stand between spaces, so a space within one is written as in web addresses, %20. Apexes and frames have no
place.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from ..media_fedn import FednError
from .marks import annotation_of, readable, span_of

if TYPE_CHECKING:
    from ..annotation import ExpressionAnnotation
    from .mapping import CodeMapping

_NOTHING = "<NA>"
_FIELDS = 10


def write_rttm(annotation: "ExpressionAnnotation", path: Path, target: Path) -> None:
    """A line per expression, in seconds to the millisecond; the video goes by its name without folder and suffix."""
    video = _word(Path(annotation.video["path"]).stem)
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for start, stop, event in map(span_of, annotation):
            score = _NOTHING if event.score is None else f"{event.score:.6g}"
            times = f"{start / 1000:.3f} {(stop - start) / 1000:.3f}"
            names = f"{_word(event.type)} {_word(event.label)}"
            file.write(f"SPEAKER {video} {event.face_id + 1} {times} {_NOTHING} {names} {score} {_NOTHING}\n")


def _word(text: str | None) -> str:
    if text is None:
        return _NOTHING
    return re.sub(r"[\s%<>]", lambda found: quote(found[0], safe=""), readable(text))


def read_rttm(path: Path, mapping: "CodeMapping | None") -> list["ExpressionAnnotation"]:
    """One annotation for each file that is named; with a mapping a tier is the channel's number."""
    from . import facts_beside

    beside = facts_beside(path)
    mapping = None if beside else mapping  # what we wrote needs none
    events: dict[str, list] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        fields = line.split()
        if not fields or line.startswith(";") or fields[0] != "SPEAKER":
            continue
        try:
            if len(fields) not in (_FIELDS - 1, _FIELDS):
                raise FednError(f"{_FIELDS} fields were expected, got {len(fields)}")
            _, video, channel, onset, lasts, _, *texts = fields[:8]
            kind, label = (None if text == _NOTHING else unquote(text) for text in texts)
            event: dict[str, Any] = {"face_id": int(channel) - 1, "type": kind, "label": label}
            event |= {"onset_s": float(onset), "offset_s": float(onset) + float(lasts), "apex_s": None}
            event["score"] = None if fields[8] == _NOTHING else float(fields[8])
        except (FednError, ValueError) as error:
            raise FednError(f"line {number}: {error}") from error
        meaning = {} if mapping is None else mapping.meaning(channel, label or "")
        kept = [] if meaning is None else [{**event, **meaning, "type": meaning.get("type") or kind}]
        events.setdefault(unquote(video), []).extend(kept)
    if len(beside) == 1 and len(events) <= 1:
        return [annotation_of(path, next(iter(events.values()), []), beside[0])]
    if not events:
        if path.read_text(encoding="utf-8-sig").strip():
            raise FednError("it has no line that begins with SPEAKER")
        return [annotation_of(path, [], None)]
    return [annotation_of(path, rows, None, video) for video, rows in events.items()]


__all__ = ["read_rttm", "write_rttm"]
