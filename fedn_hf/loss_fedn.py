"""Proposals, which of them are responsible for which event, and the joint loss. Pure functions over tensors.

**Time.** Boundaries are continuous and half-open, in frames of the window: frame `i` covers `[i, i + 1)`, so an event
from its onset frame to its offset frame, both counted in, is the interval `[onset, offset + 1)`.
`postprocessing_fedn.to_half_open` and `to_inclusive` convert. Shapes: B batch, P proposals, N events (padded), T
frames.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

IGNORED, BACKGROUND = -2, -1
# A proposal is never longer or shorter than its default interval by more than this factor: e^3 = 20.
_MAX_LOG_SCALE = 3.0


@dataclass(frozen=True)
class ProposalGrid:
    """
    Where the proposals of a window sit: level by level, position by position, and at each position first the
    anchor-free interval, then the anchors in the order of `anchor_ratios`.

    num_frames: length of the window, without what fills up its last positions.
    points (P,): centre of the position in frames. A position of a level with stride s owns s frames: [j s, (j + 1) s).
    defaults (P, 2): the interval that a proposal predicts when the network says nothing: the anchor; for the
        anchor-free interval the level's base length around the point.
    is_anchor (P,): False for anchor-free intervals.
    ranges (P, 2): regression range of the level in frames; the last level's high end is infinite.
    strides (P,): stride of the level in frames.
    """

    num_frames: int
    points: torch.Tensor
    defaults: torch.Tensor
    is_anchor: torch.Tensor
    ranges: torch.Tensor
    strides: torch.Tensor


def make_proposal_grid(num_frames: int, config, device: torch.device | str | None = None) -> ProposalGrid:
    """The grid of a window of `num_frames` frames, filled up to a multiple of `config.total_stride`."""
    per_position = config.num_proposals_per_position
    ratios = torch.tensor([1.0, *config.anchor_ratios], device=device)
    filled = -(-num_frames // config.total_stride) * config.total_stride
    points, lengths, ranges, strides = [], [], [], []
    for level, stride in enumerate(config.level_strides):
        low, high = config.regression_ranges[level]
        count = filled // stride
        centre = (torch.arange(count, device=device, dtype=torch.float32) + 0.5) * stride
        points.append(centre.repeat_interleave(per_position))
        lengths.append((ratios * high).repeat(count))
        last = level == len(config.level_strides) - 1
        ranges.append(torch.tensor([low, float("inf") if last else high], device=device).expand(len(points[-1]), 2))
        strides.append(torch.full_like(points[-1], float(stride)))
    points, lengths = torch.cat(points), torch.cat(lengths)
    return ProposalGrid(
        num_frames=num_frames,
        points=points,
        defaults=torch.stack((points - lengths / 2, points + lengths / 2), -1),
        is_anchor=torch.arange(len(points), device=device) % per_position > 0,
        ranges=torch.cat(ranges),
        strides=torch.cat(strides),
    )


def decode_boundaries(offsets: torch.Tensor, grid: ProposalGrid) -> torch.Tensor:
    """
    Boundaries (B, P, 2) in frames from the network's numbers (B, P, 2). With c and l the centre and length of the
    default interval:

        anchor        centre = c + a l,  length = l exp(b)                    (the regression of SSD and LSSNet)
        anchor-free   start = c - exp(a) l / 2,  end = c + exp(b) l / 2       (the distances of FCOS)

    Zeros decode to the default interval, so training starts from sensible lengths on every level.
    """
    start, end = grid.defaults.unbind(-1)
    centre, length = (start + end) / 2, end - start
    first, second = offsets.float().unbind(-1)  # half precision cannot count to 256 frames in tenths
    scale = second.clamp(-_MAX_LOG_SCALE, _MAX_LOG_SCALE).exp()
    left = first.clamp(-_MAX_LOG_SCALE, _MAX_LOG_SCALE).exp()
    moved, half = centre + first * length, scale * length / 2
    return torch.stack(
        (
            torch.where(grid.is_anchor, moved - half, centre - left * length / 2),
            torch.where(grid.is_anchor, moved + half, centre + half),
        ),
        dim=-1,
    )


def interval_iou(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Intersection over union of intervals, elementwise over broadcast shapes (..., 2) -> (...); 0 for empty ones."""
    intersection = (torch.minimum(a[..., 1], b[..., 1]) - torch.maximum(a[..., 0], b[..., 0])).clamp(min=0)
    union = (a[..., 1] - a[..., 0]) + (b[..., 1] - b[..., 0]) - intersection
    return intersection / union.clamp(min=torch.finfo(union.dtype).tiny)


