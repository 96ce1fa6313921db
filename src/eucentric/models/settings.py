"""The base of every settings class."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Settings: frozen, no unknown field, no NaN or infinity. Its fields become options and ``eucentric.toml``."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=False)

    def replace(self, **changes: Any) -> Self:
        """A validated copy with some fields changed (``model_copy`` would not validate)."""
        return type(self).model_validate({**self.model_dump(), **changes})
