"""Figures of the contrast transfer, and the spectra behind them: the right way up, and in step with the fit."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image

from eucentric.ctf.spectrum_pictures import SpectrumPictures, picture_spectra
from eucentric.errors import ShapeError
from eucentric.figures.ctf import equiphase_average, half_spectra, joined_halves, spectra_with_models, spectrum_picture
from eucentric.figures.ctf_series import (
    defocus_and_astigmatism,
    equiphase_map,
    free_geometry,
    phase_shift_over_time,
    resolution_against_tilt,
    specimen_bend,
    thickness_profile,
)
from eucentric.geometry import TiltGeometry
from eucentric.models import CtfFit, Optics
from eucentric.optics import ctf_2d

OPTICS = Optics()
PIXEL = 3.0


def fit(defocus=20000.0, astigmatism=3000.0, angle=30.0):
    half = 0.5 * astigmatism
    return CtfFit(defocus_u_angstrom=defocus + half, defocus_v_angstrom=defocus - half, astigmatism_angle_deg=angle)


def image_of(one, shape=(700, 640), noise=0.3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    white = torch.randn(2, *shape, generator=generator)
    transfer = ctf_2d(shape, PIXEL, one.defocus_u_angstrom, one.defocus_v_angstrom, one.astigmatism_angle_deg, OPTICS)
    return torch.fft.irfft2(torch.fft.rfft2(white[0]) * transfer, s=shape) + noise * white[1]


def agreement(pictures):
    """Correlation of measured and fitted spectra where both are drawn."""
    out = []
    for a, b in zip(pictures.measured, pictures.fitted, strict=True):
        drawn = (a != 0) & (np.abs(b) > 1e-3)
        out.append(float(np.corrcoef(a[drawn], b[drawn])[0, 1]))
    return np.array(out)


def draw(image, *fits, **changes):
    options = {"pixel_size": PIXEL, "optics": OPTICS, "edge_angstrom": 12.0, **changes}
    return picture_spectra(image[None].expand(len(fits), -1, -1), fits, **options)


def test_only_the_right_fit_agrees():
    """A mirrored axis, a quarter turn and another defocus all miss the rings; tolerance from the noise of 25 tiles."""
    right = fit()
    found = agreement(draw(image_of(right), right, fit(angle=-30.0), fit(angle=120.0), fit(defocus=23000.0)))
    assert found[0] > 0.7
    assert (np.abs(found[1:]) < 0.5).all()


def test_tiles_at_other_heights_are_stretched_to_one_defocus():
    """Left and right of the axis the specimen lies up and down: hand and sign of the tilt must be right."""
    tilt, hand, shape, middle = 60.0, -1.0, (400, 1000), 15000.0
    x = (np.arange(shape[1]) - shape[1] // 2) * PIXEL
    height = -np.tan(np.deg2rad(tilt)) * x  # of the plane z = 0 over the camera's x, tilt axis along y
    levels = np.linspace(height.min(), height.max(), 41)
    nearest = np.abs(height[:, None] - levels).argmin(1)
    image = torch.zeros(shape)
    for n, z in enumerate(levels):
        image[:, nearest == n] = image_of(fit(middle + hand * z, 0.0), shape)[:, nearest == n]
    one = fit(middle, 0.0)

    def at(**changes):
        return agreement(draw(image, one, tile_angstrom=400.0, edge_angstrom=7.0, **changes))[0]

    right = at(geometry=TiltGeometry.build([tilt]), hand=hand)
    assert right > 0.7
    assert right > at() + 0.2
    assert at(geometry=TiltGeometry.build([tilt]), hand=-hand) < 0.5
    assert at(geometry=TiltGeometry.build([-tilt]), hand=hand) < 0.5


def test_edges_and_shapes():
    pictures = draw(image_of(fit()), fit(), tile_angstrom=600.0)
    side = pictures.measured.shape[1]
    assert pictures.measured.shape == pictures.fitted.shape == (1, side, side // 2 + 1)
    assert pictures.edge_frequency == pytest.approx(1 / 12.0, rel=0.05)
    tiles = image_of(fit(), (10 * 128, 128)).reshape(10, 128, 128)
    of_tiles = picture_spectra([tiles], [fit()], pixel_size=PIXEL, optics=OPTICS, edge_angstrom=1.0)
    assert of_tiles.edge_frequency == pytest.approx(0.5 / PIXEL)  # no finer than two pixels
    with pytest.raises(ShapeError, match="one for each"):
        picture_spectra(image_of(fit())[None], [], pixel_size=PIXEL, optics=OPTICS)
    with pytest.raises(ShapeError, match="too small"):
        draw(image_of(fit(), (20, 20)), fit())


def test_blank_images_give_blank_pictures():
    pictures = draw(torch.full((300, 300), 4.0), fit())
    assert not pictures.measured.any()


@pytest.mark.parametrize("side", [16, 15])
def test_halves_join_to_a_whole_plane(side):
    """A spectrum that is alike at opposite points, cut in halves, comes back whole with its axis where it was."""
    fy = np.fft.fftshift(np.fft.fftfreq(side))[:, None]
    fx = np.arange(side // 2 + 1) / side

    def plane(x, y):
        return np.cos(9.0 * x + 23.0 * y) + x * y

    half = plane(fx[None], fy).astype(np.float32)
    whole = joined_halves(half, half)
    rows = fy[1 - side % 2 :]
    columns = np.arange(-(side // 2), side // 2 + 1) / side
    np.testing.assert_allclose(whole, plane(columns[None], rows), atol=1e-6)
    other = joined_halves(half, np.zeros_like(half))
    assert not other[:, side // 2 :].any()


def test_figures_show_what_they_are_given():
    frequency = np.linspace(0.02, 0.2, 50)
    figure = equiphase_average(frequency, np.sin(50 * frequency), np.cos(50 * frequency), frequency, 8.0)
    above, below = figure.axes
    np.testing.assert_allclose(above.lines[2].get_ydata(), np.cos(50 * frequency))
    np.testing.assert_allclose(below.lines[0].get_xdata(), [1 / 8.0] * 2)
    assert len(equiphase_average(frequency, frequency, frequency, frequency).axes[0].lines) == 2
    tilts, order = np.array([-30.0, 0.0, 30.0]), np.array([2.0, 0.0, 1.0])
    u, v = np.array([30100.0, 30300.0, 30500.0]), np.array([29900.0, 29900.0, 29900.0])
    panels = defocus_and_astigmatism(tilts, order, u, v, np.array([10.0, 20.0, 30.0]), np.full(3, 50.0), flagged=[1]).axes  # fmt: skip
    np.testing.assert_allclose(panels[1].lines[0].get_xdata(), [1, 2, 3])  # in the order they were taken
    np.testing.assert_allclose(panels[1].lines[0].get_ydata(), [3.01, 3.02, 3.0])
    np.testing.assert_allclose(panels[2].lines[-1].get_xydata(), [[0.0, 400.0]])  # the one without rings, hollow
    np.testing.assert_allclose(panels[4].lines[0].get_ydata(), [10.0, 20.0, 30.0])
    wrapped = defocus_and_astigmatism(tilts, order, u, v, np.array([88.0, -89.0, -88.0]), np.zeros(3)).axes
    assert np.ptp(wrapped[4].lines[0].get_ydata()) == pytest.approx(4.0)  # an axis half a turn on is the same
    strip = half_spectra(["a", "b"], np.zeros((2, 8, 5), np.float32), np.ones((2, 8, 5), np.float32), 0.1)
    assert [a.get_title() for a in strip.axes] == ["a", "b"]
    assert all(a.images[0].origin == "lower" for a in strip.axes)
    for one in (figure, strip):
        one.canvas.draw()


def test_cells_of_the_specimen_stand_where_they_are():
    places = np.array([[x, y] for y in (-200.0, 0.0, 200.0) for x in (-500.0, 500.0)])
    field = specimen_bend(places, np.array([10.0, 20.0, 30.0, math.nan, 40.0, 50.0]), np.full(6, 5.0))
    shown = field.axes[0].collections[0].get_array()
    np.testing.assert_allclose(np.ma.filled(shown, -1.0), [[1, 2], [3, -1], [4, 5]])
    low, high = field.axes[0].collections[0].get_clim()
    assert low == -high  # the same shade for as far below the plane as above it
    assert [t.get_text().split()[0] for t in field.axes[0].texts] == ["+1", "+2", "+3", "+4", "+5"]
    field.canvas.draw()


def test_averages_of_all_tilts_are_drawn_in_the_order_of_their_angles():
    tilts, frequency = np.array([20.0, -40.0, 0.0]), np.linspace(0.02, 0.1, 41)
    model = np.stack([np.cos(scale * frequency) for scale in (300.0, 400.0, 500.0)])
    figure = equiphase_map(tilts, frequency, 0.5 * model, model, np.array([12.0, math.nan, 14.0]))
    measured, fitted = (axes.images[0].get_array() for axes in figure.axes)
    np.testing.assert_allclose(measured, 0.5 * fitted)
    assert [int(np.argmax([row @ wave for wave in model])) for row in fitted] == [1, 2, 0]
    np.testing.assert_allclose(figure.axes[0].lines[0].get_xdata(), [math.nan, 1 / 14.0, 1 / 12.0])
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["-40", "0", "20"]
    few = spectra_with_models(tilts, frequency, model, model, np.ones_like(model))
    assert [a.get_title(loc="left") for a in few.axes[:3]] == ["20.0°", "-40.0°", "0.0°"]
    for one in (figure, few):
        one.canvas.draw()


def test_thickness_says_what_was_concluded():
    trials = np.linspace(0.0, 5000.0, 101)
    profile = -0.5 * ((trials - 1500.0) / 100.0) ** 2
    told = thickness_profile(trials, profile, 1500.0, 90.0, 800.0)
    assert told.axes[0].get_title(loc="left") == "150 ± 9 nm"
    untold = thickness_profile(trials, profile, math.nan, math.nan, 2200.0)
    assert untold.axes[0].get_title(loc="left").startswith("not determined: below 220 nm")
    for one in (told, untold):
        one.canvas.draw()


def test_checks_of_tilts_are_drawn_with_what_is_known():
    tilts = np.array([-40.0, 0.0, 40.0])
    axis = np.array([80.0, 40.0, 90.0])
    sigma, expected = np.array([3.0, 5.0, 60.0]), np.array([85.0, math.nan, 85.0])
    figure = free_geometry(tilts, np.abs(tilts), np.full(3, 2.0), axis, sigma, np.abs(tilts), expected)
    np.testing.assert_allclose(
        figure.axes[1].lines[0].get_xydata(), [[-40.0, 80.0]]
    )  # not where there is no axis, or none is known
    resolution = resolution_against_tilt(tilts, np.array([12.0, 10.0, math.nan]), 9.0, flagged=[0])
    coarse, fine = resolution.axes[0].get_ylim()
    assert coarse > 12.0 > 9.0 > fine
    shift = phase_shift_over_time(np.array([1, 0, 2]), np.array([60.0, 50.0, 70.0]), np.full(3, 4.0))
    np.testing.assert_allclose(shift.axes[0].lines[0].get_xydata(), [[1, 50], [2, 60], [3, 70]])
    for one in (figure, resolution, shift):
        one.canvas.draw()


def test_small_pictures_keep_both_halves_the_right_way_up():
    """A bright spot at positive x and y of the fitted half, a dark one at the measured half's: opposite it on the left."""
    measured, fitted = np.full((64, 33), 128, np.uint8), np.full((64, 33), 128, np.uint8)
    fitted[44:50, 10:16], measured[44:50, 10:16] = 255, 0
    got = np.asarray(Image.open(io.BytesIO(spectrum_picture(measured, fitted, quality=95))).convert("L")).astype(int)
    assert got.shape == (63, 65)
    height, width = got.shape
    row, column = np.unravel_index(got.argmax(), got.shape)
    assert row < height / 2
    assert column > width / 2
    row, column = np.unravel_index(got.argmin(), got.shape)
    assert row > height / 2
    assert column < width / 2
    assert max(Image.open(io.BytesIO(spectrum_picture(measured, fitted, size_px=32))).size) == 32


def test_means_over_arcs_keep_rings_and_quieten_noise():
    """Rings of an astigmatic fit stand out more clearly, at the same places."""
    right = fit(astigmatism=1000.0)
    image = image_of(right, noise=2.0)
    plain, smooth = (agreement(draw(image, right, arc_deg=arc))[0] for arc in (0.0, 10.0))
    assert smooth > 1.4 * plain  # some twenty samples of an arc, neighbours being alike
    assert abs(agreement(draw(image, fit(defocus=23000.0), arc_deg=10.0))[0]) < 0.25


def test_pictures_as_bytes_are_black_and_white_at_the_ends_of_their_ranges():
    measured, fitted = np.array([[[-9.0, -2.5, 0.0, 2.5, 9.0]]]), np.array([[[-1.0, -0.5, 0.0, 0.5, 1.0]]])
    got = SpectrumPictures(measured=measured, fitted=fitted, edge_frequency=0.1).as_bytes()
    assert got[0].dtype == got[1].dtype == np.uint8
    assert got[0].tolist() == [[[0, 0, 128, 255, 255]]]
    assert got[1].tolist() == [[[0, 64, 128, 191, 255]]]
