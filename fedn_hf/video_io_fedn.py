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
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import torch
from av.video.reformatter import VideoReformatter

# FFmpeg demuxers. Playlists, concatenation scripts and devices are left out: they open further files or URLs.
VIDEO_FORMATS = frozenset({"mov", "mp4", "m4a", "3gp", "3g2", "mj2", "matroska", "webm", "avi", "asf"}) | frozenset(
    {"mpegts", "mpeg", "flv", "ogg", "mxf", "dv", "gif", "yuv4mpegpipe"}
)
IMAGE_FORMATS = frozenset({"png_pipe", "jpeg_pipe", "bmp_pipe", "tiff_pipe", "webp_pipe"})
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})


class FednError(Exception):
    """Base of the errors that this package raises on purpose."""


class MediaError(FednError, OSError):
    """A video that cannot be read, or may not be: `path` names it, `reason` says why and what to do."""

    def __init__(self, path: str, reason: str):
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason

    def __reduce__(self):  # worker processes hand errors over by pickling them
        return type(self), (self.path, self.reason)


@dataclass(frozen=True)
class MediaLimits:
    """What a file may ask for before it is refused.

    Args:
        max_pixels: pixels of one frame; the default admits 8K.
        max_duration_s: seconds of video, as declared or as met while decoding.
        max_decode_s: seconds of wall time spent inside the decoder for one pass, the consumer's time not counted.
        formats: names of FFmpeg demuxers that may be used.
        protocols: FFmpeg protocols for `allow_url=True`; without it only the local file itself is opened.
    """

    max_pixels: int = 7680 * 4320
    max_duration_s: float = 24 * 3600.0
    max_decode_s: float = 12 * 3600.0
    formats: frozenset[str] = VIDEO_FORMATS
    protocols: frozenset[str] = frozenset({"http", "https", "tcp", "tls"})


@dataclass(frozen=True)
class VideoInfo:
    """What is known about a video without decoding all of it.

    Args:
        path: the file, or a description such as "<bytes>" for a source without a name.
        container: FFmpeg's name of the container ("images", "array" and "decoder" for other sources).
        codec: name of the video codec, or None.
        width, height: of the frames the reader gives: after rotation and with square pixels.
        rotation: degrees clockwise by which the stored picture is turned for display: 0, 90, 180 or 270.
        fps: nominal frames per second as declared; a hint only.
        duration_s: seconds from the clock's zero to the end of the last frame as declared, or None.
        num_frames: frame count as declared, or None where the container does not say.
        start_s: what the clock's zero is in the stream's own timestamps.
    """

    path: str
    container: str
    codec: str | None
    width: int
    height: int
    rotation: int
    fps: float | None
    duration_s: float | None
    num_frames: int | None
    start_s: float = 0.0


@dataclass(frozen=True)
class FrameBatch:
    """Consecutive frames.

    Args:
        frames: uint8 RGB of shape (N, height, width, 3).
        time_s: float64 (N,), presentation time of each frame in seconds on the player's clock, never falling.
        native_frame: int64 (N,), 0-based number of each frame in the source. When the reader resamples to a higher
            rate a native frame stands several times, when to a lower rate some are missing.
    """

    frames: torch.Tensor
    time_s: np.ndarray
    native_frame: np.ndarray

    def __len__(self) -> int:
        return len(self.time_s)


class _DamagedError(Exception):
    """What a source raises where its sound part ends."""


class _Frame(NamedTuple):
    time_s: float
    duration_s: float  # 0 where unknown
    number: int
    rgb: Callable[[], np.ndarray]  # (height, width, 3) uint8; called only for frames that are wanted


