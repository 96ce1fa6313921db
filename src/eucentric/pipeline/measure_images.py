"""Contrast transfer of single images in files: micrographs, movies, stacks and particle images."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from eucentric.ctf import estimate_image_ctf
from eucentric.ctf.params import CtfParams
from eucentric.ctf.results import CtfCurves
from eucentric.ctf.spectrum_pictures import picture_spectra
from eucentric.errors import EucentricError, InputError, ProcessingError
from eucentric.figures.ctf import equiphase_average, half_spectra
from eucentric.io import labels
from eucentric.io.atomic import make_folder, write_bytes_atomic
from eucentric.io.dm import read_dm
from eucentric.io.external_alignments import movie_stem
from eucentric.io.movies import DM_ENDINGS, MOVIE_ENDINGS, MRC_ENDINGS, has_ending, open_movie, read_gain
from eucentric.io.mrc import read_mrc, read_mrc_header
from eucentric.io.star import write_star
from eucentric.models.optics import Optics
from eucentric.models.tilt_series import CtfFit
from eucentric.typing import PathLike

Sections = Literal["auto", "sum", "each", "particles"]
"""What the images of a file with several are: frames to be summed, images each on its own, or images of one defocus."""
_PARTICLES_AT_MOST_PX = 1000
_STACK_ENDINGS = (".st", ".ali", ".st.gz", ".ali.gz")
_BLOCK = 4  # frames read at a time


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImagePictures:
    """What the figures show."""

    curves: CtfCurves
    measured: NDArray[np.float32]
    fitted: NDArray[np.float32]
    """(y, half_x), as `eucentric.ctf.spectrum_pictures`."""
    edge_frequency: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MeasuredImage:
    """One row of the table."""

    name: str
    """Path as given, with `3@` before it for an image of a stack (counted from 1)."""
    verdict: Literal["good", "doubtful", "no rings", "unreadable"]
    message: str
    """The verdict in words, with what to do."""
    pixel_size_angstrom: float = float("nan")
    images: int = 1
    """Frames that were summed, or particles."""
    fit: CtfFit | None = None
    evidence: float = float("nan")
    """Standard deviations by which the rings stand out of noise."""
    thickness_angstrom: float = float("nan")
    """Of the specimen, where the nodes of the rings tell."""
    faults: tuple[str, ...] = ()
    """Of `icy`, `too thick` and `weak rings`."""
    caveats: tuple[str, ...] = ()
    seconds: float = float("nan")
    """Of computing, without reading."""
    pictures: ImagePictures | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Loaded:
    """Pixels to be measured together."""

    name: str
    pixels: Tensor
    """(y, x), or (particle, y, x)."""
    pixel_size_angstrom: float
    images: int = 1
    voltage_kv: float | None = None
    caveats: tuple[str, ...] = ()


def measure_images(
    paths: Sequence[PathLike],
    *,
    pixel_size_angstrom: float | None = None,
    voltage_kv: float | None = None,
    spherical_aberration_mm: float | None = None,
    amplitude_contrast: float | None = None,
    sections: Sections = "auto",
    gain: PathLike | None = None,
    params: CtfParams | None = None,
    nominal_defocus_angstrom: float | None = None,
    pictures: bool = False,
    device: torch.device | str = "cpu",
    report: Callable[[MeasuredImage], None] | None = None,
) -> list[MeasuredImage]:
    """Estimate the contrast transfer of images in files; an image that fails is a row, not an error.

    Parameters
    ----------
    paths : MRC, TIFF, EER or DigitalMicrograph files
    pixel_size_angstrom : goes before what files say
    voltage_kv, spherical_aberration_mm, amplitude_contrast : 300 kV (or what a DigitalMicrograph file says), 2.7 mm and 0.07
        where not given
    sections : by itself: `.mrcs` of small square images are particles, `.st` and `.ali` images each on its own, frames of all others
        are summed, without correction of motion
    gain : gain reference that frames are multiplied by
    pictures : keep what `draw_image` needs
    report : called with each row when it is there

    Raises
    ------
    InputError : no path, a gain reference that cannot be read, or optics that make no sense
    """
    if not paths:
        raise InputError("No image was given; expected MRC, TIFF, EER, .dm3 or .dm4 files.")
    params = params or CtfParams()
    reference = None if gain is None else read_gain(gain)
    rows: list[MeasuredImage] = []
    for path in paths:
        try:
            loaded = _load(Path(path), sections, pixel_size_angstrom, reference)
        except EucentricError as error:
            loaded = []
            rows.append(MeasuredImage(name=str(path), verdict="unreadable", message=str(error)))
            if report is not None:
                report(rows[-1])
        for one in loaded:
            optics, caveats = _optics(one, voltage_kv, spherical_aberration_mm, amplitude_contrast)
            rows.append(
                _measure(one, optics, caveats, params, nominal_defocus_angstrom, torch.device(device), pictures)
            )
            if report is not None:
                report(rows[-1])
    return rows


def _optics(
    one: _Loaded, voltage_kv: float | None, aberration_mm: float | None, contrast: float | None
) -> tuple[Optics, tuple[str, ...]]:
    standard = Optics()
    voltage = voltage_kv if voltage_kv is not None else one.voltage_kv
    caveats = one.caveats
    if voltage is None:
        caveats += (
            f"No voltage was given; {standard.voltage_kv:g} kV was assumed. A wrong one makes the defocus wrong: give "
            "--voltage.",
        )
    return (
        Optics(
            voltage_kv=standard.voltage_kv if voltage is None else voltage,
            spherical_aberration_mm=standard.spherical_aberration_mm if aberration_mm is None else aberration_mm,
            amplitude_contrast=standard.amplitude_contrast if contrast is None else contrast,
        ),
        caveats,
    )


def _load(path: Path, sections: Sections, pixel_size: float | None, gain: NDArray[np.float32] | None) -> list[_Loaded]:
    """What a file holds, as images to be measured.

    Raises
    ------
    InputError : not there, of an unknown kind, without pixel size, or scanning transmission
    """
    if not path.is_file():
        raise InputError(f"`{path}` does not exist, or is not a file. Check the name and the folder.")
    if has_ending(path, DM_ENDINGS):
        data, header = read_dm(path)
        if header.scanning:
            raise InputError(f"`{path}` is an image of scanning transmission, which has no contrast transfer to fit.")
        size = _pixel_size(path, pixel_size, header.pixel_size_angstrom)
        return _split(path, data, sections, size, gain, header.voltage_kv)
    if has_ending(path, MRC_ENDINGS):
        mrc = read_mrc_header(path)
        size = _pixel_size(path, pixel_size, mrc.pixel_size_angstrom)
        if _meaning(path, mrc.shape, sections) != "sum":
            return _split(path, read_mrc(path)[0], sections, size, gain, None)
    if not has_ending(path, (*MOVIE_ENDINGS, *MRC_ENDINGS)):
        raise InputError(f"`{path}` is of a kind that is not read here; expected MRC, TIFF, EER, .dm3 or .dm4.")
    with open_movie(path) as movie:
        size = _pixel_size(path, pixel_size, movie.header.pixel_size_angstrom)
        count = movie.header.frame_count
        if _meaning(path, (count, *movie.header.shape), sections) != "sum":
            return _split(path, movie.read(0, count), sections, size, gain, None)
        total = np.zeros(movie.header.shape, dtype=np.float32)
        for _, frames in movie.blocks(_BLOCK):
            total += frames.sum(axis=0, dtype=np.float32)
    return [_summed(path, total, count, size, gain, None)]


def _pixel_size(path: Path, given: float | None, found: float | None) -> float:
    if given is not None and not (math.isfinite(given) and given > 0):
        raise InputError(f"The pixel size is {given:g} A; expected a positive number.")
    size = given if given is not None else found
    if size is None or not (math.isfinite(size) and size > 0):
        raise InputError(f"The pixel size of `{path}` is not known. Give it with --pixel-size.")
    return float(size)


def _meaning(path: Path, shape: tuple[int, int, int], sections: Sections) -> Sections:
    if sections != "auto":
        return sections
    count, rows, columns = shape
    if has_ending(path, _STACK_ENDINGS):
        return "each"
    if has_ending(path, (".mrcs",)) and count > 1 and rows == columns <= _PARTICLES_AT_MOST_PX:
        return "particles"
    return "sum"


def _split(
    path: Path,
    data: NDArray[np.generic],
    sections: Sections,
    size: float,
    gain: NDArray[np.float32] | None,
    voltage_kv: float | None,
) -> list[_Loaded]:
    meaning = _meaning(path, (data.shape[0], data.shape[1], data.shape[2]), sections)
    if meaning == "sum":
        total = data.sum(axis=0, dtype=np.float32)
        return [_summed(path, total, len(data), size, gain, voltage_kv)]
    pixels = torch.from_numpy(np.array(data, dtype=np.float32))
    if meaning == "particles":
        name = str(path)
        return [_Loaded(name=name, pixels=pixels, pixel_size_angstrom=size, images=len(data), voltage_kv=voltage_kv)]
    return [
        _Loaded(
            name=f"{i + 1}@{path}" if len(data) > 1 else str(path),
            pixels=image,
            pixel_size_angstrom=size,
            voltage_kv=voltage_kv,
        )
        for i, image in enumerate(pixels)
    ]


def _summed(
    path: Path,
    total: NDArray[np.float32],
    count: int,
    size: float,
    gain: NDArray[np.float32] | None,
    voltage_kv: float | None,
) -> _Loaded:
    if gain is not None:
        if gain.shape != total.shape:
            raise InputError(
                f"The gain reference is {gain.shape[1]} x {gain.shape[0]} pixels and `{path}` {total.shape[1]} x "
                f"{total.shape[0]}; expected the same."
            )
        total = total * gain
    caveats = (f"{count} frames were summed without correction of motion.",) if count > 1 else ()
    return _Loaded(
        name=str(path),
        pixels=torch.from_numpy(total),
        pixel_size_angstrom=size,
        images=count,
        voltage_kv=voltage_kv,
        caveats=caveats,
    )


def _measure(
    one: _Loaded,
    optics: Optics,
    caveats: tuple[str, ...],
    params: CtfParams,
    nominal: float | None,
    device: torch.device,
    pictures: bool,
) -> MeasuredImage:
    pixels = one.pixels.to(device)
    size = one.pixel_size_angstrom
    start = time.perf_counter()
    try:
        got = estimate_image_ctf(
            pixels, pixel_size=size, optics=optics, params=params, nominal_defocus_angstrom=nominal
        )
    except EucentricError as error:
        return MeasuredImage(
            name=one.name,
            verdict="no rings" if isinstance(error, ProcessingError) else "unreadable",
            message=str(error),
            pixel_size_angstrom=size,
            images=one.images,
            caveats=caveats,
            seconds=time.perf_counter() - start,
        )
    seconds = time.perf_counter() - start
    resolution = got.fit.max_resolution_angstrom
    verdict: Literal["good", "doubtful"] = "doubtful" if got.caveats or not math.isfinite(resolution) else "good"
    shown = None
    if pictures:
        edge = max(params.high_resolution_angstrom, 0.7 * resolution) if math.isfinite(resolution) else 6.0
        drawn = picture_spectra(
            pixels[None] if pixels.ndim == 2 else [pixels],
            [got.fit],
            pixel_size=size,
            optics=optics,
            edge_angstrom=edge,
        )
        shown = ImagePictures(
            curves=got.curves,
            measured=drawn.measured[0],
            fitted=drawn.fitted[0],
            edge_frequency=drawn.edge_frequency,
        )
    return MeasuredImage(
        name=one.name,
        verdict=verdict,
        message=" ".join((f"Rings up to {resolution:.1f} A.", *got.caveats)),
        pixel_size_angstrom=size,
        images=one.images,
        fit=got.fit,
        evidence=got.evidence,
        thickness_angstrom=float("nan") if got.thickness is None else got.thickness.thickness_angstrom,
        faults=got.verdicts,
        caveats=caveats + got.caveats,
        seconds=seconds,
        pictures=shown,
    )


def image_table(rows: Sequence[MeasuredImage]) -> dict[str, list[str | float]]:
    """The rows as columns of a STAR table: RELION's labels, the evidence, thickness, verdict and its words."""
    nan = float("nan")
    fits = [row.fit for row in rows]

    def column(of: Callable[[CtfFit], float]) -> list[str | float]:
        return [nan if fit is None else of(fit) for fit in fits]

    return {
        "rlnMicrographName": [row.name for row in rows],
        "rlnMicrographPixelSize": [row.pixel_size_angstrom for row in rows],
        "rlnDefocusU": column(lambda f: f.defocus_u_angstrom),
        "rlnDefocusV": column(lambda f: f.defocus_v_angstrom),
        "rlnCtfAstigmatism": column(lambda f: f.defocus_u_angstrom - f.defocus_v_angstrom),
        "rlnDefocusAngle": column(lambda f: f.astigmatism_angle_deg),
        "rlnPhaseShift": column(lambda f: f.phase_shift_deg),
        "rlnCtfFigureOfMerit": column(lambda f: f.score),
        "rlnCtfMaxResolution": column(lambda f: f.max_resolution_angstrom),
        labels.DEFOCUS_SIGMA: column(lambda f: f.defocus_sigma_angstrom),
        labels.THICKNESS: [row.thickness_angstrom for row in rows],
        labels.CTF_EVIDENCE: [row.evidence for row in rows],
        labels.VERDICT: [row.verdict for row in rows],
        labels.VERDICT_TEXT: [row.message for row in rows],
    }


