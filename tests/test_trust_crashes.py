"""Writers that are killed, meet each other, or meet a disk that is full or read-only: what was there stays."""

import json
import multiprocessing
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from pyarrow import parquet
from transformers.utils import logging
from typer.testing import CliRunner

from fedn_hf import FednConfig, FednForFacialExpressionDetection, ModelCard, exporters, load_pipeline
from fedn_hf.archive import write_tables
from fedn_hf.cli import app
from fedn_hf.data.cache import FeatureCache, VideoFeatures
from fedn_hf.files_fedn import replacing
from fedn_hf.media_fedn import FednError
from fedn_hf.overlay import render
from fedn_hf.results_fedn import FednDetections
from fedn_hf.training.checkpoints import Checkpoints, TrainingState
from fedn_hf.training.detections import read_detections, write_detections
from fedn_hf.training.inputs import Inputs
from fedn_hf.training.loso import DETECTIONS
from fedn_hf.training.report import REPORT, event_rows, expressions, report_on, truth_of, write_report
from fedn_hf.video_io_fedn import VideoReader
from tests import clips, results, training_sets
from tests.corpora import folder_csv
from tests.test_archive import part_with
from tests.test_training_cli import write as write_corpus
from tests.test_training_loso import MODEL

ROOT = Path(__file__).resolve().parents[1]
FORK = multiprocessing.get_context("fork")
# Whatever is done with files passes by here: places to be killed at.
DEEDS = {"open", "os.rename", "os.remove", "os.mkdir", "os.symlink", "os.rmdir", "shutil.rmtree"}
ENDS = {"png": b"IEND\xaeB`\x82", "svg": b"</svg>", "html": b"</html>"}
SMALL = {"num_landmarks": 468, "feature_size": 0, "backbone_config": None, "hidden_size": 16, "num_attention_heads": 2}


class Annotations:
    """Files of one format: an annotation with one or two expressions."""

    def __init__(self, folder, name):
        self.folder, self.name, self.path = folder, name, folder / f"a{exporters.FORMATS[name].suffix}"

    def write(self, version):
        events = [results.event(10 * n, 10 * n + 4, 10 * n + 8) for n in range(version)]
        results.annotation(events, 2.0, "a.mp4").write(self.path, self.name)

    def version(self):
        if self.name in ENDS:
            content = self.path.read_bytes().rstrip()
            assert content.endswith(ENDS[self.name])
            return None
        return len(exporters.read(self.path)[0])


class Raw:
    """Raw detections of one or two frames."""

    def __init__(self, folder):
        self.folder, self.path = folder, folder / "a.raw.safetensors"

    def write(self, version):
        times = torch.arange(version) / 30.0
        names = ([], ["macro-expression", "micro-expression"], 0.1, {})
        FednDetections({"path": "a.mp4"}, *names, times, torch.arange(version), []).save(self.path)

    def version(self):
        return len(FednDetections.load(self.path).time_s)


class Training:
    """The checkpoints of a run."""

    def __init__(self, folder):
        self.folder, self.network = folder, FednForFacialExpressionDetection(FednConfig(**SMALL))
        self.tensors = {f"model.{name}": values for name, values in self.network.state_dict().items()}

    def write(self, version):
        run = Checkpoints(self.folder, keep=1)
        step = 1 if run.newest() is None else int(run.newest().name[-8:]) + 1
        run.save(TrainingState(step=step), self.tensors, self.network)

    def version(self):
        optimizer = torch.optim.AdamW(self.network.parameters())
        assert Checkpoints(self.folder, keep=1).resume(self.network, self.network, optimizer).step > 0


class Report:
    """What was found on two or three subjects, and the report on it."""

    def __init__(self, folder):
        self.folder, self.made = folder, {}
        for version in (1, 2):
            rows = training_sets.rows(version + 1)
            found = [{**row, "score": 0.9} for row in event_rows(rows)]
            chosen = {"macro": 0.5, "micro": 0.5}
            self.made[version] = found, report_on(expressions(found), *truth_of(rows), thresholds=chosen)

    def write(self, version):
        found, report = self.made[version]
        write_detections(found, self.folder / DETECTIONS)
        write_report(report, self.folder)

    def version(self):
        report = json.loads((self.folder / REPORT).read_text())
        assert report["validated_by_type"]["overall"]["events"] in (8, 12)
        return len({row["subject"] for row in read_detections(self.folder / DETECTIONS)}) - 1


