"""One HTML file about one recording or many: summary, timelines, faces, time budgets, warnings, provenance.

The file asks for nothing from anywhere and forbids itself to; it prints, and follows the reader's light or dark. What
the words around the facts are stands in assets/report.html, and those on labels and uses in the model card's text.
"""

import base64
import html
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path, PurePath
from typing import Any

from .annotation import ExpressionAnnotation, ExpressionInterval
from .files_fedn import replacing
from .media_fedn import FednError, install
from .pictures import draw_overview, draw_timeline
from .pictures.filmstrip import describe, strongest, which
from .pictures.style import FAINT, GAP, INK, clock, need_matplotlib, plain, shortened, type_of, write_figure
from .pictures.timeline import gaps, seen_span
from .tracks import PARTS, event_crops, video_of
from .version import __version__

_ASSETS = Path(__file__).with_name("assets")
# What pictures are drawn with -> what the page calls it, so that they follow light and dark.
_THEME = {INK: "ink", FAINT: "faint", GAP: "gap", "#c4c4c4": "hatch", "#f4f4f4": "stripe", "#ffffff": "paper"}
_STRIP_EVENTS = (12, 6)  # in a filmstrip of a report on few videos, and on more than:
_FEW_VIDEOS = 5
_ROWS = 500  # of a table of expressions; files for other programs hold all of them
_CROP_PX, _JPEG_QUALITY = 128, 82
# Below these a video deserves a warning. The card says why of the frame rate.
_LEAST_SEEN, _LEAST_CONFIDENCE, _LEAST_FPS, _LONGEST_MICRO_S = 0.9, 0.8, 25.0, 0.5


def write_report(
    annotations: Sequence[ExpressionAnnotation],
    path: str | Path,
    *,
    videos: Sequence[str | Path | None] | None = None,
    hook: Callable | None = None,
) -> None:
    """
    Write a report.

    Args:
        annotations: one for each video, in the order in which they are to stand.
        path: of the HTML file.
        videos: the file of each annotation's video, for pictures of faces; `None` where there shall be none. By
            default they are looked for where the annotations say.
        hook: `hook("report", None, file=..., total=..., completed=...)` is called after each video.

    Raises:
        `FednError`: no annotations, or a missing package. A video that cannot be read is said in the report.

    Example:
        >>> smile = ExpressionInterval("happiness", 0.9, "macro-expression", 1.0, 1.2, 2.0)
        >>> write_report([ExpressionAnnotation({"path": "a.mp4", "duration_s": 9.0}, [smile])], "report.html")
        >>> "happiness" in Path("report.html").read_text()
        True
    """
    annotations = list(annotations)
    if not annotations:
        raise FednError("a report needs at least one annotation, got none")
    need_matplotlib()
    template = _template()
    places = [_found(annotation) for annotation in annotations] if videos is None else list(videos)
    most = _STRIP_EVENTS[len(annotations) > _FEW_VIDEOS]
    sections = []
    for number, (annotation, place) in enumerate(zip(annotations, places, strict=True), 1):
        sections.append(_section(annotation, place, number, most))
        if hook is not None:
            hook("report", None, file=str(path), total=len(annotations), completed=number)
    overview = ""
    if len(annotations) > 1:
        figure = draw_overview(annotations)
        overview = _inline_svg(figure, "all", "Expressions of all videos over time; the table below has the numbers.")
    text = template.render(
        sections=sections, overview=overview, version=__version__, has_pictures=any(s["strip"] for s in sections),
        labels_text=_card("Labels")[0], prohibited=_card("Prohibited uses"), limits=_card("Limits and known failure"),
    )  # fmt: skip
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
    if hook is not None:
        hook("report", path, file=str(path))


def _found(annotation: ExpressionAnnotation) -> Path | None:
    try:
        return video_of(annotation)
    except FednError:
        return None


def _template():
    try:
        import jinja2
    except ImportError as error:
        raise FednError(f"reports are made with Jinja: {install('viz')}") from error
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"clock": lambda seconds: clock(seconds, 2), "plain": plain}
    return environment.from_string((_ASSETS / "report.html").read_text(encoding="utf-8"))


# ---------------------------------------------------------------------------------------------------------------------
# One video


