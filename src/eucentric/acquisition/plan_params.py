"""What a planned series is for, and what it is recorded with."""

import math
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from eucentric.models.settings import Frozen

Goal = Literal["averaging", "membranes", "cell"]


class ExpectationParams(Frozen):
    """Specimen, microscope and purpose, as far as they decide what a scheme shows."""

    goal: Goal = Field(
        default="averaging",
        description="averaging: detail of particles in random directions; membranes, cell: one tomogram, all directions alike",
    )
    resolution_angstrom: float = Field(
        default=4.0, ge=1.5, le=60, description="A; of the map, where averaging is the goal"
    )
    thickness_angstrom: float | None = Field(
        default=None,
        gt=50,
        le=20000,
        description="A, of ice or lamella; needed for membranes and cells, 1500 for averaging",
    )
    pretilt_deg: float = Field(
        default=0.0,
        ge=-45,
        le=45,
        description="degrees; angle between specimen and stage at 0, positive as positive tilts",
    )
    particle_kda: float = Field(default=2500.0, gt=10, le=1e8, description="kDa of one particle; a ribosome")
    particle_diameter_angstrom: float | None = Field(
        default=None, gt=10, le=1e5, description="A; of a compact protein of the mass where not given"
    )
    symmetry_order: int = Field(default=1, ge=1, description="copies of the unit in a particle: 14 for D7")
    particles: int | None = Field(
        default=None, ge=1, description="particles of an average, whose resolution is then told"
    )
    b_factor_angstrom2: float = Field(
        default=100.0, ge=0, le=1e5, description="A^2; fading of averages beyond damage: alignment, motion, flexibility"
    )
    inelastic_path_angstrom: float = Field(
        default=3000.0,
        ge=100,
        le=1e6,
        description="A; what an energy filter lets through falls by e over this length of ice",
    )
    voltage_kv: float = Field(default=300.0, ge=80, le=1300, description="kV")
    pixel_size_angstrom: float | None = Field(
        default=None,
        gt=0,
        le=100,
        description="A; a third of the resolution, or a tenth of membranes' 30 A, where not given",
    )
    dqe_at_zero: float = Field(default=0.85, gt=0, le=1, description="part of the electrons that the camera counts")
    dqe_at_nyquist: float = Field(
        default=0.35, gt=0, le=1, description="the same for the finest detail; counting cameras"
    )
    mass_density_da_per_angstrom3: float = Field(
        default=0.15, gt=0, le=1, description="Da/A^3 of a cell's protein: 0.25 g/ml; sets what tomograms can show"
    )
    crowder_kda: float = Field(default=100.0, gt=1, le=1e6, description="kDa; typical complex in a cell")

    @model_validator(mode="after")
    def _consistent(self) -> "ExpectationParams":
        if self.dqe_at_nyquist > self.dqe_at_zero:
            raise ValueError("dqe_at_nyquist is above dqe_at_zero")
        if self.goal == "averaging" and self.resolution_angstrom < 2.0 * self.pixel_angstrom:
            raise ValueError("resolution_angstrom is finer than two pixels of pixel_size_angstrom show")
        return self

    @property
    def thickness(self) -> float:
        """A; 1500 where averaging does not say it."""
        return 1500.0 if self.thickness_angstrom is None else self.thickness_angstrom

    @property
    def diameter_angstrom(self) -> float:
        """A."""
        if self.particle_diameter_angstrom is not None:
            return self.particle_diameter_angstrom
        return compact_diameter(1e3 * self.particle_kda)

    @property
    def pixel_angstrom(self) -> float:
        """A."""
        if self.pixel_size_angstrom is not None:
            return self.pixel_size_angstrom
        return self.resolution_angstrom / 3.0 if self.goal == "averaging" else 3.0


def compact_diameter(mass_da: float) -> float:
    """A, of a protein complex: 1.21 A^3/Da filled as a ball, and looser by a third in diameter, as complexes are."""
    return 1.33 * float(np.cbrt(6.0 / math.pi * 1.21 * mass_da))
