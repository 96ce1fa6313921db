"""Tilt series that are stacks already, and finished tomograms."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eucentric.errors import InputError
from eucentric.io.dm import read_dm
from eucentric.io.em import read_em
from eucentric.io.imod import read_angle_table
from eucentric.io.mdoc import Mdoc, read_mdoc
from eucentric.io.movies import DM_ENDINGS, TIFF_ENDINGS, has_ending
from eucentric.io.mrc import read_mrc_header
from eucentric.io.pytom import read_projection_list
from eucentric.io.tiff import read_tiff, read_tiff_layout
from eucentric.models import TiltSeries, Tomogram
from eucentric.pipeline.acquisition_orders import cut_off_words
from eucentric.pipeline.import_drafts import Draft, DraftTilt, ImportOptions, series_optics
from eucentric.pipeline.import_files import bare_name, series_name

LIST_ENDINGS = (".xml",)
EM_ENDINGS = (".em",)
CONVERTED_ENDINGS = (*DM_ENDINGS, *TIFF_ENDINGS, *EM_ENDINGS)
STACK_ENDINGS = (".st", ".mrc", ".mrcs", ".ali", *CONVERTED_ENDINGS)
TOMOGRAM_ENDINGS = (".mrc", ".rec", ".map")
"""Stacks that are copied into an MRC file at import."""
_HALVES = (("_half1", "_half2"), ("_EVN", "_ODD"), ("_even", "_odd"), ("_evn", "_odd"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stack:
    views: int
    shape: tuple[int, int]
    pixel_size_angstrom: float | None = None
    voltage_kv: float | None = None
    angles_deg: tuple[float, ...] | None = None
    scanning: bool = False


def load_stack(path: Path) -> NDArray[Any]:
    """Images of a DigitalMicrograph, EM or TIFF stack, (view, y, x), y up."""
    if has_ending(path, EM_ENDINGS):
        return read_em(path)[0]
    return read_dm(path)[0] if has_ending(path, DM_ENDINGS) else read_tiff(path)


def _describe(path: Path) -> _Stack:
    if has_ending(path, DM_ENDINGS):
        _, header = read_dm(path)
        angles = header.section_values if header.section_unit.lower() in ("deg", "°", "degrees") else None
        return _Stack(
            views=header.shape[0],
            shape=header.shape[1:],
            pixel_size_angstrom=header.pixel_size_angstrom,
            voltage_kv=header.voltage_kv,
            angles_deg=angles,
            scanning=header.scanning,
        )
    if has_ending(path, TIFF_ENDINGS):
        layout = read_tiff_layout(path)
        return _Stack(views=layout.page_count, shape=layout.shape)
    if has_ending(path, EM_ENDINGS):
        _, em = read_em(path)
        return _Stack(views=em.shape[0], shape=em.shape[1:])
    mrc = read_mrc_header(path)
    return _Stack(views=mrc.shape[0], shape=mrc.shape[1:], pixel_size_angstrom=mrc.pixel_size_angstrom)


def _beside(path: Path, ending: str) -> Path | None:
    for name in (path.name + ending, bare_name(path) + ending, path.stem + ending):
        if (candidate := path.with_name(name)).is_file():
            return candidate
    return None


def _stack_mdoc(path: Path, mdocs: Sequence[Path]) -> Path | None:
    own = [p for p in mdocs if series_name(p) == series_name(path)]
    return own[0] if own else _beside(path, ".mdoc")


def _given_angles(path: Path, stack: _Stack, files: Sequence[Path], steps: tuple[float, float] | None) -> Any:
    """Rows of angle (order, dose) from the user's own word or the stack itself; None where neither tells."""
    if steps is not None:
        return (steps[0] + steps[1] * np.arange(stack.views, dtype=np.float64))[:, None]
    own = [p for p in files if bare_name(p).startswith(bare_name(path))] or (list(files) if len(files) == 1 else [])
    if own:
        return read_angle_table(own[0])
    if stack.angles_deg is not None:
        return np.array(stack.angles_deg, dtype=np.float64)[:, None]
    return None


def _angle_rows(path: Path, stack: _Stack, files: Sequence[Path], steps: tuple[float, float] | None) -> Any:
    rows = _given_angles(path, stack, files, steps)
    if rows is None:
        found = _beside(path, ".rawtlt") or _beside(path, ".tlt")
        rows = None if found is None else read_angle_table(found)
    return rows


def _check_count(path: Path, stack: _Stack, count: int, source: str) -> None:
    if count != stack.views:
        raise InputError(
            f"`{path.name}` holds {stack.views} images, but {source} gives {count} angles. "
            "Expected one for each; perhaps the stack was cut, or the file belongs to another."
        )


def _tilts_from_rows(path: Path, stack: _Stack, rows: Any) -> list[DraftTilt]:
    columns = rows.shape[1]
    ordered = columns > 1 and len(np.unique(rows[:, 1])) == len(rows)
    return [
        DraftTilt(
            angle_deg=float(row[0]),
            label=f"{i + 1}@{path.name}",
            position=i,
            image=f"{i + 1}@{path.as_posix()}",
            shape=stack.shape,
            order=int(row[1]) if ordered else None,
            dose=float(row[2]) if columns > 2 else None,
        )
        for i, row in enumerate(rows)
    ]


