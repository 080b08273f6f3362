"""Scripts of synthetic videos: their truth is exact, their statistics the corpora's, and their motion a face's."""

import csv
from collections import Counter

import numpy as np
import pytest

from fedn_hf.synthetic.behaviour import INTENSITIES, MACRO, MICRO, ONSET_FRACTION, write_script
from fedn_hf.synthetic.facs import ACTION_UNITS, COLUMN, EMOTIONS, ONE_SIDED, RECIPES, cook
from fedn_hf.synthetic.statistics import (
    SHOWN,
    STATISTICS,
    BehaviourError,
    Statistics,
    TypeStatistics,
    draw,
    draw_counts,
    summarise,
)
from tests.conftest import SHARED

ARRAYS = (
    *("action_units", "intensity", "head_rotation_deg", "head_shift_cm"),
    *("gaze_deg", "light_gain", "lamp_deg", "occluder_cm"),
)
EYES_SHUT = {"blink", "long_blink", "blink_burst"}


@pytest.fixture(scope="module")
def scripts():
    """Twenty minutes that are full of events."""
    return [write_script((3, subject), 60, 30, "samm_lv") for subject in range(20)]


@pytest.fixture(scope="module")
def events(scripts):
    return [(script, event) for script in scripts for event in script.expressions]


# --- the truth ----------------------------------------------------------------------------------------------------


def test_frames_are_in_order_and_in_the_video(events):
    for script, event in events:
        assert 0 < event.onset_frame <= event.apex_frame <= event.offset_frame < script.num_frames - 1


def test_frames_follow_from_the_envelope_by_the_stated_rule():
    """Of events that stand alone, so that the largest envelope is their own."""
    checked = 0
    for seed in range(30):
        script = write_script(seed, 60, 200)
        for event in script.expressions:
            near = slice(max(0, event.onset_frame - 150), event.offset_frame + 151)
            others = [e for e in script.expressions if e is not event]
            if any(e.onset_frame < near.stop + 150 and e.offset_frame > near.start - 150 for e in others):
                continue
            checked += 1
            above = near.start + np.flatnonzero(script.intensity[near] > ONSET_FRACTION * event.intensity)
            assert (above[0], above[-1]) == (event.onset_frame, event.offset_frame)
            assert len(above) == event.offset_frame - event.onset_frame + 1  # one stretch
            assert near.start + np.argmax(script.intensity[near]) == event.apex_frame
            assert script.intensity[event.apex_frame] == pytest.approx(event.intensity, rel=0.02)
    assert checked > 30


def test_nothing_is_marked_where_the_envelope_is_not(scripts):
    for script in scripts:
        inside = np.zeros(script.num_frames, bool)
        for event in script.expressions:
            inside[event.onset_frame : event.offset_frame + 1] = True
        assert script.intensity[~inside].max() <= ONSET_FRACTION * INTENSITIES[MACRO][1] + 1e-6
        quiet = np.flatnonzero(inside)
        far = [f for f in range(script.num_frames) if np.abs(quiet - f).min() > 300]
        assert not script.intensity[far].any()


def test_intensities_and_action_units_are_those_of_the_type(events):
    for _, event in events:
        low, high = INTENSITIES[event.type]
        assert low <= event.intensity <= high
        assert max(max(sides) for sides in event.action_units.values()) == pytest.approx(event.intensity)
        assert event.emotion in EMOTIONS and event.action_units.keys() <= set(ACTION_UNITS)
    strong = [event.intensity for _, event in events if event.type == MACRO]
    weak = [event.intensity for _, event in events if event.type == MICRO]
    assert np.ptp(strong) > 0.5 and np.ptp(weak) > 0.15


def test_every_muscle_of_an_event_pulls_at_its_apex(events):
    """What the truth names is in the picture: at least what the leading unit does, whatever comes on top."""
    for script, event in events:
        leader = max(event.action_units, key=lambda unit: max(event.action_units[unit]))
        column = COLUMN[leader]
        shown = script.action_units[event.apex_frame, column]
        assert np.all(shown >= 0.9 * np.array(event.action_units[leader]) - 1e-6)


def test_neighbours_that_leak_or_hide_say_from_whom(scripts):
    relations = Counter()
    for script in scripts:
        for event in script.expressions:
            relations[event.relation] += 1
            assert (event.relation is None) == (event.partner is None)
            if event.relation:
                partner = script.expressions[event.partner]
                assert partner.type == MACRO and partner.emotion != event.emotion
                gap = max(event.onset_frame, partner.onset_frame) - min(event.offset_frame, partner.offset_frame)
                assert gap <= 0.5 * script.fps + 2
            if event.relation == "masked":
                assert partner.emotion == "happiness" and event.onset_frame <= partner.onset_frame
            if event.relation == "leak":
                assert event.type == MICRO
    assert relations["leak"] > 5 and relations["masked"] > 1


