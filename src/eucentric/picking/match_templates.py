"""Template matching: every orientation everywhere at coarse sampling, the best places refined, decoys for the statistics."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from eucentric.compute.seeds import seeded_generator
from eucentric.errors import InputError
from eucentric.fourier.crop import fourier_crop, rescaled_shape
from eucentric.geometry.so3 import sample_rotations
from eucentric.picking.false_discovery import chance_level, q_values, win_places
from eucentric.picking.find_peaks import local_maxima, top_hat_region
from eucentric.picking.params import MatchParams
from eucentric.picking.refine_poses import Poses, refine_poses
from eucentric.picking.rotated_templates import FourierTemplate, RowBasis, TemplateRows
from eucentric.picking.search_masks import SearchMask, with_search_mask
from eucentric.picking.search_volume import ScoreVolume, search_volume
from eucentric.picking.symmetry_axes import symmetry_frame
from eucentric.picking.templates import Template, check_template_size
from eucentric.picking.tomogram_transfer import TomogramTransfer
from eucentric.picking.whitening import NoiseSpectrum
from eucentric.typing import FloatArray

_PATCH_ANGSTROM = 400.0
_COARSEST, _FINEST = 16.0, 8.0
_MASK_POWER = 0.99  # of masks that turn, held by their patterns: their deviations then err by less than 1% in noise
_LAYER = 200.0  # A of height that share one transfer: 0.05 rad of phase at 16 A
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
    q_values: FloatArray
    """Share of false picks among those that score as well; NaN without decoys."""
    templates: NDArray[np.int64]
    """Number of the template."""
    kept: NDArray[np.bool_]
    """Whether score and q-value pass the cut-offs; the others are candidates."""
    decoy_scores: FloatArray
    """Of the decoys that won their places, best first."""
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
    jobs = [(number, template, False) for number, template in enumerate(templates)]
    jobs += [(n, d, True) for n, t in enumerate(templates) for d in _decoys(t, params, seed)]
    found: list[tuple[int, bool, Poses]] = []
    maps: list[Tensor] = []
    tests, level_tests = 0.0, 1.0
    for done, (number, template, decoy) in enumerate(jobs):
        poses, best, count = _match_one(coarse, fine, spacing, template, frames[number], transfer, params, few)
        found.append((number, decoy, poses))
        if not decoy:
            maps.append(best)
            level_tests = max(level_tests, count)
        tests += count
        if on_step is not None:
            on_step((done + 1) / len(jobs))
    return _judge(found, maps, templates, params, coarse_size, tests, chance_level(level_tests))


def _decoys(template: Template, params: MatchParams, seed: int) -> list[Template]:
    out = []
    if params.decoys in ("scrambled", "both"):
        out.append(template.scrambled(seeded_generator(seed)))
    if params.decoys in ("mirrored", "both"):
        out.append(template.mirrored())
    return out


def _match_one(
    coarse: _Level,
    fine: _Level,
    spacing: FloatArray,
    template: Template,
    frame: FloatArray,
    transfer: TomogramTransfer,
    params: MatchParams,
    region: Tensor,
) -> tuple[Poses, Tensor, float]:
    """Candidates of one template, whose axes are turned by `frame`, poses refined; its scores; comparisons made."""
    rough = _on(template.resampled(coarse.voxel), coarse.volume)
    masks = SearchMask.build(rough, params, coarse.volume)
    side = masks.side
    gain = transfer.gain(side, coarse.voxel).to(coarse.volume) * coarse.spectrum.gain((side,) * 3)
    turns = np.eye(3)[None]
    if not template.isotropic:
        turns = sample_rotations(params.coarse_step_deg, template.symmetry) @ frame.T
    reader = FourierTemplate.build(rough, side)
    rows = TemplateRows.build(reader, turns, gain, masks.ball, masks.at if masks.turns else None)
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
    places, values = places[: params.most_particles], values[: params.most_particles]
    centre = np.array([n // 2 for n in coarse.volume.shape])
    start = Poses(
        positions_angstrom=((places - centre) * spacing)[:, ::-1].copy().reshape(-1, 3),
        rotations=turns[_best_rows(coarse.volume, rows, places)].reshape(-1, 3, 3),
        scores=values,
    )
    shown = torch.where(torch.isfinite(best), best, torch.full_like(best, math.nan))
    if not len(places):
        return start, shown, tests
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
    scaled = Poses(
        positions_angstrom=poses.positions_angstrom, rotations=poses.rotations, scores=poses.scores / background
    )
    return scaled, shown, tests


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
    survey = search_volume(volume, first, *some, region=region)
    level = torch.quantile(_sample(survey.best[region]), 1.0 - params.survey_part)
    good = ((survey.best > level) & region)[None, None].float()
    near = (torch.nn.functional.max_pool3d(good, 3, stride=1, padding=1)[0, 0] > 0) & region
    second = search_volume(volume, rows, basis, masks, region=near)
    best = torch.maximum(survey.best, second.best)
    compared = len(first.rows) * float(voxels) + count * float(near.sum())
    return ScoreVolume(best=best, mean_square=survey.mean_square), compared


def _sample(values: Tensor) -> Tensor:
    return values[:: max(1, len(values) // 1_000_000)]


def _best_rows(volume: Float[Tensor, "z y x"], rows: TemplateRows, places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Which row fits best at each place."""
    side = rows.mask.shape[0]
    low = side // 2
    padded = torch.nn.functional.pad(volume, (low, side - low) * 3)
    out = []
    for z, y, x in places:
        patch = padded[z : z + side, y : y + side, x : x + side].reshape(-1)[rows.voxels]
        out.append(int((rows.rows @ patch).argmax()))
    return np.array(out, dtype=np.int64)


