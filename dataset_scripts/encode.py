"""Frames to video files and back: what the convert command writes, and how it checks that nothing was changed.

| encode | what | reads back |
|---|---|---|
| `h264` | H.264 in MP4, visually lossless (CRF 15) | nearly the same; small, plays everywhere |
| `ffv1` | FFV1 in Matroska, RGB | the same pixels, to the bit |
| `copy` | the images' own bytes in Matroska, or the video file itself | the same; nothing is decoded or encoded |

Frames are numbered, and shown at number / fps. A file depends on its input alone: one thread, no dates, no random ids.
"""

import hashlib
import io
import shutil
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

from fedn_hf.media_fedn import IMAGE_FORMATS, MediaError
from fedn_hf.video_io_fedn import VideoReader

from .corpus import opened_video
from .quirks import CorpusError

ENCODERS = {"h264": ".mp4", "ffv1": ".mkv", "copy": ".mkv"}
LOSSLESS = ("ffv1", "copy")
# Without the last one the fastest code of x264 chooses differently from one run to the next.
_H264 = {"crf": "15", "preset": "fast", "x264-params": "cpu-independent=1"}
# Image codecs that Matroska takes as they are; PNG it does not take.
_COPIED = ("mjpeg",)


class Written(NamedTuple):
    """What a written file holds: frames, and their size in pixels."""

    num_frames: int
    width: int
    height: int
    frames_sha256: str | None  # of the pixels that a lossless file must give back, None for h264


def write_video(source: Path, images: Sequence[Path] | None, path: Path, fps: float, encode: str, size: int | None):
    """
    Write one video.

    Args:
        source: a video file, of which all frames are taken, turned and stretched as players do, or the images' folder.
        images: the frames in order, or None for a video file.
        path: the file to write, with the suffix that `suffix` gives.
        fps: frames per second.
        encode: one of `ENCODERS`.
        size: pixels of the shorter side, or None to leave it.

    Returns:
        `Written`.

    Raises:
        CorpusError: an image or video that does not open, or images of several sizes.
    """
    if encode == "copy":
        if images is None:
            shutil.copyfile(source, path)
        else:
            _mux_images(images, path, fps)
        return summary(path, hashed=True)
    frames = _decoded_images(images) if images is not None else _shown(source)
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        digest, count, stream = hashlib.sha256(), 0, None
        for count, rgb in enumerate((_scaled(frame, size) for frame in frames), start=1):
            if stream is None:
                stream = _add_stream(container, rgb.shape, fps, encode)
            elif rgb.shape[:2] != (stream.height, stream.width):
                expected = f"{stream.width} x {stream.height}"
                raise CorpusError(f"{source}: frame {count} is {rgb.shape[1]} x {rgb.shape[0]}, the first {expected}")
            digest.update(rgb)
            frame = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format=stream.pix_fmt)
            frame.pts, frame.time_base = count - 1, stream.codec_context.time_base
            container.mux(stream.encode(frame))
        if stream is None:
            raise CorpusError(f"{source}: holds no frames")
        container.mux(stream.encode(None))
        width, height = stream.width, stream.height
    return Written(count, width, height, digest.hexdigest() if encode in LOSSLESS else None)


def summary(path: Path, hashed: bool) -> Written:
    """What a video file holds, by decoding all of it; without `hashed` no hash is taken."""
    digest, count, shape = hashlib.sha256(), 0, (0, 0)
    for rgb in decoded(path):
        count, shape = count + 1, rgb.shape
        if hashed:
            digest.update(rgb)
    return Written(count, shape[1], shape[0], digest.hexdigest() if hashed else None)


def suffix(source: Path, images: Sequence[Path] | None, encode: str) -> str:
    """Suffix of the file that `write_video` makes."""
    return source.suffix.lower() if encode == "copy" and images is None else ENCODERS[encode]


def decoded(path: Path) -> Iterator[np.ndarray]:
    """All frames of a video file, (height, width, 3) uint8 RGB."""
    with opened_video(path) as (container, stream):
        for frame in container.decode(stream):
            yield np.ascontiguousarray(frame.to_ndarray(format="rgb24"))


def _shown(path: Path) -> Iterator[np.ndarray]:
    """All frames of a video file as a player shows them, upright and with square pixels: a new file says neither."""
    try:
        for batch in VideoReader(path):
            yield from batch.frames.numpy()
    except MediaError as error:
        raise CorpusError(str(error)) from error


def _decoded_images(images: Iterable[Path]) -> Iterator[np.ndarray]:
    for image in images:
        with _opened_image(image) as container:
            try:
                yield np.ascontiguousarray(next(container.decode(video=0)).to_ndarray(format="rgb24"))
            except (av.error.FFmpegError, StopIteration) as error:
                raise _does_not_open(image, error) from error


def _opened_image(image: Path):
    try:  # by content: from a name that ends in .jpg FFmpeg concludes that it is the first of a numbered sequence
        content = io.BytesIO(image.read_bytes())
        return av.open(content, options={"format_whitelist": ",".join(sorted(IMAGE_FORMATS))})
    except (av.error.FFmpegError, OSError) as error:
        raise _does_not_open(image, error) from error


def _does_not_open(image: Path, error: Exception) -> CorpusError:
    return CorpusError(f"{image}: the image does not open ({error or 'it is empty'}); take a fresh copy of it")


def _add_stream(container, shape: tuple[int, ...], fps: float, encode: str):
    rate = Fraction(fps).limit_denominator(1001)
    height, width = shape[:2]
    if encode == "h264":
        stream = container.add_stream("libx264", rate=rate, options=_H264)
        stream.pix_fmt = "yuv444p" if height % 2 or width % 2 else "yuv420p"
        stream.codec_context.gop_size = round(fps)
    else:
        stream = container.add_stream("ffv1", rate=rate)
        stream.pix_fmt = "bgr0"
    stream.height, stream.width = height, width
    stream.codec_context.time_base = 1 / rate
    stream.codec_context.thread_count = 1
    return stream


def _mux_images(images: Sequence[Path], path: Path, fps: float) -> None:
    """The bytes of every image as a packet of its own."""
    rate = Fraction(fps).limit_denominator(1001)
    with _opened_image(images[0]) as first:
        codec = first.streams.video[0].codec_context
        name, width, height = codec.name, codec.width, codec.height
    if name not in _COPIED:
        raise CorpusError(f"{images[0]}: {name} images cannot be copied into a video; encode ffv1 is lossless as well")
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream(name, rate=rate)
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuvj420p"  # for the header; decoders take the true one from the images
        stream.codec_context.time_base = stream.time_base = 1 / rate
        for number, image in enumerate(images):
            packet = av.Packet(image.read_bytes())
            packet.stream, packet.pts, packet.dts, packet.duration = stream, number, number, 1
            packet.time_base, packet.is_keyframe = 1 / rate, True
            container.mux(packet)


def _scaled(rgb: np.ndarray, size: int | None) -> np.ndarray:
    """The shorter side has `size` pixels, the other follows; both even."""
    if size is None:
        return rgb
    height, width = rgb.shape[:2]
    scale = size / min(height, width)
    height, width = (max(2, round(side * scale / 2) * 2) for side in (height, width))
    frame = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(width=width, height=height, interpolation="AREA")
    return np.ascontiguousarray(frame.to_ndarray(format="rgb24"))


__all__ = ["ENCODERS", "LOSSLESS", "Written", "decoded", "suffix", "summary", "write_video"]
