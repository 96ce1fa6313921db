"""Lists of particles: round trips of every format, angles against independent ones, files of other programs."""

import json
from pathlib import Path

import numpy as np
import pytest
from asymmetric_particles import FRAMES, asymmetric
from scipy.spatial.transform import Rotation as Scipy

from eucentric.errors import FormatError, InputError
from eucentric.geometry import Rotation
from eucentric.io.particles import (
    ONE_TOMOGRAM,
    PARTICLE_FORMATS,
    READ_ONLY,
    particle_format,
    read_particles,
    read_tomogram_frames,
    write_particles,
)
from eucentric.io.relion_particles import read_relion_particles, write_relion_particles
from eucentric.io.star import read_star, write_star
from eucentric.models import ParticleSet
from eucentric.models.tomogram_frames import TomogramFrame, TomogramFrames, tomogram_name

NOT_EMPTY = frozenset({"imod", "copick", "em", "optimisation-set", "peet", "scipion", "xmipp", "emclarity", "portal"})
"""Formats that refuse to write nothing, or need a tomogram."""


def same(got: ParticleSet, expected: ParticleSet) -> None:
    """Equal in any order: positions to 0.01 pixel of the finest grid, rotations to 0.01 degree."""
    assert len(got) == len(expected)
    for name in expected.tomogram_names:
        a, b = got.in_tomogram(name), expected.in_tomogram(name)
        assert len(a) == len(b)
        gap = np.linalg.norm(a.positions_angstrom[:, None] - b.positions_angstrom[None], axis=-1)
        order = gap.argmin(axis=0)
        assert gap.min(axis=0).max() < 0.08
        a = a.select(order)
        assert np.max(Rotation(a.rotations).angle_to_deg(Rotation(b.rotations))) < 0.01
        np.testing.assert_allclose(a.scores, b.scores, atol=1e-6)
        assert a.kinds.tolist() == b.kinds.tolist()


@pytest.mark.parametrize("name", sorted(set(PARTICLE_FORMATS) - READ_ONLY - {"emclarity", "portal", "scipion"}))
def test_every_format_gives_back_what_was_written(name, tmp_path):
    """Those left out keep no scores, have one voxel size or need a pixel size (tests/agreement/test_particle_oracle.py)."""
    path = tmp_path / ("list" + ("" if name in ONE_TOMOGRAM else PARTICLE_FORMATS[name]))
    given = asymmetric()
    made = write_particles(path, given, name, FRAMES)
    assert all(file.is_file() for file in made)
    if path.is_file() and name != "warp-normalized":
        assert particle_format(path) == name
    if name in ("pytom", "warp", "warp-normalized"):  # no classes in these
        given = given.with_kinds("")
    same(read_particles(path, FRAMES, name), given)


def expected_matrix(name: str, file: Path) -> np.ndarray:
    """Rotation of the first particle by scipy's own Euler angles, from the numbers in the file."""
    rows = file.read_text(encoding="utf-8", errors="replace") if file.suffix != ".em" else ""
    if name == "dynamo":  # intrinsic zxz, clockwise
        values = [float(v) for v in rows.split("\n", 1)[0].split()]
        return Scipy.from_euler("ZXZ", -np.array(values[6:9]), degrees=True).as_matrix()
    if name == "stopgap":  # about fixed axes: phi, theta, psi
        t = read_star(file)["stopgap_motivelist"]
        return Scipy.from_euler("zxz", [t["phi"][0], t["the"][0], t["psi"][0]], degrees=True).as_matrix()
    if name == "em":
        raw = np.fromfile(file, dtype="<f4", offset=512)[:20]
        return Scipy.from_euler("zxz", [raw[16], raw[18], raw[17]], degrees=True).as_matrix()
    if name == "copick":
        return np.array(json.loads(rows)["points"][0]["transformation_"])[:3, :3]
    t = next(b for b in read_star(file).values() if "rlnAngleRot" in b)
    euler = [t["rlnAngleRot"][0], t["rlnAngleTilt"][0], t["rlnAnglePsi"][0]]
    return Scipy.from_euler("ZYZ", euler, degrees=True).as_matrix().T  # reference into particle, as 2.0.3 of RELION


