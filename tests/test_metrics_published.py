"""Numbers that others published, or that were made with their code, from their own files: to the last digit.

The files are not part of the project; set FEDN_SHARED to the folder that holds corpora.
"""

import dataclasses
import importlib.util
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedn_hf.cli import app
from fedn_hf.metrics import (
    PRESETS,
    Expressions,
    Videos,
    agreement,
    bootstrap,
    select,
    self_report_agreement,
    spotting,
    strs,
)
from tests.conftest import SHARED

PEERS = SHARED / "corpora" / "peers"
SHEETS = SHARED / "corpora" / "annotations"
pytestmark = pytest.mark.skipif(
    not PEERS.is_dir(), reason=f"{PEERS} is not there: set FEDN_SHARED to the folder that holds corpora"
)


def but(name: str, **switches):
    return dataclasses.replace(PRESETS[name], **switches)


def numbers(counts):
    return counts.true_positives, counts.predictions, counts.events


@pytest.fixture(scope="module")
def mdmd():
    place = {"video": "{subject}_{video}"}
    return (
        Expressions.from_csv(PEERS / "mdmd/casme2_predictions.csv"),
        Expressions.from_csv(PEERS / "mdmd/casme2_ground_truth.csv", place),
        Videos.from_csv(PEERS / "mdmd/casme2_videos.csv", place, fps=30),
    )


@pytest.fixture(scope="module")
def lgsnet():
    """Raw detections of all epochs, whose scores lose their last digit as LGSNet's own code reads them."""
    video = {"video": lambda row: row["video"].rsplit("/", 1)[1]}
    return (
        Expressions.from_csv(PEERS / "lgsnet/casme2_detections.csv.gz", {"score": "{score_text:.5}"}, fps=30),
        Expressions.from_csv(PEERS / "lgsnet/casme2_annotation_357.csv", video, fps=30),
    )


@pytest.fixture(scope="module")
def auwgcn():
    return (
        Expressions.from_csv(PEERS / "auwgcn/casme2_loso_detections.csv.gz", fps=30),
        Expressions.from_csv(PEERS / "auwgcn/casme2_ground_truth.csv", fps=30),
    )


@pytest.fixture(scope="module")
def mean():
    files = ("predictions", "ground_truth")
    return tuple(Expressions.from_csv(PEERS / f"strs/casme2_clips_{name}.csv") for name in files)


@pytest.fixture(scope="module")
def casme2():
    return Expressions.from_csv(SHEETS / "casme2_sq.csv", {"video": "video_dir"}, fps=30)


class TestMdmd:
    def test_its_own_rule(self, mdmd):
        result = spotting(*mdmd[:2], "megc2020_mdmd", mdmd[2])
        assert numbers(result.per_type["macro"]) == (109, 1523, 300)
        assert result.per_type["macro"].f1 == 0.11958310477235326
        assert numbers(result.per_type["micro"]) == (21, 5035, 57)
        assert result.per_type["micro"].f1 == 0.008248232521602514
        assert result.f1 == 0.03759942154736081
        assert len(result.subjects) == 22

    def test_one_to_one(self, mdmd):
        result = spotting(*mdmd[:2], but("megc2020_mdmd", matching="one_to_one"), mdmd[2])
        assert [counts.true_positives for counts in result.per_type.values()] == [104, 21]

    def test_videos_are_found_by_subject_and_name_without_being_told(self, mdmd):
        events = Expressions.from_csv(PEERS / "mdmd/casme2_ground_truth.csv")
        assert spotting(mdmd[0], events, "megc2020_mdmd").f1 == 0.03759942154736081


class TestLgsnet:
    def test_its_own_rule(self, lgsnet):
        raw, events = lgsnet
        result = spotting(raw[raw.epoch == 23], events, "lgsnet")
        assert numbers(result.overall) == (131, 208, 357)
        assert result.f1 == 0.463716814159292

    def test_one_to_one(self, lgsnet):
        raw, events = lgsnet
        result = spotting(raw[raw.epoch == 23], events, but("lgsnet", matching="one_to_one"))
        assert numbers(result.overall) == (126, 208, 357)
        assert result.f1 == 0.44601769911504424

    def test_by_length_class(self, lgsnet):
        raw, events = lgsnet
        rules = but("lgsnet", matching="one_to_one", class_rule="duration")
        result = spotting(raw[raw.epoch == 23], events, rules)
        assert [counts.true_positives for counts in result.per_type.values()] == [124, 0]
        assert result.f1 == 0.4389380530973451

    def test_without_cutting_boundaries_to_frames_the_published_number_does_not_come_out(self, lgsnet):
        raw, events = lgsnet
        result = spotting(raw[raw.epoch == 23], events, but("lgsnet", fractional_frames="keep"))
        assert result.overall.true_positives == 129

    def test_the_published_choice_is_the_best_on_the_test_subjects(self, lgsnet):
        raw, events = lgsnet
        some = raw[(raw.epoch >= 22) & (raw.epoch <= 24)].with_types_by_duration()
        report = select(some, events, "lgsnet", score_thresholds=[0.475, 0.48, 0.485, 0.49])
        assert set(report.result.choices.values()) == {(23, 0.485, 14)}
        assert report.result.is_oracle and report.result.result.f1 == 0.463716814159292


