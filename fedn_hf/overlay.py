"""A copy of a video that shows what was found in it: faces, the current expression, and a running timeline below.

Everything streams: frames, faces and sound are read side by side, and memory does not grow with the video. Frames keep
their times, also where the rate varies, and sound is copied where the new file can hold it. Drawing on one frame is
`overlay_drawing`'s.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np

from .annotation import ExpressionAnnotation
from .files_fedn import replacing
from .media_fedn import FednError, MediaError, MediaLimits
from .overlay_drawing import Painter, hide_face
from .tracks import FaceTracks, followed_faces, open_video, read_stretch
from .video_io_fedn import VideoReader

CONTAINERS = {".mp4": "mp4", ".mkv": "matroska"}
# MP4 can hold more, and few players would play it.
_MP4_SOUND = frozenset({"aac", "mp3", "ac3", "eac3", "alac", "opus"})
_TICK = Fraction(1, 90_000)  # the clock of the new file: every usual frame rate is whole in it
_QUALITY = {"crf": "20", "preset": "veryfast"}
_HIDDEN_S = 0.5  # a face stays hidden for so long before it is found and after it is lost
_HIDDEN_EVERY = 8  # frames between two looks at the whole picture for faces to hide


@dataclass(frozen=True)
class Rendered:
    """
    What a new video is like.

    frames: how many it has.
    sound: "none", "copied", "encoded again", or "damaged" where it ends early.
    truncated_at_s: where a damaged video ended, or `None`.
    """

    frames: int
    sound: str
    truncated_at_s: float | None


def render(
    annotation: ExpressionAnnotation,
    video: str | Path,
    path: str | Path,
    *,
    blur: bool = False,
    hook: Callable | None = None,
) -> Rendered:
    """
    Write a copy of a video with the expressions of an annotation drawn on it.

    Args:
        annotation: of this video. What was read for it is rendered: a stretch, if it is of a stretch.
        video: file, or folder of images.
        path: of the new video, .mp4 or .mkv.
        blur: hide every face that is found. Faces that are turned away, covered or less than about 32 pixels high may
            not be found, and voices stay: look and listen before you pass it on.
        hook: `hook("rendering", None, file=..., total=..., completed=...)` is called again and again with frames.

    Raises:
        `MediaError`: the video cannot be read.
        `FednError`: another video than that of the annotation, another suffix, or a missing package.
    """
    path, video = Path(path), Path(video)
    if path.suffix.lower() not in CONTAINERS:
        raise FednError(f"{path}: videos are written as {' or '.join(CONTAINERS)}, got {path.suffix or 'no suffix'}")
    if path.exists() and path.resolve() == video.resolve():
        raise FednError(f"{path}: is the video itself; give the copy another name")
    stretch = read_stretch(annotation)
    reader = open_video(annotation, video, batch_size=4, **stretch)
    painter = Painter(annotation, reader.info.width, reader.info.height)
    with contextlib.ExitStack() as stack:
        rate = annotation.provenance.get("frame_rate")
        tracks = FaceTracks(open_video(annotation, video, fps=rate, **stretch), followed_faces(annotation))
        faces = stack.enter_context(tracks)
        hidden = None
        if blur:
            hidden = stack.enter_context(FaceTracks(open_video(annotation, video, **stretch), "all", _HIDDEN_EVERY))
        unfinished = stack.enter_context(replacing(path))
        kind = CONTAINERS[path.suffix.lower()]
        options = {"movflags": "faststart"} if kind == "mp4" else {}
        output = stack.enter_context(av.open(str(unfinished), "w", format=kind, options=options))
        sound = stack.enter_context(_Sound(video, output, reader))
        drawn = _drawn(reader, painter, faces, hidden)
        count = _encode(drawn, output, sound, reader, painter.size, str(video), hook)
        if not count:
            raise MediaError(str(video), "no frames in the stretch that the annotation is of")
    result = Rendered(count, sound.state, reader.truncated_at_s)
    if hook is not None:
        hook("rendering", result, file=str(video))
    return result


def copy_playable(video: str | Path, file: BinaryIO, *, hook: Callable | None = None) -> None:
    """
    Write a copy that every browser plays: H.264 and sound in MP4, with the times that our reader gives.

    Args:
        video: the file.
        file: to write to, from its beginning; it must be able to seek.
        hook: as of `render`, for the step "copying".

    Raises:
        `MediaError`: it cannot be read.
    """
    reader = VideoReader(video, batch_size=4)
    size = tuple(side // 2 * 2 for side in (reader.info.width, reader.info.height))  # as the encoder wants it
    frames = (
        (time_s, rgb[: size[1], : size[0]].copy())
        for batch in reader
        for time_s, rgb in zip(batch.time_s.tolist(), batch.frames.numpy(), strict=True)
    )
    told = None if hook is None else lambda step, *words, **more: hook("copying", *words, **more)
    with av.open(file, "w", format="mp4") as output, _Sound(Path(video), output, reader) as sound:
        _encode(frames, output, sound, reader, size, str(video), told)


def _drawn(
    reader: VideoReader, painter: Painter, faces: FaceTracks, hidden: FaceTracks | None
) -> Iterator[tuple[float, np.ndarray]]:
    """Times and new frames (H, W, 3)."""
    for batch in reader:
        for time_s, rgb in zip(batch.time_s.tolist(), batch.frames.numpy(), strict=True):
            shown = rgb.copy()
            if hidden is not None:
                for box in hidden.at(time_s, _HIDDEN_S).values():
                    hide_face(shown, box)
            yield time_s, painter.draw(shown, time_s, faces.at(time_s))


def _encode(
    drawn: Iterable[tuple[float, np.ndarray]],
    output,
    sound: "_Sound",
    reader: VideoReader,
    size: tuple[int, int],
    name: str,
    hook: Callable | None,
) -> int:
    """Write frames and the sound beside them, and give the number of frames."""
    stream = _video_stream(output, reader, *size)
    total, count, ticks = _expected_frames(reader), 0, -1
    for time_s, rgb in drawn:
        frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
        ticks = max(ticks + 1, round((time_s - reader.start_s) / _TICK))  # no two frames at one time
        frame.pts, frame.time_base = ticks, _TICK
        sound.copy_until(time_s)
        output.mux(stream.encode(frame))
        count += 1
        if hook is not None:
            hook("rendering", None, file=name, total=total, completed=count)
    output.mux(stream.encode(None))
    sound.copy_until(np.inf)
    sound.finish()
    return count


def _expected_frames(reader: VideoReader) -> int | None:
    last_s = min(reader.end_s, reader.info.duration_s or np.inf)
    return max(1, round((last_s - reader.start_s) * (reader.info.fps or 30))) if np.isfinite(last_s) else None


def _video_stream(output, reader: VideoReader, width: int, height: int):
    rate = Fraction(reader.info.fps or 30).limit_denominator(1001)
    stream = output.add_stream("libx264", rate=rate, options=_QUALITY)
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    stream.codec_context.time_base = _TICK
    return stream


class _Sound:
    """
    The sound of a video on its way into another one, packet by packet beside the frames.

    Args:
        video: where it comes from; a folder of images has none.
        output: container that is being written.
        reader: of the frames, which says what stretch is taken.
    """

    def __init__(self, video: Path, output, reader: VideoReader):
        self.output, self.start_s, self.end_s, self.zero_s = output, reader.start_s, reader.end_s, reader.info.start_s
        self.is_mp4 = output.format.name == "mp4"
        self.state, self.source = "none", None
        self.ways: dict[int, Any] = {}  # of each stream of the source: the new stream, whether packets are copied
        self.waiting = None  # the next packet
        if video.is_dir():
            return
        formats = ",".join(sorted(MediaLimits().formats))
        options = {"format_whitelist": formats, "protocol_whitelist": "file"}
        self.source = av.open(f"file:{video.absolute()}", options=options, metadata_errors="replace")
        streams = [stream for stream in self.source.streams.audio if stream.codec_context is not None]
        for stream in streams:
            self.ways[stream.index] = self._way(stream)
        if streams:
            copied = all(is_copied for _, is_copied in self.ways.values())
            self.state = "copied" if copied else "encoded again"
            if self.start_s > 0:
                self.source.seek(int((self.start_s + self.zero_s) * av.time_base))
            self.packets = self.source.demux(streams)
            self.waiting = self._next()

    def _way(self, stream) -> tuple[Any, bool]:
        playable = _MP4_SOUND if self.is_mp4 else self.output.supported_codecs
        if stream.codec_context.name.removesuffix("float") in playable:
            return self.output.add_stream_from_template(stream), True
        # AAC would begin before time 0.
        new = self.output.add_stream("aac" if self.is_mp4 else "flac", rate=stream.codec_context.sample_rate)
        new.layout = "mono" if stream.codec_context.layout.nb_channels == 1 else "stereo"
        return new, False

    def _next(self):
        """The next packet with data and a time; `None` at the end, and where the sound is damaged."""
        try:
            for packet in self.packets:
                if packet.size and (packet.dts is not None or packet.pts is not None):
                    return packet
        except av.error.FFmpegError:
            self.state = "damaged"
        return None

    def copy_until(self, time_s: float) -> None:
        """Write what is heard before a time; the file's own order within a fraction of a second stays."""
        while self.waiting is not None:
            packet = self.waiting
            ticks = packet.dts if packet.pts is None else packet.pts
            at_s = float(ticks * packet.time_base) - self.zero_s
            if at_s >= min(time_s, self.end_s):
                if at_s >= self.end_s:
                    self.waiting = None
                return
            if self._is_wanted(packet, at_s):
                self._write(packet)
            self.waiting = self._next()

    def _is_wanted(self, packet, at_s: float) -> bool:
        """
        Encoders begin with a packet that is not heard, and that the first ones heard are decoded with. MP4 can hold
        it before time 0; in Matroska everything else would move.
        """
        if not self.is_mp4:
            return at_s >= self.start_s - 1e-3
        return self.start_s <= 0 or at_s + float((packet.duration or 0) * packet.time_base) > self.start_s

    def _write(self, packet) -> None:
        new, is_copied = self.ways[packet.stream.index]
        shift = round((self.start_s + self.zero_s) / float(packet.time_base))
        if is_copied:
            packet.pts = None if packet.pts is None else packet.pts - shift
            packet.dts = None if packet.dts is None else packet.dts - shift
            packet.stream = new
            self.output.mux(packet)
            return
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            self.state = "damaged"
            return
        for frame in frames:
            frame.pts = (
                None if frame.pts is None else frame.pts - round((self.start_s + self.zero_s) / float(frame.time_base))
            )
            self.output.mux(new.encode(frame))

    def finish(self) -> None:
        """Write what encoders have kept."""
        for new, is_copied in self.ways.values():
            if not is_copied:
                self.output.mux(new.encode(None))

    def __enter__(self) -> "_Sound":
        return self

    def __exit__(self, *error: object) -> None:
        if self.source is not None:
            self.source.close()


__all__ = ["CONTAINERS", "Rendered", "copy_playable", "render"]
