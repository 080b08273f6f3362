"""Progress on the screen: the hook that a pipeline calls, shown as a bar."""

from pathlib import PurePath
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

from .media_fedn import FednError


class ProgressHook:
    """
    Shows how far a pipeline is with a video: a bar that goes when the video is done; where the length of the video is
    not known, a spinner. It is drawn on stderr and in notebooks. Where stderr is a file or a pipe nothing is shown.

    Example:

    ```python
    >>> from fedn_hf.progress import ProgressHook

    >>> with ProgressHook() as hook:  # detect(video, hook=hook)
    ...     hook("detection", None, file="interview.mp4", total=300, completed=120)
    ...     hook("expressions", [], file="interview.mp4")
    ```
    """

    def __init__(self):
        console = Console(stderr=True)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(show_speed=True),  # the speed where the total is unknown
            TimeRemainingColumn(),
            console=console,
            transient=True,
            # Not `console.is_terminal`: variables such as FORCE_COLOR make that true for files.
            disable=not (console.is_jupyter or console.file.isatty()),
        )
        self._file: str | None = None
        self._is_open = False

    def __enter__(self) -> "ProgressHook":
        self._is_open = True
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_open = False
        self._clear()
        self._progress.stop()

    def __call__(
        self,
        step: str,
        artifact: Any,
        file: str | None = None,
        total: int | None = None,
        completed: int | None = None,
    ) -> None:
        """
        Show a state of affairs.

        Args:
            step: what is being done.
            artifact: what the step gave in the end; None while it goes on.
            file: what it is done to, by which its bar is known.
            total, completed: frames that there are, if known, and that are done.

        Raises:
            `FednError`: outside of a `with` block, which alone can take the bar away again.
        """
        if not self._is_open:
            raise FednError("a ProgressHook works in a with block: with ProgressHook() as hook: detect(video, ...)")
        if artifact is not None:
            self._clear()
            return
        name = file or step
        if name != self._file:  # the video before this one may have failed half-way
            self._clear()
            self._file = name
            self._progress.add_task(PurePath(name).name or name, total=total)
        self._progress.update(self._progress.task_ids[-1], total=total, completed=completed)

    def _clear(self) -> None:
        self._file = None
        for task in self._progress.task_ids:
            self._progress.remove_task(task)


__all__ = ["ProgressHook"]
