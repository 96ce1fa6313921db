r"""Atoms to electrostatic potential, as the electrons see it: protein in vitreous ice, in volts above the ice.

An atom's potential is :math:`47.878\,\mathrm{V A^2}\,\int f(k) e^{2\pi i k r} d^3k` with the electron scattering
factor f in A as five Gaussians [1]_. The water that it pushes away is a Gaussian of the atom's volume v [2]_:
:math:`\rho\, v \exp(-\pi k^2 v^{2/3})`.

References
----------
.. [1] Peng, Ren, Dudarev & Whelan, Acta Cryst. A52:257 (1996), doi:10.1107/S0108767395014371 (International Tables C,
   table 4.3.2.2)
.. [2] Fraser, MacRae & Suzuki, J. Appl. Cryst. 11:693 (1978), doi:10.1107/S0021889878014296
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Complex, Float
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from eucentric.errors import InputError, ShapeError
from eucentric.models.optics import Optics
from eucentric.typing import FloatArray

VOLT_SQUARE_ANGSTROM = 47.87801
"""h^2 / (2 pi m e): scattering factor in A times this is potential times volume in V A^3."""
ICE_VOLTS = 4.53
"""Mean potential of vitreous ice of 0.93 g/cm^3 made of free atoms."""

# amplitudes (A) and widths (A^2) of f = sum a exp(-b k^2 / 4); the volume (A^3) that the atom displaces
_ELEMENTS: dict[str, tuple[tuple[float, ...], tuple[float, ...], float]] = {
    "H": ((0.0349, 0.1201, 0.1970, 0.0573, 0.1195), (0.5347, 3.5867, 12.3471, 18.9525, 38.6269), 5.15),
    "C": ((0.0893, 0.2563, 0.7570, 1.0487, 0.3575), (0.2465, 1.7100, 6.4094, 18.6113, 50.2523), 16.44),
    "N": ((0.1022, 0.3219, 0.7982, 0.8197, 0.1715), (0.2451, 1.7481, 6.1925, 17.3894, 48.1431), 2.49),
    "O": ((0.0974, 0.2921, 0.6910, 0.6990, 0.2039), (0.2067, 1.3815, 4.6943, 12.7105, 32.4726), 9.13),
    "F": ((0.1083, 0.3175, 0.6487, 0.5846, 0.1421), (0.2057, 1.3439, 4.2788, 11.3932, 28.7881), 13.3),
    "NA": ((0.2142, 0.6853, 0.7692, 1.6589, 1.4482), (0.3334, 2.3446, 10.0830, 48.3037, 138.2700), 4.5),
    "MG": ((0.2314, 0.6866, 0.9677, 2.1882, 1.1339), (0.3278, 2.2720, 10.9241, 39.2898, 101.9748), 1.6),
    "P": ((0.2548, 0.6106, 1.4541, 2.3204, 0.8477), (0.2908, 1.8740, 8.5176, 24.3434, 63.2996), 5.73),
    "S": ((0.2497, 0.5628, 1.3899, 2.1865, 0.7715), (0.2681, 1.6711, 7.0267, 19.5377, 50.3888), 19.86),
    "CL": ((0.2443, 0.5397, 1.3919, 2.0197, 0.6621), (0.2468, 1.5242, 6.1537, 16.6687, 42.3086), 24.8),
    "K": ((0.4115, 1.4031, 2.2784, 2.6742, 2.2162), (0.3703, 3.3874, 13.1029, 68.9592, 194.4329), 11.0),
    "CA": ((0.4054, 1.3880, 2.1602, 3.7532, 2.2063), (0.3499, 3.0991, 11.9608, 53.9353, 142.3892), 4.2),
    "MN": ((0.3796, 1.2094, 1.7815, 2.5420, 1.5937), (0.2699, 2.0455, 7.4726, 31.0604, 91.5622), 9.2),
    "FE": ((0.3946, 1.2725, 1.7031, 2.3140, 1.4795), (0.2717, 2.0443, 7.6007, 29.9714, 86.2265), 7.99),
    "CO": ((0.4118, 1.3161, 1.6493, 2.1930, 1.2830), (0.2742, 2.0372, 7.7205, 29.9680, 84.9383), 8.2),
    "NI": ((0.3860, 1.1765, 1.5451, 2.0730, 1.3814), (0.2478, 1.7660, 6.3107, 25.2204, 74.3146), 8.2),
    "CU": ((0.4314, 1.3208, 1.5236, 1.4671, 0.8562), (0.2694, 1.9223, 7.3474, 28.9892, 90.6246), 8.8),
    "ZN": ((0.4288, 1.2646, 1.4472, 1.8294, 1.0934), (0.2593, 1.7998, 6.7500, 25.5860, 73.5284), 9.85),
    "SE": ((0.4477, 1.1678, 1.5843, 2.8087, 1.1956), (0.2405, 1.5442, 6.3231, 19.4610, 52.0233), 28.7),
    "AU": ((0.9674, 1.8916, 3.3993, 3.0524, 1.2607), (0.2358, 1.4712, 5.6758, 18.7119, 61.5286), 16.96),
}
# mean number of hydrogens that atomic models leave out, for each atom of proteins: 7.8 for each residue in all
_HYDROGENS = {"C": 1.2, "N": 1.2, "O": 0.2}
_OVERSAMPLING = 2  # a cubic B-spline then leaves less than 1.3% of alias at the Nyquist frequency of the result


def interaction_parameter(voltage_kv: float) -> float:
    """Phase in radians for each V A of projected potential: 6.526e-4 at 300 kV, 7.288e-4 at 200 kV."""
    volts, rest = voltage_kv * 1e3, 510998.95
    wavelength = Optics(voltage_kv=voltage_kv).wavelength_angstrom
    return 2.0 * math.pi / (wavelength * volts) * (rest + volts) / (2.0 * rest + volts)


_PROTEIN = {"C": 4.94, "N": 1.36, "O": 1.48, "S": 0.04}
"""Atoms of a mean residue of 110 Da, without its hydrogens."""
_RESIDUE_DA = 110.0


def protein_power(frequency: FloatArray, mass_da: float, diameter_angstrom: float) -> FloatArray:
    """Expected squared transform, (V A^3)^2, of the potential of a protein of unknown structure in ice.

    Atoms scatter on their own at detail finer than the particle (Wilson), and together below it (Guinier, with the radius
    of gyration of a ball).

    Parameters
    ----------
    frequency : 1/A
    mass_da : Da
    diameter_angstrom : A
    """
    residues = mass_da / _RESIDUE_DA
    factors = {k: _form_factor(frequency, k, implicit=True, solvent_volts=ICE_VOLTS) for k in _PROTEIN}
    alone = sum(count * factors[kind] ** 2 for kind, count in _PROTEIN.items())
    together = sum(count * factors[kind] for kind, count in _PROTEIN.items())
    squared_radius = 0.15 * diameter_angstrom**2  # of gyration: 3/5 of the radius squared
    shape = np.exp(-((2.0 * math.pi * frequency) ** 2) * squared_radius / 3.0)
    return np.asarray(residues * alone + (residues * together) ** 2 * shape)


def atom_potentials(elements: Sequence[str], *, solvent_volts: float = ICE_VOLTS) -> FloatArray:
    """(atom,) integral of each atom's potential over space less that of the water in its place, in V A^3.

    Parameters
    ----------
    elements : symbols, in any case. Where none is hydrogen, those that the model leaves out are added on average.
    solvent_volts : mean potential of the medium; 0 for atoms in vacuum

    Raises
    ------
    InputError : an element whose scattering factor is not known
    """
    kinds, index = _kinds(elements)
    table = np.array(
        [_form_factor(np.zeros(1), k, implicit=_implicit(kinds), solvent_volts=solvent_volts)[0] for k in kinds]
    )
    return np.asarray(table[index])


def density_from_atoms(
    positions_angstrom: ArrayLike,
    elements: Sequence[str],
    shape: tuple[int, int, int],
    voxel_size: float,
    *,
    b_factor: float = 0.0,
    occupancies: ArrayLike = 1.0,
    solvent_volts: float = ICE_VOLTS,
) -> Float[Tensor, "z y x"]:
    """Potential of atoms in ice, band-limited to the Nyquist frequency of the voxels; protein is positive.

    Parameters
    ----------
    positions_angstrom : (atom, 3), x, y, z in A from the middle of the box, voxel ``n // 2``
    elements : a symbol for each atom. Where none is hydrogen, those that the model leaves out are added on average.
    shape : (z, y, x) of the box
    voxel_size : A
    b_factor : A^2; amplitudes fall by ``exp(-b_factor k^2 / 4)``
    occupancies : (atom,) or one number, 0 to 1
    solvent_volts : mean potential of the medium; 0 for atoms in vacuum

    Returns
    -------
    (z, y, x) float32, V above the medium

    Raises
    ------
    ShapeError : positions and elements do not match
    InputError : an unknown element, or an atom outside the box
    """
    places = _places(positions_angstrom, len(elements), shape, voxel_size)
    fine_shape = tuple(_OVERSAMPLING * n for n in shape)
    shares = np.array(np.broadcast_to(np.asarray(occupancies, dtype=np.float64), len(elements)))
    kinds, index = _kinds(elements)
    frequency = _squared_frequency(shape, voxel_size).sqrt()
    total = torch.zeros(frequency.shape, dtype=torch.complex64)
    for number, kind in enumerate(kinds):
        chosen = torch.from_numpy(places[index == number])
        spread = _spread(chosen, torch.from_numpy(shares[index == number]), fine_shape)
        factor = _form_factor(frequency.numpy(), kind, implicit=_implicit(kinds), solvent_volts=solvent_volts)
        total += _crop(torch.fft.rfftn(spread), shape) * torch.from_numpy(factor.astype(np.float32))
    return _finish(total, shape, voxel_size, b_factor)


def density_from_points(
    positions_angstrom: ArrayLike,
    weights: ArrayLike,
    shape: tuple[int, int, int],
    voxel_size: float,
    *,
    b_factor: float = 0.0,
) -> Float[Tensor, "z y x"]:
    """Density of weighted points, such as coarse-grained residues, band-limited to the Nyquist frequency of the voxels.

    Parameters
    ----------
    positions_angstrom : (point, 3), x, y, z in A from the middle of the box, voxel ``n // 2``
    weights : (point,), the integral of each point's density (V A^3 for a potential in V)
    shape : (z, y, x) of the box
    voxel_size : A
    b_factor : A^2; amplitudes fall by ``exp(-b_factor k^2 / 4)``

    Raises
    ------
    ShapeError : positions and weights do not match
    InputError : a point outside the box
    """
    weight = np.asarray(weights, dtype=np.float64)
    places = _places(positions_angstrom, len(weight), shape, voxel_size)
    spread = _spread(torch.from_numpy(places), torch.from_numpy(weight), tuple(_OVERSAMPLING * n for n in shape))
    return _finish(_crop(torch.fft.rfftn(spread), shape), shape, voxel_size, b_factor)


def _places(points: ArrayLike, count: int, shape: tuple[int, int, int], voxel_size: float) -> FloatArray:
    """Fractional indices (point, 3), x, y, z, on the oversampled grid."""
    positions = np.asarray(points, dtype=np.float64)
    if positions.ndim != 2 or positions.shape != (count, 3):
        raise ShapeError(
            f"{count} atoms or weights came with positions of shape {positions.shape}; expected ({count}, 3)."
        )
    centre = np.array([_OVERSAMPLING * (n // 2) for n in reversed(shape)])
    places = positions * (_OVERSAMPLING / voxel_size) + centre
    if ((places < 0) | (places > _OVERSAMPLING * np.array(shape[::-1]) - 1)).any():
        raise InputError(
            f"Some atoms lie outside the box of {shape[2]} x {shape[1]} x {shape[0]} voxels of {voxel_size:g} A. "
            "Centre the model or take a larger box."
        )
    return np.asarray(places)


def _finish(
    transform: Complex[Tensor, "z y half_x"], shape: tuple[int, int, int], voxel_size: float, b_factor: float
) -> Float[Tensor, "z y x"]:
    """Undo the spline's own transform, blur, and go back to real space."""
    transform = transform * torch.exp(-0.25 * b_factor * _squared_frequency(shape, voxel_size)).float()
    for axis, n in enumerate(shape):
        frequency = torch.fft.rfftfreq(n) if axis == 2 else torch.fft.fftfreq(n)
        kernel = torch.sinc(frequency / _OVERSAMPLING) ** 4
        transform = transform / kernel.reshape([-1 if a == axis else 1 for a in range(3)])
    density: Tensor = torch.fft.irfftn(transform, s=shape) / voxel_size**3
    return density


