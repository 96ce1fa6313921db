"""How the outputs from two halves agree, shell by shell, and what became of the signal."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.denoising.trust.block_spectra import (
    Measured,
    check_independent,
    check_same_shapes,
    is_known,
    jackknife,
    measured_on,
    place_blocks,
    region_inside,
    region_outside,
    windowed_transform,
)
from eucentric.errors import InputError
from eucentric.fourier.shells import radial_average, shell_index

_CRITERION = 0.143
_LEAST_WEDGE = 0.01  # of the power beside: less is rounding and what leaks
_EMPTY = 1e-9  # of the strongest shell
_INSIDE = ("raw1", "raw2", "raw12", "out1", "out2", "out12", "out1raw2", "out2raw1", "out1raw1", "out2raw2")
_WEDGE = ("wedge1", "wedge2", "wedge12")
_COUNTS = ("inside", "outside")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HalfAgreement:
    """Agreement by shells; all arrays are (shell,), NaN where a shell holds too little to tell."""

    frequency: Float[Tensor, " shell"]
    """1/A, middle of each shell."""
    raw: Float[Tensor, " shell"]
    """Correlation of the raw halves inside the measured region."""
    output: Float[Tensor, " shell"]
    """Correlation of the two outputs there. A network can make the same mistake twice: see `truth`."""
    wedge: Float[Tensor, " shell"]
    """Correlation of the two outputs where nothing was measured: says what is repeated, not what is true.
    NaN where the outputs have less than 1% of the power there that they have beside it."""
    truth: Float[Tensor, " shell"]
    """Correlation of one half's output with the signal without noise, inside the measured region."""
    kept: Float[Tensor, " shell"]
    """K: amplitude of the signal in the output; below 1 it was taken away, above 1 it was raised."""
    kept_sigma: Float[Tensor, " shell"]
    noise_kept: Float[Tensor, " shell"]
    """Q: amplitude of the input's noise in the output."""
    unsupported: Float[Tensor, " shell"]
    """Part of the output's power that is not the signal: left noise and what was added."""
    unsupported_sigma: Float[Tensor, " shell"]
    raw_unsupported: Float[Tensor, " shell"]
    """The same of a raw half: its noise."""
    added: Float[Tensor, " shell"]
    """Part of the output's power that is neither K times the signal nor Q times the noise."""
    error: Float[Tensor, " shell"]
    """Power of output less signal over that of the signal: 1 for an empty output, noise over signal for the raw half."""
    wedge_power: Float[Tensor, " shell"]
    """Power of the output a sample in the wedge over that in the measured region: about 1 where the wedge is filled."""
    raw_angstrom: float
    """Where the correlation of the raw halves falls below 0.143; inf where it never reached it."""
    output_angstrom: float
    wedge_angstrom: float