# --- what moves besides -------------------------------------------------------------------------------------------


def test_arrays_are_sound(scripts):
    for script in scripts:
        count = script.num_frames
        shapes = [(count, 25, 2), (count,), *[(count, 3)] * 2, (count, 2), (count,), (count, 2), (count, 3)]
        assert [getattr(script, name).shape for name in ARRAYS] == shapes
        assert all(getattr(script, name).dtype == np.float32 for name in ARRAYS)
        assert all(np.isfinite(getattr(script, name)).all() for name in ARRAYS[:-1])
        assert script.action_units.min() >= 0 and script.action_units.max() <= 1
        assert np.abs(script.head_rotation_deg).max() < 40 and np.abs(script.head_shift_cm).max() < 12
        assert script.light_gain.min() > 0.3 and script.light_gain.max() < 2


def test_the_restless_look_around_under_lamps_that_move_and_act_as_they_would():
    quiet, restless = (write_script((6, 1), 120, 30, restless=restless) for restless in (False, True))
    assert restless.expressions == quiet.expressions and np.array_equal(restless.action_units, quiet.action_units)
    kinds = {d.kind for d in restless.distractors} - {d.kind for d in quiet.distractors}
    assert kinds == {"look_around", "lamp_moves", "lamp_switch"}
    away = np.abs(restless.head_rotation_deg - quiet.head_rotation_deg).max(1)
    assert 15 < away.max() < 60 and np.median(away) < 3  # far, and mostly back again
    assert np.abs(np.diff(away)).max() * 30 < 400  # degrees per second: a quick turn
    assert not quiet.lamp_deg.any() and np.abs(restless.lamp_deg).max() > 15
    assert restless.light_gain.min() > 0.02 and restless.light_gain.max() < 4
    assert np.abs(restless.gaze_deg).max() <= 35


def test_muscles_do_not_jump(scripts):
    """A tenth of a second for most of a contraction; only lids are faster."""
    for script in scripts:
        change = np.abs(np.diff(script.action_units, axis=0)).max((0, 2)) * script.fps
        assert np.delete(change, COLUMN[45]).max() < 18 and change[COLUMN[45]] < 32


def test_where_eyes_are_shut_a_blink_is_recorded(scripts):
    for script in scripts:
        recorded = np.zeros(script.num_frames, bool)
        for distractor in script.distractors:
            assert 0 <= distractor.first_frame <= distractor.last_frame < script.num_frames
            if distractor.kind in EYES_SHUT:
                recorded[distractor.first_frame : distractor.last_frame + 1] = True
        assert not script.action_units[~recorded, COLUMN[45]].any()
        occluded = np.isfinite(script.occluder_cm).all(1)
        assert occluded.sum() == sum(
            d.last_frame - d.first_frame + 1 for d in script.distractors if d.kind == "occlusion"
        )


def test_people_blink_as_people_do():
    blinks = [sum(d.kind in EYES_SHUT for d in write_script((1, seed), 60, 30).distractors) for seed in range(60)]
    assert 12 < np.mean(blinks) < 22 and min(blinks) < 10 and max(blinks) > 25


def test_everything_that_fools_a_spotter_is_there():
    kinds = {d.kind for seed in range(60) for d in write_script((2, seed), 60, 30).distractors}
    assert kinds >= EYES_SHUT | {"saccade", "gaze_shift", "head_turn", "head_drift", "nod", "shake", "tilt", "posture"}
    assert kinds >= {"speech", "swallow", "lick_lips", "occlusion", "light_drift", "light_step", "cloud"}
    assert kinds >= {"screen_flicker", "blow", "chew", "jaw_shift", "muscle_tone"}


def test_speech_moves_the_mouth_more_than_a_micro_expression_does():
    opened = [
        script.action_units[d.first_frame : d.last_frame + 1, COLUMN[25]].max()
        for script in (write_script((2, seed), 60, 30) for seed in range(30))
        for d in script.distractors
        if d.kind == "speech" and d.last_frame - d.first_frame > 30
    ]
    assert len(opened) > 10 and np.median(opened) > INTENSITIES[MICRO][1]


# --- seeds, frame rates, lengths ----------------------------------------------------------------------------------


