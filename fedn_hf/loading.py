"""From the name of a checkpoint to a pipeline that can be called, or to one line that says why there is none."""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .hub import CONFIG, DEFAULT, HOW_TO_MAKE, LOG_IN, PROCESSOR, WEIGHTS, WEIGHTS_INDEX, CheckpointError
from .media_fedn import FednError, causes
from .version import __version__

if TYPE_CHECKING:
    from .pipeline_fedn import FacialExpressionDetectionPipeline


def default_checkpoint() -> Path:
    """
    The folder of the detector that comes with the package, as `pipeline.save_pretrained` writes it: to begin training
    from, to look into, or to publish with `push_to_hub`. Only the code and the face networks, which it shares with the
    package, lie outside of it; pushing takes them along, and so does `load_pipeline().save_pretrained(folder)`, which
    makes a copy to change.

    Raises:
        CheckpointError: it is not there, because the installation is damaged.

    Example:
        >>> from fedn_hf import FednForFacialExpressionDetection, default_checkpoint
        >>> network = FednForFacialExpressionDetection.from_pretrained(default_checkpoint())
        >>> network.config.expression_types
        ['macro-expression', 'micro-expression']
    """
    missing = [name for name in (CONFIG, PROCESSOR, WEIGHTS) if not (DEFAULT / name).is_file()]
    if missing:
        raise CheckpointError(
            "fedn_hf",
            f"this installation is damaged: {', '.join(missing)} of the detector that comes with it should lie in "
            f"{DEFAULT}; reinstall fedn_hf, or name a checkpoint, which is a folder or a model on the Hub "
            "(on the command line: --model)",
        )
    return DEFAULT


class DefaultModel(dict):
    """The task's default model in transformers' registry. Whether it is there is looked up when it is asked for."""

    def __init__(self):
        # A revision is for the Hub, and not looked at in a folder; transformers prints it.
        super().__init__(model=(str(DEFAULT), __version__))

    def __getitem__(self, key):
        default_checkpoint()
        logging.getLogger("transformers.pipelines").addFilter(_is_no_word_on_the_default)
        return super().__getitem__(key)


def _is_no_word_on_the_default(record: logging.LogRecord) -> bool:
    """transformers warns that a default may change under its user, as those on the Hub do; this one cannot."""
    return not record.getMessage().startswith(f"No model was supplied, defaulted to {DEFAULT} ")


def load_pipeline(
    model: str | Path | None = None,
    *,
    revision: str | None = None,
    token: str | None = None,
    device: str | int | None = None,
    **settings,
) -> "FacialExpressionDetectionPipeline":
    """
    The pipeline of a checkpoint, ready to be called with videos. Only safetensors are read, and only the code of this
    package runs: a checkpoint can bring neither pickles nor code of its own.

    Args:
        model: folder that `pipeline.save_pretrained` wrote, or "name/of-model" on the Hub; None for the detector that
            comes with the package, which needs no network.
        revision: a branch, a tag, or the full id of a commit on the Hub; None for the main branch.
        token: for private repositories; None takes the one of `hf auth login` or HF_TOKEN.
        device: where the network runs, such as "cpu" or "cuda:0"; None takes an accelerator where there is one for a
            network that looks at pixels, and the CPU for one that reads landmarks alone: it is faster there.
        settings: of the pipeline, such as `score_threshold`; they hold for every call.

    Raises:
        CheckpointError: no such checkpoint, one that is incomplete, damaged or of another kind, or no way to the Hub.
        FednError: a device that cannot be used here.
        ValueError: settings that the pipeline does not take.

    Example:
        >>> detect = load_pipeline(score_threshold=0.7)
        >>> detect("interview.mp4")  # doctest: +SKIP
        >>> load_pipeline("no-such-folder/")
        Traceback (most recent call last):
        fedn_hf.hub.CheckpointError: no-such-folder/: there is no such folder, and a model on the Hub is written ...
    """
    name = os.fspath(default_checkpoint() if model is None else model)
    _check_place(name, revision)
    _check_device(device)

    from transformers import pipeline

    from .pipeline_fedn import TASK

    try:
        network, processor = _load_parts(name, {"revision": revision or "main", "token": token})
    except FednError:
        raise
    except Exception as error:  # whatever transformers, safetensors or the Hub's client may raise
        raise CheckpointError(name, _explain_loading(error)) from error
    if device is None and network.config.backbone_config is None:
        device = "cpu"  # beside an H200: 434 frames/s, and 332 on it, which waits for faces that CPUs follow
    return pipeline(TASK, model=network, video_processor=processor, device=device, **settings)


