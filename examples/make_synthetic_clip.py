"""Make examples/media/synthetic.mp4 again, and its ground truth: one synthetic person, three macro- and two
micro-expressions, blinks and head turns in 24 seconds. The expressions are also written as a table, as coders do it.

    python examples/make_synthetic_clip.py --face-model face_model.npz -o examples/media

The head is made from ICT-FaceKit Light (MIT licence); see NOTICE. The seeds were chosen for what happens, among those
of `write_script` with the statistics of SAMM-LV.
"""

import argparse
import dataclasses
import json
from pathlib import Path

from fedn_hf.annotation import ExpressionAnnotation, ExpressionInterval
from fedn_hf.exporters import write_many
from fedn_hf.synthetic.appearance import Canvas, Subject
from fedn_hf.synthetic.behaviour import write_script
from fedn_hf.synthetic.camera import Camera
from fedn_hf.synthetic.face_model import FaceModel
from fedn_hf.synthetic.render import encode
from fedn_hf.synthetic.scene import Scene
from fedn_hf.synthetic.surroundings import Surroundings

SIZE, FPS, SECONDS, CRF = 320, 30.0, 24.0, 22
SCRIPT, PERSON, ROOM, CAMERA = (2026, 10071), 112, 2, 22


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--face-model", help="else the environment variable FEDN_FACE_MODEL says where")
    parser.add_argument("-o", "--output", type=Path, default=Path("examples/media"))
    arguments = parser.parse_args()
    script = write_script(SCRIPT, SECONDS, FPS, "samm_lv")
    canvas = Canvas(FaceModel.load(arguments.face_model))
    scene = Scene(
        canvas, Subject.draw(canvas, PERSON), Surroundings.draw(ROOM, SIZE), Camera.draw(CAMERA, SIZE, FPS), script
    )
    arguments.output.mkdir(parents=True, exist_ok=True)
    pictures = (scene.picture(frame) for frame in range(script.num_frames))
    encode(pictures, arguments.output / "synthetic.mp4", SIZE, FPS, CRF)
    truth = {
        "video": "synthetic.mp4",
        "fps": FPS,
        "num_frames": script.num_frames,
        "expressions": [dataclasses.asdict(expression) for expression in script.expressions],
        "distractors": [dataclasses.asdict(distractor) for distractor in script.distractors],
    }
    (arguments.output / "synthetic.json").write_text(json.dumps(truth, indent=1) + "\n")
    write_many([coding(truth)], arguments.output / "synthetic.csv", with_provenance=False)


def coding(truth: dict) -> ExpressionAnnotation:
    """The truth as a coder would give it who misses nothing."""
    events = []
    for known in truth["expressions"]:
        frames = {name: known[name] for name in ("onset_frame", "apex_frame", "offset_frame")}
        onset, apex, offset = frames.values()
        times = (onset / FPS, apex / FPS, (offset + 1) / FPS)
        events.append(ExpressionInterval(known["emotion"], None, known["type"], *times, **frames))
    return ExpressionAnnotation({"path": truth["video"], "fps": FPS, "num_frames": truth["num_frames"]}, events)


if __name__ == "__main__":
    main()
