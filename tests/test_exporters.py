"""Files for other programs: what is written comes back within a millisecond, and readers of others agree."""

import csv
import functools
import itertools
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import openpyxl
import pandas as pd
import pytest
import webvtt
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree
from praatio import textgrid
from pympi import Eaf

from fedn_hf import ExpressionAnnotation, ExpressionInterval, FednError, exporters
from fedn_hf.exporters.marks import readable

MACRO, MICRO = "macro-expression", "micro-expression"
READ = [form.name for form in exporters.FORMATS.values() if form.is_read]
WHOLE = [form.name for form in exporters.FORMATS.values() if form.provenance == "all"]
# Formats without a place for apexes and frames.
POORER = ("rttm",)
# Tables for people, with as many digits as mean something.
SHOWN = ("csv", "tsv", "bids")
# One a line, for they are hard enough to read; \u00a0 is a space that does not break, \u202e turns the line round.
AWKWARD = """\
=HYPERLINK(1)|@a|'|''=|n a|a%20b|say "no"|""|<b>&amp;|<NA>|x --> y|item [1]:|! 5 |intervals [2]
Ärger\u00a0 ü|喜び|😀|a\u200bb|\u202eyoj|-|1,5|a;b\\c|face 0 (2)|expression|macro-expression: joy|a = 3
""".strip().replace("\n", "|")
AWKWARD = [*map(str.strip, AWKWARD.split("|")), "a|b", "| b |"]
LABELS = st.one_of(
    st.none(),
    st.sampled_from(AWKWARD),
    st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters="\ufffe\uffff"), min_size=1)
    .map(str.strip)
    .filter(bool),
)


def path_of(folder: Path, name: str) -> Path:
    return folder / f"interview{exporters.FORMATS[name].suffix}"


@st.composite
def annotations(draw):
    """Labels in all scripts, overlaps, no gaps, no durations, and recordings of hours."""
    start_ms = draw(st.sampled_from([0, 36_000_000]))
    events, at_ms = [], float(start_ms)
    for number in range(draw(st.integers(0, 7))):
        # Gaps below 0 are overlaps.
        at_ms = max(start_ms, at_ms + draw(st.sampled_from([-900.0, -0.4, 0.0, 0.3, 0.5, 1.0, 1234.567])))
        lasts_ms = draw(st.sampled_from([0.0, 0.1, 0.5, 0.7, 1.0, 40.0, 333.333, 2000.0]))
        share = draw(st.sampled_from([None, 0.0, 0.4, 1.0]))
        onset_s, offset_s = at_ms / 1000, (at_ms + lasts_ms) / 1000
        frames = (int(onset_s * 30), None, int(offset_s * 30)) if draw(st.booleans()) else (None, None, None)
        event = ExpressionInterval(
            draw(LABELS),
            (number + 1) / 64,  # tells the events apart
            draw(st.sampled_from([MACRO, MICRO, "gesture (2)", None])),
            onset_s,
            None if share is None else min(max(onset_s, onset_s + share * (offset_s - onset_s)), offset_s),
            offset_s,
            *frames,
            face_id=draw(st.integers(0, 2)),
        )
        events.append(event)
        at_ms += lasts_ms
    coverage = [{"face_id": 0, "start_s": 0.0, "end_s": 5.5, "frames": 165}]
    video = {"path": "recordings/interview ü.mp4", "duration_s": (at_ms + 2000) / 1000, "fps": 30.0}
    labels = list(dict.fromkeys(event.label for event in events if event.label is not None))
    return ExpressionAnnotation(video, events, coverage, labels=labels, provenance={"model": "a/b", "seed": 3})


def by_score(annotation):
    return sorted(annotation, key=lambda event: event.score)


