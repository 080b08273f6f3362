"""Spotting and recognition of facial expressions, as a module of the evaluate library; `fedn_hf.metrics` computes."""

import datasets
import evaluate

from fedn_hf.metrics import Expressions, Videos, strs

_DESCRIPTION = """
Spot-then-recognize score (STRS): F1 of spotting times F1 of analysis, where the second is over the expressions
that were found; with its parts, UF1, UAR and accuracy.
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
        belong to the expression), "label" (the emotion, "" where unknown), "type" ("macro" or "micro", "" where
        unknown) and "score" (None where unknown).
    references: one list of marked expressions per video, in the same order and with the same keys.
    protocol: name of the rules, "strs" by default; fedn_hf.metrics.PRESETS has all.
    subjects: name of the person in each video, if known.
Returns:
    "strs", "f1_spotting", "f1_analysis", "accuracy", "uf1", "uar", "macro_precision", "macro_recall", as numbers;
    "protocol", its title.
Examples:
    >>> metric = evaluate.load("fedn_hf/metrics/evaluate_modules/spot_then_recognize")
    >>> marked = [[{"onset": 10, "offset": 29, "type": "", "label": "joy", "score": None}],
    ...           [{"onset": 5, "offset": 20, "type": "", "label": "fear", "score": None}]]
    >>> found = [[{"onset": 12, "offset": 30, "type": "", "label": "joy", "score": None}], []]
    >>> results = metric.compute(predictions=found, references=marked)
    >>> round(results["f1_spotting"], 4), results["accuracy"]
    (0.6667, 1.0)
"""

_KEYS = {
    "onset": "float64",
    "offset": "float64",
    "type": "string",
    "label": "string",
    "score": "float64",
}


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class SpotThenRecognize(evaluate.Metric):
    """Spotting, recognition of what was spotted and their product for the evaluate library; see README.md beside."""

    def _info(self):
        expressions = datasets.List({name: datasets.Value(kind) for name, kind in _KEYS.items()})
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({"predictions": expressions, "references": expressions}),
            reference_urls=["https://arxiv.org/abs/2504.07660"],
        )

    def _compute(self, predictions, references, protocol="strs", subjects=None):
        found, marked = (Expressions.from_nested(side, subjects) for side in (predictions, references))
        videos = Videos([str(number) for number in range(len(references))], subjects)
        result = strs(found, marked, protocol, videos)
        names = ("accuracy", "uf1", "uar", "macro_precision", "macro_recall")
        scores = {name: getattr(result, name) for name in ("strs", "f1_spotting", "f1_analysis")}
        scores |= {name: getattr(result.recognition, name) for name in names}
        return {**scores, "protocol": result.protocol.title}
