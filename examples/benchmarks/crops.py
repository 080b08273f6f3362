"""How fast frames become face crops, where the time goes, and how much memory it takes.

    python examples/benchmarks/crops.py [VIDEO] [--memory] [-o crops.json]

Without VIDEO a 640 x 480 clip is made from the public-domain portrait, moving and noisy. Every figure is a ratio to
plain decoding in the same run or comes with it, because machines differ and are busy. `--memory` compares the peak
resident memory for one minute of video with that for thirty; it takes a few minutes.
"""

import argparse
import json
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
import torch.nn.functional as F

from fedn_hf import __version__
from fedn_hf.face_fedn import FaceCropper, _chunks, _Scene
from fedn_hf.video_io_fedn import VideoReader

ROOT = Path(__file__).resolve().parents[2]
FPS, WIDTH, HEIGHT = 30, 640, 480


def make_video(path: Path, seconds: int) -> Path:
    """A face of about 220 pixels that sways, tilts and comes nearer."""
    with av.open(str(ROOT / "tests/data/astronaut.png")) as picture:
        portrait = next(picture.decode(video=0)).to_ndarray(format="rgb24")
    image = torch.from_numpy(portrait).permute(2, 0, 1)[None].float()
    noise = torch.Generator().manual_seed(0)
    with av.open(str(path), "w") as clip:
        stream = clip.add_stream("h264", rate=FPS, options={"preset": "veryfast", "g": "60", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for i in range(FPS * seconds):
            phase = 2 * np.pi * i / (FPS * seconds)
            half, roll = 0.60 + 0.05 * np.sin(2 * phase), 0.08 * np.sin(3 * phase)
            x, y = -0.14 + 0.12 * np.sin(4 * phase), -0.42 + 0.06 * np.cos(3 * phase)
            c, s = half * np.cos(roll), half * np.sin(roll)
            theta = torch.tensor([[[c, -s * HEIGHT / WIDTH, x], [s, c * HEIGHT / WIDTH, y]]], dtype=torch.float32)
            grid = F.affine_grid(theta, (1, 3, HEIGHT, WIDTH), align_corners=False)
            view = F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=False)[0]
            view = view + 2 * torch.randn(view.shape, generator=noise)
            rgb = view.permute(1, 2, 0).clamp(0, 255).round().to(torch.uint8).contiguous().numpy()
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, FPS)
            clip.mux(stream.encode(frame))
        clip.mux(stream.encode(None))
    return path


def repeat_video(source: Path, path: Path, times: int) -> Path:
    """The same packets again and again, with times that go on."""
    with av.open(str(path), "w") as clip:
        stream = None
        for i in range(times):
            with av.open(str(source)) as container:
                original = container.streams.video[0]
                stream = stream or clip.add_stream_from_template(original)
                for packet in container.demux(original):
                    if packet.dts is not None:
                        packet.pts += i * original.duration
                        packet.dts += i * original.duration
                        packet.stream = stream
                        clip.mux(packet)
    return path


def speed(path: Path) -> dict:
    """Frames per second of decoding, of each stage alone on one thread, and of all together."""
    cropper = FaceCropper()
    list(cropper(VideoReader(path, end_s=2)))  # warm up
    seconds = {"decode": 0.0, "follow": 0.0, "cut out": 0.0}
    frames = found = 0
    reader = iter(VideoReader(path))
    scene = _Scene(cropper, None)

    def timed(stage: str, items):
        while True:
            began = time.perf_counter()
            item = next(items, None)
            seconds[stage] += time.perf_counter() - began
            if item is None:
                return
            yield item

    for batch in timed("cut out", cropper._cut_out(timed("follow", scene.follow(_chunks(timed("decode", reader)))))):
        frames += len(batch)
        found += int(batch.mask.sum())
    seconds["cut out"] -= seconds["follow"]  # each stage draws on the one before
    seconds["follow"] -= seconds["decode"]
    began = time.perf_counter()
    decoded = sum(len(batch) for batch in VideoReader(path))
    plain = time.perf_counter() - began
    began = time.perf_counter()
    total = sum(len(batch) for batch in cropper(VideoReader(path)))
    together = time.perf_counter() - began
    return {
        "frames": frames,
        "frames_with_face": found,
        "plain_decode_fps": decoded / plain,
        "decode_to_crops_fps": total / together,
        "ratio_to_plain_decode": plain / together,
        "stage_ms_per_frame": {stage: 1e3 * spent / frames for stage, spent in seconds.items()},
    }


def peak_memory_mb(path: Path) -> float:
    """Peak resident memory of a fresh process that turns a video into crops; on Linux."""
    program = (
        "import sys, torch; torch.set_num_threads(1)\n"
        "from fedn_hf.face_fedn import FaceCropper; from fedn_hf.video_io_fedn import VideoReader\n"
        "for batch in FaceCropper()(VideoReader(sys.argv[1])): pass\n"
        "status = dict(line.split(':', 1) for line in open('/proc/self/status'))\n"
        "print(int(status['VmHWM'].split()[0]) / 1024)"  # ru_maxrss would count the parent's memory, too
    )
    return float(subprocess.run([sys.executable, "-c", program, str(path)], check=True, capture_output=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", nargs="?", type=Path)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("-o", "--output", type=Path, default=Path("outputs/crops.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # for the stages alone; side by side they set it themselves
    result = {"version": __version__, "python": platform.python_version(), "torch": torch.__version__}
    with tempfile.TemporaryDirectory() as folder:
        made = make_video(Path(folder) / "clip.mp4", 20)
        result["speed"] = speed(arguments.video or made)
        if arguments.memory:
            minute = peak_memory_mb(repeat_video(made, Path(folder) / "1.mp4", 3))
            thirty = peak_memory_mb(repeat_video(made, Path(folder) / "30.mp4", 90))
            result["peak_memory_mb"] = {"1 min": minute, "30 min": thirty, "difference": thirty - minute}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
