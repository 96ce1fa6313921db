"""Training patches from the simulator: nothing needs to be labelled."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from eucentric.networks.params import AugmentParams
from eucentric.networks.prepare_volume import PreparedVolume, standardise
from eucentric.networks.vary_patch import vary_patch
from eucentric.picking.learned.params import PickerClass, PickerParams
from eucentric.picking.learned.training_patches import LabelledVolume, draw_spot, spot_sigma
from eucentric.simulation.specimen import Specimen
from eucentric.simulation.subvolumes import SubvolumeDataset, SubvolumeParams

_TILT_AXIS_DEG = 90.0
_MOST = 48  # particles of a box that the embedding is trained on


class SimulatedSource:
    """Batches by number, each a new place of the specimens, every particle labelled."""

    def __init__(
        self,
        specimens: Sequence[Specimen],
        class_of: Sequence[int],
        classes: Sequence[PickerClass],
        params: PickerParams,
        augment: AugmentParams,
        *,
        seed: int,
        count: int,
    ) -> None:
        """Boxes of specimens.

        Parameters
        ----------
        class_of : of each species of the specimens its class, -1 for one that is not to be found
        count : boxes there can be; `held_out` takes the last ones
        """
        about = SubvolumeParams(
            box_size=params.patch_size, voxel_size_angstrom=params.voxel_size_angstrom, turn="in-plane"
        )
        self._boxes = SubvolumeDataset(specimens, about, count=count, seed=seed)
        self._class_of, self._classes = np.asarray(class_of, dtype=np.int64), tuple(classes)
        self._params, self._augment, self._seed = params, augment, seed

    def batch(self, step: int) -> dict[str, Tensor]:
        """As :meth:`PatchSource.batch`; besides `places` (patch, n, 3) z, y, x and `species` (patch, n), -1 where none."""
        size = self._params.batch_size
        items = [self._patch(step * size + n) for n in range(size)]
        return {name: torch.stack([item[name] for item in items]) for name in items[0]}

    def held_out(self, count: int) -> list[LabelledVolume]:
        """Boxes that no step below the last `count` ones sees, not varied, none of their rows trained on."""
        out = []
        for index in range(len(self._boxes) - count, len(self._boxes)):
            box = self._boxes[index]
            image = _image(box, self._params.voxel_size_angstrom)
            kinds, places = self._labels(box)
            shape = (image.shape[0], image.shape[1], image.shape[2])
            prepared = PreparedVolume(
                image=image,
                region=torch.ones(shape, dtype=torch.bool),
                voxel_xyz=np.full(3, self._params.voxel_size_angstrom),
                start_zyx=(0, 0, 0),
                full_zyx=shape,
            )
            wanted = kinds >= 0
            out.append(
                LabelledVolume(
                    volume=prepared,
                    positions=places[wanted],
                    kinds=kinds[wanted],
                    negatives=np.zeros((0, 3)),
                    trained=np.zeros(shape[1], dtype=bool),
                )
            )
        return out

    def _labels(self, box: dict[str, Tensor]) -> tuple[np.ndarray, np.ndarray]:
        """Classes and z, y, x of the particles of a box."""
        species = box["kinds"].numpy()
        rows = species >= 0
        places = box["positions_px"].numpy()[rows][:, ::-1].astype(np.float64)
        return self._class_of[species[rows]], places

    def _patch(self, index: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([self._seed, index, 23])
        box = self._boxes[index]
        voxel = self._params.voxel_size_angstrom
        image = vary_patch(_image(box, voxel), voxel, _TILT_AXIS_DEG, self._augment, rng)
        kinds, places = self._labels(box)
        targets = np.zeros((len(self._classes), *image.shape), dtype=np.uint8)
        for kind, place in zip(kinds, places, strict=True):
            if kind >= 0:
                draw_spot(targets[kind], place, spot_sigma(self._classes[kind], self._params, voxel))
        species = box["kinds"][box["kinds"] >= 0][:_MOST]
        table = torch.full((_MOST,), -1, dtype=torch.long)
        table[: len(species)] = species
        middles = torch.zeros(_MOST, 3)
        middles[: len(species)] = torch.from_numpy(places[:_MOST].copy()).float()
        return {
            "images": image[None],
            "targets": torch.from_numpy(targets).float() / 255.0,
            "weights": torch.full(tuple(image.shape), 2, dtype=torch.uint8),
            "species": table,
            "places": middles,
        }


def _image(box: dict[str, Tensor], voxel: float) -> Tensor:
    return standardise(0.5 * (box["half1"] + box["half2"]), np.full(3, voxel))
