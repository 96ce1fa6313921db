"""One continuous movie of a whole tilt series: the stage steps while the camera runs.

A slab of soft bodies is projected at every angle; the specimen rests (with drift that settles) while the frames of a
tilt are taken, and travels to the next angle in one to three frames, which are blurred along the way and over the
angles passed. Frames are counted electrons. The bodies are placed, projected and displaced analytically in Fourier
space on a canvas wider than the field, so that what leaves the field on one side is not what enters it on the other.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from eucentric.compute.seeds import seeded_generator
from eucentric.fourier.grid import frequency_grid, frequency_vectors
from eucentric.models.optics import Optics
from eucentric.models.settings import Frozen
from eucentric.optics.ctf import ctf_2d

_ROAM_ANGSTROM = 500.0
_BODY_PARTS = 6
_BODY_RADIUS_ANGSTROM = 40.0
_PART_SIGMA_ANGSTROM = 8.0
_MEAN_FREE_PATH_ANGSTROM = 3500.0
_SAMPLES_PER_FRAME = 12
_WAY_ANGLES = 4


class RapidTiltParams(Frozen):
    """A movie to simulate. Lengths in A, angles in degrees."""

    shape: tuple[int, int] = (256, 256)
    pixel_size: float = 6.0
    angles_deg: tuple[float, ...] = tuple(float(a) for a in range(-60, 61, 3))
    """In the order taken."""
    frames_per_tilt: int = 24
    dose_per_frame: float = 0.1
    thickness: float = 900.0
    bodies_per_cubic_micrometre: float = 1.0e6
    contrast: float = 0.05
    """Standard deviation of the noise-free image at zero tilt, relative to its mean."""
    defocus: float = 40000.0
    jump: tuple[float, float] = (20.0, 250.0)
    """Shortest and longest displacement between two tilts."""
    small_jump_every: int = 6
    """Each so-many-th step ends within 5 A of where it began; 0 for none."""
    step_frames: tuple[int, int] = (1, 3)
    blur: tuple[float, float] = (50.0, 300.0)
    """Length of the way during a frame of a step."""
    settling: tuple[float, float] = (5.0, 30.0)
    """Length of the drift left after a step; it dies away within a few frames."""
    jitter: float = 0.7
    """Standard deviation of each component of a frame's displacement about the drift."""
    blanked: bool = False
    """Whether the beam is off while the stage travels."""
    lead_in: int = 0
    """Dark frames before the beam is opened."""
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RapidTiltMovie:
    """A simulated movie with its truth."""

    frames: Integer[Tensor, "frame y x"]
    """Counts, uint8."""
    tilt: Integer[Tensor, " frame"]
    """Position in `RapidTiltParams.angles_deg`; -1 for a frame of a step or a dark one."""
    displacement: Float[Tensor, "frame 2"]
    """(x, y): mean displacement of the specimen in each frame."""
    doses: Float[Tensor, " frame"]
    """e/A^2."""


