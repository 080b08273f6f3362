"""The commands about time: expressions told while a video comes in, and how fast a machine is."""

import json
import subprocess

import av
import pytest

from fedn_hf.cli.terminal import clock
from fedn_hf.loading import load_pipeline
from fedn_hf.speed import STAGES
from tests.test_cli import COMMAND, DEMO, ENVIRONMENT, LOW, fedn


def test_follow_tells_what_a_pipe_brings(checkpoint, tmp_path):
    with av.open(str(DEMO)) as source, av.open(str(tmp_path / "live.ts"), "w") as live:
        original = source.streams.video[0]
        stream = live.add_stream_from_template(original)
        for packet in source.demux(original):
            if packet.dts is not None:
                packet.stream = stream
                live.mux(packet)
    command = [*COMMAND, "detect", "-", "--follow", "--model", str(checkpoint), "--device", "cpu", *LOW]
    content = (tmp_path / "live.ts").read_bytes()
    ran = subprocess.run(command, input=content, capture_output=True, env=ENVIRONMENT)
    assert ran.returncode == 0, ran.stderr
    assert b"Expressions are told at most 47 s of video after" in ran.stderr
    found = load_pipeline(checkpoint, device="cpu")(str(tmp_path / "live.ts"), score_threshold=float(LOW[1]))
    told = [line.split() for line in ran.stdout.decode().splitlines()]
    assert [words[0] for words in told] == [clock(event["onset_s"]) for event in found] != []
    assert [words[4] for words in told] == [event["label"] for event in found]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-o", "results"), "--follow prints, and does no more; leave -o out"),
        ((str(DEMO),), "--follow goes with one video, got 2"),
        (("--sandbox",), "leave --sandbox out"),
    ],
)
def test_follow_says_what_it_does_not_do(short, words, message):
    ran = fedn("detect", short, "--follow", *words)
    assert ran.exit_code == 1
    assert message in ran.stderr


def test_follow_ends_with_the_error_of_a_bad_file(checkpoint, tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"this is no video")
    ran = fedn("detect", tmp_path / "bad.mp4", "--follow", "--model", checkpoint)
    assert ran.exit_code == 2 and "bad.mp4: not a readable video" in ran.stderr and not ran.stdout


def test_benchmark_shows_every_stage(checkpoint, short, tmp_path):
    ran = fedn("benchmark", short, "--model", checkpoint, "--device", "cpu", "-o", tmp_path / "speed.json")
    assert ran.exit_code == 0, ran.output
    told = json.loads((tmp_path / "speed.json").read_text("utf-8"))
    assert list(told["fps"]) == ["plain decode", *STAGES, "end to end"]
    assert told["frames"] == 18 and told["frames_with_face"] == 18 and told["device"] == "cpu"
    assert told["real_time_factor"] == pytest.approx(told["fps"]["end to end"] / 30)
    assert told["peak_memory_mb"] > 100
    for words in (*told["fps"], "x real time", "a face in 18 of 18 frames", "peak memory"):
        assert words in ran.stdout
    assert fedn("benchmark", tmp_path / "absent.mp4", "--model", checkpoint).exit_code == 1
