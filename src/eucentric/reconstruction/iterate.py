"""Iterative solutions of ``forward(volume) = images``: least squares, with what is known of the volume."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.errors import InputError, ProcessingError, ShapeError
from eucentric.reconstruction.tilt_model import TiltModel

Constraint = Literal["none", "positive", "negative"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Step:
    """The state after an iteration. The volume is the solver's own: copy it to keep it."""

    iteration: int
    """Counted from 1."""
    volume: Float[Tensor, "z y x"]
    residual: float
    """Weighted root mean square of images minus projections, over that of the images, as the iteration found it: 1 at first.
    Of conjugate gradients that of their equation, after the iteration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping:
    """When to stop."""

    iterations: int
    """At most."""
    least_change: float = 0.0
    """Stop once the residual falls by less than this part of itself (of total variation: once the volume changes by less);
    0 goes on."""

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise InputError(f"{self.iterations} iterations were asked for; expected at least 1.")


_LEAST_SEEN = 0.05  # of the tilts: voxels that fewer see change no faster
_DUAL_PART = 0.1
_RUN_AWAY = 100.0  # times the residual of an empty volume

OnStep = Callable[[Step], None]


def sirt(
    model: TiltModel,
    images: Float[Tensor, "tilt y x"],
    stopping: Stopping,
    *,
    weights: Float[Tensor, "tilt y x"] | None = None,
    subsets: int = 1,
    relaxation: float = 1.0,
    constraint: Constraint = "none",
    support: Float[Tensor, "z y x"] | None = None,
    on_step: OnStep | None = None,
) -> Float[Tensor, "z y x"]:
    r"""Simultaneous iterative reconstruction [1]_, or with several subsets of tilts ordered-subset SART [2]_.

    :math:`x \leftarrow x + \alpha C A^T R\, (b - A x)` with R and C the inverse sums of rows and columns.

    Parameters
    ----------
    model, images : without contrast transfer; the images that the model is to give
    weights : (tilt, y, x), 0 to 1: what counts of the images; 1 everywhere where None
    subsets : groups of tilts after each of which the volume is changed, spread evenly; 1 is SIRT, one a tilt is SART
    relaxation : part of each step that is taken, above 0 and below 2
    constraint : sign of the density
    support : (z, y, x), 0 to 1: where there may be density

    Returns
    -------
    (z, y, x) density

    References
    ----------
    .. [1] Gilbert, J. Theor. Biol. 36:105 (1972), doi:10.1016/0022-5193(72)90180-4
    .. [2] Andersen & Kak, Ultrason. Imaging 6:81 (1984), doi:10.1016/0161-7346(84)90008-7
    """
    weights = _checked_weights(model, images, weights)
    if not 1 <= subsets <= len(model):
        raise InputError(f"{subsets} subsets of {len(model)} tilts were asked for; expected 1 to {len(model)}.")
    if not 0.0 < relaxation < 2.0:
        raise InputError(f"The relaxation is {relaxation:g}; expected more than 0 and less than 2.")
    groups = [np.arange(start, len(model), subsets) for start in _spread(subsets)]
    volume = images.new_zeros(model.volume_shape)
    rows = weights / _ray_sums(model, volume)
    columns = model.adjoint(weights)
    # a voxel that few tilts see may be seen by one of a group all the same: it must not change by more than that one asks for
    columns = relaxation / columns.clamp(min=max(_LEAST_SEEN * float(columns.max()), subsets * model.voxel_size))
    norm = _norm(images, weights)
    last = 1.0
    for iteration in range(1, stopping.iterations + 1):
        squared = 0.0
        for group in groups:
            part = model if subsets == 1 else model.select(group)
            missing = images[group] - part.forward(volume)
            squared += float((weights[group] * missing.square()).sum())
            missing *= rows[group]
            change = part.adjoint(missing)
            volume.add_(change.mul_(columns), alpha=float(subsets))
            _constrain(volume, constraint, support)
        residual = (squared**0.5) / norm
        _tell(iteration, volume, residual, on_step)
        if stopping.least_change and iteration > 1 and last - residual < stopping.least_change * last:
            break
        last = residual
    return volume


def conjugate_gradients(
    normal: Callable[[Tensor], Tensor],
    right_side: Float[Tensor, "z y x"],
    stopping: Stopping,
    *,
    precondition: Callable[[Tensor], Tensor] | None = None,
    on_step: OnStep | None = None,
) -> Float[Tensor, "z y x"]:
    """Solve ``normal(x) = right_side`` for a symmetric positive operator [1]_, from zero.

    The residual told is that of this equation, in the norm of the preconditioner.

    Parameters
    ----------
    precondition : rough inverse of `normal`, symmetric and positive; must give a new tensor

    References
    ----------
    .. [1] Hestenes & Stiefel, J. Res. Natl. Bur. Stand. 49:409 (1952), doi:10.6028/jres.049.044
    """
    volume = torch.zeros_like(right_side)
    missing = right_side.clone()
    if float(right_side.abs().max()) == 0.0:
        raise ProcessingError("The images are all zero where the volume is seen, so there is nothing to reconstruct.")
    direction = missing.clone() if precondition is None else precondition(missing)
    squared = start = _dot(missing, direction)
    last = 1.0
    for iteration in range(1, stopping.iterations + 1):
        if squared <= 1e-14 * start:
            break
        image = normal(direction)
        curvature = _dot(direction, image)
        if not curvature > 0.0:
            raise ProcessingError("The equations of the reconstruction are not positive. Raise the regularisation.")
        step = squared / curvature
        volume.add_(direction, alpha=step)
        missing.sub_(image, alpha=step)
        del image
        turned = missing if precondition is None else precondition(missing)
        before, squared = squared, _dot(missing, turned)
        residual = (max(squared, 0.0) / start) ** 0.5
        _tell(iteration, volume, residual, on_step)
        # this residual may rise on its way down
        if 0.0 <= last - residual < stopping.least_change * last:
            break
        last = residual
        direction.mul_(squared / before).add_(turned)
    return volume


def cgls(
    model: TiltModel,
    images: Float[Tensor, "tilt y x"],
    stopping: Stopping,
    *,
    weights: Float[Tensor, "tilt y x"] | None = None,
    regularisation: float = 0.0,
    on_step: OnStep | None = None,
) -> Float[Tensor, "z y x"]:
    r"""Least squares with Tikhonov's term, :math:`\|W^{1/2}(A x - b)\|^2 + \mu \|x\|^2`, by conjugate gradients.

    Parameters
    ----------
    regularisation : mu as a part of the largest eigenvalue of :math:`A^T W A`; with few iterations 0 is enough
    """
    weights = _checked_weights(model, images, weights)
    if not regularisation >= 0.0:
        raise InputError(f"The regularisation is {regularisation:g}; expected 0 or more.")
    mu = regularisation * largest_eigenvalue(model, weights) if regularisation else 0.0

    def normal(volume: Tensor) -> Tensor:
        out = model.adjoint(weights * model.forward(volume))
        return out.add_(volume, alpha=mu) if mu else out

    return conjugate_gradients(normal, model.adjoint(weights * images), stopping, on_step=on_step)


def largest_eigenvalue(model: TiltModel, weights: Tensor, *, rounds: int = 8) -> float:
    """Of :math:`A^T W A`, by the power method."""
    generator = torch.Generator(device="cpu").manual_seed(0)
    vector = torch.randn(model.volume_shape, generator=generator).to(weights) + 1.0
    value = 1.0
    for _ in range(rounds):
        vector /= _dot(vector, vector) ** 0.5
        vector = model.adjoint(weights * model.forward(vector))
        value = _dot(vector, vector) ** 0.5
    return value


def total_variation(
    model: TiltModel,
    images: Float[Tensor, "tilt y x"],
    stopping: Stopping,
    *,
    strength: float,
    weights: Float[Tensor, "tilt y x"] | None = None,
    constraint: Constraint = "none",
    support: Float[Tensor, "z y x"] | None = None,
    on_step: OnStep | None = None,
) -> Float[Tensor, "z y x"]:
    r"""Least squares with total variation, :math:`\tfrac12\|W^{1/2}(A x - b)\|^2 + \tau \sum |\nabla x|`.

    By the primal-dual method [1]_ with step sizes of each row and column [2]_.

    Parameters
    ----------
    strength : tau as a part of the largest value of :math:`A^T W b`: from 0.001 (little) to 0.1 (cartoons)
    constraint, support : as in :func:`sirt`

    References
    ----------
    .. [1] Chambolle & Pock, J. Math. Imaging Vis. 40:120 (2011), doi:10.1007/s10851-010-0251-1
    .. [2] Pock & Chambolle, ICCV 2011, 1762, doi:10.1109/ICCV.2011.6126441
    """
    if not strength > 0:
        raise InputError(f"The strength of total variation is {strength:g}; expected more than 0.")
    weights = _checked_weights(model, images, weights)
    norm = _norm(images, weights)
    volume = images.new_zeros(model.volume_shape)
    sums = _ray_sums(model, volume)
    # steps of either side may be scaled against each other: the dual of an image is a residual, some tenth of the image, and
    # the volume is an image over the length of a ray; so the unit of length does not matter
    balance = _DUAL_PART * float(sums.max())
    sigma = balance / sums
    columns = model.adjoint((weights > 0).to(images.dtype))
    # the gradient's rows have two entries of 1, its columns at most six; scaled so that both operators weigh alike
    scale = float(columns.mean()) / 6.0
    tau = 1.0 / (balance * (columns + 6.0 * scale))
    bound = strength * float(model.adjoint(weights * images).abs().max()) / scale
    dual_images = torch.zeros_like(images)
    dual_gradient = images.new_zeros((3, *model.volume_shape))
    extrapolated = volume.clone()
    for iteration in range(1, stopping.iterations + 1):
        missing = model.forward(extrapolated) - images
        residual = float((weights * missing.square()).sum()) ** 0.5 / norm
        # proximal step of the weighted square: (p + sigma r) / (1 + sigma / w), zero where nothing was recorded
        dual_images.add_(sigma * missing).mul_(weights / (weights + sigma).clamp(min=1e-12))
        for axis in range(3):
            dual_gradient[axis].add_(_difference(extrapolated, axis), alpha=0.5 * balance)
        length = dual_gradient.square().sum(0).sqrt_()
        dual_gradient /= (length / bound).clamp_(min=1.0)
        change = model.adjoint(dual_images)
        for axis in range(3):
            change.add_(_difference_transposed(dual_gradient[axis], axis), alpha=scale)
        extrapolated.copy_(volume)
        volume.sub_(change.mul_(tau))
        _constrain(volume, constraint, support)
        extrapolated.mul_(-1.0).add_(volume, alpha=2.0)
        _tell(iteration, volume, residual, on_step)
        # the residual swings about its end, and noise leaves it flat long before the volume has come to rest
        moved = _distance(volume, extrapolated)
        if moved <= stopping.least_change * _dot(volume, volume) ** 0.5:
            break
    return volume


def _ray_sums(model: TiltModel, like: Tensor) -> Tensor:
    """Sums of the rows of the model; no shorter than half the longest ray of a tilt.

    A ray that only clips a corner of the volume comes mostly from outside of it: its whole image is not to be explained there.
    """
    rows = model.forward(torch.ones_like(like))
    return torch.maximum(rows, 0.5 * rows.amax((1, 2), keepdim=True))


def _difference(volume: Tensor, axis: int) -> Tensor:
    """Next minus this along an axis; zero at the end."""
    out = torch.zeros_like(volume)
    count = volume.shape[axis] - 1
    if count:
        torch.sub(volume.narrow(axis, 1, count), volume.narrow(axis, 0, count), out=out.narrow(axis, 0, count))
    return out


def _difference_transposed(field: Tensor, axis: int) -> Tensor:
    out = torch.zeros_like(field)
    count = field.shape[axis] - 1
    if count:
        inner = field.narrow(axis, 0, count)
        out.narrow(axis, 0, count).sub_(inner)
        out.narrow(axis, 1, count).add_(inner)
    return out


def _checked_weights(model: TiltModel, images: Tensor, weights: Tensor | None) -> Tensor:
    expected = (len(model), *model.image_shape)
    if images.shape != expected:
        raise ShapeError(f"Images of shape {tuple(images.shape)} were given; expected {expected}.")
    if weights is None:
        return torch.ones_like(images)
    if weights.shape != images.shape:
        raise ShapeError(f"Weights of shape {tuple(weights.shape)} were given; expected {tuple(images.shape)}.")
    return weights


def _spread(count: int) -> Iterator[int]:
    """0 to count - 1 in steps of the golden section: neighbours in time are far apart in angle."""
    order = np.argsort(np.arange(count) * 0.6180339887498949 % 1.0, kind="stable")
    yield from (int(i) for i in order)


def _constrain(volume: Tensor, constraint: Constraint, support: Tensor | None) -> None:
    if constraint == "positive":
        volume.clamp_(min=0.0)
    elif constraint == "negative":
        volume.clamp_(max=0.0)
    if support is not None:
        volume.mul_(support)


def _dot(a: Tensor, b: Tensor) -> float:
    """Inner product, summed plane by plane in double precision."""
    return float(sum(float(torch.dot(p.reshape(-1), q.reshape(-1))) for p, q in zip(a, b, strict=True)))


def _distance(a: Tensor, b: Tensor) -> float:
    """Norm of the difference, without a volume of its own."""
    return float(sum(float((p - q).square().sum()) for p, q in zip(a, b, strict=True)) ** 0.5)


def _norm(images: Tensor, weights: Tensor) -> float:
    norm = float(float((weights * images.square()).sum()) ** 0.5)
    if not norm > 0:
        raise ProcessingError("The images are all zero, so there is nothing to reconstruct.")
    return norm


def _tell(iteration: int, volume: Tensor, residual: float, on_step: OnStep | None) -> None:
    """Report a step, unless it ran away."""
    if not residual < _RUN_AWAY:
        raise ProcessingError(
            f"The reconstruction ran away: after {iteration} iterations its residual is {residual:.3g} times the images. "
            "Lower the relaxation."
        )
    if on_step is not None:
        on_step(Step(iteration=iteration, volume=volume, residual=residual))
