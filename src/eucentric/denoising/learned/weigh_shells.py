r"""How much of the network's output, and how much of the raw tomogram, belongs into every shell of Fourier space.

Of two halves :math:`h_1, h_2` with the signal :math:`s` and independent noise, and what a network made of them, :math:`f_1, f_2`,
the sum :math:`aF + bH` of the means F and H that is nearest to s solves

.. math:: \begin{pmatrix} \langle F,F\rangle & \langle F,H\rangle \\ \langle F,H\rangle & \langle H,H\rangle \end{pmatrix}
          \begin{pmatrix} a \\ b \end{pmatrix} =
          \begin{pmatrix} \langle F,s\rangle \\ \langle H,s\rangle \end{pmatrix}, \qquad
          \langle F,s\rangle = \tfrac12(\langle f_1,h_2\rangle + \langle f_2,h_1\rangle), \quad
          \langle H,s\rangle = \langle h_1,h_2\rangle,

as the noise of one half is in neither the other nor what was made of it. So a network that drops detail which the halves have in
common gets it back, and what it made up without support fades.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.typing import FloatArray

_SHELLS = 64
_SMOOTH = 2  # shells on either side whose sums are joined
_RIDGE = 1e-3
_MOST = 2.0
_CERTAIN = 2.0  # standard errors


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ShellWeights:
    """Of shells of equal width from zero frequency to Nyquist."""

    frequencies: FloatArray
    """(shell,) cycles per voxel, of the middles."""
    network: FloatArray
    raw: FloatArray


def weigh_shells(
    outputs: tuple[Float[Tensor, "z y x"], Float[Tensor, "z y x"]],
    halves: tuple[Float[Tensor, "z y x"], Float[Tensor, "z y x"]],
    measured: Float[Tensor, "z y half_x"],
) -> ShellWeights:
    """Weights of the network's mean output and of the mean of the halves.

    Parameters
    ----------
    outputs : what the network made of each half
    measured : 0 to 1 on the samples of an rfftn: the missing wedge has no say
    """
    first, second = (torch.fft.rfftn(v) for v in outputs)
    index = shell_index(tuple(outputs[0].shape), measured.device)
    one = torch.fft.rfftn(halves[0])
    cross = _summed(first, one, measured, index)  # f1 h1, kept for F H
    far = _summed(second, one, measured, index)
    own = _summed(first, first, measured, index) + _summed(second, second, measured, index)
    both = _summed(first, second, measured, index)
    powers = _summed(one, one, measured, index)
    two = torch.fft.rfftn(halves[1])
    far2 = _summed(first, two, measured, index)
    cross2 = _summed(second, two, measured, index)
    powers2 = _summed(two, two, measured, index)
    signal = _summed(one, two, measured, index)
    counts = torch.zeros(_SHELLS, dtype=torch.float64).index_add(
        0, index[index < _SHELLS], measured.reshape(-1)[index < _SHELLS].double() ** 2
    )
    ff, hh = _joined(0.25 * (own + 2.0 * both)), _joined(0.25 * (powers + powers2 + 2.0 * signal))
    fh = _joined(0.25 * (cross + cross2 + far + far2))
    fs, hs = _joined(0.5 * (far + far2)), _joined(signal)
    # correlations that chance explains count as none
    chance = _CERTAIN / _joined(counts).clamp_min(1.0).sqrt()
    fs = torch.where(fs > chance * (ff * hh).sqrt(), fs, 0.0)
    hs = torch.where(hs > chance * hh, hs, 0.0)
    ff, hh = ff * (1.0 + _RIDGE) + 1e-30, hh * (1.0 + _RIDGE) + 1e-30
    below = (ff * hh - fh**2).clamp_min(1e-6 * ff * hh)
    a, b = (fs * hh - hs * fh) / below, (hs * ff - fs * fh) / below
    # where one of the two would be taken away from the other, the better one alone
    alone_a, alone_b = fs / ff, hs / hh
    a, b = torch.where(b < 0, alone_a, a), b.clamp_min(0.0)
    b, a = torch.where(a < 0, alone_b, b), a.clamp_min(0.0)
    return ShellWeights(
        frequencies=((torch.arange(_SHELLS) + 0.5) * (0.5 / _SHELLS)).double().numpy(),
        network=a.clamp_max(_MOST).numpy(),
        raw=b.clamp_max(1.0).numpy(),
    )


def apply_weights(
    volume: Float[Tensor, "z y x"], weights: FloatArray, measured: Float[Tensor, "z y half_x"] | None = None
) -> Float[Tensor, "z y x"]:
    """A volume with each shell times its weight, between shells linearly; beyond Nyquist as the last.

    Parameters
    ----------
    measured : multiplied besides
    """
    curve = torch.from_numpy(weights).to(device=volume.device, dtype=volume.dtype)
    place = _radius(tuple(volume.shape), volume.device) * (2.0 * _SHELLS) - 0.5
    low = place.floor().clamp(0, _SHELLS - 1).long()
    part = (place - low).clamp(0.0, 1.0)
    gain = torch.lerp(curve[low], curve[(low + 1).clamp_max(_SHELLS - 1)], part)
    if measured is not None:
        gain = gain * measured
    out: Tensor = torch.fft.irfftn(torch.fft.rfftn(volume) * gain, s=volume.shape)
    return out


def _radius(shape: tuple[int, ...], device: torch.device) -> Tensor:
    z, y = (torch.fft.fftfreq(n, device=device) for n in shape[:2])
    x = torch.fft.rfftfreq(shape[2], device=device)
    out: Tensor = (z[:, None, None] ** 2 + y[:, None] ** 2 + x**2).sqrt()
    return out


def shell_index(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Flat number of each sample's shell, `_SHELLS` beyond Nyquist."""
    return (_radius(shape, device) * (2.0 * _SHELLS)).long().clamp_max(_SHELLS).reshape(-1)


def _summed(one: Tensor, two: Tensor, measured: Tensor, index: Tensor) -> Tensor:
    values = ((one * two.conj()).real * measured.square()).reshape(-1)
    sums = torch.zeros(_SHELLS + 1, dtype=torch.float64, device=values.device)
    return sums.index_add(0, index, values.double())[:_SHELLS].cpu()


def _joined(values: Tensor) -> Tensor:
    """Sums over neighbouring shells."""
    width = 2 * _SMOOTH + 1
    padded = torch.nn.functional.pad(values[None, None], (_SMOOTH, _SMOOTH), mode="replicate")
    return torch.nn.functional.avg_pool1d(padded, width, 1)[0, 0] * width
