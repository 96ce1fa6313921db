"""The model of contrast transfer with its envelopes, and the gains that correct it."""

import importlib.util
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from eucentric.errors import InputError, ShapeError
from eucentric.fourier import exposure_weights, frequency_grid
from eucentric.geometry import TiltGeometry
from eucentric.models import CtfFit, Optics
from eucentric.optics import contrast_transfer, correction_gain, ctf_2d
from eucentric.reconstruction import SpectralRatio, assumed_signal_to_noise, correct_ctf

OPTICS = Optics(voltage_kv=200.0, spherical_aberration_mm=2.0, amplitude_contrast=0.1)
FIT = CtfFit(defocus_u_angstrom=21000.0, defocus_v_angstrom=19000.0, astigmatism_angle_deg=25.0, phase_shift_deg=40.0)
SHAPE, PIXEL = (60, 71), 2.3


def _transfer(**changes):
    return contrast_transfer(SHAPE, PIXEL, FIT, OPTICS, **changes)


# the model


def test_transfer_is_the_ctf_of_the_height_times_its_envelopes():
    got = _transfer(exposure=30.0, b_factor_angstrom2=120.0).at(-1500.0)
    ctf = ctf_2d(SHAPE, PIXEL, 19500.0, 17500.0, 25.0, OPTICS, 40.0)
    k = frequency_grid(SHAPE, PIXEL)
    expected = -ctf * exposure_weights(k, 30.0, voltage_kv=200.0) * torch.exp(-30.0 * k**2)
    torch.testing.assert_close(got, expected, rtol=0, atol=2e-4)  # single precision of some hundred radians
    assert _transfer().envelope is None
    assert float(_transfer().at()[0, 0]) == pytest.approx(math.sin(math.radians(40.0) + math.asin(0.1)))


def test_envelopes_are_those_of_the_specimens_detail_and_astigmatism_turns_with_the_image():
    # at half the frequency of an image that is magnified twice stands the same detail
    twice = contrast_transfer((64, 64), 2.0, FIT, OPTICS, exposure=50.0, b_factor_angstrom2=80.0, magnification=2.0)
    once = contrast_transfer((64, 64), 1.0, FIT, OPTICS, exposure=50.0, b_factor_angstrom2=80.0)
    torch.testing.assert_close(twice.envelope, once.envelope)
    assert not torch.allclose(twice.phase, once.phase)
    turned = contrast_transfer((64, 64), 2.0, FIT, OPTICS, turned_deg=90.0).at()
    plain = contrast_transfer((64, 64), 2.0, FIT, OPTICS).at()
    # a quarter turn takes (ky, kx) to (kx, -ky)
    torch.testing.assert_close(turned[1:32, 1:32], plain[33:, 1:32].flip(0).T, rtol=0, atol=1e-3)
    assert not torch.allclose(turned, plain, atol=0.1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"exposure": -1.0}, "exposure"),
        ({"b_factor_angstrom2": math.nan}, "B factor"),
        ({"b_factor_angstrom2": 1e999}, "B"),
    ],
)
def test_envelopes_that_cannot_be_are_refused(changes, words):
    with pytest.raises(InputError, match=words):
        _transfer(**changes)


# the gains


def test_flipping_twice_changes_nothing_and_once_makes_all_detail_positive():
    transfer = _transfer().at()
    gain = correction_gain(transfer, "flip")
    assert torch.equal(gain**2, torch.ones_like(gain))
    assert bool((gain * transfer >= 0).all())
    assert float(gain.min()) == -1.0
    faded = _transfer(exposure=40.0)
    torch.testing.assert_close(correction_gain(faded.at(), "flip", envelope=faded.envelope).abs(), faded.envelope)


def test_wiener_divides_where_there_is_no_noise_and_multiplies_where_there_is_nothing_else():
    transfer = _transfer(exposure=20.0).at()
    clear = transfer.abs() > 0.05
    divided = correction_gain(transfer, "wiener", noise_to_signal=1e-7) * transfer
    torch.testing.assert_close(divided[clear], torch.ones_like(divided)[clear], rtol=0, atol=1e-3)
    faint = correction_gain(transfer, "wiener", noise_to_signal=1e6) * 1e6
    torch.testing.assert_close(faint, correction_gain(transfer, "multiply"), rtol=0, atol=1e-5)


def test_no_other_gain_has_a_smaller_error_than_wiener():
    transfer = _transfer(exposure=20.0, b_factor_angstrom2=50.0).at()
    ratio = torch.linspace(0.02, 20.0, transfer.numel()).reshape(transfer.shape)

    def error(gain):  # of the power 1 of the specimen, and that of the noise
        return ((gain * transfer - 1.0) ** 2 + gain**2 * ratio).double().sum()

    best = correction_gain(transfer, "wiener", noise_to_signal=ratio)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        assert error(best + 0.03 * torch.randn(best.shape, generator=generator)) > error(best)
    assert error(correction_gain(transfer, "multiply")) > error(best)
    assert error(correction_gain(transfer, "flip")) > error(best)


# whole images


