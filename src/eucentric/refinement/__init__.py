"""Sub-tilt refinement: tilt series, their deformation and contrast transfer, by the particles of all species in them."""

from eucentric._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "RefineParams": "params",
        "SeriesRefiner": "refine_series",
        "SeriesRefinement": "refine_series",
        "SpeciesImages": "refine_series",
        "SeriesState": "unknowns",
        "RefinedParticles": "image_sums",
        "Reference": "image_sums",
        "ImageModel": "image_sums",
        "GroupTrial": "results",
        "SeriesMemory": "results",
    },
)
