"""Labels in pictures: the slices that hold them, their colours, and which way is up."""

import numpy as np
import pytest

from eucentric.errors import ShapeError
from eucentric.figures.segmentation import label_colors, label_views, labels_over_slices

SHAPE = (30, 40, 60)


def two_balls() -> np.ndarray:
    """Label 1 at low z, low y and low x; label 2 at high z, low y and high x."""
    z, y, x = np.indices(SHAPE)
    out = np.zeros(SHAPE, dtype=np.int16)
    out[(z - 8) ** 2 + (y - 10) ** 2 + (x - 12) ** 2 < 36] = 1
    out[(z - 21) ** 2 + (y - 10) ** 2 + (x - 45) ** 2 < 36] = 2
    return out


def center_of(picture: np.ndarray, color: np.ndarray) -> np.ndarray:
    """Row and column of what has a hue; rows count from below, as they are drawn."""
    hue = picture / np.maximum(np.linalg.norm(picture, axis=-1, keepdims=True), 1e-9)
    like = (hue @ (color / np.linalg.norm(color)) > 0.995) & (picture.max(-1) > 0.2)
    assert like.sum() > 20
    return np.argwhere(like).mean(0)


def test_views_show_each_label_where_it_is():
    figure = label_views(two_balls(), 10.0)
    above, side = (np.asarray(axes.images[0].get_array()) for axes in figure.axes)
    one, two = label_colors(np.array([1, 2]))
    padded = 1
    assert center_of(above, one) == pytest.approx([10 + padded, 12 + padded], abs=1.5)
    assert center_of(above, two) == pytest.approx([10 + padded, 45 + padded], abs=1.5)
    assert center_of(side, one) == pytest.approx([8 + padded, 12 + padded], abs=1.5)
    assert center_of(side, two) == pytest.approx([21 + padded, 45 + padded], abs=1.5)
    assert all(axes.images[0].origin == "lower" for axes in figure.axes)


def test_of_two_in_a_line_the_nearer_one_is_seen():
    labels = np.zeros(SHAPE, dtype=np.int16)
    labels[4:10, 4:12, 20:40] = 1  # nearer to -y, farther from +z
    labels[20:26, 4:12, 20:40] = 2
    labels[4:10, 25:33, 20:40] = 3
    above, side = (np.asarray(axes.images[0].get_array()) for axes in label_views(labels, 10.0).axes)
    one, two, three = label_colors(np.array([1, 2, 3]))
    with pytest.raises(AssertionError):
        center_of(above, one)  # hidden below the second
    center_of(above, two)
    with pytest.raises(AssertionError):
        center_of(side, three)  # hidden behind the first
    center_of(side, one)


def test_slices_are_those_with_most_labels():
    labels = two_balls()
    volume = np.zeros(SHAPE, dtype=np.float32)
    volume[21] = 5.0  # where label 2 is widest
    volume[7:10] = -np.arange(60)
    figure = labels_over_slices(volume, labels, 10.0)
    shown = np.asarray(figure.axes[0].images[0].get_array())
    at = int((labels > 0).sum((1, 2)).argmax())
    assert shown == pytest.approx(volume[at - 1 : at + 2].mean(0))
    over = np.asarray(figure.axes[1].images[1].get_array())
    assert ((over[..., 3] > 0) == (labels[at] > 0)).all()


def test_other_shapes_are_refused():
    with pytest.raises(ShapeError):
        labels_over_slices(np.zeros(SHAPE, dtype=np.float32), np.zeros((4, 4, 4), dtype=int), 10.0)
    with pytest.raises(ShapeError):
        label_views(np.zeros((4, 4), dtype=int), 10.0)
