"""Mutated files into readers, in processes that may die: what is no error of the reader's interface is a fault."""

import multiprocessing
import os
import random
import shutil
import signal
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from fedn_hf import MediaError

from . import mutations, watch
from .readers import READERS, Reader

_FORK = multiprocessing.get_context("fork")
_SILENCE_S = 1800.0  # of wall time for one file: also of a machine that is busy with other work most of the time
_FULL = 3  # exit code of a process whose memory is full


@dataclass
class Report:
    """What came of a reader: how many files were read, refused, and what should not have been."""

    reader: str
    inputs: int = 0
    read: int = 0
    refused: int = 0
    faults: list[tuple[int, str]] = field(default_factory=list)  # number of the input, what happened


def mutated(seeds: list[Path], contents: list[bytes], reader: Reader, name: str, number: int) -> tuple[Path, bytes]:
    """Which seed's place input `number` takes, and its content: the same whenever it is asked for."""
    chance = random.Random(f"{name} {number}")
    at = chance.randrange(len(seeds))
    suitable = [m for m in reader.mutate if m is not mutations.of_safetensors or seeds[at].suffix == ".safetensors"]
    suitable = [m for m in suitable if m is not mutations.of_zip or seeds[at].suffix in (".xlsx", ".npz")]
    return seeds[at], chance.choice(suitable or [mutations.of_bytes])(contents[at], chance, contents)


def fuzz(name: str, inputs: int, seconds: float | None = None, keep: Path | None = None, first: int = 0) -> Report:
    """
    Feed a reader.

    Args:
        name: of `READERS`.
        inputs: how many files, less where the reader's `share` says so.
        seconds: of wall time at most.
        keep: a folder for the files at fault.
        first: number of the first one.
    """
    reader, report = READERS[name], Report(name)
    stop, at = first + max(1, int(inputs * reader.share)), first
    ends = time.monotonic() + (seconds or 1e9)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder).resolve()
        torch.manual_seed(0), np.random.seed(0)
        seeds = reader.make(folder)
        contents = [seed.read_bytes() for seed in seeds]
        while at < stop and time.monotonic() < ends:
            mine, theirs = _FORK.Pipe(duplex=False)
            process = _FORK.Process(target=_work, args=(name, folder, seeds, contents, at, stop, ends, theirs))
            process.start()
            theirs.close()
            at = _listen(report, process, mine, at)
            for seed, content in zip(seeds, contents, strict=True):  # after a crash, too
                seed.write_bytes(content)
        if keep is not None:
            for number, _ in report.faults:
                seed, content = mutated(seeds, contents, reader, name, number)
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{name}-{number}{''.join(seed.suffixes)}").write_bytes(content)
    return report


def _listen(report: Report, process, connection, at: int) -> int:
    """Until the process ends; gives the number of the input that is next."""
    begun = at
    while True:
        try:
            if not connection.poll(_SILENCE_S):
                raise TimeoutError
            outcome = connection.recv()
        except (EOFError, TimeoutError) as error:
            if isinstance(error, TimeoutError):
                process.kill()
            process.join()
            if process.exitcode == 0 or (process.exitcode == _FULL and at > begun):
                return at
            if process.exitcode == 1:  # our own fault, such as a seed that is not read
                raise RuntimeError(f"{report.reader} cannot be fuzzed: see above") from None
            how = "hangs" if isinstance(error, TimeoutError) else _ending(process.exitcode)
            report.inputs += 1
            report.faults.append((at, how))
            return at + 1
        report.inputs, at = report.inputs + 1, at + 1
        report.read += outcome == "read"
        report.refused += outcome == "refused"
        if outcome not in ("read", "refused"):
            report.faults.append((at - 1, outcome))


def _ending(code: int) -> str:
    name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return f"takes more than {watch.CPU_S:g} s of CPU time" if name == "SIGPROF" else f"crashes ({name})"


def _work(name: str, folder: Path, seeds, contents, first: int, stop: int, ends: float, connection) -> None:
    import faulthandler
    import logging
    import warnings

    faulthandler.disable()  # what crashes is reported by the process that waits
    torch.set_num_threads(1)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    reader = READERS[name]
    for seed in seeds:  # imports what is needed, before imports are watched
        outcome = _outcome(reader, folder, seed)
        assert outcome == "read", f"{name}: the seed {seed.name} is not read: {outcome}"
    known = _tree(folder)
    watch.begin()
    for number in range(first, stop):
        if time.monotonic() > ends:
            break
        try:
            seed, content = mutated(seeds, contents, reader, name, number)
        except MemoryError:  # what inputs before have left is in the way of making one: a new process goes on
            os._exit(_FULL)
        seed.write_bytes(content)
        outcome = _outcome(reader, folder, seed)
        seed.write_bytes(contents[seeds.index(seed)])
        if _tree(folder) != known:
            new = sorted(map(str, _tree(folder) - known))
            outcome = f"leaves or removes files: {new[:3]}"
            for path in _tree(folder) - known:
                path.unlink()
            known = _tree(folder)
        connection.send(outcome)


def _tree(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file() and path.name != "written.json"}


def _outcome(reader: Reader, folder: Path, path: Path) -> str:
    try:
        with watch.watching(folder) as deeds:
            reader.read(path)
        outcome = "read"
    except reader.raises as error:  # that FFmpeg refuses what a header asks for is no want of memory
        shortage = isinstance(error.__cause__, MemoryError) and not isinstance(error, MediaError)
        outcome = f"needs too much memory: {error}"[:300] if shortage else "refused"
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        outcome = f"{type(error).__name__}: {error}"[:300] + f" ({Path(place.filename).name}:{place.lineno})"
    return f"does what it should not: {deeds[:3]}" if deeds else outcome


def show(report: Report) -> str:
    """A line, and one for every kind of fault."""
    kinds: dict[str, list[int]] = {}
    for number, what in report.faults:
        kinds.setdefault(what, []).append(number)
    counts = (
        f"{report.inputs:7d} inputs {report.read:7d} read {report.refused:7d} refused {len(report.faults):5d} faults"
    )
    lines = [f"{report.reader:20}{counts}"]
    lines += [f"    {len(numbers)} x {what}, such as {numbers[0]}" for what, numbers in list(kinds.items())[:12]]
    return "\n".join(lines)


def clear(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
