"""Networks and constraints that restore tomograms, from files to files, with what can be said of their trust."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from eucentric.compute.seeds import seeded_generator
from eucentric.denoising.constrained.fill_constrained import constrained_bytes, fill_constrained
from eucentric.denoising.estimate_noise import estimate_noise
from eucentric.denoising.learned.half_volumes import check_halves
from eucentric.denoising.learned.params import RestorerUse, Task
from eucentric.denoising.learned.restore_volume import restore_volume
from eucentric.denoising.learned.restorer import PURPOSE, Restorer, coarse_factor, coarse_shape, restorer_of
from eucentric.denoising.learned.standardise import measure_scale
from eucentric.denoising.restoring_params import FillWedgeParams
from eucentric.denoising.sampled_region import find_wedge, sampled_region_of
from eucentric.denoising.trust.grid_artefact import find_grid_artefacts
from eucentric.denoising.trust.tile_seams import find_seams
from eucentric.denoising.trust.uncertainty import estimate_uncertainty
from eucentric.errors import InputError, ProcessingError
from eucentric.fourier import fourier_crop, fourier_pad
from eucentric.geometry import TiltGeometry
from eucentric.io.mrc import MrcType, read_mrc_header, write_mrc
from eucentric.networks.model_file import Model, model_from_bytes
from eucentric.pipeline.recorded_transfer import TomogramContrast
from eucentric.pipeline.reprojecting import read_volume
from eucentric.pipeline.restore_trust import trust_of_halves, trust_of_wedge
from eucentric.pipeline.shipped_model import read_model_bytes

SHIPPED_FILE = "tomogram_restorer.model"
"""In `eucentric.denoising.learned`."""
_ASSUMED_TILTS = (-60.0, 60.0)
_HALF_MODE = 12
_FLOATS_HELD = 14
"""Volumes of float32 held at once: raw, halves, outputs, transforms."""
_NETWORK_BYTES, _LARGEST_TILE = 200, 320**3
"""For each voxel of a tile with what it overlaps, and voxels of the largest."""
_NOISE_BLOCK = (96, 160, 160)
_LEAST_VOXELS = 16


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RestoreSource:
    """A tomogram on disk, its halves and what is known of its tilts."""

    name: str
    path: Path
    half1: Path | None = None
    half2: Path | None = None
    geometry: TiltGeometry | None = None
    """None: the wedge is measured in the tomogram."""
    voxel_size_angstrom: float | None = None
    """Instead of the header's."""
    contrast: TomogramContrast | None = None
    """What is left of the contrast transfer; None where it is undone or not known."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RestoredFile:
    """What was written."""

    path: Path
    sigma: Path | None
    """Standard deviation of every voxel; None without halves."""
    figures: dict[str, float]
    arrays: dict[str, Any]
    """Curves for the report."""
    caveats: tuple[str, ...]


def read_restorer_model(model: str) -> Model:
    """The model of a file, or the general one that comes with the program.

    Raises
    ------
    InputError : no such file
    FormatError : something else than a model that restores tomograms
    """
    raw, name = read_model_bytes(model, "eucentric.denoising.learned", SHIPPED_FILE, "eucentric denoise train")
    return model_from_bytes(raw, name, purpose=PURPOSE)


def check_voxel_size(given: float | None) -> None:
    """A voxel size that was given instead of the header's must be above 0.

    Raises
    ------
    InputError : it is not
    """
    if given is not None and not given > 0:
        raise InputError(f"The pixel size is {given:g} A; expected a positive number.")


def restore_bytes(voxels: int) -> int:
    """Memory that a restoration needs at most."""
    tile = _NETWORK_BYTES * min(2 * voxels, _LARGEST_TILE)
    return max(4 * _FLOATS_HELD * voxels + tile, constrained_bytes((voxels,))) + 2**30


@dataclass(slots=True)
class _Volumes:
    """Read and made finite."""

    raw: Tensor
    halves: tuple[Tensor, Tensor] | None
    voxel: float
    caveats: list[str] = field(default_factory=list)


def denoise_by_network(
    source: RestoreSource,
    output: Path,
    use: RestorerUse,
    model: str,
    *,
    device: torch.device,
    seed: int = 0,
    on_progress: Callable[[float], None] | None = None,
) -> RestoredFile:
    """Denoise a tomogram by a network, and write it and the uncertainty of its voxels, `<output>_sigma.mrc`.

    Raises
    ------
    InputError, ShapeError, FormatError, BackendError : wrong files, halves or model, or too little memory
    """
    read = _read(source, device)
    restorer = restorer_of(read_restorer_model(model), "denoise", model, device)
    return _by_network(source, read, output, "denoise", restorer, use, False, seed, on_progress)


def fill_wedge(
    source: RestoreSource,
    output: Path,
    params: FillWedgeParams,
    *,
    device: torch.device,
    seed: int = 0,
    on_progress: Callable[[float], None] | None = None,
) -> RestoredFile:
    """Fill the missing wedge of a tomogram, and write it and, where a network did it, the uncertainty of its voxels.

    Raises
    ------
    InputError, ShapeError, FormatError, BackendError : wrong files, halves or model, or too little memory
    """
    read = _read(source, device)
    if params.method == "network":
        restorer = restorer_of(read_restorer_model(params.model), "fill", params.model, device)
        return _by_network(source, read, output, "fill", restorer, params, params.hard_data, seed, on_progress)
    measured, caveats = _measured(source, read.raw)
    shape = _three(read.raw)
    sample, sigma = None, None
    if read.halves is not None:
        cut = tuple(slice((n - min(n, m)) // 2, (n + min(n, m)) // 2) for n, m in zip(shape, _NOISE_BLOCK, strict=True))
        noise = estimate_noise(read.raw[cut], *(half[cut] for half in read.halves), generator=seeded_generator(seed))
        sample, sigma = noise.sample, noise.sigma

    contrast = source.contrast
    transfer = None if contrast is None else (lambda frequency: contrast.strength(frequency / read.voxel))

    def told(step: Any) -> None:
        if on_progress is not None:
            on_progress(min(1.0, step.iteration / (params.iterations + params.coarse_iterations)))

    made = fill_constrained(
        read.raw, measured(shape), params, sigma, noise_sample=sample, transfer=transfer, on_progress=told
    )
    _write(output, made.volume, source, read.voxel, "wedge filled by constraints; to look at, not to average")
    figures = {
        "noise_sigma": made.noise_sigma,
        "iterations": float(len(made.record)),
        "converged": float(made.converged),
    }
    if not made.converged:
        caveats.append("The optimisation was still moving when its iterations were spent. Give more --iterations.")
    return RestoredFile(path=output, sigma=None, figures=figures, arrays={}, caveats=(*read.caveats, *caveats))


def _by_network(
    source: RestoreSource,
    read: _Volumes,
    output: Path,
    task: Task,
    restorer: Restorer,
    use: RestorerUse,
    keep_measured: bool,
    seed: int,
    on_progress: Callable[[float], None] | None,
) -> RestoredFile:
    measured, caveats = _measured(source, read.raw)
    volumes = read.halves or (read.raw,)
    shape, working = _three(read.raw), _working_shape(_three(read.raw), read.voxel, restorer.voxel_range_angstrom)
    if working != shape:
        low, high = restorer.voxel_range_angstrom
        caveats.append(
            f"The model was trained on voxels of {low:.3g} to {high:.3g} A and these are of {read.voxel:.3g} A: the tomogram was "
            "resampled for it and back. Detail may be lost; train a model at this voxel size."
        )
    if min(working) < _LEAST_VOXELS:
        raise InputError(
            f"`{source.path}` is {' x '.join(str(n) for n in working[::-1])} voxels at the sampling of the model; networks need "
            f"{_LEAST_VOXELS} along each axis. Reconstruct a larger volume, or take a filter such as --method wavelet."
        )
    ready = tuple(_resampled(volume, working) for volume in volumes)
    voxel = read.voxel * shape[0] / working[0]
    factor = coarse_factor(voxel, restorer.voxel_range_angstrom) if task == "fill" else None
    restored = restore_volume(
        restorer,
        ready,
        use,
        measured=measured,
        coarse=None if factor is None else coarse_shape(working, factor),
        keep_measured=keep_measured,
        on_progress=on_progress,
    )
    level, gain = _to_raw(read)
    figures: dict[str, float] = {}
    arrays: dict[str, Any] = {}
    sigma, sigma_path = None, None
    if len(ready) == 2:
        one, two = restored.outputs
        sigma = gain * _resampled(estimate_uncertainty([(one, two)]).sigma, shape)
        told = [trust_of_halves(restored, ready, measured, voxel, weighed=use.weigh_shells)]
        if task == "fill":
            told.append(trust_of_wedge(restorer, ready, measured, voxel, use, factor, seed))
        for measures, curves, words in told:
            figures |= measures
            arrays |= curves
            caveats += words
    else:
        caveats.append(
            "No halves: how far the result may be trusted was not measured. Reconstruct with half volumes to know it."
        )
    mean_raw = torch.stack(ready).mean(0)
    caveats += find_grid_artefacts(restored.volume, mean_raw).caveats[:1]  # of several the strongest says enough
    caveats += find_seams(restored.volume, mean_raw).caveats
    volume = level + gain * _resampled(restored.volume, shape)
    word = "denoised" if task == "denoise" else "wedge filled"
    _write(output, volume, source, read.voxel, f"{word} by a network; to look at, not to average")
    if sigma is not None:
        sigma_path = output.with_name(f"{output.stem}_sigma{output.suffix}")
        _write(sigma_path, sigma, source, read.voxel, f"standard deviation of {output.name}")
        figures["median_sigma"] = float(sigma.reshape(-1)[:: max(1, sigma.numel() // 1_000_000)].median())
    return RestoredFile(
        path=output, sigma=sigma_path, figures=figures, arrays=arrays, caveats=(*read.caveats, *caveats)
    )


def _read(source: RestoreSource, device: torch.device) -> _Volumes:
    check_voxel_size(source.voxel_size_angstrom)
    raw, voxel = read_volume(source.path, source.voxel_size_angstrom, device)
    found = _Volumes(raw=raw, halves=None, voxel=voxel)
    if source.half1 is not None and source.half2 is not None:
        one, two = (read_volume(half, voxel, device)[0] for half in (source.half1, source.half2))
        check_halves(one, two, source.name)
        if one.shape != raw.shape:
            raise InputError(
                f"The halves of `{source.path}` are of another size than it is: {_three(one)[::-1]} and {_three(raw)[::-1]} "
                "voxels. Give the halves of this very tomogram."
            )
        found.halves = (one, two)
    missing = 0
    for volume in (raw, *(found.halves or ())):
        finite = volume.isfinite()
        if not finite.any():
            raise InputError(f"`{source.path}` or a half of it holds not one number. Reconstruct it again.")
        missing = max(missing, int((~finite).sum()))
        volume[~finite] = volume[finite].mean()
    if missing:
        found.caveats.append(f"{missing:,} voxels were no numbers; the mean stands in their place.")
    return found


def _measured(source: RestoreSource, raw: Tensor) -> tuple[Callable[[tuple[int, int, int]], Tensor], list[str]]:
    """The sampled region of any shape, and what is doubtful about it."""
    geometry, caveats = source.geometry, []
    if geometry is None:
        try:
            low, high = find_wedge(raw)
            caveats.append(
                f"The tilts of {source.name} are not known; from its power they go from {low:.0f} to {high:.0f} degrees."
            )
        except ProcessingError:
            low, high = _ASSUMED_TILTS
            caveats.append(
                f"The tilts of {source.name} are not known and its power does not show them; {low:.0f} to {high:.0f} degrees "
                "were assumed. Give --tilt-range."
            )
        geometry = TiltGeometry.build((low, high))
    known, device = geometry, raw.device
    return (lambda shape: sampled_region_of(known, shape, device=device)), caveats


def _working_shape(shape: tuple[int, int, int], voxel: float, allowed: tuple[float, float]) -> tuple[int, int, int]:
    wanted = min(max(voxel, allowed[0]), allowed[1])
    if abs(wanted / voxel - 1.0) < 0.01:
        return shape
    z, y, x = (max(8, 2 * round(0.5 * n * voxel / wanted)) for n in shape)
    return z, y, x


def _resampled(volume: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Cut or padded in Fourier space, axis by axis as sizes ask."""
    if tuple(volume.shape) == shape:
        return volume
    smaller = tuple(min(a, b) for a, b in zip(volume.shape, shape, strict=True))
    out = fourier_crop(volume, smaller) if smaller != tuple(volume.shape) else volume
    return fourier_pad(out, shape) if smaller != shape else out


def _to_raw(read: _Volumes) -> tuple[float, float]:
    """What is added, and the factor, that bring the mean of the halves to the raw tomogram: its sum or its mean."""
    if read.halves is None:
        return 0.0, 1.0
    mean = 0.5 * (read.halves[0] + read.halves[1])
    factor = measure_scale(read.raw).spread / measure_scale(mean).spread
    return float(read.raw.mean()) - factor * float(mean.mean()), factor


def _three(volume: Tensor) -> tuple[int, int, int]:
    return volume.shape[0], volume.shape[1], volume.shape[2]


def _write(path: Path, volume: Tensor, source: RestoreSource, voxel: float, label: str) -> None:
    header = read_mrc_header(source.path)
    kind: MrcType = "float16" if header.mode == _HALF_MODE else "float32"
    write_mrc(path, volume.cpu().numpy(), voxel, kind, labels=(*header.labels[-2:], f"Eucentric {label}"))
