"""ELAN's .eaf: a tier for each face and type, with a controlled vocabulary of the labels and a link to the video.

Written here and not by a library: pympi would accept overlaps in a tier and characters that make the file unreadable.
Scores, apexes and frames stand in a dependent tier "... details". Times are whole milliseconds, ELAN's unit.
"""

import datetime
import json
import mimetypes
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

from ..media_fedn import FednError, install
from .marks import Mark, Tier, annotation_of_marks, readable, tiers_of

if TYPE_CHECKING:
    from ..annotation import ExpressionAnnotation
    from .mapping import CodeMapping

_PROPERTY = "fedn_hf"
_DETAILS = " details"
_VOCABULARY = "expression labels"
_NAMESPACE = "http://www.w3.org/2001/XMLSchema-instance"
_SCHEMA = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"
_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


def write_eaf(annotation: "ExpressionAnnotation", path: Path, target: Path) -> None:
    """A file as ELAN 6 writes it, format 3.0."""
    from . import facts_of

    tiers = tiers_of(annotation)
    root = ElementTree.Element(
        "ANNOTATION_DOCUMENT",
        {
            "AUTHOR": "fedn_hf",
            "DATE": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "FORMAT": "3.0",
            "VERSION": "3.0",
            f"{{{_NAMESPACE}}}noNamespaceSchemaLocation": _SCHEMA,
        },
    )
    ElementTree.register_namespace("xsi", _NAMESPACE)
    count = sum(1 + bool(span.details) for tier in tiers for span in tier.spans)
    header = ElementTree.SubElement(root, "HEADER", {"MEDIA_FILE": "", "TIME_UNITS": "milliseconds"})
    if media := _media(annotation, target):
        ElementTree.SubElement(header, "MEDIA_DESCRIPTOR", media)
    for name, value in ((_PROPERTY, json.dumps(facts_of(annotation))), ("lastUsedAnnotationId", str(count))):
        ElementTree.SubElement(header, "PROPERTY", {"NAME": name}).text = value
    labels = list(dict.fromkeys([*map(readable, annotation.labels), *(s.code for tier in tiers for s in tier.spans)]))
    entries = {label: f"cve{number}" for number, label in enumerate(labels, start=1)}
    _add_tiers(root, tiers, entries)
    _add_types(root, entries)
    ElementTree.indent(root, " ")
    ElementTree.ElementTree(root).write(path, encoding="UTF-8", xml_declaration=True)


def _media(annotation: "ExpressionAnnotation", target: Path) -> dict[str, str]:
    """How ELAN finds the video: where it lies now, and where it lies as seen from the file."""
    path = annotation.video["path"].encode("utf-8", "replace").decode()
    kind = mimetypes.guess_type(path)[0] or "unknown"
    if _URL.match(path):
        return {"MEDIA_URL": readable(path), "MIME_TYPE": kind}
    if path.startswith("<"):  # "<bytes>": nothing that could be linked
        return {}
    place = Path(os.path.abspath(annotation.provenance.get("source") or path))
    try:
        relative = Path(os.path.relpath(place, target.absolute().parent)).as_posix()
    except ValueError:  # another drive
        relative = place.name
    relative = readable(relative.encode("utf-8", "replace").decode())
    address = readable(place.as_posix().encode("utf-8", "replace").decode())
    link = {"MEDIA_URL": f"file://{address if address.startswith('/') else '/' + address}", "MIME_TYPE": kind}
    return {**link, "RELATIVE_MEDIA_URL": relative if relative.startswith(".") else f"./{relative}"}


def _add_tiers(root: ElementTree.Element, tiers: Sequence[Tier], entries: dict[str, str]) -> None:
    order = ElementTree.SubElement(root, "TIME_ORDER")
    # ELAN wants its slots in order of time.
    times = sorted(
        (time, number, place, end)
        for number, tier in enumerate(tiers)
        for place, span in enumerate(tier.spans)
        for end, time in enumerate((span.start_ms, span.stop_ms))
    )
    slots = {}
    for slot, (time, *where) in enumerate(times, start=1):
        slots[tuple(where)] = f"ts{slot}"
        ElementTree.SubElement(order, "TIME_SLOT", {"TIME_SLOT_ID": f"ts{slot}", "TIME_VALUE": str(time)})
    ids = iter(f"a{number}" for number in range(1, 2 * len(times) + 1))
    for number, tier in enumerate(tiers):
        names = {"PARTICIPANT": f"face {tier.face_id}", "TIER_ID": tier.name, "LINGUISTIC_TYPE_REF": "expression"}
        parent = ElementTree.SubElement(root, "TIER", names)
        details = []
        for place, span in enumerate(tier.spans):
            known = next(ids)
            facts = {
                "ANNOTATION_ID": known,
                "TIME_SLOT_REF1": slots[number, place, 0],
                "TIME_SLOT_REF2": slots[number, place, 1],
                "CVE_REF": entries[span.code],
            }
            _add_annotation(parent, "ALIGNABLE_ANNOTATION", facts, span.code)
            details += [(known, span.details)] if span.details else []
        if not details:
            continue
        names |= {"TIER_ID": tier.name + _DETAILS, "LINGUISTIC_TYPE_REF": "details", "PARENT_REF": tier.name}
        child = ElementTree.SubElement(root, "TIER", names)
        for known, text in details:
            _add_annotation(child, "REF_ANNOTATION", {"ANNOTATION_ID": next(ids), "ANNOTATION_REF": known}, text)


def _add_annotation(tier: ElementTree.Element, kind: str, facts: dict[str, str], text: str) -> None:
    element = ElementTree.SubElement(ElementTree.SubElement(tier, "ANNOTATION"), kind, facts)
    ElementTree.SubElement(element, "ANNOTATION_VALUE").text = text


