"""Real files of many kinds give exactly the frames they hold, whole, in part and damaged."""

import functools
import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.reformatter import Colorspace

from fedn_hf.video_io_fedn import VideoReader
from tests.clips import CLIPS, FULL, HEIGHT, LIMITED, STEADY, WIDTH, X265, make, picture, read, reason_of

# ---------------------------------------------------------------------------------------------------------------------
# Every kind of file


@pytest.mark.parametrize("name", CLIPS)
def test_every_frame_is_the_one_it_claims_to_be(clip, name):
    made = CLIPS[name]
    times = np.array(made.get("times", STEADY))
    got = read(clip(name))
    assert got.seen == got.native_frame == list(range(len(times)))
    np.testing.assert_allclose(got.time_s, times - times[0], atol=1.5e-3)  # some containers round to milliseconds
    assert got.truncated_at_s is None
    assert got.frames[0].shape[1::-1] == made.get("size", (WIDTH, HEIGHT)) == (got.info.width, got.info.height)
    assert got.info.codec in ("h264", "hevc", "ffv1", "vp8", "vp9", "mpeg4", "mjpeg", "wmv2", "mpeg2video")
    assert name.startswith((got.info.codec, "mpeg2"))


@pytest.mark.parametrize("name", CLIPS)
def test_a_part_equals_that_part_of_the_whole(clip, name):
    whole = read(clip(name))
    last_s = whole.time_s[-1]
    for start_s, end_s in [(None, 0.5), (0.3, 0.7), (0.41, None), (1.0, 1.52), (last_s, None), (last_s + 9, None)]:
        part = read(clip(name), start_s=start_s, end_s=end_s)
        inside = (whole.time_s >= (start_s or 0)) & (whole.time_s < (end_s or np.inf))
        assert part.native_frame == part.seen == list(np.flatnonzero(inside)), (start_s, end_s)
        assert np.array_equal(part.time_s, whole.time_s[inside])
        assert all(np.array_equal(a, whole.frames[n]) for a, n in zip(part.frames, part.native_frame, strict=True))
        assert part.truncated_at_s is None


@pytest.mark.parametrize("fps", [10, 29.97, 60])
@pytest.mark.parametrize("name", CLIPS)
def test_a_resampled_part_equals_that_part_of_the_whole(clip, name, fps):
    native, whole = read(clip(name)), read(clip(name), fps=fps)
    tick_s = np.arange(len(whole.seen)) / fps
    nearest_s = np.abs(native.time_s - tick_s[:, None]).min(axis=1)
    assert (np.abs(whole.time_s - tick_s) <= nearest_s + 2e-3 / fps).all()
    assert whole.seen == whole.native_frame
    assert tick_s[-1] <= native.time_s[-1] + 0.04 and tick_s[-1] + 1.25 / fps > native.time_s[-1] + 0.02
    for start_s, end_s in [(0.3, 0.7), (0.41, None), (1.0, 1.52), (1.99, 2.2)]:
        part = read(clip(name), fps=fps, start_s=start_s, end_s=end_s)
        inside = (tick_s >= start_s - 1e-9) & (tick_s < (end_s or np.inf) - 1e-9)
        assert part.seen == part.native_frame == list(np.array(whole.seen)[inside]), (start_s, end_s)
        assert np.array_equal(part.time_s, whole.time_s[inside])


def test_pictures_that_are_stored_but_never_shown_do_not_count(clip, tmp_path):
    """VP8 keeps hidden reference pictures in packets of their own; here each key frame gets one before it."""
    path = tmp_path / "hidden.webm"
    with av.open(clip("vp8.webm")) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size and packet.is_keyframe and packet.pts:
                data = bytes(packet)
                hidden = av.Packet(bytes([data[0] & ~0x10]) + data[1:])
                hidden.pts = hidden.dts = packet.pts - 5
                hidden.time_base, hidden.stream, hidden.is_keyframe = packet.time_base, stream, True
                target.mux(hidden)
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    assert read(path).seen == list(range(60))
    got = read(path, start_s=1.0)
    assert got.native_frame == got.seen == list(range(25, 60))


@pytest.mark.parametrize("threads", [1, 4])
def test_threads_change_nothing(clip, threads):
    got = read(clip("h264-open-gop.mkv"), threads=threads, batch_size=7)
    assert got.seen == got.native_frame == list(range(60))