@pytest.mark.parametrize("mode", ["flip", "multiply", "wiener"])
def test_envelopes_and_a_spectrum_of_noise_take_part_in_the_correction(mode):
    images = torch.randn((1, 96, 104), generator=torch.Generator().manual_seed(1)) + 7.0
    ratio = SpectralRatio(frequency=np.array([0.01, 0.2]), ratio=np.array([30.0, 0.3]))
    fit = CtfFit(defocus_u_angstrom=2000.0, defocus_v_angstrom=2000.0)
    b_factor = 0.0 if mode == "flip" else 40.0
    found = correct_ctf(
        images, TiltGeometry.build([0.0]), pixel_size=PIXEL, fits=[fit], optics=OPTICS, hand=-1.0, mode=mode,
        signal_to_noise=ratio, exposures=[25.0], b_factor_angstrom2=b_factor,
    )[0]  # fmt: skip
    size = (288, 300)
    k = frequency_grid(size, PIXEL)
    faded = exposure_weights(k, 25.0, voltage_kv=200.0) * torch.exp(-0.25 * b_factor * k**2)
    transfer = -ctf_2d(size, PIXEL, 2000.0, 2000.0, 0.0, OPTICS) * faded
    noise = 1.0 / ratio.at(k)
    gain = {"flip": transfer.sign() * faded, "multiply": transfer, "wiener": transfer / (transfer**2 + noise)}[mode]
    expected = (
        torch.fft.irfft2(torch.fft.rfft2(images[0] - images.mean(), s=size) * gain, s=size)[:96, :104] + images.mean()
    )
    inner = (slice(20, -20), slice(20, -20))
    assert float((found - expected)[inner].std() / expected[inner].std()) < {"flip": 0.1, "wiener": 0.03}.get(
        mode, 0.02
    )


def test_the_rim_of_an_image_is_corrected_nearly_as_if_the_image_went_on():
    # coarse contrast over noise, of which the image is the middle; a hard edge would ring with the strength of the contrast
    generator = torch.Generator().manual_seed(3)
    k = frequency_grid((448, 448), 4.0)
    coarse = torch.fft.irfft2(torch.fft.rfft2(torch.randn((448, 448), generator=generator)) / (1.0 + (400.0 * k) ** 2))
    whole = 100.0 + 6.0 * coarse / coarse.std() + 6.0 * torch.randn((448, 448), generator=generator)
    fit = CtfFit(defocus_u_angstrom=30000.0, defocus_v_angstrom=30000.0)
    ratio = assumed_signal_to_noise(3.0)
    keywords = {"pixel_size": 4.0, "optics": Optics(), "hand": 1.0, "mode": "wiener", "signal_to_noise": ratio}

    def corrected(image):
        return correct_ctf(image[None], TiltGeometry.build([0.0]), fits=[fit], **keywords)[0]

    expected, found = corrected(whole)[96:-96, 96:-96], corrected(whole[96:-96, 96:-96])
    away = found - expected
    away -= away[60:-60, 60:-60].mean()
    rim = torch.ones_like(away, dtype=torch.bool)
    rim[16:-16, 16:-16] = False
    assert float(away[rim].square().mean().sqrt() / expected.std()) < 0.2
    assert float(away[60:-60, 60:-60].std() / expected.std()) < 0.05


def test_images_one_by_one_are_corrected_as_all_at_once():
    generator = torch.Generator().manual_seed(2)
    images = torch.randn((3, 40, 52), generator=generator)
    geometry = TiltGeometry.build([-50.0, 0.0, 40.0], z_rot_deg=33.0, shifts_angstrom=[[5.0, 9.0]] * 3)
    fits = [CtfFit(defocus_u_angstrom=d, defocus_v_angstrom=d) for d in (9000.0, 11000.0, 30000.0)]
    keywords = {"pixel_size": 4.0, "optics": OPTICS, "hand": 1.0, "mode": "flip"}
    whole = correct_ctf(images, geometry, fits=fits, exposures=[1.0, 2.0, 3.0], **keywords)
    for t in range(3):
        one = correct_ctf(images[[t]], geometry[t], fits=fits[t : t + 1], exposures=[t + 1.0], **keywords)
        assert torch.equal(one[0], whole[t])
    with pytest.raises(ShapeError, match="Exposures"):
        correct_ctf(images, geometry, fits=fits, exposures=[1.0], **keywords)
    with pytest.raises(InputError, match="tolerance"):
        correct_ctf(images, geometry, fits=fits, defocus_tolerance_angstrom=0.0, **keywords)


@pytest.fixture(scope="module")
def benchmark():
    path = Path(__file__).parents[2] / "benchmarks" / "ctf_correction.py"
    spec = importlib.util.spec_from_file_location("ctf_correction", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    module.SIZE = 480
    yield module
    del sys.modules[spec.name]


def test_strips_bring_back_as_much_of_a_tilted_specimen_as_a_correction_point_by_point(benchmark):
    tilt, band = 60.0, (0.17, 0.225)
    images = benchmark.scene(tilt, ("multiply", "flip"), points=120)

    def detail(image):
        return benchmark.ring_agreement(image, images["clean"], *band)

    def corrected(mode="multiply", **changes):
        return detail(benchmark.corrected(images["seen"], tilt, mode, **changes))

    exact = {mode: detail(images[mode]) for mode in ("multiply", "flip")}
    for mode in exact:
        assert corrected(mode)[1] > 0.96 * exact[mode][1]
    correlation, slope = corrected()
    assert correlation > exact["multiply"][0] - 0.01
    # neighbouring heights closer together, and further apart; none at all; and on the wrong side
    assert corrected(defocus_tolerance_angstrom=25.0)[1] > max(slope, 0.99 * exact["multiply"][1])
    assert corrected(defocus_tolerance_angstrom=300.0)[1] < 0.95 * slope
    assert corrected(by_height=False)[1] < 0.9 * slope
    assert corrected(hand=-benchmark.HAND)[1] < 0.6 * slope
    assert abs(detail(images["seen"])[1]) < 0.2 * slope
