"""The report of a small made-up project: what its pages say and show."""

import base64
import dataclasses
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from eucentric.figures.canvas import scale_bar_length
from eucentric.figures.curves import convergence_curve, signal_to_noise_curve
from eucentric.figures.volume import central_slices, wedge_spectrum
from eucentric.io.mrc import write_mrc
from eucentric.io.tilt_series import read_tilt_series, write_tilt_series_set
from eucentric.models.tilt_series import CtfFit, FrameShifts, Tilt, TiltPose, TiltSeries, Tomogram
from eucentric.pipeline.average_report import averaging_settings
from eucentric.pipeline.records import COLLECTIVE, Record, row_path, write_record
from eucentric.pipeline.stages.report import WriteReport, central_planes, page_names
from eucentric.pipeline.store import StageStore
from eucentric.reconstruction.params import ReconstructParams
from eucentric.report.content import format_number, metric_label
from eucentric.report.methods import methods
from eucentric.report.params import ReportParams

ANGLES = (-40.0, -20.0, 0.0, 20.0, 40.0)
WHY = "`frames/b <1>.tif` ends after frame 2 of 4. Copy it again."


def record(stage, series, **changes):
    values = {"outcome": "done", "fingerprint": "f", "upstream": "u", "stage_version": 1, "parameters": {}}
    return Record(stage=stage, series=series, project={}, seed=1, **{**values, **changes})


def plain_series(name):
    tilts = [Tilt(nominal_tilt_deg=a, acquisition=i, dose=3.0, pre_exposure=3.0 * i) for i, a in enumerate(ANGLES)]
    return TiltSeries(name=name, pixel_size_angstrom=4.0, image_shape=(24, 30), tilts=tuple(tilts))


def processed(root, name):
    """A series as the last stage leaves it, with its tomogram, curves and records."""
    random = np.random.default_rng(3)
    tilts = []
    for i, tilt in enumerate(plain_series(name).tilts):
        path = np.cumsum(random.normal(size=(4, 2)), axis=0)
        fields = {
            "motion": FrameShifts(shifts_angstrom=path - path.mean(axis=0), sigma_angstrom=np.full(4, 0.3)),
            "pose": TiltPose(y_tilt_deg=tilt.nominal_tilt_deg, z_rot_deg=85.0, x_shift_angstrom=5.0 * i),
            "ctf": CtfFit(defocus_u_angstrom=30300.0, defocus_v_angstrom=29800.0 + 50 * i, defocus_sigma_angstrom=90.0),
        }
        tilts.append(
            Tilt(nominal_tilt_deg=tilt.nominal_tilt_deg, acquisition=i, dose=3.0, pre_exposure=3.0 * i, **fields)
        )
    volume = random.normal(size=(12, 24, 30)).astype(np.float32)
    write_mrc(root / "tomogram.mrc", volume, 8.0)
    tomogram = Tomogram(path="tomogram.mrc", voxel_size_angstrom=8.0, shape_zyx=volume.shape)
    series = plain_series(name).with_tilts(tilts).replace(tomogram=tomogram)
    frequency, angles = np.linspace(0.01, 0.1, 20), np.array(ANGLES)
    curves = np.tile(np.cos(100 * frequency), (5, 1))
    kept = {
        "motion": {"frame_correlation_frequency": frequency, "frame_correlation": curves},
        "align": {
            "scores": np.linspace(0.2, 0.4, 5),
            "axis_deg": np.arange(80.0, 91.0),
            "axis_score": -((np.arange(11.0) - 5) ** 2),
            "all_tilt_deg": angles,
            "mean_intensity": np.array([5.0, 8.0, 9.0, 8.0, 0.1]),
        },
        "ctf": {
            "acquisition": np.arange(5),
            "frequency": frequency,
            "spectrum": curves,
            "model": curves + 0.1,
            "quality": np.abs(curves),
        },
        "reconstruct": {"fsc_frequency": frequency, "fsc": np.linspace(1, 0, 20)},
    }
    for stage, arrays in kept.items():
        (root / stage / "curves").mkdir(parents=True, exist_ok=True)
        np.savez(root / stage / "curves" / f"{name}.npz", tilt_deg=angles, **arrays)
        write_record(root / stage, record(stage, name, metrics={f"{stage}_figure_angstrom": 1.25}, caveats=("a toy",)))
    return series.without({4: "dark: 1 % of the mean intensity"})


