"""Power spectra of tiles, averaged over small sectors of each ring."""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.compute import good_size
from eucentric.ctf.params import CtfParams
from eucentric.ctf.prepare_images import crop_to_scale, replace_outliers, scaled_shape, working_scale
from eucentric.errors import ShapeError
from eucentric.fourier import frequency_vectors

SECTORS = 16  # 11 degrees each: astigmatism of 3000 A changes the phase by less than a radian within one at 8 A
_LEAST_TILE_PX = 64
ICE_BANDS = ((4.0, 3.35), (2.3, 2.2))
"""A, ends of the bands that hold the strong rings of hexagonal and cubic ice: 3.90, 3.67, 3.44 and 2.25."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SpectrumBins:
    """Where each bin of a tile's power spectrum lies: rings one Fourier pixel wide, cut into sectors of half a turn."""

    frequency: Tensor
    """(shell,) mean frequency of each ring, 1/A."""
    squared: Tensor
    """(sector, shell) mean squared frequency, 1/A^2."""
    cosine: Tensor
    """(sector, shell) mean of cos 2 phi, with phi from x towards y."""
    sine: Tensor
    """(sector, shell) mean of sin 2 phi."""
    count: Tensor
    """(sector, shell) samples of the half plane; zero where a bin is empty."""
    sample: Tensor
    """Which samples of the flattened rfft lie in the band."""
    bin: Tensor
    """Flat (sector, shell) bin of each of them."""
    weight: Tensor
    """1, or 1/2 for the samples on the x = 0 column, which come twice."""

    @classmethod
    def build(cls, tile_px: int, spacing: float, low: float, high: float, device: torch.device) -> "SpectrumBins":
        """Bins for square tiles of `tile_px`, for frequencies from `low` to `high` (1/A)."""
        fy, fx = frequency_vectors((tile_px, tile_px), spacing, device=device, dtype=torch.float64)
        squared = (fy**2 + fx**2).reshape(-1)
        first, last = math.ceil(low * tile_px * spacing), math.floor(high * tile_px * spacing)
        ring = torch.round(torch.sqrt(squared) * tile_px * spacing).long() - first
        sample = torch.nonzero((ring >= 0) & (ring <= last - first)).reshape(-1)
        shells = last - first + 1
        angle = torch.atan2(fy.expand(-1, fx.shape[1]), fx.expand(fy.shape[0], -1)).reshape(-1)[sample]
        sector = torch.floor((angle / math.pi + 0.5 + 1e-9) * SECTORS).long() % SECTORS
        bin_ = sector * shells + ring[sample]
        weight = torch.where(sample % fx.shape[1] == 0, 0.5, 1.0).to(torch.float64)

        def mean(value: Tensor) -> Tensor:
            total = torch.zeros(SECTORS * shells, dtype=torch.float64, device=device).index_add_(
                0, bin_, value * weight
            )
            return total.reshape(SECTORS, shells) / count.clamp(min=0.5)

        count = torch.zeros(SECTORS * shells, dtype=torch.float64, device=device).index_add_(0, bin_, weight)
        count = count.reshape(SECTORS, shells)
        part = squared[sample]
        mean_squared = mean(part)
        ring_squared = (mean_squared * count).sum(0) / count.sum(0)
        return cls(
            frequency=torch.sqrt(ring_squared),
            squared=torch.where(count > 0, mean_squared, ring_squared),
            cosine=mean(torch.cos(2 * angle)),
            sine=mean(torch.sin(2 * angle)),
            count=count,
            sample=sample,
            bin=bin_,
            weight=weight,
        )

    def average(self, power: Float[Tensor, "tile y half_x"]) -> Float[Tensor, "tile sector shell"]:
        """Mean power in each bin; zero in empty ones."""
        values = power.reshape(len(power), -1)[:, self.sample] * self.weight.to(power.dtype)
        total = power.new_zeros(len(power), self.count.numel()).index_add_(1, self.bin, values)
        return total.reshape(len(power), *self.count.shape) / self.count.clamp(min=0.5).to(power.dtype)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TileSpectra:
    """What the fit needs to know of the images."""

    power: Float[Tensor, "tilt tile sector shell"]
    """Mean power of each bin over the mean power of the tile's band."""
    weight: Float[Tensor, "tilt tile"]
    """1 for tiles that are used, 0 for tiles that are not."""
    positions_angstrom: Float[Tensor, "tile 2"]
    """(x, y) of each tile's centre from the image centre."""
    bins: SpectrumBins
    window_power: Float[Tensor, " sample"]
    """Square of the window along one axis, summing to 1."""
    spacing: float
    """A per sample of the tiles."""
    independence: float
    """Independent samples per sample: neighbours in the spectrum share the window, neighbouring tiles share pixels."""


def tile_starts(size: int, tile_px: int, overlap: float) -> list[int]:
    """First pixels of tiles that cover `size` pixels evenly with at least about `overlap`."""
    count = 1 + math.ceil(max(0, size - tile_px) / (tile_px * (1.0 - overlap)) - 1e-9)
    return [round(i * (size - tile_px) / max(1, count - 1)) for i in range(count)]


