"""What happened when in one video: events by label and type, curves, and where no face was seen.

In every row macro-expressions stand above micro-expressions, so nothing hangs on colour. What coders marked is drawn
as frames: a filled frame is a hit, an empty one a miss, and a fill without a frame a false alarm.
"""

from collections.abc import Iterable, Sequence
from pathlib import PurePath

import numpy as np

from ..annotation import ExpressionAnnotation, ExpressionInterval
from .style import (
    COLOURS,
    FAINT,
    GAP,
    INK,
    LINES,
    clock,
    cycled,
    named,
    new_figure,
    plain,
    rules,
    shortened,
    time_axis,
    type_of,
    type_order,
    type_style,
)  # fmt: skip

WIDTH_IN = 11.0
_ROW_IN = 0.36
_MOST_FACES = 6  # in a picture; more are counted below it
_WIDE_IN = 0.08  # from this width on a bar has room for a hatching and a mark
_AS_PIXELS = 1000  # from so many events on an SVG holds them as pixels: one path each would take megabytes
_LONG_S = 600.0  # from here on a panel shows how many there are in a minute
_BINS = 1600  # of a curve: its peaks at the resolution of the picture
_LANES = (0.08, 0.92)  # part of a row that is drawn in


def draw_timeline(
    annotation: ExpressionAnnotation, truth: ExpressionAnnotation | Iterable[ExpressionInterval] | None = None
):
    """
    Draw events by label and type over time, the curves of score and intensity, and the gaps without a face.

    Args:
        annotation: of one video, of seconds or hours.
        truth: what coders marked in the same video.

    Returns:
        A matplotlib `Figure`; `fedn_hf.pictures.save` writes it.

    Raises:
        `FednError`: matplotlib is not installed.

    Example:
        >>> annotation = ExpressionAnnotation({"path": "a.mp4", "duration_s": 10.0}, [
        ...     ExpressionInterval("anger", 0.9, "macro-expression", 1.0, 1.2, 2.0, 25, 30, 49, face_id=0)])
        >>> figure = draw_timeline(annotation)
        >>> [axes.get_label() for axes in figure.axes]
        ['events']
    """
    with rules():
        marked = [] if truth is None else list(truth)
        start_s, end_s = seen_span(annotation, marked)
        rows, hidden = _rows(annotation, marked)
        panels = {"events": max(1, len(rows)) * _ROW_IN + 0.1}
        panels |= {"density": 0.75} if end_s - start_s >= _LONG_S and annotation.intervals else {}
        panels |= {"curves": 1.0} if any({"score", "intensity"} & curve.keys() for curve in annotation.curves) else {}
        panels |= {"coverage": 0.22} if annotation.coverage else {}
        figure = new_figure(WIDTH_IN, sum(panels.values()) + 0.18 * len(panels) + 0.95)
        axes = dict(zip(panels, np.atleast_1d(figure.subplots(len(panels), 1, sharex=True, height_ratios=list(
            panels.values()))), strict=True))  # fmt: skip
        for name, panel in axes.items():
            panel.set_label(name)
        _draw_events(axes["events"], annotation, marked, rows, _WIDE_IN / WIDTH_IN * (end_s - start_s))
        for name, draw in (("density", _draw_density), ("curves", _draw_curves), ("coverage", _draw_coverage)):
            if name in axes:
                draw(axes[name], annotation, start_s, end_s)
        _shade_gaps(list(axes.values())[: -1 if annotation.coverage else None], annotation, start_s, end_s)
        last = list(axes.values())[-1]
        time_axis(last, start_s, end_s)
        last.set_xlabel("time in the video" + (f"; events of {hidden} more faces are not shown" if hidden else ""))
        axes["events"].set_title(_title(annotation), pad=8)
        _legend(figure, annotation, marked)
        return figure


def seen_span(annotation: ExpressionAnnotation, others: Sequence[ExpressionInterval] = ()) -> tuple[float, float]:
    """First and last second of what was read of the video."""
    settings = annotation.provenance
    start_s, end_s = float(settings.get("start_s") or 0.0), settings.get("end_s")
    ends = [row["end_s"] for row in annotation.coverage]
    ends += [event.offset_s for event in [*annotation.intervals, *others]]
    ends += [curve["time_s"][-1] for curve in annotation.curves if curve["time_s"]]
    declared_s = annotation.video.get("truncated_at_s") or annotation.video.get("duration_s")
    if declared_s:
        ends.append(min(declared_s, end_s) if end_s is not None else declared_s)
    starts = [event.onset_s for event in [*annotation.intervals, *others]]
    start_s = min([start_s, *starts])
    return start_s, max([*ends, start_s + 1e-3])


