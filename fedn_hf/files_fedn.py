"""Files that are whole or not there: what is written takes its name only when all of it is on the disk."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """
    A path to write to; what was written there takes the place of `path` when the block ends well. After an error or an
    interruption `path` is as it was, and nothing else is left.

    Example:
        >>> with replacing("table.csv") as unfinished:
        ...     _ = unfinished.write_text("label,score")
        >>> Path("table.csv").read_text()
        'label,score'
    """
    path = Path(path)
    unfinished = path.with_name(f"{path.name}.partial")
    try:
        yield unfinished
        with open(unfinished, "rb+") as file:
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


__all__ = ["replacing"]
