"""EMAN2's particles: places and orientations against EMAN2's own steps, round trips, damaged files."""

import contextlib
import json

import numpy as np
import pytest
from asymmetric_particles import FRAMES, asymmetric

from eucentric.errors import EucentricError, FormatError, InputError
from eucentric.geometry import Rotation
from eucentric.io.eman2_files import eman2_matrix, eman2_name, read_lst
from eucentric.io.eman2_particles import read_eman2_particles, write_eman2_particles
from eucentric.io.hdf import write_hdf
from eucentric.models import ParticleSet
from eucentric.models.tomogram_frames import TomogramFrame, TomogramFrames


def two_kinds() -> ParticleSet:
    """Particles of kinds with names, and one without."""
    return asymmetric().with_kinds(["ribosome", "1", "ribosome", "", "1"])


def same(got: ParticleSet, expected: ParticleSet) -> None:
    """Equal in the order of the tomograms: positions to 0.01 A, rotations to 0.01 degree."""
    assert len(got) == len(expected)
    for name in expected.tomogram_names:
        a, b = got.in_tomogram(name), expected.in_tomogram(name)
        np.testing.assert_allclose(a.positions_angstrom, b.positions_angstrom, atol=0.01)
        assert np.max(Rotation(a.rotations).angle_to_deg(Rotation(b.rotations))) < 0.01
        np.testing.assert_allclose(a.scores, b.scores, atol=1e-6)
        assert a.kinds.tolist() == b.kinds.tolist()


def transform(rotation: np.ndarray, shift: np.ndarray) -> np.ndarray:
    return np.vstack([np.hstack([rotation, np.reshape(shift, (3, 1))]), [0, 0, 0, 1]])


def eman_places(coord: np.ndarray, align3d: np.ndarray) -> np.ndarray:
    """Steps of parse_json in e2spt_extract.py: ali.inverse(), translated by the place of the particle: reference to tomogram."""
    a = np.linalg.inv(align3d)
    a[:3, 3] += coord
    return a


def spider(phi: float, theta: float, psi: float) -> np.ndarray:
    """Transform.set_rotation of the kind spider: az = phi + 90, alt = theta, phi = psi - 90."""
    return eman2_matrix(phi + 90.0, theta, psi - 90.0)


def eman_set_rotation(direction: np.ndarray) -> np.ndarray:
    """Transform.set_rotation(Vec3f) of libEM/transform.cpp, with which curves get their particles' orientation."""
    v = direction / np.linalg.norm(direction)
    return spider(0.0, np.rad2deg(np.arccos(v[2])), np.rad2deg(np.arctan2(v[1], -v[0])))


def test_a_list_of_eman2_with_its_stack(tmp_path):
    """xform.align3d, the place in the header and the voxel size, as EMAN2 goes from a particle back to its tomogram."""
    rng = np.random.default_rng(1)
    coords = rng.uniform(-200, 200, (4, 3))
    turns = Rotation.random(4, rng).matrices
    shifts = rng.uniform(-9, 9, (4, 3))
    stack = tmp_path / "particles3d" / "ts_25__tomobox_bin4.hdf"
    write_hdf(stack, np.zeros((1, 4, 4)), voxel_size_angstrom=6.0)
    lines = []
    for i in range(4):
        matrix = np.hstack([turns[i], shifts[i][:, None]])
        text = "[" + ",".join(f"{v:.6g}" for v in matrix.ravel()) + "]"
        entry = {
            "score": -0.1 * i,
            "xform.align3d": {"__class__": "Transform", "matrix": text},
            "coord": coords[i].tolist(),
        }
        lines.append(f"{i}\tparticles3d/ts_25__tomobox_bin4.hdf\t{json.dumps(entry)}".ljust(400))
    (tmp_path / "spt_00").mkdir()
    listed = tmp_path / "spt_00" / "aliptcls3d_02.lst"
    listed.write_text("#LSX\n# comment\n# 401\n" + "\n".join(lines) + "\n")
    frames = TomogramFrames(default=TomogramFrame(voxel_size_angstrom=6.0, size_xyz=(9, 9, 9)))
    got = read_eman2_particles(listed, frames)
    assert got.tomogram_names == ("ts_25",)
    assert set(got.kinds) == {"tomobox"}
    np.testing.assert_allclose(got.scores, [0.0, 0.1, 0.2, 0.3])
    for i in range(4):
        expected = eman_places(coords[i], transform(turns[i], shifts[i]))
        np.testing.assert_allclose(got.positions_angstrom[i], expected[:3, 3] * 6.0, atol=0.01)
        np.testing.assert_allclose(got.rotations[i], expected[:3, :3], atol=1e-5)


