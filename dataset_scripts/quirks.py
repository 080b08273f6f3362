"""The quirks of the label sheets: one named rule each, what it does by default, what else it can do, how often it met.

A sheet is kept as its authors distribute it; a rule says how its row becomes an event of the schema. Rules are chosen
by name, `rules={"offset_zero": "drop"}`, and every case that a rule meets is written into the log, whether it changed
anything or not. So nothing is altered or left out silently, and the counts of a paper can be checked against it.
"""

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from fedn_hf.media_fedn import FednError

from .labels import OBJECTIVE_CLASSES, TYPES, fold, is_known, spell

MICRO_LIMIT_S = 0.5  # a micro-expression lasts at most half a second by definition


class CorpusError(FednError):
    """A folder that is not the corpus that was asked for, or a sheet or choice that cannot be used."""


class Rule(NamedTuple):
    """A quirk in words, and what can be done about it."""

    quirk: str
    choices: dict[str, str]  # name -> what is done; the first is the default


RULES: dict[str, Rule] = {
    "offset_zero": Rule(
        "the offset is 0: the coders saw the expression begin but not end",
        {
            "apex": "the event ends with its apex",
            "mirror": "the event ends as long after its apex as it began before it",
            "drop": "leave the event out",
        },
    ),
    "apex_missing": Rule(
        "the apex is 0 or -1: the coders gave none",
        {"unknown": "the apex is None", "middle": "the frame between onset and offset", "drop": "leave the event out"},
    ),
    "apex_out_of_order": Rule(
        "the apex lies before the onset or after the offset",
        {"clamp": "the nearest frame of the event", "unknown": "the apex is None", "drop": "leave the event out"},
    ),
    "offset_before_onset": Rule(
        "the offset lies before the onset",
        {"drop": "leave the event out", "swap": "exchange the two"},
    ),
    "onset_before_clip": Rule(
        "the onset is the first frame or lies before it: the expression had begun when the clip begins",
        {"clip": "the event begins with the clip", "drop": "leave the event out"},
    ),
    "offset_past_end": Rule(
        "the offset lies after the last frame",
        {"clip": "the event ends with the clip", "drop": "leave the event out"},
    ),
    "overlap": Rule(
        "the event begins while an earlier one lasts",
        {"keep": "both stay", "drop": "leave the later one out"},
    ),
    "long_micro": Rule(
        "labelled micro-expression, but longer than half a second",
        {"keep": "the coders' label", "macro": "make it a macro-expression", "drop": "leave the event out"},
    ),
    "fractional_frames": Rule(
        "a frame number is no whole number: it was computed from another frame rate",
        {"round": "the nearest frame", "outward": "onset down, offset up, apex to the nearest"},
    ),
    "event_without_frames": Rule(
        "no frame of the event is in the copy on disk",
        {"drop": "leave the event out", "error": "stop"},
    ),
    "video_missing": Rule(
        "the sheet has events of a video that is not on disk",
        {"skip": "leave the video out", "error": "stop"},
    ),
    "sheet_missing": Rule(
        "the sheet has no events of a video on disk",
        {"keep": "a video without events", "skip": "leave the video out"},
    ),
    "video_twice": Rule(
        "two folders hold a video of the same name",
        {"first": "take the first in natural order", "error": "stop"},
    ),
    "upper_case_name": Rule(
        "a video is written in upper case",
        {"fold": "the same video as in lower case", "error": "stop"},
    ),
    "wrongly_labelled": Rule(
        "on the authors' list of events that were wrongly labelled micro-expressions",
        {
            "keep": "the type that the sheet gives",
            "macro": "make it a macro-expression",
            "drop": "leave the event out",
        },
    ),
    "version_missing": Rule(
        "no sheet's name has the version that was asked for",
        {"other": "read the last one there is", "error": "stop"},
    ),
    "blinks": Rule(
        "the sheet lists a blink",
        {"leave_out": "blinks are no expressions"},
    ),
    "emotion_sheet_differs": Rule(
        "the sheet of emotions gives the event other frames than the sheet of events",
        {"join": "the event's frames, the other's emotion", "unknown": "no emotion"},
    ),
    "emotion_sheet_alone": Rule(
        "the sheet of emotions has a micro-expression that the sheet of events lacks",
        {"keep": "an event without an apex", "drop": "leave it out"},
    ),
    "emotion_missing": Rule(
        "the sheets name no emotion",
        {
            "unknown": "the emotion is None",
            "objective_class": "the emotion that its class of action units is named after, where it has one",
        },
    ),
    "unknown_word": Rule(
        "an emotion is a word that no label scheme knows",
        {"unknown": "the emotion is None", "error": "stop"},
    ),
    "spelling": Rule(
        "an emotion is spelt in an unusual way",
        {"fold": "the usual word"},
    ),
    "damaged_frames": Rule(
        "the authors list the image as one that does not open",
        {"leave_out": "not a frame of the video", "keep": "take it as it is"},
    ),
    "poor_frames": Rule(
        "the authors list the image as one of poor quality",
        {"keep": "take it as it is", "leave_out": "not a frame of the video"},
    ),
    "frame_gaps": Rule(
        "the numbers of the images leave out some",
        {"close": "images follow each other without a gap", "repeat": "the image before the gap fills it"},
    ),
}


