"""README.md of a synthetic set: what it is, what is in it, how near it comes to the corpora, what it is not for."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

from .statistics import PROBABILITIES, STATISTICS, Statistics, summarise

_WORDS = Path(__file__).parents[1] / "assets" / "synthetic_card.md"


def make_card(order: Mapping[str, Any], rows: Mapping[str, list[dict[str, Any]]]) -> str:
    """
    Write the card.

    Args:
        order: the fields of `render.Order`.
        rows: split -> rows of its metadata.jsonl.
    """
    splits = "\n".join(
        f'      - split: {name}\n        path: ["{name}/metadata.jsonl", "{name}/**/*.mp4"]' for name in rows
    )
    counts = [
        "| split | subjects | videos | minutes | macro-expressions | micro-expressions |",
        "|---|---|---|---|---|---|",
    ]
    for name, videos in rows.items():
        types = Counter(event["type"] for video in videos for event in video["events"])
        minutes = sum(video["num_frames"] / video["fps"] for video in videos) / 60
        subjects = len({video["subject_id"] for video in videos})
        counts.append(
            f"| {name} | {subjects} | {len(videos)} | {minutes:.1f} "
            f"| {types['macro-expression']} | {types['micro-expression']} |"
        )
    settings = ", ".join(f"{name} {value}" for name, value in order.items() if value is not None)
    return Template(_WORDS.read_text("utf-8")).substitute(
        splits=splits,
        counts="\n".join(counts),
        settings=settings,
        command=_command(order),
        statistics=_statistics(order, rows),
    )


def _command(order: Mapping[str, Any]) -> str:
    options = [f"--{name.replace('_', '-')} {value}" for name, value in order.items() if value is not None]
    return " ".join(["fedn synth", *options, "-o FOLDER"])


def _statistics(order: Mapping[str, Any], rows: Mapping[str, list[dict[str, Any]]]) -> str:
    videos = [video for part in rows.values() for video in part]
    made = summarise((video["num_frames"] / video["fps"], _events(video)) for video in videos)
    aim = _aim(STATISTICS[order["statistics"]])
    lines = [f"| | here | {order['statistics']} |", "|---|---|---|"]
    lines += [f"| {name} | {made[name]:.3f} | {aim[name]:.3f} |" for name in aim if name in made]
    return "\n".join(lines)


def _aim(corpus: Statistics) -> dict[str, float]:
    """A corpus' statistics under the names that `summarise` uses, as far as they are quantiles or rates."""
    quantiles = {str(level): place for place, level in enumerate(PROBABILITIES)}
    aim = {}
    for kind in ("macro-expression", "micro-expression"):
        aim[f"{kind} events_per_minute"] = corpus.of(kind).per_minute
        for level in ("0.1", "0.25", "0.5", "0.75", "0.9"):
            aim[f"{kind} duration_s {level}"] = corpus.of(kind).duration_s[quantiles[level]]
    aim["overlaps_per_event"] = corpus.overlaps_per_event
    aim["gap_s 0.5"] = corpus.gap_s[quantiles["0.5"]]
    return aim


def _events(video: dict[str, Any]) -> list[tuple[str, float, float]]:
    fps = video["fps"]
    return [(event["type"], event["onset"] / fps, (event["offset"] + 1) / fps) for event in video["events"]]


__all__ = ["make_card"]
