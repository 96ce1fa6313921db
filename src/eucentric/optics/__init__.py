"""What the microscope did: contrast transfer, and density from atoms."""

from eucentric._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "ctf_2d": "ctf",
        "ctf_1d": "ctf",
        "phase_aberration": "ctf",
        "BoxTransfer": "box_transfer",
        "ContrastTransfer": "transfer",
        "CtfCorrection": "transfer",
        "TiltStrength": "tilt_strength",
        "b_factor_envelope": "transfer",
        "contrast_transfer": "transfer",
        "correction_gain": "transfer",
        "has_odd_aberrations": "odd_aberrations",
        "odd_aberration_2d": "odd_aberrations",
        "density_from_atoms": "atoms",
        "density_from_points": "atoms",
        "atom_potentials": "atoms",
        "interaction_parameter": "atoms",
    },
)
