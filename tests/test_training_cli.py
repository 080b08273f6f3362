"""`fedn train` and `fedn loso`, from files to a network and to a report."""

import csv
import json
import runpy
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
import yaml
from typer.testing import CliRunner

from fedn_hf import FednConfig, FednForFacialExpressionDetection, FednVideoProcessor, find_intervals
from fedn_hf.cli import app
from fedn_hf.loss_fedn import interval_iou
from fedn_hf.training import FeatureRecipe, Recipe, TrainingError, train_one
from tests import training_sets as small
from tests.clips import make
from tests.test_training_loso import MODEL

RECIPES = sorted((Path(__file__).resolve().parents[1] / "examples" / "recipes").glob("*.yaml"))
NAMES = ("video", "subject_id", "onset", "apex", "offset", "type", "emotion")


def fedn(*arguments, code=0):
    ran = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert ran.exit_code == code, (ran.output, ran.exception)
    return ran.output


def write(folder, rows):
    """Features and a table of events, as people have them; the flags that name them."""
    np.savez(folder / "features.npz", **{row["video_id"]: row["features"] for row in rows})
    (folder / "sheets").mkdir()
    with open(folder / "sheets" / "events.csv", "w", newline="") as file:
        table = csv.DictWriter(file, NAMES)
        table.writeheader()
        for row in rows:
            table.writerows({**e, "video": row["video_id"], "subject_id": row["subject_id"]} for e in row["events"])
    return ["--corpus", "folder_csv", "--features", folder / "features.npz", "--sheets", folder / "sheets"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A corpus and a recipe; the flags that name them."""
    folder = tmp_path_factory.mktemp("corpus")
    recipe = {"model": MODEL, "training": {**small.QUICK, "epochs": 3, "learning_rate": 0.01}}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return ["--config", folder / "recipe.yaml", "--fps", "30", *write(folder, small.rows())]


def test_train(corpus, tmp_path):
    out = tmp_path / "run"
    said = fedn("train", *corpus, "-o", out, "--epochs", 2, "--set", "training.ema_decay=0.5", "--validation", "s3")
    assert "trained on 3 videos" in said and "best on the validation subjects" in said
    model = FednForFacialExpressionDetection.from_pretrained(out / "model")
    recipe = FeatureRecipe.read(out / "model" / "features.json")
    assert model.config.feature_size == recipe.num_channels == 4 and model.config.num_labels == 4
    lines = (out / "log.jsonl").read_text()
    fedn("train", *corpus, "-o", out, "--epochs", 2, "--set", "training.ema_decay=0.5", "--validation", "s3")
    assert (out / "log.jsonl").read_text() == lines  # nothing was left to do
    assert "training.epochs was 2, is 3" in fedn("train", *corpus, "-o", out, "--epochs", 3, code=2)


def test_validation_subjects_choose_the_score_to_report_from(corpus, tmp_path):
    """The best of all thresholds on them, counted here by hand; without them it stays as it is."""
    said = fedn("train", *corpus, "-o", tmp_path / "a", "--epochs", 12, "--validation", "s2", "--validation", "s3")
    model = FednForFacialExpressionDetection.from_pretrained(tmp_path / "a" / "model").eval()
    recipe = FeatureRecipe.read(tmp_path / "a" / "model" / "features.json")

    def f1(threshold):
        hits = found = events = 0
        for row in small.rows()[2:]:
            sequence = recipe.sequence(row, model.config)
            proposals = model.detect_from_features(sequence.inputs["frame_features"])
            intervals = find_intervals(proposals, fps=30, score_threshold=threshold)
            hits += sum(
                any(
                    float(interval_iou(frames.float(), truth)) >= 0.5 and kind == is_micro
                    for frames, kind in zip(intervals.frames.round(), intervals.type, strict=True)
                )
                for truth, is_micro in zip(sequence.labels["intervals"], sequence.labels["type_labels"], strict=True)
            )
            found, events = found + len(intervals), events + 4
        return 2 * hits / (found + events)

    chosen = model.config.score_threshold
    best = max(f1(step / 50) for step in range(1, 50))
    assert f"from a score of {chosen} on, the best on the validation subjects: F1 {best:.4f}" in said
    assert f1(chosen) == best > 0.2 and chosen != FednConfig().score_threshold
    said = fedn("train", *corpus, "-o", tmp_path / "b", "--epochs", 1)
    assert "from a score of 0.5 on, which nobody has chosen, as nobody validated" in said
    assert FednConfig.from_pretrained(tmp_path / "b" / "model").score_threshold == 0.5


def test_loso_in_parts_and_the_report(corpus, tmp_path):
    assert "2 others are not" in fedn("loso", *corpus, "-o", tmp_path, "--folds", "2/2")
    said = fedn("loso", *corpus, "-o", tmp_path, "--folds", "1/2", "--protocol", "auwgcn")
    assert said.startswith("nested") and "ORACLE" in said and "auwgcn" in said
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["nested_by_type"]["overall"]["events"] == 16 and "detection" in report


def test_the_benchmark(corpus, tmp_path, monkeypatch, capsys):
    """On any corpus, in parts, against a peer (here a run of its own, in the peers' names and numbers)."""
    script = Path(__file__).resolve().parents[1] / "examples" / "benchmarks" / "casme2_features.py"
    features, sheets, config = corpus[7], corpus[9], tmp_path / "recipe.yaml"
    config.write_text(corpus[1].read_text().replace("epochs: 3", "epochs: 2"))
    flags = ["--corpus", "folder_csv", "--fps", 30, "--recipe", config, "--features", features, "--sheets", sheets]
    flags += ["--seeds", 0, 1, "--variants", "joint", "-o", tmp_path / "out"]

    def run(*more):
        monkeypatch.setattr("sys.argv", [str(script), *map(str, flags), *map(str, more)])
        runpy.run_path(str(script), run_name="__main__")
        return capsys.readouterr().out

    assert "joint" not in run("--folds", "1/2").splitlines()[-1]  # nothing to score yet
    assert "| joint, 2 subjects | 2 |" in run("--partial")  # but for what is done of both
    raw = [row for file in (tmp_path / "out").rglob("*.parquet") for row in pq.read_table(file).to_pylist()]
    with open(tmp_path / "peer.csv", "w", newline="") as file:
        table = csv.DictWriter(
            file, ["subject", "video", "onset", "offset", "type", "score", "epoch"], extrasaction="ignore"
        )
        table.writeheader()
        table.writerows({**row, "onset": row["onset"] + 1, "offset": row["offset"] + 1} for row in raw)
    said = run("--folds", "2/2", "--peer", tmp_path / "peer.csv")
    assert "| joint | 2 |" in said and "±" in said
    results = json.loads((tmp_path / "out" / "results.json").read_text())["joint"]
    assert len(results["runs"]) == 2 and results["runs"][0]["minutes"] > 0
    assert "| UF1 on true intervals | UAR on true intervals |" in said
    assert np.sum(results["recognition on true intervals"]["confusion"]) == 16
    assert len(results["difference to the peer"]["f1 overall"]) == 3


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--epochs", 0], "training.epochs must be at least 1, got 0"),
        (["--set", "training.colour=red"], "there is no training.colour"),
        (["--set", "training.epochs"], "--set takes NAME=VALUE"),
        (["--videos", "folder"], "give either --videos, or --corpus"),
    ],
)
def test_wrong_flags(corpus, tmp_path, flags, words):
    assert words in fedn("train", *corpus, "-o", tmp_path, *flags, code=1)


