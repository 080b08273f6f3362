"""Nothing leaves the machine, no frame is left on the disk: the commands, with every connection and file counted."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from tests import corpora, training_sets
from tests.test_training_cli import write as write_corpus
from tests.test_training_loso import MODEL

ROOT = Path(__file__).resolve().parents[1]
MEDIA = ROOT / "examples" / "media"
# Runs commands in one process whose connections and files are counted by Python itself, whoever makes them.
COMMANDS = """
import json, os, sys
from pathlib import Path

out, clip, truth, corpora = map(Path, sys.argv[1:])
seen = {"connections": [], "written": []}
ASKS = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.bind"}
ASKS |= {"urllib.Request", "http.client.connect", "smtplib.connect", "ftplib.connect"}

def note(event, arguments):
    if event in ASKS:
        seen["connections"].append(f"{event} {arguments[1:]!r}")
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        if (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            seen["written"].append(os.path.abspath(os.fsdecode(arguments[0])))

sys.addaudithook(note)
from typer.testing import CliRunner
from fedn_hf.cli import app

corpus = ["--config", corpora / "recipe.yaml", "--corpus", "folder_csv", "--fps", "30"]
corpus += ["--features", corpora / "features.npz", "--sheets", corpora / "sheets"]
done = []
for words in (
    ["detect", clip, "--end", "1", "-o", out / "found", "--save-raw", "--format", "json,csv,eaf"],
    ["postprocess", out / "found" / "synthetic.raw.safetensors", "-o", out / "again", "--score-threshold", "0.01"],
    ["export", out / "again" / "synthetic.json", "-o", out / "synthetic.TextGrid"],
    ["render", clip, out / "again" / "synthetic.json", "-o", out / "hidden.mp4", "--blur"],
    ["report", out / "again" / "synthetic.json", "-o", out / "report.html"],
    ["evaluate", out / "again" / "synthetic.json", truth, "--fps", "30"],
    ["cache", "info"],
    ["doctor"],
    ["prepare", "folder_csv", corpora / "videos", out / "converted", "--fps", "25"],
    ["train", *corpus, "-o", out / "run"],
    ["loso", *corpus, "-o", out / "folds"],
    ["train", "--config", corpora / "landmarks.yaml", "--videos", out / "converted", "-o", out / "none"],
):
    result = CliRunner().invoke(app, [str(word) for word in words])
    done.append([words[0], result.exit_code, result.output[-500:]])
print(json.dumps({**seen, "done": done}))
"""


def write_corpora(folder):
    """One of features, and one of videos in which there is no face, each with a recipe."""
    (folder / "videos").mkdir(parents=True)
    corpora.folder_csv(folder / "videos")
    write_corpus(folder, training_sets.rows())
    training = {**training_sets.QUICK, "learning_rate": 0.01}
    landmarks = {**MODEL, "backbone_config": None, "feature_size": 0, "num_landmarks": 468}
    for name, model in (("recipe", MODEL), ("landmarks", landmarks)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"model": model, "training": training}))


def test_commands_ask_nobody_and_leave_no_frames(tmp_path):
    places = {name: tmp_path / name for name in ("HOME", "TMPDIR", "out")}
    for place in places.values():
        place.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "FEDN_", "XDG_"))}
    environment = kept | {name: str(places[name]) for name in ("HOME", "TMPDIR")} | {"PYTHONDONTWRITEBYTECODE": "1"}
    write_corpora(tmp_path / "corpora")
    media = [MEDIA / "synthetic.mp4", MEDIA / "synthetic.csv", tmp_path / "corpora"]
    command = [sys.executable, "-c", COMMANDS, places["out"], *media]
    if os.name == "posix" and subprocess.run([shutil.which("unshare") or "false", "-n", "true"]).returncode == 0:
        command = ["unshare", "-n", *command]  # where it may be, also without any network for what Python does not see
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr[-3000:]
    told = json.loads(run.stdout.splitlines()[-1])
    codes = [code for _, code, _ in told["done"]]
    assert codes == [0] * (len(codes) - 1) + [2] and "without a face: 2" in told["done"][-1][2], told["done"]
    assert told["connections"] == []
    strange = [
        path for path in told["written"] if not (path.startswith("/dev/") or Path(path).is_relative_to(tmp_path))
    ]
    assert strange == []
    # Python tries once whether it can write temporary files, and matplotlib keeps a list of fonts. Training keeps
    # landmarks, and `datasets` a table of what is in the corpus.
    left = [path for name in ("HOME", "TMPDIR") for path in places[name].rglob("*") if path.is_file()]
    cached = [path for path in left if {"fedn_hf", "datasets"} & set(path.parts)]
    assert [path for path in left if path not in cached and not path.name.startswith("fontlist")] == []
    assert cached and all(path.stat().st_size < 50_000 for path in cached)
    temporary = [path for path in told["written"] if Path(path).is_relative_to(places["TMPDIR"])]
    assert len(temporary) <= 1, temporary
    # Pictures of faces are where they were asked for: in the copy that hides them, and in the report.
    written = [path.relative_to(places["out"]) for path in places["out"].rglob("*") if path.is_file()]
    trained = ("converted", "run", "folds", "none")
    written = sorted(path.as_posix() for path in written if path.parts[0] not in trained)
    names = ["synthetic.csv", "synthetic.eaf", "synthetic.json", "synthetic.raw.safetensors"]
    again = ["again/synthetic.csv", "again/synthetic.json"]
    more = ["hidden.mp4", "report.html", "synthetic.TextGrid", "synthetic.provenance.json"]
    more += [f"{folder}.fedn.sha256" for folder in ("", "found/", "again/")]  # what a command may replace later
    assert written == sorted([*(f"found/{name}" for name in names), *again, *more])
    for name in ("found/synthetic.json", "found/synthetic.raw.safetensors", "found/synthetic.eaf"):
        assert (places["out"] / name).stat().st_size < 20_000  # one second of numbers, and no picture
    assert "array(" not in run.stderr and "tensor(" not in run.stderr
