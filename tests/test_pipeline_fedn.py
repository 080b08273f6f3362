"""One line from a video to a table: the same as by hand, from every kind of source, and nothing is lost."""

import functools
import http.server
import io
import itertools
import json
import threading
from pathlib import Path

import av
import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import pipeline
from transformers.pipelines.pt_utils import KeyDataset

from fedn_hf import (
    FaceCropper,
    FednError,
    FednForFacialExpressionDetection,
    FednVideoProcessor,
    MediaError,
    VideoReader,
    find_intervals,
    passing_fedn,
    pipeline_fedn,
)
from fedn_hf.passing_fedn import PassingFace, join
from fedn_hf.pipeline_fedn import TASK
from fedn_hf.postprocessing_fedn import plan_windows, without_doubles
from tests.test_face_fedn import scaled, scene
from tests.test_modeling_fedn import TINY_BACKBONE, detector, tiny

FPS = 25
EVERYTHING = {"score_threshold": 0.005, "nms": "hard"}
# Where it matters how many videos are given in what way: the first part, in which both faces come.
BRIEFLY = {**EVERYTHING, "end_s": 1.8}
SMALL = {"image_size": 64, "backbone_config": TINY_BACKBONE, "initializer_range": 0.06}


def make_pipeline(**changes):
    """An untrained network, small but whole: what it finds means nothing, and is the same every time."""
    torch.manual_seed(0)
    model = FednForFacialExpressionDetection(tiny(**{**SMALL, **changes}))
    model.branches["boundaries"].predict.weight.data.mul_(0.1)
    processor = FednVideoProcessor(size={"height": 64, "width": 64})
    return pipeline(TASK, model=model, video_processor=processor, device="cpu")


@pytest.fixture(scope="module")
def detect():
    return make_pipeline()


@pytest.fixture(scope="module")
def frames(astronaut):
    """Four seconds, (100, 240, 320, 3): a woman to the left, from frame 30 to 79 another face to the right."""
    left, right = scaled(astronaut[:256, 90:346], 200), scaled(astronaut[:256, 90:346].flip(1), 130)
    one, two = scene((left, 0, 20)), scene((left, 0, 20), (right, 190, 60))
    video = torch.stack([two if 30 <= i < 80 else one for i in range(100)]).numpy().copy()
    video[:, 100:140, 60:120] += np.arange(100, dtype=np.uint8)[:, None, None, None] // 4  # something changes
    return video


@pytest.fixture(scope="module")
def film(frames, tmp_path_factory):
    """The same as a file, without loss."""
    path = tmp_path_factory.mktemp("films") / "two people ü.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "bgr0"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode(None))
    return str(path)


@pytest.fixture(scope="module")
def found(detect, film):
    """What is found of the largest face."""
    return detect(film, **EVERYTHING)


@pytest.fixture(scope="module")
def found_of_all(detect, film):
    return detect(film, faces="all", **EVERYTHING)


def assert_close(found, expected, tolerance=1e-3):
    """The same events; batches of another size round differently in the last digits."""
    assert [row["face_id"] for row in found] == [row["face_id"] for row in expected]
    for row, other in zip(found, expected, strict=True):
        assert (row["label"], row["type"]) == (other["label"], other["type"])
        for name in ("score", "onset_s", "offset_s"):
            assert row[name] == pytest.approx(other[name], abs=tolerance)


