"""Equations with the particles eliminated against dense ones, held-out gains, groups chosen by them, and parts left out of maps."""

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from eucentric.averaging.average_particles import average_halves
from eucentric.averaging.fourier_sums import FourierSums
from eucentric.averaging.params import AverageParams
from eucentric.errors import InputError
from eucentric.geometry import Deformation
from eucentric.refinement.choose_groups import GroupChooser, KeptGroup
from eucentric.refinement.image_sums import AT, LOCAL, ImageSums
from eucentric.refinement.image_views import ImageViews
from eucentric.refinement.leave_out import PartSums, parts_of_halves
from eucentric.refinement.normal_equations import OWN, FoldedEquations, LocalTerms, SharedEquations, own_slopes
from eucentric.refinement.unknowns import TiltDefocus, TiltShifts
from refinement_scene import scattered, tilt_series

TILTS, COUNT, FOLDS = 6, 12, 4
LOOSE = np.diag([5.0**-2] * 3 + [0.05**-2] * 3 + [1.0])
"""Of a particle's own step, as the module holds it."""


def _problem(seed=0):
    """Random products of images, and what they hang on."""
    rng = np.random.default_rng(seed)
    series = tilt_series(step=24.0)
    positions, _ = scattered(COUNT)
    particle, tilt = np.repeat(np.arange(COUNT), TILTS), np.tile(np.arange(TILTS), COUNT)
    count, local = len(particle), len(LOCAL)
    slopes = (
        rng.normal(size=(count, local, 60))
        * np.array([1e-3 if "focus" in n or "astig" in n else 1.0 for n in LOCAL])[:, None]
    )
    terms = LocalTerms(
        gradient=np.einsum("ikf,if->ik", slopes, rng.normal(size=(count, 60))),
        curvature=slopes @ np.swapaxes(slopes, 1, 2),
    )
    sums = ImageSums(
        overlap=np.zeros((count, local)), norm=np.zeros((count, local, local)), particle=particle, tilt=tilt
    )
    views = ImageViews.build(sums, positions, np.zeros(COUNT, np.int64), series, Deformation())
    return terms, views


def _dense(terms, views, columns, rows):
    """Hessian and gradient of shared and own unknowns together, from some particles."""
    unknowns = next(iter(columns.values())).shape[1]
    total = unknowns + OWN * COUNT
    hessian, gradient = np.zeros((total, total)), np.zeros(total)
    own = own_slopes(views)
    shared = np.zeros((len(views), len(LOCAL), unknowns))
    for name, column in columns.items():
        shared[:, AT[name]] = column.toarray()
    for i in np.flatnonzero(np.isin(views.particle, rows)):
        design = np.zeros((len(LOCAL), total))
        design[:, :unknowns] = shared[i]
        start = unknowns + OWN * int(views.particle[i])
        design[:, start : start + OWN] = own[i]
        hessian += design.T @ terms.curvature[i] @ design
        gradient += design.T @ terms.gradient[i]
    for p in range(COUNT):
        part = slice(unknowns + OWN * p, unknowns + OWN * (p + 1))
        hessian[part, part] += LOOSE
    return hessian, gradient


