"""Make a set of synthetic videos: files that `load_dataset` reads, and beside them everything that is true of each.

    synthetic/
      README.md                              the card: what it is, counts, statistics beside the corpora's, uses
      train/metadata.jsonl                   one row per video in the schema of the corpora
      train/s000/s000_0.mp4                  (validation/ and test/ likewise: no subject is in two of them)
      truth/s000_0.safetensors               of every frame: action units, intensity, head, gaze, light
      truth/s000_0.json                      the person, the camera, the expressions, and all that is none
      contact_sheets/s000.png                what happens when, to be looked at

A video depends on the order and on its place in it, and on nothing else: not on the number of workers, nor on whether
the work was stopped and taken up again.
"""

import dataclasses
import json
import logging
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np

from ..files_fedn import replacing
from ..media_fedn import FednError
from .appearance import Canvas, Subject
from .behaviour import Expression, Script, write_script
from .camera import Camera
from .card import make_card
from .contact_sheet import draw_contact_sheet
from .face_model import FaceModel
from .scene import Scene
from .surroundings import Surroundings

logger = logging.getLogger(__name__)

# Frame rates of cameras, and how many of them have each.
_RATES = {25.0: 0.2, 30.0: 0.5, 50.0: 0.1, 60.0: 0.17, 200.0: 0.03}
_STREAMS = (
    *("action_units", "intensity", "head_rotation_deg", "head_shift_cm"),
    *("gaze_deg", "light_gain", "lamp_deg", "occluder_cm"),
)
_HIDDEN = ".synth"


@dataclass(frozen=True)
class Order:
    """
    What is to be made.

    subjects, videos_per_subject, seconds: how much.
    size: side of the square pictures in pixels, even.
    seed: of everything.
    fps: of all videos; None draws one for each camera, from 25 to 200.
    statistics: the corpus whose statistics the expressions follow, see `behaviour.write_script`.
    restless: how many of the subjects, the last ones, look far around, under lamps that move and are switched.

    Example:
        >>> order = Order(subjects=10, videos_per_subject=2, seconds=30, size=160)
        >>> [order.split_of(subject) for subject in range(10)].count("train")
        6
    """

    subjects: int
    videos_per_subject: int
    seconds: float
    size: int = 160
    seed: int = 0
    fps: float | None = None
    statistics: str = "casme_2"
    restless: int = 0

    def __post_init__(self):
        for name in ("subjects", "videos_per_subject"):
            if getattr(self, name) < 1:
                raise FednError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.size < 64 or self.size % 2:
            raise FednError(f"size must be an even number of pixels from 64 on, got {self.size}")
        if self.seed < 0:
            raise FednError(f"seed must not be negative, got {self.seed}")
        if not 0 <= self.restless <= self.subjects:
            raise FednError(f"restless must lie between 0 and the {self.subjects} subjects, got {self.restless}")
        if self.fps is not None and not 1 <= self.fps <= 1000:
            raise FednError(f"fps must lie between 1 and 1000, got {self.fps}")
        write_script(0, self.seconds, 5.0, self.statistics)  # complains about the length and the statistics

    def names(self) -> list[tuple[int, int]]:
        """(subject, video) of every video."""
        return [(subject, video) for subject in range(self.subjects) for video in range(self.videos_per_subject)]

    def split_of(self, subject: int) -> str:
        """Of every five subjects three are for training, one for validation and one for tests."""
        return ("train", "validation", "train", "test", "train")[subject % 5]

    def plan(self, subject: int, video: int) -> tuple[Camera, Script]:
        """Camera and script of a video."""
        seed = (self.seed, subject, video)
        rng = np.random.default_rng((*seed, 3))
        fps = self.fps or float(rng.choice(list(_RATES), p=list(_RATES.values())))
        place = subject * self.videos_per_subject + video  # counts up, which spreads the events evenly over the set
        script = write_script(
            (self.seed, place), self.seconds, fps, self.statistics, person=(self.seed, subject),
            restless=subject >= self.subjects - self.restless,
        )  # fmt: skip
        return Camera.draw((*seed, 1), self.size, fps), script

    def scene(self, canvas: Canvas, subject: int, video: int) -> Scene:
        """A video, ready to be drawn."""
        camera, script = self.plan(subject, video)
        person = _person(canvas, (self.seed, subject, 4))
        return Scene(canvas, person, Surroundings.draw((self.seed, subject, video, 2), self.size), camera, script)


