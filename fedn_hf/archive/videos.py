"""Which videos: manifests, names that are safe, shards, how long each lasts, and which comes first."""

import hashlib
import json
import os
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path, PureWindowsPath
from statistics import median
from typing import Any

from ..exporters.tables import number_of, read_parquet_rows, read_rows
from ..media_fedn import FednError, MediaLimits

MANIFEST_SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl")
_LONGEST_PART = 200  # bytes of a folder's or file's name; file systems take 255, with the suffix


@dataclass(frozen=True)
class Video:
    """
    One video of an archive.

    id: what tables call it; its files are named so, too, so it is a relative path that leads nowhere else.
    path: from the root on.
    size_bytes, mtime_ns: of the file, which tell whether it is still the one whose results are there; None: no file.
    duration_s: as its header or the manifest says; None if neither does.
    """

    id: str
    path: str
    size_bytes: int | None = None
    mtime_ns: int | None = None
    duration_s: float | None = None

    @property
    def name(self) -> str:
        """Of its files."""
        return self.id

    @property
    def key(self) -> str:
        """Of its row: short, in plain letters, and the same everywhere."""
        return hashlib.sha256(os.fsencode(self.id)).hexdigest()[:32]

    def is_same_file(self, row: dict[str, Any]) -> bool:
        """Whether a row is about this very file."""
        return (row["id"], row["size_bytes"], row["mtime_ns"]) == (self.id, self.size_bytes, self.mtime_ns)


def read_manifest(path: str | Path) -> list[Video]:
    """
    The videos of a list: CSV, TSV, Parquet or JSON lines with a column `path` (relative ones from the list's folder
    on), and, where they are known, `id` and `duration_s`. Without an id a video is called by its path without suffix,
    below the list's folder if it lies there.

    Raises:
        `FednError`: no such list, no column `path`, ids that are not safe, or the same id or file twice.

    Example:
        >>> _ = Path("study.csv").write_text("id,path\\nP01/baseline,raw/0001.mp4\\n")
        >>> [(video.id, Path(video.path).name) for video in read_manifest("study.csv")]
        [('P01/baseline', '0001.mp4')]
    """
    path = Path(path)
    try:
        rows = list(_rows_of(path))
    except OSError as error:
        raise FednError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:  # pyarrow's errors are ValueErrors, too
        raise FednError(f"{path}: not a {path.suffix[1:]} file that can be read ({error})") from error
    folder, videos = path.absolute().parent, []
    for number, row in rows:
        try:
            videos.append(_video_of(row, folder))
        except FednError as error:
            raise FednError(f"{path}, row {number}: {error}") from None
    if not videos:
        raise FednError(f"{path}: it lists no videos; a column `path` names them")
    check_distinct(videos, [f"{path}, row {number}" for number, _ in rows])
    return videos


