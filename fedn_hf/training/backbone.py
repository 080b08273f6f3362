"""A backbone that sees what the muscles of a face do: trained on synthetic faces, whose every muscle is known.

A detector of expressions must not care whose face it sees, in what light, or how it is held; but labelled videos are
few, and a backbone that trains on them learns their people. A set of `fedn synth` says of every frame what each muscle
does, where the head points and where the eyes look, and it is made of as many people as one likes. An expression is a
change, so a step takes several frames of each of several videos, and what a network says of them is compared twice: as
it is, and less the mean over the video's frames, which leaves nothing of what never changes in it.

    run/checkpoints, run/latest   as everywhere in training
    run/backbone                  the backbone alone, as `recipe.backbone` takes it
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from safetensors.numpy import load_file
from torch import nn

from ..configuration_fedn import FednConfig
from ..data.cache import FeatureCache, crops_of
from ..layers_fedn import FednFrameEncoder
from ..synthetic.facs import ACTION_UNITS
from ..video_processing_fedn import FednVideoProcessor
from .checkpoints import Checkpoints, TrainingState, training_tensors
from .log import TrainingLog
from .optimisation import learning_rate_factor
from .settings import TrainingError, TrainingSettings

# Frames of one video in a step: enough to tell what changes in it from what does not.
_FRAMES = 8
# What is said of a frame: every action unit, the head's yaw, pitch and roll, and the eyes' yaw and pitch.
TARGETS = (*(f"AU{unit}" for unit in ACTION_UNITS), "yaw", "pitch", "roll", "gaze yaw", "gaze pitch")
_UNITS = len(ACTION_UNITS)
# In a mirror the head turns and tilts the other way.
_MIRRORED = torch.tensor([*[1.0] * _UNITS, -1.0, 1.0, -1.0, -1.0, 1.0])
_DEGREES = 10.0  # of head and eyes count as much as a whole contraction of a muscle
_LEAST_SPREAD = 0.05  # what hardly ever moves is not blown up beyond this
_SHOWN = 10  # every how many frames validation looks


@dataclass(frozen=True)
class KnownFace:
    """
    The crops of a video of T frames and what is true of each.

    Args:
        video_id, split: As in the set.
        crops: uint8 (T, S, S, 3).
        mask: bool (T,), True where there is a face.
        targets: float32 (T, 30), as named by `TARGETS`: the root of each action unit's intensity on its stronger side
            (the root, so that what is faint counts too), and angles in tens of degrees.
        is_moving: bool (T,), where there is an expression.
    """

    video_id: str
    split: str
    crops: torch.Tensor
    mask: torch.Tensor
    targets: torch.Tensor
    is_moving: torch.Tensor


def known_faces(
    folder: str | Path,
    config: FednConfig,
    processor: FednVideoProcessor,
    *,
    cache: FeatureCache | None = None,
    hook: Callable | None = None,
) -> list[KnownFace]:
    """
    The faces of a set that `fedn synth` made.

    Args:
        folder: Of the set, with its `truth`.
        config, processor: What crops are cut for.
        cache: Where crops are kept; a minute takes 68 MB at 112 pixels.
        hook: Called as the pipeline's, with the step "features".

    Raises:
        TrainingError: no such set.
    """
    folder, faces = Path(folder), []
    videos = sorted(folder.glob("*/*/*.mp4"))
    if not videos or not (folder / "truth").is_dir():
        raise TrainingError(f"{folder}: holds no synthetic videos with their truth; fedn synth makes them")
    for video in videos:
        truth = folder / "truth" / f"{video.stem}.safetensors"
        if not truth.is_file():
            raise TrainingError(f"{video}: nothing is known of it, there is no {truth}")
        crops = crops_of(video, config, processor, cache=cache, hook=hook)
        known = {name: values[crops.native_frame].astype(np.float32) for name, values in load_file(truth).items()}
        targets = np.concatenate(
            [
                np.sqrt(known["action_units"].max(-1).clip(0)),
                known["head_rotation_deg"] / _DEGREES,
                known["gaze_deg"] / _DEGREES,
            ],
            axis=1,
        )
        faces.append(
            KnownFace(
                video_id=video.stem,
                split=video.parts[-3],
                crops=crops.inputs["crops"],
                mask=crops.inputs["frame_mask"],
                targets=torch.from_numpy(targets),
                is_moving=torch.from_numpy(known["intensity"] > 0),
            )
        )
    return faces


class _Reader(nn.Module):
    """A backbone and one linear layer that says what it sees."""

    def __init__(self, config: FednConfig, mean: torch.Tensor, spread: torch.Tensor):
        super().__init__()
        self.config = config
        self.encoder = FednFrameEncoder(config)
        self.head = nn.Linear(config.feature_size, len(TARGETS))
        self.register_buffer("mean", mean)
        self.register_buffer("spread", spread)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(pixel_values))  # (N, 30), standardised

    def loss(self, pixel_values: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Of groups (G, M, ...): as it is said, and less the mean over the M frames of a video."""
        said = self(pixel_values.flatten(0, 1)).unflatten(0, pixel_values.shape[:2])  # (G, M, 30)
        wanted = (targets - self.mean) / self.spread
        changes = (said - said.mean(1, keepdim=True), wanted - wanted.mean(1, keepdim=True))
        return F.smooth_l1_loss(said, wanted) + F.smooth_l1_loss(*changes)


