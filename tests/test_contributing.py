"""What CONTRIBUTING.md shows is run, in its order: a block that begins with a file's name is that file."""

import importlib
import re
from pathlib import Path

import pytest
import yaml

import fedn_hf
from fedn_hf import exporters

from .corpora import write_images

GUIDE = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text("utf-8")
SECTIONS = {
    title: re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    for title, text in re.findall(r"^## (A new \w+)\n(.*?)(?=^## |\Z)", GUIDE, re.MULTILINE | re.DOTALL)
}


@pytest.mark.parametrize("title", SECTIONS)
def test_what_is_shown_runs(title, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(exporters, "__path__", [*exporters.__path__, str(tmp_path)])
    monkeypatch.setattr(exporters, "FORMATS", dict(exporters.FORMATS))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    write_images(tmp_path / "lab" / "anna_1", range(1, 41), "{:03d}.jpg")
    (tmp_path / "lab" / "coding.csv").write_text(
        "video,onset,apex,offset,type,emotion\nanna_1,11,15,20,micro-expression,surprise\n", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(tmp_path)
    names = {}
    for block in SECTIONS[title]:
        file = re.match(r"# (\S+)/(\w+)\.py\n", block)
        if file is None:
            exec(compile(block, title, "exec"), names)
            continue
        Path(f"{file[2]}.py").write_text(block, encoding="utf-8")
        if file[1] != "fedn_hf/exporters":  # which `Format` imports
            names |= vars(importlib.import_module(file[2]))


def test_the_tour_names_every_room():
    rooms = {path.stem if path.is_file() else f"{path.name}/" for path in Path(fedn_hf.__file__).parent.iterdir()}
    rooms -= {"__init__", "__pycache__/", "assets/", "weights/", "py", "version"}
    tour = GUIDE.split("## Rules")[0].replace("face_*_fedn", "face_fedn")
    assert {room for room in rooms if f"`{room}`" not in tour and not re.match(r"face_\w+_fedn$", room)} == set()


def test_papers_are_of_this_version():
    root = Path(__file__).parents[1]
    assert yaml.safe_load((root / "CITATION.cff").read_text("utf-8"))["version"] == fedn_hf.__version__
    assert f"\n## [{fedn_hf.__version__}]" in (root / "CHANGELOG.md").read_text("utf-8")
