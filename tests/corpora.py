"""Small corpora in the layouts of the real ones: a few tiny images, sheets of a few rows, every quirk in them."""

import zipfile
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image

from tests.clips import picture

SAMM_HEADER = ["Subject", "Filename", "Inducement Code", "Onset", "Apex", "Offset", "Duration", "Type"]
CASME_3_HEADER = ["Subject", "Filename", "Onset", "Apex", "Offset", "AU", "Expression type", "Objective class"]
CASME_3_ME_HEADER = ["Subject", "Filename", "Onset", "Apex", "Offset", "AU", "Objective class", "emotion"]


def write_sheet(path: Path, *sheets: list[list]) -> None:
    """A minimal xlsx: numbers as numbers, everything else as text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    main, relation = "http://schemas.openxmlformats.org", "http://schemas.openxmlformats.org/officeDocument/2006"
    numbers = range(1, len(sheets) + 1)
    named = "".join(f'<sheet name="s{n}" sheetId="{n}" r:id="r{n}"/>' for n in numbers)
    linked = "".join(
        f'<Relationship Id="r{n}" Type="{relation}/relationships/worksheet" Target="worksheets/s{n}.xml"/>'
        for n in numbers
    )
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    parts = "".join(
        f'<Override PartName="/xl/worksheets/s{n}.xml" ContentType="{kind}.worksheet+xml"/>' for n in numbers
    )
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(
            "[Content_Types].xml",
            f'<Types xmlns="{main}/package/2006/content-types"><Default Extension="rels" '
            'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
            f'<Override PartName="/xl/workbook.xml" ContentType="{kind}.sheet.main+xml"/>{parts}</Types>',
        )
        file.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{main}/package/2006/relationships"><Relationship Id="r1" '
            f'Type="{relation}/relationships/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        )
        file.writestr(
            "xl/workbook.xml",
            f'<workbook xmlns="{main}/spreadsheetml/2006/main" xmlns:r="{relation}/relationships">'
            f"<sheets>{named}</sheets></workbook>",
        )
        file.writestr(
            "xl/_rels/workbook.xml.rels",
            f'<Relationships xmlns="{main}/package/2006/relationships">{linked}</Relationships>',
        )
        for n, rows in zip(numbers, sheets, strict=True):
            body = "".join(f'<row r="{r}">{_cells(r, row)}</row>' for r, row in enumerate(rows, start=1))
            sheet = f'<worksheet xmlns="{main}/spreadsheetml/2006/main"><sheetData>{body}</sheetData></worksheet>'
            file.writestr(f"xl/worksheets/s{n}.xml", sheet)


def _cells(r: int, row: list) -> str:
    cells = []
    for column, value in zip("ABCDEFGHIJKL", row, strict=False):
        if isinstance(value, (int, float)):
            cells.append(f'<c r="{column}{r}"><v>{value}</v></c>')
        elif value:
            cells.append(f'<c r="{column}{r}" t="inlineStr"><is><t>{escape(value)}</t></is></c>')
    return "".join(cells)


def write_images(folder: Path, numbers, name: str = "img{:03d}.jpg", size=(32, 24)) -> None:
    """Frames that show their own number; the first is 0."""
    folder.mkdir(parents=True, exist_ok=True)
    for frame, number in enumerate(numbers):
        Image.fromarray(np.ascontiguousarray(picture(frame, *size))).save(folder / name.format(number), quality=95)


def casme_2(root: Path) -> Path:
    """Two subjects: an offset of 0, an apex after the offset, an odd spelling, a missing and an unlabelled video."""
    events = [
        [1, "anger1_1", 3, 5, 9, "4+10", "negative", "macro-expression", "anger"],
        [1, "anger1_2", 8, 10, 0, 4, "negative", "macro-expression", "helpless"],
        [1, "happy1_1", 2, 4, 12, 12, "positive", "micro-expression", "happyiness"],
        [2, "disgust1_1", 4, 11, 10, 43, "others", "micro-expression", "disgust"],
        [2, "happy1_1", 1, 2, 3, 12, "positive", "macro-expression", "happiness"],
    ]
    subjects = [[15, "s15", 1], [23, "s23", 2]]
    codes = [["0101", "disgust1"], ["0401", "anger1"], ["0502", "happy1"]]
    write_sheet(root / "CAS(ME)^2code_final(更新).xlsx", events, subjects, codes)
    for subject, clip, last in ((15, "0401girlcrashing", 12), (15, "0502funnyerrors", 11), (15, "0503unnyfarting", 5)):
        write_images(root / f"rawpic/s{subject}/{subject}_{clip}", range(1, last + 1))
    write_images(root / "rawpic/s23/23_0101disgustingteeth", range(1, 13))
    for video in (root / "rawpic").glob("*/*"):
        images = len(list(video.iterdir()))
        write_images(
            root / "longVideoFaceCropped" / video.relative_to(root / "rawpic"),
            range(1, images + 1),
            "img{}.jpg",
            (24, 24),
        )
    write_images(root / "selectedpic/s15/anger1_1", range(3, 10), "img{}.jpg")
    (root / "rawpic/s15/15_0401girlcrashing/._img001.jpg").write_bytes(b"macOS")
    return root


def samm_lv(root: Path) -> Path:
    """Two subjects: an apex of -1, fractions, an onset of 0, an offset past the end, an overlap, SAMM's FACS sheet."""
    rows = [
        ["006", "006_1_1", 1, 2.4, 3.6, 7.2, 5.8, "Macro", "4(B/C)+7B"],
        ["006", "006_1_2", 1, 5, 6, 8, 4, "Micro - 1/2", "4+7"],
        ["006", "006_2_1", 2, 0, 3, 5, 6, "Macro", 12],
        ["007", "007_3_1", 3, 4, -1, 99, 96, "Macro", "L2"],
    ]
    notes = [["SAMM Long Videos Dataset - FACS Codes"], [], ["Symbol Key:"]]
    write_sheet(root / "SAMM_LongVideos_V2_Release.xlsx", [*notes, [*SAMM_HEADER, "Action Units"], *rows])
    facs = [["Subject", "Filename", "Estimated Emotion"], ["006", "006_1_2", "Anger"]]
    write_sheet(root / "SAMM_Micro_FACS_Codes_v2.xlsx", facs)
    for video in ("006_1", "006_2", "007_3"):
        write_images(root / "SAMM_longvideos" / video, range(1, 11), video + "_{:04d}.jpg")
    return root


