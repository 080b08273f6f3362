"""Calibration makes scores mean what they say, on people it has not seen, and changes nothing else."""

import numpy as np
import torch

from fedn_hf.metrics import Expressions
from fedn_hf.postprocessing_fedn import find_intervals
from fedn_hf.training.calibration import calibrate, fit_line, is_right, reliability
from tests.training_sets import model


def logit(p):
    return np.log(p) - np.log1p(-p)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_the_line_is_found_again():
    generator = np.random.default_rng(0)
    scores = generator.uniform(0.02, 0.98, 20_000)
    right = generator.random(20_000) < sigmoid(0.6 * logit(scores) - 0.9)
    slope, shift = fit_line(scores, right)
    assert abs(slope - 0.6) < 0.04 and abs(shift + 0.9) < 0.05
    before, after = (reliability(values, right)[1] for values in (scores, sigmoid(slope * logit(scores) + shift)))
    assert before > 0.15 and after < 0.02


def test_scores_of_no_use_do_not_turn_the_order_around():
    scores = np.linspace(0.1, 0.9, 200)
    assert fit_line(scores, scores < 0.5)[0] > 0


def test_certain_scores_are_bearable():
    assert np.isfinite(fit_line(np.array([0.0, 1.0, 1.0]), np.array([False, True, False]))).all()


def test_a_detection_counts_once():
    events = Expressions.from_rows([("v", 0, 9, "macro"), ("w", 0, 9, "macro")])
    rows = [
        ("v", 0, 9, "macro", 0.2),
        ("v", 0, 8, "macro", 0.9),
        ("w", 20, 29, "macro", 0.8),
        ("w", 1, 9, "micro", 0.7),
    ]
    assert is_right(Expressions.from_rows(rows), events).tolist() == [False, True, False, False]


def test_a_calibrated_network_gives_the_scores_that_the_line_says():
    network = model().eval()
    features = torch.randn(128, 4, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for name in ("confidence", "type_logits"):  # one opinion, so that the mean of both is it as well
            network.branches[name].predict.weight.zero_()
            network.branches[name].predict.bias.fill_(-1.0)
    before = find_intervals(network.detect_from_features(features), fps=30, score_threshold=0.0)
    generator = np.random.default_rng(0)
    rows = [("v", 40 * n, 40 * n + 9, "macro", float(sigmoid(-1))) for n in range(400)]
    events = [row[:4] for row in rows if generator.random() < 0.6]
    slope, shift = calibrate(network, Expressions.from_rows(rows), Expressions.from_rows(events))
    after = find_intervals(network.detect_from_features(features), fps=30, score_threshold=0.0)
    assert abs(float(after.score.max()) - sigmoid(-slope + shift)) < 1e-5
    assert abs(float(after.score.max()) - 0.6) < 0.05
    assert torch.allclose(before.frames[:1], after.frames[:1])


def test_what_cannot_be_learnt_from_leaves_the_network_as_it_is():
    network = model()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    nothing = Expressions.from_rows([("v", 0, 9, "macro", 0.9)])
    assert calibrate(network, nothing, Expressions.from_rows([("v", 50, 90, "macro")])) is None
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
