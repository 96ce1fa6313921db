"""A network on a volume of any size, in tiles that fit into memory."""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from eucentric.compute import free_bytes
from eucentric.errors import BackendError, ShapeError
from eucentric.networks.train_network import half_precision
from eucentric.networks.unet import UNet

_LARGEST_TILE = 160


def apply_network(
    network: UNet,
    volume: Float[Tensor, "channel z y x"],
    *,
    tile: int | None = None,
    halo: int | None = None,
    half: bool = True,
    finish: Callable[[Float[Tensor, "out z y x"]], Float[Tensor, "result z y x"]] | None = None,
) -> Float[Tensor, "result z y x"]:
    """What the network makes of a volume: tiles overlap by its whole reach, so that they give what the whole would.

    The volume ends in zeros, as the network's own convolutions have it.

    Parameters
    ----------
    tile : voxels along each edge of what a tile gives; from the free memory where None
    halo : voxels around it that are read besides; the whole reach where None, and fewer for a result that is a little off near seams
    half : compute in bfloat16
    finish : done to each tile's result, such as a softmax over the channels

    Returns
    -------
    float32 on the device of the volume

    Raises
    ------
    ShapeError : no (channel, z, y, x) volume of the network's channels
    BackendError : no tile fits into memory
    """
    out: list[Tensor] = []

    def keep(found: Tensor, where: tuple[slice, ...]) -> None:
        part = found if finish is None else finish(found)
        if not out:
            out.append(volume.new_empty((part.shape[0], *volume.shape[1:]), dtype=torch.float32))
        out[0][(slice(None), *where)] = part

    visit_network(network, volume, keep, tile=tile, halo=halo, half=half)
    return out[0]


def visit_network(
    network: UNet,
    volume: Float[Tensor, "channel z y x"],
    visit: Callable[[Float[Tensor, "out z y x"], tuple[slice, ...]], None],
    *,
    tile: int | None = None,
    halo: int | None = None,
    half: bool = True,
) -> None:
    """As :func:`apply_network`, for results that are too large to be kept: each tile is shown with its place (z, y, x)."""
    params = network.params
    if volume.ndim != 4 or volume.shape[0] != params.in_channels:
        raise ShapeError(
            f"The network was given a volume of shape {tuple(volume.shape)}; expected ({params.in_channels}, z, y, x)."
        )
    multiple = params.multiple
    sizes = tuple(volume.shape[1:])
    pads = [-n % multiple for n in sizes]
    padded = functional.pad(volume, (0, pads[2], 0, pads[1], 0, pads[0]))
    around = multiple * -(-(params.reach if halo is None else halo) // multiple)
    core = _tile_size(network, volume.device, around) if tile is None else multiple * max(1, tile // multiple)
    network.eval()
    with torch.inference_mode():
        for outer, inner, target in _tiles(tuple(padded.shape[1:]), core, around):
            part = padded[(slice(None), *outer)][None].contiguous(memory_format=torch.channels_last_3d)
            if half:
                with half_precision(volume.device):
                    found = network(part)
            else:
                found = network(part)
            inside = tuple(slice(t.start, min(t.stop, n)) for t, n in zip(target, sizes, strict=True))
            kept = tuple(slice(i.start, i.start + t.stop - t.start) for i, t in zip(inner, inside, strict=True))
            if all(t.stop > t.start for t in inside):
                visit(found[0][(slice(None), *kept)].float(), inside)


def _tiles(
    shape: tuple[int, ...], core: int, halo: int
) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...], tuple[slice, ...]]]:
    """Of each tile: what is read, the part of its result that is kept, and where that goes."""
    axes = []
    for n in shape:
        axis = []
        for first in range(0, n, core):
            last = min(first + core, n)
            low, high = max(0, first - halo), min(n, last + halo)
            axis.append((slice(low, high), slice(first - low, last - low), slice(first, last)))
        axes.append(axis)
    for z in axes[0]:
        for y in axes[1]:
            for x in axes[2]:
                yield (z[0], y[0], x[0]), (z[1], y[1], x[1]), (z[2], y[2], x[2])


def _tile_size(network: UNet, device: torch.device, halo: int) -> int:
    """Largest edge whose activations fit; a block keeps some six volumes of its width at once."""
    params = network.params
    voxel_bytes = 4 * (6 * params.width + 2 * params.out_channels + params.in_channels)
    edge = int((free_bytes(device) / voxel_bytes) ** (1 / 3)) - 2 * halo
    if edge < params.multiple:
        raise BackendError(
            f"There is not enough memory on {device} for a single tile of the network. Close other programs."
        )
    return params.multiple * (min(edge, _LARGEST_TILE) // params.multiple)
