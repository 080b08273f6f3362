"""Nothing leaves the machine, no frame is left on the disk: all commands, with every connection and file counted."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import typer
import yaml

from fedn_hf.cli import app
from tests import corpora, training_sets
from tests.test_hub import checkpoint
from tests.test_training_cli import write as write_corpus
from tests.test_training_loso import MODEL

ROOT = Path(__file__).resolve().parents[1]
MEDIA = ROOT / "examples" / "media"
# Every Python process imports this when it begins, also workers and sandboxes. What it does is told by Python itself,
# whoever makes it do so.
HOOK = """
import json, os, sys

log = os.open(os.environ["SEEN"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
ASKS = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg"}
ASKS |= {"socket.bind", "urllib.Request", "http.client.connect", "smtplib.connect", "ftplib.connect"}

def tell(kind, what):
    os.write(log, json.dumps([os.getpid(), kind, what]).encode() + b"\\n")

def note(event, arguments):
    if event in ASKS:
        tell(event, repr([one for one in arguments if isinstance(one, (str, bytes, int, tuple))]))
    elif event == "open" and isinstance(arguments[0], (str, bytes)):
        if (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            tell("written", os.path.abspath(os.fsdecode(arguments[0])))

tell("begins", sys.argv)
sys.addaudithook(note)
"""
# Runs commands one after the other. With "alone" as its last word it has no network but a loopback of its own, and the
# kernel counts what Python does not see: packets that would have gone elsewhere.
COMMANDS = """
import json, os, socket, struct, subprocess, sys
from pathlib import Path

import sitecustomize

def packets():
    lines = [line.split() for line in Path("/proc/self/net/snmp").read_text().splitlines()]
    counts = {a[0] + name: int(n) for a, b in zip(lines[::2], lines[1::2]) for name, n in zip(a[1:], b[1:])}
    return counts["Ip:OutNoRoutes"] + counts["Udp:OutDatagrams"]

if alone := sys.argv[2:] == ["alone"]:
    import fcntl

    with socket.socket() as one:
        fcntl.ioctl(one, 0x8914, struct.pack("16sH14x", b"lo", 0x41))  # the loopback up
from tests.hub_server import HubServer
from tests.app_visitor import visit

lines, done = json.loads(Path(sys.argv[1]).read_text()), []
with HubServer() as hub:
    os.environ |= hub.environment(Path.home() / "hub")
    from typer.testing import CliRunner
    from fedn_hf.cli import app

    for words in lines:
        sitecustomize.tell("command", words)
        if words[0] == "app":
            code = "import sys; from fedn_hf.cli import main; main()"
            process = subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE, text=True)
            try:
                said = visit(process.stdout.readline().split()[0], words[1])
            finally:
                process.terminate()
            done.append([words, process.wait(), said])
            continue
        result = CliRunner().invoke(app, words)
        done.append([words, result.exit_code, result.output[-500:]])
    sitecustomize.tell("command", ["the test"])
    sent = {repo: {name: blob.sha256 for name, blob in known.at().files.items()} for repo, known in hub.repos.items()}
    told = {"done": done, "port": hub.port, "sent": sent, "asked": sorted(hub.requests)}
    if alone:
        told["packets"] = [packets()]
        with socket.socket() as one:
            one.connect_ex(("192.0.2.1", 80))
        told["packets"].append(packets())
print(json.dumps(told))
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


def lines_of(out, given):
    """Command lines, each with the exit code that it should have."""
    clip, truth, again = MEDIA / "synthetic.mp4", MEDIA / "synthetic.csv", out / "again" / "synthetic.json"
    lowest = ["--score-threshold", "0.01"]
    corpus = ["--config", given / "recipe.yaml", "--corpus", "folder_csv", "--fps", "30"]
    corpus += ["--features", given / "features.npz", "--sheets", given / "sheets"]
    videos = ["--config", given / "landmarks.yaml", "--videos", out / "converted"]
    return [
        (["detect", clip, "--end", "1", "-o", out / "found", "--save-raw", "--format", "json,csv,eaf"], 0),
        (["postprocess", out / "found" / "synthetic.raw.safetensors", "-o", again.parent, *lowest], 0),
        (["export", again, "-o", out / "synthetic.TextGrid"], 0),
        (["render", clip, again, "-o", out / "hidden.mp4", "--blur"], 0),
        (["report", again, "-o", out / "report.html"], 0),
        (["evaluate", again, truth, "--fps", "30"], 0),
        (["agreement", again, truth, "--fps", "30"], 0),
        (["benchmark", given / "short.mp4", "-o", out / "speed.json"], 0),
        (["doctor"], 0),
        (["prepare", "folder_csv", given / "videos", out / "converted", "--fps", "25"], 0),
        (["train", *corpus, "-o", out / "run"], 0),
        (["loso", *corpus, "-o", out / "folds"], 0),
        (["train", *videos, "-o", out / "none"], 2),  # no face in any of them
        (["cache", "info"], 0),
        (["cache", "clear"], 0),
        (["archive", "run", given / "short.mp4", "--workers", "1", "-o", out / "archive"], 0),
        (["archive", "status", out / "archive"], 0),
        (["archive", "merge", out / "archive", "-o", out / "merged"], 0),
        (["app", given / "short.mp4", "--no-browser"], 130),
        (["push", given / "checkpoint", "user/mine"], 0),
        (["pull", "user/mine", "-o", out / "pulled"], 0),
        (["synth", "face-model", given, "-o", out / "head.npz"], 2),  # no copy of the public one is there
    ]  # fmt: skip


def all_commands(group=None, name=""):
    """As they are typed; of a group each of its commands, and the group itself where it does something alone."""
    group = group or typer.main.get_command(app)
    if not hasattr(group, "commands"):
        return {name}
    inside = set().union(*(all_commands(one, f"{name} {word}".strip()) for word, one in group.commands.items()))
    return inside | ({name} if name and group.invoke_without_command else set())


def run(lines, folder):
    """Run command lines, all of which end as they should; gives what was told of each, and what the runner says."""
    places = {name: folder / name for name in ("HOME", "TMPDIR", "hook")}
    for place in places.values():
        place.mkdir()
    (places["hook"] / "sitecustomize.py").write_text(HOOK)
    (folder / "lines.json").write_text(json.dumps([list(map(str, words)) for words, _ in lines]))
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("HF_", "FEDN_", "XDG_", "GRADIO"))
    }
    environment = kept | {name: str(places[name]) for name in ("HOME", "TMPDIR")} | {"PYTHONDONTWRITEBYTECODE": "1"}
    environment |= {"SEEN": str(folder / "seen"), "PYTHONPATH": f"{places['hook']}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-c", COMMANDS, folder / "lines.json"]
    if sys.platform == "linux" and subprocess.run([shutil.which("unshare") or "false", "-n", "true"]).returncode == 0:
        command = ["unshare", "-n", *command, "alone"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, process_group=0, **pipes)
    try:
        said, errors = process.communicate(timeout=3600)
    finally:
        with suppress(ProcessLookupError):  # the page, too, if something went wrong
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, errors[-3000:]
    told = json.loads(said.splitlines()[-1])
    assert [code for _, code, _ in told["done"]] == [code for _, code in lines], told["done"]
    if "packets" in told:  # the last one is that of a connection that the runner tries, to see that it is counted
        assert told["packets"] == [0, 1]
    assert "array(" not in errors and "tensor(" not in errors
    deeds, command = [], "the runner"
    for line in (folder / "seen").read_text().splitlines():
        process, kind, what = json.loads(line)
        command = " ".join(what) if kind == "command" else command
        deeds.append((command, process, kind, what))
    return deeds, told