# --- the same as by hand -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("faces", "landmarks"), [("largest", 0), ("all", 0), (1, 0), ("largest", 468)])
def test_equals_the_stages_by_hand(film, faces, landmarks):
    detect = make_pipeline(num_landmarks=landmarks)
    found = detect(film, faces=faces, **EVERYTHING)

    model, processor, config = detect.model, detect.video_processor, detect.model.config
    by_face, times = {}, {}
    for batch in FaceCropper(64, faces=faces)(VideoReader(film, fps=config.frame_rate)):
        times.update(zip(batch.frame.tolist(), batch.time_s.tolist(), strict=True))
        for at in np.flatnonzero(batch.mask):
            by_face.setdefault(batch.face_id[at], []).append((batch.frame[at], batch.crops[at], batch.landmarks[at]))
    expected = []
    for face_id, rows in by_face.items():
        frame, crops, points = (list(column) for column in zip(*rows, strict=True))
        first, stop = frame[0] - frame[0] % config.total_stride, frame[-1] + 1
        at = torch.tensor(frame) - first
        with torch.no_grad():
            seen = model.encode_frames(processor(torch.stack(crops), return_tensors="pt")["pixel_values"][0])
        inputs = {"frame_features": seen.new_zeros(stop - first, seen.shape[1])}
        inputs["frame_features"][at] = seen
        if landmarks:
            inputs["landmarks"] = torch.zeros(stop - first, 468, 2)
            inputs["landmarks"][at] = torch.from_numpy(np.stack(points))
        mask = torch.zeros(stop - first, dtype=torch.bool)
        mask[at] = True
        raw, at_s = model.detect_from_features(**inputs, frame_mask=mask), [times[i] for i in range(first, stop)]
        intervals = without_doubles(find_intervals(raw, times=torch.tensor(at_s), **EVERYTHING))
        expected += [
            {
                "face_id": face_id,
                "label": config.id2label[int(intervals.label[i])],
                "type": config.expression_types[int(intervals.type[i])],
                "score": float(intervals.score[i]),
                "onset_s": float(intervals.start_s[i]),
                "offset_s": float(intervals.end_s[i]),
            }
            for i in range(len(intervals))
        ]
    assert found and {row["face_id"] for row in found} == ({0, 1} if faces == "all" else {0})
    assert_close(found, sorted(expected, key=lambda row: (row["onset_s"], row["face_id"])))


def test_results_are_plain_and_in_order(detect, film, found_of_all):
    found = found_of_all
    assert json.loads(json.dumps(found)) == found
    times = [f"{name}_{unit}" for unit in ("s", "frame") for name in ("onset", "apex", "offset")]
    assert list(found[0]) == ["label", "score", "type", *times, "face_id"]
    for row in found:
        assert 0 <= row["onset_s"] <= row["apex_s"] <= row["offset_s"] <= 4.04
        assert 0 <= row["onset_frame"] <= row["apex_frame"] <= row["offset_frame"] <= 99
        assert row["onset_s"] == pytest.approx(row["onset_frame"] / FPS, abs=1.5 / FPS)  # frames of the file
    assert [row["onset_s"] for row in found] == sorted(row["onset_s"] for row in found)
    assert detect(film, faces="all", **EVERYTHING) == found


@pytest.mark.parametrize("batch_size", [2, 7])
def test_stacks_of_any_size_give_the_same(detect, film, found_of_all, batch_size):
    assert_close(detect(film, faces="all", batch_size=batch_size, **EVERYTHING), found_of_all)


@pytest.mark.parametrize("landmarks", [0, 468])
def test_any_number_of_threads_gives_the_same(film, landmarks):
    detect = make_pipeline(num_landmarks=landmarks)
    expected = detect(film, **EVERYTHING)
    torch.set_num_threads(3)
    assert_close(detect(film, **EVERYTHING), expected)


def test_a_worker_process_gives_the_same(detect, film, found):
    assert detect([film], num_workers=1, **EVERYTHING)[0] == found


@pytest.mark.parametrize("size", [1, 50, 333])
def test_windows_on_the_way_give_what_one_pass_gives(monkeypatch, size):
    """1500 frames in steps, with gaps, through windows of 128 frames; and only what is still needed is kept."""
    monkeypatch.setattr(passing_fedn, "OWN_FRAMES", 128)
    model = detector()
    features, mask = torch.randn(1500, 16), torch.rand(1500) > 0.1
    mask[:5], mask[5], mask[400:460], mask[-1] = False, True, False, True
    face, kept, pieces = PassingFace(3, 5, model.config.total_stride), 0, []
    for start in range(0, 1500, size):
        at = torch.arange(start, min(start + size, 1500))
        at = at[mask[at]]
        if len(at):
            rows = {"frame": at.numpy(), **{k: np.ones(len(at)) for k in ("confidence", "face_size_px", "fit")}}
            face.add(rows, {"frame_features": features[at]})
        pieces.append(face.advance(model, ended=False))
        kept = max(kept, sum(len(frames) for frames, _ in face.waiting))
    assert face.owned >= 1024
    pieces.append(face.advance(model, ended=True))
    plan = plan_windows(1500, 128, model.config.context_frames, model.config.total_stride)  # for the same order
    streamed, whole = join(pieces), model.detect_from_features(features, frame_mask=mask, windows=plan)
    assert kept <= 128 + 2 * model.config.context_frames + size
    assert torch.equal(streamed.mask, mask)
    torch.testing.assert_close(streamed.proposals.boundaries, whole.boundaries, atol=1e-4, rtol=0)
    torch.testing.assert_close(streamed.proposals.confidence, whole.confidence, atol=1e-4, rtol=0)
    torch.testing.assert_close(streamed.proposals.intensity, whole.intensity, atol=1e-4, rtol=0)


