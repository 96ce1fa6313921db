"""Image formation against formulas written out again here, and against images of an independent simulator."""

import json
import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from eucentric.compute import seeded_generator
from eucentric.geometry import TiltGeometry, angstrom_to_pixel
from eucentric.io.atoms import read_atoms
from eucentric.simulation import (
    Acquisition,
    Body,
    Detector,
    SimulatedSeries,
    SimulationParams,
    form_frames,
    species_from_atoms,
)

WAVELENGTH = 0.0196875  # A at 300 kV
SIGMA = 6.526e-4  # rad / (V A) at 300 kV
QUIET = SimulationParams(
    ice_noise=0.0,
    deformation_angstrom=0.0,
    drift_angstrom=0.0,
    doming_angstrom=0.0,
    stage_jitter_angstrom=0.0,
    tilt_error_deg=0.0,
    mtf_at_nyquist=1.0,
    b_factor=1500.0,  # points blurred, so that their fringes stay within small images
    astigmatism_angstrom=0.0,
    defocus_jitter_angstrom=0.0,
    image_size_px=(160, 128),
    pixel_size_angstrom=5.0,
    frames=1,
    tilt_min_deg=0.0,
    tilt_max_deg=0.0,
)


def acquire(params, geometry, *, order=None, motion=None, defocus=None, deformation=None):
    count = len(geometry)
    middle = np.full(count, params.defocus_angstrom) if defocus is None else np.asarray(defocus, dtype=float)
    return Acquisition(
        nominal_tilts_deg=geometry.y_tilt_deg,
        order=np.arange(count) if order is None else np.asarray(order),
        geometry=geometry,
        defocus_u_angstrom=middle + 0.5 * params.astigmatism_angstrom,
        defocus_v_angstrom=middle - 0.5 * params.astigmatism_angstrom,
        motion_angstrom=np.zeros((count, params.frames, 2)) if motion is None else motion,
        deformation=np.zeros((3, 6)) if deformation is None else deformation,
    )


def points(*places, weight=3e4, fades=False):
    """Single points, V A^3, at places of the specimen."""
    return Body(
        points_angstrom=np.zeros((1, 3)),
        weights=np.array([weight]),
        rotations=np.repeat(np.eye(3)[None], len(places), axis=0),
        centres_angstrom=np.array(places, dtype=float),
        fades=fades,
    )


def contrast(body, params, course, tilt=0):
    """Image over its own background, less one."""
    image = form_frames([body], course, params, tilt, seeded_generator(1))[0].double()
    empty = form_frames([], course, params, tilt, seeded_generator(1))[0].double()
    return (image / empty - 1.0).numpy()


def place_of(image):
    """x, y in pixels of one symmetric object, dark at low frequency, from the phases of the lowest frequencies."""
    rows, columns = image.shape
    spectrum = np.fft.fft2(-image)
    x = -np.angle(spectrum[0, 1]) / (2 * math.pi) * columns
    y = -np.angle(spectrum[1, 0]) / (2 * math.pi) * rows
    return np.array([x % columns, y % rows])


def point_image(shape, pixel, place_px, weight, defocus, b_factor):
    """Contrast of one point from its definition: 2 sigma weight CTF exp(-B k^2 / 4), one Fourier sum."""
    fy, fx = np.meshgrid(np.fft.fftfreq(shape[0], pixel), np.fft.fftfreq(shape[1], pixel), indexing="ij")
    k2 = fx**2 + fy**2
    chi = math.pi * WAVELENGTH * k2 * (defocus - 0.5 * WAVELENGTH**2 * 2.7e7 * k2) + math.asin(0.07)
    phase = -2j * math.pi * pixel * (fx * place_px[0] + fy * place_px[1])
    spectrum = 2 * SIGMA * weight * -np.sin(chi) * np.exp(-0.25 * b_factor * k2) * np.exp(phase)
    return np.fft.ifft2(spectrum).real / pixel**2


