"""What is written of the truth: tables that other programs read, arrays, volumes and images, against the simulation."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation as ScipyRotation

from eucentric.fourier import fourier_crop
from eucentric.geometry import TiltGeometry
from eucentric.io.mrc import read_mrc
from eucentric.io.star import read_star
from eucentric.io.tilt_series import read_tilt_series_set
from eucentric.io.truth import read_truth
from eucentric.io.warps import read_image_warp
from eucentric.pipeline.boxes import read_positions
from eucentric.pipeline.simulate_project import TruthOptions, simulate
from eucentric.simulation import SimulatedSeries, SimulationParams
from eucentric.simulation.scene import Scene, SceneFilament, SceneFilm, SceneMembrane, SceneProtein, SceneSpecies

PARAMS = SimulationParams(
    seed=5,
    image_size_px=(100, 84),
    frames=3,
    tilt_step_deg=40.0,
    particles_per_species=(1, 2),
    beads=1,
    vesicle_radius_angstrom=(100.0, 130.0),
    thickness_angstrom=600.0,
    stage_jitter_angstrom=40.0,
    blocked_tilts=(3,),
    x_tilt_deg=2.0,
    tilt_axis_drift_deg=0.4,
    magnification_drift=0.01,
    local_motion_angstrom=2.0,
    drift_angstrom=40.0,
)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("truth")
    options = TruthOptions(volumes=True, images=True, twice=True, voxel_size_angstrom=12.0)
    (files,) = simulate(folder, PARAMS, truth=options)
    return folder, files, read_truth(files.truth), SimulatedSeries.build(PARAMS)


def test_particles_are_where_relion_would_look(written):
    folder, _, truth, series = written
    tables = read_star(folder / "TS_01_particles.star")
    table, optics = tables["particles"], tables["optics"]
    assert optics["rlnTomoTiltSeriesPixelSize"].tolist() == [5.0]
    places = table[[f"rlnCenteredCoordinate{a}Angst" for a in "XYZ"]].to_numpy()
    np.testing.assert_allclose(places, series.specimen.positions_angstrom, atol=1e-5)
    np.testing.assert_allclose(read_positions(folder / "TS_01_particles.star", "TS_01"), places)
    # RELION's matrix is intrinsic ZYZ, and its transpose takes the reference to the specimen
    angles = table[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]].to_numpy()
    relion = ScipyRotation.from_euler("ZYZ", angles, degrees=True).as_matrix()
    np.testing.assert_allclose(np.swapaxes(relion, 1, 2), series.specimen.rotations, atol=1e-6)
    assert table["rlnClassNumber"].tolist() == [k + 1 for k in series.specimen.kinds]
    assert table["eucSpecies"].tolist() == [series.specimen.species[k].name for k in truth.kinds]
    assert set(table["eucRole"]) == {"free"}
    assert "rlnHelicalTubeID" not in table
    inside = (np.abs(places[:, :2]) <= (250.0, 210.0)).all(1)
    assert (table["eucInField"].to_numpy() == inside).all()
    assert 0 < inside.sum() < len(inside)


def test_true_set_projects_as_the_truth_does(written):
    folder, _, truth, series = written
    (found,) = read_tilt_series_set(folder / "truth" / "tilt_series.star", folder)
    assert [e.tilt.acquisition for e in found.excluded] == [int(truth.acquisition[3])]
    kept = [0, 1, 2]
    assert [t.acquisition for t in found.tilts] == [int(truth.acquisition[i]) for i in kept]
    assert all((folder / t.movie).is_file() for t in found.tilts)
    geometry = TiltGeometry.from_poses(found.poses)
    expected = series.acquisition.geometry[kept]
    points = np.random.default_rng(0).uniform(-300, 300, (20, 3))
    np.testing.assert_allclose(geometry.project(points), expected.project(points), atol=1e-4)
    np.testing.assert_allclose(truth.geometry[kept].project(points), expected.project(points), atol=1e-9)
    flat = points * (0.5, 0.5, 0.0)
    warp = read_image_warp(folder / found.warp, [t.acquisition for t in found.tilts])
    for number, tilt in enumerate(kept):
        seen = torch.from_numpy(geometry.project(flat)[number][:, :2])
        moved = seen + warp.at(number, seen)
        np.testing.assert_allclose(moved, truth.camera_positions(flat)[tilt][:, :2], atol=0.1)
    assert [t.ctf.defocus_u_angstrom for t in found.tilts] == pytest.approx(truth.defocus_u_angstrom[kept])
    np.testing.assert_allclose(found.tilts[1].motion.shifts_angstrom, truth.motion_angstrom[1], atol=1e-5)


def test_arrays_tell_the_motion_of_each_particle(written):
    folder, _, truth, series = written
    with np.load(folder / "TS_01_truth.npz") as arrays:
        course = series.acquisition
        seen = truth.camera_positions(truth.positions)[2][:, :2]
        np.testing.assert_allclose(arrays["particle_motion_angstrom"][2], course.object_motion(2, seen), atol=1e-3)
        np.testing.assert_allclose(
            arrays["particle_deformation_angstrom"], course.deformation_at(truth.positions, PARAMS), atol=1e-4
        )
        away = np.linalg.norm(arrays["membrane_points"] - truth.vesicle_centres[0], axis=1)
        np.testing.assert_allclose(away, truth.vesicle_radii_angstrom[0], atol=1.5)
        outwards = (arrays["membrane_points"] - truth.vesicle_centres[0]) / away[:, None]
        assert ((outwards * arrays["membrane_normals"]).sum(1) > 0.99).all()
        assert arrays["membrane_areas"].sum() == pytest.approx(
            4 * np.pi * truth.vesicle_radii_angstrom[0] ** 2, rel=0.02
        )
        np.testing.assert_allclose(arrays["film_upper"] - arrays["film_lower"], 600.0)


def test_volumes_agree_with_each_other_and_with_the_positions(written):
    folder, _, truth, _ = written
    names = {int(number): name for number, name in truth.settings["label_names"].items()}
    first, last = truth.settings["label_instances"]["particles"]
    for ending, voxel in (("", 12.0), ("_2x", 6.0)):
        found = {
            kind: read_mrc(folder / f"volumes{ending}" / f"TS_01_{kind}.mrc")
            for kind in ("clean", "labels", "instances", "membrane_distance")
        }
        assert {header.pixel_size_angstrom for _, header in found.values()} == {voxel}
        clean, labels, instances, distance = (array for array, _ in found.values())
        assert clean.shape == labels.shape == instances.shape == distance.shape
        assert clean.shape[1:] == (35 * 12 // voxel, 42 * 12 // voxel)
        assert set(np.unique(labels)) <= set(names)
        protein = (labels > 0) & (instances >= first) & (instances <= last)
        assert clean[protein].mean() > 2.0 > 0.1 > abs(clean[labels == 0].mean())
        for number, place in enumerate(truth.positions):
            index = tuple(np.rint(place[::-1] / voxel).astype(int) + np.array(clean.shape) // 2)
            if all(0 <= i < n for i, n in zip(index, clean.shape, strict=True)) and instances[index]:
                assert instances[index] == first + number
                assert names[labels[index]] == truth.settings["species"][truth.kinds[number]]
        assert distance.min() >= -100.0
        assert distance.max() <= 100.0


def test_clean_images_are_the_same_at_both_samplings_and_lie_under_the_movies(written):
    folder, files, truth, _ = written
    coarse, header = read_mrc(folder / "clean" / "TS_01.mrc")
    fine, fine_header = read_mrc(folder / "clean_2x" / "TS_01.mrc")
    assert (header.pixel_size_angstrom, fine_header.pixel_size_angstrom) == (5.0, 2.5)
    assert fine.shape == (4, 168, 200)
    still = SimulatedSeries.build(PARAMS.replace(local_motion_angstrom=0.0, drift_angstrom=0.0, doming_angstrom=0.0))
    for tilt in range(3):
        # both are blurred to 25 A: near Nyquist points of either sampling stand for different parts of a particle
        shape = (20, 24)
        low, high = (
            fourier_crop(torch.from_numpy(image[tilt].astype(np.float32)) * area, shape)
            for image, area in ((coarse, 1.0), (fine, 4.0))
        )
        assert _correlation(low.numpy(), high.numpy()) > 0.99
        assert low.mean() == pytest.approx(float(high.mean()), rel=0.01)
        expected = still.expected_frames(tilt).sum(0)
        assert _correlation(fourier_crop(expected, shape).numpy(), low.numpy()) > 0.7
    assert coarse[0].mean() < coarse[1].mean()
    assert truth.bad_tilts == (3,)
    assert len(files.movies) == len(coarse)


def _correlation(one, other):
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def test_filaments_and_membranes_name_their_subunits(tmp_path):
    scene = Scene(
        species=(SceneSpecies(name="channel", mass_kda=60.0),),
        membranes=(
            SceneMembrane(
                shape="vesicle",
                radius_angstrom=(150.0, 180.0),
                proteins=(SceneProtein(species="channel", per_um2=2000.0),),
            ),
        ),
        filaments=(SceneFilament(kind="actin", count=2, length_angstrom=(300.0, 400.0)),),
        film=SceneFilm(thickness_angstrom=700.0),
    )
    params = scene.params(
        image_size_px=(96, 96), tilt_min_deg=0.0, tilt_max_deg=0.0, frames=1, seed=3, stage_jitter_angstrom=0.0
    )
    (files,) = simulate(tmp_path, params, scene=scene, truth=TruthOptions(volumes=True, voxel_size_angstrom=15.0))
    table = read_star(tmp_path / "TS_01_particles.star")["particles"]
    truth = read_truth(files.truth)
    with np.load(tmp_path / "TS_01_truth.npz") as arrays:
        along = table["eucRole"] == "filament"
        assert set(table[along]["rlnHelicalTubeID"]) == set(table[along]["eucParent"].str[-1].astype(int))
        assert (table[~along]["rlnHelicalTubeID"] == 0).all()
        places = table[[f"rlnCenteredCoordinate{a}Angst" for a in "XYZ"]].to_numpy()
        for tube, rows in table[along].groupby("rlnHelicalTubeID"):
            line = arrays["filament_points"][arrays["filament_index"] == tube - 1]
            away = np.linalg.norm(places[rows.index][:, None] - line, axis=-1).min(1)
            assert away.max() < arrays["filament_radii_angstrom"][tube - 1] + 15.0
        inside = table["eucRole"] == "membrane"
        assert inside.any()
        assert set(table[inside]["eucParent"]) <= {
            f"{name}_{n + 1}" for n, name in enumerate(truth.settings["membranes"])
        }
        spheres = np.column_stack([truth.vesicle_centres, truth.vesicle_radii_angstrom])
        away = np.linalg.norm(places[inside.to_numpy()][:, None] - spheres[:, :3], axis=-1) - spheres[:, 3]
        assert np.abs(away).min(1).max() < 40.0
    labels = read_mrc(tmp_path / "volumes" / "TS_01_labels.mrc")[0]
    assert {truth.settings["label_names"][str(n)] for n in np.unique(labels)} >= {"nothing", "channel", "vesicle"}
