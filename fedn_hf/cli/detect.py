"""`fedn detect` and `fedn postprocess`: from videos, or from what the network said about them, to expressions."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ..version import __version__
from . import options
from .batch import Results, go_through, source_of
from .inputs import Item, find_raw, find_videos, is_image_folder
from .terminal import (
    SOME_FAILED,
    UsageError,
    clock,
    describe_annotation,
    say,
    say_error,
    show_download_bars_to_people,
)
from .truth import beside, read_truth


def detect(
    videos: Annotated[
        list[str],
        typer.Argument(
            metavar="VIDEO",
            help="Video files, folders of videos, folders of images, globs in quotes; - for a pipe.",
            show_default=False,
        ),
    ],
    model: options.Model = None,
    revision: options.Revision = None,
    device: options.Device = None,
    threads: options.Threads = None,
    batch_size: options.BatchSize = None,
    start: options.Start = None,
    end: options.End = None,
    faces: options.Faces = "largest",
    fps: options.Fps = None,
    allow_url: options.AllowUrl = False,
    sandbox: options.Sandbox = False,
    score_threshold: options.ScoreThreshold = None,
    types: options.Types = None,
    labels: options.Labels = None,
    min_duration: options.MinDuration = None,
    max_duration: options.MaxDuration = None,
    out: options.Out = None,
    formats: options.Formats = None,
    save_raw: options.SaveRaw = False,
    overwrite: options.Overwrite = False,
    skip_existing: options.SkipExisting = False,
    truth: options.Truth = None,
    follow: options.Follow = False,
) -> None:
    """Find the expressions in videos: when each happens, of which type it is, and the label coders would give it.

    \b
    Examples:
      fedn detect interview.mp4
      fedn detect interview.mp4 --start 1:30 --end 2:00 --truth coded.csv
      fedn detect recordings/ --model my-checkpoint -o results/ --save-raw
      fedn detect "data/*/cam1.mp4" -o results/ --format json,eaf,png
      ffmpeg -i rtsp://camera -f mpegts - | fedn detect - --follow
    """
    reading = options.reading_of(faces, start, end, fps)
    settings = options.settings_of(score_threshold, types, labels, min_duration, max_duration)
    items = find_videos(videos, allow_url)
    reading |= {"allow_url": allow_url, "batch_size": batch_size or 1}
    _check_fps(items, fps)
    if skip_existing and out is None:
        raise UsageError("--skip-existing goes with -o, the folder for results; name one")
    if revision is not None and model is None:
        raise UsageError("--revision goes with --model, a name on the Hub; name one")
    marked = None if truth is None else read_truth(truth, items)
    if follow:
        _check_follow(items, {"-o": out, "--truth": truth, "--sandbox": sandbox})
        with _detector(model, revision, device, threads, sandbox, settings) as detect_in:
            _follow(detect_in.func, items[0], {**reading, **settings})
        return
    results = Results.of(out, formats, save_raw, overwrite)
    detector = _detector(model, revision, device, threads, sandbox, settings)
    if model is None:
        _say_which()

    def work(item: Item, hook) -> list:
        source = source_of(item.source)
        results.check_free(item, source)
        if skip_existing and all(path.exists() for path in results.paths(item)):
            return [f"{item.source}: skipped, its results are there"]
        results.check_replaceable(item)
        raw = detect_in(item.source, hook=hook, **reading)
        raw.provenance["source"] = source
        annotation = _finish(item, raw, settings, results)
        said = describe_annotation(annotation)
        return said if marked is None else [*said, *beside(annotation, marked, truth)]

    with detector as detect_in:
        go_through(items, work, results)


def _say_which() -> None:
    from ..pipeline_fedn import DEFAULT_NAME

    say(f"Detector: {DEFAULT_NAME} {__version__}, which comes with the package; --model takes another.")


def postprocess(
    raw: Annotated[
        list[str],
        typer.Argument(
            metavar="RAW",
            help="Files that `fedn detect --save-raw` wrote, folders of them, globs in quotes.",
            show_default=False,
        ),
    ],
    score_threshold: options.ScoreThreshold = None,
    types: options.Types = None,
    labels: options.Labels = None,
    min_duration: options.MinDuration = None,
    max_duration: options.MaxDuration = None,
    out: options.Out = None,
    formats: options.Formats = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Report the expressions in videos that the network has seen before, with other thresholds: it takes no time.

    \b
    Examples:
      fedn postprocess results/interview.raw.safetensors --score-threshold 0.4
      fedn postprocess results/ --type micro --max-duration 0.5 -o micro/
    """
    settings = options.settings_of(score_threshold, types, labels, min_duration, max_duration)
    items = find_raw(raw)
    results = Results.of(out, formats, overwrite=overwrite)

    from ..results_fedn import FednDetections

    def work(item: Item, hook) -> list:
        detections = FednDetections.load(item.source)
        options.check_names(settings, detections.types, detections.labels)
        results.check_free(item, detections.provenance.get("source", detections.video["path"]))
        results.check_replaceable(item)
        return describe_annotation(_finish(item, detections, settings, results))

    go_through(items, work, results)


