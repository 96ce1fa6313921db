r"""Contrast transfer that follows the height of every point: :math:`H = \sum_l C_l S_l P`.

A point at height h above the specimen centre, along the beam, has the defocus :math:`D + \mathrm{hand}\, h`. What a column of an
image sees lies at :math:`h = -u \tan\theta + z / \cos\theta`, for a distance u across the axis and a depth z in the specimen: a slope
along the image and a spread with the depth. Projections of thin slabs of the specimen are therefore shared out between a few
heights h_l, linearly from one to the next (S), and each of these images has one contrast transfer function (C) [1]_ [2]_.

References
----------
.. [1] Turonova et al., J. Struct. Biol. 199:187 (2017), doi:10.1016/j.jsb.2017.07.007
.. [2] Jensen & Kornberg, Ultramicroscopy 84:57 (2000), doi:10.1016/S0304-3991(00)00005-X
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.compute.sizes import good_size
from eucentric.errors import InputError, ShapeError
from eucentric.geometry.tilt import TiltGeometry
from eucentric.models.optics import Optics
from eucentric.models.tilt_series import CtfFit
from eucentric.optics.tilt_strength import TiltStrength
from eucentric.optics.transfer import ContrastTransfer, contrast_transfer
from eucentric.typing import FloatArray

_LEAST_COSINE = math.cos(math.radians(85.0))  # steeper, the height changes by more than 11 pixels from one to the next


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DepthTransfer:
    """CTFs of the images of a tilt series at any height, in the frame with the tilt axis on +y.

    The sign is that of dark protein: positive near zero frequency, so that the density has the contrast of the images.
    """

    geometry: TiltGeometry
    fits: tuple[CtfFit, ...]
    """At the height of the specimen centre; astigmatism angles as in the recorded images."""
    optics: Optics
    hand: float
    """Defocus of a point = defocus + hand * height."""
    voxel_size: float
    exposures: FloatArray | None = None
    """(tilt,) e/A^2 that fade the detail of each image; None where they do not count."""
    signal: TiltStrength | None = None
    """How strongly each image shows the specimen; None where all do alike."""
    phase_step: float = 0.8
    """Largest phase in radians between neighbouring heights, at the Nyquist frequency; slabs are half as thick, so that
    points in them are wrong by a quarter of it at most. Together this takes 8% of the detail there, a quarter of that at half
    the frequency."""
    by_height: bool = True
    """False gives every point of an image the CTF of the specimen centre."""

    def __post_init__(self) -> None:
        if len(self.fits) != len(self.geometry):
            raise ShapeError(f"{len(self.fits)} CTF fits and {len(self.geometry)} tilts were given; expected one each.")
        if self.signal is not None:
            self.signal.check_count(len(self.geometry))
        if self.by_height:
            check_steepness(self.geometry)

    @property
    def step_angstrom(self) -> float:
        """Distance of neighbouring heights: beyond it the linear blend would show at the Nyquist frequency."""
        nyquist = 0.5 / self.voxel_size
        return self.phase_step / (math.pi * self.optics.wavelength_angstrom * nyquist**2)

    def slabs(self, planes: int) -> list[tuple[int, int]]:
        """(first, last + 1) planes of slabs that are thin against the distance of heights, at every tilt."""
        if not self.by_height:
            return [(0, planes)]
        steepest = float(np.cos(np.deg2rad(np.abs(self.geometry.y_tilt_deg).max())))
        thick = max(1, int(0.5 * self.step_angstrom * max(steepest, 0.1) / self.voxel_size))
        count = math.ceil(planes / thick)
        edges = np.linspace(0, planes, count + 1).round().astype(int)
        return [(int(a), int(b)) for a, b in itertools.pairwise(edges)]

    def padded_shape(self, image_shape: tuple[int, int]) -> tuple[int, int]:
        """Size of an image with room for what the CTF carries over its edges."""
        nyquist = 0.5 / self.voxel_size
        defocus = max(abs(f.defocus_angstrom) + abs(f.defocus_u_angstrom - f.defocus_v_angstrom) for f in self.fits)
        reach = self.optics.wavelength_angstrom * nyquist * defocus / self.voxel_size
        room = min(math.ceil(reach) + 8, max(image_shape) // 2)
        return good_size(image_shape[0] + room), good_size(image_shape[1] + room)

    def levels(self, tilt: int, depth_angstrom: float, image_shape: tuple[int, int], device: torch.device) -> Tensor:
        """Height of what each pixel sees at a depth in the specimen, in steps; (y or 1, x) float32."""
        x = (torch.arange(image_shape[1], dtype=torch.float32, device=device) - image_shape[1] // 2) * self.voxel_size
        if not self.by_height:
            return torch.zeros_like(x)[None]
        y_tilt, x_tilt = np.deg2rad(self.geometry.y_tilt_deg[tilt]), np.deg2rad(self.geometry.x_tilt_deg[tilt])
        tangent, cosine = math.tan(y_tilt), math.cos(y_tilt)
        height = depth_angstrom / (math.cos(x_tilt) * cosine) - x[None] * tangent
        if x_tilt:
            y = (torch.arange(image_shape[0], dtype=torch.float32, device=device) - image_shape[0] // 2)[:, None]
            height = height + y * self.voxel_size * (math.tan(x_tilt) / cosine)
        return height / self.step_angstrom

    def transfer(self, tilt: int, shape: tuple[int, int], device: torch.device) -> ContrastTransfer:
        """Transfer of one tilt at any height, on the rfft of an image of `shape`, damage by radiation included."""
        # the CTF belongs to the image as it was recorded, the damage to the specimen
        enlarged = float(self.geometry.magnification[tilt])
        return contrast_transfer(
            shape,
            enlarged * self.voxel_size,
            self.fits[tilt],
            self.optics,
            exposure=None if self.exposures is None else float(self.exposures[tilt]),
            b_factor_angstrom2=0.0 if self.signal is None else float(self.signal.b_factor_angstrom2[tilt]),
            signal_scale=1.0 if self.signal is None else float(self.signal.scale[tilt]),
            magnification=enlarged,
            turned_deg=-float(self.geometry.z_rot_deg[tilt]),
            device=device,
        )

    def apply(
        self, tilt: int, parts: Sequence[tuple[Tensor, Float[Tensor, "y x"]]], image_shape: tuple[int, int]
    ) -> Float[Tensor, "y x"]:
        """The image of projected slabs, each with the :meth:`levels` of its depth."""
        first, last = _range([where for where, _ in parts])
        device = parts[0][1].device
        shape = self.padded_shape(image_shape)
        spectrum = torch.zeros((shape[0], shape[1] // 2 + 1), dtype=torch.complex64, device=device)
        transfer = self.transfer(tilt, shape, device)
        for level in range(first, last + 1):
            share = torch.zeros(image_shape, dtype=torch.float32, device=device)
            for where, projection in parts:
                columns, weight = _blend(where, level)
                if columns is not None:
                    share[:, columns].addcmul_(weight.expand(image_shape[0], -1), projection[:, columns])
            spectrum += torch.fft.rfft2(share, s=shape).mul_(transfer.at(self.hand * self.step_angstrom * level))
        image: Tensor = torch.fft.irfft2(spectrum, s=shape)
        return image[: image_shape[0], : image_shape[1]]

    def apply_transposed(
        self, tilt: int, image: Float[Tensor, "y x"], where: Sequence[Tensor]
    ) -> list[Float[Tensor, "y x"]]:
        """Transpose of :meth:`apply`: what is smeared back into each slab."""
        first, last = _range(where)
        image_shape = (image.shape[0], image.shape[1])
        shape = self.padded_shape(image_shape)
        spectrum = torch.fft.rfft2(image, s=shape)
        out = [torch.zeros_like(image) for _ in where]
        transfer = self.transfer(tilt, shape, image.device)
        for level in range(first, last + 1):
            seen = torch.fft.irfft2(spectrum * transfer.at(self.hand * self.step_angstrom * level), s=shape)
            seen = seen[: image_shape[0], : image_shape[1]]
            for target, at in zip(out, where, strict=True):
                columns, weight = _blend(at, level)
                if columns is not None:
                    target[:, columns].addcmul_(weight.expand(image_shape[0], -1), seen[:, columns])
        return out


def check_steepness(geometry: TiltGeometry) -> None:
    """Refuse tilts at which an image shows all heights at once."""
    cosine = np.cos(np.deg2rad(geometry.y_tilt_deg)) * np.cos(np.deg2rad(geometry.x_tilt_deg))
    steepest = int(np.argmin(np.abs(cosine)))
    if abs(cosine[steepest]) < _LEAST_COSINE:
        raise InputError(
            f"An image is tilted by {geometry.y_tilt_deg[steepest]:.1f} degrees, where the CTF cannot follow the height. "
            "Leave out images beyond 85 degrees with --max-tilt-deg, or choose --no-ctf-by-height."
        )


def _blend(where: Float[Tensor, "y x"], level: int) -> tuple[slice | None, Float[Tensor, "y column"]]:
    """Columns with a share of a level, and the share; none where the level is out of reach."""
    weight = (1.0 - (where - level).abs()).clamp(min=0.0)
    seen = (weight > 0.0).any(0).nonzero().flatten()
    if not len(seen):
        return None, weight
    columns = slice(int(seen[0]), int(seen[-1]) + 1)
    return columns, weight[:, columns]


def _range(where: Sequence[Tensor]) -> tuple[int, int]:
    lowest = min(float(w.min()) for w in where)
    highest = max(float(w.max()) for w in where)
    return math.floor(lowest), math.ceil(highest)
