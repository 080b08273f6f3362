"""`fedn train` and `fedn loso`: train a network on a corpus, or one per subject, and report on those left out."""

from pathlib import Path
from typing import Annotated, Any

import typer

from . import options
from .terminal import UsageError, say
from .written import check_folder

_CORPUS, _TEST, _HOW = "Corpus", "Another corpus to test on", "How to train"

Config = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help="Recipe in YAML; examples/recipes holds some.", rich_help_panel=_HOW
    ),
]
Corpus = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="casme_2, casme_3, samm_lv or folder_csv. May be given again, with the two that follow.",
        rich_help_panel=_CORPUS,
    ),
]
Features = Annotated[
    list[Path] | None,
    typer.Option(metavar="FILE", help="Published features of its videos.", rich_help_panel=_CORPUS),
]
Sheets = Annotated[
    list[Path] | None, typer.Option(metavar="FOLDER", help="Where its label sheets lie.", rich_help_panel=_CORPUS)
]
Videos = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FOLDER",
        help="In place of these, what `fedn prepare` or `fedn synth` wrote. May be given again.",
        rich_help_panel=_CORPUS,
    ),
]
Fps = Annotated[
    float | None,
    typer.Option(metavar="RATE", help=options.FPS, rich_help_panel=_CORPUS),
]
Out = Annotated[Path | None, typer.Option("-o", "--out", metavar="FOLDER", help=options.NEW_OR_STOPPED)]
Epochs = Annotated[int | None, typer.Option(metavar="N", help="In place of the recipe's.", rich_help_panel=_HOW)]
BatchSize = Annotated[
    int | None, typer.Option(metavar="N", help="Windows at once, in each process.", rich_help_panel=_HOW)
]
LearningRate = Annotated[float | None, typer.Option(metavar="RATE", help="The highest one.", rich_help_panel=_HOW)]
Seed = Annotated[int | None, typer.Option(metavar="N", help=options.SEED, rich_help_panel=_HOW)]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Any setting of the recipe, such as training.ema_decay=0.99; may be given again.",
        rich_help_panel=_HOW,
    ),
]
Threads = Annotated[int | None, typer.Option(min=1, metavar="N", help="CPU threads to use.", rich_help_panel=_HOW)]


def train(
    context: typer.Context,
    out: Out = None,
    config: Config = None,
    corpus: Corpus = None,
    features: Features = None,
    sheets: Sheets = None,
    videos: Videos = None,
    fps: Fps = None,
    validation: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SUBJECT", help="Chooses, and does not train. May be given again.", rich_help_panel=_CORPUS
        ),
    ] = None,
    test_corpus: Annotated[
        str | None, typer.Option(metavar="NAME", help="As --corpus, but only to test.", rich_help_panel=_TEST)
    ] = None,
    test_features: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Features of its videos.", rich_help_panel=_TEST)
    ] = None,
    test_sheets: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Its label sheets.", rich_help_panel=_TEST)
    ] = None,
    test_videos: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="In place of these.", rich_help_panel=_TEST)
    ] = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    seed: Seed = None,
    settings: Set = None,
    threads: Threads = None,
) -> None:
    """Train a network on a corpus; the same command goes on with a run that was stopped.

    \b
    FOLDER/model is the network in the end: of the best epoch, if subjects
    validate, else of the last one. They also choose the score from which on it
    reports, and the thresholds that another corpus is scored with. Where there
    are several corpora, subjects are called by them: casme_2/s15. On many GPUs:
      accelerate launch $(which fedn) train ...

    \b
    Examples:
      fedn train --config recipe.yaml --corpus casme_2 --features mdmo.npz --sheets CASME_sq -o run
      fedn train --config recipe.yaml --videos casme2 --validation s15 --epochs 30 -o run
      fedn train --config cross_corpus.yaml --videos casme2 --videos casme3 --test-videos samm -o run
    """
    given = [values or [] for values in (corpus, features, sheets, videos)]
    tested = [[] if value is None else [value] for value in (test_corpus, test_features, test_sheets, test_videos)]
    folder = _needed(context.args, out, config, fps, given, tested)
    recipe = _recipe(config, epochs, batch_size, learning_rate, seed, settings)

    def work(hook) -> None:
        corpora, labels = _corpora(recipe, *given, fps, hook)
        others = _corpora(recipe, *tested, fps, hook)[0] if any(tested) else []
        rows = _joined(corpora, apart=len(corpora) + len(others) > 1)
        _train(rows, labels, recipe, validation or [], _joined(others, apart=True), folder, hook)

    _run(work, threads)


