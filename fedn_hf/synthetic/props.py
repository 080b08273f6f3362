"""What a head wears, and what passes in front of it: hair, glasses, clothes, a hand. All grown from a few numbers.

Everything is a `Mesh` in the coordinates of the head it belongs to (see `face_model.py`), in cm.
"""

from dataclasses import dataclass

import numpy as np

from .raster import HAIR, MATT, SKIN, rotate, smooth_noise, visibility

ON_HEAD, ON_TORSO, ON_HAND = range(3)
# Hair grows around an axis through the crown; angles from it reach this far down the nape and the forehead.
_CENTRE = np.array([0.0, 4.0, -0.5])
_CROWN = np.array([0.0, 0.55, -0.835])
_REACH_RAD = np.deg2rad(150)
_RINGS, _SECTORS = 48, 80
_HAND_STRIPS = (
    (-1.9, 3.4, 0.78),
    (-0.65, 4.0, 0.8),
    (0.65, 3.7, 0.78),
    (1.8, 2.9, 0.7),
)  # x, length, width of fingers


@dataclass(frozen=True)
class Mesh:
    """
    vertices (V, 3), triangles (F, 3); uv (V, 2): places in the mesh's own patch of the atlas, 0 to 1.
    patch: name of that patch; material: see `raster.py`; follows: what it moves with.
    """

    vertices: np.ndarray
    triangles: np.ndarray
    uv: np.ndarray
    patch: str
    material: int
    follows: int
    both_sides: bool = False


def noise(points: np.ndarray, seed: int, octaves: int = 1) -> np.ndarray:
    """Smooth noise at points (N, 3), roughly between -1 and 1; every octave is half as large and twice as fine."""
    total, layer = np.zeros(len(points)), np.empty(len(points))
    for octave in range(octaves):
        smooth_noise(points * 2.0**octave + 7.3 * octave, seed + octave, layer)
        total += layer * 0.5**octave
    return total


def smoothstep(low: float, high: float, value: np.ndarray) -> np.ndarray:
    """0 below `low`, 1 above `high`, smooth between."""
    part = np.clip((value - low) / (high - low), 0, 1)
    return part * part * (3 - 2 * part)


def grid(rows: int, columns: int, *, closed: bool = False) -> np.ndarray:
    """Triangles (F, 3) of a grid of corners; `closed` joins the last column to the first."""
    number = np.arange(rows * columns).reshape(rows, columns)
    right = np.roll(number, -1, axis=1)
    if not closed:
        number, right = number[:, :-1], right[:, :-1]
    a, b, c, d = number[:-1], right[:-1], number[1:], right[1:]
    return np.concatenate([np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)])


# --- hair ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HairStyle:
    """
    front_cm: height of the hairline on the forehead; recede_cm: how far it goes back at the temples.
    top_cm, side_cm: thickness; length_cm: how far below the ears it hangs, 0 for short hair.
    ears: whether they are free; curl: how uneven it is, 0 to 1; is_cloth: a cap or a scarf in the place of hair.
    """

    front_cm: float
    recede_cm: float
    top_cm: float
    side_cm: float
    length_cm: float
    ears: bool
    curl: float
    is_cloth: bool

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "HairStyle | None":
        """Of a person; `None` for a bald head."""
        kind = rng.choice(["bald", "cropped", "short", "bob", "long", "cloth"], p=[0.06, 0.2, 0.3, 0.17, 0.22, 0.05])
        if kind == "bald":
            return None
        fringe = kind in ("short", "bob", "long") and rng.random() < 0.3
        return cls(
            front_cm=rng.uniform(7.9, 8.4) if fringe else rng.uniform(8.8, 10.2),
            recede_cm=0.0 if fringe else rng.uniform(-0.3, 1.2),
            top_cm={"cropped": rng.uniform(0.2, 0.6), "cloth": rng.uniform(0.6, 1.2)}.get(kind, rng.uniform(1.0, 3.0)),
            side_cm={"cropped": rng.uniform(0.1, 0.4), "short": rng.uniform(0.3, 1.2)}.get(
                kind, rng.uniform(0.7, 1.6)
            ),
            length_cm={"bob": rng.uniform(4, 9), "long": rng.uniform(12, 24)}.get(kind, 0.0),
            ears=kind in ("cropped", "short"),
            curl=rng.uniform(0, 1) ** 2 if kind != "cloth" else 0.0,
            is_cloth=kind == "cloth",
        )

    def inside_cm(self, scalp: np.ndarray) -> np.ndarray:
        """How far points of the scalp (N, 3) lie behind the hairline; negative before it."""
        x, y, z = np.abs(scalp[:, 0]), scalp[:, 1], scalp[:, 2]
        temples = self.recede_cm * smoothstep(1.5, 4.0, x) * (1 - smoothstep(5.0, 6.5, x))
        # A line, seen from the side, from the forehead to the ear and on to the nape. Foreheads are round.
        depth = z + 0.1 * np.minimum(x, 4.5) ** 2
        behind = ((y - self.front_cm - temples) * 6.0 - (depth - 10.5) * 5.5) / 8.1
        if self.ears:
            behind = np.minimum(behind, np.hypot(np.hypot(x - 8.5, y - 1.8), z + 0.3) - 3.1)
        return np.minimum(behind, y + 4.5)


