"""The camera as it is corrected for: orientation of its references, gain, dark, known defects, magnification."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as functional
from jaxtyping import Bool, Float
from torch import Tensor

from eucentric.errors import InputError, ShapeError

Flip = Literal["none", "up-down", "left-right"]
Operation = Literal["multiply", "divide"]

_FLIPS: tuple[Flip, ...] = ("none", "up-down", "left-right")
_SCALES = (1, 2, 4)
_MOST_DEAD = 0.2
"""A gain with more pixels than this at zero is a damaged file or a wrong one: no camera in use has lost a fifth."""


@dataclass(frozen=True, slots=True)
class Orientation:
    """How a reference is turned before it lies on the frames: first rotated, then flipped.

    Seen with x to the right and y up, as everywhere here. RELION's display and most viewers of TIFF draw the first row
    at the top, where the same rotation looks clockwise.

    =====================  ==========================  ====================================
    here                   MotionCor, AreTomo, RELION  SerialEM, IMOD (r/f)
    =====================  ==========================  ====================================
    0, none                RotGain 0, FlipGain 0       0
    90, none               RotGain 1                   1
    180, none              RotGain 2                   2
    270, none              RotGain 3                   3
    0, left-right          FlipGain 2                  4 (flip about the y axis, then turn)
    90, up-down            RotGain 1, FlipGain 1       5
    0, up-down             FlipGain 1                  6
    90, left-right         RotGain 1, FlipGain 2       7
    =====================  ==========================  ====================================

    RELION's rotation and flip have MotionCor's numbers (`--gain_rot`, `--gain_flip`).
    """

    rotation_deg: Literal[0, 90, 180, 270] = 0
    """Counter-clockwise, y up; applied first."""
    flip: Flip = "none"
    """`up-down` exchanges the top and the bottom row, `left-right` the first and the last column; applied second."""

    def __post_init__(self) -> None:
        if self.rotation_deg not in (0, 90, 180, 270) or self.flip not in _FLIPS:
            raise InputError(
                f"The orientation `{self.rotation_deg}, {self.flip}` is not one of a camera; expected a rotation by 0, 90, 180 "
                "or 270 degrees and a flip that is none, up-down or left-right."
            )

    @classmethod
    def from_motioncor(cls, rotation: int, flip: int) -> "Orientation":
        """From MotionCor's RotGain 0 to 3 and FlipGain 0 to 2, which are RELION's too."""
        if rotation not in (0, 1, 2, 3) or flip not in (0, 1, 2):
            raise InputError(f"RotGain {rotation} with FlipGain {flip} does not exist; expected 0 to 3 and 0 to 2.")
        return cls(_degrees(rotation), _FLIPS[flip])

    @classmethod
    def from_imod(cls, operation: int) -> "Orientation":
        """From SerialEM's and IMOD's number 0 to 7: from 4 on flipped about the y axis, then turned by 90 degrees so often."""
        if operation not in range(8):
            raise InputError(f"The rotation and flip {operation} does not exist; expected 0 to 7.")
        if operation < 4:
            return cls(_degrees(operation))
        # a flip before a rotation is the opposite rotation before the flip
        return cls(_degrees(-operation), "left-right").canonical()

    def canonical(self) -> "Orientation":
        """The same one of the eight, with the least rotation."""
        if self.flip == "none" or self.rotation_deg < 180:
            return self
        other: Flip = "left-right" if self.flip == "up-down" else "up-down"
        return Orientation(_degrees(self.rotation_deg // 90 - 2), other)

    @property
    def motioncor(self) -> tuple[int, int]:
        """RotGain and FlipGain."""
        return self.rotation_deg // 90, _FLIPS.index(self.flip)

    @property
    def imod(self) -> int:
        """SerialEM's and IMOD's number."""
        return next(i for i in range(8) if Orientation.from_imod(i) == self.canonical())

    @property
    def exchanges_axes(self) -> bool:
        """Whether x becomes y."""
        return self.rotation_deg % 180 == 90

    def apply(self, image: Tensor) -> Tensor:
        """Turn an image or a stack (..., y, x), y up; a view where possible."""
        # torch turns the first axis towards the second: with y up that is clockwise
        turned = torch.rot90(image, -self.rotation_deg // 90, (-2, -1))
        return turned if self.flip == "none" else turned.flip(-2 if self.flip == "up-down" else -1)

    def __str__(self) -> str:
        turn = f"rotated by {self.rotation_deg} degrees" if self.rotation_deg else "not rotated"
        return f"{turn}, {'not flipped' if self.flip == 'none' else 'flipped ' + self.flip}"


def _degrees(quarters: int) -> Literal[0, 90, 180, 270]:
    turns: tuple[Literal[0, 90, 180, 270], ...] = (0, 90, 180, 270)
    return turns[quarters % 4]


AS_STORED = Orientation()
ORIENTATIONS: tuple[Orientation, ...] = (
    AS_STORED, Orientation(90), Orientation(180), Orientation(270),
    Orientation(0, "up-down"), Orientation(0, "left-right"), Orientation(90, "up-down"), Orientation(90, "left-right"),
)  # fmt: skip
"""The eight that differ."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Detector:
    """What is known of the camera before a movie is looked at; all images (y, x), as large as a frame and lying as it does."""

    shape: tuple[int, int]
    """(y, x) of a frame."""
    gain: Float[Tensor, "y x"] | None = None
    """Factor for every pixel, from `prepare_gain`; zero where the pixel is dead."""
    dark: Float[Tensor, "y x"] | None = None
    """Counts of one frame without a beam, from `prepare_dark`; taken away before the gain is applied."""
    defects: Bool[Tensor, "y x"] | None = None
    """Pixels known to be defective."""
    magnification: Float[Tensor, "2 2"] | None = None
    """Where the camera shows a point: pixel = M c / pixel size + centre, c the place (x, y) from the image centre on an
    undistorted camera, in A. It is undone in the interpolation that sums the frames, nowhere else."""

    def __post_init__(self) -> None:
        for name, image in (
            ("gain reference", self.gain),
            ("dark reference", self.dark),
            ("map of defects", self.defects),
        ):
            if image is not None and tuple(image.shape) != tuple(self.shape):
                raise _other_size(name, (image.shape[-2], image.shape[-1]), self.shape)
        if self.magnification is not None and (
            tuple(self.magnification.shape) != (2, 2) or not 0.5 < float(torch.linalg.det(self.magnification)) < 2.0
        ):
            raise InputError(
                "The magnification is not a 2 x 2 matrix near the identity; its entries are RELION's or MotionCor's."
            )

    def dead(self, device: torch.device | None = None) -> Bool[Tensor, "y x"]:
        """Pixels known to be defective, and those to which the gain gives no value."""
        out = torch.zeros(self.shape, dtype=torch.bool, device=device)
        if self.gain is not None:
            out |= ~(self.gain > 0).to(out.device)
        if self.defects is not None:
            out |= self.defects.to(out.device)
        return out


