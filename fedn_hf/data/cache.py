"""Frame features, computed once: a folder of safetensors that several processes fill and read at the same time.

A frozen backbone gives the same features in every epoch and every fold, and takes nearly all of the time. An entry is
known by everything that its values depend on: the content of the video (not its name), how faces are followed and cut
out, the video processor, the backbone's weights, the frame rate. Whatever of it changes, another entry is made.

An entry is two files, `<key>.safetensors` and `<key>.json`. The second holds what went into the key and the first
one's hash, and is written last, each whole or not at all: an interrupted computation leaves no entry, and a damaged
entry is found out. The process that computes an entry holds its lock, which the system takes back even from a process
that is killed; others wait and then read.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers.utils import logging

from ..configuration_fedn import FednConfig
from ..face_fedn import CropBatch
from ..files_fedn import file_sha256, replacing
from ..media_fedn import FednError, MediaError
from ..modeling_fedn import FednPreTrainedModel
from ..pipeline_fedn import VideoSource
from ..version import __version__
from ..video_io_fedn import image_files
from ..video_processing_fedn import FednVideoProcessor
from .sequences import FednSequence

logger = logging.get_logger(__name__)

_FORMAT = 2  # since landmarks are steady
_FRAMES = 256  # of crops that are held as floating-point pixels at a time
# What of a video processor changes pixels; the rest is where it came from.
_PROCESSOR = ("size", "margin", "do_resize", "do_rescale", "rescale_factor", "do_normalize", "do_grayscale")
_PROCESSOR += ("image_mean", "image_std")
# Where a backbone came from, which is not what it computes.
_NOT_ARCHITECTURE = ("transformers_version", "_name_or_path", "architectures", "dtype", "torch_dtype")
_SUFFIXES = (".json", ".safetensors", ".lock", ".json.partial", ".safetensors.partial")
_SUFFIXES += (".json.partial.lock", ".safetensors.partial.lock")


@dataclass(frozen=True)
class VideoFeatures:
    """
    What the network's inputs are made of, for all T frames of a video at the network's rate.

    Args:
        inputs: `frame_features` (T, F) in the model's precision or `crops` (T, S, S, 3) uint8, zero where there is no
            face; `frame_mask` (T,), True where there is one; `landmarks` (T, 468, 2) if the network wants them. From a
            cache these are mapped from the file: what is not looked at takes no memory.
        native_frame, time_s: int64 and float64 (T,), as in `FrameBatch`.
        facts: What was read: `video`, `truncated_at_s`, and what the key was made of.

    Example:

    ```python
    >>> import numpy as np
    >>> from fedn_hf import FednConfig, FednVideoProcessor
    >>> from fedn_hf.data.cache import crops_of

    >>> clip = {"crops": np.zeros((50, 112, 112, 3), np.uint8), "fps": 25.0}
    >>> crops = crops_of(clip, FednConfig(), FednVideoProcessor())
    >>> crops.inputs["crops"].shape
    torch.Size([60, 112, 112, 3])
    >>> row = {"video_id": "a", "subject_id": "s1", "events": []}
    >>> len(crops.sequence(row, FednConfig()))
    60
    ```
    """

    inputs: dict[str, torch.Tensor]
    native_frame: np.ndarray
    time_s: np.ndarray
    facts: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.time_s)

    def sequence(self, row: Mapping[str, Any], config: FednConfig) -> FednSequence:
        """With the events of the video's corpus row, to cut windows from."""
        return FednSequence.build(row, self.inputs, config, self.native_frame, self.time_s)


