"""Make fedn_hf/assets/demo.mp4: a few seconds slowly panned over a public-domain portrait.

    python examples/make_demo_clip.py

The portrait (NASA, public domain) is still, so there is a face to follow and no expression to find.
"""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
import torch.nn.functional as F

ROOT = Path(__file__).resolve().parent.parent
FPS, SECONDS, WIDTH, HEIGHT = 30, 5, 480, 360


def main() -> None:
    with av.open(str(ROOT / "tests/data/astronaut.png")) as picture:
        portrait = next(picture.decode(video=0)).to_ndarray(format="rgb24")
    image = torch.from_numpy(portrait).permute(2, 0, 1)[None].float()
    with av.open(str(ROOT / "fedn_hf/assets/demo.mp4"), "w", options={"movflags": "faststart"}) as clip:
        stream = clip.add_stream("h264", rate=FPS, options={"crf": "23", "preset": "slow"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for i in range(FPS * SECONDS):
            phase = 2 * np.pi * i / (FPS * SECONDS)
            # The view: centre and half width in the picture's -1 to 1, moving in a slow ellipse and zooming a little.
            half = 0.62 + 0.04 * np.sin(phase)
            x, y = -0.12 + 0.08 * np.cos(phase), -0.42 + 0.06 * np.sin(phase)
            theta = torch.tensor([[[half, 0, x], [0, half * HEIGHT / WIDTH, y]]], dtype=torch.float32)
            grid = F.affine_grid(theta, (1, 3, HEIGHT, WIDTH), align_corners=False)
            view = F.grid_sample(image, grid, mode="bicubic", padding_mode="border", align_corners=False)
            rgb = view[0].permute(1, 2, 0).clamp(0, 255).round().to(torch.uint8).numpy()
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, FPS)
            clip.mux(stream.encode(frame))
        clip.mux(stream.encode(None))


if __name__ == "__main__":
    main()
