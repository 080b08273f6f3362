"""How good a detector is at every threshold, and how far its scores can be read as probabilities."""

from collections.abc import Sequence

import numpy as np

from ..media_fedn import FednError
from ..metrics import Expressions, Videos, average_precision, spotting
from .style import COLOURS, FAINT, INK, LINES, MARKERS, cycled, named, new_figure, rules, type_style

_Z = 1.959964  # two-sided 95 %


def draw_precision_recall(predictions: Expressions, events: Expressions, videos: Videos | None = None):
    """
    Draw precision over recall for each type and for all together, under the strict protocol (one-to-one in the order
    of scores, IoU 0.5, type must agree).

    Args:
        predictions: what a detector found, down to low scores.
        events: what coders marked.
        videos: as in `fedn_hf.metrics.spotting`.

    Returns:
        A matplotlib `Figure`.

    Raises:
        `FednError`: predictions without scores, no events, or matplotlib is not installed.

    Example:
        >>> events = Expressions.from_rows([("v1", 10, 29, "macro"), ("v1", 50, 58, "micro")])
        >>> found = Expressions.from_rows([("v1", 12, 30, "macro", 0.9), ("v1", 80, 99, "macro", 0.2)])
        >>> axes = draw_precision_recall(found, events).axes[0]
        >>> [line.get_label() for line in axes.lines if line.get_gid()]
        ['all: AP 0.50, 2 to find', 'macro: AP 1.00, 1 to find', 'micro: AP 0.00, 1 to find']
    """
    if not len(events):
        raise FednError("precision and recall need events that coders marked, got none")
    if len(predictions) and predictions.score is None:
        raise FednError("a curve over thresholds needs scores, and these predictions have none")
    right = _right(predictions, events, videos)
    score = predictions.score if len(predictions) else np.zeros(0)
    with rules():
        figure = new_figure(5.4, 4.8)
        axes = figure.subplots()
        _iso_f1(axes)
        kinds = [None, *sorted({kind for kind in events.type if kind is not None})]
        for place, kind in enumerate(kinds if len(kinds) > 2 else [None]):
            mine, there = (np.array([kind in (None, k) for k in table.type], bool) for table in (predictions, events))
            total = int(there.sum())
            recall, precision = precision_recall(score[mine], right[mine], total)
            area = average_precision(score[mine], right[mine], total)
            whole = None if kind is None else f"{kind.removesuffix('-expression')}-expression"
            style = {"color": INK, "marker": ""} if whole is None else type_style([whole], whole)
            axes.plot(
                recall, precision, cycled(LINES, place), color=style["color"], lw=1.6, marker=style["marker"], ms=4,
                mfc="white", markevery=0.15, gid=named("curve", kind or "all"),
                label=f"{kind or 'all'}: AP {area:.2f}, {total} to find",
            )  # fmt: skip
        axes.set(xlim=(0, 1.01), ylim=(0, 1.03), xlabel="recall", ylabel="precision")
        axes.set_title("Precision and recall, strict protocol, IoU ≥ 0.5")
        figure.legend(handles=[line for line in axes.lines if line.get_gid()], loc="outside lower left")
        return figure


def precision_recall(score: np.ndarray, right: np.ndarray, events: int) -> tuple[np.ndarray, np.ndarray]:
    """Recall and precision (R,) with all predictions down to each of the R different scores; equal ones together."""
    order = np.argsort(-score, kind="stable")
    last = np.flatnonzero(np.diff(score[order], append=-np.inf))
    hits = np.cumsum(right[order])[last]
    return hits / events, hits / (last + 1)


