"""Faces that play other scripts: what moves, when, and whose."""

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from fedn_hf import FednConfig
from fedn_hf.data.cache import VideoFeatures
from fedn_hf.synthetic.behaviour import write_script
from fedn_hf.training import TrainingError
from fedn_hf.training.reenactment import reenact

FPS, SECONDS, PEOPLE = 30.0, 20, 8


@pytest.fixture(scope="module")
def taken(tmp_path_factory):
    """Rows of people whose landmarks obey their muscles in a straight line, and the folder with what they did."""
    folder = tmp_path_factory.mktemp("people")
    (folder / "truth").mkdir()
    rng = np.random.default_rng(0)
    obey = rng.normal(0, 0.01, (50, 936))
    rows = []
    for number in range(PEOPLE):
        script = write_script(number, SECONDS, FPS, "samm_lv")
        known = ("action_units", "head_rotation_deg", "gaze_deg")
        save_file({name: getattr(script, name) for name in known}, folder / "truth" / f"p{number}.safetensors")
        face = rng.uniform(0.2, 0.8, 936)
        shown = face + script.action_units.reshape(len(script.intensity), 50) @ obey
        mask = torch.ones(len(shown), dtype=torch.bool)
        mask[:7] = number != 0  # the first one comes late
        landmarks = torch.from_numpy(shown).float().unflatten(1, (468, 2)) * mask[:, None, None]
        inputs = {"landmarks": landmarks, "frame_mask": mask, "frame_features": torch.zeros(len(mask), 0)}
        features = VideoFeatures(inputs, np.arange(len(mask)), np.arange(len(mask)) / FPS)
        row = {"video_id": f"p{number}", "subject_id": f"s{number}", "fps": FPS, "num_frames": len(mask)}
        rows.append({**row, "events": [], "split": "validation" if number == 7 else "train", "features": features})
    return rows, folder, obey


def test_landmarks_do_what_the_new_script_says(taken):
    rows, folder, obey = taken
    played = reenact(rows, folder, 3, FPS)
    agreements = []
    for place, row in enumerate(played):
        corpus = ("casme_2", "casme_3", "samm_lv")[place % 3]
        script = write_script((9, place), SECONDS, FPS, corpus, person=(9, place // 3))
        events = [(e.onset_frame, e.apex_frame, e.offset_frame, e.type, e.emotion) for e in script.expressions]
        names = ("onset", "apex", "offset", "type", "emotion")
        assert [tuple(event[name] for name in names) for event in row["events"]] == events
        mask = row["features"].inputs["frame_mask"].numpy()
        moved = (script.action_units.reshape(len(mask), 50) @ obey)[mask]
        seen = row["features"].inputs["landmarks"].flatten(1).numpy()[mask]
        agreements.append(np.corrcoef((seen - seen.mean(0)).ravel(), (moved - moved.mean(0)).ravel())[0, 1])
    assert np.mean(agreements) > 0.9


def test_nobody_who_validates_plays_or_teaches_the_others(taken):
    rows, folder, _ = taken
    played = reenact(rows, folder, 1, FPS)
    assert {row["subject_id"] for row in played} == {f"s{number}" for number in range(7)}
    spoilt = [row for row in rows if row["split"] == "train"]
    alone = reenact(spoilt, folder, 1, FPS)
    assert all(
        torch.equal(a["features"].inputs["landmarks"], b["features"].inputs["landmarks"])
        for a, b in zip(played, alone, strict=True)
    )


def test_rows_can_be_trained_on(taken):
    rows, folder, _ = taken
    played = reenact(rows, folder, 2, FPS)
    assert len({row["video_id"] for row in rows + played}) == len(rows) + 14
    config = FednConfig.preset("compact", backbone_config=None, feature_size=0, num_landmarks=468)
    sequence = played[0]["features"].sequence(played[0], config)
    assert len(sequence) == SECONDS * FPS
    # The take runs forwards, then backwards: where nobody was seen, nobody is.
    assert [row["features"].inputs["frame_mask"].logical_not().nonzero()[:, 0].tolist() for row in played[:2]] == [
        [0, 1, 2, 3, 4, 5, 6],
        [593, 594, 595, 596, 597, 598, 599],
    ]
    assert (played[0]["features"].inputs["landmarks"][:7] == 0).all()


def test_a_set_without_truth_is_named(taken, tmp_path):
    with pytest.raises(TrainingError, match="p0 cannot act again: there is no"):
        reenact(taken[0], tmp_path, 1, FPS)
