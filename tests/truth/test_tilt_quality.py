"""Which tilts are left out, and that good ones are not."""

import importlib.util
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from eucentric.alignment.coarse import CoarseAlignment, align_coarsely
from eucentric.alignment.find_dark_tilts import find_dark_tilts, fit_intensity
from eucentric.alignment.judge_tilts import field_overlap, find_unmatched, judge_tilts
from eucentric.errors import ShapeError
from eucentric.geometry import TiltGeometry

COUNTS = 20000.0
SIZE = 192


@cache
def slab(axis: float = 84.0) -> tuple[torch.Tensor, TiltGeometry]:
    """As `benchmarks/alignment_speed.py` makes it."""
    path = Path(__file__).parents[2] / "benchmarks" / "alignment_speed.py"
    spec = importlib.util.spec_from_file_location("alignment_speed", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    images, geometry = module.slab_series(SIZE, thickness=800.0, axis_deg=axis, noise=0.02, crowding=4.0)
    return (images - images.mean((-2, -1), keepdim=True))[::2].contiguous(), geometry[::2]


@pytest.fixture(scope="module")
def series() -> tuple[torch.Tensor, np.ndarray]:
    """Counts behind a slab of 0.4 mean free paths, pre-tilted by no angle."""
    images, true = slab()
    path = 1.0 / np.cos(np.deg2rad(true.y_tilt_deg))
    level = torch.from_numpy(COUNTS * np.exp(-0.4 * path)).float()[:, None, None]
    clean = level * (1.0 + 0.1 * images / images.std((-2, -1), keepdim=True)).clamp(min=0.1)
    return torch.poisson(clean, generator=torch.Generator().manual_seed(1)), true.y_tilt_deg


@pytest.fixture(scope="module")
def coarse(series) -> CoarseAlignment:
    return align_coarsely(*series, 10.0, axis_deg=84.0)


def test_good_tilts_stay(series, coarse):
    found = judge_tilts(*series, pixel_size=10.0, coarse=coarse)
    assert found.reasons == {}
    assert found.kept == list(range(len(series[1])))
    assert found.caveats == ()
    np.testing.assert_allclose(found.level, 1.0, atol=0.05)
    assert float(found.overlap.min()) > 0.7


def test_every_kind_of_bad_image_has_its_reason(series):
    images, tilts = series
    bad = images.clone()
    bad[1, 3, 4] = float("inf")
    bad[4] = 7.0
    bad[7] = bad[7].clamp(max=float(bad[7].quantile(0.8)))
    bad[10, :, :120] *= 0.1
    bad[13] = bad[15]
    # drifted along x by 90 A
    spectrum = torch.fft.rfft2(images[17]) * torch.sinc(torch.fft.rfftfreq(SIZE) * 9.0)
    drifted = torch.fft.irfft2(spectrum, s=(SIZE, SIZE)).clamp(min=0.0)
    bad[17] = torch.poisson(drifted, generator=torch.Generator().manual_seed(2))
    found = judge_tilts(bad, tilts, pixel_size=10.0)
    words = {i: reason.split(":")[0] for i, reason in found.reasons.items()}
    assert words == {1: "broken", 4: "empty", 7: "saturated", 10: "dark", 15: "copy", 17: "drifted"}
    assert "1 of its" in found.reasons[1]
    assert f"{tilts[13]:.1f} degrees" in found.reasons[15]
    # x lies between two of the sectors
    assert any(f"along {angle} degrees" in found.reasons[17] for angle in (15, 165))


def test_all_dark(series):
    images, tilts = series
    found = judge_tilts(torch.zeros_like(images), tilts, pixel_size=10.0)
    assert found.kept == []
    assert found.caveats == ("No image is fit for use.",)


def test_an_image_of_something_else_matches_no_neighbour(series):
    images, tilts = series
    other = slab()[0][5].flip(0)
    images = images.clone()
    images[8] = images[8].mean() * (1.0 + 0.1 * other / other.std())
    found = judge_tilts(images, tilts, pixel_size=10.0, coarse=align_coarsely(images, tilts, 10.0, axis_deg=84.0))
    assert list(found.reasons) == [8]
    assert found.reasons[8].startswith("no match")


def test_an_image_off_the_field_is_named():
    tilts = np.arange(-60.0, 61.0, 3.0)
    shifts = np.random.default_rng(1).normal(0.0, 100.0, (len(tilts), 2))
    shifts[30] = (0.0, 1700.0)
    geometry = TiltGeometry.build(tilts, z_rot_deg=84.0, shifts_angstrom=shifts)
    overlap = field_overlap(geometry, (2000.0, 2000.0))
    assert overlap[30] < 0.3
    assert np.delete(overlap, 30).min() > 0.75
    # half of the common field is 1000 A
    half = TiltGeometry.build(np.zeros(5), shifts_angstrom=[(0, 0)] * 4 + [(1000.0, 0.0)])
    np.testing.assert_allclose(field_overlap(half, (2000.0, 2000.0)), [1, 1, 1, 1, 0.5], atol=0.02)


def test_scores_that_break_off_are_named():
    tilts = np.arange(-60.0, 61.0, 10.0)
    scores = 0.7 * np.cos(np.deg2rad(tilts))
    assert find_unmatched(scores, tilts) == {}
    scores[[0, 1, 6, 9]] = 0.02
    assert list(find_unmatched(scores, tilts)) == [0, 1, 6, 9]


@pytest.mark.parametrize("pre_tilt", [0.0, 20.0, -14.0])
def test_a_sloping_thick_specimen_is_not_dark(pre_tilt):
    """Lambert's law with 0.9 mean free paths at 60 + 20 degrees lets 0.5% through."""
    tilts = np.arange(-60.0, 61.0, 3.0)
    level = 500.0 * np.exp(-0.9 / np.cos(np.deg2rad(tilts + pre_tilt)))
    clean = torch.from_numpy(level).float()[:, None, None].expand(-1, 64, 64)
    images = torch.poisson(clean, generator=torch.Generator().manual_seed(3))
    assert find_dark_tilts(images, tilts, dark_fraction=0.5, dark_area=0.3) == {}
    fit = fit_intensity(images, tilts, dark_fraction=0.5)
    assert fit is not None
    assert abs(fit.pre_tilt_deg - pre_tilt) <= 2.0
    assert abs(fit.path_lengths - 0.9) < 0.05
    images[[0, 25]] *= 0.3
    assert sorted(find_dark_tilts(images, tilts, dark_fraction=0.5, dark_area=0.3)) == [0, 25]


def test_angles_recorded_twice_are_kept(series):
    images, tilts = series
    twice = torch.cat(
        [images[:10], torch.poisson(images[9:10], generator=torch.Generator().manual_seed(4)), images[10:]]
    )
    angles = np.concatenate([tilts[:10], tilts[9:10], tilts[10:]])
    # another exposure of the same place: half of its noise is that of the first, which a copy would share wholly
    fresh = slab()[0][9]
    twice[10] = images[9].mean() * (1.0 + 0.1 * fresh / fresh.std()) + 10.0 * torch.randn(
        SIZE, SIZE, generator=torch.Generator().manual_seed(5)
    )
    found = judge_tilts(twice, angles, pixel_size=10.0)
    assert found.reasons == {}
    assert any("Two images" in c for c in found.caveats)


def test_numbers_that_do_not_fit_are_refused(series):
    images, tilts = series
    with pytest.raises(ShapeError):
        judge_tilts(images, tilts[:-1], pixel_size=10.0)
