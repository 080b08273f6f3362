"""Crops become what the network was trained on, and the settings travel with it."""

import json

import numpy as np
import pytest
import torch
from transformers.models.auto.video_processing_auto import AutoVideoProcessor

from fedn_hf import FednConfig, FednError, FednForFacialExpressionDetection, FednVideoProcessor
from fedn_hf.face_nets_fedn import FACE_NETS


def crops(frames=6, size=112, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (frames, size, size, 3), np.uint8)


def pixels(videos, **settings) -> torch.Tensor:
    return FednVideoProcessor(**settings)(videos, return_tensors="pt")["pixel_values"]


def test_the_formula():
    video = crops()
    expected = (video / 255 - FednVideoProcessor.image_mean) / FednVideoProcessor.image_std
    torch.testing.assert_close(pixels(video)[0], torch.from_numpy(expected).permute(0, 3, 1, 2).float())
    assert pixels(video).dtype == torch.float32
    assert torch.equal(
        pixels(video, do_normalize=False, do_rescale=False)[0, 0, 0].byte(), torch.from_numpy(video[0, ..., 0])
    )


def test_every_way_to_hand_crops_over():
    video = crops()
    expected = pixels(video)
    tensor = torch.from_numpy(video)
    for same in ([video], tensor, tensor.permute(0, 3, 1, 2), tensor[None], list(video), list(tensor), [tensor]):
        assert torch.equal(pixels(same), expected)


def test_videos_of_different_length_are_filled_up():
    inputs = FednVideoProcessor()([crops(6), crops(2)], return_tensors="pt")
    assert inputs["frame_mask"].tolist() == [[True] * 6, [True] * 2 + [False] * 4]
    assert torch.equal(inputs["pixel_values"][1, :2], pixels(crops(2))[0])
    model = FednForFacialExpressionDetection(FednConfig.preset("compact")).eval()
    assert model(**inputs).boundaries.shape[0] == 2  # keys are the network's


def test_other_sizes_are_resampled_with_a_filter():
    fine = np.zeros((1, 224, 224, 3), np.uint8)
    fine[:, ::2] = 255  # stripes of one pixel become grey, not moire
    grey = pixels(fine, do_rescale=False, do_normalize=False)
    assert grey.shape[-2:] == (112, 112)
    assert ((grey - 127.5).abs() < 20).all()


def test_grey_crops_have_three_equal_channels():
    grey = pixels(crops(), do_grayscale=True, do_rescale=False, do_normalize=False)
    assert torch.equal(grey[:, :, 0], grey[:, :, 2])
    assert (grey[0, :, 0] - torch.from_numpy(crops() @ np.array([0.299, 0.587, 0.114]))).abs().max() < 0.501


def test_saved_settings_come_back_with_the_face_networks(tmp_path):
    processor = FednVideoProcessor(size={"height": 64, "width": 64}, margin=0.25, do_grayscale=True)
    processor.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "video_preprocessor_config.json").read_text())
    assert (saved["size"], saved["margin"], saved["do_grayscale"]) == ({"height": 64, "width": 64}, 0.25, True)
    assert not any(str(tmp_path) in str(value) or "face_nets" in name for name, value in saved.items())
    assert (tmp_path / "face_nets.safetensors").read_bytes() == FACE_NETS.read_bytes()
    FednConfig().save_pretrained(tmp_path)
    for loaded in (FednVideoProcessor.from_pretrained(tmp_path), AutoVideoProcessor.from_pretrained(tmp_path)):
        assert loaded.to_dict() == processor.to_dict()
        assert loaded.face_nets == tmp_path / "face_nets.safetensors"
    loaded.save_pretrained(tmp_path)  # over itself
    assert (tmp_path / "face_nets.safetensors").read_bytes() == FACE_NETS.read_bytes()


def test_a_checkpoint_without_face_networks_uses_the_packages(tmp_path):
    FednVideoProcessor().save_pretrained(tmp_path)
    (tmp_path / "face_nets.safetensors").unlink()
    processor = FednVideoProcessor.from_pretrained(tmp_path)
    assert processor.face_nets == FACE_NETS
    processor.face_nets = tmp_path / "gone.safetensors"
    with pytest.raises(FednError, match=r"gone\.safetensors: the face networks' weights are missing"):
        processor.save_pretrained(tmp_path / "other")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (crops().astype(np.float32), r"crops must be uint8 of shape \(frames, size, size, 3\), got float32 of shape"),
        (crops()[..., :2], r"got uint8 of shape \(6, 112, 112, 2\)"),
        (crops()[0], r"got uint8 of shape \(112, 112, 3\)"),
        ([], r"got list of shape \(0,\)"),
        ("clip.mp4", "crops must be uint8"),
    ],
)
def test_other_things_than_crops_are_named(given, message):
    with pytest.raises(ValueError, match=message):
        FednVideoProcessor()(given)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"margin": -1}, "margin must be a part"), ({"size": {"height": 64, "width": 48}}, "size must be a square")],
)
def test_settings_that_make_no_crops_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        FednVideoProcessor(**settings)


def test_unknown_settings_are_refused():
    with pytest.raises(TypeError, match="marginn"):
        FednVideoProcessor()(crops(), marginn=3)
