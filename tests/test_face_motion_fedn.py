"""Landmarks that move with the skin, to hundredths of a pixel, and do not shake."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fedn_hf.face_motion_fedn import SteadyLandmarks

SIZE = 112


@pytest.fixture(scope="module")
def portrait(astronaut) -> torch.Tensor:
    """A real face, brightness (1, 1, 448, 448): four times as fine as a crop."""
    grey = astronaut[40:264, 112:336].float() @ torch.tensor([0.299, 0.587, 0.114])
    return F.interpolate(grey[None, None], (4 * SIZE, 4 * SIZE), mode="bicubic").clamp(0, 255)


def filmed(portrait: torch.Tensor, shifts_px: np.ndarray, noise: float = 0.0) -> torch.Tensor:
    """Crops (N, 1, 112, 112) of the face, moved to the right by so many pixels of the crop."""
    steps = np.round(4 * shifts_px).astype(int)
    frames = torch.cat([F.avg_pool2d(portrait.roll(int(step), 3), 4) for step in steps])
    return (frames + noise * torch.randn(frames.shape)).round().clamp(0, 255)


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    """468 places well inside the crop, (468, 2)."""
    return np.random.default_rng(0).uniform(0.25, 0.75, (468, 2)).astype(np.float32)


def test_a_small_quick_movement_is_followed(portrait, points):
    shifts_px = np.r_[np.zeros(10), 0.25, 0.5, 0.75, np.ones(5), 0.75, 0.5, 0.25, np.zeros(10)]
    landmarks = np.repeat(points[None], len(shifts_px), 0)  # FaceMesh has not noticed
    steady = SteadyLandmarks()(filmed(portrait, shifts_px), landmarks)
    moved_px = SIZE * np.median(steady[:, :, 0] - points[:, 0], 1)
    assert moved_px[:10] == pytest.approx(0, abs=0.02)
    assert moved_px[13:18].max() == pytest.approx(1, abs=0.15)
    assert abs(SIZE * np.median(steady[:, :, 1] - points[:, 1], 1)).max() < 0.05


def test_shaking_landmarks_of_a_still_face_come_to_rest(portrait, points):
    rng = np.random.default_rng(1)
    shaking = points + rng.normal(0, 0.3 / SIZE, (90, 468, 2)).astype(np.float32)
    steady = SteadyLandmarks()(filmed(portrait, np.zeros(90), noise=2.0), shaking)
    assert SIZE * np.diff(steady, axis=0).std() < 0.05 < SIZE * np.diff(shaking, axis=0).std() / 5


def test_in_the_long_run_facemesh_is_right(portrait, points):
    landmarks = np.repeat(points[None], 150, 0)
    landmarks[1:] += 0.02  # the picture knows nothing of it
    steady = SteadyLandmarks()(filmed(portrait, np.zeros(150)), landmarks)
    assert np.abs(steady[1] - landmarks[0]).max() < 0.002
    assert np.abs(steady[-1] - landmarks[-1]).max() < 0.002


def test_a_picture_that_leads_astray_leads_only_so_far(points):
    nonsense = torch.rand(200, 1, SIZE, SIZE) * 255
    landmarks = np.repeat(points[None], 200, 0)
    assert np.abs(SteadyLandmarks()(nonsense, landmarks) - landmarks).max() <= SteadyLandmarks.FARTHEST + 1e-6


def test_parts_do_not_show(portrait, points):
    shifts_px = 0.5 + 0.5 * np.sin(np.arange(40) / 5)
    crops = filmed(portrait, shifts_px, noise=1.0)
    landmarks = points + np.random.default_rng(2).normal(0, 0.002, (40, 468, 2)).astype(np.float32)
    follower, whole = SteadyLandmarks(), SteadyLandmarks()(crops, landmarks)
    parts = [follower(crops[a:b], landmarks[a:b]) for a, b in ((0, 1), (1, 3), (3, 30), (30, 40))]
    assert np.allclose(np.concatenate(parts), whole, atol=1e-5)


def test_light_is_not_motion(portrait, points):
    lamp = 1 + 0.3 * torch.sin(torch.arange(60) / 6)[:, None, None, None]
    crops = (filmed(portrait, np.zeros(60)) * lamp).clamp(0, 255)
    steady = SteadyLandmarks()(crops, np.repeat(points[None], 60, 0))
    assert SIZE * np.median(np.abs(steady - points), axis=(1, 2)).max() < 0.05
