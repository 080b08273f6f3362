"""The optimiser: what decays, what learns more slowly, and how fast anything learns at a step."""

import math

import torch
from torch import nn

from ..modeling_fedn import FednForFacialExpressionDetection
from .settings import TrainingSettings


def make_optimizer(model: FednForFacialExpressionDetection, settings: TrainingSettings) -> torch.optim.AdamW:
    """
    AdamW in groups: matrices and kernels decay, biases and norms do not; a backbone that trains does so more slowly.

    Example:

    ```python
    >>> from fedn_hf import FednConfig, FednForFacialExpressionDetection
    >>> from fedn_hf.training.optimisation import make_optimizer
    >>> from fedn_hf.training.settings import TrainingSettings

    >>> model = FednForFacialExpressionDetection(FednConfig(backbone_config=None))
    >>> optimizer = make_optimizer(model, TrainingSettings(weight_decay=0.05))
    >>> sorted({(group["weight_decay"], len(group["params"]) > 0) for group in optimizer.param_groups})
    [(0.0, True), (0.05, True)]
    ```
    """
    backbone = {id(p) for p in model.fedn.frame_encoder.parameters()} if model.fedn.frame_encoder else set()
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            groups.setdefault((id(parameter) in backbone, parameter.ndim > 1), []).append(parameter)
    rates = {True: settings.learning_rate * settings.backbone_learning_rate_ratio, False: settings.learning_rate}
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "lr": rates[is_backbone],
                "initial_lr": rates[is_backbone],
                "weight_decay": settings.weight_decay if decays else 0.0,
            }
            for (is_backbone, decays), parameters in groups.items()
        ]
    )


def learning_rate_factor(step: int, settings: TrainingSettings, steps_per_epoch: int) -> float:
    """
    What of the highest learning rate a step (from 0) gets: a straight rise over the warm-up, then half a cosine to 0.

    Example:

    ```python
    >>> from fedn_hf.training.optimisation import learning_rate_factor
    >>> from fedn_hf.training.settings import TrainingSettings

    >>> settings = TrainingSettings(epochs=3, warmup_epochs=1)
    >>> [round(learning_rate_factor(step, settings, steps_per_epoch=4), 2) for step in range(12)]
    [0.25, 0.5, 0.75, 1.0, 1.0, 0.96, 0.85, 0.69, 0.5, 0.31, 0.15, 0.04]
    ```
    """
    warmup, total = settings.warmup_epochs * steps_per_epoch, settings.epochs * steps_per_epoch
    if step + 1 < warmup:
        return (step + 1) / warmup
    return (1 + math.cos(math.pi * max(0.0, step - warmup) / max(1.0, total - warmup))) / 2


__all__ = ["learning_rate_factor", "make_optimizer"]
