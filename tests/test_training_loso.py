"""Every subject is left out once, nothing of it is known to its fold, and nothing is chosen on it."""

import dataclasses
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from fedn_hf.data.folds import leave_one_subject_out
from fedn_hf.metrics import Expressions, Videos, spotting
from fedn_hf.training import (
    DetectionSettings,
    FeatureRecipe,
    FeatureSettings,
    Recipe,
    TrainingError,
    run_folds,
    score_folds,
)
from fedn_hf.training.detections import raw_detections, read_detections
from fedn_hf.training.inputs import Inputs
from fedn_hf.training.loso import DETECTIONS, run_fold
from fedn_hf.training.recognition import score_recognition
from fedn_hf.training.report import REPORT, report_on
from fedn_hf.training.selection import choose_by_type
from tests import training_sets as small

MODEL = {
    "hidden_size": 16,
    "num_attention_heads": 2,
    "window_size": 64,
    "attention_window": 32,
    "segment_length": 4,
    "num_head_layers": 1,
    "regression_ranges": [[0, 16], [16, 64]],
    "anchor_ratios": [1.0],
}
RECIPE = Recipe.from_dict(
    {
        "model": MODEL,
        "training": {**small.QUICK, "epochs": 8, "learning_rate": 1e-2},
        "detection": {"last_epochs": 2},
        "features": {"clip": 8},
    }
)


def spoilt(rows, subject):
    """The same corpus, but what happens in one subject's videos is told wrongly."""
    event = {"onset": 3, "apex": 4, "offset": 200, "type": "micro-expression", "emotion": "others"}
    return [{**row, "events": [event]} if row["subject_id"] == subject else row for row in rows]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("loso")
    rows = small.rows()
    files = [file for part in (1, 2, 3) for file in run_folds(rows, small.LABELS, RECIPE, folder, part=(part, 3))]
    assert sorted(file.parent.name for file in files) == ["s0", "s1", "s2", "s3"]
    return folder


def test_raw_detections_of_every_fold(run):
    table = pq.read_table(run / "folds" / "s1" / DETECTIONS)
    names = ["subject", "video", "onset", "apex", "offset", "type", "emotion", "score", "epoch", "fps"]
    assert table.column_names == names
    rows = table.to_pylist()
    assert {row["epoch"] for row in rows} == {7, 8} and {row["video"] for row in rows} == {"s1_a"}
    assert all(0 <= row["onset"] <= row["apex"] <= row["offset"] < small.FRAMES for row in rows)
    assert {row["emotion"] for row in rows} <= set(small.LABELS)
    assert sorted(path.name for path in (run / "folds" / "s1").iterdir()) == [DETECTIONS, "features.json", "training"]


def test_a_fold_does_not_know_what_happens_to_its_test_subject(run, tmp_path):
    rows = spoilt(small.rows(), "s1")
    folds = {fold.name: fold for fold in leave_one_subject_out([row["subject_id"] for row in rows])}
    run_fold(folds["s1"], rows, small.LABELS, RECIPE, tmp_path / "s1")
    found = read_detections(tmp_path / "s1" / DETECTIONS)
    assert found == read_detections(run / "folds" / "s1" / DETECTIONS) and found


