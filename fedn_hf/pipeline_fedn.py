"""`pipeline("facial-expression-detection")`: from any video to a table of expressions, in one streaming pass.

A video goes by in steps. `preprocess` reads, follows faces and cuts out crops; `_forward` gives each crop to the
backbone once, keeps the features that later windows still need, and runs the temporal network window by window;
`postprocess` joins what the windows found. Only what `FednDetections` holds outlives its step.
"""

import importlib
import io
import math
import numbers
import tempfile
import types as python_types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch.utils.data import Dataset
from transformers.dynamic_module_utils import custom_object_save
from transformers.pipelines.base import ChunkPipeline
from transformers.utils import logging

from .configuration_fedn import FednConfig
from .face_fedn import CropBatch, FaceCropper, check_faces
from .face_nets_fedn import FACE_NETS
from .media_fedn import FednError, MediaError
from .modeling_fedn import FednForFacialExpressionDetection
from .postprocessing_fedn import FednWindow, plan_windows, stitch
from .results_fedn import FaceDetections, FednDetections, check_settings, chosen
from .video_io_fedn import VideoReader
from .video_processing_fedn import FednVideoProcessor

logger = logging.get_logger(__name__)

TASK = "facial-expression-detection"
# What results call the checkpoint that comes with the package; its revision is the package's version.
DEFAULT_NAME = "fedn_hf default"
# Frames that a window owns: large against the context on both sides of it, small in memory.
_OWN_FRAMES = 2048
# A face that has been away for longer than the cropper remembers it, or than one of its chunks lasts, is gone.
_GONE_AFTER = FaceCropper.MAX_GAP + 64
_PREPROCESS = ("faces", "start_s", "end_s", "fps", "allow_url")
_POSTPROCESS = ("score_threshold", "types", "labels", "min_duration_s", "max_duration_s", "nms")
_RETURN = ("return_annotation", "return_curve", "return_raw")
_SOURCE_KEYS = {"video", "crops", "fps", "boxes", "landmarks"}
_DECODER_METHODS = ("get_frame_at", "get_frame_timestamp")  # torchcodec's and decord's
# What is kept of `CropBatch`, for every frame and for every crop.
_PER_FRAME = {"frame": np.int64, "time_s": np.float64, "native_frame": np.int64}
_PER_CROP = ("frame", "face_id", "confidence", "face_size_px", "fit")


