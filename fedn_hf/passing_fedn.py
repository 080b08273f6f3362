"""One face on its way through the network: the windows that are complete, and the events that nothing can change.

A window needs `config.context_frames` on both sides of the frames that it owns, so only the inputs of the frames from
there on are kept. And a proposal that a later window makes reaches back from its position by no more than that
(`postprocessing_fedn.owned_proposals` drops what does). So with the first n frames owned by windows, whatever ends
before frame n - `context_frames` and overlaps nothing that ends later is decided: it can neither be suppressed nor
decay any more.
"""

from dataclasses import dataclass

import numpy as np
import torch

from .modeling_fedn import FednForFacialExpressionDetection
from .postprocessing_fedn import FednProposals, FednWindow, plan_windows, stitch, type_scores
from .results_fedn import FaceDetections

# Frames that a window owns. All windows own as many, also while a video is still coming in, so that what comes out
# early is the same to the last bit. Twice as many would save a few percent of the time, and come seconds later.
OWN_FRAMES = 512


@dataclass(frozen=True)
class FacePiece:
    """
    What one step of a video adds to what is known of a face.

    face_id, first_frame: as in [`FaceDetections`].
    rows: `frame` (position in the video), `confidence`, `face_size_px` and `fit` of the crops that have come, (n,).
    windows: what the windows contribute that have become complete, in order.
    owned: how many frames windows own by now, counted from `first_frame`.
    stop: one past the last frame in which the face was seen, counted likewise.
    is_last: whether the face has gone for good; then `owned` is `stop`.
    """

    face_id: int
    first_frame: int
    rows: dict[str, np.ndarray]
    windows: list[dict[str, torch.Tensor]]
    owned: int
    stop: int
    is_last: bool


