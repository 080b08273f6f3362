"""Training learns, goes on to the same bits after any interruption, and says what is wrong."""

import json
import multiprocessing
import os
import shutil
import signal

import pytest
import torch
from safetensors.torch import load_file

from fedn_hf import FednForFacialExpressionDetection, FednVideoProcessor, find_intervals
from fedn_hf.data.folds import LeakageError
from fedn_hf.data.sequences import FednSequence
from fedn_hf.loss_fedn import interval_iou
from fedn_hf.training import Recipe, TrainingError, TrainingSettings, checkpoints, train
from fedn_hf.training.optimisation import make_optimizer
from tests import training_sets as small

LOG = "log.jsonl"


class Stopped(Exception):
    """What a test stops a training with."""


def stop_at(step):
    def hook(what, artifact, file=None, total=None, completed=None):
        if completed == step:
            raise Stopped

    return hook


def weights(folder):
    return load_file(folder / "latest" / "model.safetensors")


def assert_same(first, second):
    assert (first / LOG).read_text() == (second / LOG).read_text()  # every loss, to the last bit
    ours, theirs = weights(first), weights(second)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A run that nothing stopped: three epochs of eight steps."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("unbroken")
    result = train(small.model(), small.sequences(), small.settings(), folder)
    assert len(result.losses) == 24
    return folder


def recall(model):
    """Part of the events that an interval with an IoU of a half is found for."""
    hits = []
    for sequence in small.sequences():
        found = find_intervals(
            model.detect_from_features(sequence.inputs["frame_features"]), fps=30, score_threshold=0.2
        )
        iou = interval_iou(sequence.labels["intervals"][:, None], found.frames.float())
        hits += (iou >= 0.5).any(1).tolist()
    return sum(hits) / len(hits)


def test_it_learns(tmp_path):
    assert recall(small.model().eval()) == 0
    train(small.model(), small.sequences(), small.settings(epochs=20, learning_rate=1e-2), tmp_path)
    assert recall(FednForFacialExpressionDetection.from_pretrained(tmp_path / "latest").eval()) > 0.8


@pytest.mark.parametrize(
    ("stopped_at", "changes"),
    [
        (20, {}),  # within an epoch: goes on from the end of the one before
        (13, {"num_workers": 2}),
        (13, {"checkpoint_steps": 3}),  # goes on from within an epoch
    ],
)
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(unbroken, tmp_path, stopped_at, changes):
    with pytest.raises(Stopped):
        train(small.model(), small.sequences(), small.settings(**changes), tmp_path, hook=stop_at(stopped_at))
    assert (
        checkpoints.Checkpoints(tmp_path, 1).newest().name
        == f"step-{12 if 'checkpoint_steps' in changes else stopped_at // 8 * 8:08}"
    )
    result = train(small.model(seed=5), small.sequences(), small.settings(), tmp_path)
    assert len(result.losses) == 24
    assert_same(unbroken, tmp_path)
    assert train(small.model(), small.sequences(), small.settings(), tmp_path).losses == result.losses  # nothing left


@pytest.mark.parametrize("syncs", [2, 6, 8])
def test_a_run_that_was_killed_goes_on_to_the_same_bits(unbroken, tmp_path, syncs, monkeypatch):
    """Killed at this file or folder that is brought to the disk: in the middle of the first or second checkpoint."""

    left = iter(range(syncs))

    def kill_at(path):
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    def run():
        monkeypatch.setattr(checkpoints, "sync", kill_at)
        train(small.model(), small.sequences(), small.settings(), tmp_path)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    train(small.model(), small.sequences(), small.settings(), tmp_path)
    assert_same(unbroken, tmp_path)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000024"]


def test_another_run_does_not_go_on(unbroken):
    for model, sequences, settings, words in (
        (small.model(), small.sequences(), small.settings(learning_rate=1e-3), "training.learning_rate was 0.003, is"),
        (small.model(dropout=0.2), small.sequences(), small.settings(), "model.dropout was 0.1, is 0.2"),
        (small.model(), small.sequences(small.rows(seed=1)), small.settings(), "data.train was '4 videos"),
    ):
        with pytest.raises(TrainingError, match=words):
            train(model, sequences, settings, unbroken)
    free = small.settings(num_workers=1, keep_checkpoints=3)
    assert len(train(small.model(), small.sequences(), free, unbroken).losses) == 24


