"""Detection in a process of its own, with limits: what a broken or hostile file can cost is that file.

Decoders are written in C and take what strangers send. Here one that crashes, hangs, or asks for all memory ends a
child process; the next file gets another one. The child has loaded the network before it meets the first file, and
from then on writes no files, leaves no core dump, and may spend only so much. What it has found comes back as JSON and
safetensors, whose sizes are checked: nothing of a process that a file may have taken over is unpickled. This limits
what a file can cost; it is no jail for one that runs code of its own. See SECURITY.md.
"""

import ctypes
import io
import json
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from .files_fedn import replacing
from .media_fedn import FednError, MediaError, causes

try:
    import resource
except ImportError:  # not on Windows
    resource = None

if TYPE_CHECKING:
    import numpy as np

    from .annotation import ExpressionAnnotation
    from .results_fedn import FednDetections

_MAX_WORD_BYTES = 2**20
_MAX_COPY_BYTES = 32 * 2**30
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # glibc's numbers


class SandboxError(FednError):
    """The process that reads cannot be started, which is no file's fault."""


@dataclass(frozen=True)
class SandboxLimits:
    """
    What one file may cost.

    Args:
        memory_bytes: Beyond what the process holds once the network is loaded. Kept on Linux only.
        cpu_s: Seconds of CPU time, of all threads together.
        silence_s: Seconds in which nothing gets done. A step is some hundred frames, but the frames before a start
            far inside a large file are counted in one.

    Example:
        >>> SandboxLimits(silence_s=60).memory_bytes
        4294967296
    """

    memory_bytes: int = 4 * 2**30
    cpu_s: float = 12 * 3600.0
    silence_s: float = 300.0


