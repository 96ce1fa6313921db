"""A filter from one volume on disk to another."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eucentric.compute.device import free_bytes
from eucentric.compute.seeds import seeded_generator
from eucentric.denoising.choose_filter import NEEDS_NOISE, Filter, Transferred, filter_bytes, prepare_filter
from eucentric.denoising.estimate_noise import Noise, estimate_noise
from eucentric.denoising.params import DenoiseParams
from eucentric.errors import BackendError, InputError, ShapeError
from eucentric.io.mrc import MrcSlabWriter, MrcType, read_mrc, read_mrc_header
from eucentric.signal.tiles import filter_in_tiles

AVERAGING_USES_RAW = (
    "Look at such tomograms, but average from the raw data: networks and filters change what particles look like."
)
_BLOCK = (96, 160, 160)  # voxels in which the noise is measured
_PLANES = 16
_HALF_MODE = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSource:
    """A tomogram on disk and its halves."""

    path: Path
    half1: Path | None = None
    half2: Path | None = None
    voxel_size_angstrom: float | None = None
    """Instead of the header's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Denoised:
    """What was written."""

    path: Path
    figures: dict[str, float]
    """What was measured and chosen, the unit in the name."""
    caveats: tuple[str, ...]


def write_denoised(
    source: VolumeSource,
    output: Path,
    params: DenoiseParams,
    *,
    contrast: Transferred | None = None,
    device: torch.device | str = "cpu",
    seed: int = 0,
    on_progress: Callable[[float], None] | None = None,
) -> Denoised:
    """Filter a tomogram and write it with the number type it had (float16, else float32).

    Parameters
    ----------
    contrast : for deconvolution
    seed : of white noise, where there are no halves
    on_progress : told the part that is done

    Raises
    ------
    InputError : no voxel size, no number in the volume, halves that are none
    ShapeError : halves of other sizes
    BackendError : a filter that needs the whole volume does not fit into memory
    """
    header = read_mrc_header(source.path)
    shape, voxel = header.shape, _voxel_size(source)
    for half in (source.half1, source.half2):
        if half is not None and read_mrc_header(half).shape != shape:
            raise ShapeError(
                f"`{half}` is {_size(read_mrc_header(half).shape)} voxels, `{source.path}` {_size(shape)}; expected the same size. "
                "Give the halves of this very tomogram."
            )
    data = read_mrc(source.path)[0]
    mean, missing = _survey(data, source.path)
    caveats: tuple[str, ...] = ()
    if missing:
        caveats += (f"{missing:,} voxels were no numbers; the mean stands in their place.",)
    noise = _noise(source, data, params, device, seed)
    if noise is not None and not noise.from_halves and params.method in NEEDS_NOISE:
        caveats += (
            "No halves: the noise was taken as white and measured in the finest detail of the tomogram itself. "
            "Reconstruct with half volumes for a better estimate.",
        )
    made = prepare_filter(params, voxel, noise, contrast, on_progress)
    read = _reader(data, mean, device)
    if made.whole is not None:
        need, free = filter_bytes(params.method, int(np.prod(shape))) + 4 * int(np.prod(shape)), free_bytes(device)
        if need > free:
            raise BackendError(
                f"{params.method} of `{source.path}` needs {need / 2**30:.1f} GiB, but only {free / 2**30:.1f} GiB may be used on "
                f"{device}. Use wavelet or bilateral, which go by slabs, or larger voxels."
            )
    label = f"Eucentric denoised, {params.method}; to look at, not to average"
    kind: MrcType = "float16" if header.mode == _HALF_MODE else "float32"
    with MrcSlabWriter(output, shape, voxel, kind, labels=(*header.labels[-2:], label)) as writer:
        done = 0
        for slab in _slabs(made, read, shape):
            writer.write(slab.cpu().numpy())
            done += len(slab)
            if on_progress is not None:
                on_progress(done / shape[0])
    figures = dict(made.figures)
    if noise is not None:
        figures |= {"noise_sigma": noise.sigma, "noise_from_halves": float(noise.from_halves)}
    return Denoised(path=output, figures=figures, caveats=caveats)


def _slabs(made: Filter, read: Callable[[int, int], Tensor], shape: tuple[int, int, int]) -> Iterator[Tensor]:
    if made.whole is not None:
        out = made.whole(read(0, shape[0]))
        yield from (out[start : start + _PLANES] for start in range(0, shape[0], _PLANES))
    elif made.kernel is not None:
        yield from filter_in_tiles(read, shape, made.kernel, made.halo)


def _voxel_size(source: VolumeSource) -> float:
    given = source.voxel_size_angstrom
    if given is not None:
        if not given > 0:
            raise InputError(f"The pixel size is {given:g} A; expected a positive number.")
        return given
    sizes = read_mrc_header(source.path).voxel_size_angstrom
    if sizes is None:
        raise InputError(f"The header of `{source.path}` holds no voxel size. Give it with --pixel-size.")
    if max(sizes) > 1.001 * min(sizes):
        raise InputError(f"The voxels of `{source.path}` are {sizes} A wide; expected the same size along x, y and z.")
    return sizes[0]


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(str(n) for n in reversed(shape))


def _survey(data: NDArray[Any], path: Path) -> tuple[float, int]:
    """Mean of the numbers, and how many voxels are none."""
    total, count = 0.0, 0
    for start in range(0, len(data), _PLANES):
        planes = np.asarray(data[start : start + _PLANES], dtype=np.float32)
        finite = np.isfinite(planes)
        total += float(planes.sum(dtype=np.float64, where=finite))
        count += int(finite.sum())
    if not count:
        raise InputError(f"`{path}` holds not one number. Reconstruct it again.")
    return total / count, data.size - count


def _reader(data: NDArray[Any], fill: float, device: torch.device | str) -> Callable[[int, int], Tensor]:
    def read(start: int, stop: int) -> Tensor:
        planes = np.array(data[start:stop], dtype=np.float32)
        return torch.from_numpy(np.nan_to_num(planes, copy=False, nan=fill, posinf=fill, neginf=fill)).to(device)

    return read


def _noise(
    source: VolumeSource, data: NDArray[Any], params: DenoiseParams, device: torch.device | str, seed: int
) -> Noise | None:
    """Measured in the middle of the volume."""
    halves = source.half1 is not None or source.half2 is not None
    wanted = params.method in NEEDS_NOISE or (params.method == "gaussian" and params.sigma_angstrom is None and halves)
    if not wanted:
        return None
    cut = tuple(
        slice((n - min(n, m)) // 2, (n - min(n, m)) // 2 + min(n, m)) for n, m in zip(data.shape, _BLOCK, strict=True)
    )
    blocks: list[Tensor | None] = []
    values: list[NDArray[Any] | None] = [np.array(data[cut], dtype=np.float32)]
    for half in (source.half1, source.half2):
        values.append(None if half is None else np.array(read_mrc(half)[0][cut], dtype=np.float32))
    finite = np.all([np.isfinite(v) for v in values if v is not None], axis=0)
    if not finite.any():
        raise InputError(f"The middle of `{source.path}` holds not one number. Reconstruct it again.")
    for value in values:
        if value is not None:
            value[~finite] = value[finite].mean()
        blocks.append(None if value is None else torch.from_numpy(value).to(device))
    assert blocks[0] is not None
    return estimate_noise(blocks[0], blocks[1], blocks[2], generator=seeded_generator(seed))