def _section(annotation: ExpressionAnnotation, video: str | Path | None, number: int, most: int) -> dict[str, Any]:
    name = plain(PurePath(annotation.video["path"]).name)
    strip, problem = [], None
    if video is not None and len(annotation):
        try:
            strip = _strip(annotation, video, most)
        except FednError as error:
            problem = f"Its faces cannot be shown: {error}"
    warnings = warnings_of(annotation)
    return {
        "id": f"video-{number}",
        "name": name,
        "short": shortened(name, 40),
        "facts": _facts(annotation),
        "summary": _summary(annotation),
        "warnings": [*warnings, *([plain(problem)] if problem else [])],
        "timeline": _inline_svg(
            draw_timeline(annotation), str(number), f"Timeline of {name}; the table of expressions says the same."
        ),
        "budget": annotation.time_budget(),
        "faces": _faces(annotation),
        "strip": strip,
        "strip_is": which(strongest(annotation, most)) if len(strip) < len(annotation) else "",
        "events": [_event(event) for event in annotation.intervals[:_ROWS]],
        "count": len(annotation),
        "provenance": _flat({k: v for k, v in annotation.provenance.items() if k != "source"}),
    }


def _facts(annotation: ExpressionAnnotation) -> str:
    video = annotation.video
    facts = [clock(video["duration_s"], 2)] if video.get("duration_s") else []
    facts += [f"{video['width']} × {video['height']} px"] if video.get("width") else []
    facts += [f"{video['fps']:.4g} frames per second"] if video.get("fps") else []
    facts += [str(video["codec"])] if video.get("codec") else []
    return plain(", ".join(facts))


def _summary(annotation: ExpressionAnnotation) -> dict[str, Any]:
    """A row of the table of all videos; `None` where nobody knows."""
    start_s, end_s = seen_span(annotation)
    known = annotation.coverage or "model" in annotation.provenance
    missing_s = sum(b - a for a, b in gaps(annotation, start_s, end_s))
    types = {row["type"]: row for row in annotation.time_budget(by=["type"])}
    labels = sorted(annotation.time_budget(by=["label"]), key=lambda row: -row["count"])
    whole = annotation.time_budget(by=())
    return {
        "length": clock(end_s - start_s),
        "seen": 1 - missing_s / (end_s - start_s) if known else None,
        "macro": types.get("macro-expression"),
        "micro": types.get("micro-expression"),
        "other": sum(row["count"] for name, row in types.items() if name not in _USUAL),
        "total_s": whole[0]["total_s"] if whole else 0.0,
        "labels": ", ".join(f"{plain(row['label'] or 'no label')} {row['count']}" for row in labels[:3]),
    }


_USUAL = ("macro-expression", "micro-expression")


def warnings_of(annotation: ExpressionAnnotation) -> list[str]:
    """
    What a reader must know before believing an annotation.

    Example:
        >>> warnings_of(ExpressionAnnotation({"path": "a.mp4", "duration_s": 9.0, "fps": 15.0}, []))
        ['The video has 15 frames per second: below 25 micro-expressions are too short to be seen.']
    """
    said = []
    video, coverage = annotation.video, annotation.coverage
    start_s, end_s = seen_span(annotation)
    if video.get("truncated_at_s") is not None:
        said.append(f"The file is damaged: what comes after {clock(video['truncated_at_s'], 2)} could not be read.")
    missing = gaps(annotation, start_s, end_s)
    seen = 1 - sum(b - a for a, b in missing) / (end_s - start_s)
    if missing and not coverage:
        said.append("No face was seen, so nothing could be found.")
    elif seen < _LEAST_SEEN:
        said.append(f"A face was seen in {100 * seen:.0f} % of the time; nothing can be found in the rest.")
    confidence, size_px = (_mean(coverage, name) for name in ("confidence", "face_size_px"))
    if confidence is not None and confidence < _LEAST_CONFIDENCE:
        said.append(f"It was often doubtful whether there is a face: mean confidence {confidence:.2f}.")
    wanted_px = annotation.provenance.get("image_size") or 0
    if size_px is not None and size_px < wanted_px:
        said.append(
            f"The face is small: {size_px:.0f} pixels high on average, and the network looks at {wanted_px}. Fine "
            "movements may be missed."
        )
    if video.get("fps") and video["fps"] < _LEAST_FPS - 0.5:
        said.append(
            f"The video has {video['fps']:.4g} frames per second: below {_LEAST_FPS:.0f} micro-expressions are too "
            "short to be seen."
        )
    if long := sum(e.type == "micro-expression" and e.duration_s > _LONGEST_MICRO_S + 1e-6 for e in annotation):
        said.append(f"Called micro-expressions, and longer than {_LONGEST_MICRO_S} s: {long}.")
    inside = [e for e in annotation if any(a <= e.onset_s and e.offset_s <= b for a, b in missing)]
    if inside:
        said.append(f"Expressions where no face was seen: {len(inside)}.")
    return said