def test_headers_of_a_stack_place_its_particles(tmp_path):
    """Curves of EMAN2 keep the inverse of the rotation that takes z to the curve: particles point along it."""
    along = np.array([0.3, -0.5, 0.8])
    turn = eman_set_rotation(along)
    np.testing.assert_allclose(turn @ [0, 0, 1], along / np.linalg.norm(along), atol=1e-6)
    stack = tmp_path / "particles3d" / "cell__curve_00.hdf"
    header = {
        "xform.align3d": np.hstack([turn.T, np.zeros((3, 1))]),
        "ptcl_source_coord": [10.0, -20.0, 5.0],
        "file_twod": "particles/cell__curve_00.hdf",
    }
    write_hdf(stack, np.ones((6, 6, 6)), voxel_size_angstrom=4.0, attributes=header)
    got = read_eman2_particles(stack, TomogramFrames())
    np.testing.assert_allclose(got.directions[0], along / np.linalg.norm(along), atol=1e-5)
    np.testing.assert_allclose(got.positions_angstrom[0], [40.0, -80.0, 20.0], atol=1e-4)
    assert (got.tomogram_names, got.kinds.tolist()) == (("cell",), ["curve_00"])
    parms = {
        "('particles3d/cell__curve_00.hdf', 0)": {
            "score": -2.0,
            "xform.align3d": {"az": 10, "alt": 20, "phi": 30, "tx": 1},
        }
    }
    (tmp_path / "spt_00").mkdir()
    (tmp_path / "spt_00" / "particle_parms_02.json").write_text(json.dumps(parms))
    got = read_eman2_particles(tmp_path / "spt_00" / "particle_parms_02.json", TomogramFrames())
    a = eman_places(np.array([10.0, -20.0, 5.0]), transform(eman2_matrix(10, 20, 30), np.array([1.0, 0, 0])))
    np.testing.assert_allclose(got.positions_angstrom[0], a[:3, 3] * 4.0, atol=1e-3)
    np.testing.assert_allclose(got.rotations[0], a[:3, :3], atol=1e-6)
    assert got.scores[0] == 2.0
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "a.lst").write_text("#LSX\n# c\n# 40\n0\tparticles3d/cell__curve_00.hdf\n")
    keyed = {str(("sets/a.lst", 0)): {"score": 1.0, "xform.align3d": parms[next(iter(parms))]["xform.align3d"]}}
    (tmp_path / "spt_00" / "p.json").write_text(json.dumps(keyed))
    again = read_eman2_particles(tmp_path / "spt_00" / "p.json", TomogramFrames())
    np.testing.assert_allclose(again.positions_angstrom, got.positions_angstrom)
    assert again.tomogram_names == ("cell",)


def test_euler_angles_are_those_of_the_documentation():
    """az turns about z, alt about the new x, phi about the new z; the matrix turns points the other way round."""
    np.testing.assert_allclose(eman2_matrix(90, 0, 0) @ [1, 0, 0], [0, -1, 0], atol=1e-12)
    np.testing.assert_allclose(eman2_matrix(0, 90, 0) @ [0, 0, 1], [0, 1, 0], atol=1e-12)
    a, b, p = np.deg2rad([20.0, 35.0, 50.0])
    assert abs(eman2_matrix(20, 35, 50)[0, 1] - (np.cos(p) * np.sin(a) + np.cos(b) * np.cos(a) * np.sin(p))) < 1e-12
    assert abs(eman2_matrix(20, 35, 50)[2, 1] + np.sin(b) * np.cos(a)) < 1e-12


