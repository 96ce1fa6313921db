r"""Movies whose frames move as a whole and locally, with the displacement of every place known.

Protein-like clusters of points lie in a layer of ice. Every particle is drawn at its own displaced place in every frame, so no
image is interpolated. The beam drags the specimen along, fast at first, and domes it: points move away from the middle and with
a random smooth field, each falling off with the dose. Contrast is that of a weak phase object, with CTF and Poisson counts.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.compute.sizes import good_size
from eucentric.fourier.exposure import exposure_weights
from eucentric.fourier.grid import frequency_grid
from eucentric.geometry import Rotation
from eucentric.models.optics import Optics
from eucentric.optics.atoms import interaction_parameter
from eucentric.optics.ctf import ctf_2d
from eucentric.simulation.species import procedural_macromolecule
from eucentric.simulation.spreading import spread_points
from eucentric.typing import FloatArray

_DECAY = 3.0  # e/A^2 over which beam-induced motion falls to 1/e


@dataclass(frozen=True, slots=True, kw_only=True)
class MovingScene:
    """What is recorded and how it moves; all lengths in A."""

    image_shape: tuple[int, int] = (1024, 1024)
    """y, x."""
    pixel_size: float = 2.0
    frames: int = 10
    dose: float = 3.0
    """e/A^2 of the movie."""
    voltage_kv: float = 300.0
    defocus: float = 40_000.0
    particle_mass_kda: float = 300.0
    coverage: float = 0.25
    """Part of the field that particles cover in projection."""
    ice: float = 1500.0
    """Its inelastic scattering takes electrons away."""
    drift: float = 12.0
    """Common motion over the movie, A."""
    doming: float = 4.0
    """Motion of the corners away from the middle over the movie."""
    local: float = 4.0
    """Standard deviation of the random smooth motion over the movie."""
    correlation_length: float = 3000.0
    """Over which the random motion changes."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MovingMovie:
    """Counts and truth."""

    frames: Float[Tensor, "frame y x"]
    expected: Float[Tensor, "frame y x"]
    """Electrons expected in each frame: the frames without their noise."""
    clean: Float[Tensor, "y x"]
    """Electrons expected over the movie were nothing to move, at the mean place."""
    places: FloatArray
    """(y, x, 2) where the truth is given: x, y in A from the image centre."""
    displacement: FloatArray
    """(frame, y, x, 2), x and y in A, zero mean over frames."""
    doses: FloatArray
    """(frame,), e/A^2."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Motion:
    """Sums of waves in space times courses in time."""

    drift: FloatArray  # (frame, 2)
    doming: FloatArray  # (frame,), 1/A
    waves: FloatArray  # (wave, 2), 1/A
    phases: FloatArray  # (wave,)
    amplitudes: FloatArray  # (frame, wave, 2)

    def at(self, points: FloatArray) -> FloatArray:
        """(frame, point, 2) displacement at (point, 2)."""
        angle = 2 * np.pi * points @ self.waves.T + self.phases
        moved = np.einsum("pw,fwc->fpc", np.cos(angle), self.amplitudes)
        return np.asarray(self.drift[:, None] + self.doming[:, None, None] * points + moved)


def record_moving_frames(scene: MovingScene, seed: int) -> MovingMovie:
    """A movie of a scene; the same seed gives the same movie."""
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    doses = np.full(scene.frames, scene.dose / scene.frames)
    motion = _draw_motion(scene, doses, rng)
    particles = _particles(scene, rng)
    pixel, margin = scene.pixel_size, 64
    shape = (good_size(scene.image_shape[0] + 2 * margin), good_size(scene.image_shape[1] + 2 * margin))
    filters = _contrast(scene, shape)
    moved = motion.at(particles.centres)
    mean = moved.mean(0)
    frequency = frequency_grid(shape, pixel)
    fluence = pixel**2 * math.exp(-scene.ice / 3100.0)
    done = np.cumsum(doses) - 0.5 * doses
    expected = torch.empty(scene.frames, *scene.image_shape)
    clean = torch.zeros(scene.image_shape)
    for f in range(scene.frames + 1):
        last = f == scene.frames
        at = particles.centres if last else particles.centres + moved[f] - mean
        fade = sum(
            (
                exposure_weights(frequency, float(e), voltage_kv=scene.voltage_kv)
                for e in (done if last else done[f : f + 1])
            ),
            torch.zeros_like(frequency),
        )
        contrast = _draw(particles, at, shape, scene, filters * fade)
        if last:
            clean = fluence * doses[0] * (scene.frames + contrast)
        else:
            expected[f] = (fluence * doses[f] * (1.0 + contrast)).clamp_min(0.0)
    grid = [np.linspace(-0.5, 0.5, 17) * (n - 1) * pixel for n in scene.image_shape]
    places = np.stack(np.meshgrid(grid[1], grid[0]), axis=-1)
    true = motion.at(places.reshape(-1, 2)).reshape(scene.frames, 17, 17, 2)
    return MovingMovie(
        frames=torch.poisson(expected, generator=generator),
        expected=expected,
        clean=clean,
        places=places,
        displacement=true - true.mean(0),
        doses=doses,
    )


def _draw_motion(scene: MovingScene, doses: FloatArray, rng: np.random.Generator) -> _Motion:
    middle = np.cumsum(doses) - 0.5 * doses
    part = (1 - np.exp(-middle / _DECAY)) / max(1 - math.exp(-scene.dose / _DECAY), 1e-9)
    direction = rng.uniform(0, 2 * np.pi)
    line = np.array([np.cos(direction), np.sin(direction)])
    wander = np.cumsum(rng.normal(size=(scene.frames, 2)), axis=0) * 0.05 * scene.drift / math.sqrt(scene.frames)
    half = 0.5 * math.hypot(*scene.image_shape) * scene.pixel_size
    count = 24
    # waves of a normal spectrum make a field of normal correlation
    waves = rng.normal(size=(count, 2)) / (2 * np.pi * scene.correlation_length)
    size = rng.normal(size=(count, 2)) * scene.local * math.sqrt(2.0 / count)
    late = rng.normal(size=(count, 2)) * 0.4 * scene.local * math.sqrt(2.0 / count)
    linear = (middle / scene.dose)[:, None, None]
    return _Motion(
        drift=scene.drift * part[:, None] * line + wander,
        doming=scene.doming * part / half,
        waves=waves,
        phases=rng.uniform(0, 2 * np.pi, count),
        amplitudes=part[:, None, None] * size + linear * (linear - 0.5) * late,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Particles:
    points: FloatArray  # (residue, 3)
    weights: FloatArray
    rotations: FloatArray  # (particle, 3, 3)
    centres: FloatArray  # (particle, 2)


def _particles(scene: MovingScene, rng: np.random.Generator) -> _Particles:
    species = procedural_macromolecule(scene.particle_mass_kda)
    coarse = species.coarse(0.6 * scene.pixel_size)
    field = np.array([(n + 40) * scene.pixel_size for n in scene.image_shape[::-1]])
    count = max(1, round(scene.coverage * float(field.prod()) / (math.pi * species.radius_angstrom**2)))
    return _Particles(
        points=coarse.points_angstrom,
        weights=coarse.weights,
        rotations=Rotation.random(count, rng).matrices,
        centres=rng.uniform(-0.5, 0.5, (count, 2)) * field,
    )


def _contrast(scene: MovingScene, shape: tuple[int, int]) -> Tensor:
    optics = Optics(voltage_kv=scene.voltage_kv)
    ctf = ctf_2d(shape, scene.pixel_size, scene.defocus, scene.defocus, 0.0, optics)
    frequency = frequency_grid(shape, scene.pixel_size)
    sigma = interaction_parameter(scene.voltage_kv)
    envelope = torch.exp(-0.25 * 80.0 * frequency**2)
    return 2.0 * sigma * ctf * envelope / scene.pixel_size**2


def _draw(
    particles: _Particles, centres: FloatArray, shape: tuple[int, int], scene: MovingScene, filters: Tensor
) -> Float[Tensor, "y x"]:
    """Contrast of the particles at `centres` (x, y in A from the image centre)."""
    fine = (2 * shape[0], 2 * shape[1])
    image = np.zeros((1, *fine), dtype=np.float32)
    spread_points(
        image,
        particles.points,
        particles.weights,
        particles.rotations,
        np.column_stack([centres, np.zeros(len(centres))]),
        spacing=0.5 * scene.pixel_size,
        depth_start=1e9,
        depth_step=1.0,
        first_slab=0,
        slab_count=2,
    )
    return _filtered(torch.from_numpy(image[0]), shape, scene, filters)


def _filtered(fine: Tensor, shape: tuple[int, int], scene: MovingScene, filters: Tensor) -> Tensor:
    spectrum = torch.fft.rfft2(fine)
    rows = shape[0] // 2
    part = torch.cat([spectrum[:rows], spectrum[-(shape[0] - rows) :]])[:, : shape[1] // 2 + 1]
    # the spline that spread the points is undone
    y, x = torch.fft.fftfreq(fine.shape[0]), torch.fft.rfftfreq(fine.shape[1])
    y = torch.cat([y[:rows], y[-(shape[0] - rows) :]])
    image = torch.fft.irfft2(
        part * filters / (torch.sinc(y)[:, None] * torch.sinc(x[: shape[1] // 2 + 1])) ** 4, s=shape
    )
    top, left = (s // 2 - n // 2 for s, n in zip(shape, scene.image_shape, strict=True))
    cut: Tensor = image[top : top + scene.image_shape[0], left : left + scene.image_shape[1]]
    return cut
