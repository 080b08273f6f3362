"""The paint: colour and shine of skin, lips, brows, eyes, hair and clothes, and where the skin folds.

All of it is put on the mean head, by places in centimetres (see `face_model.py`), and lands on the same features of
every other head.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from .face_model import ACTION_UNITS
from .props import noise, smoothstep
from .raster import pack

ATLAS = (512, 768)
# Patches of the atlas: top, left, size. Those of one cell have one colour.
_PATCHES = {
    "face": (0, 0, 512), "head": (0, 512, 256), "hair": (256, 512, 128), "eye": (256, 640, 128),
    "cloth": (384, 512, 128),
    "mouth": (392, 648, 8), "socket": (392, 664, 8), "gums": (392, 680, 8), "teeth": (392, 696, 8),
    "frame": (392, 712, 8), "hand": (392, 728, 8),
}  # fmt: skip

# Skin from the lightest to the darkest people, sRGB.
_SKIN = ((246, 220, 205), (234, 194, 170), (213, 164, 132), (176, 124, 90), (132, 88, 62), (90, 57, 41), (58, 38, 30))
HAIR = {
    "black": (22, 18, 17), "dark brown": (48, 32, 24), "brown": (84, 56, 38), "blond": (166, 128, 84),
    "red": (128, 62, 32), "grey": (138, 134, 130), "white": (205, 200, 194),
}  # fmt: skip
IRIS = {
    "brown": (74, 44, 24),
    "dark": (42, 26, 18),
    "hazel": (104, 80, 44),
    "green": (96, 110, 78),
    "blue": (96, 124, 150),
}

# Places on the mean head in cm, on the left side; x, y.
_BROW = np.array([(1.1, 5.75), (2.4, 6.25), (3.9, 6.2), (5.0, 5.8), (5.8, 5.2)])
_UPPER_LID = np.array([(1.8, 3.25), (2.1, 3.6), (2.8, 3.94), (3.4, 3.97), (3.9, 3.85), (4.5, 3.42)])
_LOWER_LID = np.array([(1.8, 3.25), (2.7, 3.07), (3.4, 3.0), (3.9, 3.08), (4.5, 3.42)])
_UPPER_LIP = np.array([(0.0, -2.5), (0.7, -2.38), (1.6, -2.8), (2.55, -3.5)])
_LOWER_LIP = np.array([(0.0, -4.42), (0.8, -4.36), (1.6, -4.05), (2.55, -3.5)])

# Folds that skin falls into: the action units that close each (with how much), and lines x, y on the left side.
_FOLDS: tuple[tuple[dict[int, float], float, tuple], ...] = (
    ({1: 0.6, 2: 0.6}, 0.12,
     (((0, 7.3), (2.5, 7.6), (4.4, 7.3)), ((0, 8.1), (2.5, 8.4), (4.2, 8.1)), ((0, 8.9), (3.5, 9.0)))),
    ({4: 1.0}, 0.09, (((0.5, 4.6), (0.6, 5.4), (0.9, 6.4)), ((0.25, 5.0), (0.2, 5.9)))),
    ({6: 1.0, 12: 0.4}, 0.08, (((5.1, 3.6), (6.4, 4.4)), ((5.2, 3.3), (6.7, 3.4)), ((5.1, 3.0), (6.4, 2.3)))),
    ({12: 0.8, 9: 0.5, 10: 0.8}, 0.14, (((1.4, -0.4), (2.2, -1.2), (3.0, -2.6), (3.3, -3.8)),)),
    ({9: 1.0}, 0.08, (((0, 3.1), (0.9, 3.3)), ((0, 3.7), (0.9, 4.1)), ((0.7, 2.4), (1.4, 3.0)))),
    ({17: 1.0}, 0.16, (((0.0, -5.1), (1.0, -5.3)), ((0.4, -6.0), (0.9, -6.3)), ((0.0, -6.6), (0.5, -6.7)))),
    ({14: 1.0, 12: 0.25}, 0.10, (((2.9, -3.0), (3.1, -3.5), (3.0, -4.1)),)),
    ({6: 0.7, 7: 0.7}, 0.08, (((2.0, 2.6), (3.2, 2.25), (4.6, 2.6)), ((2.0, 2.2), (3.0, 1.75)))),
)  # fmt: skip


def linear(colour: Sequence[float]) -> np.ndarray:
    """Linear light (IEC 61966-2-1) of an sRGB colour with values from 0 to 255."""
    value = np.asarray(colour, float) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def thing_colour(rng: np.random.Generator) -> np.ndarray:
    """Linear colour of a thing: most are dull."""
    grey, saturation = rng.uniform(15, 235), rng.beta(1.0, 3.5)
    return linear(np.clip(grey + saturation * (rng.uniform(0, 255, 3) - grey), 4, 245))


def in_patch(name: str, uv: np.ndarray) -> np.ndarray:
    """Texels (..., 2) of places in a patch, 0 to 1, v upwards."""
    top, left, size = _PATCHES[name]
    uv = np.clip(uv, 0, 1)
    return np.stack([left + 0.5 + uv[..., 0] * (size - 2), top + 0.5 + (1 - uv[..., 1]) * (size - 2)], -1)


def fold_weights(age: float) -> np.ndarray:
    """(1 + 2 * folds, 2 A); number 0 is smooth skin."""
    numbers = list(ACTION_UNITS)
    weights = np.zeros((1 + 2 * len(_FOLDS), 2 * len(numbers)), np.float32)
    for place, (units, _, _) in enumerate(_FOLDS):
        for unit, weight in units.items():
            for side in range(2):
                weights[1 + 2 * place + side, 2 * numbers.index(unit) + side] = weight * (0.5 + 0.7 * age)
    return weights


def fold_depths(points: np.ndarray) -> np.ndarray:
    """Depth (folds, N) of each fold of `_FOLDS` at points (N, 3) of the mean head, before a person's own share."""
    front = smoothstep(3.0, 6.0, points[:, 2])
    bent = 0.12 * np.stack([noise(points, 3), noise(points, 4)], -1)
    half = np.stack([np.abs(points[:, 0]), points[:, 1]], -1) + bent
    depths = np.zeros((len(_FOLDS), len(points)), np.float32)
    for depth, (_, width, lines) in zip(depths, _FOLDS, strict=True):
        for line in lines:
            away, along = distance_to(np.array(line, float), half)
            ends = smoothstep(-0.05, 0.15, np.minimum(along, 1 - along)) if len(line) > 2 else 1.0
            np.maximum(depth, front * np.exp(-((away / width) ** 2)) * (0.4 + 0.6 * ends), out=depth)
    return depths


