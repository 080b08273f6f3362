"""Recognition as a task of its own: how well emotions are named where it is known when something happens.

The networks of all folds are taken as training left them: of the best epoch where subjects validate, else of the last
one. Each is told when the expressions of its own test subject begin and end, and never what they are, so nothing of a
test subject is in what is chosen.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..metrics import RecognitionResult, recognition
from ..modeling_fedn import FednForFacialExpressionDetection
from ..postprocessing_fedn import match_labels
from .checkpoints import chosen_network
from .detections import frame_inputs
from .inputs import FeatureRecipe, Inputs, Row
from .loso import RECIPE
from .report import event_rows, expressions


def score_recognition(folder: str | Path, rows: Sequence[Row]) -> RecognitionResult | None:
    """
    Score the emotions that the networks of a run give the marked intervals of their test subjects, over all folds. Of
    a cascade this is its recogniser, a network of that single task; of a joint network all its proposals are asked.

    Args:
        folder: Of `run_folds`, with its checkpoints.
        rows: The same as there.

    Returns:
        The result, in which events of unknown emotion are counted and left out; `None` for a run that names nothing.

    Example:

    ```python
    >>> from fedn_hf.training.recognition import score_recognition

    >>> print(score_recognition("run", rows))  # doctest: +SKIP
    ```
    """
    folder = Path(folder)
    told = json.loads((folder / RECIPE).read_text("utf-8"))
    if told["system"] == "flow_rule" or (told["system"] == "joint" and told["model"].get("heads") == "spotting"):
        return None
    network = "recogniser" if told["system"] == "cascade" else "training"
    named = []
    for subject in sorted({row["subject_id"] for row in rows}):
        fold = folder / "folds" / subject
        model, statistics = chosen_network(fold / network), fold / "features.json"
        inputs = Inputs(model.config, FeatureRecipe.read(statistics) if statistics.exists() else None)
        named += [with_named_emotions(model, inputs, row) for row in rows if row["subject_id"] == subject]
    return recognition(expressions(event_rows(named)), expressions(event_rows(rows)))


def with_named_emotions(model: FednForFacialExpressionDetection, inputs: Inputs, row: Row) -> dict[str, Any]:
    """
    The row with the emotions that a network gives its events, and without those that no frame shows. The network is
    told when events are, and not what.

    Example:

    ```python
    >>> from fedn_hf.training.recognition import with_named_emotions

    >>> with_named_emotions(model, inputs, row)["events"][0]["emotion"]  # doctest: +SKIP
    'surprise'
    ```
    """
    events = [{**event, "emotion": None} for event in row["events"]]
    sequence = inputs.sequence({**row, "events": events})
    shown = [event for event in events if event not in sequence.lost]
    if shown:
        given = frame_inputs(model, sequence, inputs.video_processor)
        logits = match_labels(sequence.labels["intervals"], model.detect_from_features(**given, min_score=0.0))
        names = [model.config.id2label[number] for number in logits.argmax(-1).tolist()]
        shown = [{**event, "emotion": name} for event, name in zip(shown, names, strict=True)]
    return {**row, "events": shown}


__all__ = ["score_recognition", "with_named_emotions"]
