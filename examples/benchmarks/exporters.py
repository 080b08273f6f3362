"""How long files for other programs take: two hours with 5,000 expressions, in every format, written and read back.

    python examples/benchmarks/exporters.py [--events 100000] [--output exporters.json]

Prints a table and, with --output, writes the same as JSON. With more expressions the recording gets longer. What is
read back is held against what was written: the largest difference of an onset or offset, and of anything else the
number of expressions that differ. Seconds are those of the processor, so that others on the machine do not count.
"""

import argparse
import json
import platform
import tempfile
import time
from pathlib import Path

import numpy as np

from fedn_hf import ExpressionAnnotation, ExpressionInterval
from fedn_hf.exporters import FORMATS, read

FPS = 30.0
LABELS = ("happiness", "surprise", "disgust", "fear", "anger", "sadness", "others")
TYPES = ("macro-expression", "micro-expression")
SECONDS_PER_EVENT = 7200 / 5000
BOUND_S = 5.0


def long_recording(count: int, seed: int = 0) -> ExpressionAnnotation:
    """Expressions of two faces at random times, with coverage of every frame and curves of those of two hours."""
    rng = np.random.default_rng(seed)
    duration_s = count * SECONDS_PER_EVENT
    events = []
    for number, onset_s in enumerate(np.sort(rng.uniform(0, duration_s - 5, count)).tolist()):
        kind = int(rng.integers(2))
        lasts_s = float(rng.uniform(0.2, 0.5) if kind else rng.uniform(0.5, 4.0))
        apex_s = onset_s + lasts_s * float(rng.uniform(0.2, 0.8))
        frames = [int(time_s * FPS) for time_s in (onset_s, apex_s, onset_s + lasts_s)]
        scores = dict(zip(LABELS, rng.random(len(LABELS)).round(4).tolist(), strict=True))
        event = (max(scores, key=scores.get), (number + 1) / 2**20, TYPES[kind], onset_s, apex_s, onset_s + lasts_s)
        events.append(ExpressionInterval(*event, *frames, number % 2, scores))
    times = np.arange(0, min(duration_s, 7200), 1 / FPS)
    curve = {"time_s": times.tolist(), "score": rng.random(len(times)).round(4).tolist()}
    coverage = [
        {"face_id": face, "start_s": 0.0, "end_s": duration_s, "frames": round(duration_s * FPS)} for face in range(2)
    ]
    video = {"path": "interview.mp4", "fps": FPS, "duration_s": duration_s, "num_frames": round(duration_s * FPS)}
    return ExpressionAnnotation(
        video,
        events,
        coverage,
        curves=[{"face_id": face, **curve} for face in range(2)],
        labels=list(LABELS),
        types=list(TYPES),
        provenance={"model": "benchmark", "seed": seed},
    )


def compare(written: ExpressionAnnotation, back: ExpressionAnnotation) -> dict:
    """Expressions are told apart by their scores, which are all different."""
    pairs = list(zip(*(sorted(one, key=lambda event: event.score) for one in (written, back)), strict=True))
    shifts = [abs(getattr(a, name) - getattr(b, name)) for a, b in pairs for name in ("onset_s", "offset_s")]
    names = ("label", "type", "face_id")
    differ = sum(any(getattr(a, name) != getattr(b, name) for name in names) for a, b in pairs)
    return {"largest_shift_ms": 1000 * max(shifts), "expressions_that_differ": differ}


def measure(annotation: ExpressionAnnotation, folder: Path) -> dict:
    rows = {}
    for name, form in FORMATS.items():
        path = folder / f"interview{form.suffix}"
        start = time.process_time()
        annotation.write(path)
        rows[name] = {"write_s": time.process_time() - start, "bytes": path.stat().st_size}
        if form.is_read:
            start = time.process_time()
            (back,) = read(path)
            rows[name] |= {"read_s": time.process_time() - start, **compare(annotation, back)}
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--events", type=int, default=5000)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    annotation = long_recording(arguments.events)
    annotation.crop(0.0, 10.0).to_pandas()  # imports are not what is measured
    with tempfile.TemporaryDirectory() as folder:
        long_recording(10).write(Path(folder) / "warm.png")
        rows = measure(annotation, Path(folder))
    print(f"{'format':12}{'write s':>9}{'read s':>9}{'KB':>9}{'shift ms':>10}{'differ':>8}")
    for name, row in rows.items():
        back = [f"{row['read_s']:9.2f}"] if "read_s" in row else [f"{'-':>9}"]
        held = [f"{row['largest_shift_ms']:10.3f}{row['expressions_that_differ']:8}"] if "read_s" in row else []
        print("".join([f"{name:12}{row['write_s']:9.2f}", *back, f"{row['bytes'] // 1000:9}", *held]))
    slow = [name for name, row in rows.items() if row["write_s"] >= BOUND_S]
    print(f"slower than {BOUND_S:g} s to write: {', '.join(slow) or 'none'}")
    if arguments.output:
        facts = {"events": arguments.events, "hours": annotation.video["duration_s"] / 3600}
        facts |= {"python": platform.python_version(), "machine": platform.machine(), "formats": rows}
        arguments.output.write_text(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
