"""The annotation: what it refuses, its parts and views, its numbers, and how it looks."""

import json
import math
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedn_hf import ExpressionAnnotation, ExpressionInterval, FednError
from fedn_hf.time_budget import budget_table, tidy_table

MACRO, MICRO = "macro-expression", "micro-expression"


def event(onset_s, offset_s, label="anger", kind=MACRO, score=0.5, face=0, apex_s=None, fps=25):
    """An expression with frames; the apex lies in the middle unless it is said."""
    apex_s = (onset_s + offset_s) / 2 if apex_s is None else apex_s
    return ExpressionInterval(label, score, kind, onset_s, apex_s, offset_s, face_id=face).with_frames(fps)


def annotate(*events, coverage=(), path="a.mp4", duration_s=60.0, **more):
    video = {"path": path, "fps": 25.0, "duration_s": duration_s, "num_frames": round(25 * duration_s)}
    rows = [{"face_id": face, "start_s": start, "end_s": end} for face, start, end in coverage]
    return ExpressionAnnotation(video, list(events), rows, **more)


TIMES = st.integers(0, 600).map(lambda tenths: tenths / 10)
EVENTS = st.builds(
    lambda onset, lasts, *rest: event(onset, onset + lasts, *rest),
    TIMES,
    st.integers(0, 50).map(lambda tenths: tenths / 10),
    st.sampled_from(["anger", "happiness", None]),
    st.sampled_from([MACRO, MICRO]),
    st.sampled_from([None, 0.2, 0.9]),
    st.integers(0, 1),
)


# --- what is refused ----------------------------------------------------------------------------------------------

WRONG_INTERVALS = {
    "onset <= apex <= offset must hold, got (1.0, 3.0, 2.0) (s)": {"apex_s": 3.0},
    "onset <= apex <= offset must hold, got (30, None, 20) (frame)": {"onset_frame": 30, "offset_frame": 20},
    "onset_frame and offset_frame must both be known": {"onset_frame": 30},
    "score must be a number from 0 to 1 or None, got 1.5": {"score": 1.5},
    "score must be a number from 0 to 1 or None, got nan": {"score": math.nan},
    "score must be a number from 0 to 1 or None, got '0.5'": {"score": "0.5"},
    "onset_s must be a number of seconds, got inf": {"onset_s": -math.inf, "apex_s": None},
    "onset_s must be a number of seconds, got None": {"onset_s": None},
    "offset_s must be a number of seconds, got a very large number": {"offset_s": 10**5000},
    "offset_s must be a number of seconds, got True": {"offset_s": True},
    "face_id must be a whole number, 0 or more, got -1": {"face_id": -1},
    "face_id must be a whole number, 0 or more, got 0.5": {"face_id": 0.5},
    "label must be a text or None, got ' '": {"label": " "},
    "type must be a text or None, got 3": {"type": 3},
    "label_scores must hold numbers from 0 to 1 by label, got 'anger': 2": {"label_scores": {"anger": 2}},
    "label_scores must be a dict": {"label_scores": [0.5]},
}


@pytest.mark.parametrize("message", WRONG_INTERVALS)
def test_what_an_interval_refuses(message):
    good = {"label": "anger", "score": 0.5, "type": MACRO, "onset_s": 1.0, "apex_s": 1.5, "offset_s": 2.0}
    ExpressionInterval(**good)
    with pytest.raises(FednError) as caught:
        ExpressionInterval(**{**good, **WRONG_INTERVALS[message]})
    assert message.replace("got inf", "got -inf") in str(caught.value) and isinstance(caught.value, ValueError)


WRONG_ANNOTATIONS = {
    "video must be a dict, got 'a.mp4'": {"video": "a.mp4"},
    'video must say its "path", got {}': {"video": {}},
    "intervals must be a list, got None": {"intervals": None},
    "intervals must hold ExpressionIntervals, got {'label'": {"intervals": [{"label": "anger"}]},
    "labels and types must be texts, got 3": {"labels": [3]},
    "labels must be a list, got 'anger'": {"labels": "anger"},
    "a row of coverage must have face_id, start_s and end_s": {"coverage": [{"face_id": 0}]},
    "start_s <= end_s must hold in coverage, got (2, 1)": {"coverage": [{"face_id": 0, "start_s": 2, "end_s": 1}]},
    "the columns of a curve must be equally long": {"curves": [{"face_id": 0, "time_s": [1.0], "score": []}]},
    "provenance must be a dict": {"provenance": []},
}