def loso(
    context: typer.Context,
    out: Out = None,
    config: Config = None,
    corpus: Corpus = None,
    features: Features = None,
    sheets: Sheets = None,
    videos: Videos = None,
    fps: Fps = None,
    folds: Annotated[str, typer.Option(metavar="all|i/n", help="All, or every n-th from the i-th on.")] = "all",
    protocol: options.Protocol = "strict",
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    seed: Seed = None,
    settings: Set = None,
    threads: Threads = None,
) -> None:
    """Leave each subject out once: train on the others, keep the raw detections, and report in the end.

    \b
    Folds that are done are left alone, so the parts i/n may run at once, also on
    several machines with one disk, and again after they were stopped. When all
    are done the report follows, by the strict rules and those of --protocol; in it,
    what is chosen for a subject is chosen by the others.

    \b
    Examples:
      fedn loso --config recipe.yaml --corpus casme_2 --features mdmo.npz --sheets CASME_sq -o run
      fedn loso --config recipe.yaml --videos casme2 --folds 1/4 -o run
    """
    given = [values or [] for values in (corpus, features, sheets, videos)]
    folder = _needed(context.args, out, config, fps, given)
    recipe = _recipe(config, epochs, batch_size, learning_rate, seed, settings)
    part = _part(folds)
    _check_protocol(protocol)

    def work(hook) -> None:
        from ..training import run_folds, score_folds
        from ..training.report import REPORT, missing_folds

        corpora, labels = _corpora(recipe, *given, fps, hook)
        rows = _joined(corpora, apart=len(corpora) > 1)
        run_folds(rows, labels, recipe, folder, part=part, hook=hook)
        if missing := missing_folds(folder, rows):
            say(f"{folder}: the folds {folds} are done; {len(missing)} others are not, so there is no report yet")
            return
        say(str(score_folds(folder, rows, protocol)), "", f"{folder / REPORT} holds all of it")

    _run(work, threads)


def _needed(stray: list[str], out: Path | None, config: Path | None, fps: float | None, given, tested=()) -> Path:
    """
    The folder of the run, if all is there that it needs.

    Args:
        stray: arguments, of which there should be none.
        given, tested: corpora, features, sheets and videos, to train on and to test on.

    Raises:
        UsageError: all that is missing, a line for each.
    """
    options.check_fps(fps)
    problems = [f"{words}: is it to be trained on? That is named by an option: --videos {words}" for words in stray]
    if out is None:
        problems.append("-o is missing: the folder for the run, new or of one that was stopped")
    if config is not None and not config.is_file():
        problems.append(f"{config}: no such file; a recipe is a YAML file, and examples/recipes holds some")
    problems += _missing(*given, prefix="--")
    problems += _missing(*tested, prefix="--test-") if any(tested) else []
    if problems or out is None:
        raise UsageError("\n".join(problems))
    check_folder(out)
    return out


def _missing(corpora, features, sheets, videos, prefix: str) -> list[str]:
    """What flags lack to name what is to be read."""
    published = {f"{prefix}corpus": corpora, f"{prefix}features": features, f"{prefix}sheets": sheets}
    missing = [name for name, values in published.items() if not values]
    if videos and len(missing) < len(published):
        return [f"give either {prefix}videos, or {prefix}corpus with {prefix}features and {prefix}sheets"]
    if videos:
        wrote = f"{prefix}videos takes what `fedn prepare` or `fedn synth` wrote"
        return [f"{folder}: no such folder; {wrote}" for folder in videos if not folder.is_dir()]
    if missing:
        *others, last = missing
        said = f"{', '.join(others)} and {last} are" if others else f"{last} is"
        return [f"{said} missing; or give {prefix}videos, what `fedn prepare` or `fedn synth` wrote"]
    if len({len(values) for values in published.values()}) > 1:
        told = ", ".join(f"{len(values)} {name}" for name, values in published.items())
        return [f"every corpus needs features and sheets, in the same order; got {told}"]
    return [
        f"{path}: no such file or folder, which {name} names"
        for name in (f"{prefix}features", f"{prefix}sheets")
        for path in published[name]
        if not path.exists()
    ]


