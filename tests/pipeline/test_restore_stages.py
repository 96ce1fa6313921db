"""Denoising and wedge filling as stages of a project: when they run, what depends on them, and what the report says."""

import html
import json
import re

import numpy as np
import pytest

from eucentric.io.mrc import write_mrc
from eucentric.io.tilt_series import read_tilt_series_set, write_tilt_series_set
from eucentric.models.settings import Frozen
from eucentric.models.tilt_series import Tilt, TiltPose, TiltSeries, Tomogram
from eucentric.pipeline.plan import Plan, all_stages
from eucentric.pipeline.records import read_record
from eucentric.pipeline.runner import run_project, run_stage
from eucentric.pipeline.stage import ItemStage, Outcome
from eucentric.pipeline.stages.denoise import DenoiseTomograms
from eucentric.pipeline.stages.fill_wedge import FillWedge
from eucentric.pipeline.stages.report import WriteReport
from eucentric.pipeline.status import project_status
from eucentric.pipeline.steps import project_steps

SIDE, VOXEL, NAMES = 32, 9.0, ("TS_01", "TS_02")


class Given(ItemStage):
    """Stands for all that makes tomograms: copies those of a folder."""

    name, params, version, after = "reconstruct", Frozen, 1, "import"

    def reads(self, series, params, root):
        return tuple(root / "made" / f"{series}{end}.mrc" for end in ("", "_half1", "_half2"))

    def run(self, series, params, store, device):
        paths = []
        for made in self.reads(series.name, params, store.root):
            paths.append(store.output("tomograms", made.name))
            paths[-1].write_bytes(made.read_bytes())
        whole, half1, half2 = (store.relative(path) for path in paths)
        shape = (SIDE, SIDE, SIDE)
        tomogram = Tomogram(path=whole, voxel_size_angstrom=VOXEL, shape_zyx=shape, half1=half1, half2=half2)
        return Outcome(series=series.replace(tomogram=tomogram))


class After(ItemStage):
    """Reads tomograms as picking does."""

    name, params, version, after = "after", Frozen, 1, "reconstruct"

    def run(self, series, params, store, device):
        store.output("read", f"{series.name}.txt").write_text(series.tomogram.path)
        return Outcome(series=series)


STAGES = (Given, DenoiseTomograms, FillWedge, After, WriteReport)


def make_volumes(root, name, seed):
    """A shell and a ball in noise, and its halves."""
    generator = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(SIDE) - SIDE / 2] * 3, indexing="ij"))
    radius = np.sqrt((grid**2).sum(axis=0))
    clean = -2.5 * ((np.abs(radius - 10) < 1.5) | (radius < 3)).astype(np.float32)
    halves = [clean + generator.normal(scale=1.0, size=clean.shape).astype(np.float32) for _ in range(2)]
    (root / "made").mkdir(exist_ok=True)
    for end, volume in (("", halves[0] + halves[1]), ("_half1", halves[0]), ("_half2", halves[1])):
        write_mrc(root / "made" / f"{name}{end}.mrc", volume, VOXEL, "float32")


@pytest.fixture
def place(tmp_path):
    """A project of two series."""
    every = []
    for number, name in enumerate(NAMES):
        tilts = [
            Tilt(
                nominal_tilt_deg=a,
                acquisition=i,
                dose=3.0,
                pre_exposure=3.0 * i,
                pose=TiltPose(y_tilt_deg=a, z_rot_deg=0.0),
            )
            for i, a in enumerate(np.arange(-60.0, 61.0, 6.0).tolist())
        ]
        every.append(TiltSeries(name=name, pixel_size_angstrom=4.5, image_shape=(64, 64), tilts=tuple(tilts)))
        make_volumes(tmp_path, name, number)
    write_tilt_series_set(tmp_path / "import" / "tilt_series.star", every, tmp_path)
    Plan.write_default(tmp_path, {"report": {"dots_per_inch": 30, "layer_count": 1}}, STAGES)
    return tmp_path


def run_all(root, **options):
    return run_project(root, device="cpu", workers=1, stages=STAGES, **options)


def ask(root, stage, output=None, **changes):
    return run_stage(root, stage, changes, output, device="cpu", workers=1, stages=STAGES)