def gaps(annotation: ExpressionAnnotation, start_s: float, end_s: float) -> list[tuple[float, float]]:
    """Stretches in which no face was seen; none where an annotation, as a coder's, says nothing about it."""
    if not annotation.coverage and "model" not in annotation.provenance:
        return []
    found, reached_s = [], start_s
    for row in sorted(annotation.coverage, key=lambda row: row["start_s"]):
        if row["start_s"] - reached_s > 1e-6:
            found.append((reached_s, row["start_s"]))
        reached_s = max(reached_s, row["end_s"])
    if end_s - reached_s > 1e-3 * (end_s - start_s):
        found.append((reached_s, end_s))
    return found


def _rows(annotation: ExpressionAnnotation, marked: Sequence[ExpressionInterval]):
    """(face or None, label) of each row from the top, and how many faces are left out."""
    faces: dict[int, int] = {}
    for event in annotation:
        faces[event.face_id] = faces.get(event.face_id, 0) + 1
    shown = sorted(sorted(faces, key=lambda face: -faces[face])[:_MOST_FACES])
    several = len(faces) > 1
    order = [*annotation.labels]
    order += sorted(
        {event.label for event in [*annotation, *marked]} - set(order), key=lambda name: (name is None, name)
    )
    rows = []
    for face in shown or [None]:
        # Coders seldom say whose face it was: their events stand in every face's rows.
        here = {event.label for event in annotation if event.face_id == face} | {event.label for event in marked}
        rows += [(face if several else None, label) for label in order if label in here]
    return rows, len(faces) - len(shown)


def _types(annotation: ExpressionAnnotation, marked: Sequence[ExpressionInterval] = ()) -> list[str]:
    """Types that the annotation lists or that occur."""
    return type_order([*annotation.types, *map(type_of, [*annotation, *marked])])


def _title(annotation: ExpressionAnnotation) -> str:
    name = shortened(PurePath(str(annotation.video.get("path", "video"))).name, 60)
    duration_s = annotation.video.get("duration_s")
    counts = [(sum(type_of(e) == kind for e in annotation), kind) for kind in _types(annotation)]
    words = [f"{count} {kind.removesuffix('-expression')}" for count, kind in counts] or ["no expressions"]
    return ", ".join([name, *([clock(duration_s)] if duration_s else []), *words])


# ---------------------------------------------------------------------------------------------------------------------
# Events


def _draw_events(
    axes, annotation: ExpressionAnnotation, marked: Sequence[ExpressionInterval], rows: list, wide_s: float
) -> None:
    types = _types(annotation, marked)
    place = {row: number for number, row in enumerate(rows)}
    several = any(face is not None for face, _ in rows)
    for number in range(1, len(rows), 2):
        axes.axhspan(number - 0.5, number + 0.5, color="#f4f4f4", lw=0, zorder=0)
    for kind in types:
        mine = [e for e in annotation if type_of(e) == kind]
        spots = [(place.get((e.face_id if several else None, e.label)), e) for e in mine]
        _bars(axes, [(row, e) for row, e in spots if row is not None], types, kind, wide_s)
        theirs = [e for e in marked if type_of(e) == kind]
        _frames(axes, [(row, e) for e in theirs for (_, label), row in place.items() if label == e.label], types, kind)
    axes.set_ylim(len(rows) - 0.5 if rows else 0.5, -0.5)
    axes.set_yticks(range(len(rows)), [_row_name(face, label) for face, label in rows])
    axes.tick_params(axis="y", length=0)
    if not rows:
        axes.text(0.5, 0.5, "no expressions", transform=axes.transAxes, ha="center", va="center", color=FAINT)


def _row_name(face: int | None, label: str | None) -> str:
    name = "no label" if label is None else shortened(label, 24)
    return name if face is None else f"face {face}: {name}"


