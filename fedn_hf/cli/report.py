"""`fedn report`: one HTML file about what was found or marked in videos."""

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .terminal import UsageError, say
from .written import check_file, remember


def report(
    annotations: Annotated[
        list[Path],
        typer.Argument(metavar="ANNOTATION", help="Files of annotations (.json, .eaf, .csv, ...), folders of .json."),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="The page to write, .html.")],
    no_faces: Annotated[
        bool, typer.Option("--no-faces", help="Show no faces; else they are, where the videos are at hand.")
    ] = False,
    overwrite: options.Overwrite = False,
) -> None:
    """Write one HTML page about one video or many: timelines, faces, time budgets, warnings, provenance.

    The page needs nothing else and asks nothing from anywhere. With faces in it, share it only as you may share the
    videos; --no-faces leaves them out.

    \b
    Examples:
      fedn report results/interview.json -o interview.html
      fedn report results/ -o study.html --no-faces
    """
    from ..annotation import ExpressionAnnotation
    from ..html_report import write_report
    from ..media_fedn import FednError
    from ..progress import ProgressHook
    from ..tracks import video_of

    if out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{out}: a report is an HTML page; name such a file with -o")
    check_file(out, overwrite)
    files = _files(annotations)
    known = [ExpressionAnnotation.read(file) for file in files]
    places = []
    for file, annotation in zip(files, known, strict=True):
        try:
            places.append(None if no_faces else video_of(annotation, file.parent))
        except FednError:
            places.append(None)
    with ProgressHook() as hook:
        write_report(known, out, videos=places, hook=hook)
    remember([out])
    absent = sum(place is None for place in places)
    without = (
        f", {absent} without faces: the videos are not where the annotations say" if absent and not no_faces else ""
    )
    say(f"{out}: a report on {len(known)} video{'s' * (len(known) != 1)}{without}")


def _files(arguments: list[Path]) -> list[Path]:
    """All files that are meant, each once; of a folder those with everything in them."""
    from ..exporters import SIDECAR_SUFFIX

    files: list[Path] = []
    for argument in arguments:
        if argument.is_dir():
            inside = sorted(p for p in argument.rglob("*.json") if not p.name.endswith(SIDECAR_SUFFIX))
            if not inside:
                raise UsageError(f"{argument}: the folder holds no .json; `fedn detect -o` writes them")
            files += inside
        elif not argument.exists():
            raise UsageError(f"{argument}: no such file or folder")
        else:
            files.append(argument)
    return list(dict.fromkeys(files))


__all__ = ["report"]
