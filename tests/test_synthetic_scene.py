"""Head, person, camera and scene: what moves what, and that a frame depends on nothing but its number."""

import dataclasses
import os

import numpy as np
import pytest

pytest.importorskip("numba", reason="synthetic videos need numba: pip install 'fedn_hf[synthetic]'")

from fedn_hf.media_fedn import FednError
from fedn_hf.synthetic import appearance, facs
from fedn_hf.synthetic.appearance import Canvas, Subject
from fedn_hf.synthetic.behaviour import write_script
from fedn_hf.synthetic.camera import Camera
from fedn_hf.synthetic.face_model import ACTION_UNITS, ENVIRONMENT, FACE, FaceModel, convert
from fedn_hf.synthetic.paint import linear
from fedn_hf.synthetic.scene import Scene, rotation
from fedn_hf.synthetic.surroundings import Surroundings
from tests.conftest import SHARED

SIZE = 96


@pytest.fixture(scope="session")
def toy() -> Canvas:
    return Canvas(FaceModel.tiny())


@pytest.fixture(scope="session")
def real_model() -> FaceModel:
    path = os.environ.get(ENVIRONMENT) or SHARED / "face_model" / "ict_facekit_fp16.npz"
    if not os.path.exists(path):
        pytest.skip(f"the face model is not there: set {ENVIRONMENT} to its file")
    return FaceModel.load(path)


def still_script(**changes):
    """Two seconds in which nothing moves, with these changes."""
    script = write_script(0, 2, 30.0)
    still = {name: np.zeros_like(getattr(script, name)) for name in ("action_units", "head_rotation_deg")}
    still |= {"head_shift_cm": np.zeros_like(script.head_shift_cm), "gaze_deg": np.zeros_like(script.gaze_deg)}
    still |= {"light_gain": np.ones_like(script.light_gain), "occluder_cm": np.full_like(script.occluder_cm, np.nan)}
    return dataclasses.replace(script, **{**still, **changes})


def perfect_camera(**changes) -> Camera:
    quiet = dict(
        shot=0.0, read=0.0, drift=0.0, tint=0.0, flicker=0.0, shake_px=0.0, readout=0.0, shutter=0.0, grey=False
    )
    return dataclasses.replace(Camera.draw(3, SIZE, 30.0), **{**quiet, **changes})


def scene_of(canvas, script, camera=None, person=1) -> Scene:
    return Scene(canvas, Subject.draw(canvas, person), Surroundings.draw(2, SIZE), camera or perfect_camera(), script)


def skin_at(model, place) -> int:
    """The vertex of the skin that is nearest to a place."""
    return int(np.where(model.part == FACE, np.linalg.norm(model.vertices - place, axis=1), np.inf).argmin())


def units(script, frame, **values):
    array = np.zeros_like(script.action_units)
    for name, value in values.items():
        array[frame, facs.COLUMN[int(name[2:])]] = value
    return array


# --- the head --------------------------------------------------------------------------------------------------------


def test_script_and_head_name_the_same_action_units():
    assert tuple(ACTION_UNITS) == facs.ACTION_UNITS


def test_every_action_unit_moves_its_side(real_model):
    x = real_model.vertices[:, 0]
    for number, mixture in ACTION_UNITS.items():
        left, right = (np.abs(real_model.action_unit(number, side)).max(axis=1) for side in ("left", "right"))
        assert left.max() > 0.1 and right.max() > 0.1, f"AU{number} moves by less than a millimetre"
        if all(name.endswith("_") for name in mixture):
            assert left[x > 2].sum() > 3 * left[x < -2].sum() and right[x < -2].sum() > 3 * right[x > 2].sum()


def test_known_muscles_pull_where_they_should(real_model):
    def moved(number, at):
        return real_model.action_unit(number, "left")[skin_at(real_model, at)]

    assert moved(12, (2.5, -3.5, 10.2))[1] > 0.3  # the corner of the mouth goes up
    assert moved(15, (2.5, -3.5, 10.2))[1] < -0.2
    assert moved(1, (1.2, 5.9, 10.7))[1] > 0.2 and moved(4, (1.2, 5.9, 10.7))[1] < -0.1
    assert moved(45, (3.3, 3.9, 9.5))[1] < -0.5


def test_a_saved_model_is_the_same(tmp_path):
    model = FaceModel.tiny()
    model.save(tmp_path / "toy.npz")
    again = FaceModel.load(tmp_path / "toy.npz")
    assert np.array_equal(again.vertices, model.vertices) and np.array_equal(again.triangles, model.triangles)
    assert again.shape_names == model.shape_names