def test_another_corpus_tests(corpus, tmp_path):
    """Its people are called like those who train, and are others; the corpus that trains is refused."""
    (tmp_path / "other").mkdir()
    _, _, _, features, _, sheets = write(tmp_path / "other", small.rows(2, seed=1))
    sheets = sheets.rename(tmp_path / "others")
    test = ["--test-corpus", "folder_csv", "--test-features", features, "--test-sheets", sheets]
    flags = [*corpus, "-o", tmp_path / "run", "--epochs", 8, "--validation", "sheets/s3"]
    said = fedn("train", *flags, *test)
    assert "trained on 3 videos" in said and "chosen on the validation subjects of other corpora" in said
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert sorted(report["validated_by_type"]["choices"]) == ["others/s0", "others/s1"]
    same = ["--test-corpus", "folder_csv", "--test-features", corpus[7], "--test-sheets", corpus[9]]
    assert "sheets/s0 is in train and in test" in fedn("train", *flags, *same, code=2)
    assert "--test-features is missing" in fedn("train", *flags, *test[:2], *test[4:], code=1)
    twice = [*flags, "--corpus", "folder_csv"]
    assert "in the same order; got 2 --corpus, 1 --features, 1 --sheets" in fedn("train", *twice, code=1)


def test_loso_of_two_corpora(corpus, tmp_path):
    """People of different corpora are different people, whatever they are called."""
    (tmp_path / "other").mkdir()
    more = write(tmp_path / "other", small.rows(2, seed=1))
    more[-1] = more[-1].rename(tmp_path / "others")
    flags = [*corpus, *more, "-o", tmp_path / "run", "--epochs", 1, "--folds"]
    assert "5 others are not" in fedn("loso", *flags, "1/6")
    assert (tmp_path / "run" / "folds" / "others" / "s0" / "detections.parquet").exists()


