"""Facial expression detection in long videos, built around FEDN (arXiv 2504.07660).

Names are imported when they are first used, so `import fedn_hf` costs nothing until work begins.
"""

import importlib

from .version import __version__

# Public name -> the module that holds it.
_HOMES = {
    "CropBatch": "face_fedn",
    "FaceCropper": "face_fedn",
    "FednError": "media_fedn",
    "FrameBatch": "video_io_fedn",
    "MediaError": "media_fedn",
    "MediaLimits": "media_fedn",
    "VideoInfo": "media_fedn",
    "VideoReader": "video_io_fedn",
}


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])


__all__ = ["__version__", *_HOMES]
