"""The switches that decide what a number means.

The same detections score 0.46, 0.45 or 0.44 under the unstated rules of three papers. Here every rule is a field of
[`Protocol`], every result carries the one it was made under, and printing it shows all of them.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from ..media_fedn import FednError

Matching = Literal["one_to_one", "event_order", "time_order", "event_best", "event_best_once", "any_hit"]
Selection = Literal["nested", "fixed", "pooled_oracle", "subject_oracle"]


@dataclass(frozen=True)
class Protocol:
    """
    One way to score detections. The defaults are the strict protocol.

    An interval has a match with an event when both are in the same video, of the same class by `class_rule`, and their
    intersection over union (IoU) passes the threshold. `matching` says which of these pairs count.

    Args:
        name: of the preset this is or comes from.
        source: paper and code that the rules were taken from.
        iou_threshold: of the overlap, 0 to 1.
        comparison: `">="` or `">"`; how the IoU is held against its threshold.
        frame_convention: what a pair of frame numbers means.
            `"inclusive"`: both frames belong to the interval; it is `offset - onset + 1` frames long.
            `"half_open"`: the offset does not belong to it; without length it never matches.
            `"touching"`: MDMD's: as inclusive, but the intersection is `max(0, min(offsets) - max(onsets)) + 1`, one
            frame even where intervals only touch or are disjoint; without length (onset = offset) it never matches.
        fractional_frames: `"truncate"`: a boundary between two frames belongs to the frame it falls into, so lengths
            are whole frames; `"keep"`: boundaries are continuous.
        matching: which pairs are true positives; always within one video and class.
            `"one_to_one"`: predictions by falling score (file order among equals, or where there are no scores), each
            takes the best event that is still free.
            `"event_order"`: events in file order, each takes the best prediction that is still free.
            `"time_order"`: predictions by rising onset, each claims the one event it overlaps most, and is false where
            that event has been taken before.
            `"event_best"`: every event takes its best prediction, which may serve several events: true positives are
            events, and precision can exceed 1.
            `"event_best_once"`: the same, but true positives are different predictions.
            `"any_hit"`: every event that any prediction hits is a true positive.
        class_rule: what must agree besides time. `"type"`: the label macro or micro. `"duration"`: both are called
            micro up to `micro_max_s` and macro beyond, whatever their labels say; needs the frame rate.
            `"agnostic"`: nothing.
        micro_max_s: longest micro-expression for `class_rule="duration"`, in seconds. An interval lasts
            `offset - onset + 1` frames, as sheets number them, whatever `frame_convention` is.
        videos_scored: predictions in other videos are left out. `"all"`; `"with_events"`; `"with_events_of_type"`: for
            each class only the videos that have an event of it.
        missing_offset: for events whose sheet has no offset (empty, 0 or -1). `"apex"`: they end at the apex;
            `"apex_plus"`: `missing_offset_frames` after it; `"unmatchable"`: they count and cannot be found, as also
            those without an apex; `"drop"`: they are no events.
        missing_offset_frames: k of `"apex_plus"`.
        length_filter: predictions to keep, as `((type, min_frames, max_frames or None), ...)`; lengths are
            `offset - onset + 1`, types that are not named are all kept.
        score_threshold: predictions to keep, or `None`.
        score_comparison: how scores are held against it.
        top_k: at most so many predictions of a video are kept, those of the highest scores (file order among equals,
            or where there are no scores), or `None`. Lengths and the threshold are looked at first.
        pooling: how the numbers of videos become one. `"corpus"`: counts are summed over all; `"subject"`, `"video"`:
            mean of the F1, precision and recall of those that have an event or a prediction.
        selection: who chose the epoch, threshold and top_k. `"nested"`: for every subject, all other subjects.
            `"fixed"`: nobody, they were given. `"pooled_oracle"`: the test subjects together. `"subject_oracle"`:
            every test subject for itself. Oracles cannot be had in practice. `select` chooses so; `spotting` and all
            others take predictions as they are given.
        unknown_label: events without an emotion, in what is counted per emotion. `"ignore"`: finding one is neither
            right nor wrong; `"drop"`: they are no events, finding one is wrong.
        ap_interpolation: `"envelope"`: precision is the best at that recall or above, as ActivityNet and Pascal VOC
            since 2010; `"step"`: precision as it is, as scikit-learn's `average_precision_score`.

    Raises:
        `FednError`: a value that a switch does not have.

    Example:
        >>> import dataclasses
        >>> lgsnet = PRESETS["lgsnet"]
        >>> lgsnet.matching, lgsnet.class_rule
        ('event_best', 'agnostic')
        >>> print(dataclasses.replace(lgsnet, matching="one_to_one").title)
        lgsnet, but matching = one_to_one
    """

    name: str = "strict"
    source: str = "this package: nothing counts twice, nothing is left out, nothing is chosen on the test subjects"
    iou_threshold: float = 0.5
    comparison: Literal[">=", ">"] = ">="
    frame_convention: Literal["inclusive", "half_open", "touching"] = "inclusive"
    fractional_frames: Literal["truncate", "keep"] = "truncate"
    matching: Matching = "one_to_one"
    class_rule: Literal["type", "duration", "agnostic"] = "type"
    micro_max_s: float = 0.5
    videos_scored: Literal["all", "with_events", "with_events_of_type"] = "all"
    missing_offset: Literal["apex", "apex_plus", "unmatchable", "drop"] = "apex"
    missing_offset_frames: int = 0
    length_filter: tuple[tuple[str, int, int | None], ...] = ()
    score_threshold: float | None = None
    score_comparison: Literal[">=", ">"] = ">="
    top_k: int | None = None
    pooling: Literal["corpus", "subject", "video"] = "corpus"
    selection: Selection = "nested"
    unknown_label: Literal["ignore", "drop"] = "ignore"
    ap_interpolation: Literal["envelope", "step"] = "envelope"

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if get_origin(field.type) is Literal and value not in get_args(field.type):
                choices = ", ".join(map(repr, get_args(field.type)))
                raise FednError(f"{field.name} must be one of {choices}, got {value!r}")
        object.__setattr__(self, "length_filter", tuple(tuple(row) for row in self.length_filter))
        if not 0 <= self.iou_threshold <= 1:
            raise FednError(f"iou_threshold must lie between 0 and 1, got {self.iou_threshold!r}")
        if self.top_k is not None and self.top_k < 1:
            raise FednError(f"top_k must be at least 1, or None for all predictions, got {self.top_k!r}")
        if self.missing_offset_frames and self.missing_offset != "apex_plus":
            raise FednError(
                f'missing_offset_frames={self.missing_offset_frames} has a meaning with missing_offset="apex_plus" '
                f"only, got missing_offset={self.missing_offset!r}"
            )
        for row in self.length_filter:
            if len(row) != 3 or row[1] > (row[1] if row[2] is None else row[2]):
                raise FednError(f"length_filter takes (type, min_frames, max_frames or None), got {row!r}")

    @property
    def title(self) -> str:
        """The preset's name, and how this differs from it."""
        preset = PRESETS.get(self.name)
        if preset is None or preset == self:
            return self.name
        changed = [name for name, value in self.switches().items() if value != getattr(preset, name)]
        return f"{self.name}, but " + ", ".join(f"{name} = {getattr(self, name)}" for name in changed)

    def switches(self) -> dict[str, Any]:
        """All fields but name and source."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in fields.items() if name not in ("name", "source")}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data; `Protocol(**data)` gives the protocol back."""
        return {**dataclasses.asdict(self), "length_filter": [list(row) for row in self.length_filter]}

    def __str__(self) -> str:
        rows = "\n".join(f"  {name:21} {value}" for name, value in self.switches().items())
        return f"protocol {self.title}\n  {'source':21} {self.source}\n{rows}"


