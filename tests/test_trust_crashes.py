"""Writers that are killed, meet each other, or meet a disk that is full or read-only: what was there stays."""

import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from fedn_hf import FednConfig, FednForFacialExpressionDetection, exporters
from fedn_hf.data.cache import FeatureCache, VideoFeatures
from fedn_hf.files_fedn import replacing
from fedn_hf.media_fedn import FednError
from fedn_hf.overlay import render
from fedn_hf.results_fedn import FednDetections
from fedn_hf.training.checkpoints import Checkpoints, TrainingState
from fedn_hf.video_io_fedn import VideoReader
from tests import clips, results

FORK = multiprocessing.get_context("fork")
# Whatever is done with files passes by here: places to be killed at.
DEEDS = {"open", "os.rename", "os.remove", "os.mkdir", "os.symlink", "os.rmdir", "shutil.rmtree"}
ENDS = {"png": b"IEND\xaeB`\x82", "svg": b"</svg>", "html": b"</html>"}
SMALL = {"num_landmarks": 468, "feature_size": 0, "backbone_config": None, "hidden_size": 16, "num_attention_heads": 2}


class Annotations:
    """Files of one format: an annotation with one or two expressions."""

    def __init__(self, folder, name):
        self.folder, self.name, self.path = folder, name, folder / f"a{exporters.FORMATS[name].suffix}"

    def write(self, version):
        events = [results.event(10 * n, 10 * n + 4, 10 * n + 8) for n in range(version)]
        results.annotation(events, 2.0, "a.mp4").write(self.path, self.name)

    def version(self):
        if self.name in ENDS:
            content = self.path.read_bytes().rstrip()
            assert content.endswith(ENDS[self.name])
            return None
        return len(exporters.read(self.path)[0])


class Raw:
    """Raw detections of one or two frames."""

    def __init__(self, folder):
        self.folder, self.path = folder, folder / "a.raw.safetensors"

    def write(self, version):
        times = torch.arange(version) / 30.0
        names = ([], ["macro-expression", "micro-expression"], 0.1, {})
        FednDetections({"path": "a.mp4"}, *names, times, torch.arange(version), []).save(self.path)

    def version(self):
        return len(FednDetections.load(self.path).time_s)


class Training:
    """The checkpoints of a run."""

    def __init__(self, folder):
        self.folder, self.network = folder, FednForFacialExpressionDetection(FednConfig(**SMALL))
        self.tensors = {f"model.{name}": values for name, values in self.network.state_dict().items()}

    def write(self, version):
        run = Checkpoints(self.folder, keep=1)
        step = 1 if run.newest() is None else int(run.newest().name[-8:]) + 1
        run.save(TrainingState(step=step), self.tensors, self.network)

    def version(self):
        optimizer = torch.optim.AdamW(self.network.parameters())
        assert Checkpoints(self.folder, keep=1).resume(self.network, self.network, optimizer).step > 0


class Cache:
    """Entries of the feature cache; reading one that is not whole computes it again."""

    def __init__(self, folder):
        self.folder = folder

    def write(self, version):
        facts = {"content": version}
        inputs = {"frame_features": torch.ones(version, 8), "frame_mask": torch.ones(version).bool()}
        told = {"video": "a", "truncated_at_s": None, "key": facts}
        made = VideoFeatures(inputs, np.arange(version), np.arange(version) / 30, told)
        assert len(FeatureCache(self.folder).get_or_compute(facts, lambda: made)) == version

    def version(self):
        found = [FeatureCache(self.folder).get({"content": version}) for version in (1, 2)]
        assert len(found[0]) == 1 and len(found[1] or [0, 0]) == 2
        return 1 if found[1] is None else 2


class Overlay:
    """A copy of a clip with one or two expressions drawn on it."""

    def __init__(self, folder):
        self.clip, self.path = folder.with_name("clip.mp4"), folder / "a.mp4"
        clips.make(self.clip, times=[n / 25 for n in range(10)])

    def write(self, version):
        events = [results.event(4 * n, 4 * n + 1, 4 * n + 3) for n in range(version)]
        render(results.annotation(events, 0.4, str(self.clip)), self.clip, self.path)

    def version(self):
        reader = VideoReader(self.path)
        assert sum(len(batch) for batch in reader) == 10 and reader.truncated_at_s is None


WRITERS = {name: lambda folder, name=name: Annotations(folder, name) for name in exporters.FORMATS}
WRITERS |= {"raw": Raw, "training": Training, "cache": Cache}


