"""Who found what: a protocol's switches applied to two tables, up to the pairs that count as true positives.

Everything else in this package starts from a [`Problem`]. Pairs are found for all videos and classes at once, by
sorting; only the few that pass the threshold are walked through.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ..media_fedn import FednError
from .expressions import Expressions, Videos
from .protocol import Protocol

logger = logging.getLogger(__name__)

# Pairs held in memory at a time.
_CHUNK = 4_000_000


class Pairs(NamedTuple):
    """Predictions and events of one video and class, as row numbers of a [`Problem`]'s tables, and their overlap."""

    prediction: np.ndarray
    event: np.ndarray
    iou: np.ndarray

    def at(self, rows: np.ndarray) -> "Pairs":
        """Those at an index array or a mask."""
        return Pairs(self.prediction[rows], self.event[rows], self.iou[rows])


@dataclass(frozen=True)
class Side:
    """
    One table as the protocol sees it: rows that it leaves out are gone.

    row: where each was in the table that was given.
    video, kind: numbers of its video and class.
    onset, offset: frames; the offset is NaN for an event that cannot be found, and for a prediction that ends before
        it begins.
    """

    table: Expressions
    row: np.ndarray
    video: np.ndarray
    kind: np.ndarray
    onset: np.ndarray
    offset: np.ndarray

    def __len__(self) -> int:
        return len(self.row)

    def at(self, rows: np.ndarray) -> "Side":
        """The rows at an index array or a mask."""
        names = ("row", "video", "kind", "onset", "offset")
        return replace(self, table=self.table[rows], **{name: getattr(self, name)[rows] for name in names})


@dataclass(frozen=True)
class Problem:
    """
    Predictions and events under a protocol.

    videos (V,), subject (V,): names, and subjects (a video's own name where none is known).
    num_frames (V,), minutes (V,): lengths, NaN where unknown.
    kinds (K,): names of the classes that must agree.
    """

    protocol: Protocol
    predictions: Side
    events: Side
    videos: tuple[str, ...]
    subject: tuple[str, ...]
    num_frames: np.ndarray
    minutes: np.ndarray
    kinds: tuple[str, ...]

    @property
    def subjects(self) -> tuple[str, ...]:
        """Subjects in order of their names, so that no result depends on the order of videos."""
        return tuple(sorted(set(self.subject)))

    @property
    def subject_of_video(self) -> np.ndarray:
        """(V,) number of each video's subject."""
        place = {name: number for number, name in enumerate(self.subjects)}
        return np.array([place[name] for name in self.subject], dtype=int)


def prepare(
    predictions: Expressions, events: Expressions, protocol: Protocol, videos: Videos | None = None
) -> Problem:
    """
    Apply all of a protocol's switches but `matching`, `score_threshold` and `top_k`.

    Args:
        predictions, events: what was found, and what was marked.
        protocol: the rules.
        videos: all videos of the corpus; without it those that occur in either table.

    Raises:
        `FednError`: a prediction without offset, an event whose offset lies before its onset, predictions of several
            epochs, a type or frame rate that the protocol needs and a row lacks, or a row in a video that is not in
            `videos`.
    """
    _check(predictions, events)
    codes, names, subjects = _number_videos(predictions, events, videos)
    sides = []
    for table, code, is_event in ((predictions, codes[0], False), (events, codes[1], True)):
        rows = np.arange(len(table))
        if is_event and protocol.missing_offset == "drop":
            rows = np.flatnonzero(~np.isnan(table.offset))
        kept = table[rows]
        found_offset = np.where(kept.offset < kept.onset, np.nan, kept.offset)
        offset = end_of_events(kept, protocol) if is_event else found_offset
        onset = kept.onset
        if protocol.fractional_frames == "truncate":
            onset, offset = np.floor(onset), np.floor(offset)
        sides.append((kept, rows, code[rows], _kind_names(kept, onset, offset, protocol, is_event), onset, offset))
    kinds = _sort_kinds({name for side in sides for name in side[3]})
    place = {name: number for number, name in enumerate(kinds)}
    found, marked = (
        Side(kept, rows, code, np.array([place[name] for name in kind], dtype=int), onset, offset)
        for kept, rows, code, kind, onset, offset in sides
    )
    found = found.at(np.flatnonzero(_right_length(found, kinds, protocol)))
    scored = _scored_videos(marked, len(names), len(kinds), protocol)
    found = found.at(np.flatnonzero(scored[found.video, found.kind]))
    given = [table for table in (predictions, events, videos) if table is not None]
    num_frames, fps = _lengths(len(names), codes, given)
    return Problem(protocol, found, marked, names, subjects, num_frames, num_frames / fps / 60, kinds)


