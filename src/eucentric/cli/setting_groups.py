"""Settings of a stage under headings of what they are about, for stages that have many."""

from collections.abc import Mapping
from typing import Annotated, Any

from cyclopts import Group, Parameter
from pydantic import BaseModel, create_model

GROUPS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "reconstruct": {
        "What for, and how": ("purpose", "method"),
        "The volume": (
            "pixel_size_angstrom",
            "more_pixel_sizes_angstrom",
            "thickness_angstrom",
            "extent",
            "auto_level",
            "half_volumes",
            "halves",
        ),
        "The images": ("max_tilt_deg", "dose_weighting", "erase_beads", "bead_diameter_angstrom"),
        "Contrast transfer": ("ctf_correction", "ctf_by_height", "ctf_by_depth"),
        "Weights of wbp and sirt-like": (
            "filter",
            "sirt_like_iterations",
            "cosine_weights",
            "supersampling",
            "fall_off",
            "low_pass_angstrom",
        ),
        "Iterations of sirt, cgls, tv and ctf": (
            "iterations",
            "least_change",
            "subsets",
            "relaxation",
            "regularisation",
            "tv_strength",
            "constraint",
        ),
        "Files": ("volume_type", "int8_deviations", "zarr", "pictures"),
    }
}
"""By stage: headings in order, each with its settings; others stand under `Settings`."""


def grouped_settings(model: type[BaseModel], groups: Mapping[str, tuple[str, ...]]) -> type[BaseModel]:
    """The same settings class, whose options a help page shows under their headings."""
    fields: dict[str, Any] = {}
    for order, (title, names) in enumerate(groups.items()):
        group = Group(title, sort_key=order)
        for name in names:
            field = model.model_fields[name]
            fields[name] = (Annotated[field.annotation, Parameter(group=group)], field)
    return create_model(model.__name__, __base__=model, **fields)
