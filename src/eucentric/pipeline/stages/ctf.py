"""CTF estimation on disk."""

from dataclasses import replace

import numpy as np
import torch

from eucentric.compute.threads import threads_for
from eucentric.ctf.estimate_ctf import estimate_series_ctf
from eucentric.ctf.params import CtfParams
from eucentric.ctf.results import ThicknessFit
from eucentric.geometry.tilt import TiltGeometry
from eucentric.models.specimen import Specimen
from eucentric.models.tilt_series import TiltSeries
from eucentric.pipeline.images import read_images
from eucentric.pipeline.stage import ItemStage, Outcome
from eucentric.pipeline.store import ItemStore

_DISAGREE = 3.0  # standard deviations between two thicknesses that are worth a word


class EstimateCtf(ItemStage):
    """Fit defocus and astigmatism of every tilt."""

    name = "ctf"
    params = CtfParams
    version = 2
    after = "axis"

    def peak_bytes(self, series: TiltSeries, params: CtfParams) -> int:
        """The images twice, and the spectra of their tiles."""
        del params
        return 500 * 2**20 + 16 * len(series.tilts) * series.image_shape[0] * series.image_shape[1]

    def run(self, series: TiltSeries, params: CtfParams, store: ItemStore, device: torch.device) -> Outcome:
        """Joint fit of all tilts; series without a CTF pass."""
        if series.optics is None or not series.tilts:
            return Outcome(
                series=series,
                caveats=("These images have no contrast transfer function to fit; passed on as they are.",),
            )
        images = read_images(series, store, device)
        nominal = [t.nominal_defocus_angstrom for t in series.tilts]
        with threads_for(series.image_shape[0] * series.image_shape[1]):
            result = estimate_series_ctf(
                images,
                TiltGeometry.from_poses(series.poses),
                pixel_size=series.pixel_size_angstrom,
                optics=series.optics,
                params=params,
                hand=series.hand,
                acquisition=[t.acquisition for t in series.tilts],
                nominal_defocus_angstrom=None if None in nominal else np.array(nominal, dtype=np.float64),
            )
        curves = result.curves
        store.write_arrays(
            tilt_deg=series.nominal_tilts_deg,
            frequency=curves.frequency,
            spectrum=curves.spectrum,
            model=curves.model,
            quality=curves.quality,
        )
        tilts = [replace(t, ctf=fit) for t, fit in zip(series.tilts, result.fits, strict=True)]
        defocus = np.array([f.defocus_angstrom for f in result.fits])
        metrics = {
            "defocus_median_angstrom": float(np.median(defocus)),
            "defocus_spread_angstrom": float(1.4826 * np.median(np.abs(defocus - np.median(defocus)))),
            "astigmatism_median_angstrom": float(
                np.median([abs(f.defocus_u_angstrom - f.defocus_v_angstrom) for f in result.fits])
            ),
            "hand": result.hand,
            "hand_confidence_sigmas": result.hand_test.sigmas,
            "tilts_without_rings": float(len(result.failed)),
            "inclination_x_deg": result.inclination_x_deg,
            "inclination_y_deg": result.inclination_y_deg,
        }
        specimen, words = _with_nodes(series.specimen, result.thickness)
        if result.thickness is not None:
            metrics["thickness_from_nodes_angstrom"] = result.thickness.thickness_angstrom
            metrics["thickness_from_nodes_sigma_angstrom"] = result.thickness.sigma_angstrom
        return Outcome(
            series=series.with_tilts(tilts).replace(hand=result.hand, specimen=specimen),
            metrics=metrics,
            caveats=(*result.caveats, *words),
        )


def _with_nodes(specimen: Specimen | None, found: ThicknessFit | None) -> tuple[Specimen | None, tuple[str, ...]]:
    """The specimen with the thickness that the nodes of the rings tell, where they do; words where others disagree."""
    if found is None or not found.determined:
        return specimen, ()
    known = specimen or Specimen(
        thickness_angstrom=found.thickness_angstrom, thickness_sigma_angstrom=found.sigma_angstrom
    )
    specimen = replace(
        known, ctf_thickness_angstrom=found.thickness_angstrom, ctf_thickness_sigma_angstrom=found.sigma_angstrom
    )
    spread = float(np.hypot(found.sigma_angstrom, known.thickness_sigma_angstrom))
    if abs(found.thickness_angstrom - known.thickness_angstrom) <= _DISAGREE * spread:
        return specimen, ()
    return specimen, (
        f"The specimen is {found.thickness_angstrom:.0f} A thick by the nodes of the Thon rings and "
        f"{known.thickness_angstrom:.0f} A by what the alignment measured.",
    )
