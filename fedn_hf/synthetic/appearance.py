"""Who is seen: a person's bones, skin, hair and clothes, drawn from a seed, over the whole range of people.

A `Canvas` knows the place on the mean head of every texel; a `Subject` is painted on it. So all painting is done in
centimetres on one head (see `face_model.py`), and lands on the same features of every other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from .face_model import (
    ACTION_UNITS,
    FACE,
    GUMS,
    HEAD,
    LEFT_EYE,
    MOUTH,
    RIGHT_EYE,
    SOCKET,
    TEETH,
    FaceModel,
)  # fmt: skip
from .props import ON_HAND, ON_HEAD, HairStyle, Mesh, clothes, glasses, hair, hand, noise, smoothstep
from .raster import (
    EYE,
    SKIN,
    facing,
    interpolate,
    normal_equations,
    pack,
    rotate,
    sum_waves,
    vertex_normals,
    visibility,
)

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
_HAIR = {
    "black": (22, 18, 17), "dark brown": (48, 32, 24), "brown": (84, 56, 38), "blond": (166, 128, 84),
    "red": (128, 62, 32), "grey": (138, 134, 130), "white": (205, 200, 194),
}  # fmt: skip
_IRIS = {
    "brown": (74, 44, 24),
    "dark": (42, 26, 18),
    "hazel": (104, 80, 44),
    "green": (96, 110, 78),
    "blue": (96, 124, 150),
}
# Light and dark eyes and hair are rarer the darker the skin is; these hold for tone 0 and tone 1.
_RARE_COLOURS_TO_TONE = 0.45

# Places on the mean head in cm, on the left side; x, y.
_BROW = np.array([(1.1, 5.75), (2.4, 6.25), (3.9, 6.2), (5.0, 5.8), (5.8, 5.2)])
_UPPER_LID = np.array([(1.8, 3.25), (2.1, 3.6), (2.8, 3.94), (3.4, 3.97), (3.9, 3.85), (4.5, 3.42)])
_LOWER_LID = np.array([(1.8, 3.25), (2.7, 3.07), (3.4, 3.0), (3.9, 3.08), (4.5, 3.42)])
_UPPER_LIP = np.array([(0.0, -2.5), (0.7, -2.38), (1.6, -2.8), (2.55, -3.5)])
_LOWER_LIP = np.array([(0.0, -4.42), (0.8, -4.36), (1.6, -4.05), (2.55, -3.5)])
_LIDS_RAD = 0.012

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
# Directions from which the sky is looked at, for shadows.
_DIRECTIONS = 56


def linear(colour: Sequence[float]) -> np.ndarray:
    """Linear light (IEC 61966-2-1) of an sRGB colour with values from 0 to 255."""
    value = np.asarray(colour, float) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def thing_colour(rng: np.random.Generator) -> np.ndarray:
    """Linear colour of a thing: most are dull."""
    grey, saturation = rng.uniform(15, 235), rng.beta(1.0, 3.5)
    return linear(np.clip(grey + saturation * (rng.uniform(0, 255, 3) - grey), 4, 245))


class Canvas:
    """
    A model made ready to be painted: for each texel of the atlas where it lies on the mean head.

    points (h, w, 3) in cm and is_skin (h, w): of the patches of face and head.
    texel, triangle_texels, material: of the model's triangles, as `raster.shade` takes them.
    """

    def __init__(self, model: FaceModel):
        self.model = model
        part = model.triangle_part()
        patch = np.select([part == FACE, part == HEAD, part >= LEFT_EYE], ["face", "head", "eye"], "flat")
        corner = model.uv[model.triangle_uv].astype(np.float32)  # (F, 3, 2)
        corner = corner - np.floor(corner.min(axis=1, keepdims=True) + 1e-4)
        corner[part >= LEFT_EYE] = _eye_uv(model, part)
        texel = np.empty_like(corner)
        for name in ("face", "head", "eye"):
            texel[patch == name] = in_patch(name, corner[patch == name])
        for number, name in ((MOUTH, "mouth"), (SOCKET, "socket"), (GUMS, "gums"), (TEETH, "teeth")):
            texel[part == number] = in_patch(name, np.full(2, 0.5))
        self.texel = texel.reshape(-1, 2).astype(np.float32)
        self.triangle_texels = np.arange(len(self.texel), dtype=np.int32).reshape(-1, 3)
        self.material = np.where(part >= LEFT_EYE, EYE, SKIN).astype(np.int8)
        self.points = np.zeros((*ATLAS, 3), np.float32)
        self.is_skin = np.zeros(ATLAS, bool)
        self._find_points(np.isin(patch, ("face", "head")))

    def _find_points(self, painted: np.ndarray) -> None:
        """Draw the triangles into the atlas, where corners are texels, and fill the gaps between their patches."""
        flat = np.column_stack([self.texel + 0.5, np.zeros(len(self.texel))]).astype(np.float32)
        triangles = np.ascontiguousarray(self.triangle_texels[painted])
        depth, face, place = np.empty(ATLAS, np.float32), np.empty(ATLAS, np.int32), np.empty((*ATLAS, 2), np.float32)
        visibility(flat, triangles, np.ones(len(triangles), bool), depth, face, place)
        corners = self.model.vertices[self.model.triangles[painted].ravel()]
        numbers = np.arange(len(corners), dtype=np.int32).reshape(-1, 3)
        interpolate(face, place, numbers, corners, self.points)
        known = face >= 0
        for _ in range(4):  # texels beside a patch are asked for when its edge is
            for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)):
                near = np.roll(known, step, axis) & ~known
                self.points[near] = np.roll(self.points, step, axis)[near]
                known |= near
        self.is_skin = known

    @cached_property
    def folds(self) -> np.ndarray:
        """Depth (folds, N) of each fold of `_FOLDS` at the N texels of skin, before a person's own share."""
        points = self.points[self.is_skin]
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