def test_a_damaged_checkpoint_is_named(tmp_path):
    train(small.model(), small.sequences(), small.settings(epochs=1), tmp_path)
    (tmp_path / "latest" / "training.safetensors").write_bytes(b"nothing")
    with pytest.raises(TrainingError, match="step-00000008: damaged"):
        train(small.model(), small.sequences(), small.settings(epochs=1), tmp_path)


def test_checkpoints_hold_no_pickles_and_are_kept_as_asked(tmp_path):
    parts = small.sequences()
    settings = small.settings(epochs=5, keep_checkpoints=2, learning_rate=0.02, early_stopping_epochs=9)
    result = train(small.model(), parts[:3], settings, tmp_path, validation=parts[3:])
    kept = {int(path.name[5:]) for path in (tmp_path / "checkpoints").iterdir()}
    best = int((tmp_path / "best").resolve().name[5:])
    steps = len(result.losses) // 5
    assert kept == {4 * steps, 5 * steps, best} and best == result.best_epoch * steps
    scores = {row["epoch"]: row["validation_f1"] for row in result.log if "validation_f1" in row}
    assert scores[result.best_epoch] == result.best_score == max(scores.values()) > 0
    assert {file.suffix for file in (tmp_path / "latest").iterdir()} == {".json", ".safetensors"}
    with open(tmp_path / "latest" / "state.json") as file:
        assert json.load(file)["state"]["is_finished"]


def test_stops_early_on_validation_subjects_alone(tmp_path):
    parts = small.sequences()
    settings = small.settings(epochs=40, learning_rate=0.0, early_stopping_epochs=2)
    result = train(small.model(), parts[:3], settings, tmp_path, validation=parts[3:])
    assert result.best_epoch == 1 and result.log[-1]["epoch"] == 3  # nothing gets better at a rate of 0
    with pytest.raises(LeakageError, match="s3 is in train and in validation"):
        train(small.model(), parts, settings, tmp_path / "b", validation=parts[3:])
    with pytest.raises(TrainingError, match="needs validation subjects"):
        train(small.model(), parts, settings, tmp_path / "b")


