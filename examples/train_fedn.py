"""Train FEDN on features of a corpus and score it on people it has never seen: a script to copy and change.

    python examples/train_fedn.py mdmo12.npz SHEETS run
    accelerate launch --num_processes 4 examples/train_fedn.py mdmo12.npz SHEETS run     # on four GPUs

The first argument is what `dataset_scripts.features` reads, the second the folder with the corpus's label sheets. In
`run/best` is the network of the best epoch; F1 is printed of those who chose epoch and threshold, and of those who did
not. For every subject in turn, with everything chosen by the others, there is `loso.py`, or `fedn loso`.
"""

import argparse
from pathlib import Path

import torch

from fedn_hf import FednConfig, FednError, FednForFacialExpressionDetection, ProgressHook
from fedn_hf.data.folds import grouped_k_fold
from fedn_hf.metrics import Expressions, spotting
from fedn_hf.training import DetectionSettings, FeatureRecipe, FeatureSettings, TrainingSettings, corpus_rows, train
from fedn_hf.training.detections import raw_detections


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("features", type=Path)
    parser.add_argument("sheets", type=Path)
    parser.add_argument("run", type=Path, help="a folder: new, or of the same run that was stopped")
    parser.add_argument("--corpus", default="casme_2", help="casme_2, casme_3, samm_lv or folder_csv")
    parser.add_argument("--fps", type=float, help="of the features of folder_csv")
    parser.add_argument("--epochs", type=int, default=12)
    arguments = parser.parse_args()

    # 1. The corpus, and who trains, says when to stop, and is tested: whole subjects each.
    options = {} if arguments.fps is None else {"fps": arguments.fps}
    rows, labels = corpus_rows(arguments.corpus, arguments.features, arguments.sheets, "objective_4", **options)
    subjects, videos = [row["subject_id"] for row in rows], [row["video_id"] for row in rows]
    fold = grouped_k_fold(subjects, k=5, num_validation=3)[0]
    parts = {name: [rows[n] for n in numbers] for name, numbers in fold.rows(subjects, videos).items()}

    # 2. What goes into the network: standardised by those who train, flow and its leaky sum, at 30 frames per second.
    recipe = FeatureRecipe.fit(
        [row["features"] for row in parts["train"]], FeatureSettings(clip=8.0, leak=0.98, leak_scale=0.2)
    )
    config = FednConfig(
        backbone_config=None,
        feature_size=recipe.num_channels,
        hidden_size=96,
        num_attention_heads=4,
        id2label=dict(enumerate(labels)),
    )
    sequences = {name: [recipe.sequence(row, config) for row in part] for name, part in parts.items()}

    # 3. Train. The same call goes on where it was stopped; `run/best` is the network of the best epoch.
    settings = TrainingSettings(
        epochs=arguments.epochs,
        early_stopping_epochs=4,
        ema_decay=0.99,
        augmentations={"change_gain": {"ratio": 1.25}},
    )
    torch.manual_seed(settings.seed)
    with ProgressHook() as hook:
        result = train(
            FednForFacialExpressionDetection(config),
            sequences["train"],
            settings,
            arguments.run,
            validation=sequences["validation"],
            hook=hook,
        )
    print(f"best epoch {result.best_epoch}, validation F1 {result.best_score:.4f}, {result.seconds:.0f} s")

    test(arguments.run / "best", sequences, parts)


def test(checkpoint: Path, sequences: dict[str, list], parts: dict[str, list[dict]]) -> None:
    """4. The threshold comes from the validation subjects, the number from the test subjects."""
    model = FednForFacialExpressionDetection.from_pretrained(checkpoint).eval()
    found, marked = {}, {}
    for part in ("validation", "test"):
        found[part] = table(raw_detections(model, sequences[part], DetectionSettings()))
        marked[part] = table([{**event, "subject": row["subject_id"], "video": row["video_id"]}
                              for row in parts[part] for event in row["events"]])  # fmt: skip

    def score(part: str, threshold: float):
        return spotting(found[part][found[part].score >= threshold], marked[part])

    threshold = max((n / 50 for n in range(1, 50)), key=lambda value: score("validation", value).f1)
    print(f"threshold {threshold}, F1 {score('validation', threshold).f1:.4f} of those who chose it")
    print(score("test", threshold))


def table(rows: list[dict]) -> Expressions:
    names = ("subject", "video", "onset", "apex", "offset", "type", "score")
    return Expressions.from_rows([{name: row.get(name) for name in names} for row in rows])


if __name__ == "__main__":
    try:
        main()
    except FednError as error:
        raise SystemExit(f"error: {error}") from None
