"""Scores that mean something: of a hundred expressions reported with a score of 0.7, some seventy are there.

Focal losses and averaged weights leave a network too timid or too bold. What it says is put right by two numbers that
subjects who do not train choose (Platt, 1999): every score s becomes sigmoid(a logit(s) + b). They go into the last
layers of the branches that scores are made of, so a calibrated checkpoint is like any other.
"""

import numpy as np
import torch

from ..metrics import STRICT, Expressions
from ..metrics.matching import match, overlaps, prepare
from ..modeling_fedn import FednForFacialExpressionDetection

_BRANCHES = ("confidence", "type_logits")
_STEPS = 50
_PULL = 1.0  # towards leaving scores as they are, as much as one detection


def is_right(found: Expressions, events: Expressions) -> np.ndarray:
    """
    Whether each detection is a true positive under the strict protocol where all of them are reported, bool (N,).

    Example:

    ```python
    >>> from fedn_hf.metrics import Expressions
    >>> from fedn_hf.training.calibration import is_right

    >>> events = Expressions.from_rows([("v", 0, 9, "macro"), ("v", 20, 29, "micro")])
    >>> found = [("v", 1, 9, "macro", 0.9), ("v", 0, 8, "macro", 0.5), ("v", 20, 29, "macro", 0.3)]
    >>> is_right(Expressions.from_rows(found), events).tolist()
    [True, False, False]
    ```
    """
    problem = prepare(found, events, STRICT)
    pairs = overlaps(problem, np.arange(len(problem.predictions)), STRICT.iou_threshold)
    right = np.zeros(len(found), bool)
    right[problem.predictions.row[match(problem, pairs).prediction]] = True
    return right


def fit_line(scores: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """
    The a > 0 and b that make sigmoid(a logit(s) + b) most likely, by Newton's method.

    Args:
        scores: (N,), between 0 and 1.
        right: bool (N,).

    Example:

    ```python
    >>> import numpy as np
    >>> from fedn_hf.training.calibration import fit_line

    >>> scores = np.repeat([0.2, 0.4], 1000)  # of which in truth 0.4 and 0.6 are right
    >>> right = np.arange(2000) % 1000 < np.repeat([400, 600], 1000)
    >>> a, b = fit_line(scores, right)
    >>> (1 / (1 + np.exp(-(a * np.log([0.25, 2 / 3]) + b)))).round(2).tolist()
    [0.4, 0.6]
    ```
    """
    scores = np.clip(np.asarray(scores, np.float64), 1e-6, 1 - 1e-6)
    logits = np.log(scores) - np.log1p(-scores)
    inputs, line = np.stack([logits, np.ones_like(logits)], 1), np.array([1.0, 0.0])
    for _ in range(_STEPS):
        said = 1 / (1 + np.exp(-inputs @ line))
        gradient = inputs.T @ (said - right) + _PULL * (line - [1.0, 0.0])
        curvature = (inputs * (said * (1 - said))[:, None]).T @ inputs + _PULL * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        line = line - step / max(1.0, np.abs(step).max())
    return float(max(line[0], 0.05)), float(line[1])


@torch.no_grad()
def calibrate(
    model: FednForFacialExpressionDetection, found: Expressions, events: Expressions
) -> tuple[float, float] | None:
    """
    Put a network's scores right, in place.

    Args:
        model: That found intervals.
        found: What it reports of subjects who did not train, down to a low score.
        events: What is marked there.

    Returns:
        a and b, or `None` where too little was found, or nothing right, to learn from.

    Example:

    ```python
    >>> from fedn_hf import FednConfig, FednForFacialExpressionDetection
    >>> from fedn_hf.metrics import Expressions
    >>> from fedn_hf.training.calibration import calibrate

    >>> model = FednForFacialExpressionDetection(FednConfig(backbone_config=None))
    >>> nothing = Expressions.from_rows([("v", 0, 9, "macro", 0.9)])
    >>> calibrate(model, nothing, Expressions.from_rows([("v", 50, 90, "macro")])) is None
    True
    ```
    """
    if not len(found):
        return None
    right = is_right(found, events)
    if right.sum() < 10 or right.all():
        return None
    slope, shift = fit_line(found.score, right)
    for name in _BRANCHES:
        layer = model.branches[name].predict
        layer.weight.mul_(slope)
        layer.bias.mul_(slope).add_(shift)
    return slope, shift


def reliability(scores: np.ndarray, right: np.ndarray, bins: int = 10) -> tuple[list[dict[str, float]], float]:
    """
    How often detections of each range of scores are right, and the expected calibration error: the mean distance of
    the two, weighted by counts (Naeini et al., 2015).

    Example:

    ```python
    >>> import numpy as np
    >>> from fedn_hf.training.calibration import reliability

    >>> curve, error = reliability(np.array([0.15, 0.15, 0.9]), np.array([False, True, True]), bins=2)
    >>> [(row["score"], row["right"], row["count"]) for row in curve], round(error, 3)
    ([(0.15, 0.5, 2), (0.9, 1.0, 1)], 0.267)
    ```
    """
    scores, right = np.asarray(scores, np.float64), np.asarray(right, bool)
    place = np.minimum((scores * bins).astype(int), bins - 1)
    curve = []
    for number in range(bins):
        here = place == number
        if here.any():
            curve.append(
                {"score": float(scores[here].mean()), "right": float(right[here].mean()), "count": int(here.sum())}
            )
    error = sum(abs(row["score"] - row["right"]) * row["count"] for row in curve) / max(1, len(scores))
    return curve, float(error)


__all__ = ["calibrate", "fit_line", "is_right", "reliability"]
