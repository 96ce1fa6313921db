r"""Which frame of one continuous movie belongs to which tilt.

The stage steps while the camera runs. Within a dwell all frames show one scene, slightly displaced; frames taken while
the stage travels are blurred along the way; every tilt shows a scene of its own, for the projection changes with the
angle even where the specimen hardly moves. With whitened spectra (noise 1) and the scene's power S(k), two frames are
of one scene rather than of two with the odds

.. math:: \log o(d) = \sum_k \frac{2 S\, \Re F_1^* F_2 e^{2\pi i k\cdot d}}{1 + 2S}
          - \frac{S^2 (|F_1|^2 + |F_2|^2)}{(1 + S)(1 + 2S)} + \log\frac{(1 + S)^2}{1 + 2S}

averaged over the displacements d that a resting stage allows. Sums of these odds over the pairs within a run of frames
give, by dynamic programming, the best division of the movie into dwells. The division is then refined frame by frame by
a hidden Markov chain (tilt 1, stage moves, tilt 2, ...): the odds that a frame shows the whole scene of a dwell, as
predicted by the dwell's other frames, against a part of it or none. A frame is given to a tilt where the chain is sure
of it, and dropped elsewhere.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from eucentric.errors import InputError, ProcessingError
from eucentric.motion.continuous_band import BoolArray, IntArray, collect_spectra, lit_frames, whiten
from eucentric.motion.dwell_chain import Dwell, DwellChain
from eucentric.typing import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrameAssignment:
    """Frames of a movie given to tilts, in the order taken."""

    tilt: IntArray
    """(frame,): position of the tilt in the order taken; -1 for a dropped frame."""
    ranges: tuple[tuple[int, int], ...]
    """For each tilt its first frame and the one after its last."""
    probability: FloatArray
    """(frame,): of belonging to the likeliest tilt; 0 for dark frames."""
    dark: BoolArray
    """(frame,): beam off, or on for a part of the frame only."""
    displacement_angstrom: FloatArray
    """(frame, 2), x and y: of the content, from the mean of its tilt; NaN for dropped frames."""
    signal_to_noise: float
    """Mean over the band of the scene's power in one frame over the noise's."""


def assign_frames(
    frame: Callable[[int], Float[Tensor, "y x"]],
    frame_count: int,
    pixel_size: float,
    *,
    tilt_count: int | None = None,
    fewest_frames: int = 3,
    low_pass_angstrom: float = 15.0,
    drift_angstrom: float = 4.0,
    certainty: float = 0.99,
    progress: Callable[[float], None] | None = None,
) -> FrameAssignment:
    """Find the dwells of the stage in a movie that goes on while the specimen is tilted.

    Parameters
    ----------
    frame : gives one frame by its number, as counts; each is asked for once, in order
    frame_count : number of frames
    pixel_size : A
    tilt_count : number of tilts, where known
    fewest_frames : a shorter dwell is not looked for
    low_pass_angstrom : A; finer detail is not used: at 0.1 e/A^2 a frame holds none
    drift_angstrom : A; scale of the displacement between neighbouring frames of a resting stage
    certainty : a frame of smaller probability is dropped
    progress : told the fraction done

    Returns
    -------
    FrameAssignment : tilts in the order taken

    Raises
    ------
    InputError : fewer frames than tilts need, frames of different size, or values that are not finite
    ProcessingError : no dwell of the stage can be told from noise, or not as many as `tilt_count`
    """
    wanted = max(2, tilt_count or 2)
    if frame_count < wanted * fewest_frames:
        raise InputError(
            f"The movie has {frame_count} frames, too few for {wanted} tilts of at least {fewest_frames} frames. "
            "Check that it was copied whole and that the angles are its own."
        )
    spectra, means = collect_spectra(frame, frame_count, pixel_size, low_pass_angstrom, progress)
    lit = lit_frames(means)
    place = np.flatnonzero(lit)
    if len(place) < wanted * fewest_frames:
        raise ProcessingError(
            f"Only {len(place)} of {frame_count} frames are lit; {wanted} tilts need {wanted * fewest_frames} at least."
        )
    band = whiten(spectra, place, means)
    chain = DwellChain(band, place, drift_angstrom, fewest_frames)
    dwells, probability = chain.solve(tilt_count)
    if tilt_count is not None and len(dwells) != tilt_count:
        # forcing the number may have taken a wrong turn; what the movie says by itself may be it
        chain = DwellChain(band, place, drift_angstrom, fewest_frames)
        dwells, probability = chain.solve(None)
    if len(dwells) < 2:
        raise ProcessingError(
            "No step of the stage was found in the movie: it holds one tilt only, or too little signal to tell. Give the "
            "frames of each tilt in a table, with --frame-table."
        )
    if tilt_count is not None and len(dwells) != tilt_count:
        raise ProcessingError(
            f"{len(dwells)} dwells of the stage were found in the movie, and there are {tilt_count} tilts. Give the "
            "frames of each tilt in a table, with --frame-table."
        )
    out = FrameAssignment(
        tilt=np.full(frame_count, -1),
        ranges=tuple(_sure_frames(d, probability, place, certainty) for d in dwells),
        probability=np.zeros(frame_count),
        dark=~lit,
        displacement_angstrom=np.full((frame_count, 2), np.nan),
        signal_to_noise=float((band.number * band.signal).sum() / band.number.sum()),
    )
    out.probability[place] = probability
    position = chain.position.double().cpu().numpy()
    for i, (start, stop) in enumerate(out.ranges):
        own = np.flatnonzero((place >= start) & (place < stop))
        out.tilt[place[own]] = i
        out.displacement_angstrom[place[own]] = position[own] - position[own].mean(0)
    return out


def _sure_frames(dwell: Dwell, probability: FloatArray, place: IntArray, certainty: float) -> tuple[int, int]:
    """First and last + 1 frame of the movie, less those at the ends that may be of a step."""
    sure = np.flatnonzero(probability[dwell.start : dwell.stop] >= certainty) + dwell.start
    if len(sure) == 0:
        sure = np.array([dwell.start + int(probability[dwell.start : dwell.stop].argmax())])
    return int(place[sure[0]]), int(place[sure[-1]]) + 1
