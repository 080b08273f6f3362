"""The reader on real files of many kinds, made here. Every frame carries its own number as black and white blocks."""

import contextlib
import functools
import http.server
import io
import os
import pickle
import resource
import struct
import subprocess
import sys
import textwrap
import threading
import zlib
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import ColorRange, Colorspace
from hypothesis import given, settings
from hypothesis import strategies as st

from fedn_hf.media_fedn import Frame
from fedn_hf.video_io_fedn import FednError, MediaError, MediaLimits, VideoReader, _resample

WIDTH, HEIGHT, BITS = 64, 48, 8
STEADY = [n / 25 for n in range(60)]
VARIABLE = (np.cumsum([40, 20, 100, 33, 500, 40, 40, 200] * 6) / 1000 - 0.04).tolist()  # seconds
FAST = {"preset": "veryfast"}
X265 = {"x265-params": "log-level=none:keyint=10:pools=1"}
OPEN_GOP = {"x264-params": "open-gop=1:keyint=10:min-keyint=10:scenecut=0"}
FULL, LIMITED = int(ColorRange.JPEG), int(ColorRange.MPEG)


# ---------------------------------------------------------------------------------------------------------------------
# Making and reading


def picture(number, width=WIDTH, height=HEIGHT):
    """The bits of `number` side by side, and below them the same inverted: whatever is garbage shows itself."""
    bits = np.array([number >> bit & 1 for bit in range(BITS)])
    rows, columns = np.arange(height) * 2 // height, np.arange(width) * BITS // width
    grey = (np.stack([bits, 1 - bits])[rows][:, columns] * 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def number_in(rgb):
    height, width = rgb.shape[:2]
    columns = [int((bit + 0.5) * width / BITS) for bit in range(BITS)]
    above, below = (rgb[int(height * part), columns].mean(-1) > 128 for part in (0.25, 0.75))
    return int((above << np.arange(BITS)).sum()) if (above != below).all() else -1


def make(
    path,
    times=STEADY,
    codec="libx264",
    size=(WIDTH, HEIGHT),
    pix_fmt="yuv420p",
    tick=Fraction(1, 25),
    options=None,
    muxer=None,
    gop=10,
    b_frames=0,
    picture=picture,
    aspect=None,
    format=None,
    sound_from=None,
):
    with av.open(str(path), "w", format=format, options=muxer or {}) as container:
        stream = container.add_stream(codec, rate=25, options=options or (FAST if codec == "libx264" else {}))
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        context = stream.codec_context
        context.time_base, context.gop_size, context.max_b_frames, context.bit_rate = tick, gop, b_frames, 1_000_000
        context.thread_count = 1
        if aspect:
            context.sample_aspect_ratio = aspect
        sound = container.add_stream("pcm_s16le", rate=8000, layout="mono") if sound_from is not None else None
        for number, time_s in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture(number, *size), "rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = round(time_s / tick), tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound:
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), "s16", "mono")
            samples.sample_rate, samples.pts, samples.time_base = 8000, round(sound_from * 8000), Fraction(1, 8000)
            container.mux(sound.encode(samples))
    return path


def read(source, **options):
    """Everything that the reader gives, with the numbers that stand in the pictures themselves."""
    reader = VideoReader(source, **options)
    batches = list(reader)
    assert all(0 < len(batch) <= reader.batch_size for batch in batches)
    assert all(batch.frames.dtype == torch.uint8 for batch in batches)
    frames = [frame for batch in batches for frame in batch.frames.numpy()]
    return SimpleNamespace(
        info=reader.info,
        truncated_at_s=reader.truncated_at_s,
        frames=frames,
        time_s=np.concatenate([batch.time_s for batch in batches] or [np.zeros(0)]),
        native_frame=[int(n) for batch in batches for n in batch.native_frame],
        seen=[number_in(frame) for frame in frames],
    )


def reason_of(source, **options):
    """Why reading fails; every failure names its source."""
    with pytest.raises(MediaError) as caught:
        read(source, **options)
    assert caught.value.path in str(caught.value)
    return caught.value.reason


