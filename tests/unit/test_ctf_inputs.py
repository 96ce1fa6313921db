"""CTF estimation: wrong input, failed tilts, and the small parts."""

import itertools
import re

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.stats import chi2

from eucentric.ctf import CtfParams, HandTest, estimate_image_ctf, estimate_series_ctf, plane_heights
from eucentric.ctf.acquisition_order import AcquisitionOrder
from eucentric.ctf.describe_fit import hand_caveats
from eucentric.ctf.noise_chance import noise_chance
from eucentric.ctf.prepare_images import crop_to_scale, replace_outliers, working_scale
from eucentric.ctf.specimen_plane import plane_normal, plane_slopes
from eucentric.ctf.tile_spectra import SECTORS, SpectrumBins, tile_starts, without_ice
from eucentric.ctf.votes import agreement_sigmas
from eucentric.errors import InputError, ProcessingError, ShapeError
from eucentric.fourier import frequency_grid
from eucentric.geometry import TiltGeometry
from eucentric.models import Optics
from eucentric.optics import ctf_2d

TILTS = np.array([-20.0, 0.0, 20.0])


def series(count=3, shape=(320, 300), seed=0):
    """Untilted rings in every image: enough to be fitted."""
    generator = torch.Generator().manual_seed(seed)
    ctf = ctf_2d(shape, 4.0, 30000.0, 30000.0, 0.0, Optics())
    ctf = ctf * torch.exp(-25.0 * frequency_grid(shape, 4.0) ** 2)
    noise = torch.randn(2, count, *shape, generator=generator)
    return 50.0 + torch.fft.irfft2(torch.fft.rfft2(noise[0]) * ctf, s=shape) + noise[1]


def estimate(images, tilts=TILTS, **changes):
    arguments = {"pixel_size": 4.0, "optics": Optics(), **changes}
    return estimate_series_ctf(images, TiltGeometry.build(tilts, z_rot_deg=84.0), **arguments)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_name_the_tilt(value):
    images = series()
    images[1, 5, 7] = value
    with pytest.raises(InputError, match="tilt 2"):
        estimate(images)
    with pytest.raises(InputError, match="not finite"):
        estimate_image_ctf(images[1], pixel_size=4.0, optics=Optics())


@pytest.mark.parametrize("shape", [(3, 60, 300), (3, 300, 60)])
def test_small_images_are_refused(shape):
    with pytest.raises(ShapeError, match="at least 64 pixels"):
        estimate(torch.rand(shape))


def test_lengths_must_agree():
    with pytest.raises(ShapeError, match="as many tilts"):
        estimate(series(4))
    with pytest.raises(ShapeError, match="as many tilts"):
        estimate(series()[0])
    with pytest.raises(ShapeError, match="nominal defocus"):
        estimate(series(), nominal_defocus_angstrom=np.array([30000.0]))
    with pytest.raises(ShapeError, match="square tiles"):
        estimate_image_ctf(series(), pixel_size=4.0, optics=Optics())


@pytest.mark.parametrize("changes", [{"hand": 0.0}, {"pixel_size": 0.0}, {"pixel_size": float("nan")}])
def test_numbers_out_of_range(changes):
    with pytest.raises(InputError):
        estimate(series(), **changes)


def test_band_too_narrow():
    with pytest.raises(ShapeError, match="band"):
        estimate(series(), pixel_size=12.0)


def test_settings_are_checked():
    with pytest.raises(ValidationError):
        CtfParams(minimum_defocus_angstrom=50000.0, maximum_defocus_angstrom=40000.0)
    with pytest.raises(ValidationError):
        CtfParams(low_resolution_angstrom=5.0, high_resolution_angstrom=10.0)


