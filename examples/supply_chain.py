"""What fedn_hf is made of: licences of all that it needs, known faults in it, and the hashes of what pip takes.

python examples/supply_chain.py licences            a table; fails for one that is not known to be free to use
python examples/supply_chain.py audit PIP_AUDIT     known vulnerabilities of constraints.txt; see `make audit`
python examples/supply_chain.py hashes OUT          requirements with the hashes of what this index gives this machine
"""

import importlib.metadata
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FREE = re.compile(r"MIT|Apache|BSD|PSF|Python Software|ISC|0BSD|HPND|MPL|Mozilla Public|Unlicense|Zlib|CC0")
NOT_FREE = re.compile(r"(?<!L)GPL|AGPL|Proprietary|Commercial")
# Says it in a file only.
KNOWN = {"pympi-ling": "MIT (its file LICENSE; for tests only)"}


def needed() -> Iterator[tuple[str, str, str]]:
    """Name, version and licence of all that is installed of what the package and its extras need."""
    from packaging.requirements import Requirement

    waiting = [Requirement(text) for text in importlib.metadata.requires("fedn_hf") or []]
    seen = set()
    while waiting:
        requirement = waiting.pop()
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            found = importlib.metadata.distribution(requirement.name)
        except importlib.metadata.PackageNotFoundError:  # of an extra that is not installed
            continue
        yield name, found.version, KNOWN.get(name) or licence_of(found.metadata)
        further = map(Requirement, found.requires or [])
        waiting += [one for one in further if one.marker is None or one.marker.evaluate({"extra": ""})]


def licence_of(metadata) -> str:
    """What a package says, in the newer or the older ways to say it."""
    classes = [
        text.rpartition(" :: ")[2] for text in metadata.get_all("Classifier") or [] if text.startswith("License")
    ]
    said = (metadata.get("License-Expression"), " / ".join(classes), (metadata.get("License") or "").split("\n")[0])
    return next((text for text in said if text), "unknown")


def licences() -> int:
    rows = sorted(needed())
    doubtful = [row for row in rows if not FREE.search(row[2]) or NOT_FREE.search(row[2])]
    for name, version, licence in rows:
        print(f"{name:28}{version:14}{licence}")
    for name, _, licence in doubtful:
        print(f"{name}: its licence is {licence!r}; look at it, then say so in {Path(__file__).name}", file=sys.stderr)
    return 1 if doubtful else 0


def audit(program: str) -> int:
    """Fails for a known vulnerability. What cannot be looked up is no failure, but is said loudly."""
    command = [program, "--requirement", str(ROOT / "constraints.txt"), "--disable-pip", "--no-deps"]
    try:
        run = subprocess.run(
            [*command, "--format", "json", "--progress-spinner", "off", "--timeout", "10"],
            capture_output=True,
            text=True,
        )
        packages = json.loads(run.stdout)["dependencies"]
    except (OSError, ValueError, KeyError):
        loud("VULNERABILITIES WERE NOT LOOKED FOR: pip-audit is missing or cannot reach its index (see `make audit`)")
        return 0
    skipped = [package for package in packages if "skip_reason" in package]
    faulty = [package for package in packages if package.get("vulns")]
    for package in faulty:
        for fault in package["vulns"]:
            print(
                f"{package['name']} {package['version']}: {fault['id']}, mended in {fault['fix_versions'] or 'none'}"
            )
    if skipped:
        loud(f"{len(skipped)} OF {len(packages)} PACKAGES WERE NOT LOOKED UP: this index knows no vulnerabilities")
    return 1 if faulty else 0


def loud(words: str) -> None:
    print(f"\n{'!' * len(words)}\n{words}\n{'!' * len(words)}\n", file=sys.stderr)


def hashes(out: str) -> int:
    """For `pip install --require-hashes --no-deps -r OUT`, on machines like this one and with the same index."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--dry-run",
            "--ignore-installed",
            "--quiet",
            "--report",
            report,
        ]
        subprocess.run([*command, "--constraint", ROOT / "constraints.txt", str(ROOT)], check=True)
        found = json.loads(report.read_text("utf-8"))["install"]
    lines = []
    for one in found:
        kind = one["download_info"].get("archive_info")
        if kind is None:  # the package itself
            continue
        name, version = one["metadata"]["name"], one["metadata"]["version"]
        sha256 = kind.get("hashes", {}).get("sha256") or kind["hash"].partition("=")[2]
        lines.append(f"{name}=={version} --hash=sha256:{sha256}\n")
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    Path(out).write_text("".join(sorted(lines)), "utf-8")
    print(f"{out}: {len(lines)} packages")
    return 0


if __name__ == "__main__":
    commands = {"licences": licences, "audit": audit, "hashes": hashes}
    if len(sys.argv) < 2 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    sys.exit(commands[sys.argv[1]](*sys.argv[2:]))
