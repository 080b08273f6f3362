"""Overlay videos, decoded again: boxes where faces are, times and sound as they were, hidden faces hidden."""

import json
import os
import signal
import subprocess
import time
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
from typer.testing import CliRunner

from fedn_hf import FednError, MediaError
from fedn_hf.annotation import ExpressionAnnotation, ExpressionInterval
from fedn_hf.cli import app
from fedn_hf.face_fedn import FaceCropper
from fedn_hf.overlay import render
from fedn_hf.overlay_drawing import _COLOURS, Painter, hide_face
from fedn_hf.tracks import FaceTracks, video_of
from fedn_hf.video_io_fedn import VideoReader
from tests.results import CLIP, TYPES, annotation, event
from tests.test_cli import COMMAND, ENVIRONMENT, ROOT

FRAMES, TONE_HZ = 75, 440
# As a phone records: some frames late, one missing.
TIMES = np.delete(np.arange(FRAMES + 1) / 30 + 0.004 * (np.arange(FRAMES + 1) % 3), 50)


def film(path, times, frames, sound, start=0):
    """A woman who does not exist, from a frame on, and beside her a tone in mono."""
    with av.open(str(CLIP)) as source, av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "veryfast", "crf": "12"})
        stream.width, stream.height, stream.pix_fmt = 320, 320, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        voice = container.add_stream(sound, rate=16000, layout="mono") if sound else None
        for number, frame in enumerate(source.decode(video=0)):
            if start <= number < start + frames:
                frame = av.VideoFrame.from_ndarray(frame.to_ndarray(format="yuv420p"), "yuv420p")
                frame.pts, frame.time_base = round(1000 * times[number - start]), Fraction(1, 1000)
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if voice:
            tone = np.sin(2 * np.pi * TONE_HZ * np.arange(int(16000 * times[frames - 1])) / 16000)
            for first in range(0, len(tone), 1024):
                part = (20000 * tone[None, first : first + 1024]).astype(np.int16)
                samples = av.AudioFrame.from_ndarray(part, "s16", "mono")
                samples.sample_rate, samples.pts, samples.time_base = 16000, first, Fraction(1, 16000)
                container.mux(voice.encode(samples))
            container.mux(voice.encode(None))
    return path


def found_in(path, duration_s) -> ExpressionAnnotation:
    """Two events: the first small, the second large; the film begins at the clip's frame 60."""
    events = [event(38, 42, 46, "anger", TYPES[1], 0.7), event(55, 60, 70, "surprise", TYPES[0], 0.9)]
    return annotation(events, duration_s, str(path))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return film(tmp_path_factory.mktemp("films") / "a phone's.mp4", TIMES, FRAMES, "aac", start=60)


@pytest.fixture(scope="module")
def known(clip):
    return found_in(clip, VideoReader(clip).info.duration_s)


@pytest.fixture(scope="module")
def overlaid(clip, known, tmp_path_factory):
    path = tmp_path_factory.mktemp("overlaid") / "a.mp4"
    return path, render(known, clip, path)


@pytest.fixture(scope="module")
def blurred(clip, known, tmp_path_factory):
    path = tmp_path_factory.mktemp("blurred") / "a.mkv"
    render(known, clip, path, blur=True)
    return path


def read(path):
    """(T, H, W, 3) and times on the player's clock."""
    batches = list(VideoReader(path))
    return np.concatenate([b.frames.numpy() for b in batches]), np.concatenate([b.time_s for b in batches])


def packets(path):
    """(seconds, bytes) of the sound as it lies in a file."""
    with av.open(str(path)) as container:
        [stream] = container.streams.audio
        zero = (container.start_time or 0) / 1e6
        return [(float(p.pts * p.time_base) - zero, bytes(p)) for p in container.demux(stream) if p.size]


def tone_hz(path):
    with av.open(str(path)) as container:
        frames = [f.to_ndarray().astype(float).reshape(-1, f.samples).mean(0) for f in container.decode(audio=0)]
        rate = container.streams.audio[0].codec_context.sample_rate
    samples = np.concatenate(frames)
    return np.abs(np.fft.rfft(samples)).argmax() * rate / len(samples), len(samples) / rate


