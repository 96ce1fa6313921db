"""A template in many orientations, as the tomogram shows it: rotated in Fourier space, weighted, masked, normalised."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from eucentric.compute.seeds import seeded_generator
from eucentric.picking.templates import Template
from eucentric.projection.turned import CubeSamples, read_turned
from eucentric.typing import FloatArray

_PADDING = 3  # of the cube whose transform is read: linear interpolation then errs by less than 1%
_BATCH = 128


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FourierTemplate:
    """Transform of a template, to be read in any orientation on the samples of a cube's rfftn."""

    transform: Complex[Tensor, "z y x"]
    """Of the padded cube, zero frequency in the middle."""
    samples: CubeSamples

    @classmethod
    def build(cls, template: Template, side: int, *, highest: float = 0.5) -> Self:
        """For a template on the voxels of the tomogram; see :meth:`of_density`."""
        return cls.of_density(template.density, side, highest=highest)

    @classmethod
    def of_density(cls, density: Float[Tensor, "z y x"], side: int, *, highest: float = 0.5) -> Self:
        """For a density on the voxels of the tomogram, its middle at voxel ``n // 2``.

        Parameters
        ----------
        side : voxels of the cube to be sampled, even
        highest : frequency in cycles a voxel up to which samples are taken
        """
        n, device = density.shape[0], density.device
        size = _PADDING * max(n, side)
        size += size % 2
        box = density.new_zeros((size,) * 3)
        low = size // 2 - n // 2
        box[low : low + n, low : low + n, low : low + n] = density
        # what linear interpolation of the transform dims in the cube is put right beforehand
        line = torch.sinc((torch.arange(size, device=device, dtype=density.dtype) - size // 2) / size).square()
        box = box / (line[:, None, None] * line[None, :, None] * line[None, None, :]).clamp_min(0.1)
        spectrum = torch.fft.fftshift(torch.fft.fftn(torch.fft.ifftshift(box)))
        return cls(transform=spectrum.contiguous(), samples=CubeSamples.below(highest, side, density))

    def rotated(self, rotations: FloatArray) -> Complex[Tensor, "rotation points"]:
        """Transform of copies turned by rotations (n, 3, 3), reference to specimen, at the samples."""
        return read_turned(self.transform, self.samples, rotations)

    def boxes(
        self, spectra: Complex[Tensor, "n points"], moves: Float[Tensor, "n 3"] | None = None
    ) -> Float[Tensor, "n z y x"]:
        """Cubes of transforms at the samples, their middle at voxel ``side // 2``; moved by voxels x, y, z where asked."""
        side = self.samples.side
        shape = (side, side, side // 2 + 1)
        middle = self.samples.frequencies.new_full((len(spectra), 3), float(side // 2))
        place = middle if moves is None else middle + moves
        turn = -2.0 * math.pi * (place @ self.samples.frequencies.T)
        whole = spectra.new_zeros((len(spectra), math.prod(shape)))
        whole[:, self.samples.inside] = spectra * torch.polar(torch.ones_like(turn), turn)
        out: Tensor = torch.fft.irfftn(whole.reshape(-1, *shape), s=(side,) * 3, dim=(1, 2, 3))
        return out


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TemplateRows:
    """Copies of a template in a cube: zero mean under the mask and unit norm, one row each."""

    rows: Float[Tensor, "rotation voxel"]
    voxels: Int[Tensor, " voxel"]
    """Where in the flat cube the values of a row lie: where the mask is above 0."""
    mask: Float[Tensor, "z y x"]
    """Of all rows; where each has its own, what encloses them."""
    masks: Float[Tensor, "rotation voxel"] | None = None
    """Of each row at its voxels, sum 1, where the mask turns with the template."""

    def of(self, copies: slice) -> Self:
        """Some of the copies."""
        masks = None if self.masks is None else self.masks[copies]
        return type(self)(rows=self.rows[copies], voxels=self.voxels, mask=self.mask, masks=masks)

    @classmethod
    def build(
        cls,
        template: FourierTemplate,
        rotations: FloatArray,
        gain: Float[Tensor, "z y half_x"],
        mask: Float[Tensor, "z y x"],
        turning: Callable[[FloatArray], Float[Tensor, "rotation z y x"]] | None = None,
    ) -> Self:
        """
        Parameters
        ----------
        gain : what the transform of a copy is multiplied with: transfer of the tomogram, whitening
        mask : (side, side, side), 0 to 1
        turning : the masks of some rotations, within `mask`, where it turns with the template
        """
        voxels = (mask.reshape(-1) > 1e-3).nonzero().reshape(-1)
        weight = mask.reshape(-1)[voxels]
        chosen = gain.reshape(-1)[template.samples.inside]
        rows = mask.new_empty((len(rotations), len(voxels)))
        masks = None if turning is None else torch.empty_like(rows)
        for start in range(0, len(rotations), _BATCH):
            part = slice(start, start + _BATCH)
            boxes = template.boxes(template.rotated(rotations[part]) * chosen)
            values = boxes.reshape(len(boxes), -1)[:, voxels]
            if turning is not None and masks is not None:
                weight = turning(rotations[part]).reshape(len(boxes), -1)[:, voxels]
                masks[part] = weight / weight.sum(1, keepdim=True).clamp_min(1e-20)
            mean = (values * weight).sum(-1, keepdim=True) / weight.sum(-1, keepdim=True).clamp_min(1e-20)
            values = weight * (values - mean)
            rows[part] = values / values.norm(dim=1, keepdim=True).clamp_min(1e-20)
        return cls(rows=rows, voxels=voxels, mask=mask, masks=masks)

    def boxes(self, rows: Float[Tensor, "row voxel"]) -> Float[Tensor, "row z y x"]:
        """Rows back in cubes."""
        side = self.mask.shape[0]
        out = rows.new_zeros((len(rows), side**3))
        out[:, self.voxels] = rows
        return out.reshape(-1, side, side, side)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RowBasis:
    """Orthonormal patterns from which all rows are mixed, up to a small rest."""

    patterns: Float[Tensor, "pattern voxel"]
    weights: Float[Tensor, "rotation pattern"]
    """Of unit norm for copies of templates, so that the mixed score is one of a template as well."""
    kept: float
    """Mean over the rows of the part of their power that the patterns hold."""

    def of(self, copies: slice) -> Self:
        """The patterns with the weights of some copies."""
        return type(self)(patterns=self.patterns, weights=self.weights[copies].contiguous(), kept=self.kept)

    @classmethod
    def build(
        cls, rows: Float[Tensor, "rotation voxel"], *, part: float = 0.9, most: int = 400, unit: bool = True
    ) -> Self:
        """The fewest leading singular vectors that hold a part of the power, found by random projection [1]_.

        Parameters
        ----------
        most : patterns, at most
        unit : whether the weights of each row get a norm of 1, or stay as they are

        References
        ----------
        .. [1] Halko, Martinsson & Tropp, SIAM Review 53:217 (2011), doi:10.1137/090771806
        """
        count = min(most, *rows.shape)
        probe = torch.randn((rows.shape[1], count), generator=seeded_generator(0)).to(rows)
        space = torch.linalg.qr(rows.T @ (rows @ probe))[0]
        space = torch.linalg.qr(rows.T @ (rows @ space))[0]
        mixed = rows @ space
        values, vectors = torch.linalg.eigh(mixed.T @ mixed)
        values, vectors = values.flip(0).clamp_min(0.0), vectors.flip(1)
        held = values.cumsum(0) / float(rows.square().sum())
        needed = min(count, int((held < part).sum()) + 1)
        weights = mixed @ vectors[:, :needed]
        kept = float(weights.square().sum() / rows.square().sum())
        if unit:
            weights = weights / weights.norm(dim=1, keepdim=True).clamp_min(1e-20)
        return cls(patterns=(space @ vectors[:, :needed]).T.contiguous(), weights=weights.contiguous(), kept=kept)
