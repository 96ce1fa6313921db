"""How a training went: losses, and what was claimed against what was true where the network was not trained."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from eucentric.figures.canvas import FIRST, GREY, SECOND, decorate
from eucentric.typing import FloatArray

_SMOOTH = 20  # means over so much of the training at a time: 1 / 20


def training_figure(
    losses: FloatArray,
    names: Sequence[str],
    probabilities: Sequence[FloatArray],
    true: Sequence[NDArray[np.bool_]],
    cutoffs: Sequence[float],
) -> Figure:
    """Losses by step; for each class the candidates held out, best first: how many are true, how many were claimed to be.

    Parameters
    ----------
    losses : (step,)
    probabilities, true : of each class, (candidate,) that it is true, and whether it lies on a label
    cutoffs : (class,) probabilities
    """
    count = 1 + len(names)
    figure = Figure(figsize=(4.2 * min(count, 3), 3.4 * -(-count // 3)), layout="constrained")
    axes = decorate(figure.add_subplot(-(-count // 3), min(count, 3), 1))
    _draw_losses(axes, losses)
    axes.set_ylim(0.0, None)
    axes.legend(frameon=False, fontsize=8)
    for number, name in enumerate(names):
        axes = decorate(figure.add_subplot(-(-count // 3), min(count, 3), 2 + number))
        axes.set(xlabel="candidates held out, best first", ylabel="true among them", title=f"Calibration of {name}")
        order = np.argsort(-probabilities[number], kind="stable")
        if not len(order):
            axes.text(0.5, 0.5, "nothing was held out", ha="center", va="center", transform=axes.transAxes)
            continue
        along = np.arange(len(order) + 1)
        claimed, found = (np.concatenate([[0.0], np.cumsum(v[order])]) for v in (probabilities[number], true[number]))
        axes.plot(along, along, color=GREY, linestyle=":", linewidth=1.0, label="all")
        axes.plot(along, claimed, color=SECOND, linewidth=1.4, label="claimed")
        axes.step(along, found, where="post", color=FIRST, linewidth=1.4, label="on labels")
        picks = int((probabilities[number] >= cutoffs[number]).sum())
        axes.axvline(picks, color="black", linewidth=1.0, label=f"cut-off {cutoffs[number]:.2f}")
        axes.set_ylim(0.0, 1.15 * max(claimed[-1], found[-1], 1.0))
        axes.legend(frameon=False, fontsize=8)
    return figure


def judged_training_figure(losses: FloatArray, checks: Sequence[tuple[int, float]]) -> Figure:
    """Losses by step, and those on what was held out, the least of which is kept.

    Parameters
    ----------
    losses : (step,)
    checks : step and loss where it was not trained
    """
    figure = Figure(figsize=(8.4, 3.4), layout="constrained")
    _draw_losses(decorate(figure.add_subplot(1, 2, 1)), losses)
    axes = decorate(figure.add_subplot(1, 2, 2))
    steps, values = np.array([c[0] for c in checks]), np.array([c[1] for c in checks])
    axes.plot(steps, values, color=SECOND, linewidth=1.4, marker="o", markersize=3)
    if len(values):
        best = int(values.argmin())
        axes.axvline(steps[best], color=GREY, linestyle=":", linewidth=1.0, label=f"kept: step {steps[best]}")
        axes.legend(frameon=False, fontsize=8)
    axes.set(xlabel="step", ylabel="loss", title="Where it was not trained")
    return figure


def _draw_losses(axes: Axes, losses: FloatArray) -> None:
    steps = np.arange(1, len(losses) + 1)
    axes.plot(steps, losses, color="#c9d6e2", linewidth=0.8, label="each step")
    width = max(1, len(losses) // _SMOOTH)
    if len(losses) > width > 1:
        mean = np.convolve(losses, np.full(width, 1.0 / width), mode="valid")
        axes.plot(steps[width - 1 :], mean, color=FIRST, linewidth=1.4, label=f"mean of {width}")
    axes.set(xlabel="step", ylabel="loss", title="Training")
