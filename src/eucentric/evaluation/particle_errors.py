"""How far listed particles are seen from where they truly are, in every image: geometry, deformation, places and poses together."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eucentric.errors import InputError
from eucentric.geometry.so3 import symmetric_angle_deg
from eucentric.geometry.symmetry import symmetry_rotations
from eucentric.geometry.tilt import TiltGeometry
from eucentric.geometry.volume_warp import Deformation
from eucentric.io.truth import TiltTruth
from eucentric.models.particle_projection import ParticleProjections, project_particles
from eucentric.models.particles import ParticleSet
from eucentric.models.tilt_series import TiltSeries
from eucentric.typing import FloatArray

_LOW_TILT_DEG = 30.0
_STEPS = 4  # the images' deformation hardly changes over the few A that a centre moves
_STARTS = 40
_TURNS = 15
_LEAST_DEG = 0.5  # orientations nearer than this to their common turn weigh alike


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SeriesWithTruth:
    """An estimated series, its local deformation, and the answers."""

    series: TiltSeries
    truth: TiltTruth
    deformation: Deformation = field(default_factory=Deformation)

    @property
    def tilts(self) -> list[int]:
        """(tilt,) position of each of the series' tilts in the truth: by the name of its movie.

        Raises
        ------
        InputError : a movie that the truth does not name
        """
        names = list(self.truth.movie_names)
        own = [Path(t.movie or "").name for t in self.series.tilts]
        strange = sorted(set(own) - set(names))
        if strange:
            raise InputError(f"The truth of {self.truth.name} does not name the movie `{strange[0]}` of a tilt.")
        return [names.index(name) for name in own]

    def projected(self, points: FloatArray) -> ParticleProjections:
        """Specimen points (particle, 3) in A where the estimate sees them."""
        return project_particles(points, self.series, self.deformation.image, volume=self.deformation.volume)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ParticleErrors:
    """Distances in the images between true and estimated places, in A, and what goes with them."""

    rows: NDArray[np.int64]
    """(match,) rows of the list whose particle is a true one."""
    true_rows: NDArray[np.int64]
    """(match,) its row in the truth of its series."""
    distances_angstrom: FloatArray
    """(image,) of each match and image of its series that has it in the field."""
    tilts_deg: FloatArray
    """(image,), true."""
    names: NDArray[np.str_]
    """(image,), the series of each."""
    geometry_angstrom: FloatArray
    """(image,) the distances left where every particle may lie elsewhere in the specimen: the geometry's part."""
    centre_angstrom: FloatArray
    """(3,) fitted: where the structure's origin lies in the reference's frame."""
    angles_deg: FloatArray
    """(image,) errors of orientation over the camera, after one common turn of the reference."""
    defocus_angstrom: FloatArray
    """(image,) estimated less true defocus; NaN where the CTF is not known."""

    @property
    def rms_angstrom(self) -> float:
        return _rms(self.distances_angstrom)

    @property
    def geometry_rms_angstrom(self) -> float:
        return _rms(self.geometry_angstrom)

    @property
    def rms_by_tilt_angstrom(self) -> tuple[float, float]:
        """Up to 30 degrees, and beyond; NaN where there is no such tilt."""
        low = np.abs(self.tilts_deg) <= _LOW_TILT_DEG
        return _rms(self.distances_angstrom[low]), _rms(self.distances_angstrom[~low])

    @property
    def rms_by_series_angstrom(self) -> dict[str, float]:
        return {name: _rms(self.distances_angstrom[self.names == name]) for name in dict.fromkeys(map(str, self.names))}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Seen:
    """The matched particles of one series."""

    source: SeriesWithTruth
    rows: NDArray[np.int64]
    true_rows: NDArray[np.int64]
    positions: FloatArray
    rotations: FloatArray
    camera: FloatArray
    """(tilt, match, 3) true."""
    inside: NDArray[np.bool_]
    """(tilt, match)."""

    def places(self, centre: FloatArray) -> FloatArray:
        """(match, 3) where the estimate has the structures' origins, `centre` (3,) being that of the reference."""
        return np.asarray(self.positions + self.rotations @ centre)

    def offsets(self, places: FloatArray) -> FloatArray:
        """(tilt, match, 2) A from true to estimated image positions."""
        return _image_places(self.source, places) - self.camera[..., :2]


