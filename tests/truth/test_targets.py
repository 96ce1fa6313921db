"""Targets, beams and spots against rasters in space, analysis and laws."""

import numpy as np
import pytest

from eucentric.acquisition.place_targets import fill_area, place_targets
from eucentric.acquisition.plane_shapes import (
    disc_area_in_polygon,
    distance_to_polygon,
    inside_polygon,
    polygon_contains,
    polygons_touch,
)  # fmt: skip
from eucentric.acquisition.target_geometry import viewing_geometry
from eucentric.acquisition.target_params import TargetParams
from eucentric.errors import InputError
from eucentric.models.tilt_scheme import TiltScheme

_SCHEME = TiltScheme(step_deg=6.0)


def _params(**changes: object) -> TargetParams:
    usual = {
        "beam_diameter_angstrom": 10_000.0, "pixel_size_angstrom": 2.0, "camera_pixels": (3000, 2000),
        "margin_angstrom": 0.0,
    }  # fmt: skip
    return TargetParams.model_validate({**usual, **changes})


def _covered(offset: np.ndarray, tilt: float, params: TargetParams, flattest: float, step: float = 40.0) -> float:
    """Part of a target's field that a beam displaced by an offset (frame of the axis) lights: points in space, tilted."""
    p, r, z = (np.deg2rad(v) for v in (params.pretilt_deg, params.pretilt_turn_deg, params.image_axis_angle_deg))

    def projected(xy: np.ndarray, angle: float) -> np.ndarray:
        x, y = xy[..., 0], xy[..., 1]
        height = -np.tan(p) * (x * np.cos(r) + y * np.sin(r))
        a = np.deg2rad(angle)
        return np.stack([x * np.cos(a) + height * np.sin(a), y], axis=-1)

    side = np.arange(-4000.0, 4000.0, step) + 0.5 * step
    grid = np.stack(np.meshgrid(side, side), axis=-1)
    flat = projected(grid, flattest)
    camera_x = flat[..., 0] * np.cos(z) - flat[..., 1] * np.sin(z)
    camera_y = flat[..., 0] * np.sin(z) + flat[..., 1] * np.cos(z)
    width, height = np.array(params.camera_pixels) * params.pixel_size_angstrom
    field = (np.abs(camera_x) <= width / 2) & (np.abs(camera_y) <= height / 2)
    distance = np.linalg.norm(projected(grid[field], tilt) - projected(offset, tilt), axis=-1)
    return float((distance <= params.beam_diameter_angstrom / 2).mean())


@pytest.mark.parametrize(
    ("pretilt", "turn", "axis", "offset"),
    [(0, 0, 0, (7000, 2500)), (12, 0, 40, (-9000, -1000)), (-12, 30, -25, (6000, 4000)), (15, 70, 10, (3000, -5500))],
)
def test_beams_cover_what_points_in_space_say(
    pretilt: float, turn: float, axis: float, offset: tuple[float, float]
) -> None:
    params = _params(pretilt_deg=pretilt, pretilt_turn_deg=turn, image_axis_angle_deg=axis)
    scheme = TiltScheme(step_deg=30.0, start_deg=0.0)
    view = viewing_geometry(scheme, params)
    stage = np.array([[0.0, 0.0], np.array(offset) @ view.axis_of_stage])
    plan = place_targets(["a", "b"], stage, scheme, params)
    by_name = {t.name: t for t in plan.targets}
    flattest = view.tilts_deg[view.flattest]
    expected = [_covered(np.array(offset), t, params, flattest) for t in view.tilts_deg]
    np.testing.assert_allclose(by_name["a"].stray_part, expected, atol=0.006)  # 40 A pixels along edges of 10 000
    mirrored = [_covered(-np.array(offset), t, params, flattest) for t in view.tilts_deg]
    np.testing.assert_allclose(by_name["b"].stray_part, mirrored, atol=0.006)
    assert max(expected) > 0.05


