"""Helices: rise and twist of simulated tubes, their symmetry imposed on maps and on sums, against lattices written down here."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eucentric.averaging.average_particles import average_halves
from eucentric.averaging.find_helix import find_helix, refine_helix
from eucentric.averaging.fourier_sums import FourierSums
from eucentric.averaging.half_sets import assign_halves
from eucentric.averaging.helical_average import helical_sums, impose_helix, units_each_way
from eucentric.averaging.helix_params import HelixParams
from eucentric.averaging.params import AverageParams
from eucentric.averaging.solve_average import solve_average
from eucentric.errors import InputError, ProcessingError, ShapeError
from eucentric.geometry import Rotation, rotation_x, rotation_z
from eucentric.geometry.helix import Helix, wrapped_deg
from eucentric.models import ParticleSet
from eucentric.projection import symmetrise, turned_mean
from eucentric.projection.cylinder import Cylinders
from eucentric.simulation import asymmetric_phantom

N, VOXEL = 60, 7.0
RISE, TWIST = 3 * 40.9 / 13 + 0.13, -360 / 13 + 0.11  # thirteen protofilaments, three starts, left-handed; not quite
UNIT = ((0.0, 0.0, 0.0, 1.0), (14.0, 6.0, 9.0, 0.6), (-10.0, -5.0, 14.0, 0.4))  # out, around, up in A, and height


def tube(rise=RISE, twist=TWIST, *, size=N, radius=100.0, spread=10.0, around=1):
    """A helix of units of three blobs each, about z through voxel n // 2."""
    line = (np.arange(size) - size // 2) * VOXEL
    most = math.ceil((0.5 * size * VOXEL + 60.0) / rise)
    out = np.zeros((size,) * 3)
    for k in range(-most, most + 1):
        for turn in range(around):
            for outwards, beside, up, height in UNIT:
                angle = math.radians(k * twist + 360.0 * turn / around) + beside / radius
                r = radius + outwards
                x, y, z = r * math.cos(angle), r * math.sin(angle), k * rise + up
                gx, gy, gz = (np.exp(-0.5 * ((line - c) / spread) ** 2) for c in (x, y, z))
                out += height * np.einsum("z,y,x->zyx", gz, gy, gx)
    return torch.from_numpy(out.astype(np.float32))


def noisy(volume, noise, seed):
    generator = torch.Generator().manual_seed(seed)
    return volume + noise * volume.std() * torch.randn(volume.shape, generator=generator)


@pytest.fixture(scope="module")
def filament():
    return tube()


def test_a_mean_over_turns_and_shifts_is_that_of_the_scene_moved_so():
    phantom = asymmetric_phantom(90.0)
    turns = Rotation.random(2, np.random.default_rng(0)).matrices
    moves = np.array([[9.0, -4.0, 12.5], [0.0, 7.0, -3.0]])
    source = phantom.volume((64, 64, 64), 4.0)
    wanted = sum(
        phantom.transformed(r.T, -r.T @ t).volume((64, 64, 64), 4.0) for r, t in zip(turns, moves, strict=True)
    )
    got = turned_mean(source, turns, moves / 4.0)
    assert float((got - 0.5 * wanted).norm() / got.norm()) < 3e-3  # taps: 0.1%
    with pytest.raises(ShapeError, match="Shifts"):
        turned_mean(source, turns, moves[:1])


def test_plain_tensors_move_as_the_compiled_loop_does(monkeypatch):
    volume = torch.randn((16, 16, 16), generator=torch.Generator().manual_seed(1))
    turns, moves = Rotation.random(3, np.random.default_rng(2)).matrices, np.random.default_rng(3).normal(size=(3, 3))
    fast = turned_mean(volume, turns, moves)
    monkeypatch.setattr(symmetrise, "_fast", lambda grid: False)
    torch.testing.assert_close(turned_mean(volume, turns, moves), fast, atol=1e-5, rtol=0)


def test_cylinders_hold_a_map_and_turn_as_it_does(filament):
    cylinders = Cylinders.of(filament, VOXEL)
    line = np.arange(N) - N // 2
    inside = torch.from_numpy(np.hypot(line[:, None], line) < N // 2 - 4)
    back = cylinders.volume()
    assert float(((back - filament) * inside).norm() / filament.norm()) < 2e-3
    # a quarter turn brings x to y: the sample at angle 0 goes to that at 90 degrees
    faded = filament * torch.exp(-(((torch.arange(N) - N // 2) / 12.0) ** 2))[:, None, None]  # no end to ring
    cylinders = Cylinders.of(faded, VOXEL)
    turned = turned_mean(faded, rotation_z(-90.0)[None])
    moved = np.roll(cylinders.values, cylinders.values.shape[2] // 4, axis=2)
    if cylinders.values.shape[2] % 4 == 0:
        np.testing.assert_allclose(Cylinders.of(turned, VOXEL).values, moved, atol=5e-3 * float(filament.max()))
    with pytest.raises(ShapeError, match="even size"):
        Cylinders.of(torch.zeros(9, 9, 9), 1.0)


@pytest.mark.parametrize("hand", [1.0, -1.0])
def test_rise_and_twist_are_found_from_nothing_in_noise(hand):
    made = tube(twist=hand * TWIST)
    halves = [noisy(made, 2.0, seed) for seed in (1, 2)]
    found = find_helix(*halves, VOXEL, HelixParams(), low_pass_angstrom=22.0)
    assert found.best.helix.rise_angstrom == pytest.approx(RISE, abs=0.05)
    assert found.best.helix.twist_deg == pytest.approx(hand * TWIST, abs=0.05)
    assert found.sigma_rise_angstrom < 0.05
    assert found.sigma_twist_deg < 0.05
    assert found.deviations > 10.0
    # multiples of a helix are helices too
    double = min(found.others, key=lambda f: abs(f.helix.rise_angstrom - 2 * RISE))
    assert double.helix.twist_deg == pytest.approx(wrapped_deg(2 * hand * TWIST), abs=0.2)
    assert found.radius_angstrom == pytest.approx(103.0, abs=8.0)


def test_a_helix_given_roughly_is_refined_and_one_of_several_starts_found(filament):
    near = HelixParams(rise_angstrom=9.44, twist_deg=-27.69)
    found = find_helix(noisy(filament, 1.0, 3), None, VOXEL, near, low_pass_angstrom=22.0)
    assert found.best.helix.rise_angstrom == pytest.approx(RISE, abs=0.05)
    assert found.best.helix.twist_deg == pytest.approx(TWIST, abs=0.05)
    assert math.isnan(found.sigma_rise_angstrom)
    local = refine_helix(
        filament,
        noisy(filament, 1.0, 4),
        VOXEL,
        Helix(rise_angstrom=9.44, twist_deg=-27.69),
        central_part=0.5,
        low_pass_angstrom=22.0,
    )
    assert local.best.helix.rise_angstrom == pytest.approx(RISE, abs=0.05)
    three = tube(rise=55.0, twist=22.0, around=3)
    wide = HelixParams(symmetry="C3", central_part=0.7)
    found = find_helix(three, noisy(three, 1.0, 5), VOXEL, wide, low_pass_angstrom=22.0)
    assert found.best.helix.rise_angstrom == pytest.approx(55.0, abs=0.2)
    assert found.best.helix.twist_deg == pytest.approx(22.0, abs=0.2)  # two units on either side
    assert found.best.helix.group == "C3"


@pytest.mark.parametrize("seed", [2, 4, 8])
def test_noise_stands_out_of_nothing(seed):
    noise = [torch.randn((40, 40, 40), generator=torch.Generator().manual_seed(s)) for s in (seed, seed + 1)]
    helix = Helix(rise_angstrom=20.0, twist_deg=40.0)
    found = refine_helix(*noise, VOXEL, helix, central_part=0.6, low_pass_angstrom=25.0)
    assert found.deviations < 3.0  # what an average asks for


def test_halves_that_share_nothing_have_no_helix():
    noise = torch.randn((40, 40, 40), generator=torch.Generator().manual_seed(0))
    helix = Helix(rise_angstrom=20.0, twist_deg=40.0)
    with pytest.raises(ProcessingError, match="do not agree"):
        refine_helix(noise, -noise, VOXEL, helix, central_part=0.6, low_pass_angstrom=25.0)


def test_a_box_is_filled_with_its_middle(filament):
    damaged = filament.clone()
    damaged[: N // 5] = 0.0
    damaged[-N // 5 :] = 0.0
    helix = Helix(rise_angstrom=RISE, twist_deg=TWIST)
    line = np.arange(N) - N // 2
    inside = torch.from_numpy(np.hypot(line[:, None], line) < N // 2 - 4)
    got = impose_helix(damaged, helix, VOXEL, 0.5)
    assert float(((got - filament) * inside).norm() / filament.norm()) < 5e-3
    wrong = impose_helix(damaged, Helix(rise_angstrom=RISE, twist_deg=-TWIST), VOXEL, 0.5)
    assert float(((wrong - filament) * inside).norm() / filament.norm()) > 0.3
    noise = torch.randn(filament.shape, generator=torch.Generator().manual_seed(7))
    left = impose_helix(noise, helix, VOXEL, 0.5)[:, inside]
    assert float(left.std()) < 1.5 / math.sqrt(2 * units_each_way(helix, N * VOXEL, 0.5) + 1)


def test_two_fold_axes_across_are_those_of_the_point_group():
    made = tube(rise=30.0, twist=50.0)
    both = 0.5 * (made + turned_mean(made, rotation_x(180.0)[None]))
    got = impose_helix(made, Helix(rise_angstrom=30.0, twist_deg=50.0, group="D1"), VOXEL, 0.6)
    line = np.arange(N) - N // 2
    inside = torch.from_numpy(np.hypot(line[:, None], line) < N // 2 - 4)
    middle = slice(5, -5)  # the first plane has no partner
    assert float(((got - both) * inside)[middle].norm() / both[middle].norm()) < 0.01


def test_units_fill_each_others_wedge(filament):
    """All filaments lie alike: what no image shows of one unit is seen in others."""
    spectrum = torch.fft.rfftn(torch.fft.ifftshift(filament))
    fz, fy, fx = (torch.fft.fftfreq(N)[:, None, None], torch.fft.fftfreq(N)[:, None], torch.fft.rfftfreq(N))
    # tilted about the filament, that is about z: the wedge lies across it, along x
    seen = ((fx.abs() <= fy.abs() * math.tan(math.radians(50.0))) | (fz.abs() + fy.abs() + fx == 0)).float()
    seen = seen.expand(N, N, N // 2 + 1).contiguous()
    helix = Helix(rise_angstrom=RISE, twist_deg=TWIST)
    got = impose_helix(solve_average(*helical_sums(spectrum * seen, seen, helix, VOXEL, 0.5)), helix, VOXEL, 0.5)
    plain = solve_average(spectrum * seen, seen)
    middle = (slice(N // 2 - 12, N // 2 + 12), slice(4, -4), slice(4, -4))

    def error(volume):
        a, b = volume[middle].reshape(-1), filament[middle].reshape(-1)
        return 1.0 - float(torch.corrcoef(torch.stack([a, b]))[0, 1])

    assert error(got) < 0.02
    assert error(plain) > 3.0 * error(got)


@settings(max_examples=30, deadline=None)
@given(rise=st.floats(2.0, 80.0), twist=st.floats(-180.0, 180.0), steps=st.integers(-9, 9), seed=st.integers(0, 1000))
def test_a_particle_brought_back_is_the_same_filament(rise, twist, steps, seed):
    helix = Helix(rise_angstrom=rise, twist_deg=twist)
    rng = np.random.default_rng(seed)
    turn, place = Rotation.random(1, rng).matrices, rng.normal(0, 300, (1, 3))
    rotations, shifts = helix.elements(np.array([float(steps)]))
    # a unit further along: what is at x of the reference lies at R x + t of it as well
    slid, turned = place + (turn @ shifts[0]), turn @ rotations[0]
    back, as_was = helix.brought_back(slid, turned, place + 0.3 * rise * turn[:, :, 2])
    np.testing.assert_allclose(back, place, atol=1e-6)
    np.testing.assert_allclose(as_was, turn, atol=1e-6)


class _Sums(FourierSums):
    """Finished from the start."""

    __slots__ = ("given",)

    def finished(self, symmetry=None):
        assert symmetry is None or len(symmetry) == 1
        return self.given


def _seen(volume, seed):
    out = _Sums.empty(len(volume), VOXEL)
    data = torch.fft.rfftn(torch.fft.ifftshift(noisy(volume, 1.5, seed)))
    out.given, out.images = (data, torch.ones_like(data.real)), 10
    return out


def test_an_average_refines_its_helix_and_is_better_for_it(filament):
    sums = (_seen(filament, 11), _seen(filament, 12))
    record = {"halves": np.array([1, 2]), "tilts_used": np.array([5, 5])}
    params = AverageParams(helical_rise_angstrom=9.44, helical_twist_deg=-27.69, mask_diameter_angstrom=330.0)
    made = average_halves(sums, params, **record)
    assert made.helix is not None
    assert made.helix.helix.rise_angstrom == pytest.approx(RISE, abs=0.05)
    assert made.helix.helix.twist_deg == pytest.approx(TWIST, abs=0.05)
    held = average_halves(sums, params.replace(helical_refine=False), **record)
    plain = average_halves(sums, AverageParams(mask_diameter_angstrom=330.0), **record)
    assert held.helix is not None
    assert held.helix.helix.twist_deg == -27.69
    assert plain.helix is None

    def likeness(result):
        return float(
            torch.corrcoef(torch.stack([(result.volume * made.mask).reshape(-1), (filament * made.mask).reshape(-1)]))[
                0, 1
            ]
        )

    assert likeness(made) > likeness(held) > likeness(plain)
    assert made.correlation.resolution_angstrom < plain.correlation.resolution_angstrom
    # a start that the map denies is left as it is
    far = average_halves(sums, params.replace(helical_rise_angstrom=15.0, helical_twist_deg=77.0), **record)
    assert far.helix is not None
    assert (far.helix.helix.rise_angstrom, far.helix.helix.twist_deg) == (15.0, 77.0)


def test_filaments_stay_in_one_half():
    rng = np.random.default_rng(0)
    tubes = np.repeat([1.0, 2.0, 3.0], 12)
    places = np.stack([np.tile(np.arange(12) * 80.0, 3), tubes * 500.0, 0 * tubes], axis=1)
    picks = ParticleSet.build("T", places, columns={"rlnHelicalTubeID": tubes})
    halves = assign_halves(picks, 150.0)
    assert all(len(set(halves[tubes == t])) == 1 for t in (1, 2, 3))
    assert set(halves) == {1, 2}
    alone = assign_halves(picks.select(tubes == 1), 150.0)
    assert sorted(np.bincount(alone)[1:]) == [6, 6]
    loose = ParticleSet.build("T", rng.uniform(-3000, 3000, (8, 3)))
    mixed = assign_halves(ParticleSet.concatenate([picks, loose]), 100.0)
    assert set(mixed[36:]) <= {1, 2}


def test_bad_helices(filament):
    with pytest.raises(InputError, match="rise above zero"):
        Helix(rise_angstrom=0.0, twist_deg=10.0)
    with pytest.raises(InputError, match="Cn or Dn"):
        Helix(rise_angstrom=5.0, twist_deg=10.0, group="T")
    with pytest.raises(InputError, match="without a rise"):
        _ = AverageParams(helical_twist_deg=10.0).helix
    with pytest.raises(InputError, match="fewer than four rises"):
        impose_helix(filament, Helix(rise_angstrom=90.0, twist_deg=10.0), VOXEL, 0.5)
    with pytest.raises(InputError, match="lower one first"):
        HelixParams(rise_range_angstrom=(20.0, 10.0))
    with pytest.raises(InputError, match="outer one larger"):
        HelixParams(inner_radius_angstrom=50.0, outer_radius_angstrom=40.0)
    with pytest.raises(InputError, match="holds two units"):
        find_helix(filament, None, VOXEL, HelixParams(rise_range_angstrom=(300.0, 400.0)))
    with pytest.raises(InputError, match="Cn or Dn"):
        find_helix(filament, None, VOXEL, HelixParams(symmetry="O"))
    with pytest.raises(InputError, match="No density"):
        find_helix(filament, None, VOXEL, HelixParams(inner_radius_angstrom=1000.0))
    with pytest.raises(InputError, match="too many helices"):
        find_helix(filament, None, VOXEL, HelixParams(low_pass_angstrom=1.0, rise_range_angstrom=(1.0, 100.0)))
    with pytest.raises(ProcessingError, match="agree on any structure"):
        find_helix(torch.zeros(16, 16, 16), None, VOXEL, HelixParams())
