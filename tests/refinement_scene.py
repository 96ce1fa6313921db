"""Tilt series of blob particles whose images are written down: projection, CTF, damage, aberrations and noise.

Every rotation, sign and formula here is spelt out in NumPy, so that a sign that is wrong in refinement disagrees with it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from eucentric.averaging.params import ExtractParams
from eucentric.averaging.particle_images import prepare_series
from eucentric.geometry import Deformation
from eucentric.models import CtfFit, Optics, Tilt, TiltPose, TiltSeries
from eucentric.refinement.image_sums import Reference, RefinedParticles
from eucentric.refinement.params import RefineParams
from eucentric.refinement.refine_series import SeriesRefinement, SeriesRefiner, SpeciesImages
from eucentric.refinement.results import SeriesMemory
from eucentric.refinement.unknowns import SeriesState

PIXEL, SHAPE = 5.0, (360, 384)
DOSE = 3.0
"""e/A^2 of an image."""
OPTICS = Optics(voltage_kv=300.0, spherical_aberration_mm=2.7, amplitude_contrast=0.08)
WINDOW = 80
RADIUS, BLOBS, SIGMA, MASS = 70.0, 308, 2.5, 6.5
"""A, of a particle; its blobs, their width in A, and contrast times A^2 of each: about a particle of 0.7 MDa in ice."""
BOX, FINEST = 40, 11.0
Moved = Callable[[np.ndarray, float], np.ndarray]


def blob_places(seed: int = 0, symmetry: int = 1) -> np.ndarray:
    """(blob, 3) in A; with a seven-fold axis along z and two-fold ones across it where `symmetry` is 7."""
    rng = np.random.default_rng(seed)
    count = BLOBS // (2 * symmetry if symmetry > 1 else 1)
    places = rng.normal(size=(count, 3))
    places *= RADIUS * rng.uniform(0.0, 1.0, (count, 1)) ** (1 / 3) / np.linalg.norm(places, axis=1, keepdims=True)
    if symmetry == 1:
        return places - places.mean(0)
    turns = [Rotation.from_rotvec([0.0, 0.0, 2 * math.pi * i / symmetry]).as_matrix() for i in range(symmetry)]
    flip = np.diag([1.0, -1.0, -1.0])
    return np.concatenate([places @ (t @ f).T for t in turns for f in (np.eye(3), flip)])


def blob_volume(places: np.ndarray, size: int, voxel: float) -> torch.Tensor:
    """(z, y, x) density in contrast per A, sampled without aliasing."""
    k = np.fft.fftfreq(size, voxel)
    waves = [np.exp(-2j * np.pi * np.outer(places[:, a], k)) for a in (2, 1, 0)]
    spectrum = MASS * np.einsum("bz,by,bx->zyx", *waves, optimize=True)
    squared = k[:, None, None] ** 2 + k[:, None] ** 2 + k**2
    spectrum *= np.exp(-2.0 * (math.pi * SIGMA) ** 2 * squared) * (squared < (0.5 / voxel) ** 2)
    return torch.from_numpy(np.fft.fftshift(np.fft.ifftn(spectrum).real) / voxel**3).float()


def turned(axis: int, deg: float) -> np.ndarray:
    """Right-handed rotation about x, y or z, written out."""
    c, s = math.cos(math.radians(deg)), math.sin(math.radians(deg))
    rows = {
        0: [[1, 0, 0], [0, c, -s], [0, s, c]],
        1: [[c, 0, s], [0, 1, 0], [-s, 0, c]],
        2: [[c, -s, 0], [s, c, 0], [0, 0, 1]],
    }
    return np.array(rows[axis], dtype=np.float64)


def camera_of(pose: TiltPose) -> np.ndarray:
    """(3, 3), specimen to camera."""
    return turned(2, pose.z_rot_deg) @ turned(1, pose.y_tilt_deg) @ turned(0, pose.x_tilt_deg)


def tilt_series(
    name: str = "TS_01", *, step: float = 6.0, dose: float = DOSE, defocus: float = 22000.0, seed: int = 1
) -> TiltSeries:
    """An aligned series from -60 to 60 degrees, taken outwards from 0 on both sides."""
    rng = np.random.default_rng(seed)
    angles = np.arange(-60.0, 60.1, step)
    order = np.argsort(np.argsort(np.abs(angles) + 0.1 * (angles < 0)))
    tilts = [
        Tilt(
            nominal_tilt_deg=float(a),
            acquisition=int(i),
            dose=dose,
            pre_exposure=dose * float(i),
            pose=TiltPose(
                y_tilt_deg=float(a) + 1.0,
                z_rot_deg=84.0,
                x_tilt_deg=1.5,
                x_shift_angstrom=rng.normal(0.0, 15.0),
                y_shift_angstrom=rng.normal(0.0, 15.0),
            ),
            ctf=CtfFit(
                defocus_u_angstrom=defocus + 20.0 * i + 300.0,
                defocus_v_angstrom=defocus + 20.0 * i - 300.0,
                astigmatism_angle_deg=25.0,
            ),
        )
        for a, i in zip(angles, order, strict=True)
    ]
    return TiltSeries(
        name=name, pixel_size_angstrom=PIXEL, image_shape=SHAPE, tilts=tuple(tilts), optics=OPTICS, hand=-1.0
    )


def scattered(count: int, *, seed: int = 2, reach: tuple[float, float, float] = (780.0, 720.0, 450.0)):
    """Places (count, 3) in A no nearer than a particle's diameter, and orientations (count, 3, 3)."""
    rng = np.random.default_rng(seed)
    places: list[np.ndarray] = []
    while len(places) < count:
        place = rng.uniform(-1.0, 1.0, 3) * reach
        if all(np.linalg.norm(place - p) > 2.0 * RADIUS for p in places):
            places.append(place)
    return np.array(places), Rotation.random(count, rng=rng).as_matrix()


