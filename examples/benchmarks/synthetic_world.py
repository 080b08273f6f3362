"""Are synthetic videos quickly made, are their faces taken for faces, and are they hard enough to be of use?

    python examples/benchmarks/synthetic_world.py [--part speed|faces|flow] [-o synthetic_world.json]

speed: frames per second on one core, where the time goes, peak memory against length, what a second worker brings.
faces: how many frames the face networks accept, and whether the landmarks move as the muscles do.
flow: what thresholds on the magnitude of optical flow find; beside it, on the true intensity, what they could find.

Needs the face model (`--face-model` or FEDN_FACE_MODEL). Videos stay in `--folder`: after a change, give a new one.
"""

import argparse
import itertools
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from fedn_hf import __version__
from fedn_hf.face_fedn import FaceCropper
from fedn_hf.face_finder_fedn import FaceFinder, Roi
from fedn_hf.metrics import Expressions, Videos, concatenate, select, spotting
from fedn_hf.synthetic import scene as drawing
from fedn_hf.synthetic.appearance import Canvas
from fedn_hf.synthetic.behaviour import MACRO
from fedn_hf.synthetic.face_model import FaceModel
from fedn_hf.synthetic.facs import COLUMN
from fedn_hf.synthetic.render import Order, render, video_name
from fedn_hf.synthetic.surroundings import Surroundings
from fedn_hf.video_io_fedn import VideoReader

SIZE, FPS = 160, 30.0
EVERY = 15  # frames between two that are searched afresh for faces
# Subjects, seconds of a video, statistics of its expressions: SAMM-LV has the most of them.
PARTS = {"speed": (3, 10.0, "casme_2"), "faces": (40, 20.0, "samm_lv"), "flow": (20, 60.0, "casme_2")}


def speed(order: Order, face_model: Path | None, folder: Path) -> dict:
    canvas = Canvas(FaceModel.load(face_model))
    rates, stages = {}, Counter()
    for subject, lights in itertools.product(range(order.subjects), (1, 2, 3)):
        scene = order.scene(canvas, subject, 0)
        rooms = (Surroundings.draw((subject, trial), SIZE) for trial in itertools.count())
        scene.surroundings = next(room for room in rooms if len(room.lights) == lights)
        scene.picture(0)
        # Time of the processor: on a busy machine the clock on the wall measures the others.
        began = time.process_time()
        for frame in range(scene.script.num_frames):
            scene.picture(frame)
        rates.setdefault(f"{lights} lights", []).append(scene.script.num_frames / (time.process_time() - began))
        stages.update(_stages(scene))
    short, long = (_render_afresh(face_model, 1, seconds, 1)[1] for seconds in (10, 60))
    one, two = (_render_afresh(face_model, 4, 10, workers)[0] for workers in (1, 2))
    return {
        "load of the machine": os.getloadavg()[0],
        "frames per second of one core": rates,
        "share of time": {stage: spent / stages.total() for stage, spent in stages.items()},
        "peak memory in MB": {"10 s": short, "60 s": long, "difference": long - short},
        "seconds for 4 videos": {"1 worker": one, "2 workers": two, "ratio": one / two},
    }


def _stages(scene: drawing.Scene, frames: int = 60) -> dict[str, float]:
    """Seconds of the processor that each stage takes in some frames."""
    places = [(drawing, name) for name in ("blend", "vertex_normals", "pose", "project", "visibility", "shade")]
    places += [(drawing, "over_background"), (drawing.Camera, "develop")]
    plain = [getattr(*place) for place in places]
    spent = {name: 0.0 for _, name in places}

    def timed(name: str, function, *args):
        began = time.process_time()
        result = function(*args)
        spent[name] += time.process_time() - began
        return result

    for (where, name), function in zip(places, plain, strict=True):
        setattr(where, name, lambda *args, name=name, function=function: timed(name, function, *args))
    began = time.process_time()
    for frame in range(frames):
        scene.picture(frame)
    rest = time.process_time() - began - sum(spent.values())
    for (where, name), function in zip(places, plain, strict=True):
        setattr(where, name, function)
    return spent | {"rest": rest}


