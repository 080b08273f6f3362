"""Pictures of the review app, as README shows them: the synthetic clip on a wide screen, and on a narrow dark one.

    python examples/make_app_pictures.py -o examples/media

Needs the extra `app`, playwright, and a Chromium or Chrome that plays H.264.
"""

import argparse
import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from fedn_hf.app.page import Page
from fedn_hf.app.sessions import Desk

CLIP = Path(__file__).resolve().parent / "media" / "synthetic.mp4"
WAIT_MS = 300_000


def draw(browser, address: str, path: Path, width: int, height: int, scheme: str, colours: int) -> None:
    """Find the clip's expressions in the page, lower the thresholds, correct one, and take a picture."""
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    page.goto(address)
    page.set_input_files("#file input[type=file]", str(CLIP))
    page.click("#find:not([disabled])")
    page.wait_for_selector("#strip img")
    for kind in ("macro", "micro"):
        page.fill(f"#lowest-{kind} input[type=number]", "0.1")
        page.keyboard.press("Tab")
    page.wait_for_function("document.querySelectorAll('.stage tbody tr').length > 3")
    page.locator(".stage tbody tr >> text=surprise").first.click()
    page.wait_for_function("document.querySelector('#onset input').value.startsWith('22.')")
    page.fill("#label input", "others")
    page.keyboard.press("Enter")
    page.click("#save")
    page.wait_for_selector(".stage tbody tr >> text=corrected", state="attached")
    page.locator(".stage tbody tr >> text=0.87").click()
    page.wait_for_function("document.querySelector('#onset input').value.startsWith('17.')")
    page.wait_for_selector("#strip >> text=onset 0:17")
    # In the middle of the expression, where there is something to see.
    page.click("#strip button:nth-of-type(2)")
    page.wait_for_timeout(1000)
    page.evaluate("window.scrollTo(0, 0)")
    picture = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
    picture.quantize(colours).save(path, optimize=True)
    context.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, default=CLIP.parent, help="folder for the pictures")
    out = parser.parse_args().out
    page = Page(Desk(device="cpu"))
    address = page.open()
    try:
        with sync_playwright() as play:
            path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
            browser = play.chromium.launch(executable_path=path, args=["--no-sandbox"])
            draw(browser, address, out / "app.png", 1280, 900, "light", 256)
            draw(browser, address, out / "app_narrow.png", 400, 800, "dark", 128)
            browser.close()
    finally:
        page.close()


if __name__ == "__main__":
    main()