def paint(
    points: np.ndarray, is_skin: np.ndarray, folds: np.ndarray, traits: dict[str, Any], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """
    Atlas (h, w, 4) of albedo and shine, and creases (h, w, 2), as `raster.shade` takes them.

    Args:
        points (h, w, 3): places on the mean head of the texels where `is_skin` (h, w) says so.
        folds: of `fold_depths` there.
        traits: of the person, see `appearance.py`.
    """
    atlas, creases = np.zeros((*ATLAS, 4), np.float32), np.zeros((*ATLAS, 2), np.float32)
    skin = _skin_colour(traits["skin_tone"], rng)
    atlas[is_skin] = np.column_stack(_paint_skin(points[is_skin], skin, traits, rng))
    creases[is_skin] = _paint_folds(points[is_skin], folds, rng)
    flat = {
        "mouth": ((96, 34, 34), 0.05), "socket": ((120, 70, 62), 0.0), "gums": ((150, 72, 76), 0.1),
        "teeth": ((232, 226, 210) if rng.random() < 0.6 else (222, 208, 180), 0.12),
    }  # fmt: skip
    for name, (srgb, gloss) in flat.items():
        _fill(atlas, name, linear(srgb), gloss)
    frame = linear(rng.choice([(20, 20, 22), (60, 38, 26), (130, 126, 120), (40, 44, 90), (150, 110, 60)]))
    _fill(atlas, "frame", frame, 0.06)
    _fill(atlas, "hand", skin * rng.uniform(0.9, 1.05), 0.02)
    _paint_eye(atlas, traits, rng)
    _paint_hair(atlas, traits, rng)
    _paint_cloth(atlas, rng)
    return pack(atlas), np.round(creases).astype(np.uint8)


def _fill(atlas: np.ndarray, patch: str, colour: np.ndarray, shine: float) -> None:
    top, left, size = _PATCHES[patch]
    atlas[top : top + size, left : left + size] = [*colour, shine]


def _skin_colour(tone: float, rng: np.random.Generator) -> np.ndarray:
    table = np.array([linear(colour) for colour in _SKIN])
    at = tone * (len(table) - 1)
    mixed = [np.interp(at, np.arange(len(table)), table[:, channel]) for channel in range(3)]
    return np.array(mixed) * np.exp(rng.normal(0, [0.04, 0.05, 0.07]))


def _mix(colour: np.ndarray, other: np.ndarray, share: np.ndarray) -> np.ndarray:
    return colour + (other - colour) * share[:, None]


def distance_to(path: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances (N,) of points (N, 2) from a line through `path` (M, 2), and how far along it that is, 0 to 1."""
    best, along = np.full(len(points), np.inf), np.zeros(len(points))
    for number, (start, end) in enumerate(pairwise(path)):
        step = end - start
        part = np.clip(((points - start) @ step) / (step @ step), 0, 1)
        away = np.linalg.norm(points - start - part[:, None] * step, axis=1)
        nearer = away < best
        best[nearer], along[nearer] = away[nearer], (number + part[nearer]) / (len(path) - 1)
    return best, along


def _paint_skin(points, skin, traits, rng) -> tuple[np.ndarray, np.ndarray]:
    """Colour (N, 3) and shine (N,) of points (N, 3) on the mean head."""
    seed = int(rng.integers(2**31))
    x, y, z = np.abs(points[:, 0]), points[:, 1], points[:, 2]
    front = smoothstep(3.0, 6.0, z)
    half = np.stack([x, y], -1)
    age, dark = traits["age"], traits["skin_tone"]
    blotches = 0.06 * noise(points * 0.5, seed, 3) + (0.02 + 0.02 * age) * noise(points * 4, seed + 1, 3)
    colour = skin * (1 + blotches[:, None])
    red = np.exp(-(((x - 4.0) / 2.0) ** 2 + ((y - 0.2) / 2.0) ** 2)) + 0.8 * np.exp(-(x**2 + (y - 0.2) ** 2) / 1.2)
    red = red * front * rng.uniform(0.1, 0.9) * (1 - 0.6 * dark) * (1 + 0.4 * noise(points * 2, seed + 2, 2))
    colour = colour * (1 - np.clip(red, 0, 1)[:, None] * [0.02, 0.16, 0.14])
    rings = np.exp(-(((x - 3.0) / 1.5) ** 2 + ((y - 2.4) / 0.6) ** 2)) * front * rng.uniform(0.1, 0.9)
    lids = np.exp(-(((x - 3.2) / 1.6) ** 2 + ((y - 4.4) / 0.6) ** 2)) * front * rng.uniform(0.1, 0.7)
    colour = colour * (1 - (0.10 + 0.06 * age) * (rings + lids)[:, None] * [0.8, 1.0, 0.9])
    if traits["freckles"]:
        spots = smoothstep(0.35, 0.6, noise(points * 5, seed + 3, 2)) * front * np.exp(-(((y - 1.0) / 2.5) ** 2))
        colour = colour * (1 - spots[:, None] * [0.25, 0.4, 0.45])
    for _ in range(rng.poisson(3)):
        spot = points[rng.integers(len(points))]
        mole = 1 - smoothstep(0.06, rng.uniform(0.1, 0.2), np.linalg.norm(points - spot, axis=1))
        colour = _mix(colour, skin * [0.35, 0.28, 0.25], 0.8 * mole)
    shine = (0.015 + 0.025 * rng.random() + 0.02 * np.exp(-((x / 2.2) ** 2)) * front) * (
        1 + 0.3 * noise(points * 3, seed + 4)
    )
    colour, shine = _paint_lips(colour, shine, half, front, skin, traits, points, seed, rng)
    colour = _paint_eyelids(colour, half, front, traits, rng)
    colour = _paint_brows(colour, half, front, traits, points, seed, rng)
    colour = _paint_beard(colour, half, front, traits, points, seed, rng)
    colour = _paint_scalp(colour, traits, points, seed)
    return np.clip(colour, 0.004, 0.95), np.clip(shine, 0, 1)


def _paint_lips(colour, shine, half, front, skin, traits, points, seed, rng):
    grow = rng.uniform(-0.15, 0.25)
    upper = np.interp(half[:, 0], _UPPER_LIP[:, 0], _UPPER_LIP[:, 1] + [grow, grow, grow, 0])
    lower = np.interp(half[:, 0], _LOWER_LIP[:, 0], _LOWER_LIP[:, 1] - [grow, grow, grow, 0])
    edge = 0.12
    lips = smoothstep(-edge, edge, upper - half[:, 1]) * smoothstep(-edge, edge, half[:, 1] - lower)
    lips = lips * (half[:, 0] < 2.6) * front
    tint = skin * rng.uniform([0.72, 0.5, 0.5], [0.95, 0.72, 0.75])
    if traits["make_up"]:
        tint = _mix(
            tint[None],
            linear(rng.uniform([100, 15, 30], [175, 70, 95])) * (1 - 0.75 * traits["skin_tone"]),
            np.array([rng.uniform(0.4, 0.9)]),
        )[0]
    tint = tint * (1 + 0.1 * noise(points * [6, 1.5, 1.5], seed + 5, 2))[:, None]
    return _mix(colour, tint, 0.9 * lips), shine + lips * rng.uniform(0.0, 0.05)


def _paint_eyelids(colour, half, front, traits, rng):
    """Lashes as a dark line, the crease of the upper lid, and eye shadow."""
    above, along = distance_to(_UPPER_LID, half)
    below, _ = distance_to(_LOWER_LID, half)
    wide = rng.uniform(0.08, 0.13) + (0.06 if traits["make_up"] else 0)
    lash = (1 - smoothstep(0.3 * wide, wide, above)) * rng.uniform(0.6, 0.95)
    lash = np.maximum(lash, (1 - smoothstep(0.02, 0.08, below)) * rng.uniform(0.2, 0.6))
    crease = np.exp(-(((above - 0.42) / 0.09) ** 2)) * (half[:, 1] > 3.6) * (along > 0.1) * rng.uniform(0, 0.22)
    colour = colour * (1 - (crease * front)[:, None])
    if traits["make_up"]:
        shadow = linear(rng.uniform([40, 30, 40], [150, 110, 140]))
        colour = _mix(
            colour, shadow, front * (half[:, 1] > 3.7) * (1 - smoothstep(0.2, 0.9, above)) * rng.uniform(0, 0.6)
        )
    return _mix(colour, np.full(3, 0.012), lash * front)


def _paint_brows(colour, half, front, traits, points, seed, rng):
    thick, dense = rng.uniform(0.28, 0.5), rng.uniform(0.75, 1.0)
    path = _BROW + np.array([0, rng.uniform(-0.25, 0.3)])
    path[2:, 1] += np.array([0.6, 0.8, 0.5]) * rng.uniform(-0.3, 0.5)
    away, along = distance_to(path, half)
    taper = thick * (0.55 + 0.6 * np.sin(np.pi * np.clip(along * 0.75 + 0.25, 0, 1)))
    strokes = noise(
        np.stack([half[:, 0] * 2.0 - half[:, 1] * 1.2, half[:, 1] * 9 + half[:, 0] * 4, points[:, 0] > 0], -1),
        seed + 6,
        2,
    )
    brow = (1 - smoothstep(0.55, 1.25, away / taper + 0.25 * strokes)) * front
    # Brows are darker than the skin whatever the hair is like, or nobody would see them.
    tint = np.minimum(linear(HAIR[traits["hair"]]), 0.2 * np.median(colour, axis=0))
    return _mix(colour, tint, brow * dense * (0.75 + 0.25 * strokes).clip(0, 1))


def _paint_beard(colour, half, front, traits, points, seed, rng):
    if traits["beard"] == "none":
        return colour
    x, y = half[:, 0], half[:, 1]
    jaw = smoothstep(0.0, 1.2, -1.3 - 0.30 * np.maximum(x - 2, 0) ** 0.5 - y + 0.55 * np.maximum(x - 4.0, 0))
    jaw = jaw * smoothstep(-13.0, -9.5, y) * smoothstep(-1.0, 2.0, points[:, 2])
    lip = np.exp(-(((y + 1.85) / 0.45) ** 2)) * (x < 2.9) * front
    lips = smoothstep(0.0, 0.35, 0.95 - np.hypot(x / 2.75, (y + 3.45) / 1.05))
    where = np.maximum(lip, jaw * (traits["beard"] != "moustache")) * (1 - lips)
    hairs = noise(points * [9, 4, 6], seed + 7, 2)
    if traits["beard"] == "stubble":
        return colour * (1 - (where * rng.uniform(0.15, 0.4) * (0.7 + 0.5 * hairs))[:, None] * [1.0, 0.92, 0.85])
    return _mix(
        colour, linear(HAIR[traits["hair"]]), np.clip(where * rng.uniform(0.6, 0.95) * (0.85 + 0.4 * hairs), 0, 1)
    )


def _paint_scalp(colour, traits, points, seed):
    """Short hair seen through: under the hair the skin has its colour."""
    style = traits["hair_style"]
    if style is None or style.is_cloth:
        return colour
    inside = smoothstep(-0.3, 0.5, style.inside_cm(points) + 0.3 * noise(points * 1.5, seed + 8, 2))
    return _mix(colour, linear(HAIR[traits["hair"]]), 0.9 * inside)


def _paint_folds(points, folds, rng) -> np.ndarray:
    """(N, 2): number of the deepest fold at each point, left ones odd, and its depth, 255 for 1."""
    depths = folds * rng.uniform(0.25, 0.7, (len(folds), 1))
    number, depth = depths.argmax(axis=0), depths.max(axis=0)
    return np.column_stack([(1 + 2 * number + (points[:, 0] < 0)) * (depth > 0.01), 255 * depth])


def _patch_grid(name: str) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray]:
    """Where a patch lies in the atlas, and the places u and v, 0 to 1, of its texels."""
    top, left, size = _PATCHES[name]
    u = np.clip(np.arange(size) / (size - 2), 0, 1)
    return (slice(top, top + size), slice(left, left + size)), *np.meshgrid(u, 1 - u)


def _paint_eye(atlas, traits, rng) -> None:
    where, u, v = _patch_grid("eye")
    x, y = (u - 0.5) * np.pi, (v - 0.5) * np.pi  # angles from the middle of the pupil
    angle, around = np.hypot(x, y).ravel(), np.arctan2(y, x).ravel()
    seed = int(rng.integers(2**31))
    rays = noise(np.stack([np.cos(around) * 8, np.sin(around) * 8, angle * 3], -1), seed, 2)
    iris_rad, pupil_rad = np.deg2rad(rng.uniform(24, 27)), np.deg2rad(rng.uniform(7, 12))
    iris = (
        linear(IRIS[traits["eyes"]]) * (1 + 0.35 * rays)[:, None] * (1 + 0.5 * smoothstep(0.2, 0.45, angle))[:, None]
    )
    iris = iris * (1 - 0.7 * smoothstep(iris_rad - 0.08, iris_rad, angle))[:, None]  # the dark ring around it
    white = linear((222, 216, 210)) * rng.uniform(0.65, 0.9) * [1.0, 0.97, 0.95]
    veins = smoothstep(0.1, 0.6, noise(np.stack([x.ravel() * 5, y.ravel() * 5, 0 * angle], -1), seed + 5, 3))
    veins = (0.1 + 0.25 * smoothstep(0.5, 1.1, angle)) * (0.4 + 0.6 * veins)
    colour = white * (1 - veins[:, None] * [0.1, 0.6, 0.6])
    colour = _mix(colour, iris, 1 - smoothstep(iris_rad - 0.03, iris_rad + 0.03, angle))
    colour = _mix(colour, np.full(3, 0.006), 1 - smoothstep(pupil_rad - 0.03, pupil_rad + 0.03, angle))
    atlas[where] = np.column_stack([colour, np.where(angle < iris_rad + 0.1, 0.5, 0.12)]).reshape(*u.shape, 4)


def _paint_hair(atlas, traits, rng) -> None:
    where, u, v = _patch_grid("hair")
    seed, turn = int(rng.integers(2**31)), 2 * np.pi * u.ravel()
    strands = noise(np.stack([np.cos(turn) * 14, np.sin(turn) * 14, v.ravel() * 2.5], -1), seed, 3)
    style = traits["hair_style"]
    colour = thing_colour(rng) if style is not None and style.is_cloth else linear(HAIR[traits["hair"]])
    depth = 0.08 if style is not None and style.is_cloth else 0.45
    atlas[where] = np.column_stack([colour * (1 + depth * strands)[:, None], 0.04 + 0.04 * strands]).reshape(
        *u.shape, 4
    )


def _paint_cloth(atlas, rng) -> None:
    where, u, v = _patch_grid("cloth")
    first, second = thing_colour(rng), thing_colour(rng)
    count, kind = rng.integers(4, 20), rng.choice(["plain", "stripes", "checks"], p=[0.6, 0.25, 0.15])
    lines = np.sin(2 * np.pi * count * v) > 0.3
    checks = lines ^ (np.sin(2 * np.pi * count * 2 * u) > 0)
    share = {"plain": 0 * u, "stripes": lines, "checks": checks}[str(kind)].astype(float).ravel()
    weave = 0.06 * noise(np.stack([u.ravel() * 30, v.ravel() * 30, 0 * share], -1), int(rng.integers(2**31)), 2)
    colour = _mix(first * (1 + weave)[:, None], second, share)
    atlas[where] = np.column_stack([np.clip(colour, 0, 0.95), 0 * share]).reshape(*u.shape, 4)


__all__ = [
    "ATLAS",
    "HAIR",
    "IRIS",
    "distance_to",
    "fold_depths",
    "fold_weights",
    "in_patch",
    "linear",
    "paint",
    "thing_colour",
]
