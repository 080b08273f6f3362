"""Stages of a stream side by side: while one item is being used, the next one is made.

Reading, following faces, cutting out and the network each keep one core busy at a time; PyAV and torch let go of
Python's lock while they work.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import TypeVar

import torch

Item = TypeVar("Item")

# Seconds after which a stage no longer waits for another one to end; see `_Stage.end`.
_PATIENCE_S = 5.0


class _Stage(threading.Thread):
    """
    A thread that makes the items of an iterable, one whenever it is asked.

    It owns the iterable: closing it, and what that closes in turn, happens here and in order, even if Python's garbage
    collector is what ends the stream.
    """

    def __init__(self, items: Iterable):
        super().__init__(name="fedn stage", daemon=True)
        self.items = items
        self.asked: SimpleQueue[bool] = SimpleQueue()
        self.made: SimpleQueue[Callable] = SimpleQueue()  # each gives an item when called, or raises
        self.start()
        self.made.get()

    def run(self) -> None:
        # Stages side by side use the cores better than small operations that are split up and wait for each other.
        torch.set_num_threads(1)
        torch.get_num_threads()  # a thread takes its number over when it first asks for it
        self.made.put(None)
        iterator = iter(self.items)
        try:
            while self.asked.get():
                try:
                    item = next(iterator)
                except BaseException as error:  # StopIteration, too
                    self.made.put((None, error))
                else:
                    self.made.put((item, None))
        finally:
            if hasattr(iterator, "close"):
                iterator.close()

    def end(self) -> None:
        """Stop, close the iterator, and wait until that has happened."""
        self.asked.put(False)
        current = threading.current_thread()
        # The garbage collector may run this in any thread, also in one that this stage itself is waiting for.
        if current is not self:
            self.join(_PATIENCE_S if isinstance(current, _Stage) else None)


def ahead(items: Iterable[Item]) -> Iterator[Item]:
    """
    The same items, each made in a thread of its own while the one before is being used; at most one ahead.

    Errors come where the item would have. When the consumer stops early, so does the thread, and files are closed.
    In the thread torch works on one core; elsewhere its number of threads stays as it is.

    Example:
        >>> [item for item in ahead(range(3))]
        [0, 1, 2]
    """
    threads = torch.get_num_threads()
    stage = _Stage(items)
    torch.set_num_threads(threads)  # the number is also kept for threads to come
    try:
        stage.asked.put(True)
        while True:
            item, error = stage.made.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            stage.asked.put(True)
            yield item
            del item  # not to be kept while the next one is awaited
    finally:
        stage.end()
        torch.set_num_threads(threads)  # a stage within this one has set it, too


@contextmanager
def one_thread() -> Iterator[None]:
    """
    Torch on one core. Threads that share a small operation wait for each other at its end, and do so busily: where
    stages keep all cores at work that takes longer than the operation, and the stages' time with it.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


__all__ = ["ahead", "one_thread"]
