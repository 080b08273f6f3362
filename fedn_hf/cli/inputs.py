"""From what stands on the command line to the files that are meant, and to the names that their results get."""

import glob
import os
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .terminal import UsageError

RAW_SUFFIX = ".raw.safetensors"
VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".mj2", ".mkv", ".webm", ".avi", ".wmv", ".asf"})
VIDEO_SUFFIXES |= {".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".m2v", ".vob", ".flv", ".ogv", ".mxf", ".dv", ".y4m"}
_URL = re.compile(r"https?://", re.IGNORECASE)


@dataclass(frozen=True)
class Item:
    """
    One video, or one file of raw detections.

    source: where it lies, as the user wrote it.
    name: of its results, without a suffix: its own, and the folders in which it lies below what was asked for.
    reason: why it cannot be worked on, if that is known already.
    """

    source: str
    name: str
    reason: str | None = None


@dataclass(frozen=True)
class _Found:
    path: str
    root: str = ""  # the folder below which its place is kept in the results
    reason: str | None = None


def find_videos(arguments: list[str], allow_url: bool) -> list[Item]:
    """
    The videos meant by files, folders, globs and URLs, each once.

    Raises:
        UsageError: there is none.
    """
    urls = [argument for argument in arguments if is_url(argument)]
    if urls and not allow_url:
        raise UsageError(f"{urls[0]}: URLs are opened only with --allow-url")
    return _named(_found(arguments, _videos_in, "videos (.mp4, .mov, .mkv, ...)"), lambda path: Path(path).stem)


def find_raw(arguments: list[str]) -> list[Item]:
    """As `find_videos`, for what `--save-raw` has written."""
    return _named(_found(arguments, _raw_in, f"files named *{RAW_SUFFIX}"), _raw_stem)


def find_annotations(arguments: list[str]) -> list[Item]:
    """As `find_videos`, for files of expressions in any format; of several with one name the one that says most."""
    from ..exporters import stem_of

    return _named(_found(arguments, _annotations_in, "files of expressions"), stem_of)


def check_there(*paths: Path) -> None:
    """
    Raises:
        UsageError: one of these is not there.
    """
    for path in paths:
        if not path.exists():
            raise UsageError(f"{path}: no such file or folder")


def is_url(path: str) -> bool:
    """Whether it is a web address and no path."""
    return _URL.match(path) is not None


def is_image_folder(item: Item) -> bool:
    """Whether it is a video in single pictures."""
    return item.reason is None and os.path.isdir(item.source)


def _found(arguments: list[str], in_folder: Callable[[str], list[str]], what: str) -> list[_Found]:
    found: dict[str, _Found] = {}
    for argument in arguments:
        for one in _expand(argument, in_folder, what):
            found.setdefault(one.path if is_url(one.path) else os.path.abspath(one.path), one)
    if all(one.reason for one in found.values()):
        raise UsageError("\n".join(f"{one.path}: {one.reason}" for one in found.values()))
    return list(found.values())


def _expand(argument: str, in_folder: Callable[[str], list[str]], what: str) -> list[_Found]:
    if is_url(argument):
        return [_Found(argument)]
    argument = "/dev/stdin" if argument == "-" else argument
    path = argument if os.path.exists(argument) else os.path.expanduser(argument)
    if os.path.isdir(path):
        inside = in_folder(path)
        parent = os.path.dirname(os.path.abspath(path))
        if not inside:
            return [_Found(path, path, f"the folder holds no {what}")]
        return [_Found(one, parent if one == path else path) for one in inside]
    if os.path.exists(path):
        return [_Found(path, os.path.dirname(path))]
    if not glob.has_magic(path):
        return [_Found(path, os.path.dirname(path), "no such file or folder")]
    root = path
    while glob.has_magic(root):
        root = os.path.dirname(root)
    found = [one for match in glob.glob(path, recursive=True) for one in _expand(match, in_folder, what)]
    found = [_Found(one.path, root) for one in found if not one.reason]
    return sorted(found, key=lambda one: _natural_key(one.path)) or [_Found(path, root, "nothing matches")]


def _files_below(folder: str, is_wanted: Callable[[str], bool]) -> list[str]:
    """In natural order, without what is hidden: macOS puts "._name.mp4" beside every file on a foreign disk."""
    found = []
    for where, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [os.path.join(where, name) for name in files if is_wanted(name) and not name.startswith(".")]
    return sorted(found, key=_natural_key)


def _videos_in(folder: str) -> list[str]:
    """All videos below a folder; one that holds images and no videos is a video itself."""
    from ..video_io_fedn import IMAGE_SUFFIXES

    videos = _files_below(folder, lambda name: Path(name).suffix.lower() in VIDEO_SUFFIXES)
    images = [name for name in os.listdir(folder) if Path(name).suffix.lower() in IMAGE_SUFFIXES and name[0] != "."]
    return videos or ([folder] if images else [])


def _raw_in(folder: str) -> list[str]:
    return _files_below(folder, lambda name: name.lower().endswith(RAW_SUFFIX))


def _annotations_in(folder: str) -> list[str]:
    from ..exporters import best_files

    return [str(path) for path in best_files(map(Path, _files_below(folder, lambda name: True)))]


def _raw_stem(path: str) -> str:
    name = os.path.basename(path)
    return name[: -len(RAW_SUFFIX)] if name.lower().endswith(RAW_SUFFIX) else Path(name).stem


def _named(found: list[_Found], stem: Callable[[str], str]) -> list[Item]:
    """
    Give every file's results a name of their own. Folders are kept below the common parent of all that was asked for;
    where two in a folder differ in their suffix only, it stays.
    """
    here = [os.path.abspath(one.root) for one in found if not one.reason and not is_url(one.path)]
    try:
        base = os.path.commonpath(here) if here else None
    except ValueError:
        raise UsageError("these lie on several drives, so results have no common place; name those of one") from None
    short, full = [], []
    for one in found:
        if is_url(one.path):
            last = re.split(r"[?#]", one.path)[0].rstrip("/").rpartition("/")[2]
            place, file = "", re.sub(r'[\\:*"<>|]', "_", last) or "video"
        else:
            whole = one.path if one.reason else os.path.relpath(os.path.abspath(one.path), base)
            place, file = os.path.split(whole)
        is_folder = os.path.isdir(one.path)
        short.append(os.path.join(place, file if is_folder else stem(file)))
        full.append(os.path.join(place, file))
    items, taken = [], set()
    for one, brief, whole in zip(found, short, full, strict=True):
        name = brief if sum(_key(brief) == _key(other) for other in short) == 1 else whole
        number, wish = 1, name
        while _key(name) in taken:
            number += 1
            name = f"{wish}-{number}"
        taken.add(_key(name))
        items.append(Item(one.path, name, one.reason))
    return items


def _key(name: str) -> str:
    """Names that some file systems hold for the same."""
    return unicodedata.normalize("NFC", name).casefold()


def _natural_key(path: str) -> list[list[tuple[int, int, str]]]:
    """img2 before img10."""
    return [
        [(1, int(bit), "") if bit.isdecimal() else (0, 0, bit.lower()) for bit in re.split(r"(\d+)", part)]
        for part in Path(path).parts
    ]


__all__ = [
    "RAW_SUFFIX",
    "VIDEO_SUFFIXES",
    "Item",
    "check_there",
    "find_annotations",
    "find_raw",
    "find_videos",
    "is_image_folder",
    "is_url",
]
