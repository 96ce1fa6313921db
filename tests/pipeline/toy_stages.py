"""Small stages for tests of the pipeline, and a project to run them on. Run as a program: a run of its own."""

import argparse
import dataclasses
import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
from pydantic import Field

from eucentric.errors import EucentricError, ProcessingError
from eucentric.io.mrc import read_mrc
from eucentric.io.tilt_series import write_tilt_series_set
from eucentric.models.settings import Frozen
from eucentric.models.tilt_series import Tilt, TiltPose, TiltSeries
from eucentric.pipeline.plan import Plan
from eucentric.pipeline.runner import run_project
from eucentric.pipeline.stage import CollectiveOutcome, CollectiveStage, ItemStage, Outcome
from eucentric.pipeline.summary import RunInterrupted


class FirstParams(Frozen):
    scale: float = Field(default=1.0, gt=0, description="factor on every pixel")
    delay: float = Field(default=0.0, ge=0, description="s, spent on each tilt")
    label: str | None = Field(default=None, description="a text; none: no text")


class First(ItemStage):
    """Make an image of each movie."""

    name, params, version, after = "first", FirstParams, 1, "import"
    uses = ("gain",)
    tilts_are_independent = True

    def run(self, series, params, store, device):
        tilts = []
        (store.root / f"{series.name}.pid").write_text(str(os.getpid()))
        if params.label == f"die {series.name}":
            os.kill(os.getpid(), signal.SIGKILL)
        for i, tilt in enumerate(series.tilts):
            content = store.resolve(tilt.movie).read_text()
            if content == "truncated":
                raise ProcessingError(f"`{tilt.movie}` ends after frame 2 of 4. Copy it again.")
            if content == "surprise":
                raise ZeroDivisionError("nobody thought of this")
            image = np.full((6, 8), float(content) * params.scale, dtype=np.float32)
            image[0, i] += store.seed % 7
            tilts.append(dataclasses.replace(tilt, image=store.write_image(f"tilt_{i}", image, 4.0, float16=False)))
            store.progress((i + 1) / len(series.tilts), "summing")
            time.sleep(params.delay)
        store.write_arrays(values=np.arange(3.0))
        return Outcome(series=series.with_tilts(tilts), metrics={"mean": 1.0, "odd": float("nan")}, caveats=("a toy",))


class SecondParams(Frozen):
    offset: float = Field(default=0.5, description="degrees, added to every angle")
    delay: float = Field(default=0.0, ge=0, description="s, spent on each series")


class Second(ItemStage):
    """Give each tilt a pose."""

    name, params, version, after = "second", SecondParams, 1, "first"

    def run(self, series, params, store, device):
        tilts = []
        for tilt in series.tilts:
            array, _ = read_mrc(store.resolve(tilt.image))
            pose = TiltPose(
                y_tilt_deg=tilt.nominal_tilt_deg + params.offset,
                z_rot_deg=85.3,
                x_shift_angstrom=float(array.mean()) / 3,
            )
            tilts.append(dataclasses.replace(tilt, pose=pose))
        time.sleep(params.delay)
        store.output("volumes", f"{series.name}.txt").write_text(f"{len(tilts)} tilts\n")
        return Outcome(series=series.with_tilts(tilts))


class CountParams(Frozen):
    title: str = Field(default="All series", description="head of the page")


class Count(CollectiveStage):
    """Say what there is."""

    name, params, version, after = "count", CountParams, 1, "second"
    runs_without_items = True

    def run(self, items, params, store, executor, device):
        sizes = executor.map(_tilt_count, items)
        failed = {n: r.message for s in ("first", "second") for n, r in store.records(s).items() if not r.is_done}
        page = {
            "title": params.title,
            "series": dict(zip([s.name for s in items], sizes, strict=True)),
            "failed": failed,
        }
        store.output("index.json").write_text(json.dumps(page))
        return CollectiveOutcome(metrics={"series": float(len(items))})


def _tilt_count(series):
    return len(series.tilts)


TOYS = (First, Second, Count)
ANGLES = (-6.0, -3.0, 0.0, 3.0)


def make_project(root: Path, names=("TS_01", "TS_02", "TS_03"), chosen=None) -> Path:
    """A project of a few series with movies that are single numbers."""
    frames = root / "frames"
    frames.mkdir(parents=True)
    every = []
    for n, name in enumerate(names):
        tilts = []
        for i, angle in enumerate(ANGLES):
            movie = frames / f"{name}_{i}.txt"
            movie.write_text(str(10 * (n + 1) + i))
            tilts.append(
                Tilt(
                    nominal_tilt_deg=angle, acquisition=i, dose=3.1, pre_exposure=3.1 * i, movie=f"frames/{movie.name}"
                )
            )
        every.append(TiltSeries(name=name, pixel_size_angstrom=4.0, image_shape=(6, 8), tilts=tuple(tilts)))
    write_tilt_series_set(root / "import" / "tilt_series.star", every, root)
    Plan.write_default(root, chosen or {}, TOYS)
    return root


def results(root: Path) -> dict[str, bytes]:
    """Every file of results but the records, whose times differ."""
    files = [p for s in ("first", "second", "count") for p in (root / s).rglob("*") if p.is_file()]
    return {str(p.relative_to(root)): p.read_bytes() for p in files if p.suffix != ".json" or p.name == "index.json"}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("--workers", type=int)
    given = parser.parse_args()
    try:
        summary = run_project(given.root, workers=given.workers, device="cpu", stages=TOYS)
    except RunInterrupted as stop:
        print(stop)
        return stop.summary.exit_code
    except EucentricError as error:
        print(error)
        return 2
    print(summary.to_json())
    return summary.exit_code


if __name__ == "__main__":
    sys.exit(main())
