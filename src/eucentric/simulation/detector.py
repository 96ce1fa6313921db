"""The camera: sensitivities, broken pixels, counts."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from eucentric.simulation.params import SimulationParams
from eucentric.typing import ImageArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Detector:
    """One camera; arrays (y, x), rows upwards."""

    gain: ImageArray
    """Multiply a frame by it to make it flat; zero where the pixel is dead."""
    hot: NDArray[np.bool_]
    dead: NDArray[np.bool_]

    @classmethod
    def build(cls, params: SimulationParams, rng: np.random.Generator) -> "Detector":
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
        gain = (sensitivity.mean() / sensitivity).astype(np.float32)
        gain[dead] = 0.0
        return cls(gain=gain, hot=hot, dead=dead)

    def record(
        self, expected: Float[Tensor, "frame y x"], data_type: str, generator: torch.Generator
    ) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """Counts (frame, y, x) drawn for the electrons `expected` in each pixel; what overflows the type is cut."""
        sensitivity = torch.from_numpy(np.divide(1.0, self.gain, out=np.zeros_like(self.gain), where=self.gain > 0))
        counts = torch.poisson(expected.clamp_min(0.0) * sensitivity, generator=generator)
        kind = np.dtype(data_type)
        largest = int(np.iinfo(kind).max)
        counts[:, torch.from_numpy(self.hot)] = largest
        recorded: NDArray[np.uint8] | NDArray[np.uint16] = counts.clamp_max(largest).numpy().astype(kind)
        return recorded
