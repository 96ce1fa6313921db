"""Images that show the specimen unequally: what signal scales and B factors of tilts do to volumes."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from eucentric.errors import InputError, ShapeError
from eucentric.fourier import frequency_grid
from eucentric.geometry import TiltGeometry
from eucentric.models import CtfFit, Optics, Tilt
from eucentric.optics import TiltStrength, contrast_transfer, ctf_2d
from eucentric.picking import TomogramTransfer
from eucentric.reconstruction import ReconstructParams, reconstruct_boxes, reconstruct_volume
from eucentric.reconstruction.exposures import fade_lost_detail
from eucentric.reconstruction.solve_volume import SeriesOptics, volume_slabs
from eucentric.simulation import asymmetric_phantom

PIXEL, SHAPE, VOLUME = 8.0, (64, 60), (36, 48, 52)
TILTS = np.arange(-60.0, 61.0, 6.0)
GEOMETRY = TiltGeometry.build(TILTS, z_rot_deg=15.0, shifts_angstrom=[[9.0, -6.0]] * len(TILTS))
OPTICS = Optics()
FIT = CtfFit(defocus_u_angstrom=9000.0, defocus_v_angstrom=9000.0)
PHANTOM = asymmetric_phantom(120.0)
MEAN = 100.0
METHODS = (
    {"method": "wbp"},
    {"method": "wbp", "filter": "exact"},
    {"method": "wbp", "filter": "none"},
    {"method": "wbp", "ctf_correction": "flip"},
    {"method": "sirt-like"},
    {"method": "sirt"},
    {"method": "cgls"},
    {"method": "tv", "iterations": 20},
    {"method": "fourier"},
    {"method": "fourier", "ctf_correction": "wiener"},
    {"method": "ctf"},
)


def _tilts(scale, b_factor=None):
    b_factor = np.zeros(len(scale)) if b_factor is None else b_factor
    return [
        Tilt(
            nominal_tilt_deg=float(a),
            acquisition=i,
            dose=0.0,
            pre_exposure=0.0,
            signal_scale=float(s),
            b_factor_angstrom2=float(b),
        )
        for i, (a, s, b) in enumerate(zip(TILTS, scale, b_factor, strict=True))
    ]


@cache
def _contrast(with_ctf: bool) -> torch.Tensor:
    """(tilt, y, x) of a dark specimen, of one unit of deviation."""
    images = PHANTOM.project(GEOMETRY, SHAPE, PIXEL)
    if with_ctf:
        ctf = ctf_2d(SHAPE, PIXEL, FIT.defocus_u_angstrom, FIT.defocus_v_angstrom, 0.0, OPTICS).float()
        images = torch.fft.irfft2(torch.fft.rfft2(images) * ctf, s=SHAPE)
    else:
        images = -images
    return images / images.std()


def _images(scale, noise=0.0, with_ctf=False):
    generator = torch.Generator().manual_seed(0)
    strength = torch.from_numpy(np.asarray(scale)).float()[:, None, None]
    white = torch.randn(len(TILTS), *SHAPE, generator=generator)
    return MEAN + strength * _contrast(with_ctf) + noise * white


def _volume(images, settings, signal):
    optics = SeriesOptics(
        optics=OPTICS,
        fits=(FIT,) * len(TILTS),
        hand=-1.0,
        pre_exposures=np.zeros(len(TILTS)),
        doses=np.zeros(len(TILTS)),
    )
    slabs = volume_slabs(
        images,
        GEOMETRY,
        pixel_size=PIXEL,
        volume_shape=VOLUME,
        voxel_size=PIXEL,
        params=ReconstructParams(**{"ctf_correction": "none", "ctf_by_height": False, **settings}),
        optics=optics,
        signal=signal,
    )
    return torch.cat([s.density for s in slabs])


def _name(settings):
    return " ".join(str(v) for v in settings.values())


def _uses_ctf(settings):
    return settings["method"] == "ctf" or settings.get("ctf_correction", "none") != "none"


@pytest.mark.parametrize("settings", METHODS, ids=_name)
def test_an_image_that_shows_nothing_adds_nothing(settings):
    scale = np.linspace(0.8, 1.2, len(TILTS))
    scale[[4, 13]] = 0.0
    signal = TiltStrength.of(_tilts(scale))
    with_ctf = _uses_ctf(settings)
    images = _images(scale, 0.3, with_ctf)
    other = images.clone()
    for t in (4, 13):  # the same mean, else another scene
        other[t] = 2.0 * MEAN - images[t].flip(0) + 5.0 * (images[t + 1] - images[t + 1].mean())
    one, two = (_volume(i, settings, signal) for i in (images, other))
    torch.testing.assert_close(one, two, rtol=0.0, atol=1e-5 * float(one.std()))
    assert float((_volume(other, settings, None) - _volume(images, settings, None)).std()) > 0.05 * float(one.std())


@pytest.mark.parametrize("settings", METHODS, ids=_name)
def test_images_that_show_more_count_more(settings):
    """Against even noise, weights s find sum(s^2) / sqrt(sum(s^2)) of the signal and equal ones sum(s) / sqrt(n): 1.3 times less."""
    scale = np.where(np.arange(len(TILTS)) % 2, 0.1, np.sqrt(2.0))
    truth = -PHANTOM.volume(VOLUME, PIXEL).numpy().ravel()
    images = _images(scale, 3.0, _uses_ctf(settings))
    weighed, alike = (
        np.corrcoef(_volume(images, settings, signal).numpy().ravel(), truth)[0, 1]
        for signal in (TiltStrength.of(_tilts(scale)), None)
    )
    # the mean of all rays is smooth, and the method ctf leaves out what has drowned, so that they have less to gain
    least = 1.05 if settings["method"] == "ctf" or settings.get("filter") == "none" else 1.15
    assert weighed > least * alike


@pytest.mark.parametrize("settings", METHODS, ids=_name)
def test_the_density_keeps_its_amplitude(settings):
    scale = np.where(np.arange(len(TILTS)) % 2, 0.6, 1.28)
    even = _volume(_images(np.ones(len(TILTS)), 0.0, _uses_ctf(settings)), settings, None)
    got = _volume(_images(scale, 0.0, _uses_ctf(settings)), settings, TiltStrength.of(_tilts(scale)))
    even, got = even - even.mean(), got - got.mean()
    slope = float((even * got).sum() / even.square().sum())
    # images are alike but for their strength; what damps noise damps the weaker ones more
    assert slope == pytest.approx(np.sqrt(np.mean(scale**2)), rel=0.08)


def test_scales_and_b_factors_are_those_of_the_contrast_transfer():
    tilts = _tilts(np.linspace(0.5, 1.5, len(TILTS)), np.linspace(-40.0, 60.0, len(TILTS)))
    signal = TiltStrength.of(tilts)
    frequency = frequency_grid((24, 30), 3.0).float()
    rms = np.sqrt(np.mean([t.signal_scale**2 for t in tilts]))
    assert len(signal) == len(TILTS)
    for t in (0, 7, 20):
        transfer = contrast_transfer(
            (24, 30),
            3.0,
            FIT,
            OPTICS,
            b_factor_angstrom2=tilts[t].b_factor_angstrom2 + 40.0,  # of the sharpest image
            signal_scale=tilts[t].signal_scale / rms,
        )
        torch.testing.assert_close(signal.envelope(frequency, t), transfer.envelope, rtol=1e-5, atol=1e-7)
    plain = contrast_transfer((24, 30), 3.0, FIT, OPTICS, signal_scale=0.5)
    torch.testing.assert_close(plain.at(), 0.5 * contrast_transfer((24, 30), 3.0, FIT, OPTICS).at())


def test_only_what_differs_between_images_counts():
    count = len(TILTS)
    assert TiltStrength.of(_tilts(np.full(count, 0.5), np.full(count, 80.0))) is None
    scale, b_factor = np.ones(count), np.full(count, 30.0)
    scale[3], b_factor[3], b_factor[5] = 0.0, -500.0, 90.0
    signal = TiltStrength.of(_tilts(scale, b_factor))
    # an image that shows nothing is not the sharpest one
    assert signal.b_factor_angstrom2[[3, 4, 5]].tolist() == [0.0, 0.0, 60.0]
    assert np.mean(signal.scale**2) == pytest.approx(1.0)
    assert signal[3:6].scale.tolist() == signal.scale[3:6].tolist()
    with pytest.raises(InputError, match="rlnCtfScalefactor"):
        TiltStrength.of(_tilts(np.zeros(count)))


def test_a_blurred_image_adds_less_of_its_fine_detail():
    """Only one of three images shows anything, so that the volume's transform along the axis is that of the image."""
    images = torch.full((3, 48, 48), MEAN)
    images[1] += torch.randn(48, 48, generator=torch.Generator().manual_seed(2))
    b_factor = 900.0
    tilts = [replace(t, b_factor_angstrom2=b_factor * (i == 1)) for i, t in enumerate(_tilts(np.ones(len(TILTS)))[:3])]
    blurred = TiltStrength.of(tilts)
    lines = [
        reconstruct_volume(
            images,
            TiltGeometry.build([-20.0, 0.0, 20.0]),
            pixel_size=PIXEL,
            volume_shape=(8, 48, 48),
            voxel_size=PIXEL,
            params=ReconstructParams(filter="none"),
            signal=signal,
        ).sum((0, 2))
        for signal in (blurred, None)
    ]
    k = torch.fft.rfftfreq(48, PIXEL)
    left = torch.exp(-0.25 * b_factor * k**2)
    seen, whole = (torch.fft.rfft(line).abs() for line in lines)
    torch.testing.assert_close((seen / whole)[2:20], left[2:20], rtol=0.05, atol=0.01)
    faded = fade_lost_detail(images, PIXEL, exposures=None, signal=blurred)
    torch.testing.assert_close(
        torch.fft.rfft(faded[1].sum(1)), torch.fft.rfft(images[1].sum(1)) * left, rtol=1e-4, atol=1e-2
    )
    torch.testing.assert_close(faded[0], images[0])
    assert fade_lost_detail(images, PIXEL, exposures=None) is images


