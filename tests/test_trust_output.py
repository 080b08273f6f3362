"""What strangers put into names, labels and folders does nothing to the terminal, or to files that are not ours."""

import json

import pyarrow as pa
import pytest
from pyarrow import parquet
from rich.console import Console

from fedn_hf import ExpressionAnnotation, FednError
from fedn_hf.archive import Archive, read_manifest, write_tables
from fedn_hf.cli.terminal import say, say_error, table
from fedn_hf.cli.written import LEDGER, check_replaceable, remember
from fedn_hf.exporters.tables import read_parquet_rows
from fedn_hf.files_fedn import replacing
from fedn_hf.tracks import video_of
from tests.test_archive import part_with

# Renames the window, clears it, sets what is pasted next, goes back to the start of the line, turns letters around.
NASTY = "a\x1b]0;owned\x07\x1b[2J\x1b]52;c;aGk=\x07\x9b31m\rb\u202egpj.exe"


def test_names_and_labels_do_nothing_to_the_terminal(capsys, monkeypatch):
    monkeypatch.setattr(Console, "is_terminal", True)
    rows = table("label")
    rows.add_row(NASTY)
    say(f"{NASTY}: 12 s", rows)
    say_error(f"error: {NASTY}")
    shown = capsys.readouterr()
    for text in (shown.out, shown.err):
        assert not {"\x07", "\x9b", "\r", "\u202e"} & set(text) and "\x1b]" not in text and "\x1b[2J" not in text
        assert r"a\x1b]0;owned\x07\x1b[2J" in text and r"\rb\u202egpj.exe" in text


def test_a_link_that_waits_where_results_go_is_not_written_through(tmp_path):
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    for name in ("a.csv.partial", "a.csv", LEDGER):
        (tmp_path / name).symlink_to(mine)
    with replacing(tmp_path / "a.csv") as unfinished:
        unfinished.write_text("found")
    remember([tmp_path / "a.csv"])
    assert mine.read_text() == "mine" and (tmp_path / "a.csv").read_text() == "found"
    assert not (tmp_path / "a.csv").is_symlink()
    with pytest.raises(FednError, match="not from fedn"):  # it could not be noted
        check_replaceable([tmp_path / "a.csv"])


def test_a_text_that_a_table_repeats_without_end_is_held_once(tmp_path):
    """A few kilobytes would become gigabytes: texts of a megabyte, or millions of rows with nothing in them."""
    path, texts = tmp_path / "a.parquet", pa.array(["x" * 10**6])
    parquet.write_table(
        pa.table({"path": pa.DictionaryArray.from_arrays(pa.array([0] * 200, pa.int32()), texts)}), path
    )
    _, rows, _ = read_parquet_rows(path)
    assert len(rows) == 200 and len({id(row["path"]) for row in rows}) == 1 and path.stat().st_size < 200_000
    parquet.write_table(pa.table({"path": pa.nulls(26_000_000, pa.string())}), path)
    assert path.stat().st_size < 200_000
    with pytest.raises(FednError, match="more than the 25000000 cells"):
        read_manifest(path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("archive.json", "[]"),
        ("archive.json", "{}"),
        ("archive.json", '{"schema": "1", "labels": []}'),
        ("archive.json", '{"schema": 1, "labels": ["a", "a"]}'),
        ("plan.jsonl", "{}"),
        ("plan.jsonl", "[1]"),
        ("plan.jsonl", '{"id": 5, "path": "a.mp4"}'),
        ("plan.jsonl", '{"id": "../../a", "path": "a.mp4"}'),
        ("plan.jsonl", '{"id": "a", "path": "a.mp4", "duration_s": "long"}'),
    ],
)
def test_an_archive_that_somebody_else_has_made_is_refused_by_name(name, text, tmp_path):
    part = part_with(tmp_path / "part", a="done")
    assert write_tables([part], tmp_path / "tables")[0] == 1
    (part.folder / name).write_text(text)
    with pytest.raises(FednError, match=r"part: no archive|plan\.jsonl: not the list"):
        write_tables([Archive(part.folder)], tmp_path / "tables")


def test_rows_of_an_archive_that_are_damaged_count_as_not_there_or_are_refused(tmp_path):
    part = part_with(tmp_path / "part", a="done")
    [row] = part.folder.glob("rows/*/*.json")
    whole = json.loads(row.read_text())
    for text in ("", "[]", "7", '{"id": "a"}', json.dumps({**whole, "status": "odd"})):
        row.write_text(text)
        assert write_tables([part], tmp_path / "tables") == (0, [], 1)
    for changes in ({"events": 5}, {"events": [{}]}, {"frames": "many"}, {"error": []}):
        row.write_text(json.dumps({**whole, **changes}))
        with pytest.raises(FednError, match=r"part: a row is not what `fedn archive` writes"):
            write_tables([part], tmp_path / "tables")


@pytest.mark.parametrize("name", ["source", "start_s", "end_s", "frame_rate", "image_size"])
@pytest.mark.parametrize("value", [["a"], {}])
def test_facts_of_another_kind_are_refused_by_name(name, value):
    """A report, an overlay or an export would end in the error of whatever reckons with them first."""
    facts = {"schema": 1, "video": {"path": "a.mp4"}, "intervals": [], "provenance": {name: value}}
    with pytest.raises(FednError, match=f"{name} in provenance must be a"):
        ExpressionAnnotation.from_dict(facts)
    number = {**facts, "video": {"path": "a.mp4", "fps": value}, "provenance": {}}
    with pytest.raises(FednError, match="fps in video must be a number"):
        ExpressionAnnotation.from_dict(number)


@pytest.mark.parametrize("name", ["x" * 5000, "a\x00b", "\ud800"])
def test_a_video_that_can_have_no_such_name_is_not_there(name, tmp_path):
    with pytest.raises(FednError, match="not where the annotation says"):
        video_of(ExpressionAnnotation({"path": name}, []), tmp_path)
