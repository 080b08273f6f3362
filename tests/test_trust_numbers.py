"""Results that can be made again, and numbers that no network should see: defined results or clear errors."""

import shutil
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fedn_hf import FednConfig, FednError, FednForFacialExpressionDetection, default_checkpoint, load_pipeline
from fedn_hf.hub import CheckpointError

CLIP = Path(__file__).resolve().parents[1] / "examples" / "media" / "synthetic.mp4"


@pytest.fixture(scope="module")
def detect():
    torch.set_num_threads(1)
    return load_pipeline(device="cpu")


def numbers_of(raw):
    """Everything that the network said, as tensors by name."""
    found = {"time_s": raw.time_s, "native_frame": raw.native_frame}
    for place, face in enumerate(raw.faces):
        found |= {f"{place}.{name}": values for name, values in face.proposals.to_dict().items()}
        found |= {f"{place}.{name}": getattr(face, name) for name in ("mask", "confidence", "face_size_px", "fit")}
    return found


def test_twice_the_same_to_the_bit_and_with_other_threads_nearly(detect):
    first, second = (detect(str(CLIP), end_s=1.0, return_raw=True) for _ in range(2))
    assert first.describe() == second.describe()
    assert all(torch.equal(one, numbers_of(second)[name]) for name, one in numbers_of(first).items())
    torch.set_num_threads(2)
    other = detect(str(CLIP), end_s=1.0, return_raw=True)
    for name, values in numbers_of(first).items():
        torch.testing.assert_close(values, numbers_of(other)[name], rtol=1e-3, atol=1e-3)
    assert (first.provenance["threads"], other.provenance["threads"]) == (1, 2)
    assert first.provenance["av"] == av.__version__ and first.provenance["torch"] == torch.__version__


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_named(value, tmp_path):
    folder = shutil.copytree(default_checkpoint(), tmp_path / "broken")
    weights = load_file(folder / "model.safetensors")
    name = next(name for name, values in weights.items() if values.is_floating_point() and values.ndim > 1)
    weights[name][0, 0] = value
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=f"1 of its weights hold NaN or infinity, such as {name}"):
        load_pipeline(folder)


def test_numbers_that_grow_too_large_for_half_precision_are_said():
    torch.manual_seed(0)
    network = FednForFacialExpressionDetection(FednConfig(backbone_config=None)).eval()
    assert len(network.detect_from_features(torch.randn(64, 512)).boundaries)
    with torch.no_grad():
        network.fedn.embedding.projection.weight.mul_(1e6)
    with pytest.raises(FednError, match=r"NaN\) in torch.float16: .* load it in torch.float32"):
        network.half().detect_from_features(torch.randn(64, 512).half())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_features_that_are_no_numbers_are_quoted(bad):
    network = FednForFacialExpressionDetection(FednConfig(backbone_config=None)).eval()
    features = torch.randn(64, 512)
    features[7, 3] = bad
    with pytest.raises(ValueError, match=rf"frame_features must be finite where frame_mask is true, got {bad} at"):
        network.detect_from_features(features)


def test_one_frame_and_no_face_have_results(detect, astronaut):
    for frames in (np.zeros((1, 96, 128, 3), np.uint8), astronaut.numpy()[None]):
        raw = detect(frames, fps=30.0, return_raw=True)
        described = raw.describe(score_threshold=0.0)
        assert len(raw.time_s) == 1 and len(raw.faces) == (frames.max() > 0)
        assert all(row["onset_frame"] == row["offset_frame"] == 0 for row in described["intervals"])
