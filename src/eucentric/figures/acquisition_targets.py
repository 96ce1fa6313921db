"""Targets on the stage: fields, beams at the flattest and the steepest tilt, focus and tracking spots, conflicts in red."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon
from matplotlib.transforms import Affine2D
from numpy.typing import NDArray

from eucentric.acquisition.target_results import PlacedTarget, TargetPlan
from eucentric.typing import FloatArray

_UM = 1e-4
_RED, _FIELD, _BEAM, _FOCUS, _TRACK = "#d62728", "#0072b2", "#56b4e9", "#e69f00", "#009e73"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MapPicture:
    """A map to be drawn under the targets."""

    corners_um: FloatArray
    """(4, 2), on the stage: lower left, lower right, upper right, upper left."""
    image: NDArray[np.float32] | None = None
    """(y, x), the first row at the bottom; None where only its frame is known."""


def targets_on_stage(
    plan: TargetPlan,
    map_picture: MapPicture | None = None,
    *,
    area_um: FloatArray | None = None,
    bars_um: Sequence[FloatArray] = (),
    title: str = "",
) -> Figure:
    """Stage coordinates in um, as the navigator has them; the view is of the targets and their spots."""
    low, high = _limits(plan)
    width, height = high - low
    tall = float(np.clip(7.4 * height / width, 2.5, 11.0))
    figure = Figure(figsize=(8.4, tall + 1.6), layout="constrained")
    axes = figure.add_subplot()
    if map_picture is not None:
        _draw_map(axes, map_picture)
    for outline, color in [*([(area_um, "#cc79a7")] if area_um is not None else []), *((b, "black") for b in bars_um)]:
        axes.add_patch(Polygon(outline, fill=False, edgecolor=color, linewidth=1.5))
    _draw_axis(axes, plan, low, high)
    troubled = plan.troubled
    for target in plan.targets:
        _draw_target(axes, plan, target, troubled=target.name in troubled)
    for conflict in plan.conflicts:
        if conflict.move_stage_angstrom is not None:
            start = next(t.stage_angstrom for t in plan.targets if t.name == conflict.moved) * _UM
            end = start + np.array(conflict.move_stage_angstrom) * _UM
            arrow = {"arrowstyle": "->", "color": _RED, "linewidth": 1.5}
            axes.annotate("", xy=(end[0], end[1]), xytext=(start[0], start[1]), arrowprops=arrow, zorder=8)
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")
    axes.set(xlabel="stage x (µm)", ylabel="stage y (µm)", title=title)
    figure.legend(handles=_legend(plan), loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    return figure


def _draw_map(axes: Axes, picture: MapPicture) -> None:
    corners = picture.corners_um
    if picture.image is not None:
        rows, columns = picture.image.shape
        right, up = (corners[1] - corners[0]) / columns, (corners[3] - corners[0]) / rows
        matrix = np.array([[right[0], up[0], corners[0, 0]], [right[1], up[1], corners[0, 1]], [0.0, 0.0, 1.0]])
        finite = picture.image[np.isfinite(picture.image)]
        dark, bright = np.percentile(finite, [0.5, 99.5]) if finite.size else (0.0, 1.0)
        axes.imshow(
            picture.image,
            cmap="gray",
            origin="lower",
            extent=(0, columns, 0, rows),
            vmin=float(dark),
            vmax=float(max(bright, dark + 1e-6)),
            transform=Affine2D(matrix) + axes.transData,
            interpolation="antialiased",
        )
    axes.add_patch(Polygon(corners, fill=False, edgecolor="#666666", linewidth=1.0, linestyle="-."))


def _draw_axis(axes: Axes, plan: TargetPlan, low: FloatArray, high: FloatArray) -> None:
    along = plan.view.axis_of_stage[1]
    middle, half = 0.5 * (low + high), float(np.abs(high - low).max())
    ends = np.array([middle - half * along, middle + half * along])
    axes.plot(ends[:, 0], ends[:, 1], color="#888888", linewidth=1.0, linestyle=(0, (8, 4)))


def _draw_target(axes: Axes, plan: TargetPlan, target: PlacedTarget, *, troubled: bool) -> None:
    view, params = plan.view, plan.params
    centre = target.stage_angstrom

    def outline(shape: FloatArray, place: FloatArray, color: str, **style: object) -> None:
        axes.add_patch(Polygon(plan.stage_outline(shape, place) * _UM, edgecolor=color, **style))  # type: ignore[arg-type]

    field = _RED if troubled else _FIELD
    outline(view.field, centre, field, facecolor=field, alpha=0.35, linewidth=1.5, zorder=5)
    for tilt, style in ((view.flattest, "-"), (view.steepest, "--")):
        shape = view.footprint(tilt, params.beam_diameter_angstrom)
        outline(shape, centre, _RED if troubled else _BEAM, fill=False, linewidth=1.1, linestyle=style, zorder=4)
    spot = params.spot_diameter_angstrom or params.beam_diameter_angstrom
    for place, color in ((target.focus_stage_angstrom, _FOCUS), (target.tracking_stage_angstrom, _TRACK)):
        if place is not None:
            axes.plot(*(place * _UM), marker="+", color=color, markersize=8, zorder=7)
            outline(
                view.footprint(view.steepest, spot), place, color, fill=False, linewidth=0.9, linestyle=":", zorder=3
            )
    x, y = centre * _UM
    text = axes.text(x, y, target.name, fontsize=8, ha="center", va="center", zorder=9)
    text.set_bbox({"facecolor": "white", "alpha": 0.7, "pad": 1.0, "edgecolor": "none"})


def _limits(plan: TargetPlan) -> tuple[FloatArray, FloatArray]:
    longest = plan.view.footprint(plan.view.steepest, plan.params.beam_diameter_angstrom)
    reach = 1.1 * float(np.linalg.norm(longest, axis=1).max())
    places = [t.stage_angstrom for t in plan.targets]
    places += [p for t in plan.targets for p in (t.focus_stage_angstrom, t.tracking_stage_angstrom) if p is not None]
    points = np.array(places)
    low, high = (points.min(axis=0) - reach) * _UM, (points.max(axis=0) + reach) * _UM
    return np.asarray(low), np.asarray(high)


def _legend(plan: TargetPlan) -> list[Line2D]:
    tilts = plan.view.tilts_deg
    flat, steep = tilts[plan.view.flattest], tilts[plan.view.steepest]
    marks = [
        Line2D([], [], color=_FIELD, linewidth=4, alpha=0.5, label="field of view"),
        Line2D([], [], color=_BEAM, label=f"beam at {flat:g}°"),
        Line2D([], [], color=_BEAM, linestyle="--", label=f"beam at {steep:g}°"),
        Line2D([], [], color="#888888", linestyle="--", label="tilt axis"),
        Line2D([], [], color=_FOCUS, marker="+", linestyle=":", label=f"focus, beam at {steep:g}°"),
        Line2D([], [], color=_TRACK, marker="+", linestyle=":", label=f"tracking, beam at {steep:g}°"),
    ]
    if plan.troubled:
        marks.append(Line2D([], [], color=_RED, linewidth=4, alpha=0.5, label="in conflict; arrow: smallest move"))
    return marks
