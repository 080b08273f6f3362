"""The script of a synthetic video: which expressions come when, what else the face does, and the exact truth of both.

Expressions come as often, as long and as close together as in a corpus (`statistics.py`), made of action units
(`facs.py`); everything that fools a spotter comes with them (`distractors.py`). One rule gives the labels: an event
lasts as long as the curve of its leading action unit is above `ONSET_FRACTION` of its peak.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from .distractors import Habits, distract
from .facs import ACTION_UNITS, EMOTIONS, cook
from .statistics import BehaviourError, Event, Statistics, draw, draw_counts, even_levels, get_statistics
from .timeline import Curve, Distractor, Timeline, smooth_step

MACRO, MICRO = "macro-expression", "micro-expression"
# Onset: the first frame at which the envelope is above this fraction of its peak. Offset: the last.
ONSET_FRACTION = 0.05
INTENSITIES = {MACRO: (0.30, 1.00), MICRO: (0.03, 0.25)}
# A full contraction takes a muscle of the face some 0.12 s: no curve of an expression is steeper than this.
_FASTEST_PER_S = 14.0
_MARGIN_S = 0.4  # free of expressions at both ends, so that none is cut
_TOUCH_S = 0.04  # the least overlap: a frame in common at 30 fps
_NEIGHBOURS = 1000  # seeds that share the corpus' statistics among them
_NEAR_S = 0.5  # neighbours this close are seen as one event, of which one leaks or hides


@dataclass(frozen=True)
class Expression:
    """
    A marked event and all that is known of it.

    Args:
        type: "macro-expression" or "micro-expression".
        emotion: One of `EMOTIONS`.
        onset_frame, apex_frame, offset_frame: 0-based and inclusive. Onset and offset are the first and the last frame
            at which the envelope is above `ONSET_FRACTION` of `intensity`, the apex the first at its maximum.
        intensity: Peak of the leading action unit, 0..1: 0.3 to 1 for macro-, 0.03 to 0.25 for micro-expressions.
        action_units: Action unit -> peak (left, right), 0..1.
        relation: "leak" (a micro-expression just before, in or after a macro-expression of another emotion), "masked"
            (a smile begins over it), or None.
        partner: The index in `Script.expressions` of the one that it leaks from or that masks it.
    """

    type: str
    emotion: str
    onset_frame: int
    apex_frame: int
    offset_frame: int
    intensity: float
    action_units: dict[int, tuple[float, float]]
    relation: str | None = None
    partner: int | None = None


@dataclass(frozen=True, eq=False)
class Script:
    """
    What happens in a video of T frames.

    Args:
        fps: Frames per second.
        expressions: [`Expression`]s by onset.
        distractors: [`Distractor`]s by first frame: everything else that moves.
        action_units: (T, A, 2) float32, 0..1: of every unit of `ACTION_UNITS`, left and right, all included.
        intensity: (T,) float32: envelope of the expressions alone, the largest of them; their peak at the apex. Before
            onset and after offset it is at most `ONSET_FRACTION` of the peak.
        head_rotation_deg: (T, 3) float32: yaw (> 0 to the person's left), pitch (> 0 up), roll (> 0 towards the
            person's left shoulder).
        head_shift_cm: (T, 3) float32: x to the right of the picture, y up, z towards the camera.
        gaze_deg: (T, 2) float32: yaw and pitch of the eyes relative to the head.
        light_gain: (T,) float32: multiplier of the main light, 1 if nothing changes.
        lamp_deg: (T, 2) float32: yaw and pitch by which the main light has moved.
        occluder_cm: (T, 3) float32: an object before the face, relative to the head's centre, axes as for the shift;
            NaN where there is none.
    """

    fps: float
    expressions: tuple[Expression, ...]
    distractors: tuple[Distractor, ...]
    action_units: np.ndarray = field(repr=False)
    intensity: np.ndarray = field(repr=False)
    head_rotation_deg: np.ndarray = field(repr=False)
    head_shift_cm: np.ndarray = field(repr=False)
    gaze_deg: np.ndarray = field(repr=False)
    light_gain: np.ndarray = field(repr=False)
    lamp_deg: np.ndarray = field(repr=False)
    occluder_cm: np.ndarray = field(repr=False)

    @property
    def num_frames(self) -> int:
        """T, the length of every track."""
        return len(self.intensity)

    def events(self) -> tuple[float, list[Event]]:
        """The length in seconds and the events as `statistics.summarise` takes them."""
        events = [(e.type, e.onset_frame / self.fps, (e.offset_frame + 1) / self.fps) for e in self.expressions]
        return self.num_frames / self.fps, events


@dataclass
class _Plan:
    """An event in seconds, before it has curves; start_s is where its envelope reaches `ONSET_FRACTION`."""

    type: str
    duration_s: float
    emotion: str = ""
    start_s: float = 0.0

    @property
    def end_s(self) -> float:
        return self.start_s + self.duration_s


def write_script(
    seed: int | Sequence[int],
    seconds: float,
    fps: float,
    statistics: str | Statistics = "casme_2",
    person: int | Sequence[int] | None = None,
    *,
    restless: bool = False,
) -> Script:
    """
    Write the script of a video: what the face, the head, the eyes and the light do in every frame.

    The same seed gives the same behaviour at any frame rate. Seeds that count up, such as 0, 1, 2 ... or (set, number
    of the video), share the range of counts and durations evenly, so that a hundred scripts show the corpus'
    statistics rather than their own sampling noise. Seeds far apart are as good, but for that.

    Args:
        seed (`int` or sequence of `int`): Of everything in this video; none below 0.
        seconds (`float`): Length, at least 2.
        fps (`float`): Frame rate.
        statistics (`str` or [`Statistics`]): "casme_2", "casme_3" or "samm_lv".
        person (`int` or sequence of `int`, *optional*): Seed of how often this person blinks, speaks and moves, to
            share it among videos; by default `seed`.
        restless (`bool`): Somebody who looks far around, under lamps that move and are switched.

    Returns:
        [`Script`].

    Raises:
        [`BehaviourError`]: For a length, a frame rate, a seed or statistics that make no script.

    Example:

    ```python
    >>> from fedn_hf.synthetic.behaviour import write_script

    >>> script = write_script((0, 1, 2), seconds=60, fps=30, statistics="samm_lv")
    >>> script.num_frames, script.action_units.shape
    (1800, (1800, 25, 2))
    >>> event = script.expressions[0]
    >>> event.onset_frame <= event.apex_frame <= event.offset_frame
    True
    >>> bool(script.intensity[event.apex_frame] > 0.9 * event.intensity)
    True
    ```
    """
    corpus = get_statistics(statistics)
    seed, person = _parts(seed), _parts(seed if person is None else person)
    if not (seconds >= 2 and fps >= 1 and math.isfinite(seconds * fps)):
        raise BehaviourError(f"a script has at least 2 seconds and 1 frame a second, not {seconds} s at {fps} fps")
    timeline = Timeline(seconds, fps)
    rng = np.random.default_rng([*seed, 1])
    plans = _plan(seed, seconds, corpus, rng)
    intensity = np.zeros(len(timeline.t), np.float32)
    acted = [(plan, _act(plan, corpus, timeline, intensity, rng)) for plan in plans]
    habits = Habits.draw(np.random.default_rng([*person, 2]), restless=restless)
    distract(timeline, habits, np.random.default_rng([*seed, 3]))
    return Script(
        fps=fps,
        expressions=_related([(plan, event) for plan, event in acted if event]),
        distractors=tuple(sorted(timeline.distractors, key=lambda d: (d.first_frame, d.last_frame, d.kind))),
        action_units=timeline.action_units(),
        intensity=intensity,
        head_rotation_deg=timeline.head_deg,
        head_shift_cm=timeline.head_cm,
        # Eyes hold their target while the head moves.
        gaze_deg=np.clip(timeline.target_deg - timeline.head_deg[:, :2], -35, 35),
        light_gain=timeline.light,
        lamp_deg=timeline.lamp_deg,
        occluder_cm=timeline.occluder,
    )


def _parts(seed: int | Sequence[int]) -> tuple[int, ...]:
    parts = tuple(map(int, seed)) if isinstance(seed, Sequence | np.ndarray) else (int(seed),)
    if not parts or min(parts) < 0:
        raise BehaviourError(f"seed={seed!r}: a seed is a whole number from 0 on, or several of them")
    return parts


# --- which events, and when ---------------------------------------------------------------------------------------


def _plan(seed: tuple[int, ...], seconds: float, corpus: Statistics, rng: np.random.Generator) -> list[_Plan]:
    """Events by start, placed and named."""
    # The events of neighbouring videos are numbered on, so that they share the range of durations and gaps.
    block, place = divmod(seed[-1], _NEIGHBOURS)
    streams = (*seed[:-1], block)
    plans, number = [], 0
    for stream, kind in enumerate((MACRO, MICRO)):
        of = corpus.of(kind)
        levels = even_levels(streams, stream, np.arange(place + 1))
        *before, count = draw_counts(of.per_minute * seconds / 60, of.dispersion, levels)
        durations = draw(of.duration_s, even_levels(streams, 2 + 2 * stream, sum(before) + np.arange(count)))
        plans += [_Plan(kind, min(0.6 * seconds, float(duration))) for duration in durations]
        number += int(sum(before))
    plans = [plans[i] for i in rng.permutation(len(plans))]
    if plans:
        numbers = number + np.arange(len(plans))
        overlaps = even_levels(streams, 3, numbers) < _overlapping(corpus, seconds)
        gaps = draw(corpus.gap_s, even_levels(streams, 5, numbers)[rng.permutation(len(plans))])
        gaps = np.where(overlaps, draw(corpus.overlap_position, rng.random(len(plans))) - 1, gaps)
        _bring_together(plans, gaps, rng)
        # A video begins and ends at any moment between two events.
        lead_s, tail_s = draw(corpus.gap_s, rng.random(2)) * rng.random(2)
        _place(plans, overlaps, gaps, (float(lead_s), float(tail_s)), seconds, rng)
        plans.sort(key=lambda plan: plan.start_s)
        _name(plans, corpus, rng)
    return plans


def _overlapping(corpus: Statistics, seconds: float) -> float:
    """How many of the events that have one before them overlap it, for as many of all to do so as in the corpus."""
    expected, none_at_all = 0.0, 1.0
    for of in (corpus.macro, corpus.micro):
        mean, dispersion = of.per_minute * seconds / 60, max(of.dispersion, 1e-6)
        expected += mean
        none_at_all *= (1 + mean * dispersion) ** (-1 / dispersion)
    followers = expected - 1 + none_at_all
    return min(0.5, corpus.overlaps_per_event * expected / followers) if followers > 1e-9 else 0.0


def _bring_together(plans: list[_Plan], gaps: np.ndarray, rng: np.random.Generator) -> None:
    """Half of the time, let a micro-expression be one of the two that are closest, if it is near: leaks are there."""
    micro = [i for i, plan in enumerate(plans) if plan.type == MICRO]
    nearest = 1 + int(np.argmin(gaps[1:])) if len(plans) > 1 else 0
    if not micro or not nearest or gaps[nearest] > _NEAR_S or rng.random() < 0.5:
        return
    if plans[nearest - 1].type == plans[nearest].type == MACRO:
        here, there = nearest - int(rng.integers(2)), micro[int(rng.integers(len(micro)))]
        plans[here], plans[there] = plans[there], plans[here]


def _place(
    plans: list[_Plan], overlaps: np.ndarray, gaps: np.ndarray, ends_s: tuple[float, float], seconds: float, rng
) -> None:
    """
    Start times: gaps, and `ends_s` before the first and after the last event, as drawn, but that the long ones give
    way in a video too short for them.
    """

    def lay(longest_gap_s: float) -> float:
        latest = plans[0]
        latest.start_s = min(ends_s[0], longest_gap_s)
        for plan, overlapping, gap in zip(plans[1:], overlaps[1:], gaps[1:], strict=True):
            step = min(gap * latest.duration_s, -_TOUCH_S) if overlapping else min(gap, longest_gap_s)
            plan.start_s = max(latest.start_s, latest.end_s + step)
            latest = max(latest, plan, key=lambda one: one.end_s)
        return latest.end_s + min(ends_s[1], longest_gap_s)

    room = seconds - 2 * _MARGIN_S
    while lay(0.0) > room:  # more than fits even without gaps: the longest event gives way
        longest = max(plans, key=lambda plan: plan.duration_s)
        longest.duration_s *= 0.8
    low, high = 0.0, seconds
    if lay(high) > room:
        for _ in range(12):
            middle = (low + high) / 2
            low, high = (middle, high) if lay(middle) <= room else (low, middle)
        high = low
    whole = lay(high)
    shift = _MARGIN_S + rng.uniform(0, max(0.0, room - whole))
    for plan in plans:
        plan.start_s += shift


def _name(plans: list[_Plan], corpus: Statistics, rng: np.random.Generator) -> None:
    """Emotions by their shares; near neighbours get different ones, and some are smiled over."""

    def emotion(kind: str, other_than: str = "") -> str:
        shares = np.array([corpus.of(kind).emotions.get(name, 0.0) * (name != other_than) for name in EMOTIONS])
        return EMOTIONS[rng.choice(len(EMOTIONS), p=shares / shares.sum())] if shares.any() else "others"

    for index, plan in enumerate(plans):
        before = plans[index - 1] if index else None
        near = before is not None and plan.start_s - before.end_s < _NEAR_S
        plan.emotion = emotion(plan.type, before.emotion if near else "")


def _related(acted: list[tuple[_Plan, Expression]]) -> tuple[Expression, ...]:
    """Say which micro-expressions leak from which macro-expression, and what is smiled over; order by onset."""
    acted = sorted(acted, key=lambda one: (one[1].onset_frame, one[1].offset_frame))
    plans, related = [plan for plan, _ in acted], [event for _, event in acted]
    for i, event in enumerate(related):
        for j, other in enumerate(related):
            if i == j or event.emotion == other.emotion or other.type != MACRO or event.relation:
                continue
            apart_s = max(plans[i].start_s, plans[j].start_s) - min(plans[i].end_s, plans[j].end_s)
            smiled_over = other.emotion == "happiness" and plans[i].start_s < plans[j].start_s and apart_s < 0
            if smiled_over or (event.type == MICRO and apart_s < _NEAR_S):
                event = related[i] = replace(event, relation="masked" if smiled_over else "leak", partner=j)
    return tuple(related)


# --- what an event looks like -------------------------------------------------------------------------------------


def _act(plan: _Plan, corpus: Statistics, timeline: Timeline, intensity: np.ndarray, rng) -> Expression | None:
    """Give an event its curves, and read its frames off that of the leading unit; None if it falls between two."""
    duration = plan.duration_s
    rise = duration * float(draw(corpus.of(plan.type).apex, rng.random()))
    quickest = min(0.08, 0.4 * duration)
    rise = min(max(rise, quickest), duration - quickest)
    hold = (duration - rise - quickest) * rng.beta(1.6, 2.4)
    fall = duration - rise - hold
    low, high = INTENSITIES[plan.type]
    level = rng.beta(1.2, 2.0) if plan.type == MACRO else rng.beta(1.3, 1.6)
    # Steepest is the fastest shape: 2.2 times the mean slope.
    peak = max(low, min(low + (high - low) * level, _FASTEST_PER_S * min(rise, fall) / 2.2))
    peaks = cook(plan.emotion, peak, corpus.one_sided, rng)
    for place, (unit, sides) in enumerate(peaks.items()):
        # Others follow the leader within its span.
        late, early = (0.0, 0.0) if place == 0 else (rise * rng.uniform(0, 0.25), fall * rng.uniform(0, 0.3))
        to_apex = rise - late + (0.0 if place == 0 else hold * rng.uniform(0, 0.3))
        stay = max(0.0, duration - late - to_apex - (fall - early) - early)
        curve, toe, tail = _curve(plan.start_s + late, to_apex, stay, fall - early, rng)
        span = (plan.start_s + late - toe, plan.end_s - early + tail)
        timeline.activate({unit: sides}, *span, curve)
        if place == 0:
            where = timeline.frames(*span)
            envelope = curve(timeline.t[where])
            intensity[where] = np.maximum(intensity[where], peak * envelope)
    above = where.start + np.flatnonzero(envelope > ONSET_FRACTION)
    if not len(above):
        return None
    return Expression(
        type=plan.type,
        emotion=plan.emotion,
        onset_frame=int(above[0]),
        apex_frame=where.start + int(np.argmax(envelope)),
        offset_frame=int(above[-1]),
        intensity=float(peak),
        action_units=peaks,
    )


def _curve(start_s: float, rise_s: float, hold_s: float, fall_s: float, rng) -> tuple[Curve, float, float]:
    """
    A curve with its maximum, 1, at the end of the rise, that is above `ONSET_FRACTION` from start to end.

    Returns:
        The curve, and how long before the start and after the end it is not yet or no longer 0.
    """
    up, down = _shape(rng), _shape(rng)
    # What is left of the peak when the fall begins: held, relaxing, or an overshoot that settles.
    left = 1 - rng.choice([0.03, 0.15, 0.35]) * rng.uniform(0.5, 1)
    left = left if hold_s > 0.05 else 1.0
    settle_s = hold_s * rng.uniform(0.3, 1.0)
    waves, depth = max(1, round(hold_s / rng.uniform(0.8, 2.5))), rng.uniform(0, 0.15)
    # Where the shapes cross the fraction, so that they do so at start and end.
    full_rise_s = rise_s / (1 - np.interp(ONSET_FRACTION, up(_GRID), _GRID))
    full_fall_s = fall_s / np.interp(1 - ONSET_FRACTION / left, down(_GRID), _GRID)
    apex_s, fall_at_s = start_s + rise_s, start_s + rise_s + hold_s

    def curve(t: np.ndarray) -> np.ndarray:
        value = up(np.clip((t - apex_s) / full_rise_s + 1, 0, 1))
        value *= left * (1 - down(np.clip((t - fall_at_s) / full_fall_s, 0, 1)))
        if left < 1:
            # From the apex on, 1 goes down to `left`, in waves.
            since = np.clip((t - apex_s) / hold_s, 0, 1)
            value *= (1 - (1 - left) * smooth_step(since * hold_s / settle_s)) / left
            value *= 1 - depth * np.sin(np.pi * waves * since) ** 2
        return value

    return curve, full_rise_s - rise_s, full_fall_s - fall_s


_GRID = np.linspace(0, 1, 257)


def _shape(rng: np.random.Generator) -> Curve:
    """A way from 0 to 1: even, early (fast, then easing in), late, or logistic."""
    if rng.random() < 0.25:
        steepness = rng.uniform(6, 9)
        edge = 1 / (1 + math.exp(steepness / 2))
        return lambda s: (1 / (1 + np.exp(steepness * (0.5 - s))) - edge) / (1 - 2 * edge)
    power = math.exp(rng.normal(0, 0.25))
    if rng.random() < 0.5:
        return lambda s: smooth_step(s**power)
    return lambda s: (s**power) ** 2 * (3 - 2 * s**power)


__all__ = [
    "ACTION_UNITS",
    "EMOTIONS",
    "INTENSITIES",
    "MACRO",
    "MICRO",
    "ONSET_FRACTION",
    "Distractor",
    "Expression",
    "Script",
    "write_script",
]
