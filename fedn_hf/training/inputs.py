"""From a corpus to a network and its sequences: published features, or videos through a backbone.

A row of a corpus has `features`: an array (T, ...) at the video's own rate, as they are published, or `VideoFeatures`:
what a frozen backbone makes of a video, or its crops for a backbone that trains. Statistics that published features
are standardised with come from the subjects that train, and are kept with what they made.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import MODEL_FOR_BACKBONE_MAPPING, AutoConfig
from transformers.utils import logging

from ..configuration_fedn import FednConfig
from ..data.cache import FeatureCache, VideoFeatures, crops_of, features_of
from ..data.folds import with_corpus
from ..data.sequences import FednSequence, named_rows
from ..files_fedn import replacing, replacing_checkpoint
from ..modeling_fedn import FednForFacialExpressionDetection
from ..video_processing_fedn import FednVideoProcessor
from .reenactment import reenact
from .settings import FeatureSettings, Recipe, TrainingError

logger = logging.get_logger(__name__)
Row = Mapping[str, Any]
# How muscles are read from landmarks: `reenactment.fit_landmark_reader`.
LANDMARK_READER = Path(__file__).resolve().parents[1] / "weights" / "landmark_reader.safetensors"


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
            TrainingError: features that are no numbers, or of several shapes.
        """
        count, total, squares = 0, 0.0, 0.0
        for features in videos:
            flat = np.asarray(features, np.float64).reshape(len(features), -1)
            if count and flat.shape[1:] != total.shape:
                raise TrainingError(
                    f"features of all videos must have as many numbers per frame, got {len(total)} and {flat.shape[1]}"
                )
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
        values = np.asarray(features, np.float64).reshape(len(features), -1)
        if values.shape[1:] != self.mean.shape:
            raise TrainingError(
                f"features must have as many numbers per frame as those that trained, {len(self.mean)}, "
                f"got {values.shape[1]}"
            )
        values = (values - self.mean) / self.std
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


