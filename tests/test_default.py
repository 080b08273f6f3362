"""The detector that comes with the package: there without a network, a cache or a checkout, and called by its name.

Everything here holds for any weights, but for `test_what_is_found_in_the_bundled_clip`.
"""

import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
import transformers
from transformers import AutoConfig, AutoModelForObjectDetection, pipeline
from transformers.models.auto.video_processing_auto import AutoVideoProcessor
from typer.testing import CliRunner

import fedn_hf
from fedn_hf import FednConfig, FednForFacialExpressionDetection, check_checkpoint, default_checkpoint, load_pipeline
from fedn_hf.cli import app
from fedn_hf.face_nets_fedn import FACE_NETS
from fedn_hf.hub import pull_from_hub, push_to_hub
from fedn_hf.pipeline_fedn import TASK
from tests.hub_server import HubServer

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "fedn_hf" / "assets" / "demo.mp4"
NAME, VERSION = "fedn_hf default", fedn_hf.__version__
MOST_BYTES = 15 * 2**20


def found_by(detect, **settings):
    return detect(str(DEMO), end_s=1.0, score_threshold=0.0, **settings)


def same_weights(one, other) -> bool:
    weights = [network.state_dict() for network in (one, other)]
    return weights[0].keys() == weights[1].keys() and all(weights[0][k].equal(weights[1][k]) for k in weights[0])


# --- in this process ----------------------------------------------------------------------------------------------


def test_all_ways_to_it_lead_to_the_same_network():
    detect = load_pipeline()
    for other in (pipeline(TASK), load_pipeline(default_checkpoint()), pipeline(TASK, model=default_checkpoint())):
        assert type(other) is type(detect) and same_weights(other.model, detect.model)
        assert other.video_processor.to_dict() == detect.video_processor.to_dict()
    # Weights may be kept in half of the precision that a CPU computes in.
    assert detect.model.dtype == torch.float32 and not detect.model.training
    assert found_by(detect) == found_by(pipeline(TASK)) != []


def test_loading_it_says_nothing_and_leaves_the_user_his_settings(capsys, monkeypatch):
    theirs = transformers.utils.logging
    monkeypatch.setattr(theirs, "_tqdm_active", True)  # other tests, or the environment, may have put bars out
    said = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    monkeypatch.setattr(logging.getLogger("transformers"), "handlers", [handler])
    load_pipeline()
    assert capsys.readouterr().err == ""
    pipeline(TASK)
    assert not [words for words in said if "No model was supplied" in words]
    assert "Loading weights" in capsys.readouterr().err  # theirs is as it was
    logging.getLogger("transformers.pipelines").warning("No model was supplied, defaulted to another/one and ...")
    assert len(said) == 1


def test_it_is_a_folder_to_begin_from():
    folder = default_checkpoint()
    network = AutoModelForObjectDetection.from_pretrained(folder)
    assert type(network) is FednForFacialExpressionDetection
    assert same_weights(network, FednForFacialExpressionDetection.from_pretrained(folder))
    assert type(AutoConfig.from_pretrained(folder)) is FednConfig
    assert AutoVideoProcessor.from_pretrained(folder).face_nets == FACE_NETS, "they are not there twice"
    assert (folder / "README.md").read_text(encoding="utf-8").startswith("---\n")


def test_a_copy_is_a_whole_checkpoint_with_a_name_of_its_own(tmp_path):
    detect = load_pipeline()
    detect.save_pretrained(tmp_path / "mine")
    check_checkpoint(tmp_path / "mine")
    copy = load_pipeline(tmp_path / "mine")
    assert found_by(copy) == found_by(detect)
    assert found_by(copy, return_raw=True).provenance["model"] == str(tmp_path / "mine")


