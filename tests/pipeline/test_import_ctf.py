"""Which tilt an estimate of another program is of, what tilts without one get, and defocus from focus images."""

import math
from dataclasses import replace

import numpy as np
import pytest

from eucentric.errors import InputError
from eucentric.geometry import TiltGeometry
from eucentric.io.ctf_estimates import CtfEstimate, ExternalCtf
from eucentric.io.focus_tables import FocusImage
from eucentric.models import CtfFit, ExcludedTilt, Optics, Tilt, TiltPose, TiltSeries
from eucentric.pipeline.focus_images import ctf_from_focus, interpolate_focus
from eucentric.pipeline.given_ctf import attach_ctf
from eucentric.pipeline.import_ctf import read_external_ctf, take_over, take_over_own

ANGLES = np.array([-50.0, -31.0, -12.0, 3.0, 17.0, 39.0, 58.0])
ORDER = np.array([6, 4, 2, 0, 1, 3, 5])
DEFOCUS = 30000.0 + 100.0 * np.arange(7)


def a_series(*, stack=False, ending="tif", name="TS_1"):
    tilts = [
        Tilt(
            nominal_tilt_deg=float(angle),
            acquisition=int(ORDER[i]),
            dose=3.0,
            pre_exposure=3.0 * int(ORDER[i]),
            movie=None if stack else f"frames/{name}_{i:02d}.{ending}",
            image=f"{i + 1}@{name}.st" if stack else None,
        )
        for i, angle in enumerate(ANGLES)
    ]
    return TiltSeries.sorted(tilts, name=name, pixel_size_angstrom=2.5, image_shape=(48, 64))


def table(path, values, *, name="x.mrc", angle=20.0):
    rows = [f"{i}.0 {d + 500.0} {d - 500.0} {angle} 0.0 0.1 8.0" for i, d in enumerate(values, 1)]
    header = f"# Output from CTFFind version 4.1.14, run\n# Input file: {name} ; Number of micrographs: {len(values)}\n"
    header += (
        "# acceleration voltage: 300.0 keV ; spherical aberration: 2.70 mm ; amplitude contrast: 0.07\n# Columns: #1\n"
    )
    path.write_text(header + "\n".join(rows) + "\n")


def defocus_file(path, indices, *, sign=1.0, offset=0.0):
    angles = sign * ANGLES + offset
    rows = [f"{i + 1} {i + 1} {angles[i]:.2f} {angles[i]:.2f} {DEFOCUS[i] / 10:.1f}" for i in indices]
    path.write_text("0 0 0 0 0 3\n" + "\n".join(rows) + "\n")


def defocus_of(attached):
    return np.array([t.ctf.defocus_angstrom for t in attached.series.tilts])


def said(attached, words):
    return any(words in c for c in attached.caveats)


def attach(series, taken):
    """As import and the stage do it, one after the other."""
    found = attach_ctf(series, taken.given)
    return replace(found, caveats=(*taken.caveats, *found.caveats))


def taken_over(series, external, **options):
    return attach(series, take_over(series, external, **options))


def test_rows_of_a_stack_are_its_sections(tmp_path):
    table(tmp_path / "TS_1.txt", DEFOCUS)
    found = taken_over(a_series(stack=True), read_external_ctf(tmp_path, "TS_1"))
    np.testing.assert_allclose(defocus_of(found), DEFOCUS)
    assert not said(found, "ascending")


def test_rows_of_movies_are_found_by_angles_beside_them(tmp_path):
    """A stack in the order it was taken, with its angles beside it."""
    taken = np.argsort(ORDER)
    table(tmp_path / "TS_1_ctffind4.txt", DEFOCUS[taken])
    (tmp_path / "TS_1.rawtlt").write_text("\n".join(f"{a:.1f}" for a in ANGLES[taken]))
    found = taken_over(a_series(), read_external_ctf(tmp_path, "TS_1"))
    np.testing.assert_allclose(defocus_of(found), DEFOCUS)
    assert not said(found, "ascending")


def test_rows_without_anything_are_taken_by_angle_and_it_is_said(tmp_path):
    table(tmp_path / "TS_1.txt", DEFOCUS)
    found = taken_over(a_series(), read_external_ctf(tmp_path, "TS_1"))
    np.testing.assert_allclose(defocus_of(found), DEFOCUS)
    assert said(found, "ascending order")
    table(tmp_path / "TS_1.txt", DEFOCUS[:5])
    with pytest.raises(InputError, match=r"which is which cannot be told.*rawtlt"):
        taken_over(a_series(), read_external_ctf(tmp_path, "TS_1"))