def _load_parts(name: str, where: dict[str, str | None]) -> tuple:
    """Network and video processor of a checkpoint."""
    from transformers import PreTrainedConfig

    from . import FednConfig, FednForFacialExpressionDetection, FednVideoProcessor

    # Loaded as another kind of model, a network would be built from defaults and answer at random.
    kind = PreTrainedConfig.get_config_dict(name, **where)[0].get("model_type")
    if kind != FednConfig.model_type:
        raise CheckpointError(name, f'a model of type "{FednConfig.model_type}" is needed, this is "{kind}"')
    with _no_bar():
        network, report = FednForFacialExpressionDetection.from_pretrained(
            name, ignore_mismatched_sizes=True, output_loading_info=True, **where
        )
    processor = FednVideoProcessor.from_pretrained(name, **where)
    # transformers fills these up with random numbers, and only warns.
    unfit = sorted({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])})
    if unfit:
        raise CheckpointError(
            name,
            f"{len(unfit)} of the weights that its {CONFIG} asks for are missing or of another shape, such as "
            f"{unfit[0]}; get or save it again",
        )
    # Compared with NaN everything is false: a network with such weights would find nothing, and not say why.
    broken = [key for key, values in network.state_dict().items() if not values.isfinite().all()]
    if broken:
        raise CheckpointError(
            name, f"{len(broken)} of its weights hold NaN or infinity, such as {broken[0]}; get or save it again"
        )
    return network, processor


_hooking = threading.Lock()  # put back by two threads out of turn, a hook would stay, and hide everybody's bars


@contextmanager
def _no_bar() -> Iterator[None]:
    """Without transformers' bar over the weights, which takes a blink; downloads keep theirs."""
    from transformers.utils import logging as theirs

    with _hooking:
        before = theirs.set_tqdm_hook(lambda bar, args, settings: theirs.EmptyTqdm(*args, **settings))
        try:
            yield
        finally:
            theirs.set_tqdm_hook(before)


def _check_place(name: str, revision: str | None) -> None:
    """Make sure that this is a folder with what a checkpoint holds, or may be the name of a model on the Hub."""
    folder = Path(name)
    if name and folder.is_dir():
        if revision is not None:
            raise CheckpointError(name, f'a folder has no revisions, so "{revision}" cannot be had; leave it out')
        missing = [file for file in (CONFIG, PROCESSOR) if not (folder / file).is_file()]
        if not any((folder / file).is_file() for file in (WEIGHTS, WEIGHTS_INDEX)):
            missing.append(f"{WEIGHTS}, the only kind of weights that is loaded")
        if missing:
            raise CheckpointError(name, f"a checkpoint also holds {', '.join(missing)}; {HOW_TO_MAKE}")
        return
    if name and folder.exists():
        raise CheckpointError(name, "a checkpoint is a folder, and this is a file; name the folder that it lies in")

    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        reason = 'there is no such folder, and a model on the Hub is written "name/of-model"'
        raise CheckpointError(name, reason) from None


def _check_device(device: str | int | None) -> None:
    import torch

    try:
        if device not in (None, -1):  # transformers' -1 is the CPU; an accelerator's number it takes for that, too
            torch.zeros(1, device=device).item()
    except Exception as error:  # torch raises AssertionError, RuntimeError and more, as the device has it
        found = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        found += ["mps"] if torch.backends.mps.is_available() else []
        raise FednError(f'device "{device}" cannot be used here; there is {", ".join(found)}') from error


def _explain_loading(error: BaseException) -> str:
    """What happened and what to do. Errors come wrapped into others, so the causes are searched."""
    from huggingface_hub import errors
    from safetensors import SafetensorError

    for cause in causes(error):
        match cause:
            case errors.GatedRepoError():
                return f"its owner opens it on request; ask for access on its page, then {LOG_IN}"
            case errors.RepositoryNotFoundError():
                return f"there is no such folder here, and no such model on the Hub, or it is private; {LOG_IN}"
            case errors.RevisionNotFoundError():
                return "there is no such revision; name a branch, a tag or the full id of a commit"
            case errors.LocalEntryNotFoundError() | errors.OfflineModeIsEnabled() | ConnectionError():
                return (
                    "there is no such folder here, and the Hub cannot be reached to look for a model of this name; "
                    "check the spelling and the network, or name none, which takes the package's own detector"
                )
            case errors.RemoteEntryNotFoundError():
                return f"the repository is no complete checkpoint ({_in_one_line(cause)})"
            case SafetensorError():
                return f"its weights are damaged ({_in_one_line(cause)}); get or save them again"
    return f"cannot be loaded ({_in_one_line(error)})"


def _in_one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


__all__ = ["DefaultModel", "default_checkpoint", "load_pipeline"]
