"""`eucentric plan-tilts`: what it writes is read by the programs it is for, and by our own importer and simulator."""

import json
import re

import numpy as np
import pytest
from matplotlib.image import imread
from numpy.testing import assert_allclose

from eucentric.cli.main import run
from eucentric.io.acquisition_files import pacetomo_settings, serialem_dialog
from eucentric.io.mdoc import read_mdoc
from eucentric.io.plan_files import read_plan
from eucentric.models import TiltScheme


def planned(tmp_path, capsys, *options):
    code = run(["plan-tilts", str(tmp_path / "plan"), *options, "--json"])
    lines = capsys.readouterr().out.strip().splitlines()
    return code, lines, tmp_path / "plan"


def script_arrays(text):
    """Arrays of a SerialEM script, as its help says that they are read."""
    arrays = {}
    for name, values in re.findall(r"^(\w+) = \{(.*)\}$", text, flags=re.MULTILINE):
        words = values.split()
        assert len(words) < 55
        before = arrays[name] if words[0] == f"${name}" else []
        arrays[name] = before + [float(w) for w in words if not w.startswith("$")]
    return arrays


def test_all_files_hold_the_same_scheme(tmp_path, capsys):
    code, lines, folder = planned(
        tmp_path, capsys, "--goal", "membranes", "--thickness-angstrom", "1500", "--pretilt-deg", "9", "--dose-split", "even",
        "--tilt-axis-deg", "84", "--image-size-px", "4092", "5760", "--defocus-angstrom", "30000", "--frames", "8", "--step-deg", "3",
    )  # fmt: skip
    assert code == 0
    said = json.loads(lines[-1])
    plan = read_plan(folder / "plan.toml")
    assert plan.scheme == TiltScheme.model_validate(said["scheme"])
    assert plan.scheme.start_deg == -9.0
    assert plan.microscope.image_size_px == (4092, 5760)
    assert plan.specimen.pretilt_deg == 9.0
    angles, doses = plan.scheme.angles_in_order(), plan.scheme.doses_in_order()
    assert_allclose(np.loadtxt(folder / "angles.txt"), angles)
    arrays = script_arrays((folder / "serialem_script.txt").read_text())
    assert_allclose(arrays["angles"], angles)
    assert_allclose(np.array(arrays["times"]) * 3.0, doses, atol=0.002)
    mdoc = read_mdoc(folder / "template.mdoc")
    assert_allclose([s.tilt_angle_deg for s in mdoc.sections], angles)
    assert_allclose([s.prior_record_dose for s in mdoc.sections], np.cumsum(doses) - doses, atol=1e-6)
    assert mdoc.tilt_axis_angle_deg == 84.0
    assert mdoc.scheme == {"dosym": -9.0}
    assert {s.target_defocus_um for s in mdoc.sections} == {-3.0}
    text = (folder / "serialem_dialog.txt").read_text()
    assert f"Tilt to: {plan.scheme.max_deg:g}" in text
    assert f"Initial group size: {plan.scheme.group_size}" in text
    assert "from: on, -9" in text
    pace = dict(
        line.removeprefix("_set ").split(" = ") for line in (folder / "pacetomo_settings.txt").read_text().splitlines()
    )
    assert float(pace["startTilt"]) == -9
    assert float(pace["maxTilt"]) == plan.scheme.max_deg
    assert float(pace["pretilt"]) == 9
    picture = np.asarray(imread(folder / "plan.png"))
    assert picture.shape[0] > 500
    assert picture[..., :3].std() > 0.05
    words = (folder / "plan.md").read_text()
    assert all(line in words for line in lines[:-2])
    assert words.count("\n| ") == len(angles) + 1


def test_a_scheme_as_given_is_compared_with_the_best(tmp_path, capsys):
    code, lines, folder = planned(
        tmp_path, capsys, "--as-given", "--order", "continuous", "--total-dose", "100", "--dual-axis"
    )
    assert code == 0
    assert read_plan(folder / "plan.toml").scheme.order == "continuous"
    assert "as given" in lines[0]
    assert "would show" in lines[1]
    first, second = np.loadtxt(folder / "angles_axis1.txt"), np.loadtxt(folder / "angles_axis2.txt")
    assert_allclose(first, second)
    later = read_mdoc(folder / "template_axis2.mdoc").sections[0]
    assert later.prior_record_dose == pytest.approx(50.0)
    assert read_plan(folder / "plan.toml").scheme.total_dose == pytest.approx(50.0)


