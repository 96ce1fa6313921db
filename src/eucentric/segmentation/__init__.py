"""What lies where in a tomogram: masks, objects, faces of the specimen, membranes; see README.md."""

from eucentric._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "MembraneParams": "params",
        "Membranes": "membranes.sheets",
        "Objects": "objects",
        "SpecimenFaces": "specimen_faces",
        "SpecimenParams": "params",
        "close_mask": "morphology",
        "dilate": "morphology",
        "erode": "morphology",
        "fill_holes": "morphology",
        "find_faces": "specimen_faces",
        "find_objects": "objects",
        "global_mask": "threshold",
        "hysteresis_mask": "threshold",
        "local_mask": "threshold",
        "measure_objects": "objects",
        "noise_level": "threshold",
        "open_mask": "morphology",
        "otsu_level": "threshold",
        "segment_membranes": "membranes.segment_membranes",
        "split_touching": "objects",
    },
)
