"""Raw detections: everything that a network finds in sequences, down to a low score, as rows and as Parquet."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..data.sequences import FednSequence
from ..files_fedn import replacing
from ..modeling_fedn import FednForFacialExpressionDetection
from ..postprocessing_fedn import find_intervals, to_inclusive
from ..video_processing_fedn import FednVideoProcessor
from .settings import DetectionSettings, TrainingError

_FRAMES = 256  # of crops that are held as floating-point pixels at a time


def raw_detections(
    model: FednForFacialExpressionDetection,
    sequences: Iterable[FednSequence],
    settings: DetectionSettings,
    video_processor: FednVideoProcessor | None = None,
    recogniser: FednForFacialExpressionDetection | None = None,
    all_types: bool = True,
) -> list[dict[str, Any]]:
    """
    Everything that a network finds down to a low score, in native inclusive frames. Sequences of crops need the
    processor; with a recogniser, emotions are what that says of the intervals. With `all_types` much is found twice,
    as either type, for those who choose a threshold per type afterwards.

    Returns:
        Dictionaries with `subject`, `video`, `onset`, `apex`, `offset`, `type`, `emotion` (`None` for a network that
        does not recognise) and `score`.
    """
    config, rows = model.config, []
    for sequence in sequences:
        inputs = frame_inputs(model, sequence, video_processor)
        found = find_intervals(
            model.detect_from_features(**inputs, min_score=settings.min_score),
            recognition=None if recogniser is None else recogniser.detect_from_features(**inputs),
            fps=config.frame_rate,
            score_threshold=settings.min_score,
            nms=settings.nms,
            nms_iou=settings.nms_iou,
            nms_sigma=settings.nms_sigma,
            all_types=all_types,
            micro_max_s=float("inf") if settings.micro_max_s is None else settings.micro_max_s,
        )
        most = max(1, round(settings.max_per_minute * len(sequence) / config.frame_rate / 60))
        ranks = found.score.argsort(descending=True, stable=True)
        kept = sorted(row for kind in (0, 1) for row in ranks[found.type[ranks] == kind][:most].tolist())
        last = len(sequence) - 1
        onset, offset = (frames.clamp(0, last).tolist() for frames in to_inclusive(found.frames))
        apex = found.apex_frames.long().clamp(0, last).tolist()
        native = sequence.native_frame.tolist()
        for place in kept:
            rows.append(
                {
                    "subject": sequence.subject_id,
                    "video": sequence.video_id,
                    "onset": native[onset[place]],
                    "apex": native[min(max(apex[place], onset[place]), offset[place])],
                    "offset": native[offset[place]],
                    "type": config.expression_types[int(found.type[place])],
                    "emotion": None if found.label is None else config.id2label[int(found.label[place])],
                    "score": float(found.score[place]),
                }
            )
    return rows


def frame_inputs(
    model: FednForFacialExpressionDetection, sequence: FednSequence, video_processor: FednVideoProcessor | None = None
) -> dict[str, torch.Tensor]:
    """What `detect_from_features` takes of a sequence; crops pass the backbone first, and need the processor."""
    inputs = {n: v for n, v in sequence.inputs.items() if n in ("frame_features", "landmarks", "frame_mask")}
    if "crops" in sequence.inputs:
        inputs["frame_features"] = _encode(model, sequence.inputs["crops"], video_processor)
    return inputs


def marked_events(sequences: Iterable[FednSequence], expression_types: Sequence[str]) -> list[dict[str, Any]]:
    """What is marked in sequences, as rows like those of `raw_detections`, without emotions and scores."""
    rows = []
    for sequence in sequences:
        last, native = len(sequence) - 1, sequence.native_frame.tolist()
        kinds = sequence.labels["type_labels"].tolist()
        for kind, (start, end) in zip(kinds, sequence.labels["intervals"].long().tolist(), strict=True):
            names = {"subject": sequence.subject_id, "video": sequence.video_id, "type": expression_types[kind]}
            onset, offset = (min(max(frame, 0), last) for frame in (start, end - 1))
            rows.append({**names, "onset": native[onset], "offset": native[offset]})
    return rows


@torch.no_grad()
def _encode(
    model: FednForFacialExpressionDetection, crops: torch.Tensor, video_processor: FednVideoProcessor
) -> torch.Tensor:
    """Crops (T, S, S, 3) to frame features (T, F), a little at a time."""
    pixels = (video_processor(part, return_tensors="pt")["pixel_values"][0] for part in crops.split(_FRAMES))
    return torch.cat([model.encode_frames(part.to(model.device)).cpu() for part in pixels])


def write_detections(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """A Parquet file, whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = dict.fromkeys(("subject", "video"), pa.string()) | dict.fromkeys(("onset", "apex", "offset"), pa.int64())
    kinds |= {"type": pa.string(), "emotion": pa.string(), "score": pa.float64()}
    kinds |= {"epoch": pa.int64(), "fps": pa.float64()}
    with replacing(path) as unfinished:
        pq.write_table(pa.Table.from_pylist(list(rows), schema=pa.schema(list(kinds.items()))), unfinished)


def read_detections(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of raw detections."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise TrainingError(
            f"{path}: raw detections could not be read ({error}); remove it to make it again"
        ) from error


__all__ = ["frame_inputs", "marked_events", "raw_detections", "read_detections", "write_detections"]