def report(root, items, **settings):
    store = StageStore(root, "report", COLLECTIVE)
    return WriteReport().run(items, ReportParams(dots_per_inch=30, **settings), store, None, None)


def pictures(page):
    figures = re.findall(r'<figure class="plot"><img src="data:image/webp;base64,([^"]+)"', page)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))) / 255 for text in figures]


def read(root, name):
    return (root / "report" / name).read_text(encoding="utf-8")


def test_all_series_have_pages_and_the_failed_one_says_why(tmp_path):
    done = processed(tmp_path, "TS_01")
    write_tilt_series_set(
        tmp_path / "import/tilt_series.star", [plain_series("TS_01"), plain_series("TS_02")], tmp_path
    )
    write_record(tmp_path / "motion", record("motion", "TS_02"))
    write_record(tmp_path / "align", record("align", "TS_02", outcome="failed", message=WHY))
    # What an earlier run left behind the failure tells nothing of today.
    write_record(tmp_path / "ctf", record("ctf", "TS_02", metrics={"stale_figure": 7.0}))
    outcome = report(tmp_path, [done], spectrum_count=2)
    assert outcome.metrics == {"series": 2.0, "failed": 1.0}
    assert outcome.caveats == ()
    index = read(tmp_path, "index.html")
    row = re.search(r'<tr class="failed">.*?</tr>', index, re.DOTALL).group()
    assert 'href="TS_02.html"' in row
    assert "<td>align</td>" in row
    escaped = WHY.replace("<", "&lt;").replace(">", "&gt;")
    assert escaped in row
    assert index.count('class="failed"') == 1
    assert "stale" not in index
    assert "ctf figure (Å)" in index
    assert "[1]" in index
    assert "doi:10.1016/j.jsb.2015.08.008" in index
    failed = read(tmp_path, "TS_02.html")
    assert escaped in failed
    assert "Failed in align" in failed
    assert pictures(failed) == []
    page = read(tmp_path, "TS_01.html")
    for heading in ("Motion", "Alignment", "Excluded tilts", "Contrast transfer", "Tomogram", "Stage and acquisition"):
        assert f"<h2>{heading}</h2>" in page
    # a list of the sections leads to each
    links = re.findall(r'<a href="#(section-\d+)">([^<]*)</a>', page)
    assert links == re.findall(r'<section id="(section-\d+)">\s*<h2>([^<]*)</h2>', page)
    assert len(links) == 6
    assert "<td>40.00°</td><td>5</td><td>dark: 1 % of the mean intensity</td>" in page
    images = pictures(page)
    assert len(images) == 13
    assert all(np.ptp(image[..., :3]) > 0.5 for image in images)
    assert "src=" not in re.sub(r'src="data:[^"]+"', "", page)


def test_series_without_motion_and_ctf_have_pages_without_them(tmp_path):
    poses = [TiltPose(y_tilt_deg=a, z_rot_deg=0.0) for a in ANGLES]
    series = plain_series("stack")
    tilts = [
        Tilt(nominal_tilt_deg=t.nominal_tilt_deg, acquisition=t.acquisition, dose=0.0, pre_exposure=0.0, pose=p)
        for t, p in zip(series.tilts, poses, strict=True)
    ]
    gone = Tomogram(path="gone.mrc", voxel_size_angstrom=8.0, shape_zyx=(4, 4, 4))
    series = series.with_tilts(tilts).replace(optics=None, tomogram=gone)
    for stage in ("motion", "align", "ctf", "reconstruct"):
        write_record(tmp_path / stage, record(stage, "stack"))
    (tmp_path / "align/curves").mkdir()
    (tmp_path / "align/curves/stack.npz").write_bytes(b"PK\x03\x04 cut short")
    outcome = report(tmp_path, [series])
    page = read(tmp_path, "stack.html")
    assert "<h2>Motion</h2>" not in page
    assert "<h2>Contrast transfer</h2>" not in page
    assert "<h2>Alignment</h2>" in page
    assert "<h2>Stage and acquisition</h2>" in page
    assert len(pictures(page)) == 3  # shifts, path of the stage, field
    # A tomogram that is gone and curves that are cut short are told of, not stumbled over.
    assert len(outcome.caveats) == 2
    assert "gone.mrc" in page


