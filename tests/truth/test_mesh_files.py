"""Meshes written and read: what goes out comes back, and another program reads the same."""

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from eucentric.errors import FormatError, InputError, ShapeError
from eucentric.io.meshes import read_mesh, write_mesh, write_ply
from eucentric.segmentation.geometry import Surface, enclosed_volume, marching_cubes, vertex_normals

ENDINGS = ("ply", "stl", "obj", "vtk")


@pytest.fixture(scope="module")
def ball() -> Surface:
    z, y, x = np.mgrid[:16, :16, :16] - 7.6
    vertices, faces = marching_cubes(6.0 - np.sqrt(x**2 + y**2 + z**2), 0.0)
    return Surface.of(vertices * 8.0 - 1234.5, faces)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_mesh_comes_back_as_it_was(tmp_path, ball, ending):
    path = tmp_path / f"ball.{ending}"
    write_mesh(path, ball.vertices_angstrom, ball.faces, normals=vertex_normals(ball), comment="vesicle 3\nof TS_01")
    vertices, faces = read_mesh(path)
    got = Surface.of(vertices, faces)
    assert len(faces) == len(ball.faces)
    # triangles in order, corners in order, in single precision
    np.testing.assert_allclose(vertices[faces], ball.vertices_angstrom[ball.faces], atol=2e-4)
    assert enclosed_volume(got) == pytest.approx(enclosed_volume(ball), rel=1e-5)
    assert b"angstrom" in path.read_bytes()[:400]


@pytest.mark.parametrize("ending", ["ply", "stl", "obj"])
def test_another_program_reads_the_same(tmp_path, ball, ending):
    path = tmp_path / f"ball.{ending}"
    normals = vertex_normals(ball)
    write_mesh(path, ball.vertices_angstrom, ball.faces, normals=normals)
    other = trimesh.load_mesh(path)
    assert other.is_watertight
    assert other.volume == pytest.approx(enclosed_volume(ball), rel=1e-5)
    np.testing.assert_allclose(other.bounds, [ball.vertices_angstrom.min(0), ball.vertices_angstrom.max(0)], atol=1e-3)
    if ending == "ply":
        kept = other.metadata["_ply_raw"]["vertex"]["data"]
        np.testing.assert_allclose(np.stack([kept[f"n{a}"].ravel() for a in "xyz"], axis=1), normals, atol=1e-6)
    if ending != "stl":
        np.testing.assert_allclose(other.vertices, ball.vertices_angstrom, atol=1e-3)


@pytest.mark.parametrize("ending", ["ply", "stl", "obj"])
def test_files_of_another_program_are_read(tmp_path, ball, ending):
    path = tmp_path / f"other.{ending}"
    trimesh.Trimesh(ball.vertices_angstrom, ball.faces, process=False).export(path)
    vertices, faces = read_mesh(path)
    assert enclosed_volume(Surface.of(vertices, faces)) == pytest.approx(enclosed_volume(ball), rel=1e-4)


def test_columns_of_vertices_lie_where_the_formats_say(tmp_path, ball):
    values = np.linspace(-1.0, 1.0, len(ball.vertices_angstrom))
    columns = {"mean_curvature_per_angstrom": values, "thickness_angstrom": 40.0 + values}
    write_mesh(tmp_path / "ball.ply", ball.vertices_angstrom, ball.faces, columns=columns)
    kept = trimesh.load_mesh(tmp_path / "ball.ply", process=False).metadata["_ply_raw"]["vertex"]["data"]
    np.testing.assert_allclose(kept["thickness_angstrom"].ravel(), 40.0 + values, atol=1e-5)
    write_mesh(tmp_path / "ball.vtk", ball.vertices_angstrom, ball.faces, normals=vertex_normals(ball), columns=columns)
    data = (tmp_path / "ball.vtk").read_bytes()
    head = b"SCALARS thickness_angstrom float 1\nLOOKUP_TABLE default\n"
    stored = np.frombuffer(data, ">f4", len(values), data.index(head) + len(head))
    np.testing.assert_allclose(stored, 40.0 + values, atol=1e-5)
    assert data.startswith(b"# vtk DataFile Version 3.0\n")
    for ending in ("stl", "obj"):
        with pytest.raises(FormatError, match="columns"):
            write_mesh(tmp_path / f"x.{ending}", ball.vertices_angstrom, ball.faces, columns=columns)


def test_a_text_vtk_file_with_squares_is_read(tmp_path):
    path = tmp_path / "square.vtk"
    path.write_text(
        "# vtk DataFile Version 3.0\nby hand\nASCII\nDATASET POLYDATA\nPOINTS 4 float\n0 0 0 1 0 0\n1 1 0\n0 1 0\n\n"
        "POLYGONS 1 5\n4 0 1 2 3\n"
    )
    vertices, faces = read_mesh(path)
    np.testing.assert_array_equal(vertices, [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    np.testing.assert_array_equal(faces, [[0, 1, 2], [0, 2, 3]])


@pytest.mark.parametrize("text", [
    "nothing",
    "# vtk DataFile Version 3.0\nx\nASCII\nDATASET STRUCTURED_POINTS\n",
    "# vtk DataFile Version 3.0\nx\nASCII\nDATASET POLYDATA\nPOINTS 4 float\n0 0 0\n",
    "# vtk DataFile Version 3.0\nx\nBINARY\nDATASET POLYDATA\nPOINTS 4 float\n0 0 0\n",
    "# vtk DataFile Version 5.1\nx\nASCII\nDATASET POLYDATA\nPOINTS 1 float\n0 0 0\nPOLYGONS 2 3\nOFFSETS vtktypeint64\n0 3\n",
])  # fmt: skip
def test_damaged_files_are_named(tmp_path, text):
    path = tmp_path / "bad.vtk"
    path.write_text(text)
    with pytest.raises(FormatError, match="bad"):
        read_mesh(path)


@pytest.mark.parametrize("ending", ENDINGS)
@settings(max_examples=10, deadline=None)
@given(cut=st.floats(0.0, 0.98))
def test_files_that_end_too_early_never_crash(tmp_path_factory, ball, ending, cut):
    folder = tmp_path_factory.mktemp("cut")
    write_mesh(folder / f"a.{ending}", ball.vertices_angstrom, ball.faces)
    data = (folder / f"a.{ending}").read_bytes()
    (folder / f"b.{ending}").write_bytes(data[: int(cut * len(data))])
    try:
        _, faces = read_mesh(folder / f"b.{ending}")
    except FormatError:
        return
    assert ending == "obj"  # lines that are whole are a mesh
    assert len(faces) < len(ball.faces)


def test_what_is_no_mesh_is_not_written(tmp_path, ball):
    v, f = ball.vertices_angstrom, ball.faces
    for ending in ENDINGS:
        with pytest.raises(ShapeError):
            write_mesh(tmp_path / f"a.{ending}", v, f[:0])
        with pytest.raises(ShapeError):
            write_mesh(tmp_path / f"a.{ending}", v[:5], f)
        with pytest.raises(ShapeError, match="Normals"):
            write_mesh(tmp_path / f"a.{ending}", v, f, normals=v[:3])
    with pytest.raises(ShapeError, match="two words"):
        write_mesh(tmp_path / "a.ply", v, f, columns={"two words": v[:, 0]})
    with pytest.raises(FormatError, match="fbx"):
        write_mesh(tmp_path / "a.fbx", v, f)
    with pytest.raises(ShapeError):
        write_ply(tmp_path / "a.ply", v, f[:0])
    with pytest.raises(InputError):
        read_mesh(tmp_path / "none.ply")
    assert not list(tmp_path.iterdir())
