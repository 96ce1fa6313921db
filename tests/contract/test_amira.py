"""Amira's volumes, labels, graphs, line sets, landmarks and surfaces: bytes made by hand as Amira writes them, and back."""

import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from eucentric.errors import EucentricError, FormatError, InputError, ShapeError
from eucentric.io.amira import (
    is_amira,
    read_amira_graph,
    read_amira_surface,
    read_amira_volume,
    write_amira_graph,
    write_amira_landmarks,
    write_amira_volume,
)

sys.path.insert(0, str(Path(__file__).parents[1] / "agreement"))
from damaged_copies import damaged_copies

HEAD = """# AmiraMesh {kind}

define Lattice 4 3 2

Parameters {{
    Materials {{
        Exterior {{
            Id 1
        }}
        Membrane {{
            Id 4,
            Color 0.8 0.2 0.2
        }}
        Ribosome {{
            Color {{ }}
        }}
    }}
    Units {{
        Coordinates "nm"
    }}
    Content "4x3x2 byte, uniform coordinates",
    BoundingBox 10 13 20 24 30 31.5,
    CoordType "uniform"
}}

Lattice {{ {field} }} {data}

# Data section follows
@1
"""
VALUES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


def volume(path: Path, kind: str, field: str, data: str, body: bytes) -> Path:
    path.write_bytes(HEAD.format(kind=kind, field=field, data=data).encode() + body + b"\n")
    return path


def test_a_volume_has_the_grid_that_its_bounding_box_tells(tmp_path: Path) -> None:
    file = volume(tmp_path / "v.am", "BINARY-LITTLE-ENDIAN 2.1", "byte Data", "@1", VALUES.tobytes())
    found = read_amira_volume(file)
    np.testing.assert_array_equal(found.values, VALUES)  # x runs fastest
    # 13 - 10 nm over 3 steps, 24 - 20 over 2, 31.5 - 30 over 1
    assert found.voxel_size_angstrom == pytest.approx((10.0, 20.0, 15.0))
    assert found.origin_angstrom == pytest.approx((100.0, 200.0, 300.0))
    assert found.materials == ("Exterior", "Membrane", "Ribosome")
    assert is_amira(file)


def test_every_packing_and_order_of_bytes_is_read(tmp_path: Path) -> None:
    packed = bytes([3, 7, 128 + 2, 1, 2, 19, 0])
    values = np.frombuffer(bytes([7, 7, 7, 1, 2, *[0] * 19]), dtype=np.uint8).reshape(2, 3, 4)
    file = volume(tmp_path / "r.am", "3D BINARY 2.0", "byte Labels", f"@1(HxByteRLE,{len(packed)})", packed)
    np.testing.assert_array_equal(read_amira_volume(file).values, values)
    squeezed = zlib.compress(VALUES.tobytes())
    file = volume(tmp_path / "z.am", "BINARY-LITTLE-ENDIAN 3.0", "byte Labels", f"@1(HxZip,{len(squeezed)})", squeezed)
    np.testing.assert_array_equal(read_amira_volume(file).values, VALUES)
    numbers = np.linspace(-3, 4, 24).reshape(2, 3, 4)
    file = volume(tmp_path / "b.am", "BINARY 2.1", "float Data", "@1", numbers.astype(">f4").tobytes())
    np.testing.assert_array_equal(read_amira_volume(file).values, numbers.astype("f4"))
    file = volume(tmp_path / "l.am", "BINARY-LITTLE-ENDIAN 2.1", "short Data", "= @1", numbers.astype("<i2").tobytes())
    np.testing.assert_array_equal(read_amira_volume(file).values, numbers.astype("i2"))
    text = " \n".join(f"{v:.9g}" for v in numbers.ravel()).encode()
    file = volume(tmp_path / "t.am", "3D ASCII 2.0", "float Data", "@1", text)
    np.testing.assert_allclose(read_amira_volume(file).values, numbers, rtol=1e-6)


@pytest.mark.parametrize("ascii_text", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "f4", "f8"])
def test_volumes_come_back(tmp_path: Path, dtype: str, ascii_text: bool) -> None:
    values = np.random.default_rng(0).normal(0, 40, (3, 5, 4)).clip(0 if dtype[0] == "u" else -100, 100).astype(dtype)
    write_amira_volume(tmp_path / "v.am", values, (2.0, 3.0, 4.0), origin_angstrom=(-5, 6, 7), ascii_text=ascii_text)
    found = read_amira_volume(tmp_path / "v.am")
    assert found.values.dtype == values.dtype
    np.testing.assert_allclose(found.values, values, rtol=1e-7)
    assert found.voxel_size_angstrom == pytest.approx((2.0, 3.0, 4.0))
    assert found.origin_angstrom == pytest.approx((-5.0, 6.0, 7.0))


