"""What a segmenter is trained on: tomograms of which some voxels are labelled, and patches of them by number."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from eucentric.errors import InputError
from eucentric.networks.params import AugmentParams
from eucentric.networks.prepare_volume import PreparedVolume
from eucentric.networks.vary_patch import vary_patch
from eucentric.typing import FloatArray

Axis = Literal["z", "y", "x"]
AXES: tuple[Axis, ...] = ("z", "y", "x")
_TILT_AXIS_DEG = 90.0  # the tilt axis of tomograms is y
_COVERED = 0.45  # of what one labelled slice covers of a voxel: a slice half-way between two voxels counts for both
_FEWEST_SLICES = 4  # below, parts of slices are held out
_MOST_PLACES = 20_000  # of a class in a volume, that patches may lie on


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelledVolume:
    """A prepared tomogram, what is known of it, and what of that is trained on."""

    volume: PreparedVolume
    classes: Bool[Tensor, "class z y x"]
    """False where nothing is known."""
    known: Bool[Tensor, "z y x"]
    trained: Bool[Tensor, "z y x"]
    """Part of the known; the rest is held out."""
    slices: tuple[tuple[int, int, int], ...] = ()
    """Of each labelled slice its axis and its first and last plane; none where the labels are of the whole."""

    @property
    def held_out(self) -> Bool[Tensor, "z y x"]:
        """Known and not trained on."""
        return self.known & ~self.trained


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledSlices:
    """Which slices of a volume are labelled."""

    axis: Axis
    """That they lie across."""
    numbers: tuple[int, ...]
    """From 0."""


def find_slices(labels: NDArray[np.integer]) -> LabelledSlices:
    """Slices with any label, across the axis along which fewest are: painted sections cross all slices of the other two.

    Parameters
    ----------
    labels : (z, y, x), 0 where nothing was labelled

    Raises
    ------
    InputError : no label
    """
    if not labels.any():
        raise InputError("The labels are 0 everywhere: there is nothing to learn. Check that it is the right file.")
    hit = [np.flatnonzero(labels.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    share = [len(found) / n for found, n in zip(hit, labels.shape, strict=True)]
    axis = int(np.argmin(share))
    return LabelledSlices(axis=AXES[axis], numbers=tuple(hit[axis].tolist()))


def known_voxels(shape: tuple[int, int, int], slices: Sequence[LabelledSlices]) -> NDArray[np.bool_]:
    """(z, y, x) voxels of slices.

    Raises
    ------
    InputError : slices outside of the volume
    """
    known = np.zeros(shape, dtype=bool)
    for part in slices:
        axis = AXES.index(part.axis)
        outside = [n for n in part.numbers if not 0 <= n < shape[axis]]
        if outside:
            raise InputError(
                f"Slice {outside[0]} along {part.axis} is said to be labelled; the tomogram has slices 0 to {shape[axis] - 1}."
            )
        np.moveaxis(known, axis, 0)[list(part.numbers)] = True
    return known


def label_volume(
    prepared: PreparedVolume,
    labels: Int[Tensor, "z y x"],
    known: Bool[Tensor, "z y x"],
    numbers: Sequence[Sequence[int]],
    voxel_size: float,
    slices: Sequence[LabelledSlices] = (),
) -> LabelledVolume:
    """Labels at the sampling of a prepared tomogram: a voxel is of a class where half of its labelled part is.

    Parameters
    ----------
    labels, known : at the tomogram's own sampling
    numbers : of each class, those in the labels
    voxel_size : A, of the tomogram
    slices : that `known` is made of; none where it is the whole
    """
    shape = (labels.shape[0], labels.shape[1], labels.shape[2])
    weights = _averages(prepared, shape, voxel_size)
    covered = _averaged(known.float(), weights)
    region = prepared.region.cpu()
    there = (covered >= _COVERED * min(1.0, voxel_size / float(prepared.voxel_xyz.max()))) & region
    classes = []
    for own in numbers:
        mask = torch.isin(labels, torch.tensor(list(own), dtype=labels.dtype)) & known
        classes.append((_averaged(mask.float(), weights) >= 0.5 * covered) & there)
    planes = []
    for part in slices:
        axis = AXES.index(part.axis)
        places, share = weights[axis]
        for number in part.numbers:
            covering = np.flatnonzero(((places == number) & (share > 0)).any(1))
            if len(covering):
                planes.append((axis, int(covering[0]), int(covering[-1])))
    return LabelledVolume(
        volume=prepared, classes=torch.stack(classes), known=there, trained=there.clone(), slices=tuple(planes)
    )


def _averages(
    prepared: PreparedVolume, shape: tuple[int, int, int], voxel_size: float
) -> list[tuple[NDArray[np.int64], FloatArray]]:
    """For each axis (plane, n): the tomogram's planes that each prepared one covers, and how much of it each covers."""
    out = []
    for n, m, step, start, full in zip(
        shape, prepared.image.shape, prepared.voxel_xyz[::-1], prepared.start_zyx, prepared.full_zyx, strict=True
    ):
        ratio = float(step) / voxel_size
        middle = (np.arange(m) + start - full // 2) * ratio + n // 2
        low, high = middle - 0.5 * ratio, middle + 0.5 * ratio
        places = np.floor(low + 0.5).astype(np.int64)[:, None] + np.arange(int(np.ceil(ratio)) + 1)
        part = np.minimum(places + 0.5, high[:, None]) - np.maximum(places - 0.5, low[:, None])
        part = np.where(part > 1e-6, part, 0.0) / ratio * ((places >= 0) & (places < n))
        out.append((np.clip(places, 0, n - 1), part))
    return out


def _averaged(volume: Float[Tensor, "z y x"], weights: Sequence[tuple[NDArray[np.int64], FloatArray]]) -> Tensor:
    for axis, (places, part) in enumerate(weights):
        form = [1, 1, 1]
        form[axis] = -1
        total: Tensor | None = None
        for column, share in zip(places.T, part.T, strict=True):
            if share.any():
                weight = torch.from_numpy(share.astype(np.float32)).reshape(form)
                one = volume.index_select(axis, torch.from_numpy(column.copy())) * weight
                total = one if total is None else total + one
        assert total is not None
        volume = total
    return volume


def hold_out(volumes: Sequence[LabelledVolume], share: float) -> str:
    """Take a share of the labels out of the training, in place.

    Where four or more slices are labelled, slices beside each other; else one end of each slice or tomogram, along y, or along x where
    the labels have hardly any extent in y.

    Returns
    -------
    what is held out, in words; empty where there is no room for it
    """
    slices = [(volume, one) for volume in volumes for one in volume.slices]
    if len(slices) >= _FEWEST_SLICES and all(volume.slices for volume in volumes):
        count = max(1, round(share * len(slices)))
        there = torch.stack([_plane(volume.classes, *one).flatten(1).any(1) for volume, one in slices]).int()
        for first in range(len(slices) - count, -1, -1):
            own = there[first : first + count].sum(0)
            if bool((own > 0).all()) and bool((there.sum(0) > own).all()):
                for volume, one in slices[first : first + count]:
                    _plane(volume.trained[None], *one).fill_(False)
                return f"{count} of {len(slices)} labelled slices"
    done = [_hold_out_end(volume, share) for volume in volumes]
    if not any(done):
        return ""
    return "one end of each labelled slice" if slices else "one end of each labelled tomogram"


def _plane(volumes: Tensor, axis: int, first: int, last: int) -> Tensor:
    """A view of planes of (class, z, y, x)."""
    return volumes.narrow(1 + axis, first, last + 1 - first)


def _hold_out_end(volume: LabelledVolume, share: float) -> bool:
    """The end that holds `share` of what is known, moved so that some of each class is in it, and half of each at most."""
    known = volume.known
    spread = [float(known.any(0).any(1 - side).float().mean()) for side in (0, 1)]
    axis = 1 if spread[0] >= 0.5 * spread[1] else 2
    others = (0, 3 - axis)
    rows = known.any(others[1]).any(0).nonzero().flatten()
    if len(rows) < 2:
        return False
    border = _row_below(known.sum(others), 1.0 - share)
    counts = [part.sum(others) for part in volume.classes if int(part.any(others[1]).any(0).sum()) > 1]
    if counts:
        border = min([border, *(_row_below(count, 1.0 - 0.5 * share) for count in counts)])
        border = max([border, *(_row_below(count, 0.5) for count in counts)])
    border = min(max(border, int(rows[0]) + 1), int(rows[-1]))
    volume.trained.narrow(axis, border, known.shape[axis] - border).fill_(False)
    return True


def _row_below(counts: Tensor, share: float) -> int:
    """First row that has so large a share of what is counted before it."""
    before = counts.double().cumsum(0)
    return int((before < share * before[-1]).sum()) + 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Places:
    """Of a volume, where patches may lie."""

    volume: LabelledVolume
    of_class: tuple[NDArray[np.int64], ...]
    """Of each class (place, 3)."""
    anywhere: NDArray[np.int64]


class LabelledPatches:
    """Batches by number, each the same whenever it is asked for."""

    def __init__(
        self,
        volumes: Sequence[LabelledVolume],
        classes: Sequence[str],
        augment: AugmentParams,
        *,
        patch_size: int,
        batch_size: int,
        label_share: float,
        seed: int,
    ) -> None:
        """Look for places.

        Raises
        ------
        InputError : a class without a label to train on, or one that fills all that is labelled
        """
        self._augment, self._size, self._batch_size = augment, patch_size, batch_size
        self._share, self._seed = label_share, seed
        self._voxel = float(np.mean(volumes[0].volume.voxel_xyz))
        rng = np.random.default_rng([seed, 51])
        self._places = []
        for one in volumes:
            if bool(one.trained.any()):
                of_class = tuple(_some_places(part & one.trained, rng) for part in one.classes)
                self._places.append(_Places(volume=one, of_class=of_class, anywhere=_some_places(one.trained, rng)))
        for number, name in enumerate(classes):
            if not any(len(p.of_class[number]) for p in self._places):
                raise InputError(f"No label of {name} is left to train on. Give more labels, or hold out fewer.")
            if not any(bool((p.volume.trained & ~p.volume.classes[number]).any()) for p in self._places):
                raise InputError(
                    f"The labels of {name} fill everything that is labelled: there is nothing to tell apart. "
                    "Label also what is not of the class, or leave parts of the slices unlabelled."
                )
        self._count = len(classes)

    def batch(self, step: int) -> dict[str, Tensor]:
        """`images` (patch, 1, z, y, x), `targets` (patch, class, z, y, x) 0 or 1, `known` (patch, z, y, x)."""
        items = [self._patch(step * self._batch_size + n) for n in range(self._batch_size)]
        return {
            "images": torch.stack([image for image, _, _ in items])[:, None],
            "targets": torch.stack([target for _, target, _ in items]).float(),
            "known": torch.stack([known for _, _, known in items]),
        }

    def _patch(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        rng = np.random.default_rng([self._seed, number, 52])
        volume, middle = self._middle(rng, number)
        corner = middle - self._size // 2
        parts = cut_patch(volume, volume.trained, corner, self._size)
        quarter = int(rng.integers(2))
        flips = [axis for axis in (-3, -2, -1) if rng.random() < 0.5]
        image, target, known = (torch.rot90(part, quarter, dims=(-1, -2)).flip(flips) for part in parts)
        image = vary_patch(image, self._voxel, _TILT_AXIS_DEG + 90.0 * quarter, self._augment, rng)
        return image, target, known

    def _middle(self, rng: np.random.Generator, number: int) -> tuple[LabelledVolume, NDArray[np.int64]]:
        jitter = rng.integers(-self._size // 3, self._size // 3 + 1, 3)
        if rng.random() < self._share:
            kind = number % self._count  # classes in turn
            having = [p for p in self._places if len(p.of_class[kind])]
            chosen = having[int(rng.integers(len(having)))]
            place = chosen.of_class[kind]
        else:
            chosen = self._places[int(rng.integers(len(self._places)))]
            place = chosen.anywhere
        return chosen.volume, place[int(rng.integers(len(place)))] + jitter


def held_out_patches(
    volumes: Sequence[LabelledVolume], patch_size: int, most: int, seed: int
) -> list[dict[str, Tensor]]:
    """Batches of one patch, as they are, to judge a training by: on what was held out of it, classes in turn."""
    rng = np.random.default_rng([seed, 53])
    out = []
    kinds = [*range(len(volumes[0].classes)), None]
    places = {
        kind: [
            (v, place)
            for v in volumes
            for place in _some_places(v.held_out if kind is None else v.classes[kind] & v.held_out, rng, most)
        ]
        for kind in kinds
    }
    for number in range(most):
        rows = places[kinds[number % len(kinds)]]
        if rows:
            volume, place = rows[int(rng.integers(len(rows)))]
            image, target, known = cut_patch(volume, volume.held_out, place - patch_size // 2, patch_size)
            out.append({"images": image[None, None], "targets": target[None].float(), "known": known[None]})
    return out


def cut_patch(
    volume: LabelledVolume, known: Bool[Tensor, "z y x"], corner: NDArray[np.int64], size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """A cube of the image, of the classes and of what is known; beyond the volume the image is 0 and nothing is known."""
    image, classes = volume.volume.image, volume.classes
    into, source = [], []
    for first, n in zip(corner.tolist(), image.shape, strict=True):
        low, high = min(max(0, first), n), max(0, min(n, first + size))
        source.append(slice(low, max(low, high)))
        into.append(slice(low - first, max(low, high) - first))
    found = image.new_zeros(size, size, size)
    target = classes.new_zeros(len(classes), size, size, size)
    sure = known.new_zeros(size, size, size)
    found[tuple(into)] = image[tuple(source)]
    target[(slice(None), *into)] = classes[(slice(None), *source)]
    sure[tuple(into)] = known[tuple(source)]
    return found, target, sure


def _some_places(mask: Tensor, rng: np.random.Generator, most: int = _MOST_PLACES) -> NDArray[np.int64]:
    """(place, 3) of voxels that are true, so many at most."""
    rows = mask.flatten().nonzero().flatten().numpy()
    if len(rows) > most:
        rows = rng.choice(rows, most, replace=False)
    return np.stack(np.unravel_index(rows, tuple(mask.shape)), 1).astype(np.int64)
