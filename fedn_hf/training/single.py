"""One network of a corpus, as it is given to others: who trains and who validates, and what validation chooses.

    run/model/            the network: of the best epoch where subjects validate, else of the last one
    run/best, run/latest  its checkpoints

Where subjects validate, its scores are calibrated on them (`calibration`), and the score from which on it reports
(`config.score_threshold`) is the one that finds most there. Where nobody does both stay as they are, as on those who
train any network looks good.

Another corpus may test the network. Its videos come without their events, and the thresholds per type that it is
scored with are chosen by the validation subjects of the corpora that train; so nothing at all is chosen on it.

    run/detections.parquet, run/report.json     what was found in the other corpus, and its score
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState

from ..data.folds import Fold
from ..data.sequences import FednSequence
from ..metrics import Expressions
from ..modeling_fedn import FednForFacialExpressionDetection
from .calibration import calibrate
from .checkpoints import chosen_network
from .detections import marked_events, raw_detections, write_detections
from .inputs import Inputs, Row, make_model, without_events
from .loop import TrainingResult, train
from .loso import DETECTIONS
from .report import FoldsReport, expressions, report_on, truth_of, write_report
from .selection import best_by_type, best_threshold
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
        calibration: a and b of `calibration.calibrate`, `None` where nobody could choose them.
        report: The score on another corpus, `None` without one.
    """

    result: TrainingResult
    num_videos: int
    threshold: float | None = None
    threshold_f1: float | None = None
    calibration: tuple[float, float] | None = None
    report: FoldsReport | None = None


def train_one(
    rows: Sequence[Row],
    labels: Iterable[str],
    recipe: Recipe,
    folder: str | Path,
    *,
    validation: Iterable[str] = (),
    tested: Sequence[Row] = (),
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
            last `recipe.num_validation` of each corpus by name.
        tested: Rows of another corpus, to be scored in the end. Where there are several corpora, rows are named by
            them; see `inputs.in_corpus`.
        hook: Called as the pipeline's.

    Raises:
        TrainingError: see `train`; a subject that there is not, nobody left to train, or a recipe for folds; another
            corpus, and nobody to choose thresholds for it.
        LeakageError: a subject or a video that is in two parts.

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
    if tested:
        _check_tested(rows, trained, validation, tested, recipe)
    inputs = Inputs.fit(trained, labels, recipe)
    validators = [inputs.sequence(row) for row in rows if row["subject_id"] in validation]
    others = [inputs.sequence(without_events(row)) for row in tested]
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
    calibration = threshold = f1 = None
    if validators and model.config.heads != "recognition":
        marked = _marked(model, validators)
        calibration = calibrate(model, _reported(model, validators, inputs), marked)
        threshold, f1 = best_threshold(_reported(model, validators, inputs), marked)
        model.config.score_threshold = model.config.score_threshold if threshold is None else threshold
    inputs.save_model(model, folder / "model")
    report = None
    if tested:
        thresholds, found = _detect(model, validators, others, inputs, recipe)
        fps = {row["video_id"]: float(row["fps"]) for row in tested}
        write_detections([{**row, "fps": fps[row["video"]]} for row in found], folder / DETECTIONS)
        report = report_on(expressions(found), *truth_of(tested), thresholds=thresholds)
        write_report(report, folder)
    return Trained(result, len(trained), threshold, f1, calibration, report)


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
    corpora: dict[str, list[str]] = {}
    for name in sorted(subjects - {row["subject_id"] for row in rows if row.get("split") == "test"}):
        corpora.setdefault(name.rpartition("/")[0], []).append(name)
    return {name for names in corpora.values() for name in names[max(0, len(names) - recipe.num_validation) :]}


def _check_tested(
    rows: Sequence[Row], trained: Sequence[Row], validation: set[str], tested: Sequence[Row], recipe: Recipe
) -> None:
    """Raise an error where a test of another corpus would not be one."""
    if not validation or recipe.model.get("heads") == "recognition":
        raise TrainingError(
            "a test on another corpus needs subjects of those that train to choose its thresholds: set num_validation "
            "to 1 or more, or name them with validation; and a network that finds intervals"
        )
    kept = [*trained, *(row for row in rows if row["subject_id"] in validation), *tested]
    subjects = [sorted({row["subject_id"] for row in part}) for part in (trained, tested)]
    fold = Fold("of another corpus", tuple(subjects[0]), tuple(sorted(validation)), tuple(subjects[1]))
    fold.rows([row["subject_id"] for row in kept], [row["video_id"] for row in kept])
    if len(fold.test) < 2:
        raise TrainingError(
            "a corpus to test on needs two subjects or more, as intervals are drawn from them, got "
            f"{fold.test[0]} alone"
        )


def _reported(
    model: FednForFacialExpressionDetection, sequences: Sequence[FednSequence], inputs: Inputs
) -> Expressions:
    """What the pipeline would report, down to a low score."""
    return expressions(raw_detections(model, sequences, AS_REPORTED, inputs.video_processor, all_types=False))


def _marked(model: FednForFacialExpressionDetection, sequences: Sequence[FednSequence]) -> Expressions:
    return Expressions.from_rows(marked_events(sequences, model.config.expression_types))


def _detect(
    model: FednForFacialExpressionDetection,
    validators: Sequence[FednSequence],
    others: Sequence[FednSequence],
    inputs: Inputs,
    recipe: Recipe,
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """The thresholds per type that the validation subjects choose, and everything that is found in the others."""
    found = [raw_detections(model, part, recipe.detection, inputs.video_processor) for part in (validators, others)]
    return best_by_type(expressions(found[0]), _marked(model, validators))[0], found[1]


__all__ = ["AS_REPORTED", "Trained", "train_one"]
