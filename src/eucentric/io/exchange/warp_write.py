"""Writing a tilt series as Warp's `.xml` and `.tomostar`; conventions in `eucentric.io.exchange.warp`.

Warp's reader takes every line of a list for a value, drops blanks from names of movies, and gives up a whole file at the first number
that it cannot read (`TiltSeries.cs`, LoadMeta), so the layout follows its own files closely.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from eucentric.io.atomic import write_text_atomic
from eucentric.io.exchange.records import SeriesGeometry, Written, targets
from eucentric.io.exchange.relion_common import volume_size
from eucentric.io.exchange.warp_grids import (
    LevelledPoses,
    Movement,
    VolumeMovement,
    column_lines,
    grid_lines,
    levelled,
    movement_of,
    number,
    parameter_lines,
    volume_lines,
    volume_movement_of,
)
from eucentric.io.star import write_star
from eucentric.models.optics import Optics
from eucentric.models.tilt_series import CtfFit, Tilt, TiltPose, TiltSeries
from eucentric.typing import FloatArray, PathLike

_UM = 1e4
_DOSE_STEP = 1e-3  # e/A^2, where no dose is known
_LEFT_TELLS_DEG = 1e-3
_DAMAGE = 4.0  # A^2 of B factor for each e/A^2, as Warp takes it where its grid says nothing
_LEAST_DAMAGE = 3.0  # that Warp never goes below


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Rows:
    """Every image of a series, by its nominal angle."""

    tilts: tuple[Tilt, ...]
    used: tuple[bool, ...]
    poses: tuple[TiltPose, ...]
    dose: FloatArray
    """Before each image; no two equal."""
    movies: tuple[str, ...]


def write_warp(place: PathLike, geometries: Sequence[SeriesGeometry]) -> Written:
    """Write `<name>.xml` and `<name>.tomostar` for each series, into one folder.

    Parameters
    ----------
    place : folder, or the `.xml` or `.tomostar` of one series

    Raises
    ------
    InputError : series of one name, several for one file, or a place that may not be written to
    BackendError : the disk is full
    """
    files: list[Path] = []
    losses: list[str] = []
    for base, geometry in targets(place, geometries, (".xml", ".tomostar")):
        rows = _rows(geometry.series)
        level = levelled(rows.poses)
        movement, volume = _movement(geometry, rows), _volume_movement(geometry, rows)
        xml, table = (base.with_name(base.name + ending) for ending in (".xml", ".tomostar"))
        write_text_atomic(xml, "\n".join(_xml(geometry.series, rows, level, movement, volume)) + "\n")
        write_star(table, {"": _table(rows)})
        files += [xml, table]
        own = [*_losses(geometry, rows, level, movement), *_volume_losses(volume), *_signal_losses(geometry.series)]
        losses += own if len(geometries) == 1 else [f"{geometry.series.name}: {text}" for text in own]
    return Written(files=tuple(files), losses=tuple(dict.fromkeys(losses)))


def _rows(series: TiltSeries) -> _Rows:
    entries = [(t, True) for t in series.tilts] + [(e.tilt, False) for e in series.excluded]
    entries.sort(key=lambda e: (e[0].nominal_tilt_deg, e[0].acquisition))
    tilts = tuple(t for t, _ in entries)
    dose = np.array([t.pre_exposure for t in tilts], dtype=np.float64)
    if len(np.unique(dose)) < len(dose):
        order = np.argsort(np.argsort([t.acquisition for t in tilts], kind="stable"), kind="stable")
        dose = dose + _DOSE_STEP * order
    return _Rows(
        tilts=tilts,
        used=tuple(u for _, u in entries),
        poses=_poses(tilts),
        dose=dose,
        movies=tuple(_movie(series, t) for t in tilts),
    )


def _poses(tilts: Sequence[Tilt]) -> tuple[TiltPose, ...]:
    """Of images without one: the stage's angle, moved as the others were, and the others' axis."""
    known = [(t.nominal_tilt_deg, t.pose) for t in tilts if t.pose is not None]
    more = float(np.median([p.y_tilt_deg - a for a, p in known])) if known else 0.0
    out = []
    for tilt in tilts:
        axis, x_tilt = tilt.nominal_axis_deg or 0.0, 0.0
        if known:
            near = min(known, key=lambda k: abs(k[0] - tilt.nominal_tilt_deg))[1]
            axis, x_tilt = near.z_rot_deg, near.x_tilt_deg
        out.append(tilt.pose or TiltPose(y_tilt_deg=tilt.nominal_tilt_deg + more, z_rot_deg=axis, x_tilt_deg=x_tilt))
    return tuple(out)


def _movie(series: TiltSeries, tilt: Tilt) -> str:
    """What Warp calls the image: its movie, else a single image, else a name that it could have."""
    single = tilt.image if tilt.image and "@" not in tilt.image else None
    return tilt.movie or single or f"{series.name}_{tilt.acquisition:03d}_{tilt.nominal_tilt_deg:.1f}.mrc"


def _movement(geometry: SeriesGeometry, rows: _Rows) -> Movement | None:
    """GridMovement of every row; nothing moves in images that are left out."""
    series = geometry.series
    poses = [p for p, used in zip(rows.poses, rows.used, strict=True) if used]
    found = movement_of(poses, geometry.warp, series.image_shape, series.pixel_size_angstrom)
    if found is None:
        return None
    values = np.zeros((len(rows.tilts), *found.values.shape[1:]))
    values[np.flatnonzero(rows.used)] = found.values  # the tilts of a series are in the same order
    return replace(found, values=values)


def _volume_movement(geometry: SeriesGeometry, rows: _Rows) -> VolumeMovement | None:
    if geometry.volume is None:
        return None
    series = geometry.series
    size = np.array(volume_size(series), dtype=np.float64) * series.pixel_size_angstrom
    middle = np.array([t.pre_exposure + 0.5 * t.dose for t in rows.tilts])
    return volume_movement_of(geometry.volume, size, rows.dose, middle)


def _fits(tilts: Sequence[Tilt]) -> list[CtfFit] | None:
    """Of each image, that of the nearest angle where it has none; None where none has any."""
    known = [(t.nominal_tilt_deg, t.ctf) for t in tilts if t.ctf is not None]
    if not known:
        return None
    return [t.ctf or min(known, key=lambda k: abs(k[0] - t.nominal_tilt_deg))[1] for t in tilts]


def _table(rows: _Rows) -> dict[str, list[object]]:
    return {
        "wrpMovieName": list(rows.movies),
        "wrpAngleTilt": [round(-t.nominal_tilt_deg, 4) + 0.0 for t in rows.tilts],
        "wrpAxisAngle": [
            round(p.z_rot_deg if t.nominal_axis_deg is None else t.nominal_axis_deg, 4)
            for t, p in zip(rows.tilts, rows.poses, strict=True)
        ],
        "wrpDose": [round(float(d), 5) for d in rows.dose],
        "wrpAverageIntensity": [0.0] * len(rows.tilts),
        "wrpMaskedFraction": [0.0] * len(rows.tilts),
    }


def _xml(
    series: TiltSeries, rows: _Rows, level: LevelledPoses, movement: Movement | None, volume: VolumeMovement | None
) -> list[str]:
    n = len(rows.tilts)
    pixel = series.pixel_size_angstrom
    size = np.array(series.image_shape[::-1], dtype=np.float64)
    offset = (size // 2 - size / 2) * pixel  # from our centre to half the image
    image = ", ".join(number(v) for v in size * pixel)
    extent = _volume(series, deformed=volume is not None)
    fits = _fits(rows.tilts) if series.optics is not None else None
    resolutions = [f.max_resolution_angstrom for f in fits or () if np.isfinite(f.max_resolution_angstrom)]
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        f'<TiltSeries DataDirectory="" AreAnglesInverted="{series.hand < 0}" PlaneNormal="0, 0, 1" '
        f'LevelAngleX="{number(level.x_tilt_deg)}" LevelAngleY="0" Bfactor="0" Weight="1" MagnificationCorrection="1, 0, 0, 1" '
        f'VolumeDimensionsAngstrom="{extent}" ImageDimensionsAngstrom="{image}" UnselectFilter="False" '
        f'UnselectManual="" CTFResolutionEstimate="{number(float(np.median(resolutions)) if resolutions else 0.0)}">',
        *column_lines("Angles", [number(-a + 0.0) for a in level.y_tilt_deg]),
        *column_lines("Dose", [number(d) for d in rows.dose]),
        *column_lines("UseTilt", [str(u) for u in rows.used]),
        *column_lines("AxisAngle", [number(a) for a in level.z_rot_deg]),
        *column_lines("AxisOffsetX", [number(p.x_shift_angstrom + offset[0]) for p in rows.poses]),
        *column_lines("AxisOffsetY", [number(p.y_shift_angstrom + offset[1]) for p in rows.poses]),
        *column_lines("MoviePath", rows.movies),
        *column_lines("FOVFraction", ["1"] * n),
    ]
    lines += _ctf_lines(fits, series.optics or Optics(), pixel)
    moved = np.zeros((1, 1, 1, 2)) if movement is None else movement.values
    lines += [*grid_lines("GridMovementX", moved[..., 0]), *grid_lines("GridMovementY", moved[..., 1])]
    lines += volume_lines(np.zeros((1, 1, 1, 1, 3)) if volume is None else volume.values)
    weights, fading = _signal(rows)
    lines += grid_lines("GridDoseBfacs", fading)
    for name in ("GridAngleX", "GridAngleY", "GridAngleZ", "GridDoseBfacsDelta", "GridDoseBfacsAngle"):
        lines += grid_lines(name, np.zeros((1, 1, 1)))
    lines += grid_lines("GridDoseWeights", weights)
    lines += grid_lines("GridLocationBfacs", np.zeros((1, 1, 1)))
    lines += grid_lines("GridLocationWeights", np.ones((1, 1, 1)))
    return [*lines, "</TiltSeries>"]


def _measured(tilts: Sequence[Tilt]) -> bool:
    """Whether the signal of single images was measured."""
    return any(t.signal_scale != 1.0 or t.b_factor_angstrom2 != 0.0 for t in tilts)


def _signal(rows: _Rows) -> tuple[FloatArray, FloatArray]:
    """GridDoseWeights and GridDoseBfacs (image, 1, 1): a grid of more than one point stands for Warp's own cosine and damage."""
    if not _measured(rows.tilts):
        return np.ones((1, 1, 1)), np.zeros((1, 1, 1))
    weights = np.array([t.signal_scale for t in rows.tilts])
    fading = np.array([-_DAMAGE * d - t.b_factor_angstrom2 for d, t in zip(rows.dose, rows.tilts, strict=True)])
    return weights[:, None, None], fading[:, None, None]