def check(deeds, told, folder):
    """Who connected to whom, and where files were written."""
    asked = {
        (command.split()[0], what) for command, _, kind, what in deeds if kind not in ("begins", "command", "written")
    }
    # `push` and `pull` reach their Hub, here by two names, the page its visitor, both on this machine.
    for command, what in sorted(asked - {one for one in asked if one[0] in ("the", "runner")}):
        assert command in ("push", "pull", "app"), (command, what)
        assert "127.0.0.1" in what or "localhost" in what, (command, what)
        assert command == "app" or str(told["port"]) in what, (command, what)
    written = {what for _, _, kind, what in deeds if kind == "written"}
    strange = [path for path in written if not (path.startswith("/dev/") or Path(path).is_relative_to(folder))]
    assert [path for path in strange if "__pycache__" not in path] == []  # where numba keeps what it has compiled
    # Python tries once in each process whether it can write temporary files.
    probe = re.compile(re.escape(f"{folder / 'TMPDIR'}{os.sep}") + "[a-z0-9_]{8}")
    temporary = {
        (command.split()[0], what) for command, _, kind, what in deeds if kind == "written" and "TMPDIR" in what
    }
    assert [one for one in temporary if one[0] != "app" and not probe.fullmatch(one[1])] == []
    return {command for command, _ in asked}