def _on(template: Template, like: Tensor) -> Template:
    return template.moved_to(like.device)


def _judge(
    found: list[tuple[int, bool, Poses]],
    maps: list[Tensor],
    templates: Sequence[Template],
    params: MatchParams,
    voxel: float,
    tests: float,
    chance: float,
) -> MatchResult:
    """Targets and decoys compete for every place; q-values of the winners, template by template."""
    positions = np.concatenate([p.positions_angstrom for _, _, p in found])
    rotations = np.concatenate([p.rotations for _, _, p in found])
    scores = np.concatenate([p.scores for _, _, p in found])
    kind = np.concatenate([np.full(len(p.scores), n) for n, _, p in found]).astype(np.int64)
    decoy = np.concatenate([np.full(len(p.scores), d) for _, d, p in found]).astype(bool)
    half = np.array([0.5 * params.spacing * t.diameter_angstrom for t in templates])
    finite = np.flatnonzero(np.isfinite(scores))
    winners = finite[win_places(positions[finite], scores[finite], half[kind[finite]])]
    targets = winners[~decoy[winners]]
    values = np.full(len(targets), np.nan)
    if params.decoys != "none":
        each = 2.0 if params.decoys == "both" else 1.0
        for number in range(len(templates)):
            mine = kind[targets] == number
            false = winners[decoy[winners] & (kind[winners] == number)]
            values[mine] = q_values(scores[targets[mine]], scores[false], decoys_per_target=each)
    cutoff = chance if params.least_score is None else params.least_score
    kept = scores[targets] >= cutoff
    if params.decoys != "none":
        kept &= values <= params.false_discovery_rate
    return MatchResult(
        positions_angstrom=positions[targets],
        rotations=rotations[targets],
        scores=scores[targets],
        q_values=values,
        templates=kind[targets],
        kept=kept,
        decoy_scores=scores[winners[decoy[winners]]],
        decoy_templates=kind[winners[decoy[winners]]],
        cutoff=cutoff,
        score_volumes=tuple(maps),
        score_voxel_angstrom=voxel,
        rotation_voxels=tests,
    )
