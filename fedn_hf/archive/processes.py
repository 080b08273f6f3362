"""Worker processes on this machine, and how videos are handed out to workers that may end at any time."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from ..media_fedn import FednError
from .videos import Video
from .worker import Work

_MOST_EARLY_ENDS = 3


class Crew(Protocol):
    """Workers, of whatever kind."""

    def idle(self) -> list[Any]:
        """Those that can be given a video now."""

    def give(self, worker: Any, video: Video) -> None:
        """Hand a video to an idle one, and come back at once."""

    def wait(self) -> list[tuple[Video, dict[str, Any] | None]]:
        """Wait until something happens: videos and their rows, or None where the worker has ended before."""


def hand_out(videos: Iterable[Video], crew: Crew) -> Iterator[dict[str, Any]]:
    """
    Give every video to whoever is free, in the order of the list, and the rows back as they come. What a worker had
    in hand when it ended goes to the next one at once: it is among the longest that are left. Whether a video is given
    up is for the worker to say, which knows of earlier attempts, see `Worker`.
    """
    waiting = deque(videos)
    in_hand = 0
    while waiting or in_hand:
        for worker in crew.idle():
            if waiting:
                crew.give(worker, waiting.popleft())
                in_hand += 1
        for video, row in crew.wait():
            in_hand -= 1
            if row is None:
                waiting.appendleft(video)
            else:
                yield row


@dataclass
class _Member:
    process: multiprocessing.Process
    connection: Connection
    number: int
    is_ready: bool = False
    video: Video | None = None


class Processes:
    """
    A `Crew` of processes. One that ends is replaced. They end with this process, however it ends.

    Args:
        make: makes the worker of a process, by its number: `functools.partial(Worker, job)`.
        count: how many.

    Raises:
        `FednError`: from `wait`, where they end before they are ready: the network cannot be loaded.
    """

    def __init__(self, make: Callable[[int], Work], count: int):
        self._make, self._early_ends = make, 0
        self._members = [self._start(number) for number in range(count)]

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *_) -> None:
        for member in self._members:
            member.process.kill()  # what is not whole is not there, so nobody needs time to tidy up
        for member in self._members:
            member.process.join()

    def _start(self, number: int) -> _Member:
        context = multiprocessing.get_context("spawn")
        mine, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(self._make, number, theirs), daemon=True)
        process.start()
        theirs.close()  # so that the end of the process closes the pipe
        return _Member(process, mine, number)

    def idle(self) -> list[_Member]:
        """Processes that have loaded their network and have no video."""
        return [member for member in self._members if member.is_ready and member.video is None]

    def give(self, worker: _Member, video: Video) -> None:
        """Send a video; that a process has ended shows in `wait`."""
        worker.video = video
        with suppress(OSError):  # it has ended, which `wait` will notice
            worker.connection.send(video)

    def wait(self) -> list[tuple[Video, dict[str, Any] | None]]:
        """Wait for a process to say or to lose something; one that has ended is replaced, its video gives None."""
        happened = []
        ready = wait([member.connection for member in self._members])
        for place, member in enumerate(self._members):
            if member.connection not in ready:
                continue
            try:
                message = member.connection.recv()
            except (EOFError, OSError):
                self._members[place] = self._replace(member)
                happened += [] if member.video is None else [(member.video, None)]
                continue
            if isinstance(message, FednError):
                raise message
            if message is None:
                member.is_ready, self._early_ends = True, 0
            else:
                happened.append((member.video, message))
                member.video = None
        return happened

    def _replace(self, member: _Member) -> _Member:
        member.process.join()
        member.connection.close()
        self._early_ends += not member.is_ready
        if self._early_ends >= _MOST_EARLY_ENDS:
            raise FednError(
                f"workers end before they have loaded the network (exit code {member.process.exitcode}); -9 is for "
                "want of memory: use fewer --workers"
            )
        return self._start(member.number)


def _serve(make: Callable[[int], Work], number: int, connection: Connection) -> None:
    """What a worker process does: say that it is ready (None), and then a row for every video."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the first process decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        worker = make(number)
    except FednError as error:
        connection.send(FednError(str(error)))
        return
    connection.send(None)
    while True:
        try:
            video = connection.recv()
        except EOFError:
            return
        connection.send(worker(video))


def usable_cpus() -> int:
    """Cores that this process may use, which in a container or a batch job are not all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _end_with_parent() -> None:
    wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


__all__ = ["Crew", "Processes", "hand_out", "usable_cpus"]