def _other_size(what: str, given: tuple[int, int], frame: tuple[int, int]) -> ShapeError:
    return ShapeError(
        f"The {what} is {given[1]} x {given[0]} pixels and the frames are {frame[1]} x {frame[0]}; expected the same size, "
        "or twice or half of it (super-resolution). Give the one of this camera."
    )


def _scale_to(what: str, given: tuple[int, int], frame: tuple[int, int]) -> tuple[int, bool]:
    """How often a reference is repeated (True) or averaged (False) along each axis to fit a frame."""
    for scale in _SCALES:
        if (given[0] * scale, given[1] * scale) == tuple(frame):
            return scale, True
        if (frame[0] * scale, frame[1] * scale) == tuple(given):
            return scale, False
    raise _other_size(what, given, frame)


def _repeat(image: Tensor, times: int) -> Tensor:
    return image if times == 1 else image.repeat_interleave(times, -2).repeat_interleave(times, -1)


def _means(image: Tensor, size: int) -> Tensor:
    return image if size == 1 else functional.avg_pool2d(image[None, None], size)[0, 0]


def prepare_gain(
    raw: Float[Tensor, "y x"],
    shape: tuple[int, int],
    *,
    operation: Operation = "multiply",
    orientation: Orientation = AS_STORED,
) -> Float[Tensor, "y x"]:
    """A gain reference as a factor for each pixel of a frame.

    A reference made at super-resolution for frames at the camera's own pixels is brought to them through the mean
    sensitivity 1 / gain of each 2 x 2 pixels, for that is what their counts add up to; one at the camera's own pixels is
    repeated for super-resolution frames. 4 x 4 likewise.

    Parameters
    ----------
    raw : as read, y up
    shape : (y, x) of the frames
    operation : what the reference is for. One that divides counts (sensitivities, as Falcon's) is turned over and scaled
        so that its mean over good pixels leaves the counts as they are; one that multiplies is taken as it is.
    orientation : how it is turned to lie on the frames

    Returns
    -------
    (y, x) of `shape`, float32, zero where the pixel is dead

    Raises
    ------
    ShapeError : another size, which no factor of 2 or 4 explains
    InputError : negative values, or more than a fifth of the pixels without one
    """
    if raw.ndim != 2:
        raise ShapeError(f"The gain reference has shape {tuple(raw.shape)}; expected one image.")
    values = raw.to(torch.float32)
    good = torch.isfinite(values) & (values > 0)
    negative = int((values < 0).sum())
    if negative > 0.001 * values.numel():
        raise InputError(
            f"The gain reference holds {negative:,} negative values; a gain is positive, or zero where a pixel is dead. "
            "A file of dark counts, or of signed bytes, may have been given for it."
        )
    share = 1.0 - float(good.to(torch.float32).mean())
    if share > _MOST_DEAD:
        raise InputError(
            f"{share:.0%} of the pixels of the gain reference are zero or not a number; expected few dead pixels. "
            "Give the gain reference of this camera, or none if the movies are corrected already."
        )
    zero = values.new_zeros(())
    sensitivity = torch.where(good, values if operation == "divide" else 1.0 / values, zero)
    if operation == "divide":
        sensitivity = sensitivity / sensitivity[good].mean()
    sensitivity = orientation.apply(sensitivity)
    scale, larger = _scale_to("gain reference", (sensitivity.shape[0], sensitivity.shape[1]), shape)
    sensitivity = _repeat(sensitivity, scale) if larger else _means(sensitivity, scale)
    return torch.where(sensitivity > 0, 1.0 / sensitivity, zero).contiguous()


