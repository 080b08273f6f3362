"""CAS(ME)^3: part A, 13 videos each of about 100 subjects, and part C, one mock crime interview each of 31. 30 fps.

Part A has a sheet of events (4,206 rows), which exists in two versions, and one of the emotions of its
micro-expressions; macro-expressions have an objective class (I to VII, by action units) and no emotion. Frame numbers
are the images' own: they do not begin at 1, and some are missing. Lists name images that do not open, images of poor
quality, and events that were once wrongly labelled micro-expressions; a sheet of blinks (841) is counted in the log.
Depth images are not read.

Part C has a sheet of onsets and offsets of both types, and one of the emotions of the micro-expressions; no apexes.
How its videos lie on disk is not known here: any files or folders of images that are named by subject are taken.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from .corpus import (
    CorpusBuilder,
    CorpusConfig,
    Licence,
    expression_type,
    number,
    read_sheets,
    spreadsheets,
    table,
    text,
)
from .quirks import CorpusError, SheetEvent

LICENCE = Licence(
    corpus="CAS(ME)^3",
    page="http://casme.psych.ac.cn/casme/e4",
    terms="Academic research only, under an agreement signed with the Institute of Psychology, Chinese Academy of "
    "Sciences; not to be passed on. What the signed agreement says is what counts.",
    tree="""  CASME3/
    CAS(ME)3_part_A_v2.xls                       events of part A, v1 or v2
    cas(me)3_part_A_ME_label_JpgIndex_v2.xlsx    emotions of its micro-expressions
    error_info_damaged_image_partA.txt           (and the other lists, where you have them)
    part_A/spNO.1/a/color/7.jpg ...              configuration "part_a"; "depth" folders are left alone
    CAS(ME)3_part_C.xls                          events of part C
    CAS(ME)3_part_C_ME.xlsx                      emotions of its micro-expressions
    part_C/1.avi or part_C/1/1.jpg ...           configuration "part_c\"""",
    citation="""@article{li2023casme3,
  title   = {CAS(ME)^3: A Third Generation Facial Spontaneous Micro-Expression Database with Depth Information and
             High Ecological Validity},
  author  = {Li, Jingting and Dong, Zizhao and Lu, Shaoyuan and Wang, Su-Jing and Yan, Wen-Jing and Ma, Yinhuan and
             Liu, Ye and Huang, Changbing and Fu, Xiaolan},
  journal = {IEEE Transactions on Pattern Analysis and Machine Intelligence},
  volume  = {45}, number = {3}, pages = {2782--2800}, year = {2023},
  doi     = {10.1109/TPAMI.2022.3174895}
}""",
)
_PART_A = re.compile(r"(?:^|/)(?:spNO\.?)?0*(\d+)[/_]([a-m])(?:/color)?(?:\.\w+)?$", re.IGNORECASE)
_PART_C = re.compile(r"(?:^|/)(?:spNO\.?|partC\.?|sub|s)?0*(\d{1,2})(?:/color)?(?:\.\w+)?$", re.IGNORECASE)
_Times = tuple[float | None, float | None, float | None]


@dataclass
class CasMe3Config(CorpusConfig):
    """
    Args:
        sheet_version: "v2", or "v1" for the sheets that were given out first.
    """

    sheet_version: str = "v2"


