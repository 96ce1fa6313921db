"""Tomograms from aligned tilt series: weighted back-projection, whole or by slabs."""

from eucentric._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "ReconstructParams": "params",
        "VolumeGrid": "results",
        "VolumeSlab": "results",
        "choose_grid": "choose_grid",
        "reconstruct_volume": "reconstruct_volume",
        "reconstruct_slabs": "reconstruct_volume",
    },
)
