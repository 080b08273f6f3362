"""What coders marked: tiers and codes by a mapping, agreement with a network, and files that mean harm."""

import gzip
import io
import json
import zipfile
from dataclasses import replace

import openpyxl
import pytest
from praatio.data_classes.interval_tier import IntervalTier
from praatio.data_classes.point_tier import PointTier
from praatio.data_classes.textgrid import Textgrid
from pympi import Eaf
from typer.testing import CliRunner

from fedn_hf import ExpressionAnnotation, ExpressionInterval, FednError, exporters
from fedn_hf.cli import app
from fedn_hf.exporters.mapping import CodeMapping
from fedn_hf.metrics import Expressions, read_codings

MACRO, MICRO = "macro-expression", "micro-expression"
YAML = """
tiers:
  "Emotion*": {type: macro}
  ME: {type: micro, face: 1}
codes:
  HAP: happiness
  SUR: {label: surprise}
  "SUR?": null
  ME-dis: {type: micro, label: disgust}
"""
MARKED = [("happiness", MACRO, 0, 2.04, 3.2), ("disgust", MICRO, 0, 8.0, 8.3), ("surprise", MICRO, 1, 10.0, 10.4)]


def said(annotation):
    return [(e.label, e.type, e.face_id, e.onset_s, e.offset_s) for e in annotation]


@pytest.fixture
def mapping(tmp_path):
    (tmp_path / "codes.yaml").write_text(YAML)
    return CodeMapping.read(tmp_path / "codes.yaml")


@pytest.fixture
def machine():
    """What a network found in the same video."""
    events = [
        ExpressionInterval("happiness", 0.9, MACRO, 2.0, 2.5, 3.2, 50, 62, 79),
        ExpressionInterval("surprise", 0.4, MICRO, 10.0, 10.2, 10.4, 250, 255, 259, 1),
        ExpressionInterval("disgust", 0.4, MACRO, 20.0, 20.2, 22.4, 500, 505, 559),
    ]
    video = {"path": "/data/interview.mp4", "fps": 25.0, "num_frames": 2500, "duration_s": 100.0}
    return ExpressionAnnotation(video, events, types=[MACRO, MICRO], provenance={"model": "a/b"})


def elan(path):
    """As a coder makes it: with a tier of notes, and a doubt."""
    file = Eaf(author="coder")
    file.remove_tier("default")
    rows = [("Emotion A", 2040, 3200, "HAP"), ("ME", 10000, 10400, "SUR"), ("Notes", 0, 500, "coffee")]
    for tier, start, stop, text in [*rows, ("Emotion A", 8000, 8300, "ME-dis"), ("Emotion A", 50000, 51000, "SUR?")]:
        if tier not in file.get_tier_names():
            file.add_tier(tier)
        file.add_annotation(tier, start, stop, text)
    file.to_file(str(path))


def praat(path, form="long_textgrid"):
    grid = Textgrid()
    rows = [(2.04, 3.2, "HAP"), (8.0, 8.3, "ME-dis"), (50.0, 51.0, "SUR?")]
    grid.addTier(IntervalTier("Emotion A", rows, 0, 100))
    grid.addTier(IntervalTier("ME", [(10.0, 10.4, "SUR")], 0, 100))
    grid.addTier(PointTier("Notes", [(0.5, "coffee")], 0, 100))
    grid.save(str(path), format=form, includeBlankSpaces=True)