class CasMe3(CorpusBuilder):
    """
    CAS(ME)^3 from the folder that its authors give out.

    Configurations: "part_a" (the default; `video_id` spNO.1_a) and "part_c" (`video_id` partC.1). Both versions of
    the sheet of part A may lie in the folder: `sheet_version="v1"` reads the older one.

    Example:
        builder = CasMe3("part_a", data_dir="CASME3", scheme="emotion_7")
        builder.download_and_prepare()
    """

    VERSION = "1.0.0"
    BUILDER_CONFIG_CLASS = CasMe3Config
    BUILDER_CONFIGS = [  # noqa: RUF012 - the library's own way to declare them
        CasMe3Config(name="part_a"),
        CasMe3Config(name="part_c"),
    ]
    DEFAULT_CONFIG_NAME = "part_a"
    licence = LICENCE
    fps = 30.0

    def __init__(self, config_name: str | None = None, **kwargs):
        super().__init__(config_name, **kwargs)
        if self.config.sheet_version not in ("v1", "v2"):
            raise CorpusError(f"sheet_version {self.config.sheet_version!r} was given, expected v1 or v2")

    def read_events(self, files: list[Path]) -> list[SheetEvent]:
        """Rows of the book of part A, in the version asked for, or of the book of part C."""
        books = {path: read_sheets(path) for path in spreadsheets(files)}
        return self._part_c(books) if self.config.name.startswith("part_c") else self._part_a(books)

    def identify(self, path: str) -> tuple[str, str] | None:
        """ "spNO.1/a/color" is video spNO.1_a of subject spNO.1; pictures of depth are no video."""
        if "depth" in path.lower().split("/"):
            return None
        if self.config.name.startswith("part_c"):
            found = None if _PART_A.search(path) else _PART_C.search(path)
            return (f"partC.{found[1]}", f"partC.{found[1]}") if found else None
        found = _PART_A.search(path)
        return (f"spNO.{found[1]}_{found[2].lower()}", f"spNO.{found[1]}") if found else None

    def listed_images(self, files: list[Path]) -> dict[str, dict[str, set[int]]]:
        """The authors' lists: "spNO.3 J 498.jpg  the image cannot open" and ".../spNO.138/a/color/1294.jpg"."""
        patterns = {
            "damaged_frames": r"(?m)^(spNO\.\d+) ([a-zA-Z]) (\d+)\.jpg .*cannot open",
            "poor_frames": r"(?m)/(spNO\.\d+)/([a-zA-Z])/color/(\d+)\.jpg$",
        }
        listed = {rule: defaultdict(set) for rule in patterns}
        for path in (path for path in files if path.suffix.lower() == ".txt"):
            words = path.read_text("utf-8", errors="replace")
            for rule, pattern in patterns.items():
                for subject, letter, image in re.findall(pattern, words):
                    listed[rule][f"{subject}_{letter.lower()}"].add(int(image))
        return listed

    def _part_a(self, books: dict[Path, list]) -> list[SheetEvent]:
        times = ("subject", "filename", "onset", "apex", "offset")
        events = self._version(books, "events", *times, "expression type", without="emotion")
        emotions = self._version(books, "emotions", *times, "emotion", without="expression type")
        self._log_blinks(books)
        listed = [
            row for tables in books.values() for rows in tables for row in rows if _headless(rows) and text(row[0])
        ]
        rows = []
        for row in events:
            event = SheetEvent(
                video_id=f"{text(row['subject'])}_{self._letter(row)}",
                **dict(zip(("onset", "apex", "offset"), _times(row), strict=True)),
                type=expression_type(row["expression type"]),
                action_units=text(row["au"]),
                objective_class=text(row["objective class"]) or None,
            )
            event = self._wrongly_labelled(event, listed)
            rows += [event] if event else []
        return self._with_emotions(rows, emotions)

    def _version(self, books: dict[Path, list], what: str, *columns: str, without: str = "") -> list[dict]:
        """Rows of the sheet that has the columns; of several, of the version that is wanted, else of the last."""
        found = {path.name.lower(): rows for path, rows in _sheets(books, *columns) if without not in rows[0]}
        wanted = [name for name in found if self.config.sheet_version in name]
        if found and not wanted:
            self.quirks.meet("version_missing", f"{self.config.sheet_version} of the {what}: {max(found)} is read")
        return found[max(wanted or found)] if found else []

    def _log_blinks(self, books: dict[Path, list]) -> None:
        """Every version of the sheet of events comes with the same second sheet; it is counted once."""
        columns = ("subject", "filename", "onset", "offset")
        sheets = (rows for _, rows in _sheets(books, *columns) if "apex" not in rows[0])
        for row in next(sheets, []):
            subject, letter, onset, offset = (text(row[column]) for column in columns)
            self.quirks.meet("blinks", f"{subject}_{letter.lower()}, {onset} {offset}")

    def _letter(self, row: dict) -> str:
        letter = text(row["filename"])
        if letter != letter.lower():
            self.quirks.meet("upper_case_name", f"{text(row['subject'])} {letter}, onset {text(row['onset'])}")
        return letter.lower()

    def _wrongly_labelled(self, event: SheetEvent, listed: list[list]) -> SheetEvent | None:
        """Found by video, action units, and what is right in the list: the apex, or onset and offset."""
        for row in listed:
            if f"{text(row[0])}_{text(row[1]).lower()}" != event.video_id or text(row[5]) != event.action_units:
                continue
            onset, apex, offset = map(number, row[2:5])
            if apex == event.apex or (onset, offset) == (event.onset, event.offset):
                choice = self.quirks.meet("wrongly_labelled", event.where)
                return {"keep": event, "macro": replace(event, type="macro-expression"), "drop": None}[choice]
        return event

    def _with_emotions(self, events: list[SheetEvent], emotions: list[dict]) -> list[SheetEvent]:
        """Joined by video and frames; where two of the three frames and the action units agree, by a rule."""
        words = {(f"{text(row['subject'])}_{text(row['filename']).lower()}", *_times(row)): row for row in emotions}
        joined = []
        for event in events:
            key = (event.video_id, event.onset, event.apex, event.offset)
            row = words.pop(key, None) if event.type == "micro-expression" else None
            joined.append(replace(event, emotion=text(row["emotion"])) if row else event)
        for key, row in words.items():
            index = next((i for i, event in enumerate(joined) if _nearly(event, key, text(row["au"]))), None)
            if index is None:
                self.quirks.meet("emotion_sheet_differs", f"{key}: no such event")
            elif self.quirks.meet("emotion_sheet_differs", f"{key} for {joined[index].where}") == "join":
                joined[index] = replace(joined[index], emotion=text(row["emotion"]))
        return joined

    def _part_c(self, books: dict[Path, list]) -> list[SheetEvent]:
        _, events = next(_sheets(books, "subject", "onset", "offset", "exp_type"), (None, []))
        _, emotions = next(_sheets(books, "sub", "onset", "offset", "au", "emotion"), (None, []))
        micro = {(text(row["sub"]), number(row["onset"]), number(row["offset"])): row for row in emotions}
        rows = []
        for row in events:
            key = (text(row["subject"]), number(row["onset"]), number(row["offset"]))
            named = micro.pop(key, None) if number(row["exp_type"]) == 1 else None
            rows.append(_part_c_event(key, "micro" if number(row["exp_type"]) == 1 else "macro", named))
        for key, row in micro.items():
            event = _part_c_event(key, "micro", row)
            if self.quirks.meet("emotion_sheet_alone", event.where) == "keep":
                rows.append(event)
        return rows


