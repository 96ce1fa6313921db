r"""Local motion: the same likelihood over patches, one cubic B-spline in x, y and time, and what physics says beforehand.

Beforehand the local speed is a random field: normal, of some A per e/A^2, alike over thousands of A [1]_ and over a few e/A^2.
That gives the coefficients of the spline their prior; how large the speed is, the evidence decides. A field is taken only if it
also makes frames fit better that took no part in its estimate.

References
----------
.. [1] Zivanov, Nakane & Scheres, IUCrJ 6:5 (2019), doi:10.1107/S205225251801463X
.. [2] Brilot et al., J. Struct. Biol. 177:630 (2012), doi:10.1016/j.jsb.2012.02.003
"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.compute.sizes import good_size
from eucentric.fourier.filters import soft_edge
from eucentric.motion.band_spectra import BandSpectra, CoarseFrames, make_band
from eucentric.motion.likelihood import (
    floored,
    gradient,
    information,
    measure_spectra,
    pair_laplacian,
    sample_weights,
)
from eucentric.motion.motion_field import MotionField, spline_basis
from eucentric.motion.params import MotionParams
from eucentric.motion.results import LocalEvidence, MotionResult
from eucentric.motion.workers import one_thread

SPEEDS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""A per e/A^2, standard deviations of the local speed that are tried."""
_OVERLAP = 1.3
_MOST_PATCHES = 12
_CHUNK_SAMPLES = 4_000_000
_ROUNDS = 3
_FOLDS = 4
_LONGEST = 3.0
_EARLY_DOSE = 4.0  # e/A^2 over which the speed falls
_STEPS = 257
_STANDING = 1e-3


def estimate_local_motion(
    coarse: CoarseFrames,
    result: MotionResult,
    params: MotionParams,
    *,
    doses: Float[Tensor, " frame"],
    patch_angstrom: float = 400.0,
    correlation_angstrom: float = 5000.0,
    correlation_dose: float = 4.0,
    grid: tuple[int, int, int] | None = None,
) -> MotionResult:
    """Look for what the place in the image adds to the shifts of `result`; the same result with a field where there is.

    Parameters
    ----------
    coarse : from :func:`eucentric.motion.band_spectra.transform_frames`
    result : global motion
    doses : e/A^2 of every frame
    patch_angstrom : side of a patch, larger where there would be more than 12 along an axis
    correlation_angstrom : distance over which local speeds are alike
    correlation_dose : e/A^2 over which they are alike
    grid : intervals of the spline along x, y and time; None chooses by the dose
    """
    group_doses = torch.zeros(len(coarse.images), dtype=torch.float64).index_add_(0, coarse.group, doses.double().cpu())
    with one_thread():
        patches = _cut_patches(coarse, result, group_doses, params, patch_angstrom)
        if patches is None:
            return result
        total = float(group_doses.sum())
        chosen = grid or grid_for_dose(total, int(patches.band.values.shape[1]))
        model = _Model.build(patches, chosen, correlation_angstrom, correlation_dose, result)
        return _fit(patches, model, coarse, result, chosen)


