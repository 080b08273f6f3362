"""One video after the other: what a worker does, on whichever machine and under whichever engine."""

import os
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

from ..media_fedn import FednError, MediaError
from ..sandbox import Sandbox, SandboxError, load_quietly
from .store import MOST_ATTEMPTS, Archive
from .videos import Video

# What is done with a video, and gives its row.
Work = Callable[[Video], dict[str, Any]]
_PROVENANCE = ("fedn_hf", "model", "revision", "device", "torch")


class Files(Protocol):
    """Writes the files of a video: `cli.batch.Results` does."""

    def write(self, video: Video, annotation, raw) -> None:
        """Write all files of one video; raw outputs are `None` where nobody asked for them."""


@dataclass(frozen=True)
class Job:
    """
    What is done with every video. It travels to the workers.

    folder: of the archive.
    run: a name that no other run has.
    files: writes the files of each video.
    model, revision: as `load_pipeline` takes them.
    device: where the network runs; None spreads the workers over what accelerators there are.
    reading, settings: as the pipeline and `FednDetections.describe` take them.
    sandbox: whether each worker reads videos in a process of its own, with limits.
    """

    folder: str
    run: str
    files: Files
    model: str | None = None
    revision: str | None = None
    device: str | None = None
    reading: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    sandbox: bool = True


class Worker:
    """
    Finds the expressions in one video after the other. The network is loaded once, and runs on one CPU thread: many
    workers use a machine better than many threads. It runs in a `Sandbox`, which a video may end; then it is loaded
    once more.

    Args:
        job: what is done.
        number: among the workers of this machine, which spreads them over its accelerators.

    Raises:
        `FednError`: the checkpoint or the device cannot be used.
    """

    def __init__(self, job: Job, number: int = 0):
        import torch

        torch.set_num_threads(1)
        device = job.device
        if device is None and torch.cuda.device_count() > 1:
            device = f"cuda:{number % torch.cuda.device_count()}"
        self.job, self.archive = job, Archive(job.folder)
        network = {"model": job.model, "revision": job.revision, "device": device, "threads": 1}
        self.detect = Sandbox(**network) if job.sandbox else partial(load_quietly(**network), return_raw=True)

    def __call__(self, video: Video) -> dict[str, Any]:
        """
        The row of a video, without its expressions; it and the video's files are on the disk when this returns. What
        goes wrong stands in the row. A video that is done already is not done again, and one that has ended
        `MOST_ATTEMPTS` workers of this run before is given up.
        """
        with self.archive.holding(video):
            row = self.archive.row_of(video)
            if row is None:
                if self.archive.begin(video, self.job.run) > MOST_ATTEMPTS:
                    reason = "every worker that tried ended with it; out of memory, or a fault in a decoder?"
                    row = failed(video, f"given up after {MOST_ATTEMPTS} attempts: {reason}")
                else:
                    row = self._row(video)
                self.archive.finish(video, row)
        return {name: value for name, value in row.items() if name != "events"}

    def _row(self, video: Video) -> dict[str, Any]:
        begun = time.monotonic()
        try:
            found = self._detect(video)
        except SandboxError:  # no fault of this video: another worker takes this one's place, under either engine
            os._exit(1)
        except Exception as error:  # a fault of ours, too, must not cost the other videos
            found = failed(video, _reason(error, video))
        return {**found, "took_s": round(time.monotonic() - begun, 3)}

    def _detect(self, video: Video) -> dict[str, Any]:
        from ..annotation import ExpressionAnnotation

        raw = self.detect(video.path, **self.job.reading)
        raw.provenance["source"] = video.path
        annotation = ExpressionAnnotation.from_dict(raw.describe(**self.job.settings))
        self.job.files.write(video, annotation, raw)
        facts = annotation.to_dict()
        return {
            **blank_row(video),
            "status": "done",
            "duration_s": facts["video"].get("duration_s") or video.duration_s,
            "truncated_at_s": facts["video"].get("truncated_at_s"),
            "frames": len(raw.time_s),
            "faces": len(raw.faces),
            "expressions": len(annotation),
            **{name: facts["provenance"].get(name) for name in _PROVENANCE},
            "events": facts["intervals"],
        }


def failed(video: Video, reason: str) -> dict[str, Any]:
    """The row of a video in which nothing could be looked for."""
    return {**blank_row(video), "status": "failed", "error": reason}


def blank_row(video: Video) -> dict[str, Any]:
    """All that a row may say, and nothing of it yet."""
    return {
        **asdict(video),
        "status": None,
        "error": None,
        "truncated_at_s": None,
        "frames": None,
        "faces": None,
        "expressions": None,
        "took_s": None,
        "host": socket.gethostname(),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        **dict.fromkeys(_PROVENANCE),
        "events": [],
    }


def _reason(error: Exception, video: Video) -> str:
    """Why, in one line; the video's path stands beside it."""
    if isinstance(error, MediaError):
        words = error.reason
    elif isinstance(error, FednError):
        words = str(error).removeprefix(f"{video.path}: ")
    elif isinstance(error, MemoryError):
        words = "out of memory; fewer workers leave more to each"
    else:
        words = f"unexpected {type(error).__name__}: {error}"
    return " ".join(words.split())


__all__ = ["Files", "Job", "Work", "Worker", "blank_row", "failed"]
