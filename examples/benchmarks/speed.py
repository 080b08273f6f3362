"""How fast videos are worked through, what that is against what peers do, and how much memory it takes.

    python examples/benchmarks/speed.py [PART ...] [-o speed.json]

Parts, all but `hour` if none is named; each adds its figures to the file, so that they can be measured one by one when
the machine is quiet:

    default   the embedded default on a 640 x 480 face: each stage alone and the whole, beside plain decoding
    resnet18  the same with the paper's network, whose ResNet-18 looks at every frame (untrained: as fast as trained)
    flow      optical flow of the same faces at 256 px, TV-L1 and Farneback by OpenCV, as many peers begin with
    floor     how few operations and bytes each stage could do with
    length    time and peak memory for 1 and 10 minutes of video, 60 with `hour`, and for 4K
    many      40 videos of three seconds: in one call, in 40 calls, in 40 runs of the command
    gpu       the first two on a GPU, where there is one, beside the same machine's CPU

`flow` needs OpenCV with its contributed modules, which the package itself does not: pip install
opencv-contrib-python-headless. Figures are of the machine that they were measured on; ratios travel better.
"""

import argparse
import itertools
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from crops import make_video, repeat_video
from transformers import pipeline

from fedn_hf import FaceCropper, FednConfig, FednForFacialExpressionDetection, FednVideoProcessor, load_pipeline
from fedn_hf.face_nets_fedn import load_face_net
from fedn_hf.files_fedn import replacing
from fedn_hf.pipeline_fedn import TASK
from fedn_hf.sandbox import give_memory_back
from fedn_hf.speed import measure, peak_memory_mb
from fedn_hf.version import __version__
from fedn_hf.video_io_fedn import VideoReader

RESULTS = Path(__file__).resolve().parent / "results" / "speed.json"
FLOW_PX = 256
TVL1_PAIRS, FARNEBACK_PAIRS = 16, 120  # TV-L1 takes half a second for a pair
PROCESSES = 5  # runs of the command that are timed; 40 take eight times as long


class Clips:
    """The videos that are measured, each made when it is asked for."""

    def __init__(self, folder: Path):
        self.folder = folder

    def minutes(self, count: int) -> Path:
        path = self.folder / f"{count}.mp4"
        return path if path.exists() else repeat_video(self.seconds(20), path, 3 * count)

    def seconds(self, count: int) -> Path:
        path = self.folder / f"{count}s.mp4"
        return path if path.exists() else make_video(path, count)

    def short(self) -> Path:
        """The first three of the 20 seconds: a clip made as short would sway as often, and so seven times as fast."""
        path = self.folder / "short.mp4"
        if not path.exists():
            with av.open(str(self.seconds(20))) as source, av.open(str(path), "w") as clip:
                stream = clip.add_stream_from_template(source.streams.video[0])
                for packet in itertools.islice(source.demux(video=0), 90):
                    packet.stream = stream
                    clip.mux(packet)
        return path

    def four_k(self) -> Path:
        """The 20 seconds at 3840 x 2160."""
        path = self.folder / "4k.mp4"
        if not path.exists():
            with av.open(str(self.seconds(20))) as source, av.open(str(path), "w") as clip:
                stream = clip.add_stream("h264", rate=30, options={"preset": "ultrafast", "bf": "0"})
                stream.width, stream.height, stream.pix_fmt = 3840, 2160, "yuv420p"
                for number, frame in enumerate(source.decode(video=0)):
                    large = frame.reformat(3840, 2160, "yuv420p")
                    large.pts, large.time_base = number, Fraction(1, 30)
                    clip.mux(stream.encode(large))
                clip.mux(stream.encode(None))
        return path


def resnet18(device: str = "cpu"):
    """The paper's network, which nobody has trained."""
    torch.manual_seed(0)
    model = FednForFacialExpressionDetection(FednConfig())
    return pipeline(TASK, model=model, video_processor=FednVideoProcessor(), device=device)