def boris_events(path):
    """Tabular events with facts about the observation above them, as older versions write."""
    book = openpyxl.Workbook()
    sheet = book.active
    for row in (
        ("Observation id", "day 1"),
        ("Time", "Media file path", "FPS", "Subject", "Behavior", "Modifier 1", "Comment", "Status"),
        (0.0, "interview.mp4", 25, "Notes", "coffee", None, None, "POINT"),
        (2.04, "interview.mp4", 25, "Emotion A", "HAP", None, None, "START"),
        (3.2, "interview.mp4", 25, "Emotion A", "HAP", None, "sure", "STOP"),
        (8.0, "interview.mp4", 25, "Emotion A", "ME-dis", None, None, "START"),
        (8.3, "interview.mp4", 25, "Emotion A", "ME-dis", None, None, "STOP"),
        (10.0, "interview.mp4", 25, "ME", "SUR", None, None, "START"),
        (10.4, "interview.mp4", 25, "ME", "SUR", None, None, "STOP"),
        ("0:00:50.000", "interview.mp4", 25, "Emotion A", "SUR?", None, None, "START"),
        ("0:00:51.000", "interview.mp4", 25, "Emotion A", "SUR?", None, None, "STOP"),
    ):
        sheet.append(row)
    book.save(path)


def boris_aggregated(path):
    lines = ["Observation id\tMedia file name\tSubject\tBehavior\tModifiers\tBehavior type\tStart (s)\tStop (s)"]
    for subject, code, start, stop in (
        *(("Emotion A", "HAP", 2.04, 3.2), ("Emotion A", "ME-dis", 8.0, 8.3), ("ME", "SUR", 10.0, 10.4)),
        *(("Notes", "coffee", 0, 0), ("Emotion A", "SUR?", 50, 51)),
    ):
        lines.append(f"day 1\tinterview.mp4\t{subject}\t{code}\t\tSTATE\t{start}\t{stop}")
    path.write_text("\n".join(lines), encoding="utf-8")


FILES = {
    "coder.eaf": elan,
    "coder.TextGrid": praat,
    "short.TextGrid": lambda path: praat(path, "short_textgrid"),
    "coder.xlsx": boris_events,
    "coder.tsv": boris_aggregated,
}


@pytest.mark.parametrize("name", FILES)
def test_what_coders_marked(name, tmp_path, mapping):
    FILES[name](tmp_path / name)
    (annotation,) = exporters.read(tmp_path / name, mapping)
    assert said(annotation) == MARKED
    assert annotation.labels == ["disgust", "happiness", "surprise"]
    assert annotation.provenance["left_out"] == {"Emotion A": 1, "Notes": 1}
    assert {(e.score, e.apex_s, e.onset_frame) for e in annotation} == {(None, None, None)}
    assert [e.onset_frame for e in exporters.read(tmp_path / name, replace(mapping, fps=25))[0]] == [51, 200, 250]


@pytest.mark.parametrize("name", FILES)
def test_without_a_mapping_it_says_what_there_is(name, tmp_path):
    FILES[name](tmp_path / name)
    with pytest.raises(FednError, match=r"its tiers are .*'Emotion A'.* with the codes .*'HAP'.*\(--mapping\)"):
        ExpressionAnnotation.read(tmp_path / name)


def test_tables_of_coders_in_any_country(tmp_path):
    (tmp_path / "german.csv").write_text("Code;Beginn;Ende\nFreude;1,5;2,25\nÄrger;3;4\n", encoding="utf-8-sig")
    columns = {"label": "Code", "onset_s": "Beginn", "offset_s": "Ende"}
    mapping = CodeMapping(codes={"Freude": "happiness", "*": {"type": "micro"}}, columns=columns)
    (annotation,) = exporters.read(tmp_path / "german.csv", mapping)
    assert said(annotation) == [("happiness", None, 0, 1.5, 2.25), ("Ärger", MICRO, 0, 3.0, 4.0)]
    (tmp_path / "frames.tsv").write_text("film\tfrom\tto\na\t10\t19\nb\t0\t4\n", encoding="utf-16")
    frames = CodeMapping(columns={"video": "film", "onset_frame": "from", "offset_frame": "to"}, fps=10)
    both = exporters.read(tmp_path / "frames.tsv", frames)
    assert [(a.video["path"], e.onset_s, e.offset_s, e.offset_frame) for a in both for e in a] == [
        *(("a", 1.0, 2.0, 19), ("b", 0.0, 0.5, 4))
    ]
    (tmp_path / "ms.csv").write_text("onset_ms,duration_ms,emotion\n500,250,joy\n,,\n")
    assert said(exporters.read(tmp_path / "ms.csv")[0]) == [("joy", None, 0, 0.5, 0.75)]
    (tmp_path / "odd.csv").write_text("who,when\nann,3\n")
    with pytest.raises(FednError, match=r"odd\.csv: no column of onsets; its columns are who, when\. A mapping file"):
        exporters.read(tmp_path / "odd.csv")
    with pytest.raises(FednError, match=r"german\.csv: no column 'film'; there is Code"):
        exporters.read(tmp_path / "german.csv", frames)


