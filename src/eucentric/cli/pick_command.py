"""`eucentric pick`: template matching."""

import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from eucentric.cli.options import SETTINGS, SEVERAL, RunOptions, Switch, run_and_show, show_json, show_summary
from eucentric.errors import InputError
from eucentric.picking.params import MatchParams
from eucentric.pipeline.summary import RunSummary

_DEFAULT = RunOptions()
_VOLUMES = (".mrc", ".rec")


def pick(
    target: Path,
    /,
    *,
    template: Annotated[list[str] | None, SEVERAL] = None,
    name: str | None = None,
    symmetry: Annotated[list[str] | None, SEVERAL] = None,
    template_pixel_size: float | None = None,
    template_mask: Annotated[list[str] | None, SEVERAL] = None,
    resolution: float | None = None,
    mask: Path | None = None,
    tilts: Annotated[tuple[float, float] | None, Parameter(allow_leading_hyphen=True, negative=())] = None,
    pixel_size: float | None = None,
    score_volumes: Switch = False,
    output: str | None = None,
    settings: Annotated[MatchParams | None, SETTINGS] = None,
    seed: int | None = None,
    options: RunOptions = _DEFAULT,
) -> int:
    """Find particles in tomograms by their structure (template matching).

    Writes `pick/<name>/particles.star` (RELION-5) with a score in standard deviations and a q-value for each pick. In a project
    the first choice is written to `eucentric.toml`, so that `eucentric run` picks in new tomograms too; templates under
    another name stand beside it.

    Parameters
    ----------
    target
        project, a table such as `reconstruct/tilt_series.star`, or one tomogram (`.mrc`, with --tilts)
    template
        what to look for: atomic models (PDB, mmCIF), maps (MRC, protein bright) or sphere:DIAMETER in A; several compete;
        those of `eucentric.toml` where not given
    name
        of the folder below `pick`; that of the first template where not given
    symmetry
        of the template about its own axes, wherever these lie: C1, D7, O and so on; one for all or one for each
    template_pixel_size
        A, of a map whose header holds none or a wrong one
    template_mask
        volumes, 0 to 1, about the origins of the templates, one for each: what of a template counts (a map is then not moved
        to its middle); --mask-shape tells where not given
    resolution
        A; finer detail of templates is removed; 0 keeps what the voxels hold
    mask
        volume of the tomogram's shape, above 0 where particles may lie; or a folder with one for each, NAME.mrc
    tilts
        degrees, lowest and highest, of tomograms without their tilt series
    pixel_size
        A per voxel of a tomogram whose header holds none
    score_volumes
        also write the greatest score at each voxel
    output
        folder for the results, in place of `pick/<name>`
    seed
        of the decoys for one tomogram; a project has its own in `eucentric.toml`
    """
    given: dict[str, Any] = {
        "symmetries": symmetry,
        "name": name,
        "template_pixel_size_angstrom": template_pixel_size,
        "resolution_angstrom": resolution,
        "template_masks": template_mask,
        "tilts_deg": None if tilts is None else list(tilts),
        "score_volumes": True if score_volumes else None,
    }
    given = {key: value for key, value in given.items() if value is not None}
    if target.suffix.lower() in _VOLUMES:
        return _pick_in_file(target, template or [], given, settings, mask, pixel_size, output, seed or 0, options)
    if pixel_size is not None or seed is not None:
        option = "--pixel-size" if seed is None else "--seed"
        raise InputError(
            f"{option} is for one tomogram; a project has its own: in its tables, or in its eucentric.toml."
        )
    return _pick_in_project(target, template, given, settings, mask, output, options)


