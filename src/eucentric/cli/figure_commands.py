"""`eucentric figure`: figures for papers from projects, tomograms, lists and averages."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from eucentric.cli.list_options import refuse_to_replace
from eucentric.cli.options import SEVERAL, AsJson, Debug, Switch, show_json
from eucentric.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_Signed = Parameter(allow_leading_hyphen=True)
_Kinds = Annotated[list[str] | None, SEVERAL]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class FigureOptions:
    """Of all figures."""

    output: Path
    """file to be made, .png, .pdf or .svg"""
    width_mm: float = 178.0
    """mm; 85 fits one column of most journals, 178 two"""
    dpi: int = 300
    """dots per inch of PNG, and of pictures within PDF and SVG"""
    overwrite: Switch = False
    """replace a file that exists"""
    as_json: AsJson = False
    debug: Debug = False


def slice_command(
    target: Path,
    /,
    *,
    series: str | None = None,
    axis: Literal["z", "y", "x"] = "z",
    at: Annotated[float, _Signed] = 0.0,
    thickness: float = 0.0,
    contrast: float = 0.5,
    picks: Path | None = None,
    diameter: float | None = None,
    kind: _Kinds = None,
    options: FigureOptions,
) -> int:
    """Draw a slice of a tomogram with a scale bar, and circles where it cuts particles.

    Parameters
    ----------
    target
        project, table of tilt series, or tomogram (.mrc)
    series
        name of the tilt series, where there are several
    axis
        across which the slice lies
    at
        A from the specimen centre
    thickness
        A that are averaged; one plane where not given
    contrast
        percent of pixels below black and above white
    picks
        list of particles to be circled
    diameter
        A, of the particles; circles are as large as the slice cuts them
    kind
        kinds of particles to be circled; all where not given
    """
    from eucentric.pipeline.volume_figures import PicksWish, SliceWish, slice_figure

    if picks is not None and diameter is None:
        raise InputError("Circles need the size of the particles: give --diameter in A beside --picks.")
    wish = SliceWish(axis=axis, at_angstrom=at, thickness_angstrom=thickness, contrast_percentile=contrast)
    shown = None
    if picks is not None and diameter is not None:
        shown = PicksWish(picks=picks, diameter_angstrom=diameter, kinds=tuple(kind or ()))
    return _write(lambda: slice_figure(target, series, wish, shown), options)


def gallery_command(
    *targets: Path,
    tomograms: Path | None = None,
    box: float | None = None,
    thickness: float = 0.0,
    count: int = 24,
    columns: int = 6,
    kind: _Kinds = None,
    turned: Switch = False,
    axis: Literal["z", "y", "x"] = "z",
    projected: Switch = False,
    options: FigureOptions,
) -> int:
    """Draw particles side by side, best scores first, or averages and classes, all to one scale.

    Parameters
    ----------
    targets
        list of particles with --tomograms; or folders of averages or classes, and maps
    tomograms
        project, table or tomogram that the particles are cut from
    box
        A: edge of the picture of a particle
    thickness
        A about the centre of a particle that are averaged; one plane where not given
    count
        particles, at most
    columns
        pictures in a row
    kind
        kinds of particles; all where not given
    turned
        particles in their own axes, instead of those of the tomogram
    axis
        along which one looks
    projected
        whole maps instead of central slices
    """
    from eucentric.pipeline.volume_figures import map_gallery, particle_gallery

    if not targets:
        raise InputError("Name a list of particles with --tomograms, or folders of averages.")
    if count < 1 or columns < 1:
        raise InputError(f"{count} pictures in {columns} columns were asked for; expected one at least.")
    if tomograms is None:
        return _write(lambda: map_gallery(targets, axis=axis, projected=projected, columns=columns), options)
    if len(targets) > 1 or box is None:
        raise InputError("A gallery of particles takes one list and --box, the edge of the pictures in A.")
    return _write(
        lambda: particle_gallery(
            targets[0],
            tomograms,
            box_angstrom=box,
            thickness_angstrom=thickness,
            count=count,
            columns=columns,
            kinds=tuple(kind or ()),
            turned=turned,
            axis=axis,
        ),
        options,
    )


def surface_command(
    target: Path,
    /,
    *,
    level: Annotated[float | None, _Signed] = None,
    local_resolution: Switch = False,
    options: FigureOptions,
) -> int:
    """Draw the surface of an average as seen from +z, -y and +x.

    Parameters
    ----------
    target
        folder of an average
    level
        in the map's values; found from the map where not given
    local_resolution
        colour it by the local resolution
    """
    from eucentric.pipeline.average_figures import surface_figure

    return _write(lambda: surface_figure(target, level=level, by_resolution=local_resolution), options)


def local_resolution_command(target: Path, /, *, options: FigureOptions) -> int:
    """Draw slices of an average coloured by local resolution, and how it is spread.

    Parameters
    ----------
    target
        folder of an average whose local resolution was measured
    """
    from eucentric.pipeline.average_figures import local_resolution_figure

    return _write(lambda: local_resolution_figure(target), options)


def fsc_command(*targets: Path, curve: str = "corrected", options: FigureOptions) -> int:
    """Draw Fourier shell correlations: all curves of one average, or one curve of several.

    Parameters
    ----------
    targets
        folders of averages, or tables such as RELION's postprocess.star
    curve
        of several averages: corrected, masked or unmasked
    """
    from eucentric.pipeline.average_figures import fsc_figure

    return _write(lambda: fsc_figure(targets, curve), options)


def orientation_command(target: Path, /, *, symmetry: str = "C1", kind: _Kinds = None, options: FigureOptions) -> int:
    """Draw from where particles are seen.

    Parameters
    ----------
    target
        folder of an average, or list of oriented particles
    symmetry
        of the particles of a list, such as D7: their copies are drawn too
    kind
        kinds of particles; all where not given
    """
    from eucentric.pipeline.average_figures import orientation_figure

    return _write(lambda: orientation_figure(target, symmetry=symmetry, kinds=tuple(kind or ())), options)


def tilt_series_command(
    target: Path,
    /,
    *,
    series: str | None = None,
    count: int = 12,
    columns: int = 4,
    options: FigureOptions,
) -> int:
    """Draw images of a tilt series, spread evenly over its angles.

    Parameters
    ----------
    target
        project, or table of tilt series
    series
        name of the tilt series, where there are several
    count
        images, at most
    columns
        images in a row
    """
    from eucentric.pipeline.series_figures import tilt_series_figure

    if count < 1 or columns < 1:
        raise InputError(f"{count} images in {columns} columns were asked for; expected one at least.")
    return _write(lambda: tilt_series_figure(target, series, count=count, columns=columns), options)


def alignment_command(target: Path, /, *, series: str | None = None, options: FigureOptions) -> int:
    """Draw shifts, angles and residuals of the images of a tilt series.

    Parameters
    ----------
    target
        project, or table of aligned tilt series
    series
        name of the tilt series, where there are several
    """
    from eucentric.pipeline.series_figures import alignment_figure

    return _write(lambda: alignment_figure(target, series), options)


def ctf_command(
    target: Path,
    /,
    *,
    series: str | None = None,
    tilt: Annotated[
        list[float] | None, Parameter(negative=(), allow_leading_hyphen=True, consume_multiple=False)
    ] = None,
    options: FigureOptions,
) -> int:
    """Draw power spectra of tilts with their fits.

    Parameters
    ----------
    target
        project, or table of tilt series
    series
        name of the tilt series, where there are several
    tilt
        degrees: the tilt nearest to it, once for each; five over the whole range where not given
    """
    from eucentric.pipeline.series_figures import ctf_figure

    return _write(lambda: ctf_figure(target, series, tilt or ()), options)


def defocus_command(target: Path, /, *, series: str | None = None, options: FigureOptions) -> int:
    """Draw defocus and astigmatism over tilt angle and order of acquisition.

    Parameters
    ----------
    target
        project, or table of tilt series
    series
        name of the tilt series, where there are several
    """
    from eucentric.pipeline.series_figures import defocus_figure

    return _write(lambda: defocus_figure(target, series), options)


def _write(draw: "Callable[[], Figure]", options: FigureOptions) -> int:
    """Draw, and write; what cannot be written is told before anything is read."""
    from eucentric.figures.publication import FORMATS, publication_figure
    from eucentric.io.atomic import write_bytes_atomic

    form = options.output.suffix.lower().removeprefix(".")
    if form not in FORMATS:
        raise InputError(f"`{options.output}` is no figure: name a file that ends in .{', .'.join(FORMATS)}.")
    refuse_to_replace(options.output, options.overwrite)
    content = publication_figure(draw(), form, width_mm=options.width_mm, dpi=options.dpi)
    write_bytes_atomic(options.output, content)
    sys.stdout.write(f"Wrote {options.output}.\n")
    if options.as_json:
        show_json({"exit_code": 0, "output": str(options.output), "bytes": len(content)})
    return 0
