r"""Every object as a point on a sphere: objects of one kind lie near each other, whether the network ever saw that kind or not.

The network gives each voxel, beside the odds of an object's middle, a vector. Training on many simulated kinds draws
the vector in the middle of an object towards the one of its kind and away from those of others (normalised softmax [1]_);
the idea of finding proteins that way is TomoTwin's [2]_.

References
----------
.. [1] Wang et al., ACM Multimedia 2017, doi:10.1145/3123266.3123359
.. [2] Rice et al., Nat. Methods 20:871 (2023), doi:10.1038/s41592-023-01878-z
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from torch import Tensor, nn
from torch.nn import functional

from eucentric.errors import InputError
from eucentric.networks.apply_network import visit_network
from eucentric.networks.train_network import Batch
from eucentric.networks.unet import UNet
from eucentric.typing import FloatArray

DIMENSIONS = 32
_TEMPERATURE = 0.1
_SHARE = 0.5  # of the loss that is the embedding's


class EmbeddingTrainer(nn.Module):
    """A network of 2 + 32 channels with a direction for every kind it is trained on; these are left behind afterwards."""

    def __init__(self, network: UNet, kinds: int, seed: int) -> None:
        super().__init__()
        self.network = network
        generator = torch.Generator().manual_seed(seed)
        self.directions = nn.Parameter(torch.randn(kinds, DIMENSIONS, generator=generator))

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.network(images)
        return out


def embedding_loss(spot_loss: Callable[[Tensor, Batch], Tensor]) -> Callable[[nn.Module, Batch], Tensor]:
    """Of the spots, and of telling the kinds apart.

    Parameters
    ----------
    spot_loss : of logits (patch, 2, z, y, x)
    """

    def loss_of(trainer: nn.Module, batch: Batch) -> Tensor:
        assert isinstance(trainer, EmbeddingTrainer)
        out = trainer(batch["images"]).float()
        species, places = batch["species"], batch["places"]
        patch, row = (species >= 0).nonzero(as_tuple=True)
        loss = spot_loss(out[:, :2], batch)
        if not len(patch):
            return loss
        z, y, x = places[patch, row].round().long().clamp(0, out.shape[-1] - 1).T
        vectors = functional.normalize(out[patch, 2:, z, y, x], dim=1)
        odds = vectors @ functional.normalize(trainer.directions.float(), dim=1).T / _TEMPERATURE
        return (1.0 - _SHARE) * loss + _SHARE * functional.cross_entropy(odds, species[patch, row])

    return loss_of


def embed_places(
    network: UNet, image: Float[Tensor, "z y x"], places: FloatArray, *, tile: int | None = None
) -> FloatArray:
    """(place, 32) unit vectors of objects at (place, 3) z, y, x in voxels: means over 27 voxels.

    Raises
    ------
    InputError : a place outside of the volume
    """
    middles = np.rint(places).astype(np.int64).reshape(-1, 3)
    shape = np.array(image.shape)
    if ((middles < 0) | (middles >= shape)).any():
        bad = int(((middles < 0) | (middles >= shape)).any(1).sum())
        raise InputError(f"{bad} of {len(middles)} places lie outside of the tomogram. Check their coordinates.")
    steps = np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1], [-1, 0, 1], indexing="ij"), -1).reshape(1, -1, 3)
    around = np.clip(middles[:, None] + steps, 0, shape - 1)
    total = torch.zeros(len(middles), DIMENSIONS)

    def read(found: Tensor, where: tuple[slice, ...]) -> None:
        low = np.array([s.start for s in where])
        high = np.array([s.stop for s in where])
        inside = ((around >= low) & (around < high)).all(2)
        rows, _ = np.nonzero(inside)
        if len(rows):
            z, y, x = (torch.from_numpy(v) for v in (around[inside] - low).T.copy())
            vectors = functional.normalize(found[2:, z, y, x], dim=0).T.cpu()
            total.index_add_(0, torch.from_numpy(rows), vectors)

    visit_network(network, image[None], read, tile=tile)
    return functional.normalize(total, dim=1).double().numpy()


def similarities(vectors: FloatArray, examples: FloatArray) -> FloatArray:
    """(object,) cosine of the angle to the mean of some examples.

    Raises
    ------
    InputError : no example
    """
    if not len(examples):
        raise InputError("No example was given. Give the place of one object at least.")
    mean = examples.mean(0)
    return np.asarray(vectors @ (mean / max(float(np.linalg.norm(mean)), 1e-12)))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Clusters:
    """Objects alike."""

    numbers: NDArray[np.int64]
    """(object,) from 1, the largest cluster first."""
    tightness: FloatArray
    """(cluster,) mean cosine of its objects to their mean."""


def cluster_objects(vectors: FloatArray, *, count: int | None = None, likeness: float = 0.7) -> Clusters:
    """Average linkage of unit vectors.

    Parameters
    ----------
    count : of clusters; where None objects stay apart that are less alike than `likeness`
    likeness : mean cosine between the objects of a cluster, -1 to 1

    Raises
    ------
    InputError : more clusters than objects
    """
    if count is not None and not 1 <= count <= len(vectors):
        raise InputError(f"{count} clusters of {len(vectors)} objects were asked for; expected 1 to {len(vectors)}.")
    if len(vectors) < 2:
        return Clusters(numbers=np.ones(len(vectors), dtype=np.int64), tightness=np.ones(len(vectors)))
    tree = linkage(vectors, method="average", metric="cosine")
    by_distance = count is None
    raw = fcluster(tree, 1.0 - likeness if count is None else count, "distance" if by_distance else "maxclust")
    names, sizes = np.unique(raw, return_counts=True)
    order = names[np.argsort(-sizes, kind="stable")]
    numbers = np.array([int(np.flatnonzero(order == n)[0]) + 1 for n in raw], dtype=np.int64)
    tight = []
    for number in range(1, len(order) + 1):
        own = vectors[numbers == number]
        tight.append(float(np.linalg.norm(own.mean(0))))
    return Clusters(numbers=numbers, tightness=np.array(tight))
