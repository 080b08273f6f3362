"""All videos below a folder become one workbook, for Excel, SPSS or R.

    pip install "fedn_hf[export]"
    python examples/folder_to_spreadsheet.py recordings -o study.xlsx

Sheet `expressions` has a row for each expression; sheet `videos` a row for each video: how long it is, for how long
there was a face, how many expressions a minute of face, or why it could not be read. Count with that sheet: a video
in which nothing was found has no row in the first, and one without a face says nothing.
"""

import argparse
from pathlib import Path

import pandas as pd

from fedn_hf import load_pipeline, tidy_table
from fedn_hf.media_fedn import FednError, MediaError

SUFFIXES = {".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".wmv", ".mts", ".mpg"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", help="a folder or a model on the Hub; the embedded default if it is not given")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the workbook to write, .xlsx")
    arguments = parser.parse_args()

    # 1. The videos. Names that begin with a dot are no videos: macOS leaves them on foreign disks.
    files = (path for path in arguments.folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.name[0] != ".")
    videos = sorted(files)
    if not videos:
        raise FednError(f"{arguments.folder}: no videos in this folder; name one that holds {', '.join(SUFFIXES)}")

    # 2. A generator goes in and a generator comes out: one video at a time, however many there are. A file that cannot
    #    be read costs no other; its error stands where its result would.
    detect = load_pipeline(arguments.model)
    tables, rows = [], []
    for path, result in zip(videos, detect((str(path) for path in videos), return_annotation=True), strict=True):
        name = path.relative_to(arguments.folder).as_posix()
        print(f"{len(rows) + 1} of {len(videos)}: {name}")
        if isinstance(result, MediaError):
            rows.append({"video": name, "error": result.reason})
            continue
        face_s = result.observed_s
        facts = {"duration_s": result.video["duration_s"], "face_s": face_s, "expressions": len(result)}
        rows.append({"video": name, **facts, "per_minute": 60 * len(result) / face_s if face_s else None})
        tables.append(tidy_table([result]).assign(video=name))

    # 3. One table of all, and one of the videos.
    expressions = pd.concat(tables) if tables else pd.DataFrame()
    sheets = {"expressions": expressions, "videos": pd.DataFrame(rows).convert_dtypes()}
    with pd.ExcelWriter(arguments.output) as workbook:
        for name, sheet in sheets.items():
            sheet.to_excel(workbook, sheet_name=name, index=False, freeze_panes=(1, 1))
    print(f"{arguments.output}: {len(expressions)} expressions in {len(tables)} of {len(videos)} videos")


if __name__ == "__main__":
    try:
        main()
    except FednError as error:
        raise SystemExit(f"error: {error}") from None