def _lane(types: Sequence[str], kind: str) -> tuple[float, float]:
    """Top and bottom of a type's lane in a row that goes from -0.5 down to 0.5."""
    height = (_LANES[1] - _LANES[0]) / len(types)
    top = _LANES[0] - 0.5 + types.index(kind) * height
    return top + 0.1 * height, top + 0.9 * height


def _boxes(spots: list[tuple[int, ExpressionInterval]], types: Sequence[str], kind: str) -> np.ndarray:
    """Corners (N, 4, 2) of the bars of some events."""
    top, bottom = _lane(types, kind)
    edges = np.array([(e.onset_s, e.offset_s, row + top, row + bottom) for row, e in spots]).reshape(-1, 4)
    return edges[:, [0, 2, 0, 3, 1, 3, 1, 2]].reshape(-1, 4, 2)


def _bars(axes, spots: list, types: Sequence[str], kind: str, wide_s: float) -> None:
    """Bars of one type; those of at least `wide_s` seconds are hatched, and their apexes marked."""
    from matplotlib.collections import PolyCollection

    style = type_style(types, kind)
    wide = [spot for spot in spots if spot[1].duration_s >= wide_s]
    for mine, is_wide in ((wide, True), ([spot for spot in spots if spot[1].duration_s < wide_s], False)):
        if not mine:
            continue
        # The edge keeps an event visible that is narrower than a pixel.
        bars = PolyCollection(
            _boxes(mine, types, kind), facecolors=style["color"], edgecolors=style["color"], linewidths=0.7, zorder=2
        )
        bars.set_gid(named("events", kind, "wide" if is_wide else "narrow"))
        if is_wide and style["hatch"]:
            bars.set(hatch=style["hatch"], facecolors="white")
        bars.set_rasterized(len(mine) > _AS_PIXELS)
        axes.add_collection(bars)
    middle = sum(_lane(types, kind)) / 2
    apexes = np.array([(e.apex_s, row + middle) for row, e in wide if e.apex_s is not None]).reshape(-1, 2)
    axes.plot(*apexes.T, style["marker"], color="white", mec=INK, mew=0.8, ms=3.6, zorder=4, gid=named("apexes", kind))


def _frames(axes, spots: list, types: Sequence[str], kind: str) -> None:
    from matplotlib.collections import PolyCollection

    if not spots:
        return
    boxes = _boxes(spots, types, kind)
    middle = boxes[..., 1].mean(1, keepdims=True)
    boxes[..., 1] = middle + 1.25 * (boxes[..., 1] - middle)
    frames = PolyCollection(boxes, facecolors="none", edgecolors=INK, linewidths=1.2, zorder=3)
    frames.set_gid(named("truth", kind))
    frames.set_rasterized(len(spots) > _AS_PIXELS)
    axes.add_collection(frames)


# ---------------------------------------------------------------------------------------------------------------------
# The other panels


def _draw_density(axes, annotation: ExpressionAnnotation, start_s: float, end_s: float) -> None:
    types = type_order(map(type_of, annotation))
    edges = np.linspace(start_s, end_s, round((end_s - start_s) / 60) + 1)
    for place, kind in enumerate(types):
        onsets = [event.onset_s for event in annotation if type_of(event) == kind]
        rate = np.histogram(onsets, edges)[0] / (np.diff(edges) / 60)
        axes.stairs(
            rate, edges, color=type_style(types, kind)["color"], lw=1.1, ls=cycled(LINES, place), zorder=2,
            gid=named("density", kind),
        )  # fmt: skip
    axes.set_ylim(bottom=0)
    axes.set_ylabel("onsets\nper minute", rotation=0, ha="right", va="center")
    axes.locator_params(axis="y", nbins=3, integer=True)