def test_a_point_lands_where_the_geometry_projects_it():
    params = QUIET.replace(astigmatism_angstrom=800.0)
    geometry = TiltGeometry.build(
        [-52.0, 0.0, 41.0], z_rot_deg=[84.0, 30.0, -10.0], x_tilt_deg=[4.0, 0.0, -6.0],
        shifts_angstrom=[(35.0, -22.0), (0.0, 0.0), (-41.0, 17.0)],
    )  # fmt: skip
    place = np.array([61.0, -83.0, 120.0])
    course = acquire(params, geometry)
    expected = angstrom_to_pixel(geometry.project(place)[:, :2], (128, 160), 5.0)
    for tilt in range(3):
        found = place_of(contrast(points(place), params, course, tilt))
        # the fringes that leave the image and the padding cost a few hundredths of a pixel
        np.testing.assert_allclose(found, expected[tilt], atol=0.1)


@pytest.mark.parametrize("formation", ["weak-phase", "multislice"])
def test_each_image_has_a_dose_of_its_own(formation):
    """As of a series of one dose in which as many electrons came before."""
    settings = {"formation": formation, "frames": 2, "ice_noise": 1.0, "ice_spectrum": "water"}
    hybrid = QUIET.replace(**settings, tilt_angles_deg=(0.0, 3.0, -3.0), tilt_doses=(15.0, 3.0, 6.0))
    geometry = TiltGeometry.build([-3.0, 0.0, 3.0], z_rot_deg=84.0)
    body = points((20.0, -31.0, 90.0), fades=True)
    course = acquire(hybrid, geometry, order=[2, 0, 1])
    np.testing.assert_array_equal(course.doses(hybrid), [6.0, 15.0, 3.0])
    np.testing.assert_array_equal(course.doses_before(hybrid), [18.0, 0.0, 15.0])
    for tilt, dose, order in ((0, 6.0, 3), (1, 15.0, 0), (2, 3.0, 5)):
        even = QUIET.replace(**settings, dose_per_tilt=dose)
        alike = acquire(even, geometry, order=[order] * 3)
        got = form_frames([body], course, hybrid, tilt, seeded_generator(1))
        expected = form_frames([body], alike, even, tilt, seeded_generator(1))
        np.testing.assert_allclose(got, expected, rtol=1e-6)
        assert float(got.mean()) == pytest.approx(dose / 2 * 25.0 * hybrid.dqe_at_zero, rel=0.6)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"tilt_doses": (3.0, 3.0)}, "2 doses for the 0 angles"),
        ({"tilt_angles_deg": (0.0, 3.0), "tilt_doses": (3.0, 3.0, 3.0)}, "3 doses for the 2 angles"),
        ({"tilt_angles_deg": (0.0, 3.0), "tilt_doses": (3.0, 0.0)}, "not above 0"),
    ],
)
def test_doses_that_fit_no_angles(changes, told):
    with pytest.raises(ValueError, match=told):
        QUIET.replace(**changes)


@pytest.mark.parametrize("hand", [-1, 1])
def test_contrast_is_the_formula_at_each_points_own_height(hand):
    params = QUIET.replace(hand=hand, image_size_px=(192, 192), thickness_angstrom=4000.0, depth_step_angstrom=100.0)
    weight, high, low = 3e4, (-201.3, 33.0, 1500.0), (187.7, -55.0, -1400.0)
    got = contrast(points(high, low, weight=weight), params, acquire(params, TiltGeometry.build(0.0)))
    expected = sum(
        point_image((192, 192), 5.0, (96 + x / 5.0, 96 + y / 5.0), weight, 35000.0 + hand * z, params.b_factor)
        for x, y, z in (high, low)
    )
    assert expected.min() < -0.02
    # linear between slabs 100 A apart: (pi lambda k^2 100)^2 / 8 = 0.05%; the spline's alias is 1.3% at Nyquist alone
    np.testing.assert_allclose(got, expected, atol=0.01 * np.abs(expected).max())


def test_slabs_of_the_default_step_are_fine_enough():
    geometry = TiltGeometry.build(40.0, z_rot_deg=84.0)
    places = np.random.default_rng(3).uniform(-250, 250, (20, 3))
    images = [
        contrast(points(*places), QUIET.replace(depth_step_angstrom=step), acquire(QUIET, geometry))
        for step in (300.0, 30.0)
    ]
    assert np.abs(images[0] - images[1]).max() < 0.01 * np.abs(images[1]).max()


