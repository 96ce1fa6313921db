"""Reconstruction on disk: tomogram and halves, written by slabs."""

from typing import Any, Literal

import numpy as np
import torch

from eucentric.errors import InputError
from eucentric.fourier.shells import fourier_shell_correlation
from eucentric.geometry.tilt import TiltGeometry
from eucentric.io.mrc import MrcSlabWriter, read_mrc
from eucentric.models.tilt_series import TiltSeries, Tomogram
from eucentric.pipeline.images import read_images
from eucentric.pipeline.stage import ItemStage, Outcome
from eucentric.pipeline.store import ItemStore
from eucentric.reconstruction.choose_grid import choose_grid
from eucentric.reconstruction.params import ReconstructParams
from eucentric.reconstruction.reconstruct_volume import reconstruct_slabs
from eucentric.reconstruction.results import VolumeGrid

_FSC_SIDE = 256


class Reconstruct(ItemStage):
    """Reconstruct tomograms and their halves."""

    name = "reconstruct"
    params = ReconstructParams
    version = 1
    after = "ctf"

    def peak_bytes(self, series: TiltSeries, params: ReconstructParams) -> int:
        """The images, the filtered lines and some slabs."""
        grid = _grid(series, params)
        depth, rows, columns = grid.shape_zyx
        lines = len(series.tilts) * rows * 2 * (columns + 2 * depth) * 4
        images = 8 * len(series.tilts) * series.image_shape[0] * series.image_shape[1]
        return int(500 * 2**20 + lines + images + 8 * depth * rows * columns)

    def run(self, series: TiltSeries, params: ReconstructParams, store: ItemStore, device: torch.device) -> Outcome:
        """Weighted back-projection of the sums, and of the even and odd frames where they exist."""
        if not series.tilts:
            return Outcome(series=series, caveats=("The tomogram was given; there is nothing to reconstruct.",))
        grid = _grid(series, params)
        steep = {i: "too steep" for i, pose in enumerate(series.poses) if abs(pose.y_tilt_deg) > params.max_tilt_deg}
        used = series.without(steep)
        if not used.tilts:
            raise InputError(
                f"No image of {series.name} is tilted by {params.max_tilt_deg:g} degrees or less. "
                "Choose a larger max_tilt_deg."
            )
        halves = params.half_volumes and all(t.image_even and t.image_odd for t in used.tilts)
        parts = {"image": "", **({"image_even": "_half1", "image_odd": "_half2"} if halves else {})}
        paths = {}
        for i, (part, suffix) in enumerate(parts.items()):
            store.progress(i / (len(parts) + 1), "tomogram" if not suffix else f"half {i}")
            paths[suffix] = _write_volume(used, params, store, device, grid, part, suffix)
        tomogram = Tomogram(
            path=paths[""],
            voxel_size_angstrom=grid.voxel_size_angstrom,
            shape_zyx=grid.shape_zyx,
            half1=paths.get("_half1"),
            half2=paths.get("_half2"),
        )
        metrics = {"voxel_size_angstrom": grid.voxel_size_angstrom, "tilts": float(len(used.tilts))}
        if halves:
            metrics.update(_halves_agreement(store, tomogram))
        height = round(grid.shape_zyx[0] * grid.voxel_size_angstrom / series.pixel_size_angstrom)
        size = (series.image_shape[1], series.image_shape[0], height)
        return Outcome(series=series.replace(tomogram=tomogram, volume_size_px=size), metrics=metrics)


def _grid(series: TiltSeries, params: ReconstructParams) -> VolumeGrid:
    thickness = series.thickness_angstrom
    if thickness is None and series.optics is None:
        # needles and particles of materials science are as deep as they are wide
        thickness = min(series.image_shape) * series.pixel_size_angstrom
    return choose_grid(
        params,
        image_shape=series.image_shape,
        pixel_size=series.pixel_size_angstrom,
        thickness_angstrom=thickness,
    )


def _write_volume(
    series: TiltSeries,
    params: ReconstructParams,
    store: ItemStore,
    device: torch.device,
    grid: VolumeGrid,
    part: str,
    suffix: str,
) -> str:
    images = read_images(series, store, device, part=part)
    path = store.output("tomograms", f"{series.name}{suffix}.mrc")
    exposure: dict[str, Any] = (
        {} if series.optics is None else {"pre_exposures": series.pre_exposures, "doses": series.doses}
    )
    slabs = reconstruct_slabs(
        images,
        TiltGeometry.from_poses(series.poses),
        pixel_size=series.pixel_size_angstrom,
        volume_shape=grid.shape_zyx,
        voxel_size=grid.voxel_size_angstrom,
        params=params,
        voltage_kv=300.0 if series.optics is None else series.optics.voltage_kv,
        **exposure,
    )
    kind: Literal["float16", "float32"] = "float16" if params.float16 else "float32"
    contrast = "protein dark" if series.optics is not None else "as recorded"
    with MrcSlabWriter(
        path, grid.shape_zyx, grid.voxel_size_angstrom, kind, labels=(f"Eucentric tomogram, contrast {contrast}",)
    ) as writer:
        for slab in slabs:
            writer.write(slab.density.cpu().numpy())
    return store.relative(path)


def _halves_agreement(store: ItemStore, tomogram: Tomogram) -> dict[str, float]:
    """Fourier shell correlation between the halves over the middle of the volume."""
    boxes = []
    for path in (tomogram.half1, tomogram.half2):
        data = read_mrc(store.resolve(str(path)))[0]
        cut = tuple(slice((n - min(n, _FSC_SIDE)) // 2, (n + min(n, _FSC_SIDE)) // 2) for n in data.shape)
        box = torch.from_numpy(np.array(data[cut], dtype=np.float32))
        boxes.append((box - box.mean()) * _window(box.shape))
    frequency, correlation = fourier_shell_correlation(boxes[0], boxes[1], tomogram.voxel_size_angstrom)
    store.write_arrays(fsc_frequency=frequency.numpy(), fsc=correlation.numpy())
    below = (correlation < 0.143).nonzero().flatten()
    limit = float(1.0 / frequency[int(below[0])]) if len(below) else 2.0 * tomogram.voxel_size_angstrom
    return {"halves_fsc_area": float(correlation.mean()), "halves_fsc_0143_angstrom": limit}


def _window(shape: torch.Size) -> torch.Tensor:
    """Hann along every axis: what leaves at one face must not enter at the other."""
    out = torch.ones(shape)
    for axis, n in enumerate(shape):
        line = torch.hann_window(n, periodic=False)
        out = out * line.reshape([-1 if a == axis else 1 for a in range(3)])
    return out