def still(points: np.ndarray, dose: float) -> np.ndarray:
    """A specimen that does not move."""
    return np.zeros_like(points)


def bending(points: np.ndarray, dose: float) -> np.ndarray:
    """A film that domes and drifts with the dose, in A."""
    x, y = points[:, 0] / 900.0, points[:, 1] / 900.0
    part = 1.0 - math.exp(-dose / 15.0)
    return part * np.stack([6.0 * x * y + 5.0 * x, -5.0 * y + 4.0 * x, 25.0 * (x**2 + y**2)], axis=1)


def seen(series: TiltSeries, points: np.ndarray, moved: Moved = still) -> tuple[np.ndarray, np.ndarray]:
    """(tilt, point, 2) where points are seen in A from the image centre, and (tilt, point) their heights."""
    places, heights = [], []
    for tilt in series.tilts:
        pose = tilt.pose
        there = points + moved(points, tilt.pre_exposure + 0.5 * tilt.dose)
        camera = there @ camera_of(pose).T
        places.append(pose.magnification * camera[:, :2] + [pose.x_shift_angstrom, pose.y_shift_angstrom])
        heights.append(camera[:, 2])
    return np.array(places), np.array(heights)


def seen_with(series: TiltSeries, deformation: Deformation, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """:func:`seen` with a deformation of the package."""
    volume, image = deformation.volume, deformation.image
    places, heights = seen(series, points, still if volume is None else volume.at)
    if image is not None:
        places = np.stack([p + image.at(t, torch.from_numpy(p)).numpy() for t, p in enumerate(places)])
    return places, heights


def frequencies(size: int, pixel: float) -> tuple[np.ndarray, np.ndarray]:
    """ky (size, 1) and kx (size // 2 + 1,) in 1/A."""
    return np.fft.fftfreq(size, pixel)[:, None], np.fft.rfftfreq(size, pixel)


def chi(fit: CtfFit, optics: Optics, defocus_change: float, ky: np.ndarray, kx: np.ndarray) -> np.ndarray:
    """Phase in radians; an image shows -sin of it."""
    squared, angle = kx**2 + ky**2, np.arctan2(ky, kx)
    mean = 0.5 * (fit.defocus_u_angstrom + fit.defocus_v_angstrom) + defocus_change
    half = 0.5 * (fit.defocus_u_angstrom - fit.defocus_v_angstrom)
    z = mean + half * np.cos(2.0 * (angle - math.radians(fit.astigmatism_angle_deg)))
    wave = optics.wavelength_angstrom
    aberration = 0.5 * math.pi * 1e7 * optics.spherical_aberration_mm * wave**3 * squared**2
    constant = math.asin(optics.amplitude_contrast) + math.radians(fit.phase_shift_deg)
    return math.pi * wave * squared * z - aberration + constant


def odd_phase(optics: Optics, ky: np.ndarray, kx: np.ndarray) -> np.ndarray:
    """Phase in radians that coma and trefoil add."""
    (bx, by), (tx, ty) = optics.beam_tilt_mrad, optics.trefoil_rad_angstrom3
    cubed = (kx + 1j * ky) ** 3
    coma = -2.0 * math.pi * 1e7 * optics.spherical_aberration_mm * optics.wavelength_angstrom**2
    return coma * (kx**2 + ky**2) * 1e-3 * (bx * kx + by * ky) + tx * cubed.real + ty * cubed.imag


def faded(dose: float, magnification: float, ky: np.ndarray, kx: np.ndarray) -> np.ndarray:
    """What damage leaves after a dose at 300 kV (Grant & Grigorieff 2015)."""
    k = magnification * np.sqrt(kx**2 + ky**2)
    critical = 0.24499 * np.where(k > 0, k, 1.0) ** -1.6649 + 2.8141
    return np.where(k > 0, np.exp(-0.5 * dose / critical), 1.0)


def particle_spectrum(
    blobs: np.ndarray, camera: np.ndarray, magnification: float, offset: np.ndarray, ky: np.ndarray, kx: np.ndarray
) -> np.ndarray:
    """(ky, kx) transform of the projection of a particle that is seen at `offset` (2,) in A from the origin."""
    at = magnification * (blobs @ camera[:2].T) + offset
    along_y, along_x = (np.exp(-2j * np.pi * np.float32(a)) for a in (ky * at[:, 1], at[:, :1] * kx))
    width = SIGMA * magnification
    return (along_y @ along_x) * (MASS * np.exp(-2.0 * (math.pi * width) ** 2 * (kx**2 + ky**2)))


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What is in the specimen, how it was imaged, and its images."""

    series: TiltSeries
    """As it truly was."""
    blobs: np.ndarray
    positions: np.ndarray
    rotations: np.ndarray
    images: torch.Tensor
    """(tilt, y, x) counts."""
    moved: Moved = still


def imaged(
    series: TiltSeries,
    positions: np.ndarray,
    rotations: np.ndarray,
    blobs: np.ndarray,
    *,
    moved: Moved = still,
    noise: float = 1.0,
    seed: int = 5,
) -> Scene:
    """A scene with shot noise of each image's dose, `noise` times as much; a particle has the CTF of its centre's height."""
    rows, columns = series.image_shape
    pixel, half = series.pixel_size_angstrom, WINDOW // 2
    ky, kx = frequencies(WINDOW, pixel)
    rng = np.random.default_rng(seed)
    places, heights = seen(series, positions, moved)
    images = np.empty((len(series.tilts), rows, columns), dtype=np.float32)
    for t, tilt in enumerate(series.tilts):
        frame = np.zeros((rows + 2 * WINDOW, columns + 2 * WINDOW))
        camera, m = camera_of(tilt.pose), tilt.pose.magnification
        fade = faded(tilt.pre_exposure + 0.5 * tilt.dose, m, ky, kx)
        odd = np.exp(1j * odd_phase(series.optics, ky, kx))
        for place, height, turn in zip(places[t], heights[t], rotations, strict=True):
            at = place / pixel + [columns // 2, rows // 2]
            corner = np.rint(at).astype(int) - half
            if (corner < -WINDOW).any() or (corner > [columns, rows]).any():
                continue
            spectrum = particle_spectrum(blobs, camera @ turn, m, (at - corner) * pixel, ky, kx)
            transfer = -np.sin(chi(tilt.ctf, series.optics, series.hand * height, ky, kx)) * fade * odd
            window = np.fft.irfft2(spectrum * transfer, s=(WINDOW, WINDOW)) / pixel**2
            frame[corner[1] + WINDOW :, corner[0] + WINDOW :][:WINDOW, :WINDOW] += window
        mean = tilt.dose * pixel**2
        contrast = frame[WINDOW:-WINDOW, WINDOW:-WINDOW]
        images[t] = mean * (1.0 + contrast + noise / math.sqrt(mean) * rng.standard_normal((rows, columns)))
    return Scene(
        series=series,
        blobs=blobs,
        positions=positions,
        rotations=rotations,
        images=torch.from_numpy(images),
        moved=moved,
    )


def with_poses(series: TiltSeries, **arrays: np.ndarray) -> TiltSeries:
    """A series whose poses have fields changed by so much, each (tilt,)."""
    tilts = [
        replace(t, pose=replace(t.pose, **{name: getattr(t.pose, name) + float(v[i]) for name, v in arrays.items()}))
        for i, t in enumerate(series.tilts)
    ]
    return series.with_tilts(tilts)


def with_defocus(series: TiltSeries, changes: np.ndarray, astigmatism: tuple[float, float] = (0.0, 0.0)) -> TiltSeries:
    """A series with so much defocus more in each tilt, and astigmatism along x and at 45 degrees in all, in A."""
    tilts = []
    for tilt, change in zip(series.tilts, np.broadcast_to(changes, len(series.tilts)), strict=True):
        x, y = astigmatism_of(tilt.ctf) + np.array(astigmatism)
        size, mean = math.hypot(x, y), tilt.ctf.defocus_angstrom + float(change)
        fit = replace(
            tilt.ctf,
            defocus_u_angstrom=mean + size,
            defocus_v_angstrom=mean - size,
            astigmatism_angle_deg=0.5 * math.degrees(math.atan2(y, x)),
        )
        tilts.append(replace(tilt, ctf=fit))
    return series.with_tilts(tilts)


def astigmatism_of(fit: CtfFit) -> np.ndarray:
    """(2,) half the difference of both defoci, along x and at 45 degrees."""
    half, angle = 0.5 * (fit.defocus_u_angstrom - fit.defocus_v_angstrom), math.radians(2.0 * fit.astigmatism_angle_deg)
    return half * np.array([math.cos(angle), math.sin(angle)])


def perturbed(scene: Scene, angstrom: float, deg: float, *, seed: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Places and orientations of the particles as an average would have left them: wrong by so much, each component one deviation."""
    rng = np.random.default_rng(seed)
    count = len(scene.positions)
    turns = Rotation.from_rotvec(np.deg2rad(rng.normal(0.0, deg, (count, 3)))).as_matrix()
    return scene.positions + rng.normal(0.0, angstrom, (count, 3)), turns @ scene.rotations


def angle_errors_deg(found: TiltSeries, truth: TiltSeries) -> np.ndarray:
    """(tilt, 3) turns about the camera's axes between two geometries, without a turn of the whole specimen: nothing tells that."""
    a = np.stack([camera_of(p) for p in found.poses])
    b = np.stack([camera_of(p) for p in truth.poses])
    common = Rotation.from_matrix(np.swapaxes(b, 1, 2) @ a).mean().as_matrix()
    return np.rad2deg(Rotation.from_matrix(a @ np.swapaxes(b @ common, 1, 2)).as_rotvec())


def place_errors(found: tuple[TiltSeries, Deformation, np.ndarray], scene: Scene) -> np.ndarray:
    """(tilt, particle, 2) in A: how far from the truth a geometry and positions place the particles in the images."""
    series, deformation, positions = found
    return seen_with(series, deformation, positions)[0] - seen(scene.series, scene.positions, scene.moved)[0]


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def refined(
    scene: Scene,
    start: TiltSeries,
    particles: tuple[np.ndarray, np.ndarray],
    params: RefineParams,
    *,
    deformation: Deformation | None = None,
    resolution_angstrom: float = FINEST,
    ctf: bool = True,
) -> SeriesRefinement:
    """A series refined from a wrong start against the true map, which holds no noise."""
    bent = deformation or Deformation()
    source = prepare_series(
        scene.images, start, ExtractParams(box_size=BOX, ctf=ctf), warp=bent.image, volume=bent.volume
    )
    species = SpeciesImages(
        name="blobs",
        source=source,
        references=(Reference(blob_volume(scene.blobs, BOX, PIXEL), PIXEL),),
        finest_angstrom=max(FINEST, resolution_angstrom),
        resolution_angstrom=resolution_angstrom,
    )
    positions, rotations = particles
    own = RefinedParticles(
        positions_angstrom=positions,
        rotations=rotations,
        references=np.zeros(len(positions), np.int64),
        contrasts=np.ones(len(positions)),
    )
    state = SeriesState(series=start, deformation=bent, particles=(own,))
    return SeriesRefiner([species], params, SeriesMemory()).refine(state)
