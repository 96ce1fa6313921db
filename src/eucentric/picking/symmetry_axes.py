"""Where the axes of a template's symmetry lie in its own frame, and whether it has that symmetry at all."""

import numpy as np
import torch
from scipy.spatial.transform import Rotation as _ScipyRotation
from torch import Tensor

from eucentric.errors import InputError
from eucentric.geometry.so3 import local_rotations, sample_rotations
from eucentric.geometry.symmetry import symmetry_generators, symmetry_rotations, turn_axis
from eucentric.picking.rotated_templates import FourierTemplate
from eucentric.picking.templates import Template
from eucentric.typing import FloatArray

_STEP = 12.0
_ACROSS = (10, 24)  # voxels along the diameter: axes are looked for in a rough copy, then in a finer one
_ALIKE = 0.85  # least correlation of a template with itself turned


def symmetry_frame(template: Template) -> FloatArray:
    """(3, 3) rotation Q such that ``Q g Q^T`` leaves the template as it is for every g of its group.

    The identity where the axes are those of :func:`symmetry_rotations` already. Models from the Protein Data Bank lie in any
    orientation.

    Raises
    ------
    InputError : no orientation of the axes fits: it is not symmetric so, or not about its middle
    """
    group = symmetry_rotations(template.symmetry)
    if len(group) == 1 or template.isotropic:
        return np.eye(3)
    generators = symmetry_generators(group)
    best, score = np.eye(3), -1.0
    for across in _ACROSS:
        voxel = max(template.diameter_angstrom / across, template.voxel_size_angstrom)
        small = template.resampled(voxel)
        reader = FourierTemplate.build(small, small.density.shape[0])
        own = reader.rotated(np.eye(3)[None])[0]
        if score < 0.0:  # the first time: everywhere
            frames = np.concatenate([np.eye(3)[None], sample_rotations(_STEP)])
            best = frames[int(_likeness(reader, own, frames, generators).argmax())]
        angle = _STEP
        while angle > 0.3:
            frames = local_rotations(angle, 0.5 * angle) @ best
            values = _likeness(reader, own, frames, generators)
            best, score = frames[int(values.argmax())], float(values.max())
            angle *= 0.5
        # a ring of many subunits looks round at first: turn it about its axis
        frames = best @ _turns_about(turn_axis(generators[0]))
        values = _likeness(reader, own, frames, generators)
        best, score = frames[int(values.argmax())], float(values.max())
    if score < _ALIKE:
        raise InputError(
            f"The template {template.name} does not have the symmetry {template.symmetry}: turned by it in the best way it "
            f"correlates {score:.2f} with itself; expected more than {_ALIKE:g}. Give its true symmetry, or C1."
        )
    return best


def _turns_about(axis: FloatArray) -> FloatArray:
    angles = np.arange(0.0, 180.0, 1.0)
    return np.asarray(_ScipyRotation.from_rotvec(np.deg2rad(angles)[:, None] * axis).as_matrix())


def _likeness(reader: FourierTemplate, own: Tensor, frames: FloatArray, generators: FloatArray) -> Tensor:
    """(frame,) mean correlation of the template with copies turned about the axes of each frame; the mean left out."""
    weight = reader.samples.shares * (reader.samples.frequencies.norm(dim=1) > 0)
    norm = (own.abs().square() * weight).sum()
    out = []
    for start in range(0, len(frames), 512):
        part = frames[start : start + 512]
        value = torch.zeros(len(part))
        for g in generators:
            copies = reader.rotated(part @ g @ np.swapaxes(part, 1, 2))
            value += ((copies.conj() * own).real * weight).sum(1) / norm
        out.append(value / len(generators))
    return torch.cat(out)
