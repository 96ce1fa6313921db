"""Which unknowns a bundle adjustment solves for, and how they run along the series."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field
from scipy.interpolate import CubicSpline

from eucentric.alignment.bundle_deformation import Deformation
from eucentric.alignment.bundle_projection import AXIS, LOG_MAGNIFICATION, SHIFT_X, SHIFT_Y, TILT, X_TILT
from eucentric.errors import InputError
from eucentric.models.settings import Frozen
from eucentric.models.tracks import Indices
from eucentric.typing import FloatArray

Course = Literal["fixed", "one", "scale", "spline", "groups", "each"]
Dose = Literal["exponential", "spline"]

_WEAK_ANGLE_DEG = 10.0
_AXIS_DRIFT_DEG = 0.5
_MAGNIFICATION_SPREAD = 0.003
_SCALE_SPREAD = 0.02


class BundleModel(Frozen):
    """Unknowns of a bundle adjustment. The shifts of every tilt and the points are always free.

    An offset common to all tilt angles, and an x-tilt common to all, are rotations of the specimen: points that are free to move
    absorb them, no series shows them, and they are therefore not offered. The same holds for a magnification common to all.
    """

    axis: Literal["fixed", "one", "spline", "each"] = Field(
        default="one",
        description="direction of the tilt axis: one for the series, smooth along the tilts, or one a tilt",
    )
    tilt_angles: Literal["fixed", "scale", "groups", "each"] = Field(
        default="fixed",
        description="tilt angles: as given, one common scale, one correction for each group of neighbours, or one a tilt; "
        "all about the given angles, with the goniometer's error as prior",
    )
    x_tilt: Literal["fixed", "spline", "each"] = Field(
        default="fixed", description="tilt about x: as given, smooth along the tilts, or one a tilt"
    )
    magnification: Literal["fixed", "spline", "groups", "each"] = Field(
        default="fixed",
        description="magnification: as given, smooth along the tilts, one for each group, or one a tilt",
    )
    nodes: int = Field(default=4, ge=2, le=12, description="nodes of what is smooth along the tilts")
    group_size: int = Field(default=5, ge=2, description="neighbouring tilts that share a correction")
    deformation_order: Literal[0, 1, 2, 3] = Field(
        default=0, description="degree in x and y of the specimen's displacement; 0 leaves the specimen rigid"
    )
    deformation_course: Dose = Field(
        default="exponential",
        description="how the displacement grows: as 1 - exp(-dose / deformation_dose), or freely but smoothly with dose",
    )
    deformation_dose: float = Field(
        default=30.0, gt=0, description="e/A^2 after which an exponential deformation has reached 63% of its end"
    )
    deformation_nodes: int = Field(default=4, ge=3, le=12, description="nodes in dose of a free course")

    @property
    def name(self) -> str:
        """In words, for tables."""
        words = ["shifts"]
        for field, label in (
            ("axis", "axis"),
            ("tilt_angles", "tilts"),
            ("x_tilt", "x-tilt"),
            ("magnification", "magnification"),
        ):
            kind = getattr(self, field)
            if kind != "fixed":
                words.append(f"{label} {kind}")
        if self.deformation_order:
            course = (
                f"{self.deformation_dose:g} e/A2"
                if self.deformation_course == "exponential"
                else f"{self.deformation_nodes} nodes"
            )
            words.append(f"deformation of degree {self.deformation_order} ({course})")
        return ", ".join(words)


@dataclass(frozen=True, slots=True, kw_only=True)
class BundlePriors:
    """Standard deviations about the start."""

    tilt_deg: float
    """Of a single tilt angle."""
    x_tilt_deg: float
    shift_angstrom: float
    """Wide: it holds only what nothing else holds."""
    deformation_angstrom: float
    """Of the displacement by each term at the edge of the field."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UnknownLayout:
    """How common unknowns reach the local unknowns of each tilt."""

    spread: FloatArray
    """(tilt, local, common)."""
    sigma: FloatArray
    """(common,), prior standard deviations."""
    kinds: Indices
    """(common,): unknowns of one expected size, which the data adjust; -1 where it is kept."""


