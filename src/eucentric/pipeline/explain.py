"""Settings that do not fit, in the words of the product instead of those of its libraries."""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from eucentric.errors import InputError

_KINDS = {
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "string_type": "a text",
    "tuple_type": "a list of values",
    "list_type": "a list of values",
    "missing": "a value",
}
_LIMITS = {
    "greater_than": ("gt", "a number greater than {}"),
    "greater_than_equal": ("ge", "a number of at least {}"),
    "less_than": ("lt", "a number less than {}"),
    "less_than_equal": ("le", "a number of at most {}"),
    "multiple_of": ("multiple_of", "a multiple of {}"),
    "literal_error": ("expected", "one of {}"),
    "too_short": ("min_length", "at least {} values"),
    "too_long": ("max_length", "at most {} values"),
    "string_pattern_mismatch": ("pattern", "a text of the form {}"),
}


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like a given one, if any is like it."""
    found = difflib.get_close_matches(name.replace("-", "_"), list(known), n=1, cutoff=0.5)
    return found[0] if found else None


def unknown_name(name: str, known: Iterable[str], what: str, where: str) -> InputError:
    """The error for a name that is not one of the known."""
    names = list(known)
    like = nearest(name, names)
    hint = f"Did you mean `{like}`?" if like else f"There are {', '.join(f'`{n}`' for n in names)}."
    return InputError(f"{where} has no {what} called `{name}`. {hint}")


def _expected(error: Any, per_unit: float = 1.0) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind in _LIMITS:
        key, text = _LIMITS[kind]
        limit = context.get(key)
        if per_unit != 1.0 and isinstance(limit, float | int):
            limit = limit / per_unit
        return text.format(f"{limit:g}" if isinstance(limit, float) else str(limit).replace("'", "`"))
    if kind in _KINDS:
        return _KINDS[kind]
    return str(error["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")


def explain_validation_error(
    error: ValidationError,
    model: type[BaseModel],
    where: str,
    *,
    shown_as: Callable[[str], str] = str,
    units: Mapping[str, tuple[str, float]] | None = None,
) -> InputError:
    """What is wrong with settings, in at most three sentences.

    Parameters
    ----------
    error : as raised by `model`
    model : the settings class: names the fields and their reasons
    where : what the settings were read from, such as ``the table [motion] of `eucentric.toml` ``
    shown_as : what the user knows a field as, such as its option of the command line (`--low-pass-angstrom`)
    units : the unit in which the user gave a length, and how many A it has, by field; others were given as they are
    """
    errors = error.errors(include_url=False)
    first = errors[0]
    place = [str(part) for part in first["loc"] if str(part) in model.model_fields] or [
        str(p) for p in first["loc"][:1]
    ]
    name = place[0] if place else ""
    more = f" {len(errors) - 1} more settings do not fit either." if len(errors) > 1 else ""
    if first["type"] == "extra_forbidden":
        return InputError(str(unknown_name(name, model.model_fields, "setting", where.capitalize())) + more)
    if not name:  # a rule between fields
        return InputError(f"The settings in {where} do not fit together: {_expected(first)}.{more}")
    shown = shown_as(name)
    field = model.model_fields.get(name)
    unit, per_unit = (units or {}).get(name, ("", 1.0))
    meaning = (field.description if field is not None else None) or ""
    if unit:  # of the field itself, which is another
        meaning = re.sub(r"^A\b[;,]? *", "", meaning)
    reason = f" ({meaning})" if meaning else ""
    if first["type"] == "missing":
        return InputError(f"`{shown}` is missing in {where}; expected {_expected(first)}{reason}.{more}")
    given = first["input"]
    text = f"`{given}`" if isinstance(given, str) else f"{given!r}"
    if unit and isinstance(given, float | int):
        text = f"{given / per_unit:g} {unit}"
    return InputError(f"`{shown}` is {text} in {where}; expected {_expected(first, per_unit)}{reason}.{more}")
