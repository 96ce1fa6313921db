"""What the tilt series lets a template look like in its tomogram: a wedge for each tilt, CTF at its height, damage."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.errors import InputError
from eucentric.geometry.tilt import TiltGeometry
from eucentric.models.optics import Optics
from eucentric.models.tilt_series import CtfFit
from eucentric.optics.box_transfer import BoxTransfer, Correction
from eucentric.optics.tilt_strength import TiltStrength
from eucentric.typing import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TomogramTransfer:
    """A tilt series and how its tomogram was made of it."""

    geometry: TiltGeometry
    doses: FloatArray
    """(tilt,) e/A^2; zeros where unknown: nothing is then faded."""
    pre_exposures: FloatArray
    optics: Optics | None = None
    """None: no CTF is known, and the wedge and damage are all there is."""
    defocus_angstrom: FloatArray | None = None
    """(tilt,), at the specimen centre."""
    hand: float = -1.0
    phase_shift_deg: float = 0.0
    correction: Correction = "flip"
    """What the reconstruction did about the CTF."""
    dose_weighting: bool = True
    signal: TiltStrength | None = None
    """How strongly each image shows the specimen; None where all do alike."""

    @classmethod
    def of_series(
        cls,
        geometry: TiltGeometry,
        *,
        doses: FloatArray,
        pre_exposures: FloatArray,
        fits: list[CtfFit] | None,
        optics: Optics | None,
        hand: float,
        correction: Correction,
        dose_weighting: bool,
        signal: TiltStrength | None = None,
    ) -> Self:
        """Of an aligned series; without CTF where `fits` or `optics` is None."""
        known = fits is not None and optics is not None
        return cls(
            geometry=geometry,
            doses=doses,
            pre_exposures=pre_exposures,
            optics=optics if known else None,
            defocus_angstrom=np.array([f.defocus_angstrom for f in fits]) if known and fits is not None else None,
            phase_shift_deg=float(np.median([f.phase_shift_deg for f in fits])) if known and fits is not None else 0.0,
            hand=hand,
            correction=correction,
            dose_weighting=dose_weighting,
            signal=signal,
        )

    @classmethod
    def of_wedge(cls, lowest_deg: float, highest_deg: float, *, step_deg: float = 3.0) -> Self:
        """A range of tilts about y given by hand, for tomograms that came without their series.

        Raises
        ------
        InputError : no range of tilts
        """
        if not -90.0 <= lowest_deg < highest_deg <= 90.0:
            raise InputError(
                f"The tilts go from {lowest_deg:g} to {highest_deg:g} degrees; expected two angles between -90 and 90, the "
                "lower one first, such as -60 60."
            )
        tilts = np.linspace(lowest_deg, highest_deg, max(2, round((highest_deg - lowest_deg) / step_deg) + 1))
        return cls(geometry=TiltGeometry.build(tilts), doses=np.zeros(len(tilts)), pre_exposures=np.zeros(len(tilts)))

    def of_box(self, side: int, voxel_size: float, height_angstrom: float = 0.0) -> BoxTransfer:
        """Transfer of a cube at a height; negative where protein is dark."""
        count, known = len(self.geometry), self.optics is not None and self.defocus_angstrom is not None
        defocus = np.zeros(count)
        if self.defocus_angstrom is not None:
            camera = self.geometry.project(np.array([0.0, 0.0, height_angstrom]))
            defocus = self.defocus_angstrom + self.hand * camera[:, 2]
        return BoxTransfer.build(
            self.geometry,
            side=side,
            voxel_size=voxel_size,
            optics=self.optics if known and self.optics is not None else Optics(),
            defocus_angstrom=defocus,
            doses=np.maximum(self.doses, 1e-3),
            pre_exposures=self.pre_exposures,
            depths=np.zeros(count),
            b_factor=0.0,
            # without CTF: contrast of all detail alike, as at focus with a phase plate
            phase_shift_deg=self.phase_shift_deg if known else 90.0,
            signal=self.signal,
            correction=self.correction if known else "flip",
            dose_weighting=self.dose_weighting,
        )

    def gain(self, side: int, voxel_size: float, height_angstrom: float = 0.0) -> Float[Tensor, "z y half_x"]:
        """What the transform of a template, protein bright, is multiplied with."""
        return self.of_box(side, voxel_size, height_angstrom).signal

    def coverage(self, side: int, voxel_size: float) -> Float[Tensor, "z y half_x"]:
        """0 where no tilt measured."""
        return torch.as_tensor(self.of_box(side, voxel_size).coverage)
