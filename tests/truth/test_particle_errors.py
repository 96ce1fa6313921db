"""Errors of particles in their images: planted ones are measured as they are, and what no image can tell is not."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from eucentric.errors import InputError
from eucentric.evaluation.particle_errors import SeriesWithTruth, particle_position_errors
from eucentric.geometry import Deformation, ImageWarp, TiltGeometry, VolumeWarp
from eucentric.geometry.symmetry import symmetry_rotations
from eucentric.io.truth import TiltTruth
from eucentric.models import Optics
from eucentric.models.particles import ParticleSet
from eucentric.models.tilt_series import CtfFit, Tilt, TiltPose, TiltSeries

PIXEL, SHAPE, COUNT = 4.0, (400, 420), 30
TILTS = np.arange(-60.0, 61.0, 6.0)


def known(bend: float = 0.0) -> TiltTruth:
    """Particles of kind 1 in the middle of the field, one of kind 0 beside each; `bend` in A."""
    generator = np.random.default_rng(3)
    tilts = len(TILTS)
    shifts = generator.normal(0, 20.0, (tilts, 2))
    geometry = TiltGeometry.build(TILTS, z_rot_deg=84.0, shifts_angstrom=shifts)
    places = generator.uniform(-1.0, 1.0, (COUNT, 3)) * (380.0, 380.0, 150.0)
    return TiltTruth(
        name="TS_01",
        pixel_size_angstrom=PIXEL,
        image_shape=SHAPE,
        optics=Optics(),
        nominal_tilts_deg=TILTS,
        true_tilts_deg=TILTS,
        tilt_axis_deg=84.0,
        nominal_axis_deg=84.0,
        matrices=geometry.matrices,
        shifts_angstrom=shifts,
        acquisition=np.arange(tilts),
        movie_names=tuple(f"{t}.tif" for t in range(tilts)),
        dose=3.0,
        defocus_u_angstrom=np.full(tilts, 30100.0),
        defocus_v_angstrom=np.full(tilts, 29900.0),
        astigmatism_angle_deg=30.0,
        hand=-1.0,
        motion_angstrom=np.zeros((tilts, 1, 2)),
        thickness_angstrom=300.0,
        deformation_angstrom=bend,
        deformation_coefficients=np.full((3, 6), 1.0),
        positions=np.concatenate([places, places + 15.0]),
        rotations=Rotation.random(2 * COUNT, rng=generator).as_matrix(),
        kinds=np.repeat([1, 0], COUNT),
    )


def estimate(truth: TiltTruth, kept: slice = slice(None)) -> SeriesWithTruth:
    """The truth as if it had been estimated, without its deformation."""
    tilts = [
        Tilt(
            nominal_tilt_deg=float(TILTS[t]),
            acquisition=t,
            dose=3.0,
            pre_exposure=3.0 * t,
            movie=f"frames/{t}.tif",
            pose=TiltPose(
                y_tilt_deg=float(TILTS[t]),
                z_rot_deg=84.0,
                x_shift_angstrom=float(truth.shifts_angstrom[t, 0]),
                y_shift_angstrom=float(truth.shifts_angstrom[t, 1]),
            ),
            ctf=CtfFit(defocus_u_angstrom=30000.0, defocus_v_angstrom=30000.0),
        )
        for t in range(len(TILTS))[kept]
    ]
    series = TiltSeries.sorted(tilts, name="TS_01", pixel_size_angstrom=PIXEL, image_shape=SHAPE, hand=-1.0)
    return SeriesWithTruth(series=series, truth=truth)


def listed(truth: TiltTruth) -> ParticleSet:
    """Kind 1, last particle first."""
    rows = np.flatnonzero(truth.kinds == 1)[::-1]
    return ParticleSet.build("TS_01", truth.positions[rows], rotations=truth.rotations[rows])


def repose(source: SeriesWithTruth, **offsets: np.ndarray) -> SeriesWithTruth:
    """With numbers (tilt,) added to fields of the poses."""
    tilts = [
        replace(tilt, pose=replace(tilt.pose, **{n: getattr(tilt.pose, n) + float(v[t]) for n, v in offsets.items()}))
        for t, tilt in enumerate(source.series.tilts)
    ]
    return replace(source, series=source.series.with_tilts(tilts))


def test_the_truth_itself_has_no_error_and_every_particle_is_found():
    truth = known()
    errors = particle_position_errors([estimate(truth)], listed(truth), 1)
    assert errors.rows.tolist() == list(range(COUNT))
    assert errors.true_rows.tolist() == list(range(COUNT))[::-1]
    assert errors.rms_angstrom < 1e-6
    assert errors.geometry_rms_angstrom < 1e-6
    assert errors.angles_deg.max() < 1e-4
    np.testing.assert_allclose(errors.defocus_angstrom, 0.0, atol=1e-6)


@pytest.mark.parametrize("kept", [slice(None), slice(3, None), slice(0, None, 2)])
def test_shifts_of_two_angstrom_in_every_tilt_are_measured_as_two(kept):
    truth = known()
    source = estimate(truth, kept)
    turn = np.random.default_rng(1).uniform(0, 2 * np.pi, len(source.series.tilts))
    source = repose(source, x_shift_angstrom=2.0 * np.cos(turn), y_shift_angstrom=2.0 * np.sin(turn))
    errors = particle_position_errors([source], listed(truth), 1)
    # random shifts of the tilts and random orientations: no point of the reference explains any of it but by chance
    assert errors.rms_angstrom == pytest.approx(2.0, abs=0.03)
    assert errors.rms_by_series_angstrom == pytest.approx({"TS_01": errors.rms_angstrom})
    with_symmetry = particle_position_errors([source], listed(truth), 1, "D7")
    np.testing.assert_allclose(with_symmetry.distances_angstrom, 2.0, atol=1e-6)  # nothing at all is free


def test_errors_are_told_apart_by_tilt():
    truth = known()
    steep = np.where(np.abs(TILTS) > 30.0, 3.0, 1.0)
    errors = particle_position_errors([repose(estimate(truth), x_shift_angstrom=steep)], listed(truth), 1, "D7")
    assert errors.rms_by_tilt_angstrom == pytest.approx((1.0, 3.0))


def test_where_the_map_lies_in_the_structure_and_how_it_is_turned_is_no_error():
    truth, centre = known(), np.array([6.0, -9.0, 4.0])
    turn = Rotation.from_rotvec([1.0, -0.6, 2.0]).as_matrix()
    right = listed(truth)
    turns = right.rotations @ turn
    moved = right.with_rotations(turns).with_positions(right.positions_angstrom - turns @ centre)
    errors = particle_position_errors([estimate(truth)], moved, 1)
    assert errors.rms_angstrom < 1e-5
    np.testing.assert_allclose(errors.centre_angstrom, centre, atol=1e-5)
    assert errors.angles_deg.max() < 1e-4
    np.testing.assert_allclose(errors.defocus_angstrom, 0.0, atol=1e-4)


def test_a_centre_off_the_axes_of_the_symmetry_is_an_error():
    truth = known()
    right = listed(truth)
    moved = right.with_positions(right.positions_angstrom + right.rotations @ np.array([5.0, 0.0, 3.0]))
    rms = {
        group: particle_position_errors([estimate(truth)], moved, 1, group).rms_angstrom for group in ("C1", "C7", "D7")
    }
    assert rms["C1"] < 1e-5
    # two of three components of a 3D error are seen: those along x and y of the camera
    assert rms["C7"] == pytest.approx(5.0 * np.sqrt(2 / 3), rel=0.1)
    assert rms["D7"] == pytest.approx(np.sqrt(34.0 * 2 / 3), rel=0.1)


def test_places_that_scatter_are_no_error_of_the_geometry():
    truth = known()
    right = listed(truth)
    scattered = right.with_positions(right.positions_angstrom + np.random.default_rng(2).normal(0, 2.0, (COUNT, 3)))
    errors = particle_position_errors([estimate(truth)], scattered, 1)
    assert errors.rms_angstrom == pytest.approx(2.0 * np.sqrt(2.0), rel=0.15)
    assert errors.geometry_rms_angstrom < 1e-5


def test_orientations_are_measured_up_to_the_symmetry_and_with_the_tilt():
    truth = known()
    right, generator = listed(truth), np.random.default_rng(5)
    axes = generator.normal(size=(COUNT, 3))
    off = Rotation.from_rotvec(np.deg2rad(3.0) * axes / np.linalg.norm(axes, axis=1, keepdims=True)).as_matrix()
    group = symmetry_rotations("D7")
    turned = right.with_rotations(off @ right.rotations @ group[generator.integers(len(group), size=COUNT)])
    errors = particle_position_errors([estimate(truth)], turned, 1, "D7")
    assert np.median(errors.angles_deg) == pytest.approx(3.0, abs=0.6)  # the common turn takes a chance part of them
    slanted = repose(estimate(truth), y_tilt_deg=np.where(TILTS > 0, 1.0, -1.0))
    assert np.median(particle_position_errors([slanted], right, 1).angles_deg) == pytest.approx(1.0, abs=0.15)


def test_deformation_counts_unless_the_estimate_has_it():
    truth = known(bend=6.0)
    source = estimate(truth)
    rigid = particle_position_errors([source], listed(truth), 1, "D7")
    camera = [truth.camera_positions(truth.positions, deformed=d) for d in (True, False)]
    seen = np.linalg.norm((camera[0] - camera[1])[:, truth.kinds == 1, :2], axis=-1)
    assert rigid.rms_angstrom == pytest.approx(np.sqrt((seen**2).mean()))
    doses = 3.0 * np.arange(len(TILTS)) + 1.5
    edge = 4000.0
    line = np.linspace(
        -0.5 * edge, 0.5 * edge, 33
    )  # the ends of a spline are straight, the truth's are not: they lie far out
    y, x = np.meshgrid(line, line, indexing="ij")
    fields = truth.deformation(np.stack([x.ravel(), y.ravel(), 0.0 * x.ravel()], axis=1))
    volume = VolumeWarp.build(fields.reshape(-1, 1, 33, 33, 3), doses, (edge, edge, edge))
    bent = particle_position_errors([replace(source, deformation=Deformation(volume=volume))], listed(truth), 1, "D7")
    assert bent.rms_angstrom < 1e-3 * rigid.rms_angstrom
    np.testing.assert_allclose(bent.defocus_angstrom, 0.0, atol=1e-2)


def test_a_displacement_of_the_images_counts():
    truth = known()
    image = ImageWarp.build(np.tile([1.5, -2.0], (len(TILTS), 2, 2, 1)), SHAPE, PIXEL)
    source = replace(estimate(truth), deformation=Deformation(image=image))
    errors = particle_position_errors([source], listed(truth), 1, "D7")
    np.testing.assert_allclose(errors.distances_angstrom, 2.5, atol=1e-6)


def test_false_particles_are_left_out_and_only_false_ones_are_refused():
    truth = known()
    right = listed(truth)
    far = right.positions_angstrom.copy()
    far[:4] += 300.0
    double = ParticleSet.concatenate([right.with_positions(far), right.select([5])])
    errors = particle_position_errors([estimate(truth)], double, 1)
    assert set(errors.rows.tolist()) <= set(range(4, COUNT))
    assert len(errors.rows) >= COUNT - 5
    with pytest.raises(InputError, match="None of 30 particles"):
        particle_position_errors([estimate(truth)], right.with_positions(right.positions_angstrom + 3000.0), 1)
    with pytest.raises(InputError, match="no particle of kind 7"):
        particle_position_errors([estimate(truth)], right, 7)
    with pytest.raises(InputError, match="no series with truth of TS_02"):
        particle_position_errors([estimate(truth)], right.with_tomograms("TS_02"), 1)


def test_a_movie_that_the_truth_does_not_name_is_refused():
    truth = known()
    source = estimate(replace(truth, movie_names=tuple(f"other_{t}.tif" for t in range(len(TILTS)))))
    with pytest.raises(InputError, match="does not name the movie"):
        particle_position_errors([estimate(truth), source][1:], listed(truth), 1)
