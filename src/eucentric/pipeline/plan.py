"""The plan of a project, `eucentric.toml`: every setting with its unit and reason, chosen values active.

Defaults stand as comments, so that the file says what may be changed and a later version may better them.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import tomlkit
from pydantic import ValidationError
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AoT, Table

from eucentric.errors import FormatError, InputError
from eucentric.io.atomic import write_text_atomic
from eucentric.models.settings import Frozen
from eucentric.pipeline.explain import explain_validation_error, unknown_name
from eucentric.pipeline.settings import Exclusion, ProjectSettings
from eucentric.pipeline.stage import AnyStage
from eucentric.typing import PathLike

PLAN_FILE = "eucentric.toml"
PLAN_VERSION = 1
NONE = "none"  # TOML has no null
_HEAD = f"""\
# The plan of this project. A line that starts with `# name = value` shows a default:
# take its `#` away and change the value to choose another. `eucentric run` redoes what a change touches.
plan_version = {PLAN_VERSION}
"""


def _toml(value: Any) -> str:
    if value is None:
        value = NONE
    return str(tomlkit.item(value).as_string())


def _plain(value: Any, model: type[Frozen], name: str) -> Any:
    """A value of the file as the settings class takes it: `"none"` means none where a field may be none."""
    field = model.model_fields.get(name)
    if value == NONE and field is not None and _may_be_none(field.annotation):
        return None
    return value


def _may_be_none(annotation: Any) -> bool:
    return type(None) in getattr(annotation, "__args__", ())


def _setting_lines(model: type[Frozen], chosen: Mapping[str, Any]) -> list[str]:
    lines = []
    defaults = {name: field.get_default(call_default_factory=True) for name, field in model.model_fields.items()}
    for name, field in model.model_fields.items():
        default = defaults[name]
        shown = default.model_dump(mode="json") if isinstance(default, Frozen) else default
        lines.append(f"# {field.description or name}")
        if name in chosen:
            lines.append(f"{name} = {_toml(chosen[name])}   # default {_toml(shown)}")
        else:
            lines.append(f"# {name} = {_toml(shown)}")
    return lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The settings of a project."""

    root: Path
    stages: tuple[AnyStage, ...]
    project: ProjectSettings
    chosen: Mapping[str, Mapping[str, Any]]
    """By stage: the settings that differ from their defaults or were stated."""
    exclusions: tuple[Exclusion, ...] = ()

    def params(self, stage: AnyStage | str) -> Any:
        """The complete settings of a stage."""
        kind = self.stage(stage) if isinstance(stage, str) else stage
        return kind.params.model_validate(dict(self.chosen.get(kind.name, {})))

    def stage(self, name: str) -> AnyStage:
        """The stage of that name.

        Raises
        ------
        InputError : there is none
        """
        for kind in self.stages:
            if kind.name == name:
                return kind
        raise unknown_name(name, [s.name for s in self.stages], "stage", "Eucentric")

    @classmethod
    def load(cls, root: PathLike, stages: Sequence[AnyStage] | None = None) -> Self:
        """The plan of a project; defaults where it has none.

        Raises
        ------
        FormatError : not a TOML file, or of a later version of the plan
        InputError : an unknown table or setting, or a value that does not fit
        """
        place = Path(root)
        kinds = all_stages() if stages is None else tuple(stages)
        document = _read(place / PLAN_FILE)
        _check_version(document, place / PLAN_FILE)
        known = ["project", *(s.name for s in kinds)]
        for name, value in document.items():
            if name in ("plan_version", "exclude"):
                continue
            if name not in known:
                raise unknown_name(name, known, "table", f"`{place / PLAN_FILE}`")
            if not isinstance(value, dict):
                raise InputError(
                    f"`{name}` in `{place / PLAN_FILE}` is a single value; expected a table. Write [{name}] above it."
                )
        project = _validated(ProjectSettings, document.get("project", {}), "project", place)
        chosen: dict[str, dict[str, Any]] = {}
        for kind in kinds:
            table = document.get(kind.name, {})
            values = {k: _plain(v, kind.params, k) for k, v in table.items()}
            _validated(kind.params, values, kind.name, place)
            if values:
                chosen[kind.name] = values
        entries = document.get("exclude", [])
        exclusions = tuple(_validated(Exclusion, e, "[exclude]", place) for e in entries)
        return cls(root=place, stages=kinds, project=project, chosen=chosen, exclusions=exclusions)

    @classmethod
    def write_default(
        cls,
        root: PathLike,
        chosen: Mapping[str, Mapping[str, Any]] | None = None,
        stages: Sequence[AnyStage] | None = None,
    ) -> Self:
        """Write a new plan; values by table (`project` or a stage) stand active, all else as commented defaults.

        Raises
        ------
        InputError : an unknown table or setting, a value that does not fit, or a place that may not be written to
        """
        place, kinds = Path(root), all_stages() if stages is None else tuple(stages)
        values = {name: dict(table) for name, table in (chosen or {}).items()}
        models: dict[str, type[Frozen]] = {"project": ProjectSettings, **{s.name: s.params for s in kinds}}
        lines = [_HEAD]
        for name in values:
            if name not in models:
                raise unknown_name(name, models, "table", f"`{place / PLAN_FILE}`")
        for name, model in models.items():
            _validated(model, values.get(name, {}), name, place)
            lines += [f"[{name}]", *_setting_lines(model, values.get(name, {})), ""]
        write_text_atomic(place / PLAN_FILE, "\n".join(lines))
        return cls.load(place, kinds)

    def with_changes(self, table: str, changes: Mapping[str, Any]) -> Self:
        """The plan with some settings of one table changed, not yet written.

        Raises
        ------
        InputError : an unknown setting, or a value that does not fit
        """
        if table == "project":
            merged = {**self.project.model_dump(), **changes}
            return replace(self, project=_validated(ProjectSettings, merged, table, self.root))
        kind = self.stage(table)
        values = {**self.chosen.get(table, {}), **changes}
        _validated(kind.params, values, table, self.root)
        return replace(self, chosen={**self.chosen, table: values})

    def save(self, table: str, changes: Mapping[str, Any]) -> Self:
        """The plan with some settings changed, in the file too; all other lines of the file stay as they are."""
        plan = self.with_changes(table, changes)
        path = self.root / PLAN_FILE
        if not path.is_file():
            type(self).write_default(self.root, {table: changes}, self.stages)
            return plan
        text = path.read_text(encoding="utf-8")
        for name, value in changes.items():
            text = _with_setting(text, table, name, value.model_dump() if isinstance(value, Frozen) else value)
        write_text_atomic(path, text)
        return plan

    def with_exclusions(self, exclusions: Iterable[Exclusion]) -> Self:
        """The plan with another list of excluded tilts, in the file too."""
        entries = tuple(exclusions)
        path = self.root / PLAN_FILE
        if not path.is_file():
            type(self).write_default(self.root, {}, self.stages)
        document = _read(path)
        document.pop("exclude", None)
        if entries:
            tables = AoT([])
            for entry in entries:
                table = tomlkit.table()
                for name, value in entry.model_dump(exclude_none=True).items():
                    table.add(name, value)
                tables.append(table)
            document.append("exclude", tables)
        write_text_atomic(path, tomlkit.dumps(document))
        return replace(self, exclusions=entries)


