"""The review app as a Space on the Hub: for visitors who do not know each other, so with tighter limits."""

import threading
from pathlib import Path

from fedn_hf.app.page import Page
from fedn_hf.app.sessions import AppLimits, Desk

HERE = Path(__file__).resolve().parent
CLIP = HERE / "synthetic.mp4"

if __name__ == "__main__":
    # Put the name of your own model on the Hub here; without one it is the detector that comes with the package.
    desk = Desk(videos=[str(CLIP)] if CLIP.exists() else [], limits=AppLimits(upload_bytes=200 * 2**20, video_s=300.0))
    Page(desk).open(7860, host="0.0.0.0")
    threading.Event().wait()
