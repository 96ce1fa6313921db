"""PEET's motive lists, models and parameter files: places and angles against independent ones, round trips, damaged files."""

import contextlib

import numpy as np
import pytest
from asymmetric_particles import FRAMES, asymmetric
from scipy.spatial.transform import Rotation as Scipy

from eucentric.errors import EucentricError, FormatError, InputError
from eucentric.geometry import Rotation
from eucentric.io.imod_models import read_imod_model, write_imod_model
from eucentric.io.imod_particles import read_imod_particles, write_imod_particles
from eucentric.io.peet import read_peet, write_peet
from eucentric.io.peet_lists import prm_texts, read_prm
from eucentric.models import ParticleSet

HEADER = (
    "CCC,reserved,reserved,pIndex,wedgeWT,NA,NA,NA,NA,NA,xOffset,yOffset,zOffset,NA,NA,reserved,EulerZ(1),EulerZ(3),EulerX(2),"
    "reserved"
)


def same(got: ParticleSet, expected: ParticleSet) -> None:
    assert len(got) == len(expected)
    for name in expected.tomogram_names:
        a, b = got.in_tomogram(name), expected.in_tomogram(name)
        gap = np.linalg.norm(a.positions_angstrom[:, None] - b.positions_angstrom[None], axis=-1)
        a = a.select(gap.argmin(axis=0))
        assert gap.min(axis=0).max() < 0.01
        assert np.max(Rotation(a.rotations).angle_to_deg(Rotation(b.rotations))) < 0.01
        np.testing.assert_allclose(a.scores, b.scores, atol=1e-6)
        assert a.kinds.tolist() == b.kinds.tolist()


def row(
    number: int, *, ccc: float = 0.0, shift=(0, 0, 0), z1: float = 0.0, z3: float = 0.0, x2: float = 0.0, group: int = 0
) -> str:
    return f"{ccc},0,0,{number},1,0,0,0,0,0,{shift[0]},{shift[1]},{shift[2]},0,0,0,{z1},{z3},{x2},{group}"


def model(path, points) -> None:
    write_imod_model(path, [[np.array(points, dtype=float)]], (120, 100, 50), 8.0)


def test_a_list_and_a_model_as_peet_takes_them(tmp_path):
    """TEMPy's tools for PEET turn by euler_matrix(z3, x, z1, 'rzxz'), reference to tomogram; offsets add."""
    model(tmp_path / "TS_01.mod", [[60.5, 50.5, 25.0], [70.5, 50.5, 25.0], [60.5, 55.5, 20.0]])
    rows = [
        row(1, ccc=0.3, z1=20, z3=-50, x2=70),
        row(2, ccc=0.2, z1=10, z3=30, x2=120, shift=(1, -2, 0.5)),
        row(3, ccc=0.1, x2=90),
    ]
    (tmp_path / "TS_01.csv").write_text("\n".join([HEADER + ",CREATED WITH PEET Version 1.14.0", *rows]) + "\n")
    got = read_imod_particles(tmp_path / "TS_01.mod", FRAMES)
    np.testing.assert_allclose(got.positions_angstrom, [[0, 0, 0], [88, -16, 4], [0, 40, -40]], atol=1e-3)
    for turn, (z3, x2, z1) in zip(got.rotations, [(-50, 70, 20), (30, 120, 10), (0, 90, 0)], strict=True):
        np.testing.assert_allclose(turn, Scipy.from_euler("ZXZ", [z3, x2, z1], degrees=True).as_matrix(), atol=1e-9)
    np.testing.assert_allclose(got.rotations[2] @ [0, 1, 0], [0, 0, 1], atol=1e-12)  # PEET's long axis is y
    np.testing.assert_allclose(got.scores, [0.3, 0.2, 0.1])
    again = read_imod_particles(tmp_path / "TS_01.csv", FRAMES)
    np.testing.assert_array_equal(again.positions_angstrom, got.positions_angstrom)


def test_rows_belong_to_points_by_number(tmp_path):
    model(tmp_path / "TS_01.mod", [[60.5, 50.5, 25.0], [61.5, 50.5, 25.0], [62.5, 50.5, 25.0]])
    (tmp_path / "TS_01.csv").write_text(
        "\n".join([HEADER.replace(",", ";"), row(3, z1=30, group=7), row(1, z1=10)]) + "\n"
    )
    got = read_imod_particles(tmp_path / "TS_01.mod", FRAMES)
    np.testing.assert_allclose(got.positions_angstrom[:, 0], [16.0, 0.0], atol=1e-3)
    assert got.kinds.tolist() == ["7", ""]
    np.testing.assert_allclose(got.rotations[0], Scipy.from_euler("z", 30, degrees=True).as_matrix(), atol=1e-12)


