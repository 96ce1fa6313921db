"""What the report says of refinements, from a made-up folder of one: whole, unfinished, damaged."""

import json
import shutil

import numpy as np
import pytest
from matplotlib.quiver import Quiver

from eucentric.figures.refinement import (
    changes_by_tilt,
    displacement_fields,
    gains_of_groups,
    motion_through_dose,
    resolution_by_round,
    seen_until,
    signal_of_tilts,
)
from eucentric.geometry import Deformation, ImageWarp, VolumeWarp
from eucentric.io.star import write_star
from eucentric.models.tilt_series import Tilt, TiltPose, TiltSeries
from eucentric.pipeline.records import COLLECTIVE
from eucentric.pipeline.refine_report import read_refinement, refine_folders, refine_mark, refinement_settings
from eucentric.pipeline.refine_state import ALL_SERIES, write_refined_series
from eucentric.pipeline.stages.report import WriteReport
from eucentric.pipeline.store import StageStore
from eucentric.report import refined_series_sections, refinement_sections
from eucentric.report.content import Picture
from eucentric.report.methods import methods
from eucentric.report.params import ReportParams
from eucentric.report.refined_series_sections import refined_series_page
from eucentric.report.refinement_sections import group_label, refinement_facts, refinement_page, with_unit

PARAMS = ReportParams(dots_per_inch=30)
ANGLES = np.arange(-40.0, 41.0, 20.0)
TILTS = len(ANGLES)
EDGES = (1000.0, 1920.0, 2400.0)  # z, y, x of the specimen, A
KNOTS = np.array([0.0, 7.5, 15.0])
HISTORY = (
    {
        "number": 0,
        "accepted": True,
        "species": {"20S": {"resolution_angstrom": 10.4, "particles": 83}},
    },
    {
        "number": 1,
        "accepted": True,
        "areas": {"20S": [0.50, 0.55]},
        "species": {"20S": {"resolution_angstrom": 9.1, "particles": 83}},
        "series": {"TS_01": {"images": 410}, "TS_02": {"failure": "3 particles are too few."}},
    },
    {
        "number": 2,
        "accepted": False,
        "areas": {"20S": [0.55, 0.51]},
        "species": {"20S": {"resolution_angstrom": None, "particles": 83}},
        "series": {"TS_01": {"images": 409}, "TS_02": {"failure": "3 particles are too few."}},
    },
)


def trial(family, accepted, gain, name="", **more):
    values = {"family": family, "name": name or family, "unit": "A", "size": 1.0, "gain": gain, "sigma": 4.0}
    return {**values, "accepted": accepted, "rms": 0.5 if accepted else None, "median_sigma": 0.2, "reason": "", **more}


GROUPS = (
    trial("shifts", True, 90.0),
    trial("volume warp", True, 40.0, "volume warp 2 x 2 x 1 x 3"),
    trial("axis", False, 5.0, unit="degrees"),
    trial("angles", True, 30.0, unit="degrees"),
    trial("astigmatism", True, 9.0),
    trial("defocus by tilt", False, None, sigma=None, reason="no species resolves 20 A; the best has 25.0 A"),
    trial("weights", False, -7.0, unit="of the contrast"),
)


def kept(family, values, name=""):
    size = {"family": family, "name": name or family, "size": 1.0, "unit": "A"}
    return {**size, "total": list(values), "sigma": [0.1] * len(values)}


