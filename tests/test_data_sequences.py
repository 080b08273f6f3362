"""Native frames to network frames: by the reader's own table, exactly, at any rate; and no event goes unseen."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_scripts.corpus import schema
from fedn_hf import FednConfig, VideoReader
from fedn_hf.data.sequences import FednSequence, map_events, named_rows, native_frames
from fedn_hf.loss_fedn import check_labels
from tests.clips import VARIABLE
from tests.test_modeling_fedn import tiny

CONFIG = tiny()


def event(onset, offset, apex=-1, type="macro-expression", emotion=None, **more):
    return {"onset": onset, "apex": apex, "offset": offset, "type": type, "emotion": emotion, **more}


def sequence_of(*events, length=1000, fps=30.0, features=None, config=CONFIG, subject="s1", video="v1"):
    features = torch.randn(length, config.feature_size) if features is None else features
    row = {"video_id": video, "subject_id": subject, "fps": fps, "events": list(events)}
    return FednSequence.from_native(row, {"frame_features": features}, config)


@pytest.mark.parametrize("frame_rate", [30, 24, 12.5])
@pytest.mark.parametrize("native_fps", [25, 30, 29.97, 60, 120, 200, 10])
def test_the_table_is_the_readers(native_fps, frame_rate):
    for length in (2, 7, 203):
        frames = np.zeros((length, 8, 8, 3), np.uint8)
        batches = list(VideoReader(frames, native_fps=native_fps, fps=frame_rate))
        expected = np.concatenate([batch.native_frame for batch in batches])
        assert native_frames(np.arange(length) / native_fps, frame_rate).tolist() == expected.tolist()


def test_the_table_is_the_readers_at_a_variable_rate(clip):
    native = np.concatenate([batch.native_frame for batch in VideoReader(clip("h264-variable.mkv"), fps=30)])
    times = np.array(VARIABLE)
    mapped = native_frames(times, 30)
    shared = min(len(native), len(mapped))  # the file says how long its last frame lasts, times alone do not
    assert shared > len(mapped) - 8
    assert mapped[:shared].tolist() == native[:shared].tolist()


TABLES = {
    "25 to 30": native_frames(np.arange(500) / 25, 30),
    "30 to 30": np.arange(600),
    "60 to 30": native_frames(np.arange(1200) / 60, 30),
    "200 to 30": native_frames(np.arange(4000) / 200, 30),
    "variable": native_frames(np.cumsum([0.04, 0.02, 0.1, 0.033, 0.5, 0.04] * 80), 30),
    "a part": native_frames(np.arange(4000) / 200, 30)[200:400],
}


@pytest.mark.parametrize("name", TABLES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_network_frame_lies_in_an_event_if_its_native_frame_does(name, data):
    table = TABLES[name]
    onset = data.draw(st.integers(0, int(table[-1]) + 50))
    offset = data.draw(st.integers(onset, int(table[-1]) + 100))
    apex = data.draw(st.integers(onset, offset))
    labels, lost = map_events([event(onset, offset, apex)], table, CONFIG)
    shown = np.flatnonzero((table >= onset) & (table <= offset))
    assert len(labels["intervals"]) + len(lost) == 1
    if not len(shown):
        assert lost == [event(onset, offset, apex)]
        return
    check_labels([labels], 1, CONFIG)
    start, end = labels["intervals"][0].tolist()
    inside = [frame for frame in range(len(table)) if start <= frame < end]
    assert inside == shown.tolist()
    # Back by the table, as results are: never outside of the event, and no network frame short of it.
    assert table[inside[0]] >= onset and (inside[0] == 0 or table[inside[0] - 1] < onset)
    assert table[inside[-1]] <= offset and (inside[-1] == len(table) - 1 or table[inside[-1] + 1] > offset)
    apex_frame = labels["apex"][0].item()
    showing = np.flatnonzero(table == apex)
    if len(showing):
        assert apex_frame == pytest.approx(showing.mean() + 0.5)


def test_rates_that_people_use_by_hand():
    def interval(native_fps, onset, offset):
        table = native_frames(np.arange(20 * native_fps) / native_fps, 30)
        return map_events([event(onset, offset)], table, CONFIG)[0]["intervals"].tolist()

    assert interval(30, 12, 20) == [[12, 21]]
    assert interval(60, 60, 119) == [[30, 60]]
    assert interval(25, 25, 49) == [[30, 60]]
    assert interval(200, 200, 399) == [[30, 60]]


def test_events_that_reach_out_of_what_was_read_keep_their_length():
    table = native_frames(np.arange(4000) / 200, 30)[150:300]  # seconds 5 to 10
    labels, lost = map_events([event(800, 1199), event(1800, 2199), event(0, 100)], table, CONFIG)
    assert labels["intervals"].tolist() == [[-30, 30], [120, 180]]
    assert [row["offset"] for row in lost] == [100]


def test_what_is_unknown_stays_unknown():
    labels, _ = map_events(
        [event(10, 20, -1), event(10, 20, None, emotion="fear"), event(30, 40, 50)], np.arange(99), CONFIG
    )
    assert labels["apex"].isnan().all()
    assert labels["class_labels"].tolist() == [-100, CONFIG.label2id["fear"], -100]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (event(10, 9), "onset=10, offset=9"),
        (event(1, 2, type="blink"), "got 'blink'"),
        (event(1, 2, emotion="positive"), "label scheme"),
    ],
)
def test_rows_that_cannot_be_labels_are_named(row, message):
    with pytest.raises(ValueError, match=message):
        map_events([row], np.arange(99), CONFIG)


def test_features_are_picked_by_the_same_table():
    features = torch.arange(4000.0)[:, None].expand(-1, 16)
    sequence = sequence_of(event(200, 399), features=features, fps=200.0)
    assert sequence.inputs["frame_features"][:, 0].tolist() == sequence.native_frame.tolist()
    assert np.allclose(sequence.time_s, sequence.native_frame / 200)
    assert sequence.inputs["frame_mask"].all() and len(sequence) == 600


def test_inputs_that_do_not_fit_are_named():
    row = {"video_id": "v1", "subject_id": "s1", "fps": 30.0, "events": []}
    with pytest.raises(ValueError, match="same number of frames"):
        FednSequence.from_native(row, {"frame_features": torch.zeros(9, 4), "landmarks": torch.zeros(8, 3, 2)}, CONFIG)
    with pytest.raises(ValueError, match="one of frame_features and crops"):
        FednSequence.from_native(row, {"landmarks": torch.zeros(8, 3, 2)}, CONFIG)
    with pytest.raises(ValueError, match="never fall"):
        native_frames(np.array([0.0, 2.0, 1.0]), 30)


@pytest.mark.parametrize("read", [lambda dataset: dataset, lambda dataset: dataset.to_iterable_dataset()])
def test_rows_of_a_corpus_become_sequences_of_a_network_that_numbers_otherwise(read):
    common = {"onset": 2, "apex": None, "offset": 9, "action_units": "12"}
    events = [
        {**common, "type": "micro-expression", "emotion": "surprise", "self_report": "fear"},
        {**common, "type": "macro-expression", "emotion": None, "self_report": None},
    ]
    row = {"video": {"path": "a.mkv", "bytes": None}, "video_id": "a", "subject_id": "s1", "fps": 30.0}
    rows = Dataset.from_list([{**row, "num_frames": 40, "events": events}], features=schema("emotion_7"))
    assert rows[0]["events"][0]["emotion"] == 1 and rows[0]["events"][1]["type"] == 0
    (found,) = named_rows(read(rows))
    assert found == {**row, "num_frames": 40, "events": events}
    names = ["fear", "surprise"]
    config = FednConfig(id2label=dict(enumerate(names)), expression_types=["micro-expression", "macro-expression"])
    labels = FednSequence.from_native(found, {"frame_features": torch.zeros(40, 8)}, config).labels
    assert labels["class_labels"].tolist() == [1, -100] and labels["type_labels"].tolist() == [0, 1]
    assert list(named_rows([found])) == [found]
