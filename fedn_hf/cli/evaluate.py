"""`fedn evaluate` and `fedn agreement`: detections against what coders marked, and two codings against each other."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from . import options
from .inputs import check_there
from .terminal import UsageError, say, say_error, table


class Format(StrEnum):
    """How results are printed."""

    table = "table"
    json = "json"
    markdown = "markdown"


class Selection(StrEnum):
    """Who chose epoch and threshold."""

    nested = "nested"
    fixed = "fixed"
    pooled_oracle = "pooled_oracle"
    subject_oracle = "subject_oracle"


_COUNTED = ("TP", "found", "events", "precision", "recall", "F1")
_Fps = Annotated[float | None, typer.Option(metavar="RATE", help=options.FPS)]
_Videos = Annotated[
    Path | None,
    typer.Option(
        "--video-list",
        metavar="CSV",
        help="All videos, also those without events, with the columns video, subject and num_frames.",
    ),
]
_Format = Annotated[Format, typer.Option("--format", help="How to print the result.")]


def evaluate(
    predictions: Annotated[
        Path, typer.Argument(metavar="FOUND", help="What was found: a table, an annotation, or a folder of them.")
    ],
    ground_truth: Annotated[
        Path, typer.Argument(metavar="MARKED", help="What was marked: as the same, or in ELAN, Praat or BORIS.")
    ],
    protocol: options.Protocol = "strict",
    selection: Annotated[
        Selection | None,
        typer.Option(help="Choose the epoch, or without epochs the threshold, on raw detections; all ways are shown."),
    ] = None,
    output: _Format = Format.table,
    videos: _Videos = None,
    fps: _Fps = None,
    mapping: options.Mapping = None,
    show_protocol: Annotated[bool, typer.Option("--show-protocol", help="Show every rule of the protocol.")] = False,
) -> None:
    """Score detections against ground truth.

    Spotting; average precision where there are scores, recognition where there are emotions; 95 % intervals over
    subjects. Frames of both must count from the same number.

    \b
    Examples:
      fedn evaluate found.csv marked.csv --fps 30 --format json
      fedn evaluate raw.csv marked.csv --selection nested
      fedn evaluate results/ elan/ --mapping codes.yaml
    """
    rules = _rules(protocol)
    codings, listed = _read([predictions, ground_truth], fps, mapping), _read_videos(videos, fps)
    found, marked = codings.tables
    found = _with_types(found, rules)
    if selection is None:
        results = _score(found, marked, rules, listed)
    else:
        results = _select(found, marked, rules, listed, selection.value)
    _print({"protocol": rules, **results} if show_protocol else results, output)


def agreement(
    first: Annotated[
        Path,
        typer.Argument(
            metavar="A", help="A coding: a table, an annotation, an ELAN, Praat or BORIS file, or a folder."
        ),
    ],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another coding of the same videos.")],
    protocol: options.Protocol = "strict",
    output: _Format = Format.table,
    videos: _Videos = None,
    fps: _Fps = None,
    mapping: options.Mapping = None,
    bin_frames: Annotated[int, typer.Option(min=1, help="Frames of a time bin of Cohen's kappa.")] = 1,
) -> None:
    """Say how far two codings of the same videos agree on when expressions are, and of which type.

    Emotions are not compared: fedn evaluate does that. F1 of events, Cohen's kappa on time bins, ICC of the counts per
    video. Frame rates and lengths that a coder's file does not say are taken from the other.

    \b
    Examples:
      fedn agreement coder1.csv coder2.csv --video-list videos.csv
      fedn agreement coder.eaf results/interview.json --mapping codes.yaml
    """
    from ..metrics import agreement as agree

    rules = _rules(protocol)
    codings = _read([first, second], fps, mapping)
    tables = [_with_types(table, rules) for table in codings.tables]
    listed = codings.videos if videos is None else _read_videos(videos, fps)
    result = agree(*tables, rules, listed, bin_frames=bin_frames)
    _print({"agreement": result}, output)


def _rules(protocol: str):
    from ..media_fedn import FednError
    from ..metrics import get_protocol

    try:
        return get_protocol(protocol)
    except FednError as error:
        raise UsageError(str(error)) from None


def _read(paths: list[Path], fps: float | None, mapping: Path | None):
    options.check_fps(fps)
    check_there(*paths)
    from ..metrics import read_codings

    codings = read_codings(paths, fps, options.mapping_of(mapping))
    for note in codings.notes:
        say_error(note)
    return codings


def _read_videos(path: Path | None, fps: float | None):
    from ..metrics import Videos

    check_there(*([] if path is None else [path]))
    return None if path is None else Videos.from_csv(path, fps=fps)


def _with_types(found, rules):
    """Types by duration where a detector or coder gives none and the rules need them."""
    if rules.class_rule != "type" or all(name is not None for name in found.type):
        return found
    say_error("note: expressions without a type are micro up to 0.5 s, else macro")
    return found.with_types_by_duration()


def _score(found, marked, rules, listed) -> dict[str, Any]:
    from ..metrics import bootstrap, detection, spotting, strs

    results: dict[str, Any] = {"spotting": spotting(found, marked, rules, listed)}
    emotions = [[name is not None for name in table.label] for table in (found, marked)]
    if all(map(any, emotions)):
        scores = strs(found, marked, rules, listed)
        results |= {"spot, then recognize": scores, "recognition": scores.recognition}
    # Every prediction needs the classes that any event has.
    columns = [(table.type, table.label) for table in (found, marked)]
    comparable = all(None not in mine or not any(theirs) for mine, theirs in zip(*columns, strict=True))
    if found.score is not None and comparable:
        results["detection"] = detection(found, marked, rules, listed)
    if len(results["spotting"].subjects) > 1:
        drawn = [bootstrap(result) for result in results.values() if hasattr(result, "resample")]
        results["intervals"] = {name: interval for intervals in drawn for name, interval in intervals.items()}
    return results


def _select(found, marked, rules, listed, selection: str) -> dict[str, Any]:
    import dataclasses

    import numpy as np

    from ..metrics import select

    thresholds = None
    if found.epoch is None and found.score is not None:
        # 20 candidates that keep from all predictions down to a twentieth of them.
        thresholds = np.quantile(found.score, np.arange(20) / 20).tolist()
    rules = dataclasses.replace(rules, selection=selection)
    report = select(found, marked, rules, listed, score_thresholds=thresholds)
    return {"selection": report}


def _print(results: dict[str, Any], output: Format) -> None:
    if output is Format.json:
        print(json.dumps({name: _plain(result) for name, result in results.items()}, indent=1))
        return
    for name, result in results.items():
        header, rows = _as_rows(result)
        if hasattr(result, "protocol"):  # no number without the rules that it was made under
            name = f"{name} under {result.protocol.title}"
        if output is Format.markdown:
            lines = [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]
            print("\n".join([f"### {name}", "", *lines, ""]))
            continue
        shown = table(*(f">{column}" if place else column for place, column in enumerate(header)))
        for row in rows:
            shown.add_row(*row)
        say(name, shown, "")


def _as_rows(result: Any) -> tuple[list[str], list[list[str]]]:
    """Column names and cells; the first column says what a row is about."""
    from .. import metrics

    if isinstance(result, metrics.Protocol):
        return ["switch", "value"], [[name, str(value)] for name, value in result.to_dict().items()]
    if isinstance(result, metrics.SelectionReport):
        return _selection_rows(result)
    if isinstance(result, metrics.SpottingResult):
        return ["type", *_COUNTED], _spotting_rows(result)
    if isinstance(result, metrics.AgreementResult):
        more = (
            [_number(values[row[0]]) for values in (result.kappa, result.icc)] for row in _spotting_rows(result.events)
        )
        rows = [[*row, *cells] for row, cells in zip(_spotting_rows(result.events), more, strict=True)]
        return ["type", "matched", "A", "B", "precision", "recall", "F1", "kappa", "ICC"], rows
    if isinstance(result, metrics.DetectionResult):
        found = {f"{kind}: {name}": row for kind in ("emotions", "types") for name, row in _precisions(result, kind)}
        ious = [str(iou) for iou in metrics.ACTIVITYNET_IOUS]
        return ["average precision", *ious, "0.3:0.7", "0.5:0.95"], [[k, *v] for k, v in found.items()]
    if isinstance(result, metrics.RecognitionResult):
        rows = [[name, *map(str, row)] for name, row in zip(result.classes, result.confusion, strict=True)]
        return ["marked \\ predicted", *result.classes], rows
    if isinstance(result, metrics.StrsResult):
        numbers = {"STRS": result.strs, "F1 spotting": result.f1_spotting, "F1 analysis": result.f1_analysis}
        scores = ("accuracy", "uf1", "uar", "macro_precision", "macro_recall")
        numbers |= {name: getattr(result.recognition, name) for name in scores}
        return ["score", "value"], [[name, _number(value)] for name, value in numbers.items()]
    rows = [[name, *map(_number, interval)] for name, interval in result.items()]
    return ["95 % over subjects", "value", "from", "to"], rows


def _spotting_rows(result) -> list[list[str]]:
    rows = []
    for name, counts in {**result.per_type, "overall": result.overall}.items():
        ratios = [_number(result.pooled[name][ratio]) for ratio in ("precision", "recall", "f1")]
        numbers = (counts.true_positives, counts.predictions, counts.events)
        rows.append([name, *map(str, numbers), *ratios])
    return rows


def _selection_rows(report) -> tuple[list[str], list[list[str]]]:
    rows = []
    for chosen in report.results:
        overall = _spotting_rows(chosen.result)[-1][1:]
        kinds = ", ".join(f"{name} {_number(chosen.result.pooled[name]['f1'])}" for name in chosen.result.per_type)
        rows.append([f"{chosen.rules}, {chosen.described}", *overall, kinds])
    return ["rules, and who chose", *_COUNTED, "F1 per type"], rows


def _precisions(result, kind: str):
    from ..metrics import ACTIVITYNET_IOUS, AveragePrecisions

    found = getattr(result, kind)
    rows = {name: AveragePrecisions({name: row}) for name, row in found.per_class.items()}
    if rows:
        rows["mean"] = found
    for name, mine in rows.items():
        _, *means = mine.summary().values()
        yield name, map(_number, [*map(mine.mean, ACTIVITYNET_IOUS), *means])


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _plain(result: Any) -> Any:
    if isinstance(result, dict):
        return {name: _plain(value) for name, value in result.items()}
    return result._asdict() if hasattr(result, "_asdict") else result.to_dict()


__all__ = ["agreement", "evaluate"]
