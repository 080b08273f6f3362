"""What learns nothing: a rule on optical flow, to hold networks against."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ..data.sequences import FednSequence
from ..postprocessing_fedn import suppress

_REST_S, _SMOOTH_S, _PEAK_S = 4.0, 0.17, 0.5
_MICRO_MAX_S = 0.5  # the field's border between the types


def flow_rule(sequence: FednSequence, frame_rate: float, min_score: float, nms_iou: float) -> list[dict[str, Any]]:
    """
    Expressions where displacement peaks.

    The channels' displacements less their mean over 4 s, which is taken for the face at rest, give a size per frame
    (root mean square, smoothed over a sixth of a second). Every frame that is the largest within half a second is an
    apex if it is above the video's median; its expression lasts as long as the size stays above a quarter of the way
    from the median to it, which a raised cosine does for two thirds of its length; its score is its size against the
    median, s / (s + median). Up to half a second it is called micro.

    Args:
        sequence: Of displacements: `frame_features` (T, C).
        frame_rate: Of the sequence.
        min_score, nms_iou: As in [`DetectionSettings`].

    Returns:
        Rows as of `detections.raw_detections`.

    Source:
        The idea of Polikovsky et al., 2009, and Shreve et al., 2011: expressions are where facial motion is large
        against the video's own.

    Example:

    ```python
    >>> import torch
    >>> from fedn_hf import FednConfig
    >>> from fedn_hf.data.sequences import FednSequence
    >>> from fedn_hf.training.baselines import flow_rule

    >>> features = 0.1 * torch.sin(torch.arange(600.0))[:, None]
    >>> features[300:331] += torch.hann_window(31)[:, None]
    >>> row = {"video_id": "a", "subject_id": "s", "fps": 30.0, "events": []}
    >>> sequence = FednSequence.from_native(row, {"frame_features": features}, FednConfig())
    >>> found = max(flow_rule(sequence, 30.0, 0.1, 0.3), key=lambda row: row["score"])
    >>> 301 < found["onset"] < found["apex"] < found["offset"] < 330
    True
    ```
    """
    values = sequence.inputs["frame_features"].float().T  # (C, T)
    size = (values - _running_mean(values, _REST_S * frame_rate)).square().mean(0).sqrt()
    size = _running_mean(size[None], _SMOOTH_S * frame_rate)[0].numpy()  # (T,)
    reach = max(1, round(_PEAK_S * frame_rate))
    highest = F.max_pool1d(torch.from_numpy(size)[None], 2 * reach + 1, 1, reach)[0].numpy()
    median = float(np.median(size))
    apexes = np.flatnonzero((size == highest) & (size > median))
    scores = size[apexes] / (size[apexes] + median)
    spans = np.array([_above(size, apex, median) for apex in apexes], np.int64).reshape(-1, 2)
    edges = torch.from_numpy(spans + np.array([0, 1])).double()
    kept = suppress(edges, torch.from_numpy(scores)[None].double(), "hard", iou_threshold=nms_iou)[0] >= min_score
    native, rows = sequence.native_frame.tolist(), []
    for place in kept.nonzero()[:, 0].tolist():
        first, last = spans[place].tolist()
        is_micro = last + 1 - first <= _MICRO_MAX_S * frame_rate
        rows.append(
            {
                "subject": sequence.subject_id,
                "video": sequence.video_id,
                "onset": native[first],
                "apex": native[int(apexes[place])],
                "offset": native[last],
                "type": "micro-expression" if is_micro else "macro-expression",
                "emotion": None,
                "score": float(scores[place]),
            }
        )
    return rows


def _running_mean(values: torch.Tensor, frames: float) -> torch.Tensor:
    """Centred mean over about so many frames, (C, T); at the ends over those that are there."""
    radius = max(1, round(frames / 2))
    return F.avg_pool1d(values[None], 2 * radius + 1, 1, radius, count_include_pad=False)[0]


def _above(size: np.ndarray, apex: int, median: float) -> tuple[int, int]:
    """First and last frame around an apex where the size stays above a quarter of the way to it."""
    below = size < median + (size[apex] - median) / 4
    before, after = np.flatnonzero(below[:apex]), np.flatnonzero(below[apex:])
    return (int(before[-1]) + 1 if len(before) else 0, apex + int(after[0]) - 1 if len(after) else len(size) - 1)


__all__ = ["flow_rule"]
