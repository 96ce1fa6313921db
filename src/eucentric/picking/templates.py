"""Templates: what is looked for, as density in a cube, protein bright, its middle at voxel ``n // 2``."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from eucentric.compute.sizes import good_size
from eucentric.errors import InputError, ShapeError
from eucentric.fourier.crop import fourier_crop, fourier_pad
from eucentric.fourier.filters import band_pass, soft_edge
from eucentric.fourier.grid import frequency_grid
from eucentric.geometry.symmetry import symmetry_rotations
from eucentric.optics.atoms import density_from_atoms

_HELD = 0.98  # of the density that the diameter encloses
_FEWEST_VOXELS = 5  # across a template: fewer show no orientation


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Template:
    """One kind of particle."""

    name: str
    density: Float[Tensor, "z y x"]
    """A cube with an even number of voxels, zero outside of the particle."""
    voxel_size_angstrom: float
    diameter_angstrom: float
    """Of the ball about the origin that holds nearly all of it."""
    symmetry: str = "C1"
    isotropic: bool = False
    """Whether it looks the same from all sides, so that one orientation is enough."""
    mask: Float[Tensor, "z y x"] | None = None
    """0 to 1, on the voxels of `density`, turning with it: what counts. None: a ball."""

    def __post_init__(self) -> None:
        n = self.density.shape[0]
        if tuple(self.density.shape) != (n, n, n):
            raise ShapeError(f"The template {self.name} has shape {tuple(self.density.shape)}; expected a cube.")
        symmetry_rotations(self.symmetry)
        if self.diameter_angstrom < _FEWEST_VOXELS * self.voxel_size_angstrom:
            raise InputError(
                f"The template {self.name} is {self.diameter_angstrom:.0f} A wide at {self.voxel_size_angstrom:g} A per "
                f"voxel; expected at least {_FEWEST_VOXELS} voxels. Check its pixel size, or take a finer tomogram."
            )

    def resampled(self, voxel_size: float) -> Self:
        """The same on voxels of another size."""
        if math.isclose(voxel_size, self.voxel_size_angstrom, rel_tol=1e-9):
            return self
        side = good_size(max(8, math.ceil(1.6 * self.diameter_angstrom / voxel_size)))
        density = _resample(self.density, self.voxel_size_angstrom, voxel_size, side)
        mask = self.mask
        if mask is not None:
            mask = _resample(mask, self.voxel_size_angstrom, voxel_size, side).clamp(0.0, 1.0)
        return replace(self, density=density, voxel_size_angstrom=voxel_size, mask=mask)

    def on_own_voxels(self, box: Float[Tensor, "z y x"], voxel_size: float) -> Float[Tensor, "z y x"]:
        """A box about the same origin, its middle voxel, on the voxels of the density."""
        return _resample(box, voxel_size, self.voxel_size_angstrom, self.density.shape[0])

    def moved_to(self, device: torch.device) -> Self:
        """The same on another device."""
        return replace(self, density=self.density.to(device), mask=None if self.mask is None else self.mask.to(device))

    def mirrored(self) -> Self:
        """Its mirror image, a molecule that cannot be there: as compact, and as bright."""
        mirrored = self._with(_mirrored(self.density), "mirrored")
        return mirrored if self.mask is None else replace(mirrored, mask=_mirrored(self.mask))

    def _with(self, density: Tensor, what: str) -> Self:
        return replace(self, name=f"{self.name}, {what}", density=density)


def template_from_atoms(
    positions_angstrom: ArrayLike,
    elements: Sequence[str],
    *,
    name: str,
    voxel_size: float,
    resolution_angstrom: float = 0.0,
    symmetry: str = "C1",
) -> Template:
    """The potential of an atomic model in ice; the mean of its atoms becomes the origin.

    Parameters
    ----------
    positions_angstrom : (atom, 3), x, y, z in A, in any place
    resolution_angstrom : finer detail is removed; 0 keeps what the voxels hold
    symmetry : of the model about its own axes
    """
    points = np.asarray(positions_angstrom, dtype=np.float64)
    points = points - points.mean(0)
    radius = float(np.linalg.norm(points, axis=1).max()) + 2.0
    side = good_size(math.ceil(1.6 * 2.0 * radius / voxel_size))
    density = density_from_atoms(points, elements, (side, side, side), voxel_size)
    if resolution_angstrom > 2.0 * voxel_size:
        density = _filtered(density, voxel_size, resolution_angstrom)
    return Template(
        name=name, density=density, voxel_size_angstrom=voxel_size, diameter_angstrom=2.0 * radius, symmetry=symmetry
    )


def template_from_map(
    volume: Float[Tensor, "z y x"],
    *,
    name: str,
    volume_voxel_size: float,
    voxel_size: float,
    resolution_angstrom: float = 0.0,
    symmetry: str = "C1",
    diameter_angstrom: float | None = None,
    recentre: bool = True,
) -> Template:
    """A map, protein bright, on voxels of another size, on a background of zero; the middle of its mass as the origin.

    With symmetry the map is left where it is, since its axes pass through its own middle.

    Parameters
    ----------
    volume : from any program; need not be a cube
    volume_voxel_size, voxel_size : A, of the map and of the template
    diameter_angstrom : of the particle; measured where None

    Raises
    ------
    InputError : dark protein, nothing in it, or a size that no particle has
    """
    box = volume.float()
    if not bool(box.isfinite().all()) or float(box.std()) == 0.0:
        raise InputError(
            f"The map {name} holds {'values that are no numbers' if float(box.std()) else 'one value only'}."
        )
    shape = tuple(box.shape)
    rim = torch.ones(shape, dtype=torch.bool)
    rim[tuple(slice(max(1, n // 10), n - max(1, n // 10)) for n in shape)] = False
    background = box[rim].median()
    spread = float((box[rim] - background).abs().median()) * 1.4826
    box = box - background
    skew = float((box**3).mean()) / float((box**2).mean()) ** 1.5
    if skew < 0:
        raise InputError(
            f"The map {name} has dark protein (skewness {skew:.2f}); expected protein brighter than its surroundings. "
            "Multiply it by -1."
        )
    # density below a tenth of the brightest voxels is taken for background
    floor = max(3.0 * spread, 0.1 * float(torch.quantile(box.reshape(-1)[:: max(1, box.numel() // 1_000_000)], 0.9995)))
    solid = torch.where(box > floor, box, torch.zeros(()))
    axes = [(torch.arange(n, dtype=torch.float32) - n // 2) * volume_voxel_size for n in shape]
    mass = solid.sum()
    middle = [0.0, 0.0, 0.0]
    if recentre and symmetry.upper() == "C1":
        middle = [float((solid.sum(dim=tuple(d for d in range(3) if d != a)) * axes[a]).sum() / mass) for a in range(3)]
    distance = sum((axes[a] - middle[a]).square().reshape([-1 if d == a else 1 for d in range(3)]) for a in range(3))
    reach = torch.as_tensor(distance).sqrt().expand(shape)
    if diameter_angstrom is None:
        order = reach.reshape(-1).argsort()
        held = solid.reshape(-1)[order].cumsum(0)
        diameter_angstrom = (
            2.0 * float(reach.reshape(-1)[order][int((held < _HELD * mass).sum())]) + 2.0 * volume_voxel_size
        )
    radius = 0.5 * diameter_angstrom
    box = box * soft_edge(reach, radius, radius + 3.0 * volume_voxel_size)
    side = good_size(max(8, math.ceil(1.6 * diameter_angstrom / voxel_size)))
    cube = _resample(_shifted(box, [-m / volume_voxel_size for m in middle]), volume_voxel_size, voxel_size, side)
    if resolution_angstrom > 2.0 * voxel_size:
        cube = _filtered(cube, voxel_size, resolution_angstrom)
    return Template(
        name=name, density=cube, voxel_size_angstrom=voxel_size, diameter_angstrom=diameter_angstrom, symmetry=symmetry
    )


def sphere_template(diameter_angstrom: float, *, voxel_size: float, name: str = "sphere") -> Template:
    """A ball of even density."""
    side = good_size(max(8, math.ceil(1.6 * diameter_angstrom / voxel_size)))
    line = (torch.arange(side) - side // 2) * voxel_size
    reach = (line[:, None, None] ** 2 + line[None, :, None] ** 2 + line[None, None, :] ** 2).sqrt()
    density = soft_edge(reach, 0.5 * (diameter_angstrom - voxel_size), 0.5 * (diameter_angstrom + voxel_size))
    return Template(
        name=name,
        density=density,
        voxel_size_angstrom=voxel_size,
        diameter_angstrom=diameter_angstrom,
        isotropic=True,
    )


def check_template_size(template: Template, shape: Sequence[int], voxel_size: float) -> None:
    """
    Raises
    ------
    InputError : the template does not fit into the tomogram
    """
    least = min(shape) * voxel_size
    if template.diameter_angstrom > least:
        raise InputError(
            f"The template {template.name} is {template.diameter_angstrom:.0f} A wide and the tomogram only {least:.0f} A "
            "along its shortest side. Check the pixel size of the template."
        )


def _mirrored(box: Float[Tensor, "z y x"]) -> Tensor:
    """About the plane x = n // 2 of an even cube."""
    return torch.flip(box, (2,)).roll(1, 2)


