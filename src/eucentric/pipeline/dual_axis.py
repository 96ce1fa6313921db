"""Two tomograms in files, registered and combined into one."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from eucentric.errors import InputError
from eucentric.figures.volume import fourier_coverage
from eucentric.io.atomic import atomic_path, write_text_atomic
from eucentric.io.mrc import write_mrc
from eucentric.pipeline.reprojecting import FileGeometry, read_volume, refuse_to_replace
from eucentric.reconstruction.combine_dual_axis import CoverageSections, combine_dual_axis, coverage_sections
from eucentric.reconstruction.register_volumes import VolumeRegistration, register_volumes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Combined:
    """What was written, and how the volumes matched."""

    volume: Path
    picture: Path
    record: Path
    registration: VolumeRegistration
    coverage: CoverageSections


def combine_files(
    first: Path,
    second: Path,
    first_geometry: FileGeometry,
    second_geometry: FileGeometry,
    output: Path,
    *,
    device: torch.device,
    turn_deg: float | None = None,
    voxel_size: float | None = None,
    float16: bool = True,
    overwrite: bool = False,
) -> Combined:
    """Register the second tomogram to the first, combine both, and write volume, picture of the coverage and record.

    Raises
    ------
    InputError : unreadable input, different voxel sizes, or files that would be replaced unasked
    ProcessingError : the tomograms do not match
    BackendError : memory
    """
    picture, record = output.with_suffix(".png"), output.with_suffix(".json")
    refuse_to_replace([output, picture, record], [first, second], overwrite)
    a, voxel = read_volume(first, voxel_size, device)
    b, other = read_volume(second, voxel_size, device)
    if abs(other / voxel - 1.0) > 1e-3:
        raise InputError(
            f"The voxels of `{first}` are {voxel:g} A wide, those of `{second}` {other:g} A; expected the same. "
            "Reconstruct both with one --pixel-size-angstrom."
        )
    found = register_volumes(
        a, b, first_geometry.geometry, second_geometry.geometry, voxel_size=voxel, turn_deg=turn_deg
    )
    whole = combine_dual_axis(
        a,
        b,
        found.motion,
        first_geometry.geometry,
        second_geometry.geometry,
        voxel_size=voxel,
        scale=found.scale,
    )
    sections = coverage_sections(
        first_geometry.geometry,
        second_geometry.geometry,
        found.motion,
        depth_angstrom=a.shape[0] * voxel,
        voxel_size=voxel,
    )
    kind: Literal["float16", "float32"] = "float16" if float16 else "float32"
    write_mrc(output, whole.cpu().numpy(), voxel, kind, labels=("Eucentric tomogram of two tilt axes",))
    figure = fourier_coverage(sections.first, sections.second, sections.frequency, sections.height)
    with atomic_path(picture) as place:
        figure.savefig(place, format="png", dpi=120)
    text = json.dumps(_record(first, second, found, sections), indent=1, ensure_ascii=False)
    write_text_atomic(record, text + "\n")
    return Combined(volume=output, picture=picture, record=record, registration=found, coverage=sections)


def _record(first: Path, second: Path, found: VolumeRegistration, sections: CoverageSections) -> dict[str, object]:
    """What a person or a program needs to repeat the motion."""
    return {
        "first": str(first),
        "second": str(second),
        "rotation": found.motion.rotation.tolist(),
        "shift_angstrom": found.motion.shift_angstrom.tolist(),
        "convention": "p_first = rotation p_second + shift; x, y, z in A from voxel n // 2",
        "turn_x_y_z_deg": list(found.motion.angles_deg),
        "sigma_shift_angstrom": found.sigma_shift_angstrom.tolist(),
        "sigma_rotation_deg": found.sigma_rotation_deg.tolist(),
        "correlation": found.correlation,
        "significance": found.significance,
        "scale": found.scale,
        "missing": sections.missing,
        "missing_of_each": list(sections.missing_of_each),
        "frequency_per_angstrom": found.frequency.tolist(),
        "shell_correlation": found.shell_correlation.tolist(),
    }
