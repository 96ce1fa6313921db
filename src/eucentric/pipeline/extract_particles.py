"""`eucentric extract`: particles in files, as 2D stacks and pseudo-subtomograms of RELION-5 or as plain 3D boxes."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from eucentric.averaging.fourier_sums import FourierSums
from eucentric.averaging.params import ExtractParams
from eucentric.averaging.particle_images import ParticleImages, SeriesImages
from eucentric.averaging.solve_average import solve_average
from eucentric.errors import InputError
from eucentric.io.atomic import make_folder
from eucentric.io.mrc import MrcType, write_mrc
from eucentric.io.relion_particles import write_relion_particles
from eucentric.io.star import read_star, write_star
from eucentric.models.particles import ParticleSet
from eucentric.models.tilt_series import TiltSeries
from eucentric.pipeline.extract_series import ParticleJob, list_of, open_particles
from eucentric.pipeline.particle_run import ParticleRun
from eucentric.projection.cpu import run_items

Form = Literal["stacks", "pseudo-subtomograms", "boxes"]
Stack = tuple[int, np.ndarray, dict[str, Any]]  # row of the particle, its tilts, arrays by the ending of their files
_AT_ONCE = 32  # particles
_IMAGE, _CTF_IMAGE, _VISIBLE = "rlnImageName", "rlnCtfImage", "rlnTomoVisibleFrames"


@dataclass(frozen=True, slots=True, kw_only=True)
class ParticlesExtracted:
    """What was written."""

    table: Path
    particles: int
    images: int
    pixel_size_angstrom: float
    was_current: bool = False
    """Whether the folder held them already."""
    caveats: tuple[str, ...] = ()
    """What the user should know of them."""


def extract_particles(
    target: Path,
    output: Path,
    params: ExtractParams,
    *,
    device: torch.device,
    form: Form = "stacks",
    premultiplied: bool = True,
    float16: bool = True,
    table: Path | None = None,
    overwrite: bool = False,
    on_step: Callable[[int, int], None] | None = None,
) -> ParticlesExtracted:
    """Write particles to `output`: files below `Subtomograms/<series>`, `particles.star` and `optimisation_set.star`.

    What the folder holds already of the same particles, series and settings is not made again.

    Parameters
    ----------
    form : `stacks`, an image for each tilt that shows the particle; `pseudo-subtomograms`, their sum in three dimensions with
        squared transfer and multiplicity; `boxes`, a map of each alone
    premultiplied : stacks are multiplied with CTF and damage (RELION-5's usual form); both signs make protein bright
    float16 : numbers of half the size

    Raises
    ------
    InputError : as :func:`eucentric.pipeline.extract_series.open_particles`; files in the way
    """
    listing, optimisation = output / "particles.star", output / "optimisation_set.star"
    job = open_particles(target, params, table=table, device=device)
    settings = {"form": form, "premultiplied": premultiplied, "float16": float16}
    run = ParticleRun.begin(
        output,
        "extract",
        job,
        {"extract": params.model_dump(mode="json"), **settings},
        inputs=[list_of(target)],
        outputs=[listing, optimisation],
        overwrite=overwrite,
    )
    if run.is_current:
        return _as_before(run, listing, job.caveats())
    number = _numbers(job.particles)
    names: list[str] = [""] * len(job)
    weights: list[str] = [""] * len(job)
    visible: list[str] = [""] * len(job)
    images, done = 0, 0
    kind: MrcType = "float16" if float16 else "float32"
    with ThreadPoolExecutor(1) as writer:
        for source, rows in job.sources():
            folder = output / "Subtomograms" / source.series.name
            make_folder(folder)
            made = _stacks(source, job, rows, premultiplied) if form == "stacks" else _volumes(source, job, rows, form)
            pending = []
            for row, tilts, arrays in made:
                stem = folder / f"{number[row]}"
                for ending, array in arrays.items():
                    path = Path(f"{stem}_{ending}")
                    flat = ending.endswith(".mrcs")
                    pending.append(
                        writer.submit(
                            write_mrc,
                            path,
                            array,
                            source.pixel_size_angstrom,
                            kind if flat else "float32",
                            is_volume=not flat,
                        )
                    )
                first, *more = arrays
                names[row] = (folder.relative_to(output) / f"{number[row]}_{first}").as_posix()
                if more:
                    weights[row] = (folder.relative_to(output) / f"{number[row]}_{more[0]}").as_posix()
                visible[row] = _flags(tilts, source.series, job.series[source.series.name])
                images += len(tilts)
                done += 1
                if on_step is not None:
                    on_step(done, len(job))
            for wait in pending:
                wait.result()
    pixel = job.pixel_size_angstrom
    texts = {_IMAGE: names, _VISIBLE: visible} | ({_CTF_IMAGE: weights} if any(weights) else {})
    _write_table(listing, job, texts, form, premultiplied and params.ctf)
    write_star(optimisation, {"": {"rlnTomoParticlesFile": [str(listing)], "rlnTomoTomogramsFile": [str(job.table)]}})
    metrics: dict[str, float | None] = {"particles": len(job), "images": images, "pixel_size_angstrom": pixel}
    run.finish([listing, optimisation], metrics, job.caveats())
    return ParticlesExtracted(
        table=listing, particles=len(job), images=images, pixel_size_angstrom=pixel, caveats=job.caveats()
    )


def _as_before(run: ParticleRun, listing: Path, caveats: tuple[str, ...]) -> ParticlesExtracted:
    """What the record of the folder tells."""
    found = run.metrics()
    return ParticlesExtracted(
        table=listing,
        particles=int(found["particles"]),
        images=int(found["images"]),
        pixel_size_angstrom=found["pixel_size_angstrom"],
        was_current=True,
        caveats=caveats,
    )


def _stacks(source: SeriesImages, job: ParticleJob, rows: np.ndarray, premultiplied: bool) -> Iterator[Stack]:
    seen = source.project(job.particles.positions_angstrom[rows])

    def cut(i: int) -> Stack:
        tilts = np.flatnonzero(seen.visible[:, i])
        heights = seen.heights_angstrom[tilts, i] if premultiplied else None
        boxes = source.plain(seen.pixels[tilts, i], tilts, heights)
        return int(rows[i]), tilts, {"stack2d.mrcs": (boxes if premultiplied else -boxes).cpu().numpy()}

    if source.images.device.type != "cpu":
        yield from map(cut, range(len(rows)))
        return
    for start in range(0, len(rows), _AT_ONCE):
        yield from _by_threads(cut, range(start, min(start + _AT_ONCE, len(rows))))


def _by_threads(work: Callable[[int], Stack], items: range) -> list[Stack]:
    made: dict[int, Stack] = {}

    def keep(k: int) -> None:
        made[k] = work(items[k])

    run_items(len(items), keep)
    return [made[k] for k in range(len(items))]


def _volumes(source: SeriesImages, job: ParticleJob, rows: np.ndarray, form: Form) -> Iterator[Stack]:
    upright = np.eye(3)[None]
    for row in rows:
        batch = source.particles(job.particles.positions_angstrom[row : row + 1])
        data, weight = _sum(batch, upright)
        if form == "boxes":
            # a particle alone: signal as strong as noise in the mean of every shell
            equal = torch.full((batch.box_size // 2,), 0.5, device=weight.device)
            arrays: dict[str, Any] = {"box.mrc": solve_average(data, weight, correlation=equal).cpu().numpy()}
        else:
            n = batch.box_size
            volume: Tensor = torch.fft.fftshift(torch.fft.irfftn(data, s=(n, n, n)))
            ones = ParticleImages(
                data=batch.data,
                weight=torch.ones_like(batch.weight),
                particle=batch.particle,
                tilt=batch.tilt,
                matrices=batch.matrices,
                count=1,
                voxel_size_angstrom=batch.voxel_size_angstrom,
            )
            multiplicity = _sum(ones, upright)[1]
            both = torch.cat([weight, multiplicity], dim=0)
            arrays = {"data.mrc": volume.cpu().numpy(), "weights.mrc": both.cpu().numpy()}
        yield int(row), batch.tilt, arrays


def _sum(batch: ParticleImages, upright: np.ndarray) -> tuple[Tensor, Tensor]:
    sums = FourierSums.empty(batch.box_size, batch.voxel_size_angstrom, batch.data.device)
    sums.add(batch, upright)
    return sums.finished()


def _flags(tilts: np.ndarray, kept: TiltSeries, whole: TiltSeries) -> str:
    """A 1 for each tilt of the series' table that the stack holds, else 0."""
    shown = {kept.tilts[t].acquisition for t in tilts}
    return "[" + ",".join("1" if t.acquisition in shown else "0" for t in whole.tilts) + "]"


def _numbers(particles: ParticleSet) -> np.ndarray:
    """Of each particle, its number in its tomogram, from 1."""
    out = np.zeros(len(particles), dtype=np.int64)
    for name in particles.tomogram_names:
        rows = np.flatnonzero(particles.tomograms == name)
        out[rows] = np.arange(1, len(rows) + 1)
    return out


def _write_table(path: Path, job: ParticleJob, texts: dict[str, list[str]], form: Form, premultiplied: bool) -> None:
    """RELION-5's table: optics groups say what the images are."""
    pixels = {name: s.pixel_size_angstrom for name, s in job.series.items()}
    plain = job.particles
    for label in (_IMAGE, _CTF_IMAGE, _VISIBLE):
        if label in plain.texts:
            plain = ParticleSet.build(
                plain.tomograms,
                plain.positions_angstrom,
                rotations=plain.rotations,
                scores=plain.scores,
                kinds=plain.kinds,
                columns=plain.columns,
                texts={name: values for name, values in plain.texts.items() if name != label},
            )
    write_relion_particles(path, plain, pixel_sizes_angstrom=pixels)
    tables = read_star(path)
    folder = path.parent
    listed = tables["particles"]
    for label, values in texts.items():
        listed[label] = values if label == _VISIBLE else [str(folder / value) for value in values]
    optics = tables["optics"]
    shown = next(iter(job.series.values())).optics
    if shown is not None:
        optics["rlnVoltage"] = shown.voltage_kv
        optics["rlnSphericalAberration"] = shown.spherical_aberration_mm
        optics["rlnAmplitudeContrast"] = shown.amplitude_contrast
    optics["rlnImagePixelSize"] = job.pixel_size_angstrom
    optics["rlnImageSize"] = job.params.box_size
    optics["rlnImageDimensionality"] = 2 if form == "stacks" else 3
    optics["rlnTomoSubtomogramBinning"] = job.pixel_size_angstrom / np.array(
        [float(v) for v in optics["rlnTomoTiltSeriesPixelSize"]]
    )
    optics["rlnCtfDataAreCtfPremultiplied"] = int(premultiplied and form != "boxes")
    general = {"rlnTomoSubTomosAre2DStacks": [int(form == "stacks")]}
    blocks = {
        name: {str(label): frame[label].tolist() for label in frame}
        for name, frame in (("optics", optics), ("particles", listed))
    }
    write_star(path, {"general": general, **blocks})


def check_form(form: str) -> Form:
    """The form itself; InputError where there is none of that name."""
    known: tuple[Form, ...] = ("stacks", "pseudo-subtomograms", "boxes")
    for name in known:
        if name == form:
            return name
    raise InputError(f"There is no form `{form}`; expected {', '.join(known)}.")
