"""What a scheme shows, against integrals done another way, atoms placed at random, and a search of all schemes."""

import itertools
import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.integrate import quad

from eucentric.acquisition.information import (
    averaging_dose,
    effective_doses,
    elongation,
    expected_fsc,
    expected_resolution,
    finding_information,
    goal_information,
    missing_fraction,
    particles_needed,
)
from eucentric.acquisition.plan_params import ExpectationParams
from eucentric.acquisition.propose_scheme import SearchParams, allowed, propose_scheme, rate
from eucentric.acquisition.schedule import lay_out
from eucentric.errors import InputError
from eucentric.models import TiltScheme
from eucentric.optics.atoms import density_from_atoms, protein_power


def test_effective_dose_is_the_integral_of_what_is_left():
    params = ExpectationParams(thickness_angstrom=2000.0, inelastic_path_angstrom=3200.0, voltage_kv=200.0)
    scheme = TiltScheme(step_deg=20, total_dose=70, start_dose=16, start_deg=-20)
    (schedule,) = lay_out(scheme, pretilt_deg=13.0)
    frequency = np.array([0.05, 0.25])
    got = effective_doses(schedule, frequency, params)
    for i, angle in enumerate([-20, 0, -40, 20, -60, 40, 60]):
        tilt = math.cos(math.radians(angle + 13.0))
        dose, before = (16.0, 0.0) if i == 0 else (9.0, 16.0 + 9.0 * (i - 1))
        for j, k in enumerate(frequency):
            critical = 0.8 * (0.24499 * k**-1.6649 + 2.8141)  # Grant & Grigorieff 2015, eq. 3
            left = quad(lambda n, c=critical: math.exp(-n / c), before, before + dose)[0]
            assert_allclose(got[i, j], tilt * math.exp(-2000 / 3200 / tilt) * left, rtol=1e-6)


def test_power_of_a_protein_is_that_of_atoms_at_random_places():
    rng = np.random.default_rng(2)
    residues, diameter = 400, 60.0
    elements = ["C"] * (5 * residues) + ["N"] * round(1.36 * residues) + ["O"] * round(1.48 * residues)
    places = []
    while len(places) < len(elements):
        point = rng.uniform(-diameter / 2, diameter / 2, 3)
        if np.linalg.norm(point) < diameter / 2:
            places.append(point)
    size, voxel = 96, 1.5
    density = density_from_atoms(np.array(places), elements, (size,) * 3, voxel)
    power = torch.fft.rfftn(density.double()).abs().square().numpy() * voxel**6
    z, y = np.fft.fftfreq(size, voxel)[:, None, None], np.fft.fftfreq(size, voxel)[:, None]
    k = np.sqrt(z**2 + y**2 + np.fft.rfftfreq(size, voxel) ** 2)
    for low, high in ((0.002, 0.01), (0.1, 0.13), (0.16, 0.2), (0.24, 0.28)):
        shell = (k > low) & (k < high)
        expected = protein_power(k[shell], 110.0 * residues, diameter).mean()
        assert_allclose(power[shell].mean(), expected, rtol=0.12, err_msg=f"{low} to {high}")


def test_the_order_of_schemes_is_that_of_hagen_and_others():
    """41 tilts by 3 degrees: most fine detail in dose-symmetric series, least in continuous ones."""
    params = ExpectationParams(resolution_angstrom=4.0)
    named = {
        "dose-symmetric": TiltScheme(),
        "from -21": TiltScheme(order="bidirectional", start_deg=-21, first_side="positive"),
        "bidirectional": TiltScheme(order="bidirectional"),
        "continuous": TiltScheme(order="continuous"),
    }
    dose = {name: averaging_dose(lay_out(scheme), params) for name, scheme in named.items()}
    assert dose["dose-symmetric"] > dose["bidirectional"] > dose["from -21"] > 2 * dose["continuous"]
    fixed = {"step_deg": 3.0, "min_deg": -60.0, "max_deg": 60.0, "start_deg": 0.0, "total_dose": 120.0}
    found = propose_scheme(params, SearchParams(), fixed)
    assert len(found.best.scheme.angles_in_order()) == 41
    assert found.best.scheme.order == "dose-symmetric"
    assert found.best.value > 0.997 * dose["dose-symmetric"]
    assert any("Continuous shows" in reason and "less" in reason for reason in found.reasons)


def all_schemes(search, pretilt):
    """A small family, in full."""
    start = float(-round(pretilt))
    orders = [("dose-symmetric", g) for g in (1, 2, 3)] + [("bidirectional", 1), ("continuous", 1)]
    for (order, group), side, step, reach, part, split in itertools.product(
        orders,
        ("positive", "negative"),
        (1.5, 2.0, 2.5, 3.0, 4.0, 5.0),
        (42.0, 51.0, 60.0, 66.0),
        (0.6, 0.8, 1.0),
        ("even", "inverse-cosine"),
    ):
        up = step * math.floor(min(reach, search.stage_limit_deg - start) / step + 1e-6)
        down = step * math.floor(min(reach, search.stage_limit_deg + start) / step + 1e-6)
        yield TiltScheme(
            order=order,
            group_size=group,
            first_side=side,
            step_deg=step,
            start_deg=start,
            min_deg=start - down,
            max_deg=start + up,
            total_dose=part * search.max_total_dose,
            dose_split=split,
        )


