"""Look at the face crops of a video: a PNG with a row of the frames and a row of the crops below each other.

    python examples/show_crops.py interview.mp4 -o crops.png

What should be seen: the face upright, of one size, at one place, whatever the head does in the frames.
"""

import argparse

import av
import numpy as np
import torch
import torch.nn.functional as F

from fedn_hf import FednError
from fedn_hf.face_fedn import FaceCropper
from fedn_hf.video_io_fedn import VideoReader

COLUMNS, SIDE = 8, 160


def thumbnails(images: torch.Tensor) -> torch.Tensor:
    """(N, H, W, 3) uint8, fitted into squares of SIDE pixels."""
    height, width = images.shape[1:3]
    scale = SIDE / max(height, width)
    h, w = round(height * scale), round(width * scale)
    small = F.interpolate(images.permute(0, 3, 1, 2), (h, w), mode="bilinear", antialias=True)
    left, top = (SIDE - w) // 2, (SIDE - h) // 2
    return F.pad(small, (left, SIDE - w - left, top, SIDE - h - top)).permute(0, 2, 3, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video")
    parser.add_argument("-o", "--output", default="crops.png")
    parser.add_argument("--count", type=int, default=16, help="how many frames to show")
    arguments = parser.parse_args()

    # Thumbnails of every so many frames; when there are too many, every other one goes.
    kept: dict[str, dict[int, torch.Tensor]] = {"frames": {}, "crops": {}}
    every = {"frames": 1, "crops": 1}

    def keep(kind: str, first: int, images: torch.Tensor) -> None:
        for i in range(-first % every[kind], len(images), every[kind]):
            kept[kind][first + i] = thumbnails(images[i : i + 1])[0]
        while len(kept[kind]) > 32 * arguments.count:
            every[kind] *= 2
            kept[kind] = {i: image for i, image in kept[kind].items() if i % every[kind] == 0}

    def remembered(batches):
        first = 0
        for batch in batches:
            keep("frames", first, batch.frames)
            first += len(batch)
            yield batch

    for batch in FaceCropper()(remembered(VideoReader(arguments.video))):
        keep("crops", int(batch.frame[0]), batch.crops)
    both = sorted(kept["frames"].keys() & kept["crops"].keys())
    picked = [both[i] for i in np.unique(np.linspace(0, len(both) - 1, arguments.count).round().astype(int))]
    rows = []
    for start in range(0, len(picked), COLUMNS):
        columns = picked[start : start + COLUMNS]
        for kind in ("frames", "crops"):
            row = torch.zeros(COLUMNS, SIDE, SIDE, 3, dtype=torch.uint8)
            row[: len(columns)] = torch.stack([kept[kind][i] for i in columns])
            rows.append(row.permute(1, 0, 2, 3).reshape(SIDE, COLUMNS * SIDE, 3))
    av.VideoFrame.from_ndarray(torch.cat(rows).numpy(), format="rgb24").save(arguments.output)
    print(f"{arguments.output}: frames {', '.join(map(str, picked))}")


if __name__ == "__main__":
    try:
        main()
    except FednError as error:
        raise SystemExit(f"error: {error}") from None
