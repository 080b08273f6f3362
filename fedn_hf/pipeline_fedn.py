"""`pipeline("facial-expression-detection")`: from any video to a table of expressions, in one streaming pass.

A video goes by in steps. `preprocess` reads, follows faces and cuts out crops; `_forward` gives each crop to the
backbone once, keeps the features that later windows still need, and runs the temporal network window by window;
`postprocess` joins what the windows found. Only what `FednDetections` holds outlives its step. `stream` takes the same
steps and gives each expression as soon as it is decided.
"""

import importlib
import math
import numbers
import tempfile
import types as python_types
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from os import PathLike
from pathlib import Path
from typing import Any

import av
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
from .files_fedn import replacing_checkpoint
from .media_fedn import FednError, MediaError
from .modeling_fedn import FednForFacialExpressionDetection
from .passing_fedn import FacePiece, PassingFace, Undecided, join, own_frames
from .results_fedn import FaceDetections, FednDetections, check_settings, chosen
from .source_fedn import VideoSource, are_many, expected_frames, facts_of, media_error
from .stages_fedn import one_thread
from .video_io_fedn import frames_per_batch

logger = logging.get_logger(__name__)

TASK = "facial-expression-detection"
# What results call the checkpoint that comes with the package; its revision is the package's version.
DEFAULT_NAME = "fedn_hf default"
# A face that has been away for longer than the cropper remembers it, or than one of its chunks lasts, is gone.
_GONE_AFTER = FaceCropper.MAX_GAP + 64
_PREPROCESS = ("faces", "start_s", "end_s", "fps", "allow_url")
_POSTPROCESS = ("score_threshold", "types", "labels", "min_duration_s", "max_duration_s", "nms")
_RETURN = ("return_annotation", "return_curve", "return_raw")
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
        if not are_many(inputs):
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
        preprocess_params = {**preprocess_params, "batch_size": _checked_batch_size(batch_size)}
        forward_params = {**forward_params, "passing": {}, "batch_size": batch_size}
        return super().get_iterator(inputs, num_workers, 1, preprocess_params, forward_params, postprocess_params)

    def stream(self, video: Any, batch_size: int | None = None, **kwargs) -> Iterator[dict[str, Any]]:
        """
        The expressions of one video, one by one, each as soon as nothing that is still to come can change it.

            for event in detect.stream("talk.mkv"):
                ...

        They are those that a call gives, to the last digit, and an event that has come never changes. The events of a
        face come in order of onset; with `faces="all"` one face may be ahead of another. How long an event takes is
        `latency_s`. Neither the video nor what has been decided is kept, but for 20 bytes of every frame.

        Args:
            video: One, as a call takes it; also what comes in as it happens: a pipe, a camera.
            batch_size, kwargs: As of a call, without `return_...`.

        Raises:
            `MediaError`: the video cannot be read, or no longer; the events until then have come.
            `ValueError`: settings out of range or unknown, at once.
        """
        preprocess, forward, settings = self._sanitize_parameters(**kwargs)
        settings = {**self._postprocess_params, **settings}
        if given := [name for name in _RETURN if settings.pop(name, None)]:
            raise ValueError(f"{given[0]} goes with a call: a stream gives events one by one")
        settings = {name: value for name, value in settings.items() if name in _POSTPROCESS}
        batch_size = _checked_batch_size(self._batch_size or 1 if batch_size is None else batch_size)
        preprocess = {**self._preprocess_params, **preprocess, "batch_size": batch_size}
        forward = {**self._forward_params, **forward, "batch_size": batch_size}
        return self._stream(
            {"video": video} if isinstance(video, list | tuple) else video, preprocess, forward, settings
        )

    def _stream(self, video: Any, preprocess: dict, forward: dict, settings: dict) -> Iterator[dict[str, Any]]:
        config = self.model.config
        threshold = settings.get("score_threshold", config.score_threshold)
        passing: dict[int, PassingFace] = {}
        undecided: dict[int, Undecided] = {}
        frames: dict[str, np.ndarray] = {}
        for step in self.preprocess(video, **preprocess):
            step = self.forward(step, passing=passing, **forward)
            if "error" in step:
                raise step["error"]
            frames = _frame_table([frames, step] if frames else [step])
            decided = []
            for piece in step["faces"]:
                face = undecided.setdefault(piece.face_id, Undecided(config.context_frames, threshold))
                decided.append(face.add(piece))
                if piece.is_last:
                    del undecided[piece.face_id]
            if any(decided):
                rows = self._detections(step, frames, [face for face in decided if face]).expressions(**settings)
                yield from map(_plain, rows)

    @property
    def latency_s(self) -> float:
        """
        Seconds of video, at most, from the end of an expression to its event from `stream`; of expressions that
        overlap, from the end of the last one.

        A window needs the network's context ahead of the frames that it owns; what it finds reaches back as far; it
        owns `OWN_FRAMES`; and frames are followed in chunks, and given to the network in steps.
        """
        config = self.model.config
        chunks = frames_per_batch(1, 1) + config.frame_chunk_size
        return (2 * config.context_frames + own_frames(config.total_stride) + chunks) / config.frame_rate

    def save_pretrained(self, save_directory: str | PathLike, **kwargs) -> None:
        """
        Write a whole checkpoint: network, video processor, face networks, a model card if there is none yet, and the
        code of all of them, so that it works with the package and without it. `kwargs` go to the network's
        `save_pretrained`.
        """
        folder, config = Path(save_directory), self.model.config
        if folder.is_file():
            raise ValueError(f"save_directory must be a folder, got the file {folder}")
        impl = f"{type(self).__module__.split('.')[-1]}.{type(self).__name__}"
        before = vars(config).pop("custom_pipelines", None)
        config.custom_pipelines = {TASK: {"impl": impl, "pt": ["AutoModelForObjectDetection"], "type": "video"}}
        try:
            with replacing_checkpoint(folder) as unfinished:
                custom_object_save(self, unfinished)
                self.model.save_pretrained(unfinished, **kwargs)
                self.video_processor.save_pretrained(unfinished)
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
            yield {"is_first": is_first, "is_last": True, "error": media_error(video, error)}

    def _steps(
        self, source: "VideoSource", batch_size: int, reading: dict, allow_url: bool
    ) -> Iterator[dict[str, Any]]:
        config = self.model.config
        # A network without a backbone looks at landmarks alone, and is given no pixels.
        pixels = config.backbone_config is not None
        reader, batches = source.crops(config, self.video_processor, allow_url=allow_url, pixels=pixels, **reading)
        size = batch_size * config.frame_chunk_size
        facts: dict[str, Any] = {"video": facts_of(reader), "reading": reading, "total": expected_frames(reader)}
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
            if self.model.config.backbone_config is not None:
                crops = torch.cat([batch.crops for batch in seen])
                step["pixel_values"] = self.video_processor(crops, return_tensors="pt")["pixel_values"][0]
            step["rows"] = {name: np.concatenate([getattr(batch, name) for batch in seen]) for name in _PER_CROP}
            if self.model.config.num_landmarks:
                step["landmarks"] = torch.from_numpy(np.concatenate([batch.landmarks for batch in seen]))
        return step

    def _forward(
        self, step: dict[str, Any], passing: dict[int, PassingFace], batch_size: int, hook: Callable | None = None
    ) -> dict[str, Any]:
        """
        Give a step to the network. Returns what is known of the video, its frames, and what is new of each face; those
        that are there or may return are in `passing` from one step to the next.
        """
        if step.pop("is_first"):
            passing.clear()
        result = {name: value for name, value in step.items() if name not in ("pixel_values", "landmarks", "rows")}
        if "error" in step:
            return result
        try:
            # Only a backbone is work enough to be shared out.
            with one_thread() if self.model.config.backbone_config is None else nullcontext():
                if "rows" in step:
                    self._encode(step, passing, batch_size)
                now = int(step["frame"].min(initial=np.iinfo(np.int64).max))
                gone = [face for face in passing.values() if step["is_last"] or face.stop < now - _GONE_AFTER]
                result["faces"] = [face.advance(self.model, ended=face in gone) for face in passing.values()]
        except torch.OutOfMemoryError as error:
            raise FednError(
                f"{step['video']['path']}: out of memory on {self.device} with batch_size={batch_size}; lower it, or "
                "the model's config.frame_chunk_size"
            ) from error
        for face in gone:
            del passing[face.face_id]
        if hook is not None:
            done = int(step["frame"].max(initial=-1)) + 1 or step["total"]
            hook("detection", None, file=step["video"]["path"], total=step["total"], completed=done)
        return result

    def _encode(self, step: dict[str, Any], passing: dict[int, PassingFace], batch_size: int) -> None:
        """Pass a step's crops through the backbone, and hand the features to the faces they belong to."""
        model, rows, per_crop = self.model, step["rows"], {}
        if "pixel_values" in step:
            crops = step["pixel_values"].to(model.dtype)
            per_crop["frame_features"] = model.encode_frames(crops, batch_size * model.config.frame_chunk_size)
        if "landmarks" in step:
            per_crop["landmarks"] = step["landmarks"].to(model.dtype)
            if "pixel_values" not in step:
                per_crop["frame_features"] = per_crop["landmarks"].new_zeros(len(rows["frame"]), 0)
        for face_id in np.unique(rows["face_id"]).tolist():
            mine = np.flatnonzero(rows["face_id"] == face_id)
            if face_id not in passing:
                passing[face_id] = PassingFace(face_id, int(rows["frame"][mine[0]]), model.config.total_stride)
            where = torch.from_numpy(mine).to(model.device)
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
        result: Any
        if return_raw:
            result = detections
        elif return_annotation:
            result = _home("annotation").ExpressionAnnotation.from_dict(detections.describe(**settings))
        else:
            rows = detections.expressions(**settings)
            result = [_plain(row) for row in rows]
            if return_curve:
                result = {"expressions": result, "curves": detections.curves()}
        if hook is not None:
            hook("expressions", result, file=detections.video["path"])
        return result

    def _join(self, outputs: list[dict[str, Any]]) -> FednDetections:
        pieces: dict[int, list[FacePiece]] = {}
        for piece in (piece for step in outputs for piece in step["faces"]):
            pieces.setdefault(piece.face_id, []).append(piece)
        faces = sorted(map(join, pieces.values()), key=lambda face: (face.first_frame, face.face_id))
        return self._detections(outputs[-1], _frame_table(outputs), faces)

    def _detections(
        self, last: dict[str, Any], frames: dict[str, np.ndarray], faces: list[FaceDetections]
    ) -> FednDetections:
        config = self.model.config
        model, revision = _origin(config)
        provenance = {
            "model": model,
            "revision": revision,
            "fedn_hf": _package_version(),
            "transformers": transformers.__version__,
            "torch": torch.__version__,
            "av": av.__version__,
            "threads": torch.get_num_threads(),  # sums in another order differ in the last bit
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
            time_s=torch.from_numpy(frames["time_s"]),
            native_frame=torch.from_numpy(frames["native_frame"]),
            faces=faces,
        )


def _frame_table(steps: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """`_PER_FRAME` of every frame of these steps once; with faces="all" they come once for each face."""
    table = {name: np.concatenate([step[name] for step in steps]) for name in _PER_FRAME}
    _, rows = np.unique(table["frame"], return_index=True)
    return {name: values[rows] for name, values in table.items()}


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """An expression as the pipeline gives it."""
    return {name: value for name, value in row.items() if name != "label_scores"}


def _checked_batch_size(batch_size: Any) -> int:
    if not isinstance(batch_size, numbers.Integral) or batch_size < 1:
        raise ValueError(f"batch_size must be a whole number from 1 on, got {batch_size!r}")
    return int(batch_size)


def _labels(config: FednConfig) -> list[str]:
    """Names of the emotion classes; none for a network that only spots."""
    return [config.id2label[i] for i in range(config.num_labels)] if config.heads == "joint" else []


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