CLIPS = {  # file name -> how it is made
    "h264.mp4": dict(b_frames=3),
    "h264-open-gop.mp4": dict(b_frames=3, options=OPEN_GOP),
    "h264-fragments.mp4": dict(b_frames=3, muxer={"movflags": "frag_keyframe+empty_moov"}),
    "h264-intra-refresh.mp4": dict(options={"x264-params": "intra-refresh=1:keyint=10"}),
    "h264-10-bit.mp4": dict(pix_fmt="yuv420p10le"),
    "h264-odd.mp4": dict(pix_fmt="yuv444p", size=(65, 49)),
    "h264-variable.mp4": dict(times=VARIABLE, tick=Fraction(1, 1000), b_frames=3),
    "h264-late.mp4": dict(times=[5 + t for t in STEADY], b_frames=3),
    "hevc.mov": dict(codec="libx265", options=X265),
    "hevc.ts": dict(codec="libx265", options=X265),
    "h264.mkv": dict(b_frames=3),
    "h264-open-gop.mkv": dict(b_frames=3, options=OPEN_GOP),
    "h264-variable.mkv": dict(times=VARIABLE, tick=Fraction(1, 1000), b_frames=3),
    "h264-late.mkv": dict(times=[5 + t for t in STEADY], b_frames=3),
    "ffv1-grey.mkv": dict(codec="ffv1", pix_fmt="gray"),
    "ffv1-odd.mkv": dict(codec="ffv1", size=(65, 49)),
    "vp8.webm": dict(codec="libvpx", options={"cpu-used": "8", "auto-alt-ref": "1", "lag-in-frames": "16"}),
    "vp9-odd.webm": dict(codec="libvpx-vp9", size=(65, 49), options={"cpu-used": "8"}),
    "mpeg4.avi": dict(codec="mpeg4"),
    "mpeg4-b-frames.avi": dict(codec="mpeg4", b_frames=2),
    "mpeg4-dropped.avi": dict(codec="mpeg4", times=[n / 25 for n in range(60) if n % 7 != 3]),
    "h264-b-frames.avi": dict(b_frames=3),
    "mjpeg.avi": dict(codec="mjpeg", pix_fmt="yuvj420p"),
    "wmv2.wmv": dict(codec="wmv2", format="asf"),
    "wmv2-late.wmv": dict(codec="wmv2", format="asf", times=[5 + t for t in STEADY]),
    "h264.ts": dict(b_frames=3),
    "h264-open-gop-late.ts": dict(b_frames=3, options=OPEN_GOP, times=[5 + t for t in STEADY]),
    "mpeg4.ts": dict(codec="mpeg4"),
    "mpeg2.ts": dict(codec="mpeg2video", b_frames=2),
    "mpeg2.mpg": dict(codec="mpeg2video", b_frames=2, format="mpeg"),
    "h264.flv": dict(b_frames=3),
}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """`clip(name)` is the path of that clip, made when first asked for."""
    folder = tmp_path_factory.mktemp("clips")
    return functools.cache(lambda name: str(make(folder / name, **CLIPS[name])))


def shared(*parts):
    """A file of the folder with recordings that are not part of the package."""
    root = Path(os.environ.get("FEDN_SHARED", Path(__file__).parents[2] / "shared"))
    if not (root / Path(*parts)).exists():
        pytest.skip(f"{Path(*parts)} not found under {root}; set FEDN_SHARED")
    return root.joinpath(*parts)


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
def test_recordings_from_elsewhere_are_read_to_their_end(name):
    path = shared("real_clips", name)
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
# Resampling


@given(
    steps_ms=st.lists(st.integers(1, 400), min_size=1, max_size=30),
    fps=st.sampled_from([1, 7, 24, 29.97, 30, 120]),
    start_s=st.floats(0, 4),
    length_s=st.floats(0.05, 4),
    first_ms=st.integers(0, 3000),
)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_each_tick_shows_the_nearest_frame(steps_ms, fps, start_s, length_s, first_ms):
    time_s = (first_ms + np.cumsum([0, *steps_ms])) / 1000
    steps_s = np.append(np.diff(time_s), 0.2)  # the last frame stays for 0.2 s
    frames = [Frame(t, d, n, None) for n, (t, d) in enumerate(zip(time_s.tolist(), steps_s.tolist(), strict=True))]
    ticks = [time_s[0] + k / fps for k in range(int((time_s[-1] + 0.2 - time_s[0]) * fps + 2))]
    stays_s = max(0.2 - 0.25 / fps, 1e-3 / fps)
    ticks = [t for t in ticks if t < max(time_s[-1] + stays_s, time_s[-2:].mean() + 1e-3 / fps)]
    whole = list(_resample(iter(frames), fps, time_s[0], 0.0, np.inf))
    assert len(whole) == len(ticks)
    for tick_s, frame in zip(ticks, whole, strict=True):
        assert abs(frame.time_s - tick_s) <= np.abs(time_s - tick_s).min() + 2.1e-3 / fps
    # A part that begins at the last frame before its start, as after a jump in the file, shows the same.
    before = max((n for n, t in enumerate(time_s) if t <= start_s), default=0)
    part = list(_resample(iter(frames[before:]), fps, time_s[0], start_s, start_s + length_s))
    assert part == [f for t, f in zip(ticks, whole, strict=True) if start_s - 1e-9 <= t < start_s + length_s - 1e-9]


