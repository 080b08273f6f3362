"""What all tests share: one torch thread, fixed seeds, and where pictures and clips of faces come from."""

import functools
import os
from pathlib import Path

import av
import pytest
import torch

from tests.clips import CLIPS, make

DATA = Path(__file__).resolve().parent / "data"
SHARED = Path(os.environ.get("FEDN_SHARED", Path(__file__).resolve().parents[2] / "shared"))


@pytest.fixture(autouse=True)
def _same_every_time():
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def astronaut() -> torch.Tensor:
    """The public-domain portrait, (512, 512, 3) uint8; one face of about 120 pixels height."""
    with av.open(str(DATA / "astronaut.png")) as picture:
        return torch.from_numpy(next(picture.decode(video=0)).to_ndarray(format="rgb24"))


@pytest.fixture(scope="session")
def real_clip():
    """Path of a clip by name; clips of real people are not part of the project, so tests that need one may skip."""

    def find(name: str) -> Path:
        path = SHARED / "real_clips" / name
        if not path.exists():
            pytest.skip(f"{name} is not there: set FEDN_SHARED to the folder that holds real_clips")
        return path

    return find


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    """`clip(name)` is the path of that clip of `tests.clips.CLIPS`, made when first asked for."""
    folder = tmp_path_factory.mktemp("clips")
    return functools.cache(lambda name: str(make(folder / name, **CLIPS[name])))
