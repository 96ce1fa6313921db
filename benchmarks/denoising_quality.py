"""How near filters come to a specimen that is known: `python benchmarks/denoising_quality.py [SERIES] [method ...]`.

A practice series (TS_01 where not given) is reconstructed by weighted back-projection with flipped phases, true geometry
given, whole and in halves of frames. Each filter has its own defaults. The correlation with the true density counts detail
of 20 to 200 A; the contrast is that of matter over the ground, in spreads of the ground, of the volume as it is and in that
band. Gold beads are not in the truth.
"""

import sys
import time
from dataclasses import replace
from typing import get_args

import numpy as np
import torch
import torch.nn.functional as functional

from eucentric.denoising.choose_filter import Transferred, prepare_filter
from eucentric.denoising.estimate_noise import estimate_noise
from eucentric.denoising.params import DenoiseParams, Method
from eucentric.fourier import band_pass, frequency_grid
from eucentric.reconstruction import ReconstructParams
from eucentric.signal.tiles import filter_volume
from reconstruction_accuracy import practice_series

VOXEL, PLANES = 8.0, 128
BAND = (20.0, 200.0)
SCORED = (slice(8, 120), slice(96, 288), slice(96, 288))
MEASURED = (slice(0, 128), slice(112, 272), slice(112, 272))


def in_band(volume: torch.Tensor) -> torch.Tensor:
    """Detail of 20 to 200 A."""
    keep = band_pass(frequency_grid(tuple(volume.shape), VOXEL), low_pass_angstrom=BAND[0], high_pass_angstrom=BAND[1])
    return torch.fft.irfftn(torch.fft.rfftn(volume - volume.mean()) * keep, s=volume.shape)


class Score:
    """Of volumes with dark matter, against a bright truth."""

    def __init__(self, truth: torch.Tensor) -> None:
        self.truth = -in_band(truth)[SCORED]
        self.matter = self.truth < -2.0 * self.truth.std()
        near = functional.max_pool3d((truth > 0.02 * truth.max()).float()[None, None], 7, 1, 3)[0, 0]
        self.ground = near[SCORED] == 0

    def contrast(self, volume: torch.Tensor) -> float:
        """Of matter, in spreads of the ground."""
        ground = volume[self.ground]
        return float((ground.mean() - volume[self.matter].mean()) / ground.std())

    def __call__(self, volume: torch.Tensor) -> tuple[float, float, float]:
        """Correlation, contrast, contrast in the band."""
        band = in_band(volume)[SCORED]
        correlation = torch.corrcoef(torch.stack([band.reshape(-1), self.truth.reshape(-1)]))[0, 1]
        return float(correlation), self.contrast(volume[SCORED]), self.contrast(band)


def main(name: str, methods: list[Method]) -> None:
    """Print a table."""
    series = practice_series(name, voxel_size=VOXEL, planes=PLANES)
    assert series.halves is not None
    assert series.optics.fits is not None
    params = ReconstructParams(method="wbp", ctf_correction="flip")
    one, two = (replace(series, images=images).reconstruct(params) for images in series.halves)
    volume = one + two
    noise = estimate_noise(volume[MEASURED], one[MEASURED], two[MEASURED])
    fits = [f for f, t in zip(series.optics.fits, series.geometry.y_tilt_deg, strict=True) if abs(t) <= 20.0]
    contrast = Transferred(
        optics=series.optics.optics,
        defocus_angstrom=float(np.median([f.defocus_angstrom for f in fits])),
        phase_shift_deg=0.0,
        transfer="flipped",
    )
    score = Score(series.truth)
    print(f"{name}: noise {noise.sigma:.4f}, volume {float(volume.std()):.4f}")
    plain = score(volume)
    print(f"{'none':12s} correlation {plain[0]:.3f}, contrast {plain[1]:.2f}, in the band {plain[2]:.2f}")
    for method in methods:
        start = time.process_time()
        made = prepare_filter(DenoiseParams(method=method), VOXEL, noise, contrast)
        out = made.whole(volume) if made.whole else filter_volume(volume, made.kernel, made.halo)
        spent, found = time.process_time() - start, score(out)
        times = f"{found[0] / plain[0]:.2f} times"
        print(
            f"{method:12s} correlation {found[0]:.3f} ({times}), contrast {found[1]:.2f}, in the band {found[2]:.2f}; {spent:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    torch.set_num_threads(1)
    words = sys.argv[1:]
    chosen = words.pop(0) if words and words[0].startswith("TS_") else "TS_01"
    main(chosen, words or list(get_args(Method)))
