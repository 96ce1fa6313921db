"""Best poses of a template at places of a tomogram that are given: every orientation coarsely, the best one refined."""

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Self

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from eucentric.fourier.crop import fourier_crop, rescaled_shape
from eucentric.geometry.so3 import sample_rotations
from eucentric.picking.params import MatchParams
from eucentric.picking.refine_poses import Poses, refine_poses
from eucentric.picking.rotated_templates import FourierTemplate, TemplateRows
from eucentric.picking.search_masks import SearchMask
from eucentric.picking.templates import Template
from eucentric.picking.tomogram_transfer import TomogramTransfer
from eucentric.picking.whitening import NoiseSpectrum
from eucentric.typing import FloatArray

_PATCH_ANGSTROM = 400.0
_LAYER = 200.0  # A of height that share one transfer: 0.05 rad of phase at 16 A
_PLACES = 64  # whose best orientations are found at once


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Level:
    """The tomogram whitened at one sampling."""

    volume: Float[Tensor, "z y x"]
    voxel: float
    """A, along x."""
    spacing: FloatArray
    """(z, y, x) A: whole numbers of voxels make those of a cropped volume differ by less than a hundredth."""
    spectrum: NoiseSpectrum
    region: Tensor
    """(z, y, x) bool, where centres may lie."""

    @classmethod
    def build(
        cls,
        volume: Float[Tensor, "z y x"],
        voxel_size: float,
        wanted: float,
        transfer: TomogramTransfer,
        region: Tensor,
    ) -> Self:
        """Cropped in Fourier space to about the wanted voxel size in A; noise is taken from the region (z, y, x) bool."""
        full = tuple(volume.shape)
        shape = full
        if wanted > voxel_size:
            shape = tuple(min(n, o) for n, o in zip(rescaled_shape(full, voxel_size, wanted), full, strict=True))
        spacing = voxel_size * np.array(full) / np.array(shape)
        if shape != full:
            volume = fourier_crop(volume, shape)
            region = _on_fewer_voxels(region, shape)
        voxel = float(spacing[2])
        side = 2 * max(6, math.ceil(0.5 * _PATCH_ANGSTROM / voxel))
        side = min(side, 2 * (min(volume.shape) // 2))
        coverage = transfer.coverage(side, voxel).to(volume)
        spectrum = NoiseSpectrum.estimate(volume, voxel, coverage, region)
        return cls(volume=spectrum.whiten(volume), voxel=voxel, spacing=spacing, spectrum=spectrum, region=region)

    def on_cubes(self, positions_angstrom: FloatArray) -> FloatArray:
        """(place, 3) x, y, z in A where voxels are cubes of `voxel`."""
        scaled: FloatArray = positions_angstrom * (self.voxel / self.spacing[::-1])
        return scaled

    def from_cubes(self, positions_angstrom: FloatArray) -> FloatArray:
        """The way back."""
        scaled: FloatArray = positions_angstrom * (self.spacing[::-1] / self.voxel)
        return scaled


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SearchedTomogram:
    """A tomogram at the sampling of the search and at that of the refinement."""

    coarse: Level
    fine: Level
    transfer: TomogramTransfer
    params: MatchParams

    def at_step(self, coarse_step_deg: float) -> "SearchedTomogram":
        """The same for orientations tried at another step."""
        return replace(self, params=self.params.replace(coarse_step_deg=coarse_step_deg))

    def rows(self, template: Template, frame: FloatArray) -> tuple[TemplateRows, FloatArray]:
        """Copies of a template, whose axes are turned by `frame`, in all coarse orientations, and these (copy, 3, 3)."""
        level = self.coarse
        rough = template.resampled(level.voxel).moved_to(level.volume.device)
        masks = SearchMask.build(rough, self.params, level.volume)
        side = masks.side
        gain = self.transfer.gain(side, level.voxel).to(level.volume) * level.spectrum.gain((side,) * 3)
        turns = np.eye(3)[None]
        if not template.isotropic:
            turns = sample_rotations(self.params.coarse_step_deg, template.symmetry) @ frame.T
        reader = FourierTemplate.build(rough, side)
        return TemplateRows.build(reader, turns, gain, masks.ball, masks.at if masks.turns else None), turns

    def fit(self, template: Template, frame: FloatArray, places: NDArray[np.int64], background: float) -> Poses:
        """Best poses at or about places: :meth:`coarse_fit` and :meth:`refined`."""
        return self.refined(template, self.coarse_fit(template, frame, places), background)

    def coarse_fit(self, template: Template, frame: FloatArray, places: NDArray[np.int64]) -> Poses:
        """The best of the coarse orientations at or beside each place, and its product with the whitened volume.

        Parameters
        ----------
        frame : (3, 3) to the axes of the template's symmetry
        places : (place, 3) z, y, x, voxels of the coarse volume
        """
        if not len(places):
            return Poses(positions_angstrom=np.zeros((0, 3)), rotations=np.zeros((0, 3, 3)), scores=np.zeros(0))
        rows, turns = self.rows(template, frame)
        best, at, products = _best_rows(self.coarse.volume, rows, places)
        centre = np.array([n // 2 for n in self.coarse.volume.shape])
        return Poses(
            positions_angstrom=((at - centre) * self.coarse.spacing)[:, ::-1].copy(),
            rotations=turns[best],
            scores=products,
        )

    def refined(self, template: Template, start: Poses, background: float) -> Poses:
        """Poses from coarse ones, with their scores in standard deviations over the background."""
        if not len(start.scores):
            return start
        begin = replace(start, positions_angstrom=self.fine.on_cubes(start.positions_angstrom))
        poses = self._refined(template, begin)
        return Poses(
            positions_angstrom=self.fine.from_cubes(poses.positions_angstrom),
            rotations=poses.rotations,
            scores=poses.scores / background,
        )

    def _refined(self, template: Template, start: Poses) -> Poses:
        fine, params = self.fine, self.params
        own = template.resampled(fine.voxel).moved_to(fine.volume.device)
        masks = SearchMask.build(own, params, fine.volume)
        side, reader = masks.side, FourierTemplate.build(own, masks.side)
        whiten = fine.spectrum.gain((side,) * 3)

        @lru_cache(maxsize=64)
        def layer(number: int) -> Tensor:
            return self.transfer.gain(side, fine.voxel, number * _LAYER).to(whiten) * whiten

        return refine_poses(
            fine.volume,
            fine.voxel,
            reader,
            lambda height: layer(round(height / _LAYER)),
            masks.one,
            start,
            diameter_angstrom=template.diameter_angstrom,
            step_deg=params.coarse_step_deg,
            shift_angstrom=self.coarse.voxel,
            fine_step_deg=params.fine_step_deg,
        )


def _best_rows(
    volume: Float[Tensor, "z y x"], rows: TemplateRows, places: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], FloatArray]:
    """Which row fits best at or beside each place, at which voxel, and its product with the volume there."""
    side = rows.mask.shape[0]
    low = side // 2 + 1
    padded = torch.nn.functional.pad(volume, (low, side + 2 - low) * 3)
    few = rows.rows[::8]
    best, at, products = [], [], []
    for start in range(0, len(places), _PLACES):
        patches = []
        for z, y, x in places[start : start + _PLACES]:
            cube = padded[z : z + side + 2, y : y + side + 2, x : x + side + 2]
            moved = cube.unfold(0, side, 1).unfold(1, side, 1).unfold(2, side, 1).reshape(27, -1)[:, rows.voxels]
            nearby = int((few @ moved.T).amax(0).argmax())
            at.append(np.array([z, y, x]) + np.array(np.unravel_index(nearby, (3, 3, 3))) - 1)
            patches.append(moved[nearby])
        greatest = (rows.rows @ torch.stack(patches, dim=1)).max(0)
        best.append(greatest.indices.cpu().numpy())
        products.append(greatest.values.double().cpu().numpy())
    return np.concatenate(best), np.stack(at), np.concatenate(products)


def _on_fewer_voxels(region: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Voxels to which any of a region (z, y, x) bool is nearest, with voxel ``n // 2`` at the same place in both."""
    out = region.to(torch.uint8)
    for axis, (few, many) in enumerate(zip(shape, region.shape, strict=True)):
        line = torch.arange(many, device=region.device, dtype=torch.float64) - many // 2
        nearest = ((line * few / many).round().long() + few // 2).clamp(0, few - 1)
        size = [few if a == axis else n for a, n in enumerate(out.shape)]
        out = (out.new_zeros(size).index_add_(axis, nearest, out) > 0).to(torch.uint8)
    return out > 0
