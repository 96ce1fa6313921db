"""Simulations like a plan: what the plan says is taken over, what it leaves open is said, and what cannot be shown is refused."""

import numpy as np
import pytest

from eucentric.errors import InputError
from eucentric.io.plan_files import write_plan
from eucentric.models.acquisition_plan import AcquisitionPlan, PlannedMicroscope, PlannedSpecimen
from eucentric.models.tilt_scheme import TiltScheme
from eucentric.pipeline.like_plan import like_plan
from eucentric.simulation import SimulationParams, plan_acquisition


def planned(tmp_path, scheme=None, **parts):
    path = tmp_path / "plan.toml"
    write_plan(path, AcquisitionPlan(scheme=scheme or TiltScheme(), **parts))
    return path


def test_a_plan_becomes_settings_of_the_simulator(tmp_path):
    path = planned(
        tmp_path,
        TiltScheme(order="bidirectional", start_deg=9.0, min_deg=-51.0, max_deg=63.0, total_dose=117.0),
        microscope=PlannedMicroscope(
            pixel_size_angstrom=1.6,
            voltage_kv=200.0,
            image_size_px=(640, 512),
            frames=6,
            defocus_angstrom=42_000.0,
            defocus_spread_angstrom=900.0,
            tilt_axis_deg=-4.5,
        ),
        specimen=PlannedSpecimen(thickness_angstrom=1500.0, pretilt_deg=-9.0),
    )
    found = like_plan(path)
    params = SimulationParams.model_validate(found.changes)
    assert params.tilt_angles_deg[:3] == (9.0, 12.0, 15.0)
    assert len(params.tilt_angles_deg) == 39
    assert params.dose_per_tilt == pytest.approx(3.0)
    assert (params.pixel_size_angstrom, params.voltage_kv, params.image_size_px) == (1.6, 200.0, (640, 512))
    assert (params.frames, params.defocus_angstrom, params.defocus_jitter_angstrom) == (6, 42_000.0, 900.0)
    assert (params.tilt_axis_deg, params.thickness_angstrom, params.tilt_offset_deg) == (-4.5, 1500.0, -9.0)
    assert len(found.told) == 1
    # the specimen stands level in the first image: that is what the start is for
    course = plan_acquisition(params.replace(tilt_error_deg=0.0), np.random.default_rng(0))
    assert course.geometry.y_tilt_deg[course.order == 0][0] == pytest.approx(0.0)


def test_what_a_plan_leaves_open_is_said(tmp_path):
    path = planned(tmp_path, TiltScheme(start_dose=15.0, total_dose=120.0))
    path.write_text(path.read_text() + "\n[goal]\nresolution_angstrom = 4.0\n")
    found = like_plan(path)
    words = " ".join(found.told)
    assert set(found.changes) == {"tilt_angles_deg", "tilt_min_deg", "tilt_max_deg", "dose_per_tilt", "tilt_doses"}
    for missing in ("thickness", "pixel size", "voltage", "defocus"):
        assert missing in found.told[1]
    assert "usual values stand" in found.told[1]
    assert "2.62 to 15 e/A2 a tilt, each its own" in words  # the first image is boosted; the others share the rest
    assert found.changes["tilt_doses"] == (15.0, *[2.625] * 40)
    assert sum(SimulationParams.model_validate(found.changes).tilt_doses) == pytest.approx(120.0)
    assert "[goal]" in words


@pytest.mark.parametrize(
    ("purpose", "words"),
    [
        ("axes = 2", "two axes"),
        ("single_exposure = true", "a movie for each tilt"),
        ("axes = 1", ""),
        ("axes = [2]", ""),
    ],
)
def test_what_the_simulator_does_otherwise_is_said(tmp_path, purpose, words):
    path = planned(tmp_path)
    path.write_text(path.read_text() + f"\n[purpose]\n{purpose}\n")
    told = like_plan(path).told[2:]
    assert [words in line for line in told] == ([True] if words else [])


def test_angles_beyond_the_simulator_are_refused(tmp_path):
    with pytest.raises(InputError, match="84 degrees; the simulator goes to 80"):
        like_plan(planned(tmp_path, TiltScheme(min_deg=-60.0, max_deg=84.0)))
    with pytest.raises(InputError, match=r"inclined by 25.*85 degrees"):
        like_plan(planned(tmp_path, specimen=PlannedSpecimen(pretilt_deg=25.0)))


def test_a_dose_of_zero_is_refused(tmp_path):
    path = planned(tmp_path)
    path.write_text(path.read_text().replace("total_dose = 120.0", "total_dose = 0.0"))
    with pytest.raises(InputError, match="`total_dose` is 0"):
        like_plan(path)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--run"], "--run needs a project or a plan"),
        (["--like", "PLAN", "--like-series", "TS_01"], "is a plan of one"),
        (["--like", "PLAN", "--run", "--boxes", "3"], "--boxes writes no movies"),
        (["--like", "nowhere", "--run"], "`nowhere` does not exist"),
    ],
)
def test_the_command_says_what_does_not_go_together(program, tmp_path, words, told):
    path = planned(tmp_path)
    code, _, errors = program("simulate", tmp_path / "out", *(str(path) if w == "PLAN" else w for w in words))
    assert code == 2
    assert told in " ".join(errors.split())
    assert not (tmp_path / "out").exists()
