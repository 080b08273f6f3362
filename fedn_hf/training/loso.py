"""Leave one subject out: a network per subject, trained on all others, and its raw detections on the one left out.

    run/recipe.json                       what all folds are made with
    run/folds/s15/detections.parquet      raw detections: native frames, type, emotion, score, epoch
    run/folds/s15/features.json           statistics of the features of those who trained
    run/folds/s15/training/               checkpoints and log

A fold is done when its detections are there, so folds can be shared out among processes and machines by number, and
begun again after any interruption. Nothing in a fold knows what happens in the videos of its test subject: they come
without their events, and no threshold is applied to what is found. `report.score_folds` looks at the events, and
chooses for each subject by all the others.
"""

import copy
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from accelerate import PartialState

from ..data.folds import Fold, leave_one_subject_out
from ..files_fedn import replacing
from ..modeling_fedn import FednForFacialExpressionDetection
from .baselines import flow_rule
from .checkpoints import chosen_network, differing
from .detections import raw_detections, read_detections, write_detections
from .inputs import Inputs, Row, make_model, without_events
from .loop import TrainingResult, train
from .settings import FREE_SETTINGS, Recipe, TrainingError

DETECTIONS, RECIPE = "detections.parquet", "recipe.json"


def run_folds(
    rows: Sequence[Row],
    labels: Iterable[str],
    recipe: Recipe,
    folder: str | Path,
    *,
    part: tuple[int, int] = (1, 1),
    hook: Callable | None = None,
) -> list[Path]:
    """
    Train and test the folds of a corpus, or those of them that are not done.

    Args:
        rows: Of the corpus, with `features`; see `inputs.corpus_rows`.
        labels: Emotion classes of the scheme, in order.
        recipe: How.
        folder: New, or that of a run with the same recipe.
        part: (i, n): of all folds the i-th, the (i + n)-th and so on. The parts 1 to n are all of them.
        hook: Called as the pipeline's; the name is the fold's.

    Returns:
        The files of raw detections of this part.

    Raises:
        TrainingError: a part that there is not, too few subjects, or another recipe than the folder's.
        LeakageError: a video of two subjects.

    Example:

    ```python
    >>> from fedn_hf.training import Recipe, corpus_rows, run_folds

    >>> recipe = Recipe.read("examples/recipes/mdmo_features.yaml")  # doctest: +SKIP
    >>> rows, labels = corpus_rows("casme_2", "mdmo.npz", "CASME_sq", recipe.scheme)  # doctest: +SKIP
    >>> run_folds(rows, labels, recipe, "run", part=(1, 11))  # two of 22 folds  # doctest: +SKIP
    ```
    """
    number, count = part
    if not 1 <= number <= count:
        raise TrainingError(f"folds must be i/n with i from 1 to n, got {number}/{count}")
    if recipe.model.get("heads") == "recognition":
        raise TrainingError(
            'model.heads="recognition" finds no intervals; for a two-stage cascade set system: cascade'
        )
    if PartialState().num_processes > 1:
        raise TrainingError(
            f"a fold is trained by one process, got {PartialState().num_processes}: start one for each part i/n"
        )
    if recipe.training.early_stopping_epochs and not recipe.num_validation:
        raise TrainingError(
            "training.early_stopping_epochs needs subjects to look at: set num_validation to 1 or more, got 0"
        )
    folder = Path(folder)
    try:
        folds = leave_one_subject_out([row["subject_id"] for row in rows], recipe.num_validation)
    except ValueError as error:  # too few subjects
        raise TrainingError(str(error)) from error
    for fold in folds:
        if Path(fold.name).is_absolute() or ".." in Path(fold.name).parts:
            raise TrainingError(f"a fold lies in a folder with its subject's name, which {fold.name!r} cannot be")
    _begin(folder, rows, labels, recipe)
    mine = folds[number - 1 :: count]
    for fold in mine:
        if not (folder / "folds" / fold.name / DETECTIONS).exists():
            run_fold(fold, rows, labels, recipe, folder / "folds" / fold.name, hook=hook)
    return [folder / "folds" / fold.name / DETECTIONS for fold in mine]