def test_failed_series_is_shown_as_far_as_it_came(tmp_path):
    series = plain_series("TS_01").without({0: "blocked by the holder"})
    write_tilt_series_set(tmp_path / "align/tilt_series.star", [series], tmp_path)
    (tmp_path / "align/records").mkdir()
    (tmp_path / "align/tilt_series.star").rename(row_path(tmp_path / "align", "TS_01"))
    assert read_tilt_series(row_path(tmp_path / "align", "TS_01"), "TS_01", tmp_path).excluded
    write_record(tmp_path / "align", record("align", "TS_01"))
    write_record(tmp_path / "ctf", record("ctf", "TS_01", outcome="failed", message="No rings were found."))
    report(tmp_path, [])
    assert "blocked by the holder" in read(tmp_path, "TS_01.html")
    assert "No rings were found." in read(tmp_path, "index.html")


def test_a_project_without_series_has_a_page(tmp_path):
    assert report(tmp_path, []).metrics == {"series": 0.0, "failed": 0.0}
    assert "0 tilt series" in read(tmp_path, "index.html")


def test_page_names_are_plain_and_differ():
    names = ["TS_01", "ts_01", "../up", "a b", "a?b", "index", "…"]
    files = page_names(names)
    assert files["TS_01"] == "TS_01.html"
    assert len({f.lower() for f in files.values()}) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*\.html", f) for f in files.values())
    assert "index.html" not in files.values()


@pytest.mark.parametrize("planes", [1, 2, 3, 50])
def test_central_planes_lie_around_the_middle_voxel(planes):
    volume = np.zeros((9, 12, 14))
    volume[4, 6, 7] = 1.0
    images = central_planes(volume, 8.0, planes)
    shares = [min(planes, n) for n in volume.shape]
    assert images.slice_z[6, 7] == pytest.approx(1 / shares[0])
    assert images.slice_y[4, 7] == pytest.approx(1 / shares[1])
    assert images.slice_x[4, 6] == pytest.approx(1 / shares[2])


