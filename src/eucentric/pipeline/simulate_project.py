"""Simulated data sets on disk: movies, mdoc, gain reference and truth, as `eucentric import` takes them."""

import datetime as dt
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import gemmi
import numpy as np
import torch

from eucentric.compute import good_size, thread_count
from eucentric.errors import InputError
from eucentric.io.atomic import make_folder
from eucentric.io.atoms import read_atoms
from eucentric.io.mdoc import Mdoc, MdocSection, write_mdoc
from eucentric.io.movies import write_tiff_movie
from eucentric.io.mrc import write_mrc
from eucentric.io.truth import TiltTruth, write_truth
from eucentric.models.optics import Optics
from eucentric.simulation import (
    SimulatedSeries,
    SimulationParams,
    Species,
    procedural_macromolecule,
    species_from_atoms,
)
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


def read_species(path: PathLike) -> Species:
    """A species from a PDB or mmCIF file, its origin at the mean of the atoms. Atoms of unknown element are left out.

    Raises
    ------
    InputError, FormatError : as `eucentric.io.atoms.read_atoms`; no atom of a known element
    """
    atoms = read_atoms(path)
    known = (atoms.atomic_numbers > 0) & (atoms.occupancies > 0)
    if not known.any():
        raise InputError(f"`{path}` names the element of none of its atoms. Write its element columns first.")
    return species_from_atoms(
        atoms.positions[known],
        [gemmi.Element(int(number)).name for number in atoms.atomic_numbers[known]],
        name=Path(path).name.split(".")[0],
        occupancies=atoms.occupancies[known],
    )


