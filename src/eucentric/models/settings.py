"""The base of every settings class."""

from typing import Any, Literal, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, model_validator


class Frozen(BaseModel):
    """Settings: frozen, no unknown field, no NaN or infinity. Its fields become options and ``eucentric.toml``."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=False)

    @model_validator(mode="before")
    @classmethod
    def _numbers_of_the_command_line(cls, given: Any) -> Any:
        """Words such as `2` for fields that are one of some whole numbers: no type tells a parser what they are."""
        if not isinstance(given, dict):
            return given
        read = dict(given)
        for name, value in given.items():
            field = cls.model_fields.get(name)
            choices = (
                get_args(field.annotation) if field is not None and get_origin(field.annotation) is Literal else ()
            )
            if isinstance(value, str) and value in {str(c) for c in choices if isinstance(c, int)}:
                read[name] = int(value)
        return read

    def replace(self, **changes: Any) -> Self:
        """A validated copy with some fields changed (``model_copy`` would not validate)."""
        return type(self).model_validate({**self.model_dump(), **changes})
