"""The rasteriser: triangles to pixels on one core, fast enough to make faces by the hour.

It works in two steps. `visibility` finds for each pixel of a buffer the nearest triangle and the place in it;
`shade` then lights each visible place once. What `visibility` finds serves for other things, too: painting textures by
places on the skin (`interpolate`), shadows (`appearance.py`), and the true optical flow (`flow`).

Units: pixels with the origin in the corner of the first one and y down; depths grow away from the camera. All colours
are linear light.

A call depends on its arguments alone and uses one core. Larger sums are made here and not by BLAS, whose last bits
change with the number of its threads: the same seed must give the same frames in every process.
"""

import numba
import numpy as np

# Materials of a triangle, which decide how light is spread.
SKIN, EYE, HAIR, MATT = range(4)
# How far light wraps around a material in red, green and blue. Blood scatters red the farthest (an approximation of
# subsurface scattering: Green, "Real-time approximations to subsurface scattering", GPU Gems, 2004).
_WRAP = np.array([[0.30, 0.14, 0.09], [0.1, 0.1, 0.1], [0.2, 0.2, 0.2], [0.0, 0.0, 0.0]], np.float32)
# Exponents of the highlights (Blinn, "Models of light reflection", 1977) are 2 ** these.
_SHINE = np.array([4, 9, 4, 3], np.int64)
_DULL = np.float32(0.6)  # below this cosine no highlight can be seen
_UNIT = np.float32(1 / 255**2)

_jit = numba.njit(cache=True, fastmath=True, nogil=True)


def pack(values: np.ndarray) -> np.ndarray:
    """Linear values from 0 to 1 as bytes, evenly spaced to the eye: 255 times their square root."""
    return np.round(255 * np.sqrt(np.clip(values, 0, 1))).astype(np.uint8)


@_jit
def vertex_normals(vertices, triangles, normals):
    """Unit normals (V, 3), weighted by area, into `normals`; vertices (V, 3) float32, triangles (F, 3) int32."""
    normals[:] = 0
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ux, uy, uz = vertices[b, 0] - vertices[a, 0], vertices[b, 1] - vertices[a, 1], vertices[b, 2] - vertices[a, 2]
        vx, vy, vz = vertices[c, 0] - vertices[a, 0], vertices[c, 1] - vertices[a, 1], vertices[c, 2] - vertices[a, 2]
        x, y, z = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for k in range(3):
            corner = triangles[t, k]
            normals[corner, 0] += x
            normals[corner, 1] += y
            normals[corner, 2] += z
    for v in range(normals.shape[0]):
        x, y, z = normals[v, 0], normals[v, 1], normals[v, 2]
        scale = np.float32(1) / np.sqrt(x * x + y * y + z * z + np.float32(1e-20))
        normals[v, 0] = x * scale
        normals[v, 1] = y * scale
        normals[v, 2] = z * scale