def test_elimination_of_the_particles_gives_what_the_whole_system_gives():
    terms, views = _problem()
    group = TiltShifts(TILTS)
    columns = group.columns(views)
    folds = np.arange(COUNT) % FOLDS
    equations = SharedEquations.build(terms, views, columns, folds, int(folds.max()) + 1)
    hessian, gradient = _dense(terms, views, columns, np.arange(COUNT))
    n = equations.rights.shape[1]
    precision, totals = group.precision(1.0), np.random.default_rng(1).normal(size=n)
    hessian[:n, :n] += precision
    gradient[:n] -= precision @ totals
    whole = np.linalg.solve(hessian, gradient)
    theta = equations.solve(precision, totals)
    np.testing.assert_allclose(theta, whole[:n], rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(equations.own_changes(theta).reshape(-1), whole[n:], rtol=1e-8, atol=1e-10)
    sigma = np.sqrt(np.diag(np.linalg.inv(hessian))[:n])
    np.testing.assert_allclose(equations.deviations(precision), sigma, rtol=1e-6)


@pytest.mark.parametrize("fold", range(FOLDS))
def test_a_set_gains_what_its_whole_likelihood_gains_from_the_unknowns_of_the_others(fold):
    terms, views = _problem()
    group = TiltShifts(TILTS)
    columns, folds = group.columns(views), np.arange(COUNT) % FOLDS
    equations = SharedEquations.build(terms, views, columns, folds, int(folds.max()) + 1)
    n = equations.rights.shape[1]
    precision = group.precision(1.0)
    others, here = (np.flatnonzero(keep) for keep in (folds != fold, folds == fold))
    hessian, gradient = _dense(terms, views, columns, others)
    hessian[:n, :n] += precision
    theta = np.linalg.solve(hessian, gradient)[:n]
    hessian, gradient = _dense(terms, views, columns, here)

    def best(shared):  # of all particles' own unknowns
        right = gradient[n:] - hessian[n:, :n] @ shared
        own = np.linalg.solve(hessian[n:, n:], right)
        both = np.concatenate([shared, own])
        return gradient @ both - 0.5 * both @ hessian @ both

    got = equations.held_out(precision, np.zeros(n))[fold]
    assert got == pytest.approx(best(theta) - best(np.zeros(n)), rel=1e-8)


def test_gains_do_not_depend_on_where_a_quadratic_problem_is_linearised():
    rng = np.random.default_rng(2)
    factors = rng.normal(size=(FOLDS, 5, 9))
    matrices, rights = factors @ np.swapaxes(factors, 1, 2), rng.normal(size=(FOLDS, 5))
    precision, moved = np.eye(5), rng.normal(size=5)
    here = FoldedEquations(matrices=matrices, rights=rights)
    there = FoldedEquations(matrices=matrices, rights=rights - matrices @ moved)
    np.testing.assert_allclose(there.held_out(precision, moved), here.held_out(precision, np.zeros(5)), rtol=1e-9)
    np.testing.assert_allclose(moved + there.solve(precision, moved), here.solve(precision, np.zeros(5)), rtol=1e-9)


def test_unknowns_alone_are_those_of_the_whole_fit():
    rng = np.random.default_rng(3)
    factors = rng.normal(size=(FOLDS, 5, 9))
    whole = FoldedEquations(matrices=factors @ np.swapaxes(factors, 1, 2), rights=rng.normal(size=(FOLDS, 5)))
    alone = whole.along(slice(3, None))
    # without a prior, and with the others at what all sets say of them given nothing else
    first = np.linalg.solve(whole.matrices.sum(0)[:3, :3], whole.rights.sum(0)[:3])
    moved = FoldedEquations(
        matrices=whole.matrices, rights=whole.rights - whole.matrices @ np.concatenate([first, np.zeros(2)])
    ).along(slice(3, None))
    none, zero = np.zeros((5, 5)), np.zeros(5)
    np.testing.assert_allclose(moved.solve(np.zeros((2, 2)), np.zeros(2)), whole.solve(none, zero)[3:], rtol=1e-8)
    np.testing.assert_allclose((alone + alone).rights, 2.0 * alone.rights)


@dataclass(frozen=True)
class _Planted:
    """Images that say one thing of their place, with noise."""

    views: ImageViews
    terms: LocalTerms


def _planted(shift: float, seed: int) -> _Planted:
    _, views = _problem()
    rng = np.random.default_rng(seed)
    count, local = len(views), len(LOCAL)
    curvature = np.tile(np.diag(np.where(np.arange(local) == AT["defocus"], 1e-6, 1.0)), (count, 1, 1))
    root = np.sqrt(np.diagonal(curvature, axis1=1, axis2=2))
    gradient = root * rng.normal(size=(count, local))
    wanted = rng.normal(0.0, shift, (TILTS, 2))
    gradient[:, AT["x"]] += wanted[views.tilt, 0]
    gradient[:, AT["y"]] += wanted[views.tilt, 1]
    return _Planted(views=views, terms=LocalTerms(gradient=gradient, curvature=curvature))


def test_groups_are_kept_where_images_ask_for_them_and_seldom_where_they_hold_noise():
    groups = [[TiltShifts(TILTS)], [TiltDefocus(TILTS)]]
    folds = np.arange(COUNT) % 6
    fixed = KeptGroup(unknowns=TiltDefocus(TILTS, name="fixed"), size=1.0, total=np.zeros(TILTS))
    by_chance = 0
    for seed in range(8):
        asked, idle = (_planted(s, seed) for s in (3.0, 0.0))
        choice = GroupChooser(asked.terms, asked.views, folds, sets=int(folds.max()) + 1, certainty=2.0).choose(
            [fixed], groups
        )
        assert choice.trials[0].accepted, seed
        assert len(choice.changes) == len(choice.sigmas) == len(choice.groups)
        nothing = GroupChooser(idle.terms, idle.views, folds, sets=int(folds.max()) + 1, certainty=2.0).choose(
            [fixed], groups
        )
        by_chance += sum(t.accepted for t in [choice.trials[1], *nothing.trials])
    # two deviations of a mean of six sets: one trial in twenty, and 24 trials
    assert by_chance <= 4


def _sums(seed: int, images: int) -> FourierSums:
    rng = torch.Generator().manual_seed(seed)
    empty = FourierSums.empty(16, 5.0)
    return replace(
        empty,
        data=torch.randn(empty.data.shape, generator=rng, dtype=torch.complex64),
        weight=torch.rand(empty.weight.shape, generator=rng).to(torch.complex64),
        images=images,
    )


def test_parts_add_up_to_their_halves_and_each_is_of_one_half():
    halves = np.random.default_rng(0).integers(1, 3, 47)
    part = parts_of_halves(halves, 5, seed=3)
    np.testing.assert_array_equal(part // 5 + 1, halves)
    for half in (1, 2):
        sizes = np.bincount(part[halves == half] - 5 * (half - 1), minlength=5)
        assert sizes.max() - sizes.min() <= 1
    sums = PartSums(sums=tuple(_sums(i, i + 1) for i in range(6)), part=part % 6, tilts_used=np.ones(47, np.int64))
    assert sums.parts == 3
    first, second = sums.halves()
    torch.testing.assert_close(first.data, sums.sums[0].data + sums.sums[1].data + sums.sums[2].data)
    torch.testing.assert_close(second.weight, sums.sums[3].weight + sums.sums[4].weight + sums.sums[5].weight)
    assert (first.images, second.images) == (6, 15)


def test_a_reference_holds_nothing_of_the_part_that_is_compared_with_it():
    parts = tuple(_sums(i, 10) for i in range(6))
    sums = PartSums(sums=parts, part=np.arange(6), tilts_used=np.ones(6, np.int64))
    params = AverageParams(mask_diameter_angstrom=30.0)
    result = average_halves(sums.halves(), params, halves=np.array([1, 1, 1, 2, 2, 2]), tilts_used=np.ones(6, np.int64))
    result = replace(
        result, correlation=replace(result.correlation, corrected=np.ones_like(result.correlation.corrected))
    )

    def references(some):
        changed = replace(sums, sums=some)
        # finer than any length is joined, so halves stay apart
        return changed.references(result, "C1", finest_angstrom=10.0, joined_angstrom=1e6)

    before = references(parts)
    after = references((_sums(99, 10), *parts[1:]))
    assert len(before) == 6
    torch.testing.assert_close(after[0], before[0], atol=1e-5 * float(before[0].abs().max()), rtol=0)
    for other in (1, 2):
        assert float((after[other] - before[other]).abs().max()) > 0.05 * float(before[other].abs().max())
    for other in (3, 4, 5):  # of the other half
        torch.testing.assert_close(after[other], before[other])


@pytest.mark.parametrize("halves", [[1, 2, 2, 2], [1, 1, 1, 1]])
def test_a_half_of_one_particle_has_nothing_to_be_compared_with(halves):
    with pytest.raises(InputError, match="two at least"):
        parts_of_halves(np.array(halves), 5)


def test_columns_of_other_widths_stand_beside_each_other():
    terms, views = _problem()
    columns = {"x": csr_array((len(views), 3)), "defocus": csr_array(np.ones((len(views), 3)))}
    equations = SharedEquations.build(terms, views, columns, np.zeros(COUNT, np.int64), 1)
    assert equations.matrices.shape == (1, 3, 3)
    assert math.isfinite(float(equations.rights.sum()))
