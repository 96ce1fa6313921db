"""`eucentric pick train`, `apply` and `embed`."""

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from eucentric.cli.chosen_list import chosen_list
from eucentric.cli.options import SETTINGS, SEVERAL, AsJson, Debug, Switch, show_json
from eucentric.cli.progress_lines import shown_steps
from eucentric.errors import InputError
from eucentric.picking.learned.params import PickerParams, PickerUse

if TYPE_CHECKING:
    from eucentric.pipeline.train_picker_files import ModelMade


def train(
    target: Path | None = None,
    /,
    *,
    output: Path,
    labels: Annotated[list[Path] | None, SEVERAL] = None,
    diameter: Annotated[list[float] | None, SEVERAL] = None,
    negatives: Annotated[list[Path] | None, SEVERAL] = None,
    structure: Annotated[list[Path] | None, SEVERAL] = None,
    held_out_tomogram: Annotated[list[str] | None, SEVERAL] = None,
    start: str | None = None,
    settings: Annotated[PickerParams | None, SETTINGS] = None,
    seed: int = 0,
    device: str = "auto",
    overwrite: Switch = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Train a network to find particles: from labels, twenty or more, or from structures alone, which are simulated.

    A training that is stopped (Ctrl-C) goes on where it was when the same command is given again.

    Parameters
    ----------
    target
        project, table such as `reconstruct/tilt_series.star`, or one tomogram (`.mrc`); not needed with --structure
    output
        model file to be made
    labels
        lists of particles in any format (picks of template matching too), or the truth of simulated series (`.json`)
    diameter
        A: of the particles; one for all classes, or one for each in the order of their names
    negatives
        lists of places where no particle is
    structure
        atomic models (PDB, mmCIF) to be trained on in place of labels
    held_out_tomogram
        names of tomograms whose labels calibrate the scores in place of training; an end of each tomogram where not given
    start
        model to start from: a file, or `shipped` for the one that comes with the program
    seed
        same seed, same model
    device
        auto, cpu, cuda or cuda:n
    overwrite
        replace a model that exists
    """
    # here, so that --help does not load torch
    from eucentric.compute.device import resolve_device
    from eucentric.pipeline.train_picker_files import train_on_structures, train_picker_files

    del debug  # read by the program itself
    params = settings or PickerParams()
    where = resolve_device(device)
    if structure:
        if labels or negatives or target is not None:
            raise InputError("Give either a target with --labels, or --structure alone.")
        made = train_on_structures(
            structure, output, params, device=where, start=start, seed=seed, overwrite=overwrite, on_step=shown_steps()
        )
        return _tell_model(made, as_json=as_json)
    if target is None or not labels:
        raise InputError(
            "Nothing to train on was given. Give a project and --labels, or --structure with atomic models."
        )
    if not diameter:
        raise InputError("Give --diameter with the size of the particles in A: one for all classes, or one for each.")
    made = train_picker_files(
        target,
        [chosen_list(path) for path in labels],
        output,
        params,
        diameters=diameter,
        device=where,
        negatives=negatives or (),
        held_out=held_out_tomogram or (),
        start=start,
        seed=seed,
        overwrite=overwrite,
        on_step=shown_steps(),
    )
    return _tell_model(made, as_json=as_json)


def _tell_model(made: "ModelMade", *, as_json: bool) -> int:
    for kind, calibration in zip(made.classes, made.calibrations, strict=True):
        if calibration.true_count:
            sys.stdout.write(
                f"{kind.name}: expected F1 {calibration.expected_f1:.2f} on {calibration.true_count} particles held out\n"
            )
    for caveat in made.caveats:
        sys.stdout.write(f"{caveat}\n")
    sys.stdout.write(f"Wrote {made.model}.\n")
    if as_json:
        values = {
            "model": str(made.model),
            "classes": [kind.name for kind in made.classes],
            "labels": made.labels,
            "calibrations": [c.to_dict() if c.true_count else None for c in made.calibrations],
            "caveats": list(made.caveats),
        }
        show_json({"exit_code": 0, **values})
    return 0


def apply(
    target: Path,
    /,
    *,
    model: str = "shipped",
    name: str = "learned",
    output: Path | None = None,
    settings: Annotated[PickerUse | None, SETTINGS] = None,
    only: Annotated[list[str] | None, SEVERAL] = None,
    mask: Path | None = None,
    pixel_size: float | None = None,
    device: str = "auto",
    overwrite: Switch = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Find particles with a trained network. Scores are probabilities; picks have no orientation.

    Parameters
    ----------
    target
        project, table such as `reconstruct/tilt_series.star`, or one tomogram (`.mrc`)
    model
        file that `eucentric pick train` made; `shipped` finds any macromolecule
    name
        of the picks: they go to pick/NAME/particles.star of the project
    output
        RELION-5 table to be made instead
    only
        names of tomograms to work on; wildcards allowed
    mask
        volume of the tomogram's shape, above 0 where particles may lie; or a folder with one for each, NAME.mrc
    pixel_size
        A per voxel of a tomogram whose header holds none
    device
        auto, cpu, cuda or cuda:n
    overwrite
        replace a table that exists
    """
    from eucentric.compute.device import resolve_device
    from eucentric.pipeline.apply_picker_files import apply_picker_files

    del debug
    made = apply_picker_files(
        target,
        model,
        _table(target, name, output),
        settings or PickerUse(),
        resolve_device(device),
        only=only,
        mask=mask,
        pixel_size=pixel_size,
        overwrite=overwrite,
        on_tomogram=_named if sys.stderr.isatty() else None,
    )
    for tomogram, counts in made.counts.items():
        shown = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        sys.stdout.write(f"{tomogram}: {shown}\n")
    for caveat in made.caveats:
        sys.stdout.write(f"{caveat}\n")
    sys.stdout.write(f"Wrote {made.table}.\n")
    if as_json:
        show_json({"exit_code": 0, "table": str(made.table), "counts": made.counts, "caveats": list(made.caveats)})
    return 0


def embed(
    target: Path,
    /,
    *,
    like: Annotated[tuple[float, float, float] | None, Parameter(allow_leading_hyphen=True, negative=())] = None,
    tomogram: str | None = None,
    examples: Path | None = None,
    min_likeness: float = 0.7,
    clusters: int | None = None,
    min_probability: float | None = None,
    model: str = "shipped",
    name: str = "embedded",
    output: Path | None = None,
    only: Annotated[list[str] | None, SEVERAL] = None,
    mask: Path | None = None,
    pixel_size: float | None = None,
    device: str = "auto",
    overwrite: Switch = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Find everything like one example, or, without example, sort all objects into clusters of what looks alike.

    Parameters
    ----------
    target
        project, table such as `reconstruct/tilt_series.star`, or one tomogram (`.mrc`)
    like
        A: x, y and z of one object from the specimen centre, in the tomogram that --tomogram names
    tomogram
        that `like` is a place of; not needed where there is one
    examples
        list of several objects in place of --like
    min_likeness
        mean cosine between alike objects, -1 to 1
    clusters
        how many; by --min-likeness where not given
    min_probability
        of being an object at all; the model's own cut-off where not given
    model
        file of a model with an embedding
    name
        of the picks: they go to pick/NAME/particles.star of the project
    output
        RELION-5 table to be made instead
    only
        names of tomograms to work on; wildcards allowed
    mask
        volume of the tomogram's shape, above 0 where particles may lie; or a folder with one for each, NAME.mrc
    pixel_size
        A per voxel of a tomogram whose header holds none
    device
        auto, cpu, cuda or cuda:n
    overwrite
        replace a table that exists
    """
    from eucentric.compute.device import resolve_device
    from eucentric.pipeline.apply_picker_files import embed_files
    from eucentric.pipeline.learned_files import example_particles

    del debug
    if not -1.0 <= min_likeness <= 1.0:
        raise InputError(f"--min-likeness is {min_likeness:g}; expected a cosine between -1 and 1.")
    made = embed_files(
        target,
        model,
        _table(target, name, output),
        resolve_device(device),
        examples=example_particles(target, like, tomogram, examples),
        min_likeness=min_likeness,
        clusters=clusters,
        min_probability=min_probability,
        only=only,
        mask=mask,
        pixel_size=pixel_size,
        overwrite=overwrite,
        on_tomogram=_named if sys.stderr.isatty() else None,
    )
    sys.stdout.write(f"{made.objects} objects; {made.kept} kept.\n")
    for cluster, count in made.clusters.items():
        sys.stdout.write(f"{cluster}: {count}\n")
    sys.stdout.write(f"Wrote {made.table} and {made.vectors}.\n")
    if as_json:
        values: dict[str, Any] = {**dataclasses.asdict(made), "table": str(made.table), "vectors": str(made.vectors)}
        show_json({"exit_code": 0, **values})
    return 0


def _table(target: Path, name: str, output: Path | None) -> Path:
    if output is not None:
        return output
    if not target.is_dir():
        raise InputError("Give --output FILE for the picks: only a project has a place for them.")
    return target / "pick" / name / "particles.star"


def _named(tomogram: str) -> None:
    sys.stderr.write(f"{tomogram}\n")
