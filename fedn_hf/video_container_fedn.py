"""One video file through PyAV: what it holds, its frames in order, and exact jumps into the middle.

Containers differ in what they can be trusted with. AVI stores no presentation times, MPEG program streams only some,
headers round durations, and some indexes point behind the time that was asked for; every such case ends in reading
from the start, which is slow and right.
"""

import math
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from .media_fedn import DamagedError, Frame, MediaError, MediaLimits, VideoInfo, words


class Container:
    """A container that PyAV opens, anew for every pass."""

    def __init__(
        self,
        path: str,
        target: Any,
        threads: int,
        limits: MediaLimits,
        protocols: frozenset[str] = frozenset(),
        device: str | None = None,
    ):
        self.path, self.threads, self.limits, self.protocols, self.device = path, threads, limits, protocols, device
        self.target = Pipe(target) if hasattr(target, "read") and not _can_seek(target) else target
        with self._open() as (container, stream):
            self._probe(container, stream)

    @contextmanager
    def _open(self):
        """The container and its first real video stream; every FFmpeg error on the way becomes a MediaError."""
        target, is_pipe = self.target, isinstance(self.target, Pipe)
        if is_pipe:
            if not target.rewind():
                raise MediaError(self.path, "a pipe can be read only once; save it to a file first")
        elif not isinstance(target, str):
            target = _View(target)
        options = {
            "format_whitelist": self.device or ",".join(sorted(self.limits.formats)),
            "protocol_whitelist": ",".join(sorted(self.protocols)),
            "max_pixels": str(self.limits.max_pixels),  # refused before a picture is allocated
        }
        try:
            # Whoever writes into a pipe may take a break.
            patience = None if is_pipe else (30.0, 60.0)
            container = av.open(
                target, format=self.device, options=options, metadata_errors="replace", timeout=patience
            )
        except (av.error.FFmpegError, OSError, TypeError, ValueError) as error:
            raise MediaError(self.path, f"not a readable video ({words(error)}){self._advice()}") from error
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
        self.seeks_exactly = kind != "mpeg" and not self.timeless and self.device is None
        self.seeks_exactly &= not isinstance(self.target, Pipe)
        self.end_s, self.end_is_video = _declared_end_s(container, stream, self.zero)
        rate = stream.average_rate or stream.guessed_rate
        self.step_s = 1.0 / float(rate or 30)
        # The rotation stands in the frames' side data; the first frame also proves that the stream can be decoded.
        try:
            frame = next(self._decode(container, stream), None)
        except (av.error.FFmpegError, DamagedError, ValueError) as error:
            limit = f"{words(error)}; frames of more than {self.limits.max_pixels} pixels are refused"
            raise MediaError(self.path, f"no frame could be decoded ({limit}){self._advice()}") from error
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

    def _advice(self) -> str:
        is_pipe = isinstance(self.target, Pipe)
        return "; through a pipe go MPEG-TS and Matroska, but no MP4 with its index at the end" if is_pipe else ""

    def frames(self, start_s: float) -> Iterator[Frame]:
        """
        Frames in the order of presentation, from the one that is shown at `start_s` or from an earlier one.

        Raises:
            `DamagedError`: the sound part of the file has ended.
        """
        if start_s > self.first_s and self.seeks_exactly:
            sought = self._sought(start_s)
            try:
                first = next(sought, None)
            except (av.error.FFmpegError, DamagedError):
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

    def _sought(self, start_s: float | None) -> Iterator[Frame]:
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
                yield Frame(time_s, duration_s, number, lambda frame=frame: self._rgb(frame, reformatter))

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
                    raise DamagedError("a damaged frame")

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
        except (av.error.FFmpegError, DamagedError) as error:
            damage = damage or words(error)
        damage = damage or self._lost_end(last, stream)
        if damage:  # a frame is in its place if nothing that was lost can stand before it
            held = [frame for frame in held if None in (frame.pts, last_dts) or frame.pts <= last_dts]
        yield from held
        if damage:
            raise DamagedError(damage)

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


def _can_seek(file: Any) -> bool:
    try:
        file.seek(0)
    except (AttributeError, OSError, ValueError):
        return False
    return True


class Pipe:
    """
    A file object that cannot seek, read as its content comes. What the first look has taken out of it is given once
    more to the second, which then goes on; there is no third.
    """

    def __init__(self, file: Any):
        # `read1` gives what is there; `read` would wait until there is as much as was asked for.
        self.take, self.kept, self.looks = getattr(file, "read1", file.read), bytearray(), 0

    def rewind(self) -> bool:
        """Back to the begin; whether that is still possible."""
        self.looks += 1
        return self.looks <= 2

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes; none at the end."""
        if self.looks == 1:
            chunk = self.take(size)
            self.kept += chunk
        elif self.kept:
            chunk = bytes(self.kept[:size])
            del self.kept[:size]
        else:
            chunk = self.take(size)
        return chunk


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


__all__ = ["Container", "Pipe"]
