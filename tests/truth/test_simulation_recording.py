"""Film, lens, damage, motion, camera and course of simulated series, against formulas written out anew."""

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from eucentric.compute import seeded_generator
from eucentric.errors import InputError
from eucentric.geometry import TiltGeometry, angstrom_to_pixel
from eucentric.simulation import (
    Acquisition,
    Body,
    Detector,
    Film,
    LocalMotion,
    ModulationTransfer,
    SimulatedSeries,
    SimulationParams,
    form_frames,
    plan_acquisition,
    tilt_scheme,
)
from eucentric.simulation.ice import beam_path

WAVELENGTH = 0.0196875  # A at 300 kV
SIGMA = 6.526e-4  # rad / (V A) at 300 kV
STILL = SimulationParams(
    ice_noise=0.0, deformation_angstrom=0.0, drift_angstrom=0.0, doming_angstrom=0.0, stage_jitter_angstrom=0.0,
    tilt_error_deg=0.0, mtf_at_nyquist=1.0, b_factor=1500.0, astigmatism_angstrom=0.0, defocus_jitter_angstrom=0.0,
    illumination_mrad=0.0, energy_spread_ev=0.0, high_tension_ppm=0.0, lens_current_ppm=0.0, frames=1,
    image_size_px=(128, 128), tilt_min_deg=0.0, tilt_max_deg=0.0,
)  # fmt: skip


def acquire(params, geometry, **changes):
    count = len(geometry)
    given = {
        "nominal_tilts_deg": geometry.y_tilt_deg,
        "order": np.arange(count),
        "geometry": geometry,
        "defocus_u_angstrom": np.full(count, params.defocus_angstrom),
        "defocus_v_angstrom": np.full(count, params.defocus_angstrom),
        "motion_angstrom": np.zeros((count, params.frames, 2)),
        "deformation": np.zeros((3, 6)),
    }
    return Acquisition(**{**given, **changes})


def point(place=(0.0, 0.0, 0.0), weight=3e4, fades=False):
    return Body(
        points_angstrom=np.zeros((1, 3)),
        weights=np.array([weight]),
        rotations=np.eye(3)[None],
        centres_angstrom=np.array([place], dtype=float),
        fades=fades,
    )


def contrast(bodies, params, course, tilt=0):
    image = form_frames(bodies, course, params, tilt, seeded_generator(1))[0].double()
    empty = form_frames([], course, params, tilt, seeded_generator(1))[0].double()
    return (image / empty - 1.0).numpy()


def place_of(image):
    rows, columns = image.shape
    spectrum = np.fft.fft2(-image)
    x = -np.angle(spectrum[0, 1]) / (2 * math.pi) * columns
    y = -np.angle(spectrum[1, 0]) / (2 * math.pi) * rows
    return np.array([x % columns, y % rows])


def walked(film, matrix, shift, x, y, reach=9000.0, step=2.0):
    """A of ice and of carbon above an image place, by steps along the beam."""
    z = np.arange(-reach, reach, step)
    places = matrix.T @ np.stack([np.full_like(z, x - shift[0]), np.full_like(z, y - shift[1]), z])
    middle = 0.5 * (film.bend_per_angstrom[0] * places[0] ** 2 + film.bend_per_angstrom[1] * places[1] ** 2)
    half = 0.5 * (film.thickness_angstrom + film.gradient[0] * places[0] + film.gradient[1] * places[1]).clip(0)
    present = np.ones_like(z, dtype=bool)
    if film.vacuum_beyond_angstrom is not None:
        present = places[0] <= film.vacuum_beyond_angstrom
    ice = present & (np.abs(places[2] - middle) < half)
    under = (places[2] < middle - half) & (places[2] > middle - half - film.carbon_angstrom)
    beyond = np.hypot(*(places[:2] - np.array(film.hole_centre_angstrom)[:, None])) > (film.hole_radius_angstrom or 1e9)
    return ice.sum() * step, (present & under & beyond).sum() * step