def test_without_a_model_the_error_says_where_it_is_published(tmp_path, monkeypatch):
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    with pytest.raises(FednError, match=r"ICT-FaceKit.*MIT licence.*ICT-VGL/ICT-FaceKit.*fedn synth face-model"):
        FaceModel.load()
    with pytest.raises(FednError, match="no such file"):
        FaceModel.load(tmp_path / "absent.npz")
    (tmp_path / "text.npz").write_text("not an archive")
    with pytest.raises(FednError, match=r"text\.npz: not a face model"):
        FaceModel.load(tmp_path / "text.npz")
    model = FaceModel.tiny()
    dataclasses.replace(model, shape_names=("other", *model.shape_names[1:])).save(tmp_path / "other.npz")
    with pytest.raises(FednError, match=r"other\.npz: the shapes \w+ are missing"):
        FaceModel.load(tmp_path / "other.npz")


def test_a_checkout_of_obj_files_is_converted(tmp_path):
    folder = tmp_path / "checkout" / "FaceXModel"
    folder.mkdir(parents=True)
    square = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\nf 1/1 2/2 3/3 4/4\n"
    (folder / "generic_neutral_mesh.obj").write_text(square)
    (folder / "identity000.obj").write_text(square.replace("v 1 1 0", "v 1.5 1 0"))
    (folder / "jawOpen.obj").write_text(square.replace("v 0 0 0", "v 0 -1 0"))
    convert(tmp_path / "checkout", tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as made:
        assert made["tri"].tolist() == made["tri_uv"].tolist() == [[0, 1, 2], [0, 2, 3]]
        assert made["expr_names"].tolist() == ["jawOpen"] and made["expr"][0, 0].tolist() == [0, -1, 0]
        assert made["identity"][0, 2].tolist() == [0.5, 0, 0]
    (folder / "jawOpen.obj").write_text("v 0 0 0\n")
    with pytest.raises(FednError, match=r"jawOpen\.obj: 1 vertices, but 4"):
        convert(tmp_path / "checkout", tmp_path / "out.npz")
    with pytest.raises(FednError, match="there is no FaceXModel"):
        convert(tmp_path, tmp_path / "out.npz")


# --- the person and the room -----------------------------------------------------------------------------------------


def test_a_person_is_the_same_for_the_same_seed_and_another_for_another(toy):
    first, again, other = (Subject.draw(toy, seed) for seed in (5, 5, 6))
    for name in ("rest", "atlas", "creases", "shadow", "triangles"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
    assert first.traits == again.traits != other.traits
    assert first.atlas.dtype == first.creases.dtype == np.uint8
    assert np.isfinite(first.shadow).all() and first.open_sky.min() >= 0 and first.open_sky.max() <= 1


def test_people_are_of_all_kinds():
    people = [appearance._traits(np.random.default_rng(seed)) for seed in range(60)]
    assert min(p["skin_tone"] for p in people) < 0.15 and max(p["skin_tone"] for p in people) > 0.85
    for trait in ("hair", "eyes", "beard"):
        assert len({p[trait] for p in people}) >= 3
    assert {p["glasses"] for p in people} == {True, False}


def test_darker_skin_is_darker(toy):
    people = [Subject.draw(toy, seed) for seed in range(5)]
    forehead = [np.median(person.atlas[190:220, 220:290, :3]) for person in people]
    assert np.corrcoef([person.traits["skin_tone"] for person in people], forehead)[0, 1] < -0.8


def test_lights_come_from_one_to_three_sides():
    rooms = [Surroundings.draw(seed, 64) for seed in range(40)]
    assert {len(room.lights) for room in rooms} == {1, 2, 3}
    assert {room.kind for room in rooms} == {"plain", "gradient", "cluttered"}
    np.testing.assert_allclose([np.linalg.norm(light) for room in rooms for light in room.lights], 1, atol=1e-5)


def test_srgb_to_linear_light():
    np.testing.assert_allclose(linear([0, 255, 188]), [0, 1, 0.5029], atol=1e-3)


# --- frames ----------------------------------------------------------------------------------------------------------


def test_a_frame_depends_on_its_number_alone(toy):
    script = write_script(3, 3, 30.0)
    camera = Camera.draw(9, SIZE, 30.0)
    forwards = scene_of(toy, script, camera)
    pictures = [forwards.picture(frame) for frame in range(0, 60, 7)]
    alone = scene_of(toy, script, camera)
    for place, frame in reversed(list(enumerate(range(0, 60, 7)))):
        assert np.array_equal(alone.picture(frame), pictures[place])
    assert not np.array_equal(pictures[0], pictures[1])


def test_what_is_seen_moves_as_the_landmarks_do(toy):
    turned = np.zeros((60, 3), np.float32)
    turned[11] = (3, 2, 1)
    scene = scene_of(toy, still_script(head_rotation_deg=turned))
    front = np.flatnonzero((toy.model.vertices[:, 2] > 8) & (toy.model.part == 0))[::9]
    before, after = scene.landmarks(10, front), scene.landmarks(11, front)
    flow = scene.flow(10)
    at = before.astype(int)
    np.testing.assert_allclose(flow[at[:, 1], at[:, 0]], after - before, atol=0.25)
    assert np.abs(after - before).max() > 1
    assert np.abs(scene.flow(12)).max() < 1e-3


def test_one_side_can_smile_alone(real_model):
    script = still_script()
    smile = units(script, 10, au12=(1.0, 0.0))
    scene = scene_of(Canvas(real_model), dataclasses.replace(script, action_units=smile))
    corners = [skin_at(real_model, at) for at in ((2.5, -3.5, 10.2), (-2.5, -3.5, 10.2))]
    moved = scene.landmarks(10, corners) - scene.landmarks(0, corners)
    assert moved[0, 1] < -1 and abs(moved[1, 1]) < 0.3 * abs(moved[0, 1])


def test_a_shut_lid_cannot_be_widened(real_model):
    script = still_script()
    both, blink = (units(script, 10, au45=1.0, **more) for more in ({"au5": 1.0}, {}))
    lid = [skin_at(real_model, at) for at in ((3.3, 3.9, 9.5),)]
    canvas = Canvas(real_model)
    ends = [
        scene_of(canvas, dataclasses.replace(script, action_units=array)).landmarks(10, lid) for array in (both, blink)
    ]
    np.testing.assert_allclose(*ends, atol=1e-3)


def test_a_hand_hides_what_is_behind_it(toy):
    hand = np.full((60, 3), np.nan, np.float32)
    hand[10] = (0, -3, 16)
    scene = scene_of(toy, still_script(occluder_cm=hand))
    changed = np.abs(scene.picture(10).astype(int) - scene.picture(9)).max(axis=2) > 20
    assert 0.01 < changed.mean() < 0.5 and np.array_equal(scene.picture(9), scene.picture(11))


def test_light_that_fades_is_seen(toy):
    gain = np.ones(60, np.float32)
    gain[10] = 0.5
    scene = scene_of(toy, still_script(light_gain=gain))
    assert scene.picture(10).mean() < 0.9 * scene.picture(9).mean()


def test_rotations_turn_as_they_are_named():
    nose, top = np.array([0, 0, 1.0]), np.array([0, 1.0, 0])
    assert (rotation(30, 0, 0) @ nose)[0] > 0.4  # the person's left is the right of the picture
    assert (rotation(0, 30, 0) @ nose)[1] > 0.4
    assert (rotation(0, 0, 30) @ top)[0] > 0.4
    np.testing.assert_allclose(rotation(20, -10, 5) @ rotation(20, -10, 5).T, np.eye(3), atol=1e-6)


# --- the camera ------------------------------------------------------------------------------------------------------


def develop(camera, level=0.2, frame=0, velocity=(0.0, 0.0)):
    light = np.full((SIZE, SIZE, 3), level, np.float32)
    light[:, SIZE // 2 :] *= 2
    return camera.develop(light, frame, 1.0, velocity).astype(int)


def test_noise_is_another_in_each_frame_and_the_same_again():
    camera = perfect_camera(shot=0.01**2, read=0.01)
    first, again, next_one = develop(camera, frame=4), develop(camera, frame=4), develop(camera, frame=5)
    assert np.array_equal(first, again) and not np.array_equal(first, next_one)
    clean = develop(perfect_camera())
    assert np.array_equal(clean, develop(perfect_camera(), frame=9))
    assert 0.5 < (first - clean)[:, 5:40].std() < 20


def test_lens_and_movement_blur_and_sharpening_undoes_some():
    def edge(**changes):
        velocity = changes.pop("velocity", (0.0, 0.0))
        return np.abs(np.diff(develop(perfect_camera(**changes), velocity=velocity)[48, :, 1])).max()

    sharp = edge(lens_px=0.01, sharpening=0.0)
    assert edge(lens_px=1.5, sharpening=0.0) < 0.6 * sharp
    assert edge(lens_px=1.5, sharpening=0.9) > edge(lens_px=1.5, sharpening=0.0)
    assert edge(lens_px=0.01, sharpening=0.0, shutter=0.9, velocity=(6.0, 0.0)) < 0.5 * sharp


def test_cameras_differ():
    cameras = [Camera.draw(seed, 160, 30.0) for seed in range(60)]
    assert {camera.grey for camera in cameras} == {True, False}
    assert np.ptp([camera.distance_cm for camera in cameras]) > 80 and np.ptp([camera.crf for camera in cameras]) > 8
    assert any(camera.flicker for camera in cameras) and any(camera.shake_px for camera in cameras)
