"""One annotated video in the network's time: frames at `config.frame_rate`, and the events of its row mapped to them.

Annotations are native frame numbers, 0-based and inclusive. The network sees ticks of its own rate, and the table
`native_frame` says which native frame each tick shows, exactly as `VideoReader` resamples. Mapping goes by that table
alone, never by a nominal rate, so it is exact for variable rates, for gaps and for parts of a video: a network frame
lies in an event if and only if the native frame it shows does.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..configuration_fedn import FednConfig

# What a frame may be given as: features of a backbone, or face crops.
FRAME_INPUTS = ("frame_features", "crops")
UNKNOWN_LABEL = -100


def native_frames(time_s: np.ndarray, frame_rate: float) -> np.ndarray:
    """
    Which native frame each network frame shows: of tick k, `time_s[0] + k / frame_rate`, the one nearest in time, and
    of two the earlier. The last native frame is taken to last as long as the one before it.

    Args:
        time_s (`np.ndarray` of shape `(N,)`): Presentation times of the native frames in seconds, never falling; of a
            constant rate, `np.arange(N) / fps`.
        frame_rate (`float`): Of the network, in frames per second.

    Returns:
        `np.ndarray` of int64 and shape `(T,)`, never falling: what `VideoReader(..., fps=frame_rate)` gives.

    Raises:
        `ValueError`: for no times, or times that fall.

    Example:

    ```python
    >>> import numpy as np
    >>> from fedn_hf.data.sequences import native_frames

    >>> native_frames(np.arange(10) / 25, 30).tolist()
    [0, 1, 2, 2, 3, 4, 5, 6, 7, 7, 8, 9]
    >>> native_frames(np.arange(20) / 200, 30).tolist()
    [0, 7, 13]
    ```
    """
    time_s = np.asarray(time_s, np.float64)
    if time_s.ndim != 1 or not len(time_s) or not np.isfinite(time_s).all() or (np.diff(time_s) < 0).any():
        raise ValueError(f"time_s must be one or more finite times in seconds that never fall, got {time_s}")
    duration_s = time_s[-1] - time_s[-2] if len(time_s) > 1 else 1 / frame_rate
    # The allowances for rounded timestamps are the reader's.
    end_s = time_s[-1] + max(duration_s - 0.25 / frame_rate, 1e-3 / frame_rate)
    ticks_s = time_s[0] + np.arange(np.ceil((end_s - time_s[0]) * frame_rate) + 1) / frame_rate
    middles_s = (time_s[:-1] + time_s[1:]) / 2 + 1e-3 / frame_rate
    return np.searchsorted(middles_s, ticks_s[ticks_s < end_s], side="left").astype(np.int64)


def named_rows(dataset: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """
    Rows of a corpus with names where its events have class numbers: a network numbers types and emotions in its own
    way, so [`FednSequence`] takes names.

    Args:
        dataset (`datasets.Dataset`, `datasets.IterableDataset` or rows): Of a corpus builder, `load_features`, or
            `cast(load_dataset(...))`. Names stay as they are.

    Example:

    ```python
    >>> from datasets import ClassLabel, Dataset, Features, List
    >>> from fedn_hf.data.sequences import named_rows

    >>> features = Features({"events": List({"emotion": ClassLabel(names=["fear", "anger"])})})
    >>> dataset = Dataset.from_list([{"events": [{"emotion": 1}, {"emotion": None}]}], features=features)
    >>> list(named_rows(dataset))
    [{'events': [{'emotion': 'anger'}, {'emotion': None}]}]
    ```
    """
    features = getattr(dataset, "features", None)
    columns = features["events"].feature if features else {}
    classes = {column: kind for column, kind in columns.items() if hasattr(kind, "int2str")}
    for row in dataset:
        events = []
        for event in row["events"]:
            numbers = {column: event[column] for column in classes if event[column] is not None}
            events.append({**event, **{column: classes[column].int2str(n) for column, n in numbers.items()}})
        yield {**row, "events": events}


def map_events(
    events: Iterable[Mapping[str, Any]], native_frame: np.ndarray, config: FednConfig
) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]]:
    """
    Events of a corpus row as labels of the network.

    Args:
        events: As in the corpus schema: `onset`, `offset` (0-based inclusive native frames), `apex` (-1 or `None`
            where unknown), `type` (one of `config.expression_types`), `emotion` (one of `config.label2id`, or `None`).
        native_frame (`np.ndarray` of shape `(T,)`): The native frame that each network frame shows.
        config ([`FednConfig`]): Names of types and emotions.

    Returns:
        labels (`dict[str, torch.Tensor]`): `intervals` (n, 2), half-open in network frames; `apex` (n,), NaN where it
            is unknown or lies outside its event; `type_labels`, `class_labels` (n,), -100 where unknown. Events that
            reach out of the frames that were read keep their length, at the mean rate of those that were.
        lost (`list[dict]`): Events that no network frame shows: outside of what was read, or between two ticks.

    Raises:
        `ValueError`: for an offset before its onset, and for types and emotions that the network does not have.

    Example:

    ```python
    >>> import numpy as np
    >>> from fedn_hf import FednConfig
    >>> from fedn_hf.data.sequences import map_events, native_frames

    >>> table = native_frames(np.arange(2000) / 200, 30)
    >>> event = {"onset": 200, "apex": 250, "offset": 299, "type": "micro-expression", "emotion": "fear"}
    >>> labels, lost = map_events([event], table, FednConfig())
    >>> labels["intervals"].tolist(), labels["apex"].tolist(), len(lost)
    ([[30.0, 45.0]], [38.0], 0)
    ```
    """
    native = np.asarray(native_frame, np.int64)
    if native.ndim != 1 or not len(native) or (np.diff(native) < 0).any():
        raise ValueError(f"native_frame must hold one or more frame numbers that never fall, got {native}")
    frames_per_native = (len(native) - 1) / max(1, native[-1] - native[0])
    rows, lost = [], []
    for event in events:
        onset, offset = int(event["onset"]), int(event["offset"])
        if offset < onset:
            raise ValueError(
                f"an event must not end before it begins, got onset={onset}, offset={offset}; the corpus's rules for "
                "damaged rows are applied when it is read"
            )
        start = int(np.searchsorted(native, onset, side="left"))
        end = int(np.searchsorted(native, offset, side="right"))
        if start >= end:
            lost.append(dict(event))
            continue
        if onset < native[0]:
            start = -int((native[0] - onset) * frames_per_native)
        if offset > native[-1]:
            end = len(native) + int((offset - native[-1]) * frames_per_native)
        rows.append((start, end, _apex(event, native), *_numbers(event, config)))
    columns = np.array(rows, np.float64).reshape(-1, 5)
    labels = {
        "intervals": torch.from_numpy(columns[:, :2]).float(),  # (n, 2)
        "apex": torch.from_numpy(columns[:, 2]).float(),  # (n,)
        "type_labels": torch.from_numpy(columns[:, 3]).long(),
        "class_labels": torch.from_numpy(columns[:, 4]).long(),
    }
    return labels, lost


def _apex(event: Mapping[str, Any], native: np.ndarray) -> float:
    """The middle of the network frames that show the apex; where none does, the border between its neighbours."""
    apex = event.get("apex")
    if apex is None or not event["onset"] <= apex <= event["offset"]:
        return float("nan")
    return (np.searchsorted(native, apex, side="left") + np.searchsorted(native, apex, side="right")) / 2


def _numbers(event: Mapping[str, Any], config: FednConfig) -> tuple[int, int]:
    """Type and emotion as the network numbers them."""
    if event["type"] not in config.expression_types:
        raise ValueError(
            f"the type of an event must be one of {config.expression_types}, got {event['type']!r}; named_rows turns "
            "the class numbers of a dataset into names"
        )
    emotion = event.get("emotion")
    if emotion is None:
        return config.expression_types.index(event["type"]), UNKNOWN_LABEL
    if emotion not in config.label2id:
        raise ValueError(
            f"the emotion of an event must be one of {sorted(config.label2id)} or None, got {emotion!r}; map the "
            "corpus to the network's label scheme, or build the network with id2label of the corpus"
        )
    return config.expression_types.index(event["type"]), config.label2id[emotion]


@dataclass(frozen=True)
class FednSequence:
    """
    One video as the network sees it, with its events; T frames at `config.frame_rate`.

    Args:
        video_id, subject_id: Of the corpus row.
        inputs: Tensors by name, each with T rows: `frame_features` (T, F) float, or `crops` (T, S, S, 3) uint8;
            `frame_mask` (T,), False where there is no face; optional `landmarks` (T, P, 2). They may be mapped from a
            file: only the frames of a window are read.
        labels: From `map_events`, in frames of the sequence.
        native_frame, time_s: int64 and float64 (T,), the native frame that each frame shows, and its time in seconds.
        lost: Events that no frame shows.

    Raises:
        `ValueError`: inputs of different length, or not exactly one of `frame_features` and `crops`.

    Example:

    ```python
    >>> import torch
    >>> from fedn_hf import FednConfig
    >>> from fedn_hf.data.sequences import FednSequence

    >>> event = {"onset": 50, "apex": 60, "offset": 74, "type": "macro-expression", "emotion": "happiness"}
    >>> row = {"video_id": "s1_a", "subject_id": "s1", "fps": 25.0, "events": [event]}
    >>> sequence = FednSequence.from_native(row, {"frame_features": torch.randn(250, 24)}, FednConfig())
    >>> len(sequence), sequence.labels["intervals"].tolist()
    (300, [[60.0, 90.0]])
    ```
    """

    video_id: str
    subject_id: str
    inputs: dict[str, torch.Tensor]
    labels: dict[str, torch.Tensor]
    native_frame: np.ndarray
    time_s: np.ndarray
    lost: tuple[dict[str, Any], ...] = ()

    def __post_init__(self):
        shapes = {name: tuple(values.shape) for name, values in self.inputs.items()}
        shapes |= {"native_frame": self.native_frame.shape, "time_s": self.time_s.shape}
        if sum(name in self.inputs for name in FRAME_INPUTS) != 1 or "frame_mask" not in self.inputs:
            raise ValueError(
                f"inputs must hold frame_mask and one of {' and '.join(FRAME_INPUTS)}, got {sorted(self.inputs)}"
            )
        if len({shape[0] for shape in shapes.values()}) != 1 or not shapes["frame_mask"][0]:
            raise ValueError(f"all inputs of {self.video_id} must have the same number of frames, got {shapes}")

    def __len__(self) -> int:
        return len(self.native_frame)

    @classmethod
    def build(
        cls,
        row: Mapping[str, Any],
        inputs: Mapping[str, torch.Tensor],
        config: FednConfig,
        native_frame: np.ndarray,
        time_s: np.ndarray,
    ) -> "FednSequence":
        """
        Of a corpus row and inputs at the network's rate, such as the fields of `cache.VideoFeatures`. Every frame is
        taken to show a face where there is no `frame_mask`.
        """
        labels, lost = map_events(row["events"], native_frame, config)
        inputs = dict(inputs)
        inputs.setdefault("frame_mask", torch.ones(len(native_frame), dtype=torch.bool))
        names = (str(row["video_id"]), str(row["subject_id"]))
        return cls(*names, inputs, labels, np.asarray(native_frame), np.asarray(time_s), tuple(lost))

    @classmethod
    def from_native(
        cls,
        row: Mapping[str, Any],
        inputs: Mapping[str, torch.Tensor],
        config: FednConfig,
        time_s: np.ndarray | None = None,
    ) -> "FednSequence":
        """
        Of a corpus row and inputs with one row per native frame, as published features come. They are resampled to
        `config.frame_rate` by the frames' times; without `time_s` these follow from `row["fps"]`.
        """
        count = len(next(iter(inputs.values())))
        time_s = np.arange(count) / row["fps"] if time_s is None else np.asarray(time_s)
        native = native_frames(time_s, config.frame_rate)
        if not np.array_equal(native, np.arange(count)):
            inputs = {name: torch.as_tensor(values)[torch.from_numpy(native)] for name, values in inputs.items()}
        inputs = {name: torch.as_tensor(values) for name, values in inputs.items()}
        return cls.build(row, inputs, config, native, time_s[native])


__all__ = ["FRAME_INPUTS", "UNKNOWN_LABEL", "FednSequence", "map_events", "named_rows", "native_frames"]
