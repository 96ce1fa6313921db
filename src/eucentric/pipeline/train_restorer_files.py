"""`eucentric denoise train` and `eucentric fill-wedge train` on files: half volumes in, a model out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as functional

from eucentric import __version__
from eucentric.denoising.learned.half_volumes import HalfVolumes, prepare_halves
from eucentric.denoising.learned.params import RestorerTraining, Task, WedgeTraining
from eucentric.denoising.learned.restorer import coarse_factor, coarse_shape, restorer_of
from eucentric.denoising.learned.train_restorer import Contrast, train_restorer
from eucentric.denoising.sampled_region import find_wedge
from eucentric.errors import InputError, ProcessingError
from eucentric.fourier import fourier_crop
from eucentric.geometry import TiltGeometry
from eucentric.io.mrc import read_mrc
from eucentric.io.tilt_series import read_tilt_series_set
from eucentric.models.tilt_series import TiltSeries
from eucentric.pipeline.blob_files import find_tomograms
from eucentric.pipeline.learned_files import tomograms_to_use
from eucentric.pipeline.recorded_transfer import tomogram_contrast
from eucentric.pipeline.reprojecting import project_of, read_volume, refuse_to_replace
from eucentric.pipeline.restore_files import check_voxel_size, read_restorer_model
from eucentric.pipeline.training_file import TrainingFile, stamp, write_judged_model

NOTHING = "none"
"""Word for a training that starts from nothing."""
_FARTHEST = 20.0  # A: coarsest voxels of a model that starts from nothing
_LEAST_COARSE = 32  # voxels


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingSource:
    """The halves of a tomogram on disk."""

    name: str
    half1: Path
    half2: Path
    geometry: TiltGeometry | None
    """None: the wedge is measured in the halves."""
    series: TiltSeries | None = None
    root: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RestorerMade:
    """What was written."""

    model: Path
    tomograms: tuple[str, ...]
    steps: int
    before: float
    """Loss where it was not trained, at the start."""
    after: float
    caveats: tuple[str, ...]


def training_sources(target: Path, only: Sequence[str] | None) -> list[TrainingSource]:
    """The halves of a project's tomograms, or of a table of tilt series.

    Raises
    ------
    InputError : no project or table, a name that is not there, or tomograms without halves
    """
    table = target if target.suffix.lower() == ".star" else target / "reconstruct" / "tilt_series.star"
    find_tomograms(target)  # its words where there is nothing
    if not table.is_file():
        raise InputError(f"`{target}` is no project. Give a project, or volumes with --half1 and --half2.")
    root = project_of(table)
    chosen = {one.name for one in tomograms_to_use(target, only)}
    out, without = [], []
    for series in read_tilt_series_set(table, root):
        tomogram = series.tomogram
        if series.name not in chosen or tomogram is None:
            continue
        if tomogram.half1 is None or tomogram.half2 is None:
            without.append(series.name)
            continue
        out.append(
            TrainingSource(
                name=series.name,
                half1=root / tomogram.half1,
                half2=root / tomogram.half2,
                geometry=TiltGeometry.from_poses(series.poses),
                series=series,
                root=root,
            )
        )
    if without or not out:
        raise InputError(
            f"{', '.join(without) or 'No tomogram'} has no half volumes, which training needs. "
            "Run `eucentric reconstruct` with --half-volumes."
        )
    return out


def train_restorer_files(
    sources: Sequence[TrainingSource],
    output: Path,
    params: RestorerTraining,
    *,
    device: torch.device,
    start: str = "shipped",
    mask: Path | None = None,
    pixel_size: float | None = None,
    seed: int = 0,
    overwrite: bool = False,
    on_step: Callable[[int, int, float], None] | None = None,
) -> RestorerMade:
    """Train on halves; a training that was stopped goes on where it was.

    Parameters
    ----------
    params : `WedgeTraining` to fill the wedge
    start : model whose weights are the first ones: a file, `shipped`, or `none`
    mask : volume of the tomograms' shape, above 0 where is learned from; or a folder with one for each, NAME.mrc
    pixel_size : A per voxel, of files whose headers hold none

    Raises
    ------
    InputError, ShapeError, FormatError : halves that are none or do not fit, files that would be replaced unasked, a wrong model
    """
    check_voxel_size(pixel_size)
    refuse_to_replace([output], [f for s in sources for f in (s.half1, s.half2)], overwrite)
    task: Task = "fill" if isinstance(params, WedgeTraining) else "denoise"
    caveats: list[str] = []
    volumes = [_prepared(one, mask, pixel_size, caveats) for one in sources]
    first = None if start == NOTHING else restorer_of(read_restorer_model(start), task, start)
    sizes = [v.voxel_size_angstrom for v in volumes]
    if first is not None:
        low, high = first.voxel_range_angstrom
        if min(sizes) < 0.99 * low or max(sizes) > 1.01 * high:
            caveats.append(
                f"The model that the training starts from knows voxels of {low:.3g} to {high:.3g} A, these tomograms have "
                f"{min(sizes):.3g} to {max(sizes):.3g} A: it has more to learn."
            )
    about = [
        [stamp(f) for s in sources for f in (s.half1, s.half2)],
        [None if s.geometry is None else s.geometry.matrices.tolist() for s in sources],
        pixel_size,
        [] if mask is None else [stamp(_mask_of(s, mask)) for s in sources],
        stamp(Path(start)) if Path(start).is_file() else start,
        params.model_dump(),
        task,
        seed,
        __version__,
    ]
    kept = TrainingFile(output, about)
    known = list(zip(sources, volumes, strict=True))
    if task == "fill":
        known += _seen_farther(known, (0.0, _FARTHEST) if first is None else first.voxel_range_angstrom)
    contrasts = [_contrast(one, volume.voxel_size_angstrom) for one, volume in known]
    trained = train_restorer(
        [volume for _, volume in known],
        params,
        device,
        start=first,
        contrasts=contrasts,
        seed=seed,
        provenance={
            "eucentric": __version__,
            "tomograms": [s.name for s in sources],
            "halves": [str(f) for s in sources for f in (s.half1, s.half2)],
            "start": start,
        },
        state=kept.load(),
        on_checkpoint=kept.save,
        on_step=on_step,
    )
    if not trained.bettered:
        caveats.append(
            "Nothing was learned that holds where it was not learned from: the model is the one that the training started from."
        )
    write_judged_model(output, trained.model, trained.losses, trained.checks)
    kept.done()
    values = [value for _, value in trained.checks]
    return RestorerMade(
        model=output,
        tomograms=tuple(s.name for s in sources),
        steps=len(trained.losses),
        before=values[0],
        after=min(values),
        caveats=tuple(caveats),
    )


def _seen_farther(
    known: Sequence[tuple[TrainingSource, HalfVolumes]], voxel_range: tuple[float, float]
) -> list[tuple[TrainingSource, HalfVolumes]]:
    """The same tomograms at the coarse sampling at which the wedge is filled besides, where they are large enough."""
    out = []
    for source, volume in known:
        factor = coarse_factor(volume.voxel_size_angstrom, voxel_range)
        if factor is not None and min(coarse_shape(volume.shape, factor)) >= _LEAST_COARSE:
            out.append((source, _coarser(volume, factor)))
    return out


def _prepared(one: TrainingSource, mask: Path | None, pixel_size: float | None, caveats: list[str]) -> HalfVolumes:
    cpu = torch.device("cpu")
    halves = [read_volume(path, pixel_size, cpu) for path in (one.half1, one.half2)]
    geometry = one.geometry
    if geometry is None:
        finite = torch.nan_to_num(halves[0][0], nan=float(halves[0][0].nanmean()))
        try:
            low, high = find_wedge(finite)
        except ProcessingError:
            low, high = -60.0, 60.0
        caveats.append(
            f"The tilts of {one.name} are not known; {low:.0f} to {high:.0f} degrees were taken. Give --tilt-range."
        )
        geometry = TiltGeometry.build((low, high))
    allowed = None
    if mask is not None:
        allowed = torch.from_numpy(np.array(read_mrc(_mask_of(one, mask))[0]) > 0)
    return prepare_halves(
        halves[0][0],
        halves[1][0],
        name=one.name,
        voxel_size_angstrom=halves[0][1],
        geometry=geometry,
        mask=allowed,
    )


def _mask_of(one: TrainingSource, mask: Path) -> Path:
    file = mask / f"{one.name}.mrc" if mask.is_dir() else mask
    if not file.is_file():
        raise InputError(f"`{file}` does not exist: the mask of {one.name}.")
    return file


def _contrast(one: TrainingSource, voxel: float) -> Contrast | None:
    """Contrast transfer of a project's tomogram relative to one without zeros; None where it is undone or not known."""
    if one.series is None or one.root is None:
        return None
    found = tomogram_contrast(one.series, one.root)
    return None if found is None else found.relative(voxel)


def _coarser(volume: HalfVolumes, factor: float) -> HalfVolumes:
    """The same halves with coarser voxels, so that the network sees farther."""
    shape = coarse_shape(volume.shape, factor)
    one, two = (fourier_crop(half, shape) for half in volume.halves)
    valid = functional.interpolate(volume.valid[None, None].float(), size=shape)[0, 0] > 0.5
    return prepare_halves(
        one,
        two,
        name=volume.name,
        voxel_size_angstrom=volume.voxel_size_angstrom * volume.shape[2] / shape[2],
        geometry=volume.geometry,
        mask=valid,
    )