def measure_half_agreement(
    output1: Float[Tensor, "z y x"],
    output2: Float[Tensor, "z y x"],
    half1: Float[Tensor, "z y x"],
    half2: Float[Tensor, "z y x"],
    measured: Measured,
    voxel_size: float,
    *,
    block: int = 128,
    count: int | None = None,
    generator: torch.Generator | None = None,
) -> HalfAgreement:
    r"""Compare what was made of two halves with each other and with the halves themselves.

    In one shell of the measured region let :math:`h_i = s + n_i` with signal s and noise of equal power N, independent of s
    and of each other, and :math:`f_1` be made of :math:`h_1` alone. :math:`\langle a, b \rangle` is the real part of the
    sum of :math:`a b^*`. As :math:`n_2` is independent of :math:`s`, :math:`n_1` and hence of :math:`f_1`, in expectation

    .. math:: \langle h_1, h_2 \rangle = \langle s, s \rangle = S, \quad \langle f_1, h_2 \rangle = \langle f_1, s \rangle,
              \quad \langle f_1, h_1 - h_2 \rangle = \langle f_1, n_1 \rangle, \quad \langle h_1, h_1 - h_2 \rangle = N.

    Written as :math:`f_1 = K s + Q n_1 + r` with a rest r at right angles to both, this gives

    - kept :math:`K = \langle f_1, h_2 \rangle / \langle h_1, h_2 \rangle`
    - noise kept :math:`Q = \langle f_1, h_1 - h_2 \rangle / \langle h_1, h_1 - h_2 \rangle`
    - unsupported :math:`1 - K^2 S / \langle f_1, f_1 \rangle
      = 1 - \langle f_1, h_2 \rangle^2 / (\langle f_1, f_1 \rangle \langle h_1, h_2 \rangle)`,
      that is 1 less the squared correlation with the signal (`truth`)
    - added :math:`1 - (K^2 S + Q^2 N) / \langle f_1, f_1 \rangle`; zero for every gain that is the same all over a shell
    - error :math:`\langle f_1 - s, f_1 - s \rangle / S = (\langle f_1, f_1 \rangle - 2 \langle f_1, h_2 \rangle + S) / S`

    Sums are over blocks under a Hann window and over both halves in turn; the edges of the measured region are left out.
    Shells whose S is less than three standard deviations of what noise alone would give tell nothing of the signal; standard
    deviations of results are from leaving out one block at a time.

    Parameters
    ----------
    output1, output2 : made of `half1` and `half2`
    half1, half2 : raw, of one scale
    measured : for the shape of a block
    voxel_size : A
    block : edge in voxels
    count : blocks at most; all where None

    Raises
    ------
    ShapeError : volumes of other shapes
    InputError : the same half twice
    """
    check_same_shapes(output1=output1, output2=output2, half1=half1, half2=half2)
    check_independent(half1, half2)
    if not voxel_size > 0:
        raise InputError(f"A voxel size of {voxel_size:g} A was given; expected a positive number.")
    blocks = place_blocks(tuple(half1.shape), block, count, generator=generator)
    first = half1[blocks[0]]
    shape = (first.shape[0], first.shape[1], first.shape[2])
    known = measured_on(measured, shape, half1.device)
    regions = region_inside(known, shape[2]), region_outside(known, shape[2])
    parts = torch.stack([_sums([v[place] for v in (output1, output2, half1, half2)], *regions) for place in blocks])
    shells = parts.shape[2]
    frequency = (torch.arange(shells, dtype=torch.float64) + 0.5) / (2 * shells * voxel_size)
    return _agreement(parts, frequency)


def _sums(volumes: list[Tensor], inside: Tensor, outside: Tensor) -> Float[Tensor, "quantity shell"]:
    """Sums over shells of all products, float64 on the CPU."""
    o1, o2, h1, h2 = (windowed_transform(v) for v in volumes)
    shape = tuple(volumes[0].shape)
    shells = max(shape) // 2
    counts = _samples(shape, shells).to(h1.device)

    def total(a: Tensor, b: Tensor, region: Tensor) -> Tensor:
        return radial_average((a * b.conj()).real.double() * region, shape, shells) * counts

    pairs = ((h1, h1), (h2, h2), (h1, h2), (o1, o1), (o2, o2), (o1, o2), (o1, h2), (o2, h1), (o1, h1), (o2, h2))
    found = [total(a, b, inside) for a, b in pairs]
    found += [total(a, b, outside) for a, b in ((o1, o1), (o2, o2), (o1, o2))]
    ones = torch.ones_like(h1)
    found += [total(ones, ones, region) for region in (inside, outside)]
    return torch.stack(found).cpu()