def test_faces_that_have_gone_are_finished_on_the_way(detect, astronaut, monkeypatch):
    """A film with many cuts holds the features of the present face only."""
    monkeypatch.setattr(pipeline_fedn, "_GONE_AFTER", 40)
    here = scene((scaled(astronaut[:256, 90:346], 200), 0, 20)).numpy()
    there = scene((scaled(astronaut[:256, 90:346].flip(1), 200), 120, 20)).numpy()
    nobody = scene().numpy()
    film = np.stack([here] * 20 + [nobody] * 200 + [there] * 20 + [nobody] * 200 + [here] * 20)
    open_at_once, forward = [], detect._forward

    def spy(step, passing, **kwargs):
        result = forward(step, passing, **kwargs)
        open_at_once.append(len(passing))
        return result

    monkeypatch.setattr(detect, "_forward", spy)
    raw = detect(film, fps=30, return_raw=True)
    assert [face.face_id for face in raw.faces] == [0, 1, 2]
    assert max(open_at_once) == 1


# --- every kind of source -----------------------------------------------------------------------------------------


class Named(io.BytesIO):
    name = "memory.mkv"


SOURCES = {
    "bytes": lambda film, frames: Path(film).read_bytes(),
    "file object": lambda film, frames: Named(Path(film).read_bytes()),
    "array": lambda film, frames: {"video": frames, "fps": FPS},
    "tensor": lambda film, frames: {"video": torch.from_numpy(frames), "fps": FPS},
    "list of images": lambda film, frames: {"video": [Image.fromarray(frame) for frame in frames], "fps": FPS},
    "cell with a path": lambda film, frames: {"path": film, "bytes": None},
    "cell with bytes": lambda film, frames: {"path": "a.mkv", "bytes": Path(film).read_bytes()},
    "cell in a dict": lambda film, frames: {"video": {"path": film, "bytes": None}},
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_source_gives_the_same(detect, film, frames, found, kind):
    assert detect(SOURCES[kind](film, frames), **EVERYTHING) == found


def test_frames_in_a_list_are_one_video_and_arrays_in_a_list_several(detect, frames):
    short = frames[:20]
    expected = detect(short, fps=FPS, **EVERYTHING)
    assert expected and isinstance(expected[0], dict)
    assert detect(list(short), fps=FPS, **EVERYTHING) == expected
    assert detect([Image.fromarray(frame) for frame in short], fps=FPS, **EVERYTHING) == expected
    assert detect([short, list(short)], fps=FPS, **EVERYTHING) == [expected, expected]
    assert detect((short,), fps=FPS, **EVERYTHING) == [expected]


def test_a_url_is_opened_only_when_allowed(detect, film, found):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=film.rpartition("/")[0])
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        handler.func.log_message = lambda *arguments: None
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/two%20people%20%C3%BC.mkv"
        with pytest.raises(MediaError, match="allow_url=True"):
            detect(url)
        assert detect(url, allow_url=True, **EVERYTHING) == found
        server.shutdown()


def test_own_boxes_belong_to_the_frames_of_the_file(detect, film):
    """Rows count native frames (100 at 25 fps), though the network sees 30 per second."""
    boxes = np.full((100, 4), np.nan)
    boxes[30:80] = [225, 90, 285, 160]  # the face to the right
    raw = detect({"video": film, "boxes": boxes}, return_raw=True)
    [run] = raw.coverage()
    assert (run["start_s"], run["end_s"]) == pytest.approx((30 / FPS, 80 / FPS), abs=0.034)
    assert run["face_size_px"] < 100
    part = detect({"video": film, "boxes": boxes}, return_raw=True, start_s=2.0, end_s=3.0)
    assert part.coverage()[0]["end_s"] == pytest.approx(3.0, abs=0.034)
    with pytest.raises(MediaError, match=r"two people ü\.mkv: boxes or landmarks for 120 frames, but the last one"):
        detect({"video": film, "boxes": np.full((120, 4), np.nan)})
    with pytest.raises(MediaError, match="boxes or landmarks for 60 frames, but the video goes on at frame 60"):
        detect({"video": film, "boxes": np.full((60, 4), np.nan)})


