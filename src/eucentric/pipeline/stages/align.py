"""Tilt-series alignment on disk."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch

from eucentric.alignment.align_centre_of_mass import align_centre_of_mass
from eucentric.alignment.align_tilt_series import align_tilt_series
from eucentric.alignment.find_dark_tilts import find_dark_tilts
from eucentric.alignment.params import AlignParams
from eucentric.alignment.results import AlignmentResult
from eucentric.compute.threads import threads_for
from eucentric.errors import InputError
from eucentric.geometry.tilt import TiltGeometry
from eucentric.models.tilt_series import TiltPose, TiltSeries
from eucentric.pipeline.images import read_images
from eucentric.pipeline.stage import ItemStage, Outcome
from eucentric.pipeline.store import ItemStore


class AlignTiltSeries(ItemStage):
    """Find shifts and tilt axis; leave out dark tilts."""

    name = "align"
    params = AlignParams
    version = 1
    after = "motion"

    def peak_bytes(self, series: TiltSeries, params: AlignParams) -> int:
        """The images twice, and a few volumes at the matching pixel size."""
        pixels = series.image_shape[0] * series.image_shape[1]
        side = max(series.image_shape) * series.pixel_size_angstrom / params.match_pixel_angstrom
        depth = params.thickness_angstrom / params.match_pixel_angstrom
        return int(400 * 2**20 + 12 * len(series.tilts) * pixels + 32 * side * side * depth)

    def run(self, series: TiltSeries, params: AlignParams, store: ItemStore, device: torch.device) -> Outcome:
        """Reject dark tilts, then align the rest."""
        if not series.tilts:
            return Outcome(series=series, caveats=("There are no images to align, only a finished tomogram.",))
        axes = [t.nominal_axis_deg for t in series.tilts if t.nominal_axis_deg is not None]
        axis = float(np.median(axes)) if axes else None
        if params.method == "none":
            poses = [t.pose or TiltPose(y_tilt_deg=t.nominal_tilt_deg, z_rot_deg=axis or 0.0) for t in series.tilts]
            caveat = "The images were taken as aligned already, as asked for."
            return Outcome(series=_with_poses(series, poses), caveats=(caveat,))
        images = read_images(series, store, device)
        if params.method == "centre-of-mass":
            return _by_mass(series, images if series.optics is None else -images, axis)
        dark = find_dark_tilts(
            images,
            series.nominal_tilts_deg,
            doses=series.doses,
            dark_fraction=params.dark_fraction,
            dark_area=params.dark_area,
        )
        kept = [i for i in range(len(series.tilts)) if i not in dark]
        if series.optics is None:
            images = -images  # scanning images are bright where the specimen is; features are looked for in the dark
        bright = series.without(dark)
        with threads_for(0):  # images are matched at a coarse sampling, however large they are
            result = align_tilt_series(
                images[kept],
                bright.nominal_tilts_deg,
                pixel_size=series.pixel_size_angstrom,
                axis_deg=axis,
                params=params,
                progress=store.progress,
            )
        _write_curves(store, series, bright, images, result)
        notes = tuple(f"{series.tilts[i].nominal_tilt_deg:.1f} degrees was left out: {why}." for i, why in dark.items())
        return Outcome(
            series=_with_poses(bright, _poses(result.geometry, result.sigma_angstrom)),
            metrics=_metrics(result, len(dark)),
            caveats=notes + result.caveats,
        )


def _by_mass(series: TiltSeries, bright: torch.Tensor, axis: float | None) -> Outcome:
    """Align an isolated specimen by its centre of mass."""
    if axis is None:
        raise InputError(
            f"The tilt axis of {series.name} is not known, and alignment by the centre of mass needs its direction "
            "within 20 degrees. Give --tilt-axis at import."
        )
    result = align_centre_of_mass(
        bright, series.nominal_tilts_deg, pixel_size=series.pixel_size_angstrom, axis_deg=axis
    )
    shifts = result.geometry.shifts_angstrom
    return Outcome(
        series=_with_poses(series, _poses(result.geometry, np.full(len(series.tilts), np.nan))),
        metrics={
            "tilt_axis_deg": float(result.geometry.z_rot_deg[0]),
            "residual_rms_px": float(np.sqrt(np.mean(result.residuals_px**2))),
            "shift_max_angstrom": float(np.linalg.norm(shifts, axis=1).max()),
        },
        caveats=("Aligned by the centre of mass: true only where the specimen stands alone.",),
    )


def _with_poses(series: TiltSeries, poses: Iterable[TiltPose]) -> TiltSeries:
    return series.with_tilts([replace(t, pose=p) for t, p in zip(series.tilts, poses, strict=True)])


def _poses(geometry: TiltGeometry, sigma: np.ndarray) -> list[TiltPose]:
    return [
        TiltPose(
            y_tilt_deg=float(geometry.y_tilt_deg[i]),
            z_rot_deg=float(geometry.z_rot_deg[i]),
            x_tilt_deg=float(geometry.x_tilt_deg[i]),
            x_shift_angstrom=float(geometry.shifts_angstrom[i, 0]),
            y_shift_angstrom=float(geometry.shifts_angstrom[i, 1]),
            sigma_angstrom=float(sigma[i]),
        )
        for i in range(len(geometry))
    ]


def _metrics(result: AlignmentResult, left_out: int) -> dict[str, float]:
    return {
        "tilt_axis_deg": float(result.geometry.z_rot_deg[0]),
        "score_mean": float(result.scores.mean()),
        "score_min": float(result.scores.min()),
        "sigma_median_angstrom": float(np.nanmedian(result.sigma_angstrom)),
        "shift_max_angstrom": float(np.linalg.norm(result.geometry.shifts_angstrom, axis=1).max()),
        "last_change_angstrom": result.last_change_angstrom,
        "tilts_left_out": float(left_out),
    }


def _write_curves(
    store: ItemStore, series: TiltSeries, bright: TiltSeries, images: torch.Tensor, result: AlignmentResult
) -> None:
    store.write_arrays(
        tilt_deg=bright.nominal_tilts_deg,
        scores=result.scores,
        sigma_angstrom=result.sigma_angstrom,
        axis_deg=result.axis_angles_deg,
        axis_score=result.axis_scores,
        coarse_shifts=result.coarse_geometry.shifts_angstrom,
        shifts=result.geometry.shifts_angstrom,
        all_tilt_deg=series.nominal_tilts_deg,
        mean_intensity=images.abs().mean((-2, -1)).cpu().numpy(),
    )