def test_a_footprint_is_an_ellipse_longer_by_the_cosine() -> None:
    params = _params(pretilt_deg=10)
    view = viewing_geometry(TiltScheme(start_deg=-9.0, min_deg=-60, max_deg=48), params)
    tilt = int(np.argmin(np.abs(view.tilts_deg - 48)))
    assert tilt == view.steepest
    assert view.tilts_deg[view.flattest] == -9
    outline = view.footprint(tilt, 10_000.0, 720)
    along_specimen = outline[:, 0] / np.cos(np.deg2rad(10))  # the stage plane sees the lamella shortened
    assert along_specimen.max() * 2 == pytest.approx(10_000 / np.cos(np.deg2rad(58)), rel=1e-4)
    assert outline[:, 1].max() * 2 == pytest.approx(10_000, rel=1e-4)


def test_pre_tilt_lengthens_beams_on_its_own_side() -> None:
    scheme = TiltScheme(min_deg=0, max_deg=48, start_deg=0)
    apart = np.array([[0.0, 0.0], [0.0, 12_500.0]])  # across the axis
    kinds = {
        pretilt: {c.kind for c in place_targets(["a", "b"], apart, scheme, _params(pretilt_deg=pretilt)).conflicts}
        for pretilt in (20.0, -20.0)
    }
    assert "beam" in kinds[20.0]
    assert "beam" not in kinds[-20.0]


def test_the_camera_lies_as_the_axis_angle_says() -> None:
    # a long field; the camera's x runs at minus the angle from the direction across the axis
    params = _params(camera_pixels=(6000, 500), image_axis_angle_deg=30.0, beam_diameter_angstrom=4000.0)
    scheme = TiltScheme(min_deg=-3, max_deg=3)
    angle = np.deg2rad(-30.0)
    end = 6500.0 * np.array([np.cos(angle), np.sin(angle)])  # beyond the field's end of 6000, within the beam
    across, along = np.array([0.0, -1.0]), np.array([1.0, 0.0])
    for sign, hit in ((1, True), (-1, False)):
        places = np.array([[0, 0], end[0] * across + sign * end[1] * along])
        found = place_targets(["a", "b"], places, scheme, params).conflicts
        assert ("beam" in {c.kind for c in found}) == hit


def test_doses_add_up_in_the_order_of_exposures() -> None:
    params = _params(image_shift_limit_angstrom=9000.0, spots="group", spot_reach_angstrom=250.0)
    places = np.array([[0, 0], [5000, 1000], [0, 8000], [3000, 21000.0], [4000, 14000]])
    plan = place_targets(list("abcde"), places, TiltScheme(step_deg=20.0), params)
    assert plan.group_count > 1
    view = plan.view
    at = [t.stage_angstrom @ view.axis_of_stage.T for t in plan.targets]
    flattest = view.tilts_deg[view.flattest]
    given = np.zeros(5)
    for group in range(plan.group_count):
        mine = [t for t in plan.targets if t.group == group]
        for k, tilt in enumerate(view.tilts_deg):
            for target in mine:
                expected = given[target.order]
                assert target.stray_dose[k] == pytest.approx(expected, abs=0.006 * 120)
                for other in plan.targets:
                    offset = at[target.order] - at[other.order]
                    if other is not target and np.abs(offset[1]) < 9000:
                        given[other.order] += view.doses[k] * _covered(offset, tilt, params, flattest, 80.0)
    assert max(t.pre_exposed_fraction.max() for t in plan.targets) > 0.2


def test_spots_lie_on_the_axis_just_clear_of_the_field() -> None:
    params = _params(stage_axis_angle_deg=30.0, margin_angstrom=400.0)
    plan = place_targets(["a"], np.array([[1000.0, 2000.0]]), _SCHEME, params)
    (target,) = plan.targets
    along = np.array([np.cos(np.deg2rad(30)), np.sin(np.deg2rad(30))])
    needed = 2000.0 + 5000.0 + 400.0  # half the field, half the beam, the margin
    for place, sign in ((target.focus_stage_angstrom, 1), (target.tracking_stage_angstrom, -1)):
        assert place is not None
        offset = place - target.stage_angstrom
        assert abs(offset[0] * along[1] - offset[1] * along[0]) < 1e-6
        assert needed <= sign * (offset @ along) <= needed + 250
    assert plan.conflicts == ()


