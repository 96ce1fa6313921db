"""Alignments that other programs made, in our projection: IMOD, AreTomo, Warp and RELION-5.

One function a program turns its numbers into `ExternalAlignment`; which tilt of a series each view is, and where the
centre of its images lies in ours, is settled when it is attached (`eucentric.pipeline.import_alignment`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from eucentric.errors import FormatError, InputError
from eucentric.geometry import rotation_x, rotation_y, rotation_z
from eucentric.io.aretomo import AretomoAlignment
from eucentric.io.imod import TiltCommand
from eucentric.io.imod_local import ImodLocal
from eucentric.io.tilt_series import read_tilt_series, read_tilt_series_set, tilt_series_names
from eucentric.io.warp_xml import WarpGrid, WarpSeries
from eucentric.models.tilt_series import Tilt
from eucentric.typing import FloatArray, PathLike

Centre = Literal["floor", "half", "middle"]
"""Which pixel of n, counted from 0, shifts are counted from: ``n // 2``, ``n / 2`` or ``(n - 1) / 2``."""

_STRETCH = 1e-3  # a transform that is no rotation and magnification by more than this is told
_NO_ROTATION = 1e-6
_EDGE_ON = 0.05  # cosine of a tilt past which a plane of the specimen is seen as a line


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalView:
    """One view of an external alignment, in our projection."""

    listed_deg: float
    """Angle of the stage as far as the files tell: what views are found by."""
    y_tilt_deg: float
    z_rot_deg: float
    x_tilt_deg: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)
    """x and y, in the unit of the alignment, from the centre of the image."""
    magnification: float = 1.0
    section: int | None = None
    """Position in the stack that was aligned, from 0; None where unknown."""
    names: tuple[str, ...] = ()
    """Names of its movie and image without folder and ending; empty where unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOutView:
    """A view that the other program left out."""

    reason: str
    listed_deg: float | None = None
    section: int | None = None
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LocalField:
    """Local deformation of an external alignment."""

    at: Callable[[int, FloatArray, tuple[float, float]], FloatArray]
    """Of view number, places (n, 2) from the image's centre and image size (x, y), all in the alignment's unit: what is to be
    added to the place (n, 2)."""
    grid: tuple[int, int]
    """(y, x) points that follow it well."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExternalAlignment:
    """What another program found for one tilt series."""

    source: str
    """Program and file, for messages and reports."""
    views: tuple[ExternalView, ...]
    left_out: tuple[LeftOutView, ...] = ()
    unit: Literal["pixel", "angstrom"] = "angstrom"
    """Of the shifts."""
    centre: Centre = "floor"
    pixel_size_angstrom: float | None = None
    """Of the images that were aligned, where the files or the user tell."""
    image_size: tuple[int, int] | None = None
    """(x, y) of the images that were aligned, where the files tell."""
    section_count: int | None = None
    """Images of the stack that was aligned, with those left out."""
    thickness: float | None = None
    """Of the specimen, in the unit of the shifts."""
    local: LocalField | None = None
    signs_known: bool = True
    """False where the listed angles may be the stage's with the sign turned."""
    caveats: tuple[str, ...] = ()


def _names(*names: str | None) -> tuple[str, ...]:
    """Names without folder and ending; sections of a stack have none of their own."""
    return tuple(dict.fromkeys(movie_stem(name) for name in names if name and "@" not in name))


def movie_stem(name: str) -> str:
    """A movie's or image's name without folder and ending, as views are found by."""
    last = Path(name.replace("\\", "/").strip()).name
    for ending in (".mrc", ".mrcs", ".tif", ".tiff", ".eer", ".st", ".dm4", ".em"):
        if last.lower().endswith(ending):
            return last[: -len(ending)]
    return last


