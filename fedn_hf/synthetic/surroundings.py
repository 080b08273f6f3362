"""Where the person sits: lights, and what is behind. All in linear light."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .paint import linear, thing_colour
from .props import noise, smoothstep

# Room around the picture, in parts of its side, for cameras that shake.
MARGIN = 0.08


@dataclass(frozen=True)
class Surroundings:
    """
    lights (L, 3): directions towards 1 to 3 lights; colours (L, 3): their light on a white surface that faces them.
    sky, ground (3,): light from above and from below.
    kind: of the background: "plain", "gradient" or "cluttered"; background (h, w, 3): larger than the
        picture by `MARGIN`.
    """

    lights: np.ndarray
    colours: np.ndarray
    sky: np.ndarray
    ground: np.ndarray
    kind: str
    background: np.ndarray

    @classmethod
    def draw(cls, seed: int | Sequence[int], size: int) -> "Surroundings":
        """Of this seed, for pictures of size x size."""
        rng = np.random.default_rng(seed)
        count = int(rng.choice([1, 2, 3], p=[0.35, 0.4, 0.25]))
        sideways = np.deg2rad([rng.uniform(-60, 60), rng.uniform(-110, 110), rng.uniform(-150, 150)][:count])
        upwards = np.deg2rad([rng.uniform(-5, 60), rng.uniform(-20, 50), rng.uniform(-10, 60)][:count])
        lights = np.stack(
            [np.sin(sideways) * np.cos(upwards), np.sin(upwards), np.cos(sideways) * np.cos(upwards)], axis=-1
        )
        strength = np.array([1.0, rng.uniform(0.1, 0.7), rng.uniform(0.1, 0.6)])[:count]
        colours = strength[:, None] * np.stack([_lamp(rng) for _ in range(count)])
        ambient = rng.uniform(0.15, 0.9) * _lamp(rng)
        kind = str(rng.choice(["plain", "gradient", "cluttered"], p=[0.35, 0.3, 0.35]))
        return cls(
            lights.astype(np.float32),
            colours.astype(np.float32),
            ambient.astype(np.float32),
            (ambient * rng.uniform(0.25, 0.8) * [1.0, 0.95, 0.9]).astype(np.float32),
            kind,
            _background(kind, round(size * (1 + 2 * MARGIN)), rng).astype(np.float32),
        )


def _lamp(rng: np.random.Generator) -> np.ndarray:
    """Colour of a lamp between warm and cold, of luminance 1."""
    warmth = rng.normal(0, 0.16)
    colour = np.exp(warmth * np.array([1.0, 0.1, -1.2]))
    return colour / (colour @ [0.2126, 0.7152, 0.0722])


def _background(kind: str, size: int, rng: np.random.Generator) -> np.ndarray:
    rows, columns = np.meshgrid(np.linspace(0, 1, size), np.linspace(0, 1, size), indexing="ij")
    first = linear(rng.uniform(10, 245) * np.ones(3) * rng.uniform(0.85, 1.0, 3))
    picture = np.broadcast_to(first, (size, size, 3)).copy()
    if kind == "gradient":
        turn = rng.uniform(0, 2 * np.pi)
        along = smoothstep(-0.7, 0.7, (columns - 0.5) * np.cos(turn) + (rows - 0.5) * np.sin(turn))
        picture += along[..., None] * (thing_colour(rng) - first)
    if kind == "cluttered":
        for _ in range(rng.integers(6, 26)):
            _add_thing(picture, rows, columns, rng)
    grain = noise(np.stack([rows.ravel() * 9, columns.ravel() * 9, 0 * rows.ravel()], -1), int(rng.integers(2**31)), 4)
    return np.clip(picture * (1 + rng.uniform(0, 0.12) * grain.reshape(size, size, 1)), 0, 1)


def _add_thing(picture: np.ndarray, rows: np.ndarray, columns: np.ndarray, rng: np.random.Generator) -> None:
    """A box or a ball with more or less sharp edges, as far from the focus."""
    x, y = (columns - rng.uniform(0, 1)) / rng.uniform(0.03, 0.3), (rows - rng.uniform(0, 1)) / rng.uniform(0.03, 0.4)
    away = np.hypot(x, y) if rng.random() < 0.35 else np.maximum(np.abs(x), np.abs(y))
    blur = rng.uniform(0.03, 0.35)
    share = (1 - smoothstep(1 - blur, 1 + blur, away))[..., None] * rng.uniform(0.5, 1)
    picture += share * (thing_colour(rng) * (1 + 0.2 * np.clip(x + y, -1, 1)[..., None]) - picture)


__all__ = ["MARGIN", "Surroundings"]
