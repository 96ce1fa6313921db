"""Defocus, astigmatism, hand and plane of tilt series whose truth is known."""

import json
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import tifffile
import torch

from eucentric.ctf import CtfParams, CtfResult, diagnose_geometry, estimate_image_ctf, estimate_series_ctf, solve_series
from eucentric.ctf.acquisition_order import AcquisitionOrder
from eucentric.ctf.fit_inclination import Inclination
from eucentric.ctf.tile_spectra import measure_series_spectra
from eucentric.geometry import TiltGeometry
from eucentric.models import Optics, Specimen

OPTICS = Optics(voltage_kv=300.0, spherical_aberration_mm=2.7, amplitude_contrast=0.07)


@dataclass(frozen=True)
class Scene:
    images: torch.Tensor
    geometry: TiltGeometry
    defocus: np.ndarray
    astigmatism: float
    angle: float


@cache
def polar_frequencies(shape, pixel_size):
    """Square (1/m^2) and direction of the frequencies of an rfft."""
    fy = np.fft.fftfreq(shape[0], pixel_size * 1e-10)[:, None]
    fx = np.fft.rfftfreq(shape[1], pixel_size * 1e-10)[None]
    return fx**2 + fy**2, np.arctan2(fy, fx)


def contrast_transfer(shape, pixel_size, defocus, astigmatism, angle, phase_deg=0.0):
    """-sin chi written out anew with numpy, in volts and metres where the product uses kilovolts and A."""
    volts, metre = 300e3, 1e10
    planck, electron, mass, light = 6.62607015e-34, 1.602176634e-19, 9.1093837015e-31, 2.99792458e8
    wavelength = planck / math.sqrt(2 * mass * electron * volts * (1 + electron * volts / (2 * mass * light**2)))
    squared, direction = polar_frequencies(shape, pixel_size)
    local = (defocus + 0.5 * astigmatism * np.cos(2 * (direction - np.deg2rad(angle)))) / metre
    chi = np.pi * wavelength * squared * local - 0.5 * np.pi * 2.7e-3 * wavelength**3 * squared**2 + np.arcsin(0.07)
    chi += np.deg2rad(phase_deg)
    return -np.sin(chi), squared * metre**-2