@_jit
def visibility(screen, triangles, both_sides, depth, face, place):
    """
    For each pixel's middle the nearest triangle, into `depth` (H, W) float32, `face` (H, W) int32, -1 where there is
    none, and `place` (H, W, 2) float32, the weights of the triangle's first two corners.

    screen (V, 3) float32: x, y and depth of the corners. Triangles whose corners do not run against the clock, as
    seen, are left out unless `both_sides` (F,) says otherwise.
    """
    height, width = depth.shape
    depth[:] = np.float32(1e30)
    face[:] = -1
    half = np.float32(0.5)
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        x0, y0, x1, y1, x2, y2 = screen[a, 0], screen[a, 1], screen[b, 0], screen[b, 1], screen[c, 0], screen[c, 1]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if area >= 0 and not (both_sides[t] and area > 0):
            continue
        left = max(int(np.ceil(min(x0, x1, x2) - half)), 0)
        right = min(int(np.floor(max(x0, x1, x2) - half)), width - 1)
        top = max(int(np.ceil(min(y0, y1, y2) - half)), 0)
        bottom = min(int(np.floor(max(y0, y1, y2) - half)), height - 1)
        if right < left or bottom < top:
            continue
        scale = np.float32(1) / area
        z0, z1, z2 = screen[a, 2], screen[b, 2], screen[c, 2]
        ax, ay = (y1 - y2) * scale, (x2 - x1) * scale
        bx, by = (y2 - y0) * scale, (x0 - x2) * scale
        for y in range(top, bottom + 1):
            py = np.float32(y) + half
            px = np.float32(left) + half
            w0 = (px - x2) * ax + (py - y2) * ay
            w1 = (px - x2) * bx + (py - y2) * by
            for x in range(left, right + 1):
                w2 = np.float32(1) - w0 - w1
                if w0 >= 0 and w1 >= 0 and w2 >= 0:
                    z = w0 * z0 + w1 * z1 + w2 * z2
                    if z < depth[y, x]:
                        depth[y, x] = z
                        face[y, x] = t
                        place[y, x, 0] = w0
                        place[y, x, 1] = w1
                w0 += ax
                w1 += bx


@_jit
def interpolate(face, place, triangles, values, out):
    """Values (V, C) of the corners at every visible place, into `out` (H, W, C), which is left alone elsewhere."""
    for y in range(face.shape[0]):
        for x in range(face.shape[1]):
            t = face[y, x]
            if t >= 0:
                w0, w1 = place[y, x, 0], place[y, x, 1]
                w2 = np.float32(1) - w0 - w1
                a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
                for k in range(values.shape[1]):
                    out[y, x, k] = w0 * values[a, k] + w1 * values[b, k] + w2 * values[c, k]


@_jit
def between(picture, row, column, down, across, channel):
    """Value of a picture `down` and `across`, each 0 to 1, from a pixel towards the next ones."""
    left, right = np.float32(picture[row, column, channel]), np.float32(picture[row, column + 1, channel])
    low_left = np.float32(picture[row + 1, column, channel])
    low_right = np.float32(picture[row + 1, column + 1, channel])
    top, low = left + across * (right - left), low_left + across * (low_right - low_left)
    return top + down * (low - top)


@_jit
def _halfway(lights):
    """Directions (L, 3) halfway between lights (L, 3) and the camera, which is far away: where highlights are."""
    half = np.empty((lights.shape[0], 3), np.float32)
    for k in range(lights.shape[0]):
        x, y, z = lights[k, 0], lights[k, 1], lights[k, 2] + 1
        norm = np.sqrt(x * x + y * y + z * z) + np.float32(1e-9)
        half[k, 0], half[k, 1], half[k, 2] = x / norm, y / norm, z / norm
    return half


