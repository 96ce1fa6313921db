"""What the page of a tilt series says of its contrast transfer: the tilts to look at, in words, and what is absent."""

import math
from dataclasses import replace

import numpy as np
import pytest

from eucentric.ctf.judge_tilts import judge_tilts, large_astigmatism
from eucentric.models.tilt_series import CtfFit, Tilt, TiltSeries
from eucentric.report.content import SeriesPage
from eucentric.report.ctf_sections import ctf_section
from eucentric.report.pages import render_series
from eucentric.report.params import ReportParams

ANGLES = np.arange(-40.0, 41.0, 10.0)
ORDER = np.array([8, 6, 4, 2, 0, 1, 3, 5, 7])  # taken to both sides in turn
COUNT = len(ANGLES)
SMALL = ReportParams(dots_per_inch=40, spectrum_count=2)


def good_fits():
    """Focus that drifts with the tilt and in time, and noise of 300 A."""
    noise = np.random.default_rng(4).normal(0.0, 300.0, COUNT)
    return [
        CtfFit(
            defocus_u_angstrom=30250.0 + 20.0 * a + 100.0 * n + e,
            defocus_v_angstrom=29750.0 + 20.0 * a + 100.0 * n + e,
            astigmatism_angle_deg=30.0,
            defocus_sigma_angstrom=100.0,
            score=0.9,
            max_resolution_angstrom=10.0 + 0.1 * abs(a),
        )
        for a, n, e in zip(ANGLES, ORDER, noise, strict=True)
    ]


def moved(fit, by):
    return replace(fit, defocus_u_angstrom=fit.defocus_u_angstrom + by, defocus_v_angstrom=fit.defocus_v_angstrom + by)


def series_of(fits):
    tilts = [
        Tilt(nominal_tilt_deg=float(a), acquisition=int(n), dose=3.0, pre_exposure=3.0 * int(n), ctf=f)
        for a, n, f in zip(ANGLES, ORDER, fits, strict=True)
    ]
    return TiltSeries(name="TS_01", pixel_size_angstrom=4.0, image_shape=(24, 30), tilts=tuple(tilts))


def kept_curves(lost=()):
    """As the stage keeps them."""
    frequency = np.linspace(0.02, 0.12, 30)
    rings = np.tile(np.cos(200.0 * frequency), (COUNT, 1))
    places = np.array([[x, y] for y in (-300.0, 300.0) for x in (-300.0, 300.0)])
    return {
        "tilt_deg": ANGLES,
        "acquisition": ORDER,
        "frequency": frequency,
        "spectrum": rings + 0.1,
        "model": rings,
        "quality": np.abs(rings),
        "evidence": np.arange(COUNT) + 10.0,
        "without_rings": np.isin(np.arange(COUNT), lost),
        "bend_place": places,
        "bend": np.array([10.0, -20.0, 30.0, 5.0]),
        "bend_sigma": np.full(4, 10.0),
        "free_tilt_deg": np.abs(ANGLES),
        "free_tilt_sigma_deg": np.full(COUNT, 3.0),
        "free_axis_deg": np.full(COUNT, 84.0),
        "free_axis_sigma_deg": np.full(COUNT, 8.0),
        "expected_tilt_deg": np.abs(ANGLES),
        "expected_axis_deg": np.where(np.abs(ANGLES) < 15, np.nan, 85.0),
        "phase_shift_sigma_deg": np.full(COUNT, 4.0),
        "thickness_trial": np.linspace(0.0, 4000.0, 41),
        "thickness_log_likelihood": -np.linspace(0.0, 10.0, 41),
        "thickness": np.array([math.nan, math.nan, 2200.0]),
    }


def kept_pictures():
    noise = np.random.default_rng(1).integers(0, 255, (COUNT, 16, 9)).astype(np.uint8)
    return {"acquisition": ORDER, "measured": noise, "fitted": noise, "edge_frequency": np.array(0.125)}


def test_a_good_series_has_nothing_to_look_at():
    assert judge_tilts(good_fits(), ANGLES, ORDER) == ((),) * COUNT
    assert large_astigmatism(good_fits()) is None


def test_each_fault_is_named_at_its_tilt():
    fits = good_fits()
    fits[1] = replace(moved(fits[1], 9000.0), max_resolution_angstrom=math.nan)  # in whose place anything may stand
    fits[2] = moved(fits[2], 5000.0)
    fits[4] = replace(fits[4], max_resolution_angstrom=31.0)
    fits[6] = replace(fits[6], defocus_u_angstrom=fits[6].defocus_u_angstrom + 1000.0)
    fits[7] = replace(fits[7], astigmatism_angle_deg=-60.0)
    found = judge_tilts(fits, ANGLES, ORDER, without_rings=[1])
    words = {t: "; ".join(w) for t, w in enumerate(found) if w}
    assert set(words) == {1, 2, 4, 6, 7}
    assert "no Thon rings" in words[1]
    assert f"defocus of {fits[2].defocus_angstrom / 1e4:.2f} µm" in words[2]
    assert "31 Å" in words[4]
    assert "1500 Å at 30°" in words[6]
    assert "at -60°" in words[7]


