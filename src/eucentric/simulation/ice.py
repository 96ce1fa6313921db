r"""The beam's way through ice and carbon: how much of either is above each pixel, what passes, what fluctuates.

Water and amorphous carbon are random: the projected potential of a path L fluctuates from pixel to pixel of area
:math:`p^2` with the variance :math:`n (V/n)^2 S L / p^2`, where n is the number of molecules or atoms in a volume, V the
mean potential and S the structure factor [1]_ [2]_. Where the spectrum of water is asked for, its power follows
:math:`S(k) f(k)^2`, and what moves during the exposure fades as :math:`2 (a - 1 + e^{-a}) / a^2` with
:math:`a = 34\,\mathrm{A^2}\,k^2 N / 4` for N e/A^2 [3]_.

References
----------
.. [1] Skinner et al., J. Chem. Phys. 138:074506 (2013), doi:10.1063/1.4790861
.. [2] Vulović et al., J. Struct. Biol. 183:19 (2013), doi:10.1016/j.jsb.2013.05.008
.. [3] McMullan, Vinothkumar & Henderson, Ultramicroscopy 158:26 (2015), doi:10.1016/j.ultramic.2015.05.017
"""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.geometry import TiltGeometry, centre_index
from eucentric.optics.atoms import ICE_VOLTS
from eucentric.simulation.film import Film
from eucentric.simulation.params import SimulationParams
from eucentric.typing import FloatArray

_WATER_NUMBER = 0.0311  # molecules in A^3 of vitreous ice of 0.93 g/cm^3
_WATER_STRUCTURE = 0.063  # structure factor of water at zero frequency, from its compressibility
_WATER_B_FACTOR = 10.6  # A^2; the fall of a water molecule's scattering factor, to 3 A
_WATER_MOTION = 34.0  # A^2 of B factor for each e/A^2
# scattering vectors 2 pi k in 1/A, and water's structure factor there, rounded
_WATER_Q = (0.0, 0.5, 1.0, 1.25, 1.5, 1.7, 1.85, 2.0, 2.2, 2.5, 2.9, 3.5, 4.5)
_WATER_S = (0.063, 0.066, 0.085, 0.14, 0.32, 0.65, 1.05, 1.35, 1.25, 0.95, 1.15, 1.05, 1.0)
_CARBON_NUMBER = 0.0902  # atoms in A^3 of evaporated carbon of 1.8 g/cm^3
_CARBON_VOLTS = 10.8  # free atoms
_CARBON_STRUCTURE = 0.2  # of amorphous carbon at low angles, about
CARBON_PATH_ANGSTROM = 2000.0
"""Inelastic mean free path in evaporated carbon at 300 kV; it is shorter than in ice by the density to the power 0.3."""
_COARSE = 8  # pixels between the places where bent faces are met


class Span(NamedTuple):
    """Heights in A (camera frame) between which the beam of each pixel is inside something; nothing where equal."""

    lower: Float[Tensor, "y x"]
    upper: Float[Tensor, "y x"]

    def between(self, low: float, high: float) -> Float[Tensor, "y x"]:
        """A of the path that lies between two heights."""
        inside: Tensor = self.upper.clamp(low, high) - self.lower.clamp(low, high)
        return inside

    def common(self, other: "Span") -> "Span":
        """The part that lies in both."""
        lower = torch.minimum(torch.maximum(self.lower, other.lower), self.upper)
        return Span(lower, torch.maximum(torch.minimum(self.upper, other.upper), lower))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BeamPath:
    """What the beam of each pixel of one image meets."""

    ice: Span
    carbon: Span | None
    """A layer without its hole."""
    hole: Span | None
    """The part of `carbon` that is not there."""
    even: bool
    """Whether all pixels see the same thickness of ice and no carbon."""

    @property
    def heights(self) -> tuple[float, float]:
        """The lowest and the highest place in A of anything."""
        spans = [span for span in (self.ice, self.carbon) if span is not None]
        return min(float(s.lower.min()) for s in spans), max(float(s.upper.max()) for s in spans)

    def carbon_between(self, low: float, high: float) -> Float[Tensor, "y x"] | None:
        """A of carbon between two heights; None without any."""
        if self.carbon is None or self.hole is None:
            return None
        return self.carbon.between(low, high) - self.hole.between(low, high)

    def transmission(self, inelastic_path: float) -> Float[Tensor, "y x"]:
        """Part of the electrons that pass unscattered, for a mean free path in A of ice."""
        lost = (self.ice.upper - self.ice.lower) / inelastic_path
        carbon = self.carbon_between(-math.inf, math.inf)
        return torch.exp(-(lost if carbon is None else lost + carbon / CARBON_PATH_ANGSTROM))

    def phase(self, interaction: float) -> Float[Tensor, "y x"]:
        """Radians by which the mean potentials advance the wave, for `interaction` in radians for each V A."""
        volts = ICE_VOLTS * (self.ice.upper - self.ice.lower)
        carbon = self.carbon_between(-math.inf, math.inf)
        return interaction * (volts if carbon is None else volts + _CARBON_VOLTS * carbon)