def test_a_second_axis_does_not_see_the_pretilt(tmp_path, capsys):
    code, lines, folder = planned(
        tmp_path, capsys, "--dual-axis", "--pretilt-deg", "12", "--goal", "membranes", "--thickness-angstrom", "2000"
    )
    assert code == 0
    first, second = np.loadtxt(folder / "angles_axis1.txt"), np.loadtxt(folder / "angles_axis2.txt")
    assert (first[0], second[0]) == (-12.0, 0.0)
    assert_allclose(second.min(), -second.max())
    assert read_plan(folder / "plan_axis2.toml").specimen.pretilt_deg is None
    assert json.loads(lines[-1])["expected"]["least_dose_per_image"] >= 1.999


def test_tomography_5_is_told_the_dose_of_every_image(tmp_path, capsys):
    _, _, folder = planned(tmp_path, capsys, "--as-given", "--dose-split", "inverse-cosine", "--start-dose", "20")
    doses = read_plan(folder / "plan.toml").scheme.doses_in_order()
    (line,) = [x for x in (folder / "tomography5.txt").read_text().splitlines() if x.startswith("Dose for each image")]
    assert [float(x) for x in re.findall(r"\d+\.\d\d", line)] == pytest.approx(
        [doses[1:].min(), doses[1:].max(), 20.0], abs=0.006
    )


def test_targets_nearer_to_focus_than_usual_stay_there(tmp_path, capsys):
    options = ["--as-given", "--defocus-angstrom", "1000", "--defocus-spread-angstrom"]
    for spread, settings in (("0", (-0.1, -0.1)), ("500", (-0.1, -0.19))):
        _, _, folder = planned(tmp_path, capsys, *options, spread, "--overwrite")
        pace = (folder / "pacetomo_settings.txt").read_text()
        found = [float(x) for x in re.findall(r"(?:min|max)Defocus = (\S+)", pace)]
        assert found == pytest.approx(settings)
        assert f"Defocus: {settings[0]:g} to {settings[1]:g} um" in (folder / "tomography5.txt").read_text()


def test_sides_are_not_said_to_go_farther_than_they_do(tmp_path, capsys):
    """The search leaves out what adds nothing, so a side may end before the stage does."""
    _, lines, folder = planned(tmp_path, capsys, "--pretilt-deg", "9.5")
    assert read_plan(folder / "plan.toml").scheme.max_deg < 60
    assert any("faces the beam" in line for line in lines)
    assert not any("as far" in line for line in lines)


def test_little_dose_is_spent_on_few_images(tmp_path, capsys):
    code, lines, folder = planned(tmp_path, capsys, "--max-total-dose", "40")
    assert code == 0
    assert read_plan(folder / "plan.toml").scheme.step_deg >= 4.0
    assert any("below the 2" in line for line in lines)


def test_a_continuous_series_starts_at_an_end(tmp_path, capsys):
    options = ["--as-given", "--order", "continuous", "--step-deg", "7"]
    for start, angles in (("60", (60, -59)), ("-60", (-60, 59))):
        code, lines, folder = planned(tmp_path, capsys, *options, "--start-deg", start, "--overwrite")
        assert code == 0
        written = np.loadtxt(folder / "angles.txt")
        assert (written[0], written[-1]) == angles
        assert f"continuous from {start}" in lines[0]
        assert f"Start at: {start}" in (folder / "serialem_dialog.txt").read_text()
        assert f"Start angle: {start}" in (folder / "tomography5.txt").read_text()


def test_each_side_is_aligned_to_itself(tmp_path, capsys):
    """The script played: the image that each is aligned to is the nearest one taken before on its side of the start."""
    code, _, folder = planned(
        tmp_path, capsys, "--step-deg", "3", "--as-given", "--start-deg", "-9", "--group-size", "2"
    )
    assert code == 0
    text = (folder / "serialem_script.txt").read_text()
    angles = script_arrays(text)["angles"]
    body = text[text.index("Loop") : text.index("EndLoop")]
    sides = re.search(
        r"ElseIf \$angles\[\$ind\] > \$angles\[1\]\n *AlignTo (\w)\n *Copy A (\w)\n *Else\n *AlignTo (\w)\n *Copy A (\w)",
        body,
    )
    assert sides is not None
    up, up_kept, down, down_kept = sides.groups()
    assert (up, down) == (up_kept, down_kept)
    assert re.search(rf"If \$ind == 1\n *Copy A {up}\n *Copy A {down}\n", body)
    buffers = {up: angles[0], down: angles[0]}
    for number, angle in enumerate(angles[1:], 1):
        buffer = up if angle > angles[0] else down
        assert abs(buffers[buffer] - angle) == pytest.approx(min(abs(angle - a) for a in angles[:number]))
        buffers[buffer] = angle


