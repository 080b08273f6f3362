"""Files that are whole or not there: what is written takes its name only when all of it is on the disk."""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """
    A path to write to; what was written there takes the place of `path` when the block ends well. After an error or an
    interruption `path` is as it was, and nothing else is left. Whoever writes the same file at the same time waits.

    Example:
        >>> with replacing("table.csv") as unfinished:
        ...     _ = unfinished.write_text("label,score")
        >>> Path("table.csv").read_text()
        'label,score'
    """
    path = Path(path)
    # One name, and not one for each process: what a killed process has left is removed.
    unfinished = path.with_name(f"{path.name}.partial")
    with _alone(path.with_name(f"{path.name}.partial.lock")):
        try:
            unfinished.unlink(missing_ok=True)  # a link that somebody has put there would be written through
            yield unfinished
            with open(unfinished, "rb+") as file:
                os.fsync(file.fileno())
            unfinished.replace(path)
        except BaseException as error:
            unfinished.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.errno in _FULL and error.filename is None:
                error.filename = str(path)  # which a full disk does not say
            raise


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def replacing_checkpoint(folder: str | Path) -> Iterator[Path]:
    """
    A folder to write the files of a checkpoint to; when the block ends well they go to `folder`, in place of those of
    their names. The configuration leaves first and comes last, as nobody reads weights without it: what a killed
    process leaves is the old checkpoint, the new one, or one that is refused, and never parts of both.

    Example:
        >>> with replacing_checkpoint("detector") as unfinished:
        ...     _ = (unfinished / "config.json").write_text("{}")
        >>> [path.name for path in Path("detector").iterdir()]
        ['config.json']
    """
    folder = Path(os.path.abspath(folder))
    hidden = folder / ".partial"
    unfinished = hidden / folder.name  # of the same name, as that is what libraries call what they save
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder / ".partial.lock"):
        try:
            shutil.rmtree(hidden, ignore_errors=True)
            unfinished.mkdir(parents=True)
            yield unfinished
            files = sorted(unfinished.iterdir(), key=lambda path: path.name == "config.json")
            for path in files:
                with open(path, "rb+") as file:
                    os.fsync(file.fileno())
            for path in (folder / "config.json", *folder.glob("model*.safetensors*")):  # in however many parts
                path.unlink(missing_ok=True)
            for path in files:
                path.replace(folder / path.name)
        finally:
            shutil.rmtree(hidden, ignore_errors=True)


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Hold a lock that the system takes back from a process that is killed; its file goes when the lock does."""
    handle = None if fcntl is None else _locked(lock)
    try:
        yield
    finally:
        if handle is not None:
            lock.unlink(missing_ok=True)
            os.close(handle)


def _locked(lock: Path) -> int:
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:  # a file system without locks
            return handle
        except BaseException:
            os.close(handle)
            raise
        try:
            if os.path.samestat(os.fstat(handle), os.stat(lock)):
                return handle
        except FileNotFoundError:  # the one before has removed it
            pass
        os.close(handle)


__all__ = ["file_sha256", "replacing", "replacing_checkpoint"]