def test_an_uncertain_defocus_is_not_called_far():
    fits = good_fits()
    fits[2] = replace(moved(fits[2], 5000.0), defocus_sigma_angstrom=3000.0)
    assert judge_tilts(fits, ANGLES, ORDER)[2] == ()


def test_a_drift_with_the_tilt_or_in_time_flags_nothing():
    for place in (ANGLES, 10.0 * ORDER):
        fits = [moved(f, 150.0 * p) for f, p in zip(good_fits(), place, strict=True)]
        assert judge_tilts(fits, ANGLES, ORDER) == ((),) * COUNT


@pytest.mark.parametrize("count", [1, 2])
def test_few_tilts_have_no_neighbours_to_differ_from(count):
    assert judge_tilts(good_fits()[:count], ANGLES[:count], ORDER[:count]) == ((),) * count


def test_page_lists_flagged_tilts_and_shows_all_spectra():
    fits = good_fits()
    fits[2] = moved(fits[2], 5000.0)
    fits[8] = replace(fits[8], score=math.nan, max_resolution_angstrom=math.nan)
    section = ctf_section(series_of(fits), kept_curves(lost=[8]), kept_pictures(), SMALL)
    assert [row[:2] for row in section.rows] == [("-20.0°", "5"), ("40.0°", "8")]
    assert "no Thon rings" in section.rows[1][2]
    (strip,) = section.strips
    assert [tile.lines[0] for tile in strip.tiles] == [f"{a:+.1f}°" for a in ANGLES]
    assert [bool(tile.mark) for tile in strip.tiles] == [t in (2, 8) for t in range(COUNT)]
    assert strip.tiles[8].lines[2:] == ("no fit resolution", "18 σ above noise")
    titles = [p.title for p in section.pictures]
    assert titles == [
        "Equiphase averages of all tilts",
        "Equiphase averages",
        "Defocus and astigmatism",
        "Fit resolution",
        "Phase shift",
        "Thickness",
        "Height of the specimen over its plane",
        "Tilt and tilt axis by the rings alone",
    ]
    for shown in section.pictures:
        assert "good" in shown.caption.lower()
        assert "bad:" in shown.caption or shown.title == "Thickness"
    page = render_series(SeriesPage(name="TS_01", sections=(section,)))
    assert page.count('class="tile marked"') == 2
    assert page.count('class="tile') == COUNT
    assert 'alt="Spectrum at -20.0°, measured on the left and fitted on the right"' in page


def test_rows_are_found_by_acquisition_after_a_tilt_was_left_out():
    series = series_of(good_fits())
    rest = series.with_tilts([t for i, t in enumerate(series.tilts) if i != 3])
    pictures = kept_pictures()
    pictures["measured"][:] = np.arange(COUNT)[:, None, None] * 25
    (strip,) = ctf_section(rest, kept_curves(), pictures, SMALL).strips
    (whole,) = ctf_section(series, kept_curves(), pictures, SMALL).strips
    kept = [t for i, t in enumerate(whole.tiles) if i != 3]
    assert [t.picture.data for t in strip.tiles] == [t.picture.data for t in kept]
    assert [t.lines for t in strip.tiles] == [t.lines for t in kept]


def test_a_series_without_ctf_has_no_section():
    series = series_of(good_fits())
    bare = series.with_tilts([replace(t, ctf=None) for t in series.tilts])
    assert ctf_section(bare, {}, {}, SMALL) is None


def test_estimates_without_curves_still_show_their_defocus():
    section = ctf_section(series_of([moved(f, 0.0) for f in good_fits()]), {}, {}, SMALL)
    assert [p.title for p in section.pictures] == ["Defocus and astigmatism"]
    assert section.strips == ()
    assert section.rows == ()


def test_a_series_whose_tilts_all_failed_says_so_of_each():
    fits = [replace(f, score=math.nan, max_resolution_angstrom=math.nan) for f in good_fits()]
    curves = kept_curves(lost=range(COUNT))
    for name in ("bend", "free_tilt_deg", "free_axis_deg", "expected_axis_deg"):
        curves[name] = np.full_like(curves[name], np.nan)
    section = ctf_section(series_of(fits), curves, kept_pictures(), SMALL)
    assert len(section.rows) == COUNT
    assert all("no Thon rings" in row[2] for row in section.rows)
    titles = {p.title for p in section.pictures}
    assert "Fit resolution" not in titles
    assert "Height of the specimen over its plane" not in titles
    assert "Tilt and tilt axis by the rings alone" not in titles


def test_large_astigmatism_of_the_whole_series_is_one_line():
    fits = [replace(f, defocus_u_angstrom=f.defocus_u_angstrom + 2500.0) for f in good_fits()]
    section = ctf_section(series_of(fits), {}, {}, SMALL)
    assert [row[0] for row in section.rows] == ["all"]
    assert "3000 Å" in section.rows[0][2]
