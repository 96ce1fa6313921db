"""Optimisation sets of RELION: their files are found, and written so that RELION finds them."""

import numpy as np
import pytest

from eucentric.errors import FormatError, InputError
from eucentric.io.optimisation_sets import read_optimisation_set
from eucentric.io.particles import particle_format, read_particles, read_tomogram_frames, write_particles
from eucentric.io.star import read_star, read_star_text, write_star
from eucentric.models.particles import ParticleSet
from eucentric.models.tomogram_frames import TomogramFrame, TomogramFrames
from eucentric.pipeline.particle_files import Grids, prepare_list

IMAGES = TomogramFrames(
    by_name={
        "TS_01": TomogramFrame(voxel_size_angstrom=2.0, size_xyz=(400, 300, 200)),
        "TS_02": TomogramFrame(voxel_size_angstrom=3.0, size_xyz=(400, 300, 200)),
    }
)


def some() -> ParticleSet:
    return ParticleSet.build(["TS_02", "TS_01", "TS_01"], [[1.5, 2, 3], [4, 5, 6], [7, 8, -9]])


def test_written_and_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = write_particles(tmp_path / "sets" / "it.star", some(), "optimisation-set", IMAGES)
    assert [p.name for p in made] == ["it.star", "it_particles.star", "it_tomograms.star"]
    assert particle_format(made[0]) == "optimisation-set"
    named = read_star_text(made[0])[""]
    assert named["rlnTomoParticlesFile"] == ["sets/it_particles.star"]  # from where RELION runs
    np.testing.assert_allclose(read_particles(made[0]).positions_angstrom, some().positions_angstrom)
    optics = read_star(made[1])["optics"]
    assert optics["rlnTomoTiltSeriesPixelSize"].tolist() == [2.0, 3.0]
    assert read_star(made[1])["particles"]["rlnOpticsGroup"].tolist() == [2, 1, 1]
    assert read_tomogram_frames(made[2], of_images=True).of("TS_02").size_xyz == (400, 300, 200)


def test_pixels_are_understood_by_the_tomograms_of_the_set(tmp_path):
    """RELION-4's pixels, in a set whose paths go out from the project's folder, two above it."""
    folder = tmp_path / "project" / "Extract" / "job012"
    write_particles(folder / "particles.star", some(), "relion4", IMAGES)
    table = {"rlnTomoName": ["TS_01", "TS_02"], "rlnTomoTiltSeriesPixelSize": [2.0, 3.0]}
    table |= {f"rlnTomoSize{a}": [n, n] for a, n in zip("XYZ", (400, 300, 200), strict=True)}
    table |= {"rlnTomoTomogramBinning": [4.0, 4.0]}
    write_star(tmp_path / "project" / "Tomograms" / "tomograms.star", {"global": table})
    (folder / "optimisation_set.star").write_text(
        "data_\n\n_rlnTomoParticlesFile Extract/job012/particles.star\n"
        "_rlnTomoTomogramsFile Tomograms/tomograms.star\n_rlnTomoTrajectoriesFile Polish/motion.star\n"
    )
    got = read_particles(folder / "optimisation_set.star")
    np.testing.assert_allclose(got.positions_angstrom, some().positions_angstrom, atol=1e-8)
    found = read_optimisation_set(folder / "optimisation_set.star")
    assert found.others == {"rlnTomoTrajectoriesFile": "Polish/motion.star"}


def test_convert_names_the_table_that_was_given(tmp_path):
    table = {"rlnTomoName": ["TS_01"], "rlnTomoTiltSeriesPixelSize": [2.0]}
    table |= {f"rlnTomoSize{a}": [n] for a, n in zip("XYZ", (400, 300, 200), strict=True)}
    write_star(tmp_path / "tilt_series.star", {"global": table})
    write_particles(tmp_path / "a.star", some().in_tomogram("TS_01"), "relion5")
    grids = Grids(tomograms=tmp_path / "tilt_series.star")
    made = prepare_list(tmp_path / "a.star", "optimisation-set", grids).write(tmp_path / "set.star")
    assert [p.name for p in made] == ["set.star", "set_particles.star"]
    assert read_optimisation_set(made[0]).tomograms == tmp_path / "tilt_series.star"


def test_files_that_are_not_there_are_named(tmp_path, shared_data):
    path = tmp_path / "set.star"
    path.write_text("data_\n\n_rlnTomoParticlesFile gone/particles.star\n")
    with pytest.raises(InputError, match=r"`gone/particles\.star`, which lie neither beside it"):
        read_particles(path)
    path.write_text("data_\n\n_rlnTomoTomogramsFile t.star\n")
    with pytest.raises(FormatError, match="not an optimisation set"):
        read_particles(path, format_name="optimisation-set")
    folder = shared_data / "formats/relion/relion5_particles"
    for real in (*folder.glob("*set.star"), *folder.glob("clean/*set.star")):
        assert particle_format(real) == "optimisation-set"
        with pytest.raises(InputError, match="Copy them there"):
            read_particles(real)


def test_a_real_set_of_warp(tmp_path, shared_data):
    """Its files under the names that the set gives them. Coordinates are pixels of 4 A, so that they fill the tomogram."""
    folder = shared_data / "formats/relion/relion5_particles/clean"
    for name, target in (
        ("warp2_matching_optimisation_set.star", "matching_optimisation_set.star"),
        ("warp2_matching_tomograms.star", "matching_tomograms.star"),
        ("warp2_particles_matching.star", "matching.star"),
    ):
        (tmp_path / target).symlink_to(folder / name)
    got = read_particles(tmp_path / "matching_optimisation_set.star")
    assert set(got.tomogram_names) == {"TS_1", "TS_11", "TS_17", "TS_23", "TS_32"}
    row = next(
        line.split()
        for line in (folder / "warp2_particles_matching.star").read_text().splitlines()
        if "TS_17/9" in line
    )
    half = np.array([4400, 6000, 1000]) * 0.7894 / 2
    at = got.texts["rlnTomoParticleName"].tolist().index("TS_17/9")
    np.testing.assert_allclose(got.positions_angstrom[at], np.array(row[2:5], float) * 4.0 - half, atol=1e-6)
    reach = np.abs(got.positions_angstrom).max(axis=0) / half
    assert (reach > 0.7).all()
    assert (reach < 1.0).all()
    assert set(got.columns["rlnImagePixelSize"]) == {4.0}