class Quirks:
    """
    The rules that are in force, and the log of the cases that they met.

    Args:
        rules: choices other than the defaults, rule -> choice.

    Raises:
        CorpusError: a rule or choice that there is not.

    Example:
        >>> quirks = Quirks({"offset_zero": "drop"})
        >>> quirks.meet("offset_zero", "s15_0402, onset 2155")
        'drop'
        >>> quirks.counts()
        {'offset_zero': 1}
    """

    def __init__(self, rules: Mapping[str, str] | None = None):
        self.choices = {name: next(iter(rule.choices)) for name, rule in RULES.items()}
        for name, choice in (rules or {}).items():
            if name not in RULES:
                raise CorpusError(f"there is no rule {name!r}; there is {', '.join(RULES)}")
            if choice not in RULES[name].choices:
                raise CorpusError(f"rule {name}: {choice!r} was given, expected {' or '.join(RULES[name].choices)}")
            self.choices[name] = choice
        self.met: dict[str, list[str]] = {}

    def meet(self, rule: str, where: str) -> str:
        """Write a case into the log and say what to do about it; "error" raises `CorpusError` at once."""
        self.met.setdefault(rule, []).append(where)
        if self.choices[rule] == "error":
            raise CorpusError(f"{where}: {RULES[rule].quirk} (rule {rule})")
        return self.choices[rule]

    def counts(self) -> dict[str, int]:
        """How many cases each rule met, in the order of `RULES`; rules that met none are not there."""
        return {name: len(self.met[name]) for name in RULES if name in self.met}

    def log(self) -> dict[str, dict]:
        """Everything as JSON data: rule -> quirk, choice, what that does, count, cases."""
        return {
            name: {
                "quirk": RULES[name].quirk,
                "choice": self.choices[name],
                "done": RULES[name].choices[self.choices[name]],
                "count": count,
                "cases": self.met[name],
            }
            for name, count in self.counts().items()
        }

    def __str__(self) -> str:
        lines = [
            f"{count:6d}  {name} -> {self.choices[name]}: {RULES[name].quirk}" for name, count in self.counts().items()
        ]
        return "\n".join(lines) or "no quirks met"


@dataclass(frozen=True)
class SheetEvent:
    """
    One row of a sheet. Frames are the numbers that the sheet gives, whatever they count from.

    Args:
        video_id: the video it belongs to.
        onset, apex, offset: frame numbers; the apex is None where the sheet has no such column.
        type: one of `TYPES`.
        emotion, self_report: words as written, or None.
        action_units: as the coders wrote them.
        name: the sheet's own name of the event, or "".
        objective_class: "I" to "VII", or None.

    Raises:
        CorpusError: no onset or offset, or another type.
    """

    video_id: str
    onset: float
    apex: float | None
    offset: float
    type: str
    emotion: str | None = None
    self_report: str | None = None
    action_units: str = ""
    name: str = ""
    objective_class: str | None = None

    def __post_init__(self):
        if self.onset is None or self.offset is None or self.type not in TYPES:
            given = f"onset {self.onset}, offset {self.offset}, type {self.type!r}"
            raise CorpusError(f"{self.video_id}: expected two frame numbers and {' or '.join(TYPES)}, got {given}")

    @property
    def where(self) -> str:
        """For the log: which event this is."""
        apex = "" if self.apex is None else f" {self.apex:g}"
        return f"{self.video_id}, {self.type[:5]} {self.onset:g}{apex} {self.offset:g}"


def to_events(
    rows: Sequence[SheetEvent], numbers: Sequence[int], fps: float, scheme: str, quirks: Quirks
) -> list[dict[str, object]]:
    """
    The events of one video as the schema has them: 0-based inclusive frames of the video, in order of onset.

    Args:
        rows: of this video.
        numbers: the sheet's number of every frame of the video, rising; `range(1, n + 1)` for a plain clip.
        fps: frames per second.
        scheme: one of `SCHEMES`.
        quirks: rules and log.
    """
    rows = _without_overlaps(sorted(rows, key=lambda row: row.onset), quirks)
    events = []
    for row in rows:
        where = row.where  # as the sheet has it
        for step in (_whole_frames, _offset, _type, _apex):
            row = row and step(row, fps, quirks, where)
        if row:
            words = _words(row, scheme, quirks, where)
            frames = _place(row, numbers, quirks, where)
            if frames:
                events.append({**frames, "type": row.type, **words, "action_units": row.action_units})
    return sorted(events, key=lambda event: (event["onset"], event["offset"]))


