"""Where the faces are in one frame: BlazeFace and FaceMesh with what comes before and after them.

Which frames are looked at, and how looks become tracks and crops, is decided in `face_fedn.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from .face_alignment_fedn import Pose, Region, resize, unit_grid
from .face_nets_fedn import FACE_NETS, load_face_net

RIGHT_EYE, LEFT_EYE = 33, 263  # outer corners, as FaceMesh numbers them


class Roi(NamedTuple):
    """A square turned with the face: centre (x, y) and side in pixels, roll in radians (positive: clockwise)."""

    x: float
    y: float
    side: float
    roll: float


@dataclass(frozen=True)
class Face:
    """Landmarks float64 (468, 2) in pixels of the frame, and the probability that they lie on a face."""

    landmarks: np.ndarray
    presence: float
    patch: np.ndarray | None = None  # a small grey picture of it, of mean 0 and length 1

    @property
    def box(self) -> np.ndarray:
        """(left, top, right, bottom) of the landmarks, in pixels."""
        return np.concatenate([self.landmarks.min(0), self.landmarks.max(0)])

    @property
    def size_px(self) -> float:
        """The longer side of the box in pixels of the frame."""
        left, top, right, bottom = self.box
        return float(max(right - left, bottom - top))

    def like(self, other: "Face") -> float:
        """Correlation of the two pictures: low when the landmarks of one lie beside its face."""
        return float(self.patch @ other.patch)

    def holds(self, roi: Roi) -> bool:
        """Whether the middle of a region lies within this face."""
        left, top, right, bottom = self.box
        return left <= roi.x <= right and top <= roi.y <= bottom

    @property
    def roi(self) -> Roi:
        """Where FaceMesh should look in the next frame: the turned box of the landmarks, half as large again."""
        z = self.landmarks[:, 0] + 1j * self.landmarks[:, 1]
        roll = float(np.angle(z[LEFT_EYE] - z[RIGHT_EYE]))
        upright = z * np.exp(-1j * roll)
        low, high = (upright.real.min(), upright.imag.min()), (upright.real.max(), upright.imag.max())
        centre = (low[0] + high[0] + 1j * (low[1] + high[1])) / 2 * np.exp(1j * roll)
        return Roi(centre.real, centre.imag, 1.5 * max(high[0] - low[0], high[1] - low[1]), roll)


class FaceFinder:
    """BlazeFace and FaceMesh with their pre- and post-processing.

    Args:
        device: where the networks run.
        weights: safetensors file that holds them.
    """

    MIN_SCORE = 0.5  # of a detection
    MIN_PRESENCE = 0.5  # of a face under its landmarks
    MIN_FACE_PX = 32.0  # smaller faces have no expression that could be read

    def __init__(self, device: str | torch.device = "cpu", weights=FACE_NETS):
        path = Path(weights)
        changed_ns = path.stat().st_mtime_ns if path.is_file() else None
        self.short, self.full, self.mesh = _load_nets(str(device), path, changed_ns)
        self.device = torch.device(device)

    def find(
        self, frame: torch.Tensor, besides: Sequence[Face] = (), small: bool = True, far: bool = True
    ) -> list[Face]:
        """Faces of a frame (H, W, 3) uint8, the largest first, `besides` those that are known already.

        Near faces are looked for first; when there are none, or with `small` in any case, smaller ones; and when there
        are still none, with `far` in overlapping tiles, which takes several times as long.
        """
        faces = self._confirm(frame, self._detect(self.short, frame[None]), besides)
        if small or not (faces or besides):
            faces += self._confirm(frame, self._detect(self.full, frame[None]), [*besides, *faces])
        if far and not faces and not besides and min(frame.shape[:2]) >= self.full.input_size:
            tiles, corners = _tiles(frame)
            faces = self._confirm(frame, self._detect(self.full, tiles, corners), besides)
        faces = [face for face in faces if face.size_px >= self.MIN_FACE_PX]
        return sorted(faces, key=lambda face: -face.size_px)

    def look(self, frames: list[torch.Tensor], rois: list[Roi]) -> list[Face | None]:
        """The face under each region of each frame (H, W, 3) uint8, or None."""
        if not frames:
            return []
        size = self.mesh.input_size
        crops = torch.cat(
            [_turned_crop(frame.to(self.device), roi, size) for frame, roi in zip(frames, rois, strict=True)]
        )
        points, presence = self.mesh(crops.contiguous(memory_format=torch.channels_last) / 255)
        points, presence = points[..., :2].cpu().numpy(), presence.sigmoid().cpu().numpy()
        faces = []
        for frame, roi, p, probability in zip(frames, rois, points, presence, strict=True):
            z = (p[:, 0] + 1j * p[:, 1]) / size - (0.5 + 0.5j)
            z = z * roi.side * np.exp(1j * roi.roll) + (roi.x + 1j * roi.y)
            found = probability >= self.MIN_PRESENCE
            face = Face(np.stack([z.real, z.imag], -1), float(probability)) if found else None
            faces.append(face and replace(face, patch=_patch(frame, face.roi)))
        return faces

    def _confirm(self, frame: torch.Tensor, rois: list[Roi], besides: Sequence[Face]) -> list[Face]:
        """Landmarks say whether a detection is a face; a second look from the first landmarks makes them exact."""
        rois = [roi for roi in rois if not any(face.holds(roi) for face in besides)]
        first = [face for face in self.look([frame] * len(rois), rois) if face]
        second = self.look([frame] * len(first), [face.roi for face in first])
        return _distinct([face for face in second if face])

    def _detect(self, net, images: torch.Tensor, corners: torch.Tensor | None = None) -> list[Roi]:
        """images (B, H, W, 3) uint8, all of one picture; `corners` (B, 2) says where each lies in it."""
        height, width = images.shape[1:3]
        size = net.input_size
        scale = size / max(height, width)
        h, w = max(1, round(height * scale)), max(1, round(width * scale))
        top, left = (size - h) // 2, (size - w) // 2
        x = resize(images.to(self.device).permute(0, 3, 1, 2), h, w).float()
        x = F.pad(x / 127.5 - 1, (left, size - w - left, top, size - h - top), value=-1.0)
        boxes, logits = net(x.contiguous(memory_format=torch.channels_last))
        scores = logits.clamp(-80, 80).sigmoid().cpu()
        tile, anchor = torch.nonzero(scores >= self.MIN_SCORE, as_tuple=True)
        # Each: centre, width and height, then six points (right eye, left eye, nose, mouth, ears), in input pixels.
        values = boxes.cpu()[tile, anchor].reshape(-1, 8, 2)
        values[:, [0, 2, 3, 4, 5, 6, 7]] += net.anchors.cpu()[anchor][:, None] * size
        values[:, [0, 2, 3, 4, 5, 6, 7]] -= torch.tensor([left, top])
        values *= torch.tensor([width / w, height / h])
        if corners is not None:
            values[:, [0, 2, 3, 4, 5, 6, 7]] += corners[tile][:, None]
        return _merge_detections(values.numpy(), scores[tile, anchor].numpy())


@lru_cache(maxsize=1)
def _load_nets(device: str, weights: Path, changed_ns: int | None) -> list:
    """The three networks, once for all videos: nothing changes them, and loading takes as long as ten frames."""
    names = ("blazeface_short_range", "blazeface_full_range", "facemesh468")
    return [load_face_net(name, device, weights) for name in names]


def _patch(frame: torch.Tensor, roi: Roi, size: int = 24) -> np.ndarray:
    """Brightness at size * size points of a region, whole pixels without a filter, of mean 0 and length 1."""
    steps = (np.arange(size) + 0.5) / size - 0.5
    z = (steps[None] + 1j * steps[:, None]) * roi.side * np.exp(1j * roi.roll) + (roi.x + 1j * roi.y)
    rows = torch.from_numpy(np.clip(z.imag, 0, frame.shape[0] - 1).astype(np.int64).ravel())
    columns = torch.from_numpy(np.clip(z.real, 0, frame.shape[1] - 1).astype(np.int64).ravel())
    grey = frame[rows, columns].float().mean(-1).cpu().numpy()
    grey = grey - grey.mean()
    return grey / max(float(np.linalg.norm(grey)), 1e-6)


def _merge_detections(values: np.ndarray, scores: np.ndarray) -> list[Roi]:
    """Average overlapping detections (M, 8, 2) by score, best first, into regions for FaceMesh."""
    rois = []
    boxes = np.concatenate([values[:, 0] - values[:, 1] / 2, values[:, 0] + values[:, 1] / 2], 1)
    left = np.argsort(-scores)
    while len(left):
        same = overlap(boxes[left[0]], boxes[left]) > 0.3
        same[0] = True
        group = left[same]
        mean = np.average(values[group], axis=0, weights=scores[group])
        eyes = mean[3] - mean[2]
        rois.append(Roi(*mean[0], 1.5 * mean[1].max(), float(np.arctan2(eyes[1], eyes[0]))))
        left = left[~same]
    return rois


def _distinct(faces: list[Face]) -> list[Face]:
    """Without those that lie on a surer one."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: -face.presence):
        if all(overlap(face.box, other.box[None])[0] < 0.3 for other in kept):
            kept.append(face)
    return kept


