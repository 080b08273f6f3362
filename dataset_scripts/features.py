"""Precomputed features of a corpus, with the events of its sheets: what a temporal network trains on without videos.

Features come as one array (T, ...) per video, named after the video as people happen to name them ("casme_015_0101",
"s15_0101", "15_0101disgustingteeth"): a corpus recognises its own. They stand in

- an `.npz` archive, one array per video;
- a `.safetensors` file, one tensor per video;
- a `.parquet` file with the columns `video_id` and `features` (nested lists), one row per video;
- or a folder of `.npy` files, one per video.

Feature t belongs to frame t. Optical flow from frame t to t + 1 thus has one feature fewer than the video has frames,
and an event that ends with the video's last frame ends with the last feature; the rule `offset_past_end` logs it.
"""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import datasets
import numpy as np
from datasets import Array2D, Array3D, Array4D, Array5D, Features

from .corpus import CorpusBuilder, natural_key, schema
from .quirks import CorpusError, to_events

_ARRAYS = {2: Array2D, 3: Array3D, 4: Array4D, 5: Array5D}


def load_features(path: str | Path, builder: CorpusBuilder) -> datasets.Dataset:
    """
    Join arrays of features with the events of a corpus.

    Args:
        path: an `.npz`, `.safetensors` or `.parquet` file, or a folder of `.npy` files.
        builder: of the corpus, for its sheets, label scheme and rules; its videos need not be on disk. After the
            call `builder.quirks` holds the log.

    Returns:
        One row per video in natural order: `features` (T, ...) float32 as NumPy arrays, video_id, subject_id, fps,
        `num_frames` (T), events as in `schema`. Videos without events are there; videos without features are logged
        by the rule `video_missing`.

    Raises:
        CorpusError: not a file of features, an array that is no video of the corpus, arrays of several shapes.

    Example:
        >>> from dataset_scripts.casme_2 import CasMe2
        >>> videos = load_features("casme2_mdmo12.npz", CasMe2(data_dir="CASME_sq"))  # doctest: +SKIP
        >>> videos[0]["features"].shape  # doctest: +SKIP
        (2051, 12, 2)
    """
    path = Path(path)
    if not builder.fps:
        raise CorpusError("the frame rate is not known: pass fps= to the builder, in frames per second")
    rows = defaultdict(list)
    for row in builder.sheet_events():
        rows[row.video_id].append(row)
    found = {}
    for name, array in read_arrays(path):
        video = builder.identify(name)
        if video is None or video[0] in found:
            problem = "names no video of this corpus" if video is None else f"is video {video[0]} for a second time"
            raise CorpusError(f"{path}: array {name!r} {problem}")
        found[video[0]] = (video[1], array)
    if not found:
        raise CorpusError(f"{path}: holds no arrays")
    shapes = {array.shape[1:] for _, array in found.values()}
    if len(shapes) > 1 or len(next(iter(shapes))) + 1 not in _ARRAYS:
        raise CorpusError(f"{path}: expected arrays (T, ...) that agree in all but T, with 2 to 5 axes; got {shapes}")
    for video_id in sorted(set(rows) - set(found), key=natural_key):
        builder.quirks.meet("video_missing", f"{video_id}: {len(rows[video_id])} events")
    return _dataset(found, rows, builder, *shapes)


def _dataset(found: dict, rows: dict, builder: CorpusBuilder, shape: tuple[int, ...]) -> datasets.Dataset:
    columns = schema(builder.config.scheme)
    del columns["video"]
    kind = _ARRAYS[len(shape) + 1](shape=(None, *shape), dtype="float32")
    facts = []
    for video_id in sorted(found, key=natural_key):
        subject_id, array = found[video_id]
        numbers = range(builder.first_frame, builder.first_frame + len(array))
        events = to_events(rows.get(video_id, []), numbers, builder.fps, builder.config.scheme, builder.quirks)
        fact = {"video_id": video_id, "subject_id": subject_id, "fps": builder.fps, "num_frames": len(array)}
        facts.append({"features": array, **fact, "events": events})
    joined = datasets.Dataset.from_list(facts, features=Features({"features": kind, **columns}))
    return joined.with_format("numpy", columns=["features"], output_all_columns=True)


def read_arrays(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """
    (name, array (T, ...) float32) of every video in a file or folder of features. Nothing that could run code is
    opened: pickled objects are refused.

    Raises:
        CorpusError: not such a file, or not readable.
    """
    readers = {".npz": _npz, ".safetensors": _safetensors, ".parquet": _parquet}
    if not path.exists():
        raise CorpusError(f"{path}: no such file or folder")
    reader = _npy if path.is_dir() else readers.get(path.suffix.lower())
    if reader is None:
        raise CorpusError(f"{path}: expected {', '.join(readers)} or a folder of .npy files")
    try:
        for name, array in reader(path):
            yield name, np.asarray(array, np.float32)
    except CorpusError:
        raise
    except Exception as error:  # numpy's reader of damaged files raises whatever comes
        raise CorpusError(f"{path}: features could not be read ({error})") from error


def _npz(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    with np.load(path, allow_pickle=False) as arrays:
        for name in arrays.files:
            yield name, arrays[name]


def _npy(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    for file in sorted(path.glob("*.npy"), key=lambda file: natural_key(file.name)):
        yield file.stem, np.load(file, allow_pickle=False)


def _safetensors(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as arrays:
            for name in arrays.keys():  # noqa: SIM118 - no dictionary
                yield name, arrays.get_tensor(name)
    except SafetensorError as error:
        raise CorpusError(f"{path}: features could not be read ({error})") from error


def _parquet(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        if not {"video_id", "features"} <= set(file.schema_arrow.names):
            raise CorpusError(f"{path}: expected the columns video_id and features, got {file.schema_arrow.names}")
        for batch in file.iter_batches(batch_size=1, columns=["video_id", "features"]):
            for row in batch.to_pylist():
                yield row["video_id"], np.array(row["features"], np.float32)


__all__ = ["load_features", "read_arrays"]