class Tables:
    """The tables of an archive with one or two videos."""

    def __init__(self, folder):
        self.folder = folder

    def write(self, version):
        write_tables([part_with(self.folder, **dict.fromkeys("ab"[:version], "done"))], self.folder)

    def version(self):
        counts = [parquet.read_table(self.folder / f"{name}.parquet").num_rows for name in ("videos", "expressions")]
        assert set(counts) <= {1, 2}
        return counts[0]


class Card:
    """The model card of a checkpoint with one or two names for what it finds."""

    def __init__(self, folder):
        self.folder = folder
        self.cards = [ModelCard.from_config(FednConfig(**SMALL, id2label=dict(enumerate("ab"[:n])))) for n in (1, 2)]

    def write(self, version):
        self.cards[version - 1].save(self.folder)

    def version(self):
        return 1 + [card.render() for card in self.cards].index((self.folder / "README.md").read_text("utf-8"))


class Saved:
    """A network and its names for emotions: those of one must not come together with what another has learnt."""

    deeds = 40

    def __init__(self, folder):
        logging.disable_progress_bar()  # processes share its lock, also with one that is killed
        self.path, self.networks = folder / "model", {}
        for version in (1, 2):
            config = FednConfig(**SMALL, id2label=dict(enumerate(str(version) * 7)))
            self.networks[version] = FednForFacialExpressionDetection(config)
            torch.nn.init.constant_(next(self.networks[version].parameters()), version)

    def write(self, version):
        Inputs(self.networks[version].config, None).save_model(self.networks[version], self.path)

    def version(self):
        if not (self.path / "config.json").exists():
            return None
        network = FednForFacialExpressionDetection.from_pretrained(self.path)
        version = int(network.config.id2label[0])
        assert (next(network.parameters()) == version).all()
        return version


class Whole(Saved):
    """The same with the face networks and all code."""

    deeds = 120

    def __init__(self, folder):
        super().__init__(folder)
        self.detect = load_pipeline(device="cpu")

    def write(self, version):
        self.detect.model = self.networks[version]
        self.detect.save_pretrained(self.path)


class Cache:
    """Entries of the feature cache; reading one that is not whole computes it again."""

    def __init__(self, folder):
        self.folder = folder

    def write(self, version):
        facts = {"content": version}
        inputs = {"frame_features": torch.ones(version, 8), "frame_mask": torch.ones(version).bool()}
        told = {"video": "a", "truncated_at_s": None, "key": facts}
        made = VideoFeatures(inputs, np.arange(version), np.arange(version) / 30, told)
        assert len(FeatureCache(self.folder).get_or_compute(facts, lambda: made)) == version

    def version(self):
        found = [FeatureCache(self.folder).get({"content": version}) for version in (1, 2)]
        assert len(found[0]) == 1 and len(found[1] or [0, 0]) == 2
        return 1 if found[1] is None else 2


class Overlay:
    """A copy of a clip with one or two expressions drawn on it."""

    def __init__(self, folder):
        self.clip, self.path = folder.with_name("clip.mp4"), folder / "a.mp4"
        clips.make(self.clip, times=[n / 25 for n in range(10)])

    def write(self, version):
        events = [results.event(4 * n, 4 * n + 1, 4 * n + 3) for n in range(version)]
        render(results.annotation(events, 0.4, str(self.clip)), self.clip, self.path)

    def version(self):
        reader = VideoReader(self.path)
        assert sum(len(batch) for batch in reader) == 10 and reader.truncated_at_s is None


WRITERS = {name: lambda folder, name=name: Annotations(folder, name) for name in exporters.FORMATS}
WRITERS |= {"raw": Raw, "training": Training, "report": Report, "tables": Tables, "card": Card, "saved": Saved}
WRITERS |= {"whole": Whole, "cache": Cache}


