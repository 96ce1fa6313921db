"""Local deformation at the places where images are read: evaluated at a few of them, bilinear between."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.errors import ShapeError
from eucentric.geometry.warp import ImageWarp
from eucentric.projection.plan import FinePlan
from eucentric.typing import FloatArray

_SPACINGS = (16, 8, 4)
_ERROR_PX = 0.007
"""Largest error of a place that reading the field bilinearly may make, in pixels of the images, as long as the finest
spacing can hold it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bends:
    """What is added to places on a grid of (row, place): at every `spacing`-th row and place, bilinear between."""

    knots: Float[Tensor, "tilt knot_row knot_place 2"]
    spacing: int

    def spread(self, tilt: int, rows: int, places: int) -> Float[Tensor, "row place 2"]:
        """The values at every place."""
        dense = self.knots[tilt]
        for axis, count in ((0, rows), (1, places)):
            place = torch.arange(count, device=dense.device)
            knot = place // self.spacing
            part = ((place - knot * self.spacing).to(dense.dtype) / self.spacing).reshape(-1, 1, 1)
            part = part if axis == 0 else part.transpose(0, 1)
            left, right = dense.index_select(axis, knot), dense.index_select(axis, knot + 1)
            dense = left + part * (right - left)
        return dense


def bends_in_angstrom(warp: ImageWarp, places: FloatArray, rows: int, columns: int, like: Tensor) -> Bends:
    """:class:`Bends` of a field in A, x and y, for places ``places[t, 0:2] + j places[t, 2:4] + row places[t, 4:6]`` in A."""
    pixel = warp.pixel_size_angstrom
    steps = np.hypot(places[:, 2], places[:, 3]) ** 2 + np.hypot(places[:, 4], places[:, 5]) ** 2
    # a bilinear read errs by at most an eighth of the squared spacing times the second derivative, along either axis
    error = math.sqrt(2.0) / 8.0 * float(steps.max()) * warp.curvature_bound() / pixel
    spacing = next((s for s in _SPACINGS if error * s**2 <= _ERROR_PX), _SPACINGS[-1])
    row = spacing * torch.arange((rows - 1) // spacing + 2, dtype=torch.float64)[:, None, None]
    column = spacing * torch.arange((columns - 1) // spacing + 2, dtype=torch.float64)[:, None]
    knots = [
        warp.at(t, torch.from_numpy(p[:2]) + column * torch.from_numpy(p[2:4]) + row * torch.from_numpy(p[4:]))
        for t, p in enumerate(places)
    ]
    return Bends(knots=torch.stack(knots).to(like), spacing=spacing)


def bends_of_reads(
    warp: ImageWarp, plan: FinePlan, starts: FloatArray, rows: int, columns: int, like: Tensor, *, swapped: bool = False
) -> Bends:
    """Bends in fine samples, u and v, of reads that begin and step as `starts` says (tilt, 6).

    Parameters
    ----------
    swapped : the plan is that of the transposed image
    """
    scale = np.array(plan.scale[::-1])
    centre = np.array([n // 2 + plan.frame for n in plan.image_shape[::-1]])
    pixels = starts.reshape(-1, 3, 2) / scale
    pixels[:, 0] += np.array(plan.corner[::-1]) / scale - centre
    places = pixels * plan.pixel_size
    if swapped:
        places = places[..., ::-1]
    bends = bends_in_angstrom(warp, places.reshape(-1, 6), rows, columns, like)
    knots = bends.knots.flip(-1) if swapped else bends.knots
    return Bends(
        knots=(knots * torch.from_numpy(scale / plan.pixel_size).to(knots)).contiguous(), spacing=bends.spacing
    )


def check_warp(warp: ImageWarp | None, tilts: int) -> None:
    """Refuse a field of other tilts."""
    if warp is not None and len(warp) != tilts:
        raise ShapeError(
            f"Displacement fields of {len(warp)} images were given with {tilts} tilts; expected one for each."
        )
