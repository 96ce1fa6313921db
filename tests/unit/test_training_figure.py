"""The figure of a training: what is claimed and what is true, as numbers."""

import numpy as np

from eucentric.figures.training import training_figure


def test_claimed_and_true_are_counted_from_the_best_on():
    probabilities = [np.array([0.2, 0.9, 0.5]), np.zeros(0)]
    true = [np.array([False, True, True]), np.zeros(0, dtype=bool)]
    figure = training_figure(np.linspace(2.0, 1.0, 40), ["a", "b"], probabilities, true, [0.4, 0.5])
    training, first, second = figure.axes
    lines = {line.get_label(): line for line in training.lines}
    np.testing.assert_allclose(lines["mean of 2"].get_ydata()[0], np.linspace(2.0, 1.0, 40)[:2].mean())
    lines = {line.get_label(): line for line in first.lines}
    np.testing.assert_allclose(lines["claimed"].get_ydata(), [0.0, 0.9, 1.4, 1.6])
    np.testing.assert_allclose(lines["on labels"].get_ydata(), [0.0, 1.0, 2.0, 2.0])
    assert list(lines["cut-off 0.40"].get_xdata()) == [2, 2]
    assert [text.get_text() for text in second.texts] == ["nothing was held out"]