@pytest.mark.parametrize("name", ["relion5", "relion4", "warp", "pytom", "dynamo", "stopgap", "em", "copick"])
def test_angles_in_the_file_mean_the_same_rotation_elsewhere(name, tmp_path):
    one = asymmetric().select([0])
    file = tmp_path / f"list{PARTICLE_FORMATS[name]}"
    write_particles(file, one, name, FRAMES)
    # float32 in EM files
    np.testing.assert_allclose(expected_matrix(name, file), one.rotations[0], atol=2e-6 if name == "em" else 1e-7)


def test_where_the_first_voxel_and_the_centre_are(tmp_path):
    """The centre voxel (60, 50, 25) of 120 x 100 x 50, as each program counts."""
    centre = ParticleSet.build("TS_01", [[0.0, 0.0, 0.0]])
    write_particles(tmp_path / "a.tbl", centre, "dynamo", FRAMES)
    assert (tmp_path / "a.tbl").read_text().split()[23:26] == ["61", "51", "26"]
    write_particles(tmp_path / "w.star", centre, "warp", FRAMES)
    assert read_star(tmp_path / "w.star").popitem()[1]["rlnCoordinateX"][0] == 60.0
    write_particles(tmp_path / "c.json", centre, "copick", FRAMES)
    assert json.loads((tmp_path / "c.json").read_text())["points"][0]["location"] == {
        "x": 480.0,
        "y": 400.0,
        "z": 200.0,
    }
    write_particles(tmp_path / "p.xml", centre, "pytom-xml", FRAMES)
    assert 'X="60.00000" Y="50.00000" Z="25.00000"' in (tmp_path / "p.xml").read_text()


def test_subtomogram_angles_and_origins_are_composed(tmp_path):
    """A subtomogram turned by 90 degrees about z sees an origin along x along another axis."""
    path = tmp_path / "p.star"
    base = {f"rlnCenteredCoordinate{a}Angst": [v] for a, v in zip("XYZ", (100.0, 200.0, 300.0), strict=True)}
    turns = {"rlnTomoSubtomogramRot": [90.0], "rlnTomoSubtomogramTilt": [0.0], "rlnTomoSubtomogramPsi": [0.0]}
    own = {"rlnAngleRot": [20.0], "rlnAngleTilt": [30.0], "rlnAnglePsi": [40.0]}
    origin = {"rlnOriginXAngst": [10.0], "rlnOriginYAngst": [0.0], "rlnOriginZAngst": [0.0]}
    write_star(path, {"particles": {"rlnTomoName": ["a"], **base, **turns, **own, **origin}})
    got = read_relion_particles(path)
    sub = Scipy.from_euler("ZYZ", [90, 0, 0], degrees=True).as_matrix().T
    part = Scipy.from_euler("ZYZ", [20, 30, 40], degrees=True).as_matrix().T
    np.testing.assert_allclose(got.rotations[0], sub @ part, atol=1e-9)
    np.testing.assert_allclose(got.positions_angstrom[0], [100.0, 200.0, 300.0] - sub @ [10.0, 0.0, 0.0], atol=1e-9)


def test_priors_are_written_so_that_the_axis_is_at_tilt_90(tmp_path):
    given = asymmetric().with_column("rlnAngleTiltPrior", 90.0).with_column("rlnAnglePsiPrior", 0.0)
    write_relion_particles(tmp_path / "p.star", given)
    table = read_star(tmp_path / "p.star")["particles"]
    assert set(table["rlnAngleTilt"]) == {90.0}
    same(read_particles(tmp_path / "p.star"), given)


def test_a_filament_picked_by_dynamo_has_its_axis_along_z(shared_data):
    """Successive particles of the first filament are 6 voxels apart, in rings turned by 30 degrees."""
    frames = TomogramFrames(default=TomogramFrame(voxel_size_angstrom=10.0, size_xyz=(1000, 1000, 400)))
    got = read_particles(shared_data / "formats/dynamo/crop.tbl", frames)
    assert len(got) > 4000
    axis = got.directions[:30]
    steps = np.diff(got.positions_angstrom[:31], axis=0)
    along = np.einsum("ni,ni->n", axis, steps / np.linalg.norm(steps, axis=1, keepdims=True))
    assert np.median(along) > 0.95