def simulate_rapid_tilt_movie(params: RapidTiltParams) -> RapidTiltMovie:
    """A movie of a specimen that is tilted while the camera runs.

    Parameters
    ----------
    params : the specimen, the stage and the beam; same settings, same movie

    Returns
    -------
    RapidTiltMovie : counts with the tilt of every frame
    """
    generator = seeded_generator(params.seed)
    scene = _Scene(params, generator)
    places = _resting_places(params, generator)
    counts: list[Tensor] = []
    tilts: list[int] = []
    moves: list[Tensor] = []
    doses: list[float] = []

    def add(image: Tensor | None, tilt: int, angle: float, at: Tensor) -> None:
        level = params.dose_per_frame if image is not None else 0.0
        doses.append(level)
        moves.append(at)
        tilts.append(tilt)
        if image is None:
            mean = torch.full(params.shape, 2e-3 * params.dose_per_frame * params.pixel_size**2)
        else:
            passed = math.exp(-params.thickness / math.cos(math.radians(angle)) / _MEAN_FREE_PATH_ANGSTROM)
            mean = (level * params.pixel_size**2 * passed * (1.0 + image)).clamp(min=0.0)
        counts.append(torch.poisson(mean.float(), generator=generator).clamp(max=255).to(torch.uint8))

    for _ in range(params.lead_in):
        add(None, -1, 0.0, places[0])
    end = places[0]
    for k, angle in enumerate(params.angles_deg):
        spectrum = scene.project(angle)
        path = _settling(params, places[k], generator)
        for at in path:
            add(scene.image(spectrum, at[None]), k, angle, at)
        end = path[-1]
        if k + 1 == len(params.angles_deg):
            break
        for fraction, way in _way(params, end, places[k + 1], generator):
            between = angle + fraction * (params.angles_deg[k + 1] - angle)
            image = None if params.blanked else scene.moving(between, params.angles_deg[k + 1], angle, way)
            add(image, -1, between, way.mean(0))
    return RapidTiltMovie(
        frames=torch.stack(counts),
        tilt=torch.tensor(tilts),
        displacement=torch.stack(moves),
        doses=torch.tensor(doses),
    )


