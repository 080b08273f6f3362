"""What the package is made of may be used, and everything that comes with it says where it is from."""

import json
import re
import stat
import subprocess
import sys
from pathlib import Path

from examples import supply_chain

ROOT = Path(__file__).resolve().parents[1]


def test_every_dependency_may_be_used(capsys):
    assert supply_chain.licences() == 0, capsys.readouterr().err
    assert len(capsys.readouterr().out.splitlines()) > 40
    assert supply_chain.NOT_FREE.search("GPL-3.0") and not supply_chain.NOT_FREE.search("LGPL-2.1")


def test_every_pin_is_exact():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert pins and not [pin for pin in pins if not re.fullmatch(r"[\w.-]+==[\w.+!]+(?: ?;.*)?", pin)]


def test_data_that_comes_with_the_package_is_in_the_notice():
    notice = (ROOT / "NOTICE").read_text()
    ours = {".json", ".md", ".html", ".csv", ".py", ".yaml", ".eaf", ".svg"}  # written for this package
    binary = [p for place in ("fedn_hf/assets", "fedn_hf/weights", "tests/data", "examples/media")
              for p in (ROOT / place).rglob("*") if p.is_file() and p.suffix not in ours]  # fmt: skip
    unnamed = [p for p in binary if not any(str(part) in notice for part in (p.relative_to(ROOT), p.name))]
    known = {
        "face_nets.safetensors": "the notice names the folder",
        "LICENSE.mediapipe": "a licence",
        "landmark_reader.safetensors": "fitted to synthetic faces by examples/make_default_checkpoint.py",
        "model.safetensors": "the default, trained from synthetic faces by examples/make_default_checkpoint.py",
        **dict.fromkeys(("app.png", "app_narrow.png"), "made by examples/make_app_pictures.py"),
        **dict.fromkeys(("filmstrip.jpg", "overlay.jpg", "timeline.png"), "made by examples/make_pictures.py"),
        "face_nets_reference.npz": "made by tests/data/make_face_nets_reference.py",
    }
    assert {p.name for p in unnamed if "__pycache__" not in p.parts} <= known.keys()


def test_an_audit_fails_for_faults_and_is_loud_about_what_it_did_not_see(tmp_path, capsys):
    def audit(*packages):
        program = tmp_path / "pip-audit"
        program.write_text(f"#!{sys.executable}\nprint({json.dumps(json.dumps({'dependencies': packages}))})\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        return supply_chain.audit(str(program))

    sound = {"name": "a", "version": "1", "vulns": []}
    assert audit(sound) == 0 and capsys.readouterr().err == ""
    assert audit({**sound, "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}) == 1
    assert "a 1: CVE-1, mended in ['2']" in capsys.readouterr().out
    assert audit({"name": "b", "skip_reason": "not found"}) == 0 and "NOT LOOKED UP" in capsys.readouterr().err
    assert supply_chain.audit(str(tmp_path / "missing")) == 0
    assert "NOT LOOKED FOR" in capsys.readouterr().err
    assert subprocess.run([sys.executable, supply_chain.__file__], capture_output=True).returncode == 1
