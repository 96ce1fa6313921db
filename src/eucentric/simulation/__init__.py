"""Specimens of known truth and what a microscope records of them."""

from eucentric._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "Phantom": "phantom",
        "asymmetric_phantom": "phantom",
        "SimulationParams": "params",
        "Species": "species",
        "species_from_atoms": "species",
        "procedural_macromolecule": "species",
        "species_from_volume": "species",
        "Specimen": "specimen",
        "Scene": "scene",
        "build_specimen": "build_specimen",
        "builtin_species": "build_specimen",
        "SurfaceDistance": "surfaces",
        "Acquisition": "acquisition",
        "plan_acquisition": "acquisition",
        "tilt_scheme": "acquisition",
        "Detector": "detector",
        "LocalMotion": "local_motion",
        "ModulationTransfer": "detector",
        "Body": "body",
        "Film": "film",
        "SimulatedSeries": "image_formation",
        "form_frames": "image_formation",
        "RapidTiltMovie": "rapid_tilt_movie",
        "RapidTiltParams": "rapid_tilt_movie",
        "simulate_rapid_tilt_movie": "rapid_tilt_movie",
    },
)
