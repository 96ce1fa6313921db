r"""What every image of every particle says about its place, orientation, magnification and contrast transfer.

An image is :math:`y = \sum_j (1 + \beta_j)\, b_j\, a\, T e^{i\psi} m\, e^{-2\pi i k \cdot \delta} + n`: m is a central slice of
the map, T the transfer, a the contrast of the particle, b_j bands of frequency that add up to one. Its log-likelihood is quadratic
near the present geometry, and all of it is in the products of the model's slopes with each other and with the data, a matrix of a few
numbers for each image. Whatever unknowns the geometry has reach the images through these slopes alone, so images are
looked at once for all of them.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Self, overload

import numpy as np
import torch
from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor

from eucentric.averaging.particle_images import SeriesImages
from eucentric.compute.device import free_bytes
from eucentric.errors import ShapeError
from eucentric.projection.cpu import run_items
from eucentric.projection.slices import extract_slices, volume_to_grid
from eucentric.typing import FloatArray

_LEAST_SEEN = 0.05
_GRIDS_PER_VOXEL = 128  # bytes: four grids of twice the edge, half of each, complex
_MEMORY = 0.25
_BYTES_PER_SLOPE = 32  # a complex number, and copies of it while rows are made
_SLOPES_BYTES = 2**28  # of a thread, for the slopes of as many images as fit
_TOGETHER = 8  # particles whose slices are read together
BANDS = 10
"""Of frequency, whose contrast is free: a reference is filtered, and a wrong contrast must not pass for defocus."""
COARSE = 20.0
"""A; coarser detail is not asked about the transfer: up to its first zeros a change of defocus is hardly more than one of
contrast, and whatever else lies there passes for it. As M does (Tegunov et al. 2021)."""
LOCAL = (
    *(f"band{j}" for j in range(BANDS)),
    "x", "y", "turn_x", "turn_y", "turn_z", "magnification",
    "defocus", "astigmatism_x", "astigmatism_y", "spherical", "phase", "coma_x", "coma_y", "trefoil_x", "trefoil_y",
)  # fmt: skip
"""What an image is changed by: shifts in A, turns in the camera's frame in radians, the logarithm of the scale, defocus and
astigmatism in A, spherical aberration in mm, phase in radians, beam tilt in mrad, trefoil in rad A^3."""
AT = {name: i for i, name in enumerate(LOCAL)}


class Reference:
    """A map ready to be projected, with its slopes."""

    def __init__(self, volume: Float[Tensor, "n n n"], voxel_size: float) -> None:
        """
        Parameters
        ----------
        volume : filtered and masked, protein bright, in contrast per A

        Raises
        ------
        ShapeError : no cube of even size
        """
        n = volume.shape[0]
        if tuple(volume.shape) != (n, n, n) or n % 2:
            raise ShapeError(f"The reference has {tuple(volume.shape)} voxels; expected a cube of even size.")
        self.box_size = n
        self._volume, self._voxel_size = volume, voxel_size
        self._grids: list[Complex[Tensor, "z y half_x"]] = []

    def grids(self, count: int) -> Sequence[Complex[Tensor, "z y half_x"]]:
        """The first so many: of the map, and of the map times x, y and z in voxels. Made when first asked for."""
        n, volume = self.box_size, self._volume
        line = torch.arange(n, device=volume.device, dtype=volume.dtype) - n // 2
        factors = (volume.new_ones(1), line, line[:, None], line[:, None, None])
        for factor in factors[len(self._grids) : count]:
            self._grids.append(volume_to_grid(volume * factor * self._voxel_size, (2 * n,) * 3))
        return self._grids[:count]


class References(Sequence[Reference]):
    """References of the parts of both halves: all held where they fit into a quarter of free memory, else made when asked for."""

    def __init__(self, volumes: Sequence[Float[Tensor, "n n n"]], voxel_size: float) -> None:
        """
        Parameters
        ----------
        volumes : filtered and masked, protein bright, in contrast per A
        """
        self._volumes, self._voxel_size = tuple(volumes), voxel_size
        self._made: dict[int, Reference] = {}
        need = sum(_GRIDS_PER_VOXEL * v.numel() for v in volumes)
        self._held = bool(volumes) and need < _MEMORY * free_bytes(volumes[0].device)

    def __len__(self) -> int:
        return len(self._volumes)

    @overload
    def __getitem__(self, number: int) -> Reference: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Reference]: ...
    def __getitem__(self, number: int | slice) -> Reference | Sequence[Reference]:
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(len(self)))]
        if number in self._made:
            return self._made[number]
        made = Reference(self._volumes[number], self._voxel_size)
        if self._held:
            self._made[number] = made
        return made


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RefinedParticles:
    """Particles of one species in one series."""

    positions_angstrom: FloatArray
    """(particle, 3)."""
    rotations: FloatArray
    """(particle, 3, 3), reference to specimen."""
    references: Int[np.ndarray, " particle"]
    """Which of the species' references each is compared with."""
    contrasts: FloatArray
    """(particle,), over that of the reference."""

    def __len__(self) -> int:
        return len(self.positions_angstrom)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageSums:
    """Products of the slopes of the model of each image; rows and columns as :data:`LOCAL`."""

    overlap: FloatArray
    """(image, local): slopes times data, over the noise."""
    norm: FloatArray
    """(image, local, local)."""
    particle: Int[np.ndarray, " image"]
    tilt: Int[np.ndarray, " image"]

    @property
    def contrast_terms(self) -> tuple[FloatArray, FloatArray]:
        """(image,) x and p: the overlap of the model itself with the data, and its norm."""
        return self.overlap[:, :BANDS].sum(1), self.norm[:, :BANDS, :BANDS].sum((1, 2))

    @classmethod
    def joined(cls, parts: Sequence[Self], counts: Sequence[int]) -> Self:
        """Of several species with so many particles each, which are counted on."""
        starts = np.cumsum([0, *counts])
        return cls(
            overlap=np.concatenate([p.overlap for p in parts]),
            norm=np.concatenate([p.norm for p in parts]),
            particle=np.concatenate([p.particle + s for p, s in zip(parts, starts, strict=False)]),
            tilt=np.concatenate([p.tilt for p in parts]),
        )