def test_labels_come_back_packed_with_their_names(tmp_path: Path) -> None:
    labels = np.zeros((20, 30, 41), np.uint8)
    labels[3:9, 4:20, 7:30], labels[12] = 2, 1
    write_amira_volume(tmp_path / "l.am", labels, 10.0, materials=("Exterior", "a b", "Ribosome"))
    found = read_amira_volume(tmp_path / "l.am")
    np.testing.assert_array_equal(found.values, labels)
    assert found.materials == ("Exterior", "a_b", "Ribosome")
    assert (tmp_path / "l.am").stat().st_size < labels.size / 10
    with pytest.raises(InputError, match="Label 2 has no name"):
        write_amira_volume(tmp_path / "l.am", labels, 10.0, materials=("Exterior", "a"))
    with pytest.raises(ShapeError, match="expected \\(z, y, x\\)"):
        write_amira_volume(tmp_path / "l.am", labels[0], 10.0)
    with pytest.raises(InputError, match="no numbers of type complex64"):
        write_amira_volume(tmp_path / "l.am", labels.astype(np.complex64), 10.0)


def test_a_binary_graph_is_read_stream_after_stream(tmp_path: Path) -> None:
    """Two edges of 3 and 2 points; the vertices' bytes hold what looks like the mark of another stream."""
    mark = np.frombuffer(b"\n@4\n\n@4\n\n@4\n", dtype="<f4")
    vertices = np.concatenate([mark[None], np.arange(9).reshape(3, 3)]).astype("<f4")
    points = np.arange(15).reshape(5, 3).astype("<f4")
    head = (
        b"# Avizo BINARY-LITTLE-ENDIAN 2.1\n\ndefine VERTEX 4\ndefine EDGE 2\ndefine POINT 5\n\nParameters {\n"
        b'    ContentType "HxSpatialGraph"\n}\n\nVERTEX { float[3] VertexCoordinates } @1\nEDGE { int[2] EdgeConnectivity } @2\n'
        b"EDGE { int NumEdgePoints } @3\nPOINT { float[3] EdgePointCoordinates } @4\nEDGE { float radius } @5\n\n"
        b"# Data section follows\n"
    )
    blocks = (
        vertices.tobytes(),
        struct.pack("<4i", 0, 1, 2, 3),
        struct.pack("<2i", 3, 2),
        points.tobytes(),
        struct.pack("<2f", 5.5, 6.5),
    )
    (tmp_path / "g.am").write_bytes(head + b"".join(b"@%d\n%s\n" % (i, b) for i, b in enumerate(blocks, 1)))
    found = read_amira_graph(tmp_path / "g.am")
    assert [line.tolist() for line in found.lines] == [points[:3].tolist(), points[3:].tolist()]
    assert len(found.points) == 4
    assert found.labels["radius"].tolist() == [5.5, 6.5]


def test_graphs_and_landmarks_come_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    lines = [rng.normal(0, 500, (n, 3)) for n in (7, 2, 30)]
    write_amira_graph(tmp_path / "g.am", lines, labels={"length nm": [1.5, 2.5, 3.5]})
    found = read_amira_graph(tmp_path / "g.am")
    for old, new in zip(lines, found.lines, strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-6, atol=1e-4)
    np.testing.assert_allclose(found.points[:2], lines[0][[0, -1]], rtol=1e-6, atol=1e-4)
    assert found.labels["length_nm"].tolist() == [1.5, 2.5, 3.5]
    write_amira_landmarks(tmp_path / "p.landmarkAscii", lines[2])
    np.testing.assert_allclose(read_amira_graph(tmp_path / "p.landmarkAscii").points, lines[2], rtol=1e-6, atol=1e-4)
    with pytest.raises(ShapeError, match="two points at least"):
        write_amira_graph(tmp_path / "g.am", [np.zeros((1, 3))])
    with pytest.raises(InputError, match="NaN"):
        write_amira_graph(tmp_path / "g.am", [np.full((2, 3), np.nan)])


def test_line_sets_are_read(tmp_path: Path) -> None:
    (tmp_path / "l.am").write_text(
        '# AmiraMesh 3D ASCII 2.0\n\ndefine Lines 7\ndefine Vertices 4\n\nParameters {\n    ContentType "HxLineSet"\n}\n\n'
        "Vertices { float[3] Coordinates } = @1\nVertices { float Data } = @2\nLines { int LineIdx } = @3\n\n"
        "@1 # 4 xyz Coordinates\n0 0 0\n1 0 0\n1 2 0\n5 5 5\n\n@2 # 4 width values\n1\n1\n1\n1\n\n@3 # 7\n0 1 2 -1\n3 1 -1\n"
    )
    found = read_amira_graph(tmp_path / "l.am")
    assert [line.tolist() for line in found.lines] == [[[0, 0, 0], [1, 0, 0], [1, 2, 0]], [[5, 5, 5], [1, 0, 0]]]


