"""Every public name says what it is and shows it; the examples in docstrings run and print what they say."""

import ast
import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import fedn_hf
from fedn_hf import model_card

MODULES = sorted(module.name for module in pkgutil.walk_packages(fedn_hf.__path__, "fedn_hf."))
# The facts that a model card takes are made by hand, so they are public, too.
FACTS = ["CardError", "DatasetUse", "GroupResult", "MetricResult", "Provenance"]
PUBLIC = [(fedn_hf, name) for name in fedn_hf.__all__ if not name.startswith("_")]
PUBLIC += [(model_card, name) for name in FACTS]


class FencedParser(doctest.DocTestParser):
    """Examples stand between ```python fences, which doctest takes for output."""

    def parse(self, string, name="<string>"):
        return super().parse(
            "\n".join(line for line in string.split("\n") if not line.strip().startswith("```")), name
        )


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    for test in doctest.DocTestFinder(parser=FencedParser()).find(module, name):
        runner.run(test)
    assert not runner.failures


@pytest.mark.parametrize(("module", "name"), PUBLIC)
def test_every_public_name_has_an_example(module, name):
    thing = getattr(module, name)
    assert ">>> " in (thing.__doc__ or ""), f"{name} has no example"
    assert thing.__doc__.strip().splitlines()[0].strip() or thing.__doc__.strip().splitlines()[1].strip()


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(fedn_hf.__file__).read_text("utf-8"))
    [shown] = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    names = {name.name: part.module for part in shown.body for name in part.names if name.name == name.asname}
    assert names == fedn_hf._HOMES