@pytest.mark.parametrize(("planes", "count"), [(1, 3), (2, 4), (3, 20), (50, 2)])
def test_layers_stand_at_their_heights(planes, count):
    volume = np.tile((np.arange(9.0) - 9 // 2)[:, None, None], (1, 12, 14))  # each plane holds its height
    images = central_planes(volume, 8.0, planes, count)
    assert len(images.layers) == min(count, 9)
    np.testing.assert_allclose(8.0 * images.layers[:, 0, 0], images.heights_angstrom, atol=1e-6)
    assert (np.diff(images.heights_angstrom) >= 0).all()


def test_slices_are_drawn_with_x_to_the_right_and_y_and_z_up():
    slice_z, slice_y, slice_x = np.zeros((12, 14)), np.zeros((9, 14)), np.zeros((9, 12))
    slice_z[11, 2] = slice_y[8, 2] = slice_x[8, 3] = 1.0
    figure = central_slices(slice_z, slice_y, slice_x, 8.0, 0.5)
    drawn = [(a.get_xlabel(), a.get_ylabel(), a.images[0]) for a in figure.axes]
    assert [image.origin for *_, image in drawn] == ["lower"] * 3
    bright = {(across, up): tuple(np.argwhere(image.get_array() == 1.0)[0]) for across, up, image in drawn}
    assert bright == {("x", "y"): (11, 2), ("x", "z"): (8, 2), ("z", "y"): (3, 8)}  # (up, across)


def test_wave_along_z_shows_its_power_along_z():
    z = np.arange(32)[:, None, None]
    volume = np.cos(2 * np.pi * z / 4) * np.ones((32, 5, 40))
    power = central_planes(volume, 10.0, 3).power_zx
    peaks = np.argwhere(power > 0.99 * power.max())
    assert peaks.tolist() == [[8, 20], [24, 20]]  # n // 2 -+ 32 / 4 along z
    axes = wedge_spectrum(power, 10.0).axes[0]
    left, right, bottom, top = axes.images[0].get_extent()
    row = bottom + (24 + 0.5) * (top - bottom) / 32
    column = left + (20 + 0.5) * (right - left) / 40
    assert row == pytest.approx(1 / 40)  # a period of 4 voxels of 10 A
    assert column == pytest.approx(0.0, abs=1e-12)


def test_scale_bar_is_a_round_length_of_at_most_a_quarter():
    assert [scale_bar_length(w) for w in (400.0, 399.0, 3000.0, 20000.0)] == [100.0, 50.0, 500.0, 5000.0]


def test_numbers_and_labels_in_words():
    assert metric_label("total_motion_angstrom") == "total motion (Å)"
    assert metric_label("score") == "score"
    assert [format_number(v) for v in (3.0, 0.123456, None, float("nan"))] == ["3", "0.1235", "not known", "not known"]


def test_methods_cite_in_order_and_only_what_ran():
    paragraphs, references = methods({"reconstruct": [{"dose_weighting": True}]}, "1.2")
    assert len(paragraphs) == 3
    assert "[1]" in paragraphs[1]
    assert "[2]" in paragraphs[2]
    assert len(methods({"reconstruct": [{"dose_weighting": False}]}, "1.2")[0]) == 2
    assert "without weighting" in methods({"reconstruct": [{"filter": "none"}]}, "1.2")[0][1]
    assert references[0].startswith("Radermacher")
    assert methods({}, "1.2")[1] == ()
    paragraphs, references = methods({"ctf": [{}], "align": [{}], "motion": [{}]}, "1.2")
    assert [re.findall(r"\[\d+\]", text) for text in paragraphs[1:]] == [
        ["[1]", "[2]"],
        ["[3]", "[4]", "[5]"],
        ["[6]", "[7]", "[8]"],
    ]
    first_authors = ["Rubinstein", "Zheng", "Guckenberger", "Winkler", "Zheng", "Rohou", "Elferich", "Tegunov"]
    assert [re.match(r"\w+", text).group() for text in references] == first_authors


def test_methods_tell_of_averages_as_they_were_made():
    plain = {"average": {"symmetry": "C1"}, "extract": {"dose_weighting": False}, "resolution_angstrom": None}
    whole = {
        "average": {"symmetry": "D7"}, "iterated": True, "resolution_angstrom": 9.0, "sharpened": {"b_factor": 90.0},
        "local_resolution": {"median_angstrom": 10.0},
    }  # fmt: skip
    paragraphs, _ = methods({"average": [plain]}, "1.2")
    assert len(paragraphs) == 2
    assert "radiation damage" not in paragraphs[1]
    assert "symmetry" not in paragraphs[1]
    text = " ".join(methods({"initial model": [{}], "average": [plain, whole], "classify": [{}]}, "1.2")[0])
    for words in (
        "without a reference",
        "radiation damage",
        "(D7)",
        "its own reference",
        "0.143",
        "sharpened",
        "in windows",
        "classes",
    ):
        assert words in text
    assert "filaments" not in text
    assert "{" not in text
    helical = methods({"average": [{"average": {"helical_rise_angstrom": 20.0}}]}, "1.2")
    assert helical[1][1].startswith("He & Scheres")


def test_settings_of_averages_are_found_in_a_project(tmp_path):
    assert averaging_settings(tmp_path) == {}
    files = {
        "average/a/average.json": {"average": {"symmetry": "C2"}},
        "average/a/iterations.json": {"rounds": [{"number": 0}, {"number": 1}]},
        "average/b/average.json": {"average": {}},
        "classify/c/classes.json": {"classify": {}},
        "initial-model/d/initial_model.json": {"initial_model": {}},
    }
    for name, values in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(json.dumps(values))
    found = averaging_settings(tmp_path)
    assert [one["iterated"] for one in found["average"]] == [True, False]
    assert {name: len(some) for name, some in found.items()} == {"initial model": 1, "average": 2, "classify": 1}


@pytest.mark.parametrize(
    ("settings", "words", "authors"),
    [
        ({"inclination": False}, "Defocus and astigmatism of each tilt", ["Rohou", "Tegunov"]),
        ({"phase_shift": "fit"}, "astigmatism and phase shift", ["Rohou", "Elferich", "Tegunov"]),
        ({"method": "refine"}, "began at imported estimates", ["Rohou", "Elferich", "Tegunov"]),
        ({"thickness": True, "inclination": False}, "nodes of the Thon rings", ["Rohou", "Tegunov", "Elferich"]),
        ({"method": "imported", "thickness": True}, "taken over from another program", ["Rohou"]),
    ],
)
def test_methods_say_how_the_contrast_transfer_was_found(settings, words, authors):
    paragraphs, references = methods({"ctf": [settings]}, "1.2")
    assert words in " ".join(paragraphs)
    assert "{" not in " ".join(paragraphs)
    assert [re.match(r"\w+", text).group() for text in references] == authors


@pytest.mark.parametrize(
    ("settings", "words", "authors"),
    [
        ({"filter": "exact"}, "weights for the tilt angles", ["Radermacher", "Harauz"]),
        ({"method": "sirt-like"}, "what 15 iterations of SIRT", ["Radermacher", "Gilbert"]),
        ({"method": "sirt-like", "sirt_like_iterations": 30}, "what 30 iterations", ["Radermacher", "Gilbert"]),
        ({"method": "sirt"}, "(SIRT)", ["Gilbert"]),
        ({"method": "sirt", "subsets": 5}, "ordered subsets", ["Andersen"]),
        ({"method": "cgls", "regularisation": 0.0}, "least squares with conjugate gradients", ["Hestenes"]),
        ({"method": "cgls", "regularisation": 0.1}, "Tikhonov", ["Hestenes"]),
        ({"method": "tv"}, "total variation", ["Chambolle", "Pock"]),
        ({"method": "ctf"}, "noise measured between half images", ["Jensen", "Turonova", "Hestenes"]),
        ({"method": "ctf", "has_halves": False}, "a typical ratio", ["Jensen", "Turonova", "Hestenes"]),
        ({"method": "ctf", "ctf_by_height": False}, "contrast transfer, against", ["Hestenes"]),
    ],
)
def test_methods_name_each_reconstruction_and_its_sources(settings, words, authors):
    (_, sentence), references = methods({"reconstruct": [settings]}, "1.2")
    assert words in sentence
    assert "{" not in sentence
    assert [re.match(r"\w+", text).group() for text in references] == authors


def test_methods_say_what_was_done_to_the_images_before():
    flipped = {"method": "wbp", "ctf_correction": "flip", "erase_beads": True, "dose_weighting": True}
    paragraphs, references = methods({"reconstruct": [flipped]}, "1.2")
    assert paragraphs[1].startswith("Gold beads")
    assert (
        paragraphs[2] == "Phases of the contrast transfer were flipped in the images in strips along the tilt axis [1]."
    )
    assert references[0].startswith("Xiong")
    assert len(paragraphs) == 5
    by_depth = {"ctf_correction": "wiener", "ctf_by_height": False, "ctf_by_depth": True}
    wiener = methods({"reconstruct": [by_depth]}, "1.2")[0][1]
    assert wiener.endswith("by a Wiener filter, anew for every depth of the specimen [1].")
    # the inversion takes no corrected images
    assert len(methods({"reconstruct": [{"method": "ctf", "ctf_correction": "flip"}]}, "1.2")[0]) == 2
    assert len(methods({"reconstruct": [{"method": "sirt", "dose_weighting": True}]}, "1.2")[0]) == 3


def test_methods_of_series_that_differ_are_told_apart():
    paragraphs, _ = methods({"reconstruct": [{"method": "ctf"}, {"method": "wbp"}, {"method": "ctf"}]}, "1.2")
    assert [p.split(" were ")[0] for p in paragraphs[1:]] == ["Some tomograms", "Some tomograms"]


@pytest.mark.parametrize(
    ("chosen", "halves", "sentence"),
    [
        ({}, True, "inverting the model"),
        ({}, False, "weighted back-projection"),
        ({"purpose": "averaging"}, True, "Phases of the contrast transfer were flipped"),
        ({"purpose": "view"}, False, "a typical ratio"),
        ({"method": "tv", "purpose": "view"}, True, "total variation"),
    ],
)
def test_methods_follow_what_a_series_had(tmp_path, chosen, halves, sentence):
    series = processed(tmp_path, "TS_01")
    images = {"image_even": "even.mrc", "image_odd": "odd.mrc"} if halves else {}
    series = series.with_tilts([dataclasses.replace(t, **images) for t in series.tilts])
    parameters = ReconstructParams(**chosen).model_dump(mode="json")
    write_record(tmp_path / "reconstruct", record("reconstruct", "TS_01", parameters=parameters))
    report(tmp_path, [series])
    assert sentence in read(tmp_path, "index.html")


def test_curves_of_a_reconstruction_are_drawn(tmp_path):
    series = processed(tmp_path, "TS_01")
    report(tmp_path, [series])
    before = len(pictures(read(tmp_path, "TS_01.html")))
    frequency = np.linspace(0.01, 0.1, 20)
    curves = {
        "residual": np.array([0.9, 0.4, 0.3]),
        "signal_to_noise_frequency": frequency,
        "signal_to_noise": np.exp(-50 * frequency),
    }
    np.savez(tmp_path / "reconstruct/curves/TS_01.npz", **curves)
    report(tmp_path, [series])
    page = read(tmp_path, "TS_01.html")
    assert "Convergence" in page
    assert "Signal over noise" in page
    assert len(pictures(page)) == before + 1  # two more, and no shell correlation


def test_iterations_are_counted_from_one_and_the_ratio_is_drawn_on_a_logarithmic_scale():
    (line,) = convergence_curve(np.array([0.9, 0.4, 0.3])).axes[0].lines
    assert line.get_xdata().tolist() == [1, 2, 3]
    assert line.get_ydata().tolist() == [0.9, 0.4, 0.3]
    axes = signal_to_noise_curve(np.array([0.01, 0.1]), np.array([10.0, 0.1])).axes[0]
    assert axes.get_yscale() == "log"
    assert axes.lines[0].get_ydata().tolist() == [10.0, 0.1]


def test_a_series_unlike_the_others_is_told_in_words_and_all_metrics_lie_beside(tmp_path):
    values = (3.0, 3.2, 2.9, 3.1, 3.05, 9.0)
    for number, value in enumerate(values):
        metrics = {"total_motion_median_angstrom": value, "unknown": None}
        write_record(tmp_path / "motion", record("motion", f"TS_{number}", metrics=metrics))
    report(tmp_path, [])
    # the median deviation is 0.1: 5.925 * 0.6745 / 0.1
    words = "Motion: total motion median (Å) is 9, 40.0 robust standard deviations above the median of 3.075."
    assert read(tmp_path, "index.html").count(words) == 1
    assert words in read(tmp_path, "TS_5.html")
    assert "robust" not in read(tmp_path, "TS_0.html")
    kept = json.loads(read(tmp_path, "metrics.json"))
    assert kept["TS_5"] == {"motion": {"total_motion_median_angstrom": 9.0, "unknown": None}}
    assert "TS_5,motion,total_motion_median_angstrom,9\n" in read(tmp_path, "metrics.csv")
    assert "@article{Rubinstein2015," in read(tmp_path, "methods.bib")
