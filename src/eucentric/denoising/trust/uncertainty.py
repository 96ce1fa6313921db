"""One standard deviation of each voxel of a network's output, from halves and from turns of the volume."""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from eucentric.denoising.trust.block_spectra import Measured, check_same_shapes, measured_on
from eucentric.errors import InputError

_KEPT = 0.02  # mean change of what was measured that a turn may bring
_PROBE = 32  # voxels


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Uncertainty:
    """A restored volume with its uncertainty."""

    mean: Float[Tensor, "z y x"]
    """Mean of all outputs."""
    sigma: Float[Tensor, "z y x"]
    """1 sd of `mean`, from noise and turns, in its unit; where the network errs in the same way each time it says nothing."""
    noise_sigma: Float[Tensor, "z y x"]
    """The part that comes from the noise of the input: what another recording would change."""
    turn_sigma: Float[Tensor, "z y x"]
    """The part that comes from how the volume lies: what the network makes up by itself; 0 without turns."""
    pairs: int


def turns_keeping_wedge(measured: Measured) -> tuple[tuple[int, ...], ...]:
    """Axes (0 z, 1 y, 2 x) to mirror so that what was measured stays what it was; the first is none.

    Mirrors of two axes are half turns. All eight keep the wedge of a tilt series that went as far to either side; of any other
    those along y, and half a turn about y.
    """
    shape = (_PROBE, _PROBE, _PROBE)
    known = measured_on(measured, shape, torch.device("cpu"))
    kept = []
    for count in range(4):
        for axes in itertools.combinations(range(3), count):
            # k and -k are one, so that mirroring x is mirroring z and y
            turned = tuple(a for a in (0, 1) if (a in axes) != (2 in axes))
            mirrored = known.flip(turned).roll([1] * len(turned), turned) if turned else known
            if float((mirrored - known).abs().mean()) <= _KEPT:
                kept.append(axes)
    return tuple(kept)


def apply_turned(
    apply: Callable[[Tensor], Tensor], volume: Float[Tensor, "z y x"], axes: Sequence[int]
) -> Float[Tensor, "z y x"]:
    """Mirror, apply, mirror back."""
    if not axes:
        return apply(volume)
    return apply(volume.flip(tuple(axes))).flip(tuple(axes))


def estimate_uncertainty(
    outputs: Iterable[tuple[Float[Tensor, "z y x"], Float[Tensor, "z y x"]]], *, window: float = 3.0
) -> Uncertainty:
    r"""Mean and standard deviation of outputs, one pair a turn: made of half 1 and of half 2.

    With output :math:`f_{it}` of half i in turn t, a two-way analysis of variance. Let a be the variance that the noise of a
    half brings, b that of turns alike in both halves, c that of turns peculiar to a half. The mean over two halves and T turns
    has the variance :math:`a/2 + b/T + c/2T`. With :math:`d_t = (f_{1t} + f_{2t})/2` and :math:`e_t = (f_{1t} - f_{2t})/2`,

    .. math:: \langle \bar e^2 \rangle = a/2 + c/2T, \qquad \operatorname{var}_t d = b + c/2, \qquad
              \operatorname{var}_t e = c/2,

    so that the variance is :math:`\bar e^2 + (\operatorname{var}_t d - \operatorname{var}_t e) / T`: half of the difference
    of the halves' outputs is 1 sd of their mean, and :math:`1/\sqrt 2` of the difference that of either alone. As each voxel
    has but one such difference, squares are averaged over a Gaussian window around it; a window of w voxels holds some
    :math:`44 w^3 / l^3` independent ones where noise is alike over l voxels.

    Each pair is used once and may be made on the way (a generator): a few volumes are held, however many turns there are.

    Parameters
    ----------
    outputs : pairs of equal shape, at the scale of `mean`
    window : 1 sd, in voxels

    Raises
    ------
    ShapeError : volumes of other shapes
    InputError : no pair, or a negative window
    """
    if window < 0:
        raise InputError(f"A window of {window:g} voxels was given; expected 0 or more.")
    count = 0
    state: list[Tensor] = []
    for one, two in outputs:
        check_same_shapes(output1=one, output2=two)
        both, half = 0.5 * (one.float() + two.float()), 0.5 * (one.float() - two.float())
        count += 1
        if not state:
            state = [both, half, torch.zeros_like(both)]
            continue
        check_same_shapes(first=state[0], other=both)
        new_both, new_half = both - state[0], half - state[1]
        state[0] += new_both / count
        state[1] += new_half / count
        state[2] += new_both * (both - state[0]) - new_half * (half - state[1])
    if not state:
        raise InputError("No outputs were given; expected one pair or more, made of the two halves.")
    mean, half, excess = state
    noise = smoothed(half.square(), window)
    turn = torch.zeros_like(noise)
    if count > 1:
        turn = smoothed(excess, window).clamp(min=0.0) / ((count - 1) * count)
    return Uncertainty(
        mean=mean, sigma=(noise + turn).sqrt(), noise_sigma=noise.sqrt(), turn_sigma=turn.sqrt(), pairs=count
    )


def smoothed(volume: Float[Tensor, "z y x"], sigma: float) -> Float[Tensor, "z y x"]:
    """Gaussian mean over what lies around each voxel within the volume."""
    reach = math.ceil(3.0 * sigma)
    if not reach:
        return volume
    line = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=volume.device) / sigma) ** 2)
    out = volume[None, None]
    for axis in range(3):
        n = volume.shape[axis]
        shape, pad = [1, 1, 1, 1, 1], [0, 0, 0]
        shape[axis + 2], pad[axis] = len(line), reach
        inside = [1, 1, 1, 1, 1]
        inside[axis + 2] = n
        kernel = line.reshape(shape)
        ones = torch.ones(inside, device=volume.device)
        out = functional.conv3d(out, kernel, padding=pad) / functional.conv3d(ones, kernel, padding=pad)
    return out[0, 0]