def _render_afresh(face_model: Path | None, subjects: int, seconds: float, workers: int) -> tuple[float, float]:
    """Seconds and peak resident memory in MB of a fresh process that makes a video of each subject; on Linux."""
    program = (
        "import sys, time; from fedn_hf.synthetic.render import Order, render; began = time.perf_counter()\n"
        f"order = Order({subjects}, 1, {seconds}, {SIZE}, fps={FPS})\n"
        f"render(order, sys.argv[1], face_model=sys.argv[2] or None, workers={workers})\n"
        "status = dict(line.split(':', 1) for line in open('/proc/self/status'))\n"
        # ru_maxrss would count the parent's memory, too.
        "print(time.perf_counter() - began, int(status['VmHWM'].split()[0]) / 1024)"
    )
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", program, folder, str(face_model or "")]
        return tuple(map(float, subprocess.run(command, check=True, capture_output=True).stdout.split()))


def faces(order: Order, face_model: Path | None, folder: Path) -> dict:
    finder, cropper = FaceFinder(), FaceCropper()
    accepted, curves = {"followed": [], "found afresh": []}, {}
    for subject, path, truth in _videos(order, face_model, folder):
        hand = np.isfinite(truth["occluder_cm"][:, 0])
        batches = list(cropper(VideoReader(path)))
        mask, landmarks = (np.concatenate([getattr(each, key) for each in batches]) for key in ("mask", "landmarks"))
        # Without a memory of the frames before; what is found beside the head does not count.
        frames = torch.cat([batch.frames for batch in VideoReader(path)])[::EVERY]
        found = [
            any(face.holds(Roi(*place, 1.0, 0.0)) for face in finder.find(frame))
            for frame, place in zip(frames, truth["head_px"][::EVERY], strict=True)
        ]
        accepted["followed"].append((mask, hand))
        accepted["found afresh"].append((np.array(found), hand[::EVERY]))
        for event in truth["facts"]["expressions"]:
            _add_curves(curves, subject, event, truth["action_units"], landmarks, mask & ~hand)
    correlation = {measure: _correlation(events) for measure, events in curves.items()}
    return {way: _shares(videos) for way, videos in accepted.items()} | {"correlation": correlation}


def _videos(order: Order, face_model: Path | None, folder: Path) -> Iterator[tuple[int, Path, dict]]:
    """Make the videos if they are not there; (subject, file, truth) of each."""
    from safetensors.numpy import load_file

    render(order, folder, face_model=face_model)
    for subject in range(order.subjects):
        name = video_name(subject, 0)
        arrays = load_file(folder / "truth" / f"{name}.safetensors")
        truth = {stream: values.astype(np.float32) for stream, values in arrays.items()}
        truth["facts"] = json.loads((folder / "truth" / f"{name}.json").read_text())
        camera, shift = truth["facts"]["camera"], truth["head_shift_cm"]
        scale = camera["focal_px"] / (camera["distance_cm"] - shift[:, 2:])
        truth["head_px"] = np.array(camera["centre"]) + scale * shift[:, :2] * (1, -1)
        yield subject, folder / order.split_of(subject) / f"s{subject:03}" / f"{name}.mp4", truth


def _shares(videos: list[tuple[np.ndarray, np.ndarray]]) -> dict:
    """Of (accepted, a hand is before the face) of the frames of each video."""
    accepted, hand = (np.concatenate([video[i] for video in videos]) for i in (0, 1))
    return {
        "frames": len(accepted),
        "share without a hand": float(accepted[~hand].mean()),
        "frames with a hand": int(hand.sum()),
        "accepted of them": int(accepted[hand].sum()),
        "missed in videos": [subject for subject, (good, covered) in enumerate(videos) if not (good | covered).all()],
    }


