"""A review of one video: what the network found, where the thresholds are, and what a person says instead.

A review never changes: every step gives a new one, and those before it are kept for undoing. What a person has decided
holds whatever the thresholds are; everything else follows them at once, for the network is not asked again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch

from ..annotation import ExpressionAnnotation, ExpressionInterval
from ..media_fedn import FednError
from ..results_fedn import FednDetections

LOWEST_SCORE = 0.05  # below it there is little but noise, and of a long video a great deal of it
_CURVE_POINTS = 1500
_MOMENTS = ("onset", "apex", "offset")


@dataclass(frozen=True)
class Edit:
    """What was found (`None` for what a person added), and what a person says instead (`None`: there is nothing)."""

    was: ExpressionInterval | None
    now: ExpressionInterval | None

    @property
    def kind(self) -> str:
        """ "added", "corrected" or "deleted"; "nothing" for what was added and deleted again."""
        if self.now is None:
            return "nothing" if self.was is None else "deleted"
        return "added" if self.was is None else "corrected"


@dataclass(frozen=True)
class Review:
    """
    Args:
        raw: what the network said about the video.
        base: all of the result but its expressions, which never changes.
        found: what the network finds with these thresholds, by keys that do not depend on them.
        lowest: lowest score by type; the checkpoint's own threshold for types that it leaves out.
        min_duration_s: shortest expression that is found, in seconds.
        edits: what a person has decided, by the key of the event.

    Example:
        >>> import torch
        >>> nobody = FednDetections({"path": "a.mp4"}, ["anger"], ["macro", "micro"], 0.5, {}, torch.arange(90) / 30,
        ...                         torch.arange(90), [])
        >>> key, review = Review.of(nobody).add(type="macro", label="anger", onset_s=1.0, offset_s=2.0)
        >>> [(event.label, event.onset_frame, event.offset_frame) for event in review.annotation()]
        [('anger', 30, 59)]
        >>> len(review.delete(key).annotation()), len(review.undo().annotation())
        (0, 0)
    """

    raw: FednDetections
    base: ExpressionAnnotation
    found: Mapping[str, ExpressionInterval] = field(default_factory=dict)
    lowest: Mapping[str, float] = field(default_factory=dict)
    min_duration_s: float = 0.0
    edits: Mapping[str, Edit] = field(default_factory=dict)
    past: tuple[Mapping[str, Edit], ...] = ()
    future: tuple[Mapping[str, Edit], ...] = ()

    @classmethod
    def of(cls, raw: FednDetections) -> "Review":
        """The review of a video in which nothing has been changed yet."""
        return cls(raw, ExpressionAnnotation.from_dict({**raw.describe(), "intervals": []})).with_thresholds({})

    def lowest_of(self, kind: str) -> float:
        """The score from which on expressions of a type are shown."""
        return self.lowest.get(kind, self.raw.score_threshold)

    @cached_property
    def events(self) -> dict[str, ExpressionInterval]:
        """What there is now: what is found, and what a person says, in order of onset."""
        now = {**self.found, **{key: edit.now for key, edit in self.edits.items()}}
        there = [(key, event) for key, event in now.items() if event is not None]
        return dict(sorted(there, key=lambda item: (item[1].onset_s, item[1].face_id)))

    def origin(self, key: str) -> str:
        """Who says so: "network", or that a person "corrected" or "added" it."""
        return self.edits[key].kind if key in self.edits else "network"

    # --- steps ---

    def with_thresholds(self, lowest: Mapping[str, float], min_duration_s: float = 0.0) -> "Review":
        """The same with other thresholds."""
        new = replace(self, lowest=dict(lowest), min_duration_s=min_duration_s)
        rows = self.raw.expressions(
            score_thresholds={kind: new.lowest_of(kind) for kind in self.raw.types}, min_duration_s=min_duration_s
        )
        found: dict[str, ExpressionInterval] = {}
        for row in sorted(rows, key=lambda row: -row["score"]):
            key = "{face_id} {type} {onset_s:.6f} {offset_s:.6f}".format(**row)
            while key in found:  # the same interval again, with a lower score
                key += "+"
            found[key] = ExpressionInterval(**row)
        return replace(new, found=found)

    def correct(self, key: str, **changes: Any) -> "Review":
        """
        Say what an event really is.

        Args:
            key: of `events`.
            changes: `onset_s`, `apex_s`, `offset_s`, `type`, `label`, `face_id`. Frames follow from seconds.

        Raises:
            `FednError`: there is no such event, or times that cannot be.
        """
        event = self._known(key)
        now = self._by_hand(**{**{name: getattr(event, name) for name in _BY_HAND}, **changes})
        if all(getattr(now, name) == getattr(event, name) for name in _BY_HAND):
            return self
        was = self.edits[key].was if key in self.edits else event
        return self._with(key, Edit(was, now))

    def add(self, **event: Any) -> tuple[str, "Review"]:
        """As `correct`, for an event that was not found; gives its key, too."""
        numbers = [int(key.removeprefix("hand ")) for key in self.edits if key.startswith("hand ")]
        key = f"hand {max(numbers, default=0) + 1}"
        return key, self._with(key, Edit(None, self._by_hand(**event)))

    def delete(self, key: str) -> "Review":
        """Say that there is nothing."""
        event = self._known(key)
        return self._with(key, Edit(self.edits[key].was if key in self.edits else event, None))

    def undo(self) -> "Review":
        """As it was before the last correction; thresholds stay."""
        if not self.past:
            return self
        return replace(self, edits=self.past[-1], past=self.past[:-1], future=(self.edits, *self.future))

    def redo(self) -> "Review":
        """What was undone last, again."""
        if not self.future:
            return self
        return replace(self, edits=self.future[0], past=(*self.past, self.edits), future=self.future[1:])

    def _known(self, key: str) -> ExpressionInterval:
        if key not in self.events:
            raise FednError("no expression is chosen, or it is no longer there; choose one on the timeline")
        return self.events[key]

    def _with(self, key: str, edit: Edit) -> "Review":
        return replace(self, edits={**self.edits, key: edit}, past=(*self.past, self.edits), future=())

    def _by_hand(
        self,
        type: str | None,
        onset_s: float,
        offset_s: float,
        apex_s: float | None = None,
        label: str | None = None,
        face_id: int = 0,
    ) -> ExpressionInterval:
        """An event as a person gives it: without scores, which would be the network's about something else."""
        end_s = self.duration_s
        if onset_s is None or offset_s is None:
            raise FednError("an expression needs an onset and an offset in seconds")
        if not 0 <= onset_s < offset_s <= end_s + 0.05:
            raise FednError(
                f"onset < offset must hold within the video (0 to {end_s:.2f} s), got {onset_s:g} and {offset_s:g} s"
            )
        if apex_s is not None and not onset_s <= apex_s <= offset_s:
            raise FednError(
                f"the apex must lie between onset and offset ({onset_s:g} and {offset_s:g} s), got {apex_s:g} s; "
                "leave it empty if you do not know"
            )
        first, last = self._frame(onset_s), self._frame(offset_s, ends=True)
        apex = None if apex_s is None else min(max(first, self._frame(apex_s)), max(first, last))
        return ExpressionInterval(label, None, type, onset_s, apex_s, offset_s, first, apex, max(first, last), face_id)

    def _frame(self, time_s: float, ends: bool = False) -> int:
        """The file's number of the frame that is shown at a time, or that ends there."""
        place = int(torch.searchsorted(self.raw.time_s, time_s + (-1e-6 if ends else 1e-6), right=not ends))
        return int(self.raw.native_frame[max(0, place - 1)])

    @property
    def duration_s(self) -> float:
        """Seconds of the video, or to the last frame that was looked at where the file does not say."""
        return float(self.raw.video.get("duration_s") or self.raw.time_s[-1])

    @property
    def fps(self) -> float:
        """Frames per second of the file; as they are counted, where it says something else: cameras often say 1000."""
        frames, times = self.raw.native_frame, self.raw.time_s
        if len(times) < 2:
            return float(self.raw.video.get("fps") or 30.0)
        counted = float(frames[-1] - frames[0]) / float(times[-1] - times[0])
        declared = float(self.raw.video.get("fps") or 0)
        return declared if abs(declared - counted) < 0.1 * counted else counted

    # --- what comes of it ---

    def annotation(self) -> ExpressionAnnotation:
        """
        The result. Its provenance says with which thresholds it was found and, if a person has changed anything, what
        was there before (`corrected_by_hand`).
        """
        lowest = {kind: self.lowest_of(kind) for kind in self.raw.types}
        settings = {"score_threshold": min(lowest.values()), "score_thresholds": lowest}
        settings |= {"min_duration_s": self.min_duration_s} if self.min_duration_s else {}
        provenance = {**self.base.provenance, "settings": settings}
        if any(self.counts().values()):
            pairs = [(edit.was, edit.now) for edit in self.edits.values()]
            provenance["corrected_by_hand"] = {
                "added": [_plain(now) for was, now in pairs if was is None and now is not None],
                "corrected": [{"was": _plain(was), "now": _plain(now)} for was, now in pairs if was and now],
                "deleted": [_plain(was) for was, now in pairs if was is not None and now is None],
            }
        events = list(self.events.values())
        labels = dict.fromkeys([*self.base.labels, *(e.label for e in events if e.label is not None)])
        types = dict.fromkeys([*self.base.types, *(e.type for e in events if e.type is not None)])
        return replace(self.base, intervals=events, provenance=provenance, labels=list(labels), types=list(types))

    def truth(self) -> ExpressionAnnotation:
        """The same as a person's coding, which has no scores: what `fedn evaluate` compares with."""
        known = self.annotation()
        return replace(known, intervals=[replace(event, score=None, label_scores={}) for event in known])

    def counts(self) -> dict[str, int]:
        """How many a person has "added", "corrected" and "deleted"."""
        kinds = [edit.kind for edit in self.edits.values()]
        return {name: kinds.count(name) for name in ("added", "corrected", "deleted")}

    def curves(self) -> dict[int, list[tuple[float, float]]]:
        """For each face the score over time, (seconds, highest score), thinned out for a screen; -1 where unseen."""
        return {curve["face_id"]: _thinned(curve["time_s"], curve["score"]) for curve in self.base.curves}


_BY_HAND = ("onset_s", "apex_s", "offset_s", "type", "label", "face_id")


def _thinned(times: list[float], scores: list[float | None]) -> list[tuple[float, float]]:
    step = -(-len(times) // _CURVE_POINTS) or 1
    chunks = (slice(first, first + step) for first in range(0, len(times), step))
    return [
        (round(times[chunk.start], 3), round(max(-1.0 if s is None else s for s in scores[chunk]), 3))
        for chunk in chunks
    ]


def _plain(event: ExpressionInterval) -> dict[str, Any]:
    return {**vars(event), "label_scores": dict(event.label_scores)}


__all__ = ["LOWEST_SCORE", "Edit", "Review"]
