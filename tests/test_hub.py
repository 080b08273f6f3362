"""The way to the Hub and back, through the real client to a Hub of our own; see hub_server.py."""

import json
import pickle
import urllib.request
from pathlib import Path

import pytest
import torch
from huggingface_hub import CommitOperationAdd, HfApi, constants
from safetensors.torch import save_file

from fedn_hf import FednConfig, FednForFacialExpressionDetection
from fedn_hf import hub as hub_module
from fedn_hf.hub import CheckpointError, HubError, check_checkpoint, pull_from_hub, push_to_hub
from tests.hub_server import HubServer

# The client uploads in a way that its own HTTP library calls outdated.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

NAME = "user/detector"
TOKEN = HubServer.token
CODE = {
    "configuration_fedn.py": "class FednConfig: ...\n",
    "layers_fedn.py": "import math\n",
    "modeling_fedn.py": "from .configuration_fedn import FednConfig\nfrom .layers_fedn import math\n",
    "pipeline_fedn.py": "from . import modeling_fedn\nfrom .configuration_fedn import FednConfig\n",
    "video_processing_fedn.py": "from .pipeline_fedn import FednConfig\n",
}


def checkpoint(folder: Path, value: float = 1.0, shards: int = 0) -> Path:
    """A small folder with everything that a checkpoint has."""
    folder.mkdir()
    config = {
        "model_type": "fedn",
        "auto_map": {"AutoConfig": "configuration_fedn.FednConfig", "AutoModel": "modeling_fedn.FednModel"},
        "custom_pipelines": {"facial-expression-detection": {"impl": "pipeline_fedn.FednPipeline", "pt": []}},
    }
    processor = {"auto_map": {"AutoVideoProcessor": "video_processing_fedn.FednVideoProcessor"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "video_preprocessor_config.json").write_text(json.dumps(processor))
    for name, code in CODE.items():
        (folder / name).write_text(code)
    (folder / "README.md").write_text(f"---\nlicense: apache-2.0\n---\nA detector of {value}.\n")
    (folder / "LICENSE").write_text("Apache-2.0")
    (folder / "NOTICE.txt").write_text("Parts are MediaPipe's.")
    save_file({"nose": torch.full((4096,), value)}, folder / "face_nets.safetensors")
    if not shards:
        save_file({"weight": torch.full((4096,), -value)}, folder / "model.safetensors")
        return folder
    names = [f"model-{number:05}-of-{shards:05}.safetensors" for number in range(1, shards + 1)]
    for number, name in enumerate(names):
        save_file({f"weight.{number}": torch.full((4096,), value + number)}, folder / name)
    index = {"metadata": {}, "weight_map": {f"weight.{number}": name for number, name in enumerate(names)}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".gitattributes"}


@pytest.fixture
def saved(tmp_path):
    return checkpoint(tmp_path / "saved")


# Up and down


def test_a_checkpoint_goes_up_as_one_commit_and_comes_down_the_same(hub, saved, tmp_path):
    commit = push_to_hub(saved, NAME, token=TOKEN, message="First")
    repo = hub.repos[NAME]
    assert commit == f"{hub.url}/{NAME}/commit/{commit.oid}" and commit.repo_url.repo_id == NAME
    assert [past.title for past in repo.history()] == ["First", "initial commit"]
    assert repo.at().sha == commit.oid and not repo.private
    large = {name for name, blob in repo.at().files.items() if blob.lfs}
    assert large == {"model.safetensors", "face_nets.safetensors"}, "the others go with the commit itself"

    pulled = pull_from_hub(NAME)
    assert pulled.is_relative_to(constants.HF_HUB_CACHE) and contents(pulled) == contents(saved)
    copied = pull_from_hub(NAME, folder=tmp_path / "new" / "copy")
    assert copied == tmp_path / "new" / "copy" and contents(copied) == contents(saved)
    assert not any(path.is_symlink() or path.is_dir() for path in copied.iterdir())


def test_nobody_is_told_what_else_is_installed(hub, saved, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", False)
    push_to_hub(saved, NAME, token=TOKEN)
    pull_from_hub(NAME)
    with pytest.raises(HubError):
        pull_from_hub("user/other")
    ours = {agent for agent in hub.agents if agent.startswith("fedn_hf/")}
    assert ours and not any("torch" in agent or "agent/" in agent for agent in hub.agents)
    assert "/api/agent-harnesses" not in hub.requests and not any("telemetry" in kind for kind in hub.requests)
    assert not constants.HF_HUB_DISABLE_TELEMETRY, "the setting is the user's again"


def test_a_second_push_replaces_what_the_first_one_left(hub, saved, tmp_path):
    push_to_hub(saved, NAME, token=TOKEN)
    sharded = checkpoint(tmp_path / "sharded", 2.0, shards=2)
    push_to_hub(sharded, NAME, token=TOKEN)
    assert contents(pull_from_hub(NAME)) == contents(sharded), "model.safetensors would be loaded before the shards"
    push_to_hub(saved, "detector", token=TOKEN)
    assert contents(pull_from_hub(NAME)) == contents(saved) and len(hub.repos[NAME].history()) == 4


def test_a_card_that_somebody_has_written_can_be_kept(hub, saved):
    push_to_hub(saved, NAME, token=TOKEN, keep_card=True)
    card = (saved / "README.md").read_bytes()
    (saved / "README.md").write_text("made by a program")
    (saved / "LICENSE").write_text("MIT")
    push_to_hub(saved, NAME, token=TOKEN, keep_card=True)
    assert contents(pull_from_hub(NAME)) == contents(saved) | {"README.md": card}
    push_to_hub(saved, NAME, token=TOKEN)
    assert contents(pull_from_hub(NAME)) == contents(saved)


def test_a_push_of_nothing_new_makes_no_commit(hub, saved):
    first = push_to_hub(saved, NAME, token=TOKEN)
    assert push_to_hub(pull_from_hub(NAME), NAME, token=TOKEN).oid == first.oid
    assert len(hub.repos[NAME].history()) == 2 and hub.requests["upload"] == 2


def test_revisions_are_what_they_were(hub, saved, tmp_path):
    api = HfApi(token=TOKEN)
    first = push_to_hub(saved, NAME, token=TOKEN).oid
    api.create_tag(NAME, tag="v1")
    api.create_branch(NAME, branch="stable/one")
    newer = checkpoint(tmp_path / "newer", 2.0)
    second = push_to_hub(newer, NAME, token=TOKEN).oid
    for revision in (first, "v1", "stable/one"):
        assert contents(pull_from_hub(NAME, revision=revision)) == contents(saved)
    for revision in (second, "main", None):
        assert contents(pull_from_hub(NAME, revision=revision)) == contents(newer)
    assert [past.commit_id for past in api.list_repo_commits(NAME)][:2] == [second, first]


def test_a_push_to_a_branch_leaves_the_main_one_alone(hub, saved, tmp_path):
    first = push_to_hub(saved, NAME, token=TOKEN).oid
    trial = push_to_hub(checkpoint(tmp_path / "trial", 3.0), NAME, token=TOKEN, revision="trial/3").oid
    again = push_to_hub(checkpoint(tmp_path / "again", 4.0), NAME, token=TOKEN, revision="trial/3").oid
    refs = HfApi(token=TOKEN).list_repo_refs(NAME).branches
    assert {ref.name: ref.target_commit for ref in refs} == {"main": first, "trial/3": again}
    assert [past.sha for past in hub.repos[NAME].history("trial/3")][:3] == [again, trial, first]


def test_private_repositories_are_for_their_owner(hub, saved, tmp_path):
    push_to_hub(saved, NAME, token=TOKEN, private=True)
    assert hub.repos[NAME].private
    for token in (None, hub.guest_token):
        with pytest.raises(HubError, match="no such repository, or it is private") as caught:
            pull_from_hub(NAME, token=token)
        assert "hf auth login" in str(caught.value)
    assert contents(pull_from_hub(NAME, token=TOKEN)) == contents(saved)


def test_what_is_public_does_not_become_private_by_a_push(hub, saved, tmp_path):
    first = push_to_hub(saved, NAME, token=TOKEN).oid
    with pytest.raises(HubError, match="exists and is public: private=True cannot change that"):
        push_to_hub(checkpoint(tmp_path / "secret", 2.0), NAME, token=TOKEN, private=True)
    assert hub.repos[NAME].at().sha == first


# What goes wrong


@pytest.mark.parametrize(
    ("name", "token", "words"),
    [
        (NAME, "hf_wrong", "does not accept the token.*hf auth login"),
        (NAME, None, "or there is none.*hf auth login"),
        ("other/detector", TOKEN, 'rights to create a model under the namespace "other".*a token that may write'),
        ("a/b/c", TOKEN, 'cannot be the name of a repository; write "name/of-model"'),
    ],
)
def test_pushes_without_a_right_to(hub, saved, name, token, words):
    with pytest.raises(HubError, match=f"^{name}: .*{words}") as caught:
        push_to_hub(saved, name, token=token)
    assert "\n" not in str(caught.value) and caught.value.__suppress_context__ and not hub.repos


def test_a_push_to_what_somebody_else_owns(hub, saved):
    first = push_to_hub(saved, NAME, token=TOKEN).oid
    (saved / "README.md").write_text("Mine now.")
    with pytest.raises(HubError, match=r"the token does not permit it.*nothing was published"):
        push_to_hub(saved, NAME, token=hub.guest_token)
    assert hub.repos[NAME].at().sha == first


@pytest.mark.parametrize(
    ("name", "more", "words"),
    [
        ("user/other", {"token": TOKEN}, "no such repository.*check the name"),
        ("user/other", {}, "no such repository.*check the name"),
        (NAME, {"token": "hf_wrong"}, "does not accept the token"),
        (NAME, {"revision": "v9"}, "no such revision; name a branch, a tag"),
        (NAME, {"revision": "0" * 40}, "no such revision"),
    ],
)
def test_pulls_of_what_is_not_there(hub, saved, name, more, words):
    push_to_hub(saved, NAME, token=TOKEN)
    with pytest.raises(HubError, match=words) as caught:
        pull_from_hub(name, **more)
    assert "\n" not in str(caught.value)


def test_doors_that_open_later(hub, saved):
    push_to_hub(saved, NAME, token=TOKEN)
    hub.fail(status=403, kind="info", code="GatedRepo")
    with pytest.raises(HubError, match="its owner opens it on request; ask for access on its page"):
        pull_from_hub(NAME)
    hub.fail(status=429, kind="info")
    with pytest.raises(HubError, match=r"too many requests from here .*; wait a few minutes"):
        pull_from_hub(NAME)


def test_an_upload_that_is_cut_off_publishes_nothing(hub, saved):
    hub.cut_uploads = 99
    with pytest.raises(HubError, match=r"connection broke.*nothing was published, and a new push goes on") as caught:
        push_to_hub(saved, NAME, token=TOKEN)
    assert "\n" not in str(caught.value)
    assert [past.title for past in hub.repos[NAME].history()] == ["initial commit"]
    assert HfApi(token=TOKEN).list_repo_files(NAME) == [".gitattributes"]
    with pytest.raises(CheckpointError, match=rf"^{NAME} at main: a complete checkpoint also holds config.json"):
        pull_from_hub(NAME)
    hub.cut_uploads = 0
    push_to_hub(saved, NAME, token=TOKEN)
    assert contents(pull_from_hub(NAME)) == contents(saved)


def test_large_files_that_arrived_are_not_sent_twice(hub, saved):
    hub.fail(kind="commit")
    with pytest.raises(HubError, match=r"trouble of its own \(500: Internal Error.*nothing was published"):
        push_to_hub(saved, NAME, token=TOKEN)
    assert hub.requests["upload"] == 2 and len(hub.repos[NAME].history()) == 1
    push_to_hub(saved, NAME, token=TOKEN)
    assert hub.requests["upload"] == 2 and contents(pull_from_hub(NAME)) == contents(saved)


def test_a_commit_whose_answer_is_lost_is_looked_up(hub, saved):
    hub.lost_commits = 1
    with pytest.raises(HubError, match=r"connection broke.*its latest commit is now") as caught:
        push_to_hub(saved, NAME, token=TOKEN)
    assert hub.repos[NAME].at().sha in str(caught.value)
    assert push_to_hub(saved, NAME, token=TOKEN).oid == hub.repos[NAME].at().sha
    assert len(hub.repos[NAME].history()) == 2


def test_short_troubles_are_sat_out(hub, saved):
    """The client tries these five times more; creating, asking and committing it tries once."""
    hub.cut_uploads = 2
    for kind in ("preupload", "batch", "upload", "verify"):
        hub.fail(3, kind=kind)
    push_to_hub(saved, NAME, token=TOKEN)
    hub.fail(2, kind="resolve")
    assert contents(pull_from_hub(NAME)) == contents(saved)


@pytest.mark.parametrize("kind", ["create", "info", "yaml", "preupload", "batch", "upload", "verify", "commit"])
def test_long_troubles_end_a_push(hub, saved, kind):
    hub.fail(99, kind=kind)
    with pytest.raises(HubError, match=r"^user/detector: the Hub has trouble of its own \(500: .*; try again later"):
        push_to_hub(saved, NAME, token=TOKEN)
    assert all(len(repo.history()) == 1 for repo in hub.repos.values())


@pytest.mark.parametrize("kind", ["info", "tree", "resolve", "download"])
def test_long_troubles_end_a_pull(hub, saved, tmp_path, kind):
    push_to_hub(saved, NAME, token=TOKEN)
    hub.fail(999, kind=kind)
    with pytest.raises(HubError, match=r"^user/detector: the Hub has trouble of its own \(500: .*; try again later"):
        pull_from_hub(NAME, folder=tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_repository_that_changes_meanwhile(hub, saved, tmp_path, monkeypatch):
    push_to_hub(saved, NAME, token=TOKEN)
    theirs = []

    def meanwhile(*arguments):
        note = [CommitOperationAdd("NOTICE", b"Hands off.")]
        theirs.append(HfApi(token=TOKEN).create_commit(NAME, note, commit_message="Theirs").oid)
        return operations(*arguments)

    operations = hub_module._operations
    monkeypatch.setattr(hub_module, "_operations", meanwhile)
    with pytest.raises(HubError, match="somebody else has changed the repository meanwhile; look at it, then push"):
        push_to_hub(checkpoint(tmp_path / "newer", 2.0), NAME, token=TOKEN)
    assert [hub.repos[NAME].at().sha] == theirs


def test_a_card_that_the_hub_does_not_take(hub, saved):
    (saved / "README.md").write_text("---\nlicense: [1]\n---\n")
    with pytest.raises(HubError, match=r'refuses this \(400: "license" must be a string\)'):
        push_to_hub(saved, NAME, token=TOKEN)
    assert not hub.requests["upload"], "that is found out before anything large is sent"


def test_a_hub_without_xet(hub, saved, monkeypatch):
    pytest.importorskip("hf_xet")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    with pytest.raises(HubError, match=r"connection broke.*xet-write-token.*nothing was published"):
        push_to_hub(saved, NAME, token=TOKEN)


def test_offline_the_cache_serves(hub, saved, tmp_path, monkeypatch):
    push_to_hub(saved, NAME, token=TOKEN)
    pulled = pull_from_hub(NAME)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert pull_from_hub(NAME) == pulled
    assert contents(pull_from_hub(NAME, folder=tmp_path / "copy")) == contents(saved)
    with pytest.raises(HubError, match=r"offline mode is on.*unset HF_HUB_OFFLINE"):
        pull_from_hub("user/other")
    with pytest.raises(HubError, match=r"offline mode is on.*unset HF_HUB_OFFLINE"):
        push_to_hub(saved, NAME, token=TOKEN)


def test_a_hub_that_cannot_be_reached(hub, saved):
    push_to_hub(saved, NAME, token=TOKEN)
    pulled = pull_from_hub(NAME)
    hub.stop()
    assert pull_from_hub(NAME) == pulled
    for attempt in (lambda: pull_from_hub("user/other"), lambda: push_to_hub(saved, NAME, token=TOKEN)):
        with pytest.raises(HubError, match=r"the Hub cannot be reached.*ConnectError.*check the network"):
            attempt()


# What may travel


@pytest.mark.parametrize("name", ["training_args.bin", "optimizer.PT", "model.ckpt", "LICENSE.pkl", "x.npz", "m.onnx"])
def test_pickles_and_the_like_do_not_go_up(hub, saved, name):
    (saved / name).write_bytes(pickle.dumps({}))
    with pytest.raises(CheckpointError, match=f"holds {name}: pickles and the like are not published"):
        push_to_hub(saved, NAME, token=TOKEN)
    assert not hub.requests, "nothing was sent, not even a question"


def test_other_files_stay_behind_and_the_log_says_so(hub, saved, caplog):
    (saved / "notes.txt").write_text("to do")
    (saved / ".git").mkdir()
    push_to_hub(saved, NAME, token=TOKEN)
    assert "notes.txt" in caplog.text and ".git, " in caplog.text
    assert not {"notes.txt", ".git"} & set(hub.repos[NAME].at().files)


def test_pickles_do_not_come_down(hub, saved):
    push_to_hub(saved, NAME, token=TOKEN)
    extra = [CommitOperationAdd(name, b"\x80\x04N.") for name in ("pytorch_model.bin", "LICENSE.pkl", "notes.txt")]
    HfApi(token=TOKEN).create_commit(NAME, extra, commit_message="More")
    assert contents(pull_from_hub(NAME)) == contents(saved)


def test_a_folder_in_use_is_left_alone(hub, saved, tmp_path):
    push_to_hub(saved, NAME, token=TOKEN)
    (tmp_path / "used").mkdir()
    assert contents(pull_from_hub(NAME, folder=tmp_path / "used")) == contents(saved)
    for used in (tmp_path / "used", saved / "README.md"):
        with pytest.raises(CheckpointError, match="is in use; name a folder that is new or empty"):
            pull_from_hub(NAME, folder=used)


# What a complete checkpoint is


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "video_preprocessor_config.json",
        "model.safetensors",
        "face_nets.safetensors",
        "README.md",
        *CODE,
    ],
)
def test_what_is_missing_is_named(hub, saved, name):
    check_checkpoint(saved)
    (saved / name).unlink()
    with pytest.raises(CheckpointError, match=rf"saved: .*also holds {name}; make it with pipeline\.save_pretrained"):
        push_to_hub(saved, NAME, token=TOKEN)
    assert not hub.requests


def test_all_shards_must_be_there(tmp_path):
    sharded = checkpoint(tmp_path / "sharded", shards=3)
    check_checkpoint(sharded)
    (sharded / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"also holds model-00002-of-00003\.safetensors;"):
        check_checkpoint(sharded)


@pytest.mark.parametrize("name", ["../other/model.safetensors", "sub/model.safetensors", ".."])
def test_an_index_cannot_point_out_of_the_folder(tmp_path, name):
    """Else half a checkpoint would count as whole, and somebody's index could have any file here opened."""
    sharded = checkpoint(tmp_path / "sharded", shards=2)
    checkpoint(tmp_path / "other")
    index = sharded / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": {"weight.1": name}}))
    with pytest.raises(CheckpointError, match=r"index\.json names .*, which is no file beside it"):
        check_checkpoint(sharded)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("model.safetensors", None, "model.safetensors is damaged"),
        ("face_nets.safetensors", pickle.dumps({}), "face_nets.safetensors is damaged"),
        ("config.json", b"{", "config.json is not JSON"),
        ("video_preprocessor_config.json", b"[]", "should hold a JSON object"),
        ("modeling_fedn.py", b"def", "modeling_fedn.py is not Python"),
    ],
)
def test_what_is_damaged_is_named(saved, name, content, words):
    path = saved / name
    path.write_bytes(path.read_bytes()[:-1] if content is None else content)
    with pytest.raises(CheckpointError, match=words):
        check_checkpoint(saved)