def test_tables_of_single_images_are_found_by_their_names(tmp_path):
    for i in (5, 0, 3, 1, 6, 2, 4):
        table(tmp_path / f"TS_1_{i:02d}_diagnostic.txt", DEFOCUS[i : i + 1], name=f"m/TS_1_{i:02d}.mrc")
    table(tmp_path / "TS_2_00_diagnostic.txt", [10000.0], name="m/TS_2_00.mrc")
    (tmp_path / "TS_1_00_diagnostic_avrot.txt").write_text("# columns\n1 2 3 4 5\n")
    (tmp_path / "notes.txt").write_text("hello\n")
    found = taken_over(a_series(), read_external_ctf(tmp_path, "TS_1"))
    np.testing.assert_allclose(defocus_of(found), DEFOCUS)
    assert found.filled == ()


def of_warp(angles):
    """As Warp lists estimates of images without names: angles of the stage, which the reader takes to be negated."""
    estimates = [
        CtfEstimate(fit=CtfFit(defocus_u_angstrom=d, defocus_v_angstrom=d), listed_deg=float(-a))
        for a, d in zip(angles, DEFOCUS, strict=True)
    ]
    return ExternalCtf(program="Warp", source="Warp (TS_1.xml)", estimates=tuple(estimates), place="specimen")


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_angles_of_warp_are_of_either_sign(sign):
    found = taken_over(a_series(), of_warp(sign * ANGLES))
    np.testing.assert_allclose(defocus_of(found), DEFOCUS)
    assert found.caveats == ()


def test_estimates_of_no_tilt_are_counted(tmp_path):
    defocus_file(tmp_path / "TS_1.defocus", range(7))
    series = a_series()
    found = taken_over(series.with_tilts(series.tilts[1:-1]), read_external_ctf(tmp_path, "TS_1"))
    np.testing.assert_allclose(defocus_of(found), DEFOCUS[1:-1])
    assert said(found, "2 of the 7 estimates of IMOD (TS_1.defocus) are of no tilt of TS_1")


@pytest.mark.parametrize("jitter", [0.0, 0.02])
def test_angles_of_warp_that_fit_either_way_are_told(jitter):
    """Symmetric angles: only what the stage missed them by tells the sign."""
    series = a_series()
    own = np.linspace(-60.0, 60.0, 7) + jitter * np.array([1, -1, 1, 1, -1, 1, 1])
    tilts = [replace(t, nominal_tilt_deg=float(a)) for t, a in zip(series.tilts, own, strict=True)]
    found = taken_over(series.with_tilts(tilts), of_warp(own))
    if jitter:
        np.testing.assert_allclose(defocus_of(found), DEFOCUS)
    else:
        np.testing.assert_allclose(defocus_of(found), DEFOCUS[::-1])
    assert said(found, "with either sign") is (not jitter)


@pytest.mark.parametrize("stack", [False, True])
def test_missing_views_take_values_between_their_neighbours(tmp_path, stack):
    defocus_file(tmp_path / "TS_1.defocus", [0, 1, 3, 4, 5])
    found = taken_over(a_series(stack=stack), read_external_ctf(tmp_path, "TS_1"))
    expected = DEFOCUS.copy()
    expected[2] = DEFOCUS[1] + 200.0 * (ANGLES[2] - ANGLES[1]) / (ANGLES[3] - ANGLES[1])
    expected[6] = DEFOCUS[5]  # beyond the last
    np.testing.assert_allclose(defocus_of(found), expected)
    assert found.filled == (2, 6)
    assert said(found, "no estimate at -12, 58 degrees")


def test_astigmatism_between_neighbours_turns_the_short_way(tmp_path):
    """From 80 to -80 degrees through 90: 1000 A each, a vector of twice the angle."""
    angles = (80.0, -80.0)
    rows = [f"{i + 1} {i + 1} {ANGLES[i]} {ANGLES[i]} 3050 2950 {a}" for i, a in zip((2, 4), angles, strict=True)]
    (tmp_path / "TS_1.defocus").write_text("1 0 0 0 0 3\n" + "\n".join(rows))
    fit = taken_over(a_series(), read_external_ctf(tmp_path, "TS_1")).series.tilts[3].ctf
    share = (ANGLES[3] - ANGLES[2]) / (ANGLES[4] - ANGLES[2])
    twice = (1 - share) * np.exp(2j * np.deg2rad(80)) + share * np.exp(-2j * np.deg2rad(80))
    assert fit.defocus_u_angstrom - fit.defocus_v_angstrom == pytest.approx(1000.0 * abs(twice))
    assert fit.astigmatism_angle_deg % 180 == pytest.approx(np.rad2deg(np.angle(twice) / 2) % 180)
    assert abs(fit.astigmatism_angle_deg) > 80