@pytest.mark.parametrize("tilt", [0.0, 45.0, -58.0])
@pytest.mark.parametrize(
    "film",
    [
        Film(thickness_angstrom=900.0),
        Film(thickness_angstrom=900.0, gradient=(0.15, -0.05), bend_per_angstrom=(4e-5, -2e-5)),
        Film(thickness_angstrom=700.0, vacuum_beyond_angstrom=300.0),
        Film(thickness_angstrom=500.0, hole_centre_angstrom=(-200.0, 100.0), hole_radius_angstrom=700.0, carbon_angstrom=150.0),
        Film(
            thickness_angstrom=500.0, gradient=(0.1, 0.0), hole_radius_angstrom=500.0, carbon_angstrom=120.0,
            vacuum_beyond_angstrom=800.0,
        ),
    ],
)  # fmt: skip
def test_the_beam_meets_as_much_ice_and_carbon_as_a_walk_along_it(tilt, film):
    geometry = TiltGeometry.build(tilt, z_rot_deg=80.0, x_tilt_deg=3.0, shifts_angstrom=(40.0, -70.0))
    path = beam_path(film, geometry, 0, (100, 120), 16.0)
    ice = (path.ice.upper - path.ice.lower).numpy()
    carbon = path.carbon_between(-1e9, 1e9)
    rng = np.random.default_rng(3)
    for row, column in zip(rng.integers(0, 100, 60), rng.integers(0, 120, 60), strict=True):
        x, y = (column - 60) * 16.0, (row - 50) * 16.0
        expected = walked(film, geometry.matrices[0], geometry.shifts_angstrom[0], x, y)
        assert ice[row, column] == pytest.approx(expected[0], abs=6.0)  # steps of 2 A at each face
        assert (0.0 if carbon is None else float(carbon[row, column])) == pytest.approx(expected[1], abs=6.0)


@pytest.mark.parametrize("formation", ["weak-phase", "multislice"])
def test_counts_follow_the_path_above_each_pixel(formation):
    params = STILL.replace(formation=formation, slice_angstrom=200.0)
    film = Film(
        thickness_angstrom=800.0, vacuum_beyond_angstrom=0.0, hole_centre_angstrom=(0.0, -600.0), hole_radius_angstrom=600.0,
        carbon_angstrom=150.0,
    )  # fmt: skip
    course = acquire(params, TiltGeometry.build(0.0))
    image = form_frames([], course, params, 0, seeded_generator(1), film=film)[0]
    full = 3.0 * 25.0
    assert float(image[:, 90:].mean()) == pytest.approx(full, rel=0.01)
    assert float(image[10:44, 20:50].mean()) == pytest.approx(full * math.exp(-800 / 3000), rel=0.01)  # the hole
    on_carbon = math.exp(-800 / 3000 - 150 / 2000)
    assert float(image[84:, 10:50].mean()) == pytest.approx(full * on_carbon, rel=0.01)
    if formation == "multislice":  # the edge of the ice bends the beam: a fringe that its loss alone does not make
        assert float(image[:40, 50:80].max()) > 1.1 * full


def test_carbon_fluctuates_more_than_ice():
    params = STILL.replace(ice_noise=1.0, b_factor=0.0)
    course = acquire(params, TiltGeometry.build(0.0))
    powers = []
    for radius in (None, 1e-3):
        film = Film(thickness_angstrom=300.0, hole_radius_angstrom=radius, carbon_angstrom=300.0)
        image = form_frames([], course, params, 0, seeded_generator(1), film=film)[0].double()
        powers.append(float((image / image.mean()).var()))
    ice, carbon = 0.0311 * 145.7**2 * 0.063, 0.0902 * 119.7**2 * 0.2
    assert powers[1] / powers[0] == pytest.approx(1.0 + carbon / ice, rel=0.1)  # 16 384 pixels: 2%


