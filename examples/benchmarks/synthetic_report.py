"""The numbers of `synthetic.py`: how much is found, of what kind it is, and what scores are worth.

A run is a folder with what was found in validation and in test videos. Nothing here runs a network, so numbers can be
made again at any time; all that is chosen, a threshold per type, is chosen by the validation people.
"""

import dataclasses
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dataset_scripts.synthetic import read_truth
from fedn_hf.metrics import (
    ACTIVITYNET_IOUS,
    STRICT,
    Expressions,
    SpottingResult,
    Videos,
    bootstrap,
    detection,
    paired_difference,
    recognition,
    spotting,
    strs,
)
from fedn_hf.training import calibration
from fedn_hf.training.detections import read_detections
from fedn_hf.training.inputs import Row
from fedn_hf.training.report import expressions, truth_of
from fedn_hf.training.selection import best_by_type

KINDS = ("macro", "micro")
_RESAMPLES = 1000  # of people
_INTERVALS = {  # number -> result and its number
    "F1": ("spotting", "f1 overall"),
    "F1 macro": ("spotting", "f1 macro"),
    "F1 micro": ("spotting", "f1 micro"),
    **{f"mAP@0.5 {classes}": ("detection", f"mAP@0.5 {classes}") for classes in ("types", "emotions")},
    **{f"mAP@0.3:0.7 {classes}": ("detection", f"mAP@0.3:0.7 {classes}") for classes in ("types", "emotions")},
    "STRS": ("strs", "strs"),
    "UF1 on true intervals": ("recognition", "uf1"),
}
_MOTION_S = 0.1  # over which rotation is measured: from frame to frame, rounding would be a part of it
_BOUNDS = {"skin tone": (0.0, 1 / 3, 2 / 3, 1.0), "compression (crf)": (14, 18, 22, 26, 30)}
Groups = dict[str, dict[str, dict[str, Any]]]


@dataclass(frozen=True)
class Scores:
    """
    One run on test people.

    numbers: by name, for the table.
    results: by name, what `bootstrap` and `paired_difference` take.
    thresholds: type -> score.
    line: by which the validation people calibrate scores; see `reliability`.
    raw, kept: everything that was found, and what thresholds leave of it.
    """

    numbers: dict[str, float | None]
    results: dict[str, Any]
    thresholds: dict[str, float]
    line: tuple[float, float]
    raw: Expressions
    kept: Expressions


def score(folder: Path, validation: Sequence[Row], tested: Sequence[Row]) -> Scores:
    """Score a run: strict, at the thresholds that the validation people choose."""
    (events, videos), numbers, results = truth_of(tested), {}, {}
    if (folder / "named.parquet").exists():
        results["recognition"] = named = recognition(_table(folder / "named.parquet", tested), events, STRICT, videos)
        numbers = {"UF1 on true intervals": named.uf1, "UAR on true intervals": named.uar}
    nothing = Expressions.from_rows([])
    if not (folder / "tested.parquet").exists():
        return Scores(numbers, results, {}, (1.0, 0.0), nothing, nothing)
    marked, found = truth_of(validation)[0], _table(folder / "validation.parquet", validation)
    thresholds, raw = best_by_type(found, marked)[0], _table(folder / "tested.parquet", tested)
    kept = _from(raw, thresholds)
    results["spotting"] = spotted = spotting(kept, events, STRICT, videos)
    own = {kind: best_by_type(found[found.type == kind], marked[marked.type == kind])[0] for kind in KINDS}
    own = spotting(_from(raw, own["macro"] | own["micro"]), events, STRICT, videos)
    are_named = any(label is not None for label in raw.label)
    target = events if are_named else dataclasses.replace(events, label=None)
    results["detection"] = detected = detection(raw, target, STRICT, videos)
    found_of = {"": spotted, ", each type's own threshold": own}
    f1 = {f"F1{how}": each.f1 for how, each in found_of.items()}
    f1 |= {f"F1 {k}{how}": each.pooled[k]["f1"] for how, each in found_of.items() for k in KINDS if k in each.pooled}
    maps = {"types": detected.types} | ({"emotions": detected.emotions} if are_named else {})
    for name, each in maps.items():
        f1 |= {f"mAP@0.5 {name}": each.mean(0.5), f"mAP@0.3:0.7 {name}": each.mean(*ACTIVITYNET_IOUS)}
    if are_named:
        results["strs"] = strs(kept, events, videos=videos)
        f1["STRS"] = results["strs"].strs
    errors = median_errors_ms(spotted, kept, events)
    errors = {f"{name} error, median ms": value for name, value in errors.items()}
    alarms = {"false alarms per minute": spotted.false_alarms_per_minute}
    line = calibration.fit_line(found.score, calibration.is_right(found, marked)) if len(found) else (1.0, 0.0)
    return Scores(f1 | numbers | errors | alarms, results, thresholds, line, raw, kept)