def in_patch(name: str, uv: np.ndarray) -> np.ndarray:
    """Texels (..., 2) of places in a patch, 0 to 1, v upwards."""
    top, left, size = _PATCHES[name]
    uv = np.clip(uv, 0, 1)
    return np.stack([left + 0.5 + uv[..., 0] * (size - 2), top + 0.5 + (1 - uv[..., 1]) * (size - 2)], -1)


def _eye_uv(model: FaceModel, part: np.ndarray) -> np.ndarray:
    """Eyeballs are painted as seen from the front: (F, 3, 2) sideways and upwards from the middle of the pupil."""
    places = []
    for number in (LEFT_EYE, RIGHT_EYE):
        corners = model.vertices[model.triangles[part == number]]
        outward = corners - eye_centre(model.vertices, model.part, number)
        outward /= np.linalg.norm(outward, axis=-1, keepdims=True)
        flat = outward[..., :2] / np.maximum(np.linalg.norm(outward[..., :2], axis=-1, keepdims=True), 1e-6)
        angle = np.arccos(np.clip(outward[..., 2:], -1, 1))
        places.append((np.flatnonzero(part == number), 0.5 + 0.5 * flat * np.minimum(angle / (np.pi / 2), 1)))
    order = np.argsort(np.concatenate([rows for rows, _ in places]))
    return np.concatenate([uv for _, uv in places])[order]


def eye_centre(vertices: np.ndarray, part: np.ndarray, number: int) -> np.ndarray:
    """Middle of an eyeball (3,), about which it turns."""
    ball = vertices[part == number]
    return (ball.min(axis=0) + ball.max(axis=0)) / 2


