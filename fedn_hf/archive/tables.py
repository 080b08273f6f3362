"""Two Parquet files of one archive or of several: a row for each video, and a row for each expression."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ..files_fedn import replacing
from ..media_fedn import FednError
from .store import Archive
from .videos import Video

_BATCH = 10_000
_TEXTS = ("id", "path", "status", "error", "host", "ended", "fedn_hf", "model", "revision", "device", "torch")
_WHOLE = ("size_bytes", "frames", "faces", "expressions")
_EVENT_WHOLE = ("onset_frame", "apex_frame", "offset_frame", "face_id")


def write_tables(archives: Sequence[Archive], folder: str | Path) -> tuple[int, list[tuple[str, str]], int]:
    """
    Write `videos.parquet` and `expressions.parquet`, of what is there until now: one archive, or the parts that
    several machines have made of one. A video that is in several parts has one row, of where it is done.

    Returns:
        How many videos are done; path and reason of each that failed; how many are neither.

    Raises:
        `FednError`: no archives, archives made in different ways, rows that are damaged, or two videos of one id.
    """
    facts = archives[0].facts()
    for archive in archives[1:]:
        theirs = archive.facts()
        if differing := [name for name in facts if facts[name] != theirs.get(name)]:
            raise FednError(
                f"{archive.folder} and {archives[0].folder} were made with different {', '.join(differing)}, so they "
                "are not parts of one archive"
            )
    try:
        return _write(archives, Path(folder), facts.get("labels", []))
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:  # pyarrow's are of these, too
        raise FednError(
            f"{', '.join(str(archive.folder) for archive in archives)}: a row is not what `fedn archive` writes "
            f"({type(error).__name__}: {error}); remove the folder rows, and begin the archive again"
        ) from error


def _write(archives: Sequence[Archive], folder: Path, labels: list[str]) -> tuple[int, list[tuple[str, str]], int]:
    done, failures, left = 0, [], 0
    with ExitStack() as stack:
        videos, events = (
            stack.enter_context(_Table(folder / name, schema))
            for name, schema in (("videos.parquet", _videos()), ("expressions.parquet", _expressions(labels)))
        )
        for row in _rows(archives):
            if row is None:
                left += 1
                continue
            if row["status"] == "failed":
                failures.append((row["path"], row["error"]))
            else:
                done += 1
            videos.add({name: _plain(row[name]) for name in videos.schema.names})
            for event in row["events"]:
                events.add(_event(row, event, labels))
    return done, failures, left


def _rows(archives: Sequence[Archive]) -> Iterator[dict[str, Any] | None]:
    """The row of every video, once; None where there is none yet."""
    places: dict[str, tuple[Archive, Video]] = {}
    for archive in archives:
        for video in archive.plan():
            known, before = places.setdefault(video.id, (archive, video))
            if before.path != video.path:
                raise FednError(
                    f"{video.id} is {before.path} in {known.folder} and {video.path} in {archive.folder}; the videos "
                    "of a manifest need ids of their own"
                )
            if known is not archive and _worth(archive, video) > _worth(known, before):
                places[video.id] = archive, video
    for archive in archives:
        for row in archive.rows([video for owner, video in places.values() if owner is archive]):
            yield None if row is None else {**row, "archive": str(archive.folder)}


def _worth(archive: Archive, video: Video) -> int:
    row = archive.row_of(video)
    return (None, "failed", "done").index(row and row["status"])


def _videos():
    import pyarrow as pa

    names = ["id", "path", "archive", "status", "error", "duration_s", "truncated_at_s", *_WHOLE[1:]]
    names += ["took_s", "host", "ended", *_TEXTS[6:], "size_bytes", "mtime_ns"]
    kinds = {name: pa.string() for name in (*_TEXTS, "archive")} | {name: pa.int64() for name in (*_WHOLE, "mtime_ns")}
    return pa.schema([(name, kinds.get(name, pa.float64())) for name in names])


def _expressions(labels: Sequence[str]):
    """The columns of `fedn export`'s tables, with the id before them: `fedn_hf.exporters` reads it, too."""
    import pyarrow as pa

    texts = {name: pa.string() for name in ("id", "video", "label", "type")}
    names = ["id", "video", "label", "score", "type", "onset_s", "apex_s", "offset_s", *_EVENT_WHOLE]
    names += [f"score_{label}" for label in labels]
    kinds = texts | {name: pa.int64() for name in _EVENT_WHOLE}
    return pa.schema([(name, kinds.get(name, pa.float64())) for name in names])


def _event(row: dict[str, Any], event: dict[str, Any], labels: Sequence[str]) -> dict[str, Any]:
    scores = {f"score_{label}": event["label_scores"].get(label) for label in labels}
    return {"id": _plain(row["id"]), "video": _plain(row["path"]), **event, **scores}


def _plain(value: Any) -> Any:
    """Names of files need not be text, and tables hold nothing else."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


class _Table:
    """A Parquet file that is written a batch of rows at a time, and is whole or not there."""

    def __init__(self, path: Path, schema):
        self.path, self.schema, self._waiting = path, schema, []

    def __enter__(self) -> "_Table":
        from pyarrow import parquet

        self.path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            unfinished = stack.enter_context(replacing(self.path))
            self._writer = stack.enter_context(parquet.ParquetWriter(unfinished, self.schema, compression="zstd"))
            stack.push(self._write_rest)  # an error in it, too, takes away what is unfinished, and the lock
            self._open = stack.pop_all()
        return self

    def add(self, row: dict[str, Any]) -> None:
        self._waiting.append(row)
        if len(self._waiting) >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        self._writer.write_table(pa.Table.from_pylist(self._waiting, schema=self.schema))
        self._waiting = []

    def _write_rest(self, kind, error, trace) -> None:
        if kind is None:
            self._flush()

    def __exit__(self, kind, error, trace) -> None:
        self._open.__exit__(kind, error, trace)


__all__ = ["write_tables"]
