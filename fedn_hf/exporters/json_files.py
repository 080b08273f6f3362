"""JSON: the whole annotation, one of them or one a line."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ..media_fedn import FednError

if TYPE_CHECKING:
    from ..annotation import ExpressionAnnotation
    from .mapping import CodeMapping


def write_json(annotation: "ExpressionAnnotation", path: Path, target: Path) -> None:
    """One object, an expression a line; curves take one line each, however long they are."""
    with _opened(path) as file:
        parts = annotation.to_dict().items()
        file.write("{\n" + ",\n".join(f" {_dumped(name)}: {_laid_out(value)}" for name, value in parts) + "\n}\n")


def read_json(path: Path, mapping: "CodeMapping | None") -> list["ExpressionAnnotation"]:
    """The one annotation of a file of ours; a mapping is not needed and not used."""
    from ..annotation import ExpressionAnnotation

    return [ExpressionAnnotation.from_dict(json.loads(path.read_text(encoding="utf-8-sig")))]


def write_jsonl(annotations: Sequence["ExpressionAnnotation"], path: Path, target: Path) -> None:
    """An annotation a line, as `datasets` and other programs for many records take it."""
    with _opened(path) as file:
        for annotation in annotations:
            file.write(_dumped(annotation.to_dict()) + "\n")


def read_jsonl(path: Path, mapping: "CodeMapping | None") -> list["ExpressionAnnotation"]:
    """The annotations of a file of ours, empty lines left out; a `FednError` names the line that is none."""
    return list(_lines(path))


def _lines(path: Path) -> Iterator["ExpressionAnnotation"]:
    from ..annotation import ExpressionAnnotation

    with open(path, encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                yield ExpressionAnnotation.from_dict(json.loads(line))
            except FednError as error:
                raise FednError(f"line {number}: {error}") from error


def _opened(path: Path) -> IO[str]:
    # Names of files need not be text; what is not stays readable, and valid in JSON, as an escape.
    return open(path, "w", encoding="utf-8", errors="backslashreplace", newline="\n")


def _dumped(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise FednError(f"it cannot be written as JSON ({error}); is a number in it NaN or infinite?") from error


def _laid_out(value: Any) -> str:
    """Lists of objects with one a line, all else in one line."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(f"  {_dumped(row)}" for row in value) + "\n ]"
    return _dumped(value)


__all__ = ["read_json", "read_jsonl", "write_json", "write_jsonl"]
