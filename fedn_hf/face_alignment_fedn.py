"""Steady crops: where the rigid part of one face is in every frame, to a hundredth of a pixel, and the crops there.

Landmarks shake by 0.1 to 0.4 pixels from frame to frame and lean by up to a pixel while somebody smiles or blinks; a
micro-expression moves skin by about one pixel. So landmarks only say roughly where a face is. What moves the crop is
direct registration: every frame is matched to a template of the same face on the nose bridge and the forehead, where
the skin hardly moves, with weights that let go of whatever moves all the same. A slow correction keeps this path where
the landmarks have it on average, so nothing drifts:

    crop pose = registered pose o low-pass(registered pose^-1 o landmark pose)

The motion itself is not filtered and so has no lag, which is what a zero-phase filter of the landmarks would be for.
The low-pass acts on a difference that is constant but for noise; it is a robust running mean (a smile that pulls the
landmarks for seconds counts as an outlier), interpolated over the frames that are handed over together, which bounds
the look-ahead to one chunk.

Poses are similarity transforms in complex numbers, z = a q + b, from face coordinates q (origin between the eyes,
unit the distance of the outer eye corners, x to the subject's left, y down) to pixels z of the frame.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F

from .face_motion_fedn import SteadyLandmarks

# FaceMesh landmarks on eye corners, nose bridge, forehead and temples, and where they lie in face coordinates: means
# over upright neutral faces, made symmetric.
RIGID_LANDMARKS = {
    33: -0.5 + 0j,
    133: -0.195 + 0.018j,
    362: 0.195 + 0.018j,
    263: 0.5 + 0j,
    168: -0.036j,
    6: 0.052j,
    197: 0.139j,
    9: -0.213j,
    151: -0.418j,
    10: -0.609j,
    127: -0.769 + 0.047j,
    356: 0.769 + 0.047j,
    21: -0.725 - 0.268j,
    251: 0.725 - 0.268j,
    54: -0.662 - 0.398j,
    284: 0.662 - 0.398j,
}
FACE_CENTRE = 0.33j  # half-way from the top of the forehead to the chin
FACE_HEIGHT = 1.95


@dataclass(frozen=True)
class Pose:
    """Similarity transforms z = a q + b of N frames: complex128 arrays `a` (size, roll), `b` (place) of (N,)."""

    a: np.ndarray
    b: np.ndarray

    def __len__(self) -> int:
        return len(self.a)

    def __getitem__(self, index) -> "Pose":
        return Pose(np.atleast_1d(self.a[index]), np.atleast_1d(self.b[index]))

    def __call__(self, q: np.ndarray) -> np.ndarray:
        """Points q, complex (N,), of the face in the picture: pixels x + iy."""
        return self.a * q + self.b

    def after(self, other: "Pose") -> "Pose":
        """First `other`, then this."""
        return Pose(self.a * other.a, self.a * other.b + self.b)

    def inverse(self) -> "Pose":
        """From the picture to the face."""
        return Pose(1 / self.a, -self.b / self.a)

    def at(self, index: np.ndarray, wanted: np.ndarray) -> "Pose":
        """Poses at `wanted` frames, between those known at the rising frames `index`."""
        log_a = np.log(np.abs(self.a)) + 1j * np.unwrap(np.angle(self.a))
        return Pose(np.exp(np.interp(wanted, index, log_a)), np.interp(wanted, index, self.b))

    @property
    def face_size_px(self) -> np.ndarray:
        """Height of the face from the top of the forehead to the chin, in pixels."""
        return np.abs(self.a) * FACE_HEIGHT


def fit_pose(landmarks: np.ndarray) -> Pose:
    """Least-squares pose of landmarks (N, 468, 2) in pixels, from the rigid ones alone."""
    q = np.array(list(RIGID_LANDMARKS.values()))
    points = np.asarray(landmarks, np.float64)[:, list(RIGID_LANDMARKS)]
    z = points[..., 0] + 1j * points[..., 1]
    q_mean, z_mean = q.mean(), z.mean(1)
    a = ((z - z_mean[:, None]) * np.conj(q - q_mean)).sum(1) / (np.abs(q - q_mean) ** 2).sum()
    return Pose(a, z_mean - a * q_mean)


def sample(
    images: torch.Tensor, pose: Pose, q: torch.Tensor, origin: complex = 0, factor: np.ndarray | float = 1.0
) -> torch.Tensor:
    """Bilinear values (N, C, P) of images (N, C, h, w) at the points q (P, 2) of poses in pixels of the frame.

    `origin` is where the images lie in the frame, `factor` how many frame pixels one of their pixels is, along x and
    y. Beyond the images their edges go on.
    """
    scale = 2 / (np.array(images.shape[:-3:-1]) * factor)  # to grid_sample's -1 to 1
    b = pose.b - origin
    columns = [[pose.a.real, -pose.a.imag, b.real], [pose.a.imag, pose.a.real, b.imag]]
    matrices = np.transpose(columns, (2, 1, 0)) * scale  # (N, 3, 2)
    matrices[:, 2] -= 1
    grid = torch.cat([q, torch.ones_like(q[:, :1])], 1) @ torch.from_numpy(matrices).to(q)  # (N, P, 2)
    values = F.grid_sample(images, grid[:, None], mode="bilinear", padding_mode="border", align_corners=False)
    return values[:, :, 0]


def resize(images: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Images (N, C, h, w) uint8 at another size, filtered: as bytes on the CPU, where that is fastest."""
    images = images if images.device.type == "cpu" else images.float()
    return F.interpolate(images, (height, width), mode="bilinear", antialias=True)


