"""A tiny corpus of features in which every expression can be seen, and a network that learns it in seconds."""

import numpy as np
import torch

from fedn_hf import FednConfig, FednForFacialExpressionDetection
from fedn_hf.data.sequences import FednSequence
from fedn_hf.training import TrainingSettings

LABELS = ("positive", "negative", "surprise", "others")
FRAMES = 480
QUICK = {"epochs": 3, "batch_size": 4, "learning_rate": 3e-3, "ema_decay": 0.9, "warmup_epochs": 0.5}


def rows(subjects: int = 4, seed: int = 0) -> list[dict]:
    """One video per subject with three macro- and one micro-expression; channel = emotion, as corpus rows."""
    generator = np.random.default_rng(seed)
    videos = []
    for subject in range(subjects):
        features = generator.normal(0, 0.3, (FRAMES, 4)).astype(np.float32)
        events = []
        for place in range(4):
            length = 10 if place == 3 else int(generator.integers(24, 40))
            onset = place * 110 + int(generator.integers(20, 60))
            emotion = int(generator.integers(0, 4))
            features[onset : onset + length, emotion] += 3 * np.hanning(length + 2)[1:-1]
            kind = "micro-expression" if length < 16 else "macro-expression"
            event = {"onset": onset, "apex": onset + length // 2, "offset": onset + length - 1}
            events.append({**event, "type": kind, "emotion": LABELS[emotion]})
        names = {"video_id": f"s{subject}_a", "subject_id": f"s{subject}"}
        videos.append({**names, "fps": 30.0, "num_frames": FRAMES, "features": features, "events": events})
    return videos


def config(**changes) -> FednConfig:
    settings = {
        "backbone_config": None,
        "feature_size": 4,
        "hidden_size": 16,
        "num_attention_heads": 2,
        "window_size": 64,
        "attention_window": 32,
        "segment_length": 4,
        "num_head_layers": 1,
        "regression_ranges": [[0, 16], [16, 64]],
        "anchor_ratios": [1.0],
        "id2label": dict(enumerate(LABELS)),
    }
    return FednConfig(**{**settings, **changes})


def model(seed: int = 0, **changes) -> FednForFacialExpressionDetection:
    torch.manual_seed(seed)
    return FednForFacialExpressionDetection(config(**changes))


def sequences(videos: list[dict] | None = None, **changes) -> list[FednSequence]:
    videos = rows() if videos is None else videos
    return [FednSequence.from_native(row, {"frame_features": row["features"]}, config(**changes)) for row in videos]


def settings(**changes) -> TrainingSettings:
    return TrainingSettings(**{**QUICK, **changes})