@pytest.mark.parametrize(
    "params",
    [
        ExpectationParams(resolution_angstrom=4.0),
        ExpectationParams(resolution_angstrom=12.0, particle_kda=600, thickness_angstrom=900),
        ExpectationParams(goal="membranes", thickness_angstrom=2000, pretilt_deg=9.0),
        ExpectationParams(goal="cell", thickness_angstrom=1200, voltage_kv=200),
    ],
    ids=["4 A", "12 A", "membranes", "cell"],
)
def test_no_scheme_of_a_family_is_one_percent_better(params):
    search = SearchParams(max_total_dose=100.0)
    found = propose_scheme(params, search)
    rated = [rate(s, params, search) for s in all_schemes(search, params.pretilt_deg) if allowed(s, search)]
    assert len(rated) > 150
    if params.goal == "averaging":  # of those that find particles as well
        least = 0.9 * max(r.finding for r in rated)
        rated = [r for r in rated if r.finding >= least]
        assert found.best.finding >= 0.995 * least
    assert found.best.value >= 0.99 * max(r.value for r in rated)
    assert found.best.value > 1.02 * min(r.value for r in rated)


def test_a_lamella_is_started_where_it_faces_the_beam():
    found = propose_scheme(
        ExpectationParams(goal="membranes", thickness_angstrom=1500, pretilt_deg=11.0), SearchParams()
    )
    assert found.best.scheme.start_deg == -11.0
    wrong = rate(found.best.scheme.replace(start_deg=11.0), ExpectationParams(goal="membranes", thickness_angstrom=1500,
                 pretilt_deg=11.0), SearchParams())  # fmt: skip
    assert wrong.value < found.best.value


def test_settings_given_stay():
    fixed = {"order": "bidirectional", "step_deg": 2.0, "dose_split": "even"}
    scheme = propose_scheme(ExpectationParams(), SearchParams(), fixed).best.scheme
    assert {name: getattr(scheme, name) for name in fixed} == fixed


def test_dose_that_does_not_suffice_for_the_images_asked_for_is_said():
    found = propose_scheme(ExpectationParams(), SearchParams(), {"step_deg": 1.0, "total_dose": 60.0})
    assert found.best.scheme.step_deg == 1.0
    assert "below the 2" in found.reasons[-1]
    enough = propose_scheme(ExpectationParams(), SearchParams(), {"step_deg": 3.0})
    assert not any("below the 2" in reason for reason in enough.reasons)


def test_more_particles_resolve_more_and_as_many_as_needed_do():
    params = ExpectationParams(particle_kda=800, resolution_angstrom=6.0, thickness_angstrom=1200)
    schedules = lay_out(TiltScheme())
    needed = particles_needed(schedules, 6.0, params)
    assert_allclose(expected_fsc(schedules, np.array([1 / 6.0]), round(needed), params), 0.143, rtol=1e-3)
    assert_allclose(expected_resolution(schedules, round(needed), params), 6.0, rtol=0.02)
    better = ExpectationParams(particle_kda=800, resolution_angstrom=6.0, thickness_angstrom=1200, symmetry_order=14)
    assert_allclose(particles_needed(schedules, 6.0, better), needed / 14)
    thicker = params.replace(thickness_angstrom=3000)
    assert particles_needed(schedules, 6.0, thicker) > 1.8 * needed
    assert math.isinf(particles_needed(schedules, 2.0, params.replace(pixel_size_angstrom=1.5)))


def test_missing_directions():
    assert_allclose(missing_fraction(lay_out(TiltScheme())), 1 / 3, atol=0.01)
    assert_allclose(missing_fraction(lay_out(TiltScheme(min_deg=0.0))), 2 / 3, atol=0.01)
    assert_allclose(missing_fraction(lay_out(TiltScheme(), axes=2)), 0.16, atol=0.02)  # Penczek & al. 1995
    assert_allclose(elongation(lay_out(TiltScheme())[0]), 1.55, atol=0.01)  # Radermacher 1988


def test_a_second_axis_adds_directions_for_the_same_dose():
    params = ExpectationParams(goal="membranes", thickness_angstrom=1500)
    one, two = lay_out(TiltScheme()), lay_out(TiltScheme(), axes=2)
    assert_allclose(sum(s.doses.sum() for s in two), one[0].doses.sum())
    assert two[1].pre_exposures[0] == pytest.approx(60.0)
    assert goal_information(two, params) > goal_information(one, params)


def test_finding_needs_dose_that_fine_detail_does_not():
    params = ExpectationParams(resolution_angstrom=4.0)
    half, whole = lay_out(TiltScheme(total_dose=60)), lay_out(TiltScheme(total_dose=120))
    assert averaging_dose(whole, params) < 1.05 * averaging_dose(half, params)
    assert finding_information(whole, params) > 1.2 * finding_information(half, params)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: lay_out(TiltScheme(max_deg=72.0)), "goes to 72 degrees; the stage goes to 70"),
        (lambda: lay_out(TiltScheme(max_deg=66.0), pretilt_deg=15.0), "tilted by 81 degrees"),
        (lambda: propose_scheme(ExpectationParams(goal="membranes"), SearchParams()), "thickness of the specimen"),
        (
            lambda: propose_scheme(ExpectationParams(), SearchParams(), {"max_deg": 69.0, "step_deg": 3.0}),
            "No scheme fits",
        ),
    ],
)
def test_what_cannot_be_planned(make, words):
    with pytest.raises(InputError, match=words):
        make()
