"""Parts of a digital twin: the specimen that picks and membranes tell, the plan carried over, the comparison, the pages."""

import json
import math

import numpy as np
import pytest

from eucentric.io.particles import write_particles
from eucentric.models.particles import ParticleSet
from eucentric.pipeline.plan import Plan
from eucentric.pipeline.simulate_project import simulate
from eucentric.pipeline.twin import Compared, Expected, TwinResult, as_values, compare_figures
from eucentric.pipeline.twin_average import ExpectedAverage, ProjectAverage, averages_of_project
from eucentric.pipeline.twin_page import lines, markdown, page
from eucentric.pipeline.twin_plan import carried_plan, default_plan
from eucentric.pipeline.twin_scores import OwnFigure, score_picking
from eucentric.pipeline.twin_specimen import specimen_of_project
from eucentric.simulation import SimulationParams, procedural_macromolecule

FIELD = (4000.0, 3000.0)


@pytest.fixture
def picked(tmp_path):
    """A project whose picks lie on a grid in the field of one series, and beyond it."""
    root = tmp_path / "project"
    molecule = procedural_macromolecule(300.0)
    from eucentric.io.mrc import write_mrc

    write_mrc(root / "maps" / "enzyme.mrc", molecule.volume((40, 40, 40), 8.0).numpy(), 8.0)
    x, y = np.meshgrid(np.arange(-3900.0, 3901.0, 200.0), np.arange(-1400.0, 1401.0, 200.0))
    inside = np.abs(y.ravel()) < 0.5 * FIELD[1] - 150.0
    places = np.column_stack([x.ravel(), y.ravel(), np.zeros(x.size)])[inside]
    picks = ParticleSet.build("TS_02", places, rotations=np.tile(np.eye(3), (len(places), 1, 1)), kinds="enzyme")
    other = ParticleSet.build("TS_09", places[:3], rotations=np.tile(np.eye(3), (3, 1, 1)), kinds="enzyme")
    write_particles(root / "pick" / "mine" / "particles.star", ParticleSet.concatenate([picks, other]), "relion5")
    settings = {"templates": ["maps/enzyme.mrc", "sphere:200"], "edge_angstrom": 150.0}
    (root / "pick" / "mine" / "run.json").write_text(json.dumps({"parameters": settings}))
    return root


def test_picks_tell_species_and_how_dense_they_are(picked):
    made = specimen_of_project(picked, "TS_02", FIELD, 1300.0)
    assert made is not None
    assert made.picks == "mine"
    assert [one.name for one in made.species] == ["enzyme"]
    assert made.scene.film.thickness_angstrom == 1300.0
    # one in 200 x 200 A, the margin that was not searched included: 300; the grid has whole rows only
    assert made.scene.species[0].count == pytest.approx(300, rel=0.08)
    assert any("sphere:200" in text for text in made.told)
    assert any("not segmented" in text for text in made.told)
    assert specimen_of_project(picked, "TS_03", FIELD, None) is None


def test_round_membranes_become_vesicles_and_flat_ones_are_said(picked):
    table = picked / "segment" / "measures" / "TS_02.csv"
    table.parent.mkdir(parents=True)
    table.write_text(
        "label,area_angstrom2,ball_radius_angstrom,ball_misfit_angstrom\n1,2e6,480,9\n2,1e6,350,200\n3,1e6,nan,nan\n"
    )
    made = specimen_of_project(picked, "TS_02", FIELD, None)
    assert made is not None
    assert len(made.scene.membranes) == 1
    assert np.mean(made.scene.membranes[0].radius_angstrom) == pytest.approx(480.0)
    assert any("2 segmented membranes are not round" in text for text in made.told)