@lru_cache(maxsize=2)
def _person(canvas: Canvas, seed: tuple[int, ...]) -> Subject:
    return Subject.draw(canvas, seed)


def video_name(subject: int, video: int) -> str:
    """The name of a file without suffix: subject 3, video 0 is "s003_0"."""
    return f"s{subject:03}_{video}"


def render(
    order: Order,
    output: str | os.PathLike,
    *,
    face_model: str | os.PathLike | None = None,
    workers: int = 1,
    progress: Callable[[int, int, str], None] | None = None,
) -> None:
    """
    Make the videos of an order. What was stopped, however hard, goes on where it was when it is called again.

    Args:
        order: what to make.
        output: a new folder, or that of the same order.
        face_model: path of the model, see `FaceModel.load`.
        workers: processes.
        progress: called with (done, total, name) after every video.

    Raises:
        `FednError`: no face model, or a folder with something else in it.
    """
    output = Path(output)
    FaceModel.load(face_model)  # a missing model is an error now
    from filelock import FileLock, Timeout

    _begin(order, output)
    try:
        with FileLock(output / _HIDDEN / "lock", timeout=0):
            for done, (subject, video) in enumerate(_make_all(order, output, face_model, workers), start=1):
                if progress:
                    progress(done, len(order.names()), video_name(subject, video))
            _finish(order, output)
    except Timeout:
        raise FednError(f"{output}: another process is writing there; wait for its end") from None


# ---------------------------------------------------------------------------------------------------------------------


def _begin(order: Order, output: Path) -> None:
    settings = output / _HIDDEN / "order.json"
    content = json.dumps(dataclasses.asdict(order), indent=1)
    if settings.exists():
        if settings.read_text() != content:
            raise FednError(f"{output}: was begun with other settings ({settings.read_text()}); choose another folder")
        return
    if output.exists() and any(path.name != _HIDDEN for path in output.iterdir()):
        raise FednError(f"{output}: is not empty, and no synthetic set lies there; choose another folder")
    settings.parent.mkdir(parents=True, exist_ok=True)
    _write_text(settings, content)


def _make_all(order: Order, output: Path, face_model, workers: int) -> Iterator[tuple[int, int]]:
    """Names of videos as they are done; finished ones first."""
    left = []
    for name in order.names():
        if _record(output, name).exists():
            yield name
        else:
            left.append(name)
    if workers <= 1 or len(left) < 2:
        for name in left:
            _make(order, output, face_model, name)
            yield name
        return
    # Threads of numba and libraries do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(left)), mp_context=context) as pool:
        waiting = {pool.submit(_make, order, output, face_model, name): name for name in left}
        try:
            while waiting:
                for job in wait(waiting, return_when=FIRST_COMPLETED).done:
                    name = waiting.pop(job)
                    job.result()
                    yield name
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@lru_cache(maxsize=1)
def _canvas(face_model: str | os.PathLike | None) -> Canvas:
    return Canvas(FaceModel.load(face_model))


def _record(output: Path, name: tuple[int, int]) -> Path:
    return output / _HIDDEN / f"{video_name(*name)}.json"


