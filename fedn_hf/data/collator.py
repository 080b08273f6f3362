"""Windows to a batch, named as the network's inputs are."""

from collections.abc import Sequence
from typing import Any

import torch

from ..video_processing_fedn import FednVideoProcessor
from .windows import Window


class WindowCollator:
    """
    Stack windows into the inputs of [`FednForFacialExpressionDetection`].

    Args:
        video_processor ([`FednVideoProcessor`], *optional*): Makes `pixel_values` of crops; needed for windows of
            crops alone.

    Calling it with B windows of up to T frames gives

        frame_features (B, T, F), or pixel_values (B, T, 3, S, S), float;
        landmarks (B, T, P, 2), where the windows have them;
        frame_mask (B, T), bool; False where a shorter window was filled up, too;
        labels, a list of B dictionaries.

    Raises:
        `ValueError`: no windows, windows of different kinds, or crops without a video processor.

    Example:

    ```python
    >>> import torch
    >>> from fedn_hf import FednConfig, FednForFacialExpressionDetection
    >>> from fedn_hf.data.collator import WindowCollator
    >>> from fedn_hf.data.sequences import FednSequence
    >>> from fedn_hf.data.windows import TrainingWindows

    >>> event = {"onset": 300, "apex": 314, "offset": 329, "type": "macro-expression", "emotion": "fear"}
    >>> row = {"video_id": "a", "subject_id": "s1", "fps": 30.0, "events": [event]}
    >>> config = FednConfig(backbone_config=None, feature_size=24, hidden_size=32)
    >>> sequence = FednSequence.from_native(row, {"frame_features": torch.randn(900, 24)}, config)
    >>> windows = TrainingWindows([sequence], config, seed=0)
    >>> loader = torch.utils.data.DataLoader(windows, batch_size=2, collate_fn=WindowCollator())
    >>> [batch] = loader
    >>> batch["frame_features"].shape, len(batch["labels"])
    (torch.Size([2, 256, 24]), 2)
    >>> FednForFacialExpressionDetection(config)(**batch).loss.ndim
    0
    ```
    """

    def __init__(self, video_processor: FednVideoProcessor | None = None):
        self.video_processor = video_processor

    def __call__(self, windows: Sequence[Window]) -> dict[str, Any]:
        """
        Stack windows of the same inputs; shorter ones are filled up with frames that the mask leaves out.

        Raises:
            `ValueError`: no window, or windows with different inputs.
        """
        names = {tuple(sorted(name for name, value in window.items() if torch.is_tensor(value))) for window in windows}
        if len(names) != 1:
            raise ValueError(f"a batch needs one or more windows with the same inputs, got {sorted(names)}")
        length = max(len(window["frame_mask"]) for window in windows)
        batch: dict[str, Any] = {}
        for name in names.pop():
            rows = [window[name] for window in windows]
            if name == "crops":
                batch["pixel_values"] = self._pixels(rows)  # filled up by the processor
            else:
                batch[name] = torch.stack([_fill(values, length) for values in rows])
        return {**batch, "labels": [window["labels"] for window in windows]}

    def _pixels(self, crops: list[torch.Tensor]) -> torch.Tensor:
        if self.video_processor is None:
            raise ValueError("these windows hold crops: give WindowCollator the video_processor of the network")
        return self.video_processor(crops, return_tensors="pt")["pixel_values"]


def _fill(values: torch.Tensor, length: int) -> torch.Tensor:
    """(t, ...) to (length, ...); zeros are added, and False to a mask."""
    if len(values) == length:
        return values
    return torch.cat([values, values.new_zeros(length - len(values), *values.shape[1:])])


__all__ = ["WindowCollator"]