def test_who_validates(corpus, tmp_path):
    assert "no subject s9 to validate; there is s0, s1" in fedn(
        "train", *corpus, "-o", tmp_path, "--validation", "s9", code=2
    )
    everyone = [word for subject in range(4) for word in ("--validation", f"s{subject}")]
    assert "nobody is left to train" in fedn("train", *corpus, "-o", tmp_path, *everyone, code=2)
    assert "nobody is left to train" in fedn("train", *corpus, "-o", tmp_path, "--set", "num_validation=9", code=2)
    assert "needs validation subjects" in fedn(
        "train", *corpus, "-o", tmp_path, "--set", "training.early_stopping_epochs=1", code=2
    )
    rows = [
        {**row, "split": split} for row, split in zip(small.rows(), ("train", "train", "train", "test"), strict=True)
    ]
    recipe = Recipe.read(corpus[1]).with_values({"num_validation": 1, "training.epochs": 1})
    assert train_one(rows, small.LABELS, recipe, tmp_path / "a").num_videos == 2  # s2 validates, and not s3
    assert "system=cascade is for folds" in fedn("train", *corpus, "-o", tmp_path, "--set", "system=cascade", code=2)


def test_wrong_flags_of_loso(corpus, tmp_path):
    assert "no protocol named 'mine'" in fedn("loso", *corpus, "-o", tmp_path, "--protocol", "mine", code=1)
    assert "such as 3/22, not '5/4'" in fedn("loso", *corpus, "-o", tmp_path, "--folds", "5/4", code=1)
    assert "--corpus, --features and --sheets are missing" in fedn("loso", "-o", tmp_path, code=1)
    assert "no such file" in fedn("loso", *corpus[:7], "no.npz", *corpus[8:], "-o", tmp_path, code=1)


def test_what_cannot_be_trained_is_said(corpus, tmp_path):
    (tmp_path / "file").touch()
    assert "is a file; name another" in fedn("train", *corpus, "-o", tmp_path / "file", code=1)
    none = [{**row, "events": row["events"][:1] if row["subject_id"] == "s3" else []} for row in small.rows()]
    recipe = Recipe.read(corpus[1])
    with pytest.raises(TrainingError, match="there is no event to learn in 3 videos"):
        train_one(none, small.LABELS, recipe, tmp_path / "a", validation=["s3"])
    with pytest.raises(TrainingError, match="no place of 480 frames is free of events"):
        train_one(small.rows(), small.LABELS, recipe.with_values({"model.window_size": 480}), tmp_path / "b")