def test_slabs_are_thin_enough_for_fine_pixels():
    params = STILL.replace(pixel_size_angstrom=1.2, b_factor=30.0, thickness_angstrom=1500.0, defocus_angstrom=4000.0)
    course = acquire(params, TiltGeometry.build(0.0))
    places = [(x, y, z) for x, y, z in np.random.default_rng(2).uniform(-1, 1, (30, 3)) * (50.0, 50.0, 700.0)]
    bodies = [point(place) for place in places]
    usual, fine = (
        np.fft.fft2(contrast(bodies, params.replace(depth_step_angstrom=step), course)) for step in (300.0, 15.0)
    )
    k = np.hypot(*np.meshgrid(np.fft.fftfreq(128, 1.2), np.fft.fftfreq(128, 1.2)))
    ring = (k > 0.2) & (k < 0.3)  # 5 to 3.3 A
    assert np.linalg.norm((usual - fine)[ring]) < 0.04 * np.linalg.norm(fine[ring])


def test_water_has_its_structure_and_blurs_by_its_motion():
    params = STILL.replace(
        ice_noise=1.0, b_factor=0.0, pixel_size_angstrom=1.2, thickness_angstrom=60.0, defocus_angstrom=6000.0
    )
    course = acquire(params, TiltGeometry.build(0.0))
    images = [
        form_frames([], course, params.replace(ice_spectrum=kind), 0, seeded_generator(1))[0].double().numpy()
        for kind in ("white", "water")
    ]
    white, water = (np.abs(np.fft.fft2(i / i.mean() - 1.0)) ** 2 for i in images)
    k = np.hypot(*np.meshgrid(np.fft.fftfreq(128, 1.2), np.fft.fftfreq(128, 1.2)))
    for frequency, structure in ((0.08, 0.067), (0.2, 0.14), (0.318, 1.35)):
        ring = np.abs(k - frequency) < 0.004
        moved = 34.0 * frequency**2 * 3.0 / 4.0
        expected = (
            structure / 0.063 * math.exp(-10.6 * frequency**2 / 2) * 2 * (moved - 1 + math.exp(-moved)) / moved**2
        )
        # the ring's width where water's peak is steep, and what the image's edge leaks
        assert water[ring].sum() / white[ring].sum() == pytest.approx(expected, rel=0.1)


def test_coherence_and_phase_plate_change_the_contrast_as_their_formulas_say():
    lens = {"illumination_mrad": 0.2, "energy_spread_ev": 1.5, "high_tension_ppm": 3.0, "lens_current_ppm": 2.0}
    params = STILL.replace(pixel_size_angstrom=3.0, b_factor=300.0, defocus_angstrom=9000.0)
    spread = 2.7e7 * math.sqrt((1.5 / 300e3) ** 2 + 3e-6**2 + (2 * 2e-6) ** 2)
    fy, fx = np.meshgrid(np.fft.fftfreq(128, 3.0), np.fft.fftfreq(128, 3.0), indexing="ij")
    k = np.hypot(fx, fy)
    slope = 2.7e7 * WAVELENGTH**3 * k**3 - 9000.0 * WAVELENGTH * k
    spatial = np.exp(-((math.pi * 0.2e-3 / WAVELENGTH) ** 2) * slope**2)
    temporal = np.exp(-((math.pi * WAVELENGTH * k**2 * spread) ** 2) / 2)
    chi = math.pi * WAVELENGTH * k**2 * (9000.0 - 0.5 * WAVELENGTH**2 * 2.7e7 * k**2) + math.asin(0.07)
    blur = 2 * SIGMA * 3e4 / 9.0 * np.exp(-75.0 * k**2)
    assert (spatial * temporal)[np.abs(k - 0.1) < 0.005].max() < 0.8
    band = (k > 0) & (k < 0.15)  # the mean is not shifted by the plate
    for shift in (0.0, 70.0):
        course = acquire(params, TiltGeometry.build(0.0), phase_shift_deg=np.array([shift]))
        ctf = -np.sin(chi + math.radians(shift))
        got = np.fft.fft2(np.fft.ifftshift(contrast([point()], params.replace(**lens), course)))
        expected = blur * ctf * spatial * temporal
        assert np.abs(got - expected)[band].max() < 0.02 * np.abs(expected).max()
        waves = params.replace(formation="multislice", **lens)
        wave = np.fft.fft2(np.fft.ifftshift(contrast([point(weight=3000.0)], waves, course))) * 10.0
        assert np.abs(wave - expected)[band].max() < 0.03 * np.abs(expected).max()


