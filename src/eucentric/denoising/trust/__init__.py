"""How far the output of a network may be trusted: agreement of halves, voxel by voxel uncertainty, invention, grids."""

from eucentric._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "AVERAGE_RAW_DATA": "invented_power",
        "GridArtefacts": "grid_artefact",
        "GridPattern": "grid_artefact",
        "HalfAgreement": "half_agreement",
        "InventionCheck": "invented_power",
        "Measured": "block_spectra",
        "Seam": "tile_seams",
        "Seams": "tile_seams",
        "Uncertainty": "uncertainty",
        "apply_turned": "uncertainty",
        "check_invention": "invented_power",
        "estimate_uncertainty": "uncertainty",
        "find_grid_artefacts": "grid_artefact",
        "find_seams": "tile_seams",
        "measure_half_agreement": "half_agreement",
        "turns_keeping_wedge": "uncertainty",
    },
)
