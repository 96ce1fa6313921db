"""Settings of a start map made from the particles alone."""

from pydantic import Field

from eucentric.models.settings import Frozen


class InitialModelParams(Frozen):
    """How a first map is found without reference and without orientations."""

    diameter_angstrom: float = Field(
        gt=0, description="A; of the particle, where it is longest: boxes, masks and steps are made from it"
    )
    low_pass_angstrom: float = Field(default=30.0, gt=0, description="A; finest detail of the map")
    starts: int = Field(
        default=5, ge=1, le=100, description="beginnings from chance orientations, of which one is chosen"
    )
    classes: int = Field(
        default=1,
        ge=1,
        le=20,
        description="maps made at once, where the list holds several kinds of particle or false picks; some may stay empty",
    )
    random_conical_tilt: bool = Field(
        default=False,
        description="begin from particles that lie the same way up: turns from an untilted image of each, the map from its tilted "
        "ones; in place of chance orientations",
    )
    faces: int = Field(
        default=1, ge=1, le=20, description="ways up that are told apart in untilted images (random conical tilt)"
    )
    iterations: int = Field(default=20, ge=4, le=500, description="steps of each beginning")
    batch_particles: int = Field(
        default=30, ge=4, description="particles drawn at random for each step, for each class"
    )
    particles: int = Field(
        default=500, ge=8, description="most particles that are used; drawn at random where the list holds more"
    )
    held_out: float = Field(
        default=0.2,
        gt=0,
        le=0.5,
        description="part of the particles that beginnings never see, and that choose among them",
    )
    shift_angstrom: float = Field(
        default=20.0, ge=0, description="A; how far the given places may be off, along each axis"
    )
    rounds: int = Field(
        default=4, ge=1, le=20, description="alignments of the halves, each to its own map, after one was chosen"
    )
    min_tilts: int = Field(default=1, ge=1, description="particles seen in fewer images are left out")
    ctf: bool = Field(default=True, description="take the contrast transfer into account")
    dose_weighting: bool = Field(default=True, description="expect less of detail that radiation had destroyed")
    seed: int = Field(default=0, ge=0, description="of chance orientations, draws and halves")