def particle_position_errors(
    sources: Sequence[SeriesWithTruth],
    particles: ParticleSet,
    kind: int,
    symmetry: str = "C1",
    *,
    distance_angstrom: float = 40.0,
) -> ParticleErrors:
    """Errors of a list of one species in the images of all its series.

    A listed particle is the true one that it is seen nearest to, by the rms over the images, where no other listed one is
    nearer still. Image positions are absolute. Free are, for the species, one point of the reference that the structure's origin
    lies at (least squares; on the axes of the symmetry only) and one turn of the reference (least absolute angles).

    Parameters
    ----------
    sources : one for every tomogram of the list
    particles : with rotations from the reference, whose symmetry lies as :func:`symmetry_rotations` has it
    kind : of the true particles
    symmetry : of the species
    distance_angstrom : rms distance in the images within which a particle is a true one

    Raises
    ------
    InputError : a series that is missing or not aligned, or no particle near a true one
    """
    known = {s.series.name: s for s in sources}
    missing = [name for name in particles.tomogram_names if name not in known]
    if missing:
        raise InputError(f"There is no series with truth of {missing[0]}, which the list has particles in.")
    seen = [_matched(known[name], particles, kind, distance_angstrom) for name in particles.tomogram_names]
    if not sum(len(s.rows) for s in seen):
        raise InputError(
            f"None of {len(particles)} particles is within {distance_angstrom:g} A of a true one of kind {kind}. Give the "
            "list's own kind and geometry."
        )
    group = symmetry_rotations(symmetry)
    centre = _fitted_centre(seen, group)
    turns = [_relative_turns(s) for s in seen]
    common = _common_turn([t for s, turn in zip(seen, turns, strict=True) for t in _means(turn, s.inside)], symmetry)
    parts = [s.inside for s in seen]
    true_tilts = [s.source.truth.true_tilts_deg[s.source.tilts] for s in seen]
    angles = [
        symmetric_angle_deg(turn[inside], np.broadcast_to(common, (int(inside.sum()), 3, 3)), symmetry)
        for turn, inside in zip(turns, parts, strict=True)
    ]
    return ParticleErrors(
        rows=np.concatenate([s.rows for s in seen]),
        true_rows=np.concatenate([s.true_rows for s in seen]),
        distances_angstrom=_gathered([np.linalg.norm(s.offsets(s.places(centre)), axis=-1) for s in seen], parts),
        tilts_deg=np.concatenate(
            [np.broadcast_to(t[:, None], p.shape)[p] for t, p in zip(true_tilts, parts, strict=True)]
        ),
        names=np.concatenate([np.full(int(s.inside.sum()), s.source.series.name) for s in seen]),
        geometry_angstrom=_gathered([_geometry_part(s, s.places(centre)) for s in seen], parts),
        centre_angstrom=centre,
        angles_deg=np.concatenate(angles),
        defocus_angstrom=_gathered([_defocus_errors(s, s.places(centre)) for s in seen], parts),
    )


def _rms(values: FloatArray) -> float:
    return float(np.sqrt((values**2).mean())) if len(values) else float("nan")


def _gathered(values: Sequence[FloatArray], inside: Sequence[NDArray[np.bool_]]) -> FloatArray:
    return np.concatenate([v[part] for v, part in zip(values, inside, strict=True)])


def _image_places(source: SeriesWithTruth, points: FloatArray) -> FloatArray:
    """(tilt, particle, 2) A from the image centre."""
    centre = np.array(source.series.image_shape[::-1]) // 2
    return np.asarray((source.projected(points).pixels - centre) * source.series.pixel_size_angstrom)


def _matched(source: SeriesWithTruth, particles: ParticleSet, kind: int, reach: float) -> _Seen:
    own = np.flatnonzero(particles.tomograms == source.series.name)
    there = np.flatnonzero(source.truth.kinds == kind)
    if not len(there):
        raise InputError(f"The truth of {source.truth.name} has no particle of kind {kind}.")
    camera = source.truth.camera_positions(source.truth.positions[there], deformed=True)[source.tilts]
    found = _image_places(source, particles.positions_angstrom[own])
    square = np.zeros((len(own), len(there)))
    for ours, true in zip(found, camera, strict=True):
        square += ((ours[:, None] - true[None, :, :2]) ** 2).sum(-1) / len(camera)
    nearest = square.argmin(axis=1)
    mine = np.arange(len(own))
    keep = (square[mine, nearest] <= reach**2) & (square.argmin(axis=0)[nearest] == mine)
    rows, places = own[keep], nearest[keep]
    size = np.array(source.series.image_shape[::-1])
    pixels = camera[:, places, :2] / source.series.pixel_size_angstrom + size // 2
    return _Seen(
        source=source,
        rows=rows,
        true_rows=there[places],
        positions=particles.positions_angstrom[rows],
        rotations=particles.rotations[rows],
        camera=camera[:, places],
        inside=((pixels >= -0.5) & (pixels <= size - 0.5)).all(axis=-1),
    )


