"""`python -m tests.fuzz`: many mutated files for every reader; what is at fault is kept under build/fuzz."""

import argparse
import sys
import time
from pathlib import Path

from .harness import clear, fuzz, show
from .readers import READERS

parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
parser.add_argument("readers", nargs="*", help=f"which ones; all of them: {', '.join(READERS)}")
parser.add_argument("--inputs", type=int, default=10_000, help="for each reader")
parser.add_argument("--first", type=int, default=0, help="number of the first one: others make other files")
parser.add_argument("--seconds", type=float, help="at most, for each reader")
given = parser.parse_args()
keep = Path("build") / "fuzz"
clear(keep)
total = faults = 0
for name in given.readers or READERS:
    began = time.monotonic()
    report = fuzz(name, given.inputs, given.seconds, keep, given.first)
    print(f"{show(report)}   {time.monotonic() - began:.0f} s", flush=True)
    total, faults = total + report.inputs, faults + len(report.faults)
print(f"{total} inputs, {faults} faults" + (f"; the files lie in {keep}" if faults else ""))
sys.exit(faults > 0)