def test_a_frame_half_way_between_two_ticks_is_the_earlier_one(clip):
    assert read(clip("h264.mp4"), fps=50, end_s=0.2).native_frame == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


# ---------------------------------------------------------------------------------------------------------------------
# Sources other than files


def test_image_folder_in_natural_order(tmp_path):
    for number in (10, 2, 1, 33):
        av.VideoFrame.from_ndarray(picture(number), "rgb24").save(str(tmp_path / f"img{number}.png"))
    av.VideoFrame.from_ndarray(picture(40), "rgb24").save(str(tmp_path / "img40.jpg"))
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "._img1.png").write_bytes(b"what macOS leaves on foreign disks")
    got = read(tmp_path, native_fps=5)
    assert got.seen == [1, 2, 10, 33, 40] and got.time_s.tolist() == [0.0, 0.2, 0.4, 0.6, 0.8]
    assert (got.info.num_frames, got.info.fps, got.info.container) == (5, 5, "images")
    assert read(tmp_path, native_fps=5, start_s=0.35, end_s=0.7).native_frame == [2, 3]
    with pytest.raises(ValueError, match="native_fps"):
        VideoReader(tmp_path)


def test_images_that_do_not_fit_are_named(tmp_path):
    av.VideoFrame.from_ndarray(picture(1), "rgb24").save(str(tmp_path / "img1.png"))
    av.VideoFrame.from_ndarray(picture(2, 80, 48), "rgb24").save(str(tmp_path / "img2.png"))
    assert "80 x 48" in reason_of(tmp_path, native_fps=5)
    (tmp_path / "img2.png").write_bytes(b"garbage")
    with pytest.raises(MediaError, match=r"img2\.png"):
        read(tmp_path, native_fps=5)


def test_arrays_tensors_and_lists():
    array = np.stack([picture(n) for n in range(10)])
    for source in (array, torch.from_numpy(array), array[..., 0], list(array), list(torch.from_numpy(array))):
        got = read(source, native_fps=25, fps=50, batch_size=3)
        assert got.seen == got.native_frame == [n for n in range(10) for _ in "ab"]
        assert got.frames[0].shape == (HEIGHT, WIDTH, 3)
    assert read(array, native_fps=10, start_s=0.3, end_s=0.6).native_frame == [3, 4, 5]
    for wrong in (array.astype(np.float32), array[0, 0], array[:0], np.zeros((2, 3, 48, 64), np.uint8), []):
        assert reason_of(wrong, native_fps=25)


def test_pil_images():
    pillow = pytest.importorskip("PIL.Image")
    images = [pillow.fromarray(picture(n)).convert(mode) for n, mode in enumerate(["RGB", "L", "RGBA", "P"])]
    assert read(images, native_fps=25).seen == [0, 1, 2, 3]


class TorchcodecLike:
    """The part of torchcodec's VideoDecoder that the reader uses."""

    def __init__(self, times):
        self.times, self.metadata, self.asked = times, SimpleNamespace(average_fps=25.0), []

    def __len__(self):
        return len(self.times)

    def get_frame_at(self, index):
        data = torch.from_numpy(picture(index)).permute(2, 0, 1)
        return SimpleNamespace(data=data, pts_seconds=self.times[index], duration_seconds=0.04)


class DecordLike:
    """The part of decord's VideoReader that the reader uses."""

    def __init__(self, times):
        self.times, self.asked = times, []

    def __len__(self):
        return len(self.times)

    def get_avg_fps(self):
        return 25.0

    def get_frame_timestamp(self, index):
        return np.array([[self.times[index], self.times[index] + 0.04]])

    def __getitem__(self, index):
        self.asked.append(index)
        return SimpleNamespace(asnumpy=lambda: picture(index))


