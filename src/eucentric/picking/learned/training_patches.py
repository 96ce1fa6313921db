"""What a picker is trained on: labelled volumes, their spots, and patches of both by number."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from eucentric.errors import InputError
from eucentric.networks.params import AugmentParams
from eucentric.networks.prepare_volume import PreparedVolume
from eucentric.networks.vary_patch import turn_patch, vary_patch
from eucentric.picking.learned.params import PickerClass, PickerParams
from eucentric.typing import FloatArray

_NEGATIVE_SHARE = 0.4  # of the patches that are not about labels, where negatives were given
_NEGATIVE_WEIGHT = 5.0
_NEGATIVE_RADIUS = 0.5  # of the largest radius
_KNOWN = 1.6  # radii around a label within which everything is known
_REACH = 4.0  # standard deviations of a spot
_TILT_AXIS_DEG = 90.0  # the tilt axis of tomograms is y


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelledVolume:
    """A prepared tomogram and where particles lie in it."""

    volume: PreparedVolume
    positions: FloatArray
    """(label, 3) z, y, x in voxels."""
    kinds: NDArray[np.int64]
    """(label,) number of the class."""
    negatives: FloatArray
    """(negative, 3) z, y, x in voxels: places without a particle."""
    trained: NDArray[np.bool_]
    """(y,) rows that are trained on; the others calibrate."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Copy:
    """A labelled volume turned about z, with its targets."""

    image: Tensor
    targets: Tensor
    """(class, z, y, x) uint8, 255 in the middle of a spot."""
    weights: Tensor
    """(z, y, x) uint8: 0 not judged, 1 unlabelled, 2 known, 3 a given negative."""
    anchors: tuple[NDArray[np.int64], ...]
    """Of each class, places of labels."""
    negatives: NDArray[np.int64]
    anywhere: NDArray[np.int64]
    turn_deg: float


