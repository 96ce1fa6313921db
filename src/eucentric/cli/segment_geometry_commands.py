"""`eucentric segment mesh`, `distances` and `count`: surfaces of labels, and what is measured between them and particles."""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from eucentric.cli.options import SETTINGS, SEVERAL, AsJson, Debug, Switch, show_json
from eucentric.pipeline.count_params import CountParams
from eucentric.pipeline.surface_params import SurfaceParams

Kind = Literal["sheets", "bodies"]


def mesh(
    labels: Path,
    /,
    *,
    output: Path,
    tomogram: Path | None = None,
    pixel_size: float | None = None,
    name: str | None = None,
    only: Annotated[list[int] | None, SEVERAL] = None,
    vertices: Switch = False,
    overwrite: Switch = False,
    settings: Annotated[SurfaceParams | None, SETTINGS] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Write meshes of labels, oriented points on them for picking, and a table of measures.

    Normals, and the z axes of points, go outwards where a surface is closed, else away from its middle. Coordinates are in A from
    the specimen centre.

    Parameters
    ----------
    labels
        label volume: `.mrc`, `.tif`, OME-Zarr or `.mod`, each number an object
    output
        folder to be made: `meshes/`, `points.star`, `measures.csv`
    tomogram
        that the labels are of (`.mrc`): gives the voxel size, and the thickness of sheets
    pixel_size
        A per voxel, where no file tells it
    name
        of the tomogram, for meshes and points; that of the tomogram's or the labels' file where not given
    only
        numbers of the labels to take
    vertices
        write also `vertices.csv`: place, normal, curvatures and thickness at every vertex
    overwrite
        replace files that exist
    """
    from eucentric.pipeline.surface_files import mesh_label_files

    del debug  # read by the program itself
    done = mesh_label_files(
        labels,
        output,
        settings or SurfaceParams(),
        tomogram=tomogram,
        pixel_size=pixel_size,
        name=name,
        only=only,
        vertices=vertices,
        overwrite=overwrite,
    )
    made, table = done.made, done.made.table
    for k, number in enumerate(table["label"].tolist()):
        closed = f"closed, {table['enclosed_volume_angstrom3'][k]:.4g} A^3 inside" if table["closed"][k] else "open"
        thick = f", {table['thickness_angstrom'][k]:.1f} A thick" if "thickness_angstrom" in table else ""
        area, radius = float(table["area_angstrom2"][k]), float(table["ball_radius_angstrom"][k])
        # of a sheet that is nearly flat the radius says nothing
        ball = (
            f", ball of radius {radius:.0f} A (misfit {table['ball_misfit_angstrom'][k]:.1f} A)"
            if radius**2 < 10.0 * area
            else ""
        )
        sys.stdout.write(f"Label {number}: {area:.4g} A^2, {closed}{ball}{thick}.\n")
    for number, reason in made.passed_over.items():
        sys.stdout.write(f"Label {number} was passed over. {reason}\n")
    sys.stdout.write(
        f"Wrote {len(made.meshes)} mesh{'es' * (len(made.meshes) != 1)}, {len(made.points)} points and the measures to {output}.\n"
    )
    if as_json:
        show_json(
            {
                "exit_code": 0,
                "meshes": [str(p) for p in made.meshes],
                "points": str(done.points),
                "measures": str(done.measures),
                "vertices": None if done.vertices is None else str(done.vertices),
                "objects": _rows(table),
                "passed_over": {str(k): v for k, v in made.passed_over.items()},
            }
        )
    return 0


def distances(
    labels: Path,
    /,
    *,
    output: Path,
    with_: Annotated[Path | None, Parameter(name="--with")] = None,
    particles: Path | None = None,
    kind: Kind = "sheets",
    with_kind: Kind = "sheets",
    within: float = 500.0,
    contact_angstrom: float = 100.0,
    tomogram: Path | None = None,
    pixel_size: float | None = None,
    name: str | None = None,
    overwrite: Switch = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Measure how near objects come to each other, where they are in contact, and how far particles are from them.

    Distances of sheets are from middle to middle. Each pair is told twice, from either side: areas are those of the first.

    Parameters
    ----------
    labels
        label volume, each number an object
    output
        folder to be made: `distances.csv`, `contacts.csv`, and `particles.csv` where particles are given
    with_
        other labels of the same tomogram, to which distances are taken
    particles
        list of particles: their nearest object, the distance, and on which side they are
    kind
        sheets: thin labels such as membranes, of which the middle is taken; bodies: filled labels, of which the outline is taken
    with_kind
        the same of the other labels
    within
        A: pairs that are farther apart everywhere are left out
    contact_angstrom
        A: what is nearer is in contact
    tomogram
        that the labels are of: gives the voxel size
    pixel_size
        A per voxel, where no file tells it
    name
        of the tomogram in the list of particles; that of the tomogram's or the labels' file where not given
    overwrite
        replace files that exist
    """
    from eucentric.pipeline.surface_files import distance_files

    del debug  # read by the program itself
    made = distance_files(
        labels,
        output,
        kind=kind,
        other=with_,
        other_kind=with_kind,
        particles=particles,
        within_angstrom=within,
        contact_angstrom=contact_angstrom,
        tomogram=tomogram,
        pixel_size=pixel_size,
        name=name,
        overwrite=overwrite,
    )
    for row in _rows(made.distances):
        if with_ is not None or row["label"] < row["other_label"]:
            sys.stdout.write(
                f"Labels {row['label']} and {row['other_label']}: {row['least_distance_angstrom']:.0f} A at the nearest.\n"
            )
    if not len(made.distances["label"]):
        sys.stdout.write(f"No two objects are nearer than {within:g} A.\n")
    sys.stdout.write(
        f"{len(made.contacts['label'])} sites of contact nearer than {contact_angstrom:g} A, "
        f"{made.contacts['area_angstrom2'].sum():.4g} A^2.\n"
    )
    if made.particles is not None:
        near = made.particles["distance_angstrom"]
        sys.stdout.write(f"{len(near)} particles, {int((near <= contact_angstrom).sum())} of them in contact.\n")
    sys.stdout.write(f"Wrote {', '.join(p.name for p in made.files.values())} to {output}.\n")
    if as_json:
        show_json(
            {
                "exit_code": 0,
                "files": {n: str(p) for n, p in made.files.items()},
                "distances": _rows(made.distances),
                "contacts": _rows(made.contacts),
            }
        )
    return 0


def count(
    particles: Path,
    /,
    *,
    parents: Path,
    output: Path,
    mask: Path | None = None,
    pixel_size: float | None = None,
    name: str | None = None,
    overwrite: Switch = False,
    settings: Annotated[CountParams | None, SETTINGS] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Count particles for each parent, by kind, and test whether they cluster or keep apart.

    Intervals are those of the mean behind one count; they say nothing of particles that were missed. Several kinds tested at once
    need a stricter level than 5%.

    Parameters
    ----------
    particles
        list of particles; its classes are the kinds
    parents
        label volume, each number a parent; or a folder with `NAME.mrc` for each tomogram
    output
        folder to be made: `counts.csv`, `objects.csv`, `statistics.csv`, `pairs.csv`, `pairs.png`
    mask
        label volume, above 0 where particles could be, for `--region volume`
    pixel_size
        A per voxel, where no file tells it
    name
        of the tomogram in the list; that of the labels' file where not given
    overwrite
        replace files that exist
    """
    from eucentric.pipeline.count_files import count_files, told_statistics

    del debug  # read by the program itself
    made = count_files(
        particles,
        parents,
        output,
        settings or CountParams(),
        mask=mask,
        pixel_size=pixel_size,
        name=name,
        overwrite=overwrite,
    )
    for row in _rows(made.counts):
        doubtful = f", {row['doubtful']} of them near another one too" if row["doubtful"] else ""
        sys.stdout.write(
            f"{row['tomogram']}, parent {row['label']}: {row['count']} {row['kind']} "
            f"({row['count_low']:.1f} to {row['count_high']:.1f}){doubtful}.\n"
        )
    alone = int((made.objects["parent"] == 0).sum())
    sys.stdout.write(f"{alone} of {len(made.objects['parent'])} particles have no parent.\n")
    for line in (*told_statistics(made.statistics), *(f"No statistics for {text}." for text in made.left_out)):
        sys.stdout.write(line + "\n")
    sys.stdout.write(f"Wrote {', '.join(p.name for p in made.files.values())} to {output}.\n")
    if as_json:
        show_json(
            {
                "exit_code": 0,
                "files": {n: str(p) for n, p in made.files.items()},
                "counts": _rows(made.counts),
                "statistics": _rows(made.statistics),
                "left_out": list(made.left_out),
            }
        )
    return 0


def _rows(table: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of a table for JSON, which has no NaN."""
    columns = [[None if v != v else v for v in column.tolist()] for column in table.values()]
    return [dict(zip(table, row, strict=True)) for row in zip(*columns, strict=True)]
