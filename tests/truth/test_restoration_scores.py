"""Scores of restored volumes, on phantoms whose figures are known: spheres and vesicles with and without a missing wedge."""

import math

import numpy as np
import pytest
import torch

from eucentric.errors import InputError, ShapeError
from eucentric.evaluation.membrane_caps import detect_sheets, found_on, polar_angles
from eucentric.evaluation.restoration import (
    balls_left_out,
    contrast_to_noise,
    correlation_in,
    curve_area,
    curve_at,
    elongation,
    fourier_regions,
    half_width,
    in_band,
    mean_box,
    region_correlation,
    shell_frequencies,
)
from eucentric.fourier import frequency_vectors
from eucentric.geometry import TiltGeometry

SHAPE, VOXEL = (44, 48, 52), 10.0
CENTRE = (27.3, 22.6, 20.4)  # x, y, z: of no symmetry with the box
RADIUS = 14.0


def distance(shape=SHAPE, centre=CENTRE):
    z, y, x = (torch.arange(n, dtype=torch.float32) - c for n, c in zip(shape, centre[::-1], strict=True))
    return torch.sqrt(z[:, None, None] ** 2 + y[:, None] ** 2 + x**2)


def ball(radius, **keywords):
    return torch.sigmoid((radius - distance(**keywords)) * 2.0)


def vesicle(**keywords):
    return torch.exp(-0.5 * ((distance(**keywords) - RADIUS) / 1.5) ** 2)


def without_wedge(volume, max_tilt_deg=60.0, beam="z"):
    """What tilts up to an angle about y sample, for a beam along z, or along x."""
    kz, _, kx = frequency_vectors(tuple(volume.shape), 1.0)
    along, across = (kz, kx) if beam == "z" else (kx, kz)
    kept = torch.atan2(along.abs(), across.abs()) <= math.radians(max_tilt_deg)
    return torch.fft.irfftn(torch.fft.rfftn(volume) * kept, s=volume.shape)


def noise(seed, shape=SHAPE):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def sphere_points(count=1500):
    step = np.arange(count) + 0.5
    z, turn = 1.0 - 2.0 * step / count, step * math.pi * (3.0 - math.sqrt(5.0))
    flat = np.sqrt(1.0 - z**2)
    return np.stack([flat * np.cos(turn), flat * np.sin(turn), z], axis=1)


@pytest.fixture(scope="module")
def regions():
    geometry = TiltGeometry.build(np.arange(-60.0, 61.0, 3.0))
    return fourier_regions(geometry, SHAPE, VOXEL, depth_angstrom=SHAPE[0] * VOXEL)


def test_regions_are_the_sectors_about_the_tilt_axis(regions):
    """The wedge lies about kz, whatever ky; nothing is in both."""
    kz, ky, kx = (k.expand(regions.measured.shape) for k in frequency_vectors(SHAPE, VOXEL))
    angle = torch.rad2deg(torch.atan2(kz.abs(), kx.abs()))
    far = torch.hypot(kz, kx) > 0.02
    assert bool((regions.measured[far & (angle < 58.0)] == 1).all())
    assert bool((regions.wedge[far & (angle > 75.0)] == 1).all())
    assert not bool((regions.measured * regions.wedge).any())
    assert not bool(regions.wedge[far & (angle < 60.0)].any())
    # a mix-up of x and y would put these into the wedge
    assert bool((regions.measured[(ky.abs() > 0.03) & (kz.abs() < 1e-6)] == 1).all())
    # an inclined beam turns it about y: from kz towards kx
    turned = fourier_regions(TiltGeometry.build(np.arange(-40.0, 81.0, 3.0)), SHAPE, VOXEL, depth_angstrom=440.0)
    full = torch.rad2deg(torch.atan2(kz, kx))
    middle = far & ((full - (-70.0)).abs() < 10.0)
    assert bool((turned.wedge[middle] == 1).all()) != bool((turned.measured[middle] == 1).all())
    mirrored = far & ((full - 70.0).abs() < 9.0)
    assert bool((turned.wedge[middle] == 1).all()) != bool((turned.wedge[mirrored] == 1).all())


def test_equal_volumes_correlate_fully_and_noise_does_not(regions):
    window, both = torch.ones(SHAPE), (regions.measured, regions.wedge)
    truth = vesicle() + noise(1)
    same = region_correlation(3.0 * truth + 5.0, truth, window, both)
    known = torch.isfinite(same)
    torch.testing.assert_close(same[known], torch.ones(int(known.sum()), dtype=same.dtype), atol=1e-5, rtol=0)
    torch.testing.assert_close(region_correlation(-truth, truth, window, both)[known], -same[known])
    other = region_correlation(noise(2), truth, window, both)
    # 8 shells from 200 A on hold some 40 000 independent samples
    assert abs(curve_area(other[0], VOXEL)) < 0.03
    assert abs(curve_area(other[1], VOXEL)) < 0.06


