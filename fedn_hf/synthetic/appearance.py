"""Who is seen: a person's bones, skin, hair and clothes, drawn from a seed, over the whole range of people.

A `Canvas` knows the place on the mean head of every texel; a `Subject` is painted on it. So all painting is done in
centimetres on one head (see `face_model.py`), and lands on the same features of every other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .face_model import (
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
from .paint import ATLAS, IRIS, fold_depths, fold_weights, in_patch, paint
from .props import ON_HAND, ON_HEAD, HairStyle, Mesh, clothes, glasses, hair, hand, smoothstep
from .raster import (
    EYE,
    SKIN,
    facing,
    interpolate,
    normal_equations,
    rotate,
    sum_waves,
    vertex_normals,
    visibility,
)

# Light eyes and light hair are rare in people whose skin is darker than this tone.
_RARE_COLOURS_TO_TONE = 0.45
# Directions from which the sky is looked at, for shadows.
_DIRECTIONS = 56


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
        """Depths (folds, N) of the folds of the skin at its N texels."""
        return fold_depths(self.points[self.is_skin])


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
        atlas, creases = paint(canvas.points, canvas.is_skin, canvas.folds, traits, rng)
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
            fold_weights=fold_weights(traits["age"]),
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
    eyes = rng.choice(list(IRIS), p=[0.35, 0.1, 0.15, 0.12, 0.28] if light else [0.5, 0.46, 0.04, 0, 0])
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


__all__ = ["Canvas", "Subject", "eye_centre"]
