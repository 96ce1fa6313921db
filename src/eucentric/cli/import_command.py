"""`eucentric import`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from cyclopts import Parameter

from eucentric.cli.options import SEVERAL, AsJson, Debug, show_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eucentric.io.findings import Finding
    from eucentric.pipeline.importing import ImportPlan
    from eucentric.pipeline.plan import Plan

_Many = Annotated[list[str], SEVERAL]


def write_project(project: Path, plan: ImportPlan) -> Path:
    """Write what import found, and the project's settings where it has none yet; the path of its table."""
    from eucentric.pipeline.importing import write_import
    from eucentric.pipeline.lock import ProjectLock
    from eucentric.pipeline.plan import PLAN_FILE, Plan

    with ProjectLock(project, "import"):
        # The table comes last: a stopped import leaves no project that would run without its gain.
        references = plan.references(project)
        if not (project / PLAN_FILE).is_file():
            given: dict[str, object] = {name: path for name, path in references.items() if path is not None}
            chosen: dict[str, dict[str, object]] = {"project": given} if given else {}
            if plan.series and all(one.tilts and all(t.pose for t in one.tilts) for one in plan.series):
                chosen["align"] = {"method": "none"}
            elif any(t.pose for one in plan.series for t in one.tilts):
                chosen["align"] = {"start": "imported"}
            elif plan.series and all(one.optics is None for one in plan.series):
                # a lone needle gives projection matching nothing to hold on to
                chosen["align"] = {"method": "centre-of-mass"}
            if plan.ctfs:
                chosen["ctf"] = {"method": "imported"}
            Plan.write_default(project, chosen)
        else:
            before = Plan.load(project).project
            changed = {name: path for name, path in references.items() if path != getattr(before, name)}
            if changed:
                Plan.load(project).save("project", changed)
            if plan.ctfs:
                _use_given_ctfs(Plan.load(project))
        return write_import(project, plan)


def _use_given_ctfs(plan: Plan) -> None:
    """Keep what is imported, unless the plan already says to refine it."""
    if plan.params("ctf").method == "fit":
        plan.save("ctf", {"method": "imported"})


def _add_ctfs(project: Path, ctf: list[str], focus: list[str], focus_offset: float, *, as_json: bool) -> int:
    """Estimates for the series of a project that is there."""
    from eucentric.errors import InputError
    from eucentric.io.tilt_series import read_tilt_series, tilt_series_names
    from eucentric.pipeline.find_given_ctfs import find_given_ctfs, write_given_ctfs
    from eucentric.pipeline.lock import ProjectLock
    from eucentric.pipeline.plan import Plan
    from eucentric.pipeline.steps import IMPORT_TABLE

    table = project / IMPORT_TABLE
    series = [read_tilt_series(table, name, project) for name in tilt_series_names(table)]
    found, told = find_given_ctfs(series, ctf, focus, focus_offset)
    show_findings(told)
    if not found:
        raise InputError(f"No estimate was taken over for any of the {len(series)} series of `{project}` (see above).")
    with ProjectLock(project, "import"):
        write_given_ctfs(project, found)
        _use_given_ctfs(Plan.load(project))
    sys.stdout.write(f"CTFs of {len(found)} of {len(series)} tilt series taken over. Next: eucentric run {project}\n")
    if as_json:
        findings = [{"severity": f.severity, "series": f.series, "text": f.text} for f in told]
        show_json({"exit_code": 0, "series": list(found), "left_out": [], "findings": findings})
    return 0


class _GivenWords(NamedTuple):
    """Options that tell what another program's files may not."""

    pixel_size: float | None
    image_size: tuple[int, int] | None
    voltage: float | None
    spherical_aberration: float | None
    amplitude_contrast: float | None
    dose: float | None


