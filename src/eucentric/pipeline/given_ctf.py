"""Contrast transfer that was taken over, given to the tilts of a series as they are aligned by then."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from eucentric.ctf.specimen_plane import plane_heights
from eucentric.errors import InputError
from eucentric.geometry.tilt import TiltGeometry
from eucentric.io.given_ctf import GivenCtf, read_given_ctf
from eucentric.models.tilt_series import CtfFit, TiltSeries
from eucentric.typing import FloatArray

_ELSEWHERE = 1.0  # A; less is not worth a word


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachedCtf:
    """A series with the contrast transfer of its tilts."""

    series: TiltSeries
    source: str
    caveats: tuple[str, ...]
    filled: tuple[int, ...] = ()
    """Tilts (position in `series.tilts`) without an estimate of their own, filled in from their neighbours."""

    @property
    def fits(self) -> tuple[CtfFit, ...]:
        """Of every tilt, at the height of the specimen centre where the series is aligned."""
        return tuple(t.ctf for t in self.series.tilts if t.ctf is not None)


def given_ctf_file(root: Path, series: str) -> Path:
    """Where a project keeps what was taken over for a series."""
    return root / "import" / "ctf" / f"{series}.star"


def attach_given_ctf(series: TiltSeries, root: Path) -> AttachedCtf | None:
    """The series with what was taken over for it; None where nothing was.

    Raises
    ------
    InputError, FormatError : as :func:`attach_ctf`, or the table cannot be read
    """
    path = given_ctf_file(root, series.name)
    return attach_ctf(series, read_given_ctf(path)) if path.is_file() else None


def attach_ctf(series: TiltSeries, given: GivenCtf) -> AttachedCtf:
    """Give the tilts of a series the contrast transfer that was taken over.

    Tilts without an estimate take the values between their neighbours', as ctfphaseflip does. Defocus of the middle of the
    image is brought to the specimen centre where the series is aligned.

    Raises
    ------
    InputError : none of the estimates is of a tilt of the series
    """
    fits = {i: given.fits[t.acquisition] for i, t in enumerate(series.tilts) if t.acquisition in given.fits}
    if not fits:
        raise InputError(
            f"No estimate of {given.source} is of a tilt of {series.name} that is left. Let the CTF be fitted from the images "
            "(--method fit)."
        )
    caveats = []
    filled = tuple(i for i in range(len(series.tilts)) if i not in fits)
    if filled:
        fits.update(_fill(series, fits, filled))
        listed = ", ".join(f"{series.tilts[i].nominal_tilt_deg:g}" for i in filled[:6])
        more = "" if len(filled) <= 6 else f" and {len(filled) - 6} more"
        caveats.append(
            f"{given.source} has no estimate at {listed}{more} degrees; the values there are those between neighbours."
        )
    whole = series.with_tilts([replace(t, ctf=fits[i]) for i, t in enumerate(series.tilts)])
    if given.place == "image":
        whole, words = _moved(whole, given.source)
        caveats += words
    if given.thickness_angstrom is not None and series.thickness_angstrom is None:
        whole = whole.replace(thickness_angstrom=given.thickness_angstrom)
    return AttachedCtf(series=whole, source=given.source, caveats=tuple(caveats), filled=filled)


def _moved(series: TiltSeries, source: str) -> tuple[TiltSeries, list[str]]:
    """The series with defocus of the specimen centre, as far as it is aligned, and a word on it."""
    series, moved = _at_specimen_centre(series)
    if moved is None:
        return series, [
            f"{source} tells the defocus of the middle of each image, and the series is not aligned yet: where the specimen "
            "centre lies beside it, the defocus there differs by that distance times the tangent of the tilt."
        ]
    if moved < _ELSEWHERE:
        return series, []
    return series, [
        f"{source} tells the defocus of the middle of each image; at the specimen centre it is up to {moved:.0f} A different "
        f"(hand {series.hand:+.0f})."
    ]


def _vectors(fits: Sequence[CtfFit]) -> FloatArray:
    """(fit, 4): mean defocus, astigmatism as a vector that turns twice as fast as its axis, phase shift."""
    rows = []
    for fit in fits:
        half = 0.5 * (fit.defocus_u_angstrom - fit.defocus_v_angstrom)
        angle = np.deg2rad(2.0 * fit.astigmatism_angle_deg)
        rows.append([fit.defocus_angstrom, half * np.cos(angle), half * np.sin(angle), fit.phase_shift_deg])
    return np.array(rows, dtype=np.float64)


def _fill(series: TiltSeries, fits: dict[int, CtfFit], missing: Sequence[int]) -> dict[int, CtfFit]:
    """Values between neighbours along the tilt angle; beyond the last one its own."""
    known = sorted(fits)
    angles = series.nominal_tilts_deg
    values = _vectors([fits[i] for i in known])
    out = {}
    for i in missing:
        mean, a, b, phase = (float(np.interp(angles[i], angles[known], column)) for column in values.T)
        half = float(np.hypot(a, b))
        out[i] = CtfFit(
            defocus_u_angstrom=mean + half,
            defocus_v_angstrom=mean - half,
            astigmatism_angle_deg=float(np.rad2deg(0.5 * np.arctan2(b, a))),
            phase_shift_deg=phase,
        )
    return out


def _at_specimen_centre(series: TiltSeries) -> tuple[TiltSeries, float | None]:
    """The series with defocus of the specimen centre from that of the image's middle, and the largest change in A.

    The specimen plane z = 0 lies at the camera height z under the image's middle, where the defocus is D + hand * z.
    """
    poses = [t.pose for t in series.tilts if t.pose is not None]
    if len(poses) < len(series.tilts):
        return series, None
    heights = np.nan_to_num(plane_heights(np.zeros((1, 2)), TiltGeometry.from_poses(tuple(poses)))[:, 0])
    tilts = []
    for tilt, height in zip(series.tilts, heights.tolist(), strict=True):
        fit = tilt.ctf
        if fit is not None:
            change = -series.hand * height
            fit = replace(
                fit,
                defocus_u_angstrom=fit.defocus_u_angstrom + change,
                defocus_v_angstrom=fit.defocus_v_angstrom + change,
            )
        tilts.append(replace(tilt, ctf=fit))
    return series.with_tilts(tilts), float(np.abs(heights).max(initial=0.0))
