"""Find the expressions in one video.

    python examples/detect_video.py interview.mp4 -o found         # examples/media/synthetic.mp4 is one to try it on

A line for each expression; in `found` the same for a spreadsheet (csv), for ELAN (eaf), as a picture of the timeline
(png, needs `pip install "fedn_hf[viz]"`), and with everything that is known, to be read again (json).
"""

import argparse
from pathlib import Path

from fedn_hf import FednError, ProgressHook, load_pipeline


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("video", type=Path)
    parser.add_argument("--model", help="a folder or a model on the Hub; the embedded default if it is not given")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()

    # 1. A detector, loaded once; it may be called with as many videos as there are. It is the same pipeline that
    #    `transformers.pipeline("facial-expression-detection")` gives.
    detect = load_pipeline(arguments.model)

    # 2. One pass over the video. Without `return_annotation` the result is a plain list of dicts.
    with ProgressHook() as hook:
        annotation = detect(arguments.video, return_annotation=True, hook=hook)

    # 3. What was found, and for how long there was a face to find it in: no face, no expressions.
    print(f"{len(annotation)} expressions; a face was seen for {annotation.observed_s:.1f} s")
    for event in annotation:
        times = f"{event.onset_s:8.2f} - {event.offset_s:.2f} s, strongest at {event.apex_s:.2f} s"
        print(f"{times}  {event.type}  {event.label}  {event.score:.2f}")

    # 4. How often and how long each class was seen, per minute of visible face.
    for row in annotation.time_budget(by=["type", "label"]):
        print(
            f"{row['type']} {row['label']}: {row['count']}, {row['total_s']:.2f} s, {row['per_minute']:.1f} a minute"
        )

    # 5. The suffix says the format; `fedn export --help` lists them all.
    arguments.output.mkdir(parents=True, exist_ok=True)
    for suffix in ("json", "csv", "eaf", "png"):
        annotation.write(arguments.output / f"{arguments.video.stem}.{suffix}")


if __name__ == "__main__":
    try:
        main()
    except FednError as error:
        raise SystemExit(f"error: {error}") from None
