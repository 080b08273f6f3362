"""A licensed corpus on disk becomes a VideoFolder or Parquet files that plain `load_dataset` reads.

    python -m dataset_scripts.convert --corpus casme_2 --input CASME_sq --output casme2 --to videofolder --encode ffv1

    casme2/
      README.md                 the card: licence, counts, splits by subject, quirks, prohibited uses
      conversion_log.json       every quirk that was met
      metadata.jsonl            one row per video            (videofolder)
      data/s15/s15_0101.mkv     one file per video; .parquet files hold video and row (parquet)
      .convert/                 what was done, to go on after a stop and to verify

Every file is written under another name, synced to the disk and then renamed, so there is never half of one. A
conversion that was stopped, however hard, goes on where it was when it is started again, and ends as if it had not
been stopped. `verify` reads everything again and compares frame counts and hashes.
"""

import argparse
import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

from fedn_hf.files_fedn import file_sha256

from . import casme_2, casme_3, folder_csv, samm_lv
from .cards import make_card
from .corpus import Clip, CorpusBuilder, Licence, frame_paths, natural_key, schema
from .encode import ENCODERS, LOSSLESS, suffix, summary, write_video
from .labels import SCHEMES
from .quirks import CorpusError

CORPORA: dict[str, type[CorpusBuilder]] = {
    "casme_2": casme_2.CasMe2,
    "casme_3": casme_3.CasMe3,
    "folder_csv": folder_csv.FolderCsv,
    "samm_lv": samm_lv.SammLv,
}
TARGETS = ("videofolder", "parquet")
_HIDDEN = ".convert"  # `datasets` leaves names with a dot alone
PARQUET_LIMIT_BYTES = 2**31 - 1  # of one value in a column of bytes


def prepare(
    corpus: str,
    source: str | Path,
    output: str | Path,
    *,
    config: str | None = None,
    to: str = "videofolder",
    encode: str = "h264",
    size: int | None = None,
    scheme: str = "objective_4",
    rules: Mapping[str, str] | None = None,
    workers: int = 1,
    verify: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
    **options,
) -> dict[str, dict]:
    """
    Convert a corpus.

    Args:
        corpus: one of `CORPORA`.
        source: the corpus as it was unpacked.
        output: folder for the result, new or of the same conversion that was stopped; not inside `source`.
        config: configuration of the builder, such as "cropped"; None for its default.
        to: "videofolder" or "parquet".
        encode: "h264" (small), "ffv1" (lossless) or "copy" (lossless, JPEG images and video files only).
        size: pixels of the shorter side, or None to leave it; not with "copy".
        scheme, rules: label scheme, and choices for quirks.
        workers: videos that are written at once.
        verify: read everything again afterwards.
        progress: called with (done, total, video_id) after every video.
        options: of the builder's configuration, such as `sheet_version="v1"`.

    Returns:
        The log of quirks: rule -> quirk, choice, count, cases. It is in `conversion_log.json` as well.

    Raises:
        CorpusError: not the corpus, other settings than the conversion in `output` began with, a frame that does not
            open, a disk that cannot be written, or something that verifying found.

    Example:
        >>> log = prepare("samm_lv", "SAMM_LV", "samm", encode="ffv1", workers=2)  # doctest: +SKIP
    """
    source, output = Path(source), Path(output)
    _check_corpus(corpus, config, options)
    _check_target(source, output, to, encode, size)
    builder = CORPORA[corpus](config, data_dir=str(source), scheme=scheme, rules=dict(rules or {}), **options)
    clips = list(builder.clips())
    frames = builder.config.name if len({c.frames for c in builder.BUILDER_CONFIGS}) == 1 else builder.config.frames
    settings = {"corpus": corpus, "frames": frames, "to": to, "encode": encode, "size": size, "scheme": scheme}
    settings |= {"options": options, "rules": builder.quirks.choices}
    log = builder.quirks.log()
    try:
        with _alone(output):
            _begin(output, settings)
            _write_all(clips, output, settings, workers, progress)
            _finish(output, settings, builder.licence, clips, log)
    except OSError as error:  # a full disk, a folder that may not be written, a video that has gone meanwhile
        raise CorpusError(f"{output}: stopped ({error}); mend that and run the same command again") from error
    if verify and (problems := find_problems(output)):
        cure = "delete their files and run the same command again"
        raise CorpusError("\n".join([f"{output}: {len(problems)} videos are not as written; {cure}", *problems]))
    return log