def casme_3(root: Path) -> Path:
    """Part A with numbers from 7 and a gap, damaged and upper-case ones, depth images; part C."""
    rows = [
        ["spNO.1", "a", "8", "9", "12", "4", "Macro-expression", "III"],
        ["spNO.1", "a", "10", "12", "14", "14", "Micro-expression", "VII"],
        ["spNO.3", "J", "2", "3", "5", "12", "Micro-expression", "I"],
        ["spNO.3", "b", "1", "2", "4", "28+14", "Micro-expression", "VII"],
    ]
    me = [
        ["spNO.1", "a", "10", "12", "14", "14", "VII", "sad"],
        ["spNO.3", "J", "2", "3", "5", "12", "I", "happy"],
        ["spNO.3", "b", "11", "2", "4", "28+14", "VII", "fear"],
    ]
    write_sheet(root / "CAS(ME)3_part_A_v1.xlsx", [CASME_3_HEADER, *rows[:3]])
    blinks = [["Subject", "Filename", "Onset", "Offset"], ["spNO.1", "a", "8", "11"]]
    write_sheet(root / "CAS(ME)3_part_A_v2.xls", [CASME_3_HEADER, *rows], blinks)
    write_sheet(root / "cas(me)3_part_A_ME_label_JpgIndex_v2.xlsx", [CASME_3_ME_HEADER, *me])
    wrong = [["spNO.3", "b", 1, "2", "4", "28+14", "VII", "fear"]]
    write_sheet(root / "CAS(ME)3_part_A_wrongly_labeled_me_in_V1.xlsx", wrong)
    (root / "error_info_damaged_image_partA.txt").write_text("spNO.3 J 4.jpg  the image cannot open\n" * 2)
    (root / "image_with_bad_quality_partA.txt").write_text("/date/RGB/spNO.1/a/color/8.jpg\n")
    write_images(root / "part_A/spNO.1/a/color", [7, 8, 9, 10, 13, 14, 15], "{}.jpg")
    write_images(root / "part_A/spNO.1/a/depth", [7, 8], "{}.png")
    write_images(root / "part_A/spNO.3/J/color", range(1, 9), "{}.jpg")
    (root / "part_A/spNO.3/J/color/4.jpg").write_bytes(b"")
    write_images(root / "part_A/spNO.3/b/color", range(1, 6), "{}.jpg")
    header = ["Subject", "Onset", "Offset", "diff", "Exp_type", "risk"]
    write_sheet(root / "CAS(ME)3_part_C.xls", [header, [4, 2, 9, 7, 0, 1], [4, 3, 5, 2, 1, 1]])
    header = ["sub", "count", "onset", "offset", "au", "emotion"]
    write_sheet(
        root / "CAS(ME)3_part_C_ME.xlsx", [header, [4, 1, 3, 5, "4,24,", "negative"], [5, 1, 2, 4, 1, "surprise"]]
    )
    for subject in (4, 5):
        write_images(root / f"part_C/{subject}", range(1, 13), "{:05d}.jpg")
    return root


def folder_csv(root: Path) -> Path:
    """A video file's neighbour of images, with a table that Excel wrote."""
    write_images(root / "anna/interview", range(10), "{}.jpg")
    write_images(root / "ben/interview", range(10), "{}.jpg")
    rows = ["video;onset;apex;offset;type;emotion;subject_id", "anna/interview;2;3;5;micro;surprise;anna"]
    rows += ["ben/interview;0;;9;macro;;ben"]
    (root / "events.csv").write_text("\ufeff" + "\r\n".join(rows), "utf-8")
    return root
