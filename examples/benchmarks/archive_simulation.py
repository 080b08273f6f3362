"""How an archive of 100,000 videos fares on a cluster that fails: the real scheduler and files, in simulated time.

    python examples/benchmarks/archive_simulation.py [--videos 100000] [--readme] [-o FILE]

Everything that decides is the package's own: `longest_first`, `hand_out`, and `Archive` with its files, attempts and
resumption. Only time and detection are made up: lengths are lognormal, some videos are broken and some end their
worker, some machines are slow, machines are lost and come back, and the first process is killed twice. Beside it stand
the plain ways: in the order given; without an end to attempts; and a list for each worker.
"""

import argparse
import heapq
import json
import math
import random
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from fedn_hf.archive.processes import hand_out
from fedn_hf.archive.store import MOST_ATTEMPTS, Archive
from fedn_hf.archive.videos import Video, longest_first
from fedn_hf.version import __version__

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "examples/cluster/README.md"


@dataclass(frozen=True)
class World:
    """What is made up. Times in hours."""

    videos: int = 100_000
    nodes: int = 64
    workers_per_node: int = 16
    median_h: float = 6 / 60  # of lengths; with this spread the mean is twice as long, and one in 100 beyond 1.6 h
    spread: float = 1.2
    longest_h: float = 8.0
    speed: float = 4.0  # hours of video in an hour of a worker
    broken: float = 0.01
    killers: float = 0.0005  # end their worker, somewhere on the way
    slow_nodes: float = 0.03
    slowness: float = 3.0
    node_lives_h: float = 24.0  # on the average, as machines do that others may take back
    node_returns_h: float = 10 / 60
    worker_starts_h: float = 20 / 3600
    killed_at_h: tuple[float, ...] = (2.0, 4.0)  # the first process, with everything that is in hand
    back_after_h: float = 10 / 60
    seed: int = 0


@dataclass
class Fate:
    """What becomes of a video."""

    length_h: float
    kind: str  # "sound", "broken" or "killer"
    when: float  # part of its work after which a killer strikes


def fates_of(world: World) -> dict[str, Fate]:
    draw = random.Random(world.seed)
    fates = {}
    for number in range(world.videos):
        length_h = min(world.longest_h, draw.lognormvariate(math.log(world.median_h), world.spread))
        chance = draw.random()
        kind = "killer" if chance < world.killers else "broken" if chance < world.killers + world.broken else "sound"
        fates[f"v{number:06}"] = Fate(length_h, kind, draw.random())
    return fates


class Memory:
    """An archive without files, for the ways that are only compared with."""

    def __init__(self):
        self.rows, self.attempts = {}, {}

    def begin(self, video: Video, run: str) -> int:
        self.attempts[video.id] = self.attempts.get(video.id, 0) + 1
        return self.attempts[video.id]

    def finish(self, video: Video, row: dict) -> None:
        self.rows[video.id] = row

    def row_of(self, video: Video) -> dict | None:
        return self.rows.get(video.id)


@dataclass(eq=False)
class _Worker:
    node: int
    video: Video | None = None
    begun_h: float = 0.0
    turn: int = 0  # events of earlier turns have been overtaken