def _filtered(density: Float[Tensor, "z y x"], voxel_size: float, resolution: float) -> Tensor:
    frequency = frequency_grid(density.shape, voxel_size, device=density.device)
    gain = band_pass(frequency, low_pass_angstrom=resolution)
    out: Tensor = torch.fft.irfftn(torch.fft.rfftn(density) * gain, s=tuple(density.shape))
    return out


def _shifted(box: Float[Tensor, "z y x"], move: list[float]) -> Tensor:
    if not any(move):
        return box
    spectrum = torch.fft.rfftn(box)
    for axis, (n, m) in enumerate(zip(box.shape, move, strict=True)):
        line = torch.fft.rfftfreq(n) if axis == 2 else torch.fft.fftfreq(n)
        phase = torch.polar(torch.ones_like(line), -2.0 * math.pi * m * line)
        spectrum = spectrum * phase.reshape([-1 if a == axis else 1 for a in range(3)]).to(spectrum.device)
    out: Tensor = torch.fft.irfftn(spectrum, s=tuple(box.shape))
    return out


def _resample(box: Float[Tensor, "z y x"], old: float, new: float, side: int) -> Tensor:
    """On a cube of `side` voxels of another size: padded so that a whole number of both fits, then in Fourier space."""
    need = max(max(box.shape) * old, side * new) / old
    # the field that both samplings share: the padded size whose counterpart is nearest to a whole even number
    sizes = range(2 * math.ceil(need / 2), 2 * math.ceil(need / 2) + 64, 2)
    source = min(sizes, key=lambda n: (abs(n * old / new / 2 - round(n * old / new / 2)) > 2e-3 * n / 64, n))
    target = 2 * round(source * old / new / 2)
    cube = _placed(box, source)
    scaled = fourier_crop(cube, (target,) * 3) if target <= source else fourier_pad(cube, (target,) * 3)
    return _placed(scaled, side)


def _placed(box: Float[Tensor, "z y x"], side: int) -> Tensor:
    """Cut or filled with zeros to a cube, voxel n // 2 onto side // 2."""
    out = box.new_zeros((side,) * 3)
    source, target = [], []
    for n in box.shape:
        low = side // 2 - n // 2
        start, stop = max(0, low), min(side, low + n)
        target.append(slice(start, stop))
        source.append(slice(start - low, stop - low))
    out[tuple(target)] = box[tuple(source)]
    return out
