"""Loading a checkpoint: none is taken that is damaged, incomplete or could run something."""

import os
import pickle

import pytest
import torch

from fedn_hf import FednError
from fedn_hf.hub import CheckpointError
from fedn_hf.loading import load_pipeline
from tests.test_cli import DEMO, fedn


class _Pickled:
    """Leaves a file where it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.skipif(torch.accelerator.is_available(), reason="needs a machine without a GPU")
@pytest.mark.parametrize("device", [0, "cuda:0", torch.device("cuda")])
def test_a_gpu_that_is_not_there_is_no_cpu(checkpoint, device):
    with pytest.raises(FednError, match=r'device "(0|cuda|cuda:0)" cannot be used here; there is cpu'):
        load_pipeline(checkpoint, device=device)


def test_pickled_weights_are_refused_and_not_opened(checkpoint, tmp_path):
    folder, witness = _copy(checkpoint, tmp_path, without="model.safetensors"), tmp_path / "executed"
    torch.save({"weight": _Pickled(witness)}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"also holds model\.safetensors, the only kind"):
        load_pipeline(folder)
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(_Pickled(witness)))
    ran = fedn("detect", DEMO, "--model", folder)
    assert ran.exit_code == 1 and not witness.exists()


def test_code_in_a_checkpoint_does_not_run(checkpoint, tmp_path):
    folder, witness = _copy(checkpoint, tmp_path), tmp_path / "executed"
    for path in folder.glob("*.py"):
        path.write_text(f"import os; os.mkdir({str(witness)!r})")
    assert type(load_pipeline(folder)).__module__ == "fedn_hf.pipeline_fedn" and not witness.exists()


def test_weights_that_lack_something_are_not_made_up(checkpoint, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = _copy(checkpoint, tmp_path)
    weights = load_file(folder / "model.safetensors")
    weights.pop("branches.confidence.predict.weight")
    weights["branches.logits.predict.weight"] = torch.zeros(3, 3)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"2 of the weights .* such as branches\.confidence\.predict\.weight"):
        load_pipeline(folder)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("config.json", '{"model_type": "detr"}', 'a model of type "fedn" is needed, this is "detr"'),
        ("config.json", "{", "not a valid JSON file"),
        ("model.safetensors", "x", "its weights are damaged"),
        ("video_preprocessor_config.json", None, "also holds video_preprocessor_config.json"),
        ("config.json", None, "also holds config.json"),
    ],
)
def test_folders_that_are_no_checkpoint(file, content, words, checkpoint, tmp_path):
    folder = _copy(checkpoint, tmp_path, without=file)
    if content is not None:
        (folder / file).write_text(content)
    with pytest.raises(CheckpointError) as caught:
        load_pipeline(folder)
    assert words in str(caught.value) and str(caught.value).startswith(f"{folder}: ") and "\n" not in str(caught.value)


def _copy(checkpoint, tmp_path, without=None):
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in checkpoint.iterdir():
        if path.name != without:
            (folder / path.name).write_bytes(path.read_bytes())
    return folder
