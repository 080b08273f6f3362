"""`fedn app`: look at what is found in a video, correct it by hand, and take it along, in a browser."""

import time
from typing import Annotated

import typer

from . import options
from .inputs import find_videos
from .terminal import UsageError, say


def review(
    videos: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[VIDEO]...", help="Videos and folders of them that can be chosen in the page.", show_default=False
        ),
    ] = None,
    model: options.Model = None,
    revision: options.Revision = None,
    device: options.Device = None,
    threads: options.Threads = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="By default a free one from 7860 on.")] = None,
    sandbox: Annotated[
        bool, typer.Option("--sandbox/--no-sandbox", help="Read videos in a process of its own, with limits.")
    ] = True,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
) -> None:
    """Review what is found in a video: look, correct, add, delete, and download it in any format.

    The page is served to this computer alone, and asks for nothing from anywhere. What was sent to it is removed when
    it is closed, and all of it when the command ends.

    \b
    Examples:
      fedn app
      fedn app recordings/ --model my-checkpoint
    """
    from ..media_fedn import FednError

    if revision is not None and model is None:
        raise UsageError("--revision goes with --model, a name on the Hub; name one")
    items = find_videos(videos, allow_url=False) if videos else []
    known = [item.source for item in items if item.reason is None]
    try:
        from ..app.page import Page
        from ..app.sessions import Desk

        desk = Desk(model, revision=revision, device=device, threads=threads, videos=known, is_sandboxed=sandbox)
    except FednError as error:
        raise UsageError(str(error)) from error
    try:
        page = Page(desk)
        try:
            address = page.open(port, in_browser=browser)
        except FednError as error:
            raise UsageError(str(error)) from error
        say(f"{address} (Ctrl-C ends it, and removes what was sent to it)")
        while True:
            time.sleep(3600)
    finally:
        desk.close()


__all__ = ["review"]
