"""`fedn synth`: make synthetic videos with exact ground truth; `fedn synth face-model`: get the head they need."""

from pathlib import Path
from typing import Annotated

import typer

from ..media_fedn import install
from . import options
from .terminal import UsageError, say
from .written import check_file, check_folder, remember

synth = typer.Typer(no_args_is_help=False, invoke_without_command=True)


@synth.callback()
def _synth(
    context: typer.Context,
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="FOLDER", help=options.NEW_OR_STOPPED)] = None,
    subjects: Annotated[int, typer.Option(min=1, metavar="N", help="People.")] = 40,
    videos_per_subject: Annotated[int, typer.Option(min=1, metavar="N", help="Videos of each.")] = 3,
    seconds: Annotated[float, typer.Option(min=2, metavar="SECONDS", help="Length of a video.")] = 60.0,
    size: Annotated[int, typer.Option(min=64, metavar="PIXELS", help="Shorter side of the pictures.")] = 160,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help=options.SEED)] = 0,
    fps: Annotated[
        float | None, typer.Option(metavar="RATE", help="Of the videos; else 25 to 200, drawn for each.")
    ] = None,
    statistics: Annotated[
        str, typer.Option(metavar="NAME", help="Events as in casme_2, casme_3 or samm_lv.")
    ] = "casme_2",
    restless: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="Of the people, the last ones: they look far around, under lamps that move."
        ),
    ] = 0,
    workers: Annotated[int, typer.Option(min=1, metavar="N", help="Videos at a time.")] = 1,
    face_model: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Else the environment variable FEDN_FACE_MODEL says where.")
    ] = None,
) -> None:
    """Make videos of synthetic people whose every muscle is known, for training and for tests.

    \b
    Examples:
      fedn synth face-model ICT-FaceKit -o face_model.npz
      fedn synth --subjects 40 --seconds 60 --workers 2 --face-model face_model.npz -o synthetic
    """
    if context.invoked_subcommand is not None:
        return
    if out is None:
        raise UsageError("-o FOLDER says where the videos go; it is missing")
    check_folder(out)
    _need_numba()
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from ..synthetic.render import Order, render

    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    order = Order(subjects, videos_per_subject, seconds, size, seed, fps, statistics, restless)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("rendering", total=len(order.names()))
        render(
            order, out, face_model=face_model, workers=workers,
            progress=lambda done, total, name: bar.update(task, completed=done, description=name),
        )  # fmt: skip
    say(f"{len(order.names())} videos of {subjects} people in {out}; look at {out / 'contact_sheets'}")


@synth.command("face-model")
def face_model(
    checkout: Annotated[Path, typer.Argument(metavar="CHECKOUT", help="Folder of the public ICT-FaceKit repository.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="The npz to write.")],
    overwrite: options.Overwrite = False,
) -> None:
    """Convert the public face model (MIT licence) into the one file that the synthetic videos are made with.

    Example: fedn synth face-model ICT-FaceKit -o face_model.npz
    """
    from ..media_fedn import FednError
    from ..synthetic.face_model import FaceModel, convert

    check_file(out, overwrite)
    try:
        convert(checkout, out)
    except FednError as error:
        raise (FednError if checkout.exists() else UsageError)(str(error)) from error
    remember([out])
    model = FaceModel.load(out)
    say(f"{out}: {len(model.vertices)} vertices, {len(model.shapes)} shapes, {len(model.identity)} identities")


def _need_numba() -> None:
    try:
        import numba  # noqa: F401
    except ImportError:
        raise UsageError(f"synthetic videos need numba: {install('synthetic')}") from None


__all__ = ["synth"]
