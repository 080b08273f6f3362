"""Augmented windows look different and mean the same."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedn_hf import FaceCropper, FrameBatch
from fedn_hf.data import augmentation
from fedn_hf.data.augmentation import (
    add_feature_noise,
    add_pixel_noise,
    blur,
    change_colour,
    change_face,
    change_gain,
    change_motion,
    compress,
    flip_horizontally,
    hide_frames,
    reverse_time,
    shift_crops,
    shorten,
)
from fedn_hf.data.facemesh import mirrored_landmarks
from fedn_hf.data.windows import cut_window
from fedn_hf.loss_fedn import check_labels
from tests.test_data_sequences import CONFIG, event, sequence_of

ALL = [getattr(augmentation, name) for name in augmentation.__all__]
OF_FEATURES = [reverse_time, hide_frames, add_feature_noise, change_gain]
OF_FACES = [change_face, change_motion, shorten]
OF_CROPS = [reverse_time, hide_frames, flip_horizontally, shift_crops, change_colour, blur, add_pixel_noise, compress]
ALWAYS = {change: {"probability": 1.0} for change in (reverse_time, flip_horizontally, shorten)}


def drawn(seed=0):
    return torch.Generator().manual_seed(seed)


def picture_window(frames=12, size=40, dtype=torch.uint8):
    """A smooth picture that changes with time, with a landmark grid; the last two frames are not there."""
    y, x = torch.meshgrid(torch.linspace(0, 3, size), torch.linspace(0, 5, size), indexing="ij")
    picture = 128 + 80 * torch.sin(x + 0.5)[..., None] * torch.cos(y[..., None] * torch.tensor([1.0, 0.7, 1.3]))
    crops = (picture + torch.arange(frames)[:, None, None, None]).to(dtype)  # (T, S, S, 3)
    mask = torch.arange(frames) < frames - 2
    points = torch.rand(frames, 468, 2, generator=drawn()) * mask[:, None, None]
    labels = {"intervals": torch.tensor([[2.0, 9.0]]), "apex": torch.tensor([4.5]), "visible": torch.ones(1)}
    labels |= {"type_labels": torch.zeros(1).long(), "class_labels": torch.tensor([-100])}
    crops = crops * mask[:, None, None, None].to(dtype)
    return {"crops": crops, "landmarks": points, "frame_mask": mask, "labels": labels, "start": 0}


def copied(window):
    return {name: value.clone() if torch.is_tensor(value) else value for name, value in window.items()}


def test_all_of_them_are_tested():
    assert set(ALL) == {*OF_FEATURES, *OF_FACES, *OF_CROPS}


@pytest.mark.parametrize("change", ALL)
def test_they_leave_their_input_alone_and_draw_from_the_generator_only(change):
    window = (
        cut_window(sequence_of(event(100, 160, 120)), 50, 256)
        if change in (*OF_FEATURES, shorten)
        else picture_window()
    )
    before = copied(window)
    change = partial(change, **ALWAYS.get(change, {}))
    first = change(window, drawn(5))
    torch.manual_seed(99)
    second = change(window, drawn(5))
    assert first.keys() == window.keys()
    for name in window:
        if torch.is_tensor(window[name]):
            assert torch.equal(window[name], before[name])
            assert torch.equal(first[name], second[name]) and first[name].dtype == window[name].dtype
            assert first[name].shape == window[name].shape
    assert any(
        not torch.equal(change(window, drawn(seed))[name], window[name])
        for name in window
        for seed in range(3)
        if torch.is_tensor(window[name])
    )


@settings(max_examples=60, deadline=None)
@given(onset=st.integers(0, 299), duration=st.integers(1, 300), start=st.integers(-100, 200), seed=st.integers(0, 99))
def test_events_are_neither_lost_nor_moved_in_time(onset, duration, start, seed):
    offset = min(299, onset + duration - 1)
    features = torch.zeros(300, CONFIG.feature_size)
    features[onset : offset + 1] = 1.0
    window = cut_window(sequence_of(event(onset, offset, onset), features=features), start, 256)
    for change in OF_FEATURES:
        changed = change(window, drawn(seed), **ALWAYS.get(change, {}))
        check_labels([changed["labels"]], 1, CONFIG)
        assert len(changed["labels"]["intervals"]) == len(window["labels"]["intervals"])
        centres = torch.arange(256) + 0.5
        inside = torch.zeros(256, dtype=torch.bool)
        for begin, end in changed["labels"]["intervals"].tolist():
            inside |= (centres >= begin) & (centres < end)
        # What marks the event is still where the labels say, and at least half of it can be seen.
        loud = changed["frame_features"].mean(1) > 0.5
        assert torch.equal(loud & changed["frame_mask"], inside & changed["frame_mask"])
        before = (window["frame_features"].mean(1) > 0.5).sum()
        assert (loud & changed["frame_mask"]).sum() * 2 >= before
        if change is reverse_time and len(changed["labels"]["apex"]):
            assert changed["labels"]["apex"][0] == 256 - window["labels"]["apex"][0]


def test_playing_backwards_twice_is_playing_forwards():
    window = picture_window()
    again = reverse_time(reverse_time(window, drawn(), probability=1.0), drawn(), probability=1.0)
    assert torch.equal(again["crops"], window["crops"]) and torch.equal(again["landmarks"], window["landmarks"])
    assert again["labels"]["intervals"].tolist() == [[2, 9]] and again["labels"]["apex"].tolist() == [4.5]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("change", OF_CROPS[2:])
def test_all_frames_of_a_window_change_alike(change, dtype):
    """A picture that stands still stands still afterwards, but for the noise of the sensor."""
    window = picture_window(dtype=dtype)
    window["crops"] = window["crops"][:1].repeat(12, 1, 1, 1) * window["frame_mask"][:, None, None, None].to(dtype)
    crops = change(window, drawn(4), **ALWAYS.get(change, {}))["crops"]
    assert crops.dtype == dtype and not crops[10:].any()
    assert crops.min() >= 0 and crops.max() <= 255
    still = bool((crops[:10] == crops[:1]).all())
    assert still == (change is not add_pixel_noise)


def test_landmarks_stay_on_what_they_mark():
    """A bright dot and its landmark go the same way."""
    window = picture_window(size=64)
    window["crops"] = torch.zeros(12, 64, 64, 3)
    window["crops"][:10, 20:23, 40:43] = 255
    window["landmarks"][:] = torch.tensor([41.5, 21.5]) / 64
    for change in (partial(shift_crops, shift=0.1, zoom=1.2, turn_deg=20), partial(flip_horizontally, probability=1)):
        for seed in range(5):
            moved = change(window, drawn(seed))
            image = moved["crops"][0, :, :, 0].double()
            y, x = (torch.arange(64) + 0.5).double(), (torch.arange(64) + 0.5).double()
            found = torch.stack([(image.sum(0) * x).sum(), (image.sum(1) * y).sum()]) / image.sum() / 64
            torch.testing.assert_close(moved["landmarks"][0, 5].double(), found, atol=0.004, rtol=0)
            assert torch.equal(moved["landmarks"][11], window["landmarks"][11])


def test_mirrored_faces_have_mirrored_landmarks(astronaut):
    """FaceMesh itself says so: what it finds in the mirrored picture is what mirroring its points gives."""
    order = mirrored_landmarks()
    assert torch.equal(order[order], torch.arange(468)) and (order == torch.arange(468)).sum() == 28

    def points(picture):
        frames = picture[None].repeat(2, 1, 1, 1)
        [batch] = FaceCropper()([FrameBatch(frames, np.arange(2) / 25, np.arange(2))])
        transform = batch.transforms[0]
        return torch.from_numpy(batch.landmarks[0] * 112 @ transform[:, :2].T + transform[:, 2])

    straight, mirrored = points(astronaut), points(astronaut.flip(1))
    expected = torch.stack((512 - straight[order, 0], straight[order, 1]), -1)
    assert (mirrored - expected).norm(dim=1).mean() < 0.03 * (straight[:, 1].max() - straight[:, 1].min())
    unordered = torch.stack((512 - straight[:, 0], straight[:, 1]), -1)
    assert (mirrored - unordered).norm(dim=1).mean() > 0.2 * (straight[:, 1].max() - straight[:, 1].min())


def test_other_landmarks_cannot_be_mirrored():
    window = picture_window()
    window["landmarks"] = window["landmarks"][:, :68]
    with pytest.raises(ValueError, match="468 landmarks can be mirrored, got 68"):
        flip_horizontally(window, drawn(), probability=1.0)


def test_compression_loses_more_the_lower_its_quality():
    window = picture_window(size=44)  # no multiple of eight
    window["crops"] = torch.randint(0, 256, window["crops"].shape, generator=drawn(), dtype=torch.uint8)
    errors = []
    for quality in (5, 30, 60, 90, 100):
        coded = compress(window, drawn(), min_quality=quality, max_quality=quality)["crops"]
        errors.append((coded[:10].float() - window["crops"][:10].float()).abs().mean().item())
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1.0 < 10 < errors[0]


def test_blurring_keeps_the_mean_and_colour_changes_keep_grey_grey():
    window = picture_window(dtype=torch.float32)
    blurred = blur(window, drawn(1), max_sigma_px=2.0)["crops"]
    assert blurred[:10].mean() == pytest.approx(window["crops"][:10].mean().item(), abs=0.5)
    window["crops"] = window["crops"].mean(-1, keepdim=True).expand(-1, -1, -1, 3)
    changed = change_colour(window, drawn(1), saturation=0.9)["crops"]
    assert (changed.amax(-1) - changed.amin(-1)).max() < 1e-3


@settings(max_examples=60, deadline=None)
@given(onset=st.integers(0, 250), duration=st.integers(1, 200), start=st.integers(-100, 200), seed=st.integers(0, 99))
def test_a_short_clip_has_the_events_that_it_shows(onset, duration, start, seed):
    offset = min(299, onset + duration - 1)
    apex = (onset + offset) // 2
    window = cut_window(sequence_of(event(onset, offset, apex)), start, 256)
    short = shorten(window, drawn(seed), probability=1.0, min_frames=30)
    check_labels([short["labels"]], 1, CONFIG)
    there = torch.nonzero(short["frame_mask"])[:, 0]
    assert not (short["frame_mask"] & ~window["frame_mask"]).any()
    if not len(there):  # a run beyond an end of the video
        return
    if window["frame_mask"].all():
        assert 30 <= len(there) == there[-1] - there[0] + 1
    for begin, end in short["labels"]["intervals"].tolist():
        [[was_begin, was_end]] = window["labels"]["intervals"].tolist()
        assert was_begin <= begin and end <= was_end and (end - begin) * 3 >= was_end - was_begin
        if (begin, end) != (was_begin, was_end):
            assert was_begin >= 0 and was_end <= 256 and begin <= short["labels"]["apex"][0] < end
    whole = len(window["labels"]["intervals"]) and bool(
        (short["frame_mask"] | ~window["frame_mask"])[max(0, onset - start) : max(0, offset + 1 - start)].all()
    )
    assert not whole or len(short["labels"]["intervals"]) == 1


def test_short_clips_hold_parts_of_events_often_and_never_their_ends_alone():
    window = cut_window(sequence_of(event(100, 160, 120)), 20, 256)
    shorter = [shorten(window, drawn(seed), probability=1.0)["labels"]["intervals"] for seed in range(200)]
    lengths = torch.tensor([float(x[0, 1] - x[0, 0]) if len(x) else 0.0 for x in shorter])
    assert (lengths == 61).sum() > 60 and ((lengths > 0) & (lengths < 61)).sum() > 20
    assert lengths[lengths > 0].min() > 61 / 3


def test_a_face_that_is_somebody_elses_moves_alike():
    window = {**picture_window(), "frame_features": torch.rand(12, 5, generator=drawn())}
    mask = window["frame_mask"]
    changed = change_face(window, drawn(1), stretch=0.0, points=0.05, features=0.5)
    for name, least in (("landmarks", 0.03), ("frame_features", 0.05)):
        now, before = changed[name], window[name]
        torch.testing.assert_close(now[mask].diff(dim=0), before[mask].diff(dim=0))
        assert (now[mask] - before[mask]).std() > least and torch.equal(now[~mask], before[~mask])


def test_more_motion_is_about_the_same_rest():
    window = {**picture_window(), "frame_features": torch.rand(12, 5, generator=drawn())}
    mask = window["frame_mask"]
    changed = change_motion(window, drawn(3), ratio=2.0)
    for name in ("landmarks", "frame_features"):
        now, before = changed[name][mask], window[name][mask]
        torch.testing.assert_close(now.mean(0), before.mean(0))
        gain = (now - now.mean(0)) / (before - before.mean(0))
        assert gain.std() < 1e-2 and 0.5 <= gain.median() <= 2.0
        assert torch.equal(changed[name][~mask], window[name][~mask])


def test_landmarks_alone_are_mirrored_and_features_are_not():
    window = picture_window()
    whole = flip_horizontally(window, drawn(), probability=1.0)
    alone = {
        "landmarks": window["landmarks"],
        "frame_mask": window["frame_mask"],
        "frame_features": torch.zeros(12, 0),
    }
    assert torch.equal(flip_horizontally(alone, drawn(), probability=1.0)["landmarks"], whole["landmarks"])
    with pytest.raises(ValueError, match="cannot be mirrored"):
        flip_horizontally({**alone, "frame_features": torch.zeros(12, 4)}, drawn(), probability=1.0)
