"""Video in: one streaming reader for files, bytes, image folders, arrays and decoders opened elsewhere.

Time is presentation time. Every frame carries the second at which a player shows it, and its number in the file; frame
rates and frame counts that containers declare are shown in `VideoInfo`, never relied on. Decoding streams: memory is
bounded by one batch, whatever the length of the video.

The clock is the player's: seconds since the container's start, `pts * time_base - info.start_s`. Camcorder files
begin at any time of day and network recordings at hours, and people compare results with what ELAN or a browser shows.
"""

import io
import math
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from .media_fedn import IMAGE_FORMATS, DamagedError, FednError, Frame, MediaError, MediaLimits, VideoInfo, words
from .video_container_fedn import Container

BATCH_BYTES = 96 * 2**20
_VIDEO4LINUX = 81  # number of the kind of device that cameras are on Linux
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})


@dataclass(frozen=True)
class FrameBatch:
    """Consecutive frames.

    Args:
        frames: uint8 RGB of shape (N, height, width, 3).
        time_s: float64 (N,), presentation time of each frame in seconds on the player's clock, never falling.
        native_frame: int64 (N,), 0-based number of each frame in the source. When the reader resamples to a higher
            rate a native frame stands several times, when to a lower rate some are missing.

    Example:
        >>> batch = FrameBatch(torch.zeros(3, 48, 64, 3, dtype=torch.uint8), np.arange(3) / 25, np.arange(3))
        >>> len(batch)
        3
    """

    frames: torch.Tensor
    time_s: np.ndarray
    native_frame: np.ndarray

    def __len__(self) -> int:
        return len(self.time_s)