def check_the_same(written, read, name):
    assert len(read) == len(written)
    for theirs, mine in zip(by_score(read), by_score(written), strict=True):
        assert (theirs.face_id, theirs.type) == (mine.face_id, mine.type)
        assert theirs.score == (round(mine.score, 4) if name in SHOWN else mine.score)
        assert theirs.label == mine.label
        assert theirs.onset_s == pytest.approx(mine.onset_s, abs=1.0001e-3)
        assert theirs.offset_s == pytest.approx(mine.offset_s, abs=1.0001e-3)
        if name in POORER:
            continue
        frames = [(e.onset_frame, e.apex_frame, e.offset_frame) for e in (theirs, mine)]
        if name == "labelstudio" and frames[1][0] is None:  # its timelines have nothing but frames
            frames[0] = (None, None, None)
        assert frames[0] == frames[1]
        assert (theirs.apex_s is None) == (mine.apex_s is None)
        assert mine.apex_s is None or theirs.apex_s == pytest.approx(mine.apex_s, abs=1.0001e-3)
    for part in ("video", "coverage", "labels", "types", "provenance"):
        assert getattr(read, part) == getattr(written, part)


@pytest.mark.parametrize("name", READ)
def test_what_is_written_comes_back(name, tmp_path_factory):
    folder = tmp_path_factory.mktemp(name)

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(annotations())
    def check(annotation):
        annotation.write(path_of(folder, name))
        read = ExpressionAnnotation.read(path_of(folder, name))
        check_the_same(annotation, read, name)
        assert name not in WHOLE or read == annotation

    check()


@functools.cache
def crowd(count: int, start_s: float = 0.0) -> ExpressionAnnotation:
    """Many expressions of two faces, every fifth of which overlaps the next."""
    labels = ("happiness", "Überraschung", "disgust", None)
    events = []
    for number in range(count):
        onset_s = start_s + number * 0.72
        offset_s = onset_s + (0.9 if number % 5 == 0 else 0.31)
        frames = [int(time * 30) for time in (onset_s, onset_s + 0.1, offset_s)]
        score = (number + 1) / 2**17
        kind = MICRO if number % 3 else MACRO
        events.append(
            ExpressionInterval(labels[number % 4], score, kind, onset_s, onset_s + 0.1, offset_s, *frames, number % 2)
        )
    video = {"path": "interview.mp4", "duration_s": start_s + count * 0.72 + 2, "fps": 30.0}
    return ExpressionAnnotation(video, events, labels=[label for label in labels if label], types=[MACRO, MICRO])


# The others take longer than a test should; examples/benchmarks/exporters.py --events 100000 has as many of all.
COUNTS = {"csv": 100_000, "parquet": 100_000}


@pytest.mark.parametrize("name", READ)
def test_many_after_ten_hours(name, tmp_path):
    many = crowd(COUNTS.get(name, 3_000), 36_000.0)
    many.write(path_of(tmp_path, name))
    read = ExpressionAnnotation.read(path_of(tmp_path, name))
    assert len(read) == len(many)
    theirs, mine = ([(e.onset_s, e.offset_s) for e in by_score(one)] for one in (read, many))
    assert np.abs(np.subtract(theirs, mine)).max() < 1.0001e-3
    theirs, mine = ([(e.label, e.type, e.face_id) for e in by_score(one)] for one in (read, many))
    assert theirs == mine


@pytest.mark.parametrize("name", READ)
def test_texts_that_no_program_could_read(name, tmp_path):
    bad = "a\x00b\x1f\u2028c\ud800\uffff\n\td"
    event = ExpressionInterval(bad, 0.5, f"odd\x07\n{bad}", 1.0, 1.5, 2.0, 30, 45, 59)
    annotation = ExpressionAnnotation({"path": f"{bad}.mp4"}, [event], labels=[bad], provenance={"note": bad})
    annotation.write(path_of(tmp_path, name))
    read = ExpressionAnnotation.read(path_of(tmp_path, name))
    if name in ("json", "jsonl"):
        assert read == annotation
    else:
        label = readable(read.intervals[0].label.replace("\\ud800", " "))
        assert label.split() == readable(bad).split() == ["a", "b", "c", "d"]


@pytest.mark.parametrize("name", READ)
def test_nothing_found(name, tmp_path):
    nothing = ExpressionAnnotation({"path": "interview.mp4", "duration_s": 3.0}, [], provenance={"model": "a/b"})
    nothing.write(path_of(tmp_path, name))
    assert ExpressionAnnotation.read(path_of(tmp_path, name)) == nothing


