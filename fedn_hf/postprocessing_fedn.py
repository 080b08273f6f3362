"""From the network's raw outputs to a table of expressions: windows, suppression, seconds, apex, merging.

Nothing here runs the network. `FednProposals` of a video can be saved and turned into intervals again with other
settings. Frames are continuous and half-open as in `loss_fedn`: frame `i` covers `[i, i + 1)`.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Literal

import torch

from .loss_fedn import ProposalGrid, interval_iou

# Confidence (and, without confidence, every logit) of a proposal whose position has no frames: its probability is 0.
MASKED_LOGIT = -1e4


def to_half_open(onset: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
    """Inclusive frame numbers, as annotation sheets have them, to intervals (..., 2): `[onset, offset + 1)`."""
    return torch.stack((torch.as_tensor(onset), torch.as_tensor(offset) + 1), dim=-1).float()


def to_inclusive(intervals: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Intervals (..., 2) to the nearest inclusive onset and offset frame numbers; offset is never before onset."""
    onset = intervals[..., 0].round().long()
    return onset, torch.maximum(onset, intervals[..., 1].round().long() - 1)


@dataclass(frozen=True)
class FednWindow:
    """Frames `[start, stop)` of a sequence that pass the network together, and the part `[own_start, own_stop)` of
    them whose positions' proposals are taken from this window."""

    start: int
    stop: int
    own_start: int
    own_stop: int


def plan_windows(num_frames: int, own: int, context: int, stride: int, offset: int = 0) -> list[FednWindow]:
    """
    Cut a sequence into windows that each own `own` frames and see `context` more on both sides.

    The owned parts tile the sequence, so every position belongs to exactly one window. With a context of at least
    `config.context_frames` a position's prediction does not depend on which window that is: the result is that of one
    pass over the whole sequence, wherever the windows start.

    Args:
        num_frames (`int`): Length of the sequence.
        own (`int`): Frames that a window owns; a multiple of `stride`.
        context (`int`): Frames seen on both sides of these; a multiple of `stride`.
        stride (`int`): `config.total_stride`. Windows start at its multiples, as positions do.
        offset (`int`): Length of the first owned part, if it shall be shorter than the others; a multiple of `stride`.

    Example:

    ```python
    >>> from fedn_hf.postprocessing_fedn import plan_windows

    >>> [(window.start, window.stop, window.own_start) for window in plan_windows(1000, 512, 64, 32)]
    [(0, 576, 0), (448, 1000, 512)]
    ```
    """
    for name, value in (("own", own), ("context", context), ("offset", offset)):
        if value % stride or value < 0 or (name == "own" and not value):
            raise ValueError(f"{name} must be a multiple of the network's stride {stride} frames, got {value}")
    edges = sorted({0, num_frames, *range(offset or own, num_frames, own)})
    return [
        FednWindow(max(0, begin - context), min(num_frames, end + context), begin, end)
        for begin, end in itertools.pairwise(edges)
    ]


