"""Particles in RELION's STAR tables: RELION-5 (our own too), RELION-4, and 3.x as RELION, Warp and M write it.

RELION-5: rlnCenteredCoordinateX/Y/ZAngst, A from the specimen centre. RELION-4: rlnCoordinateX/Y/Z, pixels of the tilt images
(rlnTomoTiltSeriesPixelSize) with the centre at size / 2 (`ParticleSet::getParticleCoordDecenteredPixel`). 3.x: pixels of
rlnDetectorPixelSize / rlnMagnification, rlnPixelSize or the optics table; of Warp's tables, whose tomograms are called
`.tomostar`, the centre is at size / 2, of others at voxel ``n // 2`` (RELION 3 cuts boxes about whole voxels counted from 0).
Warp's 2D particles of `ts_export_particles` count in pixels of rlnImagePixelSize, though their table has RELION-4's columns
(`ExportParticlesTiltseries.cs`; the coordinates of real tables fill their tomograms only so).

Odd sizes. RELION-5 puts centred coordinate c at pixel ``c / px + size / 2.0`` (`TomogramSet::loadTomogram`, `getPosition`), and
projects that pixel about ``int(size / 2)`` (`Tomogram::setProjectionMatrix`). For odd rlnTomoSizeX/Y/Z, so for a missing size too
(-999), it therefore sees a particle half a pixel of the tilt images away from where the geometry has it. Coordinates here are those
of `getPosition`, the same for even and odd sizes: of lists nothing needs to be known. Tables of tomograms should have even sizes.

``A_subtomogram A_particle`` takes reference to tomogram, with the matrices of `Rotation.from_relion`; either set of angles may be
missing. The particle lies at coordinate - A_subtomogram origin (`ParticleSet::getPosition`): rlnOriginX/Y/ZAngst in A, or
rlnOriginX/Y/Z in pixels (3.0). Columns of texts are kept; names of particles too, where each has its own. What the optics table
says of a group becomes a column of its particles, and is put into groups again when it is written.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from eucentric.errors import FormatError, InputError
from eucentric.geometry import Rotation
from eucentric.io import labels
from eucentric.io.particle_columns import class_numbers, grouped, need_file, need_finite
from eucentric.io.star import Column, Table, read_star_columns, write_star
from eucentric.io.star_columns import StarColumns
from eucentric.models.particles import ParticleSet, Texts
from eucentric.models.tomogram_frames import TomogramFrame, TomogramFrames, tomogram_name
from eucentric.typing import FloatArray, PathLike

CENTRED = tuple(f"rlnCenteredCoordinate{a}Angst" for a in "XYZ")
CORNER = tuple(f"rlnCoordinate{a}" for a in "XYZ")
ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
SCORE, CLASS, GROUP, PARTICLE = "rlnAutopickFigureOfMerit", "rlnClassNumber", "rlnOpticsGroup", "rlnTomoParticleName"
PIXEL = "rlnTomoTiltSeriesPixelSize"
WARP_ENDING = ".tomostar"
_ORIGIN_A = tuple(f"rlnOrigin{a}Angst" for a in "XYZ")
_ORIGIN_PX = tuple(f"rlnOrigin{a}" for a in "XYZ")
_SUBTOMOGRAM = ("rlnTomoSubtomogramRot", "rlnTomoSubtomogramTilt", "rlnTomoSubtomogramPsi")
_PRIORS = ("rlnAngleTiltPrior", "rlnAnglePsiPrior")
_PRIOR_TILT_DEG = 90.0
_NAMES = ("rlnTomoName", "rlnMicrographName")
_SCORES = (SCORE, "rlnLCCmax")
_GROUP_NAME, _IMAGE_PIXEL, _STACKS = "rlnOpticsGroupName", "rlnImagePixelSize", "rlnTomoSubTomosAre2DStacks"
_TAKEN = {*CENTRED, *CORNER, *_ORIGIN_A, *_ORIGIN_PX, *ANGLES, *_SUBTOMOGRAM, *_NAMES, SCORE, CLASS, GROUP, PARTICLE}
_TAKEN |= {labels.SPECIES, "rlnDetectorPixelSize", "rlnMagnification", "rlnPixelSize", PIXEL}
_OF_GROUPS = (
    PIXEL,
    "rlnVoltage",
    "rlnSphericalAberration",
    "rlnAmplitudeContrast",
    "rlnCtfDataAreCtfPremultiplied",
    "rlnImageDimensionality",
    "rlnTomoSubtomogramBinning",
    _IMAGE_PIXEL,
    "rlnImageSize",
    "rlnMicrographOriginalPixelSize",
    "rlnMicrographPixelSize",
    "rlnMicrographBinning",
    "rlnTomoImportFractionalDose",
)
"""Labels of RELION's optics tables that particles carry as columns."""
_TEXTS_OF_GROUPS = (_GROUP_NAME, "rlnOddZernike", "rlnEvenZernike")
"""The same, of texts; aberrations are numbers in brackets."""
_WHOLE = frozenset({"rlnCtfDataAreCtfPremultiplied", "rlnImageDimensionality", "rlnImageSize"})
_WRITTEN_DECIMALS = 9


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
    blocks = read_star_columns(place)
    table = next((t for t in blocks.values() if all(c in t for c in CENTRED) or all(c in t for c in CORNER)), None)
    if table is None:
        raise FormatError(f"`{place}` has no table with {CENTRED[0]} or {CORNER[0]} and their like.")
    written, codes = _tomograms(table, tomogram, str(place))
    names = [tomogram_name(name) for name in written]
    tried = {label: table.numbers_or_none(label) for label in table if label not in _TAKEN}
    numbers = {label: column for label, column in tried.items() if column is not None}
    groups = _Groups(table, blocks.get("optics"))
    turned, rotations = _all_rotations(table, place)
    pixel: FloatArray | None = None
    if all(c in table for c in CENTRED):
        positions = _columns(table, CENTRED, place, "coordinates")
    else:
        known = frames or TomogramFrames()
        of_warp = all(name.endswith(WARP_ENDING) for name in written)
        pixel = _pixel_sizes(table, groups, known, names, codes, of_warp="rlnTomoName" in table and of_warp)
        halves = [_centre(known.of(name), whole="rlnTomoName" not in table and not of_warp) for name in names]
        positions = _columns(table, CORNER, place, "coordinates") * pixel[:, None]
        positions -= np.array(halves).reshape(-1, 3)[codes]
    origin = _origins(table, pixel, place)
    if origin is not None:
        positions -= origin if turned is None else np.einsum("nij,nj->ni", turned, origin)
    stacks = blocks.get("general")
    if stacks is not None and _STACKS in stacks and len(stacks) == 1:
        numbers[_STACKS] = np.full(len(table), stacks.numbers(_STACKS)[0])
    return ParticleSet.build(
        np.array(names, dtype=np.str_)[codes] if names else np.zeros(0, dtype="<U1"),
        positions,
        rotations=rotations,
        scores=next((table.numbers(c) for c in _SCORES if c in table), np.nan),
        kinds=_kinds(table),
        columns=groups.columns | numbers,
        texts=groups.texts
        | {label: table.texts(label) for label in table if label == PARTICLE or label not in {*numbers, *_TAKEN}},
    )


