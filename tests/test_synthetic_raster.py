"""The rasteriser against slow code that one can read, and against what geometry says."""

import numpy as np
import pytest

pytest.importorskip("numba", reason="synthetic videos need numba: pip install 'fedn_hf[synthetic]'")

from fedn_hf.synthetic import raster
from fedn_hf.synthetic.props import grid, noise, smoothstep


def see(screen, triangles, size=32, both_sides=False):
    depth, face = np.empty((size, size), np.float32), np.empty((size, size), np.int32)
    place = np.empty((size, size, 2), np.float32)
    both = np.full(len(triangles), both_sides)
    raster.visibility(screen.astype(np.float32), triangles.astype(np.int32), both, depth, face, place)
    return depth, face, place


def slow_visibility(screen, triangles, size):
    """For each pixel's middle, solve for the weights of the corners in each triangle."""
    depth, face = np.full((size, size), np.inf), np.full((size, size), -1)
    for number, corners in enumerate(triangles):
        matrix = np.vstack([screen[corners, :2].T, np.ones(3)])
        if np.linalg.det(matrix) >= -1e-9:
            continue
        for y in range(size):
            for x in range(size):
                weights = np.linalg.solve(matrix, [x + 0.5, y + 0.5, 1])
                z = weights @ screen[corners, 2]
                if (weights >= 0).all() and z < depth[y, x]:
                    depth[y, x], face[y, x] = z, number
    return depth, face


def test_the_nearest_triangle_is_seen():
    rng = np.random.default_rng(0)
    screen = np.column_stack([rng.uniform(-8, 40, (60, 2)), rng.uniform(1, 9, 60)])
    triangles = rng.permutation(60).reshape(20, 3)
    depth, face, _ = see(screen, triangles)
    slow_depth, slow_face = slow_visibility(screen, triangles, 32)
    assert (face == slow_face).mean() > 0.998  # an edge may go through a pixel's very middle
    same = (face == slow_face) & (face >= 0)
    np.testing.assert_allclose(depth[same], slow_depth[same], rtol=1e-3)
    assert (face >= 0).sum() > 300


def test_backs_are_seen_only_where_that_is_asked_for():
    screen = np.array([(4, 4, 1), (28, 4, 1), (4, 28, 1)], float)
    for corners, front in (((0, 1, 2), False), ((0, 2, 1), True)):
        assert bool((see(screen, np.array([corners]))[1] == 0).any()) == front
        assert (see(screen, np.array([corners]), both_sides=True)[1] == 0).any()


def test_neighbours_leave_no_gap_and_no_pixel_twice():
    rng = np.random.default_rng(1)
    x, y = np.meshgrid(np.linspace(2, 30, 9), np.linspace(2, 30, 9))
    inside = np.pad(np.ones((7, 7)), 1)
    x, y = x + rng.normal(0, 0.6, x.shape) * inside, y + rng.normal(0, 0.6, y.shape) * inside
    screen = np.stack([x, y, np.ones_like(x)], -1).reshape(-1, 3)
    _, face, place = see(screen, grid(9, 9))
    assert (face[2:30, 2:30] >= 0).all() and (face[:2] < 0).all()
    out = np.zeros((32, 32, 2), np.float32)
    raster.interpolate(face, place, grid(9, 9).astype(np.int32), screen[:, :2].astype(np.float32), out)
    rows, columns = np.nonzero(face >= 0)
    np.testing.assert_allclose(out[rows, columns], np.stack([columns, rows], -1) + 0.5, atol=2e-3)


def test_normals_of_a_ball_point_outwards():
    polar, around = np.meshgrid(np.linspace(0.05, 3.09, 40), np.linspace(0, 2 * np.pi, 61)[:-1], indexing="ij")
    ball = np.stack([np.sin(polar) * np.sin(around), np.cos(polar), np.sin(polar) * np.cos(around)], -1)
    ball = ball.reshape(-1, 3).astype(np.float32)
    normals = np.empty_like(ball)
    raster.vertex_normals(ball * 5, grid(40, 60, closed=True).astype(np.int32), normals)
    inner = np.abs(ball[:, 1]) < 0.95
    np.testing.assert_allclose(normals[inner], ball[inner], atol=0.02)