def _sheets(books: dict[Path, list], *columns: str) -> Iterator[tuple[Path, list[dict]]]:
    """Every sheet that has the columns and any rows, with its file."""
    for path, tables in books.items():
        for rows in (table(rows, *columns) for rows in tables):
            if rows:
                yield path, rows


def _times(row: dict) -> _Times:
    return number(row["onset"]), number(row["apex"]), number(row["offset"])


def _nearly(event: SheetEvent, key: tuple, action_units: str) -> bool:
    same = sum(mine == theirs for mine, theirs in zip((event.onset, event.apex, event.offset), key[1:], strict=True))
    free = event.type == "micro-expression" and event.emotion is None and event.video_id == key[0]
    return free and same >= 2 and event.action_units == action_units


def _headless(rows: list[list]) -> bool:
    """The list of wrongly labelled events has no header: subject, clip, onset, apex, offset, action units, ..."""
    return bool(rows) and len(rows[0]) > 5 and re.fullmatch(r"spNO\.\d+", text(rows[0][0])) is not None


def _part_c_event(key: tuple, kind: str, named: dict | None) -> SheetEvent:
    subject, onset, offset = key
    return SheetEvent(
        video_id=f"partC.{subject}",
        onset=onset,
        apex=None,
        offset=offset,
        type=expression_type(kind),
        emotion=text(named["emotion"]) if named else None,
        action_units=text(named["au"]).strip(",") if named else "",
    )


__all__ = ["LICENCE", "CasMe3", "CasMe3Config"]
