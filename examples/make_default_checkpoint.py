"""Make the embedded default checkpoint again, from the first synthetic face to the last weight.

    make default-checkpoint FACE_MODEL=face_model.npz
    python examples/make_default_checkpoint.py --face-model face_model.npz --work work -o fedn_hf/weights/default

1. Videos of synthetic people (`fedn synth`).
2. How muscles are read from their landmarks, twice (see SHIPPED), and the same faces in more scripts
   (`fedn_hf.training.reenactment`).
3. FEDN on what is read (examples/recipes/default.yaml). The people of the set's validation choose the epoch, the
   calibration of scores and the threshold; those of its tests train, too, as benchmarks have people of their own.

It takes 6 GB of memory. What was stopped goes on where it was. recipes/default_log.json keeps what every epoch gave.
No real face is seen.
"""

import argparse
import json
import os
from pathlib import Path

import transformers
from safetensors.torch import load_file, save_file

from fedn_hf import ProgressHook, load_pipeline
from fedn_hf.data.cache import FeatureCache
from fedn_hf.files_fedn import replacing
from fedn_hf.sandbox import give_memory_back
from fedn_hf.synthetic.render import Order, render
from fedn_hf.training import Recipe, train_one, video_rows
from fedn_hf.training.inputs import LANDMARK_READER
from fedn_hf.training.reenactment import fit_landmark_reader, reenact

RECIPES = Path(__file__).parent / "recipes"
PEOPLE = Order(subjects=100, videos_per_subject=1, seconds=50.0, seed=1, statistics="samm_lv")
READ = 3  # scripts of every face that the reader of landmarks is fitted to, beside the one that was filmed
# Ridges of the reader that the network learns with, and of the one that it then reads with: validation people's F1 is
# 0.702 with that, and 0.681 with the first.
LEARNT, SHIPPED = 1e-7, 1e-6
# What of a checkpoint the package needs: it has the code and the face networks already.
KEPT = ("config.json", "model.safetensors", "video_preprocessor_config.json", "README.md")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--face-model", help="else the environment variable FEDN_FACE_MODEL says where")
    parser.add_argument("--work", type=Path, required=True, help="folder for what is made on the way, a GB")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    give_memory_back()  # or 9 GB of what reenactments are made of are kept
    transformers.utils.logging.disable_progress_bar()  # of loading weights
    people, recipe = arguments.work / "people", Recipe.read(RECIPES / "default.yaml")
    render(PEOPLE, people, face_model=arguments.face_model, workers=os.cpu_count(), progress=print)
    with ProgressHook() as hook:
        filmed = recipe.with_values({"reenactments": 0})
        rows, labels = video_rows(people, filmed, cache=FeatureCache(arguments.work / "cache"), hook=hook)
        rows = [{**row, "split": row["split"].replace("test", "train")} for row in rows]
        first, reader = (arguments.work / name for name in ("first_reader.safetensors", LANDMARK_READER.name))
        for path, ridge in ((first, LEARNT), (reader, SHIPPED)):
            if not path.exists():
                with replacing(path) as unfinished:
                    weight = fit_landmark_reader(rows, people, READ, recipe.config(labels), ridge)
                    save_file({"weight": weight}, unfinished)
        recipe = recipe.with_values({"landmark_reader": str(first)})
        rows += reenact(rows, people, recipe.reenactments, float(recipe.config(labels).frame_rate))
        trained = train_one(rows, labels, recipe, arguments.work / "run", hook=hook)
    detect = load_pipeline(arguments.work / "run" / "model")
    detect.model.fedn.embedding.landmark_reader.weight.data.copy_(load_file(reader)["weight"])
    detect.save_pretrained(arguments.work / "checkpoint")
    arguments.output.mkdir(parents=True, exist_ok=True)
    made = {arguments.output / name: arguments.work / "checkpoint" / name for name in KEPT}
    made[arguments.output.parent / reader.name] = reader
    for kept, path in made.items():
        with replacing(kept) as unfinished:
            unfinished.write_bytes(path.read_bytes())
    told = {
        "threshold": trained.threshold,
        "validation_f1": trained.threshold_f1,
        "best_epoch": trained.result.best_epoch,
    }
    told |= {"calibration": trained.calibration, "log": epochs(trained.result.log)}
    with replacing(RECIPES / "default_log.json") as unfinished:
        unfinished.write_text(json.dumps(told, indent=1) + "\n", "utf-8")
    print(f"{arguments.output}: F1 {trained.threshold_f1:.4f} on the validation people at {trained.threshold}")


def epochs(log: list[dict]) -> list[dict]:
    """Of every epoch the mean of what its steps say, and what the validation people give."""
    told = []
    for number in sorted({row["epoch"] for row in log}):
        steps = [row for row in log if row["epoch"] == number and "loss" in row]
        means = {name: round(sum(row[name] for row in steps) / len(steps), 4) for name in steps[0] if name != "step"}
        validated = [row for row in log if row["epoch"] == number and "validation_f1" in row]
        told.append(means | (validated[0] if validated else {}))
    return told


if __name__ == "__main__":
    main()