def test_own_crops_are_used_as_they_are(detect, frames):
    crops = frames[:60, 30:230, 0:200]
    raw = detect({"crops": crops, "fps": 30}, return_raw=True)
    assert raw.coverage() == [
        {
            "face_id": 0,
            "start_s": 0.0,
            "end_s": 2.0,
            "frames": 60,
            "confidence": 1.0,
            "face_size_px": 200.0,
            "fit": 1.0,
        }
    ]
    with pytest.raises(MediaError, match="this network needs landmarks, which crops do not come with"):
        make_pipeline(num_landmarks=468)({"crops": crops, "fps": 30})


def test_columns_of_datasets(detect, film):
    data = datasets.Dataset.from_dict({"video": [film, film], "name": ["a", "b"]})
    data = data.cast_column("video", datasets.Video(decode=False))
    expected = detect(film, **BRIEFLY)
    assert expected

    class Twice(torch.utils.data.Dataset):
        """Knows its length, and has an item for every index."""

        def __len__(self):
            return 2

        def __getitem__(self, index):
            return film

    for column in (data["video"], KeyDataset(data, "video"), (row["video"] for row in data), Twice()):
        results = detect(column, **BRIEFLY)
        assert not isinstance(results, list)
        assert list(results) == [expected, expected]


# --- many videos --------------------------------------------------------------------------------------------------


def test_a_bad_file_does_not_stop_the_others(detect, film, frames, tmp_path, caplog):
    (tmp_path / "bad.mp4").write_bytes(b"this is no video")
    given = [film, str(tmp_path / "bad.mp4"), {"vidoe": film}, str(tmp_path / "absent.mp4"), frames, film]
    results = detect(given, **BRIEFLY)
    good = detect(film, **BRIEFLY)
    assert results[0] == results[5] == good
    assert all(isinstance(result, MediaError) for result in results[1:5])
    reasons = [str(result) for result in results[1:5]]
    assert "bad.mp4: not a readable video" in reasons[0]
    assert 'a dict must hold "video" or "crops"' in reasons[1] and "vidoe" in reasons[1]
    assert "absent.mp4: no such file or folder" in reasons[2]
    assert reasons[3].startswith("<ndarray>: <array> carries no times: pass fps, its rate")


def test_what_no_library_expects_costs_one_video(detect, film, frames):
    """Whatever it is, and in whose code: the others are done, and the error says which video it was."""
    empty, cell = {"video": frames[:, :0], "fps": FPS}, {"path": "a.mkv", "bytes": "no bytes"}
    *bad, good = detect([empty, cell, film], **BRIEFLY)
    assert good == detect(film, **BRIEFLY)
    assert [str(error).partition(":")[0] for error in bad] == ["<ndarray>", "a.mkv"]
    assert all(isinstance(error, MediaError) and "unexpected" in error.reason for error in bad)
    with pytest.raises(MediaError, match=r"a\.mkv: unexpected TypeError") as caught:
        detect(cell)
    assert isinstance(caught.value.__cause__, TypeError)


@pytest.mark.parametrize(
    "bad", ["absent.mp4", b"nothing", 3.5, {"path": None, "bytes": None}, {}, {"video": "a.mp4", "fps": "25"}]
)
def test_a_single_bad_video_is_an_error(detect, bad):
    with pytest.raises(MediaError):
        detect(bad)


def test_a_damaged_video_gives_what_lies_before_the_damage(detect, film, tmp_path):
    whole = Path(film).read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    raw = detect(str(tmp_path / "cut.mkv"), return_raw=True)
    assert 0.5 < raw.video["truncated_at_s"] < 3.5
    assert len(raw.time_s) == pytest.approx(raw.video["truncated_at_s"] * 30, abs=3)


def test_a_part_without_frames_is_an_error_and_no_empty_result(detect, film):
    with pytest.raises(MediaError, match=r"ü\.mkv: no frames between start_s=9\.0 and end_s=None; it lasts 4\.00 s"):
        detect(film, start_s=9.0)


def test_generators_are_read_as_they_are_asked_for(detect, film):
    taken = []

    def videos():
        for number in itertools.count():
            taken.append(number)
            yield film if number % 2 == 0 else "absent.mp4"

    results = detect(videos(), end_s=0.5)
    first, second = next(results), next(results)
    assert isinstance(first, list) and isinstance(second, MediaError)
    assert len(taken) <= 4  # and not all of them
    interleaved = detect(iter([film, film]), **BRIEFLY), detect(iter([film]), faces=1, **BRIEFLY)
    pairs = list(zip(*interleaved, strict=False))
    assert pairs == [(detect(film, **BRIEFLY), detect(film, faces=1, **BRIEFLY))]


