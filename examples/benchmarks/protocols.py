"""The same detections of four systems under the rules of every protocol, and under every way of choosing an epoch.

How far do rules alone move an F1?

    python examples/benchmarks/protocols.py CORPORA -o protocols.json

CORPORA is a folder with peers/mdmd, peers/lgsnet, peers/auwgcn and peers/strs, as the tests use it; the files are not
part of the project. Writes JSON, prints Markdown.
"""

import argparse
import dataclasses
import json
from pathlib import Path

from fedn_hf.metrics import PRESETS, Expressions, Protocol, Videos, bootstrap, detection, select, spotting

SHOWN = ("frame_convention", "comparison", "matching", "class_rule", "videos_scored", "missing_offset")


Tables = tuple[Expressions, Expressions, Videos | None]


def load(peers: Path) -> dict[str, Tables]:
    """System -> its final detections, the events, all videos. Each is scored against the same events everywhere."""
    by_name = {"video": "{subject}_{video}"}
    own_name = {"video": lambda row: row["video"].rsplit("/", 1)[1]}
    lgsnet = Expressions.from_csv(peers / "lgsnet/casme2_detections.csv.gz", {"score": "{score_text:.5}"}, fps=30)
    auwgcn = Expressions.from_csv(peers / "auwgcn/casme2_loso_detections.csv.gz", fps=30)
    mean = [
        Expressions.from_csv(peers / f"strs/casme2_clips_{n}.csv", fps=200) for n in ("predictions", "ground_truth")
    ]
    return {
        "MDMD": (
            _of_length(Expressions.from_csv(peers / "mdmd/casme2_predictions.csv", fps=30)),
            Expressions.from_csv(peers / "auwgcn/casme2_ground_truth.csv", {"video": _short, "subject": ""}, fps=30),
            Videos.from_csv(peers / "mdmd/casme2_videos.csv", {**by_name, "subject": ""}),
        ),
        "LGSNet": (
            # The published choice, an oracle: epoch 23, scores above 0.485, 14 of a video. It names no types.
            _best(lgsnet[(lgsnet.epoch == 23) & (lgsnet.score > 0.485)], 14).with_types_by_duration(),
            Expressions.from_csv(peers / "lgsnet/casme2_annotation_357.csv", own_name, fps=30),
            None,
        ),
        "AUW-GCN": (
            auwgcn[auwgcn.epoch == auwgcn.epoch.max()],
            Expressions.from_csv(peers / "auwgcn/casme2_ground_truth.csv", fps=30),
            None,
        ),
        # Clips of micro-expressions only.
        "MEAN": (*(dataclasses.replace(side, type=["micro"] * len(side)) for side in mean), None),
    }


def _short(row: dict[str, str]) -> str:
    """casme_015_0401 -> s15_0401"""
    _, subject, video = row["video_name"].split("_")
    return f"s{int(subject)}_{video}"


def _of_length(found: Expressions) -> Expressions:
    frames = found.offset - found.onset + 1
    micro = (found.type == "micro") & (frames >= 7) & (frames <= 16)
    return found[micro | ((found.type == "macro") & (frames >= 17))]


def _best(found: Expressions, count: int) -> Expressions:
    """The first `count` of each video, as they stand in the file."""
    seen: dict[str, int] = {}
    rows = []
    for row, video in enumerate(found.video):
        seen[video] = seen.get(video, 0) + 1
        rows += [row] if seen[video] <= count else []
    return found[rows]


def rules_only(protocol: Protocol) -> Protocol:
    """The rules without a choice of predictions, which is the same under all of them here."""
    return dataclasses.replace(protocol, score_threshold=None, top_k=None, length_filter=())


def score(peers: Path) -> dict:
    """system -> protocol -> numbers."""
    table: dict[str, dict] = {}
    for system, (found, marked, videos) in load(peers).items():
        rows = table[system] = {}
        for name, protocol in PRESETS.items():
            result = spotting(found, marked, rules_only(protocol), videos)
            rows[name] = {**result.overall.to_dict(), "f1": result.f1}
            rows[name] |= {f"f1_{kind}": result.pooled[kind]["f1"] for kind in result.per_type}
        if found.score is not None:
            rows["activitynet"] |= detection(found, marked, "activitynet", videos).types.summary()
    return table


def choose(peers: Path) -> dict:
    """System -> rows of who chose the epoch and the threshold, under the strict and under the system's own rules."""
    own_name = {"video": lambda row: row["video"].rsplit("/", 1)[1]}
    lgsnet = Expressions.from_csv(peers / "lgsnet/casme2_detections.csv.gz", {"score": "{score_text:.5}"}, fps=30)
    reports = {
        "AUW-GCN": select(
            Expressions.from_csv(peers / "auwgcn/casme2_loso_detections.csv.gz", fps=30),
            Expressions.from_csv(peers / "auwgcn/casme2_ground_truth.csv", fps=30),
            "auwgcn",
        ),
        "LGSNet": select(
            lgsnet.with_types_by_duration(),
            Expressions.from_csv(peers / "lgsnet/casme2_annotation_357.csv", own_name, fps=30),
            "lgsnet",
            score_thresholds=[step / 1000 for step in range(300, 500, 5)],
        ),
    }
    rows: dict[str, list] = {}
    for system, report in reports.items():
        for chosen in report.results:
            interval = bootstrap(chosen.result)["f1 overall"]
            facts = {"rules": chosen.rules, "chosen": chosen.described, **chosen.result.overall.to_dict()}
            rows.setdefault(system, []).append({**facts, "f1": chosen.result.f1, "interval": interval[1:]})
    return rows


def markdown_of_choice(choice: dict) -> str:
    lines = ["| system | rules | epoch and threshold | F1 | 95 % over subjects |", "|---|---|---|---|---|"]
    for system, rows in choice.items():
        for row in rows:
            low, high = row["interval"]
            lines.append(
                f"| {system} | `{row['rules']}` | {row['chosen']} | {row['f1']:.4f} | {low:.3f} - {high:.3f} |"
            )
    return "\n".join(lines)


def markdown(table: dict) -> str:
    """Systems as rows, protocols as columns, then what each protocol's switches are."""
    names = list(PRESETS)
    lines = [
        f"| F1 (TP / found / events) | {' | '.join(f'`{name}`' for name in names)} |",
        "|---" * (len(names) + 1) + "|",
    ]
    for system, rows in table.items():
        cells = []
        for name in names:
            row = rows[name]
            counts = f"{row['true_positives']} / {row['predictions']} / {row['events']}"
            cells.append(f"**{row['f1']:.4f}** ({counts})" if name == "strict" else f"{row['f1']:.4f} ({counts})")
        lines.append(f"| {system} | {' | '.join(cells)} |")
    lines += ["", f"| switch | {' | '.join(f'`{name}`' for name in names)} |", "|---" * (len(names) + 1) + "|"]
    for switch in SHOWN:
        values = [str(getattr(PRESETS[name], switch)).replace("_", " ") for name in names]
        lines.append(f"| {switch.replace('_', ' ')} | {' | '.join(values)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpora", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("protocols.json"))
    arguments = parser.parse_args()
    table, choice = score(arguments.corpora / "peers"), choose(arguments.corpora / "peers")
    protocols = {name: protocol.to_dict() for name, protocol in PRESETS.items()}
    arguments.output.write_text(
        json.dumps({"results": table, "selection": choice, "protocols": protocols}, indent=1) + "\n"
    )
    print(markdown(table), markdown_of_choice(choice), sep="\n\n")


if __name__ == "__main__":
    main()
