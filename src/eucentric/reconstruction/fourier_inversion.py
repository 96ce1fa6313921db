"""Direct Fourier inversion: boxes anywhere in the specimen, and whole volumes made of them, without a tomogram before."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.special import sici
from torch import Tensor

from eucentric.compute.device import free_bytes
from eucentric.compute.sizes import good_size
from eucentric.compute.threads import threads_for
from eucentric.errors import BackendError, InputError, ShapeError
from eucentric.fourier.exposure import exposure_weights
from eucentric.fourier.filters import soft_edge, taper_edges
from eucentric.fourier.grid import frequency_grid, frequency_vectors
from eucentric.geometry.grids import centre_index
from eucentric.geometry.tilt import TiltGeometry
from eucentric.geometry.warp import ImageWarp
from eucentric.models.optics import Optics
from eucentric.models.tilt_series import CtfFit
from eucentric.optics.ctf import ctf_2d
from eucentric.optics.tilt_strength import TiltStrength
from eucentric.projection.bends import check_warp
from eucentric.projection.cpu import run_blocks
from eucentric.projection.filters import angular_weights
from eucentric.projection.resampling import check_images
from eucentric.projection.slice_weights import SharedSamples, share_samples
from eucentric.projection.slices import grid_to_volume, insert_slices
from eucentric.reconstruction.exposures import mid_exposures
from eucentric.typing import FloatArray

_FRAME = 1.25
"""Size of the zero-padded images over that of the images while they are filtered."""
_TAPER = 1.0 / 12.0
"""Part of a window that is faded at each edge: with twofold padding the corners of a turned box stay outside it."""


def reconstruct_boxes(
    images: Float[Tensor, "tilt y x"],
    geometry: TiltGeometry,
    centres_angstrom: ArrayLike,
    *,
    moved_angstrom: ArrayLike | None = None,
    pixel_size: float,
    box_size: int,
    voxel_size: float,
    ctf: Sequence[CtfFit] | None = None,
    optics: Optics | None = None,
    hand: float = -1.0,
    pre_exposures: ArrayLike | None = None,
    doses: ArrayLike | None = None,
    signal: TiltStrength | None = None,
    wiener: float = 0.1,
    padding: float = 2.0,
    warp: ImageWarp | None = None,
) -> Float[Tensor, "box z y x"]:
    r"""Subtomograms straight from the images by direct Fourier inversion [1]_.

    A window is cut from every image around the place where the box's centre is seen, to the pixel; the rest of the shift
    is a phase ramp, and the change of sampling a crop in Fourier space. Each sample k of each window is put into the
    box's Fourier grid with the weight

    .. math:: \Delta\theta_t\, r(k_\perp)\, \frac{N\, c_t w_t}{\sum_s K_s\, c_s^2 w_s^2 + \lambda},
              \qquad N = \sum_s K_s

    with r the ramp across the tilt axis, c the CTF at the height of the box, w the weight of dose and signal, and K how much of view s
    the box sees at k: 1 where its central slice runs through k, falling to 0 one box edge to the minus one away. So a
    view fills the zeros of its neighbours where they overlap, and stands alone where they do not.

    The amplitude is that of the density per A, as in :func:`reconstruct_volume`, and the contrast that of the images
    (protein dark): the inverse of the CTF, negative near zero frequency, is negated.

    Parameters
    ----------
    images : (tilt, y, x), not dose weighted, CTF uncorrected; a filtered copy of them is made
    geometry : of the same tilts
    centres_angstrom : (box, 3), x, y, z in A from the specimen centre, of voxel ``n // 2`` of each box
    moved_angstrom : (tilt, box, 3), where a deformed specimen had moved each centre to by the middle of each image, less
        where it is; None where it stays. A box moves as its centre does
    pixel_size : A per pixel of the images
    box_size, voxel_size : voxels along each edge, and A per voxel; any ratio to the pixel size
    ctf : of each tilt, at the height of the specimen centre; none leaves the CTF in
    optics : what the CTF and the voltage of the dose weights are made from; 300 kV, 2.7 mm, 0.07 where None
    hand : the defocus of a point is that of the tilt plus `hand` times its height in the camera's frame
    pre_exposures, doses : (tilt,) e/A^2 before and during each image; weights are those of the middle of the exposure.
        Without them nothing is weighted
    signal : how strongly each image shows the specimen, part of w; None where all do alike
    wiener : :math:`\lambda`, noise over signal in the power of one unweighted image with a CTF of one (RELION-5's tomograms
        are made with 1/10). Without CTF and doses nothing is divided and it does not matter
    padding : edge of the windows over that of the box; they must hold what the CTF has spread
    warp : local deformation of the images; a box moves with its centre

    Returns
    -------
    (box, z, y, x), dtype and device of `images`. A tilt whose image does not hold the box's centre is left out

    Raises
    ------
    InputError : NaN in an image, sizes that are not positive, doses that are not finite
    ShapeError : images, geometry, centres, CTFs and doses that do not match
    BackendError : the boxes do not fit into memory

    References
    ----------
    .. [1] Zivanov et al., eLife 11:e83724 (2022), doi:10.7554/eLife.83724 (boxes from the images themselves); Harauz & van
       Heel, Optik 73:146 (1986) (weights from the overlap of slices)
    """
    centres = np.asarray(centres_angstrom, dtype=np.float64)
    if centres.ndim != 2 or centres.shape[1] != 3 or not np.isfinite(centres).all():
        raise ShapeError(
            f"The centres have shape {centres.shape}; expected (box, 3), finite, x, y and z in A from the specimen centre."
        )
    moved = np.zeros((len(geometry), *centres.shape))
    if moved_angstrom is not None:
        moved = np.asarray(moved_angstrom, dtype=np.float64)
    if moved.shape != (len(geometry), *centres.shape) or not np.isfinite(moved).all():
        raise ShapeError(
            f"Moves of shape {moved.shape} were given for {len(centres)} centres in {len(geometry)} tilts; expected "
            "(tilt, box, 3), finite, in A."
        )
    shape = (box_size, box_size, box_size)
    # the boxes, and for every tilt some planes of the padded windows
    _check_memory(len(centres) * box_size**3 + 6 * len(geometry) * int(padding * box_size) ** 2, images)
    job = _plan(
        images,
        geometry,
        shape,
        pixel_size,
        voxel_size,
        ctf,
        optics,
        hand,
        pre_exposures,
        doses,
        signal,
        wiener,
        padding,
        warp,
        partly=False,
    )
    out = images.new_empty((len(centres), *shape))

    def fill(index: int) -> None:
        out[index] = _reconstruct_box(job, centres[index] + moved[:, index])

    _run(job, len(centres), fill)
    return out


def reconstruct_fourier(
    images: Float[Tensor, "tilt y x"],
    geometry: TiltGeometry,
    *,
    pixel_size: float,
    volume_shape: tuple[int, int, int],
    voxel_size: float,
    ctf: Sequence[CtfFit] | None = None,
    optics: Optics | None = None,
    hand: float = -1.0,
    pre_exposures: ArrayLike | None = None,
    doses: ArrayLike | None = None,
    signal: TiltStrength | None = None,
    wiener: float = 0.1,
    padding: float = 2.0,
    tile_size: int = 96,
    warp: ImageWarp | None = None,
) -> Float[Tensor, "z y x"]:
    """Tomogram of boxes side by side: see :func:`reconstruct_boxes`, whose keywords these are.

    Every tile is made from windows `padding` times its size and on a Fourier grid of twice its size, of which the middle
    is kept: tiles meet without a seam. Each has the CTF of its own depth. Images that show only part of a tile count too.

    Parameters
    ----------
    volume_shape : (z, y, x); the specimen centre is voxel ``n // 2`` of each axis
    tile_size : voxels; the edge of the tiles, at most that of the volume. The CTF is held constant across one

    Returns
    -------
    (z, y, x), dtype and device of `images`
    """
    if tile_size < 8 or min(volume_shape) < 1:
        raise InputError(
            f"Tiles of {tile_size} voxels and a volume of {tuple(volume_shape)} were asked for; expected tiles of at "
            "least 8 voxels and sizes above zero."
        )
    # tiles of equal size that cover each axis
    counts = [math.ceil(n / tile_size) for n in volume_shape]
    edges = [math.ceil(n / c) for n, c in zip(volume_shape, counts, strict=True)]
    shape = (edges[0], edges[1], edges[2])
    job = _plan(
        images,
        geometry,
        shape,
        pixel_size,
        voxel_size,
        ctf,
        optics,
        hand,
        pre_exposures,
        doses,
        signal,
        wiener,
        padding,
        warp,
        partly=True,
    )
    _check_memory(math.prod(volume_shape), images)
    out = images.new_empty(volume_shape)
    starts = list(itertools.product(*(range(0, c * e, e) for c, e in zip(counts, edges, strict=True))))

    def fill(index: int) -> None:
        corner = starts[index]
        middle = [s + centre_index(e) - centre_index(n) for s, e, n in zip(corner, shape, volume_shape, strict=True)]
        centre = np.array(middle[::-1], dtype=np.float64) * voxel_size
        tile = _reconstruct_box(job, np.tile(centre, (len(geometry), 1)))
        place = tuple(slice(s, min(s + e, n)) for s, e, n in zip(corner, shape, volume_shape, strict=True))
        out[place] = tile[tuple(slice(0, p.stop - p.start) for p in place)]

    _run(job, len(starts), fill)
    return out


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Job:
    """What all boxes of one call share. Slices are (tilt, m, m // 2 + 1): windows of n x n after the Fourier crop."""

    images: Tensor
    """Filtered: see `_filtered`."""
    geometry: TiltGeometry
    warp: ImageWarp | None
    pixel_size: float
    hand: float
    wiener: float
    shape: tuple[int, int, int]
    extent_voxels: float
    n: int
    m: int
    reach_px: float
    """How far outside an image the centre of a box may be seen for the image to count."""
    fade: Tensor
    """(n, n), fall-off at the edges of a window."""
    dose: Tensor
    """Weights of dose and signal over the number of pixels in a window."""
    power: Tensor | None
    """Squared dose weight; None where nothing is divided by."""
    phase: tuple[Tensor, Tensor] | None
    """Cosine and sine of chi at the specimen centre; None where the CTF is left in."""
    phase_per_angstrom: Tensor
    """Change of chi for each A of defocus, (m, m // 2 + 1)."""
    shared: SharedSamples | None


def _plan(
    images: Tensor,
    geometry: TiltGeometry,
    shape: tuple[int, int, int],
    pixel_size: float,
    voxel_size: float,
    ctf: Sequence[CtfFit] | None,
    optics: Optics | None,
    hand: float,
    pre_exposures: ArrayLike | None,
    doses: ArrayLike | None,
    signal: TiltStrength | None,
    wiener: float,
    padding: float,
    warp: ImageWarp | None,
    *,
    partly: bool,
) -> _Job:
    check_images(images, geometry, pixel_size)
    check_warp(warp, len(geometry))
    if not (voxel_size > 0 and min(shape) >= 2 and padding >= 1.0 and wiener > 0):
        raise InputError(
            f"A voxel size of {voxel_size:g} A, boxes of {shape}, a padding of {padding:g} and a Wiener term of {wiener:g} "
            "were given; expected sizes and term above zero, a padding of 1 or more and boxes of 2 voxels or more."
        )
    if ctf is not None and len(ctf) != len(geometry):
        raise ShapeError(f"{len(ctf)} CTFs were given for {len(geometry)} tilts; expected one each.")
    optics = optics or Optics()
    exposures = mid_exposures(len(geometry), pre_exposures, doses)
    n = good_size(math.ceil(padding * max(shape) * voxel_size / pixel_size))
    extent = n * pixel_size / voxel_size
    m = min(2 * math.ceil(0.5 * extent - 1e-9), n)
    frequency = _cropped(frequency_grid((n, n), pixel_size, device=images.device, dtype=images.dtype), m)
    weighted = ctf is not None or exposures is not None or signal is not None
    dose = images.new_ones((len(geometry), *frequency.shape))
    for t, exposure in enumerate([] if exposures is None else exposures):
        dose[t] = exposure_weights(frequency, float(exposure), voltage_kv=optics.voltage_kv)
    if signal is not None:
        signal.check_count(len(geometry))
        for t in range(len(signal)):
            dose[t] *= signal.envelope(frequency, t)
    limit = 0.5 * min(float(m), extent)
    fade = _fall_off(n, images)
    return _Job(
        images=_filtered(images, geometry, pixel_size, voxel_size),
        geometry=geometry,
        warp=warp,
        pixel_size=pixel_size,
        hand=hand,
        wiener=wiener,
        shape=shape,
        extent_voxels=extent,
        n=n,
        m=m,
        reach_px=math.sqrt(0.75) * max(shape) * voxel_size / pixel_size if partly else 0.0,
        fade=fade[:, None] * fade,
        dose=dose / n**2,
        power=dose**2 if weighted else None,
        phase=None if ctf is None else _phases(ctf, optics, n, m, pixel_size, images),
        phase_per_angstrom=math.pi * optics.wavelength_angstrom * frequency**2,
        shared=share_samples(geometry.matrices, m, extent / max(shape), images, limit=limit) if weighted else None,
    )


def _reconstruct_box(job: _Job, centres: FloatArray) -> Tensor:
    """The box whose centre lies at (tilt, 3) in A when each image is taken."""
    every = np.arange(len(job.geometry))
    camera = job.geometry.project(centres)[every, every]
    if job.warp is not None:
        places = torch.from_numpy(camera[:, :2].copy())
        camera[:, :2] += np.stack([job.warp.at(t, place).numpy() for t, place in enumerate(places)])
    windows, origin, seen = _windows(job, camera[:, :2] / job.pixel_size)
    with threads_for(windows.numel()):
        slices = _cropped(torch.fft.rfft2(windows), job.m) * (job.dose * _inverse(job, camera[:, 2], seen))
        slices *= _phase_ramp(job, origin[:, 1], half=False)[:, :, None]
        slices *= _phase_ramp(job, origin[:, 0], half=True)[:, None, :]
        grid_shape = (good_size(2 * job.shape[0]), good_size(2 * job.shape[1]), good_size(2 * job.shape[2]))
        grid = insert_slices(slices, _scaled(job.geometry), grid_shape, extent_voxels=job.extent_voxels)
        return grid_to_volume(grid, job.shape)


def _scaled(geometry: TiltGeometry) -> FloatArray:
    """(tilt, 3, 3): a frequency of a magnified image stands for a finer one of the specimen."""
    return np.asarray(geometry.magnification[:, None, None] * geometry.matrices, dtype=np.float64)


def _windows(job: _Job, centre_px: FloatArray) -> tuple[Tensor, FloatArray, np.ndarray]:
    """Windows (tilt, n, n) about (tilt, 2) pixels from the image centre; where the centre lies in them; which hold it."""
    size = np.array([job.images.shape[2], job.images.shape[1]])
    at = centre_px + size // 2
    corner = np.rint(at).astype(int) - job.n // 2
    seen = ((at >= -job.reach_px) & (at <= size - 1 + job.reach_px)).all(axis=1)
    seen &= ((corner < size) & (corner + job.n > 0)).all(axis=1)
    windows = job.images.new_zeros((len(at), job.n, job.n))
    for t in np.flatnonzero(seen):
        (x, y), (stop_x, stop_y) = np.maximum(corner[t], 0), np.minimum(corner[t] + job.n, size)
        rows, columns = slice(y - corner[t, 1], stop_y - corner[t, 1]), slice(x - corner[t, 0], stop_x - corner[t, 0])
        windows[t, rows, columns] = job.images[t, y:stop_y, x:stop_x]
    windows *= job.fade
    return windows, at - corner, seen


def _inverse(job: _Job, heights: FloatArray, seen: np.ndarray) -> Tensor:
    """What is left of the weights when ramp and dose are taken out: the CTF over what all views hold of its power."""
    if job.power is None or job.shared is None:
        return job.dose.new_ones(())
    visible = torch.as_tensor(seen, dtype=job.dose.dtype, device=job.dose.device)[:, None, None]
    transfer = job.dose.new_ones(())
    if job.phase is not None:
        defocus = torch.as_tensor(job.hand * heights, dtype=job.dose.dtype, device=job.dose.device)[:, None, None]
        change = job.phase_per_angstrom * defocus
        # chi with its sign turned twice: the CTF is -sin(chi), and its inverse is negated to keep the recorded contrast
        transfer = torch.sin(change) * job.phase[0] + torch.cos(change) * job.phase[1]
    total = job.shared.sum(job.power * visible * transfer**2) + job.wiener
    out = torch.zeros_like(job.dose).reshape(len(job.dose), -1)
    out[:, job.shared.inside] = job.shared.overlap / total
    return out.reshape(job.dose.shape) * transfer


def _phase_ramp(job: _Job, origin: FloatArray, *, half: bool) -> Tensor:
    """Factors (tilt, frequency) along one axis that make pixel `origin` of a window the origin."""
    frequency = np.arange(job.m // 2 + 1) if half else np.rint(np.fft.fftfreq(job.m, 1.0 / job.m))
    factor = np.exp(2j * np.pi * frequency * origin[:, None] / job.n)
    return torch.from_numpy(factor).to(device=job.dose.device, dtype=job.dose.dtype.to_complex())


def _filtered(images: Tensor, geometry: TiltGeometry, pixel_size: float, voxel_size: float) -> Tensor:
    r"""Images without their mean, times the angle and the ramp of each tilt, with a soft edge before Nyquist.

    Done on whole images, since the ramp reaches far. It is the transform of its kernel, :math:`-1/(2\pi^2 x^2)` away from
    zero, cut off at half the padded image's edge L: :math:`r(k) = \frac{2}{\pi^2 L} \cos(\pi k L) + \frac{2 k}{\pi}
    \mathrm{Si}(\pi k L)`.
    """
    height, width = images.shape[1:]
    shape = (good_size(math.ceil(_FRAME * height)), good_size(math.ceil(_FRAME * width)))
    edge = min(shape) * pixel_size
    fy, fx = (f.numpy() for f in frequency_vectors(shape, pixel_size, dtype=torch.float64))
    fall = soft_edge(2.0 * max(voxel_size, pixel_size) * torch.from_numpy(np.hypot(fx, fy)), 0.9, 1.0)
    out = torch.empty_like(images)
    # where an image is magnified, its ramp is that of finer detail
    angles = angular_weights(geometry.y_tilt_deg) * geometry.magnification
    for t, (angle, axis) in enumerate(zip(angles, np.deg2rad(geometry.z_rot_deg), strict=True)):
        across = np.abs(np.cos(axis) * fx + np.sin(axis) * fy)
        ramp = 2.0 / (math.pi**2 * edge) * np.cos(math.pi * across * edge)
        ramp += 2.0 * across / math.pi * sici(math.pi * across * edge)[0]
        gain = (torch.from_numpy(angle * ramp) * fall).to(dtype=images.dtype, device=images.device)
        flat = taper_edges(images[t] - images[t].mean(), max(8, min(height, width) // 50))
        out[t] = torch.fft.irfft2(torch.fft.rfft2(flat, s=shape) * gain, s=shape)[:height, :width]
    return out


def _phases(
    ctf: Sequence[CtfFit], optics: Optics, n: int, m: int, pixel_size: float, like: Tensor
) -> tuple[Tensor, Tensor]:
    """Cosine and sine of chi: the CTF is -sin(chi), and so -cos(chi) with a quarter turn added to its phase."""
    parts = []
    for turn in (90.0, 0.0):
        planes = [
            _cropped(
                -ctf_2d(
                    (n, n),
                    pixel_size,
                    fit.defocus_u_angstrom,
                    fit.defocus_v_angstrom,
                    fit.astigmatism_angle_deg,
                    optics,
                    fit.phase_shift_deg + turn,
                    device=like.device,
                    dtype=like.dtype,
                ),
                m,
            )
            for fit in ctf
        ]
        parts.append(torch.stack(planes))
    return parts[0], parts[1]


def _cropped(spectrum: Tensor, m: int) -> Tensor:
    """The lowest m x (m // 2 + 1) samples of an ``rfft2``."""
    rows = torch.cat([spectrum[..., : m // 2, : m // 2 + 1], spectrum[..., -(m // 2) :, : m // 2 + 1]], dim=-2)
    return rows.contiguous()


def _fall_off(size: int, like: Tensor) -> Tensor:
    index = torch.arange(size, dtype=like.dtype, device=like.device)
    return 1.0 - soft_edge(torch.minimum(index, size - 1 - index), 0.0, max(1.0, size * _TAPER))


def _check_memory(voxels: int, images: Tensor) -> None:
    need, free = voxels * images.element_size(), free_bytes(images.device)
    if need > free:
        raise BackendError(
            f"The result needs {need / 2**30:.1f} GiB, but only {free / 2**30:.1f} GiB may be used on {images.device}. "
            "Ask for fewer boxes at once or for larger voxels."
        )


def _run(job: _Job, count: int, fill: Callable[[int], None]) -> None:
    """Call `fill` for every box, on as many threads as torch may use where the CPU works."""
    if job.images.device.type == "cpu":
        run_blocks(count, 1, lambda start, _stop: fill(start))
    else:
        for index in range(count):
            fill(index)
