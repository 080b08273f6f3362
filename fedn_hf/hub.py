"""The way to the Hub and back: a saved checkpoint goes up as one commit, and comes down complete or not at all.

Only formats that run nothing when they are opened travel, and beside them the checkpoint's own code, which is text
that anyone can read. Whatever goes wrong is said in one line: what happened, and what to do.
"""

import ast
import json
import logging
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .media_fedn import FednError
from .version import __version__

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo, HfApi

logger = logging.getLogger(__name__)

CONFIG = "config.json"
PROCESSOR = "video_preprocessor_config.json"
PIPELINE = "pipeline_fedn.py"
FACE_NETS = "face_nets.safetensors"
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
REQUIRED = (CONFIG, PROCESSOR, FACE_NETS, PIPELINE, "README.md")
SENT = ("*.safetensors", "*.json", "*.py", "*.md", "LICENSE*", "NOTICE*", ".gitattributes")
# Pickles, which run code when they are opened, and other ways to store weights, which nothing here reads.
REFUSED_SUFFIXES = frozenset(
    {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".dill", ".npy", ".npz", ".h5", ".hdf5", ".keras"}
) | frozenset({".pb", ".msgpack", ".onnx", ".ot", ".gguf", ".ggml", ".tflite", ".mat", ".pyc"})
HOW_TO_MAKE = "make it with pipeline.save_pretrained(folder)"
LOG_IN = "run `hf auth login`, or pass a token"

_PACKAGE = Path(__file__).resolve().parent
# The checkpoint that comes with the package; `default_checkpoint` makes sure that it is there.
DEFAULT = _PACKAGE / "weights" / "default"


class CheckpointError(FednError):
    """
    A folder that is no checkpoint to publish or to use: `folder` names it, `reason` says why and what to do.

    Example:
        >>> raise CheckpointError("my-detector", "model.safetensors is missing")
        Traceback (most recent call last):
        fedn_hf.hub.CheckpointError: my-detector: model.safetensors is missing
    """

    def __init__(self, folder: str | Path, reason: str):
        super().__init__(f"{folder}: {reason}")
        self.folder = str(folder)
        self.reason = reason

    def __reduce__(self):  # worker processes hand errors over by pickling them
        return type(self), (self.folder, self.reason)


class HubError(FednError):
    """
    What could not be done on the Hub: `repo_id` names the repository, `reason` says why and what to do.

    Example:
        >>> try:
        ...     pull_from_hub("no/such/name")
        ... except HubError as error:
        ...     print(error)
        no/such/name: this cannot be the name of a repository; write "name/of-model"
    """

    def __init__(self, repo_id: str, reason: str):
        super().__init__(f"{repo_id}: {reason}")
        self.repo_id = repo_id
        self.reason = reason

    def __reduce__(self):
        return type(self), (self.repo_id, self.reason)