@_jit
def shade(
    face, place, triangles, texel, triangle_texels, material, atlas, creases, folded, normals, open_sky, lit, lights,
    colours, sky, ground, out,
):  # fmt: skip
    """
    Light that every visible place sends to the camera, into `out` (H, W, 3) float32, which is left alone elsewhere.

    texel (U, 2), triangle_texels (F, 3): places in the atlas, in texels.
    material (F,): how the triangle spreads light.
    atlas (h, w, 4) uint8: albedo, and how much shine lies on it, see `pack`: small, so that it stays in the cache.
    creases (h, w, 2) uint8: number of a fold of the skin, and its depth, 255 for 1; folded (G,) float32: how far each
        fold is closed.
    normals (V, 3); open_sky (V,): share of the sky that a corner sees; lit (V, L): share of each light that it sees.
    lights (L, 3): directions to them; colours (L, 3); sky, ground (3,): light from above and below.
    """
    count, half, one = lights.shape[0], _halfway(lights), np.float32(1)
    for y in range(face.shape[0]):
        for x in range(face.shape[1]):
            t = face[y, x]
            if t < 0:
                continue
            w0, w1 = place[y, x, 0], place[y, x, 1]
            w2 = one - w0 - w1
            a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            nx = w0 * normals[a, 0] + w1 * normals[b, 0] + w2 * normals[c, 0]
            ny = w0 * normals[a, 1] + w1 * normals[b, 1] + w2 * normals[c, 1]
            nz = w0 * normals[a, 2] + w1 * normals[b, 2] + w2 * normals[c, 2]
            scale = one / np.sqrt(nx * nx + ny * ny + nz * nz + np.float32(1e-20))
            if nz < 0 and material[t] >= HAIR:  # thin things are seen from both sides
                scale = -scale
            nx, ny, nz = nx * scale, ny * scale, nz * scale

            p, q, r = triangle_texels[t, 0], triangle_texels[t, 1], triangle_texels[t, 2]
            u = w0 * texel[p, 0] + w1 * texel[q, 0] + w2 * texel[r, 0]
            v = w0 * texel[p, 1] + w1 * texel[q, 1] + w2 * texel[r, 1]
            u = min(max(u, np.float32(0)), np.float32(atlas.shape[1] - 1.001))
            v = min(max(v, np.float32(0)), np.float32(atlas.shape[0] - 1.001))
            i, j = int(u), int(v)
            fu, fv = u - np.float32(i), v - np.float32(j)
            fold = one - folded[creases[j, i, 0]] * np.float32(creases[j, i, 1]) * np.float32(1 / 255)

            m = material[t]
            sees = w0 * open_sky[a] + w1 * open_sky[b] + w2 * open_sky[c]
            up = np.float32(0.5) + np.float32(0.5) * ny
            red, green, blue = np.float32(0), np.float32(0), np.float32(0)
            glint_r, glint_g, glint_b = np.float32(0), np.float32(0), np.float32(0)
            for k in range(count):
                visible = w0 * lit[a, k] + w1 * lit[b, k] + w2 * lit[c, k]
                facing = nx * lights[k, 0] + ny * lights[k, 1] + nz * lights[k, 2]
                red += colours[k, 0] * visible * max((facing + _WRAP[m, 0]) / (one + _WRAP[m, 0]), np.float32(0))
                green += colours[k, 1] * visible * max((facing + _WRAP[m, 1]) / (one + _WRAP[m, 1]), np.float32(0))
                blue += colours[k, 2] * visible * max((facing + _WRAP[m, 2]) / (one + _WRAP[m, 2]), np.float32(0))
                shine = nx * half[k, 0] + ny * half[k, 1] + nz * half[k, 2]
                if shine > _DULL:
                    for _ in range(_SHINE[m]):
                        shine *= shine
                    shine *= visible
                    glint_r += colours[k, 0] * shine
                    glint_g += colours[k, 1] * shine
                    glint_b += colours[k, 2] * shine
            red += sees * (ground[0] + (sky[0] - ground[0]) * up)
            green += sees * (ground[1] + (sky[1] - ground[1]) * up)
            blue += sees * (ground[2] + (sky[2] - ground[2]) * up)
            gloss = between(atlas, j, i, fv, fu, 3) ** 2 * _UNIT
            out[y, x, 0] = between(atlas, j, i, fv, fu, 0) ** 2 * _UNIT * fold * red + gloss * glint_r
            out[y, x, 1] = between(atlas, j, i, fv, fu, 1) ** 2 * _UNIT * fold * green + gloss * glint_g
            out[y, x, 2] = between(atlas, j, i, fv, fu, 2) ** 2 * _UNIT * fold * blue + gloss * glint_b


