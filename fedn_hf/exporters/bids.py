"""BIDS, the standard for folders of studies: `..._events.tsv` and a JSON file that says what its columns are."""

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files_fedn import replacing
from ..media_fedn import FednError
from ..version import __version__
from .marks import annotation_of, readable
from .tables import guarded, number_of, shown, unguarded, whole_of

if TYPE_CHECKING:
    from ..annotation import ExpressionAnnotation
    from .mapping import CodeMapping

_NOTHING = "n/a"
_COLUMNS = {
    "onset": {"Description": "Onset of the expression from the beginning of the video", "Units": "s"},
    "duration": {"Description": "From the onset to the end of the last frame", "Units": "s"},
    "trial_type": {"Description": "Emotion class that coders would give the expression; not what a person feels"},
    "expression_type": {"Description": "Macro- or micro-expression"},
    "apex": {"Description": "Strongest moment of the expression, from the beginning of the video", "Units": "s"},
    "score": {"Description": "Confidence of the network, 0 to 1"},
    "face": {"Description": "Number of the face in the video, from 0"},
    "onset_frame": {"Description": "First frame, from 0"},
    "apex_frame": {"Description": "Frame of the apex, from 0"},
    "offset_frame": {"Description": "Last frame, from 0"},
}


def write_bids(annotation: "ExpressionAnnotation", path: Path, target: Path) -> None:
    """The table of events, and beside `target` the JSON file that says what its columns mean."""
    from . import facts_of

    with open(path, "w", encoding="utf-8", newline="") as file:
        # No quotes: the standard has none. `readable` leaves no tabs and line ends to be quoted.
        writer = csv.writer(file, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE, quotechar=None)
        writer.writerow(_COLUMNS)
        for event in annotation:
            label, kind = (None if text is None else guarded(readable(text)) for text in (event.label, event.type))
            onset_s, apex_s, offset_s = (shown("_s", time) for time in (event.onset_s, event.apex_s, event.offset_s))
            lasts_s = round(offset_s - onset_s, 3)
            cells = [onset_s, lasts_s, label, kind, apex_s, shown("score", event.score), event.face_id]
            cells += [event.onset_frame, event.apex_frame, event.offset_frame]
            writer.writerow(_NOTHING if cell is None else cell for cell in cells)
    columns: dict[str, Any] = {name: dict(meaning) for name, meaning in _COLUMNS.items()}
    for name, known in (("trial_type", annotation.labels), ("expression_type", annotation.types)):
        if known:
            columns[name]["Levels"] = {text: text for text in known}
    made = {"Name": "fedn_hf", "Version": __version__, "Annotation": facts_of(annotation)}
    with replacing(target.with_suffix(".json")) as unfinished:
        unfinished.write_text(json.dumps({**columns, "GeneratedBy": [made]}, indent=1), encoding="ascii")


def read_bids(path: Path, mapping: "CodeMapping | None") -> list["ExpressionAnnotation"]:
    """Events of any BIDS study; for a mapping codes stand in `trial_type` and tiers in `expression_type`."""
    facts = _facts(path.with_suffix(".json"))
    mapping = mapping if facts is None else None  # what we wrote needs none
    events = []
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE, restval=_NOTHING)
        if not {"onset", "duration"} <= set(reader.fieldnames or []):
            raise FednError("the columns onset and duration were expected; is it a BIDS file of events?")
        for number, row in enumerate(reader, start=2):
            try:
                event = _event(row, mapping)
            except (FednError, ValueError) as error:
                raise FednError(f"row {number}: {error}") from error
            events += [] if event is None else [event]
    return [annotation_of(path, events, facts)]


def _event(row: dict[str, str], mapping: "CodeMapping | None") -> dict[str, Any] | None:
    cells = {name: None if value == _NOTHING else value for name, value in row.items()}
    onset, lasts = number_of(cells["onset"]), number_of(cells["duration"])
    if onset is None or lasts is None:
        raise FednError("an onset and a duration are needed")
    texts = (cells.get("expression_type"), cells.get("trial_type"))
    kind, label = (None if text is None else unguarded(text) for text in texts)
    event: dict[str, Any] = {"label": label, "type": kind, "face_id": whole_of(cells.get("face")) or 0}
    if mapping is not None:
        meaning = mapping.meaning(kind or "", label or "")
        if meaning is None:
            return None
        event |= {"label": meaning["label"] or None, "type": meaning["type"] or kind}
    apex = number_of(cells.get("apex"))
    event |= {"onset_s": onset, "offset_s": onset + lasts, "score": number_of(cells.get("score"))}
    event["apex_s"] = None if apex is None else min(apex, onset + lasts)
    for name in ("onset_frame", "apex_frame", "offset_frame"):
        event[name] = whole_of(cells.get(name))
    return event


def _facts(sidecar: Path) -> dict[str, Any] | None:
    if not sidecar.is_file():
        return None
    made = json.loads(sidecar.read_text(encoding="utf-8")).get("GeneratedBy") or [{}]
    return made[0].get("Annotation")


__all__ = ["read_bids", "write_bids"]
