"""The layers of FEDN, in the order in which a video passes them: frame encoder, embedding, segment attention,
sliding-window attention, pyramid, head branches. `modeling_fedn.py` puts them together.

Shapes: B batch, T frames, F channels of a frame feature, N segments, L positions of a level, D hidden_size.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn
from transformers.backbone_utils import load_backbone
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sliding_window_bidirectional_mask_function
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .configuration_fedn import FednConfig
from .postprocessing_fedn import MASKED_LOGIT

# A micro-expression moves a landmark by about a hundredth of the crop; this brings such motion to the size of one.
LANDMARK_MOTION_SCALE = 100.0
# What is read from landmarks: 25 action units on the left and on the right, three angles of the head, two of the eyes.
_READ = (50, 3, 2)
LANDMARK_CHANNELS = sum(_READ)
# What a whole contraction of a muscle is read as, and a turn by ten degrees.
WHOLE_READING = 5.0
# Of what goes along with turns of the head, in squares of ten degrees: a head that turns by less than some three
# degrees has its part in a smile.
_TURN_RIDGE = 0.1
# Sliding-window scores lie within plus and minus this, so that their exponentials can be summed as they are.
_SCORE_LIMIT = 8.0


def eager_attention_forward(module, query, key, value, attention_mask, scaling, dropout=0.0, **kwargs):
    """Softmax attention written out, (batch, heads, length, head_dim) -> (batch, length, heads, head_dim)."""
    weights = query @ key.transpose(-1, -2) * scaling
    if attention_mask is not None:
        weights = weights + attention_mask
    weights = weights.softmax(-1, dtype=torch.float32).to(query.dtype)
    weights = F.dropout(weights, p=dropout, training=module.training)
    return (weights @ value).transpose(1, 2).contiguous(), weights


def local_attention_mask(config: FednConfig, features: torch.Tensor, mask: torch.Tensor, radius, level=None):
    """
    The mask, in the form that the attention implementation wants, that lets each of the positions (B, L, D) see the
    visible ones (mask (B, L)) at most `radius` away. Attention looks at content and distance only, never at absolute
    position. Where positions of several levels lie side by side, `level` (L,) says of which each is, `radius` (L,) how
    far it sees, and none sees another level.
    """
    batch, length = mask.shape
    near = sliding_window_bidirectional_mask_function(radius)
    if level is not None:

        def near(batch, head, query, key):
            return ((query - key).abs() <= radius[query]) & (level[query] == level[key])

    return ALL_MASK_ATTENTION_FUNCTIONS[config._attn_implementation](
        batch_size=batch,
        q_length=length,
        kv_length=length,
        mask_function=near,
        attention_mask=mask,
        allow_is_causal_skip=False,
        allow_is_bidirectional_skip=False,
        dtype=features.dtype,
        device=features.device,
        config=config,
    )


def sliding_mean(values: torch.Tensor, mask: torch.Tensor, radius: int) -> torch.Tensor:
    """Mean of the visible values (B, L, D) at most `radius` positions away; 0 where there are none. mask: (B, L)."""
    weight = mask[:, None].to(values.dtype)  # (B, 1, L)

    def window_sum(x):
        return F.avg_pool1d(x, 2 * radius + 1, stride=1, padding=radius)

    mean = window_sum(values.transpose(1, 2) * weight) / window_sum(weight).clamp(min=1e-6)
    return mean.transpose(1, 2)


def without_turns(read: torch.Tensor, mask: torch.Tensor, radius: int) -> torch.Tensor:
    """
    What is read from landmarks (B, T, `LANDMARK_CHANNELS`), less what goes along with turns of the head; mask: (B, T).

    In a face that turns points move as if muscles did, and in no two faces alike. So around every frame muscles are
    regressed on the head's angles and their squares, and the rest is kept.

    Source: motion regressors, Friston et al., Movement-related effects in fMRI time-series, 1996.
    """
    muscles, head, gaze = read.split(_READ, dim=-1)
    yaw, pitch, roll = (head / WHOLE_READING).unbind(-1)
    turns = torch.stack((yaw, pitch, roll, yaw * yaw, pitch * pitch, yaw * pitch), dim=-1)  # (B, T, 6)

    def go_along(others: torch.Tensor) -> torch.Tensor:
        products = turns[..., :, None] * others[..., None, :]
        return sliding_mean(products.flatten(2), mask, radius).unflatten(2, products.shape[2:])  # (B, T, 6, K)

    ridge = _TURN_RIDGE * torch.eye(turns.shape[-1], device=read.device)
    shares = torch.linalg.solve(go_along(turns) + ridge, go_along(muscles))  # (B, T, 6, 50)
    muscles = muscles - (turns[..., None, :] @ shares)[..., 0, :]
    return torch.cat((muscles, head, gaze), dim=-1)


class FednFrameEncoder(GradientCheckpointingLayer):
    """Backbone and global average pooling, (N, 3, H, W) -> (N, F). One call is one chunk, the unit of checkpoints."""

    def __init__(self, config: FednConfig):
        super().__init__()
        try:
            self.backbone = load_backbone(config)
            channels = self.backbone.channels[-1]
        except (IndexError, KeyError, TypeError) as error:  # such as of lists of different lengths
            raise ValueError(f"backbone_config makes no backbone: {error}") from error
        if channels != config.feature_size:
            raise ValueError(
                f"feature_size must be the {channels} channels of the backbone's last map, got {config.feature_size}"
            )

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) to (N, feature_size): the last feature map, averaged over the picture."""
        return self.backbone(pixel_values).feature_maps[-1].mean((-2, -1))


