"""How sure a number is: bootstrap over subjects, because the expressions of one person are not independent."""

from collections.abc import Mapping
from typing import NamedTuple
from typing import Protocol as Structure

import numpy as np

from ..media_fedn import FednError
from .protocol import Protocol


class Interval(NamedTuple):
    """A value and the percentile interval around it."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


class Resampled(Structure):
    """What every result of this package can do: say its numbers for other counts of the same subjects."""

    @property
    def protocol(self) -> Protocol: ...

    @property
    def subjects(self) -> tuple[str, ...]: ...

    def resample(self, weights: np.ndarray) -> dict[str, float]: ...


def bootstrap(result: Resampled, *, resamples: int = 2000, level: float = 0.95, seed: int = 0) -> dict[str, Interval]:
    """
    Intervals around a result's main numbers, from drawing subjects with replacement.

    Args:
        result: of `spotting`, `detection`, `recognition` or `strs`. (A video without subject is its own subject.)
        resamples: how many draws.
        level: share of the draws inside the interval.
        seed: of the draws; the same seed gives the same intervals.

    Returns:
        name of the number -> [`Interval`].

    Raises:
        `FednError`: fewer than two subjects.

    Source:
        Efron & Tibshirani, An introduction to the bootstrap, 1993, chapter 13: percentile interval.

    Example:
        >>> from fedn_hf.metrics import Expressions, spotting
        >>> events = Expressions.from_rows([(f"v{i}", 0, 9, "macro") for i in range(8)])
        >>> bootstrap(spotting(events[:4], events))["f1 overall"].value
        0.6666666666666666
    """
    weights = _draws(len(result.subjects), resamples, seed)
    values = [result.resample(weight) for weight in weights]
    return _intervals(result.resample(np.ones(len(result.subjects))), values, level)


def paired_difference(
    first: Resampled, second: Resampled, *, resamples: int = 2000, level: float = 0.95, seed: int = 0
) -> dict[str, Interval]:
    """
    Intervals around `first - second` of two systems on the same subjects, both drawn together: what both find easy or
    hard cancels. An interval without 0 is a difference at that level.

    Args:
        first, second: results of the same kind, under the same protocol and on the same events.
        resamples, level, seed: as in `bootstrap`.

    Raises:
        `FednError`: different protocols, or subjects that only one result has.

    Example:
        >>> from fedn_hf.metrics import Expressions, spotting
        >>> events = Expressions.from_rows([(f"v{i}", 0, 9, "macro") for i in range(8)])
        >>> print(paired_difference(spotting(events, events), spotting(events, events))["f1 overall"])
        0.0000 [0.0000, 0.0000]
    """
    if first.protocol != second.protocol:
        titles = f"{first.protocol.title}; {second.protocol.title}"
        raise FednError(f"two systems are compared under one protocol, got {titles}")
    if set(first.subjects) != set(second.subjects):
        odd = ", ".join(sorted(set(first.subjects) ^ set(second.subjects)))
        raise FednError(f"{odd}: in one result only; score both systems with the same events and videos=")
    weights = _draws(len(first.subjects), resamples, seed)
    ones = np.ones((1, len(first.subjects)))
    differences = []
    for weight in np.concatenate([ones, weights]):
        pair = first.resample(weight), second.resample(weight)
        differences.append({name: pair[0][name] - pair[1][name] for name in pair[0] if name in pair[1]})
    return _intervals(differences[0], differences[1:], level)


def _draws(subjects: int, resamples: int, seed: int) -> np.ndarray:
    """(resamples, subjects) how often each is drawn."""
    if subjects < 2:
        raise FednError(f"drawing subjects needs at least two of them, got {subjects}; are the subjects named?")
    rng = np.random.default_rng(seed)
    return rng.multinomial(subjects, np.full(subjects, 1 / subjects), size=resamples).astype(float)


def _intervals(values: Mapping[str, float], draws: list[dict[str, float]], level: float) -> dict[str, Interval]:
    tail = 100 * (1 - level) / 2
    intervals = {}
    for name, value in values.items():
        low, high = np.percentile([draw[name] for draw in draws if name in draw], [tail, 100 - tail])
        intervals[name] = Interval(float(value), float(low), float(high))
    return intervals


__all__ = ["Interval", "bootstrap", "paired_difference"]
