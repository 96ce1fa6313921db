"""Spots of a network's heat-maps: where they are, of which class, how strong."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree
from torch import Tensor

from eucentric.errors import InputError
from eucentric.networks.apply_network import apply_network
from eucentric.networks.prepare_volume import PreparedVolume
from eucentric.networks.unet import UNet
from eucentric.picking.find_peaks import local_maxima
from eucentric.picking.learned.params import PickerClass
from eucentric.typing import FloatArray

FLOOR = 0.03
"""Scores below it are no candidates: a spot of a thirtieth of a particle's."""
_WEAK = 2.0**1.5  # a spot smoothed with itself falls to 1 / this


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Objects:
    """Candidates, best first."""

    positions: FloatArray
    """(n, 3) z, y, x in voxels."""
    scores: FloatArray
    """(n,) 1 for a spot as in the training."""
    kinds: NDArray[np.int64]
    """(n,) number of the class."""

    def select(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> "Objects":
        """Some of them."""
        return Objects(positions=self.positions[rows], scores=self.scores[rows], kinds=self.kinds[rows])


def heat_maps(
    network: UNet, image: Float[Tensor, "z y x"], classes: int, *, flips: bool = True
) -> Float[Tensor, "class z y x"]:
    """Probability of each class at every voxel, the background left out; the mean of four half turns where asked for.

    Parameters
    ----------
    classes : of the network; its further channels are an embedding
    """
    turns: list[tuple[int, ...]] = [(), (-3, -2), (-3, -1), (-2, -1)] if flips else [()]
    total: Tensor | None = None
    for dims in turns:
        turned = image.flip(dims) if dims else image
        found = apply_network(network, turned[None], finish=lambda logits: logits[: 1 + classes].softmax(0)[1:])
        found = found.flip(dims) if dims else found
        total = found if total is None else total + found
    assert total is not None
    return total / len(turns)


def find_peaks(
    maps: Float[Tensor, "class z y x"],
    volume: PreparedVolume,
    classes: Sequence[PickerClass],
    sigmas: Sequence[float],
    *,
    distance: float,
) -> Objects:
    """The spots of all classes; of those that overlap the strongest.

    Parameters
    ----------
    sigmas : voxels, of each class's spot
    distance : least, in radii of the particles (their mean)

    Raises
    ------
    InputError : maps of another number of classes
    """
    if len(maps) != len(classes):
        raise InputError(f"The network gives {len(maps)} maps for {len(classes)} classes.")
    voxel = float(np.mean(volume.voxel_xyz))
    places, scores, kinds, radii = [], [], [], []
    for number, (kind, sigma) in enumerate(zip(classes, sigmas, strict=True)):
        smooth = ndimage.gaussian_filter(maps[number].cpu().numpy(), sigma, mode="constant") * _WEAK
        smooth[~volume.region.cpu().numpy()] = 0.0
        found, values = local_maxima(torch.from_numpy(smooth), 0.5 * kind.radius_angstrom / voxel, FLOOR)
        places.append(_refined(smooth, found))
        scores.append(values)
        kinds.append(np.full(len(values), number, dtype=np.int64))
        radii.append(np.full(len(values), 0.5 * distance * kind.radius_angstrom / voxel))
    position, score = np.concatenate(places), np.concatenate(scores)
    rows = _strongest(position, score, np.concatenate(radii))
    return Objects(positions=position[rows], scores=score[rows], kinds=np.concatenate(kinds)[rows])


def _strongest(positions: FloatArray, scores: FloatArray, radii: FloatArray) -> NDArray[np.int64]:
    """Rows kept, best first: each blanks all that are nearer than the sum of both radii."""
    if not len(positions):
        return np.zeros(0, dtype=np.int64)
    tree = cKDTree(positions)
    gone = np.zeros(len(positions), dtype=bool)
    kept = []
    for row in np.argsort(-scores, kind="stable"):
        if gone[row]:
            continue
        kept.append(row)
        near = np.array(tree.query_ball_point(positions[row], radii[row] + radii.max()))
        gap = np.linalg.norm(positions[near] - positions[row], axis=1)
        gone[near[gap < radii[near] + radii[row]]] = True
    return np.array(kept, dtype=np.int64)


def _refined(scores: NDArray[np.floating], places: NDArray[np.int64]) -> FloatArray:
    """Peaks between voxels: the vertex of a parabola along each axis."""
    out = places.astype(np.float64)
    for row, place in enumerate(places):
        for axis in range(3):
            if 0 < place[axis] < scores.shape[axis] - 1:
                step = np.zeros(3, dtype=np.int64)
                step[axis] = 1
                before, here, after = (float(scores[tuple(place + s * step)]) for s in (-1, 0, 1))
                bend = before - 2.0 * here + after
                if bend < 0:
                    out[row, axis] += np.clip(0.5 * (before - after) / bend, -0.5, 0.5)
    return out
