"""Ice, envelope and camera of a twin: what the spectra of a project's images tell, beside simulated ones of the same tilts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eucentric.errors import EucentricError, InputError
from eucentric.io.tilt_series import read_tilt_series, tilt_series_names
from eucentric.models.tilt_series import Tilt, TiltSeries
from eucentric.pipeline.images import read_image
from eucentric.pipeline.store import ItemStore
from eucentric.simulation import Scene, SimulatedSeries, SimulationParams, Species
from eucentric.simulation.recording_fit import (
    ContrastSpectra,
    RecordingFit,
    contrast_spectrum,
    fit_recording,
    shell_frequencies,
    simulated_spectra,
)

_TILTS_DEG = (0.0, 15.0, -30.0)
_STAGES = ("ctf", "axis", "align", "motion")
_GREATEST_MISFIT = 0.3
_UNLIKE = 1.5  # power at low frequency beyond which the specimen holds something else


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TwinRecording:
    """How a project's images were recorded."""

    fit: RecordingFit
    spectra: ContrastSpectra
    changes: dict[str, Any]
    """Settings of the simulator."""
    told: tuple[str, ...]


def recording_of_project(
    root: Path, name: str, params: SimulationParams, species: Sequence[Species] | None, scene: Scene | None
) -> TwinRecording | None:
    """Compare images of three tilts with simulated ones; None where a project has no summed images.

    Parameters
    ----------
    root : the project's folder
    name : of the series
    params, species, scene : the twin as known so far

    Raises
    ------
    InputError : images that cannot be read, or are too coarse to compare
    """
    series = _with_images(root, name)
    if series is None:
        return None
    rows, columns = series.image_shape
    of_images = params.replace(image_size_px=(columns, rows), pixel_size_angstrom=series.pixel_size_angstrom)
    simulated = SimulatedSeries.build(of_images, species, scene=scene)
    tilts = [min(series.tilts, key=lambda t, a=angle: abs(t.nominal_tilt_deg - a)) for angle in _TILTS_DEG]  # type: ignore[misc]
    tilts = list({t.acquisition: t for t in tilts}.values())
    measured, ice, matter, electrons = [], [], [], []
    store = ItemStore(root, "motion", name)
    try:
        for tilt in tilts:
            image = torch.from_numpy(read_image(series, tilt, store))
            measured.append(contrast_spectrum(image, series.pixel_size_angstrom))
            focused, number = _same_focus(simulated, tilt)
            grain, bodies = simulated_spectra(focused, number)
            ice.append(grain)
            matter.append(bodies)
            inclined = np.cos(np.deg2rad(tilt.nominal_tilt_deg + params.tilt_offset_deg))
            paths = params.thickness_angstrom / (params.inelastic_path_angstrom * max(inclined, 0.1))
            electrons.append(simulated.acquisition.doses(of_images)[number] * np.exp(-paths))
        spectra = ContrastSpectra(
            frequency=shell_frequencies(series.pixel_size_angstrom),
            measured=np.array(measured),
            ice=np.array(ice),
            matter=np.array(matter),
            electrons=np.array(electrons),
        )
        fit = fit_recording(spectra)
    except EucentricError as error:
        raise InputError(f"The images of {name} cannot be compared with simulated ones. {error}") from error
    return _judged(fit, spectra, params)


def _judged(fit: RecordingFit, spectra: ContrastSpectra, params: SimulationParams) -> TwinRecording:
    told = []
    changes: dict[str, Any] = {}
    if fit.misfit > _GREATEST_MISFIT:
        told.append(
            f"The spectra of the images are not those of the simulator (rms {100 * fit.misfit:.0f}%), so camera, ice and B-factor "
            "stay as they usually are."
        )
    else:
        changes = {
            "dqe_at_zero": min(1.0, params.dqe_at_zero * fit.detected),
            "ice_noise": params.ice_noise * fit.ice,
            "b_factor": max(0.0, params.b_factor + fit.extra_b_factor),
        }
        told.append(
            f"Fitted to the spectra of {len(spectra.electrons)} images, 60 A to the Nyquist frequency: "
            f"{100 * changes['dqe_at_zero']:.0f}% of the electrons are counted, the ice's grain is {changes['ice_noise']:.2f} of the "
            f"expected, B-factor {changes['b_factor']:.0f} A^2; the spectra then agree within {100 * fit.misfit:.0f}%. "
            "Not fitted: the camera's MTF and the lens."
        )
        told.append(_on_matter(fit))
    return TwinRecording(fit=fit, spectra=spectra, changes=changes, told=tuple(told))


def _on_matter(fit: RecordingFit) -> str:
    text = f"From 200 to 60 A the images have {fit.coarse_ratio:.2f} times the power of the twin's."
    if fit.coarse_ratio > _UNLIKE:
        return f"{text} The specimen holds more than the twin: membranes, crowding or contamination that no list names."
    if fit.coarse_ratio < 1.0 / _UNLIKE:
        return f"{text} The specimen holds less than the twin, or its contrast is lower."
    return text


def _with_images(root: Path, name: str) -> TiltSeries | None:
    """The series from the newest table that has its images."""
    for stage in _STAGES:
        table = root / stage / "tilt_series.star"
        if table.is_file() and name in tilt_series_names(table):
            series: TiltSeries = read_tilt_series(table, name, root)
            if all(t.image for t in series.tilts):
                return series
    return None


def _same_focus(simulated: SimulatedSeries, tilt: Tilt) -> tuple[SimulatedSeries, int]:
    """The simulated series with the defocus that was fitted to a tilt, and that tilt's number."""
    course = simulated.acquisition
    number = int(np.abs(course.nominal_tilts_deg - tilt.nominal_tilt_deg).argmin())
    if tilt.ctf is None:
        return simulated, number
    u, v = course.defocus_u_angstrom.copy(), course.defocus_v_angstrom.copy()
    u[number], v[number] = tilt.ctf.defocus_u_angstrom, tilt.ctf.defocus_v_angstrom
    course = replace(course, defocus_u_angstrom=u, defocus_v_angstrom=v)
    return replace(simulated, acquisition=course), number