@pytest.mark.parametrize("name", ["a.lst", "a.json"])
def test_round_trip(tmp_path, name):
    write_eman2_particles(tmp_path / name, two_kinds(), FRAMES)
    same(read_eman2_particles(tmp_path / name, FRAMES), two_kinds())


def test_a_written_list_is_as_eman2_wants_it(tmp_path):
    halves = two_kinds().with_column("rlnRandomSubset", [1, 1, 2, 2, 1])
    write_eman2_particles(tmp_path / "a.lst", halves, FRAMES)
    lines = (tmp_path / "a.lst").read_bytes().split(b"\n")
    assert lines[0] == b"#LSX"
    assert {len(line) + 1 for line in lines[3:-1]} == {int(lines[2][1:])}
    rows = read_lst(tmp_path / "a.lst")
    assert [r.file for r in rows][:2] == ["particles3d/TS_01__ribosome.hdf", "particles3d/TS_01__1.hdf"]
    assert rows[0].entries["score"] == -0.5  # lower is better there
    assert [r.entries["class"] for r in rows] == [0, 0, 1, 1, 0]
    for row, entry in enumerate(rows):
        matrix = np.array(entry.entries["xform.align3d"]["matrix"]).reshape(3, 4)
        a = eman_places(np.array(entry.entries["coord"]), np.vstack([matrix, [0, 0, 0, 1]]))
        voxel = FRAMES.of(str(halves.tomograms[row])).voxel_size_angstrom
        np.testing.assert_allclose(a[:3, 3] * voxel, halves.positions_angstrom[row], atol=1e-3)
        np.testing.assert_allclose(a[:3, :3], halves.rotations[row], atol=1e-6)
    got = read_eman2_particles(tmp_path / "a.lst", FRAMES)
    np.testing.assert_array_equal(got.columns["rlnRandomSubset"], [1, 1, 2, 2, 1])


def test_places_to_extract_hold_reference_to_tomogram(tmp_path):
    """parse_text of e2spt_extract.py: the Transform, moved to x, y, z, is reference to tomogram already."""
    write_eman2_particles(tmp_path / "a.json", two_kinds(), FRAMES)
    rows = json.loads((tmp_path / "a.json").read_text())["tomograms/TS_02.hdf"]
    second = two_kinds().in_tomogram("TS_02")
    for row, at, turn in zip(rows, second.positions_angstrom, second.rotations, strict=True):
        np.testing.assert_allclose(np.array(row[:3]) * 10.0, at, atol=1e-5)
        assert row[3]["__class__"] == "Transform"
        np.testing.assert_allclose(np.array(row[3]["matrix"]).reshape(3, 4)[:, :3], turn, atol=1e-7)


def test_boxes(tmp_path):
    one = two_kinds().in_tomogram("TS_01")
    place = tmp_path / "info" / "TS_01_info.json"
    place.parent.mkdir()
    place.write_text(json.dumps({"apix_unbin": 2.0, "tlt_params": [[0, 0, 0, 0, 0]]}))
    write_eman2_particles(place, one, FRAMES)
    info = json.loads(place.read_text())
    np.testing.assert_allclose(np.array([b[:3] for b in info["boxes_3d"]]) * 2.0, one.positions_angstrom, atol=1e-6)
    assert info["tlt_params"] == [[0, 0, 0, 0, 0]]
    got = read_eman2_particles(place, FRAMES)
    np.testing.assert_allclose(got.positions_angstrom, one.positions_angstrom, atol=1e-6)
    assert got.kinds.tolist() == one.kinds.tolist()
    np.testing.assert_allclose(got.scores, one.scores)
    del info["apix_unbin"]  # an old file: voxels from the corner
    info["boxes_3d"] = [[60, 50, 25, "manual", 0.0, 0], [61, 50, 25, "manual", 0.0, 9]]
    place.write_text(json.dumps(info))
    old = read_eman2_particles(place, FRAMES)
    np.testing.assert_allclose(old.positions_angstrom, [[0, 0, 0], [8, 0, 0]])
    assert np.isnan(old.scores).all()
    with pytest.raises(InputError, match="one tomogram"):
        write_eman2_particles(tmp_path / "x_info.json", two_kinds(), FRAMES)


