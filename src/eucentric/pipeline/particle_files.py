"""Tools on lists of particles in files: what they read, check and write."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eucentric.errors import FormatError, InputError
from eucentric.evaluation.alignment_error import alignment_error
from eucentric.evaluation.pick_errors import PickScore, score_picks
from eucentric.geometry import Deformation, Rotation, TiltGeometry
from eucentric.io import labels
from eucentric.io.mrc import read_mrc
from eucentric.io.particle_losses import particle_losses
from eucentric.io.particles import (
    IN_PIXELS_OF_IMAGES,
    PLAIN_ENDINGS,
    READ_ONLY,
    known_format,
    particle_format,
    read_particles,
    read_tomogram_frames,
    with_numbers,
    write_particles,
)
from eucentric.io.plain_particles import PlainWords
from eucentric.io.relion_particles import PIXEL
from eucentric.io.star import write_star
from eucentric.io.tilt_series import read_tilt_series, read_tilt_series_set
from eucentric.io.truth import TiltTruth, read_truth
from eucentric.io.warps import read_deformation, read_folded_warp
from eucentric.models.particle_projection import ParticleProjections, project_particles
from eucentric.models.particle_selection import distance_to_mask, has_neighbours, height_in_specimen, in_volume
from eucentric.models.particles import ParticleSet
from eucentric.models.tilt_series import TiltSeries
from eucentric.models.tomogram_frames import TomogramFrame, TomogramFrames
from eucentric.pipeline.curation_ratings import read_ratings
from eucentric.pipeline.reprojecting import project_of
from eucentric.typing import FloatArray

_NO_VOXEL_SIZE = frozenset({"stopgap", "em", "warp"})
"""Formats that are read with one voxel size for all their tomograms."""


@dataclass(frozen=True, kw_only=True)
class Grids:
    """What is known of the tomograms that lists in voxels refer to."""

    tomograms: Path | None = None
    """table of tomograms or tilt series, or one volume."""
    size_xyz: tuple[int, int, int] | None = None
    pixel_size_angstrom: float | None = None
    numbers: Path | None = None
    words: PlainWords = field(default_factory=PlainWords)
    """how plain numbers are meant."""

    def frames(self, format_name: str) -> TomogramFrames:
        """Grids as a format needs them.

        Raises
        ------
        InputError : a size without voxel size, or the other way about
        """
        if (self.size_xyz is None) != (self.pixel_size_angstrom is None):
            raise InputError(
                "Give --tomogram-size X Y Z and --pixel-size together: one says nothing without the other."
            )
        frames = TomogramFrames()
        if self.tomograms is not None:
            frames = read_tomogram_frames(self.tomograms, of_images=format_name in IN_PIXELS_OF_IMAGES)
        if self.size_xyz is not None and self.pixel_size_angstrom is not None:
            own = TomogramFrame(voxel_size_angstrom=self.pixel_size_angstrom, size_xyz=self.size_xyz)
            frames = replace(frames, by_name={} if self.tomograms is None else frames.by_name, default=own)
        return frames if self.numbers is None else with_numbers(frames, self.numbers)


def read_list(path: Path, grids: Grids | None = None, format_name: str | None = None) -> ParticleSet:
    """Particles of a list that holds some.

    Raises
    ------
    InputError, FormatError : as `eucentric.io.read_particles`; a list without particles
    """
    if not path.exists():
        raise InputError(f"`{path}` does not exist. Check the name and the folder.")
    given = grids or Grids()
    if format_name is None and given.words.told and path.suffix.lower() in PLAIN_ENDINGS:
        format_name = "plain"
    found = format_name or ("imod" if path.is_dir() else particle_format(path))
    particles = read_particles(path, given.frames(known_format(found)), format_name, words=given.words)
    if not len(particles):
        raise InputError(f"`{path}` holds no particle. There is nothing to do with it.")
    return particles


@dataclass(frozen=True, kw_only=True)
class ListToWrite:
    """A list that is ready to be written in another format."""

    particles: ParticleSet
    to: str
    frames: TomogramFrames
    words: PlainWords | None
    tomograms: Path | None
    """The table that was given, for formats that name one."""

    def write(self, target: Path, rows: Sequence[int] | None = None) -> list[Path]:
        """Write all particles, or those of some rows; the files made. Errors as `write_particles`."""
        some = self.particles if rows is None else self.particles.select(list(rows))
        return write_particles(target, some, self.to, self.frames, words=self.words, tomograms=self.tomograms)

    def losses(self, target: Path) -> tuple[str, ...]:
        """Sentences on what the format cannot hold of these particles."""
        return particle_losses(self.particles, self.to, path=target, words=self.words)


def prepare_list(source: Path, to: str, grids: Grids, from_format: str | None = None) -> ListToWrite:
    """Read a list, and what another format needs to know about it.

    Raises
    ------
    InputError : as :func:`read_list`; tomograms of several voxel sizes in a format that is read with one
    """
    if known_format(to) in READ_ONLY:
        raise InputError(f"Lists of {to} are read, not written. Give another format with --to.")
    particles = read_list(source, grids, from_format)
    frames = grids.frames(to)
    if to in _NO_VOXEL_SIZE:
        sizes = sorted(set(frames.voxel_sizes(particles.tomograms).tolist()))
        if len(sizes) > 1:
            raise InputError(
                f"The tomograms of `{source}` have voxels of {', '.join(f'{s:g}' for s in sizes)} A, and a list of {to} is read with "
                "one size. Write a list for each: eucentric particles select --tomogram NAME."
            )
    if to == "emclarity" and grids.tomograms is not None and grids.tomograms.suffix.lower() == ".star":
        images = read_tomogram_frames(grids.tomograms, of_images=True)
        particles = particles.with_column(PIXEL, images.voxel_sizes(particles.tomograms))
    table = grids.tomograms
    return ListToWrite(
        particles=particles,
        to=to,
        frames=frames,
        # told words are of the plain list that is read, where one is
        words=None if (from_format or source.suffix.lower()) in {"plain", *PLAIN_ENDINGS} else grids.words,
        tomograms=table if table is not None and table.suffix.lower() == ".star" else None,
    )


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which particles to keep; what is None does not matter."""

    tomograms: Sequence[str] = ()
    kinds: Sequence[str] = ()
    min_score: float | None = None
    max_q_value: float | None = None
    best: int | None = None
    """of each tomogram and kind, by score."""
    mask: Path | None = None
    mask_distance_angstrom: tuple[float, float] | None = None
    """signed distances to the mask's border instead of being inside of it."""
    slab_angstrom: tuple[float, float] | None = None
    series: Path | None = None
    neighbours: int | None = None
    neighbour_distance_angstrom: float | None = None
    neighbour_angle_deg: float | None = None
    min_tilts: int | None = None
    radius_angstrom: float = 0.0
    min_rating: int | None = None
    """of their tomograms, as a person rated them; tomograms without rating are passed over."""
    ratings: Path | None = None


