"""`fedn prepare`: a licensed corpus on disk becomes files that `load_dataset` reads, by dataset_scripts/convert.py."""

from pathlib import Path
from typing import Annotated

import typer

from ..media_fedn import FednError
from . import options
from .terminal import UsageError
from .written import check_folder


def prepare(
    corpus: Annotated[str, typer.Argument(metavar="CORPUS", help="casme_2, casme_3, samm_lv or folder_csv.")],
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="The corpus as it was unpacked.")],
    output: Annotated[
        Path, typer.Argument(metavar="OUTPUT", help="A new folder, or one of a conversion that was stopped.")
    ],
    part: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of the corpus: cropped, raw, selected, part_a or part_c.")
    ] = None,
    to: Annotated[str, typer.Option(metavar="NAME", help="videofolder or parquet.")] = "videofolder",
    encode: Annotated[str, typer.Option(metavar="NAME", help="h264; or ffv1 or copy, which are lossless.")] = "h264",
    size: Annotated[int | None, typer.Option(metavar="PIXELS", help="Shorter side of the pictures.")] = None,
    scheme: Annotated[
        str, typer.Option(metavar="NAME", help="Label scheme: objective_4, emotion_7 or megc_3.")
    ] = "objective_4",
    rule: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=CHOICE", help="What to do about a quirk, such as overlap=drop; may be given again."
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, metavar="N", help="Videos at a time.")] = 1,
    fps: Annotated[float | None, typer.Option(metavar="RATE", help=options.FPS)] = None,
    first_frame: Annotated[
        int | None, typer.Option(help="Number of the first frame in the table of folder_csv: 0 or 1.")
    ] = None,
    sheet_version: Annotated[str | None, typer.Option(help="Of part A of casme_3: v2 or v1.")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Read everything again and compare.")] = False,
) -> None:
    """Convert CAS(ME)^2, CAS(ME)^3, SAMM-LV or your own videos for training.

    Example: fedn prepare casme_2 CASME_sq casme2 --encode ffv1 --verify
    """
    from rich.console import Console
    from rich.progress import Progress

    from dataset_scripts.convert import format_log
    from dataset_scripts.convert import prepare as convert
    from dataset_scripts.quirks import CorpusError

    check_folder(output)
    options.check_fps(fps)
    errors = Console(stderr=True, soft_wrap=True)
    rules = dict(words.partition("=")[::2] for words in rule or ())
    facts = {"fps": fps, "first_frame": first_frame, "sheet_version": sheet_version}
    try:
        with Progress(console=errors, transient=True, disable=not errors.is_terminal) as bar:
            task = bar.add_task(corpus, total=None)
            log = convert(
                corpus, source, output, config=part, to=to, encode=encode, size=size, scheme=scheme, rules=rules,
                workers=workers, verify=verify,
                progress=lambda done, total, name: bar.update(task, completed=done, total=total, description=name),
                **{name: value for name, value in facts.items() if value is not None},
            )  # fmt: skip
    except CorpusError as error:
        raise (FednError if source.exists() else UsageError)(str(error)) from error
    print(format_log(log))


__all__ = ["prepare"]
