"""SAMM Long Videos: 30 subjects, 147 videos at 200 frames per second, 343 macro- and 159 micro-expressions.

The spreadsheet has a few lines of explanation above its header. Macro-expressions were coded in other frame rates, so
their frame numbers have fractions. It names no emotions; where SAMM's own FACS sheet (columns Filename and Estimated
Emotion) lies in the folder as well, micro-expressions take theirs from it by their file name.
"""

import re
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
from .quirks import SheetEvent

LICENCE = Licence(
    corpus="SAMM Long Videos",
    page="http://www2.docm.mmu.ac.uk/STAFF/M.Yap/dataset.php",
    terms="Academic research only, under an agreement signed with Manchester Metropolitan University; not to be "
    "passed on. What the signed agreement says is what counts.",
    tree="""  SAMM_LV/
    SAMM_LongVideos_V2_Release.xlsx                 the label sheet, under any name
    SAMM_longvideos/006_1/006_1_0001.jpg ...        configuration "raw"
    SAMM_longvideos_cropped/006_1/006_1_0001.jpg    configuration "cropped", where you have made one""",
    citation="""@inproceedings{yap2020samm,
  title     = {SAMM Long Videos: A Spontaneous Facial Micro- and Macro-Expressions Dataset},
  author    = {Yap, Chuin Hong and Kendrick, Connah and Yap, Moi Hoon},
  booktitle = {15th IEEE International Conference on Automatic Face and Gesture Recognition (FG)},
  pages     = {771--776}, year = {2020},
  doi       = {10.1109/FG47880.2020.00029}
}""",
)


class SammLv(CorpusBuilder):
    """
    SAMM Long Videos from the folder that its authors give out.

    Configurations: "raw" (the default) and "cropped". `emotion` is None but for micro-expressions that SAMM's FACS
    sheet names; there are no self-reports.

    Example:
        builder = SammLv(data_dir="SAMM_LV")
        builder.download_and_prepare()
    """

    VERSION = "1.0.0"
    BUILDER_CONFIGS = [  # noqa: RUF012 - the library's own way to declare them
        CorpusConfig(name=frames, frames=frames) for frames in ("raw", "cropped")
    ]
    DEFAULT_CONFIG_NAME = "raw"
    licence = LICENCE
    fps = 200.0

    def read_events(self, files: list[Path]) -> list[SheetEvent]:
        """Rows of the sheet of long videos, with emotions of micro-expressions from the FACS sheet, if it is there."""
        tables = [rows for path in spreadsheets(files) for rows in read_sheets(path)]
        emotions = {}
        for rows in tables:
            for row in table(rows, "filename", "estimated emotion"):
                emotions[text(row["filename"])] = text(row["estimated emotion"])
        for rows in tables:
            if events := table(rows, "subject", "filename", "onset", "apex", "offset", "type", "action units"):
                return [_event(row, emotions) for row in events]
        return []

    def identify(self, path: str) -> tuple[str, str] | None:
        """A path that ends in "006_1" is video 006_1 of subject 006."""
        found = re.search(r"(?:^|[^\d])(\d{3})_(\d)(?:\.\w+)?$", path)
        return (f"{found[1]}_{found[2]}", found[1]) if found else None


def _event(row: dict, emotions: dict[str, str]) -> SheetEvent:
    name = text(row["filename"])
    kind = expression_type(row["type"])
    return SheetEvent(
        video_id=name.rsplit("_", 1)[0],
        onset=number(row["onset"]),
        apex=number(row["apex"]),
        offset=number(row["offset"]),
        type=kind,
        emotion=emotions.get(name) if kind == "micro-expression" else None,
        action_units=text(row["action units"]),
        name=name,
    )


__all__ = ["LICENCE", "SammLv"]
