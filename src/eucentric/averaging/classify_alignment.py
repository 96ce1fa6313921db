"""Each particle compared with every class in its best pose near the one given, or in that pose itself."""

from dataclasses import dataclass

import numpy as np
import torch

from eucentric.averaging.align_params import AlignParams
from eucentric.averaging.align_reference import AlignReference
from eucentric.averaging.align_samples import VolumeSamples
from eucentric.averaging.particle_images import ParticleImages
from eucentric.averaging.search_poses import search_poses
from eucentric.projection.turned import score_turned
from eucentric.typing import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClassPoses:
    """The best pose of each particle for each class."""

    scores: FloatArray
    """(particle, class), standard deviations of noise; log-likelihoods are half their squares."""
    rotations: FloatArray
    """(particle, class, 3, 3)."""
    shifts_angstrom: FloatArray
    """(particle, class, 3)."""

    @classmethod
    def joined(cls, parts: list["ClassPoses"], order: np.ndarray) -> "ClassPoses":
        """Batches put together; `order` has the row of the list for each particle of them."""
        back = np.argsort(order)
        return cls(**{name: np.concatenate([getattr(p, name) for p in parts])[back] for name in cls.__slots__})

    @property
    def log_likelihoods(self) -> FloatArray:
        """(particle, class); the contrast of each particle is left free, but not turned over."""
        return np.asarray(0.5 * np.square(np.clip(self.scores, 0.0, None)))

    def of(self, classes: np.ndarray) -> tuple[FloatArray, FloatArray]:
        """Rotations and shifts for one class (particle,) of each."""
        rows = np.arange(len(classes))
        return self.rotations[rows, classes], self.shifts_angstrom[rows, classes]


def pose_in_classes(
    batch: ParticleImages,
    references: list[AlignReference],
    params: AlignParams | None,
    rotations: FloatArray,
    symmetry: str,
) -> ClassPoses:
    """Poses of a batch.

    Parameters
    ----------
    params : of a search about the poses given; None compares in these
    """
    scores, turned, moved = [], [], []
    for reference in references:
        if params is None:
            scores.append(given_scores(batch, reference, rotations))
            turned.append(rotations)
            moved.append(np.zeros((batch.count, 3)))
        else:
            found = search_poses(batch, reference, params, rotations=rotations, symmetry=symmetry)
            scores.append(found.scores)
            turned.append(found.rotations)
            moved.append(found.shifts_angstrom)
    return ClassPoses(
        scores=np.stack(scores, axis=1), rotations=np.stack(turned, axis=1), shifts_angstrom=np.stack(moved, axis=1)
    )


def given_scores(batch: ParticleImages, reference: AlignReference, rotations: FloatArray) -> FloatArray:
    """(particle,) overlap with the reference in the poses given over its norm; 0 where no image shows a particle."""
    volumes = VolumeSamples(batch.box_size, batch.voxel_size_angstrom / reference.low_pass_angstrom, batch.weight)
    still = torch.zeros((1, 3)).to(batch.weight)
    out = np.zeros(batch.count)
    for number in np.unique(batch.particle):
        seen = volumes.of(batch, int(number))
        turn = rotations[number : number + 1]
        found = score_turned(reference.transform, volumes.samples, turn, seen.data, seen.power, still)
        out[number] = float(found.reshape(-1)[0])
    return out
