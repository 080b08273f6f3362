"""The curves of one video while its script is being written: what every muscle, the head, the eyes and the light do.

Everything is drawn in seconds and only then sampled at the times of frames, so a behaviour is the same at any frame
rate.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .facs import ACTION_UNITS, COLUMN

Curve = Callable[[np.ndarray], np.ndarray]
Peaks = dict[int, tuple[float, float]]  # action unit -> (left, right)


@dataclass(frozen=True)
class Distractor:
    """
    Something that moves in the picture and is no expression.

    Args:
        kind: Its name, such as "blink" or "speech".
        first_frame, last_frame: Where it is, 0-based and inclusive.
    """

    kind: str
    first_frame: int
    last_frame: int


def smooth_step(position: np.ndarray) -> np.ndarray:
    """From 0 at 0 to 1 at 1 without a kink: the path of least jerk."""
    p = np.clip(position, 0.0, 1.0)
    return p * p * p * (p * (6 * p - 15) + 10)


def bump(start_s: float, rise_s: float, hold_s: float, fall_s: float) -> Curve:
    """A curve that rises to 1 in `rise_s`, stays for `hold_s`, and falls in `fall_s`."""
    return lambda t: smooth_step((t - start_s) / rise_s) * (1 - smooth_step((t - start_s - rise_s - hold_s) / fall_s))


def wander(rng: np.random.Generator, t: np.ndarray, channels: int, fastest_s: float = 1.5) -> np.ndarray:
    """
    Slow drift, (len(t), channels), of about unit variance: 1/f between `fastest_s` and two minutes.

    A sum of sinusoids, an octave each, so that it can be evaluated at any time and has no steps.
    """
    octaves = math.ceil(math.log2(120 / fastest_s)) + 1
    periods = fastest_s * 2 ** (np.arange(octaves)[:, None] + rng.uniform(0, 1, (octaves, channels)))
    phases = rng.uniform(0, 2 * np.pi, (octaves, channels))
    # A little more than 1/f at the slow end, where posture is.
    weights = (periods / periods.max(0)) ** 0.35 * rng.uniform(0.6, 1.4, (octaves, channels))
    weights *= np.sqrt(2 / (weights**2).sum(0))
    drift = np.zeros((len(t), channels), np.float32)
    for period, phase, weight in zip(periods, phases, weights, strict=True):
        drift += weight * np.sin(2 * np.pi * t[:, None] / period + phase)
    return drift


class Timeline:
    """
    Args:
        seconds, fps: Length and frame rate.

    Attributes:
        t: (T,) times of the frames in seconds.
        head_deg, head_cm: (T, 3), target_deg: (T, 2) what the eyes look at, relative to the body (yaw, pitch),
        light: (T,), lamp_deg: (T, 2) as gaze, occluder: (T, 3).
    """

    def __init__(self, seconds: float, fps: float):
        self.seconds, self.fps = seconds, fps
        self.t = np.arange(max(1, round(seconds * fps))) / fps
        count = len(self.t)
        self.head_deg = np.zeros((count, 3), np.float32)
        self.head_cm = np.zeros((count, 3), np.float32)
        self.target_deg = np.zeros((count, 2), np.float32)
        self.light = np.ones(count, np.float32)
        self.lamp_deg = np.zeros((count, 2), np.float32)
        self.occluder = np.full((count, 3), np.nan, np.float32)
        self.distractors: list[Distractor] = []
        # Muscles saturate: two that pull with a and b give 1 - (1 - a)(1 - b). So what is kept is the product.
        self._slack = np.ones((count, len(ACTION_UNITS), 2), np.float32)

    def frames(self, start_s: float, end_s: float) -> slice:
        """The frames of a span of time, as far as the video reaches."""
        first = max(0, math.ceil(start_s * self.fps))
        return slice(first, max(first, min(len(self.t), math.floor(end_s * self.fps) + 1)))

    def activate(self, peaks: Peaks, start_s: float, end_s: float, curve: Curve) -> None:
        """Move action units by their peaks times a curve, which is 0 outside the span."""
        where = self.frames(start_s, end_s)
        if where.start < where.stop:
            shape = curve(self.t[where])
            for unit, sides in peaks.items():
                self._slack[where, COLUMN[unit]] *= 1 - shape[:, None] * np.array(sides)

    def mark(self, kind: str, start_s: float, end_s: float) -> None:
        """Record something that is no expression; nothing if it lies between two frames or outside the video."""
        where = self.frames(start_s, end_s)
        if where.start < where.stop:
            self.distractors.append(Distractor(kind, where.start, where.stop - 1))

    def action_units(self) -> np.ndarray:
        """(T, A, 2) in 0..1"""
        return np.clip(1 - self._slack, 0, 1)


__all__ = ["Curve", "Distractor", "Peaks", "Timeline", "bump", "smooth_step", "wander"]