def test_folds_go_on_where_they_were(run, tmp_path):
    rows, done = small.rows(), []

    def stop(what, artifact, file=None, total=None, completed=None):
        done.append(file)
        if file == "s1" and completed == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_folds(rows, small.LABELS, RECIPE, tmp_path, part=(1, 1), hook=stop)
    assert set(done) == {"s0", "s1"}
    done.clear()
    run_folds(rows, small.LABELS, RECIPE, tmp_path, part=(2, 4), hook=lambda *_, file, **__: done.append(file))
    assert set(done) == {"s1"} and len(done) < 32  # not from the beginning
    for subject in ("s0", "s1"):
        ours, theirs = (read_detections(folder / "folds" / subject / DETECTIONS) for folder in (tmp_path, run))
        assert ours == theirs
    with pytest.raises(TrainingError, match="2 of 4 folds are not done: s2, s3"):
        score_folds(tmp_path, rows)
    with pytest.raises(TrainingError, match=r"training\.learning_rate was 0\.01, is 0\.001"):
        run_folds(rows, small.LABELS, RECIPE.with_values({"training.learning_rate": 1e-3}), tmp_path)
    with pytest.raises(TrainingError, match="set num_validation to 1 or more, got 0"):
        run_folds(rows, small.LABELS, RECIPE.with_values({"training.early_stopping_epochs": 2}), tmp_path / "new")
    with pytest.raises(TrainingError, match="fold s0 has 0 subjects beside those it tests"):
        run_folds(rows[:1], small.LABELS, RECIPE, tmp_path / "new")
    away = [{**row, "subject_id": f"../{row['subject_id']}"} for row in rows]
    with pytest.raises(TrainingError, match=r"which '\.\./s0' cannot be"):
        run_folds(away, small.LABELS, RECIPE, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    with pytest.raises(TrainingError, match="got 5/4"):
        run_folds(rows, small.LABELS, RECIPE, tmp_path, part=(5, 4))


def test_the_report_is_strict_and_nested_first(run):
    rows = small.rows()
    report = score_folds(run, rows)
    assert report.by_type.protocol.selection == "nested" and report.by_type.f1 > 0.4
    first = report.selection.results[0]
    assert (first.rules, first.selection) == ("strict", "nested")
    assert set(report.choices) == {"s0", "s1", "s2", "s3"} and set(report.choices["s0"]) == {"epoch", "macro", "micro"}
    told = json.loads((run / REPORT).read_text())
    assert told["nested_by_type"]["overall"]["f1"] == report.by_type.f1
    assert "chosen on the other subjects" in str(report).splitlines()[0]


def test_emotions_are_named_where_intervals_are_known(tmp_path):
    """By a network that is told when, and never what: other emotions of the test subject change nothing it says."""
    rows = [{**row, "subject_id": min(row["subject_id"], "s6")} for row in small.rows(10)]  # s6 has four videos
    run_folds(rows, small.LABELS, RECIPE.with_values({"training.epochs": 6}), tmp_path, part=(7, 7))
    mine = [row for row in rows if row["subject_id"] == "s6"]
    result = score_recognition(tmp_path, mine)
    assert result.confusion.sum() == 16 and result.without_emotion == 0 and result.accuracy > 0.5

    told = [{**row, "events": [{**event, "emotion": "others"} for event in row["events"]]} for row in mine]
    said = [each.confusion.sum(axis=0) for each in (result, score_recognition(tmp_path, told))]
    assert said[0][said[0] > 0].tolist() == said[1][said[1] > 0].tolist()
    for row in told:
        row["events"][0]["emotion"] = None
    known = score_recognition(tmp_path, told)
    assert known.without_emotion == 4 and known.confusion.sum() == 12


def test_nothing_long_is_found_as_a_micro_expression():
    model, longest = small.model().eval(), {}
    for micro_max_s in (None, 0.5):
        settings = DetectionSettings(min_score=0.0, micro_max_s=micro_max_s)
        found = raw_detections(model, small.sequences()[:1], settings)
        for kind in ("macro-expression", "micro-expression"):
            frames = [row["offset"] - row["onset"] + 1 for row in found if row["type"] == kind]
            longest[kind, micro_max_s] = max(frames)
    assert longest["micro-expression", 0.5] <= 16 < longest["micro-expression", None]  # 15, rounded at both ends
    assert longest["macro-expression", 0.5] == longest["macro-expression", None]


def tables(seed=0, subjects=6):
    """Random detections of three epochs, with chance hits."""
    generator = np.random.default_rng(seed)
    truth, found = [], []
    for number in range(subjects):
        names = {"subject": f"s{number}", "video": f"v{number}"}
        for place in range(8):
            onset, kind = 100 * place, "macro" if place % 2 else "micro"
            truth.append({**names, "onset": onset, "offset": onset + 20, "type": kind})
            for epoch in range(3):
                right = generator.random() < 0.3 + 0.2 * epoch
                score = generator.random() * (1 if right else 0.7)
                row = {**names, "onset": onset + (0 if right else 50), "type": kind, "score": score, "epoch": epoch}
                found.append({**row, "offset": row["onset"] + 20})
    videos = Videos([f"v{n}" for n in range(subjects)], [f"s{n}" for n in range(subjects)], [800] * subjects, 30)
    return Expressions.from_rows(found), Expressions.from_rows(truth), videos


@pytest.mark.parametrize("each", [False, True])
def test_nothing_is_chosen_on_a_test_subject(each):
    """Whatever is said to happen to a subject, what is chosen for it stays; what is chosen for others need not."""
    raw, events, videos = tables()
    honest = choose_by_type(raw, events, videos, each=each)
    others_change = 0
    for subject in honest:
        moved = np.where(events.subject == subject, 50, 0)  # what was wrong is right, and the other way round
        told = dataclasses.replace(events, onset=events.onset + moved, offset=events.offset + moved)
        choices = choose_by_type(raw, told, videos, each=each)
        assert choices[subject] == honest[subject]
        others_change += choices != honest
    assert others_change > 3


def test_choices_are_the_best_on_the_others_by_exhaustive_search():
    raw, events, videos = tables()
    choices = choose_by_type(raw, events, videos)
    grid = (0.1, 0.3, 0.5, 0.7)
    for subject in ("s0", "s4"):
        others = [np.array([name != subject for name in table.subject]) for table in (raw, events)]
        theirs, truth = raw[others[0]], events[others[1]]

        def f1(epoch, macro, micro, theirs=theirs, truth=truth):
            least = np.where(theirs.type == "macro", macro, micro)
            kept = theirs[(theirs.epoch == epoch) & (theirs.score >= least)]
            return spotting(dataclasses.replace(kept, epoch=None), truth).f1

        best = f1(**choices[subject])
        assert all(f1(e, a, b) <= best + 1e-9 for e in range(3) for a in grid for b in grid)
        own = choose_by_type(raw, events, videos, each=True)[subject]
        for kind in ("macro", "micro"):

            def of_type(threshold, epoch=own["epoch"], kind=kind, theirs=theirs, truth=truth):
                kept = (theirs.type == kind) & (theirs.epoch == epoch) & (theirs.score >= threshold)
                return spotting(dataclasses.replace(theirs[kept], epoch=None), truth[truth.type == kind]).f1

            assert all(of_type(threshold) <= of_type(own[kind]) + 1e-9 for threshold in grid)
    report = report_on(raw, events, videos)
    assert report.by_each.pooled.keys() == report.by_type.pooled.keys()
    assert report.selection.get("subject_oracle").result.f1 >= report.selection.get("nested").result.f1
    assert report.detection is None  # no emotions


def test_validation_subjects_choose_the_epoch(tmp_path):
    changes = {"training.epochs": 3, "training.early_stopping_epochs": 1, "num_validation": 1}
    recipe = RECIPE.with_values(changes)
    [file] = run_folds(small.rows(), small.LABELS, recipe, tmp_path, part=(4, 4))
    lines = (tmp_path / "folds" / "s3" / "training" / "log.jsonl").read_text().splitlines()
    log = [json.loads(line) for line in lines]
    scores = {row["epoch"]: row["validation_f1"] for row in log if "validation_f1" in row}
    assert {row["epoch"] for row in read_detections(file)} == {max(scores, key=scores.get)}


def test_a_cascade_spots_with_one_network_and_names_with_another(tmp_path):
    quick = RECIPE.with_values({"training.epochs": 2})
    recipe = quick.with_values({"system": "cascade"})
    [file] = run_folds(small.rows(), small.LABELS, recipe, tmp_path, part=(2, 4))
    configs = [
        json.loads((file.parent / name / "latest" / "config.json").read_text()) for name in ("recogniser", "training")
    ]
    assert [config["heads"] for config in configs] == ["recognition", "spotting"]
    assert {row["emotion"] for row in read_detections(file)} <= set(small.LABELS)
    alone = quick.with_values({"model.heads": "spotting"})
    [spotted] = run_folds(small.rows(), small.LABELS, alone, tmp_path / "alone", part=(2, 4))
    without = [{**row, "emotion": None} for row in read_detections(file)]
    assert read_detections(spotted) == without and without
    mine = [row for row in small.rows() if row["subject_id"] == "s1"]
    assert score_recognition(tmp_path, mine).confusion.sum() == 4  # by the recogniser
    assert score_recognition(tmp_path / "alone", mine) is None
    with pytest.raises(TrainingError, match="set system: cascade"):
        run_folds(small.rows(), small.LABELS, quick.with_values({"model.heads": "recognition"}), tmp_path / "r")


def test_a_rule_finds_peaks_of_flow(tmp_path):
    """Flow that moves a region out and back again: its sum peaks in between."""
    rows = []
    for row in small.rows():
        flow = np.diff(row["features"] * 0.5, axis=0, append=0)
        rows.append({**row, "features": flow})
    recipe = RECIPE.with_values({"system": "flow_rule", "features.leak": 0.98, "features.clip": None})
    run_folds(rows, small.LABELS, recipe, tmp_path)
    report = score_folds(tmp_path, rows)
    assert report.by_type.f1 > 0.5 and report.detection is None
    with pytest.raises(TrainingError, match=r"set features\.leak"):
        RECIPE.with_values({"system": "flow_rule"})


def test_rare_classes_weigh_more(tmp_path):
    rows = small.rows()
    config = Inputs.fit(rows, small.LABELS, RECIPE.with_values({"balance_classes": True})).config
    macro, micro = config.type_class_weights
    assert micro == pytest.approx(macro * 3**0.5) and len(config.label_class_weights) == 4
    assert Inputs.fit(rows, small.LABELS, RECIPE).config.type_class_weights is None
    macros = [{**row, "events": [e for e in row["events"] if e["type"].startswith("macro")]} for row in rows]
    config = Inputs.fit(macros, small.LABELS, RECIPE.with_values({"balance_classes": True})).config
    assert config.type_class_weights == [1.0, 1.0]  # what never is must be learnt not to be


def test_features_are_standardised_by_those_who_train(tmp_path):
    generator = np.random.default_rng(0)
    videos = [generator.normal(3, 2, (200, 2, 2)).astype(np.float32) for _ in range(3)]
    settings = FeatureSettings(clip=2.0, leak=0.9, leak_scale=0.5)
    recipe = FeatureRecipe.fit(videos[:2], settings)
    flat = np.concatenate(videos[:2]).reshape(-1, 4)
    assert np.allclose(recipe.mean, flat.mean(0)) and np.allclose(recipe.std, flat.std(0), rtol=1e-5)
    values = recipe.apply(videos[2])
    assert values.shape == (200, 8) and recipe.num_channels == 8 and values[:, :4].abs().max() == 2
    expected = 0.9 * values[98, 4:] + 0.5 * values[99, :4]
    assert torch.allclose(values[99, 4:], expected, atol=1e-5)
    recipe.save(tmp_path / "f.json")
    assert torch.equal(FeatureRecipe.read(tmp_path / "f.json").apply(videos[2]), values)
    with pytest.raises(TrainingError, match="finite numbers"):
        FeatureRecipe.fit([np.array([[np.nan]])], settings)
    with pytest.raises(TrainingError, match="not a feature recipe"):
        FeatureRecipe.read(tmp_path / "none.json")
