"""Tell each expression while the video comes in: of a recording that goes on for hours, a pipe, a camera.

    python examples/stream.py talk.mkv
    ffmpeg -i rtsp://camera -f mpegts - | python examples/stream.py -

A line of JSON for each expression, as soon as nothing to come can change it; together they are what a call on the
whole video gives. Nothing is kept of the video, so memory stays the same. `fedn detect --follow` prints it as a table.
"""

import argparse
import json
import sys

from fedn_hf import FednError, load_pipeline


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("video", help="a file, or - for what comes in by a pipe")
    parser.add_argument("--model", help="a folder or a model on the Hub; the embedded default if it is not given")
    parser.add_argument("--score-threshold", type=float, help="that of the checkpoint if it is not given")
    arguments = parser.parse_args()

    detect = load_pipeline(arguments.model)
    # The network looks at both sides of a moment, and an expression that overlaps another one waits for its end.
    print(f"at most {detect.latency_s:.0f} s of video after an expression has ended", file=sys.stderr)

    # A file object can be read as it comes in, also one that cannot be wound back.
    video = sys.stdin.buffer if arguments.video == "-" else arguments.video
    for event in detect.stream(video, score_threshold=arguments.score_threshold):
        print(json.dumps(event), flush=True)  # at once, for whatever reads it


if __name__ == "__main__":
    try:
        main()
    except FednError as error:
        raise SystemExit(f"error: {error}") from None