def draw_image(row: MeasuredImage) -> tuple[Figure, Figure]:
    """The half spectrum and the equiphase average of a row measured with pictures.

    Raises
    ------
    InputError : it has none
    """
    if row.pictures is None or row.fit is None:
        raise InputError(f"`{row.name}` has no spectrum to draw: {row.message}")
    shown, fit = row.pictures, row.fit
    title = f"{fit.defocus_angstrom / 1e4:.3f} µm, measured | fitted"
    halves = half_spectra([title], shown.measured[None], shown.fitted[None], shown.edge_frequency, width=4.5)
    curves = shown.curves
    average = equiphase_average(
        curves.frequency, curves.spectrum[0], curves.model[0], curves.quality[0], fit.max_resolution_angstrom
    )
    return halves, average


def write_images(
    rows: Sequence[MeasuredImage],
    *,
    table: PathLike | None = None,
    folder: PathLike | None = None,
    dots_per_inch: int = 110,
) -> list[Path]:
    """Write a STAR table, and pictures of the rows that have some: `<name>_spectrum.png` and `<name>_curve.png`.

    Returns
    -------
    The files written

    Raises
    ------
    InputError, BackendError : a place that may not be written to, or a full disk
    """
    written: list[Path] = []
    if table is not None:
        write_star(table, {"micrographs": image_table(rows)})
        written.append(Path(table))
    if folder is not None:
        place = Path(folder)
        make_folder(place)
        for row, stem in zip(rows, _stems(rows), strict=True):
            if row.pictures is None:
                continue
            for figure, ending in zip(draw_image(row), ("spectrum", "curve"), strict=True):
                target = BytesIO()
                figure.savefig(target, format="png", dpi=dots_per_inch, metadata={"Software": None})
                written.append(place / f"{stem}_{ending}.png")
                write_bytes_atomic(written[-1], target.getvalue())
    return written


def _stems(rows: Sequence[MeasuredImage]) -> list[str]:
    """Names for files, no two alike."""
    out: list[str] = []
    for row in rows:
        number, at, path = row.name.rpartition("@")
        stem = movie_stem(path.removesuffix(".gz").removesuffix(".bz2"))
        stem = f"{stem}_{int(number):03d}" if at and number.isdecimal() else stem
        taken = sum(one == stem or one.startswith(f"{stem}-") for one in out)
        out.append(stem if not taken else f"{stem}-{taken + 1}")
    return out
