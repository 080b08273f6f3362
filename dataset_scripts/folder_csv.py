"""Any folder of videos, or of folders of images, with a table of the expressions in them.

The table is a CSV file in the folder with a header. Columns: `video` (its path in the folder, with or without
suffix), `onset`, `offset`, `type` (macro or micro); and as you have them `apex`, `emotion`, `self_report`,
`action_units`, `subject_id`. Frames are numbers in the video, inclusive, and count from `first_frame`. A video
without expressions may stand in the table with the other columns empty, or not at all.
"""

import csv
import logging
from dataclasses import dataclass
from pathlib import Path

from .corpus import (
    VIDEO_SUFFIXES,
    CorpusBuilder,
    CorpusConfig,
    CorpusError,
    Licence,
    count_frames,
    expression_type,
    number,
    opened_video,
    text,
)
from .labels import TYPES
from .quirks import SheetEvent

LICENCE = Licence(
    corpus="Your own videos",
    page="",
    terms="What you agreed with the people in the videos.",
    tree="""  folder/
    events.csv                with the columns video,onset,offset,type and, if you have them,
                              apex,emotion,self_report,action_units,subject_id
    anna/interview.mp4        in the table as anna/interview
    ben/interview/001.png ... a folder of images: pass fps=""",
    may_be_published=True,
)
_NEEDED = ("video", "onset", "offset", "type")
_TAKEN = {*_NEEDED, "apex", "emotion", "self_report", "action_units", "subject_id"}

logger = logging.getLogger(__name__)


@dataclass
class FolderCsvConfig(CorpusConfig):
    """
    Args:
        fps: frames per second of folders of images; video files know theirs.
        first_frame: the number that the table gives to the first frame of a video, 0 or 1.
    """

    fps: float | None = None
    first_frame: int = 0


class FolderCsv(CorpusBuilder):
    """
    Any folder of videos with a table of expressions.

    Example:
        builder = FolderCsv(data_dir="study", fps=25.0, first_frame=1)
        builder.download_and_prepare()
    """

    VERSION = "1.0.0"
    BUILDER_CONFIG_CLASS = FolderCsvConfig
    BUILDER_CONFIGS = [FolderCsvConfig(name="default")]  # noqa: RUF012 - the library's own way to declare them
    licence = LICENCE
    _subjects: dict[str, str]

    def __init__(self, config_name: str | None = None, **kwargs):
        super().__init__(config_name, **kwargs)
        self.fps, self.first_frame = self.config.fps, self.config.first_frame

    def read_events(self, files: list[Path]) -> list[SheetEvent]:
        """
        Rows of every CSV file that has the columns needed; one without onset and offset only names a subject.

        Raises:
            CorpusError: a table that is not UTF-8, a row that cannot be an event, or no event at all.
        """
        self._subjects, events, found = {}, [], False
        for path in (path for path in files if path.suffix.lower() == ".csv"):
            try:
                lines = path.read_text("utf-8-sig").splitlines(keepends=True)
            except UnicodeDecodeError as error:
                raise CorpusError(f"{path}: {error}; save the table as CSV in UTF-8") from error
            rows = csv.DictReader(lines, delimiter=max(",;\t", key=lines[0].count) if lines else ",")
            try:
                if set(_NEEDED) <= set(rows.fieldnames or ()):
                    found = True
                    self._check_columns(path, set(rows.fieldnames))
                    events += [self._event(row, f"{path}, line {rows.line_num}") for row in rows]
            except csv.Error as error:
                raise CorpusError(f"{path}, line {rows.line_num + 1}: {error}; save the table as CSV again") from error
        if found and not any(events):
            raise CorpusError(f"{self.config.data_dir}: the table has no expressions, not even one")
        return [event for event in events if event]

    @staticmethod
    def _check_columns(path: Path, names: set[str]) -> None:
        """Say what is left out, and what a missing subject means: folds by subject would otherwise leak in silence."""
        if unknown := sorted(filter(None, names - _TAKEN)):
            logger.warning("%s: no use for %s; columns are %s", path, ", ".join(unknown), ", ".join(sorted(_TAKEN)))
        if "subject_id" not in names:
            logger.warning("%s: without a column subject_id every video counts as a subject of its own", path)

    def _event(self, row: dict[str, str], where: str) -> SheetEvent | None:
        row = {name: (cell or "").strip() for name, cell in row.items() if name}
        video_id = _video_id(row["video"])
        if row.get("subject_id"):
            self._subjects[video_id] = row["subject_id"]
        if not row["onset"] and not row["offset"]:
            return None
        onset, offset, apex = number(row["onset"]), number(row["offset"]), row.get("apex") or None
        kind = expression_type(row["type"])
        if onset is None or offset is None or kind not in TYPES or (apex and number(apex) is None):
            raise CorpusError(f"{where}: expected frame numbers and macro or micro, got {row}")
        return SheetEvent(
            video_id=video_id,
            onset=onset,
            apex=None if apex is None else number(apex),
            offset=offset,
            type=kind,
            emotion=row.get("emotion") or None,
            self_report=row.get("self_report") or None,
            action_units=text(row.get("action_units", "")),
        )

    def identify(self, path: str) -> tuple[str, str] | None:
        """Every file and folder is a video: "anna/interview.mp4" is anna_interview, its subject as the table says."""
        video_id = _video_id(path)
        return video_id, self._subjects.get(video_id, video_id)

    def frame_rate(self, path: Path, is_folder: bool) -> float:
        """
        What a video file says, else `fps`, which a folder of images needs.

        Raises:
            CorpusError: neither is known.
        """
        if not is_folder:
            with opened_video(path) as (_, stream):
                rate = stream.average_rate
            if rate:
                return float(rate)
        if not self.fps:
            raise CorpusError(f"{path} does not say its frame rate: pass fps=, in frames per second")
        return self.fps

    def frame_numbers(self, path: Path, names: list[str] | None) -> list[int]:
        """Counted on from `first_frame`, whatever numbers the names of images hold."""
        return list(range(self.first_frame, self.first_frame + (count_frames(path) if names is None else len(names))))


def _video_id(path: str) -> str:
    """anna/interview.mp4 -> anna_interview"""
    path = Path(path.replace("\\", "/"))
    stem = path.with_suffix("") if path.suffix.lower() in VIDEO_SUFFIXES else path
    return "_".join(stem.parts)


__all__ = ["LICENCE", "FolderCsv", "FolderCsvConfig"]
