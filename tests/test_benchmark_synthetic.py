"""The benchmark on synthetic people, from made rows to results, and its tables against what was worked out by hand."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import save_file

from fedn_hf.data.cache import VideoFeatures
from fedn_hf.media_fedn import FednError
from fedn_hf.metrics import Expressions, Videos, spotting
from fedn_hf.training.detections import read_detections
from fedn_hf.training.report import expressions, truth_of
from fedn_hf.training.selection import best_by_type
from tests import training_sets as small
from tests.test_training_loso import RECIPE

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples" / "benchmarks"))
import synthetic
import synthetic_report

LONG = {"macro": "macro-expression", "micro": "micro-expression"}


def write_truth(folder, row, tone=0.1, crf=20, degrees_per_s=10.0):
    """What `fedn synth` writes beside a video, as far as it is looked at."""
    turned = np.zeros((row["num_frames"], 3), np.float16)
    turned[:, 1] = np.arange(row["num_frames"]) * degrees_per_s / row["fps"]
    (folder / "truth").mkdir(parents=True, exist_ok=True)
    save_file({"head_rotation_deg": turned}, folder / "truth" / f"{row['video_id']}.safetensors")
    frames = ("onset", "apex", "offset")
    events = [
        {**{f"{name}_frame": event[name] for name in frames}, "type": event["type"], "intensity": 0.1 * (number + 1)}
        for number, event in enumerate(row["events"])
    ]
    facts = {"person": {"skin_tone": tone}, "camera": {"crf": crf}, "expressions": events}
    (folder / "truth" / f"{row['video_id']}.json").write_text(json.dumps(facts))


def seen(rows):
    """The rows as if a backbone had seen their videos."""
    for row in rows:
        inputs = {"frame_features": torch.from_numpy(row["features"]), "frame_mask": torch.ones(small.FRAMES).bool()}
        native = np.arange(small.FRAMES)
        yield {**row, "features": VideoFeatures(inputs, native, native / 30)}


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """`ask(*flags)` runs the benchmark on made rows and gives its results; people of the two sets are called alike."""
    splits = ("train", "validation", "train", "validation", "train", "test")
    people = [{**row, "split": split} for row, split in zip(seen(small.rows(6)), splits, strict=True)]
    strangers = [{**row, "split": "train"} for row in seen(small.rows(3, seed=1))]
    for row in strangers:
        write_truth(tmp_path / "strangers", row)
    sets = {"people": people, "strangers": strangers, "validation": [people[1], people[3]]}
    monkeypatch.setattr(
        synthetic,
        "video_rows",
        lambda folder, recipe, **others: (sets[folder.name], small.LABELS),
    )
    monkeypatch.setattr(synthetic_report, "_RESAMPLES", 20)
    changes = {"training.epochs": 3, "model.backbone_config": None, "model.feature_size": 4}
    values = RECIPE.with_values(changes).to_dict()

    def run(*flags, **changes):
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({**values, **changes}))
        sets = ["--train", tmp_path / "people", "--test", tmp_path / "strangers", "--recipe", tmp_path / "recipe.yaml"]
        monkeypatch.setattr(sys, "argv", [str(word) for word in ["synthetic", *sets, "-o", tmp_path / "out", *flags]])
        synthetic.main()
        return json.loads((tmp_path / "out" / "results.json").read_text())

    return run


def test_from_rows_to_results(ask, tmp_path, capsys):
    ask("--variants", "joint")
    results = ask("--variants", "cascade")  # as another process that shares the work
    assert results["sets"]["trained"]["people"] == 4 and results["sets"]["validation"]["people"] == 2
    assert list(results["variants"]) == ["joint", "cascade"], (
        "the networks of a cascade are no variants that were asked"
    )
    told, table = results["variants"]["joint"], capsys.readouterr().out
    [joint] = told["runs"]

    validation, tested = (
        expressions(
            [{**row, "epoch": None} for row in read_detections(tmp_path / "out/joint/seed-0" / f"{part}.parquet")]
        )
        for part in ("validation", "tested")
    )
    rows = {"validation": [small.rows(6)[n] for n in (1, 3)], "tested": small.rows(3, seed=1)}
    (marked, _), (events, videos) = (
        truth_of(
            [{**row, **{key: f"{prefix}/{row[key]}" for key in ("video_id", "subject_id")}} for row in rows[part]]
        )
        for part, prefix in (("validation", "train"), ("tested", "test"))
    )
    thresholds, _ = best_by_type(validation, marked)
    assert told["thresholds"]["0"] == thresholds
    least = np.array([thresholds.get(kind, np.inf) for kind in tested.type])
    by_hand = spotting(tested[tested.score >= least], events, videos=videos)
    assert joint["F1"] == by_hand.f1 > 0 and joint["F1 macro"] == by_hand.pooled["macro"]["f1"]
    assert joint["false alarms per minute"] == by_hand.false_alarms_per_minute
    assert told["intervals"]["spotting"]["f1 overall"][0] == by_hand.f1
    assert 0 < joint["UF1 on true intervals"] <= 1 and joint["seconds"] > 0 and joint["peak_memory_mib"] > 50

    cascade = results["variants"]["cascade"]["runs"][0]
    apart = results["joint minus cascade"]["0"]["spotting"]["f1 overall"][0]
    assert apart == pytest.approx(joint["F1"] - cascade["F1"])
    assert sum(part["events"] for part in results["breakdown"]["intensity, macro"].values()) == 9
    assert results["breakdown"]["skin tone"]["0.00-0.33"]["f1"] == by_hand.f1, "all are as light"
    assert sum(each["count"] for each in results["reliability"]["as they are"]["bins"]) == len(tested)
    lines = [
        "|  | joint | cascade |",
        f"| F1 | {joint['F1']:.3f} [",
        "| joint minus cascade, seed 0 |",
    ]
    assert all(line in table for line in lines)

    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.parquet")}
    assert ask("--variants", "joint", "cascade")["variants"] == results["variants"]
    assert written == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.parquet")}
    with pytest.raises(FednError, match=r"holds another run: recipe.num_validation was 0, is 1"):
        ask("--variants", "joint", num_validation=1)


def test_a_finished_network_is_scored_as_it_is(ask, tmp_path):
    """It names what it names: another scheme is refused; it is not trained, so nobody trains."""
    small.model().save_pretrained(tmp_path / "network")
    results = ask("--checkpoint", tmp_path / "network", "--variants", "joint")
    assert list(results["variants"]) == ["checkpoint"] and results["sets"]["trained"]["people"] == 0
    assert results["sets"]["validation"]["people"] == 2 and "breakdown" in results
    small.model(id2label={0: "happy"}, label2id={"happy": 0}).save_pretrained(tmp_path / "other")
    with pytest.raises(FednError, match="other names happy; the recipe must have its scheme, got objective_4"):
        ask("--checkpoint", tmp_path / "other", "-o", tmp_path / "else")


def test_the_same_people_in_both_sets_are_refused(ask, tmp_path):
    """Sets of one seed hold the same people, however many videos they have."""
    for folder, videos in (("people", 1), ("strangers", 3)):
        (tmp_path / folder / ".synth").mkdir(parents=True)
        order = {"subjects": 10, "videos_per_subject": videos, "seed": 4}
        (tmp_path / folder / ".synth" / "order.json").write_text(json.dumps(order))
    with pytest.raises(FednError, match=r"people and .*strangers are the same: both have seed 4"):
        ask("--variants", "joint")
    assert not (tmp_path / "out").exists()


def test_facts_of_a_video(tmp_path):
    event = {"onset": 30, "apex": 40, "offset": 59, "type": LONG["macro"], "emotion": None}
    row = {"video_id": "test/s000_0", "fps": 200.0, "num_frames": 400, "events": [event]}
    write_truth(tmp_path, {**row, "video_id": "s000_0"}, tone=0.5, crf=17, degrees_per_s=8.0)
    video, [fact] = synthetic_report.facts_of(row, tmp_path)
    assert video == {"skin tone": 0.5, "frame rate": 200.0, "compression (crf)": 17}
    assert fact["type"] == "macro" and fact["intensity"] == 0.1
    assert fact["head motion"] == pytest.approx(8.0, rel=0.02), "although half precision rounds to 0.004 degrees"


def test_groups_by_hand():
    """Eight macro-expressions of two people in a video each; the four strongest are found, and a false alarm."""
    rows = [{"video": f"v{n % 2}", "subject": f"p{n % 2}", "onset": 100 * n, "offset": 100 * n + 20} for n in range(8)]
    events = Expressions.from_rows([{**row, "type": "macro", "fps": 30.0} for row in rows])
    found = [{**row, "type": "macro", "score": 0.9, "fps": 30.0} for row in rows[4:]]
    found.append({**found[0], "onset": 900, "offset": 950, "video": "v1", "subject": "p1"})
    videos = Videos(["v0", "v1"], ["p0", "p1"], [1000, 1000], [30.0, 30.0])
    facts = [{"type": "macro", "intensity": 0.1 * (n + 1), "head motion": 7.0} for n in range(8)]
    of_videos = {
        "v0": {"skin tone": 0.2, "frame rate": 30.0, "compression (crf)": 14},
        "v1": {"skin tone": 0.9, "frame rate": 30.0, "compression (crf)": 29},
    }
    groups = synthetic_report.breakdown(Expressions.from_rows(found), events, videos, of_videos, facts)
    assert [part["recall"] for part in groups["intensity, macro"].values()] == [0, 0, 1, 1]
    assert [part["events"] for part in groups["intensity, macro"].values()] == [2, 2, 2, 2]
    assert groups["head motion, macro"] == {"7.00-7.00 deg/s": {"events": 8, "recall": 0.5}}
    assert groups["intensity, micro"] == {}
    light, dark = groups["skin tone"]["0.00-0.33"], groups["skin tone"]["0.67-1.00"]
    assert (light["videos"], light["events"], light["recall"]) == (1, 4, 0.5)
    assert light["f1"] == pytest.approx(2 / 3) and dark["f1"] == pytest.approx(2 * 2 / (3 + 4))
    assert groups["frame rate"]["30"]["f1"] == pytest.approx(2 * 4 / (5 + 8))
    assert list(groups["compression (crf)"]) == ["14-17", "26-29"]


def test_reliability_by_hand():
    """A score of 0.85 is right every second time, one of 0.25 never; twice the same event is right once."""
    events = Expressions.from_rows([("v", 0, 20, "macro"), ("v", 100, 120, "micro")])
    found = [("v", 0, 20, "macro", 0.85), ("v", 1, 20, "macro", 0.85), ("v", 100, 120, "macro", 0.25)]
    found = Expressions.from_rows(found)
    told = synthetic_report.reliability(found, events, (1.0, 0.0))
    rows = [(each["score"], each["right"], each["count"]) for each in told["as they are"]["bins"]]
    assert rows == [(0.25, 0.0, 1), (0.85, 0.5, 2)]
    assert told["as they are"]["expected_calibration_error"] == pytest.approx((0.25 + 2 * 0.35) / 3)
    assert told["calibrated"]["expected_calibration_error"] == pytest.approx((0.25 + 2 * 0.35) / 3), "by no change"
    flat = synthetic_report.reliability(found, events, (1e-9, 0.1))["calibrated"]["bins"]
    assert [(round(each["score"], 3), each["count"]) for each in flat] == [(0.525, 3)]
    assert synthetic_report.reliability(found[:0], events, (1.0, 0.0)) == {}


def test_median_errors():
    events = Expressions.from_rows([{"video": "v", "onset": 100 * n, "apex": 100 * n + 5, "offset": 100 * n + 30,
                                     "type": "macro", "fps": 50.0} for n in range(3)])  # fmt: skip
    found = Expressions.from_rows([{"video": "v", "onset": 100 * n + n, "offset": 100 * n + 27, "type": "macro",
                                    "score": 0.9} for n in range(3)])  # fmt: skip
    errors = synthetic_report.median_errors_ms(spotting(found, events), found, events)
    assert errors == {"onset": 20.0, "apex": None, "offset": 60.0}


def test_the_flow_rule_is_tuned_on_some_and_used_on_others():
    """Where motion is, it finds expressions, in frames of the videos; the region that says nothing is not taken."""
    pytest.importorskip("numba", reason="the world of synthetic people needs numba: pip install 'fedn_hf[synthetic]'")
    import synthetic_flow

    signals, rows = {}, []
    for number in range(4):
        generator = torch.Generator().manual_seed(number)
        noise = 0.02 * torch.rand(2, 900, generator=generator)
        events = []
        for place, length, kind in ((100, 30, "macro"), (400, 45, "macro"), (700, 12, "micro")):
            onset = place + 10 * number
            noise[1, onset : onset + length] += torch.hann_window(length + 2, periodic=False)[1:-1]
            event = {"onset": 2 * onset, "apex": None, "offset": 2 * (onset + length) - 1, "type": LONG[kind]}
            events.append({**event, "emotion": None})
        names = {"video_id": f"v{number}", "subject_id": f"p{number}", "fps": 60.0, "num_frames": 1800}
        rows.append({**names, "events": events})
        signals[names["video_id"]] = {"4 0": noise[0], "4 1": noise[1], "native_frame": torch.arange(0, 1800, 2)}
    chosen = synthetic_flow.tune(signals, rows[:2])
    assert chosen["macro-expression"][0] == "4 1"
    found = synthetic_flow.spots(signals, rows[2:], *chosen["macro-expression"])
    events, videos = truth_of(rows[2:])
    result = spotting(expressions(found), events, videos=videos)
    assert result.per_type["macro"].recall == 1 and {row["subject"] for row in found} == {"p2", "p3"}
