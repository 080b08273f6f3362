"""One network of a corpus, as it is given to others: who trains and who validates, and what validation chooses.

    run/model/            the network: of the best epoch where subjects validate, else of the last one
    run/best, run/latest  its checkpoints

The score from which on it reports (`config.score_threshold`) is the one that finds most on the validation subjects.
Where nobody validates it stays as it is, as on those who train any network looks good.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from accelerate import PartialState

from ..data.sequences import FednSequence
from ..metrics import Expressions
from ..modeling_fedn import FednForFacialExpressionDetection
from .checkpoints import chosen_network
from .detections import marked_events, raw_detections
from .inputs import Inputs, Row, make_model
from .loop import TrainingResult, train
from .selection import best_threshold
from .settings import DetectionSettings, Recipe, TrainingError

# What the pipeline does unless it is told otherwise; a threshold is chosen for that.
AS_REPORTED = DetectionSettings(nms="soft")


@dataclass(frozen=True)
class Trained:
    """
    What `train_one` gives.

    Args:
        result: How the training went.
        num_videos: That trained.
        threshold: The score from which on the network reports, `None` where nobody could choose it.
        threshold_f1: Strict F1 on the validation subjects with it.
    """

    result: TrainingResult
    num_videos: int
    threshold: float | None = None
    threshold_f1: float | None = None


def train_one(
    rows: Sequence[Row],
    labels: Iterable[str],
    recipe: Recipe,
    folder: str | Path,
    *,
    validation: Iterable[str] = (),
    hook: Callable | None = None,
) -> Trained:
    """
    Train a network on a corpus, or go on with that, and write `FOLDER/model`.

    Args:
        rows: Of the corpus, with `features`; see `inputs.corpus_rows`. Those whose `split` is "test" do not train.
        labels: Emotion classes of the scheme, in order.
        recipe: How.
        folder: New, or that of the same run.
        validation: Subjects who do not train, but choose. Without any: those whose `split` is "validation", or the
            last `recipe.num_validation` by name.
        hook: Called as the pipeline's.

    Raises:
        TrainingError: see `train`; a subject that there is not, nobody left to train, or a recipe for folds.

    Example:

    ```python
    >>> from fedn_hf.training import Recipe, corpus_rows, train_one

    >>> recipe = Recipe.read("examples/recipes/mdmo_features.yaml")  # doctest: +SKIP
    >>> rows, labels = corpus_rows("casme_2", "mdmo.npz", "CASME_sq", recipe.scheme)  # doctest: +SKIP
    >>> train_one(rows, labels, recipe, "run", validation=["s15"]).threshold  # doctest: +SKIP
    0.36
    ```
    """
    if recipe.system != "joint":
        raise TrainingError(f"recipe.system={recipe.system} is for folds (fedn loso); here one network is trained")
    folder, validation = Path(folder), _validation(rows, recipe, set(validation))
    trained = [row for row in rows if row["subject_id"] not in validation and row.get("split") != "test"]
    if not trained:
        raise TrainingError(f"nobody is left to train: {len(validation)} subjects validate, or are there for testing")
    inputs = Inputs.fit(trained, labels, recipe)
    validators = [inputs.sequence(row) for row in rows if row["subject_id"] in validation]
    result = train(
        make_model(inputs.config, recipe),
        [inputs.sequence(row) for row in trained],
        recipe.training,
        folder,
        validation=validators,
        detection=recipe.detection,
        video_processor=inputs.video_processor,
        hook=hook,
        name=folder.name,
    )
    if not PartialState().is_main_process:
        return Trained(result, len(trained))
    model = chosen_network(folder)
    threshold, f1 = _reporting_threshold(model, validators, inputs)
    if threshold is not None:
        model.config.score_threshold = threshold
    inputs.save_model(model, folder / "model")
    return Trained(result, len(trained), threshold, f1)


def _validation(rows: Sequence[Row], recipe: Recipe, asked: set[str]) -> set[str]:
    """Who validates. Subjects that a corpus keeps for testing do so only if they are asked by name."""
    subjects = {row["subject_id"] for row in rows}
    if unknown := asked - subjects:
        raise TrainingError(
            f"no subject {', '.join(sorted(unknown))} to validate; there is {', '.join(sorted(subjects))}"
        )
    if asked:
        return asked
    if kept := {row["subject_id"] for row in rows if row.get("split") == "validation"}:
        return kept
    others = sorted(subjects - {row["subject_id"] for row in rows if row.get("split") == "test"})
    return set(others[max(0, len(others) - recipe.num_validation) :])


def _reporting_threshold(
    model: FednForFacialExpressionDetection, validators: Sequence[FednSequence], inputs: Inputs
) -> tuple[float | None, float | None]:
    """The threshold with the best F1 on the validation subjects, and that F1, of what the pipeline would report."""
    if not validators or model.config.heads == "recognition":
        return None, None
    found = raw_detections(model, validators, AS_REPORTED, inputs.video_processor, all_types=False)
    names = ("subject", "video", "onset", "offset", "type", "score")
    table = Expressions.from_rows([{name: row[name] for name in names} for row in found])
    return best_threshold(table, Expressions.from_rows(marked_events(validators, model.config.expression_types)))


__all__ = ["AS_REPORTED", "Trained", "train_one"]
