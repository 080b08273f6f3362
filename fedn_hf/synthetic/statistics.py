"""How often, how long and how close together expressions are in the corpora: published numbers as constants.

A synthetic video is as hard as a real one only if its events come as they come there. These are summaries of the label
sheets (rates, shares, quantiles), not the sheets: a test computes them again wherever a corpus' sheets are at hand.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..media_fedn import FednError

# The quantiles that every table below lists, from the smallest value to the largest.
PROBABILITIES = (0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1)
# Those that videos and corpora are compared at.
SHOWN = (0.1, 0.25, 0.5, 0.75, 0.9)
# Zero is a gap and an apex position of its own; the logarithm needs something to hold on to: half a frame at 30 fps.
_SMALLEST = 1 / 60

Table = tuple[float, ...]


class BehaviourError(FednError, ValueError):
    """A script of behaviour that cannot be written as asked for."""


@dataclass(frozen=True)
class TypeStatistics:
    """
    The events of one type, macro or micro.

    Args:
        per_minute: Events per minute of video, over all videos, those without events as well.
        dispersion: How much more videos differ than chance would have it: the variance of a count of mean m is
            m + dispersion · m²; 0 is a Poisson process.
        duration_s: Quantiles at `PROBABILITIES` of the frames from onset to offset, both included, in seconds.
        apex: Quantiles of (apex - onset) / (offset - onset).
        emotions: Emotion -> weight.
    """

    per_minute: float
    dispersion: float
    duration_s: Table
    apex: Table
    emotions: dict[str, float]


@dataclass(frozen=True)
class Statistics:
    """
    The events of a corpus.

    Args:
        macro, micro: [`TypeStatistics`].
        overlaps_per_event: Events that begin before the end of an earlier one (or in its last frame), per event.
        overlap_position: Quantiles of where in the earlier one they begin, 0 at its onset and 1 after its offset.
        overlapping_events: Share of the events that have a frame in common with another; follows from the former,
            here for comparison.
        gap_s: Quantiles of the time between an event and the end of all before it, if they do not overlap, in seconds.
        one_sided: Share of the events on one side of the face only.

    Example:

    ```python
    >>> from fedn_hf.synthetic.statistics import STATISTICS, draw

    >>> corpus = STATISTICS["samm_lv"]
    >>> corpus.micro.per_minute
    3.944
    >>> float(draw(corpus.macro.duration_s, 0.5))  # the median in seconds
    1.115
    ```
    """

    macro: TypeStatistics
    micro: TypeStatistics
    overlaps_per_event: float
    overlap_position: Table
    overlapping_events: float
    gap_s: Table
    one_sided: float

    def of(self, kind: str) -> TypeStatistics:
        """Those of "macro-expression" or "micro-expression"."""
        return self.micro if kind == "micro-expression" else self.macro


# CAS(ME)^2: the sheet's 357 events in 97 videos of 251,822 frames at 30 fps. Durations and apexes from the events that
# have an offset (44 macro-expressions have none); for gaps and overlaps these end at their apex. Emotions are the
# objective classes; "negative" is divided as these events' self-reports of anger, disgust, fear and sadness are.
# The sheet names no sides: the share of CAS(ME)^3.
CASME_2 = Statistics(
    macro=TypeStatistics(
        per_minute=2.144,
        dispersion=0.455,
        duration_s=(0.1333, 0.5667, 0.6333, 0.6667, 0.8, 1.183, 1.733, 2.167, 2.508, 3.447, 3.933),
        apex=(0.08219, 0.119, 0.1689, 0.2175, 0.2775, 0.3684, 0.4563, 0.5385, 0.625, 0.7272, 0.8529),
        emotions={
            "happiness": 116,
            "surprise": 16,
            "others": 63,
            "anger": 51.25,
            "disgust": 32.5,
            "fear": 16.25,
            "sadness": 5,
        },
    ),
    micro=TypeStatistics(
        per_minute=0.4074,
        dispersion=1.395,
        duration_s=(0.3, 0.3, 0.3, 0.3667, 0.4333, 0.4667, 0.5, 0.5333, 0.5333, 0.548, 0.5667),
        apex=(0.2143, 0.2343, 0.2819, 0.3046, 0.3846, 0.4286, 0.5, 0.59, 0.625, 0.6779, 0.6923),
        emotions={
            "happiness": 8,
            "surprise": 9,
            "others": 19,
            "anger": 5.6,
            "disgust": 11.2,
            "fear": 2.8,
            "sadness": 1.4,
        },
    ),
    overlaps_per_event=0.04762,
    overlap_position=(0, 0.007111, 0.03556, 0.05349, 0.1842, 0.5, 0.7037, 0.8549, 0.9249, 0.9307, 0.9322),
    overlapping_events=0.09244,
    gap_s=(0, 0, 0.1067, 0.5467, 2, 6.933, 14.9, 24.47, 35.32, 63.94, 77.17),
    one_sided=0.09,
)

# CAS(ME)^3, part A, the second version of the sheet: 4,206 events of 98 subjects, 30 fps. The length of the videos is
# not published: all subjects saw the same 13 films, and the last marked frames of a film agree across subjects to a
# few frames, so the films' lengths are taken to be these, 38,477 frames together, for every subject. Emotions of
# macro-expressions are the objective classes I to VII, those of micro-expressions the second sheet's. The largest
# durations are left out (macro up to 144 s, "micro" up to 115 s): the table ends at its 0.99 quantile.
CASME_3 = Statistics(
    macro=TypeStatistics(
        per_minute=1.597,
        dispersion=0.756,
        duration_s=(0.5667, 0.6667, 0.8667, 1.033, 1.5, 2.433, 4.7, 9.267, 16.23, 51.99, 51.99),
        apex=(0.01006, 0.0454, 0.1098, 0.1547, 0.2398, 0.348, 0.4651, 0.5885, 0.6667, 0.84, 1),
        emotions={
            "happiness": 182,
            "surprise": 244,
            "anger": 495,
            "disgust": 40,
            "sadness": 78,
            "fear": 24,
            "others": 2283,
        },
    ),
    micro=TypeStatistics(
        per_minute=0.4105,
        dispersion=1.963,
        duration_s=(0.1, 0.2, 0.3, 0.3333, 0.5, 0.7333, 1.133, 1.833, 2.368, 7.317, 7.317),
        apex=(0, 0, 0, 0.08231, 0.1765, 0.2829, 0.4178, 0.5, 0.5842, 0.7289, 0.8571),
        emotions={
            "happiness": 55,
            "surprise": 187,
            "anger": 64,
            "disgust": 250,
            "sadness": 57,
            "fear": 86,
            "others": 161,
        },
    ),
    overlaps_per_event=0.07466,
    overlap_position=(0.03704, 0.07595, 0.2757, 0.4005, 0.7586, 0.9706, 0.9882, 0.9949, 0.9966, 0.9985, 0.9991),
    overlapping_events=0.1281,
    gap_s=(0, 0.03333, 0.2333, 0.5, 1.8, 5.567, 14.2, 28.9, 41.94, 74.02, 129.5),
    one_sided=0.0868,
)

# SAMM Long Videos: the sheet's 502 events in 147 videos of 40.3 minutes together, 200 fps. Emotions of
# micro-expressions as published for SAMM (Davison et al., 2018; contempt counts as "others"); those of
# macro-expressions by action units: 12 is happiness; 9 or 10 disgust; 20 or 1+2+4 fear; 15 or 1 (+4) sadness; 4, 7 or
# 23 anger; 1, 2, 5, 26 or 27 surprise.
SAMM_LV = Statistics(
    macro=TypeStatistics(
        per_minute=8.508,
        dispersion=0.0,
        duration_s=(0.51, 0.515, 0.5655, 0.605, 0.769, 1.115, 1.95, 3.445, 8.897, 20.23, 25.88),
        apex=(0.03408, 0.08193, 0.177, 0.2357, 0.3235, 0.4365, 0.5613, 0.7287, 0.8406, 0.9803, 0.994),
        emotions={
            "happiness": 95,
            "surprise": 60,
            "anger": 79,
            "disgust": 14,
            "sadness": 4,
            "fear": 8,
            "others": 83,
        },
    ),
    micro=TypeStatistics(
        per_minute=3.944,
        dispersion=0.175,
        duration_s=(0.15, 0.1608, 0.1995, 0.225, 0.2975, 0.39, 0.4475, 0.486, 0.5, 0.5, 0.505),
        apex=(0.01235, 0.1524, 0.2263, 0.2775, 0.3421, 0.4375, 0.557, 0.6667, 0.7428, 0.9294, 0.9697),
        emotions={
            "happiness": 26,
            "surprise": 15,
            "anger": 57,
            "disgust": 9,
            "sadness": 6,
            "fear": 8,
            "others": 38,
        },
    ),
    overlaps_per_event=0.1773,
    overlap_position=(0, 0, 0.003361, 0.03425, 0.1157, 0.3091, 0.6121, 0.8534, 0.9267, 0.9868, 0.9953),
    overlapping_events=0.2968,
    gap_s=(0, 0, 0.03075, 0.1775, 0.606, 2.519, 6.056, 10.79, 13.89, 21.41, 30.24),
    one_sided=0.261,
)

STATISTICS = {"casme_2": CASME_2, "casme_3": CASME_3, "samm_lv": SAMM_LV}


def get_statistics(statistics: str | Statistics) -> Statistics:
    """The statistics of a name, or those that were given. Raises [`BehaviourError`] for a name that is not known."""
    if isinstance(statistics, Statistics):
        return statistics
    if statistics not in STATISTICS:
        raise BehaviourError(
            f"statistics={statistics!r} is not known: take one of {', '.join(STATISTICS)}, or a Statistics of your own"
        )
    return STATISTICS[statistics]


def draw(table: Table, level: float | np.ndarray) -> float | np.ndarray:
    """The value of a table of quantiles at a level in 0..1, between its entries on a logarithmic scale."""
    values = np.maximum(table, _SMALLEST)
    drawn = np.exp(np.interp(level, PROBABILITIES, np.log(values)))
    return np.where(drawn <= _SMALLEST * (1 + 1e-9), 0.0, drawn)


def draw_counts(mean: float, dispersion: float, levels: np.ndarray) -> np.ndarray:
    """The quantiles at levels in 0..1 of a negative binomial distribution, or of Poisson's if dispersion is 0."""
    shape = 1 / max(dispersion, 1e-6)
    odds = mean / (shape + mean)
    most = 20 + int(mean + 12 * math.sqrt(mean + dispersion * mean**2) + 12 * dispersion * mean)
    ratios = (shape + np.arange(most)) / np.arange(1, most + 1) * odds
    logs = np.concatenate(([-shape * math.log1p(mean / shape)], np.log(ratios))) if mean > 0 else np.zeros(1)
    return np.searchsorted(np.cumsum(np.exp(np.cumsum(logs))), np.minimum(levels, 1 - 1e-9))