@pytest.mark.parametrize("message", WRONG_ANNOTATIONS)
def test_what_an_annotation_refuses(message):
    with pytest.raises(FednError) as caught:
        ExpressionAnnotation(**{"video": {"path": "a.mp4"}, "intervals": [], **WRONG_ANNOTATIONS[message]})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "a dict was expected"),
        ({"intervals": []}, "schema 1 was expected, got None; not a file of this package"),
        ({"schema": 9}, "written by a newer version"),
        ({"schema": 1}, "not an annotation: 'intervals'"),
        ({"schema": 1, "video": {"path": "a"}, "intervals": [{"onset": 3}]}, "unexpected keyword argument 'onset'"),
        ({"schema": 1, "video": {"path": "a"}, "intervals": [], "mood": 1}, "unexpected keyword argument 'mood'"),
    ],
)
def test_data_of_another_kind(data, message):
    with pytest.raises(FednError, match=message):
        ExpressionAnnotation.from_dict(data)


def test_it_is_frozen_equal_and_in_order():
    first, second = event(1.0, 2.0), event(3.0, 4.0)
    annotation = annotate(second, first)
    assert annotation.intervals == [first, second] == list(annotation) and annotation == annotate(first, second)
    assert annotation != annotate(first) and len({first, event(1.0, 2.0), second}) == 2
    with pytest.raises(FrozenInstanceError):
        first.label = "joy"


def test_numbers_of_numpy_become_plain():
    one = ExpressionInterval("joy", np.float32(0.5), MACRO, np.float64(1), 1, np.float32(2), np.int64(25), None, 49)
    assert json.dumps(annotate(one).to_dict()) and type(one.onset_frame) is int and one.apex_s == 1.0


# --- parts and views ----------------------------------------------------------------------------------------------


def test_crop_cuts_everything_and_keeps_the_clock():
    curve = {"face_id": 0, "time_s": [0.0, 5.0, 9.0, 12.0], "score": [0.1, 0.2, None, 0.4]}
    whole = annotate(
        *(event(4.0, 6.0), event(8.0, 12.0), event(12.0, 13.0), event(10.0, 10.0, score=0.1)),
        coverage=[(0, 0.0, 11.0)],
        curves=[curve],
    )
    part = whole.crop(5.0, 10.0)
    assert [(e.onset_s, e.offset_s, e.apex_s) for e in part] == [(5.0, 6.0, 5.0), (8.0, 10.0, 10.0)]
    assert [(e.onset_frame, e.offset_frame) for e in part] == [(125, 149), (200, 249)]
    assert part.coverage == [{"face_id": 0, "start_s": 5.0, "end_s": 10.0}]
    assert part.curves == [{"face_id": 0, "time_s": [5.0, 9.0], "score": [0.2, None]}]
    assert part.observed_s == 5.0 and replace(part, coverage=[]).observed_s == 5.0
    assert whole.crop(8.0, 9.0).intervals[0].apex_s is None
    assert whole.crop(50.0, math.inf).provenance == {"start_s": 50.0, "end_s": 60.0}
    for limits in ((2.0, 2.0), (3.0, 2.0), (math.nan, 2.0)):
        with pytest.raises(FednError, match="crop needs start_s < end_s"):
            whole.crop(*limits)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(EVENTS, max_size=6), TIMES.filter(bool))
def test_parts_put_together_are_the_whole(events, border_s):
    whole = annotate(*events, duration_s=70.0).merge()
    parts = [whole.crop(0.0, border_s), whole.crop(border_s, 70.0)] if border_s < 70 else [whole]
    again = ExpressionAnnotation.concatenate(parts).merge()
    assert [(e.onset_s, e.offset_s, e.label, e.type, e.face_id) for e in again] == [
        (e.onset_s, e.offset_s, e.label, e.type, e.face_id) for e in whole
    ]
    assert [(e.onset_frame, e.offset_frame) for e in again] == [(e.onset_frame, e.offset_frame) for e in whole]
    assert [e.apex_s for e in again] == [e.apex_s for e in whole]


