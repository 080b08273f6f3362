"""A rule on optical flow: the spotter of synthetic_world.py, tuned on some synthetic people and used on others.

It learns nothing: for each type one signal (a step, a region of the face), smoothing and threshold are taken that find
most (strict F1) in the videos of the people whom it may be tuned on. Signals are kept, as they take all of the time.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from synthetic_world import FPS, MICRO_S, SETTINGS, STEPS, along, magnitudes, spot

from fedn_hf import FednConfig
from fedn_hf.data.cache import crops_of
from fedn_hf.files_fedn import replacing
from fedn_hf.metrics import spotting
from fedn_hf.training.inputs import Row, processor_of
from fedn_hf.training.report import expressions, truth_of

TYPES = {"macro": "macro-expression", "micro": "micro-expression"}
Signals = Mapping[str, torch.Tensor]  # "step region" -> (T,), and the native frame of each


def flow_rule(tuned: Sequence[Row], tested: Sequence[Row], folder: Path) -> dict[str, list[dict[str, Any]]]:
    """What the rule finds in the videos that it is tuned on and in others, as rows like those of raw detections."""
    signals = {row["video_id"]: _signals(row, folder) for row in (*tuned, *tested)}
    chosen = tune(signals, tuned)
    return {
        part: [found for kind, how in chosen.items() for found in spots(signals, rows, *how) if found["type"] == kind]
        for part, rows in (("validation", tuned), ("tested", tested))
    }


@torch.no_grad()
def _signals(row: Row, folder: Path) -> Signals:
    """The signals of a video, computed once."""
    path = folder / "signals" / f"{row['video_id']}.safetensors"
    if not path.exists():
        config = FednConfig(frame_rate=FPS)
        faces = crops_of(row["video"], config, processor_of(config))
        grey = faces.inputs["crops"].float().mean(-1)
        found = {f"{step} {n}": curve for step in STEPS for n, curve in enumerate(along(grey, step, magnitudes))}
        found = {name: torch.from_numpy(curve.copy()) for name, curve in found.items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as unfinished:
            save_file({**found, "native_frame": torch.from_numpy(faces.native_frame)}, unfinished)
    return load_file(path)


def tune(signals: Mapping[str, Signals], rows: Sequence[Row]) -> dict[str, tuple[str, tuple]]:
    """For each type the signal and the settings of `spot` that find most of it here; of equals the first."""
    (events, videos), best = truth_of(rows), {}
    names = [name for name in signals[rows[0]["video_id"]] if name != "native_frame"]
    for how in itertools.product(names, SETTINGS):
        counts = spotting(expressions(spots(signals, rows, *how)), events, videos=videos).per_type
        for kind, long_name in TYPES.items():
            f1 = counts[kind].f1 if kind in counts else 0.0
            if long_name not in best or f1 > best[long_name][0]:
                best[long_name] = (f1, how)
    return {kind: how for kind, (_, how) in best.items()}


def spots(signals: Mapping[str, Signals], rows: Iterable[Row], name: str, setting: tuple) -> list[dict[str, Any]]:
    """Everything that one signal and one setting find; what lasts up to half a second is called micro."""
    found, step = [], int(name.split()[0])
    for row in rows:
        native = signals[row["video_id"]]["native_frame"].tolist()
        curve = np.asarray(signals[row["video_id"]][name])
        for onset, offset, score in spot(curve, *setting[:3], round(setting[3] * step / 2)):
            kind = TYPES["micro" if (offset - onset + 1) / FPS <= MICRO_S else "macro"]
            place = {"onset": native[onset], "offset": native[offset], "apex": None}
            names = {"video": row["video_id"], "subject": row["subject_id"], "type": kind, "emotion": None}
            found.append({**names, **place, "score": score})
    return found


__all__ = ["flow_rule", "spots", "tune"]