def _table(path: Path, rows: Sequence[Row]) -> Expressions:
    """What was found in the videos of these rows."""
    videos = {row["video_id"] for row in rows}
    return expressions([{**row, "epoch": None} for row in read_detections(path) if row["video"] in videos])


def _from(raw: Expressions, thresholds: Mapping[str, float]) -> Expressions:
    least = np.array([thresholds.get(kind, np.inf) for kind in raw.type], float)
    return raw[raw.score >= least] if len(raw) else raw


def report(runs: Mapping[str, Mapping[int, Path]], validation: Sequence[Row], tested: Sequence[Row], truth: Path):
    """
    Everything that is told of runs.

    Args:
        runs: Variant -> seed -> folder.
        validation, tested: Rows.
        truth: Folder of the set that is tested.

    Returns:
        Plain JSON data: `variants`, `joint minus cascade`, and of the network that is looked at closely (the joint
        one, else a finished one; of its first seed) `breakdown` and `reliability`.
    """
    scores = {v: {seed: score(f, validation, _seen(f, tested)) for seed, f in runs[v].items()} for v in runs}
    costs = {v: {seed: json.loads((f / "cost.json").read_text("utf-8")) for seed, f in runs[v].items()} for v in runs}
    for folder in runs.get("flow rule", {}).values():
        if "joint" in runs and len(part := _seen(folder, tested)) < len(tested):
            name = "joint, videos of the flow rule"
            scores[name] = {seed: score(f, validation, part) for seed, f in runs["joint"].items()}
            costs[name] = costs["joint"]
    told: dict[str, Any] = {"variants": {}}
    for variant, of_seeds in scores.items():
        first = next(iter(of_seeds.values()))
        told["variants"][variant] = {
            "runs": [{"seed": n, **each.numbers, **costs[variant][n]} for n, each in of_seeds.items()],
            "thresholds": {str(seed): each.thresholds for seed, each in of_seeds.items()},
            "intervals": {
                name: _intervals(bootstrap(result, resamples=_RESAMPLES)) for name, result in first.results.items()
            },
        }
    pairs = [seed for seed in scores.get("joint", {}) if seed in scores.get("cascade", {})]
    told["joint minus cascade"] = {
        str(seed): {
            name: _intervals(paired_difference(result, scores["cascade"][seed].results[name], resamples=_RESAMPLES))
            for name, result in scores["joint"][seed].results.items()
        }
        for seed in pairs
    }
    close = next((scores[name] for name in ("joint", "checkpoint") if name in scores), None)
    if close is not None:
        told |= _closely(next(iter(close.values())), tested, truth)
    return told


def _seen(folder: Path, tested: Sequence[Row]) -> Sequence[Row]:
    """The videos that a run looked at; the flow rule may have taken a part."""
    path = folder / "videos.json"
    names = set(json.loads(path.read_text("utf-8"))) if path.exists() else None
    return [row for row in tested if names is None or row["video_id"] in names]


def _intervals(intervals: Mapping[str, Any]) -> dict[str, list[float]]:
    return {name: list(interval) for name, interval in intervals.items()}


def _closely(one: Scores, tested: Sequence[Row], truth: Path) -> dict[str, Any]:
    (events, videos), facts = truth_of(tested), [facts_of(row, truth) for row in tested]
    of_videos = {row["video_id"]: of_video for row, (of_video, _) in zip(tested, facts, strict=True)}
    of_events = [fact for _, each in facts for fact in each]
    return {
        "breakdown": breakdown(one.kept, events, videos, of_videos, of_events),
        "reliability": reliability(one.raw, events, one.line),
    }


