"""How far two codings agree: two coders, a coder and a machine, or what a face shows and what the person reports."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..media_fedn import FednError
from .expressions import Expressions, Videos
from .matching import Problem, end_of_events, keep, prepare
from .protocol import STRICT, Protocol, get_protocol
from .spotting import OVERALL, SpottingResult, spotting

# What people say they felt, in the classes that CAS(ME)^2's coders used. Words that fit none stand for no class.
SELF_REPORT_CLASSES: dict[str, str] = {
    "happiness": "positive",
    "happyiness": "positive",  # so in the sheet
    "surprise": "surprise",
    **dict.fromkeys(("anger", "disgust", "fear", "sadness", "helpless", "pain"), "negative"),
}


@dataclass(frozen=True)
class AgreementResult:
    """
    How far two codings agree, per type and overall.

    events: [`SpottingResult`] of the first coding held against the second; its F1 is the agreement on events.
    kappa: type or "overall" -> Cohen's kappa on time bins, `None` where no bin, or every bin, is marked by both.
    icc: type or "overall" -> ICC(2,1) of the number of expressions per video, `None` with fewer than two videos or
        without any variance.
    bin_frames: width of a bin.
    lengths_known: whether the videos' lengths were given; otherwise a video ends with the last expression that either
        coding has in it, and kappa, which lives on agreed absence, comes out too low.
    """

    events: SpottingResult
    kappa: dict[str, float | None]
    icc: dict[str, float | None]
    bin_frames: int
    lengths_known: bool

    @property
    def protocol(self) -> Protocol:
        """The rules by which events were held against each other."""
        return self.events.protocol

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        facts = {name: getattr(self, name) for name in ("kappa", "icc", "bin_frames", "lengths_known")}
        return {"events": self.events.to_dict(), **facts}

    def __str__(self) -> str:
        head = f"{'':12}{'matched':>8}{'A':>7}{'B':>7}{'F1':>9}{'kappa':>9}{'ICC':>9}"
        lines = [f"protocol: {self.protocol.title}", head]
        for name, counts in {**self.events.per_type, OVERALL: self.events.overall}.items():
            numbers = "".join(f"{_shown(value):>9}" for value in (self.kappa[name], self.icc[name]))
            lines.append(
                f"{name:12}{counts.true_positives:8}{counts.predictions:7}{counts.events:7}"
                f"{self.events.pooled[name]['f1']:9.4f}{numbers}"
            )
        note = "" if self.lengths_known else "; lengths of the videos not known, kappa is too low"
        return "\n".join([*lines, f"kappa on bins of {self.bin_frames} frames{note}"])


@dataclass(frozen=True)
class SelfReportResult:
    """
    How far the emotions that coders gave and those that people reported agree, over events that have both.

    events: how many have both.
    agreeing: of these, where the report falls into the coders' class.
    kappa: Cohen's, over the coders' classes and "no class"; `None` where undefined.
    table: coders' emotion -> reported emotion, as it was said -> count.
    """

    events: int
    agreeing: int
    kappa: float | None
    table: dict[str, dict[str, int]]

    @property
    def share(self) -> float:
        """Part of the events that agree, 0 to 1; 0 without any."""
        return self.agreeing / self.events if self.events else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {**vars(self), "share": self.share}

    def __str__(self) -> str:
        kappa = "undefined" if self.kappa is None else f"{self.kappa:.4f}"
        lines = [f"{self.agreeing} of {self.events} events agree ({self.share:.1%}), kappa {kappa}"]
        for marked, row in self.table.items():
            lines.append(f"  {marked}: " + ", ".join(f"{said} {count}" for said, count in row.items()))
        return "\n".join(lines)


def agreement(
    first: Expressions,
    second: Expressions,
    protocol: Protocol | str = STRICT,
    videos: Videos | None = None,
    *,
    bin_frames: int = 1,
) -> AgreementResult:
    """
    Agreement of two codings of the same videos.

    Args:
        first, second: the codings; for the F1 of events the first is held against the second.
        protocol: which events are the same. Without scores "one_to_one" goes in file order.
        videos: all videos, with lengths in frames.
        bin_frames: frames of a bin; a bin is marked if an expression covers any frame of it.

    Raises:
        `FednError`: as `spotting`; bins of less than a frame.

    Source:
        Cohen, A coefficient of agreement for nominal scales, 1960; Shrout & Fleiss, Intraclass correlations, 1979:
        ICC(2,1), two-way random effects, absolute agreement, single rater.

    Example:
        >>> first = Expressions.from_rows([("v1", 10, 29, "macro"), ("v2", 5, 20, "macro")])
        >>> second = Expressions.from_rows([("v1", 12, 29, "macro"), ("v2", 60, 80, "macro")])
        >>> result = agreement(first, second, videos=Videos(["v1", "v2"], num_frames=[100, 100]))
        >>> result.events.f1, round(result.kappa["overall"], 3), result.icc["overall"]
        (0.5, 0.36, None)
    """
    if bin_frames < 1:
        raise FednError(f"bin_frames must be at least 1, got {bin_frames!r}")
    protocol = get_protocol(protocol)
    # Sheets lack offsets on either side; only coders' do, so `spotting` would not look for it in the first.
    first = replace(first, offset=end_of_events(first, protocol))
    problem = prepare(first, second, protocol, videos)
    kept = keep(problem, protocol.score_threshold, protocol.top_k)
    problem = replace(problem, predictions=problem.predictions.at(kept))
    lengths = _lengths(problem)
    names = (*problem.kinds, OVERALL)
    kinds: list[int | None] = [*range(len(problem.kinds)), None]
    return AgreementResult(
        spotting(first, second, protocol, videos),
        {name: _bin_kappa(problem, kind, lengths, bin_frames) for name, kind in zip(names, kinds, strict=True)},
        {name: icc(_video_counts(problem, kind)) for name, kind in zip(names, kinds, strict=True)},
        bin_frames,
        bool(len(lengths)) and not np.isnan(problem.num_frames).any(),
    )


def self_report_agreement(events: Expressions, classes: Mapping[str, str] = SELF_REPORT_CLASSES) -> SelfReportResult:
    """
    Hold coders' emotions (column `label`) against those that people reported (column `self_report`).

    Args:
        events: a corpus with both columns.
        classes: reported emotion -> the coders' class that it stands for; what is not there stands for none.

    Raises:
        `FednError`: no event has both.

    Source:
        Qu et al., CAS(ME)^2: a database for spontaneous macro-expression and micro-expression spotting and
        recognition, TAC 2018: emotions by action units and by self-report.

    Example:
        >>> rows = [{"video": "v", "onset": 1, "offset": 9, "label": "negative", "self_report": "happiness"}]
        >>> print(self_report_agreement(Expressions.from_rows(rows)))
        0 of 1 events agree (0.0%), kappa 0.0000
          negative: happiness 1
    """
    pairs = [
        (marked, said)
        for marked, said in zip(events.label, events.self_report, strict=True)
        if marked is not None and said is not None
    ]
    if not pairs:
        raise FednError("no event has both a label and a self_report; name their columns")
    folded = [classes.get(said, "no class") for _, said in pairs]
    table: dict[str, Counter] = {marked: Counter() for marked in sorted({marked for marked, _ in pairs})}
    for marked, said in pairs:
        table[marked][said] += 1
    agreeing = sum(marked == fold for (marked, _), fold in zip(pairs, folded, strict=True))
    kappa = cohen_kappa(np.array([marked for marked, _ in pairs]), np.array(folded))
    return SelfReportResult(len(pairs), agreeing, kappa, {m: dict(row.most_common()) for m, row in table.items()})


def cohen_kappa(first: np.ndarray, second: np.ndarray) -> float | None:
    """
    Cohen's kappa of two raters' categories (N,); `None` where chance alone explains everything, or N is 0.

    Example:
        >>> cohen_kappa(np.array([1, 1, 0, 0]), np.array([1, 0, 0, 0]))
        0.5
    """
    if not len(first):
        return None
    names = np.unique(np.concatenate([first, second]))
    shares = [np.array([(rater == name).mean() for name in names]) for rater in (first, second)]
    chance = float(shares[0] @ shares[1])
    return None if chance > 1 - 1e-12 else float(((first == second).mean() - chance) / (1 - chance))


def icc(ratings: np.ndarray) -> float | None:
    """
    ICC(2,1) of N targets' ratings by k raters, (N, k); `None` with fewer than two targets or without variance.

    Example:
        >>> icc(np.array([[1, 1], [2, 2], [5, 5]]))
        1.0
    """
    ratings = np.asarray(ratings, dtype=float)
    targets, raters = ratings.shape
    if targets < 2:
        return None
    ratings = ratings[np.lexsort(ratings.T)]  # so that sums do not depend on the order of targets
    mean = ratings.mean()
    rows = raters * ((ratings.mean(axis=1) - mean) ** 2).sum() / (targets - 1)
    columns = targets * ((ratings.mean(axis=0) - mean) ** 2).sum() / (raters - 1)
    rest = ((ratings - ratings.mean(axis=1, keepdims=True) - ratings.mean(axis=0) + mean) ** 2).sum()
    rest /= (targets - 1) * (raters - 1)
    total = rows + (raters - 1) * rest + raters * (columns - rest) / targets
    return float((rows - rest) / total) if total > 0 else None


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _lengths(problem: Problem) -> np.ndarray:
    """(V,) frames of each video, at least up to the last expression of either coding."""
    lengths = np.nan_to_num(problem.num_frames)
    for side in (problem.predictions, problem.events):
        known = ~np.isnan(side.offset)
        np.maximum.at(lengths, side.video[known], np.floor(side.offset[known]) + 1)
    return lengths.astype(int)


def _bin_kappa(problem: Problem, kind: int | None, lengths: np.ndarray, bin_frames: int) -> float | None:
    bins = -(-lengths // bin_frames)
    starts = np.cumsum(bins) - bins
    marks = []
    for side in (problem.predictions, problem.events):
        mine = ~np.isnan(side.offset) & ((side.kind == kind) if kind is not None else True)
        first = np.maximum(np.floor(side.onset[mine]), 0).astype(int) // bin_frames
        last = np.floor(side.offset[mine]).astype(int) // bin_frames
        change = np.zeros(bins.sum() + 1, dtype=int)
        seen = last >= 0
        np.add.at(change, starts[side.video[mine][seen]] + first[seen], 1)
        np.add.at(change, starts[side.video[mine][seen]] + last[seen] + 1, -1)
        marks.append(np.cumsum(change)[:-1] > 0)
    return cohen_kappa(*marks)


def _video_counts(problem: Problem, kind: int | None) -> np.ndarray:
    sides = (problem.predictions, problem.events)
    rows = [side.video[(side.kind == kind) if kind is not None else slice(None)] for side in sides]
    return np.stack([np.bincount(videos, minlength=len(problem.videos)) for videos in rows], axis=1)


__all__ = [
    "SELF_REPORT_CLASSES",
    "AgreementResult",
    "SelfReportResult",
    "agreement",
    "cohen_kappa",
    "icc",
    "self_report_agreement",
]