def train_backbone(
    faces: Sequence[KnownFace],
    config: FednConfig,
    processor: FednVideoProcessor,
    settings: TrainingSettings,
    folder: str | Path,
    *,
    hook: Callable | None = None,
) -> list[dict[str, Any]]:
    """
    Train a backbone, or go on with that, and write `FOLDER/backbone`.

    Args:
        faces: Those whose split is "validation" do not train; they say how well the rest went.
        config: Its `backbone_config` and `feature_size`.
        processor: Makes pixels of crops.
        settings: How; `batch_size` counts videos, of which a step takes eight frames each, and an epoch has as many
            frames as there are. Faces are mirrored half of the time beside the augmentations.
        folder: New, or that of the same run.
        hook: Called as the pipeline's, with the step "backbone".

    Returns:
        A row per step (`step`, `loss`), and one per epoch with `correlation`: over the validation videos, the mean
        correlation of what is said with what is true within a video, by target.

    Raises:
        TrainingError: nobody to train on, another run in the folder, or a loss that is no number.
    """
    training = [face for face in faces if face.split != "validation" and face.mask.any()]
    checking = [face for face in faces if face.split == "validation" and face.mask.any()]
    if len(training) < settings.batch_size:
        raise TrainingError(f"training.batch_size={settings.batch_size} videos a step, and {len(training)} train")
    seen = torch.cat([face.targets[face.mask] for face in training])
    torch.manual_seed(settings.seed)
    accelerator = Accelerator()
    device = accelerator.device
    model = _Reader(config, seen.mean(0), seen.std(0).clamp(min=_LEAST_SPREAD))
    model.to(device, memory_format=torch.channels_last)  # a third faster on a CPU
    optimizer = _optimizer(model, settings)
    steps_per_epoch = max(1, len(seen) // (settings.batch_size * _FRAMES))
    Path(folder).mkdir(parents=True, exist_ok=True)
    network = {"backbone_config": config.backbone_config.to_dict(), "image_size": config.image_size}
    facts = {"training": settings.to_dict(), "videos": [face.video_id for face in faces], "model": network}
    checkpoints = Checkpoints(folder, settings.keep_checkpoints, facts)
    state = checkpoints.resume(model, model, optimizer)
    log = TrainingLog(Path(folder) / "log.jsonl", state.step, accelerator)
    total = settings.epochs * steps_per_epoch
    augmentations = settings.augmentation_functions()
    for step in range(state.step, total):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * learning_rate_factor(step, settings, steps_per_epoch)
        crops, targets = _batch(training, settings, augmentations, step)
        pixels = processor(list(crops), return_tensors="pt")["pixel_values"].to(device)
        model.train()
        loss = model.loss(pixels, targets.to(device))
        if not torch.isfinite(loss):
            raise TrainingError(f"the loss of step {step + 1} is no number; lower training.learning_rate")
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm or float("inf"))
        optimizer.step()
        log.add({"step": step + 1, "loss": loss.item()})
        if hook is not None:
            hook("backbone", None, file="backbone", total=total, completed=step + 1)
        if (step + 1) % steps_per_epoch == 0:
            if checking:
                log.add({"step": step + 1, "correlation": correlations(model, checking, processor)})
            state = TrainingState(step=step + 1, is_finished=step + 1 == total)
            checkpoints.save(state, training_tensors(model, optimizer, keep=True), model)
    model.encoder.backbone.save_pretrained(Path(folder) / "backbone")
    if hook is not None:
        hook("backbone", folder, file="backbone")
    return log.rows()


