"""CAS(ME)^2: 22 subjects, 97 or 98 long videos at 30 frames per second, 300 macro- and 57 micro-expressions.

The spreadsheet (CAS(ME)^2code_final.xlsx, found under other names as well) has three sheets without headers: the
events (subject number, clip name, onset, apex, offset, action units, objective class, type, self-report), the
subjects (number -> s15 ...) and the clips (anger1 -> 0401 ...). Frames count from 1 and are the images' numbers.
"""

import re
from pathlib import Path

from .corpus import CorpusBuilder, CorpusConfig, Licence, expression_type, number, read_sheets, spreadsheets, text
from .quirks import CorpusError, SheetEvent

LICENCE = Licence(
    corpus="CAS(ME)^2",
    page="http://casme.psych.ac.cn/casme/e3",
    terms="Academic research only, under an agreement signed with the Institute of Psychology, Chinese Academy of "
    "Sciences; not to be passed on. What the signed agreement says is what counts.",
    tree="""  CASME_sq/
    CAS(ME)^2code_final.xlsx              the label sheet, under any name
    longVideoFaceCropped/s15/15_0101disgustingteeth/img1.jpg ...     configuration "cropped"
    rawpic/s15/15_0101disgustingteeth/img001.jpg ...                 configuration "raw"
    selectedpic/s15/anger1_1/img557.jpg ...                          configuration "selected\"""",
    citation="""@article{qu2018casme2,
  title   = {CAS(ME)^2: A Database for Spontaneous Macro-Expression and Micro-Expression Spotting and Recognition},
  author  = {Qu, Fangbing and Wang, Su-Jing and Yan, Wen-Jing and Li, He and Wu, Shuhang and Fu, Xiaolan},
  journal = {IEEE Transactions on Affective Computing},
  volume  = {9}, number = {4}, pages = {424--436}, year = {2018},
  doi     = {10.1109/TAFFC.2017.2654440}
}""",
)
_CLIP = r"[a-z]+\d+"  # anger1
_EVENT = rf"({_CLIP})_\d+"  # anger1_2


class CasMe2(CorpusBuilder):
    """
    CAS(ME)^2 from the folder that its authors give out.

    Configurations: "cropped" (longVideoFaceCropped, the default), "raw" (rawpic), "selected" (one clip per event;
    `video_id` is then s15_anger1_1). `emotion` is the objective class, `self_report` the participant's own word.

    Example:
        builder = CasMe2(data_dir="CASME_sq")
        builder.download_and_prepare()
        builder.as_dataset(split="train")[0]["events"]
    """

    VERSION = "1.0.0"
    BUILDER_CONFIGS = [  # noqa: RUF012 - the library's own way to declare them
        CorpusConfig(name=frames, frames=frames) for frames in ("cropped", "raw", "selected")
    ]
    DEFAULT_CONFIG_NAME = "cropped"
    licence = LICENCE
    fps = 30.0

    def read_events(self, files: list[Path]) -> list[SheetEvent]:
        """Rows of the sheet with events; subjects and videos get their codes from its two other sheets."""
        for path in spreadsheets(files):
            tables = read_sheets(path)
            rows = [row for rows in tables for row in rows if len(row) >= 9 and _is_event(row)]
            if any(re.fullmatch(_EVENT, text(row[1]).lower()) for row in rows):
                subjects, codes = _naming_rules(tables)
                return [self._event(row, subjects, codes, path) for row in rows]
        return []

    def _event(self, row: list, subjects: dict[str, str], codes: dict[str, str], path: Path) -> SheetEvent:
        name = text(row[1]).lower()
        clip = re.fullmatch(_EVENT, name)
        subject = subjects.get(text(row[0]), text(row[0]))
        if not clip or clip[1] not in codes or not re.fullmatch(r"s\d\d", subject):
            raise CorpusError(
                f"{path}: event {text(row[1])!r} of subject {text(row[0])} has no entry in the naming rules, "
                "which are the second and third sheet of the original; take the whole spreadsheet"
            )
        selected = self.config.frames == "selected"
        return SheetEvent(
            video_id=f"{subject}_{name if selected else codes[clip[1]]}",
            onset=number(row[2]),
            apex=number(row[3]),
            offset=number(row[4]),
            type=expression_type(row[7]),
            emotion=text(row[6]) or None,
            self_report=text(row[8]) or None,
            action_units=text(row[5]),
            name=name,
        )

    def identify(self, path: str) -> tuple[str, str] | None:
        """ "s15/15_0101disgustingteeth" is video s15_0101 of subject s15; selected clips go by code and event."""
        path = path.lower()
        if self.config.frames == "selected":
            found = re.search(rf"(?:^|/)s?(\d\d)[/_](?:\d\d_)?({_EVENT})(?:\.\w+)?$", path)
        else:
            found = re.search(r"(?:^|[^\d])0?(\d\d)_(0\d{3})[^/\d.]*(?:\.\w+)?$", path)
        return (f"s{found[1]}_{found[2]}", f"s{found[1]}") if found else None


def _is_event(row: list) -> bool:
    return text(row[7]).lower() in ("macro-expression", "micro-expression") and None not in map(number, row[2:5])


def _naming_rules(tables: list) -> tuple[dict[str, str], dict[str, str]]:
    """Subject number -> s15, and clip name -> video code."""
    subjects, codes = {}, {}
    for row in (row for rows in tables for row in rows):
        if len(row) >= 3 and re.fullmatch(r"s\d\d", text(row[1])):
            subjects[text(row[2])] = text(row[1])
        elif len(row) >= 2 and re.fullmatch(_CLIP, text(row[1]).lower()) and text(row[0]).isdecimal():
            codes[text(row[1]).lower()] = text(row[0]).zfill(4)
    return subjects, codes


__all__ = ["LICENCE", "CasMe2"]