def find_problems(output: str | Path) -> list[str]:
    """
    Read a finished conversion again: every file is there and has the hash it had, every video the frame count of its
    row, and lossless ones the very pixels that went in.

    Returns:
        What is wrong, one line each; [] where nothing is.
    """
    output, problems = Path(output), []
    settings, _ = read_settings(output)
    for path in sorted((output / _HIDDEN).glob("video-*.json"), key=lambda path: natural_key(path.name)):
        done = _record(path)
        file = output / done["file"]
        if not file.exists():
            problems.append(f"{done['file']}: is missing")
        elif file_sha256(file) != done["sha256"]:
            problems.append(f"{done['file']}: has changed since it was written")
        else:
            try:
                found = _summary(file, settings, output / _HIDDEN)
            except ValueError as error:  # Parquet's errors are; the settings are not of this file
                raise CorpusError(f"{file}: cannot be read as {settings['to']} ({error})") from error
            expected = (done["num_frames"], done["frames_sha256"])
            if (found.num_frames, found.frames_sha256) != expected:
                problems.append(f"{done['file']}: expected {expected[0]} frames, found {found.num_frames}, or others")
    return problems


def read_settings(output: Path) -> tuple[dict, Licence]:
    """
    Settings of a conversion, and the licence of its corpus.

    Raises:
        CorpusError: no conversion lies there.
    """
    path = output / _HIDDEN / "settings.json"
    if not path.exists():
        raise CorpusError(f"{output}: no conversion lies here; make one with python -m dataset_scripts.convert")
    settings = _read_json(path, {"corpus": str, "to": str, "encode": str})
    if settings["corpus"] not in CORPORA:
        raise CorpusError(f"{path}: of a corpus that there is not; it is damaged, convert into another folder")
    return settings, CORPORA[settings["corpus"]].licence


def _record(path: Path) -> dict:
    """What is known of a video that was written."""
    names = {"identity": str, "file": str, "sha256": str, "num_frames": int, "bytes": int}
    return _read_json(path, {**names, "frames_sha256": str | None})


def _read_json(path: Path, names: dict[str, type]) -> dict:
    try:
        found = json.loads(path.read_text("utf-8"))
        if all(isinstance(found[name], kind) for name, kind in names.items()):
            return found
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise CorpusError(f"{path}: is damaged; delete it and run the same command again")


# ---------------------------------------------------------------------------------------------------------------------


