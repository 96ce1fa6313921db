"""Plan files: written, read again, and what is wrong with one is said."""

import numpy as np
import pytest

from eucentric.errors import FormatError, InputError
from eucentric.io.plan_files import further_tables, read_plan, write_plan
from eucentric.models.acquisition_plan import AcquisitionPlan, PlannedMicroscope, PlannedSpecimen
from eucentric.models.tilt_scheme import TiltScheme

PLAN = """
[scheme]
order = "bidirectional"
start_deg = 9.0
step_deg = 2.0
min_deg = -51
max_deg = 61.0
total_dose = 114.0

[microscope]
pixel_size_angstrom = 1.5
image_size_px = [4096, 3072]

[why]
goal = "averaging at 4 A"
"""


def test_a_plan_comes_back_as_it_was_written(tmp_path):
    plan = AcquisitionPlan(
        scheme=TiltScheme(order="dose-symmetric", start_deg=-9.0, group_size=3, one_sided_beyond_deg=45.0),
        microscope=PlannedMicroscope(pixel_size_angstrom=1.35, image_size_px=(5760, 4092), defocus_angstrom=30000.0),
        specimen=PlannedSpecimen(pretilt_deg=9.0),
    )
    path = tmp_path / "plan.toml"
    write_plan(path, plan, {"prediction": {"crowther_angstrom": 12.5, "nothing": None}})
    assert read_plan(path) == plan
    assert further_tables(path) == {"prediction": {"crowther_angstrom": 12.5}}
    assert "# thickness_angstrom = " in path.read_text()  # what is not known is named all the same


def test_a_plan_written_by_hand_is_read(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text(PLAN)
    plan = read_plan(path)
    angles = plan.scheme.angles_in_order()
    np.testing.assert_allclose(angles[:2], [9.0, 11.0])
    assert (angles.min(), angles.max()) == (-51.0, 61.0)
    assert plan.microscope == PlannedMicroscope(pixel_size_angstrom=1.5, image_size_px=(4096, 3072))
    assert plan.specimen.thickness_angstrom is None


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("total_dose = 114.0", "total_dose = 0", r"`total_dose` is 0 .*greater than 0 .*whole series"),
        ("max_deg = 61.0", "max_deg = 95.0", "within -90 and 90 degrees"),
        ("start_deg = 9.0", "start_deg = 70.0", "start_deg lies outside"),
        ("step_deg", "step_degree", "no setting called `step_degree`.*`step_deg`"),
        ('"bidirectional"', '"spiral"', "`order` is 'spiral'.*dose-symmetric"),
        ("[4096, 3072]", "[4096, 3]", "below 32 pixels"),
        ("[scheme]", "[plan]", "no table \\[scheme\\].*plan-tilts"),
        ("[microscope]", "[microscope", "Expected TOML"),
        ("[why]", "[specimen]\nthickness_angstrom = -5\n[why]", "`thickness_angstrom` is -5"),
        ("\n[scheme]", "specimen = 3\n[scheme]", "Write \\[specimen\\]"),
    ],
)
def test_what_does_not_fit_is_said(tmp_path, before, after, words):
    path = tmp_path / "plan.toml"
    path.write_text(PLAN.replace(before, after, 1))
    with pytest.raises((InputError, FormatError), match=words):
        read_plan(path)


def test_a_plan_that_is_not_there_and_a_name_that_is_taken(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_plan(tmp_path / "none.toml")
    with pytest.raises(InputError, match=r"\[scheme\] of its own"):
        write_plan(tmp_path / "plan.toml", AcquisitionPlan(scheme=TiltScheme()), {"scheme": {}})
    assert not (tmp_path / "plan.toml").exists()