def ended(work, before=lambda: None):
    """Do something in another process; gives how it ended: 0, 1 for an error, or minus the signal."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            before()
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def at_deed(number):
    """Kill this process when it does something with a file for the `number`-th time."""
    left = [number]

    def note(event, arguments):
        if event in DEEDS:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(note)


def after(seconds):
    """Have the system end this process, in the middle of whatever it does."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def check_kills(make, folder, kills, longest_s=0.03):
    chance = random.Random(str(folder.name))
    writer = make(folder)
    writer.write(1)
    killed = 0
    for number in range(kills):
        deed, seconds = chance.randrange(getattr(writer, "deeds", 12)), 0.0002 + chance.random() * longest_s
        killed += ended(lambda: writer.write(2), partial(at_deed, deed) if number % 2 else partial(after, seconds)) < 0
        assert writer.version() in (None, 1, 2)
        writer.write(1)
    writer.write(2)
    assert writer.version() in (None, 2)
    left = [
        path.name for path in folder.rglob("*") if path.name.endswith((".partial", ".partial.lock", ".unfinished"))
    ]
    assert left == []  # what the killed ones left has been taken over
    return killed


@pytest.mark.parametrize("name", WRITERS)
def test_killed_at_random_points_there_is_the_old_file_or_the_new_one(name, tmp_path):
    check_kills(WRITERS[name], tmp_path, 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITERS)
def test_killed_a_hundred_times(name, tmp_path):
    assert check_kills(WRITERS[name], tmp_path, 100) > 10  # what is in the cache already is only read


@pytest.mark.slow
def test_killed_while_a_video_is_drawn_on(tmp_path):
    (tmp_path / "out").mkdir()
    assert check_kills(Overlay, tmp_path / "out", 40, longest_s=0.5) > 10


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    """A recipe, and two corpora of features; the flags that name them, and those that name the second for testing."""
    folder = tmp_path_factory.mktemp("corpora")
    recipe = {"model": MODEL, "training": {**training_sets.QUICK, "learning_rate": 0.01}}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (folder / "b").mkdir()
    train = ["--config", folder / "recipe.yaml", "--fps", "30", *write_corpus(folder, training_sets.rows())]
    test = write_corpus(folder / "b", training_sets.rows(3, seed=1))
    (folder / "b" / "sheets").rename(folder / "b" / "others")
    test[-1] = folder / "b" / "others"
    return train, [str(word).replace("--", "--test-") for word in test]


def check_command(words, folder, kills):
    """Killed at random points, and again and again, the same command ends with the files of a run without all that."""
    chance = random.Random(str(folder.name))
    fedn = ["fedn", *map(str, words), "-o"]

    def run(out):
        sys.argv = [*fedn, str(out)]
        app(sys.argv[1:], standalone_mode=False)

    assert ended(partial(run, folder / "unbroken")) == 0
    killed = 0
    for number in range(kills):
        point = partial(at_deed, chance.randrange(150)) if number % 2 else partial(after, 0.2 + 0.8 * chance.random())
        killed += ended(partial(run, folder / "killed"), point) < 0
        check_whole(folder / "killed")
    assert ended(partial(run, folder / "killed")) == 0
    # In the log stands how long steps took; of what was to be removed in the end something may be left.
    without = re.compile(r"log\.jsonl|\.lock|.*\.partial\.lock|epoch-\d+\.parquet")
    killed_files, files = (
        {path: content for path, content in everything(folder / name).items() if not without.fullmatch(path.name)}
        for name in ("killed", "unbroken")
    )
    assert killed_files == files and len(files) > 10
    return killed


def check_whole(folder):
    """Nothing half done is among the files that have their names."""
    for path in folder.rglob("*"):
        if ".partial" in str(path) or ".unfinished" in str(path):
            continue
        if path.suffix == ".json":
            json.loads(path.read_text("utf-8"))
        if path.suffix == ".parquet":
            read_detections(path)
        if path.name == "config.json":
            FednForFacialExpressionDetection.from_pretrained(path.parent)


@pytest.mark.parametrize("kills", [2, pytest.param(30, marks=pytest.mark.slow)])
@pytest.mark.parametrize("command", ["train", "loso"])
def test_training_that_is_killed_at_random_points_ends_as_if_it_had_not_been(command, kills, corpora, tmp_path):
    train, test = corpora
    words = [*train, *test, "--validation", "sheets/s3"] if command == "train" else [*train, "--epochs", "1"]
    assert check_command([command, *words], tmp_path, kills) >= kills / 3


def rest_of(group):
    """How many processes of a group there are still."""
    count = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            state, _, its = path.read_text().rpartition(")")[2].split()[:3]
            count += int(its) == group and state != "Z"
    return count


