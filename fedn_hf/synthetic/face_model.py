"""The head whose every muscle is known: geometry, people's differences, and one movement for each action unit.

The real one is ICT-FaceKit Light, published under the MIT licence at github.com/ICT-VGL/ICT-FaceKit; `convert` makes
its OBJ files into one npz, which `FaceModel.load` reads. `FaceModel.tiny()` is a toy of our own for tests.

Coordinates of all models: centimetres, x towards the person's left, y up, z out of the face; eyes at y = 3.5, mouth at
y = -3.4, tip of the nose at z = 13. Everything that is painted or put on a head is placed by them (`appearance.py`).
"""

import os
import zipfile
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np

from ..files_fedn import replacing
from ..media_fedn import FednError

ENVIRONMENT = "FEDN_FACE_MODEL"
WHERE_TO_GET = (
    "the face model is not part of this package. It is ICT-FaceKit Light (MIT licence), published at "
    "github.com/ICT-VGL/ICT-FaceKit: get a copy, run `fedn synth face-model CHECKOUT -o FILE`, and name the file with "
    f"--face-model or the environment variable {ENVIRONMENT}"
)

PARTS = ("face", "head", "mouth", "eye socket", "gums", "teeth", "left eye", "right eye")
FACE, HEAD, MOUTH, SOCKET, GUMS, TEETH, LEFT_EYE, RIGHT_EYE = range(len(PARTS))
# First vertex of each part of ICT-FaceKit, and of what is left out: irises (the eyeballs cover them), lashes and films
# of tears, which need transparency.
_ICT_VERTICES = 26719
_ICT_PARTS = (
    (0, FACE), (9409, HEAD), (11248, MOUTH), (13294, SOCKET), (14062, GUMS), (17039, TEETH), (21451, LEFT_EYE),
    (22221, -1), (23021, RIGHT_EYE), (23791, -1),
)  # fmt: skip

# Action units (Ekman, Friesen & Hager, Facial Action Coding System, 2002) as mixtures of the model's shapes. "_" at
# the end stands for one shape on each side. What has no shape of its own (23, 25, 26) is mixed of what looks like it.
ACTION_UNITS: dict[int, dict[str, float]] = {
    1: {"browInnerUp_": 1.4},  # people raise their brows by a centimetre, the shapes by six to nine millimetres
    2: {"browOuterUp_": 1.2},
    4: {"browDown_": 1.0},
    5: {"eyeWide_": 1.0},
    6: {"cheekSquint_": 1.0},
    7: {"eyeSquint_": 1.0},
    9: {"noseSneer_": 1.0},
    10: {"mouthUpperUp_": 0.8, "mouthShrugUpper": 0.3},
    12: {"mouthSmile_": 1.0},
    14: {"mouthDimple_": 1.0},
    15: {"mouthFrown_": 1.0},
    16: {"mouthLowerDown_": 1.0},
    17: {"mouthShrugLower": 1.0},
    18: {"mouthPucker": 1.0},
    20: {"mouthStretch_": 1.0},
    22: {"mouthFunnel": 1.0},
    23: {"mouthPress_": 0.6, "mouthPucker": 0.25},
    24: {"mouthPress_": 1.0, "mouthRollLower": 0.15},
    25: {"mouthLowerDown_": 0.45, "mouthUpperUp_": 0.2, "jawOpen": 0.06},
    26: {"jawOpen": 0.35},
    27: {"jawOpen": 0.9},
    28: {"mouthRollLower": 0.8, "mouthRollUpper": 0.8},
    29: {"jawForward": 1.0},
    33: {"cheekPuff_": 1.0},
    45: {"eyeBlink_": 1.0},
}
# Lids follow the eyes: shapes at GAZE_DEG degrees of the gaze.
GAZE_DEG = 30.0
_GAZE_SHAPES = (
    ("eyeLookOut_L", "eyeLookIn_R"), ("eyeLookIn_L", "eyeLookOut_R"), ("eyeLookUp_L", "eyeLookUp_R"),
    ("eyeLookDown_L", "eyeLookDown_R"),
)  # fmt: skip
_FRONT_TEETH_CM = 8.0
# Smaller displacements, in cm, cannot be seen.
_INVISIBLE_CM = 2e-3


