"""The README.md that travels with a checkpoint: what is known about a detector, and openly what is not.

[`ModelCard`] holds the facts, assets/model_card.md the words around them; what follows from the facts is derived when
the card is rendered. What nobody has stated reads "not stated", what nobody has measured reads "not evaluated", and a
figure cannot be given without the command that makes it.
"""

import json
import math
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from string import Template
from typing import Any, Literal, get_args

from huggingface_hub import EvalResult, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from . import markdown as md
from .files_fedn import replacing
from .markdown import NOT_STATED
from .media_fedn import FednError

# The words that every card has; `$name` stands for what the facts say.
_WORDS = Path(__file__).with_name("assets") / "model_card.md"

NOT_EVALUATED = "not evaluated"

# Always listed: who or what is in front of the camera, then the recording. A card that is silent about one of them
# would read as if it did not matter.
STANDARD_GROUPS = (
    "skin tone",
    "age",
    "gender",
    "culture or region",
    "facial or neurological conditions",
    "glasses",
    "facial hair or covering",
    "head motion",
    "lighting",
    "face size",
    "frame rate",
    "compression",
)

Role = Literal["trained on", "validated on", "tested on"]

# The Hub has no task for expressions in time; this is the nearest of those it has. `library_name` keeps it from
# offering the classification pipeline.
_HUB_TASK = "video-classification"
_TASK_NAME = "Facial expression detection"
_TAGS = (
    "facial-expression-detection",
    "facial-expression-recognition",
    "micro-expression",
    "macro-expression",
    "spotting",
    "affective-computing",
    "temporal-action-localization",
    "video",
    "fedn",
)
# Identifiers that the Hub takes as they are; any other licence is "other" there, with its name beside it.
_HUB_LICENSES = re.compile(
    r"apache-2\.0|mit|bsd-[23]-clause|cc0-1\.0|cc-by(-nc)?(-sa|-nd)?-[34]\.0|openrail|[al]?gpl-3\.0|mpl-2\.0|eupl-1\.2"
    r"|unlicense|other|unknown"
)
_HUB_METRICS = frozenset({"accuracy", "f1", "map", "precision", "recall"})
_HUB_DATASET = re.compile(r"https://(?:huggingface\.co|hf\.co)/datasets/([\w.-]+(?:/[\w.-]+)?)/?", re.ASCII)


class CardError(FednError, ValueError):
    """A fact that a model card cannot take.

    Example:
        >>> ModelCard(title=" ")
        Traceback (most recent call last):
        fedn_hf.model_card.CardError: ModelCard.title must be a text, got ' ': give the model a name
    """


# What a text that is wanted is wanted for.
_WHY = {
    "command": "give the command line that makes the figure, so that others can make it again",
    "dataset": "name the data the figure was measured on",
    "protocol": "say which split or protocol the figure follows; figures under different ones do not compare",
    "group": f"name what the group is about, for instance {STANDARD_GROUPS[0]!r}",
    "subgroup": "say which part of the group the figure is for",
    "name": "give it the name that readers will know it by",
    "title": "give the model a name",
}


