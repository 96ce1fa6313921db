"""Figures of averages in folders: correlations, directions, surfaces, local resolution."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from eucentric.errors import InputError
from eucentric.figures.averaging import directions_plot, surface_level, surface_views
from eucentric.figures.overview import Correlation, compared_correlations
from eucentric.figures.picking import beam_directions
from eucentric.figures.slices import resolution_slices
from eucentric.geometry.symmetry import symmetry_rotations
from eucentric.io.star import read_star
from eucentric.pipeline.average_report import read_average
from eucentric.pipeline.particle_files import read_list
from eucentric.report.averaging_sections import AverageFiles

FSC_CURVES = {
    "corrected": "rlnFourierShellCorrelationCorrected",
    "masked": "rlnFourierShellCorrelationMaskedMaps",
    "unmasked": "rlnFourierShellCorrelationUnmaskedMaps",
}


def fsc_figure(targets: Sequence[Path], curve: str = "corrected") -> Figure:
    """Curves of one average or several: of folders, or of tables as RELION's postprocessing writes them.

    Of a single target all curves are drawn.

    Raises
    ------
    InputError : no targets, or no such curve in one
    """
    if not targets:
        raise InputError("Name the folder of an average, or several, to compare their correlations.")
    if curve not in FSC_CURVES:
        raise InputError(f"There is no curve `{curve}`. Expected {', '.join(FSC_CURVES)}.")
    wanted = list(FSC_CURVES) if len(targets) == 1 else [curve]
    shown = [one for target in targets for name in wanted if (one := _correlation(target, name, len(targets) == 1))]
    if not shown:
        raise InputError(f"`{targets[0]}` holds no correlation of half maps ({', '.join(FSC_CURVES.values())}).")
    return compared_correlations(shown)


def orientation_figure(target: Path, *, symmetry: str = "C1", kinds: tuple[str, ...] = ()) -> Figure:
    """From where particles are seen: with what was measured, of an average; by kind, of a list.

    Parameters
    ----------
    symmetry : of the particles of a list; an average knows its own

    Raises
    ------
    InputError : particles without orientations, or none of these kinds
    """
    if target.is_dir():
        files = read_average(_folder(target))
        if files.curves.keys() >= {"views", "directions", "sampling"}:
            group = symmetry_rotations(str(files.about.get("average", {}).get("symmetry", "C1")))
            every = np.concatenate([files.curves["views"] @ element.T for element in group])
            return directions_plot(
                every, files.curves["directions"], files.curves["sampling"], files.curves.get("direction_angstrom")
            )
    particles = read_list(target / "particles.star" if target.is_dir() else target)
    if kinds:
        particles = particles.select(np.isin(particles.kinds, list(kinds)))
    if not particles.oriented:
        raise InputError(f"`{target}` holds no particle with an orientation{' of these kinds' if kinds else ''}.")
    group = symmetry_rotations(symmetry)
    # the beam of the untilted image, along z, in the frame of each particle
    beams = particles.rotations[:, 2, :]
    named = {kind or "particles": beams[particles.kinds == kind] for kind in sorted({str(k) for k in particles.kinds})}
    return beam_directions({kind: np.concatenate([v @ g.T for g in group]) for kind, v in named.items()})


def local_resolution_figure(target: Path) -> Figure:
    """Slices of an average coloured by its local resolution.

    Raises
    ------
    InputError : it was not measured
    """
    files = _with_local(target)
    assert files.volume is not None  # as the line before has seen to
    assert files.local_resolution is not None
    inside = np.isfinite(files.local_resolution) if files.mask is None else files.mask > 0.5
    return resolution_slices(files.volume, files.local_resolution, inside, files.voxel_size_angstrom)


def surface_figure(target: Path, *, level: float | None = None, by_resolution: bool = False) -> Figure:
    """The surface of an average from three sides, grey or coloured by its local resolution.

    Raises
    ------
    InputError : no map there, or no local resolution
    """
    files = _with_local(target) if by_resolution else read_average(_folder(target))
    if files.volume is None or not files.volume.std() > 0:
        raise InputError(f"`{target / 'map.mrc'}` holds no map that can be shown. {' '.join(files.caveats)}")
    shown = files.volume if files.mask is None else files.volume * files.mask
    top = surface_level(shown, files.mask) if level is None else level
    if not float(shown.min()) < top < float(shown.max()):
        raise InputError(
            f"No surface lies at {top:.4g}: the map's values run from {shown.min():.4g} to {shown.max():.4g}."
        )
    local = files.local_resolution if by_resolution else None
    return surface_views(shown, top, local, voxel_size_angstrom=files.voxel_size_angstrom)


def _folder(target: Path) -> Path:
    if not (target / "map.mrc").is_file():
        raise InputError(f"`{target}` is no folder of an average: it has no map.mrc.")
    return target


def _with_local(target: Path) -> AverageFiles:
    files = read_average(_folder(target))
    if files.volume is None or files.local_resolution is None:
        raise InputError(
            f"The local resolution of `{target}` is not known. Run `eucentric local-resolution {target}` first."
        )
    return files


def _correlation(target: Path, curve: str, named: bool) -> Correlation | None:
    """One curve of a folder or a table, called by the curve or by the folder; None where it is not there."""
    place = target / "fsc.star" if target.is_dir() else target
    tables = read_star(place)
    table = next((t for t in tables.values() if "rlnResolution" in t and FSC_CURVES[curve] in t), None)
    if table is None:
        if named:
            return None
        raise InputError(f"`{place}` holds no {FSC_CURVES[curve]}.")
    reach = next(
        (float(t["rlnFinalResolution"][0]) for t in tables.values() if "rlnFinalResolution" in t), float("nan")
    )
    own = target.resolve().name if target.is_dir() else target.stem
    return Correlation(
        name=curve if named else own,
        frequency=table["rlnResolution"].to_numpy(dtype=np.float64),
        curve=table[FSC_CURVES[curve]].to_numpy(dtype=np.float64),
        resolution_angstrom=reach if curve == "corrected" or not named else float("nan"),
    )
