"""A series in the frame of its specimen: what is seen where stays, and so does the defocus of every point."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from eucentric.geometry import TiltGeometry
from eucentric.models import CtfFit, Optics, Tilt, TiltPose, TiltSeries
from eucentric.pipeline import levelling
from eucentric.reconstruction import SpecimenSlab

TILTS = np.arange(-60.0, 61.0, 10.0)
FLAT = torch.ones(len(TILTS), 32, 32)
"""Images that do not darken with tilt."""
POINTS = np.random.default_rng(5).uniform(-500, 500, (20, 3))


def series(optics=True):
    tilts = [
        Tilt(
            nominal_tilt_deg=float(tilt),
            acquisition=i,
            dose=3.0,
            pre_exposure=3.0 * i,
            pose=TiltPose(
                y_tilt_deg=float(tilt),
                z_rot_deg=84.0,
                x_shift_angstrom=12.0 * i,
                y_shift_angstrom=-7.0,
                sigma_angstrom=0.3,
            ),
            ctf=CtfFit(defocus_u_angstrom=30100.0, defocus_v_angstrom=29900.0) if optics else None,
        )
        for i, tilt in enumerate(TILTS)
    ]
    return TiltSeries(
        name="TS",
        pixel_size_angstrom=10.0,
        image_shape=(64, 64),
        tilts=tuple(tilts),
        optics=Optics() if optics else None,
        hand=-1.0,
    )


def found(monkeypatch, **values):
    fields = {
        "found": True,
        "x_tilt_deg": 3.0,
        "y_tilt_deg": -8.0,
        "z_angstrom": 150.0,
        "thickness_angstrom": 1200.0,
        "x_tilt_sigma_deg": 0.5,
        "y_tilt_sigma_deg": 0.5,
        "z_sigma_angstrom": 10.0,
        "thickness_sigma_angstrom": 30.0,
        "score": 100.0,
        "contrast": 10.0,
    }
    slab = SpecimenSlab(**(fields | values))
    monkeypatch.setattr(levelling, "find_specimen", lambda *args, **kinds: slab)
    return slab


def lit(paths=0.4, y_tilt=0.0):
    """Images as bright as a slab leaves them whose normal leans by y_tilt in the frame of the poses."""
    cosine = np.cos(np.deg2rad(TILTS + y_tilt))
    means = torch.from_numpy(25.0 * np.exp(-paths / cosine)).float()
    return means[:, None, None].expand(-1, 32, 32)


@pytest.mark.parametrize("optics", [True, False])
def test_places_and_defocus_of_points_stay(monkeypatch, optics):
    slab = found(monkeypatch)
    before = series(optics)
    after, metrics, caveats = levelling.level_series(before, lambda: FLAT)
    assert "do not darken" in caveats[0]
    assert metrics["inclination_y_deg"] == -8.0
    assert after.thickness_angstrom == 1260.0
    old, new = TiltGeometry.from_poses(before.poses), TiltGeometry.from_poses(after.poses)
    moved = (POINTS - slab.centre_angstrom) @ slab.rotation  # into the slab's own frame
    seen, seen_after = old.project(POINTS), new.project(moved)
    assert_allclose(seen_after[..., :2], seen[..., :2], atol=1e-6)
    assert all(pose.sigma_angstrom == 0.3 for pose in after.poses)
    if optics:
        defocus = [[t.ctf.defocus_u_angstrom, t.ctf.defocus_v_angstrom] for s in (before, after) for t in s.tilts]
        first, second = np.array(defocus).reshape(2, len(TILTS), 2)
        expected = first[:, None] - seen[..., 2:]  # hand -1
        assert_allclose(second[:, None] - seen_after[..., 2:], expected, atol=1e-6)
    else:
        assert all(t.ctf is None for t in after.tilts)


def test_inclinations_that_may_be_none_are_left(monkeypatch):
    found(monkeypatch, x_tilt_sigma_deg=2.0, y_tilt_sigma_deg=5.0)
    after, metrics, _ = levelling.level_series(series(), lambda: FLAT)
    assert metrics["inclination_x_deg"] == 3.0
    assert [p.x_tilt_deg for p in after.poses] == pytest.approx([0.0] * len(TILTS), abs=1e-9)
    assert [p.y_tilt_deg for p in after.poses] == pytest.approx(TILTS, abs=1e-9)


def test_nothing_changes_where_nothing_is_found(monkeypatch):
    found(monkeypatch, found=False)
    before = series()
    after, metrics, caveats = levelling.level_series(before, lambda: FLAT)
    assert after is before
    assert metrics == {}
    assert "No specimen stood out" in caveats[0]


def test_both_methods_make_one_record(monkeypatch):
    slab = found(monkeypatch, y_tilt_deg=-8.1, y_tilt_sigma_deg=0.3)
    before = series()
    result = levelling.measure_specimen(before, lit(0.4, -8.0))
    specimen = result.specimen
    assert result.caveats == ()
    assert specimen.intensity_thickness_angstrom == pytest.approx(0.4 * 3000.0, rel=0.01)
    assert specimen.features_thickness_angstrom == slab.thickness_angstrom
    # 1200 +- 30 and 1200 +- 180 A
    assert specimen.thickness_angstrom == pytest.approx(1200.0, rel=0.01)
    assert specimen.thickness_sigma_angstrom == pytest.approx((30.0**-2 + 180.0**-2) ** -0.5, rel=0.02)
    assert (specimen.pre_tilt_x_deg, specimen.pre_tilt_y_deg) == (3.0, -8.1)
    assert (specimen.x_tilt_deg, specimen.y_tilt_deg, specimen.z_angstrom) == (3.0, -8.1, 150.0)
    levelled = levelling.level_by(before, result)
    flat = levelled.specimen
    assert (flat.x_tilt_deg, flat.y_tilt_deg, flat.z_angstrom) == (0.0, 0.0, 0.0)
    assert (flat.pre_tilt_x_deg, flat.pre_tilt_y_deg) == (3.0, -8.1)
    assert levelled.thickness_angstrom == pytest.approx(flat.enclosing_thickness_angstrom)


def test_the_inclination_from_intensities_is_given_to_the_search(monkeypatch):
    asked = {}
    slab = found(monkeypatch)

    def look(*args, **kinds):
        asked.update(kinds)
        return slab

    monkeypatch.setattr(levelling, "find_specimen", look)
    levelling.measure_specimen(series(), lit(0.4, 9.0))
    assert asked["y_tilt_deg"][0] == pytest.approx(9.0, abs=0.1)
    levelling.measure_specimen(series(), FLAT)
    assert asked["y_tilt_deg"] is None


def test_intensities_alone_level_about_the_tilt_axis(monkeypatch):
    found(monkeypatch, found=False)
    after, _, caveats = levelling.level_series(series(), lambda: lit(0.5, 9.0))
    assert "intensities alone" in caveats[0]
    assert [p.y_tilt_deg for p in after.poses] == pytest.approx(TILTS + 9.0, abs=0.1)
    assert [p.x_tilt_deg for p in after.poses] == pytest.approx([0.0] * len(TILTS), abs=1e-6)
    # 1500 A, its mean free path known to 15%
    assert after.thickness_angstrom == pytest.approx(1500.0 * 1.3, rel=0.02)


def test_thicknesses_that_disagree_are_put_into_words(monkeypatch):
    found(monkeypatch, thickness_angstrom=500.0)
    said = levelling.measure_specimen(series(), lit(0.8)).caveats
    assert "500 A thick by what it holds and 2400 A" in said[0]
    assert "may be empty" in said[0]
    found(monkeypatch, thickness_angstrom=2000.0)
    assert "mean free path may be longer" in levelling.measure_specimen(series(), lit(0.3)).caveats[0]


def test_the_mean_free_path_follows_voltage_and_setting(monkeypatch):
    found(monkeypatch)
    slower = series().replace(optics=Optics(voltage_kv=200.0))
    thick = [
        levelling.measure_specimen(s, lit(), mean_free_path_angstrom=p).specimen.intensity_thickness_angstrom
        for s, p in ((series(), 3000.0), (series(), 3950.0), (slower, 3000.0))
    ]
    assert thick[1] / thick[0] == pytest.approx(3950.0 / 3000.0)
    assert thick[2] / thick[0] == pytest.approx(0.4835 / 0.6030, rel=1e-3)