@_jit
def flow(face, place, triangles, screen, later, out):
    """Where every visible place will have moved to, into `out` (H, W, 2), in pixels; 0 where nothing is."""
    out[:] = 0
    for y in range(face.shape[0]):
        for x in range(face.shape[1]):
            t = face[y, x]
            if t >= 0:
                w0, w1 = place[y, x, 0], place[y, x, 1]
                w2 = np.float32(1) - w0 - w1
                a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
                for k in range(2):
                    out[y, x, k] = (
                        w0 * (later[a, k] - screen[a, k])
                        + w1 * (later[b, k] - screen[b, k])
                        + w2 * (later[c, k] - screen[c, k])
                    )


@_jit
def over_background(drawn, face, background, left, top, samples, out):
    """
    Squares of samples x samples pixels become one: what was drawn, and beside it `background` (h, w, 3), of which the
    pixel (left, top), which may lie between pixels, falls into the corner.
    """
    share = np.float32(1) / np.float32(samples * samples)
    j0, i0 = int(np.floor(top)), int(np.floor(left))
    fy, fx = np.float32(top - j0), np.float32(left - i0)
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            red, green, blue = np.float32(0), np.float32(0), np.float32(0)
            empty = 0
            for j in range(y * samples, (y + 1) * samples):
                for i in range(x * samples, (x + 1) * samples):
                    if face[j, i] < 0:
                        empty += 1
                    else:
                        red += drawn[j, i, 0]
                        green += drawn[j, i, 1]
                        blue += drawn[j, i, 2]
            out[y, x, 0], out[y, x, 1], out[y, x, 2] = red * share, green * share, blue * share
            if empty:
                j, i = y + j0, x + i0
                for c in range(3):
                    out[y, x, c] += empty * share * between(background, j, i, fy, fx, c)


@_jit
def pose(
    vertices, normals, weights, turn, pivot, shift, torso_shift, hand_first, hand_last, hand_shift, moved, turned
):
    """
    Vertices and normals (V, 3) in the room, into `moved` and `turned`.

    weights (V,): how far each follows the head, which turns by `turn` (3, 3) about `pivot` and moves by `shift`; the
    rest moves with the torso, and the vertices from `hand_first` to before `hand_last` with the hand.
    """
    for v in range(vertices.shape[0]):
        if hand_first <= v < hand_last:
            for k in range(3):
                moved[v, k] = vertices[v, k] + hand_shift[k]
                turned[v, k] = normals[v, k]
            continue
        w = weights[v]
        x, y, z = vertices[v, 0] - pivot[0], vertices[v, 1] - pivot[1], vertices[v, 2] - pivot[2]
        for k in range(3):
            with_head = turn[k, 0] * x + turn[k, 1] * y + turn[k, 2] * z + pivot[k] + shift[k]
            moved[v, k] = w * with_head + (1 - w) * (vertices[v, k] + torso_shift[k])
            along = turn[k, 0] * normals[v, 0] + turn[k, 1] * normals[v, 1] + turn[k, 2] * normals[v, 2]
            turned[v, k] = w * along + (1 - w) * normals[v, k]


@_jit
def project(moved, distance, focal, across, down, slant, screen):
    """
    Places in the room, in cm, to the picture: x, y and depth (V, 3).

    The origin, `distance` before the camera, falls on (across, down); `focal` in pixels. slant (2,): pixels by which
    the lowest row is later than the uppermost, as rows are read one after the other.
    """
    for v in range(moved.shape[0]):
        depth = distance - moved[v, 2]
        y = down - focal * moved[v, 1] / depth
        late = y / (2 * down) - np.float32(0.5)
        screen[v, 0] = across + focal * moved[v, 0] / depth + slant[0] * late
        screen[v, 1] = y + slant[1] * late
        screen[v, 2] = depth


@_jit
def blend(rest, weights, starts, indices, offsets, out):
    """
    `rest` (V, 3) moved by displacement fields, into `out`.

    weights (K,): of the fields; field k moves the corners `indices[starts[k]:starts[k + 1]]` by `offsets`, (n, 3).
    """
    out[:] = rest
    for k in range(weights.shape[0]):
        weight = weights[k]
        if weight != 0:
            for n in range(starts[k], starts[k + 1]):
                v = indices[n]
                out[v, 0] += weight * offsets[n, 0]
                out[v, 1] += weight * offsets[n, 1]
                out[v, 2] += weight * offsets[n, 2]


