"""How coders' tiers, subjects and codes become types and labels: a mapping file in YAML.

fps: 25                                             # frames per second, where the file does not say
tiers:                                              # ELAN and Praat tiers, BORIS subjects; * stands for anything
  "Emotion*": {type: macro, face: 0}                # tiers that are not named are left out
  Micro: {type: micro}
codes:                                              # what is written in them; without `codes` it is the label
  HAP: happiness
  "SUR?": null                                      # left out
  ME-dis: {type: micro, label: disgust}
  "*": {}                                           # all others stay as they are
columns: {label: Code, onset_s: Start, offset_s: End}   # of tables: our column and theirs; *_s, *_ms or *_frame
"""

import fnmatch
import reprlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any

import yaml

from ..media_fedn import FednError

_MAX_BYTES = 2**20
_SHORT_TYPES: dict[str | None, str] = {"macro": "macro-expression", "micro": "micro-expression"}
COLUMNS = frozenset(
    {"video", "face_id", "type", "label", "score", "duration_s", "duration_ms"}
    | {f"{moment}_{unit}" for moment in ("onset", "apex", "offset") for unit in ("s", "ms", "frame")}
)


@dataclass(frozen=True)
class CodeMapping:
    """
    What a coder's names mean.

    tiers: name of a tier or subject, in which `*` stands for anything -> dict with `type` and `face`. Others are left
        out. Empty: all tiers count.
    codes: code -> a label, a dict with `label` and `type`, or `None` to leave it out. Empty: codes are labels.
    columns: column of ours -> column of a table.
    fps: frames per second.
    left_out: tier -> how often `meaning` gave nothing.

    Raises:
        `FednError`: keys and values of other kinds.

    Example:
        >>> mapping = CodeMapping(tiers={"Micro*": {"type": "micro"}}, codes={"HAP": "happiness"})
        >>> mapping.meaning("Micro 1", "HAP")
        {'type': 'micro-expression', 'face_id': 0, 'label': 'happiness'}
    """

    tiers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    codes: Mapping[str, Any] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    fps: float | None = None
    left_out: Counter[str] = field(default_factory=Counter, init=False, repr=False, compare=False)

    def __post_init__(self):
        for name in ("tiers", "codes", "columns"):
            if not isinstance(getattr(self, name), Mapping):
                raise FednError(
                    f"{name} of a mapping must hold names and what they mean, got {reprlib.repr(getattr(self, name))}"
                )
        for name, meaning in self.tiers.items():
            _check(f"tier {name!r}", meaning, {"type", "face"})
        for name, meaning in self.codes.items():
            if meaning is not None and not isinstance(meaning, str):
                _check(f"code {name!r}", meaning, {"type", "label"})
        for name, theirs in self.columns.items():
            if name not in COLUMNS or not isinstance(theirs, str):
                raise FednError(
                    f"columns of a mapping are {', '.join(sorted(COLUMNS))}; got {name!r}: {reprlib.repr(theirs)}"
                )
        if self.fps is not None and not (isinstance(self.fps, Real) and 0 < self.fps < 1e6):
            raise FednError(
                f"fps of a mapping must be a positive number of frames per second, got {reprlib.repr(self.fps)}"
            )

    @classmethod
    def read(cls, path: str | Path) -> "CodeMapping":
        """
        Read a YAML file, as shown at the top of this module.

        Raises:
            `FednError`: no such file, or another kind of file.
        """
        path = Path(path)
        try:
            if path.stat().st_size > _MAX_BYTES:
                raise FednError(f"{path}: too large for a mapping file")
            data = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise FednError(f"{path}: not a mapping file that can be read: {error.strerror}") from error
        except (UnicodeDecodeError, yaml.YAMLError, ValueError, RecursionError) as error:
            raise FednError(f"{path}: not a mapping file that can be read: {' '.join(str(error).split())}") from error
        if not isinstance(data, dict) or set(data) - {"tiers", "codes", "columns", "fps"}:
            given = ", ".join(map(str, data))[:200] if isinstance(data, dict) else reprlib.repr(data)
            raise FednError(f"{path}: a mapping file holds tiers, codes, columns and fps, got {given}")
        try:
            parts = {name: part for name, part in data.items() if part is not None}
            for name in ("tiers", "codes"):
                if isinstance(parts.get(name), dict):  # YAML reads some codes as numbers
                    parts[name] = {str(key): value for key, value in parts[name].items()}
            return cls(**parts)
        except FednError as error:
            raise FednError(f"{path}: {error}") from error

    def meaning(self, tier: str, code: str) -> dict[str, Any] | None:
        """
        `type`, `face_id` and `label` of a code in a tier; `None` if it is left out.

        Raises:
            `FednError`: the mapping has codes, but not this one.
        """
        of_tier = _find(self.tiers, tier) if self.tiers else {}
        if of_tier is _ABSENT:
            self.left_out[tier] += 1
            return None
        of_code = _find(self.codes, code) if self.codes else {}
        if of_code is _ABSENT:
            raise FednError(
                f"tier {tier!r} holds the code {code!r}, which the mapping does not have; add it, and with null it is "
                "left out"
            )
        if of_code is None:
            self.left_out[tier] += 1
            return None
        of_code = {"label": of_code} if isinstance(of_code, str) else of_code
        kind = of_code.get("type", of_tier.get("type"))
        label = of_code.get("label", code)
        return {"type": _SHORT_TYPES.get(kind, kind), "face_id": of_tier.get("face", 0), "label": label}


_ABSENT = object()


def _find(names: Mapping[str, Any], name: str) -> Any:
    """The meaning of a name itself, or else of the first pattern that fits."""
    if name in names:
        return names[name]
    return next((names[key] for key in names if fnmatch.fnmatchcase(name, key)), _ABSENT)


def _check(what: str, meaning: Any, known: set[str]) -> None:
    if not isinstance(meaning, Mapping) or set(meaning) - known:
        raise FednError(f"{what} of a mapping takes {', '.join(sorted(known))}, got {reprlib.repr(meaning)}")
    for name in ("type", "label"):
        if not isinstance(meaning.get(name), str | None):
            raise FednError(f"{name} of {what} must be a text, got {reprlib.repr(meaning[name])}")
    face = meaning.get("face", 0)
    if isinstance(face, bool) or not isinstance(face, int) or face < 0:
        raise FednError(f"face of {what} must be a whole number, 0 or more, got {reprlib.repr(face)}")


__all__ = ["COLUMNS", "CodeMapping"]
