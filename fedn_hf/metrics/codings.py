"""Codings in files, whoever made them and with which program, as tables that can be held against each other.

A network's annotation says frames, frame rate and length of its video; a coder's file often says seconds only, and has
a name of its own. What one coding lacks is taken from the other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import exporters
from ..media_fedn import FednError
from .expressions import Expressions, Videos, concatenate

if TYPE_CHECKING:
    from ..annotation import ExpressionAnnotation
    from ..exporters.mapping import CodeMapping


@dataclass(frozen=True)
class Codings:
    """
    Codings of the same videos.

    tables: one for each path.
    videos: the videos with their lengths, where annotations say them for all; else `None`.
    notes: what was taken for granted, to be told.
    """

    tables: list[Expressions]
    videos: Videos | None = None
    notes: list[str] = field(default_factory=list)


def read_codings(
    paths: Sequence[str | Path], fps: float | None = None, mapping: "CodeMapping | None" = None
) -> Codings:
    """
    Read codings that belong together, each from a file or a folder of files.

    Args:
        paths: annotations of this package in any format, ELAN, Praat and BORIS files, tables.
        fps: frames per second, for files that do not say; else those of the same video in another of the codings.
        mapping: what tiers and codes of coders mean.

    Raises:
        `FednError`: nothing to read, a file that needs a mapping, or a frame rate that nobody says.
    """
    read = [_read(Path(path), fps, mapping) for path in paths]
    known: dict[str, Mapping[str, Any]] = {}
    for parts in read:
        for annotation in parts:
            if not isinstance(annotation, Expressions) and annotation.video.get("fps"):
                known.setdefault(_name(annotation), annotation.video)
    left_out = [_left_out(part) for parts in read for part in parts]
    tables = [concatenate([_table(part, fps, known) for part in parts]) for parts in read]
    tables, notes = _under_one_name([Path(path) for path in paths], tables)
    names = {name for table in tables for name in table.video}
    lengths = {name: facts.get("num_frames") for name, facts in known.items()}
    videos = None
    if known and names <= set(lengths) and None not in lengths.values() and not _have_subjects(tables):
        rates = [known[name]["fps"] for name in lengths]
        videos = Videos(list(lengths), num_frames=list(lengths.values()), fps=rates)
    return Codings(tables, videos, [*filter(None, left_out), *notes])


def _read(path: Path, fps: float | None, mapping: "CodeMapping | None") -> list["Expressions | ExpressionAnnotation"]:
    """What files say: tables of frames as they are, all else as annotations."""
    if path.is_dir():
        files = exporters.best_files(sorted(path.iterdir()))
        if not files:
            raise FednError(f"{path}: no .csv, .json or other file of expressions in this folder")
        return [part for file in files for part in _read(file, fps, mapping)]
    if path.suffix == ".gz" or (mapping is None and path.suffix == ".csv" and _is_foreign_table(path)):
        return [_in_frames(Expressions.from_csv(path, fps=fps), path)]
    if not path.exists():
        raise FednError(f"{path}: no such file or folder")
    return list(exporters.read(path, mapping))


def _in_frames(table: Expressions, path: Path) -> Expressions:
    """The table, if its times may be frames. Detectors do say half frames, coders do not: theirs would be seconds."""
    broken = np.any([np.isfinite(times) & (times % 1 != 0) for times in (table.onset, table.offset)], axis=0)
    if table.score is None and broken.any():
        row = int(np.argmax(broken))
        raise FednError(
            f"{path}: row {row} lasts from {table.onset[row]:g} to {table.offset[row]:g}, which are no frames; if "
            "they are seconds, call the columns onset_s and offset_s"
        )
    return table


def _is_foreign_table(path: Path) -> bool:
    """A table of frames, of a corpus or of another detector; not ours and not of BORIS."""
    from ..exporters import boris, tables

    try:
        header, rows = tables.read_rows(path)
    except (OSError, UnicodeError, ValueError, FednError):
        return True  # `Expressions.from_csv` says what is wrong with it
    return not tables.is_ours(header) and not any(boris.is_export(row) for row in [header, *rows[:60]])


def _table(
    part: "Expressions | ExpressionAnnotation", fps: float | None, known: Mapping[str, Mapping[str, Any]]
) -> Expressions:
    rates = {facts["fps"] for facts in known.values()}
    if isinstance(part, Expressions):
        rate = next(iter(rates)) if len(rates) == 1 else np.nan
        return replace(part, fps=np.where(np.isnan(part.fps), rate, part.fps))
    rate = part.video.get("fps") or fps
    if rate is None and _name(part) in known:
        rate = known[_name(part)]["fps"]
    if rate is None and len(rates) == 1:
        rate = next(iter(rates))
    # The rate also tells micro from macro where a coder gives no types.
    return Expressions.from_annotations([replace(part, video={**part.video, "fps": rate}).with_frames()])


def _left_out(part: "Expressions | ExpressionAnnotation") -> str | None:
    """What a mapping left out of a file is said."""
    if isinstance(part, Expressions) or not (tiers := part.provenance.get("left_out")):
        return None
    counts = ", ".join(f"{count} of {tier or 'no tier'}" for tier, count in tiers.items())
    return f"note: {part.provenance['read_from']}: the mapping leaves out {counts}"


def _under_one_name(paths: Sequence[Path], tables: list[Expressions]) -> tuple[list[Expressions], list[str]]:
    """
    Two files that are given side by side and name no video are of the same one; a video's name does for a file that
    has none.
    """
    names = [sorted(set(table.video)) for table in tables]
    if len(paths) != 2 or any(path.is_dir() for path in paths) or any(len(mine) != 1 for mine in names):
        shared = set.intersection(*map(set, names)) if all(names) else {""}
        note = "note: no video is in both: {} has {}, {} has {}"
        values = [text for path, mine in zip(paths, names, strict=True) for text in (path, ", ".join(mine)[:80])]
        return tables, [] if shared or len(paths) != 2 else [note.format(*values)]
    (first,), (second,) = names
    if first == second:
        return tables, []
    by_file = [mine == exporters.stem_of(path) for path, mine in zip(paths, (first, second), strict=True)]
    if not any(by_file):
        return tables, [f"note: no video is in both: {paths[0]} has {first}, {paths[1]} has {second}"]
    name = second if by_file[0] else first
    tables = [replace(table, video=np.full(len(table), name, dtype=object)) for table in tables]
    return tables, [f"note: {paths[0]} and {paths[1]} are taken for codings of one video, {name}"]


def _have_subjects(tables: Sequence[Expressions]) -> bool:
    return any(subject is not None for table in tables for subject in table.subject)


def _name(annotation: "ExpressionAnnotation") -> str:
    return Path(annotation.video["path"]).stem


__all__ = ["Codings", "read_codings"]
