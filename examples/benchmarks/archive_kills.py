"""Whether an archive loses anything: 200 short videos, ten of them broken, and everything killed again and again.

    python examples/benchmarks/archive_kills.py [--engine processes] [--engine ray] [--videos 200] [-o FILE]

Under each engine `fedn archive` is killed twice with signal 9, at random points, and then runs to its end. With Ray it
runs on a cluster of two nodes and a head on this machine, and in the last run one of the nodes is killed, too. What
comes out is read with pyarrow alone.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from pyarrow import parquet

from fedn_hf.version import __version__

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-c", "import sys; sys.argv[0] = 'fedn'; from fedn_hf.cli import main; sys.exit(main())"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
FPS = 25


def make_videos(folder: Path, count: int, broken: int) -> tuple[set[str], set[str]]:
    """Videos of half a second to two, with one face; broken ones of every kind among them. Returns both kinds' ids."""
    folder.mkdir(parents=True)
    draw = random.Random(0)
    with av.open(str(ROOT / "tests/data/astronaut.png")) as picture:
        portrait = next(picture.decode(video=0)).reformat(width=160, height=160, format="rgb24").to_ndarray()
    sound, unsound = set(), set()
    for number in range(count):
        name, path = f"v{number:03}", folder / f"v{number:03}.mp4"
        if number % (count // broken) == count // broken // 2 and len(unsound) < broken:
            unsound.add(name)
            _break(path, portrait, len(unsound))
        else:
            sound.add(name)
            _encode(path, portrait, draw.randint(FPS // 2, 2 * FPS))
    return sound, unsound


def _encode(path: Path, portrait: np.ndarray, frames: int) -> None:
    with av.open(str(path), "w") as clip:
        stream = clip.add_stream("h264", rate=FPS, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 160, 160, "yuv420p"
        for number in range(frames):
            shifted = np.roll(portrait, round(3 * np.sin(number / 5)), axis=1)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(shifted), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            clip.mux(stream.encode(frame))
        clip.mux(stream.encode(None))


def _break(path: Path, portrait: np.ndarray, kind: int) -> None:
    match kind % 4:
        case 0:
            path.write_bytes(b"")
        case 1:
            path.write_text("a letter, and not a video\n" * 99)
        case 2:  # its end, and with it the index, is missing
            _encode(path, portrait, FPS)
            path.write_bytes(path.read_bytes()[:2000])
        case 3:  # a playlist that would open another file
            path.write_text(f"#EXTM3U\n#EXTINF:1,\n{path.with_name('v000.mp4')}\n#EXT-X-ENDLIST\n")


def rows_in(out: Path) -> dict[str, str]:
    """The rows that are whole, by file name, with a hash of each."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.glob("rows/*/*.json")}


def run(videos: Path, out: Path, engine: str, environment: dict[str, str], until: int | None, on_rows=None) -> dict:
    """
    Run `fedn archive` to its end, or kill it with all of its group once `until` rows are there.

    Args:
        on_rows: is called with the number of rows, again and again.
    """
    before = rows_in(out)
    options = [*COMMAND, "archive", str(videos), "-o", str(out), "--engine", engine, "--workers", "2"]
    options += ["--score-threshold", "0.01"]  # a face that does not move shows nothing at the usual one
    process = subprocess.Popen(options, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        while process.poll() is None:
            rows = len(list(out.glob("rows/*/*.json")))
            if until is not None and rows >= until:
                time.sleep(random.Random(until).random() / 4)
                process.send_signal(signal.SIGKILL)  # the first process alone: the others have to notice
                break
            if on_rows is not None:
                on_rows(rows)
            time.sleep(0.05)
        said = process.communicate()[1]
    finally:
        if process.poll() is None:
            process.kill()
    after = rows_in(out)
    return {
        "killed": until is not None,
        "exit_code": process.returncode,
        "rows_before": len(before),
        "rows_after": len(after),
        "rows_lost_or_redone": sum(after.get(name) != value for name, value in before.items()),
        **({} if until is not None else {"said": [line for line in said.splitlines() if " failed:" in line]}),
    }


def check(out: Path, sound: set[str], unsound: set[str]) -> dict:
    """What another program finds in the tables, and whether it is right."""
    table = parquet.read_table(out / "videos.parquet").to_pylist()
    names = [row["id"] for row in table]
    done = {row["id"] for row in table if row["status"] == "done"}
    failed = {row["id"]: row["error"] for row in table if row["status"] == "failed"}
    events = parquet.read_table(out / "expressions.parquet").drop_columns("video").to_pylist()  # its place differs
    files = {path.stem for path in (out / "videos").glob("*.json") if json.loads(path.read_text())["video"]}
    return {
        "rows": len(table),
        "every_video_exactly_once": sorted(names) == sorted(sound | unsound),
        "sound_ones_done": done == sound,
        "broken_ones_listed": set(failed) == unsound and all(failed.values()),
        "files_of_each": files == sound,
        "expressions": len(events),
        "expressions_as_rows_say": len(events) == sum(row["expressions"] or 0 for row in table),
        "unfinished_left": len([*out.rglob("*.partial"), *out.glob("attempts/*/*")]),
        "reasons": sorted(set(failed.values())),
        "expressions_sha256": hashlib.sha256(json.dumps(sorted(map(str, events))).encode()).hexdigest()[:16],
    }


def with_processes(videos: Path, out: Path, points: list[int]) -> list[dict]:
    return [run(videos, out, "processes", ENVIRONMENT, until) for until in (*points, None)]


def with_ray(videos: Path, out: Path, points: list[int], node_at: int) -> list[dict]:
    """The same on a cluster that outlives the killed commands, and loses a node in the last run."""
    os.environ |= {name: ENVIRONMENT[name] for name in ("PYTHONPATH", "HF_HUB_OFFLINE")}
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": 100 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **small})
    nodes = [cluster.add_node(num_cpus=2, **small) for _ in range(2)]
    environment = {**ENVIRONMENT, "RAY_ADDRESS": cluster.address}

    def kill_a_node(rows: int) -> None:
        if rows >= node_at and len(nodes) == 2:
            cluster.remove_node(nodes.pop(), allow_graceful=False)

    try:
        runs = [run(videos, out, "ray", environment, until) for until in points]
        runs.append(run(videos, out, "ray", environment, None, kill_a_node))
        return [*runs[:-1], {**runs[-1], "nodes_killed": 2 - len(nodes)}]
    finally:
        cluster.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", action="append", choices=("processes", "ray"))
    parser.add_argument("--videos", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "examples/benchmarks/results/archive_kills.json")
    given = parser.parse_args()
    found = {"fedn_hf": __version__, "videos": given.videos, "broken": given.videos // 20, "seed": given.seed}
    if given.engine and given.out.exists():  # the other engine's
        found = json.loads(given.out.read_text()) | found
    with tempfile.TemporaryDirectory() as folder:
        kinds = make_videos(Path(folder) / "videos", given.videos, given.videos // 20)
        for engine in given.engine or ("processes", "ray"):
            draw = random.Random(f"{given.seed} {engine}")
            points = sorted(draw.sample(range(given.videos // 20, given.videos * 3 // 4), 2))
            out, place = Path(folder) / engine, Path(folder) / "videos"
            if engine == "ray":
                runs = with_ray(place, out, points, node_at=draw.randint(points[-1] + 5, given.videos * 9 // 10))
            else:
                runs = with_processes(place, out, points)
            found[engine] = {"killed_at": points, "runs": runs, **check(out, *kinds)}
            print(engine, json.dumps(found[engine], indent=1), flush=True)
            given.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