@dataclass(frozen=True)
class Subject:
    """
    A person, ready to be drawn.

    traits: what is said about the person in the data set's table.
    rest (V, 3): all vertices at rest, first the model's, then what is worn; head_weight (V,): how far each follows the
        head, 0 for the torso; hand: the slice of the hand's.
    triangles (F, 3), triangle_texels (F, 3), texel (U, 2), material (F,), both_sides (F,), atlas (h, w, 4), creases
        (h, w, 2): see `raster.shade`.
    fold_weights (1 + 2 * folds, 2 A): strength of each fold for each action unit, left and right in turn.
    open_sky (V,): part of the sky that is seen; shadow (V, 9): see `lit`.
    """

    traits: dict[str, Any]
    rest: np.ndarray
    head_weight: np.ndarray
    hand: slice
    triangles: np.ndarray
    triangle_texels: np.ndarray
    texel: np.ndarray
    material: np.ndarray
    both_sides: np.ndarray
    atlas: np.ndarray
    creases: np.ndarray
    fold_weights: np.ndarray
    open_sky: np.ndarray
    shadow: np.ndarray

    @classmethod
    def draw(cls, canvas: Canvas, seed: int | Sequence[int]) -> "Subject":
        """The person of this seed."""
        rng = np.random.default_rng(seed)
        model = canvas.model
        traits = _traits(rng)
        head = model.person(rng.normal(0, 0.9, len(model.identity)))
        skin = np.isin(model.triangle_part(), (FACE, HEAD))
        meshes: list[Mesh] = []
        if traits["hair_style"] is not None:
            meshes += hair(traits["hair_style"], head, model.triangles[skin], rng)
        eyes = np.stack([eye_centre(head, model.part, number) for number in (LEFT_EYE, RIGHT_EYE)])
        if traits["glasses"]:
            meshes.append(glasses(eyes, float(np.ptp(head[model.part == LEFT_EYE, 2])) / 2, rng))
        meshes += [clothes(rng), hand()]
        atlas, creases = _paint(canvas, traits, rng)
        parts = _assemble(canvas, head, meshes)
        open_sky, shadow = _shadows(parts["rest"], parts["triangles"], parts["hand"])
        open_sky[: len(head)] = np.maximum(open_sky[: len(head)], np.isin(model.part, (GUMS, TEETH)) * 0.45)
        open_sky[: len(head)] = np.maximum(open_sky[: len(head)], (model.part == MOUTH) * 0.2)
        inside = np.isin(model.part, (MOUTH, GUMS, TEETH))  # the mouth was shut when shadows were found
        shadow[: len(head)][inside] = 0
        shadow[: len(head)][inside, 0] = 0.35 / _Y0
        words = {name: value for name, value in traits.items() if name not in ("hair_style", "age")}
        style = traits["hair_style"]
        words["hair"] = "none" if style is None else "under a cap" if style.is_cloth else traits["hair"]
        return cls(
            traits=words,
            atlas=atlas,
            creases=creases,
            fold_weights=_fold_weights(traits["age"]),
            open_sky=open_sky,
            shadow=shadow,
            **parts,
        )

    def lit(self, lights: np.ndarray) -> np.ndarray:
        """Part (V, L) of each light that is seen; lights (L, 3): directions from the head, in its own frame."""
        seen = np.empty((len(self.shadow), len(lights)), np.float32)
        sum_waves(self.shadow, _harmonics(lights).astype(np.float32), seen)
        return seen


# --- what a person is like -------------------------------------------------------------------------------------------


def _traits(rng: np.random.Generator) -> dict[str, Any]:
    tone, age = rng.uniform(), rng.beta(1.3, 1.6)
    light = tone < _RARE_COLOURS_TO_TONE
    hairs = ["black", "dark brown", "brown", "blond", "red"]
    colour = rng.choice(hairs, p=[0.1, 0.25, 0.3, 0.27, 0.08] if light else [0.62, 0.33, 0.05, 0, 0])
    if age > 0.6 and rng.random() < age - 0.3:
        colour = rng.choice(["grey", "white"], p=[0.7, 0.3])
    eyes = rng.choice(list(_IRIS), p=[0.35, 0.1, 0.15, 0.12, 0.28] if light else [0.5, 0.46, 0.04, 0, 0])
    beard = rng.choice(["none", "stubble", "moustache", "beard"], p=[0.62, 0.2, 0.06, 0.12])
    return {
        "skin_tone": round(float(tone), 3),  # 0 the lightest, 1 the darkest
        "age": float(age),
        "hair": str(colour),
        "hair_style": HairStyle.draw(rng),
        "eyes": str(eyes),
        "beard": str(beard),
        "glasses": bool(rng.random() < 0.22),
        "make_up": bool(beard == "none" and rng.random() < 0.3),
        "freckles": bool(tone < 0.5 and rng.random() < 0.25),
    }


def _fold_weights(age: float) -> np.ndarray:
    """(1 + 2 * folds, 2 A); number 0 is smooth skin."""
    numbers = list(ACTION_UNITS)
    weights = np.zeros((1 + 2 * len(_FOLDS), 2 * len(numbers)), np.float32)
    for place, (units, _, _) in enumerate(_FOLDS):
        for unit, weight in units.items():
            for side in range(2):
                weights[1 + 2 * place + side, 2 * numbers.index(unit) + side] = weight * (0.5 + 0.7 * age)
    return weights


