"""Precomputed features, in every kind of file, are joined with the events of the sheets."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from dataset_scripts.casme_2 import CasMe2
from dataset_scripts.casme_3 import CasMe3
from dataset_scripts.features import load_features
from dataset_scripts.folder_csv import FolderCsv
from dataset_scripts.quirks import CorpusError
from tests import corpora
from tests.conftest import SHARED

ARRAYS = {
    "casme_015_0401": np.arange(9 * 3 * 2, dtype=np.float32).reshape(9, 3, 2),
    "casme_015_0503": np.ones((4, 3, 2), np.float32),
}


@pytest.fixture(scope="module")
def sheets(tmp_path_factory):
    return str(corpora.casme_2(tmp_path_factory.mktemp("casme_2")))


def write(path, arrays):
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    elif path.suffix == ".safetensors":
        save_file(arrays, path)
    elif path.suffix == ".parquet":
        rows = {"video_id": list(arrays), "features": [array.tolist() for array in arrays.values()]}
        pq.write_table(pa.table(rows), path)
    else:
        path.mkdir()
        for name, array in arrays.items():
            np.save(path / name, array)
    return path


@pytest.mark.parametrize("name", ["f.npz", "f.safetensors", "f.parquet", "folder"])
def test_joined_with_events(sheets, tmp_path, name):
    builder = CasMe2(data_dir=sheets)
    videos = load_features(write(tmp_path / name, ARRAYS), builder)
    assert list(videos["video_id"]) == ["s15_0401", "s15_0503"] and list(videos["num_frames"]) == [9, 4]
    for row, array in zip(videos, ARRAYS.values(), strict=True):
        assert row["features"].dtype == np.float32 and np.array_equal(row["features"], array)
    frames = [(event["onset"], event["apex"], event["offset"]) for event in videos[0]["events"]]
    assert frames == [(2, 4, 8), (7, 8, 8)]  # features are one fewer than frames here
    assert videos[1]["events"] == [] and videos.features["events"].feature["emotion"].names[0] == "positive"
    assert builder.quirks.met["video_missing"] == [
        f"{video}: 1 events" for video in ("s15_0502", "s23_0101", "s23_0502")
    ]


def test_names_of_other_corpora(tmp_path):
    array = {"spNO.3_j": np.zeros((8, 5), np.float32)}
    three = CasMe3(data_dir=str(corpora.casme_3(tmp_path / "3")), scheme="emotion_7")
    (row,) = load_features(write(tmp_path / "f.npz", array), three)
    assert (row["video_id"], row["features"].shape, row["events"][0]["onset"]) == ("spNO.3_j", (8, 5), 1)
    own = FolderCsv(data_dir=str(corpora.folder_csv(tmp_path / "own")), fps=25.0)
    (row,) = load_features(write(tmp_path / "g.npz", {"anna_interview": np.zeros((10, 5))}), own)
    assert (row["subject_id"], row["fps"], row["events"][0]["onset"]) == ("anna", 25.0, 2)


def test_what_cannot_be_joined(sheets, tmp_path):
    builder = CasMe2(data_dir=sheets)
    two = {"casme_015_0401": np.zeros((4, 3)), "casme_015_0503": np.zeros((4, 2))}
    for path, words in (
        (tmp_path / "none.npz", "no such file"),
        (write(tmp_path / "a.npz", {"holiday": np.zeros((4, 3))}), "'holiday' names no video of this corpus"),
        (write(tmp_path / "b.npz", two), "agree in all but T"),
        (write(tmp_path / "c.npz", {"15_0401": np.zeros((2, 2)), "s15_0401": np.zeros((2, 2))}), "for a second time"),
        (write(tmp_path / "d.npz", {"15_0401": np.array([object()])}), "could not be read"),
        (write(tmp_path / "e.npz", {}), "holds no arrays"),
    ):
        with pytest.raises(CorpusError, match=words):
            load_features(path, builder)
    (tmp_path / "f.pt").touch()
    with pytest.raises(CorpusError, match=r"expected \.npz, \.safetensors, \.parquet or a folder"):
        load_features(tmp_path / "f.pt", builder)


def test_the_real_features_of_casme_2():
    features = SHARED / "corpora" / "features" / "casme2_mdmo12.npz"
    if not features.exists():
        pytest.skip("casme2_mdmo12.npz is not there: set FEDN_SHARED to the folder above corpora")
    builder = CasMe2(data_dir=str(SHARED / "corpora" / "annotations"))
    videos = load_features(features, builder)
    assert len(videos) == 97 and sum(videos["num_frames"]) == 251_724 and sum(map(len, videos["events"])) == 357
    assert videos[0]["features"].shape == (2051, 12, 2) and len(set(videos["subject_id"])) == 22
    assert "offset_past_end" not in builder.quirks.counts() and "video_missing" not in builder.quirks.counts()
