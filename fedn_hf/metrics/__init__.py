"""Scores for detected expressions: the peers' numbers to the digit, and honest ones by default. See README.md here.

Needs numpy only. Tables of [`Expressions`] go in; every result carries the [`Protocol`] that it was made under.
"""

from .agreement import AgreementResult, SelfReportResult, agreement, cohen_kappa, icc, self_report_agreement
from .codings import Codings, read_codings
from .detection import ACTIVITYNET_IOUS, COCO_IOUS, AveragePrecisions, DetectionResult, average_precision, detection
from .expressions import Expressions, Videos, concatenate
from .protocol import PRESETS, STRICT, Protocol, get_protocol
from .recognition import RecognitionResult, StrsResult, confusion_scores, recognition, strs
from .selection import Choice, SelectedResult, SelectionReport, select
from .spotting import BoundaryError, Counts, SpottingResult, spotting
from .uncertainty import Interval, bootstrap, paired_difference

__all__ = [
    "ACTIVITYNET_IOUS",
    "COCO_IOUS",
    "PRESETS",
    "STRICT",
    "AgreementResult",
    "AveragePrecisions",
    "BoundaryError",
    "Choice",
    "Codings",
    "Counts",
    "DetectionResult",
    "Expressions",
    "Interval",
    "Protocol",
    "RecognitionResult",
    "SelectedResult",
    "SelectionReport",
    "SelfReportResult",
    "SpottingResult",
    "StrsResult",
    "Videos",
    "agreement",
    "average_precision",
    "bootstrap",
    "cohen_kappa",
    "concatenate",
    "confusion_scores",
    "detection",
    "get_protocol",
    "icc",
    "paired_difference",
    "read_codings",
    "recognition",
    "select",
    "self_report_agreement",
    "spotting",
    "strs",
]
