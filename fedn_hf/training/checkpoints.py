"""Checkpoints that are whole or not there, and from which training goes on to the same bits.

    run/checkpoints/step-00000120/
      config.json, model.safetensors    the averaged weights: what `from_pretrained` of this folder loads
      training.safetensors              the weights as they train, and the optimiser's moments, by parameter
      state.json                        where training was, and what it was made with
    run/latest, run/best                links to the newest checkpoint, and to the best on the validation subjects

A checkpoint is written under another name, synced to the disk and then renamed. Nothing of it is a pickle. Older ones
are removed only when the new one is complete; of a run that is killed at any moment, the newest complete one is left.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from ..modeling_fedn import FednForFacialExpressionDetection
from .settings import TrainingError
from .sharding import shared_as, whole

_FORMAT = 1
_UNFINISHED = ".unfinished"


@dataclass
class TrainingState:
    """
    Where training is.

    Args:
        step: Steps of the optimiser that are done.
        best_step: Step of the best checkpoint, `None` before the first validation.
        best_score: Of the validation subjects there.
        bad_epochs: Epochs since then.
        is_finished: Whether nothing is left to do.

    Example:

    ```python
    >>> from fedn_hf.training.checkpoints import TrainingState

    >>> TrainingState(step=7).best_step is None
    True
    ```
    """

    step: int = 0
    best_step: int | None = None
    best_score: float | None = None
    bad_epochs: int = 0
    is_finished: bool = False


@dataclass
class Checkpoints:
    """
    The checkpoints of one run.

    Args:
        folder: Of the run.
        keep: How many of the newest are kept, beside the best one.
        facts: What the run is made with, as plain data; a run with other facts does not go on.

    Raises:
        TrainingError: see `resume`.

    Example:

    ```python
    >>> from fedn_hf.training.checkpoints import Checkpoints

    >>> Checkpoints("run", keep=1).newest() is None
    True
    ```
    """

    folder: str | os.PathLike
    keep: int
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        self.folder = Path(self.folder)
        self.facts = json.loads(json.dumps(self.facts))  # as it will be read again

    def newest(self) -> Path | None:
        """The newest complete checkpoint; the links may be one behind."""
        return max(self._complete(), default=None)

    def path(self, step: int) -> Path:
        """The folder of the checkpoint of a step."""
        return self.folder / "checkpoints" / f"step-{step:08}"

    def _complete(self) -> list[Path]:
        return [path for path in (self.folder / "checkpoints").glob("step-????????") if path.is_dir()]

    def save(self, state: TrainingState, tensors: Mapping[str, torch.Tensor], averaged: nn.Module):
        """
        Write a checkpoint, let `latest` and `best` point to what they say, and remove what is not to be kept.

        Args:
            state: Where training is.
            tensors: From `training_tensors`.
            averaged: What is trained for.

        Raises:
            TrainingError: the disk is full or may not be written; the checkpoints before this one are as they were.
        """
        path = self.path(state.step)
        unfinished = path.with_name(path.name + _UNFINISHED)
        try:
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            _save(averaged.state_dict(), unfinished / "model.safetensors")
            _save(tensors, unfinished / "training.safetensors")
            averaged.config.to_json_file(unfinished / "config.json", use_diff=False)
            told = {"format": _FORMAT, "state": asdict(state), "facts": self.facts}
            (unfinished / "state.json").write_text(json.dumps(told, indent=1), encoding="utf-8")
            for file in (*unfinished.iterdir(), unfinished):
                sync(file)
            unfinished.rename(path)
            sync(path.parent)
            self._tidy(state)
        except (OSError, SafetensorError) as error:
            raise TrainingError(f"{path}: the checkpoint could not be written ({error})") from error

    def _tidy(self, state: TrainingState) -> None:
        """Links first: what they point to is never removed."""
        named = {"latest": state.step, "best": state.best_step}
        for name, step in named.items():
            if step is not None:
                link = self.folder / f".{name}{_UNFINISHED}"
                link.unlink(missing_ok=True)
                link.symlink_to(self.path(step).relative_to(self.folder))
                link.replace(self.folder / name)
        sync(self.folder)
        kept = {*sorted(self._complete())[-self.keep :], *(self.path(s) for s in named.values() if s is not None)}
        for path in set(self._complete()) - kept:
            removed = path.with_name(path.name + _UNFINISHED)  # half of one must not look like a checkpoint
            path.rename(removed)
        for leftover in (self.folder / "checkpoints").glob(f"*{_UNFINISHED}"):  # also of a process that was killed
            shutil.rmtree(leftover)

    def resume(self, model: nn.Module, averaged: nn.Module, optimizer: torch.optim.Optimizer) -> TrainingState:
        """
        Load the newest checkpoint, if there is one, into network, average and optimiser.

        Returns:
            Where training was.

        Raises:
            TrainingError: the checkpoint is of a run with other facts (named one by one), damaged, or of another
                version of this package.
        """
        path = self.newest()
        if path is None:
            return TrainingState()
        state = self.read(path)
        try:
            tensors, mean = load_file(path / "training.safetensors"), load_file(path / "model.safetensors")
            averaged.load_state_dict(mean)
            weights = {name: shared_as(tensors[f"model.{name}"], now) for name, now in model.state_dict().items()}
            model.load_state_dict(weights)  # last, as without averaging both are one network
            _load_moments(model, optimizer, tensors)
        except (OSError, SafetensorError, RuntimeError, KeyError) as error:
            raise TrainingError(
                f"{path}: damaged ({error}); remove this folder to go on from the one before"
            ) from error
        self._tidy(state)
        return state

    def read(self, path: Path) -> TrainingState:
        """The state of a checkpoint, if it is of the same facts; raises as `resume`."""
        try:
            told = json.loads((path / "state.json").read_text("utf-8"))
            state, facts, version = TrainingState(**told["state"]), dict(told["facts"]), told["format"]
            if not all(step is None or type(step) is int for step in (state.step, state.best_step)):
                raise ValueError(f"steps are whole numbers, not {state.step!r} and {state.best_step!r}")
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise TrainingError(
                f"{path}: damaged ({error}); remove this folder to go on from the one before"
            ) from error
        if version != _FORMAT:
            raise TrainingError(f"{path}: of format {version}, this version of fedn_hf reads format {_FORMAT}")
        differences = differing(facts, self.facts)
        if differences:
            told = "; ".join(differences)
            raise TrainingError(
                f"{self.folder} holds another run: {told}. Train into another folder, or with the same settings"
            )
        return state


def chosen_network(folder: Path) -> FednForFacialExpressionDetection:
    """The network that a run ends in: of the best epoch where subjects validated, else of the last one."""
    name = "best" if (folder / "best").exists() else "latest"
    return FednForFacialExpressionDetection.from_pretrained(folder / name).eval()


def differing(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """
    What differs between two nested dictionaries of plain data, one line each.

    Example:

    ```python
    >>> from fedn_hf.training.checkpoints import differing

    >>> differing({"training": {"seed": 1, "epochs": 2}}, {"training": {"seed": 0, "epochs": 2}})
    ['training.seed was 1, is 0']
    ```
    """
    lines = []
    for name in sorted({*before, *now}):
        old, new = (values.get(name, "not set") for values in (before, now))
        if isinstance(old, dict) and isinstance(new, dict):
            lines += differing(old, new, f"{prefix}{name}.")
        elif old != new:
            lines.append(f"{prefix}{name} was {old!r}, is {new!r}")
    return lines


def _save(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, path, {"format": "pt"})


def training_tensors(model: nn.Module, optimizer: torch.optim.Optimizer, keep: bool) -> dict[str, torch.Tensor]:
    """
    The weights as they train, and AdamW's moments and step counts by the parameter's name. Every process must call it,
    as weights may be shared out among them; those that do not `keep` the tensors get none.
    """
    named = {f"model.{name}": value for name, value in model.state_dict().items()}
    named |= {
        f"optimizer.{name}.{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }
    tensors = {}
    for name, value in named.items():
        value = whole(value.detach())
        if keep:
            tensors[name] = value.cpu()
    return tensors


def _load_moments(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    for name, parameter in model.named_parameters():
        prefix = f"optimizer.{name}."
        found = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if found:  # step counts stay on the CPU, where AdamW keeps them
            optimizer.state[parameter] = {k: v if k == "step" else shared_as(v, parameter) for k, v in found.items()}


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


__all__ = ["Checkpoints", "TrainingState", "chosen_network", "differing", "sync", "training_tensors"]