def check_checkpoint(folder: str | Path) -> None:
    """
    Make sure that a folder holds a complete checkpoint: configurations, weights that open, the face networks, the
    model card, and all code that the configurations name together with what that code imports from beside it.

    Args:
        folder: what `pipeline.save_pretrained` wrote, or `pull_from_hub` gave.

    Raises:
        CheckpointError: something is missing or damaged; the error names all that is missing.

    Example:
        >>> try:
        ...     check_checkpoint("no-such-folder")
        ... except CheckpointError as error:
        ...     print(error)
        no-such-folder: there is no such folder; make it with pipeline.save_pretrained(folder)
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(folder, f"there is no such folder; {HOW_TO_MAKE}")
    weights = [WEIGHTS]
    if not (folder / WEIGHTS).is_file() and (folder / WEIGHTS_INDEX).is_file():
        shards = _values(_read_json(folder, WEIGHTS_INDEX).get("weight_map"))
        weights = sorted({str(name) for name in shards}) or [WEIGHTS]
        if outside := [name for name in weights if not re.fullmatch(r"[\w.-]+\.safetensors", name)]:
            raise CheckpointError(folder, f"{WEIGHTS_INDEX} names {outside[0]}, which is no file beside it")
    code = _code_files(folder, _named_modules(folder))
    names = dict.fromkeys((*REQUIRED, *weights, *code))
    missing = [name for name in names if not _place(folder, name).is_file()]
    if missing:
        raise CheckpointError(folder, f"a complete checkpoint also holds {', '.join(missing)}; {HOW_TO_MAKE}")
    _open_weights(folder, [*weights, FACE_NETS])


def push_to_hub(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    revision: str | None = None,
    message: str | None = None,
    keep_card: bool = False,
) -> "CommitInfo":
    """
    Publish a saved checkpoint on the Hub as one commit. The repository is made where there is none yet. Weights of
    an earlier push that this checkpoint no longer has are taken away by the same commit, lest they be loaded.

    Args:
        folder: a complete checkpoint, see `check_checkpoint`. Its safetensors, JSON, Python and Markdown files go
            up, with licences and .gitattributes; other files and sub-folders stay behind, and the log says so.
        repo_id: "name/of-model", or the last part alone for the account that the token belongs to.
        private: whether only its owner may see a new repository; None leaves that to the account's settings.
        token: of the account; None takes the one of `hf auth login` or HF_TOKEN.
        revision: a branch, made from the main one where there is none; None for the main one.
        message: of the commit.
        keep_card: leave a model card (README.md) that the repository has already as it is.

    Returns:
        The commit: a string, its address, with the attributes `oid`, the revision to pin, and `repo_url`.

    Raises:
        CheckpointError: the folder is incomplete, or holds a pickle or a like format; nothing was sent.
        HubError: the Hub or the way to it failed. Nothing half-done is ever published: a push can be run again, and
            large files that arrived are not sent twice.

    Example:
        >>> from transformers import pipeline
        >>> detect = pipeline("facial-expression-detection", model="my-detector")  # doctest: +SKIP
        >>> detect.save_pretrained("fine-tuned")  # doctest: +SKIP
        >>> commit = push_to_hub("fine-tuned", "name/fine-tuned", private=True)  # doctest: +SKIP
        >>> push_to_hub("no-such-folder", "name/fine-tuned")
        Traceback (most recent call last):
        fedn_hf.hub.CheckpointError: no-such-folder: there is no such folder; make it with ...
    """
    folder = Path(folder)
    check_checkpoint(folder)
    files = _files_to_send(folder)
    with client(repo_id, token) as api:
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        before = api.model_info(repo_id)
        if private is not None and before.private != private:
            state = "private" if before.private else "public"
            wish = f"private={private} cannot change that; do it in its settings, or leave private= out"
            raise HubError(repo_id, f"the repository exists and is {state}: {wish}")
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
            before = api.model_info(repo_id, revision=revision)
    published = {sibling.rfilename for sibling in before.siblings or ()}
    files = [file for file in files if not (keep_card and file.name == "README.md" and file.name in published)]
    try:
        with client(repo_id, token) as api:
            return api.create_commit(
                repo_id,
                operations=_operations(files, published),
                commit_message=message or "Upload checkpoint",
                revision=revision,
                parent_commit=before.sha,
            )
    except HubError as error:
        raise HubError(repo_id, f"{error.reason}; {_outcome(repo_id, token, revision, before.sha)}") from None


def pull_from_hub(
    repo_id: str, *, revision: str | None = None, token: str | None = None, folder: str | Path | None = None
) -> Path:
    """
    Download a checkpoint and make sure that it is complete. Where the Hub cannot be reached, a copy in the cache
    serves.

    Args:
        repo_id: "name/of-model".
        revision: a branch, a tag, or the full id of a commit; None for the main branch. Name a commit to get the same
            files and the same code for ever.
        token: for private repositories; None takes the one of `hf auth login` or HF_TOKEN.
        folder: where to put a copy; must be new or empty. None leaves the files in the client's cache.

    Returns:
        The folder with the files.

    Raises:
        CheckpointError: the repository does not hold a complete checkpoint, or `folder` is in use.
        HubError: no such repository or revision, no right to see it, or no way to the Hub.

    Example:
        >>> folder = pull_from_hub("name/my-detector", revision="v1", folder="my-detector")  # doctest: +SKIP
        >>> from pathlib import Path
        >>> Path("in-use").write_text("")
        0
        >>> pull_from_hub("name/my-detector", folder="in-use")
        Traceback (most recent call last):
        fedn_hf.hub.CheckpointError: in-use: is in use; name a folder that is new or empty
    """
    target = None if folder is None else Path(folder)
    if target is not None and target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise CheckpointError(target, "is in use; name a folder that is new or empty")
    with client(repo_id, token) as api:
        refused = [f"*{suffix}" for suffix in sorted(REFUSED_SUFFIXES)]
        snapshot = Path(
            api.snapshot_download(repo_id, revision=revision, allow_patterns=list(SENT), ignore_patterns=refused)
        )
    try:
        check_checkpoint(snapshot)
    except CheckpointError as error:
        raise CheckpointError(f"{repo_id} at {revision or 'main'}", error.reason) from None
    if target is None:
        return snapshot
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target, prefix=".unfinished-") as unfinished:
        copy = shutil.copytree(snapshot, Path(unfinished) / "checkpoint")  # files, not links into the cache
        for entry in sorted(copy.iterdir()):
            entry.rename(target / entry.name)
    return target


def _place(folder: Path, name: str) -> Path:
    """Where a file of a checkpoint lies. The default one has its code and its face networks from the package."""
    if not (folder / name).is_file() and folder.resolve() == DEFAULT:
        if name == FACE_NETS:
            return DEFAULT.parent / name
        if name.endswith("_fedn.py"):
            return _PACKAGE / name
    return folder / name


def _read_json(folder: Path, name: str) -> dict:
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(folder, f"{name} is not JSON ({error}); {HOW_TO_MAKE}") from None
    if not isinstance(content, dict):
        raise CheckpointError(folder, f"{name} should hold a JSON object, not {str(content)[:40]}; {HOW_TO_MAKE}")
    return content


def _named_modules(folder: Path) -> set[str]:
    """Modules that the configurations name, as "module.Class"; "other/repo--module.Class" lives elsewhere."""
    references: list = [f"{Path(PIPELINE).stem}.*"]
    for name in (CONFIG, PROCESSOR):
        content = _read_json(folder, name) if (folder / name).is_file() else {}
        tasks = [task for task in _values(content.get("custom_pipelines")) if isinstance(task, dict)]
        for classes in (*_values(content.get("auto_map")), *(task.get("impl") for task in tasks)):
            references += classes if isinstance(classes, list) else [classes]
    names = [reference for reference in references if isinstance(reference, str)]
    return {match[1] for name in names if (match := re.fullmatch(r"(\w+)\.[\w*]+", name))}


def _values(content: object) -> list:
    return list(content.values()) if isinstance(content, dict) else []


def _code_files(folder: Path, modules: Iterable[str]) -> list[str]:
    """Those modules' files and the files of all that they import from beside them, whether these exist or not."""
    found: list[str] = []
    waiting = sorted(modules)
    while waiting:
        name = f"{waiting.pop()}.py"
        if name in found:
            continue
        found.append(name)
        path = _place(folder, name)
        if not path.is_file():
            continue
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, ValueError, RecursionError) as error:
            raise CheckpointError(folder, f"{name} is not Python ({error}); {HOW_TO_MAKE}") from None
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == 1]
        beside = [[node.module] if node.module else [alias.name for alias in node.names] for node in imports]
        waiting += sorted({module.split(".")[0] for names in beside for module in names})
    return sorted(found)