def test_the_validation_loss_does_not_depend_on_batches(tmp_path):
    parts = small.sequences()
    losses = []
    for size in (3, 4):
        settings = small.settings(epochs=1, batch_size=size, learning_rate=0.0)
        result = train(small.model(), parts[:3], settings, tmp_path / str(size), validation=parts[3:])
        losses.append(result.log[-1]["validation_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_accumulated_batches_are_one_large_batch(tmp_path):
    results = []
    for size, steps in ((8, 1), (4, 2)):
        # Positive windows only, so that no batch is without any.
        settings = small.settings(batch_size=size, accumulation_steps=steps, positive_fraction=1.0)
        results.append(train(small.model(dropout=0.0), small.sequences(), settings, tmp_path / str(size)))
    assert results[0].losses == pytest.approx(results[1].losses, rel=1e-4)


def test_averaged_weights(tmp_path):
    """The network that is kept is the mean over time of the one that trains; without averaging it is that one."""
    for decay in (0.9, None):
        folder = tmp_path / str(decay)
        model = small.model()
        train(model, small.sequences(), small.settings(epochs=1, ema_decay=decay), folder)
        same = all(torch.equal(weights(folder)[name], value) for name, value in model.state_dict().items())
        assert same == (decay is None)


def test_groups_of_the_optimiser():
    backbone = {
        "model_type": "resnet",
        "embedding_size": 4,
        "hidden_sizes": [4, 4],
        "depths": [1, 1],
        "layer_type": "basic",
    }
    model = small.model(backbone_config=backbone, freeze_backbone=False)
    settings = TrainingSettings(learning_rate=1e-3, backbone_learning_rate_ratio=0.1, weight_decay=0.3)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = {}
    for group in make_optimizer(model, settings).param_groups:
        for parameter in group["params"]:
            groups[names[id(parameter)]] = (group["lr"], group["weight_decay"])
    assert groups["fedn.embedding.projection.weight"] == (1e-3, 0.3)
    assert groups["fedn.embedding.projection.bias"] == (1e-3, 0.0)
    assert {lr for name, (lr, _) in groups.items() if "frame_encoder" in name} == {1e-4}
    frozen = small.model(backbone_config=backbone)
    assert sum(len(group["params"]) for group in make_optimizer(frozen, settings).param_groups) == sum(
        "frame_encoder" not in name for name in names.values()
    )


def crops(frames=160):
    """A grey square that is bright while there is an expression."""
    event = {"onset": 60, "apex": 70, "offset": 89, "type": "macro-expression", "emotion": "positive"}
    pictures = torch.full((frames, 16, 16, 3), 90, dtype=torch.uint8)
    pictures[60:90] = 160
    row = {"video_id": "a", "subject_id": "s1", "fps": 30.0, "events": [event]}
    return FednSequence.from_native(row, {"crops": pictures}, small.config())


def test_a_backbone_trains_from_pixels(tmp_path):
    backbone = {
        "model_type": "resnet",
        "embedding_size": 4,
        "hidden_sizes": [4, 4],
        "depths": [1, 1],
        "layer_type": "basic",
    }
    processor = FednVideoProcessor(size={"height": 16, "width": 16})
    losses = []
    for saves_memory in (False, True):
        model = small.model(backbone_config=backbone, freeze_backbone=False, dropout=0.0)
        before = {name: value.clone() for name, value in model.fedn.frame_encoder.named_parameters()}
        settings = small.settings(
            epochs=3,
            batch_size=2,
            gradient_checkpointing=saves_memory,
            augmentations={"change_colour": {"brightness": 0.1}, "flip_horizontally": None},
        )
        folder = tmp_path / str(saves_memory)
        losses.append(train(model, [crops()], settings, folder, video_processor=processor).losses)
        assert any(not torch.equal(before[n], value) for n, value in model.fedn.frame_encoder.named_parameters())
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    with pytest.raises(TrainingError, match=r"lower training\.batch_size \(got 4\)"):
        train(model, [crops()], small.settings(), tmp_path / "c", video_processor=processor)


def test_half_precision_deterministic_and_profiled(unbroken, tmp_path):
    usual = [json.loads(line)["loss"] for line in (unbroken / LOG).read_text().splitlines()]
    settings = small.settings(mixed_precision="bf16", deterministic=True, profile=True)
    result = train(small.model(), small.sequences(), settings, tmp_path)
    assert result.losses == pytest.approx(usual, rel=0.1) and result.losses != usual
    assert not torch.are_deterministic_algorithms_enabled()
    assert "aten::" in (tmp_path / "profile.txt").read_text() and (tmp_path / "profile.json").exists()


@pytest.mark.slow
@pytest.mark.skipif("FEDN_TEST_COMPILE" not in os.environ, reason="takes minutes; FEDN_TEST_COMPILE=1 runs it")
@pytest.mark.skipif(shutil.which("g++") is None, reason="PyTorch compiles for CPUs with g++")
def test_a_compiled_network_trains_as_any_other(tmp_path):
    losses = []
    for is_compiled in (False, True):
        model = small.model(heads="recognition", dropout=0.0)
        settings = small.settings(epochs=1, positive_fraction=1.0, compile=is_compiled)
        folder = tmp_path / str(is_compiled)
        losses.append(train(model, small.sequences(), settings, folder).losses)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5) and len(losses[0]) == 4
    assert weights(folder).keys() == model.state_dict().keys()  # as of a network that is not compiled


class Greedy(FednForFacialExpressionDetection):
    def forward(self, *args, **kwargs):
        torch.empty(2**62, dtype=torch.uint8)


class Broken(FednForFacialExpressionDetection):
    def forward(self, *args, **kwargs):
        outputs = super().forward(*args, **kwargs)
        return type(outputs)(**{**outputs, "loss": outputs.loss * float("nan")})


def test_what_goes_wrong_is_said(tmp_path):
    with pytest.raises(TrainingError, match=r"batch_size=4 on cpu; try training\.batch_size=2 with .*_steps=2"):
        train(Greedy(small.config()), small.sequences(), small.settings(), tmp_path / "a")
    with pytest.raises(TrainingError, match="the loss of step 1 is no number"):
        train(Broken(small.config()), small.sequences(), small.settings(), tmp_path / "b")
    with pytest.raises(TrainingError, match="another process trains into this folder"):
        train(
            small.model(), small.sequences(), small.settings(epochs=1), tmp_path / "c",
            on_epoch=lambda *_: train(small.model(), small.sequences(), small.settings(epochs=1), tmp_path / "c"),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"training": {"epochs": 0}}, r"training\.epochs must be at least 1, got 0"),
        ({"training": {"epochs": "many"}}, r"training\.epochs must be int, got 'many'"),
        ({"training": {"batch_size": True}}, r"training\.batch_size must be int, got True"),
        ({"training": {"ema_decay": 1.5}}, r"training\.ema_decay must be at most 1, got 1\.5"),
        ({"training": {"mixed_precision": "fp8"}}, r"training\.mixed_precision must be Literal\['no', 'bf16'\], got"),
        ({"training": {"lerning_rate": 1}}, r"there is no training\.lerning_rate; training has epochs,"),
        ({"training": {"speed": [2, 1]}}, r"training\.speed must be the slowest"),
        ({"training": {"trackers": ["mlflow"]}}, r"training\.trackers may hold tensorboard, trackio, wandb, got 'mlf"),
        ({"training": {"augmentations": {"rotate": {}}}}, r"there is no training\.augmentations\.rotate;"),
        (
            {"training": {"augmentations": {"change_gain": {"size": 2}}}},
            r"no training\.augmentations\.change_gain\.si",
        ),
        ({"training": 3}, r"training must hold names and values, got 3"),
        ({"training": {"learning_rate": float("nan")}}, r"training\.learning_rate must be at least 0, got nan"),
        (
            {"training": {"augmentations": {"change_gain": {"ratio": "a"}}}},
            r"change_gain\.ratio must be float, got 'a'",
        ),
        (["training"], r"recipe must hold names and values, got \['training'\]"),
        ({"model": {"id2label": {0: "joy"}}}, r"there is no model\.id2label"),  # labels are the scheme's
        ({"model": {"hiden_size": 3}}, r"there is no model\.hiden_size"),
        ({"scheme": "seven"}, r"recipe\.scheme must be one of objective_4"),
    ],
)
def test_wrong_settings_are_named(values, words):
    with pytest.raises(TrainingError, match=words):
        Recipe.from_dict(values)


