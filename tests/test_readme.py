"""What README says works: its Python and its commands are run, in their order, where its files are as it names them;
and then those of the pages that say more.

Python is every fenced block; commands are the indented lines, and what stands in backticks and begins with fedn, make,
python or pip. They run in a folder of a user who has one short recording and its coding. A command that is neither run
nor in `NOT_RUN` fails the test; what is said around them may change freely.
"""

import ast
import contextlib
import io
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from fedn_hf.cli import app
from fedn_hf.synthetic.face_model import FaceModel
from tests import corpora
from tests.hub_server import HubServer
from tests.results import coded_in_elan, ending
from tests.test_examples import as_transport_stream
from tests.test_finetune import corpus  # noqa: F401  a fixture

# The client uploads in a way that its own HTTP library calls outdated.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

ROOT = Path(__file__).resolve().parents[1]
PAGES = (
    "README.md",
    "dataset_scripts/README.md",
    "fedn_hf/synthetic/README.md",
    "docs/files.md",
    "docs/beside_others.md",
    "docs/one_or_two.md",
    "docs/steady_crops.md",
    "docs/network.md",
)
README = "\n\n".join((ROOT / page).read_text(encoding="utf-8") for page in PAGES)
PROGRAMS = ("fedn", "make", "python", "pip")
# How a command begins -> why it is not run here.
NOT_RUN = {
    "make ": "installs, tests or trains; that there is such a target is looked up",
    "pip install ": "installs; that there is such an extra is looked up",
    "python examples/benchmarks/": "minutes to hours, and licensed corpora; that there is such a script is looked up",
    "python examples/make_pictures.py": "draws examples/media anew; tests/test_pictures.py tests what draws",
    "python -m dataset_scripts.push": "the tests' Hub has no datasets; tests/test_convert.py",
    "fedn synth face-model": "needs the public face model; tests/test_synthetic_scene.py",
    "fedn archive": "a process for each core; tests/test_archive.py",
    "fedn train": "takes a corpus, and long; tests/test_training_cli.py",
    "fedn loso": "takes a corpus, and long; tests/test_training_cli.py",
    "fedn app": "serves until it is stopped; tests/test_app_page.py",
}
# What would take long is made small: README's words -> those that are run.
SMALLER = {
    "--subjects 40 --seconds 60 --workers 2": "--subjects 3 --videos-per-subject 1 --seconds 2 --size 64",
    "finetune_and_push.py corpus": "finetune_and_push.py corpus --epochs 1",
}


def inline(text):
    """What stands in backticks."""
    return [" ".join(words.split()) for words in re.findall(r"(?<!`)`([^`]+)`(?!`)", text)]


def commands(text):
    """("python" or "shell", what is to be run), as they follow each other."""
    found = []
    for part in re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL):
        if part.startswith("```"):
            language, _, code = part.removesuffix("```").partition("\n")
            found.append((language.removeprefix("```"), code))
            continue
        for paragraph in re.split(r"(^    \S.*$)", part, flags=re.MULTILINE):
            if paragraph.startswith("    "):
                found.append(("shell", paragraph.strip()))
            else:
                words = [one for one in inline(paragraph) if one.removeprefix("... | ").split()[0] in PROGRAMS]
                found += [("shell", one) for one in words]
    return found


# --- Python, with what comments say of values ------------------------------------------------------------------------


def check_comment(value, comment):
    """
    Hold a value against the comment behind it, where that says something: {"name": ...} the first keys of a dict and
    kinds of values, (N, 112, 112, 3) uint8 a shape and type.
    """
    if comment.startswith("{"):
        said = ast.literal_eval(re.sub(r",?\s*\.\.\.\s*\}", "}", comment))
        given = {name: value[name] for name in list(value)[: len(said)]}
        assert list(given) == list(said) and [*map(type, given.values())] == [*map(type, said.values())]
    elif shape := re.match(r"\(([\w, ]+)\) (\w+)$", comment):
        sizes = [part.strip() for part in shape[1].split(",")]
        assert str(value.dtype).removeprefix("torch.") == shape[2] and len(value.shape) == len(sizes)
        fixed = [(size, int(said)) for size, said in zip(value.shape, sizes, strict=True) if said.isdecimal()]
        assert all(size == said for size, said in fixed)
    else:
        return
    check_comment.done.add(comment)


class _Checked(ast.NodeTransformer):
    """Every statement that is only a value, and has a comment, is checked as well."""

    def __init__(self, code):
        tokens = tokenize.generate_tokens(io.StringIO(code).readline)
        self.comments = {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}

    def visit_Expr(self, node):
        if comment := self.comments.get(node.end_lineno):
            called = ast.Name("check_comment", ast.Load())
            node.value = ast.copy_location(ast.Call(called, [node.value, ast.Constant(comment)], []), node.value)
        return node


def run_python(code, names):
    exec(compile(ast.fix_missing_locations(_Checked(code).visit(ast.parse(code))), "README.md", "exec"), names)


# --- commands ----------------------------------------------------------------------------------------------------


def is_mention(words):
    """A command by its name, perhaps with an option: `fedn render --blur`; it is looked up, and there to be found."""
    command, rest = typer.main.get_command(app), words[1:]
    while rest and rest[0] in getattr(command, "commands", {}):
        command = command.commands[rest.pop(0)]
    required = [one for one in command.params if one.required]
    if not (rest or required or getattr(command, "commands", {})) or any(word[0] != "-" for word in rest):
        return False
    known = {name for one in command.params for name in one.opts} | {"--help"}
    assert set(rest) <= known, f"no such option: {set(rest) - known}"
    return bool(required or not rest or "--help" in rest)


