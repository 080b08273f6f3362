"""The metrics in use: how fast they are, the commands, the modules for the evaluate library, and all examples."""

import doctest
import importlib
import json
import pkgutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import fedn_hf.metrics
from fedn_hf.cli import app
from fedn_hf.metrics import Expressions, bootstrap, detection, spotting

MODULES = Path(fedn_hf.metrics.__file__).parent / "evaluate_modules"


class TestSpeed:
    def test_a_hundred_thousand_predictions_in_five_seconds(self):
        rng = np.random.default_rng(0)
        sides = []
        for count in (100_000, 10_000):
            onset = rng.integers(0, 20_000, count)
            video = [f"v{number}" for number in rng.integers(0, 200, count)]
            kinds = np.array(["macro", "micro"])[rng.integers(0, 2, count)]
            sides.append(
                Expressions(video, onset, onset + rng.integers(5, 80, count), type=kinds, score=rng.random(count))
            )
        start = time.process_time()  # of this process only, however busy the machine is
        spotting(*sides)
        bootstrap(detection(*sides), resamples=200)
        elapsed_s = time.process_time() - start
        print(f"100,000 predictions against 10,000 events: {elapsed_s:.2f} s")
        assert elapsed_s < 5


class TestCommands:
    @pytest.fixture
    def files(self, tmp_path):
        (tmp_path / "marked.csv").write_text("subject,video,onset,offset,type\n1,a,0,9,macro\n2,b,0,9,micro\n")
        (tmp_path / "found.csv").write_text(
            "subject,video,onset,offset,type,score\n1,a,1,9,macro,.9\n2,b,30,39,micro,.2\n"
        )
        return [str(tmp_path / name) for name in ("found.csv", "marked.csv")]

    def test_evaluate(self, files):
        done = CliRunner().invoke(app, ["evaluate", *files, "--format", "json", "--show-protocol"])
        said = json.loads(done.stdout)
        assert (
            done.exit_code == 0 and said["spotting"]["overall"]["f1"] == 0.5 and said["protocol"]["name"] == "strict"
        )
        for form, words in (("table", "overall"), ("markdown", "| overall | 1 | 2 | 2 |")):
            assert words in CliRunner().invoke(app, ["evaluate", *files, "--format", form]).stdout
        nested = CliRunner().invoke(app, ["evaluate", *files, "--selection", "nested", "--protocol", "auwgcn"]).stdout
        assert nested.index("strict, nested") < nested.index("auwgcn, nested") < nested.index("ORACLE")

    def test_every_number_stands_under_its_rules(self, files):
        for form in ("table", "markdown"):
            said = CliRunner().invoke(app, ["evaluate", *files, "--format", form]).stdout
            assert "spotting under strict" in said and "detection under strict" in said
            assert (
                "agreement under auwgcn"
                in CliRunner().invoke(app, ["agreement", *files, "--protocol", "auwgcn", "--format", form]).stdout
            )

    def test_average_precision_at_every_iou(self, files):
        said = CliRunner().invoke(app, ["evaluate", *files, "--format", "markdown"]).stdout
        assert "| average precision | 0.3 | 0.4 | 0.5 | 0.6 | 0.7 | 0.3:0.7 | 0.5:0.95 |" in said
        done = CliRunner().invoke(app, ["evaluate", *files, "--format", "json"])
        types = json.loads(done.stdout)["detection"]["types"]
        assert types["mAP"]["0.5"] == types["mAP@0.5"] == 0.5 and types["mAP"]["0.95"] == 0.0

    def test_codings_without_types(self, tmp_path, files):
        (tmp_path / "machine.csv").write_text("subject,video,onset,offset\n1,a,1,30\n2,b,0,9\n")
        done = CliRunner().invoke(
            app, ["agreement", files[1], str(tmp_path / "machine.csv"), "--fps", "30", "--format", "json"]
        )
        events = json.loads(done.stdout)["agreement"]["events"]
        assert done.exit_code == 0 and events["per_type"]["micro"]["true_positives"] == 1

    def test_agreement(self, files):
        done = CliRunner().invoke(app, ["agreement", *files, "--format", "json"])
        assert done.exit_code == 0 and json.loads(done.stdout)["agreement"]["events"]["overall"]["f1"] == 0.5

    def test_exit_codes(self, files):
        assert CliRunner().invoke(app, ["evaluate", files[0], "nowhere.csv"]).exit_code == 1
        assert CliRunner().invoke(app, ["evaluate", *files, "--protocol", "nice"]).exit_code == 1
        assert CliRunner().invoke(app, ["evaluate", *files, "--format", "xml"]).exit_code == 1

    def test_only_numpy_is_imported(self):
        code = (
            "import sys; sys.argv = ['fedn']; import fedn_hf.metrics, fedn_hf.cli.evaluate;"
            "print(*{'torch', 'transformers', 'pandas', 'evaluate', 'datasets'} & set(sys.modules))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == ""


@pytest.mark.parametrize("name", [module.name for module in pkgutil.iter_modules(fedn_hf.metrics.__path__)])
def test_examples(name):
    module = importlib.import_module(f"fedn_hf.metrics.{name}")
    assert not doctest.testmod(module).failed


@pytest.mark.parametrize("name", ["expression_spotting", "expression_detection", "spot_then_recognize"])
class TestEvaluateModules:
    @pytest.fixture
    def metric(self, name, monkeypatch, tmp_path):
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        evaluate = pytest.importorskip("evaluate")
        return evaluate.load(str(MODULES / name), cache_dir=str(tmp_path))

    def test_the_usage_text_runs(self, metric, name, monkeypatch):
        monkeypatch.chdir(MODULES.parents[2])
        import evaluate

        test = doctest.DocTestParser().get_doctest(metric.inputs_description, {"evaluate": evaluate}, name, None, 0)
        assert test.examples and not doctest.DocTestRunner().run(test).failed

    def test_nothing_found(self, metric):
        for found, marked in (([], []), ([[]], [[]])):
            assert all(
                value == 0
                for value in metric.compute(predictions=found, references=marked).values()
                if value.__class__ is float
            )

    def test_card(self, name):
        card = (MODULES / name / "README.md").read_text()
        assert card.startswith("---\ntitle:") and "app_file: app.py" in card and "## Limits" in card
        assert {path.name for path in (MODULES / name).iterdir()} >= {f"{name}.py", "app.py", "requirements.txt"}
