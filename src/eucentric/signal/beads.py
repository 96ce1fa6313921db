"""Gold beads in tilt images: dark round discs of one size, far darker and rounder than anything else in the ice."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.compute.sizes import good_size
from eucentric.errors import InputError, ShapeError
from eucentric.fourier.crop import fourier_crop, rescaled_shape
from eucentric.typing import FloatArray

SMALLEST_DIAMETER = 40.0  # A
LARGEST_DIAMETER = 300.0  # A
_SCALE_STEP = 1.15  # the match falls by about 2% for a size wrong by half of it
_SAMPLES_PER_RADIUS = 5.0  # matching is done on images so coarse: less noise, the same view of every size
_SUPPORT = 1.8  # of the radius: the disc and as much background again as tells it from a larger one
_REACH = 2.6  # of the radius: how far the mean profile is followed, past the second Fresnel fringe
_CANDIDATE = 0.5  # match from which a place is looked at again; white noise reaches 0.3
_VISIBLE = 0.5  # share of the disc that must lie inside the image: less of it is too much like a dark edge
_FALSE_SHARE = 0.05  # of false beads among those reported, counted in the image with its contrast inverted


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BeadDetections:
    """The beads of one image."""

    positions_px: FloatArray
    """(bead, 2), x and y of the centres, inside the image: more than half of the disc is seen."""
    radius_px: float
    """Where the mean bead is half as dark as in its middle; about a tenth less than the gold's own at usual defocus.
    0 where there is no bead."""
    halo_px: float
    """Beyond this radius the mean bead, with its Fresnel fringes, is not seen any more; 0 where there is no bead."""
    scores: FloatArray
    """(bead,): correlation of each bead with the mean bead, 0.75 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BeadProfile:
    """The mean bead of one size: darkness against radius."""

    radius_px: float
    halo_px: float
    radii_px: FloatArray
    """(sample,), from 0."""
    darkness: FloatArray
    """(sample,): 1 in the middle, 0 far away, negative in the bright fringe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoarseView:
    """An image sampled for one bead size; `step_*` are its pixels in pixels of the original."""

    image: Tensor
    radius: float
    step_x: float
    step_y: float
    centre: tuple[int, int]
    """(x, y) ``n // 2`` of the original."""

    def original(self, x: FloatArray, y: FloatArray) -> FloatArray:
        rows, columns = self.image.shape
        return np.stack(
            [(x - columns // 2) * self.step_x + self.centre[0], (y - rows // 2) * self.step_y + self.centre[1]], axis=-1
        )

    def coarse(self, positions: FloatArray) -> FloatArray:
        rows, columns = self.image.shape
        return np.stack(
            [
                (positions[:, 0] - self.centre[0]) / self.step_x + columns // 2,
                (positions[:, 1] - self.centre[1]) / self.step_y + rows // 2,
            ],
            axis=-1,
        )


def detect_beads(
    image: Float[Tensor, "y x"],
    *,
    pixel_size: float,
    diameter_angstrom: float | None = None,
    threshold: float = 0.75,
) -> BeadDetections:
    """Find gold beads, dark as recorded, in one image.

    A dark disc is correlated with the image, locally normalised and blind to what lies outside [1]_, at each size from
    40 to 300 A. The mean radial profile of the best places then replaces the disc, as it holds the true fringes [2]_,
    and each place is fitted with it (centre, darkness, background) and scored by its correlation with it. Pixels are
    binned to a fifth of the radius, where gold exceeds the noise of 3 e/A^2 manyfold and protein does not.

    Parameters
    ----------
    image : (y, x), motion corrected, no CTF correction
    pixel_size : A
    diameter_angstrom : of the beads; none searches all sizes
    threshold : least correlation with the mean bead. At 0.75 more than half of the variance around a place is that of
        a bead: protein at cryo exposures leaves most of it to noise

    Returns
    -------
    none where the image holds no bead; `radius_px` is measured in either case

    Raises
    ------
    ShapeError : not an image
    InputError : a pixel size or diameter that is not positive, pixels too coarse for the diameter, NaN in the image

    References
    ----------
    .. [1] Padfield, IEEE Trans. Image Process. 21:2706 (2012), doi:10.1109/TIP.2011.2181402
    .. [2] Han et al., J. Struct. Biol. 192:403 (2015), doi:10.1016/j.jsb.2015.09.015
    """
    if image.ndim != 2:
        raise ShapeError(f"Beads are looked for in one image (y, x); got an array of shape {tuple(image.shape)}.")
    profile = measure_profile(image[None], pixel_size=pixel_size, diameter_angstrom=diameter_angstrom)
    if profile is None:
        return no_beads()
    found = match_beads(image, profile, threshold=threshold)
    least = trusted_score(found.scores, decoy_scores(image, profile, found.positions_px, threshold=threshold))
    return above(found, least)


def no_beads() -> BeadDetections:
    """What an image without beads gives."""
    return BeadDetections(positions_px=np.zeros((0, 2)), radius_px=0.0, halo_px=0.0, scores=np.zeros(0))


def measure_profile(
    images: Float[Tensor, "tilt y x"], *, pixel_size: float, diameter_angstrom: float | None = None
) -> BeadProfile | None:
    """The mean bead of some images; none where nothing looks like a bead.

    Parameters
    ----------
    images : (tilt, y, x)
    pixel_size : A
    diameter_angstrom : none searches 40 to 300 A

    Raises
    ------
    InputError : as :func:`detect_beads`
    """
    _check(images, pixel_size, diameter_angstrom)
    best: tuple[float, float] = (0.0, 0.0)
    for radius in _search_radii(images, pixel_size, diameter_angstrom):
        total = 0.0
        for image in images:
            _, scores = _candidates(sample_for(image, radius))
            total += float((np.clip(scores - _CANDIDATE, 0.0, None) ** 2).sum())
        best = max(best, (total, radius))
    if best[0] <= 0.0:
        return None
    return _mean_profile(images, best[1])


def match_beads(
    image: Float[Tensor, "y x"], profile: BeadProfile, *, threshold: float = 0.75, near_px: FloatArray | None = None
) -> BeadDetections:
    """The beads of one image that look like a known mean bead.

    Parameters
    ----------
    image : (y, x)
    profile : from :func:`measure_profile`, of images with the same pixels
    threshold : least correlation with it
    near_px : (n, 2), x and y: places to fit instead of those that a search finds; a fit may move by one radius
    """
    view = sample_for(image, profile.radius_px)
    if near_px is None:
        places, _ = _candidates(view)
    else:
        places = view.coarse(np.asarray(near_px, dtype=np.float64))
    if len(places) == 0:
        return no_beads()
    curve = ProfileCurve.of(profile, view)
    pixels = view.image.cpu().numpy().astype(np.float64)
    fits = [_fit(pixels, curve, view.radius, place, places) for place in places]
    rows, columns = pixels.shape
    # a fit that has left the image follows the dark edge of a frame
    fits = [fit for fit in fits if -0.5 <= fit[0] <= columns - 0.5 and -0.5 <= fit[1] <= rows - 0.5]
    good = [fit for fit in sorted(fits, key=lambda fit: -fit[2]) if fit[2] >= threshold]
    kept: list[tuple[float, float, float]] = []
    for fit in good:  # two candidates may have climbed onto one bead
        if all(math.hypot(fit[0] - k[0], fit[1] - k[1]) > view.radius for k in kept):
            kept.append(fit)
    if not kept:
        return no_beads()
    x, y, scores = np.array(kept).T
    return BeadDetections(
        positions_px=view.original(x, y), radius_px=profile.radius_px, halo_px=profile.halo_px, scores=scores
    )


def decoy_scores(
    image: Float[Tensor, "y x"], profile: BeadProfile, positions_px: FloatArray, *, threshold: float = 0.75
) -> FloatArray:
    """Scores (n,) of what looks like beads where none can be: in the inverted image, away from the beads found."""
    decoys = match_beads(-image, profile, threshold=threshold)
    if len(positions_px) == 0 or len(decoys.scores) == 0:
        return decoys.scores
    apart = np.hypot(*(decoys.positions_px[:, None] - positions_px[None]).transpose(2, 0, 1)).min(axis=1)
    return np.asarray(decoys.scores[apart > profile.halo_px + profile.radius_px])


def trusted_score(scores: FloatArray, decoys: FloatArray) -> float:
    """The lowest score from which at most one bead in twenty is false, if false ones score like decoys; else inf."""
    ranked = np.sort(scores)[::-1]
    false = (decoys[None, :] >= ranked[:, None]).sum(axis=1)
    good = np.flatnonzero(false <= _FALSE_SHARE * np.arange(1, len(ranked) + 1))
    return float(ranked[good[-1]]) if len(good) else math.inf


def above(found: BeadDetections, least: float) -> BeadDetections:
    """The beads with at least this score."""
    keep = found.scores >= least
    if not keep.any():
        return no_beads()
    return replace(found, positions_px=found.positions_px[keep], scores=found.scores[keep])


def _check(images: Tensor, pixel_size: float, diameter: float | None) -> None:
    if images.ndim != 3 or min(images.shape) < 1:
        raise ShapeError(f"Beads are looked for in images (tilt, y, x); got an array of shape {tuple(images.shape)}.")
    if not pixel_size > 0:
        raise InputError(f"The pixel size is {pixel_size:g} A; expected a positive number.")
    if diameter is not None and not diameter > 0:
        raise InputError(f"The bead diameter is {diameter:g} A; expected a positive number.")
    if diameter is not None and diameter < 3 * pixel_size:
        raise InputError(
            f"Beads of {diameter:g} A cover {diameter / pixel_size:.1f} pixels of {pixel_size:g} A; at least three are "
            "needed. Take images with finer pixels."
        )
    if not bool(torch.isfinite(images).all()):
        raise InputError("An image holds NaN or infinity. Exclude its tilt, or mend the image.")


def _search_radii(images: Tensor, pixel_size: float, diameter: float | None) -> list[float]:
    """Radii in pixels."""
    if diameter is not None:
        middle = 0.5 * diameter / pixel_size
        # the dark disc is a little smaller than the gold
        return [middle * _SCALE_STEP**power for power in (-1.5, -1.0, -0.5, 0.0)]
    smallest = max(0.5 * SMALLEST_DIAMETER / pixel_size, 2.0)
    largest = min(0.5 * LARGEST_DIAMETER / pixel_size, min(images.shape[-2:]) / (2 * _REACH))
    count = math.floor(math.log(max(largest / smallest, 1.0)) / math.log(_SCALE_STEP)) + 1
    return [smallest * _SCALE_STEP**k for k in range(count)]


def sample_for(image: Tensor, radius_px: float) -> CoarseView:
    """An image (y, x) binned to a fifth of the radius, or as it is where its pixels are coarser."""
    rows, columns = image.shape
    factor = max(1.0, radius_px / _SAMPLES_PER_RADIUS)
    shape = (rows, columns)
    if factor > 1.0:
        small = rescaled_shape((rows, columns), 1.0, factor)
        shape = (min(rows, small[0]), min(columns, small[1]))
    coarse = fourier_crop(image.float(), shape)
    step_y, step_x = rows / shape[0], columns / shape[1]
    return CoarseView(
        image=coarse,
        radius=radius_px / math.sqrt(step_x * step_y),
        step_x=step_x,
        step_y=step_y,
        centre=(columns // 2, rows // 2),
    )


def _candidates(view: CoarseView) -> tuple[FloatArray, FloatArray]:
    """Places (n, 2) x, y of the coarse image that match a dark disc, and how well."""
    match, margin = _disc_match(view.image, view.radius)
    window = 2 * math.floor(view.radius) + 1
    rows_first = torch.nn.functional.max_pool2d(match[None, None], (window, 1), stride=1, padding=(window // 2, 0))
    highest = torch.nn.functional.max_pool2d(rows_first, (1, window), stride=1, padding=(0, window // 2))[0, 0]
    rows, columns = torch.nonzero((match == highest) & (match > _CANDIDATE), as_tuple=True)
    scores = match[rows, columns].cpu().numpy().astype(np.float64)
    places = torch.stack([columns, rows], dim=1).cpu().numpy().astype(np.float64) - margin
    return places, scores


def _disc_match(image: Tensor, radius: float) -> tuple[Tensor, int]:
    """Local correlation with a dark disc at every place, also up to `margin` pixels outside the image."""
    rows, columns = image.shape
    reach = math.ceil(_SUPPORT * radius) + 1
    margin = min(math.ceil(radius), reach)
    shape = (good_size(rows + 2 * reach), good_size(columns + 2 * reach))
    values = image - image.median()
    device, dtype = image.device, image.dtype
    y = torch.fft.fftfreq(shape[0], d=1.0 / shape[0], device=device, dtype=dtype)[:, None]
    x = torch.fft.fftfreq(shape[1], d=1.0 / shape[1], device=device, dtype=dtype)[None, :]
    r = torch.sqrt(x**2 + y**2)
    support = (r <= _SUPPORT * radius).to(dtype)
    disc = torch.clamp(radius + 0.5 - r, 0.0, 1.0)

    def spectrum(field: Tensor) -> Tensor:
        transform: Tensor = torch.fft.rfft2(field, s=shape)
        return transform

    def near(field: Tensor, kernel: Tensor) -> Tensor:
        full: Tensor = torch.roll(torch.fft.irfft2(field * kernel, s=shape), (margin, margin), dims=(0, 1))
        return full[: rows + 2 * margin, : columns + 2 * margin]

    one, value, square = spectrum(torch.ones_like(values)), spectrum(values), spectrum(values**2)
    around, dark, dark_square = spectrum(support), spectrum(-disc), spectrum(disc**2)
    count = near(one, around).clamp(min=1.0)
    mean, template = near(value, around) / count, near(one, dark) / count
    spread = (near(square, around) / count - mean**2).clamp(min=0.0)
    contrast = (near(one, dark_square) / count - template**2).clamp(min=0.0)
    shared = near(value, dark) / count - mean * template
    whole = float(disc.sum())
    seen = -near(one, dark) >= _VISIBLE * whole
    # a flat patch correlates with nothing
    floor = 1e-6 * float(values.var()) + torch.finfo(dtype).tiny
    match = shared / torch.sqrt((spread.clamp(min=floor)) * contrast.clamp(min=1e-6))
    return torch.where(seen & (contrast > 1e-3), match, torch.zeros_like(match)), margin


@dataclass(frozen=True, slots=True)
class ProfileCurve:
    """A profile in pixels of the coarse image, with its slope."""

    step: float
    value: FloatArray
    slope: FloatArray

    @classmethod
    def of(cls, profile: BeadProfile, view: CoarseView) -> "ProfileCurve":
        scale = view.radius / profile.radius_px
        step = float(profile.radii_px[1] - profile.radii_px[0]) * scale
        return cls(step, profile.darkness, np.gradient(profile.darkness, step))

    @property
    def reach(self) -> float:
        """Where the profile ends."""
        return (len(self.value) - 1) * self.step

    def at(self, r: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Darkness and its slope at radii in pixels."""
        grid = np.arange(len(self.value)) * self.step
        return np.interp(r, grid, self.value, right=0.0), np.interp(r, grid, self.slope, right=0.0)


def _fit(
    pixels: FloatArray, curve: ProfileCurve, radius: float, place: FloatArray, others: FloatArray
) -> tuple[float, float, float]:
    """Least-squares centre x, y of one bead by Gauss-Newton steps, and its correlation with the profile."""
    x, y = float(place[0]), float(place[1])
    reach = _SUPPORT * radius
    rows, columns = np.mgrid[
        max(0, math.floor(y - reach - radius)) : min(pixels.shape[0], math.ceil(y + reach + radius) + 1),
        max(0, math.floor(x - reach - radius)) : min(pixels.shape[1], math.ceil(x + reach + radius) + 1),
    ].reshape(2, -1)
    if len(rows) < 9:
        return x, y, 0.0
    values = pixels[rows, columns]
    own = np.hypot(columns - x, rows - y)
    # a pixel belongs to the nearest bead, unless it is inside none
    distances = [np.hypot(columns - o[0], rows - o[1]) for o in others if 0 < math.hypot(*(o - place)) < 3 * reach]
    free = np.ones(len(rows), dtype=bool)
    for distance in distances:
        free &= (distance > 1.3 * radius) | (distance > own)
    score = 0.0
    for _ in range(8):
        dx, dy = columns - x, rows - y
        r = np.hypot(dx, dy)
        used = free & (r <= reach)
        if used.sum() < 9:
            return x, y, 0.0
        shape, slope = curve.at(r[used])
        unit = np.maximum(r[used], 1e-6)
        design = np.stack([np.ones_like(shape), shape], axis=1)
        (level, depth), *_ = np.linalg.lstsq(design, values[used], rcond=None)
        spread = values[used].std() * shape.std()
        score = -float(np.mean((values[used] - values[used].mean()) * (shape - shape.mean()))) / max(spread, 1e-30)
        if depth >= 0:
            return x, y, 0.0
        jacobian = np.stack([-depth * slope * dx[used] / unit, -depth * slope * dy[used] / unit], axis=1)
        move, *_ = np.linalg.lstsq(jacobian, values[used] - level - depth * shape, rcond=None)
        move *= min(1.0, 0.3 * radius / max(float(np.hypot(*move)), 1e-12))
        x, y = x + float(move[0]), y + float(move[1])
        if math.hypot(x - place[0], y - place[1]) > radius:
            return float(place[0]), float(place[1]), 0.0
        if np.hypot(*move) < 1e-3:
            break
    return x, y, score


def _mean_profile(images: Tensor, radius_px: float) -> BeadProfile | None:
    """Mean bead of the best places of all images, centred twice; none where that is no dark disc."""
    views = [sample_for(image, radius_px) for image in images]
    found = [_candidates(view) for view in views]
    top = max(float(scores.max(initial=0.0)) for _, scores in found)
    places = [place[scores >= max(_CANDIDATE, 0.85 * top)] for place, scores in found]
    profile = _average(views, places, radius_px)
    for _ in range(2):
        centred = []
        for view, place in zip(views, places, strict=True):
            curve, pixels = ProfileCurve.of(profile, view), view.image.cpu().numpy().astype(np.float64)
            fits = [_fit(pixels, curve, radius_px / view.step_x, p, place) for p in place]
            centred.append(np.array([fit[:2] for fit in fits if fit[2] > _CANDIDATE]).reshape(-1, 2))
        if sum(len(place) for place in centred) == 0:
            return None
        profile = _average(views, centred, radius_px)
    return profile if _is_solid(profile) else None


def _is_solid(profile: BeadProfile) -> bool:
    """Whether a mean profile is that of a dark ball: fringes run through the disc, but leave it dark everywhere."""
    within = profile.radii_px <= profile.radius_px
    disc = profile.darkness[within]
    area = np.maximum(profile.radii_px[within], 0.5 * profile.radii_px[1])
    mean = float((disc * area).sum() / area.sum())
    inner = disc[profile.radii_px[within] < 0.6 * profile.radius_px]
    return bool(inner.min() > 0.1 * mean and np.abs(profile.darkness).max() < 2.0 * mean)


def _average(views: Sequence[CoarseView], places: Sequence[FloatArray], radius_px: float) -> BeadProfile:
    radius = views[0].radius
    scale = radius_px / radius
    edge = _REACH * radius
    width = 0.5
    bins = math.ceil(edge / width) + 1
    total, weight, square = np.zeros(bins), np.zeros(bins), np.zeros(bins)
    for view, centres in zip(views, places, strict=True):
        pixels = view.image.cpu().numpy().astype(np.float64)
        for centre in centres:
            rows, columns = _window(pixels.shape, centre, edge)
            r = np.hypot(columns - centre[0], rows - centre[1])
            free = r <= edge
            for other in centres:
                if 0 < math.hypot(*(other - centre)) < 3 * edge:
                    free &= np.hypot(columns - other[0], rows - other[1]) > _SUPPORT * radius
            far = free & (r > _SUPPORT * radius)
            near = free & (r < 0.6 * radius)
            if far.sum() < 5 or near.sum() < 5:
                continue
            values = pixels[rows, columns]
            depth = values[far].mean() - values[near].mean()
            if depth <= 0:
                continue
            darkness = (values[far].mean() - values[free]) / depth
            # linear sharing between neighbouring bins
            position = r[free] / width
            low = np.floor(position).astype(int)
            for index, share in ((low, 1 - (position - low)), (low + 1, position - low)):
                keep = index < bins
                np.add.at(total, index[keep], (share * darkness)[keep])
                np.add.at(square, index[keep], (share * darkness**2)[keep])
                np.add.at(weight, index[keep], share[keep])
    radii = width * np.arange(bins, dtype=np.float64)
    if not weight.any():
        darkness = np.clip(radius + 0.5 - radii, 0.0, 1.0)
        return BeadProfile(radius_px=radius_px, halo_px=_SUPPORT * radius_px, radii_px=radii * scale, darkness=darkness)
    filled = weight > 0
    mean = np.interp(radii, radii[filled], total[filled] / weight[filled])
    noise = np.sqrt(np.maximum(square / np.maximum(weight, 1e-9) - mean**2, 0.0) / np.maximum(weight, 1.0))
    mean = mean / max(mean[radii < 0.6 * radius].mean(), 1e-6)
    below = np.flatnonzero(mean < 0.5)
    at = int(below[0]) if len(below) else bins - 1
    half = radius
    if 0 < at < bins - 1:
        half = float(radii[at - 1] + width * (mean[at - 1] - 0.5) / max(mean[at - 1] - mean[at], 1e-6))
    seen = np.flatnonzero(np.abs(mean) > np.maximum(0.04, 3 * noise))
    halo = float(radii[seen[-1]] + width) if len(seen) else edge
    return BeadProfile(
        radius_px=half * scale, halo_px=max(halo, 1.2 * half) * scale, radii_px=radii * scale, darkness=mean
    )


def _window(shape: tuple[int, ...], centre: FloatArray, reach: float) -> tuple[FloatArray, FloatArray]:
    x, y = centre
    rows, columns = np.mgrid[
        max(0, math.floor(y - reach)) : min(shape[0], math.ceil(y + reach) + 1),
        max(0, math.floor(x - reach)) : min(shape[1], math.ceil(x + reach) + 1),
    ].reshape(2, -1)
    return rows, columns
