"""Direct Fourier inversion: central slices against sums written out, boxes and tiles against blobs of known place."""

import json

import numpy as np
import pytest
import torch

from eucentric.errors import BackendError, InputError, ShapeError
from eucentric.fourier import exposure_weights, frequency_grid
from eucentric.geometry import TiltGeometry
from eucentric.models import CtfFit, Optics
from eucentric.optics import ctf_2d
from eucentric.projection.slice_weights import share_samples
from eucentric.projection.slices import extract_slices, grid_to_volume, insert_slices, volume_to_grid
from eucentric.reconstruction import ReconstructParams, reconstruct_volume
from eucentric.reconstruction.fourier_inversion import reconstruct_boxes, reconstruct_fourier
from eucentric.simulation import asymmetric_phantom

PIXEL, VOXEL, BOX = 6.0, 8.0, 48
CENTRE = np.array([250.0, -190.0, 160.0])
PHANTOM = asymmetric_phantom(130.0)
ALL_ANGLES, WEDGE = np.arange(-90.0, 90.0, 2.0), np.arange(-60.0, 61.0, 3.0)


def _geometry(tilts, *, x_tilt=0.0, axis=84.3):
    shifts = np.random.default_rng(1).normal(0.0, 25.0, (len(tilts), 2))
    return TiltGeometry.build(tilts, z_rot_deg=axis, x_tilt_deg=x_tilt, shifts_angstrom=shifts)


def _images(geometry, *, pixel=PIXEL, phantom=PHANTOM, centre=CENTRE, shape=(216, 225)):
    return phantom.transformed(np.eye(3), centre).project(geometry, shape, pixel)


def _box(images, geometry, *, centre=CENTRE, **options):
    keywords = {"pixel_size": PIXEL, "box_size": BOX, "voxel_size": VOXEL, **options}
    return reconstruct_boxes(images, geometry, [centre], **keywords)[0]


def _band(volume, lowest=0.0, highest=0.7):
    """Spectrum between two fractions of Nyquist."""
    fraction = 2.0 * frequency_grid(volume.shape, 1.0)
    spectrum = torch.fft.rfftn(volume.double())
    return spectrum[(fraction >= lowest) & (fraction < highest)]


def _gain_and_error(got, truth):
    power = float(truth.abs().square().sum())
    return float((got * truth.conj()).real.sum()) / power, float((got - truth).abs().square().sum() / power) ** 0.5


def _correlation(got, truth):
    return float((got * truth.conj()).real.sum() / (got.norm() * truth.norm()))


# central slices