def features_of(
    video: Any,
    model: FednPreTrainedModel,
    processor: FednVideoProcessor,
    *,
    cache: "FeatureCache | None" = None,
    faces: str | int = "largest",
    fps: float | None = None,
    hook: Callable | None = None,
) -> VideoFeatures:
    """
    The frame features of a video, by the stages of the pipeline: read, follow the face, crop, normalise, encode.

    Args:
        video: Whatever the pipeline takes but open decoders and URLs, such as a path or a cell of a `datasets` column.
        model: A network with a backbone; where it is, the backbone runs.
        processor ([`FednVideoProcessor`]): That of the model.
        cache ([`FeatureCache`], *optional*): Where to look first, and where to keep the result.
        faces (`str` or `int`): "largest", or the rank of the face to follow.
        fps (`float`): Frames per second of videos that have no times of their own.
        hook (`Callable`): Called as the pipeline's, with the step "features"; see [`ProgressHook`].

    Raises:
        `MediaError`: a video that cannot be read.
        `ValueError`: a network of features that come from elsewhere, or `faces="all"`: a sequence is of one face.

    Example:

    ```python
    >>> import numpy as np
    >>> from fedn_hf import FednConfig, FednModel, FednVideoProcessor
    >>> from fedn_hf.data.cache import FeatureCache, features_of

    >>> model, processor = FednModel(FednConfig.preset("compact")), FednVideoProcessor()
    >>> clip = {"crops": np.zeros((5, 112, 112, 3), np.uint8), "fps": 30.0}
    >>> features = features_of(clip, model, processor, cache=FeatureCache("features"))
    >>> features.inputs["frame_features"].shape, FeatureCache("features").info().videos
    (torch.Size([5, 160]), 1)
    ```
    """
    encoder = model.base_model.frame_encoder
    if encoder is None and model.config.feature_size:
        raise ValueError("this network has no backbone (backbone_config=None), so there are no features to compute")

    @torch.no_grad()
    def encode(crops: torch.Tensor) -> torch.Tensor:
        pixel_values = processor(crops, return_tensors="pt")["pixel_values"][0]  # (N, 3, S, S)
        return model.encode_frames(pixel_values.to(model.device, model.dtype)).cpu()  # (N, F)

    facts = {"processor": {name: _plain(getattr(processor, name)) for name in _PROCESSOR}}
    facts |= {"backbone": _weights_hash(encoder, model.config), "dtype": str(model.dtype).removeprefix("torch.")}
    empty = torch.zeros(0, model.config.feature_size, dtype=model.dtype)
    work = _Work("frame_features", model.config, processor, faces, facts, empty, encode)
    crops = _crops(model.config, processor, faces)
    training = model.training
    model.eval()  # batch-norm statistics of a backbone that trains must not move
    try:
        return work.run(VideoSource.of(video, fps), cache, hook, made=crops)
    finally:
        model.train(training)


def crops_of(
    video: Any,
    config: FednConfig,
    processor: FednVideoProcessor,
    *,
    cache: "FeatureCache | None" = None,
    faces: str | int = "largest",
    fps: float | None = None,
    hook: Callable | None = None,
) -> VideoFeatures:
    """
    The face crops of a video, to train a backbone on: as `features_of`, which see, but for the last two stages. At 112
    pixels a minute of video takes 68 MB.

    Example:

    ```python
    >>> import numpy as np
    >>> from fedn_hf import FednConfig, FednVideoProcessor
    >>> from fedn_hf.data.cache import crops_of

    >>> clip = {"crops": np.full((5, 56, 56, 3), 99, np.uint8), "fps": 30.0}
    >>> crops_of(clip, FednConfig(), FednVideoProcessor()).inputs["crops"].unique()
    tensor([99], dtype=torch.uint8)
    ```
    """
    return _crops(config, processor, faces).run(VideoSource.of(video, fps), cache, hook)


def _crops(config: FednConfig, processor: FednVideoProcessor, faces: str | int) -> "_Work":
    side = processor.size.height
    empty = torch.zeros(0, side, side, 3, dtype=torch.uint8)
    return _Work("crops", config, processor, faces, {}, empty, lambda crops: crops)


