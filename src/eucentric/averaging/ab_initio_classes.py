r"""Several maps at once from particles of which neither kind nor orientation is known.

As :mod:`eucentric.averaging.ab_initio`, with K maps. Each particle is compared with all of them in all orientations and places;
its parts in the classes are :math:`r_k \propto \pi_k L_k`, with :math:`L_k` the mean likelihood over all poses and
:math:`\pi_k` the share of the class so far, and it counts in the sums of each map by its part: stochastic steps of
expectation and maximisation for a mixture [1]_ [2]_. Classes begin with parts of the particles drawn at random, in chance
orientations.

Maps share one scale, that of the particles, and the contrast of a particle of their kind is near 1 on it. A place without
particle therefore speaks *against* a map, the more so the more the map foretells, and goes to a class whose map is faint, if
there is one. With contrasts left free it would fit each map equally ill. A few strong outliers can take a class for themselves.

.. [1] Scheres et al., Nat. Methods 4:27 (2007), doi:10.1038/nmeth992
.. [2] Punjani et al., Nat. Methods 14:290 (2017), doi:10.1038/nmeth.4169
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation as _ScipyRotation
from scipy.special import logsumexp
from torch import Tensor

from eucentric.averaging.ab_initio import FEWEST, LAST, STEP, LikelyPoses, StartJob, StartModel, drawn_particles
from eucentric.averaging.ab_initio_params import InitialModelParams
from eucentric.averaging.classify_checks import adjusted_rand
from eucentric.averaging.particle_images import ParticleImages
from eucentric.errors import InputError
from eucentric.typing import FloatArray

CONTRAST_SPREAD = 0.3
"""Of particles of one kind about their map: what ice, damage and a fit of noise leave uncertain."""
_COUNTED = 1e-3
"""Least part of a particle that counts in a map."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClassStart:
    """What a beginning with several maps came to, the largest class first."""

    volumes: tuple[Float[Tensor, "n n n"], ...]
    """Masked, with detail up to `detail_angstrom`, protein bright."""
    probabilities: FloatArray
    """(particle, class); zero for particles without an image."""
    detail_angstrom: float
    evidence: float
    """Mean log-likelihood of held-out particles over all classes and poses, against no particle at all."""
    held_out: FloatArray
    """(held-out particle,), the same of each."""
    particles: int
    """That the maps were made of."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """(particle,) the likeliest class from 0; -1 without an image."""
        return np.where(self.probabilities.any(1), self.probabilities.argmax(1), -1)

    def start(self, number: int) -> StartModel:
        """The map of one class."""
        return StartModel(
            volume=self.volumes[number],
            detail_angstrom=self.detail_angstrom,
            evidence=self.evidence,
            particles=self.particles,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClassStarts:
    """Beginnings with several maps, and what one map for all comes to."""

    best: ClassStart
    evidence: tuple[float, ...]
    """Of all beginnings, best first."""
    agreement: float
    """Adjusted Rand index between the best and each of the others, the median; NaN with one beginning."""
    gain: float
    """Held-out log-likelihood of a particle over that of one map for all, on average, in nats."""
    gain_error: float
    """Standard error of `gain`."""


def find_class_starts(
    images: ParticleImages, params: InitialModelParams, *, on_step: Callable[[float], None] | None = None
) -> ClassStarts:
    """Sets of `params.classes` maps from chance classes and orientations; the one that tells most of held-out particles.

    Parameters
    ----------
    images : of all particles; those without an image do not count
    on_step : told which part is done

    Raises
    ------
    InputError : fewer than eight particles a class are seen, or the box is smaller than the particle
    """
    seen, need = len(np.unique(images.particle)), 2 * FEWEST * params.classes
    if seen < need:
        raise InputError(
            f"{seen} particle{'s are' if seen != 1 else ' is'} seen; {params.classes} maps at once need {need} at least. "
            "Ask for fewer --classes, or give more particles."
        )
    used, held = drawn_particles(images, params)
    job = StartJob.of(images, params)
    total = params.starts * params.classes + 1

    def done(before: int, size: int) -> Callable[[float], None]:
        return lambda part: on_step((before + size * part) / total) if on_step is not None else None

    one = _beginning(job, used, held, 1, np.random.default_rng([params.seed, params.starts]), done(0, 1))
    found = []
    for number in range(params.starts):
        rng = np.random.default_rng([params.seed, number])
        step = done(1 + number * params.classes, params.classes)
        found.append(_beginning(job, used, held, params.classes, rng, step))
    found.sort(key=lambda s: -s.evidence)
    best = found[0]
    gains = best.held_out - one.held_out
    alike = [adjusted_rand(best.labels, other.labels) for other in found[1:]]
    return ClassStarts(
        best=best,
        evidence=tuple(s.evidence for s in found),
        agreement=float(np.median(alike)) if alike else float("nan"),
        gain=float(gains.mean()),
        gain_error=float(gains.std(ddof=1) / np.sqrt(len(gains))),
    )


def _beginning(
    job: StartJob,
    used: NDArray[np.int64],
    held: NDArray[np.int64],
    classes: int,
    rng: np.random.Generator,
    done: Callable[[float], None],
) -> ClassStart:
    """One beginning from chance orientations and classes of some particles, and the classes of all."""
    volumes, shares = _climb(job, used, classes, rng, done)
    every = np.sort(np.concatenate([used, held]))
    _, logs = _compared(job, volumes, shares, every, job.rotations)
    order = np.argsort(-shares, kind="stable")
    evidence = logsumexp(logs, axis=1)
    probabilities = np.zeros((job.images.count, classes))
    probabilities[every] = np.exp(logs - evidence[:, None])[:, order]
    of_held = evidence[np.isin(every, held)]
    return ClassStart(
        volumes=tuple(volumes[k] for k in order),
        probabilities=probabilities,
        detail_angstrom=job.detail,
        evidence=float(of_held.mean()),
        held_out=of_held,
        particles=len(used),
    )


def _climb(
    job: StartJob,
    used: NDArray[np.int64],
    classes: int,
    rng: np.random.Generator,
    done: Callable[[float], None],
) -> tuple[list[Tensor], FloatArray]:
    """Maps and shares of classes after all steps."""
    count, steps = len(used), job.params.iterations
    # each class begins with as many particles as any other
    chance = rng.permutation(np.arange(count) % classes)
    turned = LikelyPoses.by_chance(_ScipyRotation.random(count, rng=rng).as_matrix())
    sums = [job.sums(used, _parted(turned, chance == k)) for k in range(classes)]
    volumes, shares = [job.solved(*s) for s in sums], np.full(classes, 1.0 / classes)
    for i in range(steps):
        last = i >= steps - LAST
        size = count if last else min(job.params.batch_particles * classes, count)
        some = np.sort(rng.choice(used, size, replace=False))
        trials = job.rotations @ _ScipyRotation.random(rng=rng).as_matrix()
        poses, logs = _compared(job, volumes, shares, some, trials)
        parts = np.exp(logs - logsumexp(logs, axis=1, keepdims=True))
        part = 1.0 if last else STEP
        for k in range(classes):
            own = np.where(parts[:, k] > _COUNTED, parts[:, k], 0.0)
            if not own.any():
                continue
            new = job.sums(some, _parted(poses[k], own))
            data, weight = sums[k]
            scale = part * count / size
            sums[k] = ((1.0 - part) * data + scale * new[0], (1.0 - part) * weight + scale * new[1])
            volumes[k] = job.solved(*sums[k])
        # no class is given up for good: each could hold one particle
        shares = np.maximum((1.0 - part) * shares + part * parts.mean(0), 1.0 / count)
        shares /= shares.sum()
        done((i + 1) / steps)
    return volumes, shares


def _compared(
    job: StartJob, volumes: list[Tensor], shares: FloatArray, numbers: NDArray[np.int64], rotations: FloatArray
) -> tuple[list[LikelyPoses], FloatArray]:
    """Likely poses for each class, and (particle, class) logarithms of share times mean likelihood."""
    poses = [job.poses(v, numbers, rotations, contrast_spread=CONTRAST_SPREAD) for v in volumes]
    return poses, np.stack([p.evidence for p in poses], axis=1) + np.log(shares)


def _parted(poses: LikelyPoses, parts: NDArray[np.generic]) -> LikelyPoses:
    """Poses that count by a part (particle,) of each particle."""
    return replace(poses, shares=poses.shares * parts.astype(np.float64)[:, None])