def test_angles_with_an_offset_are_told(tmp_path):
    defocus_file(tmp_path / "TS_1.defocus", range(7), offset=9.0)
    found = taken_over(a_series(), read_external_ctf(tmp_path, "TS_1"))
    np.testing.assert_allclose(defocus_of(found), DEFOCUS)
    assert said(found, "+9.00 degrees")


def test_estimates_of_excluded_tilts_do_no_harm(tmp_path):
    defocus_file(tmp_path / "TS_1.defocus", range(7))
    series = a_series()
    kept = replace(
        series,
        tilts=(*series.tilts[:2], *series.tilts[3:]),
        excluded=(ExcludedTilt(tilt=series.tilts[2], reason="dark"),),
    )
    found = taken_over(kept, read_external_ctf(tmp_path, "TS_1"))
    np.testing.assert_allclose(defocus_of(found), np.delete(DEFOCUS, 2))


def test_estimates_of_another_series_are_refused(tmp_path):
    rows = "\n".join(f"{i} {i} {70 + i} {70 + i} 3000" for i in range(1, 4))
    (tmp_path / "TS_1.defocus").write_text("0 0 0 0 0 3\n" + rows)
    with pytest.raises(InputError, match="belongs to this series"):
        taken_over(a_series(), read_external_ctf(tmp_path, "TS_1"))
    with pytest.raises(InputError, match="no contrast transfer"):
        taken_over(a_series().replace(optics=None), read_external_ctf(tmp_path, "TS_1"))


def test_other_optics_are_told(tmp_path):
    table(tmp_path / "TS_1.txt", DEFOCUS)
    series = a_series(stack=True).replace(optics=Optics(voltage_kv=200.0, amplitude_contrast=0.1))
    found = taken_over(series, read_external_ctf(tmp_path, "TS_1"))
    assert said(found, "with voltage 300 kV; the series has 200 kV")
    assert said(found, "amplitude contrast 0.07; the series has 0.1")
    assert not said(found, "aberration")


