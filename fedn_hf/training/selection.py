"""Thresholds, chosen by subjects who are not tested with them."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..metrics import STRICT, Expressions, Videos
from ..metrics.matching import Problem, match, overlaps, prepare
from ..metrics.spotting import count

# Fixed beforehand, so that nothing about a test subject can be in it.
THRESHOLDS = tuple(round(0.02 * step, 2) for step in range(1, 50))


def choose_by_type(
    raw: Expressions, events: Expressions, videos: Videos, *, each: bool = False
) -> dict[str, dict[str, Any]]:
    """
    For every subject, the epoch and the threshold per type with the highest strict F1 over both types on all others;
    of equal ones the earliest and lowest.

    Args:
        each: whether a threshold is instead the best for the F1 of its own type. Over both types together a rare and
            difficult one is best left alone, so its threshold rises until next to nothing of it is found.

    Returns:
        Subject -> `{"epoch": epoch or None, type: threshold, ...}`.

    Example:

    ```python
    >>> from fedn_hf.metrics import Expressions, Videos
    >>> from fedn_hf.training.selection import choose_by_type

    >>> columns = ("subject", "video", "onset", "offset", "type", "score")
    >>> truth = [("a", "v", 0, 9, "macro"), ("b", "w", 0, 9, "macro")]
    >>> found = [(*row, 0.9) for row in truth] + [("a", "v", 50, 60, "macro", 0.3), ("b", "w", 50, 60, "macro", 0.1)]
    >>> raw, events = (Expressions.from_rows([dict(zip(columns, row)) for row in rows]) for rows in (found, truth))
    >>> choose_by_type(raw, events, Videos(["v", "w"], ["a", "b"]))
    {'a': {'epoch': None, 'macro': 0.12}, 'b': {'epoch': None, 'macro': 0.32}}
    ```
    """
    counts, epochs, problem = _count(raw, events, videos)
    total = counts.sum(axis=2)
    choose = _best_of_each if each else _best
    return {
        subject: choose(total - counts[:, :, number], epochs, problem.kinds)[1]
        for number, subject in enumerate(problem.subjects)
    }


def best_f1(raw: Expressions, events: Expressions) -> float:
    """
    The highest strict F1 over both types that one threshold per type gives: how good a network is on subjects that it
    may be chosen by, without saying at which threshold. 0 where nothing was found.

    Example:

    ```python
    >>> from fedn_hf.metrics import Expressions
    >>> from fedn_hf.training.selection import best_f1

    >>> events = Expressions.from_rows([("v", 0, 9, "macro"), ("v", 20, 29, "macro")])
    >>> best_f1(Expressions.from_rows([("v", 0, 9, "macro", 0.9), ("v", 50, 90, "macro", 0.3)]), events)
    0.6666666667
    ```
    """
    return best_by_type(raw, events)[1]


def best_by_type(raw: Expressions, events: Expressions) -> tuple[dict[str, float], float]:
    """
    The threshold per type with the highest strict F1 over both types, of equal ones the lowest, and that F1; no
    threshold for a type that is neither found nor marked.

    Example:

    ```python
    >>> from fedn_hf.metrics import Expressions
    >>> from fedn_hf.training.selection import best_by_type

    >>> events = Expressions.from_rows([("v", 0, 9, "macro"), ("v", 20, 29, "micro")])
    >>> found = [("v", 0, 9, "macro", 0.5), ("v", 50, 90, "macro", 0.3), ("v", 20, 29, "micro", 0.1)]
    >>> best_by_type(Expressions.from_rows(found), events)
    ({'macro': 0.32, 'micro': 0.02}, 1.0)
    ```
    """
    if not len(raw):
        return {}, 0.0
    counts, epochs, problem = _count(raw, events, None)
    f1, chosen = _best(counts.sum(axis=2), epochs, problem.kinds)
    return {kind: chosen[kind] for kind in problem.kinds}, round(f1, 10)


def best_threshold(raw: Expressions, events: Expressions) -> tuple[float | None, float]:
    """
    The one threshold for both types with the highest strict F1, of equal ones the lowest, and that F1; `None` and 0
    where no threshold finds anything that is marked.

    Example:

    ```python
    >>> from fedn_hf.metrics import Expressions
    >>> from fedn_hf.training.selection import best_threshold

    >>> events = Expressions.from_rows([("v", 0, 9, "macro"), ("v", 20, 29, "micro")])
    >>> best_threshold(Expressions.from_rows([("v", 0, 9, "macro", 0.9), ("v", 50, 90, "micro", 0.3)]), events)
    (0.32, 0.6666666667)
    ```
    """
    if not len(raw):
        return None, 0.0
    totals = _count(raw, events, None)[0].sum(axis=(0, 2, 3))  # (thresholds, 3)
    f1 = np.round(2 * totals[:, 0] / np.maximum(totals[:, 1:].sum(-1), 1), 10)
    best = int(f1.argmax())
    return (THRESHOLDS[best] if f1[best] else None), float(f1[best])


def _count(raw: Expressions, events: Expressions, videos: Videos | None) -> tuple[np.ndarray, list, Problem]:
    """True positives, predictions and events (epochs, thresholds, subjects, types, 3); the epochs; the problem."""
    problem = prepare(dataclasses.replace(raw, epoch=None), events, STRICT, videos)
    owner, row = problem.subject_of_video, problem.predictions.row
    score = raw.score[row]
    epochs = [None] if raw.epoch is None or not len(raw) else np.unique(raw.epoch).tolist()
    counts = np.zeros((len(epochs), len(THRESHOLDS), len(problem.subjects), len(problem.kinds), 3))
    for e, epoch in enumerate(epochs):
        in_epoch = np.ones(len(row), bool) if epoch is None else raw.epoch[row] == epoch
        for t, threshold in enumerate(THRESHOLDS):
            rows = np.flatnonzero(in_epoch & (score >= threshold))
            part = dataclasses.replace(problem, predictions=problem.predictions.at(rows))
            here = np.arange(len(rows))
            hits = match(part, overlaps(part, here, STRICT.iou_threshold))
            np.add.at(counts[e, t], owner, count(part, here, hits))
    return counts, epochs, problem


def _best(counts: np.ndarray, epochs: list[int | None], kinds: Sequence[str]) -> tuple[float, dict[str, Any]]:
    """
    The highest F1, and the choice that gives it, of counts (epochs, thresholds, types, 3). Types are matched apart, so
    their counts add up.
    """
    found = np.zeros((len(epochs), *[1] * len(kinds)))
    sizes = found.copy()  # predictions and events together
    for place in range(len(kinds)):
        shape = [len(epochs), *[1] * len(kinds)]
        shape[1 + place] = len(THRESHOLDS)
        found = found + counts[:, :, place, 0].reshape(shape)
        sizes = sizes + counts[:, :, place, 1:].sum(-1).reshape(shape)
    f1 = np.round(2 * found / np.maximum(sizes, 1), 12)
    epoch, *thresholds = np.unravel_index(int(f1.argmax()), f1.shape)
    chosen = {kind: THRESHOLDS[index] for kind, index in zip(kinds, thresholds, strict=True)}
    return float(f1.max()), {"epoch": epochs[epoch], **chosen}


def _best_of_each(counts: np.ndarray, epochs: list[int | None], kinds: Sequence[str]) -> tuple[float, dict[str, Any]]:
    """As `_best`, in its epoch, but with the threshold of each type that gives the highest F1 of that type."""
    f1, choice = _best(counts, epochs, kinds)
    here = counts[epochs.index(choice["epoch"])]  # (thresholds, types, 3)
    of_type = np.round(2 * here[..., 0] / np.maximum(here[..., 1:].sum(-1), 1), 12)
    return f1, {**choice, **{kind: THRESHOLDS[row] for kind, row in zip(kinds, of_type.argmax(0), strict=True)}}


__all__ = ["THRESHOLDS", "best_by_type", "best_f1", "best_threshold", "choose_by_type"]
