"""A digital twin from end to end: of a project that has picked, and of a plan."""

import json
import math

import pytest

from eucentric.io.plan_files import write_plan
from eucentric.io.truth import read_truth
from eucentric.models.acquisition_plan import AcquisitionPlan, PlannedMicroscope, PlannedSpecimen
from eucentric.models.tilt_scheme import TiltScheme
from eucentric.pipeline.plan import Plan
from eucentric.pipeline.simulate_project import simulate
from eucentric.simulation import SimulationParams

SMALL = SimulationParams(
    image_size_px=(208, 192),
    pixel_size_angstrom=7.0,
    tilt_min_deg=-48.0,
    tilt_max_deg=48.0,
    tilt_step_deg=8.0,
    dose_per_tilt=9.0,
    frames=3,
    particles_per_species=(7, 0),
    vesicles=0,
    beads=0,
    defocus_angstrom=30_000.0,
    stage_jitter_angstrom=60.0,
    seed=4,
)
PICKING = {"name": "large", "coarse_step_deg": 30.0, "decoys": "none"}


@pytest.mark.slow
def test_a_picked_project_gets_a_twin_that_is_processed_as_it_was(program, tmp_path):
    data, project, out = tmp_path / "data", tmp_path / "project", tmp_path / "twin"
    made = simulate(data, SMALL)[0]
    words = ("--frames", data / "frames", "--mdoc", data, "--gain", made.gain)
    assert program("import", project, *words)[0] == 0
    template = next(path for path in made.references if "2600" in path.name)
    Plan.load(project).save("reconstruct", {"method": "wbp", "pixel_size_angstrom": 14.0})
    Plan.load(project).save("pick", {"templates": [str(template)], **PICKING})
    assert program("run", project, "--until", "pick", "--workers", "1")[0] == 0
    picks = project / "pick" / "large" / "particles.star"
    sampling = ("--box-size", "48", "--pixel-size-angstrom", "14", "--min-tilts", "3")
    code, _, errors = program("average", picks, *sampling, "--output", project / "average" / "first")
    assert code == 0, errors
    code, output, errors = program(
        "simulate", out, "--like", project, "--run", "--series", "1", "--seed", "8", "--json"
    )
    assert code == 0, errors
    values = json.loads(output.splitlines()[-1])
    saved = json.loads((out / "expected.json").read_text())
    assert {**saved, "exit_code": 0} == values
    error = saved["expected"]["alignment rms"]
    assert len(error["values"]) == 1
    assert 0.0 < error["mean"] < 20.0
    assert error["sd"] is None
    picking = saved["picking"]["macromolecule_2600kDa"]
    assert 0.0 <= picking["F1"]["mean"] <= 1.0
    assert picking["particles"]["mean"] >= 1
    figures = {row["figure"]: row for row in saved["compared"]}
    assert figures["motion within an exposure, median"]["project"] > 0
    assert "picks of macromolecule_2600kDa" in figures
    average = saved["averages"][0]
    assert (average["name"], average["species"]) == ("first", "macromolecule_2600kDa")
    assert average["particles"] >= 2
    assert (out / "project" / "average" / "first" / "map.mrc").is_file()
    # the twin is another specimen, recorded and processed alike
    twin, first = read_truth(out / "TS_01_truth.json"), read_truth(made.truth)
    assert twin.image_shape == first.image_shape
    assert twin.acquisition.tolist() == first.acquisition.tolist()
    assert twin.settings["species"] == ["macromolecule_2600kDa"]
    assert twin.thickness_angstrom == pytest.approx(first.thickness_angstrom, rel=0.5)
    chosen = Plan.load(out / "project").chosen
    assert chosen["pick"]["coarse_step_deg"] == 30.0
    assert chosen["reconstruct"] == {"method": "wbp", "pixel_size_angstrom": 14.0}
    page = (out / "expected.html").read_text()
    assert "Digital twin of TS_01" in page
    assert "data:image/png;base64" in page
    assert "alignment rms" in (out / "expected.md").read_text()


@pytest.mark.slow
def test_a_plan_gets_a_twin_before_anything_was_recorded(program, tmp_path):
    plan, out = tmp_path / "plan.toml", tmp_path / "twin"
    scheme = TiltScheme(min_deg=-48.0, max_deg=48.0, step_deg=8.0, total_dose=117.0)
    microscope = PlannedMicroscope(
        pixel_size_angstrom=7.0, image_size_px=(208, 192), frames=3, defocus_angstrom=30_000.0
    )
    write_plan(plan, AcquisitionPlan(scheme=scheme, microscope=microscope, specimen=PlannedSpecimen(pretilt_deg=4.0)))
    code, output, errors = program(
        "simulate", out, "--like", plan, "--run", "--series", "1", "--vesicles", "0", "--beads", "0",
        "--macromolecules-kda", "900", "--particles-per-species", "25",
    )  # fmt: skip
    assert code == 0, errors
    assert "Not in the plan" in output
    assert "thickness" in output
    saved = json.loads((out / "expected.json").read_text())
    assert saved["compared"] == []
    assert saved["settings"]["tilt_offset_deg"] == 4.0
    assert math.isfinite(saved["expected"]["alignment rms"]["mean"])
    assert "F1" in saved["picking"]["macromolecule_900kDa"]
    assert "session" not in output
