"""`fedn doctor`: what is installed here, and whether it works. Nothing is sent anywhere, and no network is needed."""

import functools
import importlib.metadata
import os
import platform
import re
from collections.abc import Callable
from pathlib import Path

import typer

from ..version import __version__
from .terminal import SOME_FAILED, say

# Decoders for what cameras, phones, screen recorders and old camcorders write.
# FFmpeg's own "av1" only drives graphics cards; libdav1d decodes.
CODECS = (
    "h264",
    "hevc",
    "libdav1d",
    "vp8",
    "vp9",
    "mpeg4",
    "mpeg2video",
    "mjpeg",
    "prores",
    "dvvideo",
    "wmv2",
    "wmv3",
)
FACE_NETS_NAMES = ("blazeface_short_range", "blazeface_full_range", "facemesh468")
PACKAGES = ("torch", "transformers", "huggingface_hub", "safetensors", "numpy", "datasets", "accelerate")
DEMO = Path(__file__).resolve().parents[1] / "assets" / "demo.mp4"


def doctor() -> None:
    """Show versions, devices, video formats and extras, and test whether videos can be read and networks run.

    It needs no network. Its output is what a report of a fault should hold.

    \b
    Example:
      fedn doctor
    """
    checks: dict[str, Callable[[], str]] = {
        "system": _system,
        **{name: functools.partial(importlib.metadata.version, name) for name in PACKAGES},
        "av": _ffmpeg,
        "CPU": _cpu,
        "GPU": _gpu,
        "video formats": _codecs,
        "face networks": _face_nets,
        "decoding": _decoding,
        "following faces": _following,
        "detector": _detector,
    }
    failed = 0
    for name, check in checks.items():
        try:
            state, words = "OK", check()
        except Exception as error:  # whatever is broken here is what the command is for
            failed += 1
            state, words = "FAILED", " ".join(str(error).split()) or type(error).__name__
        say(f"{state:6}  {name:15}  {words}")
    for name in _extras():
        say(f"{'-':6}  {f'extra {name}':15}  {_extra(name)}")
    if failed:
        say("", f"{failed} FAILED.")
        raise typer.Exit(SOME_FAILED)
    say("", "All is well.")


def _system() -> str:
    return f"fedn_hf {__version__}, Python {platform.python_version()}, {platform.platform()}"


def _ffmpeg() -> str:
    import av

    return f"{av.__version__}, with FFmpeg's libavcodec {'.'.join(map(str, av.library_versions['libavcodec']))}"


def _cpu() -> str:
    import psutil  # comes with accelerate
    import torch

    memory = psutil.virtual_memory()
    total, free = memory.total / 2**30, memory.available / 2**30
    return f"{os.cpu_count()} cores, {torch.get_num_threads()} threads in use; {total:.1f} GiB memory, {free:.1f} free"


def _gpu() -> str:
    import torch

    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    names += ["Apple GPU (mps)"] if torch.backends.mps.is_available() else []
    return ", ".join(names) or "no GPU that this torch can use; the network runs on the CPU"


def _codecs() -> str:
    import av

    missing = []
    for name in CODECS:
        try:
            av.codec.Codec(name, "r")
        except ValueError:  # av's UnknownCodecError
            missing.append(name)
    if missing:
        raise RuntimeError(f"this FFmpeg cannot decode {', '.join(missing)}; install av from PyPI, which can")
    return ", ".join(CODECS).replace("libdav1d", "av1")


def _face_nets() -> str:
    from ..face_nets_fedn import FACE_NETS, load_face_net

    for name in FACE_NETS_NAMES:
        load_face_net(name)
    return f"{', '.join(FACE_NETS_NAMES)} from {FACE_NETS.name}"


def _extras() -> dict[str, list[str]]:
    """Extra -> the packages it brings, without those for developers."""
    try:
        requirements = importlib.metadata.requires("fedn_hf") or []
    except importlib.metadata.PackageNotFoundError:  # run from its folder, without having been installed
        return {}
    found: dict[str, list[str]] = {}
    for requirement in requirements:
        extra = re.search(r"extra == [\"'](\w+)[\"']", requirement)
        if extra and extra[1] not in ("test", "dev"):
            found.setdefault(extra[1], []).append(re.match(r"[\w.-]+", requirement)[0])
    return found


def _extra(name: str) -> str:
    missing = []
    for package in _extras()[name]:
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            missing.append(package)
    if not missing:
        return "installed"
    return f'not installed ({", ".join(missing)}); pip install "fedn_hf[{name}]"'


def _decoding() -> str:
    from ..video_io_fedn import VideoReader

    reader = VideoReader(DEMO)
    frames = sum(map(len, reader))
    if reader.truncated_at_s is not None or frames != reader.info.num_frames:
        raise RuntimeError(f"{frames} of {reader.info.num_frames} frames of {DEMO.name} could be read")
    return f"{frames} frames of {DEMO.name}"


def _following() -> str:
    from ..face_fedn import FaceCropper
    from ..video_io_fedn import VideoReader

    masks = [batch.mask for batch in FaceCropper()(VideoReader(DEMO))]
    seen, frames = sum(int(mask.sum()) for mask in masks), sum(map(len, masks))
    if not seen or seen != frames:
        raise RuntimeError(f"found in {seen} of {frames} frames")
    return f"found in all {frames} frames"


def _detector() -> str:
    import torch
    from transformers.utils import logging

    from ..loading import load_pipeline
    from ..pipeline_fedn import DEFAULT_NAME

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    (face,) = load_pipeline(device="cpu")(str(DEMO), end_s=1, return_raw=True).faces
    if not torch.isfinite(face.proposals.confidence).all():
        raise RuntimeError(f"{DEFAULT_NAME} {__version__} gives numbers that are not finite")
    counts = f"{len(face.mask)} frames, {len(face.proposals.confidence)} proposals"
    return f"{DEFAULT_NAME} {__version__} runs ({counts})"


__all__ = ["doctor"]