def test_mean_spot_then_recognize(mean):
    result = strs(*mean)
    assert result.spotting.overall.true_positives == 159
    assert result.f1_spotting == 0.6516393442622951
    assert round(result.recognition.macro_precision, 6) == 0.598338
    assert round(result.recognition.macro_recall, 6) == 0.587178
    assert round(result.f1_analysis, 6) == 0.592705
    assert round(result.strs, 5) == 0.38623


class TestAuwgcn:
    def test_its_own_rule(self, auwgcn):
        report = select(*auwgcn, "auwgcn")
        assert round(report.result.result.f1, 4) == 0.3428
        assert numbers(report.result.result.overall) == (121, 349, 357)
        assert report.result.selection == "subject_oracle" and report.result.is_oracle
        assert round(report.get("fixed").result.f1, 4) == 0.2943

    def test_strict(self, auwgcn):
        report = select(*auwgcn)
        assert report.results[0] is report.result and report.result.selection == "nested"
        assert round(report.get("fixed").result.f1, 4) == 0.3281
        result = report.result.result
        f1s = [round(row["f1"], 4) for row in (*result.pooled.values(),)]
        assert f1s == [0.3579, 0.1154, 0.3251]

    def test_report_says_strict_first_and_names_oracles(self, auwgcn):
        lines = str(select(*auwgcn, "auwgcn")).splitlines()[1:]
        assert lines[0].startswith("strict") and "nested" in lines[0] and "0.3251" in lines[0]
        oracles = ["ORACLE" in line for line in lines]
        assert oracles == sorted(oracles) and sum(oracles) == 4

    def test_interval(self, auwgcn):
        interval = bootstrap(select(*auwgcn).result.result)["f1 overall"]
        assert interval.low < interval.value < interval.high and interval.high - interval.low > 0.08

    def test_command_line(self):
        files = [str(PEERS / "auwgcn" / name) for name in ("casme2_loso_detections.csv.gz", "casme2_ground_truth.csv")]
        done = CliRunner().invoke(app, ["evaluate", *files, "--selection", "nested", "--format", "json"])
        assert done.exit_code == 0, done.output
        first = json.loads(done.stdout)["selection"]["results"][0]
        assert (first["rules"], first["selection"], round(first["overall"]["f1"], 4)) == ("strict", "nested", 0.3251)


class TestSheets:
    def test_objective_and_reported_emotions(self, casme2):
        result = self_report_agreement(casme2)
        assert (result.agreeing, result.events) == (243, 357)

    def test_a_coding_agrees_with_itself(self, casme2):
        videos = Videos.from_csv(SHEETS / "casme2_sq.csv", {"video": "video_dir"})
        result = agreement(casme2, casme2, videos=videos)
        assert result.events.f1 == result.kappa["overall"] == result.icc["overall"] == 1.0 and result.lengths_known

    def test_missing_offsets(self, casme2):
        assert sum(casme2.offset != casme2.offset) == 44
        found = dataclasses.replace(casme2, offset=casme2.apex)[casme2.offset != casme2.offset]
        counts = {rule: spotting(found, casme2, but("strict", missing_offset=rule)).overall for rule in RULES}
        assert {rule: numbers(c) for rule, c in counts.items()} == RULES

    @pytest.mark.parametrize(
        ("name", "fps", "micro", "longer"), [("casme2_sq", 30, 57, 10), ("casme3_partA_v2", 30, 860, 626)]
    )
    def test_micro_expressions_longer_than_half_a_second(self, name, fps, micro, longer):
        sheet = Expressions.from_csv(SHEETS / f"{name}.csv", fps=fps)
        sheet = sheet[(sheet.type == "micro") & (sheet.offset == sheet.offset)]
        kinds = dataclasses.replace(sheet, type=None).with_types_by_duration().type
        assert (len(sheet), sum(kinds == "macro")) == (micro, longer)

    def test_samm_lv(self):
        sheet = Expressions.from_csv(SHEETS / "samm_lv.csv", fps=200)
        assert len(sheet) == 502 and sum(sheet.apex != sheet.apex) == 6
        assert spotting(sheet, sheet).f1 == 1.0


class TestReadme:
    @pytest.fixture
    def root(self):
        return Path(__file__).resolve().parents[1]

    @pytest.fixture
    def script(self, root):
        spec = importlib.util.spec_from_file_location("protocols", root / "examples/benchmarks/protocols.py")
        script = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(script)
        return script

    @pytest.fixture
    def readme(self, root):
        return (root / "fedn_hf/metrics/README.md").read_text(encoding="utf-8")

    def test_all_systems_under_all_protocols(self, script, readme):
        assert script.markdown(script.score(PEERS)) in readme

    @pytest.mark.slow
    def test_who_chose_the_epoch(self, script, readme):
        assert script.markdown_of_choice(script.choose(PEERS)) in readme


RULES = {"apex": (44, 44, 357), "unmatchable": (0, 44, 357), "drop": (0, 44, 313)}
