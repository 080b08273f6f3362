"""The face networks answer as the published files do."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fedn_hf.face_nets_fedn import load_face_net
from fedn_hf.media_fedn import FednError
from tests.conftest import DATA
from tests.data.make_face_nets_reference import inputs

NAMES = ["blazeface_short_range", "blazeface_full_range", "facemesh468"]


@pytest.mark.parametrize("name", NAMES)
def test_same_answers_as_litert(name):
    reference = np.load(DATA / "face_nets_reference.npz")
    image = torch.from_numpy(np.ascontiguousarray(inputs()[name])).permute(2, 0, 1)[None]
    with torch.inference_mode():
        values, logits = load_face_net(name)(image)
    values, logits = values[0].numpy(), logits.reshape(-1).numpy()
    if name != "facemesh468":
        anchors = reference[f"{name}.anchors"]
        values, logits = values[anchors], logits[anchors]
    assert np.abs(values - reference[f"{name}.values"]).max() < 5e-4
    assert np.abs(logits - reference[f"{name}.logits"]).max() < 5e-4


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_answers_like_single_images(name):
    net = load_face_net(name)
    images = torch.rand(3, 3, net.input_size, net.input_size)
    with torch.inference_mode():
        together = net(images)
        alone = [net(image[None]) for image in images]
    for batched, single in zip(together, zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(batched, torch.cat(single), atol=2e-4, rtol=1e-4)


def test_nothing_is_trained():
    assert not any(p.requires_grad for name in NAMES for p in load_face_net(name).parameters())


def test_an_unknown_network_is_named():
    with pytest.raises(ValueError, match=r"unknown face network 'retinaface'.*facemesh468"):
        load_face_net("retinaface")


def test_missing_or_foreign_weights_say_so(tmp_path):
    with pytest.raises(FednError, match=r"absent\.safetensors: the face networks' weights are missing"):
        load_face_net("facemesh468", weights=tmp_path / "absent.safetensors")
    save_file({"facemesh468.stem.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"\x00" * 100)
    for name in ("other", "broken"):
        with pytest.raises(FednError, match=rf"{name}\.safetensors: not the weights of facemesh468"):
            load_face_net("facemesh468", weights=tmp_path / f"{name}.safetensors")