def _check_follow(items: list[Item], others: dict[str, Any]) -> None:
    if len(items) > 1:
        raise UsageError(f"--follow goes with one video, got {len(items)}")
    if given := [option for option, value in others.items() if value]:
        raise UsageError(f"--follow prints, and does no more; leave {given[0]} out")


def _follow(pipeline, item: Item, settings: dict[str, Any]) -> None:
    """Print the expressions of a video while it comes in."""
    from ..media_fedn import FednError

    say_error(
        f"Expressions are told at most {pipeline.latency_s:.0f} s of video after they, and any they overlap, end."
    )
    try:
        for event in pipeline.stream(item.source, **settings):
            times = "  ".join(clock(event[f"{name}_s"]) for name in ("onset", "apex", "offset"))
            kind = event["type"].removesuffix("-expression")
            say(f"{times}  {kind}  {event['label'] or '-':10}  {event['score']:.3f}  face {event['face_id']}")
    except FednError as error:
        say_error(f"error: {error}")
        raise typer.Exit(SOME_FAILED) from None


def _finish(item: Item, raw, settings: dict[str, Any], results: Results):
    """From what the network said to an `ExpressionAnnotation`, and to files."""
    from ..annotation import ExpressionAnnotation

    annotation = ExpressionAnnotation.from_dict(raw.describe(**settings))
    results.write(item, annotation, raw)
    return annotation


def _check_names(pipeline, settings: dict[str, Any]) -> None:
    config = pipeline.model.config
    known_labels = list(config.id2label.values()) if config.heads == "joint" else []
    options.check_names(settings, config.expression_types, known_labels)


def _check_fps(items: list[Item], fps: float | None) -> None:
    """A rate for pictures that have no times, and none for videos, which have their own: a wrong one moves results."""
    images = [item for item in items if is_image_folder(item)]
    if images and fps is None:
        raise UsageError(f"{images[0].source}: images carry no times; give their frames per second with --fps")
    if fps is not None and not images:
        raise UsageError("--fps is for folders of images; videos carry their own times, so leave it out")


def _detector(
    model: str | None,
    revision: str | None,
    device: str | None,
    threads: int | None,
    sandbox: bool,
    settings: dict[str, Any],
) -> AbstractContextManager[Callable]:
    """What takes a video and gives `FednDetections`, in this process or in one of its own."""
    if sandbox:
        from ..media_fedn import FednError
        from ..sandbox import Sandbox

        try:
            detector = Sandbox(model, revision=revision, device=device, threads=threads)
        except FednError as error:
            raise UsageError(str(error)) from error
        options.check_names(settings, detector.types, detector.labels)
        return detector
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    pipeline = _load(model, revision, device)
    _check_names(pipeline, settings)
    return nullcontext(partial(pipeline, return_raw=True))


def _load(model: str | Path | None, revision: str | None, device: str | None):
    """The pipeline of a checkpoint, with nothing said but errors."""
    import logging

    import transformers

    from ..loading import load_pipeline
    from ..media_fedn import FednError
    from ..sandbox import give_memory_back

    give_memory_back()
    # What matters of it is said under each table, and in the error.
    transformers.utils.logging.disable_progress_bar()  # of loading weights, and with it of downloads
    show_download_bars_to_people()
    for library in ("fedn_hf", "huggingface_hub", "transformers"):
        logging.getLogger(library).setLevel(logging.ERROR)
    try:
        return load_pipeline(model, revision=revision, device=device)
    except (FednError, ValueError) as error:
        raise UsageError(str(error)) from error


__all__ = ["detect", "postprocess"]
