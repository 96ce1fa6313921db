"""Colours of particles in scenes: by class, by score, or by a column of numbers. All are told apart by any colour vision."""

from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex, to_rgb

from eucentric.errors import InputError
from eucentric.models.particles import ParticleSet
from eucentric.typing import FloatArray

CLASS, SCORE, RESOLUTION = "class", "score", "resolution"
OKABE_ITO = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")
"""Okabe and Ito's colours, without black."""
PLAIN = OKABE_ITO[1]
_UNKNOWN = "#999999"
_MAP = "viridis"
_STEPS = 16  # colours of a scale: so many materials in a scene
_TICKS = 5
_PERCENTILES = (2.0, 98.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneColors:
    """The colour of each particle, and what colours mean."""

    quantity: str
    colors: tuple[str, ...]
    """Of each particle, `#rrggbb`."""
    legend: tuple[tuple[str, str], ...]
    """Words or values, and the colour of each."""
    scale: tuple[float, float] | None = None
    """Values at the ends of a continuous scale."""


def particle_colors(particles: ParticleSet, by: str) -> SceneColors:
    """Colours of a list of particles.

    Parameters
    ----------
    by : `class`, `score`, `resolution` (one colour: the surface has its own), or the label of a column of numbers

    Raises
    ------
    InputError : no scores, or no such column
    """
    if by == CLASS:
        return _by_class(particles)
    if by == RESOLUTION:
        return SceneColors(quantity="local resolution (Å)", colors=("#ffffff",) * len(particles), legend=())
    if by == SCORE:
        values = particles.scores
        if not np.isfinite(values).any():
            raise InputError("The particles have no scores to be coloured by. Colour them by class, or by a column.")
    elif by in particles.columns:
        values = particles.columns[by]
    else:
        known = ", ".join(sorted(particles.columns)) or "none"
        raise InputError(
            f"The particles have no column `{by}`. Colour by class, score, resolution, or one of: {known}."
        )
    return _by_value(values, by)


def resolution_colors(values_angstrom: FloatArray) -> tuple[FloatArray, SceneColors]:
    """Colours (n, 3), sRGB, of local resolutions, finer ones brighter; and what they mean."""
    low, high = _ends(values_angstrom)
    part = np.clip((values_angstrom - low) / (high - low), 0.0, 1.0)
    legend = tuple((f"{v:.3g}", to_hex(colormaps[f"{_MAP}_r"]((v - low) / (high - low)))) for v in _ticks(low, high))
    about = SceneColors(quantity="local resolution (Å)", colors=(), legend=legend, scale=(low, high))
    return np.asarray(colormaps[f"{_MAP}_r"](part)[:, :3]), about


def rgb(color: str) -> tuple[float, float, float]:
    """sRGB, 0 to 1, of `#rrggbb`."""
    red, green, blue = to_rgb(color)
    return float(red), float(green), float(blue)


def _by_class(particles: ParticleSet) -> SceneColors:
    kinds = sorted({str(kind) for kind in particles.kinds})
    if len(kinds) == 1:
        named = {kinds[0]: PLAIN}
    elif len(kinds) <= len(OKABE_ITO):
        named = dict(zip(kinds, OKABE_ITO, strict=False))
    else:
        named = {kind: to_hex(colormaps[_MAP](i / (len(kinds) - 1))) for i, kind in enumerate(kinds)}
    return SceneColors(
        quantity="class",
        colors=tuple(named[str(kind)] for kind in particles.kinds),
        legend=tuple((kind or "without class", color) for kind, color in named.items()),
    )


def _by_value(values: FloatArray, quantity: str) -> SceneColors:
    low, high = _ends(values)
    known = np.isfinite(values)
    part = np.clip((np.where(known, values, low) - low) / (high - low), 0.0, 1.0)
    stepped = np.minimum((part * _STEPS).astype(np.int64), _STEPS - 1) / (_STEPS - 1)
    shades = [to_hex(colormaps[_MAP](s)) for s in stepped]
    legend = [(f"{v:.4g}", to_hex(colormaps[_MAP]((v - low) / (high - low)))) for v in _ticks(low, high)]
    if not known.all():
        legend.append(("not known", _UNKNOWN))
    return SceneColors(
        quantity=quantity,
        colors=tuple(shade if is_known else _UNKNOWN for shade, is_known in zip(shades, known, strict=True)),
        legend=tuple(legend),
        scale=(low, high),
    )


def _ends(values: FloatArray) -> tuple[float, float]:
    """Ends of a scale that a few far values do not stretch."""
    known = values[np.isfinite(values)]
    low, high = (float(v) for v in np.percentile(known, _PERCENTILES)) if len(known) else (0.0, 1.0)
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _ticks(low: float, high: float) -> FloatArray:
    return np.linspace(low, high, _TICKS)