@pytest.mark.parametrize(
    "bad", ["zero", pytest.param("constant", marks=pytest.mark.slow), pytest.param("noise", marks=pytest.mark.slow)]
)
def test_a_tilt_without_rings_is_recorded_and_the_others_go_on(bad):
    images = series(5)
    generator = torch.Generator().manual_seed(7)
    images[2] = {"zero": 0.0, "constant": 3.5, "noise": torch.randn(320, 300, generator=generator) + 0.5}[bad]
    got = estimate(images, tilts=np.array([-2.0, -1.0, 0.0, 1.0, 2.0]))
    assert got.failed == (2,)
    assert np.isnan(got.fits[2].score)
    assert got.fits[2].defocus_angstrom == pytest.approx(30000.0, abs=300.0)
    assert got.fits[2].defocus_sigma_angstrom >= 300.0
    assert "image 3" in " ".join(got.caveats)
    others = [f for t, f in enumerate(got.fits) if t != 2]
    assert all(abs(f.defocus_angstrom - 30000.0) < 4 * f.defocus_sigma_angstrom for f in others)
    assert np.isfinite(got.curves.spectrum).all()


def noise_images(count, side, pixel_size, seed, fade=0.0):
    """White noise, most of it faded towards fine detail as the scattering of ice is."""
    generator = torch.Generator().manual_seed(seed)
    plain = torch.randn(count, side, side, generator=generator)
    if not fade:
        return 100.0 + plain
    filters = torch.exp(-fade * frequency_grid((side, side), pixel_size) ** 2)
    shaped = torch.fft.irfft2(torch.fft.rfft2(torch.randn(count, side, side, generator=generator)) * filters)
    return 100.0 + shaped + 0.3 * plain


@pytest.mark.parametrize(
    ("count", "side", "pixel_size", "fade", "seed"),
    [
        pytest.param(13, 320, 2.0, 0.0, 1, marks=pytest.mark.slow),
        pytest.param(9, 320, 2.0, 60.0, 2, marks=pytest.mark.slow),
        pytest.param(9, 320, 4.0, 0.0, 3, marks=pytest.mark.slow),
        (3, 256, 3.0, 0.0, 1),
        (1, 256, 3.0, 0.0, 0),
    ],
)
def test_a_series_of_noise_is_refused(count, side, pixel_size, fade, seed):
    tilts = np.linspace(-45, 45, count) if count > 1 else [0.0]
    with pytest.raises(ProcessingError, match="No tilt shows Thon rings"):
        estimate(noise_images(count, side, pixel_size, seed, fade), tilts=tilts, pixel_size=pixel_size)


def test_images_of_noise_are_refused():
    """Of 20 images of noise, one in five hundred sets of them may pass."""
    for seed in range(20):
        image = noise_images(1, 256, 2.0, seed)[0]
        with pytest.raises(ProcessingError, match="shows no Thon rings"):
            estimate_image_ctf(image, pixel_size=2.0, optics=Optics())


@pytest.mark.slow
@pytest.mark.parametrize("fade", [0.0, 20.0])
@pytest.mark.parametrize("phase_shift", ["off", "fit"])
def test_large_images_of_noise_are_refused(fade, phase_shift):
    for seed in range(20):
        image = noise_images(1, 1024, 1.0, seed, fade)[0]
        with pytest.raises(ProcessingError, match="shows no Thon rings"):
            estimate_image_ctf(image, pixel_size=1.0, optics=Optics(), params=CtfParams(phase_shift=phase_shift))


def test_the_chance_of_noise_counts_what_was_tried():
    bins = SpectrumBins.build(256, 2.0, 1 / 40, 1 / 5, torch.device("cpu"))
    usual = CtfParams()

    def chance(evidence, **changes):
        return noise_chance(np.array(evidence), bins, Optics(), usual.replace(**changes))

    # 40 to 5 A resolve 2 x 0.0197 x (1/25 - 1/1600) x 75000 = 116 values of defocus, and 3.3 x 3.3 of astigmatism; the
    # evidence of one has 1 + 3.5 degrees of freedom
    found = 116.4 * 3.29**2 * chi2.sf(36.0, 4.5)
    assert chance([6.0]) == pytest.approx(found, rel=0.03)
    assert chance([6.0], minimum_defocus_angstrom=42500.0) == pytest.approx(found / 2, rel=0.03)
    assert chance([6.0], phase_shift="fit") > 4 * found
    assert chance([2.0]) == 1.0
    # the best of many images is no wonder; many that agree are
    assert chance([6.0] + [0.0] * 40) > 5 * found
    assert chance([4.0] * 10) < 1e-6 < chance([4.0] * 2)
    assert chance([6.0] * 5 + [0.0] * 20) < 1e-15


