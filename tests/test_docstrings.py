"""The examples in docstrings run and print what they say."""

import doctest
import importlib

import pytest

MODULES = (
    "configuration_fedn",
    "face_fedn",
    "face_nets_fedn",
    "loss_fedn",
    "modeling_fedn",
    "postprocessing_fedn",
    "video_io_fedn",
)


class FencedParser(doctest.DocTestParser):
    """Examples stand between ```python fences, which doctest takes for output."""

    def parse(self, string, name="<string>"):
        return super().parse(
            "\n".join(line for line in string.split("\n") if not line.strip().startswith("```")), name
        )


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    module = importlib.import_module(f"fedn_hf.{name}")
    runner = doctest.DocTestRunner()
    examples = 0
    for test in doctest.DocTestFinder(parser=FencedParser()).find(module, name):
        examples += len(test.examples)
        runner.run(test)
    assert examples and not runner.failures
