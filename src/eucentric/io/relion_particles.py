"""Particles in RELION's STAR tables: RELION-5 (our own too), RELION-4, and 3.x as Warp and M write it.

RELION-5: rlnCenteredCoordinateX/Y/ZAngst, A from the specimen centre. RELION-4: rlnCoordinateX/Y/Z, pixels of the tilt images
(rlnTomoTiltSeriesPixelSize) with the centre at size / 2 (`ParticleSet::getParticleCoordDecenteredPixel`). 3.x: pixels of
rlnDetectorPixelSize / rlnMagnification, rlnPixelSize or the optics table, the centre at size / 2 too.

``A_subtomogram A_particle`` takes reference to tomogram, with the matrices of `Rotation.from_relion`; either set of angles may be
missing. The particle lies at coordinate - A_subtomogram origin (`ParticleSet::getPosition`): rlnOriginX/Y/ZAngst in A, or
rlnOriginX/Y/Z in pixels (3.0). Columns of texts are kept; names of
particles too, where each has its own.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from eucentric.errors import FormatError, InputError
from eucentric.geometry import Rotation
from eucentric.io import labels
from eucentric.io.particle_columns import class_numbers, need_file
from eucentric.io.star import read_star, read_star_text, write_star
from eucentric.models.particles import ParticleSet, Texts
from eucentric.models.tomogram_frames import TomogramFrames, tomogram_name
from eucentric.typing import FloatArray, PathLike

_CENTRED = tuple(f"rlnCenteredCoordinate{a}Angst" for a in "XYZ")
_CORNER = tuple(f"rlnCoordinate{a}" for a in "XYZ")
_ORIGIN_A = tuple(f"rlnOrigin{a}Angst" for a in "XYZ")
_ORIGIN_PX = tuple(f"rlnOrigin{a}" for a in "XYZ")
_ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
_SUBTOMOGRAM = ("rlnTomoSubtomogramRot", "rlnTomoSubtomogramTilt", "rlnTomoSubtomogramPsi")
_PRIORS = ("rlnAngleTiltPrior", "rlnAnglePsiPrior")
_PRIOR_TILT_DEG = 90.0
_NAMES = ("rlnTomoName", "rlnMicrographName")
_SCORE = "rlnAutopickFigureOfMerit"
_SCORES = (_SCORE, "rlnLCCmax")
_CLASS, _GROUP, _PARTICLE = "rlnClassNumber", "rlnOpticsGroup", "rlnTomoParticleName"
_PIXEL = "rlnTomoTiltSeriesPixelSize"
_TAKEN = {
    *_CENTRED,
    *_CORNER,
    *_ORIGIN_A,
    *_ORIGIN_PX,
    *_ANGLES,
    *_SUBTOMOGRAM,
    *_NAMES,
    _SCORE,
    _CLASS,
    _GROUP,
    _PARTICLE,
}
_TAKEN |= {labels.SPECIES, "rlnDetectorPixelSize", "rlnMagnification", "rlnPixelSize", "rlnTomoTiltSeriesPixelSize"}


def read_relion_particles(
    path: PathLike, frames: TomogramFrames | None = None, *, tomogram: str | None = None
) -> ParticleSet:
    """Particles of a STAR table of RELION or Warp, whichever of their conventions it has (see the module).

    Parameters
    ----------
    path : table with a block of particles, and one of optics groups where pixel sizes stand there
    frames : sizes of tomograms; needed where coordinates are pixels
    tomogram : of particles in a table that does not name any

    Raises
    ------
    InputError : no such file, or pixels without size of the tomogram or pixel size
    FormatError : no table of particles in it, or values that are not numbers
    """
    place = need_file(path)
    texts = read_star_text(place)
    block = next((b for b, t in texts.items() if all(c in t for c in _CENTRED) or all(c in t for c in _CORNER)), None)
    if block is None:
        raise FormatError(f"`{place}` has no table with {_CENTRED[0]} or {_CORNER[0]} and their like.")
    tables = read_star(place)
    table = tables[block]
    unnamed = tomogram is not None and not any(name in texts[block] for name in _NAMES)
    tomograms = [str(tomogram)] * len(table) if unnamed else _tomograms(texts[block], str(place))
    turned = _rotations(table, _SUBTOMOGRAM, place)
    rotations = Rotation(turned).compose(Rotation(_rotations(table, _ANGLES, place))).matrices
    if all(c in table for c in _CENTRED):
        positions = _columns(table, _CENTRED, place)
        pixel = np.full(len(table), np.nan)
    else:
        known = frames or TomogramFrames()
        pixel = _pixel_sizes(table, tables.get("optics"), known, tomograms)
        grids = {str(n): known.of(str(n)) for n in np.unique(tomograms)}
        half = np.array([np.array(grids[str(n)].size_xyz) / 2.0 * grids[str(n)].voxel_size_angstrom for n in tomograms])
        positions = _columns(table, _CORNER, place) * pixel[:, None] - half.reshape(-1, 3)
    origin = np.zeros((len(table), 3))
    if all(c in table for c in _ORIGIN_A):
        origin = _columns(table, _ORIGIN_A, place)
    elif all(c in table for c in _ORIGIN_PX) and np.isfinite(pixel).all():
        origin = _columns(table, _ORIGIN_PX, place) * pixel[:, None]
    return ParticleSet.build(
        tomograms,
        positions - np.einsum("nij,nj->ni", turned, origin),
        rotations=rotations,
        scores=next((_columns(table, (c,), place)[:, 0] for c in _SCORES if c in table), np.nan),
        kinds=_kinds(texts[block]),
        columns={
            label: table[label].to_numpy(dtype=np.float64)
            for label in table.columns
            if label not in _TAKEN and pd.api.types.is_numeric_dtype(table[label])
        }
        | _image_pixels(table, tables.get("optics")),
        texts={
            label: [value or "" for value in texts[block][label]]
            for label in table.columns
            if label not in _TAKEN - {_PARTICLE} and not pd.api.types.is_numeric_dtype(table[label])
        },
    )


def _tomograms(table: Mapping[str, list[str | None]], place: str) -> list[str]:
    label = next((name for name in _NAMES if name in table), None)
    if label is None:
        raise FormatError(f"`{place}` does not say which tomogram a particle is in; expected {_NAMES[0]}.")
    if any(value is None for value in table[label]):
        raise FormatError(f"`{place}` has particles without {label}.")
    return [tomogram_name(value or "") for value in table[label]]


def _kinds(table: Mapping[str, list[str | None]]) -> list[str] | str:
    label = next((name for name in (labels.SPECIES, _CLASS) if name in table), None)
    return "" if label is None else [value or "" for value in table[label]]


def _columns(table: pd.DataFrame, names: tuple[str, ...], place: object) -> FloatArray:
    try:
        return np.stack([table[name].to_numpy(dtype=np.float64) for name in names], axis=1)
    except ValueError as error:
        raise FormatError(f"`{place}` has a value under {', '.join(names)} that is not a number: {error}.") from error


def _rotations(table: pd.DataFrame, names: tuple[str, ...], place: object) -> FloatArray:
    angles = np.zeros((len(table), 3))
    for i, name in enumerate(names):
        if name in table:
            angles[:, i] = _columns(table, (name,), place)[:, 0]
    return np.asarray(Rotation.from_relion(*angles.T).matrices)


def _image_pixels(table: pd.DataFrame, optics: pd.DataFrame | None) -> dict[str, FloatArray]:
    """The pixel size of the tilt images of each particle as a column, where it is known of all."""
    if _PIXEL in table:
        return {_PIXEL: table[_PIXEL].to_numpy(dtype=np.float64)}
    if optics is None or _PIXEL not in optics or _GROUP not in optics or not len(table):
        return {}
    size = dict(zip(optics[_GROUP], optics[_PIXEL], strict=True))
    group = table[_GROUP] if _GROUP in table else [optics[_GROUP].iloc[0]] * len(table)
    return {_PIXEL: np.array([float(size[g]) for g in group])} if set(group) <= set(size) else {}


def _pixel_sizes(
    table: pd.DataFrame, optics: pd.DataFrame | None, frames: TomogramFrames, tomograms: list[str]
) -> FloatArray:
    """(particle,) A per pixel of the coordinates; where the table does not tell, that of the tomogram."""
    names = ("rlnTomoTiltSeriesPixelSize", "rlnMicrographPixelSize", "rlnPixelSize", "rlnImagePixelSize")
    if "rlnTomoTiltSeriesPixelSize" in table:
        return np.asarray(table[names[0]].to_numpy(dtype=np.float64))
    if "rlnDetectorPixelSize" in table:
        detector = table["rlnDetectorPixelSize"].to_numpy(dtype=np.float64)
        enlarged = table["rlnMagnification"].to_numpy(dtype=np.float64) if "rlnMagnification" in table else 1e4
        return np.asarray(detector * 1e4 / enlarged)
    if optics is not None and _GROUP in optics:
        label = next((n for n in (names[0], "rlnMicrographPixelSize") if n in optics), None)
        if label is not None:
            size = dict(zip(optics[_GROUP], optics[label], strict=True))
            group = table[_GROUP] if _GROUP in table else [optics[_GROUP].iloc[0]] * len(table)
            if set(group) <= set(size):
                return np.array([float(size[g]) for g in group], dtype=np.float64)
    if "rlnPixelSize" in table:
        return np.asarray(table["rlnPixelSize"].to_numpy(dtype=np.float64))
    return frames.voxel_sizes(np.asarray(tomograms, dtype=np.str_))


def write_relion_particles(
    path: PathLike, particles: ParticleSet, *, pixel_sizes_angstrom: Mapping[str, float] | None = None
) -> None:
    """Write a RELION-5 table.

    Particles with rlnAngleTiltPrior and rlnAnglePsiPrior, as picks on surfaces and filaments have, are written for searches
    about them: the subtomogram's angles bring z to the particle's z axis seen from a tilt of 90 degrees, so that the tilt and
    psi of a search stay near 90 and 0, and rot is free.

    Parameters
    ----------
    pixel_sizes_angstrom : of the tilt images of each tomogram, for the optics groups; as the particles' column
        rlnTomoTiltSeriesPixelSize says where None, and one group without it where there is none

    Raises
    ------
    InputError : the place cannot be written to
    """
    table = _shared_columns(particles)
    table |= {name: particles.positions_angstrom[:, i].tolist() for i, name in enumerate(_CENTRED)}
    rotation = Rotation(particles.rotations)
    if all(name in particles.columns for name in _PRIORS):
        upright = Rotation.from_relion(0.0, _PRIOR_TILT_DEG, 0.0)
        sub = rotation.compose(upright.inverse).as_relion()
        own: tuple[FloatArray, ...] = tuple(np.full(len(particles), a) for a in (0.0, _PRIOR_TILT_DEG, 0.0))
        table |= {name: angle.tolist() for name, angle in zip(_SUBTOMOGRAM, sub, strict=True)}
    else:
        own = rotation.as_relion()
    table |= {name: angle.tolist() for name, angle in zip(_ANGLES, own, strict=True)}
    optics = _optics(particles.tomograms, pixel_sizes_angstrom or _pixels_of_tomograms(particles), table)
    write_star(path, {"optics": optics, "particles": table})


def write_relion4_particles(path: PathLike, particles: ParticleSet, frames: TomogramFrames) -> None:
    """Write a RELION-4 table; `frames` are the tomograms in pixels of the tilt images."""
    table = _shared_columns(particles)
    table |= dict(zip(_CORNER, _corner(particles, frames), strict=True))
    angles = Rotation(particles.rotations).as_relion()
    table |= {name: angle.tolist() for name, angle in zip(_ANGLES, angles, strict=True)}
    sizes = {name: frames.of(name).voxel_size_angstrom for name in particles.tomogram_names}
    write_star(path, {"optics": _optics(particles.tomograms, sizes, table), "particles": table})


def _corner(particles: ParticleSet, frames: TomogramFrames) -> list[list[object]]:
    """x, y and z in pixels with the centre at size / 2."""
    half = np.array([np.array(frames.of(str(n)).size_xyz) / 2.0 for n in particles.tomograms]).reshape(-1, 3)
    pixel = frames.voxel_sizes(particles.tomograms)[:, None]
    index = particles.positions_angstrom / pixel + half
    return [index[:, i].tolist() for i in range(3)]


def write_warp_particles(path: PathLike, particles: ParticleSet, frames: TomogramFrames) -> None:
    """Write a table for WarpTools and M: pixels of the tomogram, rlnMicrographName `TS.tomostar`, rlnPixelSize (their docs).

    Warp takes its pixel size from its own command line (`--coords_angpix`).
    """
    angles = Rotation(particles.rotations).as_relion()
    table: dict[str, list[object]] = {"rlnMicrographName": [f"{name}.tomostar" for name in particles.tomograms]}
    table |= dict(zip(_CORNER, _corner(particles, frames), strict=True))
    table |= {name: angle.tolist() for name, angle in zip(_ANGLES, angles, strict=True)}
    table |= {"rlnPixelSize": frames.voxel_sizes(particles.tomograms).tolist()}
    if not np.isnan(particles.scores).all():
        table[_SCORE] = particles.scores.tolist()
    write_star(path, {"": table})


def _shared_columns(particles: ParticleSet) -> dict[str, list[object]]:
    counts: dict[str, int] = {}
    names: list[object] = []
    for name in particles.tomograms:
        counts[str(name)] = counts.get(str(name), 0) + 1
        names.append(f"{name}/{counts[str(name)]}")
    own = particles.texts.get(_PARTICLE, np.zeros(0, dtype=np.str_))
    if len(np.unique(own[own != ""])) == len(particles):
        names = own.tolist()
    table: dict[str, list[object]] = {"rlnTomoName": [str(n) for n in particles.tomograms], _PARTICLE: names}
    kinds = [str(kind) for kind in particles.kinds]
    if any(kinds):
        table[_CLASS] = class_numbers(particles.kinds).tolist()
        if not all(kind.isdecimal() for kind in kinds if kind):
            table[labels.SPECIES] = [kind or None for kind in kinds]
    if not np.isnan(particles.scores).all():
        table[_SCORE] = particles.scores.tolist()
    for label, column in particles.without_column(_PIXEL).columns.items():
        whole = bool(len(column)) and bool(np.isfinite(column).all() and (column == np.round(column)).all())
        table[label] = column.astype(np.int64).tolist() if whole else column.tolist()
    for label, written in particles.texts.items():
        if label not in table:
            table[label] = [text or None for text in written.tolist()]
    return table


def _pixels_of_tomograms(particles: ParticleSet) -> dict[str, float]:
    """By name, from the column of pixel sizes; of those only where it is finite."""
    column = particles.columns.get(_PIXEL, np.full(len(particles), np.nan))
    return {str(n): float(s) for n, s in zip(particles.tomograms, column, strict=True) if np.isfinite(s)}


def _optics(
    tomograms: Texts, pixel_sizes: Mapping[str, float], table: dict[str, list[object]]
) -> dict[str, list[object]]:
    """One group for each pixel size; the particles' groups are added to their table."""
    names = list(dict.fromkeys(str(name) for name in tomograms))
    missing = [name for name in names if name not in pixel_sizes]
    if missing and len(missing) < len(names):
        raise InputError(
            f"The pixel size of the images of {', '.join(missing[:5])} is not known, while that of others is. "
            "Add it to their list: eucentric particles convert LIST OUTPUT --tomograms TABLE."
        )
    sizes = [] if missing else sorted({pixel_sizes[name] for name in names})
    table[_GROUP] = [1 if not sizes else 1 + sizes.index(pixel_sizes[str(name)]) for name in tomograms]
    numbers = range(1, max(1, len(sizes)) + 1)
    optics: dict[str, list[object]] = {
        _GROUP: list(numbers),
        "rlnOpticsGroupName": [f"opticsGroup{number}" for number in numbers],
    }
    return optics | ({"rlnTomoTiltSeriesPixelSize": list(sizes)} if sizes else {})
