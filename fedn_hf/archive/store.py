"""What is known of an archive, on the disk: what was asked for, what is done, and what somebody has in hand.

    OUT/archive.json        with which network and settings; a run with others is refused
    OUT/plan.jsonl          the videos that were asked for
    OUT/videos/ID.json ...  the files of each video
    OUT/rows/..             the row of each video with its expressions, written last: where it lies, the video is done
    OUT/attempts/..         who has begun what, and not ended it
    OUT/*.parquet           tables of all rows and of all expressions

A row is one small file that is whole or not there. So nothing has to be in order when a run is killed: the next one
sees what is done, and does the rest.
"""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..files_fedn import replacing
from ..media_fedn import FednError
from .videos import Video, check_id

SCHEMA = 1
# A video that has ended this many workers of one run is not tried again in it.
MOST_ATTEMPTS = 2


class Archive:
    """
    The folder of an archive.

    Example:
        >>> archive = Archive("out")
        >>> archive.settle({"model": "fedn_hf default"})
        >>> video = Video("P01/baseline", "/data/0001.mp4", 1024, 0)
        >>> archive.begin(video, run="1"), archive.row_of(video)
        (1, None)
        >>> archive.finish(video, {"id": video.id, "size_bytes": 1024, "mtime_ns": 0, "status": "done"})
        >>> archive.row_of(video)["status"]
        'done'
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)

    @property
    def facts_path(self) -> Path:
        """Where network and settings are written down."""
        return self.folder / "archive.json"

    def facts(self) -> dict[str, Any]:
        """
        With which network and settings it is made.

        Raises:
            `FednError`: it is no archive.
        """
        try:
            facts = json.loads(self.facts_path.read_text(encoding="ascii"))
            is_ours = isinstance(facts["schema"], int) and _are_names(facts.get("labels", []))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            is_ours = False
        if not is_ours:
            raise FednError(f"{self.folder}: no archive; `fedn archive VIDEOS -o {self.folder}` makes one")
        if facts["schema"] > SCHEMA:
            raise FednError(f"{self.folder}: made by a newer version of fedn_hf; install that to read it")
        return facts

    def settle(self, facts: dict[str, Any]) -> None:
        """
        Begin an archive, or go on with it.

        Args:
            facts: JSON data that decide about results. All of an archive are made in one way.

        Raises:
            `FednError`: it was begun in another way.
        """
        facts = {"schema": SCHEMA, **json.loads(json.dumps(facts))}
        if self.facts_path.exists():
            for name, before in self.facts().items():
                if facts.get(name) != before:
                    raise FednError(
                        f"{self.folder} was begun with {name} {_brief(before)}, and now it is "
                        f"{_brief(facts.get(name))}; go on as it was begun, or choose another folder with -o"
                    )
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self.facts_path) as unfinished:
            unfinished.write_text(json.dumps(facts, indent=1), encoding="ascii")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """
        Nobody else works on this archive meanwhile.

        Raises:
            `FednError`: somebody does, or nobody can here.
        """
        lock = FileLock(self.folder / "archive.lock", timeout=0)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            raise FednError(
                f"{self.folder}: another `fedn archive` is at work on it; wait, or give each machine a folder of its "
                "own and a part with --shard, and join them with `fedn archive merge`"
            ) from None
        except (OSError, NotImplementedError) as error:
            raise FednError(
                f"{self.folder}: cannot be written to or locked ({error}); choose another folder with -o, on a file "
                "system that knows flock"
            ) from error
        try:
            yield
        finally:
            lock.release()

    def is_locked(self) -> bool:
        """Whether a command is at work in this folder."""
        try:
            with self.locked():
                return False
        except FednError:
            return True

    # --- what was asked for ---

    def keep_plan(self, videos: list[Video]) -> None:
        """Replace the list of videos that were asked for."""
        with replacing(self.folder / "plan.jsonl") as unfinished, open(unfinished, "w", encoding="ascii") as file:
            file.writelines(json.dumps(asdict(video)) + "\n" for video in videos)

    def plan(self) -> list[Video]:
        """
        The videos of the last run; empty before the first.

        Raises:
            `FednError`: the list is damaged, or somebody else's.
        """
        path, videos = self.folder / "plan.jsonl", []
        try:
            with open(path, encoding="ascii") as file:
                for line in file:
                    videos.append(Video(**json.loads(line)))
                    check_id(videos[-1].id)
                    os.fspath(videos[-1].path), float(videos[-1].duration_s or 0)
        except FileNotFoundError:
            return []
        except (ValueError, TypeError, AttributeError, RecursionError, FednError) as error:
            reason = " ".join(str(error).split())
            raise FednError(
                f"{path}: not the list that `fedn archive` wrote ({reason}); remove it, and begin the archive again: "
                "what is done stays done"
            ) from error
        return videos

    # --- what is done ---

    def row_of(self, video: Video) -> dict[str, Any] | None:
        """The row of exactly this file, with its expressions as `events`; None if there is none, or a damaged one."""
        try:
            row = json.loads(self._place("rows", video).read_text(encoding="ascii"))
            is_whole = row["status"] == "done" or (row["status"] == "failed" and "error" in row)
            return row if is_whole and video.is_same_file(row) else None
        except (FileNotFoundError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def rows(self, videos: list[Video]) -> Iterator[dict[str, Any] | None]:
        """As `row_of`, for many."""
        with ThreadPoolExecutor(16) as threads:
            for first in range(0, len(videos), 4096):  # `map` alone would hold all rows at once
                yield from threads.map(self.row_of, videos[first : first + 4096])

    def begin(self, video: Video, run: str) -> int:
        """Note that somebody sets about a video; gives how often that happened in this run and did not end."""
        place = self._place("attempts", video)
        try:
            before = json.loads(place.read_text(encoding="ascii"))
        except (FileNotFoundError, ValueError):
            before = {}
        attempts = before.get("attempts", 0) + 1 if before.get("run") == run else 1
        place.parent.mkdir(parents=True, exist_ok=True)
        with replacing(place) as unfinished:
            unfinished.write_text(json.dumps({"id": video.id, "run": run, "attempts": attempts}), encoding="ascii")
        return attempts

    def finish(self, video: Video, row: dict[str, Any]) -> None:
        """Keep the row of a video: from now on it is done."""
        place = self._place("rows", video)
        place.parent.mkdir(parents=True, exist_ok=True)
        with replacing(place) as unfinished:
            unfinished.write_text(json.dumps(row), encoding="ascii")
        self._place("attempts", video).unlink(missing_ok=True)

    def forget(self, video: Video) -> None:
        """Take the row of a video away, so that it is done again."""
        self._place("rows", video).unlink(missing_ok=True)

    @contextmanager
    def holding(self, video: Video) -> Iterator[None]:
        """
        Nobody else has this video in hand meanwhile: not a worker that was given up for lost and still goes on, nor
        one of a run that was killed a second ago.
        """
        lock = self._place("attempts", video).with_suffix(".lock")
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock):
            yield
        # Whoever waited for it finds the row, so it does not matter that others may now make a new one.
        lock.unlink(missing_ok=True)

    def _place(self, what: str, video: Video) -> Path:
        """Of many thousand files not all in one folder."""
        return self.folder / what / video.key[:2] / f"{video.key}.json"


def _are_names(labels: Any) -> bool:
    return (
        isinstance(labels, list)
        and all(isinstance(label, str) for label in labels)
        and len(set(labels)) == len(labels)
    )


def _brief(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else f"{text[:120]}..."


__all__ = ["MOST_ATTEMPTS", "Archive"]