def test_nothing_there(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_external_ctf(tmp_path / "none", "TS_1")
    with pytest.raises(InputError, match="holds no estimates for TS_1"):
        read_external_ctf(tmp_path, "TS_1")


@pytest.mark.parametrize(("ending", "turned"), [("tif", False), ("mrc", False), ("eer", True)])
def test_angles_of_eer_movies_turn_the_other_way(tmp_path, ending, turned):
    """TIFF is turned over by all, MRC by none; EER by us and IMOD, not by RELION, MotionCor, AreTomo and Warp."""
    table(tmp_path / "TS_1.txt", DEFOCUS, angle=20.0)
    external = read_external_ctf(tmp_path, "TS_1")
    found = taken_over(a_series(ending=ending), external)
    assert [t.ctf.astigmatism_angle_deg for t in found.series.tilts] == [-20.0 if turned else 20.0] * 7
    assert said(found, "rows of EER") == turned
    for given in (True, False):
        forced = taken_over(a_series(ending=ending), external, rows_reversed=given)
        assert forced.series.tilts[0].ctf.astigmatism_angle_deg == (-20.0 if given else 20.0)
    rows = "\n".join(f"{i + 1} {i + 1} {a} {a} 3050 2950 20" for i, a in enumerate(ANGLES))
    (tmp_path / "TS_1.defocus").write_text("1 0 0 0 0 3\n" + rows)
    imod = taken_over(a_series(ending=ending), read_external_ctf(tmp_path / "TS_1.defocus", "TS_1"))
    assert imod.series.tilts[0].ctf.astigmatism_angle_deg == 20.0


@pytest.mark.parametrize("hand", [1.0, -1.0])
def test_defocus_of_the_middle_of_the_image_is_brought_to_the_specimen_centre(tmp_path, hand):
    """The point of the specimen's plane z = 0 that is seen in the image's middle has the defocus that was measured."""
    table(tmp_path / "TS_1.txt", DEFOCUS)
    rng = np.random.default_rng(5)
    poses = [
        TiltPose(
            y_tilt_deg=float(a),
            z_rot_deg=84.0,
            x_tilt_deg=2.0,
            x_shift_angstrom=float(rng.normal(0, 300)),
            y_shift_angstrom=float(rng.normal(0, 300)),
        )
        for a in ANGLES
    ]
    series = a_series(stack=True).replace(hand=hand)
    series = series.with_tilts([replace(t, pose=p) for t, p in zip(series.tilts, poses, strict=True)])
    found = taken_over(series, read_external_ctf(tmp_path, "TS_1"))
    geometry = TiltGeometry.from_poses(poses)
    for i in range(7):
        # in-plane point whose projection is the image's middle
        base, x, y = (geometry.project(np.array([p]))[i, 0] for p in ([0.0, 0, 0], [1.0, 0, 0], [0.0, 1, 0]))
        s, t = np.linalg.solve(np.stack([(x - base)[:2], (y - base)[:2]], axis=1), -base[:2])
        height = geometry.project(np.array([[s, t, 0.0]]))[i, 0, 2]
        assert defocus_of(found)[i] + hand * height == pytest.approx(DEFOCUS[i], abs=1e-6)
    assert np.abs(defocus_of(found) - DEFOCUS).max() > 200.0
    assert said(found, f"hand {hand:+.0f}")
    unaligned = taken_over(a_series(stack=True), read_external_ctf(tmp_path, "TS_1"))
    assert said(unaligned, "not aligned yet")


def test_files_named_by_the_user(tmp_path):
    for name, move in (("TS_1", 0.0), ("TS_11", 5000.0)):
        table(tmp_path / f"{name}_ctf.txt", DEFOCUS + move)
    paths = sorted(tmp_path.iterdir())
    one, eleven, other = (
        take_over_own(a_series(stack=True, name=n), paths, series_count=3) for n in ("TS_1", "TS_11", "TS_2")
    )
    np.testing.assert_allclose(defocus_of(attach(a_series(stack=True, name="TS_1"), one)), DEFOCUS)
    np.testing.assert_allclose(defocus_of(attach(a_series(stack=True, name="TS_11"), eleven)), DEFOCUS + 5000.0)
    assert other is None
    assert take_over_own(a_series(stack=True, name="TS_2"), [tmp_path], series_count=3) is None
    alone = take_over_own(a_series(stack=True, name="any"), [tmp_path / "TS_1_ctf.txt"], series_count=1)
    np.testing.assert_allclose(defocus_of(attach(a_series(stack=True, name="any"), alone)), DEFOCUS)


def on_axis(time, place):
    """Defocus that drifts with time over a specimen whose slope along the axis changes."""
    return 30000.0 + 150.0 * time + (0.02 + 0.001 * time) * place


def test_defocus_between_two_places_on_the_axis():
    """Linear in place and in time, so the interpolation is exact between the first and the last focus image."""
    images = [
        FocusImage(acquisition=t, position_angstrom=p, defocus_angstrom=on_axis(t, p))
        for t in (0.0, 3.0, 6.0)
        for p in (-20000.0, 12000.0)
    ]
    found = interpolate_focus(images[::-1], ANGLES, ORDER.astype(float))
    np.testing.assert_allclose(found.defocus_angstrom, on_axis(ORDER, 0.0))
    np.testing.assert_allclose(found.slope, 0.02 + 0.001 * ORDER)
    assert found.caveats == ()


def test_a_time_with_one_place_takes_the_slope_of_the_others():
    images = [
        FocusImage(acquisition=t, position_angstrom=p, defocus_angstrom=on_axis(t, p) + extra)
        for t, p, extra in ((0.0, -9e3, 0.0), (0.0, 9e3, 0.0), (6.0, -9e3, 0.0), (6.0, 9e3, 0.0), (3.0, 15e3, 70.0))
    ]
    found = interpolate_focus(images, ANGLES, ORDER.astype(float))
    assert found.defocus_angstrom[ORDER == 3][0] == pytest.approx(on_axis(3.0, 0.0) + 70.0)
    assert found.defocus_angstrom[ORDER == 6][0] == pytest.approx(on_axis(6.0, 0.0))


def test_one_place_says_that_the_slope_is_not_known():
    images = [FocusImage(tilt_deg=a, position_angstrom=8000.0, defocus_angstrom=31000.0) for a in (3.2, 57.5)]
    found = interpolate_focus(images, ANGLES, ORDER.astype(float))
    np.testing.assert_allclose(found.defocus_angstrom, 31000.0)
    assert np.isnan(found.slope).all()
    assert any("one place only" in c for c in found.caveats)
    assert any("1 tilts were taken" in c for c in found.caveats)  # the last, after 58 degrees
    with pytest.raises(InputError, match="26 degrees"):
        interpolate_focus([replace(images[0], tilt_deg=26.0)], ANGLES, ORDER.astype(float))
    with pytest.raises(InputError, match="No focus image"):
        interpolate_focus([], ANGLES, ORDER.astype(float))


def test_focus_images_give_a_series_its_defocus():
    images = [
        FocusImage(acquisition=t, position_angstrom=p, defocus_angstrom=on_axis(t, p))
        for t in (0.0, 6.0)
        for p in (-1e4, 1e4)
    ]
    found = attach(a_series(), ctf_from_focus(a_series(), images, source="focus", offset_angstrom=5000.0))
    np.testing.assert_allclose(defocus_of(found), on_axis(ORDER, 0.0) + 5000.0)
    fits = [t.ctf for t in found.series.tilts]
    assert all(math.isnan(f.score) and f.defocus_u_angstrom == f.defocus_v_angstrom for f in fits)
