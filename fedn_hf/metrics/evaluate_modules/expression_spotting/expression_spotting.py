"""Spotting of facial expressions, as a module of the evaluate library; `fedn_hf.metrics` computes."""

import datasets
import evaluate

from fedn_hf.metrics import Expressions, Videos, spotting

_DESCRIPTION = """
When do facial expressions happen in long videos? Precision, recall and F1 of onset-offset intervals, per type
(macro, micro) and overall, under a protocol whose every rule is named. The same detections score 0.46, 0.45 or 0.44
under the rules of different papers; the strict protocol is the default.
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
        belong to the expression), "type" ("macro" or "micro") and "score".
    references: one list of marked expressions per video, in the same order and with the same keys.
    protocol: name of the rules, "strict" by default; fedn_hf.metrics.PRESETS has all.
    subjects: name of the person in each video, if known.
Returns:
    "f1", "precision", "recall" of both types together, "true_positives", "predictions", "events", and the same per
    type ("macro_f1", ...), as numbers; "protocol", its title.
Examples:
    >>> metric = evaluate.load("fedn_hf/metrics/evaluate_modules/expression_spotting")
    >>> marked = [[{"onset": 10, "offset": 29, "type": "macro", "score": None}], []]
    >>> found = [[{"onset": 12, "offset": 30, "type": "macro", "score": 0.9}],
    ...          [{"onset": 5, "offset": 9, "type": "micro", "score": 0.2}]]
    >>> results = metric.compute(predictions=found, references=marked)
    >>> results["f1"], results["macro_f1"], results["protocol"]
    (0.6666666666666666, 1.0, 'strict')
"""

_KEYS = {
    "onset": "float64",
    "offset": "float64",
    "type": "string",
    "score": "float64",
}


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class ExpressionSpotting(evaluate.Metric):
    """Spotting under a protocol for the evaluate library; see README.md beside."""

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
        result = spotting(found, marked, protocol, videos)
        scores = {**result.overall.to_dict(), **result.pooled["overall"]}
        for kind, counts in result.per_type.items():
            scores |= {f"{kind}_{name}": value for name, value in {**counts.to_dict(), **result.pooled[kind]}.items()}
        return {**scores, "protocol": result.protocol.title}