class ImageModel:
    """The images of one species in one series, predicted and compared."""

    def __init__(
        self, source: SeriesImages, references: Sequence[Reference], finest_angstrom: float, *, bands_angstrom: float
    ) -> None:
        """
        Parameters
        ----------
        source : with boxes of the references' size
        references : that particles name by number
        finest_angstrom : A; finer detail is not compared
        bands_angstrom : A; the last band of contrast is at this detail
        """
        self.source = source
        self._references = references
        self._matrices = source.matrices
        self._finest = finest_angstrom
        n, m, pixel = source.params.box_size, source.window_size, source.pixel_size_angstrom
        device = source.images.device
        fy = torch.fft.fftfreq(m, pixel, device=device)[:, None].expand(m, m // 2 + 1)
        fx = torch.fft.rfftfreq(m, pixel, device=device).expand(m, m // 2 + 1)
        radius = torch.sqrt(fy.square() + fx.square())
        highest = min(1.0 / finest_angstrom, 0.5 / pixel)
        flat = (radius < highest).reshape(-1).nonzero().reshape(-1)
        self._inside = flat
        self._fx, self._fy = fx.reshape(-1)[flat], fy.reshape(-1)[flat]
        self._share = torch.where(flat % (m // 2 + 1) == 0, 1.0, 2.0).to(fx) * (n / m) ** 2
        self._bands = _bands(radius.reshape(-1)[flat] * bands_angstrom)
        self._coarse = _coarse_index(n, m, device)[flat]

    def sums(self, particles: RefinedParticles, others: Float[Tensor, "tilt y x"] | None = None) -> ImageSums:
        """Products for every image in which a particle is seen.

        Parameters
        ----------
        others : predicted images of all particles, these too; what is of others is taken off the data. None: nothing is
        """
        seen = self.source.project(particles.positions_angstrom)
        parts: list[tuple[FloatArray, FloatArray, np.ndarray] | None] = [None] * len(particles)
        noise = self.source.inverse_noise  # made once, before threads share it
        usual = self.source.usual is not None

        step = max(1, _SLOPES_BYTES // (_BYTES_PER_SLOPE * len(LOCAL) * len(self._inside)))

        def products(i: int, tilts: np.ndarray, slices: Sequence[Tensor]) -> None:
            norms, overlaps = [], []
            for start in range(0, len(tilts), step):
                some = tilts[start : start + step]
                places = seen.pixels[some, i]
                own = [s[start : start + step] for s in slices]
                slopes, model = self._slopes(particles, i, some, seen.heights_angstrom[some, i], own)
                data = self._inner(self.source.spectra(some, places))
                weight = self._inner(noise[torch.from_numpy(some).to(noise.device)]) * self._share
                if usual:
                    # data are faded at the edges of the field, and shares count that
                    data = data / self.source.seen_parts(places).clamp_min(_LEAST_SEEN)[:, None]
                    weight = weight * self.source.shares(some, places).flatten(1)[:, self._coarse]
                if others is not None:
                    data = data - self._inner(self.source.spectra(some, places, of=others))
                    data = data + float(particles.contrasts[i]) * model
                root = weight.sqrt()
                rows = torch.view_as_real(slopes * root[:, None]).flatten(2)
                seen_rows = torch.view_as_real(data * root).flatten(1)
                norms.append(torch.bmm(rows, rows.transpose(1, 2)).double().cpu().numpy())
                overlaps.append(torch.bmm(rows, seen_rows[:, :, None])[:, :, 0].double().cpu().numpy())
            parts[i] = (np.concatenate(overlaps), np.concatenate(norms), tilts)

        self._each(particles, seen.visible, 4, products)
        known = [(i, p) for i, p in enumerate(parts) if p is not None]
        k = len(LOCAL)
        return ImageSums(
            overlap=np.concatenate([np.zeros((0, k)), *(p[0] for _, p in known)]),
            norm=np.concatenate([np.zeros((0, k, k)), *(p[1] for _, p in known)]),
            particle=np.concatenate([np.zeros(0, np.int64), *(np.full(len(p[2]), i) for i, p in known)]),
            tilt=np.concatenate([np.zeros(0, np.int64), *(p[2] for _, p in known)]),
        )

    def predicted(self, particles: RefinedParticles) -> Float[Tensor, "tilt y x"]:
        """Images of all particles, on the pixels of the source; what is finer than is compared is left out."""
        seen = self.source.project(particles.positions_angstrom)
        m = self.source.window_size
        out = torch.zeros_like(self.source.images)
        one_at_a_time = Lock()

        def add(i: int, tilts: np.ndarray, slices: Sequence[Tensor]) -> None:
            transfer, _ = self._transfer(tilts, seen.heights_angstrom[tilts, i])
            spectra = transfer.new_zeros((len(tilts), m * (m // 2 + 1)), dtype=slices[0].dtype)
            spectra[:, self._inside] = float(particles.contrasts[i]) * transfer * slices[0]
            with one_at_a_time:
                self.source.add_windows(out, spectra.reshape(len(tilts), m, -1), tilts, seen.pixels[tilts, i])

        self._each(particles, seen.visible, 1, add)
        return out

    def _each(
        self,
        particles: RefinedParticles,
        visible: Bool[np.ndarray, "tilt particle"],
        grids: int,
        work: Callable[[int, np.ndarray, Sequence[Tensor]], None],
    ) -> None:
        """Call work(particle, tilts, slices) for each particle that is seen, with the samples of so many grids' slices."""
        for number in range(len(self._references)):
            rows = np.flatnonzero((particles.references == number) & visible.any(axis=0))
            if len(rows):
                self._of_reference(particles, visible, rows, self._references[number], grids, work)

    def _of_reference(
        self,
        particles: RefinedParticles,
        visible: Bool[np.ndarray, "tilt particle"],
        rows: Int[np.ndarray, " row"],
        reference: Reference,
        grids: int,
        work: Callable[[int, np.ndarray, Sequence[Tensor]], None],
    ) -> None:
        """The same for particles that are compared with one reference."""
        batches = [rows[start : start + _TOGETHER] for start in range(0, len(rows), _TOGETHER)]
        held = reference.grids(grids)

        def fill(number: int) -> None:
            some = batches[number]
            tilts = [np.flatnonzero(visible[:, i]) for i in some]
            matrices = np.concatenate(
                [self._matrices[t] @ particles.rotations[i] for i, t in zip(some, tilts, strict=True)]
            )
            slices = [extract_slices(g, matrices, reference.box_size) for g in held]
            ends = np.cumsum([0, *(len(t) for t in tilts)])
            for j, i in enumerate(some):
                own = slice(int(ends[j]), int(ends[j + 1]))
                work(int(i), tilts[j], [self._inner(_padded(s[own], self.source.window_size)) for s in slices])

        if self.source.images.device.type == "cpu":
            run_items(len(batches), fill)
        else:
            for number in range(len(batches)):
                fill(number)

    def _transfer(
        self, tilts: np.ndarray, heights: FloatArray
    ) -> tuple[Float[Tensor, "tilt sample"], Float[Tensor, "tilt sample"]]:
        """Of the images of a particle, and the same a quarter of a turn later."""
        chi = self._inner(self.source.chi(tilts, heights))
        envelope = self._inner(self.source.envelope[torch.from_numpy(tilts).to(chi.device)])
        return -chi.sin() * envelope, -chi.cos() * envelope

    def _inner(self, values: Tensor) -> Tensor:
        return values.flatten(1)[:, self._inside]

    def _slopes(
        self, particles: RefinedParticles, i: int, tilts: np.ndarray, heights: FloatArray, slices: Sequence[Tensor]
    ) -> tuple[Complex[Tensor, "tilt local sample"], Complex[Tensor, "tilt sample"]]:
        """Slopes of the model of the images of a particle, contrast one, and the model itself."""
        source, pixel = self.source, self.source.pixel_size_angstrom
        m = slices[0]
        transfer, later = self._transfer(tilts, heights)
        model = transfer * m
        turn = torch.from_numpy(self._matrices[tilts] @ particles.rotations[i]).to(m)
        gx, gy, gz = (sum(turn[:, a, b, None] * slices[1 + b] for b in range(3)) for a in range(3))
        kx, ky = self._fx, self._fy
        along = transfer * (2j * math.pi * pixel)  # slopes are in voxels, frequencies in 1/A
        squared = kx.square() + ky.square()
        optics = source.series.optics
        wavelength = 0.0 if optics is None else optics.wavelength_angstrom
        cs = 0.0 if optics is None else 1e7 * optics.spherical_aberration_mm
        quarter = later * m * (squared > COARSE**-2) * (math.pi * wavelength) if source.phase is not None else 0.0 * m
        odd = 1j * model
        tilted = -2.0 * math.pi * cs * wavelength**2 * 1e-3 * squared
        columns = [
            *(model * b for b in self._bands),
            -2j * math.pi * kx * model,
            -2j * math.pi * ky * model,
            along * gz * ky,
            -along * gz * kx,
            along * (kx * gy - ky * gx),
            -along * (kx * gx + ky * gy),
            quarter * squared,
            quarter * (kx.square() - ky.square()),
            quarter * (2.0 * kx * ky),
            quarter * (-0.5e7 * wavelength**2 * squared.square()),
            quarter / (math.pi * wavelength) if wavelength else quarter,
            odd * (tilted * kx),
            odd * (tilted * ky),
            odd * (kx * (kx.square() - 3.0 * ky.square())),
            odd * (ky * (3.0 * kx.square() - ky.square())),
        ]
        return torch.stack(columns, dim=1), model


def _bands(radius: Float[Tensor, " sample"]) -> Float[Tensor, "band sample"]:
    """Hats along the radius, 0 to 1, that add up to one."""
    place = radius * (BANDS - 1)
    knots = torch.arange(BANDS, device=radius.device, dtype=radius.dtype)
    return (1.0 - (place - knots[:, None]).abs()).clamp_min(0.0)


def _padded(spectra: Complex[Tensor, "image n half_n"], m: int) -> Complex[Tensor, "image m half_m"]:
    """The transforms of the same images amid zeros, phases from the middle as before."""
    n = spectra.shape[1]
    boxes = torch.fft.irfft2(spectra, s=(n, n))
    half = n // 2
    out = boxes.new_zeros((len(boxes), m, m))
    for to, source in ((slice(0, half), slice(0, half)), (slice(m - half, m), slice(n - half, n))):
        out[:, to, :half] = boxes[:, source, :half]
        out[:, to, m - half :] = boxes[:, source, n - half :]
    padded: Tensor = torch.fft.rfft2(out)
    return padded


def _coarse_index(n: int, m: int, device: torch.device) -> Int[Tensor, " sample"]:
    """For each flat sample of a window's rfft2 the nearest of a box's."""
    step = m // n
    fy = torch.round(torch.fft.fftfreq(m, 1.0 / m, device=device) / step).long()
    fx = torch.round(torch.arange(m // 2 + 1, device=device) / step).long().clamp(max=n // 2)
    return (torch.remainder(fy, n)[:, None] * (n // 2 + 1) + fx).reshape(-1)
