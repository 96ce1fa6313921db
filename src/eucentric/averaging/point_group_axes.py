"""Where the axes of a point group may lie in a map: frames in which turned copies are most like the map itself."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Complex, Float, Int
from scipy.spatial.transform import Rotation as _ScipyRotation
from torch import Tensor

from eucentric.averaging.align_reference import AlignReference
from eucentric.geometry.rotations import rotation_x, rotation_z
from eucentric.geometry.so3 import local_rotations, sample_rotations
from eucentric.geometry.symmetry import symmetry_generators, symmetry_rotations
from eucentric.projection.turned import CubeSamples, read_turned
from eucentric.typing import FloatArray

_STEP = 0.6
"""Step of axes along the rim, over the detail compared."""
_CUBIC_STEP = 12.0
_FINEST_DEG = 0.25
_ROUGH = 0.3
"""Of the step of axes: how far frames are refined before groups are compared."""
_MOST_STEPS = 40
_KEPT = 3
"""Axes of each order that are followed up."""
_AT_ONCE = 512


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """Where the axes of a group lie: ``V(Q g Q^T (x - c) + c)`` is like V for every element g."""

    rotation: FloatArray
    """(3, 3) Q: the standard axes of the group, turned to where they are."""
    centre: FloatArray
    """(3,) c, voxels from the middle."""
    score: float
    """Mean likeness of copies turned by the group's generators."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TurnedMap:
    """One map, read in any orientation."""

    reference: AlignReference
    samples: CubeSamples
    own: Complex[Tensor, " points"]
    weight: Float[Tensor, " points"]
    """How samples count in likeness; their shares included."""
    shell: Int[Tensor, " points"]

    @classmethod
    def of(cls, reference: AlignReference, samples: CubeSamples, reliability: Float[Tensor, " shell"]) -> "TurnedMap":
        """A map whose shells are white before they are weighted by `reliability`, 0 to 1."""
        own = read_turned(reference.transform, samples, np.eye(3)[None])[0]
        shell = (samples.frequencies.norm(dim=1) * reference.box_size).round().long()
        count = len(reliability)
        shares = samples.shares
        power = torch.zeros(count).index_add_(0, shell.cpu(), (own.abs().square() * shares).cpu())
        whole = torch.zeros(count).index_add_(0, shell.cpu(), shares.cpu())
        level = (reliability.cpu() * whole / power.clamp_min(1e-30)).to(shares)
        level[0] = 0.0
        return cls(reference=reference, samples=samples, own=own, weight=level[shell] * shares, shell=shell)

    def copies(self, rotations: FloatArray, centre: FloatArray) -> Complex[Tensor, "rotation points"]:
        """The map turned about a centre (3,) in voxels."""
        turned = read_turned(self.reference.transform, self.samples, rotations)
        moves = torch.from_numpy(centre - rotations @ centre).to(self.samples.frequencies)
        phase = -2.0 * math.pi * (moves @ self.samples.frequencies.T)
        return turned * torch.polar(torch.ones_like(phase), phase)

    def likeness(self, rotations: FloatArray, centre: FloatArray) -> FloatArray:
        """(rotation,) of the map with itself turned."""
        norm = float((self.own.abs().square() * self.weight).sum())
        held = self.own.conj() * self.weight
        parts = [
            (self.copies(rotations[i : i + _AT_ONCE], centre) * held).real.sum(1)
            for i in range(0, len(rotations), _AT_ONCE)
        ]
        return torch.cat(parts).cpu().double().numpy() / max(norm, 1e-30)

    def likeness_about(self, rotations: FloatArray, centres: FloatArray) -> FloatArray:
        """(centre,) mean likeness of the map with itself turned about centres (centre, 3)."""
        norm = float((self.own.abs().square() * self.weight).sum())
        turned = read_turned(self.reference.transform, self.samples, rotations) * (self.own.conj() * self.weight)
        total = np.zeros(len(centres))
        for turn, product in zip(rotations, turned, strict=True):
            moves = torch.from_numpy(centres - centres @ turn.T).to(self.samples.frequencies)
            phase = -2.0 * math.pi * (moves @ self.samples.frequencies.T)
            total += (product.real @ phase.cos().T - product.imag @ phase.sin().T).cpu().double().numpy()
        return total / (len(rotations) * max(norm, 1e-30))

    @property
    def step_deg(self) -> float:
        """Of axes, so that none lies between two that are tried."""
        detail = max(self.reference.low_pass_angstrom, 2.0 * self.reference.voxel_size_angstrom)
        return float(np.clip(_STEP * math.degrees(detail / self.reference.diameter_angstrom), 2.0, 12.0))


def find_frames(target: TurnedMap, names: list[str], centre: FloatArray) -> dict[str, Frame]:
    """The best frame for each group, to a third of the step of axes.

    Parameters
    ----------
    names : such as C2, D7, T
    centre : (3,) voxels from the middle, about where axes meet
    """
    axes = _half_sphere(target.step_deg)
    out: dict[str, Frame] = {}
    for order in sorted({int(name[1:]) for name in names if name[0] in "CD"}):
        cyclic = _cyclic_frames(target, order, axes, centre)
        if f"C{order}" in names:
            out[f"C{order}"] = cyclic[0]
        if f"D{order}" in names:
            found = [_with_two_fold(target, frame, order) for frame in cyclic]
            out[f"D{order}"] = max(found, key=lambda f: f.score)
    for name in names:
        if name in "TOI":
            out[name] = _cubic_frame(target, name, centre, out.get("T"))
    return out