def test_names():
    assert eman2_name("tomograms/TS_1__bin4.hdf") == "TS_1"
    assert eman2_name("info\\TS_1_info.json") == "TS_1"
    assert eman2_name("particles3d/a.b__ribo.hdf") == "a.b"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.lst", "", "does not begin"),
        ("a.lst", "#LSX\n# c\n# 20\nx\ty\n", "Line 4"),
        ("a.lst", "#LSX\n# c\n# 20\n0\n", "Line 4"),
        ("a.lst", "#LSX\n# c\n# 20\n0\ta.hdf\t{broken}\n", "Line 4"),
        ("a.lst", "#LSX\n# c\n# 20\n0\ta__b.hdf\t{}\n", "where particle 0"),
        ("a.lst", "#LSX\n# c\n# 20\n0\tb.lst\t{}\n", "b.lst"),
        ("a.lst", '#LSX\n# c\n# 20\n0\tTS_01__b.hdf\t{"coord":[1,2]}\n', "coord"),
        ("a.lst", '#LSX\n# c\n# 20\n0\tTS_01__b.hdf\t{"coord":[1,2,1e999]}\n', "coord"),
        ("a.lst", '#LSX\n# c\n# 20\n0\tc__b.hdf\t{"coord":[1,2,3]}\n', "voxel size"),
        ("a.lst", '#LSX\n# c\n# 20\n0\tTS_01__b.hdf\t{"coord":[1,2,3],"xform.align3d":{"matrix":[1,2]}}\n', "twelve"),
        ("a.lst", '#LSX\n# c\n# 20\n0\tTS_01__b.hdf\t{"coord":[1,2,3],"xform.align3d":{"matrix":"[' + "0," * 11 + '0]"}}', "no rot"),
        ("a.lst", '#LSX\n# c\n# 20\n0\tTS_01__b.hdf\t{"coord":[1,2,3],"xform.align3d":{"az":0,"alt":"x","phi":1}}\n', "angles"),
        ("a.json", "{", "not JSON"),
        ("a.json", "{}", "no particles"),
        ("a.json", '{"x": 1}', "no particles"),
        ("a.json", '{"(\'a.hdf\', 0)": 3}', "expected xform"),
        ("a.json", '{"tomograms/a.hdf": [[1, 2]]}', "x, y, z and a Transform"),
        ("TS_01_info.json", '{"boxes_3d": 3}', "list of boxes"),
        ("TS_01_info.json", '{"boxes_3d": [[1, 2, "x"]]}', "boxes_3d"),
        ("a.hdf", "nothing", "not an HDF5"),
    ],
)  # fmt: skip
def test_damaged_files_are_explained(tmp_path, name, content, words):
    (tmp_path / name).write_text(content)
    with pytest.raises((FormatError, InputError), match=words):
        read_eman2_particles(tmp_path / name, FRAMES)


@pytest.mark.parametrize("name", ["a.lst", "a.json", "TS_01_info.json"])
def test_mutated_files_never_end_in_a_traceback(tmp_path, name):
    rng = np.random.default_rng(5)
    write_eman2_particles(tmp_path / name, two_kinds().in_tomogram("TS_01"), FRAMES)
    raw = (tmp_path / name).read_bytes()
    for _ in range(250):
        content = bytearray(raw)
        for _ in range(rng.integers(1, 6)):
            content[rng.integers(len(content))] = rng.choice(
                np.frombuffer(b'0919eE-+.,:[]{}"#\t\n\x00\xff', dtype=np.uint8)
            )
        (tmp_path / name).write_bytes(bytes(content))
        with contextlib.suppress(EucentricError):
            read_eman2_particles(tmp_path / name, FRAMES)


def test_other_endings_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"\.lst"):
        write_eman2_particles(tmp_path / "a.txt", two_kinds(), FRAMES)