def test_spots_avoid_fields_of_others() -> None:
    # another target lies where the focus spot would be: both spots of `a` give way
    places = np.array([[0.0, 0.0], [14_000.0, 0.0]])
    plan = place_targets(["a", "b"], places, _SCHEME, _params(spot_diameter_angstrom=12_000.0))
    assert not [c for c in plan.conflicts if c.kind in ("spot", "no spot")]
    for target in plan.targets:
        for place in (target.focus_stage_angstrom, target.tracking_stage_angstrom):
            assert place is not None
            assert np.abs(place[0] - places[:, 0]).min() >= 2000 + 6000
    crowded = place_targets(["a", "b"], places, _SCHEME, _params(spot_reach_angstrom=6500.0))
    assert {c.kind for c in crowded.conflicts} == {"no spot"}


@pytest.mark.parametrize("margin", [0.0, 500.0])
def test_what_is_tracked_was_not_exposed_by_focusing(margin: float) -> None:
    params = _params(margin_angstrom=margin)
    rng = np.random.default_rng(3)
    area = np.array([[0, 0], [90_000, 0], [90_000, 60_000], [0, 60_000.0]])
    filled = fill_area(area, _SCHEME, params)
    shared = 0
    for places in (
        np.array([[0.0, 0.0], [10_000.0, 0.0]]),
        np.array([[0.0, 0.0], [14_500.0, 0.0], [29_000.0, 0.0]]),  # room for one spot between two
        rng.uniform(0, 60_000, (6, 2)),
        filled,
    ):
        plan = place_targets([str(n) for n in range(len(places))], places, _SCHEME, params)
        if places is filled:
            assert "no spot" not in {c.kind for c in plan.conflicts}
        focus = np.array([t.focus_stage_angstrom for t in plan.targets if t.focus_stage_angstrom is not None])
        tracked = np.array([t.tracking_stage_angstrom for t in plan.targets if t.tracking_stage_angstrom is not None])
        x, y = np.abs(tracked[:, None] - focus).transpose(2, 0, 1)
        for tilt in np.deg2rad(plan.view.tilts_deg):
            # the field of a tracking image, 6000 across the axis and 4000 along it where it lies flat, seen tilted
            across = np.maximum(y - 3000, 0) * np.cos(tilt)
            assert np.hypot(across, np.maximum(x - 2000, 0)).min() >= 5000 + margin - 1e-3
        shared += len(focus) - len(np.unique(np.round(focus, -3), axis=0))
    assert shared > 0


def test_turning_everything_changes_no_verdict() -> None:
    rng = np.random.default_rng(8)
    places = rng.uniform(0, 40_000, (7, 2))
    names = [f"t{n}" for n in range(7)]
    changes = {"pretilt_deg": 10.0, "pretilt_turn_deg": 20.0, "image_axis_angle_deg": 85.0}
    scheme = TiltScheme(step_deg=27.0, start_deg=-6.0)
    first = place_targets(names, places, scheme, _params(**changes))
    angle = np.deg2rad(37.0)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    second = place_targets(names, places @ turn.T, scheme, _params(**changes, stage_axis_angle_deg=37.0))
    assert [t.name for t in first.targets] == [t.name for t in second.targets]
    for one, other in zip(first.targets, second.targets, strict=True):
        np.testing.assert_allclose(one.stray_dose, other.stray_dose, atol=1e-6)
        np.testing.assert_allclose(one.image_shift_angstrom, other.image_shift_angstrom, atol=1e-5)
        assert (one.focus_stage_angstrom is None) == (other.focus_stage_angstrom is None)
        if one.focus_stage_angstrom is not None:
            np.testing.assert_allclose(turn @ one.focus_stage_angstrom, other.focus_stage_angstrom, atol=1e-5)
    said = [[(c.kind, c.target, c.other, c.tilts_deg) for c in plan.conflicts] for plan in (first, second)]
    assert said[0] == said[1]
    assert len(said[0]) > 4


