"""Objects in space: pairs by distance against random controls."""

from collections.abc import Sequence
from typing import Protocol

from matplotlib.figure import Figure

from eucentric.figures.canvas import FIRST, GREY, decorate
from eucentric.typing import FloatArray

_MOST = 12


class PairCurve(Protocol):
    """Pairs no farther apart than some distances, over chance; all (distance,)."""

    @property
    def distances_angstrom(self) -> FloatArray: ...
    @property
    def observed(self) -> FloatArray: ...
    @property
    def control_low(self) -> FloatArray: ...
    @property
    def control_high(self) -> FloatArray: ...
    @property
    def p_value(self) -> float: ...


def pair_figure(curves: Sequence[tuple[str, PairCurve]]) -> Figure:
    """One plot for each of up to twelve titles and curves; the band holds 95% of random controls."""
    shown = curves[:_MOST]
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(max(4.5, 3.2 * columns), 2.6 * rows), layout="constrained")
    for k, (title, curve) in enumerate(shown):
        axes = decorate(figure.add_subplot(rows, columns, k + 1))
        axes.fill_between(
            curve.distances_angstrom, curve.control_low, curve.control_high, color=GREY, alpha=0.35, linewidth=0
        )
        axes.axhline(1.0, color=GREY, linewidth=0.7)
        axes.plot(curve.distances_angstrom, curve.observed, color=FIRST, linewidth=1.4)
        axes.set_title(f"{title} (p = {curve.p_value:.2g})", fontsize=9)
        axes.set(xlabel="distance (Å)", ylabel="pairs over chance", xlim=(0.0, None), ylim=(0.0, None))
    return figure
