"""Plain numbers as particles: never guessed, understood from their first line, refused in words."""

import numpy as np
import pytest

from eucentric.errors import FormatError, InputError
from eucentric.io.particles import particle_format, read_particles, write_particles
from eucentric.io.plain_particles import PlainWords, read_plain_particles
from eucentric.models.particles import ParticleSet
from eucentric.models.tomogram_frames import TomogramFrame, TomogramFrames
from eucentric.pipeline.particle_files import Grids, prepare_list

FRAMES = TomogramFrames(default=TomogramFrame(voxel_size_angstrom=10.0, size_xyz=(101, 80, 40)))
VOXELS = PlainWords(origin="corner", unit="voxel", euler="none")


def test_bare_numbers_are_refused_with_what_to_say(tmp_path):
    path = tmp_path / "TS_01.txt"
    path.write_text("1 2 3\n4 5 6\n")
    with pytest.raises(InputError, match=r"--origin corner\|centre, --unit voxel\|angstrom, --euler none\|relion"):
        read_particles(path, FRAMES)
    with pytest.raises(InputError, match=r"Give --euler"):
        read_particles(path, FRAMES, words=PlainWords(origin="corner", unit="voxel"))


def test_voxels_from_the_corner_counted_from_0_and_from_1(tmp_path):
    path = tmp_path / "TS_01.txt"
    path.write_text("50 40 20\n51, 40, 20\n\n# a remark\n50.5 41 22\n")
    got = read_particles(path, FRAMES, words=VOXELS)
    np.testing.assert_array_equal(got.positions_angstrom, [[0, 0, 0], [10, 0, 0], [5, 10, 20]])
    assert got.tomogram_names == ("TS_01",)
    one = PlainWords(origin="corner", unit="voxel", euler="none", first_voxel=1)
    np.testing.assert_array_equal(
        read_particles(path, FRAMES, words=one).positions_angstrom, [[-10, -10, -10], [0, -10, -10], [-5, 0, 10]]
    )


def test_a_first_line_says_all_and_options_go_before_it(tmp_path):
    path = tmp_path / "picks.csv"
    path.write_text(
        "# z x y class tdrot tilt narot; origin: center; unit: voxel; euler: dynamo; tomogram: TS_07; voxel: 4; size: 64 64 32\n"
        "3 1 2 5 0 0 90\n"
    )
    got = read_particles(path)
    assert got.tomogram_names == ("TS_07",)
    np.testing.assert_array_equal(got.positions_angstrom, [[4, 8, 12]])
    assert got.kinds.tolist() == ["5"]
    np.testing.assert_allclose(got.rotations[0] @ [1, 0, 0], [0, -1, 0], atol=1e-12)  # clockwise
    angstrom = read_particles(path, words=PlainWords(unit="A"))
    np.testing.assert_array_equal(angstrom.positions_angstrom, [[1, 2, 3]])


def test_a_line_of_names_is_passed_over(tmp_path):
    path = tmp_path / "TS_01.csv"
    path.write_text("x,y,z\n1,2,3\n")
    got = read_particles(path, words=PlainWords(origin="centre", unit="angstrom", euler="none"))
    np.testing.assert_array_equal(got.positions_angstrom, [[1, 2, 3]])


@pytest.mark.parametrize(
    ("text", "words", "error", "match"),
    [
        ("1 2 3\n4 5\n", VOXELS, FormatError, "2 numbers in line 2, and 3 in line 1"),
        ("1 2 3\n4 five 6\n", VOXELS, FormatError, "`five` in line 2"),
        ("1 2 3\n4 nan 6\n", VOXELS, FormatError, "coordinates that are NaN.* row 2"),
        ("1 2 3 4 5 6\n", VOXELS, FormatError, r"6 columns; expected x y z \(--euler none\)"),
        ("1 2 3\n", PlainWords(origin="centre", unit="A", euler="zxz"), FormatError, "expected x y z phi theta psi"),
        ("# x y z; origin: middle; unit: A; euler: none\n1 2 3\n", None, FormatError, "--origin middle is not known"),
        (
            "# x y z; origin: corner; unit: voxel; euler: none; voxel: 1; size: 9\n1 2 3\n",
            None,
            FormatError,
            "first line",
        ),
    ],
)
def test_what_is_wrong_is_told(text, words, error, match, tmp_path):
    path = tmp_path / "TS_01.txt"
    path.write_text(text)
    with pytest.raises(error, match=match):
        read_plain_particles(path, FRAMES, words)


def test_unknown_words_and_binary_files(tmp_path):
    with pytest.raises(InputError, match=r"--euler spider is not known\. Expected none or relion"):
        PlainWords(euler="spider")
    with pytest.raises(InputError, match="--first-voxel 2"):
        PlainWords(first_voxel=2)
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00\x01" * 9)
    with pytest.raises(FormatError, match="not text"):
        read_particles(tmp_path / "a.txt", FRAMES, words=VOXELS)


def test_voxels_of_an_unknown_tomogram_and_lists_of_several(tmp_path):
    path = tmp_path / "TS_01.txt"
    path.write_text("1 2 3\n")
    with pytest.raises(InputError, match="tomogram TS_01 are not known"):
        read_particles(path, words=VOXELS)
    both = ParticleSet.build(["a", "b"], np.zeros((2, 3)))
    with pytest.raises(InputError, match="one tomogram"):
        write_particles(tmp_path / "x.txt", both, "plain")
    assert sorted(p.name for p in write_particles(tmp_path / "x", both, "plain")) == ["a.txt", "b.txt"]
    assert read_particles(tmp_path / "x", format_name="plain").tomogram_names == ("a", "b")


def test_an_empty_text(tmp_path):
    (tmp_path / "TS_01.txt").write_text("# nothing\n")
    assert len(read_particles(tmp_path / "TS_01.txt", words=VOXELS)) == 0


def test_what_is_told_makes_a_text_a_list_and_says_nothing_of_others(tmp_path):
    """Without a first line and without being told, a text is no list of particles: folders are full of other texts."""
    path = tmp_path / "TS_01.txt"
    path.write_text("50 40 20\n")
    with pytest.raises(InputError, match="does not say how they are meant"):
        particle_format(path)
    grids = Grids(size_xyz=(101, 80, 40), pixel_size_angstrom=10.0, words=VOXELS)
    ready = prepare_list(path, "relion5", grids)
    particles, made = ready.particles, ready.write(tmp_path / "a.star")
    np.testing.assert_array_equal(read_particles(made[0]).positions_angstrom, [[0, 0, 0]])
    words = PlainWords(origin="corner", unit="voxel", euler="zxz", first_voxel=1)
    grids = Grids(size_xyz=(101, 80, 40), pixel_size_angstrom=10.0, words=words)
    made = prepare_list(made[0], "plain", grids).write(tmp_path / "b.txt")
    first = made[0].read_text().splitlines()
    assert first[0].startswith(
        "# x y z phi theta psi; origin: corner; unit: voxel; euler: zxz; first voxel: 1; tomogram: TS_01"
    )
    assert [float(v) for v in first[1].split()[:3]] == [51, 41, 21]
    assert particle_format(made[0]) == "plain"
    assert len(particles) == 1