def test_no_videos_no_results(detect):
    assert detect([]) == []
    assert list(detect(iter([]))) == []


# --- what is reported ---------------------------------------------------------------------------------------------


def test_parts_of_a_video_have_the_times_of_the_whole(detect, film):
    raw = detect(film, return_raw=True, start_s=1.0, end_s=2.5)
    assert (float(raw.time_s[0]), float(raw.time_s[-1])) == pytest.approx((1.0, 2.48), abs=0.02)
    assert raw.native_frame[0] == 25
    assert all(0.95 <= row["onset_s"] <= row["offset_s"] <= 2.55 for row in raw.expressions(**EVERYTHING))


def test_filters_and_thresholds_are_those_of_the_raw_result(detect, film):
    raw = detect(film, end_s=2.0, return_raw=True)
    for settings in (
        {"score_threshold": 0.012},
        {"types": "micro-expression", **EVERYTHING},
        {"labels": ["anger", "fear"], **EVERYTHING},
        {"min_duration_s": 0.3, "max_duration_s": 0.9, **EVERYTHING},
    ):
        expected = [{k: v for k, v in row.items() if k != "label_scores"} for row in raw.expressions(**settings)]
        assert detect(film, end_s=2.0, **settings) == expected != []
    assert detect(film, end_s=2.0) == []  # an untrained network is sure of nothing


def test_other_shapes_of_result(detect, film, found):
    both = detect(film, return_curve=True, **EVERYTHING)
    assert both["expressions"] == found
    [curve] = both["curves"]
    assert len(curve["time_s"]) == len(curve["score"]) == len(curve["intensity"]) == 120
    assert 0 < max(curve["score"]) < 1
    annotation = detect(film, return_annotation=True, **EVERYTHING)
    assert [event.onset_s for event in annotation] == [row["onset_s"] for row in both["expressions"]]
    assert annotation.video["path"] == film and annotation.provenance["settings"]["nms"] == "hard"
    assert annotation.provenance["faces"] == "largest" and annotation.coverage[0]["frames"] == 120
    assert annotation.curves == both["curves"]


def test_the_threshold_of_the_checkpoint_is_the_default(film):
    detect = make_pipeline(score_threshold=0.005)
    assert detect(film, end_s=1.0) == detect(film, end_s=1.0, score_threshold=0.005) != []


def test_the_hook_sees_progress_and_the_result(detect, film):
    calls = []

    def hook(step, artifact, file=None, total=None, completed=None):
        calls.append((step, artifact, file, total, completed))

    found = detect(film, hook=hook, **EVERYTHING)
    *progress, last = calls
    assert last == ("expressions", found, film, None, None)
    assert {call[0] for call in progress} == {"detection"} and {call[2] for call in progress} == {film}
    completed = [call[4] for call in progress]
    assert completed == sorted(completed) and completed[-1] == progress[-1][3] == 120 and len(completed) >= 3


def test_none_is_the_default(detect, film):
    names = ("start_s", "end_s", "fps", "faces", "score_threshold", "types", "labels", "nms", "return_raw", "hook")
    nothing = dict.fromkeys((*names, "min_duration_s", "max_duration_s"))
    sure = make_pipeline(score_threshold=0.005)
    assert sure(film, **nothing) == sure(film) != []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"treshold": 0.3}, "unknown parameter treshold; there is .*score_threshold"),
        ({"score_threshold": 2}, "score_threshold must lie between 0 and 1, got 2"),
        ({"nms": "none"}, "nms must be"),
        ({"hook": "bar"}, "hook must be a function, got str"),
        ({"types": "macro"}, "types must be among macro-expression, micro-expression, got macro"),
        ({"labels": "joy"}, "labels must be among happiness, .*got joy"),
        ({"faces": "both"}, 'faces must be "largest", "all" or a rank from 0'),
        ({"start_s": 2.0, "end_s": 1.0}, r"end_s must lie after start_s, got start_s=2\.0, end_s=1\.0"),
        ({"start_s": "0:30"}, "start_s must be a number of seconds, got '0:30'"),
        ({"end_s": float("nan")}, "end_s must be a number of seconds, got nan"),
        ({"max_duration_s": "1"}, "max_duration_s must be a number, got '1'"),
        ({"types": 0}, "types must be among macro-expression, micro-expression, got 0"),
        ({"batch_size": 0}, "batch_size must be a whole number from 1 on, got 0"),
        ({"batch_size": 1.5}, r"batch_size must be a whole number from 1 on, got 1\.5"),
        ({"return_raw": True, "return_curve": True}, "only one of return_annotation, return_curve, return_raw"),
    ],
)
def test_settings_that_make_no_sense_stop_at_once(detect, settings, message):
    """Before any video is read: these are not even there."""
    for videos in ("absent.mp4", ["absent.mp4"]):
        with pytest.raises(ValueError, match=message):
            detect(videos, **settings)