def test_shifts_of_dynamo_are_added(shared_data):
    frames = TomogramFrames(default=TomogramFrame(voxel_size_angstrom=2.0, size_xyz=(400, 400, 400)))
    got = read_particles(shared_data / "formats/dynamo/t_double.tbl", frames)
    expected = (np.array([141.28 + 2.5178, 114.71 - 3.523, 163.08 + 2.1043]) - 1.0 - 200.0) * 2.0
    np.testing.assert_allclose(got.positions_angstrom[0], expected, atol=1e-6)
    assert got.scores[0] == 0.15858


@pytest.mark.parametrize(
    ("file", "name", "count"),
    [
        ("relion_3.0.star", "01006", None),
        ("relion_3.1_optics2.star", "0002", None),
        ("relion_4.0.star", "TS_017", None),
    ],
)
def test_tables_of_relion(shared_data, file, name, count):
    frames = TomogramFrames(default=TomogramFrame(voxel_size_angstrom=1.971, size_xyz=(4096, 4096, 2200)))
    got = read_particles(shared_data / "formats/relion" / file, frames)
    assert name in got.tomogram_names
    assert got.oriented
    if file == "relion_4.0.star":
        expected = (np.array([1700.0, 428.0, 944.0]) - [2048, 2048, 1100]) * 1.971 - [1.260416, 2.364176, 3.783296]
        np.testing.assert_allclose(got.positions_angstrom[0], expected, atol=1e-6)
        assert got.columns["rlnRandomSubset"][0] == 2


def test_tables_of_warp_and_grids_of_its_tomograms(shared_data):
    folder = shared_data / "formats/relion/relion5_particles/clean"
    frames = read_tomogram_frames(folder / "warp2_matching_tomograms.star", of_images=True)
    assert frames.of("TS_17").size_xyz == (4400, 6000, 1000)
    got = read_particles(folder / "warp2_particles_matching.star", frames)
    assert "TS_17" in got.tomogram_names
    binned = read_tomogram_frames(folder / "R5_tutorial_run_tomograms.star")
    assert binned.of("TS_01").size_xyz == (540, 540, 270)


def test_points_of_a_foreign_model(shared_data):
    frames = TomogramFrames(default=TomogramFrame(voxel_size_angstrom=1.0, size_xyz=(10, 10, 10)))
    got = read_particles(shared_data / "formats/imod_models/two_contour_example.mod", frames)
    assert len(got) > 2
    assert got.tomogram_names == ("two_contour_example",)


def test_names_in_all_their_forms():
    names = (
        "TS_01",
        "TS_01.tomostar",
        "rec/TS_01.mrc",
        "a/b/TS_01_10.73Apx.mrc",
        "x\\TS_01.rec",
        "TS_01.mrc_15.00Apx.mrc",
    )
    assert {tomogram_name(n) for n in names} == {"TS_01"}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.tbl", "1 2 3\n", "3 columns"),
        ("a.tbl", "nonsense\n", "not a table"),
        ("a.xml", "<ParticleList><Particle/></ParticleList>", "Particle 1"),
        ("a.xml", "<Other/>", "not a list"),
        ("a.xml", "<broken", "not XML"),
        ("a.json", "{}", "copick"),
        ("a.json", "[1]", "copick"),
        ("a.em", "short", "512"),
        ("a.mod", "no model", "IMOD"),
        ("a.star", "data_\n\nloop_\n_rlnX #1\n1\n", "without particles"),
        ("a.star", "data_\n\nloop_\n_rlnCenteredCoordinateXAngst #1\n1\n", "no table"),
        ("a.xyz", "1 2 3", "no kind"),
    ],
)
def test_what_is_no_list_is_refused_in_words(name, text, message, tmp_path):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(FormatError, match=message):
        read_particles(path, FRAMES)


def test_unknown_tomograms_formats_and_files(tmp_path):
    write_particles(tmp_path / "a.tbl", asymmetric(), "dynamo", FRAMES)
    with pytest.raises(InputError, match="--tomograms"):
        read_particles(tmp_path / "a.tbl")
    with pytest.raises(InputError, match="no format `spider`"):
        read_particles(tmp_path / "a.tbl", FRAMES, "spider")
    with pytest.raises(InputError, match="does not exist"):
        read_particles(tmp_path / "b.tbl", FRAMES)
    with pytest.raises(InputError, match="one tomogram"):
        write_particles(tmp_path / "a.mod", asymmetric(), "imod", FRAMES)


