"""Windows: every event where it was, in every epoch and from every worker the same, in the proportion asked for."""

import logging

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from fedn_hf import FednForFacialExpressionDetection, FednVideoProcessor
from fedn_hf.data.augmentation import add_feature_noise, hide_frames
from fedn_hf.data.collator import WindowCollator
from fedn_hf.data.sequences import FednSequence
from fedn_hf.data.windows import CoveringWindows, TrainingWindows, count_events, cut_window
from fedn_hf.loss_fedn import check_labels
from tests.test_data_sequences import CONFIG, event, sequence_of
from tests.test_modeling_fedn import TINY_BACKBONE, tiny

SIZE = CONFIG.window_size


def numbered(length, *events, **more):
    """A sequence whose features say which frame they are of, from 1 on: 0 is what padding holds."""
    features = torch.arange(1.0, length + 1)[:, None].repeat(1, CONFIG.feature_size)
    return sequence_of(*events, features=features, **more)


def values_of(batch):
    """All numbers of a batch, comparable."""
    labels = [{name: values.tolist() for name, values in row.items()} for row in batch["labels"]]
    return batch["frame_features"].numpy().tobytes(), batch["frame_mask"].numpy().tobytes(), repr(labels)


def frames_of(window):
    return window["frame_features"][:, 0].long() - 1


