"""Synthetic videos (`fedn synth`) as a builder like those of the corpora, with their exact truth beside each row.

    builder = Synthetic(data_dir="synthetic")
    builder.download_and_prepare()
    videos = builder.as_dataset(split="train")  # or "validation", "test": no person is in two of them
    truth = read_truth("synthetic", videos[0]["video_id"])

The folder is a VideoFolder as well: `cast(load_dataset("synthetic"), "emotion_7")` gives the same rows.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from .corpus import check_scheme, schema
from .labels import fold
from .quirks import CorpusError

_SPLITS = ("train", "validation", "test")


@dataclass
class SyntheticConfig(datasets.BuilderConfig):
    """scheme: label scheme, one of `labels.SCHEMES`."""

    scheme: str = "emotion_7"


class Synthetic(datasets.GeneratorBasedBuilder):
    """
    Videos that `fedn synth` made.

    Args:
        data_dir: the folder that it wrote.
        scheme: label scheme; the set itself has the seven classes of "emotion_7".

    Raises:
        CorpusError: no such set, or one that is not finished.
    """

    VERSION = "1.0.0"
    BUILDER_CONFIG_CLASS = SyntheticConfig
    BUILDER_CONFIGS = [SyntheticConfig(name="default")]  # noqa: RUF012 - the library's own way to declare them

    def _info(self) -> datasets.DatasetInfo:
        check_scheme(self.config.scheme)
        return datasets.DatasetInfo(
            description="Long videos of synthetic faces with exact ground truth.", features=schema(self.config.scheme)
        )

    def _split_generators(self, dl_manager):
        root = Path(self.config.data_dir or "")
        there = [split for split in _SPLITS if (root / split / "metadata.jsonl").is_file()]
        if not self.config.data_dir or not there:
            raise CorpusError(
                f"{self.config.data_dir}: no finished set of synthetic videos lies here (train/metadata.jsonl is "
                f"missing); make one with `fedn synth -o FOLDER`, or run the same command again to finish it"
            )
        return [datasets.SplitGenerator(split, gen_kwargs={"folder": root / split}) for split in there]

    def _generate_examples(self, folder: Path) -> Iterator[tuple[int, dict[str, Any]]]:
        with open(folder / "metadata.jsonl", encoding="utf-8") as lines:
            for number, line in enumerate(lines):
                row = json.loads(line)
                video = {"path": str(folder / row.pop("file_name")), "bytes": None}
                for event in row["events"]:
                    event["emotion"] = fold(event["emotion"], self.config.scheme)
                yield number, {"video": video, **row}


def read_truth(folder: str | Path, video_id: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """
    Everything that is true of a video.

    Returns:
        Arrays of every frame (see `fedn_hf.synthetic.behaviour.Script`), and facts: person, camera, expressions, and
        distractors.

    Raises:
        CorpusError: no such video.
    """
    from safetensors.numpy import load_file

    path = Path(folder) / "truth" / f"{video_id}.safetensors"
    if not path.is_file():
        raise CorpusError(f"{path}: no such file; the truth of a synthetic video lies in truth/ beside its split")
    return load_file(path), json.loads(path.with_suffix(".json").read_text("utf-8"))


__all__ = ["Synthetic", "SyntheticConfig", "read_truth"]
