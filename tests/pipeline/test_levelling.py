"""A series in the frame of its specimen: what is seen where stays, and so does the defocus of every point."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from eucentric.geometry import TiltGeometry
from eucentric.models import CtfFit, Optics, Tilt, TiltPose, TiltSeries
from eucentric.pipeline import levelling
from eucentric.reconstruction import SpecimenSlab

TILTS = np.arange(-60.0, 61.0, 20.0)
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


@pytest.mark.parametrize("optics", [True, False])
def test_places_and_defocus_of_points_stay(monkeypatch, optics):
    slab = found(monkeypatch)
    before = series(optics)
    after, metrics, caveats = levelling.level_series(before, torch.zeros(1))
    assert caveats == ()
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
    after, metrics, _ = levelling.level_series(series(), torch.zeros(1))
    assert metrics["inclination_x_deg"] == 3.0
    assert [p.x_tilt_deg for p in after.poses] == pytest.approx([0.0] * len(TILTS), abs=1e-9)
    assert [p.y_tilt_deg for p in after.poses] == pytest.approx(TILTS, abs=1e-9)


def test_nothing_changes_where_nothing_is_found(monkeypatch):
    found(monkeypatch, found=False)
    before = series()
    after, metrics, caveats = levelling.level_series(before, torch.zeros(1))
    assert after is before
    assert metrics == {}
    assert "No specimen stood out" in caveats[0]