@dataclass(frozen=True)
class _Work:
    """How a video becomes `VideoFeatures`, and all that the result depends on beside the video."""

    name: str  # of the input
    config: FednConfig
    processor: FednVideoProcessor
    faces: str | int
    facts: dict[str, Any]
    empty: torch.Tensor  # (0, ...), of what the input is
    encode: Callable[[torch.Tensor], torch.Tensor]  # crops (N, S, S, 3) uint8 -> (N, ...)

    def run(
        self, source: VideoSource, cache: "FeatureCache | None", hook: Callable | None, made: "_Work | None" = None
    ) -> VideoFeatures:
        """`made`: the work whose crops are taken if the cache has them, as a backbone that trained has left them."""
        if self.faces == "all":
            raise ValueError('a sequence is of one face: faces must be "largest" or a rank from 0, got "all"')
        if cache is None:
            return self.compute(source, {}, hook)
        facts = self._key_facts(source)

        def compute() -> VideoFeatures:
            crops = None if made is None else cache.get(made._key_facts(source))
            return self.compute(source, facts, hook) if crops is None else self._encoded(crops, facts)

        return cache.get_or_compute(facts, compute)

    def _encoded(self, crops: VideoFeatures, facts: dict[str, Any]) -> VideoFeatures:
        """As `compute`, of crops that are there."""
        inputs = {name: values.clone() for name, values in crops.inputs.items() if name != "crops"}
        mask = inputs["frame_mask"]
        inputs[self.name] = self.empty.new_zeros(len(mask), *self.empty.shape[1:])
        for part in torch.nonzero(mask)[:, 0].split(_FRAMES):
            if len(part):  # nobody to be seen leaves one empty part
                inputs[self.name][part] = self.encode(crops.inputs["crops"][part])
        told = {"video": crops.facts["video"], "truncated_at_s": crops.facts["truncated_at_s"], "key": facts}
        return VideoFeatures(inputs, crops.native_frame, crops.time_s, told)

    def _key_facts(self, source: VideoSource) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "fedn_hf": __version__,  # faces are followed by its code
            "content": video_hash(source),
            "native_fps": source.fps,
            "are_crops": source.is_crops,
            "known": {name: _array_hash(values) for name, values in source.known.items()},
            "faces": self.faces,
            "frame_rate": float(self.config.frame_rate),
            "crop_size": self.processor.size.height,
            "margin": float(self.processor.margin),
            "face_nets": file_sha256(self.processor.face_nets),
            "input": self.name,
            "landmarks": self.config.num_landmarks > 0,
            **self.facts,
        }

    def compute(self, source: VideoSource, facts: dict[str, Any], hook: Callable | None) -> VideoFeatures:
        reader, batches = source.crops(self.config, self.processor, faces=self.faces)
        end_s = reader.info.duration_s
        total = None if end_s is None else round(end_s * self.config.frame_rate)
        parts: list[dict[str, torch.Tensor]] = []
        times: list[tuple[np.ndarray, np.ndarray]] = []
        done = 0
        for batch in batches:
            parts.append(self._inputs(batch))
            times.append((batch.native_frame, batch.time_s))
            done += len(batch)
            if hook is not None:
                hook("features", None, file=source.name, total=total, completed=done)
        if not done:
            raise MediaError(source.name, "no frames could be read")
        if reader.truncated_at_s is not None:
            logger.warning(f"{source.name}: damaged; what comes after {reader.truncated_at_s:.2f} s could not be read")
        inputs = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        if not inputs["frame_mask"].any():
            logger.warning(f"{source.name}: no face was found in any frame")
        native_frame, time_s = (np.concatenate(column) for column in zip(*times, strict=True))
        facts = {"video": source.name, "truncated_at_s": reader.truncated_at_s, "key": facts}
        features = VideoFeatures(inputs, native_frame, time_s, facts)
        if hook is not None:
            hook("features", features, file=source.name)
        return features

    def _inputs(self, batch: CropBatch) -> dict[str, torch.Tensor]:
        """Rows for all frames of a batch, zero where there is no face."""
        mask = torch.from_numpy(batch.mask)
        values = self.empty.new_zeros(len(mask), *self.empty.shape[1:])
        if mask.any():
            values[mask] = self.encode(batch.crops[mask])
        inputs = {self.name: values, "frame_mask": mask}
        if self.config.num_landmarks:
            landmarks = torch.from_numpy(batch.landmarks)
            inputs["landmarks"] = landmarks.masked_fill(~mask[:, None, None], 0)
        return inputs


# --- the folder ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CacheInfo:
    """
    What a cache holds.

    Args:
        folder: Where it lies.
        videos: Number of entries.
        frames: Their frames.
        size_bytes: Of all files.
        unfinished_bytes: Of these, what interrupted computations have left; it is written over, or goes with `clear`.

    Example:

    ```python
    >>> from fedn_hf.data.cache import FeatureCache

    >>> FeatureCache("features").info().videos
    0
    ```
    """

    folder: Path
    videos: int
    frames: int
    size_bytes: int
    unfinished_bytes: int