def test_far_nominal_defocus_is_a_caveat_and_no_more():
    plain = estimate(series())
    told = estimate(series(), nominal_defocus_angstrom=np.array([np.nan, 55000.0, 55000.0]))
    assert [f.defocus_angstrom for f in plain.fits] == pytest.approx([f.defocus_angstrom for f in told.fits], abs=1e-6)
    assert any("nominal" in caveat for caveat in told.caveats)
    assert not any("nominal" in caveat for caveat in plain.caveats)


def test_range_of_defocus_is_kept_and_reaching_its_end_is_said():
    params = CtfParams(minimum_defocus_angstrom=29900.0, maximum_defocus_angstrom=60000.0)
    got = estimate(series(), params=params)
    assert min(f.defocus_angstrom for f in got.fits) >= 29900.0
    assert any("end of the searched range" in caveat and "--minimum-def" in caveat for caveat in got.caveats)


@pytest.mark.parametrize(("low", "high", "option"), [(45000, 60000, "minimum"), (5000, 28000, "maximum")])
def test_rings_outside_the_range_are_named(low, high, option):
    """Whether the range holds something that can pass for rings or not."""
    params = CtfParams(minimum_defocus_angstrom=low, maximum_defocus_angstrom=high)
    words = (
        rf"defocus of (29|30)\d\d\d A, outside the searched range \({low} to {high} A\).*--{option}-defocus-angstrom"
    )
    with pytest.raises(ProcessingError, match=words):
        estimate_image_ctf(series()[0], pixel_size=4.0, optics=Optics(), params=params)
    try:
        said = " ".join(estimate(series(), params=params).caveats)
    except ProcessingError as error:
        said = str(error)
    assert re.search(words, said)


def test_plane_heights_put_the_plane_at_z_zero():
    geometry = TiltGeometry.build(
        [-50.0, 0.0, 35.0],
        z_rot_deg=[84.0, 10.0, -6.0],
        x_tilt_deg=[0.0, 4.0, -3.0],
        shifts_angstrom=[[5.0, 80.0], [0, 0], [-200.0, 30.0]],
    )
    for angles, height in (((0.0, 0.0), 0.0), ((7.0, -4.0), 0.0), ((7.0, -4.0), 250.0)):
        normal = plane_normal(*angles)
        along = np.cross(normal, [0.3, 1.0, 0.2])
        points = np.array([along, np.cross(normal, along), 0 * along]) * 500.0 + [0.0, 0.0, height]
        camera = geometry.project(points)
        for t in range(3):
            found = plane_heights(camera[t, :, :2], geometry, normal, height)[t]
            np.testing.assert_allclose(found, camera[t, :, 2], atol=1e-9)
    assert np.isnan(plane_slopes(TiltGeometry.build(90.0))).all()


def test_outliers_go_and_nothing_else():
    clean = torch.randn(97, 130, generator=torch.Generator().manual_seed(3)) + torch.linspace(0, 20, 130)
    hot = clean.clone()
    for y, x, value in ((0, 0, 500.0), (50, 60, 90.0), (51, 60, 200.0), (96, 129, -400.0)):
        hot[y, x] = value
    got = replace_outliers(hot, 6.0)
    changed = torch.nonzero(got != hot).tolist()
    assert changed == [[0, 0], [50, 60], [51, 60], [96, 129]]
    assert (got - clean).abs().max() < 6.0
    assert torch.equal(replace_outliers(torch.zeros(20, 20), 6.0), torch.zeros(20, 20))