def test_codes_in_dependent_tiers_and_unaligned_slots(tmp_path):
    """As ELAN writes it for a code beneath a span, and for spans that were only divided."""
    (tmp_path / "a.eaf").write_text("""<?xml version="1.0"?>
<ANNOTATION_DOCUMENT><HEADER TIME_UNITS="milliseconds">
<MEDIA_DESCRIPTOR MEDIA_URL="file:///C:/films/a%20b.mp4" TIME_ORIGIN="500"/></HEADER>
<TIME_ORDER><TIME_SLOT TIME_SLOT_ID="t1" TIME_VALUE="1000"/><TIME_SLOT TIME_SLOT_ID="t2"/>
<TIME_SLOT TIME_SLOT_ID="t3" TIME_VALUE="2000"/></TIME_ORDER>
<TIER TIER_ID="Span">
<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="t1" TIME_SLOT_REF2="t2"/></ANNOTATION>
<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a2" TIME_SLOT_REF1="t2" TIME_SLOT_REF2="t3"/></ANNOTATION></TIER>
<TIER TIER_ID="Code" PARENT_REF="Span"><ANNOTATION><REF_ANNOTATION ANNOTATION_ID="a3" ANNOTATION_REF="a2">
<ANNOTATION_VALUE>joy</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION></TIER></ANNOTATION_DOCUMENT>""")
    (annotation,) = exporters.read(tmp_path / "a.eaf", CodeMapping(tiers={"Code": {"type": "micro"}}))
    assert said(annotation) == [("joy", MICRO, 0, 2.0, 2.5)] and annotation.video["path"] == "/C:/films/a b.mp4"


def test_what_people_corrected_in_label_studio(tmp_path, machine):
    machine.write(tmp_path / "a.labelstudio.json")
    (task,) = json.loads((tmp_path / "a.labelstudio.json").read_text())
    first, *_ = task["predictions"][0]["result"]
    moved = {**first, "value": {"ranges": [{"start": 76, "end": 100}], "timelinelabels": ["joy"]}}
    task["annotations"] = [{"result": [moved, {"type": "choices"}]}, {"was_cancelled": True, "result": []}]
    (tmp_path / "b.labelstudio.json").write_text(json.dumps([task]))
    read = ExpressionAnnotation.read(tmp_path / "b.labelstudio.json")
    assert [(e.label, e.onset_s, e.offset_s, e.onset_frame) for e in read] == [("joy", 3.0, 4.0, 75)]


def test_an_elan_file_of_ours_that_somebody_corrected(tmp_path, machine, mapping):
    machine.write(tmp_path / "a.eaf")
    file = Eaf(str(tmp_path / "a.eaf"))
    file.add_annotation(f"face 0 {MACRO}", 40000, 41000, "anger")
    (slot,) = [name for name, time in file.timeslots.items() if time == 20_000]
    file.timeslots[slot] = 19_500  # an onset that was seen earlier
    file.to_file(str(tmp_path / "a.eaf"))
    read = ExpressionAnnotation.read(tmp_path / "a.eaf")
    assert [e.label for e in read] == ["happiness", "surprise", "disgust", "anger"]
    kept, moved = (next(e for e in read if e.label == label) for label in ("happiness", "disgust"))
    assert (kept.apex_s, kept.onset_frame, kept.score) == (2.5, 50, 0.9)
    assert (moved.onset_s, moved.apex_s, moved.onset_frame, moved.score) == (19.5, None, None, 0.4)
    assert next(e for e in read.with_frames() if e.label == "disgust").onset_frame == 488
    assert read.intervals[-1].score is None and read.video == machine.video
    assert exporters.read(tmp_path / "a.eaf", mapping) == [read]  # nobody else's tiers, so nothing to be mapped


