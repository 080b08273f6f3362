"""One frame of a synthetic video: the person in the pose of that moment, lit, and seen by the camera."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from .appearance import Canvas, Subject, eye_centre
from .behaviour import Script
from .camera import Camera
from .face_model import GAZE_DEG, LEFT_EYE, RIGHT_EYE
from .facs import COLUMN
from .raster import blend, flow, over_background, pose, project, rotate, shade, vertex_normals, visibility
from .surroundings import MARGIN, Surroundings

# Drawn for each pixel of the picture, in both directions.
SAMPLES = 2
# Where the head turns on the neck, in cm.
_PIVOT = np.array([0, -3.5, -1.0], np.float32)
_TORSO_FOLLOWS = 0.35  # part of the head's movement that the torso shares
_FAR_AWAY = np.array([1e5, 0, 0], np.float32)


class Scene:
    """
    A video that is made frame by frame, in any order.

    Args:
        canvas: of the face model.
        subject, surroundings, camera, script: who is seen, where, through what, doing what.

    Example:
        >>> from fedn_hf.synthetic.behaviour import write_script
        >>> from fedn_hf.synthetic.face_model import FaceModel
        >>> canvas = Canvas(FaceModel.tiny())
        >>> person, room = Subject.draw(canvas, 1), Surroundings.draw(2, 64)
        >>> scene = Scene(canvas, person, room, Camera.draw(3, 64, 30.0), write_script(4, 5, 30.0))
        >>> scene.picture(10).shape
        (64, 64, 3)
    """

    def __init__(self, canvas: Canvas, subject: Subject, surroundings: Surroundings, camera: Camera, script: Script):
        self.model, self.subject = canvas.model, subject
        self.surroundings, self.camera, self.script = surroundings, camera, script
        side = camera.size * SAMPLES
        self._depth, self._face = np.empty((side, side), np.float32), np.empty((side, side), np.int32)
        self._place = np.empty((side, side, 2), np.float32)
        self._drawn = np.empty((side, side, 3), np.float32)
        self._shape, self._normals = subject.rest.copy(), np.empty_like(subject.rest)
        vertex_normals(subject.rest, subject.triangles, self._normals)
        self._moved, self._turned = np.empty_like(subject.rest), np.empty_like(subject.rest)
        self._screen = np.empty_like(subject.rest)
        count = len(self.model.vertices)
        self._head = subject.rest[:count]
        self._eyes = [
            (np.flatnonzero(self.model.part == number), eye_centre(self._head, self.model.part, number))
            for number in (LEFT_EYE, RIGHT_EYE)
        ]

    def picture(self, frame: int) -> np.ndarray:
        """The frame as the camera gives it, uint8 (size, size, 3)."""
        light = self._light(frame)
        return self.camera.develop(light, frame, self._exposure, self._velocity(frame))

    def landmarks(self, frame: int, vertices: Sequence[int]) -> np.ndarray:
        """Where these vertices of the model fall in the frame, float32 (N, 2) in pixels."""
        self._place_all(frame)
        return self._screen[np.asarray(vertices), :2] / SAMPLES

    def flow(self, frame: int) -> np.ndarray:
        """The true movement of everything visible to the next frame, float32 (size, size, 2) in pixels."""
        self._place_all(frame + 1)
        later = self._screen.copy()
        self._place_all(frame)
        self._see()
        fine = np.empty((*self._face.shape, 2), np.float32)
        flow(self._face, self._place, self.subject.triangles, self._screen, later, fine)
        size = self.camera.size
        return fine.reshape(size, SAMPLES, size, SAMPLES, 2).mean(axis=(1, 3)) / SAMPLES

    # --- from muscles to light ---------------------------------------------------------------------------------------

    def _light(self, frame: int) -> np.ndarray:
        turned = self._place_all(frame)
        self._see()
        subject, around = self.subject, self.surroundings
        gain = self.script.light_gain[frame]
        colours = around.colours.copy()
        colours[0] *= gain
        lights = around.lights.copy()
        lights[0] = rotation(*self.script.lamp_deg[frame], 0.0) @ lights[0]
        dim = np.float32(0.6 + 0.4 * gain)  # the room throws the main light back
        shade(
            self._face, self._place, subject.triangles, subject.texel, subject.triangle_texels, subject.material,
            subject.atlas, subject.creases, self._folded(frame), self._turned, subject.open_sky,
            subject.lit(lights @ turned), lights, colours, dim * around.sky, dim * around.ground,
            self._drawn,
        )  # fmt: skip
        size = self.camera.size
        light = np.empty((size, size, 3), np.float32)
        x, y = self.camera.shake(frame / self.camera.fps)
        margin = MARGIN * size
        background = around.background * dim
        over_background(self._drawn, self._face, background, margin - x, margin - y, SAMPLES, light)
        return light

    def _see(self) -> None:
        subject = self.subject
        visibility(self._screen, subject.triangles, subject.both_sides, self._depth, self._face, self._place)

    def _place_all(self, frame: int) -> np.ndarray:
        """Put every vertex of a frame into the picture; returns the head's rotation (3, 3)."""
        script, camera = self.script, self.camera
        count = len(self.model.vertices)
        blend(self._head, self._weights(frame), *self.model.fields, self._shape[:count])
        self._turn_eyes(frame)
        vertex_normals(self._shape[:count], self.model.triangles, self._normals[:count])
        turned = rotation(*script.head_rotation_deg[frame])
        shift = script.head_shift_cm[frame]
        hand = script.occluder_cm[frame]
        hand = _FAR_AWAY if np.isnan(hand[0]) else hand + shift
        part = self.subject.hand
        pose(
            self._shape, self._normals, self.subject.head_weight, turned, _PIVOT, shift, _TORSO_FOLLOWS * shift,
            part.start, part.stop, hand.astype(np.float32), self._moved, self._turned,
        )  # fmt: skip
        x, y = camera.shake(frame / camera.fps)
        slant = np.array(self._velocity(frame), np.float32) * camera.readout * SAMPLES
        across, down = (camera.centre[0] + x) * SAMPLES, (camera.centre[1] + y) * SAMPLES
        focal = np.float32(camera.focal_px * SAMPLES)
        project(
            self._moved,
            np.float32(camera.distance_cm),
            focal,
            np.float32(across),
            np.float32(down),
            slant,
            self._screen,
        )
        return turned

    def _weights(self, frame: int) -> np.ndarray:
        """Of the model's fields: action units, left and right in turn, then gaze."""
        units = self.script.action_units[frame].copy()  # (A, 2)
        open_ = 1 - units[COLUMN[45]]  # a lid that is shut is neither raised nor tightened
        units[[COLUMN[5], COLUMN[7]]] *= open_
        yaw, pitch = self.script.gaze_deg[frame] / GAZE_DEG
        gaze = np.array([max(yaw, 0), max(-yaw, 0), max(pitch, 0), max(-pitch, 0)])
        return np.concatenate([units.ravel(), gaze]).astype(np.float32)

    def _turn_eyes(self, frame: int) -> None:
        yaw, pitch = self.script.gaze_deg[frame]
        for rows, middle in self._eyes:
            spokes = self._head[rows] - middle
            turned = np.empty_like(spokes)
            rotate(spokes, rotation(yaw, pitch, 0.0), turned)
            self._shape[rows] = turned + middle

    def _folded(self, frame: int) -> np.ndarray:
        return np.clip(self.subject.fold_weights @ self.script.action_units[frame].ravel(), 0, 1)

    def _velocity(self, frame: int) -> tuple[float, float]:
        """Pixels per frame by which the head moves in the picture."""
        script, camera = self.script, self.camera
        before, after = max(frame - 1, 0), min(frame + 1, script.num_frames - 1)
        if after == before:
            return 0.0, 0.0
        places = []
        for at in (before, after):
            nose = rotation(*script.head_rotation_deg[at]) @ np.array([0, 4.5, 12]) + script.head_shift_cm[at]
            scale = camera.focal_px / (camera.distance_cm - nose[2])
            shake = camera.shake(at / camera.fps)
            places.append((nose[0] * scale + shake[0], -nose[1] * scale + shake[1]))
        steps = after - before
        return (places[1][0] - places[0][0]) / steps, (places[1][1] - places[0][1]) / steps

    @cached_property
    def _exposure(self) -> float:
        """As the camera's automatic measures it in the first frame, more in the middle than at the edges."""
        light = self._light(0) * self.camera.gains(0.0)
        size = self.camera.size
        away = np.linalg.norm(
            (np.indices((size, size)) - np.reshape(self.camera.centre[::-1], (2, 1, 1))) / size, axis=0
        )
        weight = np.exp(-((away / 0.35) ** 2))
        mean = float((light.mean(axis=2) * weight).sum() / weight.sum())
        return 0.22 / max(mean, 1e-3)


def rotation(yaw_deg: float, pitch_deg: float, roll_deg: float) -> np.ndarray:
    """Rotation (3, 3) float32: towards the person's left, up, and towards the left shoulder."""
    (a, b, c), (x, y, z) = (
        np.cos(np.deg2rad([yaw_deg, pitch_deg, roll_deg])),
        np.sin(np.deg2rad([yaw_deg, pitch_deg, roll_deg])),
    )
    yaw = np.array([[a, 0, x], [0, 1, 0], [-x, 0, a]])
    pitch = np.array([[1, 0, 0], [0, b, y], [0, -y, b]])
    roll = np.array([[c, z, 0], [-z, c, 0], [0, 0, 1]])
    return (yaw @ pitch @ roll).astype(np.float32)


__all__ = ["SAMPLES", "Scene", "rotation"]
