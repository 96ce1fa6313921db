"""Writing runs as the CryoET Data Portal keeps them; conventions in `eucentric.io.exchange.data_portal`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from eucentric.errors import InputError
from eucentric.io.atomic import write_text_atomic
from eucentric.io.exchange.records import SeriesGeometry, Written
from eucentric.io.imod import write_angles, write_transforms
from eucentric.models.optics import Optics
from eucentric.models.tilt_series import ExcludedTilt, Tilt, TiltSeries

ALIGNMENT_FILE, SERIES_FILE, FRAMES_FILE = "alignment_metadata.json", "tiltseries_metadata.json", "frames_metadata.json"
SECTIONS_KEY = "per_section_alignment_parameters"
_ID = "100"
"""Of what is written, as the portal numbers the first of its kind."""


def write_runs(place: Path, geometries: Sequence[SeriesGeometry]) -> Written:
    """Write `place/RUN/` with the metadata of the alignment, the tilt series and the frames, and the alignment as IMOD has it.

    Raises
    ------
    InputError : a file instead of a folder, two series of one name, or the place cannot be written to
    """
    folder = Path(place)
    if folder.suffix.lower() == ".json":
        raise InputError(f"`{folder}` is one file; a run of the CryoET Data Portal is a folder. Give a folder.")
    names = [g.series.name for g in geometries]
    if len(set(names)) < len(names):
        raise InputError(f"Two tilt series have the same name ({', '.join(names[:6])}); expected each its own.")
    files: list[Path] = []
    losses: list[str] = []
    for geometry in geometries:
        series = geometry.series
        poses = series.poses  # says what is missing
        run = folder / series.name
        sections = _sections(series)
        files += _write_alignment(run, geometry, sections)
        files += _write_series(run, series, sections)
        losses += [f"{series.name}: {text}." for text in _losses(geometry, len(poses))]
    return Written(files=tuple(files), losses=tuple(losses))


def _sections(series: TiltSeries) -> dict[int, Tilt | ExcludedTilt]:
    """What stands at each place of the stack, from 0: as images are numbered, else in the order of the angles."""
    every: list[Tilt | ExcludedTilt] = [*series.tilts, *series.excluded]
    tilts = [e.tilt if isinstance(e, ExcludedTilt) else e for e in every]
    parts = [(t.image or "").split("@", 1) for t in tilts]
    if all(len(p) == 2 and p[0].isdecimal() for p in parts) and len({p[1] for p in parts}) == 1:
        numbers = [int(p[0]) - 1 for p in parts]
    else:
        ranked = sorted(range(len(tilts)), key=lambda i: (tilts[i].nominal_tilt_deg, tilts[i].acquisition))
        numbers = [ranked.index(i) for i in range(len(tilts))]
    if len(set(numbers)) < len(numbers) or min(numbers) < 0:
        raise InputError(f"Two images of {series.name} have the same number in their stack; expected each its own.")
    return dict(sorted(zip(numbers, every, strict=True)))


def _write_json(path: Path, document: object) -> Path:
    write_text_atomic(path, json.dumps(document, indent=2, allow_nan=False) + "\n")
    return path


def _write_alignment(run: Path, geometry: SeriesGeometry, sections: Mapping[int, Tilt | ExcludedTilt]) -> list[Path]:
    series = geometry.series
    folder = run / "Alignments" / _ID
    pixel = series.pixel_size_angstrom
    half = np.array([n // 2 - 0.5 * (n - 1) for n in series.image_shape[::-1]])
    count = max(sections) + 1
    matrices, shifts = np.broadcast_to(np.eye(2), (count, 2, 2)).copy(), np.zeros((count, 2))
    tilt_deg, x_tilt_deg = np.zeros(count), np.zeros(count)
    entries = []
    for index, tilt in sections.items():
        if isinstance(tilt, ExcludedTilt) or tilt.pose is None:
            tilt_deg[index] = tilt.tilt.nominal_tilt_deg if isinstance(tilt, ExcludedTilt) else tilt.nominal_tilt_deg
            continue
        pose = tilt.pose
        c, s = np.cos(np.deg2rad(pose.z_rot_deg)), np.sin(np.deg2rad(pose.z_rot_deg))
        matrix = np.array([[c, s], [-s, c]]) / pose.magnification
        shift = -matrix @ (np.array([pose.x_shift_angstrom, pose.y_shift_angstrom]) / pixel + half)
        matrices[index], shifts[index] = matrix, shift
        tilt_deg[index], x_tilt_deg[index] = pose.y_tilt_deg, pose.x_tilt_deg
        offset = -matrix.T @ shift
        entries.append(
            {
                "z_index": index,
                "tilt_angle": pose.y_tilt_deg,
                "volume_x_rotation": pose.x_tilt_deg,
                "in_plane_rotation": matrix.T.tolist(),
                "x_offset": float(offset[0]),
                "y_offset": float(offset[1]),
            }
        )
    paths = [folder / f"{series.name}{ending}" for ending in (".xf", ".tlt", ".xtilt")]
    write_transforms(paths[0], matrices, shifts)
    write_angles(paths[1], tilt_deg)
    write_angles(paths[2], x_tilt_deg)
    size = series.volume_size_px
    document = {
        "alignment_type": "GLOBAL" if geometry.warp is None else "LOCAL",
        "format": "IMOD",
        "is_portal_standard": False,
        "affine_transformation_matrix": np.eye(4).tolist(),
        "tilt_offset": 0.0,
        "x_rotation_offset": 0.0,
        "volume_offset": dict.fromkeys("xyz", 0.0),
        "volume_dimension": {a: None if size is None else size[i] * pixel for i, a in enumerate("xyz")},
        SECTIONS_KEY: entries,
        "alignment_path": _inside(paths[0], run),
        "tilt_path": _inside(paths[1], run),
        "tiltx_path": _inside(paths[2], run),
        "tiltseries_path": f"{series.name}/TiltSeries/{_ID}/{SERIES_FILE}",
    }
    return [_write_json(folder / ALIGNMENT_FILE, document), *paths]


def _inside(path: Path, run: Path) -> str:
    """The path from the folder of all runs on, as the portal has it."""
    return f"{run.name}/{path.relative_to(run).as_posix()}"


def _write_series(run: Path, series: TiltSeries, sections: Mapping[int, Tilt | ExcludedTilt]) -> list[Path]:
    folder = run / "TiltSeries" / _ID
    tilts = {i: t.tilt if isinstance(t, ExcludedTilt) else t for i, t in sections.items()}
    angles = [t.nominal_tilt_deg for t in tilts.values()]
    axes = [t.pose.z_rot_deg for t in series.tilts if t.pose is not None]
    stacks = {t.image.split("@", 1)[1] for t in tilts.values() if t.image is not None and "@" in t.image}
    raw = folder / f"{series.name}.rawtlt"
    count = max(sections) + 1
    raw_angles = np.zeros(count)
    raw_angles[list(tilts)] = angles
    write_angles(raw, raw_angles)
    optics = series.optics
    document = {
        "run_name": series.name,
        "pixel_spacing": series.pixel_size_angstrom,
        "size": {"x": series.image_shape[1], "y": series.image_shape[0], "z": count},
        "is_aligned": False,
        "acceleration_voltage": None if optics is None else round(optics.voltage_kv * 1000),
        "spherical_aberration_constant": None if optics is None else optics.spherical_aberration_mm,
        "tilt_axis": float(np.median(axes)),
        "tilt_range": {"min": min(angles), "max": max(angles)},
        "tilt_step": float(np.median(np.diff(np.sort(angles)))) if len(angles) > 1 else 0.0,
        "total_flux": float(sum(t.dose for t in tilts.values())),
        "mrc_file": stacks.pop() if len(stacks) == 1 else None,
        "raw_tlt_path": _inside(raw, run),
        "per_section_parameter": [_section(index, tilt) for index, tilt in tilts.items()],
    }
    frames = [
        {
            "acquisition_order": t.acquisition,
            "exposure_dose": t.dose,
            "accumulated_dose": t.pre_exposure,
            "path": t.movie,
        }
        for t in sorted(tilts.values(), key=lambda t: t.acquisition)
    ]
    return [
        _write_json(folder / SERIES_FILE, document),
        raw,
        _write_json(run / "Frames" / FRAMES_FILE, {"frames": frames}),
        _write_json(run / "run_metadata.json", {"run_name": series.name}),
    ]


def _section(index: int, tilt: Tilt) -> dict[str, object]:
    fit = tilt.ctf
    out: dict[str, object] = {
        "z_index": index,
        "frame_acquisition_order": tilt.acquisition,
        "raw_angle": tilt.nominal_tilt_deg,
    }
    if fit is not None:
        out |= {
            "major_defocus": fit.defocus_u_angstrom,
            "minor_defocus": fit.defocus_v_angstrom,
            "astigmatic_angle": fit.astigmatism_angle_deg,
            "phase_shift": float(np.deg2rad(fit.phase_shift_deg)),
            "cross_correlation": fit.score if np.isfinite(fit.score) else None,
            "max_resolution": fit.max_resolution_angstrom if np.isfinite(fit.max_resolution_angstrom) else None,
        }
    return out


def _losses(geometry: SeriesGeometry, count: int) -> list[str]:
    series = geometry.series
    out = []
    if geometry.warp is not None:
        rms = float(np.sqrt((geometry.warp.displacement_angstrom**2).sum(axis=-1).mean()))
        out.append(f"the local deformation of the {count} images (rms {rms:.1f} A) is not in the portal's metadata")
    if series.excluded:
        out.append(f"why {len(series.excluded)} images were left out; they are there without an alignment")
    if series.hand != -1.0:
        out.append("the hand of the defocus: the portal keeps none, and this series has +1")
    if series.optics is not None and series.optics.amplitude_contrast != Optics().amplitude_contrast:
        out.append(f"the amplitude contrast, {series.optics.amplitude_contrast:g}")
    return out
