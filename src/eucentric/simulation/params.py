"""Settings of the simulator."""

from typing import Literal

from pydantic import Field, model_validator

from eucentric.models.settings import Frozen


class SimulationParams(Frozen):
    """What is put under the simulated microscope and how it is recorded. The defaults make the demo."""

    seed: int = Field(default=1, ge=0, description="same seed, same files")

    # the specimen
    thickness_angstrom: float = Field(
        default=1100.0, gt=50, description="A; ice that is easy to align, as cells are not"
    )
    macromolecules_kda: tuple[float, ...] = Field(
        default=(2600.0, 900.0),
        description="kDa; masses of built-in macromolecules, used where no structures are given",
    )
    particles_per_species: tuple[int, ...] = Field(
        default=(28, 40), description="of each species, in the untilted field of view; as many again lie around it"
    )
    vesicles: int = Field(default=1, ge=0, description="round, with a bilayer of two leaflets")
    vesicle_radius_angstrom: tuple[float, float] = Field(
        default=(280.0, 420.0), description="A, smallest and largest; cut to what the ice holds"
    )
    beads: int = Field(default=4, ge=0, description="gold beads in the untilted field of view")
    bead_diameter_angstrom: float = Field(default=100.0, gt=0, description="A; the common fiducial")
    ice_spectrum: Literal["white", "water"] = Field(
        default="white", description="`water` follows its structure and motion, which matter below 5 A of resolution"
    )
    ice_noise: float = Field(
        default=1.0,
        ge=0,
        description="rms of the ice's density fluctuations over what water's compressibility gives",
    )
    deformation_angstrom: float = Field(
        default=8.0, ge=0, description="A; bending of the specimen with dose, quadratic across the field"
    )

    # tilting
    tilt_min_deg: float = Field(default=-60.0, ge=-80, le=80, description="degrees, nominal")
    tilt_max_deg: float = Field(default=60.0, ge=-80, le=80, description="degrees, nominal")
    tilt_step_deg: float = Field(default=3.0, gt=0, description="degrees")
    scheme: Literal["dose-symmetric", "bidirectional", "continuous"] = Field(
        default="dose-symmetric", description="order of acquisition"
    )
    tilt_group: int = Field(default=1, ge=1, description="images on one side before a dose-symmetric scheme turns")
    tilt_start_deg: float = Field(
        default=0.0, ge=-80, le=80, description="degrees; the scheme starts at the angle next to this"
    )
    tilt_angles_deg: tuple[float, ...] = Field(
        default=(), description="degrees, in order of acquisition; goes before scheme, range and step"
    )
    tilt_axis_deg: float = Field(
        default=84.0, description="degrees; rlnTomoZRot, the turn that takes the image's y axis onto the tilt axis"
    )
    tilt_axis_error_deg: float = Field(default=0.8, description="degrees; what the mdoc says in excess of the truth")
    tilt_offset_deg: float = Field(default=0.0, description="degrees; pre-tilt of the specimen about the tilt axis")
    x_tilt_deg: float = Field(default=0.0, description="degrees; pre-tilt of the specimen across the tilt axis")
    tilt_error_deg: float = Field(default=0.05, ge=0, description="degrees rms; error of the goniometer")
    stage_jitter_angstrom: float = Field(default=110.0, ge=0, description="A rms of each component; tracking error")
    stage_walk_angstrom: float = Field(
        default=0.0, ge=0, description="A rms of each component from one image to the next; run-out that no one tracks"
    )
    tilt_axis_drift_deg: float = Field(
        default=0.0, description="degrees; turn of the image from first to last exposure"
    )
    tilt_axis_jitter_deg: float = Field(default=0.0, ge=0, description="degrees rms; turn of single images")
    magnification_drift: float = Field(
        default=0.0, gt=-0.1, lt=0.1, description="change of magnification from the first to the last exposure"
    )
    magnification_jitter: float = Field(default=0.0, ge=0, lt=0.05, description="rms; magnification of single images")
    blocked_tilts: tuple[int, ...] = Field(default=(), description="images hidden by a grid bar; 0 is the lowest tilt")
    dead_tilts: tuple[int, ...] = Field(default=(), description="images without beam; 0 is the lowest tilt")

    # the beam and the lens
    dose_per_tilt: float = Field(default=3.0, gt=0, description="e/A^2")
    tilt_doses: tuple[float, ...] = Field(
        default=(), description="e/A^2 of each of the tilt angles given, in their order; goes before the dose per tilt"
    )
    voltage_kv: float = Field(default=300.0, ge=80, le=1300, description="kV")
    spherical_aberration_mm: float = Field(default=2.7, ge=0, description="mm")
    amplitude_contrast: float = Field(default=0.07, ge=0, lt=1, description="fraction")
    defocus_angstrom: float = Field(default=35000.0, description="A, underfocus positive; the target")
    defocus_jitter_angstrom: float = Field(default=500.0, ge=0, description="A rms about the target")
    defocus_drift_angstrom: float = Field(default=0.0, description="A; change from the first to the last exposure")
    astigmatism_angstrom: float = Field(default=400.0, ge=0, description="A; defocus U minus defocus V")
    astigmatism_angle_deg: float = Field(default=30.0, description="degrees, of the U direction from x towards y")
    hand: Literal[-1, 1] = Field(default=-1, description="defocus of a point is the image's + hand * its height")
    inelastic_path_angstrom: float = Field(
        default=3000.0, gt=0, description="A; what the energy filter lets through falls by e over this length of ice"
    )
    b_factor: float = Field(default=80.0, ge=0, description="A^2; disorder of the specimen and blur within frames")
    phase_shift_deg: float = Field(default=0.0, ge=-180, le=180, description="degrees, of a phase plate; 0 without one")
    phase_shift_drift_deg: float = Field(
        default=0.0, description="degrees; change from the first to the last exposure, as a plate charges up"
    )
    chromatic_aberration_mm: float = Field(default=2.7, ge=0, description="mm")
    energy_spread_ev: float = Field(default=0.3, ge=0, description="eV rms; a Schottky emitter's 0.7 eV full width")
    high_tension_ppm: float = Field(default=0.07, ge=0, description="ppm rms; instability of the high tension")
    lens_current_ppm: float = Field(default=0.1, ge=0, description="ppm rms; instability of the lens current")
    illumination_mrad: float = Field(default=0.01, ge=0, description="mrad; semi-angle of nearly parallel illumination")
    mass_loss: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="part of the potential above the ice that protein and lipid lose in the end",
    )
    mass_loss_dose: float = Field(default=50.0, gt=0, description="e/A^2 over which mass loss grows to 63%")

    formation: Literal["weak-phase", "multislice"] = Field(
        default="weak-phase", description="fast, or with multiple scattering in slices"
    )
    slice_angstrom: float = Field(default=50.0, ge=5, le=500, description="A; thickness of the slices of multislice")
    depth_step_angstrom: float = Field(
        default=300.0,
        gt=0,
        description="A; CTFs are exact at these depths, linear between: 0.4% off at 10 A; less for pixels below 2.2 A",
    )

    # the camera
    image_size_px: tuple[int, int] = Field(default=(480, 480), description="x, y")
    pixel_size_angstrom: float = Field(default=5.0, gt=0, description="A; coarse, so that the demo is quick")
    frames: int = Field(default=4, ge=1, description="frames in each movie")
    drift_angstrom: float = Field(default=10.0, ge=0, description="A; path of the drift over an exposure, mostly early")
    doming_angstrom: float = Field(
        default=10.0,
        ge=0,
        description="A; rise of the specimen along its normal in an exposure, seen where it is tilted",
    )
    local_motion_angstrom: float = Field(
        default=0.0, ge=0, description="A rms of each component over an exposure; objects move with their surroundings"
    )
    local_motion_length_angstrom: float = Field(
        default=5000.0, gt=0, description="A; places this far apart move alike by 60%"
    )
    mtf_at_nyquist: float = Field(
        default=0.8, gt=0, le=1, description="contrast the camera keeps at Nyquist, where no table of its MTF is given"
    )
    dqe_at_zero: float = Field(default=1.0, gt=0, le=1, description="part of the electrons that the camera counts")
    readouts_per_frame: int = Field(
        default=0,
        ge=0,
        le=10000,
        description="electrons that share a pixel in one readout count once; 0 for a camera that loses none",
    )
    gain_variation: float = Field(default=0.06, ge=0, lt=0.3, description="rms of the pixels' sensitivities")
    hot_pixels: int = Field(default=30, ge=0, description="pixels that always read the highest value")
    dead_pixels: int = Field(
        default=15, ge=0, description="pixels that read zero; their gain is zero, as cameras write it"
    )
    dead_lines: int = Field(default=0, ge=0, description="rows and columns that read zero")
    data_type: Literal["uint8", "uint16"] = Field(default="uint8", description="counts above its maximum are cut")
    movie_format: Literal["tiff", "eer"] = Field(
        default="tiff", description="`eer` writes single electrons, readouts_per_frame readouts for each frame"
    )
    eer_run_bits: Literal[7, 8] = Field(
        default=7, description="bits of EER's runs of empty pixels; cameras write 7 or 8"
    )

    @model_validator(mode="after")
    def _consistent(self) -> "SimulationParams":
        if self.tilt_max_deg < self.tilt_min_deg:
            raise ValueError("tilt_max_deg lies below tilt_min_deg")
        if len(set(self.tilt_angles_deg)) < len(self.tilt_angles_deg):
            raise ValueError("tilt_angles_deg names an angle twice")
        if max(map(abs, self.tilt_angles_deg), default=0.0) > 80.0:
            raise ValueError("tilt_angles_deg goes beyond 80 degrees")
        if self.tilt_doses and len(self.tilt_doses) != len(self.tilt_angles_deg):
            raise ValueError(
                f"tilt_doses has {len(self.tilt_doses)} doses for the {len(self.tilt_angles_deg)} angles of tilt_angles_deg"
            )
        if min(self.tilt_doses, default=1.0) <= 0:
            raise ValueError("tilt_doses holds a dose that is not above 0")
        if self.movie_format == "eer" and not self.readouts_per_frame:
            raise ValueError("movie_format is eer, but readouts_per_frame does not say how many readouts make a frame")
        if min(self.image_size_px) < 32:
            raise ValueError("image_size_px is below 32 pixels")
        if min(self.particles_per_species, default=0) < 0 or min(self.macromolecules_kda, default=1.0) < 20.0:
            raise ValueError("a species needs a mass of at least 20 kDa and no negative number of particles")
        if not 0 < self.vesicle_radius_angstrom[0] <= self.vesicle_radius_angstrom[1]:
            raise ValueError("vesicle_radius_angstrom must be a smallest and a largest radius")
        return self

    @property
    def steepest_tilt_deg(self) -> float:
        """Of the nominal angles, from the horizontal, the pre-tilt of the specimen included."""
        ends = self.tilt_angles_deg or (self.tilt_min_deg, self.tilt_max_deg)
        return max(abs(angle + self.tilt_offset_deg) for angle in ends)

    @property
    def field_of_view_angstrom(self) -> tuple[float, float]:
        """x, y in A."""
        return (
            self.image_size_px[0] * self.pixel_size_angstrom,
            self.image_size_px[1] * self.pixel_size_angstrom,
        )
