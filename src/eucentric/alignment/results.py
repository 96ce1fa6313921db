"""Results of tilt-series alignment."""

from dataclasses import dataclass

from eucentric.geometry.tilt import TiltGeometry
from eucentric.typing import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AlignmentResult:
    """Geometry of the tilts that were given."""

    geometry: TiltGeometry
    coarse_geometry: TiltGeometry
    """After the correlation of neighbours only."""
    sigma_angstrom: FloatArray
    """(tilt,), one standard deviation of a shift component, from the curvature of the correlation."""
    scores: FloatArray
    """(tilt,), correlation of each image with the projection of the others' features, in the band used last."""
    axis_angles_deg: FloatArray
    """Tilt axes tried."""
    axis_scores: FloatArray
    """Mean score at each axis tried."""
    last_change_angstrom: float
    """Largest move of any image in the last round."""
    caveats: tuple[str, ...] = ()
