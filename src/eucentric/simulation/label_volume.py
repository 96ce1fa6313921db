"""What lies in each voxel of a specimen: its class, which one it is, and the distance to the nearest membrane."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numba
import numpy as np
from numpy.typing import NDArray

from eucentric.optics.atoms import density_from_points
from eucentric.simulation.species import Species
from eucentric.simulation.specimen import Specimen
from eucentric.simulation.surfaces import SurfaceDistance
from eucentric.typing import FloatArray

_VOLUME_PER_DALTON = 1.21  # A^3, the partial specific volume of protein, 0.73 cm^3/g
_ENVELOPE_SPACING, _ENVELOPE_B = 4.0, 700.0  # A and A^2: blurred by 3 A, so that a surface without holes is found
_BLOCK = 8  # voxels along each edge of the blocks that are looked at before their voxels
NOTHING = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelTable:
    """Names of the numbers in label volumes."""

    classes: tuple[str, ...]
    """Name of class 0 (ice, vacuum or nothing else that is known), 1 and so on."""
    instances: Mapping[str, tuple[int, int]]
    """For particles (in the order of the truth), membranes, beads and contamination: the first and last number."""

    @classmethod
    def of(cls, specimen: Specimen) -> Self:
        """Classes: the species in their order, then the kinds of membranes, beads and contamination that there are."""
        others = [m.name for m in specimen.membranes]
        others += ["bead"] if len(specimen.beads) else []
        others += [c.name for c in specimen.contamination]
        names = dict.fromkeys([NOTHING, *(s.name for s in specimen.species), *others])
        counts = {
            "particles": len(specimen.positions_angstrom),
            "membranes": len(specimen.membranes),
            "beads": len(specimen.beads),
            "contamination": len(specimen.contamination),
        }
        numbers, last = {}, 0
        for what, count in counts.items():
            if count:
                numbers[what] = (last + 1, last + count)
            last += count
        return cls(classes=tuple(names), instances=numbers)


class SpecimenLabels:
    """Cuts a specimen into voxels, some sections at a time.

    A particle fills what its density, blurred by 3 A, says are the densest ``1.21 A^3 a dalton``; a membrane reaches to
    the outside of its heads. Particles go before membranes, beads before both.

    Parameters
    ----------
    specimen : what to label
    shape : (z, y, x); the specimen's middle is voxel ``n // 2``
    voxel_size : A
    """

    def __init__(self, specimen: Specimen, shape: tuple[int, int, int], voxel_size: float) -> None:
        self.table = LabelTable.of(specimen)
        self._specimen, self._shape, self._voxel = specimen, shape, voxel_size
        self._envelopes = [
            particle_envelope(s) if (specimen.kinds == k).any() else None for k, s in enumerate(specimen.species)
        ]
        spacing = min(12.0, max(8.0, voxel_size))
        self._distance = SurfaceDistance([m.surface for m in specimen.membranes], spacing_angstrom=spacing)

    def membrane_distance(
        self, first: int, count: int, limit_angstrom: float
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Signed distance to the nearest mid-surface in A, positive outside, and the number of that membrane from 0.

        Both (count, y, x). Beyond the limit the distance is the limit with its sign, and the number is -1; without
        membranes it is the limit everywhere.
        """
        sizes = (count, *self._shape[1:])
        distance = np.full(sizes, limit_angstrom, dtype=np.float32)
        owner = np.full(sizes, -1, dtype=np.int32)
        if not self._specimen.membranes:
            return distance, owner
        starts = [np.arange(0, n, _BLOCK) for n in sizes]
        corners = np.stack(np.meshgrid(*starts, indexing="ij"), axis=-1).reshape(-1, 3)
        about, _ = self._distance(self._places(np.asarray(corners + 0.5 * (_BLOCK - 1), dtype=np.float64), first))
        reach = 0.5 * np.sqrt(3.0) * _BLOCK * self._voxel
        far = np.abs(about) > limit_angstrom + reach
        for corner in corners[far & (about < 0)]:
            distance[tuple(slice(c, c + _BLOCK) for c in corner)] = -limit_angstrom
        for corner in corners[~far]:
            block = tuple(slice(c, min(c + _BLOCK, n)) for c, n in zip(corner, sizes, strict=True))
            within = np.stack(np.meshgrid(*(np.arange(s.start, s.stop) for s in block), indexing="ij"), axis=-1)
            places = self._places(within.reshape(-1, 3), first)
            found, nearest = self._distance(places, limit_angstrom=limit_angstrom + 2.0 * reach)
            near = np.abs(found) <= limit_angstrom
            shape = within.shape[:3]
            distance[block] = np.clip(found, -limit_angstrom, limit_angstrom).reshape(shape)
            owner[block] = np.where(near, nearest, -1).reshape(shape)
        return distance, owner

    def labels(
        self, first: int, count: int, distance: NDArray[np.float32], owner: NDArray[np.int32]
    ) -> tuple[NDArray[np.int16], NDArray[np.int32]]:
        """Class and instance of every voxel, both (count, y, x); `distance` and `owner` as `membrane_distance` gives."""
        specimen, classes = self._specimen, {name: n for n, name in enumerate(self.table.classes)}
        kinds = np.zeros((count, *self._shape[1:]), dtype=np.int16)
        which = np.zeros(kinds.shape, dtype=np.int32)
        begin = {what: numbers[0] for what, numbers in self.table.instances.items()}
        for number, membrane in enumerate(specimen.membranes):
            inside = (owner == number) & (np.abs(distance) <= membrane.half_angstrom)
            kinds[inside], which[inside] = classes[membrane.name], begin["membranes"] + number
        middle = np.array([self._shape[0] // 2 - first, self._shape[1] // 2, self._shape[2] // 2], dtype=np.float64)
        for kind, envelope in enumerate(self._envelopes):
            if envelope is None:
                continue
            chosen = np.flatnonzero(specimen.kinds == kind)
            mark_particles(
                kinds,
                which,
                envelope,
                specimen.rotations[chosen],
                specimen.positions_angstrom[chosen],
                classes[specimen.species[kind].name],
                chosen + begin["particles"],
                self._voxel,
                middle,
            )
        for number, bead in enumerate(specimen.beads):
            ball = (*bead, 0.5 * specimen.bead_diameter_angstrom)
            mark_ball(kinds, which, ball, classes["bead"], begin["beads"] + number, self._voxel, middle)
        for number, dirt in enumerate(specimen.contamination):
            for ball in dirt.balls_angstrom:
                mark_ball(kinds, which, ball, classes[dirt.name], begin["contamination"] + number, self._voxel, middle)
        return kinds, which

    def _places(self, indices: FloatArray, first: int) -> FloatArray:
        """Specimen coordinates (n, 3) of voxels (n, 3: z from `first`, y, x)."""
        middle = np.array([self._shape[0] // 2 - first, self._shape[1] // 2, self._shape[2] // 2])
        return np.asarray(((indices - middle) * self._voxel)[:, ::-1], dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Envelope:
    """The outline of a species in its own frame."""

    density: NDArray[np.float32]
    """(z, y, x) in a cube of `_ENVELOPE_SPACING`, the origin at ``n // 2``."""
    threshold: float


def particle_envelope(species: Species) -> Envelope:
    """Where a particle is: its density, and the threshold above which lies its volume."""
    size = 2 * int(np.ceil(species.radius_angstrom / _ENVELOPE_SPACING + 4))
    density = density_from_points(
        species.points_angstrom, species.weights, (size,) * 3, _ENVELOPE_SPACING, b_factor=_ENVELOPE_B
    ).numpy()
    voxels = round(_VOLUME_PER_DALTON * 1e3 * species.mass_kda / _ENVELOPE_SPACING**3)
    ordered = np.sort(density.reshape(-1))
    inside = max(1, min(voxels, int((ordered > 0).sum())))
    return Envelope(density=np.ascontiguousarray(density), threshold=float(ordered[-inside]))


def mark_particles(
    kinds: NDArray[np.int16],
    which: NDArray[np.int32],
    envelope: Envelope,
    rotations: FloatArray,
    centres: FloatArray,
    label: int,
    numbers: NDArray[np.int64],
    voxel: float,
    middle: FloatArray,
) -> None:
    """Write the class and the numbers of particles of one species into the voxels that they fill, in place.

    Parameters
    ----------
    kinds, which : (z, y, x)
    rotations, centres : (n, 3, 3) from the species' own frame and (n, 3) in A
    label, numbers : the class, and (n,) a number for each particle
    voxel, middle : A, and (3,) z, y, x of the voxel where the centres' origin falls
    """
    _mark(
        kinds,
        which,
        envelope.density,
        envelope.threshold,
        np.ascontiguousarray(rotations),
        np.ascontiguousarray(centres),
        label,
        numbers.astype(np.int32),
        voxel,
        middle,
    )


def mark_ball(
    kinds: NDArray[np.int16],
    which: NDArray[np.int32],
    ball: Sequence[float] | FloatArray,
    label: int,
    number: int,
    voxel: float,
    middle: FloatArray,
) -> None:
    """Write a class and a number into the voxels of a ball (x, y, z and radius in A), in place."""
    at = np.asarray(ball[:3], dtype=np.float64)[::-1] / voxel + middle
    reach = float(ball[3]) / voxel
    block = tuple(
        slice(max(0, int(np.ceil(a - reach))), max(0, min(n, int(np.floor(a + reach)) + 1)))
        for a, n in zip(at, kinds.shape, strict=True)
    )
    away = sum((i - a) ** 2 for i, a in zip(np.ogrid[block], at, strict=True))
    inside = away <= reach**2
    kinds[block][inside], which[block][inside] = label, number


def _mark_loop(
    kinds: Any,
    which: Any,
    density: Any,
    threshold: float,
    rotations: Any,
    centres: Any,
    label: int,
    numbers: Any,
    voxel: float,
    middle: Any,
) -> None:
    size = density.shape[0]
    half = size // 2
    reach = (half - 1) * _ENVELOPE_SPACING
    low = np.empty(3, dtype=np.int64)
    high = np.empty(3, dtype=np.int64)
    at = np.empty(3)
    for body in range(len(centres)):
        m = rotations[body]
        for axis in range(3):
            place = centres[body, 2 - axis] / voxel + middle[axis]
            low[axis] = max(0, int(np.ceil(place - reach / voxel)))
            high[axis] = min(kinds.shape[axis], int(np.floor(place + reach / voxel)) + 1)
        for z in range(low[0], high[0]):
            for y in range(low[1], high[1]):
                for x in range(low[2], high[2]):
                    dx = (x - middle[2]) * voxel - centres[body, 0]
                    dy = (y - middle[1]) * voxel - centres[body, 1]
                    dz = (z - middle[0]) * voxel - centres[body, 2]
                    inside = True
                    for axis in range(3):  # into the species' own frame
                        at[axis] = (m[0, axis] * dx + m[1, axis] * dy + m[2, axis] * dz) / _ENVELOPE_SPACING + half
                        if at[axis] < 0.0 or at[axis] >= size - 1:
                            inside = False
                    if not inside:
                        continue
                    i, j, k = int(at[0]), int(at[1]), int(at[2])
                    u, v, w = at[0] - i, at[1] - j, at[2] - k
                    value = 0.0
                    for c in range(2):
                        for b in range(2):
                            for a in range(2):
                                share = (u if a else 1.0 - u) * (v if b else 1.0 - v) * (w if c else 1.0 - w)
                                value += share * density[k + c, j + b, i + a]
                    if value >= threshold:
                        kinds[z, y, x] = label
                        which[z, y, x] = numbers[body]


_mark = numba.njit(cache=True, nogil=True)(_mark_loop)
