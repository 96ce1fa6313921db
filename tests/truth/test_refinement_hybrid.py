"""Series with one untilted image of ten times the dose, taken first: it counts for more, and refinement takes it as it is."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from eucentric.averaging.fourier_sums import FourierSums
from eucentric.averaging.params import ExtractParams
from eucentric.averaging.particle_images import prepare_series
from eucentric.averaging.solve_average import solve_average
from eucentric.geometry import Deformation
from eucentric.refinement.params import RefineParams
from refinement_scene import (
    BOX,
    PIXEL,
    blob_places,
    blob_volume,
    camera_of,
    imaged,
    perturbed,
    place_errors,
    refined,
    rms,
    scattered,
    tilt_series,
    with_poses,
)

COUNT, LOW, TIMES = 24, 1.5, 10.0


def _hybrid():
    """The untilted image with 15 e/A^2 first, the tilts with 1.5 each after it."""
    series = tilt_series(step=12.0, dose=LOW)
    tilts = []
    for tilt in series.tilts:
        first = tilt.acquisition == 0
        before = 0.0 if first else LOW * TIMES + LOW * (tilt.acquisition - 1)
        tilts.append(replace(tilt, dose=LOW * TIMES if first else LOW, pre_exposure=before))
    return series.with_tilts(tilts)


@pytest.fixture(scope="module")
def scene():
    series = _hybrid()
    positions, _ = scattered(COUNT)
    # all alike, so that the untilted image shows one plane of the map's transform
    return imaged(series, positions, np.tile(np.eye(3), (COUNT, 1, 1)), blob_places())


def _untilted(series) -> int:
    return next(i for i, t in enumerate(series.tilts) if t.acquisition == 0)


def _average(scene, keep):
    series = scene.series.with_tilts(()).replace(tilts=tuple(scene.series.tilts[i] for i in keep))
    source = prepare_series(scene.images[list(keep)], series, ExtractParams(box_size=BOX, image_weights=False))
    sums = FourierSums.empty(BOX, source.pixel_size_angstrom)
    batch = source.particles(scene.positions)
    sums.add(batch, scene.rotations)
    return batch, solve_average(*sums.finished())


def _likeness_in_plane(volume, truth, normal, band):
    """Correlation of transforms in the samples next to the plane across `normal`, within a band (1/A)."""
    n = len(volume)
    line = np.fft.fftfreq(n, PIXEL)
    z, y, x = np.meshgrid(line, line, line, indexing="ij")
    radius = np.sqrt(x**2 + y**2 + z**2)
    off = np.abs(x * normal[0] + y * normal[1] + z * normal[2]) * n * PIXEL
    inside = (off < 0.75) & (radius > band[0]) & (radius < band[1])
    a, b = (np.fft.fftn(v.double().numpy())[inside] for v in (volume, truth))
    return float((a * b.conj()).real.sum() / np.sqrt((np.abs(a) ** 2).sum() * (np.abs(b) ** 2).sum()))


def test_the_image_of_high_dose_has_its_own_larger_weight_and_betters_its_plane(scene):
    zero = _untilted(scene.series)
    everything = range(len(scene.series.tilts))
    batch, whole = _average(scene, everything)
    _, without = _average(scene, [i for i in everything if i != zero])
    weights = [float(batch.weight[torch.from_numpy(batch.tilt == t)].mean()) for t in everything]
    others = np.median([w for t, w in enumerate(weights) if t != zero])
    print(f"weight {weights[zero] / others:.1f} times that of others")
    # ten times as many electrons, and less damaged than what came after
    assert weights[zero] > 8.0 * others
    # shifted back to the corner, as transforms count their phases
    truth = blob_volume(scene.blobs, BOX, PIXEL)
    normal = camera_of(scene.series.tilts[zero].pose)[2]
    for band, least in (((1 / 40, 1 / 18), 0.005), ((1 / 18, 1 / 11), 0.02)):
        got = [_likeness_in_plane(v, truth, normal, band) for v in (whole, without)]
        print(f"{1 / band[0]:.0f} to {1 / band[1]:.0f} A: {got[1]:.3f} > {got[0]:.3f}")
        assert got[0] > got[1] + least


def test_refinement_takes_such_a_series_and_makes_it_better(scene):
    turned = imaged(scene.series, *scattered(COUNT), scene.blobs)
    rng = np.random.default_rng(2)
    n = len(turned.series.tilts)
    shifts = {name: rng.normal(0.0, 3.0, n) for name in ("x_shift_angstrom", "y_shift_angstrom")}
    start, particles = with_poses(turned.series, **shifts), perturbed(turned, 2.0, 1.0)
    done = refined(turned, start, particles, RefineParams(groups=("poses", "shifts", "defocus", "weights"), steps=2))
    zero = _untilted(start)
    before = np.abs(place_errors((start, Deformation(), particles[0]), turned))
    found = done.state.series, done.state.deformation, done.state.particles[0].positions_angstrom
    after = np.abs(place_errors(found, turned))
    print(f"places {rms(before):.2f} > {rms(after):.2f} A, untilted {rms(before[zero]):.2f} > {rms(after[zero]):.2f} A")
    assert rms(after) < 0.5 * rms(before)
    assert rms(after[zero]) <= 1.1 * rms(after)
    change = [
        t.ctf.defocus_angstrom - u.ctf.defocus_angstrom
        for t, u in zip(done.state.series.tilts, start.tilts, strict=True)
    ]
    assert rms(change) < 150.0
    scales = np.array([t.signal_scale for t in done.state.series.tilts])
    assert (np.abs(scales - 1.0) < 0.3).all()