def test_protein_is_dark_at_underfocus_and_bright_at_overfocus():
    ball = Body(
        points_angstrom=np.random.default_rng(1).normal(scale=25.0, size=(500, 3)),
        weights=np.full(500, 2500.0),
        rotations=np.eye(3)[None],
        centres_angstrom=np.zeros((1, 3)),
        fades=False,
    )
    for defocus, sign in ((35000.0, -1), (-35000.0, 1)):
        params = QUIET.replace(defocus_angstrom=defocus)
        image = contrast(ball, params, acquire(params, TiltGeometry.build(0.0)))
        assert sign * image[64, 80] > 2 * np.abs(image[:40]).max()
        assert sign * image[60:69, 76:85].mean() > 0.02


def test_frames_are_displaced_by_the_motion():
    params = QUIET.replace(frames=3, drift_angstrom=20.0)
    motion = np.array([[[7.0, -11.0], [1.0, 2.0], [-8.0, 9.0]]])
    course = acquire(params, TiltGeometry.build(0.0), motion=motion)
    frames = form_frames([points((40.0, 20.0, 0.0))], course, params, 0, seeded_generator(1)).double()
    for frame, shift in zip(frames, motion[0], strict=True):
        found = place_of((frame / frame.median()).numpy() - 1.0)
        np.testing.assert_allclose(found, np.array([80 + 8, 64 + 4]) + shift / 5.0, atol=0.1)


def test_specimen_bends_as_the_truth_file_says():
    params = QUIET.replace(deformation_angstrom=30.0)
    coefficients = np.zeros((3, 6))
    coefficients[0, 5], coefficients[1, 1] = 4.0, -3.0  # x: uv, y: u
    course = acquire(params, TiltGeometry.build([0.0, 0.0]), order=[0, 9], deformation=coefficients)
    x, y = 160.0, -120.0
    u, v = x / 400.0, y / 400.0  # half of 160 pixels of 5 A
    for tilt, dose in ((0, 1.5), (1, 28.5)):
        grown = 30.0 * (1 - math.exp(-dose / 30.0)) / 1.5
        expected = np.array([80, 64]) + (np.array([x, y]) + grown * np.array([4.0 * u * v, -3.0 * u])) / 5.0
        found = place_of(contrast(points((x, y, 0.0)), params, course, tilt))
        np.testing.assert_allclose(found, expected, atol=0.1)


def test_detail_fades_with_dose_and_gold_does_not():
    course = acquire(QUIET, TiltGeometry.build([0.0, 0.0]), order=[0, 30])
    fy, fx = np.meshgrid(np.fft.fftfreq(128, 5.0), np.fft.fftfreq(160, 5.0), indexing="ij")
    k = np.hypot(fx, fy)
    critical = 0.24499 * np.where(k > 0, k, 1.0) ** -1.6649 + 2.8141  # Grant & Grigorieff 2015
    expected = np.exp(-90.0 / (2 * critical))
    for fades in (True, False):
        body = points((0.0, 0.0, 0.0), fades=fades)
        early, late = (np.abs(np.fft.fft2(contrast(body, QUIET, course, tilt))) for tilt in (0, 1))
        for ring in (0.02, 0.035):
            near = np.abs(k - ring) < 0.003
            ratio = late[near].sum() / early[near].sum()
            wanted = (early[near] * expected[near]).sum() / early[near].sum() if fades else 1.0
            assert ratio == pytest.approx(wanted, rel=0.05)  # what the image's edge cuts off leaks between rings


