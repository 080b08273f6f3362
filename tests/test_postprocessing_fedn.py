"""From proposals to intervals, against slow references, and with every setting changed after the network has run."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from fedn_hf import FednProposals, find_intervals
from fedn_hf.postprocessing_fedn import (
    frames_to_seconds,
    match_labels,
    plan_windows,
    suppress,
    to_half_open,
    to_inclusive,
    without_doubles,
)


def proposals(boundaries, scores, types=None, **others) -> FednProposals:
    """Proposals of these scores under their types, and of far lower ones under the other."""
    boundaries = torch.tensor(boundaries, dtype=torch.float64).reshape(-1, 2)
    types = torch.zeros(len(boundaries), dtype=torch.long) if types is None else torch.tensor(types)
    confidence = torch.logit(torch.tensor(scores))
    return FednProposals(
        boundaries=boundaries,
        num_frames=torch.tensor(300),
        confidence=confidence,
        type_logits=torch.where(torch.nn.functional.one_hot(types, 2) > 0, confidence[:, None], -4.0),
        **others,
    )


def test_inclusive_frames_and_half_open_intervals():
    interval = to_half_open(torch.tensor([10, 7]), torch.tensor([20, 7]))
    assert interval.tolist() == [[10, 21], [7, 8]]  # eleven frames and one
    onset, offset = to_inclusive(interval + torch.tensor([0.3, -0.3]))
    assert (onset.tolist(), offset.tolist()) == ([10, 7], [20, 7])


boxes = st.lists(
    st.tuples(st.integers(0, 50), st.integers(1, 30), st.integers(1, 1000), st.integers(0, 1)), min_size=1, max_size=12
)


@settings(deadline=None, max_examples=60)
@given(boxes, st.sampled_from(["soft", "hard"]))
def test_suppression_equals_the_slow_one(rows, method):
    boundaries = [(start, start + length) for start, length, _, _ in rows]
    scores = [
        [score / 1000 + 1e-6 * n if kind == c else 0.0 for n, (_, _, score, kind) in enumerate(rows)] for c in (0, 1)
    ]
    expected = []
    for row in scores:
        left, taken = dict(enumerate(row)), [0.0] * len(row)
        while left and max(left.values()) >= 0.1:
            best = max(left, key=left.get)
            taken[best] = left.pop(best)
            for n in left:
                (a, b), (c, d) = boundaries[best], boundaries[n]
                shared = max(0, min(b, d) - max(a, c))
                iou = shared / (b - a + d - c - shared)
                left[n] *= math.exp(-(iou**2) / 0.5) if method == "soft" else iou <= 0.5
        expected.append(taken)
    got = suppress(torch.tensor(boundaries).double(), torch.tensor(scores).double(), method, score_threshold=0.1)
    torch.testing.assert_close(got, torch.tensor(expected).double())


def test_suppression_of_nothing():
    assert suppress(torch.zeros(0, 2), torch.zeros(2, 0)).shape == (2, 0)
    with pytest.raises(ValueError, match="'greedy'"):
        suppress(torch.zeros(0, 2), torch.zeros(2, 0), "greedy")


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 3000), st.integers(1, 8), st.integers(0, 4), st.integers(0, 8))
def test_windows_tile_the_sequence(frames, own, context, offset):
    windows = plan_windows(frames, 32 * own, 32 * context, 32, 32 * offset)
    assert (windows[0].own_start, windows[-1].own_stop) == (0, frames)
    for window, following in zip(windows, [*windows[1:], None], strict=True):
        assert window.start % 32 == 0
        assert max(0, window.own_start - 32 * context) == window.start
        assert min(frames, window.own_stop + 32 * context) == window.stop
        assert following is None or window.own_stop == following.own_start


def test_windows_start_where_positions_do():
    for arguments in ((100, 64), (64, 100), (0, 64)):
        with pytest.raises(ValueError, match=r"multiple of the network's stride 32 frames, got (100|0)"):
            plan_windows(1000, *arguments, 32)


def test_seconds():
    frames = torch.tensor([0.0, 1.5, 3.0])
    assert frames_to_seconds(frames, fps=30).tolist() == pytest.approx([0, 0.05, 0.1])
    times = torch.tensor(
        [10.0, 10.04, 10.2, 10.3]
    )  # variable rate, not from zero; the last frame lasts the median 0.1
    assert frames_to_seconds(frames, times=times).tolist() == pytest.approx([10, 10.12, 10.3], abs=1e-6)
    assert frames_to_seconds(torch.tensor([4.0]), times=times).tolist() == pytest.approx([10.4], abs=1e-6)
    assert frames_to_seconds(torch.tensor([0.5]), times=torch.tensor([2.0])).tolist() == pytest.approx([2 + 1 / 60])
    twice = torch.tensor([0.0, 0.0, 0.1])  # resampled to a higher rate
    assert frames_to_seconds(torch.tensor([1.0, 1.5]), times=twice).tolist() == pytest.approx([0, 0.05])
    for arguments, quoted in (
        ({}, "got fps=None"),
        ({"fps": 30, "times": times}, "a table"),
        ({"fps": 0}, "got 0"),
        ({"times": torch.tensor([1.0, 0.5])}, r"\[1.0, 0.5\]"),
        ({"times": torch.tensor([0.0, math.nan])}, "nan"),
    ):
        with pytest.raises(ValueError, match=quoted):
            frames_to_seconds(frames, **arguments)


def test_from_proposals_to_intervals():
    intensity = torch.zeros(300)
    intensity[[50, 110, 299]] = torch.tensor([0.9, 0.8, 0.1])
    raw = proposals(
        [[100, 130], [40, 52], [101, 131], [290, 320], [200, 200], [-30, -5]],
        [0.9, 0.8, 0.7, 0.6, 0.99, 0.99],
        [0, 1, 0, 0, 0, 0],
        intensity=intensity,
        logits=torch.eye(6)[:, :3] * 10 - 5,
    )
    found = find_intervals(raw, fps=30, nms="hard")
    assert found.frames.tolist() == [[40, 52], [100, 130], [290, 300]]  # in time, cut to the video, empty ones gone
    assert found.score.tolist() == pytest.approx([0.8, 0.9, 0.6])
    assert found.type.tolist() == [1, 0, 0]
    assert found.label.tolist()[:2] == [1, 0]
    assert found.label_scores.shape == (3, 3) and found.type_scores.shape == (3, 2)
    assert found.apex_frames.tolist() == [50.5, 110.5, 299.5]
    assert found.start_s.tolist() == pytest.approx([40 / 30, 100 / 30, 290 / 30])
    assert ((found.start_s <= found.apex_s) & (found.apex_s <= found.end_s)).all()


def test_without_a_curve_the_apex_is_the_middle():
    found = find_intervals(proposals([[10, 30]], [0.9]), fps=10)
    assert (found.apex_frames.tolist(), found.apex_s.tolist()) == ([20.0], [2.0])
    assert found.label is None and found.label_scores is None


def test_a_proposal_may_be_looked_at_under_every_type():
    both = replace(
        proposals([[10, 20], [60, 90]], [0.8, 0.6]),
        type_logits=torch.logit(torch.tensor([[0.8, 0.2], [0.3, 0.6]])),
    )
    found = find_intervals(both, fps=30)
    assert list(zip(found.type.tolist(), found.score.tolist(), strict=True)) == [
        (0, pytest.approx(0.8)),  # the geometric mean of confidence and type
        (1, pytest.approx(0.6)),
    ]
    found = find_intervals(both, fps=30, all_types=True)
    assert sorted(found.type.tolist()) == [0, 0, 1, 1]
    assert sorted(found.score.tolist()) == pytest.approx([0.16**0.5, 0.18**0.5, 0.6, 0.8])
    kinds = find_intervals(both, fps=30, nms="hard", all_types=True, class_aware=False).type
    assert kinds.tolist() == [0, 1]  # of equal intervals the surest


def test_what_lasts_long_is_no_micro_expression():
    raw = proposals([[0, 15], [50, 80]], [0.8, 0.8], [1, 1])
    assert find_intervals(raw, fps=30).frames.tolist() == [[0, 15], [50, 80]]
    found = find_intervals(raw, fps=30, micro_max_s=0.5)
    assert found.type.tolist() == [1, 0]  # if it is an expression at all, then of the other type
    assert found.score[0] == pytest.approx(0.8) and found.score[1] < 0.2


def test_every_setting_can_change_after_the_network():
    raw = proposals([[10, 20], [12, 22], [24, 34], [100, 250]], [0.9, 0.8, 0.7, 0.2], [0, 1, 0, 0])

    def spans(**settings):
        return find_intervals(raw, fps=10, **{"nms": "hard", **settings}).frames.tolist()

    assert spans() == [[10, 20], [12, 22], [24, 34], [100, 250]]
    assert spans(class_aware=False) == [[10, 20], [24, 34], [100, 250]]
    assert spans(class_aware=False, nms_iou=0.8) == spans()
    assert spans(score_threshold=0.75) == [[10, 20], [12, 22]]
    assert spans(max_duration_s=5) == [[10, 20], [12, 22], [24, 34]]
    assert spans(min_duration_s=5) == [[100, 250]]
    assert spans(merge_gap_s=0.4) == [[10, 34], [12, 22], [100, 250]]
    assert spans(merge_gap_s=10) == [[10, 250], [12, 22]]
    soft = find_intervals(raw, fps=10, class_aware=False)
    assert len(soft) == 4 and soft.score[1] < 0.8 and soft.score[0] == pytest.approx(0.9)
    merged = find_intervals(raw, fps=10, nms="hard", merge_gap_s=0.4)
    assert merged.score.tolist() == pytest.approx([0.9, 0.8, 0.2])


def test_merging_joins_what_is_apart_not_what_overlaps():
    raw = proposals([[100, 130], [60, 200], [190, 330]], [0.95, 0.2, 0.2])
    found = find_intervals(raw, fps=30, merge_gap_s=0.1)
    assert [100, 130] in found.frames.tolist() and [60, 330] not in found.frames.tolist()
    fragments = proposals([[100, 106], [108, 114]], [0.9, 0.8])
    assert len(find_intervals(fragments, fps=30, merge_gap_s=0.1, min_duration_s=0.4)) == 1


def test_the_apex_of_a_plateau_is_its_middle():
    intensity = torch.zeros(300)
    intensity[110:150] = 1
    raw = proposals([[100, 160]], [0.9])
    for curve, apex in ((intensity, 130), (torch.zeros(300), 130)):
        found = find_intervals(replace(raw, intensity=curve), fps=30)
        assert found.apex_frames.tolist() == [apex]


@pytest.mark.parametrize(
    ("piece", "kind", "stays"),
    [
        ([150, 180], 0, False),  # of the long one
        ([150, 180], 1, True),  # a micro-expression may come within a macro-expression
        ([102, 198], 1, False),  # the same, as another type
        ([190, 220], 0, True),  # the next one
        ([177, 202], 0, False),  # all but the last of it
    ],
)
def test_each_expression_is_there_once(piece, kind, stays):
    raw = proposals([[100, 200], piece], [0.9, 0.6], [0, kind])
    found = find_intervals(raw, fps=30)
    assert len(found) == 2 and len(without_doubles(found)) == 1 + stays


def test_an_apex_is_not_that_of_the_neighbour():
    """Where the next expression begins before this one has gone, the curve is highest at the end."""
    time = torch.arange(300)
    neighbour = ((time - 100) / 60).clamp(0, 1) ** 8  # 0.87 in the last frame
    bump = torch.exp(-((time - 120) ** 2) / 50)
    for curve, apex in ((0.6 * bump + neighbour, 120.5), (0.1 * bump + neighbour, 159.5), (neighbour, 159.5)):
        for reverse in (False, True):
            curve, apex, interval = (curve.flip(0), 300 - apex, [140, 200]) if reverse else (curve, apex, [100, 160])
            found = find_intervals(replace(proposals([interval], [0.9]), intensity=curve), fps=30)
            assert found.apex_frames.tolist() == [apex]


def test_a_table_of_times_must_fit():
    with pytest.raises(ValueError, match="each of the 300 frames, got 299"):
        find_intervals(proposals([[10, 20]], [0.9]), times=torch.arange(299) / 30)


def test_nothing_found():
    found = find_intervals(proposals([], []), fps=30, merge_gap_s=1.0)
    assert len(found) == 0 and found.start_s.shape == (0,) and found.frames.shape == (0, 2)


def test_saved_proposals_give_the_same_intervals(tmp_path):
    raw = proposals([[10, 20], [40, 80]], [0.9, 0.5], intensity=torch.rand(300), logits=torch.randn(2, 7))
    save_file(raw.to_dict(), tmp_path / "raw.safetensors")
    again = FednProposals(**load_file(tmp_path / "raw.safetensors"))
    one, other = find_intervals(raw, fps=30), find_intervals(again, fps=30)
    assert all((getattr(one, name) == getattr(other, name)).all() for name in ("frames", "score", "label", "apex_s"))


def test_labels_from_a_recognition_network():
    recognition = FednProposals(
        boundaries=torch.tensor([[0.0, 20.0], [15.0, 40.0], [200.0, 220.0]]),
        num_frames=torch.tensor(300),
        logits=torch.eye(3),
    )
    logits = match_labels(torch.tensor([[16.0, 36.0], [100.0, 110.0], [180.0, 190.0]]), recognition)
    assert logits.argmax(-1).tolist() == [1, 1, 2]  # the best overlap, or else the nearest
    found = find_intervals(proposals([[16, 36]], [0.9]), fps=30, recognition=recognition)
    assert found.label.tolist() == [1]
    with pytest.raises(ValueError, match="recognition"):
        find_intervals(recognition, fps=30)
    empty = FednProposals(torch.zeros(0, 2), torch.tensor(300), logits=torch.zeros(0, 3))
    with pytest.raises(ValueError, match="got 0 proposals"):
        match_labels(torch.zeros(1, 2), empty)


def test_what_a_network_does_not_say_is_named():
    found = proposals([[10, 30]], [0.9])
    with pytest.raises(ValueError, match="a network that names emotions, got proposals without logits"):
        find_intervals(found, fps=30, recognition=found)
    with pytest.raises(ValueError, match="need type_logits"):
        find_intervals(replace(found, type_logits=None), fps=30)
