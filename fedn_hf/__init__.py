"""Facial expression detection in long videos, built around FEDN (arXiv 2504.07660).

Importing the package registers its classes with transformers' Auto classes and does nothing else. Names are imported
when they are first used.
"""

import functools
import importlib
import sys
from pathlib import Path

from .version import __version__

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

    from .configuration_fedn import FednConfig
    from .loading import DefaultModel
    from .modeling_fedn import FednForFacialExpressionDetection, FednModel
    from .pipeline_fedn import TASK, FacialExpressionDetectionPipeline
    from .video_processing_fedn import FednVideoProcessor

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


def __getattr__(name: str):
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