def near(pixels, colour, within=100):
    return np.abs(pixels.astype(int) - colour).sum(-1) < within


# --- time and sound ----------------------------------------------------------------------------------------------


def test_every_frame_keeps_its_time(clip, overlaid):
    path, result = overlaid
    _, before = read(clip)
    _, after = read(path)
    assert result.frames == len(before) == len(after) == FRAMES and np.ptp(np.diff(before)) > 0.03
    np.testing.assert_allclose(after, before, atol=1 / 90_000 + 1e-9)


def test_matroska_keeps_times_too(clip, blurred):
    _, before = read(clip)
    _, after = read(blurred)
    np.testing.assert_allclose(after, before, atol=1e-3)  # its clock ticks a thousand times in a second
    inaudible, *expected = packets(clip)
    found = packets(blurred)
    assert inaudible[0] < 0 and [data for _, data in found] == [data for _, data in expected]
    np.testing.assert_allclose([at for at, _ in found], [at for at, _ in expected], atol=2e-3)


def test_sound_is_the_same_to_the_byte_at_the_same_times(clip, overlaid):
    path, result = overlaid
    before, after = packets(clip), packets(path)
    assert result.sound == "copied" and len(before) > 20
    assert [data for _, data in after] == [data for _, data in before]
    np.testing.assert_allclose([at for at, _ in after], [at for at, _ in before], atol=1e-3)


@pytest.mark.parametrize(("suffix", "state"), [(".mp4", "encoded again"), (".mkv", "copied")])
def test_sound_that_a_file_cannot_hold_is_encoded_again(tmp_path, suffix, state):
    source = film(tmp_path / "pcm.mkv", TIMES, 30, "pcm_s16le")
    out = tmp_path / f"out{suffix}"
    result = render(annotation([], VideoReader(source).info.duration_s, str(source)), source, out)
    assert result.sound == state
    hertz, lasts_s = tone_hz(out)
    assert hertz == pytest.approx(TONE_HZ, abs=2) and lasts_s == pytest.approx(TIMES[29], abs=0.1)


def test_a_stretch_is_rendered_for_an_annotation_of_a_stretch(clip, known, tmp_path):
    part = replace(known, provenance={**known.provenance, "start_s": 1.0, "end_s": 2.0})
    out = tmp_path / "part.mp4"
    result = render(part, clip, out)
    _, before = read(clip)
    _, after = read(out)
    inside = before[(before >= 1.0) & (before < 2.0)]
    assert result.frames == len(inside)
    np.testing.assert_allclose(np.diff(after), np.diff(inside), atol=1e-4)
    hertz, lasts_s = tone_hz(out)
    assert hertz == pytest.approx(TONE_HZ, abs=3) and lasts_s == pytest.approx(1.0, abs=0.15)


