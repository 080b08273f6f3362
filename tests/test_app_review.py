"""What a person says holds, whatever the thresholds are; everything else follows them, without the network."""

import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from fedn_hf import FednError, FednProposals
from fedn_hf.annotation import ExpressionAnnotation
from fedn_hf.app.review import Review
from fedn_hf.cli import app
from fedn_hf.exporters import FORMATS, write
from fedn_hf.results_fedn import FaceDetections, FednDetections

MACRO, MICRO = TYPES = ["macro-expression", "micro-expression"]
LABELS = ["anger", "happiness"]
FRAMES = 300


def detections(faces=1):
    """Ten seconds at 30 fps of a file with 60: four events a face, two of each type, far apart."""
    spans = torch.tensor([[30.0, 60.0], [90.0, 100.0], [150.0, 180.0], [210.0, 222.0]])
    logits = torch.tensor([[4.0, -4.0], [-4.0, 4.0]] * 2)
    proposals = FednProposals(
        boundaries=spans.double(),
        num_frames=torch.tensor(FRAMES),
        confidence=torch.tensor([3.0, 1.0, 0.0, -1.0]),
        type_logits=logits,
        logits=logits,
    )
    seen = [FaceDetections(i, 0, proposals, torch.ones(FRAMES).bool(), *torch.ones(3, FRAMES)) for i in range(faces)]
    video = {"path": "a.mp4", "fps": 60.0, "duration_s": 10.0, "num_frames": 600, "truncated_at_s": None}
    times = torch.arange(FRAMES).double() / 30
    return FednDetections(video, LABELS, TYPES, 0.5, {"model": "lab/x"}, times, 2 * torch.arange(FRAMES), seen)


@pytest.fixture
def review():
    return Review.of(detections())


def test_thresholds_find_what_the_network_would_report(review):
    for macro, micro in ((0.5, 0.5), (0.3, 0.7), (0.9, 0.2)):
        now = review.with_thresholds({MACRO: macro, MICRO: micro})
        expected = [
            row
            for row in review.raw.expressions(score_threshold=min(macro, micro))
            if row["score"] >= (macro if row["type"] == MACRO else micro)
        ]
        assert [vars(event) for event in now.events.values()] == expected
        assert now.found.keys() <= review.with_thresholds({MACRO: 0.05, MICRO: 0.05}).found.keys()  # keys stay
    assert len(review.with_thresholds({}, min_duration_s=0.5).events) == 2


def test_frames_are_counted_where_a_file_says_anything():
    """What browsers record says 1000 frames per second."""
    raw = detections()
    assert Review.of(raw).fps == 60
    assert Review.of(replace(raw, video={**raw.video, "fps": 1000.0})).fps == pytest.approx(60)
    assert Review.of(replace(raw, video={**raw.video, "fps": None})).fps == pytest.approx(60)


def test_corrections_hold_whatever_the_thresholds(review):
    first, second, third = list(review.events)[:3]
    mine = review.correct(first, label="happiness", onset_s=1.1).delete(second)
    key, mine = mine.add(onset_s=8.0, apex_s=8.5, offset_s=9.0, type=MICRO, label="scorn", face_id=0)
    for lowest in (0.05, 0.5, 0.99):
        now = mine.with_thresholds({MACRO: lowest, MICRO: lowest})
        assert first in now.events and key in now.events and second not in now.events
    assert [mine.origin(k) for k in (first, third, key)] == ["corrected", "network", "added"]
    event = mine.events[first]
    assert (event.label, event.onset_s, event.onset_frame, event.offset_frame) == ("happiness", 1.1, 66, 118)
    assert event.score is None and event.label_scores == {}  # the network's would be about something else
    added = mine.events[key]
    assert added.score is None and (added.onset_frame, added.apex_frame, added.offset_frame) == (480, 510, 538)
    assert mine.correct(first, label="happiness") is mine