KEPT = (
    kept("shifts", np.linspace(-1.0, 1.0, 2 * TILTS)),
    kept("volume warp", np.zeros(36), "volume warp 2 x 2 x 1 x 3"),
    kept("angles", np.linspace(0.0, 0.1, 3 * TILTS)),
    kept("astigmatism", (120.0, -30.0)),
)
SHARED = {
    "kept": [kept("beam tilt", (0.4, -0.1))],
    "groups": [trial("beam tilt", True, 25.0, unit="mrad"), trial("trefoil", False, 1.0, unit="rad A^3")],
}
SERIES = {
    "TS_01": {"failure": None, "images": 409, "kept": KEPT, "groups": GROUPS},
    "TS_02": {"failure": "3 particles are too few.", "images": 0, "kept": [], "groups": []},
    ALL_SERIES: SHARED,
}
SPECIES = {
    "folder": "20S", "particles": 83, "resolution_before": 10.4, "resolution_after": 9.1, "area_before": 0.50,
    "area_after": 0.55, "moved_angstrom": 1.25, "turned_deg": 0.8,
}  # fmt: skip


def series(name, refined):
    tilts = tuple(
        Tilt(
            nominal_tilt_deg=float(a), acquisition=i, dose=3.0, pre_exposure=3.0 * i,
            pose=TiltPose(y_tilt_deg=float(a), z_rot_deg=85.0),
            signal_scale=1.0 + 0.1 * i * refined, b_factor_angstrom2=20.0 * i * refined,
        )
        for i, a in enumerate(ANGLES)
    )  # fmt: skip
    return TiltSeries(name=name, pixel_size_angstrom=10.0, image_shape=(192, 240), tilts=tilts)


def deformation(one, refined):
    """Images bent by 1 A along x in the second tilt by refinement, in all by 2 A before; a specimen that rises with dose."""
    bent = np.full((TILTS, 2, 2, 2), 2.0)
    bent[1, ..., 0] += refined
    image = ImageWarp.build(bent, one.image_shape, one.pixel_size_angstrom)
    if not refined:
        return Deformation(image=image)
    moved = np.zeros((3, 1, 2, 2, 3))
    moved[..., 2] = 0.2 * KNOTS[:, None, None, None]
    return Deformation(image=image, volume=VolumeWarp.build(moved + 5.0, KNOTS, EDGES))


def write_tables(folder, root, refined):
    every = [series(name, refined) for name in ("TS_01", "TS_02")]
    write_refined_series(folder, every, {s.name: deformation(s, refined and s.name == "TS_01") for s in every}, root)


def curve(path, half):
    frequency = np.linspace(0.0, 0.2, 21)
    value = 1.0 / (1.0 + np.exp((frequency - half) * 80.0))
    table = {"rlnResolution": frequency, "rlnFourierShellCorrelationCorrected": value}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_star(path, {"fsc": table})


def write_signal(folder):
    random = np.random.default_rng(2)
    contrast = np.exp(-np.outer(3.0 * np.arange(TILTS), np.linspace(0.0, 0.4, 10)))
    (folder / "signal").mkdir()
    np.savez(
        folder / "signal/TS_01.npz",
        frequency=np.linspace(0.0, 0.1, 10),
        contrast=contrast + 0.02 * random.normal(size=contrast.shape),
        sigma=np.full(contrast.shape, 0.02),
        tilt_deg=ANGLES,
        middle_dose=3.0 * np.arange(TILTS) + 1.5,
    )


@pytest.fixture
def project(tmp_path):
    """A project with one refinement, finished."""
    folder = tmp_path / "refine/all"
    for number in range(3):
        place = folder / f"rounds/{number:03d}"
        write_tables(place, tmp_path, refined=number > 0)
        curve(place / "fsc_20S.star", 0.10 if number == 0 else 0.11)
        memory = (
            {}
            if number == 0
            else {
                "TS_01": {"kept": KEPT, "trials": GROUPS},
                ALL_SERIES: {"kept": SHARED["kept"], "trials": SHARED["groups"]},
            }
        )
        state = {"fingerprint": "f", "number": number, "history": HISTORY[: number + 1], "memory": memory}
        (place / "state.json").write_text(json.dumps(state))
    write_tables(folder, tmp_path, refined=True)
    curve(folder / "20S/fsc.star", 0.11)
    write_signal(folder)
    record = {
        "version": "1", "parameters": {}, "table": "t.star", "history": HISTORY, "species": {"20S": SPECIES}, "series": SERIES,
        "caveats": ["TS_02 could not be refined and is as it was: 3 particles are too few."],
    }  # fmt: skip
    (folder / "refine.json").write_text(json.dumps(record))
    return tmp_path