def _draw_curves(axes, annotation: ExpressionAnnotation, start_s: float, end_s: float) -> None:
    several = len(annotation.curves) > 1
    drawn = []
    for place, curve in enumerate(annotation.curves[:_MOST_FACES]):
        whose = f", face {curve['face_id']}" if several else ""
        styles = {
            "score": {"color": cycled(COLOURS, place) if several else INK, "ls": cycled(LINES, place)},
            "intensity": {"color": COLOURS[2], "ls": "--"},
        }
        # Of several people the scores alone: two lines for each are more than can be told apart.
        for name in ("score",) if several else ("score", "intensity"):
            if name in curve:
                gid = named(name, curve["face_id"])
                axes.plot(
                    *peaks(curve["time_s"], curve[name]), **styles[name], lw=0.9, label=f"{name}{whose}", gid=gid
                )
                drawn += [] if name in drawn else [name]
    threshold = (annotation.provenance.get("settings") or {}).get("score_threshold")
    if threshold is not None and "score" in drawn:
        axes.axhline(threshold, color=FAINT, lw=0.8, ls=":", label=f"threshold {threshold:g}")
    axes.set_ylim(-0.03, 1.03)
    axes.set_yticks([0, 0.5, 1])
    axes.set_ylabel(",\n".join(drawn), rotation=0, ha="right", va="center")


def peaks(time_s: Sequence[float], values: Sequence[float | None]) -> tuple[np.ndarray, np.ndarray]:
    """A curve at the resolution of a picture: of every stretch the highest value, and NaN where there is none."""
    time_s, values = np.asarray(time_s, float), np.array([np.nan if v is None else v for v in values], float)
    if len(values) <= 2 * _BINS:
        return time_s, values
    edges = np.linspace(0, len(values), _BINS + 1).astype(int)[:-1]
    known = np.where(np.isnan(values), -np.inf, values)
    highest = np.maximum.reduceat(known, edges)
    return time_s[edges], np.where(np.isinf(highest), np.nan, highest)


def _draw_coverage(axes, annotation: ExpressionAnnotation, start_s: float, end_s: float) -> None:
    spans = _merged([(row["start_s"], row["end_s"]) for row in annotation.coverage])
    axes.broken_barh([(a, b - a) for a, b in spans], (0, 1), facecolors=FAINT, edgecolors="none", gid="coverage")
    axes.set_ylim(0, 1)
    seen = sum(b - a for a, b in spans) / (end_s - start_s)
    axes.set_yticks([0.5], [f"face seen {100 * min(seen, 1):.0f} %"])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _merged(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The same stretches without overlaps, in order: several faces may be in view at once."""
    merged: list[tuple[float, float]] = []
    for start_s, end_s in sorted(spans):
        if merged and start_s <= merged[-1][1] + 1e-6:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end_s))
        else:
            merged.append((start_s, end_s))
    return merged


def _shade_gaps(panels: list, annotation: ExpressionAnnotation, start_s: float, end_s: float) -> None:
    spans = [(a, b - a) for a, b in gaps(annotation, start_s, end_s)]
    for panel in panels if spans else []:
        low, high = panel.get_ylim()
        panel.broken_barh(
            spans, (min(low, high), abs(high - low)), facecolors=GAP, edgecolors="#c4c4c4", hatch="\\\\", lw=0,
            zorder=1, gid=named("gaps", panel.get_label()),
        )  # fmt: skip
        panel.set_ylim(low, high)


def _legend(figure, annotation: ExpressionAnnotation, marked: Sequence[ExpressionInterval]) -> None:
    from matplotlib.patches import Patch

    types = type_order(map(type_of, [*annotation, *marked]))
    start_s, end_s = seen_span(annotation, marked)
    handles = []
    for kind in types:
        style = type_style(types, kind)
        wide = any(e.duration_s >= _WIDE_IN / WIDTH_IN * (end_s - start_s) for e in annotation if type_of(e) == kind)
        hatch = style["hatch"] if wide else ""
        face = "white" if hatch else style["color"]
        handles.append(Patch(facecolor=face, edgecolor=style["color"], hatch=hatch, label=plain(kind)))
    if marked:
        handles.append(Patch(facecolor="none", edgecolor=INK, lw=1.2, label="marked by coders"))
    for panel in figure.axes:
        if panel.get_label() == "curves":
            handles += panel.get_legend_handles_labels()[0]
    if gaps(annotation, start_s, end_s):
        handles.append(Patch(facecolor=GAP, edgecolor="#c4c4c4", hatch="\\\\", lw=0, label="no face"))
    if handles:
        figure.legend(handles=handles, loc="outside lower left", ncols=min(len(handles), 7), borderaxespad=0.2)


__all__ = ["draw_timeline", "gaps", "peaks", "seen_span"]