def test_the_suggested_move_is_the_smallest_that_helps() -> None:
    params = _params(margin_angstrom=300.0)
    places = np.array([[0.0, 0.0], [4000.0, 0.0]])  # along the axis, where the way out is shortest
    plan = place_targets(["a", "b"], places, _SCHEME, params)
    beams = [c for c in plan.conflicts if c.kind == "beam"]
    assert len(beams) == 2
    assert {c.moved for c in beams} == {"b"}
    move = np.array(beams[0].move_stage_angstrom)
    np.testing.assert_allclose(move, [2000 + 5000 + 300 - 4000, 0.0], atol=1.0)
    again = place_targets(["a", "b"], places + np.array([[0, 0], move * 1.0001]), _SCHEME, params)
    assert "beam" not in {c.kind for c in again.conflicts}
    view = viewing_geometry(_SCHEME, params)
    rng = np.random.default_rng(4)
    way = rng.uniform(-1, 1, (4000, 2))
    shorter = way / np.linalg.norm(way, axis=1)[:, None] * np.linalg.norm(move) * rng.uniform(0, 0.999, (4000, 1))
    offsets = (places[1] + shorter) @ view.axis_of_stage.T
    assert (view.reaches(offsets, 5000 + 300) < 0).all()


def test_an_area_is_filled_without_conflict_and_not_sparsely() -> None:
    area = np.array([[0, 0], [60_000, 10_000], [50_000, 60_000], [5000, 50_000.0]])
    params = _params(image_axis_angle_deg=85.0, margin_angstrom=500.0, spots="group")
    places = fill_area(area, _SCHEME, params)
    names = [str(n) for n in range(len(places))]
    plan = place_targets(names, places, _SCHEME, params, area_angstrom=area)
    assert len(places) > 8
    assert not [c for c in plan.conflicts if c.kind != "no spot"]
    assert all(polygon_contains(area, plan.stage_outline(plan.view.field, place)) for place in places)
    few = np.argsort(np.linalg.norm(places - places[0], axis=1))[:4]
    nearer = places[0] + (places[few] - places[0]) * 0.97
    assert "beam" in {c.kind for c in place_targets(names[:4], nearer, _SCHEME, params).conflicts}


def test_what_stays_in_view_is_what_the_thickness_leaves() -> None:
    thick, width = 6000.0, 6000.0
    plan = place_targets(["a"], np.zeros((1, 2)), _SCHEME, _params(thickness_angstrom=thick))
    for seen, tilt in zip(plan.field_seen, np.deg2rad(plan.view.tilts_deg), strict=True):
        # a face moves by half the thickness times the sine, while the field shrinks by the cosine
        lost = max(0.0, width / 2 - (width / 2 - thick / 2 * abs(np.sin(tilt))) / np.cos(tilt)) / width
        assert seen == pytest.approx(1 - 2 / 3 * lost, abs=2 / 41)
    worst = max(
        (width / 2 - (width / 2 - thick / 2 * abs(np.sin(t))) / np.cos(t)) / width
        for t in np.deg2rad(plan.view.tilts_deg)
    )
    assert plan.field_kept == pytest.approx(1 - 4 / 3 * worst, abs=2 / 41)  # both sides of both faces
    assert plan.field_lit == 1.0
    # a lamella seen along its normal shows all of it, however thick
    tilted = _params(thickness_angstrom=thick, pretilt_deg=12.0, pretilt_turn_deg=0.0)
    lamella = place_targets(["a"], np.zeros((1, 2)), TiltScheme(start_deg=-12.0, min_deg=-60, max_deg=48), tilted)
    assert lamella.field_seen[lamella.view.tilts_deg == -12].tolist() == [1.0]
    assert lamella.field_seen[lamella.view.tilts_deg == 12][0] < 0.9
    thin = place_targets(["a"], np.zeros((1, 2)), _SCHEME, _params(thickness_angstrom=0.0))
    assert thin.field_kept == 1.0


def test_groups_keep_the_image_shift_limit() -> None:
    rng = np.random.default_rng(2)
    places = rng.uniform(0, 500_000, (30, 2))
    plan = place_targets([str(n) for n in range(30)], places, _SCHEME, _params())
    firsts = {g: next(t for t in plan.targets if t.group == g) for g in range(plan.group_count)}
    assert [t.order for t in plan.targets] == list(range(30))
    for target in plan.targets:
        away = np.linalg.norm(target.stage_angstrom - firsts[target.group].stage_angstrom)
        assert away <= 150_000
        assert target.image_shift_angstrom.max() == pytest.approx(away, rel=1e-6)
    assert all(t.image_shift_angstrom.max() == 0 for t in firsts.values())
    assert 2 < plan.group_count < 12