def _without_overlaps(rows: list[SheetEvent], quirks: Quirks) -> list[SheetEvent]:
    """Judged by the sheet's own numbers; an event without an offset overlaps nothing."""
    kept: list[SheetEvent] = []
    reached = -1.0
    for row in rows:
        known = row.offset >= row.onset
        if known and row.onset <= reached and quirks.meet("overlap", row.where) == "drop":
            continue
        reached = max(reached, row.offset) if known else reached
        kept.append(row)
    return kept


def _whole_frames(row: SheetEvent, fps: float, quirks: Quirks, where: str) -> SheetEvent | None:
    frames = (row.onset, row.apex, row.offset)
    if all(frame is None or frame == int(frame) for frame in frames):
        return row
    apex = None if row.apex is None else float(round(row.apex))
    if quirks.meet("fractional_frames", where) == "outward":
        return replace(row, onset=float(row.onset // 1), apex=apex, offset=float(-(-row.offset // 1)))
    return replace(row, onset=float(round(row.onset)), apex=apex, offset=float(round(row.offset)))


def _offset(row: SheetEvent, fps: float, quirks: Quirks, where: str) -> SheetEvent | None:
    if row.offset == 0 < row.onset:
        choice = quirks.meet("offset_zero", where)
        apex = max(row.apex or 0.0, row.onset)
        ends = {"apex": apex, "mirror": 2 * apex - row.onset}
        return replace(row, offset=ends[choice]) if choice in ends else None
    if row.offset < row.onset:
        if quirks.meet("offset_before_onset", where) == "drop":
            return None
        return replace(row, onset=row.offset, offset=row.onset)
    return row


def _type(row: SheetEvent, fps: float, quirks: Quirks, where: str) -> SheetEvent | None:
    if row.type == "micro-expression" and (row.offset - row.onset + 1) / fps > MICRO_LIMIT_S:
        choice = quirks.meet("long_micro", where)
        return {"keep": row, "macro": replace(row, type="macro-expression"), "drop": None}[choice]
    return row


def _apex(row: SheetEvent, fps: float, quirks: Quirks, where: str) -> SheetEvent | None:
    if row.apex is None or row.onset <= row.apex <= row.offset:
        return row
    if row.apex <= 0:
        choice = quirks.meet("apex_missing", where)
        apex = (row.onset + row.offset) // 2 if choice == "middle" else None
    else:
        choice = quirks.meet("apex_out_of_order", where)
        apex = min(max(row.apex, row.onset), row.offset) if choice == "clamp" else None
    return None if choice == "drop" else replace(row, apex=apex)


def _place(row: SheetEvent, numbers: Sequence[int], quirks: Quirks, where: str) -> dict[str, int | None] | None:
    """Frame numbers of the sheet as positions among the frames there are."""
    if not numbers:
        quirks.meet("event_without_frames", where)
        return None
    if row.onset <= numbers[0] and quirks.meet("onset_before_clip", where) == "drop":
        return None
    if row.offset > numbers[-1] and quirks.meet("offset_past_end", where) == "drop":
        return None
    onset = bisect.bisect_left(numbers, row.onset)
    offset = bisect.bisect_right(numbers, row.offset) - 1
    if onset > offset:
        quirks.meet("event_without_frames", where)
        return None
    apex = None if row.apex is None else min(max(bisect.bisect_left(numbers, row.apex), onset), offset)
    return {"onset": onset, "apex": apex, "offset": offset}


def _words(row: SheetEvent, scheme: str, quirks: Quirks, where: str) -> dict[str, str | None]:
    words = {"emotion": row.emotion, "self_report": row.self_report}
    if row.emotion is None and quirks.meet("emotion_missing", where) == "objective_class":
        words["emotion"] = OBJECTIVE_CLASSES.get(row.objective_class or "")
    for column, word in words.items():
        if word is None:
            continue
        if not is_known(word):
            quirks.meet("unknown_word", f"{where}: {column} {word!r}")
            word = None
        elif spell(word) != word.strip().lower():
            quirks.meet("spelling", f"{where}: {word!r} is {spell(word)!r}")
        words[column] = fold(word, scheme)
    return words


__all__ = ["RULES", "CorpusError", "Quirks", "Rule", "SheetEvent", "to_events"]
