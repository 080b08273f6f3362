"""The loop: windows in, a trained network out, on one CPU or on many GPUs by `accelerate launch`.

What a step does depends on nothing but the settings, the data and its number: windows have random numbers of their own
(see `TrainingWindows`), dropout is seeded anew for every batch by (seed, step, place), and the learning rate is a
function of the step. So there is no state of generators, loaders or schedulers to save, training goes on to the same
bits after any interruption, and the number of loader workers changes nothing.

P processes with A accumulated batches of B windows make one step of P A B windows, with the gradient, and so the loss
curve, that one process with one such batch would have. (Dropout draws other numbers, and a batch without any positive
proposal counts as if it had one.)
"""

import atexit
import contextlib
import copy
import gc
import hashlib
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import gather_object
from accelerate.utils.memory import should_reduce_batch_size
from filelock import FileLock, Timeout
from torch.utils.data import DataLoader

from ..data.collator import WindowCollator
from ..data.folds import LeakageError
from ..data.sequences import FednSequence
from ..data.windows import CoveringWindows, TrainingWindows
from ..metrics import Expressions
from ..modeling_fedn import FednForFacialExpressionDetection
from ..video_processing_fedn import FednVideoProcessor
from .checkpoints import Checkpoints, TrainingState, training_tensors
from .detections import marked_events, raw_detections
from .log import TrainingLog
from .optimisation import learning_rate_factor, make_optimizer
from .selection import best_f1
from .settings import FREE_SETTINGS, DetectionSettings, TrainingError, TrainingSettings
from .sharding import shard, whole
from .switches import check_trackers, compiled, deterministic, profiler, start_trackers

LOG = "log.jsonl"
_NOT_THE_NETWORK = ("transformers_version", "_name_or_path", "dtype", "torch_dtype", "architectures")


@dataclass(frozen=True)
class TrainingResult:
    """
    How a training went.

    Args:
        folder: Of the run; `best` (where subjects validated) and `latest` in it are what `from_pretrained` loads.
        log: One dictionary per step (`step`, `epoch`, `loss`, its terms, `learning_rate`, `grad_norm`), and one per
            epoch with `validation_loss` and `validation_f1`, if subjects validated.
        best_epoch, best_score: Of the validation subjects; `None` without them. The score is `validation_f1`: the best
            strict F1 of any threshold per type. (The loss is no measure of a detector: it rises long before the F1
            falls. For a network that only recognises it is all there is, and the score is its negative.)
        seconds: Wall time of this call, which may have done a part only.

    Example:

    ```python
    >>> from fedn_hf.training.loop import TrainingResult

    >>> TrainingResult("run", [{"step": 1, "loss": 0.5}], None, None, 1.0).losses
    [0.5]
    ```
    """

    folder: Path
    log: list[dict[str, Any]]
    best_epoch: int | None
    best_score: float | None
    seconds: float

    @property
    def losses(self) -> list[float]:
        """The loss of every step."""
        return [row["loss"] for row in self.log if "loss" in row]


