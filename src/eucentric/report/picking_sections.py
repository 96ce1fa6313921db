"""What a tilt series' page says of the particles picked in its tomogram."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from eucentric.figures.picking import beam_directions, picks_over_slabs, score_histograms, score_views, slices_picture
from eucentric.picking.candidates import Candidates
from eucentric.report.content import Picture, Section, Strip, Tile, picture
from eucentric.report.params import ReportParams
from eucentric.report.sections import Curves, kept_curves
from eucentric.typing import FloatArray

METHOD, WEIGHT = "method", "false_weight"
"""Of picks without templates: kept with their candidates."""
_TEMPLATES = "templates"
_LAYERS_BYTES, _SCORES_BYTES = 70_000, 20_000
_GROUPS = ("best", "worst kept", "best not kept")
_BORDER = (
    "The worst that were kept and the best that were not, in turn, the nearest to the cut-off first. Good: the former still show "
    "{what}, the latter do not; bad: both look alike, noise or particles: then change the cut-off."
)
_PLANES = "xy, xz and yz planes through each in the tomogram's frame; the missing wedge smears all along z. Good: a body of the "


@dataclass(frozen=True, slots=True, kw_only=True)
class _Manner:
    """Words for one way of picking."""

    reading: str
    unit: str
    digits: int
    quantity: str
    decoys: str | None
    """What stands for chance; None where nothing does."""
    scores: str
    best: str
    border: str

    def number(self, value: float) -> str:
        return "" if np.isnan(value) else f"{value:.{self.digits}f}{self.unit}"


_MANNERS: Mapping[str, _Manner] = {
    _TEMPLATES: _Manner(
        reading="Good: picks stand far to the right of all decoys, circles sit on particles in the layers, and each picked slice "
        "shows what its template shows; bad: picks and decoys overlap, circles line up along membranes, gold or edges, or the "
        "worst picks look like noise.",
        unit=" σ",
        digits=1,
        quantity="score (σ of the background)",
        decoys="decoys",
        scores="Decoys are molecules that are not there, fitted to the same places. Scores tell particles from noise; molecules of "
        "other kinds score high with templates and decoys alike.",
        best="Beside the template, protein dark: xy, xz and yz planes through each in the template's own frame; the missing wedge "
        "smears each along another direction. Good: the template's features; bad: only its outline, or none.",
        border=_BORDER.format(what="the template"),
    ),
    "blobs": _Manner(
        reading="Round things of a size, whatever they are. Good: picks stand to the right of the blobs of the other contrast, and "
        "circles sit on particles in the layers; bad: both overlap, or circles line up along membranes, gold or edges.",
        unit=" σ",
        digits=1,
        quantity="score (σ of the response)",
        decoys="blobs of the other contrast",
        scores="Blobs of the other contrast stand for chance, in the same volume; q-values are told from them. Of what was not "
        "picked only the best are shown. Good: two hills apart; bad: one hill, cut somewhere on its slope.",
        best=_PLANES + "size asked for; bad: noise, pieces of membranes, or gold.",
        border=_BORDER.format(what="particles"),
    ),
    "network": _Manner(
        reading="What a network took for particles. Good: probabilities lie near 0 and 1, and circles sit on particles in the "
        "layers; bad: most probabilities are about the cut-off, or circles sit on nothing.",
        unit="",
        digits=2,
        quantity="probability of being true",
        decoys=None,
        scores="Probabilities as calibrated on what training held out: true of tomograms like those. Good: two hills, at 0 and at 1; "
        "bad: one in the middle, for the network does not know: then train on some of these.",
        best=_PLANES + "kind that was labelled; bad: noise, pieces of membranes, gold, or another kind.",
        border=_BORDER.format(what="particles"),
    ),
}
_NOTHING = "nothing was picked"


def picking_section(title: str, kept: Curves, pictures: Curves, params: ReportParams) -> Section | None:
    """Picks of one search; None where its candidates were not kept, or of a way of picking that is not known.

    Parameters
    ----------
    kept, pictures : arrays that the stage kept, by name; pictures that are absent are left out
    """
    candidates = Candidates.from_arrays(kept)
    manner = _MANNERS.get(str(kept.get(METHOD, _TEMPLATES)))
    if candidates is None or manner is None:
        return None
    chance = () if manner.decoys is None else (manner.decoys,)
    rows = tuple(
        (
            count.kind,
            str(count.picks),
            str(count.candidates),
            *(str(count.decoys) for _ in chance),
            *(manner.number(value) for value in (count.cutoff, count.lowest_score, count.median_score)),
        )
        for count in candidates.counts()
    )
    weight = float(kept.get(WEIGHT, 1.0))
    return Section(
        title=title,
        reading=manner.reading,
        columns=("kind", "picks", "candidates", *chance, "least score", "lowest pick", "median pick"),
        rows=rows,
        strips=tuple(_strips(candidates, pictures, manner)),
        pictures=tuple(_pictures(candidates, pictures, params, manner, weight)),
    )


def _pictures(
    candidates: Candidates, pictures: Curves, params: ReportParams, manner: _Manner, weight: float
) -> list[Picture]:
    dpi, out = params.dots_per_inch, []
    chosen = candidates.kept
    positions = candidates.position_angstrom[chosen].astype(np.float64)
    kinds = candidates.template[chosen].astype(np.int64)
    names = [str(name) for name in candidates.kinds]
    if shown := kept_curves(pictures, "slabs", "slab_edges_angstrom", "slab_pixel_angstrom"):
        slabs, edges, pixel = shown
        figure = picks_over_slabs(slabs, edges, float(pixel), positions, kinds, names, candidates.diameter_angstrom)
        words = (
            "Means of layers, circles of the particles' size. Good: a dark body in most circles; bad: circles on gold, membranes "
            "or the carbon's edge, or many bodies without one."
        )
        out.append(picture("Picks in the tomogram", figure, dpi, words, most_bytes=_LAYERS_BYTES))
    out += _histograms(candidates, dpi, manner, weight)
    for number, name in enumerate(names):
        views = kept_curves(
            pictures, *(f"score_{what}_{number}" for what in ("top", "side", "ends")), "score_voxel_angstrom"
        )
        if views:
            top, side, ends, voxel = views
            mine = positions[kinds == number]
            figure = score_views(
                top,
                side,
                ends,
                float(np.broadcast_to(voxel, len(names))[number]),
                mine,
                float(candidates.diameter_angstrom[number]),
            )
            words = (
                "Greatest score of the search at coarse sampling along z and along y; circles are picks, black was not searched. "
                "Good: bright points on an even ground; bad: bright lines or patches, or points without a circle."
            )
            out.append(picture(f"Scores of {name}", figure, dpi, words, most_bytes=_SCORES_BYTES))
    directions = {
        name: candidates.beam_directions(number)
        for number, name in enumerate(names)
        if candidates.oriented[number] and (kinds == number).any()
    }
    if directions:
        words = (
            "From where the beam meets each pick, in the frame of its own axes, symmetry copies included; equal areas hold equal "
            "shares, the rings are 30 and 60° from the axis. Good: points spread evenly; bad: most in one spot or band "
            "(particles lie at the ice surface, or views are missed)."
        )
        out.append(picture("Views of the particles", beam_directions(directions), dpi, words))
    return out


def _histograms(candidates: Candidates, dpi: int, manner: _Manner, weight: float) -> list[Picture]:
    """Of the scores; and of the margins over decoys, which decide, where there are decoys."""
    out = []
    if np.isfinite(candidates.q_value).any() and np.isfinite(candidates.margin).all():
        none = np.full(len(candidates.kinds), np.nan)
        sets = _by_kind(candidates, candidates.margin, candidates.decoy_margin)
        figure = score_histograms(*sets[:4], none, sets[4], "margin over the best rival (σ)")
        words = (
            "By how much the better of template and decoy fits each place better. Strangers and noise prefer neither, so that where "
            "decoys win as often, picks are false. Good: two separate hills; bad: one hill, cut somewhere on its slope."
        )
        out.append(picture("Margins of picks and decoys", figure, dpi, words))
    names, picks, rejected, decoys, lowest = _by_kind(candidates, candidates.score, candidates.decoy_score)
    figure = score_histograms(
        names,
        picks,
        rejected,
        decoys,
        candidates.cutoff,
        lowest,
        manner.quantity,
        decoy_words=manner.decoys or "",
        decoy_weight=weight,
        unit=manner.unit,
    )
    title = "Scores of picks" if manner.decoys is None else f"Scores of picks and {manner.decoys}"
    out.append(picture(title, figure, dpi, manner.scores))
    return out


_Values = list[FloatArray]


def _by_kind(
    candidates: Candidates, values: NDArray[np.float32], decoy_values: NDArray[np.float32]
) -> tuple[list[str], _Values, _Values, _Values, FloatArray]:
    """Names of the kinds; values of picks, of other candidates and of decoys of each; the lowest of each kind's picks."""
    picks, rejected, decoys = [], [], []
    for number in range(len(candidates.kinds)):
        mine = candidates.template == number
        picks.append(values[mine & candidates.kept].astype(np.float64))
        rejected.append(values[mine & ~candidates.kept].astype(np.float64))
        decoys.append(decoy_values[candidates.decoy_template == number].astype(np.float64))
    lowest = np.array([mine.min() if len(mine) else np.nan for mine in picks])
    return [str(n) for n in candidates.kinds], picks, rejected, decoys, lowest


