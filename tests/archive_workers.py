"""Workers that need no network, and one that does: what happens to videos stands in their names."""

import os
import signal
import time
import uuid
from functools import partial
from pathlib import Path

from fedn_hf.archive import Archive, Job, Video, Worker
from fedn_hf.archive.processes import Processes, hand_out
from fedn_hf.archive.worker import blank_row
from fedn_hf.media_fedn import FednError
from fedn_hf.sandbox import SandboxLimits


class Light(Worker):
    """A `Worker` in everything but detection."""

    def __init__(self, job: Job, number: int = 0):
        self.job, self.archive = job, Archive(job.folder)

    def _detect(self, video: Video) -> dict:
        with open(f"{self.job.folder}/begun.txt", "a") as file:  # short lines are appended whole
            file.write(f"{video.id}\n")
        time.sleep(0.02)
        if video.id.startswith("killer"):
            os.kill(os.getpid(), signal.SIGKILL)
        if video.id.startswith("broken"):
            raise FednError("broken")
        return {**blank_row(video), "status": "done", "expressions": 0}


class Unready(Light):
    """A worker whose machine has too little memory."""

    def __init__(self, job: Job, number: int = 0):
        os.kill(os.getpid(), signal.SIGKILL)


class Mistaken(Light):
    """A worker of a checkpoint that cannot be loaded."""

    def __init__(self, job: Job, number: int = 0):
        raise FednError("no such checkpoint")


class Struck(Worker):
    """A whole worker, in whose sandbox the decoder crashes or hangs at its first step."""

    def __init__(self, job: Job, number: int = 0):
        super().__init__(job, number)
        self.sandbox, self.detect = self.detect, self._strike

    def _strike(self, path: str, **reading):
        name = Path(path).stem
        number = {"crash": signal.SIGSEGV, "hang": signal.SIGSTOP}.get(name, 0)  # 0 reaches it and does nothing
        self.sandbox.limits = SandboxLimits(silence_s=2.0 if name == "hang" else 300.0)
        return self.sandbox(path, hook=lambda *args, **kwargs: os.kill(self.sandbox._process.pid, number), **reading)


def job_in(folder) -> Job:
    return Job(str(folder), uuid.uuid4().hex, None)


def coordinate(folder: str, workers: int) -> None:
    """What `fedn archive` does with the videos of the folder's plan, as a process of its own to be killed."""
    archive = Archive(folder)
    with archive.locked():
        videos = archive.plan()
        waiting = [v for v, row in zip(videos, archive.rows(videos), strict=True) if row is None]
        with Processes(partial(Light, job_in(folder)), workers) as crew:
            for _ in hand_out(waiting, crew):
                pass
