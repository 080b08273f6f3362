"""From sequences to windows: which ones to train on, drawn anew in every epoch, and a fixed cover for evaluation.

A window is a dictionary of tensors: the inputs of its frames, and `labels` in frames of the window with every event
that reaches into it, given as it is, and flagged with `visible`, the part of it that the window holds. What an event
needs to be learnt from a window, and what happens to the rest, is the loss's business (`loss_fedn.assign_events`).

A network looks `config.context_frames` far and a window is usually shorter, so near its edges it sees less than in a
long video. Windows therefore begin anywhere: an event is met at every place of a window, and with every context.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers.utils import logging

from ..configuration_fedn import FednConfig
from .sequences import FednSequence

logger = logging.get_logger(__name__)

Window = dict[str, Any]
Augmentation = Callable[[Window, torch.Generator], Window]


def cut_window(sequence: FednSequence, start: int, length: int, speed: float = 1.0) -> Window:
    """
    Cut `length` frames out of a sequence that is played `speed` times as fast.

    Args:
        sequence ([`FednSequence`]): Of T frames.
        start (`int`): First frame, in frames of the sequence as played: at another speed it has `T / speed`. May be
            negative, and the end may lie behind the sequence: frames that are not there are empty and masked.
        length (`int`): Frames of the window.
        speed (`float`): Above 1 events become shorter. Frames are picked, not mixed: window frame k shows sequence
            frame `floor((start + k + 0.5) * speed)`.

    Returns:
        `dict`: the sequence's inputs for these frames; `labels`, those of `FednSequence` that reach into the window,
        with `visible` (n,), the part of each event that the window holds; `video_id`, `start` and `speed`.

    Example:

    ```python
    >>> import torch
    >>> from fedn_hf import FednConfig
    >>> from fedn_hf.data.sequences import FednSequence
    >>> from fedn_hf.data.windows import cut_window

    >>> event = {"onset": 10, "apex": 14, "offset": 19, "type": "micro-expression", "emotion": None}
    >>> row = {"video_id": "a", "subject_id": "s1", "fps": 30.0, "events": [event]}
    >>> sequence = FednSequence.from_native(row, {"frame_features": torch.randn(40, 8)}, FednConfig())
    >>> window = cut_window(sequence, start=15, length=32)
    >>> window["frame_mask"].sum().item(), window["labels"]["intervals"].tolist(), window["labels"]["visible"].tolist()
    (25, [[-5.0, 5.0]], [0.5])
    ```
    """
    frames = np.floor((start + np.arange(length) + 0.5) * speed).astype(np.int64)
    there = (frames >= 0) & (frames < len(sequence))
    first, last = (int(frames[there][0]), int(frames[there][-1])) if there.any() else (0, -1)
    picked = torch.from_numpy(frames[there] - first)
    window: Window = {}
    for name, values in sequence.inputs.items():
        window[name] = values.new_zeros(length, *values.shape[1:])  # (length, ...)
        window[name][torch.from_numpy(there)] = values[first : last + 1][picked]
    intervals = sequence.labels["intervals"] / speed - start  # (n, 2)
    visible = _visible_part(intervals, length)
    inside = visible > 0
    window["labels"] = {name: values[inside] for name, values in sequence.labels.items()}
    window["labels"] |= {
        "intervals": intervals[inside],
        "apex": sequence.labels["apex"][inside] / speed - start,
        "visible": visible[inside],
    }
    return {**window, "video_id": sequence.video_id, "start": start, "speed": speed}


def _visible_part(intervals: torch.Tensor, length: int) -> torch.Tensor:
    """Which part of each interval (n, 2) lies in [0, length), (n,)."""
    clipped = intervals.clamp(0, length)
    return (clipped[:, 1] - clipped[:, 0]) / (intervals[:, 1] - intervals[:, 0])


@dataclass(frozen=True)
class EventCounts:
    """
    What becomes of the events of some sequences in training.

    Args:
        total: Events in the corpus rows.
        trainable: Events that can be positive in a window.
        lost: No network frame shows them: they lie outside of what was read, or between two frames.
        cut: They begin before the first frame or end after the last, and too little of them can be seen.
        unseen: There is no face in any of their frames.
        too_long: No window holds enough of them.

    Example:

    ```python
    >>> from fedn_hf.data.windows import EventCounts

    >>> print(EventCounts(total=10, trainable=8, lost=0, cut=0, unseen=0, too_long=2))
    8 of 10 events can be learnt; too long for a window: 2
    ```
    """

    total: int
    trainable: int
    lost: int
    cut: int
    unseen: int
    too_long: int

    def __str__(self) -> str:
        words = {
            "lost": "shown by no frame",
            "cut": "cut by an end of the video",
            "unseen": "without a face",
            "too_long": "too long for a window",
        }
        parts = [f"{said}: {getattr(self, name)}" for name, said in words.items() if getattr(self, name)]
        return "; ".join([f"{self.trainable} of {self.total} events can be learnt", *parts])


def _sort_events(sequence: FednSequence, config: FednConfig) -> list[str]:
    """For every event of a sequence `"trainable"`, or the name of the count it belongs to."""
    least, fates = config.min_visible_fraction, []
    visible = _visible_part(sequence.labels["intervals"], len(sequence))
    for part, (start, end) in zip(visible.tolist(), sequence.labels["intervals"].long().tolist(), strict=True):
        if part <= least:
            fates.append("cut")
        elif not sequence.inputs["frame_mask"][max(0, start) : end].any():
            fates.append("unseen")
        else:
            fates.append("too_long" if (end - start) * least >= config.window_size else "trainable")
    return fates


def count_events(sequences: Sequence[FednSequence], config: FednConfig) -> EventCounts:
    """How many events can be learnt in windows of `config.window_size`, and why the others cannot."""
    fates = [fate for sequence in sequences for fate in _sort_events(sequence, config)]
    lost = sum(len(sequence.lost) for sequence in sequences)
    names = ("trainable", "cut", "unseen", "too_long")
    return EventCounts(total=len(fates) + lost, lost=lost, **{name: fates.count(name) for name in names})


class TrainingWindows(Dataset):
    """
    Windows of `config.window_size` frames to train on: a map-style dataset of one epoch, whose `set_epoch` moves on.

    In an epoch every trainable event has one *positive* window of its own, which holds more than
    `config.min_visible_fraction` of it at a place drawn at random. With them come as many *negative* windows, which no
    event reaches into, as `positive_fraction` asks for, drawn evenly from all places where there are any. Of a window
    the middle always lies in its video; what lies outside is masked. At least half of what a negative window could
    show has a face.

    Every window has random numbers of its own, of (seed, epoch, index): it is the same whatever was read before and
    whichever worker reads it. The order is random already: read it without `shuffle`.

    Args:
        sequences (`Sequence[FednSequence]`): Videos to train on.
        config ([`FednConfig`]): `window_size` and `min_visible_fraction`.
        seed (`int`): Of everything that is drawn.
        positive_fraction (`float`): Part of the windows that are positive, above 0 and up to 1.
        speed (`tuple[float, float]`): Slowest and fastest speed at which a video is played, drawn evenly in ratio. An
            event that would become too long for a window is played as it is.
        augmentations (`Sequence[Callable]`): Functions of a window and a generator that give a window, called in this
            order; see `augmentation`.

    Attributes:
        counts ([`EventCounts`]): What becomes of the events; if some cannot be learnt, this is also logged.

    Raises:
        `ValueError`: numbers out of range, no event to learn, or no place for a negative window.

    Example:

    ```python
    >>> import torch
    >>> from fedn_hf import FednConfig
    >>> from fedn_hf.data.sequences import FednSequence
    >>> from fedn_hf.data.windows import TrainingWindows

    >>> event = {"onset": 900, "apex": 914, "offset": 929, "type": "macro-expression", "emotion": None}
    >>> row = {"video_id": "a", "subject_id": "s1", "fps": 30.0, "events": [event]}
    >>> config = FednConfig(backbone_config=None)
    >>> sequence = FednSequence.from_native(row, {"frame_features": torch.randn(2000, 512)}, config)
    >>> windows = TrainingWindows([sequence], config, seed=0, positive_fraction=0.25)
    >>> sorted(len(window["labels"]["intervals"]) for window in windows)
    [0, 0, 0, 1]
    ```
    """

    def __init__(
        self,
        sequences: Sequence[FednSequence],
        config: FednConfig,
        *,
        seed: int,
        positive_fraction: float = 0.5,
        speed: tuple[float, float] = (1.0, 1.0),
        augmentations: Sequence[Augmentation] = (),
    ):
        if not 0 < positive_fraction <= 1:
            raise ValueError(f"positive_fraction must lie above 0 and be at most 1, got {positive_fraction}")
        if not 0 < speed[0] <= speed[1]:
            raise ValueError(f"speed must be the slowest and the fastest, both above 0, got {speed}")
        self.sequences, self.config, self.seed = sequences, config, seed
        self.speed, self.augmentations = speed, augmentations
        self.counts = count_events(sequences, config)
        if self.counts.trainable < self.counts.total:
            logger.warning(str(self.counts))
        self._positives = [  # (sequence, event)
            (number, event)
            for number, sequence in enumerate(sequences)
            for event, fate in enumerate(_sort_events(sequence, config))
            if fate == "trainable"
        ]
        if not self._positives:
            raise ValueError(f"there is no event to learn in {len(sequences)} videos: {self.counts}")
        self._num_negatives = round(len(self._positives) * (1 / positive_fraction - 1))
        # Frames that a negative window may need at the highest speed, and room to begin at a whole frame of any speed.
        self._reach = config.window_size if speed[1] <= 1 else int(np.ceil((config.window_size + 2) * speed[1]))
        self._free = [self._free_starts(sequence) for sequence in sequences]
        self._free_until = np.cumsum([len(starts) for starts in self._free])
        if self._num_negatives and not self._free_until[-1]:
            raise ValueError(
                f"no place of {self._reach} frames is free of events, so there are no negative windows; "
                f"use positive_fraction=1.0 (got {positive_fraction}) or a smaller window_size"
            )
        # Shared, so that workers that live longer than an epoch hear of the next one.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._order: tuple[int, np.ndarray] = (-1, np.zeros(0, np.int64))

    def __len__(self) -> int:
        return len(self._positives) + self._num_negatives

    @property
    def epoch(self) -> int:
        """Number of the epoch whose windows are given."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Go to another epoch, from 0 on. Accelerate's loaders do so of themselves."""
        self._epoch.fill_(epoch)

    def __getitem__(self, index: int) -> Window:
        if not 0 <= index < len(self):
            raise IndexError(f"an epoch has windows 0 to {len(self) - 1}, got {index}")
        epoch = self.epoch
        if self._order[0] != epoch:
            self._order = (epoch, np.random.default_rng((self.seed, epoch)).permutation(len(self)))
        generator = window_generator(self.seed, epoch, index)
        slow, fast = np.log(self.speed)
        speed = float(np.exp(slow + (fast - slow) * torch.rand((), generator=generator).item()))
        item = int(self._order[1][index])
        if item < len(self._positives):
            number, event = self._positives[item]
            begin, end = self.sequences[number].labels["intervals"][event].tolist()
            if (end - begin) / speed * self.config.min_visible_fraction >= self.config.window_size:
                speed = 1.0  # slowed down it would not fit
            start = self._positive_start(begin / speed, end / speed, len(self.sequences[number]) / speed, generator)
        else:
            number, start = self._negative_start(speed, generator)
        window = cut_window(self.sequences[number], start, self.config.window_size, speed)
        for augment in self.augmentations:
            window = augment(window, generator)
        return window

    def _positive_start(self, begin: float, end: float, length: float, generator: torch.Generator) -> int:
        """Anywhere, as long as enough of the event can be seen and the window's middle lies in the video."""
        size, least = self.config.window_size, self.config.min_visible_fraction * (end - begin)
        first = max(np.floor(begin + least - size) + 1, -(size // 2))
        last = min(np.ceil(end - least) - 1, np.floor(length) - size // 2)
        return _draw(int(first), int(last), generator)

    def _free_starts(self, sequence: FednSequence) -> np.ndarray:
        """Where `_reach` frames hold no event and enough of a face; frames of the sequence, int32."""
        length, size, reach = len(sequence), self.config.window_size, self._reach
        busy = np.zeros(length + 1, np.int64)
        for begin, end in sequence.labels["intervals"].long().clamp(0, length).tolist():
            busy[begin + 1 : end + 1] = 1
        seen = np.concatenate([[0], sequence.inputs["frame_mask"].numpy()])
        starts = np.arange(-(size // 2), length - size // 2 + 1)
        edges = np.clip(starts, 0, length), np.clip(starts + reach, 0, length)
        events, faces = (np.cumsum(flags)[edges[1]] - np.cumsum(flags)[edges[0]] for flags in (busy, seen))
        return starts[(events == 0) & (faces >= min(length, size) / 2)].astype(np.int32)

    def _negative_start(self, speed: float, generator: torch.Generator) -> tuple[int, int]:
        place = _draw(0, int(self._free_until[-1]) - 1, generator)
        number = int(np.searchsorted(self._free_until, place, side="right"))
        free = int(self._free[number][place - self._free_until[number]])
        first = int(np.ceil(free / speed))
        return number, _draw(first, max(first, int((free + self._reach) / speed) - self.config.window_size), generator)


def window_generator(seed: int, epoch: int, index: int) -> torch.Generator:
    """The random numbers of one window, independent of those of all others."""
    state = np.random.SeedSequence((seed, epoch, index)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))


def _draw(first: int, last: int, generator: torch.Generator) -> int:
    """A whole number from first to last, both included."""
    return int(torch.randint(first, last + 1, (), generator=generator))


class CoveringWindows(Dataset):
    """
    Windows of `config.window_size` frames, half a window apart, that cover all of some videos: for a loss on subjects
    that do not train. Nothing is drawn. An event of up to half a window lies whole in at least one of them; the last
    one of a video is filled up and masked. For detection use `detect_from_features`, which looks farther.

    Args:
        sequences (`Sequence[FednSequence]`): Videos to cover.
        config ([`FednConfig`]): `window_size`.

    Example:

    ```python
    >>> import torch
    >>> from fedn_hf import FednConfig
    >>> from fedn_hf.data.sequences import FednSequence
    >>> from fedn_hf.data.windows import CoveringWindows

    >>> row = {"video_id": "a", "subject_id": "s1", "fps": 30.0, "events": []}
    >>> config = FednConfig(backbone_config=None)
    >>> sequence = FednSequence.from_native(row, {"frame_features": torch.randn(600, 512)}, config)
    >>> [(window["start"], int(window["frame_mask"].sum())) for window in CoveringWindows([sequence], config)]
    [(0, 256), (128, 256), (256, 256), (384, 216)]
    ```
    """

    def __init__(self, sequences: Sequence[FednSequence], config: FednConfig):
        self.sequences, self.size = sequences, config.window_size
        hop = self.size // 2
        self._plan = [  # (sequence, start); a window more as long as the last one ends before the video
            (number, start)
            for number, sequence in enumerate(sequences)
            for start in range(0, max(1, len(sequence) - self.size + hop), hop)
        ]

    def __len__(self) -> int:
        return len(self._plan)

    def __getitem__(self, index: int) -> Window:
        number, start = self._plan[index]
        return cut_window(self.sequences[number], start, self.size)


__all__ = [
    "Augmentation",
    "CoveringWindows",
    "EventCounts",
    "TrainingWindows",
    "Window",
    "count_events",
    "cut_window",
    "window_generator",
]
