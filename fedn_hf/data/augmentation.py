"""Changes to training windows that leave their labels true. Each is a function of (window, generator) that gives a
new window; settings go in by name, so `functools.partial` makes what `TrainingWindows(augmentations=...)` takes.

In time: reversal, hidden frames, short clips, noise and gain of frame features (a change of speed needs frames from
beyond the window and so belongs to `windows.cut_window`). Of the face: more or less motion, and another face that
moves alike. In the picture: one and the same change for all frames of a window, because a face whose crop or light
changes from frame to frame moves where there is no expression. Only sensor noise is new in every frame. Crops are
(T, S, S, 3), uint8 or float from 0 to 255, and stay what they are.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F

from .facemesh import mirrored_landmarks
from .windows import Window

# ITU-R BT.601, as in the video processor; rows give Y, Cb, Cr of R, G, B.
_LUMA = (0.299, 0.587, 0.114)
_TO_YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
# The example tables of the JPEG standard (ITU-T T.81, annex K), for quality 50.
_LUMA_STEPS = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA_STEPS = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *[(99,) * 8] * 4,
)


def _uniform(generator: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * torch.rand((), generator=generator).item()


# --- in time ------------------------------------------------------------------------------------------------------


def reverse_time(window: Window, generator: torch.Generator, *, probability: float = 0.5) -> Window:
    """
    Play a window backwards: onset and offset change places, and the apex is mirrored.

    Expressions rise faster than they fall, so use it with care; and never on features that have a direction in time,
    such as optical flow, whose sign would have to change.

    Example:

    ```python
    >>> import torch
    >>> from fedn_hf.data.augmentation import reverse_time

    >>> labels = {"intervals": torch.tensor([[2.0, 6.0]]), "apex": torch.tensor([3.5])}
    >>> window = {"frame_features": torch.arange(10.0)[:, None], "frame_mask": torch.ones(10).bool(), "labels": labels}
    >>> turned = reverse_time(window, torch.Generator(), probability=1.0)
    >>> turned["frame_features"][:3, 0].tolist(), turned["labels"]["intervals"].tolist()
    ([9.0, 8.0, 7.0], [[4.0, 8.0]])
    >>> turned["labels"]["apex"].tolist()
    [6.5]
    ```
    """
    if _uniform(generator, 0, 1) >= probability:
        return window
    length, labels = len(window["frame_mask"]), window["labels"]
    turned = {name: values.flip(0) for name, values in window.items() if torch.is_tensor(values)}
    times = {"intervals": length - labels["intervals"].flip(1), "apex": length - labels["apex"]}
    return {**window, **turned, "labels": {**labels, **times}}


def hide_frames(window: Window, generator: torch.Generator, *, max_frames: int = 8) -> Window:
    """
    Mask a run of up to `max_frames` frames, as if the face had been lost; none, if more than half of what can be seen
    of an event would go.

    Example:

    ```python
    >>> import torch
    >>> from fedn_hf.data.augmentation import hide_frames

    >>> window = {"frame_mask": torch.ones(64).bool(), "labels": {"intervals": torch.zeros(0, 2)}}
    >>> hidden = hide_frames(window, torch.Generator().manual_seed(0), max_frames=8)
    >>> 0 <= 64 - hidden["frame_mask"].sum().item() <= 8
    True
    ```
    """
    mask = window["frame_mask"]
    size = int(torch.randint(0, min(max_frames, len(mask)) + 1, (), generator=generator))
    start = int(torch.randint(0, len(mask) - size + 1, (), generator=generator))
    hidden = mask.clone()
    hidden[start : start + size] = False
    for begin, end in window["labels"]["intervals"].tolist():
        part = slice(max(0, math.floor(begin)), max(0, math.ceil(end)))
        if hidden[part].sum() * 2 < mask[part].sum():
            return window
    return {**window, "frame_mask": hidden}


def shorten(window: Window, generator: torch.Generator, *, probability: float = 0.5, min_frames: int = 45) -> Window:
    """
    Make a short clip of a window: a run of `min_frames` frames to all of them is left, most often around an event, and
    the rest is masked, as beyond the ends of a video. An event that an end cuts, after its apex and more than a third
    of it, ends with the clip, as coders would mark it; what else the ends cut is not there.

    Example:

    ```python
    >>> import torch
    >>> from fedn_hf.data.augmentation import shorten

    >>> labels = {"intervals": torch.tensor([[20.0, 90.0]]), "apex": torch.tensor([30.0]), "visible": torch.ones(1)}
    >>> window = {"frame_features": torch.randn(128, 8), "frame_mask": torch.ones(128).bool(), "labels": labels}
    >>> short = shorten(window, torch.Generator().manual_seed(0), probability=1.0)
    >>> short["frame_mask"].nonzero()[[0, -1], 0].tolist(), short["labels"]["intervals"].tolist()
    ([21, 120], [[21.0, 90.0]])
    ```
    """
    if _uniform(generator, 0, 1) >= probability:
        return window
    mask, labels = window["frame_mask"], window["labels"]
    length, intervals = len(mask), labels["intervals"]
    size = min(length, round(math.exp(_uniform(generator, math.log(min_frames), math.log(max(min_frames, length))))))
    start = _uniform(generator, 0, length - size)
    if len(intervals) and _uniform(generator, 0, 1) < 0.85:
        event = intervals[int(torch.randint(0, len(intervals), (), generator=generator))].clamp(0, length)
        start = _uniform(generator, float(event[0]) - 0.75 * size, float(event[1]) - 0.25 * size)
    start = int(min(max(start, 0), length - size))
    inside = intervals.clamp(start, start + size)
    part = (inside[:, 1] - inside[:, 0]) / (intervals[:, 1] - intervals[:, 0])
    cut = (part > 1 / 3) & (part < 1) & (labels["visible"] == 1)
    cut &= (labels["apex"] >= start) & (labels["apex"] < start + size)  # an unknown one is neither
    left = {**labels, "intervals": torch.where(cut[:, None], inside, intervals)}
    there = cut | (inside == intervals.clamp(0, length)).all(1)  # with the window's own ends the loss deals
    run = torch.zeros_like(mask)
    run[start : start + size] = True
    return {**window, "frame_mask": mask & run, "labels": {name: values[there] for name, values in left.items()}}


def add_feature_noise(window: Window, generator: torch.Generator, *, amount: float = 0.1) -> Window:
    """
    Add white noise to `frame_features`: of each channel up to `amount` times its standard deviation in the window.

    Example:

    ```python
    >>> import torch
    >>> from fedn_hf.data.augmentation import add_feature_noise

    >>> window = {"frame_features": torch.randn(64, 8), "frame_mask": torch.ones(64).bool()}
    >>> noisy = add_feature_noise(window, torch.Generator().manual_seed(0))
    >>> (noisy["frame_features"] - window["frame_features"]).std().item() < 0.2
    True
    ```
    """
    features, mask = window["frame_features"], window["frame_mask"]
    size = _uniform(generator, 0, amount)
    spread = features[mask].std(0, correction=0) if mask.any() else features.new_zeros(features.shape[1])  # (F,)
    noise = torch.randn(features.shape, generator=generator).to(features.dtype) * spread * size
    return {**window, "frame_features": features + noise * mask[:, None]}


def change_gain(window: Window, generator: torch.Generator, *, ratio: float = 1.25) -> Window:
    """
    Multiply `frame_features` by one number between `1 / ratio` and `ratio`: of motion features, expressions that are
    stronger or weaker.

    Example:

    ```python
    >>> import torch
    >>> from fedn_hf.data.augmentation import change_gain

    >>> window = change_gain({"frame_features": torch.ones(64, 8)}, torch.Generator().manual_seed(0), ratio=1.5)
    >>> 1 / 1.5 <= window["frame_features"].unique().item() <= 1.5
    True
    ```
    """
    gain = math.exp(_uniform(generator, -math.log(ratio), math.log(ratio)))
    return {**window, "frame_features": window["frame_features"] * gain}


# --- of the face ---------------------------------------------------------------------------------------------------


def change_motion(window: Window, generator: torch.Generator, *, ratio: float = 1.25) -> Window:
    """
    Let a face move more or less: what `frame_features` of a backbone and `landmarks` differ by from their mean over
    the window is multiplied by one number between `1 / ratio` and `ratio`.

    Example:

    ```python
    >>> import torch
    >>> from fedn_hf.data.augmentation import change_motion

    >>> window = {"frame_features": torch.tensor([[1.0], [3.0]]), "frame_mask": torch.ones(2).bool()}
    >>> change_motion(window, torch.Generator().manual_seed(0), ratio=2.0)["frame_features"].mean(0).item()
    2.0
    ```
    """
    gain, mask = math.exp(_uniform(generator, -math.log(ratio), math.log(ratio))), window["frame_mask"]
    changed = {}
    for name in ("frame_features", "landmarks"):
        if name in window and mask.any():
            values = window[name]
            mean = values[mask].mean(0)
            seen = mask.view(-1, *[1] * (values.ndim - 1))
            changed[name] = torch.where(seen, mean + gain * (values - mean), values)
    return {**window, **changed}


def change_face(
    window: Window,
    generator: torch.Generator,
    *,
    stretch: float = 0.05,
    points: float = 0.01,
    features: float = 0.3,
) -> Window:
    """
    Give the motion of a window to somebody else: landmarks are stretched and sheared by some `stretch`, and every
    point is in another place by some `points` of the crop's side; of a backbone's features each channel is more or
    less by some `features` of its mean. All of it is the same in all frames, so everything moves as before.

    Example:

    ```python
    >>> import torch
    >>> from fedn_hf.data.augmentation import change_face

    >>> still = torch.rand(468, 2).expand(5, -1, -1)
    >>> window = change_face({"landmarks": still, "frame_mask": torch.ones(5).bool()}, torch.Generator())
    >>> bool((window["landmarks"] == window["landmarks"][0]).all()), bool((window["landmarks"] != still).any())
    (True, True)
    ```
    """
    mask, changed = window["frame_mask"], {}
    if "landmarks" in window:
        values = window["landmarks"]  # (T, P, 2)
        matrix = torch.eye(2) + stretch * torch.randn(2, 2, generator=generator)
        places = points * torch.randn(values.shape[1:], generator=generator)
        other = ((values - 0.5) @ matrix.T.to(values.dtype) + 0.5 + places).to(values.dtype)
        changed["landmarks"] = torch.where(mask[:, None, None], other, values)
    if "frame_features" in window and mask.any():
        values = window["frame_features"]  # (T, F)
        traits = features * torch.randn(values.shape[1], generator=generator) * values[mask].mean(0)
        changed["frame_features"] = torch.where(mask[:, None], values + traits.to(values.dtype), values)
    return {**window, **changed}


# --- in the picture -----------------------------------------------------------------------------------------------


def _with_images(window: Window, change: Callable[[torch.Tensor], torch.Tensor]) -> Window:
    """Apply a function of float pictures (T, 3, S, S), 0 to 255, to the crops; frames that are masked stay empty."""
    crops = window["crops"]
    images = change(crops.permute(0, 3, 1, 2).float()).clamp(0, 255)
    images = images * window["frame_mask"][:, None, None, None]
    images = images.round() if crops.dtype == torch.uint8 else images
    return {**window, "crops": images.permute(0, 2, 3, 1).to(crops.dtype).contiguous()}


def flip_horizontally(window: Window, generator: torch.Generator, *, probability: float = 0.5) -> Window:
    """
    Mirror the crops, and landmarks with them: FaceMesh's points change sides, so that the left eye's corner stays the
    left eye's.

    Raises:
        `ValueError`: for landmarks that are not FaceMesh's 468, and for features of a backbone: these have no mirror.

    Example:

    ```python
    >>> import torch
    >>> from fedn_hf.data.augmentation import flip_horizontally

    >>> crops = torch.arange(4, dtype=torch.uint8)[None, None, :, None].expand(2, 4, 4, 3)
    >>> window = flip_horizontally({"crops": crops}, torch.Generator(), probability=1.0)
    >>> window["crops"][0, 0, :, 0].tolist()
    [3, 2, 1, 0]
    ```
    """
    if "frame_features" in window and window["frame_features"].shape[1]:
        raise ValueError("features of a backbone cannot be mirrored; train without flip_horizontally")
    if _uniform(generator, 0, 1) >= probability:
        return window
    flipped = {**window}
    if "crops" in window:
        flipped["crops"] = window["crops"].flip(2)
    if "landmarks" in window:
        points = window["landmarks"]  # (T, P, 2)
        if points.shape[1] != 468:
            raise ValueError(f"only FaceMesh's 468 landmarks can be mirrored, got {points.shape[1]}")
        points = points[:, mirrored_landmarks()]
        mirrored = torch.stack((1 - points[..., 0], points[..., 1]), -1)
        flipped["landmarks"] = torch.where(window["frame_mask"][:, None, None], mirrored, points)
    return flipped


def shift_crops(
    window: Window, generator: torch.Generator, *, shift: float = 0.05, zoom: float = 1.05, turn_deg: float = 3.0
) -> Window:
    """
    Move, scale and turn the crops as a face that was found a little elsewhere: by up to `shift` of the side, a factor
    between `1 / zoom` and `zoom`, and `turn_deg` degrees. Landmarks move along; edges are continued outwards.

    Example:

    ```python
    >>> import torch
    >>> from fedn_hf.data.augmentation import shift_crops

    >>> window = {"crops": torch.randint(0, 256, (4, 32, 32, 3)).byte(), "frame_mask": torch.ones(4).bool()}
    >>> shift_crops(window, torch.Generator().manual_seed(0))["crops"].shape
    torch.Size([4, 32, 32, 3])
    ```
    """
    x, y = (_uniform(generator, -shift, shift) for _ in range(2))
    scale = math.exp(_uniform(generator, -math.log(zoom), math.log(zoom)))
    angle = math.radians(_uniform(generator, -turn_deg, turn_deg))
    a, b = scale * math.cos(angle), scale * math.sin(angle)
    move = torch.tensor([[a, -b], [b, a]], dtype=torch.float64)  # about the crop's centre
    by = torch.tensor([x, y], dtype=torch.float64)
    back = torch.linalg.inv(move)
    # From -1 to 1 over the crop, as grid_sample counts: twice as large as parts of the side.
    matrix = torch.cat([back, -2 * (back @ by)[:, None]], 1).float()  # (2, 3)

    def sample(images: torch.Tensor) -> torch.Tensor:
        grid = F.affine_grid(matrix[None], (1, *images.shape[1:]), align_corners=False)
        grid = grid.expand(len(images), -1, -1, -1)
        return F.grid_sample(images, grid, padding_mode="border", align_corners=False)

    shifted = _with_images(window, sample)
    if "landmarks" in window:
        points = window["landmarks"]
        moved = ((points.double() - 0.5) @ move.T + 0.5 + by).to(points.dtype)
        shifted["landmarks"] = torch.where(window["frame_mask"][:, None, None], moved, points)
    return shifted


def change_colour(
    window: Window,
    generator: torch.Generator,
    *,
    brightness: float = 0.2,
    contrast: float = 0.2,
    saturation: float = 0.2,
) -> Window:
    """
    Another lamp and another camera: brightness, contrast (about the window's mean) and saturation each times a number
    between 1 minus and 1 plus the given amount.

    Example:

    ```python
    >>> import torch
    >>> from fedn_hf.data.augmentation import change_colour

    >>> window = {"crops": torch.full((4, 8, 8, 3), 100).byte(), "frame_mask": torch.ones(4).bool()}
    >>> change_colour(window, torch.Generator().manual_seed(0))["crops"].unique().numel()
    1
    ```
    """
    light, depth, colour = (1 + _uniform(generator, -size, size) for size in (brightness, contrast, saturation))
    mask = window["frame_mask"]

    def change(images: torch.Tensor) -> torch.Tensor:
        grey = (images * images.new_tensor(_LUMA)[:, None, None]).sum(1, keepdim=True)  # (T, 1, S, S)
        mean = grey[mask].mean() if mask.any() else 0.0
        images = grey + (images - grey) * colour
        return ((images - mean) * depth + mean) * light

    return _with_images(window, change)


def blur(window: Window, generator: torch.Generator, *, max_sigma_px: float = 1.0) -> Window:
    """
    Blur with a Gaussian of up to `max_sigma_px` pixels.

    Example:

    ```python
    >>> import torch
    >>> from fedn_hf.data.augmentation import blur

    >>> window = {"crops": torch.randint(0, 256, (4, 32, 32, 3)).byte(), "frame_mask": torch.ones(4).bool()}
    >>> blurred = blur(window, torch.Generator().manual_seed(0), max_sigma_px=2.0)
    >>> (blurred["crops"].float().std() < window["crops"].float().std()).item()
    True
    ```
    """
    sigma = max(_uniform(generator, 0, max_sigma_px), 1e-3)
    radius = max(1, math.ceil(3 * sigma))
    kernel = torch.exp(-(torch.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()

    def smooth(images: torch.Tensor) -> torch.Tensor:
        images = F.pad(images, (radius,) * 4, mode="replicate")
        images = F.conv2d(images, kernel.expand(3, 1, 1, -1), groups=3)
        return F.conv2d(images, kernel[:, None].expand(3, 1, -1, -1), groups=3)

    return _with_images(window, smooth)


def add_pixel_noise(window: Window, generator: torch.Generator, *, max_std: float = 4.0) -> Window:
    """
    Sensor noise, new in every frame: white, of a standard deviation of up to `max_std` grey levels of 256.

    Example:

    ```python
    >>> import torch
    >>> from fedn_hf.data.augmentation import add_pixel_noise

    >>> window = {"crops": torch.full((4, 8, 8, 3), 100).byte(), "frame_mask": torch.ones(4).bool()}
    >>> add_pixel_noise(window, torch.Generator().manual_seed(0))["crops"].unique().numel() > 1
    True
    ```
    """
    std = _uniform(generator, 0, max_std)
    return _with_images(window, lambda images: images + torch.randn(images.shape, generator=generator) * std)


def compress(window: Window, generator: torch.Generator, *, min_quality: int = 30, max_quality: int = 95) -> Window:
    """
    What JPEG and intra-coded video do to a picture: cosine transform of blocks of 8 pixels, rounded to the steps of
    the JPEG standard at a quality (1 to 100) drawn from the given range. Chroma keeps its resolution.

    Example:

    ```python
    >>> import torch
    >>> from fedn_hf.data.augmentation import compress

    >>> window = {"crops": torch.randint(0, 256, (4, 32, 32, 3)).byte(), "frame_mask": torch.ones(4).bool()}
    >>> coarse = compress(window, torch.Generator(), min_quality=5, max_quality=5)
    >>> (coarse["crops"] != window["crops"]).any().item()
    True
    ```
    """
    quality = _uniform(generator, min_quality, max_quality)
    percent = 5000 / quality if quality < 50 else 200 - 2 * quality
    tables = torch.tensor((_LUMA_STEPS, _CHROMA_STEPS, _CHROMA_STEPS), dtype=torch.float32)  # (3, 8, 8)
    steps = ((tables * percent + 50) / 100).floor().clamp(1, 255)
    position = torch.arange(8) + 0.5
    dct = torch.cos(torch.pi / 8 * torch.arange(8)[:, None] * position) / 2  # (8, 8), frequencies in rows
    dct[0] /= math.sqrt(2)
    to_ycbcr = torch.tensor(_TO_YCBCR)

    def code(images: torch.Tensor) -> torch.Tensor:
        height, width = images.shape[2:]
        images = F.pad(images, (0, -width % 8, 0, -height % 8), mode="replicate")
        ycbcr = torch.einsum("ij,njhw->nihw", to_ycbcr, images - 128)
        blocks = ycbcr.unflatten(3, (-1, 8)).unflatten(2, (-1, 8)).transpose(3, 4)  # (T, 3, h, w, 8, 8)
        table = steps[:, None, None]
        blocks = dct.T @ ((dct @ blocks @ dct.T / table).round() * table) @ dct
        ycbcr = blocks.transpose(3, 4).flatten(4, 5).flatten(2, 3)
        return (torch.einsum("ij,njhw->nihw", torch.linalg.inv(to_ycbcr), ycbcr) + 128)[..., :height, :width]

    return _with_images(window, code)


__all__ = [
    "add_feature_noise",
    "add_pixel_noise",
    "blur",
    "change_colour",
    "change_face",
    "change_gain",
    "change_motion",
    "compress",
    "flip_horizontally",
    "hide_frames",
    "reverse_time",
    "shift_crops",
    "shorten",
]