@pytest.mark.slow
def test_an_archive_that_is_killed_at_random_points_ends_as_if_it_had_not_been(tmp_path):
    """The whole command; its workers and their sandboxes end with it."""
    chance = random.Random(0)
    (tmp_path / "videos").mkdir()
    for number in range(8):
        clips.make(tmp_path / "videos" / f"{number}.mp4", times=[n / 25 for n in range(25 + 25 * number)])
    (tmp_path / "videos" / "faces.mp4").symlink_to(ROOT / "examples" / "media" / "synthetic.mp4")
    code = "import sys; sys.argv[0] = 'fedn'; from fedn_hf.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "archive", tmp_path / "videos", "--workers", "2", "--save-raw", "-o"]

    def start(name):
        return subprocess.Popen([*command, tmp_path / name], cwd=ROOT, process_group=0)

    assert start("unbroken").wait() == 0
    # By how far it is and not by the clock, which on a busy machine says nothing.
    points, killed, kept = sorted(chance.sample(range(2, len(everything(tmp_path / "unbroken"))), 6)), 0, {}
    for point in points:
        process = start("killed")
        while process.poll() is None and len(list((tmp_path / "killed").rglob("*"))) < point:
            time.sleep(0.005)
        time.sleep(0.1 * chance.random())
        process.kill()
        killed += process.wait() == -signal.SIGKILL
        while rest_of(process.pid):
            time.sleep(0.1)
        for path in (tmp_path / "killed").glob("videos/*.json"):
            assert exporters.read(path)
        for path in (tmp_path / "killed").glob("videos/*.safetensors"):
            FednDetections.load(path)
        rows = {path: path.read_bytes() for path in (tmp_path / "killed").glob("rows/*/*.json")}
        assert kept.items() <= rows.items()  # what is done is not done again
        kept = rows
    assert start("killed").wait() == 0 and killed > 3
    assert everything(tmp_path / "killed" / "videos") == everything(tmp_path / "unbroken" / "videos")
    for name, apart in (("expressions", []), ("videos", ["took_s", "ended", "archive"])):
        tables = [parquet.read_table(tmp_path / out / f"{name}.parquet") for out in ("killed", "unbroken")]
        assert tables[0].num_rows and tables[0].drop(apart).equals(tables[1].drop(apart))
    assert not [path for path in (tmp_path / "killed").rglob("*") if ".partial" in path.name]