@pytest.mark.parametrize("offset", [0.0, 15.0])
def test_mean_counts_follow_dose_pixel_and_thickness(offset):
    params = QUIET.replace(
        tilt_min_deg=-60.0, tilt_max_deg=60.0, tilt_step_deg=60.0, tilt_offset_deg=offset, frames=2, beads=0,
        vesicles=0, particles_per_species=(0, 0), hot_pixels=0, dead_pixels=0, x_tilt_deg=5.0, thickness_angstrom=900.0,
    )  # fmt: skip
    series = SimulatedSeries.build(params)
    for tilt, nominal in enumerate((-60.0, 0.0, 60.0)):
        cosine = math.cos(math.radians(nominal + offset)) * math.cos(math.radians(5.0))
        expected = 3.0 / 2 * 25.0 * math.exp(-900.0 / 3000.0 / cosine)
        movie = series.movie(tilt) * series.detector.gain
        error = 1.1 * math.sqrt(expected / movie.size)  # the gain of single pixels adds a little to Poisson's noise
        assert abs(movie.mean() - expected) < 5 * error
        flat = movie.sum(0)
        assert flat.var() / flat.mean() == pytest.approx(1.0, abs=0.06)  # 20 480 pixels: 1%; the gain adds its variance


def test_ice_shows_the_zeros_of_the_ctf():
    params = QUIET.replace(
        ice_noise=5.0, thickness_angstrom=60.0, depth_step_angstrom=100.0, image_size_px=(256, 256), b_factor=0.0
    )
    course = acquire(params, TiltGeometry.build(0.0))
    image = form_frames([], course, params, 0, seeded_generator(2))[0].double().numpy()
    window = np.hanning(256)[:, None] * np.hanning(256)
    power = np.abs(np.fft.fft2((image / image.mean() - 1) * window)) ** 2
    k = np.hypot(*np.meshgrid(np.fft.fftfreq(256, 5.0), np.fft.fftfreq(256, 5.0)))

    def ring(frequency):
        return power[np.abs(k - frequency) < 4e-4].mean()

    for order in (1, 2, 3):  # chi = order pi: spherical aberration shifts these by less than 0.1%
        zero = math.sqrt((order * math.pi - math.asin(0.07)) / (math.pi * WAVELENGTH * 35000.0))
        top = math.sqrt(((order + 0.5) * math.pi - math.asin(0.07)) / (math.pi * WAVELENGTH * 35000.0))
        assert ring(zero) < 0.1 * ring(top)


def test_ice_in_a_tilted_image_has_the_defocus_of_its_place():
    params = QUIET.replace(ice_noise=5.0, thickness_angstrom=60.0, image_size_px=(512, 256), b_factor=0.0)
    geometry = TiltGeometry.build(55.0, z_rot_deg=0.0)
    image = form_frames([], acquire(params, geometry), params, 0, seeded_generator(2))[0].double().numpy()
    window = np.hanning(256)[:, None] * np.hanning(256)
    fy, fx = np.meshgrid(np.fft.fftfreq(256, 5.0), np.fft.fftfreq(256, 5.0), indexing="ij")
    k2 = fx**2 + fy**2
    band = (k2 > 0.02**2) & (k2 < 0.055**2)
    # x_camera = cos(t) x, z_camera = -sin(t) x: the right half lies low, and with hand -1 is further from focus
    for start, centre in ((0, -128 * 5.0), (256, 127 * 5.0)):
        half = image[:, start : start + 256]
        power = np.abs(np.fft.fft2((half / half.mean() - 1) * window))[band]
        trials = np.arange(32000.0, 38001.0, 100.0)
        fits = [
            np.corrcoef(power, np.abs(np.sin(math.pi * WAVELENGTH * k2[band] * d + math.asin(0.07))))[0, 1]
            for d in trials
        ]
        expected = 35000.0 + math.tan(math.radians(55.0)) * centre
        assert abs(trials[int(np.argmax(fits))] - expected) < 250.0  # heights differ by 1800 A across each half


