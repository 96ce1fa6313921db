"""Figures of alignments show numbers where they belong, and stand odd input."""

from io import BytesIO

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.quiver import Quiver
from PIL import Image

from eucentric.errors import ShapeError
from eucentric.figures.alignment import (
    deformation_fields,
    excluded_views,
    models_tried,
    residual_vectors,
    residuals_against_tilt,
    residuals_by_point,
    tracks_over_image,
)
from eucentric.figures.movie import stack_frames

EXTENT = (400.0, 300.0)


def drawn(figure: Figure) -> Figure:
    figure.savefig(BytesIO(), format="png", dpi=40)
    return figure


def quivers(figure: Figure) -> list[Quiver]:
    return [c for axes in figure.axes for c in axes.collections if isinstance(c, Quiver)]


def test_residual_arrows_point_where_the_residuals_do() -> None:
    places = np.array([[10.0, 20.0], [-50.0, 60.0], [90.0, -90.0]])
    residuals = np.array([[1.0, 0.0], [0.0, 2.0], [40.0, 0.0]])
    outliers = np.array([False, False, True])
    figure = drawn(residual_vectors(np.array([-3.0, 0.0, 3.0]), places, residuals, EXTENT, outliers=outliers))
    good, bad = quivers(figure)
    np.testing.assert_allclose(good.XY, places[:2])
    np.testing.assert_allclose(np.stack([good.U, good.V], 1), residuals[:2])
    np.testing.assert_allclose(np.stack([bad.U, bad.V], 1), residuals[2:])
    assert good.scale == bad.scale
    # 8% of 400 A for about 1.95 A (the 95th percentile): at most 16.4 times longer, so 10 times
    assert good.scale == pytest.approx(0.1)
    assert "10 times" in figure.axes[0].get_title()
    assert "1.58 Å" in figure.axes[0].get_title()  # sqrt((1 + 4) / 2), the outlier apart


def test_deformation_is_shown_from_the_first_to_the_last_dose() -> None:
    rng = np.random.default_rng(0)
    field = rng.normal(size=(9, 3, 4, 2))
    exposures = np.array([30.0, 20, 10, 0, 40, 50, 60, 70, 80])
    figure = drawn(deformation_fields(field, np.arange(-12.0, 13.0, 3.0), exposures, EXTENT))
    shown = quivers(figure)
    for quiver, tilt in zip(shown, (3, 0, 5, 8), strict=True):  # ranks 0, 3, 5 and 8 of the doses
        np.testing.assert_allclose(quiver.U, field[tilt, ..., 0].ravel())
        np.testing.assert_allclose(quiver.V, field[tilt, ..., 1].ravel())
    # the grid lies from edge to edge, x running first
    np.testing.assert_allclose(shown[0].XY[[0, 3, 4, 11]], [[-200, -150], [200, -150], [-200, 0], [200, 150]])


@pytest.mark.parametrize("grid", [(1, 1), (2, 1), (15, 15)])
def test_deformation_on_any_grid(grid: tuple[int, int]) -> None:
    figure = drawn(deformation_fields(np.ones((2, *grid, 2)), np.zeros(2), np.arange(2.0), EXTENT))
    assert all(len(q.U) <= 49 for q in quivers(figure))
    drawn(deformation_fields(np.zeros((1, *grid, 2)), np.zeros(1), np.zeros(1), EXTENT))


def test_worst_point_comes_first() -> None:
    figure = drawn(residuals_by_point(["a", "b", "c"], np.array([1.0, np.nan, 3.0]), moved=np.array([0, 0, 1], bool)))
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["c", "a", "b"]
    many = drawn(residuals_by_point([str(i) for i in range(60)], np.arange(60.0)))
    assert "worst 40 of 60" in many.axes[0].get_xlabel()
    assert many.axes[0].get_xticklabels()[0].get_text() == "59"


def test_odd_input_is_drawn() -> None:
    none, places = np.zeros(0), np.zeros((0, 2))
    drawn(tracks_over_image(np.zeros(0, int), none, places, EXTENT))
    drawn(residual_vectors(none, places, places, EXTENT))
    drawn(tracks_over_image(np.zeros(2, int), np.zeros(2), np.zeros((2, 2)), EXTENT, image=np.zeros((3, 4))))
    drawn(residuals_against_tilt(np.array([0.0]), np.array([1.0])))
    drawn(residuals_against_tilt(np.arange(3.0), np.array([1.0, np.nan, 2.0]), np.full(3, np.nan)))
    drawn(models_tried(["one"], np.array([np.nan])))
    drawn(excluded_views([np.full((5, 4), np.nan), np.zeros((5, 4))], [3.0, 6.0], ["dark", ""]))
    drawn(excluded_views([], [], []))


def test_pictures_have_y_up() -> None:
    image = np.zeros((30, 40))
    image[20:] = 1.0
    for figure in (
        excluded_views([image], [0.0], ["blocked"]),
        tracks_over_image(np.zeros(1, int), np.zeros(1), np.zeros((1, 2)), EXTENT, image=image),
    ):
        assert figure.axes[0].images[0].origin == "lower"


def shown(picture: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(picture)).convert("L"), dtype=float)


def test_frames_of_a_slider_have_y_up() -> None:
    stack = np.zeros((3, 60, 80), dtype=np.float32)
    stack[0, 40:], stack[1, :, 60:], stack[2, :15] = 1.0, 5.0, -1.0  # bright above, bright right, dark below
    stack[2, 30, 30] = np.nan
    above, right, below = (shown(frame) for frame in stack_frames(stack))
    assert above.shape == (60, 80)
    assert above[5:15].mean() > 200 > 50 > above[30:].mean()
    assert right[:, 65:].mean() > 200 > 50 > right[:, :50].mean()
    assert below[50:].mean() < 50 < 200 < below[:40].mean()


def test_frames_are_made_small() -> None:
    noise = np.random.default_rng(0).normal(size=(6, 300, 200)).astype(np.float32)
    whole = stack_frames(noise, size_px=128)
    assert shown(whole[0]).shape == (128, 85)
    most = sum(map(len, whole)) // 3  # of noise alone, compressing is not enough
    smaller = stack_frames(noise, size_px=128, most_bytes=most)
    assert sum(map(len, smaller)) <= most
    assert 64 <= shown(smaller[0]).shape[0] < 128
    assert smaller == stack_frames(noise, size_px=128, most_bytes=most)


def test_frames_of_one_image_and_wrong_shapes() -> None:
    assert len(stack_frames(np.zeros((1, 8, 8)))) == 1
    assert len(stack_frames(np.full((2, 8, 8), np.nan))) == 2
    with pytest.raises(ShapeError):
        stack_frames(np.zeros((8, 8)))