@pytest.mark.parametrize("kind", [TorchcodecLike, DecordLike])
def test_decoders_opened_elsewhere(kind):
    got = read(kind(VARIABLE))
    assert got.seen == got.native_frame == list(range(len(VARIABLE))) and got.time_s.tolist() == VARIABLE
    assert (got.info.fps, got.info.container) == (25.0, "decoder")
    inside = [n for n, t in enumerate(VARIABLE) if 1 <= t < 3]
    assert read(kind(VARIABLE), start_s=1, end_s=3).seen == inside
    assert "no frames" in reason_of(kind([]))


def test_each_native_frame_is_decoded_once_however_often_it_is_shown():
    decoder = DecordLike(STEADY)
    reader = VideoReader(decoder, fps=60, batch_size=7)
    decoder.asked.clear()
    assert sum(len(batch) for batch in reader) == 144
    assert decoder.asked == list(range(60))


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_in_memory(clip, kind):
    data = kind(Path(clip("h264.mkv")).read_bytes())
    assert read(data).seen == list(range(60))
    assert read(data, start_s=1.0).seen == list(range(25, 60))


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "avi", "ts"])
def test_a_file_object_is_read_as_often_as_one_likes(tmp_path, suffix):
    def noisy(number, width, height):  # larger than any buffer on the way
        rgb = np.random.default_rng(number).integers(0, 60, (height, width, 3), np.uint8)
        return np.maximum(rgb, picture(number, width, height))

    path = make(tmp_path / f"noisy.{suffix}", codec="mjpeg" if suffix == "avi" else "libx264", size=(320, 240),
                pix_fmt="yuvj420p" if suffix == "avi" else "yuv420p", picture=noisy)  # fmt: skip
    assert path.stat().st_size > 200_000
    with path.open("rb") as file:
        file.seek(1234)
        reader = VideoReader(file, batch_size=8, start_s=1.0)
        for _ in range(2):
            assert [number_in(f) for batch in reader for f in batch.frames.numpy()] == list(range(25, 60))
        both = zip(VideoReader(file, batch_size=8), VideoReader(file, batch_size=8, start_s=1.0), strict=False)
        pairs = [(int(a.native_frame[0]), number_in(b.frames[0].numpy())) for a, b in both]
        assert pairs == [(0, 25), (8, 33), (16, 41), (24, 49), (32, 57)]


def test_file_objects_that_cannot_be_read(clip):
    class Pipe:
        def read(self, size=-1):
            return b""

    reading, writing = os.pipe()
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert "cannot seek" in reason_of(pipe)
    assert "cannot seek" in reason_of(Pipe())
    assert "expected bytes" in reason_of(io.StringIO("text")).lower()
    assert reason_of(io.BytesIO()) and reason_of(b"") and reason_of(b"garbage" * 1000)
    assert "not a video" in reason_of(42)


# ---------------------------------------------------------------------------------------------------------------------
# Names, refusals and limits


@pytest.mark.parametrize("name", ["-dash.mp4", "a b.mp4", "10:30:00.mp4", "映像 ü.mp4", "100%02d.mp4", "file.unknown"])
def test_any_name_will_do(clip, tmp_path, monkeypatch, name):
    (tmp_path / name).write_bytes(Path(clip("h264.mp4")).read_bytes())
    monkeypatch.chdir(tmp_path)
    assert len(read(name).seen) == len(read(tmp_path / name).seen) == 60


