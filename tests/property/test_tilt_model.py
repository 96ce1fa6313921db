"""Laws of the model of a tilt series: exact transpose, parts equal the whole, contrast transfer at every point's own height."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eucentric.errors import InputError, ShapeError
from eucentric.geometry import TiltGeometry
from eucentric.models import CtfFit, Optics
from eucentric.optics import ctf_2d
from eucentric.projection import project, resample_tilts
from eucentric.reconstruction import DepthTransfer, TiltModel

OPTICS = Optics(voltage_kv=100.0, spherical_aberration_mm=0.01, amplitude_contrast=0.1)
VOXEL = 1.0
SIZES = st.integers(1, 23)
TILTS = st.lists(st.floats(-80, 80), min_size=1, max_size=6)
X_TILTS = st.one_of(st.just(0.0), st.floats(-12, 12))


def _fits(count, *, astigmatism=0.0, angle=0.0, defocus=1500.0):
    return tuple(
        CtfFit(
            defocus_u_angstrom=defocus + 40.0 * t + astigmatism / 2,
            defocus_v_angstrom=defocus + 40.0 * t - astigmatism / 2,
            astigmatism_angle_deg=angle,
        )
        for t in range(count)
    )


def _transfer(geometry, hand=-1.0, **changes):
    fits = changes.pop("fits", _fits(len(geometry)))
    return DepthTransfer(geometry=geometry, fits=fits, optics=OPTICS, hand=hand, voxel_size=VOXEL, **changes)


def _model(geometry, volume_shape, image_shape, transfer=None):
    return TiltModel(
        geometry=geometry,
        volume_shape=volume_shape,
        image_shape=image_shape,
        voxel_size=VOXEL if transfer else 2.5,
        transfer=transfer,
    )


def _assert_transposed(model, seed):
    generator = torch.Generator().manual_seed(seed)
    volume = torch.randn(model.volume_shape, generator=generator)
    images = torch.randn((len(model), *model.image_shape), generator=generator)
    forward, back = model.forward(volume), model.adjoint(images)
    assert forward.shape == images.shape
    assert back.shape == volume.shape
    one, other = (forward.double() * images.double()).sum(), (volume.double() * back.double()).sum()
    scale = float(forward.norm() * images.norm() + volume.norm() * back.norm()) + 1e-12
    assert abs(float(one - other)) <= 1e-5 * scale


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), TILTS, X_TILTS, st.tuples(SIZES, SIZES, SIZES), st.tuples(SIZES, SIZES))
def test_adjoint_is_the_transpose(seed, tilts, x_tilt, volume_shape, image_shape):
    geometry = TiltGeometry.build(tilts, x_tilt_deg=x_tilt)
    _assert_transposed(_model(geometry, volume_shape, image_shape), seed)


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 2**31), TILTS, X_TILTS, st.tuples(SIZES, SIZES, SIZES), st.tuples(SIZES, SIZES), st.floats(0, 300)
)
def test_adjoint_is_the_transpose_with_contrast_transfer(seed, tilts, x_tilt, volume_shape, image_shape, astigmatism):
    geometry = TiltGeometry.build(tilts, x_tilt_deg=x_tilt, z_rot_deg=17.0)
    fits = _fits(len(geometry), astigmatism=astigmatism, angle=25.0)
    transfer = _transfer(geometry, fits=fits, exposures=np.linspace(0.0, 40.0, len(geometry)))
    _assert_transposed(_model(geometry, volume_shape, image_shape, transfer), seed)


@pytest.mark.parametrize("shape", [(12, 31, 40), (13, 30, 41)])
def test_many_levels_are_transposed_too(shape):
    geometry = TiltGeometry.build([-62.0, -3.0, 41.0], x_tilt_deg=[4.0, 0.0, -7.0])
    model = _model(geometry, shape, (33, 38), _transfer(geometry))
    assert len(model.transfer.slabs(shape[0])) >= 1
    _assert_transposed(model, 5)


def test_the_model_counts_lengths_in_angstrom():
    geometry = TiltGeometry.build([0.0, 60.0])
    images = _model(geometry, (10, 9, 64), (9, 64)).forward(torch.ones((10, 9, 64)))
    # a slab of 10 voxels of 2.5 A, twice as long a way at 60 degrees
    np.testing.assert_allclose(images[:, 4, 32], [25.0, 50.0], rtol=1e-3)


def test_some_of_the_tilts():
    geometry = TiltGeometry.build([-50.0, -20.0, 10.0, 40.0], x_tilt_deg=[1.0, 2.0, 3.0, 4.0])
    model = _model(geometry, (7, 12, 14), (12, 14))
    volume = torch.randn((7, 12, 14), generator=torch.Generator().manual_seed(0))
    chosen = np.array([2, 0])
    torch.testing.assert_close(model.select(chosen).forward(volume), model.forward(volume)[chosen])
    with pytest.raises(ShapeError, match="cannot be taken apart"):
        _model(geometry, (7, 12, 14), (12, 14), _transfer(geometry)).select(chosen)


@pytest.mark.parametrize("planes", [1, 4, 5])
@pytest.mark.parametrize("x_tilt", [0.0, 5.0])
@pytest.mark.parametrize("depth", [12, 13])
def test_slabs_sum_to_the_whole(planes, x_tilt, depth):
    tilts = np.array([-70.0, -20.0, 0.0, 33.0])
    volume = torch.randn((depth, 20, 30), generator=torch.Generator().manual_seed(2))
    x_tilts = np.full(4, x_tilt) if x_tilt else None
    whole = project(volume, tilts, (22, 29), x_tilts_deg=x_tilts)
    total = torch.zeros_like(whole)
    for a in range(0, depth, planes):
        b = min(a + planes, depth)
        middle = a + (b - a) // 2 - depth // 2
        total += project(volume[a:b], tilts, (22, 29), x_tilts_deg=x_tilts, z_offset=middle)
    torch.testing.assert_close(total, whole, rtol=0, atol=2e-5 * float(whole.abs().max()))


def test_without_transfer_by_height_an_image_has_one_ctf():
    geometry = TiltGeometry.build([-40.0, 25.0])
    transfer = _transfer(geometry, by_height=False, fits=_fits(2, defocus=600.0))
    volume = torch.randn((9, 48, 51), generator=torch.Generator().manual_seed(4))
    images = _model(geometry, (9, 48, 51), (48, 51), transfer).forward(volume)
    plain = project(volume, geometry.y_tilt_deg, (48, 51))
    size = (180, 180)  # more room than the model takes
    for t, fit in enumerate(transfer.fits):
        ctf = -ctf_2d(size, VOXEL, fit.defocus_u_angstrom, fit.defocus_v_angstrom, 0.0, OPTICS)
        expected = torch.fft.irfft2(torch.fft.rfft2(plain[t], s=size) * ctf, s=size)[:48, :51]
        assert float((images[t] - expected).norm() / expected.norm()) < 0.05


@settings(max_examples=40, deadline=None)
@given(
    st.floats(-75, 75),
    st.floats(-15, 15),
    st.tuples(st.floats(-40, 40), st.floats(-40, 40), st.floats(-30, 30)),
    st.sampled_from([(64, 64), (65, 63)]),
)
def test_levels_are_the_heights_of_the_geometry(y_tilt, x_tilt, point, image_shape):
    geometry = TiltGeometry.build([y_tilt], x_tilt_deg=x_tilt)
    transfer = _transfer(geometry)
    camera = geometry.project(point)[0]
    levels = transfer.levels(0, point[2], image_shape, torch.device("cpu")).double().numpy()
    levels = np.broadcast_to(levels, image_shape)
    # heights are a plane over the image: read it where the point is seen
    y0, x0 = image_shape[0] // 2, image_shape[1] // 2
    across, along = levels[y0, x0 + 1] - levels[y0, x0], levels[y0 + 1, x0] - levels[y0, x0]
    at = levels[y0, x0] + (across * camera[0] + along * camera[1]) / VOXEL
    assert at * transfer.step_angstrom == pytest.approx(camera[2], abs=0.02 + 2e-4 * np.abs(camera).max())


def _points(volume_shape, seed=7, count=10):
    """Voxels (z, y, x) spread over a volume, away from its edges, and their points in A."""
    rng = np.random.default_rng(seed)
    low = np.array([2, 22, 20])
    voxels = np.stack([rng.integers(a, n - a, count) for a, n in zip(low, volume_shape, strict=True)], axis=1)
    points = (voxels - np.array(volume_shape) // 2)[:, ::-1] * VOXEL
    return voxels, points


def _sum_of_points(geometry, volume_shape, image_shape, hand, fits):
    """Each point projected alone, with the CTF at its own height by the geometry: no slabs, no levels."""
    voxels, points = _points(volume_shape)
    heights = geometry.project(points)[..., 2]
    size = (4 * image_shape[0], 4 * image_shape[1])
    x_tilts = geometry.x_tilt_deg if geometry.x_tilt_deg.any() else None
    total = torch.zeros((len(geometry), *image_shape))
    for j, voxel in enumerate(voxels):
        one = torch.zeros(volume_shape)
        one[tuple(voxel)] = 1.0 + 0.2 * j
        seen = project(one, geometry.y_tilt_deg, image_shape, x_tilts_deg=x_tilts)
        for t, fit in enumerate(fits):
            shift = hand * heights[t, j]
            ctf = ctf_2d(
                size,
                VOXEL,
                fit.defocus_u_angstrom + shift,
                fit.defocus_v_angstrom + shift,
                fit.astigmatism_angle_deg - geometry.z_rot_deg[t],
                OPTICS,
            )
            image = torch.fft.irfft2(torch.fft.rfft2(seen[t], s=size) * -ctf, s=size)
            total[t] += VOXEL * image[: image_shape[0], : image_shape[1]]
    return total


@pytest.mark.parametrize("hand", [-1.0, 1.0])
@pytest.mark.parametrize("x_tilt", [0.0, 6.0])
def test_every_point_has_the_ctf_of_its_own_height(hand, x_tilt):
    volume_shape, image_shape = (41, 64, 160), (64, 160)
    geometry = TiltGeometry.build([-60.0, -25.0, 0.0, 50.0], x_tilt_deg=x_tilt, z_rot_deg=30.0)
    fits = _fits(4, astigmatism=200.0, angle=40.0, defocus=1000.0)
    expected = _sum_of_points(geometry, volume_shape, image_shape, hand, fits)
    voxels, _ = _points(volume_shape)
    volume = torch.zeros(volume_shape)
    for j, voxel in enumerate(voxels):
        volume[tuple(voxel)] += 1.0 + 0.2 * j

    def error(tilt, **changes):
        transfer = _transfer(geometry, **{"hand": hand, "fits": fits, **changes})
        images = _model(geometry, volume_shape, image_shape, transfer).forward(volume)
        return float((images[tilt] - expected[tilt]).norm() / expected[tilt].norm())

    for tilt in range(4):
        # in slabs half as thick as a step, phases are wrong by up to 0.2 rad at the Nyquist frequency, in proportion to its
        # square: 0.2 / sqrt(3) rms there, another 1 / sqrt(3) over the plane. The blend of two heights 0.8 rad apart takes
        # up to 1 - cos(0.4), on average two thirds of it, and a third of that over the plane. Padded images wrap a little
        assert error(tilt) < 0.1
        assert error(tilt, phase_step=0.2) < 0.05
    for tilt in (0, 1, 3):
        assert error(tilt, hand=-hand) > 0.45
        assert error(tilt, by_height=False) > 0.25
    # astigmatism turns with the image
    turned = tuple(
        CtfFit(
            defocus_u_angstrom=f.defocus_u_angstrom,
            defocus_v_angstrom=f.defocus_v_angstrom,
            astigmatism_angle_deg=-20.0,
        )
        for f in fits
    )
    assert error(2, fits=turned) > 0.2


@pytest.mark.parametrize(("z_rot", "magnification"), [(0.0, 1.0), (35.0, 1.0), (-95.0, 1.05)])
def test_images_made_in_the_recorded_frame_are_those_of_the_model(z_rot, magnification):
    """Blobs written down in the recorded images, with the CTFs of their heights: only the formula of the geometry is used."""
    volume_shape, image_shape, sigma = (31, 60, 128), (60, 128), 0.9
    geometry = TiltGeometry.build([-55.0, 40.0], z_rot_deg=z_rot, shifts_angstrom=[[6.0, -3.0], [-2.0, 5.0]])
    geometry = geometry.replace(magnification=np.full(2, magnification))
    fits = _fits(2, astigmatism=300.0, angle=20.0, defocus=900.0)
    rng = np.random.default_rng(1)
    points = rng.uniform(-1, 1, (8, 3)) * [50.0, 12.0, 10.0]
    weights = 1.0 + rng.random(8)
    camera = geometry.project(points)
    size = (200, 210)
    fy, fx = np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])[None]
    recorded = torch.zeros((2, *size))
    wide = magnification * sigma
    envelope = np.exp(-2.0 * (math.pi * wide) ** 2 * (fx**2 + fy**2)) * (2.0 * math.pi) ** 1.5 * sigma * wide**2
    for t, fit in enumerate(fits):
        spectrum = 0
        for (x, y, z), weight in zip(camera[t], weights, strict=True):
            phase = np.exp(-2j * math.pi * (fx * (x + size[1] // 2) + fy * (y + size[0] // 2)))
            ctf = ctf_2d(size, 1.0, fit.defocus_u_angstrom - z, fit.defocus_v_angstrom - z, 20.0, OPTICS).numpy()
            spectrum = spectrum - weight * ctf * envelope * phase
        recorded[t] = torch.from_numpy(np.fft.irfft2(spectrum, s=size))
    expected = resample_tilts(recorded, geometry, 1.0, out_shape=image_shape, out_pixel_size=1.0)
    axes = [np.arange(n) - n // 2 for n in volume_shape]
    volume = np.zeros(volume_shape)
    for (x, y, z), weight in zip(points, weights, strict=True):
        lines = [np.exp(-0.5 * ((axis - at) / sigma) ** 2) for axis, at in zip(axes, (z, y, x), strict=True)]
        volume += weight * np.einsum("z,y,x->zyx", *lines)
    volume = torch.from_numpy(volume).float()

    def error(**changes):
        transfer = _transfer(geometry, **{"fits": fits, "hand": -1.0, **changes})
        images = _model(geometry, volume_shape, image_shape, transfer).forward(volume)
        return float((images - expected).norm() / expected.norm())

    assert error() < 0.05
    assert error(hand=1.0) > 0.1
    assert error(fits=_fits(2, astigmatism=300.0, angle=20.0 + 2 * z_rot + 25.0, defocus=900.0)) > 0.1


def test_exposures_fade_the_images():
    geometry = TiltGeometry.build([0.0, 0.0])
    transfer = _transfer(geometry, fits=(_fits(1)[0],) * 2, exposures=np.array([0.0, 30.0]))
    volume = torch.randn((4, 40, 40), generator=torch.Generator().manual_seed(1))
    fresh, faded = _model(geometry, (4, 40, 40), (40, 40), transfer).forward(volume)
    assert float(faded.norm()) < 0.3 * float(fresh.norm())


@pytest.mark.parametrize("tilt", [90.0, -89.9])
def test_heights_along_the_beam_need_tilts_below_ninety_degrees(tilt):
    geometry = TiltGeometry.build([0.0, tilt])
    with pytest.raises(InputError, match="tilted by"):
        _transfer(geometry)
    _transfer(geometry, by_height=False)


def test_wrong_counts_and_shapes_are_refused():
    geometry = TiltGeometry.build([0.0, 10.0])
    with pytest.raises(ShapeError, match="1 CTF fits and 2 tilts"):
        _transfer(geometry, fits=_fits(1))
    model = _model(geometry, (4, 5, 6), (5, 6))
    with pytest.raises(ShapeError, match=r"volume of shape \(4, 5, 7\)"):
        model.forward(torch.zeros((4, 5, 7)))
    with pytest.raises(ShapeError, match="Images of shape"):
        model.adjoint(torch.zeros((3, 5, 6)))