def _import_foreign(
    project: Path,
    program: str,
    place: Path,
    words: _GivenWords,
    particles: list[Path],
    exclude: list[str],
    *,
    as_json: bool,
) -> int:
    """Another program's project."""
    from eucentric.errors import InputError
    from eucentric.io.exchange.formats import GEOMETRY_FORMATS
    from eucentric.io.exchange.records import Given
    from eucentric.models.optics import Optics
    from eucentric.pipeline.import_finished import FINISHED, plan_finished
    from eucentric.pipeline.import_foreign import plan_foreign, write_foreign_particles
    from eucentric.pipeline.lock import ProjectLock
    from eucentric.pipeline.plan import PLAN_FILE

    size, optics = words.image_size, None
    if words.voltage is not None:
        optics = Optics(voltage_kv=words.voltage)
        if words.spherical_aberration is not None:
            optics = replace(optics, spherical_aberration_mm=words.spherical_aberration)
        if words.amplitude_contrast is not None:
            optics = replace(optics, amplitude_contrast=words.amplitude_contrast)
    given = Given(
        pixel_size_angstrom=words.pixel_size,
        image_shape=None if size is None else (size[1], size[0]),
        optics=optics,
        dose_per_tilt=words.dose,
    )
    if program not in FINISHED and program not in GEOMETRY_FORMATS:
        programs = ", ".join((*GEOMETRY_FORMATS, *sorted(FINISHED - set(GEOMETRY_FORMATS))))
        raise InputError(f"There is no program `{program}` to import from. Expected one of {programs}.")
    if program in FINISHED and particles:
        raise InputError(
            f"--particles goes with programs of tilt series, and {program} has lists of its own. Leave it out, and convert the list "
            "with `eucentric particles convert` afterwards."
        )
    if program in FINISHED:
        foreign = plan_finished(project, place, program, given, exclude=exclude)
    else:
        foreign = plan_foreign(place, program, given, exclude=exclude, lists=particles)
    table = write_project(project, foreign.plan)
    with ProjectLock(project, "import"):
        lists = write_foreign_particles(project, foreign)
    plan = foreign.plan
    show_findings(plan.findings)
    count = sum(len(s.tilts) for s in plan.series)
    held = f"tilt series with {count} tilts" if count else "tomograms"
    sys.stdout.write(f"{len(plan.series)} {held} of {foreign.title} in `{table}`.\n")
    for (name, some), path in zip(foreign.particles, lists, strict=True):
        sys.stdout.write(f"{len(some)} particles of {name} in `{path}`.\n")
    if plan.left_out:
        sys.stdout.write(f"Not imported: {', '.join(plan.left_out)} (see above).\n")
    sys.stdout.write(f"Settings are in `{project / PLAN_FILE}`. Next: eucentric run {project}\n")
    code = 1 if plan.left_out else 0
    if as_json:
        findings = [{"severity": f.severity, "series": f.series, "text": f.text} for f in plan.findings]
        show_json(
            {
                "exit_code": code,
                "series": [s.name for s in plan.series],
                "left_out": list(plan.left_out),
                "particles": {name: len(some) for name, some in foreign.particles},
                "findings": findings,
            }
        )
    return code


def show_findings(findings: Sequence[Finding]) -> None:
    """Tell what import noticed."""
    for finding in findings:
        where = f"{finding.series}: " if finding.series else ""
        sys.stdout.write(f"{finding.severity}: {where}{finding.text}\n")