def _mean(coverage: Sequence[dict[str, Any]], name: str) -> float | None:
    """Mean of a number of the rows that have it, weighted by how long they last."""
    rows = [(row["end_s"] - row["start_s"], row[name]) for row in coverage if row.get(name) is not None]
    length_s = sum(length for length, _ in rows)
    return sum(length * value for length, value in rows) / length_s if length_s > 0 else None


def _faces(annotation: ExpressionAnnotation) -> list[dict[str, Any]]:
    """What is known of each face: when it was first and last seen, for how long, and how well."""
    rows = []
    for face in sorted({row["face_id"] for row in annotation.coverage}):
        mine = [row for row in annotation.coverage if row["face_id"] == face]
        rows.append(
            {
                "face_id": face,
                "start_s": min(row["start_s"] for row in mine),
                "end_s": max(row["end_s"] for row in mine),
                "seen_s": sum(row["end_s"] - row["start_s"] for row in mine),
                "count": sum(event.face_id == face for event in annotation),
                **{name: _mean(mine, name) for name in ("confidence", "face_size_px", "fit")},
            }
        )
    return rows


def _event(event: ExpressionInterval) -> dict[str, Any]:
    names = ("onset_s", "apex_s", "offset_s", "onset_frame", "offset_frame", "duration_s", "score", "face_id")
    row = {name: getattr(event, name) for name in names}
    return {**row, "type": plain(type_of(event)), "label": plain(event.label or "no label")}


def _flat(data: dict[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Nested facts as a list of names and texts."""
    rows: list[tuple[str, str]] = []
    for name, value in data.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{before}{name}.")
        else:
            rows.append((plain(f"{before}{name}"), "not set" if value is None else shortened(value, 300)))
    return rows


# ---------------------------------------------------------------------------------------------------------------------
# Pictures and words


def _strip(annotation: ExpressionAnnotation, video: str | Path, most: int) -> list[dict[str, Any]]:
    """Faces at onset, apex and offset, as pictures that lie in the page itself."""
    events = strongest(annotation, most)
    crops = event_crops(annotation, video, events, _CROP_PX)
    return [
        {
            "title": describe(event),
            "tiles": [(part, getattr(event, f"{part}_s"), _jpeg(tiles[part])) for part in PARTS],
        }
        for event, tiles in zip(events, crops, strict=True)
    ]


def _jpeg(picture) -> str | None:
    if picture is None:
        return None
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "jpeg", quality=_JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _inline_svg(figure, prefix: str, description: str):
    """A figure as part of the page: its colours are the page's, its width what there is, and its ids its own."""
    from markupsafe import Markup

    buffer = io.StringIO()
    write_figure(figure, buffer, "svg")
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = re.sub(r"url\(#", f"url(#{prefix}-", text)
    text = re.sub(r'(?<=href=")#', f"#{prefix}-", text)
    for colour, name in _THEME.items():
        text = text.replace(colour, f"var(--{name})")
    head, rest = text.split(">", 1)
    head = re.sub(r'\s(?:width|height|xmlns(?::\w+)?|version)="[^"]*"', "", head)
    head = f'{head} role="img" aria-label="{html.escape(description)}"'
    return Markup(f"{head}>{rest.strip()}")


def _card(heading: str) -> list[str]:
    """Items, or else paragraphs, of a section of the model card's text, without its marks."""
    text = (_ASSETS / "model_card.md").read_text(encoding="utf-8")
    section = next(part for part in text.split("\n## ")[1:] if part.startswith(heading))
    body = section.split("\n", 1)[1]
    items = re.findall(r"^- (.*(?:\n  .*)*)", body, re.MULTILINE) or re.split(r"\n\s*\n", body)
    words = [re.sub(r"\*\*|\[(.*?)\]\(.*?\)", lambda m: m[1] or "", item) for item in items]
    return [" ".join(item.split()).rstrip(";") for item in words if item.strip() and not item.strip().startswith("$")]


__all__ = ["warnings_of", "write_report"]