def lay_out(model: BundleModel, tilts_deg: FloatArray, deformation: Deformation, priors: BundlePriors) -> UnknownLayout:
    """Spread and prior of a model's unknowns.

    Parameters
    ----------
    model : which unknowns
    tilts_deg : (tilt,), ascending
    deformation : terms and courses of the displacement; may be empty
    priors : widths
    """
    n = len(tilts_deg)
    parts = [_Part(place, np.eye(n), np.full(n, priors.shift_angstrom), -1) for place in (SHIFT_X, SHIFT_Y)]
    courses: tuple[tuple[int, Course, float, float], ...] = (
        (AXIS, model.axis, _AXIS_DRIFT_DEG, _WEAK_ANGLE_DEG),
        (TILT, model.tilt_angles, priors.tilt_deg, 0.0),
        (X_TILT, model.x_tilt, priors.x_tilt_deg, 0.0),
        (LOG_MAGNIFICATION, model.magnification, _MAGNIFICATION_SPREAD, 0.0),
    )
    for kind, (place, course, sigma, common) in enumerate(courses):
        basis, sigmas = _course(course, model, tilts_deg, sigma, common)
        parts.append(_Part(place, basis, sigmas, kind if course in ("spline", "each", "groups") else -1))
    for component in range(3):
        for term, degree in enumerate(deformation.degrees):
            place = 6 + component * deformation.terms + term
            for c in range(deformation.courses.shape[1]):
                kind = len(courses) + 3 * c + degree - 1
                sigmas = np.full(1, priors.deformation_angstrom / degree)
                parts.append(_Part(place, deformation.courses[:, c : c + 1], sigmas, kind))
    return _joined(parts, n, 6 + deformation.local_unknowns)


@dataclass(frozen=True, slots=True)
class _Part:
    """Unknowns that reach one local unknown of every tilt."""

    place: int
    basis: FloatArray
    """(tilt, unknown)."""
    sigma: FloatArray
    """(unknown,)."""
    kind: int


def _joined(parts: list[_Part], tilts: int, local: int) -> UnknownLayout:
    ends = np.cumsum([part.basis.shape[1] for part in parts])
    spread = np.zeros((tilts, local, int(ends[-1])))
    for part, end in zip(parts, ends, strict=True):
        spread[:, part.place, end - part.basis.shape[1] : end] = part.basis
    return UnknownLayout(
        spread=spread,
        sigma=np.concatenate([part.sigma for part in parts]),
        kinds=np.concatenate([np.full(part.basis.shape[1], part.kind, dtype=np.int64) for part in parts]),
    )


def _course(
    course: Course, model: BundleModel, tilts_deg: FloatArray, sigma: float, common_sigma: float
) -> tuple[FloatArray, FloatArray]:
    """(tilt, unknown) and the prior's standard deviation of each unknown."""
    n = len(tilts_deg)
    if course == "fixed":
        return np.zeros((n, 0)), np.zeros(0)
    if course == "one":
        return np.ones((n, 1)), np.array([common_sigma])
    if course == "scale":
        return np.array(tilts_deg)[:, None], np.array([_SCALE_SPREAD])
    if course == "spline":
        basis = spline_basis(tilts_deg, model.nodes)
    elif course == "groups":
        basis = (np.arange(n)[:, None] // model.group_size == np.arange(-(-n // model.group_size))).astype(np.float64)
    else:
        basis = np.eye(n)
    sigmas = np.full(basis.shape[1], sigma)
    if common_sigma:
        # one value for all besides: the single ones are departures from it
        return np.concatenate([np.ones((n, 1)), basis], axis=1), np.concatenate([[common_sigma], sigmas])
    return basis, sigmas


def spline_basis(places: FloatArray, nodes: int) -> FloatArray:
    """(place, node): natural cubic spline through unit values at evenly spaced nodes.

    Raises
    ------
    InputError : all places are one
    """
    low, high = float(np.min(places)), float(np.max(places))
    if not high > low:
        raise InputError("A course along the series was asked for, but all its places are one. Use one value for all.")
    knots = np.linspace(low, high, nodes)
    return np.asarray(CubicSpline(knots, np.eye(nodes), bc_type="natural")(places))
