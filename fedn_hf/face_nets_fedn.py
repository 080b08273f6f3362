"""The three face networks in plain torch: BlazeFace (short and full range) finds faces, FaceMesh places 468 landmarks.

Architectures and weights are MediaPipe's (Bazarevsky et al., BlazeFace, arXiv 1907.05047; Kartynnik et al., Real-time
Facial Surface Geometry from Monocular Video on Mobile GPUs, arXiv 1907.06724), converted without loss to fp16
safetensors by `examples/convert_face_nets.py`. Everything here takes and gives tensors; which frames to look at, and
what to do with the answers, is decided in `face_fedn.py`.

Pixel coordinates are continuous: pixel (column i, row j) covers the square [i, i + 1) x [j, j + 1) and has its centre
at (i + 0.5, j + 0.5).
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import nn

from .media_fedn import FednError

# In a model repository the file lies beside the code; `FednVideoProcessor.from_pretrained` finds it there.
FACE_NETS = Path(__file__).resolve().parent / "weights" / "face_nets.safetensors"


def _conv(
    in_channels: int, out_channels: int, kernel_size: int = 1, stride: int = 1, groups: int = 1, padding: int = 0
) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups)


class _Depthwise(nn.Conv2d):
    """3 x 3 depthwise convolution with TensorFlow's "same" padding (at stride 2 all of it lies right and below)."""

    def __init__(self, channels: int, stride: int):
        super().__init__(channels, channels, 3, stride, 1 if stride == 1 else 0, groups=channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x if self.stride[0] == 1 else F.pad(x, (0, 1, 0, 1)))


class BlazeBlock(nn.Module):
    """Residual block of depthwise-separable convolutions: (B, C, H, W) -> (B, C', H / stride, W / stride).

    With `bottleneck` it is the double block (squeeze to that many channels, then expand); `prelu` picks FaceMesh's
    activation. The short cut is max-pooled and padded with zero channels where shapes differ.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int = 1, bottleneck: int | None = None, prelu: bool = False
    ):
        super().__init__()
        self.stride = stride
        self.extra_channels = out_channels - in_channels
        layers = [_Depthwise(in_channels, stride)]
        if bottleneck is not None:
            layers += [_conv(in_channels, bottleneck), nn.ReLU(), _Depthwise(bottleneck, 1)]
        layers.append(_conv(bottleneck or in_channels, out_channels))
        self.convs = nn.Sequential(*layers)
        self.act = nn.PReLU(out_channels) if prelu else nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in, H, W) to (B, out, H / stride, W / stride)."""
        short_cut = F.max_pool2d(x, 2) if self.stride == 2 else x
        if self.extra_channels:
            short_cut = F.pad(short_cut, (0, 0, 0, 0, 0, self.extra_channels))
        return self.act(self.convs(x) + short_cut)


def _per_anchor(x: torch.Tensor, values: int) -> torch.Tensor:
    """(B, anchors * values, H, W) -> (B, H * W * anchors, values), anchors of a cell side by side."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, values)


class BlazeFaceShortRange(nn.Module):
    """BlazeFace for faces that fill a good part of the picture (within about two metres of the camera).

    Input (B, 3, 128, 128) in [-1, 1]; output regressors (B, 896, 16) in input pixels relative to `anchors`, and
    logits (B, 896).
    """

    input_size = 128

    def __init__(self):
        super().__init__()
        self.stem = _conv(3, 24, 5, 2)
        widths = [24, 28, 32, 36, 42, 48, 56, 64, 72, 80, 88]
        self.fine = nn.Sequential(
            *[
                BlazeBlock(c_in, c_out, stride=2 if c_out in (32, 48) else 1)
                for c_in, c_out in zip([24, *widths], widths, strict=False)
            ]
        )  # 128 px -> 16 x 16
        self.coarse = nn.Sequential(BlazeBlock(88, 96, 2), *[BlazeBlock(96, 96) for _ in range(4)])  # -> 8 x 8
        self.fine_scores, self.coarse_scores = _conv(88, 2), _conv(96, 6)
        self.fine_boxes, self.coarse_boxes = _conv(88, 32), _conv(96, 96)
        self.register_buffer("anchors", torch.cat([_grid(16, 2), _grid(8, 6)]), persistent=False)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 3, 128, 128) to regressors (B, 896, 16) and logits (B, 896)."""
        fine = self.fine(F.relu(self.stem(F.pad(x, (1, 2, 1, 2)))))
        coarse = self.coarse(fine)
        boxes = [_per_anchor(self.fine_boxes(fine), 16), _per_anchor(self.coarse_boxes(coarse), 16)]
        scores = [_per_anchor(self.fine_scores(fine), 1), _per_anchor(self.coarse_scores(coarse), 1)]
        return torch.cat(boxes, 1), torch.cat(scores, 1)[..., 0]