@pytest.fixture(scope="module")
def videos(tmp_path_factory, astronaut):
    """A VideoFolder of two people: a face that is brighter while there is an expression."""
    folder = tmp_path_factory.mktemp("videos")
    face = F.interpolate(astronaut[:256, 80:336].permute(2, 0, 1)[None].float(), (160, 160), mode="area")
    face = face[0].permute(1, 2, 0).byte().numpy()
    rows = []
    for subject in ("a", "b"):
        light = [1.3 if 40 <= n < 60 else 1.0 for n in range(100)]

        def picture(number, width, height, light=light):
            return np.clip(face * light[number], 0, 255).astype(np.uint8)

        make(folder / f"{subject}.mp4", [n / 25 for n in range(100)], size=(160, 160), picture=picture)
        event = {"onset": 40, "apex": 50, "offset": 59, "type": "macro-expression", "emotion": "surprise"}
        event |= {"self_report": None, "action_units": ""}
        row = {"file_name": f"{subject}.mp4", "video_id": f"{subject}1", "subject_id": subject, "fps": 25.0}
        rows.append({**row, "num_frames": 100, "events": [event]})
    (folder / "metadata.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return folder


def test_from_videos(videos, tmp_path, monkeypatch):
    """A backbone trains from pixels; then it is frozen, and its features are cached and train a new network."""
    monkeypatch.setenv("FEDN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    backbone = {"model_type": "resnet", "embedding_size": 4, "hidden_sizes": [4, 4], "depths": [1, 1]}
    backbone["layer_type"] = "basic"
    network = {**MODEL, "backbone_config": backbone, "feature_size": 4, "image_size": 32}
    recipe = {
        "model": {**network, "freeze_backbone": False},
        "training": {**small.QUICK, "epochs": 1, "batch_size": 1},
    }
    (tmp_path / "free.yaml").write_text(yaml.safe_dump(recipe))
    fedn("train", "--config", tmp_path / "free.yaml", "--videos", videos, "-o", tmp_path / "free")
    trained = tmp_path / "free" / "model"
    assert FednVideoProcessor.from_pretrained(trained).size.height == 32
    frozen = ["--config", tmp_path / "free.yaml", "--videos", videos, "--set", "model.freeze_backbone=true"]
    assert "name a recipe that says whose it is" in fedn("train", *frozen, "-o", tmp_path / "none", code=2)
    fedn("train", *frozen, "--set", f"backbone={trained}", "-o", tmp_path / "frozen")
    first, second = (
        FednForFacialExpressionDetection.from_pretrained(folder).fedn.frame_encoder.state_dict()
        for folder in (trained, tmp_path / "frozen" / "model")
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    scheme = [*frozen[:4], "--set", "model.freeze_backbone=false", "--set", "scheme=objective_4"]
    (videos / "metadata.jsonl").write_text((videos / "metadata.jsonl").read_text().replace('"surprise"', '"fear"'))
    assert "not converted with --scheme objective_4" in fedn("train", *scheme, "-o", tmp_path / "none", code=2)
    (videos / "metadata.jsonl").write_text((videos / "metadata.jsonl").read_text().replace('"fear"', '"surprise"'))
    larger = [*frozen[:4], "--set", "model.freeze_backbone=false", "--set", "model.feature_size=5"]
    assert "model: feature_size must be the 4" in fedn("train", *larger, "-o", tmp_path / "none", code=2)
    other = shutil.copytree(videos, tmp_path / "other")
    flags = ["--videos", videos, "--test-videos", other, "--validation", f"{videos.name}/b", "-o", tmp_path / "across"]
    flags += ["--config", tmp_path / "free.yaml", "--set", "detection.min_score=0.001"]
    assert "validation subjects of other corpora" in fedn("train", *flags)
    fedn("loso", "--config", tmp_path / "free.yaml", "--videos", videos, "-o", tmp_path / "loso", "--folds", "1/2")
    assert (tmp_path / "loso" / "folds" / "a" / "detections.parquet").exists()


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_make_networks(path):
    recipe = Recipe.read(path)
    config = recipe.config(["positive", "negative"])
    assert config.window_size % config.total_stride == 0
