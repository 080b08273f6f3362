"""Fine-tune a checkpoint on a corpus of one's own, see whether that helped, and put it on the Hub.

    python examples/finetune_and_push.py corpus -o tuned --push name/of-model      # of another one: --model CHECKPOINT

The corpus is what `fedn prepare` (with --scheme emotion_7) or `fedn synth` wrote. Validation people, its own or the
last two, choose epoch and threshold; F1 (strict) is told of its test people, or of those who validate, which flatters.
"""

import argparse
import shlex
import sys
from pathlib import Path

from dataset_scripts.labels import SCHEMES
from fedn_hf import FednConfig, FednError, FednForFacialExpressionDetection, ProgressHook, __version__, load_pipeline
from fedn_hf.data.cache import FeatureCache
from fedn_hf.hub import push_to_hub
from fedn_hf.metrics import Expressions, spotting
from fedn_hf.model_card import DatasetUse, MetricResult, ModelCard, Provenance
from fedn_hf.training import Recipe, TrainingSettings, train_one, video_rows
from fedn_hf.training.detections import raw_detections
from fedn_hf.training.inputs import Inputs, without_events
from fedn_hf.training.report import expressions, truth_of
from fedn_hf.training.selection import best_threshold
from fedn_hf.training.single import AS_REPORTED


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--model", help="a folder or a model on the Hub; the embedded default if it is not given")
    parser.add_argument("--scheme", choices=SCHEMES, help="of the corpus; that of the checkpoint by default")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--push", metavar="NAME", help='"name/of-model" on the Hub')
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()

    # 1. The checkpoint, and how to go on from it: in small steps, with a backbone that stays as it is.
    before = load_pipeline(arguments.model, device="cpu").model
    origin = arguments.model or f"the embedded default of fedn_hf {__version__}"
    schemes = [name for name, classes in SCHEMES.items() if classes == tuple(before.config.id2label.values())]
    if not (schemes or arguments.scheme):
        parser.error(f"{origin} names emotions by no scheme of a corpus; give the corpus's with --scheme")
    how = TrainingSettings(epochs=arguments.epochs, learning_rate=1e-4, ema_decay=0.99)
    scheme = arguments.scheme or schemes[0]
    recipe = Recipe(checkpoint=before.name_or_path, scheme=scheme, model={"freeze_backbone": True}, training=how)

    # 2. The corpus, through the backbone once; who trains, chooses and is only looked at; and the training.
    with ProgressHook() as hook:
        rows, labels = video_rows(arguments.corpus, recipe, cache=FeatureCache(), hook=hook)
        parts = parts_of(rows)
        people = {row["subject_id"] for row in parts["validated on"]}
        recipe = recipe.with_values(fitting(parts["trained on"], before.config))
        train_one(rows, labels, recipe, arguments.output / "run", validation=people, hook=hook)
    detect = load_pipeline(arguments.output / "run" / "model", device="cpu")

    # 3. Did it help, or would another threshold have been enough?
    held_out, after = parts["tested on"] or parts["validated on"], detect.model
    chosen, _ = best_threshold(found_in(before, parts["validated on"]), truth_of(parts["validated on"])[0])
    found, tuned = found_in(before, held_out), f1(found_in(after, held_out), held_out, after.config.score_threshold)
    print(f"before: F1 {f1(found, held_out, before.config.score_threshold):.4f} of {len(held_out)} videos")
    print(f"before, with a threshold chosen here: F1 {f1(found, held_out, chosen):.4f}\nfine-tuned: F1 {tuned:.4f}")

    # 4. The whole checkpoint, with a card that says where it comes from; and to the Hub.
    name, command = arguments.corpus.resolve().name, shlex.join(["python", *sys.argv])
    protocol = "strict, people who " + ("neither trained nor chose" if parts["tested on"] else "chose the threshold")
    used = [use(name, role, part) for role, part in parts.items() if part]
    score = MetricResult(dataset=name, protocol=protocol, name="spotting F1", value=tuned, command=command)
    made = Provenance(parent_checkpoint=origin, command=command, package_version=__version__)
    known = {"base_model": origin, "training_data": used, "metrics": [score], "provenance": made}
    known["threshold_choice"] = "the best F1 (strict) on the validation people"
    card = ModelCard.from_config(after.config, model_id=arguments.push, **known)
    card.save(folder := arguments.output / "checkpoint")
    detect.save_pretrained(folder)
    print(push_to_hub(folder, arguments.push) if arguments.push else f"{folder}: ready for load_pipeline")


def parts_of(rows: list[dict]) -> dict[str, list[dict]]:
    people = sorted({row["subject_id"] for row in rows if row["split"] != "test"})
    chosen = {row["subject_id"] for row in rows if row["split"] == "validation"} or people[-2:]
    parts = {"trained on": [], "validated on": [], "tested on": []}
    for row in rows:
        part = "validated on" if row["subject_id"] in chosen else "trained on"
        parts["tested on" if row["split"] == "test" else part].append(row)
    return parts


def fitting(rows: list[dict], config: FednConfig) -> dict:
    """Settings for a small corpus: batches that it fills, and windows without events only where there is room."""
    quiet_s = [0.0]
    for row in rows:
        edges = [0, *sorted(event[name] for event in row["events"] for name in ("onset", "offset")), row["num_frames"]]
        quiet_s += [(end - start) / row["fps"] for start, end in zip(edges[::2], edges[1::2], strict=True)]
    has_room = max(quiet_s) > 1.2 * config.window_size / config.frame_rate
    events = sum(len(row["events"]) for row in rows)
    return {"training.batch_size": max(1, min(16, events)), "training.positive_fraction": 0.5 if has_room else 1.0}


def found_in(model: FednForFacialExpressionDetection, rows: list[dict]) -> Expressions:
    """What a network reports of videos, down to a low score; what is marked there it does not see."""
    inputs = Inputs(model.config, None)
    sequences = (inputs.sequence(without_events(row)) for row in rows)
    return expressions(raw_detections(model.eval(), sequences, AS_REPORTED, inputs.video_processor, all_types=False))


def f1(found: Expressions, rows: list[dict], threshold: float | None) -> float:
    """Strict, of what has at least this score; `None` is a threshold that nobody could choose."""
    kept = found[found.score >= threshold] if len(found) and threshold is not None else found[:0]
    return spotting(kept, truth_of(rows)[0]).f1


def use(corpus: str, role: str, rows: list[dict]) -> DatasetUse:
    return DatasetUse(name=corpus, role=role, videos=len(rows), subjects=len({row["subject_id"] for row in rows}))


if __name__ == "__main__":
    try:
        main()
    except FednError as error:
        raise SystemExit(f"error: {error}") from None
