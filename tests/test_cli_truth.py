"""`fedn detect --truth`: what was found beside what was marked, line by line; the count is that of `fedn evaluate`."""

import csv
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from transformers import pipeline
from typer.testing import CliRunner

from fedn_hf import FednForFacialExpressionDetection, FednVideoProcessor
from fedn_hf.annotation import ExpressionAnnotation
from fedn_hf.cli import app
from fedn_hf.cli.truth import beside
from fedn_hf.exporters import write_many
from fedn_hf.metrics import Expressions, spotting
from fedn_hf.pipeline_fedn import TASK
from tests.results import CLIP, MEDIA, TYPES, annotation, event, recording, truth
from tests.test_modeling_fedn import tiny

TABLE = MEDIA / "synthetic.csv"
MACRO, MICRO = TYPES


def shown(found, marked) -> list[str]:
    """What is printed, line by line, with one space where there are many."""
    console = Console(width=80)
    with console.capture() as printed:
        console.print(*beside(found, marked, Path("coded.csv")), sep="\n", markup=False, soft_wrap=True)
    return [" ".join(line.split()) for line in printed.get().splitlines()]


def test_each_expression_and_what_came_of_it():
    marked = annotation(
        [
            event(30, 40, 59, "anger"),
            event(90, 95, 99, "fear", MICRO),
            event(150, 160, 179, "anger"),
            event(300, 310, 329, None),
            event(450, 455, 459, "fear", MICRO),
        ],
        30.0,
    )
    found = annotation(
        [
            event(33, 40, 59, "anger", score=0.9),  # 27 of 30 frames
            event(90, 95, 99, "anger", MICRO, score=0.8),  # the same, called otherwise
            event(170, 175, 199, score=0.7),  # 10 of 50 frames
            event(300, 310, 329, "fear", MICRO, score=0.6),  # of the other type
            event(600, 610, 629, "fear", score=0.5),
        ],
        30.0,
    )
    assert shown(found, marked)[1:] == [
        "coded.csv: 5 marked",
        "type label onset offset outcome",
        "─" * 74,
        "macro anger 0:00:01.000 0:00:02.000 found, tIoU 0.90",
        "micro fear 0:00:03.000 0:00:03.333 found, tIoU 1.00, as anger",
        "macro anger 0:00:05.000 0:00:06.000 missed; tIoU 0.20 with a macro",
        "macro anger 0:00:05.667 0:00:06.667 false alarm, score 0.700",
        "macro - 0:00:10.000 0:00:11.000 missed; tIoU 1.00 with a micro",
        "micro fear 0:00:10.000 0:00:11.000 false alarm, score 0.600",
        "micro fear 0:00:15.000 0:00:15.333 missed",
        "macro fear 0:00:20.000 0:00:21.000 false alarm, score 0.500",
        "2 of 5 found, 3 false alarms, F1 0.40 (found: the type is right, and the overlap, tIoU, at least 0.5).",
    ]


@pytest.mark.parametrize("seed", range(2))
def test_the_lines_and_the_count_are_those_of_the_metrics(seed):
    """Thousands of expressions, some of them moved, lost or made up: every one has its line."""
    marked = recording(400, 3600.0, seed)
    kept = [one for number, one in enumerate(marked.intervals) if number % 3]
    found = replace(marked, intervals=[*kept[:150], *recording(150, 3600.0, seed + 100)])
    lines = shown(found, marked)
    result = spotting(*(Expressions.from_annotations([one]) for one in (found, marked)))
    count = result.overall
    said = [sum(f" {word}" in line for line in lines[4:-1]) for word in ("found,", "missed", "false alarm")]
    assert said == [
        count.true_positives,
        count.events - count.true_positives,
        count.predictions - count.true_positives,
    ]
    assert lines[-1].startswith(f"{said[0]} of 400 found, {said[2]} false alarms, F1 {result.f1:.2f} (")


def test_nothing_marked_nothing_found():
    nothing, something = annotation([], 10.0), annotation([event(30, 40, 59)], 10.0)
    assert shown(nothing, nothing)[1:2] == ["coded.csv: 0 marked"] and "0 of 0 found" in shown(nothing, nothing)[-1]
    assert any(line.endswith("missed") for line in shown(nothing, something))
    assert "0 of 0 found, 1 false alarm, F1 0.00" in shown(something, nothing)[-1]


