"""The embedded default says how it was made, and the log of its training is of the recipe that is there."""

import json
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture(autouse=True)
def examples(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(EXAMPLES), *sys.path])


def test_the_log_holds_a_row_per_epoch():
    pytest.importorskip("numba")  # of the extra `synthetic`
    from make_default_checkpoint import epochs

    log = [{"step": n, "epoch": 1 + (n > 2), "loss": float(n)} for n in range(1, 5)]
    log.append({"step": 4, "epoch": 2, "validation_loss": 9.0, "validation_f1": 0.5})
    assert epochs(log) == [
        {"epoch": 1, "loss": 1.5},
        {"epoch": 2, "loss": 3.5, "step": 4, "validation_loss": 9.0, "validation_f1": 0.5},
    ]


def test_the_card_tells_figures_with_their_commands():
    from make_default_card import groups, metrics

    run = {"F1": 0.4, "F1 micro": 0.1, "mAP@0.5 emotions": None, "false alarms per minute": 2.5}
    intervals = {"spotting": {"f1 overall": [0.4, 0.35, 0.45]}}
    synthetic = {"variants": {"checkpoint": {"runs": [run], "intervals": intervals}}}
    synthetic["breakdown"] = {
        "frame rate": {"25": {"videos": 3, "f1": 0.4}},
        "intensity, micro": {"0.03-0.05": {"events": 9, "recall": 0.0}},
    }
    names = ("events", "hits at 0.3", "hits at 0.5", "labels right", "false alarms per quiet minute")
    told = metrics(synthetic, {"summary": dict.fromkeys(names, 1)})
    by_name = {figure.name: figure for figure in told}
    assert by_name["spotting F1"].spread == "95 % over people: 0.350 to 0.450"
    assert by_name["spotting F1 micro-expressions"].value == 0.1 and "mAP@0.5 emotions" not in by_name
    assert all(figure.command.startswith("python examples/benchmarks/") for figure in told)
    assert [(g.group, g.subgroup, g.name, g.value) for g in groups(synthetic)] == [
        ("frame rate", "25", "spotting F1", 0.4),
        ("intensity", "0.03-0.05", "recall of micro-expressions", 0.0),
    ]


def test_the_log_is_of_the_recipe_and_of_the_weights():
    import yaml

    from fedn_hf import FednConfig

    log = json.loads((EXAMPLES / "recipes" / "default_log.json").read_text("utf-8"))
    recipe = yaml.safe_load((EXAMPLES / "recipes" / "default.yaml").read_text("utf-8"))
    config = FednConfig.from_pretrained(EXAMPLES.parent / "fedn_hf" / "weights" / "default")
    assert len(log["log"]) == recipe["training"]["epochs"]
    assert config.score_threshold == log["threshold"]
    for name, value in recipe["model"].items():
        assert getattr(config, name) == value, name
