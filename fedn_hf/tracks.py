"""The faces of an annotation, found in its video again: an annotation keeps neither pictures nor boxes.

Following is repeated as it was done for the annotation (same faces, rate and stretch of the video), so numbers of
faces mean the same. Everything streams; what is kept is what was asked for.
"""

import bisect
import contextlib
import os
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .annotation import ExpressionAnnotation, ExpressionInterval
from .face_fedn import CropBatch, FaceCropper
from .media_fedn import FednError
from .video_io_fedn import VideoReader, frames_per_batch

PARTS = ("onset", "apex", "offset")
_MARGIN_S = 0.7  # read around an event: crops are steadied over about this time
_BOX_SIZE = 64  # crops that only say where the face is


def video_of(annotation: ExpressionAnnotation, folder: str | Path | None = None) -> Path:
    """
    Where the video of an annotation lies: as the annotation says, or in a folder (that of its file) under its name.

    Raises:
        `FednError`: in none of these places.
    """
    names = [annotation.provenance.get("source"), annotation.video.get("path")]
    places = [Path(name) for name in names if name]
    places += [Path(folder) / place.name for place in places if folder is not None]
    for place in places:
        if os.path.exists(place):  # `Path.exists` raises for a name that is too long
            return place
    raise FednError(f"{names[1] or 'the video'}: not where the annotation says, nor beside it")


def open_video(annotation: ExpressionAnnotation, video: str | Path, **reading: Any) -> VideoReader:
    """
    A reader of the annotation's video.

    Args:
        reading: arguments of `VideoReader`.

    Raises:
        `MediaError`: it cannot be read.
        `FednError`: it is another video, going by how long it lasts.
    """
    native_fps = annotation.video.get("fps") if Path(video).is_dir() else None
    reader = VideoReader(video, native_fps=native_fps, **reading)
    said_s, lasts_s = annotation.video.get("duration_s"), reader.info.duration_s
    if said_s and lasts_s and abs(said_s - lasts_s) > max(0.5, 0.01 * said_s):
        raise FednError(
            f"{video}: lasts {lasts_s:.2f} s, and the annotation is of a video of {said_s:.2f} s; give the same video"
        )
    return reader


def read_stretch(annotation: ExpressionAnnotation) -> dict[str, float | None]:
    """`start_s` and `end_s` of what was read for the annotation, as `VideoReader` takes them."""
    return {name: annotation.provenance.get(name) for name in ("start_s", "end_s")}


def followed_faces(annotation: ExpressionAnnotation) -> str | int:
    """Which faces were followed, as `FaceCropper` takes it; a human coding, which does not say, is of the largest."""
    faces = annotation.provenance.get("faces")
    if faces is None:
        return "all" if len({event.face_id for event in annotation}) > 1 else "largest"
    return faces


class FaceTracks:
    """
    Where faces are in a video, while it is played: ask for rising times.

    Args:
        reader: of the video, at the rate at which faces are to be followed.
        faces: as `FaceCropper` takes it.
        detect_every: likewise.

    Example:
        >>> nobody = VideoReader(np.zeros((50, 120, 160, 3), np.uint8), native_fps=25)
        >>> with FaceTracks(nobody) as tracks:
        ...     tracks.at(1.0)
        {}
    """

    def __init__(self, reader: VideoReader, faces: str | int = "largest", detect_every: int = 30):
        self._size = frames_per_batch(reader.info.height, reader.info.width)
        cropper = FaceCropper(_BOX_SIZE, faces=faces, detect_every=detect_every)
        self._ticks = self._in_order(cropper(reader))
        self._times: list[float] = []  # of the ticks around the time that was asked for last
        self._boxes: list[dict[int, np.ndarray]] = []
        self._ended = False

    def __enter__(self) -> "FaceTracks":
        return self

    def __exit__(self, *error: object) -> None:
        """Stop following, and wait until the threads that do it have ended."""
        self._ticks.close()

    def at(self, time_s: float, reach_s: float = 0.0) -> dict[int, np.ndarray]:
        """
        Boxes of the faces at a time: face_id -> (4,) left, top, right, bottom in pixels of the frame.

        Args:
            time_s: not before the one that was asked for last.
            reach_s: also faces that are seen only so long before or after, where they are then.
        """
        while not self._ended and (len(self._times) < 2 or self._times[-1] < time_s + reach_s):
            tick = next(self._ticks, None)
            self._ended = tick is None
            if tick is not None:
                self._times.append(tick[0])
                self._boxes.append(tick[1])
        # Two ticks before the time stay: one to start from, and one in case of equal times.
        past = max(0, bisect.bisect_left(self._times, time_s - reach_s) - 2)
        del self._times[:past], self._boxes[:past]
        if not self._times:
            return {}
        after = min(bisect.bisect_left(self._times, time_s), len(self._times) - 1)
        before = max(after - 1, 0) if self._times[after] > time_s else after
        length_s = self._times[after] - self._times[before]
        share = (time_s - self._times[before]) / length_s if length_s > 0 else 0.0
        first, second = self._boxes[before], self._boxes[after]
        nearest = second if share > 0.5 else first
        found = {face: box for face, box in nearest.items() if not (face in first and face in second)}
        found |= {face: (1 - share) * first[face] + share * second[face] for face in first if face in second}
        if reach_s:
            by_distance = sorted(range(len(self._times)), key=lambda i: abs(self._times[i] - time_s))
            for i in by_distance:
                if abs(self._times[i] - time_s) <= reach_s:
                    found |= {face: box for face, box in self._boxes[i].items() if face not in found}
        return found

    def _in_order(self, batches: Generator[CropBatch]) -> Iterator[tuple[float, dict[int, np.ndarray]]]:
        """Time and boxes of frame after frame; with several faces every chunk comes in several batches."""
        chunk: list[CropBatch] = []
        with contextlib.closing(batches):
            for batch in batches:
                if chunk and batch.frame[0] // self._size != chunk[0].frame[0] // self._size:
                    yield from self._of_chunk(chunk)
                    chunk = []
                chunk.append(batch)
        yield from self._of_chunk(chunk)

    @staticmethod
    def _of_chunk(chunk: list[CropBatch]) -> Iterator[tuple[float, dict[int, np.ndarray]]]:
        ticks: dict[int, tuple[float, dict[int, np.ndarray]]] = {}
        for batch in chunk:
            for i, frame in enumerate(batch.frame.tolist()):
                boxes = ticks.setdefault(frame, (float(batch.time_s[i]), {}))[1]
                if batch.mask[i]:
                    boxes[int(batch.face_id[i])] = _box(batch.transforms[i], batch.landmarks[i])
        for frame in sorted(ticks):
            yield ticks[frame]


