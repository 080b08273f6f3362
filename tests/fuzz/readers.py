"""The readers, each with files that it reads, the mutations that suit them, and the errors that are its interface."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from PIL import Image

from dataset_scripts import casme_2, casme_3, convert, features, folder_csv, samm_lv
from fedn_hf import (
    FednConfig,
    FednForFacialExpressionDetection,
    FednVideoProcessor,
    MediaLimits,
    VideoReader,
    exporters,
)
from fedn_hf.archive import Archive, read_manifest, write_tables
from fedn_hf.data.cache import FeatureCache, VideoFeatures
from fedn_hf.exporters.mapping import CodeMapping
from fedn_hf.hub import check_checkpoint
from fedn_hf.loading import load_pipeline
from fedn_hf.media_fedn import FednError
from fedn_hf.postprocessing_fedn import FednProposals
from fedn_hf.results_fedn import FaceDetections, FednDetections
from fedn_hf.training.checkpoints import Checkpoints, TrainingState
from fedn_hf.training.settings import Recipe
from tests import clips, corpora, results
from tests.test_archive import part_with

from . import mutations

ROOT = Path(__file__).resolve().parents[2]
LIMITS = MediaLimits(max_pixels=2**21, max_duration_s=3600.0)


@dataclass(frozen=True)
class Reader:
    """
    make: writes seeds into a folder: files that are mutated, one at a time.
    read: reads what lies in a folder; the file that was mutated is given, too.
    mutate: kinds of mutations.
    raises: what it may raise.
    share: of the inputs that are asked for, where one takes long.
    """

    make: Callable[[Path], list[Path]]
    read: Callable[[Path], object]
    mutate: tuple[Callable, ...]
    raises: tuple[type[Exception], ...] = (FednError,)
    share: float = 1.0


def _make_videos(folder: Path) -> list[Path]:
    names = ("h264.mp4", "h264-fragments.mp4", "h264.mkv", "vp8.webm", "mpeg4.avi", "mjpeg.avi", "wmv2.wmv", "h264.ts")
    names += ("mpeg2.mpg", "hevc.mov", "ffv1-odd.mkv", "vp9-odd.webm")
    few = {"times": [n / 25 for n in range(6)]}
    return [clips.make(folder / name, **{**clips.CLIPS[name], **few}) for name in names]


def _read_video(path: Path) -> None:
    for options in ({}, {"fps": 30.0, "start_s": 0.1}):
        for _ in islice(VideoReader(path, limits=LIMITS, threads=1, batch_size=8, **options), 4):
            pass


def _make_images(folder: Path) -> list[Path]:
    image, paths = Image.fromarray(clips.picture(5)), []
    for suffix in ("png", "jpg", "bmp", "tif", "webp", "png"):
        place = folder / f"{suffix}{len(paths)}"
        place.mkdir()
        image.save(place / f"img1.{suffix}")
        paths.append(place / f"img1.{suffix}")
    return paths


def _read_images(path: Path) -> None:
    list(VideoReader(path.parent, native_fps=25, limits=LIMITS))


def _annotations():
    first = results.truth()
    yield first.crop(2, 4)
    yield results.with_faces(first.crop(3, 4), 2)


def _make_annotation(name: str) -> Callable[[Path], list[Path]]:
    def make(folder: Path) -> list[Path]:
        paths = []
        for number, annotation in enumerate(_annotations()):
            paths.append(folder / f"seed{number}{exporters.FORMATS[name].suffix}")
            exporters.write_many([annotation], paths[-1], name, with_provenance=False)
        return paths

    return make


def _read_annotation(path: Path) -> None:
    for mapping in (None, CodeMapping(fps=25.0)):
        for annotation in exporters.read(path, mapping):
            annotation.to_dict(), annotation.to_pandas(), annotation.time_budget()
            annotation.write(path.parent / "written.json")


def _make_mapping(folder: Path) -> list[Path]:
    (folder / "codes.yaml").write_text(exporters.mapping.__doc__.partition("\n\n")[2])
    return [folder / "codes.yaml"]


def _read_mapping(path: Path) -> None:
    CodeMapping.read(path).meaning("Micro", "HAP")


def _make_raw(folder: Path) -> list[Path]:
    proposals = FednProposals(torch.rand(6, 2) * 8, torch.tensor(8), torch.rand(6), torch.rand(6, 2), torch.rand(6, 7))
    face = FaceDetections(0, 0, proposals, torch.ones(8).bool(), *torch.rand(3, 8))
    names = (list("abcdefg"), ["macro-expression", "micro-expression"], 0.1, {})
    raw = FednDetections({"path": "a.mp4"}, *names, torch.arange(8) / 30.0, torch.arange(8), [face])
    raw.save(folder / "a.raw.safetensors")
    return [folder / "a.raw.safetensors"]


def _read_raw(path: Path) -> None:
    FednDetections.load(path).describe()


def _make_sheet(builder) -> Callable[[Path], list[Path]]:
    def make(folder: Path) -> list[Path]:
        tree = getattr(corpora, builder.__module__.rpartition(".")[2])(folder / "corpus")
        return sorted(path for path in tree.rglob("*") if path.suffix in (".xlsx", ".csv", ".txt"))

    return make


def _read_sheet(builder) -> Callable[[Path], None]:
    def read(path: Path) -> None:
        root = next(parent for parent in path.parents if parent.name == "corpus")
        builder(data_dir=str(root), cache_dir=str(root)).sheet_events()

    return read


def _make_manifests(folder: Path) -> list[Path]:
    rows = [{"id": "P01/baseline", "path": "raw/0001.mp4", "duration_s": 12.5}, {"id": "b", "path": "c.mp4"}]
    lines = [
        "id,path,duration_s",
        *(",".join(str(row.get(k, "")) for k in ("id", "path", "duration_s")) for row in rows),
    ]
    (folder / "a.csv").write_text("\n".join(lines))
    (folder / "a.tsv").write_text("\n".join(lines).replace(",", "\t"))
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    import pandas as pd

    pd.DataFrame(rows).to_parquet(folder / "a.parquet")
    return sorted(folder.glob("a.*"))


def _read_manifest(path: Path) -> None:
    for video in read_manifest(path):
        if ".." in Path(video.id).parts or Path(video.id).is_absolute():
            raise AssertionError(f"an id leads out of the folder for results: {video.id!r}")


def _make_archive(folder: Path) -> list[Path]:
    part_with(folder / "archive", a="done", b="failed")
    return sorted(path for path in (folder / "archive").rglob("*") if path.suffix in (".json", ".jsonl"))


def _read_archive(path: Path) -> None:
    root = next(parent for parent in path.parents if parent.name == "archive")
    write_tables([Archive(root)], root.with_name("tables"))


SMALL = {"num_landmarks": 468, "feature_size": 0, "backbone_config": None, "hidden_size": 16, "num_attention_heads": 2}


def _make_checkpoint(folder: Path) -> list[Path]:
    FednForFacialExpressionDetection(FednConfig(**SMALL)).save_pretrained(folder)
    FednVideoProcessor().save_pretrained(folder)
    return [folder / name for name in ("config.json", "video_preprocessor_config.json", "model.safetensors")]


def _make_config(folder: Path) -> list[Path]:
    preset = FednConfig.preset("compact")
    for number, config in enumerate((FednConfig(), FednConfig(**SMALL), preset)):
        (folder / f"{number}.json").write_text(json.dumps(config.to_dict()))
    return sorted(folder.iterdir())


def _read_config(path: Path) -> None:
    config = FednConfig.from_dict(_object(path))
    with torch.device("meta"):
        FednForFacialExpressionDetection(config)


def _object(path: Path) -> dict:
    """As transformers has it when it hands it on."""
    try:
        data = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise FednError("not JSON") from error
    if not isinstance(data, dict):
        raise FednError("not an object")
    return data


def _read_checkpoint(path: Path) -> None:
    load_pipeline(path.parent, device="cpu")


def _make_whole_checkpoint(folder: Path) -> list[Path]:
    load_pipeline(device="cpu").save_pretrained(folder)
    return [folder / name for name in ("config.json", "video_preprocessor_config.json", "model.safetensors")]


def _check_checkpoint(path: Path) -> None:
    check_checkpoint(path.parent)


def _make_recipes(folder: Path) -> list[Path]:
    seeds = sorted((ROOT / "examples" / "recipes").glob("*.yaml"))
    return [Path(_copy(seed, folder / seed.name)) for seed in seeds]


def _copy(source: Path, target: Path) -> Path:
    target.write_bytes(source.read_bytes())
    return target


def _read_recipe(path: Path) -> None:
    Recipe.read(path)


FACTS = {"content": "a"}


def _make_cache(folder: Path) -> list[Path]:
    def compute() -> VideoFeatures:
        inputs = {"frame_features": torch.rand(4, 8), "frame_mask": torch.ones(4).bool()}
        return VideoFeatures(
            inputs, np.arange(4), np.arange(4) / 30, {"video": "a", "truncated_at_s": None, "key": FACTS}
        )

    FeatureCache(folder / "cache").get_or_compute(FACTS, compute)
    return sorted(path for path in (folder / "cache").rglob("*") if path.suffix in (".json", ".safetensors"))


def _read_cache(path: Path) -> None:
    cache = FeatureCache(path.parents[1])
    cache.info()
    found = cache.get(FACTS)
    assert found is None or len(found) == 4


def _make_state(folder: Path) -> list[Path]:
    network = FednForFacialExpressionDetection(FednConfig(**SMALL))
    run = Checkpoints(folder / "run", keep=1)
    run.save(TrainingState(step=3), {f"model.{k}": v for k, v in network.state_dict().items()}, network)
    return sorted(path for path in run.path(3).iterdir() if path.name != "config.json")


_network: list = []


def _read_state(path: Path) -> None:
    if not _network:
        _network.append(FednForFacialExpressionDetection(FednConfig(**SMALL)))
    optimizer = torch.optim.AdamW(_network[0].parameters())
    Checkpoints(path.parents[2], keep=1).resume(_network[0], _network[0], optimizer)


def _make_arrays(folder: Path) -> list[Path]:
    from safetensors.numpy import save_file

    arrays = {"s15_0101": np.random.rand(5, 24).astype(np.float32), "s16_0102": np.zeros((3, 24), np.float32)}
    np.savez(folder / "a.npz", **arrays)
    save_file(arrays, folder / "a.safetensors")
    return [folder / "a.npz", folder / "a.safetensors"]


def _read_arrays(path: Path) -> None:
    list(features.read_arrays(path))


def _make_conversion(folder: Path) -> list[Path]:
    tree = corpora.folder_csv(folder / "corpus")
    convert.prepare("folder_csv", tree, folder / "out", encode="ffv1", fps=25.0)
    return sorted((folder / "out" / ".convert").glob("*.json"))


def _read_conversion(path: Path) -> None:
    convert.find_problems(path.parents[1])


_TEXT, _JSON, _ZIP = (
    (mutations.of_text, mutations.of_bytes),
    (mutations.of_json, mutations.of_text),
    (mutations.of_zip,),
)
_KINDS = {
    "json": _JSON, "jsonl": _JSON, "labelstudio": _JSON, "parquet": (mutations.of_bytes,),
    "boris": (*_ZIP, mutations.of_bytes),
}  # fmt: skip
_TENSORS = (mutations.of_safetensors, mutations.of_bytes)
_SHEETS = {casme_2.CasMe2: _ZIP, casme_3.CasMe3: _ZIP, samm_lv.SammLv: _ZIP, folder_csv.FolderCsv: _TEXT}
# The last one comes from the library's own copying of what is nested hundreds of times.
_CONFIG_ERRORS = (FednError, ValueError, StrictDataclassError, RecursionError)
READERS: dict[str, Reader] = {
    "video": Reader(_make_videos, _read_video, (mutations.of_bytes,)),
    "images": Reader(_make_images, _read_images, (mutations.of_png,)),
    **{
        name: Reader(_make_annotation(name), _read_annotation, _KINDS.get(name, _TEXT))
        for name, form in exporters.FORMATS.items()
        if form.is_read
    },
    "mapping": Reader(_make_mapping, _read_mapping, _TEXT),
    "raw": Reader(_make_raw, _read_raw, _TENSORS),
    **{
        f"sheet-{builder.__module__.rpartition('.')[2]}": Reader(
            _make_sheet(builder), _read_sheet(builder), (*kinds, mutations.of_bytes)
        )
        for builder, kinds in _SHEETS.items()
    },
    "manifest": Reader(_make_manifests, _read_manifest, _TEXT),
    "archive": Reader(_make_archive, _read_archive, _JSON),
    "config": Reader(_make_config, _read_config, (mutations.of_json,), _CONFIG_ERRORS),
    "checkpoint": Reader(_make_checkpoint, _read_checkpoint, (mutations.of_json, *_TENSORS), share=0.1),
    "checkpoint-check": Reader(
        _make_whole_checkpoint, _check_checkpoint, (mutations.of_json, mutations.of_bytes), share=0.1
    ),
    "recipe": Reader(_make_recipes, _read_recipe, _TEXT),
    "cache": Reader(_make_cache, _read_cache, (mutations.of_json, mutations.of_bytes)),
    "training": Reader(_make_state, _read_state, (mutations.of_json, *_TENSORS)),
    "features": Reader(_make_arrays, _read_arrays, (*_ZIP, *_TENSORS)),
    "conversion": Reader(_make_conversion, _read_conversion, _JSON, share=0.1),
}  # fmt: skip