class BlazeFaceFullRange(nn.Module):
    """BlazeFace for smaller faces (within about five metres): dense anchors on a feature pyramid.

    Input (B, 3, 192, 192) in [-1, 1]; output regressors (B, 2304, 16) in input pixels, and logits (B, 2304).
    """

    input_size = 192

    def __init__(self):
        super().__init__()

        def blocks(*spec: tuple[int, int, int, int]) -> nn.Sequential:
            return nn.Sequential(*[BlazeBlock(i, o, stride, squeezed) for i, o, stride, squeezed in spec])

        self.stem = _conv(3, 32, 3, 2)
        self.stage1 = blocks((32, 32, 1, 8), (32, 32, 1, 8), (32, 48, 2, 12), (48, 48, 1, 12), (48, 64, 1, 16))
        self.stage2 = blocks((64, 96, 2, 24), (96, 128, 1, 32), (128, 128, 1, 32))
        self.stage3 = blocks((128, 144, 2, 36), (144, 192, 1, 48), (192, 256, 1, 64))
        self.stage4 = blocks((256, 384, 2, 96), *[(384, 384, 1, 96)] * 3)
        self.reduce = nn.ModuleList([_conv(384, 96), _conv(96, 64), _conv(64, 48)])
        self.lateral = nn.ModuleList([_conv(256, 96), _conv(128, 64), _conv(64, 48)])
        self.merge = nn.ModuleList(
            [
                blocks((96, 96, 1, 48), (96, 96, 1, 48)),
                blocks((64, 64, 1, 32), (64, 64, 1, 32)),
                blocks((48, 48, 1, 24)),
            ]
        )
        self.scores, self.boxes = _conv(48, 1), _conv(48, 16)
        self.register_buffer("anchors", _grid(48, 1), persistent=False)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 3, 192, 192) to regressors (B, 2304, 16) and logits (B, 2304)."""
        c1 = self.stage1(F.relu(self.stem(F.pad(x, (0, 1, 0, 1)))))  # 48 x 48
        c2 = self.stage2(c1)
        c3 = self.stage3(c2)
        y = self.stage4(c3)  # 6 x 6
        for reduce, lateral, merge, skip in zip(self.reduce, self.lateral, self.merge, (c3, c2, c1), strict=True):
            y = F.interpolate(F.relu(reduce(y)), scale_factor=2, mode="bilinear", align_corners=False)
            y = merge(y + F.relu(lateral(skip)))
        return _per_anchor(self.boxes(y), 16), _per_anchor(self.scores(y), 1)[..., 0]


class FaceMesh(nn.Module):
    """468 landmarks and a face-presence logit of an upright face crop.

    Input (B, 3, 192, 192) in [0, 1]; output landmarks (B, 468, 3) in input pixels (x, y, and a relative depth) and
    presence logits (B,).
    """

    input_size = 192

    def __init__(self):
        super().__init__()

        def stage(c_in: int, c_out: int, stride: int = 2, repeats: int = 2) -> list[BlazeBlock]:
            return [
                BlazeBlock(c_in, c_out, stride, prelu=True),
                *[BlazeBlock(c_out, c_out, prelu=True) for _ in range(repeats)],
            ]

        def head(outputs: int, stride: int) -> nn.Sequential:
            return nn.Sequential(
                BlazeBlock(128, 128, stride, prelu=True),
                _conv(128, 32),
                nn.PReLU(32),
                BlazeBlock(32, 32, prelu=True),
                _conv(32, outputs, 3),
            )

        self.stem = nn.Sequential(_conv(3, 16, 3, 2), nn.PReLU(16))
        trunk = [*stage(16, 16, 1, 1), *stage(16, 32), *stage(32, 64), *stage(64, 128), *stage(128, 128)]
        self.trunk = nn.Sequential(*trunk)  # 6 x 6
        self.mesh_trunk = nn.Sequential(*stage(128, 128, 2, 1))
        self.presence, self.mesh = head(1, 2), head(468 * 3, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 3, 192, 192) to points (B, 468, 3) in input pixels and logits of presence (B,)."""
        x = self.trunk(self.stem(F.pad(x, (0, 1, 0, 1))))
        return self.mesh(self.mesh_trunk(x)).reshape(-1, 468, 3), self.presence(x).reshape(-1)


def _grid(cells: int, repeats: int) -> torch.Tensor:
    """Centres (cells * cells * repeats, 2) of a square grid over the unit square, row by row, x first."""
    centres = (torch.arange(cells, dtype=torch.float32) + 0.5) / cells
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    return torch.stack([x, y], -1).reshape(-1, 2).repeat_interleave(repeats, 0)


_NETS = {
    "blazeface_short_range": BlazeFaceShortRange,
    "blazeface_full_range": BlazeFaceFullRange,
    "facemesh468": FaceMesh,
}


def load_face_net(name: str, device: str | torch.device = "cpu", weights: str | Path = FACE_NETS) -> nn.Module:
    """One of "blazeface_short_range", "blazeface_full_range" or "facemesh468", in float32 and evaluation mode.

    Args:
        name: which network.
        device: where it runs.
        weights: safetensors file that holds all three.

    Raises:
        FednError: no such file, or one that does not fit the network.

    Example:
        >>> mesh = load_face_net("facemesh468")
        >>> landmarks, presence = mesh(torch.zeros(1, 3, 192, 192))
        >>> landmarks.shape
        torch.Size([1, 468, 3])
    """
    if name not in _NETS:
        raise ValueError(f"unknown face network {name!r}; expected one of {', '.join(_NETS)}")
    if not Path(weights).is_file():
        raise FednError(
            f"{weights}: the face networks' weights are missing; reinstall fedn_hf, or download the whole checkpoint"
        )
    net = _NETS[name]()
    try:
        with safe_open(weights, "pt") as file:
            mine = [key for key in file.keys() if key.startswith(f"{name}.")]  # noqa: SIM118 (it is not a dict)
            net.load_state_dict({key.removeprefix(f"{name}."): file.get_tensor(key).float() for key in mine})
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise FednError(f"{weights}: not the weights of {name} ({reason}); download the checkpoint again") from error
    return net.requires_grad_(False).eval().to(device, memory_format=torch.channels_last)


__all__ = ["FACE_NETS", "BlazeBlock", "BlazeFaceFullRange", "BlazeFaceShortRange", "FaceMesh", "load_face_net"]