def test_a_plan_is_carried_over_with_what_is_the_twins_own(picked, tmp_path):
    for name in ("guide.mrc", "gain.mrc"):
        (picked / name).write_bytes(b"-")
    chosen = {
        "project": {"gain": "gain.mrc", "seed": 7},
        "motion": {"gain_orientation": "90", "low_pass_angstrom": 15.0},
        "align": {"method": "none", "bead_diameter_angstrom": 100.0},
        "ctf": {"method": "imported", "tile_angstrom": 900.0},
        "reconstruct": {"pixel_size_angstrom": 13.0},
        "pick": {"templates": ["maps/enzyme.mrc", "sphere:200"], "mask": "guide.mrc", "coarse_step_deg": 15.0},
    }
    Plan.write_default(picked, chosen)
    twin = tmp_path / "out" / "project"
    carried = carried_plan(picked, "TS_02", twin)
    assert carried.until == "pick"  # it was never run, and its plan has templates
    assert carried.chosen["project"] == {"seed": 7}
    assert carried.chosen["motion"] == {"low_pass_angstrom": 15.0}
    assert carried.chosen["align"] == {"bead_diameter_angstrom": 100.0}
    assert carried.chosen["ctf"] == {"tile_angstrom": 900.0}
    assert carried.chosen["reconstruct"] == {"pixel_size_angstrom": 13.0}
    template, ball = carried.chosen["pick"]["templates"]
    assert (twin / template).resolve() == (picked / "maps" / "enzyme.mrc").resolve()
    assert ball == "sphere:200"
    assert "mask" not in carried.chosen["pick"]
    assert carried.pick["coarse_step_deg"] == 15.0
    words = " ".join(carried.told)
    for name in ("gain_orientation", "mask", '[align] method = "none"', '[ctf] method = "imported"'):
        assert name in words
    assert default_plan({}).until == "reconstruct"


def test_averages_of_what_is_picked_are_repeated_and_others_are_not(tmp_path):
    root = tmp_path / "project"
    places = np.zeros((4, 3)) + np.arange(4.0)[:, None]

    def made(name, kinds, **about):
        folder = root / "average" / name
        picks = ParticleSet.build("TS_01", places, rotations=np.tile(np.eye(3), (4, 1, 1)), kinds=kinds)
        write_particles(folder / "particles.star", picks, "relion5")
        values = {"stage": "average", "parameters": {"extract": {}, "average": {}}, "metrics": {}} | about
        (folder / "run.json").write_text(json.dumps(values))

    made("one", "enzyme", metrics={"resolution_angstrom": 12.5})
    made("flat", "enzyme")
    made("other", "ribosome")
    made("mixed", ["enzyme", "enzyme", "ribosome", "enzyme"])
    made("classes", "enzyme", stage="classify")
    found = {one.name: one for one in averages_of_project(root, {"templates": ["../maps/enzyme.mrc"]})}
    assert set(found) == {"one", "flat"}
    assert (found["one"].kind, found["one"].particles, found["one"].resolution_angstrom) == ("enzyme", 4, 12.5)
    assert math.isinf(found["flat"].resolution_angstrom)
    assert averages_of_project(root, {}) == []


def figure(words, value, better="low", **more):
    return OwnFigure(words=words, unit="A", better=better, value=value, **more)


def test_a_session_is_judged_by_more_than_the_scatter_of_its_twin():
    reported = {
        "TS_01": [
            figure("residual", 4.0),
            figure("picks", 50.0, "high"),
            figure("thickness", 1000.0, ""),
            figure("x", 1.0),
        ],
        "TS_02": [
            figure("residual", 5.0),
            figure("picks", 50.0, "high"),
            figure("thickness", 1000.0, ""),
            figure("x", 9.0),
        ],
    }
    own = [
        figure("residual", 7.0),
        figure("picks", 30.0, "high"),
        figure("thickness", 1500.0, ""),
        figure("x", 14.0),  # far from the mean of 5, but the series scatter by 5.7
        figure("unknown to the twin", 1.0),
    ]
    found = {one.words: one for one in compare_figures(own, ("TS_01", "TS_02"), reported)}
    assert {name: one.verdict for name, one in found.items()} == {
        "residual": "worse",
        "picks": "worse",
        "thickness": "differs",
        "x": "alike",
    }
    better = compare_figures([figure("residual", 2.0), figure("picks", 51.0, "high")], ("TS_01", "TS_02"), reported)
    assert [one.verdict for one in better] == ["better", "alike"]
    # 66 picks beside 50: more than a quarter, but numbers of 116 in all scatter by 11
    counted = compare_figures([figure("picks", 66.0, "high", counted=True)], ("TS_01", "TS_02"), reported)
    assert counted[0].verdict == "alike"
    assert compare_figures([figure("picks", 66.0, "high")], ("TS_01", "TS_02"), reported)[0].verdict == "better"
    assert found["residual"].twin.mean == 4.5
    assert found["residual"].twin.sd == pytest.approx(np.sqrt(0.5))


