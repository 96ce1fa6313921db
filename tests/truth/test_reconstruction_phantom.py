"""Reconstruction of projections that were written down, not computed: places, hand, amplitude."""

import numpy as np
import pytest
import torch

from eucentric.errors import InputError, ShapeError
from eucentric.fourier import exposure_weights
from eucentric.geometry import TiltGeometry
from eucentric.reconstruction import ReconstructParams, choose_grid, reconstruct_slabs, reconstruct_volume
from eucentric.simulation import Phantom, asymmetric_phantom

PIXEL, VOXEL = 6.0, 8.0
PHANTOM = asymmetric_phantom(330.0)
PLAIN = ReconstructParams()


def _geometry(tilts, *, x_tilt=0.0, axis=84.3):
    shifts = np.random.default_rng(1).normal(0.0, 25.0, (len(tilts), 2))
    return TiltGeometry.build(tilts, z_rot_deg=axis, x_tilt_deg=x_tilt, shifts_angstrom=shifts)


def _reconstruct(geometry, images, shape, **options):
    return reconstruct_volume(
        images, geometry, pixel_size=PIXEL, volume_shape=shape, voxel_size=VOXEL, params=PLAIN, **options
    )


def _distances(volume, phantom=PHANTOM):
    """Distance in voxels from each blob to the brightness-weighted middle of the peak found there."""
    centre = np.array(volume.shape) // 2
    out = []
    for position in phantom.positions_angstrom:
        at = position[::-1] / VOXEL + centre
        corner = np.rint(at).astype(int) - 3
        box = volume[tuple(slice(c, c + 7) for c in corner)].numpy()
        weight = np.clip(box - 0.5 * box.max(), 0.0, None)
        middle = np.array([(weight * axis).sum() for axis in np.mgrid[:7, :7, :7]]) / weight.sum()
        out.append(np.linalg.norm(middle + corner - at))
    return np.array(out)


def _match(volume):
    """Correlation with the truth."""
    truth = PHANTOM.volume(tuple(volume.shape), VOXEL)
    return float(np.corrcoef(volume.numpy().ravel(), truth.numpy().ravel())[0, 1])


@pytest.mark.parametrize("x_tilt", [0.0, 6.0, -9.0])
@pytest.mark.parametrize("shape", [(100, 110, 112), (99, 113, 109)])
def test_blobs_are_found_where_they_are(x_tilt, shape):
    geometry = _geometry(np.arange(-90.0, 90.0, 3.0), x_tilt=x_tilt)
    volume = _reconstruct(geometry, PHANTOM.project(geometry, (170, 181), PIXEL), shape)
    assert _distances(volume).max() < 0.1
    assert _match(volume) > 0.99


@pytest.mark.parametrize("axis", [84.3, -85.0])
def test_blobs_are_found_within_a_third_of_a_voxel_with_the_wedge_missing(axis):
    geometry = _geometry(np.arange(-60.0, 61.0, 3.0), axis=axis)
    # apart from each other, so that the streaks of one do not move the peak of another
    lonely = Phantom(
        positions_angstrom=np.array(
            [[100.0, -220.0, 60.0], [-310.0, 90.0, -130.0], [30.0, 330.0, 150.0], [240.0, 60.0, -210.0]]
        ),
        weights=np.array([-1.0, -0.7, -0.5, -0.8]),
        sigmas_angstrom=np.array([24.0, 28.0, 20.0, 22.0]),
    )
    volume = _reconstruct(geometry, lonely.project(geometry, (180, 180), PIXEL), (100, 112, 112))
    assert _distances(-volume, lonely).max() < 0.3


def test_a_wrong_hand_or_sign_is_seen():
    geometry = _geometry(np.arange(-60.0, 61.0, 3.0))
    images = PHANTOM.project(geometry, (180, 180), PIXEL)
    right = _reconstruct(geometry, images, (100, 112, 112))
    wrong = {
        "tilt": _reconstruct(geometry.replace(y_tilt_deg=-geometry.y_tilt_deg), images, (100, 112, 112)),
        "axis": _reconstruct(geometry.replace(z_rot_deg=-geometry.z_rot_deg), images, (100, 112, 112)),
        "shift": _reconstruct(geometry.replace(shifts_angstrom=-geometry.shifts_angstrom), images, (100, 112, 112)),
        "rows": _reconstruct(geometry, images.flip(1), (100, 112, 112)),
        "z": right.flip(0),
        "y": right.flip(1),
        "x": right.flip(2),
    }
    best = _match(right)
    for name, volume in wrong.items():
        assert _match(volume) < 0.75 * best, name


