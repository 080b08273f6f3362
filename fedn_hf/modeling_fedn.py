"""FEDN, the Facial Expression Detection Network ("End-to-End Facial Expression Detection in Long Videos", arXiv
2504.07660): frames -> segments -> sliding window -> pyramid -> heads. The layers are in `layers_fedn.py`.

Shapes: B batch, T frames, F channels of a frame feature, N segments, D hidden_size, P proposals, C emotion labels.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .configuration_fedn import FednConfig
from .layers_fedn import (
    FednAttention,
    FednFrameEmbedding,
    FednFrameEncoder,
    FednHeadBranch,
    FednIntensityHead,
    FednPyramidLayer,
    FednSegmentAttention,
    FednSlidingWindowAttention,
    local_attention_mask,
)
from .loss_fedn import ProposalGrid, check_labels, decode_boundaries, joint_loss, make_proposal_grid
from .media_fedn import FednError
from .postprocessing_fedn import MASKED_LOGIT, FednProposals, FednWindow, owned_proposals, plan_windows, stitch

# A proposal is an expression with a probability of one in a hundred before anything is learnt (the focal loss's
# prior).
_PRIOR_LOGIT = -math.log(99)
# Number of positives per batch that is assumed before any has been counted.
_INITIAL_NORMALIZER = 100.0
# Four gigabytes in single precision; the largest preset has a hundredth of it.
_MOST_PARAMETERS = 10**9
# Frames that a window of a long sequence owns, 68 seconds: large against the context, small in memory.
_OWN_FRAMES = 2048
_RAW_OUTPUTS = ("boundaries", "confidence", "type_logits", "logits", "intensity")


@dataclass
class FednModelOutput(ModelOutput):
    r"""
    Output of [`FednModel`].

    last_hidden_state (`torch.FloatTensor` of shape `(batch_size, positions, hidden_size)`):
        Coarsest level of the pyramid.
    pyramid (`tuple(torch.FloatTensor)`):
        All levels, finest first, of shape `(batch_size, frames / stride, hidden_size)`; zero where masked.
    pyramid_mask (`tuple(torch.LongTensor)`):
        One mask per level of shape `(batch_size, frames / stride)`: 1 where any frame of a position is visible.
    segment_features (`torch.FloatTensor` of shape `(batch_size, segments, hidden_size)`):
        One feature per segment, after the sliding-window attention.
    frame_mask (`torch.LongTensor` of shape `(batch_size, frames)`):
        The mask of the frames, filled up with zeros to a multiple of the coarsest stride.
    hidden_states (`tuple(torch.FloatTensor)`, *optional*):
        Input of the pyramid and all its levels.
    attentions (`tuple(torch.FloatTensor)`, *optional*):
        Attention inside the segments, `(batch_size * segments, heads, segment_length, segment_length)`.
    """

    # The first five are always there, but a ModelOutput wants a default for each.
    last_hidden_state: torch.Tensor = None  # type: ignore[assignment]
    pyramid: tuple[torch.Tensor, ...] = None  # type: ignore[assignment]
    pyramid_mask: tuple[torch.Tensor, ...] = None  # type: ignore[assignment]
    segment_features: torch.Tensor = None  # type: ignore[assignment]
    frame_mask: torch.Tensor = None  # type: ignore[assignment]
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
class FednDetectionOutput(ModelOutput):
    r"""
    Output of [`FednForFacialExpressionDetection`].

    loss (`torch.FloatTensor` of shape `()`, *optional*):
        Weighted sum of `loss_dict`.
    loss_dict (`dict[str, torch.FloatTensor]`, *optional*):
        The terms before their weights: `confidence`, `boundary`, `type`, `label`, `intensity`, as the network has
        them.
    logits (`torch.FloatTensor` of shape `(batch_size, proposals, num_labels)`, *optional*):
        Emotion of each proposal, one sigmoid per class.
    confidence (`torch.FloatTensor` of shape `(batch_size, proposals)`, *optional*):
        Whether a proposal is an expression, before the sigmoid; -10000 where masked.
    type_logits (`torch.FloatTensor` of shape `(batch_size, proposals, 2)`, *optional*):
        Whether a proposal is an expression of each type, one sigmoid per type.
    boundaries (`torch.FloatTensor` of shape `(batch_size, proposals, 2)`):
        Start and end in frames of the window, half-open, in single precision.
    intensity (`torch.FloatTensor` of shape `(batch_size, frames)`, *optional*):
        Between 0 at rest and 1 at an apex; 0 where masked.
    hidden_states (`tuple(torch.FloatTensor)`, *optional*):
        Input of the pyramid and all its levels.
    attentions (`tuple(torch.FloatTensor)`, *optional*):
        Attention inside the segments, then of every head branch, over the positions of all levels side by side with an
        empty one behind each level.
    """

    loss: torch.Tensor | None = None
    loss_dict: dict[str, torch.FloatTensor] | None = None
    logits: torch.Tensor | None = None
    confidence: torch.Tensor | None = None
    type_logits: torch.Tensor | None = None
    boundaries: torch.Tensor | None = None
    intensity: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


_NO_SPLIT = ["FednFrameEncoder", "FednSegmentAttention", "FednPyramidLayer", "FednHeadBranch"]


class FednPreTrainedModel(PreTrainedModel):
    """
    Weights, loading and saving of FEDN models.

    Example:

    ```python
    >>> from fedn_hf import FednConfig, FednModel, FednPreTrainedModel

    >>> model = FednModel(FednConfig.preset("compact"))
    >>> model.save_pretrained("my-network")
    >>> isinstance(FednModel.from_pretrained("my-network"), FednPreTrainedModel)
    True
    ```
    """

    config: FednConfig
    config_class = FednConfig
    base_model_prefix = "fedn"
    main_input_name = "pixel_values"
    input_modalities = ("video",)
    supports_gradient_checkpointing = True
    _no_split_modules = _NO_SPLIT
    # Flash attention knows no window with gaps, and flex attention returns NaN where nothing is visible.
    _supports_sdpa = True
    _can_record_outputs = {"hidden_states": FednPyramidLayer, "attentions": FednAttention}  # noqa: RUF012

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        super()._init_weights(module)
        if hasattr(module, "initial_bias"):
            init.constant_(module.bias, module.initial_bias)
        elif isinstance(module, FednForFacialExpressionDetection):
            init.constant_(module.loss_normalizer, _INITIAL_NORMALIZER)

    def __init__(self, config: FednConfig, *args, **kwargs):
        super().__init__(config, *args, **kwargs)
        if config.backbone_config is None:
            self.main_input_name = "frame_features"

    def post_init(self):
        """`from_pretrained` first builds a network without memory for weights: what asks for too much ends here."""
        count = sum(parameter.numel() for parameter in self.parameters())
        if count > _MOST_PARAMETERS:
            raise ValueError(
                f"the configuration asks for {count} parameters, the most there may be is {_MOST_PARAMETERS}"
            )
        super().post_init()

    @classmethod
    def from_pretrained(cls, *args, **kwargs):
        """As everywhere, but for one thing: only safetensors are read. Pickles can run code when they are opened."""
        if kwargs.get("use_safetensors") is False:
            raise ValueError("use_safetensors=False is refused: pickled weights can run any code when they are opened")
        return super().from_pretrained(*args, **{**kwargs, "use_safetensors": True})


def check_inputs(
    config: FednConfig, features: torch.Tensor, landmarks: torch.Tensor | None, mask: torch.Tensor
) -> None:
    """Raise a `ValueError` that quotes the value for features, landmarks or masks that do not fit the network."""
    if features.ndim != 3 or features.shape[-1] != config.feature_size or not features.shape[1]:
        raise ValueError(
            f"frame_features must have shape (batch, frames, {config.feature_size}), got {tuple(features.shape)}"
        )
    if mask.shape != features.shape[:2]:
        raise ValueError(f"frame_mask must have shape {tuple(features.shape[:2])}, got {tuple(mask.shape)}")
    if (landmarks is None) == (config.num_landmarks > 0):
        given = "none" if landmarks is None else tuple(landmarks.shape)
        raise ValueError(f"this network has num_landmarks={config.num_landmarks}, landmarks given: {given}")
    if landmarks is not None and landmarks.shape != (*features.shape[:2], config.num_landmarks, 2):
        expected = (*features.shape[:2], config.num_landmarks, 2)
        raise ValueError(f"landmarks must have shape {expected}, got {tuple(landmarks.shape)}")
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or features.is_meta:
        return  # what follows depends on the values
    for name, values in (("frame_features", features), ("landmarks", landmarks)):
        if values is not None:
            bad = ~values.flatten(2).isfinite().all(-1) & mask
            if bad.any():
                row, frame = bad.nonzero()[0].tolist()
                numbers = values[row, frame].flatten()
                value = numbers[~numbers.isfinite()][0].item()
                raise ValueError(f"{name} must be finite where frame_mask is true, got {value} at [{row}, {frame}]")


class FednModel(FednPreTrainedModel):
    """
    FEDN without its heads: a feature per frame, per segment, and a temporal pyramid.

    What the paper leaves open was chosen as follows.

    - *Segments* of 8 frames every 2 frames, overlapping: an expression as short as a micro-expression may be fills one
      segment wherever it starts.
    - *Strides*: see [`FednConfig`]. The finest level has a stride of 4 frames.
    - *Norms* over channels, never over time or the batch; *attention and softmax* over a window centred on each
      position; no absolute positions; *even kernels* where the rate is halved. So every position has a finite view
      (`config.context_frames`), moving the input by a multiple of `config.total_stride` frames moves the output, and
      neither batch nor padding nor the place where a long video is cut changes a result.
    - *Landmarks* are read by a linear map, which the package brings for FaceMesh's 468 fitted to muscles of synthetic
      faces (`fedn_hf.training.reenactment`): learnt by gradients with the rest, it stayed far worse.

    Example:

    ```python
    >>> import torch
    >>> from fedn_hf import FednConfig, FednModel

    >>> model = FednModel(FednConfig(backbone_config=None)).eval()
    >>> outputs = model(frame_features=torch.randn(1, 256, 512))
    >>> [tuple(level.shape) for level in outputs.pyramid]
    [(1, 64, 256), (1, 32, 256), (1, 16, 256), (1, 8, 256)]
    ```
    """

    def __init__(self, config: FednConfig):
        super().__init__(config)
        self.frame_encoder = None if config.backbone_config is None else FednFrameEncoder(config)
        self.embedding = FednFrameEmbedding(config)
        self.segment_attention = FednSegmentAttention(config)
        self.sliding_window_attention = None
        if config.use_sliding_window_attention:
            self.sliding_window_attention = FednSlidingWindowAttention(config)
        # The first two layers are the stem, the others the neck.
        self.pyramid = nn.ModuleList([FednPyramidLayer(config) for _ in range(config.num_hidden_layers)])
        self.post_init()
        self.train(self.training)

    def get_input_embeddings(self) -> nn.Module:
        """Where frame features enter; what `enable_input_require_grads` hooks for checkpointing with frozen parts."""
        return self.embedding.projection

    def set_input_embeddings(self, value: nn.Linear) -> None:
        """Put another map of frame features, `feature_size` to `hidden_size`, in the place of that one."""
        self.embedding.projection = value

    def train(self, mode: bool = True) -> "FednModel":
        """
        Switch to training or, with `False`, to evaluation. A frozen backbone has no gradients and stays in evaluation,
        so its batch-norm statistics do not move either; said here, as loading a checkpoint thaws parameters and then
        calls this.
        """
        super().train(mode)
        if self.frame_encoder is not None and self.config.freeze_backbone:
            self.frame_encoder.eval().requires_grad_(False)
        return self

    def encode_frames(self, pixel_values: torch.Tensor, chunk_size: int | None = None) -> torch.Tensor:
        """
        Frames to frame features.

        Args:
            pixel_values (`torch.FloatTensor` of shape `(frames, 3, height, width)` or `(batch, frames, 3, height,
                width)`): Normalised face crops.
            chunk_size (`int`, defaults to `config.frame_chunk_size`): Frames that pass the backbone at once.

        Returns:
            `torch.FloatTensor` of shape `(frames, feature_size)` or `(batch, frames, feature_size)`. A frozen backbone
            gives no gradients; one that trains takes its batch-norm statistics from each chunk. A network of landmarks
            alone looks at no pixel: `feature_size` is 0.
        """
        if self.frame_encoder is None and self.config.feature_size:
            raise ValueError(
                "this network has no backbone (backbone_config=None): give frame_features, not pixel_values"
            )
        if pixel_values.ndim not in (4, 5) or pixel_values.shape[-3] != 3:
            shape = tuple(pixel_values.shape)
            raise ValueError(f"pixel_values must have shape ([batch,] frames, 3, height, width), got {shape}")
        if self.frame_encoder is None:
            return pixel_values.new_zeros(*pixel_values.shape[:-3], 0)
        frames = pixel_values.flatten(0, -4)
        learning = torch.is_grad_enabled() and not self.config.freeze_backbone
        if learning and self.frame_encoder.gradient_checkpointing:
            # Re-entrant checkpoints only run backwards through inputs that ask for a gradient.
            frames = frames.detach().requires_grad_()
        with torch.set_grad_enabled(learning):
            features = torch.cat(
                [
                    self.frame_encoder(chunk.contiguous(memory_format=torch.channels_last))
                    for chunk in frames.split(chunk_size or self.config.frame_chunk_size)
                ]
            )
        return features.unflatten(0, pixel_values.shape[:-3])

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        frame_features: torch.Tensor | None = None,
        landmarks: torch.Tensor | None = None,
        frame_mask: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple | FednModelOutput:
        r"""
        pixel_values (`torch.FloatTensor` of shape `(batch_size, frames, 3, height, width)`, *optional*):
            Normalised face crops. Either these or `frame_features`.
        frame_features (`torch.FloatTensor` of shape `(batch_size, frames, feature_size)`, *optional*):
            What `encode_frames` makes of them, or any other features.
        landmarks (`torch.FloatTensor` of shape `(batch_size, frames, num_landmarks, 2)`, *optional*):
            Points in the crop, 0 to 1; required when `config.num_landmarks` is not 0.
        frame_mask (`torch.BoolTensor` of shape `(batch_size, frames)`, *optional*):
            True where there is a face. Other frames have no influence whatever they hold.
        """
        if pixel_values is not None and frame_features is None:
            if pixel_values.ndim != 5:
                shape = tuple(pixel_values.shape)
                raise ValueError(f"pixel_values must have shape (batch, frames, 3, height, width), got {shape}")
            frame_features = self.encode_frames(pixel_values)
        elif frame_features is None or pixel_values is not None:
            given = "neither" if pixel_values is None else "both"
            raise ValueError(f"give either pixel_values or frame_features, got {given}")
        if frame_mask is None:
            frame_mask = frame_features.new_ones(frame_features.shape[:2], dtype=torch.bool)
        mask = frame_mask.to(torch.bool)
        check_inputs(self.config, frame_features, landmarks, mask)

        # Masked frames are emptied before anything looks at them, and the window is filled up to whole positions.
        spare = -mask.shape[1] % self.config.total_stride
        features = F.pad(frame_features.masked_fill(~mask[..., None], 0), (0, 0, 0, spare))
        if landmarks is not None:
            landmarks = landmarks.masked_fill(~mask[..., None, None], 0)
            landmarks = F.pad(landmarks, (0, 0, 0, 0, 0, spare))
        frame_mask = mask = F.pad(mask, (0, spare))

        frames = self.embedding(features, landmarks, mask)  # (B, T, D)
        hidden_states = self.segment_attention(frames, mask)  # (B, N, D)
        mask = mask.unflatten(1, (-1, self.config.segment_stride)).any(-1)  # (B, N)
        hidden_states = hidden_states * mask[..., None]
        if self.sliding_window_attention is not None:
            hidden_states = self.sliding_window_attention(hidden_states, mask)
        segments = hidden_states
        levels, masks = [], []
        for layer in self.pyramid:
            mask = mask.unflatten(1, (-1, 2)).any(-1)
            hidden_states = layer(hidden_states, mask)
            levels.append(hidden_states)
            masks.append(mask.long())
        return FednModelOutput(
            last_hidden_state=hidden_states,
            pyramid=tuple(levels),
            pyramid_mask=tuple(masks),
            segment_features=segments,
            frame_mask=frame_mask.long(),
        )


class FednForFacialExpressionDetection(FednPreTrainedModel):
    """
    FEDN: boundaries, confidence, type and emotion of every expression in a window, learnt jointly.

    At every position of every pyramid level six proposals are made, one anchor-free and five anchors, in the order of
    `loss_fedn.ProposalGrid`. Choices of ours: branches are shared by the levels, each predicts relative to its level's
    base length; proposals are assigned as `loss_fedn.assign_events` says; confidence and types are trained with focal
    weighting, as a few proposals in a thousand are positive, and types against the background, too: were they only
    trained on what is an expression, nothing would be known of them elsewhere, and the rarer type would be lost; an
    optional head predicts the intensity of every frame, whose peak is the apex.

    In bfloat16 a trained network's probabilities stay within 0.02 of those in single precision, and the boundaries of
    its confident proposals within a frame; boundaries and losses are always computed in single precision.

    Example:

    ```python
    >>> import torch
    >>> from fedn_hf import FednConfig, FednForFacialExpressionDetection
    >>> from fedn_hf.postprocessing_fedn import find_intervals

    >>> model = FednForFacialExpressionDetection(FednConfig.preset("compact")).eval()
    >>> features = model.encode_frames(torch.randn(300, 3, 112, 112))  # ten seconds of face crops
    >>> found = find_intervals(model.detect_from_features(features), fps=30, score_threshold=0.3)
    >>> len(found)  # untrained
    0
    ```
    """

    def __init__(self, config: FednConfig):
        super().__init__(config)
        self.fedn = FednModel(config)
        branches = {}
        if config.heads != "recognition":
            branches["boundaries"] = FednHeadBranch(config, 2)
            branches["confidence"] = FednHeadBranch(config, 1, initial_bias=_PRIOR_LOGIT)
            branches["type_logits"] = FednHeadBranch(config, len(config.expression_types), initial_bias=_PRIOR_LOGIT)
        if config.heads != "spotting":
            branches["logits"] = FednHeadBranch(config, config.num_labels)
        self.branches = nn.ModuleDict(branches)
        self.intensity_head = FednIntensityHead(config) if config.use_intensity_head else None
        self.register_buffer("loss_normalizer", torch.tensor(_INITIAL_NORMALIZER))
        self.post_init()

    def encode_frames(self, pixel_values: torch.Tensor, chunk_size: int | None = None) -> torch.Tensor:
        """See [`FednModel.encode_frames`]."""
        return self.fedn.encode_frames(pixel_values, chunk_size)

    @can_return_tuple
    @merge_with_config_defaults
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        frame_features: torch.Tensor | None = None,
        landmarks: torch.Tensor | None = None,
        frame_mask: torch.Tensor | None = None,
        labels: list[dict] | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple | FednDetectionOutput:
        r"""
        pixel_values, frame_features, landmarks, frame_mask:
            See [`FednModel.forward`].
        labels (`list[dict]` of length `batch_size`, *optional*):
            The events of each window: `intervals` (n, 2), start and end in frames of the window, half-open (an event
            from frame 10 to frame 20 is (10, 21)); `type_labels` (n,); `class_labels` (n,), -100 where the emotion is
            unknown; optional `apex` (n,), frames, NaN where unknown (the centre of frame 15 is 15.5). Events that
            reach out of the window are given as they are.
        """
        kwargs["return_dict"] = True
        outputs = self.fedn(pixel_values, frame_features, landmarks, frame_mask, **kwargs)
        frames = pixel_values if frame_features is None else frame_features
        batch, num_frames = frames.shape[:2]  # type: ignore[union-attr]  # `fedn` has refused calls without either
        if labels is not None:
            check_labels(labels, batch, self.config)
        grid = make_proposal_grid(num_frames, self.config, outputs.frame_mask.device)
        result, attentions = self._predict(outputs, grid)

        loss = terms = None
        if labels is not None:
            terms, positives = joint_loss(result, labels, grid, self.config, self.loss_normalizer.clone())
            loss = sum(getattr(self.config, f"{name}_loss_weight") * term for name, term in terms.items())
            if self.training:
                positives = positives.clamp(min=1).to(self.loss_normalizer.dtype)
                self.loss_normalizer.lerp_(positives, 1 - self.config.loss_normalizer_momentum)
        wants_attentions = kwargs.get("output_attentions", self.config.output_attentions)
        intensity = None
        if self.intensity_head is not None:
            intensity = (result["intensity_logits"].float().sigmoid() * outputs.frame_mask)[:, :num_frames]
        return FednDetectionOutput(
            loss=loss,
            loss_dict=terms,
            logits=result.get("logits"),
            confidence=result.get("confidence"),
            type_logits=result.get("type_logits"),
            boundaries=result["boundaries"],
            intensity=intensity,
            hidden_states=outputs.hidden_states,
            attentions=(outputs.attentions or ()) + attentions if wants_attentions else None,
        )

    def _predict(self, outputs: FednModelOutput, grid: ProposalGrid) -> tuple[dict, tuple]:
        """
        Every branch at every level, in the order of the grid, and their attentions.

        A branch passes all levels at once, side by side: that is half the time of one after the other. An empty
        position behind each keeps convolutions from reaching across.
        """
        frame_mask = outputs.frame_mask.bool()
        device, sizes = frame_mask.device, [level.shape[1] for level in outputs.pyramid]
        features = torch.cat([F.pad(level, (0, 0, 0, 1)) for level in outputs.pyramid], 1)  # (B, L, D)
        mask = torch.cat([F.pad(mask, (0, 1)) for mask in outputs.pyramid_mask], 1).bool()  # (B, L)
        level = torch.cat([torch.full((size + 1,), number, device=device) for number, size in enumerate(sizes)])
        radii = [max(1, self.config.attention_window // (2 * stride)) for stride in self.config.level_strides]
        reach = torch.tensor(radii, device=device)[level]
        attention_mask = local_attention_mask(self.config, features, mask, reach, level)
        ends = torch.tensor(sizes, device=device).add(1).cumsum(0) - 1
        places = torch.ones(len(level), dtype=torch.bool, device=device).index_fill(0, ends, False).nonzero()[:, 0]
        numbers: dict[str, torch.Tensor] = {}
        attentions: tuple[torch.Tensor, ...] = ()
        for name, branch in self.branches.items():
            predicted, weights = branch(features, mask, attention_mask)
            numbers[name] = predicted[:, places].flatten(1, 2)  # (B, P, outputs)
            attentions += () if weights is None else (weights,)
        mask = mask[:, places].repeat_interleave(self.config.num_proposals_per_position, 1)  # (B, P)

        result: dict[str, Any] = {"proposal_mask": mask, "frame_mask": frame_mask}
        if self.config.heads == "recognition":
            result["boundaries"] = grid.defaults.expand(len(mask), -1, -1)
            result["logits"] = numbers["logits"].masked_fill(~mask[..., None], MASKED_LOGIT)
        else:
            result["boundaries"] = decode_boundaries(numbers["boundaries"], grid)
            result["confidence"] = numbers["confidence"][..., 0].masked_fill(~mask, MASKED_LOGIT)
            result["type_logits"] = numbers["type_logits"]
            result["logits"] = numbers.get("logits")
        if self.intensity_head is not None:
            segment_mask = frame_mask.unflatten(1, (-1, self.config.segment_stride)).any(-1)
            result["intensity_logits"] = self.intensity_head(
                outputs.segment_features, outputs.pyramid[0], segment_mask
            )
        return result, attentions

    @torch.no_grad()
    def detect_window(
        self, inputs: dict[str, torch.Tensor], window: FednWindow, num_frames: int, min_score: float = 0.001
    ) -> dict[str, torch.Tensor]:
        """
        One step of `detect_from_features`, for callers that cannot hold a whole sequence: what a window contributes.

        Args:
            inputs (`dict`): `frame_features`, `landmarks`, `frame_mask` of frames `window.start` to `window.stop`, as
                in `forward`, with a batch dimension of one.
            window (`FednWindow`): Which frames these are, and which of them the window owns.
            num_frames (`int`): Length of the sequence; while it is not known, anything beyond `window.stop`.
            min_score (`float`): Proposals of less confidence are not kept.

        Returns:
            `dict[str, torch.Tensor]` on the CPU; `postprocessing_fedn.stitch` joins those of all windows.
        """
        if self.training:
            raise ValueError("detection needs a network in evaluation: call model.eval(), got training=True")
        inputs = {name: values.to(self.device) for name, values in inputs.items()}
        outputs = self(**inputs, return_dict=True, output_hidden_states=False, output_attentions=False)
        grid = make_proposal_grid(window.stop - window.start, self.config, self.device)
        single = {name: outputs[name][0] for name in _RAW_OUTPUTS if outputs.get(name) is not None}
        if any(values.isnan().any() for values in single.values()):  # such scores would be taken for low ones
            raise FednError(
                f"the network gives no numbers (NaN) in {self.dtype}: they have grown too large for it, or weights "
                "are damaged; load it in torch.float32 or torch.bfloat16, or get the checkpoint again"
            )
        return owned_proposals(single, grid, window, num_frames, self.config.context_frames, min_score)

    def detect_from_features(
        self,
        frame_features: torch.Tensor,
        landmarks: torch.Tensor | None = None,
        frame_mask: torch.Tensor | None = None,
        *,
        windows: list[FednWindow] | None = None,
        min_score: float = 0.001,
    ) -> FednProposals:
        """
        Proposals for a sequence of any length, from features that each passed the backbone once.

        The sequence goes through the network in windows of 2048 frames plus the context that the network can see on
        both sides; the stitched result is that of a single pass over all of it.

        Args:
            frame_features (`torch.Tensor` of shape `(frames, feature_size)` or `(1, frames, feature_size)`):
                From `encode_frames`; may lie on another device than the model.
            landmarks (`torch.Tensor` of shape `(frames, num_landmarks, 2)`, *optional*), frame_mask (`(frames,)`,
                *optional*): As in `forward`; with a leading dimension of one if `frame_features` has it.
            windows (`list[FednWindow]`, *optional*): Another plan, from `postprocessing_fedn.plan_windows`.
            min_score (`float`): Proposals of less confidence are not kept.

        Returns:
            [`FednProposals`], on the CPU. `postprocessing_fedn.find_intervals` makes expressions of them.
        """
        given = {"frame_features": frame_features, "landmarks": landmarks, "frame_mask": frame_mask}
        inputs = {name: values for name, values in given.items() if values is not None}
        if frame_features.ndim == 2:
            inputs = {name: values[None] for name, values in inputs.items()}
        shapes = {name: tuple(values.shape) for name, values in inputs.items()}
        num_frames = shapes["frame_features"][1]
        if any(shape[:2] != (1, num_frames) for shape in shapes.values()) or not num_frames:
            raise ValueError(f"all inputs must have one row of the same number of frames, got {shapes}")
        stride = self.config.total_stride
        if windows is None:
            own = -(-_OWN_FRAMES // stride) * stride
            windows = plan_windows(num_frames, own, self.config.context_frames, stride)
        parts = []
        for window in windows:
            part = {name: values[:, window.start : window.stop] for name, values in inputs.items()}
            parts.append(self.detect_window(part, window, num_frames, min_score))
        return stitch(parts, num_frames)


__all__ = [
    "FednDetectionOutput",
    "FednForFacialExpressionDetection",
    "FednModel",
    "FednModelOutput",
    "FednPreTrainedModel",
]
