"""The plan: what it shows, keeps, and refuses."""

import pytest
import tomlkit
from pydantic import Field, ValidationError, model_validator
from toy_stages import TOYS, FirstParams

from eucentric.errors import FormatError, InputError
from eucentric.models.settings import Frozen
from eucentric.pipeline.explain import explain_validation_error
from eucentric.pipeline.plan import Plan
from eucentric.pipeline.settings import Exclusion, ProjectSettings


def test_every_setting_is_shown_with_its_reason_and_default(tmp_path):
    Plan.write_default(tmp_path, {"first": {"scale": 2.5}, "project": {"gain": "../gain.mrc"}}, TOYS)
    text = (tmp_path / "eucentric.toml").read_text()
    assert "plan_version = 1" in text
    for stage in TOYS:
        for name, field in stage.params.model_fields.items():
            assert f"# {field.description}\n" in text
            assert f"{name} = " in text
    assert "\nscale = 2.5   # default 1.0\n" in text
    assert "\n# offset = 0.5\n" in text
    plan = Plan.load(tmp_path, TOYS)
    assert plan.params("first") == FirstParams(scale=2.5)
    assert plan.chosen == {"first": {"scale": 2.5}}
    assert plan.project == ProjectSettings(gain="../gain.mrc")


def test_every_commented_default_may_be_made_active(tmp_path):
    Plan.write_default(tmp_path, {}, TOYS)
    path = tmp_path / "eucentric.toml"
    lines = path.read_text().splitlines()
    active = [line[2:] if line.startswith("# ") and " = " in line and "`" not in line else line for line in lines]
    path.write_text("\n".join(active))
    plan = Plan.load(tmp_path, TOYS)
    assert "label" in plan.chosen["first"]
    assert plan.params("first") == FirstParams()
    assert plan.project == ProjectSettings()


def test_a_saved_setting_leaves_the_rest_of_the_file_as_it_was(tmp_path):
    Plan.write_default(tmp_path, {}, TOYS)
    path = tmp_path / "eucentric.toml"
    path.write_text(path.read_text().replace("[second]", "# my own note\n[second]"))
    before = path.read_text().splitlines()
    Plan.load(tmp_path, TOYS).save("second", {"delay": 2.0})
    after = path.read_text().splitlines()
    assert [(a, b) for a, b in zip(before, after, strict=True) if a != b] == [
        ("# delay = 0.0", "delay = 2.0   # default 0.0")
    ]
    Plan.load(tmp_path, TOYS).save("second", {"delay": 3.0})
    assert Plan.load(tmp_path, TOYS).params("second").delay == 3.0
    assert Plan.load(tmp_path, TOYS).params("first").delay == 0.0
    Plan.load(tmp_path, TOYS).save("first", {"label": "x"})
    Plan.load(tmp_path, TOYS).save("first", {"label": None})
    assert Plan.load(tmp_path, TOYS).params("first").label is None
    assert "# my own note" in path.read_text()


def test_a_setting_whose_line_or_table_was_removed_is_saved_all_the_same(tmp_path):
    (tmp_path / "eucentric.toml").write_text("plan_version = 1\n\n[first]\n")
    Plan.load(tmp_path, TOYS).save("first", {"scale": 4.0}).save("second", {"offset": -1.0})
    plan = Plan.load(tmp_path, TOYS)
    assert (plan.params("first").scale, plan.params("second").offset) == (4.0, -1.0)


def test_a_project_without_a_plan_has_the_defaults(tmp_path):
    plan = Plan.load(tmp_path, TOYS)
    assert plan.params("first") == FirstParams()
    plan.save("first", {"scale": 3.0})
    assert Plan.load(tmp_path, TOYS).params("first").scale == 3.0


def test_exclusions_come_back(tmp_path):
    Plan.write_default(tmp_path, {"first": {"scale": 2.0}}, TOYS)
    entries = (
        Exclusion(series="TS_01", angle=-6.02, acquisition=3, reason='a "crack"'),
        Exclusion(series="TS_02", angle=3.0),
    )
    Plan.load(tmp_path, TOYS).with_exclusions(entries)
    plan = Plan.load(tmp_path, TOYS)
    assert plan.exclusions == entries
    assert plan.params("first").scale == 2.0
    plan.save("first", {"delay": 1.0})
    assert Plan.load(tmp_path, TOYS).exclusions == entries
    plan.with_exclusions(())
    assert Plan.load(tmp_path, TOYS).exclusions == ()
    assert tomlkit.parse((tmp_path / "eucentric.toml").read_text())["plan_version"] == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[frist]\nscale = 1.0\n", r"has no table called `frist`. Did you mean `first`\?"),
        ("[first]\nscael = 1.0\n", r"has no setting called `scael`. Did you mean `scale`\?"),
        (
            "[first]\nscale = -1.0\n",
            r"`scale` is -1.0 in the table \[first\].*greater than 0 \(factor on every pixel\)",
        ),
        ("[first]\nscale = 'much'\n", r"`scale` is `much` in the table \[first\].*expected a number \(factor"),
        ("[first]\nscale = nan\n", r"expected a finite number"),
        ("[project]\nseed = 1.5\n", r"`seed` is 1.5 .*expected a whole number"),
        ("first = 3\n", r"`first` .*is a single value; expected a table"),
        ("[[exclude]]\nangle = 3.0\n", r"`series` is missing in the table \[\[exclude\]\]"),
    ],
)
def test_a_plan_that_does_not_fit_is_told_in_our_words(tmp_path, text, message):
    (tmp_path / "eucentric.toml").write_text(text)
    with pytest.raises(InputError, match=message) as told:
        Plan.load(tmp_path, TOYS)
    assert "pydantic" not in str(told.value)
    assert len(str(told.value).split(". ")) <= 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[first\n", "is not a TOML file"),
        ("plan_version = 2\n", "is a plan of version 2; this Eucentric reads version 1"),
    ],
)
def test_a_plan_that_cannot_be_read_is_told(tmp_path, text, message):
    (tmp_path / "eucentric.toml").write_text(text)
    with pytest.raises(FormatError, match=message):
        Plan.load(tmp_path, TOYS)


def test_rules_between_settings_are_told():
    class Window(Frozen):
        low: float = Field(default=1.0, description="start")
        high: float = Field(default=2.0, description="end")

        @model_validator(mode="after")
        def _ordered(self):
            if self.low >= self.high:
                raise ValueError("low must be less than high")
            return self

    with pytest.raises(ValidationError) as raised:
        Window(low=3.0)
    told = str(explain_validation_error(raised.value, Window, "the plan"))
    assert told == "The settings in the plan do not fit together: low must be less than high."


def test_unknown_values_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match="no table called `thrid`"):
        Plan.write_default(tmp_path, {"thrid": {}}, TOYS)
    with pytest.raises(InputError, match="no setting called `scal`"):
        Plan.write_default(tmp_path, {"first": {"scal": 1}}, TOYS)
    assert not (tmp_path / "eucentric.toml").exists()
