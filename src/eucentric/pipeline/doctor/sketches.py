"""Images of a series just good enough to judge it: small ones of all tilts, and a few steep ones in full detail."""

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from eucentric.compute.seeds import seeded_generator
from eucentric.compute.threads import threads_for
from eucentric.errors import EucentricError, InputError
from eucentric.fourier.crop import fourier_crop, rescaled_shape
from eucentric.io.movies import movie_header, open_movie
from eucentric.models.tilt_series import Tilt, TiltSeries
from eucentric.motion.estimate_motion import estimate_motion
from eucentric.motion.params import MotionParams
from eucentric.motion.sum_frames import sum_frames
from eucentric.pipeline.doctor.cases import SeriesCase
from eucentric.pipeline.images import read_image
from eucentric.pipeline.movie_frames import Camera, MovieFrames, eer_rendering
from eucentric.pipeline.store import ItemStore

_SMALL_ANGSTROM = 8.0
_SMALL_PX = 256
"""Small images are no coarser than this many pixels along their shorter side."""
_FINE_ANGSTROM = 2.4
"""Rings are looked for to 5 A."""
_SUMMED_TILTS = 32
_STEEP_DEG = (25.0, 65.0)
_LEAST_STEEP_DEG = 10.0
_ORIENTING = 5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sketch:
    """Images of one series."""

    series: TiltSeries
    """Whose tilts the images are of."""
    small: Tensor
    """(tilt, y, x), means of blocks of pixels: counts, not normalised."""
    small_pixel_angstrom: float
    area_px: int
    """Recorded pixels in one of the small ones."""
    counted: bool
    """Whether the counts are whole numbers, as of a camera that counts electrons."""
    unreadable: dict[int, str]
    """By position of the tilt: why its image cannot be read."""
    source: str
    """Where the images come from, in words."""
    reader: "_MovieReader | None" = None
    """Of movies, which knows by now how the gain lies on them."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RingImages:
    """Images in full detail, for the contrast transfer."""

    images: Tensor
    pixel_angstrom: float
    positions: list[int]
    """Of their tilts in the series of the sketch."""


def sketch_series(case: SeriesCase, tell: Callable[[str], None] = lambda _: None) -> Sketch:
    """Small images of all tilts: sums of motion correction where there are, else of movies as they were recorded.

    Raises
    ------
    InputError : no image can be read
    """
    summed = case.summed
    if summed is not None:
        counted = _counts_electrons(case, summed)
        return _sketch(summed, _images_on_disk(case, summed), summed.image_shape, "sums of frames", counted=counted)
    if case.series is None or not case.series.tilts:
        raise InputError(f"There are no images of {case.name} to look at.")
    series = case.series
    reader = _MovieReader.of(case)
    reader.orient(series.tilts)

    def image(tilt: Tilt) -> Tensor:
        tell(f"reading {case.name} at {tilt.nominal_tilt_deg:.0f} degrees")
        return reader.plain_sum(tilt)

    sketch = _sketch(series, image, series.image_shape, "movies as recorded", counted=True)
    return replace(sketch, counted=reader.whole_numbers, reader=reader)


def _counts_electrons(case: SeriesCase, summed: TiltSeries) -> bool:
    """Whether sums of motion correction are of movies with whole numbers, pixel by pixel."""
    if summed.original_pixel_size_angstrom not in (None, summed.pixel_size_angstrom):
        return False
    movie = next((t.movie for t in summed.tilts if t.movie), None)
    if movie is None:
        return False
    with contextlib.suppress(EucentricError, OSError):
        return movie_header(case.root / movie).dtype.kind in "iu"
    return False


def ring_images(case: SeriesCase, sketch: Sketch, bad: Sequence[int], movies: int) -> RingImages:
    """Steep tilts of both sides in full detail, their frames aligned.

    Parameters
    ----------
    bad : positions of tilts to leave out
    movies : tilts to look at where their frames are still to be aligned, which takes time

    Raises
    ------
    InputError : fewer than three can be read
    """
    series = sketch.series
    if case.summed is not None:
        read = _images_on_disk(case, series)
    else:
        assert sketch.reader is not None
        read = sketch.reader.aligned_sum
    images, positions = [], []
    most = movies if case.summed is None else _SUMMED_TILTS
    for i in _steep(series, bad, most):
        with contextlib.suppress(EucentricError):
            with threads_for(0):
                images.append(_not_too_fine(read(series.tilts[i]), series.pixel_size_angstrom))
            positions.append(i)
    if len(images) < 3:
        raise InputError(f"Only {len(images)} tilted images of {case.name} can be used to look at their rings.")
    shape = images[0].shape
    pixel = series.pixel_size_angstrom * series.image_shape[0] / shape[0]
    return RingImages(images=torch.stack(images), pixel_angstrom=pixel, positions=positions)


def _steep(series: TiltSeries, bad: Sequence[int], most: int) -> list[int]:
    """Positions of steep tilts, evenly from both sides, in ascending order."""
    tilts = np.abs(series.nominal_tilts_deg)
    good = np.array([i not in bad for i in range(len(tilts))])
    steep = np.flatnonzero(good & (tilts >= _STEEP_DEG[0]) & (tilts <= _STEEP_DEG[1]))
    if len(steep) < 6:
        steep = np.flatnonzero(good & (tilts >= _LEAST_STEEP_DEG))
    if len(steep) > most:
        steep = steep[np.unique(np.linspace(0, len(steep) - 1, most).round().astype(int))]
    return [int(i) for i in steep]


def _not_too_fine(image: Tensor, pixel: float) -> Tensor:
    if pixel >= _FINE_ANGSTROM:
        return image
    return fourier_crop(image, rescaled_shape(image.shape, pixel, _FINE_ANGSTROM))


def _images_on_disk(case: SeriesCase, series: TiltSeries) -> Callable[[Tilt], Tensor]:
    store = ItemStore(case.root, "doctor", case.name, project=case.settings)
    return lambda tilt: torch.from_numpy(read_image(series, tilt, store))


def _sketch(
    series: TiltSeries,
    read: Callable[[Tilt], Tensor],
    shape: tuple[int, int],
    source: str,
    *,
    counted: bool,
) -> Sketch:
    factor = max(1, min(math.floor(_SMALL_ANGSTROM / series.pixel_size_angstrom + 1e-6), min(shape) // _SMALL_PX))
    size = (shape[0] // factor, shape[1] // factor)
    small = torch.zeros((len(series.tilts), *size), dtype=torch.float32)
    unreadable: dict[int, str] = {}
    for i, tilt in enumerate(series.tilts):
        try:
            image = read(tilt)
        except EucentricError as error:
            unreadable[i] = str(error)
            continue
        if tuple(image.shape) != tuple(shape):
            unreadable[i] = f"its image is {image.shape[1]} x {image.shape[0]} pixels, not {shape[1]} x {shape[0]}"
            continue
        blocks = image[: size[0] * factor, : size[1] * factor].reshape(size[0], factor, size[1], factor)
        small[i] = blocks.mean((1, 3))
    if len(unreadable) == len(series.tilts):
        raise InputError(f"No image of {series.name} can be read: {unreadable[0]}")
    return Sketch(
        series=series,
        small=small,
        small_pixel_angstrom=series.pixel_size_angstrom * factor,
        area_px=factor * factor,
        counted=counted,
        unreadable=unreadable,
        source=source,
    )


@dataclass(slots=True, kw_only=True, eq=False)
class _MovieReader:
    """Sums of movies with the references of the camera."""

    store: ItemStore
    camera: Camera
    params: MotionParams
    series: TiltSeries
    whole_numbers: bool = True

    @classmethod
    def of(cls, case: SeriesCase) -> "_MovieReader":
        assert case.series is not None
        store = ItemStore(case.root, "doctor", case.name, project=case.settings)
        params = MotionParams()
        if case.project is not None:
            from eucentric.pipeline.plan import Plan

            params = Plan.load(case.project).params("motion")
        device = torch.device("cpu")
        return cls(store=store, camera=Camera.read(store, params, device), params=params, series=case.series)

    def orient(self, tilts: Sequence[Tilt]) -> None:
        """Find how the gain lies on the frames; left out where it does not fit: then nothing is corrected by it."""
        if self.camera.gain is None or "auto" not in (self.params.gain_orientation, self.params.gain_operation):
            return
        counts = []
        for place in np.unique(np.linspace(0, len(tilts) - 1, min(_ORIENTING, len(tilts))).round().astype(int)):
            with contextlib.suppress(EucentricError):
                counts.append(self._look(tilts[place]).totals.total)
        try:
            self.camera.orient(torch.stack([c for c in counts if c.shape == counts[0].shape]), self.params)
        except (EucentricError, RuntimeError):
            self.camera.gain = None

    def plain_sum(self, tilt: Tilt) -> Tensor:
        """Frames added up as they are, with the gain."""
        frames = self._look(tilt)
        detector = self.camera.detector(frames.movie.header.shape)
        total = frames.totals.total.float()
        if detector.dark is not None:
            total = total - detector.dark * len(frames.usable)
        return total if detector.gain is None else total * detector.gain

    def aligned_sum(self, tilt: Tilt) -> Tensor:
        """Frames without defects, brought over each other."""
        path = self.store.resolve(str(tilt.movie))
        with open_movie(path, eer=eer_rendering(self.params, tilt.dose)) as movie:
            frames = MovieFrames.look_through(movie, tilt.frames, 0, torch.device("cpu"))
            detector = self.camera.detector(movie.header.shape)
            generator = seeded_generator(tilt.acquisition)
            defects = frames.find_defects(detector, self.params.defect_sigma, generator)
            source = frames.corrected(detector, defects)
            stack = torch.stack([source.frame(i) for i in range(source.count)])
        pixel = self.series.pixel_size_angstrom
        if len(stack) < 2:
            return stack[0]
        shifts = estimate_motion(stack, pixel, self.params).shifts_angstrom
        return sum_frames(stack, shifts, pixel)

    def _look(self, tilt: Tilt) -> MovieFrames:
        if tilt.movie is None:
            raise InputError("it names no movie")
        path = self.store.resolve(tilt.movie)
        with open_movie(path, eer=eer_rendering(self.params, tilt.dose)) as movie:
            self.whole_numbers = self.whole_numbers and movie.header.dtype.kind in "iu"
            return MovieFrames.look_through(movie, tilt.frames, 0, torch.device("cpu"))
