"""Two processes train as one with twice the batch, and count nothing twice."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fedn_hf.training import train
from tests import training_sets as small

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


def launch(folder):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "script.py").write_text(SCRIPT)
    # `accelerate launch --cpu` starts one process unless there is MPI. The launcher for GPUs starts any, and the
    # variable below keeps them on the CPU, with gloo between them.
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    command += ["--main_process_port", str(port), folder / "script.py", folder / "run", folder / "again"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    environment["ACCELERATE_USE_CPU"] = "true"
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return [(folder / run / "log.jsonl").read_text() for run in ("run", "again")]


def test_two_processes_are_one_with_twice_the_batch(tmp_path):
    parts = small.sequences(small.rows(6))
    settings = small.settings(**SETTINGS, batch_size=6)
    one = train(small.model(dropout=0.0), parts[:5], settings, tmp_path / "one", validation=parts[5:]).log
    first, second = launch(tmp_path)
    assert first == second
    two = [json.loads(line) for line in first.splitlines()]
    assert [row["step"] for row in one] == [row["step"] for row in two]
    for name in ("loss", "confidence", "grad_norm", "validation_loss", "validation_f1"):
        values = [[row[name] for row in log if name in row] for log in (one, two)]
        assert values[0] == pytest.approx(values[1], rel=2e-4), name