def test_movements_add_up():
    rng = np.random.default_rng(2)
    rest, fields = rng.normal(size=(50, 3)), rng.normal(size=(4, 50, 3)) * (rng.random((4, 50, 1)) < 0.4)
    rows = [np.flatnonzero(field.any(axis=1)).astype(np.int32) for field in fields]
    starts = np.cumsum([0, *map(len, rows)])
    offsets = np.concatenate([field[row] for field, row in zip(fields, rows, strict=True)])
    weights, out = np.array([0.5, 0, 2, -1]), np.empty_like(rest)
    raster.blend(rest, weights, starts, np.concatenate(rows), offsets, out)
    np.testing.assert_allclose(out, rest + np.tensordot(weights, fields, 1))


def test_samples_are_averaged_over_a_background_that_may_lie_between_pixels():
    rng = np.random.default_rng(3)
    drawn, background = rng.random((8, 8, 3), np.float32), rng.random((8, 8, 3), np.float32)
    face, out = np.where(rng.random((8, 8)) < 0.5, 0, -1).astype(np.int32), np.empty((4, 4, 3), np.float32)
    raster.over_background(drawn, face, background, 1.25, 2.5, 2, out)
    for y in range(4):
        for x in range(4):
            low, high = background[y + 2, x + 1 : x + 3], background[y + 3, x + 1 : x + 3]
            behind = 0.5 * (0.75 * low[0] + 0.25 * low[1]) + 0.5 * (0.75 * high[0] + 0.25 * high[1])
            square = [
                drawn[j, i] if face[j, i] >= 0 else behind for j in (2 * y, 2 * y + 1) for i in (2 * x, 2 * x + 1)
            ]
            np.testing.assert_allclose(out[y, x], np.mean(square, axis=0), rtol=1e-4)


def test_what_turns_to_the_light_is_brighter_and_shadow_is_dark():
    screen = np.array([(0, 0, 1), (32, 0, 1), (0, 32, 1), (32, 32, 1)], float)
    triangles = np.array([(0, 2, 1), (1, 2, 3)], np.int32)
    _, face, place = see(screen, triangles)

    def level(light, lit):
        out = np.zeros((32, 32, 3), np.float32)
        one = np.ones(3, np.float32)
        raster.shade(
            face, place, triangles, np.ones((4, 2), np.float32), triangles, np.full(2, raster.MATT, np.int8),
            raster.pack(np.full((4, 4, 4), 0.5) * [1, 1, 1, 0]), np.zeros((4, 4, 2), np.uint8),
            np.zeros(1, np.float32), np.tile(np.float32([0, 0, 1]), (4, 1)), np.ones(4, np.float32),
            np.full((4, 1), lit, np.float32), np.float32([light]), one[None], 0 * one, 0 * one, out,
        )  # fmt: skip
        return out.mean()

    assert level((0, 0, 1), 1.0) == pytest.approx(0.5, abs=2e-3)
    assert level((0.6, 0, 0.8), 1.0) == pytest.approx(0.4, abs=2e-3)  # Lambert's cosine
    assert level((0, 0, -1), 1.0) == 0 and level((0, 0, 1), 0.0) == 0


def test_noise_is_smooth_and_the_same_again():
    points = np.random.default_rng(4).uniform(-20, 20, (2000, 3))
    values = noise(points, 7)
    assert np.array_equal(values, noise(points, 7)) and not np.allclose(values, noise(points, 8))
    assert np.abs(values).max() <= 1 and values.std() > 0.2
    assert np.abs(noise(points + 1e-4, 7) - values).max() < 2e-3
    assert smoothstep(1, 3, np.array([0, 1, 2, 3, 9])).tolist() == [0, 0, 0.5, 1, 1]
