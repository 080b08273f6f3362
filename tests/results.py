"""Results to draw, render and report on: the synthetic clip with its truth, and recordings that never were."""

import json
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pympi

from fedn_hf.annotation import ExpressionAnnotation, ExpressionInterval
from tests.clips import make

MEDIA = Path(__file__).resolve().parents[1] / "examples" / "media"
CLIP = MEDIA / "synthetic.mp4"
LABELS = ["anger", "disgust", "fear", "happiness", "others", "sadness", "surprise"]
TYPES = ["macro-expression", "micro-expression"]
FPS = 30.0


def event(onset, apex, offset, label="anger", kind=TYPES[0], score=0.9, face_id=0):
    """An expression by its frames at 30 fps."""
    times = (onset / FPS, apex / FPS, (offset + 1) / FPS)
    return ExpressionInterval(label, score, kind, *times, onset, apex, offset, face_id)


def truth() -> ExpressionAnnotation:
    """The truth of the synthetic clip, as if a network that followed its face had found it."""
    known = json.loads((MEDIA / "synthetic.json").read_text())
    events = [
        event(*(row[f"{name}_frame"] for name in ("onset", "apex", "offset")), row["emotion"], row["type"], score)
        for row, score in zip(known["expressions"], (0.7, 0.6, 0.95, 0.5, 0.9), strict=True)
    ]
    return annotation(events, known["num_frames"] / FPS, str(CLIP))


def annotation(events, duration_s, path="interview.mp4", gap_s=None) -> ExpressionAnnotation:
    """With coverage (but for a gap), a score for every frame, and provenance."""
    frames = round(duration_s * FPS)
    spans = [(0.0, duration_s)] if gap_s is None else [(0.0, gap_s[0]), (gap_s[1], duration_s)]
    quality = {"frames": 1, "confidence": 0.95, "face_size_px": 150.0, "fit": 0.9}
    score = np.full(frames, 0.04)
    for one in events:
        score[one.onset_frame : one.offset_frame + 1] = one.score
    seen = [any(a <= i / FPS < b for a, b in spans) for i in range(frames)] if frames < 1e5 else [True] * frames
    curve = {"face_id": 0, "time_s": (np.arange(frames) / FPS).tolist()}
    curve |= {"score": [s if visible else None for s, visible in zip(score.tolist(), seen, strict=True)]}
    video = {"path": path, "fps": FPS, "duration_s": duration_s, "num_frames": frames, "width": 320, "height": 320}
    return ExpressionAnnotation(
        {**video, "codec": "h264", "truncated_at_s": None},
        events,
        [{"face_id": 0, "start_s": a, "end_s": b, **quality} for a, b in spans],
        [curve],
        LABELS,
        TYPES,
        {"model": "lab/detector", "revision": "abc123", "faces": "largest", "frame_rate": FPS, "image_size": 112,
         "settings": {"score_threshold": 0.5}},
    )  # fmt: skip


def recording(count=5000, duration_s=7200.0, seed=0) -> ExpressionAnnotation:
    """Hours with thousands of events."""
    draw = np.random.default_rng(seed)
    events = []
    for start in np.sort(draw.uniform(0, duration_s - 10, count)):
        is_micro = draw.random() < 0.35
        first, frames = int(start * FPS), int(draw.integers(5, 15) if is_micro else draw.integers(16, 120))
        middle, label = first + frames // 2, LABELS[draw.integers(len(LABELS))]
        score = round(float(draw.uniform(0.5, 1)), 3)
        events.append(event(first, middle, first + frames, label, TYPES[is_micro], score))
    return annotation(events, duration_s, gap_s=(0.4 * duration_s, 0.43 * duration_s))


def coded_by_hand() -> ExpressionAnnotation:
    """What a coder's file may leave out: scores, apexes, frames, types, labels, coverage."""
    return ExpressionAnnotation(
        {"path": "coded by hand.mp4", "duration_s": 20.0},
        [
            ExpressionInterval("joy", None, None, 3.0, None, 4.0),
            ExpressionInterval(None, None, TYPES[1], 5.0, None, 5.3),
            ExpressionInterval("joy", None, TYPES[0], 8.0, 8.5, 9.0),
        ],
    )


def with_faces(one: ExpressionAnnotation, faces: int) -> ExpressionAnnotation:
    """The same events, dealt out to several faces."""
    return replace(one, intervals=[replace(e, face_id=i % faces) for i, e in enumerate(one)])


def ending(path: Path, seconds: float = 8.0) -> ExpressionAnnotation:
    """Write the last seconds of the synthetic clip as a video of their own; their truth: anger, micro, surprise."""
    with av.open(str(CLIP)) as source:
        frames = [frame.to_ndarray(format="rgb24") for frame in source.decode(video=0)]
    first = len(frames) - round(seconds * FPS)
    times = [n / FPS for n in range(len(frames) - first)]
    make(path, times, size=frames[0].shape[1::-1], tick=Fraction(1, 30), picture=lambda n, *size: frames[first + n])
    marked = ExpressionAnnotation.read(MEDIA / "synthetic.csv")
    times = [f"{moment}_{unit}" for moment in ("onset", "apex", "offset") for unit in ("s", "frame")]
    shift = {name: first / FPS if name.endswith("_s") else first for name in times}
    events = [
        replace(one, **{name: getattr(one, name) - shift[name] for name in times})
        for one in marked
        if one.onset_frame >= first
    ]
    return replace(marked, video={"path": str(path), "fps": FPS}, intervals=events)


def coded_in_elan(path: Path, marked: ExpressionAnnotation, codes: Mapping[str, str]) -> None:
    """What a coder makes of it in ELAN: a tier for each type, codes of their own, and no word of frames."""
    file = pympi.Elan.Eaf()
    file.add_linked_file("interview.mp4", mimetype="video/mp4")
    for tier in ("Macro", "Micro"):
        file.add_tier(tier)
    for one in marked:
        tier = one.type.split("-")[0].capitalize()
        file.add_annotation(tier, round(1000 * one.onset_s), round(1000 * one.offset_s), codes[one.label])
    file.to_file(str(path))
