"""One tilt axis for the series of a data set, on disk."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from eucentric.alignment.params import AlignParams, AxisParams
from eucentric.alignment.share_axis import share_axis
from eucentric.errors import EucentricError
from eucentric.models.tilt_series import TiltSeries
from eucentric.pipeline.aligning import Aligned, align_series, median_axis, nominal_axis, with_turned_axis
from eucentric.pipeline.executors import Executor
from eucentric.pipeline.images import read_images
from eucentric.pipeline.records import Record
from eucentric.pipeline.repair_track_words import with_words_on_given
from eucentric.pipeline.stage import CollectiveOutcome, CollectiveStage
from eucentric.pipeline.stages.align import write_aligned
from eucentric.pipeline.store import ItemStore, StageStore
from eucentric.pipeline.track_files import given_track_file, read_given_tracks

_SAME_DEG = 1.0
"""Series whose microscopes named axes this near were taken at one magnification."""
_UNKNOWN_SIGMA_DEG = 0.3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Again:
    """One series to be aligned again about another axis."""

    series: TiltSeries
    params: AlignParams
    axis_deg: float
    root: str
    device: str


class ShareAxis(CollectiveStage):
    """Share one tilt axis among the series of a data set."""

    name, params, version, after = "axis", AxisParams, 1, "align"
    may_be_passed_over = True

    def run(
        self, items: list[TiltSeries], params: AxisParams, store: StageStore, executor: Executor, device: torch.device
    ) -> CollectiveOutcome:
        """Align those series again whose own axis the others correct; pass the others on."""
        done = store.records("align")
        records = {s.name: done[s.name] for s in items if s.name in done and "tilt_axis_deg" in done[s.name].metrics}
        metrics: dict[str, float] = {}
        work: list[_Again] = []
        for number, group in enumerate(_groups([s for s in items if s.name in records and s.tilts])):
            if not params.share or len(group) < params.fewest_series:
                continue
            own = np.array([median_axis(s) for s in group])
            shared = share_axis(own, [_sigma(records[s.name]) for s in group])
            suffix = "" if number == 0 else f"_{number + 1}"
            metrics[f"tilt_axis_deg{suffix}"] = shared.axis_deg
            metrics[f"tilt_axis_sigma_deg{suffix}"] = shared.sigma_deg
            metrics[f"tilt_axis_spread_deg{suffix}"] = shared.spread_deg
            for series, axis, best in zip(group, own, shared.axes_deg, strict=True):
                if abs(best - axis) >= params.least_turn_deg and abs(best - axis) < 90.0:
                    again = AlignParams.model_validate(records[series.name].parameters)
                    chosen = again.replace(start="imported", axis_search_deg=0.0)
                    place = str(store.root)
                    work.append(
                        _Again(series=series, params=chosen, axis_deg=float(best), root=place, device=str(device))
                    )
        results = dict(zip([w.series.name for w in work], executor.map(_align_again, work), strict=True))
        changed: dict[str, TiltSeries] = {}
        caveats: dict[str, tuple[str, ...]] = {}
        figures: dict[str, dict[str, float]] = {}
        for task in work:
            name, before, result = task.series.name, median_axis(task.series), results[task.series.name]
            if isinstance(result, str):
                caveats[name] = (f"It was left as it was aligned: about the common tilt axis, {result}",)
                continue
            changed[name], figures[name] = write_aligned(result, store), result.metrics
            words = (
                f"The tilt axis was turned from {before:.2f} to {task.axis_deg:.2f} degrees, as the other series say."
            )
            caveats[name] = (words, *result.caveats)
        metrics["series_turned"] = float(len(changed))
        return CollectiveOutcome(
            items=tuple(changed.get(s.name, s) for s in items),
            metrics=metrics,
            caveats=tuple(f"{name}: {words[0]}" for name, words in caveats.items()),
            item_metrics=figures,
            item_caveats=caveats,
        )


def _groups(items: Sequence[TiltSeries]) -> list[list[TiltSeries]]:
    """Series of one pixel size and nominal axis, the largest group first."""
    found: defaultdict[tuple[float, int | None], list[TiltSeries]] = defaultdict(list)
    for series in items:
        axis = nominal_axis(series)
        found[round(series.pixel_size_angstrom, 3), None if axis is None else round(axis / _SAME_DEG)].append(series)
    return sorted(found.values(), key=len, reverse=True)


def _sigma(record: Record) -> float:
    value = record.metrics.get("tilt_axis_sigma_deg")
    return value if value is not None and np.isfinite(value) and value > 0 else _UNKNOWN_SIGMA_DEG


def _align_again(task: _Again) -> Aligned | str:
    """The series about the other axis; words where that failed."""
    device = torch.device(task.device)
    store = ItemStore(task.root, "axis", task.series.name)
    try:
        turned = with_turned_axis(task.series, task.axis_deg)
        path = given_track_file(task.params.tracks, turned.name, store.root)
        tracks = None if path is None else read_given_tracks(path, turned)
        images = read_images(turned, store, device)
        aligned = align_series(turned, images, task.params, axis_deg=task.axis_deg, tracks=tracks)
        return aligned if path is None else with_words_on_given(aligned, path)
    except EucentricError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - the series has an alignment already, and the others go on
        return f"{type(error).__name__}: {str(error)[:200]}"