def test_results_name_it_and_no_place_on_this_machine(tmp_path):
    found = found_by(load_pipeline(), return_annotation=True)
    for path in (tmp_path / "a.json", tmp_path / "a.csv"):
        found.write(path)
    for path in (tmp_path / "a.json", tmp_path / "a.provenance.json"):
        facts = json.loads(path.read_text())["provenance"]
        assert (facts["model"], facts["revision"], facts["fedn_hf"]) == (NAME, VERSION, VERSION)
        assert str(default_checkpoint()) not in path.read_text()


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_pushed_it_is_complete(hub, tmp_path):
    """Code and face networks go along; without the package it runs on trust."""
    push_to_hub(default_checkpoint(), "user/default", token=HubServer.token)
    folder = pull_from_hub("user/default", folder=tmp_path / "pulled")
    assert (folder / "README.md").read_bytes() == (default_checkpoint() / "README.md").read_bytes()
    assert (folder / "face_nets.safetensors").read_bytes() == FACE_NETS.read_bytes()
    expected = found_by(load_pipeline())
    assert found_by(load_pipeline(folder)) == expected
    code = (
        "import json, sys\nfrom transformers import pipeline\n"
        f"detect = pipeline({TASK!r}, model='user/default', trust_remote_code=True)\n"
        "print(json.dumps(detect(sys.argv[1], end_s=1.0, score_threshold=0.0)))"
    )
    answer = json.loads(hub.run_python(code, str(DEMO), home=tmp_path / "home", with_package=False))
    assert len(answer) == len(expected)
    assert all(abs(one["score"] - other["score"]) < 1e-5 for one, other in zip(answer, expected, strict=True))


# --- the command line ---------------------------------------------------------------------------------------------