WRONG_MAPPINGS = {
    "holds tiers, codes, columns and fps, got layers": "layers: {}",
    "holds tiers, codes, columns and fps, got '- 1": "- 1\n- 2",
    "tier 'A' of a mapping takes face, type, got {'kind': 'micro'}": "tiers: {A: {kind: micro}}",
    "face of tier 'A' must be a whole number": "tiers: {A: {face: left}}",
    "code '3' of a mapping takes label, type, got 4": "codes: {3: 4}",
    "columns of a mapping are apex_frame": "columns: {mood: x}",
    "fps of a mapping must be a positive number": "fps: -1",
    "tiers of a mapping must hold names": "tiers: [A]",
    "not a mapping file that can be read": "tiers: {A: [",
    "no such": None,
}


@pytest.mark.parametrize("message", WRONG_MAPPINGS)
def test_what_a_mapping_refuses(message, tmp_path):
    if WRONG_MAPPINGS[message] is not None:
        (tmp_path / "codes.yaml").write_text(WRONG_MAPPINGS[message])
    with pytest.raises(FednError) as caught:
        CodeMapping.read(tmp_path / "codes.yaml")
    message = {"no such": "No such file", "holds tiers, codes, columns and fps, got '- 1": "and fps, got [1, 2]"}.get(
        message, message
    )
    assert message in str(caught.value)


def test_a_code_that_nobody_explained(mapping):
    assert mapping.meaning("ME", "SUR") == {"type": MICRO, "face_id": 1, "label": "surprise"}
    with pytest.raises(FednError, match="tier 'ME' holds the code 'HPA', which the mapping does not have; add it"):
        mapping.meaning("ME", "HPA")
    assert mapping.meaning("Notes", "HPA") is None


# --- against a network --------------------------------------------------------------------------------------------