def refined_frame(
    target: TurnedMap, name: str, start: Frame, step_deg: float, finest_deg: float = _FINEST_DEG
) -> Frame:
    """The best frame near one: turns and moves of its centre by steps that are halved when none of them helps."""
    generators = symmetry_generators(symmetry_rotations(name))
    rotation, centre = start.rotation, start.centre
    radius = 0.25 * target.reference.diameter_angstrom / target.reference.voxel_size_angstrom
    score, tried = -math.inf, 0
    while step_deg > finest_deg and tried < _MOST_STEPS:
        tried += 1
        trials = local_rotations(1.5 * step_deg, step_deg) @ rotation
        values = _value(target, trials, generators, centre)
        best = int(values.argmax())
        rotation = trials[best]
        moves = np.concatenate([np.zeros((1, 3)), np.eye(3), -np.eye(3)]) * math.radians(step_deg) * radius
        about = target.likeness_about(rotation @ generators @ rotation.T, centre + moves)
        place = int(about.argmax())
        centre = centre + moves[place]
        if (best == 0 and place == 0) or about[place] <= score:
            step_deg *= 0.5
        score = max(score, float(about[place]))
    return Frame(rotation=rotation, centre=centre, score=score)


def _value(target: TurnedMap, frames: FloatArray, generators: FloatArray, centre: FloatArray) -> FloatArray:
    """(frame,) mean likeness over the generators."""
    every = np.einsum("fij,gjk,flk->fgil", frames, generators, frames)
    values = target.likeness(every.reshape(-1, 3, 3), centre)
    return np.asarray(values.reshape(len(frames), -1).mean(1))


def _half_sphere(step_deg: float) -> FloatArray:
    """(axis, 3, 3) rotations that bring z to axes spread evenly over half the sphere."""
    count = math.ceil(2.0 * math.pi / math.radians(step_deg) ** 2)
    place = np.arange(count) + 0.5
    height = 1.0 - place / count
    azimuth = math.pi * (1.0 + math.sqrt(5.0)) * place
    tilt = np.arccos(height)
    vectors = np.stack([-np.sin(azimuth) * tilt, np.cos(azimuth) * tilt, np.zeros(count)], axis=1)
    return np.asarray(_ScipyRotation.from_rotvec(vectors).as_matrix())


def _cyclic_frames(target: TurnedMap, order: int, axes: FloatArray, centre: FloatArray) -> list[Frame]:
    """The best axes of an order, far apart, best first."""
    generators = rotation_z(360.0 / order)[None]
    values = _value(target, axes, generators, centre)
    apart = math.cos(math.radians(2.5 * target.step_deg))
    kept: list[int] = []
    for i in np.argsort(-values):
        if all(abs(axes[i][:, 2] @ axes[j][:, 2]) < apart for j in kept):
            kept.append(int(i))
        if len(kept) == _KEPT:
            break
    starts = [Frame(rotation=axes[i], centre=centre, score=float(values[i])) for i in kept]
    step = target.step_deg
    found = [refined_frame(target, f"C{order}", start, step, _ROUGH * step) for start in starts]
    return sorted(found, key=lambda f: -f.score)


def _with_two_fold(target: TurnedMap, frame: Frame, order: int) -> Frame:
    """The frame turned about its axis so that a two-fold axis lies along x."""
    turns = rotation_z(np.arange(0.0, 180.0 / order, min(0.5 * target.step_deg, 45.0 / order)))
    frames = frame.rotation @ turns
    values = _value(target, frames, rotation_x(180.0)[None], frame.centre)
    start = Frame(rotation=frames[int(values.argmax())], centre=frame.centre, score=0.0)
    return refined_frame(target, f"D{order}", start, 0.5 * target.step_deg, _ROUGH * target.step_deg)


def _cubic_frame(target: TurnedMap, name: str, centre: FloatArray, part: Frame | None) -> Frame:
    """The best frame; `part` is that of T, whose axes O and I have too, I in one of two ways."""
    generators = symmetry_generators(symmetry_rotations(name))
    frames = sample_rotations(_CUBIC_STEP)
    values = _value(_coarser(target), frames, generators, centre)
    starts = [Frame(rotation=frames[i], centre=centre, score=0.0) for i in np.argsort(-values)[:_KEPT]]
    if part is not None:
        starts += [replace(part, rotation=part.rotation @ turn) for turn in rotation_z(np.array([0.0, 90.0]))]
    found = [refined_frame(target, name, start, 0.5 * _CUBIC_STEP, _ROUGH * target.step_deg) for start in starts]
    return max(found, key=lambda f: f.score)


def _coarser(target: TurnedMap) -> TurnedMap:
    """The same map in the detail that steps of the cubic search tell apart."""
    reference, samples = target.reference, target.samples
    arc = reference.diameter_angstrom * math.radians(_CUBIC_STEP)
    some = (samples.frequencies.norm(dim=1) * arc <= reference.voxel_size_angstrom).nonzero().reshape(-1)
    none = np.zeros((0, 4), dtype=np.int64)
    fewer = CubeSamples(
        side=samples.side, inside=samples.inside[some], frequencies=samples.frequencies[some].contiguous(), lines=none
    )
    return TurnedMap(
        reference=reference, samples=fewer, own=target.own[some], weight=target.weight[some], shell=target.shell[some]
    )