def select_particles(particles: ParticleSet, wanted: Selection) -> ParticleSet:
    """Particles that fulfil every wish, in their order.

    Raises
    ------
    InputError : a wish that lacks what it needs: scores, q-values, a mask, the series
    """
    keep = np.ones(len(particles), dtype=bool)
    if wanted.tomograms:
        keep &= [any(fnmatchcase(str(n), p) for p in wanted.tomograms) for n in particles.tomograms]
    if wanted.kinds:
        unknown = sorted(set(wanted.kinds) - {str(kind) for kind in particles.kinds})
        if unknown:
            there = ", ".join(sorted({str(kind) for kind in particles.kinds} - {""})) or "none is named"
            raise InputError(f"No particle is of kind {unknown[0]}. There are: {there}.")
        keep &= np.isin(particles.kinds, list(wanted.kinds))
    if wanted.min_score is not None:
        if np.isnan(particles.scores).all():
            raise InputError("The particles have no scores to select by.")
        keep &= np.nan_to_num(particles.scores, nan=-np.inf) >= wanted.min_score
    if wanted.max_q_value is not None:
        if "eucQValue" not in particles.columns:
            raise InputError("The particles have no q-values (eucQValue) to select by.")
        keep &= np.nan_to_num(particles.columns["eucQValue"], nan=np.inf) <= wanted.max_q_value
    if wanted.mask is not None:
        keep &= _by_mask(particles, wanted.mask, wanted.mask_distance_angstrom)
    if wanted.slab_angstrom is not None:
        low, high = wanted.slab_angstrom
        heights = _heights(particles, wanted.series)
        keep &= (heights >= low) & (heights <= high)
    if wanted.min_rating is not None:
        if wanted.ratings is None:
            raise InputError("Give --ratings TABLE with --min-rating: how good each tomogram is.")
        rated = read_ratings(wanted.ratings)
        keep &= [rated.get(str(n), -1) >= wanted.min_rating for n in particles.tomograms]
    if wanted.min_tilts is not None:
        if wanted.series is None:
            raise InputError(
                "Give --series TABLE: only aligned tilt series tell in how many images a particle is seen."
            )
        keep &= tilts_seen(particles, wanted.series, wanted.radius_angstrom) >= wanted.min_tilts
    kept = particles.select(keep)
    if wanted.neighbours is not None:
        if wanted.neighbour_distance_angstrom is None:
            raise InputError("Give --neighbour-distance with --neighbours: how far away a neighbour may be.")
        near = has_neighbours(
            kept, wanted.neighbour_distance_angstrom, wanted.neighbours, max_angle_deg=wanted.neighbour_angle_deg
        )
        kept = kept.select(near)
    return kept if wanted.best is None else _best(kept, wanted.best)