# --- geometry --------------------------------------------------------------------------------------------------------


def _assemble(canvas: Canvas, head: np.ndarray, meshes: list[Mesh]) -> dict[str, Any]:
    """The model and what is worn as one set of triangles."""
    model = canvas.model
    below = head[:, 1] + 0.35 * np.maximum(head[:, 2] - 2, 0)  # the chin is part of the head
    follows_head = [smoothstep(-16, -8.5, below)]
    head = head * (1 - 0.12 * smoothstep(-14.5, -17.5, head[:, 1:2]) * [1, 0, 1])  # the chest goes into the clothes
    rest, triangles, texels, numbers = [head], [model.triangles], [canvas.texel], [canvas.triangle_texels]
    materials, both = [canvas.material], [np.zeros(len(model.triangles), bool)]
    vertices, corners, of_hand = len(head), len(canvas.texel), slice(0, 0)
    for mesh in meshes:
        count = len(mesh.vertices)
        if mesh.follows == ON_HAND:
            of_hand = slice(vertices, vertices + count)
        rest.append(mesh.vertices)
        triangles.append(mesh.triangles + vertices)
        texels.append(in_patch(mesh.patch, mesh.uv))
        numbers.append(mesh.triangles + corners)
        materials.append(np.full(len(mesh.triangles), mesh.material))
        both.append(np.full(len(mesh.triangles), mesh.both_sides))
        follows_head.append(np.full(count, float(mesh.follows == ON_HEAD)))
        vertices, corners = vertices + count, corners + count
    return {
        "rest": np.concatenate(rest).astype(np.float32),
        "head_weight": np.concatenate(follows_head).astype(np.float32),
        "hand": of_hand,
        "triangles": np.ascontiguousarray(np.concatenate(triangles), np.int32),
        "triangle_texels": np.ascontiguousarray(np.concatenate(numbers), np.int32),
        "texel": np.ascontiguousarray(np.concatenate(texels), np.float32),
        "material": np.concatenate(materials).astype(np.int8),
        "both_sides": np.concatenate(both),
    }


_Y0 = 0.282095


def _harmonics(directions: np.ndarray) -> np.ndarray:
    """Real spherical harmonics up to order 2, (N, 9), of unit vectors (N, 3)."""
    x, y, z = np.asarray(directions, float).T
    return np.stack(
        [
            np.full_like(x, _Y0), 0.488603 * y, 0.488603 * z, 0.488603 * x, 1.092548 * x * y, 1.092548 * y * z,
            0.315392 * (3 * z * z - 1), 1.092548 * x * z, 0.546274 * (x * x - y * y),
        ],
        axis=-1,
    )  # fmt: skip