@dataclass(frozen=True)
class FaceModel:
    """
    A head that can become many people and move like each of them.

    vertices (V, 3) float32: the mean head, in cm.
    triangles, triangle_uv (F, 3) int32: corners, against the clock as seen from outside, and their places in `uv`.
    uv (U, 2) float32: places in textures; the whole part is the number of the tile (0 face, 1 head, ...).
    part (V,) int8: indices into `PARTS`.
    shapes (S, V, 3), shape_names: movements from the mean head, named as in ARKit, with _L and _R.
    identity (K, V, 3): differences between people; weights are drawn from N(0, 1).

    Example:
        >>> model = FaceModel.tiny()
        >>> model.vertices.shape[1], model.action_unit(12, "left").shape == model.vertices.shape
        (3, True)
    """

    vertices: np.ndarray
    triangles: np.ndarray
    triangle_uv: np.ndarray
    uv: np.ndarray
    part: np.ndarray
    shapes: np.ndarray
    shape_names: tuple[str, ...]
    identity: np.ndarray

    @classmethod
    def load(cls, path: str | os.PathLike | None = None) -> "FaceModel":
        """
        Read a model, by default the one that the environment variable FEDN_FACE_MODEL names.

        Raises:
            `FednError`: no such file, or not a face model; says where to get one.
        """
        path = path or os.environ.get(ENVIRONMENT)
        if not path:
            raise FednError(WHERE_TO_GET)
        if not os.path.isfile(path):
            raise FednError(f"{path}: no such file; {WHERE_TO_GET}")
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in _KEYS}
                part = file.get("part")
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):  # numpy's words would advise to unpickle
            raise FednError(f"{path}: not a face model; {WHERE_TO_GET}") from None
        return cls._from_arrays(arrays, part, path)

    @classmethod
    def _from_arrays(cls, arrays: dict[str, np.ndarray], part: np.ndarray | None, path) -> "FaceModel":
        count = len(arrays["neutral"])
        shapes = {"neutral": (count, 3), "expr": (len(arrays["expr_names"]), count, 3)}
        shapes["identity"] = (len(arrays["identity"]), count, 3)
        for name, shape in shapes.items():
            if arrays[name].shape != shape:
                raise FednError(f"{path}: {name} must have shape {shape}, got {arrays[name].shape}; {WHERE_TO_GET}")
        if part is None:
            if count != _ICT_VERTICES:
                raise FednError(
                    f"{path}: ICT-FaceKit Light has {_ICT_VERTICES} vertices, this has {count}; {WHERE_TO_GET}"
                )
            firsts, parts = zip(*_ICT_PARTS, strict=True)
            part = np.array(parts, np.int8)[np.searchsorted(firsts, np.arange(count), side="right") - 1]
        # Of gums and teeth the back ones are never seen, and they are a third of all triangles.
        kept = (part >= 0) & ~(np.isin(part, (GUMS, TEETH)) & (arrays["neutral"][:, 2] < _FRONT_TEETH_CM))
        number = np.cumsum(kept, dtype=np.int32) - 1
        whole = kept[arrays["tri"]].all(axis=1)
        model = cls(
            np.ascontiguousarray(arrays["neutral"][kept], np.float32),
            np.ascontiguousarray(number[arrays["tri"][whole]], np.int32),
            np.ascontiguousarray(arrays["tri_uv"][whole], np.int32),
            np.ascontiguousarray(arrays["uv"], np.float32),
            part[kept],
            arrays["expr"][:, kept],
            tuple(str(name) for name in arrays["expr_names"]),
            arrays["identity"][:, kept],
        )
        missing = sorted(model._needed() - set(model.shape_names))
        if missing:
            raise FednError(f"{path}: the shapes {', '.join(missing)} are missing; {WHERE_TO_GET}")
        return model

    @classmethod
    def tiny(cls) -> "FaceModel":
        """An egg with eyes that can do all action units after a fashion: for tests, and to see how things work."""
        return _tiny()

    def save(self, path: str | os.PathLike) -> None:
        """Write a file that `load` reads."""
        arrays = dict(
            neutral=self.vertices, tri=self.triangles, tri_uv=self.triangle_uv, uv=self.uv, part=self.part,
            expr=self.shapes, expr_names=np.array(self.shape_names), identity=self.identity,
        )  # fmt: skip
        _write(path, arrays)

    @staticmethod
    def _needed() -> set[str]:
        names = {name for pair in _GAZE_SHAPES for name in pair}
        for mixture in ACTION_UNITS.values():
            for name in mixture:
                names |= {name + "L", name + "R"} if name.endswith("_") else {name}
        return names

    def shape(self, name: str) -> np.ndarray:
        """Displacements (V, 3) float32 of one shape."""
        return self.shapes[self.shape_names.index(name)].astype(np.float32)

    def action_unit(self, number: int, side: str) -> np.ndarray:
        """Displacements (V, 3) in cm of an action unit at full strength on one side, "left" or "right"."""
        total = np.zeros_like(self.vertices)
        for name, weight in ACTION_UNITS[number].items():
            if name.endswith("_"):
                total += weight * self.shape(name + side[0].upper())
            else:  # the shape has no sides: half of it from each
                total += 0.5 * weight * self.shape(name)
        return total

    @cached_property
    def fields(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """
        All movements in the form that `raster.blend` takes: starts (2 A + 5,), indices (n,), offsets (n, 3). First the
        action units in their order, left and right in turn, then gaze to the left, right, up and down.
        """
        displacements = [self.action_unit(number, side) for number in ACTION_UNITS for side in ("left", "right")]
        displacements += [sum(self.shape(name) for name in pair) for pair in _GAZE_SHAPES]
        starts, indices, offsets = [0], [], []
        for field in displacements:
            visible = np.flatnonzero(np.abs(field).max(axis=1) > _INVISIBLE_CM).astype(np.int32)
            indices.append(visible)
            offsets.append(field[visible])
            starts.append(starts[-1] + len(visible))
        return np.array(starts), np.concatenate(indices), np.ascontiguousarray(np.concatenate(offsets), np.float32)

    def person(self, weights: np.ndarray) -> np.ndarray:
        """Vertices (V, 3) of the person with these identity weights (K,)."""
        difference = np.zeros_like(self.vertices)
        for weight, mode in zip(weights, self.identity, strict=True):
            difference += np.float32(weight) * mode
        return self.vertices + difference

    def triangle_part(self) -> np.ndarray:
        """(F,) part of each triangle; those that join two parts belong to the inner one."""
        return self.part[self.triangles].max(axis=1)


def convert(checkout: str | os.PathLike, path: str | os.PathLike) -> None:
    """
    Make the file that `FaceModel.load` reads from a copy of the public ICT-FaceKit repository.

    Args:
        checkout: folder of the repository, or its folder FaceXModel.
        path: the npz to write; about 16 MB.

    Raises:
        `FednError`: no such folder, or OBJ files that are missing or do not go together.
    """
    folder = Path(checkout)
    folder = folder / "FaceXModel" if (folder / "FaceXModel").is_dir() else folder
    neutral = folder / "generic_neutral_mesh.obj"
    others = sorted(file for file in folder.glob("*.obj") if file != neutral)
    if not neutral.is_file() or not others:
        raise FednError(
            f"{checkout}: there is no FaceXModel/generic_neutral_mesh.obj with others beside it; {WHERE_TO_GET}"
        )
    vertices, uv, triangles, triangle_uv = _read_obj(neutral)
    moved = {}
    for file in others:
        moved[file.stem] = _read_obj(file)[0]
        if moved[file.stem].shape != vertices.shape:
            raise FednError(
                f"{file}: {len(moved[file.stem])} vertices, but {len(vertices)} in {neutral.name}; copy it again"
            )
    identity = [moved.pop(name) for name in sorted(moved) if name.startswith("identity")]
    if not identity or not moved:
        raise FednError(
            f"{folder}: both identity*.obj and shapes of expressions are needed; copy the repository again"
        )
    names = sorted(moved)
    arrays = dict(
        neutral=vertices, uv=uv.astype(np.float16), tri=triangles, tri_uv=triangle_uv, expr_names=np.array(names),
        expr=np.stack([moved[name] - vertices for name in names]).astype(np.float16),
        identity=np.stack([mode - vertices for mode in identity]).astype(np.float16),
    )  # fmt: skip
    _write(path, arrays)


def _write(path: str | os.PathLike, arrays: dict[str, np.ndarray]) -> None:
    with replacing(path) as unfinished, open(unfinished, "wb") as file:
        np.savez_compressed(file, **arrays)


def _read_obj(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Vertices, texture coordinates, triangles and triangles of texture coordinates; polygons become fans."""
    vertices, uv, triangles, triangle_uv = [], [], [], []
    try:
        for line in path.read_text().splitlines():
            kind, *words = line.split() or [""]
            if kind == "v":
                vertices.append([float(word) for word in words[:3]])
            elif kind == "vt":
                uv.append([float(word) for word in words[:2]])
            elif kind == "f":
                corners = [[int(number) - 1 for number in word.split("/")[:2]] for word in words]
                for second, third in pairwise(corners[1:]):
                    fan = (corners[0], second, third)
                    triangles.append([corner[0] for corner in fan])
                    triangle_uv.append([corner[-1] for corner in fan])
    except (OSError, ValueError, IndexError) as error:
        raise FednError(f"{path}: not an OBJ file ({error}); copy the repository again") from None
    return (
        np.array(vertices, np.float32).reshape(-1, 3),
        np.array(uv, np.float32).reshape(-1, 2),
        np.array(triangles, np.int32).reshape(-1, 3),
        np.array(triangle_uv, np.int32).reshape(-1, 3),
    )


# Where the shapes of the toy act on the left side: x, y, radius in cm, and the movement there.
_TOY_SHAPES = {
    "browInnerUp_": (1.5, 6.0, 1.2, (0, 0.6, 0)), "browOuterUp_": (4.0, 6.0, 1.2, (0, 0.8, 0)),
    "browDown_": (2.0, 6.0, 1.5, (-0.2, -0.6, 0)), "eyeWide_": (3.1, 4.1, 0.8, (0, 0.3, 0)),
    "cheekSquint_": (3.5, 1.5, 2.0, (0, 0.6, 0.2)), "eyeSquint_": (3.1, 3.0, 0.8, (0, 0.3, 0)),
    "noseSneer_": (1.2, 1.0, 1.2, (0, 0.6, 0.2)), "mouthUpperUp_": (1.0, -2.6, 1.0, (0, 0.6, 0)),
    "mouthShrugUpper": (0.0, -2.6, 1.2, (0, 0.4, 0.2)), "mouthSmile_": (2.5, -3.5, 1.5, (0.8, 0.9, -0.4)),
    "mouthDimple_": (2.7, -3.5, 1.0, (0.4, 0.1, -0.5)), "mouthFrown_": (2.5, -3.7, 1.2, (0.1, -0.6, 0)),
    "mouthLowerDown_": (1.0, -4.2, 1.0, (0, -0.5, 0)), "mouthShrugLower": (0.0, -5.0, 1.8, (0, 0.7, 0.3)),
    "mouthPucker": (0.0, -3.5, 2.0, (0, 0, 1.0)), "mouthStretch_": (2.6, -3.6, 1.4, (0.9, -0.3, -0.3)),
    "mouthFunnel": (0.0, -3.5, 1.6, (0, 0.2, 0.9)), "mouthPress_": (1.2, -3.5, 1.2, (0, 0.1, -0.3)),
    "mouthRollLower": (0.0, -4.2, 1.2, (0, 0.3, -0.5)), "mouthRollUpper": (0.0, -2.8, 1.2, (0, -0.2, -0.5)),
    "jawOpen": (0.0, -6.5, 3.5, (0, -2.5, -0.5)), "jawForward": (0.0, -6.5, 3.0, (0, 0, 1.0)),
    "cheekPuff_": (4.5, -2.5, 2.0, (0.8, 0, 0.6)), "eyeBlink_": (3.1, 4.1, 1.0, (0, -0.9, 0)),
    "eyeLookOut_": (3.1, 3.5, 1.0, (0.1, 0, 0)), "eyeLookIn_": (3.1, 3.5, 1.0, (-0.1, 0, 0)),
    "eyeLookUp_": (3.1, 4.1, 1.0, (0, 0.3, 0)), "eyeLookDown_": (3.1, 4.1, 1.0, (0, -0.5, 0)),
}  # fmt: skip


def _globe(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors and triangles of a sphere with its poles up and down."""
    polar, around = np.meshgrid(
        np.linspace(0, np.pi, rows), np.linspace(0, 2 * np.pi, columns + 1)[:-1], indexing="ij"
    )
    points = np.stack([np.sin(polar) * np.sin(around), np.cos(polar), np.sin(polar) * np.cos(around)], -1).reshape(
        -1, 3
    )
    number = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = number[:-1], np.roll(number, -1, 1)[:-1], number[1:], np.roll(number, -1, 1)[1:]
    triangles = np.concatenate([np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)])
    return points, triangles


def _tiny() -> FaceModel:
    points, triangles = _globe(41, 48)
    egg = points * [8.0, 14.0, 9.5] + [0, 0.5, 0.5]
    front = np.clip(points[:, 2], 0, 1)
    egg[:, 2] += 3 * front * np.exp(-(egg[:, 0] ** 2 + (egg[:, 1] - 0.5) ** 2) / 2)  # a nose
    middle = egg[triangles].mean(axis=1)
    hole = (((np.abs(middle[:, 0]) - 3.1) / 1.4) ** 2 + ((middle[:, 1] - 3.5) / 0.7) ** 2 < 1) & (middle[:, 2] > 0)
    triangles, middle = triangles[~hole], middle[~hole]
    ball, ball_triangles = _globe(13, 16)
    vertices = np.concatenate([egg, ball * 1.5 + [3.1, 3.5, 7.5], ball * 1.5 + [-3.1, 3.5, 7.5]])
    part = np.repeat([FACE, LEFT_EYE, RIGHT_EYE], [len(egg), len(ball), len(ball)])
    part[: len(egg)][egg[:, 2] < 0] = HEAD
    tile = np.repeat(middle[:, 2] < 0, 3).astype(np.float32)
    corners = egg[triangles].reshape(-1, 3)
    uv = np.stack([(corners[:, 0] + 9) / 18 * 0.98 + 0.01 + tile, (corners[:, 1] + 15) / 31], -1)
    counts = len(egg), len(egg) + len(ball)
    whole = np.concatenate([triangles, ball_triangles + counts[0], ball_triangles + counts[1]])
    shapes = {}
    for name, (x, y, radius, move) in _TOY_SHAPES.items():
        for side, sign in (("L", 1), ("R", -1)) if name.endswith("_") else (("", 1),):
            near = np.exp(-((vertices[:, 0] - sign * x) ** 2 + (vertices[:, 1] - y) ** 2) / radius**2)
            near = near * np.isin(part, (FACE, HEAD)) * (vertices[:, 2] > 0)
            shapes[name + side] = near[:, None] * (np.array(move) * [sign, 1, 1])
    modes = [vertices * axis * 0.03 for axis in np.eye(3)]
    return FaceModel(
        vertices.astype(np.float32),
        whole.astype(np.int32),
        np.concatenate([np.arange(3 * len(triangles)).reshape(-1, 3), np.zeros((2 * len(ball_triangles), 3))]).astype(
            np.int32
        ),
        uv.astype(np.float32),
        part.astype(np.int8),
        np.stack(list(shapes.values())).astype(np.float16),
        tuple(shapes),
        np.stack(modes).astype(np.float16),
    )


_KEYS = ("neutral", "tri", "tri_uv", "uv", "expr", "expr_names", "identity")

__all__ = ["ACTION_UNITS", "ENVIRONMENT", "GAZE_DEG", "PARTS", "WHERE_TO_GET", "FaceModel", "convert"]
