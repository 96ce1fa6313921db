"""What refinement finds, in other programs' files: their own equations put particles where a deforming specimen has moved them."""

import math
from dataclasses import replace

import numpy as np
import pytest
import starfile
import torch
from exchange_phantom import SIZES_XY, phantom_series, phantom_volume, points, seen, seen_moving
from test_exchange_relion import by_angle, by_relion, tables
from test_exchange_warp import warp_sees

from eucentric.errors import InputError
from eucentric.geometry.volume_warp import VolumeWarp
from eucentric.io.exchange.formats import GEOMETRY_FORMATS, read_geometry, write_geometry
from eucentric.io.exchange.records import Given
from eucentric.io.exchange.relion_trajectories import odd_zernike, write_trajectories
from eucentric.models import Optics, ParticleSet
from eucentric.optics.odd_aberrations import odd_aberration_2d

PIXEL = 2.5


def refined(volume: VolumeWarp | None = None, **wishes):
    return replace(phantom_series(**wishes), volume=phantom_volume() if volume is None else volume)


@pytest.mark.parametrize(("size", "excluded"), [(SIZES_XY[0], True), (SIZES_XY[3], False)])
def test_warp_moves_points_as_the_specimen_moves(tmp_path, size, excluded):
    given = refined(size_xy=size, warp=True, magnification=True, excluded=excluded)
    made = write_geometry(tmp_path, [given], "warp")
    theirs = warp_sees(tmp_path / "TS_1.xml", points())[..., :2] / PIXEL
    if excluded:  # rows of images that are left out
        theirs = np.delete(theirs, (3, 10), axis=0)
    ours = seen_moving(given)[..., :2]
    assert np.abs(theirs - ours).max() * PIXEL < 0.15
    assert np.sqrt(np.mean((theirs - ours) ** 2)) * PIXEL < 0.05
    assert np.abs(ours - seen(given)[..., :2]).max() * PIXEL > 2  # there is something to be held
    assert any("GridVolumeWarp on" in loss for loss in made.losses)


def test_warp_brings_back_what_was_at_mid_height(tmp_path):
    """Our importer takes the deformation over as seen at half the height."""
    given = refined()
    write_geometry(tmp_path, [given], "warp")
    _, (back,) = read_geometry(tmp_path, Given(image_shape=given.series.image_shape), "warp")
    flat = points() * [1.0, 1.0, 0.0]
    inside = np.all((seen(given, flat)[..., :2] > 0) & (seen(given, flat)[..., :2] < np.array([95, 79])), axis=-1)
    away = np.abs(seen(back, flat) - seen_moving(given, flat))[..., :2][inside] * PIXEL
    assert np.sqrt(np.mean(away**2)) < 0.1


def test_warp_weights_images_as_they_were_measured(tmp_path):
    given = phantom_series()
    tilts = [
        replace(t, signal_scale=1.0 - 0.05 * i, b_factor_angstrom2=4.0 * i) for i, t in enumerate(given.series.tilts)
    ]
    made = write_geometry(tmp_path, [replace(given, series=given.series.with_tilts(tilts))], "warp")
    from xml.etree import ElementTree

    root = ElementTree.fromstring((tmp_path / "TS_1.xml").read_bytes())

    def nodes(name: str) -> list[float]:
        return [float(node.get("Value")) for node in root.find(name)]

    # GetCTFParamsForOneTilt: Scale and Bfactor of an image are these grids' values, exp(B k^2 / 4)
    assert np.allclose(nodes("GridDoseWeights"), [t.signal_scale for t in tilts])
    assert np.allclose(nodes("GridDoseBfacs"), [-4.0 * t.pre_exposure - t.b_factor_angstrom2 for t in tilts])
    assert any("GridDoseWeights" in loss for loss in made.losses)
    write_geometry(tmp_path / "plain", [given], "warp")
    plain = ElementTree.fromstring((tmp_path / "plain" / "TS_1.xml").read_bytes())
    assert len(plain.find("GridDoseWeights")) == 1  # Warp's own cosine


