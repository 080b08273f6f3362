"""The review page in a real browser: what a person sees, clicks and takes along; and what nobody else gets to see."""

import csv
import os
import shutil
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pympi
import pytest

from tests.clips import make
from tests.results import CLIP

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WAIT_MS = 240_000  # a busy machine; nothing is waited for longer than it takes


# Form and filmstrip show the expression that is marked in the table.
AGREE = """() => {
    const onset = document.querySelector(".stage tr.chosen button")?.textContent;
    const form = parseFloat(document.querySelector("#onset input").value);
    return onset && Math.abs(parseFloat(onset.split(":")[1]) - form) < 0.006 &&
        document.querySelector("#strip button")?.textContent.includes(onset);
}"""


@pytest.fixture(scope="module")
def browser():
    sync = pytest.importorskip("playwright.sync_api")
    with sync.sync_playwright() as play:
        found = next(filter(None, map(shutil.which, BROWSERS)), play.chromium.executable_path)
        if not Path(found).exists():
            pytest.skip("NO BROWSER, so nobody looked at the review page: apt-get install chromium")
        opened = play.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def desk():
    pytest.importorskip("gradio")
    from fedn_hf.app.page import Page
    from fedn_hf.app.sessions import Desk

    one = Desk(device="cpu", threads=1)
    page = Page(one)
    one.address = page.open()
    yield one
    page.close()
    assert not one.folder.exists()


@pytest.fixture
def visit(browser, desk):
    """Opens the page as somebody else each time, and looks at what it asks for and what goes wrong in it."""
    opened, faults, ours = [], [], (desk.address, "data:", "blob:")

    def visit(**settings):
        context = browser.new_context(accept_downloads=True, **settings)
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.on("request", lambda asked: None if asked.url.startswith(ours) else faults.append(asked.url))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(desk.address)
        page.wait_for_selector("#file input[type=file]", state="attached")
        opened.append(context)
        return page

    yield visit
    for context in opened:
        context.close()
    assert not faults


def find_in(page, path):
    page.set_input_files("#file input[type=file]", str(path))
    page.wait_for_selector("#find:not([disabled])")
    page.click("#find")


def rows(page):
    return page.locator(".stage tbody tr")


def seconds(page):
    return page.evaluate("document.querySelector('#stage video').currentTime")


def saved(page, button, tmp_path):
    with page.expect_download() as waiting:
        page.click(button)
    path = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


def test_look_correct_and_take_along(visit, tmp_path):
    page = visit(viewport={"width": 1280, "height": 900})
    assert "Labels say what coders annotate, not what a person feels" in page.inner_text("#notice")
    assert page.locator("#notice li").count() == 9
    find_in(page, CLIP)
    page.wait_for_selector(".stage tbody tr")
    before = rows(page).count()
    assert before == page.locator(".stage svg .event").count() >= 1
    # A click on the timeline goes there.
    page.locator(".stage svg .event").last.click()
    page.wait_for_function("document.querySelector('#stage video').videoWidth > 0")
    page.wait_for_function("!document.querySelector('#stage video').seeking")
    page.wait_for_function(AGREE)
    assert page.locator("#strip img").count() == 3
    onset = float(page.input_value("#onset input"))
    assert seconds(page) == pytest.approx(onset, abs=0.05)
    # By keyboard: to the expression before, and a frame on.
    page.focus(".stage .scroll")
    page.keyboard.press("ArrowRight")
    assert seconds(page) == pytest.approx(onset + 1 / 30, abs=0.02)
    # Thresholds act without the network.
    page.fill("#lowest-micro input[type=number]", "0.05")
    page.keyboard.press("Tab")
    page.fill("#lowest-macro input[type=number]", "0.05")
    page.keyboard.press("Tab")
    page.wait_for_function(f"document.querySelectorAll('.stage tbody tr').length > {before}")
    # However quickly one goes through them, form and filmstrip end with the one that is marked.
    for _ in range(4):
        page.click(".stage .before")
    page.wait_for_function(AGREE)
    # A person says what it is.
    page.fill("#label input", "scorn")
    page.keyboard.press("Enter")
    page.click("#save")
    page.wait_for_selector(".stage tr.chosen td.by >> text=corrected")
    assert page.inner_text(".stage tr.chosen td.score") == "–"
    page.click("#undo")
    page.wait_for_selector(".stage tr.chosen td.by >> text=network")
    page.click("#redo")
    page.wait_for_selector(".stage tr.chosen td.by >> text=corrected")
    assert "1 corrected" in page.inner_text("#status")
    # ... and takes it along.
    path = saved(page, "#download", tmp_path)
    assert path.name == "synthetic.eaf"
    file = pympi.Elan.Eaf(str(path))
    told = [value for tier in file.get_tier_names() for *_, value in file.get_annotation_data_for_tier(tier)]
    assert any("scorn" in value for value in told)
    assert "corrected_by_hand" in path.read_text()
    marked = list(csv.DictReader(saved(page, "#truth", tmp_path).open()))
    assert "scorn" in {row["label"] for row in marked} and {row["score"] for row in marked} == {""}
    page.evaluate("window.onbeforeunload = null")