def result(tmp_path, **changes):
    f1 = {
        name: Expected(words=name, unit="", values=(0.9, 0.94))
        for name in ("F1", "precision", "recall", "error of orientation, median")
    }
    values = {
        "folder": tmp_path,
        "series": ("TS_01", "TS_02"),
        "like": "TS_07 of `cells <&>`",
        "told": ("Like TS_07.",),
        "expected": (Expected(words="alignment rms", unit="A", values=(0.8, float("nan"))),),
        "picking": {"ribosome": f1},
        "averages": (
            ExpectedAverage(
                project=ProjectAverage(
                    name="first", kind="ribosome", settings={}, particles=95, resolution_angstrom=15.84
                ),
                particles=44,
                resolution_angstrom=math.inf,
            ),
        ),
        "compared": (
            Compared(
                words="residual",
                unit="A",
                project=9.0,
                twin=Expected(words="residual", unit="A", values=(4.0, 5.0)),
                verdict="worse",
            ),
        ),
        "failures": (),
        "seconds": 61.0,
        "settings": {},
    }
    return TwinResult(**(values | changes))


def test_the_pages_say_what_to_expect_and_in_what_the_session_is_worse(tmp_path):
    one = result(tmp_path)
    assert one.worse == ("residual",)
    text = "\n".join(lines(one))
    assert "alignment rms" in text
    assert "0.8 A" in text
    assert "0.92 +- 0.028" in text
    assert "worse than its twin in: residual" in text
    document, html = markdown(one), page(one, b"\x89PNG")
    assert "| ribosome: F1 | 0.92 +- 0.028 |" in document
    assert "cells &lt;&amp;&gt;" in html
    assert '<tr class="worse">' in html
    assert "data:image/png;base64,iVBORw==" in html
    values = json.loads(json.dumps(as_values(one), allow_nan=False))
    assert values["expected"]["alignment rms"] == {"mean": 0.8, "sd": None, "unit": "A", "values": [0.8, None]}
    assert values["worse_than_its_twin_in"] == ["residual"]
    assert values["averages"][0]["resolution_angstrom"] is None
    assert "of 44 particles  no agreement of the halves (the project's: 15.8 A of 95)" in text
    before = result(tmp_path, compared=(), picking={}, averages=())
    assert "session" not in "\n".join(lines(before))
    assert "session" not in page(before)


def test_picks_at_the_true_places_score_one_and_mirrored_ones_do_not(tmp_path):
    data, root = tmp_path / "data", tmp_path / "project"
    params = SimulationParams(
        image_size_px=(128, 144),
        pixel_size_angstrom=12.0,
        tilt_step_deg=30.0,
        frames=1,
        particles_per_species=(5, 7),
        vesicles=0,
        beads=0,
        deformation_angstrom=0.0,
    )
    written = simulate(data, params)[0]
    from eucentric.io.tilt_series import read_tilt_series, write_tilt_series_set
    from eucentric.io.truth import read_truth

    write_tilt_series_set(
        root / "reconstruct" / "tilt_series.star",
        [read_tilt_series(data / "truth" / "tilt_series.star", "TS_01", data)],
        root,
    )
    (root / "eucentric.toml").write_text("plan_version = 1\n")
    truth = read_truth(written.truth)
    species = truth.settings["species"]
    pick = {"templates": [str(path) for path in written.references], "symmetries": ("C1",), "name": "both"}
    kinds = dict(enumerate(species))

    def score(places):
        picks = ParticleSet.build(
            "TS_01", places, rotations=truth.rotations, kinds=[species[kind] for kind in truth.kinds]
        )
        write_particles(root / "pick" / "both" / "particles.star", picks, "relion5")
        return score_picking(root, written.truth, "TS_01", pick, kinds)

    for row in score(truth.positions):
        assert row.kind in species
        assert row.f1 == 1.0
        assert row.median_angle_deg == pytest.approx(0.0, abs=0.01)
        assert 0 < row.truths < len(truth.positions)
    for row in score(truth.positions * (1.0, -1.0, 1.0)):
        assert not row.f1 > 0.5
        assert math.isfinite(row.recall)