def _open_weights(folder: Path, names: list[str]) -> None:
    from safetensors import SafetensorError, safe_open

    for name in names:
        try:
            # Reads the header and compares it with the file's size.
            with safe_open(_place(folder, name), framework="np"):
                pass
        except SafetensorError as error:
            raise CheckpointError(folder, f"{name} is damaged ({error}); {HOW_TO_MAKE}") from None


def _files_to_send(folder: Path) -> list[Path]:
    entries = sorted(folder.iterdir())
    refused = [entry.name for entry in entries if entry.is_file() and entry.suffix.lower() in REFUSED_SUFFIXES]
    if refused:
        raise CheckpointError(
            folder,
            f"holds {', '.join(refused)}: pickles and the like are not published, because opening them can run any "
            f"code; remove them, or save the pipeline into a new folder, which keeps weights as safetensors",
        )
    sent = [entry for entry in entries if entry.is_file() and any(entry.match(kind) for kind in SENT)]
    left = [entry.name for entry in entries if entry not in sent]
    if left:
        logger.warning("%s stay behind: a checkpoint is made of %s", ", ".join(left), ", ".join(SENT))
    shared = [_place(folder, name) for name in (FACE_NETS, *_code_files(folder, _named_modules(folder)))]
    return [*sent, *(path for path in shared if path not in sent)]


