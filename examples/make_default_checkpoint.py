"""Make the embedded default checkpoint again, from the first synthetic face to the last weight.

    make default-checkpoint FACE_MODEL=face_model.npz
    python examples/make_default_checkpoint.py --face-model face_model.npz --work work -o fedn_hf/weights/default

1. Videos of synthetic people (`fedn synth`).
2. A backbone that says what their muscles do (examples/recipes/default_backbone.yaml).
3. FEDN on what it sees and on the face's landmarks (examples/recipes/default.yaml), of every video and of its mirror
   image; the people of the set's validation choose the epoch, the calibration of scores and the threshold, those of
   its tests train, too: benchmarks have people of their own.

What was stopped goes on where it was. `log.json` beside the recipes keeps what every epoch gave. No real face is seen.
"""

import argparse
import json
import os
from pathlib import Path

import torch
import transformers

from fedn_hf import FednForFacialExpressionDetection, FednVideoProcessor, ProgressHook, load_pipeline
from fedn_hf.data.augmentation import flip_horizontally
from fedn_hf.data.cache import FeatureCache, VideoFeatures, crops_of
from fedn_hf.files_fedn import replacing
from fedn_hf.synthetic.render import Order, render
from fedn_hf.training import Recipe, train_one, video_rows
from fedn_hf.training.backbone import known_faces, train_backbone
from fedn_hf.training.inputs import make_model, processor_of

RECIPES = Path(__file__).parent / "recipes"
PEOPLE = Order(subjects=100, videos_per_subject=1, seconds=50, seed=1, statistics="samm_lv")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--face-model", help="else the environment variable FEDN_FACE_MODEL says where")
    parser.add_argument("--work", type=Path, required=True, help="folder for all that is made on the way, some 10 GB")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()  # of loading weights
    people, cache = arguments.work / "people", FeatureCache(arguments.work / "cache")
    render(PEOPLE, people, face_model=arguments.face_model, workers=os.cpu_count(), progress=print)
    backbone, recipe = Recipe.read(RECIPES / "default_backbone.yaml"), Recipe.read(RECIPES / "default.yaml")
    with ProgressHook() as hook:
        config = recipe.config([])
        faces = known_faces(people, config, FednVideoProcessor(), cache=cache, hook=hook)
        run = arguments.work / "backbone"
        log = {"backbone": train_backbone(faces, config, FednVideoProcessor(), backbone.training, run, hook=hook)}
        recipe = recipe.with_values({"backbone": str(run / "backbone")})
        rows, labels = video_rows(people, recipe, cache=cache, hook=hook)
        rows = [{**row, "split": row["split"].replace("test", "train")} for row in rows]
        trained = [row for row in rows if row["split"] == "train"]
        rows += mirrored(trained, make_model(recipe.config(labels), recipe).eval(), cache)
        trained = train_one(rows, labels, recipe, arguments.work / "run", hook=hook)
    log["network"] = trained.result.log
    epochs = {name: [row for row in log[name] if "epoch" not in row or "validation_f1" in row] for name in log}
    epochs |= {"threshold": trained.threshold, "validation_f1": trained.threshold_f1}
    epochs |= {"calibration": trained.calibration, "seconds": trained.result.seconds}
    load_pipeline(arguments.work / "run" / "model").save_pretrained(arguments.output)
    with replacing(RECIPES / "default_log.json") as unfinished:
        unfinished.write_text(json.dumps(epochs, indent=1) + "\n", "utf-8")
    print(f"{arguments.output}: F1 {trained.threshold_f1:.4f} on the validation people at {trained.threshold}")


@torch.no_grad()
def mirrored(rows: list[dict], model: FednForFacialExpressionDetection, cache: FeatureCache) -> list[dict]:
    """The same videos as in a mirror: as many people again, who lean to the other side."""
    processor, found = processor_of(model.config), []
    for row in rows:
        crops = crops_of(row["video"], model.config, processor, cache=cache)
        inputs = flip_horizontally(crops.inputs, torch.Generator(), probability=1.0)
        pictures, mask = inputs.pop("crops"), inputs["frame_mask"]
        inputs["frame_features"] = torch.zeros(len(mask), model.config.feature_size)
        for part in torch.nonzero(mask)[:, 0].split(256):
            pixels = processor(pictures[part], return_tensors="pt")["pixel_values"][0]
            inputs["frame_features"][part] = model.encode_frames(pixels)
        features = VideoFeatures(inputs, crops.native_frame, crops.time_s, crops.facts)
        found.append({**row, "video_id": f"{row['video_id']}_mirrored", "features": features})
    return found


if __name__ == "__main__":
    main()
