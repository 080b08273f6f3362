"""The same synthetic faces in scripts that were never rendered: many more expressions, at next to no cost.

To write what a face does takes a thousandth of the time of rendering it and following it through the video. But
landmarks obey the muscles nearly in a straight line. So those of every video that trains are taken apart by least
squares,

    landmarks[t] = mean + acts[t] @ basis + rest[t]

where `acts` is what the script says and `rest` is what the camera, the compression and FaceMesh make of it. Then the
same face plays other scripts, with the rest of the one that was filmed. The basis is that of all faces, bent towards
what each has shown of its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file

from ..configuration_fedn import FednConfig
from ..data.cache import VideoFeatures
from ..layers_fedn import LANDMARK_MOTION_SCALE, WHOLE_READING, sliding_mean
from ..synthetic.behaviour import Script, write_script
from ..synthetic.statistics import STATISTICS
from .settings import TrainingError

Row = Mapping[str, Any]

_SEED = 9
_DEGREES = 10.0  # of head and eyes count as much as a whole contraction of a muscle
_ALL, _OWN = 1.0, 2.0  # ridges: of the basis of all faces, and of what each adds to it
_RESTLESS_DEG = 20.0  # heads that were seen turned this far may turn so again: what it looks like is known


def reenact(rows: Sequence[Row], folder: str | Path, per_video: int, frame_rate: float) -> list[dict[str, Any]]:
    """
    More rows of the same people, in the parts of the set that they are in.

    Args:
        rows: Of a set that `fedn synth` made, with the landmarks of whole videos (T, 468, 2) as `features`. Those
            whose `split` is "validation" are neither looked at nor played.
        folder: Of the set, with its `truth`.
        per_video: How many scripts each face plays; they follow the statistics of each corpus in turn.
        frame_rate: Of the features.

    Returns:
        Rows as those given, as long as the videos; every frame is one of the video.

    Raises:
        TrainingError: no such set, or no landmarks.

    Example:

    ```python
    >>> from fedn_hf.training import Recipe, video_rows
    >>> from fedn_hf.training.reenactment import reenact

    >>> rows, labels = video_rows("people", Recipe.read("examples/recipes/default.yaml"))  # doctest: +SKIP
    >>> len(rows), len(reenact(rows, "people", per_video=4, frame_rate=30.0))  # doctest: +SKIP
    (100, 320)
    ```
    """
    return [
        _row(row, number, script, features, frame_rate)
        for row, _, plays in _played(rows, folder, per_video, frame_rate)
        for number, (script, features) in enumerate(plays)
    ]


def fit_landmark_reader(
    rows: Sequence[Row], folder: str | Path, per_video: int, config: FednConfig, ridge: float = 1e-7
) -> torch.Tensor:
    """
    How to read muscles from landmarks: the linear map from what landmarks differ by from their slow baseline to what
    the script's acts differ by from theirs, with the least squares over all that the faces did and `reenact`. It knows
    which ways landmarks go together for other reasons, and looks across them: gradients take very long to find that.

    Args:
        rows, folder, per_video: As for `reenact`.
        config: Of the network that it is for: `temporal_difference_frames`, `frame_rate`.
        ridge: Per frame, in squared units of the crop: 1e-7 are some 0.03 pixels. The larger, the less it leans on
            ways of going together that real faces may not share.

    Returns:
        float32 (`LANDMARK_CHANNELS`, 936), the weight of the network's `landmark_reader`.
    """
    radius, squares, products, count = config.temporal_difference_frames // 2, 0.0, 0.0, 0
    for row, known, plays in _played(rows, folder, per_video, config.frame_rate):
        for acts, features in [(known, row["features"]), *((vars(script), features) for script, features in plays)]:
            mask = features.inputs["frame_mask"]
            asked = torch.from_numpy(_muscles(acts)[: len(mask)]).float()
            points, asked = (
                (values - sliding_mean(values[None], mask[None], radius)[0])[mask].double()
                for values in (features.inputs["landmarks"].flatten(1), asked)
            )
            squares, products, count = squares + points.T @ points, products + points.T @ asked, count + len(points)
    ridges = ridge * count * torch.eye(len(squares), dtype=squares.dtype)
    reader = torch.linalg.solve(squares + ridges, products).T
    return (WHOLE_READING / LANDMARK_MOTION_SCALE * reader).float().contiguous()


def _played(
    rows: Sequence[Row], folder: str | Path, per_video: int, frame_rate: float
) -> Iterator[tuple[Row, Mapping[str, np.ndarray], list[tuple[Script, VideoFeatures]]]]:
    """Every row that trains, what is true of its frames, and the scripts that its face plays."""
    rows = [row for row in rows if row["split"] != "validation"]
    takes = [_Take.of(row, Path(folder)) for row in rows]
    basis = _fit(takes, _ALL)
    for person, (row, take) in enumerate(zip(rows, takes, strict=True)):
        own = basis + _fit([replace(take, shown=take.rest(basis))], _OWN)
        plays = []
        for number in range(per_video):
            place = person * per_video + number
            script = write_script(
                (_SEED, place),
                len(take) / frame_rate,
                frame_rate,
                list(STATISTICS.values())[place % len(STATISTICS)],
                person=(_SEED, person),
                restless=bool(np.abs(take.known["head_rotation_deg"]).max() > _RESTLESS_DEG),
            )
            plays.append((script, take.play(script, own, backwards=number % 2 == 1)))
        yield row, take.known, plays


def _row(of: Row, number: int, script: Script, features: VideoFeatures, frame_rate: float) -> dict[str, Any]:
    events = [
        {
            "onset": event.onset_frame,
            "apex": event.apex_frame,
            "offset": event.offset_frame,
            "type": event.type,
            "emotion": event.emotion,
            "self_report": None,
            "action_units": "+".join(map(str, sorted(event.action_units))),
        }
        for event in script.expressions
        if event.offset_frame < len(features)
    ]
    # In the same part of the set as the video: who is kept for testing must not train by another script either.
    row = {"video_id": f"{of['video_id']}_again_{number}", "subject_id": of["subject_id"], "split": of["split"]}
    return {**row, "fps": frame_rate, "num_frames": len(features), "events": events, "features": features}


@dataclass(frozen=True, eq=False)
class _Take:
    """A video that was filmed, T frames: what its script says, and how the landmarks look; float64, around means."""

    known: Mapping[str, np.ndarray]  # the truth, frame by frame
    acts: torch.Tensor  # (T, K); 0 where no face is seen
    shown: torch.Tensor  # (T, 936), likewise
    acts_mean: torch.Tensor
    shown_mean: torch.Tensor
    mask: torch.Tensor  # bool (T,)

    @classmethod
    def of(cls, row: Row, folder: Path) -> "_Take":
        truth, features = folder / "truth" / f"{row['video_id']}.safetensors", row["features"]
        if not truth.is_file():
            raise TrainingError(f"{row['video_id']} cannot act again: there is no {truth}, as fedn synth makes it")
        if "landmarks" not in features.inputs:
            raise TrainingError("faces act again by their landmarks: set model.num_landmarks to 468")
        mask = features.inputs["frame_mask"]
        if not mask.any():
            raise TrainingError(f"{folder}: no face is seen in {row['video_id']}; leave it out")
        known = {name: values[features.native_frame] for name, values in load_file(truth).items()}
        acts = _acts(known)
        shown = features.inputs["landmarks"].flatten(1).double()
        acts_mean, shown_mean = acts[mask].mean(0), shown[mask].mean(0)
        seen = mask[:, None]
        return cls(known, (acts - acts_mean) * seen, (shown - shown_mean) * seen, acts_mean, shown_mean, mask)

    def __len__(self) -> int:
        return len(self.mask)

    def rest(self, basis: torch.Tensor) -> torch.Tensor:
        """(T, 936): what the acts do not explain."""
        return self.shown - self.acts @ basis

    def play(self, script: Script, basis: torch.Tensor, *, backwards: bool) -> VideoFeatures:
        """The same face in another script; what is left of the take runs along, or backwards."""
        rest, mask = self.rest(basis), self.mask
        if backwards:
            rest, mask = rest.flip(0), mask.flip(0)
        acts = _acts(vars(script))
        length = min(len(acts), len(rest))
        shown = self.shown_mean + (acts[:length] - self.acts_mean) @ basis + rest[:length]
        mask = mask[:length].clone()
        landmarks = (shown * mask[:, None]).float().unflatten(1, (-1, 2))
        inputs = {"landmarks": landmarks, "frame_mask": mask, "frame_features": torch.zeros(length, 0)}
        return VideoFeatures(inputs, np.arange(length), np.arange(length) / script.fps)


def _muscles(known: Mapping[str, np.ndarray]) -> np.ndarray:
    """What is read from landmarks, (T, 55), of a script or of the truth of a video."""
    units = known["action_units"].reshape(len(known["action_units"]), -1)
    return np.concatenate([units, known["head_rotation_deg"] / _DEGREES, known["gaze_deg"] / _DEGREES], 1)


def _acts(known: Mapping[str, np.ndarray]) -> torch.Tensor:
    """What moves landmarks, (T, K), likewise."""
    muscles = _muscles(known)
    units, (yaw, pitch, roll) = muscles[:, :-5], muscles[:, -5:-2].T
    turns = np.stack([yaw**2, pitch**2, roll**2, yaw * pitch, yaw * roll, pitch * roll], 1)
    return torch.from_numpy(np.concatenate([muscles, units**2, turns], 1).astype(np.float64))


def _fit(takes: Sequence[_Take], ridge: float) -> torch.Tensor:
    """The basis (K, 936) that explains most of what some takes show."""
    squares = sum(take.acts.T @ take.acts for take in takes)
    return torch.linalg.solve(
        squares + ridge * torch.eye(len(squares), dtype=squares.dtype),
        sum(take.acts.T @ take.shown for take in takes),
    )


__all__ = ["fit_landmark_reader", "reenact"]