def flow(clips: Clips) -> dict:
    """Frames per second of two kinds of optical flow between neighbouring face crops, on all cores."""
    try:
        import cv2

        tvl1 = cv2.optflow.DualTVL1OpticalFlow_create()
    except (ImportError, AttributeError):
        sys.exit("flow needs OpenCV with its contributed modules: pip install opencv-contrib-python-headless")
    cv2.setNumThreads(torch.get_num_threads())
    grey = []
    for batch in FaceCropper(FLOW_PX, grey=True)(VideoReader(clips.seconds(20), end_s=5)):
        grey += [np.ascontiguousarray(crop[..., 0].numpy()) for crop in batch.crops]

    def rate(function, pairs: int) -> float:
        began = time.perf_counter()
        for one, other in itertools.islice(itertools.pairwise(grey), pairs):
            function(one, other)
        return pairs / (time.perf_counter() - began)

    return {
        "opencv": cv2.__version__,
        "threads": cv2.getNumThreads(),
        "TV-L1": rate(lambda one, other: tvl1.calc(one, other, None), TVL1_PAIRS),
        "Farneback": rate(
            lambda one, other: cv2.calcOpticalFlowFarneback(one, other, None, 0.5, 3, 15, 3, 5, 1.2, 0),
            FARNEBACK_PAIRS,
        ),
    }


def floor() -> dict:
    """Operations and bytes of a frame, stage by stage, at 640 x 480, and how fast this machine multiplies."""
    from torch.utils.flop_counter import FlopCounterMode

    def mflop(function) -> float:
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            function()
        return counter.get_total_flops() / 1e6

    matrix = torch.rand(1024, 1024)
    torch.set_num_threads(1)
    began = time.perf_counter()
    for _ in range(20):
        matrix @ matrix
    gflops = 20 * 2 * 1024**3 / (time.perf_counter() - began) / 1e9
    mesh, near = load_face_net("facemesh468"), load_face_net("blazeface_short_range")
    default, paper = load_pipeline(device="cpu").model, resnet18().model

    def of_window(model) -> float:
        """Of the frames that a window owns, with what it looks at besides."""
        from fedn_hf.passing_fedn import own_frames

        config = model.config
        own = own_frames(config.total_stride)
        size = own + 2 * config.context_frames
        inputs = {"frame_features": torch.zeros(1, size, config.feature_size)}
        if config.num_landmarks:
            inputs["landmarks"] = torch.zeros(1, size, config.num_landmarks, 2)
        return mflop(lambda: model(**inputs)) / own

    return {
        "gflop_per_s_one_core": gflops,
        "decoded_bytes_per_frame": 640 * 480 * 3 // 2,
        "rgb_bytes_per_frame": 640 * 480 * 3,
        "mflop_per_frame": {
            "FaceMesh, one look in 4 frames": mflop(lambda: mesh(torch.rand(1, 3, 192, 192))) / 4,
            "BlazeFace, one look in 30": mflop(lambda: near(torch.rand(1, 3, 128, 128))) / 30,
            "ResNet-18 at 112 px": mflop(lambda: paper.encode_frames(torch.rand(1, 3, 112, 112))),
            "network of the default": of_window(default),
            "paper's network": of_window(paper),
        },
    }


def fresh(path: Path) -> dict:
    """Time and peak memory of a process of its own that finds the expressions in a video."""
    ran = subprocess.run([sys.executable, __file__, "--worker", str(path)], check=True, capture_output=True)
    return json.loads(ran.stdout.splitlines()[-1])


def worker(path: str) -> None:
    give_memory_back()  # as the commands do
    detect = load_pipeline(device="cpu")
    began, cpu = time.perf_counter(), time.process_time()
    found = detect(path, return_raw=True)
    told = {"frames": len(found.time_s), "seconds": time.perf_counter() - began, "cpu_s": time.process_time() - cpu}
    print(json.dumps({**told, "peak_memory_mb": peak_memory_mb()}))


def length(clips: Clips, with_hour: bool) -> dict:
    told = {f"{minutes} min": fresh(clips.minutes(minutes)) for minutes in (1, 10, *([60] if with_hour else []))}
    return {**told, "4K, 20 s": fresh(clips.four_k())}


def many(clips: Clips) -> dict:
    """Seconds for 40 short videos. Runs of the command also import torch, every time."""
    short = [str(clips.short())] * 40
    detect = load_pipeline(device="cpu")
    detect(short[0])
    began = time.perf_counter()
    detect(short)
    call_s = time.perf_counter() - began
    began = time.perf_counter()
    for path in short:
        detect(path)
    calls_s = time.perf_counter() - began
    began = time.perf_counter()
    command = [sys.executable, "-c", "from fedn_hf.cli import main; main()", "detect", "--device", "cpu"]
    for path in short[:PROCESSES]:
        subprocess.run([*command, path], check=True, capture_output=True)
    runs_s = (time.perf_counter() - began) * len(short) / PROCESSES
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for number, path in enumerate(short):
            os.symlink(path, Path(folder) / f"{number}.mp4")
        subprocess.run([*command, folder], check=True, capture_output=True)
    return {
        "one_call_s": call_s,
        "40_calls_s": calls_s,
        "one_run_of_the_command_s": time.perf_counter() - began,
        "40_runs_of_the_command_s": runs_s,
    }