@dataclass(frozen=True)
class FednProposals:
    """
    The raw outputs of the network for one sequence of T frames, stitched: small, on the CPU, without masked positions.

    boundaries (P, 2): start and end in frames of the sequence, in double precision.
    confidence (P,), type_logits (P, 2), logits (P, C): before the sigmoid; `None` where the network has no such head.
    intensity (T,): between 0 and 1, or `None`.
    num_frames: T, as a tensor, so that all of it is tensors and `safetensors.torch.save_file(proposals.to_dict(),
        path)` works.

    Example:

    ```python
    >>> import torch
    >>> from fedn_hf import FednConfig, FednForFacialExpressionDetection

    >>> model = FednForFacialExpressionDetection(FednConfig(backbone_config=None)).eval()
    >>> proposals = model.detect_from_features(torch.randn(256, 512))
    >>> proposals.boundaries.shape[1], int(proposals.num_frames), sorted(proposals.to_dict())
    (2, 256, ['boundaries', 'confidence', 'logits', 'num_frames', 'type_logits'])
    ```
    """

    boundaries: torch.Tensor
    num_frames: torch.Tensor
    confidence: torch.Tensor | None = None
    type_logits: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    intensity: torch.Tensor | None = None

    def to_dict(self) -> dict[str, torch.Tensor]:
        """The tensors that are there, by name; `FednProposals(**tensors)` builds the object again."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def owned_proposals(
    outputs: dict, grid: ProposalGrid, window: FednWindow, num_frames: int, reach: int, min_score: float
) -> dict[str, torch.Tensor]:
    """
    What one window contributes to `FednProposals`, in frames of the sequence: the proposals of visible positions that
    it owns with a confidence of at least `min_score`, less those that an inner edge of the window cuts.

    A proposal that ends farther from its position than the network can see is dropped everywhere. So, in windows with
    enough context no edge cuts any other, and where windows start makes no difference.

    Args:
        outputs (`dict`): The model's outputs for this window, batch dimension removed.
        grid (`ProposalGrid`): The window's proposals.
        window (`FednWindow`): The window.
        num_frames (`int`): Length of the sequence.
        reach (`int`): How far the network can see, `config.context_frames`.
        min_score (`float`): Lowest sigmoid of the confidence.
    """
    outputs = {name: tensor.cpu() for name, tensor in outputs.items()}
    points = grid.points.cpu() + window.start
    # In single precision the frames of an hour could only be told apart to a hundredth.
    start, end = (outputs["boundaries"].double() + window.start).unbind(-1)
    # At the edges of the sequence nothing more can be seen, so there proposals may reach out; they are cut later.
    first = window.start if window.start else float("-inf")
    last = window.stop if window.stop < num_frames else float("inf")
    owned_until = window.own_stop if window.own_stop < num_frames else float("inf")  # the last positions stick out
    keep = (points >= window.own_start) & (points < owned_until) & (start >= first) & (end <= last)
    keep &= torch.maximum(points - start.clamp(min=0), end.clamp(max=num_frames) - points) <= reach
    if outputs.get("confidence") is not None:
        score = outputs["confidence"].float().sigmoid()
        keep &= (score >= min_score) & (score > 0)
    else:
        keep &= outputs["logits"].amax(-1) > MASKED_LOGIT / 2
    part = {"boundaries": torch.stack((start, end), -1)[keep]}
    for name in ("confidence", "type_logits", "logits"):
        if outputs.get(name) is not None:
            part[name] = outputs[name][keep].float()
    if outputs.get("intensity") is not None:
        first, last = window.own_start - window.start, window.own_stop - window.start
        part["intensity"] = outputs["intensity"][first:last].float()
    return part


def stitch(parts: list[dict], num_frames: int) -> FednProposals:
    """Join the parts of all windows, in order, into the proposals of the sequence."""
    joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return FednProposals(num_frames=torch.tensor(num_frames), **joined)


def suppress(
    boundaries: torch.Tensor,
    scores: torch.Tensor,
    method: Literal["soft", "hard"] = "soft",
    sigma: float = 0.5,
    iou_threshold: float = 0.5,
    score_threshold: float = 0.0,
) -> torch.Tensor:
    """
    Non-maximum suppression, for all classes at once.

    The highest score is taken and the others fall by how much their intervals overlap it, and so on:

        soft  s_i <- s_i exp(-IoU(i, best)^2 / sigma)        (Bodla et al., 2017)
        hard  s_i <- 0 where IoU(i, best) > iou_threshold

    Args:
        boundaries (`torch.Tensor` (P, 2)): Intervals, shared by the classes.
        scores (`torch.Tensor` (C, P)): Positive scores; 0 where an interval is not of a class.
        score_threshold (`float`): Scores below it are taken no more.

    Returns:
        `torch.Tensor` (C, P): the scores as they were when they were taken, 0 for those never taken.
    """
    if method not in ("soft", "hard"):
        raise ValueError(f"method must be 'soft' or 'hard', got {method!r}")
    left, taken = scores.clone(), torch.zeros_like(scores)
    for _ in range(scores.shape[1]):
        best, where = left.max(dim=1, keepdim=True)  # (C, 1)
        alive = (best > 0) & (best >= score_threshold)
        if not alive.any():
            break
        taken.scatter_(1, where, torch.where(alive, best, taken.gather(1, where)))
        left.scatter_(1, where, 0)
        iou = interval_iou(boundaries[where], boundaries)  # (C, P)
        left *= torch.exp(-(iou**2) / sigma) if method == "soft" else iou <= iou_threshold
    return taken


def frames_to_seconds(
    frames: torch.Tensor, fps: float | None = None, times: torch.Tensor | None = None
) -> torch.Tensor:
    """
    Continuous frame coordinates to seconds: by a constant rate, or by a table of the frames' presentation times (T,),
    between which it interpolates. Times may stand still, as a video resampled to a higher rate shows frames twice. The
    last frame lasts as long as the median one.
    """
    if (fps is None) == (times is None):
        raise ValueError(f"give either fps or times, got fps={fps} and times={'None' if times is None else 'a table'}")
    if fps is not None:
        if not fps > 0:
            raise ValueError(f"fps must be positive, got {fps}")
        return frames.double() / fps
    times = torch.as_tensor(times, dtype=torch.float64)
    steps = times.diff()
    if times.ndim != 1 or not len(times) or not times.isfinite().all() or (steps < 0).any():
        raise ValueError(f"times must be one row of seconds that never falls, got {times.tolist()[:8]}")
    moving = steps[steps > 0]
    last = moving.median() if len(moving) else times.new_tensor(1 / 30)
    edges = torch.cat((times, times[-1:] + last))
    before = frames.floor().long().clamp(0, len(times) - 1)
    return edges[before] + (frames.double() - before) * (edges[before + 1] - edges[before])


@dataclass(frozen=True)
class FednIntervals:
    """
    The K expressions found in one sequence, in order of time.

    start_s, apex_s, end_s (K,): seconds; `start_s <= apex_s <= end_s`.
    frames (K, 2), apex_frames (K,): the same in continuous frames of the sequence.
    score (K,): of the interval under its type, after suppression, 0 to 1.
    type (K,), type_scores (K, 2): index into `config.expression_types`, and the probability of an expression of each.
    label (K,), label_scores (K, C): index into `config.id2label`, and one probability per class; `None` for a network
        that does not recognise.

    See [`find_intervals`], which makes them:

    ```python
    >>> import torch
    >>> from fedn_hf import FednProposals, find_intervals

    >>> nothing = FednProposals(torch.zeros(0, 2), torch.tensor(8), torch.zeros(0), torch.zeros(0, 2))
    >>> len(find_intervals(nothing, fps=30))
    0
    ```
    """

    start_s: torch.Tensor
    apex_s: torch.Tensor
    end_s: torch.Tensor
    frames: torch.Tensor
    apex_frames: torch.Tensor
    score: torch.Tensor
    type: torch.Tensor
    type_scores: torch.Tensor
    label: torch.Tensor | None = None
    label_scores: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.score)

    def __getitem__(self, rows: torch.Tensor) -> "FednIntervals":
        """Those that a mask (K,) or indices choose."""
        parts: dict[str, Any] = {name: None if values is None else values[rows] for name, values in vars(self).items()}
        return FednIntervals(**parts)


def type_scores(proposals: FednProposals) -> torch.Tensor:
    """
    How much each proposal is an expression of each type, (P, 2) between 0 and 1: the geometric mean of its confidence
    and of the type's probability, which are two opinions on nearly the same.
    """
    if proposals.confidence is None or proposals.type_logits is None:
        raise ValueError("a recognition network tells no types, got proposals without confidence or type_logits")
    return (_sigmoid(proposals.confidence)[:, None] * _sigmoid(proposals.type_logits)).sqrt().float()


def _sigmoid(logits: torch.Tensor) -> torch.Tensor:
    """In double precision: in single the last digit depends on how many are looked at together."""
    return logits.double().sigmoid()


def _apex_frames(intervals: torch.Tensor, intensity: torch.Tensor | None) -> torch.Tensor:
    """
    Centre of the frames of highest intensity in each interval; the interval's middle where there is no curve. Where it
    is highest at an end, the face is on its way from or to what is next to the interval: then the highest peak inside
    counts, if it is at least half as high.
    """
    apex = intervals.mean(-1)
    if intensity is not None:
        for row, (start, end) in enumerate(intervals.tolist()):
            first = int(start)
            curve = intensity[first : max(first + 1, int(-(-end // 1)))]
            places = (curve == curve.max()).nonzero()
            if (0 in places) != (len(curve) - 1 in places):
                is_peak = (curve[1:-1] >= curve[:-2]) & (curve[1:-1] >= curve[2:])
                peaks = curve[1:-1].where(is_peak, 0)
                if len(peaks) and peaks.max() >= curve.max() / 2:
                    places = (peaks == peaks.max()).nonzero() + 1
            # The middle of a plateau: coarse number formats round a peak off.
            peak = places.double().mean().item() + first + 0.5
            apex[row] = min(max(peak, start), end)
    return apex


def _merge(frames: torch.Tensor, seconds: torch.Tensor, scores: torch.Tensor, types: torch.Tensor, gap_s: float):
    """
    Join intervals of one type that are at most `gap_s` seconds apart. Returns the index of the highest score of each
    group, and the groups' extents in frames.
    """
    leaders: list[int] = []
    extents: list[list[float]] = []
    ends: list[float] = []
    open_groups: dict[int, int] = {}
    for index in frames[:, 0].argsort(stable=True).tolist():
        kind, (start, end), (start_s, end_s) = int(types[index]), frames[index].tolist(), seconds[index].tolist()
        group = open_groups.get(kind)
        if group is None or start_s - ends[group] > gap_s:
            open_groups[kind] = len(leaders)
            leaders.append(index)
            extents.append([start, end])
            ends.append(end_s)
        else:
            extents[group][1], ends[group] = max(extents[group][1], end), max(ends[group], end_s)
            if scores[index] > scores[leaders[group]]:
                leaders[group] = index
    return torch.tensor(leaders, dtype=torch.long), torch.tensor(extents, dtype=frames.dtype).reshape(-1, 2)


def _check_spotted(proposals: FednProposals, times: torch.Tensor | None) -> None:
    """Raise a `ValueError` for what no intervals can be found in."""
    if proposals.confidence is None:
        raise ValueError(
            "a recognition network finds no intervals: pass its proposals as `recognition`, got them alone"
        )
    if proposals.type_logits is None:
        raise ValueError("proposals with confidence need type_logits, one for each expression type, got none")
    if times is not None and len(times) != int(proposals.num_frames):
        raise ValueError(f"times must have one entry for each of the {proposals.num_frames} frames, got {len(times)}")


def _described(
    proposals: FednProposals,
    recognition: FednProposals | None,
    chosen: torch.Tensor,
    frames: torch.Tensor,
    scores: torch.Tensor,
    types: torch.Tensor,
    seconds: Callable[[torch.Tensor], torch.Tensor],
) -> FednIntervals:
    """Intervals with their apexes, their times and their labels; `chosen` are the proposals that they are made of."""
    label_scores = None
    if recognition is not None:
        label_scores = _sigmoid(match_labels(frames, recognition)).float()
    elif proposals.logits is not None:
        label_scores = _sigmoid(proposals.logits[chosen]).float()
    apex = _apex_frames(frames, proposals.intensity)
    start_s, apex_s, end_s = seconds(torch.stack((frames[:, 0], apex, frames[:, 1])))
    return FednIntervals(
        start_s=start_s,
        apex_s=apex_s,
        end_s=end_s,
        frames=frames,
        apex_frames=apex,
        score=scores,
        type=types,
        type_scores=_sigmoid(proposals.type_logits[chosen]).float(),  # type: ignore[index]  # which is checked
        label=None if label_scores is None else label_scores.argmax(-1),
        label_scores=label_scores,
    )


def find_intervals(
    proposals: FednProposals,
    *,
    fps: float | None = None,
    times: torch.Tensor | None = None,
    score_threshold: float = 0.05,
    nms: Literal["soft", "hard"] = "soft",
    nms_sigma: float = 0.5,
    nms_iou: float = 0.5,
    class_aware: bool = True,
    all_types: bool = False,
    min_duration_s: float = 0.0,
    max_duration_s: float = float("inf"),
    micro_max_s: float = float("inf"),
    merge_gap_s: float | None = None,
    recognition: FednProposals | None = None,
) -> FednIntervals:
    """
    The expressions in a sequence.

    Proposals are scored (`type_scores`), cut to the sequence, dropped below `score_threshold` or outside the
    durations, suppressed, merged where asked for, and given an apex: the frame of highest intensity inside, or the
    middle.

    Args:
        proposals ([`FednProposals`]): Raw outputs, as `detect_from_features` returns them.
        fps (`float`) or times (`torch.Tensor` (T,)): Frames per second, or each frame's presentation time in seconds.
        score_threshold (`float`): Lowest score, before and after suppression.
        nms (`str`), nms_sigma, nms_iou (`float`): See [`suppress`].
        class_aware (`bool`): Whether only intervals of the same expression type suppress each other.
        all_types (`bool`): Whether a proposal is looked at under every type, and not only under its likeliest one; so
            much may be found twice. For those who choose a threshold per type afterwards.
        min_duration_s, max_duration_s (`float`): Shortest and longest expression in seconds.
        micro_max_s (`float`): What lasts longer in seconds is not looked at as an expression of the second type.
        merge_gap_s (`float`, *optional*): Join expressions of one type that are at most so far apart, of those that
            overlap only the surest; durations are then those of the joined ones.
        recognition ([`FednProposals`], *optional*): Raw outputs of a recognition network for the same sequence: each
            interval takes the emotion of the proposal that fits it best (the second stage of a cascade).

    Returns:
        [`FednIntervals`]

    Example:

    ```python
    >>> import torch
    >>> from fedn_hf.postprocessing_fedn import FednProposals, find_intervals

    >>> proposals = FednProposals(
    ...     boundaries=torch.tensor([[30.0, 60.0], [31.0, 62.0]]),
    ...     num_frames=torch.tensor(300),
    ...     confidence=torch.tensor([3.0, 2.0]),
    ...     type_logits=torch.tensor([[2.0, -2.0], [2.0, -2.0]]),
    ... )
    >>> found = find_intervals(proposals, fps=30, nms="hard")
    >>> found.start_s.tolist(), found.end_s.tolist(), found.type.tolist()
    ([1.0], [2.0], [0])
    ```
    """
    _check_spotted(proposals, times)
    seconds = partial(frames_to_seconds, fps=fps, times=times)
    frames = proposals.boundaries.clamp(0, int(proposals.num_frames))
    duration = seconds(frames).diff(dim=-1)[:, 0]
    longest = duration.new_tensor([float("inf"), micro_max_s])
    by_type = type_scores(proposals) * (duration[:, None] <= longest)
    if not all_types:
        by_type = by_type * (by_type == by_type.amax(-1, keepdim=True))
    keep = (by_type >= score_threshold) & (by_type > 0) & (frames[:, 1] > frames[:, 0])[:, None]
    if merge_gap_s is None:
        keep &= ((duration >= min_duration_s) & (duration <= max_duration_s))[:, None]
    chosen, types = keep.nonzero().unbind(-1)
    frames, scores = frames[chosen], by_type[chosen, types]

    member = torch.arange(2)[:, None] == types if class_aware else torch.ones(1, len(types), dtype=torch.bool)
    scores = suppress(frames, scores * member, nms, nms_sigma, nms_iou, score_threshold).amax(0)
    taken = (scores > 0).nonzero()[:, 0]
    chosen, frames, scores, types = chosen[taken], frames[taken], scores[taken], types[taken]
    if merge_gap_s is not None:
        # Only what is apart is joined; of intervals of a type that overlap the surest stays.
        apart = suppress(frames, scores * (torch.arange(2)[:, None] == types), "hard", iou_threshold=0.0).amax(0) > 0
        chosen, frames, scores, types = chosen[apart], frames[apart], scores[apart], types[apart]
        leaders, frames = _merge(frames, seconds(frames), scores, types, merge_gap_s)
        duration = seconds(frames).diff(dim=-1)[:, 0]
        fits = (duration >= min_duration_s) & (duration <= max_duration_s)
        leaders, frames = leaders[fits], frames[fits]
        chosen, scores, types = chosen[leaders], scores[leaders], types[leaders]

    order = frames[:, 0].argsort(stable=True)
    return _described(proposals, recognition, chosen[order], frames[order], scores[order], types[order], seconds)


def without_doubles(found: FednIntervals, iou_threshold: float = 0.5, within: float = 0.8) -> FednIntervals:
    """
    Each expression once. Types are suppressed apart, so that one smile may be found as a macro- and as a
    micro-expression: of intervals of two types that overlap by more than `iou_threshold` only the surest stays. And a
    short piece of a long expression overlaps it too little to be suppressed: what lies with a part of `within` or more
    of itself in a surer interval of its type goes.

    Example:

    ```python
    >>> import torch
    >>> from fedn_hf import FednProposals, find_intervals
    >>> from fedn_hf.postprocessing_fedn import without_doubles

    >>> smile = torch.tensor([[10.0, 24.0], [11.0, 24.0]])
    >>> twice = FednProposals(smile, torch.tensor(90), torch.tensor([2.0, 1.0]), torch.tensor([[2.0, -2], [-2, 1]]))
    >>> found = find_intervals(twice, fps=30)
    >>> found.type.tolist(), without_doubles(found).type.tolist()
    ([0, 1], [0])
    ```
    """
    kept, length = torch.zeros(len(found), dtype=torch.bool), found.frames.diff(dim=-1)[:, 0]
    for index in found.score.argsort(descending=True, stable=True).tolist():
        (start, end), (starts, ends) = found.frames[index], found.frames[kept].unbind(-1)
        shared = (ends.minimum(end) - starts.maximum(start)).clamp(min=0)
        iou, inside = shared / (length[kept] + length[index] - shared), shared / length[index]
        is_double = torch.where(found.type[kept] == found.type[index], inside >= within, iou > iou_threshold)
        kept[index] = not is_double.any()
    return found[kept]


def match_labels(intervals: torch.Tensor, recognition: FednProposals) -> torch.Tensor:
    """
    Emotion logits (K, C) for intervals (K, 2) found elsewhere: those of the proposal with the highest IoU, and of the
    nearest where none overlaps. Both in frames of the same sequence.
    """
    if recognition.logits is None:
        raise ValueError("recognition must come from a network that names emotions, got proposals without logits")
    if not len(recognition.boundaries):
        raise ValueError("the recognition network saw no frame of this sequence, got 0 proposals")
    if not len(intervals):
        return recognition.logits[:0]
    # Distance in frames only decides between proposals that do not overlap at all.
    apart = (intervals.mean(-1)[:, None] - recognition.boundaries.mean(-1)).abs()  # (K, P)
    iou = interval_iou(intervals[:, None], recognition.boundaries)
    return recognition.logits[(iou - 1e-6 * apart).argmax(-1)]


__all__ = [
    "MASKED_LOGIT",
    "FednIntervals",
    "FednProposals",
    "FednWindow",
    "find_intervals",
    "frames_to_seconds",
    "match_labels",
    "owned_proposals",
    "plan_windows",
    "stitch",
    "suppress",
    "to_half_open",
    "to_inclusive",
    "type_scores",
    "without_doubles",
]
