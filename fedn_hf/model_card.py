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
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from string import Template
from typing import Any, Literal, get_args
from urllib.parse import quote

from huggingface_hub import EvalResult, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from .files_fedn import replacing
from .media_fedn import FednError

# The words that every card has; `$name` stands for what the facts say.
_WORDS = Path(__file__).with_name("assets") / "model_card.md"

NOT_STATED = "not stated"
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


# Values that people supply


def _printable(text: str) -> str:
    """Without control characters, lone surrogates, separators of lines, and marks that turn the reading direction."""
    turns = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    return "".join(" " if c in turns or unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in text)


def _line(value: Any) -> str:
    """One line of plain text; empty for None."""
    return "" if value is None else " ".join(_printable(str(value)).split())


def _lines(value: str) -> str:
    """Plain text that keeps its lines: a command may be continued on the next one."""
    return "\n".join(_printable(line.expandtabs(4)).rstrip() for line in value.splitlines()).strip()


def _text(value: Any) -> str:
    """A value as Markdown that shows it as it is, in a table as well as at the start of a paragraph."""
    line = re.sub(r"([\\`*_\[\]<>#|~&$])", r"\\\1", _line(value))
    line = re.sub(r"^(?=[-+=])|^(\d+)(?=[.)](\s|$))", r"\1\\", line)  # neither a list nor a rule
    return line or NOT_STATED


def _number(value: float | None) -> str:
    return NOT_STATED if value is None else f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"


def _link(text: str, url: str | None) -> str:
    address = quote(_line(url), safe="/:?#@!$&'*+,;=%~")
    return f"[{_text(text)}]({address})" if re.match(r"https?://.", address) else _text(text)


def _fence(code: str, language: str) -> str:
    ticks = "`" * max(3, 1 + max(map(len, re.findall("`+", code)), default=0))
    return f"{ticks}{language}\n{code}\n{ticks}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _gap(*said: str, columns: int) -> tuple[str, ...]:
    """A row that says once that there is nothing to show."""
    return (*said, *["–"] * (columns - len(said)))