@pytest.mark.parametrize(
    "suffix, codec", [("mp4", "libx264"), ("mkv", "libx264"), ("ts", "libx264"), ("avi", "mpeg4")]
)
def test_a_single_frame(tmp_path, suffix, codec):
    path = make(tmp_path / f"one.{suffix}", times=[0.0], codec=codec)
    for fps in (None, 25, 3):
        got = read(path, fps=fps)
        assert (got.seen, got.native_frame, got.time_s.tolist(), got.truncated_at_s) == ([0], [0], [0.0], None)


def test_probing_tells_what_the_header_says(clip):
    mp4, mkv, late = (VideoReader(clip(n)).info for n in ("h264.mp4", "h264.mkv", "h264-late.mkv"))
    assert (mp4.codec, mp4.fps, mp4.num_frames, mp4.rotation, mp4.start_s) == ("h264", 25, 60, 0, 0)
    assert mp4.duration_s == pytest.approx(2.4) and mkv.duration_s == pytest.approx(2.4)
    assert mkv.num_frames is None  # Matroska does not say
    assert (late.start_s, late.duration_s) == (5, pytest.approx(2.4))


def test_a_hidden_end_is_no_loss(tmp_path):
    """Matroska without the tag that ffmpeg writes: the header's duration counts from timestamp 0."""
    path = make(tmp_path / "late.mkv", times=[5 + t for t in STEADY])
    path.write_bytes(path.read_bytes().replace(b"DURATION", b"DURATIO_"))
    got = read(path)
    assert (got.info.duration_s, got.truncated_at_s) == (pytest.approx(2.4), None)


def test_a_long_still_at_the_end_is_no_loss(tmp_path):
    path = str(tmp_path / "still.mp4")
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height = WIDTH, HEIGHT
        for number in range(4):
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture(number), "rgb24")):
                packet.duration = 75 if number == 3 else 1
                container.mux(packet)
    got = read(path)
    assert (got.info.duration_s, got.truncated_at_s, got.seen) == (pytest.approx(3.12), None, [0, 1, 2, 3])
    assert read(path, fps=10).seen == [0, 2] + [3] * 29


def test_sound_that_begins_before_the_picture_sets_the_clock(tmp_path):
    path = make(tmp_path / "sound.mkv", times=[1 + t for t in STEADY], sound_from=0.0)
    got = read(path)
    assert got.seen == list(range(60)) and got.truncated_at_s is None
    np.testing.assert_allclose(got.time_s, 1 + np.array(STEADY), atol=1e-3)
    assert read(path, start_s=1.4, end_s=1.6).seen == [10, 11, 12, 13, 14]
    assert read(path, fps=5, end_s=1.9).seen == [0, 5, 10, 15, 20]


