"""The log of a run: a line of JSON per step and per epoch, which trackers are told as well."""

import contextlib
import json
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from ..files_fedn import replacing


class TrainingLog:
    """A line per step and per epoch, from which a run that goes on takes back what came after its checkpoint."""

    def __init__(self, path: Path, step: int, accelerator: Accelerator):
        self.path, self.accelerator = path, accelerator
        if accelerator.is_main_process:
            kept = [row for row in self.rows() if row["step"] <= step]
            with replacing(path) as unfinished:
                unfinished.write_text("".join(f"{json.dumps(row)}\n" for row in kept), encoding="utf-8")

    def add(self, row: dict[str, Any]) -> None:
        """Write a row, which must have "step", and give it to the trackers; the main process alone writes."""
        if self.accelerator.is_main_process:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(f"{json.dumps(row)}\n")
        self.accelerator.log({name: value for name, value in row.items() if name != "step"}, step=row["step"])

    def rows(self) -> list[dict[str, Any]]:
        """All that was written so far, but for a last line that is incomplete."""
        rows = []
        for line in self.path.read_text("utf-8").splitlines() if self.path.exists() else ():
            with contextlib.suppress(ValueError):  # the last line of a run that was killed
                rows.append(json.loads(line))
        return rows


__all__ = ["TrainingLog"]
