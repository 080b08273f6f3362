"""The scripts of examples/ do on small data what their first lines promise; others have tests beside what they use."""

import ast
import io
import json
import os
import runpy
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import av
import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from nbclient import NotebookClient
from transformers import ResNetBackbone, ResNetConfig
from typer.testing import CliRunner

from fedn_hf import ExpressionAnnotation, FednForFacialExpressionDetection, load_pipeline
from fedn_hf.cli import app
from fedn_hf.training.report import REPORT
from tests import training_sets as small
from tests.clips import make
from tests.hub_server import HubServer
from tests.results import coded_in_elan, ending
from tests.test_finetune import corpus  # noqa: F401  a fixture
from tests.test_training_loso import MODEL

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
TUTORIALS = (
    "compare_with_coder",
    "custom_backbone",
    "detect_video",
    "finetune_and_push",
    "folder_to_spreadsheet",
    "loso",
    "stream",
    "train_fedn",
)
CODES = {"anger": "ANG", "surprise": "SUR", "others": "OTH"}
MAPPING = {"tiers": {"Macro": {}, "Micro": {}}, "codes": {code: label for label, code in CODES.items()}}


@pytest.fixture
def example(monkeypatch, capsys):
    """`example(name, *arguments)` runs the script in this process and gives what it prints."""

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        capsys.readouterr()
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return run


@pytest.fixture(scope="module")
def interview(tmp_path_factory):
    """A video of five seconds, `interview.mp4`, and what is marked in it: one micro- and one macro-expression."""
    path = tmp_path_factory.mktemp("interview") / "interview.mp4"
    return path, ending(path, seconds=5.0)


@pytest.fixture(scope="module")
def found(interview):
    torch.set_num_threads(1)
    return load_pipeline()(str(interview[0]), return_annotation=True)


def events_of(annotation):
    return [(event.type, event.label, event.onset_frame, event.offset_frame) for event in annotation]


@pytest.mark.parametrize("name", TUTORIALS)
def test_short_enough_to_be_read_and_says_what_it_does(name):
    text = (EXAMPLES / f"{name}.py").read_text()
    assert text.count("\n") <= 120
    told = ast.get_docstring(ast.parse(text))
    assert f"    python examples/{name}.py " in f"    {told}" and "\n\n" in told


@pytest.mark.parametrize("words", ["detect_video bad.mp4 -o out", "stream bad.mp4", "show_crops bad.mp4 -o a.png",
                                   "compare_with_coder bad.json bad.json", "folder_to_spreadsheet . -o a.xlsx",
                                   "finetune_and_push . -o out"])  # fmt: skip
def test_what_cannot_be_read_is_said_in_a_line(example, words, tmp_path, monkeypatch):
    """And not by a traceback, which says that the script is at fault."""
    monkeypatch.chdir(tmp_path)
    for name in ("bad.mp4", "bad.json") if "bad" in words else ():
        Path(name).write_text("no video")
    with pytest.raises(SystemExit, match=r"^error: [^\n]+$"):
        example(*words.split())


def test_detect_video(example, interview, found, tmp_path):
    said = example("detect_video", interview[0], "-o", tmp_path)
    assert said.startswith(f"{len(found)} expressions; a face was seen for 5.0 s\n") and len(found)
    for suffix in ("json", "csv", "eaf"):
        assert events_of(ExpressionAnnotation.read(tmp_path / f"interview.{suffix}")) == events_of(found)
    assert (tmp_path / "interview.png").read_bytes().startswith(b"\x89PNG")


