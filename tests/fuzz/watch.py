"""What a reader does beside reading: every file that is written, every connection, process and pickle is seen."""

import os
import resource
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

MEMORY_BYTES = 2**30
CPU_S = 20.0
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_PATHS = {"os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod"}
_TWO = {"os.rename", "os.link", "os.symlink"}  # whose second path is the one that is made
_NEVER = {"socket.connect", "socket.getaddrinfo", "socket.sendto", "subprocess.Popen", "os.system", "os.exec"}
_NEVER |= {"os.posix_spawn", "os.fork", "pickle.find_class", "ctypes.dlopen"}
_watched: list[list] = []  # of the read that is under way: its folder, and what it did


def _note(event: str, arguments: tuple) -> None:
    if not _watched:
        return
    folder, deeds = _watched[-1]
    if event in _NEVER:
        deeds.append(f"{event} {arguments!r:.200}")
    elif event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES:
        path = arguments[0]
        if not isinstance(path, int) and not _is_inside(path, folder):
            deeds.append(f"writes {path!r}")
    elif event in _PATHS and not _is_inside(arguments[event in _TWO], folder):
        deeds.append(f"{event} {arguments[:2]!r}")


def _is_inside(path, folder: Path) -> bool:
    path = os.path.abspath(os.fsdecode(path))
    return path == os.devnull or Path(path).is_relative_to(folder)


def begin() -> None:
    """For the rest of this process: audit, no core dumps, no more than so much memory."""
    sys.dont_write_bytecode = True
    sys.addaudithook(_note)
    held = 1024 * int(Path("/proc/self/status").read_text().partition("VmData:")[2].split()[0])
    resource.setrlimit(resource.RLIMIT_DATA, (held + MEMORY_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


@contextmanager
def watching(folder: Path):
    """
    A list of what is done that should not be. A read that takes `CPU_S` of CPU time ends the process, by SIGPROF: in
    the middle of C, too, where Python would not notice.
    """
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, CPU_S)
    deeds: list[str] = []
    _watched.append([folder, deeds])
    try:
        yield deeds
    finally:
        _watched.pop()
        signal.setitimer(signal.ITIMER_PROF, 0)