class VideoReader:
    """Streams any video as batches of RGB frames with true times.

    Args:
        source: path of a video file or of a folder of images (natural order); `bytes`; a seekable binary file object;
            uint8 array or tensor (T, H, W, 3) or (T, H, W); list of PIL images or arrays; an open torchcodec
            `VideoDecoder` or decord `VideoReader`; with `allow_url` an http(s) URL.
        fps: rate in frames per second to resample to by time: each output tick shows the native frame whose
            presentation time is nearest. None gives every native frame once.
        start_s, end_s: part to read, in seconds on the player's clock, end excluded. Ticks and frame numbers are the
            same as in a reading of the whole.
        batch_size: frames per batch; memory is proportional to it.
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
        batch_size: int = 32,
        native_fps: float | None = None,
        threads: int = 0,
        limits: MediaLimits | None = None,
        on_corrupt: str = "truncate",
        allow_url: bool = False,
    ):
        for name, value in (("fps", fps), ("native_fps", native_fps)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a positive number of frames per second, got {value!r}")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size!r}")
        if on_corrupt not in ("truncate", "error"):
            raise ValueError(f'on_corrupt must be "truncate" or "error", got {on_corrupt!r}')
        if end_s is not None and end_s <= (start_s or 0.0):
            raise ValueError(f"end_s must lie after start_s, got start_s={start_s!r}, end_s={end_s!r}")
        self.fps = fps
        self.start_s = max(start_s or 0.0, 0.0)
        self.end_s = math.inf if end_s is None else float(end_s)
        self.batch_size = batch_size
        self.on_corrupt = on_corrupt
        self.limits = limits or MediaLimits()
        self.truncated_at_s: float | None = None
        self._source = _open_source(source, native_fps, threads, self.limits, allow_url)
        self.info = self._source.info
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
        frames: Iterable[_Frame] = self._sound_frames()
        if self.fps is None:
            frames = self._inside(frames)
        else:
            frames = _resample(frames, self.fps, self._source.first_s, self.start_s, self.end_s)
        rgb: list[np.ndarray] = []
        shown: list[_Frame] = []
        number, image = -1, None
        for frame in frames:
            if frame.number != number:  # a frame shown twice in a row is converted once
                number, image = frame.number, frame.rgb()
            rgb.append(image)
            shown.append(frame)
            if len(shown) == self.batch_size:
                yield _batch(rgb, shown)
                rgb, shown = [], []
        if shown:
            yield _batch(rgb, shown)

    def _inside(self, frames: Iterable[_Frame]) -> Iterator[_Frame]:
        for frame in frames:
            if frame.time_s >= self.end_s:
                return
            if frame.time_s >= self.start_s:
                yield frame

    def _sound_frames(self) -> Iterator[_Frame]:
        """Frames up to the first damage, with times that never fall, while the limits hold."""
        frames = self._source.frames(self.start_s)
        reached_s, spent_s, any_frame, damage = 0.0, 0.0, False, None
        while True:
            began = time.monotonic()
            try:
                frame = next(frames, None)
            except (av.error.FFmpegError, _DamagedError) as error:
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
            self._check_duration(reached_s)
            yield frame
        if not any_frame and damage is not None:
            raise MediaError(self.info.path, f"no frame could be decoded ({_words(damage)})") from damage
        if not any_frame and self.start_s == 0:
            raise MediaError(self.info.path, "the video stream holds no frames")
        if damage is not None:
            if self.on_corrupt == "error":
                raise MediaError(self.info.path, f"damaged after {reached_s:.3f} s ({_words(damage)})") from damage
            self.truncated_at_s = reached_s

    def _check_duration(self, reached_s: float) -> None:
        if reached_s > self.limits.max_duration_s:
            raise MediaError(
                self.info.path,
                f"lasts {reached_s:.0f} s, longer than the limit of {self.limits.max_duration_s:g} s; "
                "raise MediaLimits.max_duration_s if it is meant to be that long",
            )


def _batch(rgb: list[np.ndarray], shown: list[_Frame]) -> FrameBatch:
    return FrameBatch(
        torch.from_numpy(np.stack(rgb)),
        np.array([frame.time_s for frame in shown]),
        np.array([frame.number for frame in shown], np.int64),
    )


def _resample(frames: Iterable[_Frame], fps: float, first_s: float, start_s: float, end_s: float) -> Iterator[_Frame]:
    """For each tick `first_s + k / fps` in [start_s, end_s) the frame nearest in time; of two, the earlier."""
    # Timestamps are rounded: a tick that misses a border or the middle of two frames by a hair lies on it.
    k = max(0, math.ceil((start_s - first_s) * fps - 1e-6))
    end_s -= 1e-6 / fps
    before: _Frame | None = None
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


def _words(error: BaseException) -> str:
    return str(error).split(":")[0] or type(error).__name__


# ---------------------------------------------------------------------------------------------------------------------
# Sources. Each has `info`, `first_s` (time of its first frame) and `frames(start_s)`: all frames in order, beginning
# at or before the last one shown at `start_s`.


def _open_source(source: Any, native_fps: float | None, threads: int, limits: MediaLimits, allow_url: bool):
    if isinstance(source, (str, os.PathLike)):
        name = os.fspath(source)
        if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+://", name):
            if not allow_url or not name.lower().startswith(("http://", "https://")):
                raise MediaError(name, "URLs are opened only with allow_url=True, and only http and https")
            return _Container(name, name, threads, limits, protocols=limits.protocols)
        path = Path(name)
        if path.is_dir():
            # Hidden files are left out: macOS puts "._name.png" beside every image on a foreign disk.
            images = [p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
            images.sort(key=_natural_key)
            if not images:
                raise MediaError(name, f"the folder holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
            return _Frames(images, lambda image: _read_image(image, limits), _rate(name, native_fps), name, "images")
        if not path.exists():
            raise MediaError(name, "no such file or folder")
        if not path.is_file():
            raise MediaError(name, "neither a regular file nor a folder of images")
        if path.stat().st_size == 0:
            raise MediaError(name, "the file is empty")
        return _Container(name, f"file:{path.absolute()}", threads, limits, protocols=frozenset({"file"}))
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _Container("<bytes>", io.BytesIO(bytes(source)), threads, limits)
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
        return _Container(str(getattr(source, "name", "<file object>")), source, threads, limits)
    raise MediaError(
        f"<{type(source).__name__}>",
        "not a video: expected a path, bytes, binary file object, array (T, H, W, 3), list of images, "
        "or an open torchcodec or decord decoder",
    )


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
    source = _Container(str(path), f"file:{path.absolute()}", 1, image_limits, protocols=frozenset({"file"}))
    return next(source.frames(0.0)).rgb()


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

    def frames(self, start_s: float) -> Iterator[_Frame]:
        first = min(len(self.items) - 1, max(0, math.floor(start_s * self.fps)))
        for number in range(first, len(self.items)):
            yield _Frame(number / self.fps, 1 / self.fps, number, lambda number=number: self._rgb(number))

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

    def _frame(self, number: int) -> _Frame:
        if hasattr(self.decoder, "get_frame_at"):  # torchcodec
            frame = self.decoder.get_frame_at(number)
            channels_first = frame.data.shape[-1] != 3
            rgb = frame.data.permute(1, 2, 0) if channels_first else frame.data
            return _Frame(
                float(frame.pts_seconds), float(frame.duration_seconds), number, lambda: _as_rgb(rgb.cpu().numpy())
            )
        start_s, end_s = (float(t) for t in np.asarray(self.decoder.get_frame_timestamp(number)).reshape(-1)[:2])

        def rgb() -> np.ndarray:
            frame = self.decoder[number]
            return _as_rgb(frame.asnumpy() if hasattr(frame, "asnumpy") else np.asarray(frame))

        return _Frame(start_s, max(end_s - start_s, 0.0), number, rgb)

    def frames(self, start_s: float) -> Iterator[_Frame]:
        low, high = 0, self.count - 1  # the last frame at or before start_s
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self._frame(middle).time_s <= start_s else (low, middle - 1)
        for number in range(low, self.count):
            yield self._frame(number)


class _Container:
    """A container that PyAV opens, anew for every pass."""

    def __init__(
        self,
        path: str,
        target: Any,
        threads: int,
        limits: MediaLimits,
        protocols: frozenset[str] = frozenset(),
    ):
        self.path, self.target, self.threads, self.limits, self.protocols = path, target, threads, limits, protocols
        with self._open() as (container, stream):
            self._probe(container, stream)

    @contextmanager
    def _open(self):
        """The container and its first real video stream; every FFmpeg error on the way becomes a MediaError."""
        target = self.target
        if not isinstance(target, str):
            try:
                target.seek(0)
            except (AttributeError, OSError, ValueError) as error:
                raise MediaError(
                    self.path, "the file object cannot seek; read it into bytes or save it to a file first"
                ) from error
            target = _View(target)
        options = {
            "format_whitelist": ",".join(sorted(self.limits.formats)),
            "protocol_whitelist": ",".join(sorted(self.protocols)),
            "max_pixels": str(self.limits.max_pixels),  # refused before a picture is allocated
        }
        try:
            container = av.open(target, options=options, metadata_errors="replace", timeout=(30.0, 60.0))
        except (av.error.FFmpegError, OSError, TypeError, ValueError) as error:
            raise MediaError(self.path, f"not a readable video ({_words(error)})") from error
        with container:
            # Cover pictures are video streams too.
            streams = [s for s in container.streams.video if not s.disposition & s.disposition.attached_pic]
            streams = [s for s in streams if s.codec_context is not None]
            if not streams:
                has = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
                raise MediaError(self.path, f"holds no video that can be decoded (found: {has})")
            stream = streams[0]
            context = stream.codec_context
            context.options = {"max_pixels": str(self.limits.max_pixels)}
            context.thread_type = "AUTO"
            context.thread_count = self.threads
            yield container, stream

    def _probe(self, container, stream) -> None:
        context = stream.codec_context
        if context.width * context.height > self.limits.max_pixels:
            raise MediaError(
                self.path,
                f"frames of {context.width} x {context.height} pixels exceed the limit of {self.limits.max_pixels} "
                "pixels; raise MediaLimits.max_pixels if they are meant to be that large",
            )
        self.zero = Fraction(container.start_time or 0, av.time_base)
        # AVI stores no presentation times, MPEG program streams only some: there a jump lands one cannot say where.
        kind = container.format.name
        self.timeless = kind == "avi" and context.has_b_frames
        self.seeks_exactly = kind != "mpeg" and not self.timeless
        self.end_s, self.end_is_video = _declared_end_s(container, stream, self.zero)
        rate = stream.average_rate or stream.guessed_rate
        self.step_s = 1.0 / float(rate or 30)
        # The rotation stands in the frames' side data; the first frame also proves that the stream can be decoded.
        try:
            frame = next(self._decode(container, stream), None)
        except (av.error.FFmpegError, _DamagedError, ValueError) as error:
            limit = f"{_words(error)}; frames of more than {self.limits.max_pixels} pixels are refused"
            raise MediaError(self.path, f"no frame could be decoded ({limit})") from error
        if frame is None:
            raise MediaError(self.path, "the video stream holds no frames")
        width, height = _square_pixels(frame, stream.sample_aspect_ratio)
        rotation = -frame.rotation % 360 if frame.rotation % 90 == 0 else 0
        if rotation in (90, 270):
            width, height = height, width
        self.first_s = 0.0 if frame.pts is None else float(frame.pts * stream.time_base - self.zero)
        self.info = VideoInfo(
            path=self.path,
            container=kind,
            codec=context.name,
            width=width,
            height=height,
            rotation=rotation,
            fps=float(rate) if rate else None,
            duration_s=self.end_s,
            num_frames=stream.frames or None,
            start_s=float(self.zero),
        )

    def frames(self, start_s: float) -> Iterator[_Frame]:
        if start_s > self.first_s and self.seeks_exactly:
            sought = self._sought(start_s)
            try:
                first = next(sought, None)
            except (av.error.FFmpegError, _DamagedError):
                first = None
            # Some indexes point behind the time that was asked for; then only reading from the start is exact.
            if first is not None and first.time_s <= start_s:
                number = self._count_before(first.time_s)
                yield first._replace(number=number)
                for frame in sought:
                    number += 1
                    yield frame._replace(number=number)
                return
            sought.close()
        yield from self._sought(None)

    def _sought(self, start_s: float | None) -> Iterator[_Frame]:
        """Frames from the last key frame at or before `start_s`, numbered from 0."""
        reformatter = VideoReformatter()
        with self._open() as (container, stream):
            if start_s is not None:
                offset = math.floor((Fraction(start_s) + self.zero) / stream.time_base)
                container.seek(offset, stream=stream, backward=True)
            time_s = self.first_s - self.step_s
            for number, frame in enumerate(self._decode(container, stream, key_first=start_s is not None)):
                # Raw streams carry no timestamps: count on from the last one.
                ticks = frame.pts
                time_s = time_s + self.step_s if ticks is None else float(ticks * stream.time_base - self.zero)
                duration_s = float((frame.duration or 0) * stream.time_base)
                yield _Frame(time_s, duration_s, number, lambda frame=frame: self._rgb(frame, reformatter))

    def _decode(self, container, stream, key_first: bool = False) -> Iterator[av.VideoFrame]:
        """Sound frames in presentation order; raises where the stream is damaged or ends before its declared end.

        What fails or is marked corrupt before the first sound frame is passed over: a cut stream begins that way.
        After a jump (`key_first`) some decoders would invent pictures from differences alone.
        """
        last, last_dts, damage = None, None, None
        decoding_ticks: deque[int] = deque()

        def sound(frames: Iterable[av.VideoFrame]) -> Iterator[av.VideoFrame]:
            nonlocal last
            for frame in frames:
                if decoding_ticks:
                    frame.pts = decoding_ticks.popleft()
                if not frame.is_corrupt:
                    last = frame
                    yield frame
                elif last is not None or frame.key_frame:
                    raise _DamagedError("a damaged frame")

        for packet in container.demux(stream):
            if packet.is_corrupt and last is not None:
                damage = "data are missing"
            if damage or packet.size == 0:  # the demuxer's last packet is empty
                break
            if key_first and not packet.is_keyframe:
                continue
            key_first = False
            last_dts = last_dts if packet.dts is None else packet.dts
            if self.timeless:
                decoding_ticks.append(packet.dts)
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                if last is not None or packet.is_keyframe:
                    raise
                continue
            yield from sound(frames)
        held = []  # what the decoder waited to put in order
        try:
            for frame in sound(stream.codec_context.decode(None)):
                held.append(frame)
        except (av.error.FFmpegError, _DamagedError) as error:
            damage = damage or _words(error)
        damage = damage or self._lost_end(last, stream)
        if damage:  # a frame is in its place if nothing that was lost can stand before it
            held = [frame for frame in held if None in (frame.pts, last_dts) or frame.pts <= last_dts]
        yield from held
        if damage:
            raise _DamagedError(damage)

    def _lost_end(self, last: av.VideoFrame | None, stream) -> str | None:
        """Durations in headers are rounded; only what a viewer would miss counts as a loss."""
        if last is None or last.pts is None or self.end_s is None or not self.end_is_video:
            return None
        reached_s = float((last.pts + (last.duration or 0)) * stream.time_base - self.zero)
        if self.end_s - reached_s <= max(0.25, 3 * self.step_s):
            return None
        return f"the file declares {self.end_s:.2f} s of video and ends at {reached_s:.2f} s"

    def _rgb(self, frame: av.VideoFrame, reformatter: VideoReformatter) -> np.ndarray:
        turned = self.info.rotation in (90, 270)
        width, height = (self.info.height, self.info.width) if turned else (self.info.width, self.info.height)
        # One size for all frames, also where a stream changes its resolution on the way.
        rgb = reformatter.reformat(frame, width=width, height=height, format="rgb24")
        plane = rgb.planes[0]
        image = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:height, : width * 3]
        return np.rot90(image.reshape(height, width, 3), -self.info.rotation // 90)

    def _count_before(self, time_s: float) -> int:
        """Frames shown before `time_s`, counted from packets without decoding them."""
        count = 0
        with self._open() as (container, stream):
            first, limit = (round((Fraction(t) + self.zero) / stream.time_base) for t in (self.first_s, time_s))
            vp8 = stream.codec_context.name == "vp8"
            for packet in container.demux(stream):
                if packet.size == 0 or packet.is_discard or (vp8 and not memoryview(packet)[0] & 0x10):
                    continue  # never shown; in VP8 a bit says so
                if packet.dts is not None and packet.dts >= limit:
                    break  # a packet is never shown before it is decoded
                pts = packet.dts if packet.pts is None else packet.pts
                count += pts is not None and first <= pts < limit
        return count


def _square_pixels(frame: av.VideoFrame, aspect: Any) -> tuple[int, int]:
    """Width and height at which the frame is shown: old camcorders store pixels that are not square."""
    if aspect and aspect != 1 and 0.25 <= aspect <= 4:
        return max(1, round(frame.width * float(aspect))), frame.height
    return frame.width, frame.height


def _declared_end_s(container, stream, zero: Fraction) -> tuple[float | None, bool]:
    """Second at which the file says its video ends, and whether it says so of the video stream itself."""
    # Their headers count from timestamp 0, whenever the first frame comes.
    from_zero = container.format.name in ("matroska,webm", "asf")
    if stream.duration:
        begin = 0 if from_zero else stream.start_time or 0
        return float((begin + stream.duration) * stream.time_base - zero), True
    match = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", stream.metadata.get("DURATION", ""))  # Matroska
    if match:
        hours, minutes, seconds = match.groups()
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds) - float(zero), True
    if container.duration:
        length = Fraction(container.duration, av.time_base)
        return float(length - zero if from_zero else length), len(container.streams) == 1
    return None, False


class _View:
    """A position of its own in a shared file object: two passes over one file do not disturb each other."""

    def __init__(self, file: Any):
        self.file, self.position = file, 0

    def read(self, size: int = -1) -> bytes:
        self.file.seek(self.position)
        chunk = self.file.read(size)
        self.position += len(chunk)
        return chunk

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.file.seek(self.position)
        self.position = self.file.seek(offset, whence)
        return self.position

    def tell(self) -> int:
        return self.position


__all__ = ["FednError", "FrameBatch", "MediaError", "MediaLimits", "VideoInfo", "VideoReader"]