class Sandbox:
    """
    A pipeline in another process. Calls from several threads wait for each other.

    Args:
        model, revision, device: As `load_pipeline` takes them.
        threads: CPU threads of the network, as many as torch takes by default if None.
        limits: What a file may cost.

    Attributes:
        types, labels: Names that the network knows.

    Raises:
        SandboxError: What `load_pipeline` says, or there are no such processes on this system.

    Example:
        >>> with Sandbox() as detect:  # doctest: +SKIP
        ...     raw = detect("interview.mp4", faces="all")
        ...     annotation = ExpressionAnnotation.from_dict(raw.describe())
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        revision: str | None = None,
        device: str | int | None = None,
        threads: int | None = None,
        limits: SandboxLimits | None = None,
    ):
        if resource is None:
            raise SandboxError(
                "the sandbox needs Linux or macOS; leave it out (`fedn archive --no-sandbox`), or run everything in a "
                "container"
            )
        self.limits = limits or SandboxLimits()
        model = None if model is None else os.fspath(model)
        self._wish = {"model": model, "revision": revision, "device": device, "threads": threads}
        self._turn = threading.Lock()
        self._process: subprocess.Popen | None = None
        self._start()

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """End the process; a later call starts another one."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process.stdin.close()
            self._connection.close()
            self._process = None

    def __call__(self, path: str | os.PathLike, *, hook: Callable | None = None, **reading) -> "FednDetections":
        """
        What the pipeline's `return_raw=True` gives.

        Args:
            path: A file, a folder of images with `fps`, or an address with `allow_url=True`.
            hook: As the pipeline's, for the step "detection".
            reading: As the pipeline takes it: `faces`, `start_s`, `end_s`, `fps`, `allow_url`, `batch_size`.

        Raises:
            MediaError: The file cannot be read, or it has crashed the process or met a limit.
            SandboxError: The process has ended before, and cannot be started again.
            ValueError: As the pipeline.
        """
        from .results_fedn import FednDetections

        return FednDetections.from_bytes(self._ask("detection", path, hook, reading), path)

    def crops(
        self, path: str | os.PathLike, annotation: "ExpressionAnnotation", image_size: int = 128
    ) -> list[dict[str, "np.ndarray | None"]]:
        """
        What [`fedn_hf.tracks.event_crops`] gives for all events of an annotation.

        Raises:
            MediaError: As a call.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        from .tracks import PARTS

        facts = {**annotation.to_dict(), "curves": [], "coverage": []}
        try:
            found = load(self._ask("crops", path, None, {"annotation": facts, "image_size": image_size}))
        except SafetensorError as error:
            raise MediaError(os.fspath(path), "the process that read it gave no pictures") from error
        shape = (image_size, image_size, 3)
        found = {name: picture for name, picture in found.items() if picture.shape == shape and picture.dtype == "u1"}
        return [{part: found.get(f"{place}.{part}") for part in PARTS} for place in range(len(annotation))]

    def copy(self, path: str | os.PathLike, target: str | os.PathLike, *, hook: Callable | None = None) -> None:
        """
        Write a copy that every browser plays; see [`fedn_hf.overlay.copy_playable`]. The process that reads opens no
        file for it: what it writes comes here.

        Args:
            hook: As the pipeline's, for the step "copying".

        Raises:
            MediaError: As a call.
        """
        with replacing(target) as unfinished, open(unfinished, "wb") as file:
            self._ask("copying", path, hook, {}, file)

    def _ask(
        self, task: str, path: str | os.PathLike, hook: Callable | None, settings: dict, file: BinaryIO | None = None
    ) -> bytes:
        path = os.fspath(path)
        with self._turn:
            if self._process is not None and self._process.poll() is not None:  # while it had nothing to do
                self.close()
            if self._process is None:
                self._start()
            try:
                self._connection.send_bytes(json.dumps({"task": task, "path": path, "settings": settings}).encode())
                return self._answer(task, path, hook, file)
            except (EOFError, OSError) as error:
                if isinstance(error, MediaError):
                    raise
                raise MediaError(path, self._ending()) from None
            finally:
                if self._is_busy:  # also after Ctrl-C: what it still does is for nobody
                    self.close()

    def _start(self) -> None:
        self._is_busy = True
        mine, theirs = Pipe()
        self._connection = mine
        # -P: nothing in the folder in which this runs is imported. Its stdin is closed when this process ends.
        code = f"from fedn_hf.sandbox import _serve; _serve({theirs.fileno()})"
        places = [str(Path(__file__).resolve().parents[1]), *filter(None, sys.path)]
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(places)},
        )
        theirs.close()
        try:
            mine.send_bytes(json.dumps({**self._wish, "limits": asdict(self.limits)}).encode())
            told = json.loads(mine.recv_bytes(_MAX_WORD_BYTES))  # loading may mean downloading: no limit of time
        except (EOFError, OSError):
            raise SandboxError(f"the network could not be loaded: {self._ending()}") from None
        except BaseException:
            self.close()
            raise
        if "error" in told:
            self.close()
            raise SandboxError(told["error"])
        self.types, self.labels = told["types"], told["labels"]
        self._is_busy = False

    def _answer(self, task: str, path: str, hook: Callable | None, file: BinaryIO | None) -> bytes:
        from .results_fedn import MAX_BYTES

        self._is_busy = True
        while self._connection.poll(self.limits.silence_s):
            told = json.loads(self._connection.recv_bytes(_MAX_WORD_BYTES))
            if "completed" in told:
                if hook is not None:
                    hook(task, None, file=path, **told)
                continue
            if "at" in told and file is not None:
                self._write_part(path, file, told["at"])
                continue
            self._is_busy = told.get("is_spent", False)
            if "error" in told:
                raise MediaError(told["path"], told["error"]) if "path" in told else ValueError(told["error"])
            return self._connection.recv_bytes(MAX_BYTES)
        raise MediaError(path, f"nothing got done in {self.limits.silence_s:g} s, so it was given up")

    def _write_part(self, path: str, file: BinaryIO, at: int) -> None:
        part = self._connection.recv_bytes(_MAX_WORD_BYTES)
        if not 0 <= at <= _MAX_COPY_BYTES - len(part):
            raise MediaError(path, f"its copy would have more than {_MAX_COPY_BYTES} bytes, so it was given up")
        try:
            file.seek(at)
            file.write(part)
        except OSError as error:
            raise MediaError(path, f"its copy cannot be written ({error.strerror})") from error

    def _ending(self) -> str:
        """Why the process has ended."""
        try:
            code = self._process.wait(10)
        except subprocess.TimeoutExpired:
            code = None
        self.close()
        if code == -signal.SIGXCPU:
            return f"it took more than {self.limits.cpu_s:g} s of CPU time, so it was given up"
        if code == -signal.SIGKILL:
            return "the process that read it was killed (SIGKILL); was there too little memory?"
        if code is not None and code < 0:
            return (
                f"the process that read it crashed ({signal.Signals(-code).name}); a fault in a decoder, or an attack?"
            )
        return f"the process that read it ended (exit code {code})"


# --- in the child -------------------------------------------------------------------------------------------------


def _serve(handle: int) -> None:
    """Load the network, then read one file after the other."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both; the parent decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    connection = Connection(handle)
    wish = json.loads(connection.recv_bytes())
    limits = SandboxLimits(**wish.pop("limits"))
    try:
        pipeline = load_quietly(**wish)
    except FednError as error:
        _tell(connection, error=str(error))
        return
    except Exception as error:  # a fault of ours or of a library
        _tell(connection, error=f"the network could not be loaded: {type(error).__name__}: {error}")
        return
    config = pipeline.model.config
    labels = list(config.id2label.values()) if config.heads == "joint" else []
    _limit_process(limits)
    _tell(connection, types=config.expression_types, labels=labels)
    while True:
        try:
            request = json.loads(connection.recv_bytes())
        except EOFError:
            return
        _limit_cpu(limits)
        _do(connection, pipeline, limits, **request)