@pytest.mark.parametrize("size_xy", SIZES_XY)
def test_relion_trajectories_move_particles_as_the_specimen_moves(tmp_path, size_xy):
    ours = refined(size_xy=size_xy, warp=True, magnification=True)
    particles = ParticleSet.build("TS_1", points())
    write_trajectories(tmp_path / "motion.star", particles, {"TS_1": ours})
    write_geometry(tmp_path, [replace(ours, volume=None)], "relion5")
    motion = starfile.read(tmp_path / "motion.star", always_dict=True)
    assert int(next(iter(motion["general"].to_numpy().ravel()))) == len(points())
    listing, ascending = tables("relion5", tmp_path)
    rows = next(iter(starfile.read(tmp_path / listing["rlnTomoTiltSeriesStarFile"], always_dict=True).values()))
    rows = rows.to_dict("records")
    assert np.all(np.diff([r["rlnMicrographPreExposure"] for r in rows]) > 0)
    # getTrajectoryInPixels: position + shift of the row of the series' table
    shifts = np.stack([motion[f"TS_1/{n}"].to_numpy() for n in range(1, len(points()) + 1)], axis=1)
    for row, moved in zip(rows, shifts, strict=True):
        row["moved"] = points() + moved
    places = np.array([row["moved"] for row in by_angle(rows)])
    theirs = by_relion(listing, ascending, size_xy, places)[..., :2]
    wanted = seen_moving(ours)[..., :2]
    inside = np.all((wanted > 0) & (wanted < np.array(size_xy) - 1), axis=-1)
    assert inside.sum() > 20
    assert np.abs(theirs - wanted)[inside].max() * PIXEL < 0.06
    assert np.abs(seen(ours)[..., :2] - wanted)[inside].max() * PIXEL > 2


def test_trajectories_without_doses_are_refused(tmp_path):
    ours = refined()
    tilts = [replace(t, pre_exposure=math.nan) for t in ours.series.tilts]
    bare = replace(ours, series=ours.series.with_tilts(tilts))
    with pytest.raises(InputError, match="dose"):
        write_trajectories(tmp_path / "motion.star", ParticleSet.build("TS_1", points()), {"TS_1": bare})


def relion_phase(coefficients: list[float], kx: np.ndarray, ky: np.ndarray) -> np.ndarray:
    """Zernike::oddIndexToMN and Zernike::Z_cart, the radius in 1/A (`AberrationsCache`)."""
    radius, angle = np.hypot(kx, ky), np.arctan2(ky, kx)
    total = np.zeros_like(radius)
    for i, c in enumerate(coefficients):
        k = int((math.sqrt(1 + 4 * i) - 1.0) / 2.0)
        n = 2 * k + 1
        m = 2 * (i - k * (k + 1)) - n
        a = abs(m)
        radial = sum(
            (-1) ** s
            * math.factorial(n - s)
            / (math.factorial(s) * math.factorial((n + a) // 2 - s) * math.factorial((n - a) // 2 - s))
            * radius ** (n - 2 * s)
            for s in range((n - a) // 2 + 1)
        )
        total += c * radial * (np.cos(m * angle) if m >= 0 else np.sin(-m * angle))
    return total


def test_relion_takes_beam_tilt_and_trefoil_as_we_mean_them():
    optics = Optics(beam_tilt_mrad=(0.3, -0.2), trefoil_rad_angstrom3=(40.0, -15.0))
    numbers = [float(v) for v in odd_zernike(optics).strip("[]").split(",")]
    k = np.linspace(-0.25, 0.25, 21)
    kx, ky = np.meshgrid(k, k)
    ours = odd_aberration_2d(torch.from_numpy(k)[:, None], torch.from_numpy(k)[None], optics).numpy()
    np.testing.assert_allclose(relion_phase(numbers, kx, ky), ours, atol=1e-6)
    assert np.abs(ours).max() > 0.5


@pytest.mark.parametrize("name", ["imod", "relion5", "relion4", "aretomo"])
def test_what_lies_at_mid_height_is_right_everywhere_else(tmp_path, name):
    """A specimen that moves as a whole is held exactly, and one that shears with height not, which is told."""
    whole = VolumeWarp.build(np.full((1, 1, 1, 1, 3), 2.0), [10.0], (200.0, 200.0, 200.0))
    sheared = np.zeros((1, 2, 1, 1, 3))
    sheared[0, :, 0, 0, 1] = -6.0, 6.0  # y by 12 A over the height of 160 A
    still = write_geometry(tmp_path / "whole", [refined(whole)], name)
    assert not any("mid-height" in loss for loss in still.losses)
    made = write_geometry(
        tmp_path / "sheared", [refined(VolumeWarp.build(sheared, [10.0], (160.0, 240.0, 240.0)))], name
    )
    (told,) = [loss for loss in made.losses if "mid-height" in loss]
    away = float(told.rpartition(" that is ")[2].partition(" A rms")[0])
    # images show y as it is; heights at 5 places from -6 to 6 A, those inside of the images
    assert 0.6 * np.sqrt(18.0) < away < 1.2 * np.sqrt(18.0)
    assert not GEOMETRY_FORMATS[name].holds_volume