def draw_calibration(score: Sequence[float], right: Sequence[bool], bins: int = 10):
    """
    Draw how often predictions of a score are right (with 95 % intervals after Wilson), and how many there are. Bins
    hold equal numbers of predictions, as few detections have high scores.

    Args:
        score (N,): of the predictions, 0 to 1.
        right (N,): whether each is a true positive; `is_right` says it for two tables.
        bins: how many groups of predictions.

    Returns:
        A matplotlib `Figure`. Its title has the expected calibration error: the mean distance between score and share
        of right predictions, weighted by their number.

    Raises:
        `FednError`: no predictions, scores out of range, or matplotlib is not installed.

    Source:
        Naeini et al., Obtaining well calibrated probabilities using Bayesian binning, AAAI 2015 (the error); Nixon et
        al., Measuring calibration in deep learning, CVPR workshops 2019 (bins of equal numbers).

    Example:
        >>> draw_calibration([0.9, 0.8, 0.3], [True, True, False], bins=2).axes[0].get_xlabel()
        'score'
    """
    score, right = np.asarray(score, float), np.asarray(right, bool)
    if not len(score) or score.shape != right.shape or not ((score >= 0) & (score <= 1)).all():
        raise FednError(
            f"calibration needs scores from 0 to 1 and as many truth values, got {score.shape} and {right.shape}"
        )
    groups = np.array_split(np.argsort(score, kind="stable"), min(bins, len(score)))
    mean = np.array([score[group].mean() for group in groups])
    share = np.array([right[group].mean() for group in groups])
    sizes = np.array([len(group) for group in groups])
    low, high = _wilson(share, sizes)
    error = float(np.abs(mean - share) @ sizes / len(score))
    with rules():
        figure = new_figure(5.4, 5.2)
        axes, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
        axes.plot([0, 1], [0, 1], color=FAINT, ls=":", lw=1, label="score = share of right ones")
        axes.errorbar(
            mean, share, yerr=[share - low, high - share], fmt=f"{MARKERS[0]}-", color=COLOURS[0], mfc="white", ms=5,
            lw=1.4, elinewidth=0.9, capsize=2.5, label="predictions, 95 % intervals",
        )  # fmt: skip
        axes.set(xlim=(0, 1), ylim=(-0.02, 1.02), ylabel="share that is right", xlabel="score")
        axes.tick_params(labelbottom=True)
        axes.set_title(f"Calibration: expected error {error:.3f}, {len(score)} predictions")
        axes.legend(loc="upper left")
        edges = np.linspace(0, 1, 21)
        below.hist([score[right], score[~right]], edges, stacked=True, color=[COLOURS[0], "white"],
                   edgecolor=INK, lw=0.6, label=["right", "wrong"])  # fmt: skip
        below.set_ylabel("predictions")
        below.legend(loc="upper right", ncols=2)
        return figure


def is_right(predictions: Expressions, events: Expressions, videos: Videos | None = None) -> np.ndarray:
    """(N,) whether each prediction is a true positive under the strict protocol."""
    return _right(predictions, events, videos)


def _right(predictions: Expressions, events: Expressions, videos: Videos | None) -> np.ndarray:
    right = np.zeros(len(predictions), bool)
    right[[row for row, _, _ in spotting(predictions, events, videos=videos).pairs]] = True
    return right


def _wilson(share: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """95 % interval of a share: Wilson, Probable inference, the law of succession, and statistical inference, 1927."""
    middle = (share + _Z**2 / (2 * count)) / (1 + _Z**2 / count)
    half = _Z * np.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2)) / (1 + _Z**2 / count)
    return np.clip(middle - half, 0, share), np.clip(middle + half, share, 1)


def _iso_f1(axes) -> None:
    for f1 in (0.2, 0.4, 0.6, 0.8):
        recall = np.linspace(f1 / (2 - f1) + 1e-6, 1, 100)
        axes.plot(recall, f1 * recall / (2 * recall - f1), color="#d0d0d0", lw=0.7, zorder=0)
        axes.annotate(f"F1 {f1}", (1.0, f1 / (2 - f1)), color=FAINT, fontsize=7, ha="right", va="bottom")


__all__ = ["draw_calibration", "draw_precision_recall", "is_right", "precision_recall"]
