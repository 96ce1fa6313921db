"""Faces of the specimen that people marked: `curation/levels/<series>.star`, and the specimen they make."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from eucentric.errors import FormatError
from eucentric.io import labels
from eucentric.io.star import read_star_text, write_star
from eucentric.models.specimen import Specimen
from eucentric.models.tilt_series import TiltSeries
from eucentric.pipeline.levelling import SpecimenFindings, level_by
from eucentric.pipeline.repair_frames import DrawingFrame, frame_blocks, frame_from_blocks, motion_between
from eucentric.pipeline.repair_paths import levels_file
from eucentric.reconstruction.slab_from_points import MarkedSlab, slab_from_points
from eucentric.typing import FloatArray

_FACES = ("top", "bottom")
_COORDINATES = tuple(f"rlnCenteredCoordinate{a}Angst" for a in "XYZ")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MarkedFaces:
    """Points on the faces of a specimen, in the frame that they were marked in."""

    top_angstrom: FloatArray
    """(n, 3)."""
    bottom_angstrom: FloatArray
    """(m, 3)."""
    frame: DrawingFrame

    def slab(self, x_tilt_deg: float = 0.0, y_tilt_deg: float = 0.0) -> MarkedSlab:
        """The slab that they mark; parameters and errors as `slab_from_points`."""
        return slab_from_points(
            self.top_angstrom,
            self.bottom_angstrom,
            sigma_angstrom=0.5 * self.frame.grid.voxel_size_angstrom,
            x_tilt_deg=x_tilt_deg,
            y_tilt_deg=y_tilt_deg,
        )


def write_faces(root: Path, series: str, faces: MarkedFaces) -> Path:
    """Write the file of a series."""
    path = levels_file(root, series)
    points = np.concatenate([faces.top_angstrom, faces.bottom_angstrom])
    side = ["top"] * len(faces.top_angstrom) + ["bottom"] * len(faces.bottom_angstrom)
    table: dict[str, list[object]] = {labels.FACE: list(side)}
    table |= {name: points[:, i].tolist() for i, name in enumerate(_COORDINATES)}
    write_star(path, {"faces": table, **frame_blocks(faces.frame)})
    return path


def read_faces(root: Path, series: str) -> MarkedFaces | None:
    """What was marked; None where nothing was.

    Raises
    ------
    FormatError : the file is damaged
    """
    path = levels_file(root, series)
    if not path.is_file():
        return None
    tables = read_star_text(path)
    try:
        table = tables["faces"]
        side = np.array([str(v) for v in table[labels.FACE]])
        points = np.column_stack([[float(v or "") for v in table[name]] for name in _COORDINATES])
    except (KeyError, ValueError) as error:
        raise FormatError(f"`{path}` does not hold the faces of a specimen: {error}. Mark them again.") from error
    if not np.isin(side, _FACES).all():
        raise FormatError(f"`{path}` names a face that is neither top nor bottom. Correct that row.")
    top, bottom = (points[side == name] for name in _FACES)
    return MarkedFaces(top_angstrom=top, bottom_angstrom=bottom, frame=frame_from_blocks(tables, path))


def level_as_marked(
    series: TiltSeries, faces: MarkedFaces, poses: DrawingFrame
) -> tuple[TiltSeries, dict[str, float], tuple[str, ...]]:
    """The series in the frame in which the marked slab lies flat in the middle; figures and caveats.

    Inclinations that the marks do not tell are those that were measured.

    Parameters
    ----------
    poses : the frame of the series as it is now

    Raises
    ------
    InputError : marks that make no slab, or of another series
    """
    known = series.specimen
    motion = motion_between(faces.frame, poses, series.name)
    carried = replace(faces, top_angstrom=motion(faces.top_angstrom), bottom_angstrom=motion(faces.bottom_angstrom))
    marked = carried.slab(
        x_tilt_deg=0.0 if known is None else known.x_tilt_deg, y_tilt_deg=0.0 if known is None else known.y_tilt_deg
    )
    slab = marked.slab
    specimen = replace(
        known or Specimen(),
        thickness_angstrom=slab.thickness_angstrom,
        # faces as told: nothing is added for doubt
        thickness_sigma_angstrom=0.0,
        x_tilt_deg=slab.x_tilt_deg,
        y_tilt_deg=slab.y_tilt_deg,
        z_angstrom=slab.z_angstrom,
        z_sigma_angstrom=slab.z_sigma_angstrom,
    )
    found = SpecimenFindings(specimen=specimen, slab=slab, metrics={}, caveats=())
    count = len(faces.top_angstrom) + len(faces.bottom_angstrom)
    metrics = {
        "levels_by_hand": float(count),
        "levels_rms_angstrom": marked.rms_angstrom,
        "inclination_x_deg": slab.x_tilt_deg,
        "inclination_y_deg": slab.y_tilt_deg,
        "height_angstrom": slab.z_angstrom,
        "thickness_angstrom": slab.thickness_angstrom,
    }
    return level_by(series, found, as_told=True), metrics, _words(marked, count, motion.rms_angstrom, known)


def _words(marked: MarkedSlab, count: int, moved_rms: float, known: Specimen | None) -> tuple[str, ...]:
    slab = marked.slab
    words = [
        f"The faces of the specimen were set by hand ({count} points, {marked.rms_angstrom:.0f} A from them): thickness "
        f"{slab.thickness_angstrom:.0f} A, inclination {slab.x_tilt_deg:.1f} across and {slab.y_tilt_deg:.1f} degrees about "
        "the tilt axis."
    ]
    if not all(marked.pitched):
        which = " and ".join(n for n, told in zip(("about", "across"), marked.pitched, strict=True) if not told)
        source = "taken as none" if known is None else "kept as it was measured"
        words.append(f"The points do not tell the inclination {which} the tilt axis: it was {source}.")
    if marked.wedge_deg:
        words.append(f"The faces lean by {marked.wedge_deg:.1f} degrees against each other: the slab holds both.")
    if moved_rms > 0.0:
        words.append(f"The points were carried from an earlier alignment ({moved_rms:.1f} A).")
    return tuple(words)