def beam_path(film: Film, geometry: TiltGeometry, tilt: int, shape: tuple[int, int], pixel_size: float) -> BeamPath:
    """Meet the faces of a film.

    Parameters
    ----------
    film : ice, and the carbon under it
    geometry, tilt : how the specimen is seen in the image
    shape : (y, x) of the image; specimen centre and shift as in :class:`TiltGeometry`
    pixel_size : A
    """
    matrix, shift = geometry.matrices[tilt], geometry.shifts_angstrom[tilt]
    scale = float(geometry.magnification[tilt])
    y, x = (
        (torch.arange(n, dtype=torch.float32) - centre_index(n)) * pixel_size - float(s)
        for n, s in zip(shape, shift[::-1], strict=True)
    )
    if scale != 1.0:
        y, x = y / scale, x / scale
    normal = matrix[:, 2]
    height = -(float(normal[0]) * x + float(normal[1]) * y[:, None]) / float(normal[2])
    curved = film.gradient != (0.0, 0.0) or film.bend_per_angstrom != (0.0, 0.0)
    has_carbon = film.hole_radius_angstrom is not None and film.carbon_angstrom > 0
    if curved:
        lower, upper, under = _bent(film, matrix, x.double().numpy(), y.double().numpy())
    else:
        half = 0.5 * film.thickness_angstrom / float(normal[2])
        lower, upper = height - half, height + half
        under = lower - film.carbon_angstrom / float(normal[2])
    ice = _between(lower, upper)
    rays = _Rays(matrix, x, y)
    present = None if film.vacuum_beyond_angstrom is None else rays.left_of(film.vacuum_beyond_angstrom)
    carbon = hole = None
    if has_carbon and film.hole_radius_angstrom is not None:
        carbon = _between(under, lower)
        carbon = carbon if present is None else carbon.common(present)
        hole = carbon.common(rays.within(film.hole_centre_angstrom, film.hole_radius_angstrom))
    return BeamPath(
        ice=ice if present is None else ice.common(present),
        carbon=carbon,
        hole=hole,
        even=present is None and carbon is None and not curved,
    )


class _Rays:
    """The beam of each pixel as a line through the specimen: point = start + height * direction."""

    def __init__(self, matrix: FloatArray, x: Tensor, y: Tensor) -> None:
        self._start = [float(matrix[0, d]) * x + float(matrix[1, d]) * y[:, None] for d in range(2)]
        self._direction = [float(matrix[2, d]) for d in range(2)]

    def left_of(self, edge: float) -> Span:
        """Where the line's x lies below `edge`."""
        start, step = self._start[0], self._direction[0]
        if abs(step) < 1e-9:
            bound = torch.where(start <= edge, math.inf, -math.inf)
            return Span(-bound, bound)
        place = (edge - start) / step
        far = torch.full_like(place, math.inf)
        return Span(-far, place) if step > 0 else Span(place, far)

    def within(self, centre: tuple[float, float], radius: float) -> Span:
        """Where the line lies in an upright cylinder."""
        start = [s - c for s, c in zip(self._start, centre, strict=True)]
        steps = self._direction
        square = steps[0] ** 2 + steps[1] ** 2
        distance = start[0] ** 2 + start[1] ** 2 - radius**2
        if square < 1e-12:
            bound = torch.where(distance <= 0, math.inf, -math.inf)
            return Span(-bound, bound)
        middle = -(start[0] * steps[0] + start[1] * steps[1]) / square
        half = (middle**2 - distance / square).clamp_min(0.0).sqrt()
        return Span(middle - half, middle + half)