@pytest.mark.parametrize(
    ("shape", "size", "extent"), [((9, 8, 11), 12, None), ((8, 9, 7), 11, 13.7), ((8, 8, 8), 16, 12.0)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_slices_are_the_transform_of_the_volume(shape, size, extent, dtype):
    rng = np.random.default_rng(3)
    geometry = TiltGeometry.build(
        rng.uniform(-180, 180, 4), z_rot_deg=rng.uniform(-180, 180, 4), x_tilt_deg=rng.uniform(-90, 90, 4)
    )
    volume = torch.from_numpy(rng.normal(size=shape)).to(dtype)
    grid = volume_to_grid(volume, tuple(2 * (n + n % 2) for n in shape))
    got = extract_slices(grid, geometry.matrices, size, extent_voxels=extent)
    z, y, x = (a.ravel() for a in np.meshgrid(*[np.arange(n) - n // 2 for n in shape], indexing="ij"))
    edge = size if extent is None else extent
    fy, fx = np.meshgrid(np.rint(np.fft.fftfreq(size) * size), np.arange(size // 2 + 1), indexing="ij")
    want = np.zeros(got.shape, dtype=complex)
    for t in range(4):
        # the pixel where a voxel is seen; phases of the image's own plane waves
        seen = geometry.matrices[t] @ np.stack([x, y, z])
        waves = np.exp(-2j * np.pi * (fx[..., None] * seen[0] + fy[..., None] * seen[1]) / edge)
        want[t] = waves @ volume.numpy().ravel()
    want[:, fx**2 + fy**2 >= (0.5 * min(size, edge)) ** 2] = 0.0
    np.testing.assert_allclose(got.numpy(), want, atol=2e-3 * np.abs(want).max())


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@pytest.mark.parametrize(("size", "extent"), [(14, None), (15, 21.3), (20, 13.0)])
def test_insertion_is_the_transpose_of_extraction(dtype, size, extent):
    generator = torch.Generator().manual_seed(5)
    matrices = _geometry(np.linspace(-170.0, 170.0, 7), x_tilt=20.0).matrices
    shape, grid_shape = (9, 12, 10), (18, 24, 20)
    volume = torch.randn(shape, generator=generator, dtype=dtype.to_real())
    # the transform of a real image: each column but the first stands for two of the whole plane
    images = torch.randn((7, size, size), generator=generator, dtype=dtype.to_real())
    slices = torch.fft.rfft2(images)
    twice = torch.full((size // 2 + 1,), 2.0, dtype=dtype.to_real())
    twice[0] = 1.0
    there = extract_slices(volume_to_grid(volume, grid_shape), matrices, size, extent_voxels=extent)
    back = grid_to_volume(insert_slices(slices, matrices, grid_shape, extent_voxels=extent), shape)
    tolerance = 1e-5 if dtype == torch.complex64 else 1e-12
    left = float(((there * slices.conj()).real * twice).sum())
    assert abs(left - float((back * volume).sum())) < tolerance * float(back.norm() * volume.norm())


def test_the_fast_loops_are_the_plain_ones():
    generator = torch.Generator().manual_seed(6)
    matrices = _geometry(np.linspace(-80.0, 80.0, 9), x_tilt=-7.0).matrices
    slices = torch.randn((9, 24, 13), generator=generator, dtype=torch.complex128)
    grid = torch.fft.rfftn(torch.randn((24, 26, 20), generator=generator, dtype=torch.float64))
    inserted = insert_slices(slices, matrices, (24, 26, 20))
    fast = insert_slices(slices.to(torch.complex64), matrices, (24, 26, 20))
    assert float((fast - inserted).abs().max()) < 1e-5 * float(inserted.abs().max())
    read = extract_slices(grid, matrices, 24)
    assert float((extract_slices(grid.to(torch.complex64), matrices, 24) - read).abs().max()) < 1e-5 * float(
        read.abs().max()
    )
    shared = share_samples(matrices, 24, 2.0, torch.zeros(1))
    plain = share_samples(matrices, 24, 2.0, torch.zeros(1, dtype=torch.float64))
    values = torch.rand((9, 24, 13), generator=generator)
    torch.testing.assert_close(shared.sum(values).double(), plain.sum(values.double()), rtol=1e-4, atol=1e-4)


def test_overlaps_are_those_of_planes_at_an_angle():
    matrices = TiltGeometry.build([0.0, 0.0, 30.0]).matrices
    shared = share_samples(matrices, 32, 4.0, torch.zeros(1))
    x, y = shared.inside % 17, shared.inside // 17
    y = torch.where(y < 16, y, y - 32)
    # the plane at 30 degrees is x / 2 away, and an eighth of the field is the inverse of the object's edge
    expected = 2.0 + (1.0 - 0.5 * x / 4.0).clamp(min=0.0)
    torch.testing.assert_close(shared.overlap[0], expected, rtol=1e-5, atol=1e-5)
    # a function of the place in space alone is read in the others where it is: |k| with two or three planes' weight
    radius = torch.sqrt((x**2 + y**2).float())
    grid = torch.fft.fftfreq(32, 1 / 32)[:, None] ** 2 + torch.arange(17.0) ** 2
    got = shared.sum(torch.sqrt(grid).expand(3, 32, 17).contiguous())[0]
    foot = torch.sqrt((x * np.cos(np.pi / 6)) ** 2 + y**2)
    want = 2.0 * radius + (expected - 2.0) * foot
    torch.testing.assert_close(got, want.float(), rtol=0.0, atol=0.2)  # |k| is bent at zero


# boxes


@pytest.mark.parametrize(("x_tilt", "pixel"), [(0.0, 6.0), (7.0, 5.3), (-9.0, 8.0)])
def test_a_box_anywhere_holds_what_is_there(x_tilt, pixel):
    geometry = _geometry(ALL_ANGLES, x_tilt=x_tilt)
    box = _box(_images(geometry, pixel=pixel, shape=(240, 243)), geometry, pixel_size=pixel)
    truth = PHANTOM.volume((BOX,) * 3, VOXEL)
    gain, error = _gain_and_error(_band(box), _band(truth))
    assert gain == pytest.approx(1.0, abs=0.02)  # 0.9999 was measured
    assert error < 0.03  # 0.001 was measured
    for position in PHANTOM.positions_angstrom:
        corner = np.rint(position[::-1] / VOXEL + BOX // 2).astype(int) - 2
        place = tuple(slice(c, c + 5) for c in corner)
        # the same middle of mass of the same voxels, so that neighbouring blobs do not matter
        assert np.linalg.norm(_middle(box[place].numpy()) - _middle(truth[place].numpy())) < 0.1


def _middle(part):
    weight = np.clip(part - 0.5 * part.max(), 0.0, None)
    return np.array([(weight * axis).sum() for axis in np.mgrid[:5, :5, :5]]) / weight.sum()


def test_odd_boxes_have_their_centre_at_half_their_size():
    geometry = _geometry(ALL_ANGLES)
    box = _box(_images(geometry), geometry, box_size=45)
    gain, error = _gain_and_error(_band(box), _band(PHANTOM.volume((45,) * 3, VOXEL)))
    assert gain == pytest.approx(1.0, abs=0.02)
    assert error < 0.03


def test_a_wrong_hand_or_sign_is_seen():
    geometry = _geometry(WEDGE)
    images = _images(geometry)
    truth = _band(PHANTOM.volume((BOX,) * 3, VOXEL))
    right = _box(images, geometry)
    best = _correlation(_band(right), truth)
    assert best > 0.7  # the wedge is missing
    wrong = {
        "tilt": _box(images, geometry.replace(y_tilt_deg=-geometry.y_tilt_deg)),
        "axis": _box(images, geometry.replace(z_rot_deg=-geometry.z_rot_deg)),
        "shift": _box(images, geometry.replace(shifts_angstrom=-geometry.shifts_angstrom)),
        "rows": _box(images.flip(1), geometry),
        "transposed": _box(images.mT, geometry),
        "centre": _box(images, geometry, centre=CENTRE * [1, 1, -1]),
        "z": right.flip(0),
        "y": right.flip(1),
        "x": right.flip(2),
        "voxel": torch.roll(right, (1, 1, 1), (0, 1, 2)),
    }
    for name, volume in wrong.items():
        assert _correlation(_band(volume), truth) < 0.75 * best, name


@pytest.mark.parametrize("x_tilt", [0.0, 7.0])
def test_boxes_and_tiles_are_pieces_of_the_back_projection(x_tilt):
    geometry = _geometry(WEDGE, x_tilt=x_tilt)
    images = _images(geometry)
    shape = (90, 100, 111)
    keywords = {"pixel_size": PIXEL, "volume_shape": shape, "voxel_size": VOXEL}
    tomogram = reconstruct_volume(images, geometry, **keywords, params=ReconstructParams())
    whole = reconstruct_fourier(images, geometry, **keywords, tile_size=112)
    tiled = reconstruct_fourier(images, geometry, **keywords, tile_size=48)
    # 0.2% and 0.05% were measured, 0.4% with a tilt about x, where the back-projection reads linearly between rows
    assert float((whole - tomogram).norm() / tomogram.norm()) < 0.01
    assert float((tiled - whole).norm() / whole.norm()) < 0.002
    assert float((tiled - whole).abs().max() / whole.abs().max()) < 0.002
    corner = [20, 3, 58]
    at = (np.array(corner) + BOX // 2 - np.array(shape) // 2)[::-1] * VOXEL
    piece = tuple(slice(c, c + BOX) for c in corner)
    assert float((_box(images, geometry, centre=at) - whole[piece]).norm() / whole[piece].norm()) < 0.002


def test_tiles_partly_outside_the_field_are_those_of_the_whole():
    geometry = _geometry(WEDGE)
    images = _images(geometry, shape=(144, 135))  # smaller than the volume
    keywords = {"pixel_size": PIXEL, "volume_shape": (64, 112, 128), "voxel_size": VOXEL}
    whole = reconstruct_fourier(images, geometry, **keywords, tile_size=128)
    tiled = reconstruct_fourier(images, geometry, **keywords, tile_size=32)
    assert float((tiled - whole).norm() / whole.norm()) < 0.002  # 0.0007 was measured


# contrast transfer and dose


@pytest.mark.parametrize("hand", [-1.0, 1.0])
def test_the_ctf_at_the_height_of_the_box_is_undone(hand):
    rng = np.random.default_rng(4)
    pixel, optics = 3.0, Optics(voltage_kv=200.0, amplitude_contrast=0.1)
    # blobs of 4 to 6.5 A; a height of 1600 A turns chi by 1 radian at 13 A, the wrong hand by another
    phantom = asymmetric_phantom(65.0)
    centre = np.array([250.0, -190.0, 1760.0])
    geometry = _geometry(np.arange(-90.0, 90.0, 3.0))
    # the stage follows the object, so that it stays in the field at every tilt
    follow = geometry.shifts_angstrom - geometry.project(centre)[:, :2]
    geometry = geometry.replace(shifts_angstrom=follow + geometry.shifts_angstrom)
    images = phantom.transformed(np.eye(3), centre).project(geometry, (200, 200), pixel, dtype=torch.float64)
    fits = [
        CtfFit(defocus_u_angstrom=u, defocus_v_angstrom=u - 900.0, astigmatism_angle_deg=35.0, phase_shift_deg=12.0)
        for u in rng.normal(15000.0, 400.0, len(geometry))
    ]
    shape = tuple(images.shape[1:])
    for t, (fit, z) in enumerate(zip(fits, hand * geometry.project(centre)[:, 2], strict=True)):
        u, v = fit.defocus_u_angstrom + z, fit.defocus_v_angstrom + z
        transfer = ctf_2d(shape, pixel, u, v, 35.0, optics, 12.0, dtype=torch.float64)
        images[t] = torch.fft.irfft2(torch.fft.rfft2(images[t]) * transfer, s=shape)
    truth = _band(phantom.volume((BOX,) * 3, pixel))

    def corrected(**options):
        keywords = {"pixel_size": pixel, "voxel_size": pixel, "ctf": fits, "optics": optics, "hand": hand, **options}
        # the recorded contrast is kept: what was dense is dark
        return -_box(images.float(), geometry, centre=centre, **keywords)

    gain, error = _gain_and_error(_band(corrected(wiener=0.001)), truth)
    assert gain == pytest.approx(1.0, abs=0.02)  # 0.993 was measured
    assert error < 0.1  # 0.065; what is lost lies at zeros that neighbours share
    assert _correlation(_band(corrected()), truth) > 0.98
    assert _correlation(_band(corrected(ctf=None)), truth) < 0.8
    detail = (0.35, 0.6)
    fine = _band(phantom.volume((BOX,) * 3, pixel), *detail)
    right, wrong = (_correlation(_band(corrected(hand=sign), *detail), fine) for sign in (hand, -hand))
    assert right > 0.97
    assert wrong < 0.8


def test_what_radiation_took_is_weighted_and_given_back():
    geometry = _geometry(ALL_ANGLES)
    before, during = np.random.default_rng(2).uniform(0.0, 20.0, (2, len(geometry)))
    images = _images(geometry)
    frequency = frequency_grid(tuple(images.shape[1:]), PIXEL)
    faded = torch.stack(
        [
            torch.fft.irfft2(
                torch.fft.rfft2(image) * exposure_weights(frequency, b + 0.5 * d, voltage_kv=200.0), s=image.shape
            )
            for image, b, d in zip(images, before, during, strict=True)
        ]
    )
    truth = _band(PHANTOM.volume((BOX,) * 3, VOXEL))
    doses = {"pre_exposures": before, "doses": during, "optics": Optics(voltage_kv=200.0)}
    gain, error = _gain_and_error(_band(_box(faded, geometry, **doses, wiener=1e-3)), truth)
    assert gain == pytest.approx(1.0, abs=0.02)
    assert error < 0.03


def test_a_lone_view_is_divided_by_its_own_weight_and_noise():
    x = (np.arange(200) - 100) * PIXEL
    wave = torch.from_numpy(np.broadcast_to(np.cos(2 * np.pi * x / 40.0), (1, 180, 200)).copy()).float()
    geometry = TiltGeometry.build([0.0])
    plain = _box(wave, geometry, centre=[0.0, 0.0, 0.0])
    weight = float(exposure_weights(torch.tensor(1.0 / 40.0), 60.0, voltage_kv=200.0))
    doses = {"pre_exposures": [58.0], "doses": [4.0], "optics": Optics(voltage_kv=200.0)}
    for wiener in (0.1, 1.0):
        got = _box(wave, geometry, centre=[0.0, 0.0, 0.0], wiener=wiener, **doses)
        ratio = float((got * plain).sum() / plain.square().sum())
        assert ratio == pytest.approx(weight / (weight**2 + wiener), rel=0.01)


def test_views_that_do_not_hold_the_centre_are_left_out():
    geometry = _geometry(WEDGE)
    images = _images(geometry)
    far = np.array(
        [600.0, 0.0, 0.0]
    )  # 100 pixels along the tilt's direction: outside at low tilts, inside at high ones
    seen = np.abs(geometry.project(far)[:, 1]) < 110 * PIXEL
    assert 0 < seen.sum() <= len(WEDGE)
    assert bool(torch.isfinite(_box(images, geometry, centre=far)).all())
    assert not bool(_box(images, geometry, centre=[5000.0, 5000.0, 0.0]).any())


def test_bad_input_is_refused():
    geometry = TiltGeometry.build([-3.0, 0.0, 3.0])
    images = torch.zeros(3, 16, 16)
    with pytest.raises(ShapeError, match="centres"):
        reconstruct_boxes(images, geometry, [0.0, 0.0, 0.0], pixel_size=1.0, box_size=8, voxel_size=1.0)
    with pytest.raises(ShapeError, match="CTFs"):
        _box(images, geometry, ctf=[CtfFit(defocus_u_angstrom=1e4, defocus_v_angstrom=1e4)])
    with pytest.raises(ShapeError, match="pre-exposures"):
        _box(images, geometry, pre_exposures=[0.0])
    with pytest.raises(InputError, match="not finite"):
        _box(images, geometry, pre_exposures=[0.0, 1.0, float("inf")])
    with pytest.raises(InputError, match="Wiener"):
        _box(images, geometry, wiener=0.0)
    with pytest.raises(InputError, match="padding"):
        _box(images, geometry, padding=0.5)
    with pytest.raises(InputError, match="tiles"):
        reconstruct_fourier(images, geometry, pixel_size=1.0, volume_shape=(4, 4, 4), voxel_size=1.0, tile_size=2)
    with pytest.raises(BackendError, match="GiB"):
        reconstruct_fourier(images, geometry, pixel_size=1.0, volume_shape=(40000, 40000, 40000), voxel_size=1.0)
    with pytest.raises(ShapeError, match="even"):
        volume_to_grid(torch.zeros(4, 4, 4), (9, 8, 8))
    with pytest.raises(ShapeError, match="Slices"):
        insert_slices(torch.zeros(3, 8, 8, dtype=torch.complex64), geometry.matrices, (8, 8, 8))
    with pytest.raises(InputError, match="extent"):
        extract_slices(torch.zeros(8, 8, 5, dtype=torch.complex64), geometry.matrices, 8, extent_voxels=0.0)


def test_particles_of_another_simulator_are_where_they_should_be(shared_data):
    truth = json.loads((shared_data / "practice" / "TS_01_truth.json").read_text())
    matrices = np.array(truth["R"])
    axis = np.rad2deg(np.arctan2(-matrices[:, 0, 1], matrices[:, 1, 1]))
    # 2 x 2 means: the image centre is at 191.75 px of 8 A, a quarter of a pixel before n // 2
    geometry = TiltGeometry.build(
        truth["true_tilt"], z_rot_deg=axis, shifts_angstrom=np.array(truth["shifts"]) - 0.25 * 8.0
    )
    images = torch.from_numpy(np.load(shared_data / "practice" / "TS_01_clean.npz")["clean"].astype(np.float32))
    fits = [
        CtfFit(defocus_u_angstrom=u, defocus_v_angstrom=v, astigmatism_angle_deg=30.0)
        for u, v in zip(truth["du"], truth["dv"], strict=True)
    ]
    positions = np.array(truth["positions"])
    positions = positions[(np.abs(positions) < [1250.0, 1250.0, 500.0]).all(axis=1)]
    assert len(positions) > 40
    anywhere = np.random.default_rng(0).uniform(-1.0, 1.0, (40, 3)) * [1250.0, 1250.0, 450.0]

    def contrast(geometry, **options):
        """Median 80 A mean at particles, in standard deviations of those at random places, from their median."""
        boxes = reconstruct_boxes(
            images,
            geometry,
            np.concatenate([positions, anywhere]),
            pixel_size=8.0,
            box_size=16,
            voxel_size=16.0,
            **options,
        )
        mean = boxes[:, 6:11, 6:11, 6:11].mean(dim=(1, 2, 3)).numpy()
        others = mean[len(positions) :]
        return (np.median(mean[: len(positions)]) - np.median(others)) / others.std()

    optics = Optics(amplitude_contrast=0.08)
    assert contrast(geometry) < -5.0
    assert contrast(geometry, ctf=fits, optics=optics) < -5.0
    for wrong in (
        geometry.replace(y_tilt_deg=-geometry.y_tilt_deg),
        geometry.replace(shifts_angstrom=-geometry.shifts_angstrom),
    ):
        assert abs(contrast(wrong, ctf=fits, optics=optics)) < 1.5
