"""`refine` on disk: maps and refinement in turns on a small project with known truth, and what is wrong with a project told."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from eucentric.averaging.params import AverageParams, ExtractParams
from eucentric.errors import InputError, ProcessingError
from eucentric.io.mrc import write_mrc
from eucentric.io.relion_particles import write_relion_particles
from eucentric.io.tilt_series import write_tilt_series_set
from eucentric.models import ParticleSet
from eucentric.pipeline import refine_work
from eucentric.pipeline.average_files import average_list
from eucentric.pipeline.executors import InProcess
from eucentric.pipeline.refine import refine
from eucentric.refinement.params import RefineParams
from refinement_scene import (
    BOX,
    blob_places,
    imaged,
    perturbed,
    place_errors,
    rms,
    scattered,
    tilt_series,
    with_poses,
)

pytestmark = pytest.mark.slow  # maps of two series, three times over

CPU = torch.device("cpu")
COUNT = 14
NAMES = ("TS_01", "TS_02")


def _scene(number: int):
    series = tilt_series(NAMES[number], step=12.0, defocus=18000.0 + 5000.0 * number, seed=number)
    return imaged(series, *scattered(COUNT, seed=number), blob_places(), seed=number)


@pytest.fixture(scope="module")
def scenes():
    return [_scene(number) for number in range(len(NAMES))]


def _write(root: Path, scenes, *, ctf: bool = True, shifted: float = 3.0) -> Path:
    """A project with images, a wrong geometry and the average of particles that are a little wrong; the folder of the average."""
    (root / "images").mkdir(parents=True)
    (root / "ctf").mkdir()
    (root / "eucentric.toml").write_text("")
    every, sets = [], []
    for number, scene in enumerate(scenes):
        name = scene.series.name
        write_mrc(
            root / "images" / f"{name}.mrc", scene.images.numpy(), scene.series.pixel_size_angstrom, is_volume=False
        )
        rng = np.random.default_rng(40 + number)
        n = len(scene.series.tilts)
        start = with_poses(
            scene.series, x_shift_angstrom=rng.normal(0, shifted, n), y_shift_angstrom=rng.normal(0, shifted, n)
        )
        tilts = [
            replace(t, image=f"{i + 1}@images/{name}.mrc", ctf=t.ctf if ctf else None)
            for i, t in enumerate(start.tilts)
        ]
        every.append(start.with_tilts(tilts))
        places, turns = perturbed(scene, 0.5 * shifted, 1.0, seed=number)
        sets.append(ParticleSet.build(name, places, rotations=turns))
    write_tilt_series_set(root / "ctf" / "tilt_series.star", every, root)
    (root / "pick" / "blobs").mkdir(parents=True)
    listed = root / "pick" / "blobs" / "particles.star"
    write_relion_particles(listed, ParticleSet.concatenate(sets))
    folder = root / "average" / "blobs"
    extract = ExtractParams(box_size=BOX + 8, ctf=ctf)
    average_list(listed, folder, extract, AverageParams(mask_diameter_angstrom=160.0), device=CPU)
    return folder


@pytest.fixture(scope="module")
def average(scenes, tmp_path_factory):
    return _write(tmp_path_factory.mktemp("refined") / "project", scenes)


def _run(folder: Path, name: str, **settings):
    output = folder.parent.parent / "refine" / name
    params = RefineParams(**({"rounds": 1, "steps": 2, "groups": ("poses", "shifts", "defocus")} | settings))
    return refine([folder], output, params, device=CPU, executor=InProcess())


def _errors(state, scenes):
    out = []
    for series, scene in zip(state.series, scenes, strict=True):
        particles = state.particles["blobs"]
        own = particles.positions_angstrom[particles.tomograms == series.name]
        out.append(rms(place_errors((series, state.deformations[series.name], own), scene)))
    return out


def test_a_round_places_particles_better_and_the_halves_agree_more(average, scenes):
    done = _run(average, "one")
    begin = replace(done.state, series=tuple(s.series for s in scenes))
    after = _errors(done.state, scenes)
    print("places", after, [h.get("areas") for h in done.state.history], done.state.history[-1]["species"])
    assert begin.number == done.state.number == 1
    assert not done.failed
    assert done.state.history[-1]["accepted"]
    old, new = done.state.history[-1]["areas"]["blobs"]
    assert new > 1.02 * old
    assert max(after) < 2.2  # from 3.4
    # what is there already is not done again
    again = _run(average, "one")
    assert _errors(again.state, scenes) == pytest.approx(after)


def test_one_series_that_fails_does_not_stop_the_other(average, scenes, monkeypatch):
    work = refine_work._refined

    def failing(task):
        if task.series.name == "TS_01":
            raise ProcessingError("The images of TS_01 say nothing.")
        return work(task)

    monkeypatch.setattr(refine_work, "_refined", failing)
    done = _run(average, "half", groups=("poses", "shifts"))
    assert done.failed == {"TS_01": "The images of TS_01 say nothing."}
    assert any("TS_01" in told and "say nothing" in told for told in done.caveats)
    first, second = _errors(done.state, scenes)
    assert first > 3.0
    assert second < 2.5
    monkeypatch.setattr(refine_work, "_refined", lambda task: (_ for _ in ()).throw(ProcessingError("Nothing.")))
    with pytest.raises(ProcessingError, match="No series could be refined"):
        _run(average, "none", groups=("poses", "shifts"))


def test_averages_without_ctf_refine_the_geometry_and_say_why_not_the_transfer(scenes, tmp_path):
    folder = _write(tmp_path / "project", scenes, ctf=False)
    done = _run(folder, "flat")
    groups = {g["family"]: g for g in done.state.history[-1]["series"]["TS_01"]["groups"]}
    print(_errors(done.state, scenes), groups)
    assert groups["shifts"]["accepted"]
    assert not groups["defocus"]["accepted"]
    assert "contrast transfer" in groups["defocus"]["reason"]


def test_three_particles_are_too_few(average, tmp_path):
    from eucentric.io.particles import read_particles, write_particles

    folder = tmp_path / "few"
    folder.mkdir()
    for name in ("half1.mrc", "half2.mrc", "average.json"):
        (folder / name).write_bytes((average / name).read_bytes())
    write_particles(
        folder / "particles.star", read_particles(average / "particles.star").select(np.arange(3)), "relion5"
    )
    assert json.loads((folder / "average.json").read_text())["table"]
    with pytest.raises(InputError, match="3 particles were given; nothing can be held out of fewer than 10"):
        refine([folder], average.parent.parent / "refine" / "few", RefineParams(), device=CPU, executor=InProcess())