# Irrational steps around the circle, as 64-bit fractions: the golden ratio, and the square root of 2.
_STEPS = np.array([0x9E3779B97F4A7C15, math.isqrt(2 << 128) % 2**64], np.uint64)
_PRIMES = (3, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101)


def even_levels(seed: Sequence[int], stream: int, numbers: np.ndarray) -> np.ndarray:
    """
    A level in 0..1 for each number, such that those of neighbouring numbers share the interval evenly.

    A hundred scripts hold some forty micro-expressions: drawn independently, their count would be off by 16 % and
    their quantiles with it, and no set of that size would be like its corpus. An additive recurrence (Kronecker
    sequence) fills the interval evenly instead. Even and odd streams (0 to 5) advance in different steps, so that what
    is drawn from one tells nothing of the other; `seed` says where a stream begins.

    Example:

    ```python
    >>> import numpy as np
    >>> from fedn_hf.synthetic.statistics import even_levels

    >>> levels = even_levels((7,), 0, np.arange(100))
    >>> bool(np.histogram(levels, 10, (0, 1))[0].min() >= 8)
    True
    ```
    """
    begin = sum((value + 1) * math.isqrt(_PRIMES[(6 * i + stream) % 24] << 128) for i, value in enumerate(seed))
    turned = np.asarray(numbers).astype(np.uint64) * _STEPS[stream % 2] + np.uint64(begin % 2**64)  # wraps around
    return turned / 2.0**64