def test_code_that_lives_in_another_repository_need_not_be_here(saved):
    config = json.loads((saved / "config.json").read_text())
    config["auto_map"] |= {"AutoModelForObjectDetection": "other/repo--elsewhere.Model", "AutoTokenizer": [None]}
    (saved / "config.json").write_text(json.dumps(config))
    check_checkpoint(saved)


@pytest.mark.parametrize("error", [CheckpointError("a folder", "is empty"), HubError(NAME, "is gone")])
def test_errors_can_be_handed_over_by_worker_processes(error):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error) and str(again) == str(error) and vars(again) == vars(error)


# Fresh processes, which know of the Hub by their environment alone


def test_another_process_needs_only_its_environment(hub, saved, tmp_path):
    """Named like the command line, the package imports neither torch nor transformers."""
    printed = hub.run_python(
        "import sys; sys.argv[0] = 'fedn'\n"
        "from fedn_hf.hub import pull_from_hub, push_to_hub\n"
        "print(push_to_hub(sys.argv[1], 'detector').oid)\n"
        "print(pull_from_hub('user/detector'))\n"
        "print({'torch', 'transformers'} & set(sys.modules))",
        saved,
        home=tmp_path / "fresh",
    )
    sha, pulled, imported = printed.split("\n")[:3]
    assert sha == hub.repos[NAME].at().sha and imported == "set()"
    assert Path(pulled).is_relative_to(tmp_path / "fresh") and contents(Path(pulled)) == contents(saved)
    assert not any("harness" in kind or "telemetry" in kind for kind in hub.requests)