def ended(work, before=lambda: None):
    """Do something in another process; gives how it ended: 0, 1 for an error, or minus the signal."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            before()
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def at_deed(number):
    """Kill this process when it does something with a file for the `number`-th time."""
    left = [number]

    def note(event, arguments):
        if event in DEEDS:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(note)


def after(seconds):
    """Have the system end this process, in the middle of whatever it does."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def check_kills(make, folder, kills, longest_s=0.03):
    chance = random.Random(str(folder.name))
    writer = make(folder)
    writer.write(1)
    killed = 0
    for number in range(kills):
        deed, seconds = chance.randrange(12), 0.0002 + chance.random() * longest_s
        killed += ended(lambda: writer.write(2), partial(at_deed, deed) if number % 2 else partial(after, seconds)) < 0
        assert writer.version() in (None, 1, 2)
        writer.write(1)
    writer.write(2)
    assert writer.version() in (None, 2)
    left = [
        path.name for path in folder.rglob("*") if path.name.endswith((".partial", ".partial.lock", ".unfinished"))
    ]
    assert left == []  # what the killed ones left has been taken over
    return killed


@pytest.mark.parametrize("name", WRITERS)
def test_killed_at_random_points_there_is_the_old_file_or_the_new_one(name, tmp_path):
    check_kills(WRITERS[name], tmp_path, 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITERS)
def test_killed_a_hundred_times(name, tmp_path):
    assert check_kills(WRITERS[name], tmp_path, 100) > 10  # what is in the cache already is only read


@pytest.mark.slow
def test_killed_while_a_video_is_drawn_on(tmp_path):
    (tmp_path / "out").mkdir()
    assert check_kills(Overlay, tmp_path / "out", 40, longest_s=0.5) > 10


def everything(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def full():
    """No file may be longer than a few bytes: as on a full disk, but for the number of the error."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (40, 40))


@pytest.mark.parametrize("name", sorted(WRITERS.keys() - {"cache"}))
def test_on_a_full_disk_what_was_there_stays(name, tmp_path):
    writer = WRITERS[name](tmp_path)
    writer.write(1)
    before = everything(tmp_path)

    def work():
        try:
            writer.write(2)
        except (OSError, FednError):
            os._exit(7)

    assert ended(work, full) == 7
    after_it = everything(tmp_path)
    assert {path: after_it[path] for path in before} == before
    assert not [path for path in after_it.keys() - before.keys() if path.parts[0] != "checkpoints"]


@pytest.mark.slow
@pytest.mark.parametrize("options", ["size=16k", "ro,size=1m"])
@pytest.mark.parametrize("name", sorted(WRITERS.keys() - {"training"}))
def test_on_a_disk_that_is_really_full_or_read_only(name, options, tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True).returncode:
        pytest.skip("only root may mount a disk")
    try:
        if "ro" not in options:
            (place / "filling").write_bytes(bytes(15_000))
            with pytest.raises(OSError):
                (place / "more").write_bytes(bytes(15_000))
            (place / "more").unlink()
        before = everything(place)
        with pytest.raises((OSError, FednError), match=r"space|[Rr]ead-only|cannot be written"):
            for _ in range(3):
                WRITERS[name](place).write(2)
                (place / "filling").write_bytes(bytes(16_300))
        assert everything(place).keys() - before.keys() <= {
            path for path in everything(place) if "partial" not in path.name
        }
    finally:
        subprocess.run(["umount", place], check=True)


def _write_slowly(path, letter):
    for _ in range(40):
        with replacing(path) as unfinished, open(unfinished, "w") as file:
            for _ in range(50):
                file.write(letter * 1000)
                file.flush()


def test_two_processes_that_write_one_file_wait_for_each_other(tmp_path):
    writers = [FORK.Process(target=_write_slowly, args=(tmp_path / "out", letter)) for letter in "ab"]
    for writer in writers:
        writer.start()
    seen = set()
    while any(writer.is_alive() for writer in writers):
        if (tmp_path / "out").exists():
            seen.add((tmp_path / "out").read_text())
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert seen <= {"a" * 50_000, "b" * 50_000} and seen
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_asked_to_end_a_command_leaves_nothing_half_done(name, tmp_path):
    code = f"""
import os, signal, sys, time
from pathlib import Path
sys.argv[0] = "fedn"  # imports no network
from fedn_hf import cli
from fedn_hf.files_fedn import replacing

signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background are started without it

@cli.app.command()
def linger():
    with replacing({str(tmp_path / "out")!r}) as unfinished:
        unfinished.write_text("half")
        os.kill(os.getpid(), signal.{name})
        time.sleep(60)

sys.argv = ["fedn", "linger"]
cli.main()
"""
    (tmp_path / "out").write_text("whole")
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=root)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")
    assert os.listdir(tmp_path) == ["out"] and (tmp_path / "out").read_text() == "whole"
