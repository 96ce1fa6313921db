"""Membranes of a tomogram by a network that was shown simulated ones."""

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from eucentric.errors import InputError, ShapeError
from eucentric.networks.prepare_volume import PreparedVolume, prepare_volume
from eucentric.segmentation.learned.find_classes import check_voxel_size, mirrored_scores, resample_back
from eucentric.segmentation.learned.segmenter import Segmenter
from eucentric.segmentation.membranes.sheets import Crest, Membranes, painted_sheets
from eucentric.segmentation.params import LearnedMembraneParams
from eucentric.signal.ridges import curvatures_at, on_crest, smooth_volume
from eucentric.signal.symmetric_tensors import eigenvectors_of, extreme_eigenvalues

_LEAST_PROFILE = 0.25  # of its height on a mid-surface
_SMOOTHING = 0.7  # voxels: crests of what tiles and bfloat16 give
_BLURRING = 1.5  # voxels: a score that is 1 across a membrane of four voxels gets a crest
MEMBRANE = "membrane"
"""Name of the class, in models that know several."""


def learned_membranes(
    volume: Float[Tensor, "z y x"],
    voxel_size: float,
    segmenter: Segmenter,
    params: LearnedMembraneParams,
    *,
    counted: Bool[Tensor, "z y x"] | None = None,
) -> Membranes:
    """Find bilayers: scores of the network, crests of its profile, connected mid-surfaces, places between voxels.

    Parameters
    ----------
    volume : tomogram
    voxel_size : A
    segmenter : of membranes; mid-surfaces are the crests of its profile, or of the score where it has none
    counted : places to look at; None all

    Raises
    ------
    ShapeError : not a volume
    InputError : no contrast, values that are not finite, voxels coarser than the network's, nothing counted, or a network of
        other classes
    """
    if volume.ndim != 3:
        raise ShapeError(f"An array of shape {tuple(volume.shape)} was given; expected a volume (z, y, x).")
    if not bool(torch.isfinite(volume).all()):
        raise InputError("The tomogram holds values that are not numbers. Mend or cut it first.")
    channel = _channel(segmenter)
    check_voxel_size(voxel_size, segmenter.voxel_size_angstrom)
    dark = volume.float() if params.contrast == "dark" else -volume.float()
    prepared = prepare_volume(dark, voxel_size, segmenter.voxel_size_angstrom, counted)
    found = mirrored_scores(segmenter, prepared.image, params.mirrors)
    score = found[channel]
    profile = smooth_volume(found[-1], _SMOOTHING) if segmenter.profile else smooth_volume(score, _BLURRING)
    if counted is not None:
        score = torch.where(prepared.region, score, torch.zeros_like(score))
    crest = _crest(profile, score, params, prepared.start_zyx[0])
    original = (volume.shape[0], volume.shape[1], volume.shape[2])
    return painted_sheets(
        crest,
        _whole(profile, prepared),
        resample_back(score[None], prepared, original, voxel_size)[0],
        voxel_size,
        thickness_angstrom=params.thickness_angstrom,
        min_area_angstrom2=params.min_area_angstrom2,
        min_support=params.sure_part,
    )


def _channel(segmenter: Segmenter) -> int:
    if MEMBRANE in segmenter.classes:
        return segmenter.classes.index(MEMBRANE)
    if len(segmenter.classes) == 1:
        return 0
    raise InputError(
        f"The model knows {', '.join(segmenter.classes)}, and no class called {MEMBRANE}. Use `eucentric segment apply` with it."
    )


def _crest(profile: Tensor, score: Tensor, params: LearnedMembraneParams, first: int) -> Crest:
    """Places where the profile is greatest along its steepest curvature; z of the whole resampled tomogram."""
    high = (score >= params.follow_threshold) & (profile >= _LEAST_PROFILE)
    places = torch.nonzero(high[1:-1, 1:-1, 1:-1]) + 1  # curvatures need neighbours
    tensor = curvatures_at(profile, places)
    least = extreme_eigenvalues(tensor)[1]
    normals = eigenvectors_of(tensor, least)
    kept = on_crest(profile, places, normals) & (least < 0)
    places, normals = places[kept], normals[:, kept]
    across = normals.T.double().cpu().numpy()
    across /= np.linalg.norm(across, axis=1, keepdims=True).clip(1e-12)
    strengths = score[tuple(places.T)].double().cpu().numpy() / params.threshold
    return Crest(
        places=places.double().cpu().numpy() + np.array([first, 0, 0]),
        normals=across,
        strengths=strengths,
        seen=np.asarray(strengths >= 1.0),
    )


def _whole(part: Tensor, prepared: PreparedVolume) -> Tensor:
    """With the empty slabs above and below that were cut away."""
    out = part.new_zeros(prepared.full_zyx)
    first = prepared.start_zyx[0]
    out[first : first + part.shape[0]] = part
    return out