@pytest.fixture
def undrawn(monkeypatch):
    """Pictures keep their words and are not drawn, which takes the time."""

    def words_only(title, figure, dots_per_inch, caption):
        assert figure.axes
        assert dots_per_inch == PARAMS.dots_per_inch
        return Picture(title=title, data=b"", caption=caption)

    for module in (refinement_sections, refined_series_sections):
        monkeypatch.setattr(module, "picture", words_only)


def section(page, title):
    return next(s for s in page.sections if s.title == title)


def titles(page):
    return [p.title for s in page.sections for p in s.pictures]


def test_a_finished_refinement_is_told_in_one_glance(project, undrawn):
    files = read_refinement(project / "refine/all", project)
    facts = dict(refinement_facts(files))
    assert facts["state"] == "finished"
    assert facts["resolution"] == "20S 10.4 > 9.1 Å"
    assert facts["rounds"] == "2, 1 of them taken back"
    assert facts["tilt series"] == "1 refined, 1 failed"
    page = refinement_page(files, PARAMS)
    glance = section(page, "At a glance")
    assert glance.rows == (("20S", "83", "10.40", "9.10", "+10.0%", "1.25", "0.8"),)
    assert len(glance.columns) == len(glance.rows[0])
    # what the record says itself is not said twice
    assert [c for c in glance.caveats if "TS_02" in c] == [
        "TS_02 could not be refined and is as it was: 3 particles are too few."
    ]
    assert any("Round 2 was taken back" in c for c in glance.caveats)
    what = section(page, "What was kept").rows
    assert (
        what[0][1]
        == "shifts of the images, motion of the specimen (2 × 2 × 1 points, 3 doses), angles of each image, astigmatism"
    )
    assert "the gain is within its uncertainty: one turn of all images" in what[0][2]
    assert "held-out particles lose: signal and B factor of each image" in what[0][2]
    assert "no species resolves 20 A; the best has 25.0 A: defocus of each image" in what[0][2]
    assert what[1][1] == "failed: 3 particles are too few."
    assert what[2][:2] == (ALL_SERIES, "beam tilt")
    resolution = section(page, "Resolution")
    assert [p.title for p in resolution.pictures] == ["20S: correlation of half maps", "Resolution by round"]
    assert resolution.rows[2] == ("2", "", "-7.3%", "taken back")
    tried = section(page, "What was tried")
    assert len(tried.rows) == len(GROUPS) + 2
    assert tried.rows[0] == (
        "TS_01",
        "shifts of the images",
        "90.0 ± 4.0",
        "kept",
        "held-out particles gain by 22.5 deviations",
        "0.5 Å",
        "0.2 Å",
    )
    assert all(s.reading for s in page.sections)


def test_the_page_of_a_series_shows_motion_changes_and_signal(project, undrawn):
    files = {s.name: s for s in read_refinement(project / "refine/all", project).series}
    one = files["TS_01"]
    # the part of the motion that all doses share is the particles', and what bent the images before is not refinement's
    assert np.abs(one.motion_angstrom.mean(axis=0)).max() < 1e-9
    np.testing.assert_allclose(np.ptp(one.motion_angstrom[..., 2], axis=0), 0.2 * 12.0, atol=1e-6)
    expected = np.zeros((TILTS, len(one.places_angstrom), 2))
    expected[1, :, 0] = 1.0
    np.testing.assert_allclose(one.image_change_angstrom, expected, atol=1e-6)
    page = refined_series_page("all", one, PARAMS)
    assert titles(page) == [
        "Groups tried in TS_01", "Motion of the specimen", "Motion through dose", "Bending of the images",
        "Shifts of the images", "Angles of each image", "Signal by detail", "Signal of each image",
        "Signal and B factor of each image",
    ]  # fmt: skip
    assert section(page, "Changes of the images").rows == (
        ("astigmatism along x", "120 Å", "0.1 Å"),
        ("astigmatism at 45°", "-30 Å", "0.1 Å"),
    )
    assert not any(s.caveats for s in page.sections)
    assert all(p.caption for s in page.sections for p in s.pictures)
    failed = refined_series_page("all", files["TS_02"], PARAMS)
    assert failed.message == "3 particles are too few."
    shared = refined_series_page("all", files[ALL_SERIES], PARAMS)
    assert [s.title for s in shared.sections] == ["What was tried", "Changes of the images"]
    assert shared.sections[1].rows[0] == ("beam tilt x", "0.4 mrad", "0.1 mrad")