@dataclass
class Simulated:
    """A `Crew` whose workers work in simulated time, and die."""

    world: World
    fates: dict[str, Fate]
    store: Archive | Memory
    run: str
    now_h: float = 0.0
    gives_up: bool = True
    lost_h: float = 0.0  # worker hours of work that came to nothing
    workers: list[_Worker] = field(default_factory=list)

    def __post_init__(self):
        world, self._draw = self.world, random.Random(f"{self.world.seed} {self.run}")
        self._slow = set(random.Random(world.seed).sample(range(world.nodes), round(world.slow_nodes * world.nodes)))
        self.workers = [_Worker(n) for n in range(world.nodes) for _ in range(world.workers_per_node)]
        self._events, self._count = [], 0
        self._free = dict.fromkeys(self.workers)  # in order, and quickly found
        self._sound_left = sum(fate.kind != "killer" for fate in self.fates.values())
        for node in range(world.nodes):
            self._later(self._draw.expovariate(1 / world.node_lives_h), "node", node)

    def _later(self, in_h: float, kind: str, what, turn: int = 0) -> None:
        self._count += 1
        heapq.heappush(self._events, (self.now_h + in_h, self._count, kind, what, turn))

    def idle(self) -> list[_Worker]:
        return list(self._free)

    def give(self, worker: _Worker, video: Video) -> None:
        del self._free[worker]
        worker.video, worker.begun_h = video, self.now_h
        fate = self.fates[video.id]
        if self.store.begin(video, self.run) > MOST_ATTEMPTS and self.gives_up:
            self._later(1 / 3600, "given up", worker, worker.turn)
        elif fate.kind == "broken":
            self._later(1 / 3600, "failed", worker, worker.turn)
        else:
            pace = self._draw.lognormvariate(0, 0.2) * (self.world.slowness if worker.node in self._slow else 1)
            needs_h = fate.length_h / self.world.speed * pace
            if fate.kind == "killer":
                self._later(needs_h * fate.when, "died", worker, worker.turn)
            else:
                self._later(needs_h, "done", worker, worker.turn)

    def wait(self) -> list[tuple[Video, dict | None]]:
        while True:
            self.now_h, _, kind, what, turn = heapq.heappop(self._events)
            if kind == "node":
                return self._lose_node(what)
            if turn != what.turn:
                continue
            if kind == "free":
                self._free[what] = None
                return []
            return [self._end(what, kind)]

    def _end(self, worker: _Worker, kind: str) -> tuple[Video, dict | None]:
        video, worker.video = worker.video, None
        if kind == "died" and (self.gives_up or self._sound_left):
            self._leave(worker, self.world.worker_starts_h, self.now_h - worker.begun_h)
            return video, None
        row = {"id": video.id, "size_bytes": video.size_bytes, "mtime_ns": video.mtime_ns, "events": []}
        row |= {"status": "done" if kind == "done" else "failed", "error": None if kind == "done" else kind}
        self.store.finish(video, row)
        self._sound_left -= self.fates[video.id].kind != "killer"
        self._free[worker] = None
        return video, row

    def _lose_node(self, node: int) -> list[tuple[Video, None]]:
        lost = []
        for worker in self.workers:
            if worker.node == node:
                self._free.pop(worker, None)
                if worker.video is not None:
                    lost.append((worker.video, None))
                    worker.video, spent_h = None, self.now_h - worker.begun_h
                else:
                    spent_h = 0.0
                self._leave(worker, self.world.node_returns_h + self.world.worker_starts_h, spent_h)
        self._later(self.world.node_returns_h + self._draw.expovariate(1 / self.world.node_lives_h), "node", node)
        return lost

    def _leave(self, worker: _Worker, away_h: float, spent_h: float) -> None:
        self.lost_h += spent_h
        worker.turn += 1
        self._later(away_h, "free", worker, worker.turn)


def through(world: World, fates: dict[str, Fate], store, ordered, gives_up=True, killed_at_h=()) -> dict:
    """
    One way through the archive. Each time the first process is killed, what is in hand is lost, and a new run begins
    with what the store does not hold.
    """
    videos = [Video(name, f"/{name}.mp4", 1, 1, 3600 * fate.length_h) for name, fate in fates.items()]
    begun, now_h, lost_h = time.monotonic(), 0.0, 0.0
    for run, until_h in enumerate((*killed_at_h, math.inf)):
        waiting = [video for video in videos if store.row_of(video) is None]
        crew = Simulated(world, fates, store, str(run), now_h, gives_up)
        rows = hand_out(ordered(waiting), crew)
        ended_h = now_h
        for _ in rows:
            if crew.now_h > until_h:
                break
            ended_h = crew.now_h
        rows.close()
        if until_h < math.inf:
            lost_h += sum(max(0.0, until_h - worker.begun_h) for worker in crew.workers if worker.video is not None)
            now_h = until_h + world.back_after_h
        lost_h += crew.lost_h
    facts = facts_of(world, fates, store, videos, ended_h, lost_h)
    return facts | {"hand_outs_per_s": round(len(videos) / (time.monotonic() - begun))}