def test_lists_without_numbers_keep_the_order(tmp_path):
    model(tmp_path / "TS_01.mod", [[60.5, 50.5, 25.0], [61.5, 50.5, 25.0]])
    (tmp_path / "TS_01_initMOTL.csv").write_text("\n".join([row(0, z1=10), row(0, z1=30)]) + "\n")
    got = read_imod_particles(tmp_path / "TS_01_initMOTL.csv", FRAMES)
    np.testing.assert_allclose(got.positions_angstrom[:, 0], [0.0, 8.0], atol=1e-3)
    assert got.tomogram_names == ("TS_01",)


def test_a_written_list_has_what_peet_sorts_by(tmp_path):
    write_imod_particles(tmp_path / "TS_01.mod", asymmetric().in_tomogram("TS_01"), FRAMES)
    head, *rows = (tmp_path / "TS_01.csv").read_text().splitlines()
    names = head.split(",")
    assert len(names) == 20
    assert [names[i] for i in (0, 3, 5, 10, 16, 17, 18, 19)] == [
        "CCC", "pIndex", "adjCCC", "xOffset", "EulerZ(1)", "EulerZ(3)", "EulerX(2)", "class",
    ]  # fmt: skip
    table = np.array([[float(v) for v in r.split(",")] for r in rows])
    np.testing.assert_array_equal(table[:, 0], table[:, 5])
    np.testing.assert_array_equal(table[:, 3], [1, 2, 3])
    np.testing.assert_array_equal(table[:, 19], [1, 1, 2])
    points = [p for contours in read_imod_model(tmp_path / "TS_01.mod").objects for c in contours for p in c]
    for line, point in zip(table, points, strict=True):
        at = (np.array(point) - [60.5, 50.5, 25.0]) * 8.0
        nearest = np.linalg.norm(asymmetric().positions_angstrom - at, axis=1).argmin()
        turn = Scipy.from_euler("ZXZ", [line[17], line[18], line[16]], degrees=True).as_matrix()
        np.testing.assert_allclose(turn, asymmetric().rotations[nearest], atol=1e-6)
        assert line[0] == asymmetric().scores[nearest]


def test_a_project_comes_back(tmp_path):
    made = write_peet(
        tmp_path / "run" / "ribo.prm", asymmetric(), FRAMES, tilt_ranges_deg={"TS_01": (-60, 57), "TS_02": (-50, 50)}
    )
    assert sorted(p.name for p in made) == ["TS_01.csv", "TS_01.mod", "TS_02.csv", "TS_02.mod", "ribo.prm"]
    entries = read_prm(tmp_path / "run" / "ribo.prm")
    assert prm_texts(entries["fnVolume"]) == ["TS_01.mrc", "TS_02.mrc"]
    assert entries["tiltRange"] == "{[-60, 57], [-50, 50]}"
    assert entries["fnOutput"] == "'ribo'"
    same(read_peet(tmp_path / "run" / "ribo.prm", FRAMES), asymmetric())
    bare = ParticleSet.build("TS_01", [[0.0, 0, 0]])
    assert (tmp_path / "run" / "b.prm").with_name("TS_01.csv") in write_peet(tmp_path / "run" / "b.prm", bare, FRAMES)
    assert "tiltRange" not in read_prm(tmp_path / "run" / "b.prm")


def test_the_last_iteration_is_read(tmp_path):
    write_peet(tmp_path / "ribo.prm", asymmetric(), FRAMES)
    for iteration, angle in ((1, 0), (2, 20), (10, 100)):
        (tmp_path / f"ribo_MOTL_Tom2_Iter{iteration}.csv").write_text(
            "\n".join([HEADER, row(1, z1=angle), row(2, z1=angle)])
        )
    (tmp_path / "ribo_MOTL_Tom2_Iter11.csv~").write_text("a backup")
    got = read_peet(tmp_path / "ribo.prm", FRAMES)
    same(got.in_tomogram("TS_01"), asymmetric().in_tomogram("TS_01"))
    turn = Scipy.from_euler("z", 100, degrees=True).as_matrix()
    np.testing.assert_allclose(got.in_tomogram("TS_02").rotations, [turn, turn], atol=1e-9)
    one = read_peet(tmp_path / "ribo_MOTL_Tom2_Iter2.csv", FRAMES)
    assert one.tomogram_names == ("TS_02",)


