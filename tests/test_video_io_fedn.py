"""The reader on sources of many kinds: resampling, arrays, names, refusals, limits and memory."""

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
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedn_hf.media_fedn import Frame
from fedn_hf.video_io_fedn import FednError, MediaError, MediaLimits, VideoReader, _resample
from tests.clips import (
    HEIGHT,
    STEADY,
    VARIABLE,
    WIDTH,
    make,
    number_in,
    picture,
    read,
    reason_of,
)

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


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "png", "bmp", "tif", "webp"])
def test_pictures_as_cameras_save_them(suffix, tmp_path, astronaut):
    image = pytest.importorskip("PIL.Image").fromarray(astronaut.numpy())
    for number in range(2):
        image.save(tmp_path / f"img{number}.{suffix}")
    frames = read(tmp_path, native_fps=5).frames
    assert len(frames) == 2 and np.abs(frames[1].astype(int) - astronaut.numpy()).mean() < 5


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


@contextlib.contextmanager
def piped(path, at_once=500):
    """A pipe into which another thread writes a file, little by little."""

    def write():
        with contextlib.suppress(BrokenPipeError), open(path, "rb") as file, os.fdopen(writing, "wb", 0) as pipe:
            while chunk := file.read(at_once):
                pipe.write(chunk)

    reading, writing = os.pipe()
    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    with os.fdopen(reading, "rb") as pipe:
        yield pipe
    thread.join()


@pytest.mark.parametrize("name", ["h264.ts", "h264.mkv", "h264-fragments.mp4", "vp8.webm"])
def test_pipes_are_read_as_files_are_and_once(clip, name):
    """What the first look at a pipe takes out of it is not lost, nor does a pipe have to end before it is read."""
    with piped(clip(name)) as pipe:
        reader = VideoReader(pipe, fps=30, batch_size=8, start_s=0.5)
        streamed = [(batch.time_s.tolist(), batch.frames) for batch in reader]
        expected = [
            (batch.time_s.tolist(), batch.frames)
            for batch in VideoReader(clip(name), fps=30, batch_size=8, start_s=0.5)
        ]
        assert [times for times, _ in streamed] == [times for times, _ in expected]
        assert all(torch.equal(one, other) for (_, one), (_, other) in zip(streamed, expected, strict=True))
        with pytest.raises(MediaError, match="a pipe can be read only once"):
            list(reader)


def test_named_pipes(clip, tmp_path):
    os.mkfifo(tmp_path / "camera")
    content = Path(clip("h264.ts")).read_bytes()
    writer = threading.Thread(target=(tmp_path / "camera").write_bytes, args=(content,), daemon=True)
    writer.start()
    assert read(tmp_path / "camera").seen == list(range(60))
    writer.join()


def test_file_objects_that_cannot_be_read(clip):
    class Pipe:
        def read(self, size=-1):
            return b""

    assert "through a pipe go MPEG-TS and Matroska" in reason_of(Pipe())
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
    assert "neither a regular file, a pipe, a camera" in reason_of("/dev/zero")


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
# Memory

PEAK = """
    import resource, sys
    sys.argv[0] = "fedn"  # then the package imports no more than reading needs
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
