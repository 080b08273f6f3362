"""Files that people's programs open: one writer for each format, and readers, also of what coders have marked.

`annotation.write("a.eaf")` chooses by suffix. Each module holds the writers and readers of one family of programs;
what they share about tiers, codes and times stands in `marks`, how coders' names become ours in `mapping`. Files are
whole or not there. JSON, JSONL and Parquet hold everything. Provenance goes into every file whose format has a place
for it; CSV, TSV, TextGrid, SRT and RTTM have none and get `NAME.provenance.json` beside them.
"""

import importlib
import importlib.util
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files_fedn import replacing
from ..media_fedn import FednError, install

if TYPE_CHECKING:
    from ..annotation import ExpressionAnnotation
    from .mapping import CodeMapping

SIDECAR_SUFFIX = ".provenance.json"
# What a reader takes at most: an annotation of a whole day with its curves has a tenth of it.
MAX_BYTES = 512 * 2**20


@dataclass(frozen=True)
class Format:
    """
    A kind of file.

    name: as `--format` takes it.
    suffix: what stands behind the name of a video.
    module: where its `write_NAME(annotation, path, target)` and `read_NAME(path, mapping)` are.
    provenance: "all", where the file holds the whole annotation; "inside"; "beside", in a file of its own.
    holds_many: several annotations can share a file; it is then written by `write_NAME(annotations, path, target)`.
    needs: package that writing needs, and the extra that it comes with.
    is_read: whether there is a reader.
    """

    name: str
    suffix: str
    module: str
    provenance: str = "inside"
    holds_many: bool = False
    needs: tuple[str, str] | None = None
    is_read: bool = True

    def does(self, what: str):
        """Its function: "write" or "read"."""
        return getattr(importlib.import_module(f".{self.module}", __name__), f"{what}_{self.name}")

    def check(self) -> None:
        """Raise a `FednError` that names the extra if a package is missing for writing."""
        if self.needs is not None and importlib.util.find_spec(self.needs[0]) is None:
            raise FednError(f"{self.name} needs {self.needs[0]}: {install(self.needs[1])}")


FORMATS = {
    form.name: form
    for form in (
        Format("json", ".json", "json_files", "all"),
        Format("jsonl", ".jsonl", "json_files", "all", holds_many=True),
        Format("csv", ".csv", "tables", "beside", holds_many=True),
        Format("tsv", ".tsv", "tables", "beside", holds_many=True),
        Format("parquet", ".parquet", "tables", "all", holds_many=True),
        Format("eaf", ".eaf", "elan"),
        Format("textgrid", ".TextGrid", "praat", "beside"),
        Format("vtt", ".vtt", "subtitles"),
        Format("srt", ".srt", "subtitles", "beside"),
        Format("boris", ".xlsx", "boris", needs=("openpyxl", "export")),
        Format("bids", "_events.tsv", "bids"),
        Format("labelstudio", ".labelstudio.json", "label_studio", holds_many=True),
        Format("rttm", ".rttm", "rttm", "beside"),
        Format("png", ".png", "drawings", needs=("matplotlib", "viz"), is_read=False),
        Format("svg", ".svg", "drawings", needs=("matplotlib", "viz"), is_read=False),
        Format("html", ".html", "drawings", holds_many=True, needs=("matplotlib", "viz"), is_read=False),
    )
}


def format_of(path: str | Path, name: str | None = None) -> Format:
    """
    The format of a name, or else of the longest suffix that fits: "a.labelstudio.json" ends in ".json", too.

    Raises:
        `FednError`: there is none.

    Example:
        >>> format_of("results/interview.csv").name
        'csv'
    """
    if name is not None:
        if name not in FORMATS:
            raise FednError(f"no format {name!r}; there is {', '.join(FORMATS)}")
        return FORMATS[name]
    file = Path(path).name.lower()
    fitting = [form for form in FORMATS.values() if file.endswith(form.suffix.lower())]
    if not fitting:
        known = ", ".join(form.suffix for form in FORMATS.values())
        raise FednError(f"{path}: no writer for {Path(path).suffix or 'no suffix'}; there is {known}")
    return max(fitting, key=lambda form: len(form.suffix))


def write(annotation: "ExpressionAnnotation", path: str | Path, name: str | None = None) -> None:
    """
    Write one annotation in the format of `name`, or of the suffix.

    Raises:
        `FednError`: no such format, something that the format cannot hold, or a package that is missing for it.
    """
    write_many([annotation], path, name)


def write_many(
    annotations: Iterable["ExpressionAnnotation"],
    path: str | Path,
    name: str | None = None,
    *,
    with_provenance: bool = True,
) -> None:
    """
    Write annotations into one file: CSV, TSV and Parquet give one tidy table, JSONL a line for each video.

    Args:
        with_provenance: whether a format that has no place for provenance gets a file beside it.

    Raises:
        `FednError`: several for a format that holds only one, and as `write`.
    """
    path, annotations = Path(path), list(annotations)
    form = format_of(path, name)
    form.check()
    if len(annotations) != 1 and not form.holds_many:
        several = ", ".join(form.name for form in FORMATS.values() if form.holds_many)
        raise FednError(f"{path}: {form.name} holds one annotation, got {len(annotations)}; several go into {several}")
    with replacing(path) as unfinished:
        form.does("write")(annotations if form.holds_many else annotations[0], unfinished, path)
    if form.provenance == "beside" and with_provenance:
        facts = [facts_of(annotation) for annotation in annotations]
        with replacing(sidecar_of(path)) as unfinished:
            unfinished.write_text(json.dumps(facts[0] if len(facts) == 1 else facts, indent=1), encoding="ascii")


