"""Things other than the molecule that are fitted to every likely place: what one of them fits best is no pick.

They judge a template and the decoys that were searched for alike, so that what decoys win still tells the share of false picks.
A stranger prefers one of few members by chance, the same one in each of its copies; among many it seldom prefers the
template, and then by little.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from eucentric.compute.seeds import seeded_generator
from eucentric.picking.decoys import decoy_count, scrambled_template
from eucentric.picking.fit_places import SearchedTomogram
from eucentric.picking.foreign_places import membrane_patches
from eucentric.picking.refine_poses import Poses
from eucentric.picking.templates import Template
from eucentric.typing import FloatArray

_OTHER = 1_000_003  # to the seed: decoys that judge are none of those that are searched for
_REFINED = 3  # decoys for each place, those that fit it best coarsely
_STEPS, _COARSEST_DEG = 2.0, 30.0  # of the search's step, between the orientations of decoys that judge


def judge_fits(
    tomogram: SearchedTomogram,
    template: Template,
    frame: FloatArray,
    places: NDArray[np.int64],
    members: Sequence[Poses],
    background: float,
    least_score: float,
    seed: int,
) -> FloatArray:
    """(place,) greatest score of further decoys and of pieces of membrane; minus infinity where none was fitted.

    Parameters
    ----------
    frame : (3, 3) to the axes of the template's symmetry
    places : (place, 3) z, y, x, voxels of the coarse volume
    members : the template and its decoys, fitted there
    background : by which scores are divided
    least_score : standard deviations, of picks: places where no member reaches it are not judged
    """
    out = np.full(len(places), -np.inf)
    params = tomogram.params
    if template.isotropic:
        return out
    best = np.max([np.nan_to_num(m.scores, nan=-np.inf) for m in members], axis=0)
    likely = np.flatnonzero(best >= least_score)
    if not len(likely):
        return out
    scores = [np.full(len(likely), -np.inf)]
    if decoy_count(template, params) and params.judging_decoys:
        scores.append(_of_decoys(tomogram, template, frame, places[likely], background, seed))
    if params.leave_membranes:
        patches = membrane_patches(template)
        scores += [tomogram.fit(patch, np.eye(3), places[likely], background).scores for patch in patches]
    out[likely] = np.max(np.nan_to_num(scores, nan=-np.inf), axis=0)
    return out


def _of_decoys(
    tomogram: SearchedTomogram,
    template: Template,
    frame: FloatArray,
    places: NDArray[np.int64],
    background: float,
    seed: int,
) -> FloatArray:
    """(place,) greatest score of the decoys that judge."""
    generator = seeded_generator(seed + _OTHER)
    # copies cost more than fits here; finer turns are left to the refinement
    rough = tomogram.at_step(min(_COARSEST_DEG, _STEPS * tomogram.params.coarse_step_deg))
    decoys = [scrambled_template(template, frame, generator) for _ in range(tomogram.params.judging_decoys)]
    starts = [rough.coarse_fit(decoy, frame, places) for decoy in decoys]
    rank = np.argsort(np.argsort([-s.scores for s in starts], axis=0), axis=0)
    out = np.full(len(places), -np.inf)
    for decoy, start, place in zip(decoys, starts, rank, strict=True):
        chosen = np.flatnonzero(place < _REFINED)
        some = Poses(
            positions_angstrom=start.positions_angstrom[chosen],
            rotations=start.rotations[chosen],
            scores=start.scores[chosen],
        )
        scores = rough.refined(decoy, some, background).scores
        out[chosen] = np.fmax(out[chosen], scores)
    return out
