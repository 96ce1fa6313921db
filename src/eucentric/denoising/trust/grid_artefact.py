"""Patterns that networks with strides leave: power at periods of 2, 4 and 8 voxels that the raw volume does not have."""

import itertools
import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.denoising.trust.block_spectra import check_same_shapes, hann_window
from eucentric.errors import InputError
from eucentric.fourier.grid import frequency_vectors

_PERIOD = 8
_EDGE = 64
_FIRED = 6.0
_UNEXPLAINED, _DOUBTS = 0.5, 3.0
_LEAST_SHARE = 1e-3
_NEAR, _FAR = 2, 5  # samples away, where neighbours are taken
_NEIGHBOURS = 80
_FILLED = 1.5**3  # samples that the power of one frequency fills under the window


@dataclass(frozen=True, slots=True, kw_only=True)
class GridPattern:
    """A periodic pattern that the output has and the raw volume has not."""

    period_voxels: int
    """2, 4 or 8: after so many voxels it repeats along each axis."""
    axes: str
    """Axes that it runs along, such as "x" or "zyx"."""
    cycles_per_voxel: tuple[float, float, float]
    """z, y, x of its strongest frequency."""
    z_score: float
    """How far its power stands out of that of its neighbours: logarithms, in robust standard deviations."""
    kind: Literal["added", "multiplied"]
    """Whether it lies on the output as it is, or in proportion to it."""
    share: float
    """Its standard deviation over that of the output; of one that is multiplied, over 1, to a factor of 2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GridArtefacts:
    """What was found, strongest first."""

    patterns: tuple[GridPattern, ...]
    largest_z: float
    """Of all frequencies tested that the raw volume does not explain."""
    blocks: int

    @property
    def caveats(self) -> tuple[str, ...]:
        """One sentence for each pattern."""
        return tuple(
            f"The output {'has' if p.kind == 'added' else 'is multiplied by'} a pattern that repeats every {p.period_voxels} "
            f"voxels along {', '.join(p.axes)} ({100 * p.share:.2g}% of it) and that the raw volume has not: the network's "
            "grid shows."
            for p in self.patterns
        )


def find_grid_artefacts(
    output: Float[Tensor, "z y x"],
    raw: Float[Tensor, "z y x"],
    *,
    count: int = 200,
    generator: torch.Generator | None = None,
) -> GridArtefacts:
    r"""Look for power at all frequencies whose components are multiples of 1/8 cycle per voxel.

    Powers are means over blocks of at most 64 voxels under a Hann window. Of each frequency the logarithm is compared with
    the line through those of its neighbours (the 80 that are nearest to its distance from zero, of those 2 to 5 samples
    away), in units of 1.4826 times their median deviation. Patterns of the specimen pass: with P the power of the output, X
    its product with the raw volume, and both less what the neighbours have,

    .. math:: \beta = X_\mathrm{excess} / P_\mathrm{excess}

    is the amplitude of the pattern in the raw volume over that in the output. Lattices and filaments that a filter leaves or
    weakens give 1 or more, even where noise hides them from the eye; what a network put there gives 0. Patterns count
    that stand out by 6, unless beta is 0.5 or more and three standard deviations over zero; weaker ones than 0.1% of the
    output's standard deviation are of no consequence.

    A pattern that the output was multiplied by has no peak where the output has mean 0. It is looked for in the same way in
    the product of means over 8 voxels (twice, along each axis) with what they leave: there it lies on their square.

    Parameters
    ----------
    output, raw : the restored volume and what it was made of
    count : blocks at most

    Raises
    ------
    ShapeError : volumes of other shapes
    InputError : axes shorter than 16 voxels, or a constant output
    """
    check_same_shapes(output=output, raw=raw)
    spread = float(output.double().std())
    if min(output.shape) < 2 * _PERIOD or count < 1:
        raise InputError(
            f"{count} blocks of a volume of shape {tuple(output.shape)} were asked for; expected one or more, and sizes of at "
            f"least {2 * _PERIOD}."
        )
    if not spread > 0:
        raise InputError("The output is constant: all of its voxels have one value. There is nothing to check.")
    edges = tuple(min(_EDGE, n) // _PERIOD * _PERIOD for n in output.shape)
    window, gain = hann_window(edges, device=output.device), _means_over_period(edges).to(output.device)
    spectra = torch.zeros(4, *edges, device=output.device)
    volumes = ((output, output.float().mean()), (raw, raw.float().mean()))
    places = _overlapping(tuple(output.shape), edges, count, generator)
    envelope = 0.0
    for place in places:
        blocks = [v[place].float() - mean for v, mean in volumes]
        low = [torch.fft.irfftn(torch.fft.rfftn(v) * gain, s=v.shape) for v in blocks]
        envelope += float((low[0] * window).square().mean()) / len(places)
        for i, pair in enumerate((blocks, [(v - m) * m for v, m in zip(blocks, low, strict=True)])):
            a, b = (torch.fft.fftn(v * window, norm="ortho") for v in pair)
            spectra[2 * i] += a.abs().square() / len(places)
            spectra[2 * i + 1] += (a * b.conj()).real / len(places)
    spectra = spectra.cpu()
    added, largest = _judged(spectra[0], spectra[1], edges, spread, "added")
    multiplied, also = _judged(spectra[2], spectra[3], edges, max(envelope, 1e-6 * spread**2), "multiplied")
    found = sorted(added + multiplied, key=lambda p: -p.share)
    return GridArtefacts(patterns=tuple(found), largest_z=max(largest, also), blocks=len(places))


def _judged(
    power: Tensor, cross: Tensor, edges: tuple[int, ...], unit_amplitude: float, kind: Literal["added", "multiplied"]
) -> tuple[list[GridPattern], float]:
    """Patterns that stand out, and the largest score of all that the raw volume does not explain."""
    units, at, index, beyond = _tested(edges)
    around = tuple(index.unbind(2))
    logs = (power + float(power.max()) * 1e-14).log()
    peak, near = logs[tuple(at.unbind(1))], logs[around]
    # powers fall with frequency: what the neighbours' line tells for this one
    centred = beyond - beyond.mean(1, keepdim=True)
    slope = (centred * near).sum(1, keepdim=True) / centred.square().sum(1, keepdim=True).clamp(min=1e-9)
    rest = near - slope * beyond
    expected = rest.median(1).values
    score = (peak - expected) / _spread(rest).clamp(min=1e-6)
    excess = power[tuple(at.unbind(1))] - expected.exp()
    near_cross = cross[around]
    shared = cross[tuple(at.unbind(1))] - near_cross.median(1).values
    doubt = _spread(near_cross) * (0.5 * (peak - expected)).exp()
    explained = (shared >= _UNEXPLAINED * excess) & (shared >= _DOUBTS * doubt)
    # k and -k are both among those tested
    part = (excess.clamp(min=0.0) * _FILLED / math.prod(edges)).sqrt() / unit_amplitude
    asked = (part >= 0.2 * _LEAST_SHARE) & ~explained
    largest = float(score[asked].max().clamp(min=0.0)) if bool(asked.any()) else 0.0
    strongest: dict[tuple[int, str], GridPattern] = {}
    powers: dict[tuple[int, str], float] = {}
    for n in (asked & (score >= _FIRED)).nonzero().flatten().tolist():
        unit = units[n].tolist()
        key = (_PERIOD // math.gcd(*unit, _PERIOD), "".join(name for name, u in zip("zyx", unit, strict=True) if u))
        powers[key] = powers.get(key, 0.0) + float(part[n]) ** 2
        if key not in strongest or strongest[key].z_score < float(score[n]):
            z, y, x = ((u if u <= _PERIOD // 2 else u - _PERIOD) / _PERIOD for u in unit)
            strongest[key] = GridPattern(
                period_voxels=key[0],
                axes=key[1],
                cycles_per_voxel=(z, y, x),
                kind=kind,
                z_score=float(score[n]),
                share=0.0,
            )
    found = [replace(p, share=math.sqrt(powers[key])) for key, p in strongest.items()]
    return [pattern for pattern in found if pattern.share >= _LEAST_SHARE], largest


def _means_over_period(edges: tuple[int, ...]) -> Tensor:
    """Gain on an rfftn that takes means over 8 voxels twice: none of the tested frequencies is left."""
    gain = torch.ones(())
    for line in frequency_vectors(edges, 1.0):
        gain = gain * (torch.sinc(_PERIOD * line) / torch.sinc(line)) ** 2
    return gain


@lru_cache(maxsize=8)
def _tested(edges: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Frequencies to test, and samples around each that none of them reaches: those the nearest to its distance from zero.

    Returns
    -------
    in 1/8 cycle (test, 3); samples (test, 3); their neighbours (test, neighbour, 3), and how much farther these are from zero,
    in samples of the longest axis (test, neighbour)
    """
    offsets = torch.cartesian_prod(*(torch.arange(-_FAR, _FAR + 1) for _ in range(3)))
    offsets = offsets[offsets.abs().max(1).values >= _NEAR]
    sizes = torch.tensor(edges)
    spacing = sizes // _PERIOD

    def length(samples: Tensor) -> Tensor:
        return (torch.minimum(samples, sizes - samples) / sizes).square().sum(-1).sqrt() * max(edges)

    found = []
    for unit in itertools.product(range(_PERIOD), repeat=3):
        middle = torch.tensor(unit) * spacing
        places = (middle + offsets) % sizes
        apart = torch.minimum(places % spacing, spacing - places % spacing)
        # short axes come round to the same sample
        same = (offsets.abs() * 2 > sizes).any(1)
        places = places[(apart.max(1).values >= _NEAR) & ~same]
        if not any(unit) or len(places) < _NEIGHBOURS:
            continue
        beyond = length(places) - length(middle)
        order = beyond.abs().argsort(stable=True)[:_NEIGHBOURS]
        found.append((torch.tensor(unit), middle, places[order], beyond[order]))
    if not found:
        raise InputError(
            f"Blocks of {edges} voxels hold too few frequencies to compare. Give a volume of 32 voxels or more along an axis."
        )
    units, middles, indices, beyonds = zip(*found, strict=True)
    return torch.stack(units), torch.stack(middles), torch.stack(indices), torch.stack(beyonds)


def _overlapping(
    shape: tuple[int, ...], edges: tuple[int, ...], count: int, generator: torch.Generator | None
) -> list[tuple[slice, ...]]:
    """Blocks that overlap by half, so that the window loses nothing, and begin at multiples of the longest period."""
    starts = [
        range(0, n - edge + 1, max(_PERIOD, edge // 2 // _PERIOD * _PERIOD))
        for n, edge in zip(shape, edges, strict=True)
    ]
    places = [tuple(slice(a, a + n) for a, n in zip(at, edges, strict=True)) for at in itertools.product(*starts)]
    drawn = torch.randperm(len(places), generator=generator)[:count].tolist()
    return [places[i] for i in sorted(drawn)]


def _spread(values: Float[Tensor, "test neighbour"]) -> Float[Tensor, " test"]:
    return 1.4826 * (values - values.median(1, keepdim=True).values).abs().median(1).values
