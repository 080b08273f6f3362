"""What comes out while a video still comes in: the same as in the end, as early as can be, and for good."""

import numpy as np
import pytest
import torch

from fedn_hf import FednDetections, passing_fedn
from fedn_hf.passing_fedn import PassingFace, Undecided, decided_before, join
from fedn_hf.postprocessing_fedn import type_scores
from tests.test_modeling_fedn import detector
from tests.test_pipeline_fedn import EVERYTHING, film, frames, make_pipeline  # noqa: F401 (fixtures)

FRAMES, FPS = 1500, 30


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return detector()


@pytest.fixture(autouse=True)
def _small_windows(monkeypatch):
    monkeypatch.setattr(passing_fedn, "OWN_FRAMES", 64)


def features_of(seed):
    return torch.randn(FRAMES, 16, generator=torch.Generator().manual_seed(seed))


def pieces_of(model, features, size):
    """What the steps of a video of one face add, and how many frames have come with each."""
    face = PassingFace(0, 0, model.config.total_stride)
    for start in range(0, len(features), size):
        at = np.arange(start, min(start + size, len(features)))
        face.add({"frame": at, **{k: np.ones(len(at)) for k in ("confidence", "face_size_px", "fit")}},
                 {"frame_features": features[at]})  # fmt: skip
        yield at[-1] + 1, face.advance(model, ended=False)
    yield len(features), face.advance(model, ended=True)


def rows_of(model, face, settings):
    config = model.config
    times = torch.arange(FRAMES).double() / FPS
    labels = [config.id2label[i] for i in range(config.num_labels)]
    video = FednDetections({}, labels, config.expression_types, 0.5, {}, times, torch.arange(FRAMES), [face])
    return video.expressions(**settings)


def streamed(model, features, size, settings):
    """(frames that have come, an expression), one after the other."""
    undecided = Undecided(model.config.context_frames, settings["score_threshold"])
    for came, piece in pieces_of(model, features, size):
        face = undecided.add(piece)
        if face is not None:
            yield from ((came, row) for row in rows_of(model, face, settings))


def whole(model, features, settings):
    return rows_of(model, join([piece for _, piece in pieces_of(model, features, FRAMES)]), settings)


def settings_for(model, features, share, nms="soft"):
    """A threshold that so many of the proposals reach."""
    face = join([piece for _, piece in pieces_of(model, features, FRAMES)])
    scores = type_scores(face.proposals).amax(-1)
    return {"score_threshold": float(scores.quantile(1 - share)), "nms": nms}


@torch.no_grad()
@pytest.mark.parametrize(("share", "nms"), [(0.001, "soft"), (0.004, "hard"), (0.02, "soft"), (1.0, "soft")])
def test_a_stream_gives_what_a_call_gives_to_the_last_digit(model, share, nms):
    features = features_of(1)
    settings = settings_for(model, features, share, nms)
    expected = whole(model, features, settings)
    for size in (32, 333):
        assert [row for _, row in streamed(model, features, size, settings)] == expected != []


@torch.no_grad()
@pytest.mark.parametrize("seed", range(4))
def test_what_has_come_out_never_changes(model, seed):
    """Whatever comes behind a frame, the events that were out by then are among those of the whole."""
    one, other = features_of(seed), features_of(seed + 100)
    settings = settings_for(model, one, 0.003)
    events = list(streamed(model, one, 32, settings))
    assert sum(came < FRAMES for came, _ in events) >= 3
    for cut in (700, 900, 1100, 1300):
        out = [row for came, row in events if came <= cut]
        changed = torch.cat((one[:cut], 5 * other[cut:]))
        after = whole(model, changed, settings)
        assert after[: len(out)] == out
        assert [row for came, row in streamed(model, changed, 32, settings) if came <= cut] == out


@torch.no_grad()
def test_events_come_as_early_as_they_can(model):
    """Where a group of overlapping proposals ends, its events wait for no more than context, reach and window."""
    features = features_of(1)
    settings = settings_for(model, features, 0.001)
    wait = 2 * model.config.context_frames + passing_fedn.own_frames(model.config.total_stride) + 32
    events = list(streamed(model, features, 32, settings))
    ends = np.maximum.accumulate([row["offset_s"] * FPS for _, row in events])
    assert all(came - end <= wait or came == FRAMES for (came, _), end in zip(events, ends, strict=True))
    assert any(came < FRAMES for came, _ in events)


def test_groups_are_decided_whole_and_in_order():
    spans = torch.tensor([[0.0, 9.0], [8.0, 30.0], [40.0, 50.0], [60.0, 90.0], [45.0, 55.0], [62.0, 63.0]])
    for until, count in ((29, 0), (30, 2), (54, 2), (55, 4), (70, 4), (90, 6)):
        decided = decided_before(spans, until)
        assert int(decided.sum()) == count
        assert decided.nonzero()[:, 0].tolist() == sorted([0, 1, 2, 4, 3, 5][:count])
    assert decided_before(torch.zeros(0, 2), 10).tolist() == []


# --- the pipeline ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"faces": "all"}, {"types": "micro-expression", "min_duration_s": 0.3}])
def test_stream_gives_the_events_of_a_call(film, settings):  # noqa: F811
    detect = make_pipeline()
    for threshold in (0.005, 0.011):
        wanted = {**EVERYTHING, **settings, "score_threshold": threshold}
        found = list(detect.stream(film, **wanted))
        assert sorted(found, key=lambda row: (row["onset_s"], row["face_id"])) == detect(film, **wanted)
        assert found
    assert list(detect.stream(film)) == []


def test_stream_is_lazy_and_complains_at_once(film, frames):  # noqa: F811
    detect = make_pipeline()
    for settings in ({"treshold": 1}, {"score_threshold": 2}, {"return_raw": True}, {"batch_size": 0}):
        with pytest.raises(ValueError):
            detect.stream("absent.mp4", **settings)
    events = detect.stream("absent.mp4")
    with pytest.raises(OSError, match=r"absent\.mp4: no such file"):
        next(events)
    assert list(detect.stream(list(frames[:20]), fps=25, **EVERYTHING)) == detect(frames[:20], fps=25, **EVERYTHING)
    assert detect.latency_s == (2 * detect.model.config.context_frames + 64 + 64) / 30