def fedn(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize("suffix", [".json", ".csv", ".eaf", ".TextGrid", ".rttm", "_events.tsv", ".parquet"])
def test_agreement_takes_rate_length_and_name_from_the_network(suffix, tmp_path, machine, mapping):
    elan(tmp_path / "coder A.eaf")
    machine.write(tmp_path / f"interview{suffix}")
    arguments = ["agreement", tmp_path / "coder A.eaf", tmp_path / f"interview{suffix}"]
    ran = fedn(*arguments, "--mapping", tmp_path / "codes.yaml", "--format", "json")
    result = json.loads(ran.stdout)["agreement"]
    assert ran.exit_code == 0 and result["lengths_known"] and result["events"]["overall"]["f1"] == pytest.approx(2 / 3)
    assert "the mapping leaves out 1 of Emotion A, 1 of Notes" in ran.stderr
    assert "are taken for codings of one video, interview" in ran.stderr
    # As if the coder had written frames.
    rows = [("interview", 51, 79, "macro"), ("interview", 200, 207, "micro"), ("interview", 250, 259, "micro")]
    codings = read_codings([tmp_path / "coder A.eaf", tmp_path / f"interview{suffix}"], mapping=mapping)
    assert (
        list(zip(*(getattr(codings.tables[0], n) for n in ("video", "onset", "offset", "type")), strict=True)) == rows
    )


def test_evaluate_and_folders(tmp_path, machine):
    (tmp_path / "codes.yaml").write_text(YAML)
    for folder in ("results", "elan"):
        (tmp_path / folder).mkdir()
    for suffix in (".json", ".csv", ".eaf", ".png"):
        machine.write(tmp_path / "results" / f"interview{suffix}")
    elan(tmp_path / "elan" / "interview.eaf")
    arguments = ["evaluate", tmp_path / "results", tmp_path / "elan", "--mapping", tmp_path / "codes.yaml"]
    ran = fedn(*arguments, "--format", "json")
    assert ran.exit_code == 0 and json.loads(ran.stdout)["spotting"]["overall"]["predictions"] == 3
    assert json.loads(ran.stdout)["spotting"]["overall"]["true_positives"] == 2
    assert len(Expressions.read(tmp_path / "results")) == 3
    ran = fedn("agreement", tmp_path / "elan" / "interview.eaf", tmp_path / "elan")
    assert ran.exit_code == 2 and "a mapping file says what they mean (--mapping)" in ran.stderr
    ran = fedn("agreement", tmp_path / "elan", tmp_path / "elan", "--mapping", tmp_path / "codes.yaml")
    assert ran.exit_code == 2 and "its frames per second are not known: give fps= (--fps)" in ran.stderr


def test_frames_of_a_coder_without_types_take_the_rate_of_the_other(tmp_path, machine):
    coder = tmp_path / "coder.csv"
    coder.write_text("onset,offset,label\n10,14,happiness\n60,120,happiness\n")
    machine.write(network := tmp_path / "interview.json")
    told = CliRunner().invoke(app, ["agreement", str(coder), str(network)])
    assert told.exit_code == 0, told.output


def test_seconds_are_not_taken_for_frames(tmp_path):
    """They once were, without a word, and nothing agreed."""
    for times, says in ((("onset", "offset"), "onset_s and offset_s"), (("onset_s", "offset_s"), None)):
        coder = tmp_path / f"{times[0]}.csv"
        coder.write_text(f"{times[0]},{times[1]},type,label\n0.2,0.7,macro,happiness\n3,4,macro,happiness\n")
        if says:
            with pytest.raises(FednError, match=says):
                read_codings([coder], fps=30)
        else:
            assert read_codings([coder], fps=30).tables[0].onset.tolist() == [6, 90]
    coder.write_text("video,onset,offset,type\nv,12,-1,macro\n")  # an end that nobody marked
    assert len(read_codings([coder]).tables[0]) == 1
    detector = tmp_path / "detector.csv"  # whose frames lie between two, as published ones do
    detector.write_text("video,onset,offset,type,score\nv,2.5,10,macro,0.7\n")
    assert read_codings([detector]).tables[0].onset.tolist() == [2.5]


def test_other_videos_are_noticed(tmp_path, machine):
    machine.write(tmp_path / "a.json")
    replace(machine, video={**machine.video, "path": "other.mp4"}).write(tmp_path / "b.json")
    ran = fedn("agreement", tmp_path / "a.json", tmp_path / "b.json")
    assert "note: no video is in both" in ran.stderr and ran.exit_code == 0


# --- fedn export --------------------------------------------------------------------------------------------------


def test_export_to_a_file_and_to_a_folder(tmp_path, machine, monkeypatch):
    monkeypatch.chdir(tmp_path)
    machine.write("interview.json")
    elan("coder.eaf")
    (tmp_path / "codes.yaml").write_text(YAML)
    assert "interview.json: 3 expressions" in fedn("export", "interview.json", "-o", "a.eaf").stdout
    assert said(ExpressionAnnotation.read("a.eaf")) == said(machine)
    ran = fedn("export", "coder.eaf", "-o", "coder.json", "--mapping", "codes.yaml")
    assert "left out by the mapping: 1 of Emotion A, 1 of Notes" in ran.stdout and ran.exit_code == 0
    assert said(ExpressionAnnotation.read("coder.json")) == MARKED
    ran = fedn("export", "interview.json", "coder.json", "-o", "out", "--format", "csv,textgrid,png")
    assert ran.exit_code == 0 and sorted(path.name for path in (tmp_path / "out").glob("[!.]*")) == [
        *("coder.TextGrid", "coder.csv", "coder.png", "coder.provenance.json"),
        *("interview.TextGrid", "interview.csv", "interview.png", "interview.provenance.json"),
    ]
    assert fedn("export", "interview.json", "coder.json", "-o", "all.csv").exit_code == 0
    assert [len(one) for one in exporters.read("all.csv")] == [3, 3]
    ran = fedn("export", "all.csv", "-o", "split", "--format", "json")
    assert ran.exit_code == 0 and {path.name for path in (tmp_path / "split").glob("[!.]*")} == {
        *("interview.json", "coder.json")
    }


WRONG_EXPORTS = {
    "would be written over while it is read": ["a.json", "-o", ".", "--format", "json"],
    "would be written over": ["a.json", "-o", "a.json"],
    "no known suffix; name a file such as x.doc.csv": ["a.json", "-o", "x.doc"],
    "a eaf file holds one video and 2 are given": ["a.json", "b.json", "-o", "x.eaf"],
    "no such folder": ["a.json", "-o", "no/x.eaf"],
    "--format takes json": ["a.json", "-o", "out", "--format", "doc"],
    "no such file or folder": ["c.json", "-o", "x.eaf"],
    "not a mapping file": ["a.json", "-o", "x.eaf", "--mapping", "codes.yaml"],
    "holds no files of expressions": ["empty", "-o", "x.eaf"],
}


@pytest.mark.parametrize("words", WRONG_EXPORTS)
def test_a_wrong_export_writes_nothing(words, tmp_path, machine, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for name in ("a.json", "b.json"):
        machine.write(name)
    before = {path.name for path in tmp_path.iterdir()}
    content = (tmp_path / "a.json").read_bytes()
    ran = fedn("export", *WRONG_EXPORTS[words])
    assert ran.exit_code == 1 and words in ran.stderr and ran.stderr.startswith("error: ")
    assert {path.name for path in tmp_path.iterdir()} == before and (tmp_path / "a.json").read_bytes() == content


def test_a_damaged_file_costs_a_file_of_many_and_a_table_of_all(tmp_path, machine, monkeypatch):
    monkeypatch.chdir(tmp_path)
    machine.write("a.json")
    (tmp_path / "b.json").write_text("{")
    ran = fedn("export", "a.json", "b.json", "-o", "out", "--format", "eaf")
    assert ran.exit_code == 2 and (tmp_path / "out" / "a.eaf").exists() and "b.json: not a json file" in ran.stderr
    ran = fedn("export", "a.json", "b.json", "-o", "all.csv")
    assert ran.exit_code == 2 and not (tmp_path / "all.csv").exists()


def test_help_names_every_format():
    text = fedn("export", "--help").stdout
    assert "Examples" in text and all(name in text for name in exporters.FORMATS) and "export" in fedn("--help").stdout


# --- files that mean harm -----------------------------------------------------------------------------------------

EAF = """<ANNOTATION_DOCUMENT><TIME_ORDER><TIME_SLOT TIME_SLOT_ID="t" TIME_VALUE="{0}"/></TIME_ORDER>
<TIER TIER_ID="face 0"><ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a" TIME_SLOT_REF1="t" TIME_SLOT_REF2="t"/>
</ANNOTATION></TIER></ANNOTATION_DOCUMENT>"""
LAUGHS = '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]><ANNOTATION_DOCUMENT>&b;</ANNOTATION_DOCUMENT>'
OUTSIDE = '<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]><ANNOTATION_DOCUMENT>&a;</ANNOTATION_DOCUMENT>'
LOOP = EAF.format(5).replace("ALIGNABLE_ANNOTATION", 'REF_ANNOTATION ANNOTATION_REF="a"')
GRID = (
    'File type = "ooTextFile"\nObject class = "TextGrid"\n0 1 <exists> {0} "IntervalTier" "face 0" 0 1 {1} 0 {2} "joy"'
)
ROW = "label,onset_s,offset_s,score\njoy,{0},{1},{2}\n"
BAD = {
    "laughs.eaf": LAUGHS,
    "outside.eaf": OUTSIDE,
    "loop.eaf": LOOP,
    "deep.eaf": "<a>" * 50_000,
    "huge.eaf": EAF.format("9" * 10_000),
    "large.eaf": EAF.format("9" * 30),
    "nan.eaf": EAF.format("nan"),
    "slot.eaf": EAF.format(5).replace('REF1="t"', 'REF1="u"'),
    "frames.eaf": '<ANNOTATION_DOCUMENT><HEADER TIME_UNITS="PAL-frames"/></ANNOTATION_DOCUMENT>',
    "facts.eaf": EAF.format(5).replace("<TIME_O", '<HEADER><PROPERTY NAME="fedn_hf">[]x</PROPERTY></HEADER><TIME_O'),
    "other.eaf": "<html/>",
    "bytes.eaf": b"\x00\xff\xfe",
    "nan.csv": ROW.format("nan", 2, 0.5),
    "infinite.csv": ROW.format(1, "inf", 0.5),
    "huge.csv": ROW.format("1e999", 2, 0.5),
    "large.csv": ROW.format(1, "9" * 400, 0.5),
    "text.csv": ROW.format("soon", 2, 0.5),
    "backwards.csv": ROW.format(3, 2, 0.5),
    "unsure.csv": ROW.format(1, 2, 7),
    "twice.csv": "onset_s,onset_s\n1,2\n",
    "quote.csv": 'label,onset_s,offset_s\n"' + "a" * 200_000,
    "bytes.csv": b"onset_s\n\xff\xfe\xfa",
    "deep.json": "[" * 100_000,
    "digits.json": '{"schema": ' + "9" * 10_000 + "}",
    "nan.json": '{"schema": 1, "video": {"path": "a"}, "intervals": [{"label": "a", "score": NaN, "type": "a", '
    '"onset_s": 1, "apex_s": null, "offset_s": 2}]}',
    "list.json": "[1, 2]",
    "empty.json": "",
    "line.jsonl": '{"schema": 1}\n',
    "junk.parquet": "PAR1 and nothing else",
    "many.TextGrid": GRID.format(10**9, 10**9, 1),
    "nan.TextGrid": GRID.format(1, 1, "nan"),
    "huge.TextGrid": GRID.format(1, 1, "1e999"),
    "quote.TextGrid": GRID.format(1, 1, 1).replace('"joy"', '"joy' + '""' * 99_999),
    "binary.TextGrid": b"ooBinaryFile\x08TextGrid",
    "junk.vtt": "not a subtitle",
    "junk.srt": "not a subtitle",
    "times.vtt": "WEBVTT\n\nface 0 |\n99:99:99.999 --> 00:00:00.000\njoy\n",
    "note.vtt": "WEBVTT\n\nNOTE fedn_hf {]\n\n00:00:01.000 --> 00:00:02.000\njoy\n",
    "nan.rttm": "SPEAKER a 1 nan 1 <NA> <NA> joy <NA> <NA>",
    "channel.rttm": "SPEAKER a 0 1 1 <NA> <NA> joy <NA> <NA>",
    "short.rttm": "SPEAKER a 1 1",
    "other.rttm": "LEXEME a",
    "nan_events.tsv": "onset\tduration\nnan\t1\n",
    "back_events.tsv": "onset\tduration\n1\t-1\n",
    "other_events.tsv": "when\nnow\n",
    "none.labelstudio.json": "{}",
    "task.labelstudio.json": '[{"predictions": [{"result": [{"type": "timelinelabels", "value": {}}]}]}]',
    "junk.xlsx": "no workbook",
    "start.tsv": "Subject\tBehavior\tBehavior type\tTime\na\tb\tSTART\t1\n",
    "stop.tsv": "Subject\tBehavior\tBehavior type\tTime\na\tb\tSTOP\t1\n",
    "again.tsv": "Subject\tBehavior\tBehavior type\tTime\na\tb\tSTART\t1\na\tb\tSTART\t2\n",
    "status.tsv": "Subject\tBehavior\tBehavior type\tTime\na\tb\tMAYBE\t1\n",
}


@pytest.mark.parametrize("name", BAD)
def test_files_that_mean_harm_are_refused(name, tmp_path):
    content = BAD[name]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(FednError, match=name) as caught:
        exporters.read(tmp_path / name)
    assert len(str(caught.value)) < 1000


def test_entities_are_not_even_looked_at(tmp_path):
    (tmp_path / "a.eaf").write_text(OUTSIDE)
    with pytest.raises(FednError, match="DTDForbidden"):
        exporters.read(tmp_path / "a.eaf")


def workbook(**parts):
    """A small workbook with some of its parts replaced."""
    plain = io.BytesIO()
    openpyxl.Workbook().save(plain)
    changed = io.BytesIO()
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(changed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, parts.get(name, old.read(name)))
    return changed.getvalue()


def test_workbooks_that_unfold(tmp_path, monkeypatch):
    monkeypatch.setattr("fedn_hf.exporters.boris._MAX_SHEET_BYTES", 10 * 2**20)
    (tmp_path / "bomb.xlsx").write_bytes(workbook(**{"xl/worksheets/sheet1.xml": b" " * (11 * 2**20)}))
    assert (tmp_path / "bomb.xlsx").stat().st_size < 2**16
    with pytest.raises(FednError, match=r"bomb\.xlsx: unpacked it has \d+ bytes, more than"):
        exporters.read(tmp_path / "bomb.xlsx")
    for part in ("xl/workbook.xml", "xl/worksheets/sheet1.xml", "docProps/core.xml"):
        (tmp_path / "laughs.xlsx").write_bytes(workbook(**{part: LAUGHS}))
        with pytest.raises(FednError, match=r"laughs\.xlsx"):
            exporters.read(tmp_path / "laughs.xlsx")


def test_a_mapping_that_unfolds(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    (tmp_path / "bomb.yaml").write_text("\n".join([*lines, "tiers: *a11"]))
    with pytest.raises(FednError, match=r"bomb\.yaml"):
        CodeMapping.read(tmp_path / "bomb.yaml")
    (tmp_path / "bomb.yaml").write_text("\n".join(["tiers:", *(f"  {line}" for line in lines)]))
    with pytest.raises(FednError, match="tier 'a0' of a mapping takes face, type"):
        CodeMapping.read(tmp_path / "bomb.yaml")
    (tmp_path / "code.yaml").write_text("tiers: !!python/object/apply:os.system [exit]")
    with pytest.raises(FednError, match="not a mapping file"):
        CodeMapping.read(tmp_path / "code.yaml")


def test_names_of_videos_lead_nowhere(tmp_path, monkeypatch):
    """A file may say that its video lies anywhere; results stay in their folder, and nothing is opened."""
    monkeypatch.chdir(tmp_path)
    paths = ["../../outside/a.mp4", "/etc/passwd", "..", "c\x00d.mp4", "https://example.org/x.mp4"]
    exporters.write_many([ExpressionAnnotation({"path": path}, []) for path in paths], "all.jsonl")
    ran = fedn("export", "all.jsonl", "-o", "out/in", "--format", "json")
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.json")}
    assert ran.exit_code in (0, 2) and all(path.startswith("out/in/") for path in written) and len(written) >= 3


def test_files_that_are_too_large_or_not_there(tmp_path, monkeypatch):
    (tmp_path / "a.json").write_text("{}")
    monkeypatch.setattr(exporters, "MAX_BYTES", 1)
    with pytest.raises(FednError, match="2 bytes are more than the 1 that are read"):
        exporters.read(tmp_path / "a.json")
    monkeypatch.undo()
    (tmp_path / "folder.json").mkdir()
    for name, words in (("no.json", "No such file"), ("folder.json", "Is a directory")):
        with pytest.raises(FednError, match=words):
            exporters.read(tmp_path / name)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"video,onset,offset\na,1,2\n"))
    assert len(Expressions.read(tmp_path / "a.csv.gz")) == 1
