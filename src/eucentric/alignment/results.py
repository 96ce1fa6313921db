"""Results of tilt-series alignment."""

from dataclasses import dataclass, field

from eucentric.alignment.bundle_adjustment import BundleResult
from eucentric.geometry.tilt import TiltGeometry
from eucentric.geometry.warp import ImageWarp
from eucentric.models.tracks import Tracks
from eucentric.typing import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AlignmentResult:
    """Geometry of the tilts that were given, less those that were rejected."""

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
    rejected: dict[int, str] = field(default_factory=dict)
    """Position among the tilts given -> why it was left out; everything else here counts the others."""
    method: str = "projection"
    """What the geometry comes from: `beads`, `patches` or `projection`."""
    reasons: tuple[str, ...] = ()
    """Why that was chosen, a sentence each."""
    axis_sigma_deg: float = float("nan")
    warp: ImageWarp | None = None
    """Local deformation, to be used with the geometry; None where the specimen is taken as rigid."""
    tracks: Tracks | None = None
    """Observations of beads or patches that the geometry was fitted to."""
    bundle: BundleResult | None = None