@pytest.fixture
def given(tmp_path, short):
    """What commands are given to read."""
    folder = tmp_path / "given"
    write_corpora(folder)
    shutil.copy(short, folder / "short.mp4")
    (checkpoint(folder / "checkpoint") / "diary.txt").write_text("what nobody should read")
    return folder


def test_every_command_is_looked_at():
    words = {
        " ".join(map(str, line)) for line, _ in lines_of(Path("out"), Path("given")) + slow_lines(Path("out"), Path())
    }
    assert not [name for name in all_commands() if not any(f"{line} ".startswith(f"{name} ") for line in words)]
    assert {"archive merge", "synth", "synth face-model", "detect"} <= all_commands()


def test_commands_ask_nobody_and_leave_no_frames(given, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    deeds, told = run(lines_of(out, given), tmp_path)
    asked = check(deeds, told, tmp_path)
    assert {"push", "pull", "app"} <= asked  # what should be seen is seen
    # Also what the archive's worker, its sandbox, and that of the page do.
    for name, least in (("archive run", 3), ("app", 2)):
        assert len({process for command, process, _, _ in deeds if command.startswith(name)}) >= least
    # Nothing but the checkpoint goes up, and the page has found something in the video that it was asked about.
    sent = {path.name for path in (given / "checkpoint").iterdir()} - {"diary.txt"}
    assert told["sent"].keys() == {"user/mine"} and told["sent"]["user/mine"].keys() == sent | {".gitattributes"}
    assert not [kind for kind in told["asked"] if kind.startswith("/") or "telemetry" in kind]
    assert "without a face: 2" in next(output for words, _, output in told["done"] if words[-1].endswith("none"))
    check_files(out, tmp_path)


def check_files(out, folder):
    # Matplotlib keeps a list of fonts, training landmarks, `datasets` a table of what is in the corpus, and the Hub's
    # client what it has downloaded. What was sent to the page has gone.
    left = [path for name in ("HOME", "TMPDIR") for path in (folder / name).rglob("*") if path.is_file()]
    cached = [path for path in left if {"fedn_hf", "datasets", "hub"} & set(path.parts)]
    assert [path for path in left if path not in cached and not path.name.startswith("fontlist")] == []
    assert cached and all(path.stat().st_size < 50_000 for path in cached)
    # Pictures of faces are where they were asked for: in the copy that hides them, and in the report.
    names = [path.relative_to(out) for path in out.rglob("*") if path.is_file()]
    others = ("converted", "run", "folds", "none", "archive", "merged", "pulled")
    names = sorted(path.as_posix() for path in names if path.parts[0] not in others)
    found = [f"found/synthetic.{suffix}" for suffix in ("csv", "eaf", "json", "raw.safetensors")]
    again = ["again/synthetic.csv", "again/synthetic.json"]
    more = ["hidden.mp4", "report.html", "speed.json", "synthetic.TextGrid", "synthetic.provenance.json"]
    more += [f"{folder}.fedn.sha256" for folder in ("", "found/", "again/")]  # what a command may replace later
    assert names == sorted([*found, *again, *more])
    for name in found:
        assert (out / name).stat().st_size < 20_000  # one second of numbers, and no picture


def slow_lines(out, given):
    """Those that take long: synthetic faces are compiled before they are drawn."""
    order = ["--subjects", "1", "--videos-per-subject", "2", "--seconds", "2", "--size", "64", "--fps", "10"]
    return [(["synth", *order, "--workers", "2", "--face-model", given / "head.npz", "-o", out / "synthetic"], 0)]


@pytest.mark.slow
def test_synthetic_people_ask_nobody(tmp_path):
    pytest.importorskip("numba")
    from fedn_hf.synthetic.face_model import FaceModel

    FaceModel.tiny().save(tmp_path / "head.npz")
    deeds, told = run(slow_lines(tmp_path / "out", tmp_path), tmp_path)
    assert check(deeds, told, tmp_path) <= {"the", "runner"}
    assert len({process for command, process, _, _ in deeds if command.startswith("synth")}) >= 3
