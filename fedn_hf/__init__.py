"""Facial expression detection in long videos, built around FEDN (arXiv 2504.07660).

Importing the package registers its classes with transformers' Auto classes and does nothing else. Names are imported
when they are first used.
"""

import functools
import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .version import __version__

# For type checkers and editors, which run nothing: the same as `_HOMES`. They take `X as X` for a public name.
if TYPE_CHECKING:
    from .annotation import ExpressionAnnotation as ExpressionAnnotation
    from .annotation import ExpressionInterval as ExpressionInterval
    from .configuration_fedn import FednConfig as FednConfig
    from .exporters.mapping import CodeMapping as CodeMapping
    from .face_fedn import CropBatch as CropBatch
    from .face_fedn import FaceCropper as FaceCropper
    from .hub import CheckpointError as CheckpointError
    from .hub import HubError as HubError
    from .hub import check_checkpoint as check_checkpoint
    from .hub import pull_from_hub as pull_from_hub
    from .hub import push_to_hub as push_to_hub
    from .loading import default_checkpoint as default_checkpoint
    from .loading import load_pipeline as load_pipeline
    from .media_fedn import FednError as FednError
    from .media_fedn import MediaError as MediaError
    from .media_fedn import MediaLimits as MediaLimits
    from .media_fedn import VideoInfo as VideoInfo
    from .model_card import ModelCard as ModelCard
    from .modeling_fedn import FednForFacialExpressionDetection as FednForFacialExpressionDetection
    from .modeling_fedn import FednModel as FednModel
    from .modeling_fedn import FednPreTrainedModel as FednPreTrainedModel
    from .pipeline_fedn import FacialExpressionDetectionPipeline as FacialExpressionDetectionPipeline
    from .postprocessing_fedn import FednIntervals as FednIntervals
    from .postprocessing_fedn import FednProposals as FednProposals
    from .postprocessing_fedn import find_intervals as find_intervals
    from .progress import ProgressHook as ProgressHook
    from .results_fedn import FaceDetections as FaceDetections
    from .results_fedn import FednDetections as FednDetections
    from .time_budget import budget_table as budget_table
    from .time_budget import tidy_table as tidy_table
    from .video_io_fedn import FrameBatch as FrameBatch
    from .video_io_fedn import VideoReader as VideoReader
    from .video_processing_fedn import FednVideoProcessor as FednVideoProcessor

# Public name -> the module that holds it.
_HOMES = {
    "CheckpointError": "hub",
    "CodeMapping": "exporters.mapping",
    "CropBatch": "face_fedn",
    "ExpressionAnnotation": "annotation",
    "ExpressionInterval": "annotation",
    "FaceCropper": "face_fedn",
    "FaceDetections": "results_fedn",
    "FacialExpressionDetectionPipeline": "pipeline_fedn",
    "FednConfig": "configuration_fedn",
    "FednDetections": "results_fedn",
    "FednError": "media_fedn",
    "FednForFacialExpressionDetection": "modeling_fedn",
    "FednIntervals": "postprocessing_fedn",
    "FednModel": "modeling_fedn",
    "FednPreTrainedModel": "modeling_fedn",
    "FednProposals": "postprocessing_fedn",
    "FednVideoProcessor": "video_processing_fedn",
    "FrameBatch": "video_io_fedn",
    "HubError": "hub",
    "MediaError": "media_fedn",
    "MediaLimits": "media_fedn",
    "ModelCard": "model_card",
    "ProgressHook": "progress",
    "VideoInfo": "media_fedn",
    "VideoReader": "video_io_fedn",
    "budget_table": "time_budget",
    "check_checkpoint": "hub",
    "default_checkpoint": "loading",
    "find_intervals": "postprocessing_fedn",
    "load_pipeline": "loading",
    "pull_from_hub": "hub",
    "push_to_hub": "hub",
    "tidy_table": "time_budget",
}


@functools.cache
def _register() -> None:
    """
    Make `AutoModel.from_pretrained(directory)` and its sisters find the classes of this package, and let
    `save_pretrained` write the code beside the weights.
    """
    from transformers import AutoConfig, AutoModel, AutoModelForObjectDetection
    from transformers.models.auto.video_processing_auto import AutoVideoProcessor
    from transformers.pipelines import PIPELINE_REGISTRY

    from .configuration_fedn import FednConfig as FednConfig
    from .loading import DefaultModel
    from .modeling_fedn import FednForFacialExpressionDetection as FednForFacialExpressionDetection
    from .modeling_fedn import FednModel as FednModel
    from .pipeline_fedn import TASK, FacialExpressionDetectionPipeline
    from .video_processing_fedn import FednVideoProcessor as FednVideoProcessor

    AutoConfig.register(FednConfig.model_type, FednConfig, exist_ok=True)
    FednConfig.register_for_auto_class()
    for auto, model in ((AutoModel, FednModel), (AutoModelForObjectDetection, FednForFacialExpressionDetection)):
        auto.register(FednConfig, model, exist_ok=True)
        model.register_for_auto_class(auto.__name__)
    AutoVideoProcessor.register(FednConfig, FednVideoProcessor, exist_ok=True)
    FednVideoProcessor.register_for_auto_class()
    PIPELINE_REGISTRY.register_pipeline(
        TASK,
        pipeline_class=FacialExpressionDetectionPipeline,
        pt_model=AutoModelForObjectDetection,
        default=DefaultModel(),
        type="video",
    )


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if _HOMES[name] in ("configuration_fedn", "modeling_fedn", "pipeline_fedn", "video_processing_fedn"):
        _register()  # where importing the package has left it out
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])


# Registering imports torch and transformers, which takes seconds. The command line answers --help and names wrong
# arguments at once, and registers when a command first asks for the network.
if Path(next(iter(sys.argv), "")).name not in ("fedn", "fedn.exe"):
    _register()

__all__ = ["__version__", *_HOMES]
