"""Files that would take the whole process down cost themselves, and the next one is read as if nothing had been."""

import os
import re
import signal
import time
from pathlib import Path

import pytest
import torch

from fedn_hf import MediaError, load_pipeline
from fedn_hf.sandbox import Sandbox, SandboxLimits

CLIP = Path(__file__).resolve().parents[1] / "examples" / "media" / "synthetic.mp4"
SECOND = {"end_s": 1.0}


def hit(sandbox, number):
    """A hook that sends a signal to the process that reads, at its first step."""

    def hook(*args, **kwargs):
        os.kill(sandbox._process.pid, number)

    return hook


def test_the_same_as_without_and_a_crash_costs_one_file():
    torch.set_num_threads(1)
    expected = load_pipeline(device="cpu")(str(CLIP), return_raw=True, **SECOND).describe()
    with Sandbox(device="cpu", threads=1) as detect:
        assert detect(CLIP, **SECOND).describe() == expected
        with pytest.raises(MediaError, match="no such file"):
            detect("missing.mp4")
        with pytest.raises(ValueError, match="faces must be"):
            detect(CLIP, faces="both")
        first = detect._process
        with pytest.raises(MediaError, match=re.escape(f"{CLIP}: the process that read it crashed (SIGSEGV)")):
            detect(CLIP, hook=hit(detect, signal.SIGSEGV))
        assert detect(CLIP, **SECOND).describe() == expected
        assert first.returncode == -signal.SIGSEGV and detect._process is not first
        last = detect._process
    assert last.returncode is not None


@pytest.mark.slow  # each starts a process, which imports torch
@pytest.mark.parametrize(
    ("limits", "number", "words"),
    [
        (SandboxLimits(silence_s=3.0), signal.SIGSTOP, "nothing got done in 3 s"),
        (SandboxLimits(memory_bytes=30 * 2**20), None, "more than 0.0293 GiB of memory"),
        (SandboxLimits(cpu_s=1.0), None, "more than 1 s of CPU time"),
        (SandboxLimits(), signal.SIGKILL, r"was killed \(SIGKILL\)"),
        (SandboxLimits(), signal.SIGABRT, r"crashed \(SIGABRT\)"),
    ],
)
def test_every_limit_costs_one_file(limits, number, words):
    with Sandbox(device="cpu", threads=1, limits=limits) as detect:
        with pytest.raises(MediaError, match=words):
            detect(CLIP, hook=None if number is None else hit(detect, number))
        with pytest.raises(MediaError, match="no such file"):
            detect("missing.mp4")


@pytest.mark.slow
def test_the_child_ends_with_its_parent():
    reading, writing = os.pipe()
    parent = os.fork()
    if parent == 0:
        sandbox = Sandbox(device="cpu", threads=1)
        os.write(writing, str(sandbox._process.pid).encode())
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(parent, 0)
    child = int(os.read(reading, 20))
    for _ in range(100):
        if not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2]:
            return
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    pytest.fail("it is still there after ten seconds")
