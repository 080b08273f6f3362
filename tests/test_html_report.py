"""Reports, read by parsers that are not ours: whole, true, safe to open, and asking nothing from anywhere."""

import base64
import io
import json
import re
from collections import Counter
from dataclasses import replace

import html5lib
import lxml.html
import pytest
from PIL import Image
from typer.testing import CliRunner

from fedn_hf import FednError
from fedn_hf.annotation import ExpressionAnnotation
from fedn_hf.cli import app
from fedn_hf.html_report import _card, warnings_of, write_report
from tests.results import CLIP, TYPES, annotation, coded_by_hand, event, recording, truth, with_faces


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """One video with its faces; and many: with hours, without a face, of several people, coded by hand."""
    folder = tmp_path_factory.mktemp("reports")
    write_report([truth()], folder / "one.html")
    blind = replace(annotation([], 9.0, "nobody.mp4"), coverage=[], curves=[])
    several = with_faces(recording(60, 300.0), 9)
    many = [truth(), recording(), blind, several, coded_by_hand(), ExpressionAnnotation({"path": "a.mp4"}, [])]
    write_report(many, folder / "many.html", videos=[None] * 6)
    return {name: (folder / f"{name}.html").read_text() for name in ("one", "many")}


def words(page):
    return " ".join(lxml.html.fromstring(page).text_content().split())


@pytest.mark.parametrize("name", ["one", "many"])
def test_it_is_html_without_a_fault(pages, name):
    html5lib.HTMLParser(strict=True).parse(pages[name])


@pytest.mark.parametrize("name", ["one", "many"])
def test_it_asks_nothing_from_anywhere(pages, name):
    tree = lxml.html.fromstring(pages[name])
    assert not tree.xpath("//script | //link | //iframe | //object | //embed | //base | //form")
    for element in tree.iter():
        for attribute, value in element.attrib.items():
            assert "//" not in value or value.startswith("data:"), (element.tag, attribute, value[:80])
            if attribute in ("src", "href") or attribute.endswith(":href"):
                assert value.startswith(("#", "data:image/"))
            assert not attribute.startswith("on")
    assert not re.search(r"@import|url\((?!#)", pages[name])
    [policy] = tree.xpath("//meta[@http-equiv='Content-Security-Policy']/@content")
    assert policy.startswith("default-src 'none'")


@pytest.mark.parametrize("name", ["one", "many"])
def test_every_id_is_one_and_every_reference_leads_somewhere(pages, name):
    ids = Counter(re.findall(r'\bid="([^"]*)"', pages[name]))
    assert max(ids.values()) == 1
    used = set(re.findall(r"url\(#([^)]*)\)", pages[name])) | set(re.findall(r'href="#([^"]*)"', pages[name]))
    assert used and used <= ids.keys()


def test_it_says_what_was_found(pages):
    said = words(pages["one"])
    assert "Facial expressions in synthetic.mp4" in said
    assert "0:24 100 % 3 7.50 2 5.00" in said  # length, seen, macro and micro with their rates
    tree = lxml.html.fromstring(pages["one"])
    rows = [[" ".join(cell.text_content().split()) for cell in row] for row in tree.iter("tr")]
    for one in truth():
        assert any(row[:2] == [one.type, one.label] and f"{one.onset_frame}–{one.offset_frame}" in row for row in rows)
    assert ["macro-expression", "surprise", "1", "0.60", "2.50", "0.60"] in rows
    assert ["revision", "abc123"] in rows and ["settings.score_threshold", "0.5"] in rows
    assert str(CLIP.parent) not in pages["one"]  # where it lay is nobody else's business


def test_it_says_what_labels_mean_and_what_it_must_not_be_used_for(pages):
    for name in ("one", "many"):
        said = words(pages[name])
        assert "Labels say what coders annotate, not what a person feels." in said
        assert "no interval is no proof that nothing happened" in said
        items = _card("Prohibited uses")
        assert len(items) == 9 and all(" ".join(item.split()) in said for item in items)
        assert "hiring, promotion, monitoring or dismissal at work" in said


def test_faces_are_pictures_that_lie_in_the_page(pages):
    tree = lxml.html.fromstring(pages["one"])
    sources = tree.xpath("//img/@src")
    assert len(sources) == 15
    for source in sources:
        kind, data = source.split(",", 1)
        with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
            assert kind == "data:image/jpeg;base64" and picture.size == (128, 128)
    assert tree.xpath("//img/@alt")[:3] == ["The face at the onset", "The face at the apex", "The face at the offset"]
    assert "This page shows faces" in words(pages["one"])


def test_every_timeline_is_there_described_and_in_the_colours_of_the_page(pages):
    tree = lxml.html.fromstring(pages["many"])
    pictures = tree.xpath("//figure/svg")
    assert len(pictures) == 7  # and the overview
    assert all(picture.get("role") == "img" and len(picture.get("aria-label")) > 20 for picture in pictures)
    assert "var(--ink)" in pages["many"] and "#1a1a1a" not in pages["many"].split("</style>", 1)[1]
    assert all("viewBox" in picture.attrib or "viewbox" in picture.attrib for picture in pictures)


