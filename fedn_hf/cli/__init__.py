"""The command line, `fedn`. Everything that takes time to import is imported by the command that needs it."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from typer.core import TyperGroup

from ..media_fedn import FednError
from ..version import __version__
from .app import review
from .archive import archive
from .benchmark import benchmark
from .cache import cache
from .checkpoints import pull, push
from .detect import detect, postprocess
from .doctor import doctor
from .evaluate import agreement, evaluate
from .export import export
from .prepare import prepare
from .render import render
from .report import report
from .synth import synth
from .terminal import INTERRUPTED, SOME_FAILED, WRONG_USE, UsageError, say_error
from .train import loso, train

# Click's own error for a wrong command line; where it lies depends on typer's version.
_ClickUsageError = typer.BadParameter.__base__


class _Commands(TyperGroup):
    """A wrong command line is one line and exit code 1, whoever finds the fault; 2 is for what failed on the way."""

    def make_context(self, *args, **kwargs):
        with _one_ending():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx):
        with _one_ending():
            return super().invoke(ctx)


@contextmanager
def _one_ending() -> Iterator[None]:
    try:
        yield
    except UsageError as error:
        say_error(f"error: {error}")
        raise typer.Exit(WRONG_USE) from None
    except _ClickUsageError as error:
        if message := error.format_message():  # none where the help has been printed in its place
            command = error.ctx.command_path if error.ctx else "fedn"
            say_error(f"error: {message}\nsee {command} --help")
        raise typer.Exit(WRONG_USE) from None
    except FednError as error:
        say_error(f"error: {error}")
        raise typer.Exit(SOME_FAILED) from None
    except KeyboardInterrupt:
        say_error("interrupted")
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:  # whoever reads what is printed has seen enough, which click knows
        raise
    except OSError as error:  # of the system: no room, no leave
        say_error(f"error: {error}")
        raise typer.Exit(SOME_FAILED) from None


app = typer.Typer(
    name="fedn", cls=_Commands, add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"fedn {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Find facial expressions in long videos.

    \b
    Examples:
      fedn detect interview.mp4
      fedn doctor

    Exit codes: 0, all is well; 1, the command line is wrong or names what is not there, and nothing was done; 2, a
    file cannot be read or written, or something failed on the way; 130, interrupted.
    """


for _command in (
    detect,
    postprocess,
    export,
    render,
    report,
    prepare,
    train,
    loso,
    evaluate,
    agreement,
    doctor,
    benchmark,
    push,
    pull,
):
    # What stands there without an option these two explain themselves.
    app.command(context_settings={"allow_extra_args": _command in (train, loso)})(_command)
app.command("app")(review)
app.add_typer(archive, name="archive")
app.add_typer(cache, name="cache")
app.add_typer(synth, name="synth")


def main() -> None:
    """Entry point of the `fedn` command."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # asked to end: as by Ctrl-C, nothing half done stays
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # names that the terminal's encoding lacks
    app()


__all__ = ["app", "main"]