def _volume(series: TiltSeries, *, deformed: bool) -> str:
    """In A; zeros, as Warp leaves it, where nothing is known: its settings tell then. Of a deformed specimen, what its grid spans."""
    if series.volume_size_px is None and not deformed:
        return "0, 0, 0"
    size = volume_size(series) if deformed else series.volume_size_px or (0, 0, 0)
    return ", ".join(number(n * series.pixel_size_angstrom) for n in size)


def _ctf_lines(fits: Sequence[CtfFit] | None, optics: Optics, pixel: float) -> list[str]:
    shared = {
        "PixelSize": number(pixel),
        "Voltage": number(optics.voltage_kv),
        "Cs": number(optics.spherical_aberration_mm),
        "Cc": "2.7",
        "Amplitude": number(optics.amplitude_contrast),
    }
    defocus = np.array([f.defocus_angstrom / _UM for f in fits or ()] or [0.0])
    delta = np.array([(f.defocus_u_angstrom - f.defocus_v_angstrom) / _UM for f in fits or ()] or [0.0])
    angle = np.array([f.astigmatism_angle_deg for f in fits or ()] or [0.0])
    phase = np.array([f.phase_shift_deg / 180.0 for f in fits or ()] or [0.0])
    general = shared | {
        "Defocus": number(float(defocus.mean())),
        "DefocusDelta": number(float(delta.mean())),
        "DefocusAngle": number(float(angle[0])),
        "PhaseShift": number(float(phase.mean())),
        "Bfactor": "0",
        "BfactorDelta": "0",
        "BfactorAngle": "0",
        "Scale": "1",
        "BeamTilt": "0,0",
        "BeamTilt2": "1,0,1",
        "PixelSizeDeltaPercent": "0",
        "PixelSizeAngle": "0",
        "Distortion": "1, 0, 0, 1",
        "ZernikeCoeffsOdd": "",
        "ZernikeCoeffsEven": "",
        "Thickness": "0",
    }
    if fits is None:
        return parameter_lines("CTF", general)
    options = shared | {
        "Window": "512",
        "BinTimes": "0",
        "EERGroupFrames": "0",
        "GridDims": "1,1,1",
        "RangeMin": "0.1",
        "RangeMax": "0.6",
        "ZMin": number(max(0.1, float(defocus.min()) - 1.0)),
        "ZMax": number(float(defocus.max()) + 1.0),
        "DoPhase": str(bool(np.any(phase))),
        "UseMovieSum": "False",
    }
    grids = {"GridCTF": defocus, "GridCTFDefocusDelta": delta, "GridCTFDefocusAngle": angle, "GridCTFPhase": phase}
    lines = [*parameter_lines("OptionsCTF", options), *parameter_lines("CTF", general)]
    return lines + [line for name, values in grids.items() for line in grid_lines(name, values[:, None, None])]


