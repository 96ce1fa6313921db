"""Where the specimen of a tilt series lies, and how thick it is: measured once, used by every later stage."""

from dataclasses import dataclass

_UNKNOWN = float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class Specimen:
    """A slab with two parallel faces, in the frame of the series' poses; one standard deviation with every number.

    Its normal is ``Ry(y_tilt) Rx(x_tilt) z`` and its middle plane holds (0, 0, z). NaN where unknown.
    """

    thickness_angstrom: float = _UNKNOWN
    """Between the faces, along the normal: what all methods say together."""
    thickness_sigma_angstrom: float = _UNKNOWN
    pre_tilt_x_deg: float = _UNKNOWN
    """Inclination across the tilt axis, to the plane that the stage shows level at tilt 0."""
    pre_tilt_x_sigma_deg: float = _UNKNOWN
    pre_tilt_y_deg: float = _UNKNOWN
    """Inclination about the tilt axis, to the same."""
    pre_tilt_y_sigma_deg: float = _UNKNOWN
    x_tilt_deg: float = 0.0
    """Inclination in the frame of the poses: what levelling has left."""
    y_tilt_deg: float = 0.0
    z_angstrom: float = 0.0
    """Height of the middle above the specimen centre in the frame of the poses."""
    z_sigma_angstrom: float = _UNKNOWN
    features_thickness_angstrom: float = _UNKNOWN
    """From what stands out in a reconstruction; ice without anything in it does not count."""
    features_thickness_sigma_angstrom: float = _UNKNOWN
    intensity_thickness_angstrom: float = _UNKNOWN
    """From how the images darken with tilt; as sure as the mean free path."""
    intensity_thickness_sigma_angstrom: float = _UNKNOWN
    mean_free_paths: float = _UNKNOWN
    """Thickness over mean free path, which needs no value for the latter."""
    ctf_thickness_angstrom: float = _UNKNOWN
    """From nodes of the Thon rings."""
    ctf_thickness_sigma_angstrom: float = _UNKNOWN

    @property
    def enclosing_thickness_angstrom(self) -> float:
        """What holds the specimen with near certainty."""
        return self.thickness_angstrom + 2.0 * self.thickness_sigma_angstrom