def test_recipes_are_read_and_written(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(
        "model: {hidden_size: 32}\ntraining: {learning_rate: 1e-3, speed: [0.8, 1.25]}\nnum_validation: 2\n"
    )
    recipe = Recipe.read(path)
    assert recipe.training.learning_rate == 1e-3 and recipe.training.speed == (0.8, 1.25)
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    assert recipe.config(["a", "b"], feature_size=6, backbone_config=None).num_labels == 2
    with pytest.raises(TrainingError, match=r"model: .*hidden_size must be a multiple"):
        recipe.with_values({"model.num_attention_heads": 5}).config(["a"])
    path.write_text("training: [")
    with pytest.raises(TrainingError, match=r"r\.yaml: not a YAML file"):
        Recipe.read(path)
    with pytest.raises(TrainingError, match=r"there is no cooking\.time"):
        recipe.with_values({"cooking.time": 3})


def test_a_tracker_that_is_not_installed_is_named(tmp_path):
    from accelerate.tracking import get_available_trackers

    missing = [name for name in ("wandb", "trackio", "tensorboard") if name not in map(str, get_available_trackers())]
    if not missing:
        pytest.skip("all trackers are installed")
    with pytest.raises(TrainingError, match=f"{missing[0]} is not installed: pip install {missing[0]}"):
        train(small.model(), small.sequences(), small.settings(trackers=missing[:1]), tmp_path)
