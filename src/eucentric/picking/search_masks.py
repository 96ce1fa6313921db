"""Which part of a cube counts in the search: a ball, or a mask that turns with the template."""

import math
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.errors import InputError
from eucentric.fourier.filters import band_pass, soft_edge
from eucentric.fourier.grid import frequency_grid
from eucentric.picking.masks import ball_mask, check_mask, shape_mask
from eucentric.picking.params import MatchParams
from eucentric.picking.rotated_templates import FourierTemplate
from eucentric.picking.templates import Template
from eucentric.typing import FloatArray

_EDGE = 2.0  # voxels
_SOLID_ANGSTROM = 20.0  # detail finer than this does not shape a mask
_HELD = 0.98  # of the density that an ellipsoid encloses
_INSIDE = 0.5  # of a template's density that a mask from a file must hold at least
_SEEN = 0.05


def with_search_mask(template: Template, params: MatchParams) -> Template:
    """The template with the mask that the settings ask for; one that came with it stays, and a ball needs none.

    Raises
    ------
    InputError : the template has no shape that a mask could follow
    """
    if template.mask is not None or params.mask_shape == "ball" or template.isotropic:
        return template
    voxel, margin = template.voxel_size_angstrom, params.mask_margin_angstrom
    solid = _smooth(template.density, voxel)
    if params.mask_shape == "own":
        mask = shape_mask(solid, voxel, margin_angstrom=margin, edge_angstrom=_EDGE * voxel)
    else:
        mask = ellipsoid_mask(solid, voxel, margin_angstrom=margin, edge_angstrom=_EDGE * voxel)
    return replace(template, mask=mask)


def with_given_mask(template: Template, mask: Float[Tensor, "z y x"], voxel_size: float | None = None) -> Template:
    """The template with a mask about the same origin.

    Parameters
    ----------
    voxel_size : A, of the mask; where None, it has the shape and the voxels of the template

    Raises
    ------
    ShapeError, InputError : another shape, values outside 0 to 1, empty, or not where the template is
    """
    check_mask(mask, template.density.shape if voxel_size is None else None)
    if voxel_size is not None:
        mask = check_mask(template.on_own_voxels(mask.float(), voxel_size).clamp(0.0, 1.0))
    solid = template.density.clamp_min(0.0).to(mask)
    held = float((solid * mask).sum() / solid.sum().clamp_min(1e-30))
    if held < _INSIDE:
        raise InputError(
            f"The mask holds {100 * held:.0f}% of the density of {template.name}; expected at least {100 * _INSIDE:.0f}%. Check "
            "that it lies on the template, is 1 inside and 0 outside, and has the right pixel size."
        )
    return replace(template, mask=mask.clamp(0.0, 1.0))


def ellipsoid_mask(
    density: Float[Tensor, "z y x"], voxel_size: float, *, margin_angstrom: float, edge_angstrom: float
) -> Float[Tensor, "z y x"]:
    """The ellipsoid along the density's principal axes that holds nearly all of it, grown by a margin, with a soft edge."""
    n = density.shape[0]
    weight = torch.where(density > 0.2 * density.max(), density, torch.zeros(())).reshape(-1).double()
    line = (torch.arange(n, dtype=torch.float64, device=density.device) - n // 2) * voxel_size
    z, y, x = torch.meshgrid(line, line, line, indexing="ij")
    points = torch.stack([x.reshape(-1), y.reshape(-1), z.reshape(-1)], dim=1)
    share = weight / weight.sum()
    middle = share @ points
    moved = points - middle
    variance, axes = torch.linalg.eigh((moved * share[:, None]).T @ moved)
    radii = (5.0 * variance).sqrt().clamp_min(voxel_size)  # of an even ellipsoid of these moments
    along = moved @ axes
    reach = (along / radii).square().sum(1).sqrt()
    order = reach.argsort()
    needed = float(reach[order][int((share[order].cumsum(0) < _HELD).sum())])
    grown = needed * radii + margin_angstrom
    mean = float(grown.mean())
    distance = (along / grown).square().sum(1).sqrt().reshape(n, n, n) * mean
    return check_mask(soft_edge(distance, mean, mean + edge_angstrom).to(density))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SearchMask:
    """The mask of a template in any orientation, on a cube."""

    side: int
    """Voxels of the cube, even."""
    ball: Float[Tensor, "z y x"]
    """Encloses the mask in every orientation; is the mask where it does not turn."""
    reader: FourierTemplate | None
    """Of a mask that turns."""

    @classmethod
    def build(cls, template: Template, params: MatchParams, like: Tensor) -> Self:
        """For a template on the voxels of the volume; device and precision of `like`."""
        voxel = template.voxel_size_angstrom
        radius, edge = 0.5 * template.diameter_angstrom + params.mask_margin_angstrom, _EDGE * voxel
        if template.mask is not None:
            radius = max(radius, _reach(template.mask) * voxel)
        side = 2 * math.ceil((radius + edge) / voxel)
        ball = ball_mask((side,) * 3, voxel, radius, edge_angstrom=edge).to(like)
        reader = None
        if template.mask is not None:
            reader = FourierTemplate.of_density(template.mask.to(like), side)
        return cls(side=side, ball=ball, reader=reader)

    @property
    def turns(self) -> bool:
        """Whether it differs between orientations."""
        return self.reader is not None

    def at(self, rotations: FloatArray) -> Float[Tensor, "rotation z y x"]:
        """For rotations (n, 3, 3), reference to specimen."""
        if self.reader is None:
            return self.ball.expand(len(rotations), -1, -1, -1)
        boxes = self.reader.boxes(self.reader.rotated(rotations)).clamp_(0.0, 1.0)
        return torch.where(boxes > _SEEN, boxes, torch.zeros(()).to(boxes)) * self.ball

    def one(self, rotation: FloatArray) -> Float[Tensor, "z y x"]:
        """For one rotation (3, 3)."""
        return self.ball if self.reader is None else self.at(np.asarray(rotation)[None])[0]


def _reach(mask: Float[Tensor, "z y x"]) -> float:
    """Voxels from the middle to the farthest one that counts."""
    places = (mask > _SEEN).nonzero().float()
    middle = torch.tensor([n // 2 for n in mask.shape], device=places.device)
    return float((places - middle).norm(dim=1).max()) if len(places) else 0.0


def _smooth(density: Float[Tensor, "z y x"], voxel: float) -> Tensor:
    if 2.0 * voxel >= _SOLID_ANGSTROM:
        return density
    gain = band_pass(frequency_grid(density.shape, voxel, device=density.device), low_pass_angstrom=_SOLID_ANGSTROM)
    out: Tensor = torch.fft.irfftn(torch.fft.rfftn(density) * gain, s=tuple(density.shape))
    return out