def _losses(geometry: SeriesGeometry, rows: _Rows, level: LevelledPoses, movement: Movement | None) -> list[str]:
    series = geometry.series
    out = []
    if geometry.warp is not None and movement is not None:
        out.append(
            f"The local deformation ({movement.rms_angstrom:.2f} A root mean square) became GridMovement on "
            f"{movement.values.shape[2]} x {movement.values.shape[1]} points, which meets it to "
            f"{movement.missed_rms_angstrom:.3f} A ({movement.missed_most_angstrom:.3f} A at most)."
        )
    magnified = [abs(p.magnification - 1.0) for p, u in zip(rows.poses, rows.used, strict=True) if u]
    if max(magnified, default=0.0) > 0:
        out.append(
            f"Warp has no magnification of single images: theirs (up to {100 * max(magnified):.2f}%) became part of GridMovement. "
            "Places in the images are the same; the sizes of particles are not corrected."
        )
    if level.left_deg.max() > _LEFT_TELLS_DEG:
        out.append(
            f"Warp has one x-tilt for all images: {level.x_tilt_deg:.2f} degrees was written as LevelAngleX, and the rotations of "
            f"the images are met to {np.sqrt(np.mean(level.left_deg**2)):.2f} degrees ({level.left_deg.max():.2f} at most)."
        )
    if abs(series.hand) != 1.0:
        out.append(f"Warp's defocus rises or falls with the height itself; the hand {series.hand:g} became its sign.")
    if series.excluded:
        out.append(f"{len(series.excluded)} excluded images are kept with UseTilt False; the reasons are not.")
    return [*out, *_image_losses(series, rows), *_ctf_losses(series)]