def test_out_of_memory_is_turned_into_advice(detect, film, monkeypatch):
    def full(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(detect.model, "encode_frames", full)
    with pytest.raises(FednError, match=r"two people ü\.mkv: out of memory on cpu with batch_size=4; lower it"):
        detect(film, batch_size=4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone_config": None, "feature_size": 16}, "got no backbone"),
        ({"heads": "recognition"}, 'got heads="recognition"'),
        ({"num_landmarks": 68}, "FaceMesh's 468 landmarks, the network wants 68"),
        ({"image_size": 96}, "makes crops of 64 px, the network wants 96"),
    ],
)
def test_networks_that_cannot_be_used_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        pipeline(
            TASK,
            model=FednForFacialExpressionDetection(tiny(**{**SMALL, **changes})),
            video_processor=FednVideoProcessor(size={"height": 64, "width": 64}),
        )


def test_a_network_of_landmarks_alone_sees_videos(film):
    alone = tiny(**{**SMALL, "backbone_config": None, "feature_size": 0, "num_landmarks": 468})
    processor = FednVideoProcessor(size={"height": 64, "width": 64})
    model = FednForFacialExpressionDetection(alone).eval()
    found = pipeline(TASK, model=model, video_processor=processor)(film, return_raw=True)
    assert found.faces and found.faces[0].mask.any()


# --- precision and devices ----------------------------------------------------------------------------------------


def test_half_precision(film):
    model = make_pipeline().model.to(torch.bfloat16)
    detect = pipeline(TASK, model=model, video_processor=FednVideoProcessor(size={"height": 64, "width": 64}))
    raw, exact = detect(film, return_raw=True), make_pipeline()(film, return_raw=True)
    assert raw.provenance["dtype"] == "bfloat16"
    half, full = (torch.tensor(found.curves()[0]["score"]) for found in (raw, exact))
    assert (half - full).abs().max() < 0.02


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_within_tolerance(film):
    on_cpu = make_pipeline()(film, return_raw=True)
    detect = pipeline(TASK, model=make_pipeline().model, video_processor=make_pipeline().video_processor, device=0)
    on_gpu = detect(film, return_raw=True)
    assert on_gpu.provenance["device"].startswith("cuda")
    one, other = (torch.tensor(found.curves()[0]["score"]) for found in (on_cpu, on_gpu))
    assert (one - other).abs().max() < 1e-3
    assert_close(detect(film, **EVERYTHING), make_pipeline()(film, **EVERYTHING), tolerance=1e-2)


# --- real faces ---------------------------------------------------------------------------------------------------

REAL = ["liveportrait_driving_d0.mp4", "liveportrait_driving_d18.mp4", "liveportrait_driving_d3.mp4"]
REAL += ["liveportrait_source_s18.mp4", "openface_2015-10-15-15-14.avi", "openface_changeLighting.wmv"]
REAL += ["pyfeat_WolfgangLanger_Pexels.mp4", "pyfeat_face_noface.mov", "pyfeat_no_face.mp4", "pyfeat_noface_face.mov"]
REAL += ["pyfeat_single_face.mp4", "skimage_astronaut.png"]


@pytest.mark.slow
def test_real_clips_give_the_same_twice(detect, real_clip):
    """Every file that is there; the picture, which is no video, as an error."""
    paths = [str(real_clip(name)) for name in REAL]
    first, second = (detect(paths, faces="all", **EVERYTHING) for _ in range(2))
    assert [str(result) for result in first] == [str(result) for result in second]
    for name, found in zip(REAL, first, strict=True):
        assert isinstance(found, MediaError) == name.endswith(".png"), (name, found)
        assert bool(found) == (name != "pyfeat_no_face.mp4")