STRICT = Protocol()

# What the sources say themselves; where README tables or papers differ from the code that made the published number,
# the code is followed.
PRESETS: dict[str, Protocol] = {
    preset.name: preset
    for preset in (
        STRICT,
        Protocol(
            "megc2020_mdmd",
            "He et al., Spotting macro- and micro-expression intervals in long video sequences, FG 2020 (baseline of "
            "MEGC2020). The intersection is never less than a frame; events are counted, so one prediction may find "
            "several; predictions of 7-16 frames are micro, from 17 macro",
            frame_convention="touching",
            matching="any_hit",
            length_filter=(("macro", 17, None), ("micro", 7, 16)),
            selection="fixed",
        ),
        Protocol(
            "lgsnet",
            "Yu et al., LGSNet: A two-stream network for micro- and macro-expression spotting with background "
            "modeling, TAC 2023; tools/F1_score_last.py. Boundaries are cut to whole frames before the IoU (without "
            "that the published 131 true positives become 129); a score loses its last printed digit when it is read; "
            "threshold 0.485 and epoch 23 are the best on the test subjects; the first 14 predictions of a video; "
            "macro and micro are not told apart",
            matching="event_best",
            class_rule="agnostic",
            missing_offset="apex_plus",
            missing_offset_frames=20,
            score_threshold=0.485,
            score_comparison=">",
            top_k=14,
            selection="pooled_oracle",
        ),
        Protocol(
            "auwgcn",
            "Yin et al., AU-aware graph convolutional network for macro- and micro-expression spotting, ICME 2023; "
            "utils/eval_utils.py. Offset 0 is taken literally, so these 44 events count and cannot be found; the best "
            "of epochs 15-59 of every test subject, the earliest of equals, also one without detections. (What the "
            "code finally counts is every prediction that hits any event; that gives 0.3649 here, not 0.3428)",
            comparison=">",
            frame_convention="half_open",
            fractional_frames="keep",
            matching="event_best_once",
            missing_offset="unmatchable",
            selection="subject_oracle",
        ),
        Protocol(
            "softnet",
            "Liong et al., Shallow optical flow three-stream CNN for macro- and micro-expression spotting from long "
            "videos, ICIP 2021; training.py and its mean_average_precision. All its scores are 0, so its greedy "
            "matching runs in order of time; each type is scored on the videos that have an event of it; its "
            "threshold p = 0.55 is the best on the test subjects. (The code also adds a false prediction to every "
            "scored video without a peak, which no switch here does)",
            matching="time_order",
            videos_scored="with_events_of_type",
            selection="pooled_oracle",
        ),
        Protocol(
            "strs",
            "Liong et al., Spot-then-recognize: A micro-expression analysis network for seamless evaluation of long "
            "videos, SPIC 2023. Only videos with events; types are not told apart; events in file order",
            matching="event_order",
            class_rule="agnostic",
            videos_scored="with_events",
            selection="fixed",
        ),
        Protocol(
            "activitynet",
            "Heilbron et al., ActivityNet: A large-scale video benchmark for human activity understanding, CVPR 2015; "
            "eval_detection.py. Continuous time; its average precision takes the best precision at a recall or above",
            frame_convention="half_open",
            fractional_frames="keep",
            unknown_label="drop",
            selection="fixed",
        ),
    )
}


def get_protocol(protocol: Protocol | str) -> Protocol:
    """
    A protocol by itself or by a preset's name.

    Raises:
        `FednError`: no preset of that name.
    """
    if isinstance(protocol, Protocol):
        return protocol
    if protocol not in PRESETS:
        raise FednError(f"no protocol named {protocol!r}; there is {', '.join(PRESETS)}, or build a Protocol")
    return PRESETS[protocol]


__all__ = ["PRESETS", "STRICT", "Protocol", "get_protocol"]
