"""Videos that lie: how many frames they hold, how long these last, and where they are."""

import resource
import struct

import pytest

from fedn_hf import MediaError, MediaLimits, VideoReader
from tests.clips import STEADY, make, read, reason_of


@pytest.fixture
def clip(tmp_path):
    return make(tmp_path / "clip.mp4", times=STEADY, codec="mpeg4")


def with_times(path, count, ticks):
    """The table of an MP4 that says how long frames last, with one entry: so many frames, each so many ticks."""
    data = path.read_bytes()
    at = data.index(b"stts")
    changed = data[: at + 12] + struct.pack(">II", count, ticks) + data[at + 20 :]
    path.write_bytes(changed)
    return path


def test_a_thousand_million_declared_frames_cost_nothing(clip):
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        assert len(read(with_times(clip, 10**9, 512)).seen) <= 60
    except MediaError as error:
        assert error.reason
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 100_000


def test_frames_that_last_no_time_meet_the_limit_of_decoding(clip):
    with_times(clip, 60, 0)
    assert "max_decode_s" in reason_of(clip, limits=MediaLimits(max_decode_s=0.0))
    assert len(read(clip).seen) == 60


def test_a_last_frame_that_lasts_for_ever_meets_the_limit_of_duration(clip):
    """FFmpeg gives the last of these frames what is left of its clock: two minutes, so it is shown 4000 times."""
    with_times(clip, 60, 0)
    assert "max_duration_s" in reason_of(clip, fps=30, limits=MediaLimits(max_duration_s=60.0))


def test_links_lead_to_files_and_to_nothing_else(clip, tmp_path):
    (tmp_path / "link.mp4").symlink_to(clip)
    assert read(tmp_path / "link.mp4").seen == list(range(60))
    (tmp_path / "zero.mp4").symlink_to("/dev/zero")
    (tmp_path / "loop.mp4").symlink_to(tmp_path / "loop.mp4")
    for name in ("zero.mp4", "loop.mp4"):
        with pytest.raises((MediaError, OSError)):
            VideoReader(tmp_path / name)