class TestCutting:
    @settings(max_examples=150, deadline=None)
    @given(data=st.data())
    def test_events_stay_on_their_frames(self, data):
        length = data.draw(st.integers(1, 400), "length")
        onset = data.draw(st.integers(0, length - 1), "onset")
        offset = data.draw(st.integers(onset, length - 1), "offset")
        start = data.draw(st.integers(-300, 400), "start")
        speed = data.draw(st.sampled_from([1.0, 1.0, 0.5, 0.8, 1.25, 2.0]), "speed")
        size = data.draw(st.integers(1, 300), "size")
        window = cut_window(numbered(length, event(onset, offset, (onset + offset) // 2)), start, size, speed)
        frames, mask, labels = frames_of(window), window["frame_mask"], window["labels"]
        check_labels([labels], 1, CONFIG)
        assert mask.tolist() == (frames >= 0).tolist()
        if speed == 1:
            assert frames[mask].tolist() == [n for n in range(start, start + size) if 0 <= n < length]
        inside = mask & (frames >= onset) & (frames <= offset)
        if not len(labels["intervals"]):
            assert not inside.any()
            return
        begin, end = labels["intervals"][0].tolist()
        centres = torch.arange(size) + 0.5
        assert ((centres >= begin) & (centres < end)).tolist() == inside.tolist()
        assert end - begin == pytest.approx((offset - onset + 1) / speed, rel=1e-4)
        seen = max(0, min(end, size) - max(begin, 0)) / (end - begin)
        assert labels["visible"][0].item() == pytest.approx(seen, rel=1e-3, abs=1e-5)

    def test_events_elsewhere_are_left_out_and_types_stay_with_theirs(self):
        events = [
            event(10, 20),
            event(100, 120, type="micro-expression", emotion="fear"),
            event(300, 350, emotion="anger"),
        ]
        labels = cut_window(numbered(1000, *events), 90, 230)["labels"]
        assert labels["intervals"].tolist() == [[10, 31], [210, 261]]
        assert labels["type_labels"].tolist() == [1, 0]
        assert labels["class_labels"].tolist() == [CONFIG.label2id["fear"], CONFIG.label2id["anger"]]
        assert labels["visible"].tolist() == pytest.approx([1, 20 / 51])


class TestTraining:
    sequences = (
        numbered(1500, event(0, 9), event(700, 740, 712, "micro-expression", "fear"), video="a"),
        numbered(2200, event(60, 320), event(1400, 1420), event(1430, 1450), event(2195, 2199), video="b"),
        numbered(90, event(30, 60), video="short"),
        numbered(700, video="nothing happens"),
    )

    def windows(self, **more):
        return TrainingWindows(self.sequences, CONFIG, **{"seed": 0, **more})

    @pytest.mark.parametrize(("fraction", "total"), [(0.5, 14), (0.25, 28), (1.0, 7), (0.7, 10)])
    def test_windows_come_in_the_proportion_that_was_asked_for(self, fraction, total):
        windows = self.windows(positive_fraction=fraction)
        assert len(windows) == total
        for epoch in range(5):
            windows.set_epoch(epoch)
            empty = [len(window["labels"]["intervals"]) == 0 for window in windows]
            assert len(empty) - sum(empty) == 7

    @pytest.mark.parametrize("speed", [(1.0, 1.0), (0.7, 1.4), (1.3, 1.3)])
    def test_every_event_has_a_window_that_shows_it_in_every_epoch(self, speed):
        windows = self.windows(speed=speed)
        places = {}
        for epoch in range(30):
            windows.set_epoch(epoch)
            shown = set()
            for window in windows:
                check_labels([window["labels"]], 1, CONFIG)
                assert len(window["frame_mask"]) == SIZE
                for (begin, end), visible in zip(
                    window["labels"]["intervals"].tolist(), window["labels"]["visible"].tolist(), strict=True
                ):
                    if visible > CONFIG.min_visible_fraction:
                        centre = (begin + end) / 2 + window["start"]
                        key = (window["video_id"], round(centre * window["speed"] / 4))
                        shown.add(key)
                        places.setdefault(key, set()).add(begin)
                middle = (window["start"] + SIZE // 2) * window["speed"]
                assert -1 <= middle <= 2201
            assert len(shown) == 7
        assert all(len(begins) > 15 for begins in places.values())

    @settings(max_examples=150, deadline=None)
    @given(data=st.data())
    def test_an_event_that_counts_as_trainable_is_positive(self, data):
        length = data.draw(st.integers(1, 900), "length")
        onset = data.draw(st.integers(0, length - 1), "onset")
        offset = onset + data.draw(st.integers(0, 300), "duration")
        speed = data.draw(st.sampled_from([0.5, 0.8, 1.0, 1.25]), "speed")
        sequence = numbered(length, event(onset, offset))
        if not count_events([sequence], CONFIG).trainable:
            return
        windows = TrainingWindows([sequence], CONFIG, seed=0, positive_fraction=1.0, speed=(speed, speed))
        for epoch in range(5):
            windows.set_epoch(epoch)
            [window] = windows
            assert window["labels"]["visible"].item() > CONFIG.min_visible_fraction
            assert window["frame_mask"].any()

    def test_accelerate_moves_on_to_the_next_epoch(self):
        windows = self.windows()
        expected = []
        for epoch in (0, 1):
            windows.set_epoch(epoch)
            expected.append([window["start"] for window in windows])
        windows.set_epoch(0)
        try:
            loader = Accelerator(cpu=True).prepare(DataLoader(windows, batch_size=1, collate_fn=list))
            assert [[window["start"] for [window] in loader] for _ in range(2)] == expected
        finally:
            AcceleratorState._reset_state(reset_partial_state=True)

    def test_negative_windows_come_from_everywhere(self):
        starts = {}
        windows = self.windows(positive_fraction=0.1)
        for epoch in range(30):
            windows.set_epoch(epoch)
            for window in windows:
                if not len(window["labels"]["intervals"]):
                    assert window["frame_mask"].float().mean() >= 0.17  # half of what the short video has
                    starts.setdefault(window["video_id"], []).append(window["start"])
        assert starts.keys() == {"a", "b", "nothing happens"}
        assert np.ptp(starts["nothing happens"]) > 600 and min(starts["nothing happens"]) < -100
        assert len(set(starts["b"])) > 150

    def test_the_same_seed_gives_the_same_windows_from_any_number_of_workers(self):
        def all_of(workers, **more):
            windows = self.windows(augmentations=[add_feature_noise, hide_frames], speed=(0.8, 1.2), **more)
            loader = DataLoader(
                windows,
                batch_size=3,
                num_workers=workers,
                collate_fn=WindowCollator(),
                persistent_workers=workers > 0,
                multiprocessing_context="fork" if workers else None,
            )
            found = []
            for epoch in (0, 1):
                windows.set_epoch(epoch)
                found += [values_of(batch) for batch in loader]
            return found

        alone = all_of(0)
        assert len(set(alone)) == 10
        assert all_of(1) == alone
        assert all_of(2) == alone
        assert not set(all_of(0, seed=1)) & set(alone)

    def test_one_window_needs_none_of_those_before(self):
        first, second = self.windows(), self.windows()
        second.set_epoch(3)
        later = second[5]
        assert not torch.equal(first[5]["frame_features"], later["frame_features"])
        first.set_epoch(3)
        assert torch.equal(first[5]["frame_features"], later["frame_features"])
        with pytest.raises(IndexError):
            first[len(first)]

    def test_long_events_and_other_losses_are_counted_and_said(self, caplog):
        longest = int(SIZE / CONFIG.min_visible_fraction)
        sequence = numbered(
            3000, event(0, longest - 1), event(500, 500 + longest), event(2990, 3010), event(5000, 5010)
        )
        mask = torch.ones(3000, dtype=torch.bool)
        mask[1500:1600] = False
        row = {"video_id": "v", "subject_id": "s", "events": [event(1510, 1520)]}
        hidden = FednSequence.build(
            row, {**sequence.inputs, "frame_mask": mask}, CONFIG, sequence.native_frame, sequence.time_s
        )
        counts = count_events([sequence, hidden], CONFIG)
        assert vars(counts) == dict(total=5, trainable=1, lost=1, cut=1, unseen=1, too_long=1)
        logger = logging.getLogger("fedn_hf.data.windows")
        logger.addHandler(caplog.handler)
        try:
            windows = TrainingWindows([sequence, hidden], CONFIG, seed=0)
        finally:
            logger.removeHandler(caplog.handler)
        assert "1 of 5 events can be learnt" in caplog.text and "too long for a window: 1" in caplog.text
        assert windows.counts == counts
        # What cannot be learnt is no background either.
        for epoch in range(20):
            windows.set_epoch(epoch)
            for window in windows:
                if window["video_id"] == "v" and not len(window["labels"]["intervals"]):
                    assert not 1510 - SIZE < window["start"] <= 1520

    @pytest.mark.parametrize(
        ("sequences", "settings", "message"),
        [
            ([numbered(900)], {}, "no event to learn in 1 videos: 0 of 0"),
            ([numbered(300, event(0, 255))], {}, "free of events.*positive_fraction=1.0"),
            ([numbered(900, event(5, 9))], {"positive_fraction": 0}, "got 0"),
            ([numbered(900, event(5, 9))], {"speed": (1.2, 0.8)}, "slowest and the fastest"),
        ],
    )
    def test_what_cannot_be_done_is_named(self, sequences, settings, message):
        with pytest.raises(ValueError, match=message):
            TrainingWindows(sequences, CONFIG, **{"seed": 0, **settings})


@settings(max_examples=60, deadline=None)
@given(length=st.integers(1, 2000), onset=st.integers(0, 1999), duration=st.integers(1, SIZE // 2))
def test_the_cover_shows_every_frame_and_every_event_of_half_a_window_whole(length, onset, duration):
    onset = min(onset, length - 1)
    windows = list(CoveringWindows([numbered(length, event(onset, min(length, onset + duration) - 1))], CONFIG))
    assert {n for window in windows for n in frames_of(window).tolist()} - {-1} == set(range(length))
    assert any((window["labels"]["visible"] == 1).any() for window in windows)
    assert all(window["frame_mask"].any() for window in windows)


class TestCollator:
    def test_windows_of_crops_become_pixel_values(self):
        config = tiny(backbone_config=TINY_BACKBONE, image_size=32, num_landmarks=468)
        processor = FednVideoProcessor(size={"height": 32, "width": 32})
        crops = torch.randint(0, 256, (300, 32, 32, 3), dtype=torch.uint8)
        row = {"video_id": "v", "subject_id": "s", "fps": 30.0, "events": [event(100, 140, emotion="fear")]}
        inputs = {"crops": crops, "landmarks": torch.rand(300, 468, 2)}
        sequence = FednSequence.from_native(row, inputs, config)
        batch = WindowCollator(processor)([cut_window(sequence, 90, 64), cut_window(sequence, 270, 48)])
        assert {name: tuple(values.shape) for name, values in batch.items() if name != "labels"} == {
            "pixel_values": (2, 64, 3, 32, 32),
            "landmarks": (2, 64, 468, 2),
            "frame_mask": (2, 64),
        }
        assert batch["frame_mask"].sum(1).tolist() == [64, 30]
        expected = processor(crops[90:154], return_tensors="pt")["pixel_values"][0]
        assert torch.equal(batch["pixel_values"][0], expected)
        assert FednForFacialExpressionDetection(config)(**batch).loss.isfinite()
        with pytest.raises(ValueError, match="video_processor"):
            WindowCollator()([cut_window(sequence, 90, 64)])

    def test_windows_of_different_kinds_are_refused(self):
        with pytest.raises(ValueError, match="same inputs"):
            WindowCollator()([])


def test_a_network_learns_from_windows():
    """From events in noise to a loss that falls, on windows that are new in every epoch."""
    generator = torch.Generator().manual_seed(0)
    sequences = []
    for number in range(4):
        onsets = [200 + 331 * k + 17 * number for k in range(4)]
        features = torch.randn(1700, CONFIG.feature_size, generator=generator) * 0.3
        for k, onset in enumerate(onsets):
            features[onset : onset + 30, k % 2] += 3.0
        events = [
            event(onset, onset + 29, onset + 15, CONFIG.expression_types[k % 2], "fear")
            for k, onset in enumerate(onsets)
        ]
        sequences.append(sequence_of(*events, features=features, video=f"v{number}"))
    windows = TrainingWindows(sequences, CONFIG, seed=0, augmentations=[add_feature_noise])
    loader = DataLoader(windows, batch_size=8, collate_fn=WindowCollator())
    torch.manual_seed(0)
    model = FednForFacialExpressionDetection(tiny(temporal_difference=False, use_intensity_head=False)).train()
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    losses = []
    for epoch in range(12):
        windows.set_epoch(epoch)
        total = 0.0
        for batch in loader:
            loss = model(**batch).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        losses.append(total / len(loader))
    assert losses[-1] < 0.6 * losses[0], losses