def end_of_events(table: Expressions, protocol: Protocol) -> np.ndarray:
    """(N,) offsets, those that are missing as the protocol's `missing_offset` says; NaN if they stay missing."""
    extra = protocol.missing_offset_frames
    instead = table.apex + extra if protocol.missing_offset in ("apex", "apex_plus") else np.nan
    instead = np.where(instead >= table.onset, instead, np.nan)
    return np.where(np.isnan(table.offset), instead, table.offset)


def keep(problem: Problem, score_threshold: float | None, top_k: int | None) -> np.ndarray:
    """Row numbers of the predictions that pass a score threshold and are among a video's first `top_k`."""
    side = problem.predictions
    rows = np.arange(len(side))
    if score_threshold is not None:
        score = _scores(side, "score_threshold")
        passes = score >= score_threshold if problem.protocol.score_comparison == ">=" else score > score_threshold
        rows = rows[passes]
    if top_k is not None:
        order = rows[np.lexsort((score_rank(side)[rows], side.video[rows]))]
        starts = np.flatnonzero(np.diff(side.video[order], prepend=-1))
        rank = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
        rows = np.sort(order[rank < top_k])
    return rows


def score_rank(side: Side) -> np.ndarray:
    """(N,) place of each row when sorted by falling score; file order among equals or where there are no scores."""
    score = side.table.score
    order = np.arange(len(side)) if score is None else np.argsort(-score, kind="stable")
    rank = np.empty(len(side), dtype=int)
    rank[order] = np.arange(len(side))
    return rank


