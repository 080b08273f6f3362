"""Crops stand still: under noise, shifts, light, blinks and smiles, measured against known truth."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from fedn_hf.face_alignment_fedn import FACE_CENTRE, FaceAligner, Pose, Region, fit_pose, sample, unit_grid
from fedn_hf.face_fedn import FaceCropper
from fedn_hf.face_finder_fedn import Face, FaceFinder
from fedn_hf.video_io_fedn import VideoReader

SIZE = 112
CHUNK = 32


@pytest.fixture(scope="module")
def finder():
    return FaceFinder()


def follow(finder: FaceFinder, frames: torch.Tensor, face: Face, every: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks on every few frames and the last, each looked for where the one before was."""
    index = sorted({*range(0, len(frames), every), len(frames) - 1})
    looks = []
    for i in index:
        [face] = finder.look([frames[i]], [face.roi])
        looks.append(face.landmarks)
    return np.array(index), np.array(looks)


@torch.inference_mode()
def align(finder: FaceFinder, frames: torch.Tensor):
    """Aligned chunks of a video (T, H, W, 3), and the crop's centre in every frame in pixels of the first crop."""
    [face] = finder.find(frames[0])
    aligner, parts = FaceAligner(SIZE), []
    for start in range(0, len(frames), CHUNK):
        chunk = frames[start : start + CHUNK]
        parts.append(aligner(chunk, *follow(finder, chunk, face)))
    matrices = np.concatenate([part.transforms for part in parts])
    centres = matrices @ [SIZE / 2, SIZE / 2, 1]
    return parts, centres / np.hypot(*matrices[0, :, 0])


def noisy(image: torch.Tensor, sigma: float = 3.0) -> torch.Tensor:
    return (image + sigma * torch.randn(image.shape)).round().clamp(0, 255).to(torch.uint8)


def shifted(image: torch.Tensor, dx: float, dy: float) -> torch.Tensor:
    """Moved by exactly (dx, dy) pixels: in the Fourier domain, which loses nothing."""
    fy, fx = torch.fft.fftfreq(image.shape[0])[:, None], torch.fft.fftfreq(image.shape[1])[None]
    phase = torch.exp(-2j * torch.pi * (fx * dx + fy * dy))[..., None]
    return torch.fft.ifft2(torch.fft.fft2(image.float(), dim=(0, 1)) * phase, dim=(0, 1)).real


# --- poses -----------------------------------------------------------------------------------------------------------

finite = st.floats(-3, 3)


@given(st.tuples(finite, finite, finite, finite), st.tuples(finite, finite))
def test_a_pose_and_its_inverse_undo_each_other(parameters, point):
    log_size, roll, x, y = parameters
    pose = Pose(np.exp(np.array([log_size + 1j * roll])), np.array([x + 1j * y]))
    q = complex(*point)
    np.testing.assert_allclose(pose.inverse()(pose(q)), q, atol=1e-9)
    np.testing.assert_allclose(pose.after(pose.inverse())(q), q, atol=1e-9)


@given(st.floats(20, 400), st.floats(-3, 3), st.floats(-500, 500))
def test_fit_pose_gives_back_the_pose_of_a_moved_face(astronaut_landmarks, size, roll, place):
    before = fit_pose(astronaut_landmarks[None])
    move = Pose(np.array([size / 100 * np.exp(1j * roll)]), np.array([place - 2j * place]))
    z = move(astronaut_landmarks[:, 0] + 1j * astronaut_landmarks[:, 1])
    after = fit_pose(np.stack([z.real, z.imag], -1)[None])
    np.testing.assert_allclose(after.a, move.after(before).a, rtol=1e-9)
    np.testing.assert_allclose(after.b, move.after(before).b, rtol=1e-9, atol=1e-6)


@pytest.fixture(scope="module")
def astronaut_landmarks(finder, astronaut):
    return finder.find(astronaut)[0].landmarks


def test_poses_between_known_ones_turn_the_short_way():
    known = Pose(np.exp(1j * np.deg2rad([179.0, -179.0])), np.array([0, 10j]))
    [middle] = known.at(np.array([0, 2]), np.array([1])).a
    assert np.rad2deg(np.angle(middle)) % 360 == pytest.approx(180)


# --- sampling --------------------------------------------------------------------------------------------------------


def test_sampling_the_whole_picture_gives_it_back():
    images = torch.rand(2, 3, 16, 16)
    whole = Pose(np.full(2, 16 + 0j), np.zeros(2, complex))
    values = sample(images, whole, unit_grid(16, torch.device("cpu"))).reshape(2, 3, 16, 16)
    torch.testing.assert_close(values, images, atol=1e-5, rtol=1e-5)


