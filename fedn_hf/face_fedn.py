"""From frames to steady face crops, in one streaming pass: find faces, follow them, cut them out.

BlazeFace looks at key frames only; between them FaceMesh follows a face from its own last landmarks, on every few
frames. Where two neighbouring looks disagree, a face has come or gone in between, and every frame between them is
looked at: so coverage is exact to the frame, but for what happens and ends between two looks.
Steadiness comes from `face_alignment_fedn.py`.

Work goes chunk by chunk (`frames_per_batch`, whatever the batches of the reader), so memory does not grow with the
video and results do not depend on how it was read. Reading, following and cutting out run side by side, a chunk apart.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from .face_alignment_fedn import FaceAligner, resize
from .face_finder_fedn import Face, FaceFinder, Roi, overlap
from .face_nets_fedn import FACE_NETS
from .stages_fedn import ahead
from .video_io_fedn import FrameBatch, frames_per_batch


@dataclass(frozen=True)
class CropBatch:
    """Aligned crops of consecutive frames, and where they come from.

    Args:
        crops: uint8 (N, S, S, 3); black where there is no face. From a cropper without pixels (N, 0, 0, 3).
        mask: bool (N,), True where there is one.
        time_s, native_frame: of each frame, as in `FrameBatch`.
        frame: int64 (N,), position of each frame in the stream that was read, from 0.
        face_id: int64 (N,), number of the track, -1 where there is no face.
        confidence: float32 (N,), probability that the crop shows a face; 0 where there is none.
        face_size_px: float32 (N,), height of the face (forehead to chin) in frame pixels; 0 where there is none.
        fit: float32 (N,), how well the frame could be registered to the face's template, 0 to 1.
        landmarks: float32 (N, 468, 2) in units of the crop's side; NaN where there is no face, and in crops that were
            brought along.
        transforms: float64 (N, 2, 3), from crop pixels to frame pixels; NaN where there is no face.

    Example:
        >>> frames = FrameBatch(torch.zeros(4, 48, 64, 3, dtype=torch.uint8), np.arange(4) / 25, np.arange(4))
        >>> batch = CropBatch.empty(frames, first=0, image_size=32)
        >>> batch.crops.shape, len(batch[batch.mask])  # arrays of numbers or truth values pick frames
        (torch.Size([4, 32, 32, 3]), 0)
    """

    crops: torch.Tensor
    mask: np.ndarray
    time_s: np.ndarray
    native_frame: np.ndarray
    frame: np.ndarray
    face_id: np.ndarray
    confidence: np.ndarray
    face_size_px: np.ndarray
    fit: np.ndarray
    landmarks: np.ndarray
    transforms: np.ndarray

    def __len__(self) -> int:
        return len(self.time_s)

    @classmethod
    def empty(cls, batch: FrameBatch, first: int, image_size: int) -> "CropBatch":
        """No face anywhere yet."""
        n = len(batch)
        return cls(
            crops=torch.zeros(n, image_size, image_size, 3, dtype=torch.uint8),
            mask=np.zeros(n, bool),
            time_s=batch.time_s,
            native_frame=batch.native_frame,
            frame=np.arange(first, first + n),
            face_id=np.full(n, -1),
            confidence=np.zeros(n, np.float32),
            face_size_px=np.zeros(n, np.float32),
            fit=np.zeros(n, np.float32),
            landmarks=np.full((n, 468, 2), np.nan, np.float32),
            transforms=np.full((n, 2, 3), np.nan),
        )

    def __getitem__(self, part: slice | np.ndarray) -> "CropBatch":
        return CropBatch(**{name: value[part] for name, value in vars(self).items()})


@dataclass
class _Track:
    """One face through time: its number, as it was last seen and when (position in the stream)."""

    id: int
    aligner: FaceAligner
    face: Face
    last_frame: int


@dataclass
class _Span:
    """Frames of a chunk, without a break, in which a track's face is seen; looks at the first, the last and some."""

    track: _Track
    looks: dict[int, Face]
    aligner: FaceAligner  # the track's at this time: a face that returns gets a new one

    @property
    def first(self) -> int:
        return min(self.looks)

    @property
    def last(self) -> int:
        return max(self.looks)

    def covers(self, frame: int) -> bool:
        return self.first <= frame <= self.last

    def near(self, frame: int) -> Face:
        return self.looks[min(self.looks, key=lambda seen: abs(seen - frame))]


