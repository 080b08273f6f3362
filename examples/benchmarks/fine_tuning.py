"""Does fine-tuning on 20 labelled videos help the embedded default on people who were recorded elsewhere?

    fedn synth --subjects 60 --videos-per-subject 1 --seconds 60 --fps 30 --seed 3 --statistics casme_2 -o elsewhere
    python examples/benchmarks/fine_tuning.py elsewhere -o runs

Events come as in another corpus than those that the default learnt from. Of the first 20 people, one video each, four
choose epoch, calibration and threshold, and the others train; everybody else is tested. Beside the default as it is
stands the default with a threshold that all 20 chose, which costs no training. Settings are those of
finetune_and_push.py; the seed decides what windows are drawn. OUT/results.json keeps all of it.
"""

import argparse
import json
import sys
from pathlib import Path

import datasets
import torch
import transformers

sys.path.insert(0, str(Path(__file__).parents[1]))
from finetune_and_push import found_in

from fedn_hf import ProgressHook, __version__, default_checkpoint, load_pipeline
from fedn_hf.data.cache import FeatureCache
from fedn_hf.files_fedn import replacing
from fedn_hf.metrics import bootstrap, paired_difference, spotting
from fedn_hf.training import Recipe, TrainingSettings, train_one, video_rows
from fedn_hf.training.report import truth_of
from fedn_hf.training.selection import best_threshold

LABELLED, CHOOSING = 20, 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("corpus", type=Path, help="a set of fedn synth, by another seed than the default's people")
    parser.add_argument("--cache", type=Path, help="of features; FEDN_CACHE or ~/.cache/fedn_hf by default")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()  # of loading weights
    datasets.disable_progress_bars()
    training = TrainingSettings(epochs=arguments.epochs, batch_size=16, learning_rate=1e-4, ema_decay=0.99)
    recipe = Recipe(checkpoint=str(default_checkpoint()), scheme="emotion_7", training=training)
    with ProgressHook() as hook:
        rows, labels = video_rows(arguments.corpus, recipe, cache=FeatureCache(arguments.cache), hook=hook)
    people = sorted({row["subject_id"] for row in rows})
    known, choosing = set(people[:LABELLED]), people[LABELLED - CHOOSING : LABELLED]
    labelled = [{**row, "split": "train"} for row in rows if row["subject_id"] in known]
    tested = [row for row in rows if row["subject_id"] not in known]
    truth, videos = truth_of(tested)

    def score(found, threshold):
        return spotting(found[found.score >= threshold], truth, videos=videos)

    before = load_pipeline(device="cpu").model
    found = found_in(before, tested)
    chosen, _ = best_threshold(found_in(before, labelled), truth_of(labelled)[0])
    scores = {
        "the default": score(found, before.config.score_threshold),
        "the default, threshold chosen here": score(found, chosen),
    }
    for seed in arguments.seeds:
        folder = arguments.output / f"seed-{seed}"
        again = recipe.with_values({"training.seed": seed})
        trained = train_one(labelled, labels, again, folder, validation=choosing)
        after = load_pipeline(folder / "model", device="cpu").model
        scores[f"fine-tuned, seed {seed}"] = score(found_in(after, tested), trained.threshold)
    told = {
        "fedn_hf": __version__,
        "people": {"labelled": len(known), "tested": len(people) - len(known), "tested events": len(truth)},
        "scores": {name: intervals(bootstrap(result)) for name, result in scores.items()},
        "more than the default, the same people in pairs": {
            name: intervals(paired_difference(result, scores["the default"]))
            for name, result in scores.items()
            if name != "the default"
        },
    }
    arguments.output.mkdir(parents=True, exist_ok=True)
    with replacing(arguments.output / "results.json") as unfinished:
        unfinished.write_text(json.dumps(told, indent=1) + "\n", "utf-8")
    print(json.dumps(told, indent=1))


def intervals(of: dict) -> dict[str, list[float]]:
    """Name of the number -> value and 95 % interval over people."""
    return {name: [round(v, 4) for v in (one.value, one.low, one.high)] for name, one in of.items() if "f1" in name}


if __name__ == "__main__":
    main()