def test_a_report_without_faces_has_none_and_names_of_files_are_text(tmp_path):
    path = "folder/<script>alert(1)</script>&\x00\udcff.mp4"
    label = "<img src=x onerror=alert(1)>"
    known = replace(
        annotation([event(30, 40, 60, label)], 9.0, path), provenance={"model": "<b>", "note": {"a": "</td>"}}
    )
    write_report([known], tmp_path / "a.html", videos=[None])
    page = (tmp_path / "a.html").read_text()
    tree = html5lib.parse(page, namespaceHTMLElements=False)
    assert not tree.findall(".//script") and not tree.findall(".//img") and not tree.findall(".//td/b")
    said = words(page)
    assert label in said and "note.a</td>" in said and "This page shows faces" not in said


def test_a_video_that_cannot_be_read_costs_its_faces_and_nothing_else(tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a video")
    write_report([replace(truth(), video={**truth().video, "path": str(broken)})], tmp_path / "a.html")
    said = words((tmp_path / "a.html").read_text())
    assert "Its faces cannot be shown" in said and "surprise" in said


def test_hours_and_thousands_of_events_stay_a_page_that_opens(tmp_path):
    videos = [replace(recording(150, 600.0, i), video={"path": f"p{i}.mp4", "duration_s": 600.0}) for i in range(5)]
    write_report(videos, tmp_path / "a.html")
    assert (tmp_path / "a.html").stat().st_size < 1e6  # of which each video has a seventh
    write_report([recording()], tmp_path / "b.html")
    assert (tmp_path / "b.html").stat().st_size < 1e6
    assert "The first 500 of 5000" in words((tmp_path / "b.html").read_text())


# --- warnings ----------------------------------------------------------------------------------------------------


def test_a_sound_annotation_raises_no_warning():
    assert warnings_of(truth()) == []
    assert warnings_of(coded_by_hand()) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: replace(a, video={**a.video, "truncated_at_s": 20.0}), "after 0:20.00 could not be read"),
        (lambda a: replace(a, video={**a.video, "fps": 15.0}), "15 frames per second"),
        (lambda a: replace(a, coverage=[]), "No face was seen"),
        (lambda a: replace(a, coverage=[{**a.coverage[0], "end_s": 12.0}]), "in 50 % of the time"),
        (lambda a: replace(a, coverage=[{**a.coverage[0], "confidence": 0.6}]), "mean confidence 0.60"),
        (lambda a: replace(a, coverage=[{**a.coverage[0], "face_size_px": 60.0}]), "60 pixels high"),
        (lambda a: replace(a, intervals=[event(3, 9, 40, kind=TYPES[1])]), "longer than 0.5 s: 1"),
        (lambda a: replace(a, coverage=[{**a.coverage[0], "end_s": 22.7}]), "where no face was seen: 1"),
    ],
)
def test_what_should_worry_is_said(change, words):
    assert any(words in warning for warning in warnings_of(change(truth())))


def test_damaged_files_are_not_blamed_for_what_was_not_read():
    cut = replace(truth(), video={**truth().video, "truncated_at_s": 12.0}, intervals=[], curves=[])
    cut = replace(cut, coverage=[{**cut.coverage[0], "end_s": 12.0}])
    assert len(warnings_of(cut)) == 1


# --- the command -------------------------------------------------------------------------------------------------


def test_the_command_takes_files_and_folders(tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    truth().write(folder / "a.json")
    coded_by_hand().write(folder / "b.json")
    (folder / "b.provenance.json").write_text("{}")
    out = tmp_path / "out.html"
    ran = CliRunner().invoke(app, ["report", str(folder), str(folder / "a.json"), "-o", str(out), "--no-faces"])
    assert ran.exit_code == 0, ran.output
    assert f"{out}: a report on 2 videos" in ran.output
    assert "coded by hand.mp4" in words(out.read_text()) and "<img" not in out.read_text()
    ran = CliRunner().invoke(app, ["report", str(folder), "-o", str(out)])
    assert "1 without faces" in ran.output and "<img" in out.read_text()


def test_the_command_says_what_is_wrong(tmp_path):
    (tmp_path / "no.json").write_text(json.dumps({"schema": 99}))
    (tmp_path / "empty").mkdir()
    for arguments, reason in (
        (["no.json", "-o", "a.pdf"], "a report is an HTML page"),
        (["no.json", "-o", "nowhere/a.html"], "no such folder"),
        (["no.json", "-o", "a.html"], "schema 1 was expected"),
        (["empty", "-o", "a.html"], "holds no .json"),
        (["gone.json", "-o", "a.html"], "gone.json"),
    ):
        given = [a if a.startswith("-") else str(tmp_path / a) for a in arguments]
        ran = CliRunner().invoke(app, ["report", *given])
        assert ran.exit_code == (2 if reason.startswith("schema") else 1) and reason in ran.output, ran.output
    assert not (tmp_path / "a.html").exists()
    with pytest.raises(FednError, match="at least one"):
        write_report([], tmp_path / "a.html")


def test_annotations_write_themselves_as_pages(tmp_path):
    truth().write(tmp_path / "a.html")
    assert "surprise" in words((tmp_path / "a.html").read_text())
