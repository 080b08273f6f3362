"""The command line, as people and scripts use it: what it prints, what it writes, and how it ends."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

import fedn_hf.hub
from fedn_hf import ExpressionAnnotation, FednError
from fedn_hf.cli import app
from fedn_hf.cli.inputs import find_videos
from fedn_hf.cli.terminal import clock
from fedn_hf.cli.written import LEDGER
from fedn_hf.exporters import FORMATS
from fedn_hf.hub import CheckpointError

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "fedn_hf" / "assets" / "demo.mp4"
# `sys.argv[0]` ends in "fedn", as it does for the installed command.
COMMAND = [sys.executable, "-c", "import sys; sys.argv[0] = 'fedn'; from fedn_hf.cli import main; sys.exit(main())"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "80"}
BAR = "━"
# The scores of an untrained network are low.
LOW = ("--score-threshold", "0.012")


def fedn(*arguments):
    """The command in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def fedn_process(*arguments, code=0):
    """The command as a process of its own."""
    command = [*COMMAND, *map(str, arguments)]
    ran = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, encoding="utf-8")
    assert ran.returncode == code, ran.stderr
    return ran


@pytest.fixture
def recordings(tmp_path, short):
    """Folders as studies have them: the same names again and again, and two kinds of one recording."""
    names = ("P 10/sitzung ü.mp4", "P 2/sitzung ü.mp4", "P 2/sitzung ü.mov", "P 2/._sitzung ü.mp4", ".trash/old.mp4")
    for name in names:
        path = tmp_path / "recordings" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(short.read_bytes())
    (tmp_path / "recordings" / "P 2" / "notes.txt").write_text("not a video")
    return tmp_path / "recordings"


