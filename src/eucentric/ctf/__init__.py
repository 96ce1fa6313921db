"""Defocus, astigmatism, phase shift, hand, plane and thickness of a tilt series from its Thon rings."""

from eucentric._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "CtfParams": "params",
        "CtfCurves": "results",
        "CtfResult": "results",
        "GeometryDiagnosis": "results",
        "HandTest": "results",
        "ImageCtf": "results",
        "ThicknessFit": "results",
        "diagnose_geometry": "map_defocus",
        "estimate_series_ctf": "estimate_ctf",
        "estimate_image_ctf": "estimate_image",
        "plane_heights": "specimen_plane",
    },
)
