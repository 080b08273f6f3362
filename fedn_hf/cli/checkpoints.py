"""`fedn push` and `fedn pull`: checkpoints to the Hub and back."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from . import options
from .terminal import UsageError, say, show_download_bars_to_people
from .written import check_folder

Repo = Annotated[str, typer.Argument(metavar="REPO", help='"name/of-model" on the Hub.', show_default=False)]
Revision = Annotated[str | None, typer.Option(metavar="NAME", help="Branch, tag or commit of a model on the Hub.")]


def push(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="A folder that a pipeline was saved to.", show_default=False)
    ],
    repo: Repo,
    private: Annotated[bool, typer.Option("--private", help="Only you can see a new repository.")] = False,
    revision: Annotated[
        str | None, typer.Option(metavar="NAME", help="Branch to push to, made if there is none; else the main one.")
    ] = None,
    token: options.Token = None,
) -> None:
    """Publish a checkpoint on the Hub.

    \b
    Example:
      fedn push my-checkpoint my-name/my-checkpoint --private
    """
    with _hub_errors():
        from ..hub import push_to_hub

        say(str(push_to_hub(checkpoint, repo, private=private or None, token=token, revision=revision)))


def pull(
    repo: Repo,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FOLDER", help="Put it here; else into the Hub's cache.")
    ] = None,
    revision: Revision = None,
    token: options.Token = None,
) -> None:
    """Download a checkpoint from the Hub, and print the folder that it lies in.

    \b
    Example:
      fedn pull my-name/my-checkpoint -o my-checkpoint
    """
    if out is not None:
        check_folder(out)
    with _hub_errors():
        from ..hub import pull_from_hub

        say(str(pull_from_hub(repo, revision=revision, token=token, folder=out)))


@contextmanager
def _hub_errors() -> Iterator[None]:
    """A folder that is none of ours is a wrong command line; what the Hub refuses is a failure."""
    from ..hub import CheckpointError
    from ..media_fedn import FednError

    show_download_bars_to_people()
    try:
        yield
    except CheckpointError as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        raise FednError(str(error)) from error


__all__ = ["pull", "push"]
