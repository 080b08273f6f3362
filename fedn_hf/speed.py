"""How fast a detector is on this machine: each stage alone, all of them side by side, and the memory it takes."""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from .face_fedn import FaceCropper, _chunks, _Scene
from .video_io_fedn import VideoReader

if TYPE_CHECKING:
    from .passing_fedn import PassingFace
    from .pipeline_fedn import FacialExpressionDetectionPipeline

STAGES = ("decode", "follow", "cut out", "backbone", "network")


class _Stopwatch:
    """Seconds that each of several stages takes by itself, where one draws on another."""

    def __init__(self, device: torch.device):
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.device, self.running, self.since = device, [], 0.0

    @contextmanager
    def on(self, stage: str) -> Iterator[None]:
        """What happens in here is this stage's time, less what happens in another one's within."""
        self._stop()
        self.running.append(stage)
        try:
            yield
        finally:
            self._stop()
            self.running.pop()

    def _stop(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)  # a GPU is told what to do, and does it later
        now = time.perf_counter()
        if self.running:
            self.seconds[self.running[-1]] += now - self.since
        self.since = now

    def of(self, stage: str, items: Iterable) -> Iterator:
        """The same items; making them is this stage's time."""
        iterator = iter(items)
        while True:
            with self.on(stage):
                item = next(iterator, None)
            if item is None:
                return
            yield item


def measure(
    pipeline: "FacialExpressionDetectionPipeline",
    video: Any,
    *,
    start_s: float | None = None,
    end_s: float | None = None,
    batch_size: int = 1,
) -> dict[str, Any]:
    """
    Read a video three times: decoding alone, stage by stage on one core, and as a call does it.

    Args:
        pipeline: what is measured; warmed up by a second of the video.
        video: a path, or whatever else can be read several times and has times of its own.
        start_s, end_s: the part of it to read, in seconds.
        batch_size: of a call.

    Returns:
        JSON data: `device`, `dtype`, `threads`; `width`, `height`, `duration_s`, `frames` (at the network's rate) and
        `frames_with_face`; `fps` (frames per second): of `plain decode`, of each of `STAGES` alone, and `end to end`;
        `real_time_factor`, seconds of video in a second; `ratio_to_plain_decode`, how many times as long the whole
        takes; `peak_memory_mb` of the process so far, and of a GPU `peak_gpu_memory_mb`.

    Raises:
        MediaError: the video cannot be read.

    Example:
        >>> from fedn_hf import load_pipeline
        >>> from fedn_hf.speed import measure
        >>> measure(load_pipeline(), "interview.mp4")["real_time_factor"]  # doctest: +SKIP
        7.3
    """
    part = {"start_s": start_s, "end_s": end_s}
    warm_s = (start_s or 0.0) + 1.0
    pipeline(video, start_s=start_s, end_s=warm_s if end_s is None else min(warm_s, end_s), return_raw=True)
    rate = pipeline.model.config.frame_rate
    began = time.perf_counter()
    reader = VideoReader(video, fps=rate, **part)
    frames = sum(len(batch) for batch in reader)
    decode_s = time.perf_counter() - began
    seconds, seen = _stage_by_stage(pipeline, video, part)
    began = time.perf_counter()
    pipeline(video, batch_size=batch_size, return_raw=True, **part)
    whole_s = time.perf_counter() - began
    told = {
        "device": _device_name(pipeline.device),
        "dtype": str(pipeline.model.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "width": reader.info.width,
        "height": reader.info.height,
        "duration_s": frames / rate,
        "frames": frames,
        "frames_with_face": seen,
        "fps": {
            "plain decode": frames / decode_s,
            **{stage: frames / spent for stage, spent in seconds.items() if spent > 1e-5 * frames},
            "end to end": frames / whole_s,
        },
        "real_time_factor": frames / rate / whole_s,
        "ratio_to_plain_decode": whole_s / decode_s,
        "peak_memory_mb": peak_memory_mb(),
    }
    if pipeline.device.type == "cuda":
        told["peak_gpu_memory_mb"] = torch.cuda.max_memory_allocated(pipeline.device) / 2**20
    return told


def _stage_by_stage(pipeline, video: Any, part: dict[str, float | None]) -> tuple[dict[str, float], int]:
    """Seconds that each stage takes on one core, and the number of frames with a face."""
    config, processor = pipeline.model.config, pipeline.video_processor
    watch, threads, seen = _Stopwatch(pipeline.device), torch.get_num_threads(), 0
    cropper = FaceCropper(
        processor.size.height,
        margin=processor.margin,
        pixels=config.backbone_config is not None,
        weights=processor.face_nets,
    )
    passing: dict[int, PassingFace] = {}
    decoded = watch.of("decode", VideoReader(video, fps=config.frame_rate, **part))
    followed = watch.of("follow", _Scene(cropper, None).follow(_chunks(decoded)))
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            for batch in watch.of("cut out", cropper._cut_out(followed)):
                seen += int(batch.mask.sum())
                with watch.on("backbone"):
                    step = pipeline._ensure_tensor_on_device(pipeline._step([batch]), pipeline.device)
                    if "rows" in step:
                        pipeline._encode(step, passing, 1)
                with watch.on("network"):
                    for face in passing.values():
                        face.advance(pipeline.model, ended=False)
            with watch.on("network"):
                for face in passing.values():
                    face.advance(pipeline.model, ended=True)
    finally:
        torch.set_num_threads(threads)
    return watch.seconds, seen


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def peak_memory_mb() -> float:
    """Highest resident memory of this process so far, in MB of 2^20 bytes."""
    try:
        with open("/proc/self/status") as status:  # `ru_maxrss` would also count the parent's memory
            return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
    except OSError:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (2**20 if sys.platform == "darwin" else 2**10)


__all__ = ["STAGES", "measure", "peak_memory_mb"]
