"""What a FEDN network is made of: sizes, strides, switches, label maps and loss weights, checked when it is built."""

import copy
import itertools
import math
from dataclasses import field
from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig

# ResNet-18. Its pooled feature has 512 channels.
_RESNET18 = {
    "model_type": "resnet",
    "embedding_size": 64,
    "hidden_sizes": [64, 128, 256, 512],
    "depths": [2, 2, 2, 2],
    "layer_type": "basic",
}

# The seven classes of CAS(ME)^3. The objective scheme of CAS(ME)^2 (positive, negative, surprise, others) and the
# three classes of MEGC are unions of these, so a seven-class network also answers in the coarser schemes; not the
# other way round.
_EMOTIONS = ("happiness", "surprise", "disgust", "fear", "anger", "sadness", "others")

_PRESETS = {
    # About a fifth of ResNet-18's work per frame, and motion given explicitly.
    "compact": {
        "backbone_config": {
            "model_type": "resnet",
            "embedding_size": 32,
            "hidden_sizes": [32, 64, 96, 160],
            "depths": [1, 1, 1, 1],
            "layer_type": "basic",
        },
        "feature_size": 160,
        "hidden_size": 128,
        "num_attention_heads": 4,
        "attention_window": 128,
        "temporal_difference": True,
        "use_intensity_head": True,
    }
}

_POSITIVE = (
    "image_size",
    "frame_rate",
    "window_size",
    "frame_chunk_size",
    "hidden_size",
    "num_attention_heads",
    "segment_length",
    "segment_stride",
    "attention_window",
    "temporal_difference_frames",
)
# What anybody could want, and more: a configuration that asks for more is damaged or hostile, and building its network
# would fill the memory before anything else goes wrong.
_LARGEST = {
    "image_size": 4096,
    "frame_rate": 10_000,
    "window_size": 2**16,
    "frame_chunk_size": 2**16,
    "feature_size": 2**16,
    "num_landmarks": 2**16,
    "temporal_difference_frames": 2**16,
    "hidden_size": 4096,
    "num_attention_heads": 4096,
    "segment_length": 4096,
    "segment_stride": 4096,
    "attention_window": 2**16,
    "num_head_layers": 64,
}
_DTYPES = ("float16", "bfloat16", "float32", "float64")
_MOST_LEVELS, _MOST_ANCHORS, _MOST_LABELS = 12, 64, 10_000
_LARGEST_IN_BACKBONE, _LONGEST_IN_BACKBONE, _DEEPEST_BACKBONE = 2**20, 10_000, 1000
_NOT_NEGATIVE = (
    "feature_size",
    "num_landmarks",
    "num_head_layers",
    "center_sampling_radius",
    "confidence_loss_weight",
    "boundary_loss_weight",
    "type_loss_weight",
    "label_loss_weight",
    "intensity_loss_weight",
    "focal_gamma",
)


