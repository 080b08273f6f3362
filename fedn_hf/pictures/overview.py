"""Many videos side by side: when expressions happened in each, how often, and with which labels."""

from collections.abc import Sequence
from pathlib import PurePath

import numpy as np

from ..annotation import ExpressionAnnotation
from ..media_fedn import FednError
from .style import FAINT, INK, named, new_figure, rules, shortened, time_axis, type_of, type_order, type_style
from .timeline import gaps, seen_span

_ROW_IN, _LEAST_ROW_IN, _MOST_IN = 0.26, 0.03, 16.0
_AS_PIXELS = 1000  # from so many events on an SVG holds them as pixels


def draw_overview(annotations: Sequence[ExpressionAnnotation]):
    """
    Draw a row for each video: its events over time (macro-expressions above micro-expressions), how many of each type
    there are in a minute of seen face, and how often each label was given.

    Args:
        annotations: in the order of the rows, from the top.

    Returns:
        A matplotlib `Figure`.

    Raises:
        `FednError`: no annotations, or matplotlib is not installed.

    Example:
        >>> from fedn_hf.annotation import ExpressionAnnotation
        >>> nothing = [ExpressionAnnotation({"path": f"{name}.mp4", "duration_s": 9.0}, []) for name in "ab"]
        >>> figure = draw_overview(nothing)
        >>> [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
        ['a', 'b']
    """
    if not annotations:
        raise FednError("an overview needs at least one annotation, got none")
    with rules():
        count = len(annotations)
        row_in = min(_ROW_IN, max(_LEAST_ROW_IN, _MOST_IN / count))
        labels = _labels(annotations)
        figure = new_figure(11.0, row_in * count + 1.5)
        figure.get_layout_engine().set(w_pad=0.12)
        widths = [6.0, 2.0] + ([max(1.0, 0.5 * len(labels))] if labels else [])
        panels = figure.subplots(1, len(widths), sharey=True, width_ratios=widths)
        _draw_events(panels[0], annotations)
        _draw_rates(panels[1], annotations)
        if labels:
            _draw_labels(panels[2], annotations, labels, row_in)
        every = max(1, int(np.ceil(0.13 / row_in)))  # rows between two names, so that these can be read
        names = [shortened(PurePath(str(a.video.get("path", "video"))).stem, 28) for a in annotations]
        panels[0].set_yticks(range(0, count, every), names[::every])
        panels[0].set_ylim(count - 0.5, -0.5)
        for panel in panels:
            panel.tick_params(axis="y", length=0)
        _legend(figure, annotations)
        return figure


def _types(annotations: Sequence[ExpressionAnnotation]) -> list[str]:
    return type_order(type_of(event) for annotation in annotations for event in annotation)


def _labels(annotations: Sequence[ExpressionAnnotation]) -> list[str]:
    known = list(dict.fromkeys(label for annotation in annotations for label in annotation.labels))
    there = {event.label for annotation in annotations for event in annotation} - {None}
    return [label for label in known if label in there] + sorted(there - set(known))


def _draw_events(axes, annotations: Sequence[ExpressionAnnotation]) -> None:
    from matplotlib.collections import PolyCollection

    axes.set_label("events")
    types = _types(annotations)
    spans = [seen_span(annotation) for annotation in annotations]
    for row, (annotation, (start_s, end_s)) in enumerate(zip(annotations, spans, strict=True)):
        axes.plot([start_s, end_s], [row, row], color=FAINT, lw=0.6, zorder=1)
        for gap_start_s, gap_end_s in gaps(annotation, start_s, end_s):
            axes.plot([gap_start_s, gap_end_s], [row, row], color="white", lw=1.6, zorder=1.5)
    for place, kind in enumerate(types):
        top, bottom = (np.array([0.05, 0.95]) + place) / len(types) * 0.8 - 0.4
        edges = np.array([
            (event.onset_s, event.offset_s, row + top, row + bottom)
            for row, annotation in enumerate(annotations) for event in annotation if type_of(event) == kind
        ]).reshape(-1, 4)  # fmt: skip
        color = type_style(types, kind)["color"]
        boxes = edges[:, [0, 2, 0, 3, 1, 3, 1, 2]].reshape(-1, 4, 2)
        bars = PolyCollection(boxes, facecolors=color, edgecolors=color, linewidths=0.5, zorder=2)
        bars.set_gid(named("events", kind))
        bars.set_rasterized(len(edges) > _AS_PIXELS)
        axes.add_collection(bars)
    time_axis(axes, min(start for start, _ in spans), max(end for _, end in spans), most_ticks=6)
    axes.set_xlabel("time in the video; no line where no face was seen")


def _draw_rates(axes, annotations: Sequence[ExpressionAnnotation]) -> None:
    axes.set_label("rates")
    types = _types(annotations)
    for kind in types:
        rates = []
        for annotation in annotations:
            start_s, end_s = seen_span(annotation)
            seen_s = end_s - start_s - sum(b - a for a, b in gaps(annotation, start_s, end_s))
            rates.append(60 * sum(type_of(event) == kind for event in annotation) / max(seen_s, 1e-3))
        style = type_style(types, kind)
        axes.plot(
            rates, range(len(rates)), style["marker"], color=style["color"], ms=5, mfc="none" if style["hatch"] else
            style["color"], gid=named("rates", kind), clip_on=False,
        )  # fmt: skip
    axes.set_xlim(left=0)
    axes.grid(axis="x", color="#e4e4e4", lw=0.6)
    axes.set_xlabel("onsets per minute\nof seen face")
    axes.locator_params(axis="x", nbins=4)


def _draw_labels(axes, annotations: Sequence[ExpressionAnnotation], labels: list[str], row_in: float) -> None:
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import to_rgba

    axes.set_label("labels")
    counts = np.array([[sum(event.label == label for event in a) for label in labels] for a in annotations])
    places = np.argwhere(counts)  # (N, 2) rows and columns
    corners = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)])
    shades = [to_rgba(FAINT, 0.65 * np.sqrt(counts[row, column] / counts.max())) for row, column in places]
    cells = PolyCollection(places[:, None, ::-1] + corners, facecolors=shades, lw=0, zorder=0)
    cells.set_gid("label-counts")
    cells.set_rasterized(len(places) > _AS_PIXELS)
    axes.add_collection(cells)
    axes.set_xlim(-0.5, len(labels) - 0.5)
    if row_in >= 0.13:
        for (row, column), number in np.ndenumerate(counts):
            axes.text(column, row, str(number) if number else "", ha="center", va="center", color=INK, fontsize=7.5)
    axes.set_xticks(range(len(labels)), [shortened(label, 16) for label in labels], rotation=40, ha="right")
    axes.set_xlabel("expressions with each label")
    axes.spines[:].set_visible(False)
    axes.tick_params(axis="x", length=0)


def _legend(figure, annotations: Sequence[ExpressionAnnotation]) -> None:
    from matplotlib.lines import Line2D

    types = _types(annotations)
    handles = []
    for place, kind in enumerate(types):
        style = type_style(types, kind)
        where = f" ({('above', 'below')[place]})" if len(types) == 2 else ""
        fill = "none" if style["hatch"] else style["color"]
        handles.append(
            Line2D([], [], ls="", marker=style["marker"], color=style["color"], mfc=fill, label=f"{kind}{where}")
        )
    if handles:
        figure.legend(handles=handles, loc="outside upper left", ncols=len(handles))


__all__ = ["draw_overview"]
