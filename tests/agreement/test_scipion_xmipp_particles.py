"""Particles of Scipion and Xmipp lie and point where their own definitions, written out here, put them.

That Scipion reads the sets was checked by hand with scipion-em-tomo 3.12.4: `Coordinate3D.getPosition(BOTTOM_LEFT_CORNER)`
gives the voxel, and `getMatrix` the matrix.
"""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from damaged_copies import damaged_copies

from eucentric.errors import EucentricError, FormatError
from eucentric.geometry import Rotation
from eucentric.io.scipion_particles import read_scipion_particles, write_scipion_particles
from eucentric.io.scipion_sets import write_scipion_set
from eucentric.io.xmipp_particles import read_xmipp_particles, write_xmipp_particles
from eucentric.models.particles import ParticleSet
from eucentric.models.tomogram_frames import TomogramFrame, TomogramFrames

SIZES = {"TS_1": (96, 80, 64), "B": (97, 81, 63)}
FRAMES = TomogramFrames(by_name={n: TomogramFrame(voxel_size_angstrom=10.0, size_xyz=s) for n, s in SIZES.items()})


def particles() -> ParticleSet:
    rng = np.random.default_rng(1)
    return ParticleSet.build(
        ["TS_1", "B", "B", "TS_1"],
        rng.normal(0, 200, (4, 3)),
        rotations=Rotation.random(4, rng).matrices,
        scores=[0.1, 0.2, 0.3, 0.4],
        kinds=["1", "2", "2", "1"],
    )


