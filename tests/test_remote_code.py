"""A checkpoint works with the package, which then asks for no trust, and without it, on trust; and so does its copy
on the Hub."""

import json
import os
import pickle
import subprocess
import sys

import pytest
import torch
from huggingface_hub import CommitOperationAdd, HfApi
from transformers import AutoModelForObjectDetection, pipeline

from fedn_hf import FednForFacialExpressionDetection
from fedn_hf.hub import HubError, check_checkpoint, pull_from_hub, push_to_hub
from fedn_hf.pipeline_fedn import TASK
from tests.hub_server import HubServer
from tests.test_pipeline_fedn import EVERYTHING, assert_close, make_pipeline

CLIP = "fedn_hf/assets/demo.mp4"
# argv: ways to load as JSON, each (checkpoint, trust, keyword arguments); clip; settings as JSON. Prints for each way
# where the classes come from and what they find, or why it is refused.
DETECT = """
import json, sys
ways, clip, settings = json.loads(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
from transformers import pipeline
answers = []
for model, trust, more in ways:
    try:
        detect = pipeline(
            "facial-expression-detection", model=model, trust_remote_code=trust, device="cpu", **more
        )
    except Exception as error:
        answers.append({"refused": f"{type(error).__name__}: {error}"})
        continue
    homes = [type(part).__module__.split(".")[0] for part in (detect, detect.model, detect.video_processor)]
    found = detect(clip, end_s=1.0, **settings)
    answers.append({"homes": homes, "found": found, "face_nets": str(detect.video_processor.face_nets)})
print()  # behind the question whether to trust, which transformers prints
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def detect():
    return make_pipeline()


@pytest.fixture(scope="module")
def checkpoints(detect, tmp_path_factory):
    """Saved by the pipeline, and by its parts one by one, which leaves the pipeline's own code out."""
    folder = tmp_path_factory.mktemp("checkpoints")
    detect.save_pretrained(folder / "whole")
    detect.model.save_pretrained(folder / "parts")
    detect.video_processor.save_pretrained(folder / "parts")
    return folder


@pytest.fixture(scope="module")
def expected(detect):
    return detect(CLIP, end_s=1.0, **EVERYTHING)


