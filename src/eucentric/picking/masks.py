"""Soft masks of boxes: balls, ellipsoids, and a template's own shape."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from scipy import ndimage
from torch import Tensor

from eucentric.errors import InputError, ShapeError
from eucentric.fourier.filters import soft_edge


def ball_mask(
    shape: Sequence[int], voxel_size: float, radii_angstrom: float | tuple[float, float, float], *, edge_angstrom: float
) -> Float[Tensor, "z y x"]:
    """1 inside a ball or an ellipsoid about voxel ``n // 2``, falling to 0 over the edge outside of it.

    Parameters
    ----------
    shape : (z, y, x) voxels
    radii_angstrom : one, or those along x, y and z
    edge_angstrom : width of the soft edge

    Raises
    ------
    InputError : radii that are not positive, or a mask that does not fit the box
    """
    radii = (radii_angstrom,) * 3 if isinstance(radii_angstrom, int | float) else radii_angstrom
    if not min(radii) > 0:
        raise InputError(f"The radii of the mask are {radii} A; expected positive numbers.")
    total, mean = torch.zeros(()), sum(radii) / 3.0
    for axis, (n, radius) in enumerate(zip(shape, reversed(radii), strict=True)):
        if radius + 0.5 * edge_angstrom > (n // 2) * voxel_size:
            raise InputError(
                f"A mask of radius {radius:g} A with its edge of {edge_angstrom:g} A is larger than the box of "
                f"{n} voxels of {voxel_size:g} A. Take a larger box or a smaller mask."
            )
        line = (torch.arange(n) - n // 2) * (voxel_size / radius)
        total = total + line.square().reshape([-1 if a == axis else 1 for a in range(3)])
    return check_mask(soft_edge(total.sqrt() * mean, mean, mean + edge_angstrom))


def shape_mask(
    density: Float[Tensor, "z y x"],
    voxel_size: float,
    *,
    margin_angstrom: float,
    edge_angstrom: float,
    part: float = 0.2,
) -> Float[Tensor, "z y x"]:
    """The template's own shape: where its density exceeds a part of its greatest, grown by a margin, with a soft edge.

    Parameters
    ----------
    density : protein bright
    part : of the greatest density, 0 to 1
    """
    solid = (density > part * density.max()).cpu().numpy()
    distance = torch.from_numpy(ndimage.distance_transform_edt(~solid)).to(density) * voxel_size
    mask = soft_edge(distance, margin_angstrom, margin_angstrom + edge_angstrom)
    if bool((_faces(mask) > 0.5).any()):
        raise InputError(
            f"The shape of the template with a margin of {margin_angstrom:g} A is larger than its box of "
            f"{tuple(density.shape)} voxels. Take a larger box, or a map on a flat background."
        )
    return check_mask(mask)


def check_mask(mask: Float[Tensor, "z y x"], template_shape: Sequence[int] | None = None) -> Float[Tensor, "z y x"]:
    """The mask, if it can be used.

    Raises
    ------
    ShapeError : another shape than the template's
    InputError : values outside 0 to 1, or hardly a voxel in it
    """
    if template_shape is not None and tuple(mask.shape) != tuple(template_shape):
        raise ShapeError(
            f"The mask has shape {tuple(mask.shape)} and the template {tuple(template_shape)}; expected the same."
        )
    if float(mask.min()) < -1e-3 or float(mask.max()) > 1.0 + 1e-3 or not bool(mask.isfinite().all()):
        raise InputError(f"The mask holds values from {float(mask.min()):g} to {float(mask.max()):g}; expected 0 to 1.")
    inside = float(mask.sum())
    if inside < 8.0:
        raise InputError(
            f"The mask is empty: it holds {inside:.3g} voxels; expected at least 8. Lower its threshold, enlarge it or take "
            "smaller voxels."
        )
    return mask


def _faces(box: Float[Tensor, "z y x"]) -> Tensor:
    return torch.cat([part.reshape(-1) for d in range(3) for part in (box.select(d, 0), box.select(d, -1))])
