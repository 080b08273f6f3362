"""What can be switched on around the loop: determinism, compilation, trackers, and a look at where the time goes."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers

from ..modeling_fedn import FednForFacialExpressionDetection
from .settings import TrainingError, TrainingSettings

TRACE, TABLE = "profile.json", "profile.txt"


@contextlib.contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Only operations that give the same bits every time; what was set before is set again afterwards."""
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]


def compiled(model: FednForFacialExpressionDetection) -> None:
    """Compile the parts that do the work, in place. The loss looks at its labels one by one and stays as it is."""
    model.fedn.compile()
    for branch in model.branches.values():
        branch.compile()


def check_trackers(settings: TrainingSettings) -> None:
    """
    The library leaves trackers that are not installed out in silence.

    Raises:
        TrainingError: a tracker that is not installed.
    """
    installed = [str(name) for name in get_available_trackers()]
    for name in settings.trackers:
        if name not in installed:
            raise TrainingError(f"training.trackers: {name} is not installed: pip install {name}")


def start_trackers(accelerator: Accelerator, settings: TrainingSettings) -> None:
    """Begin a run in every tracker that is asked for."""
    if settings.trackers:
        plain = {name: v if isinstance(v, (int, float, str)) else str(v) for name, v in settings.to_dict().items()}
        accelerator.init_trackers("fedn_hf", config=plain)


@contextlib.contextmanager
def profiler(wanted: bool, folder: Path) -> Iterator[Any]:
    """
    Something whose `step` is to be called after every step. If wanted, three steps after two are written down, as
    `profile.json` (for chrome://tracing) and as the table `profile.txt`.
    """

    class Nothing:
        def step(self) -> None:
            pass

    if not wanted:
        yield Nothing()
        return

    def write(profile: torch.profiler.profile) -> None:
        profile.export_chrome_trace(str(folder / TRACE))
        table = profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=40)
        (folder / TABLE).write_text(table, encoding="utf-8")

    schedule = torch.profiler.schedule(wait=1, warmup=1, active=3, repeat=1)
    with torch.profiler.profile(schedule=schedule, on_trace_ready=write, profile_memory=True) as profile:
        yield profile


__all__ = ["check_trackers", "compiled", "deterministic", "profiler", "start_trackers"]
