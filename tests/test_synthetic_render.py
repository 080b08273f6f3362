"""Sets of videos: the same however many workers made them and however often they were stopped; read by datasets."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba", reason="synthetic videos need numba: pip install 'fedn_hf[synthetic]'")

from datasets import load_dataset
from typer.testing import CliRunner

from dataset_scripts.corpus import CorpusError, cast
from dataset_scripts.synthetic import Synthetic, read_truth
from fedn_hf.cli import app
from fedn_hf.media_fedn import FednError
from fedn_hf.synthetic.appearance import Canvas
from fedn_hf.synthetic.face_model import ENVIRONMENT, FaceModel
from fedn_hf.synthetic.render import Order, render
from fedn_hf.video_io_fedn import VideoReader

ORDER = Order(subjects=4, videos_per_subject=1, seconds=8, size=64, seed=3, fps=12.5, statistics="samm_lv")


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """The toy's file."""
    path = tmp_path_factory.mktemp("head") / "toy.npz"
    FaceModel.tiny().save(path)
    return path


@pytest.fixture(scope="module")
def whole(head, tmp_path_factory):
    """A set that was made in one go."""
    folder = tmp_path_factory.mktemp("sets") / "whole"
    render(ORDER, folder, face_model=head)
    return folder


def contents(folder):
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "lock"]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_files_are_where_the_card_says(whole):
    names = set(contents(whole))
    for subject in range(4):
        split = ORDER.split_of(subject)
        assert f"{split}/s00{subject}/s00{subject}_0.mp4" in names
        assert {f"truth/s00{subject}_0.safetensors", f"contact_sheets/s00{subject}.png"} <= names
    assert "README.md" in names and not [name for name in names if "partial" in name]


def test_several_workers_make_the_same_files(whole, head, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["fedn"])  # workers know it, and then import no more than the command does
    render(ORDER, tmp_path / "two", face_model=head, workers=2)
    assert contents(tmp_path / "two") == contents(whole)


def test_what_was_killed_goes_on_and_ends_the_same(whole, head, tmp_path):
    folder = tmp_path / "killed"
    code = "import sys; sys.argv = ['fedn']; from fedn_hf.synthetic.render import Order, render; "
    code += f"render({ORDER!r}, {str(folder)!r}, face_model={str(head)!r})"
    for videos in (1, 2):
        process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
        deadline = time.monotonic() + 120
        while len(list((folder / ".synth").glob("s*.json"))) < videos and time.monotonic() < deadline:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert not (folder / "README.md").exists()
    render(ORDER, folder, face_model=head)
    assert contents(folder) == contents(whole)


def test_any_frames_can_be_made_alone(head):
    canvas = Canvas(FaceModel.load(head))
    from_the_start, alone = ORDER.scene(canvas, 1, 0), ORDER.scene(canvas, 1, 0)
    pictures = [from_the_start.picture(frame) for frame in range(50)]
    assert all(np.array_equal(alone.picture(frame), pictures[frame]) for frame in range(40, 50))


def test_load_dataset_gives_the_schema_of_the_corpora(whole, tmp_path):
    loaded = cast(load_dataset(str(whole), cache_dir=str(tmp_path)), "emotion_7")
    assert set(loaded) == {"train", "validation", "test"}
    subjects = {split: set(rows["subject_id"]) for split, rows in loaded.items()}
    assert subjects == {"train": {"s000", "s002"}, "validation": {"s001"}, "test": {"s003"}}
    events = 0
    for row in (row for rows in loaded.values() for row in rows):
        batches = list(VideoReader(row["video"]["path"]))
        assert sum(map(len, batches)) == row["num_frames"] == 100 and row["fps"] == 12.5
        for event in row["events"]:
            assert 0 <= event["onset"] <= event["apex"] <= event["offset"] < 100
            events += 1
    assert events > 0


def test_the_builder_gives_the_same_rows(whole, tmp_path):
    builder = Synthetic(data_dir=str(whole), cache_dir=str(tmp_path / "built"))
    builder.download_and_prepare()
    built = {
        row["video_id"]: row for split in ("train", "validation", "test") for row in builder.as_dataset(split=split)
    }
    loaded = cast(load_dataset(str(whole), cache_dir=str(tmp_path / "loaded")), "emotion_7")
    for row in (row for rows in loaded.values() for row in rows):
        assert built[row["video_id"]]["events"] == row["events"]
    coarse = Synthetic(data_dir=str(whole), scheme="megc_3", cache_dir=str(tmp_path / "coarse"))
    assert len(list(coarse.as_streaming_dataset(split="train"))) == 2
    with pytest.raises(CorpusError, match="no finished set of synthetic videos"):
        Synthetic(data_dir=str(tmp_path), cache_dir=str(tmp_path / "none")).download_and_prepare()