def test_same_seed_same_script():
    one, other, third = (write_script(seed, 20, 30) for seed in ((5, 1), (5, 1), (5, 2)))
    assert one.expressions == other.expressions and one.distractors == other.distractors
    for name in ARRAYS:
        assert np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True)
    assert not np.array_equal(one.head_rotation_deg, third.head_rotation_deg)
    assert not np.array_equal(one.action_units, third.action_units)


def test_a_person_keeps_habits():
    """Blinks of one person's videos are more alike than those of others."""
    rates = np.array(
        [
            [
                sum(d.kind in EYES_SHUT for d in write_script((4, who, video), 60, 30, person=(4, who)).distractors)
                for video in range(4)
            ]
            for who in range(12)
        ]
    )
    assert rates.mean(1).var() > 2 * rates.var(1).mean() / 4


def test_same_behaviour_at_any_frame_rate():
    for seed in range(5):
        slow, fast = write_script(seed, 40, 25, "samm_lv"), write_script(seed, 40, 200, "samm_lv")
        for name in ARRAYS[:-1]:
            assert np.allclose(getattr(slow, name), getattr(fast, name)[::8], atol=1e-4), name
        assert len(slow.expressions) == len(fast.expressions)
        for one, other in zip(slow.expressions, fast.expressions, strict=True):
            assert (one.type, one.emotion, one.action_units) == (other.type, other.emotion, other.action_units)
            assert abs(one.onset_frame / 25 - other.onset_frame / 200) <= 1 / 25
            assert abs(one.offset_frame / 25 - other.offset_frame / 200) <= 1 / 25


def test_what_falls_between_two_frames_is_not_in_the_video():
    for seed in range(20):
        slow, fast = (write_script(seed, 60, fps, "samm_lv") for fps in (4, 100))
        assert len(slow.expressions) <= len(fast.expressions)
        assert all(e.onset_frame <= e.apex_frame <= e.offset_frame for e in slow.expressions)


@pytest.mark.parametrize("statistics", STATISTICS)
@pytest.mark.parametrize("seconds", [2, 5, 11.3])
def test_short_videos_hold_whole_events(statistics, seconds):
    for seed in range(40):
        script = write_script(seed, seconds, 30, statistics)
        assert script.num_frames == round(seconds * 30)
        assert max(script.intensity[0], script.intensity[-1]) <= ONSET_FRACTION
        assert all(e.onset_frame > 0 and e.offset_frame < script.num_frames - 1 for e in script.expressions)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ((0, 1, 30), "at least 2 seconds"),
        ((0, 60, 0), "0 fps"),
        ((0, float("nan"), 30), "at least 2 seconds"),
        ((-1, 60, 30), "whole number"),
        (((), 60, 30), "whole number"),
        ((0, 60, 30, "casme2"), "casme_2, casme_3, samm_lv"),
    ],
)
def test_errors_say_what_to_do(arguments, words):
    with pytest.raises(BehaviourError, match=words):
        write_script(*arguments)


# --- recipes ------------------------------------------------------------------------------------------------------


def test_recipes_know_their_units():
    assert set(RECIPES) == set(EMOTIONS)
    for recipes in RECIPES.values():
        assert len(recipes) >= 5
        for recipe in recipes:
            assert recipe.action_units.keys() <= set(ACTION_UNITS) - {45}
            assert next(iter(recipe.action_units.values())) == max(recipe.action_units.values()) == 1


def test_some_events_are_on_one_side():
    rng = np.random.default_rng(0)
    alone = [cook("others", 0.5, 0.3, rng) for _ in range(400)]
    one_sided = [peaks for peaks in alone if any(min(sides) == 0 for sides in peaks.values())]
    assert 0.2 < len(one_sided) / len(alone) < 0.4
    assert all(unit in ONE_SIDED for peaks in one_sided for unit, sides in peaks.items() if min(sides) == 0)
    both = [cook("happiness", 0.5, 0.0, rng) for _ in range(50)]
    assert all(0.5 * max(sides) <= min(sides) for peaks in both for sides in peaks.values())
    assert len({tuple(sorted(peaks)) for peaks in both}) > 4  # variants, and units that stay away


