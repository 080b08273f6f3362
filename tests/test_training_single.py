"""One network: who validates, what validation chooses, and a test on another corpus that nothing is chosen on."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.utils import logging

from fedn_hf import FednForFacialExpressionDetection
from fedn_hf.data.folds import LeakageError
from fedn_hf.metrics import spotting
from fedn_hf.training import Recipe, TrainingError, train_one
from fedn_hf.training.detections import read_detections
from fedn_hf.training.inputs import in_corpus, make_model
from fedn_hf.training.loso import DETECTIONS
from fedn_hf.training.report import REPORT, event_rows, expressions
from tests import training_sets as small
from tests.test_training_loso import RECIPE

CORPUS = in_corpus("a", small.rows(6))


def other_corpus(subjects=4):
    """People called like those who train, and twice as many frames per second."""
    rows = []
    for row in small.rows(subjects, seed=1):
        events = [{**e, **{name: 2 * e[name] for name in ("onset", "apex", "offset")}} for e in row["events"]]
        features = row["features"].repeat(2, axis=0)
        rows.append({**row, "fps": 60.0, "num_frames": len(features), "features": features, "events": events})
    return in_corpus("b", rows)


def test_a_test_on_another_corpus(tmp_path):
    """What is chosen for it, and what is found in it, does not depend on what is marked in it."""
    recipe = RECIPE.with_values({"training.epochs": 12, "num_validation": 2})
    tested = other_corpus()
    trained = train_one(CORPUS, small.LABELS, recipe, tmp_path, tested=tested)
    found = read_detections(tmp_path / DETECTIONS)
    assert trained.num_videos == 4 and {row["subject"] for row in found} == {"b/s0", "b/s1", "b/s2", "b/s3"}
    assert max(row["offset"] for row in found) > small.FRAMES  # in its own frames
    choices = trained.report.choices
    assert len({json.dumps(choice) for choice in choices.values()}) == 1 and trained.report.selection is None
    kept = [row for row in found if row["score"] >= choices["b/s0"][row["type"].partition("-")[0]]]
    by_hand = spotting(expressions([{**row, "epoch": None} for row in kept]), expressions(event_rows(tested)))
    assert trained.report.by_type.f1 == by_hand.f1 > 0.4
    assert json.loads((tmp_path / REPORT).read_text())["validated_by_type"]["overall"]["f1"] == by_hand.f1
    event = {"onset": 3, "apex": 4, "offset": 200, "type": "micro-expression", "emotion": "others"}
    spoilt = [{**row, "events": [event]} for row in tested]
    again = train_one(CORPUS, small.LABELS, recipe, tmp_path, tested=spoilt)
    assert again.report.choices == choices and read_detections(tmp_path / DETECTIONS) == found
    assert again.threshold == trained.threshold and again.report.by_type.f1 < by_hand.f1


def test_a_test_that_would_not_be_one_is_refused(tmp_path):
    recipe = RECIPE.with_values({"training.epochs": 1, "num_validation": 1})
    with pytest.raises(LeakageError, match="subject a/s0 is in train and in test"):
        train_one(CORPUS, small.LABELS, recipe, tmp_path, tested=CORPUS[:1])
    with pytest.raises(LeakageError, match="subject a/s5 is in validation and in test"):
        train_one(CORPUS, small.LABELS, recipe, tmp_path, tested=CORPUS[5:])
    with pytest.raises(TrainingError, match="set num_validation to 1 or more"):
        train_one(CORPUS, small.LABELS, RECIPE, tmp_path, tested=other_corpus())
    with pytest.raises(TrainingError, match="two subjects or more, as intervals are drawn from them, got b/s0 alone"):
        train_one(CORPUS, small.LABELS, recipe, tmp_path, tested=other_corpus(1))
    fewer = [{**row, "features": row["features"][:, :3]} for row in other_corpus()]
    with pytest.raises(TrainingError, match="as many numbers per frame as those that trained, 4, got 3"):
        train_one(CORPUS, small.LABELS, recipe, tmp_path, tested=fewer)
    assert not (tmp_path / "latest").exists()  # before anything is trained
    with pytest.raises(TrainingError, match="as many numbers per frame, got 4 and 3"):
        train_one([*CORPUS, *fewer], small.LABELS, recipe, tmp_path / "b")


def test_who_validates(tmp_path):
    """Of every corpus that trains the last ones, and of those that a corpus keeps for testing none."""
    recipe = RECIPE.with_values({"training.epochs": 1, "num_validation": 1})
    splits = ("train", "train", "train", "train", "train", "test")
    rows = [{**row, "split": split} for row, split in zip(CORPUS, splits, strict=True)]
    rows += [{**row, "fps": 30.0} for row in other_corpus()]
    trained = train_one(rows, small.LABELS, recipe, tmp_path)
    assert trained.num_videos == 4 + 3  # a/s4 and b/s3 validate
    data = json.loads((tmp_path / "latest" / "state.json").read_text())["facts"]["data"]
    assert data["validation"].startswith("2 videos")


def test_going_on_from_a_whole_checkpoint(tmp_path, caplog, monkeypatch):
    """Network and weights are the checkpoint's; of other emotions only the layer that tells them apart is new."""
    recipe = RECIPE.with_values({"training.epochs": 1, "num_validation": 1})
    train_one(CORPUS, small.LABELS, recipe, tmp_path / "first")
    checkpoint = {"checkpoint": str(tmp_path / "first" / "model")}
    again = Recipe.from_dict({**checkpoint, "model": {"dropout": 0.0}, "training": {"epochs": 1}})
    assert Recipe.from_dict(again.to_dict()) == again
    config = again.config(small.LABELS)
    assert (config.hidden_size, config.dropout, config.feature_size) == (16, 0.0, 4)
    before = FednForFacialExpressionDetection.from_pretrained(checkpoint["checkpoint"]).state_dict()
    assert all(torch.equal(value, before[name]) for name, value in make_model(config, again).state_dict().items())
    monkeypatch.setattr(logging.get_logger("fedn_hf"), "propagate", True)
    others = make_model(again.config(["b", "a", *small.LABELS[2:]]), again).state_dict()
    new = {name for name, value in others.items() if not torch.equal(value, before[name])}
    assert new and all(name.startswith("branches.logits.predict.") for name in new)
    assert "is to learn b, a, surprise, others: the layer that names emotions begins anew" in caplog.text
    trained = train_one(CORPUS, small.LABELS, again.with_values({"training.learning_rate": 0.0}), tmp_path / "second")
    assert trained.num_videos == 6
    after = FednForFacialExpressionDetection.from_pretrained(tmp_path / "second" / "model").state_dict()
    assert all(torch.equal(value, before[name]) for name, value in after.items() if name != "loss_normalizer")