@pytest.mark.parametrize(
    "name, content",
    [
        ("playlist.mp4", "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{clip}\n#EXT-X-ENDLIST\n"),
        ("script.mp4", "ffconcat version 1.0\nfile '{clip}'\n"),
        ("session.mp4", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"),
        ("garbage.mp4", "no video at all " * 500),
        ("empty.mp4", ""),
    ],
)
def test_what_is_no_video_is_refused(clip, tmp_path, name, content):
    (tmp_path / name).write_text(content.format(clip=clip("h264.ts")))
    assert reason_of(tmp_path / name)


def test_strings_that_are_no_local_files_are_refused(clip, tmp_path):
    path = clip("h264.mp4")
    for source in ("http://localhost/v.mp4", "rtsp://localhost/v", f"file://{path}"):
        assert "allow_url" in reason_of(source)
    assert "allow_url" in reason_of(f"file://{path}", allow_url=True)
    for source in (f"file:{path}", f"concat:{path}|{path}", "pipe:0", str(tmp_path / "missing.mp4")):
        assert "no such file" in reason_of(source)
    assert "no images" in reason_of(tmp_path, native_fps=5)
    assert "regular file" in reason_of("/dev/zero")


def test_urls_are_read_where_they_are_allowed(clip):
    path = Path(clip("h264.mkv"))
    handler = functools.partial(QuietHandler, directory=str(path.parent))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with contextlib.closing(server.socket):
        url = f"http://127.0.0.1:{server.server_port}/{path.name}"
        assert read(url, allow_url=True).seen == list(range(60))
        assert "not a readable video" in reason_of(url + ".missing", allow_url=True)
        server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_files_without_a_picture(tmp_path):
    with av.open(str(tmp_path / "sound.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), "s16", "mono")
        samples.sample_rate = 8000
        container.mux(stream.encode(samples))
    assert "holds no video" in reason_of(tmp_path / "sound.mkv")
    for name in ("none.mkv", "none.mp4", "none.avi"):
        make(tmp_path / name, times=[], codec="mpeg4")
        assert reason_of(tmp_path / name)


def png_that_claims(width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [20_000, 40_000, 100_000])
def test_huge_images_are_refused_before_memory_is_spent(tmp_path, side):
    av.VideoFrame.from_ndarray(picture(1), "rgb24").save(str(tmp_path / "img2.png"))
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name in ("img3.png", "img1.png"):  # as a later and as the first image
        (tmp_path / name).write_bytes(png_that_claims(side, side))
        with pytest.raises(MediaError, match=rf"{name}.*pixels are refused"):
            read(tmp_path, native_fps=5)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 100_000


@pytest.mark.parametrize("name", ["h264.mp4", "ffv1-odd.mkv", "vp8.webm", "mpeg4.avi", "wmv2.wmv", "mpeg2.ts"])
def test_frames_over_the_pixel_limit_are_refused(clip, name):
    assert "pixels" in reason_of(clip(name), limits=MediaLimits(max_pixels=WIDTH * HEIGHT - 1))


def test_limits_of_time_and_of_containers(clip):
    path = clip("h264.mkv")
    assert "max_duration_s" in reason_of(path, limits=MediaLimits(max_duration_s=2.3))
    assert len(read(path, limits=MediaLimits(max_duration_s=2.5)).seen) == 60
    undeclared = np.stack([picture(n) for n in range(10)])
    assert "max_duration_s" in reason_of(undeclared, native_fps=25, limits=MediaLimits(max_duration_s=0.39))
    assert "max_decode_s" in reason_of(path, limits=MediaLimits(max_decode_s=0.0))
    assert "not a readable video" in reason_of(path, limits=MediaLimits(formats=frozenset({"mov", "mp4"})))


def test_a_stream_longer_than_it_declares_meets_the_limit(clip):
    reader = VideoReader(clip("mpeg4.ts"))
    reader.limits = MediaLimits(max_duration_s=1.0)  # as if the header had said less
    with pytest.raises(MediaError, match="max_duration_s"):
        list(reader)


@pytest.mark.parametrize(
    "options",
    [dict(fps=0), dict(fps=float("nan")), dict(batch_size=0), dict(on_corrupt="skip"), dict(start_s=2, end_s=1)],
)
def test_arguments_that_make_no_sense(clip, options):
    with pytest.raises(ValueError):
        VideoReader(clip("h264.mp4"), **options)


def test_errors_are_of_both_families_and_pickle():
    error = MediaError("a/b.mp4", "broken")
    assert isinstance(error, FednError) and isinstance(error, OSError)
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.path, copy.reason, str(copy)) == (MediaError, "a/b.mp4", "broken", "a/b.mp4: broken")


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


# ---------------------------------------------------------------------------------------------------------------------
# Memory

PEAK = """
    import resource, sys
    from fedn_hf.video_io_fedn import VideoReader
    for path in sys.argv[1:]:
        count = sum(len(batch) for batch in VideoReader(path, batch_size=8, threads=2))
        print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_length(tmp_path):
    def plain(number, width, height):
        return np.full((height, width, 3), number % 251, np.uint8)

    paths = [tmp_path / "short.mp4", tmp_path / "long.mp4"]
    for path, count in zip(paths, (50, 1000), strict=True):  # 1000 frames of 320 x 240 are 230 MB
        times = [n / 25 for n in range(count)]
        make(path, times=times, size=(320, 240), codec="mpeg4", picture=plain)
    command = [sys.executable, "-c", textwrap.dedent(PEAK), *map(str, paths)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    (short, short_kb), (long, long_kb) = (map(int, line.split()) for line in run.stdout.splitlines())
    assert (short, long) == (50, 1000)
    assert long_kb - short_kb < 25_000