def test_an_unfinished_refinement_is_shown_as_far_as_it_came(project, undrawn):
    folder = project / "refine/all"
    for name in ("refine.json", "tilt_series.star"):
        (folder / name).unlink()
    shutil.rmtree(folder / "20S")
    files = read_refinement(folder, project)
    assert refine_folders(project) == [folder]
    assert dict(refinement_facts(files))["state"] == "not finished"
    page = refinement_page(files, PARAMS)
    assert "not finished" in section(page, "At a glance").caveats[0]
    assert section(page, "At a glance").rows[0][:4] == ("20S", "83", "10.40", "9.10")
    assert {s.name: s.failure for s in files.series}["TS_02"] == "3 particles are too few."
    assert len(section(page, "Resolution").pictures) == 2
    assert refinement_settings(project) == {}
    before = refine_mark(folder)
    # a round that was not judged is none
    state = json.loads((folder / "rounds/002/state.json").read_text())
    (folder / "rounds/002/state.json").write_text(json.dumps({**state, "fingerprint": ""}))
    assert refine_mark(folder) != before
    assert len(read_refinement(folder, project).history) == 2


@pytest.mark.parametrize("gone", ["rounds", "signal", "warps", "20S", "tilt_series", "refine.json"])
@pytest.mark.parametrize("damaged", [False, True])
def test_what_is_missing_or_damaged_costs_a_sentence_not_the_page(project, undrawn, gone, damaged):
    folder = project / "refine/all"
    place = folder / gone
    files = [p for p in ([place] if place.is_file() else place.rglob("*")) if p.is_file()]
    for file in files:
        if damaged:
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        else:
            file.unlink()
    if gone == "refine.json" and damaged:
        place.write_text("[]")
    found = read_refinement(folder, project)
    page = refinement_page(found, PARAMS)
    pages = [page, *(refined_series_page("all", one, PARAMS) for one in found.series)]
    assert any(s.caveats for p in pages for s in p.sections)


def test_a_project_reports_its_refinements(project):
    (project / "refine/started/rounds/000").mkdir(parents=True)
    (project / "refine/started/rounds/000/state.json").write_text("{}")
    store = StageStore(project, "report", COLLECTIVE)
    outcome = WriteReport().run([], PARAMS, store, None, None)
    assert outcome.metrics["refinements"] == 2.0
    index = (project / "report/index.html").read_text(encoding="utf-8")
    assert "<h2>Refinements</h2>" in index
    assert 'href="refine-all.html"' in index
    assert "10.1038/s41592-020-01054-7" in index
    page = (project / "report/refine-all.html").read_text(encoding="utf-8")
    assert 'href="refine-all-series-TS_01.html"' in page
    assert 'href="refine-all.html"' in (project / "report/refine-all-series-TS_01.html").read_text(encoding="utf-8")
    assert "No round has come to its end yet." in (project / "report/refine-started.html").read_text(encoding="utf-8")
    assert {mark[0] for mark in WriteReport.also_reads(project)} >= {"refine/all", "refine/started"}


