"""The progress hook: a bar where somebody looks, nothing where nobody does."""

import os
import pty
import subprocess
import sys

import numpy as np
import pytest

from fedn_hf import FednConfig, FednError, FednForFacialExpressionDetection, FednVideoProcessor
from fedn_hf.pipeline_fedn import FacialExpressionDetectionPipeline
from fedn_hf.progress import ProgressHook

# As in the command `fedn`, which shows progress before the package registers anything with its libraries.
SCRIPT = """
import sys
sys.argv = ["fedn"]
from fedn_hf.progress import ProgressHook
with ProgressHook() as hook:
    for file, total in (("a/known [1].mp4", 300), ("a/unknown.mp4", None)):
        for completed in (0, 120):
            hook("detection", None, file=file, total=total, completed=completed)
            hook._progress.refresh()
        hook("expressions", [], file=file)
print("done")
"""


def test_a_bar_on_a_terminal():
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    command = [sys.executable, "-c", SCRIPT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=environment, text=True) as process:
        os.close(theirs)
        drawn = b""
        while True:
            try:
                drawn += os.read(ours, 4096)
            except OSError:  # Linux's way to say that the other side has closed
                break
        os.close(ours)
        assert process.stdout.read() == "done\n"
    drawn = drawn.decode()
    assert "known [1].mp4" in drawn and "40%" in drawn and "━" in drawn
    assert "unknown.mp4" in drawn
    assert drawn.rindex("\x1b[2K") > drawn.rindex("unknown.mp4")  # and gone in the end


@pytest.mark.parametrize("colour", [{}, {"FORCE_COLOR": "1"}])
def test_nothing_where_nobody_looks(colour):
    environment = {**os.environ, **colour}
    ran = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment, check=True)
    assert (ran.stdout, ran.stderr) == ("done\n", "")


def test_follows_a_pipeline_through_good_and_bad_videos():
    model = FednForFacialExpressionDetection(FednConfig.preset("compact"))
    detect = FacialExpressionDetectionPipeline(model=model, video_processor=FednVideoProcessor())
    good = {"video": np.zeros((20, 48, 64, 3), np.uint8), "fps": 25}
    with ProgressHook() as hook:
        assert detect(good, hook=hook) == []
        assert hook._progress.tasks == []
        results = detect([good, "missing.mp4", good], hook=hook)
    assert [isinstance(result, FednError) for result in results] == [False, True, False]


def test_one_bar_at_a_time():
    with ProgressHook() as hook:
        hook("detection", None, file="fails-half-way.mp4", total=10, completed=5)
        hook("detection", None, file="b.mp4", total=100, completed=1)
        hook("detection", None, file="b.mp4", total=100, completed=2)
        assert [(task.description, task.completed) for task in hook._progress.tasks] == [("b.mp4", 2)]


def test_outside_of_a_with_block_it_says_how_to_use_it():
    with pytest.raises(FednError, match="with ProgressHook"):
        ProgressHook()("detection", None, file="a.mp4", total=1, completed=1)