class FeatureCache:
    """
    A folder of `VideoFeatures`. Any number of processes may use it at once: an entry is computed by one of them.

    Args:
        folder: Where it lies; without one `FEDN_CACHE`, or else `~/.cache/fedn_hf`. Made when first written to.

    Example:

    ```python
    >>> import numpy as np
    >>> from fedn_hf import FednConfig, FednVideoProcessor
    >>> from fedn_hf.data.cache import FeatureCache, crops_of

    >>> cache = FeatureCache("crops")
    >>> clip = {"crops": np.zeros((5, 112, 112, 3), np.uint8), "fps": 30.0}
    >>> for _ in range(2):  # computed, then read
    ...     crops = crops_of(clip, FednConfig(), FednVideoProcessor(), cache=cache)
    >>> cache.info().frames
    5
    >>> cache.clear()
    (1, 0)
    ```
    """

    def __init__(self, folder: str | os.PathLike | None = None):
        self.folder = Path(folder or os.environ.get("FEDN_CACHE") or Path.home() / ".cache" / "fedn_hf")

    def get_or_compute(self, facts: Mapping[str, Any], compute: Callable[[], VideoFeatures]) -> VideoFeatures:
        """
        The entry of these facts, which must be all that the result depends on; computed and kept if it is not there,
        and, with a warning, if it is damaged.
        """
        entry = _Entry(self.folder, hashlib.sha256(_canonical(facts)).hexdigest())
        found = entry.read()
        if isinstance(found, VideoFeatures):
            return found
        try:
            entry.path.parent.mkdir(parents=True, exist_ok=True)
            entry.lock.acquire()
        except OSError as error:
            raise FednError(
                f"{self.folder}: the feature cache cannot be written ({error.strerror}); set FEDN_CACHE to a folder "
                "that can"
            ) from error
        try:
            found = entry.read()  # another process may have made it meanwhile
            if isinstance(found, str):
                logger.warning(f"{entry.path}: damaged ({found}), so it is computed again")
            if not isinstance(found, VideoFeatures):
                made = compute()
                try:
                    entry.write(made)
                except (OSError, SafetensorError) as error:
                    raise FednError(
                        f"{self.folder}: the feature cache cannot be written ({error}); make room, or set "
                        "FEDN_CACHE to a folder that has it"
                    ) from error
                found = entry.read()
        finally:
            entry.lock.release()
        if not isinstance(found, VideoFeatures):
            raise FednError(f"{entry.path}: what was written cannot be read again ({found}); is the disk sound?")
        return found

    def get(self, facts: Mapping[str, Any]) -> VideoFeatures | None:
        """The entry of these facts, if it is there and whole."""
        found = _Entry(self.folder, hashlib.sha256(_canonical(facts)).hexdigest()).read()
        return found if isinstance(found, VideoFeatures) else None

    def info(self) -> CacheInfo:
        """How much there is."""
        videos = frames = size = unfinished = 0
        for entry in self._entries():
            here = sum(file.stat().st_size for file in entry.files())
            size += here
            facts = entry.facts()
            if isinstance(facts, dict):
                videos, frames = videos + 1, frames + facts["frames"]
                here = sum(file.stat().st_size for file in entry.files() if file.suffix == ".partial")
            unfinished += here
        return CacheInfo(self.folder, videos, frames, size, unfinished)

    def clear(self) -> tuple[int, int]:
        """
        Remove all entries and what interrupted computations have left; nothing else that lies in the folder.

        Returns:
            How many were removed, and how many were not because a process is computing them at this moment.
        """
        removed = busy = 0
        for entry in self._entries():
            try:
                with entry.lock.acquire(timeout=0):
                    for file in entry.files():  # the JSON first: no entry without its values
                        file.unlink(missing_ok=True)
                removed += 1
            except Timeout:
                busy += 1
        return removed, busy

    def _entries(self) -> Iterator["_Entry"]:
        """All keys of which there is any file."""
        names = {file.name.partition(".") for file in self.folder.glob("[0-9a-f][0-9a-f]/*.*")}
        for key in sorted({key for key, dot, rest in names if len(key) == 64 and dot + rest in _SUFFIXES}):
            yield _Entry(self.folder, key)