def _volume_losses(volume: VolumeMovement | None) -> list[str]:
    if volume is None:
        return []
    w, z, y, x, _ = volume.values.shape
    return [
        f"The deformation of the specimen ({volume.rms_angstrom:.2f} A root mean square) became GridVolumeWarp on {x} x {y} x {z} "
        f"points at {w} doses, which meets it to {volume.missed_rms_angstrom:.3f} A ({volume.missed_most_angstrom:.3f} A at most)."
    ]


def _signal_losses(series: TiltSeries) -> list[str]:
    out = []
    if _measured(series.tilts):
        out.append(
            "Signal and B factor of single images became GridDoseWeights and GridDoseBfacs, with Warp's own damage of "
            f"{_DAMAGE:g} A2 for each e/A2; its cosine of the tilt is not in the weights."
        )
        if any(t.b_factor_angstrom2 < (_LEAST_DAMAGE - _DAMAGE) * t.pre_exposure for t in series.tilts):
            out.append(
                f"Warp takes no B factor of less than {_LEAST_DAMAGE:g} A2 for each e/A2: sharper images become so."
            )
    if series.optics is not None and (any(series.optics.beam_tilt_mrad) or any(series.optics.trefoil_rad_angstrom3)):
        out.append("Beam tilt and trefoil are left out. Refine them in M.")
    return out


def _image_losses(series: TiltSeries, rows: _Rows) -> list[str]:
    out = []
    before = np.array([t.pre_exposure for t in rows.tilts])
    if not np.array_equal(before, rows.dose):
        out.append(
            f"The doses of {series.name} are not all known, and Warp needs different ones: Dose holds the order of the images in "
            f"steps of {_DOSE_STEP:g} e/A2. Set them before weighting by dose."
        )
    if len(rows.tilts) < 2:
        out.append("Warp divides by the number of images less one: it cannot use a series of one image.")
    if any(c.isspace() or c in "&<>" for movie in rows.movies for c in movie):
        out.append("Names of movies hold blanks or one of & < >, which Warp reads otherwise. Rename the files.")
    stacked = [t for t in rows.tilts if t.image and "@" in t.image]
    if stacked:
        out.append(
            f"{len(stacked)} images are sections of a stack. Warp reads one file for each, `average/<movie>.mrc` beside the movie "
            "in MoviePath; write them there."
        )
    if any(t.pose is None for t in series.tilts):
        out.append(f"{series.name} has not been aligned: the stage's angles and axis were written, without shifts.")
    return out


def _ctf_losses(series: TiltSeries) -> list[str]:
    fits = [t.ctf for t in series.tilts if t.ctf is not None]
    if not fits:
        return []
    if series.optics is None:
        return ["The CTF was left out: without optics Warp has no use for it."]
    out = []
    missing = sum(t.ctf is None for t in series.tilts)
    if missing:
        out.append(f"{missing} images have no CTF, and Warp needs one for each: that of the nearest angle was written.")
    resolutions = {f.max_resolution_angstrom for f in fits if np.isfinite(f.max_resolution_angstrom)}
    if len(resolutions) > 1:
        out.append("Warp keeps one resolution of all CTF fits: their median was written.")
    if any(np.isfinite(f.score) for f in fits):
        out.append("Scores of the CTF fits are not kept.")
    return out