def test_a_parameter_file_over_several_lines(tmp_path):
    (tmp_path / "a.prm").write_text(
        "# PEET\nfnVolume = {'/data/TS_01.rec', ...\n  '/data/TS_02.rec'}\nfnModParticle = {'a.mod', ...\n'b.mod'}\ninitMOTL = 3\n"
        "% more\ntiltRange = {[-60, 60], [-60, 60]}\nfnOutput = 'x'\n"
    )
    model(tmp_path / "a.mod", [[60.5, 50.5, 25.0]])
    model(tmp_path / "b.mod", [[50.5, 48.5, 16.0]])
    got = read_peet(tmp_path / "a.prm", FRAMES)
    assert got.tomograms.tolist() == ["TS_01", "TS_02"]
    np.testing.assert_allclose(got.positions_angstrom, 0.0, atol=1e-3)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("x,y\n", "not a motive list"),
        ("1,2,3\n", "3 numbers in line 1"),
        (row(1, z1=float("nan")) + "\n", "no finite numbers"),
        (row(1, shift=(1e300, 0, 0)) + "\n", "no finite numbers"),
        (row(7) + "\n", r"up to 7; its model has 2"),
        ("\n".join([row(1)] * 3) + "\n", "3 rows"),
    ],
)
def test_damaged_lists_are_explained(tmp_path, content, words):
    model(tmp_path / "TS_01.mod", [[1.0, 2, 3], [4, 5, 6]])
    (tmp_path / "TS_01.csv").write_text(content)
    with pytest.raises(FormatError, match=words):
        read_imod_particles(tmp_path / "TS_01.mod", FRAMES)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "no line NAME = VALUE"),
        ("fnVolume = {'a'", "inside the braces of fnVolume"),
        ("fnVolume = {'a.mrc', 'b.mrc'}\nfnModParticle = {'a.mod'}\n", "2 tomograms"),
        ("fnVolume = {'a.mrc'}\nfnModParticle = {'none.mod'}\n", "not there"),
        ("x = 1\n", "0 tomograms"),
        (f"fnVolume = {{'a.mrc'}}\nfnModParticle = {{'{'x' * 5000}.mod'}}\n", "not there"),
    ],
)
def test_damaged_parameter_files_are_explained(tmp_path, content, words):
    (tmp_path / "a.prm").write_text(content)
    with pytest.raises((FormatError, InputError), match=words):
        read_peet(tmp_path / "a.prm", FRAMES)


def test_a_list_without_its_model(tmp_path):
    (tmp_path / "a.csv").write_text(row(1))
    with pytest.raises(InputError, match="points of its particles are in a model"):
        read_imod_particles(tmp_path / "a.csv", FRAMES)
    with pytest.raises(InputError, match=r"\.prm"):
        write_peet(tmp_path / "a.txt", asymmetric(), FRAMES)
    write_peet(tmp_path / "none.prm", ParticleSet.empty(), FRAMES)
    assert len(read_peet(tmp_path / "none.prm", FRAMES)) == 0
    with pytest.raises(InputError, match="quote"):
        write_peet(tmp_path / "it's.prm", asymmetric(), FRAMES)


def test_mutated_files_never_end_in_a_traceback(tmp_path):
    rng = np.random.default_rng(2)
    write_peet(tmp_path / "ribo.prm", asymmetric(), FRAMES)
    originals = {name: (tmp_path / name).read_bytes() for name in ("ribo.prm", "TS_01.csv", "TS_02.mod")}
    for _ in range(60):
        for name, raw in originals.items():
            content = bytearray(raw)
            for _ in range(rng.integers(1, 5)):
                content[rng.integers(len(content))] = rng.choice(
                    np.frombuffer(b"019e-.,;'{}=\n\x00\xff", dtype=np.uint8)
                )
            (tmp_path / name).write_bytes(bytes(content))
            with contextlib.suppress(EucentricError):
                read_peet(tmp_path / "ribo.prm", FRAMES)
            (tmp_path / name).write_bytes(raw)