@contextmanager
def _alone(output: Path) -> Iterator[None]:
    """Two conversions into one folder would write over each other. The lock ends with the process, however it ends."""
    if output.exists() and not (output / _HIDDEN).exists() and any(output.iterdir()):
        raise CorpusError(f"{output}: is not empty, and no conversion lies there; choose another folder")
    (output / _HIDDEN).mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    with open(output / _HIDDEN / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CorpusError(f"{output}: another conversion is writing there; wait for its end") from error
        yield


def _check_corpus(corpus: str, config: str | None, options: dict) -> None:
    if corpus not in CORPORA:
        raise CorpusError(f"corpus {corpus!r} was given, expected {' or '.join(CORPORA)}")
    configs = [known.name for known in CORPORA[corpus].BUILDER_CONFIGS]
    if config not in (None, *configs):
        raise CorpusError(f"config {config!r} was given, {corpus} has {' and '.join(configs)}")
    if unknown := set(options) - {option.name for option in fields(CORPORA[corpus].BUILDER_CONFIG_CLASS)}:
        raise CorpusError(f"{corpus} has no option {', '.join(sorted(unknown))}")


def _check_target(source: Path, output: Path, to: str, encode: str, size: int | None) -> None:
    if to not in TARGETS or encode not in ENCODERS:
        raise CorpusError(f"to={to!r}, encode={encode!r} was given, expected one of {TARGETS} and of {(*ENCODERS,)}")
    if size is not None and (encode == "copy" or size < 2):
        raise CorpusError(f"size={size} with encode={encode!r}: a size is at least 2, and copies keep theirs")
    if output.resolve().is_relative_to(source.resolve()):
        raise CorpusError(f"{output} lies inside the corpus {source}; choose a folder outside of it")


def _begin(output: Path, settings: dict) -> None:
    hidden = output / _HIDDEN
    if (hidden / "settings.json").exists():
        before, _ = read_settings(output)
        if before != settings:
            changed = [name for name in settings if before.get(name) != settings[name]]
            raise CorpusError(f"{output}: was begun with other {', '.join(changed)}; choose another folder")
    for left in hidden.glob("partial-*"):
        left.unlink()
    _write_text(hidden / "settings.json", json.dumps(settings, indent=1))


def _write_all(clips: list[Clip], output: Path, settings: dict, workers: int, progress) -> None:
    """PyAV leaves Python alone while it works, so threads are enough. The first error stops what has not begun."""
    if len({slug(clip.video_id).lower() for clip in clips}) < len(clips):
        raise CorpusError("two videos would be written to one file: their names must differ in letters and digits")
    with ThreadPoolExecutor(max(1, workers)) as pool:
        jobs = [pool.submit(_write_one, clip, output, settings) for clip in clips]
        try:
            for count, (clip, job) in enumerate(zip(clips, jobs, strict=True), start=1):
                job.result()
                if progress:
                    progress(count, len(clips), clip.video_id)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _write_one(clip: Clip, output: Path, settings: dict) -> None:
    images = frame_paths(clip.row()["video"])
    is_parquet = settings["to"] == "parquet"
    ending = suffix(clip.source, images, settings["encode"])
    file = Path("data", slug(clip.subject_id), slug(clip.video_id) + (".parquet" if is_parquet else ending))
    record = output / _HIDDEN / f"video-{slug(clip.video_id)}.json"
    identity = _identity(clip, images, is_parquet)
    if _is_done(record, output, identity):
        return
    partial = output / _HIDDEN / f"partial-{slug(clip.video_id)}{ending}"
    written = write_video(clip.source, images, partial, clip.fps, settings["encode"], settings["size"])
    if written.num_frames != clip.num_frames:
        raise CorpusError(f"{clip.source}: expected {clip.num_frames} frames, {written.num_frames} could be read")
    if is_parquet:
        partial = _to_parquet(clip, partial, settings["scheme"])
    done = {"identity": identity, "file": file.as_posix(), "sha256": file_sha256(partial), **written._asdict()}
    done["bytes"] = partial.stat().st_size
    (output / file).parent.mkdir(parents=True, exist_ok=True)
    _sync_and_rename(partial, output / file)
    _write_text(record, json.dumps(done))


def _identity(clip: Clip, images: list[Path] | None, with_row: bool) -> str:
    """What a file was made of: it is made again when that has changed."""
    paths = [clip.source] if images is None else images
    stats = [(path.name, stat.st_size, stat.st_mtime_ns) for path in paths for stat in (path.stat(),)]
    made_of = [stats, clip.fps, clip.facts() if with_row else None]
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()


def _is_done(record: Path, output: Path, identity: str) -> bool:
    if not record.exists():
        return False
    done = _record(record)
    file = output / done["file"]
    return done["identity"] == identity and file.exists() and file.stat().st_size == done["bytes"]


def _to_parquet(clip: Clip, video: Path, scheme: str) -> Path:
    """The row with the video in it, as `load_dataset("parquet")` reads it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if video.stat().st_size > PARQUET_LIMIT_BYTES:
        raise CorpusError(f"{clip.video_id}: over 2 GB as one value; use --to videofolder, or encode h264 or a size")
    features = schema(scheme)
    row = {"video": {"path": slug(clip.video_id) + video.suffix, "bytes": video.read_bytes()}, **clip.facts()}
    table = pa.Table.from_pylist([features.encode_example(row)], schema=features.arrow_schema)
    path = video.with_suffix(".parquet")
    pq.write_table(table, path, compression="none")  # videos are compressed already
    video.unlink()
    return path


def _summary(file: Path, settings: dict, folder: Path):
    hashed = settings["encode"] in LOSSLESS
    if settings["to"] == "videofolder":
        return summary(file, hashed)
    import pyarrow.parquet as pq

    video = pq.read_table(file, columns=["video"])["video"][0].as_py()
    partial = folder / f"partial-verify-{video['path']}"
    partial.write_bytes(video["bytes"])
    try:
        return summary(partial, hashed)
    finally:
        partial.unlink()


def _finish(output: Path, settings: dict, licence: Licence, clips: list[Clip], log: dict[str, dict]) -> None:
    rows = [clip.facts() for clip in clips]
    files = {}
    for clip in clips:
        record = output / _HIDDEN / f"video-{slug(clip.video_id)}.json"
        files[clip.video_id] = _record(record)["file"]
    known = {record.stem for record in (output / _HIDDEN).glob("video-*.json")}
    for stem in known - {f"video-{slug(clip.video_id)}" for clip in clips}:  # a video the corpus no longer has
        record = output / _HIDDEN / f"{stem}.json"
        (output / _record(record)["file"]).unlink(missing_ok=True)
        record.unlink()
    if settings["to"] == "videofolder":
        lines = [json.dumps({"file_name": files[row["video_id"]], **row}, ensure_ascii=False) for row in rows]
        _write_text(output / "metadata.jsonl", "\n".join(lines) + "\n")
    _write_text(output / "conversion_log.json", json.dumps({"settings": settings, "quirks": log}, indent=1))
    _write_text(output / "README.md", make_card(settings, licence, rows, log))


def slug(name: str) -> str:
    """A name that any file system takes."""
    return re.sub(r"[^\w.-]+", "_", name)


def _write_text(path: Path, content: str) -> None:
    partial = path.parent / f"partial-{path.name}" if path.parent.name == _HIDDEN else None
    partial = partial or path.parent / _HIDDEN / f"partial-{path.name}"
    try:
        partial.write_text(content, "utf-8")
    except OSError as error:
        error.filename = error.filename or str(path)  # which a full disk does not say
        raise
    _sync_and_rename(partial, path)


def _sync_and_rename(partial: Path, path: Path) -> None:
    """After a power cut there is the old file or the whole new one."""
    with open(partial, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(partial, path)
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _rule(words: str) -> tuple[str, str]:
    name, _, choice = words.partition("=")
    return name, choice


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m dataset_scripts.convert", description=__doc__.split("\n")[0])
    parser.add_argument("--corpus", required=True, choices=CORPORA)
    parser.add_argument("--input", required=True, help="the corpus as it was unpacked")
    parser.add_argument("--output", required=True, help="a new folder, or one of a conversion that was stopped")
    parser.add_argument("--part", dest="config", help="of the corpus: cropped, raw, selected, part_a or part_c")
    parser.add_argument("--to", default="videofolder", choices=TARGETS)
    parser.add_argument("--encode", default="h264", choices=ENCODERS, help="ffv1 and copy are lossless")
    parser.add_argument("--size", type=int, help="pixels of the shorter side")
    parser.add_argument("--scheme", default="objective_4", choices=SCHEMES)
    parser.add_argument("--rule", action="append", default=[], type=_rule, metavar="NAME=CHOICE")
    parser.add_argument("--fps", type=float, help="of the folders of images of folder_csv")
    parser.add_argument("--first-frame", type=int, help="number of the first frame in the table of folder_csv: 0 or 1")
    parser.add_argument("--sheet-version", help="of part A of casme_3: v2 or v1")
    parser.add_argument("--workers", type=int, default=1, help="videos at once")
    parser.add_argument("--verify", action="store_true", help="read everything again and compare")
    given = vars(parser.parse_args(arguments))
    given["source"], given["rules"] = given.pop("input"), dict(given.pop("rule"))
    options = {name: given.pop(name) for name in ("fps", "first_frame", "sheet_version")}
    given |= {name: value for name, value in options.items() if value is not None}
    show = sys.stderr.isatty()
    try:
        log = prepare(**given, progress=lambda n, total, name: show and print(f"{n}/{total} {name}", file=sys.stderr))
    except CorpusError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(format_log(log))
    return 0


def format_log(log: Mapping[str, dict]) -> str:
    """The log of quirks as lines of text: count, rule, choice, quirk."""
    lines = [f"{entry['count']:6d}  {name} -> {entry['choice']}: {entry['quirk']}" for name, entry in log.items()]
    return "\n".join(lines) or "no quirks met"


__all__ = ["CORPORA", "find_problems", "format_log", "main", "prepare", "read_settings"]

if __name__ == "__main__":
    sys.exit(main())
