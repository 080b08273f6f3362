"""Faces are found, followed and told apart, exactly to the frame."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fedn_hf.face_fedn import FaceCropper
from fedn_hf.face_finder_fedn import FaceFinder, overlap
from fedn_hf.video_io_fedn import FrameBatch, VideoReader

HEIGHT, WIDTH = 240, 320


@pytest.fixture(scope="module")
def cropper():
    return FaceCropper(image_size=64)


@pytest.fixture(scope="module")
def portrait(astronaut):
    """Head and shoulders, (200, 200, 3) uint8, with a face of about 95 pixels."""
    return scaled(astronaut[:256, 90:346], 200)


def scaled(image: torch.Tensor, size: int) -> torch.Tensor:
    image = image.permute(2, 0, 1)[None]
    return F.interpolate(image, (size, size), mode="bilinear", antialias=True)[0].permute(1, 2, 0)


def scene(*pictures: tuple[torch.Tensor, int, int], height: int = HEIGHT, width: int = WIDTH) -> torch.Tensor:
    """A frame with pictures pasted at (x, y) onto a soft pattern."""
    y, x = torch.meshgrid(torch.linspace(0, 9, height), torch.linspace(0, 12, width), indexing="ij")
    frame = (120 + 20 * torch.stack([torch.sin(x), torch.cos(y), torch.sin(x + y)], -1)).to(torch.uint8)
    for picture, left, top in pictures:
        h, w = picture.shape[:2]
        frame[top : top + h, left : left + w] = picture[: height - top, : width - left]
    return frame


def video(*parts: tuple[torch.Tensor, int], batch: int = 32) -> list[FrameBatch]:
    """Frames repeated so many times each, at 30 fps."""
    frames = torch.cat([frame[None].expand(count, *frame.shape) for frame, count in parts])
    times = np.arange(len(frames)) / 30
    return [
        FrameBatch(frames[i : i + batch], times[i : i + batch], np.arange(i, min(i + batch, len(frames))))
        for i in range(0, len(frames), batch)
    ]


def all_of(batches, name: str) -> np.ndarray:
    return np.concatenate([np.asarray(getattr(batch, name)) for batch in batches])


def test_without_pixels_all_else_is_the_same(portrait):
    frames = video(*((scene((portrait, 60 + i % 7, 30 + i % 5)), 1) for i in range(40)), (scene(), 10))
    seen, unseen = ([*FaceCropper(64, pixels=pixels, faces="all")(frames)] for pixels in (True, False))
    assert {tuple(batch.crops.shape[1:]) for batch in unseen} == {(0, 0, 3)}
    for name in ("mask", "frame", "face_id", "confidence", "face_size_px", "fit", "landmarks", "transforms"):
        assert np.array_equal(all_of(seen, name), all_of(unseen, name), equal_nan=name in ("landmarks", "transforms"))


def test_the_same_again_to_the_last_bit(portrait):
    frames = video(*((scene((portrait, 60 + i % 7, 30 + i % 5)), 1) for i in range(64)))
    first, *others = (all_of(list(FaceCropper()(frames)), "transforms") for _ in range(5))
    assert all(np.array_equal(first, again) for again in others)


def test_a_black_picture_does_not_stop_the_registration(cropper):
    frames = torch.zeros(8, HEIGHT, WIDTH, 3, dtype=torch.uint8)
    points = 100 + 60 * np.random.default_rng(0).random((8, 468, 2))
    batch = FrameBatch(frames, np.arange(8) / 30, np.arange(8))
    assert all_of(cropper([batch], landmarks=points), "mask").all()


# --- real clips ------------------------------------------------------------------------------------------------------

WHOLE = [
    "liveportrait_driving_d0.mp4",
    "liveportrait_driving_d18.mp4",
    "liveportrait_driving_d3.mp4",
    "liveportrait_source_s18.mp4",
    "openface_2015-10-15-15-14.avi",
    "openface_changeLighting.wmv",
    "pyfeat_single_face.mp4",
]


@pytest.mark.parametrize("clip", WHOLE)
def test_a_face_is_found_in_every_frame(real_clip, clip):
    batches = list(FaceCropper()(VideoReader(real_clip(clip), end_s=12)))
    assert all_of(batches, "mask").all()
    assert set(all_of(batches, "face_id")) == {0}  # and it is one face throughout


def test_a_face_under_hands_is_found_before_and_after(real_clip):
    """Hands cover the face between about frames 100 and 180 of this clip."""
    batches = list(FaceCropper()(VideoReader(real_clip("pyfeat_WolfgangLanger_Pexels.mp4"))))
    mask = all_of(batches, "mask")
    assert mask[:90].all() and mask[200:].all()


def test_no_face_is_found_where_there_is_none(real_clip):
    batches = list(FaceCropper()(VideoReader(real_clip("pyfeat_no_face.mp4"))))
    assert not all_of(batches, "mask").any()


def test_a_face_ends_and_begins_with_the_cut(real_clip):
    ends = all_of(FaceCropper()(VideoReader(real_clip("pyfeat_face_noface.mov"))), "mask")
    assert ends[:72].all() and not ends[72:].any()
    begins = all_of(FaceCropper()(VideoReader(real_clip("pyfeat_noface_face.mov"))), "mask")
    # The clip's last frame is black.
    assert not begins[:96].any() and begins[96:168].all() and not begins[168:].any()


# --- coverage --------------------------------------------------------------------------------------------------------


def test_every_frame_comes_once_and_in_order(cropper, portrait):
    batches = list(cropper(video((scene(), 21), (scene((portrait, 60, 30)), 40), (scene(), 9))))
    np.testing.assert_array_equal(all_of(batches, "frame"), np.arange(70))
    np.testing.assert_array_equal(all_of(batches, "native_frame"), np.arange(70))
    np.testing.assert_allclose(all_of(batches, "time_s"), np.arange(70) / 30)


@pytest.mark.parametrize(("before", "with_face"), [(5, 30), (33, 9), (52, 12), (31, 34)])
def test_coverage_is_exact_to_the_frame(cropper, portrait, before, with_face):
    batches = list(cropper(video((scene(), before), (scene((portrait, 60, 30)), with_face), (scene(), 20))))
    mask = all_of(batches, "mask")
    expected = np.zeros(len(mask), bool)
    expected[before : before + with_face] = True
    np.testing.assert_array_equal(mask, expected)


def test_frames_without_a_face_are_marked_and_black(cropper, portrait):
    batches = list(cropper(video((scene((portrait, 60, 30)), 10), (scene(), 10))))
    crops, mask = torch.cat([batch.crops for batch in batches]), all_of(batches, "mask")
    assert not crops[~mask].any() and crops[mask].float().mean() > 50
    for name in ("confidence", "face_size_px", "fit"):
        values = all_of(batches, name)
        assert (values[mask] > 0.9).all() and (values[~mask] == 0).all()
    assert (all_of(batches, "face_id")[~mask] == -1).all()
    assert (
        np.isnan(all_of(batches, "landmarks")[~mask]).all() and np.isfinite(all_of(batches, "landmarks")[mask]).all()
    )


def test_black_and_tiny_videos_have_no_face(cropper):
    for frame in (torch.zeros(HEIGHT, WIDTH, 3), torch.zeros(2, 2, 3), torch.full((9, 300, 3), 80)):
        [batch] = cropper(video((frame.to(torch.uint8), 5)))
        assert not batch.mask.any()


def test_a_video_of_one_frame(cropper, portrait):
    [batch] = cropper(video((scene((portrait, 60, 30)), 1)))
    assert batch.mask.tolist() == [True] and batch.crops.shape == (1, 64, 64, 3)


def test_no_frames_no_crops(cropper):
    assert list(cropper([])) == []


def test_crops_show_the_face_where_the_landmarks_say(cropper, portrait):
    [batch] = cropper(video((scene((portrait, 60, 30)), 4)))
    eyes = batch.landmarks[0, [33, 263]]
    assert abs(eyes[0, 1] - eyes[1, 1]) < 0.02  # level
    np.testing.assert_allclose(eyes.mean(0), [0.5, 0.36], atol=0.04)
    # A landmark goes back to where it lies in the frame.
    [face] = FaceFinder().find(scene((portrait, 60, 30)))
    nose = batch.transforms[0] @ [*(batch.landmarks[0, 1] * 64), 1]
    np.testing.assert_allclose(nose, face.landmarks[1], atol=1.5)


def test_a_margin_shows_more_around_the_face(portrait):
    [near] = FaceCropper(64, margin=0.0)(video((scene((portrait, 60, 30)), 2)))
    [far] = FaceCropper(64, margin=0.4)(video((scene((portrait, 60, 30)), 2)))
    ratio = np.hypot(*far.transforms[0, :, 0]) / np.hypot(*near.transforms[0, :, 0])
    assert ratio == pytest.approx(1.8, rel=0.01)
    np.testing.assert_allclose(far.face_size_px, near.face_size_px, rtol=0.01)


def test_grey_crops_have_equal_channels(portrait):
    [batch] = FaceCropper(64, grey=True)(video((scene((portrait, 60, 30)), 2)))
    assert (batch.crops == batch.crops[..., :1]).all() and batch.crops.any()


def test_small_faces_are_found_in_tiles(cropper, astronaut):
    small = scaled(astronaut, 190)  # a face of 45 pixels
    [batch] = cropper(video((scene((small, 900, 500), height=720, width=1280), 2)))
    assert batch.mask.all()
    assert 30 < batch.face_size_px.mean() < 60


# --- tracks ----------------------------------------------------------------------------------------------------------


def test_a_face_keeps_its_number_through_a_short_loss(cropper, portrait):
    hidden = portrait.clone()
    hidden[10:180, 20:180] = 90
    there = scene((portrait, 60, 30))
    batches = list(cropper(video((there, 25), (scene((hidden, 60, 30)), 12), (there, 25))))
    mask, ids = all_of(batches, "mask"), all_of(batches, "face_id")
    assert mask[:25].all() and not mask[25:37].any() and mask[37:].all()
    assert set(ids[mask]) == {0}


def test_a_face_that_was_long_away_is_a_new_one(cropper, portrait):
    hidden = portrait.clone()
    hidden[10:180, 20:180] = 90
    there = scene((portrait, 60, 30))
    ids = all_of(cropper(video((there, 20), (scene((hidden, 60, 30)), 60), (there, 20))), "face_id")
    assert ids[0] == 0 and ids[-1] == 1


def test_a_cut_ends_a_track(cropper, portrait):
    here = scene((portrait, 60, 30))
    there = 255 - scene((255 - portrait.flip(1), 55, 30))  # another room, another face at nearly the same place
    ids = all_of(cropper(video((here, 21), (there, 21))), "face_id")
    assert ids.tolist() == [0] * 21 + [1] * 21


def test_moving_faces_are_followed(cropper, portrait):
    frames = torch.stack([scene((portrait, 3 * t, 20 + t % 3)) for t in range(40)])  # three pixels a frame
    batch = FrameBatch(frames, np.arange(40) / 30, np.arange(40))
    batches = list(cropper([batch]))
    assert all_of(batches, "mask").all() and set(all_of(batches, "face_id")) == {0}
    centres = all_of(batches, "transforms") @ [32, 32, 1]
    np.testing.assert_allclose(np.diff(centres[:, 0]), 3, atol=0.25)


@pytest.mark.parametrize(("speed", "every"), [(12, 4), (18, 4), (4, 16)])
def test_fast_faces_are_not_left_behind(portrait, speed, every):
    """FaceMesh is sure of itself beside a face, too; so what matters is where the landmarks are."""
    frames = torch.stack([scene((scaled(portrait, 150), 10 + speed * t, 40), width=900) for t in range(40)])
    [batch, *more] = FaceCropper(64, landmark_every=every)([FrameBatch(frames, np.arange(40) / 30, np.arange(40))])
    centres = all_of([batch, *more], "transforms") @ [32, 32, 1]
    np.testing.assert_allclose(centres[:, 0] - centres[0, 0], speed * np.arange(40), atol=4)


def test_a_small_face_beside_a_large_one(portrait):
    frame = scene((portrait, 10, 20), (scaled(portrait, 90), 250, 60), width=400)
    batches = list(FaceCropper(64, faces="all")(video((frame, 6))))
    assert {int(batch.face_id[0]) for batch in batches} == {0, 1}


def test_a_far_face_is_covered_from_its_first_frame(cropper, astronaut):
    small = scaled(astronaut, 190)
    empty, there = scene(height=720, width=1280), scene((small, 900, 500), height=720, width=1280)
    mask = all_of(cropper(video((empty, 5), (there, 30))), "mask")
    np.testing.assert_array_equal(mask, np.arange(35) >= 5)


def two_faces(portrait) -> torch.Tensor:
    return scene((portrait, 10, 20), (scaled(portrait, 120), 215, 60), width=360)


def test_the_largest_face_is_followed_by_default(cropper, portrait):
    [batch] = cropper(video((two_faces(portrait), 6)))
    assert (batch.transforms[:, 0, 2] < 150).all()  # the one on the left


def test_a_face_of_another_rank(portrait):
    [batch] = FaceCropper(64, faces=1)(video((two_faces(portrait), 6)))
    assert (batch.transforms[:, 0, 2] > 200).all() and batch.mask.all()
    [batch] = FaceCropper(64, faces=2)(video((two_faces(portrait), 6)))
    assert not batch.mask.any()


def test_all_faces_come_in_batches_of_their_own(portrait):
    batches = list(FaceCropper(64, faces="all")(video((two_faces(portrait), 40), (scene(width=360), 5))))
    batches[0].crops[0] = 0  # crops are ordinary tensors
    frames = {face: [] for face in (0, 1, -1)}
    for batch in batches:
        [face] = set(batch.face_id)
        frames[face] += batch.frame.tolist()
    assert frames == {0: list(range(40)), 1: list(range(40)), -1: list(range(40, 45))}


def test_a_much_larger_face_takes_over(cropper, portrait):
    small, large = (scaled(portrait, 90), 230, 20), (portrait, 10, 20)
    alone, both = scene(small, width=360), scene(small, large, width=360)
    ids = all_of(cropper(video((alone, 40), (both, 40))), "face_id")
    assert ids[0] == 0 and ids[-1] == 1
    assert (np.diff(ids) >= 0).all()  # once, and without a gap


def test_results_do_not_depend_on_how_the_video_was_read(cropper, portrait):
    frames = torch.stack([scene((portrait, t, 25)) for t in range(75)])
    times, numbers = np.arange(75) / 30, np.arange(75)
    results = []
    for size in (1, 7, 32, 75):
        parts = [slice(i, i + size) for i in range(0, 75, size)]
        batches = list(cropper([FrameBatch(frames[p], times[p], numbers[p]) for p in parts]))
        results.append((all_of(batches, "crops"), all_of(batches, "transforms")))
    for crops, transforms in results[1:]:  # where arrays lie in memory may change the last bit of a sum
        np.testing.assert_allclose(transforms, results[0][1], atol=1e-4)
        assert np.abs(crops.astype(int) - results[0][0]).max() <= 1


# --- bring your own --------------------------------------------------------------------------------------------------


def test_own_boxes_replace_the_search(cropper, portrait):
    frames = video((two_faces(portrait), 40))
    boxes = np.tile([240.0, 70, 300, 140], (40, 1))  # the smaller face
    boxes[20:25] = np.nan
    batches = list(cropper(frames, boxes=boxes))
    mask = all_of(batches, "mask")
    assert mask[:20].all() and not mask[20:25].any() and mask[25:].all()
    assert (all_of(batches, "transforms")[mask][:, 0, 2] > 200).all()


def test_a_hidden_face_stays_where_its_box_is(cropper, portrait):
    hidden = portrait.clone()
    hidden[10:180, 20:180] = 90
    frames = video((scene((portrait, 60, 30)), 8), (scene((hidden, 60, 30)), 1), (scene((portrait, 60, 30)), 7))
    batches = list(cropper(frames, boxes=np.tile([90.0, 40, 200, 170], (16, 1))))
    assert all_of(batches, "mask").all() and set(all_of(batches, "face_id")) == {0}


@pytest.mark.parametrize(
    "frames",
    [torch.rand(4, 60, 80, 3), torch.zeros(4, 3, 60, 80, dtype=torch.uint8), np.zeros((4, 60, 80, 3), np.uint8)],
)
def test_frames_of_another_kind_are_named(cropper, frames):
    with pytest.raises(ValueError, match=r"frames must be uint8 tensors \(N, H, W, 3\), got .*\(4, "):
        list(cropper([FrameBatch(frames, np.arange(4) / 30, np.arange(4))]))


def test_own_landmarks_need_no_network(portrait):
    [face] = FaceFinder().find(scene((portrait, 60, 30)))
    landmarks = np.tile(face.landmarks, (12, 1, 1))
    landmarks[8:] = np.nan
    cropper = FaceCropper(64)
    cropper.finder.mesh = cropper.finder.short = cropper.finder.full = None
    [batch] = cropper(video((scene((portrait, 60, 30)), 12)), landmarks=landmarks)
    assert batch.mask.tolist() == [True] * 8 + [False] * 4
    back = batch.transforms[0, :, :2] @ (batch.landmarks[0].T * 64) + batch.transforms[0, :, 2:]
    np.testing.assert_allclose(back.T, face.landmarks, atol=0.05)


def test_own_crops_are_only_scaled(cropper, portrait):
    [batch] = cropper.resize(video((portrait, 3)))
    assert batch.mask.all() and batch.crops.shape == (3, 64, 64, 3)
    assert (batch.crops[0].float() - scaled(portrait, 64).float()).abs().max() <= 1
    np.testing.assert_allclose(batch.transforms[0] @ [64, 64, 1], [200, 200])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"boxes": np.zeros((5, 3))}, r"boxes must have shape \(T, 4\).*\(5, 3\)"),
        ({"landmarks": np.zeros((5, 68, 2))}, r"landmarks must have shape \(T, 468, 2\).*\(5, 68, 2\)"),
        ({"boxes": np.zeros((5, 4)), "landmarks": np.zeros((5, 468, 2))}, "boxes or landmarks, not both"),
        ({"boxes": np.full((5, 4), np.nan)}, "for 5 frames, but the video goes on at frame 5"),
        ({"boxes": np.full((12, 4), np.nan)}, "for 12 frames, but the last one read has number 9"),
        ({"boxes": np.tile([200.0, 100, 90, 150], (10, 1))}, r"row 0 must hold left, top, right, bottom.*200"),
        ({"boxes": np.tile([0.2, 0.1, 0.9, 0.5], (10, 1))}, "row 0 must hold .* in pixels"),
        ({"landmarks": np.zeros((10, 468, 2))}, "row 0 must hold points of a face in pixels"),
    ],
)
def test_wrong_boxes_and_landmarks_are_named(cropper, given, message):
    with pytest.raises(ValueError, match=message):
        list(cropper(video((scene(), 10)), **given))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"faces": "smallest"}, "faces must be.*'smallest'"),
        ({"faces": -1}, "faces must be.*-1"),
        ({"faces": True}, "faces must be.*True"),
        ({"margin": -0.5}, "margin must be.*-0.5"),
        ({"image_size": 0}, "image_size must be a whole number from 1 on, got 0"),
        ({"landmark_every": 2.5}, "landmark_every must be a whole number.*2.5"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        FaceCropper(**options)


# --- small parts -----------------------------------------------------------------------------------------------------


def test_overlap_of_boxes():
    box = np.array([0.0, 0, 2, 2])
    others = np.array([[0.0, 0, 2, 2], [1, 0, 3, 2], [2, 2, 4, 4], [5, 5, 6, 6]])
    np.testing.assert_allclose(overlap(box, others), [1, 1 / 3, 0, 0])


def test_stopping_early_ends_the_threads_and_restores_their_number(cropper, portrait):
    torch.set_num_threads(2)
    before = threading.active_count()
    stream = cropper(video((scene((portrait, 60, 30)), 150)))
    next(stream)
    assert threading.active_count() > before
    stream.close()
    assert threading.active_count() == before
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == 2
