"""A few mutated files for each reader, and what was a fault once; `make fuzz` takes 10,000 for each."""

import json
import struct
import zipfile

import openpyxl
import pytest
import torch
from huggingface_hub.errors import StrictDataclassError

from dataset_scripts.corpus import CorpusError, read_sheets
from dataset_scripts.folder_csv import FolderCsv
from fedn_hf import ExpressionAnnotation, FednConfig, FednError, FednForFacialExpressionDetection, exporters
from fedn_hf.archive import read_manifest
from fedn_hf.results_fedn import FednDetections
from tests import corpora
from tests.fuzz.harness import fuzz, show
from tests.fuzz.readers import READERS

QUICK = sorted(READERS.keys() - {"checkpoint", "checkpoint-check", "conversion"})  # these take long to begin


@pytest.mark.parametrize("name", QUICK)
def test_no_reader_crashes_hangs_or_does_more_than_read(name):
    report = fuzz(name, inputs=25)
    assert report.inputs and not report.faults, show(report)


def test_the_watch_sees_what_it_should(tmp_path, monkeypatch):
    """A reader with every fault there is."""
    import os
    import signal
    import socket
    from dataclasses import replace

    def bad(path):
        match path.read_bytes()[0] % 5 if path.stat().st_size and path.read_bytes()[0] != ord("[") else None:
            case 0:
                raise KeyError("unexpected")
            case 1:
                (tmp_path / "outside").write_text("")
            case 2:
                os.kill(os.getpid(), signal.SIGSEGV)
            case 3:
                socket.socket().connect_ex(("127.0.0.1", 9))
                with socket.socket() as one:
                    one.connect(("127.0.0.1", 9))
            case 4:
                (path.parent / "left").write_text("")

    seed = replace(READERS["json"], make=lambda folder: [_seed(folder)], read=bad, mutate=(_any_byte,))
    monkeypatch.setitem(READERS, "bad", seed)
    told = show(fuzz("bad", inputs=60))
    for words in ("KeyError", "outside", "SIGSEGV", "socket.connect", "leaves or removes files"):
        assert words in told


def _seed(folder):
    (folder / "seed.json").write_text("[]")
    return folder / "seed.json"


def _any_byte(data, chance, others):
    return bytes([chance.randrange(256)])


def test_facts_that_are_nested_without_end_are_refused():
    deep = []
    for _ in range(500):
        deep = [deep]
    with pytest.raises(FednError, match="nested more than 30 times"):
        ExpressionAnnotation.from_dict(
            {"schema": 1, "video": {"path": "a"}, "intervals": [], "provenance": {"x": deep}}
        )


def test_raw_detections_whose_parts_do_not_go_together_are_refused():
    raw = FednDetections({"path": "a"}, [], ["a", "b"], 0.5, {}, torch.arange(3) / 30, torch.arange(3), [])
    assert len(FednDetections.from_bytes(raw.to_bytes()).time_s) == 3
    for times in (torch.tensor([0.0, 2.0, 1.0]), torch.tensor([0.0, 1.0]), torch.tensor([0.0, float("nan"), 1.0])):
        with pytest.raises(FednError, match="not a file of raw detections"):
            FednDetections.from_bytes(FednDetections(**{**vars(raw), "time_s": times}).to_bytes())
    with pytest.raises(FednError, match="not a file of raw detections"):
        FednDetections.from_bytes(struct.pack("<Q", 2**63) + b"{}")


@pytest.mark.parametrize("line", ["7", "true", "null", "[1]", "[" * 100_000])
def test_lines_of_a_manifest_that_are_no_objects_are_refused(line, tmp_path):
    (tmp_path / "a.jsonl").write_text(line)
    with pytest.raises(FednError, match=r"a\.jsonl: not a jsonl file"):
        read_manifest(tmp_path / "a.jsonl")


