"""The backbone learns what muscles do, goes on where it was stopped, and is what recipes take."""

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from transformers import ResNetBackbone

from fedn_hf import FednConfig, FednVideoProcessor
from fedn_hf.data.cache import FeatureCache
from fedn_hf.training import Recipe, TrainingError, TrainingSettings
from fedn_hf.training.backbone import TARGETS, KnownFace, known_faces, train_backbone
from fedn_hf.training.inputs import make_model
from tests.clips import make

SIDE, FRAMES = 24, 60
PROCESSOR = FednVideoProcessor(size={"height": SIDE, "width": SIDE})
BACKBONE = {
    "model_type": "resnet",
    "layer_type": "basic",
    "embedding_size": 8,
    "hidden_sizes": [8, 8],
    "depths": [1, 1],
}
CONFIG = FednConfig(image_size=SIDE, backbone_config=BACKBONE, feature_size=8, hidden_size=16, num_attention_heads=2)
SETTINGS = TrainingSettings(epochs=4, batch_size=2, learning_rate=1e-2, warmup_epochs=0.5)


def face(number, split="train"):
    """A grey of its own, on which a bright square is as large as the first muscle is tense."""
    generator = np.random.default_rng(number)
    crops = np.full((FRAMES, SIDE, SIDE, 3), generator.integers(20, 90), np.uint8)
    targets = np.zeros((FRAMES, len(TARGETS)), np.float32)
    targets[:, 0] = generator.random(FRAMES)
    for frame, level in enumerate(targets[:, 0]):
        crops[frame, 4 : 4 + int(16 * level), 4:20] = 220
    mask = torch.ones(FRAMES, dtype=torch.bool)
    mask[:5] = False  # nothing is there, and nothing of it may be learnt
    return KnownFace(f"v{number}", split, torch.from_numpy(crops), mask, torch.from_numpy(targets), mask)


FACES = [*(face(n) for n in range(6)), face(6, "validation"), face(7, "validation")]


def test_people_never_seen_are_read(tmp_path):
    rows = train_backbone(FACES, CONFIG, PROCESSOR, SETTINGS, tmp_path)
    assert [row["correlation"]["AU1"] for row in rows if "correlation" in row][-1] > 0.8
    loaded = ResNetBackbone.from_pretrained(tmp_path / "backbone")
    recipe = Recipe.from_dict({"backbone": str(tmp_path / "backbone"), "model": {"heads": "joint"}})
    model = make_model(CONFIG, recipe)
    for name, value in model.fedn.frame_encoder.backbone.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name])


def test_going_on_is_as_if_it_had_not_been_stopped(tmp_path):
    class Stopped(Exception):
        pass

    def stop(step, artifact, **at):
        if at.get("completed") == 2 * (330 // 16):  # 6 videos of 55 frames, 16 frames a step: the end of an epoch
            raise Stopped

    whole = train_backbone(FACES, CONFIG, PROCESSOR, SETTINGS, tmp_path / "whole")
    with pytest.raises(Stopped):
        train_backbone(FACES, CONFIG, PROCESSOR, SETTINGS, tmp_path / "stopped", hook=stop)
    assert train_backbone(FACES, CONFIG, PROCESSOR, SETTINGS, tmp_path / "stopped") == whole


def test_another_run_and_too_few_people_are_named(tmp_path):
    with pytest.raises(TrainingError, match="and 1 train"):
        train_backbone(FACES[5:], CONFIG, PROCESSOR, SETTINGS, tmp_path)
    quick = TrainingSettings(epochs=1, batch_size=2)
    train_backbone(FACES, CONFIG, PROCESSOR, quick, tmp_path)
    with pytest.raises(TrainingError, match="another run"):
        train_backbone(FACES, CONFIG, PROCESSOR, SETTINGS, tmp_path)


def test_a_set_is_read_with_its_truth(tmp_path, astronaut):
    (tmp_path / "set" / "train" / "s000").mkdir(parents=True)
    (tmp_path / "set" / "truth").mkdir()
    config = FednConfig(image_size=SIDE, backbone_config=BACKBONE, feature_size=8)
    with pytest.raises(TrainingError, match="no synthetic videos"):
        known_faces(tmp_path / "set", config, PROCESSOR)
    picture = astronaut[:240, 80:320].numpy()
    video = tmp_path / "set" / "train" / "s000" / "s000_0.mkv"
    make(video, [n / 25 for n in range(10)], "ffv1", (240, 240), "bgr0", picture=lambda *_: picture)
    video.rename(video.with_suffix(".mp4"))
    with pytest.raises(TrainingError, match="nothing is known"):
        known_faces(tmp_path / "set", config, PROCESSOR)
    units = np.zeros((10, 25, 2), np.float16)
    units[:, 0] = (0.25, 0.04)
    known = {"action_units": units, "intensity": np.linspace(0, 1, 10).astype(np.float32)}
    known |= {"head_rotation_deg": np.full((10, 3), 20, np.float16), "gaze_deg": np.zeros((10, 2), np.float16)}
    save_file(known, tmp_path / "set" / "truth" / "s000_0.safetensors")
    [read] = known_faces(tmp_path / "set", config, PROCESSOR, cache=FeatureCache(tmp_path / "cache"))
    assert (read.video_id, read.split, len(read.crops)) == ("s000_0", "train", 12)  # at 30 a second
    assert abs(float(read.targets[3, 0]) - 0.5) < 1e-3 and abs(float(read.targets[3, 25]) - 2.0) < 1e-3
    assert read.is_moving.tolist() == [False, *[True] * 11]