def _check_said(owner: Any, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        if not isinstance(value, str) or not md.line(value):
            raise CardError(f"{type(owner).__name__}.{name} must be a text, got {value!r}: {_WHY[name]}")


def _check_finite(owner: Any, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        if value is not None and not (isinstance(value, Real) and math.isfinite(value)):
            raise CardError(
                f"{type(owner).__name__}.{name} must be a finite number, got {value!r}: "
                "leave out what could not be measured, and the card says so"
            )


# The facts


@dataclass(frozen=True, kw_only=True)
class DatasetUse:
    """
    Data that a model was trained, validated or tested on.

    Args:
        name (`str`): The name readers know it by.
        role (`str`): "trained on", "validated on" or "tested on".
        url (`str`, *optional*): Where it is described. An address under huggingface.co/datasets also goes into the
            Hub's metadata.
        licence (`str`, *optional*): Licence or terms of the data.
        synthetic (`bool`, *optional*): Whether its faces are rendered; False for recordings of people.
        videos, subjects, hours (`float`, *optional*): How much of it was used.

    Raises:
        `CardError`: no name, another role, or a number that is none.

    Example:
        >>> data = DatasetUse(name="CAS(ME)^2", role="tested on", synthetic=False, videos=98, subjects=22)
        >>> "| CAS(ME)^2 | not stated | recorded people | 98 | 22 |" in ModelCard(training_data=[data]).render()
        True
    """

    name: str
    role: Role
    url: str | None = None
    licence: str | None = None
    synthetic: bool | None = None
    videos: int | None = None
    subjects: int | None = None
    hours: float | None = None

    def __post_init__(self):
        _check_said(self, "name")
        _check_finite(self, "videos", "subjects", "hours")
        if self.role not in get_args(Role):
            raise CardError(f"DatasetUse.role must be one of {get_args(Role)}, got {self.role!r} for {self.name!r}")


@dataclass(frozen=True, kw_only=True)
class MetricResult:
    """
    One figure, and how to make it again.

    Args:
        dataset (`str`): Name of the data, as in [`DatasetUse`].
        protocol (`str`): Split or protocol: how subjects were kept apart and how the threshold was chosen.
        name (`str`): The metric. A figure about micro-expressions has "micro-expression" in its name.
        value (`float`): The figure.
        command (`str`): The command that makes it.
        seeds (`int`, *optional*): Number of training runs that it is the mean of.
        spread (`str`, *optional*): How far it varies and over what, for instance "SD 0.012 over seeds".

    Raises:
        `CardError`: one of the texts is empty, or the figure is no finite number.

    Example:
        >>> MetricResult(dataset="SAMM-LV", protocol="strict", name="spotting F1", value=0.31, command=" ")
        Traceback (most recent call last):
        fedn_hf.model_card.CardError: MetricResult.command must be a text, got ' ': give the command line that ...
    """

    dataset: str
    protocol: str
    name: str
    value: float
    command: str
    seeds: int | None = None
    spread: str | None = None

    def __post_init__(self):
        _check_said(self, "dataset", "protocol", "name", "command")
        _check_finite(self, "value", "seeds")
        if self.value is None:
            raise CardError("MetricResult.value must be a number, got None: leave out the whole result")


@dataclass(frozen=True, kw_only=True)
class GroupResult(MetricResult):
    """
    One figure for a part of the people or recordings.

    Args:
        group (`str`): What the parts differ in: one of `STANDARD_GROUPS`, or another.
        subgroup (`str`): Which part this is, for instance "with glasses".

    Example:
        >>> f1 = {"dataset": "SAMM-LV", "protocol": "strict", "name": "spotting F1", "command": "fedn evaluate a b"}
        >>> card = ModelCard(group_results=[GroupResult(group="glasses", subgroup="with glasses", value=0.2, **f1)])
        >>> "| glasses | with glasses | SAMM-LV |" in card.render()
        True
    """

    group: str
    subgroup: str

    def __post_init__(self):
        super().__post_init__()
        _check_said(self, "group", "subgroup")


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """
    Where the weights come from.

    Args:
        package_version, transformers_version, torch_version (`str`, *optional*): Versions that trained them.
        git_commit (`str`, *optional*): Commit of the training code.
        seed (`int`, *optional*): Seed of the run.
        command (`str`, *optional*): The recipe: the command line that trains them.
        date (`str`, *optional*): Day of the run, as in "2026-11-22".
        parent_checkpoint (`str`, *optional*): The checkpoint that training started from.

    Example:
        >>> "- **Seed:** 3" in ModelCard(provenance=Provenance(seed=3)).render()
        True
    """

    package_version: str | None = None
    transformers_version: str | None = None
    torch_version: str | None = None
    git_commit: str | None = None
    seed: int | None = None
    command: str | None = None
    date: str | None = None
    parent_checkpoint: str | None = None


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """
    Everything a reader should know about a detector before running it on people.

    All of it may be left out; the card then says that it is not stated or not evaluated.

    Args:
        title (`str`): Heading of the card.
        model_id (`str`, *optional*): Where the model is found on the Hub.
        summary (`str`, *optional*): What the model does, in place of the two sentences that every card has.
        licence (`str`, *optional*): Licence of the weights, as the Hub's identifier where it has one.
        base_model (`str`, *optional*): The model on the Hub that this one derives from.
        id2label (`dict[int, str]`, *optional*): Emotion classes; empty where the network gives none.
        expression_types (`list[str]`): Names of the expression types.
        label_source (`str`, *optional*): Who gave the labels, for instance "coders, objective classes" or
            "participants' self-reports".
        window_size (`int`), frame_rate (`float`), image_size (`int`): What the network sees, as in `FednConfig`.
        training_data (`list[DatasetUse]`): Data the model was trained, validated and tested on.
        metrics (`list[MetricResult]`): Figures over all people.
        group_results (`list[GroupResult]`): Figures by group.
        score_threshold (`float`, *optional*): Lowest score that is reported by default.
        threshold_choice (`str`, *optional*): How that was chosen.
        provenance ([`Provenance`]): Where the weights come from.

    Example:

    ```python
    >>> from fedn_hf.configuration_fedn import FednConfig
    >>> from fedn_hf.model_card import MetricResult, ModelCard

    >>> f1 = MetricResult(
    ...     dataset="CAS(ME)^2",
    ...     protocol="22-fold leave-one-subject-out, nested",
    ...     name="spotting F1",
    ...     value=0.31,
    ...     command="python examples/benchmarks/loso.py",
    ... )
    >>> card = ModelCard.from_config(FednConfig.preset("compact"), licence="apache-2.0", metrics=[f1])
    >>> card.data().license, card.data().eval_results[0].metric_value
    ('apache-2.0', 0.31)
    >>> "| skin tone | not evaluated |" in card.render()
    True
    ```
    """

    title: str = "FEDN facial expression detector"
    model_id: str | None = None
    summary: str | None = None
    licence: str | None = None
    base_model: str | None = None
    id2label: Mapping[int, str] | None = None
    expression_types: Sequence[str] = ()
    label_source: str | None = None
    window_size: int | None = None
    frame_rate: float | None = None
    image_size: int | None = None
    training_data: Sequence[DatasetUse] = ()
    metrics: Sequence[MetricResult] = ()
    group_results: Sequence[GroupResult] = ()
    score_threshold: float | None = None
    threshold_choice: str | None = None
    provenance: Provenance = field(default_factory=Provenance)

    def __post_init__(self):
        _check_said(self, "title")
        _check_finite(self, "window_size", "frame_rate", "image_size", "score_threshold")

    @classmethod
    def from_config(cls, config: Any, **known: Any) -> "ModelCard":
        """
        A card for the network that a `FednConfig` describes.

        Args:
            config (`FednConfig`): Or anything with its attributes.
            known: Whatever else is known, by the names of this class; it goes before what the config says.
        """
        names = ("id2label", "expression_types", "window_size", "frame_rate", "image_size")
        absent = [name for name in names if not hasattr(config, name)]
        if absent:
            raise CardError(f"expected a FednConfig, got {type(config).__name__} without {', '.join(absent)}")
        facts = {name: getattr(config, name) for name in names}
        facts["score_threshold"] = getattr(config, "score_threshold", None)
        heads = getattr(config, "heads", "joint")
        if heads == "spotting":
            facts["id2label"] = {}  # the class map is there, but no output for it
        elif heads == "recognition":
            facts["summary"] = (
                "Says which emotion class coders would give a facial expression that another network has found. "
                "It finds none by itself: it is the second stage of a cascade for long videos."
            )
        return cls(**facts | known)

    def data(self) -> ModelCardData:
        """The metadata that the Hub reads from the card's front matter."""
        license = md.line(self.licence).lower() or "unknown"
        named = {"license": license}
        if not _HUB_LICENSES.fullmatch(license):
            named = {"license": "other", "license_name": re.sub(r"[^a-z0-9.]+", "-", license).strip("-.") or "custom"}
        hub_ids = {md.line(use.name): found for use in self.training_data if (found := _hub_dataset(use.url))}
        results = [
            EvalResult(
                task_type=_HUB_TASK,
                task_name=_TASK_NAME,
                # The Hub keeps results of one type together, so data it does not hold go by their full name.
                dataset_type=hub_ids.get(md.line(result.dataset)) or md.line(result.dataset),
                dataset_name=md.line(result.dataset),
                dataset_split=md.line(result.protocol),
                metric_type=_metric_type(result.name),
                metric_name=md.line(result.name),
                metric_value=float(result.value),
                metric_args={"command": md.lines(result.command)},
            )
            for result in self.metrics
        ]
        trained = [_hub_dataset(use.url) for use in self.training_data if use.role == "trained on"]
        return ModelCardData(
            **named,
            library_name="fedn_hf",
            pipeline_tag=_HUB_TASK,
            tags=list(_TAGS),
            base_model=_hub_model(self.base_model),
            datasets=list(dict.fromkeys(filter(None, trained))) or None,
            metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
            eval_results=results or None,
            model_name=(md.line(self.model_id) or md.line(self.title)) if results else None,
        )

    def render(self) -> str:
        """The card: the Hub's front matter, then Markdown."""
        commands = list(dict.fromkeys(md.lines(result.command) for result in (*self.metrics, *self.group_results)))
        where = md.line(self.model_id) or "path/to/this/folder"
        body = Template(_WORDS.read_text(encoding="utf-8")).substitute(
            title=md.text(self.title),
            summary=self._summary(),
            glance=self._glance(),
            python_where=json.dumps(where, ensure_ascii=False),
            shell_where=shlex.quote(where),
            labels=self._labels(),
            training_data=self._training_data(),
            metrics=self._metrics(commands),
            group_results=self._group_results(commands),
            commands="\n\n".join(f"Command {n}:\n\n{md.fence(code, 'bash')}" for n, code in enumerate(commands, 1))
            or "No figure is given, so there is no command to make one.",
            threshold=md.number(self.score_threshold),
            threshold_choice=md.text(self.threshold_choice),
            unproven="\n".join(f"- {sentence}" for sentence in self._unproven()),
            provenance=self._provenance(),
        )
        return f"---\n{self.data().to_yaml()}\n---\n\n{body}"

    def save(self, folder: str | os.PathLike) -> Path:
        """
        Write the card to `folder`/README.md, in place of one that may be there.

        The file is complete or untouched at every moment.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "README.md"
        with replacing(path) as unfinished:
            unfinished.write_text(self.render(), encoding="utf-8", newline="\n")
        return path

    def _summary(self) -> str:
        if md.line(self.summary):
            return md.text(self.summary)
        emotion = "" if self.id2label == {} else ", and which emotion class coders would give it"
        return (
            "Finds facial expressions in long videos: when each one begins, peaks and ends, whether it is a macro-\n"
            f"or a micro-expression{emotion}. It works on ordinary recordings of faces, hours long\n"
            "if need be, and gives a list of intervals for people to look at."
        )

    def _glance(self) -> str:
        window = md.number(self.window_size) if self.window_size is None else f"{self.window_size} frames"
        if self.window_size is not None and self.frame_rate:
            window += f" ({md.number(self.window_size / self.frame_rate)} s)"
        size = NOT_STATED if self.image_size is None else f"{self.image_size} x {self.image_size} pixels"
        rate = NOT_STATED if self.frame_rate is None else f"{md.number(self.frame_rate)} frames per second"
        return md.facts(
            {
                "Network": "FEDN ([arXiv 2504.07660](https://arxiv.org/abs/2504.07660))",
                "Base model": md.text(self.base_model),
                "Licence of the weights": md.text(self.licence),
                "Face crops": size,
                "Frame rate it sees": rate,
                "Training window": window,
            }
        )

    def _labels(self) -> str:
        types = ", ".join(map(md.text, self.expression_types)) or NOT_STATED
        facts = md.facts({"Expression types": types, "Where the labels come from": md.text(self.label_source)})
        if not self.id2label:
            none = "none: the network says when an expression happens and of which type"
            return f"{facts}\n- **Emotion classes:** {NOT_STATED if self.id2label is None else none}"
        rows = [(md.text(index), md.text(label)) for index, label in self.id2label.items()]
        return f"{facts}\n\n{md.table(('Index', 'Emotion class'), rows)}"

    def _training_data(self) -> str:
        faces = {None: NOT_STATED, True: "rendered", False: "recorded people"}
        rows = []
        for role in get_args(Role):
            uses = [use for use in self.training_data if use.role == role]
            rows += [] if uses else [md.gap(role, NOT_STATED, columns=7)]
            for use in uses:
                sizes = map(md.number, (use.videos, use.subjects, use.hours))
                rows.append((role, md.link(use.name, use.url), md.text(use.licence), faces[use.synthetic], *sizes))
        return md.table(("Role", "Data", "Licence", "Faces", "Videos", "Subjects", "Hours"), rows)

    def _metrics(self, commands: list[str]) -> str:
        rows = [_figure(result, commands) for result in self.metrics] or [md.gap(NOT_EVALUATED, columns=7)]
        return md.table(("Data", "Protocol", "Metric", "Value", "Seeds", "Spread", "Made by"), rows)

    def _group_results(self, commands: list[str]) -> str:
        rows = []
        for name, results in self._groups().items():
            rows += [
                (md.text(result.group), md.text(result.subgroup), *_figure(result, commands)) for result in results
            ]
            rows += [] if results else [md.gap(name, NOT_EVALUATED, columns=9)]
        header = ("Group", "Part", "Data", "Protocol", "Metric", "Value", "Seeds", "Spread", "Made by")
        return md.table(header, rows)

    def _groups(self) -> dict[str, list[GroupResult]]:
        groups: dict[str, list[GroupResult]] = {name: [] for name in STANDARD_GROUPS}
        for result in self.group_results:
            groups.setdefault(md.line(result.group).lower(), []).append(result)
        return groups

    def _unproven(self) -> list[str]:
        """What the facts do not show, so that nobody reads it into them."""
        recorded = {md.line(use.name) for use in self.training_data if use.synthetic is False}
        tested = [result for result in self.metrics if md.line(result.dataset) in recorded]
        said = []
        if any(re.search(r"micro[- ]expression", result.name, re.IGNORECASE) for result in tested):
            said.append(
                "**Micro-expressions on real people** were tested only as far as the metrics above say; with other\n"
                "  people and cameras they are unproven."
            )
        else:
            said.append("**Micro-expressions on real people are unproven:** no metric above shows that it finds them.")
        if not tested:
            said.append("**Recorded people are unproven:** no metric above was measured on data stated to show them.")
        if {use.synthetic for use in self.training_data if use.role == "trained on"} == {True}:
            said.append("**Trained on rendered faces alone:** real skin, light and movement differ from them.")
        missing = ", ".join(name for name, results in self._groups().items() if not results)
        if missing:
            said.append(
                f"**Not evaluated by group:** {missing}.\n  Errors may fall more on some people than on others."
            )
        return said

    def _provenance(self) -> str:
        known = self.provenance
        facts = md.facts(
            {
                "fedn_hf": md.text(known.package_version),
                "transformers": md.text(known.transformers_version),
                "torch": md.text(known.torch_version),
                "Commit of the code": md.text(known.git_commit),
                "Seed": md.text(known.seed),
                "Date": md.text(known.date),
                "Parent checkpoint": md.text(known.parent_checkpoint),
            }
        )
        recipe = md.lines(known.command or "")
        said = f"this command\n\n{md.fence(recipe, 'bash')}" if recipe else NOT_STATED
        return f"{facts}\n- **Recipe:** {said}"


def _figure(result: MetricResult, commands: list[str]) -> tuple[str, ...]:
    return (
        md.text(result.dataset),
        md.text(result.protocol),
        md.text(result.name),
        md.number(result.value),
        md.number(result.seeds),
        md.text(result.spread),
        f"command {commands.index(md.lines(result.command)) + 1}",
    )


def _metric_type(name: str) -> str:
    words = re.findall(r"\w+", name.lower())
    return next((word for word in words if word in _HUB_METRICS), md.line(name).lower())


def _hub_dataset(url: str | None) -> str | None:
    match = _HUB_DATASET.fullmatch(md.line(url))
    return match and match[1]


def _hub_model(name: str | None) -> str | None:
    """The name where the Hub would take it for a repository; a description of a model stays in the text alone."""
    try:
        validate_repo_id(md.line(name))
    except HFValidationError:
        return None
    return md.line(name) or None


__all__ = [
    "NOT_EVALUATED",
    "NOT_STATED",
    "STANDARD_GROUPS",
    "CardError",
    "DatasetUse",
    "GroupResult",
    "MetricResult",
    "ModelCard",
    "Provenance",
]
