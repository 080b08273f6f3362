"""What all tests share: one torch thread, fixed seeds, pictures and clips, and word of transformers' own suite."""

import functools
import logging
import os
from collections import Counter
from pathlib import Path

import av
import pytest
import torch
from transformers import pipeline

from fedn_hf import FednConfig, FednForFacialExpressionDetection, FednVideoProcessor
from fedn_hf.pipeline_fedn import TASK
from tests.clips import CLIPS, make
from tests.hub_server import HubServer

DATA = Path(__file__).resolve().parent / "data"
DEMO = Path(__file__).resolve().parents[1] / "fedn_hf" / "assets" / "demo.mp4"
SHARED = Path(os.environ.get("FEDN_SHARED", Path(__file__).resolve().parents[2] / "shared"))

# Marks on transformers' own tests, see test_transformers_suite.py.
THEIR_MARKS = ("accelerate_tests", "flash_attn_test", "flash_attn_3_test", "flash_attn_4_test", "torch_compile_test")
COUNTED = ("passed", "skipped", "failed")


@pytest.fixture(autouse=True)
def _same_every_time():
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _loud_again():
    """The command silences libraries for the life of its process, which here is that of other tests as well."""
    loggers = [logging.getLogger(name) for name in ("fedn_hf", "huggingface_hub", "transformers")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.fixture(scope="session")
def astronaut() -> torch.Tensor:
    """The public-domain portrait, (512, 512, 3) uint8; one face of about 120 pixels height."""
    with av.open(str(DATA / "astronaut.png")) as picture:
        return torch.from_numpy(next(picture.decode(video=0)).to_ndarray(format="rgb24"))


@pytest.fixture(scope="session")
def real_clip():
    """Path of a clip by name; clips of real people are not part of the project, so tests that need one may skip."""

    def find(name: str) -> Path:
        path = SHARED / "real_clips" / name
        if not path.exists():
            pytest.skip(f"{name} is not there: set FEDN_SHARED to the folder that holds real_clips")
        return path

    return find


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    """`clip(name)` is the path of that clip of `tests.clips.CLIPS`, made when first asked for."""
    folder = tmp_path_factory.mktemp("clips")
    return functools.cache(lambda name: str(make(folder / name, **CLIPS[name])))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A folder with a small network that has learned nothing."""
    folder = tmp_path_factory.mktemp("checkpoint")
    torch.manual_seed(0)
    model = FednForFacialExpressionDetection(FednConfig.preset("compact"))
    pipeline(TASK, model=model, video_processor=FednVideoProcessor()).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def short(tmp_path_factory):
    """The first half second of the bundled clip."""
    path = tmp_path_factory.mktemp("short") / "short.mp4"
    with av.open(str(DEMO)) as source:
        frames = [
            frame.to_ndarray(format="rgb24") for _, frame in zip(range(15), source.decode(video=0), strict=False)
        ]
    size = frames[0].shape[1::-1]
    return make(path, times=[n / 25 for n in range(15)], size=size, picture=lambda number, *size: frames[number])


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A Hub of this test's own, with nothing in it; the client of this process talks to it and has an empty cache."""
    with HubServer() as server:
        server.redirect(monkeypatch, tmp_path / "hf_home")
        yield server


def pytest_configure(config):
    for mark in THEIR_MARKS:
        config.addinivalue_line("markers", f"{mark}: set by transformers' test suite")


def pytest_terminal_summary(terminalreporter):
    """Say how transformers' own test suite went, and loudly so if it did not run."""
    counts, absent = Counter(), []
    for outcome, reports in terminalreporter.stats.items():
        for report in reports:
            if "test_transformers_suite.py" in getattr(report, "nodeid", "") and outcome in COUNTED:
                counts[outcome] += report.when == "call" or outcome == "skipped"
                absent += [report] if "could not be fetched" in str(report.longrepr) else []
    if absent:
        terminalreporter.write_sep("!", "transformers' own test suite DID NOT RUN: it could not be fetched", red=True)
    elif counts:
        summary = ", ".join(f"{counts[outcome]} {outcome}" for outcome in COUNTED)
        terminalreporter.write_sep("=", f"transformers' own test suite: {summary}")