def overlap(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Intersection over union of a box (4,) with boxes (M, 4): (M,)."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    shared = np.prod(np.clip(high - low, 0, None), 1)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], 1) + np.prod(box[2:] - box[:2])
    return shared / np.maximum(areas - shared, 1e-9)


def _tiles(frame: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Overlapping squares (B, side, side, 3) of two thirds of the shorter side, and their corners (B, 2) as (x, y)."""
    height, width = frame.shape[:2]
    side = max(1, min(height, width) * 2 // 3)
    ys, xs = (
        np.linspace(0, length - side, int(np.ceil((length - side) / (0.6 * side))) + 1).astype(int)
        for length in (height, width)
    )
    corners = [(x, y) for y in ys for x in xs]
    return torch.stack([frame[y : y + side, x : x + side] for x, y in corners]), torch.tensor(corners)


def _turned_crop(frame: torch.Tensor, roi: Roi, size: int) -> torch.Tensor:
    """The region of a frame (H, W, 3) uint8, upright, as (1, 3, size, size) float32 from 0 to 255."""
    centre = np.array([roi.x + 1j * roi.y])
    a = roi.side * np.exp(1j * np.array([roi.roll]))
    reach = (abs(a.real) + abs(a.imag)).item() / 2 + 2  # to the corners of the turned square
    # Up to half the resolution plain sampling is good enough for landmarks.
    spacing = roi.side / (1.4 * size) if roi.side > 2 * size else 1.0
    region = Region.cut(frame[None], centre, reach, spacing)
    return region.at(Pose(a, centre - a * (0.5 + 0.5j)), unit_grid(size, frame.device)).reshape(1, 3, size, size)


__all__ = ["Face", "FaceFinder", "Roi", "overlap"]
