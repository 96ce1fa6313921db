"""Two-dimensional power spectra beside the fitted contrast transfer, for looking at."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from eucentric.compute import good_size
from eucentric.ctf.prepare_images import crop_to_scale, working_scale
from eucentric.ctf.specimen_plane import plane_heights
from eucentric.ctf.tile_spectra import tile_starts
from eucentric.errors import ShapeError
from eucentric.fourier import fourier_crop
from eucentric.geometry import TiltGeometry
from eucentric.models import CtfFit, Optics
from eucentric.optics.ctf import phase_aberration_2d
from eucentric.typing import FloatArray, ImageArray

_TERMS = 7  # of the polynomial that is the background's logarithm
_BELOW = 1.0 / 50.0  # 1/A; the specimen's shape outweighs the rings below
_LEAST_PX = 32
_ARC_STEP_DEG = 1.0
_CONTRAST = 2.5  # robust standard deviations of a measured spectrum from grey to white
_OVERLAP = 0.4  # of tiles: under a Hann window a third fewer than at one half, for 15% more variance along each side
_KEPT = 1.15  # frequency up to which `working_scale` keeps an image, over that it is asked for
_BLANK = 1e-12  # of the square of a tile's sum: less power than this is rounding


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SpectrumPictures:
    """Half planes of spectra: rows from the most negative y frequency upwards, columns from x frequency zero."""

    measured: ImageArray
    """(tilt, y, half_x): power over its smooth background, less one, in its robust standard deviations."""
    fitted: ImageArray
    """(tilt, y, half_x): ``-cos(2 chi)``, -1 where the contrast transfer is zero, as far as tiles of this size show its rings."""
    edge_frequency: float
    """1/A, at the right edge; the top and bottom lie as far from the middle row ``n // 2``."""

    def as_bytes(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """`measured` with 0 to 255 for -2.5 to 2.5 standard deviations, and `fitted` with 0 to 255 for -1 to 1."""
        scaled = (self.measured / _CONTRAST, self.fitted)
        measured, fitted = (np.round(127.5 * (np.clip(part, -1.0, 1.0) + 1.0)).astype(np.uint8) for part in scaled)
        return measured, fitted


def picture_spectra(
    images: Float[Tensor, "tilt y x"] | Sequence[Float[Tensor, "tile y x"]],
    fits: Sequence[CtfFit],
    *,
    pixel_size: float,
    optics: Optics,
    geometry: TiltGeometry | None = None,
    hand: float = -1.0,
    edge_angstrom: float = 6.0,
    tile_angstrom: float = 700.0,
    arc_deg: float = 0.0,
) -> SpectrumPictures:
    """Average power spectra of tiles of each image, and the fitted contrast transfer on the same frequencies.

    Parameters
    ----------
    images : (tilt, y, x), y up; or for each fit (tile, y, x) of square tiles that share it
    fits : one for each image
    geometry, hand : of tilted images: spectra of tiles are stretched from the defocus at the height of the specimen plane
        under them, fit + hand * z, to that of the fit
    edge_angstrom : detail at the edge of the pictures, A, or a little finer; never finer than two pixels
    tile_angstrom : side of a tile of an image
    arc_deg : measured spectra are averaged along arcs of so many degrees about zero frequency: the rings of images of little
        dose come out of the noise, and keep their place and shape

    Raises
    ------
    ShapeError : as many fits and tilts as images are expected; images too small
    """
    if len(images) != len(fits) or len(fits) == 0 or (geometry is not None and len(geometry) != len(fits)):
        raise ShapeError(f"{len(fits)} fits came with {len(images)} images; expected one for each.")
    measured, fitted, spacing = [], [], 0.0
    edge = max(edge_angstrom, 2.0 * pixel_size)
    for t, (image, fit) in enumerate(zip(images, fits, strict=True)):
        tiles, places, spacing = _tiles(image.float(), pixel_size, edge, tile_angstrom)
        heights = np.zeros(len(tiles))
        if geometry is not None:
            heights = np.nan_to_num(plane_heights(places, geometry[[t]])[0])
        power = _mean_power(tiles, fit.defocus_angstrom, fit.defocus_angstrom + hand * heights).cpu().double()
        side = tiles.shape[-1]
        fy = torch.fft.fftshift(torch.fft.fftfreq(side, spacing, dtype=torch.float64))[:, None]
        fx = torch.fft.rfftfreq(side, spacing, dtype=torch.float64)[None]
        measured.append(_flat(power, torch.sqrt(fy**2 + fx**2), arc_deg))
        fitted.append(_rings(fy, fx, fit, optics, side, spacing))
    return SpectrumPictures(measured=np.stack(measured), fitted=np.stack(fitted), edge_frequency=0.5 / spacing)


def _tiles(
    image: Float[Tensor, "*tile y x"], pixel_size: float, edge: float, tile_angstrom: float
) -> tuple[Float[Tensor, "tile y x"], FloatArray, float]:
    """Tiles sampled at about half of `edge`, their middles (tile, 2) in A from the image's centre, and their spacing."""
    if image.ndim == 3:
        side_px = _side(image, tile_angstrom / pixel_size)
        tiles = image[:, :side_px, :side_px]
        side = good_size(round(side_px * pixel_size / (0.5 * edge)))
        if side < side_px:
            tiles, pixel_size = fourier_crop(tiles, (side, side)), pixel_size * side_px / side
        return tiles, np.zeros((len(tiles), 2)), pixel_size
    keep, spacing = working_scale(pixel_size, _KEPT * edge)
    image = crop_to_scale(image, keep)
    side = _side(image, good_size(round(tile_angstrom / spacing)))
    starts = [tile_starts(n, side, _OVERLAP) for n in image.shape]
    tiles = torch.stack([image[y : y + side, x : x + side] for y in starts[0] for x in starts[1]])
    ys, xs = ([s + side // 2 - n // 2 for s in line] for line, n in zip(starts, image.shape, strict=True))
    return tiles, np.array([[x, y] for y in ys for x in xs], dtype=np.float64) * spacing, spacing


def _side(image: Float[Tensor, "*tile y x"], wanted_px: float) -> int:
    """Even side of a tile that fits into the image."""
    side: int = min(*image.shape[-2:], round(wanted_px)) // 2 * 2
    if side < _LEAST_PX:
        raise ShapeError(f"Images of {image.shape[-1]} x {image.shape[-2]} pixels are too small for a spectrum.")
    return side


def _rings(
    fy: Float[Tensor, "y 1"], fx: Float[Tensor, "1 half_x"], fit: CtfFit, optics: Optics, side: int, spacing: float
) -> ImageArray:
    """-cos(2 chi), faded as in a spectrum: rings a distance 1/d apart are those of points d apart, whose windows overlap less."""
    u, v, angle = fit.defocus_u_angstrom, fit.defocus_v_angstrom, fit.astigmatism_angle_deg
    chi = phase_aberration_2d(fy, fx, u, v, angle, optics, fit.phase_shift_deg)
    frequency = torch.sqrt(fy**2 + fx**2)
    bend = optics.wavelength_angstrom**2 * optics.spherical_aberration_mm * 1e7
    distance = 2.0 * optics.wavelength_angstrom * frequency * (0.5 * (u + v) - bend * frequency**2).abs()
    window = np.hanning(side + 1)[:-1]
    overlap = np.correlate(window, window, "full")[side - 1 :] / np.sum(window**2)
    fade = np.interp((distance / spacing).numpy(), np.arange(side), overlap, right=0.0)
    fade *= (frequency < 0.5 / spacing).numpy()
    return np.asarray(-torch.cos(2.0 * chi).numpy() * fade, dtype=np.float32)


def _mean_power(tiles: Float[Tensor, "tile y x"], defocus: float, local: FloatArray) -> Float[Tensor, "y half_x"]:
    """Power of the windowed tiles, each counting alike, stretched to one defocus; rows from the most negative frequency."""
    side = tiles.shape[-1]
    window = torch.hann_window(side, periodic=True, device=tiles.device)
    area = window[:, None] * window
    level = (tiles * area).sum((1, 2), keepdim=True) / area.sum()
    power = torch.view_as_real(torch.fft.rfft2((tiles - level).mul_(area))).square_().sum(-1)
    total = power.sum((1, 2), keepdim=True)
    kept = (total[:, 0, 0] > 0.2 * total.median()) & (torch.from_numpy(local).to(tiles.device) > 0)
    kept &= total[:, 0, 0] > _BLANK * (level[:, 0, 0] * side**2) ** 2
    power = torch.fft.fftshift(power / total.clamp(min=torch.finfo(torch.float32).tiny), dim=1)[kept]
    if len(power) == 0:
        return torch.zeros(side, side // 2 + 1, device=tiles.device)
    # the phase is that of k^2 D, spherical aberration aside: what is at k was at k sqrt(D / D_local)
    scale = torch.sqrt(max(defocus, 0.0) / torch.from_numpy(local).to(power)[kept])
    if bool(((scale - 1.0).abs() < 1e-6).all()):
        plain: Tensor = power.mean(0)
        return plain
    row = torch.arange(side, device=power.device) - side // 2
    column = torch.arange(power.shape[2], device=power.device)
    grid = power.new_empty(*power.shape, 2)
    grid[..., 0] = (scale[:, None] * (2.0 * column / (power.shape[2] - 1)) - 1.0)[:, None, :]
    grid[..., 1] = (2.0 * (scale[:, None] * row + side // 2) / (side - 1) - 1.0)[:, :, None]
    stretched = torch.nn.functional.grid_sample(
        power[:, None], grid, mode="bilinear", padding_mode="border", align_corners=True
    )
    mean: Tensor = stretched[:, 0].mean(0)
    return mean


def _flat(power: Float[Tensor, "y half_x"], frequency: Float[Tensor, "y half_x"], arc_deg: float) -> ImageArray:
    """Power over a smooth function of frequency, less one, smoothed over 3 x 3 and scaled; 0 below the rings."""
    edge = float(frequency[:, -1].min())
    inside = (frequency > _BELOW) & (frequency < edge) & (power > 0)
    flat = torch.zeros_like(power)
    if int(inside.sum()) > 10 * _TERMS:
        place = 2.0 * (frequency[inside] - _BELOW) / (edge - _BELOW) - 1.0
        basis = np.polynomial.chebyshev.chebvander(place.numpy(), _TERMS - 1)
        # rings of all radii count alike
        weight = 1.0 / np.sqrt(frequency[inside].numpy())
        terms = np.linalg.lstsq(basis * weight[:, None], power[inside].log().numpy() * weight, rcond=None)[0]
        flat[inside] = torch.expm1(power[inside].log() - torch.from_numpy(basis @ terms))
    if arc_deg > 0:
        flat = _along_arcs(flat, arc_deg)
    smooth = torch.nn.functional.avg_pool2d(flat[None, None], 3, stride=1, padding=1, count_include_pad=False)[0, 0]
    spread = 1.4826 * smooth[inside].abs().median() if bool(inside.any()) else smooth.new_tensor(0.0)
    scaled = torch.where(inside, smooth / spread, torch.zeros_like(smooth)) if spread > 0 else smooth
    return np.asarray(scaled.numpy().astype(np.float32))


def _along_arcs(half: Float[Tensor, "y half_x"], arc_deg: float) -> Float[Tensor, "y half_x"]:
    """Mean over arcs about frequency zero, under a triangle as wide as two arcs; the plane is alike at opposite points."""
    rows, columns = half.shape
    middle = rows // 2
    angle = torch.deg2rad(torch.arange(-90.0, 90.0, _ARC_STEP_DEG, dtype=half.dtype))
    radius = torch.arange(columns, dtype=half.dtype)[:, None]
    polar = _sampled(half, radius * torch.cos(angle), radius * torch.sin(angle) + middle)
    reach = max(1, round(arc_deg / _ARC_STEP_DEG))
    steps = torch.arange(-reach, reach + 1)
    share = 1.0 - steps.abs() / (reach + 1.0)
    turns = zip(steps.tolist(), (share / share.sum()).tolist(), strict=True)
    polar = torch.stack([weight * torch.roll(polar, step, 1) for step, weight in turns]).sum(0)
    polar = torch.cat([polar, polar[:, :1]], dim=1)
    y, x = torch.meshgrid(torch.arange(rows) - middle, torch.arange(columns), indexing="ij")
    place = (torch.rad2deg(torch.atan2(y.to(half), x.to(half))) + 90.0) / _ARC_STEP_DEG
    return _sampled(polar, place, torch.hypot(y.to(half), x.to(half)))


def _sampled(
    plane: Float[Tensor, "y x"], x: Float[Tensor, "row column"], y: Float[Tensor, "row column"]
) -> Float[Tensor, "row column"]:
    """Values at places in pixels, by linear interpolation; those of the edge beyond it."""
    grid = torch.stack([2.0 * x / (plane.shape[1] - 1) - 1.0, 2.0 * y / (plane.shape[0] - 1) - 1.0], dim=-1)
    out: Tensor = torch.nn.functional.grid_sample(
        plane[None, None], grid[None], mode="bilinear", padding_mode="border", align_corners=True
    )
    return out[0, 0]
