"""What all corpora share: the schema, finding videos and sheets in a folder, and the builder that joins them.

A builder is used directly, because `datasets` runs no loading scripts any more:

    builder = CasMe2("cropped", data_dir="CASME_sq", scheme="objective_4", rules={"offset_zero": "drop"})
    builder.download_and_prepare()  # or only builder.as_streaming_dataset(split="train")
    videos = builder.as_dataset(split="train")
    print(builder.quirks)  # every quirk of the sheets that was met

One row is one video:

| column | what |
|---|---|
| video | `Video(decode=False)`: a file's path; for a folder of images see `frame_paths` |
| video_id, subject_id | names; a subject's videos share the second |
| fps, num_frames | frames per second, and how many frames the video has |
| events | onset, apex, offset: 0-based inclusive frames, the apex may be None |
|        | type: macro-expression or micro-expression |
|        | emotion (the coders'), self_report (the participants'): classes of the label scheme, or None |
|        | action_units: as the coders wrote them |

**Folders of images.** The corpora come as folders of JPEG files. `video["path"]` is the folder then. Where its images,
in natural order, are the frames, `video["bytes"]` is None. Where they are not (damaged images are left out, gaps
filled), `video["bytes"]` lists the frames' names, one a line, so that code which takes it for a video fails instead of
reading the wrong frames. `frame_paths` reads both; the convert command turns both into video files.

What was prepared is cached by `datasets`. After a change in the corpus folder, prepare again with
`download_and_prepare(download_mode="force_redownload")`.
"""

import os
import re
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import datasets
from datasets import ClassLabel, Features, List, Value, Video

from fedn_hf.media_fedn import VIDEO_FORMATS