def own_frames(stride: int) -> int:
    """Frames that a window owns: whole positions of a network of this stride."""
    return -(-OWN_FRAMES // stride) * stride


class PassingFace:
    """
    A face while it may be in view.

    Args:
        face_id: its number.
        first_seen: position in the video of the first frame that shows it.
        stride: `config.total_stride` of the network.
    """

    def __init__(self, face_id: int, first_seen: int, stride: int):
        self.face_id = face_id
        # Positions of the network lie at multiples of its stride in the video, however it was cut into steps.
        self.first = first_seen - first_seen % stride
        self.stop = self.first  # one past the last frame in which it was seen
        self.owned = 0  # frames, counted from `first`, that windows have owned
        self.rows: list[dict[str, np.ndarray]] = []  # of this step
        self.waiting: list[tuple[torch.Tensor, dict[str, torch.Tensor]]] = []  # frames counted from `first`, inputs

    def add(self, rows: dict[str, np.ndarray], inputs: dict[str, torch.Tensor]) -> None:
        """The next frames in which it is seen: what is known of them, `frame` being the position in the video."""
        self.rows.append(rows)
        self.stop = int(rows["frame"][-1]) + 1
        self.waiting.append((torch.from_numpy(rows["frame"] - self.first), inputs))

    def advance(self, model: FednForFacialExpressionDetection, ended: bool) -> FacePiece:
        """Run all windows that are complete; once the face has gone, all that are left."""
        config, length = model.config, self.stop - self.first
        stride, context = config.total_stride, config.context_frames
        own = own_frames(stride)
        if ended:
            windows = [w for w in plan_windows(length, own, context, stride) if w.own_start >= self.owned]
        else:
            starts = range(self.owned, length - own - context, own)
            windows = [FednWindow(max(0, at - context), at + own + context, at, at + own) for at in starts]
        found = [model.detect_window(self._inputs(window), window, length) for window in windows]
        if windows:
            self.owned = windows[-1].own_stop
        self.waiting = [item for item in self.waiting if item[0][-1] >= self.owned - context]
        rows, self.rows = self.rows, []
        rows = {name: np.concatenate([some[name] for some in rows]) for name in rows[0]} if rows else {}
        return FacePiece(self.face_id, self.first, rows, found, self.owned, length, ended)

    def _inputs(self, window: FednWindow) -> dict[str, torch.Tensor]:
        """The frames of a window, (1, frames, ...), empty where the face cannot be seen."""
        size = window.stop - window.start
        mask = torch.zeros(size, dtype=torch.bool)
        inputs = {name: values.new_zeros(size, *values.shape[1:]) for name, values in self.waiting[0][1].items()}
        for frames, values in self.waiting:
            inside = (frames >= window.start) & (frames < window.stop)
            at = frames[inside] - window.start
            mask[at] = True
            for name, tensor in inputs.items():
                tensor[at.to(tensor.device)] = values[name][inside.to(tensor.device)]
        return {name: values[None] for name, values in {**inputs, "frame_mask": mask}.items()}


def join(pieces: list[FacePiece]) -> FaceDetections:
    """Everything that is known of a face, from its first piece to its last."""
    last, length = pieces[-1], pieces[-1].stop
    rows = [piece.rows for piece in pieces if piece.rows]
    at = torch.from_numpy(np.concatenate([some["frame"] for some in rows]) - last.first_frame)
    coverage = {}
    for name in ("confidence", "face_size_px", "fit"):
        coverage[name] = torch.zeros(length)
        coverage[name][at] = torch.from_numpy(np.concatenate([some[name] for some in rows])).float()
    mask = torch.zeros(length, dtype=torch.bool)
    mask[at] = True
    proposals = stitch([window for piece in pieces for window in piece.windows], length)
    return FaceDetections(last.face_id, last.first_frame, proposals, mask, **coverage)


class Undecided:
    """
    What is known of a face while its video comes in, less what has been decided: only proposals that may still change,
    and the short curve that apexes are looked up in.

    Args:
        reach: how far a proposal may reach from its position in frames, `config.context_frames`.
        score_threshold: of the expressions that are wanted; proposals below it have no say in anything.
    """

    def __init__(self, reach: int, score_threshold: float):
        self.reach, self.score_threshold = reach, score_threshold
        self.open: list[dict[str, torch.Tensor]] = []
        self.curve: list[torch.Tensor] = []

    def add(self, piece: FacePiece) -> FaceDetections | None:
        """The proposals that this piece decides, and their face so far; `None` if there are none."""
        for window in piece.windows:
            self.curve += [window["intensity"]] if "intensity" in window else []
            some = {name: values for name, values in window.items() if name != "intensity"}
            scores = type_scores(stitch([some], 0)).amax(-1)
            self.open.append({name: values[scores >= self.score_threshold] for name, values in some.items()})
        if not piece.windows:
            return None
        known = {name: torch.cat([some[name] for some in self.open]) for name in self.open[0]}
        decided = torch.ones(len(known["boundaries"]), dtype=torch.bool)
        if not piece.is_last:
            decided = decided_before(known["boundaries"], piece.owned - self.reach)
        self.open = [{name: values[~decided] for name, values in known.items()}]
        if not decided.any():
            return None
        taken = {name: values[decided] for name, values in known.items()}
        if self.curve:
            self.curve = [torch.cat(self.curve)]
            taken["intensity"] = self.curve[0]
        nothing = torch.zeros(piece.owned)
        proposals = FednProposals(num_frames=torch.tensor(piece.owned), **taken)
        return FaceDetections(piece.face_id, piece.first_frame, proposals, nothing > 0, nothing, nothing, nothing)


def decided_before(boundaries: torch.Tensor, until: float) -> torch.Tensor:
    """
    Which of the intervals (P, 2) nothing that begins at `until` or later can change: those in groups, each overlapping
    the next, that end before. Suppression works along overlaps, so it never leaves a group. A group also waits for
    those before it: what is decided comes in order of time.

    Example:

    ```python
    >>> import torch
    >>> from fedn_hf.passing_fedn import decided_before

    >>> decided_before(torch.tensor([[0.0, 9.0], [8.0, 30.0], [40.0, 50.0], [60.0, 90.0], [45.0, 55.0]]), 70)
    tensor([ True,  True,  True, False,  True])
    ```
    """
    order = boundaries[:, 0].argsort()
    ends = boundaries[order, 1].cummax(0).values
    closes = ends <= until
    closes[:-1] &= ends[:-1] <= boundaries[order[1:], 0]
    count = int(closes.nonzero().max()) + 1 if closes.any() else 0
    decided = torch.zeros(len(boundaries), dtype=torch.bool)
    decided[order[:count]] = True
    return decided


__all__ = ["OWN_FRAMES", "FacePiece", "PassingFace", "Undecided", "decided_before", "join", "own_frames"]