def import_files(
    project: Path,
    /,
    *,
    from_program: Annotated[tuple[str, Path] | None, Parameter(name="--from", negative=())] = None,
    particles: Annotated[list[Path], SEVERAL] = [],  # noqa: B006 - never changed
    image_size: Annotated[tuple[int, int] | None, Parameter(negative=())] = None,
    frames: _Many = [],  # noqa: B006 - never changed
    mdoc: _Many = [],  # noqa: B006
    stack: _Many = [],  # noqa: B006
    tomogram: _Many = [],  # noqa: B006
    angles: _Many = [],  # noqa: B006
    tilts: tuple[float, float] | None = None,
    frame_table: _Many = [],  # noqa: B006
    gain: Path | None = None,
    dark: Path | None = None,
    defects: Path | None = None,
    voltage: float | None = None,
    pixel_size: float | None = None,
    dose: float | None = None,
    tilt_axis: float | None = None,
    spherical_aberration: float | None = None,
    amplitude_contrast: float | None = None,
    pattern: str | None = None,
    scanning: bool | None = None,
    scheme: str | None = None,
    pre_image: _Many = [],  # noqa: B006
    pre_dose: float = 0.0,
    alignment: _Many = [],  # noqa: B006
    alignment_pixel_size: float | None = None,
    ctf: _Many = [],  # noqa: B006
    focus: _Many = [],  # noqa: B006
    focus_offset: float = 0.0,
    exclude: _Many = [],  # noqa: B006
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Find movies, mdocs, stacks or tomograms, check them against each other, and write the project and its plan.

    Parameters
    ----------
    project
        folder to make
    from_program
        another program and its project's folder or table, such as --from relion5 FOLDER: relion5, relion4, warp, imod, aretomo, eman2,
        and all others that `eucentric convert` reads. Its alignments and CTFs are kept as they are, its particle lists too. Of copick,
        zarr, chimerax, dynamo and stopgap finished tomograms and particles are taken
    particles
        with --from: particle lists to take over; all that are found in the folder where not given
    image_size
        with --from: width and height in pixels of the images, where the tables do not tell
    frames
        movies: folders, files or 'wildcards'
    mdoc
        mdoc files: folders, files or 'wildcards'
    stack
        tilt stacks that are already summed
    tomogram
        finished tomograms
    angles
        .tlt or .rawtlt files of stacks
    tilts
        first angle and step, degrees, of stacks without an angle file
    frame_table
        where one movie holds a whole series: table of tilt angle, first and last frame (from 1), and perhaps dose
    gain
        gain reference of the camera, turned or flipped in any way: how it lies on the frames is found from them
    dark
        image without a beam, in counts per frame
    defects
        defective pixels: a map (MRC, TIFF), or a list of SerialEM or MotionCor
    voltage
        kV; goes before what files say
    pixel_size
        A, of the frames or images
    dose
        e/A2 for each tilt
    tilt_axis
        degrees, as RELION's rlnTomoZRot and IMOD's rotation angle
    spherical_aberration
        mm
    amplitude_contrast
        fraction
    pattern
        how movie names are made, such as '{series}_{order}_{tilt}'
    scanning
        the images are of scanning transmission, without contrast transfer
    scheme
        the order in which the images were taken, where the files do not tell or tell wrong: continuous, bidirectional
        or dose-symmetric, and what differs from the usual: start=0 step=3 first=up group=2 with-start grow=1 beyond=20
        every=10 one-sided=40
    pre_image
        images exposed before each series
    pre_dose
        e/A2 received before each series
    alignment
        alignments of IMOD (.xf), AreTomo (.aln), Warp (.xml) or RELION-5 (.star): files or folders. They are kept as they are;
        `eucentric align --start imported --method auto` refines them
    alignment_pixel_size
        A, of the images that were aligned, where they were binned and the files do not tell
    ctf
        estimates of CTFFIND, Gctf, ctfplotter (.defocus), AreTomo, Warp or RELION: files or folders. They are kept as they
        are; `eucentric ctf --method refine` refines them. Without --frames, --mdoc or --stack: for a project that is there
    focus
        tables of the defocus of focus images on the tilt axis: acquisition, position in A and defocus in A, a line each
    focus_offset
        A, what the tilt images are further underfocus than the focus images by the settings of the microscope
    exclude
        names of series to leave out
    """
    del debug  # read by the program itself
    from eucentric.errors import InputError
    from eucentric.pipeline.importing import plan_import
    from eucentric.pipeline.plan import PLAN_FILE

    if from_program is not None:
        if frames or mdoc or stack or tomogram or alignment or ctf:
            raise InputError(
                "--from takes the images and alignments that the other program's tables name. With movies or stacks of your own use "
                "--frames or --stack with --alignment and --ctf instead."
            )
        given = _GivenWords(pixel_size, image_size, voltage, spherical_aberration, amplitude_contrast, dose)
        return _import_foreign(project, *from_program, given, particles, exclude, as_json=as_json)
    if (ctf or focus) and not (frames or mdoc or stack or tomogram) and (project / "import").is_dir():
        return _add_ctfs(project, ctf, focus, focus_offset, as_json=as_json)
    plan = plan_import(
        frames,
        mdoc,
        stacks=stack,
        tomograms=tomogram,
        angle_files=angles,
        tilt_steps=tilts,
        frame_tables=frame_table,
        gain=gain,
        dark=dark,
        defects=defects,
        voltage_kv=voltage,
        pixel_size=pixel_size,
        dose_per_tilt=dose,
        tilt_axis_deg=tilt_axis,
        spherical_aberration=spherical_aberration,
        amplitude_contrast=amplitude_contrast,
        pattern=pattern,
        scanning=scanning,
        scheme=scheme,
        pre_exposure_images=pre_image,
        pre_exposure_dose=pre_dose,
        alignments=alignment,
        alignment_pixel_size=alignment_pixel_size,
        ctfs=ctf,
        focus_tables=focus,
        focus_offset_angstrom=focus_offset,
        exclude=exclude,
    )
    table = write_project(project, plan)
    show_findings(plan.findings)
    count = sum(len(s.tilts) for s in plan.series)
    sys.stdout.write(f"{len(plan.series)} tilt series with {count} tilts in `{table}`.\n")
    if plan.left_out:
        sys.stdout.write(f"Not imported: {', '.join(plan.left_out)} (see above).\n")
    sys.stdout.write(f"Settings are in `{project / PLAN_FILE}`. Next: eucentric run {project}\n")
    code = 1 if plan.left_out else 0
    if as_json:
        values = {
            "exit_code": code,
            "series": [s.name for s in plan.series],
            "left_out": list(plan.left_out),
            "findings": [{"severity": f.severity, "series": f.series, "text": f.text} for f in plan.findings],
        }
        show_json(values)
    return code
