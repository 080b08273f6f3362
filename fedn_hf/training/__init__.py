"""Training on Accelerate: settings, the loop, checkpoints that go on exactly where they were, and honest folds.

`settings` says what can be set; `loop` trains a network on sequences, with `optimisation`, `switches` and `log` beside
it; `checkpoints` keeps its state; `inputs` makes sequences of a corpus, and `detections` what is found in them.
`single` trains one network, whose scores `calibration` puts right, and `backbone` what it sees pixels through; `loso`
trains and tests every fold, `report` scores them by what `selection` chose on other subjects, and `recognition` scores
how emotions are named where the intervals are known.
"""

from .inputs import FeatureRecipe, corpus_rows, video_rows
from .loop import TrainingResult, train
from .loso import run_folds
from .report import FoldsReport, score_folds
from .settings import DetectionSettings, FeatureSettings, Recipe, TrainingError, TrainingSettings
from .single import Trained, train_one

__all__ = [
    "DetectionSettings",
    "FeatureRecipe",
    "FeatureSettings",
    "FoldsReport",
    "Recipe",
    "Trained",
    "TrainingError",
    "TrainingResult",
    "TrainingSettings",
    "corpus_rows",
    "run_folds",
    "score_folds",
    "train",
    "train_one",
    "video_rows",
]