def _strips(candidates: Candidates, pictures: Curves, manner: _Manner) -> list[Strip]:
    """For each kind its best picks, then those about the cut-off."""
    out = []
    for number, count in enumerate(candidates.counts()):
        shown = kept_curves(pictures, *(f"gallery_{what}_{number}" for what in ("row", "group", "slices")))
        if not shown:
            continue
        rows, groups, slices = shown
        template = kept_curves(pictures, f"template_slices_{number}") or []
        first = [_tile(t, f"Template {count.kind}", (f"template {count.kind}",)) for t in template]
        tiles = [
            _pick_tile(candidates, int(row), int(group), planes, manner)
            for row, group, planes in zip(rows, groups, slices, strict=True)
        ]
        best = tuple(tile for tile, group in zip(tiles, groups, strict=True) if group == 0)
        worst = [tile for tile, group in zip(tiles, groups, strict=True) if group == 1][::-1]
        missed = [tile for tile, group in zip(tiles, groups, strict=True) if group == 2]
        border = tuple(tile for pair in zip_longest(worst, missed) for tile in pair if tile is not None)
        title = f"Best picks of {count.kind}" if best else f"{count.kind}: {_NOTHING}"
        out.append(Strip(title=title, tiles=(*first, *best), caption=manner.best))
        if border:
            title = f"About the cut-off of {count.kind}"
            out.append(Strip(title=title, tiles=(*first, *border), caption=manner.border))
    return out


def _pick_tile(candidates: Candidates, row: int, group: int, planes: NDArray[np.uint8], manner: _Manner) -> Tile:
    x, y, z = candidates.position_angstrom[row]
    score, q_value = manner.number(float(candidates.score[row])), candidates.q_value[row]
    lines = (
        _GROUPS[group],
        score + ("" if np.isnan(q_value) else f", q {q_value:.2g}"),
        f"at {x:.0f}, {y:.0f}, {z:.0f} Å",
    )
    kind = candidates.kinds[candidates.template[row]]
    words = f"{_GROUPS[group]} of {kind}, {score}"
    return _tile(planes, words, lines, "" if candidates.kept[row] else "not kept")


def _tile(planes: NDArray[np.uint8], words: str, lines: tuple[str, ...], mark: str = "") -> Tile:
    shown = Picture(title=words, data=slices_picture(planes), media="image/webp")
    return Tile(picture=shown, lines=lines, mark=mark)