def grid_for_dose(dose: float, frames: int) -> tuple[int, int, int]:
    """Intervals of the spline along x, y and time that a movie of so many e/A^2 can fill."""
    space = 1 if dose < 4.0 else (2 if dose < 10.0 else 4)
    return space, space, 1 if frames < 8 or dose < 4.0 else min(3, frames // 4)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Patches:
    band: BandSpectra  # values (patch, frame, ky, kx), aligned globally
    centres: Tensor  # (patch, 2): x, y in A from the image centre
    doses: Tensor  # (frame,) e/A^2 of the frames or groups that are used
    times: Tensor  # (group,) of all, part of the movie's dose
    used: Tensor  # (used,) index of groups
    extent: tuple[float, float]  # half lengths along y and x

    @property
    def relative(self) -> Tensor:
        """Doses with a mean of one."""
        return self.doses / self.doses.mean()


def _cut_patches(
    coarse: CoarseFrames, result: MotionResult, doses: Tensor, params: MotionParams, size: float
) -> _Patches | None:
    """Globally aligned, tapered patches of the frames that are used; None where the image is too small for four."""
    good = torch.ones(len(coarse.images), dtype=torch.bool)
    for frame in result.rejected:
        good[coarse.group[frame.frame]] = False
    used = good.nonzero().flatten()
    height, width = coarse.images.shape[1:]
    lengths = (height * coarse.spacing[0], width * coarse.spacing[1])
    counts = [min(_MOST_PATCHES, int(length / size)) for length in lengths]
    if min(counts) < 2 or len(used) < 3:
        return None
    windows = [int(_OVERLAP * n / c) for n, c in zip((height, width), counts, strict=True)]
    shape = (good_size(windows[0]), good_size(windows[1]))
    rows, columns = (
        min(int(n * s / params.low_pass_angstrom) + 1, n // 2 - 1) for n, s in zip(shape, coarse.spacing, strict=True)
    )
    starts = [
        torch.linspace(0, n - w, c).round().long() for n, w, c in zip((height, width), windows, counts, strict=True)
    ]
    taper = torch.ones(())
    for axis, (w, c, n) in enumerate(zip(windows, counts, (height, width), strict=True)):
        line = torch.arange(w, dtype=torch.float32) + 0.5
        edge = max(2.0, w - n / c)
        window = 1.0 - soft_edge(torch.minimum(line, w - line), 0.0, edge)
        taper = taper * (window[:, None] if axis == 0 else window)
    taper = taper.to(coarse.images.device)
    shifts = _group_shifts(coarse, result)
    values = coarse.images.new_empty(
        (counts[0] * counts[1], len(used), 2 * rows + 1, columns + 1), dtype=torch.complex64
    )
    for f, group in enumerate(used.tolist()):
        image = _moved_back(coarse.images[group], shifts[group], coarse.spacing)
        tiles = torch.stack(
            [image[y : y + windows[0], x : x + windows[1]] for y in starts[0].tolist() for x in starts[1].tolist()]
        )
        tiles = (tiles - tiles.mean((1, 2), keepdim=True)) * taper
        spectrum = torch.fft.rfft2(tiles, s=shape, norm="ortho")
        values[:, f, : rows + 1] = spectrum[:, : rows + 1, : columns + 1]
        values[:, f, rows + 1 :] = spectrum[:, -rows:, : columns + 1]
    # patches overlap: what is seen twice counts once
    filled = height * width / (counts[0] * counts[1] * shape[0] * shape[1])
    band = make_band(
        values,
        shape,
        coarse.spacing,
        low_pass_angstrom=params.low_pass_angstrom,
        high_pass_angstrom=params.high_pass_angstrom,
        used=good[used],
        filled=filled,
    )
    y = coarse.origin[0] + (starts[0].double() + 0.5 * (windows[0] - 1)) * coarse.spacing[0]
    x = coarse.origin[1] + (starts[1].double() + 0.5 * (windows[1] - 1)) * coarse.spacing[1]
    centres = torch.stack([x.repeat(len(y)), y.repeat_interleave(len(x))], dim=-1)
    times = (torch.cumsum(doses, 0) - 0.5 * doses) / doses.sum()
    return _Patches(
        band=band,
        centres=centres,
        doses=doses[used],
        times=times,
        used=used,
        extent=(0.5 * lengths[0], 0.5 * lengths[1]),
    )


def _group_shifts(coarse: CoarseFrames, result: MotionResult) -> Tensor:
    groups = len(coarse.images)
    number = torch.bincount(coarse.group, minlength=groups).double()
    total = torch.zeros(groups, 2, dtype=torch.float64)
    return total.index_add_(0, coarse.group, result.shifts_angstrom.double().cpu()) / number[:, None]


def _moved_back(image: Tensor, shift: Tensor, spacing: tuple[float, float]) -> Tensor:
    height, width = image.shape
    spectrum = torch.fft.rfft2(image)
    y = torch.fft.fftfreq(height, device=image.device) * (2 * math.pi * float(shift[1]) / spacing[0])
    x = torch.fft.rfftfreq(width, device=image.device) * (2 * math.pi * float(shift[0]) / spacing[1])
    spectrum *= torch.polar(torch.ones_like(y), y)[:, None]
    spectrum *= torch.polar(torch.ones_like(x), x)
    moved: Tensor = torch.fft.irfft2(spectrum, s=(height, width))
    return moved


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Model:
    """Unknowns u of unit variance: first the field's, at a speed of 1 A per e/A^2, then a common correction of each frame."""

    space: Tensor  # (patch, coefficient in space)
    time: Tensor  # (frame, coefficient in time)
    root: Tensor  # (coefficient of the field, unknown): covariance = root root^T
    common: float  # A, standard deviation of the common corrections
    counts: tuple[int, int, int]  # coefficients t, y, x

    @classmethod
    def build(
        cls, patches: _Patches, grid: tuple[int, int, int], length: float, memory: float, result: MotionResult
    ) -> "_Model":
        counts = (grid[2] + 3, grid[1] + 3, grid[0] + 3)
        half_y, half_x = patches.extent

        def space(centres: Tensor) -> Tensor:
            y = spline_basis((centres[:, 1] / half_y + 1.0) / 2.0, counts[1])
            x = spline_basis((centres[:, 0] / half_x + 1.0) / 2.0, counts[2])
            return (y[:, :, None] * x[:, None, :]).flatten(1)

        # what the coefficients are for a field drawn at points of a grid
        lines = [
            torch.linspace(-h, h, 2 * n, dtype=torch.float64) for h, n in ((half_x, counts[2]), (half_y, counts[1]))
        ]
        points = torch.stack([lines[0].repeat(len(lines[1])), lines[1].repeat_interleave(len(lines[0]))], dim=-1)
        solve = torch.linalg.pinv(space(points))
        apart = torch.cdist(points, points)
        in_space = solve @ torch.exp(-apart / length) @ solve.T
        total = float(patches.doses.sum())
        moments = torch.linspace(0.0, 1.0, 8 * counts[0], dtype=torch.float64)
        solve_time = torch.linalg.pinv(spline_basis(moments, counts[0]))
        # one interval in time holds one speed
        in_time = solve_time @ _path_covariance(moments * total, memory, falls=grid[2] > 1) @ solve_time.T
        return cls(
            space=space(patches.centres),
            time=spline_basis(patches.times[patches.used], counts[0]),
            root=torch.kron(_square_root(in_time), _square_root(in_space)),
            common=0.3 + float(result.sigma_angstrom.mean()),
            counts=counts,
        )

    def displacement(self, coefficients: Tensor, common: Tensor) -> Tensor:
        """(patch, frame, 2) from the field's coefficients (time, space, 2) and the corrections (frame, 2)."""
        return torch.einsum("ft,tsc,ps->pfc", self.time, coefficients, self.space) + common


def _square_root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(0.5 * (covariance + covariance.T))
    keep = values > 1e-7 * values.max()
    root: Tensor = vectors[:, keep] * values[keep].sqrt()
    return root


def _path_covariance(dose: Tensor, memory: float, *, falls: bool) -> Tensor:
    """Covariance of ways gone at a random speed that is forgotten over `memory`, and may fall with the dose to a quarter.

    Specimens move fastest under their first electrons [2]_: the deviation of the speed is 1 at first, 0.25 late.
    """
    fine = torch.linspace(0.0, max(float(dose.max()), 1e-6), _STEPS, dtype=torch.float64)
    size = 0.25 + 0.75 * torch.exp(-fine / _EARLY_DOSE) if falls else torch.ones_like(fine)
    speed = size[:, None] * size * torch.exp(-(fine[:, None] - fine).abs() / memory)
    step = float(fine[1] - fine[0])
    half = 0.5 * step * (speed[1:] + speed[:-1])
    once = torch.cat([torch.zeros(1, _STEPS, dtype=torch.float64), torch.cumsum(half, 0)])
    half = 0.5 * step * (once[:, 1:] + once[:, :-1])
    path = torch.cat([torch.zeros(_STEPS, 1, dtype=torch.float64), torch.cumsum(half, 1)], dim=1)
    place = (dose / fine[-1]).clamp(0.0, 1.0) * (_STEPS - 1)
    low = place.floor().long().clamp(max=_STEPS - 2)
    part = (place - low)[:, None]
    rows = path[low] * (1.0 - part) + path[low + 1] * part
    out: Tensor = rows[:, low] * (1.0 - part.T) + rows[:, low + 1] * part.T
    return out


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Expansion:
    """The log-likelihood about a place, as a quadratic of the field's coefficients and the corrections."""

    gradient: Tensor
    curvature: Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Weights:
    samples: Tensor  # (ky, kx), as in the log-likelihood
    chance: float  # variance that noise alone gives the trace of a patch's information


def _weights(patches: _Patches, moved: Tensor) -> _Weights:
    """Weights of the samples; spectra measured over all patches together."""
    band, a = patches.band, patches.relative
    spectra = torch.zeros(2, len(band.shell_frequency), dtype=torch.float64)
    for part in _chunks(patches):
        both = torch.stack(measure_spectra(band, _aligned(patches, moved, part), band.own[part], a)).cpu()
        spectra += both * (part.stop - part.start) / len(moved)
    signal, noise = spectra.to(band.values.device)
    dose = float(a.sum())
    samples = sample_weights(band, signal, noise, dose)
    pairs = dose**2 - float((a**2).sum())
    radius2 = (band.ky[:, None] ** 2 + band.kx**2).double()
    spread = samples.double() * noise[band.shell] * dose * radius2 * (8 * math.pi**2 / pairs)
    chance = (spread**2 / band.weight.double().clamp(min=1e-9)).sum()
    return _Weights(samples=samples, chance=float(chance))


def _chunks(patches: _Patches) -> list[slice]:
    shape = patches.band.values.shape
    size = max(1, _CHUNK_SAMPLES // (shape[1] * shape[2] * shape[3]))
    return [slice(start, min(start + size, shape[0])) for start in range(0, shape[0], size)]


def _aligned(patches: _Patches, moved: Tensor, part: slice) -> Tensor:
    band = patches.band
    here = moved[part].to(band.ky)
    down = 2 * math.pi * here[..., 1, None] * band.ky
    across = 2 * math.pi * here[..., 0, None] * band.kx
    out = band.values[part] * torch.polar(torch.ones_like(down), down)[..., None]
    out *= torch.polar(torch.ones_like(across), across)[..., None, :]
    return out


def _measure(patches: _Patches, moved: Tensor, weights: _Weights) -> tuple[Tensor, Tensor]:
    """Gradient (patch, frame, 2) and information (patch, 2, 2) of every patch."""
    band, slopes, known = patches.band, [], []
    for part in _chunks(patches):
        aligned = _aligned(patches, moved, part)
        slopes.append(gradient(aligned, weights.samples, band.ky, band.kx).cpu())
        known.append(information(aligned, band.own[part], weights.samples, band.ky, band.kx, patches.relative).cpu())
    return torch.cat(slopes), _shrunk(torch.cat(known), weights.chance)


def _shrunk(known: Tensor, chance: float) -> Tensor:
    """Patches are taken to differ only by as much as noise does not explain."""
    mean = known.mean(0)
    trace = known.diagonal(dim1=-2, dim2=-1).sum(-1)
    part = max(0.0, 1.0 - chance / max(float(trace.var()), 1e-30))
    return floored(mean + part * (known - mean), max(1e-9, 0.02 * float(mean.trace())))


def _expand(model: _Model, slope: Tensor, known: Tensor, pairs: Tensor) -> _Expansion:
    """From patches to unknowns; `pairs` is the Laplacian of the frames that take part."""
    t, s = model.time, model.space
    on_field = torch.einsum("ft,pfc,ps->tsc", t, slope, s).reshape(-1)
    on_common = slope.sum(0).reshape(-1)
    in_space = torch.einsum("ps,pr,pab->sarb", s, s, known).reshape(2 * s.shape[1], 2 * s.shape[1])
    half = torch.einsum("ps,pab->sab", s, known).reshape(2 * s.shape[1], 2)
    field = torch.kron(t.T @ pairs @ t, in_space)
    cross = torch.kron(t.T @ pairs, half)
    common = torch.kron(pairs, known.sum(0))
    whole = torch.cat([torch.cat([field, cross], dim=1), torch.cat([cross.T, common], dim=1)])
    return _Expansion(gradient=torch.cat([on_field, on_common]), curvature=whole)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Solution:
    coefficients: Tensor  # (time, space, 2)
    common: Tensor  # (frame, 2)
    log_evidence: float
    covariance_root: Tensor  # of all unknowns: covariance = root root^T


def _solve(model: _Model, around: Tensor, expansion: _Expansion, speed: float) -> _Solution:
    """The most probable unknowns where the local speed has this standard deviation; `around` is where L was expanded."""
    both = torch.kron(model.root, torch.eye(2, dtype=torch.float64))
    frames = len(model.time)
    first = speed * both
    many = len(first)
    root = torch.zeros(many + 2 * frames, first.shape[1] + 2 * frames, dtype=torch.float64)
    root[:many, : first.shape[1]] = first
    root[many:, first.shape[1] :] = model.common * torch.eye(2 * frames, dtype=torch.float64)
    pull = root.T @ (expansion.gradient + expansion.curvature @ around)
    known = root.T @ expansion.curvature @ root
    precision = torch.eye(len(known), dtype=torch.float64) + 0.5 * (known + known.T)
    factor = torch.linalg.cholesky(precision)
    unknown = torch.cholesky_solve(pull[:, None], factor)[:, 0]
    value = root @ unknown
    evidence = 0.5 * float(pull @ unknown) - float(torch.diagonal(factor).log().sum())
    spread = torch.linalg.solve_triangular(factor, root.T, upper=False).T
    return _Solution(
        coefficients=value[:many].reshape(model.time.shape[1], model.space.shape[1], 2),
        common=value[many:].reshape(frames, 2),
        log_evidence=evidence,
        covariance_root=spread,
    )


def _fit(
    patches: _Patches, model: _Model, coarse: CoarseFrames, result: MotionResult, grid: tuple[int, int, int]
) -> MotionResult:
    frames, count = len(model.time), len(patches.centres)
    flat = torch.zeros(model.time.shape[1] * model.space.shape[1] * 2 + 2 * frames, dtype=torch.float64)
    moved = torch.zeros(count, frames, 2, dtype=torch.float64)
    weights = _weights(patches, moved)
    pairs = pair_laplacian(patches.relative)
    best: _Solution | None = None
    speed, gain = 0.0, 0.0
    for _ in range(_ROUNDS):
        slope, known = _measure(patches, moved, weights)
        expansion = _expand(model, slope, known, pairs)
        tried = {v: _solve(model, flat, expansion, v) for v in (_STANDING, *SPEEDS)}
        speed = max(SPEEDS, key=lambda v: tried[v].log_evidence)
        best = tried[speed]
        gain = best.log_evidence - tried[_STANDING].log_evidence
        wanted = model.displacement(best.coefficients, best.common)
        step = min(1.0, _LONGEST / max(float((wanted - moved).abs().max()), 1e-9))
        flat = flat + step * (torch.cat([best.coefficients.reshape(-1), best.common.reshape(-1)]) - flat)
        change = float((step * (wanted - moved)).abs().max())
        moved = moved + step * (wanted - moved)
        if change < 0.1:
            break
    assert best is not None
    held_out = _held_out_gain(patches, model, flat, moved, weights, speed) if gain > 0 else 0.0
    accepted = gain > 0 and held_out > 0
    evidence = LocalEvidence(
        grid=grid, speed_angstrom=speed, log_evidence=gain, held_out_gain=held_out, accepted=accepted
    )
    if not accepted:
        return replace(result, local=evidence)
    return _with_field(patches, model, flat, best, coarse, replace(result, local=evidence))


def _with_field(
    patches: _Patches, model: _Model, flat: Tensor, best: _Solution, coarse: CoarseFrames, result: MotionResult
) -> MotionResult:
    frames = len(model.time)
    many = len(flat) - 2 * frames
    coefficients = flat[:many].reshape(model.time.shape[1], model.space.shape[1], 2)
    # the mean over the frames belongs to the place, not to the motion
    middle = torch.einsum("ft,tsc->sc", model.time, coefficients) / frames
    t, y, x = model.counts
    field = MotionField(
        coefficients=(coefficients - middle).reshape(t, y, x, 2),
        times=patches.times[coarse.group],
        extent_angstrom=patches.extent,
    )
    common = flat[many:].reshape(frames, 2)
    every = torch.zeros(len(patches.times), 2, dtype=torch.float64)
    every[patches.used] = common - common.mean(0)
    shifts = result.shifts_angstrom + every[coarse.group].to(result.shifts_angstrom)
    sigma = _sigma(model, best)
    wide = torch.full((len(patches.times),), float(sigma.max()), dtype=torch.float64)
    wide[patches.used] = sigma
    return replace(
        result,
        shifts_angstrom=shifts - shifts[result.used.to(shifts.device)].mean(0),
        sigma_angstrom=wide[coarse.group].to(result.sigma_angstrom),
        field=field,
    )


def _sigma(model: _Model, best: _Solution) -> Tensor:
    """(frame,) standard deviation of a component, root mean square over the patches, mean over frames removed."""
    frames = len(model.time)
    t, s = model.time.shape[1], model.space.shape[1]
    root = best.covariance_root
    field = root[: t * s * 2].reshape(t, s, 2, -1)
    common = root[t * s * 2 :].reshape(frames, 2, -1)
    total = torch.zeros(frames, dtype=torch.float64)
    for place in model.space[:: max(1, len(model.space) // 16)]:
        moved = torch.einsum("ft,tscu,s->fcu", model.time, field, place) + common
        moved = moved - moved.mean(0)
        total += 0.5 * moved.square().sum((1, 2))
    return torch.sqrt(total / len(model.space[:: max(1, len(model.space) // 16)]))


def _held_out_gain(
    patches: _Patches, model: _Model, flat: Tensor, moved: Tensor, weights: _Weights, speed: float
) -> float:
    """Gain in likelihood of frames against the others, with a field that those others alone have made."""
    frames = len(model.time)
    folds = min(_FOLDS, frames)
    slopes, known = _pairs(patches, moved, weights)
    total = 0.0
    for fold in range(folds):
        out = torch.arange(frames) % folds == fold
        train = (~out).double()
        slope = torch.einsum("pijc,i,j->pic", slopes, train, train)
        expansion = _expand(model, slope, known, pair_laplacian(patches.relative * train))
        value = _solve(model, flat, expansion, speed)
        # frames that are left out have no correction of their own
        predicted = model.displacement(value.coefficients, value.common * train[:, None])
        total += _against_others(patches, predicted, weights.samples, out)
        total -= _against_others(patches, torch.zeros_like(predicted), weights.samples, out)
    return total


def _pairs(patches: _Patches, moved: Tensor, weights: _Weights) -> tuple[Tensor, Tensor]:
    """What every pair of frames adds to the gradient, (patch, i, j, 2), and the information of every patch."""
    band, slopes, known = patches.band, [], []
    for part in _chunks(patches):
        aligned = _aligned(patches, moved, part)
        known.append(information(aligned, band.own[part], weights.samples, band.ky, band.kx, patches.relative).cpu())
        lead, count = aligned.shape[:1], aligned.shape[1]
        flat = torch.view_as_real(aligned).reshape(*lead, count, -1)
        turned = torch.stack([aligned.imag, -aligned.real], dim=-1) * weights.samples[..., None]
        axes = (band.kx[:, None], band.ky[:, None, None])
        sides = [(turned * (4 * math.pi * k)).reshape(*lead, count, -1) for k in axes]
        slopes.append(torch.stack([flat @ side.transpose(-1, -2) for side in sides], dim=-1).double().cpu())
    return torch.cat(slopes), _shrunk(torch.cat(known), weights.chance)


def _against_others(patches: _Patches, moved: Tensor, weight: Tensor, out: Tensor) -> float:
    value = 0.0
    for part in _chunks(patches):
        aligned = _aligned(patches, moved, part)
        held, rest = aligned[:, out].sum(1), aligned[:, ~out].sum(1)
        value += 2.0 * float(((held.real * rest.real + held.imag * rest.imag) * weight).double().sum())
    return value
