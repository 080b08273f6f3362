"""What a million hours of video take: machine hours, money, storage and network, from rates measured here.

    python examples/benchmarks/archive_cost.py [--readme] [-o FILE]

Measured, on one core of this machine: the CPU seconds of each stage for a second of video, in two sizes; the FLOPs of
all networks; the size of the results. They are CPU times, so a busy machine changes them little. Everything else is
assumed, stands in `Assumed`, and is marked so in the table: above all, nothing was run on an H100.
"""

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import av
import torch
from torch.utils.flop_counter import FlopCounterMode

from fedn_hf import ExpressionAnnotation, VideoReader, load_pipeline
from fedn_hf.version import __version__

sys.path.insert(0, str(Path(__file__).resolve().parent))
from archive_simulation import README, ROOT, write_into
from crops import make_video

HOURS = 1_000_000
SIZES = {"640 x 480": (640, 480), "1920 x 1080": (1920, 1080)}
SECONDS = 20


@dataclass(frozen=True)
class Assumed:
    """Not measured. Change what is known better."""

    core_hour_dollars: float = 0.05  # a physical core with 4 GB, rented by the year or taken back at any time
    h100_hour_dollars: float = 2.50  # with the cores below
    cores_per_h100: int = 13  # 26 threads, as usual in machines with eight
    h100_tflops: float = 989.0  # dense bf16, of the data sheet
    h100_used: float = 0.05  # of it, by small networks in large batches
    nvdec_engines: int = 7  # of the data sheet
    nvdec_fps_1080p: float = 700.0  # H.264, each engine
    nvdec_most_gain: float = 3.0  # how much faster small frames may be decoded
    host_cpu_share: float = 0.05  # of decoding on the CPU: what demuxing and handing on still take
    mbit_per_s: tuple[float, float] = (1.0, 5.0)  # of the videos, by size
    cores: int = 1024  # what is at hand in the table's last columns
    h100s: int = 64