@pytest.mark.parametrize("name", READ)
def test_a_file_that_cannot_be_written_leaves_the_old_one(name, tmp_path, monkeypatch):
    crowd(3).write(path_of(tmp_path, name))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    odd = replace(crowd(2), provenance={"seed": object()})
    if exporters.FORMATS[name].provenance == "beside":
        monkeypatch.setattr("os.fsync", lambda number: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises((TypeError, OSError)):
        odd.write(path_of(tmp_path, name))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_several_in_one_file(tmp_path):
    day = crowd(3)
    night = ExpressionAnnotation({"path": "b/night.mp4"}, [ExpressionInterval("joy", None, MICRO, 1.0, None, 2.0)])
    for name in ("jsonl", "csv", "tsv", "parquet", "labelstudio"):
        both = [day, night if name != "labelstudio" else night.with_frames(30)]
        exporters.write_many([*both, ExpressionAnnotation({"path": "nobody.mp4"}, [])], path_of(tmp_path, name))
        *read, nothing = exporters.read(path_of(tmp_path, name))
        assert [one.video["path"] for one in (*read, nothing)] == ["interview.mp4", "b/night.mp4", "nobody.mp4"]
        assert not len(nothing)
        for theirs, mine in zip(read, both, strict=True):
            assert [(e.label, e.type, e.onset_s, e.offset_frame) for e in theirs] == [
                (e.label, e.type, e.onset_s, e.offset_frame) for e in mine
            ]
        with pytest.raises(FednError, match="holds 3 annotations"):
            ExpressionAnnotation.read(path_of(tmp_path, name))
    with pytest.raises(FednError, match=r"eaf holds one annotation, got 2; several go into jsonl, csv, tsv, parquet"):
        exporters.write_many([day, night], tmp_path / "both.eaf")


def test_formats_by_name_and_suffix(tmp_path):
    assert [exporters.format_of(name).name for name in ("a.json", "A.TEXTGRID", "a.labelstudio.json")] == [
        *("json", "textgrid", "labelstudio")
    ]
    assert exporters.format_of("a_events.tsv").name == "bids" and exporters.format_of("a.tsv").name == "tsv"
    crowd(2).write(tmp_path / "table.txt", format="tsv")
    assert (tmp_path / "table.provenance.json").exists()
    assert len(pd.read_csv(tmp_path / "table.txt", sep="\t")) == 2
    with pytest.raises(FednError, match="no format 'doc'; there is json, "):
        crowd(2).write(tmp_path / "a.json", format="doc")


@pytest.mark.parametrize(("name", "package"), [("boris", "openpyxl"), ("eaf", "defusedxml"), ("vtt", "webvtt")])
def test_a_missing_package_is_named_with_its_extra(name, package, tmp_path, monkeypatch):
    crowd(2).write(path_of(tmp_path, name))
    for module in [known for known in sys.modules if known.split(".")[0] == package] + [package]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(FednError, match=r"pip install 'fedn_hf\[export\]'"):
        ExpressionAnnotation.read(path_of(tmp_path, name))


# --- second readers -----------------------------------------------------------------------------------------------


@pytest.fixture
def overlapping():
    """Three at once of one face and type, and one of another face."""
    events = [
        ExpressionInterval(label, score, MACRO, onset_s, onset_s + 0.5, offset_s, int(30 * onset_s), None, 99, face)
        for label, score, onset_s, offset_s, face in (
            *(("happiness", 0.75, 1.0, 3.0, 0), ("=SUM(A1)", 0.5, 2.0, 3.5, 0), (None, 0.25, 2.5, 4.0, 0)),
            *(("disgust", 0.625, 3.0, 3.5, 0), ("disgust", 0.875, 1.0, 1.5, 1)),
        )
    ]
    video = {"path": "recordings/interview ü.mp4", "duration_s": 60.5, "fps": 30.0, "num_frames": 1815}
    labels = ["happiness", "=SUM(A1)", "disgust"]
    return ExpressionAnnotation(video, events, labels=labels, types=[MACRO, MICRO], provenance={"model": "a/b"})


def test_elan_by_pympi(overlapping, tmp_path):
    overlapping.write(tmp_path / "interview.eaf")
    read = Eaf(str(tmp_path / "interview.eaf"))
    tiers = [f"face 0 {MACRO}", f"face 0 {MACRO} (2)", f"face 0 {MACRO} (3)", f"face 1 {MACRO}"]
    assert [name for name in read.get_tier_names() if not name.endswith(" details")] == tiers
    assert read.get_annotation_data_for_tier(tiers[0]) == [(1000, 3000, "happiness"), (3000, 3500, "disgust")]
    assert read.get_annotation_data_for_tier(tiers[1]) == [(2000, 3500, "=SUM(A1)")]
    assert read.get_annotation_data_for_tier(tiers[2]) == [(2500, 4000, MACRO)]
    (detail,) = read.get_ref_annotation_data_for_tier(f"{tiers[2]} details")
    assert detail[2] == "score=0.25 at=2.500-4.000 apex=3.000 frames=75,-,99 unlabelled"
    (known,) = read.get_controlled_vocabulary_names()
    entries = read.get_cv_entries(known)
    assert [values[0][0] for values, _ in entries.values()] == ["happiness", "=SUM(A1)", "disgust", MACRO]
    (media,) = read.media_descriptors
    assert media["RELATIVE_MEDIA_URL"].endswith("recordings/interview ü.mp4") and media["MIME_TYPE"] == "video/mp4"
    assert media["RELATIVE_MEDIA_URL"].startswith("../") and media["MEDIA_URL"].startswith("file:///")


def test_elan_by_the_rules_of_its_schema(overlapping, tmp_path):
    overlapping.write(tmp_path / "interview.eaf")
    root = etree.parse(tmp_path / "interview.eaf").getroot()
    order = ["HEADER", "TIME_ORDER", "TIER", "LINGUISTIC_TYPE", "LANGUAGE", "CONSTRAINT", "CONTROLLED_VOCABULARY"]
    assert list(dict.fromkeys(element.tag for element in root)) == order
    assert set(root.attrib) >= {"AUTHOR", "DATE", "VERSION"} and root.get("FORMAT") == "3.0"
    slots = {slot.get("TIME_SLOT_ID"): int(slot.get("TIME_VALUE")) for slot in root.iter("TIME_SLOT")}
    assert list(slots.values()) == sorted(slots.values()) and len(slots) == 10
    names = root.xpath("//@ANNOTATION_ID") + root.xpath("//@TIME_SLOT_ID") + root.xpath("//@CVE_ID")
    assert len(names) == len(set(names)) and all(re.fullmatch(r"[A-Za-z_][\w.-]*", name) for name in names)
    for tier in root.iter("TIER"):
        assert tier.get("LINGUISTIC_TYPE_REF") in root.xpath("//@LINGUISTIC_TYPE_ID")
        assert tier.get("PARENT_REF") in (None, *root.xpath("//@TIER_ID"))
        spans = [
            [slots[one.get(name)] for name in ("TIME_SLOT_REF1", "TIME_SLOT_REF2")]
            for one in tier.iter("ALIGNABLE_ANNOTATION")
        ]
        assert all(start < stop for start, stop in spans)
        assert all(one[1] <= other[0] for one, other in itertools.pairwise(spans))
    assert set(root.xpath("//@ANNOTATION_REF")) == set(root.xpath("//ALIGNABLE_ANNOTATION/@ANNOTATION_ID"))
    assert set(root.xpath("//@CVE_REF")) == set(root.xpath("//@CVE_ID"))
    assert root.xpath("//@CONTROLLED_VOCABULARY_REF") == root.xpath("//@CV_ID")
    assert root.xpath("//@CONSTRAINTS") == root.xpath("//@STEREOTYPE") == ["Symbolic_Association"]
    facts = json.loads(root.xpath("string(//PROPERTY[@NAME='fedn_hf'])"))
    assert facts["provenance"] == {"model": "a/b"} and facts["video"]["fps"] == 30.0


@pytest.mark.parametrize(
    ("path", "link"),
    [
        ("https://example.org/a b.mp4", {"MEDIA_URL": "https://example.org/a b.mp4", "MIME_TYPE": "video/mp4"}),
        ("<bytes>", None),
        ("caf\udce9.film", "caf?.film"),
    ],
)
def test_elan_links_to_what_can_be_linked(path, link, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ExpressionAnnotation({"path": path}, []).write(tmp_path / "a.eaf")
    media = [dict(element.attrib) for element in etree.parse(tmp_path / "a.eaf").iter("MEDIA_DESCRIPTOR")]
    if isinstance(link, str):
        assert media[0]["RELATIVE_MEDIA_URL"] == f"./{link}" and media[0]["MIME_TYPE"] == "unknown"
    else:
        assert media == ([] if link is None else [link])


def test_textgrid_by_praatio(overlapping, tmp_path):
    overlapping.write(tmp_path / "interview.TextGrid")
    grid = textgrid.openTextgrid(
        str(tmp_path / "interview.TextGrid"), includeEmptyIntervals=True, reportingMode="error"
    )
    grid.validate(reportingMode="error")
    first = grid.getTier(f"face 0 {MACRO}")
    assert [(e.start, e.end, e.label) for e in first.entries if e.label] == [
        (1.0, 3.0, "happiness"),
        (3.0, 3.5, "disgust"),
    ]
    for tier in grid.tiers:  # Praat wants every tier filled from end to end
        edges = [time for entry in tier.entries for time in entry[:2]]
        assert edges[0] == 0.0 and edges[-1] == 60.5 and edges[1:-1:2] == edges[2::2]
    assert (
        grid.getTier(f"face 1 {MACRO} details").entries[1].label
        == "score=0.875 at=1.000-1.500 apex=1.500 frames=30,-,99"
    )


def test_subtitles_by_webvtt(overlapping, tmp_path):
    overlapping.write(tmp_path / "interview.vtt")
    overlapping.write(tmp_path / "interview.srt")
    for cues in (webvtt.read(str(tmp_path / "interview.vtt")), webvtt.from_srt(str(tmp_path / "interview.srt"))):
        assert [(cue.start, cue.end) for cue in cues][:3] == [
            ("00:00:01.000", "00:00:03.000"),
            ("00:00:01.000", "00:00:01.500"),
            ("00:00:02.000", "00:00:03.500"),
        ]
        assert cues[0].text.splitlines()[0] == f"{MACRO}: happiness"


def test_boris_by_openpyxl(overlapping, tmp_path):
    overlapping.write(tmp_path / "interview.xlsx")
    book = openpyxl.load_workbook(tmp_path / "interview.xlsx")
    header, *rows = book.active.values
    assert header == ("time", "subject", "code", "modifier", "comment")
    assert rows[0] == (1, "face 0", "happiness", MACRO, "score=0.75 at=1.000-3.000 apex=1.500 frames=30,-,99")
    assert rows[2] == (1.5, "face 1", "disgust", MACRO, None) and len(rows) == 10
    # A formula would be of type "f".
    assert {cell.data_type for row in book.active.iter_rows(min_row=2) for cell in row[1:4]} == {"s"}
    assert json.loads(book.properties.description)["provenance"] == {"model": "a/b"}


def test_tables_by_pandas(overlapping, tmp_path):
    for name, reader in (("csv", pd.read_csv), ("tsv", pd.read_table), ("parquet", pd.read_parquet)):
        overlapping.write(path_of(tmp_path, name))
        table = reader(path_of(tmp_path, name))
        assert table["onset_s"].tolist() == [1.0, 1.0, 2.0, 2.5, 3.0] and table["apex_frame"].isna().all()
        guarded = "=SUM(A1)" if name == "parquet" else "'=SUM(A1)"  # no spreadsheet opens Parquet
        assert table["label"].tolist()[2] == guarded and table["face_id"].tolist() == [0, 1, 0, 0, 0]


def test_a_table_for_people_has_the_digits_that_mean_something(tmp_path):
    third = ExpressionInterval("joy", 1 / 3, MACRO, 1 / 3, 2 / 3, 4 / 3, 10, 20, 39, label_scores={"joy": 2 / 3})
    exact = ExpressionAnnotation({"path": "a/interview.mp4", "fps": 30.0}, [third], labels=["joy"])
    line = "a/interview.mp4,joy,0.3333,macro-expression,0.333,0.667,1.333,10,20,39,0,0.6667"
    for name, cells in (("csv", line), ("tsv", line.replace(",", "\t"))):
        exact.write(path_of(tmp_path, name))
        assert path_of(tmp_path, name).read_text().splitlines()[1] == cells
        read = ExpressionAnnotation.read(path_of(tmp_path, name))
        assert read.video == exact.video and read.intervals[0].onset_s == 0.333
    exact.write(path_of(tmp_path, "bids"))
    assert path_of(tmp_path, "bids").read_text().splitlines()[1].split("\t")[:2] == ["0.333", "1.0"]
    for name in ("json", "jsonl", "parquet"):
        exact.write(path_of(tmp_path, name))
        assert ExpressionAnnotation.read(path_of(tmp_path, name)) == exact


def test_a_table_names_its_video_also_where_it_lies_alone(tmp_path):
    """Tables of one and of many videos have the same columns, so that they can be put below each other."""
    one, nobody = crowd(2), ExpressionAnnotation({"path": "=b.mp4"}, [])
    heads = []
    for annotations in ([one], [one, nobody], [nobody]):
        exporters.write_many(annotations, tmp_path / "a.csv", with_provenance=False)
        heads.append((tmp_path / "a.csv").read_text().splitlines()[0])
        read = exporters.read(tmp_path / "a.csv")
        assert [video.video["path"] for video in read] == [one.video["path"] if len(read[0]) else "a"]
    assert (
        heads[0] == heads[1]
        and heads[0].startswith("video,label,score,type,onset_s")
        and heads[0].startswith(heads[2])
    )


def test_bids_by_its_rules(overlapping, tmp_path):
    overlapping.write(tmp_path / "sub-01_task-talk_events.tsv")
    with open(tmp_path / "sub-01_task-talk_events.tsv", encoding="utf-8", newline="") as file:
        header, *rows = (line.rstrip("\n").split("\t") for line in file)
    assert header[:3] == ["onset", "duration", "trial_type"] and all(len(row) == len(header) for row in rows)
    assert rows[0][:3] == ["1.0", "2.0", "happiness"] and rows[3][2] == "n/a" and not any("" in row for row in rows)
    said = json.loads((tmp_path / "sub-01_task-talk_events.json").read_text())
    assert set(said) - {"GeneratedBy"} == set(header) and said["onset"]["Units"] == "s"
    assert said["trial_type"]["Levels"] and said["GeneratedBy"][0]["Annotation"]["provenance"] == {"model": "a/b"}


LABEL_STUDIO = {
    "type": "array",
    "items": {
        "required": ["data", "predictions"],
        "properties": {
            "data": {"required": ["video"], "properties": {"video": {"type": "string"}}},
            "predictions": {
                "type": "array",
                "items": {
                    "required": ["model_version", "result"],
                    "properties": {
                        "score": {"type": "number", "minimum": 0, "maximum": 1},
                        "result": {
                            "type": "array",
                            "items": {
                                "required": ["id", "from_name", "to_name", "type", "value"],
                                "properties": {
                                    "type": {"const": "timelinelabels"},
                                    "value": {
                                        "required": ["ranges", "timelinelabels"],
                                        "properties": {
                                            "ranges": {
                                                "items": {
                                                    "required": ["start", "end"],
                                                    "properties": {"start": {"type": "integer", "minimum": 1}},
                                                }
                                            },
                                            "timelinelabels": {"items": {"type": "string"}, "minItems": 1},
                                        },
                                    },
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}


def test_label_studio_by_a_schema(overlapping, tmp_path):
    overlapping.write(tmp_path / "a.labelstudio.json")
    (task,) = tasks = json.loads((tmp_path / "a.labelstudio.json").read_text(encoding="utf-8"))
    jsonschema.validate(tasks, LABEL_STUDIO)
    first = task["predictions"][0]["result"][0]
    assert first["value"] == {"ranges": [{"start": 31, "end": 100}], "timelinelabels": ["happiness"]}
    assert len({region["id"] for region in task["predictions"][0]["result"]}) == 5
    with pytest.raises(FednError, match="its frames per second are not known"):
        ExpressionAnnotation({"path": "a"}, [ExpressionInterval("a", None, None, 1.0, None, 2.0)]).write(
            tmp_path / "b.labelstudio.json"
        )


ANNOTATION = {
    "required": ["schema", "video", "intervals", "coverage", "curves", "labels", "types", "provenance"],
    "properties": {
        "schema": {"const": 1},
        "video": {"type": "object", "required": ["path"]},
        "intervals": {
            "items": {
                "required": ["label", "score", "type", "onset_s", "apex_s", "offset_s", "face_id", "label_scores"],
                "properties": {
                    "label": {"type": ["string", "null"]},
                    "score": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
                    "onset_s": {"type": "number"},
                    "onset_frame": {"type": ["integer", "null"], "minimum": 0},
                },
                "additionalProperties": True,
            }
        },
    },
}


def test_json_by_a_schema(overlapping, tmp_path):
    overlapping.write(tmp_path / "a.json")
    overlapping.write(tmp_path / "a.jsonl")
    for text in (tmp_path / "a.json").read_text(encoding="utf-8"), (tmp_path / "a.jsonl").read_text(encoding="utf-8"):
        jsonschema.validate(json.loads(text), ANNOTATION)


def test_rttm_by_its_columns(overlapping, tmp_path):
    overlapping.write(tmp_path / "a.rttm")
    # The way in which pyannote reads it.
    names = ["what", "uri", "channel", "start", "duration", "ortho", "type", "speaker", "score", "lookahead"]
    table = pd.read_csv(tmp_path / "a.rttm", names=names, sep=r"\s+", keep_default_na=False)
    assert set(table["what"]) == {"SPEAKER"} and set(table["uri"]) == {"interview%20ü"}
    assert table["start"].tolist() == [1.0, 1.0, 2.0, 2.5, 3.0] and table["channel"].tolist() == [1, 2, 1, 1, 1]
    assert table["speaker"].tolist() == ["happiness", "disgust", "=SUM(A1)", "<NA>", "disgust"]


def test_provenance_goes_everywhere(overlapping, tmp_path):
    for name in READ:
        overlapping.write(path_of(tmp_path / name, name)) if (tmp_path / name).mkdir() is None else None
        beside = (tmp_path / name / "interview.provenance.json").exists()
        assert beside == (exporters.FORMATS[name].provenance == "beside")
        assert ExpressionAnnotation.read(path_of(tmp_path / name, name)).provenance == {"model": "a/b"}


def test_a_table_knows_from_the_json_beside_it(overlapping, tmp_path):
    overlapping.write(tmp_path / "a.json")
    exporters.write_many([overlapping], tmp_path / "a.csv", with_provenance=False)
    assert ExpressionAnnotation.read(tmp_path / "a.csv") == overlapping
    (tmp_path / "a.json").unlink()
    assert ExpressionAnnotation.read(tmp_path / "a.csv").video == {"path": overlapping.video["path"]}


def test_no_cell_is_a_formula(tmp_path):
    texts = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "'=1"]
    events = [
        ExpressionInterval(text, 0.5, text, float(n), None, n + 0.5, 0, None, 9, 0, {text: 0.5})
        for n, text in enumerate(texts)
    ]
    annotation = ExpressionAnnotation({"path": "=cmd|' /C calc'!A0.mp4"}, events)
    for name in ("csv", "tsv", "bids"):
        exporters.write_many([annotation], path_of(tmp_path, name))
        with open(path_of(tmp_path, name), encoding="utf-8", newline="") as file:
            cells = [cell for row in csv.reader(file, delimiter="," if name == "csv" else "\t") for cell in row]
        assert not [cell for cell in cells if cell[:1] in "=+-@\t\r" and cell and not re.fullmatch(r"-?[\d.]+", cell)]
    exporters.write_many([annotation, annotation], tmp_path / "both.csv")
    assert ",=" not in (tmp_path / "both.csv").read_text() and "\n=" not in (tmp_path / "both.csv").read_text()
