"""What the formats share: tiers without overlaps, whole milliseconds, texts that every program can read, details.

A mark is a span in a named tier with a code, as coders' programs have it. Expressions become marks in tiers by face
and type, "face 0 micro-expression", with the label as code; what a mark has no place for stands in a short text of
details that people can read, such as "score=0.93 at=12.300-12.600 apex=12.400 frames=369,372,377". Where somebody has
moved a mark since, apex and frames are no longer true and count no more.
"""

import heapq
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..media_fedn import FednError

if TYPE_CHECKING:
    from ..annotation import ExpressionAnnotation, ExpressionInterval
    from .mapping import CodeMapping

# What XML 1.0 forbids, what ends lines, and halves of characters.
_UNREADABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]+")
_OUR_TIER = re.compile(r"face (\d{1,9})( .+)?", re.DOTALL)
_NUMBERED = re.compile(r" \(\d+\)$")
_NO_LABEL = "expression"
_MOVED_S = 0.0015  # a millisecond is lost by rounding


class Mark(NamedTuple):
    """A span that somebody has marked: in which tier, with which code, and what else is said about it."""

    tier: str
    code: str
    onset_s: float
    offset_s: float
    details: str = ""


class Span(NamedTuple):
    """An expression in whole milliseconds, at least one of them."""

    start_ms: int
    stop_ms: int
    event: "ExpressionInterval"

    @property
    def code(self) -> str:
        """What stands in the tier: the label, or the type of an expression without one."""
        return readable(self.event.label or self.event.type or _NO_LABEL)

    @property
    def details(self) -> str:
        """What the mark has no place for."""
        event = self.event
        said = [] if event.score is None else [f"score={event.score:.6g}"]
        if event.apex_s is not None or event.onset_frame is not None:
            said.append(f"at={self.start_ms / 1000:.3f}-{self.stop_ms / 1000:.3f}")
        said += [] if event.apex_s is None else [f"apex={max(0.0, event.apex_s):.3f}"]
        frames = (event.onset_frame, event.apex_frame, event.offset_frame)
        if event.onset_frame is not None:
            said.append("frames=" + ",".join("-" if frame is None else str(frame) for frame in frames))
        return " ".join([*said, *(["unlabelled"] if event.label is None else [])])


class Tier(NamedTuple):
    """Spans of one face and type that do not overlap, in order."""

    name: str
    face_id: int
    type: str | None
    spans: list[Span]


def readable(text: str) -> str:
    """A text without control characters and line ends."""
    return _UNREADABLE.sub(" ", text).strip() or "?"


def span_of(event: "ExpressionInterval") -> Span:
    """Whole milliseconds. Programs refuse spans that last no time, so these last one; all stay within one."""
    start, stop = (round(max(0.0, seconds) * 1000) for seconds in (event.onset_s, event.offset_s))
    if stop <= start:
        start = math.floor(max(0.0, event.onset_s) * 1000 + 1e-6)
        stop = start + 1
    return Span(start, stop, event)


def tiers_of(annotation: "ExpressionAnnotation") -> list[Tier]:
    """
    Tiers by face and type. What overlaps goes to further tiers of the same name with a number, "(2)" and so on.
    """
    groups: dict[tuple[int, str | None], list[Span]] = {}
    for event in annotation:
        groups.setdefault((event.face_id, event.type), []).append(span_of(event))
    order: dict[str | None, int] = {kind: place for place, kind in enumerate(annotation.types)}
    tiers = []
    for face_id, kind in sorted(groups, key=lambda k: (k[0], order.get(k[1], len(order)), k[1] is None, k[1] or "")):
        name = f"face {face_id}" if kind is None else f"face {face_id} {readable(kind)}"
        for number, spans in enumerate(lanes(groups[face_id, kind]), start=1):
            # A type that ends like a number gets one, so that it can be told apart.
            numbered = number > 1 or _NUMBERED.search(name)
            tiers.append(Tier(f"{name} ({number})" if numbered else name, face_id, kind, spans))
    return tiers


def lanes(spans: Iterable[Span]) -> list[list[Span]]:
    """Spans without overlaps, in order: each in the first lane that is free."""
    found: list[list[Span]] = []
    busy: list[tuple[int, int]] = []  # until when, which lane
    free: list[int] = []
    for span in sorted(spans, key=lambda span: span[:2]):
        while busy and busy[0][0] <= span.start_ms:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if not free:
            found.append([])
            free = [len(found) - 1]
        lane = heapq.heappop(free)
        found[lane].append(span)
        heapq.heappush(busy, (span.stop_ms, lane))
    return found


def end_ms_of(annotation: "ExpressionAnnotation", tiers: Sequence[Tier]) -> int:
    """Milliseconds of the recording; at least those until the last expression ends."""
    ends = [tier.spans[-1].stop_ms for tier in tiers if tier.spans]
    return max([1, math.ceil(1000 * (annotation.video.get("duration_s") or 0.0)), *ends])