class _Scene:
    """Bodies in a slab on a canvas that closes on itself, wider than the field by the stage's roaming."""

    def __init__(self, params: RapidTiltParams, generator: torch.Generator) -> None:
        self.params = params
        margin = 2 * math.ceil(_ROAM_ANGSTROM / params.pixel_size) + 16
        self.canvas = tuple(n + margin + (n + margin) % 2 for n in params.shape)
        # twice as wide across the tilt axis: at 60 degrees half of it is seen
        extent = torch.tensor([2.0 * self.canvas[1], float(self.canvas[0]), 0.0]) * params.pixel_size
        extent[2] = params.thickness
        volume = float(extent.prod())
        count = max(8, int(params.bodies_per_cubic_micrometre * volume * 1e-12))
        middles = (torch.rand(count, 3, generator=generator) - 0.5) * extent
        parts = torch.randn(count, _BODY_PARTS, 3, generator=generator) * _BODY_RADIUS_ANGSTROM / math.sqrt(3.0)
        self.points = (middles[:, None] + parts).reshape(-1, 3)
        self.masses = (0.5 + torch.rand(count, generator=generator)).repeat_interleave(_BODY_PARTS)
        frequency = frequency_grid(self.canvas, params.pixel_size)
        ctf = ctf_2d(self.canvas, params.pixel_size, params.defocus, params.defocus, 0.0, Optics(voltage_kv=300.0))
        self.transfer = ctf * torch.exp(-2.0 * (math.pi * _PART_SIGMA_ANGSTROM * frequency) ** 2)
        self.frequencies = frequency_vectors(self.canvas, params.pixel_size)
        self.scale = 1.0
        still = self.image(self.project(0.0), torch.zeros(1, 2))
        self.scale = params.contrast / float(still.std())

    def project(self, angle_deg: float) -> Tensor:
        """Spectrum of the projection along z of the specimen turned about y."""
        angle = math.radians(angle_deg)
        x = math.cos(angle) * self.points[:, 0] + math.sin(angle) * self.points[:, 2]
        height, width = self.canvas
        grid = torch.zeros(height * width, dtype=torch.float64)
        px = x / self.params.pixel_size + width // 2
        py = self.points[:, 1] / self.params.pixel_size + height // 2
        for dy in (0, 1):
            for dx in (0, 1):
                column, row = px.floor() + dx, py.floor() + dy
                weight = (1 - (px - column).abs()) * (1 - (py - row).abs()) * self.masses
                index = (row.long() % height) * width + column.long() % width
                grid.index_add_(0, index, weight.double())
        grid = (grid - grid.mean()).reshape(height, width).float()
        spectrum: Tensor = torch.fft.rfft2(grid) * self.transfer
        return spectrum

    def image(self, spectrum: Tensor, way: Tensor) -> Tensor:
        """The field, averaged over the places (A) along a way."""
        fy, fx = self.frequencies
        phase = torch.zeros_like(spectrum)
        for x, y in way.tolist():
            angle = -2.0 * math.pi * (fx * x + fy * y)
            phase += torch.polar(torch.ones_like(angle), angle)
        whole: Tensor = torch.fft.irfft2(spectrum * phase / len(way), s=self.canvas) * self.scale
        top = [(c - n) // 2 for c, n in zip(self.canvas, self.params.shape, strict=True)]
        return whole[top[0] : top[0] + self.params.shape[0], top[1] : top[1] + self.params.shape[1]]

    def moving(self, middle: float, after: float, before: float, way: Tensor) -> Tensor:
        """A frame of a step: the average over the way and the angles passed."""
        span = (after - before) / max(1, self.params.step_frames[1])
        parts = way.tensor_split(_WAY_ANGLES)
        angles = [middle + span * ((i + 0.5) / _WAY_ANGLES - 0.5) for i in range(_WAY_ANGLES)]
        images = [self.image(self.project(a), p) * len(p) for a, p in zip(angles, parts, strict=True)]
        return torch.stack(images).sum(0) / len(way)


def _direction(generator: torch.Generator) -> Tensor:
    angle = 2.0 * math.pi * float(torch.rand(1, generator=generator))
    return torch.tensor([math.cos(angle), math.sin(angle)])


def _between(limits: tuple[float, float], generator: torch.Generator) -> float:
    return limits[0] + (limits[1] - limits[0]) * float(torch.rand(1, generator=generator))


def _resting_places(params: RapidTiltParams, generator: torch.Generator) -> list[Tensor]:
    """Where the specimen lies at each tilt: steps of random length that stay within the canvas' margin."""
    places = [torch.zeros(2)]
    reach = _ROAM_ANGSTROM - 100.0
    for k in range(1, len(params.angles_deg)):
        small = params.small_jump_every > 0 and k % params.small_jump_every == 0
        length = 5.0 * float(torch.rand(1, generator=generator)) if small else _between(params.jump, generator)
        step = length * _direction(generator)
        if float((places[-1] + step).abs().max()) > reach:
            step = -length * places[-1] / places[-1].norm()
        places.append(places[-1] + step)
    return places


def _settling(params: RapidTiltParams, place: Tensor, generator: torch.Generator) -> Tensor:
    """(frame, 2): the drift that dies away towards the resting place, with jitter."""
    time = torch.arange(params.frames_per_tilt, dtype=torch.float32) + 0.5
    constant = _between((1.5, 4.0), generator)
    drift = _between(params.settling, generator) * torch.exp(-time / constant)
    noise = params.jitter * torch.randn(params.frames_per_tilt, 2, generator=generator)
    return place + drift[:, None] * _direction(generator) + noise


def _way(
    params: RapidTiltParams, start: Tensor, stop: Tensor, generator: torch.Generator
) -> list[tuple[float, Tensor]]:
    """For each frame of a step: how far along it is, and the places passed, an arc of the wanted blur."""
    low, high = params.step_frames
    count = low + int(torch.randint(0, high - low + 1, (1,), generator=generator))
    blur = _between(params.blur, generator)
    chord = stop - start
    length = float(chord.norm())
    # an excursion out and back makes up for a jump shorter than the blur
    out = 0.5 * math.sqrt(max(0.0, (blur * count) ** 2 - length**2))
    across = _direction(generator) if length < 1.0 else torch.tensor([-float(chord[1]), float(chord[0])]) / length
    time = (torch.arange(count * _SAMPLES_PER_FRAME, dtype=torch.float32) + 0.5) / (count * _SAMPLES_PER_FRAME)
    bow = out * (1.0 - (2.0 * time - 1.0).abs())
    way = start + time[:, None] * chord + bow[:, None] * across
    pieces = way.reshape(count, _SAMPLES_PER_FRAME, 2)
    return [((i + 0.5) / count, pieces[i]) for i in range(count)]