def test_nothing_of_an_older_plan_stays(tmp_path, capsys):
    planned(tmp_path, capsys)
    assert (tmp_path / "plan" / "serialem_dialog.txt").exists()
    code, _, folder = planned(tmp_path, capsys, "--overwrite", "--as-given", "--start-dose", "15")
    assert code == 0
    assert not (folder / "serialem_dialog.txt").exists()
    assert "serialem_dialog" not in (folder / "plan.md").read_text()
    frames = [s.frame_count for s in read_mdoc(folder / "template.mdoc").sections]
    assert frames[0] > 4 * frames[1]


def test_a_single_exposure_is_a_script_of_frames(tmp_path, capsys):
    code, lines, folder = planned(tmp_path, capsys, "--single-exposure", "--particles", "5000")
    assert code == 0
    text = (folder / "serialem_script.txt").read_text()
    steps = np.array(script_arrays(text)["steps"]).reshape(-1, 3)
    assert_allclose(steps[:, 0], np.loadtxt(folder / "angles.txt"))
    assert "FrameSeriesFromVar steps 7" in text
    assert {p.name for p in folder.iterdir()} == {
        "plan.toml",
        "plan.md",
        "plan.png",
        "angles.txt",
        "serialem_script.txt",
    }
    assert any("5,000 particles reach" in line for line in lines)
    turns = np.sum(np.diff(np.sign(np.diff(steps[:, 0]))) != 0)
    seconds = steps[:, 1:].sum() + 4.0 * turns + np.abs(np.diff(steps[:, 0])).sum() / 3.0
    assert json.loads(lines[-1])["expected"]["minutes"] == pytest.approx(seconds / 60, rel=0.01)


def test_dialogs_of_all_orders():
    bidirectional = serialem_dialog(
        TiltScheme(order="bidirectional", first_side="negative", start_deg=-21.0), exposure_s=1.0
    )
    assert bidirectional is not None
    assert "Tilt to: -60" in bidirectional
    assert "End at: 60" in bidirectional
    assert "scheme: off" in bidirectional
    down = serialem_dialog(
        TiltScheme(order="continuous", first_side="negative", dose_split="inverse-cosine"), exposure_s=1.0
    )
    assert down is not None
    assert "Start at: 60" in down
    assert "1/cos" in down
    assert serialem_dialog(TiltScheme(start_dose=12.0), exposure_s=1.0) is None
    hybrid = pacetomo_settings(TiltScheme(start_dose=12.0), defocus_um=(-2, -5, 0.5), exposure_s=4.0, pretilt_deg=0.0)
    assert "_set zeroExpTime = 4\n" in hybrid


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--total-dose", "0"], "total"),
        (["--goal", "cell"], "thickness"),
        (["--as-given", "--max-deg", "75"], "75 degrees; the stage goes to 66"),
        (["--as-given", "--start-deg", "70"], "start_deg lies outside"),
        (["--start-deg", "70"], "No scheme fits"),
        (["--frames", "0"], "--frames"),
        (["--pixel-size-angstrom", "5"], "two pixels"),
        (["--as-given", "--min-deg", "0", "--max-deg", "0"], "one image"),
        (["--resolution-angstrom", "0.5"], "resolution"),
        (["--as-given", "--total-dose", "1e300"], "at most 100000"),
        (["--seconds-per-image", "1e308"], "--seconds-per-image"),
        (["--stage-deg-per-s", "1e-320"], "--stage-deg-per-s"),
        (["--particle-kda", "1e300"], "--particle-kda"),
    ],
)
def test_what_cannot_be_planned_is_said(tmp_path, capsys, options, words):
    assert run(["plan-tilts", str(tmp_path / "plan"), *options]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "plan").exists()


def test_a_plan_is_not_replaced_unasked(tmp_path, capsys):
    assert planned(tmp_path, capsys)[0] == 0
    before = (tmp_path / "plan" / "plan.toml").read_text()
    assert run(["plan-tilts", str(tmp_path / "plan"), "--step-deg", "4"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (tmp_path / "plan" / "plan.toml").read_text() == before
    assert planned(tmp_path, capsys, "--step-deg", "4", "--overwrite")[0] == 0
    assert read_plan(tmp_path / "plan" / "plan.toml").scheme.step_deg == 4.0