def train(
    model: FednForFacialExpressionDetection,
    sequences: Sequence[FednSequence],
    settings: TrainingSettings,
    folder: str | os.PathLike,
    *,
    validation: Sequence[FednSequence] = (),
    detection: DetectionSettings | None = None,
    video_processor: FednVideoProcessor | None = None,
    on_epoch: Callable[[int, FednForFacialExpressionDetection], None] | None = None,
    hook: Callable | None = None,
    name: str = "training",
) -> TrainingResult:
    """
    Train a network, or go on where a run in this folder was stopped.

    Args:
        model: The network, in single precision; of a run that goes on, its weights are replaced.
        sequences: Videos to train on: of features, or of crops (with `video_processor`), through a backbone.
        settings: How to train.
        folder: Of the run: checkpoints, links to them and the log; new, or that of the same run.
        validation: Videos of other subjects, for the best epoch and to stop early.
        detection: How they are looked through; by default as [`DetectionSettings`] says.
        on_epoch: Called with (epochs done, network with the averaged weights in evaluation) after every epoch and
            before its checkpoint, in the main process; so after an interruption it may see an epoch a second time.
        hook: Called as the pipeline's, with the step "training"; see [`ProgressHook`].
        name: What the hook is told.

    Returns:
        [`TrainingResult`]; `model` holds the last weights, the averaged ones lie in the folder.

    Raises:
        TrainingError: another run in the folder, a loss that is no number, too little memory, too few events.
        LeakageError: a subject that trains and validates.

    Source:
        AdamW: Loshchilov & Hutter, ICLR 2019. The averaged weights: Polyak & Juditsky, 1992; the rising decay keeps
        the first, random weights from being remembered.

    Example:

    ```python
    >>> import torch
    >>> from fedn_hf import FednConfig, FednForFacialExpressionDetection
    >>> from fedn_hf.data.sequences import FednSequence
    >>> from fedn_hf.training import TrainingSettings, train

    >>> event = {"onset": 300, "apex": 314, "offset": 329, "type": "macro-expression", "emotion": "fear"}
    >>> row = {"video_id": "a", "subject_id": "s1", "fps": 30.0, "events": [event]}
    >>> config = FednConfig(backbone_config=None, feature_size=8, hidden_size=16, num_attention_heads=2)
    >>> sequence = FednSequence.from_native(row, {"frame_features": torch.randn(900, 8)}, config)
    >>> settings = TrainingSettings(epochs=2, batch_size=2)
    >>> result = train(FednForFacialExpressionDetection(config), [sequence], settings, "run")
    >>> len(result.losses), FednForFacialExpressionDetection.from_pretrained("run/latest").config.hidden_size
    (2, 16)
    ```
    """
    _check_subjects(sequences, validation)
    if settings.early_stopping_epochs and not validation:
        raise TrainingError("training.early_stopping_epochs needs validation subjects, got none")
    run = _Run(model, sequences, settings, Path(folder), validation, detection or DetectionSettings(), video_processor)
    with run.alone(), deterministic(settings.deterministic), run.advice():
        return run.train(on_epoch, hook, name)


