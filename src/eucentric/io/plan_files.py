"""Plan files (TOML): the tilt scheme, microscope and specimen of a session that is to come.

``[scheme]`` holds the fields of `TiltScheme`, ``[microscope]`` and ``[specimen]`` those of `PlannedMicroscope` and
`PlannedSpecimen`. Other tables may stand beside them, such as what a plan was chosen for; they are not read.
"""

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomlkit
from pydantic import BaseModel, ValidationError

from eucentric.errors import FormatError, InputError
from eucentric.io.atomic import write_text_atomic
from eucentric.models.acquisition_plan import AcquisitionPlan, PlannedMicroscope, PlannedSpecimen
from eucentric.models.tilt_scheme import TiltScheme
from eucentric.typing import PathLike

_TABLES: dict[str, type[BaseModel]] = {
    "scheme": TiltScheme,
    "microscope": PlannedMicroscope,
    "specimen": PlannedSpecimen,
}


def read_plan(path: PathLike) -> AcquisitionPlan:
    """The plan that a file holds; see `further_tables` for what of the file is not in it.

    Raises
    ------
    InputError : no such file, no ``[scheme]``, an unknown setting (the nearest known one is named), or a value that does
        not fit, such as a dose of zero
    FormatError : not TOML
    """
    place = Path(path)
    tables = _tables(place)
    if "scheme" not in tables:
        raise InputError(
            f"`{place}` has no table [scheme], so it is not a plan of a tilt series. Make one with `eucentric plan-tilts`."
        )
    return AcquisitionPlan.model_validate(
        {name: _checked(model, tables[name], name, place) for name, model in _TABLES.items() if name in tables}
    )


def further_tables(path: PathLike) -> dict[str, Any]:
    """What a plan file holds beside that which `read_plan` looks at, by name; errors as there."""
    return {name: table for name, table in _tables(Path(path)).items() if name not in _TABLES}


def write_plan(path: PathLike, plan: AcquisitionPlan, more: Mapping[str, Mapping[str, Any]] | None = None) -> None:
    """Write a plan with the meaning of each setting beside it, whole or not at all.

    Parameters
    ----------
    path : replaced where it exists
    plan : what is None stands as a comment
    more : further tables, by name; of plain values and lists of them

    Raises
    ------
    InputError : a further table with the name of one of the plan's, or a place that cannot be written to
    BackendError : the disk is full
    """
    document = tomlkit.document()
    for name, model in _TABLES.items():
        document.add(name, _table(getattr(plan, name), model))
    for name, values in (more or {}).items():
        if name in _TABLES:
            raise InputError(f"A plan has a table [{name}] of its own; expected another name for the further one.")
        table = tomlkit.table()
        for key, value in values.items():
            if value is not None:
                table.add(key, value)
        document.add(name, table)
    write_text_atomic(path, tomlkit.dumps(document))


def _table(values: BaseModel, model: type[BaseModel]) -> tomlkit.items.Table:
    table = tomlkit.table()
    for name, field in model.model_fields.items():
        value = getattr(values, name)
        table.add(tomlkit.comment(field.description or name))
        if value is None:
            table.add(tomlkit.comment(f"{name} = "))
        else:
            table.add(name, list(value) if isinstance(value, tuple) else value)
    return table


def _tables(place: Path) -> dict[str, Any]:
    if not place.is_file():
        raise InputError(f"`{place}` does not exist, or is not a file. Check the name and the folder.")
    try:
        return tomllib.loads(place.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"`{place}` is not a plan that can be read: {error}. Expected TOML.") from error


def _checked(model: type[BaseModel], given: Any, table: str, place: Path) -> Any:
    """A table of a plan that fits its record."""
    where = f"the table [{table}] of `{place}`"
    if not isinstance(given, dict):
        raise InputError(f"`{table}` in `{place}` is {given!r}; expected a table. Write [{table}] above its settings.")
    unknown = next((name for name in given if name not in model.model_fields), None)
    if unknown is not None:
        like = difflib.get_close_matches(unknown, model.model_fields, n=1, cutoff=0.5)
        hint = f"Did you mean `{like[0]}`?" if like else f"There are {', '.join(f'`{n}`' for n in model.model_fields)}."
        raise InputError(f"{where[0].upper() + where[1:]} has no setting called `{unknown}`. {hint}")
    try:
        model.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        words = str(first["msg"]).removeprefix("Value error, ")
        if not first["loc"]:
            raise InputError(f"The settings in {where} do not fit together: {words}.") from error
        name = str(first["loc"][0])
        reason = model.model_fields[name].description
        expected = words.removeprefix("Input should be ")
        if expected.startswith(("greater", "less")):
            expected = f"a value {expected}"
        raise InputError(f"`{name}` is {first['input']!r} in {where}; expected {expected} ({reason}).") from error
    return given