def _kinds(elements: Sequence[str]) -> tuple[list[str], NDArray[np.intp]]:
    names, index = np.unique(np.char.upper(np.asarray(elements, dtype=np.str_)), return_inverse=True)
    unknown = [str(n) for n in names if n not in _ELEMENTS]
    if unknown:
        raise InputError(f"No scattering factor is known for {', '.join(unknown)}. Remove these atoms from the model.")
    return [str(n) for n in names], index.astype(np.intp)


def _implicit(kinds: list[str]) -> bool:
    return "H" not in kinds


def _form_factor(frequency: FloatArray, kind: str, *, implicit: bool, solvent_volts: float) -> FloatArray:
    """Transform of one atom's potential above the medium, V A^3, at frequencies in 1/A."""

    def one(name: str) -> FloatArray:
        amplitudes, widths, volume = _ELEMENTS[name]
        squared = frequency**2
        atom = sum(a * np.exp(-0.25 * b * squared) for a, b in zip(amplitudes, widths, strict=True))
        return np.asarray(
            VOLT_SQUARE_ANGSTROM * atom - solvent_volts * volume * np.exp(-math.pi * volume ** (2 / 3) * squared)
        )

    return one(kind) + (_HYDROGENS[kind] * one("H") if implicit and kind in _HYDROGENS else 0.0)