def everything(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def full(hard_limit=40):
    """No file may be longer than a few bytes: as on a full disk, but for the number of the error."""
    sys.dont_write_bytecode = True  # Python would cut it off, and not notice
    resource.setrlimit(resource.RLIMIT_FSIZE, (40, hard_limit))


@pytest.mark.parametrize("name", sorted(WRITERS.keys() - {"cache"}))
def test_on_a_full_disk_what_was_there_stays(name, tmp_path):
    writer = WRITERS[name](tmp_path)
    writer.write(1)
    before = everything(tmp_path)

    def work():
        try:
            writer.write(2)
        except (OSError, FednError):
            os._exit(7)

    assert ended(work, full) == 7
    after_it = everything(tmp_path)
    assert {path: after_it[path] for path in before} == before
    assert not [path for path in after_it.keys() - before.keys() if path.parts[0] != "checkpoints"]


@pytest.mark.parametrize("command", ["report", "archive"])
def test_a_command_says_in_a_line_that_the_disk_is_full(command, tmp_path):
    results.truth().write(tmp_path / "a.json")
    clips.make(tmp_path / "a.mp4", times=[n / 25 for n in range(10)])
    words, out = {
        "report": (["report", tmp_path / "a.json", "-o", tmp_path / "a.html", "--no-faces"], tmp_path / "a.html"),
        "archive": (["archive", tmp_path / "a.mp4", "-o", tmp_path / "out"], tmp_path / "out" / "archive.json"),
    }[command]
    said = tmp_path / "said"
    said.touch()

    def work():
        ran = CliRunner().invoke(app, [str(word) for word in words])
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        said.write_text(f"{ran.exit_code} {ran.output}")

    assert ended(work, partial(full, resource.RLIM_INFINITY)) == 0
    assert said.read_text() == f"2 error: [Errno 27] File too large: '{out}'\n"
    assert not out.exists()


@pytest.mark.parametrize("command", ["prepare", pytest.param("synth", marks=pytest.mark.slow)])
def test_a_full_disk_stops_a_set_of_videos_and_it_goes_on_later(command, tmp_path):
    if command == "prepare":
        words, first = ["prepare", "folder_csv", folder_csv(tmp_path / "given"), None, "--fps", "25"], "settings.json"
    else:
        pytest.importorskip("numba")
        from fedn_hf.synthetic.face_model import FaceModel

        FaceModel.tiny().save(tmp_path / "head.npz")
        words, first = ["synth", "--subjects", "1", "--videos-per-subject", "2", "--seconds", "2"], "order.json"
        words += ["--size", "64", "--fps", "10", "--face-model", tmp_path / "head.npz", "-o", None]

    def said_of(out, longest):
        def work():
            sys.dont_write_bytecode = True
            resource.setrlimit(resource.RLIMIT_FSIZE, (longest, resource.RLIM_INFINITY))
            ran = CliRunner().invoke(app, [str(word) if word else str(out) for word in words])
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
            (tmp_path / "said").write_text(f"{ran.exit_code} {ran.output}")

        assert ended(work) == 0
        return (tmp_path / "said").read_text()

    assert said_of(tmp_path / "whole", resource.RLIM_INFINITY).startswith("0 ")
    whole = everything(tmp_path / "whole")
    *_, (before, _), (_, largest) = sorted((len(content), path) for path, content in whole.items())
    for longest, name in ((0, first), (before, largest.name)):
        said = said_of(tmp_path / "out", longest)
        assert said.startswith("2 error: ") and said.count("\n") == 1 and "too large" in said and name in said
    # The largest file is the last one, so all videos are there by now, and stay.
    videos = {path: content for path, content in whole.items() if path.suffix == ".mp4"}
    assert len(videos) == 2 and videos.items() <= everything(tmp_path / "out").items()
    assert said_of(tmp_path / "out", resource.RLIM_INFINITY).startswith("0 ")
    assert (
        everything(tmp_path / "out").keys() == whole.keys() and videos.items() <= everything(tmp_path / "out").items()
    )


@pytest.mark.slow
@pytest.mark.parametrize("options", ["size=16k", "ro,size=1m"])
@pytest.mark.parametrize("name", sorted(WRITERS.keys() - {"training"}))
def test_on_a_disk_that_is_really_full_or_read_only(name, options, tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True).returncode:
        pytest.skip("only root may mount a disk")
    try:
        if "ro" not in options:
            (place / "filling").write_bytes(bytes(15_000))
            with pytest.raises(OSError):
                (place / "more").write_bytes(bytes(15_000))
            (place / "more").unlink()
        before = everything(place)
        with pytest.raises((OSError, FednError), match=r"space|[Rr]ead-only|cannot be written"):
            for _ in range(3):
                WRITERS[name](place).write(2)
                (place / "filling").write_bytes(bytes(16_300))
        assert everything(place).keys() - before.keys() <= {
            path for path in everything(place) if "partial" not in path.name
        }
    finally:
        subprocess.run(["umount", place], check=True)


def _write_slowly(path, letter):
    for _ in range(40):
        with replacing(path) as unfinished, open(unfinished, "w") as file:
            for _ in range(50):
                file.write(letter * 1000)
                file.flush()


def test_two_processes_that_write_one_file_wait_for_each_other(tmp_path):
    writers = [FORK.Process(target=_write_slowly, args=(tmp_path / "out", letter)) for letter in "ab"]
    for writer in writers:
        writer.start()
    seen = set()
    while any(writer.is_alive() for writer in writers):
        if (tmp_path / "out").exists():
            seen.add((tmp_path / "out").read_text())
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert seen <= {"a" * 50_000, "b" * 50_000} and seen
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_asked_to_end_a_command_leaves_nothing_half_done(name, tmp_path):
    code = f"""
import os, signal, sys, time
from pathlib import Path
sys.argv[0] = "fedn"  # imports no network
from fedn_hf import cli
from fedn_hf.files_fedn import replacing

signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background are started without it

@cli.app.command()
def linger():
    with replacing({str(tmp_path / "out")!r}) as unfinished:
        unfinished.write_text("half")
        os.kill(os.getpid(), signal.{name})
        time.sleep(60)

sys.argv = ["fedn", "linger"]
cli.main()
"""
    (tmp_path / "out").write_text("whole")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")
    assert os.listdir(tmp_path) == ["out"] and (tmp_path / "out").read_text() == "whole"
