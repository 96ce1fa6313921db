"""What is said of how far a restored tomogram may be trusted: figures, curves for the report, and sentences."""

from typing import Any

import numpy as np
from torch import Tensor

from eucentric.compute.seeds import seeded_generator
from eucentric.denoising.learned.params import RestorerUse
from eucentric.denoising.learned.restore_volume import Measured, Restored, apply_restorer
from eucentric.denoising.learned.restorer import Restorer, coarse_shape
from eucentric.denoising.learned.standardise import measure_scale
from eucentric.denoising.trust.half_agreement import measure_half_agreement
from eucentric.denoising.trust.invented_power import check_invention

_BLOCKS = 12
_WITHHELD_BLOCKS = 6
_EATEN = 0.5  # of the signal's amplitude
_MADE_UP = 0.5  # of the power that a network adds

Told = tuple[dict[str, float], dict[str, Any], list[str]]
"""Figures, arrays and caveats."""


def trust_of_halves(
    restored: Restored, halves: tuple[Tensor, ...], measured: Measured, voxel: float, *, weighed: bool
) -> Told:
    """Agreement of what was made of two halves with the halves and with each other.

    Parameters
    ----------
    weighed : whether what the network took is given back from the raw tomogram
    """
    one, two = restored.outputs
    found = measure_half_agreement(one, two, halves[0], halves[1], measured, voxel, count=_BLOCKS)
    figures = {
        "raw_agreement_angstrom": found.raw_angstrom,
        "restored_agreement_angstrom": found.output_angstrom,
        "wedge_agreement_angstrom": found.wedge_angstrom,
    }
    raw, kept = found.raw.numpy(), found.kept.numpy()
    told = np.isfinite(kept) & (raw > 0.3)
    caveats = []
    if told.any():
        figures["signal_kept"] = float(np.average(kept[told], weights=raw[told]))
    eaten = told & (kept + 2.0 * found.kept_sigma.numpy() < _EATEN)
    if eaten.any() and not weighed:
        finest = 1.0 / float(found.frequency.numpy()[eaten].min())
        caveats.append(
            f"From {finest:.0f} A on, less than half of the signal that the halves have in common is left. Look at the raw tomogram "
            "for such detail."
        )
    added = found.added.numpy()
    made_up = told & np.isfinite(added) & (np.nan_to_num(added) > _MADE_UP)
    if made_up.any():
        caveats.append(
            f"Near {1.0 / float(found.frequency.numpy()[made_up].min()):.0f} A more than half of what the network gives is neither "
            "signal nor noise of the data: it adds detail of its own."
        )
    arrays = {
        "frequency": found.frequency.numpy(),
        **{
            name: getattr(found, name).numpy()
            for name in (
                "raw",
                "output",
                "wedge",
                "truth",
                "kept",
                "kept_sigma",
                "unsupported",
                "unsupported_sigma",
                "added",
                "raw_unsupported",
                "wedge_power",
            )
        },
    }
    if restored.weights is not None:
        arrays |= {
            "weight_frequency": restored.weights.frequencies / voxel,
            "weight_network": restored.weights.network,
            "weight_raw": restored.weights.raw,
        }
    return figures, arrays, caveats


def trust_of_wedge(
    restorer: Restorer,
    halves: tuple[Tensor, ...],
    measured: Measured,
    voxel: float,
    use: RestorerUse,
    factor: float | None,
    seed: int,
) -> Told:
    """What the network fills into a wedge that was measured, against what was measured there.

    Parameters
    ----------
    factor : of the voxels of the coarse run, if there is one
    """
    scale = measure_scale(halves[0])

    def apply(block: Tensor) -> Tensor:
        small = None if factor is None else coarse_shape(_three(block), factor)
        return apply_restorer(restorer, block, use.halo, measured, small)

    found = check_invention(
        apply,
        scale.apply(halves[0]),
        scale.apply(halves[1]),
        measured,
        voxel,
        count=_WITHHELD_BLOCKS,
        generator=seeded_generator(seed),
    )
    figures = {}
    for (coarse, fine), share, recovered in zip(
        found.bands_angstrom, found.invented.tolist(), found.recovered.tolist(), strict=True
    ):
        figures[f"invented_{coarse:.0f}_{fine:.0f}_angstrom"] = share
        figures[f"recovered_{coarse:.0f}_{fine:.0f}_angstrom"] = recovered
    arrays = {
        "bands": np.array(found.bands_angstrom),
        **{
            f"band_{name}": getattr(found, name).numpy()
            for name in (
                "correlation",
                "correlation_sigma",
                "invented",
                "invented_sigma",
                "filled",
                "recovered",
                "kept",
            )
        },
    }
    return figures, arrays, list(found.caveats)


def _three(volume: Tensor) -> tuple[int, int, int]:
    return volume.shape[0], volume.shape[1], volume.shape[2]