def simulate(
    folder: PathLike,
    params: SimulationParams,
    series_count: int = 1,
    *,
    structures: Sequence[PathLike] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[SimulatedFiles, ...]:
    """Write a data set of several series, TS_01 and so on, that share a camera and its gain reference.

    Parameters
    ----------
    folder : made where missing
    params : the same for every series; all that is random differs from one to the next
    series_count : number of series
    structures : PDB or mmCIF files, one a species; None for the built-in macromolecules
    progress : called with the number of images written and their total

    Raises
    ------
    InputError : settings or files that cannot be used, or a folder that cannot be written to
    ProcessingError : no room for so many particles
    BackendError : the disk is full
    """
    if series_count < 1:
        raise InputError(f"{series_count} series were asked for; expected at least 1.")
    species = _species(params, structures)
    written = []
    for number in range(series_count):
        series = SimulatedSeries.build(params, species, series=number)
        tilts = len(series.acquisition.geometry)

        def step(done: int, _: int, before: int = number * tilts, total: int = series_count * tilts) -> None:
            if progress is not None:
                progress(before + done, total)

        written.append(_write_series(Path(folder), f"TS_{number + 1:02d}", series, step))
    return tuple(written)


def write_simulated_series(
    folder: PathLike,
    params: SimulationParams,
    name: str,
    structures: Sequence[PathLike] | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> SimulatedFiles:
    """Write one series: ``frames/*.tif``, ``<name>.mdoc``, ``gain.mrc``, ``references/*.mrc``, ``<name>_truth.json``.

    The truth comes last: where it is, the series is whole. Parameters and errors as `simulate`.
    """
    return _write_series(Path(folder), name, SimulatedSeries.build(params, _species(params, structures)), progress)


def series_truth(series: SimulatedSeries, name: str) -> TiltTruth:
    """The answers to a simulated series."""
    params, acquisition, specimen = series.params, series.acquisition, series.specimen
    columns, rows = params.image_size_px
    return TiltTruth(
        name=name,
        pixel_size_angstrom=params.pixel_size_angstrom,
        image_shape=(rows, columns),
        optics=Optics(
            voltage_kv=params.voltage_kv,
            spherical_aberration_mm=params.spherical_aberration_mm,
            amplitude_contrast=params.amplitude_contrast,
        ),
        nominal_tilts_deg=acquisition.nominal_tilts_deg,
        true_tilts_deg=acquisition.geometry.y_tilt_deg,
        tilt_axis_deg=params.tilt_axis_deg,
        nominal_axis_deg=params.tilt_axis_deg + params.tilt_axis_error_deg,
        matrices=acquisition.geometry.matrices,
        shifts_angstrom=acquisition.geometry.shifts_angstrom,
        acquisition=acquisition.order,
        movie_names=_movie_names(series, name),
        dose=params.dose_per_tilt,
        defocus_u_angstrom=acquisition.defocus_u_angstrom,
        defocus_v_angstrom=acquisition.defocus_v_angstrom,
        astigmatism_angle_deg=params.astigmatism_angle_deg,
        hand=float(params.hand),
        motion_angstrom=acquisition.motion_angstrom,
        thickness_angstrom=params.thickness_angstrom,
        deformation_angstrom=params.deformation_angstrom,
        deformation_coefficients=acquisition.deformation,
        bad_tilts=params.blocked_tilts,
        positions=specimen.positions_angstrom,
        rotations=specimen.rotations,
        kinds=specimen.kinds,
        beads=specimen.beads,
        vesicle_centres=specimen.vesicles[:, :3],
        vesicle_radii_angstrom=specimen.vesicles[:, 3],
        settings={
            "x_tilt": params.x_tilt_deg,
            "offset": params.tilt_offset_deg,
            "scheme": params.scheme,
            "seed": params.seed,
            "bead_d": params.bead_diameter_angstrom,
            "species": [s.name for s in specimen.species],
            "species_kda": [s.mass_kda for s in specimen.species],
            "species_radius": [s.radius_angstrom for s in specimen.species],
        },
    )


def _species(params: SimulationParams, structures: Sequence[PathLike] | None) -> list[Species]:
    if structures is None:
        return [procedural_macromolecule(mass) for mass in params.macromolecules_kda]
    return [read_species(path) for path in structures]


def _movie_names(series: SimulatedSeries, name: str) -> tuple[str, ...]:
    acquisition = series.acquisition
    pairs = zip(acquisition.order, acquisition.nominal_tilts_deg, strict=True)
    return tuple(f"{name}_{order:03d}_{angle + 0.0:.1f}.tif" for order, angle in pairs)


def _write_series(
    folder: Path, name: str, series: SimulatedSeries, progress: Callable[[int, int], None] | None
) -> SimulatedFiles:
    pixel = series.params.pixel_size_angstrom
    make_folder(folder / "frames")
    truth = series_truth(series, name)
    references = tuple(_write_reference(folder / "references", species, pixel) for species in series.specimen.species)
    gain = folder / "gain.mrc"
    write_mrc(gain, series.detector.gain, pixel, is_volume=False)
    movies = tuple(folder / "frames" / movie for movie in truth.movie_names)
    _write_movies(movies, series, progress)
    mdoc = folder / f"{name}.mdoc"
    write_mdoc(mdoc, _mdoc(series, truth))
    answers = folder / f"{name}_truth.json"
    write_truth(answers, truth)
    return SimulatedFiles(name=name, movies=movies, mdoc=mdoc, gain=gain, truth=answers, references=references)


def _write_movies(movies: Sequence[Path], series: SimulatedSeries, progress: Callable[[int, int], None] | None) -> None:
    """One tilt a core: their FFTs are too small to share among threads, and each has its own random numbers."""

    def write(tilt: int) -> None:
        write_tiff_movie(movies[tilt], series.movie(tilt), compression="lzw")

    executor = ThreadPoolExecutor(thread_count(), initializer=torch.set_num_threads, initargs=(1,))
    try:
        jobs = [executor.submit(write, tilt) for tilt in range(len(movies))]
        for done, job in enumerate(as_completed(jobs), 1):
            job.result()
            if progress is not None:
                progress(done, len(movies))
    finally:
        executor.shutdown(cancel_futures=True)


def _write_reference(folder: Path, species: Species, pixel_size: float) -> Path:
    """The species' map in a cube with room around it."""
    size = good_size(int(np.ceil(2.5 * species.radius_angstrom / pixel_size)) + 4)
    path = folder / f"{species.name}.mrc"
    volume = species.volume((size, size, size), pixel_size, b_factor=100.0)
    write_mrc(path, volume.numpy(), pixel_size, labels=("Potential above the ice in V: protein bright",))
    return path


def _mdoc(series: SimulatedSeries, truth: TiltTruth) -> Mdoc:
    """What SerialEM would have noted, in the order of acquisition; the angles and the axis are the nominal ones."""
    params = series.params
    sections = []
    for order, tilt in enumerate(np.argsort(truth.acquisition)):
        sections.append(
            MdocSection(
                label=str(order),
                tilt_angle_deg=round(float(truth.nominal_tilts_deg[tilt]) + 0.01, 4),
                exposure_dose=params.dose_per_tilt,
                prior_record_dose=order * params.dose_per_tilt,
                pixel_spacing_angstrom=params.pixel_size_angstrom,
                rotation_angle_deg=truth.nominal_axis_deg + 90.0,
                defocus_um=-params.defocus_angstrom * 1e-4,
                target_defocus_um=-params.defocus_angstrom * 1e-4,
                sub_frame_path=f"D:\\frames\\{truth.movie_names[tilt]}",
                frame_count=params.frames,
                frame_doses=((params.dose_per_tilt / params.frames, params.frames),),
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