def _pick_in_file(
    tomogram: Path,
    templates: list[str],
    given: dict[str, Any],
    settings: MatchParams | None,
    mask: Path | None,
    pixel_size: float | None,
    output: str | None,
    seed: int,
    options: RunOptions,
) -> int:
    # here, so that --help does not load torch
    from eucentric.compute.device import resolve_device
    from eucentric.pipeline.pick_templates import describe, pick_templates

    tilts = given.get("tilts_deg")
    made = pick_templates(
        tomogram,
        templates,
        settings or MatchParams(),
        device=resolve_device(options.device),
        name=given.get("name"),
        symmetries=given.get("symmetries", ()),
        template_pixel_size=given.get("template_pixel_size_angstrom"),
        template_masks=given.get("template_masks", ()),
        resolution_angstrom=given.get("resolution_angstrom", 0.0),
        tilts=None if tilts is None else (tilts[0], tilts[1]),
        pixel_size=pixel_size,
        mask=mask,
        output=None if output is None else Path(output),
        score_volumes=given.get("score_volumes", False),
        seed=seed,
        overwrite=options.overwrite,
        on_step=_tell if sys.stderr.isatty() else None,
    )
    _show_counts(made.counts, made.table, made.caveats)
    if options.as_json:
        show_json({"exit_code": 0, **describe(made)})
    return 0


def _pick_in_project(
    target: Path,
    templates: list[str] | None,
    given: dict[str, Any],
    settings: MatchParams | None,
    mask: Path | None,
    output: str | None,
    options: RunOptions,
) -> int:
    from eucentric.io.tilt_series import relative_path
    from eucentric.picking.stage_params import PickTargets
    from eucentric.pipeline.plan import Plan
    from eucentric.pipeline.reprojecting import project_of
    from eucentric.pipeline.runner import run_stage
    from eucentric.pipeline.steps import find_project

    root = project_of(target) if target.suffix.lower() == ".star" else find_project(target)
    changes = {} if settings is None else {key: getattr(settings, key) for key in settings.model_fields_set}
    if templates:  # another search: nothing of the earlier one's is meant
        changes |= PickTargets().model_dump(mode="json")
        changes["templates"] = [path if path.startswith("sphere:") else relative_path(path, root) for path in templates]
        for path in templates:
            if not path.startswith("sphere:") and not Path(path).is_file():
                raise InputError(f"`{path}` does not exist. Give a PDB or mmCIF file, an MRC map or sphere:DIAMETER.")
    changes |= given
    if mask is not None:
        changes["mask"] = relative_path(mask, root)
    if "template_masks" in given:
        changes["template_masks"] = [relative_path(path, root) for path in given["template_masks"]]
    plan = Plan.load(root)
    before, now = plan.params("pick"), plan.with_changes("pick", changes).params("pick")
    if output is None and before.templates and before.folder_name != now.folder_name:
        output = f"pick/{now.folder_name}"
    table = root / (output or f"pick/{now.folder_name}") / "particles.star"
    show = partial(_show_project, table=table)
    return run_and_show(partial(run_stage, target, "pick", changes, output), options, show)


def _show_project(summary: RunSummary, options: RunOptions, table: Path) -> int:
    from eucentric.pipeline.records import read_records

    code = show_summary(summary, replace(options, as_json=False))
    counts = {
        name: int(record.metrics.get("picks") or 0)
        for name, record in read_records(table.parent).items()
        if record.is_done
    }
    _show_counts(counts, table if table.is_file() else None)
    if options.as_json:
        values = json.loads(summary.to_json())
        show_json({**values, "counts": counts, "table": str(table) if table.is_file() else None})
    return code


def _show_counts(counts: dict[str, int], table: Path | None, caveats: tuple[str, ...] = ()) -> None:
    for tomogram, count in counts.items():
        sys.stdout.write(f"{tomogram}: {count} particle{'s' * (count != 1)}\n")
    for caveat in caveats:
        sys.stdout.write(f"{caveat}\n")
    if table is not None:
        sys.stdout.write(f"Wrote {table}.\n")


def _tell(tomogram: str, part: float) -> None:
    sys.stderr.write(f"{tomogram}: {100 * part:.0f}%\n")
