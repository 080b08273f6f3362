"""A checkpoint is fine-tuned on a converted corpus, goes to the Hub whole, and comes back as a pipeline."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from huggingface_hub import HfApi

from fedn_hf import FednConfig, FednForFacialExpressionDetection, FednVideoProcessor, load_pipeline
from fedn_hf.hub import check_checkpoint
from tests.clips import make
from tests.hub_server import HubServer
from tests.test_training_loso import MODEL

# The client uploads in a way that its own HTTP library calls outdated.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

SCRIPT = Path(__file__).resolve().parents[1] / "examples" / "finetune_and_push.py"
BACKBONE = {"model_type": "resnet", "embedding_size": 4, "hidden_sizes": [4, 4], "depths": [1, 1]}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, astronaut):
    """A VideoFolder of four people, as `fedn prepare` writes it: a face that is brighter during an expression."""
    folder = tmp_path_factory.mktemp("sets") / "my recordings"
    folder.mkdir()
    face = F.interpolate(astronaut[:256, 80:336].permute(2, 0, 1)[None].float(), (96, 96), mode="area")
    face = face[0].permute(1, 2, 0).numpy()
    rows = []
    for subject in "abcd":

        def picture(number, width, height):
            return np.clip(face * (1.3 if 40 <= number < 60 else 1.0), 0, 255).astype(np.uint8)

        make(folder / f"{subject}.mp4", [n / 25 for n in range(100)], size=(96, 96), picture=picture)
        event = {"onset": 40, "apex": 50, "offset": 59, "type": "macro-expression", "emotion": "surprise"}
        event |= {"self_report": None, "action_units": ""}
        row = {"file_name": f"{subject}.mp4", "video_id": f"{subject}1", "subject_id": subject, "fps": 25.0}
        rows.append({**row, "num_frames": 100, "events": [event]})
    (folder / "metadata.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A tiny network of seven emotions that has learnt nothing, and that sees pixels."""
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    torch.manual_seed(0)
    changes = {"backbone_config": {**BACKBONE, "layer_type": "basic"}, "feature_size": 4, "image_size": 32}
    FednForFacialExpressionDetection(FednConfig(**{**MODEL, **changes})).save_pretrained(folder)
    FednVideoProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture
def tune(tmp_path, monkeypatch):
    """`tune(*arguments)` runs the script, with a cache of this test's own."""
    monkeypatch.setenv("FEDN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))

    def run(*arguments):
        words = [str(SCRIPT), *map(str, arguments), "--epochs", "1", "-o", str(tmp_path / "tuned")]
        monkeypatch.setattr(sys, "argv", words)
        runpy.run_path(str(SCRIPT), run_name="__main__")
        return tmp_path / "tuned" / "checkpoint"

    return run


def weights(folder):
    return FednForFacialExpressionDetection.from_pretrained(folder).state_dict()


def test_tuned_and_pushed(corpus, checkpoint, tune, hub, capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", HubServer.token)
    folder = tune(corpus, "--model", checkpoint, "--push", "user/tuned")
    check_checkpoint(folder)
    told = capsys.readouterr().out
    assert "before: F1 " in told and "fine-tuned: F1 " in told and f"{hub.url}/user/tuned/commit/" in told
    before, after = weights(checkpoint), weights(folder)
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed and not [name for name in changed if name.startswith("fedn.frame_encoder.backbone.")]
    assert "branches.logits.predict.weight" in changed
    card = (folder / "README.md").read_text()
    assert "my recordings" in card and "trained on" in card and "validated on" in card and str(checkpoint) in card
    assert "chose the threshold" in card, "the corpus has no test people"
    assert f"**Base model:** {checkpoint}" in card

    detect = load_pipeline("user/tuned", device="cpu")
    assert all(torch.equal(value, after[name]) for name, value in detect.model.state_dict().items())
    assert isinstance(detect(str(corpus / "a.mp4")), list)
    assert HfApi().model_info("user/tuned").sha == hub.repos["user/tuned"].at().sha


def test_other_emotions_begin_anew(corpus, checkpoint, tune, tmp_path):
    """A corpus of another scheme must say so; then all is kept but the layer that names emotions."""
    other = shutil.copytree(corpus, tmp_path / "other")
    table = other / "metadata.jsonl"
    table.write_text(table.read_text().replace('"surprise"', '"positive"'))
    with pytest.raises(SystemExit, match="not converted with --scheme emotion_7"):
        tune(other, "--model", checkpoint)
    folder = tune(other, "--model", checkpoint, "--scheme", "objective_4")
    config = FednConfig.from_pretrained(folder)
    assert list(config.id2label.values()) == ["positive", "negative", "surprise", "others"]
    assert (
        weights(folder)["branches.logits.predict.bias"].shape
        != weights(checkpoint)["branches.logits.predict.bias"].shape
    )


def test_what_cannot_be_tuned(checkpoint, tune, tmp_path):
    with pytest.raises(SystemExit, match="nothing: no converted corpus"):
        tune(tmp_path / "nothing", "--model", checkpoint)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit, match="empty: no converted corpus"):
        tune(tmp_path / "empty", "--model", checkpoint)
    with pytest.raises(SystemExit, match="no-such-network"):
        tune(tmp_path / "empty", "--model", tmp_path / "no-such-network")
    assert not (tmp_path / "tuned").exists()
