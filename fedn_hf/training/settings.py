"""What can be set: how to train, how to detect, and the recipe that holds both beside the network and the corpus.

Settings are frozen dataclasses that check themselves: whatever is wrong is named by its field, with the value given.
A recipe is a YAML file with one section for each of them; `examples/recipes` holds one per corpus.
"""

import dataclasses
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, get_args, get_type_hints

from huggingface_hub.dataclasses import type_validator

from ..configuration_fedn import FednConfig
from ..data import augmentation
from ..media_fedn import FednError

TRACKERS = ("tensorboard", "trackio", "wandb")
# What may differ when a run goes on: nothing of it changes a single loss; `shard` does by rounding alone.
FREE_SETTINGS = ("num_workers", "keep_checkpoints", "checkpoint_steps", "trackers", "profile", "shard")


class TrainingError(FednError, ValueError):
    """Training that cannot be done as it was asked for: says which setting, what it got, and what to do.

    Example:

    ```python
    >>> from fedn_hf.training.settings import TrainingError, TrainingSettings

    >>> try:
    ...     TrainingSettings(epochs=0)
    ... except TrainingError as error:
    ...     print(error)
    training.epochs must be at least 1, got 0
    ```
    """


@dataclass(frozen=True)
class Settings:
    """Base of all sections: types and ranges are checked when it is made, and it comes from mappings, as in YAML."""

    section: ClassVar[str] = ""
    # Field -> lowest and highest value; None stands for no limit.
    limits: ClassVar[dict[str, tuple[float | None, float | None]]] = {}

    def __post_init__(self):
        hints = get_type_hints(type(self))
        for each in dataclasses.fields(self):
            value = _checked(f"{self.section}.{each.name}", getattr(self, each.name), hints[each.name])
            object.__setattr__(self, each.name, value)
            low, high = self.limits.get(each.name, (None, None))
            if value is not None and low is not None and not value >= low:  # not a number is not, either
                raise TrainingError(f"{self.section}.{each.name} must be at least {low}, got {value!r}")
            if value is not None and high is not None and value > high:
                raise TrainingError(f"{self.section}.{each.name} must be at most {high}, got {value!r}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any] | None) -> Self:
        """
        Of a section of a YAML file.

        Raises:
            TrainingError: no mapping, or a name that is no setting.
        """
        check_names(cls.section, values or {}, [each.name for each in dataclasses.fields(cls)])
        return cls(**(values or {}))

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as `from_dict` takes it."""
        return {each.name: _plain(getattr(self, each.name)) for each in dataclasses.fields(self)}


def check_names(section: str, values: Any, known: Iterable[str]) -> None:
    """Raise a [`TrainingError`] for what is no mapping of known names."""
    if not isinstance(values, Mapping):
        raise TrainingError(f"{section} must hold names and values, got {values!r}")
    for name in values:
        if name not in known:
            raise TrainingError(f"there is no {section}.{name}; {section} has {', '.join(known)}")


@dataclass(frozen=True)
class TrainingSettings(Settings):
    """
    How a network is trained.

    Args:
        epochs: Passes; in each, every event has one window of its own (see `TrainingWindows`).
        batch_size: Windows that pass the network at once, in each process.
        accumulation_steps: Batches whose gradients make one step, as if they were one large batch.
        learning_rate: The highest one, of AdamW.
        backbone_learning_rate_ratio: What a backbone that trains gets of it.
        weight_decay: Of matrices and kernels; biases and norms have none.
        warmup_epochs: The learning rate rises in a straight line for so long, then falls to zero along a cosine.
        max_grad_norm: Longer gradients are cut to it; `None` for never.
        ema_decay: Of the running mean of the weights, which is what is validated, tested and saved; it begins as the
            plain mean and never looks back farther than this says. `None` for the weights themselves.
        positive_fraction: Part of the windows that hold an event of their own; 0.5 for as many as without any.
        speed: Slowest and fastest speed at which videos are played.
        augmentations: Name of a function of `data.augmentation` -> its settings, called in this order.
        early_stopping_epochs: Stop when nothing has got better on the validation subjects for so many epochs.
        mixed_precision: `"bf16"` computes in bfloat16 where that is safe; weights stay in single precision.
        gradient_checkpointing: Less memory for more time, for backbones that train.
        shard: Whether weights, gradients and moments are shared out among the processes (FSDP) and not whole in each,
            for a backbone that trains and is too large for one GPU.
        compile: Whether torch.compile makes the network faster, after some minutes.
        deterministic: Whether operations must give the same bits every time on a GPU, too; on the CPU they do.
        seed: Of everything that is drawn.
        num_workers: Processes that cut windows; 0 for the training process itself.
        checkpoint_steps: Save every so many steps, too, and not only after every epoch.
        keep_checkpoints: How many of the newest are kept; the best one is kept besides.
        trackers: Any of "tensorboard", "trackio", "wandb".
        profile: Whether to write down where the time goes, for a few steps.

    Raises:
        TrainingError: names the setting.

    Example:

    ```python
    >>> from fedn_hf.training.settings import TrainingSettings

    >>> settings = TrainingSettings.from_dict({"epochs": 2, "learning_rate": "1e-3"})
    >>> settings.learning_rate, settings.batch_size
    (0.001, 16)
    ```
    """

    section: ClassVar[str] = "training"
    limits: ClassVar[dict[str, tuple[float | None, float | None]]] = {
        **dict.fromkeys(("epochs", "batch_size", "accumulation_steps", "keep_checkpoints"), (1, None)),
        **dict.fromkeys(("checkpoint_steps", "early_stopping_epochs"), (1, None)),
        **dict.fromkeys(("learning_rate", "weight_decay", "warmup_epochs", "max_grad_norm"), (0, None)),
        **dict.fromkeys(("seed", "num_workers", "backbone_learning_rate_ratio"), (0, None)),
        **dict.fromkeys(("ema_decay", "positive_fraction"), (0, 1)),
    }

    # Length
    epochs: int = 12
    batch_size: int = 16
    accumulation_steps: int = 1

    # Optimiser
    learning_rate: float = 1e-3
    backbone_learning_rate_ratio: float = 0.1
    weight_decay: float = 0.05
    warmup_epochs: float = 1.0
    max_grad_norm: float | None = 1.0
    ema_decay: float | None = 0.999

    # Windows
    positive_fraction: float = 0.5
    speed: tuple[float, float] = (1.0, 1.0)
    augmentations: dict[str, dict] = field(default_factory=dict)

    # When to stop
    early_stopping_epochs: int | None = None

    # How it is computed
    mixed_precision: Literal["no", "bf16"] = "no"
    gradient_checkpointing: bool = False
    shard: bool = False
    compile: bool = False
    deterministic: bool = False
    seed: int = 0
    num_workers: int = 0

    # What is kept and told
    checkpoint_steps: int | None = None
    keep_checkpoints: int = 1
    trackers: tuple[str, ...] = ()
    profile: bool = False

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.speed[0] <= self.speed[1]:
            raise TrainingError(f"training.speed must be the slowest and the fastest, above 0, got {self.speed}")
        if not self.positive_fraction:
            raise TrainingError("training.positive_fraction must be above 0, got 0.0")
        if self.shard and self.compile:
            raise TrainingError("training.shard and training.compile cannot both be true; compiling pays less")
        for name in self.trackers:
            if name not in TRACKERS:
                raise TrainingError(f"training.trackers may hold {', '.join(TRACKERS)}, got {name!r}")
        self.augmentation_functions()

    def augmentation_functions(self) -> list[partial]:
        """The augmentations, as `TrainingWindows` takes them."""
        check_names("training.augmentations", self.augmentations, augmentation.__all__)
        functions = []
        for name, values in self.augmentations.items():
            function = getattr(augmentation, name)
            known = [key for key, p in inspect.signature(function).parameters.items() if p.kind is p.KEYWORD_ONLY]
            check_names(f"training.augmentations.{name}", values, known)
            hints = get_type_hints(function)
            values = {
                key: _checked(f"{self.section}.augmentations.{name}.{key}", v, hints[key]) for key, v in values.items()
            }
            functions.append(partial(function, **values))
        return functions


@dataclass(frozen=True)
class DetectionSettings(Settings):
    """
    What of a network's proposals is kept as raw detections. Thresholds for reporting are chosen later, on these.

    Args:
        min_score: Lowest score; low, because what is thrown away here cannot be chosen later.
        nms, nms_iou, nms_sigma: See `postprocessing_fedn.suppress`.
        micro_max_s: What lasts longer is no micro-expression. Half a second is the field's border; MDMD, the baseline
            of MEGC, takes micro-expressions of up to 16 frames at 30 per second.
        max_per_minute: Of each type at most so many of each minute of video, those of the highest scores.
        last_epochs: How many epochs, from the last one back, give raw detections to choose from. Where subjects
            validate, their best epoch alone does.

    Example:

    ```python
    >>> from fedn_hf.training.settings import DetectionSettings

    >>> DetectionSettings().min_score
    0.02
    ```
    """

    section: ClassVar[str] = "detection"
    limits: ClassVar[dict[str, tuple[float | None, float | None]]] = {
        **dict.fromkeys(("min_score", "nms_iou"), (0, 1)),
        **dict.fromkeys(("nms_sigma", "micro_max_s", "max_per_minute"), (0, None)),
        "last_epochs": (1, None),
    }

    min_score: float = 0.02
    nms: Literal["soft", "hard"] = "hard"
    nms_iou: float = 0.3
    nms_sigma: float = 0.5
    micro_max_s: float | None = None
    max_per_minute: float = 60.0
    last_epochs: int = 4


@dataclass(frozen=True)
class FeatureSettings(Settings):
    """
    What is done to published per-frame features before a network sees them; see `inputs.FeatureRecipe`.

    Args:
        standardise: Subtract the mean and divide by the standard deviation of each channel, over training subjects.
        clip: Values are cut to between minus and plus this; `None` for never.
        leak: What of the running sum of each channel is left after a frame: flow, which is a velocity, summed up so is
            a displacement that slowly forgets. `None` for no sums.
        leak_scale: What the sums are multiplied by.

    Example:

    ```python
    >>> from fedn_hf.training.settings import FeatureSettings

    >>> FeatureSettings(leak=1.5)
    Traceback (most recent call last):
    fedn_hf.training.settings.TrainingError: features.leak must be at most 1, got 1.5
    ```
    """

    section: ClassVar[str] = "features"
    limits: ClassVar[dict[str, tuple[float | None, float | None]]] = {
        "clip": (0, None),
        "leak": (0, 1),
        "leak_scale": (0, None),
    }

    standardise: bool = True
    clip: float | None = None
    leak: float | None = None
    leak_scale: float = 1.0


@dataclass(frozen=True)
class Recipe:
    """
    Everything that makes a run: network, inputs, training, detection, and who validates.

    Args:
        model: Settings of [`FednConfig`]; `preset` names one to begin with. Labels follow from `scheme`.
        training, detection, features: The sections.
        scheme: Label scheme of the corpus: "objective_4", "emotion_7" or "megc_3".
        num_validation: Subjects of each fold, or of each corpus where one network is trained, that do not train but
            choose the epoch.
        backbone: A checkpoint, a folder or a model on the Hub, whose backbone the network begins with.
        checkpoint: A checkpoint of this package that training goes on from, backbone and all, in place of `backbone`;
            what `model` does not set is as it is there. Where its emotions are not those of the scheme, the layer that
            tells them apart begins anew.
        balance_classes: Whether what the network says on rare types and emotions weighs more in the loss, by the root
            of how rare they are among those who train.
        system: What each fold trains. "joint": one network. "cascade", the two-stage baseline: one that only spots,
            and one that only recognises, which names what the first one found. "flow_rule": nothing; a rule finds
            peaks of displacement in optical flow (`baselines`).
        landmark_reader: File of how muscles are read from FaceMesh's landmarks; by default that of the package.
        reenactments: How many more scripts each synthetic video's face plays for training (`reenactment`).

    Raises:
        TrainingError: names the setting.

    Example:

    ```python
    >>> from fedn_hf.training.settings import Recipe

    >>> recipe = Recipe.from_dict({"model": {"hidden_size": 64}, "training": {"epochs": 3}})
    >>> recipe.training.epochs, recipe.with_values({"training.epochs": 5}).training.epochs
    (3, 5)
    >>> Recipe.from_dict({"trainign": {}})
    Traceback (most recent call last):
    fedn_hf.training.settings.TrainingError: there is no recipe.trainign; recipe has model, training, detection, ...
    ```
    """

    model: dict[str, Any] = field(default_factory=dict)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    detection: DetectionSettings = field(default_factory=DetectionSettings)
    features: FeatureSettings = field(default_factory=FeatureSettings)
    scheme: Literal["objective_4", "emotion_7", "megc_3"] = "objective_4"
    num_validation: int = 0
    backbone: str | None = None
    checkpoint: str | None = None
    balance_classes: bool = False
    system: Literal["joint", "cascade", "flow_rule"] = "joint"
    landmark_reader: str | None = None
    reenactments: int = 0

    def __post_init__(self):
        hints = get_type_hints(type(self))
        for name in ("scheme", "system"):
            choices = get_args(hints[name])
            if getattr(self, name) not in choices:
                raise TrainingError(f"recipe.{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        for name, of in (("num_validation", "subjects"), ("reenactments", "scripts")):
            value = getattr(self, name)
            if type(value) is not int or value < 0:
                raise TrainingError(f"recipe.{name} must be a number of {of}, got {value!r}")
        for name in ("backbone", "checkpoint", "landmark_reader"):
            value = getattr(self, name)
            if not isinstance(value, str | None):
                kind = "file" if name == "landmark_reader" else "folder or a name on the Hub"
                raise TrainingError(f"recipe.{name} must be a {kind}, got {value!r}")
        if type(self.balance_classes) is not bool:
            raise TrainingError(f"recipe.balance_classes must be true or false, got {self.balance_classes!r}")
        known = {each.name for each in dataclasses.fields(FednConfig)} - {"id2label", "label2id"}  # of the scheme
        check_names("model", self.model, ["preset", *sorted(known)])
        if self.checkpoint is not None and (self.backbone is not None or "preset" in self.model):
            raise TrainingError("recipe.checkpoint brings a whole network: leave out recipe.backbone and model.preset")
        if self.system == "flow_rule" and self.features.leak is None:
            raise TrainingError("recipe.system=flow_rule looks at displacements: set features.leak, such as 0.98")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any] | None) -> "Recipe":
        """Of what a YAML file holds."""
        values = {} if values is None else values
        check_names("recipe", values, [each.name for each in dataclasses.fields(cls)])
        values = dict(values)
        for section in (TrainingSettings, DetectionSettings, FeatureSettings):
            values[section.section] = section.from_dict(values.get(section.section))
        return cls(**{**values, "model": values.get("model") or {}})

    @classmethod
    def read(cls, path: str | Path) -> "Recipe":
        """
        Of a YAML file.

        Raises:
            TrainingError: cannot be read, is no YAML, or holds what is no setting.
        """
        import yaml

        try:
            values = yaml.safe_load(Path(path).read_text("utf-8"))
        except (OSError, UnicodeDecodeError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise TrainingError(f"{path}: not a YAML file that can be read ({error})") from error
        try:
            return cls.from_dict(values)
        except TrainingError as error:
            raise TrainingError(f"{path}: {error}") from None

    def with_values(self, values: Mapping[str, Any]) -> "Recipe":
        """The same with some settings changed, named as in `{"training.epochs": 5, "scheme": "megc_3"}`."""
        changed = self.to_dict()
        for name, value in values.items():
            section, dot, key = name.partition(".")
            if dot and isinstance(changed.get(section), dict):
                changed[section][key] = value
            elif dot:
                raise TrainingError(f"there is no {name}; recipe has {', '.join(changed)}")
            else:
                changed[name] = value
        return Recipe.from_dict(changed)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as `from_dict` takes it."""
        values = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        for name in (
            "checkpoint",
            "landmark_reader",
            "reenactments",
        ):  # runs that were begun before there were these can go on
            if not values[name]:
                del values[name]
        return {k: v.to_dict() if isinstance(v, Settings) else _plain(v) for k, v in values.items()}

    def config(self, labels: Iterable[str], **changes: Any) -> FednConfig:
        """
        The network's configuration.

        Args:
            labels: Emotion classes, in order.
            changes: What follows from the data, such as `feature_size`.
        """
        names = dict(enumerate(labels))
        before = {} if self.checkpoint is None else _network_of(self.checkpoint)
        values = {**before, **self.model, **changes, "id2label": names, "label2id": {v: k for k, v in names.items()}}
        preset = values.pop("preset", None)
        try:
            return FednConfig.preset(preset, **values) if preset else FednConfig(**values)
        except Exception as error:  # the library's own strict errors, and ours for an unknown preset
            raise TrainingError(f"model: {str(error).splitlines()[-1].strip()}") from error


def _network_of(checkpoint: str) -> dict[str, Any]:
    """The settings of a checkpoint's network; how its classes were weighted depends on who trained."""
    try:
        told = FednConfig.get_config_dict(checkpoint)[0]
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise TrainingError(f"recipe.checkpoint: {checkpoint} cannot be read ({reason})") from error
    if told.get("model_type") != FednConfig.model_type:
        raise TrainingError(
            f"recipe.checkpoint: {checkpoint} must be a network of this package, of type {FednConfig.model_type!r}, "
            f"got {told.get('model_type')!r}"
        )
    own = FednConfig.__annotations__.keys() - {"type_class_weights", "label_class_weights"}
    return {name: value for name, value in told.items() if name in own}


def _checked(name: str, value: Any, hint: Any) -> Any:
    """A value of the type that a setting has, or a [`TrainingError`]."""
    value = _convert(value, hint)
    try:
        type_validator(name, value, hint)
    except (TypeError, ValueError):
        wanted = hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
        raise TrainingError(f"{name} must be {wanted}, got {value!r}") from None
    return value


def _convert(value: Any, hint: Any) -> Any:
    """YAML has no tuples, whole numbers may stand for others, and 1e-3 without a dot is a text to it."""
    options = get_args(hint)
    if float in (hint, *options) and not isinstance(value, bool):
        if isinstance(value, int):
            return float(value)
        if isinstance(value, str):
            try:
                return float(value)
            except ValueError:
                return value
    if getattr(hint, "__origin__", None) is tuple and isinstance(value, list | tuple):
        return tuple(_convert(each, options[0]) for each in value)
    if getattr(hint, "__origin__", None) is dict and isinstance(value, Mapping):
        return {name: {} if each is None else each for name, each in value.items()}
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return {name: _plain(each) for name, each in value.items()} if isinstance(value, dict) else value


__all__ = [
    "FREE_SETTINGS",
    "TRACKERS",
    "DetectionSettings",
    "FeatureSettings",
    "Recipe",
    "Settings",
    "TrainingError",
    "TrainingSettings",
    "check_names",
]