def test_the_truth_is_that_of_the_script(whole):
    camera, script = ORDER.plan(2, 0)
    arrays, facts = read_truth(whole, "s002_0")
    np.testing.assert_allclose(arrays["action_units"], script.action_units, atol=1e-3)
    np.testing.assert_allclose(arrays["intensity"], script.intensity)
    assert [event["onset_frame"] for event in facts["expressions"]] == [e.onset_frame for e in script.expressions]
    assert facts["camera"]["crf"] == camera.crf and "skin_tone" in facts["person"]
    assert len(facts["distractors"]) == len(script.distractors)
    with pytest.raises(CorpusError, match="no such file"):
        read_truth(whole, "s009_0")


def test_the_card_counts_and_says_how_to_make_it_again(whole):
    card = (whole / "README.md").read_text()
    assert "$" not in card and "--seed 3" in card and "## Prohibited uses" in card
    rows = [json.loads(line) for line in (whole / "train" / "metadata.jsonl").read_text().splitlines()]
    macro = sum(event["type"] == "macro-expression" for row in rows for event in row["events"])
    assert f"| train | 2 | 2 | 0.3 | {macro} |" in card
    assert "| macro-expression events_per_minute |" in card


def test_a_persons_face_is_the_same_in_all_videos_and_the_room_is_not():
    order = Order(subjects=1, videos_per_subject=2, seconds=4, size=64)
    canvas = Canvas(FaceModel.tiny())
    first, second = (order.scene(canvas, 0, video) for video in range(2))
    assert first.subject is second.subject
    assert not np.array_equal(first.surroundings.background, second.surroundings.background)
    assert first.camera != second.camera


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 65}, "even number of pixels from 64 on, got 65"),
        ({"subjects": 0}, "subjects must be at least 1, got 0"),
        ({"fps": 0.0}, "fps must lie between 1 and 1000"),
        ({"statistics": "none"}, "casme_2, casme_3, samm_lv"),
        ({"seed": -1}, "seed must not be negative"),
    ],
)
def test_impossible_orders_say_why(changes, message):
    with pytest.raises(FednError, match=message):
        Order(**{"subjects": 1, "videos_per_subject": 1, "seconds": 4, **changes})


def test_folders_of_something_else_are_left_alone(whole, head, tmp_path, monkeypatch):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(FednError, match="is not empty"):
        render(ORDER, tmp_path, face_model=head)
    with pytest.raises(FednError, match="was begun with other settings"):
        render(Order(1, 1, 4, size=64), whole, face_model=head)
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    with pytest.raises(FednError, match="ICT-FaceKit"):
        render(ORDER, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_the_command_line(head, tmp_path, monkeypatch):
    small = ["--subjects", "1", "--videos-per-subject", "1", "--seconds", "2", "--size", "64", "--fps", "10"]
    monkeypatch.delenv(ENVIRONMENT, raising=False)

    def run(*words):
        return CliRunner().invoke(app, ["synth", *map(str, words)])

    done = run(*small, "--face-model", head, "-o", tmp_path / "made")
    assert done.exit_code == 0 and "1 videos of 1 people" in done.stdout, done.stderr
    assert (tmp_path / "made" / "contact_sheets" / "s000.png").stat().st_size > 1000
    missing = run(*small, "-o", tmp_path / "other")
    assert missing.exit_code == 2 and "ICT-FaceKit" in missing.stderr and "Traceback" not in missing.stderr
    assert run(*small).exit_code == 1
    assert "face-model" in run("--help").stdout


def test_the_bundled_clip_is_what_its_truth_says():
    media = Path(__file__).parents[1] / "examples" / "media"
    truth = json.loads((media / "synthetic.json").read_text())
    assert (media / "synthetic.mp4").stat().st_size <= 2 * 2**20
    frames = sum(map(len, VideoReader(media / "synthetic.mp4")))
    assert frames == truth["num_frames"] and 20 <= frames / truth["fps"] <= 30
    types = [event["type"] for event in truth["expressions"]]
    assert (types.count("macro-expression"), types.count("micro-expression")) == (3, 2)
    kinds = [other["kind"] for other in truth["distractors"]]
    assert kinds.count("blink") >= 2 and "head_turn" in kinds