def test_without_sound_and_of_odd_size(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for number in range(6):
        shade = np.full((49, 65, 3), 40 * number, np.uint8)
        av.VideoFrame.from_ndarray(shade, "rgb24").save(str(images / f"img{number}.png"))
    coded = ExpressionAnnotation(
        {"path": str(images), "fps": 25.0}, [ExpressionInterval("joy", None, None, 0.1, None, 0.2)]
    )
    result = render(coded, images, tmp_path / "out.mp4")
    frames, after = read(tmp_path / "out.mp4")
    assert (result.frames, result.sound) == (6, "none")
    np.testing.assert_allclose(after, np.arange(6) / 25, atol=1e-4)
    assert all(abs(int(frame[40, 30].mean()) - 40 * number) < 8 for number, frame in enumerate(frames))


# --- what is drawn -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def boxes(clip):
    """Where the face is by another way: the landmarks of crops of every frame."""
    found = {}
    for batch in FaceCropper(112)(VideoReader(clip)):
        for i in np.flatnonzero(batch.mask):
            points = batch.landmarks[i] * 112 @ batch.transforms[i][:, :2].T + batch.transforms[i][:, 2]
            found[int(batch.native_frame[i])] = np.concatenate([points.min(0), points.max(0)])
    return found


@pytest.mark.parametrize(("frame", "place"), [(42, 1), (60, 0)])
def test_the_box_is_where_the_face_is_in_the_colour_of_the_type(overlaid, boxes, frame, place):
    frames, _ = read(overlaid[0])
    seen = near(frames[frame][:320], _COLOURS[place])
    left, top, right, bottom = boxes[frame]
    rows, columns = np.nonzero(seen)
    inside = seen[int(top) + 8 : int(bottom) - 8, int(left) + 8 : int(right) - 8]
    assert len(rows) > 200 and inside.mean() < 0.01
    assert (columns.min(), columns.max(), rows.max()) == pytest.approx((left, right, bottom), abs=5)


def test_between_events_the_picture_is_left_alone_but_for_a_thin_box(clip, overlaid, boxes):
    before, _ = read(clip)
    after, _ = read(overlaid[0])
    assert not near(after[20][:320], _COLOURS[0]).any() and not near(after[20][:320], _COLOURS[1]).any()
    left, top, right, bottom = boxes[20].astype(int)
    away = np.abs(before[20].astype(int) - after[20][:320])
    away[top - 8 : bottom + 8, left - 8 : right + 8] = 0
    assert away.mean() < 3


def test_the_marker_runs_through_the_whole_video(overlaid, known):
    frames, times = read(overlaid[0])
    painter = Painter(known, 320, 320)
    y = 320 + painter._whole_y - 2  # above the bars nothing but the marker is bright
    bright = frames[:, y].astype(int).sum(-1)
    at = bright.argmax(1)
    expected = [painter._whole_x(t) for t in times]
    assert np.abs(at - expected).max() <= 3 and (np.diff(at) >= 0).all()


def test_names_stand_on_the_picture_only_while_an_event_lasts(known):
    painter = Painter(known, 320, 320)
    grey = np.full((320, 320, 3), 128, np.uint8)
    box = {0: np.array([100.0, 100.0, 200.0, 220.0])}
    quiet, loud = (painter.draw(grey, time_s, box)[:320] for time_s in (0.5, 1.4))
    plate = np.s_[80:98, 110:200]
    assert (quiet[plate] == 128).all() and (loud[plate] < 60).mean() > 0.4
    unseen = painter.draw(grey, 1.4, {})[:320]
    assert (unseen[:15] < 60).mean() > 0.1 and (unseen[40:] == 128).all()


def test_faces_of_several_people_carry_their_own_names():
    both = [event(10, 15, 40, "anger", TYPES[0]), event(10, 15, 40, "fear", TYPES[1], face_id=1)]
    painter = Painter(annotation(both, 3.0), 400, 300)
    grey = np.full((300, 400, 3), 128, np.uint8)
    box = {0: np.array([40.0, 100.0, 140.0, 220.0]), 1: np.array([240.0, 100.0, 340.0, 220.0])}
    frame = painter.draw(grey, 0.5, box)[:300]
    assert near(frame[:, :200], _COLOURS[0]).sum() > 300 < near(frame[:, 200:], _COLOURS[1]).sum()
    assert not near(frame[:, :200], _COLOURS[1]).any() and not near(frame[:, 200:], _COLOURS[0]).any()


def test_strange_names_are_drawn():
    for label in ("苦笑", "a\x00b\ud800", "x" * 500, "<b>$"):
        painter = Painter(annotation([event(3, 5, 80, label)], 3.0), 160, 120)
        assert painter.draw(np.zeros((120, 160, 3), np.uint8), 1.0, {0: np.array([-20.0, -9, 300, 400])}).any()


# --- faces -------------------------------------------------------------------------------------------------------


def test_hidden_faces_are_found_no_more(overlaid, blurred):
    def seen(path, every):
        """How many of the frames of the second second show a face."""
        reader = VideoReader(path, start_s=1.0, end_s=2.0)
        batches = list(FaceCropper(64, faces="all", landmark_every=every, detect_every=every)(reader))
        return sum(int(batch.mask.sum()) for batch in batches), sum(map(len, batches))

    found, frames = seen(overlaid[0], every=8)
    assert found == frames > 25
    assert seen(blurred, every=1)[0] == 0  # looked for in every frame


def test_hidden_faces_keep_nothing_finer_than_a_quarter_of_a_head(clip, blurred, boxes):
    before, _ = read(clip)
    after, _ = read(blurred)
    for frame in (5, 30, 74):
        left, top, right, bottom = boxes[frame].astype(int)
        inner = np.s_[top + 10 : bottom - 10, left + 10 : right - 10]
        detail = [np.abs(np.diff(f[frame][inner].astype(float).mean(-1), axis=0)).mean() for f in (before, after)]
        assert detail[1] < 0.4 * detail[0]


def test_a_face_is_hidden_before_it_is_found_and_after_it_is_lost(clip, tmp_path):
    frames, _ = read(clip)
    shown = frames[:45].copy()
    shown[:15] = shown[30:] = 128
    tracks = FaceTracks(VideoReader(shown, native_fps=30), "all", 8)
    counts = [len(tracks.at(i / 30, 0.3)) for i in range(45)]
    assert counts == [0] * 6 + [1] * 33 + [0] * 6


def test_boxes_move_evenly_between_the_ticks_at_which_faces_are_followed(clip):
    slow, every = FaceTracks(VideoReader(clip, fps=10)), FaceTracks(VideoReader(clip))
    times = TIMES[:60] + 0.0
    boxes = np.array([[tracks.at(t)[0] for t in times] for tracks in (slow, every)])
    assert np.abs(boxes[0] - boxes[1]).max() < 4


def test_hiding_works_at_the_edges_and_outside():
    picture = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    for box in ((-30, -30, 20, 20), (70, 50, 99, 99), (-50, -50, 200, 200), (300, 300, 350, 350), (5, 5, 5.2, 5.2)):
        hide_face(picture, np.array(box, float))
    assert picture.shape == (60, 80, 3)


# --- what can go wrong -------------------------------------------------------------------------------------------


def test_errors_leave_what_was_there(clip, known, tmp_path):
    out = tmp_path / "out.mp4"
    out.write_text("old")

    def stop(step, artifact, **progress):
        if progress["completed"] == 20:
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        render(known, clip, out, hook=stop)
    with pytest.raises(FednError, match="give the same video"):
        render(known, CLIP, out)
    with pytest.raises(FednError, match=r"\.mp4 or \.mkv, got \.avi"):
        render(known, clip, tmp_path / "out.avi")
    with pytest.raises(FednError, match="the video itself"):
        render(known, clip, clip)
    with pytest.raises(MediaError, match="no such file"):
        render(known, tmp_path / "gone.mp4", out)
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"] and out.read_text() == "old"


def test_video_of_looks_beside_the_annotation_too(clip, known, tmp_path):
    assert video_of(known) == clip
    moved = replace(known, video={**known.video, "path": "/gone/" + CLIP.name})
    assert video_of(moved, CLIP.parent) == CLIP
    with pytest.raises(FednError, match="nor beside it"):
        video_of(moved, tmp_path)


def test_the_command_writes_and_says_so(clip, known, tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(known.to_dict()))
    out = tmp_path / "out.mp4"
    ran = CliRunner().invoke(app, ["render", str(clip), str(tmp_path / "a.json"), "-o", str(out), "--blur"])
    assert ran.exit_code == 0, ran.output
    assert f"{out}: {FRAMES} frames. Sound is copied." in ran.output and "voices are not" in ran.output
    for arguments, code, reason in (
        ([str(clip), str(tmp_path / "a.json"), "-o", str(tmp_path / "a.avi")], 1, "name such a file"),
        ([str(clip), str(tmp_path / "a.json"), "-o", str(tmp_path / "no" / "a.mp4")], 1, "no such folder"),
        ([str(clip), str(clip), "-o", str(out)], 2, "no file of expressions"),
    ):
        ran = CliRunner().invoke(app, ["render", *arguments])
        assert (ran.exit_code, reason in ran.output) == (code, True), ran.output


def test_ctrl_c_stops_and_leaves_nothing(known, tmp_path):
    long = replace(annotation([], 24.0, str(CLIP)), curves=[])
    (tmp_path / "a.json").write_text(json.dumps(long.to_dict()))
    command = [*COMMAND, "render", str(CLIP), str(tmp_path / "a.json"), "-o", str(tmp_path / "out.mp4"), "--blur"]
    process = subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, cwd=ROOT)
    partial = tmp_path / "out.mp4.partial"
    while process.poll() is None and not partial.exists():
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and b"interrupted" in said and b"Traceback" not in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json"]
