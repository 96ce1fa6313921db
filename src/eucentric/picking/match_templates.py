"""Template matching: every orientation everywhere at coarse sampling, the best places refined, decoys for the statistics."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Self

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from eucentric.compute.device import free_bytes
from eucentric.errors import InputError
from eucentric.fourier.crop import fourier_crop, rescaled_shape
from eucentric.geometry.so3 import sample_rotations
from eucentric.picking.competition import Rivals, judge_places
from eucentric.picking.decoys import decoy_count, decoys_of
from eucentric.picking.false_discovery import chance_level
from eucentric.picking.find_peaks import greedy, local_maxima, top_hat_region
from eucentric.picking.foreign_places import far_denser, membrane_patches, noise_deviation
from eucentric.picking.overlap import Solid
from eucentric.picking.params import MatchParams
from eucentric.picking.refine_poses import Poses, refine_poses
from eucentric.picking.rotated_templates import FourierTemplate, RowBasis, TemplateRows
from eucentric.picking.search_masks import SearchMask, with_search_mask
from eucentric.picking.search_volume import PatternMaps, ScoreVolume, search_volume
from eucentric.picking.symmetry_axes import symmetry_frame
from eucentric.picking.templates import Template, check_template_size
from eucentric.picking.tomogram_transfer import TomogramTransfer
from eucentric.picking.whitening import NoiseSpectrum
from eucentric.typing import FloatArray

_PATCH_ANGSTROM = 400.0
_COARSEST, _FINEST = 16.0, 8.0
_MASK_POWER = 0.99  # of masks that turn, held by their patterns: their deviations then err by less than 1% in noise
_KEPT = 2 * 2**30  # bytes of pattern scores kept between both passes of a search
_LAYER = 200.0  # A of height that share one transfer: 0.05 rad of phase at 16 A
_PLACES = 64  # whose best orientations are found at once
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
    """Share of false picks among those whose margin is as large; NaN without decoys."""
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
    score_voxel_angstrom: float
    rotation_voxels: float
    """Orientations times voxels that were compared, of all templates and decoys."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Level:
    """The tomogram whitened at one sampling."""

    volume: Float[Tensor, "z y x"]
    voxel: float
    spectrum: NoiseSpectrum

    @classmethod
    def build(cls, volume: Float[Tensor, "z y x"], voxel: float, transfer: TomogramTransfer, region: Tensor) -> Self:
        side = 2 * max(6, math.ceil(0.5 * _PATCH_ANGSTROM / voxel))
        side = min(side, 2 * (min(volume.shape) // 2))
        coverage = transfer.coverage(side, voxel).to(volume)
        spectrum = NoiseSpectrum.estimate(volume, voxel, coverage, region)
        return cls(volume=spectrum.whiten(volume), voxel=voxel, spectrum=spectrum)


def coarse_voxel_size(templates: Sequence[Template], voxel_size: float, params: MatchParams) -> float:
    """A per voxel: the finest detail that the angular step resolves at the rim of the smallest template, twice sampled."""
    if params.coarse_voxel_angstrom is not None:
        return max(voxel_size, params.coarse_voxel_angstrom)
    detail = min(t.diameter_angstrom for t in templates) * math.radians(params.coarse_step_deg)
    return max(voxel_size, min(_COARSEST, max(_FINEST, 0.5 * detail)))


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
    wanted = coarse_voxel_size(templates, voxel_size, params)
    shape = rescaled_shape(volume.shape, voxel_size, wanted)
    shape = tuple(min(n, o) for n, o in zip(shape, volume.shape, strict=True))
    coarse_size = voxel_size * volume.shape[2] / shape[2]
    few = torch.nn.functional.interpolate(look[None, None].float(), size=shape, mode="nearest")[0, 0] > 0.5
    coarse = _Level.build(fourier_crop(volume, shape), coarse_size, transfer, few)
    fine = coarse if tuple(shape) == tuple(volume.shape) else _Level.build(volume, voxel_size, transfer, look)
    spacing = np.array([voxel_size * o / n for o, n in zip(volume.shape, shape, strict=True)])
    frames = [symmetry_frame(t) for t in templates]
    searches = sum(1 + decoy_count(t, params) for t in templates)
    rivals: list[Rivals] = []
    maps: list[Tensor] = []
    tests, level_tests, done = 0.0, 1.0, 0
    for number, (template, frame) in enumerate(zip(templates, frames, strict=True)):
        kind = [(template, frame), *decoys_of(template, frame, params, seed + number)]
        searched = []
        for member, axes in kind:
            searched.append(_search_one(coarse, member, axes, transfer, params, few))
            done += 1
            if on_step is not None:
                on_step(done / searches)
        places = _joined([s.places for s in searched], [s.values for s in searched], template, coarse.voxel, params)
        members = tuple(
            _fit_places(coarse, fine, spacing, member, axes, transfer, params, places, one.background)
            for (member, axes), one in zip(kind, searched, strict=True)
        )
        half = 0.5 * params.spacing * template.diameter_angstrom
        foreign = _foreign(fine, look, template, members[0], searched[0].background, params)
        if params.leave_membranes and not template.isotropic:
            fit = partial(_fit_places, coarse, fine, spacing, transfer=transfer, params=params, places=places)
            foreign |= _on_membranes(fit, template, members, searched[0].background)
        solid = None if template.isotropic else Solid.of_template(template)
        rivals.append(Rivals(members=members, foreign=foreign, radius_angstrom=half, solid=solid))
        maps.append(searched[0].shown)
        level_tests = max(level_tests, searched[0].tests)
        tests += sum(s.tests for s in searched)
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
        score_voxel_angstrom=coarse_size,
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


def _coarse_rows(
    coarse: _Level, template: Template, frame: FloatArray, transfer: TomogramTransfer, params: MatchParams
) -> tuple[TemplateRows, FloatArray]:
    """Copies in all orientations, and these."""
    rough = _on(template.resampled(coarse.voxel), coarse.volume)
    masks = SearchMask.build(rough, params, coarse.volume)
    side = masks.side
    gain = transfer.gain(side, coarse.voxel).to(coarse.volume) * coarse.spectrum.gain((side,) * 3)
    turns = np.eye(3)[None]
    if not template.isotropic:
        turns = sample_rotations(params.coarse_step_deg, template.symmetry) @ frame.T
    reader = FourierTemplate.build(rough, side)
    return TemplateRows.build(reader, turns, gain, masks.ball, masks.at if masks.turns else None), turns


def _search_one(
    coarse: _Level,
    template: Template,
    frame: FloatArray,
    transfer: TomogramTransfer,
    params: MatchParams,
    region: Tensor,
) -> _Searched:
    """Where a template, whose axes are turned by `frame`, may lie."""
    rows, _ = _coarse_rows(coarse, template, frame, transfer, params)
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


def _joined(
    places: Sequence[NDArray[np.int64]],
    values: Sequence[FloatArray],
    template: Template,
    voxel: float,
    params: MatchParams,
) -> NDArray[np.int64]:
    """Places that a template or any of its decoys found, those alone that differ, best first."""
    every, scores = np.concatenate(places), np.concatenate(values)
    near = 0.5 * params.spacing * template.diameter_angstrom / voxel
    return every[greedy(every.astype(np.float64), scores, near)][: params.most_particles]


def _fit_places(
    coarse: _Level,
    fine: _Level,
    spacing: FloatArray,
    template: Template,
    frame: FloatArray,
    transfer: TomogramTransfer,
    params: MatchParams,
    places: NDArray[np.int64],
    background: float,
) -> Poses:
    """Best poses at or about places of the coarse volume; scores over the background."""
    if not len(places):
        return Poses(positions_angstrom=np.zeros((0, 3)), rotations=np.zeros((0, 3, 3)), scores=np.zeros(0))
    rows, turns = _coarse_rows(coarse, template, frame, transfer, params)
    best, at = _best_rows(coarse.volume, rows, places)
    centre = np.array([n // 2 for n in coarse.volume.shape])
    start = Poses(
        positions_angstrom=((at - centre) * spacing)[:, ::-1].copy(),
        rotations=turns[best],
        scores=np.zeros(len(places)),
    )
    own = _on(template, fine.volume)
    masks = SearchMask.build(own, params, fine.volume)
    side, reader = masks.side, FourierTemplate.build(own, masks.side)
    whiten = fine.spectrum.gain((side,) * 3)

    @lru_cache(maxsize=64)
    def layer(number: int) -> Tensor:
        return transfer.gain(side, fine.voxel, number * _LAYER).to(whiten) * whiten

    poses = refine_poses(
        fine.volume,
        fine.voxel,
        reader,
        lambda height: layer(round(height / _LAYER)),
        masks.one,
        start,
        diameter_angstrom=template.diameter_angstrom,
        step_deg=params.coarse_step_deg,
        shift_angstrom=coarse.voxel,
        fine_step_deg=params.fine_step_deg,
    )
    return Poses(
        positions_angstrom=poses.positions_angstrom, rotations=poses.rotations, scores=poses.scores / background
    )


def _foreign(
    fine: _Level, region: Tensor, template: Template, poses: Poses, background: float, params: MatchParams
) -> NDArray[np.bool_]:
    """(place,) where something far denser lies than the template, fitted there, explains."""
    mask = SearchMask.build(_on(template, fine.volume), params, fine.volume).ball
    # of unit templates: the squared score over the voxels is the squared correlation coefficient
    explained = (poses.scores * background) ** 2 / float(mask.square().sum())
    noise = noise_deviation(_sample(fine.volume[region]))
    return far_denser(fine.volume, fine.voxel, mask, poses.positions_angstrom, explained, noise=noise)


def _on_membranes(
    fit: Callable[..., Poses], template: Template, members: Sequence[Poses], background: float
) -> NDArray[np.bool_]:
    """(place,) where a piece of membrane fits better than the template and all of its decoys.

    Judged by all of them alike: else places of decoys would go and those of templates stay.

    Parameters
    ----------
    fit : `_fit_places` with all but the template, its axes and the background
    """
    best = np.max([np.nan_to_num(m.scores, nan=-np.inf) for m in members], axis=0)
    patches = [fit(patch, np.eye(3), background=background) for patch in membrane_patches(template)]
    return np.asarray(np.any([np.nan_to_num(p.scores, nan=-np.inf) > best for p in patches], axis=0))


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


def _best_rows(
    volume: Float[Tensor, "z y x"], rows: TemplateRows, places: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which row fits best at or beside each place, and at which voxel."""
    side = rows.mask.shape[0]
    low = side // 2 + 1
    padded = torch.nn.functional.pad(volume, (low, side + 2 - low) * 3)
    few = rows.rows[::8]
    best, at = [], []
    for start in range(0, len(places), _PLACES):
        patches = []
        for z, y, x in places[start : start + _PLACES]:
            cube = padded[z : z + side + 2, y : y + side + 2, x : x + side + 2]
            moved = cube.unfold(0, side, 1).unfold(1, side, 1).unfold(2, side, 1).reshape(27, -1)[:, rows.voxels]
            nearby = int((few @ moved.T).amax(0).argmax())
            at.append(np.array([z, y, x]) + np.array(np.unravel_index(nearby, (3, 3, 3))) - 1)
            patches.append(moved[nearby])
        best.append((rows.rows @ torch.stack(patches, dim=1)).argmax(0).cpu().numpy())
    return np.concatenate(best), np.stack(at)


def _on(template: Template, like: Tensor) -> Template:
    return template.moved_to(like.device)