def _rows_of(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows with their numbers, as editors count lines."""
    match path.suffix.lower():
        case ".parquet":
            yield from enumerate(read_parquet_rows(path, ("id", "path", "duration_s"))[1], start=1)
        case ".jsonl":
            for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
                if line.strip():
                    yield number, dict(json.loads(line))
        case _:
            header, rows = read_rows(path)
            for number, cells in enumerate(rows, start=2):
                if any(cells):
                    yield number, dict(zip(header, cells, strict=False))


def _video_of(row: dict[str, Any], folder: Path) -> Video:
    given = row.get("path")
    if not (isinstance(given, str) and given.strip()):
        known = ", ".join(map(str, row)) or "none"
        raise FednError(f"a column `path` with the video's place is needed, got {given!r} (columns: {known})")
    path = Path(os.path.normpath(folder / given))
    if row.get("id") in (None, ""):
        inside = path.is_relative_to(folder)
        name = (path.relative_to(folder) if inside else path.relative_to(path.anchor)).with_suffix("").as_posix()
    else:
        name = str(row["id"])
    check_id(name)
    duration_s = number_of(row.get("duration_s"))
    if duration_s is not None and duration_s < 0:
        raise FednError(f"duration_s must be 0 or more seconds, got {duration_s:g}")
    return Video(name, str(path), duration_s=duration_s)


def check_id(name: str) -> None:
    """
    Make sure that files named so lie below the folder for results, on every system.

    Raises:
        `FednError`: they would not, or no file can be named so.
    """
    parts = name.split("/")
    leads_away = any(part in ("", ".", "..") for part in parts) or PureWindowsPath(name).anchor
    is_too_long = any(len(os.fsencode(part)) > _LONGEST_PART for part in parts)
    is_odd = any(letter == "\\" or unicodedata.category(letter) == "Cc" for letter in name) or name != name.strip()
    if leads_away or is_too_long or is_odd:
        raise FednError(
            f"an id names files below the folder for results, such as P01/baseline: no .., no / at either end, no "
            f"backslash, at most {_LONGEST_PART} bytes between two /; got {name[:300]!r}"
        )


def check_distinct(videos: Sequence[Video], places: Sequence[str]) -> None:
    """
    Make sure that no id and no file comes twice.

    Args:
        places: where each video was named, for the message.

    Raises:
        `FednError`: one does.
    """
    ids: dict[str, str] = {}
    paths: dict[str, str] = {}
    for video, place in zip(videos, places, strict=True):
        # Names that some file systems hold for the same.
        name = unicodedata.normalize("NFC", video.id).casefold()
        for what, value, seen in (("id", name, ids), ("file", video.path, paths)):
            if value in seen:
                raise FednError(
                    f"{place}: the {what} {video.id if what == 'id' else video.path!r} was there before "
                    f"({seen[value]}); every video has one row and an id of its own"
                )
            seen[value] = place


def shard_of(videos: Iterable[Video], index: int, count: int) -> list[Video]:
    """Part `index`, 1 to `count`, of an archive. A video stays in its part when others join the list."""
    return [video for video in videos if int(video.key, 16) % count == index - 1]


def find_durations(videos: Sequence[Video], known: Iterable[Video] = (), processes: int = 1) -> list[Video]:
    """
    The same videos with what their files say: size, time of change, and seconds of video from the header.

    Args:
        known: from an earlier look at them.
    """
    with ThreadPoolExecutor(16) as threads:  # of a file server one waits for the answer, not for the work
        videos = list(threads.map(_with_file, videos))
    known_s = {(v.id, v.size_bytes, v.mtime_ns): v.duration_s for v in known}
    videos = [
        replace(v, duration_s=known_s.get((v.id, v.size_bytes, v.mtime_ns))) if v.duration_s is None else v
        for v in videos
    ]
    unknown = [v.path for v in videos if v.duration_s is None and v.size_bytes]
    try:
        # In processes of their own: what cannot be read may also end the process that tries to.
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            found = dict(zip(unknown, pool.map(_duration_s, unknown, chunksize=32), strict=True)) if unknown else {}
    except BrokenProcessPool:  # then sizes alone say what comes first: slower at the end, and as right
        found = {}
    return [replace(v, duration_s=found.get(v.path)) if v.duration_s is None else v for v in videos]


def _with_file(video: Video) -> Video:
    try:
        found = os.stat(video.path)
    except OSError:
        return video
    return replace(video, size_bytes=found.st_size, mtime_ns=found.st_mtime_ns)


def _duration_s(path: str) -> float | None:
    """What the header says, without decoding a frame."""
    import av

    options = {"format_whitelist": ",".join(sorted(MediaLimits().formats)), "protocol_whitelist": "file"}
    if not os.path.isfile(path):
        return None
    try:
        with av.open(f"file:{path}", options=options, metadata_errors="replace") as container:
            return container.duration / av.time_base if container.duration else None
    except (av.error.FFmpegError, OSError, ValueError):
        return None


def longest_first(videos: Sequence[Video]) -> list[Video]:
    """
    The order of work: what takes longest comes first, so that at the end no machine waits for one long video. Where
    the duration is not known, the size stands for it, at the usual number of bytes per second.
    """
    rates = [v.duration_s / v.size_bytes for v in videos if v.duration_s and v.size_bytes]
    s_per_byte = median(rates) if rates else 1.0

    def expected_s(video: Video) -> float:
        return (video.size_bytes or 0) * s_per_byte if video.duration_s is None else video.duration_s

    return sorted(videos, key=lambda video: (-expected_s(video), video.id))


__all__ = [
    "MANIFEST_SUFFIXES",
    "Video",
    "check_distinct",
    "check_id",
    "find_durations",
    "longest_first",
    "read_manifest",
    "shard_of",
]