def test_mass_is_lost_with_dose_and_gold_keeps_it():
    params = STILL.replace(mass_loss=0.4, mass_loss_dose=20.0)
    course = acquire(params, TiltGeometry.build([0.0, 0.0]), order=np.array([0, 20]))
    for fades, expected in ((True, 1 - 0.4 * (1 - math.exp(-61.5 / 20))), (False, 1.0)):
        late = contrast([point(fades=fades)], params, course, 1).sum()
        early = contrast([point(fades=fades)], params.replace(mass_loss=0.0), course, 0).sum()
        assert late / early == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("formation", ["weak-phase", "multislice"])
def test_objects_move_by_themselves_as_the_record_says(formation):
    params = STILL.replace(frames=3, drift_angstrom=9.0, formation=formation, local_motion_angstrom=30.0)
    motion = LocalMotion.draw(1, 3, 30.0, 900.0, np.random.default_rng(12))
    np.testing.assert_allclose(motion.amplitudes_angstrom.mean(1), 0.0, atol=1e-12)
    shift = np.array([[[5.0, -3.0], [0.0, 1.0], [-5.0, 2.0]]])
    course = acquire(params, TiltGeometry.build(0.0), local_motion=motion, motion_angstrom=shift)
    still = acquire(params, TiltGeometry.build(0.0))
    seen = []
    for place in ((0.0, 0.0, 0.0), (140.0, -130.0, 0.0)):
        frames = form_frames([point(place)], course, params, 0, seeded_generator(1)).double()
        rest = form_frames([point(place)], still, params, 0, seeded_generator(1)).double()
        before = place_of((rest[0] / rest[0].median()).numpy() - 1.0)
        moved = [place_of((f / f.median()).numpy() - 1.0) - before for f in frames]
        expected = course.object_motion(0, np.array([place[:2]]))[:, 0] / 5.0
        np.testing.assert_allclose(moved, expected, atol=0.1)  # fringes that leave the image
        seen.append(expected - shift[0] / 5.0)
    assert np.abs(seen[0]).max() > 0.3
    assert np.abs(seen[0] - seen[1]).max() > 0.2  # they do not move alike


def test_neighbours_move_alike_and_strangers_do_not():
    motion = LocalMotion.draw(400, 2, 3.0, 1000.0, np.random.default_rng(5))
    places = np.array([[0.0, 0.0], [500.0, 0.0], [0.0, 1000.0], [4000.0, 0.0]])
    ends = np.stack([motion.at(t, places)[1] for t in range(400)])  # (tilt, place, 2)
    for far, other in ((500.0, 1), (1000.0, 2), (4000.0, 3)):
        found = np.corrcoef(ends[:, 0].ravel(), ends[:, other].ravel())[0, 1]
        assert found == pytest.approx(math.exp(-0.5 * (far / 1000.0) ** 2), abs=0.1)  # 800 values: 0.035 sd


def test_magnification_and_axis_of_each_tilt_are_in_the_images():
    geometry = TiltGeometry.build(
        [-40.0, 35.0], z_rot_deg=[84.0, 80.0], magnification=[1.03, 0.98], shifts_angstrom=[(10.0, 5.0), (-8.0, 3.0)]
    )
    place = np.array([120.0, -90.0, 30.0])
    expected = angstrom_to_pixel(geometry.project(place)[:, :2], (128, 128), 5.0)
    course = acquire(STILL, geometry)
    for tilt in range(2):
        np.testing.assert_allclose(place_of(contrast([point(place)], STILL, course, tilt)), expected[tilt], atol=0.1)