def test_scipions_coordinates_are_voxels_from_the_middle_and_its_matrix_goes_to_the_reference(tmp_path: Path) -> None:
    file, given = tmp_path / "c.sqlite", particles()
    write_scipion_particles(file, given, FRAMES)
    with closing(sqlite3.connect(file)) as connection:
        columns = dict(connection.execute("SELECT label_property, column_name FROM Classes").fetchall())
        names = ["_x", "_y", "_z", "_tomoId", "_eulerMatrix._matrix"]
        found = connection.execute(f"SELECT {', '.join(columns[n] for n in names)} FROM Objects ORDER BY id").fetchall()
    arm = np.array([3.0, -2.0, 5.0])  # a feature of the reference, in voxels from its centre
    for i, (x, y, z, name, matrix) in enumerate(found):
        size = np.array(SIZES[name])
        corner = np.array([x, y, z]) + size / 2
        np.testing.assert_allclose(corner, given.positions_angstrom[i] / 10 + size // 2, atol=1e-9)
        m = np.array(json.loads(matrix))
        in_tomogram = given.rotations[i] @ arm
        np.testing.assert_allclose((m @ [*in_tomogram, 1.0])[:3], arm, atol=1e-9)  # f'(r) = f(M r)


def test_scipions_particles_come_back(tmp_path: Path) -> None:
    given = particles()
    write_scipion_particles(tmp_path / "c.sqlite", given, FRAMES)
    back = read_scipion_particles(tmp_path / "c.sqlite", FRAMES)
    np.testing.assert_allclose(back.positions_angstrom, given.positions_angstrom, atol=1e-9)
    np.testing.assert_allclose(back.rotations, given.rotations, atol=1e-9)
    assert (back.tomograms.tolist(), back.kinds.tolist()) == (given.tomograms.tolist(), given.kinds.tolist())
    np.testing.assert_allclose(back.scores, given.scores)


def test_subtomograms_with_shifts_lie_where_the_reference_has_its_centre(tmp_path: Path) -> None:
    turn = Rotation.random(1, np.random.default_rng(2)).matrices[0]
    m = np.eye(4)
    m[:3, :3], m[:3, 3] = turn.T, [1.0, 2.0, -3.0]
    columns = [
        ("_transform._matrix", "Matrix"),
        *((f"_coordinate._{a}", "Float") for a in "xyz"),
        ("_coordinate._tomoId", "String"),
    ]
    rows = [(1, True, (str(m.tolist()), 4.0, 5.0, 6.0, "TS_1")), (2, False, (str(m.tolist()), 0.0, 0.0, 0.0, "TS_1"))]
    write_scipion_set(
        tmp_path / "s.sqlite", {"self": "SetOfSubTomograms", "_samplingRate": 10.0}, "SubTomogram", columns, rows
    )
    back = read_scipion_particles(tmp_path / "s.sqlite", FRAMES)
    assert len(back) == 1
    away = back.positions_angstrom[0] / 10 - [4.0, 5.0, 6.0]
    np.testing.assert_allclose((m @ [*away, 1.0])[:3], 0.0, atol=1e-9)
    np.testing.assert_allclose(back.rotations[0], turn, atol=1e-9)


def euler(rot: float, tilt: float, psi: float) -> np.ndarray:
    """Xmipp's Euler_angles2matrix."""
    a, b, g = np.deg2rad([rot, tilt, psi])
    ca, cb, cg, sa, sb, sg = np.cos(a), np.cos(b), np.cos(g), np.sin(a), np.sin(b), np.sin(g)
    return np.array(
        [
            [cg * cb * ca - sg * sa, cg * cb * sa + sg * ca, -cg * sb],
            [-sg * cb * ca - cg * sa, -sg * cb * sa + cg * ca, sg * sb],
            [sb * ca, sb * sa, cb],
        ]
    )


def test_xmipps_particles_are_voxels_from_the_corner_and_its_angles_relions(tmp_path: Path) -> None:
    file, given = tmp_path / "c.xmd", particles()
    write_xmipp_particles(file, given, FRAMES)
    lines = [line.strip() for line in file.read_text().splitlines()]
    labels = [line[1:] for line in lines if line.startswith("_")]
    rows = [dict(zip(labels, line.split(), strict=True)) for line in lines[4 + len(labels) :]]
    for i, row in enumerate(rows):
        index = np.array([float(row[f"{a}coor"]) - float(row[f"shift{a.upper()}"]) for a in "xyz"])
        size = np.array(SIZES[row["tiltSeriesId"]])
        np.testing.assert_allclose(index, given.positions_angstrom[i] / 10 + size // 2, atol=1e-5)
        matrix = euler(*(float(row[f"angle{n}"]) for n in ("Rot", "Tilt", "Psi")))
        np.testing.assert_allclose(matrix, given.rotations[i], atol=1e-6)
    back = read_xmipp_particles(file, FRAMES)
    np.testing.assert_allclose(back.positions_angstrom, given.positions_angstrom, atol=1e-4)
    np.testing.assert_allclose(back.rotations, given.rotations, atol=1e-6)
    assert back.kinds.tolist() == given.kinds.tolist()


def test_bare_coordinates_of_xmipp_belong_to_the_tomogram_of_their_file(tmp_path: Path) -> None:
    file = tmp_path / "TS_1.xmd"
    file.write_text("# XMIPP_STAR_1 *\n#\ndata_noname\nloop_\n _xcoor\n _ycoor\n _zcoor\n48\t40\t32\n49\t40\t32\n")
    back = read_xmipp_particles(file, FRAMES)
    assert back.tomograms.tolist() == ["TS_1", "TS_1"]
    np.testing.assert_allclose(back.positions_angstrom, [[0, 0, 0], [10, 0, 0]])


def test_damaged_lists_are_told_in_words(tmp_path: Path) -> None:
    write_scipion_particles(tmp_path / "c.sqlite", particles(), FRAMES)
    write_xmipp_particles(tmp_path / "c.xmd", particles(), FRAMES)
    for name, read in (("c.sqlite", read_scipion_particles), ("c.xmd", read_xmipp_particles)):
        whole, refused = (tmp_path / name).read_bytes(), 0
        for copy in damaged_copies(whole, count=15):
            (tmp_path / name).write_bytes(copy)
            try:
                read(tmp_path / name, FRAMES)
            except EucentricError:
                refused += 1
        assert refused > 10
    (tmp_path / "t.xmd").write_text("# XMIPP_STAR_1 *\ndata_\nloop_\n _image\n1@a\n")
    with pytest.raises(FormatError, match="expected the labels xcoor"):
        read_xmipp_particles(tmp_path / "t.xmd", FRAMES)
    write_scipion_set(tmp_path / "t.sqlite", {"self": "SetOfTiltSeries"}, "TiltSeries", [("_tsId", "String")], [])
    with pytest.raises(FormatError, match="is a SetOfTiltSeries"):
        read_scipion_particles(tmp_path / "t.sqlite", FRAMES)