class _Entry:
    """The files of one key."""

    def __init__(self, folder: Path, key: str):
        self.path = folder / key[:2] / f"{key}.safetensors"

    @cached_property
    def lock(self) -> FileLock:
        return FileLock(self.path.with_suffix(".lock"))

    def files(self) -> list[Path]:
        """Those that are there."""
        return [file for suffix in _SUFFIXES if (file := self.path.with_suffix(suffix)).is_file()]

    def facts(self) -> dict[str, Any] | str | None:
        """The JSON; what is wrong with it; or `None` if there is none."""
        try:
            facts = json.loads(self.path.with_suffix(".json").read_bytes())
            is_whole = {"video", "truncated_at_s", "key"} <= facts.keys() and isinstance(facts["frames"], int)
            return facts if is_whole and isinstance(facts["sha256"], str) else "its JSON lacks something"
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return "its JSON cannot be read"

    def read(self) -> VideoFeatures | str | None:
        """The values; what is wrong with them; or `None` if there are none."""
        facts = self.facts()
        if not isinstance(facts, dict):
            return facts
        try:
            if file_sha256(self.path) != facts["sha256"]:
                return "its values have another hash than when they were written"
            tensors = load_file(self.path)
        except FileNotFoundError:
            return "its values are missing"
        times = (tensors.pop("native_frame").numpy(), tensors.pop("time_s").numpy())
        return VideoFeatures(tensors, *times, {name: facts[name] for name in ("video", "truncated_at_s", "key")})

    def write(self, features: VideoFeatures) -> None:
        times = {"native_frame": torch.from_numpy(features.native_frame), "time_s": torch.from_numpy(features.time_s)}
        with replacing(self.path) as unfinished:
            save_file({**features.inputs, **times}, unfinished)
            sha256 = file_sha256(unfinished)
        facts = {**features.facts, "frames": len(features), "sha256": sha256}
        with replacing(self.path.with_suffix(".json")) as unfinished:
            unfinished.write_text(json.dumps(facts, indent=1), encoding="utf-8")


# --- what things are known by -------------------------------------------------------------------------------------


def video_hash(source: VideoSource) -> str:
    """
    SHA-256 of a video's content: of a file or its bytes, of the images of a folder in their order, or of an array. The
    same video has the same hash under every name.

    Raises:
        `MediaError`: a file that cannot be read, or a source whose content cannot be seen: an open decoder, a URL.

    Example:

    ```python
    >>> from fedn_hf.data.cache import video_hash
    >>> from fedn_hf.pipeline_fedn import VideoSource

    >>> video_hash(VideoSource.of(b"content", fps=None))[:12]
    'ed7002b439e9'
    ```
    """
    video = source.video
    try:
        if isinstance(video, (str, os.PathLike)):
            path = Path(video)
            if path.is_dir():
                return _joined(file_sha256(image) for image in image_files(path))
            return file_sha256(path)
        if isinstance(video, (bytes, bytearray, memoryview)):
            return hashlib.sha256(video).hexdigest()
        if isinstance(video, (np.ndarray, torch.Tensor)):
            return _array_hash(video)
        if isinstance(video, (list, tuple)):
            return _joined(_array_hash(np.asarray(image)) for image in video)
        if hasattr(video, "read") and hasattr(video, "seek"):
            video.seek(0)
            digest = hashlib.file_digest(video, "sha256").hexdigest()
            video.seek(0)
            return digest
    except OSError as error:
        if isinstance(error, MediaError):
            raise
        raise MediaError(source.name, f"cannot be read ({error.strerror})") from error
    raise MediaError(source.name, "its content cannot be known beforehand; use no cache, or give the file")


def _array_hash(values: np.ndarray | torch.Tensor) -> str:
    array = np.ascontiguousarray(torch.as_tensor(values).cpu().numpy())
    digest = hashlib.sha256(f"{array.dtype} {array.shape} ".encode())
    digest.update(array.data)
    return digest.hexdigest()


def _joined(hashes: Iterator[str]) -> str:
    return hashlib.sha256(" ".join(hashes).encode()).hexdigest()


def _weights_hash(encoder: torch.nn.Module | None, config: FednConfig) -> str | None:
    """Of a backbone's architecture, weights and statistics; `None` without one."""
    if encoder is None:
        return None
    architecture = {k: v for k, v in config.backbone_config.to_dict().items() if k not in _NOT_ARCHITECTURE}
    digest = hashlib.sha256(_canonical(architecture))
    for name, values in sorted(encoder.state_dict().items()):
        values = values.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)} ".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    """As JSON has it: sizes come as objects."""
    return {name: value[name] for name in ("height", "width")} if hasattr(value, "height") else value


def _canonical(facts: Mapping[str, Any]) -> bytes:
    return json.dumps(facts, sort_keys=True, default=str).encode()


__all__ = ["CacheInfo", "FeatureCache", "VideoFeatures", "crops_of", "features_of", "video_hash"]