def test_camera_has_the_noise_and_the_resolution_of_its_formula():
    table = ModulationTransfer(frequency=np.array([0.0, 0.25, 0.5]), value=np.array([1.0, 0.7, 0.3]))
    params = STILL.replace(b_factor=100.0, dqe_at_zero=0.8)
    course = acquire(params, TiltGeometry.build(0.0))
    images = [
        form_frames([point()], course, params, 0, seeded_generator(1), mtf=m)[0].double().numpy() for m in (None, table)
    ]
    assert images[0].mean() == pytest.approx(0.8 * 3.0 * 25.0 * math.exp(-1100 / 3000), rel=0.01)
    bare, blurred = (np.fft.fft2(i / np.median(i) - 1.0) for i in images)
    k = np.hypot(*np.meshgrid(np.fft.fftfreq(128), np.fft.fftfreq(128)))
    for frequency, value in ((0.125, 0.85), (0.25, 0.7), (0.4, 0.46)):
        ring = np.abs(k - frequency) < 0.01
        assert (blurred[ring] * bare[ring].conj()).sum().real / (np.abs(bare[ring]) ** 2).sum() == pytest.approx(
            value, rel=0.02
        )
    camera = Detector.build(params.replace(gain_variation=0.0, hot_pixels=0, dead_pixels=0), np.random.default_rng(1))
    counts = camera.record(torch.full((4, 128, 128), 20.0), "uint16", seeded_generator(4)).astype(float)
    power = (np.abs(np.fft.fft2(counts - 20.0)) ** 2 / 128**2).mean(0)
    for low, high in ((0.02, 0.15), (0.15, 0.3), (0.3, 0.5)):
        assert power[(k > low) & (k < high)].mean() == pytest.approx(20.0, rel=0.05)  # white
    with pytest.raises(InputError, match="ascend"):
        ModulationTransfer(frequency=np.array([0.0, 0.2]), value=np.array([1.0, 0.5]))