@pytest.mark.parametrize(
    "name",
    ["pyfeat_face_noface.mov", "pyfeat_no_face.mp4", "openface_changeLighting.wmv", "liveportrait_driving_d0.mp4"],
)
def test_recordings_from_elsewhere_are_read_to_their_end(real_clip, name):
    path = real_clip(name)
    reader = VideoReader(path)
    time_s = np.concatenate([batch.time_s for batch in reader])
    assert reader.truncated_at_s is None
    assert (np.diff(time_s) > 0).all() and time_s[-1] == pytest.approx(reader.info.duration_s, abs=0.1)
    start_s = float(time_s[len(time_s) // 2])
    first = next(iter(VideoReader(path, start_s=start_s)))
    assert (first.time_s[0], first.native_frame[0]) == (start_s, len(time_s) // 2)


# ---------------------------------------------------------------------------------------------------------------------
# Geometry and colour

CORNERS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220), "white": (230, 230, 230)}


def corners_of(rgb):
    """Names of the colours at top left, top right, bottom left, bottom right."""
    height, width = rgb.shape[:2]
    points = [
        (height // 4, width // 4),
        (height // 4, -width // 4),
        (-height // 4, width // 4),
        (-height // 4, -width // 4),
    ]
    return [min(CORNERS, key=lambda c, p=p: np.abs(rgb[p].astype(int) - CORNERS[c]).sum()) for p in points]


def four_corners(number, width, height):
    rgb = np.empty((height, width, 3), np.uint8)
    rgb[: height // 2, : width // 2], rgb[: height // 2, width // 2 :] = CORNERS["red"], CORNERS["green"]
    rgb[height // 2 :, : width // 2], rgb[height // 2 :, width // 2 :] = CORNERS["blue"], CORNERS["white"]
    return rgb


@pytest.mark.parametrize(
    "degrees, matrix, expected",
    [  # (a, b, c, d) of the track header: x' = a x + c y, y' = b x + d y, with y pointing down
        (0, (1, 0, 0, 1), ["red", "green", "blue", "white"]),
        (90, (0, 1, -1, 0), ["blue", "red", "white", "green"]),
        (180, (-1, 0, 0, -1), ["white", "blue", "green", "red"]),
        (270, (0, -1, 1, 0), ["green", "white", "red", "blue"]),
    ],
)
def test_rotation_by_metadata_is_applied_clockwise(tmp_path, degrees, matrix, expected):
    path = make(tmp_path / "turned.mp4", times=STEADY[:5], picture=four_corners)
    data, (a, b, c, d) = path.read_bytes(), (value << 16 for value in matrix)
    upright = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    place = data.index(upright, data.index(b"tkhd"))
    turned = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data[:place] + turned + data[place + len(turned) :])
    got = read(path)
    size = (WIDTH, HEIGHT) if degrees % 180 == 0 else (HEIGHT, WIDTH)
    assert (got.info.rotation, got.info.width, got.info.height) == (degrees, *size)
    assert got.frames[0].shape[1::-1] == size
    assert corners_of(got.frames[0]) == expected


def test_pixels_that_are_not_square_become_square(tmp_path):
    path = make(tmp_path / "wide.mp4", times=STEADY[:5], aspect=Fraction(4, 3), picture=four_corners)
    got = read(path)
    assert (got.info.width, got.info.height) == (85, 48) and got.frames[0].shape == (48, 85, 3)
    assert corners_of(got.frames[0]) == ["red", "green", "blue", "white"]


@pytest.mark.parametrize(
    "suffix, codec, pix_fmt, space, range_",
    [
        ("mp4", "libx264", "yuv420p", Colorspace.ITU709, LIMITED),
        ("mp4", "libx264", "yuv420p", Colorspace.ITU601, LIMITED),
        ("mp4", "libx264", "yuvj420p", Colorspace.ITU601, FULL),
        ("mp4", "libx264", "yuv420p", Colorspace.ITU709, FULL),
        ("avi", "mjpeg", "yuvj420p", Colorspace.ITU601, FULL),
    ],
)
def test_colours_survive(tmp_path, suffix, codec, pix_fmt, space, range_):
    colours = [
        (200, 40, 40),
        (40, 180, 60),
        (50, 60, 210),
        (220, 180, 150),
        (128, 128, 128),
        (250, 250, 250),
        (5, 5, 5),
    ]
    path, tag = str(tmp_path / f"colour.{suffix}"), 1 if space == Colorspace.ITU709 else 6  # ITU-T H.273
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=25, options={"crf": "5"} if codec == "libx264" else {"qscale": "1"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pix_fmt
        stream.codec_context.colorspace, stream.codec_context.color_range = tag, range_
        for number, colour in enumerate(colours):
            plain = av.VideoFrame.from_ndarray(np.full((HEIGHT, WIDTH, 3), colour, np.uint8), "rgb24")
            frame = plain.reformat(format=pix_fmt, dst_colorspace=space, src_color_range=FULL, dst_color_range=range_)
            frame.pts, frame.time_base, frame.colorspace, frame.color_range = number, Fraction(1, 25), tag, range_
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    middle = np.array([frame[HEIGHT // 2, WIDTH // 2] for frame in read(path).frames]).astype(int)
    assert np.abs(middle - colours).max() <= 4


# ---------------------------------------------------------------------------------------------------------------------
# Damage


def noisy_picture(number, width, height):
    """Noise under the number, so that the frames make up most of the file, not its headers."""
    grain = np.random.default_rng(number).integers(0, 80, (height, width, 3), np.uint8)
    return np.clip(picture(number, width, height) * 0.7 + grain, 0, 255).astype(np.uint8)


LONG = [n / 25 for n in range(100)]
NOISY = dict(times=LONG, picture=noisy_picture)
BREAKABLE = {
    "h264.mp4": dict(NOISY, b_frames=3, muxer={"movflags": "faststart"}),
    "h264.mkv": dict(NOISY, b_frames=3),
    "h264.ts": dict(NOISY, b_frames=3),
    "hevc.mp4": dict(NOISY, codec="libx265", options=X265, muxer={"movflags": "faststart"}),
    "mpeg4.avi": dict(NOISY, codec="mpeg4"),
    "mjpeg.avi": dict(NOISY, codec="mjpeg", pix_fmt="yuvj420p"),
    "wmv2.wmv": dict(NOISY, codec="wmv2", format="asf"),
    "vp8.webm": dict(NOISY, codec="libvpx", options={"cpu-used": "8"}),
}


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
    folder = tmp_path_factory.mktemp("intact")
    return functools.cache(lambda name: make(folder / name, **BREAKABLE[name]).read_bytes())


def broken(data, how):
    middle = len(data) // 2
    if how == "cut":
        return data[: len(data) * 6 // 10]
    filling = bytes(3000) if how == "zeroed" else np.random.default_rng(0).integers(0, 256, 3000, np.uint8).tobytes()
    return data[:middle] + filling + data[middle + len(filling) :]


@pytest.mark.parametrize(
    "name, how",
    [(n, "cut") for n in ("h264.mp4", "h264.mkv", "hevc.mp4", "mpeg4.avi", "mjpeg.avi", "vp8.webm")]
    + [(n, how) for n in ("h264.mp4", "h264.ts", "mpeg4.avi", "mjpeg.avi") for how in ("zeroed", "garbled")],
)
@pytest.mark.parametrize("threads", [1, 4])
def test_damage_half_way_leaves_the_part_before_it(intact, name, how, threads):
    data = broken(intact(name), how)
    got = read(data, threads=threads)
    assert got.seen == got.native_frame == list(range(len(got.seen)))  # nothing but true frames
    assert 15 <= len(got.seen) < 80
    assert got.truncated_at_s == got.time_s[-1] == pytest.approx(LONG[len(got.seen) - 1], abs=2e-3)
    assert "damaged after" in reason_of(data, on_corrupt="error")


@pytest.mark.parametrize("how", ["zeroed", "garbled"])
@pytest.mark.parametrize("name", ["h264.mkv", "vp8.webm", "wmv2.wmv"])
def test_damage_that_containers_skip_in_silence_leaves_the_times_true(intact, name, how):
    """Matroska and ASF go on behind a hole and do not tell; what cannot be told from a slow frame rate is not cut."""
    got = read(broken(intact(name), how))
    errors = [abs(time_s - seen / 25) > 2e-3 for time_s, seen in zip(got.time_s, got.seen, strict=True)]
    assert sum(errors) <= 10  # until the next key frame
    assert len(got.seen) > 40 and not any(errors[:40])


@pytest.mark.parametrize("name", BREAKABLE)
def test_undamaged_files_are_not_called_damaged(intact, name):
    got = read(intact(name), on_corrupt="error")
    assert got.seen == list(range(100)) and got.truncated_at_s is None


def test_a_transport_stream_that_begins_anywhere(intact):
    """Recordings of broadcasts begin between key frames: reading begins at the first sound frame."""
    data = intact("h264.ts")
    whole = read(data[len(data) // 188 // 3 * 188 :])
    first = whole.seen[0]
    assert first > 10 and whole.seen == list(range(first, 100)) and whole.truncated_at_s is None
    assert whole.native_frame == list(range(100 - first))
    for start_s in (0.5, 1.3):
        part = read(data[len(data) // 188 // 3 * 188 :], start_s=start_s)
        begin = int(np.searchsorted(whole.time_s, start_s))
        assert (part.seen, part.native_frame) == (whole.seen[begin:], whole.native_frame[begin:])


def test_damage_is_forgotten_where_it_is_not_met(intact):
    data = broken(intact("mpeg4.avi"), "zeroed")
    reader = VideoReader(data)
    assert len(list(reader)) and reader.truncated_at_s is not None
    assert read(data, end_s=0.4).truncated_at_s is None