def test_undo_goes_back_to_the_start_and_forth_again(review):
    steps = [review]
    for key in list(review.events):
        steps.append(steps[-1].correct(key, type=MICRO, label="anger"))
        steps.append(steps[-1].delete(key))
    back = [steps[-1]]
    while back[-1].past:
        back.append(back[-1].undo())
    assert [one.events for one in back] == [one.events for one in reversed(steps)]
    assert back[-1].undo() is back[-1]
    again = back[-1]
    for step in steps[1:]:
        again = again.redo()
        assert again.events == step.events
    assert again.redo() is again
    changed = again.undo().delete(next(iter(again.undo().events)))
    assert not changed.future


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["correct", "add", "delete", "undo", "redo"]), st.integers(0, 9)), max_size=12)
)
def test_any_steps_leave_a_sound_annotation(steps):
    review = Review.of(detections(faces=2))
    for what, number in steps:
        keys = list(review.events)
        if what in ("undo", "redo"):
            review = getattr(review, what)()
        elif what == "add" or not keys:
            _, review = review.add(onset_s=number, offset_s=number + 0.5, type=MACRO, label=None, face_id=number % 2)
        elif what == "delete":
            review = review.delete(keys[number % len(keys)])
        else:
            review = review.correct(keys[number % len(keys)], label="anger", offset_s=10.0)
    known = review.annotation()
    assert ExpressionAnnotation.from_dict(json.loads(json.dumps(known.to_dict()))) == known
    said = known.provenance.get("corrected_by_hand", {})
    assert {name: len(said.get(name, [])) for name in review.counts()} == review.counts()
    assert sum(event.score is None for event in known) == review.counts()["added"] + review.counts()["corrected"]


def test_what_cannot_be_is_refused_in_words(review):
    key = next(iter(review.events))
    for changes, words in (
        ({"onset_s": 3.0}, "onset < offset must hold"),
        ({"offset_s": 11.0}, r"within the video \(0 to 10.00 s\)"),
        ({"apex_s": 9.0}, "apex must lie between"),
        ({"onset_s": None}, "needs an onset and an offset"),
        ({"label": " "}, "label must be a text"),
    ):
        with pytest.raises(FednError, match=words):
            review.correct(key, **changes)
    with pytest.raises(FednError, match="choose one on the timeline"):
        review.delete("gone")


def test_provenance_says_what_a_person_has_changed_and_what_was_there(review):
    assert "corrected_by_hand" not in review.annotation().provenance
    first, second, *_ = review.events
    known = review.correct(first, label="happiness").delete(second).annotation()
    said = known.provenance["corrected_by_hand"]
    [pair] = said["corrected"]
    assert (pair["was"]["label"], pair["now"]["label"], pair["now"]["score"]) == ("anger", "happiness", None)
    assert pair["was"]["score"] == review.events[first].score
    assert len(said["deleted"]) == 1 and said["added"] == []
    assert known.provenance["settings"]["score_thresholds"] == {MACRO: 0.5, MICRO: 0.5}
    assert known.provenance["model"] == "lab/x"


def test_every_format_takes_a_corrected_annotation(review, tmp_path):
    _, mine = review.correct(next(iter(review.events)), label="scorn").add(onset_s=8.0, offset_s=9.0, type=MICRO)
    for name, form in FORMATS.items():
        if not form.is_read:  # pictures and pages take any annotation; see test_pictures.py
            continue
        write(mine.annotation(), tmp_path / f"a{form.suffix}", name)
        assert (tmp_path / f"a{form.suffix}").stat().st_size > 0
    back = ExpressionAnnotation.read(tmp_path / "a.eaf")
    assert [event.label for event in back] == [event.label for event in mine.annotation()]


def test_evaluate_takes_the_corrected_truth(review, tmp_path):
    review.annotation().write(tmp_path / "found.csv")
    mine = review.delete(next(iter(review.events)))
    mine.truth().write(tmp_path / "truth.csv")
    assert "0." not in (tmp_path / "truth.csv").read_text().splitlines()[1].split(",")[1]  # no score
    ran = CliRunner().invoke(
        app, ["evaluate", str(tmp_path / "found.csv"), str(tmp_path / "truth.csv"), "--format", "json", "--fps", "60"]
    )
    assert ran.exit_code == 0, ran.output
    counts = json.loads(ran.stdout)["spotting"]["overall"]
    assert (counts["true_positives"], counts["predictions"], counts["events"]) == (3, 4, 3)


def test_curves_are_thinned_and_say_where_nobody_is_seen(review):
    [(face, points)] = review.curves().items()
    assert face == 0 and len(points) <= 1500 and max(score for _, score in points) > 0.9
    curve = {"face_id": 0, "time_s": [i / 30 for i in range(9000)], "score": [None] * 8999 + [0.75]}
    base = ExpressionAnnotation({"path": "a.mp4"}, [], curves=[curve])
    points = Review(review.raw, base).curves()[0]
    assert len(points) <= 1500 and points[0] == (0.0, -1.0) and points[-1][1] == 0.75
