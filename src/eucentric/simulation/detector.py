r"""The camera: sensitivities, broken pixels, resolution, counts.

A camera that counts loses a part of the electrons and blurs the places of the others, but each count is whole: its noise
is white. So the expected counts carry the MTF, counts are drawn from them pixel by pixel, and with the part
:math:`q = \mathrm{DQE}(0)` of the electrons counted,
:math:`\mathrm{DQE}(k) = q\,\mathrm{MTF}^2(k)` [1]_.

Where electrons that share a pixel in one of n readouts count once, the counts of a frame with N expected are n draws of
the chance :math:`1 - e^{-N/n}` (coincidence loss) [2]_.

References
----------
.. [1] McMullan et al., Ultramicroscopy 147:156 (2014), doi:10.1016/j.ultramic.2014.08.002
.. [2] Li et al., Nat. Methods 10:584 (2013), doi:10.1038/nmeth.2472
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from eucentric.errors import InputError
from eucentric.simulation.params import SimulationParams
from eucentric.typing import FloatArray, ImageArray

_SUB_PIXELS = 4  # places of an electron within a pixel, each way


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModulationTransfer:
    """A camera's MTF as a table."""

    frequency: FloatArray
    """(n,), 1/pixel, ascending from near 0 to about 0.5; beyond its end the last value holds."""
    value: FloatArray
    """(n,)."""

    def __post_init__(self) -> None:
        if (
            len(self.frequency) < 2
            or self.frequency.shape != self.value.shape
            or not (np.diff(self.frequency) > 0).all()
            or self.value.min() < 0
            or self.frequency[-1] < 0.45
        ):
            raise InputError(
                "A table of an MTF needs frequencies that ascend to about 0.5 (1/pixel) and a value of at least 0 for each; "
                f"got {len(self.frequency)} up to {self.frequency[-1] if len(self.frequency) else 0:g}."
            )

    def at(self, frequency: FloatArray) -> FloatArray:
        """Values at frequencies in 1/pixel."""
        return np.asarray(np.interp(frequency, self.frequency, self.value))


def frequency_response(
    frequency: Float[Tensor, "*grid"], params: SimulationParams, mtf: ModulationTransfer | None
) -> Float[Tensor, "*grid"]:
    """Contrast that the camera keeps at frequencies in 1/pixel: its table, or a normal curve to `mtf_at_nyquist`."""
    if mtf is None:
        return torch.exp(math.log(params.mtf_at_nyquist) * (frequency / 0.5) ** 2)
    return torch.from_numpy(mtf.at(frequency.numpy())).to(frequency.dtype)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Detector:
    """One camera; arrays (y, x), rows upwards."""

    gain: ImageArray
    """Multiply a frame by it to make it flat; zero where the pixel is dead."""
    hot: NDArray[np.bool_]
    dead: NDArray[np.bool_]
    """Single pixels, and all those of dead rows and columns."""
    mtf: ModulationTransfer | None = None
    readouts_per_frame: int = 0
    """Electrons that share a pixel in a readout count once; 0 for a camera that loses none."""

    @classmethod
    def build(
        cls, params: SimulationParams, rng: np.random.Generator, mtf: ModulationTransfer | None = None
    ) -> "Detector":
        """Pixels of uneven sensitivity, striped columns, and broad shading that no turn or mirror leaves as it is."""
        columns, rows = params.image_size_px
        pixels = rng.normal(size=(rows, columns))
        stripes = rng.normal(size=(1, columns))
        shading = gaussian_filter(rng.normal(size=(rows, columns)), 0.15 * min(rows, columns), mode="nearest")
        y, x = np.mgrid[:rows, :columns]
        shading = shading / max(float(shading.std()), 1e-12) + 1.5 * (x / columns) - 0.8 * (y / rows)
        pattern = 0.75 * pixels + 0.35 * stripes + 0.5 * (shading - shading.mean()) / shading.std()
        sensitivity = np.clip(1.0 + params.gain_variation * pattern / pattern.std(), 0.4, 1.8)
        broken = rng.permutation(rows * columns)[: params.hot_pixels + params.dead_pixels]
        hot, dead = np.zeros((2, rows * columns), dtype=bool)
        hot[broken[: params.hot_pixels]] = True
        dead[broken[params.hot_pixels :]] = True
        hot, dead = hot.reshape(rows, columns), dead.reshape(rows, columns)
        for line in rng.permutation(rows + columns)[: params.dead_lines]:
            if line < rows:
                dead[line] = True
            else:
                dead[:, line - rows] = True
        gain = (sensitivity.mean() / sensitivity).astype(np.float32)
        gain[dead] = 0.0
        return cls(gain=gain, hot=hot & ~dead, dead=dead, mtf=mtf, readouts_per_frame=params.readouts_per_frame)

    def record(
        self, expected: Float[Tensor, "frame y x"], data_type: str, generator: torch.Generator
    ) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """Counts (frame, y, x) drawn for the electrons `expected` in each pixel; what overflows the type is cut."""
        struck = self._struck(expected)
        if self.readouts_per_frame:
            chance = -torch.expm1(-struck / self.readouts_per_frame)
            counts = torch.binomial(torch.full_like(chance, self.readouts_per_frame), chance, generator=generator)
        else:
            counts = torch.poisson(struck, generator=generator)
        kind = np.dtype(data_type)
        largest = int(np.iinfo(kind).max)
        counts[:, torch.from_numpy(self.hot)] = largest
        recorded: NDArray[np.uint8] | NDArray[np.uint16] = counts.clamp_max(largest).numpy().astype(kind)
        return recorded

    def count_events(self, expected: Float[Tensor, "frame y x"], generator: torch.Generator) -> list[NDArray[np.int64]]:
        """Electrons (n, 2) of each readout, all frames one after the other: y upwards and x in quarters of a pixel.

        Within a pixel every place is as likely. A hot pixel counts an electron in every readout.

        Raises
        ------
        InputError : a camera without readouts
        """
        if not self.readouts_per_frame:
            raise InputError("Single electrons need a number of readouts in each frame. Set readouts_per_frame.")
        hot = torch.from_numpy(self.hot)
        events = []
        for frame in self._struck(expected):
            chance = -torch.expm1(-frame / self.readouts_per_frame)
            chance[hot] = 1.0
            for _ in range(self.readouts_per_frame):
                seen = (torch.rand(chance.shape, generator=generator) < chance).nonzero()
                place = torch.randint(_SUB_PIXELS, seen.shape, generator=generator)
                events.append((_SUB_PIXELS * seen + place).numpy())
        return events

    def _struck(self, expected: Float[Tensor, "frame y x"]) -> Float[Tensor, "frame y x"]:
        """Electrons that uneven pixels would see."""
        sensitivity = torch.from_numpy(np.divide(1.0, self.gain, out=np.zeros_like(self.gain), where=self.gain > 0))
        return expected.clamp_min(0.0) * sensitivity
