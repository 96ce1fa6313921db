"""Defective pixels, columns and rows, found in the sum of a movie's frames, and what stands in for them."""

import math
from dataclasses import dataclass, field
from itertools import pairwise

import torch
import torch.nn.functional as functional
from jaxtyping import Bool, Int
from torch import Tensor

from eucentric.compute.threads import threads_for
from eucentric.errors import InputError, ShapeError
from eucentric.motion.detector import Detector

_WINDOW = 7
_BAND_PIXELS = 1 << 18
"""Pixels worked on at once: what fits in a core's cache, and small enough that one thread does it best."""
_SEGMENT = 256
"""Length in pixels of the pieces of columns and rows that are judged: a partly bad column is found, at 1 count a pixel already."""
_NEIGHBOUR_LINES = 17
_LINE_CHANGE = 0.1
"""A line that is off by less than this carries noise hardly worse than its neighbours', so it stays."""
_BAD_SHARE = 0.25
_NEAREST = [16, 17, 18, 23, 24, 29, 30, 31]
"""The eight next neighbours among the 48 of the window."""
_MOST_KIN = 3
_SOURCES = 4
_CHANCE = 1e-3
"""How often a movie without any X-ray may be said to hold one."""
_AT_ONCE = 1 << 18
_SATURATED_SHARE = 0.01
_EMPTY_SHARE = 0.1
_SMALLEST = 16
_MOST_DEFECTIVE = 0.8