LOAD = """
import sys
import torch
from transformers import AutoModelForObjectDetection
model = AutoModelForObjectDetection.from_pretrained(sys.argv[1], revision=sys.argv[2], trust_remote_code=True).eval()
assert type(model).__module__.startswith("transformers_modules."), type(model).__module__
with torch.no_grad():
    out = model(frame_features=torch.load(sys.argv[3], weights_only=True))
torch.save({name: out[name] for name in ("boundaries", "confidence", "logits")}, sys.argv[4])
"""


def test_the_network_gives_the_same_numbers_from_the_hub(hub, tmp_path):
    """With nothing but transformers, by the id of a commit that is no longer the latest, from a private repository."""
    fields = {"feature_size": 16, "hidden_size": 32, "num_attention_heads": 4, "attention_window": 64}
    model = FednForFacialExpressionDetection(FednConfig(backbone_config=None, initializer_range=0.06, **fields)).eval()
    model.save_pretrained(tmp_path / "network")
    api = HfApi(token=TOKEN)
    api.create_repo("network", private=True)
    files = [CommitOperationAdd(path.name, path) for path in sorted((tmp_path / "network").iterdir())]
    sha = api.create_commit("user/network", files, commit_message="v1").oid
    api.create_commit("user/network", [CommitOperationAdd("config.json", b"{}")], commit_message="v2")

    features = torch.randn(1, 128, 16)
    torch.save(features, tmp_path / "features")
    paths = (tmp_path / "features", tmp_path / "answer")
    hub.run_python(LOAD, "user/network", sha, *paths, home=tmp_path / "fresh", with_package=False)
    with torch.no_grad():
        expected = model(frame_features=features)
    for name, value in torch.load(tmp_path / "answer", weights_only=True).items():
        assert torch.equal(value, expected[name])


# The server itself, where the client does not come by


def test_parts_of_a_file(hub, saved):
    push_to_hub(saved, NAME, token=TOKEN)
    whole = (saved / "model.safetensors").read_bytes()
    request = urllib.request.Request(
        f"{hub.url}/{NAME}/resolve/main/model.safetensors", headers={"Range": "bytes=100-199"}
    )
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 206 and answer.read() == whole[100:200]
        assert answer.headers["Content-Range"] == f"bytes 100-199/{len(whole)}"
