"""Motion of single objects within an exposure: smooth random fields in the image, and images displaced by them.

Objects that are near each other in the image move alike. Each field is a sum of plane waves whose frequencies are drawn
from a normal distribution, so that displacements at a distance r correlate as ``exp(-r^2 / (2 length^2))``.
"""

import math
from dataclasses import dataclass
from typing import Any, Self

import numba
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.geometry import centre_index
from eucentric.typing import FloatArray

_WAVES = 24
_COARSE = 16  # pixels between the places where a field is worked out; it is straight between
_TAPS = 12
_PHASES = 1024


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LocalMotion:
    """Displacements beside those of the whole image, which are `Acquisition.motion_angstrom`."""

    waves_per_angstrom: FloatArray
    """(tilt, wave, 2), x and y."""
    phases: FloatArray
    """(tilt, wave), radians."""
    amplitudes_angstrom: FloatArray
    """(tilt, frame, wave, 2), x and y; the mean over frames is zero."""

    @classmethod
    def draw(cls, tilts: int, frames: int, rms: float, length: float, rng: np.random.Generator) -> Self:
        """Another field for every exposure, fast at first.

        Parameters
        ----------
        rms : A, of x and of y, from the beginning to the end of an exposure
        length : A over which motion changes
        """
        waves = rng.normal(size=(tilts, _WAVES, 2)) / (2 * np.pi * length)
        phases = rng.uniform(0, 2 * np.pi, (tilts, _WAVES))
        ends = rng.normal(size=(tilts, 1, _WAVES, 2)) * rms * math.sqrt(2.0 / _WAVES)
        time = (np.arange(frames) + 0.5) / frames
        course = (1.0 - np.exp(-3.0 * time)) / (1.0 - math.exp(-3.0))
        moved = ends * (course - course.mean())[None, :, None, None]
        return cls(waves_per_angstrom=waves, phases=phases, amplitudes_angstrom=moved)

    def at(self, tilt: int, places: FloatArray) -> FloatArray:
        """Displacements (frame, n, 2) in A of what a tilt shows at places (n, 2), x and y in A from the image centre."""
        angle = 2 * np.pi * places @ self.waves_per_angstrom[tilt].T + self.phases[tilt]
        return np.asarray(np.einsum("nw,fwc->fnc", np.cos(angle), self.amplitudes_angstrom[tilt]))

    def displaced(self, image: Float[Tensor, "y x"], tilt: int, frame: int, pixel_size: float) -> Float[Tensor, "y x"]:
        """An image in which everything is where this frame shows it; what comes in from outside is made up."""
        rows, columns = image.shape
        nodes = [(np.arange(n // _COARSE + 2) * _COARSE - centre_index(n)) * pixel_size for n in (rows, columns)]
        places = np.stack(np.meshgrid(nodes[1], nodes[0]), axis=-1)
        angle = 2 * np.pi * places @ self.waves_per_angstrom[tilt].T + self.phases[tilt]
        field = np.cos(angle) @ self.amplitudes_angstrom[tilt][frame] / pixel_size
        kernel = _kernel_table()
        once = _warp(image.numpy(), np.ascontiguousarray(field[..., 0]), kernel)
        twice = _warp(np.ascontiguousarray(once.T), np.ascontiguousarray(field[..., 1].T), kernel)
        return torch.from_numpy(np.ascontiguousarray(twice.T))


def _kernel_table() -> FloatArray:
    """(phase, tap), a sinc under a Kaiser window: 0.1% of error to 0.8 of the Nyquist frequency."""
    offset = np.arange(_TAPS) - (_TAPS // 2 - 1) - (np.arange(_PHASES)[:, None] + 0.5) / _PHASES
    half = 0.5 * _TAPS
    window = np.i0(7.0 * np.sqrt(np.clip(1.0 - (offset / half) ** 2, 0.0, 1.0))) / np.i0(7.0)
    table = np.sinc(offset) * window
    return np.asarray(table / table.sum(1, keepdims=True))


def _warp_loop(image: Any, field: Any, kernel: Any) -> Any:
    """Move along the last axis by `field` (pixels, given every 16 pixels)."""
    rows, columns = image.shape
    out = np.empty_like(image)
    phases, taps = kernel.shape
    line = np.empty(field.shape[1])
    for y in range(rows):
        node = y // _COARSE
        part = y / _COARSE - node
        for i in range(field.shape[1]):
            line[i] = field[node, i] * (1.0 - part) + field[node + 1, i] * part
        for x in range(columns):
            node = x // _COARSE
            part = x / _COARSE - node
            place = x - (line[node] * (1.0 - part) + line[node + 1] * part)
            base = int(np.floor(place))
            first = base - (taps // 2 - 1)
            phase = min(int((place - base) * phases), phases - 1)
            total = 0.0
            for tap in range(taps):
                total += kernel[phase, tap] * image[y, min(max(first + tap, 0), columns - 1)]
            out[y, x] = total
    return out


_warp = numba.njit(cache=True, nogil=True)(_warp_loop)
