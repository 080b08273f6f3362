"""Training on Accelerate: settings, the loop, checkpoints that go on exactly where they were, and honest folds.

`settings` says what can be set, `loop` trains a network on sequences, `switches` are what can be switched on around
it, and `checkpoints` keeps its state.
"""

from .loop import TrainingResult, train
from .settings import DetectionSettings, Recipe, TrainingError, TrainingSettings

__all__ = ["DetectionSettings", "Recipe", "TrainingError", "TrainingResult", "TrainingSettings", "train"]