def measure_series_spectra(images: Float[Tensor, "tilt y x"], pixel_size: float, params: CtfParams) -> TileSpectra:
    """Spectra of overlapping tiles of every tilt.

    Raises
    ------
    ShapeError : images too small to be cut into tiles
    """
    keep, spacing = working_scale(pixel_size, params.high_resolution_angstrom)
    shape = scaled_shape(images.shape[1:], keep)
    side = min(good_size(round(params.tile_angstrom / spacing)), min(shape) // 2 * 2)
    if side < _LEAST_TILE_PX:
        raise ShapeError(
            f"The images are {images.shape[2]} x {images.shape[1]} pixels of {pixel_size:g} A; CTF estimation needs at "
            f"least {math.ceil(_LEAST_TILE_PX * spacing / pixel_size)} pixels along each side. "
            "Give images that are less binned or cropped."
        )
    starts = [tile_starts(n, side, params.tile_overlap) for n in shape]
    centres = [[s + side // 2 - n // 2 for s in line] for line, n in zip(starts, shape, strict=True)]
    positions = torch.tensor([[x, y] for y in centres[0] for x in centres[1]], dtype=torch.float64) * spacing
    window = torch.hann_window(side, periodic=True, dtype=torch.float32, device=images.device)
    bins = _bins(side, spacing, params, images.device)
    powers, weights = [], []
    for image in images:
        scaled = crop_to_scale(replace_outliers(image.float(), params.outlier_sigmas), keep)
        tiles = torch.stack([scaled[y : y + side, x : x + side] for y in starts[0] for x in starts[1]])
        power, weight = _tile_power(tiles, window, bins)
        powers.append(power)
        weights.append(weight)
    steps = [((n - side) / max(1, len(line) - 1)) for line, n in zip(starts, shape, strict=True)]
    return TileSpectra(
        power=torch.stack(powers),
        weight=torch.stack(weights),
        positions_angstrom=positions.to(images.device),
        bins=bins,
        window_power=(window.double() ** 2) / (window.double() ** 2).sum(),
        spacing=spacing,
        independence=_independence(window.double(), steps),
    )


def measure_tile_spectra(tiles: Float[Tensor, "tile y x"], pixel_size: float, params: CtfParams) -> TileSpectra:
    """Spectra of separate square tiles of one defocus (such as particle images), taken as one tilt.

    A tile narrower than the rings are fine keeps most of its width: its edges alone are tapered.
    """
    side = tiles.shape[-1]
    taper = max(4, side // 8)
    ramp = 0.5 - 0.5 * torch.cos(
        math.pi * (torch.arange(taper, device=tiles.device, dtype=torch.float32) + 0.5) / taper
    )
    window = torch.ones(side, device=tiles.device)
    window[:taper], window[-taper:] = ramp, ramp.flip(0)
    bins = _bins(side, pixel_size, params, tiles.device)
    cleaned = torch.stack([replace_outliers(tile.float(), params.outlier_sigmas) for tile in tiles])
    power, weight = _tile_power(cleaned, window, bins)
    return TileSpectra(
        power=power[None],
        weight=weight[None],
        positions_angstrom=torch.zeros(len(tiles), 2, dtype=torch.float64, device=tiles.device),
        bins=bins,
        window_power=(window.double() ** 2) / (window.double() ** 2).sum(),
        spacing=pixel_size,
        independence=_independence(window.double(), [float(side), float(side)]),
    )


def without_ice(bins: SpectrumBins) -> SpectrumBins:
    """No sample counts where the rings of crystalline ice lie."""
    outside = torch.ones_like(bins.frequency)
    for long, short in ICE_BANDS:
        outside[(bins.frequency > 1 / long) & (bins.frequency < 1 / short)] = 0.0
    return replace(bins, count=bins.count * outside)


def _bins(side: int, spacing: float, params: CtfParams, device: torch.device) -> SpectrumBins:
    high = min(1.0 / params.high_resolution_angstrom, 0.5 / spacing / 1.05)
    low = max(1.0 / params.low_resolution_angstrom, 4.0 / (side * spacing))
    if high < 2 * low:
        raise ShapeError(
            f"Tiles of {side} pixels of {spacing:g} A show detail from {1 / low:.1f} to {1 / high:.1f} A; CTF "
            "estimation needs a band twice as wide as that. Give larger or less binned images."
        )
    bins = SpectrumBins.build(side, spacing, low, high, device)
    return without_ice(bins) if params.ice_ring_masks else bins


def _tile_power(
    tiles: Float[Tensor, "tile y x"], window: Float[Tensor, " sample"], bins: SpectrumBins
) -> tuple[Float[Tensor, "tile sector shell"], Float[Tensor, " tile"]]:
    """Relative power of each tile, and which tiles show specimen."""
    area = window[:, None] * window
    level = (tiles * area).sum((1, 2)) / area.sum()
    power = bins.average(torch.view_as_real(torch.fft.rfft2((tiles - level[:, None, None]) * area)).square().sum(-1))
    count = bins.count.to(power.dtype)
    band = (power * count).sum((1, 2)) / count.sum()
    scale = (tiles**2).mean((1, 2)).clamp(min=torch.finfo(torch.float32).tiny)
    lit = band > 1e-10 * scale
    if bool(lit.any()):
        usual = band[lit].median()
        lit &= (band > usual / 5) & (band < usual * 5)  # crystals, the edge of a hole
        if bool((level > 0).all()):
            lit &= level > 0.4 * level.median()  # grid bars
    safe = torch.where(lit, band, torch.ones_like(band))
    return torch.where(lit[:, None, None], power / safe[:, None, None], torch.zeros_like(power)), lit.to(power.dtype)


def _independence(window: Float[Tensor, " sample"], steps_px: list[float]) -> float:
    """1 over the noise bandwidths of the window along both axes and over the overlap of the tiles."""
    bandwidth = len(window) * float((window**4).sum()) / float((window**2).sum()) ** 2
    shared = 1.0
    for step in steps_px:
        if 0 < step < len(window):
            move = round(step)
            overlap = float((window[move:] * window[:-move]).sum() / (window**2).sum())
            shared *= 1.0 + 2.0 * overlap**2
    return 1.0 / (bandwidth**2 * shared)