def face_and_type(tier: str) -> tuple[int, str | None] | None:
    """What the name of one of our tiers holds; `None` for others."""
    ours = _OUR_TIER.fullmatch(_NUMBERED.sub("", tier))
    return None if ours is None else (int(ours[1]), ours[2][1:] if ours[2] else None)


# --- and back -----------------------------------------------------------------------------------------------------


def annotation_of_marks(
    path: Path,
    marks: Iterable[Mark],
    mapping: "CodeMapping | None",
    facts: Mapping[str, Any] | None,
    video: str | None = None,
) -> "ExpressionAnnotation":
    """
    The annotation that marks stand for: by our own names of tiers where all are ours, or else by the mapping.

    Args:
        path, facts, video: as `annotation_of` takes them.
        marks: in any order.
        mapping: for tiers of somebody else.

    Raises:
        `FednError`: tiers of somebody else without a mapping, or a code that the mapping does not have.
    """
    marks = list(marks)
    theirs = [tier for tier in dict.fromkeys(mark.tier for mark in marks) if face_and_type(tier) is None]
    if theirs and mapping is None:
        codes = ", ".join(map(repr, dict.fromkeys(mark.code for mark in marks if mark.tier in set(theirs[:20]))))
        raise FednError(
            f"its tiers are {', '.join(map(repr, theirs[:20]))} with the codes {codes[:300]}; a mapping file says "
            "what they mean (--mapping)"
        )
    if not theirs and (marks or mapping is None):
        return annotation_of(path, _events(marks, None), facts, video)
    known = facts["video"] if facts else video
    return annotation_of(path, _events(marks, mapping), None, known)


def _events(marks: Iterable[Mark], mapping: "CodeMapping | None") -> list[dict[str, Any]]:
    found = []
    for mark in marks:
        if mapping is None:
            face_id, kind = face_and_type(mark.tier) or (0, None)
            meaning: dict[str, Any] | None = {"face_id": face_id, "type": kind, "label": mark.code}
        else:
            meaning = mapping.meaning(mark.tier, mark.code)
        if meaning is not None:
            found.append({**meaning, **_details(mark), "onset_s": mark.onset_s, "offset_s": mark.offset_s})
            if mapping is None and "unlabelled" in mark.details.split():
                found[-1]["label"] = None
    return found


def _details(mark: Mark) -> dict[str, Any]:
    """What `Span.details` said; nothing of a text that says something else."""
    known = dict(word.split("=", 1) for word in mark.details.split() if "=" in word)
    details: dict[str, Any] = {"score": None, "apex_s": None}
    try:
        if "score" in known:
            details["score"] = float(known["score"])
        times = [float(text) for text in known["at"].split("-")] if "at" in known else [math.inf]
        if len(times) != 2 or max(abs(times[0] - mark.onset_s), abs(times[1] - mark.offset_s)) > _MOVED_S:
            return details
        if "apex" in known:
            # Rounded, it may have left its span.
            details["apex_s"] = min(max(mark.onset_s, float(known["apex"])), mark.offset_s)
        if "frames" in known:
            frames = [None if text == "-" else int(text) for text in known["frames"].split(",")]
            details |= dict(zip(("onset_frame", "apex_frame", "offset_frame"), frames, strict=True))
    except ValueError:
        return {"score": None, "apex_s": None}
    return details


def annotation_of(
    path: Path,
    events: Sequence[Mapping[str, Any]],
    facts: Mapping[str, Any] | None,
    video: Mapping[str, Any] | str | None = None,
) -> "ExpressionAnnotation":
    """
    An annotation of the fields of its expressions and, where a file of ours says them, the facts about it.

    Args:
        path: the file, whose name a video without one gets.
        events: keyword arguments of [`ExpressionInterval`].
        facts: as `facts_of` gives them, or `None`.
        video: the video as the file says it, or its path.
    """
    from ..annotation import ExpressionAnnotation, ExpressionInterval
    from ..results_fedn import SCHEMA
    from . import stem_of

    if facts is not None:
        if not isinstance(facts, Mapping):
            raise FednError(f"facts about an annotation were expected, got {str(facts)[:80]!r}")
        return ExpressionAnnotation.from_dict({**facts, "intervals": list(events)})
    if video is None:
        video = stem_of(path)
    intervals = [ExpressionInterval(**event) for event in events]
    return ExpressionAnnotation(
        {"path": video} if isinstance(video, str) else video,  # type: ignore[arg-type]  # which is checked there
        intervals,
        labels=sorted({event.label for event in intervals if event.label is not None}),
        types=sorted({event.type for event in intervals if event.type is not None}),
        provenance={"read_from": str(path), "schema": SCHEMA},
    )


__all__ = [
    "Mark",
    "Span",
    "Tier",
    "annotation_of",
    "annotation_of_marks",
    "end_ms_of",
    "face_and_type",
    "lanes",
    "readable",
    "span_of",
    "tiers_of",
]