def run_fold(
    fold: Fold, rows: Sequence[Row], labels: Iterable[str], recipe: Recipe, folder: Path, hook: Callable | None = None
) -> None:
    """Train one fold, and write the raw detections on its test subjects."""
    run = _FoldRun(fold, rows, labels, recipe, folder, hook)
    heads = run.inputs.config.heads
    if recipe.system == "flow_rule":
        write_detections(run.by_rule(), folder / DETECTIONS)
        return
    if recipe.system == "cascade":
        run.train("recognition", folder / "recogniser")
        run.recogniser = chosen_network(folder / "recogniser")
        heads = "spotting"
    result = run.train(heads, folder / "training", run.keep)
    if result.best_epoch is not None:
        found = run.detect(chosen_network(folder / "training"), result.best_epoch)
    else:
        found = [row for epoch in run.epochs for row in read_detections(run.path(epoch))]
    write_detections(found, folder / DETECTIONS)
    for epoch in run.epochs:
        run.path(epoch).unlink(missing_ok=True)


class _FoldRun:
    """One fold: who trains and validates, and the test subjects' videos without what happens in them."""

    def __init__(self, fold, rows, labels, recipe, folder, hook):
        parts = fold.rows([row["subject_id"] for row in rows], [row["video_id"] for row in rows])
        self.name, self.recipe, self.folder, self.hook = fold.name, recipe, folder, hook
        self.inputs = Inputs.fit([rows[number] for number in parts["train"]], labels, recipe)
        self.trained = [self.inputs.sequence(rows[number]) for number in parts["train"]]
        self.validation = [self.inputs.sequence(rows[number]) for number in parts["validation"]]
        self.tested = [self.inputs.sequence(without_events(rows[number])) for number in parts["test"]]
        self.fps = {row["video_id"]: float(row["fps"]) for row in rows}
        last = recipe.training.epochs
        self.epochs = range(max(0, last - recipe.detection.last_epochs) + 1, last + 1)
        self.recogniser: FednForFacialExpressionDetection | None = None
        folder.mkdir(parents=True, exist_ok=True)
        if self.inputs.features is not None:
            self.inputs.features.save(folder / "features.json")

    def train(self, heads: str, folder: Path, on_epoch: Callable | None = None) -> TrainingResult:
        """Train a network with these heads."""
        config = copy.deepcopy(self.inputs.config)
        config.heads = heads
        return train(
            make_model(config, self.recipe),
            self.trained,
            self.recipe.training,
            folder,
            validation=self.validation,
            detection=self.recipe.detection,
            video_processor=self.inputs.video_processor,
            on_epoch=on_epoch,
            hook=self.hook,
            name=self.name,
        )

    def by_rule(self) -> list[dict[str, Any]]:
        """What the rule finds in displacements, which are the second half of the channels."""
        if self.inputs.features is None:
            raise TrainingError("recipe.system=flow_rule needs published features of optical flow, got videos")
        found, settings = [], self.recipe.detection
        for sequence in self.tested:
            features = sequence.inputs["frame_features"].chunk(2, dim=1)[1]
            moved = replace(sequence, inputs={**sequence.inputs, "frame_features": features})
            found += flow_rule(moved, self.inputs.config.frame_rate, settings.min_score, settings.nms_iou)
        return [{**row, "epoch": 0, "fps": self.fps[row["video"]]} for row in found]

    def keep(self, epoch: int, model: FednForFacialExpressionDetection) -> None:
        """What an epoch finds, if epochs are to be chosen from."""
        if not self.validation and epoch in self.epochs:
            write_detections(self.detect(model, epoch), self.path(epoch))

    def path(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch:04}.parquet"

    def detect(self, model: FednForFacialExpressionDetection, epoch: int) -> list[dict[str, Any]]:
        processor = self.inputs.video_processor
        found = raw_detections(model, self.tested, self.recipe.detection, processor, self.recogniser)
        return [{**row, "epoch": epoch, "fps": self.fps[row["video"]]} for row in found]


def _begin(folder: Path, rows: Sequence[Row], labels: Iterable[str], recipe: Recipe) -> None:
    """Say in the folder what its folds are made with, or refuse to mix them with others."""
    told = recipe.to_dict()
    told["training"] = {name: value for name, value in told["training"].items() if name not in FREE_SETTINGS}
    events = sum(len(row["events"]) for row in rows)
    subjects = sorted({row["subject_id"] for row in rows})
    told["corpus"] = {"videos": len(rows), "events": events, "subjects": subjects, "labels": list(labels)}
    told = json.loads(json.dumps(told))
    path = folder / RECIPE
    if path.exists():
        differences = differing(json.loads(path.read_text("utf-8")), told)
        if differences:
            raise TrainingError(
                f"{folder} holds folds of another run: {'; '.join(differences)}. Use another folder or the same recipe"
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps(told, indent=1), encoding="utf-8")


__all__ = ["DETECTIONS", "RECIPE", "run_fold", "run_folds"]