@pytest.mark.parametrize("name", sorted(set(PARTICLE_FORMATS) - NOT_EMPTY - READ_ONLY))
def test_no_particle_at_all(name, tmp_path):
    path = tmp_path / f"list{PARTICLE_FORMATS[name]}"
    write_particles(path, ParticleSet.empty(), name, FRAMES)
    assert len(read_particles(path, FRAMES, name)) == 0


def test_pixel_sizes_of_the_images_stay_with_the_particles(tmp_path):
    """Through a tool that knows no tomograms, as optics groups; merged lists may have several."""
    given = asymmetric()
    write_particles(tmp_path / "a.star", given, "relion5", FRAMES)
    write_particles(tmp_path / "b.star", read_particles(tmp_path / "a.star"), "relion5")
    optics, table = (read_star(tmp_path / "b.star")[b] for b in ("optics", "particles"))
    assert optics["rlnTomoTiltSeriesPixelSize"].tolist() == [8.0, 10.0]
    assert table["rlnOpticsGroup"].tolist() == [1, 1, 2, 1, 2]
    assert "rlnTomoTiltSeriesPixelSize" not in table
    one = read_particles(tmp_path / "a.star").in_tomogram("TS_01")
    bare = one.with_tomograms("TS_05").without_column("rlnTomoTiltSeriesPixelSize")
    with pytest.raises(InputError, match="TS_05 is not known"):
        write_particles(tmp_path / "c.star", ParticleSet.concatenate([one, bare]), "relion5")


def test_texts_of_relion_tables_come_back_and_names_of_particles_stay(tmp_path):
    columns = {f"rlnCenteredCoordinate{a}Angst": [1.0, 2.0, 3.0] for a in "XYZ"}
    texts = {
        "rlnTomoParticleName": ["TS_01/7", "TS_01/9", "TS_02/1"],
        "rlnImageName": ["a/7.mrcs", "a/9.mrcs", "b/1.mrcs"],
        "rlnTomoVisibleFrames": ["[1,1,0]", "[0,1,1]", "[1,1,1]"],
    }
    table = {"rlnTomoName": ["TS_01", "TS_01", "TS_02"], **columns, **texts}
    write_star(tmp_path / "a.star", {"particles": table})
    given = read_particles(tmp_path / "a.star")
    write_particles(tmp_path / "b.star", given.select([2, 0]), "relion5")
    again = read_particles(tmp_path / "b.star")
    for label, values in texts.items():
        assert again.texts[label].tolist() == [values[2], values[0]]
    bare = given.select([1]).without_column("x")
    both = ParticleSet.concatenate([given, ParticleSet.build("TS_03", [[0, 0, 0]]), bare])
    assert both.texts["rlnImageName"].tolist() == [*texts["rlnImageName"], "", "a/9.mrcs"]
    write_particles(tmp_path / "c.star", both, "relion5")  # names that are missing, or twice there, are made anew
    assert read_particles(tmp_path / "c.star").texts["rlnTomoParticleName"].tolist() == [
        "TS_01/1", "TS_01/2", "TS_02/1", "TS_03/1", "TS_01/3",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '<?xml version="1.0"?>\n<TiltSeries DataDirectory="average"><Angles>1</Angles></TiltSeries>',
            "tilt series of Warp",
        ),
        ('<?xml version="1.0"?>\n<TiltSeries DataDirectory="average"><Angles>1', "tilt series of Warp"),
        ('<?xml version="1.0"?>\n<TiltSer', "damaged; copy it again"),
        ("", "damaged; copy it again"),
        ("TiltSeries", "damaged; copy it again"),
        ("<ProjectionList/>", "not a list of particles: it holds <ProjectionList>"),
    ],
)
def test_xml_is_known_by_its_root(text, message, tmp_path):
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(FormatError, match=message):
        particle_format(tmp_path / "a.xml")


def test_a_cut_off_list_of_pytom_is_one_and_is_told_as_damaged(tmp_path):
    write_particles(tmp_path / "a.xml", asymmetric(), "pytom-xml", FRAMES)
    whole = (tmp_path / "a.xml").read_text()
    (tmp_path / "a.xml").write_text(whole[: len(whole) // 2])
    assert particle_format(tmp_path / "a.xml") == "pytom-xml"
    with pytest.raises(FormatError, match="not XML that can be read"):
        read_particles(tmp_path / "a.xml", FRAMES)