def _shadows(rest: np.ndarray, triangles: np.ndarray, hand: slice) -> tuple[np.ndarray, np.ndarray]:
    """
    How much of the sky every vertex sees (V,), and from where: (V, 9) coefficients of spherical harmonics.

    Soft shadows come from few numbers that way (Sloan, Kautz & Snyder, "Precomputed radiance transfer", 2002): whether
    a vertex sees directions is found by looking at the head from each, and fitted where its surface faces them.
    """
    size = 160
    turn = np.arange(_DIRECTIONS) + 0.5
    height, around = 1 - 2 * turn / _DIRECTIONS, np.pi * (1 + 5**0.5) * turn
    flat = np.sqrt(1 - height**2)
    directions = np.stack([flat * np.cos(around), height, flat * np.sin(around)], -1)
    triangles = triangles[(triangles < hand.start).all(axis=1)]  # the hand is not there most of the time
    middle, radius = np.array([0, -2.0, 0]), 22.0
    depth, face = np.empty((size, size), np.float32), np.empty((size, size), np.int32)
    place, both = np.empty((size, size, 2), np.float32), np.ones(len(triangles), bool)
    seen, local = np.empty((len(rest), _DIRECTIONS), np.float32), np.empty(rest.shape)
    for number, direction in enumerate(directions):
        side = np.cross([0.1, 0.9, 0.4], direction)
        side /= np.linalg.norm(side)
        rotate(rest - middle, np.stack([side, np.cross(direction, side), direction]), local)
        screen = np.column_stack([(local[:, :2] / radius + 1) * size / 2, -local[:, 2]]).astype(np.float32)
        visibility(screen, triangles, both, depth, face, place)
        at = screen[:, :2].astype(int).clip(0, size - 1)
        seen[:, number] = screen[:, 2] < depth[at[:, 1], at[:, 0]] + 0.45
    normals = np.empty_like(rest)
    vertex_normals(rest, np.ascontiguousarray(triangles), normals)
    cosines = np.empty_like(seen)
    facing(normals, directions.astype(np.float32), cosines)
    open_sky = (seen * cosines).sum(axis=1) / np.maximum(cosines.sum(axis=1), 1e-6)
    open_sky[hand] = 0.8
    waves = _harmonics(directions).astype(np.float32)
    start = np.eye(1, 9)[0] / _Y0  # where nothing is known, all is seen
    matrix, target = np.tile(0.5 * np.eye(9), (len(rest), 1, 1)), np.tile(0.5 * start, (len(rest), 1))
    normal_equations(cosines + np.float32(0.05), seen, waves, matrix, target)
    shadow = np.linalg.solve(matrix, target[..., None])[..., 0].astype(np.float32)
    shadow[hand] = start
    return open_sky.astype(np.float32), shadow


# --- paint -----------------------------------------------------------------------------------------------------------


def _paint(canvas: Canvas, traits: dict[str, Any], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Atlas (h, w, 4) of albedo and shine, and creases (h, w, 2), as `raster.shade` takes them."""
    atlas, creases = np.zeros((*ATLAS, 4), np.float32), np.zeros((*ATLAS, 2), np.float32)
    skin = _skin_colour(traits["skin_tone"], rng)
    rows = canvas.is_skin
    points = canvas.points[rows]
    atlas[rows] = np.column_stack(_paint_skin(points, skin, traits, rng))
    creases[rows] = _paint_folds(points, canvas.folds, rng)
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
    lids = np.exp(-(((x - 3.2) / 1.6) ** 2 + ((y - 4.4) / 0.6) ** 2)) * front * rng.uniform(0.2, 1.0)
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
    crease = np.exp(-(((above - 0.42) / 0.09) ** 2)) * (half[:, 1] > 3.6) * (along > 0.1) * rng.uniform(0, 0.35)
    colour = colour * (1 - (crease * front)[:, None])
    if traits["make_up"]:
        shadow = linear(rng.uniform([40, 30, 40], [150, 110, 140]))
        colour = _mix(
            colour, shadow, front * (half[:, 1] > 3.7) * (1 - smoothstep(0.2, 0.9, above)) * rng.uniform(0, 0.6)
        )
    return _mix(colour, np.full(3, 0.012), lash * front)


def _paint_brows(colour, half, front, traits, points, seed, rng):
    thick, dense = rng.uniform(0.24, 0.48), rng.uniform(0.65, 1.0)
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
    tint = np.minimum(linear(_HAIR[traits["hair"]]), 0.3 * np.median(colour, axis=0))
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
        colour, linear(_HAIR[traits["hair"]]), np.clip(where * rng.uniform(0.6, 0.95) * (0.85 + 0.4 * hairs), 0, 1)
    )


def _paint_scalp(colour, traits, points, seed):
    """Short hair seen through: under the hair the skin has its colour."""
    style = traits["hair_style"]
    if style is None or style.is_cloth:
        return colour
    inside = smoothstep(-0.3, 0.5, style.inside_cm(points) + 0.3 * noise(points * 1.5, seed + 8, 2))
    return _mix(colour, linear(_HAIR[traits["hair"]]), 0.9 * inside)


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
        linear(_IRIS[traits["eyes"]]) * (1 + 0.35 * rays)[:, None] * (1 + 0.5 * smoothstep(0.2, 0.45, angle))[:, None]
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
    colour = thing_colour(rng) if style is not None and style.is_cloth else linear(_HAIR[traits["hair"]])
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


__all__ = ["ATLAS", "Canvas", "Subject", "distance_to", "eye_centre", "in_patch", "linear", "thing_colour"]
