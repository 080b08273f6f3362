"""Which action units make which emotion: recipes after FACS, several to an emotion, as coders meet them.

An emotion is not one pattern. Each recipe has a weight (how often it is met) and a strength for every action unit,
relative to the strongest. The variants follow the usual tables (EMFACS; Davison et al., Objective Classes for
Micro-Facial Expression Recognition, 2018), their weights what the corpora's sheets most often name.
"""

from dataclasses import dataclass

import numpy as np

# The columns of all arrays of action units: every one that an expression, speech, or anything else moves.
ACTION_UNITS: tuple[int, ...] = (
    *(1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 16, 17, 18, 20, 22, 23, 24, 25, 26, 27, 28, 29, 33, 45),
)
COLUMN = {unit: column for column, unit in enumerate(ACTION_UNITS)}
EMOTIONS = ("happiness", "surprise", "disgust", "fear", "anger", "sadness", "others")

# Units that move both sides alike: those of the jaw, and muscles that ring the mouth.
MEDIAL = frozenset((17, 18, 22, 23, 24, 25, 26, 27, 28, 29))
# Units that people also show on one side only, other than by much training.
ONE_SIDED = frozenset((2, 6, 7, 9, 10, 12, 14, 15, 16, 20))


@dataclass(frozen=True)
class Recipe:
    """Action units with their strengths relative to the first, the strongest; `weight`: how often it is met."""

    weight: float
    action_units: dict[int, float]


RECIPES: dict[str, tuple[Recipe, ...]] = {
    "happiness": (
        Recipe(4, {12: 1.0}),
        Recipe(4, {12: 1.0, 6: 0.8}),
        Recipe(2, {12: 1.0, 6: 0.7, 25: 0.6}),
        Recipe(1, {12: 1.0, 25: 0.5}),
        Recipe(1, {12: 1.0, 6: 0.8, 7: 0.5, 25: 0.8, 26: 0.4}),
        Recipe(1, {12: 1.0, 6: 0.6, 14: 0.5}),
        Recipe(0.7, {12: 1.0, 24: 0.6}),
    ),
    "surprise": (
        Recipe(5, {1: 1.0, 2: 1.0}),
        Recipe(2, {1: 1.0, 2: 1.0, 5: 0.7}),
        Recipe(2, {1: 1.0, 2: 0.9, 5: 0.8, 26: 0.7, 25: 0.6}),
        Recipe(1, {2: 1.0, 1: 0.9, 25: 0.6, 27: 0.6}),
        Recipe(1.5, {5: 1.0}),
        Recipe(0.7, {26: 1.0, 25: 0.8, 5: 0.5}),
    ),
    "disgust": (
        Recipe(2, {9: 1.0}),
        Recipe(2, {9: 1.0, 4: 0.7}),
        Recipe(1.5, {9: 1.0, 4: 0.7, 7: 0.6}),
        Recipe(2, {10: 1.0}),
        Recipe(1.5, {10: 1.0, 17: 0.6}),
        Recipe(1, {9: 1.0, 10: 0.7, 6: 0.4, 25: 0.4}),
        Recipe(0.7, {10: 1.0, 4: 0.6, 16: 0.4, 25: 0.4}),
    ),
    "fear": (
        Recipe(2, {1: 1.0, 2: 0.8, 4: 0.8}),
        Recipe(2, {1: 1.0, 2: 0.8, 4: 0.7, 5: 0.8, 20: 0.6}),
        Recipe(1, {5: 1.0, 1: 0.9, 4: 0.8, 7: 0.5}),
        Recipe(1.5, {20: 1.0, 25: 0.5}),
        Recipe(1, {5: 1.0, 1: 0.9, 2: 0.7, 4: 0.7, 20: 0.7, 26: 0.6, 25: 0.6}),
        Recipe(1, {5: 1.0, 20: 0.8}),
    ),
    "anger": (
        Recipe(3, {4: 1.0}),
        Recipe(3, {4: 1.0, 7: 0.7}),
        Recipe(1.5, {4: 1.0, 5: 0.7, 7: 0.5, 23: 0.6}),
        Recipe(1.5, {4: 1.0, 7: 0.6, 24: 0.7}),
        Recipe(1, {23: 1.0, 4: 0.5}),
        Recipe(0.7, {17: 1.0, 24: 0.9}),
        Recipe(0.7, {4: 1.0, 7: 0.7, 10: 0.5, 23: 0.5, 25: 0.4}),
    ),
    "sadness": (
        Recipe(3, {1: 1.0, 4: 0.7}),
        Recipe(2, {1: 1.0}),
        Recipe(2, {15: 1.0}),
        Recipe(2, {1: 1.0, 4: 0.7, 15: 0.8}),
        Recipe(1.5, {15: 1.0, 17: 0.8}),
        Recipe(1, {17: 1.0, 1: 0.9, 4: 0.6, 15: 0.8}),
        Recipe(0.5, {15: 1.0, 6: 0.6, 17: 0.5}),
    ),
    "others": (
        Recipe(5, {14: 1.0}),
        Recipe(2, {14: 1.0, 24: 0.8}),
        Recipe(1, {24: 1.0}),
        Recipe(1, {24: 1.0, 4: 0.6}),
        Recipe(1, {28: 1.0, 14: 0.6}),
        Recipe(0.7, {28: 1.0}),
        Recipe(1, {17: 1.0}),
        Recipe(1, {7: 1.0}),
        Recipe(0.7, {2: 1.0}),
        Recipe(0.7, {18: 1.0}),
        Recipe(0.5, {16: 1.0, 24: 0.7}),
    ),
}


def cook(emotion: str, intensity: float, one_sided: float, rng: np.random.Generator) -> dict[int, tuple[float, float]]:
    """
    A recipe of the emotion as one person does it once: action unit -> peak (left, right) in 0..1.

    The first unit leads: it reaches `intensity` on at least one side, and no other goes beyond it. The others may stay
    away (partial activation), sides differ, and with probability `one_sided` only one side moves at all.

    Example:

    ```python
    >>> import numpy as np
    >>> from fedn_hf.synthetic.facs import cook

    >>> peaks = cook("happiness", 0.1, one_sided=0.0, rng=np.random.default_rng(0))
    >>> 12 in peaks, max(max(sides) for sides in peaks.values())
    (True, 0.1)
    ```
    """
    recipes = RECIPES[emotion]
    # One-sided events come from the recipes that can be: in the sheets they nearly all are 14, 12, 10 or 2.
    able = [recipe for recipe in recipes if next(iter(recipe.action_units)) in ONE_SIDED]
    alone = bool(able) and rng.random() < one_sided
    recipes = able if alone else recipes
    weights = np.array([recipe.weight for recipe in recipes])
    recipe = recipes[rng.choice(len(recipes), p=weights / weights.sum())].action_units
    weak_side, weakness = int(rng.integers(2)), 1 - 0.5 * rng.beta(1, 3)  # the same sidedness for the whole event
    peaks = {}
    for place, (unit, strength) in enumerate(recipe.items()):
        peak = intensity * min(1.0, strength * rng.uniform(0.7, 1.25))
        if place and rng.random() > 0.85:
            continue
        peak = peak if place else intensity
        weaker = peak * (1 if unit in MEDIAL else 0 if alone and unit in ONE_SIDED else weakness)
        peaks[unit] = (peak, weaker) if weak_side else (weaker, peak)
    return peaks


__all__ = ["ACTION_UNITS", "COLUMN", "EMOTIONS", "MEDIAL", "ONE_SIDED", "RECIPES", "Recipe", "cook"]
