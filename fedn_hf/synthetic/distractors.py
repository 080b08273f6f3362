"""Everything a face in a video does that is no expression, and would be taken for one: blinks, speech, nods, shadows.

Each kind is a function of (timeline, habits, rng) that moves what it moves and marks when it does so under a name of
its own. Rates and speeds are those of healthy adults who sit, watch and sometimes talk.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .timeline import Peaks, Timeline, bump, smooth_step, wander


@dataclass(frozen=True)
class Habits:
    """
    What one person does how often, per minute unless the name says otherwise.

    Args:
        blinks, phrases, gaze_shifts, nods, postures, swallows, mouth_habits, occlusions, lights: Occasions.
        words: Seconds of speech in a phrase, on average.
        jaw: How wide the mouth opens in speech, 0..1.
        drift_deg, drift_cm: How far head and body wander.
        tone: Action unit -> (left, right) at rest.
        screen: How strongly the light of a screen changes with the film; 0 without one.
        looks_around, lamps: As the others; of those alone who do not sit still before a camera that somebody set up.
    """

    blinks: float
    phrases: float
    words: float
    jaw: float
    gaze_shifts: float
    nods: float
    postures: float
    swallows: float
    mouth_habits: float
    occlusions: float
    lights: float
    drift_deg: float
    drift_cm: float
    tone: Peaks
    screen: float
    looks_around: float
    lamps: float

    @classmethod
    def draw(cls, rng: np.random.Generator, *, restless: bool = False) -> "Habits":
        """Those of a person: most are quiet, some blink or talk a lot; the `restless` look around under many lamps."""

        def around(median: float, spread: float = 0.5) -> float:
            return float(median * np.exp(rng.normal(0, spread)))

        talks = rng.choice(3, p=(0.45, 0.35, 0.2))
        tone = {}
        for unit in rng.choice((1, 4, 7, 12, 14, 15, 17, 24, 25), 2, replace=False):
            level, lean = rng.beta(1, 4) * 0.12, rng.uniform(0.7, 1)
            tone[int(unit)] = (level, level * lean) if rng.random() < 0.5 else (level * lean, level)
        return cls(
            blinks=float(np.clip(around(17, 0.45), 4, 45)),
            phrases=(0.0, around(1.5), around(7, 0.3))[talks],
            words=around(2.2, 0.3),
            jaw=float(rng.uniform(0.15, 0.5)),
            gaze_shifts=around(22, 0.4),
            nods=around(0.8, 0.9),
            postures=around(0.7),
            swallows=around(0.9, 0.4),
            mouth_habits=around(0.8, 0.8),
            occlusions=around(0.25, 0.9),
            lights=around(0.6, 0.7),
            drift_deg=around(1.5, 0.4),
            drift_cm=around(0.5, 0.4),
            tone=tone,
            screen=float(rng.uniform(0.01, 0.06)) if rng.random() < 0.5 else 0.0,
            looks_around=around(5.0) if restless else 0.0,
            lamps=around(2.0) if restless else 0.0,
        )


def distract(timeline: Timeline, habits: Habits, rng: np.random.Generator) -> None:
    """Add all of it. The order is fixed, because each draws from the generator in turn."""
    kinds = (
        _rest,
        _look,
        _nod,
        _shift_posture,
        _blink,
        _speak,
        _swallow,
        _fidget,
        _occlude,
        _light,
        _look_around,
        _lamps,
    )
    for behave in kinds:
        behave(timeline, habits, np.random.default_rng(rng.integers(2**63)))


def _occasions(timeline: Timeline, per_minute: float, apart_s: float, rng: np.random.Generator) -> Iterator[float]:
    """Times of a Poisson process with a dead time after each, in a random phase at the start."""
    time, mean_s = -apart_s * rng.random(), 60 / per_minute if per_minute > 0 else np.inf
    while np.isfinite(mean_s):
        time += apart_s + rng.exponential(max(mean_s - apart_s, 0.1 * mean_s))
        if time >= timeline.seconds:
            return
        yield time


def _rest(timeline: Timeline, habits: Habits, rng: np.random.Generator) -> None:
    """What never stops: head and body wander and breathe, and no face is quite slack."""
    t = timeline.t
    drift = wander(rng, t, 6)
    timeline.head_deg += rng.normal((0, -2, 0), (4, 3, 2)) + habits.drift_deg * drift[:, :3] * (1, 0.7, 0.5)
    timeline.head_cm += habits.drift_cm * drift[:, 3:] * (1, 0.5, 1)
    breath = np.sin(2 * np.pi * (rng.uniform(0.2, 0.3) * t + rng.random()))
    timeline.head_cm[:, 1] += 0.06 * breath
    timeline.head_deg[:, 1] += 0.15 * breath
    levels = 1 + 0.25 * wander(rng, t, len(habits.tone), fastest_s=4.0)
    for (unit, sides), level in zip(habits.tone.items(), levels.T, strict=True):
        timeline.activate({unit: sides}, 0, timeline.seconds, lambda _, level=level: np.clip(level, 0, 2))
    timeline.mark("head_drift", 0, timeline.seconds)
    timeline.mark("muscle_tone", 0, timeline.seconds)


def _look(timeline: Timeline, habits: Habits, rng: np.random.Generator) -> None:
    """Fixations and saccades on and beside a screen; the head goes along with some large ones."""
    times, targets, durations = [-1.0], [rng.normal(0, 2, 2)], [0.05]
    home = targets[0]
    spread = rng.uniform(1.5, 4)
    head_from = np.zeros(2)
    for time in _occasions(timeline, habits.gaze_shifts, 0.18, rng):
        away = rng.random() < 0.08
        angle = rng.uniform(0, 2 * np.pi)
        target = home + (
            rng.uniform(9, 22) * np.array((np.cos(angle), 0.5 * np.sin(angle))) if away else rng.normal(0, spread, 2)
        )
        size = float(np.hypot(*(target - targets[-1])))
        # The main sequence of saccades: the larger, the longer.
        duration = 0.022 + 0.0023 * size
        if size > 5 and rng.random() < 0.6:
            # The head turns part of the way and, later, back again.
            head_to = 0.5 * (target - home) if away else np.zeros(2)
            if np.any(head_to != head_from):
                turn_s = rng.uniform(0.35, 0.7)
                path = smooth_step((timeline.t - time - 0.03) / turn_s)[:, None]
                timeline.head_deg[:, :2] += (head_to - head_from) * path
                timeline.mark("head_turn", time, time + 0.03 + turn_s)
                head_from = head_to
        times.append(time)
        targets.append(target)
        durations.append(duration)
        timeline.mark("saccade" if size < 5 else "gaze_shift", time, time + duration)
    last = np.searchsorted(times, timeline.t, side="right") - 1
    path = smooth_step((timeline.t - np.array(times)[last]) / np.array(durations)[last])[:, None]
    targets = np.array(targets)
    before = targets[np.maximum(last - 1, 0)]
    timeline.target_deg += before + (targets[last] - before) * path
    timeline.target_deg += 0.1 * wander(rng, timeline.t, 2, fastest_s=0.4)


def _nod(timeline: Timeline, habits: Habits, rng: np.random.Generator) -> None:
    """Nods, shakes and tilts: a few swings that die down."""
    for time in _occasions(timeline, habits.nods, 2.0, rng):
        kind, axis, most = (("nod", 1, 7), ("shake", 0, 9), ("tilt", 2, 7))[rng.choice(3, p=(0.55, 0.25, 0.2))]
        swings = rng.uniform(0.5, 1.0) if kind == "tilt" else rng.integers(1, 5)
        pace_hz = rng.uniform(0.4, 0.9) if kind == "tilt" else rng.uniform(1.0, 2.4)
        length_s = swings / pace_hz
        where = timeline.frames(time, time + length_s)
        since = timeline.t[where] - time
        window = bump(0, min(0.3, length_s / 2), length_s - 2 * min(0.3, length_s / 2), min(0.3, length_s / 2))(since)
        size = rng.uniform(1.5, most) * rng.choice((-1, 1))
        timeline.head_deg[where, axis] += size * window * np.exp(-0.5 * since) * np.sin(2 * np.pi * pace_hz * since)
        timeline.mark(kind, time, time + length_s)


def _shift_posture(timeline: Timeline, habits: Habits, rng: np.random.Generator) -> None:
    """Sit differently: a fast move to another place, and a slow way back."""
    for time in _occasions(timeline, habits.postures, 5.0, rng):
        there_s, stays_s, back_s = rng.uniform(0.4, 1.4), rng.uniform(3, 20), rng.uniform(1, 10)
        path = bump(time, there_s, stays_s, back_s)(timeline.t)[:, None]
        timeline.head_cm += path * rng.normal(0, (1.5, 0.7, 1.8))
        timeline.head_deg += path * rng.normal(0, (3.5, 3, 2.5))
        timeline.mark("posture", time, time + there_s)
        timeline.mark("posture", time + there_s + stays_s, time + there_s + stays_s + back_s)


def _blink(timeline: Timeline, habits: Habits, rng: np.random.Generator) -> None:
    """Single, long, and several in a row; lids fall faster than they rise, cheeks and brows help a little."""

    def once(time: float, shut_s: float, squeeze: float) -> float:
        falls_s, rises_s = rng.uniform(0.07, 0.12), rng.uniform(0.14, 0.26)
        depth = rng.uniform(0.35, 0.8) if rng.random() < 0.12 else rng.uniform(0.9, 1.0)
        lean = rng.uniform(0.95, 1.0)
        units = {45: (depth * lean, depth), 7: (squeeze, squeeze), 4: (0.3 * squeeze, 0.3 * squeeze)}
        end = time + falls_s + shut_s + rises_s
        timeline.activate(units, time, end, bump(time, falls_s, shut_s, rises_s))
        dip = timeline.frames(time, end)
        timeline.target_deg[dip, 1] -= 1.5 * bump(time, falls_s, shut_s, rises_s)(timeline.t[dip])
        return end

    squeeze = rng.uniform(0, 0.15)
    # Of ten occasions one is a series, of two blinks and more.
    for time in _occasions(timeline, habits.blinks / 1.15, 0.45, rng):
        kind = ("blink", "long_blink", "blink_burst")[rng.choice(3, p=(0.83, 0.07, 0.10))]
        shut_s = rng.uniform(0.25, 1.0) if kind == "long_blink" else rng.uniform(0, 0.05)
        end = once(time, shut_s, squeeze)
        if kind == "blink_burst":
            for _ in range(int(rng.integers(1, 4))):
                end = once(end + rng.uniform(0.02, 0.25), rng.uniform(0, 0.05), squeeze)
        timeline.mark(kind, time, end)


# What the lips do around a syllable, besides the jaw: spread, rounded, pressed, lower lip down, upper lip up.
_LIPS: tuple[dict[int, float], ...] = (
    *({20: 0.35, 25: 0.5}, {18: 0.5, 22: 0.3}, {22: 0.55, 25: 0.4}, {24: 0.6}, {16: 0.5, 25: 0.5}, {10: 0.3, 25: 0.5}),
    *({25: 0.7}, {12: 0.25, 25: 0.5}, {23: 0.3}, {17: 0.35}),
)


def _speak(timeline: Timeline, habits: Habits, rng: np.random.Generator) -> None:
    """Phrases of syllables, 3 to 6 a second, with pauses; the head moves along."""
    quiet_until = 0.0
    for time in _occasions(timeline, habits.phrases, 0.6, rng):
        if time < quiet_until:
            continue
        start, length_s = time, float(np.clip(rng.gamma(2.5, habits.words / 2.5), 0.4, 12))
        pace_hz = rng.uniform(3, 6)
        syllable = start
        while syllable < start + length_s:
            span_s = rng.uniform(0.75, 1.3) / pace_hz
            begin, half_s = syllable - 0.2 * span_s, 0.7 * span_s
            stress = rng.beta(2, 2)
            open_jaw = 1.5 * habits.jaw * stress
            jaw = 27 if stress > 0.75 else 26
            units: Peaks = {jaw: (open_jaw, open_jaw), 25: (0.6 * stress,) * 2}
            lean = rng.uniform(0.85, 1.0)
            for unit, strength in _LIPS[rng.integers(len(_LIPS))].items():
                peak = strength * rng.uniform(0.4, 1.0)
                known = units.get(unit, (0.0, 0.0))
                units[unit] = (max(known[0], peak * lean), max(known[1], peak))
            timeline.activate(units, begin, begin + 2 * half_s, bump(begin, half_s, 0.0, half_s))
            end = begin + 2 * half_s
            syllable += span_s if rng.random() > 0.12 else span_s + rng.uniform(0.1, 0.5)
        where = timeline.frames(start, end)
        if where.start < where.stop:
            window = bump(start, 0.4, max(0.0, end - start - 0.8), 0.4)(timeline.t[where])[:, None]
            sway = wander(rng, timeline.t[where], 3, fastest_s=0.5)
            timeline.head_deg[where] += 1.2 * window * sway
        timeline.mark("speech", start - 0.2 * 1.3 / pace_hz, end)
        quiet_until = end + 0.3


def _swallow(timeline: Timeline, habits: Habits, rng: np.random.Generator) -> None:
    """Lips close, the chin is drawn up, the head dips."""
    for time in _occasions(timeline, habits.swallows, 4.0, rng):
        rise_s, hold_s, fall_s = rng.uniform(0.25, 0.45), rng.uniform(0.05, 0.3), rng.uniform(0.3, 0.5)
        end = time + rise_s + hold_s + fall_s
        size = rng.uniform(0.15, 0.5)
        curve = bump(time, rise_s, hold_s, fall_s)
        units = {17: size, 24: 0.8 * size, 14: 0.3 * size, 28: 0.3 * size}
        timeline.activate({unit: (peak, peak) for unit, peak in units.items()}, time, end, curve)
        where = timeline.frames(time, end)
        timeline.head_deg[where, 1] -= rng.uniform(0.3, 1.5) * curve(timeline.t[where])
        timeline.mark("swallow", time, end)


# name -> action units and their range, and how long it is held, in seconds
_FIDGETS: tuple[tuple[str, dict[int, float], tuple[float, float]], ...] = (
    ("lick_lips", {28: 0.7, 25: 0.5, 26: 0.25}, (0.1, 0.7)),
    ("lick_lips", {28: 0.9, 17: 0.2}, (0.1, 0.5)),
    ("blow", {33: 0.7, 18: 0.5, 25: 0.2}, (0.2, 0.9)),
    ("puff_cheeks", {33: 0.8, 24: 0.4}, (0.3, 1.2)),
    ("jaw_shift", {29: 0.7, 26: 0.3}, (0.2, 1.0)),
    ("chew", {26: 0.35, 24: 0.4, 17: 0.2}, (0.0, 0.1)),
)


def _fidget(timeline: Timeline, habits: Habits, rng: np.random.Generator) -> None:
    """Mouths that are busy with themselves: licked lips, blown cheeks, a jaw that moves."""
    for time in _occasions(timeline, habits.mouth_habits, 2.5, rng):
        name, units, held = _FIDGETS[rng.choice(len(_FIDGETS), p=(0.3, 0.25, 0.12, 0.08, 0.1, 0.15))]
        start, size = time, rng.uniform(0.4, 1.0)
        for _ in range(int(rng.integers(2, 7)) if name == "chew" else 1):
            rise_s, hold_s, fall_s = rng.uniform(0.15, 0.35), rng.uniform(*held), rng.uniform(0.2, 0.4)
            lean = rng.uniform(0.8, 1.0)
            peaks = {unit: (lean * size * peak, size * peak) for unit, peak in units.items()}
            end = time + rise_s + hold_s + fall_s
            timeline.activate(peaks, time, end, bump(time, rise_s, hold_s, fall_s))
            time = end
        timeline.mark(name, start, end)


def _occlude(timeline: Timeline, habits: Habits, rng: np.random.Generator) -> None:
    """A hand or a cup before the mouth or a cheek, which touches nothing; one at a time."""
    free_from = 0.0
    for time in _occasions(timeline, habits.occlusions, 3.0, rng):
        if time < free_from:
            continue
        in_s, stays_s, out_s = rng.uniform(0.4, 0.9), rng.uniform(0.1, 3.5), rng.uniform(0.4, 0.9)
        end = time + in_s + stays_s + out_s
        where = timeline.frames(time, end)
        side = rng.choice((-1, 1))
        place = np.array((side * rng.uniform(0, 6), rng.uniform(-9, -3), rng.uniform(12, 15)))
        far = np.array((side * rng.uniform(6, 14), -20, 14))
        path = bump(time, in_s, stays_s, out_s)(timeline.t[where])[:, None]
        wobble = 0.25 * wander(rng, timeline.t[where], 3, fastest_s=0.5)
        timeline.occluder[where] = far + (place - far) * path + wobble
        timeline.mark("occlusion", time, end)
        free_from = end + 1


def _light(timeline: Timeline, habits: Habits, rng: np.random.Generator) -> None:
    """Slow drift always; lamps and clouds; and the film on a screen, which changes with every shot."""
    t = timeline.t
    timeline.light *= np.exp(rng.uniform(0.01, 0.05) * wander(rng, t, 1, fastest_s=6.0)[:, 0])
    timeline.mark("light_drift", 0, timeline.seconds)
    for time in _occasions(timeline, habits.lights, 3.0, rng):
        if rng.random() < 0.5:
            change_s, stays_s, back_s = rng.uniform(0.02, 0.12), rng.uniform(1, 15), rng.uniform(0.02, 0.12)
            size, kind = rng.choice((-1, 1)) * rng.uniform(0.06, 0.28), "light_step"
            timeline.mark(kind, time, time + change_s)
            timeline.mark(kind, time + change_s + stays_s, time + change_s + stays_s + back_s)
        else:
            change_s, stays_s, back_s = rng.uniform(0.8, 4), rng.uniform(0, 5), rng.uniform(0.8, 4)
            size = -rng.uniform(0.08, 0.35)
            timeline.mark("cloud", time, time + change_s + stays_s + back_s)
        timeline.light *= 1 + size * bump(time, change_s, stays_s, back_s)(t)
    if habits.screen:
        shots = np.array([0.0, *_occasions(timeline, 20, 0.3, rng)])
        levels = rng.normal(0, habits.screen, len(shots))
        timeline.light *= 1 + np.clip(levels[np.searchsorted(shots, t, side="right") - 1], -0.2, 0.2)
        timeline.mark("screen_flicker", 0, timeline.seconds)


def _look_around(timeline: Timeline, habits: Habits, rng: np.random.Generator) -> None:
    """Far to the side, up, or down to a desk, and often straight to another place before the head comes back."""
    time_free = 0.0
    for time in _occasions(timeline, habits.looks_around, 1.0, rng):
        if time < time_free:
            continue
        places = [np.zeros(3)]
        for _ in range(int(rng.choice((1, 2, 3), p=(0.6, 0.25, 0.15)))):
            yaw, pitch = (
                rng.choice((-1, 1), 2) * rng.uniform((8, 5), (38, 26)) * ((1, 0.3), (0.3, 1), (1, 1))[rng.integers(3)]
            )
            places.append(np.array((yaw, pitch, rng.normal(0, 4))))
        begin = time
        for here, there in zip(places, [*places[1:], places[0]], strict=True):
            turn_s = rng.uniform(0.3, 0.6) + float(np.hypot(*(there - here)[:2])) / rng.uniform(25, 120)
            path = smooth_step((timeline.t - time) / turn_s)[:, None]
            timeline.head_deg += (there - here) * path
            # Eyes are there first.
            timeline.target_deg += (
                1.2 * (there - here)[:2] * smooth_step((timeline.t - time) / (0.5 * turn_s))[:, None]
            )
            time += turn_s + rng.choice((0.0, rng.exponential(1.2)))
        timeline.mark("look_around", begin, time)
        time_free = time + 0.5


def _lamps(timeline: Timeline, habits: Habits, rng: np.random.Generator) -> None:
    """The main lamp is carried about, or switched off, or another one on that is brighter."""
    for time in _occasions(timeline, habits.lamps, 4.0, rng):
        stays_s = rng.exponential(3.0)
        if rng.random() < 0.5:
            kind, change_s, back_s = "lamp_moves", *rng.uniform(0.4, 4.0, 2)
            path = bump(time, change_s, stays_s, back_s)(timeline.t)
            timeline.lamp_deg += path[:, None] * rng.normal(0, (45, 25))
            size = rng.uniform(-0.4, 0.6)
        else:
            kind, change_s, back_s = "lamp_switch", *rng.uniform(0.03, 0.6, 2)
            path = bump(time, change_s, stays_s, back_s)(timeline.t)
            size = rng.choice((rng.uniform(-0.85, -0.4), rng.uniform(0.3, 1.0)))
        timeline.light *= 1 + size * path
        timeline.mark(kind, time, time + change_s)
        timeline.mark(kind, time + change_s + stays_s, time + change_s + stays_s + back_s)


__all__ = ["Habits", "distract"]