def overlaps(problem: Problem, rows: np.ndarray, iou_threshold: float) -> Pairs:
    """All pairs of one video and class whose IoU passes a threshold, sorted by prediction, then event."""
    marked = problem.events
    rows = rows[~np.isnan(problem.predictions.offset[rows])]
    found, findable = problem.predictions.at(rows), np.flatnonzero(~np.isnan(marked.offset))
    parts = []
    for part in _candidates(found, marked.at(findable), problem.protocol, len(problem.kinds)):
        part = passing(part, iou_threshold, problem.protocol.comparison)
        part = part.at(np.flatnonzero(part.iou > 0))  # even at a threshold of 0 what does not overlap is no match
        parts.append(Pairs(rows[part.prediction], findable[part.event], part.iou))
    pairs = Pairs(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    return pairs.at(np.lexsort((pairs.event, pairs.prediction)))


def passing(pairs: Pairs, iou_threshold: float, comparison: str) -> Pairs:
    """Those of the pairs whose IoU passes a threshold."""
    return pairs.at(np.flatnonzero(pairs.iou >= iou_threshold if comparison == ">=" else pairs.iou > iou_threshold))


def match(problem: Problem, pairs: Pairs) -> Pairs:
    """
    The pairs that count as true positives under the protocol's `matching`, out of all that pass the IoU threshold.

    With "event_best" and "any_hit" every event occurs at most once and a prediction perhaps several times, with all
    other rules both occur at most once.
    """
    rule, side = problem.protocol.matching, problem.predictions
    prediction, event, iou = pairs
    if rule == "one_to_one":
        order = np.lexsort((event, -iou, score_rank(side)[prediction]))
        return pairs.at(_walk(pairs, order))
    if rule == "event_order":
        return pairs.at(_walk(pairs, np.lexsort((prediction, -iou, event))))
    if rule == "time_order":
        # One claim per prediction: its best event. Sorted so that the earliest claim on an event comes first.
        claims = _first(prediction, np.lexsort((event, -iou, prediction)))
        claims = claims[np.lexsort((prediction[claims], side.onset[prediction[claims]]))]
        return pairs.at(np.sort(claims[_first(event[claims], np.argsort(event[claims], kind="stable"))]))
    if rule == "any_hit":
        return pairs.at(_first(event, np.lexsort((score_rank(side)[prediction], event))))
    best = _first(event, np.lexsort((prediction, -iou, event)))
    if rule == "event_best_once":
        best = best[_first(prediction[best], np.lexsort((event[best], -iou[best], prediction[best])))]
    return pairs.at(best)


def _check(predictions: Expressions, events: Expressions) -> None:
    predictions.refuse(np.isnan(predictions.offset), "a prediction needs an offset")
    events.refuse(events.offset < events.onset, "the offset lies before the onset; were they exchanged?")
    if backwards := int((predictions.offset < predictions.onset).sum()):
        logger.warning("%d predictions end before they begin; they count as false", backwards)
    if predictions.epoch is not None and len(np.unique(predictions.epoch)) > 1:
        raise FednError(
            f"these predictions are of {len(np.unique(predictions.epoch))} epochs; take those of one, "
            "predictions[predictions.epoch == 23], or choose one with `select` (--selection on the command line)"
        )


def _scores(side: Side, wanted_by: str) -> np.ndarray:
    if side.table.score is None and len(side):
        raise FednError(f"{wanted_by} needs scores, and these predictions have none")
    return np.zeros(0) if side.table.score is None else side.table.score


def _number_videos(
    predictions: Expressions, events: Expressions, videos: Videos | None
) -> tuple[list[np.ndarray], tuple[str, ...], tuple[str, ...]]:
    """Numbers of both tables' videos, and the videos' names and subjects, sorted by name."""
    tables = [table for table in (predictions, events, videos) if table is not None]
    keys = _shared_keys(tables)
    listed = keys[2] if videos is not None else sorted({*keys[0], *keys[1]})
    place = {key: number for number, key in enumerate(sorted(listed))}
    for table_keys, what in zip(keys[:2], ("prediction", "event"), strict=True):
        strange = next((key for key in table_keys if key not in place), None)
        if strange is not None:
            raise FednError(f"a{'n' * (what == 'event')} {what} is in {strange!r}, which is not in the list of videos")
    if len(predictions) and len(events) and not set(keys[0]) & set(keys[1]):
        logger.warning("no video has both predictions and events: %r, %r", keys[0][0], keys[1][0])
    # Events know the subjects best; predictions may name folds instead.
    subject = {key: key for key in place}
    for table, table_keys in zip(tables, keys, strict=True):
        if table is not events:
            subject |= {key: name for key, name in zip(table_keys, table.subject, strict=True) if name is not None}
    subject |= {key: name for key, name in zip(keys[1], events.subject, strict=True) if name is not None}
    codes = [np.array([place[key] for key in table_keys], dtype=int) for table_keys in keys]
    return codes, tuple(place), tuple(subject[key] for key in place)


def _shared_keys(tables: list[Expressions | Videos]) -> list[list[str]]:
    """
    A key for the video of every row: subject and video, since clip names recur across subjects, where that makes the
    tables meet; otherwise (one table has no subjects, or calls them differently) the video's name, alone or after the
    subject's where there is one, as in "s15_0101".
    """
    rows = [list(zip(table.subject, table.video, strict=True)) for table in tables]
    forms = [
        [[video if subject is None else f"{subject}/{video}" for subject, video in part] for part in rows],
        [[video for _, video in part] for part in rows],
        [[video if subject is None else f"{subject}_{video}" for subject, video in part] for part in rows],
    ]
    # The first form in which most tables meet.
    meetings = [_meetings(form) for form in forms]
    best = max(range(len(forms)), key=lambda place: (len(meetings[place]), -place))
    if best == 1:
        for part in rows:
            owners = {video: subject for subject, video in part if subject is not None}
            if (twice := next((row for row in part if row[0] not in (None, owners.get(row[1]))), None)) is not None:
                raise FednError(f"video {twice[1]!r} is of several subjects; all tables need the column subject")
    return forms[best]


def _meetings(keys: list[list[str]]) -> set[tuple[int, int]]:
    """Which of the tables have a video in common."""
    sets = [set(part) for part in keys]
    return {(i, j) for j in range(len(sets)) for i in range(j) if sets[i] & sets[j]}


def _kind_names(
    table: Expressions, onset: np.ndarray, offset: np.ndarray, protocol: Protocol, is_event: bool
) -> np.ndarray:
    what = "event" if is_event else "prediction"
    if protocol.class_rule == "agnostic":
        return np.array(["any"] * len(table), dtype=object)
    if protocol.class_rule == "type":
        missing = np.array([name is None for name in table.type], bool)
        if missing.any():
            row = int(missing.argmax())
            raise FednError(
                f"{what} {row} (video {table.video[row]}) has no type: use `with_types_by_duration()`, or "
                'class_rule="duration" or "agnostic"'
            )
        return table.type
    if np.isnan(table.fps).any():
        raise FednError(f'class_rule="duration" needs the frame rate of every {what}: give fps=')
    frames = offset - onset + 1
    # An event that cannot be found still has its label; without one it counts as macro.
    kind = np.where(frames <= protocol.micro_max_s * table.fps + 1e-9, "micro", "macro").astype(object)
    unknown = np.isnan(frames)
    kind[unknown] = [name or "macro" for name in table.type[unknown]]
    return kind


def _sort_kinds(names: set[str]) -> tuple[str, ...]:
    return tuple(sorted(names, key=lambda name: (name not in ("macro", "micro"), name)))


def _right_length(side: Side, kinds: tuple[str, ...], protocol: Protocol) -> np.ndarray:
    right = np.ones(len(side), dtype=bool)
    frames = side.offset - side.onset + 1
    # Types by label even where classes are not told apart: the filter is about what the detector called it.
    names = side.table.type if protocol.class_rule == "agnostic" else np.array(kinds, dtype=object)[side.kind]
    for kind, low, high in protocol.length_filter:
        right &= (names != kind) | ((frames >= low) & (frames <= (np.inf if high is None else high)))
    return right


def _scored_videos(events: Side, videos: int, kinds: int, protocol: Protocol) -> np.ndarray:
    """(V, K) whether predictions of a class in a video are looked at."""
    scored = np.zeros((videos, kinds), dtype=bool)
    scored[events.video, events.kind] = True
    if protocol.videos_scored == "all":
        scored[:] = True
    elif protocol.videos_scored == "with_events":
        scored[:] = scored.any(axis=1, keepdims=True)
    return scored


def _lengths(count: int, codes: list[np.ndarray], tables: list) -> tuple[np.ndarray, np.ndarray]:
    """(V,) frames and frames per second of each video; NaN where unknown. The list of videos comes last and wins."""
    num_frames, fps = np.full((2, count), np.nan)
    for code, table in zip(codes, tables, strict=True):
        known = ~np.isnan(table.fps)
        fps[code[known]] = table.fps[known]
        if isinstance(table, Videos):
            num_frames[code] = table.num_frames
    return num_frames, fps


def _candidates(found: Side, marked: Side, protocol: Protocol, kinds: int) -> Iterator[Pairs]:
    """All pairs of one group (video and class) that can overlap, and more, in pieces."""
    nothing = np.zeros(0, dtype=int)
    yield Pairs(nothing, nothing, np.zeros(0))
    if not len(found) or not len(marked):
        return
    # Groups are laid end to end on one line of time, so that one sorted search serves all of them.
    first = min(found.onset.min(), marked.onset.min())
    span = max(found.offset.max(), marked.offset.max()) - first + 4
    if protocol.frame_convention == "touching":  # intervals that lie anywhere share a frame
        low_at, high_at = (np.zeros(len(found)), np.full(len(found), span - 2))
    else:
        low_at, high_at = found.onset - first - 1, found.offset - first + 1
    group = (found.video * kinds + found.kind) * span
    marked_group = (marked.video * kinds + marked.kind) * span
    order = np.argsort(marked_group + marked.onset - first, kind="stable")
    starts = (marked_group + marked.onset - first)[order]
    ends = np.maximum.accumulate((marked_group + marked.offset - first)[order])
    low = np.searchsorted(ends, group + low_at, "left")
    count = np.maximum(np.searchsorted(starts, group + high_at, "right") - low, 0)
    # At least one prediction a piece, however many events it meets.
    pieces = np.unique(np.searchsorted(np.cumsum(count), np.arange(0, count.sum() + _CHUNK, _CHUNK), "left"))
    for begin, end in zip(pieces, [*pieces[1:], len(found)], strict=True):
        part = count[begin:end]
        prediction = np.repeat(np.arange(begin, end), part)
        step = np.arange(part.sum()) - np.repeat(np.cumsum(part) - part, part)
        event = order[np.repeat(low[begin:end], part) + step]
        yield Pairs(prediction, event, _iou(found, prediction, marked, event, protocol.frame_convention))


def _iou(found: Side, prediction: np.ndarray, marked: Side, event: np.ndarray, convention: str) -> np.ndarray:
    begin, end = found.onset[prediction], found.offset[prediction]
    onset, offset = marked.onset[event], marked.offset[event]
    shared = np.minimum(end, offset) - np.maximum(begin, onset)
    extra = 0 if convention == "half_open" else 1
    if convention == "touching":
        shared = np.maximum(shared, 0) + 1
        shared[(end <= begin) | (offset <= onset)] = 0
    else:
        shared = np.maximum(shared + extra, 0)
    union = (end - begin + extra) + (offset - onset + extra) - shared
    return np.divide(shared, union, out=np.zeros(len(shared)), where=(union > 0) & (shared > 0))


def _walk(pairs: Pairs, order: np.ndarray) -> np.ndarray:
    """Take pairs in an order as long as both of the pair are free."""
    taken_predictions, taken_events, chosen = set(), set(), []
    steps = zip(order.tolist(), pairs.prediction[order].tolist(), pairs.event[order].tolist(), strict=True)
    for place, prediction, event in steps:
        if prediction not in taken_predictions and event not in taken_events:
            taken_predictions.add(prediction)
            taken_events.add(event)
            chosen.append(place)
    return np.array(sorted(chosen), dtype=int)


def _first(key: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Of each key the entry that comes first in an order that is sorted by key."""
    return order[np.flatnonzero(np.diff(key[order], prepend=-1))]


__all__ = [
    "Pairs",
    "Problem",
    "Side",
    "end_of_events",
    "keep",
    "match",
    "overlaps",
    "passing",
    "prepare",
    "score_rank",
]
