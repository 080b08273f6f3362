"""`fedn archive`: thousands of videos, on this machine or a cluster, killed and gone on with as often as needed."""

import os
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ..version import __version__
from . import options
from .batch import Results
from .inputs import find_videos
from .terminal import SOME_FAILED, UsageError, say, say_error, show_download_bars_to_people, table
from .written import check_folder

_SHOWN_FAILURES = 20


class _RunByDefault(TyperGroup):
    """What follows is the name of a command, or else what `run` takes."""

    def parse_args(self, ctx, args):
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["run", *args]
        return super().parse_args(ctx, args)


archive = typer.Typer(cls=_RunByDefault, no_args_is_help=True)


@archive.callback()
def _describe() -> None:
    """Find the expressions in thousands of videos; killed, the same command goes on.

    What is no command goes to `run`: `fedn archive run --help` has all options.

    \b
    Examples:
      fedn archive recordings/ -o found/
      fedn archive study.csv -o found/ --engine ray --workers 64
      fedn archive status found/
      fedn archive merge part1/ part2/ -o found/
    """


@archive.command()
def run(
    videos: Annotated[
        list[str],
        typer.Argument(
            metavar="MANIFEST|FOLDER",
            help="A list of videos (csv, tsv, parquet, jsonl) with the columns path and, if known, id and duration_s; "
            "or folders and files.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="FOLDER", help="New, or of a run that was stopped.")
    ],
    engine: Annotated[
        str, typer.Option(metavar="processes|ray", help="This machine, or the cluster of RAY_ADDRESS.")
    ] = "processes",
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Videos at a time; one for each CPU core if not given.")
    ] = None,
    gpus_per_worker: Annotated[
        float, typer.Option(min=0, metavar="PART", help="Of a GPU for each worker, with --engine ray.")
    ] = 0.0,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="Only part I of N, for machines that share nothing.")
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Also do those again that have failed.")
    ] = False,
    model: options.Model = None,
    revision: options.Revision = None,
    device: options.Device = None,
    batch_size: options.BatchSize = None,
    faces: options.Faces = "largest",
    score_threshold: options.ScoreThreshold = None,
    types: options.Types = None,
    labels: options.Labels = None,
    min_duration: options.MinDuration = None,
    max_duration: options.MaxDuration = None,
    formats: options.Formats = None,
    save_raw: options.SaveRaw = False,
    sandbox: Annotated[
        bool,
        typer.Option(
            "--sandbox/--no-sandbox",
            help="Whether each worker reads videos in a process of its own, with limits of memory and time: what a "
            "decoder breaks is one video then.",
        ),
    ] = True,
) -> None:  # fmt: skip
    """Find the expressions in all videos of a list or a folder.

    Every video gets a row in FOLDER/videos.parquet, also one that fails; the expressions of all are in
    FOLDER/expressions.parquet, and the files of each in FOLDER/videos/.
    """
    reading = {"faces": options.reading_of(faces, None, None, None)["faces"]}
    settings = options.settings_of(score_threshold, types, labels, min_duration, max_duration)
    if engine not in ("processes", "ray"):
        raise UsageError(f'--engine takes processes or ray, not "{engine}"')
    if gpus_per_worker and engine != "ray":
        raise UsageError("--gpus-per-worker goes with --engine ray; processes share what GPUs there are by themselves")
    if revision is not None and model is None:
        raise UsageError("--revision goes with --model, a name on the Hub; name one")
    part = _shard_of(shard)
    check_folder(out)

    from ..archive import Archive, Job, Worker, find_durations, longest_first, shard_of, write_tables
    from ..archive.processes import usable_cpus
    from ..media_fedn import FednError

    try:
        wanted = shard_of(_videos(videos), *part)
        store = Archive(out.absolute())
        with store.locked():
            wanted = find_durations(wanted, store.plan(), workers or usable_cpus())
            if wanted and all(video.size_bytes is None for video in wanted):
                raise UsageError(f"{wanted[0].path}: no such file, nor any other of the list; is its folder mounted?")
            files = Results.of(store.folder / "videos", formats, save_raw)
            files = replace(files, remembers=False)  # what is done is never done again
            facts, known = _network(model, revision, settings)
            made = {"reading": reading, "settings": settings, "formats": files.formats, "raw": save_raw}
            store.settle({**facts, **made})
            store.keep_plan(wanted)
            job = Job(
                str(store.folder), uuid.uuid4().hex, files, model, known, device,
                {**reading, "batch_size": batch_size or 1}, settings, sandbox,
            )  # fmt: skip
            ended = _ended(store, wanted, retry_failed)
            if waiting := longest_first([video for video in wanted if video.id not in ended]):
                with closing(_rows(engine, waiting, partial(Worker, job), workers, gpus_per_worker)) as rows:
                    _follow(rows, wanted, ended)
            result = write_tables([store], store.folder)
    except FednError as error:
        raise UsageError(str(error)) from error
    _report(out, *result)


def _ended(store: Any, wanted: list, retry_failed: bool) -> dict[str, str]:
    """Id of each video that is not to be done any more -> how it ended."""
    ended = {video.id: row["status"] for video, row in zip(wanted, store.rows(wanted), strict=True) if row}
    if retry_failed:
        for video in [video for video in wanted if ended.get(video.id) == "failed"]:
            store.forget(video)
            del ended[video.id]
    return ended


