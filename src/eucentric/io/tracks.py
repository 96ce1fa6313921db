"""Tracks of points over a tilt series: as STAR, as IMOD models (`.fid`, `.mod`), and from PyTom's marker tables."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eucentric.errors import FormatError, InputError, ShapeError
from eucentric.io import labels
from eucentric.io.imod_models import read_imod_model, write_imod_model
from eucentric.io.star import read_star_text, write_star
from eucentric.models.tracks import Tracks
from eucentric.typing import FloatArray, PathLike

_BLOCK = "tracks"
_MOST = 1e15  # larger numbers are damage
_MISSING_PX = -1.0  # where PyTom's tables have no position


def write_tracks(
    path: PathLike,
    tracks: Tracks,
    acquisitions: Sequence[int],
    images: Sequence[str] | None = None,
    *,
    by_hand: NDArray[np.bool_] | None = None,
) -> None:
    """Write tracks as a STAR table that can be edited by hand: one row an observation.

    Parameters
    ----------
    acquisitions : `Tilt.acquisition` of every tilt that `tracks.tilts` counts, so that rows find their images after tilts
        have been left out
    images : `Tilt.image` of the same, for the reader's eye
    by_hand : (observation,) which of them a person set

    Raises
    ------
    ShapeError : a track in a tilt without an acquisition, images for other tilts, or marks of other observations
    InputError, BackendError : the place cannot be written to, or the disk is full
    """
    if len(tracks) and (tracks.tilts.max() >= len(acquisitions) or tracks.tilts.min() < 0):
        raise ShapeError(
            f"Tracks in tilts up to {tracks.tilts.max()} were given, but {len(acquisitions)} acquisitions."
        )
    if images is not None and len(images) != len(acquisitions):
        raise ShapeError(f"{len(images)} images and {len(acquisitions)} acquisitions were given; expected as many.")
    if by_hand is not None and by_hand.shape != (len(tracks),):
        raise ShapeError(f"{by_hand.shape} marks were given for {len(tracks)} observations; expected as many.")
    order = np.lexsort((tracks.tilts, tracks.points))
    tilts = tracks.tilts[order]
    sigma = np.sqrt(np.maximum(np.diagonal(tracks.covariance, axis1=1, axis2=2)[order], 0.0))
    product = sigma[:, 0] * sigma[:, 1]
    correlation = np.divide(tracks.covariance[order, 0, 1], product, out=np.zeros(len(order)), where=product > 0)
    table: dict[str, list[object]] = {
        labels.TRACK_POINT: tracks.points[order].tolist(),
        labels.ACQUISITION: [int(acquisitions[t]) for t in tilts],
        labels.TRACK_X: tracks.positions_angstrom[order, 0].tolist(),
        labels.TRACK_Y: tracks.positions_angstrom[order, 1].tolist(),
        labels.TRACK_SIGMA_X: sigma[:, 0].tolist(),
        labels.TRACK_SIGMA_Y: sigma[:, 1].tolist(),
    }
    if np.any(correlation):
        table[labels.TRACK_CORRELATION] = correlation.tolist()
    if by_hand is not None:
        table[labels.TRACK_BY_HAND] = by_hand[order].astype(int).tolist()
    if images is not None:
        table["rlnMicrographName"] = [images[t] for t in tilts]
    write_star(path, {_BLOCK: table})


def read_tracks(path: PathLike, acquisitions: Sequence[int]) -> Tracks:
    """Tracks of a STAR table as `write_tracks` makes it.

    Rows of images that are not asked for are passed over. Where the table has no standard deviations they are 1 A, and
    where it has no correlation of x and y that is 0.

    Parameters
    ----------
    acquisitions : `Tilt.acquisition` of the tilts, in the order that `Tracks.tilts` is to count

    Raises
    ------
    InputError : no such file, or no row of these tilts
    FormatError : another kind of table, a value that is no number, or a point twice in an image
    """
    place = Path(path)
    table = next(iter(read_star_text(place).values()))
    needed = (labels.TRACK_POINT, labels.ACQUISITION, labels.TRACK_X, labels.TRACK_Y)
    missing = [name for name in needed if name not in table]
    if missing:
        raise FormatError(f"`{place}` has no column {', '.join(missing)}; expected a table of tracks.")
    where = {int(a): i for i, a in enumerate(acquisitions)}
    acquisition = _column(table, labels.ACQUISITION, place).astype(np.int64)
    keep = np.isin(acquisition, list(where))
    if not keep.any():
        raise InputError(f"`{place}` has no track in the tilts of this series. Give the table that belongs to it.")
    points = _column(table, labels.TRACK_POINT, place).astype(np.int64)[keep]
    tilts = np.array([where[int(a)] for a in acquisition[keep]], dtype=np.int64)
    _no_doubles(points, tilts, place)
    ones = np.ones(len(acquisition))
    sigma_x, sigma_y = (
        _column(table, name, place) if name in table else ones for name in (labels.TRACK_SIGMA_X, labels.TRACK_SIGMA_Y)
    )
    correlation = _column(table, labels.TRACK_CORRELATION, place) if labels.TRACK_CORRELATION in table else 0.0 * ones
    mixed = correlation * sigma_x * sigma_y
    covariance = np.stack([np.stack([sigma_x**2, mixed], 1), np.stack([mixed, sigma_y**2], 1)], 1)
    positions = np.stack([_column(table, labels.TRACK_X, place), _column(table, labels.TRACK_Y, place)], axis=1)
    return Tracks(points=points, tilts=tilts, positions_angstrom=positions[keep], covariance=covariance[keep])


def read_tracks_by_hand(path: PathLike) -> set[tuple[int, int]]:
    """Observations of a table that a person set, each as its point and acquisition; none where it does not say.

    Raises
    ------
    InputError : no such file
    FormatError : a value that is no number
    """
    place = Path(path)
    table = next(iter(read_star_text(place).values()))
    names = (labels.TRACK_POINT, labels.ACQUISITION, labels.TRACK_BY_HAND)
    if any(name not in table for name in names):
        return set()
    points, acquisitions, marks = (_column(table, name, place).astype(np.int64).tolist() for name in names)
    return {(p, a) for p, a, mark in zip(points, acquisitions, marks, strict=True) if mark}


def _column(table: dict[str, list[str | None]], name: str, place: Path) -> FloatArray:
    values = []
    for number, text in enumerate(table[name], 1):
        try:
            value = float(text or "")
        except ValueError:
            value = math.nan
        if not abs(value) < _MOST:
            raise FormatError(f"Row {number} of `{place}` has `{str(text)[:60]}` for {name}; expected a number.")
        values.append(value)
    return np.array(values, dtype=np.float64)


def _no_doubles(points: NDArray[np.int64], tilts: NDArray[np.int64], place: Path) -> None:
    pairs, counts = np.unique(np.stack([points, tilts], axis=1), axis=0, return_counts=True)
    if (counts > 1).any():
        point, tilt = pairs[counts > 1][0]
        raise FormatError(
            f"`{place}` has point {point} twice in the image at position {tilt} (from 0). Remove one of them."
        )


def tracks_from_pixels(
    points: NDArray[np.int64],
    tilts: NDArray[np.int64],
    positions_px: FloatArray,
    *,
    image_shape: tuple[int, int],
    pixel_size: float,
    sigma_px: float = 1.0,
) -> Tracks:
    """Tracks from positions in pixels counted from 0 at the centre of the first pixel; arguments as `Tracks` has them.

    Parameters
    ----------
    image_shape : (y, x) of the images the positions belong to
    pixel_size : A, of the same
    sigma_px : one standard deviation of a component
    """
    centre = np.array([image_shape[1] // 2, image_shape[0] // 2])
    return Tracks.build(
        points, tilts, (np.asarray(positions_px) - centre) * pixel_size, sigma_angstrom=sigma_px * pixel_size
    )


def pixels_from_tracks(tracks: Tracks, *, image_shape: tuple[int, int], pixel_size: float) -> FloatArray:
    """(observation, 2): x and y in pixels of images of that size (y, x), from 0 at the centre of the first pixel."""
    centre = np.array([image_shape[1] // 2, image_shape[0] // 2])
    out: FloatArray = tracks.positions_angstrom / pixel_size + centre
    return out


def write_tracks_model(
    path: PathLike, tracks: Tracks, *, image_shape: tuple[int, int], pixel_size: float, sections: Sequence[int]
) -> None:
    """Write tracks as an IMOD fiducial model: a contour a point, in pixels of a stack of the images as they are.

    Parameters
    ----------
    image_shape : (y, x) of the images of the stack
    pixel_size : A, of the same
    sections : for every tilt that `tracks.tilts` counts, its section in the stack, from 0

    Raises
    ------
    ShapeError : a track in a tilt without a section
    InputError, BackendError : the place cannot be written to, or the disk is full
    """
    if len(tracks) and tracks.tilts.max() >= len(sections):
        raise ShapeError(f"Tracks in tilts up to {tracks.tilts.max()} were given, but {len(sections)} sections.")
    places = pixels_from_tracks(tracks, image_shape=image_shape, pixel_size=pixel_size) + 0.5
    z = np.array([sections[t] for t in tracks.tilts], dtype=np.float64)
    contours = []
    for point in tracks.names:
        rows = np.flatnonzero(tracks.points == point)
        rows = rows[np.argsort(z[rows], kind="stable")]
        contours.append(np.column_stack([places[rows], z[rows]]))
    size = (image_shape[1], image_shape[0], max(sections, default=0) + 1)
    write_imod_model(path, [contours], size, pixel_size, ["fiducials"])


def read_tracks_model(
    path: PathLike,
    *,
    image_shape: tuple[int, int],
    pixel_size: float,
    sections: Sequence[int],
    sigma_px: float = 1.0,
    before: tuple[FloatArray, FloatArray] | None = None,
) -> Tracks:
    """Tracks of an IMOD fiducial model: every contour of every object is a point.

    A model drawn on a binned stack is scaled by the pixel size it records, or else by the widths of the stacks. Etomo's
    models lie on the pre-aligned stack: give its transforms as `before`.

    Parameters
    ----------
    image_shape : (y, x) of the series' images
    pixel_size : A, of the same
    sections : for every tilt of the series its section in the model's stack, from 0; points in others are passed over
    sigma_px : one standard deviation of a component, in pixels of the model's stack
    before : matrices (section, 2, 2) and shifts (section, 2) in pixels of the series' images (`read_transforms` of the
        `.prexg`), which brought the images onto the model's stack

    Raises
    ------
    InputError : no such file, or no point in these sections
    FormatError : not an IMOD model; a contour twice in a section
    """
    place = Path(path)
    model = read_imod_model(place)
    step = _model_pixel(model.pixel_size_angstrom, model.image_size[0], image_shape[1], pixel_size)
    where = {int(s): t for t, s in enumerate(sections)}
    points, tilts, rows = [], [], []
    for index, contour in enumerate(c for contours in model.objects for c in contours):
        for x, y, z in contour:
            section = int(np.floor(z + 0.5))
            if section in where:
                points.append(index)
                tilts.append(where[section])
                rows.append((x, y, section))
    if not rows:
        raise InputError(f"`{place}` has no point in the sections of this series. Give the model that belongs to it.")
    _no_doubles(np.array(points), np.array(tilts), place)
    table = np.array(rows, dtype=np.float64)
    width, height = model.image_size[:2]
    size = np.array([width, height]) if min(width, height) > 0 else np.array(image_shape[::-1]) * (pixel_size / step)
    from_middle = (table[:, :2] - size / 2.0) * step
    if before is not None:
        matrices, shifts = before
        which = table[:, 2].astype(np.int64)
        if which.max() >= len(matrices):
            raise InputError(
                f"`{place}` has points in section {which.max()} (from 0), but {len(matrices)} transforms were given."
            )
        moved = from_middle - shifts[which] * pixel_size
        from_middle = np.asarray(np.linalg.solve(matrices[which], moved[..., None])[..., 0], dtype=np.float64)
    n = np.array(image_shape[::-1])
    return Tracks.build(
        points, tilts, from_middle + ((n - 1) / 2.0 - n // 2) * pixel_size, sigma_angstrom=sigma_px * step
    )


def _model_pixel(recorded: float | None, width: int, our_width: int, our_pixel: float) -> float:
    """A a pixel of the model's stack."""
    if width > 0 and recorded is not None:
        # A pixel size is often missing from headers and then 1 A: where it contradicts the width of the field, that counts.
        if abs(width * recorded / (our_width * our_pixel) - 1.0) < 0.1:
            return recorded
        return our_pixel * our_width / width
    if recorded is not None:
        return recorded
    return our_pixel * our_width / width if width > 0 else our_pixel


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MarkerTable:
    """Markers as PyTom lists them, one row an observation; markers that were not found are left out."""

    points: NDArray[np.int64]
    angles_deg: FloatArray
    """Of the image, as listed."""
    positions_px: FloatArray
    """(observation, 2), x and y in pixels, from 0 at the centre of the first pixel."""

    def tracks(
        self,
        tilts_deg: Sequence[float] | FloatArray,
        *,
        image_shape: tuple[int, int],
        pixel_size: float,
        sigma_px: float = 1.0,
    ) -> Tracks:
        """Tracks in the tilts at those angles (degrees); arguments as `tracks_from_pixels`.

        Raises
        ------
        InputError : an image at an angle that no tilt has, to 0.05 degrees
        """
        known = np.asarray(tilts_deg, dtype=np.float64)
        nearest = np.abs(self.angles_deg[:, None] - known).argmin(axis=1)
        away = np.abs(known[nearest] - self.angles_deg)
        if len(away) and away.max() > 0.05:
            raise InputError(
                f"Markers were seen at {self.angles_deg[away.argmax()]:g} degrees, where there is no tilt."
            )
        return tracks_from_pixels(
            self.points,
            nearest.astype(np.int64),
            self.positions_px,
            image_shape=image_shape,
            pixel_size=pixel_size,
            sigma_px=sigma_px,
        )