def test_edges_and_bars_are_told() -> None:
    area = np.array([[-20_000, -20_000], [20_000, -20_000], [20_000, 20_000], [-20_000, 20_000.0]])
    bar = np.array([[-30_000, 9000], [30_000, 9000], [30_000, 12_000], [-30_000, 12_000.0]])
    places = np.array([[0, 0], [0, 19_000], [0, 8000.0]])
    plan = place_targets(["in", "out", "bar"], places, _SCHEME, _params(), area_angstrom=area, bars_angstrom=[bar])
    assert {(c.kind, c.target) for c in plan.conflicts if c.kind in ("edge", "bar")} == {
        ("edge", "out"),
        ("bar", "bar"),
    }


def test_bad_input_is_told() -> None:
    one = np.zeros((1, 2))
    with pytest.raises(InputError, match="tilts to 72 degrees; the stage goes to 70"):
        place_targets(["a"], one, TiltScheme(min_deg=-60, max_deg=72), _params())
    with pytest.raises(InputError, match="from its edge"):
        place_targets(["a"], one, _SCHEME, _params(pretilt_deg=25))
    with pytest.raises(InputError, match="0 targets"):
        place_targets([], np.empty((0, 2)), _SCHEME, _params())
    with pytest.raises(InputError, match="expected numbers"):
        place_targets(["a"], np.full((1, 2), np.nan), _SCHEME, _params())
    with pytest.raises(InputError, match="same name"):
        place_targets(["a", "a"], np.zeros((2, 2)), _SCHEME, _params())
    with pytest.raises(InputError, match="not one whole field"):
        fill_area(np.array([[0, 0], [3000, 0], [0, 3000.0]]), _SCHEME, _params())
    with pytest.raises(InputError, match="at least three corners"):
        fill_area(np.zeros((2, 2)), _SCHEME, _params())


def test_shapes_agree_with_a_raster() -> None:
    rng = np.random.default_rng(5)
    side = (np.arange(400) + 0.5) / 400 * 6 - 3
    grid = np.stack(np.meshgrid(side, side), axis=-1)
    bent = np.array([[-2, -2], [2, -2], [2, 2], [0, -0.5], [-2, 2.0]])  # not convex
    four = np.array([[-1.5, -1], [1, -1.2], [1.6, 1], [-1, 1.4]])
    for _ in range(5):
        centre, radius = rng.uniform(-2, 2, 2), rng.uniform(0.2, 2.5)
        disc = np.linalg.norm(grid - centre, axis=-1) <= radius
        for polygon in (bent, four, four[::-1]):
            raster = (disc & inside_polygon(polygon, grid)).mean() * 36
            assert disc_area_in_polygon(polygon, centre, radius) == pytest.approx(raster, abs=0.05)
        nearest = np.linalg.norm(grid[inside_polygon(four, grid)] - centre, axis=-1).min()
        assert distance_to_polygon(four, centre) == pytest.approx(nearest, abs=0.03)
    assert inside_polygon(bent, np.array([[0.0, 1.0], [0.0, -1.0], [1.8, 1.5]])).tolist() == [False, True, True]
    assert polygons_touch(bent, np.array([[0, 1], [3, 1], [3, 0.5], [0, 0.5]]))
    assert not polygons_touch(bent, np.array([[-0.4, 2], [0.4, 2], [0.4, 1], [-0.4, 1]]))


def test_discs_that_only_touch_share_nothing() -> None:
    square = np.array([[-1.0, -1], [1, -1], [1, 1], [-1, 1]])
    places = np.array([[1.7, y] for y in np.linspace(-1.5, 1.5, 31)])
    assert (disc_area_in_polygon(square, places, 0.7) == 0).all()
    assert (disc_area_in_polygon(square, places + 0.3, 0.7) == 0).all()
    lens = disc_area_in_polygon(square, np.array([1.6999, 0.0]), 0.7)
    assert lens == pytest.approx(4 / 3 * np.sqrt(2 * 0.7) * 1e-4**1.5, rel=1e-3)  # a flat segment of height 1e-4
