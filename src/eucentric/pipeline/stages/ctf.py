"""CTF estimation on disk."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from eucentric.compute.threads import threads_for
from eucentric.ctf.estimate_ctf import estimate_series_ctf
from eucentric.ctf.judge_given import judge_given_ctf
from eucentric.ctf.map_defocus import diagnose_geometry
from eucentric.ctf.params import CtfParams
from eucentric.ctf.results import CtfResult, ThicknessFit
from eucentric.geometry.tilt import TiltGeometry
from eucentric.models.optics import Optics
from eucentric.models.specimen import Specimen
from eucentric.models.tilt_series import TiltSeries
from eucentric.pipeline.ctf_arrays import curve_arrays, diagnosis_metrics, picture_arrays
from eucentric.pipeline.given_ctf import AttachedCtf, attach_given_ctf, given_ctf_file
from eucentric.pipeline.images import read_images
from eucentric.pipeline.stage import ItemStage, Outcome
from eucentric.pipeline.store import ItemStore

_DISAGREE = 3.0  # standard deviations between two thicknesses that are worth a word


class EstimateCtf(ItemStage):
    """Fit defocus and astigmatism of every tilt."""

    name = "ctf"
    params = CtfParams
    version = 3
    after = "axis"

    def peak_bytes(self, series: TiltSeries, params: CtfParams) -> int:
        """The images twice, and the spectra of their tiles."""
        del params
        return 500 * 2**20 + 16 * len(series.tilts) * series.image_shape[0] * series.image_shape[1]

    def reads(self, series: str, params: CtfParams, root: Path) -> tuple[Path, ...]:
        """The estimates that were imported."""
        path = given_ctf_file(root, series)
        return (path,) if params.method != "fit" and path.is_file() else ()

    def run(self, series: TiltSeries, params: CtfParams, store: ItemStore, device: torch.device) -> Outcome:
        """Joint fit of all tilts; series without a CTF pass."""
        optics = series.optics
        if optics is None or not series.tilts:
            return Outcome(
                series=series,
                caveats=("These images have no contrast transfer function to fit; passed on as they are.",),
            )
        images = read_images(series, store, device)
        with threads_for(series.image_shape[0] * series.image_shape[1]):
            series, result, told = _estimated(series, images, params, store.root)
            diagnosis = diagnose_geometry(TiltGeometry.from_poses(series.poses), result, optics=optics)
            pictures = picture_arrays(images, series, result, optics, params)
        store.write_arrays("curves", **curve_arrays(series, result, diagnosis))
        store.write_arrays("pictures", **pictures)
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
            **diagnosis_metrics(diagnosis),
        }
        specimen, words = _with_nodes(series.specimen, result.thickness)
        if result.thickness is not None:
            metrics["thickness_from_nodes_angstrom"] = result.thickness.thickness_angstrom
            metrics["thickness_from_nodes_sigma_angstrom"] = result.thickness.sigma_angstrom
        return Outcome(
            series=series.with_tilts(tilts).replace(hand=result.hand, specimen=specimen),
            metrics=metrics,
            caveats=(*told, *result.caveats, *diagnosis.findings, *words),
        )


def _estimated(
    series: TiltSeries, images: torch.Tensor, params: CtfParams, root: Path
) -> tuple[TiltSeries, CtfResult, tuple[str, ...]]:
    """The CTF by the method that was asked for, and what is to be said of imported estimates."""
    given = None if params.method == "fit" else attach_given_ctf(series, root)
    told = () if given is None else given.caveats
    if params.method != "fit" and given is None:
        told = ("No estimates were imported for this series (--ctf at import); its CTF was fitted from its images.",)
    if given is not None and params.method == "imported":
        result = _judged(given, images, params)
        if result.hand != series.hand:  # the height of the specimen centre counts the other way
            again = attach_given_ctf(series.replace(hand=result.hand), root) or given
            result = _judged(again, images, params)
        return given.series, result, told
    nominal = [t.nominal_defocus_angstrom for t in series.tilts]
    result = estimate_series_ctf(
        images,
        TiltGeometry.from_poses(series.poses),
        pixel_size=series.pixel_size_angstrom,
        optics=series.optics or Optics(),
        params=params,
        hand=series.hand,
        acquisition=[t.acquisition for t in series.tilts],
        nominal_defocus_angstrom=None if None in nominal else np.array(nominal, dtype=np.float64),
        specimen=series.specimen,
        start=None if given is None else given.fits,
    )
    return series if given is None else given.series, result, told


def _judged(given: AttachedCtf, images: torch.Tensor, params: CtfParams) -> CtfResult:
    series = given.series
    return judge_given_ctf(
        images,
        TiltGeometry.from_poses(series.poses),
        given.fits,
        source=given.source,
        pixel_size=series.pixel_size_angstrom,
        optics=series.optics or Optics(),
        params=params,
        hand=series.hand,
        acquisition=[t.acquisition for t in series.tilts],
        specimen=series.specimen,
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