def test_regions_are_scored_apart(regions):
    """Noise in the wedge alone, then in the measured part alone."""
    truth, window = noise(1), torch.ones(SHAPE)
    both = (regions.measured, regions.wedge)
    for spoilt, left in ((regions.wedge, 0), (regions.measured, 1)):
        spectrum = torch.fft.rfftn(truth) + 10.0 * torch.fft.rfftn(noise(3)) * spoilt
        curves = region_correlation(torch.fft.irfftn(spectrum, s=SHAPE), truth, window, both)
        assert curve_area(curves[left], VOXEL) > 0.99
        # one part of truth to ten of noise
        assert curve_area(curves[1 - left], VOXEL) == pytest.approx(1.0 / math.sqrt(101.0), abs=0.05)
    with pytest.raises(ShapeError):
        region_correlation(truth, truth[1:], window, both)


def test_areas_and_places_of_a_curve():
    frequency = shell_frequencies(40, 8.0)
    assert frequency[0] == pytest.approx(0.5 / 640.0)
    line = 1.0 - frequency * 16.0
    assert curve_at(line, 8.0, [40.0, 100.0]) == pytest.approx([0.6, 0.84])
    assert curve_area(line, 8.0) == pytest.approx((1.0 - 0.005 * 16.0) / 2.0, abs=0.02)
    line[:10] = np.nan
    assert math.isnan(curve_at(line, 8.0, [100.0])[0])
    assert curve_at(line, 8.0, [40.0]) == pytest.approx([0.6])
    assert math.isnan(curve_area(line[:8], 8.0))


def test_correlation_and_contrast_in_real_space():
    truth = ball(8.0)
    inside, outside = distance() < 6.0, distance() > 14.0
    everywhere = torch.ones(SHAPE, dtype=torch.bool)
    assert correlation_in(2.0 * truth - 1.0, truth, everywhere) == pytest.approx(1.0)
    assert correlation_in(-truth, truth, everywhere) == pytest.approx(-1.0)
    assert math.isnan(correlation_in(torch.ones(SHAPE), truth, everywhere))
    noisy = 3.0 * truth + 0.5 * noise(4) + 7.0
    # a step of 3 in noise of 0.5
    assert contrast_to_noise(noisy, inside, outside) == pytest.approx(6.0, rel=0.03)
    assert contrast_to_noise(-noisy, inside, outside) == pytest.approx(-6.0, rel=0.03)
    waves = {length: torch.cos(torch.arange(52) * (2.0 * math.pi * VOXEL / length)) for length in (26.0, 130.0)}
    mixed = sum(w.expand(SHAPE) for w in waves.values())
    torch.testing.assert_close(in_band(mixed, VOXEL, (60.0, 300.0)), waves[130.0].expand(SHAPE), atol=1e-4, rtol=0)


def test_a_wedge_lengthens_a_sphere():
    """60 degrees: more than 1.2 times along the beam. Dark bodies have no width here."""
    for place in ((31.2, 30.7, 29.4), (33.9, 32.4, 34.1)):
        whole = ball(6.0, shape=(64, 64, 64), centre=place)
        assert elongation(mean_box(whole, [place], 34), 6.0) == pytest.approx(1.0, abs=0.03)
        spoilt = mean_box(without_wedge(whole), [place], 34)
        assert 1.2 < elongation(spoilt, 6.0) < 1.5
        # the beam along x: a mix-up of axes shows
        sideways = mean_box(without_wedge(whole, beam="x"), [place], 34)
        assert elongation(sideways, 6.0) < 0.9
        assert elongation(sideways, 6.0, axis=(-1.0, 0.0, 0.0)) > 1.2
        assert math.isnan(elongation(-spoilt, 6.0))


def test_half_widths_of_an_ellipsoid():
    z, y, x = (torch.arange(n, dtype=torch.float32) - c for n, c in zip((44,) * 3, (22.0,) * 3, strict=True))
    reach = torch.sqrt((z[:, None, None] / 8.0) ** 2 + (y[:, None] / 6.0) ** 2 + (x / 5.0) ** 2)
    body = torch.sigmoid((1.0 - reach) * 12.0)
    widths = [half_width(body, way, 6.0) for way in ((0, 0, 1), (0, -1, 0), (1, 0, 0))]
    # the cone of 15 degrees sees shorter chords beside the longest axis, longer ones beside the shortest
    assert widths == pytest.approx([8.0, 6.0, 5.0], rel=0.05)
    assert elongation(body, 6.0) == pytest.approx(widths[0] / (0.5 * (widths[1] + widths[2])), rel=0.03)
    assert elongation(body, 6.0, axis=(1.0, 0.0, 0.0)) < 0.8
    with pytest.raises(InputError, match="5 radii"):
        half_width(body, (0, 0, 1), 9.0)