@settings(deadline=None, max_examples=30)
@given(st.floats(-60, 160), st.floats(-60, 160), st.floats(4, 120), st.floats(0.3, 9))
def test_a_region_shows_what_lies_there(x, y, half, spacing):
    rows, columns = torch.meshgrid(torch.arange(96), torch.arange(128), indexing="ij")
    ramp = torch.stack([columns, rows, torch.full_like(rows, 7)], -1).to(torch.uint8)[None]
    region = Region.cut(ramp, np.array([x + 1j * y]), half, spacing)
    # Well inside the region the colours are the coordinates of the pixel that is asked for.
    low = region.origin + 2 * spacing + 2j * spacing
    size = np.array(region.images.shape[:-3:-1]) * region.factor - 4 * spacing
    if (size > 1).all():
        inside = low + 0.3 * size[0] + 0.6j * size[1]
        at = region.at(Pose(np.array([1 + 0j]), np.array([inside])), torch.zeros(1, 2)).flatten().numpy()
        np.testing.assert_allclose(at, [inside.real - 0.5, inside.imag - 0.5, 7], atol=0.75)


# --- steadiness ------------------------------------------------------------------------------------------------------


def test_noise_does_not_move_a_still_face(finder, astronaut):
    frames = torch.stack([noisy(astronaut.float()) for _ in range(96)])
    _, centres = align(finder, frames)
    jitter = np.sqrt(((centres - centres.mean(0)) ** 2).sum(1).mean())
    print(f"crop centre jitter under noise of sigma 3: {jitter:.4f} px RMS")
    assert jitter < 0.03


@pytest.mark.parametrize("kind", ["walk", "jumps"])
def test_subpixel_shifts_are_followed(finder, astronaut, kind):
    shifts = np.random.default_rng(0).uniform(-1, 1, (30, 2))
    shifts = np.cumsum(shifts, 0) if kind == "walk" else shifts
    frames = torch.stack([noisy(shifted(astronaut, *shift)) for shift in shifts])
    [part], centres = align(finder, frames)
    error = centres - shifts / np.hypot(*part.transforms[0, :, 0])
    error = np.sqrt(((error - error.mean(0)) ** 2).sum(1).mean())
    print(f"30 known shifts ({kind}) followed within {error:.4f} px RMS")
    assert error < 0.1


def test_turning_and_zooming_is_followed(finder, astronaut):
    steps = np.arange(40)
    rolls, zooms = 0.15 * np.sin(steps / 6), 1 + 0.1 * np.sin(steps / 9)
    image = astronaut.permute(2, 0, 1)[None].float()
    frames = []
    for roll, zoom in zip(rolls, zooms, strict=True):
        c, s = np.cos(roll) / zoom, np.sin(roll) / zoom
        grid = F.affine_grid(torch.tensor([[[c, s, 0], [-s, c, 0]]]).float(), image.shape, align_corners=False)
        frames.append(F.grid_sample(image, grid, align_corners=False)[0].permute(1, 2, 0).round().to(torch.uint8))
    parts, _ = align(finder, torch.stack(frames))
    a = np.concatenate([part.transforms[:, 0, 0] + 1j * part.transforms[:, 1, 0] for part in parts])
    ratio = a / a[0] / (zooms / zooms[0] * np.exp(1j * (rolls - rolls[0])))
    assert np.abs(np.log(np.abs(ratio))).max() < 0.01
    assert np.abs(np.angle(ratio)).max() < 0.01
    crops = torch.cat([part.crops for part in parts]).float()
    assert (crops - crops.mean(0)).abs().mean() < 4  # the same picture all the time


@pytest.mark.parametrize("light", ["dimmer", "lamp from the side"])
def test_a_change_of_light_does_not_move_the_crop(finder, astronaut, light):
    strength = torch.cat([torch.zeros(16), torch.linspace(0, 1, 8), torch.ones(24)])
    side = torch.linspace(-1, 1, 512)[None, :, None] if light != "dimmer" else torch.ones(1, 1, 1)
    frames = [astronaut.float() * (1 - 0.35 * s * (1 + side) / 2) - 8 * s for s in strength]
    _, centres = align(finder, torch.stack(frames).round().clamp(0, 255).to(torch.uint8))
    assert np.abs(centres - centres[0]).max() < 0.15


def test_crops_do_not_jump_between_chunks(finder, astronaut):
    frames = torch.stack([noisy(shifted(astronaut, 0.4 * t, 0.2 * t)) for t in range(2 * CHUNK)])
    [first, _], centres = align(finder, frames)
    steps = np.diff(centres, axis=0) * np.hypot(*first.transforms[0, :, 0]) - [0.4, 0.2]
    assert np.abs(steps).max() < 0.2


