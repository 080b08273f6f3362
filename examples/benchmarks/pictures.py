"""How long pictures, reports and overlay videos take, and how large they are.

    python examples/benchmarks/pictures.py [--output pictures.json]

The recording has two hours and 5,000 events at random, with a score for each of 216,000 frames. The overlay is of the
bundled clip, once and five times over, each in a process of its own, for the peak of memory.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np

from fedn_hf.annotation import ExpressionAnnotation, ExpressionInterval
from fedn_hf.html_report import write_report
from fedn_hf.overlay import render
from fedn_hf.pictures import draw_overview, draw_timeline, save

CLIP = Path(__file__).resolve().parents[1] / "media" / "synthetic.mp4"
FPS, HOURS, EVENTS = 30.0, 2, 5000
LABELS = ["anger", "disgust", "fear", "happiness", "others", "sadness", "surprise"]
TYPES = ["macro-expression", "micro-expression"]


def recording(duration_s: float, count: int, seed: int = 0) -> ExpressionAnnotation:
    """Events at random."""
    draw = np.random.default_rng(seed)
    score = draw.uniform(0, 0.3, round(duration_s * FPS))
    events = []
    for start in draw.uniform(0, duration_s - 10, count):
        is_micro = bool(draw.random() < 0.35)
        first = int(start * FPS)
        last = first + int(draw.integers(5, 15) if is_micro else draw.integers(16, 120))
        middle, value = (first + last) // 2, float(draw.uniform(0.5, 1))
        score[first : last + 1] = value
        times = (first / FPS, middle / FPS, (last + 1) / FPS)
        label = LABELS[draw.integers(len(LABELS))]
        events.append(ExpressionInterval(label, value, TYPES[is_micro], *times, first, middle, last))
    quality = {"frames": len(score), "confidence": 0.95, "face_size_px": 150.0, "fit": 0.9}
    return ExpressionAnnotation(
        {"path": f"recording {seed}.mp4", "duration_s": duration_s, "fps": FPS},
        events,
        [{"face_id": 0, "start_s": 0.0, "end_s": duration_s, **quality}],
        [{"face_id": 0, "time_s": (np.arange(len(score)) / FPS).tolist(), "score": score.round(4).tolist()}],
        LABELS,
        TYPES,
    )


def measure(work: Callable[[Path], object], path: Path, repeats: int = 3) -> dict[str, float]:
    """Seconds of the best of some runs after one that warms up, and the size of what was written."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work(path)
        times.append(time.perf_counter() - start)
    return {"seconds": round(min(times[1:]), 3), "first_seconds": round(times[0], 3), "bytes": path.stat().st_size}


def repeated(path: Path, times: int) -> None:
    """The bundled clip several times over, without encoding it again."""
    with av.open(str(CLIP)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        length = source.streams.video[0].duration
        for turn in range(times):
            source.seek(0)
            for packet in source.demux(video=0):
                if packet.size:
                    packet.pts, packet.dts = packet.pts + turn * length, packet.dts + turn * length
                    packet.stream = stream
                    target.mux(packet)


def overlay(times: int, blur: bool) -> dict[str, float]:
    """In this process: frames in a second, and the peak of its memory."""
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "video.mp4"
        repeated(video, times)
        start = time.perf_counter()
        done = render(ExpressionAnnotation({"path": str(video)}, []), video, Path(folder) / "out.mp4", blur=blur)
        seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {"frames": done.frames, "frames_per_second": round(done.frames / seconds, 1), "peak_mb": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--overlay", type=int, nargs=2, metavar=("TIMES", "BLUR"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.overlay:
        print(json.dumps(overlay(arguments.overlay[0], bool(arguments.overlay[1]))))
        return
    long = recording(HOURS * 3600.0, EVENTS)
    many = [recording(1800.0, 200, seed) for seed in range(20)]
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        results["timeline, 2 h, 5,000 events, PNG"] = measure(lambda p: save(draw_timeline(long), p), out / "a.png")
        results["timeline, 2 h, 5,000 events, SVG"] = measure(lambda p: save(draw_timeline(long), p), out / "a.svg")
        results["overview, 20 videos of 30 min, PNG"] = measure(lambda p: save(draw_overview(many), p), out / "b.png")
        results["report, 2 h, 5,000 events"] = measure(lambda p: write_report([long], p), out / "a.html")
        results["report, 20 videos of 30 min"] = measure(lambda p: write_report(many, p), out / "b.html", 1)
    for times in (1, 5):
        for blur in (0, 1):
            command = [sys.executable, __file__, "--overlay", str(times), str(blur)]
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            name = f"overlay, 320 x 320, {24 * times} s{', faces hidden' if blur else ''}"
            results[name] = json.loads(said.splitlines()[-1])
    for name, row in results.items():
        print(f"{name:44}" + "  ".join(f"{key} {value:,}" for key, value in row.items()))
    if arguments.output:
        arguments.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