class PatchSource:
    """Batches by number, each the same whenever it is asked for."""

    def __init__(
        self,
        volumes: Sequence[LabelledVolume],
        classes: Sequence[PickerClass],
        params: PickerParams,
        augment: AugmentParams,
        *,
        seed: int,
    ) -> None:
        """Targets of all volumes and their turned copies.

        Raises
        ------
        InputError : a class without a label to train on, or a volume smaller than a patch
        """
        self._params, self._augment, self._seed = params, augment, seed
        self._voxel = float(np.mean(volumes[0].volume.voxel_xyz))
        rng = np.random.default_rng([seed, 21])
        self._copies = []
        for labelled in volumes:
            first = float(rng.uniform(0.0, 90.0))
            count = params.turned_copies
            angles = [0.0] + [(first + 90.0 * n / max(1, count)) % 90.0 for n in range(count)]
            self._copies += [_turned(labelled, angle, classes, params) for angle in angles]
        for number, kind in enumerate(classes):
            if not any(len(copy.anchors[number]) for copy in self._copies):
                raise InputError(f"No label of {kind.name} is left to train on. Give more labels, or hold out fewer.")

    def batch(self, step: int) -> dict[str, Tensor]:
        """`images` (patch, 1, z, y, x), `targets` (patch, class, z, y, x) 0 to 1, `weights` (patch, z, y, x) codes."""
        items = [
            self._patch(np.random.default_rng([self._seed, step, n, 22]), step * self._params.batch_size + n)
            for n in range(self._params.batch_size)
        ]
        return {
            "images": torch.stack([image for image, _, _ in items])[:, None],
            "targets": torch.stack([target for _, target, _ in items]),
            "weights": torch.stack([weight for _, _, weight in items]),
        }

    def _patch(self, rng: np.random.Generator, number: int) -> tuple[Tensor, Tensor, Tensor]:
        size = self._params.patch_size
        copy, middle = self._place(rng, number)
        corner = middle - size // 2
        image = _cut(copy.image[None], corner, size)[0]
        target = _cut(copy.targets, corner, size).float() / 255.0
        weight = _cut(copy.weights[None], corner, size)[0]
        quarter, flip = int(rng.integers(4)), bool(rng.integers(2))
        image, target, weight = (turn_patch(part, quarter, flip) for part in (image, target, weight))
        axis = _TILT_AXIS_DEG + copy.turn_deg + 90.0 * quarter
        image = vary_patch(image, self._voxel, -axis if flip else axis, self._augment, rng)
        return image, target, weight

    def _place(self, rng: np.random.Generator, number: int) -> tuple[_Copy, NDArray[np.int64]]:
        """A copy, and the middle of a patch in it."""
        params = self._params
        jitter = rng.integers(-params.patch_size // 3, params.patch_size // 3 + 1, 3)
        if rng.random() < params.label_share:
            kind = number % len(self._copies[0].anchors)  # classes in turn
            rows = [(copy, anchor) for copy in self._copies for anchor in copy.anchors[kind]]
            copy, anchor = rows[int(rng.integers(len(rows)))]
            return copy, anchor + jitter
        with_negatives = [copy for copy in self._copies if len(copy.negatives)]
        if with_negatives and rng.random() < _NEGATIVE_SHARE:
            copy = with_negatives[int(rng.integers(len(with_negatives)))]
            return copy, copy.negatives[int(rng.integers(len(copy.negatives)))] + jitter
        copy = self._copies[int(rng.integers(len(self._copies)))]
        return copy, copy.anywhere[int(rng.integers(len(copy.anywhere)))]


def spot_sigma(kind: PickerClass, params: PickerParams, voxel: float) -> float:
    """Standard deviation in voxels of a particle's spot; a voxel's own size at least."""
    return max(0.8, params.spot * kind.radius_angstrom / voxel)


def _turned(labelled: LabelledVolume, angle: float, classes: Sequence[PickerClass], params: PickerParams) -> _Copy:
    prepared = labelled.volume
    image, region = prepared.image, prepared.region
    trained = torch.from_numpy(labelled.trained)[None, :, None]
    judged = region & trained
    positions, negatives = labelled.positions, labelled.negatives
    if angle:
        image = torch.from_numpy(_rotate(image.numpy(), angle, 3))
        judged = torch.from_numpy(_rotate(judged.float().numpy(), angle, 1)) > 0.5
        positions, negatives = (_rotate_points(p, angle, tuple(image.shape)) for p in (positions, negatives))
    voxel = float(np.mean(prepared.voxel_xyz))
    shape = tuple(image.shape)
    targets = np.zeros((len(classes), *shape), dtype=np.uint8)
    weights = judged.numpy().astype(np.uint8)
    anchors = []
    for number, kind in enumerate(classes):
        own = positions[labelled.kinds == number]
        sigma = spot_sigma(kind, params, voxel)
        for place in own:
            draw_spot(targets[number], place, sigma)
            _code(weights, place, _KNOWN * kind.radius_angstrom / voxel, 2)
        anchors.append(_inside(own, judged))
    largest = max(kind.radius_angstrom for kind in classes) / voxel
    for place in negatives:
        _code(weights, place, _NEGATIVE_RADIUS * largest, 3)
    anywhere = np.argwhere(judged[::4, ::4, ::4].numpy()) * 4
    if not len(anywhere):
        raise InputError("No part of the tomogram is left to train on: the region is too small.")
    return _Copy(
        image=image,
        targets=torch.from_numpy(targets),
        weights=torch.from_numpy(weights),
        anchors=tuple(anchors),
        negatives=_inside(negatives, judged),
        anywhere=anywhere,
        turn_deg=angle,
    )


def _inside(places: FloatArray, judged: Tensor) -> NDArray[np.int64]:
    rounded = np.rint(places).astype(np.int64).reshape(-1, 3)
    if not len(rounded):
        return rounded
    clipped = np.clip(rounded, 0, np.array(judged.shape) - 1)
    good = (clipped == rounded).all(1) & judged.numpy()[tuple(clipped.T)]
    return np.asarray(rounded[good])


def _window(shape: tuple[int, ...], place: FloatArray, reach: float) -> tuple[tuple[slice, ...], FloatArray] | None:
    """The part of a volume about a place, and squared distances in it."""
    low = np.maximum(np.floor(place - reach).astype(int), 0)
    high = np.minimum(np.ceil(place + reach).astype(int) + 1, shape)
    if (high <= low).any():
        return None
    z, y, x = (np.arange(a, b) - p for a, b, p in zip(low, high, place, strict=True))
    squared = z[:, None, None] ** 2 + y[None, :, None] ** 2 + x[None, None, :] ** 2
    return tuple(slice(a, b) for a, b in zip(low, high, strict=True)), squared


def draw_spot(volume: NDArray[np.uint8], place: FloatArray, sigma: float) -> None:
    """Add a spot of 255 in its middle to a volume; where spots overlap the stronger one counts."""
    found = _window(volume.shape, place, _REACH * sigma)
    if found is not None:
        where, squared = found
        spot = np.rint(255.0 * np.exp(-0.5 * squared / sigma**2)).astype(np.uint8)
        np.maximum(volume[where], spot, out=volume[where])


def _code(weights: NDArray[np.uint8], place: FloatArray, radius: float, code: int) -> None:
    found = _window(weights.shape, place, radius)
    if found is not None:
        where, squared = found
        part = weights[where]
        part[(squared <= radius**2) & (part > 0)] = code


def _cut(volume: Tensor, corner: NDArray[np.int64], size: int) -> Tensor:
    """A cube out of (channel, z, y, x); what lies outside is 0."""
    out = volume.new_zeros((volume.shape[0], size, size, size))
    into: list[slice] = [slice(None)]
    source: list[slice] = [slice(None)]
    for first, n in zip(corner, volume.shape[1:], strict=True):
        low, high = max(0, int(first)), min(n, int(first) + size)
        if high <= low:
            return out
        source.append(slice(low, high))
        into.append(slice(low - int(first), high - int(first)))
    out[tuple(into)] = volume[tuple(source)]
    return out


def _rotate(volume: NDArray[np.float32], angle: float, order: Literal[1, 3]) -> NDArray[np.float32]:
    """About z through voxel n // 2, from x towards y, onto the same grid."""
    matrix, offset = _inverse_turn(angle, volume.shape)
    out = np.empty_like(volume)
    for z, plane in enumerate(volume):
        out[z] = ndimage.affine_transform(plane, matrix, offset, order=order, mode="constant")
    return out


def _inverse_turn(angle: float, shape: tuple[int, ...]) -> tuple[FloatArray, FloatArray]:
    """Of an output place (y, x), the input place."""
    cosine, sine = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    matrix = np.array([[cosine, -sine], [sine, cosine]])
    centre = np.array([shape[1] // 2, shape[2] // 2])
    return matrix, centre - matrix @ centre


def _rotate_points(places: FloatArray, angle: float, shape: tuple[int, ...]) -> FloatArray:
    if not len(places):
        return places
    matrix, _ = _inverse_turn(angle, shape)
    centre = np.array([shape[1] // 2, shape[2] // 2])
    out = places.copy()
    out[:, 1:] = (places[:, 1:] - centre) @ matrix + centre  # the transpose of the inverse turn, on rows
    return out
