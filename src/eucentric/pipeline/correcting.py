"""Stacks of a project's tilt series, corrected for their contrast transfer, and one table of them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from eucentric.errors import EucentricError, InputError
from eucentric.io.tilt_series import read_tilt_series, read_tilt_series_set, tilt_series_names, write_tilt_series_set
from eucentric.models.tilt_series import Tilt, TiltSeries
from eucentric.pipeline.corrected_series import PARTS, CorrectedSeries, CorrectedStack, StackSettings, check_settings
from eucentric.pipeline.reprojecting import project_of, refuse_to_replace
from eucentric.pipeline.steps import find_project, selected
from eucentric.pipeline.store import ItemStore

TABLE = "tilt_series.star"
_CTF_TABLE = f"ctf/{TABLE}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectedSet:
    """What became of every series that was asked for."""

    made: tuple[CorrectedStack, ...]
    failed: dict[str, str]
    """Words by the name of the series."""
    table: Path | None
    """Of what was made; None where nothing was."""


def correct_stack_files(
    source: Path,
    output: Path,
    *,
    settings: StackSettings,
    device: torch.device,
    only: list[str] | None = None,
    overwrite: bool = False,
    on_series: Callable[[CorrectedStack | None, str, str], None] | None = None,
) -> CorrectedSet:
    """Write a CTF-corrected stack of every series, its angles and transforms, and one table of all.

    The table, `tilt_series.star`, holds no CTF, so that no later step corrects it twice, and after dose weighting no
    exposures. Series that are in the table from before stay in it.

    Parameters
    ----------
    source : project, or a table such as `ctf/tilt_series.star`
    output : folder to be made
    only : names of series, wildcards allowed; all where None
    on_series : called with each series as it is done: what was written, its name, or words on why not

    Raises
    ------
    InputError : no such project, no CTF in it, unknown names, settings that do not fit, or files that would be
        replaced unasked
    """
    check_settings(settings)
    table = _table_of(source)
    names = selected(tilt_series_names(table), only)
    endings = tuple(PARTS) if settings.halves else ("",)
    outputs = [output / f"{name}{ending}.mrc" for name in names for ending in endings]
    refuse_to_replace([output / TABLE], [table], True)
    refuse_to_replace(outputs, [table], overwrite)
    root = project_of(table)
    made: list[CorrectedStack] = []
    written: list[TiltSeries] = []
    failed: dict[str, str] = {}
    for name in names:
        try:
            series = read_tilt_series(table, name, root)
            work = CorrectedSeries.prepare(series, settings, ItemStore(root, "", name), device, table)
            stack, record = work.write(output)
        except EucentricError as error:
            failed[name] = str(error)
        else:
            made.append(stack)
            written.append(record)
        if on_series is not None:
            on_series(made[-1] if name not in failed else None, name, failed.get(name, ""))
    if written:
        _write_table(output / TABLE, written, root)
    return CorrectedSet(made=tuple(made), failed=failed, table=output / TABLE if written else None)


def _table_of(source: Path) -> Path:
    """The table that a project or a path means."""
    if source.suffix.lower() == ".star":
        if not source.is_file():
            raise InputError(f"`{source}` does not exist. Give a project, or a table such as `{_CTF_TABLE}`.")
        return source
    root = find_project(source)
    table = root / _CTF_TABLE
    if not table.is_file():
        raise InputError(
            f"No contrast transfer has been estimated in `{source}`: it has no `{_CTF_TABLE}`. "
            f"Run `eucentric ctf {source}` first."
        )
    return table


def _write_table(path: Path, series: list[TiltSeries], root: Path) -> None:
    """The table of a folder of stacks, with what an earlier call put there.

    Inside of the project its paths start there, as everywhere. Elsewhere no project is found by, and they are whole.
    """
    if not path.resolve().is_relative_to(root):
        series = [_with_whole_paths(s, ItemStore(root, "", s.name)) for s in series]
        root = path.parent
    names = {s.name for s in series}
    before = [s for s in read_tilt_series_set(path, root) if s.name not in names] if path.is_file() else []
    write_tilt_series_set(path, sorted([*before, *series], key=lambda s: s.name), root)


def _with_whole_paths(series: TiltSeries, store: ItemStore) -> TiltSeries:
    def whole(path: str | None) -> str | None:
        if path is None:
            return None
        number, at, _ = path.rpartition("@")
        return f"{number}{at}{store.resolve(path).resolve().as_posix()}"

    def moved(tilt: Tilt) -> Tilt:
        return replace(
            tilt,
            movie=whole(tilt.movie),
            image=whole(tilt.image),
            image_even=whole(tilt.image_even),
            image_odd=whole(tilt.image_odd),
        )

    excluded = tuple(replace(e, tilt=moved(e.tilt)) for e in series.excluded)
    return series.with_tilts([moved(t) for t in series.tilts]).replace(excluded=excluded, warp=whole(series.warp))