def detect_offline(*ways, with_package, home) -> list[dict]:
    """What one new process says to each of these (checkpoint, trust), in this order."""
    code = ("import fedn_hf\n" if with_package else "import sys\nsys.modules['fedn_hf'] = None\n") + DETECT
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    clean |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(home), "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
    asked = json.dumps([(str(checkpoint), trust, {}) for checkpoint, trust in ways])
    ran = subprocess.run(
        [sys.executable, "-c", code, asked, os.path.abspath(CLIP), json.dumps(EVERYTHING)],
        env=clean,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


def test_with_the_package(checkpoints, expected, tmp_path):
    """Its own classes run, and nobody is asked to trust anything."""
    ways = [(checkpoints / saved, trust) for saved in ("whole", "parts") for trust in (None, False, True)]
    answers = detect_offline(*ways, with_package=True, home=tmp_path)
    for (checkpoint, trust), answer in zip(ways, answers, strict=True):
        assert answer.get("homes") == ["fedn_hf"] * 3, (checkpoint, trust, answer)
        assert answer["face_nets"] == str(checkpoint / "face_nets.safetensors")
        assert_close(answer["found"], expected)
    assert not list(tmp_path.rglob("*.py"))  # not even copied


def test_without_the_package_on_trust(checkpoints, expected, tmp_path):
    [answer] = detect_offline((checkpoints / "whole", True), with_package=False, home=tmp_path)
    assert answer["homes"] == ["transformers_modules"] * 3
    assert_close(answer["found"], expected)


def test_without_the_package_and_trust(checkpoints, tmp_path):
    ways = [(checkpoints / saved, trust) for saved in ("whole", "parts") for trust in (None, False)]
    *refusals, unknown = detect_offline(*ways, (checkpoints / "parts", True), with_package=False, home=tmp_path)
    for way, answer in zip(ways, refusals, strict=True):
        assert "custom code which must be executed" in answer.get("refused", ""), (way, answer)
    assert "Unknown task facial-expression-detection" in unknown["refused"]  # the parts bring no pipeline


def test_trusted_code_saves_a_whole_checkpoint_again(checkpoints, expected, tmp_path):
    """Somebody without the package fine-tunes, saves, and hands the result to somebody else without it."""
    code = (
        "import sys\nsys.modules['fedn_hf'] = None\nfrom transformers import pipeline\n"
        "detect = pipeline('facial-expression-detection', model=sys.argv[1], trust_remote_code=True)\n"
        "detect.save_pretrained(sys.argv[2])"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    again = tmp_path / "again"
    subprocess.run([sys.executable, "-c", code, checkpoints / "whole", again], env=environment, check=True)
    one, other = (json.loads((folder / "config.json").read_text()) for folder in (checkpoints / "whole", again))
    assert one.keys() == other.keys() and one["custom_pipelines"] == other["custom_pipelines"]
    [answer] = detect_offline((again, True), with_package=False, home=tmp_path / "fresh")
    assert_close(answer["found"], expected)


def test_a_saved_checkpoint_is_complete_and_saving_leaves_no_trace(detect, checkpoints, tmp_path):
    check_checkpoint(checkpoints / "whole")
    assert not hasattr(detect.model.config, "custom_pipelines")
    assert "not evaluated" in (checkpoints / "whole" / "README.md").read_text(encoding="utf-8")
    (tmp_path / "README.md").write_text("my own card")
    detect.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "my own card"
    with pytest.raises(ValueError, match="save_directory must be a folder"):
        detect.save_pretrained(tmp_path / "README.md")


def test_to_the_hub_and_back(hub, detect, expected, tmp_path):
    """Push, and load into an empty cache elsewhere: with the package, without it, and at a pinned revision."""
    first = detect.push_to_hub("user/detector", private=True, token=HubServer.token)
    assert b'model="user/detector"' in hub.repos["user/detector"].at().files["README.md"].content
    written = [CommitOperationAdd("README.md", b"---\nlicense: mit\n---\nMy own words.")]
    HfApi(token=HubServer.token).create_commit("user/detector", written, commit_message="Words")
    other = make_pipeline(score_threshold=0.25)
    torch.nn.init.normal_(other.model.branches["logits"].predict.weight)
    other.push_to_hub("user/detector", token=HubServer.token)
    assert b"My own words." in hub.repos["user/detector"].at().files["README.md"].content
    changed = other(CLIP, end_s=1.0, **EVERYTHING)
    assert [row["label"] for row in changed] != [row["label"] for row in expected]

    settings = os.path.abspath(CLIP), json.dumps(EVERYTHING)
    for with_package in (True, False):
        code = f"import fedn_hf\n{DETECT}" if with_package else DETECT
        home = tmp_path / str(with_package)
        ways = [("user/detector", not with_package, {"revision": revision}) for revision in (first.oid, "main")]
        run = hub.run_python(code, json.dumps(ways), *settings, home=home, with_package=with_package)
        for answer, found in zip(json.loads(run), (expected, changed), strict=True):
            assert_close(answer["found"], found)
            assert answer["face_nets"].startswith(str(home))  # those of the repository, not the package's
    with pytest.raises(HubError, match="the Hub does not accept the token"):
        pull_from_hub("user/detector", token="hf_wrong")


def test_a_pulled_checkpoint_is_the_pushed_one(hub, checkpoints, expected, tmp_path):
    push_to_hub(checkpoints / "whole", "user/detector", token=HubServer.token)
    folder = pull_from_hub("user/detector", folder=tmp_path / "pulled")
    names = sorted(path.name for path in (checkpoints / "whole").iterdir())
    assert [name for name in names if not (folder / name).is_file()] == []
    assert_close(pipeline(TASK, model=folder, device="cpu")(CLIP, end_s=1.0, **EVERYTHING), expected)


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_pickled_weights_are_never_opened(detect, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    detect.model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    for name in ("pytorch_model.bin", "model.bin", "pytorch_model.pt"):
        (tmp_path / name).write_bytes(pickle.dumps(Malicious()))
    for load in (AutoModelForObjectDetection.from_pretrained, FednForFacialExpressionDetection.from_pretrained):
        with pytest.raises(OSError, match=r"model\.safetensors"):
            load(tmp_path)
        with pytest.raises(ValueError, match="use_safetensors=False is refused"):
            load(tmp_path, use_safetensors=False)
    assert not (tmp_path / "executed").exists()
