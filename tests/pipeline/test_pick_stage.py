"""Picking as a stage: balls in noise, tomograms that cannot be searched, resume, names side by side, the page of the report."""

import csv
import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from eucentric.cli.main import run
from eucentric.io.mrc import write_mrc
from eucentric.io.particles import read_particles
from eucentric.io.tilt_series import write_tilt_series_set
from eucentric.models.settings import Frozen
from eucentric.models.tilt_series import CtfFit, Tilt, TiltPose, TiltSeries, Tomogram
from eucentric.pipeline.plan import Plan, all_stages
from eucentric.pipeline.records import COLLECTIVE, read_records
from eucentric.pipeline.runner import run_project
from eucentric.pipeline.search_tomogram import TomogramJob
from eucentric.pipeline.stage import ItemStage, Outcome
from eucentric.pipeline.stages.pick import PickTemplates
from eucentric.pipeline.stages.report import WriteReport
from eucentric.pipeline.steps import project_steps
from eucentric.pipeline.store import StageStore
from eucentric.reconstruction.params import ReconstructParams
from eucentric.report.params import ReportParams

SHAPE, VOXEL, DIAMETER = (26, 48, 48), 14.0, 112.0
# chance alone passes the cut-off from the number of comparisons once, so that these are stricter
SEARCH = ("--coarse-voxel-angstrom", "14", "--least-score", "8", "--edge-angstrom", "0")
ALONE = ("--workers", "1", "--device", "cpu")
ANGLES = np.arange(-60.0, 61.0, 6.0)


def places():
    """(ball, 3) x, y, z voxels, well apart and in no order."""
    rows = [(11, 9, 8), (26, 12, 17), (39, 8, 9), (9, 27, 18), (22, 29, 9), (38, 24, 18), (13, 41, 10), (30, 40, 16)]
    return np.array(rows, dtype=float)


def density(centres, noise):
    grid = np.indices(SHAPE)[::-1]  # x, y, z
    volume = np.random.default_rng(1).normal(scale=noise, size=SHAPE)
    for centre in centres:
        distance = np.sqrt(sum((axis - c) ** 2 for axis, c in zip(grid, centre, strict=True)))
        volume -= 1.0 / (1.0 + np.exp(2.0 * (distance - 0.5 * DIAMETER / VOXEL)))
    return volume.astype(np.float32)