def from_imod(
    matrices: FloatArray,
    shifts_px: FloatArray,
    tilts_deg: FloatArray,
    *,
    source: str,
    x_tilts_deg: FloatArray | None = None,
    listed_deg: FloatArray | None = None,
    command: TiltCommand | None = None,
    cut_deg: Sequence[float] = (),
    local: ImodLocal | None = None,
) -> ExternalAlignment:
    """An alignment of IMOD: x' = A x + d from raw to aligned images, which `tilt` then projects.

    `tilt` puts a point (x, y, z) of the reconstruction (turned about x so that z points up; trimvol -rx) at ``x cos a + (y sin b +
    z cos b) sin a, y cos b - z sin b`` in the aligned image, with a = tilt + OFFSET, b = x-tilt - XAXISTILT: our
    projection without axis and shift. A^-1 holds the axis and the magnification.

    Parameters
    ----------
    matrices, shifts_px : (view, 2, 2) and (view, 2), as `read_transforms` gives them
    tilts_deg, x_tilts_deg : (view,), of the `.tlt` and `.xtilt`
    listed_deg : (view,), of the `.rawtlt`
    command : `tilt.com`
    cut_deg : angles of views that were cut out of the stack (`_cutviews0.rawtlt`)
    local : LOCALFILE, in pixels of the stack

    Raises
    ------
    FormatError : lists of unequal length, or a transform that mirrors or cannot be turned round
    """
    n = len(matrices)
    command = command or TiltCommand()
    x_tilts = np.zeros(n) if x_tilts_deg is None else x_tilts_deg
    if len(tilts_deg) != n or len(x_tilts) != n:
        raise FormatError(
            f"{source} has {n} transforms, {len(tilts_deg)} tilts and {len(x_tilts)} x-tilts; expected as many."
        )
    determinants = np.linalg.det(matrices)
    if not (np.isfinite(determinants) & (determinants > 1e-6)).all():
        raise FormatError(f"{source} has a transform that mirrors the image or flattens it; expected rotations.")
    inverse = np.asarray(np.linalg.inv(matrices), dtype=np.float64)
    magnification = 1.0 / np.sqrt(np.asarray(determinants, dtype=np.float64))
    axis = np.arctan2(inverse[:, 1, 0] - inverse[:, 0, 1], inverse[:, 0, 0] + inverse[:, 1, 1])
    y_tilt = tilts_deg + command.angle_offset_deg
    x_tilt = x_tilts - command.x_axis_tilt_deg
    # The middle of the reconstruction lies beside and above the tilt axis by OFFSET and SHIFT.
    centre = np.array([-command.axis_offset_px - command.shift_x_px, 0.0, command.shift_z_px])
    seen = (rotation_y(y_tilt) @ rotation_x(x_tilt) @ centre)[:, :2] + np.array([command.axis_offset_px, 0.0])
    shift = np.einsum("vij,vj->vi", inverse, seen - shifts_px)
    left_out = {i: "left out in IMOD (EXCLUDELIST)" for i in command.excluded if i < n}
    left_out |= {
        i: "it has no transform in IMOD" for i in _without_transform(matrices, shifts_px, axis) if i not in left_out
    }
    listed = tilts_deg if listed_deg is None or len(listed_deg) != n else listed_deg
    sure = not len(cut_deg)
    kept = [i for i in range(n) if i not in left_out]
    return ExternalAlignment(
        source=source,
        views=tuple(
            ExternalView(
                listed_deg=float(listed[i]),
                y_tilt_deg=float(y_tilt[i]),
                z_rot_deg=float(np.degrees(axis[i])),
                x_tilt_deg=float(x_tilt[i]),
                shift=(float(shift[i, 0]), float(shift[i, 1])),
                magnification=float(magnification[i]),
                section=i if sure else None,
            )
            for i in kept
        ),
        left_out=(
            *(
                LeftOutView(reason=why, listed_deg=float(listed[i]), section=i if sure else None)
                for i, why in left_out.items()
            ),
            *(LeftOutView(reason="cut out of the stack in IMOD", listed_deg=float(a)) for a in cut_deg),
        ),
        unit="pixel",
        centre="middle",
        image_size=None,
        section_count=n if sure else None,
        local=None if local is None else _imod_field(local, kept, matrices, shifts_px, y_tilt, x_tilt, command, axis),
        caveats=_imod_caveats(inverse, magnification, axis, command, local),
    )


def is_turned(axis_deg: float) -> bool:
    """Whether the tilt axis lies nearer to the x axis of the images than to y: etomo then swaps the sizes of aligned images."""
    return 45.0 < abs((axis_deg + 180.0) % 360.0 - 180.0) < 135.0


def _imod_field(
    local: ImodLocal,
    kept: Sequence[int],
    matrices: FloatArray,
    shifts_px: FloatArray,
    y_tilt: FloatArray,
    x_tilt: FloatArray,
    command: TiltCommand,
    axis: FloatArray,
) -> LocalField:
    turned = is_turned(float(np.rad2deg(np.median(axis))))

    def at(view: int, places: FloatArray, size: tuple[float, float]) -> FloatArray:
        aligned = command.full_image or (size[::-1] if turned else size)
        i = kept[view]
        return local.displacement_in_image(
            i, places, float(y_tilt[i]), float(x_tilt[i]), aligned, (matrices[i], shifts_px[i])
        )

    gy, gx = (2 * n + 1 for n in local.areas)
    return LocalField(at=at, grid=(gx, gy) if turned else (gy, gx))


def _without_transform(matrices: FloatArray, shifts: FloatArray, axis: FloatArray) -> list[int]:
    """Views that stand in the list with no transform at all, where the others are rotated."""
    nothing = (np.abs(matrices - np.eye(2)).max(axis=(1, 2)) < _NO_ROTATION) & (
        np.abs(shifts).max(axis=1) < _NO_ROTATION
    )
    if nothing.all() or abs(float(np.median(axis[~nothing]))) < np.deg2rad(1.0):
        return []
    return np.flatnonzero(nothing).tolist()


