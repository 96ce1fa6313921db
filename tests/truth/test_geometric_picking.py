"""Points on spheres, surfaces and filaments: on the surface, even, along the normal, of the right number."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import ConvexHull, cKDTree

from eucentric.errors import FormatError, InputError, ShapeError
from eucentric.geometry import rotation_z
from eucentric.io.meshes import read_mesh
from eucentric.models import TomogramFrame
from eucentric.picking.pick_geometry import (
    filament_points,
    mesh_points,
    rotations_along,
    segmentation_points,
    sphere_points,
)
from eucentric.picking.sheet_points import sheet_points


def nearest(points: np.ndarray) -> np.ndarray:
    return cKDTree(points).query(points, k=2)[0][:, 1]


def ball_mesh(radius: float) -> tuple[np.ndarray, np.ndarray]:
    """A fine closed mesh of a sphere, faces outwards."""
    points = sphere_points([0, 0, 0], radius, radius / 12, np.random.default_rng(0)).points
    faces = ConvexHull(points).simplices.astype(np.int64)
    a, b, c = (points[faces[:, k]] for k in range(3))
    inward = np.einsum("ni,ni->n", np.cross(b - a, c - a), a) < 0
    faces[inward] = faces[inward][:, ::-1]
    return points, faces


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), n=st.integers(1, 20))
def test_rotations_take_z_to_the_direction_and_are_proper(seed, n):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, 3))
    for generator in (None, rng):
        m = rotations_along(z, generator)
        np.testing.assert_allclose(m[:, :, 2], z / np.linalg.norm(z, axis=1, keepdims=True), atol=1e-12)
        np.testing.assert_allclose(m @ m.transpose(0, 2, 1), np.broadcast_to(np.eye(3), m.shape), atol=1e-12)
        assert (np.linalg.det(m) > 0).all()
    with pytest.raises(InputError):
        rotations_along([[0.0, 0.0, 0.0]])


@settings(max_examples=15, deadline=None)
@given(radius=st.floats(100, 800), spacing=st.floats(40, 90))
def test_a_sphere_is_covered_evenly_with_normals_outwards(radius, spacing):
    got = sphere_points([10.0, -20.0, 30.0], radius, spacing, np.random.default_rng(0))
    out = got.points - [10.0, -20.0, 30.0]
    np.testing.assert_allclose(np.linalg.norm(out, axis=1), radius)
    np.testing.assert_allclose(got.rotations[:, :, 2], out / radius, atol=1e-12)
    gap = nearest(got.points)
    assert gap.min() > 0.6 * spacing
    assert 0.8 * spacing < np.median(gap) < 1.1 * spacing  # a Fibonacci lattice is nearly hexagonal


@pytest.mark.parametrize("inside_out", [False, True])
def test_a_closed_mesh_gets_points_with_normals_outwards(inside_out):
    vertices, faces = ball_mesh(300.0)
    got = mesh_points(vertices, faces[:, ::-1] if inside_out else faces, 60.0, np.random.default_rng(2))
    length = np.linalg.norm(got.points, axis=1)
    assert ((length > 295) & (length <= 300.01)).all()
    assert (np.einsum("ni,ni->n", got.rotations[:, :, 2], got.points / length[:, None]) > 0.98).all()
    gap = nearest(got.points)
    assert gap.min() >= 60.0
    # darts until nothing more fits: no hole as wide as twice the spacing
    everywhere = sphere_points([0, 0, 0], 300.0, 20.0, np.random.default_rng(0)).points
    assert cKDTree(got.points).query(everywhere)[0].max() < 1.3 * 60.0


def test_the_surface_of_a_segmented_ball():
    frame = TomogramFrame(voxel_size_angstrom=10.0, size_xyz=(64, 60, 50))
    z, y, x = np.meshgrid(*((np.arange(n) - n // 2) * 10.0 for n in (50, 60, 64)), indexing="ij")
    centre = np.array([20.0, -10.0, 5.0])
    ball = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2 < 180.0**2
    got = segmentation_points(ball, frame, 50.0, np.random.default_rng(1))
    out = got.points - centre
    length = np.linalg.norm(out, axis=1)
    assert abs(length.mean() - 180.0) < 3.0  # smoothing pulls a ball in by sigma^2 / r = 1.25 A
    assert length.std() < 4.0  # voxels of 10 A
    assert np.median(np.einsum("ni,ni->n", got.rotations[:, :, 2], out / length[:, None])) > 0.99
    assert nearest(got.points).min() >= 50.0
    with pytest.raises(InputError, match="empty"):
        segmentation_points(np.zeros((50, 60, 64)), frame, 50.0, np.random.default_rng(1))
    with pytest.raises(ShapeError):
        segmentation_points(ball.T, frame, 50.0, np.random.default_rng(1))


def test_a_straight_filament_with_twist():
    got = filament_points([[0, 0, 0], [0, 0, 500.0]], 50.0, twist_deg=30.0)
    np.testing.assert_allclose(got.points[:, 2], np.arange(0, 501, 50), atol=1e-9)
    np.testing.assert_allclose(got.track_angstrom, np.arange(0, 501, 50))
    steps = np.einsum("nji,njk->nik", got.rotations[:-1], got.rotations[1:])
    np.testing.assert_allclose(steps, np.broadcast_to(rotation_z(30.0), steps.shape), atol=1e-9)
    back = filament_points([[0, 0, 0], [0, 0, 500.0]], 50.0, reverse=True)
    np.testing.assert_allclose(back.rotations[:, :, 2], [[0, 0, -1.0]] * 11, atol=1e-12)
    np.testing.assert_allclose(back.points[0], [0, 0, 500.0])


def test_places_around_a_curved_filament():
    """Thirteen around a quarter of a circle of 2,000 A: on a tube, outwards, evenly along and around it."""
    angle = np.linspace(0, np.pi / 2, 9)
    line = 2000.0 * np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    got = filament_points(line, 80.0, radius_angstrom=110.0, around=13)
    middle = np.arctan2(got.points[:, 1], got.points[:, 0])
    core = 2000.0 * np.stack([np.cos(middle), np.sin(middle), 0 * middle], axis=1)
    np.testing.assert_allclose(np.linalg.norm(got.points - core, axis=1), 110.0, atol=0.5)
    np.testing.assert_allclose(np.einsum("ni,ni->n", got.rotations[:, :, 2], got.points - core), 110.0, atol=0.5)
    along = np.stack([-np.sin(middle), np.cos(middle), 0 * middle], axis=1)
    assert (np.einsum("ni,ni->n", got.rotations[:, :, 0], along) > 0.999).all()
    assert len(got.points) == 13 * (int(2000 * np.pi / 2 / 80) + 1)
    ring = got.points[:13]
    np.testing.assert_allclose(nearest(ring), 2 * 110 * np.sin(np.pi / 13), rtol=1e-6)


@pytest.mark.parametrize(
    "call",
    [
        lambda: filament_points([[0, 0, 0]], 10.0),
        lambda: filament_points([[0, 0, 0], [0, 0, 0]], 10.0),
        lambda: filament_points([[0, 0, 0], [9, 0, 0]], 0.0),
        lambda: filament_points([[0, 0, 0], [9, 0, 0]], 1.0, around=0),
        lambda: sphere_points([0, 0, 0], -1.0, 10.0, np.random.default_rng(0)),
        lambda: mesh_points(np.zeros((3, 3)), np.array([[0, 1, 2]]), 5.0, np.random.default_rng(0)),
        lambda: mesh_points(np.eye(3), np.array([[0, 1, 5]]), 5.0, np.random.default_rng(0)),
    ],
)
def test_what_cannot_be_is_refused(call):
    with pytest.raises(InputError):
        call()


TETRA = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]])
FACES = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])


def mesh_files() -> dict[str, bytes]:
    obj = "".join(f"v {a} {b} {c}\n" for a, b, c in TETRA) + "".join(f"f {i}/1 {j}//2 {k}\n" for i, j, k in FACES + 1)
    head = "ply\nformat {}\nelement vertex 4\nproperty float x\nproperty float y\nproperty float z\nelement face 4\n"
    head += "property list uchar int vertex_indices\nend_header\n"
    text = head.format("ascii 1.0") + "".join(f"{a} {b} {c}\n" for a, b, c in TETRA)
    text += "".join(f"3 {i} {j} {k}\n" for i, j, k in FACES)
    binary = head.format("binary_little_endian 1.0").encode() + TETRA.astype("<f4").tobytes()
    binary += b"".join(b"\x03" + face.astype("<i4").tobytes() for face in FACES)
    corners = TETRA[FACES].astype("<f4")
    stl = b"\0" * 80 + (4).to_bytes(4, "little") + b"".join(b"\0" * 12 + c.tobytes() + b"\0\0" for c in corners)
    words = "solid x\n" + "".join(f"vertex {a} {b} {c}\n" for a, b, c in corners.reshape(-1, 3)) + "endsolid\n"
    return {"a.obj": obj.encode(), "a.ply": text.encode(), "b.ply": binary, "a.stl": stl, "b.stl": words.encode()}


@pytest.mark.parametrize("name", sorted(mesh_files()))
def test_meshes_of_every_kind_are_the_same(name, tmp_path):
    (tmp_path / name).write_bytes(mesh_files()[name])
    vertices, faces = read_mesh(tmp_path / name)
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    assert np.einsum("ni,ni->", a, np.cross(b, c)) / 6 == pytest.approx(1 / 6)  # the volume, with its sign


@pytest.mark.parametrize("name", ["a.ply", "a.stl", "a.obj", "a.vtk"])
def test_what_is_no_mesh(name, tmp_path):
    (tmp_path / name).write_bytes(b"nothing of the kind \xff")
    with pytest.raises(FormatError):
        read_mesh(tmp_path / name)


def test_a_thin_sheet_gets_one_layer_in_its_middle_with_normals_that_agree():
    z, y, x = np.meshgrid(*(np.arange(n) - n // 2 for n in (40, 60, 60)), indexing="ij")
    away = np.sqrt(x**2 + y**2 + z**2)
    shell = np.abs(away - 15.0) <= 2.0
    frame = TomogramFrame(voxel_size_angstrom=10.0, size_xyz=(60, 60, 40))
    got = sheet_points(shell, frame, 40.0, np.random.default_rng(0))
    radius = np.linalg.norm(got.points, axis=1)
    np.testing.assert_allclose(radius, 150.0, atol=7.0)  # half a voxel, and the ridge of a curved sheet lies inwards
    assert np.einsum("ni,ni->n", got.rotations[:, :, 2], got.points / radius[:, None]).min() > 0.97
    full = 4 * np.pi * 150.0**2 / (np.sqrt(3) / 2 * 40.0**2)
    assert 0.5 * full < len(got.points) < 0.9 * full  # thinned darts reach two thirds of a hexagonal lattice
    assert nearest(got.points).min() > 40.0
    sides = segmentation_points(shell, frame, 40.0, np.random.default_rng(0))
    assert len(sides.points) > 1.6 * len(got.points)
    with pytest.raises(InputError, match="empty"):
        sheet_points(np.zeros((40, 60, 60)), frame, 40.0, np.random.default_rng(0))
    with pytest.raises(InputError, match="spacing"):
        sheet_points(shell, frame, 0.0, np.random.default_rng(0))
    with pytest.raises(ShapeError):
        sheet_points(np.zeros((4, 6, 6)), frame, 40.0, np.random.default_rng(0))
