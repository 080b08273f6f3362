"""From a corpus to sequences: rows of features with their events, and what is done to features before a network.

Statistics that features are standardised with come from the subjects that train, and are kept with what they made.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..configuration_fedn import FednConfig
from ..data.sequences import FednSequence, named_rows
from ..files_fedn import replacing
from .settings import FeatureSettings, TrainingError

Row = Mapping[str, Any]


@dataclass(frozen=True)
class FeatureRecipe:
    """
    What is done to published features (T, ...) of a video, at the network's frame rate:

        x_t = clip((f_t - mean) / std)                  C channels
        d_t = leak d_{t-1} + x_t,  times leak_scale     C more, if `leak` is set

    The first are velocities where features are optical flow, the second displacements from a rest that slowly forgets.

    Args:
        settings: What is done.
        mean, std: (C,), of the videos that `fit` saw; 0 and 1 where nothing is standardised.

    Example:

    ```python
    >>> import numpy as np
    >>> from fedn_hf.training.inputs import FeatureRecipe
    >>> from fedn_hf.training.settings import FeatureSettings

    >>> recipe = FeatureRecipe.fit([np.array([[0.0], [2.0]])], FeatureSettings(leak=0.5))
    >>> recipe.apply(np.array([[2.0], [1.0], [1.0]])).tolist()
    [[1.0, 1.0], [0.0, 0.5], [0.0, 0.25]]
    ```
    """

    settings: FeatureSettings
    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def fit(cls, videos: Iterable[np.ndarray], settings: FeatureSettings) -> "FeatureRecipe":
        """
        Of features (T, ...) of the videos that train.

        Raises:
            TrainingError: features that are no numbers.
        """
        count, total, squares = 0, 0.0, 0.0
        for features in videos:
            flat = np.asarray(features, np.float64).reshape(len(features), -1)
            if not np.isfinite(flat).all():
                raise TrainingError("features must be finite numbers, got NaN or infinity")
            count, total, squares = count + len(flat), total + flat.sum(0), squares + (flat**2).sum(0)
        if not count:
            raise TrainingError("features are standardised by the videos that train, got none")
        if not settings.standardise:
            return cls(settings, np.zeros_like(total), np.ones_like(total))
        mean = total / count
        std = np.sqrt(np.maximum(squares / count - mean**2, 0))
        return cls(settings, mean, np.where(std > 0, std, 1.0))

    @property
    def num_channels(self) -> int:
        """`feature_size` of the network."""
        return len(self.mean) * (1 if self.settings.leak is None else 2)

    def apply(self, features: np.ndarray) -> torch.Tensor:
        """Features (T, ...) to (T, num_channels) float32."""
        values = (np.asarray(features, np.float64).reshape(len(features), -1) - self.mean) / self.std
        if self.settings.clip is not None:
            values = values.clip(-self.settings.clip, self.settings.clip)
        if self.settings.leak is not None:
            sums, before = np.empty_like(values), np.zeros(values.shape[1])
            for frame, value in enumerate(values):
                sums[frame] = before = self.settings.leak * before + value
            values = np.concatenate([values, self.settings.leak_scale * sums], axis=1)
        return torch.from_numpy(values.astype(np.float32))

    def sequence(self, row: Row, config: FednConfig) -> FednSequence:
        """A corpus row with `features` as a sequence."""
        plain = FednSequence.from_native(row, {"frame_features": torch.as_tensor(row["features"])}, config)
        features = self.apply(plain.inputs["frame_features"].numpy())
        return replace(plain, inputs={**plain.inputs, "frame_features": features})

    def save(self, path: str | Path) -> None:
        """Write JSON: the settings and the statistics."""
        told = {"settings": self.settings.to_dict(), "mean": self.mean.tolist(), "std": self.std.tolist()}
        with replacing(path) as unfinished:
            unfinished.write_text(json.dumps(told), encoding="utf-8")

    @classmethod
    def read(cls, path: str | Path) -> "FeatureRecipe":
        """Of a file that `save` wrote."""
        try:
            told = json.loads(Path(path).read_text("utf-8"))
            return cls(FeatureSettings.from_dict(told["settings"]), np.array(told["mean"]), np.array(told["std"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TrainingError(f"{path}: not a feature recipe ({error})") from error


def corpus_rows(
    corpus: str, features: str | Path, sheets: str | Path, scheme: str, **options: Any
) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """
    Published features of a corpus with the events of its sheets.

    Args:
        corpus: "casme_2", "casme_3", "samm_lv" or "folder_csv".
        features: What `dataset_scripts.features.load_features` reads.
        sheets: Folder with the corpus's sheets, or the corpus itself.
        scheme: Label scheme.
        options: Of the corpus's builder, such as `fps`.

    Returns:
        Rows (`features`, `video_id`, `subject_id`, `fps`, `num_frames`, `events`) and the scheme's classes, in order.

    Raises:
        TrainingError: no such corpus; `CorpusError` as `load_features`.

    Example:

    ```python
    >>> from fedn_hf.training.inputs import corpus_rows

    >>> rows, labels = corpus_rows("casme_2", "mdmo.npz", "CASME_sq", "objective_4")  # doctest: +SKIP
    ```
    """
    from dataset_scripts.convert import CORPORA
    from dataset_scripts.features import load_features
    from dataset_scripts.labels import SCHEMES

    if corpus not in CORPORA:
        raise TrainingError(f"there is no corpus {corpus!r}; there is {', '.join(CORPORA)}")
    builder = CORPORA[corpus](data_dir=str(sheets), scheme=scheme, **options)
    return list(named_rows(load_features(features, builder))), SCHEMES[scheme]


def without_events(row: Row) -> dict[str, Any]:
    """The same video, and nothing about what happens in it."""
    return {**row, "events": []}


__all__ = ["FeatureRecipe", "corpus_rows", "without_events"]