def _add_types(root: ElementTree.Element, entries: dict[str, str]) -> None:
    add = ElementTree.SubElement
    of_labels = {"LINGUISTIC_TYPE_ID": "expression", "TIME_ALIGNABLE": "true", "GRAPHIC_REFERENCES": "false"}
    add(root, "LINGUISTIC_TYPE", {**of_labels, "CONTROLLED_VOCABULARY_REF": _VOCABULARY})
    of_details = {"LINGUISTIC_TYPE_ID": "details", "TIME_ALIGNABLE": "false", "GRAPHIC_REFERENCES": "false"}
    add(root, "LINGUISTIC_TYPE", {**of_details, "CONSTRAINTS": "Symbolic_Association"})
    undetermined = "http://cdb.iso.org/lg/CDB-00130975-001"
    add(root, "LANGUAGE", {"LANG_ID": "und", "LANG_DEF": undetermined, "LANG_LABEL": "undetermined (und)"})
    meaning = "1-1 association with a parent annotation"
    add(root, "CONSTRAINT", {"STEREOTYPE": "Symbolic_Association", "DESCRIPTION": meaning})
    vocabulary = add(root, "CONTROLLED_VOCABULARY", {"CV_ID": _VOCABULARY})
    add(vocabulary, "DESCRIPTION", {"LANG_REF": "und"}).text = "emotion classes that coders give"
    for label, known in entries.items():
        entry = add(vocabulary, "CV_ENTRY_ML", {"CVE_ID": known})
        add(entry, "CVE_VALUE", {"LANG_REF": "und", "DESCRIPTION": ""}).text = label


# --- reading ------------------------------------------------------------------------------------------------------


def read_eaf(path: Path, mapping: "CodeMapping | None") -> list["ExpressionAnnotation"]:
    """
    What we wrote, or a coder's tiers by a mapping. Annotations of dependent tiers have the times of their parents.
    """
    try:
        from defusedxml import ElementTree as SafeTree
    except ImportError as error:
        raise FednError(f"ELAN files are read with defusedxml: {install('export')}") from error
    root = SafeTree.parse(path, forbid_dtd=True).getroot()  # entities could name other files, or fill the memory
    if root.tag != "ANNOTATION_DOCUMENT":
        raise FednError(f"not an ELAN file: its root is <{root.tag[:80]}>")
    header = root.find("HEADER")
    header = ElementTree.Element("HEADER") if header is None else header
    if (units := header.get("TIME_UNITS", "milliseconds")) != "milliseconds":
        raise FednError(f"its times are {units[:40]}; save it with a newer ELAN, which writes milliseconds")
    properties = {element.get("NAME"): element.text for element in header.findall("PROPERTY")}
    said = properties.get(_PROPERTY)
    facts = json.loads(said) if said else None
    descriptor = header.find("MEDIA_DESCRIPTOR")
    video, origin_ms = None, 0
    if descriptor is not None:
        place = descriptor.get("RELATIVE_MEDIA_URL") or descriptor.get("MEDIA_URL") or ""
        video = unquote(urlsplit(place).path if _URL.match(place) else place) or None
        origin_ms = int(descriptor.get("TIME_ORIGIN") or 0)
    return [annotation_of_marks(path, _marks(root, origin_ms), mapping, facts, video)]


def _marks(root: ElementTree.Element, origin_ms: int) -> Iterator[Mark]:
    """Every annotation that has a time, with the text of its tier of details."""
    slots = _slots(root)
    spans: dict[str, tuple[float, float]] = {}
    parents: dict[str, str] = {}
    texts: list[tuple[str, str, str]] = []  # tier, annotation, text
    details: dict[str, str] = {}
    for tier in root.iter("TIER"):
        name = tier.get("TIER_ID", "")
        is_details = tier.get("PARENT_REF") is not None and name == tier.get("PARENT_REF", "") + _DETAILS
        for element in tier.iterfind("ANNOTATION/*"):
            known, text = element.get("ANNOTATION_ID", ""), (element.findtext("ANNOTATION_VALUE") or "").strip()
            if element.tag == "ALIGNABLE_ANNOTATION":
                spans[known] = (slots[element.get("TIME_SLOT_REF1")], slots[element.get("TIME_SLOT_REF2")])
            else:
                parents[known] = element.get("ANNOTATION_REF", "")
            if is_details:
                details[parents.get(known, "")] = text
            else:
                texts.append((name, known, text))
    for name, known, text in texts:
        owner, seen = known, set()
        while owner not in spans:
            if owner in seen or owner not in parents:
                raise FednError(f"annotation {known[:40]!r} of tier {name[:80]!r} has no time")
            seen.add(owner)
            owner = parents[owner]
        start, stop = spans[owner]
        yield Mark(name, text, (start + origin_ms) / 1000, (stop + origin_ms) / 1000, details.get(known, ""))


def _slots(root: ElementTree.Element) -> dict[Any, float]:
    """Times by slot. ELAN leaves out those between two annotations that share a span: they lie evenly in it."""
    slots: dict[Any, float] = {}
    waiting: list[Any] = []
    before = 0.0
    for element in root.iterfind("TIME_ORDER/TIME_SLOT"):
        name, value = element.get("TIME_SLOT_ID"), element.get("TIME_VALUE")
        if value is None:
            waiting.append(name)
            continue
        for place, one in enumerate(waiting, start=1):
            slots[one] = before + (int(value) - before) * place / (len(waiting) + 1)
        waiting = []
        before = slots[name] = int(value)
    return slots | dict.fromkeys(waiting, before)


__all__ = ["read_eaf", "write_eaf"]
