"""Movies and the references of their camera on disk, as corrected frames that come one at a time."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from eucentric.errors import InputError
from eucentric.io.defects import read_defects
from eucentric.io.eer import EerRendering
from eucentric.io.movies import Movie, MovieHeader, open_movie, read_gain
from eucentric.motion.band_spectra import FrameSource
from eucentric.motion.correct_frames import correct_frames
from eucentric.motion.detector import (
    AS_STORED,
    Detector,
    Operation,
    Orientation,
    magnification_matrix,
    prepare_dark,
    prepare_gain,
)
from eucentric.motion.find_defects import Defects, FrameTotals, find_defects
from eucentric.motion.orient_gain import GainOrientation, orient_gain
from eucentric.motion.params import MotionParams
from eucentric.pipeline.store import ItemStore

_HELD_BYTES = 2**29
"""Of frames as recorded: a movie this small is decoded once and kept."""
_ORIENTATIONS: dict[str, Orientation] = {
    "as-stored": AS_STORED,
    "90": Orientation(90),
    "180": Orientation(180),
    "270": Orientation(270),
    "up-down": Orientation(0, "up-down"),
    "left-right": Orientation(0, "left-right"),
    "90-up-down": Orientation(90, "up-down"),
    "90-left-right": Orientation(90, "left-right"),
}


def eer_rendering(params: MotionParams, dose: float) -> EerRendering:
    """How the settings want EER movies of so many e/A^2 read."""
    return EerRendering(
        frames_per_fraction=params.eer_frames_per_fraction,
        fractions=params.eer_fractions,
        dose_per_fraction=params.eer_dose_per_fraction,
        dose=dose if dose > 0 else None,
        upsampling=params.eer_grid,
    )


def finer_by(header: MovieHeader, params: MotionParams) -> int:
    """How many times smaller the pixels of frames are, as they are read, than those that are asked for without binning."""
    return params.eer_grid // (2 if params.eer_super_resolution else 1) if header.eer is not None else 1


def coarser_by(header: MovieHeader, params: MotionParams) -> int:
    """How many times larger the pixels of the sums are than those of the frames as they are read."""
    return params.binning * finer_by(header, params)


@dataclass(slots=True, kw_only=True)
class Camera:
    """The references of a project, as its settings name them."""

    gain: Tensor | None
    dark: Tensor | None
    defects: Path | None
    orientation: Orientation
    operation: Operation
    dark_orientation: Orientation
    magnification: tuple[float, float, float] | None
    device: torch.device
    found: GainOrientation | None = None
    """What the search for the orientation came to, where there was one."""
    _made: dict[tuple[int, int], Detector] = field(default_factory=dict)

    @classmethod
    def read(cls, store: ItemStore, params: MotionParams, device: torch.device) -> "Camera":
        """Read what the project names.

        Raises
        ------
        InputError : a file is missing
        """
        project = store.project
        return cls(
            gain=_reference(store, project.gain, "gain", device),
            dark=_reference(store, project.dark, "dark", device),
            defects=None if project.defects is None else store.resolve(project.defects),
            orientation=_ORIENTATIONS.get(params.gain_orientation, AS_STORED),
            operation="divide" if params.gain_operation == "divide" else "multiply",
            dark_orientation=_ORIENTATIONS[params.dark_orientation],
            magnification=params.magnification,
            device=device,
        )

    def orient(self, counts: Tensor, params: MotionParams) -> None:
        """Find how the gain reference lies on the frames, as far as the settings leave it open.

        Parameters
        ----------
        counts : (movie, y, x) sums of the frames of some movies, as recorded

        Raises
        ------
        InputError : it does not fit, or not in one way alone
        """
        if self.gain is None:
            return
        prepare_gain(self.gain, (self.gain.shape[0], self.gain.shape[1]))  # what is wrong with the reference itself
        try:
            found = orient_gain(counts, self.gain)
        except InputError as error:
            raise InputError(
                f"The gain reference cannot be used: {error}\nTo use it all the same, say how with --gain-orientation and "
                "--gain-operation."
            ) from error
        self.found = found
        if params.gain_orientation == "auto":
            self.orientation = found.orientation
        elif params.gain_operation == "auto":
            # the evidence for the orientation that was asked for, not that of the best
            own = [e for e in found.evidence if e.orientation.canonical() == self.orientation.canonical()]
            self.operation = "divide" if own and own[0].slope < 0 else "multiply"
            return
        if params.gain_operation == "auto":
            self.operation = found.operation

    @property
    def note(self) -> str | None:
        """What was found of the gain reference, and what is done where that is something else; None where all is as stored."""
        found = self.found
        if found is None:
            return None
        chosen = (self.orientation.canonical(), self.operation)
        if found.status != "flat" and chosen != (found.orientation.canonical(), found.operation):
            verb = {"multiply": "multiplies", "divide": "divides"}[self.operation]
            return f"As asked for, the gain reference, {self.orientation}, {verb} the counts. The movies say otherwise: {found.note}"
        return found.note if found.status != "found" or chosen != (AS_STORED, "multiply") else None

    def detector(self, shape: tuple[int, int]) -> Detector:
        """For frames (y, x) of this shape."""
        if shape not in self._made:
            gain = dark = defects = matrix = None
            if self.gain is not None:
                gain = prepare_gain(self.gain, shape, operation=self.operation, orientation=self.orientation)
            if self.dark is not None:
                dark = prepare_dark(self.dark, shape, orientation=self.dark_orientation)
            if self.defects is not None:
                defects = torch.from_numpy(read_defects(self.defects, shape)).to(self.device)
            if self.magnification is not None:
                matrix = magnification_matrix(*self.magnification)
            self._made = {shape: Detector(shape=shape, gain=gain, dark=dark, defects=defects, magnification=matrix)}
        return self._made[shape]


def _reference(store: ItemStore, name: str | None, kind: str, device: torch.device) -> Tensor | None:
    if name is None:
        return None
    path = store.resolve(name)
    if not path.exists():
        raise InputError(
            f"The {kind} reference `{path}` does not exist. Give its path with `eucentric import --{kind}`."
        )
    return torch.from_numpy(np.array(read_gain(path), dtype=np.float32)).to(device)


@dataclass(slots=True, kw_only=True)
class MovieFrames:
    """Some frames of an open movie."""

    movie: Movie
    numbers: range
    """Of the movie's frames, those that belong to the tilt."""
    device: torch.device
    totals: FrameTotals
    """Of the frames that can be used."""
    means: list[float]
    """Counts a pixel of all frames."""
    skipped: int
    """Frames left out before the first of them."""
    unusable: dict[int, str]
    """By place in `numbers`: frames that say nothing of the specimen, and why."""
    held: list[Tensor] | None
    """The frames as recorded, where they are small enough to be kept."""

    @classmethod
    def look_through(
        cls, movie: Movie, frames: tuple[int, int] | None, skip: int, device: torch.device
    ) -> "MovieFrames":
        """Read the frames once: their sum and means, and the frames themselves where they are small.

        Parameters
        ----------
        frames : first, and the one after the last, of a tilt that shares its movie with others
        skip : frames left out at the start

        Raises
        ------
        InputError : fewer frames than that
        FormatError : a damaged file
        """
        header = movie.header
        first, stop = frames or (0, header.frame_count)
        if stop > header.frame_count:
            raise InputError(
                f"frames {first + 1} to {stop} belong to this tilt, but the movie has {header.frame_count}"
            )
        if first + skip >= stop:
            raise InputError(
                f"{skip} first frames are to be left out, and there are {stop - first}. Choose a smaller --skip-frames."
            )
        numbers = range(first + skip, stop)
        kind = header.dtype
        saturation = float(np.iinfo(kind).max) if kind.kind in "iu" else None
        totals = FrameTotals(saturation)
        keep = len(numbers) * header.shape[0] * header.shape[1] * kind.itemsize <= _HELD_BYTES
        held: list[Tensor] = []
        for block in _blocks(movie, numbers, device, whole=keep):
            totals.add(block)
            if keep:
                held += list(block)
        found = cls(
            movie=movie,
            numbers=numbers,
            device=device,
            totals=totals,
            means=totals.frame_means,
            skipped=skip,
            unusable=totals.unusable_frames(),
            held=held if keep else None,
        )
        if found.unusable and found.usable:  # one full frame would hide every defect, and the gain's pattern
            found.totals = FrameTotals(saturation)
            for i in found.usable:
                found.totals.add(found.recorded(i))
        return found

    @property
    def usable(self) -> list[int]:
        """Places in `numbers` of the frames that can be used."""
        return [i for i in range(len(self.numbers)) if i not in self.unusable]

    def let_go(self, *, and_frames: bool) -> None:
        """Free the totals, and the frames that are held: one that is asked for again is read from the file."""
        self.totals = FrameTotals()
        if and_frames:
            self.held = None

    def kept_dose(self, dose: float) -> float:
        """e/A^2 of these frames, of all that the tilt's frames brought: those left out at the start had as much each."""
        return dose * len(self.numbers) / (len(self.numbers) + self.skipped)

    def doses(self, dose: float) -> np.ndarray:
        """(frame,) e/A^2 of all frames, by their counts: a camera counts what comes.

        A frame without counts got no dose; a saturated one as much as the others, since its counts tell nothing.

        Parameters
        ----------
        dose : e/A^2 of all of them
        """
        counts = np.array(self.means)
        usable = self.usable
        if usable:
            counts[[i for i in self.unusable if counts[i] > counts[usable].max()]] = np.median(counts[usable])
        if not counts.sum() > 0:
            return np.full(len(counts), dose / len(counts))
        return np.asarray(dose * counts / counts.sum())

    @property
    def mean_counts(self) -> float:
        """Of a pixel of the frames that can be used."""
        return float(np.mean([self.means[i] for i in self.usable]))

    def recorded(self, place: int) -> Tensor:
        """(1, y, x): one frame as recorded, by its place in `numbers`."""
        if self.held is not None:
            return self.held[place][None]
        number = self.numbers[place]
        return _tensor(self.movie.read(number, number + 1), self.device)

    def corrected(self, detector: Detector, defects: Defects) -> FrameSource:
        """The usable frames, corrected as they are asked for."""
        usable = self.usable

        def frame(place: int) -> Tensor:
            index = usable[place]
            return correct_frames(self.recorded(index), detector, defects, first_frame=self.numbers[index])[0]

        return FrameSource(count=len(usable), image_shape=self.movie.header.shape, frame=frame, device=self.device)

    def find_defects(self, detector: Detector, sigma: float, generator: torch.Generator) -> Defects:
        """Defective pixels of this movie."""
        return find_defects(self.totals, detector, sigma=sigma, generator=generator)


def sum_as_recorded(
    path: Path, frames: tuple[int, int] | None, rendering: EerRendering, device: torch.device
) -> Tensor:
    """Sum (y, x) of the frames of a movie that can be used, uncorrected and not moved."""
    with open_movie(path, eer=replace(rendering, upsampling=1)) as movie:
        return MovieFrames.look_through(movie, frames, 0, device).totals.total


def _blocks(movie: Movie, numbers: range, device: torch.device, *, whole: bool) -> Iterator[Tensor]:
    """Frames as tensors: at once, or a few at a time, all or some of the movie."""
    if whole:
        yield _tensor(movie.read(numbers.start, numbers.stop), device)
        return
    for start in numbers[::2]:
        yield _tensor(movie.read(start, min(start + 2, numbers.stop)), device)


def _tensor(frames: np.ndarray, device: torch.device) -> Tensor:
    if frames.dtype == np.uint16:  # torch computes with few unsigned types
        frames = frames.astype(np.int32)
    elif frames.dtype == np.float16:
        frames = frames.astype(np.float32)
    return torch.from_numpy(frames).to(device)
