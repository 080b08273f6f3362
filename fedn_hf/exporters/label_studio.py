"""Label Studio: what was found as predictions that people correct, and what they made of them.

A project for it has this labelling interface; `data.video` of each task must be an address that Label Studio can open.

    <View>
      <Video name="video" value="$video" frameRate="25"/>
      <TimelineLabels name="expressions" toName="video"><Label value="happiness"/> ... </TimelineLabels>
    </View>

Its timelines count frames from 1; true times stand in `meta`.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..media_fedn import FednError
from .marks import Mark, annotation_of_marks, readable, tiers_of

if TYPE_CHECKING:
    from ..annotation import ExpressionAnnotation
    from .mapping import CodeMapping

_CONTROL, _OBJECT, _KIND = "expressions", "video", "timelinelabels"


def write_labelstudio(annotations: Sequence["ExpressionAnnotation"], path: Path, target: Path) -> None:
    """
    A list of tasks, one for each video.

    Raises:
        `FednError`: expressions without frames in a video whose frame rate is not known.
    """
    tasks = [_task(annotation.with_frames()) for annotation in annotations]
    with open(path, "w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
        file.write("[\n" + ",\n".join(json.dumps(task, ensure_ascii=False) for task in tasks) + "\n]\n")


def _task(annotation: "ExpressionAnnotation") -> dict[str, Any]:
    from . import facts_of

    regions: list[dict[str, Any]] = []
    for tier in tiers_of(annotation):
        for span in tier.spans:
            event = span.event
            # `write_labelstudio` has seen to frames.
            frames = {"start": event.onset_frame + 1, "end": event.offset_frame + 1}  # type: ignore[operator]
            region = {
                "id": f"expression-{len(regions) + 1}",
                "from_name": _CONTROL,
                "to_name": _OBJECT,
                "type": _KIND,
                "value": {"ranges": [frames], _KIND: [span.code]},
                "meta": {"text": [tier.name, span.details], "onset_s": event.onset_s, "offset_s": event.offset_s},
            }
            regions.append(region if event.score is None else {**region, "score": event.score})
    facts = facts_of(annotation)
    scores = [event.score for event in annotation if event.score is not None]
    prediction: dict[str, Any] = {"model_version": readable(str(annotation.provenance.get("model") or "fedn_hf"))}
    prediction |= {"score": sum(scores) / len(scores)} if scores else {}
    return {
        "data": {"video": annotation.video["path"]},
        "meta": {"fedn_hf": facts},
        "predictions": [{**prediction, "result": regions}],
    }


def read_labelstudio(path: Path, mapping: "CodeMapping | None") -> list["ExpressionAnnotation"]:
    """
    Tasks as exported (JSON): the last annotation of a person that was not cancelled, or else the last prediction.
    Regions that people drew have frames alone; a mapping with `fps` says how long these last.
    """
    tasks = json.loads(path.read_text(encoding="utf-8-sig"))
    if not isinstance(tasks, list):
        raise FednError("a list of tasks was expected; export the project as JSON")
    return [_annotation(path, task, mapping) for task in tasks]


def _annotation(path: Path, task: Mapping[str, Any], mapping: "CodeMapping | None") -> "ExpressionAnnotation":
    facts = (task.get("meta") or {}).get("fedn_hf")
    fps = mapping.fps if mapping is not None and mapping.fps else (facts or {}).get("video", {}).get("fps")
    by_people = [one for one in task.get("annotations") or [] if not one.get("was_cancelled")]
    result = (by_people or task.get("predictions") or [{}])[-1].get("result") or []
    marks = []
    for region in result:
        if region.get("type") != _KIND:
            continue
        value, meta = region["value"], region.get("meta") or {}
        tier, details = [*meta.get("text", []), "", ""][:2] if isinstance(meta.get("text"), list) else ("", "")
        for span in value["ranges"]:
            onset, offset = int(span["start"]) - 1, int(span["end"]) - 1
            same = f"frames={onset}," in details and details.split("frames=")[1].split()[0].endswith(f",{offset}")
            if same and "onset_s" in meta:
                times = (float(meta["onset_s"]), float(meta["offset_s"]))
            elif fps:
                times = (onset / fps, (offset + 1) / fps)
                details = f"at={times[0]:.3f}-{times[1]:.3f} frames={onset},-,{offset}"
            else:
                raise FednError(
                    "its regions have frames and no times; a mapping file with `fps` says how long these are"
                )
            marks += [Mark(tier or "face 0", readable(label), *times, details) for label in value[_KIND]]
    return annotation_of_marks(path, marks, mapping, facts, task["data"].get("video"))


__all__ = ["read_labelstudio", "write_labelstudio"]