def look_up(words):
    """Of what is not run: whether there is such a target, extra, script or command."""
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    elif words[0] == "pip":
        extra = re.fullmatch(r"fedn_hf\[(\w+)\]", words[2])[1]
        assert re.search(rf"^{extra} =$", (ROOT / "setup.cfg").read_text(), re.MULTILINE)
    elif words[:2] == ["python", "-m"]:
        assert (ROOT / f"{words[2].replace('.', '/')}.py").exists()
    elif words[0] == "python":
        assert (ROOT / words[1]).exists()
    else:
        assert words[1] in typer.main.get_command(app).commands


def run_shell(command, monkeypatch):
    is_piped, command = command.startswith("... | "), command.removeprefix("... | ")
    words = shlex.split(command, comments=True)
    if any(command.startswith(start) for start in NOT_RUN):
        return look_up(words)
    for theirs, ours in SMALLER.items():
        command = command.replace(theirs, ours)
    words = shlex.split(command, comments=True)
    if words[0] == "python":
        script = str(ROOT / words[1])
        monkeypatch.setattr(sys, "argv", [script, *words[2:]])
        runpy.run_path(script, run_name="__main__")
    elif is_piped:  # through a pipe, and by the command as it is installed
        fedn = [str(Path(sys.executable).with_name("fedn")), *words[1:]]
        ran = subprocess.run(fedn, input=as_transport_stream("talk.mkv"), capture_output=True)
        assert ran.returncode == 0, ran.stderr.decode()
    elif not is_mention(words):
        ran = CliRunner().invoke(app, words[1:])
        assert ran.exit_code == 0, ran.output or repr(ran.exception)
    return None


@pytest.fixture
def place(tmp_path, corpus, hub, monkeypatch):  # noqa: F811
    """A folder with the files that README names, and a Hub on which the user is called "name"."""
    monkeypatch.chdir(tmp_path)
    for variable, folder in (("FEDN_CACHE", "cache"), ("HF_DATASETS_CACHE", "datasets")):
        monkeypatch.setenv(variable, str(tmp_path / f".{folder}"))
    monkeypatch.setenv("HF_TOKEN", HubServer.token)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    hub.names[HubServer.token] = "name"
    marked = ending(Path("interview.mp4"), seconds=4.0)
    marked.write("coded.csv")
    codes = {"anger": "ANG", "surprise": "SUR", "others": "OTH"}
    coded_in_elan(Path("coder.eaf"), marked, codes)
    tiers = "tiers: {Macro: {type: macro}, Micro: {type: micro}}\n"
    Path("codes.yaml").write_text(f"{tiers}codes: {{ANG: anger, SUR: surprise, OTH: others}}\n")
    Path("recordings").mkdir()
    for name in ("clip.mp4", "talk.mkv", "VIDEO", "recordings/interview.mp4"):
        shutil.copy("interview.mp4", name)
    for name in ("found.csv", "marked.csv", "coder1.csv", "coder2.csv"):
        score = ",score\n1,a,0,9,macro,0.9\n" if name == "found.csv" else "\n1,a,1,9,macro\n2,b,0,9,micro\n"
        Path(name).write_text(f"subject,video,onset,offset,type{score}")
    corpora.casme_2(Path("CASME_sq"))
    shutil.copytree(corpus, "corpus")
    FaceModel.tiny().save(Path("face_model.npz"))
    return tmp_path


def test_everything_in_it_works(place, monkeypatch):
    found = commands(README)
    assert len(found) > 30 and {kind for kind, _ in found} == {"python", "shell"}
    # What README takes for granted.
    names = {"check_comment": check_comment, "pixel_values": torch.zeros(64, 3, 112, 112)}
    check_comment.done = set()
    failed = []
    for kind, text in found:
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                run_python(text, names) if kind == "python" else run_shell(text, monkeypatch)
        except (Exception, SystemExit) as error:
            failed.append(f"{text}\n    {type(error).__name__}: {error}")
    assert not failed, "\n".join(failed)
    assert any(comment.startswith("{") for comment in check_comment.done), "an event as README shows it was not found"


@pytest.mark.parametrize("page", PAGES)
def test_its_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", (ROOT / page).read_text(encoding="utf-8"))
    places = [(ROOT / page).parent / link.partition("#")[0] for link in links if "://" not in link]
    assert [place for place in places if not place.exists()] == []


def test_what_is_wrong_in_it_is_noticed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = "Use `fedn render --blurr`, or\n\n    fedn exprot a.json -o b.eaf   # as you like\n\n"
    text += "or `python\nexamples/gone.py`.\n\n"
    text += "```python\nvalue = dict(label='joy')\nvalue  # {\"score\": 0.93, ...}\n```\n"
    wrong = commands(text)
    assert [kind for kind, _ in wrong] == ["shell", "shell", "shell", "python"]
    for kind, one in wrong:
        with pytest.raises((AssertionError, FileNotFoundError)):
            run_python(one, {"check_comment": check_comment}) if kind == "python" else run_shell(one, monkeypatch)
