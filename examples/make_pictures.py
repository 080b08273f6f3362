"""Make the pictures of examples/media again: timeline, filmstrip, overlay and report of the synthetic clip.

    python examples/make_pictures.py -o examples/media

What they show is the truth that was rendered, not what a detector found; where the face is, and how well it can be
seen, is measured. Nobody in the clip exists.
"""

import argparse
import json
import tempfile
from pathlib import Path

import av
import numpy as np
from PIL import Image

from fedn_hf import FaceCropper, VideoReader
from fedn_hf.annotation import ExpressionAnnotation, ExpressionInterval
from fedn_hf.html_report import write_report
from fedn_hf.overlay import render
from fedn_hf.pictures import draw_filmstrip, draw_timeline, save
from fedn_hf.version import __version__

MEDIA = Path(__file__).resolve().parent / "media"
CLIP = MEDIA / "synthetic.mp4"
OVERLAY_FRAME = 692  # the apex of the surprise


def truth_of_the_clip() -> ExpressionAnnotation:
    """Events and their intensity from the truth; coverage from following the face."""
    truth = json.loads(CLIP.with_suffix(".json").read_text())
    fps, frames, events = truth["fps"], truth["num_frames"], []
    intensity = np.zeros(frames)
    for row in truth["expressions"]:
        onset, apex, offset = (row[f"{name}_frame"] for name in ("onset", "apex", "offset"))
        times = (onset / fps, apex / fps, (offset + 1) / fps)
        events.append(ExpressionInterval(row["emotion"], None, row["type"], *times, onset, apex, offset))
        rise = np.interp(np.arange(frames), (onset, apex, offset), (0, row["intensity"], 0), 0, 0)
        intensity = np.maximum(intensity, rise)
    reader = VideoReader(CLIP)
    batches = list(FaceCropper()(reader))
    seen = np.concatenate([batch.mask for batch in batches])
    assert seen.all(), "the face is in view all the time"
    means = {
        name: float(np.mean(np.concatenate([getattr(batch, name) for batch in batches])))
        for name in ("confidence", "face_size_px", "fit")
    }
    info = reader.info
    video = {"path": CLIP.name, "width": info.width, "height": info.height, "fps": fps, "duration_s": info.duration_s}
    return ExpressionAnnotation(
        {**video, "codec": info.codec, "num_frames": frames},
        events,
        [{"face_id": 0, "start_s": 0.0, "end_s": info.duration_s, "frames": frames, **means}],
        [{"face_id": 0, "time_s": (np.arange(frames) / fps).tolist(), "intensity": intensity.round(4).tolist()}],
        sorted({event.label for event in events}),
        ["macro-expression", "micro-expression"],
        {"made by": "examples/make_synthetic_clip.py", "source of events": "the truth that was rendered",
         "source of coverage": f"FaceCropper of fedn_hf {__version__}", "faces": "largest"},
    )  # fmt: skip


def overlay_frame(annotation: ExpressionAnnotation) -> np.ndarray:
    """One frame of an overlay video and the same with the face hidden, side by side."""
    frames = []
    with tempfile.TemporaryDirectory() as folder:
        for blur in (False, True):
            path = Path(folder) / "overlay.mp4"
            render(annotation, CLIP, path, blur=blur)
            with av.open(str(path)) as video:
                frames.append(next(f for i, f in enumerate(video.decode(video=0)) if i == OVERLAY_FRAME))
    return np.concatenate([frame.to_ndarray(format="rgb24") for frame in frames], axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=MEDIA)
    folder = parser.parse_args().output
    annotation = truth_of_the_clip()
    save(draw_timeline(annotation), folder / "timeline.png")
    with tempfile.TemporaryDirectory() as passing:  # pictures of faces are smaller as JPEG
        save(draw_filmstrip(annotation, CLIP), Path(passing) / "filmstrip.png")
        with Image.open(Path(passing) / "filmstrip.png") as picture:
            picture.convert("RGB").save(folder / "filmstrip.jpg", quality=88)
    Image.fromarray(overlay_frame(annotation)).save(folder / "overlay.jpg", quality=92, subsampling=0)
    write_report([annotation], folder / "report.html", videos=[CLIP])
    for name in ("timeline.png", "filmstrip.jpg", "overlay.jpg", "report.html"):
        print(f"{folder / name}: {(folder / name).stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
