"""FEDN's temporal network on published per-frame features of a real corpus, leave one subject out.

    python examples/benchmarks/casme2_features.py --features casme2_mdmo12.npz --sheets SHEETS -o runs

Trains a network per subject for every variant and seed that is asked for, or goes on with that; `--folds i/n` takes a
part, so several processes or machines can share the work. When all folds of a run are there it is scored: strict, with
the epoch and a threshold per type chosen on the other subjects, and beside it what oracles and the rules of two papers
give, and how well emotions are named on the marked intervals of test subjects: for the cascade's recogniser, a network
of that single task, and for joint networks. Writes OUT/results.json and prints Markdown. `--partial` trains nothing
and scores the subjects that all runs of the variants have done. Another corpus takes `--corpus`; `--peer` compares
with the raw detections of another system (a CSV file of `Expressions`, 1-based frames, subjects and videos named as in
peers).
"""

import argparse
import dataclasses
import json
import re
import resource
import statistics
import time
from pathlib import Path

import torch
import transformers

from fedn_hf.metrics import Expressions, Videos, paired_difference, select
from fedn_hf.training import Recipe, corpus_rows, run_folds, score_folds
from fedn_hf.training.recognition import score_recognition
from fedn_hf.training.report import FALLING, FoldsReport, missing_folds, tables_of

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
# What differs from the recipe. "paper" is the paper's network and optimiser as far as they are known.
VARIANTS = {
    "joint": {},
    "cascade": {"system": "cascade"},
    "flow rule": {"system": "flow_rule"},
    "spotting only": {"model.heads": "spotting"},
    "no segment attention": {"model.use_segment_attention": False},
    "no sliding-window attention": {"model.use_sliding_window_attention": False},
    "flow alone": {"features.leak": None},
    "emotions weigh a tenth": {"model.label_loss_weight": 0.1},
    "paper": {
        "model": {"backbone_config": None},
        "training.learning_rate": 1e-4,
        "training.epochs": 30,
        "training.warmup_epochs": 5.0,
    },
}


def train(rows, labels, recipe: Recipe, folder: Path, part: tuple[int, int]) -> None:
    """Folds one by one, with their wall time and the peak memory of this process."""
    count = len({row["subject_id"] for row in rows})
    for number in range(part[0], count + 1, part[1]):
        begun = time.monotonic()
        [path] = run_folds(rows, labels, recipe, folder, part=(number, count))
        cost = path.with_name("cost.json")
        if not cost.exists():
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            cost.write_text(json.dumps({"seconds": time.monotonic() - begun, "peak_memory_mib": memory}))
            print(f"{folder}: {path.parent.name} took {time.monotonic() - begun:.0f} s", flush=True)


def numbers(report: FoldsReport, raw: Expressions, events: Expressions, videos: Videos) -> dict[str, float]:
    """What of a run's report goes into the table."""
    found = {"nested": report.by_type.f1}
    found |= {f"nested {kind}": values["f1"] for kind, values in report.by_type.pooled.items() if kind != "overall"}
    found |= {f"each type's own, {kind}": values["f1"] for kind, values in report.by_each.pooled.items()}
    found["one threshold"] = report.selection.get("nested").result.f1
    found["pooled oracle"] = report.selection.get("pooled_oracle").result.f1
    for rules in ("auwgcn", "lgsnet"):
        # One threshold that is best for all test subjects together, as papers choose theirs; the best one for each of
        # them would be a jumble where on some nothing is found.
        chosen = select(raw, events, rules, videos, score_thresholds=FALLING)
        found[f"{rules} rules, pooled oracle"] = chosen.get("pooled_oracle").result.f1
    if report.detection is not None:
        found["mAP@0.5"] = report.detection.emotions.mean(0.5)
    return found