@pytest.mark.parametrize("name", ["liveportrait_driving_d3.mp4", "openface_2015-10-15-15-14.avi"])
def test_turning_heads_do_not_jump_between_chunks(real_clip, name):
    """Where the head turns and the template is taken anew several times, chunks must still meet."""
    batches = list(FaceCropper(SIZE)(VideoReader(real_clip(name))))
    matrices = np.concatenate([batch.transforms for batch in batches])
    centres = matrices @ [SIZE / 2, SIZE / 2, 1] / np.hypot(*matrices[0, :, 0])
    jolts = np.hypot(*np.diff(centres, 2, axis=0).T)  # changes of velocity
    borders = np.cumsum([len(batch) for batch in batches])[:-1]
    at_borders = np.concatenate([jolts[borders - 2], jolts[borders - 1]])
    print(f"{name}: change of velocity at most {at_borders.max():.2f} px at borders, {jolts.max():.2f} px anywhere")
    assert at_borders.max() < 2.0


def test_a_face_cut_by_the_picture_is_still_cropped(finder, astronaut):
    frames = astronaut[70:, 160:][None].repeat(8, 1, 1, 1)  # forehead and half a cheek are outside
    parts, _ = align(finder, frames)
    assert parts[0].crops.shape == (8, SIZE, SIZE, 3)
    assert np.isfinite(parts[0].transforms).all()


# --- expressions must not leak ---------------------------------------------------------------------------------------
# The skin of one real frame is pasted onto another of the same person, all but the nose bridge and the forehead: the
# expression is real, and the head has not moved at all.

EXPRESSIONS = [
    ("pyfeat_single_face.mp4", 5, 45, "smile"),
    ("liveportrait_driving_d0.mp4", 5, 40, "smile"),
    ("liveportrait_driving_d18.mp4", 5, 80, "smile"),
    ("liveportrait_driving_d18.mp4", 5, 130, "smile"),
    ("liveportrait_driving_d3.mp4", 33, 320, "smile"),
    ("liveportrait_source_s18.mp4", 150, 161, "blink"),
    ("openface_2015-10-15-15-14.avi", 125, 132, "blink"),
    ("pyfeat_single_face.mp4", 5, 27, "blink"),
    ("liveportrait_driving_d0.mp4", 5, 65, "blink"),
    ("liveportrait_driving_d3.mp4", 33, 120, "blink"),
]


def frame_of(path, number: int) -> torch.Tensor:
    for batch in VideoReader(path):
        if number <= batch.native_frame[-1]:
            return batch.frames[number - int(batch.native_frame[0])]
    raise AssertionError(f"{path} has no frame {number}")


def with_expression(finder: FaceFinder, neutral: torch.Tensor, other: torch.Tensor, kind: str) -> torch.Tensor:
    here, there = (fit_pose(finder.find(image)[0].landmarks[None]) for image in (neutral, other))
    height, width = neutral.shape[:2]
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    q = torch.from_numpy(here.inverse()((x + 1j * y).numpy().ravel()))
    q = torch.stack([q.real, q.imag], -1).float()
    moved = sample(other.permute(2, 0, 1)[None].float(), there, q).reshape(3, height, width).permute(1, 2, 0)
    x, y = q.T.reshape(2, height, width)

    def inside(distance: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(distance / 0.02)

    face = inside(0.72 - x.abs()) * inside(1.2 - y)
    bridge = inside(0.13 - x.abs()) * inside(0.3 - y)
    lower = inside(y - 0.13) if kind == "smile" else inside(y + 0.33) * inside(0.25 - y)
    mask = (face * lower * (1 - bridge))[..., None]
    return neutral.float() * (1 - mask) + moved * mask


@pytest.mark.parametrize(("clip", "neutral", "apex", "kind"), EXPRESSIONS)
def test_blinks_and_smiles_do_not_move_the_crop(finder, real_clip, clip, neutral, apex, kind):
    path = real_clip(clip)
    before = frame_of(path, neutral)
    after = with_expression(finder, before, frame_of(path, apex), kind)
    ramp, hold = (8, 48) if kind == "smile" else (3, 4)
    rise = torch.linspace(0, 1, ramp)
    share = torch.cat([torch.zeros(40), rise, torch.ones(hold), rise.flip(0), torch.zeros(24)])
    frames = torch.stack([(before * (1 - s) + after * s).round().to(torch.uint8) for s in share])
    assert (frames[0].float() - frames[60 if kind == "smile" else 45].float()).abs().max() > 20  # something happens
    _, centres = align(finder, frames)
    moved = np.hypot(*(centres - centres[0]).T).max()
    print(f"{clip} {kind}: the crop moves {moved:.3f} px")
    assert moved < 0.15


def test_without_registration_the_same_smile_moves_the_crop(finder, real_clip):
    """What the landmarks alone would do: the reason for all this."""
    path = real_clip("pyfeat_single_face.mp4")
    before = frame_of(path, 5)
    after = with_expression(finder, before, frame_of(path, 45), "smile").round().to(torch.uint8)
    poses = [fit_pose(finder.find(image)[0].landmarks[None]) for image in (before, after)]
    moved = np.abs(poses[1](FACE_CENTRE) - poses[0](FACE_CENTRE)) / np.abs(poses[0].a) * SIZE / 2.34
    assert moved > 0.15