# --- statistics ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, fps, first, seconds",
    [("casme_2", 30, 0, 60), ("casme_2", 30, 200, 60), ("casme_3", 30, 0, 120), ("samm_lv", 200, 0, 60)],
)
def test_a_hundred_scripts_are_like_the_corpus(name, fps, first, seconds):
    """At the frame rates of the corpora, and about as long as there. (A frame more is 10 % of a short micro.)"""
    corpus = STATISTICS[name]
    found = summarise([write_script((0, first + video), seconds, fps, name).events() for video in range(100)])
    for kind in (MACRO, MICRO):
        of = corpus.of(kind)
        assert found[f"{kind} events_per_minute"] == pytest.approx(of.per_minute, rel=0.1)
        for level in SHOWN:
            assert found[f"{kind} duration_s {level}"] == pytest.approx(float(draw(of.duration_s, level)), rel=0.1)


def test_videos_begin_and_end_at_any_moment_between_two_events():
    first, last = [], []
    for seed in range(200):
        script = write_script((5, seed), 60, 30, "samm_lv")
        if script.expressions:
            first.append(script.expressions[0].onset_frame)
            last.append(script.num_frames - max(e.offset_frame for e in script.expressions))
    for distances in (first, last):
        most_common = np.bincount(distances).max()
        assert most_common < 0.1 * len(distances) and np.median(distances) > 45


def test_counts_have_the_mean_and_spread_that_are_asked_for():
    for mean, dispersion in ((0.4, 1.4), (2.1, 0.45), (8.5, 0.0)):
        counts = draw_counts(mean, dispersion, (np.arange(20000) + 0.5) / 20000)
        assert counts.mean() == pytest.approx(mean, rel=0.01)
        assert counts.var() == pytest.approx(mean + dispersion * mean**2, rel=0.02)


def test_statistics_of_ones_own():
    of = TypeStatistics(6.0, 0.0, (1.0,) * 11, (0.5,) * 11, {"surprise": 1})
    own = Statistics(of, of, 0.0, (0.5,) * 11, 0.0, (2.0,) * 11, 0.0)
    found = [e for seed in range(10) for e in write_script(seed, 60, 100, own).expressions]
    assert {e.emotion for e in found if e.relation is None} == {"surprise"}
    lengths = [e.offset_frame - e.onset_frame + 1 for e in found]
    assert set(lengths) <= {99, 100, 101} and 80 < len(found) < 160


# Number of seconds of a video, and its events as the sheets have them.
def sheet(name: str) -> list[tuple[float, list]]:
    folder = SHARED / "corpora" / "annotations"
    if not folder.exists():
        pytest.skip("the corpora's sheets are not there: set FEDN_SHARED to the folder that holds corpora/annotations")
    fps = 200 if name == "samm_lv" else 30
    table = {"casme_2": "casme2_sq.csv", "casme_3": "casme3_partA_v2.csv", "samm_lv": "samm_lv.csv"}[name]
    with open(folder / table) as file:
        rows = list(csv.DictReader(file))
    films, videos = {}, {}
    for row in rows:
        video = row["video"].lower() if name == "casme_3" else row.get("video") or row["video_code"]
        onset, apex = float(row["onset"]), float(row["apex"])
        offset = float(row.get("offset_raw") or row["offset"]) or apex
        films[video] = max(films.get(video, 0), offset)
        event = (f"{row['type']}-expression", onset / fps, (max(onset, offset) + 1) / fps)
        videos.setdefault((row["subject"], video), []).append(event)
    if name == "casme_3":
        subjects = {subject for subject, _ in videos}
        return [(films[film] / fps, videos.get((subject, film), [])) for subject in subjects for film in films]
    with open(folder / f"{'cas' if name == 'casme_2' else 'samm'}_duration.csv") as file:
        seconds = sum(float(row["duration"]) for row in csv.DictReader(file)) / fps
    return [(seconds / len(videos), events) for events in videos.values()]


@pytest.mark.parametrize("name", STATISTICS)
def test_constants_are_the_sheets(name):
    corpus, found = STATISTICS[name], summarise(sheet(name))
    for kind in (MACRO, MICRO):
        assert found[f"{kind} events_per_minute"] == pytest.approx(corpus.of(kind).per_minute, rel=1e-3)
        if (name, kind) != ("casme_2", MACRO):  # 44 have no offset: they count, but have no duration
            for level in SHOWN:
                expected = float(draw(corpus.of(kind).duration_s, level))
                assert found[f"{kind} duration_s {level}"] == pytest.approx(expected, rel=1e-3)
    assert found["overlapping_events"] == pytest.approx(corpus.overlapping_events, rel=1e-3)
    assert found["overlaps_per_event"] == pytest.approx(corpus.overlaps_per_event, rel=1e-3)
    assert found["gap_s 0.5"] == pytest.approx(float(draw(corpus.gap_s, 0.5)), rel=1e-3)