def _tomograms(table: StarColumns, given: str | None, place: str) -> tuple[list[str], NDArray[np.int64]]:
    label = next((name for name in _NAMES if name in table), None)
    if label is None and given is not None:
        return [given], np.zeros(len(table), dtype=np.int64)
    if label is None:
        raise FormatError(f"`{place}` does not say which tomogram a particle is in; expected {_NAMES[0]}.")
    names, codes = grouped(table.texts(label))
    if "" in names:
        row = int(np.flatnonzero(codes == names.index(""))[0])
        raise FormatError(f"`{place}` has particles without {label}; the first is row {row + 1}.")
    return names, codes


def _kinds(table: StarColumns) -> Texts | str:
    label = next((name for name in (labels.SPECIES, CLASS) if name in table), None)
    return "" if label is None else table.texts(label)


def _columns(table: StarColumns, names: tuple[str, ...], place: object, what: str) -> FloatArray:
    values = np.stack([table.numbers(name) for name in names], axis=1)
    return need_finite(values, what, place)


def _all_rotations(table: StarColumns, place: object) -> tuple[FloatArray | None, FloatArray | None]:
    """Of subtomograms, and of both together; None where the table has no such angles."""
    found: list[FloatArray | None] = []
    for names in (_SUBTOMOGRAM, ANGLES):
        if not any(name in table for name in names):
            found.append(None)
            continue
        angles = [table.numbers(name) if name in table else np.zeros(len(table)) for name in names]
        need_finite(np.stack(angles, axis=1), "angles", place)
        found.append(np.asarray(Rotation.from_relion(*angles).matrices))
    turned, own = found
    if turned is None or own is None:
        return turned, own if turned is None else turned
    return turned, np.asarray(turned @ own)


