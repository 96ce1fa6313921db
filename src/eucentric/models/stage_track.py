"""Where a tilting stage carried the specimen, image by image."""

from dataclasses import dataclass

import numpy as np

from eucentric.errors import InputError
from eucentric.typing import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StageTrack:
    """Places of one specimen point in the order in which the images were taken.

    The frame is that of the tilt axis: x across the axis and y along it, in the plane of the camera turned by the angle
    of the axis (``(x, y) = Rz(-z_rot) (x, y)_camera``), z along the beam as in the geometry of tilt series
    (``Ry(tilt)``: a point at height z moves to +x at positive tilts). Image shift that the microscope applied to follow
    the specimen is taken out: these are places as an uncorrected camera would have seen them.
    """

    name: str
    tilts_deg: FloatArray
    """(n,), nominal angles."""
    position_angstrom: FloatArray
    """(n, 2), x and y."""
    height_angstrom: FloatArray
    """(n,), z; NaN where nothing tells it. Where it comes from defocus, ``(defocus - first defocus) / hand``."""
    position_sigma_angstrom: FloatArray
    """(n,), one standard deviation of a component; NaN where unknown."""
    height_sigma_angstrom: FloatArray
    """(n,); NaN where unknown."""
    times_s: FloatArray
    """(n,), since the first image; NaN where unknown."""

    def __post_init__(self) -> None:
        count = len(self.tilts_deg)
        lengths = {
            len(values)
            for values in (
                self.position_angstrom, self.height_angstrom, self.position_sigma_angstrom, self.height_sigma_angstrom,
                self.times_s,
            )
        }  # fmt: skip
        if lengths != {count} or self.position_angstrom.shape != (count, 2):
            raise InputError(
                f"The track of {self.name} has {count} tilts but other numbers of places, heights or times."
            )
        if not (np.isfinite(self.tilts_deg).all() and np.isfinite(self.position_angstrom).all()):
            raise InputError(f"The track of {self.name} has angles or places that are no numbers.")

    def __len__(self) -> int:
        return len(self.tilts_deg)
