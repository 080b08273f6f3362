"""FednConfig: the paper's network by default, refuses what does not fit together, survives JSON."""

import json

import pytest
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, ResNetConfig

from fedn_hf import FednConfig


def test_the_default_is_the_papers_network():
    config = FednConfig()
    assert isinstance(config.backbone_config, ResNetConfig)
    assert (config.backbone_config.depths, config.backbone_config.layer_type) == ([2, 2, 2, 2], "basic")
    assert (config.image_size, config.window_size, config.frame_rate, config.freeze_backbone) == (112, 256, 30.0, True)
    assert config.anchor_ratios == [0.5, 0.75, 1.0, 1.5, 2.0]
    assert config.num_proposals_per_position == 6
    assert config.regression_ranges == [[0, 8], [8, 32], [32, 64], [64, 128]]
    assert config.level_strides == [4, 8, 16, 32]
    assert not (config.num_landmarks or config.temporal_difference or config.use_intensity_head)
    assert " ".join(config.id2label.values()) == "happiness surprise disgust fear anger sadness others"
    assert config.expression_types == ["macro-expression", "micro-expression"]


@pytest.mark.parametrize(
    "config",
    [
        FednConfig(),
        FednConfig.preset("compact", num_landmarks=68),
        FednConfig(backbone_config=None, feature_size=32),
        FednConfig(num_labels=2),
        FednConfig(id2label={0: "positive", 1: "negative", 2: "surprise", 3: "others"}, heads="recognition"),
    ],
    ids=["paper", "compact", "features", "two labels", "objective"],
)
def test_json_round_trip(config, tmp_path):
    config.save_pretrained(tmp_path)
    again = FednConfig.from_pretrained(tmp_path)
    assert again.to_dict() == config.to_dict()
    assert again.label2id == {name: index for index, name in config.id2label.items()}
    assert type(AutoConfig.from_pretrained(tmp_path)) is FednConfig
    assert json.loads(config.to_json_string())["model_type"] == "fedn"


def test_any_backbone():
    config = FednConfig(
        backbone_config={"model_type": "convnext", "depths": [1] * 4, "hidden_sizes": [8] * 4}, feature_size=8
    )
    assert config.backbone_config.model_type == "convnext"
    assert FednConfig(backbone_config=None).backbone_config is None


@pytest.mark.parametrize(
    "changes, quoted",
    [
        ({"hidden_size": 30}, "hidden_size=30"),
        ({"segment_length": 7}, "segment_length=7"),
        ({"window_size": 100}, "multiple of the coarsest stride 32, got 100"),
        ({"heads": "both"}, "both"),
        ({"image_size": "112"}, "'112'"),
        ({"frame_rate": 0}, "frame_rate must be positive, got 0"),
        ({"frame_rate": float("nan")}, "frame_rate must be a finite number, got nan"),
        ({"hidden_size": 10**9}, "hidden_size must not be above 4096, got 1000000000"),
        ({"num_head_layers": 10**9}, "num_head_layers must not be above 64, got 1000000000"),
        ({"regression_ranges": [[n, n + 1] for n in range(10**4)]}, "12 levels"),
        ({"anchor_ratios": [1.0, float("inf")]}, "positive numbers, got"),
        ({"num_landmarks": -1}, "got -1"),
        ({"regression_ranges": [[0, 8], [9, 32]]}, r"\[9.0, 32.0\]"),
        ({"regression_ranges": [[0, 8]]}, "two or more"),
        ({"anchor_ratios": [0.0, 1.0]}, r"\[0.0, 1.0\]"),
        ({"expression_types": ["micro-expression"]}, "micro-expression"),
        ({"id2label": {1: "a", 2: "b"}}, "1: 'a'"),
        ({"label_class_weights": [1.0]}, r"7 non-negative numbers, got \[1.0\]"),
        ({"anchor_background_iou": 0.6}, "0.6 and 0.5"),
        ({"dropout": 1.5}, "got 1.5"),
        ({"min_visible_fraction": 1.0}, "below 1, got 1.0"),
        ({"label_loss_weight": -1.0}, "label_loss_weight must not be negative, got -1.0"),
    ],
)
def test_what_does_not_fit_is_refused(changes, quoted):
    with pytest.raises(StrictDataclassError, match=quoted):
        FednConfig(**changes)


@pytest.mark.parametrize(
    "field, value", [("hidden_sizes", [10**9]), ("depths", [10**7]), ("embedding_size", -(10**9))]
)
def test_a_backbone_of_absurd_size_is_refused(field, value):
    with pytest.raises(ValueError, match=rf"backbone_config.{field} must not be above"):
        FednConfig(backbone_config={"model_type": "resnet", field: value})


def test_a_dtype_that_is_none_is_refused():
    assert str(FednConfig(dtype="float16").dtype) == "torch.float16"
    with pytest.raises(ValueError, match=r"dtype must be one of float16, .*, got 'load'"):
        FednConfig(dtype="load")


def test_an_unknown_backbone_is_refused():
    with pytest.raises(ValueError, match="'resnext'"):
        FednConfig(backbone_config={"model_type": "resnext"})


def test_presets():
    assert FednConfig.preset("compact").hidden_size == 128
    assert FednConfig.preset("compact", hidden_size=64).hidden_size == 64
    assert FednConfig().hidden_size == 256
    with pytest.raises(ValueError, match="'large'"):
        FednConfig.preset("large")


def test_the_finest_level_resolves_micro_expressions():
    for config in (FednConfig(), FednConfig.preset("compact")):
        assert config.level_strides[0] <= 4
