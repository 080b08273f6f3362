"""transformers' own common tests, run against both models and the configuration.

They are not part of the installed library: the source distribution of the installed version is fetched through pip
and two of its files are unpacked into pytest's cache. Where that cannot be done, the summary says so.
"""

import importlib
import subprocess
import sys
import tarfile
import tempfile
import unittest
from pathlib import Path

import pytest
import torch
import transformers
from filelock import FileLock

from fedn_hf import FednConfig, FednForFacialExpressionDetection, FednModel

CACHE = Path(__file__).parents[1] / ".pytest_cache" / "transformers_suite" / transformers.__version__
PACKAGE = "transformers_common_tests"
# What the two files import from the rest of the test tree and these models have no use for.
STUBS = {
    "__init__.py": "",
    "exporters/__init__.py": "",
    "exporters/test_export.py": "class ExportTesterMixin: pass\n",
    "generation/__init__.py": "",
    "generation/test_utils.py": "class GenerationTesterMixin: pass\n",
    "utils/__init__.py": "",
    "utils/test_configuration_utils.py": "config_common_kwargs = {}\n",
}


def fetch_suite() -> str | None:
    """Unpack the test files below CACHE, once. Returns why that failed."""
    home = CACHE / PACKAGE
    if (home / "complete").exists():
        return None
    requirement = f"transformers=={transformers.__version__}"
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", "--dest", folder]
        for extra in (["--no-build-isolation"], []):  # the second when setuptools is not installed here
            try:
                run = subprocess.run([*command, *extra, requirement], capture_output=True, text=True, timeout=300)
            except subprocess.TimeoutExpired as error:
                return str(error)
            if run.returncode == 0:
                break
        else:
            return (run.stderr.strip().splitlines() or ["pip failed without a word"])[-1]
        with tarfile.open(next(Path(folder).glob("transformers-*.tar.gz"))) as archive:
            for name in ("test_modeling_common.py", "test_configuration_common.py"):
                home.mkdir(parents=True, exist_ok=True)
                member = archive.extractfile(f"transformers-{transformers.__version__}/tests/{name}")
                (home / name).write_bytes(member.read())
    for name, text in STUBS.items():
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_text(text)
    (home / "complete").touch()
    return None


CACHE.mkdir(parents=True, exist_ok=True)
with FileLock(CACHE / "lock"):  # of two processes that test, one fetches
    FAILURE = fetch_suite()
if FAILURE is None:
    sys.path.insert(0, str(CACHE))
    common = importlib.import_module(f"{PACKAGE}.test_modeling_common")
    ConfigTester = importlib.import_module(f"{PACKAGE}.test_configuration_common").ConfigTester
    ModelTesterMixin = common.ModelTesterMixin
    # The suite knows base models, which have no loss, by the library's own list.
    common.MODEL_MAPPING_NAMES = {**common.MODEL_MAPPING_NAMES, "fedn": FednModel.__name__}
else:

    class ModelTesterMixin:
        """Stands in, so that the class below can be written down; it is skipped."""

    def test_the_suite_was_fetched():
        pytest.skip(f"transformers' test files could not be fetched: {FAILURE}")


class FednModelTester:
    """A network of two levels and a tiny backbone that is not frozen, so that every parameter is trained."""

    def __init__(self, parent):
        self.parent = parent
        self.batch_size, self.num_frames, self.image_size = 3, 16, 32
        self.hidden_size, self.num_attention_heads, self.num_hidden_layers = 16, 2, 2
        self.seq_length = self.num_frames // 2  # segments
        self.is_training = True

    def get_config(self):
        return FednConfig(
            backbone_config={
                "model_type": "resnet",
                "embedding_size": 8,
                "hidden_sizes": [8, 8, 8, 8],
                "depths": [1, 1, 1, 1],
                "layer_type": "basic",
            },
            feature_size=8,
            freeze_backbone=False,
            window_size=16,
            hidden_size=self.hidden_size,
            num_attention_heads=self.num_attention_heads,
            attention_window=16,
            segment_length=4,
            regression_ranges=[[0, 8], [8, 32]],
            anchor_ratios=[1.0],
            use_intensity_head=True,
            temporal_difference=True,
            dropout=0.0,
            num_labels=3,
        )

    def prepare_config_and_inputs_for_common(self):
        size = (self.batch_size, self.num_frames, 3, self.image_size, self.image_size)
        return self.get_config(), {"pixel_values": common.floats_tensor(size)}


@unittest.skipIf(FAILURE is not None, "transformers' test files could not be fetched")
class FednSuiteTest(ModelTesterMixin, unittest.TestCase):
    all_model_classes = (FednModel, FednForFacialExpressionDetection)
    test_resize_embeddings = False
    test_can_init_all_missing_weights_before_2023 = True

    def setUp(self):
        self.model_tester = FednModelTester(self)
        self.config_tester = ConfigTester(self, config_class=FednConfig, has_text_modality=False)

    def test_config(self):
        self.config_tester.run_common_tests()

    def test_model_get_set_embeddings(self):
        for model_class in self.all_model_classes:
            model = model_class(self.model_tester.get_config())
            self.assertIsInstance(model.get_input_embeddings(), torch.nn.Linear)
            other = torch.nn.Linear(4, 4)
            model.set_input_embeddings(other)
            self.assertIs(model.get_input_embeddings(), other)

    def test_attention_outputs(self):
        """The original expects one attention per layer, over one sequence; here segments and head branches attend."""
        config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
        config._attn_implementation = "eager"
        heads, batch = self.model_tester.num_attention_heads, self.model_tester.batch_size
        segments = [(batch * 8, heads, 4, 4)]
        branches = 4 * [(batch, heads, 8, 8)]  # levels of 4 and 2 positions, and an empty one behind each
        for model_class, shapes in (
            (FednModel, segments),
            (FednForFacialExpressionDetection, segments + branches),
        ):
            model = model_class(config).eval()
            outputs = model(**inputs, output_attentions=True)
            self.assertEqual([tuple(weights.shape) for weights in outputs.attentions], shapes)
            self.assertIsNone(model(**inputs).get("attentions"))
            for weights in outputs.attentions[1:]:
                torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        inputs = super()._prepare_for_class(inputs_dict, model_class, return_labels=return_labels)
        if return_labels and model_class is FednForFacialExpressionDetection:
            event = {"intervals": torch.tensor([[2.0, 10.0]]), "type_labels": [1], "class_labels": [0]}
            inputs["labels"] = [event] * self.model_tester.batch_size
        return inputs
