"""Does a detector find the expressions of real faces, and leave neutral ones alone?

    python examples/benchmarks/real_clips.py --clips CLIPS --model CHECKPOINT [-o real_clips.json]

CLIPS holds videos and `intervals.json`, which marks what happens in them: by file name `events` and `optional` events
({"onset", "offset", "emotion"}, 0-based frames of the file, inclusive; an offset of null is the end of what can be
seen). An event is hit by a detection whose intersection over union with it reaches 0.3, or 0.5; every detection hits
one event at most, the surest first, whatever its type. False alarms are counted where nothing is marked at all, per
minute. Everything is done at the checkpoint's own threshold, the same for all clips.
"""

import argparse
import json
from collections import Counter
from pathlib import Path

from fedn_hf import load_pipeline
from fedn_hf.results_fedn import FednDetections

IOUS = (0.3, 0.5)
# What must never be said of a smile.
UNLIKE_HAPPINESS = ("anger", "disgust", "fear", "sadness")


def overlap(one: tuple[int, int], other: tuple[int, int]) -> float:
    """Intersection over union of inclusive frames."""
    inside = min(one[1], other[1]) - max(one[0], other[0]) + 1
    return max(0, inside) / (one[1] - one[0] + other[1] - other[0] + 2 - max(0, inside))


def hits(found: list[dict], events: list[dict], least: float) -> dict[int, dict]:
    """Event -> the detection that hits it."""
    hit: dict[int, dict] = {}
    for row in sorted(found, key=lambda row: -row["score"]):
        spans = {
            number: overlap((row["onset_frame"], row["offset_frame"]), (event["onset"], event["offset"]))
            for number, event in enumerate(events)
            if number not in hit
        }
        best = max(spans, key=spans.get, default=None)
        if best is not None and spans[best] >= least:
            hit[best] = row
    return hit


def look_at(path: Path, marked: dict, detections: FednDetections, **settings) -> dict:
    """What is found in a clip and what of it is right."""
    found = detections.expressions(**settings)
    seen = detections.native_frame[detections.faces[0].frames] if detections.faces else detections.native_frame
    last = int(seen[-1])
    events = [{**event, "offset": last if event["offset"] is None else event["offset"]} for event in marked["events"]]
    told = {"clip": path.name, "minutes": float(detections.time_s[-1]) / 60, "events": len(events)}
    for least in IOUS:
        told[f"hits at {least}"] = len(hits(found, events, least))
    labels = [(events[number]["emotion"], row["label"]) for number, row in hits(found, events, IOUS[0]).items()]
    told["labels right"] = sum(wanted == given for wanted, given in labels)
    told["smiles called otherwise"] = sum(w == "happiness" and g in UNLIKE_HAPPINESS for w, g in labels)
    told["false alarms"] = 0 if events or marked.get("optional") else len(found)
    told["found"] = [
        {name: row[name] for name in ("onset_frame", "apex_frame", "offset_frame", "type", "label", "score")}
        for row in found
    ]
    told["marked"] = events
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--model", help="the embedded default if it is not given")
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    marked = json.loads((arguments.clips / "intervals.json").read_text("utf-8"))
    detect = load_pipeline(arguments.model)
    rows = []
    for name, clip in marked.items():
        if isinstance(clip, dict):
            path = arguments.clips / name
            rows.append(look_at(path, clip, detect(str(path), return_raw=True)))
    total = Counter()
    for row in rows:
        total.update({name: value for name, value in row.items() if isinstance(value, int)})
    quiet = sum(row["minutes"] for row in rows if not row["marked"])
    summary = {**total, "false alarms per quiet minute": total["false alarms"] / max(quiet, 1e-9)}
    columns = ["clip", "events", *(f"hits at {least}" for least in IOUS), "labels right", "false alarms"]
    print("| " + " | ".join(columns) + " |\n|" + " --- |" * len(columns))
    for row in [*rows, {"clip": "all", **total}]:
        print("| " + " | ".join(str(row[name]) for name in columns) + " |")
    print(f"smiles called {', '.join(UNLIKE_HAPPINESS)}: {total['smiles called otherwise']}; false alarms per minute")
    print(f"where nothing happens: {summary['false alarms per quiet minute']:.2f} in {quiet:.1f} minutes")
    if arguments.output is not None:
        arguments.output.write_text(json.dumps({"summary": summary, "clips": rows}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
