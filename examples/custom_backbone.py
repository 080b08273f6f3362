"""Let FEDN look at faces through a backbone of your choice: any of transformers', from the Hub or a folder.

    python examples/custom_backbone.py microsoft/resnet-50 -o start
    fedn train --videos corpus --validation s15 --set checkpoint=start -o run

What comes out is a whole checkpoint: the backbone as it was trained, frozen, and behind it a temporal network that has
learnt nothing yet. `fedn train` trains the latter; the backbone sees each frame once, and its features are kept.
Only safetensors are read.
"""

import argparse

from transformers import MODEL_FOR_BACKBONE_MAPPING, AutoConfig, pipeline

from dataset_scripts.labels import SCHEMES
from fedn_hf import FednConfig, FednError, FednForFacialExpressionDetection, FednVideoProcessor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("backbone", help="a folder, or a model on the Hub")
    parser.add_argument("--image-size", type=int, default=112, help="side of the face crops in pixels")
    parser.add_argument("--scheme", choices=SCHEMES, default="objective_4", help="emotion classes of your corpus")
    parser.add_argument("-o", "--output", required=True)
    arguments = parser.parse_args()

    # 1. The backbone. Its last feature map (N, C, h, w) is averaged over h and w: C is what FEDN gets of a frame.
    known = AutoConfig.from_pretrained(arguments.backbone)
    if type(known) not in MODEL_FOR_BACKBONE_MAPPING:
        raise SystemExit(f'{arguments.backbone}: transformers has no backbone of type "{known.model_type}"')
    trained = MODEL_FOR_BACKBONE_MAPPING[type(known)].from_pretrained(arguments.backbone, use_safetensors=True)

    # 2. FEDN around it. Everything else is the paper's; each field may be set here.
    config = FednConfig(
        backbone_config=trained.config,
        feature_size=trained.channels[-1],
        image_size=arguments.image_size,
        id2label=dict(enumerate(SCHEMES[arguments.scheme])),
    )
    model = FednForFacialExpressionDetection(config)
    model.fedn.frame_encoder.backbone.load_state_dict(trained.state_dict())

    # 3. Crops come to the backbone normalised as ImageNet is; for another mean give `image_mean` and `image_std`, and
    #    train from Python, with this processor.
    processor = FednVideoProcessor(size={"height": config.image_size, "width": config.image_size})

    # 4. A checkpoint as any other: network, processor, face networks, code and a card.
    pipeline("facial-expression-detection", model=model, video_processor=processor).save_pretrained(arguments.output)
    sizes = {name: sum(p.numel() for p in part.parameters()) / 1e6 for name, part in (("", model), ("b", trained))}
    print(f"{arguments.output}: {sizes['']:.2f} M weights, of which {sizes['b']:.2f} M of the backbone are frozen")
    print(f"now: fedn train --videos CORPUS --validation SUBJECT --set checkpoint={arguments.output} -o run")


if __name__ == "__main__":
    try:
        main()
    except FednError as error:
        raise SystemExit(f"error: {error}") from None
