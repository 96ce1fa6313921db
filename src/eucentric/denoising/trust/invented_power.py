"""What a network fills into unmeasured Fourier space, checked against data that were measured but withheld from it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.denoising.trust.block_spectra import (
    INSIDE,
    OUTSIDE,
    Measured,
    all_samples,
    check_independent,
    check_same_shapes,
    is_known,
    jackknife,
    lowest_around,
    measured_on,
    place_blocks,
    region_outside,
    windowed_transform,
)
from eucentric.errors import InputError, ShapeError
from eucentric.fourier.grid import frequency_grid, frequency_vectors

AVERAGE_RAW_DATA = (
    "Average particles from the raw data: what a network took away or filled in would go into the average."
)
BANDS_ANGSTROM = ((200.0, 60.0), (60.0, 40.0), (40.0, 25.0))
_CUT = 0.1  # of measured: what is weaker is taken away altogether, so that nothing leaks through the edge of the wedge
_MOST_INVENTED = 0.5
_LEAST_FILLED = 0.1
_LEAST_KEPT = 0.8
_MOST_SIGMA = 0.25
_TAPER = 12  # the outer 12th of a block fades
_PROFILE_BINS = 180
_NAMES = ("signal", "filled", "agreed", "kept", "given", "other", "samples")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InventionCheck:
    """What was predicted of withheld data; all arrays are (band,), NaN where the halves hold no signal to check by."""

    bands_angstrom: tuple[tuple[float, float], ...]
    """Coarse and fine end of each."""
    correlation: Float[Tensor, " band"]
    """Of what was filled in with the withheld signal, corrected for the noise of the half that it was compared with."""
    correlation_sigma: Float[Tensor, " band"]
    invented: Float[Tensor, " band"]
    """Part of the filled power that the withheld data do not support, 0 to 1; NaN also where nothing was filled in."""
    invented_sigma: Float[Tensor, " band"]
    filled: Float[Tensor, " band"]
    """Power filled in over the power of the signal that belongs there."""
    recovered: Float[Tensor, " band"]
    """Amplitude of the withheld signal in what was filled in; 1 is all of it."""
    kept: Float[Tensor, " band"]
    """The same when the data are not withheld: what the network leaves of measured signal."""
    blocks: int
    withheld: str
    """What was withheld, in words."""
    caveats: tuple[str, ...]


def check_invention(
    apply: Callable[[Tensor], Tensor],
    half1: Float[Tensor, "z y x"],
    half2: Float[Tensor, "z y x"],
    measured: Measured,
    voxel_size: float,
    *,
    withheld_deg: float | None = None,
    block: int = 96,
    count: int = 6,
    bands_angstrom: Sequence[tuple[float, float]] = BANDS_ANGSTROM,
    generator: torch.Generator,
) -> InventionCheck:
    r"""Withhold measured data of one half from a network, and compare what it fills in with the other half.

    Blocks of one half, by turns the first and the second, lose a region of Fourier space that was measured. The network fills
    it with :math:`f`; the other half holds there :math:`h = s + n`, with noise n that the network never saw. With
    :math:`\langle h_1, h_2 \rangle = S` from both untouched halves, and :math:`\langle f, h \rangle = \langle f, s \rangle`
    in expectation,

    - correlation :math:`c = \langle f, h \rangle / \sqrt{\langle f, f \rangle S}`, as if with the signal free of noise
    - invented :math:`1 - c^2`, the part of the filled power that is no multiple of the signal (all of it where c < 0)
    - filled :math:`\langle f, f \rangle / S`, recovered :math:`\langle f, h \rangle / S`

    summed over all samples of a band and all blocks; standard deviations are from leaving out one block at a time. Samples
    count whose neighbours were withheld too: under the Hann window of the comparison nothing else reaches them, so that the
    identity fills in nothing at all.

    Which region: with `withheld_deg` None blocks are turned by 90 degrees about y (z becomes x), without interpolation, and lose
    the wedge that tomograms lack. The network then fills the very gap that it always fills, and that was measured. It has
    less to go by than in real use, as the true wedge is missing too, now along x: the check errs to the strict side. With a
    number, blocks keep their place and lose the outermost tilts, so many degrees next to the wedge on either side.

    Parameters
    ----------
    apply : (z, y, x) to the same shape, for blocks of any even size
    half1, half2 : raw, of one scale
    measured : for the shape of a block
    voxel_size : A
    withheld_deg : None, or degrees on either side
    block, count : edge in voxels, and number of blocks
    bands_angstrom : coarse and fine end of each
    generator : chooses the blocks

    Raises
    ------
    ShapeError : volumes of other shapes, or a network that changes the size
    InputError : the same half twice, nothing missing or nothing left to withhold, bands that are none
    """
    check_same_shapes(half1=half1, half2=half2)
    check_independent(half1, half2)
    bands = tuple((float(coarse), float(fine)) for coarse, fine in bands_angstrom)
    if not bands or not all(coarse > fine > 0 for coarse, fine in bands) or not voxel_size > 0:
        raise InputError(
            f"Bands {bands} and a voxel size of {voxel_size:g} A were given; expected (coarse, fine) in A and a positive size."
        )
    blocks = place_blocks(tuple(half1.shape), block - block % 2, count, generator=generator)
    first = half1[blocks[0]]
    turn = withheld_deg is None
    plan = _Plan.of(tuple(first.shape), measured, voxel_size, bands, withheld_deg, half1.device)
    parts = []
    for number, place in enumerate(blocks):
        one, two = half1[place].float(), half2[place].float()
        given, other = (one, two) if number % 2 == 0 else (two, one)
        if turn:
            given, other = (torch.rot90(v, 1, (0, 2)).contiguous() for v in (given, other))
        parts.append(plan.compare(apply, given, other))
    words = (
        "the wedge that tomograms lack, from blocks turned by 90 degrees about the tilt axis"
        if turn
        else f"the outermost {withheld_deg:g} degrees of tilt on either side"
    )
    return _judge(torch.stack(parts), bands, words)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Plan:
    """What is withheld from blocks of one shape, and where they are compared."""

    gain: Tensor
    regions: Tensor
    """(band, z, y, half_x), samples counted once for themselves and once for those that the half transform leaves out."""

    @staticmethod
    def of(
        shape: tuple[int, ...],
        measured: Measured,
        voxel_size: float,
        bands: tuple[tuple[float, float], ...],
        withheld_deg: float | None,
        device: torch.device,
    ) -> "_Plan":
        z, y, x = shape
        own = measured_on(measured, (z, y, x), device)
        if withheld_deg is None:
            shape = (x, y, z)
            gain = measured_on(measured, (x, y, z), device)
            gain = torch.where(gain < _CUT, torch.zeros_like(gain), gain)
            held = _turned(own, x)
        else:
            gain = own * (_degrees_from_gap(own, shape, voxel_size) > withheld_deg)
            held = own
        if float((gain < OUTSIDE).float().mean()) == 0.0 or float(own.min()) > INSIDE:
            raise InputError("All of Fourier space was measured: nothing is filled in, and there is nothing to check.")
        last = shape[2]
        target = region_outside(gain, last) * (lowest_around(held, last) > INSIDE)
        frequency = frequency_grid(shape, voxel_size, device=device)
        weight = torch.full((last // 2 + 1,), 2.0, device=device)
        weight[0] = 1.0
        if last % 2 == 0:
            weight[-1] = 1.0
        regions = [target * weight * ((frequency >= 1.0 / coarse) & (frequency < 1.0 / fine)) for coarse, fine in bands]
        if not any(bool(region.any()) for region in regions):
            raise InputError(
                "No measured data can be withheld: blocks are too small, or too little of Fourier space is measured. Give "
                "larger blocks, or more degrees to withhold."
            )
        return _Plan(gain=gain, regions=torch.stack(regions))

    def compare(
        self, apply: Callable[[Tensor], Tensor], given: Tensor, other: Tensor
    ) -> Float[Tensor, "quantity band"]:
        """Sums over the bands of one block."""
        mean = given.mean()
        faded = (given - mean) * _taper(given.shape, given.device)
        poorer = torch.fft.irfftn(torch.fft.rfftn(faded) * self.gain, s=given.shape)
        f, whole = (windowed_transform(_applied(apply, v + mean)) for v in (poorer, faded))
        raw, target = windowed_transform(given), windowed_transform(other)

        def sums(values: Tensor) -> Tensor:
            return (values.double() * self.regions).sum((1, 2, 3))

        products = [raw * target.conj(), f * f.conj(), f * target.conj(), whole * target.conj()]
        products += [raw * raw.conj(), target * target.conj(), torch.ones_like(raw)]
        return torch.stack([sums(product.real) for product in products]).cpu()


def _applied(apply: Callable[[Tensor], Tensor], volume: Tensor) -> Tensor:
    out = apply(volume)
    if out.shape != volume.shape:
        raise ShapeError(
            f"The network made {tuple(out.shape)} of a block of {tuple(volume.shape)}; expected the same shape."
        )
    return out


def _judge(
    parts: Float[Tensor, "block quantity band"], bands: tuple[tuple[float, float], ...], withheld: str
) -> InventionCheck:
    def value(formula: Callable[[dict[str, Tensor]], Tensor]) -> tuple[Tensor, Tensor]:
        return jackknife(parts, lambda sums: formula(dict(zip(_NAMES, sums, strict=True))))

    total = dict(zip(_NAMES, parts.sum(0), strict=True))
    signal = total["signal"]
    told = is_known(signal, total["given"], total["other"], total["samples"])

    def where_told(formula: Callable[[dict[str, Tensor]], Tensor], also: Tensor | None = None) -> tuple[Tensor, Tensor]:
        good = told if also is None else told & also
        return tuple(torch.where(good, v, torch.full_like(v, torch.nan)) for v in value(formula))  # type: ignore[return-value]

    def correlation(q: dict[str, Tensor]) -> Tensor:
        return q["agreed"] / (q["filled"] * q["signal"]).clamp(min=1e-300).sqrt()

    something = total["filled"] > 1e-6 * signal.abs()
    found, found_sigma = where_told(correlation, something)
    invented, invented_sigma = where_told(lambda q: 1.0 - correlation(q) * correlation(q).abs(), something)
    check = InventionCheck(
        bands_angstrom=bands,
        correlation=found,
        correlation_sigma=found_sigma,
        invented=invented.clamp(0.0, 1.0),
        invented_sigma=invented_sigma,
        filled=where_told(lambda q: q["filled"] / q["signal"])[0],
        recovered=where_told(lambda q: q["agreed"] / q["signal"])[0],
        kept=where_told(lambda q: q["kept"] / q["signal"])[0],
        blocks=len(parts),
        withheld=withheld,
        caveats=(),
    )
    return InventionCheck(
        **{name: getattr(check, name) for name in check.__slots__ if name != "caveats"}, caveats=_caveats(check)
    )


def _caveats(check: InventionCheck) -> tuple[str, ...]:
    said = [AVERAGE_RAW_DATA]
    for i, (coarse, fine) in enumerate(check.bands_angstrom):
        band = f"Between {coarse:g} and {fine:g} A"
        invented, sigma, filled = float(check.invented[i]), float(check.invented_sigma[i]), float(check.filled[i])
        if math.isnan(filled):
            said.append(f"{band} the halves hold no signal to check by: what the network fills in there is unproven.")
            continue
        if filled > _LEAST_FILLED and invented > _MOST_INVENTED:
            said.append(
                f"{band} {100 * invented:.0f}% of the power that the network fills into unmeasured Fourier space is invented: "
                "data withheld from it do not support it."
            )
        if filled > _LEAST_FILLED and not sigma <= _MOST_SIGMA:
            said.append(f"{band} the blocks tell too little of what is invented: check with more of them.")
        if float(check.kept[i]) < _LEAST_KEPT:
            said.append(
                f"{band} the network keeps {100 * float(check.kept[i]):.0f}% of the measured signal's amplitude."
            )
    return tuple(said)


def _turned(half: Float[Tensor, "z y half_x"], last: int) -> Float[Tensor, "x y half_z"]:
    """Samples of an rfftn of a volume on those of the rfftn of the volume after rot90 from z to x."""
    whole = all_samples(half, last)  # (kz, ky, kx)
    turned = whole.flip(2).roll(1, 2).permute(2, 1, 0)  # old kx is - new kz, old kz is new kx
    return turned[..., : whole.shape[0] // 2 + 1].contiguous()


def _degrees_from_gap(own: Tensor, shape: tuple[int, ...], voxel_size: float) -> Tensor:
    """Degrees about the tilt axis from each sample to the nearest direction that was not measured."""
    kz, _, kx = frequency_vectors(shape, voxel_size, device=own.device)
    angle = torch.rad2deg(torch.atan2(kz, kx)).expand(own.shape)
    radius = torch.hypot(kz, kx).expand(own.shape) * voxel_size
    bins = ((angle + 90.0) * _PROFILE_BINS / 180.0).floor().long() % _PROFILE_BINS
    ring = (radius > 0.2) & (radius < 0.45)
    total = torch.zeros(2, _PROFILE_BINS, device=own.device)
    total[0].index_add_(0, bins[ring], own[ring])
    total[1].index_add_(0, bins[ring], torch.ones_like(own[ring]))
    missing = ((total[0] < INSIDE * total[1]) & (total[1] > 0)).nonzero().flatten()
    if not len(missing):
        return torch.full_like(own, torch.inf)
    middles = (missing + 0.5) * 180.0 / _PROFILE_BINS - 90.0
    grid = (torch.arange(_PROFILE_BINS * 4, device=own.device) + 0.5) * 180.0 / (4 * _PROFILE_BINS) - 90.0
    apart = (grid[:, None] - middles + 90.0) % 180.0 - 90.0
    nearest = (apart.abs().min(1).values - 90.0 / _PROFILE_BINS).clamp(min=0.0)
    fine = ((angle + 90.0) * 4 * _PROFILE_BINS / 180.0).floor().long() % (4 * _PROFILE_BINS)
    return torch.where(radius > 0, nearest[fine], torch.full_like(own, torch.inf))


def _taper(shape: Sequence[int], device: torch.device) -> Tensor:
    out = torch.ones((), device=device)
    for axis, n in enumerate(shape):
        reach = max(2, n // _TAPER)
        edge = torch.minimum(torch.arange(n), torch.arange(n).flip(0)).float()
        line = 0.5 - 0.5 * torch.cos(math.pi * ((edge + 0.5) / reach).clamp(max=1.0))
        out = out * line.to(device).reshape([-1 if a == axis else 1 for a in range(3)])
    return out