def test_files_one_after_the_other():
    curves = [{"face_id": 0, "time_s": [1.0], "score": [0.5]}]
    day = annotate(event(1.0, 2.0), coverage=[(0, 0.0, 9.0)], curves=curves, path="GX01.mp4", duration_s=10.0)
    both = ExpressionAnnotation.concatenate([day, replace(day, video={**day.video, "path": "GX02.mp4"})])
    assert [(e.onset_s, e.apex_s, e.onset_frame) for e in both] == [(1.0, 1.5, 25), (11.0, 11.5, 275)]
    assert both.coverage[1] == {"face_id": 0, "start_s": 10.0, "end_s": 19.0} and both.curves[1]["time_s"] == [11.0]
    assert both.video["duration_s"] == 20.0 and both.video["parts"] == ["GX01.mp4", "GX02.mp4"]
    assert both.observed_s == 18.0
    unknown = replace(day, video={"path": "GX00.mp4"})
    with pytest.raises(FednError, match=r"GX00.mp4: its duration_s is not known"):
        ExpressionAnnotation.concatenate([unknown, day])
    with pytest.raises(FednError, match="at least one part"):
        ExpressionAnnotation.concatenate([])
    overlapping = [annotate(event(1.0, 2.0)), annotate(event(1.0, 2.0), event(3.0, 4.0))]
    assert len(ExpressionAnnotation.concatenate(overlapping)) == 2


def test_filter():
    events = [event(0.0, 1.0), event(2.0, 2.2, "joy", MICRO, 0.9), event(3.0, 5.0, None, MACRO, None, face=1)]
    whole = annotate(*events, coverage=[(0, 0.0, 9.0), (1, 3.0, 6.0)])
    assert list(whole.filter(types=MICRO)) == [events[1]] == list(whole.filter(labels=["joy"]))
    assert list(whole.filter(score_threshold=0.6)) == events[1:]  # a coder is not less sure for saying no number
    assert list(whole.filter(min_duration_s=0.5, max_duration_s=1.5)) == [events[0]]
    second = whole.filter(faces=1)
    assert list(second) == [events[2]] and second.coverage == [{"face_id": 1, "start_s": 3.0, "end_s": 6.0}]
    with pytest.raises(ValueError, match="labels must be among anger, joy, got glee"):
        whole.filter(labels="glee")


def test_merge():
    parts = [event(0.0, 1.0, score=0.2), event(1.3, 2.0, score=0.9), event(2.1, 3.0, "joy"), event(1.5, 1.6, face=1)]
    assert len(annotate(*parts).merge(0.2)) == 4
    joined = annotate(*parts).merge(0.3)
    assert next((e.onset_s, e.offset_s, e.score, e.apex_s) for e in joined) == (0.0, 2.0, 0.9, 1.65)
    assert (joined.intervals[0].onset_frame, joined.intervals[0].offset_frame) == (0, 49) and len(joined) == 3
    inside = annotate(event(0.0, 9.0, score=0.1), event(2.0, 3.0, score=0.8), event(8.5, 10.0, score=0.3)).merge()
    assert [(e.onset_s, e.offset_s, e.score) for e in inside] == [(0.0, 10.0, 0.8)]
    with pytest.raises(FednError, match="gap_s must be a number of seconds, 0 or more, got -1"):
        joined.merge(-1)


def test_relabel():
    one = replace(event(0.0, 1.0, "anger"), label_scores={"anger": 0.7, "disgust": 0.8, "joy": 0.1})
    named = annotate(one, event(2.0, 3.0, "joy"), labels=["anger", "disgust", "joy"]).relabel(
        {"anger": "negative", "disgust": "negative", "joy": None}
    )
    assert [e.label for e in named] == ["negative", None] and named.labels == ["negative"]
    assert named.intervals[0].label_scores == {"negative": 0.8}


def test_frames_by_a_rate():
    coded = ExpressionAnnotation({"path": "a"}, [ExpressionInterval("joy", None, MACRO, 1.0, 1.5, 2.0)])
    with pytest.raises(FednError, match=r"a: its frames per second are not known: give fps= \(--fps\)"):
        coded.with_frames()
    found = coded.with_frames(25)
    assert [(e.onset_frame, e.apex_frame, e.offset_frame) for e in found] == [(25, 37, 49)]
    assert found.video["fps"] == 25 and found.with_frames(50) is found


# --- how much, how often ------------------------------------------------------------------------------------------