def test_folder_to_spreadsheet(example, interview, found, tmp_path):
    (tmp_path / "P1").mkdir()
    (tmp_path / "P1" / "talk.mp4").write_bytes(interview[0].read_bytes())
    (tmp_path / "P1" / "._talk.mp4").write_text("of macOS")
    (tmp_path / "broken.mp4").write_text("no video")
    make(tmp_path / "nobody.mkv")
    example("folder_to_spreadsheet", tmp_path, "-o", tmp_path / "study.xlsx")
    sheets = pd.read_excel(tmp_path / "study.xlsx", sheet_name=None, engine="openpyxl")
    rows = sheets["expressions"]
    assert rows.video.tolist() == ["P1/talk.mp4"] * len(found)
    assert rows.onset_s.tolist() == pytest.approx([event.onset_s for event in found])
    videos = sheets["videos"].set_index("video")
    assert set(videos.index) == {"P1/talk.mp4", "broken.mp4", "nobody.mkv"}
    assert videos.error.notna().tolist() == [name == "broken.mp4" for name in videos.index]
    assert videos.per_minute["P1/talk.mp4"] == pytest.approx(60 * len(found) / found.observed_s)
    assert videos.face_s["nobody.mkv"] == 0 and np.isnan(videos.per_minute["nobody.mkv"])


def test_compare_with_coder(example, interview, found, tmp_path):
    """The coder says neither frames nor types: they come from the network's file, and from how long each lasts."""
    coded_in_elan(tmp_path / "coder.eaf", interview[1], CODES)
    (tmp_path / "codes.yaml").write_text(yaml.safe_dump(MAPPING))
    found.write(tmp_path / "interview.json")
    said = example(
        "compare_with_coder", tmp_path / "coder.eaf", tmp_path / "interview.json", "--mapping", tmp_path / "codes.yaml"
    )
    asked = ["agreement", tmp_path / "interview.json", tmp_path / "coder.eaf", "--mapping", tmp_path / "codes.yaml"]
    ran = CliRunner().invoke(app, [*map(str, asked), "--format", "json"])
    counts = json.loads(ran.stdout)["agreement"]["events"]["overall"]
    matched = counts["true_positives"]
    assert f"{matched} events found by both" in said
    assert said.count("only the network: ") == len(found) - matched
    assert said.count("only the coder: ") == 2 - matched and "nan" not in said
    micro = next(event for event in interview[1] if event.type == "micro-expression")
    assert f"only the coder: interview  {micro.onset_s:.2f} - {micro.offset_s:.1f}" in said


def test_stream(example, interview, found, monkeypatch):
    """From a file and through a pipe; both tell what a call finds."""
    rows = found.to_dict()["intervals"]
    expected = [{name: value for name, value in row.items() if name != "label_scores"} for row in rows]
    assert [json.loads(line) for line in example("stream", interview[0]).splitlines()] == expected
    film = as_transport_stream(interview[0])
    reading, writing = os.pipe()
    with open(reading, "rb") as pipe, open(writing, "wb") as tap:

        def pour():
            with tap:
                tap.write(film)

        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=pipe))
        threading.Thread(target=pour, daemon=True).start()
        lines = example("stream", "-", "--score-threshold", 0.9).splitlines()
    sure = [(row["label"], row["type"]) for row in expected if row["score"] >= 0.9]
    assert [(row["label"], row["type"]) for row in map(json.loads, lines)] == sure


def as_transport_stream(path):
    """The same video in a container that goes through pipes."""
    file = io.BytesIO()
    with av.open(str(path)) as source, av.open(file, "w", format="mpegts") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return file.getvalue()


def features(folder, subjects=4, quiet=0):
    """A tiny corpus of features, as `folder_csv`; each video ends with so many frames in which nothing happens."""
    rows = small.rows(subjects)
    still = ((0, quiet), (0, 0))
    np.savez(folder / "features.npz", **{row["video_id"]: np.pad(row["features"], still) for row in rows})
    table = [
        {"video": row["video_id"], "subject_id": row["subject_id"], **event} for row in rows for event in row["events"]
    ]
    (folder / "sheets").mkdir()
    pd.DataFrame(table).to_csv(folder / "sheets" / "events.csv", index=False)
    recipe = {"model": MODEL, "training": {**small.QUICK, "epochs": 2, "learning_rate": 0.01}}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return folder / "features.npz", folder / "sheets"