def _between(one: Float[Tensor, "y x"], other: Float[Tensor, "y x"]) -> Span:
    return Span(torch.minimum(one, other), torch.maximum(one, other))


def _bent(film: Film, matrix: FloatArray, x: FloatArray, y: FloatArray) -> list[Float[Tensor, "y x"]]:
    """Heights at which the beam meets the lower and the upper face of the ice and the carbon's lower face.

    Newton's method on a coarse grid, since the faces are smooth.
    """
    smooth = replace(film, vacuum_beyond_angstrom=None)
    nodes = [np.linspace(v[0], v[-1], max(2, len(v) // _COARSE)) for v in (x, y)]
    across, up = np.meshgrid(nodes[0], nodes[1])
    start = [matrix[0, d] * across + matrix[1, d] * up for d in range(3)]
    direction = matrix[2]

    def above(height: FloatArray, face: int, depth: float) -> FloatArray:
        place = [s + height * d for s, d in zip(start, direction, strict=True)]
        return np.asarray(place[2] - smooth.faces(place[0], place[1])[face] + depth)

    met = []
    for face, depth in ((0, 0.0), (1, 0.0), (0, film.carbon_angstrom)):
        height = -start[2] / direction[2]
        for _ in range(6):
            slope = above(height + 0.5, face, depth) - above(height - 0.5, face, depth)
            height = height - above(height, face, depth) / slope
        coarse = torch.from_numpy(height)[None, None]
        whole = torch.nn.functional.interpolate(coarse, size=(len(y), len(x)), mode="bilinear", align_corners=True)
        met.append(whole[0, 0].float())
    return met


def fluctuations(
    path: BeamPath, depth: float, step: float, params: SimulationParams, generator: torch.Generator
) -> Float[Tensor, "y x"] | None:
    """Projected fluctuations (V A) of ice and carbon within half a step of a depth; None where there is neither."""
    if params.ice_noise == 0:
        return None
    low, high = depth - 0.5 * step, depth + 0.5 * step
    water = path.ice.between(low, high)
    variance = ICE_VOLTS**2 / _WATER_NUMBER * _WATER_STRUCTURE * water / params.pixel_size_angstrom**2
    carbon = path.carbon_between(low, high)
    if carbon is not None:
        dense = _CARBON_VOLTS**2 / _CARBON_NUMBER * _CARBON_STRUCTURE / params.pixel_size_angstrom**2
        variance = variance + dense * carbon.clamp_min(0.0)
    if not bool((variance > 0).any()):
        return None
    noise: Tensor = params.ice_noise * variance.sqrt() * torch.randn(water.shape, generator=generator)
    return noise


def water_spectrum(frequency: Float[Tensor, "*grid"], dose: float) -> Float[Tensor, "*grid"]:
    """Amplitude of water's fluctuations in the image of an exposure of `dose` e/A^2, over that at zero frequency."""
    structure = np.interp(2 * np.pi * frequency.numpy(), _WATER_Q, _WATER_S) / _WATER_S[0]
    squared = frequency.double() ** 2
    moved = (0.25 * _WATER_MOTION * dose * squared).clamp_min(1e-6)
    blurred = 2.0 * (moved - 1.0 + torch.exp(-moved)) / moved**2
    blurred = torch.where(moved < 1e-3, 1.0 - moved / 3.0, blurred)
    power = torch.from_numpy(np.asarray(structure)) * blurred
    return (power.sqrt() * torch.exp(-0.25 * _WATER_B_FACTOR * squared)).to(frequency.dtype)


def tapered(image: Float[Tensor, "y x"], margin: int) -> Float[Tensor, "y x"]:
    """The image with its outermost pixels drawn smoothly towards its mean, so that opposite edges meet."""
    weights = []
    for n in image.shape:
        edge = torch.minimum(torch.arange(n) + 0.5, n - 0.5 - torch.arange(n)) / max(margin, 1)
        weights.append(0.5 - 0.5 * torch.cos(math.pi * edge.clamp(0.0, 1.0)))
    mean = image.mean()
    blended: Tensor = mean + (image - mean) * weights[0][:, None] * weights[1]
    return blended
