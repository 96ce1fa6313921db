"""What each format of tilt series keeps, measured on a phantom of known hand: the rows of docs/reference/formats.md."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from exchange_phantom import phantom_series, seen

from eucentric.evaluation.geometry_difference import GeometryDifference, compare_geometry
from eucentric.io.exchange.formats import GEOMETRY_FORMATS
from eucentric.io.exchange.records import Given, SeriesGeometry, Written

PIXEL, ANGLE_DEG, DEFOCUS = 0.1, 0.05, 1.0
NEARLY = "nearly"
"""Points are within a tenth of a pixel rms, and some of them are not."""
CTF_TABLES = {"ctffind", "gctf", "ctfplotter"}
"""They hold no alignment, without which the defocus of the image's middle cannot be brought to the specimen centre."""
ALIGNED = [name for name in GEOMETRY_FORMATS if name not in CTF_TABLES]
FEATURES: Mapping[str, dict[str, object]] = {
    "positions": {},
    "x-tilt": {"x_tilt": True},
    "magnification": {"magnification": True},
    "local deformation": {"warp": True},
    "defocus": {},
    "astigmatism": {},
    "phase shift": {"phase_shift": True},
    "hand +1": {"hand": 1.0},
    "dose": {},
    "order": {},
    "excluded tilts": {"excluded": True},
}


def carried(geometry: SeriesGeometry, form: str, folder: Path) -> tuple[SeriesGeometry, Written]:
    """A series written in a format and read again, with what every user knows: pixel and image size, voltage."""
    one, series = GEOMETRY_FORMATS[form], geometry.series
    written = one.write(folder, [geometry])
    given = Given(pixel_size_angstrom=series.pixel_size_angstrom, image_shape=series.image_shape, optics=series.optics)
    (back,) = one.read(folder, given)
    return back, written


def difference(first: SeriesGeometry, second: SeriesGeometry) -> GeometryDifference:
    return compare_geometry(first.series, second.series, first_warp=first.warp, second_warp=second.warp)


def mean_defocus_apart(first: SeriesGeometry, second: SeriesGeometry) -> float:
    pairs = zip(first.series.tilts, second.series.tilts, strict=True)
    return max(abs(a.ctf.defocus_angstrom - b.ctf.defocus_angstrom) for a, b in pairs)


def keeps(feature: str, form: str, folder: Path) -> tuple[bool | str, Written]:
    """Whether a format brings a feature back, "nearly" where points are so on average alone, and what its writer said."""
    ours = phantom_series(**FEATURES[feature])
    back, written = carried(ours, form, folder)
    apart = difference(ours, back)
    both_ctf = all(t.ctf is not None for t in back.series.tilts)
    by_angle = sorted(back.series.tilts, key=lambda t: t.nominal_tilt_deg)
    match feature:
        case "positions" | "x-tilt" | "magnification":
            return bool(apart.position_px < PIXEL and apart.angle_deg < ANGLE_DEG), written
        case "local deformation":
            here, there = seen(ours), seen(back)
            inside = np.all((here[..., :2] > 0) & (here[..., :2] < np.array([95, 79])), axis=-1)
            away = np.abs(here - there)[..., :2][inside]
            mean = float(np.sqrt((away**2).sum(axis=-1).mean()))
            return bool(away.max() < PIXEL) or (NEARLY if mean < PIXEL else False), written
        case "defocus":
            return both_ctf and mean_defocus_apart(ours, back) < DEFOCUS, written
        case "astigmatism":
            return both_ctf and apart.defocus_angstrom < DEFOCUS, written
        case "phase shift":
            return both_ctf and all(abs(t.ctf.phase_shift_deg - 72.0) < 0.05 for t in back.series.tilts), written
        case "hand +1":
            return apart.hand_kept, written
        case "dose":
            pairs = zip(ours.series.tilts, by_angle, strict=True)
            return all(
                abs(a.pre_exposure - b.pre_exposure) < 0.01 and abs(a.dose - b.dose) < 0.01 for a, b in pairs
            ), written
        case "order":
            return [t.acquisition for t in by_angle] == [t.acquisition for t in ours.series.tilts], written
        case _:
            kept = len(back.series.tilts) == len(ours.series.tilts)
            return kept and len(back.series.excluded) == len(ours.series.excluded), written


def pair_difference(first: str, second: str, folder: Path) -> tuple[SeriesGeometry, SeriesGeometry, GeometryDifference]:
    """The phantom through one format, then through another; against what it was at first."""
    ours = phantom_series()
    once, _ = carried(ours, first, folder / "a")
    named = replace(once, series=once.series.replace(name=ours.series.name))
    twice, _ = carried(named, second, folder / "b")
    return ours, twice, difference(ours, twice)


def feature_table(folder: Path) -> tuple[list[str], list[str]]:
    """Rows of Markdown, and the losses that a writer did not tell."""
    rows = ["| | " + " | ".join(FEATURES) + " |", "|---|" + "---|" * len(FEATURES)]
    untold = []
    for form in ALIGNED:
        marks = []
        for feature in FEATURES:
            kept, written = keeps(feature, form, folder / f"{form}_{feature.replace(' ', '_')}")
            marks.append(kept if isinstance(kept, str) else "yes" if kept else "-")
            if kept is not True and not written.losses:
                untold.append(f"{form}: {feature}")
        rows.append(f"| `{form}` | " + " | ".join(marks) + " |")
    return rows, untold


def pair_table(folder: Path) -> list[str]:
    """Rows of Markdown: what is no longer as it was: p positions, a angles, d mean defocus, h hand."""
    names = ALIGNED
    rows = ["| from \\ to | " + " | ".join(f"`{n}`" for n in names) + " |", "|---|" + "---|" * len(names)]
    for first in names:
        marks = []
        for second in names:
            ours, twice, apart = pair_difference(first, second, folder / f"{first}_{second}")
            lost = ""
            lost += "p" * (not apart.position_px < PIXEL)
            lost += "a" * (not apart.angle_deg < ANGLE_DEG)
            has_ctf = all(t.ctf is not None for t in twice.series.tilts)
            lost += "d" * (not (has_ctf and mean_defocus_apart(ours, twice) < DEFOCUS))
            lost += "h" * (not apart.hand_kept)
            marks.append(lost or "yes")
        rows.append(f"| `{first}` | " + " | ".join(marks) + " |")
    return rows


def words_table() -> list[str]:
    rows = ["| | Files | Origin | Unit | Hand | Angles |", "|---|---|---|---|---|---|"]
    rows += [
        f"| `{name}` | {f.title} | {f.words.origin} | {f.words.unit} | {f.words.hand} | {f.words.angles} |"
        for name, f in GEOMETRY_FORMATS.items()
    ]
    return rows


def replaced(text: str, name: str, rows: list[str]) -> str:
    """A page with the table between `<!-- name -->` and `<!-- end of name -->` replaced."""
    start, end = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
    head, rest = text.split(start, 1)
    return head + start + "\n" + "\n".join(rows) + "\n" + end + rest.split(end, 1)[1]
