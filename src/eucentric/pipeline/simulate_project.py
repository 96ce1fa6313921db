"""Simulated data sets on disk: movies, mdoc, gain reference and truth, as `eucentric import` takes them."""

import datetime as dt
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eucentric.compute import good_size
from eucentric.errors import BackendError, InputError
from eucentric.io.atomic import make_folder
from eucentric.io.mdoc import Mdoc, MdocSection, write_mdoc
from eucentric.io.mrc import write_mrc
from eucentric.io.truth import TiltTruth, write_truth
from eucentric.pipeline.simulated_movies import movie_names, write_gain, write_movies
from eucentric.pipeline.truth_tables import series_truth, write_true_arrays, write_true_particles, write_true_set
from eucentric.pipeline.truth_volumes import write_clean_images, write_truth_volumes
from eucentric.simulation import ModulationTransfer, Scene, SimulatedSeries, SimulationParams, Species
from eucentric.typing import PathLike

_START = dt.datetime(2024, 5, 6, 9, 0, 0)  # fixed: the same settings write the same bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedFiles:
    """Where one simulated series was written."""

    name: str
    movies: tuple[Path, ...]
    """By ascending nominal tilt."""
    mdoc: Path
    gain: Path
    truth: Path
    references: tuple[Path, ...]
    """A map of each species, protein bright, in the frame that the truth's rotations start from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TruthOptions:
    """What is written of the truth beside `<name>_truth.json`, tables and arrays."""

    volumes: bool = False
    """Potential, labels and membrane distances of the specimen."""
    images: bool = False
    """Images without noise and motion."""
    voxel_size_angstrom: float = 10.0
    """Of the volumes."""
    twice: bool = False
    """Volumes and images also with voxels and pixels half as large."""

    def __post_init__(self) -> None:
        if not self.voxel_size_angstrom > 0:
            raise InputError(f"The voxels of the truth are {self.voxel_size_angstrom:g} A; expected a positive number.")


_LIGHT = TruthOptions()


def simulate(
    folder: PathLike,
    params: SimulationParams,
    series_count: int = 1,
    *,
    species: Sequence[Species] | None = None,
    scene: Scene | None = None,
    mtf: ModulationTransfer | None = None,
    truth: TruthOptions = _LIGHT,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[SimulatedFiles, ...]:
    """Write a data set of several series, TS_01 and so on, that share a camera and its gain reference.

    Parameters
    ----------
    folder : made where missing
    params : the same for every series; all that is random differs from one to the next
    series_count : number of series
    species : kinds of particles, such as `read_species` gives; None for the built-in macromolecules
    scene : what lies in the film; None for what `params` says
    mtf : of the camera, as `read_camera_mtf` gives it; None for a curve to `params.mtf_at_nyquist`
    truth : what is written of it
    progress : called with the number of images written and their total

    Raises
    ------
    InputError : settings or files that cannot be used, or a folder that cannot be written to
    ProcessingError : no room for so many particles
    BackendError : the disk is full; the words say how many movies are whole
    """
    if series_count < 1:
        raise InputError(f"{series_count} series were asked for; expected at least 1.")
    written: list[SimulatedFiles] = []
    truths: list[TiltTruth] = []
    whole, total = 0, 0

    def step(done: int, of: int) -> None:
        nonlocal whole, total
        whole, total = len(written) * of + done, series_count * of
        if progress is not None:
            progress(whole, total)

    try:
        for number in range(series_count):
            series = SimulatedSeries.build(params, species, series=number, scene=scene, mtf=mtf)
            written.append(_write_series(Path(folder), f"TS_{number + 1:02d}", series, truth, truths, step))
    except BackendError as error:
        raise BackendError(
            f"{str(error).split('Free some space')[0].strip()} {_left(folder, whole, len(written))} "
            "Free some space or name another folder, then run again with --overwrite."
        ) from error
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(
            f"Stopped. {_left(folder, whole, len(written))} The same command with --overwrite starts anew."
        ) from stop
    return tuple(written)


def write_simulated_series(
    folder: PathLike,
    params: SimulationParams,
    name: str,
    species: Sequence[Species] | None = None,
    *,
    scene: Scene | None = None,
    truth: TruthOptions = _LIGHT,
    progress: Callable[[int, int], None] | None = None,
) -> SimulatedFiles:
    """Write one series: ``frames/*.tif``, ``<name>.mdoc``, ``gain.mrc``, ``references/*.mrc``, and its truth.

    Of the truth, ``<name>_truth.json`` comes last: where it is, the series is whole. Beside it are
    ``<name>_truth.npz``, ``<name>_particles.star``, ``truth/tilt_series.star`` and what `truth` asks for. Parameters and
    errors as `simulate`.
    """
    series = SimulatedSeries.build(params, species, scene=scene)
    return _write_series(Path(folder), name, series, truth, [], progress)


def _left(folder: PathLike, movies: int, series: int) -> str:
    return f"The {movies} movies in `{Path(folder) / 'frames'}` are whole, and {series} series have all their truth."


def _write_series(
    folder: Path,
    name: str,
    series: SimulatedSeries,
    options: TruthOptions,
    truths: list[TiltTruth],
    progress: Callable[[int, int], None] | None,
) -> SimulatedFiles:
    """Write a series and add its truth to those of the series before."""
    pixel = series.params.pixel_size_angstrom
    answers = folder / f"{name}_truth.json"
    answers.unlink(missing_ok=True)  # one of an earlier simulation would say that this one is whole
    make_folder(folder / "frames")
    truths.append(series_truth(series, name, movie_names(series, name)))
    truth = truths[-1]
    references = tuple(_write_reference(folder / "references", species, pixel) for species in series.specimen.species)
    gain = write_gain(folder, series)
    movies = tuple(folder / "frames" / movie for movie in truth.movie_names)
    write_movies(movies, series, progress)
    mdoc = folder / f"{name}.mdoc"
    write_mdoc(mdoc, _mdoc(series, truth))
    _write_truth(folder, series, options, truths)
    write_truth(answers, truth)
    return SimulatedFiles(name=name, movies=movies, mdoc=mdoc, gain=gain, truth=answers, references=references)


def _write_truth(folder: Path, series: SimulatedSeries, options: TruthOptions, truths: Sequence[TiltTruth]) -> None:
    truth = truths[-1]
    write_true_particles(folder / f"{truth.name}_particles.star", truth, series.specimen)
    write_true_arrays(folder / f"{truth.name}_truth.npz", series, truth)
    write_true_set(folder, truths)
    for sampling in (1, 2) if options.twice else (1,):
        ending = "" if sampling == 1 else f"_{sampling}x"
        if options.volumes:
            write_truth_volumes(folder / f"volumes{ending}", truth.name, series, options.voxel_size_angstrom / sampling)
        if options.images:
            write_clean_images(folder / f"clean{ending}" / f"{truth.name}.mrc", series, sampling)


def _write_reference(folder: Path, species: Species, pixel_size: float) -> Path:
    """The species' map in a cube with room around it."""
    size = good_size(int(np.ceil(2.5 * species.radius_angstrom / pixel_size)) + 4)
    path = folder / (re.sub(r"[^\w.+-]", "_", species.name) + ".mrc")
    volume = species.volume((size, size, size), pixel_size, b_factor=100.0)
    write_mrc(path, volume.numpy(), pixel_size, labels=("Potential above the ice in V: protein bright",))
    return path


def _mdoc(series: SimulatedSeries, truth: TiltTruth) -> Mdoc:
    """What SerialEM would have noted, in the order of acquisition; the angles and the axis are the nominal ones."""
    params = series.params
    frames = params.frames * (params.readouts_per_frame if params.movie_format == "eer" else 1)
    sections = []
    for order, tilt in enumerate(np.argsort(truth.acquisition)):
        dose = float(truth.doses[tilt])
        sections.append(
            MdocSection(
                label=str(order),
                tilt_angle_deg=round(float(truth.nominal_tilts_deg[tilt]) + 0.01, 4),
                exposure_dose=dose,
                prior_record_dose=float(truth.doses_before[tilt]),
                pixel_spacing_angstrom=params.pixel_size_angstrom,
                rotation_angle_deg=truth.nominal_axis_deg + 90.0,
                defocus_um=-params.defocus_angstrom * 1e-4,
                target_defocus_um=-params.defocus_angstrom * 1e-4,
                sub_frame_path=f"D:\\frames\\{truth.movie_names[tilt]}",
                frame_count=frames,
                frame_doses=((dose / frames, frames),),
                exposure_time_s=1.0,
                date_time=_START + dt.timedelta(seconds=50 * order),
            )
        )
    columns, rows = params.image_size_px
    return Mdoc(
        sections=tuple(sections),
        titles=(
            "SerialEM: Digitized on a simulated microscope",
            f"    Tilt axis angle = {truth.nominal_axis_deg:.1f}, binning = 1  spot = 8  camera = 0",
        ),
        voltage_kv=params.voltage_kv,
        pixel_spacing_angstrom=params.pixel_size_angstrom,
        image_file=f"{truth.name}.mrc",
        image_size=(columns, rows),
        extra={"DataMode": "1"},
    )
