"""What a user may call a video, and how it is opened: paths, bytes, frames, cells of data sets, and dicts of them."""

import io
import math
import numbers
from collections.abc import Iterator
from dataclasses import dataclass, field
from os import PathLike, fspath
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from .configuration_fedn import FednConfig
from .face_fedn import CropBatch, FaceCropper
from .media_fedn import FednError, MediaError
from .video_io_fedn import VideoReader
from .video_processing_fedn import FednVideoProcessor

_SOURCE_KEYS = {"video", "crops", "fps", "boxes", "landmarks"}
_DECODER_METHODS = ("get_frame_at", "get_frame_timestamp")  # torchcodec's and decord's


@dataclass(frozen=True)
class VideoSource:
    """
    One video, and what the user knows about it: `of` takes whatever the pipeline takes, `crops` opens it.

    Example:

    ```python
    >>> import numpy as np
    >>> from fedn_hf import FednConfig, FednVideoProcessor
    >>> from fedn_hf.pipeline_fedn import VideoSource

    >>> source = VideoSource.of({"crops": np.zeros((50, 128, 128, 3), np.uint8), "fps": 25.0}, fps=None)
    >>> reader, batches = source.crops(FednConfig(), FednVideoProcessor())
    >>> sum(len(batch) for batch in batches)  # frames at the network's rate
    60
    ```
    """

    video: Any
    name: str
    is_crops: bool = False
    fps: float | None = None
    known: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        if self.fps is not None and not isinstance(self.fps, numbers.Real):
            raise ValueError(f"fps must be a number of frames per second, got {self.fps!r}")

    @classmethod
    def of(cls, given: Any, fps: float | None) -> "VideoSource":
        """What the pipeline was given, and the rate for what has no times; a `ValueError` for dicts of other keys."""
        if not isinstance(given, dict):
            return cls(given, _name(given), fps=fps)
        if given.keys() & {"path", "bytes"}:  # a cell of a `datasets` column of videos
            return cls(_cell(given), _name(given), fps=fps)
        if given.keys() - _SOURCE_KEYS or len(given.keys() & {"video", "crops"}) != 1:
            raise ValueError(
                f'a dict must hold "video" or "crops", and may hold "fps", "boxes" or "landmarks"; got {sorted(given)}'
            )
        known = {name: given[name] for name in ("boxes", "landmarks") if given.get(name) is not None}
        if "crops" in given and known:
            raise ValueError(f"crops are faces already, so {' and '.join(known)} cannot be used; leave them out")
        video = given.get("video", given.get("crops"))
        name = _name(given)
        video = _cell(video) if isinstance(video, dict) else video
        return cls(video, name, "crops" in given, fps if given.get("fps") is None else given["fps"], known)

    def crops(
        self,
        config: FednConfig,
        processor: FednVideoProcessor,
        *,
        faces: str | int = "largest",
        start_s: float | None = None,
        end_s: float | None = None,
        allow_url: bool = False,
        pixels: bool = True,
    ) -> tuple[VideoReader, Iterator[CropBatch]]:
        """The video at the network's rate, and its face crops as the network has been trained on them."""
        reader = VideoReader(
            self.video,
            fps=config.frame_rate,
            native_fps=self.fps,
            start_s=start_s,
            end_s=end_s,
            allow_url=allow_url,
        )
        cropper = FaceCropper(
            processor.size.height, margin=processor.margin, faces=faces, pixels=pixels, weights=processor.face_nets
        )
        if self.is_crops and config.num_landmarks:
            raise ValueError("this network needs landmarks, which crops do not come with; give the video instead")
        return reader, cropper.resize(reader) if self.is_crops else cropper(reader, **self.known)


def _cell(cell: dict[str, Any]) -> Any:
    """A cell of a `datasets` column of videos that are not decoded: its bytes, or the path of its file."""
    if cell.get("bytes") is None:
        return cell.get("path")
    file = io.BytesIO(cell["bytes"])
    file.name = cell.get("path") or "<bytes>"
    return file


def _name(given: Any) -> str:
    """What to call a video in messages, as the reader does."""
    if isinstance(given, dict):
        inner = next((given[key] for key in ("video", "crops", "path") if given.get(key) is not None), "<bytes>")
        return _name(inner)
    if isinstance(given, (str, PathLike)):
        return fspath(given)
    return str(getattr(given, "name", f"<{type(given).__name__}>"))


def media_error(video: Any, error: Exception) -> MediaError:
    """The errors of arguments, and of what nobody expected, do not know which video they came with."""
    if isinstance(error, MediaError):
        return error
    is_ours = isinstance(error, (FednError, ValueError))
    reason = str(error) if is_ours else f"unexpected {type(error).__name__}: {error}"
    named = MediaError(_name(video), reason.replace("native_fps", "fps"))  # its name here
    named.__cause__ = error
    return named


def are_many(inputs: Any) -> bool:
    """Whether these are several videos, and not the frames of one."""
    if isinstance(inputs, (list, tuple)):
        return not inputs or not all(_is_frame(item) for item in inputs)
    single = (str, bytes, bytearray, memoryview, PathLike, dict, np.ndarray, torch.Tensor)
    if isinstance(inputs, single) or any(hasattr(inputs, name) for name in ("read", *_DECODER_METHODS)):
        return False
    return isinstance(inputs, Dataset) or hasattr(inputs, "__iter__")


def _is_frame(item: Any) -> bool:
    """A PIL image, or an array (H, W, 3), (H, W, 1) or (H, W)."""
    shape = getattr(item, "shape", None)
    if shape is None:
        return hasattr(item, "convert") and hasattr(item, "size")
    return len(shape) == 2 or (len(shape) == 3 and shape[-1] in (1, 3))


def facts_of(reader: VideoReader) -> dict[str, Any]:
    """What the file says about itself."""
    names = ("path", "container", "codec", "width", "height", "fps", "duration_s", "num_frames")
    return {**{name: getattr(reader.info, name) for name in names}, "truncated_at_s": None}


def expected_frames(reader: VideoReader) -> int | None:
    """How many frames a reader will give, `None` where its video does not say how long it lasts."""
    end_s = min(reader.end_s, reader.info.duration_s or math.inf)
    return max(0, round((end_s - reader.start_s) * reader.frame_rate)) if math.isfinite(end_s) else None


__all__ = ["VideoSource", "are_many", "expected_frames", "facts_of", "media_error"]
