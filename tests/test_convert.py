"""Converted corpora come back through plain `load_dataset` as they were, whatever happened on the way."""

import hashlib
import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from datasets import Dataset, load_dataset
from typer.testing import CliRunner

from dataset_scripts import convert
from dataset_scripts.casme_2 import CasMe2
from dataset_scripts.convert import CORPORA, find_problems, prepare
from dataset_scripts.corpus import cast, frame_paths, schema
from dataset_scripts.encode import _decoded_images, decoded
from dataset_scripts.push import LicenceError, push
from dataset_scripts.push import main as push_command
from dataset_scripts.quirks import CorpusError
from fedn_hf.cli import app
from tests import corpora
from tests.clips import STEADY, make, read

OPTIONS = {
    "casme_2": {"config": "raw"},
    "casme_3": {"scheme": "emotion_7"},
    "samm_lv": {},
    "folder_csv": {"fps": 30.0},
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    made = {}

    def make(name):
        if name not in made:
            made[name] = getattr(corpora, name)(tmp_path_factory.mktemp(name))
        return made[name]

    return make


def load(folder, to, scheme="objective_4", cache=None) -> Dataset:
    data_dir = folder if to == "videofolder" else folder / "data"
    loaded = load_dataset(to, data_dir=str(data_dir), split="train", cache_dir=str(cache))
    return cast(loaded, scheme)


def pixels(video, folder):
    """The frames of a loaded row."""
    if video["bytes"]:
        path = folder / "loaded.mkv"
        path.write_bytes(video["bytes"])
        return list(decoded(path))
    return list(decoded(Path(video["path"])))


def contents(folder):
    """Hash of every file of a result."""
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("to", ["videofolder", "parquet"])
@pytest.mark.parametrize("encode", ["ffv1", "copy"])
@pytest.mark.parametrize("name", OPTIONS)
def test_there_and_back(tree, tmp_path, name, to, encode):
    options = OPTIONS[name]
    log = prepare(name, tree(name), tmp_path / "out", to=to, encode=encode, workers=2, verify=True, **options)
    kind = {key: value for key, value in options.items() if key != "config"}
    builder = CORPORA[name](options.get("config"), data_dir=str(tree(name)), cache_dir=str(tmp_path), **kind)
    builder.download_and_prepare()
    expected = builder.as_dataset(split="train")
    found = load(tmp_path / "out", to, options.get("scheme", "objective_4"), tmp_path)
    assert found.features == expected.features == schema(options.get("scheme", "objective_4"))
    assert len(found) == len(expected) > 1
    for mine, theirs in zip(expected, found, strict=True):
        assert {k: v for k, v in mine.items() if k != "video"} == {k: v for k, v in theirs.items() if k != "video"}
        frames = pixels(theirs["video"], tmp_path)
        assert len(frames) == theirs["num_frames"]
        images = _decoded_images(frame_paths(mine["video"]))
        assert all(np.array_equal(a, b) for a, b in zip(images, frames, strict=True))
    assert log == json.loads((tmp_path / "out/conversion_log.json").read_text())["quirks"]
    assert {rule: entry["count"] for rule, entry in log.items()} == {
        rule: len(entry["cases"]) for rule, entry in log.items()
    }


def test_the_card_is_read_by_load_dataset(tree, tmp_path):
    prepare("casme_2", tree("casme_2"), tmp_path / "videos", config="raw")
    videos = load_dataset(str(tmp_path / "videos"), cache_dir=str(tmp_path / "cache"))
    one = load_dataset(str(tmp_path / "videos"), "s23", split="train", cache_dir=str(tmp_path / "cache"))
    assert list(one["video_id"]) == ["s23_0101"]
    assert list(cast(videos)["train"]["video_id"]) == ["s15_0401", "s15_0502", "s15_0503", "s23_0101"]
    prepare("casme_2", tree("casme_2"), tmp_path / "rows", config="raw", to="parquet")
    rows = load_dataset(str(tmp_path / "rows"), "by_subject", cache_dir=str(tmp_path / "cache"))
    assert {split: len(part) for split, part in rows.items()} == {"s15": 3, "s23": 1}
    assert all(set(part["subject_id"]) == {split} for split, part in rows.items())
    streamed = load_dataset(str(tmp_path / "rows"), split="train", streaming=True)
    assert [row["video_id"] for row in cast(streamed)] == ["s15_0401", "s15_0502", "s15_0503", "s23_0101"]


def test_h264_keeps_frames_and_looks_the_same(tree, tmp_path):
    prepare("casme_2", tree("casme_2"), tmp_path / "out", config="raw", verify=True)
    (video,) = (tmp_path / "out/data/s15").glob("s15_0401.mp4")
    images = _decoded_images(sorted((tree("casme_2") / "rawpic/s15/15_0401girlcrashing").glob("img*.jpg")))
    pairs = list(zip(images, decoded(video), strict=True))
    assert len(pairs) == 12 and max(np.abs(a.astype(int) - b).mean() for a, b in pairs) < 4


def test_size_is_of_the_shorter_side(tree, tmp_path):
    prepare("casme_2", tree("casme_2"), tmp_path / "out", config="raw", encode="ffv1", size=12, verify=True)
    for video in (tmp_path / "out/data").rglob("*.mkv"):
        assert next(decoded(video)).shape == (12, 16, 3)


def test_video_files_are_copied(tmp_path, clip):
    source = tmp_path / "in"
    source.mkdir()
    (source / "one.mp4").write_bytes(Path(clip("h264.mp4")).read_bytes())
    (source / "events.csv").write_text("video,onset,offset,type\none,4,20,macro\n")
    prepare("folder_csv", source, tmp_path / "out", encode="copy", verify=True)
    assert (tmp_path / "out/data/one/one.mp4").read_bytes() == (source / "one.mp4").read_bytes()


UPRIGHT, CLOCKWISE = (1 << 16, 0, 0, 1 << 16), (0, 1 << 16, -1 << 16, 0)


@pytest.mark.parametrize("encode", ["h264", "ffv1"])
def test_video_files_are_encoded_as_a_player_shows_them(tmp_path, encode):
    source = tmp_path / "in"
    source.mkdir()
    make(source / "wide.mp4", times=STEADY[:9], aspect=Fraction(4, 3))
    turned = make(source / "turned.mp4", times=STEADY[:9]).read_bytes()
    start = turned.index(b"tkhd")  # its matrix says how the picture is turned: here a quarter clockwise
    matrices = (struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) for a, b, c, d in (UPRIGHT, CLOCKWISE))
    (source / "turned.mp4").write_bytes(turned[:start] + turned[start:].replace(*matrices, 1))
    (source / "events.csv").write_text("video,onset,offset,type\nwide,4,8,macro\n")
    prepare("folder_csv", source, tmp_path / "out", encode=encode, verify=True)
    for name in ("wide", "turned"):
        (written,) = (tmp_path / "out/data" / name).iterdir()
        shown, found = read(source / f"{name}.mp4"), read(written)
        assert found.frames[0].shape == shown.frames[0].shape == {"wide": (48, 85, 3), "turned": (64, 48, 3)}[name]
        assert found.info.rotation == 0
        error = max(np.abs(a.astype(int) - b).mean() for a, b in zip(shown.frames, found.frames, strict=True))
        assert error <= (0 if encode == "ffv1" else 4)