def check_faces(faces: str | int) -> None:
    """Raise a `ValueError` for what does not say which faces to follow."""
    if faces not in ("largest", "all") and (isinstance(faces, (bool, str)) or faces != int(faces) or faces < 0):
        raise ValueError(f'faces must be "largest", "all" or a rank from 0, got {faces!r}')


class FaceCropper:
    """Turns batches of frames into batches of aligned face crops.

    Args:
        image_size: side of the crops in pixels.
        margin: room around the face on every side, as a part of its height.
        faces: "largest" follows the largest face and changes over to one that is clearly larger; a number follows the
            face of that rank (0 the largest); "all" gives every face batches of its own, told apart by `face_id`.
            Beside a face that fills much of the picture, one of less than about a tenth of its width is not found.
        landmark_every: frames between two looks of FaceMesh at a followed face.
        detect_every: frames between two looks of BlazeFace at the whole picture while a face is followed.
        grey: crops without colour (three equal channels).
        pixels: whether to cut crops out at all. Without them all else is the same, and comes sooner.
        device: where the networks and the image work run.
        weights: safetensors file that holds the networks.

    Example:
        >>> cropper = FaceCropper(image_size=64)
        >>> nobody = FrameBatch(torch.zeros(3, 120, 160, 3, dtype=torch.uint8), np.arange(3) / 25, np.arange(3))
        >>> [batch] = cropper([nobody])
        >>> batch.mask
        array([False, False, False])
    """

    GROUP = 4  # looks at a followed face that are taken together
    SEARCH_EVERY = 8  # frames between two searches while nobody is followed: no expression is shorter
    MAX_GAP = 30  # frames for which a face may be away and keep its number
    LARGER = 1.25  # how much larger another face must be to be followed instead
    SAME_FACE = 0.2  # overlap at which a face that comes back is taken for the one that went
    ALIKE = 0.6  # correlation of two looks at a face below which the way between them is walked
    CUT = 0.5  # correlation of neighbouring frames below which there is a cut, if most of the picture changes

    def __init__(
        self,
        image_size: int = 112,
        *,
        margin: float = 0.1,
        faces: str | int = "largest",
        landmark_every: int = 4,
        detect_every: int = 30,
        grey: bool = False,
        pixels: bool = True,
        device: str | torch.device = "cpu",
        weights=FACE_NETS,
    ):
        check_faces(faces)
        if not 0 <= margin < 10:
            raise ValueError(f"margin must be a part of the face's height from 0 on, got {margin!r}")
        numbers = {"image_size": image_size, "landmark_every": landmark_every, "detect_every": detect_every}
        for name, value in numbers.items():
            if value != int(value) or value < 1:
                raise ValueError(f"{name} must be a whole number from 1 on, got {value!r}")
        self.image_size, self.margin, self.faces, self.grey, self.pixels = image_size, margin, faces, grey, pixels
        self.landmark_every, self.detect_every = landmark_every, detect_every
        self.finder = FaceFinder(device, weights)

    def __call__(
        self, batches: Iterable[FrameBatch], *, boxes: np.ndarray | None = None, landmarks: np.ndarray | None = None
    ) -> Iterator[CropBatch]:
        """Crops of all frames, in order.

        Args:
            batches: frames, as a `VideoReader` gives them.
            boxes: (T, 4) left, top, right, bottom in pixels, if faces are known: row i for frame i of the source
                (`native_frame`), NaN where there is none. Nothing is searched for then.
            landmarks: (T, 468, 2) of FaceMesh in pixels, likewise; then no face network runs at all.

        Returns:
            With `faces="all"` one batch per face and chunk, holding the frames in which it is seen, and one for frames
            without any; otherwise one batch per chunk, holding every frame once.

        Raises:
            ValueError: frames, boxes or landmarks of another kind or number.
        """
        known = None if boxes is None and landmarks is None else _Known(boxes, landmarks)
        scene = _Scene(self, known)
        yield from ahead(self._cut_out(ahead(scene.follow(_chunks(ahead(batches))))))
        read_to_the_end = getattr(batches, "end_s", np.inf) == np.inf and not getattr(batches, "truncated_at_s", None)
        if known is not None and read_to_the_end:
            known.check_end()

    def resize(self, batches: Iterable[FrameBatch]) -> Iterator[CropBatch]:
        """Frames that are face crops already, as the corpora offer them: scaled to a square, no more."""
        first = 0
        size = self.image_size
        for batch in batches:
            out = CropBatch.empty(batch, first, size)
            height, width = batch.frames.shape[1:3]
            scaled = resize(batch.frames.permute(0, 3, 1, 2), size, size)
            out.crops.copy_(self._colour(scaled.permute(0, 2, 3, 1)))
            out.mask[:], out.face_id[:], out.confidence[:], out.fit[:] = True, 0, 1.0, 1.0
            out.face_size_px[:] = height
            out.transforms[:] = [[width / size, 0, 0], [0, height / size, 0]]
            first += len(batch)
            yield out

    @torch.no_grad()
    def _cut_out(self, chunks: Iterable["_Followed"]) -> Iterator[CropBatch]:
        for chunk in chunks:
            if self.faces != "all":
                yield self._crops(chunk, chunk.spans)
                continue
            unseen = np.ones(len(chunk.batch), bool)
            for face_id in dict.fromkeys(span.track.id for span in chunk.spans):
                spans = [span for span in chunk.spans if span.track.id == face_id]
                out = self._crops(chunk, spans)
                unseen &= ~out.mask
                yield out[np.flatnonzero(out.mask)]
            if unseen.any():
                yield self._crops(chunk, [])[np.flatnonzero(unseen)]

    def _crops(self, chunk: "_Followed", spans: list["_Span"]) -> CropBatch:
        """All frames of a chunk, with the crops of some spans at their places."""
        out = CropBatch.empty(chunk.batch, chunk.start, self.image_size if self.pixels else 0)
        for span in spans:
            part = slice(span.first, span.last + 1)
            index = np.array(sorted(span.looks)) - span.first
            faces = [span.looks[i] for i in sorted(span.looks)]
            aligned = span.aligner(chunk.frames[part], index, np.stack([face.landmarks for face in faces]))
            if self.pixels:
                out.crops[part] = self._colour(aligned.crops).cpu()  # type: ignore[arg-type]  # there with pixels
            out.mask[part] = True
            out.face_id[part] = span.track.id
            out.confidence[part] = np.interp(
                np.arange(span.last + 1 - span.first), index, [face.presence for face in faces]
            )
            out.face_size_px[part], out.fit[part] = aligned.face_size_px, aligned.fit
            out.landmarks[part], out.transforms[part] = aligned.landmarks, aligned.transforms
        return out

    def _colour(self, crops: torch.Tensor) -> torch.Tensor:
        if not self.grey:
            return crops
        grey = (crops.float() @ crops.new_tensor([0.299, 0.587, 0.114], dtype=torch.float32)).round_().to(torch.uint8)
        return grey[..., None].expand_as(crops)


