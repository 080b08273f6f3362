"""Through many files, one after the other: what goes wrong with one stops none of the others, nor does it get lost."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.console import RenderableType

from ..exporters import FORMATS, files_of, format_of, read, write_many
from ..media_fedn import FednError, MediaError
from ..progress import ProgressHook
from .inputs import RAW_SUFFIX, Item, is_url
from .terminal import INTERRUPTED, SOME_FAILED, UsageError, harmless, say, say_error
from .written import check_folder, check_replaceable, remember

_USUAL = ("json", "csv")


@dataclass(frozen=True)
class Results:
    """
    Where results go: into `folder`, a file for each video and format; nowhere without a folder.

    keeps_raw: also keep the network's raw outputs, for `fedn postprocess`.
    overwrite: whether files that a person made or changed may be replaced.
    remembers: whether what is written is noted, so that it may be replaced without `overwrite`.
    """

    folder: Path | None
    formats: list[str]
    keeps_raw: bool = False
    overwrite: bool = False
    remembers: bool = True

    @classmethod
    def of(
        cls, out: Path | None, formats: list[str] | None, keeps_raw: bool = False, overwrite: bool = False
    ) -> "Results":
        """
        Raises:
            UsageError: unknown formats, or no folder that can be written to.
        """
        names = formats_of(formats)
        if out is None:
            for option, is_given in {"--format": formats, "--save-raw": keeps_raw, "--overwrite": overwrite}.items():
                if is_given:
                    raise UsageError(f"{option} goes with -o, the folder for results; name one")
            return cls(None, [], False)
        if not out.is_dir() and is_file_name(out):
            raise UsageError(f"-o names a folder, and {out} looks like a file; choose what is written with --format")
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{out}: cannot be the folder for results ({error.strerror}); name another") from None
        check_folder(out)
        return cls(out, names or list(_USUAL), keeps_raw, overwrite)

    def paths(self, item: Item) -> list[Path]:
        """All that is asked for, for one item."""
        if self.folder is None:
            return []
        suffixes = [*([RAW_SUFFIX] if self.keeps_raw else []), *(FORMATS[name].suffix for name in self.formats)]
        return [Path(f"{self.folder / item.name}{suffix}") for suffix in suffixes]

    def _needs_provenance(self) -> bool:
        """Whether no file among those of an item holds everything."""
        return all(FORMATS[name].provenance != "all" for name in self.formats)

    def check_free(self, item: Item, source: str) -> None:
        """
        Make sure that the results of another video of this name are not lost, which a loop over folders would do.
        Pictures and pages do not say whose they are.

        Args:
            source: where this item's video lies, as `source_of` gives it.

        Raises:
            FednError: they are where this video's would go.
        """
        for path in self.paths(item):
            try:
                other = _source_in(path)
            except FednError:  # no results of ours
                continue
            if other is not None and _differ(other, source):
                raise FednError(f"{path} holds the results of {other}; choose another folder with -o")

    def check_replaceable(self, item: Item) -> None:
        """
        Make sure that nothing which a person has made or changed is lost.

        Raises:
            FednError: such a file is there.
        """
        if not self.overwrite:
            check_replaceable(file for path in self.paths(item) for file in files_of(path))

    def write(self, item: Item, annotation, raw) -> None:
        """Write an `ExpressionAnnotation`, and the `FednDetections` that it was made of."""
        for path in self.paths(item):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                if path.name.endswith(RAW_SUFFIX):
                    raw.save(path)
                else:
                    write_many([annotation], path, with_provenance=self._needs_provenance())
            except Exception as error:
                raise FednError(f"{path} cannot be written ({_reason(error)})") from error
            if self.remembers:  # at once: what a killed command has not noted it does not know again
                remember(files_of(path))


def formats_of(given: list[str] | None) -> list[str]:
    """
    Names of formats, each once.

    Raises:
        UsageError: one that is not known, or whose package is missing.
    """
    names = list(dict.fromkeys(name.strip().lower() for text in given or [] for name in text.split(",")))
    if set(names) - set(FORMATS):
        raise UsageError(f'--format takes {", ".join(FORMATS)}, with commas between, not "{" ".join(given)}"')
    for name in names:
        try:
            FORMATS[name].check()
        except FednError as error:
            raise UsageError(f"--format {error}") from None
    return names


def is_file_name(path: Path) -> bool:
    """Whether a path ends as files of some format do."""
    try:
        return bool(format_of(path))
    except FednError:
        return False


def source_of(path: str) -> str:
    """Where a video lies, whichever folder a command is run from: a URL as it is, a path from the root on."""
    return path if is_url(path) else os.path.abspath(path)


def _source_in(path: Path) -> str | None:
    """Of which video a file of results is."""
    if path.name.endswith(RAW_SUFFIX):
        from ..results_fedn import FednDetections

        known = FednDetections.load(path)
    elif not path.is_file() or not format_of(path).is_read:
        return None
    else:
        known = next(iter(read(path)), None)
    if known is None or "read_from" in known.provenance:  # a file that does not say
        return None
    return known.provenance.get("source", known.video["path"])


def _differ(one: str, other: str) -> bool:
    """Whether these are two videos that are both there; one that has gone has probably only been moved."""
    if one == other or is_url(one) or is_url(other):
        return one != other
    return os.path.exists(one) and not (os.path.exists(other) and os.path.samefile(one, other))


def go_through(
    items: list[Item], work: Callable[[Item, Callable], list[RenderableType]], results: Results | None = None
) -> None:
    """
    Do the work on each item and print what it gives; at the end say what failed.

    Args:
        work: takes an item and a hook for progress, and gives what is to be printed.
        results: where `work` writes to.

    Raises:
        UsageError: what `work` raised so.
        typer.Exit: with another code than 0.
    """
    done, failed, where = 0, [], f"; results are in {results.folder}" if results and results.folder else ""
    try:
        with _noticing_ctrl_c() as pressed:
            for number, item in enumerate(items, 1):
                try:
                    if item.reason:
                        raise MediaError(item.source, item.reason)
                    with ProgressHook() as bar:
                        hook = _numbered(bar, number, len(items), item)
                        hook("detection", None)
                        said = work(item, hook)
                except UsageError:
                    raise
                except Exception as error:  # a fault of ours, too, must not cost the other files
                    if pressed:
                        raise KeyboardInterrupt from error
                    failed.append(f"{item.source}: {_reason(error, item.source)}")
                else:
                    say(*([""] if done else []), *said)
                    done += 1
    except KeyboardInterrupt:
        _list_failures(failed, len(items))
        say_error(f"interrupted: {done} of {len(items)} done{where if done else ''}")
        raise typer.Exit(INTERRUPTED) from None
    if len(items) > 1 or (done and where):
        say("", f"{done} of {len(items)} done{where if done else ''}.")
    _list_failures(failed, len(items))
    if failed:
        raise typer.Exit(SOME_FAILED)


def _numbered(bar: ProgressHook, number: int, count: int, item: Item) -> Callable:
    """The hook, with the file's number among all before its name."""
    place = f"{number} of {count}: " if count > 1 else ""
    name = harmless(f"{place}{os.path.basename(item.source.rstrip('/')) or item.source}")

    def hook(step, artifact, file=None, total=None, completed=None):
        bar(step, artifact, name, total, completed)

    return hook


def _list_failures(failed: list[str], count: int) -> None:
    if failed and count == 1:
        say_error(f"error: {failed[0]}")
    elif failed:
        say_error("\n  ".join([f"{len(failed)} of {count} failed:", *failed]))


@contextmanager
def _noticing_ctrl_c() -> Iterator[list[bool]]:
    """Libraries turn Ctrl-C into errors of their own where it meets them at work; the list knows that it came."""
    pressed: list[bool] = []

    def notice(number, frame):
        pressed.append(True)
        signal.default_int_handler(number, frame)

    if threading.current_thread() is not threading.main_thread():  # only that one may handle signals
        yield pressed
        return
    before = signal.signal(signal.SIGINT, notice)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)


def _reason(error: Exception, source: str = "") -> str:
    """Why, in one line; the file's name stands before it already."""
    if isinstance(error, FednError):
        words = str(error)
    elif isinstance(error, OSError) and error.strerror:
        words = error.strerror
    elif isinstance(error, MemoryError):
        words = "out of memory; a lower --batch-size needs less"
    else:
        words = f"unexpected {type(error).__name__}: {error}"
    return " ".join(words.removeprefix(f"{source}: ").split())


__all__ = ["Results", "formats_of", "go_through", "is_file_name", "source_of"]