def read_exclusions(root: PathLike) -> tuple[Exclusion, ...]:
    """The tilts and series that a plan leaves out; nothing else of it is looked at.

    Raises
    ------
    FormatError : not a TOML file
    InputError : an entry that does not fit
    """
    place = Path(root)
    entries = _read(place / PLAN_FILE).get("exclude", [])
    return tuple(_validated(Exclusion, e, "[exclude]", place) for e in entries)


def all_stages() -> tuple[AnyStage, ...]:
    """The stages of the product in the order they run."""
    from eucentric.pipeline import stages  # their shells load torch

    return stages.load_stages()


def _read(path: Path) -> tomlkit.TOMLDocument:
    if not path.is_file():
        return tomlkit.document()
    try:
        return tomlkit.parse(path.read_text(encoding="utf-8"))
    except (TOMLKitError, UnicodeDecodeError) as error:
        raise FormatError(f"`{path}` is not a TOML file that can be read: {error}. Put that line right.") from error


def _check_version(document: tomlkit.TOMLDocument, path: Path) -> None:
    version = document.get("plan_version", PLAN_VERSION)
    if version != PLAN_VERSION:
        raise FormatError(
            f"`{path}` is a plan of version {version}; this Eucentric reads version {PLAN_VERSION}. "
            "Install a newer Eucentric, or write a new plan with `eucentric import`."
        )


def _validated(model: type[Any], values: Any, table: str, root: Path) -> Any:
    plain = values.unwrap() if isinstance(values, Table) else dict(values)
    try:
        return model.model_validate({k: _plain(v, model, k) for k, v in plain.items()})
    except ValidationError as error:
        raise explain_validation_error(error, model, f"the table [{table}] of `{root / PLAN_FILE}`") from error


def _with_setting(text: str, table: str, name: str, value: Any) -> str:
    """The text of a plan with one setting active, in place of its commented default where that line is still there."""
    document = tomlkit.parse(text)
    section = document.get(table)
    if section is not None and name in section:
        section[name] = NONE if value is None else value
        return tomlkit.dumps(document)
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if line.strip() == f"[{table}]"), None)
    if start is None:
        return text.rstrip() + f"\n\n[{table}]\n{name} = {_toml(value)}\n"
    end = next((i for i in range(start + 1, len(lines)) if re.match(r"\s*\[", lines[i])), len(lines))
    default = re.compile(rf"#\s*{re.escape(name)}\s*=(.*)$")
    for i in range(start + 1, end):
        found = default.match(lines[i])
        if found:
            lines[i] = f"{name} = {_toml(value)}   # default{found.group(1)}"
            return "\n".join(lines) + "\n"
    lines.insert(start + 1, f"{name} = {_toml(value)}")
    return "\n".join(lines) + "\n"