@pytest.mark.parametrize(("pixel_size", "high"), [(1.35, 5.0), (0.83, 4.0), (4.0, 5.0), (2.1, 5.0)])
def test_cropping_keeps_one_pixel_size_and_the_centre(pixel_size, high):
    keep, spacing = working_scale(pixel_size, high)
    assert pixel_size <= spacing
    assert spacing == pixel_size or spacing <= high / 2.3 < pixel_size * 32 / (keep - 1)
    y, x = np.mgrid[:333, :290]
    image = torch.from_numpy(np.exp(-((x - 145.0) ** 2 + (y - 166.0) ** 2) / 2 / 30.0**2))
    small = crop_to_scale(image, keep)
    peak = np.unravel_index(int(small.argmax()), small.shape)
    assert peak == (small.shape[0] // 2, small.shape[1] // 2)
    sigma = 30.0 * pixel_size / spacing
    assert float(small[peak[0], peak[1] + 8]) == pytest.approx(np.exp(-(8.0**2) / 2 / sigma**2), abs=2e-3)


@pytest.mark.parametrize(
    ("size", "tile", "overlap"), [(768, 256, 0.5), (100, 100, 0.5), (333, 128, 0.25), (301, 300, 0.5)]
)
def test_tiles_cover_the_image(size, tile, overlap):
    starts = tile_starts(size, tile, overlap)
    assert starts[0] == 0
    assert starts[-1] + tile == size
    assert all(b - a <= tile * (1 - overlap) + 1 for a, b in itertools.pairwise(starts))


@pytest.mark.parametrize("side", [64, 81])
def test_sector_bins_count_each_sample_of_the_plane_once(side):
    bins = SpectrumBins.build(side, 2.0, 0.02, 0.2, torch.device("cpu"))
    fy, fx = np.fft.fftfreq(side, 2.0)[:, None], np.fft.fftfreq(side, 2.0)
    ring = np.rint(np.hypot(fy, fx) * side * 2.0)
    for shell, frequency in enumerate(bins.frequency):
        inside = ring == np.ceil(0.02 * side * 2.0) + shell
        assert float(bins.count[:, shell].sum()) == inside.sum() / 2
        assert float(frequency) ** 2 == pytest.approx((fy**2 + fx**2)[inside].mean(), rel=1e-12)
    assert bins.count.shape[0] == SECTORS
    power = torch.from_numpy(np.cos(2 * np.arctan2(fy, fx[: side // 2 + 1])))[None]
    got = bins.average(power)[0]
    np.testing.assert_allclose(got[bins.count > 0], bins.cosine[bins.count > 0], atol=1e-12)


def test_order_of_acquisition():
    with pytest.raises(ShapeError, match="order of acquisition"):
        estimate(series(), acquisition=[0, 1])
    order = AcquisitionOrder.build([3, 0, 1, 7, 2, 2])
    covariance = np.linalg.inv(order.persistence.numpy())
    np.testing.assert_allclose(covariance, np.exp(-order.distance.numpy() / 10.0), atol=1e-12)
    assert float(order.distance[0, 3]) == 4.0


def test_hand_against_what_was_given_names_the_fix():
    free, plus, minus = CtfParams(), CtfParams(hand=1), CtfParams(hand=-1)
    test = HandTest(hand=1.0, given=-1.0, decided=True, log_likelihood_ratio=80.0, sigmas=8.0)
    assert test.axis_sign == -1.0
    assert "--tilt-axis -96.0" in hand_caveats(test, 84.0, free)[0]
    assert "--tilt-axis 84.0" in hand_caveats(test, -96.0, free)[0]
    assert "`eucentric ctf PROJECT --hand 1`" in hand_caveats(test, 84.0, free)[0]
    assert hand_caveats(test, 84.0, plus) == []
    assert "`eucentric ctf PROJECT --hand auto`" in hand_caveats(test, 84.0, minus)[0]
    assert "--tilt-axis -96.0" in hand_caveats(test, 84.0, minus)[0]
    agreed = HandTest(hand=-1.0, given=-1.0, decided=True, log_likelihood_ratio=-80.0, sigmas=8.0)
    assert hand_caveats(agreed, 84.0, free) == []
    assert agreed.axis_sign == 1.0
    unsure = HandTest(hand=-1.0, given=-1.0, decided=False, log_likelihood_ratio=2.0, sigmas=1.1)
    assert "do not tell the hand (1.1 standard errors); -1" in hand_caveats(unsure, 84.0, free)[0]
    assert "`eucentric ctf PROJECT --hand 1`" in hand_caveats(unsure, 84.0, free)[0]
    assert hand_caveats(unsure, 84.0, plus) == []


def test_empty_and_thick_images_are_told_apart():
    generator = torch.Generator().manual_seed(5)
    flat = 100.0 + torch.randn(512, 512, generator=generator)
    with pytest.raises(ProcessingError, match="empty"):
        estimate_image_ctf(flat, pixel_size=4.0, optics=Optics())
    fade = torch.exp(-400.0 * frequency_grid((512, 512), 4.0) ** 2)
    matter = 6.0 * torch.fft.irfft2(torch.fft.rfft2(torch.randn(512, 512, generator=generator)) * fade, s=(512, 512))
    with pytest.raises(ProcessingError, match="too thick"):
        estimate_image_ctf(flat + matter, pixel_size=4.0, optics=Optics())
    with pytest.raises(ProcessingError, match="blank"):
        estimate_image_ctf(torch.full((512, 512), 3.0), pixel_size=4.0, optics=Optics())


def rings_and_ice(ice, size=768, pixel=1.1):
    generator = torch.Generator().manual_seed(9)
    k = frequency_grid((size, size), pixel)
    filters = ctf_2d((size, size), pixel, 15000.0, 15000.0, 0.0, Optics()) * torch.exp(-12.0 * k**2)
    filters = filters + ice * torch.exp(-0.5 * ((k - 1 / 3.67) * size * pixel / 1.5) ** 2)
    spectrum = torch.fft.rfft2(torch.randn(size, size, generator=generator))
    return 9.0 + torch.fft.irfft2(spectrum * filters, s=(size, size)) + torch.randn(size, size, generator=generator)


def test_ice_rings_are_named_and_do_no_harm():
    """A ring at 3.67 A whose power is 16, and 900 times, that of the rings of the CTF."""
    params = CtfParams(high_resolution_angstrom=3.0)
    clean = estimate_image_ctf(rings_and_ice(0.0), pixel_size=1.1, optics=Optics(), params=params)
    assert "icy" not in clean.verdicts
    for strength in (4.0, 30.0):
        icy = estimate_image_ctf(rings_and_ice(strength), pixel_size=1.1, optics=Optics(), params=params)
        assert "icy" in icy.verdicts
        assert any("crystalline" in caveat for caveat in icy.caveats)
        assert icy.fit.defocus_angstrom == pytest.approx(15000.0, abs=80.0)
        assert icy.fit.defocus_angstrom == pytest.approx(clean.fit.defocus_angstrom, abs=icy.fit.defocus_sigma_angstrom)
    bare = params.replace(ice_ring_masks=False)
    misled = estimate_image_ctf(rings_and_ice(30.0), pixel_size=1.1, optics=Optics(), params=bare)
    assert abs(misled.fit.defocus_angstrom - 15000.0) > 1000.0  # what the masks are for
    assert np.isnan(estimate_image_ctf(series()[0], pixel_size=4.0, optics=Optics()).ice)
    bins = SpectrumBins.build(128, 1.1, 0.05, 0.4, torch.device("cpu"))
    masked = without_ice(bins)
    gone = (masked.count.sum(0) == 0).numpy()
    np.testing.assert_array_equal(gone, ((1 / bins.frequency > 3.35) & (1 / bins.frequency < 4.0)).numpy())


def test_agreement_of_tilts():
    assert agreement_sigmas(np.array([8.0, 8.0, 2.0, 2.0])) == pytest.approx(3.0 / (2 / 3**0.5 / 2))
    assert agreement_sigmas(np.array([-8.0, -8.0, -2.0, -2.0])) < -5
    assert agreement_sigmas(np.array([50.0])) == 0.0
    # votes 4, 2, 0 of tilts expected to give 2, 1, 0 agree but for rounding; 0, 2, 4 do not
    uneven = np.array([8.0, 2.0, 0.02])
    assert (
        agreement_sigmas(uneven, np.array([2.0, 1.0, 0.0]))
        > 20
        > 3
        > agreement_sigmas(uneven[::-1], np.array([2.0, 1.0, 0.0]))
    )
