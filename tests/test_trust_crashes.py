"""Writers that are killed, meet each other, or meet a disk that is full or read-only: what was there stays."""

import multiprocessing
import os

from fedn_hf.files_fedn import replacing

FORK = multiprocessing.get_context("fork")


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