def tilted_series(
    *,
    shape,
    pixel_size,
    tilts,
    axis,
    hand,
    defocus,
    astigmatism=600.0,
    angle=25.0,
    noise=3.0,
    inclination=0.0,
    shift=(0.0, 0.0),
    seed=1,
    phase_deg=0.0,
    height=0.0,
    bend=0.0,
) -> Scene:
    """White noise through the CTF of the height under each pixel, plus white noise of `noise` standard deviations.

    The tilt axis runs at `axis` + 90 degrees from x; the specimen plane rises by -tan(tilt) across it. `astigmatism` and
    `phase_deg` may be one number a tilt; `height` lifts all matter along the specimen's z; a `bend` lifts the ends of the
    tilt axis by so many A in camera z.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    x = (x - shape[1] // 2) * pixel_size - shift[0]
    y = (y - shape[0] // 2) * pixel_size - shift[1]
    across = x * math.cos(math.radians(axis)) + y * math.sin(math.radians(axis))
    centres = defocus + rng.normal(0.0, 800.0, len(tilts))
    along = (-x * math.sin(math.radians(axis)) + y * math.cos(math.radians(axis))) / (0.5 * shape[0] * pixel_size)
    images = []
    each = np.broadcast_to(astigmatism, len(tilts)), np.broadcast_to(phase_deg, len(tilts))
    for tilt, centre, strength, shifted in zip(tilts, centres, *each, strict=True):
        offset = hand * (-math.tan(math.radians(tilt + inclination)) * across + bend * along**2)
        offset = offset + hand * height / math.cos(math.radians(tilt))
        levels = np.linspace(offset.min(), offset.max() + 1e-3, 2 + int(np.ptp(offset) / 150.0))
        nearest = np.rint((offset - levels[0]) / (levels[1] - levels[0])).astype(int)
        spectrum = np.fft.rfft2(rng.normal(size=shape))
        image = np.zeros(shape)
        for level, value in enumerate(levels):
            here = nearest == level
            if here.any():
                ctf, squared = contrast_transfer(shape, pixel_size, centre + value, strength, angle, shifted)
                image[here] = np.fft.irfft2(spectrum * ctf * np.exp(-25.0 * squared), s=shape)[here]
        images.append(100.0 + image + noise * rng.normal(size=shape))
    return Scene(
        images=torch.from_numpy(np.stack(images).astype(np.float32)),
        geometry=TiltGeometry.build(tilts, z_rot_deg=axis, shifts_angstrom=shift),
        defocus=centres,
        astigmatism=astigmatism,
        angle=angle,
    )


def errors(result: CtfResult, truth: np.ndarray) -> np.ndarray:
    return np.array([f.defocus_angstrom for f in result.fits]) - truth


@pytest.mark.parametrize(
    ("axis", "hand", "shift", "shape"),
    [
        (-7.0, -1.0, (0.0, 0.0), (512, 512)),
        (84.0, -1.0, (300.0, -200.0), (501, 640)),
        (84.0, 1.0, (-250.0, 150.0), (512, 448)),
    ],
)
def test_defocus_astigmatism_and_hand_of_a_noisy_series(axis, hand, shift, shape):
    scene = tilted_series(
        shape=shape,
        pixel_size=4.0,
        tilts=np.arange(-60, 61, 10.0),
        axis=axis,
        hand=hand,
        defocus=34000.0,
        noise=1.5,
        shift=shift,
    )
    got = estimate_series_ctf(
        scene.images, scene.geometry, pixel_size=4.0, optics=OPTICS, hand=-hand, params=CtfParams(thickness=False)
    )
    wrong = errors(got, scene.defocus)
    sigma = np.array([f.defocus_sigma_angstrom for f in got.fits])
    assert got.hand == hand
    assert got.hand_test.decided
    assert got.failed == ()
    assert any("hand" in caveat for caveat in got.caveats)
    # the claimed uncertainty is 60 to 90 A: four of them for the worst of 13 tilts, and chi-square of 13 for all
    assert np.abs(wrong).max() < 4 * sigma.max()
    assert 0.4 < np.sqrt(np.mean((wrong / sigma) ** 2)) < 1.5
    strength = np.array([f.defocus_u_angstrom - f.defocus_v_angstrom for f in got.fits])
    angle = np.array([f.astigmatism_angle_deg for f in got.fits])
    # shared by 13 tilts: sigma 90 / sqrt(13) A of each half difference's component, times 2 sqrt(2)
    assert abs(strength.mean() - 600.0) < 3 * 71.0
    assert np.abs(angle - 25.0).mean() < 3 * math.degrees(0.5 * 71.0 / 600.0)
    assert min(f.score for f in got.fits) > 0.6


def test_a_hand_that_is_set_goes_before_the_images():
    scene = tilted_series(
        shape=(384, 384),
        pixel_size=5.0,
        tilts=np.arange(-50, 51, 12.5),
        axis=84.0,
        hand=-1.0,
        defocus=34000.0,
        noise=0.7,
    )
    evidence = []
    for hand in (1, -1):
        params = CtfParams(hand=hand, thickness=False, inclination=False)
        got = estimate_series_ctf(scene.images, scene.geometry, pixel_size=5.0, optics=OPTICS, params=params)
        assert got.hand == hand
        assert got.hand_test.decided
        assert got.hand_test.hand == -1.0
        assert any("--hand auto" in caveat for caveat in got.caveats) == (hand == 1)
        evidence.append(got.evidence[np.abs(scene.geometry.y_tilt_deg) > 35].mean())
    assert evidence[0] < evidence[1] - 1.0  # a wrong gradient smears the rings of steep tilts


@pytest.mark.parametrize(("pixel_size", "defocus"), [(5.0, 20000.0), (4.0, 76000.0), (2.2, 12000.0)])
def test_other_pixel_sizes_and_defocus(pixel_size, defocus):
    scene = tilted_series(
        shape=(512, 512),
        pixel_size=pixel_size,
        tilts=np.arange(-54, 55, 12.0),
        axis=20.0,
        hand=-1.0,
        defocus=defocus,
        noise=1.5,
    )
    params = CtfParams(thickness=False)
    got = estimate_series_ctf(scene.images, scene.geometry, pixel_size=pixel_size, optics=OPTICS, params=params)
    sigma = np.array([f.defocus_sigma_angstrom for f in got.fits])
    assert (np.abs(errors(got, scene.defocus)) < 4 * sigma.max()).all()
    assert sigma.max() < 250.0


@pytest.mark.slow
@pytest.mark.parametrize("hand", [-1.0, 1.0])
def test_inclined_specimen_is_found_and_does_not_disturb_the_hand(hand):
    scene = tilted_series(
        shape=(1024, 1024),
        pixel_size=4.0,
        tilts=np.arange(-48, 49, 12.0),
        axis=84.0,
        hand=hand,
        defocus=34000.0,
        noise=1.5,
        inclination=9.0,
    )
    got = estimate_series_ctf(scene.images, scene.geometry, pixel_size=4.0, optics=OPTICS)
    assert got.hand == hand
    # the rings alone know both angles to 0.4 degrees here; the stated sigma also holds the scatter of real specimens
    assert abs(got.inclination_y_deg - 9.0) < 1.5
    assert abs(got.inclination_x_deg) < 1.5
    assert np.median(np.abs(errors(got, scene.defocus))) < 100.0


def test_a_plane_measured_before_is_joined_with_the_rings():
    """A small field cannot tell its plane: what the alignment knows goes in, and keeps the hand from choosing another."""
    scene = tilted_series(
        shape=(384, 384),
        pixel_size=4.0,
        tilts=np.arange(-40, 41, 20.0),
        axis=84.0,
        hand=-1.0,
        defocus=34000.0,
        noise=1.5,
        inclination=15.0,
    )
    known = Specimen(pre_tilt_x_sigma_deg=1.0, pre_tilt_y_sigma_deg=0.3, x_tilt_deg=0.2, y_tilt_deg=14.9)
    options = {"pixel_size": 4.0, "optics": OPTICS, "params": CtfParams(thickness=False)}
    got = estimate_series_ctf(scene.images, scene.geometry, specimen=known, **options)
    assert got.hand == -1.0
    assert got.inclination_y_deg == pytest.approx(14.9, abs=0.4)
    assert got.inclination_y_sigma_deg == pytest.approx(0.3, abs=0.05)
    assert abs(got.inclination_x_deg) < 1.5
    assert np.median(np.abs(errors(got, scene.defocus))) < 150.0
    unsure = Specimen(y_tilt_deg=40.0)  # nothing was measured: a default is no knowledge
    alone = estimate_series_ctf(scene.images, scene.geometry, specimen=unsure, **options)
    assert alone.inclination_y_sigma_deg > 3.0


def test_narrow_tilt_range_keeps_the_given_hand_and_says_so():
    scene = tilted_series(
        shape=(512, 512), pixel_size=4.0, tilts=[-3.0, 0.0, 3.0], axis=84.0, hand=-1.0, defocus=34000.0, noise=1.5
    )
    params = CtfParams(thickness=False)
    for given in (1.0, -1.0):
        got = estimate_series_ctf(
            scene.images, scene.geometry, pixel_size=4.0, optics=OPTICS, hand=given, params=params
        )
        assert got.hand == given
        assert not got.hand_test.decided
        assert any("do not tell the hand" in caveat for caveat in got.caveats)


def test_untilted_image():
    scene = tilted_series(
        shape=(1024, 960),
        pixel_size=2.5,
        tilts=[0.0],
        axis=0.0,
        hand=1.0,
        defocus=22000.0,
        astigmatism=1500.0,
        angle=-70.0,
        noise=1.5,
    )
    got = estimate_image_ctf(scene.images[0], pixel_size=2.5, optics=OPTICS)
    assert got.fit.defocus_angstrom == pytest.approx(scene.defocus[0], abs=4 * got.fit.defocus_sigma_angstrom)
    assert got.fit.defocus_sigma_angstrom < 100.0
    assert got.fit.defocus_u_angstrom - got.fit.defocus_v_angstrom == pytest.approx(1500.0, abs=200.0)
    assert got.fit.astigmatism_angle_deg == pytest.approx(-70.0, abs=4.0)
    assert got.curves.spectrum.shape == got.curves.quality.shape == (1, len(got.curves.frequency))


@pytest.mark.parametrize("phase", [55.0, 110.0])
def test_phase_shift_of_a_phase_plate(phase):
    shape, tilts = (512, 512), np.arange(-40, 41, 20.0)
    scene = tilted_series(
        shape=shape, pixel_size=2.5, tilts=tilts, axis=84.0, hand=-1.0, defocus=18000.0, noise=0.5, phase_deg=phase
    )
    params = CtfParams(phase_shift="fit", thickness=False, inclination=False)
    got = estimate_series_ctf(scene.images, scene.geometry, pixel_size=2.5, optics=OPTICS, params=params)
    shifts = np.array([f.phase_shift_deg for f in got.fits])
    assert np.abs(shifts - phase).max() < 15.0
    assert abs(shifts.mean() - phase) < 8.0
    assert (got.phase_shift_sigma_deg > 0).all()
    assert np.median(np.abs(errors(got, scene.defocus))) < 200.0
    params = params.replace(phase_shift="off")
    off = estimate_series_ctf(scene.images, scene.geometry, pixel_size=2.5, optics=OPTICS, params=params)
    assert {f.phase_shift_deg for f in off.fits} == {0.0}
    assert np.abs(errors(off, scene.defocus)).mean() > 2 * np.abs(errors(got, scene.defocus)).mean()


def test_astigmatism_drifts_in_the_order_of_acquisition():
    """In the order of tilt the same course would jump to and fro: the prior in the true order follows it better."""
    tilts = np.arange(-36, 37, 6.0)
    acquisition = np.argsort(np.argsort(np.abs(tilts) + 0.1 * (tilts < 0)))
    truth = 200.0 + 60.0 * acquisition
    scene = tilted_series(
        shape=(512, 512),
        pixel_size=4.0,
        tilts=tilts,
        axis=84.0,
        hand=-1.0,
        defocus=34000.0,
        noise=1.5,
        astigmatism=truth,
    )
    params = CtfParams(thickness=False, inclination=False)
    wrong = []
    for order in (acquisition, (acquisition * 7) % len(tilts)):
        got = estimate_series_ctf(
            scene.images, scene.geometry, pixel_size=4.0, optics=OPTICS, params=params, acquisition=order
        )
        found = np.array([f.defocus_u_angstrom - f.defocus_v_angstrom for f in got.fits])
        wrong.append(np.sqrt(np.mean((found - truth) ** 2)))
    assert wrong[0] < 0.8 * wrong[1]
    assert wrong[0] < 150.0


def test_height_of_the_matter_goes_into_steep_tilts_unless_told():
    tilts = np.arange(-60, 61, 15.0)
    scene = tilted_series(
        shape=(512, 512), pixel_size=4.0, tilts=tilts, axis=84.0, hand=-1.0, defocus=34000.0, noise=1.0, height=800.0
    )
    params = CtfParams(thickness=False, inclination=False)
    arguments = {"pixel_size": 4.0, "optics": OPTICS, "params": params}
    told = estimate_series_ctf(scene.images, scene.geometry, **arguments, specimen_height_angstrom=800.0)
    left = estimate_series_ctf(scene.images, scene.geometry, **arguments)
    assert np.median(np.abs(errors(told, scene.defocus))) < 120.0
    expected = -800.0 / np.cos(np.deg2rad(tilts))
    assert np.median(np.abs(errors(left, scene.defocus) - expected)) < 120.0


@pytest.mark.slow
@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_pixel_size_wrong_by_two_is_said(scale):
    scene = tilted_series(
        shape=(640, 640),
        pixel_size=3.0,
        tilts=np.arange(-50, 51, 10.0),
        axis=84.0,
        hand=-1.0,
        defocus=30000.0,
        noise=0.7,
    )
    wide = CtfParams(
        minimum_defocus_angstrom=3000.0, maximum_defocus_angstrom=200000.0, tile_angstrom=512.0, thickness=False
    )
    geometry = scene.geometry
    right = estimate_series_ctf(scene.images, geometry, pixel_size=3.0, optics=OPTICS, params=wide)
    assert right.likely_pixel_scale == 1.0
    got = estimate_series_ctf(scene.images, geometry, pixel_size=3.0 / scale, optics=OPTICS, params=wide)
    assert got.likely_pixel_scale == scale
    assert any("--pixel-size" in caveat for caveat in got.caveats)


def test_a_plane_too_uncertain_to_be_used_speaks_for_no_other_pixel_size(monkeypatch):
    scene = tilted_series(
        shape=(384, 384),
        pixel_size=4.0,
        tilts=np.arange(-20, 21, 4.0),
        axis=84.0,
        hand=-1.0,
        defocus=30000.0,
        noise=0.7,
        inclination=35.0,
    )
    uncertain = Inclination(x_deg=0.0, y_deg=35.0, x_sigma_deg=30.0, y_sigma_deg=30.0, significant=False)
    monkeypatch.setattr(solve_series, "fit_inclination", lambda *_: uncertain)
    params = CtfParams(tile_angstrom=512.0, thickness=False)
    spectra = measure_series_spectra(scene.images, 4.0, params)
    order = AcquisitionOrder.build(np.arange(len(scene.geometry)), scene.images.device)
    view = solve_series.View(geometry=scene.geometry, order=order, height_angstrom=0.0)
    start = solve_series.best_start(spectra, view, -1.0, OPTICS, params, None)
    solution = solve_series.solve_series(spectra, view, -1.0, start, OPTICS, params)
    assert solve_series.likely_pixel_scale(spectra, solution, view, -1.0, OPTICS, params) == 1.0


@pytest.mark.slow
def test_diagnosis_finds_a_turned_axis_and_a_bend():
    scene = tilted_series(
        shape=(768, 768),
        pixel_size=4.0,
        tilts=np.arange(-45, 46, 15.0),
        axis=84.0,
        hand=-1.0,
        defocus=34000.0,
        noise=0.7,
        bend=3500.0,
    )
    turned = scene.geometry.replace(z_rot_deg=scene.geometry.z_rot_deg - 7.0)
    params = CtfParams(thickness=False, inclination=False)
    result = estimate_series_ctf(scene.images, turned, pixel_size=4.0, optics=OPTICS, params=params)
    got = diagnose_geometry(turned, result, optics=OPTICS)
    steep = np.abs(scene.geometry.y_tilt_deg) > 20
    assert np.abs(got.tilt_axis_deg - 84.0)[steep].max() < 4.0
    assert got.axis_offset_deg == pytest.approx(7.0, abs=2.0)
    assert np.abs(got.tilt_angle_deg - np.abs(scene.geometry.y_tilt_deg))[steep].max() < 4.0
    assert any("axis" in finding for finding in got.findings)
    along = got.places_angstrom @ [-math.sin(math.radians(84.0)), math.cos(math.radians(84.0))]
    ends, middle = np.abs(along) > 700, np.abs(along) < 400
    # matter at the ends of the axis lies higher by the bend of the cells' middles
    rise = 3500.0 * (np.mean(along[ends] ** 2) - np.mean(along[middle] ** 2)) / 1536.0**2
    assert got.bend_angstrom[ends].mean() - got.bend_angstrom[middle].mean() == pytest.approx(rise, rel=0.35)
    assert any("plane" in finding for finding in got.findings)


@pytest.mark.slow
@pytest.mark.parametrize(("turn", "bend"), [(0.0, 0.0), (-8.0, 0.0), (0.0, 3500.0)])
def test_diagnosis_tells_a_turned_axis_from_a_bend_and_both_from_a_flat_specimen(turn, bend):
    scene = tilted_series(
        shape=(768, 768),
        pixel_size=4.0,
        tilts=np.arange(-45, 46, 15.0),
        axis=84.0,
        hand=-1.0,
        defocus=34000.0,
        noise=0.7,
        bend=bend,
        seed=3,
    )
    geometry = scene.geometry.replace(z_rot_deg=scene.geometry.z_rot_deg + turn)
    params = CtfParams(thickness=False)
    result = estimate_series_ctf(scene.images, geometry, pixel_size=4.0, optics=OPTICS, params=params)
    got = diagnose_geometry(geometry, result, optics=OPTICS)
    assert abs(got.axis_offset_deg + turn) < max(4.0 * got.axis_offset_sigma_deg, 1.0)
    assert ["axis" in f for f in got.findings if "axis" in f] == [True] * (turn != 0.0)
    assert ["bent" in f for f in got.findings if "bent" in f] == [True] * (bend != 0.0)


def practice_sums(folder: Path, name: str) -> tuple[torch.Tensor, TiltGeometry, dict]:
    """Plain sums of the frames, each moved back by its whole-pixel true motion."""
    truth = json.loads((folder / f"{name}_truth.json").read_text())
    gain = mrcfile.read(folder / "gain.mrc").astype(np.float32)
    pixel = truth["spec"]["px"]
    images = []
    for movie, motion in zip(truth["names"], truth["motion"], strict=True):
        frames = tifffile.imread(folder / "frames" / movie)[:, ::-1].astype(np.float32) * gain
        moves = [(-round(y / pixel), -round(x / pixel)) for x, y in motion]
        images.append(sum(np.roll(frame, move, (0, 1)) for frame, move in zip(frames, moves, strict=True)))
    geometry = TiltGeometry.build(truth["true_tilt"], z_rot_deg=truth["spec"]["axis"], shifts_angstrom=truth["shifts"])
    return torch.from_numpy(np.stack(images)), geometry, truth


@pytest.mark.slow
@pytest.mark.parametrize("name", ["TS_01", "TS_02", "TS_03"])
@pytest.mark.parametrize("offset", [0.0, -9.0])
def test_practice_series(shared_data, name, offset):
    """Measured with true tilts: medians of 46, 40 and 61 A up to 30 degrees and of 37, 64 and 75 A beyond.

    Nodes lie at 4.9 A, where pixels of 4 A end at 8."""
    images, geometry, truth = practice_sums(shared_data / "practice", name)
    geometry = geometry.replace(y_tilt_deg=geometry.y_tilt_deg + offset)
    got = estimate_series_ctf(images, geometry, pixel_size=4.0, optics=Optics(), hand=1.0, acquisition=truth["acq"])
    wrong = np.abs(errors(got, (np.array(truth["du"]) + np.array(truth["dv"])) / 2))
    tilt = np.abs(truth["true_tilt"])
    good = np.array([t not in truth["spec"]["bad_tilts"] for t in range(len(tilt))])
    assert got.hand == truth["spec"]["hand"]
    assert got.hand_test.decided
    assert got.likely_pixel_scale == 1.0
    assert got.thickness is not None
    assert not got.thickness.determined
    assert got.failed == tuple(truth["spec"]["bad_tilts"])
    assert np.median(wrong[(tilt <= 30) & good]) < 100.0
    assert np.median(wrong[(tilt > 30) & good]) < 120.0
    assert wrong[good].max() < 600.0
    fits = [f for f, g in zip(got.fits, good, strict=True) if g]
    assert np.mean([f.defocus_u_angstrom - f.defocus_v_angstrom for f in fits]) == pytest.approx(400.0, abs=120.0)
    # 200 A of half difference, known to 22 A (sqrt 2 x 100 A a tilt, 41 tilts): 3.2 degrees, three of them
    assert np.mean([f.astigmatism_angle_deg for f in fits]) == pytest.approx(30.0, abs=9.6)
