"""How well do networks detect expressions of synthetic people whom they have never seen, end to end from videos?

    fedn synth --subjects 100 --videos-per-subject 1 --seconds 50 --seed 1 -o people      # to train and to validate
    fedn synth --subjects 20 --videos-per-subject 3 --seconds 60 --seed 2 -o strangers    # to test
    python examples/benchmarks/synthetic.py --train people --test strangers --recipe RECIPE.yaml -o runs

Of the first set validation people choose the epoch and a threshold per type, and all others train; everybody in the
second one is tested, and their videos come without events. What goes into networks is computed once (`--cache`).
Variants differ from the recipe in one thing each. "cascade" puts together the networks of "spotting only" and of
"recognition only", and trains what of them is not there; "flow rule" learns nothing but settings, thresholds on
optical flow as in synthetic_world.py (about 75 frames per second and core: `--flow-videos 1` takes one video of each
stranger).

Nothing is done twice, so the same command goes on after a stop, and `--variants` and `--seeds` let processes share the
work in one OUT; the last one to end writes OUT/results.json with all of it and prints Markdown. `--checkpoint` scores
a finished network in place of training some, with thresholds of the same validation people.
"""

import argparse
import json
import platform
import resource
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from synthetic_report import markdown, report

from fedn_hf import FednForFacialExpressionDetection, ProgressHook, __version__
from fedn_hf.data.cache import FeatureCache
from fedn_hf.files_fedn import replacing
from fedn_hf.media_fedn import FednError
from fedn_hf.sandbox import give_memory_back
from fedn_hf.training import Recipe, train, video_rows
from fedn_hf.training.checkpoints import chosen_network, differing
from fedn_hf.training.detections import raw_detections, write_detections
from fedn_hf.training.inputs import Inputs, Row, in_corpus, make_model, without_events
from fedn_hf.training.recognition import with_named_emotions
from fedn_hf.training.report import event_rows
from fedn_hf.training.settings import FREE_SETTINGS

TRAINED = {
    "joint": {},
    "spotting only": {"model.heads": "spotting"},
    "recognition only": {"model.heads": "recognition"},
    "no segment attention": {"model.use_segment_attention": False},
    "no sliding-window attention": {"model.use_sliding_window_attention": False},
}
VARIANTS = (*TRAINED, "cascade", "flow rule")
FINISHED = "checkpoint"


@dataclass(frozen=True)
class People:
    """Rows of videos: of those who train, who validate, and who are tested. They are called by their set."""

    trained: list[Row]
    validation: list[Row]
    tested: list[Row]
    labels: tuple[str, ...]
    recipe: Recipe

    @classmethod
    def read(cls, train: Path, test: Path, recipe: Recipe, cache: FeatureCache, hook=None) -> "People":
        """Of two sets. Where a checkpoint is only scored nobody trains, so nobody's features are computed for that."""
        orders = [folder / ".synth" / "order.json" for folder in (train, test)]
        seeds = [json.loads(path.read_text("utf-8"))["seed"] for path in orders if path.exists()]
        if len(seeds) > len(set(seeds)):  # who somebody is depends on the seed and a number
            raise FednError(
                f"people of {train} and {test} are the same: both have seed {seeds[0]}; make one by another"
            )
        alone = recipe.checkpoint is not None
        filmed = recipe.with_values({"reenactments": 0})
        folder, wanted = (train / "validation", filmed) if alone else (train, recipe)
        rows, labels = video_rows(folder, wanted, cache=cache, hook=hook)
        tested, _ = video_rows(test, filmed, cache=cache, hook=hook)
        rows, validates = in_corpus("train", rows), [alone or row["split"] == "validation" for row in rows]
        parts = [[row for row, is_one in zip(rows, validates, strict=True) if is_one == wanted] for wanted in (0, 1)]
        if not parts[1]:
            raise FednError(f"nobody of {train} validates; `fedn synth` takes every fifth person for that: make more")
        return cls(*parts, in_corpus("test", tested), labels, recipe)

    def counts(self) -> dict[str, dict[str, int]]:
        """Of the three parts, for the results and to know another set by."""
        return {
            part: {
                "people": len({row["subject_id"] for row in getattr(self, part)}),
                "videos": len(getattr(self, part)),
                "events": sum(len(row["events"]) for row in getattr(self, part)),
            }
            for part in ("trained", "validation", "tested")
        }