def fedn(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_detect_takes_it_and_says_so(tmp_path):
    ran = fedn("detect", DEMO, "--end", "1", "-o", tmp_path, "--save-raw")
    assert ran.exit_code == 0, ran.stderr
    assert ran.stdout.startswith(f"Detector: {NAME} {VERSION}, which comes with the package; --model takes another.\n")
    assert json.loads((tmp_path / "demo.json").read_text())["provenance"]["model"] == NAME
    ran = fedn("postprocess", tmp_path, "-o", tmp_path / "again", "--format", "csv")
    assert ran.exit_code == 0
    assert json.loads((tmp_path / "again" / "demo.provenance.json").read_text())["provenance"]["model"] == NAME
    ran = fedn("detect", DEMO, "--end", "1", "--model", default_checkpoint())
    assert ran.exit_code == 0 and "Detector" not in ran.stdout, "who names one knows which"


def test_a_revision_is_of_something_on_the_hub():
    ran = fedn("detect", DEMO, "--revision", "v1")
    assert ran.exit_code == 1 and "--revision goes with --model" in ran.stderr and not ran.stdout


# Found at least, and false alarms at most, of 5 marked expressions; another default may find others.
EXPECTED = (1, 0)


def test_what_is_found_in_the_bundled_clip():
    media = ROOT / "examples" / "media"
    ran = fedn("detect", media / "synthetic.mp4", "--truth", media / "synthetic.csv")
    assert ran.exit_code == 0, ran.stderr
    hits, alarms = map(int, re.search(r"(\d+) of 5 found, (\d+) false alarms?", ran.stdout).groups())
    assert hits >= EXPECTED[0] and alarms <= EXPECTED[1], ran.stdout


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize(("video", "truth"), [(None, " --truth examples/media/synthetic.csv"), ("my own.mp4", "")])
def test_make_detect_knows_the_truth_of_the_bundled_clip_only(video, truth):
    more = [] if video is None else [f"VIDEO={video}"]
    ran = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", "detect", *more],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    asked = ran.stdout.splitlines()[-1].rstrip()
    assert asked == f'.venv/bin/fedn detect "{video or "examples/media/synthetic.mp4"}"{truth}'


# --- from a wheel -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with the sources, and in it a wheel and a source distribution that were built from them."""
    folder = tmp_path_factory.mktemp("built")
    for name in ("fedn_hf", "dataset_scripts"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, folder)
    pip = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    sdist = [sys.executable, "-c", "from setuptools.build_meta import build_sdist; build_sdist('.')"]
    for command in (sdist, pip):
        ran = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
    return folder


@pytest.fixture
def installed(built, tmp_path):
    """The wheel, unpacked to where no checkout is near."""
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        wheel.extractall(tmp_path / "site")
    return tmp_path / "site"


def test_wheel_and_source_distribution_hold_it(built):
    """Within the size that a package may have, and without the face networks a second time."""
    names = {path.name for path in default_checkpoint().iterdir() if path.is_file()}
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        data = [file for file in wheel.infolist() if not file.filename.endswith(".py")]
        assert sum(file.file_size for file in data) <= MOST_BYTES
        held = {Path(file.filename).name for file in wheel.infolist() if "weights/default/" in file.filename}
        assert held == names
        assert sum(file.filename.endswith("face_nets.safetensors") for file in data) == 1
    with tarfile.open(next(built.glob("*.tar.gz"))) as sources:
        assert {Path(name).name for name in sources.getnames() if "weights/default/" in name} == names


# Notes every way to the network and every look into the Hub's cache, and forbids them.
WATCH = """
import json, os, sys
noted = []
def watch(event, values):
    is_call = event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")
    is_look = event in ("open", "os.listdir", "os.scandir", "os.mkdir")
    if is_call or (is_look and str(values[0]).startswith(os.environ["HF_HOME"])):
        noted.append(f"{event} {values}")
        raise OSError("not in this test")
sys.addaudithook(watch)
"""


def run_python(code, *arguments, site, home) -> str:
    """What a new process prints that finds the package in a folder, and no settings of the Hub's client."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    clean |= {"PYTHONPATH": str(site), "HF_HOME": str(home / "hf"), "HOME": str(home), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", WATCH + code, *map(str, arguments)]
    ran = subprocess.run(command, capture_output=True, text=True, env=clean, cwd=home, encoding="utf-8")
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


INSTALLED = """
import fedn_hf
from transformers import pipeline
from typer.testing import CliRunner
from fedn_hf.cli import app
ways = (fedn_hf.load_pipeline, lambda: pipeline("facial-expression-detection"))
found = [detect()(sys.argv[1], end_s=1.0, score_threshold=0.0) for detect in ways]
ran = CliRunner().invoke(app, ["detect", sys.argv[1], "--end", "1"])
print(json.dumps([fedn_hf.__file__, str(fedn_hf.default_checkpoint()), found, ran.exit_code, ran.stdout, noted]))
"""


def test_an_installed_package_has_it_without_a_network_or_a_cache(installed, tmp_path):
    answer = json.loads(run_python(INSTALLED, DEMO, site=installed, home=tmp_path).splitlines()[-1])
    package, folder, found, code, said, noted = answer
    assert package.startswith(str(installed)) and folder == str(installed / "fedn_hf" / "weights" / "default")
    assert noted == [] and not (tmp_path / "hf").exists()
    assert found[0] == found[1] == found_by(load_pipeline())
    assert code == 0 and said.startswith(f"Detector: {NAME} {VERSION}")


DAMAGED = """
import os, shutil
import fedn_hf
from transformers import pipeline
from typer.testing import CliRunner
from fedn_hf.cli import app
def ask():
    said = []
    for way in (fedn_hf.load_pipeline, lambda: pipeline("facial-expression-detection"), fedn_hf.default_checkpoint):
        try:
            way()
        except fedn_hf.CheckpointError as error:
            said.append(str(error))
    ran = CliRunner().invoke(app, ["detect", sys.argv[1]])
    return [said, ran.exit_code, ran.stdout, ran.stderr]
folder = fedn_hf.default_checkpoint()
os.unlink(folder / "model.safetensors")
asked = [ask()]
shutil.rmtree(folder)
asked.append(ask())
ran = CliRunner().invoke(app, ["doctor"])
print(json.dumps([asked, ran.exit_code, ran.stdout, noted]))
"""


def test_a_damaged_installation_says_what_to_do(installed, tmp_path):
    """In one line, before the video is looked at, and without asking the Hub for a model of that name."""
    answer = run_python(DAMAGED, DEMO, site=installed, home=tmp_path)
    asked, doctor_code, doctor, noted = json.loads(answer.splitlines()[-1])
    for (said, code, stdout, stderr), lost in zip(asked, ("model.safetensors", "config.json, video"), strict=True):
        assert len(said) == 3 and len(set(said)) == 1 and "\n" not in said[0]
        assert f"this installation is damaged: {lost}" in said[0]
        assert "; reinstall fedn_hf, or name a checkpoint" in said[0]
        assert (code, stdout, stderr) == (1, "", f"error: {said[0]}\n")
    assert doctor_code == 2 and re.search("FAILED +detector +.*reinstall fedn_hf", doctor)
    assert noted == []
