"""Orientation and place of every particle of a batch, compared with a reference."""

import math
from dataclasses import dataclass, replace

import numpy as np

from eucentric.averaging.align_candidates import (
    CLIMBED,
    Candidates,
    SharedGrid,
    Stage,
    first_candidates,
    followed_up,
    narrowed,
    relative_rotations,
    search_stages,
)
from eucentric.averaging.align_climb import ClimbedPose, climb_pose
from eucentric.averaging.align_params import AlignParams
from eucentric.averaging.align_prior import Prior
from eucentric.averaging.align_reference import AlignReference
from eucentric.averaging.align_results import FoundPoses
from eucentric.averaging.align_samples import VolumeSamples, image_samples
from eucentric.averaging.particle_images import ParticleImages
from eucentric.errors import InputError, ShapeError
from eucentric.projection.cpu import run_items
from eucentric.typing import FloatArray

_CHUNK = 16  # particles whose candidates are held at once


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Search:
    """What all particles of a batch share."""

    batch: ParticleImages
    reference: AlignReference
    params: AlignParams
    given: FloatArray
    expected: tuple[FloatArray, FloatArray]
    """Rotations, and shifts in A, that priors are about."""
    symmetry: str
    stages: list[Stage]
    volumes: list[VolumeSamples]
    """Of each stage."""
    relative: list[FloatArray]
    """Turns tried from a given orientation, none in a global search; both directions of an axis apart."""
    kept: int
    """Orientations followed up from the first step."""

    def follow(self, number: int, found: Candidates | None) -> FoundPoses:
        """The pose of one particle; from the given one where no candidates are."""
        params, batch, prior = self.params, self.batch, self.prior(number)
        followed: list[Candidates] = [] if found is None else [found]
        if found is None:
            # a prior's cone stands still, and other searches go on from where the particle is by now
            about = (self.expected[0] if params.search == "global" else self.given)[number]
            seen = self.volumes[0].of(batch, number)
            for turns in self.relative:
                trials = turns @ about if params.search == "local" else about @ turns
                followed.append(
                    first_candidates(
                        self.reference, self.volumes[0], seen, trials, self.stages[0], params, prior, self.kept
                    )
                )
        for stage, samples in zip(self.stages[1:], self.volumes[1:], strict=True):
            seen = samples.of(batch, number)
            followed = [narrowed(self.reference, samples, seen, some, stage, prior) for some in followed]
        return _finished(batch, number, self.reference, followed, prior, self.stages[-1], params)

    def prior(self, number: int) -> Prior:
        """Of one particle."""
        voxel = self.batch.voxel_size_angstrom
        turn, move = self.expected[0][number], self.expected[1][number] / voxel
        return Prior.of(self.params, turn, move, voxel, self.symmetry)


def search_poses(
    batch: ParticleImages,
    reference: AlignReference,
    params: AlignParams,
    *,
    rotations: FloatArray | None = None,
    symmetry: str = "C1",
    expected: tuple[FloatArray, FloatArray] | None = None,
) -> FoundPoses:
    """Orientation and place of every particle of a batch.

    Parameters
    ----------
    rotations : (particle, 3, 3), the given orientations; not needed for a global search
    symmetry : of the reference; orientations that it makes alike are tried once
    expected : rotations (particle, 3, 3) and shifts (particle, 3) in A that the priors of `params` are about; those given, and
        none, where None. With a prior of directions a global search stays about them

    Raises
    ------
    ShapeError : boxes that the reference does not fit, or rotations that are not one for each particle
    InputError : no rotations where they are needed, or some that are NaN
    """
    given = _checked(batch, reference, params, rotations)
    stages = search_stages(reference, params, batch.box_size)
    volumes = [VolumeSamples(batch.box_size, s.highest, batch.weight) for s in stages]
    everywhere, step = params.everywhere, stages[0].step_deg
    relative = [] if everywhere else relative_rotations(params, step, symmetry)
    search = _Search(
        batch=batch,
        reference=reference,
        params=params,
        given=given,
        expected=expected or (given, np.zeros((batch.count, 3))),
        symmetry=symmetry,
        stages=stages,
        volumes=volumes,
        relative=relative,
        kept=followed_up(params, sum(map(len, relative)), step, symmetry),
    )
    # a prior of directions is told against all orientations
    whole = params.search == "global"
    shared = SharedGrid(reference, volumes[0], stages[0], params, symmetry) if whole else None
    numbers = np.unique(batch.particle)
    out = [_unseen(r) for r in given]
    for start in range(0, len(numbers), _CHUNK):
        some = numbers[start : start + _CHUNK]
        first: list[Candidates | None] = [None] * len(some)
        evidence = None
        if shared is not None:
            seen = [volumes[0].of(batch, i) for i in some]
            priors = [search.prior(int(i)) for i in some]
            if everywhere:
                first = list(shared.candidates(seen, priors))
            else:
                evidence = shared.evidence(seen, priors)
        for i, found in enumerate(_followed(search, some, first)):
            told = None if evidence is None else evidence[i : i + 1]
            out[some[i]] = replace(found, evidence=told)
    return FoundPoses.joined(out)