def test_electrons_that_coincide_count_once_and_events_agree_with_counts():
    params = STILL.replace(
        readouts_per_frame=12, gain_variation=0.0, dead_lines=2, hot_pixels=3, dead_pixels=4, frames=2,
        image_size_px=(96, 80),
    )  # fmt: skip
    camera = Detector.build(params, np.random.default_rng(2))
    lines = camera.dead.all(1).sum() + camera.dead.all(0).sum()
    assert lines == 2
    assert (camera.gain[camera.dead] == 0).all()
    good = ~(camera.dead | camera.hot)
    expected = torch.full((2, 80, 96), 6.0)
    loss = 12 * (1 - math.exp(-0.5))
    counts = camera.record(expected, "uint8", seeded_generator(3))
    assert counts[:, good].mean() == pytest.approx(loss, rel=0.01)
    assert counts[:, good].var() == pytest.approx(loss * math.exp(-0.5), rel=0.05)  # binomial
    events = camera.count_events(expected, seeded_generator(3))
    assert len(events) == 24
    pixels = np.zeros((24, 80, 96))
    for number, places in enumerate(events):
        pixels[number, places[:, 0] // 4, places[:, 1] // 4] += 1
    assert pixels.max() == 1
    assert pixels[:, camera.hot].all()
    assert not pixels[:, camera.dead].any()
    assert pixels[:12, good].sum(0).mean() == pytest.approx(loss, rel=0.02)
    quarters = np.bincount(np.concatenate(events)[:, 1] % 4)
    assert quarters == pytest.approx(np.full(4, quarters.mean()), rel=0.03)
    with pytest.raises(InputError, match="readouts_per_frame"):
        Detector.build(STILL, np.random.default_rng(2)).count_events(expected, seeded_generator(1))


@pytest.mark.parametrize(
    ("changes", "angles"),
    [
        ({}, [0, 10, -10, 20, -20, 30, -30]),
        ({"tilt_group": 2}, [0, 10, 20, -10, -20, 30, -30]),
        ({"tilt_group": 3}, [0, 10, 20, 30, -10, -20, -30]),
        ({"tilt_start_deg": 9.0}, [10, 20, 0, 30, -10, -20, -30]),
        ({"tilt_start_deg": -20.0, "scheme": "bidirectional"}, [-20, -10, 0, 10, 20, 30, -30]),
        ({"scheme": "continuous"}, [-30, -20, -10, 0, 10, 20, 30]),
        ({"tilt_angles_deg": (5.0, -7.0, 41.5), "tilt_offset_deg": -50.0}, [5, -7, 41.5]),
    ],
)
def test_schemes_take_the_angles_in_their_order(changes, angles):
    params = STILL.replace(tilt_min_deg=-30.0, tilt_max_deg=30.0, tilt_step_deg=10.0, **changes)
    nominal, order = tilt_scheme(params)
    assert (np.diff(nominal) > 0).all()
    np.testing.assert_allclose(nominal[np.argsort(order)], angles)
    assert params.steepest_tilt_deg == max(abs(a + params.tilt_offset_deg) for a in angles)


@pytest.mark.parametrize("angles", [(1.0, 2.0, 1.0), (0.0, 85.0)])
def test_angles_that_cannot_be_taken_are_refused(angles):
    with pytest.raises(ValidationError, match="tilt_angles_deg"):
        STILL.replace(tilt_angles_deg=angles)


def test_drifts_run_with_the_order_of_acquisition_and_change_nothing_else():
    params = STILL.replace(tilt_min_deg=-40.0, tilt_max_deg=40.0, tilt_step_deg=10.0, stage_jitter_angstrom=50.0)
    drifting = params.replace(
        tilt_axis_drift_deg=2.0, magnification_drift=-0.01, defocus_drift_angstrom=800.0, phase_shift_deg=50.0,
        phase_shift_drift_deg=20.0, stage_walk_angstrom=30.0,
    )  # fmt: skip
    still, moved = (plan_acquisition(p, np.random.default_rng(4)) for p in (params, drifting))
    elapsed = still.order / 8.0
    np.testing.assert_allclose(moved.geometry.z_rot_deg - still.geometry.z_rot_deg, 2.0 * elapsed)
    np.testing.assert_allclose(moved.geometry.magnification, 1.0 - 0.01 * elapsed)
    np.testing.assert_allclose(moved.defocus_u_angstrom - still.defocus_u_angstrom, 800.0 * elapsed)
    np.testing.assert_allclose(moved.phase_shift_deg, 50.0 + 20.0 * elapsed)
    np.testing.assert_allclose(moved.geometry.y_tilt_deg, still.geometry.y_tilt_deg)
    walk = (moved.geometry.shifts_angstrom - still.geometry.shifts_angstrom)[np.argsort(still.order)]
    np.testing.assert_allclose(walk[0], 0.0, atol=1e-9)
    assert 10.0 < np.diff(walk, axis=0).std() < 60.0
    assert still.local_motion is None
    assert not still.phase_shift_deg.any()
    jittered = plan_acquisition(
        params.replace(tilt_axis_jitter_deg=0.5, magnification_jitter=0.002), np.random.default_rng(4)
    )
    assert 0.2 < (jittered.geometry.z_rot_deg - still.geometry.z_rot_deg).std() < 1.0
    assert 0.0008 < jittered.geometry.magnification.std() < 0.004


def test_dead_tilts_are_black_but_for_hot_pixels():
    params = STILL.replace(
        tilt_max_deg=20.0, tilt_step_deg=10.0, dead_tilts=(1,), hot_pixels=5, vesicles=0, beads=0,
        particles_per_species=(0, 0), image_size_px=(64, 64),
    )  # fmt: skip
    series = SimulatedSeries.build(params)
    assert np.count_nonzero(series.movie(1)) == 5
    assert series.movie(0).mean() > 10
    with pytest.raises(InputError, match="only tilts 0 to 2"):
        SimulatedSeries.build(params.replace(dead_tilts=(3,)))
