"""Template matching: every orientation everywhere at coarse sampling, the best places refined, decoys for the statistics."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from eucentric.compute.device import free_bytes
from eucentric.errors import InputError
from eucentric.picking.competition import Rivals, judge_places
from eucentric.picking.decoys import decoy_count, decoys_of
from eucentric.picking.false_discovery import chance_level
from eucentric.picking.find_peaks import greedy, local_maxima, top_hat_region
from eucentric.picking.fit_places import Level, SearchedTomogram
from eucentric.picking.foreign_places import far_denser, noise_deviation
from eucentric.picking.judges import judge_fits
from eucentric.picking.overlap import Solid
from eucentric.picking.params import MatchParams
from eucentric.picking.refine_poses import Poses
from eucentric.picking.rotated_templates import RowBasis, TemplateRows
from eucentric.picking.search_masks import SearchMask, with_search_mask
from eucentric.picking.search_volume import PatternMaps, ScoreVolume, search_volume
from eucentric.picking.symmetry_axes import symmetry_frame
from eucentric.picking.templates import Template, check_template_size
from eucentric.picking.tomogram_transfer import TomogramTransfer
from eucentric.typing import FloatArray

_COARSEST, _FINEST = 16.0, 8.0
_MASK_POWER = 0.99  # of masks that turn, held by their patterns: their deviations then err by less than 1% in noise
_KEPT = 2 * 2**30  # bytes of pattern scores kept between both passes of a search
_NOISE = 4.0  # robust deviations of the map of greatest scores above its median: candidates


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MatchResult:
    """What was found. Arrays by pick, best first."""

    positions_angstrom: FloatArray
    """(pick, 3), x, y, z from the specimen centre."""
    rotations: FloatArray
    """(pick, 3, 3), reference to specimen."""
    scores: FloatArray
    """In standard deviations of the background."""
    margins: FloatArray
    """By how many standard deviations the template fits better than its best decoy: root of the difference of squares."""
    q_values: FloatArray
    """Share of false picks among those whose margin is as large; NaN without decoys, and below the least score."""
    templates: NDArray[np.int64]
    """Number of the template."""
    kept: NDArray[np.bool_]
    """Whether score, q-value and odds pass the cut-offs; the others are candidates."""
    decoy_scores: FloatArray
    """Of the decoys that won their places, best first."""
    decoy_margins: FloatArray
    decoy_templates: NDArray[np.int64]
    """Number of the template that each decoy was made from."""
    cutoff: float
    score_volumes: tuple[Float[Tensor, "z y x"], ...]
    """Of each template: greatest coarse score in standard deviations of the background, NaN where it was not looked."""
    score_voxel_angstrom: FloatArray
    """(template,) of the score volumes."""
    rotation_voxels: float
    """Orientations times voxels that were compared, of all templates and decoys."""


def coarse_voxel_size(template: Template, voxel_size: float, params: MatchParams) -> float:
    """A per voxel: the finest detail that the angular step resolves at the rim of the template, twice sampled."""
    if params.coarse_voxel_angstrom is not None:
        return max(voxel_size, params.coarse_voxel_angstrom)
    detail = template.diameter_angstrom * math.radians(params.coarse_step_deg)
    return max(voxel_size, min(_COARSEST, max(_FINEST, 0.5 * detail)))


def fine_voxel_size(templates: Sequence[Template], voxel_size: float, params: MatchParams) -> float:
    """A per voxel of the refinement: the detail that the fine step moves at the rim of the smallest template, twice sampled."""
    detail = min(t.diameter_angstrom for t in templates) * math.radians(params.fine_step_deg)
    return max(voxel_size, min(_FINEST, 0.5 * detail))


def match_templates(
    volume: Float[Tensor, "z y x"],
    voxel_size: float,
    templates: Sequence[Template],
    transfer: TomogramTransfer,
    params: MatchParams,
    *,
    region: Tensor | None = None,
    seed: int = 0,
    on_step: Callable[[float], None] | None = None,
) -> MatchResult:
    """Find the particles of one tomogram.

    Parameters
    ----------
    volume : as recorded, protein dark
    voxel_size : A
    templates : protein bright, on voxels of `voxel_size`; each place goes to the one that scores best
    transfer : of the tilt series
    region : (z, y, x) bool, where centres of particles may lie; everywhere where None
    seed : of the decoys
    on_step : told the part that is done

    Raises
    ------
    InputError : a template larger than the tomogram, nowhere to look, or a tomogram without contrast
    """
    if not templates:
        raise InputError("No template was given. Give one with --template.")
    for template in templates:
        check_template_size(template, volume.shape, voxel_size)
    look = torch.ones(volume.shape, dtype=torch.bool, device=volume.device) if region is None else region
    if not bool(look.any()):
        raise InputError(
            "No voxel is left to look at. Check the mask, the specimen's thickness and the edges left out."
        )
    if float(volume.std()) == 0.0:
        raise InputError("The tomogram holds one value only. Reconstruct it again.")
    templates = [with_search_mask(template, params) for template in templates]
    fine = Level.build(volume, voxel_size, fine_voxel_size(templates, voxel_size, params), transfer, look)
    levels: dict[float, Level] = {}
    noise = noise_deviation(_sample(fine.volume[fine.region]))
    frames = [symmetry_frame(t) for t in templates]
    steps = sum(2 + decoy_count(t, params) for t in templates)  # the last one of each kind: the fits
    rivals: list[Rivals] = []
    maps: list[Tensor] = []
    voxels: list[float] = []
    tests, level_tests, done = 0.0, 1.0, 0
    for number, (template, frame) in enumerate(zip(templates, frames, strict=True)):
        size = coarse_voxel_size(template, voxel_size, params)
        if size > fine.voxel and size not in levels:
            levels[size] = Level.build(volume, voxel_size, size, transfer, look)
        tomogram = SearchedTomogram(coarse=levels.get(size, fine), fine=fine, transfer=transfer, params=params)
        kind = [(template, frame), *decoys_of(template, frame, params, seed + number)]
        searched = []
        for member, axes in kind:
            searched.append(_search_one(tomogram, member, axes))
            done += 1
            if on_step is not None:
                on_step(done / steps)
        places = _joined(searched, template, tomogram.coarse.voxel, params)
        members = tuple(
            tomogram.fit(member, axes, places, one.background)
            for (member, axes), one in zip(kind, searched, strict=True)
        )
        level_tests = max(level_tests, searched[0].tests)
        least = chance_level(searched[0].tests) if params.least_score is None else params.least_score
        judged = judge_fits(tomogram, template, frame, places, members, searched[0].background, least, seed + number)
        half = 0.5 * params.spacing * template.diameter_angstrom
        foreign = _foreign(tomogram, noise, template, members[0], searched[0].background)
        solid = None if template.isotropic else Solid.of_template(template)
        rivals.append(Rivals(members=members, judges=judged, foreign=foreign, radius_angstrom=half, solid=solid))
        maps.append(searched[0].shown)
        voxels.append(tomogram.coarse.voxel)
        tests += sum(s.tests for s in searched)
        done += 1
        if on_step is not None:
            on_step(done / steps)
    cutoff = chance_level(level_tests) if params.least_score is None else params.least_score
    verdict = judge_places(rivals, rate=params.false_discovery_rate, least_score=cutoff)
    return MatchResult(
        positions_angstrom=verdict.positions_angstrom,
        rotations=verdict.rotations,
        scores=verdict.scores,
        margins=verdict.margins,
        q_values=verdict.q_values,
        templates=verdict.kinds,
        kept=verdict.kept,
        decoy_scores=verdict.decoy_scores,
        decoy_margins=verdict.decoy_margins,
        decoy_templates=verdict.decoy_kinds,
        cutoff=cutoff,
        score_volumes=tuple(maps),
        score_voxel_angstrom=np.array(voxels),
        rotation_voxels=tests,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Searched:
    """What the coarse search for a template or decoy found."""

    places: NDArray[np.int64]
    """(n, 3) z, y, x, voxels of the coarse volume, best first."""
    values: FloatArray
    shown: Float[Tensor, "z y x"]
    background: float
    """Rms score over all orientations at the median voxel."""
    tests: float


def _search_one(tomogram: SearchedTomogram, template: Template, frame: FloatArray) -> _Searched:
    """Where a template, whose axes are turned by `frame`, may lie."""
    coarse, params, region = tomogram.coarse, tomogram.params, tomogram.coarse.region
    rows, _ = tomogram.rows(template, frame)
    scores, tests = _search(coarse.volume, rows, params, region)
    background = float(scores.mean_square[region].median().sqrt()) or 1.0
    best = scores.best / background
    peaks = best
    if params.top_hat:
        sharp, level = top_hat_region(best)
        peaks = torch.where(sharp > level, best, torch.full_like(best, -math.inf))
    inside = best[region & torch.isfinite(best)]
    middle = float(inside.median())
    floor = middle + _NOISE * 1.4826 * float((inside - middle).abs().median())
    places, values = local_maxima(peaks, params.spacing * template.diameter_angstrom / coarse.voxel, floor)
    return _Searched(
        places=places[: params.most_particles],
        values=values[: params.most_particles],
        shown=torch.where(torch.isfinite(best), best, torch.full_like(best, math.nan)),
        background=background,
        tests=tests,
    )


def _joined(searched: Sequence[_Searched], template: Template, voxel: float, params: MatchParams) -> NDArray[np.int64]:
    """Places that a template or any of its decoys found, those alone that differ, best first."""
    every, scores = np.concatenate([s.places for s in searched]), np.concatenate([s.values for s in searched])
    near = 0.5 * params.spacing * template.diameter_angstrom / voxel
    return every[greedy(every.astype(np.float64), scores, near)][: params.most_particles]


def _foreign(
    tomogram: SearchedTomogram, noise: float, template: Template, poses: Poses, background: float
) -> NDArray[np.bool_]:
    """(place,) where something far denser lies than the template, fitted there, explains."""
    fine = tomogram.fine
    own = template.resampled(fine.voxel).moved_to(fine.volume.device)
    mask = SearchMask.build(own, tomogram.params, fine.volume).ball
    # of unit templates: the squared score over the voxels is the squared correlation coefficient
    explained = (poses.scores * background) ** 2 / float(mask.square().sum())
    return far_denser(fine.volume, fine.voxel, mask, fine.on_cubes(poses.positions_angstrom), explained, noise=noise)


def _search(
    volume: Float[Tensor, "z y x"], rows: TemplateRows, params: MatchParams, region: Tensor
) -> tuple[ScoreVolume, float]:
    count, voxels = len(rows.rows), int(region.sum())
    basis = None if params.kept_power >= 1.0 else RowBasis.build(rows.rows, part=params.kept_power)
    masks = None
    if rows.masks is not None and basis is not None:
        masks = RowBasis.build(rows.masks, part=_MASK_POWER, most=150, unit=False)
    if params.survey_part >= 1.0 or count < 500:
        return search_volume(volume, rows, basis, masks, region=region), float(count) * voxels
    # every eighth orientation is as even a set of twice the step
    few = slice(0, None, 8)
    first = rows.of(few)
    some = [None if b is None else b.of(few) for b in (basis, masks)]
    # a scored place takes two bytes for each pattern
    maps = (
        None
        if basis is None or masks is not None
        else PatternMaps(limit_bytes=min(_KEPT, free_bytes(volume.device) // 3))
    )
    survey = search_volume(volume, first, *some, region=region, maps=maps)
    level = torch.quantile(_sample(survey.best[region]), 1.0 - params.survey_part)
    good = ((survey.best > level) & region)[None, None].float()
    near = (torch.nn.functional.max_pool3d(good, 3, stride=1, padding=1)[0, 0] > 0) & region
    second = search_volume(volume, rows, basis, masks, region=near, maps=maps)
    best = torch.maximum(survey.best, second.best)
    compared = len(first.rows) * float(voxels) + count * float(near.sum())
    return ScoreVolume(best=best, mean_square=survey.mean_square), compared


def _sample(values: Tensor) -> Tensor:
    return values[:: max(1, len(values) // 1_000_000)]
