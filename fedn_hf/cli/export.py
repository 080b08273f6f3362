"""`fedn export`: what was found or marked, for other programs."""

from pathlib import Path
from typing import Annotated

import typer

from ..exporters import FORMATS, files_of, format_of, read, write_many
from ..media_fedn import FednError
from . import options
from .batch import Results, formats_of, go_through, is_file_name
from .inputs import Item, find_annotations
from .terminal import UsageError, say
from .written import check_file, remember


def export(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="IN",
            help="Files of expressions in any format but pictures and pages, folders of them, globs in quotes.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("-o", "--out", metavar="FILE|FOLDER", help="One file for all, or a folder of a file for each."),
    ],
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", metavar="eaf,csv,...", help="Kinds of files; else the suffix of -o says it."),
    ] = None,
    mapping: options.Mapping = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Write expressions for other programs, and read what coders marked with these.

    \b
    Formats, and what they are for:
      json, jsonl         everything; a file for each video, a line for each
      csv, tsv, parquet   a row for each expression: spreadsheets, statistics
      eaf, textgrid       ELAN, Praat
      boris               a workbook (.xlsx) for BORIS
      vtt, srt            subtitles
      bids                a table of events (NAME_events.tsv) and its JSON
      labelstudio         predictions to be corrected (NAME.labelstudio.json)
      rttm                tools for diarisation
      png, svg, html      a picture of the timeline, a page about it all

    \b
    A mapping file says what coders' names mean (* stands for anything, null leaves out):
      fps: 25
      tiers: {"Emotion*": {type: macro}, ME: {type: micro, face: 0}}
      codes: {HAP: happiness, "SUR?": null, "*": {}}
      columns: {label: Code, onset_s: Start, offset_s: End}

    \b
    Examples:
      fedn export results/interview.json -o interview.eaf
      fedn export results/ -o elan/ --format eaf,textgrid
      fedn export results/ -o all.csv
      fedn export coder.eaf -o coder.json --mapping codes.yaml
    """
    names, known = formats_of(formats), options.mapping_of(mapping)
    items = find_annotations(sources)
    if not names and not out.is_dir() and is_file_name(out):
        _into_one_file(items, out, known, overwrite)
        return
    if not names:
        raise UsageError(f"{out}: no known suffix; name a file such as {out}.csv, or say which files with --format")
    results = Results.of(out, names, overwrite=overwrite)

    def work(item: Item, hook) -> list[str]:
        annotations = read(item.source, known)
        folder = Path(item.name).parent
        for annotation in annotations:
            # A file of several videos becomes a file for each.
            name = item.name if len(annotations) == 1 else str(folder / Path(annotation.video["path"]).stem)
            mine = Item(item.source, name)
            _spare([item], results.paths(mine))
            results.check_replaceable(mine)
            results.write(mine, annotation, None)
        return _told(item, annotations, known)

    go_through(items, work, results)


def _into_one_file(items: list[Item], out: Path, mapping, overwrite: bool) -> None:
    """All annotations in one file; none is written if one cannot be read."""
    form = format_of(out)
    if len(items) > 1 and not form.holds_many:
        several = ", ".join(one.suffix for one in FORMATS.values() if one.holds_many)
        raise UsageError(
            f"{out}: a {form.name} file holds one video and {len(items)} are given; name a folder and --format "
            f"{form.name}, or a file of {several}"
        )
    formats_of([form.name])
    _spare(items, [out])
    for file in files_of(out):
        check_file(file, overwrite)
    annotations: list = []

    def work(item: Item, hook) -> list[str]:
        found = read(item.source, mapping)
        annotations.extend(found)
        return _told(item, found, mapping)

    go_through(items, work)
    try:
        write_many(annotations, out)
    except OSError as error:
        raise FednError(f"{out}: cannot be written ({error.strerror})") from error
    remember(files_of(out))
    say(f"written: {out}")


def _spare(items: list[Item], targets: list[Path]) -> None:
    """Never write over what is read: a coder's file is the only one of its kind."""
    for item in items:
        for target in targets:
            if target.exists() and Path(item.source).exists() and target.samefile(item.source):
                raise UsageError(
                    f"{target}: this would be written over while it is read; choose another place with -o"
                )


def _told(item: Item, annotations: list, mapping) -> list[str]:
    count = sum(map(len, annotations))
    videos = f" in {len(annotations)} videos" if len(annotations) != 1 else ""
    said = [f"{item.source}: {count} expression{'s' * (count != 1)}{videos}"]
    if mapping is not None and annotations and (left_out := annotations[0].provenance.get("left_out")):
        said.append("  left out by the mapping: " + ", ".join(f"{n} of {t or 'no tier'}" for t, n in left_out.items()))
    return said


__all__ = ["export"]
