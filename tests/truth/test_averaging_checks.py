"""What limits an average: images with beads and field edges count less, and a wrong defocus or hand is seen by the particles."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_averaging import BOX, LEVEL, PHANTOM, PIXEL, SHAPE, STRENGTH, _images, _particles, _series

from eucentric.averaging.ctf_check import check_ctf, collect_evidence, first_zero_angstrom
from eucentric.averaging.image_weights import seen_part
from eucentric.averaging.params import ExtractParams
from eucentric.averaging.particle_images import prepare_series
from eucentric.models import Optics

COUNT, NOISE = 24, 0.002


@pytest.fixture(scope="module")
def scene():
    series = _moved(_series(astigmatism=300.0), 22000.0)
    places, rotations = _particles(COUNT, reach=380.0)
    return series, places, rotations, _images(series, places, rotations, noise=NOISE)


def _checked(scene, series):
    """What particles say where the series has this CTF and hand."""
    _, places, rotations, images = scene
    source = prepare_series(images, series, ExtractParams(box_size=BOX, image_weights=False))
    volume = STRENGTH * PHANTOM.volume((BOX,) * 3, PIXEL)
    batches = [np.arange(0, 14), np.arange(14, COUNT)]
    halves = 1 + np.arange(COUNT) % 2
    found = collect_evidence(source, batches, places, rotations, halves, (volume, volume), 13.0)
    assert found is not None
    return check_ctf(found)


def _moved(series, angstrom):
    fits = [
        replace(t.ctf, **{n: getattr(t.ctf, n) + angstrom for n in ("defocus_u_angstrom", "defocus_v_angstrom")})
        for t in series.tilts
    ]
    return series.with_tilts([replace(t, ctf=f) for t, f in zip(series.tilts, fits, strict=True)])


def test_particles_agree_with_the_right_ctf(scene):
    found = _checked(scene, scene[0])
    assert abs(found.offset_angstrom) < max(3.0 * found.sigma_angstrom, 60.0)
    assert 0.0 < found.sigma_angstrom < 300.0
    assert abs(found.height_factor - 1.0) < max(3.0 * found.height_sigma, 0.15)
    assert not found.disagrees
    assert not found.other_hand
    assert found.first_zero_angstrom == pytest.approx(found.first_zero_fitted_angstrom, rel=0.01)
    near = np.isfinite(found.transfer) & (found.transfer_sigma < 0.2) & (found.chi_over_pi < 2.0)
    assert near.sum() > 8
    assert np.corrcoef(found.transfer[near], -np.sin(math.pi * found.chi_over_pi[near]))[0, 1] > 0.95


@pytest.mark.parametrize("wrong", [-2000.0, 2500.0])
def test_particles_tell_a_wrong_defocus_and_where_the_zero_is(scene, wrong):
    found = _checked(scene, _moved(scene[0], wrong))
    assert found.offset_angstrom == pytest.approx(-wrong, abs=max(3.0 * found.sigma_angstrom, 60.0))
    assert found.disagrees
    assert not found.other_hand
    true = np.mean([t.ctf.defocus_angstrom for t in scene[0].tilts])
    assert found.first_zero_angstrom == pytest.approx(first_zero_angstrom(true, scene[0].optics), rel=0.01)


def test_particles_tell_the_other_hand(scene):
    found = _checked(scene, scene[0].replace(hand=-scene[0].hand))
    assert found.height_factor == pytest.approx(-1.0, abs=max(3.0 * found.height_sigma, 0.3))
    assert found.other_hand


def test_the_first_zero_is_where_the_phase_is_pi():
    optics = Optics(voltage_kv=300.0, spherical_aberration_mm=0.0, amplitude_contrast=0.0)
    expected = math.sqrt(optics.wavelength_angstrom * 20000.0)
    assert first_zero_angstrom(20000.0, optics) == pytest.approx(expected, rel=1e-3)
    # a phase plate of a quarter of a turn halves what defocus has to add
    assert first_zero_angstrom(20000.0, optics, 90.0) == pytest.approx(expected * math.sqrt(2.0), rel=1e-3)


def test_without_a_ctf_nothing_is_said(scene):
    series, places, rotations, images = scene
    source = prepare_series(images, series, ExtractParams(box_size=BOX, ctf=False))
    volume = PHANTOM.volume((BOX,) * 3, PIXEL)
    assert collect_evidence(source, [np.arange(2)], places, rotations, np.ones(COUNT), (volume, volume), 13.0) is None


def test_an_image_with_a_bead_counts_less_and_the_others_as_before(scene):
    series, places, _, images = scene
    plain = prepare_series(images, series, ExtractParams(box_size=BOX, image_weights=False))
    seen = plain.project(places)
    tilt = 5
    x, y = seen.pixels[tilt, 0]
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    bead = torch.from_numpy((rows - y - 5.0) ** 2 + (columns - x) ** 2 < (50.0 / PIXEL) ** 2)
    marred = images.clone()
    marred[tilt][bead] -= 0.6 * LEVEL
    source = prepare_series(marred, series, ExtractParams(box_size=BOX))
    without = prepare_series(marred, series, ExtractParams(box_size=BOX, image_weights=False))
    found, whole = source.particles(places), without.particles(places)
    share = found.weight.sum((1, 2)) / whole.weight.sum((1, 2))
    hit = (found.particle == 0) & (found.tilt == tilt)
    assert float(share[hit]) < 0.3
    # others on the same tilt have the bead in their boxes too, where they are near
    away = np.linalg.norm(seen.pixels[tilt] - seen.pixels[tilt, 0], axis=1)[found.particle] > BOX
    inside = (np.abs(seen.pixels[found.tilt, found.particle] - [105, 100]) < [80, 75]).all(1)
    assert float(share[away & inside].min()) > 0.95
    assert float((share[away & inside] > 0.999).double().mean()) > 0.9
    # data and weight fall together, so that maps keep their scale
    ratio = found.data[hit].abs() / whole.data[hit].abs().clamp_min(1e-12)
    expected = found.weight[hit] / whole.weight[hit].clamp_min(1e-12)
    used = whole.weight[hit] > 0
    torch.testing.assert_close(ratio[used], expected[used], rtol=0.02, atol=1e-3)


def test_the_part_of_a_particle_in_the_field():
    size = np.array([200.0, 100.0])
    centres = np.array([[100.0, 50.0], [-0.5, 50.0], [199.5, 99.5], [-30.0, 50.0]])
    # a fade of a hundredth of a pixel is an edge: whole, half, a corner, nothing
    np.testing.assert_allclose(seen_part(centres, 10.0, size, 0.01), [1.0, 0.5, 0.25, 0.0], atol=0.01)
    # over a fade of the width of the square its mean is one half
    faded = seen_part(np.array([[9.5, 50.0]]), 10.0, size, 20.0)
    assert faded[0] == pytest.approx(0.5, abs=0.01)