@archive.command()
def status(
    out: Annotated[Path, typer.Argument(metavar="FOLDER", help="That -o named.", show_default=False)],
) -> None:
    """Say how far an archive is, and what failed in it and why."""
    from ..archive import Archive
    from ..media_fedn import FednError

    store = Archive(out)
    try:
        store.facts()
        is_running, plan = store.is_locked(), store.plan()
    except FednError as error:
        raise UsageError(str(error)) from error
    states, hours, failures = Counter(), Counter(), []
    for video, row in zip(plan, store.rows(plan), strict=True):
        state = row and row["status"]
        states[state] += 1
        hours[state] += (video.duration_s or 0) / 3600
        failures += [(video.path, row["error"])] if state == "failed" else []
    rows = table("", ">videos", ">hours")
    for name, state in (("done", "done"), ("failed", "failed"), ("to do", None)):
        rows.add_row(name, f"{states[state]:,}", f"{hours[state]:,.1f}")
    say(f"{out}: {'running' if is_running else 'not running'}", rows)
    _list(failures)


@archive.command()
def merge(
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER...", help="Archives, such as parts of one.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FOLDER", help="Where the tables go.")],
) -> None:
    """Make one table of all videos and one of all expressions of several archives, finished or not."""
    check_folder(out)
    from ..archive import Archive, write_tables
    from ..media_fedn import FednError

    try:
        result = write_tables([Archive(folder) for folder in folders], out)
    except FednError as error:
        raise UsageError(str(error)) from error
    _report(out, *result)


def _videos(arguments: list[str]) -> list:
    """From a manifest, or from folders and files, named as `fedn detect` names its results."""
    from ..archive.videos import MANIFEST_SUFFIXES, Video, check_distinct, check_id, read_manifest

    if len(arguments) == 1 and arguments[0].lower().endswith(MANIFEST_SUFFIXES):
        return read_manifest(arguments[0])
    items = find_videos(arguments, allow_url=False)
    videos = [Video(Path(item.name).as_posix().lstrip("/"), os.path.abspath(item.source)) for item in items]
    for video in videos:
        check_id(video.id)
    check_distinct(videos, [item.source for item in items])
    return videos


def _shard_of(text: str | None) -> tuple[int, int]:
    index, _, count = (text or "1/1").partition("/")
    if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise UsageError(f'--shard takes a part and the number of parts, such as 3/16, not "{text}"')
    return int(index), int(count)


def _network(model: str | None, revision: str | None, settings: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
    """
    Load the network once here, so that what is wrong with it is said before a hundred machines find out.

    Returns:
        What decides about results, and the revision for the workers: a branch may move while they load.
    """
    import hashlib

    import torch

    from .detect import _check_names, _load

    show_download_bars_to_people()
    pipeline = _load(model, revision, "cpu")
    _check_names(pipeline, settings)
    config, weights = pipeline.model.config, hashlib.sha256()
    for name, tensor in sorted(pipeline.model.state_dict().items()):
        weights.update(name.encode() + tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    facts = {
        "fedn_hf": __version__,
        "weights": weights.hexdigest(),
        "labels": list(config.id2label.values()) if config.heads == "joint" else [],
        "score_threshold": config.score_threshold,
    }
    return facts, revision if revision is None else getattr(config, "_commit_hash", None) or revision


def _rows(
    engine: str, waiting: Sequence, make: Callable, workers: int | None, gpus_per_worker: float
) -> Iterator[dict[str, Any]]:
    if engine == "ray":
        from ..archive.on_ray import run_on_ray

        yield from run_on_ray(waiting, make, workers, gpus_per_worker)
        return
    from ..archive.processes import Processes, hand_out, usable_cpus

    with Processes(make, min(workers or usable_cpus(), len(waiting))) as crew:
        yield from hand_out(waiting, crew)


def _follow(rows: Iterator[dict[str, Any]], wanted: Sequence, ended: dict[str, str]) -> None:
    """Show how far it is, in hours of video, until all rows have come or somebody stops it."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    hours = {video.id: (video.duration_s or 0) / 3600 for video in wanted}
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    failures = sum(status == "failed" for status in ended.values())
    try:
        with Progress(*columns, console=console, transient=True, disable=not console.file.isatty()) as bar:
            task = bar.add_task("", total=sum(hours.values()) or 1)
            bar.update(task, completed=sum(hours[name] for name in ended))
            for row in rows:
                ended[row["id"]] = row["status"]
                failures += row["status"] == "failed"
                text = f"{len(ended):,} of {len(wanted):,} videos" + (f", {failures:,} failed" if failures else "")
                bar.update(task, advance=hours[row["id"]], description=text)
    except KeyboardInterrupt:
        say_error(f"{len(ended):,} of {len(wanted):,} videos are through; the same command goes on")
        raise


def _report(out: Path, done: int, failures: list[tuple[str, str]], left: int) -> None:
    count, rest = done + len(failures) + left, f", {left:,} not done yet" if left else ""
    say(f"{done:,} of {count:,} videos done{rest}; tables are {out}/videos.parquet and expressions.parquet.")
    if failures:
        say_error(f"{len(failures):,} of {count:,} failed:")
        _list(failures)
        raise typer.Exit(SOME_FAILED)


def _list(failures: list[tuple[str, str]]) -> None:
    for path, reason in failures[:_SHOWN_FAILURES]:
        say_error(f"  {path}: {reason}")
    if len(failures) > _SHOWN_FAILURES:
        say_error(f"  and {len(failures) - _SHOWN_FAILURES:,} more; videos.parquet has them all")


__all__ = ["archive", "merge", "run", "status"]
