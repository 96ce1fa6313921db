"""Figures of the tilt series of a project: images, alignment, contrast transfer."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from eucentric.errors import FormatError, InputError
from eucentric.figures.ctf import spectra_with_models
from eucentric.figures.ctf_series import defocus_and_astigmatism
from eucentric.figures.overview import alignment_overview
from eucentric.figures.slices import tilt_images
from eucentric.io.curves import read_curves
from eucentric.io.mrc import read_mrc
from eucentric.io.tilt_series import read_tilt_series, tilt_series_names
from eucentric.models.tilt_series import CtfFit, TiltSeries
from eucentric.pipeline.reprojecting import project_of
from eucentric.typing import FloatArray

_FURTHEST = ("reconstruct", "ctf", "axis", "align", "motion", "import")
_TABLE = "tilt_series.star"
_PICTURE_PX = 512  # longer side of an image in a montage


def tilt_series_figure(target: Path, series: str | None, *, count: int, columns: int) -> Figure:
    """Images of a tilt series, spread evenly over its angles.

    Raises
    ------
    InputError : no such series, or images that are not there
    """
    one, root = chosen_series(target, series, _FURTHEST)
    shown = [t for t in one.tilts if t.image is not None]
    if not shown:
        raise InputError(f"{one.name} has no images yet. Run `eucentric motion` first, or import a stack.")
    rows = np.unique(np.linspace(0, len(shown) - 1, min(count, len(shown))).round().astype(int))
    images, pixel = [], one.pixel_size_angstrom
    for row in rows:
        array, header = read_mrc(root / str(shown[row].image))
        image, step = _smaller(np.asarray(array, dtype=np.float32).reshape(array.shape[-2:]))
        pixel = (header.pixel_size_angstrom or one.pixel_size_angstrom) * step
        images.append(image)
    return tilt_images(images, np.array([shown[row].nominal_tilt_deg for row in rows]), pixel, columns=columns)


def alignment_figure(target: Path, series: str | None) -> Figure:
    """Shifts, angles and residuals of one aligned series.

    Raises
    ------
    InputError : no such series, or one that is not aligned
    """
    one, root = chosen_series(target, series, ("axis", "align", "ctf", "reconstruct"))
    poses = one.poses
    kept = _kept(root, "align", one.name) | _kept(root, "axis", one.name)
    return alignment_overview(
        one.nominal_tilts_deg,
        np.array([[p.x_shift_angstrom, p.y_shift_angstrom] for p in poses]),
        np.array([p.sigma_angstrom for p in poses]),
        np.array([[p.y_tilt_deg, p.z_rot_deg] for p in poses]),
        one.nominal_tilts_deg,
        _residuals(kept, len(poses)),
    )


def ctf_figure(target: Path, series: str | None, tilts_deg: Sequence[float]) -> Figure:
    """Spectra of some tilts with their fits: of those nearest to the angles given, or of five.

    Raises
    ------
    InputError : no such series, or no spectra kept
    """
    one, root = chosen_series(target, series, ("ctf", "reconstruct"))
    kept = _kept(root, "ctf", one.name)
    names = ("tilt_deg", "frequency", "spectrum", "model")
    if not kept.keys() >= set(names):
        raise InputError(f"No spectra of {one.name} were kept in `{root / 'ctf'}`. Run `eucentric ctf` first.")
    angles, frequency, spectrum, model = (kept[name] for name in names)
    wanted = list(tilts_deg) or np.linspace(angles[0], angles[-1], 5).tolist()
    far = [w for w in wanted if np.abs(angles - w).min() > _step(angles)]
    if far:
        raise InputError(
            f"{one.name} has no tilt near {far[0]:g} degrees; its angles go from {angles.min():.1f} to {angles.max():.1f}."
        )
    rows = np.unique([int(np.abs(angles - w).argmin()) for w in wanted])
    quality = kept["quality"][rows] if "quality" in kept else None
    return spectra_with_models(angles[rows], frequency, spectrum[rows], model[rows], quality)


def defocus_figure(target: Path, series: str | None) -> Figure:
    """Defocus and astigmatism of all tilts.

    Raises
    ------
    InputError : no such series, or no fits
    """
    one, _ = chosen_series(target, series, ("ctf", "reconstruct"))
    fitted: list[tuple[float, int, CtfFit]] = [
        (t.nominal_tilt_deg, t.acquisition, t.ctf) for t in one.tilts if t.ctf is not None
    ]
    if not fitted:
        raise InputError(f"The contrast transfer of {one.name} is not known. Run `eucentric ctf` first.")
    fits = [fit for _, _, fit in fitted]
    return defocus_and_astigmatism(
        np.array([angle for angle, _, _ in fitted]),
        np.array([number for _, number, _ in fitted]),
        np.array([f.defocus_u_angstrom for f in fits]),
        np.array([f.defocus_v_angstrom for f in fits]),
        np.array([f.astigmatism_angle_deg for f in fits]),
        np.array([f.defocus_sigma_angstrom for f in fits]),
    )


def chosen_series(target: Path, series: str | None, stages: Sequence[str]) -> tuple[TiltSeries, Path]:
    """The series that is meant, from the first of some stages that has it, and the folder of the project.

    Parameters
    ----------
    target : project, or a table of tilt series
    series : needed where there are several

    Raises
    ------
    InputError : nothing there, several series, or none of that name
    """
    if not target.exists():
        raise InputError(f"`{target}` does not exist. Name a project or a table of tilt series.")
    tables = [target] if target.is_file() else [p for s in stages if (p := target / s / _TABLE).is_file()]
    if not tables:
        raise InputError(f"`{target}` has no results of {', '.join(stages[:2])} yet. Run `eucentric run` first.")
    known = {name: table for table in reversed(tables) for name in tilt_series_names(table)}
    if not known:
        raise InputError(f"`{tables[0]}` names no tilt series.")
    names = ", ".join(list(known)[:8])
    if series is None and len(known) > 1:
        raise InputError(f"`{target}` has {len(known)} tilt series. Say which with --series: {names}.")
    name = series or next(iter(known))
    if name not in known:
        raise InputError(f"`{target}` has no tilt series `{name}`. It has {names}.")
    root = project_of(known[name])
    return read_tilt_series(known[name], name, root), root


def _kept(root: Path, stage: str, name: str) -> dict[str, NDArray[Any]]:
    """What a stage kept to be plotted; nothing where it kept none."""
    try:
        return read_curves(root / stage / "curves" / f"{name}.npz")
    except FormatError as error:
        raise FormatError(f"{error} Run `eucentric {stage}` again.") from error


def _residuals(kept: Mapping[str, NDArray[Any]], count: int) -> FloatArray | None:
    """(tilt,) root mean squares of what is left at the points that were followed; None where none were."""
    if (
        not kept.keys() >= {"tilt_deg", "track_tilt", "track_residual", "track_outlier"}
        or len(kept["tilt_deg"]) != count
    ):
        return None
    used = ~kept["track_outlier"].astype(bool)
    tilt, squares = kept["track_tilt"][used], (kept["track_residual"][used] ** 2).sum(axis=1)
    if not len(tilt):
        return None
    number = np.bincount(tilt, minlength=count)
    total = np.bincount(tilt, weights=squares, minlength=count)
    return np.asarray(np.sqrt(np.where(number > 0, total / np.maximum(number, 1), np.nan)))


def _smaller(image: NDArray[np.float32]) -> tuple[FloatArray, int]:
    """Means over squares of pixels, and their edge."""
    step = max(1, max(image.shape) // _PICTURE_PX)
    rows, columns = (n // step * step for n in image.shape)
    cut = image[:rows, :columns].reshape(rows // step, step, columns // step, step)
    return np.asarray(cut.mean(axis=(1, 3)), dtype=np.float64), step


def _step(angles: FloatArray) -> float:
    """Degrees between neighbours."""
    return float(np.median(np.diff(np.sort(angles)))) if len(angles) > 1 else 1.0