def test_the_amplitude_is_the_density_per_angstrom():
    geometry = _geometry(np.arange(-90.0, 90.0, 2.0))
    volume = _reconstruct(geometry, PHANTOM.project(geometry, (180, 180), PIXEL), (100, 112, 112))
    truth = PHANTOM.volume((100, 112, 112), VOXEL)
    gain = float((volume * truth).sum() / (truth**2).sum())
    assert gain == pytest.approx(1.0, abs=0.01)
    # 90 views sample an object 660 A wide to 1/23 A only; the finest blobs reach farther
    assert float((volume - truth).norm() / truth.norm()) < 0.08


def test_the_sampled_part_of_fourier_space_keeps_its_amplitude_with_a_wedge_missing():
    geometry = _geometry(np.arange(-60.0, 61.0, 2.0))
    shape = (128, 112, 128)
    got = torch.fft.rfftn(_reconstruct(geometry, PHANTOM.project(geometry, (200, 200), PIXEL), shape))
    truth = torch.fft.rfftn(PHANTOM.volume(shape, VOXEL))
    kz, ky, kx = np.meshgrid(np.fft.fftfreq(128), np.fft.fftfreq(112), np.fft.rfftfreq(128), indexing="ij")
    inside = torch.from_numpy(
        (np.abs(kz) < np.tan(np.deg2rad(55.0)) * kx) & (kx > 0.02) & (np.sqrt(kx**2 + ky**2 + kz**2) < 0.1)
    )
    gain = float((got * truth.conj()).real[inside].sum() / truth.abs()[inside].square().sum())
    assert gain == pytest.approx(1.0, abs=0.02)


def test_slabs_are_the_volume():
    geometry = _geometry(np.arange(-60.0, 61.0, 10.0))
    images = PHANTOM.project(geometry, (80, 90), PIXEL)
    whole = _reconstruct(geometry, images, (40, 50, 60))
    keywords = {"pixel_size": PIXEL, "volume_shape": (40, 50, 60), "voxel_size": VOXEL, "params": PLAIN}
    for planes in (None, 7):
        slabs = list(reconstruct_slabs(images, geometry, **keywords, planes=planes))
        assert [s.start for s in slabs] == ([0] if planes is None else list(range(0, 40, 7)))
        assert slabs[-1].stop == 40
        joined = torch.cat([s.density for s in slabs])
        torch.testing.assert_close(joined, whole, rtol=0, atol=1e-6 * float(whole.abs().max()))


def test_dose_weights_are_those_of_the_middle_of_each_exposure():
    # one view of a wave: what is left of it is the weight at its frequency
    frequency = 1.0 / 40.0
    x = (np.arange(200) - 100) * PIXEL
    wave = torch.from_numpy(np.broadcast_to(np.cos(2 * np.pi * frequency * x), (1, 60, 200)).copy()).float()
    geometry = TiltGeometry.build([0.0])
    keywords = {"pre_exposures": [58.0], "doses": [4.0], "voltage_kv": 200.0}
    plain = _reconstruct(geometry, wave, (4, 30, 100))[:, 10:20, 30:70]
    faded = _reconstruct(geometry, wave, (4, 30, 100), **keywords)[:, 10:20, 30:70]
    expected = float(exposure_weights(torch.tensor(frequency), 60.0, voltage_kv=200.0))
    assert float((faded * plain).sum() / (plain**2).sum()) == pytest.approx(expected, rel=0.01)
    off = reconstruct_volume(
        wave,
        geometry,
        pixel_size=PIXEL,
        volume_shape=(4, 30, 100),
        voxel_size=VOXEL,
        params=PLAIN.replace(dose_weighting=False),
        **keywords,
    )[:, 10:20, 30:70]
    assert torch.equal(off, plain)


