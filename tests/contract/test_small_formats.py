"""EM, DigitalMicrograph, IMOD tables, atomic models and truth files: damage and round trips."""

import gzip
import json
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from eucentric.errors import FormatError, InputError, ShapeError
from eucentric.io import (
    TiltTruth,
    read_angle_table,
    read_angles,
    read_atoms,
    read_dm,
    read_em,
    read_transforms,
    read_truth,
    validate_em,
    write_angles,
    write_em,
    write_transforms,
    write_truth,
)
from eucentric.models import Optics


@pytest.mark.parametrize("shape", [(2, 3, 5), (4, 6), (1, 1, 7)])
def test_em_files_come_back(tmp_path, shape):
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    write_em(tmp_path / "a.em", array)
    got, header = read_em(tmp_path / "a.em")
    assert_array_equal(got, array if array.ndim == 3 else array[None])
    assert header.shape == got.shape
    assert validate_em(tmp_path / "a.em") == []


@pytest.mark.parametrize(("code", "kind"), [(1, "i1"), (2, "i2"), (4, "i4"), (5, "f4"), (9, "f8")])
@pytest.mark.parametrize(("machine", "order"), [(6, "<"), (5, ">")])
def test_em_types_and_byte_orders(tmp_path, code, kind, machine, order):
    array = np.arange(24).reshape(2, 3, 4).astype(order + kind)
    header = bytes([machine, 0, 0, code]) + np.array([4, 3, 2], dtype=order + "i4").tobytes()
    (tmp_path / "a.em").write_bytes(header.ljust(512, b"\0") + array.tobytes())
    assert_array_equal(read_em(tmp_path / "a.em")[0], array)


def test_damaged_em_files_are_refused(tmp_path):
    path = tmp_path / "a.em"
    write_em(path, np.zeros((4, 3, 2)))
    raw = path.read_bytes()
    path.write_bytes(raw[: 512 + 2 * 24 + 5])
    with pytest.raises(FormatError, match=r"after section 2 of 4 \(the file is 565 bytes; its header says 608\)"):
        read_em(path)
    path.write_bytes(bytes(600))
    with pytest.raises(FormatError, match="type 0"):
        read_em(path)
    path.write_bytes(b"x")
    assert [f.severity for f in validate_em(path)] == ["error"]
    with pytest.raises(ShapeError):
        write_em(path, np.zeros(3))


def test_damaged_dm_files_are_refused(tmp_path):
    for raw in (b"", b"\0\0\0\3" * 10, np.random.default_rng(1).bytes(3000)):
        (tmp_path / "a.dm3").write_bytes(raw)
        with pytest.raises(FormatError, match="DigitalMicrograph"):
            read_dm(tmp_path / "a.dm3")
    with pytest.raises(InputError, match="does not exist"):
        read_dm(tmp_path / "b.dm4")


def test_angles_come_back_with_two_decimals(tmp_path):
    angles = np.array([-60.02, -3.0, 0.005, 57.114])
    write_angles(tmp_path / "a.tlt", angles)
    assert_allclose(read_angles(tmp_path / "a.tlt"), angles, atol=0.005 + 1e-12)
    with pytest.raises(ShapeError):
        write_angles(tmp_path / "a.tlt", angles[None])


def test_transforms_come_back(tmp_path):
    rng = np.random.default_rng(4)
    matrices, shifts = rng.normal(size=(5, 2, 2)), rng.normal(size=(5, 2)) * 50
    write_transforms(tmp_path / "a.xf", matrices, shifts)
    got, moved = read_transforms(tmp_path / "a.xf")
    assert_allclose(got, matrices, atol=0.5e-7)
    assert_allclose(moved, shifts, atol=0.5e-3)
    with pytest.raises(ShapeError):
        write_transforms(tmp_path / "a.xf", matrices, shifts[:3])


@pytest.mark.parametrize(("text", "line"), [("-60\nx\n", 2), ("\n-60 nan\n", 2), ("-60\n\n1,2 3\n4 five\n", 4)])
def test_a_bad_line_of_a_table_is_named(tmp_path, text, line):
    (tmp_path / "a.tlt").write_text(text)
    with pytest.raises(FormatError, match=f"Line {line}"):
        read_angles(tmp_path / "a.tlt")


def test_odd_tables_are_refused(tmp_path):
    (tmp_path / "a.tlt").write_text("\n")
    with pytest.raises(FormatError, match="empty"):
        read_angles(tmp_path / "a.tlt")
    (tmp_path / "a.tlt").write_text("1 2\n3\n")
    with pytest.raises(FormatError, match="columns"):
        read_angle_table(tmp_path / "a.tlt")
    (tmp_path / "a.xf").write_text("1 0 0 1 2\n")
    with pytest.raises(FormatError, match="A11"):
        read_transforms(tmp_path / "a.xf")


PDB = """CRYST1   10.000   10.000   10.000  90.00  90.00  90.00 P 1           1
ATOM      1  N   ALA A   1      11.104   6.134  -6.504  1.00 12.50           N
ATOM      2  H   ALA A   1      11.639   6.071  -5.147  0.50 13.00           H
HETATM    3 ZN    ZN A   2      -1.500   2.250   3.000  1.00 99.99          ZN
END
"""
CIF = """data_x
loop_
_atom_site.group_PDB
_atom_site.id
_atom_site.type_symbol
_atom_site.label_atom_id
_atom_site.label_alt_id
_atom_site.label_comp_id
_atom_site.label_asym_id
_atom_site.label_entity_id
_atom_site.label_seq_id
_atom_site.Cartn_x
_atom_site.Cartn_y
_atom_site.Cartn_z
_atom_site.occupancy
_atom_site.B_iso_or_equiv
_atom_site.auth_seq_id
_atom_site.auth_asym_id
_atom_site.pdbx_PDB_model_num
ATOM 1 N N . ALA A 1 1 11.104 6.134 -6.504 1.00 12.50 1 A 1
ATOM 2 H H . ALA A 1 1 11.639 6.071 -5.147 0.50 13.00 1 A 1
HETATM 3 ZN ZN . ZN B 2 . -1.500 2.250 3.000 1.00 99.99 2 A 1
"""


