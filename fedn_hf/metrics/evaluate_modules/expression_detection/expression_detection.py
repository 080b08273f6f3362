"""Detection of facial expressions, as a module of the evaluate library; `fedn_hf.metrics` computes."""

import datasets
import evaluate

from fedn_hf.metrics import Expressions, Videos, detection

_DESCRIPTION = """
Which facial expressions happen when in long videos? Average precision per emotion and per type (macro, micro) and
their means at temporal IoU 0.5, over 0.3:0.1:0.7 (ActivityNet, THUMOS) and over 0.5:0.05:0.95 (COCO).
"""

_CITATION = """
@misc{fedn,
  title = {End-to-End Facial Expression Detection in Long Videos},
  note = {arXiv:2504.07660},
  year = {2025}
}
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions: one list of found expressions per video: dictionaries with "onset" and "offset" (frames, both
        belong to the expression), "type" ("macro" or "micro"), "label" (the emotion, "" where unknown) and "score".
    references: one list of marked expressions per video, in the same order and with the same keys.
    protocol: name of the rules, "strict" by default; fedn_hf.metrics.PRESETS has all.
    subjects: name of the person in each video, if known.
Returns:
    "mAP@0.5", "mAP@0.3:0.7", "mAP@0.5:0.95" over emotions, the same over types ("types_mAP@0.5", ...), and
    "<emotion>_AP@0.5" of every emotion, as numbers; "protocol", its title.
Examples:
    >>> metric = evaluate.load("fedn_hf/metrics/evaluate_modules/expression_detection")
    >>> marked = [[{"onset": 10, "offset": 29, "type": "macro", "label": "joy", "score": None}]]
    >>> found = [[{"onset": 50, "offset": 70, "type": "macro", "label": "joy", "score": 0.9},
    ...           {"onset": 12, "offset": 30, "type": "macro", "label": "joy", "score": 0.8}]]
    >>> results = metric.compute(predictions=found, references=marked, protocol="activitynet")
    >>> results["mAP@0.5"], results["joy_AP@0.5"]
    (0.5, 0.5)
"""

_KEYS = {
    "onset": "float64",
    "offset": "float64",
    "type": "string",
    "label": "string",
    "score": "float64",
}


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class ExpressionDetection(evaluate.Metric):
    """Mean average precision of emotions and types for the evaluate library; see README.md beside."""

    def _info(self):
        expressions = datasets.List({name: datasets.Value(kind) for name, kind in _KEYS.items()})
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({"predictions": expressions, "references": expressions}),
            reference_urls=["https://arxiv.org/abs/2504.07660"],
        )

    def _compute(self, predictions, references, protocol="strict", subjects=None):
        found, marked = (Expressions.from_nested(side, subjects) for side in (predictions, references))
        videos = Videos([str(number) for number in range(len(references))], subjects)
        result = detection(found, marked, protocol, videos)
        scores = result.emotions.summary()
        scores |= {f"types_{name}": value for name, value in result.types.summary().items()}
        scores |= {f"{name}_AP@0.5": row[0.5] for name, row in result.emotions.per_class.items()}
        return {**scores, "protocol": result.protocol.title}
