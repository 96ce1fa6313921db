"""One geometry: rotations, tilt projection, grids. numpy float64, degrees and Angstrom at every public name."""

from eucentric._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "Affine": "affine",
        "Rotation": "rotations",
        "rotation_x": "rotations",
        "rotation_y": "rotations",
        "rotation_z": "rotations",
        "ImageWarp": "warp",
        "VolumeWarp": "volume_warp",
        "Deformation": "volume_warp",
        "combined": "volume_warp",
        "TiltGeometry": "tilt",
        "centre_index": "grids",
        "pixel_to_angstrom": "grids",
        "angstrom_to_pixel": "grids",
        "rigid_fit": "rigid",
    },
)