@pytest.mark.parametrize("changes", [{"low_pass_angstrom": 60.0}, {"fall_off": "hann"}])
def test_filters_remove_fine_detail(changes):
    x = (np.arange(200) - 100) * PIXEL
    wave = torch.from_numpy(np.broadcast_to(np.cos(2 * np.pi * x / 30.0), (1, 60, 200)).copy()).float()
    keywords = {"pixel_size": PIXEL, "volume_shape": (4, 30, 100), "voxel_size": VOXEL}
    plain = reconstruct_volume(wave, TiltGeometry.build([0.0]), **keywords, params=PLAIN)
    soft = reconstruct_volume(wave, TiltGeometry.build([0.0]), **keywords, params=PLAIN.replace(**changes))
    # hann at 16 / 30 of Nyquist is 0.45; a wave of 30 A lies beyond 60 A
    expected = {"fall_off": 0.5 + 0.5 * np.cos(np.pi * 16.0 / 30.0), "low_pass_angstrom": 0.0}[next(iter(changes))]
    inner = (slice(None), slice(10, 20), slice(30, 70))
    assert float(soft[inner].norm() / plain[inner].norm()) == pytest.approx(expected, abs=0.02)


def test_edges_of_the_field_leave_no_streaks():
    # a bright, uneven field: corners that high tilts do not cover must stay as quiet as the middle
    geometry = TiltGeometry.build(np.arange(-60.0, 61.0, 3.0), z_rot_deg=84.3)
    noise = torch.randn((41, 128, 128), generator=torch.Generator().manual_seed(2))
    volume = _reconstruct(geometry, 100.0 + noise, (48, 96, 96))
    spread = volume[16:32, 32:64, 32:64].std()
    assert float(volume.abs().max()) < 6.5 * float(spread)


def test_bad_input_is_refused():
    geometry = TiltGeometry.build([-3.0, 0.0, 3.0])
    images = torch.zeros(3, 16, 16)
    shape = (4, 8, 8)
    images[2, 0, 0] = float("nan")
    with pytest.raises(InputError, match=r"tilt 2 \(3.0 degrees\)"):
        _reconstruct(geometry, images, shape)
    with pytest.raises(ShapeError, match="3 tilts"):
        _reconstruct(geometry, torch.zeros(3, 16, 16), shape, pre_exposures=[0.0, 1.0])
    with pytest.raises(InputError, match="not finite"):
        _reconstruct(geometry, torch.zeros(3, 16, 16), shape, pre_exposures=[0.0, 1.0, float("nan")])
    with pytest.raises(InputError, match="voxel size"):
        reconstruct_volume(
            torch.zeros(3, 16, 16), geometry, pixel_size=1.0, volume_shape=shape, voxel_size=0.0, params=PLAIN
        )
    with pytest.raises(InputError, match="planes"):
        next(
            reconstruct_slabs(
                torch.zeros(3, 16, 16),
                geometry,
                pixel_size=1.0,
                volume_shape=shape,
                voxel_size=1.0,
                params=PLAIN,
                planes=0,
            )
        )


def test_the_grid_follows_the_settings():
    grid = choose_grid(PLAIN, image_shape=(4092, 5760), pixel_size=1.35)
    assert grid.voxel_size_angstrom == pytest.approx(7 * 1.35)
    assert grid.shape_zyx == (318, 584, 822)  # 3000 A and the field, even sizes
    assert choose_grid(PLAIN, image_shape=(64, 64), pixel_size=180.0, thickness_angstrom=11520.0).shape_zyx == (
        64,
        64,
        64,
    )
    chosen = PLAIN.replace(pixel_size_angstrom=16.0, thickness_angstrom=1600.0)
    assert choose_grid(chosen, image_shape=(768, 768), pixel_size=4.0, thickness_angstrom=900.0).shape_zyx == (
        100,
        192,
        192,
    )
    with pytest.raises(InputError, match="pixel size"):
        choose_grid(PLAIN, image_shape=(64, 64), pixel_size=0.0)


def test_the_grid_lies_as_the_tilt_axis_does_and_is_wide_on_demand():
    tilts = np.arange(-60.0, 61.0, 3.0)
    wide = PLAIN.replace(extent="wide", pixel_size_angstrom=10.0)
    camera = {"image_shape": (4000, 6000), "pixel_size": 1.0, "tilts_deg": tilts}
    assert choose_grid(wide.replace(extent="field"), axis_deg=85.0, **camera).shape_zyx[1:] == (600, 400)
    # half of the tilts reach 30 degrees: across the axis, along x, they see 1 / cos(30 degrees) of the field
    assert choose_grid(wide, axis_deg=85.0, **camera).shape_zyx[1:] == (600, 462)
    assert choose_grid(wide, axis_deg=-3.0, **camera).shape_zyx[1:] == (400, 694)
    assert PLAIN.replace(purpose="picking").resolved(has_ctf=True, has_halves=True).extent == "wide"
    assert PLAIN.replace(purpose="view").resolved(has_ctf=True, has_halves=True).extent == "field"