def _followed(search: _Search, numbers: np.ndarray, first: list[Candidates | None]) -> list[FoundPoses]:
    found = [_unseen(search.given[i]) for i in numbers]

    def work(i: int) -> None:
        found[i] = search.follow(int(numbers[i]), first[i])

    if search.batch.data.device.type == "cpu":
        run_items(len(numbers), work)
    else:
        for i in range(len(numbers)):
            work(i)
    return found


def _checked(
    batch: ParticleImages, reference: AlignReference, params: AlignParams, rotations: FloatArray | None
) -> FloatArray:
    close = abs(batch.voxel_size_angstrom / reference.voxel_size_angstrom - 1.0) < 1e-3
    if batch.box_size != reference.box_size or not close:
        raise ShapeError(
            f"Boxes of {batch.box_size} pixels of {batch.voxel_size_angstrom:g} A were given with a reference of "
            f"{reference.box_size} voxels of {reference.voxel_size_angstrom:g} A; expected the same."
        )
    if rotations is None:
        if not params.everywhere or params.prior != "none":
            raise InputError(
                "A local search needs the orientations of the particles, and so does a prior of them. Give them, or search globally."
            )
        return np.tile(np.eye(3), (batch.count, 1, 1))
    if rotations.shape != (batch.count, 3, 3):
        raise ShapeError(f"{batch.count} particles were given with rotations of shape {rotations.shape}.")
    if not np.isfinite(rotations).all():
        raise InputError("A particle has an orientation that is NaN or infinite. Remove it from the list.")
    return rotations


def _finished(
    batch: ParticleImages,
    number: int,
    reference: AlignReference,
    followed: list[Candidates],
    prior: Prior,
    stage: Stage,
    params: AlignParams,
) -> FoundPoses:
    voxel = batch.voxel_size_angstrom
    if not params.climb:
        found = max(followed, key=lambda f: float(f.values[0]))
        return _pose(found.rotations[0], found.moves[0] * voxel, found.scores[0], math.nan, math.nan)
    seen = image_samples(batch, number, voxel / reference.low_pass_angstrom)
    climbed: list[ClimbedPose] = [
        climb_pose(
            reference.transform,
            seen,
            rotation,
            move,
            prior,
            reach_rad=math.radians(stage.step_deg),
            reach_voxels=max(1.0, stage.move_voxels),
        )
        for found in followed
        for rotation, move in zip(found.rotations[:CLIMBED], found.moves[:CLIMBED], strict=True)
    ]
    best = max(climbed, key=lambda c: c.log_likelihood)
    return _pose(best.rotation, best.move * voxel, best.score, math.degrees(best.sigma_rad), best.sigma_voxels * voxel)


def _pose(rotation: FloatArray, shift: FloatArray, score: float, sigma_deg: float, sigma: float) -> FoundPoses:
    return FoundPoses(
        rotations=rotation[None],
        shifts_angstrom=np.asarray(shift)[None],
        scores=np.array([score]),
        sigma_deg=np.array([sigma_deg]),
        sigma_angstrom=np.array([sigma]),
    )


def _unseen(rotation: FloatArray) -> FoundPoses:
    return _pose(rotation, np.zeros(3), 0.0, math.nan, math.nan)
