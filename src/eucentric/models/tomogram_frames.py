"""Where voxels of tomograms lie in the specimen: what lists of particles in voxels need to be understood."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eucentric.errors import InputError
from eucentric.models.particles import Texts
from eucentric.typing import FloatArray

_ENDINGS = re.compile(r"(\.tomostar|\.mrcs?|\.rec|\.st|\.ali|\.xml|\.star|\.zarr|\.mod)$", re.IGNORECASE)
_PIXEL_SIZE = re.compile(r"_\d+(\.\d+)?A(px)?$")


def tomogram_name(text: str) -> str:
    """The name of a tilt series in what programs write for it.

    Folders, endings (.tomostar, .mrc, .rec and others) and Warp's pixel size are left out: `reconstruction/TS_01_10.00Apx.mrc`
    and `TS_01.tomostar` are both `TS_01`.
    """
    name = _ENDINGS.sub("", PurePosixPath(text.strip().replace("\\", "/")).name)
    name = _PIXEL_SIZE.sub("", name)
    return _ENDINGS.sub("", name) or text


@dataclass(frozen=True, slots=True, kw_only=True)
class TomogramFrame:
    """The grid of a tomogram about the specimen centre, which is its voxel ``n // 2``, counted from 0."""

    voxel_size_angstrom: float
    size_xyz: tuple[int, int, int]

    def __post_init__(self) -> None:
        if not self.voxel_size_angstrom > 0 or min(self.size_xyz) < 1:
            raise InputError(
                f"A tomogram of {' x '.join(map(str, self.size_xyz))} voxels of {self.voxel_size_angstrom:g} A was given; "
                "expected positive numbers."
            )

    def to_angstrom(self, index_xyz: ArrayLike) -> FloatArray:
        """Positions (n, 3) in A from the specimen centre of indices x, y, z, counted from 0."""
        index = np.asarray(index_xyz, dtype=np.float64)
        return np.asarray((index - np.array(self.size_xyz) // 2) * self.voxel_size_angstrom)

    def to_index(self, positions_angstrom: ArrayLike) -> FloatArray:
        """The inverse of :meth:`to_angstrom`."""
        positions = np.asarray(positions_angstrom, dtype=np.float64)
        return np.asarray(positions / self.voxel_size_angstrom + np.array(self.size_xyz) // 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class TomogramFrames:
    """The grids of several tomograms, and the numbers by which some programs call them."""

    by_name: Mapping[str, TomogramFrame] = field(default_factory=dict)
    default: TomogramFrame | None = None
    """Of tomograms that are not named."""
    numbers: Mapping[int, str] = field(default_factory=dict)

    def of(self, name: str) -> TomogramFrame:
        """The grid of a tomogram.

        Raises
        ------
        InputError : nothing is known about it
        """
        found = self.by_name.get(name, self.default)
        if found is None:
            raise InputError(
                f"The size and the voxel size of tomogram {name} are not known, and its particles are in voxels. "
                "Give --tomograms TABLE, or --tomogram-size X Y Z with --pixel-size."
            )
        return found

    def to_angstrom(self, tomograms: Texts, index_xyz: FloatArray) -> FloatArray:
        """(particle, 3) A from the specimen centres, of indices x, y, z counted from 0."""
        out = np.empty((len(tomograms), 3))
        for name in np.unique(tomograms):
            rows = tomograms == name
            out[rows] = self.of(str(name)).to_angstrom(index_xyz[rows])
        return out

    def to_index(self, tomograms: Texts, positions_angstrom: FloatArray) -> FloatArray:
        """The inverse of :meth:`to_angstrom`."""
        out = np.empty((len(tomograms), 3))
        for name in np.unique(tomograms):
            rows = tomograms == name
            out[rows] = self.of(str(name)).to_index(positions_angstrom[rows])
        return out

    def voxel_sizes(self, tomograms: Texts) -> FloatArray:
        """(particle,) A."""
        sizes = {str(name): self.of(str(name)).voxel_size_angstrom for name in np.unique(tomograms)}
        return np.array([sizes[str(name)] for name in tomograms], dtype=np.float64)

    def names_of(self, numbers: Sequence[float] | FloatArray) -> Texts:
        """Names of numbered tomograms; the number itself where it has no name."""
        return np.array([self.numbers.get(round(n), str(round(n))) for n in numbers], dtype=np.str_)

    def numbers_of(self, tomograms: Texts) -> tuple[NDArray[np.int64], dict[int, str]]:
        """Numbers of named tomograms: those known, a name that is a number, else the next ones from 1.

        Returns
        -------
        numbers : (particle,)
        used : number -> name of all that occur
        """
        given = {name: number for number, name in self.numbers.items()}
        used: dict[str, int] = {}
        free = 1
        for name in dict.fromkeys(str(t) for t in tomograms):
            if name in given:
                used[name] = given[name]
            elif name.isdecimal() and int(name) not in used.values():
                used[name] = int(name)
            else:
                while free in used.values() or free in self.numbers:
                    free += 1
                used[name] = free
        column = np.array([used[str(name)] for name in tomograms], dtype=np.int64)
        return column, {number: name for name, number in used.items()}
