"""A plain 3D U-Net [1]_.

References
----------
.. [1] Cicek et al., MICCAI 2016, doi:10.1007/978-3-319-46723-8_49
"""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from eucentric.errors import ShapeError
from eucentric.networks.params import UNetParams


class UNet(nn.Module):
    """Volumes to volumes of the same size. Nothing in it depends on the volume's size, so that tiles give what the whole gives."""

    def __init__(self, params: UNetParams) -> None:
        super().__init__()
        self.params = params
        widths = [params.width * 2**level for level in range(params.levels)]
        self.down = nn.ModuleList(
            _Block(params.in_channels if not level else wide, wide, params.normalise)
            for level, wide in enumerate(widths)
        )
        pairs = list(pairwise(widths))
        self.coarser = nn.ModuleList(nn.Conv3d(fine, coarse, 2, 2) for fine, coarse in pairs)
        self.finer = nn.ModuleList(nn.ConvTranspose3d(coarse, fine, 2, 2) for fine, coarse in pairs)
        self.up = nn.ModuleList(_Block(2 * fine, fine, params.normalise) for fine, _ in pairs)
        self.head = nn.Conv3d(widths[0], params.out_channels, 1)

    def forward(self, volumes: Float[Tensor, "batch channel z y x"]) -> Float[Tensor, "batch out z y x"]:
        """Apply it.

        Raises
        ------
        ShapeError : sizes that are no multiple of ``params.multiple``, or another number of channels
        """
        shape, multiple = tuple(volumes.shape), self.params.multiple
        if len(shape) != 5 or shape[1] != self.params.in_channels or any(n % multiple for n in shape[2:]):
            raise ShapeError(
                f"The network was given volumes of shape {shape}; expected (batch, {self.params.in_channels}, z, y, x) with "
                f"sizes that are multiples of {multiple}."
            )
        kept = []
        found = volumes
        for level, block in enumerate(self.down):
            found = block(found)
            if level < len(self.coarser):
                kept.append(found)
                found = self.coarser[level](found)
        for level in reversed(range(len(kept))):
            found = self.up[level](torch.cat([self.finer[level](found), kept[level]], dim=1))
        out: Tensor = self.head(found)
        return out


class _Block(nn.Sequential):
    def __init__(self, channels: int, wide: int, normalise: bool) -> None:
        layers: list[nn.Module] = []
        for width in (channels, wide):
            layers.append(nn.Conv3d(width, wide, 3, padding=1, bias=not normalise))
            layers += [nn.BatchNorm3d(wide)] if normalise else []
            layers.append(nn.SiLU())
        super().__init__(*layers)