# --- what networks find ----------------------------------------------------------------------------------------------


def run(people: People, variant: str, seed: int, out: Path, flow_videos: int | None = None) -> None:
    """Train what a variant needs, and write what it finds in validation and test videos, if that is not done."""
    folder, trained = folder_of(out, variant, seed), []
    if begin(folder, people, variant, seed):
        return
    started = time.monotonic()
    if variant == "flow rule":
        from synthetic_flow import flow_rule  # needs the extra `synthetic`

        tested = list(first_videos(people.tested, flow_videos))
        dump([row["video_id"] for row in tested], folder / "videos.json")
        for part, found in flow_rule(people.validation, tested, folder).items():
            write(found, people, folder / f"{part}.parquet")
    elif variant == FINISHED:
        detect(people, *finished(people), folder)
    else:
        trained = ["spotting only", "recognition only"] if variant == "cascade" else [variant]
        (model, inputs), *others = [network(people, each, seed, out) for each in trained]
        detect(people, model, inputs, folder, recogniser=others[0][0] if others else None)
    costs = [folder_of(out, each, seed) / "training" / "cost.json" for each in trained]
    training = [json.loads(path.read_text("utf-8")) for path in costs]
    seconds = time.monotonic() - started
    dump({"seconds": seconds, "peak_memory_mib": peak_mib(), "training": training}, folder / "cost.json")
    print(f"{folder}: {seconds:.0f} s", flush=True)


def begin(folder: Path, people: People, variant: str, seed: int) -> bool:
    """Whether a run is done already; refuses to mix it with one on other people or by another recipe."""
    told = {"variant": variant, "seed": seed, "recipe": people.recipe.to_dict(), "people": people.counts()}
    told["recipe"]["training"] = {k: v for k, v in told["recipe"]["training"].items() if k not in FREE_SETTINGS}
    told, path = json.loads(json.dumps(told)), folder / "run.json"
    if path.exists() and (differences := differing(json.loads(path.read_text("utf-8")), told)):
        raise FednError(f"{folder} holds another run: {'; '.join(differences)}. Use another folder for the results")
    folder.mkdir(parents=True, exist_ok=True)
    dump(told, path)
    return (folder / "cost.json").exists()


def first_videos(rows: list[Row], count: int | None) -> Iterator[Row]:
    """So many of each person, all by default."""
    seen: Counter = Counter()
    for row in rows:
        seen[row["subject_id"]] += 1
        if count is None or seen[row["subject_id"]] <= count:
            yield row


def network(people: People, variant: str, seed: int, out: Path) -> tuple[FednForFacialExpressionDetection, Inputs]:
    """The network of a variant, and how rows go into it; trained now if it is not there."""
    folder = folder_of(out, variant, seed) / "training"
    recipe = people.recipe.with_values({**TRAINED[variant], "training.seed": seed})
    inputs, cost = Inputs.fit(people.trained, people.labels, recipe), folder / "cost.json"
    if not cost.exists():
        whole = not folder.exists()
        result = train(
            make_model(inputs.config, recipe),
            [inputs.sequence(row) for row in people.trained],
            recipe.training,
            folder,
            validation=[inputs.sequence(row) for row in people.validation],
            detection=recipe.detection,
            video_processor=inputs.video_processor,
        )
        seconds = result.seconds if whole else None  # of one that was stopped nobody knows
        dump({"seconds": seconds, "best_epoch": result.best_epoch, "peak_memory_mib": peak_mib()}, cost)
    return chosen_network(folder), inputs