def _make(order: Order, output: Path, face_model, name: tuple[int, int]) -> None:
    """One video with its truth; the record comes last, when all else is there."""
    scene = order.scene(_canvas(face_model), *name)
    title, subject = video_name(*name), f"s{name[0]:03}"
    file = Path(order.split_of(name[0]), subject, f"{title}.mp4")
    for folder in ((output / file).parent, output / "truth"):
        folder.mkdir(parents=True, exist_ok=True)
    pictures = (scene.picture(frame) for frame in range(scene.script.num_frames))
    with replacing(output / file) as unfinished:
        encode(pictures, unfinished, order.size, scene.camera.fps, scene.camera.crf)
    _write_truth(scene, output / "truth" / title)
    row = {
        "file_name": f"{subject}/{title}.mp4",
        "video_id": title,
        "subject_id": subject,
        "fps": scene.camera.fps,
        "num_frames": scene.script.num_frames,
        "events": [_event(expression) for expression in scene.script.expressions],
    }
    _write_text(_record(output, name), json.dumps(row))


def _event(expression: Expression) -> dict[str, Any]:
    """A row of the corpora's schema; nobody reports what a synthetic person feels."""
    units = "+".join(str(unit) for unit in sorted(expression.action_units))
    frames = {what: getattr(expression, f"{what}_frame") for what in ("onset", "apex", "offset")}
    return {
        **frames,
        "type": expression.type,
        "emotion": expression.emotion,
        "self_report": None,
        "action_units": units,
    }


def _write_truth(scene: Scene, path: Path) -> None:
    from safetensors.numpy import save

    arrays = {name: np.ascontiguousarray(getattr(scene.script, name), np.float16) for name in _STREAMS}
    arrays["intensity"] = scene.script.intensity.astype(np.float32)
    with replacing(path.with_suffix(".safetensors")) as unfinished:
        unfinished.write_bytes(save(arrays))
    facts = {
        "person": scene.subject.traits,
        "camera": dataclasses.asdict(scene.camera),
        "background": scene.surroundings.kind,
        "lights": len(scene.surroundings.lights),
        "expressions": [dataclasses.asdict(expression) for expression in scene.script.expressions],
        "distractors": [dataclasses.asdict(distractor) for distractor in scene.script.distractors],
    }
    _write_text(path.with_suffix(".json"), json.dumps(facts, indent=1))


def encode(pictures: Iterator[np.ndarray], path: Path, size: int, fps: float, crf: int) -> None:
    """Square pictures to H.264 in MP4, the same bytes for the same pictures."""
    rate = Fraction(fps).limit_denominator(1001)
    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        # Without this the fastest code of x264 chooses differently from one run to the next.
        options = {"crf": str(crf), "preset": "veryfast", "x264-params": "cpu-independent=1"}
        stream = container.add_stream("libx264", rate=rate, options=options)
        stream.height = stream.width = size
        stream.pix_fmt, stream.codec_context.thread_count = "yuv420p", 1
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts, frame.time_base = number, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _finish(order: Order, output: Path) -> None:
    rows: dict[str, list[dict[str, Any]]] = {}
    for name in order.names():
        rows.setdefault(order.split_of(name[0]), []).append(json.loads(_record(output, name).read_text()))
    empty = [split for split, table in rows.items() if not any(row["events"] for row in table)]
    if empty and len(empty) < len(rows):
        logger.warning(
            "no expressions in %s: load_dataset cannot tell what the column events holds there; "
            "dataset_scripts.synthetic can, or make more or longer videos", ", ".join(empty),
        )  # fmt: skip
    for split, table in rows.items():
        _write_text(output / split / "metadata.jsonl", "".join(json.dumps(row) + "\n" for row in table))
    for subject in range(order.subjects):
        sheet = output / "contact_sheets" / f"s{subject:03}.png"
        if not sheet.exists():
            sheet.parent.mkdir(exist_ok=True)
            titles = [video_name(subject, video) for video in range(order.videos_per_subject)]
            videos = {title: output / order.split_of(subject) / f"s{subject:03}" / f"{title}.mp4" for title in titles}
            truths = {title: json.loads((output / "truth" / f"{title}.json").read_text()) for title in titles}
            with replacing(sheet) as unfinished:
                draw_contact_sheet(videos, truths, unfinished)
    _write_text(output / "README.md", make_card(dataclasses.asdict(order), rows))


def _write_text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished:
        unfinished.write_text(content, "utf-8")


__all__ = ["Order", "encode", "render", "video_name"]
