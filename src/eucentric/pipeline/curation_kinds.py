"""All kinds of edit: a new one is added to the list here, and nowhere else."""

from typing import Any

from pydantic import ValidationError

from eucentric.errors import InputError
from eucentric.pipeline.curation_base import Edit
from eucentric.pipeline.curation_picks import AddPick, DeletePick, MovePick
from eucentric.pipeline.curation_ratings import RateTomogram
from eucentric.pipeline.curation_tilts import ExcludeSeries, ExcludeTilt, IncludeSeries, IncludeTilt
from eucentric.pipeline.explain import explain_validation_error, unknown_name
from eucentric.pipeline.repair_drawn_edits import DRAWN_EDITS
from eucentric.pipeline.repair_label_edits import LABEL_EDITS
from eucentric.pipeline.repair_level_edits import LEVEL_EDITS
from eucentric.pipeline.repair_track_edits import TRACK_EDITS

_KINDS: tuple[type[Edit], ...] = (
    ExcludeTilt,
    IncludeTilt,
    ExcludeSeries,
    IncludeSeries,
    AddPick,
    DeletePick,
    MovePick,
    RateTomogram,
    *TRACK_EDITS,
    *LEVEL_EDITS,
    *DRAWN_EDITS,
    *LABEL_EDITS,
)
KINDS: dict[str, type[Edit]] = {str(kind.model_fields["kind"].default): kind for kind in _KINDS}
"""By what the field `kind` says."""
KIND_OF = {kind: name for name, kind in KINDS.items()}


def edit_of(values: Any) -> Edit:
    """An edit from JSON.

    Raises
    ------
    InputError : no kind that is known, or values that do not fit
    """
    if not isinstance(values, dict) or not isinstance(values.get("kind"), str):
        raise InputError(f"An edit was expected, with its `kind` ({', '.join(KINDS)}) and what it is about.")
    kind = KINDS.get(values["kind"])
    if kind is None:
        raise unknown_name(values["kind"], KINDS, "kind of edit", "Curation")
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise explain_validation_error(error, kind, f"an edit of kind `{values['kind']}`") from error
