"""What every test shares: one thread and a fixed seed, so that results and times repeat."""

from collections import Counter

import pytest
import torch

torch.set_num_threads(1)


# Marks on transformers' own tests, see test_transformers_suite.py.
THEIR_MARKS = ("accelerate_tests", "flash_attn_test", "flash_attn_3_test", "flash_attn_4_test", "torch_compile_test")
COUNTED = ("passed", "skipped", "failed")


def pytest_configure(config):
    for mark in THEIR_MARKS:
        config.addinivalue_line("markers", f"{mark}: set by transformers' test suite")


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)


def pytest_terminal_summary(terminalreporter):
    """Say how transformers' own test suite went, and loudly so if it did not run."""
    counts, absent = Counter(), []
    for outcome, reports in terminalreporter.stats.items():
        for report in reports:
            if "test_transformers_suite.py" in getattr(report, "nodeid", "") and outcome in COUNTED:
                counts[outcome] += report.when == "call" or outcome == "skipped"
                absent += [report] if "could not be fetched" in str(report.longrepr) else []
    if absent:
        terminalreporter.write_sep("!", "transformers' own test suite DID NOT RUN: it could not be fetched", red=True)
    elif counts:
        summary = ", ".join(f"{counts[outcome]} {outcome}" for outcome in COUNTED)
        terminalreporter.write_sep("=", f"transformers' own test suite: {summary}")
