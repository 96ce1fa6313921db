"""Figures of restored volumes draw what they are given."""

import numpy as np
import pytest

from eucentric.errors import ShapeError
from eucentric.figures.restoration import half_agreement_curves, invented_bars, restored_slices, signal_shares

FREQUENCY = np.linspace(0.002, 0.06, 30)
NOTHING = np.full(30, np.nan)


def test_curves_that_are_not_known_are_left_out():
    falls = np.exp(-((FREQUENCY * 40) ** 2))
    figure = half_agreement_curves(FREQUENCY, falls, falls**0.5, NOTHING, falls)
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert [t.get_text() for t in legend.get_texts()] == ["raw halves", "outputs, measured", "output with the signal"]
    np.testing.assert_array_equal(figure.axes[0].lines[1].get_ydata(), falls**0.5)


def test_shares_show_kept_signal_above_one_and_nothing_known():
    figure = signal_shares(FREQUENCY, np.full(30, 1.8), NOTHING, NOTHING, NOTHING, kept_sigma=np.full(30, 0.1))
    assert figure.axes[0].get_ylim()[1] > 1.9
    signal_shares(FREQUENCY, NOTHING, NOTHING, NOTHING, NOTHING).canvas.draw()


def test_bars_split_the_filled_power():
    bands = ((200.0, 60.0), (60.0, 40.0), (40.0, 25.0))
    invented, filled = np.array([0.2, 0.75, np.nan]), np.array([0.8, 0.4, np.nan])
    figure = invented_bars(bands, invented, np.array([0.1, np.nan, np.nan]), filled)
    heights = [bar.get_height() for bar in figure.axes[1].patches]
    np.testing.assert_allclose(heights, [0.64, 0.1, 0.0, 0.16, 0.3, 0.0], atol=1e-12)
    colors = {bar.get_facecolor() for bar in figure.axes[0].patches[:2]}
    assert len(colors) == 2  # over the limit it has another colour
    with pytest.raises(ShapeError, match="3 bands and 2 parts"):
        invented_bars(bands, invented[:2], invented, filled)


@pytest.mark.parametrize("shape", [(10, 40, 60), (40, 40, 20)])
def test_slices_are_those_through_the_centre(shape):
    raw = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    figure = restored_slices(raw, raw + 1, np.abs(raw), 10.0)
    shown = [axes.images[0].get_array() for axes in figure.axes[:6]]
    np.testing.assert_array_equal(shown[0], raw[shape[0] // 2])
    np.testing.assert_array_equal(shown[4], raw[:, shape[1] // 2] + 1)
    np.testing.assert_array_equal(shown[5], np.abs(raw)[:, shape[1] // 2])
    assert len(restored_slices(raw, raw, None, 10.0).axes) == 4
    with pytest.raises(ShapeError, match="one \\(z, y, x\\) shape"):
        restored_slices(raw, raw[1:], None, 10.0)
