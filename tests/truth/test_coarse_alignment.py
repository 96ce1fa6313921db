"""First geometry of a tilt series against slabs of known geometry, as `benchmarks/alignment_speed.py` makes them."""

import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from eucentric.alignment.coarse import align_coarsely, coarse_shifts, in_axis_frame, in_camera_frame
from eucentric.alignment.neighbour_graph import solve_shifts
from eucentric.alignment.pair_correlation import PairShifts, SpecimenPlane, neighbour_pairs
from eucentric.errors import InputError, ShapeError
from eucentric.geometry import TiltGeometry
from eucentric.signal.correlation import climb_to_peaks, correlation_peak

SIZE = 192


@cache
def speed() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "alignment_speed.py"
    spec = importlib.util.spec_from_file_location("alignment_speed", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["alignment_speed"] = module
    spec.loader.exec_module(module)
    return module


@cache
def slab(axis: float = 84.0, stage: float = 0.03, noise: float = 0.5) -> tuple[torch.Tensor, TiltGeometry]:
    images, geometry = speed().slab_series(SIZE, thickness=800.0, axis_deg=axis, stage=stage, noise=noise, crowding=4.0)
    return images[::2].contiguous(), geometry[::2]


def pixels_off(found: TiltGeometry, true: TiltGeometry) -> float:
    return float(speed().shift_error(found, true))


def half_turn(degrees: float) -> float:
    return (degrees + 90.0) % 180.0 - 90.0


@pytest.mark.parametrize("axis", [pytest.param(84.0, marks=pytest.mark.slow), -23.0])
def test_axis_and_shifts_are_found_without_being_told_the_axis(axis):
    images, true = slab(axis)
    found = align_coarsely(images, true.y_tilt_deg, 10.0, axis_deg=None)
    # both of two directions fit: the issue is the half circle
    assert abs(half_turn(found.axis_search.best_deg - axis)) < 1.5
    assert found.axis_search.sigma_deg < 2.0
    told = align_coarsely(images, true.y_tilt_deg, 10.0, axis_deg=axis)
    assert pixels_off(told.geometry, true) < 1.0
    assert told.neighbours.linked.all()
    assert told.caveats == ()


def test_a_mirrored_series_has_the_mirrored_axis():
    images, true = slab(-23.0)
    found = align_coarsely(images.flip(-1), true.y_tilt_deg, 10.0, axis_deg=None)
    assert abs(half_turn(found.axis_search.best_deg - 23.0)) < 1.5


@pytest.mark.slow
def test_a_wrong_given_axis_is_replaced_and_said():
    images, true = slab()
    found = align_coarsely(images, true.y_tilt_deg, 10.0, axis_deg=-60.0)
    assert abs(float(found.geometry.z_rot_deg[0]) - (84.0 - 180.0)) < 1.5  # the nearer one of the two
    assert any("does not fit" in c for c in found.caveats)
    near = align_coarsely(images, true.y_tilt_deg, 10.0, axis_deg=85.0)
    assert float(near.geometry.z_rot_deg[0]) == 85.0


def test_stage_errors_of_a_sixth_of_the_field_are_found():
    images, true = slab(stage=0.15)
    found = coarse_shifts(images, true.y_tilt_deg, 84.0, 10.0, max_shift_fraction=0.45)
    assert pixels_off(TiltGeometry.build(true.y_tilt_deg, z_rot_deg=84.0), true) > 20.0
    assert pixels_off(found, true) < 1.0


def test_wrong_sign_of_all_angles_is_the_opposite_axis():
    images, true = slab()
    # the same images in the order that the wrong angles give them
    found = align_coarsely(images.flip(0), -true.y_tilt_deg[::-1], 10.0, axis_deg=84.0).geometry
    turned = TiltGeometry.build(
        -found.y_tilt_deg[::-1], z_rot_deg=found.z_rot_deg[::-1], shifts_angstrom=found.shifts_angstrom[::-1]
    )
    assert pixels_off(turned, true) < 0.7


def test_a_constant_offset_of_the_angles_is_seen():
    images, true = slab()
    kept = slice(0, 15)  # to 24 degrees, so that no angle passes 78
    said = true.y_tilt_deg[kept] + 20.0
    found = align_coarsely(images[kept], said, 10.0, axis_deg=84.0)
    assert abs(found.slope.plane.pre_tilt_deg + 20.0) < 5.0
    assert any("constant offset" in c for c in found.caveats)


def test_empty_ice_keeps_the_positions_of_the_stage():
    images = torch.randn(21, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    found = align_coarsely(images, np.linspace(-60.0, 60.0, 21), 10.0, axis_deg=84.0)
    # two pixels in a field of 192: no walk
    assert float(np.abs(found.geometry.shifts_angstrom).max()) < 20.0
    assert float(found.geometry.z_rot_deg[0]) == 84.0
    assert found.neighbours.linked.sum() < 6
    assert any("noise" in c or "no neighbour" in c for c in found.caveats)


def test_edge_of_the_carbon_film_and_uneven_light_do_not_capture_the_alignment():
    images, true = slab()
    place = np.array([250.0, 0.0, 0.0])
    y, x = np.mgrid[:SIZE, :SIZE] * 10.0 - SIZE // 2 * 10.0
    edged = images.clone()
    for t, tilt in enumerate(true.y_tilt_deg):
        # the film's edge runs at 30 degrees in the specimen; normals turn with the inverse of the map
        turn = true[[t]].matrices[0, :2, :2]
        across = np.linalg.solve(turn.T, np.array([np.cos(0.5), np.sin(0.5)]))
        at = true[[t]].project(place)[0, :2]
        distance = (x - at[0]) * across[0] + (y - at[1]) * across[1]
        film = 1.0 / (1.0 + np.exp(-np.clip(distance / 30.0, -50, 50))) / np.cos(np.deg2rad(tilt))
        edged[t] -= torch.from_numpy(6.0 * float(images.std()) * film).float()
    light = torch.linspace(-5.0, 5.0, SIZE) * float(images.std())
    found = align_coarsely(edged + light, true.y_tilt_deg, 10.0, axis_deg=84.0)
    assert pixels_off(found.geometry, true) < 2.0  # a hundredth of the field; the stage was off by three


@pytest.mark.slow
def test_heights_do_not_take_turns_in_a_thick_specimen():
    """Between two tilts the highest peak may be that of any height; blurred across the axis there is one."""
    images, true = speed().slab_series(SIZE, thickness=2600.0, noise=0.5, crowding=1.0, seed=2)
    near = coarse_shifts(images, true.y_tilt_deg, 84.0, 10.0)
    flat = coarse_shifts(images, true.y_tilt_deg, 84.0, 10.0, depth_angstrom=0.0)
    assert pixels_off(near, true) < 0.6 * pixels_off(flat, true)


@pytest.mark.slow
def test_the_graph_is_right_where_a_chain_is_not():
    images, true = speed().slab_series(512, noise=6.0)
    chain = speed().chained_shifts(images, true.y_tilt_deg, 84.0)
    graph = coarse_shifts(images, true.y_tilt_deg, 84.0, 10.0)
    assert pixels_off(chain, true) > 1.2
    assert pixels_off(graph, true) < 0.6


def test_three_views_are_enough_and_two_are_not():
    images, true = slab()
    found = align_coarsely(images[9:12], true.y_tilt_deg[9:12], 10.0, axis_deg=84.0)
    assert len(found.geometry) == 3
    assert pixels_off(found.geometry, true[9:12]) < 2.0
    with pytest.raises(InputError, match="at least three"):
        align_coarsely(images[:2], true.y_tilt_deg[:2], 10.0, axis_deg=84.0)
    with pytest.raises(ShapeError):
        align_coarsely(images, true.y_tilt_deg[:4], 10.0, axis_deg=84.0)
    broken = images.clone()
    broken[3, 5, 5] = float("nan")
    with pytest.raises(InputError, match="not numbers"):
        align_coarsely(broken, true.y_tilt_deg, 10.0, axis_deg=84.0)


def test_wrong_pairs_are_outvoted():
    tilts = np.arange(-60.0, 61.0, 3.0)
    plane = SpecimenPlane(axis_deg=0.0)
    low, high = neighbour_pairs(tilts, plane, (1, 2, 3))
    maps = plane.maps(tilts)
    back = maps[low] @ np.linalg.inv(maps[high])
    generator = np.random.default_rng(2)
    true = generator.normal(0.0, 100.0, (len(tilts), 2))
    found = true[low] - (back @ true[high][..., None])[..., 0]
    wrong = generator.choice(len(low), len(low) // 6, replace=False)
    found[wrong] += generator.normal(0.0, 300.0, (len(wrong), 2))
    pairs = PairShifts(
        low=low,
        high=high,
        back=back,
        parallax=plane.parallax(tilts, (low, high)),
        displacement=found,
        information=np.repeat(np.eye(2)[None], len(low), 0),
        contrast=np.full(len(low), 15.0),
        reach=np.full(len(low), 100.0),
    )
    shifts, trust = solve_shifts(pairs, np.zeros_like(true), 300.0, tolerance=1.0)
    difference = shifts - true
    # left: one translation along the axis, and one across it that goes as cos(tilt)
    cosine = np.cos(np.deg2rad(tilts))
    difference[:, 0] -= cosine * (cosine @ difference[:, 0]) / (cosine @ cosine)
    difference[:, 1] -= difference[:, 1].mean()
    assert float(np.abs(difference).max()) < 1.0
    assert not trust[wrong].any() or np.linalg.norm(found[wrong][trust[wrong]]) < 100.0


def test_frames_of_axis_and_camera_are_inverse():
    shifts = np.random.default_rng(1).normal(size=(5, 2))
    geometry = in_camera_frame(np.arange(5.0), 33.0, shifts)
    np.testing.assert_allclose(in_axis_frame(geometry), shifts, atol=1e-12)
    # a shift along the axis points where the image's y axis is turned to
    along = in_camera_frame(np.zeros(1), 90.0, np.array([[0.0, 1.0]])).shifts_angstrom
    np.testing.assert_allclose(along, [[-1.0, 0.0]], atol=1e-12)


@pytest.mark.parametrize("shape", [(65, 64), (64, 67)])
def test_batched_summits_are_those_of_single_correlations(shape):
    generator = torch.Generator().manual_seed(4)
    frequency = torch.fft.fftfreq(shape[0])[:, None] ** 2 + torch.fft.rfftfreq(shape[1]) ** 2
    spectra = torch.fft.rfft2(torch.randn(3, *shape, generator=generator)) * torch.exp(-60.0 * frequency)
    moves = torch.tensor([[3.3, -2.2], [0.1, 7.6], [-5.45, 0.3]])
    y, x = torch.fft.fftfreq(shape[0])[:, None], torch.fft.rfftfreq(shape[1])
    angle = -2 * np.pi * (moves[:, 0, None, None] * x + moves[:, 1, None, None] * y)
    cross = spectra * torch.polar(torch.ones_like(angle), angle) * spectra.conj()
    peaks = climb_to_peaks(cross, shape, moves.round())
    np.testing.assert_allclose(peaks.shift_px.numpy(), moves.numpy(), atol=1e-4)
    single = correlation_peak(cross[1], shape, reach_px=20.0)
    np.testing.assert_allclose(peaks.shift_px[1].numpy(), single.shift_px, atol=1e-4)
    np.testing.assert_allclose(torch.diagonal(peaks.curvature[1]).numpy(), single.curvature, rtol=1e-4)
