"""Half volumes made ready for training: checked, brought to scale, with the places patches may come from."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as functional
from jaxtyping import Bool, Float
from torch import Tensor

from eucentric.denoising.learned.standardise import Scale, measure_scale
from eucentric.errors import InputError, ShapeError
from eucentric.geometry import TiltGeometry
from eucentric.typing import FloatArray

_LEAK = 0.98  # correlation of halves of which one holds the other's noise
_VALID = 0.6  # part of a patch that must be measured
_STEPS = 4  # places along a patch
_SMALLEST = 16
_CONTENT = 0.5  # part of the patches that are drawn by what they hold


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HalfVolumes:
    """Two halves of a tomogram at the scale of their noise."""

    name: str
    halves: tuple[Float[Tensor, "z y x"], Float[Tensor, "z y x"]]
    valid: Bool[Tensor, "z y x"]
    """Where both were measured and a mask, if there is one, allows."""
    scale: Scale
    voxel_size_angstrom: float
    geometry: TiltGeometry
    """Of the tilts; tells the wedge."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(z, y, x)."""
        one = self.halves[0].shape
        return one[0], one[1], one[2]


def prepare_halves(
    one: Float[Tensor, "z y x"],
    two: Float[Tensor, "z y x"],
    *,
    name: str,
    voxel_size_angstrom: float,
    geometry: TiltGeometry,
    mask: Bool[Tensor, "z y x"] | None = None,
) -> HalfVolumes:
    """Halves for a network.

    Raises
    ------
    ShapeError : halves, or a mask, of different sizes
    InputError : halves that are the same, or that share their noise; nothing measured
    """
    check_halves(one, two, name)
    if mask is not None and mask.shape != one.shape:
        raise ShapeError(
            f"The mask of {name} is {_size(mask)} voxels and the tomogram {_size(one)}; expected the same."
        )
    valid = one.isfinite() & two.isfinite() & (one != two)
    scale = measure_scale(one[valid])
    ready = [torch.where(valid, scale.apply(half), 0.0).float() for half in (one, two)]
    return HalfVolumes(
        name=name,
        halves=(ready[0], ready[1]),
        valid=valid if mask is None else valid & mask,
        scale=scale,
        voxel_size_angstrom=voxel_size_angstrom,
        geometry=geometry,
    )


def check_halves(one: Float[Tensor, "z y x"], two: Float[Tensor, "z y x"], name: str) -> None:
    """Halves must be of one size, and must not share their noise.

    Raises
    ------
    ShapeError : different sizes
    InputError : the same volume twice, noise in common, one value throughout, or no numbers
    """
    if one.shape != two.shape:
        raise ShapeError(
            f"The halves of {name} are {_size(one)} and {_size(two)} voxels; expected the same size. Are they of one tomogram?"
        )
    valid = one.isfinite() & two.isfinite()
    if not valid.any():
        raise InputError(f"The halves of {name} hold not one number. Reconstruct them again.")
    if torch.equal(one[valid], two[valid]):
        raise InputError(
            f"The halves of {name} are the same volume: a network would learn to copy the noise. "
            "Give halves of even and odd frames, or tilts."
        )
    for number, half in enumerate((one, two), 1):
        if half[valid].amin() == half[valid].amax():
            raise InputError(f"Half {number} of {name} has one value in all of its voxels. Reconstruct it again.")
    differ = valid & (one != two)
    likeness = _likeness(one[differ], two[differ])
    if likeness > _LEAK:
        raise InputError(
            f"The halves of {name} agree to {likeness:.3f}: they share their noise, which a network would learn to keep. "
            "Make them from different frames or tilts."
        )


def _size(volume: Tensor) -> str:
    return " x ".join(str(n) for n in reversed(volume.shape))