@pytest.mark.parametrize(("name", "text"), [("a.pdb", PDB), ("a.cif", CIF), ("a.pdb.gz", PDB), ("a.cif.gz", CIF)])
def test_atoms_of_either_format(tmp_path, name, text):
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    atoms = read_atoms(path)
    assert_allclose(atoms.positions, [[11.104, 6.134, -6.504], [11.639, 6.071, -5.147], [-1.5, 2.25, 3.0]])
    assert atoms.atomic_numbers.tolist() == [7, 1, 30]
    assert_allclose(atoms.b_factors, [12.5, 13.0, 99.99], atol=1e-4)
    assert_allclose(atoms.occupancies, [1.0, 0.5, 1.0])


@pytest.mark.parametrize(("name", "raw"), [("a.pdb", b"hello"), ("a.cif", b"data_\nloop_\n_a"), ("a.pdb.gz", b"no")])
def test_files_without_atoms_are_refused(tmp_path, name, raw):
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(FormatError, match=name):
        read_atoms(tmp_path / name)


def a_truth(tilts=5, frames=3, particles=4, seed=0):
    rng = np.random.default_rng(seed)
    return TiltTruth(
        name="TS_9",
        pixel_size_angstrom=3.5,
        image_shape=(64, 48),
        optics=Optics(voltage_kv=200.0, spherical_aberration_mm=2.0, amplitude_contrast=0.1),
        nominal_tilts_deg=np.linspace(-30, 30, tilts),
        true_tilts_deg=np.linspace(-30, 30, tilts) + rng.normal(size=tilts) * 0.05,
        tilt_axis_deg=84.3,
        nominal_axis_deg=85.0,
        matrices=rng.normal(size=(tilts, 3, 3)),
        shifts_angstrom=rng.normal(size=(tilts, 2)),
        acquisition=rng.permutation(tilts),
        movie_names=tuple(f"m_{i}.tif" for i in range(tilts)),
        dose=2.5,
        defocus_u_angstrom=rng.normal(3e4, 10, tilts),
        defocus_v_angstrom=rng.normal(3e4, 10, tilts),
        astigmatism_angle_deg=30.0,
        hand=-1.0,
        motion_angstrom=rng.normal(size=(tilts, frames, 2)),
        thickness_angstrom=1200.0,
        deformation_angstrom=8.0,
        deformation_coefficients=rng.normal(size=(3, 6)),
        bad_tilts=(0, tilts - 1),
        positions=rng.normal(size=(particles, 3)),
        rotations=rng.normal(size=(particles, 3, 3)),
        kinds=rng.integers(0, 3, particles),
        beads=rng.normal(size=(2, 3)),
        vesicle_centres=rng.normal(size=(1, 3)),
        vesicle_radii_angstrom=np.array([300.0]),
        settings={"seed": 7, "scheme": "dose-symmetric"},
    )


@pytest.mark.parametrize("doses", [(), (15.0, 3.0, 2.5, 2.5, 4.0)])
def test_truth_comes_back_to_the_last_digit(tmp_path, doses):
    truth = replace(a_truth(), doses=np.array(doses))
    write_truth(tmp_path / "t.json", truth)
    again = read_truth(tmp_path / "t.json")
    for name in truth.__dataclass_fields__:
        a, b = getattr(truth, name), getattr(again, name)
        if isinstance(a, np.ndarray):
            assert_array_equal(b, a)
        else:
            assert b == a


def test_deformation_is_the_documented_formula():
    truth = a_truth()
    points = np.array([[20.0, -70.0, 15.0], [-84.0, 3.0, 0.0]])
    got = truth.camera_positions(points)
    half = 64 * 3.5 / 2
    for t in range(5):
        scale = 8.0 * (1 - np.exp(-(truth.acquisition[t] * 2.5 + 1.25) / 30)) / 1.5
        for p, point in enumerate(points):
            u, v = point[0] / half, point[1] / half
            bend = truth.deformation_coefficients[:, 1:] @ [u, v, u * u, v * v, u * v]
            expected = truth.matrices[t] @ (point + scale * bend) + [*truth.shifts_angstrom[t], 0.0]
            assert_allclose(got[t, p], expected, rtol=1e-12)
    plain = truth.camera_positions(points, deformed=False)
    assert_allclose(plain[2, 1], truth.matrices[2] @ points[1] + [*truth.shifts_angstrom[2], 0.0], rtol=1e-12)


def test_damaged_truth_is_refused(tmp_path):
    path = tmp_path / "t.json"
    write_truth(path, a_truth())
    data = json.loads(path.read_text())
    for change, words in (
        ({"R": data["R"][:2]}, "matrices"),
        ({"spec": {"name": "x"}}, "no entry 'n'"),
        ({"du": ["x"]}, "read"),
        ({"doses": [3.0]}, "doses"),
        ({"doses": ["x"] * 5}, "read"),
    ):
        path.write_text(json.dumps({**data, **change}))
        with pytest.raises(FormatError, match=words):
            read_truth(path)
    path.write_text("{")
    with pytest.raises(FormatError):
        read_truth(path)
    with pytest.raises(InputError, match="does not exist"):
        read_truth(tmp_path / "none.json")
