"""Simulated data sets as files: what import will read must be what was simulated, the right way up."""

import hashlib

import numpy as np
import pytest
import tifffile

from eucentric.errors import FormatError, InputError
from eucentric.io import read_tilt_series_set
from eucentric.io.mdoc import read_mdoc
from eucentric.io.movies import read_gain, read_movie
from eucentric.io.mrc import read_mrc
from eucentric.io.truth import read_truth
from eucentric.pipeline.importing import plan_import
from eucentric.pipeline.scene_files import read_species
from eucentric.pipeline.simulate_project import simulate, write_simulated_series
from eucentric.simulation import SimulatedSeries, SimulationParams

PARAMS = SimulationParams(
    seed=5,
    image_size_px=(96, 80),
    frames=3,
    tilt_step_deg=20.0,
    particles_per_species=(1, 2),
    beads=2,
    vesicle_radius_angstrom=(100.0, 150.0),
    blocked_tilts=(0,),
    x_tilt_deg=2.0,
    tilt_offset_deg=5.0,
)
PDB = """\
ATOM      1  N   ALA A   1      11.104   6.134  -6.504  1.00  0.00           N
ATOM      2  CA  ALA A   1      31.639   6.071  -5.147  1.00  0.00           C
ATOM      3  C   ALA A   1      13.559  36.864  -4.901  0.50  0.00           C
ATOM      4  O   ALA A   1      14.171   7.420  25.769  1.00  0.00           O
END
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated")
    seen = []
    files = simulate(folder, PARAMS, 2, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(n + 1, 14) for n in range(14)]
    return folder, files


def test_movies_on_disk_are_the_simulated_ones_with_the_top_row_first(written):
    _, files = written
    for number, series_files in enumerate(files):
        series = SimulatedSeries.build(PARAMS, series=number)
        for tilt in (0, 3):
            frames, header = read_movie(series_files.movies[tilt])
            assert header.frame_count == 3
            np.testing.assert_array_equal(frames, series.movie(tilt))
            np.testing.assert_array_equal(tifffile.imread(series_files.movies[tilt])[:, 0], frames[:, -1])


def test_mdoc_tells_what_a_microscope_knows(written):
    _, files = written
    mdoc = read_mdoc(files[0].mdoc)
    truth = read_truth(files[0].truth)
    assert mdoc.voltage_kv == 300.0
    assert mdoc.image_size == (96, 80)
    assert mdoc.tilt_axis_angle_deg == pytest.approx(84.8)
    assert [s.movie_name for s in mdoc.sections] == [truth.movie_names[t] for t in np.argsort(truth.acquisition)]
    assert [round(s.tilt_angle_deg) for s in mdoc.sections] == [0, 20, -20, 40, -40, 60, -60]
    assert [s.prior_record_dose for s in mdoc.sections] == [3.0 * n for n in range(7)]
    times = [s.date_time for s in mdoc.sections]
    assert times == sorted(times)
    assert all(s.frame_count == 3 and s.exposure_dose == 3.0 and s.target_defocus_um == -3.5 for s in mdoc.sections)
    assert {p.name for p in files[0].movies} == set(truth.movie_names)


def test_doses_of_a_hybrid_scheme_come_through_to_an_import(tmp_path):
    params = SimulationParams(
        seed=5, image_size_px=(64, 64), frames=2, particles_per_species=(1,), macromolecules_kda=(500.0,), beads=0, vesicles=0,
        tilt_angles_deg=(0.0, 20.0, -20.0, 40.0), tilt_doses=(15.0, 3.0, 3.5, 4.0),
    )  # fmt: skip
    (files,) = simulate(tmp_path, params, 1)
    (series,) = plan_import([str(tmp_path / "frames")], [str(tmp_path)], gain=files.gain).series
    assert [t.nominal_tilt_deg for t in series.tilts] == pytest.approx([-20.0, 0.0, 20.0, 40.0], abs=0.02)
    assert [t.dose for t in series.tilts] == pytest.approx([3.5, 15.0, 3.0, 4.0])
    assert [t.pre_exposure for t in series.tilts] == pytest.approx([18.0, 0.0, 15.0, 21.5])
    truth = read_truth(files.truth)
    np.testing.assert_array_equal(truth.doses, [3.5, 15.0, 3.0, 4.0])
    np.testing.assert_allclose(truth.doses_before, [18.0, 0.0, 15.0, 21.5])
    assert truth.dose == pytest.approx(25.5 / 4)
    points = np.array([[30.0, 50.0, 10.0], [-60.0, 5.0, -20.0]])
    simulated = SimulatedSeries.build(params, series=0).acquisition
    np.testing.assert_allclose(truth.deformation(points), simulated.deformation_at(points, params))
    counts = [float(read_movie(path)[0].sum()) for path in files.movies]
    assert 4.0 < counts[1] / counts[2] < 6.0  # 15 over 3, and the path of a tilted specimen
    true = read_tilt_series_set(tmp_path / "truth" / "tilt_series.star", tmp_path)[0]
    assert [t.pre_exposure for t in true.tilts] == pytest.approx([18.0, 0.0, 15.0, 21.5])


def test_truth_holds_what_was_simulated(written):
    _, files = written
    truth = read_truth(files[1].truth)
    series = SimulatedSeries.build(PARAMS, series=1)
    positions = series.specimen.positions_angstrom
    moved = positions + series.acquisition.deformation_at(positions, PARAMS)
    expected = np.stack([series.acquisition.geometry[t].project(moved[t])[0] for t in range(7)])
    np.testing.assert_allclose(truth.camera_positions(truth.positions), expected, atol=1e-6)
    np.testing.assert_allclose(truth.rotations, series.specimen.rotations)
    np.testing.assert_allclose(truth.motion_angstrom, series.acquisition.motion_angstrom)
    assert truth.bad_tilts == (0,)
    assert truth.settings["species"] == [s.name for s in series.specimen.species]
    np.testing.assert_allclose(truth.vesicle_radii_angstrom, series.specimen.vesicles[:, 3])
    assert truth.image_shape == (80, 96)
    assert truth.hand == -1


def test_blocked_tilt_is_dark_and_gain_fits(written):
    _, files = written
    gain = read_gain(files[0].gain)
    assert gain.shape == (80, 96)
    means = [float((read_movie(path)[0] * gain).mean()) for path in files[0].movies]
    assert means[0] < 0.5 * means[6]  # tilts of -60 and 60 degrees, the first behind a grid bar


def test_references_are_the_species_in_their_own_frame(written):
    _, files = written
    series = SimulatedSeries.build(PARAMS)
    for path, species in zip(files[0].references, series.specimen.species, strict=True):
        volume, header = read_mrc(path)
        assert header.voxel_size_angstrom == pytest.approx((5.0, 5.0, 5.0))
        axis = (np.arange(len(volume)) - len(volume) // 2) * 5.0
        found = [np.tensordot(volume, axis, (d, 0)).sum() / volume.sum() for d in (2, 1, 0)]
        centroid = (species.points_angstrom * species.weights[:, None]).sum(0) / species.weights.sum()
        np.testing.assert_allclose(found, centroid, atol=0.2)


def test_same_settings_write_the_same_bytes(written, tmp_path):
    folder, files = written
    again = write_simulated_series(tmp_path, PARAMS, "TS_01")

    def digest(path):
        return hashlib.sha256(path.read_bytes()).hexdigest()

    pairs = [
        (files[0].mdoc, again.mdoc),
        (files[0].truth, again.truth),
        *zip(files[0].movies, again.movies, strict=True),
    ]
    for one, other in pairs:
        assert digest(one) == digest(other)
    assert not [p for p in folder.rglob("*") if "partial" in p.name]


def test_structures_from_files(tmp_path):
    model = tmp_path / "tiny.pdb"
    model.write_text(PDB)
    species = read_species(model)
    assert species.name == "tiny"
    np.testing.assert_allclose(species.points_angstrom.mean(0), 0.0, atol=1e-9)
    params = PARAMS.replace(particles_per_species=(3,), tilt_step_deg=60.0, beads=0)
    files = write_simulated_series(tmp_path / "data", params, "TS_09", [species])
    truth = read_truth(files.truth)
    assert truth.settings["species"] == ["tiny"]
    assert set(truth.kinds) == {0}
    assert files.mdoc.name == "TS_09.mdoc"
    (tmp_path / "empty.pdb").write_text("END\n")
    with pytest.raises(FormatError):
        read_species(tmp_path / "empty.pdb")
    with pytest.raises(InputError, match="one number for each"):
        write_simulated_series(tmp_path / "data", PARAMS, "TS_01", [species])


def test_no_series_is_refused(tmp_path):
    with pytest.raises(InputError, match="at least 1"):
        simulate(tmp_path, PARAMS, 0)