def files_in(folder):
    """All but what commands note for themselves."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != LEDGER]
    return sorted(path.relative_to(folder).as_posix() for path in files)


# --- help and wrong command lines ---------------------------------------------------------------------------------


def test_help_imports_nothing_that_takes_time():
    asked = "import sys; sys.argv = ['fedn', '--help']\ntry: from fedn_hf.cli import main; main()\nfinally: print("
    heavy = "[name for name in ('torch', 'transformers', 'av') if name in sys.modules])"
    command = [sys.executable, "-c", asked + heavy]
    ran = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, encoding="utf-8")
    assert ran.stdout.endswith("[]\n") and "fedn detect interview.mp4" in ran.stdout


@pytest.mark.parametrize("command", ["detect", "postprocess", "doctor", "push", "pull"])
def test_every_command_has_help_with_an_example(command):
    ran = fedn(command, "--help")
    assert ran.exit_code == 0 and "Example" in ran.stdout and f"fedn {command}" in ran.stdout


# Flags that say something else elsewhere, and why.
SEVERAL_MEANINGS = {
    "--out": "what a command writes",
    "--format": "files to write; where none are, how to print; and whether -o says it, too",
    "--batch-size": "crops that pass the backbone, or windows of a training step",
    "--revision": "one that is there, or one to push to",
    "--fps": "what the videos have, or what synthetic ones get",
    "--sandbox": "asked for with videos, refused with archives",
    "--workers": "as many as there are cores in archives",
}


def test_a_flag_means_the_same_everywhere():
    said = {}

    def look(command):
        for option in command.params:
            if option.param_type_name == "option":
                for name in option.opts:
                    said.setdefault(name, set()).add((option.help, option.metavar))
        for inner in getattr(command, "commands", {}).values():
            look(inner)

    look(typer.main.get_command(app))
    several = {name: texts for name, texts in said.items() if name[:2] == "--" and len(texts) > 1}
    assert not {name: texts for name, texts in several.items() if name not in SEVERAL_MEANINGS}
    assert all(text for texts in said.values() for text, _ in texts)


def test_what_new_users_try(tmp_path, short, monkeypatch):
    """Every command says in a line what is wrong and what to name instead, and has written nothing."""
    monkeypatch.chdir(tmp_path)
    ExpressionAnnotation({"path": str(short), "duration_s": 0.6}, []).write("found.json")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "page.html").mkdir()
    before = files_in(tmp_path)
    tried = {
        "detect empty": "the folder holds no videos (.mp4",
        "detect file -o file/out": "cannot be the folder for results",
        "export gone -o a.csv": "gone: no such file or folder",
        "export empty -o a.csv": "the folder holds no files of expressions",
        "export found.json -o file --format csv": "cannot be the folder for results",
        "render file gone.json -o a.mp4": "gone.json: no such file or folder",
        "render file found.json -o empty": "name such a file with -o",
        "render file file -o a.mp4": "file: no file of expressions; name a file of what was found",
        "detect file --truth empty": "empty: a folder; name a file of what was found",
        "evaluate found.json gone.csv": "gone.csv: no such file or folder",
        "evaluate found.json found.json --video-list gone.csv": "gone.csv: no such file or folder",
        "evaluate found.json found.json --mapping gone.yaml": "gone.yaml: not a mapping file",
        "benchmark gone.mp4": "gone.mp4: no such file or folder",
        "cache info --folder file": "file: a file; the cache is a folder, which --folder or FEDN_CACHE names",
        "cache clear --folder file": "file: a file; the cache is a folder",
        "export found.json -o a.csv --mapping empty": "empty: not a mapping file that can be read: Is a dir",
        "report gone -o a.html": "gone: no such file or folder",
        "report empty -o a.html": "`fedn detect -o` writes them",
        "report found.json -o page.html": "page.html: a folder; name a file with -o",
        "evaluate found.json": "Missing argument 'MARKED'",
        "agreement found.json gone": "gone: no such file or folder",
        "agreement found.json found.json --fps 0": "--fps takes a positive number",
        "train -o run": "--corpus, --features and --sheets are missing",
        # All that is missing, at once.
        "train": "-o is missing: the folder for the run, new or of one that was stopped\n--corpus, --features and",
        "train gone": "gone: is it to be trained on? That is named by an option: --videos gone\n-o is missing",
        "loso --videos gone --config x.yaml": "-o is missing: the folder for the run, new or of one that was stopped\n"
        "x.yaml: no such file; a recipe is a YAML file, and examples/recipes holds some\ngone: no such folder",
        "train --corpus casme_2 --features x --sheets gone -o a": "x: no such file or folder, which --features names\n"
        "gone: no such",
        "train --videos empty --test-corpus samm_lv -o run": "--test-features and --test-sheets are missing",
        "train --videos gone -o run": "gone: no such folder; --videos takes what `fedn prepare`",
        "train --videos empty -o file": "file: cannot be a folder, for file is a file",
        "train --videos empty --config gone.yaml -o run": "gone.yaml: no such file; a recipe is",
        "loso --videos empty -o file/run": "file/run: cannot be a folder, for file is a file",
        "prepare folder_csv empty file": "file: cannot be a folder",
        "prepare folder_csv empty out": "holds no label sheet of this corpus",
        "push empty name/of-model": "a complete checkpoint also holds config.json",
        "pull name/of-model -o file": "file: cannot be a folder",
        "synth -o file": "file: cannot be a folder",
    }
    for words, said in tried.items():
        ran = fedn(*words.split())
        assert ran.exit_code in (1, 2) and isinstance(ran.exception, SystemExit), (words, ran.exception)
        assert ran.stderr.startswith("error: ") and said in ran.stderr and "Errno" not in ran.stderr, ran.stderr
    assert files_in(tmp_path) == before


def test_one_fault_has_one_exit_code_in_every_command(tmp_path, monkeypatch):
    """As `fedn --help` says: 1 for what is not there, before anything is done; 2 for a file that cannot be read."""
    monkeypatch.chdir(tmp_path)
    Path("bad.json").write_text("{")
    Path("bad.mp4").write_text("no video")
    Path("bad.raw.safetensors").write_text("no")
    ExpressionAnnotation({"path": "a.mp4", "duration_s": 0.6}, []).write("good.json")
    for words in ("export FILE.json -o a.csv", "export FILE.json -o out --format csv", "evaluate FILE.json good.json",
                  "agreement good.json FILE.json", "report FILE.json -o a.html", "render bad.mp4 FILE.json -o a.mp4",
                  "detect FILE.mp4", "detect bad.mp4 --truth FILE.json", "postprocess FILE.raw.safetensors",
                  "benchmark FILE.mp4"):  # fmt: skip
        for name, code in (("gone", 1), ("bad", 2)):
            ran = fedn(*words.replace("FILE", name).split())
            assert ran.exit_code == code and ran.stderr.startswith(f"error: {name}."), (words, name, ran.stderr)


def test_version():
    assert fedn("--version").stdout == f"fedn {fedn_hf.__version__}\n"


WRONG = {
    "nothing": [],
    "No such command": ["detct"],
    "Missing argument": ["detect"],
    "No such option": ["detect", DEMO, "--colour"],
    "no such file or folder": ["detect", "missing.mp4"],
    "nothing matches": ["detect", "missing*.mp4"],
    "URLs are opened only with --allow-url": ["detect", "https://example.com/a.mp4"],
    "--start takes seconds or h:mm:ss": ["detect", DEMO, "--start", "soon"],
    "--end must lie after --start": ["detect", DEMO, "--start", "0:03", "--end", "2"],
    "--faces takes": ["detect", DEMO, "--faces", "-1"],
    "--fps takes a positive number": ["detect", DEMO, "--fps", "0"],
    "--fps is for folders of images": ["detect", DEMO, "--fps", "25"],
    "Invalid value for '--score-threshold'": ["detect", DEMO, "--score-threshold", "2"],
    "--score-threshold": ["detect", DEMO, "--score-threshold", "nan"],
    "--max-duration must not be below": ["detect", DEMO, "--min-duration", "2", "--max-duration", "1"],
    "--skip-existing goes with -o": ["detect", DEMO, "--skip-existing"],
    "*.raw.safetensors": ["postprocess", ROOT / "tests"],
}


@pytest.mark.parametrize("words", WRONG)
def test_a_wrong_command_line_is_said_in_short(words):
    ran = fedn(*WRONG[words])
    assert ran.exit_code == 1
    assert words == "nothing" or (words in ran.stderr and ran.stderr.startswith("error: ") and not ran.stdout)


MODEL_WRONG = {
    "there is no such folder, and a model on the Hub is written": ["--model", "no/such/folder"],
    "there is no such folder here, and the Hub cannot be reached": ["--model", "no-such/model"],
    "check the spelling and the network, or name none, which takes the package's own": ["--model", "mispelt"],
    "not among what the network knows (happiness": ["--label", "joy"],
    "not among what the network knows (macro": ["--type", "medium"],
    'with commas between, not "json,xls"': ["-o", "out", "--format", "json,xls"],
    'html, with commas between, not ""': ["-o", "out", "--format", ""],
    "--format goes with -o": ["--format", "json"],
    "--save-raw goes with -o": ["--save-raw"],
    "looks like a file": ["-o", "out.csv"],
    "cannot be the folder for results": ["-o", DEMO / "out"],
    'device "warp" cannot be used here': ["--device", "warp"],
    "a folder has no revisions": ["--revision", "v1"],
}


@pytest.mark.parametrize("words", MODEL_WRONG)
def test_what_is_wrong_with_a_model_or_its_options(words, checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    ran = fedn("detect", DEMO, "--model", checkpoint, *MODEL_WRONG[words])
    assert ran.exit_code == 1 and words in ran.stderr and not ran.stdout


# --- the default detector, see test_default.py ----------------------------------------------------------------------


def test_by_default_bad_files_stop_no_others(clip, tmp_path):
    (tmp_path / "bad.mp4").write_text("no video")
    ran = fedn("detect", tmp_path / "bad.mp4", clip("h264.mp4"), clip("mjpeg.avi"))
    assert ran.exit_code == 2 and ran.stdout.startswith("Detector: fedn_hf default ")
    assert ran.stdout.count("No face was found in what was read, so no expressions.") == 2
    assert "a face can be read from 32 pixels height on" in ran.stdout and "--start" not in ran.stdout
    assert "2 of 3 done." in ran.stdout
    assert "1 of 3 failed" in ran.stderr and f"{tmp_path / 'bad.mp4'}: not a readable video" in ran.stderr


# --- results ------------------------------------------------------------------------------------------------------


def test_tables_and_files(checkpoint, recordings, tmp_path):
    out = tmp_path / "out"
    ran = fedn_process("detect", recordings, "--model", checkpoint, *LOW, "-o", out, "--save-raw", "--threads", "1")
    assert BAR not in ran.stdout and not ran.stderr
    assert f"3 of 3 done; results are in {out}." in ran.stdout
    stems = ["P 10/sitzung ü", "P 2/sitzung ü.mov", "P 2/sitzung ü.mp4"]
    kinds = (".csv", ".json", ".raw.safetensors")
    assert files_in(out) == sorted(f"{stem}{kind}" for stem in stems for kind in kinds)
    assert ran.stdout.index("P 2") < ran.stdout.index("P 10")  # natural order

    data = json.loads((out / "P 10/sitzung ü.json").read_text(encoding="utf-8"))
    assert data["intervals"] and data["video"]["path"].endswith("sitzung ü.mp4")
    assert data["provenance"]["settings"] == {"score_threshold": 0.012}
    with open(out / "P 10/sitzung ü.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["onset_s"]) for row in rows] == [round(event["onset_s"], 3) for event in data["intervals"]]
    event = data["intervals"][-1]
    assert f"{event['score']:.3f}   {clock(event['onset_s'])}   {clock(event['apex_s'])}" in ran.stdout

    # The same thresholds give the same files, to the byte.
    again = fedn("postprocess", out, *LOW, "-o", tmp_path / "again")
    assert again.exit_code == 0
    for name in files_in(tmp_path / "again"):
        assert (tmp_path / "again" / name).read_bytes() == (out / name).read_bytes()
    assert len(files_in(tmp_path / "again")) == 6


def test_all_formats_together(checkpoint, short, tmp_path):
    out, options = tmp_path / "out", ["--model", checkpoint, *LOW, "--save-raw", "--format", ",".join(FORMATS)]
    ran = fedn("detect", short, "-o", out, *options)
    assert ran.exit_code == 0 and not ran.stderr
    names = {f"short{form.suffix}" for form in FORMATS.values()}
    assert set(files_in(out)) == {*names, "short_events.json", "short.raw.safetensors"}
    found = ExpressionAnnotation.read(out / "short.json")
    assert len(found) and Path(found.provenance["source"]) == short
    for form in [form for form in FORMATS.values() if form.is_read]:
        read = ExpressionAnnotation.read(out / f"short{form.suffix}")
        kinds = [sorted((e.type, e.label, e.face_id) for e in one) for one in (read, found)]
        assert kinds[0] == kinds[1] and read.provenance == found.provenance
    assert fedn("postprocess", out, *LOW, "-o", tmp_path / "again", "--format", "eaf,vtt").exit_code == 0
    # Another video of this name would take the place of what is there; each format says whose it is.
    other = tmp_path / "other" / "short.mp4"
    other.parent.mkdir()
    other.write_bytes(short.read_bytes())
    for name in ("eaf", "vtt", "boris", "parquet", "bids"):
        ran = fedn("detect", other, "-o", out, "--model", checkpoint, "--format", name)
        assert ran.exit_code == 2 and f"holds the results of {short}" in ran.stderr


def test_what_is_reported(checkpoint, short, tmp_path):
    settings = [*LOW, "--type", "micro", "--max-duration", "0.5", "--label", "fear", "--label", "anger"]
    options = ["--model", checkpoint, "-o", tmp_path, "--save-raw", "--format", "json"]
    assert fedn("detect", short, *settings, *options).exit_code == 0
    by_detect = (tmp_path / "short.json").read_bytes()
    for event in json.loads(by_detect)["intervals"]:
        assert event["type"] == "micro-expression" and event["label"] in ("fear", "anger")
        assert event["offset_s"] - event["onset_s"] <= 0.5
    raw = tmp_path / "short.raw.safetensors"
    assert fedn("postprocess", raw, *settings, "-o", tmp_path / "b", "--format", "JSON").exit_code == 0
    assert (tmp_path / "b" / "short.json").read_bytes() == by_detect
    ran = fedn("postprocess", raw, "--score-threshold", "0.9")
    assert ran.exit_code == 0 and "No expressions found (score threshold 0.9)." in ran.stdout
    ran = fedn("postprocess", raw, "--label", "joy")
    assert ran.exit_code == 1 and "--label joy" in ran.stderr


def test_bad_files_among_good_ones(checkpoint, clip, tmp_path):
    (tmp_path / "bad.mp4").write_bytes(os.urandom(1000))
    (tmp_path / "empty.mp4").touch()
    good = Path(clip("h264.mp4"))
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(Path(clip("h264.mkv")).read_bytes()[: Path(clip("h264.mkv")).stat().st_size // 2])
    out = tmp_path / "out"
    ran = fedn("detect", good, tmp_path, tmp_path / "gone.mp4", "--model", checkpoint, "-o", out, "--format", "csv")
    assert ran.exit_code == 2 and "2 of 5 done" in ran.stdout and "damaged" not in ran.stderr
    assert ran.stdout.count("No face was found in what was read") == 2
    assert "The file is damaged: what comes after 0:00:0" in ran.stdout
    for words in ("3 of 5 failed", "bad.mp4: not a read", "empty.mp4: the file is empty", "gone.mp4: no such file"):
        assert words in ran.stderr
    # A table has no place for where it comes from, and no file that holds everything was asked for.
    names = {Path(name).name for name in files_in(out)}
    assert names == {"h264.csv", "h264.provenance.json", "cut.csv", "cut.provenance.json"}


def test_a_fault_of_ours_costs_one_file(checkpoint, clip, tmp_path, monkeypatch):
    from fedn_hf import FednDetections

    describe, seen = FednDetections.describe, []

    def fails_once(self, **settings):
        seen.append(self)
        if len(seen) == 1:
            raise RuntimeError("a fault\nof ours")
        return describe(self, **settings)

    monkeypatch.setattr(FednDetections, "describe", fails_once)
    ran = fedn("detect", clip("h264.mp4"), clip("mjpeg.avi"), "--model", checkpoint, "--end", "0.5")
    assert ran.exit_code == 2 and "h264.mp4: unexpected RuntimeError: a fault of ours\n" in ran.stderr
    assert "1 of 2 done." in ran.stdout


def test_results_that_cannot_be_written(checkpoint, clip, tmp_path):
    (tmp_path / "h264.json").mkdir()
    (tmp_path / "h264.json" / "precious").touch()
    ran = fedn("detect", clip("h264.mp4"), "--model", checkpoint, "--end", "0.5", "-o", tmp_path, "--format", "json")
    assert ran.exit_code == 2 and "h264.json cannot be written" in ran.stderr
    assert files_in(tmp_path) == ["h264.json/precious"]


def test_skip_existing(checkpoint, clip, tmp_path):
    first = ("detect", clip("h264.mp4"), "--model", checkpoint, "--end", "0.5", "-o", tmp_path)
    assert fedn(*first).exit_code == 0
    (tmp_path / "h264.json").write_text("mine")
    ran = fedn(*first, "--skip-existing")
    assert ran.exit_code == 0 and "skipped" in ran.stdout and (tmp_path / "h264.json").read_text() == "mine"
    (tmp_path / "h264.csv").unlink()
    assert fedn(*first, "--skip-existing").exit_code == 2  # what is mine is not replaced either
    assert fedn(*first, "--skip-existing", "--overwrite").exit_code == 0
    assert json.loads((tmp_path / "h264.json").read_text())["intervals"] == []


def test_results_of_another_video_are_not_lost(checkpoint, clip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for subject, source in (("P1", "h264.mp4"), ("P2", "mpeg2.mpg")):
        (tmp_path / subject).mkdir()
        (tmp_path / subject / "a.mp4").write_bytes(Path(clip(source)).read_bytes())
    options = ["--model", checkpoint, "--end", "0.5", "-o", "out"]
    assert fedn("detect", "P1/a.mp4", *options, "--save-raw").exit_code == 0
    first = (tmp_path / "out" / "a.json").read_bytes()
    for more in ([], ["--skip-existing"]):
        ran = fedn("detect", "P2/a.mp4", *options, *more)
        assert ran.exit_code == 2 and f"a.json holds the results of {tmp_path / 'P1' / 'a.mp4'}" in ran.stderr
    assert (tmp_path / "out" / "a.json").read_bytes() == first
    assert fedn("detect", tmp_path / "P1" / "a.mp4", *options).exit_code == 0
    assert fedn("postprocess", "out", "-o", "out").exit_code == 0
    # From inside the folders both are called a.mp4.
    options = ["--model", checkpoint, "--end", "0.5", "--save-raw", "--format", "csv", "-o", "../raw"]
    for subject, code in (("P1", 0), ("P2", 2), ("P1", 0)):
        monkeypatch.chdir(tmp_path / subject)
        assert fedn("detect", "a.mp4", *options).exit_code == code
    monkeypatch.chdir(tmp_path / "P2")
    ran = fedn("detect", "a.mp4", "--model", checkpoint, "--end", "0.5", "-o", "../out")
    assert ran.exit_code == 2 and "a.json holds the results of" in ran.stderr
    assert json.loads((tmp_path / "out" / "a.json").read_text())["video"]["codec"] == "h264"


def test_a_face_of_a_rank_that_is_not_there(checkpoint, short):
    ran = fedn("detect", short, "--faces", "2", "--model", checkpoint)
    assert ran.exit_code == 0 and "No face of rank 2 was found" in ran.stdout and "--faces all follows" in ran.stdout


def test_nothing_between_start_and_end(checkpoint, short):
    ran = fedn("detect", short, "--start", "1:00:00", "--model", checkpoint)
    assert ran.exit_code == 2 and "no frames between" in ran.stderr and "; it lasts 0" in ran.stderr


def test_raw_files_that_are_none(checkpoint, tmp_path):
    (tmp_path / "x.raw.safetensors").write_text("no")
    ran = fedn("postprocess", tmp_path, checkpoint / "model.safetensors")
    assert ran.exit_code == 2 and "2 of 2 failed" in ran.stderr


def test_names_that_the_terminal_cannot_print(tmp_path, clip):
    name = os.fsdecode("gr\xfcn.mp4".encode("latin-1"))
    (tmp_path / name).write_bytes(Path(clip("h264.mp4")).read_bytes())
    ran = subprocess.run([*COMMAND, "detect", str(tmp_path)], capture_output=True, env=ENVIRONMENT)
    assert ran.returncode == 0 and b"gr\\udcfcn.mp4: 64 x 48" in ran.stdout


# --- interrupted --------------------------------------------------------------------------------------------------


def test_ctrl_c_keeps_what_is_done(checkpoint, short, tmp_path):
    for number in range(30):
        (tmp_path / f"v{number}.mp4").write_bytes(short.read_bytes())
    out = tmp_path / "out"
    process = subprocess.Popen(
        [*COMMAND, "detect", str(tmp_path), "--model", str(checkpoint), "-o", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
        text=True,
        # A test run in the background of a shell would hand down a SIGINT that is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    # A video counts when all of its files are written: when those of the third begin, two are done.
    deadline = time.monotonic() + 300
    while not (out / "v2.csv").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, stderr
    done = len(re.findall(r"/v\d+\.mp4:", stdout))
    assert f"interrupted: {done} of 30 done; results are in {out}" in stderr and "Traceback" not in stderr
    assert 2 <= done < 30
    assert not list(out.rglob("*.partial"))
    for path in out.glob("*.json"):
        assert json.loads(path.read_text(encoding="utf-8"))["schema"] == 1


# --- what the arguments mean --------------------------------------------------------------------------------------


def test_globs_folders_and_files_mean_each_video_once(recordings, monkeypatch):
    monkeypatch.chdir(recordings)
    names = [item.name for item in find_videos(["P */*.mp4", "P 10", "P 2/sitzung ü.mp4"], allow_url=False)]
    assert names == ["P 2/sitzung ü", "P 10/sitzung ü"]
    assert [item.name for item in find_videos(["P 2/*.mov"], allow_url=False)] == ["sitzung ü"]
    # Where a folder is asked for, its results lie alike however few videos it holds today.
    assert [item.name for item in find_videos(["."], allow_url=False)][-1] == "P 10/sitzung ü"


def test_addresses_have_names_too():
    items = find_videos(["https://example.com/a/b.mp4?x=1", "https://example.com/c/b.mp4"], allow_url=True)
    assert [item.name for item in items] == ["b.mp4", "b.mp4-2"]


def test_files_with_brackets_are_no_globs(tmp_path, clip):
    path = tmp_path / "take [1].mp4"
    path.write_bytes(Path(clip("h264.mp4")).read_bytes())
    ran = fedn("detect", path)
    assert ran.exit_code == 0 and "take [1].mp4: 64 x 48" in ran.stdout


def test_a_folder_of_images_is_one_video(checkpoint, astronaut, tmp_path):
    from PIL import Image

    folder = tmp_path / "pictures.2"
    folder.mkdir()
    for number in range(12):
        Image.fromarray(np.ascontiguousarray(astronaut.numpy())).save(folder / f"img{number}.jpg")
    ran = fedn("detect", folder, "--model", checkpoint)
    assert ran.exit_code == 1 and "give their frames per second with --fps" in ran.stderr
    ran = fedn("detect", folder, "--fps", "200", "--model", checkpoint, "-o", tmp_path / "out", *LOW)
    assert ran.exit_code == 0, ran.stderr
    assert files_in(tmp_path / "out") == ["pictures.2.csv", "pictures.2.json"]
    assert json.loads((tmp_path / "out" / "pictures.2.json").read_text())["video"]["fps"] == 200


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0:00:00.000"), (59.9996, "0:01:00.000"), (7384.5, "2:03:04.500"), (36000, "10:00:00.000")],
)
def test_clock(seconds, shown):
    assert clock(seconds) == shown


# --- doctor, push and pull ----------------------------------------------------------------------------------------


def test_doctor():
    ran = fedn_process("doctor")
    assert "All is well." in ran.stdout and "FAILED" not in ran.stdout
    for words in ("found in all 150 frames", "h264", "fedn_hf default", 'pip install "fedn_hf[archive]"'):
        assert words in ran.stdout


def test_doctor_says_what_is_broken(monkeypatch, tmp_path):
    room = sys.modules["fedn_hf.cli.doctor"]  # by attribute it is the command of that name
    monkeypatch.setattr(room, "DEMO", tmp_path / "gone.mp4")
    monkeypatch.setattr(room, "CODECS", ("h264", "cinepak9"))
    ran = fedn("doctor")
    assert ran.exit_code == 2 and "4 FAILED." in ran.stdout and "cannot decode cinepak9" in ran.stdout


def test_push_and_pull(monkeypatch, tmp_path):
    asked = []
    push = lambda *given, **more: asked.append((given, more)) or "https://hub/commit"  # noqa: E731
    pull = lambda *given, **more: asked.append((given, more)) or tmp_path  # noqa: E731
    monkeypatch.setattr(fedn_hf.hub, "push_to_hub", push, raising=False)
    monkeypatch.setattr(fedn_hf.hub, "pull_from_hub", pull, raising=False)
    assert fedn("push", "folder", "me/model", "--private", "--token", "t").stdout == "https://hub/commit\n"
    assert asked[0] == ((Path("folder"), "me/model"), {"private": True, "token": "t", "revision": None})
    assert fedn("pull", "me/model", "-o", "here", "--revision", "v1").stdout == f"{tmp_path}\n"
    assert asked[1] == (("me/model",), {"revision": "v1", "token": None, "folder": Path("here")})


def test_to_the_hub_and_back(hub, checkpoint, short, tmp_path):
    """The commands as processes, on a Hub of our own; where nobody looks they draw no bars."""
    environment = {name: value for name, value in ENVIRONMENT.items() if not name.startswith("HF_")}
    environment |= hub.environment(tmp_path / "home")

    def run(*arguments):
        command = [*COMMAND, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)

    pushed = run("push", checkpoint, "user/detector", "--private")
    assert (pushed.returncode, pushed.stderr) == (0, "")
    assert pushed.stdout.strip().endswith(hub.repos["user/detector"].at().sha) and hub.repos["user/detector"].private
    pulled = run("pull", "user/detector", "-o", "here")
    assert (pulled.returncode, pulled.stdout, pulled.stderr) == (0, "here\n", "")
    for path in checkpoint.iterdir():
        assert (tmp_path / "here" / path.name).read_bytes() == path.read_bytes()
    detected = run("detect", short, "--model", "user/detector", *LOW)
    assert (detected.returncode, detected.stderr) == (0, "")
    assert detected.stdout == fedn("detect", short, "--model", checkpoint, *LOW).stdout


@pytest.mark.parametrize(("error", "code"), [(CheckpointError("f", "is empty"), 1), (FednError("f: is empty"), 2)])
def test_push_says_what_went_wrong(error, code, monkeypatch):
    def push(*given, **more):
        raise error

    monkeypatch.setattr(fedn_hf.hub, "push_to_hub", push, raising=False)
    ran = fedn("push", "folder", "me/model")
    assert (ran.exit_code, ran.stderr) == (code, "error: f: is empty\n")