def test_methods_tell_what_was_borne_out(project):
    assert refinement_settings(project) == {
        "refine": [
            {
                "kept": [
                    "shifts of the images",
                    "motion of the specimen",
                    "angles of each image",
                    "astigmatism",
                    "beam tilt",
                ]
            }
        ]
    }
    paragraphs, references = methods(refinement_settings(project), "1")
    assert paragraphs[-1].endswith(
        "[1] [2] [3]; of what was changed, particles held out of the fit bore out shifts of the images, motion of the "
        "specimen, angles of each image, astigmatism and beam tilt."
    )
    assert [r.split(",")[0] for r in references] == ["Tegunov", "Zivanov et al.", "Himes & Zhang"]
    plain, _ = methods({"refine": [{"kept": []}]}, "1")
    assert plain[-1].endswith("[3].")


def test_words_for_groups_and_units():
    assert group_label("image warp", "image warp 3 x 3") == "bending of the images (3 × 3 points)"
    assert group_label("beam tilt", "beam tilt") == "beam tilt"
    assert with_unit(0.123456, "A") == "0.123 Å"
    assert with_unit(0.05, "degrees") == "0.05°"
    assert with_unit(0.2, "of the contrast") == "20% of the contrast"
    assert with_unit(float("nan"), "A") == ""


def test_a_band_is_seen_until_its_images_show_it_together_no_more():
    doses = np.array([4.0, 3.0, 2.0, 1.0, 0.0, 5.0, 6.0, 7.0, 8.0, 9.0])
    strong = np.ones(10)
    early = (doses < 4.5).astype(float)
    contrast = np.stack([strong, early, np.zeros(10), np.full(10, np.nan)], axis=1)
    # five images of deviation 0.5 show 1 by 4.5 deviations, four by 3.6 of the five, three by 2.7
    until = seen_until(contrast, np.full(contrast.shape, 0.5), doses)
    np.testing.assert_array_equal(until, [9.0, 5.0, np.nan, np.nan])


def test_arrows_are_as_long_as_the_bar_says():
    places = np.array([[-500.0, 0.0], [500.0, 0.0]])
    moved = np.array([[[4.0, 0.0, 1.0], [0.0, 2.0, -1.0]]])
    figure = displacement_fields(places, moved, ["0 e/Å²"], (1000.0, 1000.0))
    axes = figure.axes[0]
    arrows = next(c for c in axes.collections if isinstance(c, Quiver))
    bar = axes.patches[-1]
    (words,) = (t.get_text().strip() for t in axes.texts if "Å" in t.get_text())
    assert words == "2 Å" or words == "4 Å" or words == "1 Å"
    np.testing.assert_allclose(bar.get_width() * arrows.scale, float(words.split()[0]))


def test_figures_hold_what_they_are_given():
    hollow = resolution_by_round([0, 1, 2], {"20S": np.array([10.0, 9.0, np.nan])}, np.array([True, True, False]))
    assert [t.get_text() for t in hollow.axes[0].get_legend().get_texts()] == ["20S", "taken back"]
    gains = gains_of_groups(["a", "b"], np.array([30.0, np.nan]), np.array([4.0, np.nan]), np.array([True, False]))
    assert [t.get_text() for t in gains.axes[0].get_yticklabels()] == ["a", "b"]
    curves = motion_through_dose(np.arange(4.0), np.ones((4, 2, 3)), ["here", "there"])
    assert [len(axes.lines) for axes in curves.axes] == [3, 3, 3]
    bars = changes_by_tilt(ANGLES, np.ones((TILTS, 3)), np.ones((TILTS, 3)), ("x", "y", "z"), "Å")
    assert len(bars.axes[0].get_legend().get_texts()) == 3
    shown = signal_of_tilts(np.array([0.0, 0.1]), np.ones((TILTS, 2)), np.ones((TILTS, 2)), ANGLES, np.arange(5.0))
    assert shown.axes[1].get_xticklabels()[0].get_text() == "∞"