def _operations(files: list[Path], published: set[str]) -> list:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    sent = {file.name for file in files}
    # Left where they are, the weights of an earlier push could be loaded in place of this checkpoint's: a whole
    # model.safetensors goes before an index with shards.
    stale = sorted(name for name in published - sent if name.endswith((".safetensors", ".safetensors.index.json")))
    return [CommitOperationDelete(name) for name in stale] + [CommitOperationAdd(file.name, file) for file in files]


def _outcome(repo_id: str, token: str | None, revision: str | None, before: str) -> str:
    """What came of a push that failed: a commit has happened even where the answer to it was lost on the way."""
    try:
        with client(repo_id, token) as api:
            after = api.model_info(repo_id, revision=revision).sha
    except HubError:
        return "nothing half-done is ever published, so push again"
    if after == before:
        return "nothing was published, and a new push goes on where this one stopped"
    return f"its latest commit is now {after}, which may be this push"


@contextmanager
def client(repo_id: str, token: str | None) -> "Iterator[HfApi]":
    """The Hub's client, without its telemetry, and with its errors made into one line of ours."""
    from huggingface_hub import HfApi, constants

    told = constants.HF_HUB_DISABLE_TELEMETRY
    # The variable is read when the client is imported, and transformers has long done that; so its result is set. It
    # keeps the client from naming the installed packages and from asking which program it is called by.
    constants.HF_HUB_DISABLE_TELEMETRY = True
    try:
        yield HfApi(token=token, library_name="fedn_hf", library_version=__version__)
    except FednError:
        raise
    except Exception as error:  # whatever the client, its HTTP library or its Xet library may raise
        raise HubError(repo_id, _explain(error)) from None
    finally:
        constants.HF_HUB_DISABLE_TELEMETRY = told


def _explain(error: BaseException) -> str:
    """What happened and what to do. The client wraps errors into others, so the chain of causes is searched."""
    from huggingface_hub import errors

    causes = [error]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    for cause in causes:
        match cause:
            case errors.HFValidationError():
                return 'this cannot be the name of a repository; write "name/of-model"'
            case errors.GatedRepoError():
                return f"its owner opens it on request; ask for access on its page, then {LOG_IN}"
            case errors.RepositoryNotFoundError():
                return f"there is no such repository, or it is private; check the name, or {LOG_IN}"
            case errors.RevisionNotFoundError():
                return "the repository has no such revision; name a branch, a tag or the full id of a commit"
            case errors.OfflineModeIsEnabled():
                return "offline mode is on, and this needs the Hub; unset HF_HUB_OFFLINE"
            case errors.HfHubHTTPError(response=response):
                return _explain_status(response.status_code, cause.server_message)
            case errors.HTTPError() | ConnectionError():  # of the HTTP library, and of Xet's
                reason = _in_one_line(cause)
                return f"the Hub cannot be reached, or the connection broke ({reason}); check the network, then retry"
    return _in_one_line(causes[-1])


def _in_one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _explain_status(status: int, words: str | None) -> str:
    words = " ".join((words or "no reason given").split()).rstrip(".")
    match status:
        case 401:
            return f"the Hub does not accept the token, or there is none ({words}); {LOG_IN}"
        case 403:
            return f"the token does not permit it ({words}); check the name, or take a token that may write: {LOG_IN}"
        case 412:
            return "somebody else has changed the repository meanwhile; look at it, then push again"
        case 429:
            return f"the Hub has had too many requests from here ({words}); wait a few minutes"
        case _ if status >= 500:
            return f"the Hub has trouble of its own ({status}: {words}); try again later"
    return f"the Hub refuses this ({status}: {words})"


__all__ = ["CheckpointError", "HubError", "check_checkpoint", "client", "pull_from_hub", "push_to_hub"]
