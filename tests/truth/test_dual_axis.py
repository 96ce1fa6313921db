"""Two tilt axes: registration against a known motion, coverage against the reconstruction, and what combining gains."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from eucentric.errors import InputError, ProcessingError, ShapeError
from eucentric.fourier.shells import fourier_shell_correlation
from eucentric.geometry import TiltGeometry
from eucentric.reconstruction.combine_dual_axis import combine_dual_axis, coverage_sections
from eucentric.reconstruction.fourier_coverage import FourierCoverage
from eucentric.reconstruction.move_volume import RigidMotion, move_volume
from eucentric.reconstruction.params import ReconstructParams
from eucentric.reconstruction.reconstruct_volume import reconstruct_volume
from eucentric.reconstruction.register_volumes import register_volumes
from eucentric.reconstruction.reproject_volume import reproject_volume
from eucentric.simulation import Phantom, asymmetric_phantom

VOXEL = 10.0
PLAIN = ReconstructParams(dose_weighting=False)


def _specimen(half_width, depth, count, seed):
    """Blobs of unlike size and weight at random: no symmetry."""
    generator = np.random.default_rng(seed)
    return Phantom(
        positions_angstrom=generator.uniform(-1.0, 1.0, (count, 3)) * [half_width, half_width, depth],
        weights=-generator.uniform(0.3, 1.0, count),
        sigmas_angstrom=generator.uniform(16.0, 30.0, count),
    )


def _tomogram(specimen, shape, seed, signal_to_noise=None):
    generator = np.random.default_rng(seed)
    tilts = np.arange(-60.0, 61.0, 3.0)
    geometry = TiltGeometry.build(tilts, z_rot_deg=85.0, shifts_angstrom=generator.normal(0.0, 10.0, (len(tilts), 2)))
    images = specimen.project(geometry, (shape[1] + 36, shape[2] + 36), VOXEL)
    if signal_to_noise is not None:
        noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
        images = images + noise * images.std() / signal_to_noise**0.5
    volume = reconstruct_volume(images, geometry, pixel_size=VOXEL, volume_shape=shape, voxel_size=VOXEL, params=PLAIN)
    return volume, geometry


def _pair(motion, shape, seed=3, blobs=60, signal_to_noise=None):
    specimen = _specimen(0.4 * shape[2] * VOXEL, 0.3 * shape[0] * VOXEL, blobs, seed)
    back = motion.inverse
    a, geometry_a = _tomogram(specimen, shape, 1, signal_to_noise)
    b, geometry_b = _tomogram(specimen.transformed(back.rotation, back.shift_angstrom), shape, 2, signal_to_noise)
    return SimpleNamespace(specimen=specimen, a=a, b=b, geometry_a=geometry_a, geometry_b=geometry_b)


def _register(pair, **options):
    return register_volumes(pair.a, pair.b, pair.geometry_a, pair.geometry_b, voxel_size=VOXEL, **options)


def _error(found, motion):
    """Largest component of the shift in voxels; angle in degrees."""
    trace = np.trace(found.motion.rotation.T @ motion.rotation)
    angle = np.rad2deg(np.arccos(np.clip((trace - 1.0) / 2.0, -1.0, 1.0)))
    return np.abs(found.motion.shift_angstrom - motion.shift_angstrom).max() / VOXEL, angle


TURNED = RigidMotion.build(x_deg=2.5, y_deg=-3.0, z_deg=86.0, shift=np.array([47.0, -31.0, 22.0]))


@pytest.fixture(scope="module")
def pair():
    return _pair(TURNED, (44, 72, 72))


@pytest.fixture(scope="module")
def registered(pair):
    return _register(pair, turn_deg=95.0)


def test_a_moved_volume_is_the_moved_specimen():
    phantom = asymmetric_phantom(300.0)
    got = move_volume(phantom.volume((71, 76, 81), 12.0), TURNED, voxel_size=12.0, shape=(72, 80, 79))
    expected = phantom.transformed(TURNED.rotation, TURNED.shift_angstrom).volume((72, 80, 79), 12.0)
    assert float((got - expected).norm() / expected.norm()) < 0.002
    wrong = phantom.transformed(TURNED.rotation.T, TURNED.shift_angstrom).volume((72, 80, 79), 12.0)
    assert float((got - wrong).norm() / wrong.norm()) > 0.5


def test_no_motion_and_quarter_turns_change_nothing():
    volume = torch.randn(9, 15, 15, generator=torch.Generator().manual_seed(1))
    still = move_volume(volume, RigidMotion.build(shift=np.zeros(3)), voxel_size=3.0)
    torch.testing.assert_close(still, volume, atol=1e-5, rtol=0)
    # x towards y: what was at (x, y) lies at (-y, x)
    turned = move_volume(volume, RigidMotion.build(z_deg=90.0, shift=np.zeros(3)), voxel_size=3.0)
    torch.testing.assert_close(turned, volume.transpose(1, 2).flip(2), atol=1e-5, rtol=0)


def test_a_geometry_carried_along_sees_the_moved_points_at_the_same_places():
    generator = np.random.default_rng(2)
    geometry = TiltGeometry.build([-60.0, 0.0, 41.0], z_rot_deg=85.0, x_tilt_deg=2.0, shifts_angstrom=[[3.0, 4.0]] * 3)
    points = generator.normal(0.0, 200.0, (7, 3))
    moved = points @ TURNED.rotation.T + TURNED.shift_angstrom
    carried = TURNED.carry_geometry(geometry)
    np.testing.assert_allclose(carried.project(moved)[..., :2], geometry.project(points)[..., :2], atol=1e-9)
    x, y, z = TURNED.angles_deg
    np.testing.assert_allclose((x, y, z), (2.5, -3.0, 86.0), atol=1e-9)
    np.testing.assert_allclose(TURNED.inverse.inverse.shift_angstrom, TURNED.shift_angstrom, atol=1e-9)


def test_one_volume_gives_the_images_of_both_series():
    # the joined geometries are all that a joint solution needs
    specimen = _specimen(250.0, 150.0, 20, 5)
    back = TURNED.inverse
    geometry = TiltGeometry.build([-50.0, -20.0, 10.0, 40.0], z_rot_deg=85.0)
    expected = specimen.transformed(back.rotation, back.shift_angstrom).project(geometry, (90, 92), VOXEL)
    got = reproject_volume(
        specimen.volume((64, 90, 90), VOXEL), TURNED.carry_geometry(geometry), voxel_size=VOXEL, image_shape=(90, 92)
    )
    assert float((got - expected).norm() / expected.norm()) < 0.02


def test_coverage_is_what_the_reconstruction_passes_on():
    phantom = asymmetric_phantom(300.0)
    geometry = TiltGeometry.build(np.arange(-60.0, 61.0, 3.0))
    shape = (96, 96, 96)
    volume = reconstruct_volume(
        phantom.project(geometry, (200, 200), VOXEL),
        geometry,
        pixel_size=VOXEL,
        volume_shape=shape,
        voxel_size=VOXEL,
        params=PLAIN,
    )
    got, truth = torch.fft.rfftn(volume), torch.fft.rfftn(phantom.volume(shape, VOXEL))
    coverage = FourierCoverage(geometry, depth_angstrom=960.0, highest_frequency=0.09).on_grid(shape, VOXEL)
    kz, ky, kx = np.meshgrid(np.fft.fftfreq(96), np.fft.fftfreq(96), np.fft.rfftfreq(96), indexing="ij")
    angle = np.rad2deg(np.arctan2(kz, kx))
    ring = (np.hypot(kx, kz) > 0.06) & (np.sqrt(kx**2 + ky**2 + kz**2) < 0.14)
    for middle in (0, 25, -25, 45, -45, 75, -75, 88):
        # 55 to 65 degrees: the edge itself, soft in both but not in the same way
        at = torch.from_numpy(ring & (np.abs(angle - middle) < 3.0))
        passed = float((got * truth.conj()).real[at].sum() / truth.abs()[at].square().sum())
        told = float((coverage * truth.abs().square())[at].sum() / truth.abs()[at].square().sum())
        assert told == pytest.approx(passed, abs=0.05), middle


def test_coverage_follows_the_tilts():
    lopsided = FourierCoverage(
        TiltGeometry.build(np.arange(-30.0, 61.0, 3.0)), depth_angstrom=800.0, highest_frequency=0.1
    )
    angles = torch.deg2rad(torch.tensor([45.0, -45.0]))
    k = 0.03
    zero = torch.zeros(1)
    both = lopsided.at(k * angles.cos(), zero, k * angles.sin())
    assert both[0] > 0.95  # kz / kx = tan(tilt), as a point at +z moves by +z sin(tilt) in x
    assert both[1] < 0.05
    # the tilt axis of a series turned by 90 degrees about z lies on x
    turned = lopsided.at(
        zero, k * angles.cos(), k * angles.sin(), RigidMotion.build(z_deg=90.0, shift=np.zeros(3)).rotation
    )
    torch.testing.assert_close(turned, both, atol=1e-4, rtol=0)
    assert float(lopsided.at(zero, zero + k, zero)) > 0.95


def test_registration_finds_the_motion(pair, registered):
    shift, angle = _error(registered, TURNED)
    assert shift < 0.2  # 0.01 and 0.04 were measured
    assert angle < 0.1
    assert registered.scale == pytest.approx(1.0, abs=0.05)
    assert registered.significance > 30.0


def test_combining_beats_either_alone_where_either_sampled(pair, registered):
    shape = tuple(pair.a.shape)
    combined = combine_dual_axis(
        pair.a, pair.b, registered.motion, pair.geometry_a, pair.geometry_b, voxel_size=VOXEL, scale=registered.scale
    )
    truth = pair.specimen.volume(shape, VOXEL)
    covered = torch.maximum(
        *(
            FourierCoverage(g, depth_angstrom=VOXEL * shape[0], highest_frequency=0.09).on_grid(
                shape, VOXEL, rotation=r
            )
            for g, r in ((pair.geometry_a, None), (pair.geometry_b, TURNED.rotation))
        )
    )
    mask = (covered > 0.5).float()
    window = torch.ones(shape)
    for axis, n in enumerate(shape):
        edge = torch.sin(torch.pi * (torch.arange(n) + 0.5) / n)
        window = window * edge.reshape([-1 if a == axis else 1 for a in range(3)])

    def curve(volume):
        return fourier_shell_correlation(volume * window, truth * window, VOXEL, mask=mask)[1][1:28]

    alone_a, alone_b, both = curve(pair.a), curve(move_volume(pair.b, TURNED, voxel_size=VOXEL)), curve(combined)
    assert bool((both > torch.maximum(alone_a, alone_b)).all())
    # 0.96 of 0.88 and 0.81 alone were measured
    assert float(both.mean()) > 0.03 + float(torch.maximum(alone_a.mean(), alone_b.mean()))
    # a motion of the wrong direction spoils it
    wrong = combine_dual_axis(
        pair.a, pair.b, registered.motion.inverse, pair.geometry_a, pair.geometry_b, voxel_size=VOXEL
    )
    assert float(curve(wrong).mean()) < 0.85 * float(both.mean())


def test_where_the_second_does_not_reach_the_first_stands_alone(pair):
    far = RigidMotion.build(z_deg=90.0, shift=np.array([5000.0, 0.0, 0.0]))
    got = combine_dual_axis(pair.a, pair.b, far, pair.geometry_a, pair.geometry_b, voxel_size=VOXEL)
    assert float((got - pair.a).norm() / pair.a.norm()) < 0.25  # but for what lies in the first one's wedge


def test_the_missing_pyramid_is_what_neither_sampled():
    geometry = TiltGeometry.build(np.arange(-60.0, 61.0, 3.0))
    motion = RigidMotion.build(z_deg=90.0, shift=np.zeros(3))
    sections = coverage_sections(geometry, geometry, motion, depth_angstrom=1500.0, voxel_size=VOXEL)
    # a wedge of 30 degrees either side of z is a third of the sphere; a pyramid of half-widths a = tan 30 has the solid
    # angle 4 atan(a^2 / sqrt(1 + 2 a^2)) at either pole
    a = np.tan(np.deg2rad(30.0))
    pyramid = 2.0 * 4.0 * np.arctan(a * a / np.sqrt(1.0 + 2.0 * a * a)) / (4.0 * np.pi)
    # the last view stands for a gap of 3 degrees, half of it beyond 60
    assert sections.missing_of_each == pytest.approx((1.0 / 3.0, 1.0 / 3.0), abs=0.025)
    assert sections.missing == pytest.approx(pyramid, abs=0.02)
    middle = len(sections.frequency) // 2
    assert sections.first["zx"][-1, middle] < 0.05  # kz alone: nobody
    # the axis of the first is y: it sees x to a height of tan 60, and nothing of y above kz = 0
    low = (middle + 20, -5)
    assert sections.first["zx"][low] > 0.95 > 0.05 > sections.first["zy"][low]
    assert sections.second["zy"][low] > 0.95 > 0.05 > sections.second["zx"][low]


@pytest.mark.slow
@pytest.mark.parametrize("case", range(3))
def test_noisy_series_register_from_any_turn(case):
    generator = np.random.default_rng(case)
    motion = RigidMotion.build(
        x_deg=generator.uniform(-5.0, 5.0),
        y_deg=generator.uniform(-5.0, 5.0),
        z_deg=generator.uniform(-180.0, 180.0),
        shift=generator.uniform(-1.0, 1.0, 3) * [60.0, 60.0, 30.0],
    )
    exact = _register(_pair(motion, (64, 128, 128), seed=case, blobs=110))
    shift, angle = _error(exact, motion)
    assert shift < 0.2
    assert angle < 0.1
    noisy = _register(_pair(motion, (64, 128, 128), seed=case, blobs=110, signal_to_noise=0.1))
    shift, _ = _error(noisy, motion)
    assert shift < 0.5
    turn = noisy.motion.rotation @ motion.rotation.T
    about = np.rad2deg([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]]) / 2.0
    assert np.abs(about).max() < 0.3
    # 12 numbers of 1 standard deviation: 4 would be a false error estimate
    assert np.abs(about / noisy.sigma_rotation_deg).max() < 4.0
    moved = (noisy.motion.shift_angstrom - motion.shift_angstrom) / noisy.sigma_shift_angstrom
    assert np.abs(moved).max() < 4.0


def test_the_wrong_hand_is_refused(pair):
    with pytest.raises(ProcessingError, match="wrong hand"):
        register_volumes(pair.a, pair.b.flip(0), pair.geometry_a, pair.geometry_b, voxel_size=VOXEL, turn_deg=86.0)


def test_unrelated_or_unusable_volumes_are_refused(pair):
    noise = torch.randn(pair.b.shape, generator=torch.Generator().manual_seed(9))
    with pytest.raises(ProcessingError, match="standard deviations of chance"):
        register_volumes(pair.a, noise, pair.geometry_a, pair.geometry_b, voxel_size=VOXEL, turn_deg=90.0)
    with pytest.raises(InputError, match="second volume holds no contrast"):
        register_volumes(pair.a, torch.zeros(8, 8, 8), pair.geometry_a, pair.geometry_b, voxel_size=VOXEL)
    with pytest.raises(ShapeError, match="shape"):
        register_volumes(pair.a[0], pair.b, pair.geometry_a, pair.geometry_b, voxel_size=VOXEL)
    with pytest.raises(InputError, match="mirrors"):
        RigidMotion(rotation=np.diag([1.0, 1.0, -1.0]), shift_angstrom=np.zeros(3))
    with pytest.raises(InputError, match="scale"):
        combine_dual_axis(pair.a, pair.b, TURNED, pair.geometry_a, pair.geometry_b, voxel_size=VOXEL, scale=0.0)
