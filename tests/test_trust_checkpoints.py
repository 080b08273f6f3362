"""Checkpoints from the internet: pickles, headers and configurations that were made to do harm."""

import json
import pickle
import re
import resource
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

import dataset_scripts
import fedn_hf
from fedn_hf import FednConfig, FednForFacialExpressionDetection, FednVideoProcessor, load_pipeline
from fedn_hf.hub import CheckpointError

PACKAGES = [Path(package.__file__).parent for package in (fedn_hf, dataset_scripts)]
SMALL = {"num_landmarks": 468, "feature_size": 0, "backbone_config": None, "hidden_size": 16, "num_attention_heads": 2}


@pytest.fixture
def checkpoint(tmp_path):
    """A folder with a small network."""
    folder = tmp_path / "checkpoint"
    FednForFacialExpressionDetection(FednConfig(**SMALL)).save_pretrained(folder)
    FednVideoProcessor().save_pretrained(folder)
    return folder


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def bomb(path, kind, target):
    if kind == "torch":
        torch.save({"weights": Bomb(target)}, path)
    else:
        path.write_bytes(pickle.dumps(Bomb(target)))


@pytest.mark.parametrize("kind", ["torch", "pickle"])
@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "pytorch_model.pt", "model.safetensors"])
def test_a_pickle_that_would_write_a_file_writes_none(checkpoint, tmp_path, name, kind):
    (checkpoint / "model.safetensors").unlink()
    bomb(checkpoint / name, kind, tmp_path / "harm")
    with pytest.raises(CheckpointError):
        load_pipeline(checkpoint)
    for network in (FednForFacialExpressionDetection, fedn_hf.FednModel):
        with pytest.raises((OSError, ValueError, SafetensorError)):
            network.from_pretrained(checkpoint)
    assert not (tmp_path / "harm").exists()
    with open(checkpoint / name, "rb") as file:  # that it would have
        torch.load(file, weights_only=False) if kind == "torch" else pickle.load(file)
    assert (tmp_path / "harm").exists()


# What can run code that lies in a file; `allow_pickle=False` and the names that `hub` refuses are none.
PICKLES = "pickle|cPickle|dill|joblib|shelve|marshal"
RUNS_CODE = re.compile(
    rf"\b({PICKLES})\.(load|loads|Unpickler)\b|^\s*(import|from) ({PICKLES})\b|torch\.load\(|allow_pickle=True"
    r"|weights_only=False|yaml\.(load|unsafe_load|full_load)\(|trust_remote_code=True|\b(?<!\.)(eval|exec)\("
    r"|read_pickle|os\.system\(|shell=True",
    re.MULTILINE,
)


def test_nothing_in_the_package_unpickles_or_runs_what_it_reads():
    files = [path for package in PACKAGES for path in package.rglob("*.py")]
    found = {
        f"{path.name}: {match[0].strip()}" for path in files for match in RUNS_CODE.finditer(path.read_text("utf-8"))
    }
    assert len(files) > 100 and found == set()
    assert RUNS_CODE.search("import pickle") and RUNS_CODE.search("x = torch.load(path)")  # the test can fail


def changed_header(path, change):
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    size = change(header)
    header = json.dumps(header).encode()
    path.write_bytes(
        (size or len(header)).to_bytes(8, "little") + header + data[8 + int.from_bytes(data[:8], "little") :]
    )


def first(header):
    return header[next(name for name in header if name != "__metadata__")]


@pytest.mark.parametrize(
    "change",
    [
        lambda header: 2**63,  # the header says that it is this long
        lambda header: 2**40,
        lambda header: first(header).update(shape=[10**9, 10**9]),
        lambda header: first(header).update(shape=[2**32, 2**32]),  # whose product is 0 in 64 bits
        lambda header: first(header).update(data_offsets=[0, 2**60]),
        lambda header: first(header).update(dtype="F4096"),
        lambda header: first(header).update(shape=[*first(header)["shape"], 1]),
        lambda header: header.pop(next(name for name in header if name != "__metadata__")) and None,
        lambda header: header.update({f"x{n}": first(header) for n in range(10**4)}),
    ],
)
def test_headers_that_lie_are_refused_before_memory_is_spent(checkpoint, change):
    changed_header(checkpoint / "model.safetensors", change)
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match="weights"):
        load_pipeline(checkpoint)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 100_000


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_size": 10**12},
        {"hidden_size": 4096, "num_attention_heads": 1, "num_head_layers": 64},
        {"num_landmarks": 10**9},
        {"image_size": 10**6},
        {"window_size": 2**50},
        {"id2label": {str(n): str(n) for n in range(10**5)}},
        {"backbone_config": {"model_type": "resnet", "depths": [10**8]}},
        {
            "backbone_config": {"model_type": "vit", "hidden_size": 2**20, "num_attention_heads": 1},
            "feature_size": 512,
        },
    ],
)
def test_configurations_that_ask_for_too_much_fail_before_memory_is_spent(checkpoint, change):
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps({**config, **change}))
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError):
        load_pipeline(checkpoint)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 200_000


def test_code_of_a_checkpoint_is_asked_about_and_never_runs_by_itself(checkpoint, tmp_path):
    config = json.loads((checkpoint / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "harm.Config", "AutoModelForObjectDetection": "harm.Model"}
    (checkpoint / "config.json").write_text(json.dumps(config))
    (checkpoint / "harm.py").write_text(f"open({str(tmp_path / 'harm')!r}, 'w')\n")
    load_pipeline(checkpoint, device="cpu")
    assert not (tmp_path / "harm").exists()


def test_the_revision_stands_in_the_result(checkpoint):
    from fedn_hf.pipeline_fedn import DEFAULT_NAME

    clip = torch.zeros(3, 48, 64, 3, dtype=torch.uint8)
    default = load_pipeline(device="cpu")(clip, fps=30, return_raw=True)
    assert (default.provenance["model"], default.provenance["revision"]) == (DEFAULT_NAME, fedn_hf.__version__)
    copy = shutil.copytree(checkpoint, checkpoint.with_name("copy"))
    found = load_pipeline(copy, device="cpu")(clip, fps=30, return_raw=True).provenance
    assert found["model"] == str(copy) and "revision" in found
