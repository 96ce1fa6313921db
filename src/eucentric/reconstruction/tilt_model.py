"""From a volume to the images of a tilt series and back: the operator that iterative reconstructions invert."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.compute.device import free_bytes
from eucentric.errors import ShapeError
from eucentric.geometry.tilt import TiltGeometry
from eucentric.projection.operators import back_project, project
from eucentric.reconstruction.depth_transfer import DepthTransfer

_TOGETHER_BYTES = 2**30  # more tilts at once are no faster


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TiltModel:
    """Linear model of images, resampled into the frame with the tilt axis on +y and the voxel's size.

    :meth:`forward` and :meth:`adjoint` are exact transposes of each other. A density per A gives the contrast of images.
    """

    geometry: TiltGeometry
    """Tilts about y and x count here; rotation and shifts belong to the resampling of the images."""
    volume_shape: tuple[int, int, int]
    image_shape: tuple[int, int]
    voxel_size: float
    transfer: DepthTransfer | None = None

    def __len__(self) -> int:
        return len(self.geometry)

    def select(self, tilts: np.ndarray) -> "TiltModel":
        """The model of some of the tilts; only without contrast transfer."""
        if self.transfer is not None:
            raise ShapeError("A model with contrast transfer cannot be taken apart.")
        return TiltModel(
            geometry=self.geometry[np.asarray(tilts)],
            volume_shape=self.volume_shape,
            image_shape=self.image_shape,
            voxel_size=self.voxel_size,
        )

    def forward(self, volume: Float[Tensor, "z y x"]) -> Float[Tensor, "tilt y x"]:
        """Images of a volume."""
        if volume.shape != self.volume_shape:
            raise ShapeError(f"A volume of shape {tuple(volume.shape)} was given; expected {self.volume_shape}.")
        if self.transfer is None:
            return self._project(volume, np.arange(len(self)), 0).mul_(self.voxel_size)
        out = volume.new_empty((len(self), *self.image_shape))
        slabs = self.transfer.slabs(self.volume_shape[0])
        for tilts in self._batches(volume, len(slabs)):
            seen = [self._project(volume[a:b], tilts, self._offset(a, b)) for a, b in slabs]
            for i, t in enumerate(tilts):
                parts = [
                    (self._levels(t, a, b, volume.device), images[i])
                    for (a, b), images in zip(slabs, seen, strict=True)
                ]
                out[t] = self.voxel_size * self.transfer.apply(int(t), parts, self.image_shape)
        return out

    def adjoint(self, images: Float[Tensor, "tilt y x"]) -> Float[Tensor, "z y x"]:
        """Transpose of :meth:`forward`."""
        if images.shape != (len(self), *self.image_shape):
            raise ShapeError(
                f"Images of shape {tuple(images.shape)} were given; expected {(len(self), *self.image_shape)}."
            )
        if self.transfer is None:
            return self._back_project(self.voxel_size * images, np.arange(len(self)), self.volume_shape[0], 0)
        out = images.new_zeros(self.volume_shape)
        slabs = self.transfer.slabs(self.volume_shape[0])
        for tilts in self._batches(images, len(slabs)):
            parts = [images.new_empty((len(tilts), *self.image_shape)) for _ in slabs]
            for i, t in enumerate(tilts):
                where = [self._levels(t, a, b, images.device) for a, b in slabs]
                for part, one in zip(parts, self.transfer.apply_transposed(int(t), images[t], where), strict=True):
                    part[i] = one
            for (a, b), part in zip(slabs, parts, strict=True):
                out[a:b] += self._back_project(part.mul_(self.voxel_size), tilts, b - a, self._offset(a, b))
        return out

    def _offset(self, start: int, stop: int) -> int:
        return start + (stop - start) // 2 - self.volume_shape[0] // 2

    def _levels(self, tilt: int, start: int, stop: int, device: torch.device) -> Tensor:
        assert self.transfer is not None
        depth = (0.5 * (start + stop - 1) - self.volume_shape[0] // 2) * self.voxel_size
        return self.transfer.levels(int(tilt), depth, self.image_shape, device)

    def _batches(self, like: Tensor, slabs: int) -> list[np.ndarray]:
        """Tilts that are worked on together: slabs of their images are held at once."""
        one = slabs * self.image_shape[0] * self.image_shape[1] * like.element_size()
        size = max(1, min(_TOGETHER_BYTES, free_bytes(like.device) // 2) // one)
        return [np.arange(start, min(start + size, len(self))) for start in range(0, len(self), size)]

    def _project(self, volume: Tensor, tilts: np.ndarray, offset: int) -> Tensor:
        chosen = self.geometry[tilts]
        x_tilts = chosen.x_tilt_deg if np.any(chosen.x_tilt_deg) else None
        return project(volume, chosen.y_tilt_deg, self.image_shape, x_tilts_deg=x_tilts, z_offset=offset)

    def _back_project(self, images: Tensor, tilts: np.ndarray, planes: int, offset: int) -> Tensor:
        chosen = self.geometry[tilts]
        x_tilts = chosen.x_tilt_deg if np.any(chosen.x_tilt_deg) else None
        shape = (planes, *self.volume_shape[1:])
        return back_project(images, chosen.y_tilt_deg, shape, x_tilts_deg=x_tilts, z_offset=offset)
