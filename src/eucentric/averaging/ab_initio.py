r"""A map from particles of unknown orientation: stochastic steps from chance orientations, several times, chosen on particles
that were never used.

Each step compares a few particles drawn at random with the map so far, in all orientations and places, and weighs poses by
their likelihood, the contrast of each particle left free. With B and W the sums of data and weights in these poses (see
:mod:`eucentric.averaging.fourier_sums`), scaled to all particles, the slope of the expected log-likelihood at the map V is
:math:`B - W V`. A step of length :math:`\mu` along it, preconditioned by its own curvature, is the running mean of both sums
[1]_, which stands here; stochastic gradients from chance beginnings find maps where all particles at once stay where they began
[2]_. What is not told by the particles is held down by :math:`\lambda`, one over the map's own power by shell.

The hand needs no choice: tilt images of one particle are views of known direction, so that its mirror image does not fit them.
It is as right as the hand of the tilt geometry.

.. [1] Cappe & Moulines, J. R. Stat. Soc. B 71:593 (2009), doi:10.1111/j.1467-9868.2009.00698.x
.. [2] Punjani et al., Nat. Methods 14:290 (2017), doi:10.1038/nmeth.4169
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Complex, Float
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation as _ScipyRotation
from torch import Tensor

from eucentric.averaging.ab_initio_images import coarse_images, in_full_box, selected_particles
from eucentric.averaging.ab_initio_params import InitialModelParams
from eucentric.averaging.align_reference import AlignReference
from eucentric.averaging.align_samples import VolumeSamples
from eucentric.averaging.fourier_sums import FourierSums
from eucentric.averaging.map_centre import centre_of_mass, moved_map
from eucentric.averaging.particle_images import ParticleImages
from eucentric.averaging.soft_mask import ball_mask
from eucentric.averaging.solve_average import shell_means, solve_average, spread_shells
from eucentric.errors import InputError
from eucentric.fourier.filters import band_pass
from eucentric.fourier.grid import frequency_grid
from eucentric.geometry.so3 import sample_rotations
from eucentric.projection.turned import read_turned
from eucentric.typing import FloatArray

_COARSE = 3.0
"""Diameter over the detail that beginnings compare: outlines and the largest parts, for which few orientations are needed."""
_MOVE = 0.25
"""Step of places over the detail compared."""
STEP = 0.6
"""Part of the running sums that each step replaces."""
LAST = 3
"""Steps at the end that use all particles and keep nothing of the ones before."""
_CANDIDATES, _LEAST_SHARE = 4, 0.05
"""Poses of a particle that are counted, and the least probability of one against the likeliest."""
_POWER = 4.0
"""The map's power is taken for that much higher than it is, as regularised maps are too smooth."""
_FLOOR = 0.02
"""Added to weights, as part of the best shell's mean: without it the weakly measured coarsest detail rules the map."""
FEWEST = 4
"""Particles, of which a map can be made or judged."""
_MOST_HELD_OUT = 100


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StartModel:
    """What a beginning came to."""

    volume: Float[Tensor, "n n n"]
    """Masked, with detail up to `detail_angstrom`, protein bright, its centre of mass in the middle."""
    detail_angstrom: float
    evidence: float
    """Mean log-likelihood of held-out particles over all poses, against no particle at all."""
    particles: int
    """That it was made of."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LikelyPoses:
    """Likely poses of some particles, and how likely each is."""

    rotations: FloatArray
    """(particle, candidate, 3, 3)."""
    moves: FloatArray
    """(particle, candidate, 3), voxels."""
    shares: FloatArray
    """(particle, candidate), their sum one."""
    evidence: FloatArray
    """(particle,), mean likelihood over all poses, its logarithm."""

    @classmethod
    def by_chance(cls, turns: FloatArray) -> "LikelyPoses":
        """One orientation (particle, 3, 3) of each, at the given place."""
        count = len(turns)
        return cls(
            rotations=turns[:, None],
            moves=np.zeros((count, 1, 3)),
            shares=np.ones((count, 1)),
            evidence=np.zeros(count),
        )

    def of(self, rows: NDArray[np.int64]) -> "LikelyPoses":
        """Of some of the particles."""
        return LikelyPoses(
            rotations=self.rotations[rows],
            moves=self.moves[rows],
            shares=self.shares[rows],
            evidence=self.evidence[rows],
        )


def start_detail(params: InitialModelParams) -> float:
    """A; the detail that beginnings compare."""
    return max(params.diameter_angstrom / _COARSE, params.low_pass_angstrom)


def find_starts(
    images: ParticleImages, params: InitialModelParams, *, on_step: Callable[[float], None] | None = None
) -> list[StartModel]:
    """Maps from chance orientations, the one that tells most of held-out particles first.

    Parameters
    ----------
    images : of all particles; those without an image do not count
    on_step : told which part is done

    Raises
    ------
    InputError : fewer than eight particles are seen, or the box is smaller than the particle
    """
    used, held = drawn_particles(images, params)
    job = StartJob.of(images, params)
    out = []
    for number in range(params.starts):

        def done(part: float, number: int = number) -> None:
            if on_step is not None:
                on_step((number + part) / params.starts)

        rng = np.random.default_rng([params.seed, number])
        volume = job.run(used, rng, done)
        evidence = float(job.poses(volume, held, job.rotations).evidence.mean())
        out.append(StartModel(volume=volume, detail_angstrom=job.detail, evidence=evidence, particles=len(used)))
    return sorted(out, key=lambda s: -s.evidence)


def drawn_particles(images: ParticleImages, params: InitialModelParams) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Particles that maps are made of, and those that choose among the maps; both ascend.

    Raises
    ------
    InputError : fewer than eight particles are seen
    """
    seen = np.unique(images.particle)
    if len(seen) < 2 * FEWEST:
        raise InputError(
            f"{len(seen)} particle{'s are' if len(seen) != 1 else ' is'} seen; a start map needs {2 * FEWEST} at least. "
            "Give a structure or map to `eucentric average --auto --reference` in its place."
        )
    order = np.random.default_rng(params.seed).permutation(seen)
    held = min(max(FEWEST, round(params.held_out * len(seen))), _MOST_HELD_OUT, len(seen) // 2)
    return np.sort(order[held:]), np.sort(order[:held])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StartJob:
    """What all beginnings share."""

    images: ParticleImages
    coarse: ParticleImages
    """The same, without the fine detail that sums of beginnings do not need."""
    params: InitialModelParams
    detail: float
    volumes: VolumeSamples
    data: Complex[Tensor, "particle points"]
    power: Float[Tensor, "particle points"]
    rotations: FloatArray
    moves: FloatArray
    """(move, 3), voxels of the box."""
    mask: Float[Tensor, "n n n"]

    @classmethod
    def of(cls, images: ParticleImages, params: InitialModelParams, detail_angstrom: float | None = None) -> "StartJob":
        """Compare in the detail of beginnings, or in another."""
        # maps are weighed by the noise itself, and keep what all tilts share of it
        images = replace(images, common=None)
        voxel, n = images.voxel_size_angstrom, images.box_size
        if params.diameter_angstrom > n * voxel:
            raise InputError(
                f"A particle of {params.diameter_angstrom:g} A does not fit into a box of {n} voxels of {voxel:g} A ({n * voxel:g} A)."
            )
        detail = detail_angstrom or start_detail(params)
        volumes = VolumeSamples(n, min(voxel / detail, 0.5), images.weight)
        parts = [volumes.of(images, i) for i in range(images.count)]
        # a step of the angle moves the rim by half the detail
        step = min(math.degrees(detail / params.diameter_angstrom), 30.0)
        return cls(
            images=images,
            coarse=coarse_images(images, detail),
            params=params,
            detail=detail,
            volumes=volumes,
            data=torch.stack([p.data for p in parts]),
            power=torch.stack([p.power for p in parts]),
            rotations=sample_rotations(step),
            moves=_moves_within(params.shift_angstrom / voxel, _MOVE * detail / voxel),
            mask=particle_ball(n, voxel, params.diameter_angstrom).to(images.weight),
        )

    def run(self, numbers: NDArray[np.int64], rng: np.random.Generator, done: Callable[[float], None]) -> Tensor:
        """One beginning from chance orientations of some particles."""
        count, steps = len(numbers), self.params.iterations
        turns = _ScipyRotation.random(count, rng=rng).as_matrix()
        data, weight = self.sums(numbers, LikelyPoses.by_chance(turns))
        volume = self.solved(data, weight)
        for i in range(steps):
            last = i >= steps - LAST
            size = count if last else min(self.params.batch_particles, count)
            some = np.sort(rng.choice(numbers, size, replace=False))
            # another set of orientations each time, so that none between them is favoured
            trials = self.rotations @ _ScipyRotation.random(rng=rng).as_matrix()
            new = self.sums(some, self.poses(volume, some, trials))
            part = 1.0 if last else STEP
            data = (1.0 - part) * data + (part * count / size) * new[0]
            weight = (1.0 - part) * weight + (part * count / size) * new[1]
            volume = self.solved(data, weight)
            done((i + 1) / steps)
        return volume

    def poses(
        self, volume: Tensor, numbers: NDArray[np.int64], rotations: FloatArray, *, contrast_spread: float = math.inf
    ) -> LikelyPoses:
        """Likely poses of particles among some orientations and all places.

        Parameters
        ----------
        contrast_spread : of :func:`log_likelihoods`
        """
        samples, count = self.volumes.samples, len(self.moves)
        reference = AlignReference.build(
            volume,
            self.images.voxel_size_angstrom,
            low_pass_angstrom=self.detail,
            diameter_angstrom=self.params.diameter_angstrom,
        )
        # a projection is a sum over voxels times their length
        copies = read_turned(reference.transform, samples, rotations) * self.images.voxel_size_angstrom
        rows = torch.view_as_real(copies).reshape(len(copies), -1)
        power = copies.abs().square()
        moves = torch.from_numpy(self.moves.T).to(samples.frequencies)
        phase = 2.0 * math.pi * (samples.frequencies @ moves)
        phases = torch.polar(torch.ones_like(phase), phase)
        best, shares, evidence = [], [], []
        for i in numbers:
            moved = self.data[i][:, None] * phases
            columns = torch.view_as_real(moved).permute(0, 2, 1).reshape(-1, count)
            norm = (power @ self.power[i]).clamp_min(1e-30)
            value = log_likelihoods(rows @ columns, norm[:, None], contrast_spread).reshape(-1)
            top = value.topk(min(_CANDIDATES, len(value)))
            share = (top.values - top.values[0]).double().exp().cpu().numpy()
            share[share < _LEAST_SHARE] = 0.0
            best.append(top.indices.cpu().numpy())
            shares.append(share / share.sum())
            evidence.append(float(value.double().logsumexp(0)) - math.log(len(value)))
        at = np.stack(best)
        return LikelyPoses(
            rotations=rotations[at // count],
            moves=self.moves[at % count],
            shares=np.stack(shares),
            evidence=np.array(evidence),
        )

    def sums(self, numbers: NDArray[np.int64], poses: LikelyPoses) -> tuple[Tensor, Tensor]:
        """Finished data and weights of particles in their likely poses; zero beyond the detail compared."""
        voxel, n = self.images.voxel_size_angstrom, self.images.box_size
        some = selected_particles(self.coarse, numbers)
        # voxels of the full box: their length is that of its projections
        sums = FourierSums.empty(some.box_size, voxel, some.data.device)
        for j in range(poses.shares.shape[1]):
            if poses.shares[:, j].any():
                sums.add(some.moved(poses.moves[:, j] * voxel), poses.rotations[:, j], poses.shares[:, j])
        data, weight = sums.finished()
        return in_full_box(data, n), in_full_box(weight, n)

    def solved(self, data: Tensor, weight: Tensor) -> Tensor:
        """The masked map, its centre of mass in the middle."""
        n, voxel = self.images.box_size, self.images.voxel_size_angstrom
        shape = (n, n, n)
        means = shell_means(weight)
        plain = torch.fft.rfftn(solve_average(data, weight) * self.mask)
        power = _POWER * shell_means(plain.abs().square())
        penalty = 1.0 / power.clamp_min(1e-20) + _FLOOR * means.max()
        grid = frequency_grid(shape, voxel, device=weight.device)
        spectrum = data / (weight + spread_shells(penalty, n)).clamp_min(1e-30)
        spectrum = spectrum * band_pass(grid, low_pass_angstrom=self.detail)
        volume = torch.fft.fftshift(torch.fft.irfftn(spectrum, s=shape)) * self.mask
        return moved_map(volume, -centre_of_mass(volume)) * self.mask


def log_likelihoods(
    overlap: Float[Tensor, "*poses"], norm: Float[Tensor, "*#poses"], contrast_spread: float = math.inf
) -> Float[Tensor, "*poses"]:
    r"""Of copies of a map in noise of variance one, against no particle, for contrasts that are not known.

    With overlap x = sum Re d conj(U) and norm n = sum w abs(U)^2 the likelihood at contrast a is exp(a x - a^2 n / 2). Free but not
    turned over it is best at :math:`x^2 / 2 n`. Spread normally about the map's own, 1 with standard deviation s, it comes on
    average to

    .. math:: \frac{(x + s^{-2})^2}{2 (n + s^{-2})} - \frac{1}{2 s^2} - \frac12 \ln(1 + s^2 n)

    which is negative where there is much less than the map foretells.

    Parameters
    ----------
    contrast_spread : s; infinite leaves contrasts free
    """
    if math.isinf(contrast_spread):
        return overlap.clamp_min(0.0).square() / (2.0 * norm)
    known = contrast_spread**-2
    best = (overlap + known).clamp_min(0.0).square() / (2.0 * (norm + known))
    return best - 0.5 * known - 0.5 * torch.log1p(norm / known)


def _moves_within(limit: float, step: float) -> FloatArray:
    """Places (move, 3) on an even grid within a ball."""
    count = math.ceil(limit / step - 1e-6)
    line = np.linspace(-limit, limit, 2 * count + 1)
    every = np.stack(np.meshgrid(line, line, line, indexing="ij"), axis=-1).reshape(-1, 3)
    return np.asarray(every[np.linalg.norm(every, axis=1) <= limit * (1.0 + 1e-6)])


def particle_ball(n: int, voxel: float, diameter_angstrom: float) -> Float[Tensor, "n n n"]:
    """A soft ball that holds the particle, as far as the box allows an edge."""
    edge = min(2.0 * voxel, 0.5 * (n * voxel - diameter_angstrom))
    return ball_mask(n, voxel, diameter_angstrom, edge)