@strict
class FednConfig(PreTrainedConfig):
    r"""
    Configuration of [`FednModel`] and [`FednForFacialExpressionDetection`].

    The defaults are the paper's network (arXiv 2504.07660): a frozen ResNet-18 at 112 px, windows of 256 frames at 30
    frames per second, four pyramid levels, five anchors and one anchor-free interval per position.

    All lengths in time are **frames** at `frame_rate`, unless the name says otherwise. Strides: one feature per
    `segment_stride` frames leaves the segment attention; every pyramid level halves the rate once more. The two
    stride-2 blocks of the stem *are* the first two levels and the neck adds the others, so the default levels have
    strides of 4, 8, 16 and 32 frames (64, 32, 16 and 8 positions in a window of 256). A micro-expression of 8 frames
    thus covers two positions of the finest level; pooling twice before the first level would leave it one.

    > Frames and windows

    image_size (`int`, defaults to 112):
        Height and width of a face crop in pixels. Read by the video processor; the network pools over any size.
    frame_rate (`float`, defaults to 30.0):
        Frames per second at which the network sees the video.
    window_size (`int`, defaults to 256):
        Length of a training window in frames; a multiple of `total_stride`.
    frame_chunk_size (`int`, defaults to 32):
        Number of frames that pass the backbone at once. Changes memory, not results.

    > Backbone and other per-frame inputs

    backbone_config (`dict` or `PreTrainedConfig`, *optional*, defaults to ResNet-18):
        Any Hugging Face backbone. `None` makes a network of precomputed frame features alone, or of landmarks alone.
    feature_size (`int`, defaults to 512):
        Channels of a frame feature. With a backbone it must equal the channels of the backbone's last feature map; 0
        in a network of landmarks alone.
    freeze_backbone (`bool`, defaults to `True`):
        Whether the backbone's weights and batch-norm statistics stay as they are while the rest trains.
    num_landmarks (`int`, defaults to 0):
        Number of (x, y) points per frame, of which muscles are read and joined to the frame feature; 0 for none.
    temporal_difference (`bool`, defaults to `False`):
        Whether to join to every input channel its difference to a slow baseline, a centred running mean. Of landmarks
        it is the difference alone that is read.
    temporal_difference_frames (`int`, defaults to 128):
        Length of that running mean in frames.

    > Attention

    hidden_size (`int`, defaults to 256):
        Channels of everything after the frame features.
    num_attention_heads (`int`, defaults to 8):
        Heads of every multi-head attention.
    use_segment_attention (`bool`, defaults to `True`):
        Whether frames are weighted inside their segment; without it they are averaged.
    segment_length (`int`, defaults to 8):
        Frames of a segment: the shortest expression that should be seen whole (a quarter of a second at 30 fps).
    segment_stride (`int`, defaults to 2):
        Frames from one segment to the next. Segments overlap when this is less than `segment_length`, and must be
        centred on their own frames: `segment_length - segment_stride` is even.
    use_sliding_window_attention (`bool`, defaults to `True`):
        Whether features are weighted by a softmax over the sliding window.
    attention_window (`int`, defaults to 256):
        Frames over which the sliding-window softmax and the attention in the heads run, centred on each position.
    dropout (`float`, defaults to 0.1):
        Dropout probability in convolution blocks. Attention has none: drawing it took a third of a training step.
    layer_norm_eps (`float`, defaults to 1e-5):
        Epsilon of the layer norms.
    initializer_range (`float`, defaults to 0.02):
        Standard deviation of new weights.

    > Pyramid and heads

    regression_ranges (`list[list[float]]`, defaults to `[[0, 8], [8, 32], [32, 64], [64, 128]]`):
        One (low, high) pair per level, in frames: a level's anchor-free intervals learn the events whose farther
        boundary lies between low and high frames away. The last high is not enforced. In
        frames the four ranges just fill a window of 256; LSSNet counts feature positions of two frames.
    anchor_ratios (`list[float]`, defaults to `[0.5, 0.75, 1, 1.5, 2]`):
        Lengths of a position's anchors as multiples of the level's base length, which is the high end of its
        regression range: anchors of 4 to 256 frames.
    num_head_layers (`int`, defaults to 2):
        Convolution blocks after the attention in each branch of the head.
    heads (`str`, defaults to `"joint"`):
        `"joint"`: boundaries, confidence, type and emotion. `"spotting"`: no emotion (`logits` is `None`).
        `"recognition"`: emotion alone; `boundaries` are the default intervals, `confidence` and `type_logits` are
        `None`, and an interval found elsewhere is given the emotion of the default interval that fits it best. The
        last two make the two-stage cascade of the ablations.
    use_intensity_head (`bool`, defaults to `False`):
        Whether to predict how far each frame is on the way from onset to apex (0 to 1). Off in the paper's network.

    > Labels

    id2label (`dict[int, str]`, defaults to the seven classes of CAS(ME)^3):
        Emotion classes. Seven, because the coarser schemes of the other corpora are unions of these.
    expression_types (`list[str]`, defaults to `["macro-expression", "micro-expression"]`):
        Names of the two expression types, in the order of `type_logits`.

    > Detection

    score_threshold (`float`, defaults to 0.5):
        Lowest score of an expression that the pipeline reports unless it is told another one. Chosen, like everything
        about a checkpoint, on subjects that it is not tested on.

    > Assignment and loss

    anchor_positive_iou, anchor_background_iou (`float`, default to 0.5 and 0.4):
        Anchors at or above the first are positive, below the second background, between them ignored.
    center_sampling_radius (`float`, defaults to 1.5):
        Anchor-free positions within this many strides of an event's centre are positive.
    min_visible_fraction (`float`, defaults to 0.9):
        An event belongs to a window that holds more than this part of it; the rest of such events are ignored.
    confidence_loss_weight, boundary_loss_weight, type_loss_weight, label_loss_weight, intensity_loss_weight (`float`):
        Weights of the terms of the loss, all 1.0 by default.
    focal_alpha, focal_gamma (`float`, default to 0.25 and 2.0):
        Balance and focus of the confidence loss; with gamma 0 it is a balanced cross-entropy.
    type_class_weights, label_class_weights (`list[float]`, *optional*):
        One weight per expression type and per emotion class; equal when `None`.
    loss_normalizer_momentum (`float`, defaults to 0.9):
        Momentum of the running mean of the number of positives that the loss is divided by.

    Raises:
        `huggingface_hub.errors.StrictDataclassError`: for a field of the wrong type, or fields that do not fit
        together.

    Example:

    ```python
    >>> from fedn_hf import FednConfig

    >>> config = FednConfig()
    >>> config.level_strides, config.num_labels
    ([4, 8, 16, 32], 7)
    >>> FednConfig.preset("compact", num_landmarks=68).hidden_size
    128
    ```
    """

    model_type = "fedn"
    sub_configs = {"backbone_config": AutoConfig}  # noqa: RUF012

    # Frames and windows
    image_size: int = 112
    frame_rate: float | int = 30.0
    window_size: int = 256
    frame_chunk_size: int = 32

    # Backbone and other per-frame inputs
    backbone_config: dict | PreTrainedConfig | None = field(default_factory=lambda: copy.deepcopy(_RESNET18))
    feature_size: int = 512
    freeze_backbone: bool = True
    num_landmarks: int = 0
    temporal_difference: bool = False
    temporal_difference_frames: int = 128

    # Attention
    hidden_size: int = 256
    num_attention_heads: int = 8
    use_segment_attention: bool = True
    segment_length: int = 8
    segment_stride: int = 2
    use_sliding_window_attention: bool = True
    attention_window: int = 256
    dropout: float | int = 0.1
    layer_norm_eps: float = 1e-5
    initializer_range: float = 0.02

    # Pyramid and heads
    regression_ranges: list | tuple = ((0, 8), (8, 32), (32, 64), (64, 128))
    anchor_ratios: list | tuple = (0.5, 0.75, 1.0, 1.5, 2.0)
    num_head_layers: int = 2
    heads: Literal["joint", "spotting", "recognition"] = "joint"
    use_intensity_head: bool = False

    # Labels
    expression_types: list[str] | tuple[str, ...] = ("macro-expression", "micro-expression")

    # Detection
    score_threshold: float | int = 0.5

    # Assignment and loss
    anchor_positive_iou: float | int = 0.5
    anchor_background_iou: float | int = 0.4
    center_sampling_radius: float | int = 1.5
    min_visible_fraction: float | int = 0.9
    confidence_loss_weight: float | int = 1.0
    boundary_loss_weight: float | int = 1.0
    type_loss_weight: float | int = 1.0
    label_loss_weight: float | int = 1.0
    intensity_loss_weight: float | int = 1.0
    focal_alpha: float | int = 0.25
    focal_gamma: float | int = 2.0
    type_class_weights: list[float | int] | None = None
    label_class_weights: list[float | int] | None = None
    loss_normalizer_momentum: float | int = 0.9

    def __post_init__(self, **kwargs):
        # With this entry transformers' pipeline() asks to trust the repository's code even where the package is
        # installed, and would then run half of each. The pipeline writes it back when it saves.
        if not type(self).__module__.startswith("transformers_modules"):
            kwargs.pop("custom_pipelines", None)
        if self.dtype is not None and str(self.dtype).removeprefix("torch.") not in _DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(_DTYPES)}, got {self.dtype!r}")
        for name in ("id2label", "label2id"):
            if not isinstance(getattr(self, name), dict | None):
                raise ValueError(f"{name} must be a dict, got {getattr(self, name)!r}")
        # Both are fields of the library's class.
        if self.id2label is None and kwargs.get("num_labels") is None:  # type: ignore[has-type]
            self.id2label = dict(enumerate(_EMOTIONS))
        if not all(isinstance(name, str) for name in (self.id2label or {}).values()):
            raise ValueError(f"id2label must give every label a name, got {self.id2label}")
        if self.id2label is not None and self.label2id is None:  # type: ignore[has-type]
            self.label2id = {name: int(index) for index, name in self.id2label.items()}
        if isinstance(self.backbone_config, dict):
            kind = self.backbone_config.get("model_type", "resnet")
            if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
                raise ValueError(f"backbone_config must name a model_type of the library, got {kind!r}")
            _check_backbone(self.backbone_config)
            try:
                self.backbone_config = CONFIG_MAPPING[kind].from_dict(self.backbone_config)
            except Exception as error:  # whatever the library's own configurations may raise
                raise ValueError(f"backbone_config is none of type {kind!r}: {error}") from error
        # JSON has no tuples; lists everywhere make a configuration equal to its reloaded self.
        try:
            self.regression_ranges = [[float(end) for end in pair] for pair in self.regression_ranges]
            self.anchor_ratios = [float(ratio) for ratio in self.anchor_ratios]
            self.expression_types = list(self.expression_types)
        except (TypeError, OverflowError) as error:
            raise ValueError(
                f"regression_ranges, anchor_ratios or expression_types are no such lists: {error}"
            ) from None
        super().__post_init__(**kwargs)

    @classmethod
    def preset(cls, name: str, **changes) -> "FednConfig":
        """
        A named configuration: `"compact"`, a small network that looks at pixels (32 to 160 channels in a backbone of
        four blocks, 128 channels after it, differences to the baseline and the intensity head switched on).

        Args:
            name (`str`): Name of the preset.
            changes: Fields to set otherwise than the preset does.

        Raises:
            `ValueError`: for an unknown name.
        """
        if name not in _PRESETS:
            raise ValueError(f"no preset named {name!r}; there is {', '.join(map(repr, _PRESETS))}")
        return cls(**{**copy.deepcopy(_PRESETS[name]), **changes})

    def to_diff_dict(self) -> dict:
        """The fields to save. Two unnamed labels, the library's default, are not ours and must be written too."""
        labels = {"id2label": self.id2label, "label2id": self.label2id}
        return {**super().to_diff_dict(), **labels}

    @property
    def num_hidden_layers(self) -> int:
        """Number of pyramid levels."""
        return len(self.regression_ranges)

    @property
    def level_strides(self) -> list[int]:
        """Frames from one position to the next, per pyramid level."""
        return [self.segment_stride * 2 ** (level + 1) for level in range(self.num_hidden_layers)]

    @property
    def total_stride(self) -> int:
        """Stride of the coarsest level in frames. Moving the input by a multiple of it moves every result with it."""
        return self.level_strides[-1]

    @property
    def num_proposals_per_position(self) -> int:
        """One anchor-free interval and the anchors."""
        return 1 + len(self.anchor_ratios)

    @property
    def context_frames(self) -> int:
        """
        How far a prediction looks, in frames, rounded up to `total_stride`.

        No operation of the network looks farther than a fixed number of frames, so a position that is at least this
        far from both edges of a window gets the same prediction in every window that holds it. It is the sum of
        the reach of: the baseline, the segments, the sliding-window attention, the stride-2 and residual convolutions
        of all levels, and the attention and convolutions of the head at the coarsest level.
        """
        reach = self.segment_length
        if self.temporal_difference:
            # Once for the baseline, and once more for what goes along with turns of the head.
            reach += (2 if self.num_landmarks else 1) * (self.temporal_difference_frames // 2)
        if self.use_sliding_window_attention:
            reach += self.segment_stride + self.attention_window // 2
        reach += self.segment_stride + 2 * sum(self.level_strides)
        reach += max(self.attention_window // 2, self.total_stride) + self.num_head_layers * self.total_stride
        return -(-reach // self.total_stride) * self.total_stride

    def validate_frames(self):
        """Numbers of the right sign, and strides that divide."""
        for name in (*_POSITIVE, *_NOT_NEGATIVE):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} must be a finite number, got {getattr(self, name)}")
        for name, largest in _LARGEST.items():
            if getattr(self, name) > largest:
                raise ValueError(f"{name} must not be above {largest}, got {getattr(self, name)}")
        for name in _POSITIVE:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name in _NOT_NEGATIVE:
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if not self.feature_size and (self.backbone_config is not None or not self.num_landmarks):
            raise ValueError(
                "feature_size may be 0 only in a network of landmarks alone, got "
                f"backbone_config={'None' if self.backbone_config is None else 'a backbone'} and "
                f"num_landmarks={self.num_landmarks}"
            )
        if self.segment_length < self.segment_stride or (self.segment_length - self.segment_stride) % 2:
            raise ValueError(
                "segment_length must be segment_stride plus an even number of frames, so that segments are centred "
                f"on their own frames; got segment_length={self.segment_length}, segment_stride={self.segment_stride}"
            )
        if self.window_size % self.total_stride:
            raise ValueError(
                f"window_size must be a multiple of the coarsest stride {self.total_stride}, got {self.window_size}"
            )

    def validate_architecture(self):
        """Channels that the heads share out, and levels that cover the range of durations without a gap."""
        if self.num_attention_heads < 1 or self.hidden_size % self.num_attention_heads:
            raise ValueError(
                "hidden_size must be a multiple of num_attention_heads, got "
                f"hidden_size={self.hidden_size}, num_attention_heads={self.num_attention_heads}"
            )
        ranges = self.regression_ranges
        if len(ranges) < 2 or any(len(pair) != 2 or not 0 <= pair[0] < pair[1] for pair in ranges):
            raise ValueError(f"regression_ranges must be two or more pairs 0 <= low < high, got {ranges}")
        if ranges[0][0] != 0 or any(low[1] != high[0] for low, high in itertools.pairwise(ranges)):
            raise ValueError(f"regression_ranges must start at 0 and each begin where the last one ends, got {ranges}")
        if len(ranges) > _MOST_LEVELS or len(self.anchor_ratios) > _MOST_ANCHORS:
            raise ValueError(
                f"there may be {_MOST_LEVELS} levels and {_MOST_ANCHORS} anchors at most, got {len(ranges)} and "
                f"{len(self.anchor_ratios)}"
            )
        if not self.anchor_ratios or not all(0 < ratio < math.inf for ratio in self.anchor_ratios):
            raise ValueError(f"anchor_ratios must be one or more positive numbers, got {self.anchor_ratios}")

    def validate_labels(self):
        """Two expression types, emotions numbered from zero, one weight for each."""
        if len(self.expression_types) != 2 or len(set(self.expression_types)) != 2:
            raise ValueError(f"expression_types must be two different names, got {self.expression_types}")
        if self.id2label is None or sorted(self.id2label) != list(range(len(self.id2label))) or not self.id2label:
            raise ValueError(f"id2label must number its labels from 0 without gaps, got {self.id2label}")
        if len(self.id2label) > _MOST_LABELS:
            raise ValueError(f"there may be {_MOST_LABELS} labels at most, got {len(self.id2label)}")
        for name, count in (("type_class_weights", 2), ("label_class_weights", len(self.id2label))):
            weights = getattr(self, name)
            if weights is not None and (len(weights) != count or min(weights) < 0):
                raise ValueError(f"{name} must be {count} non-negative numbers, got {weights}")

    def validate_loss(self):
        """Thresholds in order and fractions between 0 and 1."""
        if not 0 <= self.anchor_background_iou <= self.anchor_positive_iou <= 1:
            raise ValueError(
                "0 <= anchor_background_iou <= anchor_positive_iou <= 1 must hold, got "
                f"{self.anchor_background_iou} and {self.anchor_positive_iou}"
            )
        for name in ("score_threshold", "focal_alpha", "dropout", "loss_normalizer_momentum"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie between 0 and 1, got {getattr(self, name)}")
        if not 0 <= self.min_visible_fraction < 1:  # an event belongs to a window that holds more than this of it
            raise ValueError(f"min_visible_fraction must be at least 0 and below 1, got {self.min_visible_fraction}")


def _check_backbone(values: Any, name: str = "backbone_config") -> None:
    """Raise a `ValueError` for sizes that no backbone has, whatever fields its own configuration knows."""
    if isinstance(values, dict):
        for key, value in values.items():
            _check_backbone(value, f"{name}.{key}")
        return
    if isinstance(values, (list, tuple)):
        if len(values) > _LONGEST_IN_BACKBONE:
            raise ValueError(f"{name} must not hold more than {_LONGEST_IN_BACKBONE} values, got {len(values)}")
        for value in values:
            _check_backbone(value, name)
        return
    counts_layers = any(word in name.rpartition(".")[2] for word in ("layers", "depth", "stages", "blocks"))
    largest = _DEEPEST_BACKBONE if counts_layers else _LARGEST_IN_BACKBONE
    if isinstance(values, (int, float)) and not -largest <= values <= largest:
        raise ValueError(f"{name} must not be above {largest}, got {values}")


__all__ = ["FednConfig"]