def read_marker_table(path: PathLike) -> MarkerTable:
    """Markers of PyTom's text table: index, tilt angle, x and y on each line.

    Raises
    ------
    InputError : no such file
    FormatError : a line without four numbers (the message names it), or no marker
    """
    place = Path(path)
    if not place.is_file():
        raise InputError(f"`{place}` does not exist, or is not a file. Check the name and the folder.")
    rows = []
    for number, line in enumerate(place.read_text(encoding="latin-1").splitlines(), 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        try:
            values = [float(word) for word in words]
        except ValueError as error:
            raise FormatError(f"Line {number} of `{place}` is `{line.strip()[:60]}`; expected numbers.") from error
        if len(values) != 4 or not all(abs(value) < _MOST for value in values):
            raise FormatError(f"Line {number} of `{place}` has {len(values)} numbers; expected marker, angle, x and y.")
        rows.append(values)
    table = np.array(rows, dtype=np.float64).reshape(-1, 4)
    table = table[~np.all(table[:, 2:] == _MISSING_PX, axis=1)]
    if not len(table):
        raise FormatError(f"`{place}` holds no marker; expected lines of marker, angle, x and y.")
    return MarkerTable(
        points=table[:, 0].astype(np.int64), angles_deg=table[:, 1].copy(), positions_px=table[:, 2:].copy()
    )
