"""Two processes train as one with twice the batch, whole or shared out, and count nothing twice."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fedn_hf import FednVideoProcessor
from fedn_hf.training import TrainingError, train
from tests import training_sets as small
from tests.test_training import crops

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = {"epochs": 3, "positive_fraction": 1.0, "learning_rate": 1e-3}
SCRIPT = """
import sys
from pathlib import Path
import torch
from tests import training_sets as small
from tests.test_training_processes import SETTINGS
from fedn_hf.training import train

torch.set_num_threads(1)
parts = small.sequences(small.rows(6))
settings = small.settings(**SETTINGS, batch_size=3)
for folder in sys.argv[1:]:  # a second training finds the processes still together
    train(small.model(dropout=0.0), parts[:5], settings, folder, validation=parts[5:])
"""

# A backbone without batch norms, whose statistics are each process's own.
BACKBONE = {"model_type": "dinov2", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
BACKBONE |= {"mlp_ratio": 2, "image_size": 16, "patch_size": 4, "reshape_hidden_states": True}
PIXELS = """
import shutil
import sys
from pathlib import Path
import torch
from accelerate import PartialState
from tests.test_training_processes import train_from_pixels

torch.set_num_threads(1)
folder = Path(sys.argv[1])
train_from_pixels(folder / "whole", batch_size=2)
train_from_pixels(folder / "shared", batch_size=2, shard=True, keep_checkpoints=2)
if PartialState().is_main_process:  # as if it had been stopped in the last epoch
    shutil.copy(folder / "shared" / "log.jsonl", folder / "unbroken.jsonl")
    shutil.rmtree((folder / "shared" / "latest").resolve())
PartialState().wait_for_everyone()
train_from_pixels(folder / "shared", batch_size=2, shard=True, keep_checkpoints=2)
"""


def train_from_pixels(folder, **settings):
    model = small.model(backbone_config=BACKBONE, feature_size=16, freeze_backbone=False, dropout=0.0)
    people = [replace(crops(), video_id=f"v{number}", subject_id=f"s{number}") for number in range(6)]
    settings = small.settings(**SETTINGS, **settings)
    processor = FednVideoProcessor(size={"height": 16, "width": 16})
    return train(model, people[:4], settings, folder, validation=people[4:], video_processor=processor).log


def launch(folder, script, *arguments):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "script.py").write_text(script)
    # `accelerate launch --cpu` starts one process unless there is MPI. The launcher for GPUs starts any, and the
    # variable below keeps them on the CPU, with gloo between them.
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    command += ["--main_process_port", str(port), folder / "script.py", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    environment["ACCELERATE_USE_CPU"] = "true"
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert ran.returncode == 0, ran.stderr[-3000:]


def assert_alike(first, second):
    assert [row["step"] for row in first] == [row["step"] for row in second]
    for name in ("loss", "confidence", "grad_norm", "validation_loss", "validation_f1"):
        values = [[row[name] for row in log if name in row] for log in (first, second)]
        assert values[0] == pytest.approx(values[1], rel=2e-4), name


def test_two_processes_are_one_with_twice_the_batch(tmp_path):
    parts = small.sequences(small.rows(6))
    settings = small.settings(**SETTINGS, batch_size=6)
    one = train(small.model(dropout=0.0), parts[:5], settings, tmp_path / "one", validation=parts[5:]).log
    launch(tmp_path, SCRIPT, tmp_path / "run", tmp_path / "again")
    first, second = ((tmp_path / run / "log.jsonl").read_text() for run in ("run", "again"))
    assert first == second
    assert_alike(one, [json.loads(line) for line in first.splitlines()])


@pytest.mark.slow
@pytest.mark.skipif(
    "FEDN_TEST_SHARDING" not in os.environ,
    reason="now and then one of two CPU processes fails or waits for ever; FEDN_TEST_SHARDING=1 runs it",
)
def test_a_network_that_is_shared_out_trains_as_a_whole_one(tmp_path):
    """And goes on, and leaves a checkpoint with the same weights, as if it had never been shared out."""
    one = train_from_pixels(tmp_path / "one", batch_size=4)
    launch(tmp_path, PIXELS, tmp_path)
    unbroken = (tmp_path / "unbroken.jsonl").read_text()
    assert (tmp_path / "shared" / "log.jsonl").read_text() == unbroken
    for log in (unbroken, (tmp_path / "whole" / "log.jsonl").read_text()):
        assert_alike(one, [json.loads(line) for line in log.splitlines()])
    ours, theirs = (load_file(tmp_path / run / "latest" / "model.safetensors") for run in ("one", "shared"))
    assert ours.keys() == theirs.keys()
    counted = "loss_normalizer"  # of a process's own batch
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-4) for name in ours if name != counted)


def test_what_needs_processes_is_refused_without(tmp_path):
    with pytest.raises(TrainingError, match="shard needs two or more processes, got 1"):
        train(small.model(), small.sequences(), small.settings(shard=True), tmp_path)
    with pytest.raises(TrainingError, match=r"shard and training\.compile cannot both"):
        small.settings(shard=True, compile=True)