def test_mean_of_boxes_between_voxels():
    """A linear ramp is read without error at any place; the mean is that of the places."""
    z, y, x = torch.meshgrid(*[torch.arange(n, dtype=torch.float32) for n in SHAPE], indexing="ij")
    places = np.array([[20.25, 18.5, 15.75], [30.0, 25.125, 22.5]])
    box = mean_box(x + 10.0 * y + 100.0 * z, places, 8)
    assert float(box[4, 4, 4]) == pytest.approx(float((places @ (1.0, 10.0, 100.0)).mean()), rel=1e-5)
    assert float(box[4, 4, 5] - box[4, 4, 4]) == pytest.approx(1.0, abs=1e-3)
    for bad in (np.zeros((0, 3)), [[2.0, 20.0, 20.0]], [[20.0, 20.0, 41.0]]):
        with pytest.raises(InputError, match="inside"):
            mean_box(x, bad, 8)


def test_gold_is_left_out():
    window = balls_left_out(SHAPE, [CENTRE, (500.0, 0.0, 0.0), (1.0, 2.0, 3.0)], 5.0, edge_px=3.0)
    away = torch.minimum(distance(), distance(centre=(1.0, 2.0, 3.0)))
    assert bool((window[away <= 5.0] == 0).all())
    assert bool((window[away >= 8.0] == 1).all())
    assert float(window[(away > 6.4) & (away < 6.6)].mean()) == pytest.approx(0.5, abs=0.05)


def caps_and_belt(volume, axis=(0.0, 0.0, 1.0)):
    ground = (distance() - RADIUS).abs() > 6.0
    sheets = detect_sheets(volume, VOXEL, ground)
    normals = sphere_points()
    points = np.array(CENTRE) + RADIUS * normals
    answers, polar = found_on(sheets, points, normals), polar_angles(normals, axis)
    return float(answers[polar <= 30.0].mean()), float(answers[polar >= 60.0].mean())


def test_a_wedge_hides_the_caps_of_a_vesicle_and_not_its_belt():
    volume = 0.6 * vesicle() + noise(5)
    assert min(caps_and_belt(volume)) > 0.9
    caps, belt = caps_and_belt(without_wedge(volume))
    assert caps < 0.3
    assert belt > 0.8
    # the beam along x: caps along z are all there, those along x are not
    sideways = without_wedge(volume, beam="x")
    assert caps_and_belt(sideways)[0] > 0.9
    assert caps_and_belt(sideways, axis=(1.0, 0.0, 0.0))[0] < 0.4
    # dark sheets are none, nor is noise; any scale is one
    assert max(caps_and_belt(noise(5) - 0.6 * vesicle())) < 0.2
    assert max(caps_and_belt(noise(6))) < 0.2
    assert caps_and_belt(1e-3 * volume + 2.0) == pytest.approx(caps_and_belt(volume), abs=0.02)


def test_crests_lie_on_the_surface_with_its_normals():
    sheets = detect_sheets(vesicle() + 0.3 * noise(7), VOXEL, (distance() - RADIUS).abs() > 6.0, false_share=0.001)
    away = sheets.places_px - np.array(CENTRE)
    reach = np.linalg.norm(away, axis=1)
    assert np.median(np.abs(reach - RADIUS)) < 0.6
    assert np.median(np.abs((away / reach[:, None] * sheets.normals).sum(1))) > 0.995
    assert sheets.threshold > 0


def test_normals_and_distance_both_count():
    volume = torch.zeros(20, 20, 20)
    volume[:, 9, :] = 1.0  # a sheet across y
    ground = torch.zeros(20, 20, 20, dtype=torch.bool)
    ground[:, :4] = True
    sheets = detect_sheets(volume, 10.0, ground)
    points = [(10.0, 9.0, 10.0), (10.0, 10.9, 10.0), (10.0, 12.0, 10.0), (10.0, 9.0, 10.0), (10.0, 9.0, 10.0)]
    tilted = (0.0, math.cos(math.radians(35.0)), math.sin(math.radians(35.0)))
    normals = [(0.0, -1.0, 0.0), (0.0, 1.0, 0.0), (0.0, 1.0, 0.0), tilted, (1.0, 0.0, 0.0)]
    assert found_on(sheets, points, normals).tolist() == [True, True, False, False, False]
    assert found_on(sheets, points, normals, angle_deg=40.0, reach_px=3.1).tolist() == [True, True, True, True, False]
    assert not len(found_on(sheets, np.zeros((0, 3)), np.zeros((0, 3))))
    with pytest.raises(InputError, match="ground"):
        detect_sheets(volume, 10.0, ground & False)
    with pytest.raises(ShapeError):
        detect_sheets(volume, 10.0, ground[1:])


def test_polar_angles_have_no_sign():
    angles = polar_angles([(0, 0, -1), (1, 0, 0), (0, 1, 1)] / np.array([[1.0], [1.0], [math.sqrt(2.0)]]))
    assert angles == pytest.approx([0.0, 90.0, 45.0])
    assert polar_angles([(1, 0, 0)], (2.0, 0.0, 0.0)) == pytest.approx([0.0])