def _tilts_from_mdoc(path: Path, stack: _Stack, mdoc: Mdoc) -> list[DraftTilt]:
    tilts = []
    for i, section in enumerate(mdoc.sections):
        if section.tilt_angle_deg is None:
            raise InputError(
                f"Section {section.label} of the mdoc of `{path.name}` has no tilt angle; expected one each. {mdoc.cut_off}".strip()
            )
        index = section.z_value if section.z_value is not None and 0 <= section.z_value < stack.views else i
        tilts.append(
            DraftTilt(
                angle_deg=section.tilt_angle_deg,
                label=f"{index + 1}@{path.name}",
                position=i,
                image=f"{index + 1}@{path.as_posix()}",
                shape=stack.shape,
                dose=section.exposure_dose or None,
                prior_dose=section.prior_record_dose,
                date_time=section.date_time,
                axis_deg=mdoc.tilt_axis_angle_deg,
                target_defocus_um=section.target_defocus_um,
                defocus_um=section.defocus_um,
                image_shift_um=section.image_shift_um,
                exposure_s=section.exposure_time_s or None,
            )
        )
    return tilts


def draft_from_stack(
    path: Path, mdocs: Sequence[Path], angle_files: Sequence[Path], tilt_steps: tuple[float, float] | None
) -> Draft:
    """A draft from a stack of tilt images.

    Parameters
    ----------
    path : MRC, DigitalMicrograph or TIFF stack
    mdocs : mdoc files that the user named; else the one beside the stack is taken
    angle_files : `.tlt` or `.rawtlt` files that the user named; else those beside the stack are taken
    tilt_steps : first angle and step in degrees, which go before all files

    Raises
    ------
    InputError : no angles, or another number of them than of images
    """
    stack = _describe(path)
    draft = Draft(name=series_name(path), tilts=[], scanning=stack.scanning, voltage_kv=stack.voltage_kv)
    rows = _given_angles(path, stack, angle_files, tilt_steps)
    mdoc_path = _stack_mdoc(path, mdocs) if rows is None else None
    draft.pixel_size_angstrom = stack.pixel_size_angstrom
    if mdoc_path is not None:
        mdoc = read_mdoc(mdoc_path)
        _check_count(path, stack, len(mdoc.sections), f"`{mdoc_path.name}`")
        draft.tilts = _tilts_from_mdoc(path, stack, mdoc)
        draft.title = mdoc.scheme
        if cut := cut_off_words(mdoc):
            draft.say("warning", cut)
        spacing = next((s.pixel_spacing_angstrom for s in mdoc.sections if s.pixel_spacing_angstrom), None)
        draft.pixel_size_angstrom = stack.pixel_size_angstrom or mdoc.pixel_spacing_angstrom or spacing
        draft.voltage_kv = mdoc.voltage_kv
        return draft
    rows = _angle_rows(path, stack, angle_files, tilt_steps) if rows is None else rows
    if rows is None:
        raise InputError(
            f"No tilt angles were found for `{path.name}`. Expected `{bare_name(path)}.rawtlt`, `.tlt` or `.mdoc` "
            "beside it, "
            "or the first angle and the step with --tilts."
        )
    _check_count(path, stack, len(rows), "the list of angles")
    draft.tilts = _tilts_from_rows(path, stack, rows)
    if stack.scanning:
        draft.say("note", "It was recorded by a scanning microscope: contrast transfer is passed over.")
    return draft


def draft_from_projection_list(path: Path) -> Draft:
    """A draft of the aligned projections in a PyTom list: with angles and shifts, the tilt axis along y.

    Raises
    ------
    InputError, FormatError : see `read_projection_list`; or a projection of several sections
    """
    tilts = []
    for i, projection in enumerate(read_projection_list(path)):
        _, header = read_em(projection.path)
        if header.shape[0] != 1:
            raise InputError(f"`{projection.path.name}` holds {header.shape[0]} sections; expected one projection.")
        tilts.append(
            DraftTilt(
                angle_deg=-projection.tilt_deg,
                label=projection.path.name,
                position=i,
                image=f"1@{projection.path.as_posix()}",
                shape=header.shape[1:],
                axis_deg=0.0,
                shift_px=projection.offset_px,
            )
        )
    draft = Draft(name=series_name(path), tilts=tilts)
    draft.say(
        "note",
        "The list gives the alignment, which is kept. Its angles count the other way than RELION's, so their signs "
        "are turned.",
    )
    return draft


def series_from_tomogram(path: Path, options: ImportOptions) -> TiltSeries:
    """A series without tilts for a finished tomogram; half maps beside it are found by their names.

    Raises
    ------
    InputError : no pixel size in the header nor given
    """
    header = read_mrc_header(path)
    pixel_size = options.pixel_size_angstrom or header.pixel_size_angstrom
    if not pixel_size:
        raise InputError(f"The pixel size in the header of `{path.name}` is 0. Give it with --pixel-size, in Angstrom.")
    halves: tuple[str | None, str | None] = (None, None)
    for first, second in _HALVES:
        pair = [path.with_name(f"{path.stem}{end}{path.suffix}") for end in (first, second)]
        if all(p.is_file() for p in pair):
            halves = (pair[0].as_posix(), pair[1].as_posix())
            break
    z, y, x = header.shape
    tomogram = Tomogram(
        path=path.as_posix(), voxel_size_angstrom=pixel_size, shape_zyx=header.shape, half1=halves[0], half2=halves[1]
    )
    return TiltSeries(
        name=series_name(path),
        pixel_size_angstrom=pixel_size,
        image_shape=(y, x),
        tilts=(),
        optics=None if options.scanning else series_optics(options, None),
        volume_size_px=(x, y, z),
        tomogram=tomogram,
    )


def is_half_map(path: Path) -> bool:
    """Whether a file is one half of another in its folder, by its name."""
    for pair in _HALVES:
        for ending in pair:
            whole = path.with_name(path.stem.removesuffix(ending) + path.suffix)
            if path.stem.endswith(ending) and whole.is_file():
                return True
    return False