def test_loso(example, tmp_path):
    arguments = [*features(tmp_path), tmp_path / "run", "--corpus", "folder_csv", "--fps", 30]
    arguments += ["--recipe", tmp_path / "recipe.yaml"]
    assert "2 folds are still to be done" in example("loso", *arguments, "--part", "1/2")
    said = example("loso", *arguments, "--part", "2/2")
    assert "4 videos of 4 subjects" in said and "nested" in said and "ORACLE" in said
    report = json.loads((tmp_path / "run" / REPORT).read_text())
    assert report["nested_by_type"]["overall"]["events"] == 16


def test_train_fedn(example, tmp_path):
    """Eight people: two test, three validate, three train."""
    arguments = [*features(tmp_path, subjects=8, quiet=300), tmp_path / "run", "--corpus", "folder_csv", "--fps", 30]
    said = example("train_fedn", *arguments, "--epochs", 1)
    assert "best epoch 1, validation F1 " in said and "of those who chose it" in said
    assert said.rstrip().splitlines()[-1].split()[:4:3] == ["overall", "8"]  # four events of each who tests
    assert (tmp_path / "run" / "best" / "model.safetensors").exists()


def test_a_backbone_from_the_hub(example, corpus, hub, tmp_path, monkeypatch):  # noqa: F811
    """It comes whole into a checkpoint that the pipeline runs, and `fedn train` goes on from, leaving it as it is."""
    monkeypatch.setenv("FEDN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    monkeypatch.setenv("HF_TOKEN", HubServer.token)
    tiny = ResNetConfig(embedding_size=4, hidden_sizes=[4, 6], depths=[1, 1], layer_type="basic")
    theirs = ResNetBackbone(tiny)
    theirs.push_to_hub("user/tiny")
    monkeypatch.chdir(tmp_path)
    said = example("custom_backbone", "user/tiny", "-o", "start", "--image-size", 32, "--scheme", "emotion_7")
    assert "start: " in said and "of the backbone are frozen" in said
    detect = load_pipeline("start", device="cpu")
    assert same(backbone_of(detect.model), theirs) and detect.model.config.feature_size == 6
    assert isinstance(detect(str(corpus / "a.mp4"), end_s=0.5), list)

    command = ["train", "--videos", str(corpus), "--validation", "a", "--set", "checkpoint=start", "-o", "run"]
    settings = ["scheme=emotion_7", "training.positive_fraction=1.0", "training.epochs=1", "training.batch_size=1"]
    ran = CliRunner().invoke(app, [*command, *(word for setting in settings for word in ("--set", setting))])
    assert ran.exit_code == 0, ran.output
    tuned = FednForFacialExpressionDetection.from_pretrained("run/model")
    assert same(backbone_of(tuned), theirs)
    assert not same(tuned.branches, detect.model.branches)


def backbone_of(model):
    return model.fedn.frame_encoder.backbone


def same(one, other):
    weights = [network.state_dict() for network in (one, other)]
    return weights[0].keys() == weights[1].keys() and all(weights[0][k].equal(weights[1][k]) for k in weights[0])


def test_the_tour(interview, tmp_path):
    """The notebook runs as in Jupyter, here on another video of the same name; its results are not kept in it."""
    book = nbformat.read(EXAMPLES / "tour.ipynb", as_version=4)
    nbformat.validate(book)
    assert not [cell for cell in book.cells if cell.get("outputs") or cell.get("execution_count")]
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "synthetic.mp4").write_bytes(interview[0].read_bytes())
    interview[1].write(tmp_path / "media" / "synthetic.csv")
    client = NotebookClient(book, timeout=1200, startup_timeout=600, resources={"metadata": {"path": str(tmp_path)}})
    client.execute(env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TMPDIR": str(tmp_path)})
    shown = [output for cell in book.cells for output in cell.get("outputs", [])]
    kinds = {kind for output in shown for kind in output.get("data", {})}
    assert {"text/html", "image/png"} <= kinds and not [one for one in shown if one.output_type == "error"]
    told = "".join(output.get("text", "") for output in shown)
    assert "a face in 5.0 s of it" in told and "protocol: strict" in told
    assert [path.suffix for path in tmp_path.glob("tmp*/found.*")]