def _squared_frequency(shape: tuple[int, int, int], voxel_size: float) -> Float[Tensor, "z y half_x"]:
    z, y = (torch.fft.fftfreq(n, voxel_size, dtype=torch.float64) for n in shape[:2])
    x = torch.fft.rfftfreq(shape[2], voxel_size, dtype=torch.float64)
    squared: Tensor = z[:, None, None] ** 2 + y[:, None] ** 2 + x**2
    return squared


def _spread(
    places: Float[Tensor, "atom 3"], amount: Float[Tensor, " atom"], shape: tuple[int, ...]
) -> Float[Tensor, "z y x"]:
    """Amounts spread by cubic B-splines onto a periodic grid; `places` are fractional indices x, y, z."""
    grid = torch.zeros(math.prod(shape), dtype=torch.float32)
    base = places.floor()
    weights = _cubic_b_spline(places - base).float()  # (atom, 3, 4)
    index = base.long()[..., None] + torch.arange(-1, 3)  # (atom, 3, 4)
    x, y, z = (index[:, d] % shape[2 - d] for d in range(3))
    flat = (z[:, :, None, None] * shape[1] + y[:, None, :, None]) * shape[2] + x[:, None, None, :]
    value = (
        (amount.float()[:, None] * weights[:, 2])[:, :, None, None]
        * weights[:, 1, None, :, None]
        * weights[:, 0, None, None, :]
    )
    return grid.index_add_(0, flat.reshape(-1), value.reshape(-1)).reshape(*shape)


def _cubic_b_spline(fraction: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch 4"]:
    """Weights of the samples at -1, 0, 1 and 2 from the floor of a place."""
    t, u = fraction, 1.0 - fraction
    return torch.stack([u**3 / 6, (4 - 6 * t**2 + 3 * t**3) / 6, (4 - 6 * u**2 + 3 * u**3) / 6, t**3 / 6], dim=-1)


def _crop(transform: Complex[Tensor, "z y half_x"], shape: tuple[int, int, int]) -> Complex[Tensor, "z y half_x"]:
    for axis, n in enumerate(shape[:2]):
        rows = torch.arange(n)
        rows[(n + 1) // 2 :] += transform.shape[axis] - n
        transform = transform.index_select(axis, rows)
    return transform[..., : shape[2] // 2 + 1]