# --- looked at closely -----------------------------------------------------------------------------------------------


def facts_of(row: Mapping[str, Any], folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """
    What is true of a video and of each of its events.

    Args:
        row: Of the set, with `video_id`, `fps` and `events`.
        folder: Of the set.

    Returns:
        Of the video `skin tone` (0 the lightest), `frame rate` and `compression (crf)`; of each event, in the order of
        the row, `type`, `intensity` (0 to 1) and `head motion` (mean over the event in degrees per second).
    """
    arrays, told = read_truth(folder, row["video_id"].rpartition("/")[2])
    known = {(each["onset_frame"], each["offset_frame"], each["type"]): each for each in told["expressions"]}
    camera, facts = told["camera"], []
    video = {"skin tone": told["person"]["skin_tone"], "frame rate": row["fps"], "compression (crf)": camera["crf"]}
    for event in row["events"]:
        rotation = arrays["head_rotation_deg"][event["onset"] : event["offset"] + 1].astype(np.float64)
        intensity = known[event["onset"], event["offset"], event["type"]]["intensity"]
        measured = {"intensity": intensity, "head motion": _speed(rotation, row["fps"])}
        facts.append({"type": event["type"].partition("-")[0], **measured})
    return video, facts


def _speed(rotation: np.ndarray, fps: float) -> float:
    """Mean speed of angles (T, 3) in degrees per second."""
    step = max(1, min(round(_MOTION_S * fps), len(rotation) - 1))
    turned = np.linalg.norm(rotation[step:] - rotation[:-step], axis=1)
    return float(turned.mean() * fps / step) if len(turned) else 0.0


def breakdown(
    predictions: Expressions,
    events: Expressions,
    videos: Videos,
    of_videos: Mapping[str, Mapping[str, Any]],
    of_events: Sequence[Mapping[str, Any]],
) -> Groups:
    """
    How many events are found (strict), by group: for quarters of the events of a type by intensity and by the motion
    of the head, the recall; for parts of the videos by skin tone, frame rate and compression, the F1, too.

    Args:
        predictions: At the thresholds that are reported.
        events, videos: All of the set.
        of_videos, of_events: Facts of each video by name, and of each event in order; see `facts_of`.
    """
    found = np.zeros(len(events), bool)
    found[[event for _, event, _ in spotting(predictions, events, STRICT, videos).pairs]] = True
    groups: Groups = {}
    for kind in KINDS:
        mine = np.array([fact["type"] == kind for fact in of_events], bool)
        for name, unit in (("intensity", ""), ("head motion", " deg/s")):
            values = np.array([fact[name] for fact in of_events])[mine]
            groups[f"{name}, {kind}"] = {
                group: {"events": int(here.sum()), "recall": float(found[mine][here].mean())}
                for group, here in _quarters(values, unit).items()
            }
    for name in ("skin tone", "frame rate", "compression (crf)"):
        part_of = {video: _part(name, facts[name]) for video, facts in of_videos.items()}
        groups[name] = {}
        for part in sorted(set(part_of.values()), key=lambda part: float(part.split("-")[0])):
            inside = [np.array([part_of[v] == part for v in table.video], bool) for table in (predictions, events)]
            counts = spotting(predictions[inside[0]], events[inside[1]], STRICT)
            groups[name][part] = {"videos": list(part_of.values()).count(part), **counts.overall.to_dict()}
    return groups


def _quarters(values: np.ndarray, unit: str) -> dict[str, np.ndarray]:
    """Name of a quarter -> which of the values are in it; quarters of equal values are one."""
    if not len(values):
        return {}
    edges = np.quantile(values, [0, 0.25, 0.5, 0.75, 1])
    place = np.searchsorted(edges[1:-1], values, side="left")
    return {f"{edges[n]:.2f}-{edges[n + 1]:.2f}{unit}": place == n for n in range(4) if (place == n).any()}


def _part(name: str, value: float) -> str:
    bounds = _BOUNDS.get(name)
    if bounds is None:
        return f"{value:g}"
    place = min(int(np.searchsorted(bounds, value, side="right")), len(bounds) - 1)
    if name == "skin tone":
        return f"{bounds[place - 1]:.2f}-{bounds[place]:.2f}"
    return f"{bounds[place - 1]}-{bounds[place] - 1}"


def reliability(raw: Expressions, events: Expressions, line: tuple[float, float]) -> dict[str, dict[str, Any]]:
    """
    Whether scores are shares: of everything found with about a score, the share that is right (strict).

    Args:
        line: a and b by which scores become sigmoid(a logit(score) + b); see `fedn_hf.training.calibration`.

    Returns:
        "as they are" and "calibrated" -> `bins`, a row for each tenth that holds anything (mean `score`, share that is
        `right`, `count`), and `expected_calibration_error`. Nothing where nothing was found.
    """
    if not len(raw):
        return {}
    logit = np.log(raw.score.clip(1e-6, 1 - 1e-6)) - np.log1p(-raw.score.clip(1e-6, 1 - 1e-6))
    scores = {"as they are": raw.score, "calibrated": 1 / (1 + np.exp(-(line[0] * logit + line[1])))}
    curves = {name: calibration.reliability(each, calibration.is_right(raw, events)) for name, each in scores.items()}
    return {name: {"bins": bins, "expected_calibration_error": error} for name, (bins, error) in curves.items()}


def median_errors_ms(result: SpottingResult, predictions: Expressions, events: Expressions) -> dict[str, float | None]:
    """Median size in ms of the errors of onset, apex and offset of what is found; `None` where there is none."""
    errors = {}
    for name in ("onset", "apex", "offset"):
        told, marked = getattr(predictions, name), getattr(events, name)
        sizes = [1000 * abs(told[p] - marked[e]) / events.fps[e] for p, e, _ in result.pairs]
        known = [size for size in sizes if size == size]
        errors[name] = float(np.median(known)) if known else None
    return errors


# --- as Markdown -----------------------------------------------------------------------------------------------------


def markdown(told: Mapping[str, Any]) -> str:
    """Tables of all variants, of the difference, of groups and of scores."""
    variants, costs = told["variants"], ("seconds", "peak_memory_mib", "training")
    names = list(dict.fromkeys(n for each in variants.values() for run in each["runs"] for n in run if n not in costs))
    rows = [["seeds", *(str(len(each["runs"])) for each in variants.values())]]
    for name in names[1:]:  # without the seed
        rows.append([name, *(_number(each, name) for each in variants.values())])
    lines = [*_lines(["", *variants], rows), "", "± over seeds; in brackets 95 % over people, of the first seed."]
    for seed, results in told["joint minus cascade"].items():
        apart = [
            [f"{result}: {name}", f"{value:+.3f}", f"{low:+.3f} to {high:+.3f}"]
            for result, intervals in results.items()
            for name, (value, low, high) in intervals.items()
        ]
        lines += ["", *_lines([f"joint minus cascade, seed {seed}", "difference", "95 % over people"], apart)]
    groups = [
        [name, group, *(_cell(counts.get(key)) for key in ("videos", "events", "recall", "f1"))]
        for name, parts in told.get("breakdown", {}).items()
        for group, counts in parts.items()
    ]
    lines += ["", *_lines(["by", "group", "videos", "events", "recall", "F1"], groups)] if groups else []
    for how, curve in told.get("reliability", {}).items():
        title = f"score, {how} (expected calibration error {curve['expected_calibration_error']:.3f})"
        bins = [[_cell(each[name]) for name in ("score", "right", "count")] for each in curve["bins"]]
        lines += ["", *_lines([title, "share that is right", "detections"], bins)]
    return "\n".join(lines)


def _lines(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    table = [columns, ["---"] * len(columns), *rows]
    return ["| " + " | ".join(cells) + " |" for cells in table]


def _number(variant: Mapping[str, Any], name: str) -> str:
    """The mean over seeds, their standard deviation, and how far it goes with people."""
    values = [run[name] for run in variant["runs"] if run.get(name) is not None]
    if not values:
        return "-"
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    result, key = _INTERVALS.get(name, ("", ""))
    found = variant["intervals"].get(result, {}).get(key)
    return f"{statistics.mean(values):.3f}{spread}" + (f" [{found[1]:.3f}, {found[2]:.3f}]" if found else "")


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


__all__ = ["Scores", "breakdown", "facts_of", "markdown", "median_errors_ms", "reliability", "report", "score"]