def _facts(facts: Mapping[str, str]) -> str:
    return "\n".join(f"- **{name}:** {value}" for name, value in facts.items())


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
        if not isinstance(value, str) or not _line(value):
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
        license = _line(self.licence).lower() or "unknown"
        named = {"license": license}
        if not _HUB_LICENSES.fullmatch(license):
            named = {"license": "other", "license_name": re.sub(r"[^a-z0-9.]+", "-", license).strip("-.") or "custom"}
        hub_ids = {_line(use.name): found for use in self.training_data if (found := _hub_dataset(use.url))}
        results = [
            EvalResult(
                task_type=_HUB_TASK,
                task_name=_TASK_NAME,
                # The Hub keeps results of one type together, so data it does not hold go by their full name.
                dataset_type=hub_ids.get(_line(result.dataset)) or _line(result.dataset),
                dataset_name=_line(result.dataset),
                dataset_split=_line(result.protocol),
                metric_type=_metric_type(result.name),
                metric_name=_line(result.name),
                metric_value=float(result.value),
                metric_args={"command": _lines(result.command)},
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
            model_name=(_line(self.model_id) or _line(self.title)) if results else None,
        )

    def render(self) -> str:
        """The card: the Hub's front matter, then Markdown."""
        commands = list(dict.fromkeys(_lines(result.command) for result in (*self.metrics, *self.group_results)))
        where = _line(self.model_id) or "path/to/this/folder"
        body = Template(_WORDS.read_text(encoding="utf-8")).substitute(
            title=_text(self.title),
            summary=self._summary(),
            glance=self._glance(),
            python_where=json.dumps(where, ensure_ascii=False),
            shell_where=shlex.quote(where),
            labels=self._labels(),
            training_data=self._training_data(),
            metrics=self._metrics(commands),
            group_results=self._group_results(commands),
            commands="\n\n".join(f"Command {n}:\n\n{_fence(code, 'bash')}" for n, code in enumerate(commands, 1))
            or "No figure is given, so there is no command to make one.",
            threshold=_number(self.score_threshold),
            threshold_choice=_text(self.threshold_choice),
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
        if _line(self.summary):
            return _text(self.summary)
        emotion = "" if self.id2label == {} else ", and which emotion class coders would give it"
        return (
            "Finds facial expressions in long videos: when each one begins, peaks and ends, whether it is a macro-\n"
            f"or a micro-expression{emotion}. It works on ordinary recordings of faces, hours long\n"
            "if need be, and gives a list of intervals for people to look at."
        )

    def _glance(self) -> str:
        window = _number(self.window_size) if self.window_size is None else f"{self.window_size} frames"
        if self.window_size is not None and self.frame_rate:
            window += f" ({_number(self.window_size / self.frame_rate)} s)"
        size = NOT_STATED if self.image_size is None else f"{self.image_size} x {self.image_size} pixels"
        rate = NOT_STATED if self.frame_rate is None else f"{_number(self.frame_rate)} frames per second"
        return _facts(
            {
                "Network": "FEDN ([arXiv 2504.07660](https://arxiv.org/abs/2504.07660))",
                "Base model": _text(self.base_model),
                "Licence of the weights": _text(self.licence),
                "Face crops": size,
                "Frame rate it sees": rate,
                "Training window": window,
            }
        )

    def _labels(self) -> str:
        types = ", ".join(map(_text, self.expression_types)) or NOT_STATED
        facts = _facts({"Expression types": types, "Where the labels come from": _text(self.label_source)})
        if not self.id2label:
            none = "none: the network says when an expression happens and of which type"
            return f"{facts}\n- **Emotion classes:** {NOT_STATED if self.id2label is None else none}"
        rows = [(_text(index), _text(label)) for index, label in self.id2label.items()]
        return f"{facts}\n\n{_table(('Index', 'Emotion class'), rows)}"

    def _training_data(self) -> str:
        faces = {None: NOT_STATED, True: "rendered", False: "recorded people"}
        rows = []
        for role in get_args(Role):
            uses = [use for use in self.training_data if use.role == role]
            rows += [] if uses else [_gap(role, NOT_STATED, columns=7)]
            for use in uses:
                sizes = map(_number, (use.videos, use.subjects, use.hours))
                rows.append((role, _link(use.name, use.url), _text(use.licence), faces[use.synthetic], *sizes))
        return _table(("Role", "Data", "Licence", "Faces", "Videos", "Subjects", "Hours"), rows)

    def _metrics(self, commands: list[str]) -> str:
        rows = [_figure(result, commands) for result in self.metrics] or [_gap(NOT_EVALUATED, columns=7)]
        return _table(("Data", "Protocol", "Metric", "Value", "Seeds", "Spread", "Made by"), rows)

    def _group_results(self, commands: list[str]) -> str:
        rows = []
        for name, results in self._groups().items():
            rows += [(_text(result.group), _text(result.subgroup), *_figure(result, commands)) for result in results]
            rows += [] if results else [_gap(name, NOT_EVALUATED, columns=9)]
        header = ("Group", "Part", "Data", "Protocol", "Metric", "Value", "Seeds", "Spread", "Made by")
        return _table(header, rows)

    def _groups(self) -> dict[str, list[GroupResult]]:
        groups: dict[str, list[GroupResult]] = {name: [] for name in STANDARD_GROUPS}
        for result in self.group_results:
            groups.setdefault(_line(result.group).lower(), []).append(result)
        return groups

    def _unproven(self) -> list[str]:
        """What the facts do not show, so that nobody reads it into them."""
        recorded = {_line(use.name) for use in self.training_data if use.synthetic is False}
        tested = [result for result in self.metrics if _line(result.dataset) in recorded]
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
        facts = _facts(
            {
                "fedn_hf": _text(known.package_version),
                "transformers": _text(known.transformers_version),
                "torch": _text(known.torch_version),
                "Commit of the code": _text(known.git_commit),
                "Seed": _text(known.seed),
                "Date": _text(known.date),
                "Parent checkpoint": _text(known.parent_checkpoint),
            }
        )
        recipe = _lines(known.command or "")
        said = f"this command\n\n{_fence(recipe, 'bash')}" if recipe else NOT_STATED
        return f"{facts}\n- **Recipe:** {said}"


def _figure(result: MetricResult, commands: list[str]) -> tuple[str, ...]:
    return (
        _text(result.dataset),
        _text(result.protocol),
        _text(result.name),
        _number(result.value),
        _number(result.seeds),
        _text(result.spread),
        f"command {commands.index(_lines(result.command)) + 1}",
    )


def _metric_type(name: str) -> str:
    words = re.findall(r"\w+", name.lower())
    return next((word for word in words if word in _HUB_METRICS), _line(name).lower())


def _hub_dataset(url: str | None) -> str | None:
    match = _HUB_DATASET.fullmatch(_line(url))
    return match and match[1]


def _hub_model(name: str | None) -> str | None:
    """The name where the Hub would take it for a repository; a description of a model stays in the text alone."""
    try:
        validate_repo_id(_line(name))
    except HFValidationError:
        return None
    return _line(name) or None


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
