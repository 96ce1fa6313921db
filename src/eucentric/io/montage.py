"""Montages of SerialEM: where each piece lies in the picture and on the stage, from the mdoc file beside the images.

`PieceCoordinates` are the lower left corners of pieces in the montage, x to the right and y up, in pixels;
`AlignedPieceCoords` the same after the overlaps were compared (`...VS`: with a very sloppy montage's larger search) [1]_.

References
----------
.. [1] SerialEM help, "File Formats", section "Image Metadata Files".
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eucentric.errors import FormatError, InputError
from eucentric.io.mdoc import MdocSection, read_mdoc
from eucentric.io.navigator import MapFrame
from eucentric.typing import FloatArray, PathLike

_MOST = 1e12  # pixels or um: more is damage
_ALIGNED = ("AlignedPieceCoordsVS", "AlignedPieceCoords")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Montage:
    """Pieces of one montage, in the order of the file."""

    aligned_px: FloatArray
    """(piece, 2), lower left corners where overlaps fit best; nominal where they were not compared."""
    stage_um: FloatArray
    """(piece, 2), of the stage at each piece: the stage position of its centre."""
    stage_z_um: float
    """Of its first piece; NaN where the file does not tell."""
    tilt_deg: float | None
    """Of its first piece; None where the file does not tell."""
    frame: MapFrame
    """From pixels of the whole montage (aligned) to the stage, by least squares over all pieces."""
    residual_um: float
    """Root mean square distance of stage positions from that frame: errors of stage and montage together."""
    in_file: int
    """Montages that the file holds."""

    def __len__(self) -> int:
        return len(self.aligned_px)


def read_montage(path: PathLike, number: int = 0) -> Montage:
    """One montage of an mdoc file.

    Parameters
    ----------
    number : of several in one file: the third of the piece coordinates

    Raises
    ------
    InputError : no such file, no such montage, or one that was not made by moving the stage
    FormatError : damaged, or an mdoc file of other images
    """
    place = Path(path)
    mdoc = read_mdoc(place)
    pieces = [s for s in mdoc.sections if s.kind in ("ZValue", "Image") and "PieceCoordinates" in s.extra]
    if not pieces or mdoc.image_size is None or len(mdoc.image_size) != 2:
        raise FormatError(f"`{place}` has no PieceCoordinates or no ImageSize. Expected the mdoc file of a montage.")
    corners = np.array([_numbers(s, "PieceCoordinates", 3, place) for s in pieces])
    mine = np.flatnonzero(corners[:, 2] == number)
    if not len(mine):
        have = ", ".join(str(int(n)) for n in np.unique(corners[:, 2]))
        raise InputError(f"`{place}` has no montage {number}; it has {have}.")
    chosen = [pieces[i] for i in mine]
    nominal = corners[mine, :2]
    aligned = np.array([_aligned(s, own, place) for s, own in zip(chosen, nominal, strict=True)])
    stage = np.array([_numbers(s, "StagePosition", 2, place) for s in chosen])
    frame, residual = _fit(aligned, stage, mdoc.image_size, place)
    return Montage(
        aligned_px=aligned,
        stage_um=stage,
        stage_z_um=_height(chosen[0]),
        tilt_deg=chosen[0].tilt_angle_deg,
        frame=frame,
        residual_um=residual,
        in_file=len(np.unique(corners[:, 2])),
    )


def _fit(aligned: FloatArray, stage: FloatArray, size: tuple[int, int], place: Path) -> tuple[MapFrame, float]:
    half = 0.5 * np.array(size, dtype=np.float64)
    centres = aligned + half
    if len(stage) < 2 or np.ptp(stage, axis=0).max() < 1e-3:
        raise InputError(
            f"The pieces in `{place}` share one stage position, so that nothing tells how the stage lies in the picture. "
            "Give a montage that was made by moving the stage, or the navigator file with its map."
        )
    pixels, places = centres - centres.mean(axis=0), stage - stage.mean(axis=0)
    if np.linalg.matrix_rank(pixels, tol=0.25 * min(size)) < 2:
        # one row of pieces leaves only a turn and a scale: the two are taken as equally handed
        z, w = pixels @ np.array([1.0, 1.0j]), places @ np.array([1.0, 1.0j])
        ratio = np.vdot(z, w) / np.vdot(z, z).real
        um_per_pixel = np.array([[ratio.real, -ratio.imag], [ratio.imag, ratio.real]])
    else:
        um_per_pixel = np.linalg.lstsq(pixels, places, rcond=None)[0].T
    if not abs(np.linalg.det(um_per_pixel)) > 0:
        raise FormatError(f"Stage positions and piece coordinates in `{place}` do not belong to one montage.")
    # pixel (0, 0) stays the corner of the first piece before alignment, so that piece coordinates can be used as they are
    high = aligned.max(axis=0) + 2 * half
    middle = stage.mean(axis=0) + (0.5 * high - centres.mean(axis=0)) @ um_per_pixel.T
    frame = MapFrame(stage_um=middle, pixels_per_um=np.linalg.inv(um_per_pixel), size=(float(high[0]), float(high[1])))
    misses = stage - frame.to_stage(centres)
    return frame, float(np.sqrt((misses**2).sum(axis=1).mean()))


def _numbers(section: MdocSection, key: str, count: int, place: Path) -> list[float]:
    text = section.extra.get(key)
    try:
        values = [float(word) for word in (text or "").split()]
    except ValueError:
        values = []
    if len(values) != count or not (np.abs(values) < _MOST).all():  # also what is no number
        said = "has no such entry" if text is None else f"says `{text[:40]}`"
        raise FormatError(
            f"Section {section.label} of `{place}` (line {section.line}) should have {count} numbers as {key}; it {said}."
        )
    return values


def _aligned(section: MdocSection, nominal: FloatArray, place: Path) -> FloatArray:
    key = next((key for key in _ALIGNED if key in section.extra), None)
    return nominal if key is None else np.array(_numbers(section, key, 3, place)[:2])


def _height(section: MdocSection) -> float:
    try:
        height = float(section.extra.get("StageZ", "nan"))
    except ValueError:
        return float("nan")
    return height if abs(height) < _MOST else float("nan")