@lru_cache(maxsize=8)
def _samples(shape: tuple[int, ...], shells: int) -> Tensor:
    """How many samples of the whole transform each shell holds."""
    index = shell_index(shape, shells)
    weight = torch.full((shape[-1] // 2 + 1,), 2.0, dtype=torch.float64)
    weight[0] = 1.0
    if shape[-1] % 2 == 0:
        weight[-1] = 1.0
    total = torch.zeros(shells + 1, dtype=torch.float64)
    return total.index_add_(0, index.reshape(-1), weight.expand(index.shape).reshape(-1))[:shells]


def _agreement(parts: Float[Tensor, "block quantity shell"], frequency: Tensor) -> HalfAgreement:
    names = (*_INSIDE, *_WEDGE, *_COUNTS)

    def value(formula: Callable[[dict[str, Tensor]], Tensor]) -> tuple[Tensor, Tensor]:
        return jackknife(parts, lambda sums: formula(dict(zip(names, sums, strict=True))))

    total = dict(zip(names, parts.sum(0), strict=True))
    told = is_known(total["raw12"], total["raw1"], total["raw2"], total["inside"])
    nothing = torch.full_like(total["raw12"], torch.nan)

    def where_told(formula: Callable[[dict[str, Tensor]], Tensor]) -> tuple[Tensor, Tensor]:
        found, sigma = value(formula)
        return torch.where(told, found, nothing), torch.where(told, sigma, nothing)

    def noise(q: dict[str, Tensor]) -> Tensor:
        return 0.5 * (q["raw1"] + q["raw2"]) - q["raw12"]

    def kept(q: dict[str, Tensor]) -> Tensor:
        return 0.5 * (q["out1raw2"] + q["out2raw1"]) / q["raw12"]

    def noise_kept(q: dict[str, Tensor]) -> Tensor:
        return 0.5 * (q["out1raw1"] + q["out2raw2"] - q["out1raw2"] - q["out2raw1"]) / noise(q)

    def power(q: dict[str, Tensor]) -> Tensor:
        return 0.5 * (q["out1"] + q["out2"])

    def supported(q: dict[str, Tensor]) -> Tensor:
        return kept(q) ** 2 * q["raw12"] / power(q)

    raw = value(lambda q: q["raw12"] / (q["raw1"] * q["raw2"]).sqrt())[0]
    output = value(lambda q: q["out12"] / (q["out1"] * q["out2"]).sqrt())[0]
    wedge = value(lambda q: q["wedge12"] / (q["wedge1"] * q["wedge2"]).sqrt())[0]
    wedge_power = value(lambda q: (q["wedge1"] + q["wedge2"]) / q["outside"] * q["inside"] / (q["out1"] + q["out2"]))[0]
    strength = power(total) / total["inside"].clamp(min=1.0)
    wedge = torch.where((wedge_power > _LEAST_WEDGE) & (strength > _EMPTY * strength.max()), wedge, nothing)
    kept_found, kept_sigma = where_told(kept)
    unsupported, unsupported_sigma = where_told(lambda q: 1.0 - supported(q))
    return HalfAgreement(
        frequency=frequency,
        raw=raw,
        output=output,
        wedge=wedge,
        truth=where_told(lambda q: kept(q) * (q["raw12"] / power(q)).sqrt())[0],
        kept=kept_found,
        kept_sigma=kept_sigma,
        noise_kept=where_told(noise_kept)[0],
        unsupported=unsupported,
        unsupported_sigma=unsupported_sigma,
        raw_unsupported=where_told(lambda q: noise(q) / (noise(q) + q["raw12"]))[0],
        added=where_told(lambda q: 1.0 - supported(q) - noise_kept(q) ** 2 * noise(q) / power(q))[0],
        error=where_told(lambda q: (power(q) - q["out1raw2"] - q["out2raw1"] + q["raw12"]) / q["raw12"])[0],
        wedge_power=wedge_power,
        raw_angstrom=_falls_below(frequency, raw),
        output_angstrom=_falls_below(frequency, output),
        wedge_angstrom=_falls_below(frequency, wedge),
    )


def _falls_below(frequency: Tensor, correlation: Tensor) -> float:
    """A: where the correlation first crosses 0.143 from above, linearly between shells; Nyquist where it does not."""
    known = torch.isfinite(correlation)
    k, c = frequency[known], correlation[known]
    above = (c >= _CRITERION).nonzero().flatten()
    if not len(above):
        return math.inf
    below = (c[int(above[0]) :] < _CRITERION).nonzero().flatten()
    if not len(below):
        return float(1.0 / k[-1])
    i = int(above[0] + below[0])
    part = float((c[i - 1] - _CRITERION) / (c[i - 1] - c[i]))
    return float(1.0 / (k[i - 1] + part * (k[i] - k[i - 1])))
