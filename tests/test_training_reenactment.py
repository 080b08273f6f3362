"""Faces that play other scripts: what moves, when, and whose."""

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from fedn_hf import FednConfig
from fedn_hf.data.cache import VideoFeatures
from fedn_hf.layers_fedn import LANDMARK_MOTION_SCALE
from fedn_hf.synthetic.behaviour import write_script
from fedn_hf.training import Recipe, TrainingError
from fedn_hf.training.inputs import LANDMARK_READER, make_model
from fedn_hf.training.reenactment import fit_landmark_reader, reenact

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


def test_who_is_kept_for_testing_does_not_train_by_another_script(taken):
    rows, folder, _ = taken
    kept = [{**row, "split": "test"} if row["subject_id"] == "s3" else row for row in rows]
    assert {row["subject_id"] for row in reenact(kept, folder, 1, FPS) if row["split"] == "test"} == {"s3"}


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


# --- reading muscles of landmarks ---------------------------------------------------------------------------------


def test_muscles_are_read_that_nobody_taught_with(taken):
    rows, folder, _ = taken
    config = FednConfig.preset("compact", backbone_config=None, feature_size=0, num_landmarks=468)
    reader = fit_landmark_reader(rows, folder, 6, config).numpy()
    held_out = rows[7]
    assert held_out["split"] == "validation"
    truth = load_file(folder / "truth" / "p7.safetensors")["action_units"].reshape(-1, 50)
    points = held_out["features"].inputs["landmarks"].flatten(1).numpy()
    read = LANDMARK_MOTION_SCALE * (points - points.mean(0)) @ reader.T
    moved = truth.std(0) > 0.02
    assert moved.sum() > 5
    agreement = [np.corrcoef(read[:, unit], truth[:, unit])[0, 1] for unit in np.flatnonzero(moved)]
    assert np.median(agreement) > 0.9


def recipe(**values) -> Recipe:
    model = {"preset": "compact", "backbone_config": None, "feature_size": 0, "num_landmarks": 468}
    return Recipe.from_dict({"model": {**model, **values.pop("model", {})}, **values})


def test_a_new_network_reads_as_the_package_does_and_keeps_to_it():
    known = torch.from_numpy(load_file(LANDMARK_READER)["weight"])
    for frozen in (True, False):
        network = recipe(model={"freeze_backbone": frozen})
        layer = make_model(network.config(["a"]), network).fedn.embedding.landmark_reader
        assert torch.equal(layer.weight, known) and layer.weight.requires_grad is not frozen


def test_other_landmarks_are_learnt_to_be_read():
    network = recipe(model={"num_landmarks": 68})
    layer = make_model(network.config(["a"]), network).fedn.embedding.landmark_reader
    assert layer.weight.shape == (55, 136) and layer.weight.requires_grad


def test_a_reader_that_is_none_is_named(tmp_path):
    save_file({"weight": np.zeros((55, 10), np.float32)}, tmp_path / "small.safetensors")
    for name in ("small.safetensors", "missing.safetensors"):
        network = recipe(landmark_reader=str(tmp_path / name))
        with pytest.raises(
            TrainingError, match=rf"recipe.landmark_reader: .*{name} has no weight of shape \(55, 936\)"
        ):
            make_model(network.config(["a"]), network)
