"""What the microscope was, as far as image formation is concerned."""

import math
from dataclasses import dataclass

from eucentric.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Optics:
    """One optics group."""

    voltage_kv: float = 300.0
    spherical_aberration_mm: float = 2.7
    amplitude_contrast: float = 0.07
    beam_tilt_mrad: tuple[float, float] = (0.0, 0.0)
    """x and y, with RELION's sign (`rlnBeamTiltX`): see `eucentric.optics.odd_aberrations`."""
    trefoil_rad_angstrom3: tuple[float, float] = (0.0, 0.0)
    """Phase of the transform of images: the first times the real, the second times the imaginary part of (kx + i ky)^3."""

    def __post_init__(self) -> None:
        if not 20.0 <= self.voltage_kv <= 3000.0:
            raise InputError(f"The voltage is {self.voltage_kv:g} kV; expected a number of kilovolts such as 300.")
        if not 0.0 <= self.amplitude_contrast < 1.0:
            raise InputError(
                f"The amplitude contrast is {self.amplitude_contrast:g}; expected a fraction from 0 to 1 such as 0.07."
            )
        for values, what in ((self.beam_tilt_mrad, "beam tilt"), (self.trefoil_rad_angstrom3, "trefoil")):
            if not all(math.isfinite(v) for v in values):
                raise InputError(f"The {what} is {values}; expected two numbers, x and y, 0 where it is not known.")

    @property
    def wavelength_angstrom(self) -> float:
        """Relativistic electron wavelength: 0.01969 A at 300 kV, 0.02508 A at 200 kV."""
        volts = self.voltage_kv * 1e3
        return 12.2642596 / math.sqrt(volts * (1.0 + 0.978476e-6 * volts))