def facts_of(world, fates, store, videos, ended_h: float, lost_h: float) -> dict:
    rows = [store.row_of(video) for video in videos]
    sound_h = sum(fate.length_h for fate in fates.values() if fate.kind == "sound") / world.speed
    states = [(row["status"], fates[video.id].kind == "sound") for video, row in zip(videos, rows, strict=True)]
    return {
        "hours": round(ended_h, 2),
        "least_hours": round(sound_h / (world.nodes * world.workers_per_node), 2),
        "longest_video_hours": round(max(fate.length_h for fate in fates.values()) / world.speed, 2),
        "worker_hours_lost": round(lost_h, 1),
        "lost_share": round(lost_h / sound_h, 4),
        "rows": len(rows),
        "sound_and_done": states.count(("done", True)),
        "broken_or_killers_failed": states.count(("failed", False)),
        "sound_but_given_up": states.count(("failed", True)),
    }


def lists_for_each(world: World, fates: dict[str, Fate]) -> dict:
    """The plainest way: the list is cut into one piece for each worker, and nobody helps anybody."""
    count = world.nodes * world.workers_per_node
    names, ended_h, lost_h = list(fates), 0.0, 0.0
    store = Memory()
    videos = {name: Video(name, f"/{name}.mp4", 1, 1) for name in names}
    one = World(**{**vars(world), "nodes": 1, "workers_per_node": 1, "slow_nodes": 0.0})
    slow = set(random.Random(world.seed).sample(range(world.nodes), round(world.slow_nodes * world.nodes)))
    for worker in range(count):
        mine = {name: fates[name] for name in names[worker * len(names) // count : (worker + 1) * len(names) // count]}
        is_slow = worker // world.workers_per_node in slow
        alone = World(**{**vars(one), "slow_nodes": float(is_slow), "seed": world.seed + worker})
        crew = Simulated(alone, mine, store, "0")
        for _ in hand_out([videos[name] for name in mine], crew):
            pass
        ended_h, lost_h = max(ended_h, crew.now_h), lost_h + crew.lost_h
    return facts_of(world, fates, store, list(videos.values()), ended_h, lost_h)


def as_given(videos: list[Video]) -> list[Video]:
    return videos


def simulate(world: World) -> dict:
    fates = fates_of(world)
    found = {"world": vars(world), "video_hours": round(sum(fate.length_h for fate in fates.values()))}
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        store = Archive(folder)
        twice = through(world, fates, store, longest_first, killed_at_h=world.killed_at_h)
    found["fedn archive"] = through(world, fates, Memory(), longest_first)
    found["fedn archive, its first process killed twice"] = twice
    found["in the order given"] = through(world, fates, Memory(), as_given)
    found["in the order given, no end to attempts"] = through(world, fates, Memory(), as_given, gives_up=False)
    found["a list for each worker"] = lists_for_each(world, fates)
    return found


def table_of(found: dict) -> str:
    lines = [
        "| | hours | over the least possible | work lost | sound videos given up |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, facts in found.items():
        if isinstance(facts, dict) and "hours" in facts:
            over = facts["hours"] / facts["least_hours"] - 1
            lost, given_up = facts["lost_share"], facts["sound_but_given_up"]
            lines.append(f"| {name} | {facts['hours']:.2f} | {over:+.0%} | {lost:.1%} | {given_up} |")
    return "\n".join(lines)


def write_into(readme: Path, name: str, text: str) -> None:
    """Replace what stands between two marks."""
    before, _, rest = readme.read_text().partition(f"<!-- {name} -->\n")
    _, _, after = rest.partition(f"<!-- end of {name} -->\n")
    readme.write_text(f"{before}<!-- {name} -->\n{text}\n<!-- end of {name} -->\n{after}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=World.videos)
    parser.add_argument("--readme", action="store_true", help=f"write the table into {README.relative_to(ROOT)}")
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "examples/benchmarks/results/archive_simulation.json")
    given = parser.parse_args()
    found = {"fedn_hf": __version__, **simulate(World(videos=given.videos))}
    given.out.write_text(json.dumps(found, indent=1) + "\n")
    print(table_of(found))
    if given.readme:
        write_into(README, "simulation", table_of(found))


if __name__ == "__main__":
    main()
