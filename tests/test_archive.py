"""Archives: which videos, each of them once, whatever is killed, and tables that other programs read."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from typer.testing import CliRunner

from fedn_hf import exporters
from fedn_hf.archive import Archive, Job, Video, find_durations, longest_first, read_manifest, shard_of, write_tables
from fedn_hf.archive.processes import Processes, hand_out
from fedn_hf.archive.store import MOST_ATTEMPTS
from fedn_hf.archive.videos import check_id
from fedn_hf.cli import app
from fedn_hf.cli.batch import Results
from fedn_hf.media_fedn import FednError
from tests.archive_workers import Light, Mistaken, Struck, Unready, job_in
from tests.clips import make

ROOT = Path(__file__).resolve().parents[1]
FACTS = {"labels": ["anger"]}


def fedn(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def videos_named(*names):
    return [Video(name, f"/{name}.mp4", 1, 1, 1.0) for name in names]


@pytest.fixture
def light(monkeypatch):
    """Processes that start within a second: they do not register with transformers, see `fedn_hf/__init__.py`."""
    monkeypatch.setattr(sys, "argv", ["fedn"])


# --- which videos -------------------------------------------------------------------------------------------------


def test_manifests_of_every_kind_say_the_same(tmp_path):
    rows = [
        {"id": "007", "path": "raw/a.mp4", "duration_s": 1.5},
        {"id": "P1/b", "path": "/far/b.mp4", "duration_s": None},
    ]
    (tmp_path / "list.csv").write_text("id,path,duration_s,note\n007,raw/a.mp4,1.5,x\n\nP1/b,/far/b.mp4,,\n")
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pd.DataFrame(rows).to_parquet(tmp_path / "list.parquet")
    expected = [Video("007", str(tmp_path / "raw/a.mp4"), duration_s=1.5), Video("P1/b", "/far/b.mp4")]
    for suffix in ("csv", "jsonl", "parquet"):
        assert read_manifest(tmp_path / f"list.{suffix}") == expected


def test_without_ids_videos_are_called_by_their_place_whatever_else_is_listed(tmp_path):
    (tmp_path / "list.csv").write_text("path\nP1/a.mp4\n/far/b.mp4\n")
    assert [video.id for video in read_manifest(tmp_path / "list.csv")] == ["P1/a", "far/b"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("video\na.mp4\n", "row 2: a column `path`"),
        ("path\n", "lists no videos"),
        ("id,path\nx,a.mp4\nX,b.mp4\n", "row 3: the id 'X' was there before"),
        ("id,path\nx,a.mp4\ny,./a.mp4\n", "row 3: the file"),
        ("path\na.mp4\na.avi\n", "row 3: the id 'a' was there before"),
        ("id,path\n../../x,a.mp4\n", "row 2: an id names files below"),
        ("id,path,duration_s\nx,a.mp4,long\n", "row 2: a number was expected"),
    ],
)
def test_a_manifest_with_a_fault_names_the_row(tmp_path, text, reason):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(FednError, match=reason.replace("'", "['\"]")):
        read_manifest(tmp_path / "list.csv")


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "..", "a/../../b", "a//b", "a/", "./a", "C:/x", "..\\x", "a\0b", "a\nb", "x" * 300]
)
def test_ids_that_lead_elsewhere_or_name_no_file_are_refused(name):
    with pytest.raises(FednError, match="an id names files below"):
        check_id(name)


@given(st.text("ab./\\:~ .\n\0ä", max_size=12))
def test_no_id_that_is_taken_leads_out_of_the_folder(name):
    try:
        check_id(name)
    except FednError:
        return
    place = os.path.normpath(f"/out/videos/{name}.json")
    assert place.startswith("/out/videos/") and os.path.relpath(place, "/out/videos") == f"{name}.json"


def test_a_part_keeps_its_videos_when_others_join():
    few, many = videos_named(*map(str, range(50))), videos_named(*map(str, range(100)))
    parts = [shard_of(many, index, 3) for index in (1, 2, 3)]
    assert Counter(video.id for part in parts for video in part) == Counter(video.id for video in many)
    assert all(set(shard_of(few, index, 3)) <= set(parts[index - 1]) for index in (1, 2, 3))


def test_durations_come_from_headers_and_the_longest_comes_first(tmp_path, light):
    for name, frames in (("short", 10), ("long", 50)):
        make(tmp_path / f"{name}.mp4", times=[n / 25 for n in range(frames)])
    (tmp_path / "broken.mp4").write_bytes((tmp_path / "long.mp4").read_bytes()[:-1500])
    (tmp_path / "list.m3u8.mp4").write_text(f"#EXTM3U\n#EXTINF:9,\n{tmp_path / 'long.mp4'}\n#EXT-X-ENDLIST\n")
    names = ("short", "broken", "long", "list.m3u8", "absent")
    videos = find_durations([Video(name, str(tmp_path / f"{name}.mp4")) for name in names])
    assert [video.duration_s for video in videos] == [0.4, None, 2.0, None, None]
    assert videos[2].size_bytes == (tmp_path / "long.mp4").stat().st_size
    order = [video.id for video in longest_first(videos)]
    assert order[0] == "long" and order.index("broken") < order.index("list.m3u8") and order[-1] == "absent"


# --- each of them once --------------------------------------------------------------------------------------------


def test_what_ends_its_worker_is_tried_twice_and_costs_nothing_else(tmp_path, light):
    names = [f"v{number}" for number in range(20)]
    videos = videos_named("killer", *names[:10], "broken", *names[10:])
    archive = Archive(tmp_path)
    with Processes(partial(Light, job_in(tmp_path)), 2) as crew:
        rows = {row["id"]: row for row in hand_out(videos, crew)}
    assert Counter((tmp_path / "begun.txt").read_text().split()) == Counter(
        [*names, "broken", *["killer"] * MOST_ATTEMPTS]
    )
    assert {name for name, row in rows.items() if row["status"] == "failed"} == {"killer", "broken"}
    assert "out of memory" in rows["killer"]["error"] and rows["broken"]["error"] == "broken"
    assert [archive.row_of(video)["status"] for video in videos] == [rows[video.id]["status"] for video in videos]
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.parent.parent.name == "attempts"]


def test_a_decoder_that_crashes_or_hangs_costs_its_video_and_not_the_worker(tmp_path):
    paths = [tmp_path / f"{name}.mp4" for name in ("crash", "hang", "first", "second")]
    for path in paths[:2]:
        path.symlink_to(ROOT / "examples" / "media" / "synthetic.mp4")
    for path in paths[2:]:
        make(path, times=[n / 25 for n in range(10)])
    results = replace(Results.of(tmp_path / "out" / "videos", ["json"]), remembers=False)  # as the command's are
    job = Job(str(tmp_path / "out"), "run", results)
    videos = [Video(path.stem, str(path)) for path in (paths[0], paths[2], paths[1], paths[3])]
    with Processes(partial(Struck, job), 1) as crew:
        worker = crew._members[0].process
        rows = {row["id"]: row for row in hand_out(videos, crew)}
        assert crew._members[0].process is worker
    assert [rows[name]["status"] for name in ("crash", "first", "hang", "second")] == ["failed", "done"] * 2
    assert "crashed (SIGSEGV)" in rows["crash"]["error"] and "nothing got done in 2 s" in rows["hang"]["error"]
    assert sorted(path.name for path in (tmp_path / "out" / "videos").iterdir()) == ["first.json", "second.json"]


@pytest.mark.parametrize(("kind", "reason"), [(Unready, "fewer --workers"), (Mistaken, "no such checkpoint")])
def test_workers_that_never_get_ready_end_it_with_the_reason(tmp_path, light, kind, reason):
    with Processes(partial(kind, job_in(tmp_path)), 1) as crew, pytest.raises(FednError, match=reason):
        list(hand_out(videos_named("a"), crew))


def test_killed_at_any_point_everything_is_done_once(tmp_path):
    draw = random.Random(0)
    archive = Archive(tmp_path)
    videos = videos_named(*(f"v{number}" for number in range(60)), "broken1", "broken2")
    archive.keep_plan(videos)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    code = "import sys; sys.argv[0] = 'fedn'; from tests.archive_workers import coordinate; coordinate(sys.argv[1], 2)"

    def start():
        return subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], env=environment)

    for stop_at in sorted(draw.sample(range(5, 50), 2)):
        process = start()
        while process.poll() is None and len(list(tmp_path.glob("rows/*/*.json"))) < stop_at:
            time.sleep(draw.random() / 50)
        process.kill()
        assert process.wait() == -9
    kept = {path: path.read_bytes() for path in tmp_path.glob("rows/*/*.json")}
    assert 5 <= len(kept) < len(videos)
    assert start().wait() == 0
    rows = list(archive.rows(videos))
    assert Counter(row["status"] for row in rows) == {"done": 60, "failed": 2}
    assert all(path.read_bytes() == content for path, content in kept.items())
    # What was in hand when it was killed may have been begun again: two workers, killed twice.
    begun = Counter((tmp_path / "begun.txt").read_text().split())
    assert set(begun) == {video.id for video in videos} and sum(begun.values()) <= len(videos) + 4
    assert not list(tmp_path.rglob("*.partial"))


def test_a_new_run_tries_again_what_an_earlier_one_had_in_hand(tmp_path):
    archive, (video,) = Archive(tmp_path), videos_named("a")
    assert [archive.begin(video, run) for run in ("1", "1", "2", "2")] == [1, 2, 1, 2]


def test_a_file_that_has_changed_is_another_video(tmp_path):
    archive, (video,) = Archive(tmp_path), videos_named("a")
    archive.finish(video, {"id": "a", "status": "done", "size_bytes": 1, "mtime_ns": 1})
    assert archive.row_of(video) is not None and archive.row_of(Video("a", "/a.mp4", 2, 1)) is None


def test_one_archive_is_made_by_one_at_a_time_and_in_one_way(tmp_path):
    archive = Archive(tmp_path)
    archive.settle({"weights": "a", "settings": {"types": ["micro-expression"]}})
    archive.settle({"weights": "a", "settings": {"types": ["micro-expression"]}})
    with pytest.raises(FednError, match='weights "a", and now it is "b"'):
        archive.settle({"weights": "b", "settings": {"types": ["micro-expression"]}})
    with archive.locked(), pytest.raises(FednError, match="another `fedn archive` is at work"), archive.locked():
        pass
    assert not archive.is_locked()


# --- tables -------------------------------------------------------------------------------------------------------


def part_with(folder, **statuses):
    """An archive with a row for each video that has a status."""
    archive = Archive(folder)
    archive.settle(FACTS)
    videos = videos_named(*statuses)
    archive.keep_plan(videos)
    for video, status in zip(videos, statuses.values(), strict=True):
        if status is not None:
            Light(job_in(folder)).archive.finish(video, row_with(video, status))
    return archive


def row_with(video, status):
    from fedn_hf.archive.worker import blank_row

    event = {
        "label": "anger",
        "score": 0.5,
        "type": "macro-expression",
        "onset_s": 0.0,
        "apex_s": 0.2,
        "offset_s": 0.4,
    }
    event |= {"onset_frame": 0, "apex_frame": 5, "offset_frame": 9, "face_id": 0, "label_scores": {"anger": 0.5}}
    return {**blank_row(video), "status": status, "events": [event] * (status == "done")}


def test_parts_become_one_table_with_every_video_once(tmp_path):
    parts = [
        part_with(tmp_path / "1", a="done", b="failed", c=None),
        part_with(tmp_path / "2", b="done", d="failed"),
    ]
    done, failures, left = write_tables(parts, tmp_path / "all")
    assert (done, failures, left) == (2, [("/d.mp4", None)], 1)
    rows = parquet.read_table(tmp_path / "all" / "videos.parquet").to_pylist()
    assert sorted((row["id"], row["status"], Path(row["archive"]).name) for row in rows) == [
        ("a", "done", "1"), ("b", "done", "2"), ("d", "failed", "2"),
    ]  # fmt: skip
    events = parquet.read_table(tmp_path / "all" / "expressions.parquet")
    assert events["id"].to_pylist() == ["a", "b"] and events["score_anger"].to_pylist() == [0.5, 0.5]
    assert events.schema.field("onset_frame").type == pa.int64()
    read = exporters.read(tmp_path / "all" / "expressions.parquet")
    assert [(one.video["path"], one.intervals[0].label) for one in read] == [("/a.mp4", "anger"), ("/b.mp4", "anger")]


def test_archives_that_do_not_belong_together_are_not_joined(tmp_path):
    one, other = part_with(tmp_path / "1", a="done"), Archive(tmp_path / "2")
    with pytest.raises(FednError, match="no archive"):
        write_tables([one, other], tmp_path / "all")
    other.settle({"labels": ["joy"]})
    with pytest.raises(FednError, match="different labels"):
        write_tables([one, other], tmp_path / "all")
    clash = part_with(tmp_path / "3")
    clash.keep_plan([Video("a", "/elsewhere/a.mp4")])
    with pytest.raises(FednError, match="ids of their own"):
        write_tables([one, clash], tmp_path / "all")
    assert not list((tmp_path / "all").glob("*"))


# --- the command --------------------------------------------------------------------------------------------------


def test_the_command_goes_through_a_folder_and_goes_on_with_it(tmp_path, light):
    videos, out = tmp_path / "videos", tmp_path / "out"
    (videos / "P1").mkdir(parents=True)
    make(videos / "P1" / "a.mp4", times=[n / 25 for n in range(10)])
    good, bad = (videos / "P1" / "a.mp4").read_bytes(), videos / "b.mp4"
    bad.write_bytes(b"x" * len(good))
    before = bad.stat().st_mtime_ns
    ran = fedn("archive", videos, "-o", out, "--workers", 1, "--format", "json")
    assert ran.exit_code == 2, ran.output
    assert "1 of 2 videos done" in ran.output and "b.mp4: not a readable video" in ran.output
    rows = {row["id"]: row for row in parquet.read_table(out / "videos.parquet").to_pylist()}
    assert (rows["P1/a"]["frames"], rows["P1/a"]["model"], rows["b"]["status"]) == (12, "fedn_hf default", "failed")
    assert json.loads((out / "videos/P1/a.json").read_text())["video"]["path"] == str(videos / "P1" / "a.mp4")
    made = (out / "videos/P1/a.json").stat().st_mtime_ns

    bad.write_bytes(good)
    os.utime(bad, ns=(before, before))  # nobody can see that it is another one
    seen = fedn("archive", "status", out).output
    assert "not running" in seen and re.search(r"done +1 .*\nfailed +1 .*\nto do +0 ", seen) and "b.mp4: not a" in seen
    ran = fedn("archive", videos, "-o", out, "--workers", 1, "--format", "json", "--retry-failed", "--no-sandbox")
    assert ran.exit_code == 0 and "2 of 2 videos done" in ran.output
    assert (out / "videos/P1/a.json").stat().st_mtime_ns == made
    other = fedn("archive", videos, "-o", out, "--format", "json", "--score-threshold", 0.9)
    assert other.exit_code == 1 and "was begun with settings {}" in other.output


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["list.csv"], "no such file, nor any other of the list"),
        (["list.csv", "--shard", "4/3"], "such as 3/16"),
        (["list.csv", "--engine", "slurm"], "processes or ray"),
        (["list.csv", "--gpus-per-worker", "0.5"], "--engine ray"),
        (["absent.csv"], "No such file"),
        (["http://a/b.mp4"], "allow-url"),
    ],
)
def test_the_command_says_in_one_line_what_is_wrong(tmp_path, monkeypatch, arguments, reason):
    monkeypatch.chdir(tmp_path)
    Path("list.csv").write_text("path\nnowhere/a.mp4\nnowhere/b.mp4\n")
    ran = fedn("archive", *arguments, "-o", "out")
    assert ran.exit_code == 1 and reason in ran.output and len(ran.output.strip().splitlines()) == 1, ran.output


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_the_command_that_is_asked_to_stop_says_how_far_it_is_and_goes_on(tmp_path, how):
    (tmp_path / "videos").mkdir()
    for number in range(20):
        make(tmp_path / "videos" / f"{number}.mp4", times=[n / 25 for n in range(50)])
    code = "import sys; sys.argv[0] = 'fedn'; from fedn_hf.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "archive", str(tmp_path / "videos"), "-o", str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen([*command, "--workers", "1"], env=environment, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not list(tmp_path.glob("out/rows/*/*.json")):
        time.sleep(0.02)
    worker = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[-1])
    process.send_signal(how)
    said = process.communicate()[1]
    assert process.returncode == 130 and re.search(r"\d+ of 20 videos are through; the same command goes on", said)
    assert not Path(f"/proc/{worker}").exists()
    kept = {path: path.read_bytes() for path in tmp_path.glob("out/rows/*/*.json")}
    assert subprocess.run([*command, "--workers", "1"], env=environment, check=False).returncode == 0
    assert 0 < len(kept) < 20 and all(path.read_bytes() == content for path, content in kept.items())
    assert len(list(tmp_path.glob("out/rows/*/*.json"))) == 20


# --- Ray ----------------------------------------------------------------------------------------------------------


def test_ray_gives_the_same_rows_and_survives_what_ends_a_worker(tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="the archive's Ray engine is NOT TESTED: pip install 'fedn_hf[archive]'")
    from fedn_hf.archive.on_ray import run_on_ray

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    videos = videos_named("killer", *(f"v{number}" for number in range(10)), "broken")
    rows = list(run_on_ray(videos, partial(Light, job_in(tmp_path)), workers=2))
    assert Counter(row["id"] for row in rows) == Counter(video.id for video in videos)
    assert {row["id"] for row in rows if row["status"] == "failed"} == {"killer", "broken"}
    assert (tmp_path / "begun.txt").read_text().split().count("killer") == MOST_ATTEMPTS
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
