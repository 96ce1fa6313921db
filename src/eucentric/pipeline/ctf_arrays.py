"""What the CTF stage keeps to be looked at, as arrays."""

from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from eucentric.ctf.params import CtfParams
from eucentric.ctf.results import CtfResult, GeometryDiagnosis
from eucentric.ctf.spectrum_pictures import picture_spectra
from eucentric.geometry.tilt import TiltGeometry
from eucentric.models.optics import Optics
from eucentric.models.tilt_series import TiltSeries

_BEYOND = 0.8  # of the finest fit resolution: what lies a little beyond the last ring is shown too
_ARC_DEG = 10.0  # over which astigmatism of a tenth of the defocus moves a ring by less than its width
_USUAL_EDGE = 10.0  # A, where no tilt has rings


def curve_arrays(series: TiltSeries, result: CtfResult, diagnosis: GeometryDiagnosis) -> dict[str, Any]:
    """Small arrays by name; every row of (tilt, ...) belongs to the tilt of that place in `acquisition`."""
    curves = result.curves
    kept = {
        "tilt_deg": series.nominal_tilts_deg,
        "acquisition": np.array([t.acquisition for t in series.tilts]),
        "frequency": curves.frequency,
        "spectrum": curves.spectrum,
        "model": curves.model,
        "quality": curves.quality,
        "evidence": result.evidence,
        "without_rings": np.isin(np.arange(len(series.tilts)), result.failed),
        "bend_place": diagnosis.places_angstrom,
        "bend": diagnosis.bend_angstrom,
        "bend_sigma": diagnosis.bend_sigma_angstrom,
        "free_tilt_deg": diagnosis.tilt_angle_deg,
        "free_tilt_sigma_deg": diagnosis.tilt_angle_sigma_deg,
        "free_axis_deg": diagnosis.tilt_axis_deg,
        "free_axis_sigma_deg": diagnosis.tilt_axis_sigma_deg,
        "expected_tilt_deg": diagnosis.expected_angle_deg,
        "expected_axis_deg": diagnosis.expected_axis_deg,
    }
    if result.phase_shift_sigma_deg.any():
        kept["phase_shift_sigma_deg"] = result.phase_shift_sigma_deg
    if (thickness := result.thickness) is not None:
        kept["thickness_trial"] = thickness.trials_angstrom
        kept["thickness_log_likelihood"] = thickness.log_likelihood
        kept["thickness"] = np.array(
            [thickness.thickness_angstrom, thickness.sigma_angstrom, thickness.smallest_visible_angstrom]
        )
    return kept


def picture_arrays(
    images: Float[Tensor, "tilt y x"], series: TiltSeries, result: CtfResult, optics: Optics, params: CtfParams
) -> dict[str, Any]:
    """Spectra of all tilts on one scale, 8 bits a pixel, measured and fitted, and the frequency at their edge."""
    known = [f.max_resolution_angstrom for f in result.fits if np.isfinite(f.max_resolution_angstrom)]
    drawn = picture_spectra(
        images,
        result.fits,
        pixel_size=series.pixel_size_angstrom,
        optics=optics,
        geometry=TiltGeometry.from_poses(series.poses),
        hand=result.hand,
        arc_deg=_ARC_DEG,
        edge_angstrom=max(params.high_resolution_angstrom, _BEYOND * min(known)) if known else _USUAL_EDGE,
    )
    measured, fitted = drawn.as_bytes()
    return {
        "acquisition": np.array([t.acquisition for t in series.tilts]),
        "measured": measured,
        "fitted": fitted,
        "edge_frequency": np.array(drawn.edge_frequency),
    }


def diagnosis_metrics(diagnosis: GeometryDiagnosis) -> dict[str, float]:
    """How far the rings want the tilt axis to be from where it is, where they tell."""
    if not np.isfinite(diagnosis.axis_offset_sigma_deg):
        return {}
    return {
        "free_axis_offset_deg": diagnosis.axis_offset_deg,
        "free_axis_offset_sigma_deg": diagnosis.axis_offset_sigma_deg,
    }
