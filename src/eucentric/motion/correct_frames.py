"""Frames as recorded to frames as they would be with every pixel alike and none defective."""

import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.compute.threads import threads_for
from eucentric.errors import ShapeError
from eucentric.motion.detector import Detector, prepare_gain
from eucentric.motion.find_defects import Defects, FrameTotals, find_defects
from eucentric.motion.results import DetectorCorrection

_BAND_PIXELS = 1 << 18


def correct_frames(
    frames: Tensor, detector: Detector, defects: Defects, *, first_frame: int = 0
) -> Float[Tensor, "frame y x"]:
    """Take the dark reference away, multiply by the gain, replace defective pixels by good neighbours.

    Each frame takes one of the pixel's neighbours at random, so that noise stays noise and no pattern is copied from frame
    to frame. Which one depends on the seed, the frame's number and the place alone: however a movie is cut into blocks, a frame
    comes out the same.

    Parameters
    ----------
    frames : (frame, y, x) as recorded, of any type of number
    detector : the camera
    defects : of this movie, from `find_defects`
    first_frame : number of the block's first frame in the movie, from 0

    Returns
    -------
    (frame, y, x) float32

    Raises
    ------
    ShapeError : the frames and the references are of unequal size
    """
    if frames.ndim != 3 or tuple(frames.shape[-2:]) != tuple(detector.shape):
        raise ShapeError(
            f"Frames of shape {tuple(frames.shape)} were given; expected (frame, y, x) with {detector.shape[1]} x {detector.shape[0]} "
            "pixels, as the camera's references."
        )
    count, height, width = frames.shape
    out = torch.empty(frames.shape, dtype=torch.float32, device=frames.device)
    step = max(1, _BAND_PIXELS // width)
    with threads_for(_BAND_PIXELS):
        for first in range(0, height, step):
            band = slice(first, min(height, first + step))
            for i in range(count):
                out[i, band] = frames[i, band]
                if detector.dark is not None:
                    out[i, band] -= detector.dark[band]
                if detector.gain is not None:
                    out[i, band] *= detector.gain[band]
        for i in range(count):
            _replace(frames[i], out[i].view(-1), defects, first_frame + i)
    return out


def correct_movie(
    frames: Float[Tensor, "frame y x"],
    gain: Float[Tensor, "y x"] | None,
    *,
    defect_sigma: float,
    generator: torch.Generator,
) -> DetectorCorrection:
    """All of these for a whole movie in memory.

    Parameters
    ----------
    gain : factor for every pixel, or None
    defect_sigma : standard deviations from which a pixel is defective

    Raises
    ------
    ShapeError : the frames and the gain are of unequal size
    InputError : values that are not numbers, or a movie that holds no counts
    """
    shape = (frames.shape[-2], frames.shape[-1])
    if gain is not None and tuple(gain.shape) != shape:
        raise ShapeError(
            f"The gain reference is {gain.shape[1]} x {gain.shape[0]} pixels and the frames are "
            f"{shape[1]} x {shape[0]}; expected the same size."
        )
    camera = Detector(shape=shape, gain=None if gain is None else prepare_gain(gain, shape))
    totals = FrameTotals()
    totals.add(frames)
    found = find_defects(totals, camera, sigma=defect_sigma, generator=generator)
    return DetectorCorrection(frames=correct_frames(frames, camera, found), defects=found.mask)


def _replace(raw: Tensor, corrected: Tensor, defects: Defects, frame: int) -> None:
    if len(defects.event_places):
        struck = raw.reshape(-1)[defects.event_places] >= defects.event_limits
        places = defects.event_places[struck]
        corrected[places] = corrected[_chosen(places, defects.event_sources[struck], frame, defects.seed)]
    if len(defects.places):
        corrected[defects.places] = corrected[_chosen(defects.places, defects.sources, frame, defects.seed)]


def _chosen(places: Tensor, sources: Tensor, frame: int, seed: int) -> Tensor:
    """One source for each place, scattered by mixing the bits of place, frame and seed."""
    mixed = (places * 0x9E3779B1 + frame * 0x85EBCA77 + seed) & 0x7FFFFFFFFFFF
    for _ in range(2):
        mixed = ((mixed ^ (mixed >> 15)) * 0x2C1B3C6D) & 0x7FFFFFFFFFFF
    which = (mixed ^ (mixed >> 17)) % sources.shape[1]
    return sources.gather(1, which[:, None])[:, 0]