from .labels import SCHEMES, TYPES
from .quirks import CorpusError, Quirks, SheetEvent, to_events

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp"})
VIDEO_SUFFIXES = frozenset({".avi", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"})
SHEET_SUFFIXES = frozenset({".xls", ".xlsx", ".xlsm"})
TEXT_SUFFIXES = frozenset({".csv", ".txt"})
# Label sheets have some thousand cells in less than a megabyte.
_MAX_SHEET_BYTES, _MAX_CELLS = 64 * 2**20, 10_000_000
SHOWN = 12  # entries of a folder that an error message lists


@dataclass(frozen=True)
class Licence:
    """
    Where a corpus comes from and what its licence allows.

    Args:
        corpus: its full name.
        page: where the agreement is to be found and signed.
        terms: in short, for the card.
        tree: what a folder looks like.
        citation: BibTeX.
        may_be_published: whether the videos may be passed on.
    """

    corpus: str
    page: str
    terms: str
    tree: str
    citation: str = ""
    may_be_published: bool = False


@dataclass(frozen=True)
class Clip:
    """
    One video and its events.

    Args:
        source: a video file, or a folder of images.
        images: names of the frames in `source`, in order; None for a video file.
        whole: whether `images` are all images of the folder, in natural order.
        events: rows of the schema, with names instead of class numbers.
    """

    video_id: str
    subject_id: str
    fps: float
    num_frames: int
    source: Path
    images: tuple[str, ...] | None
    whole: bool
    events: list[dict[str, object]]

    def facts(self) -> dict[str, object]:
        """The row without its video."""
        names = ("video_id", "subject_id", "fps", "num_frames", "events")
        return {name: getattr(self, name) for name in names}

    def row(self) -> dict[str, object]:
        """The row as a builder gives it."""
        listed = None if self.images is None or self.whole else "\n".join(self.images).encode()
        return {"video": {"path": str(self.source), "bytes": listed}, **self.facts()}


def frame_paths(video: Mapping[str, object]) -> list[Path] | None:
    """
    The image files that are the frames of a row's video, or None where it is a video file.

    Args:
        video: the `video` column of a builder's row: {"path": ..., "bytes": ...}.
    """
    path = Path(str(video["path"]))
    if not path.is_dir():
        return None
    names = bytes(video["bytes"]).decode().split("\n") if video.get("bytes") else image_names(path)
    return [path / name for name in names]


def schema(scheme: str = "objective_4") -> Features:
    """
    The features of every corpus, with the classes of a label scheme.

    Example:
        >>> schema("megc_3")["events"].feature["emotion"].names
        ['negative', 'positive', 'surprise']
    """
    check_scheme(scheme)
    emotions = ClassLabel(names=list(SCHEMES[scheme]))
    frame = Value("int32")
    event = {"onset": frame, "apex": frame, "offset": frame, "type": ClassLabel(names=list(TYPES))}
    event |= {"emotion": emotions, "self_report": emotions, "action_units": Value("string")}
    names = {"video_id": Value("string"), "subject_id": Value("string")}
    return Features(
        {"video": Video(decode=False), **names, "fps": Value("float64"), "num_frames": frame, "events": List(event)}
    )


def cast(dataset, scheme: str = "objective_4"):
    """
    Give a converted corpus, as `load_dataset` reads it, the features of `schema`.

    Args:
        dataset: `datasets.Dataset`, `DatasetDict`, or one of their streaming kinds.
        scheme: the label scheme of the conversion; its card names it.

    Example:
        >>> from datasets import load_dataset
        >>> videos = cast(load_dataset("videofolder", data_dir="converted", split="train"))  # doctest: +SKIP
    """
    if isinstance(dataset, dict):
        return type(dataset)({split: cast(part, scheme) for split, part in dataset.items()})
    features = schema(scheme)
    return dataset.select_columns(list(features)).cast(features)


def check_scheme(scheme: str) -> None:
    """Raises `CorpusError` for a label scheme that there is not."""
    if scheme not in SCHEMES:
        raise CorpusError(f"scheme {scheme!r} was given, expected {' or '.join(SCHEMES)}")


# ---------------------------------------------------------------------------------------------------------------------
# Finding things in a folder.


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sorts img2 before img10."""
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part.lower()) for part in re.split(r"(\d+)", name)]


def image_names(folder: Path) -> list[str]:
    """Names of the images in a folder in natural order; hidden files ("._name.jpg" of macOS) are none."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if _suffix(entry.name) in IMAGE_SUFFIXES]
    return sorted(names, key=natural_key)


def _suffix(name: str) -> str:
    return "" if name.startswith((".", "~$")) else os.path.splitext(name)[1].lower()


def walk(root: Path) -> Iterator[tuple[Path, bool]]:
    """
    Everything that may matter under a folder, in natural order: video files and sheets, and folders that hold images
    themselves, each with whether it is such a folder.
    """
    with os.scandir(root) as entries:
        found = sorted(((entry.name, entry.is_dir()) for entry in entries), key=lambda entry: natural_key(entry[0]))
    if any(_suffix(name) in IMAGE_SUFFIXES and not is_dir for name, is_dir in found):
        yield root, True
    for name, is_dir in found:
        if is_dir and not name.startswith("."):
            yield from walk(root / name)
        elif _suffix(name) in VIDEO_SUFFIXES | SHEET_SUFFIXES | TEXT_SUFFIXES:
            yield root / name, False


def image_number(name: str) -> int | None:
    """The last number in an image's name: 37 of "color_0037.jpg"."""
    numbers = re.findall(r"\d+", os.path.splitext(name)[0])
    return int(numbers[-1]) if numbers else None


@contextmanager
def opened_video(path: Path) -> Iterator[tuple]:
    """
    PyAV's container of a video file and its first video stream, to be decoded by one thread.

    Raises:
        CorpusError: it does not open, holds no video, or turns out to be damaged while it is read.
    """
    import av

    try:
        with av.open(str(path), options={"format_whitelist": ",".join(sorted(VIDEO_FORMATS))}) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            yield container, stream
    except (av.error.FFmpegError, IndexError, OSError) as error:
        raise CorpusError(f"{path}: does not open as a video ({error})") from error


def count_frames(path: Path) -> int:
    """Frames of a video file, by its packets: what containers declare is not relied on."""
    with opened_video(path) as (container, stream):
        return sum(packet.size > 0 and not packet.is_discard for packet in container.demux(stream))


def spreadsheets(files: Sequence[Path]) -> list[Path]:
    """Those of the files that are spreadsheets by name."""
    return [path for path in files if _suffix(path.name) in SHEET_SUFFIXES]


def read_sheets(path: Path) -> list[list[list[object]]]:
    """
    All sheets of a spreadsheet as rows of cells, xls or xlsx whatever the name says: text, numbers, "" for empty.

    Raises:
        CorpusError: not a spreadsheet, or the reader is not installed.
    """
    try:
        from python_calamine import CalamineWorkbook
    except ImportError as error:
        raise CorpusError("label sheets are read with python-calamine: pip install 'fedn_hf[corpora]'") from error
    try:
        with open(path, "rb") as file:  # by content: copies are found with the wrong suffix
            _check_cells(path)
            book = CalamineWorkbook.from_filelike(file)
            return [book.get_sheet_by_name(name).to_python(skip_empty_area=False) for name in book.sheet_names]
    except CorpusError:
        raise
    except Exception as error:  # of calamine, zipfile, zlib and others, which have none in common
        raise CorpusError(f"{path}: not a readable spreadsheet ({error}); take a fresh copy") from error


def _check_cells(path: Path) -> None:
    """Refuse a workbook whose cells lie too far apart: its reader makes room for all between them before it reads."""
    if not zipfile.is_zipfile(path):
        return  # an xls has 65,536 rows of 256 cells at most
    with zipfile.ZipFile(path) as archive:
        for part in archive.infolist():
            if max(part.file_size, part.compress_size) > _MAX_SHEET_BYTES:
                raise CorpusError(f"{path}: {part.filename} unpacks to more than {_MAX_SHEET_BYTES} bytes; not read")
            if part.filename == "content.xml" or re.fullmatch(r"xl/worksheets/.*\.bin", part.filename):
                raise CorpusError(f"{path}: an ods or xlsb under another name; save it as xlsx")
            if not part.filename.endswith(".xml"):
                continue
            cells = re.findall(rb"""\br\s*=\s*["']([A-Za-z]*)(\d+)["']""", archive.read(part))
            rows = max((int(row) for _, row in cells), default=0)
            columns = max((_column(letters) for letters, _ in cells), default=0)
            if rows * columns > _MAX_CELLS:
                raise CorpusError(
                    f"{path}: {part.filename} reaches to row {rows} and column {columns}, {rows * columns} cells and "
                    f"more than the {_MAX_CELLS} that are read; delete what lies far out, or take a fresh copy"
                )


def _column(letters: bytes) -> int:
    """Number of a column: A is 1, Z 26, AA 27."""
    number = 0
    for letter in letters.upper():
        number = 26 * number + letter - 64
    return number


def text(cell: object) -> str:
    """
    A cell as text; whole numbers without ".0".

    Example:
        >>> text(4.0), text(" 4+7 ")
        ('4', '4+7')
    """
    return str(int(cell)) if isinstance(cell, float) and cell == int(cell) else str(cell).strip()


def number(cell: object) -> float | None:
    """A cell as a number, also where it was typed as text; None for anything else."""
    try:
        return float(str(cell).strip())
    except ValueError:
        return None


def expression_type(cell: object) -> str:
    """
    One of `TYPES` for what the sheets write; anything else as it is.

    Example:
        >>> expression_type("Micro - 1/2")
        'micro-expression'
    """
    word = text(cell).lower()
    return next((name for name in TYPES if name.startswith(word[:5]) and len(word) > 4), word)


def table(rows: Sequence[Sequence[object]], *columns: str) -> list[dict[str, object]]:
    """
    The rows below the first one that names all the columns, as dicts by lower-case column name; [] where none does.
    Empty rows are left out.
    """
    for start, row in enumerate(rows):
        names = [text(cell).lower() for cell in row]
        if set(columns) <= set(names):
            body = (dict(zip(names, cells, strict=False)) for cells in rows[start + 1 :])
            return [cells for cells in body if any(text(cell) for cell in cells.values())]
    return []


# ---------------------------------------------------------------------------------------------------------------------
# The builder.


@dataclass
class CorpusConfig(datasets.BuilderConfig):
    """
    Args:
        frames: which copy of the videos: "raw" as recorded, "cropped" to the face, "selected" one clip per event.
        scheme: label scheme, one of `SCHEMES`.
        rules: choices for quirks, see `RULES`; the others keep their defaults.
    """

    frames: str = "raw"
    scheme: str = "objective_4"
    rules: dict[str, str] = field(default_factory=dict)


class CorpusBuilder(datasets.GeneratorBasedBuilder):
    """
    Base of the builders: a subclass says how its sheets are read and which folder is which video.

    Args:
        config_name: which copy of the videos to read; `BUILDER_CONFIGS` lists them.
        data_dir: the corpus as it was unpacked; sheets and videos may lie at any depth.
        scheme, rules: see `CorpusConfig`.
        cache_dir and others: of `datasets.DatasetBuilder`.

    Attributes:
        quirks: rules and log of the last reading.

    Raises:
        CorpusError: no such folder, or another tree than the corpus has. The message says where the licence is to be
            had, what was expected and what was found.
    """

    BUILDER_CONFIG_CLASS = CorpusConfig
    licence: ClassVar[Licence]
    fps: float | None = None
    first_frame: int = 1  # the sheets' number of the first frame of a video file

    def __init__(self, config_name: str | None = None, **kwargs):
        super().__init__(config_name=config_name, **kwargs)
        check_scheme(self.config.scheme)
        self.quirks = Quirks(self.config.rules)

    # What a corpus says about itself.

    def read_events(self, files: list[Path]) -> list[SheetEvent]:
        """The rows of those files (spreadsheets and text) that are sheets of this corpus; [] where none is."""
        raise NotImplementedError

    def identify(self, path: str) -> tuple[str, str] | None:
        """(video_id, subject_id) of a folder or file by its path inside the corpus, "/" between; None for others."""
        raise NotImplementedError

    def listed_images(self, files: list[Path]) -> dict[str, dict[str, set[int]]]:
        """What lists of images say: rule -> video_id -> numbers of images."""
        return {}

    def frame_rate(self, path: Path, is_folder: bool) -> float:
        """Frames per second of a video."""
        return self.fps

    def frame_numbers(self, path: Path, names: list[str] | None) -> list[int]:
        """By which number the sheets call every frame of a video file, or every image of a folder."""
        if names is None:
            return list(range(self.first_frame, self.first_frame + count_frames(path)))
        numbers = [image_number(name) for name in names]
        if None in numbers or len(set(numbers)) < len(numbers):
            raise CorpusError(f"{path}: every image needs a number of its own, as in img001.jpg; found {names[0]} ...")
        return numbers

    # What all have in common.

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            description=f"{self.licence.corpus}, {self.config.frames} frames. Licence: {self.licence.page}",
            features=schema(self.config.scheme),
            homepage=self.licence.page,
            license=self.licence.terms,
            citation=self.licence.citation,
        )

    def _split_generators(self, dl_manager):
        self._root()  # a folder that is not there is an error now, not when the first row is asked for
        return [datasets.SplitGenerator(datasets.Split.TRAIN)]

    def _generate_examples(self):
        for index, clip in enumerate(self.clips()):
            yield index, clip.row()

    def clips(self) -> Iterator[Clip]:
        """
        Every video with its events, in natural order of `video_id`; `quirks` is complete when the last one is out.

        Raises:
            CorpusError: the folder is not this corpus, or a rule says "error".
        """
        self.quirks = Quirks(self.config.rules)
        events, videos, listed = self._join()
        for video_id in sorted(videos, key=natural_key):
            path, subject_id, is_folder = videos[video_id]
            images, numbers, whole = self._frames(video_id, path, is_folder, listed)
            if not numbers:
                self.quirks.meet("event_without_frames", f"{video_id}: no image is left")
                continue
            fps = self.frame_rate(path, is_folder)
            rows = to_events(events.get(video_id, []), numbers, fps, self.config.scheme, self.quirks)
            yield Clip(video_id, subject_id, fps, len(numbers), path, images, whole, rows)

    def sheet_events(self) -> list[SheetEvent]:
        """The rows of the sheets alone, as written; the videos need not be there. `quirks` logs their reading."""
        self.quirks = Quirks(self.config.rules)
        return self._events([path for path, is_folder in walk(self._root()) if not is_folder])

    def _root(self) -> Path:
        if not self.config.data_dir:
            raise self._error("no folder was given: pass data_dir=, the corpus as it was unpacked")
        root = Path(self.config.data_dir)
        if not root.is_dir():
            raise self._error(f"{root} is no folder")
        return root

    def _join(self):
        root = self._root()
        found = list(walk(root))
        files = [path for path, is_folder in found if not is_folder]
        events = defaultdict(list)
        for row in self._events(files):
            events[row.video_id].append(row)
        videos: dict[str, tuple[Path, str, bool]] = {}
        for path, is_folder in self._in_this_copy(root, found):
            video_id, subject_id = self.identify(_inside(root, path))
            if video_id in videos:
                self.quirks.meet("video_twice", f"{video_id}: {path} and {videos[video_id][0]}")
            else:
                videos[video_id] = path, subject_id, is_folder
        if not videos:
            raise self._error(f"{root} holds no {self.config.frames} videos of this corpus. {self._seen(root, found)}")
        for video_id in sorted(set(events) - set(videos), key=natural_key):
            self.quirks.meet("video_missing", f"{video_id}: {len(events[video_id])} events")
        for video_id in sorted(set(videos) - set(events), key=natural_key):
            if self.quirks.meet("sheet_missing", video_id) == "skip":
                del videos[video_id]
        return events, videos, self.listed_images(files)

    def _events(self, files: list[Path]) -> list[SheetEvent]:
        events = self.read_events([path for path in files if _suffix(path.name) in SHEET_SUFFIXES | TEXT_SUFFIXES])
        if not events:
            sheets = [path.name for path in files if _suffix(path.name) in SHEET_SUFFIXES | {".csv"}]
            names = ", ".join(sheets[:SHOWN]) or "no spreadsheet at all"
            raise self._error(f"{self.config.data_dir} holds no label sheet of this corpus. Found: {names}")
        return events

    def _in_this_copy(self, root: Path, found: list[tuple[Path, bool]]) -> list[tuple[Path, bool]]:
        """Videos of the configured copy: a folder on the way says which copy it is, or none does."""
        several = len({config.frames for config in self.BUILDER_CONFIGS}) > 1
        videos = []
        for path, is_folder in found:
            if (is_folder or _suffix(path.name) in VIDEO_SUFFIXES) and self.identify(_inside(root, path)):
                videos.append((path, is_folder, _copy(root, path) if several else self.config.frames))
        named = [video[:2] for video in videos if video[2] == self.config.frames]
        return named or [video[:2] for video in videos if video[2] is None and self.config.frames != "selected"]

    def _frames(self, video_id: str, path: Path, is_folder: bool, listed: dict[str, dict[str, set[int]]]):
        """(image names or None, the sheet's number of every frame, whether those are all images)."""
        names = image_names(path) if is_folder else None
        numbers = self.frame_numbers(path, names)
        if names is None:
            return None, numbers, True
        out = set()
        for rule, videos in listed.items():
            for number in sorted(videos.get(video_id, set()) & set(numbers)):
                if self.quirks.meet(rule, f"{video_id}, image {number}") == "leave_out":
                    out.add(number)
        filled: list[tuple[int, str]] = []
        for number, name in zip(numbers, names, strict=True):
            if number in out:
                continue
            gap = number - filled[-1][0] - 1 if filled else 0
            if gap and self.quirks.meet("frame_gaps", f"{video_id}: {gap} before {name}") == "repeat":
                filled += [(missing, filled[-1][1]) for missing in range(number - gap, number)]
            filled.append((number, name))
        images = tuple(name for _, name in filled)
        return images, [number for number, _ in filled], list(images) == names

    def _seen(self, root: Path, found: list[tuple[Path, bool]]) -> str:
        others = {_copy(root, path) for path, is_folder in found if is_folder}
        others = sorted(others & {config.frames for config in self.BUILDER_CONFIGS} - {None, self.config.frames})
        hint = f"It has {' and '.join(others)} videos: choose that configuration. " if others else ""
        top = sorted(entry.name + "/" * entry.is_dir() for entry in root.iterdir())
        more = f" and {len(top) - SHOWN} more" if len(top) > SHOWN else ""
        return f"{hint}Found: {', '.join(top[:SHOWN]) or 'nothing'}{more}"

    def _error(self, problem: str) -> CorpusError:
        licence = self.licence
        gate = f"Nothing is downloaded: sign the licence agreement at {licence.page} and unpack what you are given.\n"
        return CorpusError(
            f"{licence.corpus}: {problem}\n{gate if licence.page else ''}Expected tree:\n{licence.tree}"
        )


def _inside(root: Path, path: Path) -> str:
    """The path of something in the corpus; a single video's folder may be the root itself."""
    return path.relative_to(root).as_posix() if path != root else root.name


def _copy(root: Path, path: Path) -> str | None:
    """Which copy of the videos a path belongs to, by the innermost folder around it that says so."""
    for folder in reversed(f"{root.name}/{_inside(root, path)}".lower().split("/")[:-1]):
        for word, frames in (("select", "selected"), ("crop", "cropped"), ("raw", "raw")):
            if word in folder:
                return frames
    return None


__all__ = [
    "Clip",
    "CorpusBuilder",
    "CorpusConfig",
    "CorpusError",
    "Licence",
    "cast",
    "count_frames",
    "expression_type",
    "frame_paths",
    "image_names",
    "image_number",
    "natural_key",
    "number",
    "opened_video",
    "read_sheets",
    "schema",
    "spreadsheets",
    "table",
    "text",
    "walk",
]
