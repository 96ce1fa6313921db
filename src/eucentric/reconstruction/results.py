"""What a reconstruction is made on, and its pieces."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeGrid:
    """The voxels of a reconstruction; its centre, voxel ``n // 2`` of each axis, is the specimen centre."""

    voxel_size_angstrom: float
    shape_zyx: tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VolumeSlab:
    """Planes `start` up to `stop` of a volume."""

    start: int
    stop: int
    density: Float[Tensor, "z y x"]