def test_checkpoints_that_training_cannot_go_on_from(tmp_path):
    for values, reason in (
        ({"checkpoint": 3}, "recipe.checkpoint must be a folder or a name on the Hub, got 3"),
        ({"checkpoint": "a", "backbone": "b"}, "leave out recipe.backbone and model.preset"),
        ({"checkpoint": "a", "model": {"preset": "compact"}}, "leave out recipe.backbone and model.preset"),
    ):
        with pytest.raises(TrainingError, match=reason):
            Recipe.from_dict(values)
    recipe = Recipe.from_dict({"checkpoint": str(tmp_path / "nothing")})
    with pytest.raises(TrainingError, match=r"recipe.checkpoint: .*nothing cannot be read"):
        recipe.config(small.LABELS)
    (tmp_path / "config.json").write_text('{"model_type": "resnet"}')
    with pytest.raises(TrainingError, match="must be a network of this package, of type 'fedn', got 'resnet'"):
        Recipe.from_dict({"checkpoint": str(tmp_path)}).config(small.LABELS)
    small.model().save_pretrained(tmp_path)
    larger = Recipe.from_dict({"checkpoint": str(tmp_path), "model": {"hidden_size": 32}})
    with pytest.raises(TrainingError, match="has other sizes than model says"):
        make_model(larger.config(small.LABELS), larger)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["branches.logits.predict.bias"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    partly = Recipe.from_dict({"checkpoint": str(tmp_path)})
    with pytest.raises(TrainingError, match=r"lacks branches.logits.predict.bias; get or save it again"):
        make_model(partly.config(small.LABELS), partly)
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(TrainingError, match=r"recipe.checkpoint: .* cannot be loaded"):
        make_model(partly.config(small.LABELS), partly)
