"""A tilt series as Warp's XML holds it: one rotation about x for all images, and grids over the image for what moves locally.

Warp has no magnification of single images. But GridMovement is taken off the place (in A) that the rigid geometry gives, read
at that very place, so a linear grid of 2 x 2 points is a magnification, exactly; it is written with the local deformation.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import torch
from scipy.interpolate import CubicSpline

from eucentric.geometry import ImageWarp, VolumeWarp, rotation_x, rotation_y, rotation_z
from eucentric.models.tilt_series import TiltPose
from eucentric.typing import FloatArray

_FINER = (1, 2, 4)  # grids of so many times as many steps are tried
_CLOSE_ANGSTROM = 0.02  # root mean square that is close enough
_MOST_POINTS = 33
_SAMPLES = 25
_EVEN_DEG = 1e-4
_FINER_VOLUME = (1, 2, 4, 8, 16)
_CLOSE_VOLUME_ANGSTROM = 0.03
_FINER_DOSE = (1, 2, 4)
_MOST_NODES = 60_000  # of one axis of a displacement; Warp's file has a line for each
_PROBES = (7, 13, 13)  # z, y, x, between the points of the grids


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LevelledPoses:
    """Rotations of all images with one rotation about x."""

    x_tilt_deg: float
    y_tilt_deg: FloatArray
    z_rot_deg: FloatArray
    left_deg: FloatArray
    """(tilt,): angle between the rotation of each image and the one that stands for it."""


def levelled(poses: Sequence[TiltPose]) -> LevelledPoses:
    """The nearest rotations ``Rz Ry Rx(x_tilt)`` with one x_tilt for all images; the poses themselves where they have one."""
    x = np.array([p.x_tilt_deg for p in poses])
    y = np.array([p.y_tilt_deg for p in poses])
    z = np.array([p.z_rot_deg for p in poses])
    if np.ptp(x) < _EVEN_DEG:
        return LevelledPoses(x_tilt_deg=float(x[0]), y_tilt_deg=y, z_rot_deg=z, left_deg=np.zeros(len(x)))
    # At high tilt a rotation about x is nearly one about the beam, which the axis takes up.
    level = float(np.average(x, weights=np.cos(np.deg2rad(y)) ** 2 + 1e-6))
    wanted = np.stack([rotation_z(c) @ rotation_y(b) @ rotation_x(a - level) for a, b, c in zip(x, y, z, strict=True)])
    y, z = y.copy(), z.copy()
    for i, turn in enumerate(wanted):
        for _ in range(30):  # each in its turn is the best for the other
            m = turn @ rotation_y(y[i]).T
            z[i] = math.degrees(math.atan2(m[1, 0] - m[0, 1], m[0, 0] + m[1, 1]))
            m = rotation_z(z[i]).T @ turn
            y[i] = math.degrees(math.atan2(m[0, 2] - m[2, 0], m[0, 0] + m[2, 2]))
    found = np.stack([rotation_z(c) @ rotation_y(b) for b, c in zip(y, z, strict=True)])
    trace = np.einsum("tij,tij->t", found, wanted)
    left = np.rad2deg(np.arccos(np.clip((trace - 1.0) / 2.0, -1.0, 1.0)))
    z += 360.0 * np.round((np.array([p.z_rot_deg for p in poses]) - z) / 360.0)
    return LevelledPoses(x_tilt_deg=level, y_tilt_deg=y, z_rot_deg=z, left_deg=left)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Movement:
    """GridMovement of some images."""

    values: FloatArray
    """(image, gy, gx, 2), A that are taken off x and y."""
    rms_angstrom: float = 0.0
    """Of the displacement by the local deformation, over the images."""
    missed_rms_angstrom: float = 0.0
    missed_most_angstrom: float = 0.0


def movement_of(
    poses: Sequence[TiltPose], warp: ImageWarp | None, image_shape: tuple[int, int], pixel_size_angstrom: float
) -> Movement | None:
    """What local deformation and magnification add to the rigid places, with the sign turned; None where there is neither.

    Parameters
    ----------
    poses : of the images of `warp`
    image_shape : (y, x)
    """
    if warp is None and all(p.magnification == 1.0 for p in poses):
        return None
    size = np.array(image_shape[::-1], dtype=np.float64)
    dense = [np.linspace(0.0, 1.0, _SAMPLES)] * 2
    truth = _added(poses, warp, size, pixel_size_angstrom, dense)
    shape = (2, 2) if warp is None else warp.displacement_angstrom.shape[1:3]
    best: Movement | None = None
    for finer in _FINER:
        points = [min(_MOST_POINTS, 2 + finer * (max(n, 2) - 1) - 1) for n in shape]
        nodes = [np.linspace(0.0, 1.0, n) for n in points]
        values = _added(poses, warp, size, pixel_size_angstrom, nodes)
        missed = np.linalg.norm(_spline(values, nodes, dense) - truth, axis=-1)
        rms = float(np.sqrt(np.mean(missed**2)))
        if best is None or rms < best.missed_rms_angstrom:
            best = Movement(values=-values, missed_rms_angstrom=rms, missed_most_angstrom=float(missed.max()))
        if rms < _CLOSE_ANGSTROM:
            break
    local = 0.0 if warp is None else _rms(_added([_plain(p) for p in poses], warp, size, pixel_size_angstrom, dense))
    return None if best is None else replace(best, rms_angstrom=local)


def _plain(pose: TiltPose) -> TiltPose:
    return TiltPose(y_tilt_deg=pose.y_tilt_deg, z_rot_deg=pose.z_rot_deg)


def _rms(field: FloatArray) -> float:
    return float(np.sqrt(np.mean(np.sum(field**2, axis=-1))))


def _added(
    poses: Sequence[TiltPose], warp: ImageWarp | None, size: FloatArray, pixel: float, nodes: Sequence[FloatArray]
) -> FloatArray:
    """(image, gy, gx, 2) A that are to be added at parts (y, x) of the image's length, from its first pixel."""
    x = (nodes[1] * size[0] - size[0] // 2) * pixel
    y = (nodes[0] * size[1] - size[1] // 2) * pixel
    places = np.stack(np.meshgrid(x, y), axis=-1)
    out = np.zeros((len(poses), *places.shape))
    for t, pose in enumerate(poses):
        shift = np.array([pose.x_shift_angstrom, pose.y_shift_angstrom])
        out[t] = (pose.magnification - 1.0) * (places - shift)
        if warp is not None:
            out[t] += warp.at(t, torch.from_numpy(places + out[t])).numpy()
    return out


def _spline(values: FloatArray, nodes: Sequence[FloatArray], at: Sequence[FloatArray]) -> FloatArray:
    """(image, y, x, 2) of the natural spline through (image, gy, gx, 2)."""
    rows = CubicSpline(nodes[0], values, axis=1, bc_type="natural")(at[0])
    out: FloatArray = CubicSpline(nodes[1], rows, axis=2, bc_type="natural")(at[1])
    return out


def number(value: float) -> str:
    """As single precision holds it, which Warp reads."""
    return f"{value:.9g}"


def grid_lines(name: str, values: FloatArray) -> list[str]:
    """A `CubicGrid` of (z, y, x) values."""
    z, y, x = values.shape
    lines = [f'\t<{name} Width="{x}" Height="{y}" Depth="{z}" MarginX="0" MarginY="0" MarginZ="0">']
    lines += [
        f'\t\t<Node X="{i}" Y="{j}" Z="{k}" Value="{number(float(values[k, j, i]))}" />'
        for k, j, i in np.ndindex(z, y, x)
    ]
    return [*lines, f"\t</{name}>"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VolumeMovement:
    """GridVolumeWarp of a series."""

    values: FloatArray
    """(dose, z, y, x, 3), A."""
    rms_angstrom: float = 0.0
    """Of the displacement, over the volume and the images."""
    missed_rms_angstrom: float = 0.0
    missed_most_angstrom: float = 0.0


def volume_movement_of(
    volume: VolumeWarp, size_angstrom: FloatArray, before: FloatArray, middle: FloatArray
) -> VolumeMovement:
    """A deformed specimen on Warp's grid: linear between points, from face to face of the volume and from the first dose to the last.

    Parameters
    ----------
    size_angstrom : (3,), x, y and z of the volume
    before : (image,), e/A^2 that Warp finds an image's place along the grid by
    middle : (image,), e/A^2 that the deformation is that of
    """
    lines = [np.linspace(-0.5, 0.5, n) * edge for n, edge in zip(_PROBES, size_angstrom[::-1], strict=True)]
    probes = np.stack(np.meshgrid(*lines, indexing="ij")[::-1], axis=-1).reshape(-1, 3)
    order = np.argsort(before)
    first, last = float(before.min()), float(before.max())
    truth = volume.along(probes, middle)
    best: VolumeMovement | None = None
    for finer_space, finer_dose in [(s, d) for d in _FINER_DOSE for s in _FINER_VOLUME]:
        counts = [
            n
            if n <= 2
            else finer_space * math.ceil((n - 1) * edge / whole) + 1  # two points are a straight line already
            for n, edge, whole in zip(volume.grid, size_angstrom[::-1], volume.extent_angstrom, strict=True)
        ]
        steps = 1 if len(volume.doses) == 1 else finer_dose * (len(before) - 1) + 1
        if best is not None and steps * math.prod(counts) > _MOST_NODES:
            continue
        nodes = [
            np.zeros(1) if n == 1 else np.linspace(-0.5, 0.5, n) * edge
            for n, edge in zip(counts, size_angstrom[::-1], strict=True)
        ]
        grid = np.stack(np.meshgrid(*nodes, indexing="ij")[::-1], axis=-1).reshape(-1, 3)
        seen_at = np.interp(np.linspace(first, last, steps), before[order], middle[order])
        values = volume.along(grid, seen_at).reshape(steps, *counts, 3)
        missed = np.linalg.norm(_linear(values, nodes, probes, (before - first) / (last - first)) - truth, axis=-1)
        rms = float(np.sqrt(np.mean(missed**2)))
        if best is None or rms < best.missed_rms_angstrom:
            best = VolumeMovement(
                values=values,
                rms_angstrom=_rms(truth),
                missed_rms_angstrom=rms,
                missed_most_angstrom=float(missed.max()),
            )
        if rms < _CLOSE_VOLUME_ANGSTROM:
            break
    assert best is not None
    return best


def _linear(values: FloatArray, nodes: Sequence[FloatArray], points: FloatArray, when: FloatArray) -> FloatArray:
    """(image, n, 3) between grid points, at points (n, 3) and parts of the dose."""
    place = when * (len(values) - 1)
    low = np.minimum(place.astype(np.int64), max(len(values) - 2, 0))
    high = np.minimum(low + 1, len(values) - 1)
    share = (place - low)[:, None, None, None, None]
    out = (1.0 - share) * values[low] + share * values[high]
    weights = [
        np.ones((len(points), 1)) if len(n) == 1 else np.stack([np.interp(p, n, row) for row in np.eye(len(n))], axis=1)
        for n, p in zip(nodes, points.T[::-1], strict=True)
    ]
    return np.asarray(np.einsum("tzyxc,nz,ny,nx->tnc", out, *weights, optimize=True))


def volume_lines(values: FloatArray) -> list[str]:
    """The `LinearGrid4D`s of (dose, z, y, x, 3) displacements."""
    w, z, y, x, _ = values.shape
    lines = []
    for axis, name in enumerate("XYZ"):
        tag = f"GridVolumeWarp{name}"
        lines.append(f'\t<{tag} Width="{x}" Height="{y}" Depth="{z}" Duration="{w}">')
        lines += [
            f'\t\t<Node X="{i}" Y="{j}" Z="{k}" W="{d}" Value="{number(float(values[d, k, j, i, axis]))}" />'
            for d, k, j, i in np.ndindex(w, z, y, x)
        ]
        lines.append(f"\t</{tag}>")
    return lines


def column_lines(name: str, texts: Sequence[str]) -> list[str]:
    """One value for each image: Warp takes every line for one, so none is empty."""
    first, *rest = (escape(text) for text in texts)
    lines = [f"\t<{name}>{first}", *rest]
    lines[-1] += f"</{name}>"
    return lines


def parameter_lines(name: str, values: dict[str, str]) -> list[str]:
    """Named values, as the options of Warp."""
    inner = [f"\t\t<Param Name={quoteattr(key)} Value={quoteattr(text)} />" for key, text in values.items()]
    return [f"\t<{name}>", *inner, f"\t</{name}>"]