def test_time_budget():
    events = [event(0.0, 4.0), event(2.0, 6.0), event(10.0, 10.5, "joy", MICRO), event(2.0, 3.0, face=1)]
    known = annotate(*events, coverage=[(0, 0.0, 20.0), (0, 20.0, 30.0), (1, 0.0, 10.0)])
    rows = known.time_budget()
    assert [(row["type"], row["label"], row["count"], row["total_s"]) for row in rows] == [
        (MACRO, "anger", 3, 7.0),  # what overlaps is not counted twice, but of another face it is
        (MICRO, "joy", 1, 0.5),
    ]
    assert rows[0]["observed_s"] == 40.0 and rows[0]["observed_by"] == "coverage"
    assert rows[0]["per_minute"] == pytest.approx(3 / 40 * 60)
    faces = known.time_budget(by=("face_id",))
    assert [(row["count"], row["observed_s"]) for row in faces] == [(3, 30.0), (1, 10.0)]
    (everything,) = annotate(*events).time_budget(by=())
    assert (everything["count"], everything["per_minute"], everything["observed_by"]) == (4, 4.0, "duration")
    assert annotate(events[0], duration_s=0.0).time_budget()[0]["per_minute"] is None
    assert ExpressionAnnotation({"path": "a"}, events).observed_by == "unknown"
    nobody = annotate(provenance={"model": None})  # a network looked and saw no face
    assert (nobody.observed_s, nobody.observed_by) == (0.0, "coverage") and nobody.time_budget() == []
    with pytest.raises(FednError, match="by may hold type, label, face_id, got 'mood'"):
        known.time_budget(by=["mood"])


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(EVENTS, max_size=8), st.sampled_from([0.1, 0.5, 1.0, 7.0]))
def test_steps_hold_all_of_the_time(events, step_s):
    whole = annotate(*events, coverage=[(0, 1.0, 5.0), (1, 4.0, 9.0)], duration_s=70.0)
    steps = whole.discretize(step_s)
    one_face = whole.filter(faces=0)
    sums = one_face.discretize(step_s).drop(columns="face").sum() * step_s
    expected = {f"{row['type']} {row['label'] or 'unknown-label'}": row["total_s"] for row in one_face.time_budget()}
    assert sums.to_dict() == pytest.approx(expected)
    assert steps["face"].sum() * step_s == pytest.approx(8.0) and steps.to_numpy().min() >= 0
    assert len(steps) == math.ceil(70.0 / step_s - 1e-9) and steps.to_numpy().max() <= 1


def test_steps_of_nothing_and_too_many():
    assert annotate().discretize(1.0)["face"].isna().all()
    with pytest.raises(FednError, match="step_s must be a positive number of seconds, got 0"):
        annotate().discretize(0)
    with pytest.raises(FednError, match="would give 6e\\+10 rows"):
        annotate().discretize(1e-9)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(EVENTS, max_size=6), st.lists(EVENTS, max_size=6))
def test_co_occurrence_is_what_one_counts(mine, theirs):
    table = annotate(*mine).co_occurrence(annotate(*theirs))
    ticks = np.arange(0.05, 70.0, 0.1)  # all times are whole tenths

    def lasts(events, name):
        chosen = [e for e in events if f"{e.type} {e.label or 'unknown-label'}" == name]
        return np.array([any(e.onset_s < tick < e.offset_s for e in chosen) for tick in ticks])

    for row in table.index:
        for column in table.columns:
            counted = 0.1 * (lasts(mine, row) & lasts(theirs, column)).sum()
            assert table.loc[row, column] == pytest.approx(counted, abs=1e-6)


def test_tables_of_many():
    one = replace(event(0.0, 1.0), label_scores={"anger": 0.5})
    coded = ExpressionAnnotation({"path": "b.mp4"}, [ExpressionInterval("joy", None, None, 1.0, None, 2.0)])
    table = tidy_table([annotate(one, labels=["anger"]), coded, annotate(path="c.mp4")])
    assert table["video"].tolist() == ["a.mp4", "b.mp4"] and table["duration_s"].tolist() == [1.0, 1.0]
    assert table["onset_frame"].isna().tolist() == [False, True] and table["score"].isna().tolist() == [False, True]
    assert table["score_anger"].tolist()[0] == 0.5 and len(coded.to_pandas()) == 1
    counts = budget_table([annotate(one), coded, annotate(path="c.mp4")])
    assert len(counts) == 6 and counts["count"].sum() == 2
    assert counts[counts["video"] == "c.mp4"]["per_minute"].tolist() == [0.0, 0.0]
    assert tidy_table([]).empty and budget_table([]).empty and list(tidy_table([]).columns)[:2] == ["video", "face_id"]


# --- in notebooks -------------------------------------------------------------------------------------------------


def test_it_shows_itself_and_believes_no_markup(monkeypatch):
    events = [event(float(n), n + 0.5, "<script>") for n in range(40)]
    whole = annotate(*events, path="<b>caf\udce9.mp4")
    page = whole._repr_html_()
    assert page.encode("utf-8") and "<script>" not in page and "<b>caf" not in page
    assert page.count("<tr>") == 31 and "and 10 more" in page and "40 expressions" in page


def test_without_matplotlib_there_is_the_table(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "fedn_hf.pictures", None)
    whole = annotate(event(1.0, 2.0))
    assert whole._repr_png_() is None and "<img" not in whole._repr_html_() and "anger" in whole._repr_html_()
