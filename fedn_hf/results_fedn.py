"""What one pass of the network over a video leaves, and the table of expressions that is made of it.

`FednDetections` is small, is all that is ever needed again, and can be saved: thresholds change without the network.
`describe()` gives everything about a result as plain JSON data; `fedn_hf.annotation` makes an object of it.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from .files_fedn import replacing
from .media_fedn import FednError
from .postprocessing_fedn import (
    FednIntervals,
    FednProposals,
    find_intervals,
    to_inclusive,
    type_scores,
    without_doubles,
)

# Version of the data that `describe` gives and of the raw files; raised when a reader must know.
SCHEMA = 1
MAX_BYTES = 4 * 2**30  # of a raw file; a day of video with several faces has a tenth of it
_COVERAGE = ("mask", "confidence", "face_size_px", "fit")


@dataclass(frozen=True)
class FaceDetections:
    """
    The network's raw outputs for one face, from the frame in which it first appears to that in which it last does.

    face_id: number of the face.
    first_frame: position in the video (in frames as read) of the face's frame 0.
    proposals: [`FednProposals`] of its N frames.
    mask (N,): bool, where the face can be seen.
    confidence, face_size_px, fit (N,): float32, as in `CropBatch`; 0 where it cannot be seen.

    Example:

    ```python
    >>> import torch
    >>> from fedn_hf import FaceDetections, FednProposals

    >>> proposals = FednProposals(torch.zeros(0, 2), torch.tensor(8), torch.zeros(0), torch.zeros(0, 2))
    >>> FaceDetections(0, 64, proposals, torch.ones(8).bool(), *torch.ones(3, 8)).frames
    slice(64, 72, None)
    ```
    """

    face_id: int
    first_frame: int
    proposals: FednProposals
    mask: torch.Tensor
    confidence: torch.Tensor
    face_size_px: torch.Tensor
    fit: torch.Tensor

    @property
    def frames(self) -> slice:
        """Its frames among those of the video."""
        return slice(self.first_frame, self.first_frame + len(self.mask))


@dataclass(frozen=True)
class FednDetections:
    """
    Everything that the network said about a video.

    video: path, container, width, height, fps, duration_s, num_frames, as declared; start_s, end_s: what was read;
        truncated_at_s: where a damaged file ended, or None.
    labels, types: names of the emotion classes (empty if the network has none) and of the expression types.
    score_threshold: the checkpoint's default.
    provenance: versions, model, revision, device, dtype, settings of the crops.
    time_s, native_frame (T,): of every frame that was read, float64 and int64, as in `FrameBatch`.
    faces: one [`FaceDetections`] for each face, in order of appearance.

    Example:

    ```python
    >>> import torch
    >>> from fedn_hf.results_fedn import FednDetections

    >>> nobody = FednDetections({"path": "a.mp4"}, ["anger"], ["macro", "micro"], 0.5, {}, torch.arange(9) / 25,
    ...                         torch.arange(9), [])
    >>> nobody.expressions()
    []
    ```
    """

    video: dict[str, Any]
    labels: list[str]
    types: list[str]
    score_threshold: float
    provenance: dict[str, Any]
    time_s: torch.Tensor
    native_frame: torch.Tensor
    faces: list[FaceDetections]

    def expressions(
        self,
        *,
        score_threshold: float | None = None,
        types: str | Collection[str] | None = None,
        labels: str | Collection[str] | None = None,
        min_duration_s: float = 0.0,
        max_duration_s: float = float("inf"),
        nms: Literal["soft", "hard"] = "soft",
        score_thresholds: Mapping[str, float] | None = None,
    ) -> list[dict[str, Any]]:
        """
        The expressions, in order of onset; what is found twice, as both types or in part, is there once, as
        [`~postprocessing_fedn.without_doubles`] says.

        Args:
            score_threshold (`float`, *optional*): Lowest score, 0 to 1; the checkpoint's own by default.
            types, labels (`str` or list of `str`, *optional*): Only expressions of these types and labels. The others
                are left out at the end: what is kept does not depend on what is asked for.
            min_duration_s, max_duration_s (`float`): Shortest and longest expression in seconds.
            nms (`str`): "soft" or "hard", see `postprocessing_fedn.suppress`.
            score_thresholds (`dict`, *optional*): Lowest scores by type, in place of one for all.

        Returns:
            `list[dict]`, each with `label` (`None` if the network has none), `score`, `type`, `onset_s`, `apex_s`,
            `offset_s` (seconds, in this order of time; the offset is the end of the last frame), `onset_frame`,
            `apex_frame`, `offset_frame` (0-based numbers in the file, inclusive), `face_id`, and `label_scores`.

        Raises:
            `ValueError`: a type or label that the network does not know, or numbers out of range.
        """
        check_settings(score_threshold, min_duration_s, max_duration_s, nms)
        wanted = {"type": chosen("types", types, self.types), "label": chosen("labels", labels, self.labels)}
        usual = self.score_threshold if score_threshold is None else score_threshold
        lowest = [(score_thresholds or {}).get(name, usual) for name in self.types]
        found: list[dict[str, Any]] = []
        for face in self.faces:
            intervals = find_intervals(
                face.proposals,
                times=self.time_s[face.frames],
                score_threshold=min(lowest),
                nms=nms,
                min_duration_s=min_duration_s,
                max_duration_s=max_duration_s,
            )
            sure = intervals.score >= torch.tensor(lowest)[intervals.type]
            found += self._rows(face, without_doubles(intervals[sure]))
        found = [row for row in found if all(keep is None or row[key] in keep for key, keep in wanted.items())]
        return sorted(found, key=lambda row: (row["onset_s"], row["face_id"]))

    def _rows(self, face: FaceDetections, found: FednIntervals) -> Iterator[dict[str, Any]]:
        native = self.native_frame[face.frames]
        onset, offset = (frames.clamp(0, len(native) - 1) for frames in to_inclusive(found.frames))
        apex = torch.minimum(torch.maximum(found.apex_frames.floor().long(), onset), offset)
        for row in range(len(found)):
            scores = [] if found.label_scores is None else found.label_scores[row].tolist()
            yield {
                "label": None if found.label is None else self.labels[int(found.label[row])],
                "score": float(found.score[row]),
                "type": self.types[int(found.type[row])],
                "onset_s": float(found.start_s[row]),
                "apex_s": float(found.apex_s[row]),
                "offset_s": float(found.end_s[row]),
                "onset_frame": int(native[onset[row]]),
                "apex_frame": int(native[apex[row]]),
                "offset_frame": int(native[offset[row]]),
                "face_id": face.face_id,
                "label_scores": dict(zip(self.labels, scores, strict=True)) if scores else {},
            }

    def curves(self) -> list[dict[str, Any]]:
        """
        What people plot: for each face, `face_id`, `time_s` of its frames, `score`, the highest score of any
        interval that covers a frame, and, from a network that has it, `intensity` (0 at rest, 1 at an apex). Both are
        between 0 and 1, and `None` where the face cannot be seen.
        """
        curves = []
        for face in self.faces:
            seen = face.mask.tolist()
            curve = {"face_id": face.face_id, "time_s": self.time_s[face.frames].tolist()}
            values = {"score": _covering_score(face.proposals)}
            if face.proposals.intensity is not None:
                values["intensity"] = face.proposals.intensity
            for name, numbers in values.items():
                pairs = zip(numbers.double().tolist(), seen, strict=True)
                curve[name] = [round(number, 4) if visible else None for number, visible in pairs]
            curves.append(curve)
        return curves

    def coverage(self) -> list[dict[str, Any]]:
        """
        Where there was a face: runs of frames without a break, in order of time, as `face_id`, `start_s`, `end_s`,
        `frames`, and the means of `confidence` (0 to 1), `face_size_px` and `fit` (0 to 1).
        """
        rows = []
        edges = torch.cat((self.time_s, self.time_s[-1:] + _frame_s(self.time_s)))
        for face in self.faces:
            steps = torch.nn.functional.pad(face.mask.int(), (1, 1)).diff()
            for start, stop in zip((steps == 1).nonzero()[:, 0], (steps == -1).nonzero()[:, 0], strict=True):
                means = {name: round(float(getattr(face, name)[start:stop].mean()), 4) for name in _COVERAGE[1:]}
                first = face.first_frame
                rows.append(
                    {
                        "face_id": face.face_id,
                        "start_s": float(edges[first + start]),
                        "end_s": float(edges[first + stop]),
                        "frames": int(stop - start),
                        **means,
                    }
                )
        return sorted(rows, key=lambda row: (row["start_s"], row["face_id"]))

    def describe(self, **settings) -> dict[str, Any]:
        """
        The whole result as JSON data: `schema`, `video`, `intervals` (see `expressions`, which takes the same
        `settings`), `coverage`, `curves`, `provenance`.
        """
        used = {"score_threshold": self.score_threshold, **{k: v for k, v in settings.items() if v is not None}}
        return {
            "schema": SCHEMA,
            "video": self.video,
            "labels": self.labels,
            "types": self.types,
            "intervals": self.expressions(**settings),
            "coverage": self.coverage(),
            "curves": self.curves(),
            "provenance": {**self.provenance, "settings": {k: _plain(v) for k, v in used.items()}},
        }

    def save(self, path: str | Path) -> None:
        """Write everything into one safetensors file, which `load` reads."""
        content = self.to_bytes()
        with replacing(path) as unfinished:
            unfinished.write_bytes(content)  # the library's own writer hides the file from everybody else

    def to_bytes(self) -> bytes:
        """The content of the file that `save` writes."""
        tensors = {"time_s": self.time_s, "native_frame": self.native_frame}
        for place, face in enumerate(self.faces):
            tensors |= {f"{place}.proposals.{name}": values for name, values in face.proposals.to_dict().items()}
            tensors |= {f"{place}.coverage.{name}": getattr(face, name) for name in _COVERAGE}
        facts = {name: getattr(self, name) for name in ("video", "labels", "types", "score_threshold", "provenance")}
        facts["faces"] = [{"face_id": face.face_id, "first_frame": face.first_frame} for face in self.faces]
        # One entry: the library writes several in an order that changes from time to time.
        metadata = {"fedn_detections": json.dumps({"schema": SCHEMA, **facts})}
        return save({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata)

    @classmethod
    def load(cls, path: str | Path) -> "FednDetections":
        """
        Read what `save` wrote.

        Raises:
            `FednError`: no such file, another kind of file, or a damaged one.
        """
        try:
            if Path(path).stat().st_size > MAX_BYTES:
                raise FednError(f"{path}: larger than the {MAX_BYTES} bytes that are read")
            content = Path(path).read_bytes()
        except OSError as error:
            reason = "no such file" if isinstance(error, FileNotFoundError) else "not a file of raw detections"
            raise FednError(f"{path}: {reason}; `fedn detect --save-raw` writes them") from error
        return cls.from_bytes(content, path)

    @classmethod
    def from_bytes(cls, content: bytes, name: str | Path = "<bytes>") -> "FednDetections":
        """
        From what `to_bytes` gave; `name` is for messages.

        Raises:
            `FednError`: other bytes, or damaged ones.
        """
        try:
            tensors = load(content)
            header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
            facts = dict(json.loads(header["__metadata__"]["fedn_detections"]))
            if facts.pop("schema") > SCHEMA:
                raise FednError(f"{name}: written by a newer version of fedn_hf; install that to read it")
            faces = []
            for place, known in enumerate(facts.pop("faces")):
                mine: dict[str, Any] = {
                    kind: {k.split(".")[2]: v for k, v in tensors.items() if k.startswith(f"{place}.{kind}.")}
                    for kind in ("proposals", "coverage")
                }
                faces.append(FaceDetections(**known, proposals=FednProposals(**mine["proposals"]), **mine["coverage"]))
            found = cls(**facts, time_s=tensors["time_s"], native_frame=tensors["native_frame"], faces=faces)
            _check(found)
            return found
        except (SafetensorError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            raise FednError(f"{name}: not a file of raw detections; `fedn detect --save-raw` writes them") from error


def _check(found: FednDetections) -> None:
    """Raise a `ValueError` for parts of a file that do not go together: nothing that follows would find them."""
    texts = [found.video.get("path", ""), *found.labels, *found.types]
    score, facts = found.score_threshold, (found.video, found.provenance)
    if len(found.types) != 2 or not all(isinstance(text, str) for text in texts) or not isinstance(score, Real):
        raise ValueError("names or thresholds of another kind")
    if not all(isinstance(one, dict) for one in facts) or len(json.dumps(facts)) > 2**20:
        raise ValueError("facts of another kind")
    count, times = len(found.native_frame), found.time_s
    if found.native_frame.dtype != torch.int64 or not times.is_floating_point() or times.shape != (count,):
        raise ValueError("tables of times of another kind")
    if not times.isfinite().all() or (times.diff() < 0).any() or (found.native_frame < 0).any():
        raise ValueError("times that are none")
    for face in found.faces:
        proposals, frames = face.proposals.to_dict(), len(face.mask)
        if (
            not isinstance(face.face_id, int)
            or not 0 <= face.first_frame <= count - frames
            or face.mask.dtype != torch.bool
        ):
            raise ValueError("a face outside of the video")
        if int(proposals["num_frames"]) != frames or not {"confidence", "type_logits"} <= proposals.keys():
            raise ValueError("proposals of other frames, or without scores")
        each = len(proposals["boundaries"])
        shapes = {"boundaries": (each, 2), "num_frames": (), "confidence": (each,), "type_logits": (each, 2)}
        shapes |= {"logits": (each, len(found.labels)), "intensity": (frames,)}
        known = [(values, shapes[name]) for name, values in proposals.items()]
        known += [(getattr(face, name), (frames,)) for name in _COVERAGE]
        if any(values.shape != shape or not values.isfinite().all() for values, shape in known):
            raise ValueError("tensors of other shapes, or numbers that are none")


def check_settings(
    score_threshold: float | None = None,
    min_duration_s: float = 0.0,
    max_duration_s: float = float("inf"),
    nms: str = "soft",
) -> None:
    """Raise a `ValueError` that quotes the value for settings that no result could follow."""
    given = {"min_duration_s": min_duration_s, "max_duration_s": max_duration_s}
    given |= {} if score_threshold is None else {"score_threshold": score_threshold}
    for name, value in given.items():
        if not isinstance(value, Real):
            raise ValueError(f"{name} must be a number, got {value!r}")
    if score_threshold is not None and not 0 <= score_threshold <= 1:
        raise ValueError(f"score_threshold must lie between 0 and 1, got {score_threshold!r}")
    if not 0 <= min_duration_s <= max_duration_s:
        raise ValueError(
            "0 <= min_duration_s <= max_duration_s must hold, got "
            f"min_duration_s={min_duration_s!r}, max_duration_s={max_duration_s!r}"
        )
    if nms not in ("soft", "hard"):
        raise ValueError(f'nms must be "soft" or "hard", got {nms!r}')


def chosen(name: str, wanted: str | Collection[str] | None, known: list[str]) -> set[str] | None:
    """One name or several as a set, `None` for all; a `ValueError` if one of them is not known."""
    if wanted is None:
        return None
    names = {wanted} if isinstance(wanted, str) or not isinstance(wanted, Collection) else set(wanted)
    if names - set(known):
        unknown = ", ".join(sorted(map(str, names - set(known))))
        raise ValueError(f"{name} must be among {', '.join(known) or 'none (the network has none)'}, got {unknown}")
    return names


def _plain(value: Any) -> Any:
    """JSON has no infinity and no sets."""
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return sorted(value) if isinstance(value, (set, frozenset, tuple)) else value


def _frame_s(time_s: torch.Tensor) -> torch.Tensor:
    """How long the last frame lasts: as long as the median one."""
    steps = time_s.diff()
    return steps[steps > 0].median() if (steps > 0).any() else time_s.new_tensor(1 / 30)


def _covering_score(proposals: FednProposals) -> torch.Tensor:
    """For each frame the highest score of the proposals that cover its middle, (N,)."""
    count = int(proposals.num_frames)
    scores = torch.zeros(count)
    highest = type_scores(proposals).amax(-1)
    order = highest.argsort()
    spans = (proposals.boundaries[order] - 0.5).ceil().long().clamp(0, count)
    # The surest come last and stay.
    for (start, stop), score in zip(spans.tolist(), highest[order].tolist(), strict=True):
        scores[start:stop] = score
    return scores


__all__ = ["SCHEMA", "FaceDetections", "FednDetections", "check_settings", "chosen"]
