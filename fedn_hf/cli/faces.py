"""When a face can be seen in a video, and how well: what there is to say without a trained detector."""

import numpy as np
from rich.console import RenderableType

from ..face_fedn import FaceCropper
from ..video_io_fedn import MediaError, VideoReader
from .terminal import clock, describe_damage, describe_video, no_face, nothing_read, table

NO_DETECTOR = "No trained detector is part of this version yet, so no expressions are reported."


def report_faces(
    source: str, hook, faces: str | int, start_s: float | None, end_s: float | None, fps: float | None, allow_url: bool
) -> list[RenderableType]:
    """What is to be printed about one video."""
    reader = VideoReader(source, native_fps=fps, start_s=start_s, end_s=end_s, allow_url=allow_url)
    last_s = min(reader.end_s, reader.info.duration_s or np.inf)
    total = max(0, round((last_s - reader.start_s) * 100)) if np.isfinite(last_s) else None
    rows, frames = {}, 0
    for batch in FaceCropper(faces=faces)(reader):
        for face_id in sorted(set(batch.face_id[batch.mask].tolist())):
            here = batch.face_id == face_id
            row = rows.setdefault(face_id, {"from": batch.time_s[here][0], "sums": 0.0})
            row["to"] = batch.time_s[here][-1]
            numbers = (here, batch.face_size_px, batch.confidence, batch.fit)
            row["sums"] += np.array([values[here].sum(dtype=float) for values in numbers])
        frames = max(frames, int(batch.frame[-1]) + 1)
        hook("faces", None, total=total, completed=round((batch.time_s[-1] - reader.start_s) * 100))
    if not frames:
        raise MediaError(source, nothing_read(reader.info.duration_s))
    said: list[RenderableType] = [describe_video(vars(reader.info))]
    if rows:
        said.append(_table(rows))
    seen = sum(int(row["sums"][0]) for row in rows.values())
    said.append(
        f"{seen} face crops from {frames} frames." if rows else f"{no_face(faces)} was found in {frames} frames."
    )
    if reader.truncated_at_s is not None:
        said.append(describe_damage(reader.truncated_at_s))
    return [*said, NO_DETECTOR]


def _table(rows: dict[int, dict]) -> RenderableType:
    faces = table(">face", ">from", ">to", ">frames", ">height px", ">confidence", ">fit")
    for face_id, row in rows.items():
        count, size, confidence, fit = row["sums"] / [1, *[row["sums"][0]] * 3]
        means = (f"{count:.0f}", f"{size:.0f}", f"{confidence:.2f}", f"{fit:.2f}")
        faces.add_row(str(face_id), clock(row["from"]), clock(row["to"]), *means)
    return faces


__all__ = ["NO_DETECTOR", "report_faces"]