def _end_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)


def load_quietly(model: str | None, revision: str | None, device: str | int | None, threads: int | None):
    """The pipeline of a process that nobody watches: what matters comes as an error."""
    import logging

    import torch
    import transformers

    from .loading import load_pipeline

    give_memory_back()
    transformers.utils.logging.disable_progress_bar()
    for library in ("fedn_hf", "huggingface_hub", "transformers"):
        logging.getLogger(library).setLevel(logging.ERROR)
    if threads is not None:
        torch.set_num_threads(threads)
    return load_pipeline(model, revision=revision, device=device)


def give_memory_back() -> None:
    """
    Let arrays of 8 MiB and more go back to the system when they are freed, and threads share what else is kept. By
    itself glibc learns to keep what has the size of a batch of frames, in pieces for every thread, and a process grows
    for many minutes. It is for those who own the whole process to say so.
    """
    with suppress(AttributeError, OSError, TypeError):  # where C's library is another one
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 8 * 2**20)
        libc.mallopt(_M_ARENA_MAX, 1)


def _limit_process(limits: SandboxLimits) -> None:
    """From now on no files, no core dumps, and only so much more memory."""
    sys.dont_write_bytecode = True
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:  # not Linux, where the limit would not be kept
        return
    held = 1024 * int(status.partition("VmData:")[2].split()[0])
    resource.setrlimit(resource.RLIMIT_DATA, (held + limits.memory_bytes,) * 2)


def _limit_cpu(limits: SandboxLimits) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(used.ru_utime + used.ru_stime + limits.cpu_s), hard))


def _do(
    connection: Connection, pipeline, limits: SandboxLimits, task: str, path: str, settings: dict[str, Any]
) -> None:
    def hook(step, artifact, file=None, total=None, completed=None):
        if completed is not None:
            _tell(connection, total=total, completed=completed)

    try:
        if task == "detection":
            answer = pipeline(path, return_raw=True, hook=hook, **settings).to_bytes()
        elif task == "crops":
            answer = _crops(path, **settings)
        else:
            from .overlay import copy_playable

            copy_playable(path, _Elsewhere(connection), hook=hook)
            answer = b""
    except Exception as error:  # whatever a library may raise
        if any(_is_shortage(cause) for cause in causes(error)):
            most = f"more than {limits.memory_bytes / 2**30:.3g} GiB of memory beside the network"
            _tell(connection, path=path, is_spent=True, error=f"it needs {most}, so it was given up")
        elif isinstance(error, MediaError):
            _tell(connection, path=error.path, error=error.reason)
        elif isinstance(error, ValueError):
            _tell(connection, error=str(error))
        else:
            known = str(error) if isinstance(error, FednError) else f"unexpected {type(error).__name__}: {error}"
            _tell(connection, path=path, error=known.removeprefix(f"{path}: "))
        return
    _tell(connection)
    connection.send_bytes(answer)


def _crops(path: str, annotation: dict[str, Any], image_size: int) -> bytes:
    from safetensors.numpy import save

    from .annotation import ExpressionAnnotation
    from .tracks import event_crops

    found = event_crops(ExpressionAnnotation.from_dict(annotation), path, image_size=image_size)
    rows = ((f"{place}.{part}", row[part]) for place, row in enumerate(found) for part in row)
    return save({name: picture for name, picture in rows if picture is not None})


class _Elsewhere(io.RawIOBase):
    """A file that the parent writes."""

    def __init__(self, connection: Connection):
        self.connection, self.place, self.end = connection, 0, 0

    def write(self, content) -> int:
        content = bytes(content)
        for first in range(0, len(content), _MAX_WORD_BYTES):
            part = content[first : first + _MAX_WORD_BYTES]
            _tell(self.connection, at=self.place)
            self.connection.send_bytes(part)
            self.place += len(part)
        self.end = max(self.end, self.place)
        return len(content)

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        self.place = place + {os.SEEK_SET: 0, os.SEEK_CUR: self.place, os.SEEK_END: self.end}[whence]
        return self.place

    def tell(self) -> int:
        return self.place

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


def _tell(connection: Connection, **words) -> None:
    if "error" in words:
        words["error"] = words["error"][:10_000]
    connection.send_bytes(json.dumps(words).encode())


def _is_shortage(error: BaseException) -> bool:
    """Python's, FFmpeg's (also of threads that it cannot start) and torch's ways to say that there is no memory."""
    return isinstance(error, (MemoryError, BlockingIOError)) or "allocate memory" in str(error)


__all__ = ["Sandbox", "SandboxError", "SandboxLimits", "give_memory_back", "load_quietly"]