def test_two_faces_have_a_line_each_and_the_form_says_whose_it_is(visit, tmp_path):
    """Two people side by side: the bundled clip at two of its expressions."""
    with av.open(str(CLIP)) as source:
        frames = [frame.to_ndarray(format="rgb24") for frame in source.decode(video=0)]
    make(
        tmp_path / "two.mp4", [n / 30 for n in range(100)], size=(640, 320), tick=Fraction(1, 30),
        picture=lambda number, *size: np.hstack([frames[500 + number], frames[610 + number]]),
    )  # fmt: skip
    page = visit(viewport={"width": 400, "height": 800})
    page.click("text=all faces")
    find_in(page, tmp_path / "two.mp4")
    page.wait_for_selector(".stage svg >> text=face 1")
    assert {row.inner_text() for row in page.locator(".stage td.face_id").all()} == {"0", "1"}
    page.select_option(".stage .by-face", "1")
    page.wait_for_function("document.querySelector('.stage .count').textContent.includes(' of ')")
    rows(page).first.click()
    page.wait_for_function(AGREE)
    assert page.input_value("#face input") == "1" and page.locator(".strip.old").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_a_file_that_is_no_video_is_said_to_be_none(visit, tmp_path):
    (tmp_path / "letter.mp4").write_bytes(b"Dear Sir or Madam, " * 999)
    page = visit(viewport={"width": 400, "height": 800}, color_scheme="dark")
    find_in(page, tmp_path / "letter.mp4")
    page.wait_for_selector("#status .bad")
    said = page.inner_text("#status .bad")
    assert said.startswith("letter.mp4: ") and str(Path("/tmp")) not in said
    assert not page.is_visible(".stage")
    page.wait_for_selector("#find:not([disabled])")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_two_visitors_see_their_own_and_what_they_sent_goes_with_them(visit, desk, tmp_path):
    page, other = visit(), visit()
    make(tmp_path / "mine.avi", [n / 25 for n in range(25)], size=(64, 64), tick=Fraction(1, 25), codec="mpeg4")
    find_in(page, tmp_path / "mine.avi")
    page.wait_for_selector("#status >> text=mine.avi: 0 expressions")
    # No browser plays an .avi, so it gets a copy.
    page.wait_for_function("document.querySelector('#stage video').videoWidth === 64")
    source = page.get_attribute("#stage video", "src")
    assert source.endswith("copy.mp4")
    assert other.inner_text("#status") == "Choose a video. It stays on this computer."
    [session] = [one for one in desk.sessions.values() if one.name == "mine.avi"]
    assert oct(os.stat(desk.folder).st_mode)[-3:] == "700" and session.folder.exists()
    # Another visitor's page does not know where it lies, and nobody can list it.
    assert session.folder.name not in other.content()
    for place in (session.folder.parent, session.folder):
        assert other.request.get(f"{desk.address}gradio_api/file={place}").status == 403
    page.context.close()
    for _ in range(600):
        if not session.folder.exists():
            break
        time.sleep(0.1)
    assert not session.folder.exists() and not [p for p in (desk.folder / "sent").rglob("*.avi")]


def test_names_of_other_hosts_are_refused_and_the_page_may_fetch_nothing(desk):
    import httpx

    assert httpx.get(desk.address, headers={"Host": "evil.example"}).status_code == 400
    answer = httpx.get(desk.address)
    assert answer.headers["content-security-policy"].startswith("default-src 'self'")
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert '"analytics_enabled":false' in answer.text.replace(" ", "")
    assert "127.0.0.1" in desk.address