class FacialExpressionDetectionPipeline(ChunkPipeline):
    """
    Facial expressions in videos.

        detect = pipeline("facial-expression-detection", model="user/checkpoint")
        detect("interview.mp4")

    **Videos**: a path; an http(s) URL with `allow_url=True`; `bytes`; a binary file object; uint8 frames as one array
    `(T, H, W, 3)` or a list of arrays or PIL images, with `fps`; a folder of images, with `fps`; an open torchcodec or
    decord decoder; a cell of a `datasets` column `Video(decode=False)`; or a dict

        {"video": any of these, "fps": 25.0,
         "boxes": (T, 4) or "landmarks": (T, 468, 2)}  where the face is: pixels, NaN where there is none, row i for
                                                         frame i of the file
        {"crops": any of these, "fps": 25.0}             frames that are face crops already

    A list of videos gives a list of results; a generator, a `datasets` column or a torch `Dataset` gives a generator,
    read as it is asked for. In both a video that cannot be read is logged, and the `MediaError` that says why stands
    in the place of its result; the others go on. A single bad video raises it.

    Args:
        device, dtype: Where and in which precision the network runs; faces are always followed on the CPU.
        batch_size (`int`, defaults to 1): How many times `config.frame_chunk_size` crops pass the backbone together.
            Changes speed and memory, not results.
        num_workers (`int`, defaults to 0): 1 reads videos and follows faces in a process of its own.
        faces (`str` or `int`): "largest", "all", or the rank of the face to follow, 0 the largest.
        start_s, end_s (`float`): Part of the video, in seconds.
        fps (`float`): Frames per second of videos that have no times of their own.
        allow_url (`bool`): Whether http(s) URLs are opened.
        score_threshold, types, labels, min_duration_s, max_duration_s, nms: What is reported, see
            [`FednDetections.expressions`].
        return_annotation (`bool`): Give an [`ExpressionAnnotation`] (needs the package `fedn_hf`).
        return_curve (`bool`): Give a dict of `expressions` and `curves`, see [`FednDetections.curves`].
        return_raw (`bool`): Give the [`FednDetections`].
        hook (`Callable`): `hook(step, artifact, file=..., total=..., completed=...)` is called again and again with
            the step "detection" and frames, then with the step "expressions" and the result as its artifact.
            [`ProgressHook`] shows it as a bar.

    Returns:
        `list[dict]`, plain and in order of onset: `label`, `score`, `type`, `onset_s`, `apex_s`, `offset_s`,
        `onset_frame`, `apex_frame`, `offset_frame`, `face_id`; see [`FednDetections.expressions`].

    Raises:
        `MediaError`: a video that cannot be read or does not go with what was given beside it.
        `ValueError`: settings out of range or unknown.

    Example:

    ```python
    >>> import numpy as np
    >>> from transformers import pipeline
    >>> from fedn_hf import FednConfig, FednForFacialExpressionDetection, FednVideoProcessor

    >>> model = FednForFacialExpressionDetection(FednConfig.preset("compact"))  # untrained
    >>> detect = pipeline("facial-expression-detection", model=model, video_processor=FednVideoProcessor())
    >>> detect(np.zeros((50, 120, 160, 3), np.uint8), fps=25)  # nobody to be seen
    []
    ```
    """

    _load_processor = False
    _load_image_processor = False
    _load_video_processor = True
    _load_feature_extractor = False
    _load_tokenizer = False

    def __init__(self, model: FednForFacialExpressionDetection, *args, **kwargs):
        super().__init__(model, *args, **kwargs)
        config = model.config
        is_blind = config.backbone_config is None and config.feature_size > 0
        if is_blind or config.heads == "recognition":
            what = "no backbone" if is_blind else 'heads="recognition"'
            raise ValueError(f"the pipeline needs a network that sees pictures and finds intervals, got {what}")
        if config.num_landmarks not in (0, 468):
            raise ValueError(f"the pipeline has FaceMesh's 468 landmarks, the network wants {config.num_landmarks}")
        if self.video_processor is None:
            raise ValueError("a video_processor is needed: pass FednVideoProcessor(), or the path of a checkpoint")
        size = self.video_processor.size.height
        if size != config.image_size:
            raise ValueError(f"the video processor makes crops of {size} px, the network wants {config.image_size}")
        model.eval()

    def _sanitize_parameters(self, hook=None, on_error=None, **kwargs):
        known = {*_PREPROCESS, *_POSTPROCESS, *_RETURN}
        if unknown := sorted(kwargs.keys() - known):
            raise ValueError(f"unknown parameter {', '.join(unknown)}; there is {', '.join(sorted(known | {'hook'}))}")
        if hook is not None and not callable(hook):
            raise ValueError(f"hook must be a function, got {type(hook).__name__}")
        kwargs = {name: value for name, value in kwargs.items() if value is not None}  # None stands for the default
        self._check(**kwargs)
        settings = {name: kwargs[name] for name in _POSTPROCESS if name in kwargs}
        post = {**settings, **{name: kwargs[name] for name in _RETURN if name in kwargs}}
        return (
            {name: kwargs[name] for name in _PREPROCESS if name in kwargs},
            {} if hook is None else {"hook": hook},
            {
                **post,
                **({} if hook is None else {"hook": hook}),
                **({} if on_error is None else {"on_error": on_error}),
            },
        )

    def _check(self, faces="largest", start_s=None, end_s=None, types=None, labels=None, **others) -> None:
        """Complain about settings before hours of video are read, not after."""
        config = self.model.config
        if sum(bool(others.get(name)) for name in _RETURN) > 1:
            raise ValueError(f"only one of {', '.join(_RETURN)} can be given")
        if others.get("return_annotation"):
            _home("annotation")
        check_faces(faces)
        for name, value in (("start_s", start_s), ("end_s", end_s)):
            if value is not None and not (isinstance(value, numbers.Real) and not math.isnan(value)):
                raise ValueError(f"{name} must be a number of seconds, got {value!r}")
        if end_s is not None and end_s <= (start_s or 0.0):
            raise ValueError(f"end_s must lie after start_s, got start_s={start_s!r}, end_s={end_s!r}")
        chosen("types", types, config.expression_types)
        chosen("labels", labels, _labels(config))
        check_settings(**{name: others[name] for name in _POSTPROCESS if name in others})

    def __call__(self, inputs: Any, **kwargs):
        """Detect the expressions in a video, or in several; see the class."""
        if not _are_many(inputs):
            return super().__call__({"video": inputs} if isinstance(inputs, (list, tuple)) else inputs, **kwargs)
        if isinstance(inputs, (list, tuple)):
            return super().__call__(list(inputs), on_error="report", **kwargs) if inputs else []
        if isinstance(inputs, Dataset) and hasattr(inputs, "__len__"):
            # Iterated over as it is, a dataset that counts on its length would never end.
            inputs = (item for item in map(inputs.__getitem__, range(len(inputs))))
        elif not isinstance(inputs, python_types.GeneratorType):
            inputs = (item for item in inputs)
        results = super().__call__(inputs, on_error="report", **kwargs)
        return (result for result in results)  # the library's object can be iterated over, but is no iterator

    def get_iterator(self, inputs, num_workers, batch_size, preprocess_params, forward_params, postprocess_params):
        """Stack crops, not videos: the loader sees one step at a time. What must be kept between steps lives here."""
        if not isinstance(batch_size, numbers.Integral) or batch_size < 1:
            raise ValueError(f"batch_size must be a whole number from 1 on, got {batch_size!r}")
        preprocess_params = {**preprocess_params, "batch_size": batch_size}
        forward_params = {**forward_params, "passing": {}, "batch_size": batch_size}
        return super().get_iterator(inputs, num_workers, 1, preprocess_params, forward_params, postprocess_params)

    def save_pretrained(self, save_directory: str | PathLike, **kwargs) -> None:
        """
        Write a whole checkpoint: network, video processor, face networks, a model card if there is none yet, and the
        code of all of them, so that it works with the package and without it. `kwargs` go to the network's
        `save_pretrained`.
        """
        folder, config = Path(save_directory), self.model.config
        if folder.is_file():
            raise ValueError(f"save_directory must be a folder, got the file {folder}")
        folder.mkdir(parents=True, exist_ok=True)
        impl = f"{type(self).__module__.split('.')[-1]}.{type(self).__name__}"
        before = vars(config).pop("custom_pipelines", None)
        config.custom_pipelines = {TASK: {"impl": impl, "pt": ["AutoModelForObjectDetection"], "type": "video"}}
        try:
            custom_object_save(self, folder)
            self.model.save_pretrained(folder, **kwargs)
            self.video_processor.save_pretrained(folder)
        finally:
            del config.custom_pipelines
            if before is not None:
                config.custom_pipelines = before
        if not (folder / "README.md").exists() and _package_version():
            _home("model_card").ModelCard.from_config(config).save(folder)

    def push_to_hub(self, repo_id: str, **kwargs) -> str:
        """
        Publish a whole checkpoint; a model card that the repository has already stays. `kwargs` and errors as in
        `fedn_hf.hub.push_to_hub`, which needs the package.
        """
        hub, card = _home("hub"), _home("model_card").ModelCard
        full_name = repo_id if "/" in repo_id else None
        with tempfile.TemporaryDirectory() as folder:
            card.from_config(self.model.config, model_id=full_name).save(folder)
            self.save_pretrained(folder)
            return hub.push_to_hub(folder, repo_id, **{"keep_card": True, **kwargs})

    # --- one video, step by step ----------------------------------------------------------------------------------

    def preprocess(
        self,
        video: Any,
        batch_size: int = 1,
        faces: str | int = "largest",
        start_s: float | None = None,
        end_s: float | None = None,
        fps: float | None = None,
        allow_url: bool = False,
    ) -> Iterator[dict[str, Any]]:
        """Steps of about `batch_size * config.frame_chunk_size` crops; the last one says so, or what went wrong."""
        is_first = True
        try:
            source = VideoSource.of(video, fps)
            reading = {"faces": faces, "start_s": start_s, "end_s": end_s}
            for step in self._steps(source, batch_size, reading, allow_url):
                yield {"is_first": is_first, **step}
                is_first = False
        except Exception as error:  # a fault of ours or of a library, too, must not cost the other videos
            yield {"is_first": is_first, "is_last": True, "error": _media_error(video, error)}

    def _steps(
        self, source: "VideoSource", batch_size: int, reading: dict, allow_url: bool
    ) -> Iterator[dict[str, Any]]:
        config = self.model.config
        reader, batches = source.crops(config, self.video_processor, allow_url=allow_url, **reading)
        size = batch_size * config.frame_chunk_size
        facts = {"video": _facts(reader), "reading": reading, "total": _expected_frames(reader)}
        waiting: list[CropBatch] = []
        batch = None
        for batch in batches:
            waiting.append(batch)
            # Also without faces, so that progress shows and the waiting crops stay few.
            if sum(int(b.mask.sum()) for b in waiting) >= size or sum(map(len, waiting)) >= 4 * size:
                yield {"is_last": False, **facts, **self._step(waiting)}
                waiting = []
        if batch is None:
            lasts = "" if reader.info.duration_s is None else f"; it lasts {reader.info.duration_s:.2f} s"
            raise MediaError(
                source.name, f"no frames between start_s={reading['start_s']} and end_s={reading['end_s']}{lasts}"
            )
        if reader.truncated_at_s is not None:
            logger.warning(f"{source.name}: damaged; what comes after {reader.truncated_at_s:.2f} s could not be read")
            facts["video"] = {**facts["video"], "truncated_at_s": reader.truncated_at_s}
        yield {"is_last": True, **facts, **self._step(waiting)}

    def _step(self, batches: list[CropBatch]) -> dict[str, Any]:
        """Times of all frames of these batches, and of those with a face what the network needs."""
        step: dict[str, Any] = {
            name: np.concatenate([getattr(batch, name) for batch in batches] or [np.zeros(0, kind)])
            for name, kind in _PER_FRAME.items()
        }
        seen = [batch[np.flatnonzero(batch.mask)] for batch in batches if batch.mask.any()]
        if seen:
            crops = torch.cat([batch.crops for batch in seen])
            step["pixel_values"] = self.video_processor(crops, return_tensors="pt")["pixel_values"][0]
            step["rows"] = {name: np.concatenate([getattr(batch, name) for batch in seen]) for name in _PER_CROP}
            if self.model.config.num_landmarks:
                step["landmarks"] = torch.from_numpy(np.concatenate([batch.landmarks for batch in seen]))
        return step

    def _forward(
        self, step: dict[str, Any], passing: dict[int, "_Passing"], batch_size: int, hook: Callable | None = None
    ) -> dict[str, Any]:
        """
        Give a step to the network. Returns what is known of the video, its frames, and the faces that have gone for
        good; those that may return are in `passing` from one step to the next.
        """
        if step.pop("is_first"):
            passing.clear()
        result = {name: value for name, value in step.items() if name not in ("pixel_values", "landmarks", "rows")}
        if "error" in step:
            return result
        try:
            if "pixel_values" in step:
                self._encode(step, passing, batch_size)
            now = int(step["frame"].min(initial=np.iinfo(np.int64).max))
            gone = [face for face in passing.values() if step["is_last"] or face.stop < now - _GONE_AFTER]
            for face in passing.values():
                face.advance(self.model, ended=face in gone)
        except torch.OutOfMemoryError as error:
            raise FednError(
                f"{step['video']['path']}: out of memory on {self.device} with batch_size={batch_size}; lower it, or "
                "the model's config.frame_chunk_size"
            ) from error
        result["faces"] = [passing.pop(face.face_id).result() for face in gone]
        if hook is not None:
            done = int(step["frame"].max(initial=-1)) + 1 or step["total"]
            hook("detection", None, file=step["video"]["path"], total=step["total"], completed=done)
        return result

    def _encode(self, step: dict[str, Any], passing: dict[int, "_Passing"], batch_size: int) -> None:
        """Pass a step's crops through the backbone, and hand the features to the faces they belong to."""
        crops = step["pixel_values"].to(self.model.dtype)
        per_crop = {"frame_features": self.model.encode_frames(crops, batch_size * self.model.config.frame_chunk_size)}
        if "landmarks" in step:
            per_crop["landmarks"] = step["landmarks"].to(self.model.dtype)
        rows = step["rows"]
        for face_id in np.unique(rows["face_id"]).tolist():
            mine = np.flatnonzero(rows["face_id"] == face_id)
            if face_id not in passing:
                passing[face_id] = _Passing(face_id, int(rows["frame"][mine[0]]), self.model.config.total_stride)
            where = torch.from_numpy(mine).to(crops.device)
            passing[face_id].add(
                {name: values[mine] for name, values in rows.items()},
                {name: values[where] for name, values in per_crop.items()},
            )

    def postprocess(
        self,
        outputs: list[dict[str, Any]],
        on_error: str = "raise",
        return_annotation: bool = False,
        return_curve: bool = False,
        return_raw: bool = False,
        hook: Callable | None = None,
        **settings,
    ) -> Any:
        """What all steps of a video found, joined, as the result that was asked for."""
        if "error" in outputs[-1]:
            error = outputs[-1]["error"]
            if on_error == "raise":
                raise error
            logger.error(str(error))
            return error
        detections = self._join(outputs)
        if return_raw:
            result = detections
        elif return_annotation:
            result = _home("annotation").ExpressionAnnotation.from_dict(detections.describe(**settings))
        else:
            rows = detections.expressions(**settings)
            result = [{name: value for name, value in row.items() if name != "label_scores"} for row in rows]
            if return_curve:
                result = {"expressions": result, "curves": detections.curves()}
        if hook is not None:
            hook("expressions", result, file=detections.video["path"])
        return result

    def _join(self, outputs: list[dict[str, Any]]) -> FednDetections:
        tables = {name: np.concatenate([step[name] for step in outputs]) for name in _PER_FRAME}
        _, rows = np.unique(tables["frame"], return_index=True)  # with faces="all" a frame comes several times
        config, last = self.model.config, outputs[-1]
        model, revision = _origin(config)
        provenance = {
            "model": model,
            "revision": revision,
            "fedn_hf": _package_version(),
            "transformers": transformers.__version__,
            "torch": torch.__version__,
            "device": str(self.device),
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "frame_rate": config.frame_rate,
            "image_size": config.image_size,
            "margin": self.video_processor.margin,
            **last["reading"],
        }
        return FednDetections(
            video=last["video"],
            labels=_labels(config),
            types=config.expression_types,
            score_threshold=config.score_threshold,
            provenance=provenance,
            time_s=torch.from_numpy(tables["time_s"][rows]),
            native_frame=torch.from_numpy(tables["native_frame"][rows]),
            faces=sorted(
                (face for step in outputs for face in step["faces"]), key=lambda face: (face.first_frame, face.face_id)
            ),
        )


