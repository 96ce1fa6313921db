r"""What a whole tilt series' tile spectra say about any defocus, gathered once for given heights of the tiles.

The spectrum of tile i is modelled as :math:`B(k) [1 - m(k) \cos 2\chi(k, D + \delta_i)]`. As
:math:`2\chi(k, D + \delta) = 2\chi(k, D) + 2\pi\lambda k^2 \delta`, the tiles of a tilt enter only through sums of
their spectra times :math:`\exp(2\pi\mathrm{i}\lambda k^2\delta_i)`: the rings of all tiles brought to one defocus
without interpolation.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from eucentric.ctf.tile_spectra import SpectrumBins, TileSpectra
from eucentric.models import Optics


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RingStatistics:
    """Sums over the tiles of each tilt, each tile brought to the defocus of the specimen centre."""

    total: Float[Tensor, "tilt shell"]
    """Sum of the power."""
    rings: Complex[Tensor, "tilt sector shell"]
    """Sum of power times the phase of the tile's defocus offset."""
    once: Complex[Tensor, "tilt shell"]
    """Sum of those phases."""
    twice: Complex[Tensor, "tilt shell"]
    """Sum of their squares."""
    tiles: Float[Tensor, " tilt"]
    """Number of tiles."""
    blur: Float[Tensor, "tilt shell"]
    """What the change of defocus inside a tile leaves of the modulation."""
    bins: SpectrumBins
    independence: float

    def select(self, tilts: list[int]) -> "RingStatistics":
        """The statistics of some of the tilts."""
        return RingStatistics(
            total=self.total[tilts],
            rings=self.rings[tilts],
            once=self.once[tilts],
            twice=self.twice[tilts],
            tiles=self.tiles[tilts],
            blur=self.blur[tilts],
            bins=self.bins,
            independence=self.independence,
        )


def ring_offset_rates(squared: Float[Tensor, "*bin"], optics: Optics) -> Float[Tensor, "*bin"]:
    """Change of 2 chi with defocus, rad/A, at squared frequencies."""
    wavelength: float = optics.wavelength_angstrom
    return 2 * math.pi * wavelength * squared


def gather_rings(
    spectra: TileSpectra, offsets: Float[Tensor, "tilt tile"], slopes: Float[Tensor, "tilt 2"], optics: Optics
) -> RingStatistics:
    """Sum the tiles of each tilt at the defocus of the specimen centre.

    Parameters
    ----------
    offsets : A, defocus at each tile's centre less that at the specimen centre
    slopes : A/A, change of defocus along x and y of the image
    """
    bins = spectra.bins
    phase_per_angstrom = ring_offset_rates(bins.squared, optics)
    shell_phase = ring_offset_rates(bins.frequency**2, optics)
    total, rings, once, twice = [], [], [], []
    count = bins.count.to(torch.float32)
    for power, weight, offset in zip(spectra.power, spectra.weight, offsets, strict=True):
        phase = (offset[:, None, None] * phase_per_angstrom).to(torch.float32)
        rings.append((torch.polar(power * weight[:, None, None], phase)).sum(0) * count)
        total.append(((power * weight[:, None, None]).sum(0) * count).sum(0))
        turn = torch.polar(weight[:, None].double().expand(-1, len(shell_phase)), offset[:, None] * shell_phase)
        once.append(turn.sum(0))
        twice.append((turn * turn).sum(0))
    return RingStatistics(
        total=torch.stack(total).double(),
        rings=torch.stack(rings).to(torch.complex128),
        once=torch.stack(once),
        twice=torch.stack(twice),
        tiles=spectra.weight.double().sum(1),
        blur=tile_blur(spectra, slopes, shell_phase),
        bins=bins,
        independence=spectra.independence,
    )


def tile_blur(
    spectra: TileSpectra, slopes: Float[Tensor, "tilt 2"], shell_phase: Float[Tensor, " shell"]
) -> Float[Tensor, "tilt shell"]:
    """Modulation left when defocus changes linearly across the window of a tile."""
    side = len(spectra.window_power)
    place = (torch.arange(side, device=slopes.device, dtype=torch.float64) - side / 2) * spectra.spacing
    out = torch.ones(len(slopes), len(shell_phase), dtype=torch.float64, device=slopes.device)
    for axis in range(2):
        angle = slopes[:, axis, None, None] * shell_phase[None, :, None] * place
        out = out * (torch.cos(angle) * spectra.window_power).sum(-1)
    return out.clamp(min=0.0)
