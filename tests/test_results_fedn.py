"""What a pass leaves is enough for every later question, and survives a file."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from fedn_hf import ExpressionAnnotation, ExpressionInterval, FednDetections, FednError
from fedn_hf.postprocessing_fedn import FednProposals
from fedn_hf.results_fedn import FaceDetections

LABELS = ["happiness", "anger"]
TYPES = ["macro-expression", "micro-expression"]


def face(face_id, first_frame, length, events, hidden=()) -> FaceDetections:
    """Events are (start, end, score, type, label) in frames of the face."""
    numbers = torch.tensor([event[:3] for event in events], dtype=torch.float64).reshape(-1, 3)
    kinds = torch.tensor([event[3:] for event in events]).reshape(-1, 2)
    confidence = numbers[:, 2].logit().float()
    proposals = FednProposals(
        boundaries=numbers[:, :2],
        num_frames=torch.tensor(length),
        confidence=confidence,
        type_logits=torch.where(torch.nn.functional.one_hot(kinds[:, 0], 2) > 0, confidence[:, None], -4.0),
        logits=4 * torch.nn.functional.one_hot(kinds[:, 1], 2).float() - 2,
        intensity=torch.linspace(0, 1, length),
    )
    mask = torch.ones(length, dtype=torch.bool)
    mask[list(hidden)] = False
    return FaceDetections(face_id, first_frame, proposals, mask, mask.float(), 100 * mask.float(), mask.float())


@pytest.fixture
def detections() -> FednDetections:
    """200 frames at 30 per second of a file with 60; two faces."""
    faces = [
        face(0, 0, 120, [(30, 60, 0.9, 0, 0), (80, 90, 0.6, 1, 1)], hidden=range(100, 105)),
        face(1, 64, 136, [(10, 20, 0.7, 1, 0)]),
    ]
    video = {"path": "ä film.mp4", "duration_s": 200 / 30}
    times = torch.arange(200, dtype=torch.float64) / 30
    return FednDetections(video, LABELS, TYPES, 0.5, {"model": "x"}, times, 2 * torch.arange(200), faces)


def test_times_are_the_videos_and_frames_the_files(detections):
    first, second, third = detections.expressions(nms="hard")
    assert (first["onset_s"], first["offset_s"]) == pytest.approx((1.0, 2.0))
    assert (first["onset_frame"], first["offset_frame"]) == (60, 118)
    assert first["apex_frame"] == 118  # intensity rises to the last frame
    assert (first["label"], first["type"], first["face_id"]) == ("happiness", "macro-expression", 0)
    assert first["score"] == pytest.approx(0.9, abs=1e-6)
    assert second["onset_frame"] == 2 * (64 + 10) and second["face_id"] == 1  # in order of onset, not by face
    assert third["label"] == "anger"
    json.dumps(detections.describe())


def test_thresholds_and_filters(detections):
    def found(**settings):
        return [row["onset_frame"] for row in detections.expressions(nms="hard", **settings)]

    assert found(score_threshold=0.65) == [60, 148]
    assert found(types="micro-expression") == [148, 160]
    assert found(labels=["anger"]) == [160]
    assert found(types=["macro-expression"], labels="anger") == []
    assert found(min_duration_s=0.5) == [60]
    assert found(max_duration_s=0.5) == [148, 160]


def test_one_smile_is_one_expression(detections):
    """Macro- and micro-expressions are suppressed apart, so the network may find one smile as both."""
    smile = [(30, 46, 0.9, 0, 0), (31, 46, 0.8, 1, 0), (32, 50, 0.7, 1, 1)]
    apart = [(100, 116, 0.6, 1, 0), (110, 136, 0.7, 0, 0)]
    seen = replace(detections, faces=[face(0, 0, 200, [*smile, *apart]), face(1, 0, 200, smile[1:2])])

    def found(**settings):
        return [(row["face_id"], row["type"][:5], round(row["score"], 2)) for row in seen.expressions(**settings)]

    others = [(0, "micro", 0.6), (0, "macro", 0.7)]
    assert found(nms="hard") == [(0, "macro", 0.9), (1, "micro", 0.8), *others]
    assert found(nms="hard", types="micro-expression") == [(1, "micro", 0.8), others[0]]  # as without asking for it
    # Where macro-expressions must be surer, the micro-expression is what is left.
    assert found(nms="hard", score_thresholds={"macro-expression": 0.95})[0] == (0, "micro", 0.8)
    assert found(nms="hard", score_thresholds={"micro-expression": 0.95}) == [(0, "macro", 0.9), others[1]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"score_threshold": 1.5}, r"score_threshold must lie between 0 and 1, got 1\.5"),
        ({"types": "macro"}, "types must be among macro-expression, micro-expression, got macro"),
        ({"labels": ["anger", "joy"]}, "labels must be among happiness, anger, got joy"),
        ({"min_duration_s": 2, "max_duration_s": 1}, "min_duration_s=2, max_duration_s=1"),
        ({"score_threshold": "0.3"}, r"score_threshold must be a number, got '0\.3'"),
        ({"max_duration_s": None}, "max_duration_s must be a number, got None"),
        ({"labels": 3}, "labels must be among happiness, anger, got 3"),
        ({"nms": "none"}, "nms must be"),
    ],
)
def test_settings_that_make_no_sense_are_named(detections, settings, message):
    with pytest.raises(ValueError, match=message):
        detections.expressions(**settings)


def test_curves_and_coverage(detections):
    first, second = detections.curves()
    assert first["score"][45] == pytest.approx(0.9, abs=1e-4) and first["score"][70] == 0
    assert first["score"][102] is None and first["intensity"][102] is None
    assert second["time_s"][0] == pytest.approx(64 / 30)
    runs = detections.coverage()
    assert [(run["face_id"], run["frames"]) for run in runs] == [(0, 100), (1, 136), (0, 15)]
    assert runs[0]["end_s"] == pytest.approx(100 / 30) and runs[2]["start_s"] == pytest.approx(105 / 30)
    assert runs[1]["end_s"] == pytest.approx(200 / 30)  # to the end of the last frame
    assert runs[0]["face_size_px"] == 100


def test_a_file_holds_all_of_it(detections, tmp_path):
    detections.save(tmp_path / "raw.safetensors")
    loaded = FednDetections.load(tmp_path / "raw.safetensors")
    assert loaded.describe(score_threshold=0.1) == detections.describe(score_threshold=0.1)
    assert [path.name for path in tmp_path.iterdir()] == ["raw.safetensors"]


def test_the_same_detections_are_the_same_file(detections, tmp_path):
    for number in range(10):
        detections.save(tmp_path / f"{number}")
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_nobody_to_be_seen(tmp_path):
    nobody = FednDetections({}, LABELS, TYPES, 0.5, {}, torch.arange(3) / 30, torch.arange(3), [])
    nobody.save(tmp_path / "raw.safetensors")
    description = FednDetections.load(tmp_path / "raw.safetensors").describe()
    assert description["intervals"] == description["coverage"] == description["curves"] == []


def test_other_files_are_refused(tmp_path, detections):
    (tmp_path / "junk").write_bytes(b"no tensors")
    with pytest.raises(FednError, match=r"junk: not a file of raw detections; `fedn detect --save-raw`"):
        FednDetections.load(tmp_path / "junk")
    with pytest.raises(FednError, match="absent: no such file"):
        FednDetections.load(tmp_path / "absent")
    for facts, reason in (('{"schema": 2}', "written by a newer version"), ("[]", "not a file of"), ('"x"', "not a")):
        save_file({"time_s": torch.zeros(1)}, tmp_path / "other", {"fedn_detections": facts})
        with pytest.raises(FednError, match=f"other: {reason}"):
            FednDetections.load(tmp_path / "other")


def test_an_annotation_survives_json_and_csv(detections, tmp_path):
    annotation = ExpressionAnnotation.from_dict(detections.describe())
    annotation.write(tmp_path / "a.json")
    read = ExpressionAnnotation.from_dict(json.loads((tmp_path / "a.json").read_text(encoding="utf-8")))
    assert read == annotation and len(annotation) == 3 and annotation.video["path"] == "ä film.mp4"
    annotation.write(tmp_path / "a.csv")
    lines = (tmp_path / "a.csv").read_text().splitlines()
    assert lines[0] == (
        "video,label,score,type,onset_s,apex_s,offset_s,onset_frame,apex_frame,offset_frame,face_id,"
        "score_happiness,score_anger"
    )
    assert len(lines) == 4
    with pytest.raises(FednError, match=r"no writer for \.xyz; there is \.json, "):
        annotation.write(tmp_path / "a.xyz")
    with pytest.raises(FednError, match="schema 1 was expected, got None"):
        ExpressionAnnotation.from_dict({"intervals": []})


def test_what_cannot_be_written_leaves_the_old_file_and_nothing_else(detections, tmp_path):
    annotation = ExpressionAnnotation.from_dict(detections.describe())
    annotation.write(tmp_path / "a.json")
    before = (tmp_path / "a.json").read_bytes()
    broken = ExpressionAnnotation({"path": "a.mp4"}, [], provenance={"seed": object()})
    with pytest.raises(TypeError):
        broken.write(tmp_path / "a.json")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_bytes() == before
    detections.save(tmp_path / "raw")
    assert (tmp_path / "raw").stat().st_mode == (tmp_path / "a.json").stat().st_mode  # colleagues may read both


def test_names_that_are_no_text_are_kept(tmp_path):
    """A file name may hold any bytes; Python has those that are no text as lone surrogates."""
    ExpressionAnnotation({"path": "caf\udce9.mp4"}, []).write(tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["video"]["path"] == "caf\udce9.mp4"


def test_an_apex_lies_inside():
    with pytest.raises(ValueError, match="onset <= apex <= offset must hold"):
        ExpressionInterval("anger", 0.5, TYPES[0], 1.0, 3.0, 2.0, 30, 90, 60, 0)