def _crown_frame() -> np.ndarray:
    axis = _CROWN / np.linalg.norm(_CROWN)
    side = np.array([1.0, 0.0, 0.0])
    return np.stack([side, np.cross(axis, side), axis])  # rows


def _scalp(vertices: np.ndarray, triangles: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Distance (N,) from the head's centre to its surface in directions (N, 3)."""

    def flat(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        along = np.empty_like(vectors)
        rotate(vectors, _crown_frame(), along)
        angle = np.arccos(np.clip(along[:, 2] / np.linalg.norm(along, axis=1), -1, 1))
        scale = angle / np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-9)
        return along[:, :2] * scale[:, None], angle

    size = 256
    spokes = vertices - _CENTRE
    place, angle = flat(spokes)
    radius = np.linalg.norm(spokes, axis=1)
    triangles = triangles[(angle[triangles] < _REACH_RAD).all(axis=1)]
    screen = np.column_stack([(place / _REACH_RAD + 1) * size / 2, -radius]).astype(np.float32)
    depth, face = np.empty((size, size), np.float32), np.empty((size, size), np.int32)
    places = np.empty((size, size, 2), np.float32)
    visibility(screen, triangles, np.ones(len(triangles), bool), depth, face, places)
    far = np.where(face < 0, np.nan, -depth)
    at = ((flat(directions)[0] / _REACH_RAD + 1) * size / 2).astype(int).clip(1, size - 2)
    # The mean of nine: hair does not follow every fold of an ear.
    around = [far[at[:, 1] + dy, at[:, 0] + dx] for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    known = np.isfinite(around)
    return np.where(known.any(0), np.nansum(around, axis=0) / np.maximum(known.sum(0), 1), np.nan)


def hair(style: HairStyle, vertices: np.ndarray, triangles: np.ndarray, rng: np.random.Generator) -> list[Mesh]:
    """Hair on a head, given by its skin: vertices (V, 3) and triangles (F, 3) of face and head."""
    seed = int(rng.integers(2**31))
    angle, around = np.meshgrid(
        np.linspace(0, _REACH_RAD * 0.97, _RINGS), np.linspace(0, 2 * np.pi, _SECTORS + 1), indexing="ij"
    )
    local = np.stack([np.sin(angle) * np.cos(around), np.sin(angle) * np.sin(around), np.cos(angle)], -1)
    directions = np.empty((local.size // 3, 3))
    rotate(local.reshape(-1, 3), np.ascontiguousarray(_crown_frame().T), directions)
    radius = _scalp(vertices, triangles, directions)
    scalp = _CENTRE + directions * radius[:, None]
    inside = np.nan_to_num(style.inside_cm(scalp), nan=-1.0)
    inside += 0.25 * noise(scalp.clip(-50, 50), seed, 2) * (0.1 if style.is_cloth else 1.0)
    thick = style.side_cm + (style.top_cm - style.side_cm) * smoothstep(0.0, 0.8, directions[:, 1])
    thick = (
        thick * smoothstep(0.0, 1.8, inside) * (1 + (0.12 + 0.35 * style.curl) * noise(directions * 4, seed + 9, 3))
    )
    # It sinks into the skin where it ends, so its edge is smooth.
    points = _CENTRE + directions * (radius + thick - 0.4 * smoothstep(-0.2, 0.5, -inside))[:, None]
    faces = grid(_RINGS, _SECTORS + 1)
    faces = faces[(inside[faces] > -0.1).any(axis=1) & np.isfinite(points[faces]).all(axis=(1, 2))]
    uv = np.stack([around / (2 * np.pi), angle / _REACH_RAD], -1).reshape(-1, 2)
    material = MATT if style.is_cloth else HAIR
    meshes = [Mesh(np.nan_to_num(points), faces, uv, "hair", material, ON_HEAD, True)]
    return [*meshes, _curtain(style, vertices, seed)] if style.length_cm else meshes


def _curtain(style: HairStyle, vertices: np.ndarray, seed: int) -> Mesh:
    """Hair that hangs from the sides and the back of the head."""
    rows, columns = 16, 56
    head = vertices[(vertices[:, 1] > 3) & (vertices[:, 1] < 7)]
    wide, deep = head[:, 0].max() + style.side_cm * 0.8, -head[:, 2].min() + style.side_cm * 0.8
    y, around = np.meshgrid(np.linspace(6.5, -style.length_cm, rows), np.linspace(-1.95, 1.95, columns), indexing="ij")
    wave = noise(np.stack([around.ravel() * 4, y.ravel() * 0.25, 0 * y.ravel()], -1), seed + 20, 3).reshape(
        rows, columns
    )
    fall = np.clip((6.5 - y) / 12, 0, 1)
    out = 1 + (0.04 + 0.1 * style.curl) * wave + 0.05 * fall - 0.16 * np.clip((y - 3) / 3.5, 0, 1)
    x = wide * out * np.sin(around)
    z = -deep * out * np.cos(around) * (1 - 0.15 * fall) + 0.5
    uv = np.stack([(around + 1.95) / 3.9 * 0.99, 0.3 + 0.65 * fall], -1).reshape(-1, 2)
    points = np.stack([x, y, z], -1).reshape(-1, 3)
    return Mesh(points, grid(rows, columns), uv, "hair", HAIR, ON_HEAD, True)


# --- glasses, clothes, a hand ----------------------------------------------------------------------------------------


def _tube(path: np.ndarray, radius: float, *, closed: bool) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and triangles of a tube along a path (N, 3)."""
    ahead = np.roll(path, -1, axis=0) - np.roll(path, 1, axis=0)
    if not closed:
        ahead[0], ahead[-1] = path[1] - path[0], path[-1] - path[-2]
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
    first = np.cross(ahead, [0.3, 0.2, 1.0])
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(ahead, first)
    turn = np.linspace(0, 2 * np.pi, 7)[:-1]
    ring = path[:, None] + radius * (
        np.cos(turn)[None, :, None] * first[:, None] + np.sin(turn)[None, :, None] * second[:, None]
    )
    if closed:
        ring = np.concatenate([ring, ring[:1]])
    return ring.reshape(-1, 3), grid(len(ring), 6, closed=True)


def _joined(pieces: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.cumsum([0, *(len(vertices) for vertices, _ in pieces[:-1])])
    triangles = [triangles + offset for (_, triangles), offset in zip(pieces, offsets, strict=True)]
    return np.concatenate([vertices for vertices, _ in pieces]), np.concatenate(triangles)


def glasses(eyes: np.ndarray, front: float, rng: np.random.Generator) -> Mesh:
    """Frames before eyes at `eyes` (2, 3); `front` is how far the eyes' surface lies before their middle."""
    # The upper rim stays below the brows.
    width, height = rng.uniform(2.1, 2.7), rng.uniform(1.1, 1.6)
    square, radius = rng.uniform(2.0, 4.0), rng.uniform(0.05, 0.14)
    turn = np.linspace(0, 2 * np.pi, 33)[:-1]
    x = width * np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** (2 / square)
    y = height * np.sign(np.sin(turn)) * np.abs(np.sin(turn)) ** (2 / square)
    plane = eyes[:, 2].mean() + front + 1.3
    pieces, inner = [], []
    for eye, side in zip(eyes, (1, -1), strict=True):
        middle = eye[0] + 0.2 * side
        rim = np.stack([middle + x, eye[1] - 0.4 + y, plane - 0.03 * (middle + x) ** 2], -1)
        pieces.append(_tube(rim, radius, closed=True))
        inner.append(rim[np.abs(rim[:, 0]).argmin()] + [0, 0.3, 0])
        hinge = rim[np.abs(rim[:, 0]).argmax()] + [0, 0.4, 0]
        ear = np.array([side * 8.1, eye[1] + 0.2, -0.5])
        pieces.append(_tube(hinge + (ear - hinge) * np.linspace(0, 1, 6)[:, None], radius, closed=False))
    pieces.append(_tube(inner[0] + (inner[1] - inner[0]) * np.linspace(0, 1, 5)[:, None], radius, closed=False))
    vertices, triangles = _joined(pieces)
    return Mesh(vertices, triangles, np.full((len(vertices), 2), 0.5), "frame", MATT, ON_HEAD, True)


def clothes(rng: np.random.Generator) -> Mesh:
    """Shoulders and chest."""
    collar = rng.uniform(-15.5, -14.0)
    rings = np.array(
        [[0, 6.2, 5.6], [-1.2, 7.6, 6.2], [-2.4, 12.5, 7.0], [-4.5, 17.0, 8.2], [-8, 19.5, 9.3], [-30, 19, 10]]
    )
    rings[1:, 1] *= rng.uniform(0.88, 1.12)
    around = np.linspace(0, 2 * np.pi, 41)[:-1]
    vertices = np.stack(
        [
            np.stack([wide * np.sin(around), np.full_like(around, collar + y), deep * np.cos(around) - 1.5], -1)
            for y, wide, deep in rings
        ]
    )
    uv = np.stack(np.meshgrid(np.linspace(0, 1, 40), np.linspace(0, 1, len(rings))), -1)
    return Mesh(
        vertices.reshape(-1, 3), grid(len(rings), 40, closed=True), uv.reshape(-1, 2), "cloth", MATT, ON_TORSO, True
    )


def hand() -> Mesh:
    """A hand and its forearm, the middle of the palm at the origin; it comes from below."""
    palm = np.stack([np.zeros(9), np.linspace(-3.2, 3.2, 9), np.zeros(9)], -1)
    pieces = [_limb(palm, 2.4 * np.sqrt(1 - np.linspace(-0.93, 0.93, 9) ** 2))]
    for x, length, width in _HAND_STRIPS:
        finger = np.array([x, 2.2, 0.2]) + np.linspace(0, length, 8)[:, None] * np.array([x * 0.04, 1, 0.12])
        pieces.append(_limb(finger, width * np.sqrt(1 - np.linspace(-0.6, 0.97, 8) ** 2)))
    thumb = np.array([-1.8, -1.2, 0.4]) + np.linspace(0, 4, 8)[:, None] * np.array([-0.6, 0.75, 0.25])
    pieces.append(_limb(thumb, 0.85 * np.sqrt(1 - np.linspace(-0.6, 0.97, 8) ** 2)))
    arm = np.linspace(0, 1, 10)[:, None] * np.array([5.0, -36.0, -3.0]) + [0, -2.5, 0]
    pieces.append(_limb(arm, np.linspace(2.2, 3.8, 10)))
    vertices, triangles = _joined(pieces)
    return Mesh(vertices, triangles, np.full((len(vertices), 2), 0.5), "hand", SKIN, ON_HAND, True)


def _limb(path: np.ndarray, radius: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    vertices, triangles = _tube(path, 1.0, closed=False)
    middle = np.repeat(path, 6, axis=0)
    return middle + (vertices - middle) * np.repeat(radius, 6)[:, None], triangles


__all__ = [
    "ON_HAND",
    "ON_HEAD",
    "ON_TORSO",
    "HairStyle",
    "Mesh",
    "clothes",
    "glasses",
    "grid",
    "hair",
    "hand",
    "noise",
    "smoothstep",
]