def measured(part: str, clips: Clips) -> dict | None:
    """The figures of a part; `None` where it cannot be measured here."""
    minute = str(clips.minutes(1)) if part in ("default", "resnet18", "gpu") else None
    match part:
        case "default":
            return measure(load_pipeline(device="cpu"), minute)
        case "resnet18":
            return measure(resnet18(), minute, end_s=20.0)
        case "flow":
            return flow(clips)
        case "floor":
            return floor()
        case "length" | "hour":
            return length(clips, part == "hour")
        case "many":
            return many(clips)
    if not torch.cuda.is_available():
        return None
    return {
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "default": measure(load_pipeline(device="cuda"), minute),
        "resnet18": measure(resnet18("cuda"), minute, batch_size=8),
        "default on its CPU": measure(load_pipeline(device="cpu"), minute),
        "resnet18 on its CPU": measure(resnet18(), minute, end_s=20.0),
    }


def table(told: dict) -> str:
    """What README shows of the figures that are there."""
    rows = []
    for part, name in (("default", "embedded default"), ("resnet18", "ResNet-18 on every frame")):
        if part in told:
            of = told[part]
            alone = ", ".join(f"{stage} {1000 / fps:.1f}" for stage, fps in list(of["fps"].items())[1:-1])
            rows.append((f"{name}, 640 x 480: frames/s end to end", f"{of['fps']['end to end']:.0f}"))
            rows.append(
                (
                    "real time; plain decoding, same run",
                    f"{of['real_time_factor']:.1f} x; "
                    f"{of['fps']['plain decode']:.0f} frames/s, {of['ratio_to_plain_decode']:.1f} x as fast",
                )
            )
            rows.append(("ms per frame of each stage on one core", alone))
    if "gpu" in told:
        of = {
            name: told["gpu"][name]["fps"]
            for name in ("resnet18", "resnet18 on its CPU", "default", "default on its CPU")
        }
        name = f"{told['gpu']['default']['device']} with {told['gpu']['cores']} cores"
        values = [f"{fps['end to end']:.0f}" for fps in of.values()]
        rows.append((f"{name}, frames/s: ResNet-18 on the GPU, on the CPU; default likewise", ", ".join(values)))
        values = [f"{of['resnet18'][stage]:.0f}" for stage in ("decode", "follow", "cut out", "backbone")]
        rows.append(("stages alone there: decode, follow, cut out, backbone", ", ".join(values)))
    if "flow" in told:
        values = f"{told['flow']['TV-L1']:.1f} and {told['flow']['Farneback']:.0f}"
        rows.append(("optical flow alone at 256 px, TV-L1 and Farneback, frames/s", values))
    if "length" in told:
        names, values = zip(*told["length"].items(), strict=True)
        rows.append((f"peak memory, MB: {'; '.join(names)}", "; ".join(f"{v['peak_memory_mb']:.0f}" for v in values)))
        values = [f"{1000 * v['cpu_s'] / v['frames']:.1f}" for v in values]
        rows.append((f"CPU ms per frame: {'; '.join(names)}", "; ".join(values)))
    if "many" in told:
        of = told["many"]
        values = f"{of['one_call_s']:.0f}; {of['40_calls_s']:.0f}"
        rows.append(("40 videos of 3 s, in seconds: one call; 40 calls", values))
        values = f"{of['one_run_of_the_command_s']:.0f}; {of['40_runs_of_the_command_s']:.0f}"
        rows.append(("one `fedn detect FOLDER`; 40 `fedn detect FILE`", values))
    return "\n".join(
        ["| `python examples/benchmarks/speed.py` | |", "|---|---|", *(f"| {a} | {b} |" for a, b in rows)]
    )


def main() -> None:
    parts = ("default", "resnet18", "flow", "floor", "length", "many", "gpu")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*parts, "hour", []], metavar="PART")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(arguments.worker)
        return
    told = json.loads(arguments.output.read_text("utf-8")) if arguments.output.exists() else {}
    told |= {"version": __version__, "python": platform.python_version(), "torch": torch.__version__}
    told |= {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    with tempfile.TemporaryDirectory() as folder:
        for part in arguments.parts or parts:
            figures = measured(part, Clips(Path(folder)))
            if figures is None:
                print(f"{part}: not measured, there is no GPU that this torch can use", file=sys.stderr)
                continue
            told["length" if part == "hour" else part] = figures
            with replacing(arguments.output) as unfinished:
                unfinished.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    print(table(told))


if __name__ == "__main__":
    main()
