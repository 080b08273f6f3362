"""What every kind of video source shares: errors, limits, what is known of a video, and one frame of it."""

import re
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

# FFmpeg demuxers. Playlists, concatenation scripts and devices are left out: they open further files or URLs.
VIDEO_FORMATS = frozenset({"mov", "mp4", "m4a", "3gp", "3g2", "mj2", "matroska", "webm", "avi", "asf"}) | frozenset(
    {"mpegts", "mpeg", "flv", "ogg", "mxf", "dv", "gif", "yuv4mpegpipe"}
)
IMAGE_FORMATS = frozenset({"png_pipe", "jpeg_pipe", "bmp_pipe", "tiff_pipe", "webp_pipe"})


class FednError(Exception):
    """Base of the errors that this package raises on purpose.

    Example:
        >>> try:
        ...     raise MediaError("a.mp4", "no such file or folder")
        ... except FednError as error:
        ...     print(error)
        a.mp4: no such file or folder
    """


class MediaError(FednError, OSError):
    """A video that cannot be read, or may not be: `path` names it, `reason` says why and what to do.

    Example:
        >>> error = MediaError("a.mp4", "the file is empty")
        >>> error.path, error.reason, isinstance(error, OSError)
        ('a.mp4', 'the file is empty', True)
    """

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

    Example:
        >>> MediaLimits(max_duration_s=3600).max_pixels
        33177600
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

    Example:
        >>> from fedn_hf import VideoReader
        >>> VideoReader(np.zeros((50, 48, 64, 3), np.uint8), native_fps=25).info
        VideoInfo(path='<array>', container='array', codec=None, width=64, height=48, rotation=0, fps=25.0,
            duration_s=2.0, num_frames=50, start_s=0.0)
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


class DamagedError(Exception):
    """What a source raises where its sound part ends."""


class Frame(NamedTuple):
    """One frame as sources give it: seconds of its presentation, number in the file, and its pixels when asked for."""

    time_s: float
    duration_s: float  # 0 where unknown
    number: int
    rgb: Callable[[], np.ndarray]  # (height, width, 3) uint8; called only for frames that are wanted


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those that it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def install(extra: str) -> str:
    """The line that installs an extra, to be copied: the `pip` of a shell is often that of another Python."""
    return f"{shlex.quote(sys.executable)} -m pip install 'fedn_hf[{extra}]'"


def words(error: BaseException) -> str:
    """The short reason of an FFmpeg error."""
    return re.sub(r"^\[Errno \d+\] ", "", str(error)).split(":")[0] or type(error).__name__


__all__ = [
    "DamagedError",
    "FednError",
    "Frame",
    "MediaError",
    "MediaLimits",
    "VideoInfo",
    "causes",
    "install",
    "words",
]
