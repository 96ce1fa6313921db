"""Templates, their decoys and other templates compete for places."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from eucentric.fourier.grid import frequency_grid
from eucentric.geometry.symmetry import symmetry_rotations
from eucentric.picking.competition import Rivals, judge_places
from eucentric.picking.decoys import decoy_count, decoys_of, scrambled_template
from eucentric.picking.false_discovery import mixture_shares
from eucentric.picking.foreign_places import far_denser, noise_deviation
from eucentric.picking.masks import ball_mask
from eucentric.picking.params import MatchParams
from eucentric.picking.refine_poses import Poses
from eucentric.picking.rotated_templates import FourierTemplate
from eucentric.picking.templates import Template, sphere_template
from eucentric.pipeline.search_tomogram import too_few_to_tell


def rivals(scores, positions=None, *, radius=10.0, foreign=None):
    """Members by place, all at the same positions, far from each other where none are given."""
    count = scores.shape[1]
    places = 1000.0 * np.arange(count)[:, None] * np.eye(3)[0] if positions is None else positions
    turns = np.tile(np.eye(3), (count, 1, 1))
    return Rivals(
        members=tuple(Poses(positions_angstrom=places, rotations=turns, scores=row) for row in scores),
        foreign=np.zeros(count, dtype=bool) if foreign is None else foreign,
        radius_angstrom=radius,
    )


@pytest.mark.parametrize("decoys", [1, 3])
def test_other_molecules_that_score_as_high_do_not_spoil_the_claimed_share(decoys):
    rng = np.random.default_rng(7)
    shares, found = [], []
    for _ in range(60):
        noise = rng.normal(7.0, 0.7, (1 + decoys, 100))
        # strangers fit all members alike, up to what distinguishes any two shapes, and as well as some molecules fit theirs
        strangers = rng.normal(13.0, 1.5, 100) + rng.normal(0.0, 1.0, (1 + decoys, 100))
        own = rng.normal(14.0, 1.5, 100) + rng.normal(0.0, 1.0, (1 + decoys, 100))
        own[1:] *= 0.8
        verdict = judge_places([rivals(np.concatenate([noise, strangers, own], axis=1))], rate=0.1, least_score=5.0)
        real = verdict.positions_angstrom[:, 0] >= 200_000.0
        claimed = verdict.q_values <= 0.1
        shares.append((~real)[claimed].mean() if claimed.any() else 0.0)
        found.append((real & claimed).sum())
        assert not (verdict.kept & ~claimed).any()
    assert 0.05 < np.mean(shares) < 0.115
    assert np.mean(found) > 40


def test_with_a_clear_gap_hardly_anything_below_it_is_kept():
    more = []
    for seed in range(15):
        rng = np.random.default_rng(seed)
        own = np.concatenate([rng.normal(25.0, 1.0, (1, 80)), rng.normal(12.0, 1.0, (2, 80))])
        noise = rng.normal(8.0, 0.5, (3, 160))
        verdict = judge_places([rivals(np.concatenate([own, noise], axis=1))], rate=0.3, least_score=5.0)
        assert verdict.kept[:80].all()
        more.append((verdict.kept.sum() - 80, (verdict.q_values <= 0.3).sum() - 80))
    assert np.median([m[0] for m in more]) <= 2
    assert np.median([m[1] for m in more]) > 20


def test_each_place_goes_to_the_template_that_fits_it_best():
    places = np.array([[0.0, 0, 0], [400.0, 0, 0]])
    first = rivals(np.array([[30.0, 12.0], [9.0, 11.9]]), places)
    second = rivals(np.array([[14.0, 25.0], [13.5, 9.0]]), places + 5.0)
    verdict = judge_places([first, second], rate=1.0, least_score=6.0)
    np.testing.assert_array_equal(verdict.kinds, [0, 1])
    np.testing.assert_allclose(verdict.scores, [30.0, 25.0])
    np.testing.assert_allclose(verdict.margins, [np.sqrt(30.0**2 - 9.0**2), np.sqrt(25.0**2 - 9.0**2)])


def test_nearby_places_of_one_kind_go_to_the_best_even_if_it_is_a_decoy():
    places = np.array([[0.0, 0, 0], [15.0, 0, 0], [100.0, 0, 0]])
    verdict = judge_places([rivals(np.array([[9.0, 9.5, 9.0], [5.0, 11.0, 6.0]]), places)], rate=1.0, least_score=6.0)
    np.testing.assert_allclose(verdict.positions_angstrom, places[2:])
    np.testing.assert_allclose(verdict.decoy_scores, [11.0])
    np.testing.assert_array_equal(verdict.decoy_kinds, [0])


def test_a_template_that_is_its_own_decoy_wins_nothing():
    scores = np.linspace(20.0, 30.0, 40)
    verdict = judge_places([rivals(np.stack([scores, scores]))], rate=0.05, least_score=6.0)
    assert len(verdict.scores) == 0
    assert len(verdict.decoy_scores) == 40


def test_places_without_a_number_for_a_score_win_nothing():
    scores = np.array([[9.0, np.nan, 8.0], [np.nan, 5.0, 4.0]])
    verdict = judge_places([rivals(scores), rivals(np.zeros((2, 0)))], rate=1.0, least_score=6.0)
    np.testing.assert_allclose(verdict.scores, [8.0])
    np.testing.assert_allclose(verdict.q_values, [1.0])


def test_gold_and_empty_places_win_nothing():
    scores = np.array([[30.0, 20.0, -np.inf], [9.0, 8.0, -np.inf]])
    verdict = judge_places([rivals(scores, foreign=np.array([True, False, False]))], rate=1.0, least_score=6.0)
    np.testing.assert_allclose(verdict.scores, [20.0])


def test_judges_take_places_from_template_and_decoys_alike_and_narrow_margins():
    scores = np.array([[30.0, 20.0, 9.0, 12.0], [9.0, 8.0, 13.0, 8.0]])
    judged = Rivals(
        members=rivals(scores).members,
        foreign=np.zeros(4, dtype=bool),
        judges=np.array([18.0, 21.0, 14.0, -np.inf]),
        radius_angstrom=20.0,
    )
    verdict = judge_places([judged], rate=1.0, least_score=6.0)
    np.testing.assert_allclose(verdict.scores, [30.0, 12.0])
    np.testing.assert_allclose(verdict.margins, [24.0, np.sqrt(12.0**2 - 8.0**2)])
    assert len(verdict.decoy_scores) == 0


def test_a_stranger_that_prefers_a_template_by_chance_is_told_by_many_decoys():
    rng = np.random.default_rng(5)
    false, with_judges = [], []
    for _ in range(40):
        # 40 copies of one molecule, each member fits it to a degree of its own, the same in all copies
        likeness = rng.normal(11.0, 1.5, 13)
        strangers = likeness[:, None] + rng.normal(0.0, 0.5, (13, 40))
        own = np.concatenate([rng.normal(25.0, 1.0, (1, 60)), rng.normal(12.0, 1.0, (12, 60))])
        scores = np.concatenate([own, strangers], axis=1)
        few = rivals(scores[:3])
        many = Rivals(members=few.members, foreign=few.foreign, judges=scores[3:].max(0), radius_angstrom=20.0)
        for one, counts in ((few, false), (many, with_judges)):
            verdict = judge_places([one], rate=0.05, least_score=5.0)
            assert (verdict.kept & (verdict.scores > 20.0)).sum() == 60
            counts.append((verdict.kept & (verdict.scores < 20.0)).sum())
    assert np.mean(with_judges) < 0.5
    assert np.sum(false) > 5 * np.sum(with_judges)


def test_without_decoys_the_score_alone_counts():
    verdict = judge_places([rivals(np.array([[9.0, 5.0, 7.0]]))], rate=0.05, least_score=6.0)
    np.testing.assert_allclose(verdict.scores, [9.0, 7.0, 5.0])
    np.testing.assert_array_equal(verdict.kept, [True, True, False])
    assert np.isnan(verdict.q_values).all()
    empty = judge_places([rivals(np.zeros((2, 0)))], rate=0.05, least_score=6.0)
    assert len(empty.scores) == 0


def test_shares_of_a_mixture_are_those_of_its_parts():
    rng = np.random.default_rng(2)
    errors = []
    for true, false, decoys in ((800, 400, 200), (300, 800, 800), (1000, 200, 600)):
        # the targets' share of false ones is not that which so many decoys tell
        scores = np.concatenate([rng.normal(9.0, 1.5, true), rng.gamma(4.0, 0.7, false)])
        local, shares = mixture_shares(scores, rng.gamma(4.0, 0.7, decoys))
        order = np.argsort(-scores)
        assert (np.diff(local[order]) >= 0).all()
        assert (np.diff(shares[order]) >= -1e-12).all()
        assert ((local >= 0) & (local <= 1)).all()
        for claimed in (0.05, 0.2):
            passed = shares <= claimed
            errors.append((np.arange(len(scores)) >= true)[passed].mean() - claimed)
    assert np.abs(errors).max() < 0.04


def test_nothing_but_false_ones_is_no_mixture():
    rng = np.random.default_rng(3)
    taken = [(mixture_shares(rng.gamma(4.0, 0.7, 60), rng.gamma(4.0, 0.7, 120))[1] <= 0.05).sum() for _ in range(20)]
    assert np.mean(taken) < 1.0
    assert all(len(part) == 0 for part in mixture_shares(np.zeros(0), np.ones(2)))
    np.testing.assert_array_equal(mixture_shares(np.array([1.0, 2.0]), np.array([5.0, 6.0]))[0], 1.0)


def template(symmetry):
    rng = np.random.default_rng(3)
    from eucentric.optics.atoms import density_from_points

    points = rng.normal(size=(30, 3)) * (30.0, 18.0, 25.0) + (30.0, 10.0, 20.0)
    every = np.concatenate([points @ g.T for g in symmetry_rotations(symmetry)])
    density = density_from_points(every, np.full(len(every), 900.0), (36,) * 3, 10.0, b_factor=1500.0)
    return Template(name="t", density=density, voxel_size_angstrom=10.0, diameter_angstrom=200.0, symmetry=symmetry)


@pytest.mark.parametrize("symmetry", ["C1", "C3"])
def test_a_decoy_has_the_spectrum_densities_outline_and_symmetry_of_its_template(symmetry):
    own = template(symmetry)
    decoy = scrambled_template(own, np.eye(3), torch.Generator().manual_seed(1))
    a, b = torch.fft.rfftn(own.density), torch.fft.rfftn(decoy.density)
    frequency = (a * 0.0).real + frequency_grid((36,) * 3, 10.0)
    for low in np.arange(0.0, 0.05, 0.01):
        shell = (frequency >= low) & (frequency < low + 0.01)
        assert float(b[shell].norm() / a[shell].norm()) == pytest.approx(1.0, abs=0.2)
    # as solid as its template: where half of the mass is, ranked by density
    mass, decoys = (np.cumsum(np.sort(v.density.clamp_min(0).numpy().ravel())[::-1]) for v in (own, decoy))
    assert np.searchsorted(decoys, 0.5 * decoys[-1]) == pytest.approx(np.searchsorted(mass, 0.5 * mass[-1]), rel=0.35)
    alike = (a.conj() * b).real
    low = torch.fft.fftfreq(36)[:, None, None] ** 2 + torch.fft.fftfreq(36)[:, None] ** 2
    coarse = (low + torch.fft.rfftfreq(36) ** 2).sqrt() * 0.1 < 1.9 / 200.0
    fine = (low + torch.fft.rfftfreq(36) ** 2).sqrt() * 0.1 > 3.0 / 200.0
    for part, least, most in ((coarse, 0.9, 1.0), (fine, -0.4, 0.4)):
        likeness = float(alike[part].sum() / (a[part].norm() * b[part].norm()))
        assert least <= likeness <= most
    if symmetry == "C3":
        reader = FourierTemplate.build(decoy, 36)
        plain, turned = reader.rotated(np.stack([np.eye(3), symmetry_rotations("C3")[1]]))
        assert float((plain.conj() * turned).real.sum() / plain.norm() / turned.norm()) > 0.95


def test_settings_say_how_many_decoys():
    own = template("C1")
    made = decoys_of(own, np.eye(3), MatchParams(decoys="both", scrambled_decoys=3), seed=0)
    assert len(made) == decoy_count(own, MatchParams(decoys="both", scrambled_decoys=3)) == 4
    assert not torch.allclose(made[0][0].density, made[1][0].density)
    assert decoys_of(own, np.eye(3), MatchParams(decoys="none"), seed=0) == []
    assert decoys_of(sphere_template(120.0, voxel_size=10.0), np.eye(3), MatchParams(decoys="both"), seed=0) == []
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        MatchParams(scrambled_decoys=0)


def test_places_too_few_for_the_share_are_told():
    """Of 6 clear places two decoys tell a share of 1 / 12 at best; four tell 1 / 24."""

    def told(margins, kept=False, **settings):
        found = SimpleNamespace(
            templates=np.zeros(len(margins), dtype=np.int64),
            margins=np.array(margins),
            scores=np.full(len(margins), 9.0),
            kept=np.full(len(margins), kept),
            decoy_margins=np.array([4.0, 3.0]),
            decoy_templates=np.zeros(2, dtype=np.int64),
            cutoff=6.0,
        )
        return too_few_to_tell(found, [template("C1")], MatchParams(**settings))

    (words,) = told([9.0] * 6 + [2.0] * 20)
    assert words.startswith("6 places fit")
    assert "of 10 or more only. --scrambled-decoys 4," in words
    assert "--scrambled-decoys 17" in told([9.0] * 6, false_discovery_rate=0.01)[0]
    assert "A larger --false-discovery-rate" in told([9.0], false_discovery_rate=0.01)[0]
    for nothing in (
        told([9.0] * 6, kept=True),
        told([9.0] * 10),
        told([3.0] * 6),
        told([9.0] * 6, scrambled_decoys=4),
        told([9.0] * 6, decoys="none"),
    ):
        assert nothing == []


def test_gold_is_told_from_particles_however_bright():
    volume = torch.randn((40, 44, 48), generator=torch.Generator().manual_seed(2))
    ball = ball_mask((16, 16, 16), 10.0, 40.0, edge_angstrom=10.0)
    volume[4:20, 6:22, 8:24] += 8.0 * ball  # gold: far over noise, and no template explains it
    volume[4:20, 6:22, 28:44] += 1.2 * ball
    volume[22:38, 6:22, 8:24] += 8.0 * ball  # a particle as dense, which its template does explain
    places = np.array([[16, 14, 12], [36, 14, 12], [16, 14, 30], [36, 30, 30], [4000, 0, 0]]) - np.array([24, 22, 20])
    mask = ball_mask((16, 16, 16), 10.0, 60.0, edge_angstrom=10.0)
    noise = noise_deviation(volume.reshape(-1))
    assert noise == pytest.approx(1.0, abs=0.05)
    found = far_denser(volume, 10.0, mask, 10.0 * places, np.array([0.2, 0.2, 0.95, 0.0, 0.0]), noise=noise)
    np.testing.assert_array_equal(found, [True, False, False, False, False])