def _best(particles: ParticleSet, count: int) -> ParticleSet:
    keep = np.zeros(len(particles), dtype=bool)
    rank = np.argsort(-np.nan_to_num(particles.scores, nan=-np.inf), kind="stable")
    seen: dict[tuple[str, str], int] = {}
    for row in rank:
        group = (str(particles.tomograms[row]), str(particles.kinds[row]))
        seen[group] = seen.get(group, 0) + 1
        keep[row] = seen[group] <= count
    return particles.select(keep)


def _by_mask(particles: ParticleSet, mask: Path, limits: tuple[float, float] | None) -> NDArray[np.bool_]:
    """Inside of a mask, or at signed distances from its border; a folder holds `<tomogram>.mrc` for each."""
    keep = np.zeros(len(particles), dtype=bool)
    names = particles.tomogram_names
    if mask.is_file() and len(names) > 1:
        raise InputError(
            f"`{mask}` is one volume, and the particles are of {len(names)} tomograms. Name the one with --tomogram, or "
            "give a folder with <tomogram>.mrc for each."
        )
    for name in names:
        file = mask / f"{name}.mrc" if mask.is_dir() else mask
        volume, header = read_mrc(file)
        if header.voxel_size_angstrom is None:
            raise FormatError(f"`{file}` does not tell its voxel size. Set it in the header.")
        z, y, x = volume.shape
        frame = TomogramFrame(voxel_size_angstrom=header.voxel_size_angstrom[0], size_xyz=(x, y, z))
        rows = particles.tomograms == name
        places = particles.positions_angstrom[rows]
        if limits is None:
            keep[rows] = in_volume(places, volume, frame)
        else:
            distance = distance_to_mask(places, volume, frame)
            keep[rows] = (distance >= limits[0]) & (distance <= limits[1])
    return keep


def _heights(particles: ParticleSet, table: Path | None) -> FloatArray:
    """A above the specimen centre along z, or above the specimen's middle plane where its series is known."""
    if table is None:
        return np.array(particles.positions_angstrom[:, 2])
    heights = np.array(particles.positions_angstrom[:, 2])
    for name in particles.tomogram_names:
        series = read_tilt_series(table, name, project_of(table))
        if series.specimen is not None:
            rows = particles.tomograms == name
            heights[rows] = height_in_specimen(particles.positions_angstrom[rows], series.specimen)
    return heights


def project_list(
    particles: ParticleSet, table: Path, margin_angstrom: float = 0.0
) -> list[tuple[TiltSeries, ParticleProjections]]:
    """Particles in the images of their series, with the warps that these have; one entry a series, rows in order.

    Raises
    ------
    InputError : a series that the table does not have, or that is not aligned
    """
    root = project_of(table)
    out = []
    for name in particles.tomogram_names:
        series = read_tilt_series(table, name, root)
        bent = Deformation() if series.warp is None else read_deformation(root / series.warp, series)
        places = particles.positions_angstrom[particles.tomograms == name]
        out.append(
            (series, project_particles(places, series, bent.image, volume=bent.volume, margin_angstrom=margin_angstrom))
        )
    return out


def tilts_seen(particles: ParticleSet, table: Path, radius_angstrom: float) -> FloatArray:
    """(particle,) in how many images each is seen whole."""
    counts = np.zeros(len(particles))
    for series, seen in project_list(particles, table, radius_angstrom):
        counts[particles.tomograms == series.name] = seen.tilts_seen
    return counts


def write_projections(path: Path, particles: ParticleSet, table: Path, margin_angstrom: float = 0.0) -> int:
    """Write a row for every particle and tilt: where it is seen, whether it is, and its defocus; the rows written."""
    blocks = project_list(particles, table, margin_angstrom)
    columns: dict[str, list[object]] = {}

    def add(label: str, values: object) -> None:
        columns.setdefault(label, []).extend(np.asarray(values).ravel().tolist())

    for series, seen in blocks:
        tilts, count = seen.visible.shape
        add("rlnTomoName", np.full(tilts * count, series.name))
        names = [f"{series.name}/{n + 1}" for n in range(count)]
        add("rlnTomoParticleName", np.tile(np.array(names), tilts))
        add(labels.TILT_ANGLE, np.repeat(series.nominal_tilts_deg, count))
        add("rlnCoordinateX", seen.pixels[..., 0])
        add("rlnCoordinateY", seen.pixels[..., 1])
        add(labels.VISIBLE, seen.visible.astype(int))
        add(labels.HEIGHT, seen.heights_angstrom)
        add("rlnDefocusU", seen.defocus_u_angstrom)
        add("rlnDefocusV", seen.defocus_v_angstrom)
        angle = np.array([0.0 if t.ctf is None else t.ctf.astigmatism_angle_deg for t in series.tilts])
        add("rlnDefocusAngle", np.repeat(angle, count))
    write_star(path, {"particles": columns})
    return len(columns["rlnTomoName"])