def _fitted_centre(seen: Sequence[_Seen], group: FloatArray) -> FloatArray:
    """(3,) the point of the reference that brings the images nearest; one that the symmetry leaves where it is."""
    values, vectors = np.linalg.eigh(group.mean(axis=0) + group.mean(axis=0).T)
    free = vectors[:, values > 1.0]  # of a mean over a group eigenvalues are 0 or 1; here twice that
    centre = np.zeros(3)
    for _ in range(_STEPS if free.shape[1] else 0):
        square, right = np.zeros((free.shape[1],) * 2), np.zeros(free.shape[1])
        for s in seen:
            matrices = TiltGeometry.from_poses(s.source.series.poses).image_matrices
            slope = np.einsum("tij,pjk,kf->tpif", matrices, s.rotations, free)[s.inside].reshape(-1, free.shape[1])
            square += slope.T @ slope
            right -= slope.T @ s.offsets(s.places(centre))[s.inside].reshape(-1)
        centre = centre + free @ np.linalg.lstsq(square, right, rcond=None)[0]
    return centre


def _geometry_part(seen: _Seen, places: FloatArray) -> FloatArray:
    """(tilt, match) A of distance left after every particle has found its best place in the specimen."""
    matrices = TiltGeometry.from_poses(seen.source.series.poses).image_matrices
    moved = places.copy()
    for _ in range(_STEPS):
        offsets = seen.offsets(moved)
        for particle, inside in enumerate(seen.inside.T):
            slope, step = matrices[inside].reshape(-1, 3), offsets[inside, particle].reshape(-1)
            moved[particle] -= np.linalg.lstsq(slope, step, rcond=None)[0]
    return np.asarray(np.linalg.norm(seen.offsets(moved), axis=-1))


def _relative_turns(seen: _Seen) -> FloatArray:
    """(tilt, match, 3, 3) the estimated orientation over the camera as the true one sees it."""
    truth = seen.source.truth
    true = np.einsum("tij,pjk->tpik", truth.matrices[seen.source.tilts], truth.rotations[seen.true_rows])
    matrices = TiltGeometry.from_poses(seen.source.series.poses).matrices
    return np.asarray(np.einsum("tpji,tjk,pkl->tpil", true, matrices, seen.rotations))


def _nearest_rotation(matrix: FloatArray) -> FloatArray:
    left, _, right = np.linalg.svd(matrix)
    flip = np.ones(3)
    flip[2] = np.linalg.det(left @ right)
    return np.asarray((left * flip) @ right)


def _means(turns: FloatArray, inside: NDArray[np.bool_]) -> list[FloatArray]:
    """The mean over images of each particle's turn."""
    return [_nearest_rotation(turns[part, p].sum(axis=0)) for p, part in enumerate(inside.T) if part.any()]


def _common_turn(turns: Sequence[FloatArray], symmetry: str) -> FloatArray:
    """(3, 3) the turn that all have in common, so that the sum of the angles to it is least."""
    group, every = symmetry_rotations(symmetry), np.array(turns)
    starts = every[np.linspace(0, len(every) - 1, min(_STARTS, len(every))).astype(int)]
    far = [np.median(symmetric_angle_deg(every, np.broadcast_to(s, every.shape), symmetry)) for s in starts]
    common = starts[int(np.argmin(far))]
    for _ in range(_TURNS):
        alike = np.einsum("nij,gjk,ik->ng", every, group, common).argmax(axis=1)
        angles = symmetric_angle_deg(every, np.broadcast_to(common, every.shape), symmetry)
        weights = 1.0 / np.maximum(angles, _LEAST_DEG)
        common = _nearest_rotation(np.einsum("n,nij->ij", weights, every @ group[alike]))
    return np.asarray(common)


def _defocus_errors(seen: _Seen, places: FloatArray) -> FloatArray:
    """(tilt, match) A."""
    found, truth, tilts = seen.source.projected(places), seen.source.truth, seen.source.tilts
    mean = 0.5 * (truth.defocus_u_angstrom + truth.defocus_v_angstrom)[tilts]
    true = mean[:, None] + truth.hand * seen.camera[..., 2]
    return np.asarray(0.5 * (found.defocus_u_angstrom + found.defocus_v_angstrom) - true)
