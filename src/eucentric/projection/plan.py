"""Sizes of the finer samples of an image, where they hold, and tables of the gains that a spectrum takes."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.compute.sizes import good_size
from eucentric.projection.interpolation import OVERSAMPLING
from eucentric.typing import FloatArray

COARSE = 8
"""Pixels per sample of the coarse images on which the far reach of a filter is worked out."""
_FRAME_PX = 16
"""Pixels added around an image before its FFT, blended between opposite edges: no step at the seam."""
_WIDE_FRAME_PX = 64
"""The same where a filter reaches far: room for the detail that it spreads beyond the edges."""
_MARGIN_PX = 40
"""Pixels beyond the edges in which the detail is read too; past them there is only what a filter spreads far."""


Line = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gains:
    """Tables of what multiplies a spectrum, over frequency in steps of ``1 / nodes_per_unit`` 1/A, from 0."""

    radial: Float[Tensor, " node"]
    line: Float[Tensor, " node"]
    """Over the frequency across the tilt axis."""
    along: Float[Tensor, " node"] | None
    """Over the frequency along the tilt axis."""
    nodes_per_unit: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FinePlan:
    """Sizes of the periodic frame around an image and of the finer samples that are read."""

    image_shape: tuple[int, int]
    pixel_size: float
    frame: int
    """Pixels of the frame before the first pixel."""
    padded_shape: tuple[int, int]
    fine_shape: tuple[int, int]
    margin: int
    """Pixels beyond the edges of the image in which samples hold."""
    wide_shape: tuple[int, int] | None
    """Of the coarse image that holds the far reach of a filter."""

    @classmethod
    def build(
        cls, image_shape: tuple[int, int], pixel_size: float, out_pixel_size: float, *, far: bool = False
    ) -> "FinePlan":
        """Plan for reads at `out_pixel_size`; `far` leaves room for a filter that reaches as far as the image."""
        frame, unit = (_WIDE_FRAME_PX, COARSE) if far else (_FRAME_PX, 1)
        padded = [unit * good_size(math.ceil((n + 2 * frame) / unit)) for n in image_shape]
        spacing = max(pixel_size, out_pixel_size) / OVERSAMPLING
        fine = [max(8, good_size(math.ceil(n * pixel_size / spacing - 1e-9))) for n in padded]
        wide = [good_size(3 * n // COARSE) for n in padded]
        return cls(
            image_shape=image_shape,
            pixel_size=pixel_size,
            frame=frame,
            padded_shape=(padded[0], padded[1]),
            fine_shape=(fine[0], fine[1]),
            margin=_MARGIN_PX if far else 0,
            wide_shape=(wide[0], wide[1]) if far else None,
        )

    @property
    def scale(self) -> tuple[float, float]:
        """(y, x) fine samples per pixel."""
        return self.fine_shape[0] / self.padded_shape[0], self.fine_shape[1] / self.padded_shape[1]

    @property
    def corner(self) -> tuple[int, int]:
        """(y, x) of the first fine sample that a read may need."""
        y, x = (max(0, math.floor((self.frame - self.margin) * f) - 2) for f in self.scale)
        return y, x

    @property
    def kept_shape(self) -> tuple[int, int]:
        """Fine samples that are kept: those in which a read may fall, and the taps around them."""
        ends = [
            min(size, math.ceil((self.frame + n + self.margin) * f) + 3)
            for size, n, f in zip(self.fine_shape, self.image_shape, self.scale, strict=True)
        ]
        return ends[0] - self.corner[0], ends[1] - self.corner[1]

    @property
    def line_samples(self) -> int:
        """Samples, a pixel apart, of a line for whose transform the tables have a node at every frequency."""
        return good_size(24 * max(self.padded_shape))

    def frequency(self) -> FloatArray:
        """Frequency in 1/A at every node of the tables, beyond the corner of the spectrum."""
        nodes = self.line_samples * self.pixel_size
        return np.asarray(np.arange(math.ceil(0.7072 * self.line_samples) + 3) / nodes, dtype=np.float64)

    def table(self, values: Tensor | FloatArray, like: Tensor) -> Float[Tensor, " node"]:
        """Values at the first nodes, the last of them held to the end, as `like`."""
        given = torch.as_tensor(values, dtype=torch.float64)
        rest = len(self.frequency()) - len(given)
        return torch.cat([given, given[-1:].expand(max(0, rest))]).to(dtype=like.dtype, device=like.device)

    def gains(
        self, like: Tensor, radial: Tensor | None = None, line: Tensor | None = None, along: Tensor | None = None
    ) -> Gains:
        """Tables from gains at :meth:`frequency`; none means 1."""
        ones = self.table(torch.ones(1), like)
        return Gains(
            radial=ones if radial is None else self.table(radial, like),
            line=ones if line is None else self.table(line, like),
            along=None if along is None else self.table(along, like),
            nodes_per_unit=self.line_samples * self.pixel_size,
        )


def line_starts(plan: FinePlan, maps: tuple[Line, Line], x: tuple[float, float], y: tuple[float, float]) -> FloatArray:
    """(6,): fine u and v of the first place of the first row, their steps along a row, their steps from row to row.

    Parameters
    ----------
    x, y : first value and step, in A
    """
    out = np.empty(6)
    for i, (map_, scale) in enumerate(zip(maps, plan.scale[::-1], strict=True)):
        out[i] = (map_[0] * x[0] + map_[1] * y[0] + map_[2] + plan.frame) * scale - plan.corner[1 - i]
        out[2 + i], out[4 + i] = map_[0] * x[1] * scale, map_[1] * y[1] * scale
    return out


def read_limits(plan: FinePlan) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Where fine samples hold (lowest and highest u, v), the map from them to the tail, and where that holds."""
    inside, tail_map, tail_inside = np.empty(4), np.zeros(4), np.empty(4)
    for i in range(2):
        axis, scale = 1 - i, plan.scale[1 - i]
        corner = plan.corner[axis]
        inside[2 * i] = (plan.frame - plan.margin) * scale - corner
        inside[2 * i + 1] = (plan.frame + plan.image_shape[axis] - 1 + plan.margin) * scale - corner
        if plan.wide_shape is not None:
            tail_map[i] = 1.0 / (COARSE * scale)
            tail_map[2 + i] = (plan.wide_shape[axis] - plan.padded_shape[axis] // COARSE) // 2 + corner * tail_map[i]
            tail_inside[2 * i : 2 * i + 2] = 1.0, plan.wide_shape[axis] - 3.0
    return inside, tail_map, tail_inside


@dataclass(frozen=True, slots=True)
class Band:
    """The part of an rfft2 that goes into another: frequencies up to both Nyquist frequencies."""

    old_shape: tuple[int, int]
    """Samples in real space of the spectrum given."""
    new_size: tuple[int, int]
    """Rows of the other spectrum, and columns that are wanted."""
    spacing: float
    """A per sample of the spectrum given."""

    def rows_and_frequencies(self) -> tuple[np.ndarray, FloatArray, FloatArray]:
        """The row of the old spectrum behind each new one, -1 for none, and the frequencies of rows and columns, 1/A."""
        old, new = self.old_shape[0], self.new_size[0]
        source = np.full(new, -1)
        keep = (min(old, new) + 1) // 2
        source[:keep] = np.arange(keep)
        if keep > 1:
            source[1 - keep :] = np.arange(old - keep + 1, old)
        if old == new:
            source = np.arange(new)
        index = np.arange(new, dtype=np.float64)
        y = np.where(index < (new + 1) // 2, index, index - new) / (old * self.spacing)
        return source, y, np.arange(self.new_size[1]) / (self.old_shape[1] * self.spacing)
