"""Write the card of the embedded default checkpoint, with the figures that the benchmarks have left:

    python examples/make_default_card.py fedn_hf/weights/default

Figures come from synthetic_default.json and real_clips.json in examples/benchmarks/results, and from what the training
logged.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
import transformers

from fedn_hf import FednConfig, __version__
from fedn_hf.model_card import DatasetUse, GroupResult, MetricResult, ModelCard, Provenance

HERE = Path(__file__).parent
SYNTHETIC, CLIPS = "fedn_hf synthetic people, seed 2", "eleven clips of real faces, marked by eye"
COMMANDS = {
    SYNTHETIC: (
        "python examples/benchmarks/synthetic.py --train people --test strangers "
        "--recipe examples/recipes/default.yaml --checkpoint fedn_hf/weights/default -o runs"
    ),
    CLIPS: "python examples/benchmarks/real_clips.py --clips CLIPS",
}
PROTOCOLS = {
    SYNTHETIC: "strict; nobody of them was seen, thresholds per type chosen by the validation people",
    CLIPS: "the checkpoint's own threshold for all clips; nothing was chosen on them",
}
SHOWN = (
    *("F1", "F1 macro", "F1 micro", "F1 macro, each type's own threshold", "F1 micro, each type's own threshold"),
    *("mAP@0.5 emotions", "mAP@0.3:0.7 emotions", "STRS", "UF1 on true intervals", "false alarms per minute"),
    *("onset error, median ms", "offset error, median ms"),
)
# Names of the benchmark -> groups that every card lists.
GROUPS = {"skin tone": "skin tone", "frame rate": "frame rate", "compression (crf)": "compression"}
GROUPS |= {"head motion, macro": "head motion", "head motion, micro": "head motion"}


def named(name: str) -> str:
    """A figure's name; those on micro-expressions say so in full."""
    return "spotting " + name.replace("micro", "micro-expressions").replace("macro", "macro-expressions")


def metrics(synthetic: dict[str, Any], clips: dict[str, Any]) -> list[MetricResult]:
    [run] = synthetic["variants"]["checkpoint"]["runs"]
    interval = synthetic["variants"]["checkpoint"]["intervals"]["spotting"]
    spread = {"F1": "95 % over people: {:.3f} to {:.3f}".format(*interval["f1 overall"][1:])}
    of = {"dataset": SYNTHETIC, "protocol": PROTOCOLS[SYNTHETIC], "command": COMMANDS[SYNTHETIC], "seeds": 1}
    found = [
        MetricResult(
            name=named(name) if name.startswith("F1") else name, value=run[name], spread=spread.get(name), **of
        )
        for name in SHOWN
        if run.get(name) is not None
    ]
    of = {"dataset": CLIPS, "protocol": PROTOCOLS[CLIPS], "command": COMMANDS[CLIPS], "seeds": 1}
    for name in ("events", "hits at 0.3", "hits at 0.5", "labels right", "false alarms per quiet minute"):
        found.append(MetricResult(name=name, value=clips["summary"][name], **of))
    return found


def groups(synthetic: dict[str, Any]) -> list[GroupResult]:
    of = {"dataset": SYNTHETIC, "protocol": PROTOCOLS[SYNTHETIC], "command": COMMANDS[SYNTHETIC], "seeds": 1}
    found = []
    for name, parts in synthetic["breakdown"].items():
        for part, counts in parts.items():
            kind = "micro-expressions" if name.endswith("micro") else "macro-expressions"
            what = ("f1", "spotting F1") if "f1" in counts else ("recall", f"recall of {kind}")
            group = GROUPS.get(name, name.partition(",")[0])
            found.append(GroupResult(group=group, subgroup=part, name=what[1], value=counts[what[0]], **of))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    arguments = parser.parse_args()
    synthetic, clips = (
        json.loads((HERE / "benchmarks" / "results" / f"{name}.json").read_text("utf-8"))
        for name in ("synthetic_default", "real_clips")
    )
    people = {"url": None, "licence": "apache-2.0", "synthetic": True}
    card = ModelCard.from_config(
        FednConfig.from_pretrained(arguments.checkpoint),
        title="The embedded default of fedn_hf",
        summary=(
            "Finds facial expressions in long videos: onset, apex, offset, whether each is a macro- or a "
            "micro-expression, and which emotion class coders would give it. It has learnt from synthetic faces "
            "alone: no real face was seen in training, and what is known of real ones is a handful of clips. On "
            "micro-expressions of real people it is unproven."
        ),
        licence="apache-2.0",
        label_source="the recipes of action units that synthetic faces are moved by",
        training_data=[
            DatasetUse(name="fedn_hf synthetic people, seed 1", role="trained on", videos=80, subjects=80, **people),
            DatasetUse(name="others of seed 1", role="validated on", videos=20, subjects=20, **people),
            DatasetUse(name=SYNTHETIC, role="tested on", videos=60, subjects=20, hours=1.0, **people),
            DatasetUse(name=CLIPS, role="tested on", synthetic=False, videos=11),
        ],
        metrics=metrics(synthetic, clips),
        group_results=groups(synthetic),
        threshold_choice="the best strict F1 on the synthetic validation people, after scores were calibrated on them",
        provenance=Provenance(
            package_version=__version__,
            transformers_version=transformers.__version__,
            torch_version=torch.__version__,
            seed=0,
            command="make default-checkpoint",
        ),
    )
    card.save(arguments.checkpoint)


if __name__ == "__main__":
    main()