SURFACE = """# HyperSurface 0.1 ASCII

Parameters {
    Materials { Exterior { Id 1 } Inside { Id 2 } }
    Units { Coordinates "nm" }
}

Vertices 4
    0 0 0
    1 0 0
    0 1 0
    0 0 1
NBranchingPoints 0
BoundaryCurves 0
Patches 2
{
InnerRegion Inside
OuterRegion Exterior
Triangles 3
  1 2 3
  1 2 4
  1 3 4
} {
InnerRegion Exterior
Triangles 1
  2 3 4
}
"""


def test_surfaces_kept_as_text_are_read_and_binary_ones_refused(tmp_path: Path) -> None:
    (tmp_path / "s.surf").write_text(SURFACE)
    vertices, faces = read_amira_surface(tmp_path / "s.surf")
    assert vertices.tolist() == [[0, 0, 0], [10, 0, 0], [0, 10, 0], [0, 0, 10]]
    assert faces.tolist() == [[0, 1, 2], [0, 1, 3], [0, 2, 3], [1, 2, 3]]
    (tmp_path / "b.surf").write_bytes(b"# HyperSurface 0.1 BINARY\n\nVertices 4\n" + bytes(48))
    with pytest.raises(FormatError, match=r"binary surface of Amira.*STL or PLY"):
        read_amira_surface(tmp_path / "b.surf")
    (tmp_path / "d.surf").write_text(SURFACE.replace("2 3 4", "2 3 9"))
    with pytest.raises(FormatError, match="do not fit together"):
        read_amira_surface(tmp_path / "d.surf")
    (tmp_path / "d.surf").write_text(SURFACE.replace("Vertices 4", "Vertices 99999999999"))
    with pytest.raises(FormatError, match="damaged Vertices"):
        read_amira_surface(tmp_path / "d.surf")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("Lattice 4 3 2\n", "Lattice 400000 300000 200000\n", "ends before its data do"),
        ("Lattice 4 3 2\n", "Lattice 4 3\n", "holds no volume"),
        ("Lattice 4 3 2\n", "Lattice 0 3 2\n", "holds no volume"),
        ("BoundingBox 10 13", "BoundingBox 10", "no BoundingBox"),
        ("BoundingBox 10 13", "BoundingBox 10 10", "without extent"),
        ("BoundingBox 10 13", "BoundingBox 10 1e999", "no BoundingBox"),
        ('"uniform"', '"curvilinear"', "not uniform"),
        ("byte Data", "byte[3] Data", "3 values a voxel"),
        ("byte Data", "complex Data", "values of type complex"),
        ("@1\n\n#", "@1(HxByteRLE,9)\n\n#", "ends before its data do"),
        ("@1\n\n#", "@1(HxZip,9)\n\n#", "cannot be unpacked"),
        ("@1\n\n#", "@1(HxOther,9)\n\n#", "packed with HxOther"),
        ("@1\n\n#", "@2\n\n#", "no data @2"),
        ("# AmiraMesh", "# Mesh", "no Amira file"),
    ],
)
def test_damaged_volumes_are_told(tmp_path: Path, old: str, new: str, words: str) -> None:
    file = volume(tmp_path / "v.am", "BINARY-LITTLE-ENDIAN 2.1", "byte Data", "@1", VALUES.tobytes())
    raw = file.read_bytes()
    assert old.encode() in raw
    file.write_bytes(raw.replace(old.encode(), new.encode()))
    with pytest.raises(FormatError, match=words):
        read_amira_volume(file)


def test_no_damage_ends_in_anything_but_words(tmp_path: Path) -> None:
    packed = bytes([24, 7])
    rle = volume(tmp_path / "r.am", "BINARY-LITTLE-ENDIAN 2.1", "byte Labels", "@1(HxByteRLE,2)", packed)
    write_amira_volume(tmp_path / "t.am", VALUES.astype("f4"), 2.0, ascii_text=True)
    write_amira_graph(tmp_path / "g.am", [np.arange(9.0).reshape(3, 3), np.arange(6.0).reshape(2, 3)])
    (tmp_path / "s.surf").write_text(SURFACE)
    readers = {rle: read_amira_volume, tmp_path / "t.am": read_amira_volume, tmp_path / "g.am": read_amira_graph}
    for file, read in {**readers, tmp_path / "s.surf": read_amira_surface}.items():
        whole, refused = file.read_bytes(), 0
        for copy in damaged_copies(whole, count=12):
            file.write_bytes(copy)
            try:
                read(file)
            except EucentricError:
                refused += 1
        assert refused > 5, file