def _imod_caveats(
    inverse: FloatArray, magnification: FloatArray, axis: FloatArray, command: TiltCommand, local: ImodLocal | None
) -> tuple[str, ...]:
    caveats = []
    cos, sin = np.cos(axis), np.sin(axis)
    turn = np.stack([np.stack([cos, -sin], 1), np.stack([sin, cos], 1)], 1)
    stretch = float(np.abs(inverse - magnification[:, None, None] * turn).max())
    if stretch > _STRETCH:
        caveats.append(
            f"The images were also stretched in IMOD, by up to {100 * stretch:.1f}%; this was not taken over."
        )
    if local is not None:
        if np.any(local.tilts_deg) or np.any(local.x_tilts_deg) or local.has_z_factors:
            caveats.append(
                "Of the local alignment (LOCALFILE), shifts at the height of the tilt axis were taken over, but no local angles."
            )
    elif command.has_local:
        caveats.append("The local alignment (LOCALFILE) was not taken over, only that of whole images.")
    if command.has_z_factors:
        caveats.append("The z factors (ZFACTORFILE) were not taken over.")
    return tuple(caveats)


def from_aretomo(alignment: AretomoAlignment, *, source: str) -> ExternalAlignment:
    """An alignment of AreTomo 2 or 3 (see `eucentric.io.aretomo`)."""
    sure = alignment.sections_are_sure
    patches = alignment.patches
    kept = alignment.tilts_deg - alignment.alpha_offset_deg

    def local(view: int, places: FloatArray, size: tuple[float, float]) -> FloatArray:
        del size  # patches are weighted over the images that were aligned
        if patches is None:
            return np.zeros_like(places)
        return patches.at(view, places - alignment.shifts_px[view], alignment.image_size)

    return ExternalAlignment(
        source=source,
        views=tuple(
            ExternalView(
                listed_deg=float(kept[i]),
                y_tilt_deg=float(alignment.tilts_deg[i]),
                z_rot_deg=float(alignment.axis_deg[i]),
                shift=(float(alignment.shifts_px[i, 0]), float(alignment.shifts_px[i, 1])),
                section=int(alignment.sections[i]) if sure else None,
            )
            for i in range(len(kept))
        ),
        left_out=tuple(
            LeftOutView(
                reason="dark, says AreTomo",
                listed_deg=angle - alignment.alpha_offset_deg,
                section=section if sure else None,
            )
            for section, angle in zip(alignment.dark_sections, alignment.dark_tilts_deg, strict=True)
        ),
        unit="pixel",
        centre="middle",
        image_size=alignment.image_size,
        section_count=alignment.section_count,
        thickness=None if alignment.thickness_px is None else float(alignment.thickness_px),
        # The patches' weights fall to 1/e over a tenth of the image.
        local=None if patches is None or not patches.good.any() else LocalField(at=local, grid=(15, 15)),
    )


def from_warp(series: WarpSeries, *, source: str) -> ExternalAlignment:
    """An alignment of Warp or M (see `eucentric.io.warp_xml`)."""
    n = len(series.angles_deg)
    used = np.flatnonzero(series.use)
    y_tilt = -(series.angles_deg + series.level_y_deg)
    names = [_names(movie) for movie in series.movies] or [()] * n
    caveats = []
    if series.volume_warp is not None:
        rms, most = series.volume_warp.off_mid_height_angstrom()
        caveats.append(
            "The deformation of the specimen in 3D (GridVolumeWarp) was taken over as it is seen at half the height of the "
            f"volume; above and below it differs by {rms:.1f} A (root mean square; {most:.1f} A at most), and heights stay."
        )
    if series.magnification_text:
        caveats.append(f"The correction of magnification ({series.magnification_text}) was not taken over.")
    return ExternalAlignment(
        source=source,
        views=tuple(
            ExternalView(
                listed_deg=float(-series.angles_deg[i]),
                y_tilt_deg=float(y_tilt[i]),
                z_rot_deg=float(series.axis_deg[i]),
                x_tilt_deg=series.level_x_deg,
                shift=(float(series.shifts_angstrom[i, 0]), float(series.shifts_angstrom[i, 1])),
                names=names[i],
            )
            for i in used
        ),
        left_out=tuple(
            LeftOutView(reason="left out in Warp", listed_deg=float(-series.angles_deg[i]), names=names[i])
            for i in np.flatnonzero(~series.use)
        ),
        centre="half",
        local=_warp_field(series, used.tolist(), n),
        signs_known=False,  # most series have the mdoc's angles negated, but not all
        caveats=tuple(caveats),
    )


