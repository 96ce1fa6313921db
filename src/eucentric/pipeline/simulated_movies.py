"""Movies, gain reference and camera of simulated series as files."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import torch

from eucentric.compute import thread_count
from eucentric.io.eer_writer import write_eer
from eucentric.io.movies import write_tiff_movie
from eucentric.io.mrc import write_mrc
from eucentric.io.mtf import read_mtf
from eucentric.io.tiff import write_tiff
from eucentric.simulation import ModulationTransfer, SimulatedSeries
from eucentric.typing import PathLike

_EXPOSURE_SECONDS = 1.0


def read_camera_mtf(path: PathLike) -> ModulationTransfer:
    """The MTF of a camera from a table such as RELION reads.

    Raises
    ------
    InputError, FormatError : as `eucentric.io.mtf.read_mtf`
    """
    frequency, value = read_mtf(path)
    return ModulationTransfer(frequency=frequency, value=value)


def movie_names(series: SimulatedSeries, name: str) -> tuple[str, ...]:
    """File names by ascending nominal tilt: series, number in order of acquisition, angle."""
    acquisition = series.acquisition
    ending = ".eer" if series.params.movie_format == "eer" else ".tif"
    pairs = zip(acquisition.order, acquisition.nominal_tilts_deg, strict=True)
    return tuple(f"{name}_{order:03d}_{angle + 0.0:.1f}{ending}" for order, angle in pairs)


def write_gain(folder: Path, series: SimulatedSeries) -> Path:
    """Write the gain reference as the camera's software does: ``gain.mrc``, or ``gain.gain`` beside EER movies."""
    gain = series.detector.gain
    if series.params.movie_format == "eer":
        path = folder / "gain.gain"
        write_tiff(path, gain)
    else:
        path = folder / "gain.mrc"
        write_mrc(path, gain, series.params.pixel_size_angstrom, is_volume=False)
    return path


def write_movies(movies: Sequence[Path], series: SimulatedSeries, progress: Callable[[int, int], None] | None) -> None:
    """Write the movie of each tilt.

    One tilt a core: their FFTs are too small to share among threads, and each has its own random numbers.

    Raises
    ------
    BackendError : the disk is full
    InputError : a place that may not be written to
    """
    executor = ThreadPoolExecutor(thread_count(), initializer=torch.set_num_threads, initargs=(1,))
    try:
        jobs = [executor.submit(_write_movie, path, series, tilt) for tilt, path in enumerate(movies)]
        for done, job in enumerate(as_completed(jobs), 1):
            job.result()
            if progress is not None:
                progress(done, len(movies))
    finally:
        executor.shutdown(cancel_futures=True)


def _write_movie(path: Path, series: SimulatedSeries, tilt: int) -> None:
    params = series.params
    if params.movie_format == "eer":
        write_eer(
            path,
            series.electron_events(tilt),
            (params.image_size_px[1], params.image_size_px[0]),
            pixel_size_angstrom=params.pixel_size_angstrom,
            dose_per_pixel=float(series.acquisition.doses(params)[tilt]) * params.pixel_size_angstrom**2,
            exposure_s=_EXPOSURE_SECONDS,
            run_bits=params.eer_run_bits,
        )
    else:
        write_tiff_movie(path, series.movie(tilt), compression="lzw")
