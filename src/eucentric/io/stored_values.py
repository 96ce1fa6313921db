"""How true values become the numbers of a volume on disk, and back: true value = stored number * scale + offset."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from eucentric.errors import InputError, ProcessingError
from eucentric.typing import PathLike

StoredType: TypeAlias = Literal["float32", "float16", "int8"]
Limits: TypeAlias = tuple[float, float]

FLOAT16_MAX = 65504.0
_BYTE_MAX = 127


@dataclass(frozen=True, slots=True, kw_only=True)
class ByteScale:
    """Signed bytes from -127 to 127: symmetric, so that inverting the contrast of a file loses nothing."""

    scale: float
    """True values one step of the byte is worth."""
    offset: float
    """True value of the byte 0."""

    @classmethod
    def from_limits(cls, limits: Limits) -> Self:
        """The bytes -127 and 127 are the two limits.

        Raises
        ------
        InputError : limits that are not two rising numbers
        """
        low, high = (float(value) for value in limits)
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise InputError(
                f"The limits of int8 are {low:g} and {high:g}; expected two numbers, the lower one first. "
                "Values outside them are clipped."
            )
        # Nine digits hold single precision and fit a line of 80 characters.
        scale = float(f"{(high - low) / (2 * _BYTE_MAX):.9g}")
        return cls(scale=scale, offset=float(f"{(high + low) / 2:.9g}"))

    @property
    def keeps_bytes(self) -> bool:
        """Whether a number of the file is the true value."""
        return (self.scale, self.offset) == (1.0, 0.0)

    def encode(self, values: NDArray[np.float32]) -> tuple[NDArray[np.int8], int]:
        """The nearest bytes, and how many values lay more than half a step outside the limits and were clipped."""
        steps = np.rint((values - np.float32(self.offset)) / np.float32(self.scale))
        clipped = int(np.count_nonzero(np.abs(steps) > _BYTE_MAX))
        return np.clip(steps, -_BYTE_MAX, _BYTE_MAX).astype(np.int8), clipped


def true_values(stored: NDArray[Any], scale: float, offset: float) -> NDArray[np.float32]:
    """Stored numbers as float32 true values; what float32 cannot hold becomes infinite, in silence."""
    with np.errstate(over="ignore", invalid="ignore"):
        values = stored.astype(np.float32)
        values *= np.float32(scale)
        values += np.float32(offset)
    return values


def byte_scale(dtype: str, limits: Limits | None) -> ByteScale | None:
    """The scale for `int8`, None for the others.

    Raises
    ------
    InputError : another number type, int8 without limits, limits with floating point, or limits that do not rise
    """
    if dtype not in ("float32", "float16", "int8"):
        raise InputError(f"Volumes are written as float32, float16 or int8, not {dtype}.")
    if dtype == "int8" and limits is None:
        raise InputError("int8 needs limits: the true values that become -127 and 127. Values outside are clipped.")
    if dtype != "int8" and limits is not None:
        raise InputError(f"Limits were given with {dtype}, which needs none; they belong to int8.")
    return None if limits is None else ByteScale.from_limits(limits)


def covering_limits(values: NDArray[Any], path: PathLike) -> Limits:
    """Limits that clip nothing: the smallest and largest value, or a little around the only one."""
    low, high = finite_range(values, path)
    if low < high:
        return low, high
    around = max(abs(low), 1.0)
    return low - around, low + around


def whole_numbers(values: NDArray[np.float32], path: PathLike) -> NDArray[np.int16]:
    """The same whole numbers as int16.

    Raises
    ------
    ProcessingError : values with a fraction, or outside the range of int16
    """
    numbers = np.clip(np.rint(values), -32768, 32767)
    wrong = int(np.count_nonzero(numbers != values))
    if wrong:
        raise ProcessingError(
            f"{wrong:,} values for `{path}` are no whole numbers from -32768 to 32767, as int16 holds; it was not written."
        )
    return numbers.astype(np.int16)


def finite_range(values: NDArray[Any], path: PathLike) -> tuple[float, float]:
    """Smallest and largest value.

    Raises
    ------
    ProcessingError : values that are not numbers
    """
    low, high = float(values.min()), float(values.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        count = int(np.count_nonzero(~np.isfinite(values)))
        raise ProcessingError(f"{count:,} values for `{path}` are not numbers (NaN or infinite); it was not written.")
    return low, high


def sums(values: NDArray[Any]) -> tuple[float, float]:
    """Sum and sum of squares in double precision, plane by plane: no second copy of a large slab."""
    total = squares = 0.0
    for plane in values:
        if plane.dtype.kind in "iu" and not plane.any():
            continue  # as most of a volume of labels
        line = plane.astype(np.float64).ravel()
        total += float(line.sum())
        squares += float(np.dot(line, line))
    return total, squares


def half_scale(largest: float) -> float:
    """Power of two that brings the largest value of a file into the range where float16 is exact to 3 digits."""
    if largest > FLOAT16_MAX:
        # To 128, not to the edge of the range: other programs square the stored values in float16.
        return 2.0 ** math.ceil(math.log2(largest / 128.0))
    if 0.0 < largest < 2.0**-6:
        return 2.0 ** math.floor(math.log2(largest))
    return 1.0


def checked_voxel_size(voxel_size: float | Sequence[float]) -> tuple[float, float, float]:
    """(x, y, z) of one number or three.

    Raises
    ------
    InputError : not positive, or not one or three numbers
    """
    sizes = (voxel_size,) * 3 if isinstance(voxel_size, int | float) else tuple(float(v) for v in voxel_size)
    if len(sizes) != 3 or not all(math.isfinite(v) and v > 0 for v in sizes):
        raise InputError(f"The voxel size is {voxel_size}; expected a positive number of Angstrom, or three (x, y, z).")
    return float(sizes[0]), float(sizes[1]), float(sizes[2])


def checked_origin(origin_angstrom: Sequence[float]) -> tuple[float, float, float]:
    """(x, y, z) of the first voxel; InputError where it is not three numbers."""
    values = tuple(float(v) for v in origin_angstrom)
    if len(values) != 3 or not all(math.isfinite(v) for v in values):
        raise InputError(f"The origin is {tuple(origin_angstrom)}; expected x, y and z of the first voxel in Angstrom.")
    return values[0], values[1], values[2]