def read(path: str | Path, mapping: "CodeMapping | None" = None) -> list["ExpressionAnnotation"]:
    """
    The annotations in a file of any of the formats; most hold one.

    Args:
        path: the file. Of what this package wrote, everything that the format holds comes back, times within a
            millisecond, scores of CSV, TSV and BIDS to four digits.
        mapping: which tiers and codes of a coder mean what; see [`CodeMapping`]. What this package wrote is read
            without. How much it left out stands in `provenance["left_out"]`, by tier.

    Raises:
        `FednError`: no file, another kind of file, a damaged one, or tiers and codes that need a mapping.
    """
    path = Path(path)
    try:
        form = format_of(path)
    except FednError:
        known = ", ".join(form.suffix for form in FORMATS.values() if form.is_read)
        what = "a folder" if path.is_dir() else "no file of expressions"
        raise FednError(f"{path}: {what}; name a file of what was found or marked, which ends in {known}") from None
    mapping = None if mapping is None else replace(mapping)  # with nothing left out yet
    if not form.is_read:
        raise FednError(f"{path}: pictures and pages cannot be read back; give the file they were made of")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise FednError(f"{path.stat().st_size} bytes are more than the {MAX_BYTES} that are read")
        found = form.does("read")(path, mapping)
    except FednError as error:
        raise FednError(f"{path}: {error}") from error
    except OSError as error:
        raise FednError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # parsers of damaged files raise whatever comes
        reason = " ".join(str(error).split())[:200]
        raise FednError(
            f"{path}: not a {form.name} file that can be read: {type(error).__name__}: {reason}"
        ) from error
    if mapping is not None and mapping.fps is not None:
        found = [annotation.with_frames(mapping.fps) for annotation in found]
    if mapping is not None and mapping.left_out:
        left_out = {"left_out": dict(mapping.left_out)}
        found = [replace(annotation, provenance={**annotation.provenance, **left_out}) for annotation in found]
    return found


def facts_of(annotation: "ExpressionAnnotation") -> dict[str, Any]:
    """All but the expressions and the long curves: what a file should say about itself."""
    from ..results_fedn import SCHEMA

    names = ("video", "labels", "types", "coverage", "provenance")
    return {"schema": SCHEMA, **{name: getattr(annotation, name) for name in names}}


def sidecar_of(path: str | Path) -> Path:
    """Where the provenance of a file lies whose format has no place for it."""
    return Path(path).with_name(stem_of(path) + SIDECAR_SUFFIX)


def files_of(path: str | Path) -> list[Path]:
    """All files that writing this one may make: some formats have a second file, beside the first."""
    path = Path(path)
    try:
        form = format_of(path)
    except FednError:
        return [path]
    if form.provenance == "beside":
        return [path, sidecar_of(path)]
    return [path, path.with_suffix(".json")] if form.name == "bids" else [path]


def stem_of(path: str | Path) -> str:
    """The name of a file without the suffix of its format."""
    path = Path(path)
    try:
        return path.name[: -len(format_of(path).suffix)]
    except FednError:
        return path.stem


def best_files(paths: Iterable[Path]) -> list[Path]:
    """
    Of the files that can be read one for each name, the one that says most: `fedn detect` writes the same in several
    formats. What lies beside it for provenance is left out.
    """
    order = {name: place for place, name in enumerate(("json", "parquet", "jsonl", "csv", "tsv"))}
    best: dict[Path, tuple[int, Path]] = {}
    for path in paths:
        if path.name.endswith((SIDECAR_SUFFIX, "_events.json")) or path.name.startswith("."):
            continue
        try:
            form = format_of(path)
        except FednError:
            continue
        if form.is_read:
            choice = (order.get(form.name, len(order)), path)
            same = path.with_name(stem_of(path))
            best[same] = min(best.get(same, choice), choice)
    return [path for _, path in best.values()]


def facts_beside(path: Path) -> list[dict[str, Any]]:
    """What lies beside a file about it: the provenance or the whole annotation, the newer one; empty if neither."""
    places = (sidecar_of(path), path.with_name(f"{stem_of(path)}.json"))
    there = [place for place in places if place.is_file() and place != path and place.stat().st_size <= MAX_BYTES]
    for place in sorted(there, key=lambda place: place.stat().st_mtime_ns, reverse=True):
        facts = json.loads(place.read_text(encoding="utf-8"))
        facts = facts if isinstance(facts, list) else [facts]
        if all(isinstance(one, dict) and {"schema", "video"} <= one.keys() for one in facts):
            names = ("schema", "video", "labels", "types", "coverage", "provenance")
            return [{name: one[name] for name in names if name in one} for one in facts]
    return []


__all__ = [
    "FORMATS",
    "MAX_BYTES",
    "SIDECAR_SUFFIX",
    "Format",
    "best_files",
    "facts_beside",
    "facts_of",
    "files_of",
    "format_of",
    "read",
    "sidecar_of",
    "stem_of",
    "write",
    "write_many",
]
