"""Helices: the screw that takes a filament onto itself, with the point group of its cross-section."""

import math
from dataclasses import dataclass

import numpy as np

from eucentric.errors import InputError
from eucentric.geometry.rotations import rotation_z
from eucentric.geometry.symmetry import symmetry_rotations
from eucentric.typing import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Helix:
    """A screw about z: a filament looks the same after it is turned by the twist and moved by the rise.

    A positive twist turns x towards y on the way up z: a right-handed helix, as RELION has it.
    """

    rise_angstrom: float
    """Along z, above zero."""
    twist_deg: float
    """About z, within half a turn."""
    group: str = "C1"
    """Of the cross-section: Cn, or Dn for filaments without polarity."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.rise_angstrom) and self.rise_angstrom > 0 and math.isfinite(self.twist_deg)):
            raise InputError(
                f"A helix of rise {self.rise_angstrom:g} A and twist {self.twist_deg:g} degrees was given; expected a rise above "
                "zero. The sign of the twist is the hand: positive right-handed."
            )
        cross_section(self.group)
        object.__setattr__(self, "rise_angstrom", float(self.rise_angstrom))
        object.__setattr__(self, "twist_deg", wrapped_deg(float(self.twist_deg)))

    def elements(self, steps: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Rotations (element, 3, 3) and shifts (element, 3) in A of all units some whole steps away: x to R x + t."""
        group = symmetry_rotations(self.group)
        turns = rotation_z(self.twist_deg * np.asarray(steps, dtype=np.float64))
        shifts = np.zeros((len(turns), 3))
        shifts[:, 2] = self.rise_angstrom * np.asarray(steps)
        rotations = np.einsum("kij,gjl->kgil", turns, group).reshape(-1, 3, 3)
        return rotations, np.repeat(shifts, len(group), axis=0)

    def brought_back(
        self, positions_angstrom: FloatArray, rotations: FloatArray, expected_angstrom: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """The same filament seen from the unit nearest to where a particle was expected, along its axis.

        Without it particles slide along the filament, from unit to unit, and come to lie on each other.

        Parameters
        ----------
        positions_angstrom, rotations : (particle, 3) and (particle, 3, 3), reference to specimen
        expected_angstrom : (particle, 3)
        """
        axis = rotations[:, :, 2]
        along = np.einsum("ni,ni->n", axis, positions_angstrom - expected_angstrom)
        steps = np.rint(along / self.rise_angstrom)
        places = positions_angstrom - (steps * self.rise_angstrom)[:, None] * axis
        return places, rotations @ rotation_z(-self.twist_deg * steps)


def cross_section(group: str) -> tuple[int, bool]:
    """Order of the axis of a filament's point group, and whether it has two-fold axes across.

    Raises
    ------
    InputError : neither Cn nor Dn
    """
    name = group.strip().upper()
    if name[:1] not in ("C", "D"):
        raise InputError(f"A helix has the symmetry Cn or Dn about its axis; `{group}` was given.")
    symmetry_rotations(name)
    return int(name[1:]), name.startswith("D")


def wrapped_deg(angle_deg: float) -> float:
    """The same angle within half a turn, above -180 and up to 180."""
    return angle_deg if -180.0 < angle_deg <= 180.0 else -((180.0 - angle_deg) % 360.0 - 180.0)
