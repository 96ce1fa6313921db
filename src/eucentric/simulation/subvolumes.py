"""Training boxes cut from simulated specimens, as a tomogram would show them, without images or movies.

Each box is a random place of a specimen under a random turn. Its potential passes through the transfer of a random tilt series
(missing wedge, CTF, dose) and receives shot noise, once for each half volume; labels, instances, distances to membranes and the poses
of particles come with it.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from scipy.ndimage import distance_transform_edt
from torch import Tensor
from torch.utils.data import Dataset

from eucentric.compute import good_size, seeded_generator
from eucentric.errors import InputError
from eucentric.geometry import Rotation, TiltGeometry
from eucentric.models.optics import Optics
from eucentric.models.settings import Frozen
from eucentric.optics.box_transfer import BoxTransfer, Correction
from eucentric.simulation.bodies import specimen_bodies
from eucentric.simulation.body import Body
from eucentric.simulation.density_grid import density_transform
from eucentric.simulation.label_volume import Envelope, LabelTable, mark_ball, mark_particles, particle_envelope
from eucentric.simulation.specimen import Specimen
from eucentric.simulation.surfaces import SurfaceDistance
from eucentric.typing import FloatArray

_FARTHEST = 60.0  # A, distances to membranes are told up to here
_PASSES = 1.8  # voxels: more than half of the diagonal between samples two voxels apart


class SubvolumeParams(Frozen):
    """What boxes look like. Ranges are drawn from evenly, for every tilt series anew."""

    box_size: int = Field(default=64, ge=16, description="voxels along each side")
    voxel_size_angstrom: float = Field(
        default=10.0, gt=0, description="A; the sampling at which tomograms are segmented"
    )
    margin: int = Field(default=8, ge=0, description="voxels around it that are simulated and cut away")
    turn: Literal["any", "in-plane", "none"] = Field(
        default="any", description="how specimens are turned before a box is cut: in-plane keeps the film level"
    )
    tilt_range_deg: tuple[float, float] = Field(default=(50.0, 65.0), description="degrees, of the largest tilt")
    tilt_step_deg: tuple[float, ...] = Field(default=(2.0, 3.0), description="degrees, one of them")
    pre_tilt_deg: float = Field(default=10.0, ge=0, description="degrees, largest tilt of the wedge's middle")
    dose: tuple[float, float] = Field(default=(90.0, 140.0), description="e/A^2 of the whole series")
    defocus_angstrom: tuple[float, float] = Field(default=(20000.0, 55000.0), description="A, underfocus")
    thickness_angstrom: tuple[float, float] = Field(
        default=(1000.0, 2500.0), description="A, of the ice: it takes electrons away"
    )
    mean_free_path_angstrom: float = Field(default=3000.0, gt=0, description="A, of inelastic scattering in ice")
    b_factor: tuple[float, float] = Field(default=(100.0, 400.0), description="A^2, of lens, camera and alignment")
    voltage_kv: float = Field(default=300.0, ge=80, le=1300, description="kV")
    correction: Correction = Field(default="flip", description="of the CTF by the reconstruction")
    series: int = Field(default=16, ge=1, description="different tilt series among which boxes are dealt")
    standardised: bool = Field(
        default=True,
        description="halves with mean 0 and their mean with standard deviation 1; else contrast as recorded",
    )
    most_particles: int = Field(default=128, ge=1, description="rows of the table of particles of a box")

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        pairs = ("tilt_range_deg", "dose", "defocus_angstrom", "thickness_angstrom", "b_factor")
        for name in pairs:
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} must be two positive numbers, the smaller first")
        if not self.tilt_step_deg or min(self.tilt_step_deg) <= 0 or self.tilt_range_deg[1] > 80:
            raise ValueError("tilts need steps above zero and a range up to 80 degrees")
        return self


class SubvolumeDataset(Dataset[dict[str, Tensor]]):
    """Boxes by number, each the same whenever it is asked for.

    An item is a dictionary of tensors, volumes as (z, y, x) of `box_size`:

    - `half1`, `half2`: float32, as from independent halves of the electrons; matter is dark
    - `clean`: float32, V of potential above the ice at the same sampling, matter bright
    - `wedge`: float32 (z, y, x // 2 + 1) on the samples of an rfftn: what the tilt series measured, 0 to 1
    - `labels`: int64, numbers of `classes`, 0 nothing; `instances`: int64, 0 or the particle's number from 1
    - `membrane_distance`: float32, A to the nearest mid-surface, negative inside, cut at +-60
    - `kinds` (n,) species or -1 for rows not used, `positions_px` (n, 3) x, y, z in voxels, `rotations` (n, 3, 3)
    """

    def __init__(
        self, specimens: Sequence[Specimen], params: SubvolumeParams | None = None, *, count: int = 1000, seed: int = 1
    ) -> None:
        """Boxes of some specimens.

        Parameters
        ----------
        count : number of boxes
        seed : another seed, other boxes

        Raises
        ------
        InputError : no specimen, or no box asked for
        """
        if not specimens or count < 1:
            raise InputError(
                f"{count} boxes of {len(specimens)} specimens were asked for; expected one or more of each."
            )
        self.params = params or SubvolumeParams()
        self._count, self._seed = count, seed
        tables = [LabelTable.of(s).classes for s in specimens]
        self.classes = tuple(dict.fromkeys(name for table in tables for name in table))
        """Names of the numbers in `labels`."""
        self._worlds = [_World(s, self.params, np.random.default_rng([seed, i, 11])) for i, s in enumerate(specimens)]
        self._side = good_size(self.params.box_size + 2 * self.params.margin)
        self._transfer = lru_cache(maxsize=None)(self._make_transfer)

    def __len__(self) -> int:
        return self._count

    def __getstate__(self) -> dict[str, object]:
        """For the processes of a loader: each makes its own transfers."""
        return {name: value for name, value in self.__dict__.items() if name != "_transfer"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._transfer = lru_cache(maxsize=None)(self._make_transfer)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if not 0 <= index < self._count:
            raise IndexError(f"box {index} of {self._count}")
        rng = np.random.default_rng([self._seed, index, 12])
        world = self._worlds[int(rng.integers(len(self._worlds)))]
        turn = _turn(self.params.turn, rng)
        middle = world.random_place(rng)
        transfer = self._transfer(int(rng.integers(self.params.series)))
        volumes = self._volumes(world, turn, middle, transfer, int(rng.integers(2**62)))
        return {**volumes, **self._truth(world, turn, middle)}

    def restorations(self, index: int, views: int = 1) -> list[dict[str, Tensor]]:
        """A place of a specimen as it was and as tilt series show it, to train what restores tomograms; no labels.

        Each view is another tilt series of the same matter turned onto other axes, a dictionary of

        - `half1`, `half2`: as in an item, never standardised
        - `signal`: what both halves have in common, without noise
        - `whole`: the same, had every direction been measured and the CTF kept its first peak beyond it
        - `wedge`: float32 on the samples of an rfftn, as in an item
        """
        rng = np.random.default_rng([self._seed, index, 14])
        world = self._worlds[int(rng.integers(len(self._worlds)))]
        turn, middle = _turn(self.params.turn, rng), world.random_place(rng)
        side, voxel = self._side, self.params.voxel_size_angstrom
        potential = density_transform(world.bodies_near(turn, middle, 0.5 * side * voxel), side, voxel)
        found = []
        for view in range(views):
            transfer = self._transfer(int(rng.integers(self.params.series)))
            seen = torch.fft.rfftn(_onto_axes(torch.fft.irfftn(potential, s=(side,) * 3), rng)) if view else potential
            halves = self._halves(seen * transfer.signal, transfer, int(rng.integers(2**62)))
            found.append(
                {
                    "half1": halves[0],
                    "half2": halves[1],
                    "signal": self._cut(torch.fft.irfftn(seen * transfer.signal, s=(side,) * 3)),
                    "whole": self._cut(torch.fft.irfftn(seen * transfer.whole, s=(side,) * 3)),
                    "wedge": self._wedge(transfer),
                }
            )
        return found

    def _halves(self, signal: Tensor, transfer: BoxTransfer, seed: int) -> list[Tensor]:
        generator = seeded_generator(seed)
        shape = (self._side,) * 3
        halves = []
        for _ in range(2):
            white = torch.fft.rfftn(torch.randn(shape, generator=generator))
            halves.append(self._cut(torch.fft.irfftn(signal + transfer.noise * white, s=shape)))
        return halves

    def _wedge(self, transfer: BoxTransfer) -> Tensor:
        size = self.params.box_size
        coverage = torch.fft.fftshift(transfer.coverage, dim=(0, 1))
        whole = torch.nn.functional.interpolate(
            coverage[None, None], size=(size, size, size // 2 + 1), mode="trilinear", align_corners=True
        )[0, 0]
        out: Tensor = torch.fft.ifftshift(whole, dim=(0, 1))
        return out

    def _volumes(
        self, world: "_World", turn: FloatArray, middle: FloatArray, transfer: BoxTransfer, seed: int
    ) -> dict[str, Tensor]:
        params, side = self.params, self._side
        shape = (side, side, side)
        reach = 0.5 * side * params.voxel_size_angstrom
        potential = density_transform(world.bodies_near(turn, middle, reach), side, params.voxel_size_angstrom)
        halves = self._halves(potential * transfer.signal, transfer, seed)
        if params.standardised:
            mean = 0.5 * (halves[0] + halves[1])
            scale = mean.std().clamp_min(1e-20)
            halves = [(half - mean.mean()) / scale for half in halves]
        return {
            "half1": halves[0],
            "half2": halves[1],
            "clean": self._cut(torch.fft.irfftn(potential, s=shape)),
            "wedge": self._wedge(transfer),
        }

    def _cut(self, volume: Tensor) -> Tensor:
        """The box out of the middle of what was simulated."""
        size = self.params.box_size
        first = self._side // 2 - size // 2
        return volume[(slice(first, first + size),) * 3].contiguous()

    def _truth(self, world: "_World", turn: FloatArray, middle: FloatArray) -> dict[str, Tensor]:
        params = self.params
        size, voxel = params.box_size, params.voxel_size_angstrom
        labels = np.zeros((size, size, size), dtype=np.int16)
        instances = np.zeros((size, size, size), dtype=np.int32)
        centre = np.full(3, float(size // 2))
        chosen = world.particles_near(turn, middle, 0.5 * size * voxel)
        positions = (world.specimen.positions_angstrom[chosen] - middle) @ turn.T
        rotations = turn @ world.specimen.rotations[chosen]
        kinds = world.specimen.kinds[chosen]
        distance, owner = world.membrane_distance(turn, middle, size, voxel)
        for index, membrane in enumerate(world.specimen.membranes):
            labels[(owner == index) & (np.abs(distance) <= membrane.half_angstrom)] = self.classes.index(membrane.name)
        for kind in np.unique(kinds):
            own = np.flatnonzero(kinds == kind)
            label = self.classes.index(world.specimen.species[kind].name)
            place, number = positions[own], chosen[own] + 1
            mark_particles(
                labels, instances, world.envelope(int(kind)), rotations[own], place, label, number, voxel, centre
            )
        for ball, name in world.balls_near(turn, middle, size * voxel):
            mark_ball(labels, instances, ball, self.classes.index(name), 0, voxel, centre)
        return {
            "labels": torch.from_numpy(labels).long(),
            "instances": torch.from_numpy(instances).long(),
            "membrane_distance": torch.from_numpy(distance.astype(np.float32)),
            **_table(kinds, positions / voxel + size // 2, rotations, size, params.most_particles),
        }

    def _make_transfer(self, number: int) -> BoxTransfer:
        params = self.params
        rng = np.random.default_rng([self._seed, number, 13])
        step = float(rng.choice(params.tilt_step_deg))
        largest = rng.uniform(*params.tilt_range_deg)
        tilts = np.arange(-math.floor(largest / step), math.floor(largest / step) + 1) * step
        order = np.argsort(np.argsort(np.abs(tilts) + 0.1 * (tilts < 0)))  # dose-symmetric
        angles = tilts + rng.uniform(-params.pre_tilt_deg, params.pre_tilt_deg) + rng.normal(0.0, 0.1, len(tilts))
        geometry = TiltGeometry.build(angles, z_rot_deg=0.0)
        dose = rng.uniform(*params.dose) / len(tilts)
        thickness = rng.uniform(*params.thickness_angstrom)
        cosine = np.maximum(np.abs(np.cos(np.deg2rad(angles))), 0.15)
        defocus = rng.uniform(*params.defocus_angstrom) + rng.normal(0.0, 300.0, len(tilts))
        return BoxTransfer.build(
            geometry,
            side=self._side,
            voxel_size=params.voxel_size_angstrom,
            optics=Optics(voltage_kv=params.voltage_kv),
            defocus_angstrom=defocus,
            doses=np.full(len(tilts), dose),
            pre_exposures=np.asarray(order * dose, dtype=np.float64),
            depths=thickness / (params.mean_free_path_angstrom * cosine),
            b_factor=rng.uniform(*params.b_factor),
            correction=params.correction,
            part=0.5,
        )


class _World:
    """One specimen made ready for boxes to be cut from it."""

    def __init__(self, specimen: Specimen, params: SubvolumeParams, rng: np.random.Generator) -> None:
        voxel = params.voxel_size_angstrom
        self.specimen = specimen
        self._bodies = specimen_bodies(specimen, 1.3 * voxel, rng)
        self._reach = [float(np.linalg.norm(b.points_angstrom, axis=1).max(initial=0.0)) for b in self._bodies]
        self._envelopes: dict[int, Envelope] = {}
        self._radii = np.array([s.radius_angstrom for s in specimen.species])
        membranes = specimen.membranes
        self._distance = (
            SurfaceDistance([m.surface for m in membranes], spacing_angstrom=max(8.0, voxel)) if membranes else None
        )
        self._margin = 0.5 * params.box_size * voxel

    def envelope(self, kind: int) -> Envelope:
        """The outline of a species, made when first asked for."""
        if kind not in self._envelopes:
            self._envelopes[kind] = particle_envelope(self.specimen.species[kind])
        return self._envelopes[kind]

    def random_place(self, rng: np.random.Generator) -> FloatArray:
        """A middle for a box, in the part of the specimen that surrounds it with matter where there is such a part."""
        half = np.maximum(np.asarray(self.specimen.half_extent_angstrom) - self._margin, 0.0)
        return np.asarray(rng.uniform(-half, half))

    def particles_near(self, turn: FloatArray, middle: FloatArray, reach: float) -> np.ndarray:
        """Numbers of the particles that may reach into a cube of half side `reach`."""
        specimen = self.specimen
        if not len(specimen.kinds):
            return np.zeros(0, dtype=np.int64)
        away = np.abs((specimen.positions_angstrom - middle) @ turn.T).max(1)
        return np.flatnonzero(away < reach + self._radii[specimen.kinds])

    def bodies_near(self, turn: FloatArray, middle: FloatArray, reach: float) -> list[Body]:
        """The bodies whose points may lie in a cube of half side `reach`, in its frame."""
        out = []
        for body, radius in zip(self._bodies, self._reach, strict=True):
            centres = (body.centres_angstrom - middle) @ turn.T
            near = np.flatnonzero(np.abs(centres).max(1) < reach + radius)
            if not len(near):
                continue
            points, weights = body.points_angstrom, body.weights
            if len(body.centres_angstrom) == 1:  # a membrane: most of its points lie elsewhere
                placed = points @ (turn @ body.rotations[0]).T + centres[0]
                inside = (np.abs(placed) < reach).all(1)
                points, weights = points[inside], weights[inside]
            out.append(
                Body(
                    points_angstrom=points,
                    weights=weights,
                    rotations=turn @ body.rotations[near],
                    centres_angstrom=centres[near],
                    fades=body.fades,
                )
            )
        return out

    def balls_near(self, turn: FloatArray, middle: FloatArray, side: float) -> list[tuple[FloatArray, str]]:
        """Gold beads and contamination that reach into a box, as x, y, z and radius in A in its frame, and their classes."""
        specimen = self.specimen
        radius = 0.5 * specimen.bead_diameter_angstrom
        found = [(np.array([*bead, radius]), "bead") for bead in specimen.beads]
        found += [(ball, dirt.name) for dirt in specimen.contamination for ball in dirt.balls_angstrom]
        placed = [(np.array([*(turn @ (ball[:3] - middle)), ball[3]]), name) for ball, name in found]
        return [(ball, name) for ball, name in placed if np.abs(ball[:3]).max() < 0.5 * side + ball[3]]

    def membrane_distance(
        self, turn: FloatArray, middle: FloatArray, size: int, voxel: float
    ) -> tuple[FloatArray, NDArray[np.int64]]:
        """(z, y, x) signed distance in A and the membrane's number, measured on every second voxel; distances allow that."""
        if self._distance is None:
            return np.full((size, size, size), _FARTHEST), np.full((size, size, size), -1)
        axis = (np.arange(0, size + 1, 2) - size // 2) * voxel
        z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
        places = np.stack([x, y, z], axis=-1).reshape(-1, 3) @ turn + middle
        found, nearest = self._distance(places, limit_angstrom=_FARTHEST + 2 * voxel)
        shape = (len(axis),) * 3
        far = ~np.isfinite(found).reshape(shape)
        known = np.clip(found, -_FARTHEST - voxel, _FARTHEST + voxel).reshape(shape)
        if far.any() and not far.all():  # who is far lies on the side of whoever is not, next to it
            beside = distance_transform_edt(far, return_distances=False, return_indices=True)
            known[far] = np.copysign(_FARTHEST + voxel, known[tuple(beside)][far])
        between = _between_samples(torch.from_numpy(known))
        sizes = _between_samples(torch.from_numpy(np.abs(known)))
        # a surface that passes between samples is near to one of them; where both are far, two surfaces face each other
        between = torch.where(sizes > _PASSES * voxel, torch.copysign(sizes, between), between)
        grid = between[:size, :size, :size]
        owner = nearest.reshape(shape).repeat(2, 0).repeat(2, 1).repeat(2, 2)[:size, :size, :size]
        return np.asarray(np.clip(grid.numpy(), -_FARTHEST, _FARTHEST), dtype=np.float64), owner


def _between_samples(samples: Tensor) -> Tensor:
    """On straight lines between neighbours of a cube."""
    size = (2 * samples.shape[0] - 1,) * 3
    return torch.nn.functional.interpolate(samples[None, None], size=size, mode="trilinear", align_corners=True)[0, 0]


def _onto_axes(volume: Tensor, rng: np.random.Generator) -> Tensor:
    """One of the 48 ways to lay a cube onto its axes, mirrored ones among them."""
    out = volume.permute(*(int(axis) for axis in rng.permutation(3)))
    mirrored = [axis for axis in range(3) if rng.random() < 0.5]
    return out.flip(mirrored) if mirrored else out


def _turn(kind: str, rng: np.random.Generator) -> FloatArray:
    if kind == "any":
        return np.asarray(Rotation.random(1, rng).matrices[0])
    if kind == "none":
        return np.eye(3)
    angle = rng.uniform(0.0, 2.0 * np.pi)
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])


def _table(kinds: np.ndarray, positions: FloatArray, rotations: FloatArray, size: int, rows: int) -> dict[str, Tensor]:
    """Particles whose middle lies in the box, in a table of fixed length."""
    inside = np.flatnonzero(((positions >= 0) & (positions <= size - 1)).all(1))[:rows]
    out_kinds = np.full(rows, -1, dtype=np.int64)
    out_positions, out_rotations = np.zeros((rows, 3), dtype=np.float32), np.zeros((rows, 3, 3), dtype=np.float32)
    count = len(inside)
    out_kinds[:count], out_positions[:count] = kinds[inside], positions[inside]
    out_rotations[:count] = rotations[inside]
    return {
        "kinds": torch.from_numpy(out_kinds),
        "positions_px": torch.from_numpy(out_positions),
        "rotations": torch.from_numpy(out_rotations),
    }