def diou_loss(predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """
    Distance-IoU loss in one dimension (Zheng et al., 2020), elementwise over (..., 2) -> (...):

        1 - IoU(p, t) + ((centre(p) - centre(t)) / length(hull(p, t)))^2

    The second term pulls intervals together that do not overlap, where IoU alone has no gradient. Range: 0 to 2.
    """
    hull = torch.maximum(predicted[..., 1], target[..., 1]) - torch.minimum(predicted[..., 0], target[..., 0])
    distance = (predicted.sum(-1) - target.sum(-1)) / 2
    return 1 - interval_iou(predicted, target) + (distance / hull.clamp(min=torch.finfo(hull.dtype).tiny)) ** 2


def focal_loss(logits: torch.Tensor, targets: torch.Tensor, alpha: float, gamma: float) -> torch.Tensor:
    """
    Binary focal loss (Lin et al., 2017), elementwise, with p = sigmoid(logit) and p_t the probability of the target:

        -alpha_t (1 - p_t)^gamma log p_t
    """
    cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    # 1 - p_t, as p_t = exp(-cross entropy); kept from zero, where a power below one has no gradient.
    missing = (-torch.expm1(-cross_entropy)).clamp(min=1e-8)
    return (alpha * targets + (1 - alpha) * (1 - targets)) * missing**gamma * cross_entropy


def check_labels(labels: list[dict], batch_size: int, config) -> None:
    """Raise a `ValueError` that quotes the value when `labels` cannot be what the network is trained on."""
    if not isinstance(labels, list | tuple) or len(labels) != batch_size:
        size = len(labels) if hasattr(labels, "__len__") else type(labels).__name__
        raise ValueError(f"labels must be a list of {batch_size} dictionaries, one per sample, got {size}")
    for row, label in enumerate(labels):
        missing = {"intervals", "type_labels", "class_labels"} - set(label)
        if missing:
            raise ValueError(f"labels[{row}] lacks {sorted(missing)}, it has {sorted(label)}")
        intervals = torch.as_tensor(label["intervals"], dtype=torch.float32)
        count = len(intervals)
        if count and intervals.shape != (count, 2):
            raise ValueError(f"labels[{row}]['intervals'] must have shape (n, 2), got {tuple(intervals.shape)}")
        for start, end in intervals.reshape(-1, 2).tolist():
            if not (abs(start) < float("inf") and abs(end) < float("inf") and start < end):
                raise ValueError(f"labels[{row}]['intervals'] must be finite with start < end, got ({start}, {end})")
        for name, size in (("type_labels", len(config.expression_types)), ("class_labels", config.num_labels)):
            values = torch.as_tensor(label[name]).reshape(-1).tolist()
            if len(values) != count:
                raise ValueError(f"labels[{row}]['{name}'] must have one entry per interval ({count}), got {values}")
            for value in values:
                if value != -100 and value not in range(size):
                    raise ValueError(
                        f"labels[{row}]['{name}'] must be 0 to {size - 1}, or -100 if unknown, got {value}"
                    )
        if label.get("apex") is not None:
            apex = torch.as_tensor(label["apex"], dtype=torch.float32).reshape(-1).tolist()
            if len(apex) != count:
                raise ValueError(f"labels[{row}]['apex'] must have one entry per interval ({count}), got {apex}")
            for time, (start, end) in zip(apex, intervals.reshape(-1, 2).tolist(), strict=True):
                if time < start or time > end:  # NaN, an unknown apex, is neither
                    raise ValueError(f"labels[{row}]['apex'] must lie in its interval ({start}, {end}), got {time}")


def pad_events(labels: list[dict], device: torch.device | str | None = None) -> dict[str, torch.Tensor]:
    """
    Stack the events of a batch: `intervals` (B, N, 2), `type_labels`, `class_labels` (B, N), `apex` (B, N; NaN where
    unknown) and `valid` (B, N), where N is the largest number of events and may be 0.
    """
    size = max((len(label["intervals"]) for label in labels), default=0)
    fill = {
        "intervals": (0.0, (2,)),
        "type_labels": (-100, ()),
        "class_labels": (-100, ()),
        "apex": (float("nan"), ()),
    }
    events = {}
    for name, (value, tail) in fill.items():
        dtype = torch.long if isinstance(value, int) else torch.float32
        events[name] = torch.full((len(labels), size, *tail), value, dtype=dtype, device=device)
        for row, label in enumerate(labels):
            if label.get(name) is not None and len(label[name]):
                events[name][row, : len(label[name])] = torch.as_tensor(label[name], dtype=dtype, device=device)
    counts = torch.tensor([len(label["intervals"]) for label in labels], device=device)
    events["valid"] = torch.arange(size, device=device) < counts[:, None]
    return events


def assign_events(
    grid: ProposalGrid,
    intervals: torch.Tensor,
    valid: torch.Tensor,
    proposal_mask: torch.Tensor,
    positive_iou: float = 0.5,
    background_iou: float = 0.4,
    center_radius: float = 1.5,
    min_visible: float = 0.9,
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Which event each proposal is responsible for.

    - An *anchor* is a candidate for an event that it overlaps with an IoU of at least `positive_iou`.
    - An *anchor-free* position is a candidate for an event that it lies in, within `center_radius` strides of its
      centre, when the farther boundary is within the level's regression range (FCOS, ActionFormer).
    - Of several events, a proposal takes the shortest.
    - An event left without any of a kind takes the best of that kind within a stride of its centre: the anchor with
      the highest IoU, and the nearest position on the level whose range holds half its length. These go before other
      candidates. So an event that can be seen is learnt, unless a shorter one needs the very same proposals.
    - Other proposals are background, unless they are anchors that reach `background_iou`, which are ignored.
    - An event of which the window holds no more than `min_visible` is nobody's; proposals centred in its visible part,
      and anchors that reach `background_iou` with it, are ignored. Other events are cut to the window.
    - Masked proposals are ignored.

    Args:
        grid (`ProposalGrid`): The P proposals.
        intervals (`torch.Tensor` (B, N, 2)): Events in frames of the window, half-open.
        valid (`torch.Tensor` (B, N)): False for padding.
        proposal_mask (`torch.Tensor` (B, P)): False where a position has no frames.
        positive_iou, background_iou, center_radius, min_visible (`float`): As above; fields of [`FednConfig`].

    Returns:
        matched (B, P): index of the event, `BACKGROUND` or `IGNORED`; and targets (B, P, 2), the boundaries of the
        matched event cut to the window (zeros elsewhere).
    """
    count = intervals.shape[1]
    matched = torch.full(proposal_mask.shape, BACKGROUND, dtype=torch.long, device=proposal_mask.device)
    matched = matched.masked_fill(~proposal_mask, IGNORED)
    if not count:
        return matched, matched.new_zeros((*matched.shape, 2), dtype=intervals.dtype)

    clipped = intervals.clamp(0, grid.num_frames)
    length = clipped[..., 1] - clipped[..., 0]  # (B, N)
    visible = length / (intervals[..., 1] - intervals[..., 0]).clamp(min=torch.finfo(length.dtype).tiny)
    taken = valid & (visible > min_visible)
    partial = valid & ~taken & (length > 0)

    start, end = clipped[:, None].unbind(-1)  # (B, 1, N)
    points, is_anchor = grid.points[:, None], grid.is_anchor[:, None]  # (P, 1)
    low, high = grid.ranges[:, None].unbind(-1)
    strides = grid.strides[:, None]
    centre = (start + end) / 2
    iou = interval_iou(grid.defaults[:, None], clipped[:, None])  # (B, P, N)
    iou = iou.masked_fill(~proposal_mask[..., None], 0)
    inside = (points >= start) & (points < end)

    far = torch.maximum(points - start, end - points)
    near = (points - centre).abs()
    free = inside & (far >= low) & (far < high) & (near <= center_radius * strides)
    open_to = proposal_mask[..., None] & taken[:, None]  # (B, P, N)
    candidate = torch.where(is_anchor, iou >= positive_iou, free) & open_to

    # The best of each kind, for events that have no candidate of that kind.
    half = (end - start) / 2
    on_level = (half >= low) & (half < high) & (near <= strides) & ~is_anchor & proposal_mask[..., None]
    fits = torch.stack((iou * (is_anchor & (near <= strides)), 1 / (1 + near) * on_level))  # (2, B, P, N)
    first = length[:, None].expand_as(iou).masked_fill(~candidate, float("inf")).argmin(-1, keepdim=True)
    won = candidate & (first == torch.arange(count, device=first.device))  # what shorter events leave
    kinds = torch.stack((won & is_anchor, won & ~is_anchor))
    best, where = fits.max(dim=2, keepdim=True)
    rescued = torch.zeros_like(kinds).scatter(2, where, best > 0) & ~kinds.any(2, keepdim=True) & open_to
    rescued = rescued.any(0)

    # The shortest candidate; a rescued event goes before any other.
    cost = length[:, None] - rescued.to(length.dtype) * 2 * grid.num_frames
    cost, event = cost.masked_fill(~(candidate | rescued), float("inf")).min(-1)
    positive = cost < float("inf")

    doubtful = ((iou >= background_iou) & is_anchor & (taken | partial)[:, None]).any(-1)
    doubtful |= (inside & partial[:, None]).any(-1)
    matched = torch.where(doubtful & (matched == BACKGROUND), IGNORED, matched)
    matched = torch.where(positive, event, matched)
    targets = clipped.gather(1, event[..., None].expand(-1, -1, 2)) * positive[..., None]
    return matched, targets


def intensity_targets(
    intervals: torch.Tensor, apex: torch.Tensor, valid: torch.Tensor, num_frames: int
) -> torch.Tensor:
    """
    How far each frame is on the way from rest to apex, (B, T) between 0 and 1: half a raised cosine up from the start
    of an event to its apex and half a one down to its end, taken at the frames' centres. Where events overlap the
    larger counts; an unknown apex (NaN) is taken to be the middle; events cut by the window keep their shape.
    """
    time = torch.arange(num_frames, device=intervals.device, dtype=intervals.dtype) + 0.5
    start, end = intervals[..., None].unbind(-2)  # (B, N, 1)
    apex = torch.where(apex.isnan(), intervals.mean(-1), apex)[..., None]
    tiny = torch.finfo(time.dtype).tiny
    rise, fall = (time - start) / (apex - start).clamp(min=tiny), (end - time) / (end - apex).clamp(min=tiny)
    phase = torch.where(time < apex, rise, fall).clamp(0, 1)
    curve = (1 - torch.cos(torch.pi * phase)) / 2 * ((time >= start) & (time < end) & valid[..., None])
    return curve.amax(1) if curve.shape[1] else time.new_zeros(intervals.shape[0], num_frames)


def class_loss(logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
    """
    Sum over proposals and classes of the weighted binary cross-entropy against one-hot labels:

        - sum_p sum_c w_c [y_pc log sigmoid(x_pc) + (1 - y_pc) log(1 - sigmoid(x_pc))]

    logits (M, C), labels (M,); labels of -100 are unknown and add nothing. One sigmoid per class, not a softmax: the
    published networks are trained with binary cross-entropy, and a face may show more than one emotion.
    """
    known = labels >= 0
    targets = F.one_hot(labels.clamp(min=0), logits.shape[-1]).to(logits.dtype)
    loss = F.binary_cross_entropy_with_logits(logits, targets, weight=weights, reduction="none")
    return (loss * known[:, None]).sum()


def _weights(values: list[float] | None, like: torch.Tensor) -> torch.Tensor:
    """Weights of classes as a tensor; one of all if none are given."""
    return like.new_tensor(1.0 if values is None else values)


def joint_loss(outputs: dict, labels: list[dict], grid: ProposalGrid, config, normalizer: torch.Tensor) -> tuple:
    """
    The terms of FEDN's loss, before their weights.

        confidence  focal loss over positives and background, sum / n
        boundary    1D Distance-IoU loss over positives, sum / n
        type        focal loss per type over positives whose type is known and background, which is of no type, sum / n
        label       class_loss over positives whose emotion is known, sum / n
        intensity   binary cross-entropy of the curve against its target less the target's entropy (0 when they agree),
                    mean over visible frames

    n is `normalizer`, a running mean of the number of positives (ActionFormer): batches with few events then do not
    weigh more than batches with many.

    Args:
        outputs (`dict`): `boundaries` (B, P, 2) and, where the network has them, `confidence` (B, P), `type_logits`
            (B, P, 2), `logits` (B, P, C), `intensity_logits` (B, T); with `proposal_mask` (B, P), `frame_mask` (B, T).
        labels (`list[dict]`): One per sample: `intervals` (n, 2), `type_labels` (n,), `class_labels` (n,), optional
            `apex` (n,).
        grid (`ProposalGrid`): The proposals.
        config ([`FednConfig`]): Thresholds and class weights.
        normalizer (`torch.Tensor`): n.

    Returns:
        `dict[str, torch.Tensor]` of the terms, and the number of positives as a float tensor.

    Example:

    ```python
    >>> import torch
    >>> from fedn_hf import FednConfig
    >>> from fedn_hf.loss_fedn import joint_loss, make_proposal_grid

    >>> config = FednConfig(backbone_config=None)
    >>> grid = make_proposal_grid(256, config)
    >>> outputs = {"boundaries": grid.defaults[None], "confidence": torch.zeros(1, len(grid.points))}
    >>> outputs["proposal_mask"] = torch.ones(1, len(grid.points), dtype=torch.bool)
    >>> labels = [{"intervals": [[100.0, 130.0]], "type_labels": [0], "class_labels": [-100]}]
    >>> terms, positives = joint_loss(outputs, labels, grid, config, torch.tensor(10.0))
    >>> sorted(terms)
    ['boundary', 'confidence']
    ```
    """
    boundaries = outputs["boundaries"].float()
    device = boundaries.device
    events = pad_events(labels, device)
    matched, targets = assign_events(
        grid,
        events["intervals"],
        events["valid"],
        outputs["proposal_mask"],
        config.anchor_positive_iou,
        config.anchor_background_iou,
        config.center_sampling_radius,
        config.min_visible_fraction,
    )
    positive = matched >= 0
    terms = {}
    if outputs.get("confidence") is not None:
        counted = matched != IGNORED
        loss = focal_loss(
            outputs["confidence"][counted].float(), positive[counted].float(), config.focal_alpha, config.focal_gamma
        )
        terms["confidence"] = loss.sum() / normalizer
        terms["boundary"] = diou_loss(boundaries[positive], targets[positive]).sum() / normalizer
    # One column of unknowns stands behind the events, so that a batch without any can be gathered from.
    picked = {
        name: F.pad(events[name], (0, 1), value=-100).gather(1, matched.clamp(min=0))
        for name in ("type_labels", "class_labels")
    }
    if outputs.get("type_logits") is not None:
        types = torch.where(positive, picked["type_labels"], matched)  # BACKGROUND is -1, others unknown or ignored
        counted = types >= BACKGROUND
        logits = outputs["type_logits"][counted].float()
        targets = F.one_hot(types[counted] + 1, logits.shape[-1] + 1)[:, 1:].float()  # background is of no type
        loss = focal_loss(logits, targets, config.focal_alpha, config.focal_gamma)
        terms["type"] = (loss * _weights(config.type_class_weights, loss)).sum() / normalizer
    if outputs.get("logits") is not None:
        weights = _weights(config.label_class_weights, boundaries)
        logits = outputs["logits"][positive].float()
        terms["label"] = class_loss(logits, picked["class_labels"][positive], weights) / normalizer
    if outputs.get("intensity_logits") is not None:
        logits, mask = outputs["intensity_logits"].float(), outputs["frame_mask"]
        target = intensity_targets(events["intervals"], events["apex"], events["valid"], logits.shape[1])
        entropy = torch.special.entr(target) + torch.special.entr(1 - target)  # allowed under autocast, too
        loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none") - entropy
        terms["intensity"] = (loss * mask).sum() / mask.sum().clamp(min=1)
    return terms, positive.sum().to(torch.float32)


__all__ = [
    "BACKGROUND",
    "IGNORED",
    "ProposalGrid",
    "assign_events",
    "check_labels",
    "class_loss",
    "decode_boundaries",
    "diou_loss",
    "focal_loss",
    "intensity_targets",
    "interval_iou",
    "joint_loss",
    "make_proposal_grid",
    "pad_events",
]