Event = tuple[str, float, float]  # type, onset and offset in seconds, the offset being the end of its last frame


def summarise(videos: Iterable[tuple[float, Sequence[Event]]]) -> dict[str, float]:
    """
    What videos and corpora are compared by.

    Args:
        videos: (length in seconds, its events as (type, onset, end)) of every video, where end is the time after the
            last frame, so that end - onset is the number of frames over fps.

    Returns:
        `dict`: per type events_per_minute and duration_s at 0.1, 0.25, 0.5, 0.75 and 0.9; the share of
        overlapping_events, overlaps_per_event, and the median of gap_s.

    Example:

    ```python
    >>> from fedn_hf.synthetic.statistics import summarise

    >>> macro, micro = "macro-expression", "micro-expression"
    >>> found = summarise([(60.0, [(macro, 1.0, 2.0), (micro, 5.0, 5.4), (macro, 5.2, 6.2)])])
    >>> found["macro-expression events_per_minute"], found["overlapping_events"], found["gap_s 0.5"]
    (2.0, 0.666..., 3.0)
    ```
    """
    videos = [(seconds, sorted(events, key=lambda event: event[1:])) for seconds, events in videos]
    minutes = sum(seconds for seconds, _ in videos) / 60
    found: dict[str, float] = {}
    for kind in ("macro-expression", "micro-expression"):
        durations = [end - onset for _, events in videos for name, onset, end in events if name == kind]
        found[f"{kind} events_per_minute"] = len(durations) / minutes
        for level in SHOWN:
            found[f"{kind} duration_s {level}"] = float(np.quantile(durations, level)) if durations else math.nan
    touched, overlaps, gaps = 0, 0, []
    for _, events in videos:
        touched += sum(any(a is not b and a[1] < b[2] - 1e-9 and b[1] < a[2] - 1e-9 for b in events) for a in events)
        latest = -math.inf
        for _, onset, end in events:
            overlaps += onset < latest - 1e-9
            gaps += [onset - latest] if -math.inf < latest < onset + 1e-9 else []
            latest = max(latest, end)
    count = max(1, sum(len(events) for _, events in videos))
    found["overlapping_events"] = touched / count
    found["overlaps_per_event"] = overlaps / count
    found["gap_s 0.5"] = float(np.median(gaps)) if gaps else math.nan
    return found


__all__ = [
    "PROBABILITIES",
    "SHOWN",
    "STATISTICS",
    "BehaviourError",
    "Statistics",
    "TypeStatistics",
    "draw",
    "draw_counts",
    "even_levels",
    "get_statistics",
    "summarise",
]