def to_units(crop: Pose, points: np.ndarray) -> np.ndarray:
    """Points (N, P, 2) in pixels of the frames in the units of their crops, float32."""
    z = (points[..., 0] + 1j * points[..., 1] - crop.b[:, None]) / crop.a[:, None]
    return np.stack([z.real, z.imag], -1).astype(np.float32)


def crop_transforms(crop: Pose, image_size: int) -> np.ndarray:
    """Matrices (N, 2, 3) from crop pixels to frame pixels, of poses from crop units to frame pixels."""
    a, b = crop.a / image_size, crop.b
    return np.stack([np.stack([a.real, -a.imag, b.real], -1), np.stack([a.imag, a.real, b.imag], -1)], 1)


def _between(index: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Linear interpolation of values (K, ...), known at the rising frames `index`, at the frames `wanted`."""
    right = np.clip(np.searchsorted(index, wanted), 1, max(1, len(index) - 1))
    if len(index) == 1:
        return np.repeat(values, len(wanted), 0)
    left = right - 1
    share = (wanted - index[left]) / (index[right] - index[left])
    share = share.reshape(-1, *[1] * (values.ndim - 1)).astype(values.dtype)
    return values[left] * (1 - share) + values[right] * share


@dataclass
class Region:
    """A part of consecutive frames, scaled down to the resolution that is wanted of it."""

    images: torch.Tensor  # (N, 3, h, w) float32, 0 to 255
    origin: complex  # upper left corner in pixels of the frame
    factor: np.ndarray  # (2,) frame pixels per region pixel, along x and y; equal but for rounding

    @classmethod
    def cut(cls, frames: torch.Tensor, centre: np.ndarray, half: float, spacing: float) -> "Region":
        """Squares around the centres (N,) of frames (N, H, W, 3) uint8, all `half` pixels to every side.

        What is finer than `spacing` pixels is filtered out. Scaling works on bytes: a large face in floats would be
        many times the size of the batch.
        """
        height, width = frames.shape[1:3]
        left, right = _bounds((centre.real - half).min(), (centre.real + half).max(), width)
        top, bottom = _bounds((centre.imag - half).min(), (centre.imag + half).max(), height)
        part = frames[:, top:bottom, left:right].permute(0, 3, 1, 2)
        size = np.array([right - left, bottom - top])
        if spacing > 1:
            wanted = np.maximum(8, np.round(size / spacing)).astype(int)
            part = resize(part, int(wanted[1]), int(wanted[0]))
        return cls(part.float(), complex(left, top), size / np.array([part.shape[3], part.shape[2]]))

    @cached_property
    def grey(self) -> torch.Tensor:
        """Brightness, (N, 1, h, w)."""
        red, green, blue = self.images.unbind(1)
        return red.mul(0.299).add_(green, alpha=0.587).add_(blue, alpha=0.114)[:, None]

    def at(self, pose: "Pose", q: torch.Tensor) -> torch.Tensor:
        """Colours (N, 3, P) of points q (P, 2), by poses in pixels of the frame."""
        return sample(self.images, pose, q, self.origin, self.factor)


def _bounds(low: float, high: float, length: int) -> tuple[int, int]:
    """Whole pixels from low to high, within the picture and at least 8 of them where it has as many."""
    first = int(np.clip(np.floor(low), 0, max(0, length - 8)))
    return first, int(np.clip(np.ceil(high), min(first + 8, length), length))


def unit_grid(size: int, device: torch.device) -> torch.Tensor:
    """Centres (size * size, 2) of a square grid over the unit square, row by row."""
    centres = (torch.arange(size, device=device) + 0.5) / size
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    return torch.stack([x, y], -1).reshape(-1, 2)


@dataclass
class _Grey:
    """Brightness of a part of a region's frames, averaged over blocks so that nothing finer than a spacing is left."""

    region: Region
    image: torch.Tensor
    block: int

    @classmethod
    def of(cls, region: Region, part: slice, pose: Pose, step: float) -> "_Grey":
        """`part` picks the frames, `pose` says how large the face is, `step` is the spacing in face units."""
        grey = region.grey[part]
        block = int(np.clip(step * np.abs(pose.a).mean() / region.factor.max(), 1, min(grey.shape[-2:]) // 2))
        return cls(region, F.avg_pool2d(grey, block) if block > 1 else grey, block)

    def at(self, pose: Pose, q: torch.Tensor) -> torch.Tensor:
        """Values (N, P) at face points q (P, 2), by poses in pixels of the frame."""
        return sample(self.image, pose, q, self.region.origin, self.region.factor * self.block)[:, 0]


class _Template:
    """A face to register to (Baker and Matthews, Lucas-Kanade 20 Years On, IJCV 2004: inverse compositional).

    Similarity (4 parameters) with gain and offset of brightness, Gauss-Newton, coarse to fine; Geman-McClure weights
    take out eyelids, brows, cheeks and fingers as soon as they differ from the template.
    """

    LEVELS = ((0.05, 4), (0.025, 6))  # (spacing of the points in face units, iterations at most)
    CONVERGED = 4e-4  # face units; about 0.02 pixels of a crop of 112

    def __init__(self, region: Region, index: int, pose: Pose):
        """From frame `index` of the region, where the face has `pose` (1 entry)."""
        self.levels = []
        only = slice(index, index + 1)
        for step, iterations in self.LEVELS:
            q, weight = _rigid_points(step, region.images.device)
            offsets = q.new_tensor([[0, 0], [step, 0], [-step, 0], [0, step], [0, -step]])
            values = _Grey.of(region, only, pose, step).at(pose, (q[None] + offsets[:, None]).reshape(-1, 2))
            here, right, left, below, above = values.reshape(5, -1)
            gx, gy = (right - left) / (2 * step), (below - above) / (2 * step)
            x, y = (q - q.new_tensor([0.0, FACE_CENTRE.imag])).T
            jacobian = torch.stack([gx, gy, gx * x + gy * y, gy * x - gx * y, *_light(here, q).T], -1)
            squares = (jacobian[:, :, None] * jacobian[:, None]).flatten(1)
            self.levels.append((step, iterations, q, weight, here, jacobian, squares))

    def register(self, region: Region, part: slice, start: Pose) -> tuple[Pose, np.ndarray]:
        """Poses (N) from first guesses, and how well each frame fits: correlation (N,)."""
        pose = start
        for step, *level in self.levels:
            pose, fit = self._refine(_Grey.of(region, part, start, step), pose, *level)
        return pose, fit

    def _refine(self, grey: _Grey, pose, iterations, q, weight, here, jacobian, squares) -> tuple[Pose, np.ndarray]:
        shades = _light(here, q)
        # By normal equations: `lstsq` answers differently, in the last digits, from one call to the next.
        weighted = (weight[:, None] * shades).double()  # (P, 4)
        normal = weighted.T @ shades.double()
        normal += 1e-9 * normal.diagonal().mean() * torch.eye(4).to(normal)
        right_side = (grey.at(pose, q) - here).double() @ weighted
        light = torch.linalg.solve(normal, right_side.T).T.to(here.dtype)  # (N, 4)
        for _ in range(iterations):
            values = grey.at(pose, q)
            difference = values - here
            residual = (difference - light @ shades.T).abs()
            scale = 1.5 * (weight * residual).sum(1, keepdim=True) / weight.sum() + 1.0
            robust = weight / (1 + (residual / scale) ** 2) ** 2
            normal = (robust @ squares).unflatten(1, (8, 8)).double()
            ridge = 1e-9 * normal.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]
            right_side = ((robust * difference) @ jacobian).double()
            step = torch.linalg.solve(normal + ridge * torch.eye(8).to(normal), right_side)
            light = step[:, 4:].to(here.dtype)
            move = step[:, :4].cpu().numpy()
            turn, shift = 1 + move[:, 2] + 1j * move[:, 3], move[:, 0] + 1j * move[:, 1]
            # The template fits the frame moved by this much; take the move back before the pose.
            back = Pose(1 / turn, FACE_CENTRE - (FACE_CENTRE + shift) / turn)
            pose = pose.after(back)
            if max(np.abs(shift).max(), np.abs(turn - 1).max()) < self.CONVERGED:
                break
        return pose, _correlation(values, here, weight)


def _rigid_points(step: float, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Points (P, 2) on the nose bridge and the forehead, and their weights (P,)."""
    y, x = torch.meshgrid(torch.arange(-0.65, 0.6, step), torch.arange(-0.7, 0.7001, step), indexing="ij")
    bridge = torch.exp(-((x / 0.13) ** 2 + ((y - 0.1) / 0.22) ** 2) / 2)
    forehead = 0.7 * torch.exp(-((x / 0.3) ** 2 + ((y + 0.45) / 0.12) ** 2) / 2)
    weight = bridge + forehead
    keep = weight > 0.1
    return torch.stack([x[keep], y[keep]], -1).to(device), weight[keep].to(device)


def _light(here: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """How brightness may change at P points without anything moving, (P, 4): offset, gain, gain from side to side."""
    return torch.stack([torch.ones_like(here), here, here * q[:, 0], here * q[:, 1]], -1)


def _correlation(values: torch.Tensor, here: torch.Tensor, weight: torch.Tensor) -> np.ndarray:
    w = weight / weight.sum()
    a, b = values - (w * values).sum(1, keepdim=True), here - (w * here).sum()
    ab, aa, bb = ((w * product).sum(-1) for product in (a * b, a * a, b * b))
    return (ab / (aa * bb + 1e-6).sqrt()).cpu().numpy()


@dataclass(frozen=True)
class AlignedFaces:
    """One face in N consecutive frames.

    Args:
        crops: uint8 (N, S, S, 3), or `None` if they were not asked for.
        landmarks: float32 (N, 468, 2) in units of the crop's side: (0, 0) upper left, (1, 1) lower right; steady, see
            `SteadyLandmarks`.
        transforms: float64 (N, 2, 3), from crop pixels to frame pixels.
        face_size_px: float32 (N,), forehead to chin in pixels of the frame.
        fit: float32 (N,), correlation with the template: how well the frame could be registered.
    """

    crops: torch.Tensor | None
    landmarks: np.ndarray
    transforms: np.ndarray
    face_size_px: np.ndarray
    fit: np.ndarray


class FaceAligner:
    """Follows one face through consecutive chunks of frames and cuts it out, always at the same place of the head.

    Args:
        image_size: side S of the crops in pixels.
        margin: room around the face, as a part of its height, on every side.
        pixels: whether the face is cut out, and not only followed.
    """

    MIN_FIT = 0.4  # correlation below which a frame follows its landmarks
    RENEW_FIT = 0.85  # correlation below which a new template is taken
    MAX_RENEWALS = 4  # of the template in one chunk
    MAX_MOVE = 0.2  # face units, or log of size and roll: farther from the landmarks registration is not believed
    MEMORY = 30  # landmark measurements that the correction averages over
    NOISE = np.array([0.003, 0.004])  # their usual scatter: place in face units; log size and angle

    WRONG = 0.05  # errors that no expression makes: the head has turned, and seems larger or smaller for it
    RETURN = 0.1  # how much of such an error one measurement takes back; most of it goes within a chunk or two

    def __init__(self, image_size: int = 112, margin: float = 0.1, pixels: bool = True):
        self.image_size, self.pixels = image_size, pixels
        self.side = FACE_HEIGHT * (1 + 2 * margin)
        self.steady = SteadyLandmarks()
        self.template: _Template | None = None
        self.offset = Pose(np.ones(1, complex), np.zeros(1, complex))  # landmark pose -> registered pose, lately
        self.correction: np.ndarray | None = None  # complex (2,): shift at the face's centre, log of size and roll
        self.measurements = 0

    def __call__(self, frames: torch.Tensor, index: np.ndarray, landmarks: np.ndarray) -> AlignedFaces:
        """frames (N, H, W, 3) uint8; landmarks (K, 468, 2) known at frames `index` (K,), first and last included."""
        wanted = np.arange(len(frames))
        measured = fit_pose(landmarks)
        rough = measured.at(index, wanted)
        # The corners of the turned crop, and room for registration; half as fine again as the crops will be.
        reach = (np.abs(rough.a.real) + np.abs(rough.a.imag)).max() * self.side / 2 + 0.1 * np.abs(rough.a).max()
        spacing = np.abs(rough.a).min() * self.side / (1.5 * self.image_size)
        region = Region.cut(frames, rough(FACE_CENTRE), reach, spacing)
        registered, fit = self._register(region, rough)
        pose = registered.after(self._correct(registered[index].inverse().after(measured), index, wanted))
        crop = pose.after(self._crop)  # from crop units to pixels of the frame
        return AlignedFaces(
            crops=self._cut_out(region, crop) if self.pixels else None,
            landmarks=self.steady(self._grey(region, crop), _between(index, to_units(crop[index], landmarks), wanted)),
            transforms=crop_transforms(crop, self.image_size),
            face_size_px=pose.face_size_px.astype(np.float32),
            fit=fit.astype(np.float32),
        )

    def _cut_out(self, region: Region, crop: Pose) -> torch.Tensor:
        """(N, S, S, 3) uint8, by poses from crop units to pixels of the frames."""
        colours = region.at(crop, unit_grid(self.image_size, region.images.device)).round_().to(torch.uint8)
        return colours.unflatten(2, (self.image_size, self.image_size)).permute(0, 2, 3, 1).contiguous()

    def _grey(self, region: Region, crop: Pose) -> torch.Tensor:
        """Brightness, (N, 1, S, S) with the S that motion is looked at with, likewise."""
        size = SteadyLandmarks.SIZE
        grey = sample(region.grey, crop, unit_grid(size, region.images.device), region.origin, region.factor)
        return grey.unflatten(2, (size, size))

    @property
    def _crop(self) -> Pose:
        """From crop units, (0, 0) to (1, 1), to face coordinates."""
        return Pose(np.array([self.side + 0j]), np.array([FACE_CENTRE - self.side * (0.5 + 0.5j)]))

    def _register(self, region: Region, rough: Pose) -> tuple[Pose, np.ndarray]:
        """Registered poses in pixels of the frames, and how well each fits; near the landmarks' where nothing fits."""
        start = rough.after(self.offset)
        pose, fit = Pose(start.a.copy(), start.b.copy()), np.zeros(len(rough))
        if self.template is None:
            self.template = _Template(region, 0, start[0])
        first = 0
        for renewals in range(self.MAX_RENEWALS + 1):
            rest = slice(first, None)
            pose.a[rest], pose.b[rest], fit[rest] = self._trusted(region, rest, start[rest])
            bad = first + np.flatnonzero(fit[rest] < self.RENEW_FIT)
            if not len(bad) or renewals == self.MAX_RENEWALS:
                break
            # The face looks different from here on: the head has turned, the light has changed.
            first = max(int(bad[0]), first + 1)
            self.template = _Template(region, first - 1, pose[first - 1])
            if first == len(fit):
                break
        if fit[-1] < self.RENEW_FIT:  # the next chunk goes on from where this one ends, rather than jump back
            self.template = _Template(region, len(fit) - 1, pose[-1])
        self.offset = rough[-1].inverse().after(pose[-1])
        return pose, fit

    def _trusted(self, region: Region, part: slice, start: Pose) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Poses (as a and b) registered to the template, drawn back to the start as the match becomes doubtful."""
        found, fit = self.template.register(region, part, start)
        move = start.inverse().after(found)
        log_a, shift = np.log(move.a), move(FACE_CENTRE) - FACE_CENTRE
        far = np.maximum(np.abs(log_a), np.abs(shift)) / self.MAX_MOVE
        trust = np.clip((fit - self.MIN_FIT) / 0.2, 0, 1) * np.clip(2 - 2 * far, 0, 1)
        a = np.exp(trust * log_a)
        pose = start.after(Pose(a, FACE_CENTRE + trust * shift - a * FACE_CENTRE))
        return pose.a, pose.b, fit * trust

    def _correct(self, difference: Pose, index: np.ndarray, wanted: np.ndarray) -> Pose:
        """Slow robust mean of where the landmarks have the face, seen from where registration has it."""
        seen = np.stack([difference(FACE_CENTRE) - FACE_CENTRE, np.log(difference.a)], -1)  # (K, 2) complex
        if self.correction is None:
            before = after = np.median(seen.real, 0) + 1j * np.median(seen.imag, 0)
            self.measurements = len(seen)
        else:
            before = after = self.correction
            for value in seen:
                self.measurements += 1
                error = value - after
                trust = np.maximum(1 / (1 + (np.abs(error) / self.NOISE) ** 2), 0.1)
                share = trust / min(self.measurements, self.MEMORY)
                after = after + np.where(np.abs(error) > self.WRONG, self.RETURN, share) * error
        self.correction = after
        along = ((wanted + 1) / len(wanted))[:, None]
        shift, log_a = (before + along * (after - before)).T
        a = np.exp(log_a)
        return Pose(a, FACE_CENTRE + shift - a * FACE_CENTRE)


__all__ = [
    "FACE_CENTRE",
    "FACE_HEIGHT",
    "RIGID_LANDMARKS",
    "AlignedFaces",
    "FaceAligner",
    "Pose",
    "Region",
    "fit_pose",
]
