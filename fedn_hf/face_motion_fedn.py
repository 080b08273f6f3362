"""Steady landmarks: where every point of a face is, to a few hundredths of a pixel from one frame to the next.

FaceMesh looks at a face every few frames, and its landmarks shake by more than a micro-expression moves the skin. But
the crops are registered: what still moves in them is the face. So each landmark moves on with the picture around it
(Lucas and Kanade, IJCAI 1981), and FaceMesh only holds it in the long run:

    steady[t] = (1 - HOLD) (steady[t - 1] + motion[t]) + HOLD landmarks[t]

The motion carries what is quick, the landmarks what is slow, so that nothing drifts and a smile that lasts stays seen.
"""

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F


class SteadyLandmarks:
    """
    Follows the landmarks of one face through consecutive registered frames, handed over in parts.

    Example:

    ```python
    >>> import numpy as np, torch
    >>> from fedn_hf.face_motion_fedn import SteadyLandmarks

    >>> noise = torch.rand(1, 1, 112, 112, generator=torch.manual_seed(0)) * 255
    >>> picture = torch.nn.functional.avg_pool2d(noise, 5, stride=1, padding=2)
    >>> shaking = np.random.default_rng(0).normal(0.5, 0.005, (50, 468, 2)).astype(np.float32)
    >>> steady = SteadyLandmarks()(picture.expand(50, -1, -1, -1), shaking)  # nothing moves
    >>> bool(np.diff(steady, axis=0).std() < 0.05 * np.diff(shaking, axis=0).std())
    True
    ```
    """

    SIZE = 112  # of the pictures in pixels; what is said in pixels here goes with it
    HOLD = 0.03  # a second or so at 30 frames per second: longer than a micro-expression
    FARTHEST = 0.05  # units of the crop: farther from FaceMesh the picture has been followed astray
    FASTEST_PX = 3.0  # from one frame to the next; a mouth that falls open as fast as it can

    def __init__(self):
        self.picture: torch.Tensor | None = None  # the last frame's, (1, 1, S, S)
        self.steady: np.ndarray | None = None  # in the last frame, (468, 2)

    def __call__(self, grey: torch.Tensor, landmarks: np.ndarray) -> np.ndarray:
        """
        Args:
            grey: brightness of the registered crops, float (N, 1, S, S) with S = `SIZE`, 0 to 255.
            landmarks: (N, 468, 2) in units of the crop.

        Returns:
            float32 (N, 468, 2), likewise.
        """
        pictures = _even(grey)
        first = self.picture is None
        joined = pictures if first else torch.cat([self.picture, pictures])
        points = torch.from_numpy(landmarks[int(first) :]).to(grey)
        motion = _motion(joined, points, self.FASTEST_PX).cpu().numpy()
        steady = np.empty_like(landmarks)
        if first:
            steady[0] = self.steady = landmarks[0]
        for place, step in enumerate(motion, start=int(first)):
            moved = self.steady + step
            away = np.clip((1 - self.HOLD) * (moved - landmarks[place]), -self.FARTHEST, self.FARTHEST)
            steady[place] = self.steady = landmarks[place] + away
        self.picture = pictures[-1:]
        return steady


def _even(grey: torch.Tensor) -> torch.Tensor:
    """The fine structure of pictures (N, 1, S, S), as strong everywhere: shading and light are not motion."""
    size = grey.shape[-1]
    fine, wide = (_means(size, size, sigma, str(grey.device)) for sigma in (1.0, 6.0))
    grey = fine @ grey @ fine.T
    grey = grey - wide @ grey @ wide.T
    return grey / (wide @ grey.square() @ wide.T + 9).sqrt()


def _motion(pictures: torch.Tensor, points: torch.Tensor, fastest_px: float) -> torch.Tensor:
    """How far the picture moves at points (N, P, 2) from each of N + 1 pictures to the next, in units of the crop."""
    size = pictures.shape[-1]
    middle, change = (pictures[1:] + pictures[:-1]) / 2, pictures[1:] - pictures[:-1]
    along_x = F.pad(middle[..., 2:] - middle[..., :-2], (1, 1)) / 2
    along_y = F.pad(middle[..., 2:, :] - middle[..., :-2, :], (0, 0, 1, 1)) / 2
    pairs = [(along_x, along_x), (along_x, along_y), (along_y, along_y), (along_x, change), (along_y, change)]
    around = _means(size, size // 2, 4.0, str(pictures.device))
    products = around @ torch.cat([a * b for a, b in pairs], 1) @ around.T  # (N, 5, S / 2, S / 2)
    at = F.grid_sample(products, 2 * points[:, None] - 1, align_corners=False, padding_mode="border")
    xx, xy, yy, xt, yt = at[:, :, 0].unbind(1)  # (N, P) each
    xx, yy = xx + 0.005, yy + 0.005  # where there is nothing to be seen nothing moves
    determinant = xx * yy - xy * xy
    moved = torch.stack([xy * yt - yy * xt, xy * xt - xx * yt], -1) / determinant[..., None]
    return moved.clamp(-fastest_px, fastest_px) / size


@lru_cache
def _means(size: int, wanted: int, sigma: float, device: str) -> torch.Tensor:
    """
    Matrix (wanted, size) that takes Gaussian means of a line of pixels, `sigma` of them wide, at `wanted` even places.
    For pictures as small as crops a matrix product takes a fraction of the time of a convolution.
    """
    at = (torch.arange(wanted, device=device) + 0.5) * size / wanted
    weight = torch.exp(-(((torch.arange(size, device=device) + 0.5) - at[:, None]) ** 2) / (2 * sigma**2))
    weight = weight.where(weight > 1e-4, 0)  # processors are slow at numbers next to nothing
    return weight / weight.sum(1, keepdim=True)


__all__ = ["SteadyLandmarks"]