def _likeness(one: Tensor, two: Tensor) -> float:
    step = max(1, len(one) // 4_000_000)
    return float(torch.corrcoef(torch.stack([one[::step], two[::step]]).float())[0, 1])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Place:
    """Where a patch begins."""

    volume: int
    corner: tuple[int, int, int]


class Places:
    """Where patches come from: half of them by how much matter both halves show there, half from anywhere that was measured."""

    def __init__(self, volumes: Sequence[HalfVolumes], size: int, held_out: float, multiple: int) -> None:
        """All places of some volumes.

        Parameters
        ----------
        size : voxels along each edge; cut to the thinnest volume and to half of the shortest along y, to a multiple of `multiple`
        held_out : part of each volume at the end of y that is not learned from; as much as a patch at least

        Raises
        ------
        InputError : a volume that is thinner than 16 voxels, or nowhere measured in a whole patch
        """
        self._volumes = tuple(volumes)
        thin = [min(v.shape[axis] for v in volumes) for axis in range(3)]
        if thin[1] >= 2 * _SMALLEST:  # a patch that is held out, and one beside it to learn from
            thin[1] = thin[1] // 2 // _STEPS * _STEPS  # whole steps, so that the place beside it is tried
        self.size = tuple(min(size, n // multiple * multiple) for n in thin)
        if min(self.size) < _SMALLEST:
            raise InputError(
                f"The thinnest tomogram is {min(thin)} voxels; networks need {_SMALLEST}. Reconstruct thicker volumes."
            )
        self._training: list[tuple[Place, float]] = []
        self._judging: list[tuple[Place, float]] = []
        for number, volume in enumerate(volumes):
            self._add(number, volume, held_out)
        if not self._training:
            raise InputError(
                "No patch lies in what was measured and the mask allows. Check the mask, or give a smaller --patch-size."
            )
        if not self._judging:  # too short an end: the last places are given up
            self._training.sort(key=lambda item: item[0].corner[1])
            count = max(1, round(held_out * len(self._training)))
            self._judging = self._training[-count:]
            begin = min(place.corner[1] for place, _ in self._judging)
            before = [item for item in self._training if item[0].corner[1] + self.size[1] <= begin]
            self._training = before or self._training[:-count] or self._training
        weights = np.array([w for _, w in self._training])
        chance = weights / weights.sum() if weights.sum() > 0 else np.full(len(weights), 1.0 / len(weights))
        self._chances: FloatArray = _CONTENT * chance + (1.0 - _CONTENT) / len(weights)

    def _add(self, number: int, volume: HalfVolumes, held_out: float) -> None:
        steps = [max(1, n // _STEPS) for n in self.size]
        kernel, stride = self.size, tuple(steps)
        part = functional.avg_pool3d(volume.valid.float()[None, None], kernel, stride)[0, 0]
        product = volume.halves[0] * volume.halves[1]
        coarse = functional.avg_pool3d(product[None, None], kernel, stride)[0, 0]
        last = (volume.shape[1] - self.size[1]) // steps[1] * steps[1]
        border = min(math.floor(volume.shape[1] * (1.0 - held_out)), last)
        for z, y, x in (part >= _VALID).nonzero().tolist():
            corner = z * steps[0], y * steps[1], x * steps[2]
            item = Place(volume=number, corner=corner), max(0.0, float(coarse[z, y, x]))
            if corner[1] + self.size[1] <= border:
                self._training.append(item)
            elif corner[1] >= border:
                self._judging.append(item)

    def draw(self, rng: np.random.Generator, count: int) -> list[Place]:
        """Places to learn from, shifted by up to a step where that leaves them in what was measured."""
        chosen = rng.choice(len(self._training), count, p=self._chances)
        return [self._shifted(self._training[int(n)][0], rng) for n in chosen]

    def judging(self, count: int) -> list[Place]:
        """Places held out, those with most matter first."""
        ordered = sorted(self._judging, key=lambda item: -item[1])
        return [place for place, _ in ordered[:count]]

    def _shifted(self, place: Place, rng: np.random.Generator) -> Place:
        valid = self._volumes[place.volume].valid
        corner = tuple(
            int(np.clip(c - rng.integers(0, max(1, n // _STEPS)), 0, m - n))
            for c, n, m in zip(place.corner, self.size, valid.shape, strict=True)
        )
        where = tuple(slice(c, c + n) for c, n in zip(corner, self.size, strict=True))
        if float(valid[where].float().mean()) < _VALID:
            return place
        return Place(volume=place.volume, corner=(corner[0], corner[1], corner[2]))

    def cut(self, place: Place) -> tuple[Tensor, Tensor]:
        """The patch of both halves."""
        where = tuple(slice(c, c + n) for c, n in zip(place.corner, self.size, strict=True))
        one, two = self._volumes[place.volume].halves
        return one[where], two[where]

    def geometry(self, place: Place) -> TiltGeometry:
        """Of the tilts that the patch's volume is from."""
        return self._volumes[place.volume].geometry