def test_gain_makes_the_frames_flat_and_only_as_it_lies():
    params = SimulationParams(image_size_px=(96, 96), gain_variation=0.1, hot_pixels=12, dead_pixels=7)
    camera = Detector.build(params, np.random.default_rng(4))
    movie = camera.record(torch.full((4, 96, 96), 40.0), "uint8", seeded_generator(3))
    good = ~(camera.hot | camera.dead)
    assert movie.dtype == np.uint8
    assert (movie[:, camera.hot] == 255).all()
    assert (movie[:, camera.dead] == 0).all()
    assert (camera.hot.sum(), camera.dead.sum()) == (12, 7)

    def unevenness(gain):
        total = (movie.astype(float) * gain).sum(0)[good]
        return total.var() / total.mean()

    assert unevenness(camera.gain) == pytest.approx(1.0, abs=0.06)
    for turned in (camera.gain[::-1], camera.gain[:, ::-1], camera.gain.T):
        assert unevenness(turned) > 2.0


@pytest.mark.parametrize("tilt", [0, 20])
def test_images_agree_with_those_of_an_independent_simulator(shared_data, tilt):
    truth = json.loads((shared_data / "practice" / "TS_01_truth.json").read_text())
    spec = truth["spec"]
    params = QUIET.replace(
        image_size_px=(768, 768), pixel_size_angstrom=4.0, amplitude_contrast=spec["amp"], thickness_angstrom=1200.0,
        astigmatism_angstrom=400.0, astigmatism_angle_deg=30.0, deformation_angstrom=spec["deform"],
    )  # fmt: skip
    course = Acquisition(
        nominal_tilts_deg=np.array(truth["tilts"]),
        order=np.array(truth["acq"]),
        geometry=TiltGeometry.build(truth["true_tilt"], z_rot_deg=spec["axis"], shifts_angstrom=truth["shifts"]),
        defocus_u_angstrom=np.array(truth["du"]),
        defocus_v_angstrom=np.array(truth["dv"]),
        motion_angstrom=np.zeros((41, 1, 2)),
        deformation=np.array(truth["deform_coef"]),
    )
    np.testing.assert_allclose(course.geometry.matrices, truth["R"], atol=1e-6)
    bodies = []
    for kind, name in enumerate(("4v4r_30S.pdb", "3j9i.pdb")):
        atoms = read_atoms(shared_data / "structures" / name)
        symbols = {1: "H", 6: "C", 7: "N", 8: "O", 15: "P", 16: "S"}
        known = np.isin(atoms.atomic_numbers, list(symbols))
        elements = [symbols[int(number)] for number in atoms.atomic_numbers[known]]
        species = species_from_atoms(atoms.positions[known], elements, name=name).coarse(4.0)
        chosen = np.array(truth["kinds"]) == kind
        bodies.append(
            Body(
                points_angstrom=species.points_angstrom,
                weights=species.weights,
                rotations=np.array(truth["rotations"])[chosen],
                centres_angstrom=np.array(truth["positions"])[chosen],
                fades=True,
            )
        )
    ours = form_frames(bodies, course, params, tilt, seeded_generator(1))[0].numpy()
    ours = ours.reshape(384, 2, 384, 2).mean((1, 3))
    with np.load(shared_data / "practice" / "TS_01_clean.npz") as clean:
        theirs = gaussian_filter(clean["clean"][tilt].astype(np.float64), 1.5)  # their water is not ours
    ours = gaussian_filter(ours, 1.5)
    # compared where no vesicle, which the other simulator adds, is seen
    y, x = (np.indices((384, 384)) - 191.75) * 8.0
    free = np.ones((384, 384), dtype=bool)
    centres = course.geometry.project([v[0] for v in truth["vesicles"]])[tilt]
    for centre, (_, radius) in zip(centres, truth["vesicles"], strict=True):
        free &= np.hypot(x - centre[0], y - centre[1]) > radius + 90.0

    def correlation(image):
        return np.corrcoef(image[free], theirs[free])[0, 1]

    matched = correlation(ours)
    assert matched > 0.9
    for shift, axis in ((1, 0), (-1, 0), (1, 1), (-1, 1)):  # one pixel is 8 A
        assert correlation(np.roll(ours, shift, axis)) < matched - 0.02
    pair = np.cov(ours[free] / ours[free].mean(), theirs[free] / theirs[free].mean())
    scale = pair[0, 1] / pair[0, 0]
    assert 0.85 < scale < 1.15  # potential, interaction, CTF and damage, all in their own units