def _optimizer(model: _Reader, settings: TrainingSettings) -> torch.optim.AdamW:
    """AdamW; biases and norms do not decay."""
    groups = [
        {"params": [p for p in model.parameters() if (p.ndim > 1) == decays], "weight_decay": decay}
        for decays, decay in ((True, settings.weight_decay), (False, 0.0))
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate)


def _batch(
    faces: Sequence[KnownFace], settings: TrainingSettings, augmentations: Sequence[Callable], step: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Crops (G, M, S, S, 3) and targets (G, M, 30) of a step, which depend on the seed and the step alone. Half of the
    frames are of expressions, as far as there are any.
    """
    rng = np.random.default_rng((settings.seed, step))
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    crops, targets = [], []
    for number in rng.permutation(len(faces))[: settings.batch_size]:
        face = faces[number]
        visible = np.flatnonzero(face.mask.numpy())
        moving = np.flatnonzero((face.mask & face.is_moving).numpy())
        frames = rng.choice(visible, _FRAMES)
        if len(moving):
            frames[: _FRAMES // 2] = rng.choice(moving, _FRAMES // 2)
        frames = torch.from_numpy(frames)
        window = {"crops": face.crops[frames], "frame_mask": torch.ones(_FRAMES, dtype=torch.bool)}
        for augment in augmentations:
            window = augment(window, generator)
        is_mirrored = rng.random() < 0.5
        crops.append(window["crops"].flip(2) if is_mirrored else window["crops"])
        targets.append(face.targets[frames] * (_MIRRORED if is_mirrored else 1.0))
    return torch.stack(crops), torch.stack(targets)


@torch.no_grad()
def correlations(model: _Reader, faces: Sequence[KnownFace], processor: FednVideoProcessor) -> dict[str, float]:
    """By target, the correlation of what is said with what is true, both less their means over each video."""
    model.eval()
    said, true = [], []
    for face in faces:
        frames = torch.nonzero(face.mask)[::_SHOWN, 0]
        for values, change in ((_read(model, face.crops[frames], processor), said), (face.targets[frames], true)):
            change.append(values - values.mean(0))
    said, true = torch.cat(said), torch.cat(true)
    together = (said * true).mean(0) / (said.square().mean(0) * true.square().mean(0)).sqrt().clamp(min=1e-9)
    return {name: round(value, 3) for name, value in zip(TARGETS, together.tolist(), strict=True)}


def _read(model: _Reader, crops: torch.Tensor, processor: FednVideoProcessor) -> torch.Tensor:
    def parts() -> Iterator[torch.Tensor]:
        for part in crops.split(256):
            pixels = processor(part, return_tensors="pt")["pixel_values"][0]
            yield model(pixels.to(model.mean.device)).cpu()

    return torch.cat(list(parts())) * model.spread.cpu() + model.mean.cpu()


__all__ = ["TARGETS", "KnownFace", "correlations", "known_faces", "train_backbone"]