class _Followed(NamedTuple):
    """A chunk of the stream, and where in it which face is seen."""

    batch: FrameBatch
    frames: torch.Tensor  # the batch's, where the networks run
    start: int  # position of the chunk in the stream
    spans: list[_Span]


class _Scene:
    """The state of one pass over a video: who is in view."""

    def __init__(self, cropper: FaceCropper, known: "_Known | None"):
        self.cropper, self.finder, self.known = cropper, cropper.finder, known
        self.tracks: list[_Track] = []  # in view, or gone for no more than MAX_GAP frames
        self.next_id = 0
        self.start = 0  # position of the chunk in the stream
        self.thumbnail: torch.Tensor | None = None  # of the frame before the chunk
        self.frames: torch.Tensor  # of the chunk, (N, H, W, 3) uint8
        self.knots: list[int]  # frames of the current part that are looked at while a face is followed

    @torch.no_grad()
    def follow(self, chunks: Iterable[FrameBatch]) -> Iterator[_Followed]:
        """Where in each chunk which face is seen."""
        for chunk in chunks:
            self.frames = chunk.frames.to(self.finder.device)
            spans: list[_Span] = []
            for first, last, after_cut in self._parts():
                if after_cut:
                    self.tracks = []
                self.tracks = [t for t in self.tracks if self.start + first - t.last_frame <= self.cropper.MAX_GAP]
                every = self.cropper.landmark_every
                self.knots = [i for i in range(first, last + 1) if i in (first, last) or (self.start + i) % every == 0]
                given = None if self.known is None else self.known.rows(chunk.native_frame[first : last + 1])
                spans += self._search(first, last) if given is None else self._given(first, last, given)
            yield _Followed(chunk, self.frames, self.start, spans)
            self.start += len(chunk)

    def _parts(self) -> list[tuple[int, int, bool]]:
        """First and last frames of the parts of the chunk between cuts, and whether a cut lies before each."""
        step = max(1, min(self.frames.shape[1:3]) // 48)
        small = self.frames[:, step // 2 :: step, step // 2 :: step].float().mean(-1).flatten(1)
        before = torch.cat([small[:1] if self.thumbnail is None else self.thumbnail, small[:-1]])
        self.thumbnail = small[-1:]
        # A lamp changes all of the picture and leaves it alike; a hand changes much, but only where it is.
        changed = ((small - before).abs() > 8).float().mean(1)
        small, before = (x - x.mean(1, keepdim=True) for x in (small, before))
        flat = 4.0 * small.shape[1]  # keeps noise in two dark frames from counting as a difference
        alike = ((small * before).sum(1) + flat) / (small.norm(dim=1) * before.norm(dim=1) + flat)
        cuts = ((alike < self.cropper.CUT) & (changed > 0.5)).nonzero()[:, 0].tolist()
        starts = sorted({0, *cuts})
        ends = [start - 1 for start in starts[1:]] + [len(self.frames) - 1]
        return [(start, end, start in cuts) for start, end in zip(starts, ends, strict=True)]

    # --- finding and following ------------------------------------------------------------------------------------

    def _search(self, first: int, last: int) -> list[_Span]:
        """Where which face is seen in the frames first to last, which hold no cut."""
        spans = []
        for track in self.tracks:
            if track.last_frame == self.start + first - 1:
                span = _Span(track, {}, track.aligner)
                self._extend(span, first - 1, last)
                spans += [span] if span.looks else []
        searched = first - 1  # the last frame in which faces were searched for
        for key in range(first, last + 1):
            alone = not any(span.covers(key) for span in spans)
            due = (self.start + key) % self.cropper.detect_every == 0
            if self.cropper.faces == "all":  # others may have come too
                due |= key == last
            if due or (alone and (key in (first, last) or key - searched >= self.cropper.SEARCH_EVERY)):
                for face in self._newcomers(key, spans, far=due or key in (first, last)):
                    self._begin(face, key, first, last, spans)
                searched = key
        return spans

    def _newcomers(self, key: int, spans: list[_Span], far: bool) -> list[Face]:
        """Faces in a key frame that are to be followed from now on; a much larger one takes over."""
        present = [span for span in spans if span.covers(key)]
        followed = [span.near(key) for span in present]
        faces = self.finder.find(self.frames[key], followed, small=self.cropper.faces != "largest", far=far)
        others = [f for f in faces if all(overlap(f.box, g.box[None])[0] < self.cropper.SAME_FACE for g in followed)]
        if self.cropper.faces == "all":
            return others
        if not followed:
            rank = 0 if isinstance(self.cropper.faces, str) else self.cropper.faces  # "largest" is the first
            return faces[rank : rank + 1]
        if (
            self.cropper.faces == "largest"
            and others
            and others[0].size_px > self.cropper.LARGER * followed[0].size_px
        ):
            [span] = present
            span.looks = {i: face for i, face in span.looks.items() if i < key}
            span.track.last_frame = self.start + key - 1
            if span.looks:
                span.track.face = span.looks[span.last]
                self._extend(span, span.last, key - 1)
            else:
                spans.remove(span)
            return others[:1]
        return []

    def _begin(self, face: Face, key: int, first: int, last: int, spans: list[_Span]) -> None:
        """Add the span of a new or a returned face, around the key frame in which it was found."""
        gone = [track for track in self.tracks if track.last_frame < self.start + key]
        shared = [overlap(face.box, track.face.box[None])[0] for track in gone]
        if shared and max(shared) > self.cropper.SAME_FACE:
            track = gone[int(np.argmax(shared))]
            track.face, track.aligner = face, self._aligner()
        else:
            track = _Track(self.next_id, self._aligner(), face, self.start + key)
            self.tracks.append(track)
            self.next_id += 1
        # It may have been there before it was found, unless somebody else was followed.
        taken = [s.last for s in spans if s.last < key and (s.track is track or self.cropper.faces != "all")]
        span = _Span(track, {key: face}, track.aligner)
        self._extend(span, key, max([first - 1, *taken]) + 1)
        track.face = face
        self._extend(span, key, last)
        spans.append(span)

    def _extend(self, span: _Span, edge: int, end: int) -> None:
        """Follow a span's face from frame `edge`, where it is as in `track.face`, to `end` or until it is gone."""
        track = span.track
        step = 1 if end >= edge else -1
        ahead = [i for i in self.knots[::step] if (i - edge) * step > 0 and (end - i) * step >= 0]
        ahead += [end] if end != edge and end not in ahead else []
        while ahead:
            group, start = ahead[: self.cropper.GROUP], track.face.roi
            looks = self.finder.look([self.frames[i] for i in group], [start] * len(group))
            for knot, face in zip(group, looks, strict=True):
                moved = self._moved(face, start)
                if face and 0.1 <= moved < 0.25:  # off the middle of the region landmarks are poor
                    start = face.roi
                    [face] = self.finder.look([self.frames[knot]], [start])
                # Beside the face landmarks still look sure of themselves, so the pictures are compared as well.
                if face and self._moved(face, start) < 0.1 and face.like(track.face) > self.cropper.ALIKE:
                    self._saw(span, knot, face)
                # Gone, changed, or too fast for one stride: walk, to see where the face went, or when.
                elif not all(self._step(span, i) for i in range(edge + step, knot + step, step)):
                    return
                edge = ahead.pop(0)
                if moved >= 0.1:
                    break  # the other looks of the group began too far away

    @staticmethod
    def _moved(face: Face | None, roi: Roi) -> float:
        """How far from the middle of the region it was looked for in, as a part of the region's side."""
        return float(np.hypot(face.roi.x - roi.x, face.roi.y - roi.y)) / roi.side if face else np.inf

    def _step(self, span: _Span, frame: int) -> bool:
        """Look where the face was in the frame before, and once more from where it is now; False if it is gone."""
        roi = span.track.face.roi
        for _ in range(2):
            [face] = self.finder.look([self.frames[frame]], [roi])
            if face is None:
                return False
            moved, roi = self._moved(face, roi), face.roi
        if face is None or moved >= 0.1:
            return False
        self._saw(span, frame, face)
        return True

    def _saw(self, span: _Span, frame: int, face: Face) -> None:
        span.looks[frame] = span.track.face = face
        span.track.last_frame = max(span.track.last_frame, self.start + frame)

    # --- faces that are known already -----------------------------------------------------------------------------

    def _given(self, first: int, last: int, given: list[Face | Roi | None]) -> list[_Span]:
        """Spans of the user's own boxes or landmarks; where there is a box there is a face, even if it is hidden."""
        spans: list[_Span] = []
        for i, item in enumerate(given, start=first):
            run = i > first and given[i - first - 1] is not None  # a run of frames with a face goes on
            if isinstance(item, Roi):
                if run and i not in self.knots and given[i - first + 1] is not None:
                    continue
                item = self.finder.look([self.frames[i]], [item])[0]
            if item is None:
                continue
            if not self.tracks:
                self.tracks = [_Track(self.next_id, self._aligner(), item, self.start + i)]
                self.next_id += 1
            if not spans or not run:
                spans.append(_Span(self.tracks[0], {}, self.tracks[0].aligner))
            spans[-1].looks[i] = item
            self.tracks[0].last_frame = self.start + i
        return spans

    def _aligner(self) -> FaceAligner:
        return FaceAligner(self.cropper.image_size, self.cropper.margin, self.cropper.pixels)


class _Known:
    """Boxes or landmarks that the user brought, by the frames' numbers in the source."""

    def __init__(self, boxes: np.ndarray | None, landmarks: np.ndarray | None):
        if boxes is not None and landmarks is not None:
            raise ValueError("pass boxes or landmarks, not both: landmarks say where the face is")
        self.is_boxes = boxes is not None
        self.values = np.asarray(boxes if self.is_boxes else landmarks, np.float64)
        tail = (4,) if self.is_boxes else (468, 2)
        if self.values.ndim != 1 + len(tail) or self.values.shape[1:] != tail:
            name, shape = ("boxes", "(T, 4)") if self.is_boxes else ("landmarks", "(T, 468, 2)")
            raise ValueError(f"{name} must have shape {shape}, one row per frame read, got {self.values.shape}")
        given = ~np.isnan(self.values.reshape(len(self.values), -1)).any(1)
        corners = self.values.reshape(len(self.values), -1, 2)
        size = corners[:, -1] - corners[:, 0] if self.is_boxes else corners.max(1) - corners.min(1)
        bad = np.flatnonzero(given & ~((size >= 2).all(1) & np.isfinite(corners).all((1, 2))))
        if len(bad):
            what = "left, top, right, bottom" if self.is_boxes else "points of a face"
            raise ValueError(
                f"row {bad[0]} must hold {what} in pixels, or NaN where there is no face, "
                f"got {self.values[bad[0]].reshape(-1)[:4]}"
            )

        self.last, self.step = -1, 1  # number of the last frame that was asked for, largest step between two

    def rows(self, numbers: np.ndarray) -> list[Face | Roi | None]:
        """What is known of the frames with these numbers in the source."""
        if numbers[-1] >= len(self.values):
            number = max(len(self.values), int(numbers[0]))
            raise ValueError(
                f"boxes or landmarks for {len(self.values)} frames, but the video goes on at frame {number}"
            )
        self.step = max(self.step, int(np.diff(numbers, prepend=numbers[0] if self.last < 0 else self.last).max()))
        self.last = int(numbers[-1])
        return [self._at(number) for number in numbers]

    def check_end(self) -> None:
        """Whether the rows end where the video does; resampling may have skipped some at the end."""
        if len(self.values) - 1 - self.last >= self.step:
            raise ValueError(
                f"boxes or landmarks for {len(self.values)} frames, but the last one read has number {self.last}: row "
                "i belongs to frame i of the file, before resampling"
            )

    def _at(self, number: int) -> Roi | Face | None:
        if not np.isfinite(self.values[number]).all():
            return None
        if not self.is_boxes:
            return Face(self.values[number], 1.0)
        left, top, right, bottom = self.values[number]
        return Roi((left + right) / 2, (top + bottom) / 2, 1.5 * max(right - left, bottom - top), 0.0)


def _chunks(batches: Iterable[FrameBatch]) -> Iterator[FrameBatch]:
    """The same frames in batches of a size that depends on the pictures alone, not on how they were read."""
    waiting: list[FrameBatch] = []
    for batch in batches:
        frames = batch.frames
        if not isinstance(frames, torch.Tensor) or frames.dtype != torch.uint8 or frames.shape[3:] != (3,):
            kind = getattr(frames, "dtype", type(frames).__name__)
            raise ValueError(f"frames must be uint8 tensors (N, H, W, 3), got {kind} {tuple(np.shape(frames))}")
        if waiting and frames.shape[1:] != waiting[0].frames.shape[1:]:
            raise ValueError(
                f"all frames must have one size, got {tuple(waiting[0].frames.shape[1:3])} and then "
                f"{tuple(frames.shape[1:3])}"
            )
        waiting.append(batch)
        size = frames_per_batch(*batch.frames.shape[1:3])
        while sum(map(len, waiting)) >= size:
            joined = _join(waiting)
            yield _part(joined, slice(0, size))
            waiting = [_part(joined, slice(size, None))] if len(joined) > size else []
    if waiting:
        yield _join(waiting)


def _join(batches: list[FrameBatch]) -> FrameBatch:
    if len(batches) == 1:
        return batches[0]
    return FrameBatch(
        torch.cat([batch.frames for batch in batches]),
        np.concatenate([batch.time_s for batch in batches]),
        np.concatenate([batch.native_frame for batch in batches]),
    )


def _part(batch: FrameBatch, part: slice) -> FrameBatch:
    return FrameBatch(batch.frames[part], batch.time_s[part], batch.native_frame[part])


__all__ = ["CropBatch", "FaceCropper", "check_faces"]
