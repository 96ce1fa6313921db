"""What the report says of restored tomograms, from what was kept of them."""

import numpy as np
import pytest

from eucentric.figures.restoration_weights import shell_weights
from eucentric.report.content import metric_label
from eucentric.report.methods import methods
from eucentric.report.params import ReportParams
from eucentric.report.restoration_sections import DENOISE, FILL, RestoredVolumes, restoration_section

LARGEST_SECTION = 150_000
"""Bytes at the usual resolution: some hundred kB of a page."""


def volumes(sigma=True):
    random = np.random.default_rng(5)
    raw = random.normal(size=(40, 120, 128)).astype(np.float16)
    return RestoredVolumes(
        raw=raw, restored=raw * 0.5, sigma=np.abs(raw) * 0.1 if sigma else None, voxel_size_angstrom=8.0
    )


def kept(count=24):
    frequency = np.linspace(0.002, 0.06, count)
    falling = np.linspace(1.0, 0.0, count)
    return {
        "frequency": frequency,
        "raw": falling,
        "output": falling**0.5,
        "wedge": np.full(count, np.nan),
        "truth": falling**0.6,
        "kept": falling,
        "kept_sigma": np.full(count, 0.02),
        "unsupported": 1 - falling,
        "raw_unsupported": 1 - 0.5 * falling,
        "weight_frequency": frequency,
        "weight_network": falling,
        "weight_raw": 0.1 * falling,
        "bands": np.array([[200.0, 60.0], [60.0, 40.0], [40.0, 25.0]]),
        "band_correlation": np.array([0.9, 0.5, np.nan]),
        "band_invented": np.array([0.19, 0.75, np.nan]),
        "band_invented_sigma": np.array([0.05, 0.08, np.nan]),
        "band_filled": np.array([0.8, 0.3, np.nan]),
        "band_recovered": np.array([0.7, 0.2, np.nan]),
        "band_kept": np.array([0.95, 0.8, np.nan]),
    }


def titles(section):
    return [picture.title for picture in section.pictures]


def test_all_that_was_measured_is_shown_and_the_page_stays_small():
    section = restoration_section("Wedge filled", FILL, {"method": "network"}, kept(), volumes(), ReportParams())
    assert titles(section) == [
        "Raw and restored",
        "Agreement of halves",
        "Signal kept",
        "Shares of network and raw",
        "Invented part",
    ]
    assert all("bad: " in picture.caption for picture in section.pictures)
    assert sum(len(picture.data) for picture in section.pictures) < LARGEST_SECTION
    assert section.rows == (
        ("200 to 60 Å", "0.90", "0.19", "0.05", "0.80", "0.70", "0.95"),
        ("60 to 40 Å", "0.50", "0.75", "0.08", "0.30", "0.20", "0.80"),
        ("40 to 25 Å", "not known", "not known", "not known", "not known", "not known", "not known"),
    )
    assert len(section.columns) == len(section.rows[0])


@pytest.mark.parametrize(
    ("stage", "method", "means"),
    [
        (DENOISE, "network", "as a network changes"),
        (DENOISE, "nlm", "as a filter changes"),
        (FILL, "network", "as a network changes"),
        (FILL, "constrained", "as an optimisation changes"),
    ],
)
def test_every_way_says_that_averages_are_of_raw_data(stage, method, means):
    section = restoration_section("x", stage, {"method": method}, {}, volumes(sigma=False), ReportParams())
    assert f"particles are averaged from the raw data, {means}" in section.reading
    assert "Good: " in section.reading
    assert ("was not measured" in section.reading) == (stage == FILL)
    assert titles(section) == ["Raw and restored"]
    assert "σ" not in section.pictures[0].caption
    assert section.rows == ()


def test_without_files_the_curves_are_shown_and_weights_that_were_not_applied_are_called_so():
    def words(**settings):
        section = restoration_section("x", DENOISE, {"method": "network", **settings}, kept(), None, ReportParams())
        assert "Raw and restored" not in titles(section)
        return next(p.caption for p in section.pictures if p.title.startswith("Shares"))

    assert "it was not applied" in words(weigh_shells=False)
    assert "not applied" not in words(weigh_shells=True)


def test_weights_are_drawn_as_they_are():
    frequency, network, raw = np.array([0.01, 0.02, 0.03]), np.array([0.2, 1.7, 0.4]), np.array([0.9, 0.1, 0.0])
    (axes,) = shell_weights(frequency, network, raw).axes
    drawn = {line.get_label(): np.asarray(line.get_xydata()) for line in axes.lines}
    np.testing.assert_array_equal(drawn["network"], np.stack([frequency, network], axis=1))
    np.testing.assert_array_equal(drawn["raw tomogram"], np.stack([frequency, raw], axis=1))
    assert axes.get_ylim()[1] > 1.7


@pytest.mark.parametrize(
    ("stage", "settings", "words", "authors"),
    [
        ("denoise", {}, "denoised by a 3D U-Net [1] that was trained on simulated tomograms, weighed", ["Çiçek"]),
        ("denoise", {"has_halves": False}, "simulated tomograms; nothing was averaged", ["Çiçek"]),
        ("denoise", {"model": "a", "weigh_shells": False}, "to the other [2] [3]; nothing", ["Çiçek", "Lehtinen", "Buchholz"]),
        ("denoise", {"method": "nad"}, "anisotropic diffusion [1]", ["Frangakis"]),
        ("denoise", {"method": "nlm"}, "non-local means [1]", ["Buades"]),
        ("denoise", {"method": "bilateral"}, "bilateral filter [1]", ["Tomasi"]),
        ("denoise", {"method": "wavelet"}, "wavelets [1]", ["Mihçak"]),
        ("denoise", {"method": "deconvolve"}, "contrast transfer [1]", ["Tegunov"]),
        ("denoise", {"method": "gaussian"}, "smoothed by a Gaussian", []),
        ("denoise", {"method": "median"}, "median filter", []),
        ("fill-wedge", {"model": "a", "hard_data": True}, "anew [2] [3], with all that was", ["Çiçek", "Liu", "Wiedemann"]),
        ("fill-wedge", {"method": "constrained", "matter": "dark"}, "data and has one contrast, by a primal-dual", ["Chambolle"]),
        ("fill-wedge", {"method": "constrained"}, "with the data, by", ["Chambolle"]),
    ],
)  # fmt: skip
def test_methods_cite_what_was_used(stage, settings, words, authors):
    paragraphs, references = methods({stage: [settings]}, "1.0")
    assert words in paragraphs[-1]
    assert len(paragraphs) == 2
    assert [text.split(",")[0].split(" ")[0] for text in references] == authors


def test_bands_are_told_as_ranges_and_lengths_as_lengths():
    assert metric_label("invented_60_40_angstrom") == "invented, 60 to 40 Å"
    assert metric_label("raw_agreement_angstrom") == "raw agreement (Å)"
    assert metric_label("noise_of_scale_1") == "noise of scale 1"
