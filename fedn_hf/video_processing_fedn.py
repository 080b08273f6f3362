"""Face crops -> `pixel_values`, and with them everything of a checkpoint that says how crops are to be made.

A network only works on crops cut like those it was trained on, so size, margin and colour are saved beside it in
`video_preprocessor_config.json`, and the weights of the face networks in `face_nets.safetensors`.
"""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.image_processing_utils import BatchFeature
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, SizeDict
from transformers.processing_utils import Unpack, VideosKwargs
from transformers.utils.hub import cached_file
from transformers.video_processing_utils import BaseVideoProcessor

from .face_alignment_fedn import resize
from .face_nets_fedn import FACE_NETS
from .media_fedn import FednError

# ITU-R BT.601, as in the cropper.
_LUMA = (0.299, 0.587, 0.114)
# Where `from_pretrained` looks; passed on to the search for the face networks' weights.
_WHERE = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder", "proxies")


class FednVideosKwargs(VideosKwargs, total=False):  # type: ignore[call-arg]  # a TypedDict of the library
    """
    margin (`float`):
        Room around the face on every side, as a part of its height. How crops are cut, not what is done to them.
    do_grayscale (`bool`):
        Whether to take the colour out of the crops.
    """

    margin: float | int
    do_grayscale: bool


class FednVideoProcessor(BaseVideoProcessor):
    r"""
    Aligned face crops to normalised `pixel_values`, in torch alone.

    Args:
        size (`dict[str, int]`, defaults to `{"height": 112, "width": 112}`):
            Of the crops that the network sees. Crops of another size are resampled, filtered.
        margin (`float`, defaults to 0.1):
            Room around the face on every side, as a part of its height, for [`FaceCropper`].
        do_grayscale (`bool`, defaults to `False`):
            Whether to take the colour out: three equal channels.
        rescale_factor (`float`, defaults to 1/255), image_mean, image_std (`list[float]`, default to ImageNet's):
            `(crops * rescale_factor - image_mean) / image_std`.

    Attributes:
        face_nets (`Path`): Safetensors file of the face networks: that of the checkpoint the processor was loaded
            from, else the package's.

    Calling it with crops, uint8 `(T, S, S, 3)` or `(T, 3, S, S)`, arrays or tensors, or a list of such, gives

        pixel_values (`torch.FloatTensor` of shape `(B, T, 3, S, S)`): the longest T; shorter ones are filled up.
        frame_mask (`torch.BoolTensor` of shape `(B, T)`): False where it was filled up.

    Raises:
        `ValueError`: crops that are not uint8 or not of such a shape.

    Example:

    ```python
    >>> import numpy as np
    >>> from fedn_hf import FednVideoProcessor

    >>> processor = FednVideoProcessor()
    >>> crops = np.zeros((8, 112, 112, 3), np.uint8)
    >>> inputs = processor([crops, crops[:5]], return_tensors="pt")
    >>> inputs["pixel_values"].shape, inputs["frame_mask"].sum(1).tolist()
    (torch.Size([2, 8, 3, 112, 112]), [8, 5])
    ```
    """

    valid_kwargs = FednVideosKwargs
    model_input_names = ["pixel_values", "frame_mask"]  # noqa: RUF012
    resample = 2  # bilinear; PIL's number, as the library has it
    image_mean = IMAGENET_DEFAULT_MEAN
    image_std = IMAGENET_DEFAULT_STD
    size = {"height": 112, "width": 112}  # noqa: RUF012
    margin = 0.1
    do_resize = True
    do_rescale = True
    do_normalize = True
    do_grayscale = False
    do_convert_rgb = False
    do_sample_frames = False

    def __init__(self, **kwargs: Unpack[FednVideosKwargs]):
        super().__init__(**kwargs)
        self.face_nets = FACE_NETS
        if not 0 <= self.margin < 10:
            raise ValueError(f"margin must be a part of the face's height from 0 on, got {self.margin}")
        # The library makes attributes of the keys.
        if not self.size.height or self.size.height != self.size.width:  # type: ignore[attr-defined]
            raise ValueError(f"size must be a square, height and width, got {dict(self.size)}")

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, *args, **kwargs):
        """
        As `from_pretrained` everywhere; the face networks of the checkpoint are found along with the configuration.
        """
        where = {name: kwargs[name] for name in _WHERE if kwargs.get(name) is not None}
        loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        found = None
        if not os.path.isfile(pretrained_model_name_or_path):
            found = cached_file(
                pretrained_model_name_or_path,
                FACE_NETS.name,
                _raise_exceptions_for_missing_entries=False,
                _raise_exceptions_for_connection_errors=False,
                **where,
            )
        if found is not None:
            processor = loaded[0] if isinstance(loaded, tuple) else loaded
            processor.face_nets = Path(found)
        return loaded

    def save_pretrained(self, save_directory: str | os.PathLike, push_to_hub: bool = False, **kwargs) -> list[str]:
        """Write `video_preprocessor_config.json`, the code, and `face_nets.safetensors`."""
        target = Path(save_directory) / FACE_NETS.name
        if not self.face_nets.is_file():
            raise FednError(
                f"{self.face_nets}: the face networks' weights are missing, so this checkpoint would not run; "
                "reinstall fedn_hf, or load the processor from a whole checkpoint"
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        if self.face_nets.resolve() != target.resolve():
            shutil.copyfile(self.face_nets, target)
        return super().save_pretrained(save_directory, push_to_hub, **kwargs)

    def to_dict(self) -> dict[str, Any]:
        """The settings; where the face networks lie is not one of them."""
        settings = super().to_dict()
        settings.pop("face_nets", None)
        return settings

    def _decode_and_sample_videos(self, videos, video_metadata=None, do_sample_frames=None, sample_indices_fn=None):
        """Crops come decoded; here they become a list with one array per video."""
        if do_sample_frames:
            raise ValueError("do_sample_frames must be False: VideoReader samples, by the frames' true times")
        if isinstance(videos, (list, tuple)) and any(np.ndim(video) != 3 for video in videos):
            videos = list(videos)
        else:
            if isinstance(videos, (list, tuple)) and videos:  # the frames of one video
                videos = torch.stack([torch.as_tensor(frame) for frame in videos])
            videos = list(videos) if np.ndim(videos) == 5 else [videos]
        for video in videos:
            shape, kind = tuple(np.shape(video)), getattr(video, "dtype", type(video).__name__)
            if len(shape) != 4 or 3 not in (shape[1], shape[3]) or not shape[0] or str(kind).split(".")[-1] != "uint8":
                raise ValueError(f"crops must be uint8 of shape (frames, size, size, 3), got {kind} of shape {shape}")
        return videos, video_metadata

    def _preprocess(
        self,
        videos: list[torch.Tensor],
        do_resize: bool,
        size: SizeDict,
        do_rescale: bool,
        rescale_factor: float,
        do_normalize: bool,
        image_mean: list[float],
        image_std: list[float],
        do_grayscale: bool,
        return_tensors=None,
        **kwargs,
    ) -> BatchFeature:
        length = max(map(len, videos))
        ready = []
        for video in videos:  # (T, 3, h, w) uint8
            if do_resize and video.shape[2:] != (size.height, size.width):
                video = resize(video, size.height, size.width)
            video = video.float()
            if do_grayscale:
                grey = (video * video.new_tensor(_LUMA)[:, None, None]).sum(1, keepdim=True)
                video = grey.round().expand(-1, 3, -1, -1)
            scale: float | torch.Tensor = rescale_factor if do_rescale else 1.0
            shift: float | torch.Tensor = 0.0
            if do_normalize:
                mean, std = (video.new_tensor(values)[:, None, None] for values in (image_mean, image_std))
                scale, shift = scale / std, mean / std
            video = video * scale - shift
            ready.append(torch.cat([video, video.new_zeros(length - len(video), *video.shape[1:])]))
        mask = torch.arange(length) < torch.tensor([len(video) for video in videos])[:, None]
        shapes = {tuple(video.shape) for video in ready}
        if len(shapes) > 1:
            raise ValueError(f"with do_resize=False all crops must have one size, got {sorted(shapes)}")
        data = {"pixel_values": torch.stack(ready), "frame_mask": mask.to(ready[0].device)}
        return BatchFeature(data, tensor_type=return_tensors)


__all__ = ["FednVideoProcessor", "FednVideosKwargs"]