class VideoReader:
    """Streams any video as batches of RGB frames with true times.

    Args:
        source: path of a video file or of a folder of images (natural order); `bytes`; a binary file object; uint8
            array or tensor (T, H, W, 3) or (T, H, W); list of PIL images or arrays; an open torchcodec
            `VideoDecoder` or decord `VideoReader`; with `allow_url` an http(s) URL. What comes in as it happens is
            read once: a file object that cannot seek, a named pipe, a camera (Linux: /dev/video0).
        fps: rate in frames per second to resample to by time: each output tick shows the native frame whose
            presentation time is nearest. None gives every native frame once.
        start_s, end_s: part to read, in seconds on the player's clock, end excluded. Ticks and frame numbers are the
            same as in a reading of the whole.
        batch_size: frames per batch; memory is proportional to it. None takes as many as fit into `BATCH_BYTES`.
        native_fps: rate of a source without times (image folder, array, list); required there.
        threads: decoder threads, 0 for FFmpeg's choice.
        limits: see `MediaLimits`.
        on_corrupt: "truncate" gives what lies before the damage and sets `truncated_at_s`; "error" raises.
        allow_url: open http(s) URLs.

    Attributes:
        info: `VideoInfo`.
        truncated_at_s: after an iteration, the second at which readable video ended before its declared end, or None.

    Raises:
        MediaError: unreadable, refused by a limit, or without video.
        ValueError: arguments that contradict each other.

    Example:
        >>> clip = np.zeros((10, 48, 64, 3), np.uint8)
        >>> reader = VideoReader(clip, native_fps=25, fps=50, batch_size=8)
        >>> [tuple(batch.frames.shape) for batch in reader]
        [(8, 48, 64, 3), (8, 48, 64, 3), (4, 48, 64, 3)]
    """

    def __init__(
        self,
        source: Any,
        *,
        fps: float | None = None,
        start_s: float | None = None,
        end_s: float | None = None,
        batch_size: int | None = None,
        native_fps: float | None = None,
        threads: int = 0,
        limits: MediaLimits | None = None,
        on_corrupt: str = "truncate",
        allow_url: bool = False,
    ):
        for name, value in (("fps", fps), ("native_fps", native_fps)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a positive number of frames per second, got {value!r}")
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size!r}")
        if on_corrupt not in ("truncate", "error"):
            raise ValueError(f'on_corrupt must be "truncate" or "error", got {on_corrupt!r}')
        if end_s is not None and end_s <= (start_s or 0.0):
            raise ValueError(f"end_s must lie after start_s, got start_s={start_s!r}, end_s={end_s!r}")
        self.fps = fps
        self.start_s = max(start_s or 0.0, 0.0)
        self.end_s = math.inf if end_s is None else float(end_s)
        self.on_corrupt = on_corrupt
        self.limits = limits or MediaLimits()
        self.truncated_at_s: float | None = None
        self._source = _open_source(source, native_fps, threads, self.limits, allow_url)
        self.info = self._source.info
        self.batch_size = batch_size or frames_per_batch(self.info.height, self.info.width)
        if self.info.width * self.info.height > self.limits.max_pixels:
            raise MediaError(
                self.info.path,
                f"frames of {self.info.width} x {self.info.height} pixels exceed the limit of "
                f"{self.limits.max_pixels} pixels; raise MediaLimits.max_pixels if they are meant to be that large",
            )
        self._check_duration(self.info.duration_s or 0.0)

    @property
    def frame_rate(self) -> float | None:
        """Frames per second of the batches: the target rate, or the native nominal one."""
        return self.fps or self.info.fps

    def __iter__(self) -> Iterator[FrameBatch]:
        self.truncated_at_s = None
        frames: Iterable[Frame] = self._sound_frames()
        if self.fps is None:
            frames = self._inside(frames)
        else:
            frames = _resample(frames, self.fps, self._source.first_s, self.start_s, self.end_s)
        shown: list[Frame] = []
        number, image = -1, None
        for frame in frames:
            if not shown:
                rgb = np.empty((self.batch_size, self.info.height, self.info.width, 3), np.uint8)
            if frame.number != number:  # a frame shown twice in a row is converted once
                number, image = frame.number, frame.rgb()
            rgb[len(shown)] = image
            shown.append(frame)
            if len(shown) == self.batch_size:
                yield _batch(rgb, shown)
                shown = []
        if shown:
            yield _batch(rgb[: len(shown)].copy(), shown)

    def _inside(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        for frame in frames:
            if frame.time_s >= self.end_s:
                return
            if frame.time_s >= self.start_s:
                yield frame

    def _sound_frames(self) -> Iterator[Frame]:
        """Frames up to the first damage, with times that never fall, while the limits hold."""
        frames = self._source.frames(self.start_s)
        reached_s, spent_s, any_frame, damage = 0.0, 0.0, False, None
        while True:
            began = time.monotonic()
            try:
                frame = next(frames, None)
            except (av.error.FFmpegError, DamagedError) as error:
                frame, damage = None, error
            spent_s += time.monotonic() - began
            if spent_s > self.limits.max_decode_s:
                raise MediaError(
                    self.info.path,
                    f"decoding has taken more than {self.limits.max_decode_s:g} s; raise MediaLimits.max_decode_s",
                )
            if frame is None:
                break
            any_frame = True
            frame = frame._replace(time_s=max(frame.time_s, reached_s))
            reached_s = frame.time_s
            self._check_duration(reached_s + frame.duration_s)  # the last frame is shown for as long as it says
            yield frame
        if not any_frame and damage is not None:
            raise MediaError(self.info.path, f"no frame could be decoded ({words(damage)})") from damage
        if not any_frame and self.start_s == 0:
            raise MediaError(self.info.path, "the video stream holds no frames")
        if damage is not None:
            if self.on_corrupt == "error":
                raise MediaError(self.info.path, f"damaged after {reached_s:.3f} s ({words(damage)})") from damage
            self.truncated_at_s = reached_s

    def _check_duration(self, reached_s: float) -> None:
        if reached_s > self.limits.max_duration_s:
            raise MediaError(
                self.info.path,
                f"lasts {reached_s:.0f} s, longer than the limit of {self.limits.max_duration_s:g} s; "
                "raise MediaLimits.max_duration_s if it is meant to be that long",
            )


def _batch(rgb: np.ndarray, shown: list[Frame]) -> FrameBatch:
    return FrameBatch(
        torch.from_numpy(rgb),
        np.array([frame.time_s for frame in shown]),
        np.array([frame.number for frame in shown], np.int64),
    )


def frames_per_batch(height: int, width: int) -> int:
    """How many frames of a size to hold at once: 32 up to 720p, 8 at 4K."""
    return int(np.clip(BATCH_BYTES // (height * width * 3), 8, 32))


def _resample(frames: Iterable[Frame], fps: float, first_s: float, start_s: float, end_s: float) -> Iterator[Frame]:
    """For each tick `first_s + k / fps` in [start_s, end_s) the frame nearest in time; of two, the earlier."""
    # Timestamps are rounded: a tick that misses a border or the middle of two frames by a hair lies on it.
    k = max(0, math.ceil((start_s - first_s) * fps - 1e-6))
    end_s -= 1e-6 / fps
    before: Frame | None = None
    step_s = 1.0 / fps
    for frame in frames:
        if before is None:  # ticks that lie before all frames have nothing to show
            k = max(k, math.ceil((frame.time_s - first_s) * fps - 0.5))
        else:
            step_s = frame.time_s - before.time_s
            middle_s = (before.time_s + frame.time_s) / 2 + 1e-3 / fps
            while (tick_s := first_s + k / fps) <= middle_s:
                if tick_s >= end_s:
                    return
                yield before
                k += 1
        before = frame
    if before is None:
        return
    # The last frame stays on screen for its duration; a quarter of a tick absorbs rounded timestamps. However short it
    # is, a tick at its own time shows it.
    last_s = before.time_s + max((before.duration_s or step_s) - 0.25 / fps, 1e-3 / fps)
    while (tick_s := first_s + k / fps) < min(last_s, end_s):
        yield before
        k += 1


# ---------------------------------------------------------------------------------------------------------------------
# Sources. Each has `info`, `first_s` (time of its first frame) and `frames(start_s)`: all frames in order, beginning
# at or before the last one shown at `start_s`.


def _open_source(source: Any, native_fps: float | None, threads: int, limits: MediaLimits, allow_url: bool):
    if isinstance(source, (str, os.PathLike)):
        name = os.fspath(source)
        if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+://", name):
            if not allow_url or not name.lower().startswith(("http://", "https://")):
                raise MediaError(name, "URLs are opened only with allow_url=True, and only http and https")
            return Container(name, name, threads, limits, protocols=limits.protocols)
        path = Path(name)
        if path.is_dir():
            images = image_files(path)
            return _Frames(images, lambda image: _read_image(image, limits), _rate(name, native_fps), name, "images")
        if not path.exists():
            raise MediaError(name, "no such file or folder")
        if path.is_fifo():
            return Container(name, open(path, "rb"), threads, limits)
        if path.is_char_device() and os.major(path.stat().st_rdev) == _VIDEO4LINUX:
            return Container(name, name, threads, limits, device="v4l2")
        if not path.is_file():
            raise MediaError(
                name, "neither a regular file, a pipe, a camera (Linux: /dev/video0) nor a folder of images"
            )
        if path.stat().st_size == 0:
            raise MediaError(name, "the file is empty")
        return Container(name, f"file:{path.absolute()}", threads, limits, protocols=frozenset({"file"}))
    if isinstance(source, (bytes, bytearray, memoryview)):
        return Container("<bytes>", io.BytesIO(bytes(source)), threads, limits)
    if isinstance(source, (np.ndarray, torch.Tensor)):
        array = source.detach().cpu().numpy() if isinstance(source, torch.Tensor) else source
        if array.ndim not in (3, 4):
            raise MediaError("<array>", f"expected (T, H, W, 3) or (T, H, W), got shape {tuple(array.shape)}")
        return _Frames(array, _as_rgb, _rate("<array>", native_fps), "<array>", "array")
    if isinstance(source, (list, tuple)):
        return _Frames(source, _as_rgb, _rate("<list of images>", native_fps), "<list of images>", "array")
    if hasattr(source, "get_frame_at") or hasattr(source, "get_frame_timestamp"):
        return _Decoder(source)
    if hasattr(source, "read"):
        return Container(str(getattr(source, "name", "<file object>")), source, threads, limits)
    raise MediaError(
        f"<{type(source).__name__}>",
        "not a video: expected a path, bytes, binary file object, array (T, H, W, 3), list of images, "
        "or an open torchcodec or decord decoder",
    )


def image_files(folder: Path) -> list[Path]:
    """The frames in a folder of images, in natural order; without any, a `MediaError`."""
    # Hidden files are left out: macOS puts "._name.png" beside every image on a foreign disk.
    images = [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
    if not images:
        raise MediaError(str(folder), f"the folder holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return sorted(images, key=_natural_key)


def _rate(name: str, native_fps: float | None) -> float:
    if native_fps is None:
        raise ValueError(f"{name} carries no times: pass native_fps, its rate in frames per second")
    return float(native_fps)


def _natural_key(path: Path) -> list[tuple[int, int, str]]:
    """img2 before img10."""
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part.lower()) for part in re.split(r"(\d+)", path.name)]


def _as_rgb(image: Any) -> np.ndarray:
    """PIL image, tensor or array, grey or colour, as (H, W, 3) uint8."""
    if hasattr(image, "convert"):
        image = image.convert("RGB")
    image = np.asarray(image)
    if image.dtype != np.uint8:
        raise MediaError("<array>", f"expected uint8 frames with values 0 to 255, got {image.dtype}")
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[2] not in (1, 3):
        raise MediaError("<array>", f"expected frames of shape (H, W, 3) or (H, W), got {image.shape}")
    return np.broadcast_to(image, (*image.shape[:2], 3))


def _read_image(path: Path, limits: MediaLimits) -> np.ndarray:
    image_limits = replace(limits, formats=IMAGE_FORMATS)
    # By content alone: from a name that ends in .jpg FFmpeg concludes that it is the first of a numbered sequence.
    try:
        with open(path, "rb") as file:
            return next(Container(str(path), file, 1, image_limits).frames(0.0)).rgb()
    except MediaError:
        raise
    except OSError as error:
        raise MediaError(str(path), f"not a readable image ({error.strerror})") from error


class _Frames:
    """Images one after the other at a constant rate: a folder, an array, a list."""

    first_s = 0.0

    def __init__(self, items: Any, read: Callable[[Any], np.ndarray], fps: float, path: str, container: str):
        if len(items) == 0:
            raise MediaError(path, "holds no frames")
        self.items, self.read, self.fps, self.path = items, read, fps, path
        height, width = read(items[0]).shape[:2]
        count = len(items)
        self.info = VideoInfo(path, container, None, width, height, 0, fps, count / fps, count)

    def frames(self, start_s: float) -> Iterator[Frame]:
        first = min(len(self.items) - 1, max(0, math.floor(start_s * self.fps)))
        for number in range(first, len(self.items)):
            yield Frame(number / self.fps, 1 / self.fps, number, partial(self._rgb, number))

    def _rgb(self, number: int) -> np.ndarray:
        rgb = self.read(self.items[number])
        if rgb.shape != (self.info.height, self.info.width, 3):
            name = self.items[number] if isinstance(self.items[number], Path) else f"{self.path}, frame {number}"
            raise MediaError(
                str(name),
                f"is {rgb.shape[1]} x {rgb.shape[0]} pixels, the first frame {self.info.width} x {self.info.height}",
            )
        return rgb


class _Decoder:
    """A decoder somebody else opened: torchcodec's VideoDecoder or decord's VideoReader."""

    def __init__(self, decoder: Any):
        self.decoder = decoder
        self.path = f"<{type(decoder).__name__}>"
        self.count = len(decoder)
        if self.count == 0:
            raise MediaError(self.path, "holds no frames")
        fps = decoder.metadata.average_fps if hasattr(decoder, "metadata") else decoder.get_avg_fps()
        first, last = self._frame(0), self._frame(self.count - 1)
        self.first_s = first.time_s
        height, width = first.rgb().shape[:2]
        end_s = last.time_s + last.duration_s
        self.info = VideoInfo(self.path, "decoder", None, width, height, 0, fps and float(fps), end_s, self.count)

    def _frame(self, number: int) -> Frame:
        if hasattr(self.decoder, "get_frame_at"):  # torchcodec
            frame = self.decoder.get_frame_at(number)
            channels_first = frame.data.shape[-1] != 3
            pixels = frame.data.permute(1, 2, 0) if channels_first else frame.data
            return Frame(
                float(frame.pts_seconds), float(frame.duration_seconds), number, lambda: _as_rgb(pixels.cpu().numpy())
            )
        start_s, end_s = (float(t) for t in np.asarray(self.decoder.get_frame_timestamp(number)).reshape(-1)[:2])

        def rgb() -> np.ndarray:
            frame = self.decoder[number]
            return _as_rgb(frame.asnumpy() if hasattr(frame, "asnumpy") else np.asarray(frame))

        return Frame(start_s, max(end_s - start_s, 0.0), number, rgb)

    def frames(self, start_s: float) -> Iterator[Frame]:
        low, high = 0, self.count - 1  # the last frame at or before start_s
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self._frame(middle).time_s <= start_s else (low, middle - 1)
        for number in range(low, self.count):
            yield self._frame(number)


__all__ = [
    "FednError",
    "FrameBatch",
    "MediaError",
    "MediaLimits",
    "VideoInfo",
    "VideoReader",
    "frames_per_batch",
    "image_files",
]