# --- Stopped, damaged, changed ---------------------------------------------------------------------------------------


def command(source, output, *more):
    # Named like the command `fedn`, the package does not import its network.
    code = "import sys; sys.argv[0] = 'fedn'; from dataset_scripts.convert import main; main()"
    given = [sys.executable, "-c", code, "--corpus", "casme_2", "--part", "raw"]
    return [*given, "--input", str(source), "--output", str(output), "--encode", "ffv1", *more]


ROOT = Path(__file__).resolve().parents[1]


def test_killed_and_run_again_it_ends_as_if_nothing_had_happened(tmp_path):
    source = corpora.casme_2(tmp_path / "in")
    for number in range(510, 516):
        corpora.write_images(source / f"rawpic/s15/15_0{number}long", range(1, 120), size=(320, 240))
    prepare("casme_2", source, tmp_path / "whole", config="raw", encode="ffv1")
    output = tmp_path / "killed"
    stopped = 0
    for written in (1, 4):
        process = subprocess.Popen(command(source, output, "--workers", "2"), cwd=ROOT, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while len(list(output.glob("data/*/*"))) < written and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        stopped += process.wait() == -signal.SIGKILL
        assert not (output / "README.md").exists() or not stopped
    assert stopped
    before = {path: path.stat().st_mtime_ns for path in output.glob("data/*/*")}
    prepare("casme_2", source, output, config="raw", encode="ffv1", verify=True)
    assert contents(output) == contents(tmp_path / "whole")
    assert sum(path.stat().st_mtime_ns == time_ns for path, time_ns in before.items()) >= len(before) - 2


def test_a_second_run_writes_no_video_again(tree, tmp_path):
    prepare("casme_2", tree("casme_2"), tmp_path / "out", config="raw")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out/data").rglob("*.mp4")}
    prepare("casme_2", tree("casme_2"), tmp_path / "out", config="raw")
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out/data").rglob("*.mp4")}


@pytest.mark.parametrize("to", ["videofolder", "parquet"])
def test_verify_finds_what_has_changed(tree, tmp_path, to):
    output = tmp_path / "out"
    prepare("casme_2", tree("casme_2"), output, config="raw", encode="ffv1", to=to)
    assert find_problems(output) == []
    first, second, *_ = sorted((output / "data").rglob("*.*"))
    first.unlink()
    content = bytearray(second.read_bytes())
    content[len(content) // 2] ^= 1
    second.write_bytes(content)
    assert find_problems(output) == [
        f"{first.relative_to(output)}: is missing",
        f"{second.relative_to(output)}: has changed since it was written",
    ]
    again = {"config": "raw", "encode": "ffv1", "to": to, "verify": True}
    with pytest.raises(CorpusError, match=r"1 videos .* delete their files and run the same command again"):
        prepare("casme_2", tree("casme_2"), output, **again)
    second.unlink()
    prepare("casme_2", tree("casme_2"), output, **again)


def test_a_changed_source_is_written_again(tmp_path):
    source = corpora.casme_2(tmp_path / "in")
    prepare("casme_2", source, tmp_path / "out", config="raw", encode="ffv1")
    corpora.write_images(source / "rawpic/s15/15_0503unnyfarting", range(1, 8))
    prepare("casme_2", source, tmp_path / "out", config="raw", encode="ffv1", verify=True)
    assert len(list(decoded(tmp_path / "out/data/s15/s15_0503.mkv"))) == 7


def test_other_settings_want_another_folder(tree, tmp_path):
    prepare("casme_2", tree("casme_2"), tmp_path / "out", config="raw")
    with pytest.raises(CorpusError, match="was begun with other encode, rules; choose another folder"):
        options = {"config": "raw", "encode": "ffv1", "rules": {"overlap": "drop"}}
        prepare("casme_2", tree("casme_2"), tmp_path / "out", **options)


def test_two_conversions_into_one_folder(tree, tmp_path):
    output = tmp_path / "out"

    def second(*_):
        with pytest.raises(CorpusError, match="another conversion is writing there"):
            prepare("casme_2", tree("casme_2"), output, config="raw")

    prepare("casme_2", tree("casme_2"), output, config="raw", progress=second)


def test_wrong_arguments(tree, tmp_path):
    for wrong, words in (
        ({"size": 64, "encode": "copy"}, "copies keep theirs"),
        ({"to": "webdataset"}, "expected one of"),
        ({"scheme": "nine"}, "scheme 'nine' was given"),
        ({"config": "nine"}, "config 'nine' was given, casme_2 has cropped and raw and selected"),
        ({"corpus": "nine"}, "corpus 'nine' was given"),
        ({"sheet_version": "v1"}, "casme_2 has no option sheet_version"),
    ):
        with pytest.raises(CorpusError, match=words):
            prepare(**{"corpus": "casme_2", "source": tree("casme_2"), "output": tmp_path / "out"} | wrong)
    with pytest.raises(CorpusError, match="lies inside the corpus"):
        prepare("casme_2", tree("casme_2"), tree("casme_2") / "out")
    (tmp_path / "thesis.docx").touch()
    with pytest.raises(CorpusError, match="is not empty"):
        prepare("casme_2", tree("casme_2"), tmp_path, config="raw")


def test_an_image_that_does_not_open_is_named(tmp_path):
    source = corpora.casme_2(tmp_path / "in")
    (source / "rawpic/s15/15_0401girlcrashing/img003.jpg").write_bytes(b"no picture")
    with pytest.raises(CorpusError, match=r"img003\.jpg: the image does not open"):
        prepare("casme_2", source, tmp_path / "out", config="raw", encode="ffv1")
    assert not (tmp_path / "out/README.md").exists()


def test_a_folder_that_cannot_be_written_is_named(tree, tmp_path, capsys):
    (tmp_path / "file").touch()
    output = str(tmp_path / "file" / "out")
    given = ["--corpus", "casme_2", "--input", str(tree("casme_2")), "--output", output]
    assert convert.main(given) == 1
    assert re.match(rf"error: {output}: stopped \(.*Not a directory: .*run the same", capsys.readouterr().err)


def test_the_command_prints_the_log(tree, tmp_path, capsys):
    given = ["--corpus", "casme_2", "--input", str(tree("casme_2")), "--output", str(tmp_path / "out")]
    assert convert.main([*given, "--part", "raw", "--rule", "offset_zero=drop"]) == 0
    assert "     1  offset_zero -> drop: the offset is 0" in capsys.readouterr().out
    assert convert.main([*given, "--part", "cropped"]) == 1
    assert "was begun with other frames, rules" in capsys.readouterr().err


# --- Card and licence gates ------------------------------------------------------------------------------------------

PAGES = {
    "casme_2": "http://casme.psych.ac.cn/casme/e3",
    "casme_3": "http://casme.psych.ac.cn/casme/e4",
    "samm_lv": "http://www2.docm.mmu.ac.uk/STAFF/M.Yap/dataset.php",
}
CARD = (
    "---\nlicense: other\nlicense_name: signed-agreement\nlicense_link: {page}\npretty_name: .+\n",
    "task_categories:\n- video-classification\ntags:\n(- .+\n)+size_categories:\n- n<1K\nconfigs:\n(.+\n)+---\n",
    r"# .+\n\n\*\*.+\*\*, converted by `fedn_hf` .+ It may not be passed on: .+\n",
    r"\n\| subjects \| videos \| hours \| macro-expressions \| micro-expressions \|\n.+\n(\| [\d.]+ ){{5}}\|\n",
    r"\n\| emotion \| by coders \| by participants \|\n.+\n(\| .+ \| \d+ \| \d+ \|\n)+",
    r"\n## Licence\n\n.+\n\nLicence agreement: <{page}>\n\nThis card grants nothing\..+\n",
    r"\n## How to use\n\n```python\n(.*\n)+?```\n(.*\n)+?",
    r"\n## Splits by subject\n(.*\n)+?\| subject .+\n.+\n(\| .+ (\| \d+ ){{3}}\|\n)+",
    r"\n## Quirks of the label sheets\n(.*\n)+?\| rule .+\n.+\n(\| \w+ \| \d+ \| .+ \| .+ \|\n)+",
    r"\n## Prohibited uses\n(.*\n)+?(- .+[;.]\n)+(.*\n)+?",
    r"\n## Citation\n\n```bibtex\n@(.*\n)+?```\n",
)


@pytest.mark.parametrize("name", PAGES)
def test_card(tree, tmp_path, name):
    prepare(name, tree(name), tmp_path / "out", encode="copy", **OPTIONS[name])
    card = (tmp_path / "out/README.md").read_text("utf-8")
    assert re.fullmatch("".join(CARD).format(page=re.escape(PAGES[name])), card), card
    assert "$" not in card and str(tmp_path) not in card and str(tree(name)) not in card
    header = yaml.safe_load(card.split("---\n")[1])
    assert header["configs"][0]["config_name"] == "default"


class FakeApi:
    """What `push` asks of `HfApi`; "somebody/public" was there before, "somebody/nowhere" is out of reach."""

    calls: list

    def __init__(self, **options):
        pass

    def create_repo(self, repo_id, **options):
        if repo_id == "somebody/nowhere":
            raise ConnectionError("no network")
        FakeApi.calls.append(("create_repo", repo_id, options))
        return SimpleNamespace(repo_id=repo_id)

    def dataset_info(self, repo_id):
        return SimpleNamespace(private=repo_id != "somebody/public")

    def upload_folder(self, **options):
        FakeApi.calls.append(("upload_folder", options["repo_id"], options))
        return "https://hub/commit/1"


@pytest.fixture
def api(monkeypatch):
    FakeApi.calls = []
    monkeypatch.setattr("huggingface_hub.HfApi", FakeApi)
    return FakeApi


@pytest.mark.parametrize("name", PAGES)
def test_push_refuses_what_the_licence_forbids(tree, tmp_path, api, name):
    prepare(name, tree(name), tmp_path / "out", encode="copy", **OPTIONS[name])
    with pytest.raises(LicenceError) as caught:
        push(tmp_path / "out", "somebody/corpus")
    assert PAGES[name] in str(caught.value) and api.calls == []
    assert push(tmp_path / "out", "somebody/corpus", force=True) == "https://hub/commit/1"
    (_, _, created), (_, _, uploaded) = api.calls
    assert created == {"repo_type": "dataset", "private": True, "exist_ok": True}
    assert uploaded["ignore_patterns"] == [".convert/**"]


def test_push_of_own_videos(tree, tmp_path, api):
    with pytest.raises(CorpusError, match="no conversion lies here"):
        push(tmp_path, "somebody/mine")
    prepare("folder_csv", tree("folder_csv"), tmp_path / "out", fps=30.0)
    push(tmp_path / "out", "somebody/mine")
    assert api.calls[0][2]["private"] is True
    with pytest.raises(LicenceError, match="exists and is public"):
        push(tmp_path / "out", "somebody/public")
    assert push(tmp_path / "out", "somebody/public", private=False)
    (tmp_path / "out/README.md").unlink()
    with pytest.raises(CorpusError, match="is not finished"):
        push(tmp_path / "out", "somebody/mine")


def test_the_command_pushes(tree, tmp_path, api, capsys):
    prepare("samm_lv", tree("samm_lv"), tmp_path / "licensed")
    prepare("folder_csv", tree("folder_csv"), tmp_path / "own", fps=30.0)
    assert push_command([str(tmp_path / "licensed"), "somebody/corpus"]) == 1 and api.calls == []
    assert "error: SAMM Long Videos may not be passed on" in capsys.readouterr().err
    assert push_command([str(tmp_path / "licensed"), "somebody/corpus", "--force"]) == 0
    assert push_command([str(tmp_path / "own"), "somebody/mine", "--public"]) == 0
    assert capsys.readouterr().out == "https://hub/commit/1\n" * 2
    assert push_command([str(tmp_path / "own"), "somebody/nowhere"]) == 1
    assert "error: somebody/nowhere: the Hub cannot be reached" in capsys.readouterr().err
    assert [options["private"] for call, _, options in api.calls if call == "create_repo"] == [True, False]


def test_no_corpus_is_downloaded(tmp_path):
    with pytest.raises(CorpusError, match="Nothing is downloaded: sign the licence agreement"):
        CasMe2(data_dir=str(tmp_path / "none"), cache_dir=str(tmp_path / "cache")).download_and_prepare()


def test_fedn_prepare(tree, tmp_path):
    given = [
        "prepare",
        "casme_2",
        str(tree("casme_2")),
        str(tmp_path / "out"),
        "--part",
        "raw",
        "--rule",
        "offset_zero=drop",
    ]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0 and "1  offset_zero -> drop" in done.output
    given = ["folder_csv", str(tree("folder_csv")), str(tmp_path / "own"), "--fps", "25", "--first-frame", "1"]
    assert CliRunner().invoke(app, ["prepare", *given]).exit_code == 0
    rows = [json.loads(line) for line in (tmp_path / "own/metadata.jsonl").read_text().splitlines()]
    assert [row["events"][0]["onset"] for row in rows] == [1, 0] and rows[0]["fps"] == 25
    given = ["prepare", "casme_3", str(tree("casme_3")), str(tmp_path / "v1"), "--sheet-version", "v1"]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0 and "1  version_missing -> other" in done.output
    done = CliRunner().invoke(app, ["prepare", "casme_2", str(tmp_path / "none"), str(tmp_path / "other")])
    assert done.exit_code == 1 and "sign the licence agreement" in done.output
