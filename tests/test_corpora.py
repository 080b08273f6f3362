"""Every corpus from its official layout into the schema; every quirk by its rule; the counts of the real sheets."""

import csv
import doctest
import shutil
from collections import Counter
from pathlib import Path

import pytest
from datasets import Video

from dataset_scripts import corpus, labels, quirks
from dataset_scripts.casme_2 import CasMe2
from dataset_scripts.casme_3 import CasMe3
from dataset_scripts.corpus import frame_paths, schema
from dataset_scripts.folder_csv import FolderCsv
from dataset_scripts.labels import SCHEMES, UNKNOWN, class_id, fold
from dataset_scripts.quirks import RULES, CorpusError, Quirks, SheetEvent, to_events
from dataset_scripts.samm_lv import SammLv
from tests import corpora
from tests.conftest import SHARED

ANNOTATIONS = SHARED / "corpora" / "annotations"
needs_sheets = pytest.mark.skipif(
    not ANNOTATIONS.exists(), reason="the real label sheets are not there: set FEDN_SHARED to the folder above corpora"
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """`tree("casme_2")` is a small corpus in the official layout."""
    made = {}

    def make(name):
        if name not in made:
            made[name] = getattr(corpora, name)(tmp_path_factory.mktemp(name))
        return str(made[name])

    return make


def events_of(builder):
    return {clip.video_id: clip.events for clip in builder.clips()}


def triples(events):
    return [(event["onset"], event["apex"], event["offset"]) for event in events]


# --- The official layouts --------------------------------------------------------------------------------------------


def test_casme_2(tree):
    builder = CasMe2("raw", data_dir=tree("casme_2"))
    clips = {clip.video_id: clip for clip in builder.clips()}
    assert list(clips) == ["s15_0401", "s15_0502", "s15_0503", "s23_0101"]
    assert triples(clips["s15_0401"].events) == [(2, 4, 8), (7, 9, 9)]
    assert triples(clips["s23_0101"].events) == [(3, 9, 9)]
    assert clips["s15_0502"].events == [
        {
            "onset": 1,
            "apex": 3,
            "offset": 10,
            "type": "micro-expression",
            "emotion": "positive",
            "self_report": "positive",
            "action_units": "12",
        }
    ]
    assert [clip.num_frames for clip in clips.values()] == [12, 11, 5, 12]
    assert builder.quirks.counts() == {
        "offset_zero": 1,
        "apex_out_of_order": 1,
        "offset_past_end": 1,
        "video_missing": 1,
        "sheet_missing": 1,
        "spelling": 1,
    }
    assert builder.quirks.met["video_missing"] == ["s23_0502: 1 events"]


def test_casme_2_selected(tree):
    clips = list(CasMe2("selected", data_dir=tree("casme_2")).clips())
    assert [(clip.video_id, clip.num_frames, triples(clip.events)) for clip in clips] == [
        ("s15_anger1_1", 7, [(0, 2, 6)])
    ]


def test_samm_lv(tree):
    builder = SammLv(data_dir=tree("samm_lv"), scheme="emotion_7")
    events = events_of(builder)
    assert {video: triples(found) for video, found in events.items()} == {
        "006_1": [(1, 3, 6), (4, 5, 7)],
        "006_2": [(0, 2, 4)],
        "007_3": [(3, None, 9)],
    }
    assert [event["emotion"] for event in events["006_1"]] == [None, "anger"]
    met = {"apex_missing": 1, "onset_before_clip": 1, "offset_past_end": 1, "overlap": 1, "fractional_frames": 1}
    assert builder.quirks.counts() == met | {"emotion_missing": 3}


def test_casme_3_part_a(tree):
    builder = CasMe3(data_dir=tree("casme_3"), scheme="emotion_7")
    clips = {clip.video_id: clip for clip in builder.clips()}
    assert list(clips) == ["spNO.1_a", "spNO.3_b", "spNO.3_j"]
    # Images 7 8 9 10 13 14 15: number 12 is missing, so an event that ends with it ends with image 10.
    assert triples(clips["spNO.1_a"].events) == [(1, 2, 3), (3, 4, 5)]
    # Image 4 is damaged, so image 5 is frame 3.
    assert triples(clips["spNO.3_j"].events) == [(1, 2, 3)]
    assert clips["spNO.3_j"].images == ("1.jpg", "2.jpg", "3.jpg", "5.jpg", "6.jpg", "7.jpg", "8.jpg")
    emotions = [event["emotion"] for clip in clips.values() for event in clip.events]
    assert emotions == [None, "sadness", "fear", "happiness"]
    assert builder.quirks.counts() == {
        "overlap": 1,
        "onset_before_clip": 1,
        "upper_case_name": 1,
        "wrongly_labelled": 1,
        "emotion_sheet_differs": 1,
        "emotion_missing": 1,
        "spelling": 2,
        "damaged_frames": 1,
        "poor_frames": 1,
        "frame_gaps": 2,
        "blinks": 1,
    }


def test_casme_3_rules(tree):
    rules = {
        "frame_gaps": "repeat",
        "poor_frames": "leave_out",
        "wrongly_labelled": "macro",
        "emotion_sheet_differs": "unknown",
        "emotion_missing": "objective_class",
    }
    clips = {c.video_id: c for c in CasMe3(data_dir=tree("casme_3"), scheme="emotion_7", rules=rules).clips()}
    first = clips["spNO.1_a"]
    assert first.images == tuple(f"{n}.jpg" for n in (7, 7, 9, 10, 10, 10, 13, 14, 15))
    assert triples(first.events) == [(1, 2, 5), (3, 5, 7)]
    assert first.events[0]["emotion"] == "anger"
    assert [(e["type"], e["emotion"]) for e in clips["spNO.3_b"].events] == [("macro-expression", "others")]


def test_casme_3_part_c(tree):
    builder = CasMe3("part_c", data_dir=tree("casme_3"))
    events = events_of(builder)
    assert {video: triples(found) for video, found in events.items()} == {
        "partC.4": [(1, None, 8), (2, None, 4)],
        "partC.5": [(1, None, 3)],
    }
    assert [event["action_units"] for event in events["partC.4"]] == ["", "4,24"]
    assert builder.quirks.counts()["emotion_sheet_alone"] == 1


def test_casme_3_other_version(tree, tmp_path):
    assert len(CasMe3(data_dir=tree("casme_3"), sheet_version="v1").sheet_events()) == 3
    shutil.copy(Path(tree("casme_3")) / "CAS(ME)3_part_A_v1.xlsx", tmp_path)
    builder = CasMe3(data_dir=str(tmp_path))
    assert len(builder.sheet_events()) == 3
    assert builder.quirks.met["version_missing"] == ["v2 of the events: cas(me)3_part_a_v1.xlsx is read"]
    with pytest.raises(CorpusError, match="rule version_missing"):
        CasMe3(data_dir=str(tmp_path), rules={"version_missing": "error"}).sheet_events()
    with pytest.raises(CorpusError, match="sheet_version 'v3' was given, expected v1 or v2"):
        CasMe3(data_dir=tree("casme_3"), sheet_version="v3")


def test_folder_csv(tree):
    builder = FolderCsv(data_dir=tree("folder_csv"), fps=25.0)
    clips = list(builder.clips())
    assert [(clip.video_id, clip.subject_id, clip.fps) for clip in clips] == [
        ("anna_interview", "anna", 25.0),
        ("ben_interview", "ben", 25.0),
    ]
    assert [triples(clip.events) for clip in clips] == [[(2, 3, 5)], [(0, None, 9)]]
    one_based = FolderCsv(data_dir=tree("folder_csv"), fps=25.0, first_frame=1)
    assert triples(next(iter(one_based.clips())).events) == [(1, 2, 4)]
    with pytest.raises(CorpusError, match="pass fps="):
        list(FolderCsv(data_dir=tree("folder_csv")).clips())


def test_folder_csv_of_video_files(tmp_path, clip):
    shutil.copy(clip("h264.mp4"), tmp_path / "one.mp4")
    (tmp_path / "events.csv").write_text("video,onset,offset,type\none.mp4,4,20,macro\n")
    (found,) = FolderCsv(data_dir=str(tmp_path)).clips()
    assert (found.video_id, found.fps, found.num_frames, found.images) == ("one", 25.0, 60, None)
    assert triples(found.events) == [(4, None, 20)]


def test_a_table_in_another_encoding_is_named(tmp_path):
    (tmp_path / "events.csv").write_bytes("video,onset,offset,type\nZoë,4,20,macro\n".encode("cp1252"))
    with pytest.raises(CorpusError, match=r"events\.csv: .* save the table as CSV in UTF-8"):
        list(FolderCsv(data_dir=str(tmp_path)).clips())


@pytest.mark.parametrize("content", [b"", b"no video", b"#EXTM3U\n#EXTINF:1,\nother.ts\n#EXT-X-ENDLIST\n"])
def test_a_file_that_is_no_video_is_named(tmp_path, content):
    (tmp_path / "one.mp4").write_bytes(content)
    (tmp_path / "events.csv").write_text("video,onset,offset,type\none.mp4,4,20,macro\n")
    for kind, options in ((FolderCsv, {}), (FolderCsv, {"fps": 25.0})):
        with pytest.raises(CorpusError, match=r"one\.mp4: does not open as a video"):
            list(kind(data_dir=str(tmp_path), **options).clips())


def test_folder_csv_says_what_it_leaves_out(tmp_path, clip, caplog):
    shutil.copy(clip("h264.mp4"), tmp_path / "a.mp4")
    (tmp_path / "events.csv").write_text("video,subject,onset,offset,type\na.mp4,s1,3,9,micro\n")
    list(FolderCsv(data_dir=str(tmp_path)).clips())
    assert "no use for subject; columns are" in caplog.text
    assert "without a column subject_id every video counts as a subject of its own" in caplog.text


@pytest.mark.parametrize(
    "wrong", ["video,onset,offset,type\none,x,3,macro\n", "video,onset,offset,type\none,1,3,big\n"]
)
def test_folder_csv_with_a_wrong_row(tmp_path, wrong):
    (tmp_path / "events.csv").write_text(wrong)
    with pytest.raises(CorpusError, match=r"events\.csv, line 2: expected frame numbers and macro or micro"):
        list(FolderCsv(data_dir=str(tmp_path)).clips())


@pytest.mark.parametrize(
    ("kind", "config", "path", "expected"),
    [
        (CasMe2, "raw", "rawpic/s15/15_0101disgustingteeth", ("s15_0101", "s15")),
        (CasMe2, "raw", "rawvideo/s15/15_0101disgustingteeth.mp4", ("s15_0101", "s15")),
        (CasMe2, "raw", "15_0101.avi", ("s15_0101", "s15")),
        (CasMe2, "raw", "casme_015_0101", ("s15_0101", "s15")),
        (CasMe2, "raw", "rawpic/s15", None),
        (CasMe2, "selected", "selectedpic/s15/Anger1_1", ("s15_anger1_1", "s15")),
        (CasMe2, "selected", "s15_anger1_1.mp4", ("s15_anger1_1", "s15")),
        (CasMe3, "part_a", "part_A/SPNO.10/J/color", ("spNO.10_j", "spNO.10")),
        (CasMe3, "part_a", "spNO.1/a.mp4", ("spNO.1_a", "spNO.1")),
        (CasMe3, "part_a", "spNO.1/a/depth", None),
        (CasMe3, "part_c", "part_C/04.mp4", ("partC.4", "partC.4")),
        (SammLv, "raw", "SAMM_longvideos/006_1.mp4", ("006_1", "006")),
    ],
)
def test_folders_and_files_are_known_however_they_are_named(kind, config, path, expected):
    assert kind(config, data_dir="somewhere").identify(path) == expected


LAYOUTS = {
    "casme_2": (CasMe2, {}),
    "casme_3": (CasMe3, {"scheme": "emotion_7"}),
    "samm_lv": (SammLv, {}),
    "folder_csv": (FolderCsv, {"fps": 30.0}),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_prepared_and_streamed_rows_are_the_same(tree, tmp_path, name):
    kind, options = LAYOUTS[name]
    builder = kind(data_dir=tree(name), cache_dir=str(tmp_path), **options)
    builder.download_and_prepare()
    prepared = builder.as_dataset(split="train")
    assert prepared.features == schema(options.get("scheme", "objective_4"))
    streamed = kind(data_dir=tree(name), cache_dir=str(tmp_path), **options).as_streaming_dataset(split="train")
    assert list(prepared) == list(streamed)
    for row, clip in zip(prepared, kind(data_dir=tree(name), **options).clips(), strict=True):
        assert len(frame_paths(row["video"])) == row["num_frames"] == clip.num_frames
        assert [path.name for path in frame_paths(row["video"])] == list(clip.images)
        assert triples(row["events"]) == triples(clip.events)
    assert prepared.features["video"] == Video(decode=False)


# --- Licence gates ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "page", "inside"),
    [
        (CasMe2, "casme.psych.ac.cn/casme/e3", "longVideoFaceCropped/s15"),
        (CasMe3, "casme.psych.ac.cn/casme/e4", "part_A/spNO.1/a/color"),
        (SammLv, "www2.docm.mmu.ac.uk/STAFF/M.Yap/dataset.php", "SAMM_longvideos/006_1/006_1_0001.jpg"),
    ],
)
def test_what_is_not_there_names_the_licence_page_and_the_tree(tmp_path, kind, page, inside):
    (tmp_path / "holiday").mkdir()
    for options in ({}, {"data_dir": str(tmp_path / "nowhere")}, {"data_dir": str(tmp_path)}):
        builder = kind(cache_dir=str(tmp_path / "cache"), **options)
        with pytest.raises(CorpusError) as caught:
            list(builder.clips())
        assert page in str(caught.value) and inside in str(caught.value)
    assert "Found: no spreadsheet at all" in str(caught.value)


def test_another_copy_than_the_one_on_disk(tree, tmp_path):
    folder = shutil.copytree(tree("casme_2"), tmp_path / "copy", ignore=shutil.ignore_patterns("longVideo*"))
    with pytest.raises(CorpusError, match=r"It has raw and selected videos: choose that configuration\. Found: CAS"):
        list(CasMe2("cropped", data_dir=str(folder)).clips())


def test_a_folder_may_be_the_copy_itself(tree, tmp_path):
    folder = shutil.copytree(f"{tree('casme_2')}/longVideoFaceCropped", tmp_path / "CAS(ME)2_longVideoFaceCropped")
    for sheet in Path(tree("casme_2")).glob("*.xlsx"):
        shutil.copy(sheet, folder)
    assert len(events_of(CasMe2(data_dir=str(folder)))) == 4


# --- Quirks ----------------------------------------------------------------------------------------------------------

FRAMES = range(1, 101)
CASES = {  # rule -> (onset, apex, offset) of the sheet, then what each choice makes of it; frames are 0-based there
    "offset_zero": ((11, 15, 0), {"apex": (10, 14, 14), "mirror": (10, 14, 18), "drop": None}),
    "apex_missing": ((11, -1, 21), {"unknown": (10, None, 20), "middle": (10, 15, 20), "drop": None}),
    "apex_out_of_order": ((11, 25, 21), {"clamp": (10, 20, 20), "unknown": (10, None, 20), "drop": None}),
    "offset_before_onset": ((21, 15, 11), {"drop": None, "swap": (10, 14, 20)}),
    "onset_before_clip": ((0, 15, 21), {"clip": (0, 14, 20), "drop": None}),
    "offset_past_end": ((91, 95, 120), {"clip": (90, 94, 99), "drop": None}),
    "fractional_frames": ((11.4, 15.6, 20.4), {"round": (10, 15, 19), "outward": (10, 15, 20)}),
    "event_without_frames": ((101, 102, 103), {"drop": None, "error": CorpusError}),
}


@pytest.mark.parametrize("rule", CASES)
def test_every_choice_of_a_rule(rule):
    (onset, apex, offset), outcomes = CASES[rule]
    assert list(outcomes) == list(RULES[rule].choices)
    row = SheetEvent("v", onset, apex, offset, "macro-expression", "positive")
    for choice, expected in outcomes.items():
        quirks = Quirks({rule: choice})
        if expected is CorpusError:
            with pytest.raises(CorpusError, match=f"rule {rule}"):
                to_events([row], FRAMES, 30.0, "objective_4", quirks)
        else:
            assert triples(to_events([row], FRAMES, 30.0, "objective_4", quirks)) == ([expected] if expected else [])
        assert quirks.counts()[rule] == 1


def test_overlaps_and_long_micro_expressions():
    rows = [
        SheetEvent("v", 11, 12, 30, "micro-expression", "positive"),
        SheetEvent("v", 20, 22, 26, "macro-expression", "positive"),
        SheetEvent("v", 31, 32, 45, "micro-expression", "positive"),
    ]

    def after(**rules):
        quirks = Quirks(rules)
        return [(e["onset"], e["type"][:5]) for e in to_events(rows, FRAMES, 30.0, "objective_4", quirks)]

    assert after() == [(10, "micro"), (19, "macro"), (30, "micro")]
    assert after(overlap="drop") == [(10, "micro"), (30, "micro")]
    assert after(long_micro="macro") == [(10, "macro"), (19, "macro"), (30, "micro")]
    assert after(long_micro="drop") == [(19, "macro"), (30, "micro")]


def test_rules_that_there_are_not():
    with pytest.raises(CorpusError, match="there is no rule 'nonsense'; there is offset_zero, "):
        Quirks({"nonsense": "drop"})
    with pytest.raises(CorpusError, match="rule overlap: 'merge' was given, expected keep or drop"):
        Quirks({"overlap": "merge"})


def test_a_row_of_another_type():
    with pytest.raises(CorpusError, match="expected two frame numbers and macro-expression or micro-expression, got"):
        SheetEvent("v", 1, 2, 3, "blink")


def test_rules_that_stop(tree):
    with pytest.raises(CorpusError, match=r"s23_0502: 1 events: .* \(rule video_missing\)"):
        list(CasMe2("raw", data_dir=tree("casme_2"), rules={"video_missing": "error"}).clips())


def test_an_unknown_word_is_no_emotion_and_in_the_log():
    quirks = Quirks()
    (event,) = to_events([SheetEvent("v", 2, 3, 9, "macro-expression", "smirk")], FRAMES, 30, "objective_4", quirks)
    assert event["emotion"] is None and quirks.met["unknown_word"] == ["v, macro 2 3 9: emotion 'smirk'"]


# --- Label schemes ---------------------------------------------------------------------------------------------------


def test_label_schemes():
    assert [len(SCHEMES[name]) for name in ("objective_4", "emotion_7", "megc_3")] == [4, 7, 3]
    words = ["happyiness", "surprise", "disgust", "fear", "anger", "sad", "helpless", "pain", "confused", "sympathy"]
    assert [fold(word, "objective_4") for word in words] == [
        *("positive", "surprise", "negative", "negative", "negative"),
        *("negative", "negative", "negative", "others", "others"),
    ]
    assert [fold(word, "emotion_7") for word in words[-5:]] == ["sadness", "others", "others", "others", "others"]
    assert [fold(word, "megc_3") for word in ("Others", "happy", None)] == [None, "positive", None]
    assert (class_id("others", "emotion_7"), class_id(None, "emotion_7"), UNKNOWN) == (6, -100, -100)
    with pytest.raises(CorpusError, match="scheme 'nine' was given, expected objective_4 or emotion_7 or megc_3"):
        schema("nine")


# --- The real sheets -------------------------------------------------------------------------------------------------


def durations(name, key):
    with open(ANNOTATIONS / name, encoding="utf-8") as file:
        return {key(row): int(row["duration"]) for row in csv.DictReader(file)}


def read_real(builder, frames=None, scheme="objective_4"):
    """Rows of the sheet, and events by the default rules; `frames`: video -> count, or None where it is not known."""
    rows, by_video = builder.sheet_events(), {}
    for row in rows:
        by_video.setdefault(row.video_id, []).append(row)
    events = []
    for video, found in by_video.items():
        numbers = range(1, frames[video] + 1) if frames else range(10**6)
        events += to_events(found, numbers, builder.fps, scheme, builder.quirks)
    return rows, events


def lengths(rows, kind):
    """Frames of the events whose offset is known."""
    return sorted(row.offset - row.onset + 1 for row in rows if row.type.startswith(kind) and row.offset >= row.onset)


@needs_sheets
def test_counts_of_casme_2():
    frames = durations("cas_duration.csv", lambda row: f"s{row['vid'][6:8]}_{row['vid'][9:]}")
    assert (len(frames), min(frames.values()), max(frames.values())) == (97, 659, 4374)
    assert sum(frames.values()) == 251_822
    builder = CasMe2(data_dir=str(ANNOTATIONS))
    rows, events = read_real(builder, frames)
    assert len(rows) == len(events) == 357
    subjects = {row.video_id[:3] for row in rows}
    assert subjects == {f"s{n}" for n in (15, 16, *range(19, 28), *range(29, 39), 40)} and len(subjects) == 22
    assert len({row.video_id[:3] for row in rows if row.type == "micro-expression"}) == 14
    assert len({row.video_id for row in rows}) == 95  # two of the 97 videos have no expressions
    assert Counter((event["type"][:5], event["emotion"]) for event in events) == {
        **{("macro", "positive"): 116, ("macro", "negative"): 105, ("macro", "others"): 63, ("macro", "surprise"): 16},
        **{("micro", "negative"): 21, ("micro", "others"): 19, ("micro", "surprise"): 9, ("micro", "positive"): 8},
    }
    macro, micro = lengths(rows, "macro"), lengths(rows, "micro")
    assert (macro[0], macro[-1], round(sum(macro) / len(macro)), macro[len(macro) // 2]) == (4, 118, 40, 36)
    assert (micro[0], micro[-1], round(sum(micro) / len(micro), 1)) == (9, 17, 13.6)
    assert builder.quirks.counts() == {
        "offset_zero": 44,
        "apex_missing": 1,
        "apex_out_of_order": 3,
        "overlap": 15,
        "long_micro": 10,
        "spelling": 1,
    }


@needs_sheets
def test_coders_and_participants_agree_in_243_of_357():
    _, events = read_real(CasMe2(data_dir=str(ANNOTATIONS)))
    assert len(events) == 357
    assert sum(event["emotion"] == event["self_report"] != "others" for event in events) == 243
    _, events = read_real(CasMe2(data_dir=str(ANNOTATIONS)), scheme="megc_3")
    assert sum(event["emotion"] is not None and event["emotion"] == event["self_report"] for event in events) == 243


@needs_sheets
def test_counts_of_samm_lv():
    frames = durations("samm_duration.csv", lambda row: row["sub_name"][5:])
    builder = SammLv(data_dir=str(ANNOTATIONS))
    rows, events = read_real(builder, frames)
    assert len(events) == 502 and len(frames) == 147
    assert {row.video_id for row in rows} == set(frames) and len({row.video_id[:3] for row in rows}) == 30
    macro, micro = lengths(rows, "macro"), lengths(rows, "micro")
    assert (len(macro), macro[0], int(macro[-1])) == (343, 102, 5175)
    assert (len(micro), micro[0], micro[-1]) == (159, 30, 101)
    assert len(set(frames) - {row.video_id for row in rows if row.type == "micro-expression"}) == 68
    counts = builder.quirks.counts()
    expected = {"onset_before_clip": 12, "offset_past_end": 2, "overlap": 89, "fractional_frames": 178}
    # Six rows have an apex of -1, in five videos.
    assert counts == expected | {"apex_missing": 6, "long_micro": 1, "emotion_missing": 502}
    assert len({where.split(",")[0] for where in builder.quirks.met["apex_missing"]}) == 5


@needs_sheets
def test_counts_of_casme_3_part_a():
    builder = CasMe3(data_dir=str(ANNOTATIONS))
    rows, events = read_real(builder, scheme="emotion_7")
    assert Counter(row.type[:5] for row in rows) == {"macro": 3346, "micro": 860}
    assert len({row.video_id.split("_")[0] for row in rows}) == 98 and len({row.video_id for row in rows}) == 956
    macro = lengths(rows, "macro")
    assert (macro[0], macro[-1]) == (17, 4336)
    assert Counter(event["emotion"] for event in events if event["type"] == "micro-expression") == {
        **{"disgust": 250, "surprise": 187, "others": 161, "fear": 86},
        **{"anger": 64, "sadness": 57, "happiness": 55},
    }
    assert all(event["emotion"] is None for event in events if event["type"] == "macro-expression")
    assert {row.objective_class for row in rows} == {"I", "II", "III", "IV", "V", "VI", "VII"}
    counts = builder.quirks.counts()
    expected = {"long_micro": 626, "upper_case_name": 5, "emotion_missing": 3346, "emotion_sheet_differs": 4}
    expected |= {"overlap": 314, "wrongly_labelled": 15, "onset_before_clip": 2, "spelling": 112, "blinks": 841}
    assert counts == expected


@needs_sheets
def test_counts_of_casme_3_first_version():
    builder = CasMe3(data_dir=str(ANNOTATIONS), sheet_version="v1")
    rows = builder.sheet_events()
    assert Counter(row.type[:5] for row in rows) == {"macro": 3285, "micro": 921}
    assert builder.quirks.counts()["wrongly_labelled"] == 22
    assert not any(row.emotion is None for row in rows if row.type == "micro-expression")


@needs_sheets
def test_lists_of_images_of_casme_3():
    listed = CasMe3(data_dir=str(ANNOTATIONS)).listed_images(sorted((ANNOTATIONS / "casme3_official").glob("*.txt")))
    # The list of damaged images has 130 lines, of which nine name an image for the second time.
    damaged = {video: len(numbers) for video, numbers in listed["damaged_frames"].items()}
    assert damaged == {"spNO.3_j": 79, "spNO.4_j": 42}
    assert sum(map(len, listed["poor_frames"].values())) == 964


@needs_sheets
def test_counts_of_casme_3_part_c():
    builder = CasMe3("part_c", data_dir=str(ANNOTATIONS))
    rows = builder.sheet_events()
    assert Counter(row.type[:5] for row in rows) == {"macro": 303, "micro": 166}
    assert len({row.video_id for row in rows}) == 31
    assert builder.quirks.counts() == {"emotion_sheet_alone": 6}
    words = Counter(row.emotion for row in rows if row.type == "micro-expression")
    assert words == {"negative": 99, "surprise": 30, "others": 20, "positive": 16, None: 1}


@pytest.mark.parametrize("module", [corpus, labels, quirks])
def test_examples(module):
    results = doctest.testmod(module)
    assert results.attempted and not results.failed