class FednFrameEmbedding(nn.Module):
    """
    Join what is known of each frame and reduce it to D channels.

    The frame feature f_t and its difference to a slow baseline, f_t - mean(f_{t-r} ... f_{t+r}), are concatenated with
    what the landmarks' difference to theirs says of the muscles (`without_turns`), and projected. No normalisation
    comes before the projection: the size of a motion feature is what tells an expression from rest.
    """

    def __init__(self, config: FednConfig):
        super().__init__()
        kinds = 2 if config.temporal_difference else 1
        self.radius = config.temporal_difference_frames // 2 if config.temporal_difference else None
        channels = config.feature_size * kinds
        self.landmark_reader = None
        if config.num_landmarks:
            self.landmark_reader = nn.Linear(2 * config.num_landmarks, LANDMARK_CHANNELS, bias=False)
            channels += LANDMARK_CHANNELS
        self.projection = nn.Linear(channels, config.hidden_size)

    def difference(self, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """What remains of (B, T, D) without its mean over the frames around; nothing beyond the mask counts."""
        return values - sliding_mean(values, mask, self.radius)

    def forward(self, features: torch.Tensor, landmarks: torch.Tensor | None, mask: torch.Tensor) -> torch.Tensor:
        """(B, T, feature_size), landmarks (B, T, points, 2) or `None` and the mask (B, T) to (B, T, D)."""
        known = [features.float()]
        if self.radius is not None and features.shape[-1]:
            known.append(self.difference(known[0], mask))
        if self.landmark_reader is not None:
            known.append(self.read(landmarks, mask))
        joined = torch.cat(known, dim=-1).to(self.projection.weight.dtype)
        return self.projection(joined) * mask[..., None]  # (B, T, D)

    def read(self, landmarks: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """What landmarks (B, T, P, 2) say of the muscles, the head and the eyes, (B, T, `LANDMARK_CHANNELS`)."""
        # In single precision, also where the rest is not: half of it loses a small motion in the rounding of a place.
        with torch.autocast(landmarks.device.type, enabled=False):
            points = LANDMARK_MOTION_SCALE * (landmarks.flatten(2).float() - 0.5)
            # Reading is linear, so the difference of what is read is what is read of the difference, for less.
            read = F.linear(points, self.landmark_reader.weight.float())
            return read if self.radius is None else without_turns(self.difference(read, mask), mask, self.radius)


class FednAttention(nn.Module):
    """Multi-head attention through the library's attention interface, (batch, length, D) -> (batch, length, D)."""

    def __init__(self, config: FednConfig):
        super().__init__()
        self.config = config
        self.head_dim = config.hidden_size // config.num_attention_heads
        self.scaling = self.head_dim**-0.5
        self.is_causal = False
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size, bias=False)  # the softmax would cancel a bias
        self.value = nn.Linear(config.hidden_size, config.hidden_size)
        self.output = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden_states: torch.Tensor, attention_mask=None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(B, L, D) to (B, L, D), and the weights (B, heads, L, L) where the way of attention gives them."""
        shape = (*hidden_states.shape[:-1], -1, self.head_dim)
        query, key, value = (
            layer(hidden_states).view(shape).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        attend: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        mixed, weights = attend(self, query, key, value, attention_mask, scaling=self.scaling, is_causal=False)
        return self.output(mixed.reshape(hidden_states.shape)), weights


class FednSegmentAttention(GradientCheckpointingLayer):
    """
    Segment attention and fusion: the frames x_1 ... x_S of a segment become one feature.

        g   = mean of MultiHeadAttention(x)       the segment's global vector
        a_i = softmax_i w . tanh(W [x_i, g])      how much frame i matters
        z_i = V [x_i, g]                          its reduced feature
        y   = sum_i a_i z_i

    Masked frames are neither attended to nor weighted. Segments are centred on the `segment_stride` frames they stand
    for and overlap. With `use_segment_attention=False`: y = V' mean(x).
    """

    def __init__(self, config: FednConfig):
        super().__init__()
        self.config = config
        self.length, self.stride = config.segment_length, config.segment_stride
        size = config.hidden_size
        if config.use_segment_attention:
            self.norm = nn.LayerNorm(size, eps=config.layer_norm_eps)
            self.attention = FednAttention(config)
            self.score_hidden = nn.Linear(2 * size, size)
            self.score = nn.Linear(size, 1, bias=False)
            self.reduce = nn.Linear(2 * size, size)
        else:
            self.reduce = nn.Linear(size, size)

    def cut(self, values: torch.Tensor) -> torch.Tensor:
        """(B, T, D) -> (B N, S, D), zeros beyond the window."""
        side = (self.length - self.stride) // 2
        segments = F.pad(values, (0, 0, side, side)).unfold(1, self.length, self.stride)  # (B, N, D, S)
        return segments.flatten(0, 1).transpose(1, 2)

    def forward(self, features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(B, T, D) and the mask (B, T) to one feature per segment, (B, N, D)."""
        batch = features.shape[0]
        frames = self.cut(features)
        visible = self.cut(mask[..., None].to(features.dtype))[..., 0] > 0  # (B N, S)
        share = visible / visible.sum(-1, keepdim=True).clamp(min=1)  # averages over visible frames
        share = share.to(features.dtype)[..., None]  # (B N, S, 1)
        if self.config.use_segment_attention:
            attention_mask = local_attention_mask(self.config, frames, visible, self.length)
            pooled = (self.attention(self.norm(frames), attention_mask)[0] * share).sum(1, keepdim=True)
            pair = torch.cat((frames, pooled.expand_as(frames)), dim=-1)  # (B N, S, 2 D)
            scores = self.score(torch.tanh(self.score_hidden(pair))).float()
            share = scores.masked_fill(~visible[..., None], MASKED_LOGIT).softmax(1).to(pair.dtype)
            frames = pair
        return (self.reduce(frames) * share).sum(1).unflatten(0, (batch, -1))  # (B, N, D)


class FednSlidingWindowAttention(nn.Module):
    """
    Sliding-window attention: features are weighted element by element by a softmax over time of a convolution.

        s   = conv(x)
        y_t = x_t * exp(s_t) / mean_{|u - t| <= w / 2} exp(s_u)

    This is the softmax over a window of w = `attention_window` frames, times the number of its positions, so that
    weights are 1 on average and features keep their size at any length. The window is centred on each position:
    within a training window of w frames the middle sees all of it, and on a long video the window slides. Every
    position therefore has the same finite view, and results cannot depend on where a video was cut.
    """

    def __init__(self, config: FednConfig):
        super().__init__()
        self.radius = max(1, config.attention_window // (2 * config.segment_stride))
        self.conv = nn.Conv1d(config.hidden_size, config.hidden_size, kernel_size=3, padding=1)

    def forward(self, features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(B, N, D) and the mask (B, N) to (B, N, D)."""
        scores = self.conv(features.transpose(1, 2)).transpose(1, 2).float()  # (B, N, D)
        weights = torch.exp(_SCORE_LIMIT * torch.tanh(scores / _SCORE_LIMIT)) * mask[..., None]
        weights = weights / sliding_mean(weights, mask, self.radius).clamp(min=1e-6)
        return features * weights.to(features.dtype)


class FednConvBlock(nn.Module):
    """Convolution over time, layer norm over channels, GELU, dropout; masked positions are zero before and after.
    Norms look at one position at a time, so neither the batch nor the padding has a say."""

    def __init__(self, config: FednConfig, kernel_size: int = 3, stride: int = 1):
        super().__init__()
        size = config.hidden_size
        self.conv = nn.Conv1d(size, size, kernel_size, stride=stride, padding=1)
        self.norm = nn.LayerNorm(size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(B, L, D) to (B, L / stride, D), zero beyond the mask of the output."""
        hidden = self.conv(features.transpose(1, 2)).transpose(1, 2)
        return self.dropout(F.gelu(self.norm(hidden))) * mask[..., None]


class FednPyramidLayer(GradientCheckpointingLayer):
    """
    One level: a convolution block of stride 2 and a residual one of stride 1, (B, 2 L, D) -> (B, L, D). A kernel of
    four centres each output on the pair of inputs it stands for; three would shift every level by half a position.
    """

    def __init__(self, config: FednConfig):
        super().__init__()
        self.down = FednConvBlock(config, kernel_size=4, stride=2)
        self.refine = FednConvBlock(config)

    def forward(self, features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(B, 2 L, D) and the mask of the output (B, L) to (B, L, D)."""
        features = self.down(features, mask)
        return features + self.refine(features, mask)


class FednHeadBranch(GradientCheckpointingLayer):
    """
    One decoupled branch of the head, shared by all levels: local multi-head attention, convolution blocks, and
    `num_outputs` numbers for each of a position's proposals, (B, L, D) -> (B, L, proposals, num_outputs).
    """

    def __init__(self, config: FednConfig, num_outputs: int, initial_bias: float = 0.0):
        super().__init__()
        self.config = config
        self.num_outputs = num_outputs
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attention = FednAttention(config)
        self.blocks = nn.ModuleList([FednConvBlock(config) for _ in range(config.num_head_layers)])
        self.predict = nn.Linear(config.hidden_size, config.num_proposals_per_position * num_outputs)
        self.predict.initial_bias = initial_bias  # read by _init_weights

    def forward(self, features: torch.Tensor, mask: torch.Tensor, attention_mask) -> tuple:
        """Numbers (B, L, proposals, num_outputs) and the attention's weights, `None` where it gives none."""
        mixed, weights = self.attention(self.norm(features), attention_mask)
        features = (features + mixed) * mask[..., None]
        for block in self.blocks:
            features = features + block(features, mask)
        return self.predict(features).unflatten(-1, (-1, self.num_outputs)), weights


class FednIntensityHead(nn.Module):
    """The curve of intensity, (B, N, D) -> (B, T) logits: every segment answers for the frames it stands for."""

    def __init__(self, config: FednConfig):
        super().__init__()
        self.fuse = nn.Linear(2 * config.hidden_size, config.hidden_size)
        self.block = FednConvBlock(config)
        self.predict = nn.Linear(config.hidden_size, config.segment_stride)

    def forward(self, segments: torch.Tensor, finest: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Segments (B, N, D), the finest level (B, L, D) and the mask (B, N) to logits (B, T)."""
        # The finest level knows more of the surroundings, the segments are twice as fine.
        joined = torch.cat((segments, finest.repeat_interleave(2, dim=1)), dim=-1)
        features = self.block(self.fuse(joined) * mask[..., None], mask)
        return self.predict(features).flatten(1)


__all__ = [
    "LANDMARK_CHANNELS",
    "LANDMARK_MOTION_SCALE",
    "WHOLE_READING",
    "FednAttention",
    "FednConvBlock",
    "FednFrameEmbedding",
    "FednFrameEncoder",
    "FednHeadBranch",
    "FednIntensityHead",
    "FednPyramidLayer",
    "FednSegmentAttention",
    "FednSlidingWindowAttention",
    "local_attention_mask",
    "sliding_mean",
    "without_turns",
]