def prepare_dark(
    raw: Float[Tensor, "y x"], shape: tuple[int, int], *, orientation: Orientation = AS_STORED
) -> Float[Tensor, "y x"]:
    """A dark reference, in counts per frame, turned as the gain is and brought to the size of a frame.

    Counts are kept: the pixels that make up one larger pixel are added, and a pixel that is cut is shared out evenly.

    Raises
    ------
    ShapeError : another size, which no factor of 2 or 4 explains
    InputError : values that are not numbers
    """
    if raw.ndim != 2:
        raise ShapeError(f"The dark reference has shape {tuple(raw.shape)}; expected one image.")
    if not bool(torch.isfinite(raw).all()):
        raise InputError("The dark reference holds values that are not numbers (NaN or infinity). Copy it again.")
    turned = orientation.apply(raw.to(torch.float32))
    scale, larger = _scale_to("dark reference", (turned.shape[0], turned.shape[1]), shape)
    return (_repeat(turned, scale) / scale**2 if larger else _means(turned, scale) * scale**2).contiguous()


def magnification_matrix(major: float, minor: float, angle_deg: float) -> Float[Tensor, "2 2"]:
    """Anisotropic magnification from the three numbers of `mag_distortion_estimate` [1]_ and MotionCor's `-Mag`.

    MotionCor stretches the recorded image by major / minor along an axis and leaves the other direction as it is; the camera did
    the inverse of that. Only the ratio counts: the pixel size stays that of the direction which is left alone.

    Parameters
    ----------
    major, minor : the two scales
    angle_deg : of the major axis from the x axis, towards y pointing DOWN, as both programs have it; so an angle of
        +30 is -30 in the images here, whose y points up

    Returns
    -------
    (2, 2), float64: M of `Detector.magnification`

    Raises
    ------
    InputError : scales that are not positive, or more than twice one another

    References
    ----------
    .. [1] Grant & Grigorieff, J. Struct. Biol. 192:204 (2015), doi:10.1016/j.jsb.2015.08.006
    """
    if not (major > 0 and minor > 0 and 0.5 < major / minor < 2.0 and math.isfinite(angle_deg)):
        raise InputError(
            f"A magnification of {major} and {minor} at {angle_deg} degrees cannot be; expected two scales near 1, as 1.02 0.99 35."
        )
    angle = -math.radians(angle_deg)
    along = torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
    return torch.eye(2, dtype=torch.float64) + (minor / major - 1.0) * torch.outer(along, along)


def magnification_from_relion(matrix: Float[Tensor, "2 2"]) -> Float[Tensor, "2 2"]:
    """M of `Detector.magnification` from RELION's `rlnMagMat00`, `01`, `10`, `11` (rows first).

    RELION reads the reference's Fourier transform at Mk for the frequency k of a recorded image. So a point at c is recorded
    at the transpose of that matrix times c. The two are the same wherever the matrix is symmetric, as it nearly is.
    """
    return matrix.to(torch.float64).T.contiguous()