class FrameTotals:
    """What one look at all frames leaves: their sum, the largest count of each pixel, and the mean of each frame.

    Frames are added in blocks of any length, in order, as recorded (no gain, no dark reference).
    """

    def __init__(self, saturation: float | None = None) -> None:
        """`saturation`: the largest value that the file's type can hold, where a full pixel is suspicious (255 for 8 bits)."""
        self.saturation = saturation
        self.frame_means: list[float] = []
        self.frame_saturated: list[float] = []
        """Share of the pixels of each frame at `saturation`."""
        self._total: Tensor | None = None
        self._peak: Tensor | None = None

    def add(self, block: Tensor) -> None:
        """Add frames (frame, y, x), of any type of number.

        Raises
        ------
        ShapeError : not a stack of images, or of another size than those before
        InputError : values that are not numbers; the message names the frame
        """
        if block.ndim != 3 or (self._total is not None and block.shape[-2:] != self._total.shape):
            before = (
                "" if self._total is None else f"; those before were {self._total.shape[1]} x {self._total.shape[0]}"
            )
            raise ShapeError(f"Frames of shape {tuple(block.shape)} were given{before}; expected (frame, y, x).")
        count, height, width = block.shape
        if self._total is None:
            self._total = torch.zeros(height, width, device=block.device)
            self._peak = torch.full((height, width), -math.inf, device=block.device)
            if block.dtype == torch.uint8:  # much the fastest, where no larger one is needed
                self._peak = torch.zeros(height, width, dtype=block.dtype, device=block.device)
        total, peak = self._total, self.peak
        means = torch.zeros(count, dtype=torch.float64, device=block.device)
        full = torch.zeros(count, dtype=torch.float64, device=block.device)
        step = max(1, _BAND_PIXELS // width)
        with threads_for(_BAND_PIXELS):
            for first in range(0, height, step):
                band = slice(first, min(height, first + step))
                for i in range(count):
                    piece = block[i, band]
                    values = piece.to(torch.float32)
                    means[i] += values.sum(dtype=torch.float32)
                    total[band] += values
                    torch.maximum(
                        peak[band], piece if peak.dtype == piece.dtype else values.to(peak.dtype), out=peak[band]
                    )
                if self.saturation is not None and float(peak[band].max()) >= self.saturation:
                    full += (block[:, band] >= self.saturation).sum((1, 2), dtype=torch.float64)
        bad = (~torch.isfinite(means)).nonzero().flatten().tolist()
        if bad:
            raise InputError(
                f"Frame {len(self.frame_means) + bad[0] + 1} holds values that are not numbers (NaN or infinity). "
                "Copy the movie again."
            )
        self.frame_means += (means / (height * width)).tolist()
        self.frame_saturated += (full / (height * width)).tolist()

    @property
    def frame_count(self) -> int:
        return len(self.frame_means)

    @property
    def total(self) -> Tensor:
        """(y, x) float32: the sum of all frames so far."""
        if self._total is None:
            raise InputError("The movie holds no frames. Copy it again, or leave it out.")
        return self._total

    @property
    def peak(self) -> Tensor:
        """(y, x): the largest count of each pixel in any frame."""
        if self._peak is None:
            raise InputError("The movie holds no frames. Copy it again, or leave it out.")
        return self._peak

    def unusable_frames(self) -> dict[int, str]:
        """Frames, counted from 0, that say nothing of the specimen, each with the reason."""
        if not self.frame_means:
            return {}
        usual = float(torch.tensor(self.frame_means, dtype=torch.float64).median())
        reasons: dict[int, str] = {}
        for i, (mean, full) in enumerate(zip(self.frame_means, self.frame_saturated, strict=True)):
            if mean == 0:
                reasons[i] = "it holds no counts"
            elif 0 < mean < _EMPTY_SHARE * usual:
                reasons[i] = f"it holds {mean:.3g} counts a pixel, the others {usual:.3g}: the beam was off"
            elif full > _SATURATED_SHARE:
                reasons[i] = (
                    f"it is saturated: {full:.0%} of its pixels hold {self.saturation:g}, the most the file can"
                )
        return reasons


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Defects:
    """Which pixels of a movie are replaced, and by which."""

    mask: Bool[Tensor, "y x"]
    """Pixels replaced in every frame."""
    counts: dict[str, int] = field(default_factory=dict)
    """How many pixels were `known` before, found `hot`, `dead`, in bad `columns` and `rows`, and how many `events`."""
    places: Int[Tensor, " pixel"]
    """Flat indices of the pixels of `mask`."""
    sources: Int[Tensor, "pixel source"]
    """Flat indices of good neighbours for each of them: every frame takes one at random."""
    event_places: Int[Tensor, " event"]
    """Flat indices of pixels struck in single frames."""
    event_limits: Tensor
    """(event,): counts from which a frame's pixel there is replaced."""
    event_sources: Int[Tensor, "event source"]
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Scene:
    """The sum with its calibration."""

    raw: Tensor  # counts, the dark reference taken away
    gain: Tensor | None
    dead: Tensor
    any_dead: bool
    level: float
    ceiling: float
    frames: int


def find_defects(totals: FrameTotals, detector: Detector, *, sigma: float, generator: torch.Generator) -> Defects:
    r"""Defective pixels of a movie, from the sum of its frames.

    *Pixels.* With the corrected mean m of the 7 x 7 neighbours and the gain g, a pixel of N counts deviates by
    :math:`d = 2\sqrt{N + 3/8} - 2\sqrt{m / g + 3/8}`, in standard deviations of Poisson counts [1]_. Defective is what
    lies beyond `sigma` times the spread that d has over the image (never less than the ratio of variance to mean in small
    patches allows), and at least half as far from the median of the same neighbours, on the same side, with no more than
    three of its eight next neighbours alike. So the rim of a bead or of a shadow is no defect.

    *Single frames.* Where a hot pixel is an ordinary one without its largest count, that frame was struck by an X-ray or
    a cosmic ray. It alone is replaced, as are counts too large for chance (1 in 1,000 movies) in any frame.

    *Columns and rows.* Pieces of 256 pixels whose mean stands out by 10% and by `sigma` from the median of the 17 lines
    around, or of which a quarter is defective. Where most of a line's pieces are bad, the line is.

    Parameters
    ----------
    totals : all frames of the movie
    detector : gain, dark reference and known defects
    sigma : standard deviations from which a pixel is defective, above 3
    generator : draws the neighbours

    Raises
    ------
    ShapeError : the references have another size than the frames
    InputError : no counts, a sum that is negative, or hardly a good pixel

    References
    ----------
    .. [1] Anscombe, Biometrika 35:246 (1948), doi:10.1093/biomet/35.3-4.246
    """
    total = totals.total
    if min(total.shape) < _SMALLEST:
        raise ShapeError(
            f"The frames are {total.shape[1]} x {total.shape[0]} pixels; expected at least {_SMALLEST} along each side."
        )
    if tuple(total.shape) != tuple(detector.shape):
        raise ShapeError(
            f"The frames are {total.shape[1]} x {total.shape[0]} pixels and the camera was described with "
            f"{detector.shape[1]} x {detector.shape[0]}. Give the references of this camera."
        )
    with threads_for(_BAND_PIXELS):
        scene = _calibrate(totals, detector)
        spread = _measure_spread(scene)
        row_edges, column_edges = _pieces(total.shape[0]), _pieces(total.shape[1])
        candidates, columns_sum, rows_sum = _screen(scene, sigma * spread)
        hot, dead, struck = _confirm(scene, candidates, totals.peak, detector.dark, sigma, spread)
        mask = scene.dead.clone()
        known = int(mask.sum()) if scene.any_dead else 0
        mask.view(-1)[hot], mask.view(-1)[dead] = True, True
        where = mask.view(-1).nonzero().flatten()
        singles = len(where)
        width = mask.shape[1]
        before = scene.dead.view(-1)[where]
        held = _clipped(scene, where).masked_fill(before, 0.0)
        by_column = _bad_lines(columns_sum, _Lines(row_edges, where // width, where % width, before, held), sigma)
        by_row = _bad_lines(rows_sum, _Lines(column_edges, where % width, where // width, before, held), sigma)
        for first, last, lines in by_column:
            mask[first:last, lines] = True
        with_columns = int(mask.sum()) if by_column else singles
        for first, last, lines in by_row:
            mask[lines, first:last] = True
        if by_column or by_row:
            where = mask.view(-1).nonzero().flatten()
        share = len(where) / mask.numel()
        if share > _MOST_DEFECTIVE:
            raise InputError(
                f"{share:.0%} of the pixels are defective; expected a few. Check the gain and the map of defects."
            )
        places, limits = _events(scene, totals.peak, detector.dark, mask, struck, spread)
        return Defects(
            mask=mask,
            counts={
                "known": known, "hot": len(hot), "dead": singles - known - len(hot), "columns": with_columns - singles,
                "rows": len(where) - with_columns, "events": len(places),
            },
            places=where,
            sources=_draw_sources(mask, where, generator),
            event_places=places,
            event_limits=limits,
            event_sources=_draw_sources(mask, places, generator),
            seed=int(torch.randint(0, 2**31, (1,), generator=generator, device=generator.device)),
        )  # fmt: skip


def _calibrate(totals: FrameTotals, detector: Detector) -> _Scene:
    raw = totals.total
    if detector.dark is not None:
        raw = raw - totals.frame_count * detector.dark.to(raw.device)
    dead = detector.dead(raw.device)
    gain = None if detector.gain is None else detector.gain.to(raw.device)
    picks = _sample(raw.numel(), raw.device)
    picks = picks[~dead.view(-1)[picks]]
    values = raw.reshape(-1)[picks] if gain is None else raw.reshape(-1)[picks] * gain.view(-1)[picks]
    if not len(values) or float(values.mean()) <= 0:
        raise InputError(
            "The sum of the frames is not positive: the movie holds no counts, or its mean was taken away. Give the movie as recorded."
        )
    level = float(values.clamp(min=0).mean())
    high = max(float(values.kthvalue(max(1, round(0.95 * len(values)))).values), level)
    return _Scene(
        raw=raw, gain=gain, dead=dead, any_dead=bool(dead.any()), level=level, frames=totals.frame_count,
        # neighbours are clipped, so that one hot pixel does not raise the level of its surroundings
        ceiling=3.0 * high + 10.0 * math.sqrt(high),
    )  # fmt: skip


def _sample(count: int, device: torch.device) -> Tensor:
    """Flat indices spread over an image, in steps that are odd so that they do not stay in a column."""
    return torch.arange(0, count, max(1, count // 2**18) | 1, device=device)


def _band(scene: _Scene, first: int, last: int) -> tuple[Tensor, Tensor, Tensor]:
    """Corrected and clipped counts of rows `first` to `last`, the mean of their neighbours, and what the raw count should be."""
    half = _WINDOW // 2
    height = scene.raw.shape[0]
    low, high = max(0, first - half), min(height, last + half)
    corrected = scene.raw[low:high] if scene.gain is None else scene.raw[low:high] * scene.gain[low:high]
    corrected = corrected.clamp(min=0.0, max=scene.ceiling)
    if scene.any_dead:
        dead = scene.dead[low:high]
        good = (~dead).to(corrected.dtype)
        corrected = corrected * good
        count = _box(_reflected(good, first, last, low, high)) - good[first - low : last - low]
    wide = _reflected(corrected, first, last, low, high)
    own = corrected[first - low : last - low]
    around = _box(wide).sub_(own)
    around = (
        torch.where(count > 0.5, around / count.clamp(min=1.0), scene.level) if scene.any_dead else around.div_(48.0)
    )
    expected = around
    if scene.gain is not None:
        gain = scene.gain[first:last]
        expected = torch.where(gain > 0, around / gain.clamp(min=1e-6), around)
    return own, around, expected


def _reflected(image: Tensor, first: int, last: int, low: int, high: int) -> Tensor:
    """Rows `low` to `high` with a mirrored border, so that a window fits around every pixel of rows `first` to `last`."""
    half = _WINDOW // 2
    pad = [half, half, half - (first - low), half - (high - last)]
    return functional.pad(image[None, None], pad, mode="reflect")[0, 0]


def _box(image: Tensor) -> Tensor:
    """Sums of 7 x 7, the border left off: 1 + 2 + 4 by doubling."""
    two = image[:-1] + image[1:]
    four = two[:-2] + two[2:]
    down = four[:-3] + two[4:-1]
    down += image[6:]
    two = down[:, :-1] + down[:, 1:]
    four = two[:, :-2] + two[:, 2:]
    out = four[:, :-3] + two[:, 4:-1]
    out += down[:, 6:]
    return out


def _deviation(raw: Tensor, expected: Tensor) -> Tensor:
    return torch.sqrt(raw.clamp(min=0.0) + 0.375).sub_(torch.sqrt(expected + 0.375)).mul_(2.0)


def _measure_spread(scene: _Scene) -> float:
    """Standard deviation of the deviations of good pixels, from rows spread over the image."""
    height, width = scene.raw.shape
    thick = min(height, 16)
    many = min(max(1, height // thick), max(4, 2**19 // (thick * width)))
    found, ratios = [], []
    for i in range(many):
        first = round(i * (height - thick) / max(1, many - 1)) if many > 1 else (height - thick) // 2
        _, _, expected = _band(scene, first, first + thick)
        raw = scene.raw[first : first + thick]
        found.append(_deviation(raw, expected)[~scene.dead[first : first + thick]])
        patches = (
            (raw[:, : width // 16 * 16].reshape(thick, -1, 16) if width >= 16 else raw[:, None])
            .transpose(0, 1)
            .flatten(1)
        )
        mean = patches.mean(1)
        ratios.append((patches.var(1) / mean.clamp(min=1e-12))[mean > 0])
    deviations = torch.cat(found)
    ranked = (deviations - deviations.median()).abs().sort().values
    # two robust estimates: the median alone collapses where half of an image is blocked and counts nothing; and where counts are
    # rare, most deviations are the same and only the ratio of variance to mean tells their scale
    spread = max(1.4826 * float(ranked[len(ranked) // 2]), float(ranked[int(0.95 * (len(ranked) - 1))]) / 1.96)
    ratio = torch.cat(ratios)
    return max(spread, math.sqrt(float(ratio.median())) if len(ratio) else 0.0, 1e-6)


def _pieces(length: int) -> list[int]:
    """Where the pieces of a line begin, and its end."""
    count = max(1, round(length / _SEGMENT))
    return [round(i * length / count) for i in range(count + 1)]


def _screen(scene: _Scene, limit: float) -> tuple[Tensor, Tensor, Tensor]:
    """One pass over the sum: pixels beyond the limit, and the sums (piece, line) of columns and of rows."""
    height, width = scene.raw.shape
    row_edges, column_edges = _pieces(height), _pieces(width)
    candidates = []
    down = torch.zeros(len(row_edges) - 1, width, device=scene.raw.device)
    across = torch.zeros(height, len(column_edges) - 1, device=scene.raw.device)
    step = max(1, _BAND_PIXELS // width)
    for piece, (begin, end) in enumerate(pairwise(row_edges)):
        for first in range(begin, end, step):
            last = min(end, first + step)
            own, _, expected = _band(scene, first, last)
            beyond = _deviation(scene.raw[first:last], expected).abs_() > limit
            found = beyond.view(-1).nonzero().flatten()
            candidates.append(found + first * width)
            down[piece] += own.sum(0)
            for i, (left, right) in enumerate(pairwise(column_edges)):
                across[first:last, i] = own[:, left:right].sum(1)
    found = torch.cat(candidates)
    return found[~scene.dead.view(-1)[found]], down, across.T


def _neighbours(shape: tuple[int, int], places: Tensor) -> Tensor:
    """Flat indices (pixel, 48) of the 7 x 7 around each place, mirrored at the borders."""
    height, width = shape
    steps = torch.arange(-(_WINDOW // 2), _WINDOW // 2 + 1, device=places.device)
    y = (places // width)[:, None] + steps
    x = (places % width)[:, None] + steps
    y = (height - 1 - (height - 1 - y.abs()).abs()).clamp(0, height - 1)
    x = (width - 1 - (width - 1 - x.abs()).abs()).clamp(0, width - 1)
    index = (y[:, :, None] * width + x[:, None, :]).flatten(1)
    middle = _WINDOW**2 // 2
    return torch.cat([index[:, :middle], index[:, middle + 1 :]], 1)


def _clipped(scene: _Scene, places: Tensor) -> Tensor:
    """Corrected counts at flat indices, as they went into the sums of lines."""
    values = scene.raw.reshape(-1)[places]
    return (values if scene.gain is None else values * scene.gain.view(-1)[places]).clamp(0.0, scene.ceiling)


def _around(scene: _Scene, places: Tensor) -> Tensor:
    """Corrected counts of the neighbours of each place, NaN where dead."""
    index = _neighbours((scene.raw.shape[0], scene.raw.shape[1]), places)
    return torch.where(scene.dead.view(-1)[index], torch.nan, _clipped(scene, index))


def _confirm(
    scene: _Scene, candidates: Tensor, peak: Tensor, dark: Tensor | None, sigma: float, spread: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Of the pixels beyond the limit: hot ones, dead ones, and those that a single frame made hot."""
    hot, dead, struck = [], [], []
    chance = 0.5 * math.erfc(sigma / math.sqrt(2.0))
    for part in torch.split(candidates, _AT_ONCE):
        raw = scene.raw.reshape(-1)[part]
        gain = torch.ones_like(raw) if scene.gain is None else scene.gain.view(-1)[part]
        values = _around(scene, part)
        middle = torch.nan_to_num(values.nanmedian(1).values, nan=scene.level) / gain
        mean = torch.nan_to_num(values.nanmean(1), nan=scene.level) / gain
        above = raw > mean
        apart = _deviation(raw, middle)
        # the square root is no normal number far out: there the tails of Poisson's distribution itself decide
        count, expected = raw.clamp(min=0.0).double() / spread**2, mean.double().clamp(min=1e-9) / spread**2
        tail = torch.where(
            above,
            torch.special.gammainc(count.clamp(min=1e-9), expected),
            torch.special.gammaincc(count + 1.0, expected),
        )
        # the corner of a bead or of a shadow has its kin around it; what is brighter than all else in the image needs no such check
        own, middle = raw * gain, middle * gain
        kin = ((values[:, _NEAREST] - own[:, None]).abs() < (values[:, _NEAREST] - middle[:, None]).abs()).sum(1)
        alone = (kin <= _MOST_KIN) | (own > scene.ceiling)
        real = (torch.where(above, apart, -apart) > 0.5 * sigma * spread) & (tail < chance) & alone
        most = peak.view(-1)[part].to(raw.dtype) - (0.0 if dark is None else dark.to(raw.device).view(-1)[part])
        rest = (scene.frames - 1) / scene.frames
        ordinary = _deviation(raw - most, rest * mean).abs() < 0.5 * sigma * spread
        # of two frames either may be the odd one
        once = above & ordinary & (scene.frames > 2)
        hot.append(part[real & above & ~once])
        dead.append(part[real & ~above])
        struck.append(part[once & (tail < chance)])
    return torch.cat(hot), torch.cat(dead), torch.cat(struck)


@dataclass(frozen=True, slots=True, eq=False)
class _Lines:
    """Columns or rows, cut in pieces, and where they are defective."""

    edges: list[int]
    along: Tensor  # of each defective pixel: its place along its line
    line: Tensor
    known: Tensor  # whether it was known before
    held: Tensor  # what it has added to the sums


def _bad_lines(sums: Tensor, lines: _Lines, sigma: float) -> list[tuple[int, int, Tensor]]:
    """Pieces of lines that stand out from the lines beside them: first and last place along them, and which lines.

    `sums` (piece, line) adds up the pixels that are not known to be dead.
    """
    pieces = list(pairwise(lines.edges))
    lengths = torch.tensor([b - a for a, b in pieces], device=sums.device)[:, None]
    if sums.shape[1] < _NEIGHBOUR_LINES:
        return []
    inner = torch.tensor(lines.edges[1:-1], device=sums.device)
    index = torch.bucketize(lines.along, inner, right=True) * sums.shape[1] + lines.line
    broken = torch.bincount(index, minlength=sums.numel()).view(sums.shape)
    known = torch.bincount(index[lines.known], minlength=sums.numel()).view(sums.shape)
    # a line is judged without its single bad pixels
    sums = sums.reshape(-1).index_add(0, index, -lines.held).view(sums.shape)
    seeing = lengths - broken
    odd = _stands_out(sums / seeing.clamp(min=1), seeing, sigma)
    odd |= (broken > _BAD_SHARE * lengths) & (broken > known)
    whole = _stands_out((sums.sum(0) / seeing.sum(0).clamp(min=1))[None], seeing.sum(0)[None], sigma)[0]
    # where no piece stands out by itself the whole line may; where some do, it ends with them unless they are most
    odd |= (whole & ~odd.any(0)) | (2 * odd.sum(0) > len(pieces))
    return [(a, b, found.nonzero().flatten()) for (a, b), found in zip(pieces, odd, strict=True) if bool(found.any())]


def _stands_out(means: Tensor, seeing: Tensor, sigma: float) -> Tensor:
    """Whether each mean (piece, line) differs from the median of the lines around, its own among them, so that an edge is none."""
    half = _NEIGHBOUR_LINES // 2
    around = functional.pad(means[:, None], [half, half], mode="reflect")[:, 0].unfold(1, _NEIGHBOUR_LINES, 1)
    usual = around.median(-1).values
    change = means / usual.clamp(min=1e-12) - 1.0
    poisson = (usual.clamp(min=1e-12) * seeing.clamp(min=1)).rsqrt()
    seen = seeing > 0
    robust = 1.4826 * change.abs().median(1, keepdim=True).values
    limit = sigma * torch.maximum(poisson, robust.expand_as(poisson))
    return seen & (usual > 0) & (change.abs() > limit.clamp(min=_LINE_CHANGE))


def _events(
    scene: _Scene, peak: Tensor, dark: Tensor | None, mask: Tensor, struck: Tensor, spread: float
) -> tuple[Tensor, Tensor]:
    """Pixels struck in single frames, and the count from which a frame is replaced there."""
    nowhere = torch.zeros(0, dtype=torch.int64, device=mask.device)
    if scene.frames < 3:
        return nowhere, torch.zeros(0, device=mask.device)
    ratio = max(1.0, spread**2)  # counts of a camera that does not count are spread wider than Poisson's
    chance = _CHANCE / (mask.numel() * scene.frames)
    brightest = scene.ceiling / 3.0 / scene.frames
    if scene.gain is not None:
        usable = scene.gain.view(-1)[_sample(scene.gain.numel(), mask.device)]
        brightest /= float(usable[usable > 0].median())
    floor = _rare_count(torch.tensor([brightest / ratio], dtype=torch.float64), chance)[0] * ratio
    places = torch.unique(torch.cat([(peak > math.floor(float(floor))).view(-1).nonzero().flatten(), struck]))
    places = places[~mask.view(-1)[places]]
    if not len(places):
        return nowhere, torch.zeros(0, device=mask.device)
    limits = []
    for part in torch.split(places, _AT_ONCE):
        gain = torch.ones(len(part), device=mask.device) if scene.gain is None else scene.gain.view(-1)[part]
        mean = torch.nan_to_num(_around(scene, part).nanmean(1), nan=scene.level) / gain / scene.frames
        limit = _rare_count(mean.double() / ratio, chance) * ratio
        if dark is not None:
            limit = limit + dark.to(mask.device).view(-1)[part]
        limit = limit.to(torch.float32)
        # what made the whole sum stand out is replaced in any case
        own = torch.isin(part, struck)
        limits.append(torch.where(own, torch.minimum(limit, peak.view(-1)[part].to(torch.float32)), limit))
    limit = torch.cat(limits)
    keep = peak.view(-1)[places].to(limit.dtype) >= limit
    return places[keep], limit[keep]


def _rare_count(mean: Tensor, chance: float) -> Tensor:
    """The least count that Poisson counts of each mean reach more rarely than `chance`: P(X >= k) = gammainc(k, mean)."""
    mean = mean.clamp(min=1e-9)
    low, high = torch.zeros_like(mean), torch.ceil(mean + 40.0 * torch.sqrt(mean) + 60.0)
    for _ in range(40):
        middle = torch.floor(0.5 * (low + high))
        rare = torch.special.gammainc(middle.clamp(min=1.0), mean) < chance
        low, high = torch.where(rare, low, middle), torch.where(rare, middle, high)
        if float((high - low).max()) <= 1:
            break
    return high


def _draw_sources(mask: Tensor, places: Tensor, generator: torch.Generator) -> Tensor:
    """Good pixels (pixel, source) at random around each place, further away only where none is near."""
    height, width = mask.shape
    out = places[:, None].repeat(1, _SOURCES)
    flat = mask.view(-1)
    todo = torch.arange(out.numel(), device=mask.device)
    reach = 2.0
    while len(todo):
        span = int(reach)
        origin = out.view(-1)[todo] if reach == 2.0 else places[todo // _SOURCES]
        steps = torch.randint(-span, span + 1, (len(todo), 2), generator=generator, device=generator.device).to(
            mask.device
        )
        y = (origin // width + steps[:, 0]).clamp(0, height - 1)
        x = (origin % width + steps[:, 1]).clamp(0, width - 1)
        found = y * width + x
        usable = ~flat[found] & (found != origin)
        out.view(-1)[todo[usable]] = found[usable]
        todo = todo[~usable]
        reach = min(1.3 * reach, float(max(height, width)))
    return out
