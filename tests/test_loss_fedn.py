"""Assignment and loss against references that are slow and obviously right."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from fedn_hf import FednConfig
from fedn_hf.loss_fedn import (
    BACKGROUND,
    IGNORED,
    assign_events,
    class_loss,
    decode_boundaries,
    diou_loss,
    focal_loss,
    intensity_targets,
    interval_iou,
    joint_loss,
    make_proposal_grid,
    pad_events,
)

FRAMES = 128
CONFIG = FednConfig(backbone_config=None, num_labels=4, label_class_weights=[1.0, 2.0, 0.5, 1.0])
GRID = make_proposal_grid(FRAMES, CONFIG)
COUNT = len(GRID.points)

events = st.lists(
    st.tuples(st.integers(-40, FRAMES + 10), st.integers(1, 150)).map(lambda pair: (pair[0], pair[0] + pair[1])),
    max_size=5,
)
intervals = st.tuples(st.floats(-100, 300), st.floats(0.5, 200)).map(lambda pair: (pair[0], pair[0] + pair[1]))


def slow_iou(a, b):
    shared = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    return shared / (a[1] - a[0] + b[1] - b[0] - shared)


def slow_assignment(wanted, mask):
    """The rules of `assign_events`, one proposal and one event at a time."""
    clipped = [(max(0, start), min(FRAMES, end)) for start, end in wanted]
    length = [end - start for start, end in clipped]
    taken = [size / (end - start) > 0.9 for size, (start, end) in zip(length, wanted, strict=True)]
    partial = [size > 0 and not whole for size, whole in zip(length, taken, strict=True)]
    points, defaults = GRID.points.tolist(), GRID.defaults.tolist()
    strides, ranges, anchors = GRID.strides.tolist(), GRID.ranges.tolist(), GRID.is_anchor.tolist()

    def overlap(p, n):
        return slow_iou(defaults[p], clipped[n]) if length[n] > 0 else 0.0

    def is_candidate(p, n):
        if not (mask[p] and taken[n]):
            return False
        if anchors[p]:
            return overlap(p, n) >= 0.5
        start, end = clipped[n]
        far = max(points[p] - start, end - points[p])
        centred = abs(points[p] - (start + end) / 2) <= 1.5 * strides[p]
        return start <= points[p] < end and centred and ranges[p][0] <= far < ranges[p][1]

    candidates = {(p, n) for p in range(COUNT) for n in range(len(wanted)) if is_candidate(p, n)}
    won = set()  # what shorter events leave
    for p in {p for p, _ in candidates}:
        won.add((p, min((n for q, n in candidates if q == p), key=lambda n: (length[n], n))))
    rescued = set()
    for n in [n for n in range(len(wanted)) if taken[n]]:
        centre, half = sum(clipped[n]) / 2, length[n] / 2
        if not any(anchors[p] for p, event in won if event == n):
            close = [p for p in range(COUNT) if anchors[p] and mask[p] and abs(points[p] - centre) <= strides[p]]
            best = max(close, key=lambda p: overlap(p, n), default=None)
            if best is not None and overlap(best, n) > 0:
                rescued.add((best, n))
        if not any(not anchors[p] for p, event in won if event == n):
            near = [
                (abs(points[p] - centre), p)
                for p in range(COUNT)
                if mask[p]
                and not anchors[p]
                and ranges[p][0] <= half < ranges[p][1]
                and abs(points[p] - centre) <= strides[p]
            ]
            if near:
                rescued.add((min(near)[1], n))

    matched = []
    for p in range(COUNT):
        mine = [n for n in range(len(wanted)) if (p, n) in rescued] or [
            n for n in range(len(wanted)) if (p, n) in candidates
        ]
        doubtful = any(partial[n] and clipped[n][0] <= points[p] < clipped[n][1] for n in range(len(wanted))) or (
            anchors[p] and any(overlap(p, n) >= 0.4 for n in range(len(wanted)) if taken[n] or partial[n])
        )
        if mine:
            matched.append(min(mine, key=lambda n: length[n]))
        else:
            matched.append(IGNORED if doubtful or not mask[p] else BACKGROUND)
    return matched


def assign(wanted, mask=None):
    label = {"intervals": torch.tensor(wanted).reshape(-1, 2).float(), "type_labels": [], "class_labels": []}
    padded = pad_events([label])
    mask = torch.ones(1, COUNT, dtype=torch.bool) if mask is None else mask
    matched, targets = assign_events(GRID, padded["intervals"], padded["valid"], mask)
    return matched[0], targets[0]


@settings(deadline=None, max_examples=60)
@given(events, st.integers(0, 2**16))
def test_assignment_equals_the_slow_one(wanted, seed):
    visible = torch.rand(COUNT, generator=torch.Generator().manual_seed(seed)) > 0.2
    matched, targets = assign(wanted, visible[None])
    expected = slow_assignment(wanted, visible.tolist())
    for p, (got, want) in enumerate(zip(matched.tolist(), expected, strict=True)):
        if got != want:  # of events equally long, either may be taken
            assert got >= 0 and want >= 0
            assert targets[p].diff() == min(FRAMES, wanted[want][1]) - max(0, wanted[want][0])
    for p in (matched >= 0).nonzero()[:, 0].tolist():
        start, end = wanted[matched[p]]
        assert targets[p].tolist() == [max(0, start), min(FRAMES, end)]


def test_an_event_inside_another_leaves_it_something():
    matched, _ = assign([(40, 55), (41.5, 53.5)])
    assert {0, 1} <= set(matched.tolist())


def test_an_event_that_nobody_sees_is_learnt_by_nobody():
    mask = (GRID.points < 90) | (GRID.points > 170)
    matched, _ = assign([(120, 128)], mask[None])
    assert not (matched >= 0).any()


@pytest.mark.parametrize("length", [4, 6, 8, 12, 15])
def test_short_events_are_matched_wherever_they_lie(length):
    """A micro-expression has an anchor-free and an anchor proposal at every one of 32 starts."""
    for start in range(40, 72):
        matched, _ = assign([(start, start + length)])
        kinds = GRID.is_anchor[matched == 0]
        assert kinds.any() and not kinds.all()


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 100), st.integers(1, 28))
def test_every_whole_event_has_positives_of_both_kinds(start, length):
    matched, targets = assign([(start, start + length)])
    kinds = GRID.is_anchor[matched == 0]
    assert kinds.any() and not kinds.all()
    assert (targets[matched == 0] == torch.tensor([start, start + length])).all()


def test_the_shorter_of_overlapping_events_wins():
    matched, _ = assign([(20, 100), (50, 60)])
    assert {0, 1} <= set(matched.tolist())
    middle = (matched >= 0) & (GRID.points - 55).abs().le(4) & (GRID.strides == 4)
    assert (matched[middle] == 1).all()


def test_events_cut_by_the_window():
    mostly_inside, _ = assign([(-2, 30)])  # 94 % visible
    assert (mostly_inside == 0).any()
    half_inside, _ = assign([(-20, 20)])
    assert not (half_inside >= 0).any()
    assert (half_inside[GRID.points < 20] == IGNORED).all()
    assert (half_inside[(GRID.points > 64) & (GRID.strides == 4)] == BACKGROUND).all()
    outside, _ = assign([(200, 240)])
    assert (outside == BACKGROUND).all()


def test_a_window_ends_where_its_frames_end():
    """Filling the last positions up does not make an event more visible."""
    grid = make_proposal_grid(100, CONFIG)
    assert len(grid.points) == COUNT
    valid, mask = torch.ones(1, 1, dtype=torch.bool), torch.ones(1, COUNT, dtype=torch.bool)
    matched, targets = assign_events(grid, torch.tensor([[[70.0, 102.0]]]), valid, mask)
    assert (targets[matched == 0] == torch.tensor([70.0, 100.0])).all()
    assert not (assign_events(grid, torch.tensor([[[90.0, 110.0]]]), valid, mask)[0] >= 0).any()


@settings(deadline=None, max_examples=100)
@given(intervals, intervals)
def test_iou_and_diou_equal_the_slow_ones(a, b):
    iou = slow_iou(a, b)
    hull = max(a[1], b[1]) - min(a[0], b[0])
    expected = 1 - iou + ((sum(a) - sum(b)) / 2 / hull) ** 2
    one, other = torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)
    assert interval_iou(one, other).item() == pytest.approx(iou, abs=1e-9)
    assert diou_loss(one, other).item() == pytest.approx(expected, abs=1e-9)
    assert 0 <= diou_loss(one, other) < 2
    assert diou_loss(one, one).item() == pytest.approx(0, abs=1e-9)


def test_diou_pulls_intervals_together_that_do_not_meet():
    predicted = torch.tensor([0.0, 10.0], requires_grad=True)
    diou_loss(predicted, torch.tensor([50.0, 60.0])).backward()
    assert predicted.grad.sum() < 0  # a step against the gradient moves the centre to the right


@settings(deadline=None, max_examples=50)
@given(st.floats(-20, 20), st.booleans(), st.floats(0, 1), st.floats(0, 4))
def test_focal_loss_equals_its_formula(logit, target, alpha, gamma):
    p = 1 / (1 + math.exp(-logit))
    p = p if target else 1 / (1 + math.exp(logit))
    expected = -(alpha if target else 1 - alpha) * (1 - p) ** gamma * math.log(p)
    got = focal_loss(torch.tensor(logit).double(), torch.tensor(float(target)).double(), alpha, gamma)
    assert got.item() == pytest.approx(expected, abs=1e-7, rel=1e-5)


def test_focal_loss_has_finite_gradients_far_out():
    logits = torch.tensor([-100.0, -30.0, 0.0, 30.0, 100.0], requires_grad=True)
    for target in (0.0, 1.0):
        for gamma in (0.0, 0.5, 2.0):
            (gradient,) = torch.autograd.grad(focal_loss(logits, torch.full((5,), target), 0.25, gamma).sum(), logits)
            assert gradient.isfinite().all()


def test_decoding():
    zero = decode_boundaries(torch.zeros(1, COUNT, 2), GRID)
    torch.testing.assert_close(zero[0], GRID.defaults)
    offsets = torch.tensor([0.5, math.log(2.0)]).expand(1, COUNT, 2)
    for p in (0, 1, 3, COUNT - 1):
        start, end = GRID.defaults[p].tolist()
        centre, length = (start + end) / 2, end - start
        if GRID.is_anchor[p]:
            expected = [centre + length / 2 - length, centre + length / 2 + length]
        else:
            expected = [centre - math.exp(0.5) * length / 2, centre + length]
        assert decode_boundaries(offsets, GRID)[0, p].tolist() == pytest.approx(expected, rel=1e-5)
    wild = decode_boundaries(torch.randn(1, COUNT, 2) * 100, GRID)
    assert (wild[..., 1] > wild[..., 0]).all()


def test_the_layout_of_proposals():
    grid = make_proposal_grid(256, FednConfig(backbone_config=None))
    assert len(grid.points) == 6 * (64 + 32 + 16 + 8)
    assert grid.points[:7].tolist() == [2.0] * 6 + [6.0]
    assert grid.is_anchor[:7].tolist() == [False] + [True] * 5 + [False]
    assert grid.defaults[:6].diff(dim=1)[:, 0].tolist() == [8, 4, 6, 8, 12, 16]
    assert grid.defaults[-6:].diff(dim=1)[:, 0].tolist() == [128, 64, 96, 128, 192, 256]
    assert grid.ranges[[0, -1]].tolist() == [[0, 8], [64, math.inf]]


@settings(deadline=None, max_examples=50)
@given(events, st.floats(0.05, 0.95), st.booleans())
def test_the_intensity_curve_equals_the_slow_one(wanted, share, known):
    apex = [start + share * (end - start) if known else math.nan for start, end in wanted]
    label = {"intervals": torch.tensor(wanted).reshape(-1, 2), "type_labels": [], "class_labels": [], "apex": apex}
    padded = pad_events([label])
    curve = intensity_targets(padded["intervals"], padded["apex"], padded["valid"], FRAMES)[0]
    for frame in range(FRAMES):
        time, expected = frame + 0.5, 0.0
        for (start, end), top in zip(wanted, apex, strict=True):
            top = (start + end) / 2 if math.isnan(top) else top
            if start <= time < end:
                phase = (time - start) / (top - start) if time < top else (end - time) / (end - top)
                expected = max(expected, (1 - math.cos(math.pi * phase)) / 2)
        assert curve[frame].item() == pytest.approx(expected, abs=1e-4)


def some_outputs(batch, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "boundaries": GRID.defaults + torch.rand(batch, COUNT, 2, generator=generator),
        "confidence": torch.randn(batch, COUNT, generator=generator),
        "type_logits": torch.randn(batch, COUNT, 2, generator=generator),
        "logits": torch.randn(batch, COUNT, 4, generator=generator),
        "intensity_logits": torch.randn(batch, FRAMES, generator=generator),
        "proposal_mask": torch.rand(batch, COUNT, generator=generator) > 0.1,
        "frame_mask": torch.rand(batch, FRAMES, generator=generator) > 0.1,
    }


@settings(deadline=None, max_examples=15)
@given(st.lists(events, min_size=1, max_size=3), st.integers(0, 1000))
def test_the_joint_loss_equals_the_slow_one(batch, seed):
    outputs = some_outputs(len(batch), seed)
    labels = [
        {
            "intervals": torch.tensor(wanted).reshape(-1, 2).float(),
            "type_labels": [n % 2 for n in range(len(wanted))],
            "class_labels": [(-100, 0, 1, 3)[n % 4] for n in range(len(wanted))],
        }
        for wanted in batch
    ]
    terms, positives = joint_loss(outputs, labels, GRID, CONFIG, torch.tensor(7.0))
    padded = pad_events(labels)
    matched, targets = assign_events(GRID, padded["intervals"], padded["valid"], outputs["proposal_mask"])
    expected = dict.fromkeys(("confidence", "boundary", "type", "label"), 0.0)
    for row, label in enumerate(labels):
        for p in range(COUNT):
            event = matched[row, p].item()
            if event != IGNORED:
                target = torch.tensor(float(event >= 0))
                expected["confidence"] += focal_loss(outputs["confidence"][row, p], target, 0.25, 2.0).item() / 7
                for c in range(2):
                    target = torch.tensor(float(event >= 0 and label["type_labels"][event] == c))
                    expected["type"] += focal_loss(outputs["type_logits"][row, p, c], target, 0.25, 2.0).item() / 7
            if event >= 0:
                expected["boundary"] += diou_loss(outputs["boundaries"][row, p], targets[row, p]).item() / 7
                for c, weight in enumerate(CONFIG.label_class_weights):
                    if label["class_labels"][event] >= 0:
                        probability = outputs["logits"][row, p, c].sigmoid().item()
                        right = probability if label["class_labels"][event] == c else 1 - probability
                        expected["label"] -= weight * math.log(right) / 7
    assert positives == (matched >= 0).sum()
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value, rel=1e-3, abs=1e-4)


def test_a_batch_without_events_is_all_background():
    outputs = some_outputs(2)
    for name in ("confidence", "type_logits"):
        outputs[name].requires_grad_()
    nothing = {"intervals": torch.zeros(0, 2), "type_labels": torch.zeros(0), "class_labels": torch.zeros(0)}
    terms, positives = joint_loss(outputs, [nothing, nothing], GRID, CONFIG, torch.tensor(1.0))
    assert positives == 0 and terms["boundary"] == terms["label"] == 0
    sum(terms.values()).backward()
    assert ((outputs["confidence"].grad > 0) == outputs["proposal_mask"]).all()
    assert ((outputs["type_logits"].grad > 0) == outputs["proposal_mask"][..., None]).all()


def test_unknown_emotions_still_train_the_boundaries():
    outputs = some_outputs(1)
    for tensor in (outputs["boundaries"], outputs["logits"]):
        tensor.requires_grad_()
    label = {"intervals": torch.tensor([[40.0, 60.0]]), "type_labels": [0], "class_labels": [-100]}
    terms, _ = joint_loss(outputs, [label], GRID, CONFIG, torch.tensor(1.0))
    sum(terms.values()).backward()
    assert (outputs["boundaries"].grad != 0).any()
    assert (outputs["logits"].grad == 0).all()


def test_a_perfect_curve_costs_nothing():
    outputs = some_outputs(1)
    label = {"intervals": torch.tensor([[40.0, 60.0]]), "type_labels": [0], "class_labels": [0], "apex": [45.5]}
    padded = pad_events([label])
    target = intensity_targets(padded["intervals"], padded["apex"], padded["valid"], FRAMES)
    assert target[0, 45] == 1
    outputs["intensity_logits"] = torch.logit(target, eps=1e-6)
    assert joint_loss(outputs, [label], GRID, CONFIG, torch.tensor(1.0))[0]["intensity"] < 1e-5


def test_class_weights():
    logits, labels = torch.randn(5, 4), torch.tensor([0, 3, 1, -100, 2])
    weights = torch.tensor([1.0, 2.0, 0.0, 4.0])
    known = labels >= 0
    targets = F.one_hot(labels[known], 4).float()
    expected = F.binary_cross_entropy_with_logits(logits[known], targets, weight=weights, reduction="sum")
    torch.testing.assert_close(class_loss(logits, labels, weights), expected)
