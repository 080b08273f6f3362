"""The camera: where a place in the room falls in the picture, and what lens, sensor and processing make of the light.

All of it is a function of the time of a frame, never of frames before, so any frame can be made alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np

# Chin to hairline of the mean head, which the framing goes by.
_FACE_CM = 19.0
_LEVELS = 2048  # of the tone curve's table


@dataclass(frozen=True)
class Camera:
    """
    size: side of the square picture in pixels; fps.
    distance_cm, focal_px, centre (2,): perspective; the head's origin falls on the centre.
    drift: relative change of exposure over time; white_balance (3,): gains; tint: their drift; flicker, flicker_hz: of
        the mains in the picture.
    lens_px: standard deviation of the lens's blur; shutter: part of a frame's time that light is gathered; readout:
        part of it that passes between the first and the last row; shake_px: of a hand that holds the camera.
    shot, read: noise; sharpening; contrast, gamma: of the tone curve; grey: no colour; crf: of the H.264 encoder.
    """

    size: int
    fps: float
    distance_cm: float
    focal_px: float
    centre: tuple[float, float]
    drift: float
    white_balance: tuple[float, float, float]
    tint: float
    flicker: float
    flicker_hz: float
    lens_px: float
    shutter: float
    readout: float
    shake_px: float
    shot: float
    read: float
    sharpening: float
    contrast: float
    gamma: float
    grey: bool
    crf: int
    phases: tuple[float, ...]
    noise_seed: int

    @classmethod
    def draw(cls, seed: int | Sequence[int], size: int, fps: float) -> "Camera":
        """Of this seed."""
        rng = np.random.default_rng(seed)
        distance = math.exp(rng.uniform(math.log(45), math.log(180)))
        share = rng.uniform(0.45, 0.72)  # of the picture's height that the face takes
        bad = rng.uniform() ** 1.5  # how bad a camera in bad light it is; most are good
        mains = 2 * rng.choice([50.0, 60.0])
        return cls(
            size=size,
            fps=fps,
            distance_cm=distance,
            focal_px=share * size * distance / _FACE_CM,
            centre=(size * (0.5 + rng.uniform(-0.05, 0.05)), size * (0.46 + rng.uniform(-0.05, 0.05))),
            drift=rng.uniform(0, 0.08),
            white_balance=tuple(np.exp(rng.normal(0, 0.05, 3))),
            tint=rng.uniform(0, 0.02),
            flicker=rng.uniform(0, 0.025) if rng.random() < 0.3 else 0.0,
            flicker_hz=abs(mains - fps * round(mains / fps)) or 0.3,  # what sampling makes of the mains
            lens_px=rng.uniform(0.25, 0.9) * size / 160,
            shutter=rng.uniform(0.1, 0.9),
            readout=rng.uniform(0, 0.8),
            shake_px=rng.uniform(0.1, 0.8) * size / 160 if rng.random() < 0.15 else 0.0,
            shot=(0.004 + 0.02 * bad) ** 2,
            read=0.001 + 0.006 * bad,
            sharpening=rng.uniform(0, 0.9),
            contrast=rng.uniform(0, 0.45),
            gamma=rng.uniform(2.0, 2.5),
            grey=bool(rng.random() < 0.06),
            crf=int(rng.integers(14, 30)),
            phases=tuple(rng.uniform(0, 2 * np.pi, 8)),
            noise_seed=int(rng.integers(2**31)),
        )

    def shake(self, time_s: float) -> tuple[float, float]:
        """Pixels by which everything is displaced."""
        waves = [
            math.sin(2 * math.pi * hz * time_s + p) for hz, p in zip((0.7, 1.9, 0.9, 2.3), self.phases, strict=False)
        ]
        return self.shake_px * (waves[0] + 0.5 * waves[1]), self.shake_px * (waves[2] + 0.5 * waves[3])

    def gains(self, time_s: float) -> np.ndarray:
        """(3,) gains of red, green and blue, without the exposure."""
        slow = math.sin(0.21 * time_s + self.phases[4]) + 0.6 * math.sin(0.053 * time_s + self.phases[5])
        level = (1 + self.drift * slow) * (1 + self.flicker * math.sin(2 * math.pi * self.flicker_hz * time_s))
        warm = self.tint * math.sin(0.13 * time_s + self.phases[6])
        return level * np.array(self.white_balance) * [1 + warm, 1.0, 1 - warm]

    def develop(self, light: np.ndarray, frame: int, exposure: float, velocity: tuple[float, float]) -> np.ndarray:
        """
        The picture of a frame, uint8 (size, size, 3).

        Args:
            light: float32 (size, size, 3); is used up.
            frame: its number, which the noise goes by.
            exposure: gain of all light.
            velocity: pixels per frame by which the head moves in the picture.
        """
        spare = np.empty_like(light)
        if math.hypot(*velocity) * self.shutter > 0.3:
            _smear(light, velocity[0] * self.shutter, velocity[1] * self.shutter, spare)
            light, spare = spare, light
        _blur(light, _kernel(self.lens_px), spare)
        grain = np.random.default_rng((self.noise_seed, frame)).standard_normal(light.shape, np.float32)
        gains = (exposure * self.gains(frame / self.fps)).astype(np.float32)
        _expose(light, gains, np.float32(self.shot), np.float32(self.read**2), grain, self._tones(), self.grey)
        out = np.empty(light.shape, np.uint8)
        _sharpen(light, np.float32(self.sharpening), out)
        return out

    def _tones(self) -> np.ndarray:
        """Table of the tone curve: linear light from 0 to 1.25 to values from 0 to 255."""
        value = np.linspace(0, 1.25, _LEVELS)
        value = value / (1 + np.maximum(value - 0.8, 0))  # highlights roll off
        value = np.clip(value, 0, 1) ** (1 / self.gamma)
        curved = value * value * (3 - 2 * value)
        return (255 * (value + self.contrast * (curved - value))).astype(np.float32)


def _kernel(sigma: float) -> np.ndarray:
    reach = max(1, math.ceil(2.5 * sigma))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-3)) ** 2)
    return (weights / weights.sum()).astype(np.float32)


_jit = numba.njit(cache=True, fastmath=True, nogil=True)


@_jit
def _smear(light, dx, dy, out):
    """The mean along the way (dx, dy) that the picture moves while the shutter is open."""
    steps = int(np.ceil(max(abs(dx), abs(dy)))) + 1
    height, width = light.shape[0], light.shape[1]
    out[:] = 0
    share = np.float32(1) / steps
    for step in range(steps):
        part = (step + 0.5) / steps - 0.5
        ox, oy = dx * part, dy * part
        jx, jy = int(np.floor(ox)), int(np.floor(oy))
        fx, fy = np.float32(ox - jx), np.float32(oy - jy)
        for y in range(height):
            y0, y1 = min(max(y + jy, 0), height - 1), min(max(y + jy + 1, 0), height - 1)
            for x in range(width):
                x0, x1 = min(max(x + jx, 0), width - 1), min(max(x + jx + 1, 0), width - 1)
                for c in range(3):
                    top = light[y0, x0, c] + fx * (light[y0, x1, c] - light[y0, x0, c])
                    low = light[y1, x0, c] + fx * (light[y1, x1, c] - light[y1, x0, c])
                    out[y, x, c] += share * (top + fy * (low - top))


@_jit
def _blur(light, kernel, spare):
    """Convolution with a kernel, along rows and columns, in place."""
    height, width = light.shape[0], light.shape[1]
    reach = kernel.shape[0] // 2
    for y in range(height):
        for x in range(width):
            red, green, blue = np.float32(0), np.float32(0), np.float32(0)
            for k in range(-reach, reach + 1):
                at, weight = min(max(x + k, 0), width - 1), kernel[k + reach]
                red += weight * light[y, at, 0]
                green += weight * light[y, at, 1]
                blue += weight * light[y, at, 2]
            spare[y, x, 0], spare[y, x, 1], spare[y, x, 2] = red, green, blue
    for y in range(height):
        light[y] = 0
        for k in range(-reach, reach + 1):
            at, weight = min(max(y + k, 0), height - 1), kernel[k + reach]
            for x in range(width):
                for c in range(3):
                    light[y, x, c] += weight * spare[at, x, c]


@_jit
def _expose(light, gains, shot, read, grain, tones, grey):
    """Light to values from 0 to 255, with the sensor's noise, in place."""
    scale = np.float32((tones.shape[0] - 1) / 1.25)
    for y in range(light.shape[0]):
        for x in range(light.shape[1]):
            for c in range(3):
                value = light[y, x, c] * gains[c]
                value += grain[y, x, c] * np.sqrt(read + shot * value)
                at = min(max(value * scale, np.float32(0)), np.float32(tones.shape[0] - 1.001))
                i = int(at)
                light[y, x, c] = tones[i] + (at - np.float32(i)) * (tones[i + 1] - tones[i])
            if grey:
                mean = (
                    np.float32(0.299) * light[y, x, 0]
                    + np.float32(0.587) * light[y, x, 1]
                    + np.float32(0.114) * light[y, x, 2]
                )
                light[y, x, 0], light[y, x, 1], light[y, x, 2] = mean, mean, mean


@_jit
def _sharpen(values, amount, out):
    """Unsharp masking with the four neighbours, and rounding."""
    height, width = values.shape[0], values.shape[1]
    for y in range(height):
        above, below = max(y - 1, 0), min(y + 1, height - 1)
        for x in range(width):
            left, right = max(x - 1, 0), min(x + 1, width - 1)
            for c in range(3):
                around = values[above, x, c] + values[below, x, c] + values[y, left, c] + values[y, right, c]
                value = values[y, x, c] + amount * (values[y, x, c] - np.float32(0.25) * around) + np.float32(0.5)
                out[y, x, c] = np.uint8(min(max(value, np.float32(0)), np.float32(255)))


__all__ = ["Camera"]