def _warp_field(series: WarpSeries, used: Sequence[int], count: int) -> LocalField | None:
    grids: list[WarpGrid | None] = [series.movement_x, series.movement_y]
    shapes = [g.values.shape[1:] for g in grids if g is not None]
    if not shapes and series.volume_warp is None:
        return None
    # Its points end at the image's edge, ours at the middle of the last pixel: more of them follow it closely.
    y, x = (max((shape[axis] for shape in shapes), default=1) for axis in (0, 1))
    finer = [n if n < 3 else 4 * n - 3 for n in (y, x)]
    if series.volume_warp is not None:  # linear pieces, turned by the axis
        finer = [max(n, 16 * max(series.volume_warp.values.shape[3:]) - 15) for n in finer]

    def local(view: int, places: FloatArray, size: tuple[float, float]) -> FloatArray:
        image = series.image_size_angstrom or size
        bent = _warp_bent(series, used[view], places, image)
        positions = (places + bent) / np.array(image) + 0.5
        when = used[view] / max(1, count - 1)
        parts = [np.zeros(len(places)) if g is None else -g.at(when, positions) for g in grids]
        return bent + np.stack(parts, axis=1)

    return LocalField(at=local, grid=(finer[0], finer[1]))


def _warp_bent(series: WarpSeries, row: int, places: FloatArray, image: tuple[float, float]) -> FloatArray:
    """(n, 2) in A: what GridVolumeWarp adds to the places in an image of points at half the height of the volume."""
    if series.volume_warp is None:
        return np.zeros_like(places)
    y_tilt = -(series.angles_deg[row] + series.level_y_deg)
    turn = rotation_z(series.axis_deg[row]) @ rotation_y(y_tilt) @ rotation_x(series.level_x_deg)
    if abs(turn[2, 2]) < _EDGE_ON:
        return np.zeros_like(places)
    points = (places - series.shifts_angstrom[row]) @ np.linalg.inv(turn[:2, :2]).T
    extent = np.array((series.volume_size_angstrom or (*image, 1.0))[:2])
    dose = series.dose if len(series.dose) else np.zeros(len(series.angles_deg))
    when = (dose[row] - dose.min()) / (np.ptp(dose) or 1.0)
    at = np.column_stack([points / extent + 0.5, np.full((len(points), 2), (0.5, when))])
    bent: FloatArray = series.volume_warp.at(at) @ turn[:2].T
    return bent


def from_relion(path: PathLike, name: str, project_root: PathLike | None = None) -> ExternalAlignment:
    """The poses in a RELION-5 table of tilt series (`aligned_tilt_series.star`, `tomograms.star`).

    Parameters
    ----------
    name : of the tilt series; of a table with a single series it need not match
    project_root : folder that paths in the table start from; else the nearest above the table from which they are found

    Raises
    ------
    InputError : no such file or series, or one without poses
    FormatError : not a RELION-5 table, or it names a table that is not there
    """
    place = Path(path)
    known = tilt_series_names(place)
    if name not in known and len(known) != 1:
        raise InputError(f"`{place}` has no tilt series called {name}. It has {', '.join(known[:6])}.")
    roots = [Path(project_root)] if project_root is not None else [*place.resolve().parents][:6]
    series = None
    for root in roots:
        try:
            series = read_tilt_series(place, name, root) if name in known else read_tilt_series_set(place, root)[0]
        except FormatError:
            if root == roots[-1]:
                raise
            continue
        break
    posed = [] if series is None else [(t, t.pose) for t in series.tilts if t.pose is not None]
    if series is None or not posed:
        raise InputError(
            f"`{place}` has no alignment of {name}: its tilts have no rlnTomoYTilt. Give the table made by Align."
        )
    return ExternalAlignment(
        source=f"RELION ({place.name})",
        views=tuple(
            ExternalView(
                listed_deg=tilt.nominal_tilt_deg,
                y_tilt_deg=pose.y_tilt_deg,
                z_rot_deg=pose.z_rot_deg,
                x_tilt_deg=pose.x_tilt_deg,
                shift=(pose.x_shift_angstrom, pose.y_shift_angstrom),
                magnification=pose.magnification,
                names=_tilt_names(tilt),
            )
            for tilt, pose in posed
        ),
        left_out=tuple(
            LeftOutView(reason=e.reason, listed_deg=e.tilt.nominal_tilt_deg, names=_tilt_names(e.tilt))
            for e in series.excluded
        ),
        pixel_size_angstrom=series.pixel_size_angstrom,
        thickness=series.thickness_angstrom,
        caveats=("The local deformation named in the table was not taken over.",) if series.warp else (),
    )


def _tilt_names(tilt: Tilt) -> tuple[str, ...]:
    return _names(tilt.movie, tilt.image)