def read_true_particles(path: Path, table: Path | None = None) -> ParticleSet:
    """Known particles: a list, or the truth of a simulated series (`.json`), in the frame of estimated series where given.

    Parameters
    ----------
    path : list of particles, or `<name>_truth.json`
    table : aligned tilt series; the rotation and the static bend that no image tells are carried over from them
    """
    if path.suffix.lower() != ".json":
        return read_list(path)
    truth = read_truth(path)
    whole = ParticleSet.build(
        truth.name, truth.positions, rotations=truth.rotations, kinds=[str(kind) for kind in truth.kinds]
    )
    if table is None:
        return whole
    series = next((s for s in read_tilt_series_set(table, project_of(table)) if s.name == truth.name), None)
    if series is None:
        raise InputError(f"`{table}` has no series {truth.name}, which `{path}` is the truth of.")
    return in_estimated_frame(whole, truth, series, project_of(table))


def rename_kinds(particles: ParticleSet, names: Sequence[str]) -> ParticleSet:
    """Particles under other names of their kinds.

    Parameters
    ----------
    names : OLD=NEW each; kinds not named stay as they are

    Raises
    ------
    InputError : an entry without =, or a kind that no particle is of
    """
    renamed = {}
    for entry in names:
        old, equals, new = entry.partition("=")
        if not equals:
            raise InputError(f"`{entry}` does not rename a kind. Expected OLD=NEW, such as 0=30S.")
        renamed[old] = new
    there = sorted({str(kind) for kind in particles.kinds})
    missing = sorted(set(renamed) - set(there))
    if missing:
        raise InputError(f"No particle is of kind {', '.join(missing)}. There are: {', '.join(there)}.")
    return particles.with_kinds([renamed.get(str(kind), str(kind)) for kind in particles.kinds])


def in_estimated_frame(particles: ParticleSet, truth: TiltTruth, series: TiltSeries, root: Path) -> ParticleSet:
    """True particles where the estimated geometry of a series has them, turned with the specimen."""
    names = list(truth.movie_names)
    places = []
    for tilt in series.tilts:
        name = Path(tilt.movie or "").name
        nearest = int(np.abs(truth.nominal_tilts_deg - tilt.nominal_tilt_deg).argmin())
        places.append(names.index(name) if name in names else nearest)
    warp = None if series.warp is None else read_folded_warp(root / series.warp, series)
    error = alignment_error(truth, places, TiltGeometry.from_poses(series.poses), warp)
    turns = error.turn_at(particles.positions_angstrom)
    turned = Rotation(turns).compose(Rotation(particles.rotations)).matrices
    return particles.with_positions(error.to_estimate(particles.positions_angstrom)).with_rotations(turned)


def check_kinds(picks: ParticleSet, truth: ParticleSet, symmetric: Collection[str], *, by_kind: bool) -> None:
    """
    Parameters
    ----------
    symmetric : kinds that a symmetry is given for; "" for all

    Raises
    ------
    InputError : no kind of the picks is one of the truth, so that nothing could match; a symmetry of a kind that is not there
    """
    known, asked = ({str(kind) for kind in one.kinds} for one in (picks, truth))
    if by_kind and len(picks) and not known & asked:
        own = ", ".join(sorted(known - {""})) or "no kind"
        raise InputError(
            f"The picks are of {own}, and the truth is of {', '.join(sorted(asked))}. Give the truth's kinds the names that the "
            f"picks have, as in --truth-kinds {min(asked)}=NAME, or give --any-kind."
        )
    strange = set(symmetric) - asked - {""}
    if strange:
        raise InputError(f"A symmetry is given for {min(strange)}; the truth is of {', '.join(sorted(asked))}.")


def score_lists(
    picks: ParticleSet,
    truth: ParticleSet,
    distance_angstrom: float,
    *,
    symmetries: dict[str, FloatArray] | None = None,
    table: Path | None = None,
    min_tilts: int | None = None,
    radius_angstrom: float = 0.0,
    by_kind: bool = True,
) -> list[PickScore]:
    """Scores against known particles; with `min_tilts` only those seen whole in so many images can be asked for."""
    required = None
    if min_tilts is not None:
        if table is None:
            raise InputError(
                "Give --series TABLE: only aligned tilt series tell in how many images a particle is seen."
            )
        required = tilts_seen(truth, table, radius_angstrom) >= min_tilts
    return score_picks(picks, truth, distance_angstrom, symmetries=symmetries, required=required, by_kind=by_kind)