@_jit
def facing(normals, directions, out):
    """Cosines (V, D) between normals (V, 3) and directions (D, 3), 0 for those behind, into `out`."""
    for v in range(normals.shape[0]):
        for d in range(directions.shape[0]):
            cosine = (
                normals[v, 0] * directions[d, 0] + normals[v, 1] * directions[d, 1] + normals[v, 2] * directions[d, 2]
            )
            out[v, d] = max(cosine, np.float32(0))


@_jit
def normal_equations(weights, seen, waves, matrix, target):
    """Adds the sums of `weights` (V, D) times waves x waves and seen x waves to matrix (V, K, K), target (V, K)."""
    for v in range(weights.shape[0]):
        for d in range(weights.shape[1]):
            weight = weights[v, d]
            for i in range(waves.shape[1]):
                part = weight * waves[d, i]
                target[v, i] += part * seen[v, d]
                for j in range(waves.shape[1]):
                    matrix[v, i, j] += part * waves[d, j]


@_jit
def sum_waves(coefficients, waves, out):
    """Sums of coefficients (V, K) times waves (L, K), kept between 0 and 1, into `out` (V, L)."""
    for v in range(coefficients.shape[0]):
        for k in range(waves.shape[0]):
            total = np.float32(0)
            for i in range(waves.shape[1]):
                total += coefficients[v, i] * waves[k, i]
            out[v, k] = min(max(total, np.float32(0)), np.float32(1))


@_jit
def rotate(points, matrix, out):
    """Points (V, 3) times the transpose of matrix (3, 3), into `out`."""
    for v in range(points.shape[0]):
        for k in range(3):
            out[v, k] = points[v, 0] * matrix[k, 0] + points[v, 1] * matrix[k, 1] + points[v, 2] * matrix[k, 2]


@_jit
def smooth_noise(points, seed, out):
    """
    Value noise at points (N, 3) with a grid of side 1, into `out` (N,), between -1 and 1, smooth (Perlin, "An image
    synthesizer", 1985); the same for the same seed and place.
    """
    for n in range(points.shape[0]):
        total = 0.0
        base = np.floor(points[n])
        fx, fy, fz = points[n, 0] - base[0], points[n, 1] - base[1], points[n, 2] - base[2]
        fx, fy, fz = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy), fz * fz * (3 - 2 * fz)
        for corner in range(8):
            dx, dy, dz = corner & 1, (corner >> 1) & 1, corner >> 2
            h = np.uint64(int(base[0]) + dx) * np.uint64(0x9E3779B97F4A7C15)
            h ^= np.uint64(int(base[1]) + dy) * np.uint64(0xC2B2AE3D27D4EB4F)
            h ^= np.uint64(int(base[2]) + dz) * np.uint64(0x165667B19E3779F9)
            h ^= np.uint64(seed) * np.uint64(0xD6E8FEB86659FD93)
            h ^= h >> np.uint64(32)
            h *= np.uint64(0xD6E8FEB86659FD93)
            h ^= h >> np.uint64(32)
            value = np.float64(h & np.uint64(0xFFFFFF)) / 0x7FFFFF - 1
            total += value * (fx if dx else 1 - fx) * (fy if dy else 1 - fy) * (fz if dz else 1 - fz)
        out[n] = total


__all__ = [
    "EYE",
    "HAIR",
    "MATT",
    "SKIN",
    "between",
    "blend",
    "facing",
    "flow",
    "interpolate",
    "normal_equations",
    "over_background",
    "pack",
    "pose",
    "project",
    "rotate",
    "shade",
    "smooth_noise",
    "sum_waves",
    "vertex_normals",
    "visibility",
]