def finished(people: People) -> tuple[FednForFacialExpressionDetection, Inputs]:
    """The network of a checkpoint, as it is."""
    model = FednForFacialExpressionDetection.from_pretrained(people.recipe.checkpoint).eval()
    if model.config.heads != "spotting" and tuple(model.config.id2label.values()) != people.labels:
        named, scheme = ", ".join(model.config.id2label.values()), people.recipe.scheme
        raise FednError(f"{people.recipe.checkpoint} names {named}; the recipe must have its scheme, got {scheme}")
    return model, Inputs(model.config, None)


def detect(
    people: People,
    model: FednForFacialExpressionDetection,
    inputs: Inputs,
    folder: Path,
    recogniser: FednForFacialExpressionDetection | None = None,
) -> None:
    """Write everything that is found, and the emotions that are given to events of which it is known when they are."""
    settings, processor, heads = people.recipe.detection, inputs.video_processor, model.config.heads
    for part in ("validation", "tested") if heads != "recognition" else ():
        sequences = (inputs.sequence(without_events(row)) for row in getattr(people, part))
        write(raw_detections(model, sequences, settings, processor, recogniser), people, folder / f"{part}.parquet")
    if heads != "spotting" or recogniser is not None:
        namer = model if recogniser is None else recogniser
        named = event_rows([with_named_emotions(namer, inputs, row) for row in people.tested])
        named = [{**event, "score": 1.0} for event in named]
        write(named, people, folder / "named.parquet")


def write(found: list[dict[str, Any]], people: People, path: Path) -> None:
    fps = {row["video_id"]: float(row["fps"]) for row in (*people.validation, *people.tested)}
    write_detections([{**row, "fps": fps[row["video"]]} for row in found], path)


def folder_of(out: Path, variant: str, seed: int) -> Path:
    return out / variant.replace(" ", "_") / f"seed-{seed}"


def dump(told: Any, path: Path) -> None:
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps(told, indent=1), encoding="utf-8")


def peak_mib() -> float:
    """Of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# --- all of it -------------------------------------------------------------------------------------------------------


def runs_in(out: Path) -> dict[str, dict[int, Path]]:
    """Variant -> seed -> folder, of all that is done."""
    done: dict[str, dict[int, Path]] = {}
    for variant in (*VARIANTS, FINISHED):
        folders = [path.parent for path in folder_of(out, variant, 0).parent.glob("seed-*/cost.json")]
        if folders:
            done[variant] = {int(f.name.removeprefix("seed-")): f for f in sorted(folders)}
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--train", type=Path, required=True, help="a set of fedn synth")
    parser.add_argument("--test", type=Path, required=True, help="another one, by another seed")
    parser.add_argument("--recipe", type=Path, required=True)
    parser.add_argument("--cache", type=Path, help="of features; FEDN_CACHE or ~/.cache/fedn_hf by default")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--checkpoint", help="a folder or a model on the Hub to score in place of variants")
    parser.add_argument(
        "--flow-videos", type=int, metavar="N", help="the flow rule looks at N videos of each stranger"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    give_memory_back()
    transformers.utils.logging.disable_progress_bar()  # of loading weights
    datasets.disable_progress_bars()
    recipe, variants = Recipe.read(arguments.recipe), arguments.variants
    if arguments.checkpoint is not None:
        changes = {"checkpoint": arguments.checkpoint, "backbone": None, "model": {"freeze_backbone": True}}
        recipe, variants = recipe.with_values(changes), [FINISHED]
    with ProgressHook() as hook:
        people = People.read(arguments.train, arguments.test, recipe, FeatureCache(arguments.cache), hook)
    for seed in arguments.seeds:
        for variant in variants:
            is_drawn = variant in TRAINED or variant == "cascade"
            if is_drawn or seed == arguments.seeds[0]:
                run(people, variant, seed if is_drawn else 0, arguments.output, arguments.flow_videos)
    facts = {
        "fedn_hf": __version__,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "sets": people.counts(),
    }
    told = {**facts, **report(runs_in(arguments.output), people.validation, people.tested, arguments.test)}
    dump(told, arguments.output / "results.json")
    print(markdown(told))


if __name__ == "__main__":
    main()
