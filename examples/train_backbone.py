"""Train a backbone on synthetic faces, whose every muscle is known, for recipes that look at pixels.

    fedn synth --subjects 100 --videos-per-subject 1 --seconds 50 --seed 1 --statistics samm_lv -o people
    python examples/train_backbone.py people -o run       # then: fedn train ... --set backbone=run/backbone

The network and the settings are those of examples/recipes/backbone.yaml, or of `--config`.
"""

import argparse
from pathlib import Path

from fedn_hf import ProgressHook
from fedn_hf.data.cache import FeatureCache
from fedn_hf.training import Recipe
from fedn_hf.training.backbone import known_faces, train_backbone
from fedn_hf.training.inputs import processor_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("people", type=Path, help="a set of fedn synth")
    parser.add_argument("--config", type=Path, default=Path(__file__).parent / "recipes" / "backbone.yaml")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    recipe = Recipe.read(arguments.config)
    config = recipe.config(["others"])
    processor = processor_of(config)
    with ProgressHook() as hook:
        faces = known_faces(arguments.people, config, processor, cache=FeatureCache(), hook=hook)
        log = train_backbone(faces, config, processor, recipe.training, arguments.output, hook=hook)
    for row in log:
        if "correlation" in row:
            told = ", ".join(f"{name} {value:.2f}" for name, value in row["correlation"].items())
            print(f"step {row['step']}: correlation within unseen videos: {told}")
    print(f"{arguments.output / 'backbone'}: ready for recipe.backbone")


if __name__ == "__main__":
    main()