def test_boxes_go_without_images_that_show_nothing():
    scale = np.ones(len(TILTS))
    scale[6] = 0.0
    images = _images(scale, 0.2)
    other = images.clone()
    other[6] = MEAN + 10.0 * (images[7] - MEAN)
    sizes = {"pixel_size": PIXEL, "box_size": 24, "voxel_size": PIXEL}
    signal = TiltStrength.of(_tilts(scale))
    one, two = (reconstruct_boxes(i, GEOMETRY, np.zeros((1, 3)), signal=signal, **sizes) for i in (images, other))
    torch.testing.assert_close(one, two, rtol=0.0, atol=1e-6 * float(one.std()))
    with pytest.raises(ShapeError, match="expected one each"):
        reconstruct_boxes(images[:5], GEOMETRY[:5], np.zeros((1, 3)), signal=signal, **sizes)
    with pytest.raises(ShapeError, match="expected one each"):
        _volume(images, {"method": "wbp"}, signal[:5])


def test_templates_are_weighted_as_the_tomogram_is():
    """On the plane of an image that shows nothing a template has nothing; on the others' it is as strong as they are."""
    scale = np.ones(len(TILTS))
    scale[10], scale[14] = 0.0, 2.0
    known = {
        "doses": np.ones(len(TILTS)),
        "pre_exposures": np.zeros(len(TILTS)),
        "fits": [FIT] * len(TILTS),
        "optics": OPTICS,
        "hand": -1.0,
        "correction": "flip",
        "dose_weighting": True,
    }
    geometry = TiltGeometry.build(TILTS)
    signal = TiltStrength.of(_tilts(scale))
    plain, weighed = (TomogramTransfer.of_series(geometry, **known, signal=s).gain(64, PIXEL) for s in (None, signal))
    # far out along x in the plane of a tilt, where planes of others are more than their thickness away
    for t, expected in ((10, 0.0), (14, signal.scale[14] ** 2), (16, signal.scale[16] ** 2)):
        angle = np.deg2rad(TILTS[t])
        x, z = round(25 * np.cos(angle)), round(25 * np.sin(angle)) % 64
        assert float(weighed[z, 0, x] / plain[z, 0, x]) == pytest.approx(expected, rel=1e-4, abs=1e-6)
