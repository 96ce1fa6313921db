"""Alignment of one tilt series, from its images to poses, local deformation and what a report shows of them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from eucentric.alignment.align_centre_of_mass import align_centre_of_mass
from eucentric.alignment.align_tilt_series import align_tilt_series, look_first
from eucentric.alignment.params import AlignParams
from eucentric.alignment.results import AlignmentResult
from eucentric.compute.threads import threads_for
from eucentric.ctf.estimate_ctf import estimate_series_ctf
from eucentric.ctf.params import CtfParams
from eucentric.errors import InputError, ProcessingError
from eucentric.geometry.tilt import TiltGeometry
from eucentric.geometry.warp import ImageWarp
from eucentric.models.tilt_series import TiltPose, TiltSeries
from eucentric.models.tracks import Tracks
from eucentric.pipeline.levelling import measure_specimen
from eucentric.projection.resampling import resample_tilts

_MOVIE_PX = 192
_PICTURE_PX = 128
_LOOKED = 0.1
"""Part of the progress that the first look takes."""
Progress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Aligned:
    """A series with poses, and what goes with them."""

    series: TiltSeries
    warp: ImageWarp | None = None
    tracks: Tracks | None = None
    """Of beads or patches, in the tilts of the series."""
    metrics: dict[str, float] = field(default_factory=dict)
    curves: dict[str, Any] = field(default_factory=dict)
    """Arrays for the report."""
    pictures: dict[str, Any] = field(default_factory=dict)
    """Small images for the report: `aligned`, `excluded` and the angles of those."""
    caveats: tuple[str, ...] = ()


def nominal_axis(series: TiltSeries) -> float | None:
    """The tilt axis as the microscope gave it; None where it did not."""
    axes = [t.nominal_axis_deg for t in series.tilts if t.nominal_axis_deg is not None]
    return float(np.median(axes)) if axes else None


def align_series(
    series: TiltSeries,
    images: torch.Tensor,
    params: AlignParams,
    *,
    axis_deg: float | None,
    tracks: Tracks | None = None,
    progress: Progress | None = None,
) -> Aligned:
    """Leave out tilts that cannot be used, and align the rest.

    Parameters
    ----------
    images : (tilt, y, x), of all tilts of the series
    axis_deg : where to look for the tilt axis; None looks everywhere
    tracks : corrected by hand, in the tilts of the series

    Raises
    ------
    EucentricError : this series cannot be aligned; the message says why
    """
    bright = images if series.optics is not None else -images  # features are looked for in the dark
    known = params.start == "imported" and all(t.pose for t in series.tilts)
    tell = progress or (lambda _part, _text: None)
    with threads_for(0):  # images are matched at a coarse sampling, however large they are
        look = look_first(
            images,
            series.nominal_tilts_deg,
            pixel_size=series.pixel_size_angstrom,
            axis_deg=axis_deg,
            params=params,
            doses=series.doses,
        )
        tell(_LOOKED, "")
        kept, reasons = look.quality.kept, dict(look.quality.reasons)
        used = series.without(reasons)
        start = TiltGeometry.from_poses(used.poses) if known else None
        result = align_tilt_series(
            bright[kept],
            used.nominal_tilts_deg,
            pixel_size=series.pixel_size_angstrom,
            axis_deg=axis_deg,
            params=params,
            exposures=used.pre_exposures + 0.5 * used.doses if used.doses.any() else None,
            coarse=look.coarse,
            start=start,
            tracks=None if tracks is None else _tracks_in(tracks, kept),
            progress=lambda part, text: tell(_LOOKED + (1 - _LOOKED) * part, text),
        )
    reasons |= {kept[i]: why for i, why in result.rejected.items()}
    kept = [i for i in range(len(series.tilts)) if i not in reasons]
    used = series.without(reasons)
    notes = tuple(
        f"{series.tilts[i].nominal_tilt_deg:.1f} degrees was left out: {why}." for i, why in sorted(reasons.items())
    )
    notes += look.quality.caveats
    aligned = with_poses(used, poses_of(result.geometry, result.sigma_angstrom))
    caveats = notes + result.caveats
    if axis_deg is None and start is None:
        aligned, words = settle_direction(aligned, images[kept])
        caveats += (words,)
    figures: dict[str, float] = {}
    if series.optics is not None:  # scanning images darken by another law
        found = measure_specimen(aligned, images[kept], mean_free_path_angstrom=params.mean_free_path_angstrom)
        aligned, figures = centred_on_specimen(aligned.replace(specimen=found.specimen)), found.metrics
        caveats += found.caveats
    return Aligned(
        series=aligned,
        warp=result.warp,
        tracks=result.tracks,
        metrics=_metrics(result, len(reasons)) | figures,
        curves=_curves(series, used, images, result),
        pictures=_pictures(series, images, kept, result),
        caveats=(*result.reasons, *caveats),
    )


def _tracks_in(tracks: Tracks, kept: list[int]) -> Tracks:
    """The observations in some of the tilts, counted among them."""
    inside = tracks.take(np.isin(tracks.tilts, kept))
    return replace(inside, tilts=np.searchsorted(kept, inside.tilts))


def centred_on_specimen(series: TiltSeries) -> TiltSeries:
    """The series with the origin of its frame moved to the height of the specimen's middle; no image position changes.

    Defocus is then that of the matter, at every tilt, and volumes lie around it.
    """
    specimen = series.specimen
    if specimen is None or not np.isfinite(specimen.z_sigma_angstrom):
        return series
    geometry = TiltGeometry.from_poses(series.poses)
    moved = specimen.z_angstrom * geometry.image_matrices[:, :, 2]
    poses = [
        replace(p, x_shift_angstrom=p.x_shift_angstrom + float(x), y_shift_angstrom=p.y_shift_angstrom + float(y))
        for p, (x, y) in zip(series.poses, moved, strict=True)
    ]
    return with_poses(series, poses).replace(specimen=replace(specimen, z_angstrom=0.0))


def settle_direction(series: TiltSeries, images: torch.Tensor) -> tuple[TiltSeries, str]:
    """The tilt axis or its opposite, by the way in which the defocus changes across the images.

    Both fit the images' features equally, with the specimen inverted; the defocus of a point tells its height.
    """
    axis = median_axis(series)
    opposite = (axis + 360.0) % 360.0 - 180.0
    open_words = (
        f"No tilt axis was given: {axis:.1f} degrees was found in the images, and its opposite {opposite:.1f} fits as well. "
        f"If the specimen comes out mirrored, import again with --tilt-axis {opposite:.1f}."
    )
    if series.optics is None:
        return series, open_words
    try:
        fit = estimate_series_ctf(
            images,
            TiltGeometry.from_poses(series.poses),
            pixel_size=series.pixel_size_angstrom,
            optics=series.optics,
            params=CtfParams(),
            hand=series.hand,
        )
    except (InputError, ProcessingError):
        return series, open_words
    if not fit.hand_test.decided:
        return series, open_words
    turned = fit.hand != series.hand
    if turned:
        poses = [replace(p, z_rot_deg=(p.z_rot_deg + 360.0) % 360.0 - 180.0) for p in series.poses]
        series = with_poses(series, poses)
    return series, (
        f"No tilt axis was given: {median_axis(series):.1f} degrees was found in the images, and the change of the "
        f"defocus across them tells it from its opposite ({abs(fit.hand_test.sigmas):.1f} standard errors)."
    )


def align_by_mass(series: TiltSeries, bright: torch.Tensor, axis: float | None) -> Aligned:
    """Align an isolated specimen by its centre of mass.

    Raises
    ------
    InputError : the tilt axis is not known
    """
    if axis is None:
        raise InputError(
            f"The tilt axis of {series.name} is not known, and alignment by the centre of mass needs its direction "
            "within 20 degrees. Give --tilt-axis at import."
        )
    result = align_centre_of_mass(
        bright, series.nominal_tilts_deg, pixel_size=series.pixel_size_angstrom, axis_deg=axis
    )
    shifts = result.geometry.shifts_angstrom
    return Aligned(
        series=with_poses(series, poses_of(result.geometry, np.full(len(series.tilts), np.nan))),
        metrics={
            "tilt_axis_deg": float(result.geometry.z_rot_deg[0]),
            "residual_rms_px": float(np.sqrt(np.mean(result.residuals_px**2))),
            "shift_max_angstrom": float(np.linalg.norm(shifts, axis=1).max()),
        },
        caveats=("Aligned by the centre of mass: true only where the specimen stands alone.",),
    )


def with_poses(series: TiltSeries, poses: Iterable[TiltPose]) -> TiltSeries:
    """The series with a pose for each tilt."""
    return series.with_tilts([replace(t, pose=p) for t, p in zip(series.tilts, poses, strict=True)])


def median_axis(series: TiltSeries) -> float:
    """The tilt axis of an aligned series, degrees."""
    return float(np.median([p.z_rot_deg for p in series.poses]))


def with_turned_axis(series: TiltSeries, axis_deg: float) -> TiltSeries:
    """The series with its tilt axis (the median over tilts) turned to another direction, shifts on the camera kept."""
    turn = axis_deg - median_axis(series)
    return with_poses(series, [replace(p, z_rot_deg=p.z_rot_deg + turn) for p in series.poses])


def poses_of(geometry: TiltGeometry, sigma_angstrom: np.ndarray) -> list[TiltPose]:
    """Poses of a geometry, with one standard deviation of each shift component."""
    return [
        TiltPose(
            y_tilt_deg=float(geometry.y_tilt_deg[i]),
            z_rot_deg=float(geometry.z_rot_deg[i]),
            x_tilt_deg=float(geometry.x_tilt_deg[i]),
            x_shift_angstrom=float(geometry.shifts_angstrom[i, 0]),
            y_shift_angstrom=float(geometry.shifts_angstrom[i, 1]),
            sigma_angstrom=float(sigma_angstrom[i]),
            magnification=float(geometry.magnification[i]),
        )
        for i in range(len(geometry))
    ]


def _metrics(result: AlignmentResult, left_out: int) -> dict[str, float]:
    metrics = {
        "tilt_axis_deg": float(np.median(result.geometry.z_rot_deg)),
        "tilt_axis_sigma_deg": result.axis_sigma_deg,
        "score_mean": float(result.scores.mean()),
        "score_min": float(result.scores.min()),
        "sigma_median_angstrom": float(np.nanmedian(result.sigma_angstrom)),
        "shift_max_angstrom": float(np.linalg.norm(result.geometry.shifts_angstrom, axis=1).max()),
        "last_change_angstrom": result.last_change_angstrom,
        "tilts_left_out": float(left_out),
    }
    if result.bundle is not None:
        residual = np.linalg.norm(result.bundle.residuals_angstrom, axis=1)
        used = result.bundle.weights > 0
        metrics[f"{result.method}_tracked"] = float(len(result.bundle.points))
        metrics["residual_rms_angstrom"] = float(np.sqrt((residual[used] ** 2).mean()))
        metrics["residual_95_angstrom"] = float(np.quantile(residual[used], 0.95))
        metrics["leave_one_out_rms_angstrom"] = result.bundle.leave_one_out_rms_angstrom
        metrics["outliers"] = float(len(result.bundle.outliers))
        metrics["points_that_move"] = float(len(result.bundle.moved))
    if result.warp is not None:
        length = np.linalg.norm(result.warp.displacement_angstrom, axis=-1)
        metrics["local_deformation_max_angstrom"] = float(length.max())
    return metrics


def _curves(series: TiltSeries, used: TiltSeries, images: torch.Tensor, result: AlignmentResult) -> dict[str, Any]:
    curves: dict[str, Any] = {
        "tilt_deg": used.nominal_tilts_deg,
        "exposure": used.pre_exposures + 0.5 * used.doses,
        "scores": result.scores,
        "sigma_angstrom": result.sigma_angstrom,
        "axis_deg": result.axis_angles_deg,
        "axis_score": result.axis_scores,
        "coarse_shifts": result.coarse_geometry.shifts_angstrom,
        "shifts": result.geometry.shifts_angstrom,
        "all_tilt_deg": series.nominal_tilts_deg,
        "mean_intensity": images.abs().mean((-2, -1)).cpu().numpy(),
    }
    if result.tracks is not None and result.bundle is not None:
        curves |= {
            "track_point": result.tracks.points,
            "track_tilt": result.tracks.tilts,
            "track_position": result.tracks.positions_angstrom,
            "track_residual": result.bundle.residuals_angstrom,
            "track_left_out": result.bundle.leave_one_out_angstrom,
            "track_outlier": np.isin(np.arange(len(result.tracks)), result.bundle.outliers),
            "moved_point": result.bundle.moved,
            "model_name": np.array([t.model.name for t in result.bundle.tried], dtype=str),
            "model_error": np.array([t.held_out_angstrom for t in result.bundle.tried], dtype=np.float64),
            "model_chosen": np.array([t.chosen for t in result.bundle.tried], dtype=bool),
        }
    if result.warp is not None:
        curves["deformation"] = result.warp.displacement_angstrom
    return curves


def _pictures(series: TiltSeries, images: torch.Tensor, kept: list[int], result: AlignmentResult) -> dict[str, Any]:
    """The aligned stack and the views that were left out, small, as grey values."""
    pixel = series.pixel_size_angstrom
    coarse = max(pixel, max(series.image_shape) * pixel / _MOVIE_PX)
    shape = tuple(max(8, round(n * pixel / coarse)) for n in series.image_shape)
    centred = images[kept] - images[kept].mean((-2, -1), keepdim=True)
    aligned = resample_tilts(
        centred, result.geometry, pixel, out_shape=(shape[0], shape[1]), out_pixel_size=coarse, warp=result.warp
    )
    gone = [i for i in range(len(images)) if i not in kept]
    small = (
        torch.nn.functional.interpolate(images[gone][:, None], size=_PICTURE_PX, mode="area")[:, 0] if gone else None
    )
    return {
        "aligned": _grey(aligned),
        "excluded": np.zeros((0, 1, 1), np.uint8) if small is None else _grey(small),
        "excluded_tilt_deg": series.nominal_tilts_deg[gone],
    }


def _grey(images: torch.Tensor) -> np.ndarray:
    """(n, y, x) as bytes, each image from its darkest to its brightest percent."""
    flat = images.reshape(len(images), -1).float()
    step = max(1, flat.shape[1] // 20_000)
    low, high = torch.quantile(flat[:, ::step], torch.tensor([0.005, 0.995], device=flat.device), dim=1)
    scaled = (flat - low[:, None]) / (high - low).clamp(min=1e-20)[:, None]
    out: np.ndarray = (255 * scaled.clamp(0, 1)).round().to(torch.uint8).reshape(images.shape).cpu().numpy()
    return out