def video_rows(
    folder: str | Path, recipe: Recipe, *, cache: FeatureCache | None = None, hook: Callable | None = None
) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """
    The videos of a converted corpus (`fedn prepare`, `fedn synth`), through the backbone if it is frozen, as crops if
    it trains, or as landmarks alone.

    Args:
        folder: A VideoFolder.
        recipe: Its `scheme`, its network, and where its backbone comes from.
        cache: Where to look for features first, and where to keep them.
        hook: Called as the pipeline's, with the step "features".

    Returns:
        As `corpus_rows`, with `split`, the part of the corpus that a row is in; then `recipe.reenactments` of each.

    Raises:
        TrainingError: no such folder, another label scheme, a frozen backbone without weights, or `reenactments` of
            videos that are not synthetic.

    Example:

    ```python
    >>> from fedn_hf.training import Recipe
    >>> from fedn_hf.training.inputs import video_rows

    >>> rows, labels = video_rows("casme2", Recipe.read("examples/recipes/casme_2.yaml"))  # doctest: +SKIP
    ```
    """
    import pyarrow as pa
    from datasets import load_dataset

    from dataset_scripts.corpus import cast
    from dataset_scripts.labels import SCHEMES

    labels = SCHEMES[recipe.scheme]
    model = make_model(recipe.config(labels), recipe)
    has_backbone = model.config.backbone_config is not None
    if not has_backbone and model.config.feature_size:
        raise TrainingError(
            "model.backbone_config is null, and videos need a backbone; give published features, or train on "
            "landmarks alone (model.feature_size=0, model.num_landmarks=468)"
        )
    is_frozen = model.config.freeze_backbone or not has_backbone
    if has_backbone and is_frozen and recipe.backbone is None and recipe.checkpoint is None:
        raise TrainingError(
            "a frozen backbone must have learnt something: name a recipe that says whose it is (backbone), a "
            "checkpoint to go on from (checkpoint), or set model.freeze_backbone=false to train it"
        )
    processor = processor_of(model.config)
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False  # it would tell a server that somebody reads a folder of videos
    try:
        splits = load_dataset("videofolder", data_dir=str(folder))
    except (FileNotFoundError, datasets.exceptions.DatasetsError) as error:
        raise TrainingError(f"{folder}: no converted corpus ({error}); see fedn prepare") from error
    try:
        splits = cast(splits, recipe.scheme)
    except (ValueError, TypeError, KeyError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise TrainingError(
            f"{folder}: not converted with --scheme {recipe.scheme}, or not by fedn prepare or fedn synth ({reason})"
        ) from error
    rows = []
    for split, dataset in splits.items():
        for row in named_rows(dataset):
            if is_frozen:
                features = features_of(row["video"], model, processor, cache=cache, hook=hook)
            else:
                features = crops_of(row["video"], model.config, processor, cache=cache, hook=hook)
            rows.append({**row, "features": features, "split": split})
    if recipe.reenactments:
        rows += reenact(rows, folder, recipe.reenactments, model.config.frame_rate)
    return rows, labels


def processor_of(config: FednConfig) -> FednVideoProcessor:
    """The processor of crops for a network."""
    return FednVideoProcessor(size={"height": config.image_size, "width": config.image_size})


@dataclass(frozen=True)
class Inputs:
    """
    How rows become what a network takes, after a look at the rows that train.

    Args:
        config: Of the network.
        features: What is done to published features; `None` for videos.

    Example:

    ```python
    >>> import numpy as np
    >>> from fedn_hf.training import Recipe
    >>> from fedn_hf.training.inputs import Inputs

    >>> rows = [{"video_id": "a", "subject_id": "s", "fps": 30.0, "events": [], "features": np.zeros((50, 6))}]
    >>> inputs = Inputs.fit(rows, ["positive", "negative"], Recipe.from_dict({"features": {"leak": 0.98}}))
    >>> inputs.config.feature_size, len(inputs.sequence(rows[0]))
    (12, 50)
    ```
    """

    config: FednConfig
    features: FeatureRecipe | None

    @classmethod
    def fit(cls, rows: Sequence[Row], labels: Iterable[str], recipe: Recipe) -> "Inputs":
        """Of the rows that train."""
        features, changes, labels = None, {}, list(labels)
        if not any(isinstance(row["features"], VideoFeatures) for row in rows):
            features = FeatureRecipe.fit((row["features"] for row in rows), recipe.features)
            changes = {"backbone_config": None, "feature_size": features.num_channels}
        if recipe.balance_classes:
            events = [event for row in rows for event in row["events"]]
            types = recipe.config(labels, **changes).expression_types
            changes["type_class_weights"] = class_weights([event["type"] for event in events], types)
            changes["label_class_weights"] = class_weights([event["emotion"] for event in events], labels)
        return cls(recipe.config(labels, **changes), features)

    def sequence(self, row: Row) -> FednSequence:
        """A row as the network sees it."""
        if self.features is None:
            return row["features"].sequence(row, self.config)
        return self.features.sequence(row, self.config)

    @property
    def video_processor(self) -> FednVideoProcessor | None:
        """How crops are cut and made pixels, for networks that see videos; `None` for published features."""
        return None if self.features is not None else processor_of(self.config)

    def save_model(self, model: FednForFacialExpressionDetection, folder: Path) -> None:
        """Write a network as `from_pretrained` and the pipeline take it, with what its inputs need."""
        with replacing_checkpoint(folder) as unfinished:
            model.save_pretrained(unfinished)
            if self.video_processor is not None:
                self.video_processor.save_pretrained(unfinished)
            if self.features is not None:
                self.features.save(unfinished / "features.json")


def class_weights(names: Sequence[str | None], classes: Sequence[str]) -> list[float]:
    """
    A weight per class, as the root of how rare it is; 1 on average over what is there, and 1 for what never is, so
    that a network learns that it is not: without any weight it would be guessed where nothing else is likely.

    Example:

    ```python
    >>> from fedn_hf.training.inputs import class_weights

    >>> [round(weight, 2) for weight in class_weights(["a"] * 9 + ["b"], ["a", "b", "c"])]
    [0.83, 2.5, 1.0]
    ```
    """
    counts = np.array([sum(name == each for name in names) for each in classes], float)
    roots = np.sqrt(counts)
    weights = np.divide(1, roots, out=np.zeros_like(roots), where=roots > 0)
    mean = (weights * counts).sum() / max(counts.sum(), 1)
    return [float(weight / mean) if weight else 1.0 for weight in weights]


def make_model(config: FednConfig, recipe: Recipe) -> FednForFacialExpressionDetection:
    """
    A new network, the same for the same seed; its backbone's weights are those of `recipe.backbone`, if that is given,
    and FaceMesh's landmarks are read as `recipe.landmark_reader` does; or all that fits is that of
    `recipe.checkpoint`. Whatever reads single frames stays as it is while `freeze_backbone` says so.

    Raises:
        TrainingError: sizes that do not fit, a checkpoint that has no such backbone, or one of another network; no
            such reader.
    """
    torch.manual_seed(recipe.training.seed)
    try:
        model = FednForFacialExpressionDetection(config)
    except ValueError as error:
        raise TrainingError(f"model: {error}") from error
    reader = model.fedn.embedding.landmark_reader
    if recipe.checkpoint is not None:
        _take_weights(model, recipe.checkpoint)
    elif reader is not None and config.num_landmarks == 468:
        _take_reader(reader, recipe.landmark_reader or LANDMARK_READER)
    if reader is not None and config.num_landmarks == 468 and config.freeze_backbone:
        reader.requires_grad_(False)
    if recipe.checkpoint is not None or recipe.backbone is None or config.backbone_config is None:
        return model
    try:
        known = AutoConfig.from_pretrained(recipe.backbone)
        if known.model_type == config.model_type:
            found = FednForFacialExpressionDetection.from_pretrained(recipe.backbone).fedn.frame_encoder.backbone
        else:
            # AutoBackbone itself takes the path of a folder for a name on the Hub.
            found = MODEL_FOR_BACKBONE_MAPPING[type(known)].from_pretrained(recipe.backbone, use_safetensors=True)
        model.fedn.frame_encoder.backbone.load_state_dict(found.state_dict())
    except (OSError, ValueError, RuntimeError, AttributeError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise TrainingError(f"recipe.backbone: {recipe.backbone} has no such backbone ({reason})") from error
    return model


def _take_reader(layer: torch.nn.Linear, path: str | Path) -> None:
    """Read landmarks as the file does."""
    try:
        weight = load_file(path)["weight"]
        with torch.no_grad():
            layer.weight.copy_(weight)
    except (OSError, RuntimeError, KeyError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        wanted = tuple(layer.weight.shape)
        raise TrainingError(f"recipe.landmark_reader: {path} has no weight of shape {wanted} ({reason})") from error


def _take_weights(model: FednForFacialExpressionDetection, checkpoint: str) -> None:
    """Go on from a checkpoint; a head that it does not have begins anew, as does the layer of other emotions."""
    try:
        found, report = FednForFacialExpressionDetection.from_pretrained(checkpoint, output_loading_info=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise TrainingError(f"recipe.checkpoint: {checkpoint} cannot be loaded ({reason})") from error
    if report["missing_keys"]:  # which transformers fills up with random numbers
        raise TrainingError(
            f"recipe.checkpoint: {checkpoint} lacks {min(report['missing_keys'])}; get or save it again"
        )
    before, now, weights = found.config.id2label, model.config.id2label, found.state_dict()
    if before != now and model.config.heads != "spotting":
        logger.warning(
            f"{checkpoint} tells {', '.join(before.values())} apart, and is to learn {', '.join(now.values())}: the "
            "layer that names emotions begins anew; to keep it, convert the corpus to the checkpoint's own scheme"
        )
        weights = {name: value for name, value in weights.items() if not name.startswith("branches.logits.predict.")}
    try:
        missing = model.load_state_dict(weights, strict=False).missing_keys
    except RuntimeError as error:
        raise TrainingError(f"recipe.checkpoint: {checkpoint} has other sizes than model says ({error})") from error
    if strange := [name for name in missing if not name.startswith(("branches.", "intensity_head."))]:
        raise TrainingError(f"recipe.checkpoint: {checkpoint} has no {strange[0]}; leave out what changes its network")


def in_corpus(corpus: str, rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Rows whose subjects and videos stay apart from those of other corpora, which number different people alike."""
    names = ("subject_id", "video_id")
    return [{**row, **{name: with_corpus(corpus, [row[name]])[0] for name in names}} for row in rows]


def without_events(row: Row) -> dict[str, Any]:
    """The same video, and nothing about what happens in it."""
    return {**row, "events": []}


__all__ = [
    "LANDMARK_READER",
    "FeatureRecipe",
    "Inputs",
    "class_weights",
    "corpus_rows",
    "in_corpus",
    "make_model",
    "processor_of",
    "video_rows",
    "without_events",
]