class _Passing:
    """A face while it may be in view: features that later windows still need, and what earlier windows found."""

    def __init__(self, face_id: int, first_seen: int, stride: int):
        self.face_id = face_id
        # Positions of the network lie at multiples of its stride in the video, however it was cut into steps.
        self.first = first_seen - first_seen % stride
        self.stop = self.first  # one past the last frame in which it was seen
        self.owned = 0  # frames, counted from `first`, that windows have owned
        self.rows: list[dict[str, np.ndarray]] = []
        self.waiting: list[tuple[torch.Tensor, dict[str, torch.Tensor]]] = []  # frames counted from `first`, inputs
        self.parts: list[dict[str, torch.Tensor]] = []

    def add(self, rows: dict[str, np.ndarray], inputs: dict[str, torch.Tensor]) -> None:
        self.rows.append(rows)
        self.stop = int(rows["frame"][-1]) + 1
        self.waiting.append((torch.from_numpy(rows["frame"] - self.first), inputs))

    def advance(self, model: FednForFacialExpressionDetection, ended: bool) -> None:
        """Run all windows that are complete; once the face has gone, all that are left."""
        config, length = model.config, self.stop - self.first
        stride, context = config.total_stride, config.context_frames
        own = -(-_OWN_FRAMES // stride) * stride
        if ended:
            windows = [w for w in plan_windows(length, own, context, stride) if w.own_start >= self.owned]
        else:
            starts = range(self.owned, length - own - context, own)
            windows = [FednWindow(max(0, at - context), at + own + context, at, at + own) for at in starts]
        for window in windows:
            self.parts.append(model.detect_window(self._inputs(window), window, length))
            self.owned = window.own_stop
        self.waiting = [item for item in self.waiting if item[0][-1] >= self.owned - context]

    def _inputs(self, window: FednWindow) -> dict[str, torch.Tensor]:
        """The frames of a window, (1, frames, ...), empty where the face cannot be seen."""
        size = window.stop - window.start
        mask = torch.zeros(size, dtype=torch.bool)
        inputs = {name: values.new_zeros(size, *values.shape[1:]) for name, values in self.waiting[0][1].items()}
        for frames, values in self.waiting:
            inside = (frames >= window.start) & (frames < window.stop)
            at = frames[inside] - window.start
            mask[at] = True
            for name, tensor in inputs.items():
                tensor[at.to(tensor.device)] = values[name][inside.to(tensor.device)]
        return {name: values[None] for name, values in {**inputs, "frame_mask": mask}.items()}

    def result(self) -> FaceDetections:
        length = self.stop - self.first
        at = torch.from_numpy(np.concatenate([rows["frame"] for rows in self.rows]) - self.first)
        coverage = {}
        for name in ("confidence", "face_size_px", "fit"):
            coverage[name] = torch.zeros(length)
            coverage[name][at] = torch.from_numpy(np.concatenate([rows[name] for rows in self.rows])).float()
        mask = torch.zeros(length, dtype=torch.bool)
        mask[at] = True
        return FaceDetections(self.face_id, self.first, stitch(self.parts, length), mask, **coverage)


# --- what a user may call a video ---------------------------------------------------------------------------------


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
        cropper = FaceCropper(processor.size.height, margin=processor.margin, faces=faces, weights=processor.face_nets)
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


def _media_error(video: Any, error: Exception) -> MediaError:
    """The errors of arguments, and of what nobody expected, do not know which video they came with."""
    if isinstance(error, MediaError):
        return error
    is_ours = isinstance(error, (FednError, ValueError))
    reason = str(error) if is_ours else f"unexpected {type(error).__name__}: {error}"
    named = MediaError(_name(video), reason.replace("native_fps", "fps"))  # its name here
    named.__cause__ = error
    return named


def _are_many(inputs: Any) -> bool:
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


def _labels(config: FednConfig) -> list[str]:
    """Names of the emotion classes; none for a network that only spots."""
    return [config.id2label[i] for i in range(config.num_labels)] if config.heads == "joint" else []


def _facts(reader: VideoReader) -> dict[str, Any]:
    """What the file says about itself."""
    names = ("path", "container", "codec", "width", "height", "fps", "duration_s", "num_frames")
    return {**{name: getattr(reader.info, name) for name in names}, "truncated_at_s": None}


def _expected_frames(reader: VideoReader) -> int | None:
    end_s = min(reader.end_s, reader.info.duration_s or math.inf)
    return max(0, round((end_s - reader.start_s) * reader.frame_rate)) if math.isfinite(end_s) else None


def _home(module: str) -> python_types.ModuleType:
    """A module of the package that does not travel with checkpoints."""
    try:
        return importlib.import_module(f"fedn_hf.{module}")
    except ImportError as error:
        raise FednError("this needs the package and not the checkpoint's code alone: pip install fedn_hf") from error


def _origin(config: FednConfig) -> tuple[str | None, str | None]:
    """Model and revision for provenance. Where the package's own checkpoint lies means nothing on another machine."""
    name = config._name_or_path
    if name and Path(name).resolve() == FACE_NETS.parent / "default":
        return DEFAULT_NAME, _package_version()
    return name or None, getattr(config, "_commit_hash", None)


def _package_version() -> str | None:
    try:
        return importlib.import_module("fedn_hf.version").__version__
    except ImportError:
        return None


__all__ = ["DEFAULT_NAME", "TASK", "FacialExpressionDetectionPipeline", "VideoSource"]
