"""Features are those of the pipeline, are computed once, and survive whatever happens to the process or the disk."""

import io
import logging
import multiprocessing
import os
import shutil
import signal

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from typer.testing import CliRunner

from fedn_hf import FednError, FednForFacialExpressionDetection, FednVideoProcessor, MediaError
from fedn_hf.cli import app
from fedn_hf.data.cache import FeatureCache, crops_of, features_of
from fedn_hf.data.collator import WindowCollator
from fedn_hf.data.windows import TrainingWindows
from tests.clips import make
from tests.test_face_fedn import scaled, scene
from tests.test_modeling_fedn import tiny
from tests.test_pipeline_fedn import SMALL, make_pipeline

FORK = multiprocessing.get_context("fork")


@pytest.fixture(scope="module")
def pipe():
    return make_pipeline(num_landmarks=468)


@pytest.fixture(scope="module")
def film(tmp_path_factory, astronaut):
    """A second and a half at 25 fps; for the first half second there is nobody."""
    face = scaled(astronaut[:256, 80:336].float(), 160).byte()
    frames = [scene(*([(face, 40 + n // 9, 30)] if n >= 13 else []), width=240, height=220) for n in range(38)]
    path = tmp_path_factory.mktemp("film") / "film.mkv"
    times = [n / 25 for n in range(38)]
    return make(path, times, "ffv1", (240, 220), "bgr0", picture=lambda number, *size: frames[number].numpy())


@pytest.fixture
def small():
    """A network of 32-pixel crops, fast enough for many videos, which counts how often its backbone is called."""
    model = FednForFacialExpressionDetection(tiny(**{**SMALL, "image_size": 32})).eval()
    return counting(model), FednVideoProcessor(size={"height": 32, "width": 32})


def counting(model):
    encode, model.calls = model.encode_frames, FORK.Value("i", 0)

    def encode_frames(*args):
        with model.calls.get_lock():
            model.calls.value += 1
        return encode(*args)

    model.encode_frames = encode_frames
    return model


def clip_of(number, frames=10):
    """Frames that are face crops already."""
    crops = torch.randint(0, 256, (frames, 32, 32, 3), generator=torch.Generator().manual_seed(number))
    return {"crops": crops.byte().numpy(), "fps": 30.0}


def assert_equal(one, other):
    assert one.inputs.keys() == other.inputs.keys()
    for name in one.inputs:
        assert torch.equal(one.inputs[name], other.inputs[name]), name
        assert one.inputs[name].dtype == other.inputs[name].dtype
    assert np.array_equal(one.native_frame, other.native_frame) and one.native_frame.dtype == np.int64
    assert np.array_equal(one.time_s, other.time_s) and one.time_s.dtype == np.float64


def warnings_of(caplog):
    logger = logging.getLogger("fedn_hf.data.cache")
    logger.addHandler(caplog.handler)
    return [record.message for record in caplog.records]


def files_in(folder):
    """Names and contents, but for locks, which are empty."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }


# --- what is kept -------------------------------------------------------------------------------------------------


def test_features_are_those_of_the_pipeline(pipe, film, tmp_path, monkeypatch):
    seen, encode = [], pipe.model.encode_frames
    monkeypatch.setattr(pipe.model, "encode_frames", lambda *args: seen.append(encode(*args)) or seen[-1])
    raw = pipe(film, return_raw=True)
    pipeline_features = torch.cat(seen)
    features = features_of(film, pipe.model, pipe.video_processor, cache=FeatureCache(tmp_path))
    mask = features.inputs["frame_mask"]
    assert len(features) == 46 and 25 < mask.sum() < 35 and not mask[:13].any()
    torch.testing.assert_close(features.inputs["frame_features"][mask], pipeline_features, atol=1e-5, rtol=1e-5)
    assert not features.inputs["frame_features"][~mask].any() and not features.inputs["landmarks"][~mask].any()
    assert features.inputs["landmarks"].shape == (46, 468, 2) and features.inputs["landmarks"].isfinite().all()
    assert features.native_frame.tolist() == raw.native_frame.tolist()
    assert features.time_s.tolist() == raw.time_s.tolist()
    [face] = raw.faces
    assert mask[face.frames].tolist() == face.mask.tolist()
    # And so the network says the same of them.
    proposals = pipe.model.detect_from_features(**features.inputs)
    start = face.first_frame
    assert start % pipe.model.config.total_stride == 0
    torch.testing.assert_close(proposals.intensity[face.frames], face.proposals.intensity, atol=1e-4, rtol=0)


def test_what_is_read_is_what_was_computed(pipe, film, tmp_path):
    cache = FeatureCache(tmp_path)
    computed = features_of(film, pipe.model, pipe.video_processor)
    written = features_of(film, pipe.model, pipe.video_processor, cache=cache)
    read = features_of(film, pipe.model, pipe.video_processor, cache=cache)
    assert_equal(written, computed)
    assert_equal(read, computed)
    assert read.facts["video"] == str(film) and read.facts["truncated_at_s"] is None
    read.inputs["frame_features"].zero_()  # in memory, not in the file that it is mapped from
    assert_equal(features_of(film, pipe.model, pipe.video_processor, cache=cache), computed)
    crops = crops_of(film, pipe.model.config, pipe.video_processor, cache=cache)
    assert crops.inputs["crops"].shape == (46, 64, 64, 3) and cache.info().videos == 2
    pixels = pipe.video_processor(crops.inputs["crops"], return_tensors="pt")["pixel_values"][0]
    encoded = pipe.model.encode_frames(pixels) * crops.inputs["frame_mask"][:, None]
    torch.testing.assert_close(encoded, computed.inputs["frame_features"], atol=1e-5, rtol=1e-5)


def test_a_video_without_a_face_is_kept_and_said(small, tmp_path, caplog):
    warnings_of(caplog)
    frames = np.zeros((10, 120, 160, 3), np.uint8)
    features = features_of(frames, *small, fps=30, cache=FeatureCache(tmp_path))
    assert not features.inputs["frame_mask"].any() and features.inputs["frame_features"].shape == (10, 16)
    assert "no face was found" in caplog.text and small[0].calls.value == 0


def test_a_second_run_computes_nothing(small, tmp_path):
    model, processor = small
    clips = [clip_of(number) for number in range(3)]
    first = [features_of(clip, model, processor, cache=FeatureCache(tmp_path)) for clip in clips]
    assert model.calls.value == 3
    second = [features_of(clip, model, processor, cache=FeatureCache(tmp_path)) for clip in clips]
    assert model.calls.value == 3
    for one, other in zip(first, second, strict=True):
        assert_equal(one, other)


def test_an_entry_is_known_by_content_and_not_by_name(small, film, tmp_path):
    model, processor = small
    cache = FeatureCache(tmp_path / "cache")
    copy = tmp_path / "another name.mkv"
    shutil.copy(film, copy)

    def entries(video, model=model, processor=processor, **more):
        features_of(video, model, processor, cache=cache, **more)
        return cache.info().videos

    assert entries(film) == 1
    assert entries(copy) == entries({"path": str(copy), "bytes": None}) == 1
    assert entries({"path": None, "bytes": copy.read_bytes()}) == entries(io.BytesIO(copy.read_bytes())) == 1
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    loaded = FednForFacialExpressionDetection.from_pretrained(tmp_path / "model")
    assert entries(film, loaded, FednVideoProcessor.from_pretrained(tmp_path / "model")) == 1
    assert entries(film, faces=1) == 2
    size = {"height": 32, "width": 32}
    assert entries(film, processor=FednVideoProcessor(size=size, margin=0.2)) == 3
    assert entries(film, processor=FednVideoProcessor(size=size, image_mean=[0.5, 0.5, 0.5])) == 4
    loaded.config.frame_rate = 25.0
    assert entries(film, loaded) == 5
    with torch.no_grad():
        next(loaded.fedn.frame_encoder.parameters()).view(-1)[0] += 1e-3
    assert entries(film, loaded) == 6
    next(loaded.fedn.embedding.parameters()).data += 1.0  # behind the features
    assert entries(film, loaded) == 6
    copy.write_bytes(copy.read_bytes() + b"\0")
    assert entries(copy, loaded) == 7
    assert entries({"video": film, "boxes": np.tile([40.0, 30, 200, 190], (38, 1))}) == 8


def test_a_folder_of_images_is_known_by_its_images_in_order(small, tmp_path, astronaut):
    for number in range(3):
        for folder, name in (("one", number), ("two", f"frame{number + 9}"), ("backwards", 3 - number)):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(astronaut.numpy()[number : number + 400]).save(tmp_path / folder / f"{name}.png")
    (tmp_path / "two" / "notes.txt").write_text("not an image")
    cache = FeatureCache(tmp_path / "cache")
    for folder, videos in (("one", 1), ("two", 1), ("backwards", 2)):
        features_of(tmp_path / folder, *small, fps=30, cache=cache)
        assert cache.info().videos == videos


def test_a_backbone_that_trains_is_left_as_it_is(tmp_path):
    model = FednForFacialExpressionDetection(tiny(**{**SMALL, "image_size": 32, "freeze_backbone": False})).train()
    before = {name: values.clone() for name, values in model.state_dict().items()}
    features = features_of(clip_of(0), model, FednVideoProcessor(size={"height": 32, "width": 32}))
    assert model.training and not features.inputs["frame_features"].requires_grad
    assert all(torch.equal(values, before[name]) for name, values in model.state_dict().items())


@pytest.mark.parametrize(
    ("video", "more", "error", "message"),
    [
        ("no such file.mp4", {}, MediaError, "no such file.mp4"),
        (b"", {}, MediaError, "<bytes>"),
        (clip_of(0), {"faces": "all"}, ValueError, "of one face"),
    ],
)
def test_what_cannot_be_kept_is_named(small, tmp_path, video, more, error, message):
    with pytest.raises(error, match=message):
        features_of(video, *small, cache=FeatureCache(tmp_path / "cache"), **more)
    assert FeatureCache(tmp_path / "cache").info().videos == 0


def test_a_network_without_backbone_is_named(small):
    with pytest.raises(ValueError, match="backbone_config=None"):
        features_of(clip_of(0), FednForFacialExpressionDetection(tiny()), small[1])


def test_a_network_of_landmarks_alone_keeps_these(small, film, tmp_path):
    config = tiny(backbone_config=None, feature_size=0, num_landmarks=468)
    cache = FeatureCache(tmp_path)
    model = FednForFacialExpressionDetection(config)
    for _ in range(2):
        found = features_of(film, model, small[1], cache=cache)
    assert found.inputs["frame_features"].shape == (len(found), 0)
    assert found.inputs["landmarks"].shape == (len(found), 468, 2)


def test_a_folder_that_cannot_be_written_is_named(small, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FednError, match="FEDN_CACHE"):
        features_of(clip_of(0), *small, cache=FeatureCache(tmp_path / "file"))


# --- what can happen ----------------------------------------------------------------------------------------------


def cache_all(model, processor, folder, count=3):
    return [features_of(clip_of(n), model, processor, cache=FeatureCache(folder)) for n in range(count)]


def killed_at(step, number, model, processor, folder):
    """Cache videos in another process, which is killed when it comes to a step for the `number`-th time."""

    def dying(original):
        calls = iter(range(number))

        def call(*args, **kwargs):
            if next(calls, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **kwargs)

        return call

    def run():
        torch.set_num_threads(1)
        if step == "encode":
            model.encode_frames = dying(model.encode_frames)
        else:  # of the values and the JSON in turn: before and after their name is given
            setattr(os, step, dying(getattr(os, step)))
        cache_all(model, processor, folder)

    process = FORK.Process(target=run)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("step", "number", "whole"), [("encode", 1, 1), ("fsync", 0, 0), ("fsync", 2, 1), ("fsync", 3, 1), ("fsync", 5, 2)]
)
def test_killed_and_run_again_is_as_if_nothing_had_happened(small, tmp_path, step, number, whole):
    model, processor = small
    undisturbed = cache_all(model, processor, tmp_path / "undisturbed")
    killed_at(step, number, model, processor, tmp_path / "killed")
    info = FeatureCache(tmp_path / "killed").info()
    assert info.videos == whole
    if step == "fsync":
        assert info.unfinished_bytes > 0
    before = model.calls.value
    again = cache_all(model, processor, tmp_path / "killed")
    assert model.calls.value - before == 3 - whole
    for one, other in zip(undisturbed, again, strict=True):
        assert_equal(one, other)
    assert files_in(tmp_path / "killed") == files_in(tmp_path / "undisturbed")
    assert FeatureCache(tmp_path / "killed").info().unfinished_bytes == 0


def test_two_processes_share_the_work(small, tmp_path):
    model, processor = small
    barrier = FORK.Barrier(2)

    def run():
        torch.set_num_threads(1)
        barrier.wait(30)
        cache_all(model, processor, tmp_path / "shared", 6)

    processes = [FORK.Process(target=run) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert model.calls.value == 6  # each by one of them
    cache_all(model, processor, tmp_path / "alone", 6)
    assert files_in(tmp_path / "shared") == files_in(tmp_path / "alone")


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-7])


def one_bit(path):
    """In the middle of the values, and of the hash that stands last."""
    content = bytearray(path.read_bytes())
    content[-10] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
@pytest.mark.parametrize(
    "damage", [cut_short, one_bit, lambda path: path.write_bytes(b""), lambda path: path.unlink()]
)
def test_damaged_entries_are_computed_again_and_said(small, tmp_path, caplog, suffix, damage):
    model, processor = small
    cache = FeatureCache(tmp_path)
    first = features_of(clip_of(0), model, processor, cache=cache)
    kept = {name: values.clone() for name, values in first.inputs.items()}
    before = files_in(tmp_path)
    [path] = tmp_path.glob(f"*/*{suffix}")
    content = path.read_bytes()
    damage(path)
    damage_leaves_file = path.exists()
    warnings_of(caplog)
    again = features_of(clip_of(0), model, processor, cache=cache)
    assert all(torch.equal(again.inputs[name], kept[name]) for name in kept)
    assert model.calls.value == 2
    assert files_in(tmp_path) == before and path.read_bytes() == content
    # An entry without its JSON is one that was never finished: nothing to complain about.
    unfinished = suffix == ".json" and not damage_leaves_file
    assert ("computed again" in caplog.text) != unfinished


# --- the folder ---------------------------------------------------------------------------------------------------


def test_info_and_clear(small, tmp_path, monkeypatch):
    monkeypatch.setenv("FEDN_CACHE", str(tmp_path / "cache"))
    run = CliRunner().invoke
    assert "0 videos, 0 frames" in run(app, ["cache", "info"]).output
    cache_all(*small, None)
    (tmp_path / "cache" / "mine.txt").write_text("not a feature")
    (tmp_path / "cache" / "ab").mkdir(exist_ok=True)
    (tmp_path / "cache" / "ab" / "mine.json").write_text("{}")
    said = run(app, ["cache", "info"])
    assert said.exit_code == 0 and "3 videos, 30 frames" in said.output and "unfinished" not in said.output
    killed_at("fsync", 0, *small, str(tmp_path / "other"))
    said = run(app, ["cache", "info", "--folder", str(tmp_path / "other")])
    assert "0 videos" in said.output and "unfinished" in said.output
    assert run(app, ["cache", "clear", "--folder", str(tmp_path / "other")]).exit_code == 0
    assert not [path for path in (tmp_path / "other").rglob("*") if path.is_file()]
    said = run(app, ["cache", "clear"])
    assert said.exit_code == 0 and "removed 3 videos" in said.output
    left = sorted(path.name for path in (tmp_path / "cache").rglob("*") if path.is_file())
    assert left == ["mine.json", "mine.txt"]


def test_clear_leaves_what_is_being_computed(small, tmp_path):
    model, processor = small
    cache = FeatureCache(tmp_path)
    features_of(clip_of(0), model, processor, cache=cache)
    encode, seen = model.encode_frames, []

    def clear_meanwhile(*args):
        seen.append(cache.clear())
        return encode(*args)

    model.encode_frames = clear_meanwhile
    features = features_of(clip_of(1), model, processor, cache=cache)
    assert seen == [(1, 1)]
    assert_equal(features, features_of(clip_of(1), model, processor, cache=cache))
    assert cache.info().videos == 1
    assert CliRunner().invoke(app, ["cache", "clear", "--folder", str(tmp_path)]).exit_code == 0


# --- and on to training -------------------------------------------------------------------------------------------


def test_from_a_corpus_row_to_a_loss(small, tmp_path):
    model, processor = small
    events = [{"onset": 100, "apex": 110, "offset": 120, "type": "micro-expression", "emotion": "fear"}]
    rows = [
        {"video": clip_of(n, 600), "video_id": f"v{n}", "subject_id": f"s{n}", "fps": 30.0, "events": events}
        for n in range(2)
    ]
    sequences = [
        features_of(row["video"], model, processor, cache=FeatureCache(tmp_path)).sequence(row, model.config)
        for row in rows
    ]
    windows = TrainingWindows(sequences, model.config, seed=0)
    batches = list(DataLoader(windows, batch_size=2, collate_fn=WindowCollator()))
    assert len(batches) == 2
    assert all(model(**batch).loss.isfinite() for batch in batches)


def test_features_are_made_of_crops_that_are_there(pipe, film, tmp_path, monkeypatch):
    cache, crops = FeatureCache(tmp_path), FeatureCache(tmp_path / "other")
    from_video = features_of(film, pipe.model, pipe.video_processor, cache=crops)
    crops_of(film, pipe.model.config, pipe.video_processor, cache=cache)
    monkeypatch.setattr("fedn_hf.pipeline_fedn.VideoSource.crops", None)  # reading the video again would fail
    from_crops = features_of(film, pipe.model, pipe.video_processor, cache=cache)
    for name in from_video.inputs:
        torch.testing.assert_close(from_crops.inputs[name], from_video.inputs[name])
    assert np.array_equal(from_crops.native_frame, from_video.native_frame)
    assert from_crops.facts["key"] == from_video.facts["key"]


def test_crops_of_nobody_make_no_features(small, tmp_path):
    model, processor = small
    nobody = {"video": np.zeros((8, 48, 64, 3), np.uint8), "fps": 30.0}
    crops_of(nobody, model.config, processor, cache=FeatureCache(tmp_path))
    features = features_of(nobody, model, processor, cache=FeatureCache(tmp_path))
    assert not features.inputs["frame_mask"].any() and not features.inputs["frame_features"].any()
