"""Where commands write: not over what a person made or changed, and it is said before the work."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedn_hf.cli import app
from fedn_hf.cli.written import LEDGER
from fedn_hf.exporters import FORMATS, files_of
from tests.results import annotation, event

DEMO = Path(__file__).resolve().parents[1] / "fedn_hf" / "assets" / "demo.mp4"


def fedn(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    annotation([event(30, 40, 60)], 4.0, "a.mp4").write("a.json")
    annotation([event(30, 40, 90)], 4.0, "a.mp4").write("other/a.json")
    return tmp_path


@pytest.fixture(autouse=True)
def other_folder(tmp_path):
    (tmp_path / "other").mkdir()


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_not_as_fedn_wrote_it_is_kept(name, found):
    """Every file of every format, also the one beside; a table that was edited lost hours of a person before."""
    export = ("export", "a.json", "-o", "out", "--format", name)
    for _ in range(2):  # its own file it replaces
        assert fedn(*export).exit_code == 0
    for file in files_of(Path("out") / f"a{FORMATS[name].suffix}"):
        edited = file.read_bytes() + b" "
        file.write_bytes(edited)
        ran = fedn(*export)
        assert ran.exit_code == 2 and f"{file} has been changed since fedn wrote it" in ran.stderr
        assert "--overwrite" in ran.stderr and file.read_bytes() == edited
        assert fedn(*export, "--overwrite").exit_code == 0
        content = file.read_bytes()  # some formats hold the second in which they were written
        assert content != edited
        Path("out", LEDGER).unlink()
        ran = fedn("export", "other/a.json", *export[2:])
        assert ran.exit_code == 2 and f"{file.parent / 'a'}" in ran.stderr and "not from fedn" in ran.stderr
        assert file.read_bytes() == content
        assert fedn(*export, "--overwrite").exit_code == 0


def test_detect_replaces_its_own_results_and_no_others(tmp_path):
    detect = ("detect", DEMO, "--end", "0.5", "-o", tmp_path, "--save-raw")
    table = tmp_path / "demo.csv"
    assert fedn(*detect).exit_code == 0
    assert fedn(*detect, "--score-threshold", "0.2").exit_code == 0  # other results, which nobody has touched
    table.write_text("by hand")
    for command in (detect, ("postprocess", tmp_path, "-o", tmp_path)):
        ran = fedn(*command)
        assert ran.exit_code == 2 and f"{table} has been changed since fedn wrote it" in ran.stderr
        assert table.read_text() == "by hand"
    assert "skipped" in fedn(*detect, "--skip-existing").stdout
    (tmp_path / "demo.json").unlink()
    assert fedn(*detect, "--skip-existing").exit_code == 2 and table.read_text() == "by hand"
    table.rename(tmp_path / "mine.csv")
    assert fedn(*detect).exit_code == 0 and "onset_s" in table.read_text()
    table.write_text("by hand")
    assert fedn(*detect, "--overwrite").exit_code == 0 and "onset_s" in table.read_text()


# A command that writes one file, but for where; what it would read is not there, so anything said of -o is said first.
ONE_FILE = {
    "mine.json": "benchmark gone.mp4 -o {}",
    "mine.mp4": "render gone.mp4 gone.json -o {}",
    "mine.html": "report gone.json -o {}",
    "mine.npz": "synth face-model gone -o {}",
    "mine.eaf": "export a.json -o {}",
}


@pytest.mark.parametrize("name", ONE_FILE)
def test_one_file_is_kept_and_its_place_looked_at_before_the_work(name, found):
    Path(name).write_text("by hand")
    ran = fedn(*ONE_FILE[name].format(name).split())
    assert ran.exit_code == 1 and f"{name} is there already, and not from fedn" in ran.stderr
    assert Path(name).read_text() == "by hand"
    ran = fedn(*ONE_FILE[name].format(name).split(), "--overwrite")
    assert "not from fedn" not in ran.stderr
    for place, said in (("other", "a folder; name a file"), ("no/" + name, "no: no such folder")):
        if "." in place or name in ("mine.json", "mine.npz"):  # elsewhere a suffix is asked for first
            assert said in fedn(*ONE_FILE[name].format(place).split()).stderr
    if Path("/proc/version").exists():  # a folder in which not even root can make a file
        ran = fedn(*ONE_FILE[name].format(f"/proc/{name}").split())
        assert ran.exit_code == 1 and "/proc cannot be written to" in ran.stderr


FOLDERS = ("detect {demo} -o", "postprocess raw -o", "export a.json --format csv -o", "train --videos other -o",
           "loso --videos other -o", "prepare folder_csv other", "synth -o", "pull name/of-model -o",
           "archive run {demo} -o", "archive merge other -o")  # fmt: skip


@pytest.mark.skipif(not Path("/proc/version").exists(), reason="needs a folder in which nobody can make a file")
@pytest.mark.parametrize("words", FOLDERS)
def test_a_folder_that_takes_no_files_is_said_before_the_work(words, found):
    Path("raw").mkdir()
    Path("raw/a.raw.safetensors").touch()
    for folder in ("/proc/out", "/proc/a/b"):
        ran = fedn(*words.format(demo=DEMO).split(), folder)
        assert ran.exit_code == 1 and f"{folder}: " in ran.stderr, ran.stderr
        assert "cannot be written to" in ran.stderr or "cannot be the folder" in ran.stderr
