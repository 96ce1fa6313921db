"""Local motion: one cubic B-spline in x, y and time."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.errors import ShapeError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MotionField:
    """Displacement in A as a tensor product of uniform cubic B-splines.

    What lies at the place p of the motion-free image is found at ``p + shift of the frame + field(p, time of the frame)``.
    With n intervals along an axis there are n + 3 coefficients (one where the axis has no intervals: constant).
    """

    coefficients: Float[Tensor, "t y x 2"]
    """A; last axis (x, y)."""
    times: Float[Tensor, " frame"]
    """When each frame was taken, as a part of the movie's dose, 0 to 1."""
    extent_angstrom: tuple[float, float]
    """Half the length of the image along y and x: the spline's outer nodes."""

    def __post_init__(self) -> None:
        shape = tuple(self.coefficients.shape)
        if len(shape) != 4 or shape[3] != 2 or any(n != 1 and n < 4 for n in shape[:3]):
            raise ShapeError(
                f"The coefficients of a motion field have shape {shape}; expected (t, y, x, 2) with 1, or 4 and more, along t, "
                "y and x."
            )

    def at(
        self, frame: int, y_angstrom: Float[Tensor, " y"], x_angstrom: Float[Tensor, " x"]
    ) -> Float[Tensor, "y x 2"]:
        """Displacement (x, y in A) of a frame on a grid of places, in A from the image centre."""
        t, y, x, _ = self.coefficients.shape
        kind = self.coefficients
        in_time = spline_basis(self.times[frame : frame + 1].to(kind), t)[0]
        half_y, half_x = self.extent_angstrom
        along_y = spline_basis((y_angstrom.to(kind) / half_y + 1.0) / 2.0, y)
        along_x = spline_basis((x_angstrom.to(kind) / half_x + 1.0) / 2.0, x)
        now = torch.einsum("t,tyxc->yxc", in_time, self.coefficients)
        return torch.einsum("ay,yxc,bx->abc", along_y, now, along_x)

    def at_places(self, frame: int, places: Float[Tensor, "*grid 2"]) -> Float[Tensor, "*grid 2"]:
        """Displacement (x, y in A) of a frame at places (x, y in A from the image centre)."""
        t, y, x, _ = self.coefficients.shape
        kind = self.coefficients
        flat = places.reshape(-1, 2).to(kind)
        in_time = spline_basis(self.times[frame : frame + 1].to(kind), t)[0]
        now = torch.einsum("t,tyxc->yxc", in_time, kind)
        along_y = spline_basis((flat[:, 1] / self.extent_angstrom[0] + 1.0) / 2.0, y)
        along_x = spline_basis((flat[:, 0] / self.extent_angstrom[1] + 1.0) / 2.0, x)
        value = torch.einsum("py,yxc,px->pc", along_y, now, along_x)
        return value.reshape(places.shape)

    def curvature_bound(self) -> float:
        """No second derivative along x or y is larger anywhere, 1/A."""
        bound = 0.0
        for axis, half in ((1, self.extent_angstrom[0]), (2, self.extent_angstrom[1])):
            count = self.coefficients.shape[axis]
            if count > 1:
                step = 2.0 * half / (count - 3)
                second = self.coefficients.diff(n=2, dim=axis) / step**2
                bound = max(bound, float(torch.linalg.vector_norm(second, dim=-1).max()))
        return bound


def spline_basis(place: Float[Tensor, " place"], count: int) -> Float[Tensor, "place coefficient"]:
    """Values of `count` uniform cubic B-splines on 0 to 1; beyond both ends the last values hold.

    ``count - 3`` intervals; one coefficient is a constant.
    """
    if count == 1:
        return torch.ones(len(place), 1, dtype=place.dtype, device=place.device)
    scaled = place.clamp(0.0, 1.0) * (count - 3)
    first = scaled.floor().clamp(max=count - 4).long()
    f = scaled - first
    g = 1.0 - f
    weights = [g**3 / 6.0, 2.0 / 3.0 - f**2 * (2.0 - f) / 2.0, 2.0 / 3.0 - g**2 * (2.0 - g) / 2.0, f**3 / 6.0]
    basis = torch.zeros(len(place), count, dtype=place.dtype, device=place.device)
    for i, weight in enumerate(weights):
        basis.scatter_(1, (first + i)[:, None], weight[:, None])
    return basis