def states(root):
    found = project_status(root, stages=STAGES)
    assert [s.name for s in found.series] == list(NAMES)
    return found.series[0].states


def page_text(root, name):
    """What a page says, without its pictures."""
    page = (root / "report" / f"{name}.html").read_text(encoding="utf-8")
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", re.sub(r'src="data:[^"]+"', "", page))).split())


def test_the_product_has_both_between_tomograms_and_picks(tmp_path):
    names = [stage.name for stage in all_stages()]
    assert names[names.index("reconstruct") :] == ["reconstruct", "denoise", "fill-wedge", "segment", "pick", "report"]
    assert {s.name: s.after for s in all_stages()}["pick"] == "reconstruct"
    Plan.write_default(tmp_path)
    plan = (tmp_path / "eucentric.toml").read_text()
    for stage in ("denoise", "fill-wedge"):
        table = plan.partition(f"[{stage}]\n")[2].partition("\n[")[0]
        assert "# with_run = false\n" in table
        assert '# method = "network"\n' in table
        assert stage not in [s.stage.name for s in project_steps(tmp_path, Plan.load(tmp_path))]


def test_a_run_restores_only_where_the_plan_says_so(place):
    first = run_all(place)
    assert list(first.stages) == ["reconstruct", "after", "report"]
    assert states(place) == {"reconstruct": "done", "after": "done"}
    assert not (place / "denoise").exists()
    Plan.load(place, STAGES).save("denoise", {"with_run": True, "method": "median"})
    second = run_all(place)
    assert second.stages["denoise"].processed == 2
    assert [second.stages[s].processed for s in ("reconstruct", "after")] == [0, 0]
    assert "fill-wedge" not in second.stages
    assert (place / "after" / "read" / "TS_01.txt").read_text() == "reconstruct/tomograms/TS_01.mrc"
    # whether a run includes it is no part of what it gives
    Plan.load(place, STAGES).save("denoise", {"with_run": False})
    assert states(place) == {"reconstruct": "done", "denoise": "done", "after": "done"}
    assert "denoise" not in run_all(place).stages
    assert ask(place, "denoise").stages["denoise"].unchanged == 2
    assert not project_status(place, stages=STAGES).changes


def test_asked_for_by_name_it_needs_no_setting_and_nothing_waits_for_it(place):
    assert run_all(place, until="denoise", changes={"denoise": {"method": "median"}}).stages["denoise"].processed == 2
    assert not (place / "after").exists()
    run_all(place)
    assert states(place)["denoise"] == "outdated"  # the plan still says network
    assert states(place)["after"] == "done"
    assert ask(place, "denoise", method="median").stages["denoise"].unchanged == 2
    assert Plan.load(place, STAGES).chosen["denoise"] == {"method": "median"}
    assert ask(place, "denoise", "gentle", method="median", median_passes=1).stages["denoise"].processed == 2
    assert Plan.load(place, STAGES).chosen["denoise"] == {"method": "median"}
    made = read_tilt_series_set(place / "gentle" / "tilt_series.star", place)
    assert [s.tomogram.path for s in made] == [f"gentle/tomograms/{n}.mrc" for n in NAMES]
    # another tomogram: what was made of the old one is outdated, and only that
    make_volumes(place, "TS_01", 7)
    run_all(place)
    assert states(place) == {"reconstruct": "done", "denoise": "outdated", "after": "done"}
    assert [ask(place, "denoise").stages["denoise"].processed, states(place)["denoise"]] == [1, "done"]


def test_a_tomogram_that_cannot_be_restored_goes_on_to_what_reads_it_raw(place):
    (place / "made" / "TS_01_half2.mrc").write_bytes((place / "made" / "TS_01_half1.mrc").read_bytes())
    plan = Plan.load(place, STAGES)
    plan.save("denoise", {"with_run": True, "method": "wavelet", "scales": 2})
    summary = run_all(place)
    assert [(f.stage, f.series) for f in summary.failures] == [("denoise", "TS_01")]
    assert summary.stages["after"].processed == 2
    assert summary.stages["report"].processed == 1
    assert states(place) == {"reconstruct": "done", "denoise": "failed", "after": "done"}
    text = page_text(place, "TS_01")
    assert "Nothing could be made of the tomogram." in text
    assert "identical" in text
    assert "Central slices" in text  # the raw tomogram is shown all the same
    assert "Raw and restored" in page_text(place, "TS_02")


def test_what_a_run_would_do_counts_only_what_it_does(place):
    run_all(place)
    ask(place, "denoise", method="median")
    make_volumes(place, "TS_01", 7)
    left = project_status(place, stages=STAGES).left
    assert "denoise" not in left.unmeasured
    assert "fill-wedge" not in left.unmeasured
    Plan.load(place, STAGES).save("fill-wedge", {"with_run": True})
    assert project_status(place, stages=STAGES).left.unmeasured == ("fill-wedge",)


def test_networks_restore_a_project_and_the_report_says_how_far_to_trust_them(place):
    assert run_all(place).exit_code == 0
    index = page_text(place, "index")
    assert "denoised" not in index
    for stage in ("denoise", "fill-wedge"):
        summary = run_stage(place, stage, {}, device="cpu", workers=1, stages=STAGES, only=["TS_01"])
        assert summary.stages[stage].processed == 1, summary.failures
    ask(place, "denoise", "smooth", method="gaussian", sigma_angstrom=12.0)
    assert run_all(place).stages["report"].processed == 1  # what was made since is shown
    assert run_all(place).stages["report"].unchanged == 1
    page = (place / "report" / "TS_01.html").read_text(encoding="utf-8")
    headings = re.findall(r"<h2>([^<]*)</h2>", page)
    sections = dict(zip(headings, re.findall(r"<section.*?</section>", page, re.DOTALL), strict=True))
    headings.remove("Stage and acquisition")
    assert headings[-3:] == ["Denoised", headings[-2], "Wedge filled"]
    assert headings[-2].startswith("Denoised in smooth (method gaussian")
    for heading in headings[-3:]:
        assert "particles are averaged from the raw data" in sections[heading]
        assert "Good: " in sections[heading]
        assert "bad: " in sections[heading]
    shown = {h: re.findall(r"<figcaption><b>([^<]*?)\.?</b>", sections[h]) for h in headings[-3:]}
    trusted = ["Raw and restored", "Agreement of halves", "Signal kept", "Shares of network and raw"]
    assert shown["Denoised"] == trusted
    assert shown[headings[-2]] == trusted[:1]
    assert shown["Wedge filled"] == [*trusted, "Invented part"]
    assert "σ: 1 sd of each voxel" in sections["Denoised"]
    assert "σ: 1 sd" not in sections[headings[-2]]
    caveats = [
        c for folder in ("denoise", "smooth", "fill-wedge") for c in read_record(place / folder, "TS_01").caveats
    ]
    assert any("raw data" in caveat for caveat in caveats)
    words = page_text(place, "TS_01")
    assert all(" ".join(caveat.split()) in words for caveat in caveats)
    index = (place / "report" / "index.html").read_text(encoding="utf-8")
    rows = {
        name: re.search(rf'<tr[^>]*>(?:(?!</tr>).)*"{name}.html".*?</tr>', index, re.DOTALL).group() for name in NAMES
    }
    assert f">{len(caveats)}</td>" in rows["TS_01"]
    methods = page_text(place, "index")
    assert "denoised by a 3D U-Net [" in methods
    assert "smoothed by a Gaussian" in methods
    assert "Çiçek" in index
    kept = json.loads((place / "report" / "metrics.json").read_text())["TS_01"]
    assert (
        kept["denoise"]["raw_agreement_angstrom"]
        == read_record(place / "denoise", "TS_01").metrics["raw_agreement_angstrom"]
    )


def test_restored_tomograms_that_are_gone_are_told_and_the_rest_is_shown(place):
    run_all(place)
    ask(place, "denoise", method="median")
    (place / "denoise" / "tomograms" / "TS_01.mrc").unlink()
    run_stage(place, "report", {}, device="cpu", workers=1, stages=STAGES, overwrite=True)
    text = page_text(place, "TS_01")
    assert "The tomogram in `denoise` is not shown" in text
    assert "Raw and restored" not in text
    assert "Raw and restored" in page_text(place, "TS_02")