def peer_detections(path: Path, fps: float) -> Expressions:
    """casme_015 and casme_015_0401 are s15 and s15_0401 here."""
    peer = Expressions.from_csv(path, fps=fps)
    subject, video = (
        [re.sub(r"^casme_0(\d\d)", r"s\1", name) for name in names] for names in (peer.subject, peer.video)
    )
    return dataclasses.replace(peer, subject=subject, video=video)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--corpus", default="casme_2")
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--sheets", type=Path, required=True)
    parser.add_argument("--fps", type=float, help="of folder_csv, which does not say")
    parser.add_argument("--recipe", type=Path, default=RECIPES / "mdmo_features.yaml")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=["joint"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--folds", default="1/1", help="i/n: every n-th fold from the i-th on")
    parser.add_argument("--partial", action="store_true", help="score what is there")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peer", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    transformers.utils.logging.disable_progress_bar()  # of loading weights
    base = Recipe.read(arguments.recipe)
    options = {} if arguments.fps is None else {"fps": arguments.fps}
    rows, labels = corpus_rows(arguments.corpus, arguments.features, arguments.sheets, base.scheme, **options)
    part = tuple(int(number) for number in arguments.folds.split("/"))
    runs = {v: [folder_of(arguments.output, v, seed) for seed in arguments.seeds] for v in arguments.variants}
    among = ""
    if arguments.partial:
        folders = [folder for variant in runs.values() for folder in variant if folder.exists()]
        missing = {subject for folder in folders for subject in missing_folds(folder, rows)}
        rows = [row for row in rows if row["subject_id"] not in missing]
        among = f", {len({row['subject_id'] for row in rows})} subjects"
    for variant in () if arguments.partial else arguments.variants:
        for seed, folder in zip(arguments.seeds, runs[variant], strict=True):
            train(rows, labels, base.with_values({**VARIANTS[variant], "training.seed": seed}), folder, part)
    path = arguments.output / "results.json"
    results = json.loads(path.read_text("utf-8")) if path.exists() else {}
    for variant, folders in runs.items():
        done = [folder for folder in folders if folder.exists() and not missing_folds(folder, rows)]
        if done:
            results[variant + among] = summarise(done, rows, arguments.peer)
    path.write_text(json.dumps(results, indent=1), encoding="utf-8")
    print_table(results)


def folder_of(output: Path, variant: str, seed: int) -> Path:
    return output / variant.replace(" ", "_") / f"seed-{seed}"


def summarise(folders: list[Path], rows, peer: Path | None) -> dict:
    """Every run's numbers, the first one's intervals, and the paired difference to a peer."""
    runs, intervals, difference, recognised = [], None, None, None
    for folder in folders:
        report = score_folds(folder, rows)
        raw, events, videos = tables_of(folder, rows)
        costs = [json.loads(path.read_text()) for path in folder.glob("folds/*/cost.json")]
        run, named = numbers(report, raw, events, videos), score_recognition(folder, rows)
        if named is not None:
            run |= {"UF1 on true intervals": named.uf1, "UAR on true intervals": named.uar}
        run |= {"minutes": sum(cost["seconds"] for cost in costs) / 60}
        run |= {"peak MiB": max((cost["peak_memory_mib"] for cost in costs), default=0)}
        runs.append(run)
        if intervals is None:
            intervals = {name: list(interval) for name, interval in report.intervals.items()}
            recognised = None if named is None else named.to_dict()
            if peer is not None:
                marked = events.shifted(1)  # the peer's frames count from 1
                theirs = select(peer_detections(peer, rows[0]["fps"]), marked, videos=videos).get("nested").result
                apart = paired_difference(report.by_type, theirs)
                difference = {name: list(interval) for name, interval in apart.items()}
                difference["f1 of the peer"] = theirs.f1
    told = {"runs": runs, "intervals": intervals, "difference to the peer": difference}
    return {**told, "recognition on true intervals": recognised}


def print_table(results: dict) -> None:
    columns = ["variant", "seeds"]
    columns += list(dict.fromkeys(name for result in results.values() for run in result["runs"] for name in run))
    print("| " + " | ".join(columns) + " |\n|" + " --- |" * len(columns))
    for variant, result in results.items():
        cells = [variant, str(len(result["runs"]))]
        for name in columns[2:]:
            values = [run[name] for run in result["runs"] if name in run]
            spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.4f}{spread}" if values else "-")
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