def _box(transform: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Left, top, right, bottom of landmarks (468, 2) of a crop, in pixels of the frame."""
    points = landmarks.astype(float) * _BOX_SIZE @ transform[:, :2].T + transform[:, 2]
    return np.concatenate([points.min(0), points.max(0)])


def event_crops(
    annotation: ExpressionAnnotation,
    video: str | Path,
    events: Sequence[ExpressionInterval] | None = None,
    image_size: int = 128,
) -> list[dict[str, np.ndarray | None]]:
    """
    The face at onset, apex and offset of events, upright and steady.

    Args:
        annotation: whose faces were followed in the video.
        video: file or folder of images.
        events: of the annotation; all by default.
        image_size: side of the crops in pixels.

    Returns:
        For each event "onset", "apex" and "offset" -> uint8 (S, S, 3), or `None` where the face is not seen.

    Raises:
        `MediaError`, `FednError`: as `open_video`.
    """
    events = list(annotation) if events is None else list(events)
    best: list[dict[str, tuple[int, np.ndarray]]] = [{} for _ in events]
    faces = followed_faces(annotation)
    cropper = FaceCropper(image_size, margin=0.2, faces=faces)
    for stretch, mine in _stretches(annotation, events, whole=faces == "all"):
        reader = open_video(annotation, video, **stretch)
        with contextlib.closing(cropper(reader)) as batches:
            for batch in batches:
                for number in mine:
                    _keep_nearest(batch, events[number], best[number], faces != "all", reader.frame_rate or 30.0)
    return [{part: nearest[part][1] if part in nearest else None for part in PARTS} for nearest in best]


def _stretches(
    annotation: ExpressionAnnotation, events: Sequence[ExpressionInterval], whole: bool
) -> Iterator[tuple[dict[str, Any], list[int]]]:
    """
    What to read, as arguments of `VideoReader`, and the events therein. Numbers of faces need everything from the
    start on; a single face is the same wherever reading begins.
    """
    order = sorted(range(len(events)), key=lambda number: events[number].onset_s)
    if not order:
        return
    if whole:
        last_s = max(event.offset_s for event in events) + _MARGIN_S
        start_s, end_s = read_stretch(annotation).values()
        end_s = last_s if end_s is None else min(last_s, end_s)
        yield {"fps": annotation.provenance.get("frame_rate"), "start_s": start_s, "end_s": end_s}, order
        return
    group: list[int] = []
    reached_s = -1.0
    for number in order:
        if group and events[number].onset_s - _MARGIN_S > reached_s:
            yield {"start_s": max(0.0, events[group[0]].onset_s - _MARGIN_S), "end_s": reached_s}, group
            group = []
        group.append(number)
        reached_s = max(reached_s if len(group) > 1 else 0.0, events[number].offset_s + _MARGIN_S)
    yield {"start_s": max(0.0, events[group[0]].onset_s - _MARGIN_S), "end_s": reached_s}, group


def _keep_nearest(
    batch: CropBatch, event: ExpressionInterval, nearest: dict[str, Any], any_face: bool, frame_rate: float
) -> None:
    """Crops nearest to an event's frames; where resampling left a frame out its neighbour stands for it."""
    mine = np.flatnonzero(batch.mask & (any_face | (batch.face_id == event.face_id)))
    if not len(mine):
        return
    for part in PARTS:
        time_s, frame = getattr(event, f"{part}_s"), getattr(event, f"{part}_frame")
        if time_s is None:
            continue
        if frame is None:  # a coder's times: an offset is the end of the last frame
            away = np.abs(batch.time_s[mine] * frame_rate - time_s * frame_rate + (part == "offset"))
        else:
            away = np.abs(batch.native_frame[mine] - frame).astype(float)
        i = int(away.argmin())
        if away[i] <= 2 and away[i] < nearest.get(part, (np.inf,))[0]:
            nearest[part] = float(away[i]), batch.crops[mine[i]].numpy().copy()


__all__ = [
    "PARTS",
    "FaceTracks",
    "event_crops",
    "followed_faces",
    "open_video",
    "read_stretch",
    "video_of",
]