class _Run:
    """One call of `train`: everything that is made before the first step."""

    def __init__(self, model, sequences, settings, folder, validation, detection, video_processor):
        self.settings, self.folder, self.detection = settings, folder, detection
        self.validators, self.video_processor = validation, video_processor
        check_trackers(settings)
        # The normaliser is averaged below. Some backbones have weights that only their pre-training uses.
        may_be_idle = model.fedn.frame_encoder is not None and not model.config.freeze_backbone
        handlers = [DistributedDataParallelKwargs(broadcast_buffers=False, find_unused_parameters=may_be_idle)]
        # Batches are shared out, accumulated and cast below, so that a step is what the module's docstring says.
        self.accelerator = Accelerator(
            mixed_precision="no",
            kwargs_handlers=handlers,
            log_with=list(settings.trackers) or None,
            project_dir=folder,
        )
        self._check_launch()
        if self.accelerator.num_processes > 1:
            atexit.register(_leave_group)
        self.share = self.accelerator.num_processes * settings.accumulation_steps
        try:
            self.windows = TrainingWindows(
                sequences,
                model.config,
                seed=settings.seed,
                positive_fraction=settings.positive_fraction,
                speed=settings.speed,
                augmentations=settings.augmentation_functions(),
            )
        except ValueError as error:  # nothing to learn, or no room for windows without events
            raise TrainingError(str(error)) from error
        self.steps_per_epoch = len(self.windows) // (settings.batch_size * self.share)
        if not self.steps_per_epoch:
            raise TrainingError(
                f"an epoch has {len(self.windows)} windows and a step needs {settings.batch_size * self.share}: "
                f"lower training.batch_size (got {settings.batch_size}) or training.accumulation_steps "
                f"(got {settings.accumulation_steps})"
            )
        self.collate = WindowCollator(video_processor)
        self.validation = CoveringWindows(validation, model.config) if validation else None
        self.plain = model
        if settings.gradient_checkpointing:
            # The library's newer name for it; the older one will go.
            getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
        model.loss_normalizer /= self.share  # the positives of one batch are counted, not those of a step
        # Of a network that is shared out the average is whole in every process: they validate apart from each other.
        self.averaged = model
        if settings.ema_decay is not None or settings.shard:
            self.averaged = copy.deepcopy(model).requires_grad_(False).eval()
        self.facts = self._facts(sequences, validation)
        self.checkpoints = Checkpoints(folder, settings.keep_checkpoints, self.facts)
        if settings.compile:
            compiled(model)
        if settings.shard:
            self.model = model.to(self.accelerator.device)
            shard(model, self.accelerator.device, self.accelerator.num_processes)
        else:
            self.model = self.accelerator.prepare(model)
        self.averaged.to(self.accelerator.device)
        self.pair = tuple(list(network.parameters()) for network in (self.averaged, model))
        self.optimizer = self.accelerator.prepare(make_optimizer(model, settings))

    def _check_launch(self) -> None:
        """Raise an error for ways to share work out that a step here knows nothing of."""
        kind, several = self.accelerator.distributed_type, self.accelerator.num_processes > 1
        if kind in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):
            raise TrainingError(
                f"accelerate was told to use {kind.value}, which this loop knows nothing of: use `accelerate launch "
                "--multi_gpu`, and training.shard=true for a network that is too large for one GPU"
            )
        if self.settings.shard and not several:
            raise TrainingError("training.shard needs two or more processes, got 1: use `accelerate launch`")

    def _facts(self, sequences, validation) -> dict[str, Any]:
        """What makes a run what it is; a run with other facts does not go on."""
        training = {name: value for name, value in self.settings.to_dict().items() if name not in FREE_SETTINGS}
        network = {k: v for k, v in self.plain.config.to_dict().items() if k not in _NOT_THE_NETWORK}
        data = {"train": _fingerprint(sequences), "validation": _fingerprint(validation)}
        if validation:
            data["detection"] = self.detection.to_dict()
        data |= {"steps_per_epoch": self.steps_per_epoch, "num_processes": self.accelerator.num_processes}
        return {"training": training, "model": network, "data": data}

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """One run at a time in a folder."""
        if not self.accelerator.is_main_process:
            yield
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / ".lock", timeout=0):
                yield
        except Timeout:
            raise TrainingError(f"{self.folder}: another process trains into this folder") from None

    @contextlib.contextmanager
    def advice(self) -> Iterator[None]:
        """What to do about too little memory."""
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            lacks_memory = isinstance(error, (torch.OutOfMemoryError, MemoryError)) or should_reduce_batch_size(error)
            if not lacks_memory:
                raise
            size, steps = self.settings.batch_size, self.settings.accumulation_steps
            ways = [
                f"training.batch_size={-(-size // 2)} with training.accumulation_steps={2 * steps} trains the same"
            ]
            ways = ways if size > 1 else []
            ways += [] if self.settings.mixed_precision == "bf16" else ["training.mixed_precision=bf16"]
            if self.plain.config.backbone_config is not None and not self.plain.config.freeze_backbone:
                ways += [] if self.settings.gradient_checkpointing else ["training.gradient_checkpointing=true"]
                ways += [f"a smaller model.frame_chunk_size than {self.plain.config.frame_chunk_size}"]
            ways += [f"a smaller model.window_size than {self.plain.config.window_size}"]
            raise TrainingError(
                f"out of memory with training.batch_size={size} on {self.accelerator.device}; try "
                + ", or ".join(ways)
            ) from error

    def train(self, on_epoch, hook, name) -> TrainingResult:
        begun = time.monotonic()
        state = self.checkpoints.resume(self.plain, self.averaged, self.optimizer.optimizer)
        log = TrainingLog(self.folder / LOG, state.step, self.accelerator)
        start_trackers(self.accelerator, self.settings)
        total = self.settings.epochs * self.steps_per_epoch
        with profiler(self.settings.profile, self.folder) as profile:
            while not state.is_finished:
                epoch = state.step // self.steps_per_epoch
                for row in self._epoch(epoch, state.step):
                    state = replace(state, step=row["step"])
                    log.add(row)
                    profile.step()
                    if hook is not None and self.accelerator.is_main_process:
                        hook("training", None, file=name, total=total, completed=state.step)
                    every = self.settings.checkpoint_steps
                    if every and state.step % every == 0 and state.step % self.steps_per_epoch:
                        self._save(state)
                state = self._end_epoch(epoch + 1, state, log)
                if on_epoch is not None and self.accelerator.is_main_process:
                    on_epoch(epoch + 1, self.averaged.eval())
                self._save(state)
        for tracker in self.accelerator.trackers:  # not `end_training`: see `_leave_group`
            tracker.finish()
        best = None if state.best_step is None else state.best_step // self.steps_per_epoch
        result = TrainingResult(self.folder, log.rows(), best, state.best_score, time.monotonic() - begun)
        if hook is not None and self.accelerator.is_main_process:
            hook("training", result, file=name)
        return result

    def _save(self, state: TrainingState) -> None:
        is_main = self.accelerator.is_main_process
        tensors = training_tensors(self.plain, self.optimizer.optimizer, keep=is_main)
        if is_main:
            self.checkpoints.save(state, tensors, self.averaged)
        self.accelerator.wait_for_everyone()

    # --- one epoch ------------------------------------------------------------------------------------------------

    def _epoch(self, epoch: int, step: int) -> Iterator[dict[str, Any]]:
        """Train to the end of an epoch, beginning after a step; the log's row of every step."""
        self.windows.set_epoch(epoch)
        self.plain.train()
        size, share, rank = self.settings.batch_size, self.share, self.accelerator.process_index
        first = (step - epoch * self.steps_per_epoch) * share
        mine = range(first + rank, self.steps_per_epoch * share, self.accelerator.num_processes)
        batches = iter(
            DataLoader(
                self.windows,
                batch_sampler=[range(batch * size, (batch + 1) * size) for batch in mine],
                num_workers=self.settings.num_workers,
                collate_fn=self.collate,
                pin_memory=self.accelerator.device.type == "cuda",
            )
        )
        for number in range(step, (epoch + 1) * self.steps_per_epoch):
            yield {"step": number + 1, "epoch": epoch + 1, **self._step(number, batches)}

    def _step(self, step: int, batches: Iterator[dict[str, Any]]) -> dict[str, float]:
        count = self.settings.accumulation_steps
        normalizer = self.plain.loss_normalizer
        before, after, terms = normalizer.clone(), [], []
        for number in range(count):
            batch = self._on_device(next(batches))
            normalizer.copy_(before)  # all batches of a step are divided by the same
            self._seed(step, number)
            waits = self.accelerator.no_sync(self.model) if number < count - 1 else contextlib.nullcontext()
            with waits:
                with self._autocast():
                    outputs = self.model(**batch)
                self.accelerator.backward(outputs.loss / count)
            after.append(normalizer.clone())
            terms.append(torch.stack([outputs.loss.detach(), *(t.detach() for t in outputs.loss_dict.values())]))
        means = torch.cat([torch.stack(after).mean(0)[None], torch.stack(terms).mean(0)])
        means = self.accelerator.reduce(means, "mean")
        normalizer.copy_(means[0])
        told = dict(zip(("loss", *outputs.loss_dict), means[1:].tolist(), strict=True))
        if not math.isfinite(told["loss"]):
            raise TrainingError(
                f"the loss of step {step + 1} is no number ({told}); lower training.learning_rate "
                f"(got {self.settings.learning_rate}) or look for faults in the inputs"
            )
        limit = math.inf if self.settings.max_grad_norm is None else self.settings.max_grad_norm
        norm = float(whole(self.accelerator.clip_grad_norm_(self.pair[1], limit)))
        factor = learning_rate_factor(step, self.settings, self.steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._average(step)
        return {**told, "learning_rate": self.settings.learning_rate * factor, "grad_norm": norm}

    def _seed(self, step: int, number: int) -> None:
        """Dropout's random numbers: of the step and of the batch's place in it."""
        place = number * self.accelerator.num_processes + self.accelerator.process_index
        state = np.random.SeedSequence((self.settings.seed, step, place)).generate_state(1, np.uint64)
        torch.manual_seed(int(state[0] >> np.uint64(1)))

    @torch.no_grad()
    def _average(self, step: int) -> None:
        """Move the averaged weights towards the weights; counts and statistics are taken over."""
        if self.averaged is self.plain:
            return
        decay = min(self.settings.ema_decay or 0.0, (1 + step) / (10 + step))
        if self.settings.shard:  # one at a time: all of them may be more than there is room for
            for mean, now in zip(*self.pair, strict=True):
                mean.lerp_(whole(now.detach()), 1 - decay)
        else:
            torch._foreach_lerp_(*self.pair, 1 - decay)
        for mean, now in zip(self.averaged.buffers(), self.plain.buffers(), strict=True):
            mean.copy_(now)

    def _end_epoch(self, epoch: int, state: TrainingState, log: TrainingLog) -> TrainingState:
        """Validate, and say whether this was the best epoch and whether it was the last."""
        is_finished, patience = epoch >= self.settings.epochs, self.settings.early_stopping_epochs
        if self.validation is None:
            return replace(state, is_finished=is_finished)
        loss = self._validation_loss()
        told, score = {"validation_loss": loss}, -loss
        if self.plain.config.heads != "recognition":
            told["validation_f1"] = score = self._validation_f1()
        log.add({"step": state.step, "epoch": epoch, **told})
        if state.best_score is None or score > state.best_score:
            return replace(state, best_step=state.step, best_score=score, bad_epochs=0, is_finished=is_finished)
        bad = state.bad_epochs + 1
        return replace(state, bad_epochs=bad, is_finished=is_finished or bool(patience and bad >= patience))

    @torch.no_grad()
    def _validation_loss(self) -> float:
        """Mean loss per window on the validation subjects. Each process takes its own windows, each of them once."""
        model, size = self.averaged.eval(), self.settings.batch_size
        mine = list(range(self.accelerator.process_index, len(self.validation), self.accelerator.num_processes))
        batches = [mine[start : start + size] for start in range(0, len(mine), size)]
        loader = DataLoader(self.validation, batch_sampler=batches, collate_fn=self.collate)
        total = torch.zeros((), dtype=torch.float64 if self.accelerator.device.type != "mps" else torch.float32)
        normalizer = model.loss_normalizer.clone()
        for batch in loader:
            count = len(batch["labels"])
            model.loss_normalizer.fill_(count)  # a mean per window, whatever the batches are
            with self._autocast():
                total += model(**self._on_device(batch)).loss.cpu() * count
        model.loss_normalizer.copy_(normalizer)
        return float(self.accelerator.reduce(total.to(self.accelerator.device), "sum")) / len(self.validation)

    def _validation_f1(self) -> float:
        """Best F1 on the validation subjects. Each process looks through its own videos, each of them once."""
        mine = self.validators[self.accelerator.process_index :: self.accelerator.num_processes]
        found = gather_object(raw_detections(self.averaged.eval(), mine, self.detection, self.video_processor))
        names = ("subject", "video", "onset", "offset", "type", "score")
        found = [{name: row[name] for name in names} for row in found]
        marked = marked_events(self.validators, self.plain.config.expression_types)
        return best_f1(Expressions.from_rows(found), Expressions.from_rows(marked))

    def _autocast(self):
        return torch.autocast(
            self.accelerator.device.type, torch.bfloat16, enabled=self.settings.mixed_precision == "bf16"
        )

    def _on_device(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Inputs go where the network is; labels stay, as they are looked at one by one."""
        device = self.accelerator.device
        return {k: v.to(device, non_blocking=True) if torch.is_tensor(v) else v for k, v in batch.items()}


def _check_subjects(sequences: Sequence[FednSequence], validation: Sequence[FednSequence]) -> None:
    for what in ("subject_id", "video_id"):
        names = [{getattr(each, what).strip().casefold() for each in part} for part in (sequences, validation)]
        if both := names[0] & names[1]:
            raise LeakageError(f"{what} {sorted(both)[0]} is in train and in validation")


def _leave_group() -> None:
    """
    Leave the group of processes, at exit and not before: other trainings of the same script need it. A thread of gloo
    that lets go of its last tensor wants Python's lock; where the group goes down with the network wrapped for it, as
    `Accelerator.end_training` brings about, it waits for ever, and where it goes down with the interpreter it aborts.
    """
    gc.collect()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _fingerprint(sequences: Sequence[FednSequence]) -> str:
    """Of names, lengths and events."""
    digest = hashlib.sha256()
    for each in sequences:
        shapes = sorted((name, tuple(values.shape)) for name, values in each.inputs.items())
        labels = {name: values.tolist() for name, values in each.labels.items()}
        digest.update(f"{each.video_id} {each.subject_id} {shapes} {labels}\n".encode())
    return f"{len(sequences)} videos, {digest.hexdigest()[:12]}"


__all__ = ["TrainingResult", "train"]