def _recipe(config, epochs, batch_size, learning_rate, seed, settings):
    import yaml

    from ..training import Recipe, TrainingError

    changes: dict[str, Any] = {}
    for words in settings or ():
        name, equals, value = words.partition("=")
        if not equals:
            raise UsageError(f"--set takes NAME=VALUE, such as training.epochs=5, not {words!r}")
        try:
            changes[name.strip()] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise UsageError(f"--set {name}: {value!r} is no YAML") from None
    flags = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate, "seed": seed}
    changes |= {f"training.{name}": value for name, value in flags.items() if value is not None}
    try:
        return (Recipe() if config is None else Recipe.read(config)).with_values(changes)
    except TrainingError as error:
        raise UsageError(str(error)) from None


def _check_protocol(name: str) -> None:
    """Before anything is trained, and not after hours."""
    from ..media_fedn import FednError
    from ..metrics import get_protocol

    try:
        get_protocol(name)
    except FednError as error:
        raise UsageError(str(error)) from None


def _part(folds: str) -> tuple[int, int]:
    if folds == "all":
        return 1, 1
    number, slash, count = folds.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise UsageError(f'--folds takes "all" or i/n with i from 1 to n, such as 3/22, not {folds!r}')
    return int(number), int(count)


def _corpora(recipe, corpora, features, sheets, videos, fps, hook):
    """Name and rows of every corpus that flags name, and the classes of the scheme."""
    from ..training import corpus_rows, video_rows

    if videos:
        from ..data.cache import FeatureCache

        read = [video_rows(folder, recipe, cache=FeatureCache(), hook=hook) for folder in videos]
        names = [folder.resolve().name for folder in videos]
    else:
        read, names = [], []
        for corpus, file, folder in zip(corpora, features, sheets, strict=True):
            rate = {"fps": fps} if fps is not None and corpus == "folder_csv" else {}
            read.append(corpus_rows(corpus, file, folder, recipe.scheme, **rate))
            names.append(folder.resolve().name if corpus == "folder_csv" else corpus)
    return [(name, rows) for name, (rows, _) in zip(names, read, strict=True)], read[0][1]


def _joined(corpora, apart: bool):
    """All rows; of several corpora with names of their own."""
    from ..training.inputs import in_corpus

    return [row for name, rows in corpora for row in (in_corpus(name, rows) if apart else rows)]


def _train(rows, labels, recipe, validation: list[str], tested, out: Path, hook) -> None:
    from accelerate import PartialState

    from ..training import train_one
    from ..training.report import REPORT

    trained = train_one(rows, labels, recipe, out, validation=validation, tested=tested, hook=hook)
    if not PartialState().is_main_process:
        return
    result, model = trained.result, out / "model"
    told = f"loss {result.losses[-1]:.4f}"
    if result.best_epoch is not None:
        told += f"; best on the validation subjects after epoch {result.best_epoch}: {result.best_score:.4f}"
    say(f"{model}: trained on {trained.num_videos} videos, {told}")
    say(f"It reports from a score of {_threshold(trained, model)}")
    if trained.report is not None:
        say("", str(trained.report), "", f"{out / REPORT} holds all of it")


def _threshold(trained, model: Path) -> str:
    from ..configuration_fedn import FednConfig

    if trained.threshold is not None:
        return f"{trained.threshold} on, the best on the validation subjects: F1 {trained.threshold_f1:.4f}"
    reason = "nobody validated" if trained.threshold_f1 is None else "nothing was found on the validation subjects"
    return f"{FednConfig.from_pretrained(model).score_threshold} on, which nobody has chosen, as {reason}"


def _run(work, threads: int | None) -> None:
    import datasets
    import torch
    import transformers

    from dataset_scripts.quirks import CorpusError

    from ..media_fedn import FednError
    from ..progress import ProgressHook
    from ..sandbox import give_memory_back

    give_memory_back()
    transformers.utils.logging.disable_progress_bar()  # of loading weights
    datasets.disable_progress_bars()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        with ProgressHook() as hook:
            work(hook)
    except (CorpusError, OSError) as error:  # of the system: no room, no leave, no such folder
        raise FednError(str(error)) from error


__all__ = ["loso", "train"]