def series_of(root, name, volume, tilts=ANGLES):
    path = root / "reconstruct" / "tomograms" / f"{name}.mrc"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_mrc(path, volume, VOXEL, "float32")
    entries = [
        Tilt(nominal_tilt_deg=a, acquisition=i, dose=0.0, pre_exposure=0.0, pose=TiltPose(y_tilt_deg=a, z_rot_deg=0.0))
        for i, a in enumerate(tilts)
    ]
    tomogram = Tomogram(
        path=f"reconstruct/tomograms/{name}.mrc", voxel_size_angstrom=VOXEL, shape_zyx=tuple(volume.shape)
    )
    return TiltSeries(
        name=name, pixel_size_angstrom=VOXEL, image_shape=SHAPE[1:], tilts=tuple(entries), tomogram=tomogram
    )


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A project of four tomograms: balls, noise alone, numbers that are none, and one without tilts; searched once."""
    root = tmp_path_factory.mktemp("picked") / "project"
    every = [
        series_of(root, "balls", density(places(), 0.3)),
        series_of(root, "noise", density([], 0.3)),
        series_of(root, "holes", density([], 0.3)),
        series_of(root, "bare", density(places(), 0.3), tilts=()),
    ]
    holes = root / every[2].tomogram.path
    holes.write_bytes(holes.read_bytes()[:-4] + np.float32(np.nan).tobytes())  # as no writer of ours would
    for stage in ("import", "reconstruct"):
        write_tilt_series_set(root / stage / "tilt_series.star", every, root)
    Plan.write_default(root)
    assert run(["pick", str(root), "--template", f"sphere:{DIAMETER:g}", *SEARCH, *ALONE]) == 1
    return root


def pick(root, *words):
    return run(["pick", str(root), *words, *ALONE])


def test_balls_are_found_and_tomograms_that_cannot_be_searched_do_not_stop_the_others(searched):
    picks = read_particles(searched / "pick" / "sphere_112" / "particles.star")
    assert set(picks.tomograms) == {"balls"}
    truth = (places() - np.array(SHAPE)[::-1] // 2) * VOXEL
    distance = np.linalg.norm(picks.positions_angstrom[:, None] - truth, axis=-1)
    assert len(picks) == len(truth) == len(np.unique(distance.argmin(1)))
    assert distance.min(1).max() < 0.5 * VOXEL
    records = read_records(searched / "pick" / "sphere_112")
    assert {n: r.outcome for n, r in records.items()} == {
        "balls": "done",
        "noise": "done",
        "holes": "failed",
        "bare": "failed",
    }
    assert "values that are not numbers (1 of its voxels)" in records["holes"].message
    assert "--tilts -60 60" in records["bare"].message
    assert "Nothing was found in noise" in " ".join(records["noise"].caveats)
    assert "Picks of sphere_112 have no q-value" in " ".join(records["balls"].caveats)
    assert "eucQValue" not in picks.columns
    assert records["balls"].metrics["picks"] == len(truth)
    assert records["noise"].metrics["picks"] == 0
    volume = np.prod(SHAPE) * VOXEL**3 / 1e12
    assert records["balls"].metrics["searched_volume_um3"] == pytest.approx(volume, rel=0.3)
    with (searched / "pick" / "sphere_112" / "counts.csv").open() as file:
        counts = {row["tomogram"]: int(row["picks"]) for row in csv.DictReader(file)}
    assert counts == {"balls": len(truth), "noise": 0}


def test_what_is_kept_is_small_and_whole(searched):
    with np.load(searched / "pick/sphere_112/candidates/balls.npz") as kept:
        assert kept["kept"].sum() == len(places())
        assert len(kept["score"]) == len(kept["position_angstrom"]) == len(kept["rotation"]) == len(kept["template"])
        assert len(kept["decoy_score"]) == len(kept["decoy_template"]) == 0
    for folder in ("candidates", "pictures"):
        assert (searched / "pick/sphere_112" / folder / "balls.npz").stat().st_size < 4 * np.prod(SHAPE)
    assert not (searched / "pick/sphere_112/scores").exists()


def test_the_choice_is_in_the_plan_and_done_tomograms_are_passed_over(searched, capsys):
    plan = Plan.load(searched)
    assert plan.params("pick").templates == ("sphere:112",)
    assert [s.folder for s in project_steps(searched, plan)][-2:] == ["pick/sphere_112", "report"]
    assert pick(searched, "--only", "balls", "noise", "--json") == 0  # the templates are those of the plan
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["stages"]["pick"] == {"processed": 0, "unchanged": 2, "failed": 0, "seconds": 0.0}
    assert told["counts"] == {"balls": len(places()), "noise": 0}
    assert run(["status", str(searched)]) == 1  # two failed
    told = capsys.readouterr().out
    assert re.search(r"balls .* outdated", told)  # by tables that no stage of ours made
    assert re.search(r"holes .* failed", told)


def test_other_templates_stand_beside_and_a_changed_template_is_searched_anew(searched, tmp_path, capsys):
    line = np.arange(24) - 12.0
    ball = (np.sqrt(line[:, None, None] ** 2 + line[:, None] ** 2 + line**2) < 0.5 * DIAMETER / 7.0).astype(np.float32)
    template = tmp_path / "ball.mrc"
    write_mrc(template, ball, 7.0)
    words = (
        "--template",
        str(template),
        "--only",
        "balls",
        *SEARCH,
        "--decoys",
        "none",  # a ball that is scrambled is still round
        "--coarse-step-deg",
        "30",
        "--fine-step-deg",
        "30",
    )
    assert pick(searched, *words) == 0
    assert "picking/" not in capsys.readouterr().out
    assert len(read_particles(searched / "pick" / "ball" / "particles.star")) >= len(places()) - 2
    assert Plan.load(searched).params("pick").templates == ("sphere:112",)
    template.write_bytes(template.read_bytes()[:3000])
    assert pick(searched, *words) == 1
    told = capsys.readouterr().out
    assert "FAILED balls, pick" in told
    assert "ball.mrc" in told
    write_mrc(template, -ball, 7.0)
    assert pick(searched, *words) == 1
    assert "dark protein" in capsys.readouterr().out
    write_mrc(template, ball, 7.0)
    assert pick(searched, *words, "--template-pixel-size", "70") == 1
    assert "Check the pixel size of the template" in capsys.readouterr().out
    assert pick(searched, *words, "--template-pixel-size", "2") == 1
    assert "Check its pixel size" in capsys.readouterr().out


def test_a_wedge_by_hand_is_said_to_be_one(searched, capsys):
    words = ("--template", "sphere:112", "--name", "wedge", "--tilts", "-60", "60", "--only", "bare", *SEARCH)
    assert pick(searched, *words) == 0
    assert "given by hand (-60 to 60 degrees about y)" in capsys.readouterr().out
    assert len(read_particles(searched / "pick" / "wedge" / "particles.star")) == len(places())


@pytest.mark.parametrize(
    ("settings", "has_ctf", "correction", "weighted"),
    [
        ({"purpose": "picking"}, True, "wiener", True),
        ({"purpose": "picking"}, False, "none", True),
        ({"purpose": "averaging", "dose_weighting": False}, True, "flip", False),
        ({"method": "wbp"}, True, "none", True),
        ({"method": "wbp", "ctf_correction": "multiply"}, True, "flip", True),
        (None, True, "none", False),
    ],
)
def test_templates_are_weighted_as_the_tomogram_was_made(tmp_path, settings, has_ctf, correction, weighted):
    """Also of series without halves, whose purpose alone tells the method."""
    series = series_of(tmp_path, "one", density([], 1.0))
    if has_ctf:
        fit = CtfFit(defocus_u_angstrom=30000.0, defocus_v_angstrom=30000.0)
        series = series.replace(tilts=tuple(replace(t, ctf=fit) for t in series.tilts))
    assert series.has_ctf == has_ctf
    assert not series.has_halves
    if settings is not None:
        record = tmp_path / "reconstruct" / "records" / "one.json"
        record.parent.mkdir()
        values = json.loads(ReconstructParams(**settings).model_dump_json())
        record.write_text(json.dumps({"parameters": values}))
    job = TomogramJob.of_series(series, tmp_path)
    assert (job.correction, job.dose_weighting) == (correction, weighted)


def test_masks_for_each_tomogram(searched, tmp_path, capsys):
    left = np.zeros(SHAPE, dtype=np.float32)
    write_mrc(tmp_path / "noise.mrc", left, VOXEL)
    left[..., :24] = 1.0
    write_mrc(tmp_path / "balls.mrc", left, VOXEL)
    words = ("--template", "sphere:112", "--name", "half", "--mask", str(tmp_path), *SEARCH, "--only", "balls", "noise")
    assert pick(searched, *words) == 1
    assert "is empty" in capsys.readouterr().out
    found = read_particles(searched / "pick" / "half" / "particles.star")
    assert 0 < len(found) < len(places())
    assert found.positions_angstrom[:, 0].max() <= 0.5 * VOXEL


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--template", "none.pdb"), "does not exist"),
        (("--template", "sphere:112", "--seed", "3"), "--seed is for one tomogram"),
        (("--template", "sphere:112", "--name", "a/b"), "name"),
    ],
)
def test_wrong_input_is_told_before_anything_is_done(searched, capsys, words, told):
    assert pick(searched, *words) == 2
    assert told in capsys.readouterr().err


def test_without_a_template_a_run_does_not_pick(searched, tmp_path, capsys):
    Plan.write_default(tmp_path)
    plan = Plan.load(tmp_path)
    assert "pick" not in [s.stage.name for s in project_steps(tmp_path, plan)]
    assert "pick" in [s.name for s in all_stages()]
    write_tilt_series_set(tmp_path / "import/tilt_series.star", [series_of(tmp_path, "x", density([], 1.0))], tmp_path)
    assert run(["run", str(tmp_path), "--until", "pick", *ALONE]) == 2
    assert "--template FILE" in capsys.readouterr().err


class Given(ItemStage):
    """Stands for all that makes tomograms."""

    name, params, version, after = "reconstruct", Frozen, 1, "import"

    def run(self, series, params, store, device):
        return Outcome(series=series)


def test_a_run_picks_once_templates_are_chosen_and_again_when_they_change(searched, tmp_path):
    shutil.copytree(searched / "reconstruct" / "tomograms", tmp_path / "reconstruct" / "tomograms")
    shutil.copytree(searched / "import", tmp_path / "import")
    stages = (Given, PickTemplates)

    def tallies(**chosen):
        Plan.write_default(tmp_path, {"pick": chosen}, stages)
        summary = run_project(tmp_path, only=["balls"], stages=stages, workers=1, device="cpu")
        tally = summary.stages.get("pick")
        return None if tally is None else (tally.processed, tally.unchanged)

    settings = {"least_score": 8.0, "coarse_voxel_angstrom": 14.0, "name": "b"}
    assert tallies(**settings) is None
    assert not (tmp_path / "pick").exists()
    assert tallies(templates=["sphere:112"], **settings) == (1, 0)
    assert len(read_particles(tmp_path / "pick" / "b" / "particles.star")) > 0
    assert tallies(templates=["sphere:112"], **settings) == (0, 1)
    assert tallies(templates=["sphere:126"], **settings) == (1, 0)


def blob_project(tmp_path):
    series = series_of(tmp_path, "balls", density(places(), 0.3))
    for stage in ("import", "reconstruct"):
        write_tilt_series_set(tmp_path / stage / "tilt_series.star", [series], tmp_path)
    Plan.write_default(tmp_path)
    words = ["pick-blobs", str(tmp_path), "--diameter", "112", "--edge", "0", "--contamination-ratio", "50"]
    assert run([*words, "--max-q-value", "0.2"]) == 0
    return words


def test_the_page_shows_picks_without_a_template_and_those_that_gave_their_q_values(tmp_path):
    words = blob_project(tmp_path)
    store = StageStore(tmp_path, "report", COLLECTIVE)
    assert WriteReport().run([], ReportParams(dots_per_inch=30), store, None, None).caveats == ()
    picks = read_particles(tmp_path / "pick" / "blobs" / "particles.star")
    with np.load(tmp_path / "pick/blobs/candidates/balls.npz") as kept:
        assert kept["kept"].sum() == len(picks)
        np.testing.assert_allclose(kept["position_angstrom"][kept["kept"]], picks.positions_angstrom, atol=0.01)
        faint = kept["score"].min() < kept["score"][kept["kept"]].min()
        assert faint
        assert len(kept["decoy_score"]) > 0
    page = (tmp_path / "report" / "balls.html").read_text(encoding="utf-8")
    section = page.partition("<h2>Picks of blobs</h2>")[2].partition("<h2>")[0]
    assert f"<td>blobs</td><td>{len(picks)}</td>" in section
    shown = re.findall(r'alt="([^"]+)"', section)
    assert {"Picks in the tomogram", "Scores of picks and blobs of the other contrast"} <= set(shown)
    assert sum(words.startswith("best of") for words in shown) == min(8, len(picks))
    assert not any("decoys" in words or words.startswith("Template") for words in shown)
    index = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "difference of Gaussians" in index
    assert "template matching" not in index
    before = WriteReport.also_reads(tmp_path)
    assert run([*words, "--overwrite"]) == 0
    assert WriteReport.also_reads(tmp_path) != before


def test_picks_of_templates_are_not_mixed_with_others(tmp_path, capsys):
    words = blob_project(tmp_path)
    (tmp_path / "pick" / "matched" / "records").mkdir(parents=True)
    assert run([*words, "--name", "matched"]) == 2
    assert "Give another --name" in capsys.readouterr().err
    assert not (tmp_path / "pick" / "matched" / "particles.star").exists()


def test_the_page_shows_picks_and_what_failed(searched):
    store = StageStore(searched, "report", COLLECTIVE)
    outcome = WriteReport().run([], ReportParams(dots_per_inch=30), store, None, None)
    assert outcome.caveats == ()
    page = (searched / "report" / "balls.html").read_text(encoding="utf-8")
    section = page.partition("<h2>Picks of sphere_112</h2>")[2].partition("<h2>")[0]
    assert f"<td>sphere_112</td><td>{len(places())}</td>" in section
    shown = re.findall(r'alt="([^"]+)"', section)
    assert {"Picks in the tomogram", "Scores of picks and decoys", "Scores of sphere_112"} <= set(shown)
    assert sum(words.startswith("best of") for words in shown) == len(places())
    assert "Views of the particles" not in shown  # a ball looks the same from all sides
    empty = (searched / "report" / "noise.html").read_text(encoding="utf-8")
    assert "nothing was picked" in empty
    failed = (searched / "report" / "holes.html").read_text(encoding="utf-8")
    assert "not numbers" in failed
    index = (searched / "report" / "index.html").read_text(encoding="utf-8")
    assert "template matching" in index
    assert "pick density (1/µm³)" in index