# FaceMesh: corners of the eyes, the outer ones first, corners of the mouth, upper and lower edges of the brows.
_EYES, _MOUTH = [33, 263, 133, 362], [61, 291]
_BROWS = [70, 63, 105, 66, 107, 46, 53, 52, 65, 55, 300, 293, 334, 296, 336, 276, 283, 282, 295, 285]


def geometry(landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Smile (width of the mouth and height of its corners) and height of the brows, over the eyes' distance: (T,)."""
    eyes = landmarks[:, _EYES[1]] - landmarks[:, _EYES[0]]
    distance = np.linalg.norm(eyes, axis=1)
    up = np.stack([eyes[:, 1], -eyes[:, 0]], 1) / distance[:, None] ** 2
    middle = landmarks[:, _EYES].mean(1)
    mouth, brows = (((landmarks[:, points].mean(1) - middle) * up).sum(1) for points in (_MOUTH, _BROWS))
    return np.linalg.norm(landmarks[:, _MOUTH[1]] - landmarks[:, _MOUTH[0]], axis=1) / distance + mouth, brows


def _add_curves(curves: dict, subject: int, event: dict, units: np.ndarray, landmarks: np.ndarray, good) -> None:
    """Measure and truth from a second before an event that shows the action units to a second after it."""
    first = max(0, event["onset_frame"] - int(FPS))
    where = first + np.flatnonzero(good[first : event["offset_frame"] + int(FPS) + 1])
    if event["type"] != MACRO or len(where) < FPS:
        return
    peaks = {int(unit): max(sides) for unit, sides in event["action_units"].items()}
    smile, brows = geometry(landmarks[where])
    # Unit 4 pulls the brows down, so what is seen of 1 and 2 beside it is less than the truth.
    calm = np.ptp(units[where, COLUMN[4]].mean(1)) < 0.15
    for measure, values, wanted in (("AU12", smile, (12,)), ("AU1+2", brows, (1, 2)), ("AU1+2, no 4", brows, (1, 2))):
        if max(peaks.get(unit, 0) for unit in wanted) > 0.3 and (calm or measure != "AU1+2, no 4"):
            true = units[where][:, [COLUMN[unit] for unit in wanted]].mean((1, 2))
            curves.setdefault(measure, []).append((subject, event["onset_frame"], values, true))


def _correlation(events: list[tuple[int, int, np.ndarray, np.ndarray]]) -> dict:
    """Of measures and truth: over all frames, both centred within each video, and of each event."""
    centred = []
    for _, group in itertools.groupby(events, key=lambda event: event[0]):
        pair = np.concatenate([event[2:] for event in group], 1)
        centred.append(pair - pair.mean(1, keepdims=True))
    each = {f"s{subject:03} {onset}": np.corrcoef(*pair)[0, 1].item() for subject, onset, *pair in events}
    return {
        "events": len(events),
        "pooled r": np.corrcoef(np.concatenate(centred, 1))[0, 1].item(),
        "median r of events": float(np.median(list(each.values()))),
        "lowest": dict(sorted(each.items(), key=lambda one: one[1])[:5]),
    }


# --- flow ------------------------------------------------------------------------------------------------------------

STEPS = (4, 12)  # frames between the two that are compared
# Rows and columns of an aligned crop of 112 pixels.
REGIONS = {"brows": np.s_[20:34, 27:85], "mouth": np.s_[64:90, 32:79], "nose": np.s_[45:62, 50:62]}
# Of a spotter: smoothing in s, threshold, longest gap that is closed in s, part of half a step taken off both ends.
SETTINGS = list(itertools.product((0.05, 0.15, 0.3), np.geomspace(0.15, 3, 10), (0.1, 0.4, 1.0), (0.0, 1.0)))
SHORTEST_S, MICRO_S, LONGEST_S = 0.2, 0.5, 5.0


def flow(order: Order, face_model: Path | None, folder: Path) -> dict:
    compare = {"optical flow": magnitudes, "frame difference": lambda a, b: (a - b).abs().mean((1, 2))[None]}
    signals: dict[str, dict[str, dict]] = {title: {} for title in (*compare, "the truth, as a check")}
    events, names = [], [video_name(subject, 0) for subject in range(order.subjects)]
    for subject, path, truth in _videos(order, face_model, folder):
        crops = torch.cat([batch.crops.float().mean(-1) for batch in FaceCropper(112)(VideoReader(path))])
        for title, function in compare.items():
            signals[title][names[subject]] = {
                (step, i): curve for step in STEPS for i, curve in enumerate(along(crops, step, function))
            }
        signals["the truth, as a check"][names[subject]] = {(0, 0): truth["intensity"]}
        told = truth["facts"]["expressions"]
        events += [(names[subject], event["onset_frame"], event["offset_frame"], event["type"]) for event in told]
    video, onset, offset, kind = zip(*events, strict=True)
    marked = Expressions(video, onset, offset, subject=video, type=kind, fps=[FPS] * len(events))
    videos = Videos(names, names, [round(order.seconds * FPS)] * len(names), FPS)
    return {title: _tune(found, marked, videos) for title, found in signals.items()}


def along(crops: torch.Tensor, step: int, compare) -> np.ndarray:
    """(signals, T): at every frame what the two frames half a step away have between them."""
    middle = torch.arange(len(crops))
    before, after = (middle - step // 2).clamp(min=0), (middle + step // 2).clamp(max=len(crops) - 1)
    pairs = zip(before.split(64), after.split(64), strict=True)
    return torch.cat([compare(crops[a], crops[b]) for a, b in pairs], 1).numpy()


def magnitudes(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Mean flow (3, N) in the brows, in the mouth, and the larger of the two, without the movement of the nose."""
    field = lucas_kanade(first, second)
    parts = {name: field[:, :, rows, columns] for name, (rows, columns) in REGIONS.items()}
    head = parts.pop("nose").mean((2, 3), keepdim=True)
    brows, mouth = ((part - head).norm(dim=1).mean((1, 2)) for part in parts.values())
    return torch.stack([brows, mouth, torch.maximum(brows, mouth)])


def lucas_kanade(first: torch.Tensor, second: torch.Tensor, levels: int = 3, window: int = 9) -> torch.Tensor:
    """Dense flow (N, 2, H, W) in pixels between grey pictures (N, H, W), coarse to fine (IJCAI 1981)."""
    field = first.new_zeros(len(first), 2, 1, 1)
    for level in reversed(range(levels)):
        a, b = (F.avg_pool2d(picture[:, None], 2**level) for picture in (first, second))
        height, width = a.shape[2:]
        field = 2 * F.interpolate(field, (height, width), mode="bilinear")
        y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        place = torch.stack([(x + field[:, 0]) / width, (y + field[:, 1]) / height], -1) * 2 - 1
        warped = F.grid_sample(b, place, padding_mode="border", align_corners=False)
        gy, gx = torch.gradient((a + warped) / 2, dim=(2, 3))
        sums = torch.cat([gx * gx, gx * gy, gy * gy, gx * (a - warped), gy * (a - warped)], 1)
        for size in ((1, window), (window, 1)):  # over the window
            sums = F.avg_pool2d(sums, size, 1, [side // 2 for side in size], count_include_pad=False)
        xx, xy, yy, xt, yt = (sums + sums.new_tensor([4, 0, 4, 0, 0])[:, None, None]).split(1, 1)  # dull skin is still
        step = torch.cat([yy * xt - xy * yt, xx * yt - xy * xt], 1) / (xx * yy - xy * xy)
        field = field + step.clamp(-2, 2)
    return field


def spot(signal: np.ndarray, smoothing_s: float, level: float, gap_s: float, trim: int) -> list[tuple]:
    """(onset, offset, score) where a smoothed signal is so many times as far above its median as its upper tenth."""
    reach = int(3 * smoothing_s * FPS) + 1
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / (smoothing_s * FPS)) ** 2)
    smooth = np.convolve(np.pad(signal, reach, mode="edge"), weights / weights.sum(), "valid")
    middle, high = np.percentile(smooth, (50, 90))
    height = (smooth - middle) / max(high - middle, 1e-6)
    above = np.flatnonzero(height > level)
    found = []
    for run in np.split(above, np.flatnonzero(np.diff(above) > gap_s * FPS) + 1) if len(above) else []:
        onset, offset = int(run[0]) + trim, int(run[-1]) - trim
        if SHORTEST_S <= (offset - onset + 1) / FPS <= LONGEST_S:
            found.append((onset, offset, float(height[run].max())))
    return found


def _tune(signals: dict[str, dict], marked: Expressions, videos: Videos) -> dict:
    """Macro- and micro-expressions have settings of their own. Nested: chosen on the other subjects."""
    rows, columns = [], ("video", "subject", "onset", "offset", "score", "epoch")
    for epoch, (one, setting) in enumerate(itertools.product(next(iter(signals.values())), SETTINGS)):
        for name, found in signals.items():
            spotted = spot(found[one], *setting[:3], round(setting[3] * one[0] / 2))
            rows += [(name, name, *interval, epoch) for interval in spotted]
    found = Expressions(**dict(zip(columns, zip(*rows, strict=True), strict=True)), fps=[FPS] * len(rows))
    raw = found.with_types_by_duration(MICRO_S)
    reports = {
        kind: select(raw[raw.type == kind], marked[marked.type == kind], videos=videos, top_ks=(1, 2, 4, 8, None))
        for kind in ("macro", "micro")
    }
    result = {}
    for way in ("pooled_oracle", "nested"):
        tables = {kind: report.get(way).predictions for kind, report in reports.items()}
        tables |= {"overall": concatenate(list(tables.values())), "overall, macro alone": tables["macro"]}
        wanted = {kind: marked[marked.type == kind] if kind in reports else marked for kind in tables}
        scored = {kind: spotting(tables[kind], wanted[kind], videos=videos) for kind in tables}
        result[way] = {kind: one.overall.to_dict() for kind, one in scored.items()}
    return result


def table(name: str, result: dict | list | float, depth: int = 0) -> list[str]:
    """Lines of nested numbers."""
    title = "  " * depth + str(name)
    if not isinstance(result, dict):
        return [f"{title:<40}" + ", ".join(f"{number:.5g}" for number in np.atleast_1d(result))]
    if "true_positives" in result:
        counts = "{true_positives} of {events} events, {predictions} found".format(**result)
        return [f"{title:<40}F1 {result['f1']:.3f}, {counts}"]
    return [title] + [line for key in result for line in table(key, result[key], depth + 1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--face-model", type=Path)
    parser.add_argument("--part", choices=PARTS, action="append", help="all by default")
    parser.add_argument("--subjects", type=int)
    parser.add_argument("--seconds", type=float, help="length of a video")
    parser.add_argument("--statistics", help="corpus whose expressions are imitated")
    parser.add_argument("--folder", type=Path, default=Path("outputs/synthetic_world"), help="where the videos go")
    parser.add_argument("-o", "--output", type=Path, default=Path("outputs/synthetic_world.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    result = {"version": __version__, "python": platform.python_version(), "torch": torch.__version__}
    for part in arguments.part or PARTS:
        subjects, seconds, statistics = PARTS[part]
        subjects, seconds = arguments.subjects or subjects, arguments.seconds or seconds
        order = Order(subjects, 1, seconds, SIZE, fps=FPS, statistics=arguments.statistics or statistics)
        folder = arguments.folder / f"{part}_{order.statistics}"
        found = {"speed": speed, "faces": faces, "flow": flow}[part](order, arguments.face_model, folder)
        result[part] = {"order": vars(order), **found}
        print("\n".join(table(f"{part}: {subjects} x {seconds:g} s, {order.statistics}", found)), flush=True)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