@pytest.mark.parametrize(
    "text",
    [
        '{"dtype": [null]}',
        '{"dtype": Infinity}',
        '{"dtype": [[[[[null]]]]]}',
        '{"num_attention_heads": 0}',
        '{"id2label": {"0": [1, 1]}}',
        '{"backbone_config": {"model_type": "resnet", "dtype": "2026-01-01"}}',
        '{"backbone_config": {"model_type": "resnet", "id2label": "-inf"}}',
        '{"backbone_config": {"model_type": "resnet", "hidden_sizes": [64, 96, 512]}}',
    ],
)
def test_wild_values_are_refused_by_name(text):
    """Each of them once ended deep in a library, as an IndexError, a TypeError or another of its kind."""
    changes = json.loads(text)
    with pytest.raises((ValueError, StrictDataclassError), match=next(iter(changes))), torch.device("meta"):
        FednForFacialExpressionDetection(FednConfig.from_dict({**FednConfig().to_dict(), "label2id": None, **changes}))


@pytest.mark.parametrize("cell", ["XFD1048576", "B999999999", "A1000000000000000000"])
def test_a_label_sheet_with_a_cell_far_out_is_refused_before_room_is_made_for_it(cell, tmp_path):
    """The library that reads it would ask for hundreds of gigabytes and end the process."""
    book = openpyxl.Workbook()
    book.active["A1"], book.active["Z20000"] = "subject", "a"
    book.save(tmp_path / "plain.xlsx")
    assert read_sheets(tmp_path / "plain.xlsx")[0][0][0] == "subject"
    with zipfile.ZipFile(tmp_path / "plain.xlsx") as plain, zipfile.ZipFile(tmp_path / "far.xlsx", "w") as far:
        for part in plain.infolist():
            far.writestr(part.filename, plain.read(part).replace(b'r="Z20000"', f'r="{cell}"'.encode()))
    with pytest.raises(CorpusError, match="delete what lies far out"):
        read_sheets(tmp_path / "far.xlsx")


def _misnamed(data):
    """The name of the last part is no UTF-8, and is said to be."""
    at = data.rindex(b"PK\x01\x02")
    return data[: at + 8] + struct.pack("<H", 0x800) + data[at + 10 : at + 46] + b"\xf9" + data[at + 47 :]


def _scrambled(data):
    """The packed content of the first part is none."""
    at = 30 + sum(struct.unpack("<HH", data[26:30]))
    return data[:at] + b"\xff" * 20 + data[at + 20 :]


@pytest.mark.parametrize("damage", [_misnamed, _scrambled])
def test_a_label_sheet_that_is_damaged_as_a_zip_is_refused(damage, tmp_path):
    book = openpyxl.Workbook()
    book.save(tmp_path / "a.xlsx")
    assert read_sheets(tmp_path / "a.xlsx")
    (tmp_path / "a.xlsx").write_bytes(damage((tmp_path / "a.xlsx").read_bytes()))
    with pytest.raises(CorpusError, match=r"a\.xlsx: not a readable spreadsheet"):
        read_sheets(tmp_path / "a.xlsx")


def test_a_table_with_a_cell_without_end_is_refused(tmp_path):
    builder = FolderCsv(data_dir=str(corpora.folder_csv(tmp_path)), cache_dir=str(tmp_path), fps=25.0)
    assert builder.sheet_events()
    with open(tmp_path / "events.csv", "a") as file:
        file.write(f"\n{'x' * 200_000};1;2;3;micro;;anna")
    with pytest.raises(CorpusError, match=r"events\.csv, line 4: field larger than field limit"):
        builder.sheet_events()


def test_a_sheet_whose_parts_claim_gigabytes_is_refused(tmp_path):
    [seed, *_] = READERS["boris"].make(tmp_path)
    whole = seed.read_bytes()
    at = whole.rindex(b"PK\x01\x02") + 20  # packed size of the last part, in the directory
    seed.write_bytes(whole[:at] + struct.pack("<I", 2**32 - 2) + whole[at + 4 :])
    with pytest.raises(FednError, match="more than the 268435456 that are read"):
        exporters.read(seed)


@pytest.mark.parametrize("name", ["id2label", "label2id"])
def test_labels_of_another_kind_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be a dict, got \\[1\\]"):
        FednConfig(**{name: [1]})