def test_only_what_was_looked_at_and_asked_for_can_be_missed():
    marked = annotation([event(30, 40, 59), event(90, 95, 99, kind=MICRO), event(300, 310, 329)], 30.0)
    nothing = annotation([], 30.0)
    part = replace(nothing, provenance={**nothing.provenance, "start_s": 2.5, "end_s": None})
    assert shown(part, marked)[1] == "coded.csv: 2 marked"
    part = replace(nothing, provenance={**nothing.provenance, "start_s": None, "end_s": 2.0})
    assert shown(part, marked)[1] == "coded.csv: 1 marked"
    micro = {"score_threshold": 0.5, "types": [MICRO]}
    assert shown(replace(nothing, provenance={"settings": micro}), marked)[1] == "coded.csv: 1 marked"


def test_a_coder_may_leave_out_types_and_frames():
    marked = ExpressionAnnotation(
        {"path": "by hand.mp4"},
        [replace(event(30, 40, 59), type=None, score=None, onset_frame=None, apex_frame=None, offset_frame=None)],
    )
    found = annotation([event(30, 40, 59)], 10.0)
    assert "macro anger 0:00:01.000 0:00:02.000 found, tIoU 1.00" in shown(found, marked)


def test_the_truth_of_the_clip_is_also_a_table():
    """Whoever makes the clip again makes both."""
    table = ExpressionAnnotation.read(TABLE)
    assert table.intervals == [replace(one, score=None) for one in truth()]
    assert "5 of 5 found, 0 false alarms, F1 1.00" in shown(truth(), table)[-1]


# --- the command --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Untrained, of landmarks alone: small and fast."""
    torch.manual_seed(0)
    config = tiny(backbone_config=None, feature_size=0, num_landmarks=468, image_size=64, score_threshold=0.005)
    processor = FednVideoProcessor(size={"height": 64, "width": 64})
    model = FednForFacialExpressionDetection(config)
    folder = tmp_path_factory.mktemp("checkpoint")
    pipeline(TASK, model=model, video_processor=processor).save_pretrained(folder)
    return folder


def fedn(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_detect_shows_it_below_its_table_and_evaluate_counts_the_same(checkpoint, tmp_path):
    ran = fedn("detect", CLIP, "--model", checkpoint, "--end", "6", "-o", tmp_path, "--truth", TABLE)
    assert ran.exit_code == 0, ran.stderr
    assert f"\n{TABLE}: 1 marked\n" in ran.stdout and ran.stdout.index("score") < ran.stdout.index("outcome")
    hits, alarms = map(int, re.search(r"(\d+) of 1 found, (\d+) false alarms?", ran.stdout).groups())
    with open(TABLE, encoding="utf-8", newline="") as file:
        first = [row for row in csv.DictReader(file) if float(row["offset_s"]) < 6]
    with open(tmp_path / "marked.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(first[0]))
        writer.writeheader()
        writer.writerows(first)
    counted = fedn("evaluate", tmp_path / "synthetic.json", tmp_path / "marked.csv", "--format", "json")
    assert counted.exit_code == 0, counted.stderr
    assert re.search(rf'"overall": {{\s*"true_positives": {hits},\s*"predictions": {hits + alarms},', counted.stdout)


CODED = """File type = "ooTextFile"
Object class = "TextGrid"
0
9
<exists>
1
"IntervalTier"
"Emotion"
0
9
1
0
9
"HAP"
"""
WRONG = {
    "--truth goes with one video, and here are 2": [
        CLIP,
        CLIP.parents[2] / "fedn_hf/assets/demo.mp4",
        "--truth",
        TABLE,
    ],
    "missing.csv: no such file": [CLIP, "--truth", "missing.csv"],
    "no file of expressions; name a file of what was found": [CLIP, "--truth", CLIP],
    "`fedn export --mapping` makes one for --truth": [CLIP, "--truth", "coder.TextGrid"],
}


@pytest.mark.parametrize("words", WRONG)
def test_what_is_wrong_is_said_before_anything_is_read(words, checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("coder.TextGrid").write_text(CODED)
    ran = fedn("detect", *WRONG[words], "--model", checkpoint)
    assert ran.exit_code in (1, 2) and words in ran.stderr and not ran.stdout


def test_a_file_of_many_videos_is_searched_by_name(checkpoint, tmp_path):
    many = [replace(truth(), video={**truth().video, "path": name}) for name in ("a.mp4", "x/synthetic.avi", "b.mp4")]
    write_many(many, tmp_path / "all.csv")
    ran = fedn("detect", CLIP, "--model", checkpoint, "--end", "1", "--truth", tmp_path / "all.csv")
    assert ran.exit_code == 0 and "all.csv: 0 marked" in ran.stdout
    write_many([many[0], many[2]], tmp_path / "others.csv")
    ran = fedn("detect", CLIP, "--model", checkpoint, "--truth", tmp_path / "others.csv")
    assert ran.exit_code == 1 and "of the 2 videos in it 0 are called synthetic; one should be" in ran.stderr