def resized(source: Path, path: Path, size: tuple[int, int]) -> Path:
    """The same clip with larger frames."""
    with av.open(str(source)) as clip, av.open(str(path), "w") as made:
        stream = made.add_stream("h264", rate=30, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for number, frame in enumerate(clip.decode(video=0)):
            frame = frame.reformat(*size)
            frame.pts, frame.time_base = number, Fraction(1, 30)
            made.mux(stream.encode(frame))
        made.mux(stream.encode(None))
    return path


def cpu_s(work: Callable[[], object]) -> float:
    """CPU seconds of all threads, the lesser of two times: the first one also warms up."""
    times = []
    for _ in range(2):
        begun = time.process_time()
        work()
        times.append(time.process_time() - begun)
    return min(times)


def measure(detect, path: Path, seconds: int) -> dict[str, float]:
    """CPU seconds for a second of video, by stage; `rest` is faces, crops and the network."""
    raw = detect(str(path), return_raw=True)
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "kept.json"
        ExpressionAnnotation.from_dict(raw.describe()).write(kept)
        result_bytes = kept.stat().st_size
    decoding = cpu_s(lambda: [len(batch) for batch in VideoReader(path, fps=30)]) / seconds
    together = cpu_s(lambda: detect(str(path), return_raw=True)) / seconds
    with FlopCounterMode(display=False) as counter:
        detect(str(path), return_raw=True)
    return {
        "decode_cpu_s": decoding,
        "rest_cpu_s": max(0.0, together - decoding),
        "gflop": counter.get_total_flops() / seconds / 1e9,
        "result_bytes": result_bytes / seconds,
    }


def ways(stages: dict[str, float], mbit_per_s: float, pixels: int, given: Assumed) -> dict[str, dict]:
    """Hours of video in an hour of the machine, and what follows from it, for each arrangement."""
    cpu = 1 / (stages["decode_cpu_s"] + stages["rest_cpu_s"])  # seconds of video per second of a core
    flops = given.h100_tflops * 1e3 * given.h100_used / stages["gflop"]
    gain = min(given.nvdec_most_gain, SIZES["1920 x 1080"][0] * SIZES["1920 x 1080"][1] / pixels)
    limits = {
        "NVDEC": given.nvdec_engines * given.nvdec_fps_1080p * gain / 30,
        "its CPU cores": given.cores_per_h100 / (given.host_cpu_share * stages["decode_cpu_s"]),
        "arithmetic": flops,
    }
    least = min(limits, key=limits.get)
    share = stages["decode_cpu_s"] * cpu
    arranged = {
        "CPU cores": (cpu, given.core_hour_dollars, given.cores, f"decoding {share:.0%}, faces and network the rest"),
        "H100, package as it is": (
            given.cores_per_h100 * cpu, given.h100_hour_dollars, given.h100s,
            f"its {given.cores_per_h100} cores: the GPU waits",
        ),
        "H100, all on the GPU": (
            limits[least], given.h100_hour_dollars, given.h100s,
            f"{least}; {', '.join(f'{name} at {limits[name]:,.0f}' for name in limits if name != least)}",
        ),
    }  # fmt: skip
    return {
        name: {
            "video_hours_per_hour": rate,
            "machine_hours": HOURS / rate,
            "dollars": HOURS / rate * price,
            "days": HOURS / rate / count / 24,
            "read_gbit_per_s": rate * count * mbit_per_s / 1e3,
            "saturates": why,
        }
        for name, (rate, price, count, why) in arranged.items()
    }


def table_of(found: dict) -> str:
    given = found["assumed"]
    lines = [
        "| 1 M hours of | on | hours of video in an hour | machine hours | dollars | "
        f"days on {given['cores']:,} cores or {given['h100s']} H100 | read, Gbit/s | what is full |",
        "|---|---|---:|---:|---:|---:|---:|---|",
    ]
    for size, facts in found["sizes"].items():
        for name, way in facts["ways"].items():
            mark = "" if name == "CPU cores" else " (assumed)"
            dollars = f"{way['dollars']:,.0f}"
            numbers = [f"{way[key]:,.1f}" for key in ("days", "read_gbit_per_s")]
            cells = [size, f"{name}{mark}", f"{way['video_hours_per_hour']:,.1f}", f"{way['machine_hours']:,.0f}"]
            lines.append(f"| {' | '.join([*cells, dollars, *numbers, way['saturates']])} |")
    lines += [
        "",
        "| 1 M hours of | decode, CPU s per s | the rest, CPU s per s | GFLOP per s | videos, TB | results, TB |",
    ]
    lines.append("|---|---:|---:|---:|---:|---:|")
    for size, facts in found["sizes"].items():
        stages = facts["measured"]
        cells = [f"{stages[key]:.3f}" for key in ("decode_cpu_s", "rest_cpu_s", "gflop")]
        cells += [f"{facts['videos_tb']:,.0f} (assumed)", f"{facts['results_tb']:.1f}"]
        lines.append(f"| {size} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readme", action="store_true", help=f"write the tables into {README.relative_to(ROOT)}")
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "examples/benchmarks/results/archive_cost.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    given, detect = Assumed(), load_pipeline(device="cpu")
    found = {
        "fedn_hf": __version__,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "assumed": asdict(given),
        "sizes": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        small = make_video(Path(folder) / "small.mp4", SECONDS)
        for (name, size), mbit_per_s in zip(SIZES.items(), given.mbit_per_s, strict=True):
            path = small if size == (640, 480) else resized(small, Path(folder) / "large.mp4", size)
            stages = measure(detect, path, SECONDS)
            found["sizes"][name] = {
                "measured": stages,
                "ways": ways(stages, mbit_per_s, size[0] * size[1], given),
                "videos_tb": HOURS * 3600 * mbit_per_s / 8 / 1e6,
                "results_tb": HOURS * 3600 * stages["result_bytes"] / 1e12,
            }
    arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    print(table_of(found))
    if arguments.readme:
        write_into(README, "cost", table_of(found))


if __name__ == "__main__":
    main()
