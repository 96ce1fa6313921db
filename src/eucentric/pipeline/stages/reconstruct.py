"""Reconstruction on disk: tomogram and halves, written by slabs."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from eucentric.compute.seeds import seeded_generator
from eucentric.errors import InputError
from eucentric.fourier.shells import fourier_shell_correlation
from eucentric.geometry.tilt import TiltGeometry
from eucentric.geometry.volume_warp import VolumeWarp
from eucentric.geometry.warp import ImageWarp
from eucentric.io.exchange.folded_volume import folded
from eucentric.io.exchange.records import SeriesGeometry
from eucentric.io.mrc import read_mrc
from eucentric.io.png import write_png
from eucentric.models.tilt_series import CtfFit, TiltSeries, Tomogram
from eucentric.optics.tilt_strength import TiltStrength
from eucentric.pipeline.images import read_deformation, read_images, read_warp
from eucentric.pipeline.levelling import level_series
from eucentric.pipeline.repair_frames import poses_frame
from eucentric.pipeline.repair_level_files import level_as_marked, read_faces
from eucentric.pipeline.repair_paths import levels_file
from eucentric.pipeline.stage import ItemStage, Outcome
from eucentric.pipeline.store import ItemStore
from eucentric.pipeline.volume_files import VolumeFiles
from eucentric.reconstruction.choose_grid import choose_grid
from eucentric.reconstruction.erase_beads import erase_beads
from eucentric.reconstruction.iterate import Step
from eucentric.reconstruction.params import ReconstructParams
from eucentric.reconstruction.results import VolumeGrid, VolumeSlab
from eucentric.reconstruction.signal_to_noise import SpectralRatio, estimate_signal_to_noise
from eucentric.reconstruction.solve_volume import SeriesOptics, iterations_of, volume_slabs
from eucentric.signal.bead_series import detect_beads_in_series

_FSC_SIDE = 256
_MARGIN = 400.0  # A of height more than was found of the specimen: its faces are rough


_NOT_LEVELLED = (
    "It was not levelled: how the specimen deforms is known in the frame that it has, and the particles lie there too."
)


class Reconstruct(ItemStage):
    """Reconstruct tomograms and their halves."""

    name = "reconstruct"
    params = ReconstructParams
    version = 4
    after = "ctf"

    def peak_bytes(self, series: TiltSeries, params: ReconstructParams) -> int:
        """The images, the filtered lines, some slabs; all of the volume several times for iterative methods."""
        chosen = _resolved(series, params)
        grids = [_grid(series, params, size) for size in (None, *params.more_pixel_sizes_angstrom)]
        grid = min(grids, key=lambda g: g.voxel_size_angstrom)
        depth, rows, columns = grid.shape_zyx
        coarser = min(1.0, series.pixel_size_angstrom / grid.voxel_size_angstrom)
        side = 1.5 * coarser * (max(series.image_shape) + 80)
        prepared = 4 * len(series.tilts) * side * side
        stacks = 2 if chosen.method == "ctf" or chosen.erase_beads else 1
        images = 4 * stacks * len(series.tilts) * series.image_shape[0] * series.image_shape[1]
        volumes = 2 if chosen.method in ("wbp", "sirt-like") else 10
        return int(500 * 2**20 + prepared + images + 4 * volumes * depth * rows * columns)

    def reads(self, series: str, params: ReconstructParams, root: Path) -> tuple[Path, ...]:
        """The faces of the specimen that a person marked."""
        del params
        path = levels_file(root, series)
        return (path,) if path.is_file() else ()

    def gather(self, folder: Path, names: Sequence[str]) -> None:
        """Bring what was drawn in earlier tomograms into the frames of these."""
        if folder.name == self.name and names:
            from eucentric.pipeline.repair_summary import refresh_repairs  # it knows all stages, this one too

            refresh_repairs(folder.parent)

    def run(self, series: TiltSeries, params: ReconstructParams, store: ItemStore, device: torch.device) -> Outcome:
        """Reconstruct the sums, and the even and odd frames where they exist, at every pixel size."""
        if not series.tilts:
            return Outcome(series=series, caveats=("The tomogram was given; there is nothing to reconstruct.",))
        levelled: dict[str, float] = {}
        volume = read_deformation(series, store).volume
        caveats = _folded_words(series, volume)
        marked = read_faces(store.root, series.name)
        if volume is not None and (marked is not None or params.auto_level):
            marked, params = None, params.replace(auto_level=False)
            caveats += (_NOT_LEVELLED,)
        if marked is not None:
            series, levelled, more = level_as_marked(series, marked, poses_frame(series, marked.frame.grid))
            caveats += more
            params = params.replace(thickness_angstrom=None)  # as marked, whatever holds for the others
        elif params.auto_level:
            series, levelled, more = level_series(series, partial(read_images, series, store, device))
            caveats += more
        margin = _MARGIN if marked is None else 0.0
        steep = {i: "too steep" for i, pose in enumerate(series.poses) if abs(pose.y_tilt_deg) > params.max_tilt_deg}
        used = series.without(steep)
        if not used.tilts:
            raise InputError(
                f"No image of {series.name} is tilted by {params.max_tilt_deg:g} degrees or less. "
                "Choose a larger max_tilt_deg."
            )
        grid = _grid(series, params, None, margin)
        others = {f"{size:.2f}": _grid(series, params, size, margin) for size in params.more_pixel_sizes_angstrom}
        others.pop(f"{grid.voxel_size_angstrom:.2f}", None)
        caveats += _idle_settings(params, _resolved(used, params))
        if len(used.tilts) == 1:
            caveats += ("Only one image is used: the volume is that image smeared out along the beam.",)
        work = _Work.prepare(used, _resolved(used, params), store, device)
        tomogram = work.reconstruct(grid, series.name)
        for size, other in others.items():
            work.reconstruct(other, f"{series.name}_{size}A")
        metrics = {"voxel_size_angstrom": grid.voxel_size_angstrom, "tilts": float(len(used.tilts)), **levelled}
        metrics.update(work.metrics)
        if tomogram.half1 is not None:
            agreement, curves = _halves_agreement(store, tomogram)
            metrics.update(agreement)
            work.curves.update(curves)
        if work.curves:
            store.write_arrays(**work.curves)
        depth, rows, columns = (
            round(n * grid.voxel_size_angstrom / series.pixel_size_angstrom) for n in grid.shape_zyx
        )
        size_px = (columns, rows, depth)
        return Outcome(
            series=series.replace(tomogram=tomogram, volume_size_px=size_px),
            metrics=metrics,
            caveats=caveats + tuple(work.caveats),
        )


def _folded_words(series: TiltSeries, volume: VolumeWarp | None) -> tuple[str, ...]:
    """How far a deformed specimen is off in the volume; nothing where it is not."""
    told = folded(SeriesGeometry(series=series, volume=volume))[1]
    bare = (sentence.removeprefix(f"{series.name}: ") for sentence in told)
    return tuple(sentence[:1].upper() + sentence[1:] for sentence in bare)


def _resolved(series: TiltSeries, params: ReconstructParams) -> ReconstructParams:
    return params.resolved(has_ctf=series.has_ctf, has_halves=series.has_halves)


def _idle_settings(params: ReconstructParams, resolved: ReconstructParams) -> tuple[str, ...]:
    """Words on settings that were chosen and change nothing."""
    return tuple(f"The setting {name} changes nothing {why}." for name, why in params.idle(resolved.method).items())


def _grid(
    series: TiltSeries, params: ReconstructParams, pixel_size: float | None, margin: float = _MARGIN
) -> VolumeGrid:
    thickness = series.thickness_angstrom
    if thickness is not None and params.auto_level:
        thickness += margin
    if thickness is None and series.optics is None:
        # needles and particles of materials science are as deep as they are wide
        thickness = min(series.image_shape) * series.pixel_size_angstrom
    chosen = _resolved(series, params)
    # memory is asked for before a series is aligned too
    axes = [t.pose.z_rot_deg for t in series.tilts if t.pose is not None]
    return choose_grid(
        chosen if pixel_size is None else chosen.model_copy(update={"pixel_size_angstrom": pixel_size}),
        image_shape=series.image_shape,
        pixel_size=series.pixel_size_angstrom,
        thickness_angstrom=thickness,
        axis_deg=axes[len(axes) // 2] if axes else 0.0,
        tilts_deg=[t.nominal_tilt_deg if t.pose is None else t.pose.y_tilt_deg for t in series.tilts],
    )


_PARTS = {"": "image", "_half1": "image_even", "_half2": "image_odd"}
"""By the ending of the volume: what of each tilt it is made from."""


@dataclass(slots=True, kw_only=True)
class _Work:
    """The images of a series and what is known of them, for all volumes made from them."""

    series: TiltSeries
    params: ReconstructParams
    store: ItemStore
    device: torch.device
    endings: tuple[str, ...]
    """Of the volumes to be made: the whole (no ending) and, where there are, both halves."""
    tilts: dict[str, slice]
    """Of halves that are made of some of the tilts."""
    erased: dict[str, torch.Tensor]
    """Images without their beads; all others are read when they are needed."""
    geometry: TiltGeometry
    warp: ImageWarp | None
    optics: SeriesOptics | None
    signal: TiltStrength | None
    signal_to_noise: SpectralRatio | None
    files: VolumeFiles
    metrics: dict[str, float]
    caveats: list[str]
    curves: dict[str, Any]

    @classmethod
    def prepare(cls, series: TiltSeries, params: ReconstructParams, store: ItemStore, device: torch.device) -> Self:
        """Erase beads and weigh signal against noise where the settings ask for it."""
        optics = None
        if series.optics is not None:
            fits = tuple(t.ctf for t in series.tilts if t.ctf is not None)
            optics = SeriesOptics(
                optics=series.optics,
                fits=fits if len(fits) == len(series.tilts) else None,
                hand=series.hand,
                pre_exposures=series.pre_exposures,
                doses=series.doses,
            )
        tilts: dict[str, slice] = {}
        caveats: list[str] = []
        if params.half_volumes and params.halves == "tilts":
            if len(series.tilts) > 3:
                tilts = {"_half1": slice(0, None, 2), "_half2": slice(1, None, 2)}
            else:
                caveats.append(
                    f"{len(series.tilts)} tilts are too few for halves of every other tilt; none were made so."
                )
        endings: tuple[str, ...] = ("",)
        if tilts or (params.half_volumes and series.has_halves):
            endings = ("", "_half1", "_half2")
        contrast = "protein dark" if series.optics is not None else "as recorded"
        label = f"Eucentric tomogram, {params.method}, contrast {contrast}"
        work = cls(
            series=series,
            params=params,
            store=store,
            device=device,
            endings=endings,
            tilts=tilts,
            erased={},
            geometry=TiltGeometry.from_poses(series.poses),
            warp=read_warp(series, store),
            optics=optics,
            signal=TiltStrength.of(series.tilts),
            signal_to_noise=None,
            files=VolumeFiles(folder=store.output("tomograms", "x").parent, params=params, labels=(label,)),
            metrics={},
            caveats=caveats,
            curves={},
        )
        if params.erase_beads:
            work._erase_beads()
        weighed = params.method == "ctf" or (params.ctf_correction == "wiener" and params.method != "fourier")
        if weighed and series.has_halves and optics is not None and optics.fits is not None:
            work._weigh_signal(optics, optics.fits)
        return work

    def _images(self, ending: str) -> torch.Tensor:
        """What the volume of an ending is made from: one stack at a time is held, but for those without beads."""
        if ending in self.tilts:
            if self.erased:
                return self._images("")[self.tilts[ending]]
            chosen = self.series.with_tilts(self.series.tilts[self.tilts[ending]])
            return read_images(chosen, self.store, self.device)
        if ending in self.erased:
            return self.erased[ending]
        if self.erased:
            return self.erased["_half1"] + self.erased["_half2"]
        return read_images(self.series, self.store, self.device, part=_PARTS[ending])

    def _erase_beads(self) -> None:
        """Fill gold beads, in the halves with noise of their own."""
        pixel_size = self.series.pixel_size_angstrom
        images = self._images("")
        beads = detect_beads_in_series(
            images,
            pixel_size=pixel_size,
            diameter_angstrom=self.params.bead_diameter_angstrom,
            geometry=self.geometry,
        )
        self.metrics["beads"] = float(len(beads.points_angstrom))
        self.metrics["bead_diameter_angstrom"] = 2.0 * beads.radius_px * pixel_size
        if beads.radius_px <= 0:
            self.caveats.append("No gold beads were found, and nothing was erased.")
            return
        generator = seeded_generator(self.store.seed)
        for ending in ("_half1", "_half2") if self.series.has_halves else ("",):
            if ending:
                images = read_images(self.series, self.store, self.device, part=_PARTS[ending])
            self.erased[ending] = erase_beads(
                images, beads.positions_px, beads.radius_px, halo_px=beads.halo_px, generator=generator
            )

    def _weigh_signal(self, optics: SeriesOptics, fits: tuple[CtfFit, ...]) -> None:
        even, odd = (
            self.erased[half] if half in self.erased else read_images(self.series, self.store, self.device, part=part)
            for half, part in _PARTS.items()
            if half
        )
        ratio = estimate_signal_to_noise(
            even,
            odd,
            pixel_size=self.series.pixel_size_angstrom,
            fits=fits,
            optics=optics.optics,
            exposures=optics.exposures if self.params.dose_weighting else None,
            signal=self.signal if self.params.dose_weighting else None,
        )
        self.signal_to_noise = ratio
        self.curves.update({"signal_to_noise_frequency": ratio.frequency, "signal_to_noise": ratio.ratio})

    def reconstruct(self, grid: VolumeGrid, name: str) -> Tomogram:
        """Write the volume and its halves."""
        paths: dict[str, str] = {}
        if self.params.method == "ctf" and len(self.endings) > 1 and not self.tilts:
            # the solution is all but linear in the images: the whole is the sum of its halves
            halves = {}
            for i, ending in enumerate(("_half1", "_half2")):
                slabs = list(self._slabs(grid, ending, 0.5 * i, 0.5, name))
                halves[ending] = slabs[0].density
                paths[ending] = self._write(grid, name + ending, slabs)
            whole = VolumeSlab(start=0, stop=grid.shape_zyx[0], density=halves["_half1"].add_(halves["_half2"]))
            paths[""] = self._write(grid, name, [whole])
        else:
            for i, ending in enumerate(self.endings):
                share = 1.0 / len(self.endings)
                paths[ending] = self._write(grid, name + ending, self._slabs(grid, ending, share * i, share, name))
        return Tomogram(
            path=paths[""],
            voxel_size_angstrom=grid.voxel_size_angstrom,
            shape_zyx=grid.shape_zyx,
            half1=paths.get("_half1"),
            half2=paths.get("_half2"),
        )

    def _write(self, grid: VolumeGrid, name: str, slabs: Iterable[VolumeSlab]) -> str:
        return self.store.relative(self.files.write(name, grid, slabs))

    def _slabs(self, grid: VolumeGrid, ending: str, start: float, share: float, name: str) -> Iterator[VolumeSlab]:
        what = "tomogram" if not ending else ending[1:].replace("half", "half ")
        self.store.progress(start, what)
        residuals: list[float] = []
        count = iterations_of(self.params, scanning=self.optics is None)

        def on_step(step: Step) -> None:
            residuals.append(step.residual)
            self.store.progress(start + share * min(step.iteration / count, 1.0), f"{what}, iteration {step.iteration}")
            if step.iteration == 1:  # an early look, long before the last iteration
                middle = step.volume[step.volume.shape[0] // 2].cpu().numpy()
                write_png(self.store.output("previews", f"{name}.png"), middle)

        chosen = self.tilts.get(ending, slice(None))
        yield from volume_slabs(
            self._images(ending),
            self.geometry[chosen],
            warp=None if self.warp is None else self.warp[chosen],
            pixel_size=self.series.pixel_size_angstrom,
            volume_shape=grid.shape_zyx,
            voxel_size=grid.voxel_size_angstrom,
            params=self.params,
            optics=None if self.optics is None else self.optics.select(chosen),
            signal=None if self.signal is None else self.signal[chosen],
            signal_to_noise=self.signal_to_noise,
            specimen_angstrom=self.series.thickness_angstrom,
            on_step=on_step,
        )
        if residuals and "residual" not in self.curves:  # those of the first volume stand for all
            self.metrics["iterations"] = float(len(residuals))
            self.metrics["last_residual"] = residuals[-1]
            self.curves["residual"] = np.array(residuals)


def _halves_agreement(store: ItemStore, tomogram: Tomogram) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Fourier shell correlation between the halves over the middle of the volume."""
    boxes = []
    for path in (tomogram.half1, tomogram.half2):
        data = read_mrc(store.resolve(str(path)))[0]
        cut = tuple(slice((n - min(n, _FSC_SIDE)) // 2, (n + min(n, _FSC_SIDE)) // 2) for n in data.shape)
        box = torch.from_numpy(np.array(data[cut], dtype=np.float32))
        boxes.append((box - box.mean()) * _window(box.shape))
    # the first shell holds little more than the means, which were taken out
    frequency, correlation = (
        line[1:] for line in fourier_shell_correlation(boxes[0], boxes[1], tomogram.voxel_size_angstrom)
    )
    below = (correlation < 0.143).nonzero().flatten()
    limit = float(1.0 / frequency[int(below[0])]) if len(below) else 2.0 * tomogram.voxel_size_angstrom
    curves = {"fsc_frequency": frequency.numpy(), "fsc": correlation.numpy()}
    return {"halves_fsc_area": float(correlation.mean()), "halves_fsc_0143_angstrom": limit}, curves


def _window(shape: torch.Size) -> torch.Tensor:
    """Hann along every axis: what leaves at one face must not enter at the other."""
    out = torch.ones(shape)
    for axis, n in enumerate(shape):
        line = torch.hann_window(n, periodic=False)
        out = out * line.reshape([-1 if a == axis else 1 for a in range(3)])
    return out