def _origins(table: StarColumns, pixel: FloatArray | None, place: object) -> FloatArray | None:
    if all(c in table for c in _ORIGIN_A):
        return _columns(table, _ORIGIN_A, place, "origins")
    if all(c in table for c in _ORIGIN_PX) and pixel is not None:
        return _columns(table, _ORIGIN_PX, place, "origins") * pixel[:, None]
    return None


def _centre(frame: TomogramFrame, *, whole: bool) -> FloatArray:
    """A from the first voxel."""
    size = np.array(frame.size_xyz)
    return np.asarray((size // 2 if whole else size / 2.0) * frame.voxel_size_angstrom, dtype=np.float64)


class _Groups:
    """What the optics table says of each particle."""

    def __init__(self, table: StarColumns, optics: StarColumns | None) -> None:
        self._rows: NDArray[np.int64] | None = None
        self._optics = optics
        if optics is not None and len(optics) and len(table):
            self._rows = self._of_particles(table, optics)
        own = {PIXEL: table.numbers(PIXEL)} if PIXEL in table else {}
        here = [label for label in _OF_GROUPS if self._rows is not None and optics is not None and label in optics]
        self.columns = {label: self.column(label) for label in here} | own
        written = [
            label for label in _TEXTS_OF_GROUPS if self._rows is not None and optics is not None and label in optics
        ]
        self.texts = {label: optics.texts(label)[self._rows] for label in written} if optics is not None else {}

    @staticmethod
    def _of_particles(table: StarColumns, optics: StarColumns) -> NDArray[np.int64] | None:
        """(particle,) row of the optics table; None where a group is not in it."""
        if GROUP not in optics:
            return None
        group = table.numbers(GROUP) if GROUP in table else np.full(len(table), optics.numbers(GROUP)[0])
        rows = pd.Index(optics.numbers(GROUP)).drop_duplicates().get_indexer(pd.Index(group))
        return np.asarray(rows, dtype=np.int64) if (rows >= 0).all() else None

    def column(self, label: str) -> FloatArray:
        if self._optics is None:
            raise KeyError(label)
        return np.asarray(self._optics.numbers(label)[self._rows])


def _pixel_sizes(
    table: StarColumns,
    groups: _Groups,
    frames: TomogramFrames,
    names: list[str],
    codes: NDArray[np.int64],
    *,
    of_warp: bool,
) -> FloatArray:
    """(particle,) A per pixel of the coordinates; where the table does not tell, that of the tomogram."""
    if of_warp and _IMAGE_PIXEL in groups.columns and "rlnTomoSubtomogramBinning" in groups.columns:
        return groups.columns[_IMAGE_PIXEL]
    if PIXEL in table:
        return table.numbers(PIXEL)
    if "rlnDetectorPixelSize" in table:
        enlarged = table.numbers("rlnMagnification") if "rlnMagnification" in table else 1e4
        return np.asarray(table.numbers("rlnDetectorPixelSize") * 1e4 / enlarged)
    for label in (PIXEL, "rlnMicrographPixelSize"):
        if label in groups.columns:
            return groups.columns[label]
    if "rlnPixelSize" in table:
        return table.numbers("rlnPixelSize")
    return np.array([frames.of(name).voxel_size_angstrom for name in names], dtype=np.float64)[codes]


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
    table = shared_columns(particles)
    table |= {name: written_numbers(particles.positions_angstrom[:, i]) for i, name in enumerate(CENTRED)}
    rotation = Rotation(particles.rotations)
    if all(name in particles.columns for name in _PRIORS):
        upright = Rotation.from_relion(0.0, _PRIOR_TILT_DEG, 0.0)
        sub = rotation.compose(upright.inverse).as_relion()
        own: tuple[FloatArray, ...] = tuple(np.full(len(particles), a) for a in (0.0, _PRIOR_TILT_DEG, 0.0))
        table |= {name: written_numbers(angle) for name, angle in zip(_SUBTOMOGRAM, sub, strict=True)}
    else:
        own = rotation.as_relion()
    table |= {name: written_numbers(angle) for name, angle in zip(ANGLES, own, strict=True)}
    blocks: dict[str, Table] = {}
    if _STACKS in particles.columns and len(particles):
        blocks["general"] = {_STACKS: [int(np.nan_to_num(particles.columns[_STACKS]).min())]}
    optics, table[GROUP] = optics_groups(particles, pixel_sizes_angstrom)
    write_star(path, blocks | {"optics": optics, "particles": table})


def written_numbers(values: FloatArray) -> FloatArray:
    """Rounded to a billionth of an A or degree: what is left of sums and products beyond that is noise."""
    return np.asarray(np.round(values, _WRITTEN_DECIMALS) + 0.0)


def shared_columns(particles: ParticleSet) -> dict[str, Column]:
    """Names, classes, scores and further columns of a table of RELION-4 or 5; without those of the optics table."""
    table: dict[str, Column] = {"rlnTomoName": particles.tomograms, PARTICLE: particle_names(particles)}
    kinds = grouped(particles.kinds)[0]
    if any(kinds):
        table[CLASS] = class_numbers(particles.kinds)
        if not all(kind.isdecimal() for kind in kinds if kind):
            table[labels.SPECIES] = particles.kinds
    if not np.isnan(particles.scores).all():
        table[SCORE] = particles.scores
    for label, column in particles.columns.items():
        if label not in (*_OF_GROUPS, _STACKS):
            whole = bool(len(column)) and bool(np.isfinite(column).all() and (column == np.round(column)).all())
            table[label] = column.astype(np.int64) if whole else column
    for label, written in particles.texts.items():
        if label not in table and label not in _TEXTS_OF_GROUPS:
            table[label] = written
    return table


def particle_names(particles: ParticleSet) -> Column:
    """Those they have, where each has its own, or else tomogram / number."""
    own = particles.texts.get(PARTICLE)
    if own is not None and len(particles):
        different = set(own.tolist())
        if len(different) == len(particles) and "" not in different:
            return own
    codes = pd.Series(grouped(particles.tomograms)[1])
    counts = (codes.groupby(codes).cumcount() + 1).tolist()
    return [f"{name}/{count}" for name, count in zip(particles.tomograms.tolist(), counts, strict=True)]


def optics_groups(
    particles: ParticleSet, pixel_sizes_angstrom: Mapping[str, float] | None = None
) -> tuple[dict[str, Column], NDArray[np.int64]]:
    """The optics table, with a group for all that differs, in the order of pixel sizes; and each particle's group.

    Raises
    ------
    InputError : the pixel size of some tomograms is not known while that of others is
    """
    columns: dict[str, Column] = {label: particles.columns[label] for label in _OF_GROUPS if label in particles.columns}
    pixel = _image_pixels(particles, pixel_sizes_angstrom)
    if pixel is None:
        columns.pop(PIXEL, None)
    else:
        columns = {PIXEL: pixel} | columns | {PIXEL: pixel}
    columns |= {label: particles.texts[label] for label in _TEXTS_OF_GROUPS if label in particles.texts}
    codes = np.zeros(len(particles), dtype=np.int64)
    for column in columns.values():
        these = pd.factorize(np.asarray(column), use_na_sentinel=False)[0].astype(np.int64)
        codes = pd.factorize(codes * (int(these.max(initial=0)) + 1) + these)[0].astype(np.int64)
    first = np.unique(codes, return_index=True)[1]
    order = np.argsort(np.zeros(len(first)) if pixel is None else pixel[first], kind="stable")
    number = np.empty(len(first), dtype=np.int64)
    number[order] = np.arange(1, len(first) + 1)
    rows = first[order]
    count = max(1, len(rows))
    optics: dict[str, Column] = {
        GROUP: list(range(1, count + 1)),
        _GROUP_NAME: [f"opticsGroup{n}" for n in range(1, count + 1)],
    }
    if _GROUP_NAME in columns and len(rows):
        given = np.asarray(columns.pop(_GROUP_NAME))[rows].tolist()
        if len(set(given)) == len(given) and "" not in given:
            optics[_GROUP_NAME] = given
    columns.pop(_GROUP_NAME, None)
    for label, column in columns.items():
        values = np.asarray(column)[rows] if len(rows) else np.zeros(0)
        if len(values):
            whole = label in _WHOLE and bool(np.isfinite(values).all())
            optics[label] = values.astype(np.int64) if whole else values
    return optics, number[codes]


def _image_pixels(particles: ParticleSet, given: Mapping[str, float] | None) -> FloatArray | None:
    """(particle,) A, as given by tomogram or in the column; None where it is known of none."""
    names, codes = grouped(particles.tomograms)
    if given:
        sizes = np.array([given.get(name, np.nan) for name in names], dtype=np.float64)
    else:
        column = particles.columns.get(PIXEL, np.full(len(particles), np.nan))
        finite = np.isfinite(column)
        sizes = np.full(len(names), np.nan)
        sizes[codes[finite]] = column[finite]
    missing = [name for name, size in zip(names, sizes, strict=True) if not np.isfinite(size)]
    if missing and len(missing) < len(names):
        raise InputError(
            f"The pixel size of the images of {', '.join(missing[:5])} is not known, while that of others is. "
            "Add it to their list: eucentric particles convert LIST OUTPUT --tomograms TABLE."
        )
    return None if missing or not names else np.asarray(sizes[codes])
