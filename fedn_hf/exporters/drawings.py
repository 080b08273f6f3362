"""What people look at: the timeline as a picture, and a page about it all. None of it can be read back."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..annotation import ExpressionAnnotation


def write_png(annotation: "ExpressionAnnotation", path: Path, target: Path) -> None:
    """The timeline; see `fedn_hf.pictures.draw_timeline`. Its description holds all but expressions and curves."""
    _write(annotation, path, "png")


def write_svg(annotation: "ExpressionAnnotation", path: Path, target: Path) -> None:
    """As `write_png`; text stays text."""
    _write(annotation, path, "svg")


def write_html(annotations: Sequence["ExpressionAnnotation"], path: Path, target: Path) -> None:
    """A report, with faces where the videos are at hand; see `fedn_hf.html_report`."""
    from ..html_report import write_report

    write_report(annotations, path)


def _write(annotation: "ExpressionAnnotation", path: Path, kind: str) -> None:
    from ..pictures import draw_timeline
    from ..pictures.style import write_figure
    from . import facts_of

    write_figure(draw_timeline(annotation), path, kind, json.dumps(facts_of(annotation)))


__all__ = ["write_html", "write_png", "write_svg"]
