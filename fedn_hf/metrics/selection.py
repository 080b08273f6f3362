"""Choosing epoch, threshold and top_k on saved raw detections: honestly, by other subjects, or as oracles do.

Most papers report the epoch or threshold that was best on the subjects they test on. The same detections are scored
here in every way at once, the strict and nested one first, and oracles are called oracles.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ..media_fedn import FednError
from .expressions import Expressions, Videos
from .matching import Problem, keep, match, overlaps, prepare
from .protocol import PRESETS, STRICT, Protocol, Selection, get_protocol
from .spotting import SpottingResult, count, pool, spotting

# The switches of a protocol that say what was chosen, and by whom.
_CHOSEN = ("score_threshold", "score_comparison", "top_k", "selection")
_WORDS: dict[str, str] = {
    "nested": "nested: chosen on the other subjects",
    "fixed": "fixed",
    "pooled_oracle": "ORACLE: chosen on all test subjects",
    "subject_oracle": "ORACLE: chosen on each test subject",
}


class Choice(NamedTuple):
    """What was chosen; `None` where there was nothing to choose."""

    epoch: int | None
    score_threshold: float | None
    top_k: int | None

    def __str__(self) -> str:
        told = [f"{name} {value}" for name, value in self._asdict().items() if value is not None]
        return ", ".join(told) or "everything"


@dataclass(frozen=True)
class SelectedResult:
    """
    Detections under one protocol and one way of choosing.

    rules: the protocol's title, without what was chosen.
    selection: who chose.
    choices: subject -> [`Choice`] under which its videos were scored.
    result: [`SpottingResult`] of the predictions that were chosen.
    predictions: these predictions.
    """

    rules: str
    selection: Selection
    choices: dict[str, Choice]
    result: SpottingResult
    predictions: Expressions = field(repr=False)

    @property
    def is_oracle(self) -> bool:
        """Whether the test subjects chose for themselves, which cannot be had in practice."""
        return self.selection in ("pooled_oracle", "subject_oracle")

    @property
    def described(self) -> str:
        """Who chose, in words; and what, where it was given."""
        given = f": {next(iter(self.choices.values()))}" if self.selection == "fixed" else ""
        return _WORDS[self.selection] + given

    @property
    def protocol(self) -> Protocol:
        """The rules of the result, with what was chosen by `selection`."""
        return self.result.protocol

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        choices = {subject: choice._asdict() for subject, choice in self.choices.items()}
        facts = {"rules": self.rules, "selection": self.selection, "is_oracle": self.is_oracle, "choices": choices}
        return {**facts, **self.result.to_dict()}


@dataclass(frozen=True)
class SelectionReport:
    """
    The same raw detections under all ways of choosing, strict and nested first, then what is nested or fixed under
    other rules, oracles last.

    results: [`SelectedResult`]s in that order.
    protocol: what was asked for; `result` is scored by it, with its `selection`.
    """

    results: tuple[SelectedResult, ...]
    protocol: Protocol

    def get(self, selection: Selection, protocol: Protocol | str | None = None) -> SelectedResult:
        """The result of a way of choosing, under the protocol that was asked for or under "strict"."""
        rules = _rules(self.protocol if protocol is None else get_protocol(protocol)).title
        for chosen in self.results:
            if chosen.selection == selection and chosen.rules == rules:
                return chosen
        raise FednError(f"no result for selection {selection!r} under {rules!r}")

    @property
    def result(self) -> SelectedResult:
        """What was asked for: the protocol with the selection that it names."""
        return self.get(self.protocol.selection)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {"protocol": self.protocol.to_dict(), "results": [chosen.to_dict() for chosen in self.results]}

    def __str__(self) -> str:
        lines = [f"{'rules':15}{'selection':53}{'TP':>5}{'found':>7}{'events':>8}{'F1':>9}  per type"]
        for chosen in self.results:
            result = chosen.result
            kinds = ", ".join(f"{name} {result.pooled[name]['f1']:.4f}" for name in result.per_type)
            c = result.overall
            lines.append(
                f"{chosen.rules:15}{chosen.described:53}{c.true_positives:5}{c.predictions:7}"
                f"{c.events:8}{result.f1:9.4f}  {kinds}"
            )
        return "\n".join(lines)


def select(
    raw: Expressions,
    events: Expressions,
    protocol: Protocol | str = STRICT,
    videos: Videos | None = None,
    *,
    epochs: Sequence[int] | None = None,
    score_thresholds: Sequence[float | None] | None = None,
    top_ks: Sequence[int | None] | None = None,
    fixed: Choice | None = None,
) -> SelectionReport:
    """
    Score raw detections under every way of choosing an epoch, a threshold and a number of predictions per video.

    The choice is the first candidate with the highest F1 over both types; candidates run over epochs, then
    thresholds, then numbers, in the order given. In an epoch without detections of a subject nothing was found.

    Args:
        raw: all detections, perhaps of several epochs (column `epoch`).
        events, videos: as in `spotting`.
        protocol: the rules; the strict rules are always reported as well, and first.
        epochs: to choose from; all that occur, in rising order, by default.
        score_thresholds, top_ks: to choose from; by default the protocol's own values, so that nothing is chosen.
        fixed: the choice of selection "fixed"; by default the last epoch and the protocol's own values.

    Raises:
        `FednError`: fewer than two subjects, or nothing to choose from; otherwise as `spotting`.

    Source:
        Cawley & Talbot, On over-fitting in model selection and subsequent selection bias in performance evaluation,
        JMLR 2010, for why what is chosen on the test set is no estimate.

    Example:
        >>> events = Expressions.from_rows([(f"v{i}", 0, 9, "macro") for i in range(3)])
        >>> sure = [(f"v{i}", 0, 9, "macro", 0.9) for i in range(3)]
        >>> raw = Expressions.from_rows([*sure, *((f"v{i}", 50, 90, "macro", 0.2) for i in range(3))])
        >>> report = select(raw, events, score_thresholds=[0.1, 0.5])
        >>> report.result.selection, report.result.result.f1, str(report.result.choices["v0"])
        ('nested', 1.0, 'score_threshold 0.5')
    """
    protocol = get_protocol(protocol)
    occurring = [None] if raw.epoch is None or not len(raw) else np.unique(raw.epoch).tolist()
    grid = [
        Choice(*values)
        for values in itertools.product(
            occurring if epochs is None else epochs,
            [protocol.score_threshold] if score_thresholds is None else score_thresholds,
            [protocol.top_k] if top_ks is None else top_ks,
        )
    ]
    if not grid:
        raise FednError("nothing to choose from: epochs, score_thresholds and top_ks must not be empty lists")
    fixed = fixed or Choice(occurring[-1], protocol.score_threshold, protocol.top_k)
    strict = dataclasses.replace(STRICT, score_comparison=protocol.score_comparison)
    results: list[SelectedResult] = []
    for rules in (strict, protocol) if _rules(protocol) != STRICT else (protocol,):
        results += _all_ways(raw, events, rules, videos, grid, fixed)
    # Stable, so that strict comes before the other rules and nested before fixed.
    results.sort(key=lambda chosen: chosen.is_oracle)
    return SelectionReport(tuple(results), protocol)


def _rules(protocol: Protocol) -> Protocol:
    """The protocol without what `select` chooses."""
    preset = PRESETS.get(protocol.name, STRICT)
    return dataclasses.replace(protocol, **{name: getattr(preset, name) for name in _CHOSEN})


def _all_ways(
    raw: Expressions,
    events: Expressions,
    rules: Protocol,
    videos: Videos | None,
    grid: list[Choice],
    fixed: Choice,
) -> list[SelectedResult]:
    problem = prepare(dataclasses.replace(raw, epoch=None), events, rules, videos)
    subjects = problem.subjects
    if len(subjects) < 2:
        raise FednError(f"choosing by other subjects needs at least two of them, got {len(subjects)}; are they named?")
    counts = _count_candidates(problem, raw, grid)
    every = np.eye(len(subjects))
    ways: dict[Selection, list[Choice]] = {
        "nested": [grid[_best(problem, counts, 1 - mine)] for mine in every],
        "fixed": [fixed] * len(subjects),
        "pooled_oracle": [grid[_best(problem, counts, np.ones(len(subjects)))]] * len(subjects),
        "subject_oracle": [grid[_best(problem, counts, mine)] for mine in every],
    }
    owner = problem.subject_of_video[problem.predictions.video]
    results = []
    for selection, choices in ways.items():
        rows = {choice: _rows(problem, raw, choice) for choice in set(choices)}
        mine = [rows[choice][owner[rows[choice]] == subject] for subject, choice in enumerate(choices)]
        chosen = raw[problem.predictions.row[np.sort(np.concatenate(mine))]]
        chosen = dataclasses.replace(chosen, epoch=None)
        told = dataclasses.replace(rules, score_threshold=None, top_k=None, selection=selection)
        scored, of_subject = spotting(chosen, events, told, videos), dict(zip(subjects, choices, strict=True))
        results.append(SelectedResult(_rules(rules).title, selection, of_subject, scored, chosen))
    return results


def _rows(problem: Problem, raw: Expressions, choice: Choice) -> np.ndarray:
    """Rows of the problem's predictions under a choice."""
    rows = np.arange(len(problem.predictions))
    if choice.epoch is not None:
        if raw.epoch is None:
            raise FednError(f"epoch {choice.epoch} cannot be taken: these detections have no column epoch")
        rows = np.flatnonzero(raw.epoch[problem.predictions.row] == choice.epoch)
    part = dataclasses.replace(problem, predictions=problem.predictions.at(rows))
    return rows[keep(part, choice.score_threshold, choice.top_k)]


def _count_candidates(problem: Problem, raw: Expressions, grid: list[Choice]) -> np.ndarray:
    """(candidates, V, K, 3) true positives, predictions, events."""
    counts = np.zeros((len(grid), len(problem.videos), len(problem.kinds), 3))
    for place, choice in enumerate(grid):
        rows = _rows(problem, raw, choice)
        part = dataclasses.replace(problem, predictions=problem.predictions.at(rows))
        here = np.arange(len(rows))
        counts[place] = count(part, here, match(part, overlaps(part, here, problem.protocol.iou_threshold)))
    return counts


def _best(problem: Problem, counts: np.ndarray, weights: np.ndarray) -> int:
    """The first candidate of the highest F1 over subjects with these weights."""
    subject, pooling = problem.subject_of_video, problem.protocol.pooling
    f1 = [pool(candidate, subject, pooling, weights)[-1, 2] for candidate in counts]
    return int(np.argmax(np.round(f1, 12)))  # the same F1 of other counts may differ in its last bit


__all__ = ["Choice", "SelectedResult", "SelectionReport", "select"]
