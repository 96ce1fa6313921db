r"""Global shifts of the frames of a movie by maximum likelihood.

All pairs of frames speak at once, every frequency with the weight of what it can tell; the scene's and the noise's power
are measured from the frames themselves and refined with the shifts; the curvature gives the uncertainty. How strongly the
prior holds the shifts together is decided by the evidence, and shifts for which there is none vanish.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.compute.sizes import good_size
from eucentric.errors import InputError
from eucentric.motion.band_spectra import (
    SHELLS,
    BandSpectra,
    CoarseFrames,
    FrameSource,
    band_spectra,
    summed_power,
    transform_frames,
)
from eucentric.motion.likelihood import (
    floored,
    gradient,
    information,
    log_probability,
    measure_spectra,
    pair_laplacian,
    profile_log_probability,
    sample_weights,
    shell_mean,
)
from eucentric.motion.params import MotionParams
from eucentric.motion.results import MotionResult, RejectedFrame
from eucentric.motion.series_prior import MotionPrior, centring, free_directions, smooth_prior
from eucentric.motion.workers import one_thread

_ROUNDS = 4
_SEARCHES = 2
_STEPS = 10
_FEW_FRAMES = 8
_SEARCH_SAMPLES = 60_000
"""Samples of a large field that are enough to find the peak; the rest is for its place."""
_STEPS_ANGSTROM = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
_DOUBT = 6.0
"""Nats that motion has to earn beyond even odds, for the priors that were tried."""
_SURE = 0.99
_JERKS = (0.03, 0.1, 0.3, 1.0, 3.0)
"""Change of step, as a part of the step."""


def estimate_motion(
    frames: "Float[Tensor, 'frame y x'] | FrameSource",
    pixel_size: float,
    params: MotionParams,
    *,
    doses: Sequence[float] | None = None,
    prior: MotionPrior | None = None,
) -> MotionResult:
    """Displacement of every frame.

    Parameters
    ----------
    frames : gain-corrected, free of hot pixels (fixed patterns would pull all shifts to zero); a tensor or a source
    pixel_size : A
    doses : e/A^2 of every frame where they differ; None takes them as equal
    prior : what the other movies of the series tell; see :mod:`eucentric.motion.series_prior`

    Raises
    ------
    ShapeError : not a stack of images, or images too small
    InputError : values that are not finite, or doses that do not match
    """
    _, coarse = transform_frames(
        frames,
        pixel_size,
        low_pass_angstrom=params.low_pass_angstrom,
        margin_angstrom=params.max_shift_angstrom,
        keep_bytes=0,
    )
    return estimate_shifts(coarse, params, doses=doses, prior=prior)


def estimate_shifts(
    coarse: CoarseFrames,
    params: MotionParams,
    *,
    doses: Sequence[float] | None = None,
    prior: MotionPrior | None = None,
) -> MotionResult:
    """The same from the coarse images that :func:`eucentric.motion.band_spectra.transform_frames` made."""
    frame_doses = relative_doses(len(coarse.group), doses)
    groups = len(coarse.images)
    group_doses = torch.zeros(groups, dtype=torch.float64).index_add_(0, coarse.group, frame_doses)
    group_doses = group_doses / group_doses.mean().clamp(min=1e-12)
    band = band_spectra(
        coarse.images,
        coarse.spacing,
        low_pass_angstrom=params.low_pass_angstrom,
        high_pass_angstrom=params.high_pass_angstrom,
    )
    grouped = groups < len(coarse.group)
    with one_thread():
        fit = _fit_without_bad_frames(band, group_doses, params, None if grouped else prior)
    return _per_frame(fit, band, coarse, frame_doses)


def relative_doses(count: int, doses: Sequence[float] | None) -> Float[Tensor, " frame"]:
    """Doses of the frames with a mean of one."""
    if doses is None:
        return torch.ones(count, dtype=torch.float64)
    given = torch.tensor(list(doses), dtype=torch.float64)
    if len(given) != count or not bool(torch.isfinite(given).all()) or float(given.min()) <= 0:
        raise InputError(f"{len(given)} doses were given for {count} frames; expected one above zero for each.")
    return given / given.mean()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Fit:
    shifts: Tensor  # (frame, 2)
    covariance: Tensor  # (frame, frame)
    residual: Tensor  # (frame,)
    free: Tensor  # (frame, 2)
    free_covariance: Tensor  # (frame, frame)
    signal: Tensor
    noise: Tensor
    confidence: float
    rejected: dict[int, str]


def _fit_without_bad_frames(band: BandSpectra, doses: Tensor, params: MotionParams, prior: MotionPrior | None) -> _Fit:
    rejected = _frames_of_strange_power(band, doses)
    while True:
        keep = torch.tensor([i for i in range(len(doses)) if i not in rejected], dtype=torch.long)
        if len(keep) < 2:
            return _nothing_to_align(doses, rejected)
        part = band if len(keep) == len(doses) else band.with_values(band.values[keep.to(band.values.device)])
        fit, likeness, spread = _fit_frames(part, doses[keep], params, _prior_of(prior, keep))
        strange = likeness + 3.0 * spread < 0.5
        if len(keep) >= 3 and bool(strange.any()) and int(strange.sum()) <= len(keep) // 2:
            worst = int((likeness + 3.0 * spread).argmin())
            share = 100.0 * float(likeness[worst])
            rejected[int(keep[worst])] = f"it holds {share:.0f}% of the detail that the other frames share"
            continue
        return _spread_over(fit, keep, doses, rejected)


def _prior_of(prior: MotionPrior | None, keep: Tensor) -> MotionPrior | None:
    """The distribution of some of the frames alone."""
    if prior is None or len(prior.mean_angstrom) == len(keep):
        return prior
    covariance = torch.linalg.pinv(prior.precision, hermitian=True)[keep][:, keep]
    centre = centring(len(keep))
    return MotionPrior(
        mean_angstrom=prior.mean_angstrom[keep],
        precision=torch.linalg.pinv(centre @ covariance @ centre, hermitian=True, rtol=1e-9),
    )


def _frames_of_strange_power(band: BandSpectra, doses: Tensor) -> dict[int, str]:
    power = torch.stack([(summed_power(v[None]) * band.weight).sum() for v in band.values]).double().cpu() / doses
    if float(power.max()) <= 0:
        return {}
    level = power[power > 1e-6 * power.max()].median()
    out = {}
    for i, p in enumerate((power / level).tolist()):
        if p < 1e-3:
            out[i] = "it holds no detail: all of its pixels are alike"
        elif len(doses) >= 3 and not 0.1 < p < 10.0:
            out[i] = f"its detail has {p:.2g} times the power of the other frames"
    return out


def _nothing_to_align(doses: Tensor, rejected: dict[int, str]) -> _Fit:
    count = len(doses)
    nothing = torch.zeros(SHELLS, dtype=torch.float64)
    alone = len(rejected) == count
    return _Fit(
        shifts=torch.zeros(count, 2, dtype=torch.float64),
        covariance=torch.zeros(count, count, dtype=torch.float64),
        residual=torch.zeros(count, dtype=torch.float64),
        free=torch.zeros(count, 2, dtype=torch.float64),
        free_covariance=1e6 * centring(count),
        signal=nothing,
        noise=nothing + 1.0,
        confidence=0.0,
        rejected={} if alone else rejected,
    )


def _fit_frames(
    band: BandSpectra, doses: Tensor, params: MotionParams, prior: MotionPrior | None
) -> tuple[_Fit, Tensor, Tensor]:
    """Shifts of good frames, then how much of the common detail each frame holds, and the error of that."""
    count, dose = len(doses), float(doses.sum())
    still = torch.zeros(count, 2, dtype=torch.float64) if prior is None else prior.mean_angstrom
    weak = prior or smooth_prior(doses, 3.0 * params.jerk_angstrom, params.jerk_angstrom)
    shifts = _start(band.coarser(_SEARCH_SAMPLES), doses, still, weak, params)
    if prior is not None:
        shifts = _more_probable(band, doses, shifts, still, prior)
    many = prior is None and count > _FEW_FRAMES
    aligned = band.aligned(shifts)
    for _ in range(_ROUNDS):
        weight = sample_weights(band, *measure_spectra(band, aligned, band.own, doses), dose)
        if many:
            weak = _prior_of_most_evidence(band, weight, shifts, doses)
        moved, aligned, curvature = _newton(band, weight, shifts, doses, weak)
        change = float((moved - shifts).abs().max())
        shifts = moved
        if change < 0.02 * params.low_pass_angstrom:
            break
    signal, noise = measure_spectra(band, aligned, band.own, doses)
    weight = sample_weights(band, signal, noise, dose)
    residual = _residuals(band, weight, aligned, curvature)
    if prior is None:
        weak = _prior_of_most_evidence(band, weight, shifts, doses)
        shifts, aligned, curvature = _newton(band, weight, shifts, doses, weak)
    confidence = _confidence(band, shifts, aligned, doses, curvature, weak)
    if confidence > _SURE:
        weight = sample_weights(band, *measure_spectra(band, aligned, band.own, doses, cautious=False), dose)
        shifts, aligned, curvature = _newton(band, weight, shifts, doses, weak)
    pull = gradient(aligned, weight, band.ky, band.kx).cpu().T.reshape(-1)
    alone = torch.linalg.pinv(curvature, hermitian=True)
    free_shifts = shifts + (alone @ pull).reshape(2, count).T
    if prior is None:  # else the most probable shifts are the answer, however little the frames tell
        shifts = still + confidence * (shifts - still)
    likeness, spread = _likeness(band, aligned, doses, signal, noise)
    free = torch.kron(torch.eye(2, dtype=torch.float64), centring(count))
    precision = curvature + torch.kron(torch.eye(2, dtype=torch.float64), weak.precision)
    covariance = free @ torch.linalg.pinv(precision, hermitian=True) @ free
    both = 0.5 * (covariance[:count, :count] + covariance[count:, count:])
    fit = _Fit(
        shifts=shifts - shifts.mean(0),
        covariance=both,
        residual=residual,
        free=free_shifts - free_shifts.mean(0),
        free_covariance=0.5 * (alone[:count, :count] + alone[count:, count:]),
        signal=signal.cpu(),
        noise=noise.cpu(),
        confidence=confidence,
        rejected={},
    )
    return fit, likeness, spread


def _more_probable(band: BandSpectra, doses: Tensor, found: Tensor, still: Tensor, prior: MotionPrior) -> Tensor:
    """From the peaks that were found, or from what the series suggests."""
    best, chosen = -math.inf, still
    for start in (found, still):
        moved, aligned = start, band.aligned(start)
        for _round in range(_SEARCHES):
            weight = sample_weights(band, *measure_spectra(band, aligned, band.own, doses), float(doses.sum()))
            moved, aligned, _ = _newton(band, weight, moved, doses, prior)
        away = (moved - still).T.reshape(-1)
        held = torch.kron(torch.eye(2, dtype=torch.float64), prior.precision)
        value = log_probability(band, aligned, doses, *measure_spectra(band, aligned, band.own, doses))
        value -= 0.5 * float(away @ held @ away)
        if value > best:
            best, chosen = value, moved
    return chosen


def _start(band: BandSpectra, doses: Tensor, still: Tensor, weak: MotionPrior, params: MotionParams) -> Tensor:
    """Shifts from correlation peaks; sums of neighbouring frames where there are many, since a short frame shows too little."""
    count = len(doses)
    if count > _FEW_FRAMES:
        groups = min(_FEW_FRAMES, (count + 1) // 2)
        group = torch.arange(count) * groups // count
        own = band.aligned(still)
        values = own.new_zeros(groups, *own.shape[1:]).index_add_(0, group.to(own.device), own)
        grouped = torch.zeros(groups, dtype=torch.float64).index_add_(0, group, doses)
        time = torch.cumsum(doses, 0) - 0.5 * doses
        middle = torch.zeros(groups, dtype=torch.float64).index_add_(0, group, doses * time) / grouped
        grouped = grouped / grouped.mean()
        nothing = torch.zeros(groups, 2, dtype=torch.float64)
        steps = smooth_prior(grouped, 3.0 * params.jerk_angstrom, params.jerk_angstrom)
        found = _start(band.with_values(values), grouped, nothing, steps, params)
        shifts = still + _between(middle, time) @ found
        return shifts - shifts.mean(0)
    shifts = _first_look(band, still, params.max_shift_angstrom)
    for _ in range(_SEARCHES):
        aligned = band.aligned(shifts)
        weight = sample_weights(band, *measure_spectra(band, aligned, band.own, doses), float(doses.sum()))
        shifts = _search(band, weight, aligned, shifts, still, params.max_shift_angstrom)
        shifts = _newton(band, weight, shifts, doses, weak)[0]
    return shifts


def _between(middle: Tensor, time: Tensor) -> Tensor:
    """(time, middle): linear interpolation between the middles, straight on beyond them."""
    right = torch.searchsorted(middle, time).clamp(1, len(middle) - 1)
    part = (time - middle[right - 1]) / (middle[right] - middle[right - 1])
    carry = torch.zeros(len(time), len(middle), dtype=torch.float64)
    rows = torch.arange(len(time))
    carry[rows, right] = part
    carry[rows, right - 1] = 1.0 - part
    return carry


def _first_look(band: BandSpectra, start: Tensor, reach: float) -> Tensor:
    """Each frame against the others with a plain envelope; a peak that chance could have made is not believed."""
    power = (shell_mean(band, band.own) / len(start)).clamp(min=1e-30).float()
    radius2 = band.ky[:, None] ** 2 + band.kx**2
    weight = band.weight * torch.exp(-0.25 * 300.0 * radius2) / power[band.shell]
    shifts = start.clone()
    aligned = band.aligned(shifts)
    total = aligned.sum(0)
    for i in range(len(shifts)):
        plane, x, y = _correlation(band, weight * aligned[i] * (total - aligned[i]).conj())
        allowed = x**2 + y**2 <= reach**2
        peak = int(torch.where(allowed, plane, torch.full_like(plane, -torch.inf)).argmax())
        if float(plane.reshape(-1)[peak]) > 6.5 * float(plane.std()):
            row, column = divmod(peak, plane.shape[1])
            shifts[i] += torch.stack([x[0, column], y[row, 0]]).double().cpu()
    return shifts - shifts.mean(0)


def _correlation(band: BandSpectra, product: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``sum over k of product exp(2 pi i k.d)`` over the whole plane, with the displacements d (x, y in A)."""
    rows, columns = product.shape
    shape = (good_size(rows + 1), good_size(2 * columns))
    plane = product.new_zeros(shape[0], shape[1] // 2 + 1)
    half = (rows + 1) // 2
    plane[:half, :columns] = product[:half]
    plane[-(rows - half) :, :columns] = product[half:]
    value = torch.fft.irfft2(plane, s=shape, norm="forward")
    step_y, step_x = (1.0 / (n * float(k[1] - k[0])) for n, k in zip(shape, (band.ky, band.kx), strict=True))
    y = torch.fft.fftfreq(shape[0], d=1.0 / shape[0], device=product.device)[:, None] * step_y
    x = torch.fft.fftfreq(shape[1], d=1.0 / shape[1], device=product.device)[None] * step_x
    return value, x, y


def _search(band: BandSpectra, weight: Tensor, aligned: Tensor, shifts: Tensor, still: Tensor, reach: float) -> Tensor:
    """Mean displacement of each frame against the others over all that the data leave possible."""
    total = aligned.sum(0)
    out = shifts.clone()
    for i in range(len(shifts)):
        plane, x, y = _correlation(band, weight * aligned[i] * (total - aligned[i]).conj())
        here_x, here_y = x + float(shifts[i, 0] - still[i, 0]), y + float(shifts[i, 1] - still[i, 1])
        away = here_x**2 + here_y**2
        allowed = x**2 + y**2 <= reach**2
        height = torch.where(allowed, plane - 0.5 * away / (0.25 * reach) ** 2, torch.full_like(plane, -torch.inf))
        chance = torch.exp((height - height.max()).double())
        chance = chance / chance.sum()
        out[i, 0] += float((chance * x).sum())
        out[i, 1] += float((chance * y).sum())
    return out - out.mean(0)


def _newton(
    band: BandSpectra, weight: Tensor, shifts: Tensor, doses: Tensor, prior: MotionPrior
) -> tuple[Tensor, Tensor, Tensor]:
    """Scoring steps to the most probable shifts; these, the aligned spectra and the curvature of L."""
    count = len(shifts)
    held = torch.kron(torch.eye(2, dtype=torch.float64), prior.precision)
    longest = 0.25 / float(band.ky.max())
    aligned = band.aligned(shifts)
    curvature = _curvature(band, weight, aligned, doses)
    for _ in range(_STEPS):
        pull = gradient(aligned, weight, band.ky, band.kx).cpu().T.reshape(-1)
        pull = pull - held @ (shifts - prior.mean_angstrom).T.reshape(-1)
        step = torch.linalg.lstsq(curvature + held, pull, driver="gelsd").solution
        step = step * min(1.0, longest / max(float(step.abs().max()), 1e-12))
        shifts = shifts + step.reshape(2, count).T
        shifts = shifts - shifts.mean(0)
        aligned = band.aligned(shifts)
        if float(step.abs().max()) < 0.01:
            break
        curvature = _curvature(band, weight, aligned, doses)
    return shifts, aligned, curvature


def _curvature(band: BandSpectra, weight: Tensor, aligned: Tensor, doses: Tensor) -> Tensor:
    """Over all x, then all y."""
    pair = information(aligned, band.own, weight, band.ky, band.kx, doses).cpu()
    return torch.kron(floored(pair, 1e-9), pair_laplacian(doses))


def _residuals(band: BandSpectra, weight: Tensor, aligned: Tensor, curvature: Tensor) -> Tensor:
    """How far each frame alone would go."""
    count = len(aligned)
    pull = gradient(aligned, weight, band.ky, band.kx).cpu()
    own = torch.diagonal(curvature).reshape(2, count).T
    away: Tensor = torch.linalg.vector_norm(pull / own.clamp(min=1e-9), dim=1).clamp(max=100.0)
    return away


def _prior_of_most_evidence(band: BandSpectra, weight: Tensor, shifts: Tensor, doses: Tensor) -> MotionPrior:
    """The strength of the prior under which the data are most probable, the likelihood being taken as normal."""
    aligned = band.aligned(shifts)
    curvature = _curvature(band, weight, aligned, doses)
    pull = curvature @ shifts.T.reshape(-1) + gradient(aligned, weight, band.ky, band.kx).cpu().T.reshape(-1)
    best, chosen = -math.inf, smooth_prior(doses, _STEPS_ANGSTROM[-1], _STEPS_ANGSTROM[-1])
    basis = torch.kron(torch.eye(2, dtype=torch.float64), free_directions(len(shifts)))
    curvature, pull = basis.T @ curvature @ basis, basis.T @ pull
    for step in _STEPS_ANGSTROM:
        for part in _JERKS:
            prior = smooth_prior(doses, step, part * step)
            held = basis.T @ torch.kron(torch.eye(2, dtype=torch.float64), prior.precision) @ basis
            mean = torch.linalg.solve(curvature + held, pull)
            evidence = 0.5 * float(pull @ mean + torch.logdet(held) - torch.logdet(curvature + held))
            if evidence > best:
                best, chosen = evidence, prior
    return chosen


def _confidence(
    band: BandSpectra,
    shifts: Tensor,
    aligned: Tensor,
    doses: Tensor,
    curvature: Tensor,
    prior: MotionPrior,
) -> float:
    """Probability of these shifts against no motion (or the prior's mean), both being as likely beforehand.

    Powers are measured anew for either, since shifts that follow noise find signal in it.
    """
    basis = torch.kron(torch.eye(2, dtype=torch.float64), free_directions(len(shifts)))
    held = basis.T @ torch.kron(torch.eye(2, dtype=torch.float64), prior.precision) @ basis
    away = basis.T @ (shifts - prior.mean_angstrom).T.reshape(-1)
    still = band.aligned(prior.mean_angstrom)
    gain = log_probability(band, aligned, doses, *measure_spectra(band, aligned, band.own, doses))
    gain -= log_probability(band, still, doses, *measure_spectra(band, still, band.own, doses))
    # where a strong scene's spectrum is steep, smoothed powers are off by more than the noise, and what the frames gain by
    # moving looks like a loss; powers of every shell alone are right there, though they follow chance by some nats a shell
    plain = profile_log_probability(band, aligned, doses) - profile_log_probability(band, still, doses)
    if gain < 0.0 and plain > 2 * SHELLS:
        gain = plain
    known = basis.T @ curvature @ basis
    odds = (
        gain - _DOUBT - 0.5 * float(away @ held @ away) + 0.5 * float(torch.logdet(held) - torch.logdet(known + held))
    )
    return 1.0 / (1.0 + math.exp(-max(-50.0, min(50.0, odds))))


def _likeness(
    band: BandSpectra, aligned: Tensor, doses: Tensor, signal: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Part of the common detail that each frame holds (1 expected), and its standard deviation."""
    total, inside = aligned.sum(0), band.weight > 0
    s, n = (torch.where(inside, power[band.shell], 1.0) for power in (signal, noise))
    amount, spread = [], []
    for frame, a in zip(aligned, doses.tolist(), strict=True):
        rest = float(doses.sum()) - a
        power = (n + a * s) * (n + rest * s)
        weight = band.weight * s / power
        others = total - frame
        product = (weight * (frame.real * others.real + frame.imag * others.imag)).sum()
        expected = (weight * s).sum() * a * rest
        variance = 0.5 * (weight**2 / band.weight.clamp(min=1e-6) * power).sum() * a * rest
        amount.append(product / expected)
        spread.append(torch.sqrt(variance) / expected)
    return torch.stack(amount).cpu(), torch.stack(spread).cpu()


def _spread_over(fit: _Fit, keep: Tensor, doses: Tensor, rejected: dict[int, str]) -> _Fit:
    """Back onto all frames; one that was left out moves as its neighbours do."""
    count = len(doses)
    if len(keep) == count:
        return fit
    carry = torch.zeros(count, len(keep), dtype=torch.float64)
    for i in range(count):
        right = int((keep < i).sum())
        if right < len(keep) and int(keep[right]) == i:
            carry[i, right] = 1.0
        elif right in (0, len(keep)):
            carry[i, min(right, len(keep) - 1)] = 1.0
        else:
            below, above = int(keep[right - 1]), int(keep[right])
            carry[i, right] = (i - below) / (above - below)
            carry[i, right - 1] = 1.0 - carry[i, right]
    return replace(
        fit,
        shifts=carry @ fit.shifts,
        covariance=carry @ fit.covariance @ carry.T,
        residual=carry @ fit.residual,
        free=carry @ fit.free,
        free_covariance=carry @ fit.free_covariance @ carry.T,
        rejected=rejected,
    )


def _per_frame(fit: _Fit, band: BandSpectra, coarse: CoarseFrames, doses: Tensor) -> MotionResult:
    """From groups of frames to frames: linear between the middles of the groups."""
    count, groups = len(coarse.group), len(fit.shifts)
    if groups == count:
        carry = torch.eye(count, dtype=torch.float64)
    else:
        time = torch.cumsum(doses, 0) - 0.5 * doses
        weight = torch.zeros(groups, dtype=torch.float64).index_add_(0, coarse.group, doses)
        middle = torch.zeros(groups, dtype=torch.float64).index_add_(0, coarse.group, doses * time) / weight
        carry = _between(middle, time)
    rejected = tuple(
        RejectedFrame(frame=i, reason=fit.rejected[g]) for i, g in enumerate(coarse.group.tolist()) if g in fit.rejected
    )
    shifts = carry @ fit.shifts
    used = torch.tensor([g not in fit.rejected for g in coarse.group.tolist()])
    shifts = shifts - shifts[used].mean(0)
    covariance = carry @ fit.covariance @ carry.T
    device = band.values.device
    return MotionResult(
        shifts_angstrom=shifts.to(device),
        sigma_angstrom=torch.sqrt(torch.diagonal(covariance).clamp(min=0.0)).to(device),
        frequency=band.shell_frequency,
        frame_correlation=(fit.signal / (fit.signal + fit.noise)).to(device),
        covariance=covariance.to(device),
        free_shifts_angstrom=(carry @ fit.free).to(device),
        free_covariance=(carry @ fit.free_covariance @ carry.T).to(device),
        residual_angstrom=(carry @ fit.residual).to(device),
        rejected=rejected,
        confidence=fit.confidence,
    )
