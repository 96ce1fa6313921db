"""Bodies as transforms of slabs of depth: what both ways of forming images start from."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from eucentric.simulation.acquisition import Acquisition
from eucentric.simulation.body import Body
from eucentric.simulation.finer_grid import kept_rows, spline_transform
from eucentric.simulation.params import SimulationParams
from eucentric.simulation.spreading import spread_points
from eucentric.typing import FloatArray

_OVERSAMPLING = 2
_SLAB_BYTES = 2**28


def camera_places(
    body: Body, acquisition: Acquisition, params: SimulationParams, tilt: int
) -> tuple[FloatArray, FloatArray]:
    """Orientations (place, 3, 3) and positions (place, 3) of a body in the camera's frame, deformation included."""
    moved = body.centres_angstrom + acquisition.deformation_at(body.centres_angstrom, params)[tilt]
    matrix = acquisition.geometry.matrices[tilt]
    larger = float(acquisition.geometry.magnification[tilt])
    if larger != 1.0:
        matrix = np.diag([larger, larger, 1.0]) @ matrix
    return matrix @ body.rotations, acquisition.geometry[tilt].project(moved)[0]


def slab_transforms(
    bodies: Sequence[Body],
    places: Sequence[tuple[FloatArray, FloatArray]],
    shape: tuple[int, int],
    pixel_size: float,
    *,
    lowest: float,
    step: float,
    count: int,
    downwards: bool = False,
) -> Iterator[tuple[float, dict[bool, Complex[Tensor, "y half_x"]]]]:
    """Projected potential of slabs of depth, one after the other.

    Parameters
    ----------
    bodies, places : the specimen, from :func:`camera_places`; each point is shared by the two slabs next to it
    shape, pixel_size : (y, x) and A of the image
    lowest, step, count : A, A and number: heights of the slabs
    downwards : begin with the highest

    Yields
    ------
    height in A, and for what fades with dose (True) and what lasts (False) the transform in V A; without empty ones
    """
    fine = (_OVERSAMPLING * shape[0], _OVERSAMPLING * shape[1])
    # samples hold weights, not densities: a pixel's area makes V A^3 into V A
    spline = _spline_transform(shape) * pixel_size**2
    held = max(1, min(count, _SLAB_BYTES // (8 * fine[0] * fine[1])))
    starts = range(0, count, held)
    for first in reversed(starts) if downwards else starts:
        here = min(held, count - first)
        slabs = {fades: np.zeros((here, *fine), dtype=np.float32) for fades in {body.fades for body in bodies}}
        for body, (matrices, centres) in zip(bodies, places, strict=True):
            spread_points(
                slabs[body.fades],
                body.points_angstrom,
                body.weights,
                matrices,
                centres,
                spacing=pixel_size / _OVERSAMPLING,
                depth_start=lowest,
                depth_step=step,
                first_slab=first,
                slab_count=count,
            )
        for number in range(here - 1, -1, -1) if downwards else range(here):
            yield (
                lowest + (first + number) * step,
                {
                    fades: _image_transform(torch.from_numpy(grids[number]), spline, shape)
                    for fades, grids in slabs.items()
                    if grids[number].any()
                },
            )


def _image_transform(
    fine: Float[Tensor, "fine_y fine_x"], spline: Float[Tensor, "y half_x"], shape: tuple[int, int]
) -> Complex[Tensor, "y half_x"]:
    """Transform of what was spread, at the frequencies of the image's own pixels, the spreading spline divided out."""
    half = torch.fft.rfft(fine)[:, : shape[1] // 2 + 1]
    full = torch.fft.fft(half, dim=0)
    transform: Tensor = full[kept_rows(shape[0], fine.shape[0])] / spline
    return transform


def _spline_transform(shape: tuple[int, int]) -> Float[Tensor, "y half_x"]:
    y, x = (spline_transform(n, _OVERSAMPLING * n, half=half) for n, half in zip(shape, (False, True), strict=True))
    transform: Tensor = y[:, None] * x
    return transform
