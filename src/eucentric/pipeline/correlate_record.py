"""What is told and recorded of a registration by landmarks."""

import socket
import time
from pathlib import Path
from typing import Any

import numpy as np

from eucentric import __version__
from eucentric.fitting.landmarks import LandmarkFit, fewest_landmarks
from eucentric.geometry.affine import Affine
from eucentric.io.landmark_files import LandmarkPairs
from eucentric.pipeline import records
from eucentric.pipeline.correlate_params import CorrelateParams
from eucentric.pipeline.correlate_source import FOLDER, Source
from eucentric.pipeline.correlate_target import Grid, Target
from eucentric.pipeline.records import COLLECTIVE, Record

_SCALE_OFF = 0.1


def caveats_of(fit: LandmarkFit, final: LandmarkFit, pairs: LandmarkPairs) -> list[str]:
    """What people should know of a registration, in words."""
    told = []
    wrong = [name for name, good in zip(pairs.names, fit.used, strict=True) if not good]
    if wrong:
        told.append(f"Found wrong and left out: {', '.join(wrong)}. Look at them again.")
    if not fit.hand_known:
        told.append("The landmarks do not tell whether the image is mirrored; it was taken not to be.")
    if len(pairs.names) <= fewest_landmarks(fit.kind, fit.moving.shape[1]):
        told.append("With so few landmarks a wrong one cannot be found. Add some.")
    if fit.kind != "rigid" and abs(final.transform.scale - 1) > _SCALE_OFF:
        told.append(
            f"The image is {final.transform.scale:.2f} times as large as its pixel size and that of the target say. "
            "Check both, and the landmarks."
        )
    return told


def registration_values(
    name: str,
    target: Target,
    source: Source,
    params: CorrelateParams,
    fit: LandmarkFit,
    final: LandmarkFit,
    whole: Affine,
    beads: dict[str, Any] | None,
    pairs: LandmarkPairs,
    grid: Grid,
    caveats: list[str],
) -> dict[str, Any]:
    """All of a registration, for `registration.json`."""
    d = len(whole.offset)
    middle = np.array(target.size_xyz[:d]) * 0.5 * target.voxel + target.first[:d]
    there = final.transform.inverse(middle[None])
    return {
        "name": name,
        "version": __version__,
        "fluorescence": str(source.path.resolve()),
        "channels": list(source.image.channels),
        "pixel_size_angstrom": float(source.spacing[0]),
        "step_angstrom": float(source.spacing[2]),
        "target": {
            "series": None if target.is_map else target.name,
            "file": str(target.path.resolve()),
            "pixel_size_angstrom": target.voxel,
        },
        "settings": params.model_dump(mode="json"),
        "kind": final.kind,
        "dimensions": d,
        "matrix": whole.matrix.tolist(),
        "offset_angstrom": whole.offset.tolist(),
        "scale": whole.scale,
        "angle_deg": whole.angle_deg,
        "mirrored": whole.is_mirrored,
        "hand_known": fit.hand_known,
        "rms_angstrom": fit.rms,
        "left_out_rms_angstrom": fit.left_out_rms,
        "landmark_sigma_angstrom": fit.sigma,
        "sigma_at_middle_angstrom": float(final.sigma_at(there)[0]),
        "landmarks": [
            {
                "name": n,
                "used": bool(u),
                "error_angstrom": float(np.linalg.norm(e)),
                "left_out_error_angstrom": float(o),
            }
            for n, u, e, o in zip(pairs.names, fit.used, fit.errors, fit.left_out_errors, strict=True)
        ],
        "beads": beads,
        "voxel_size_angstrom": grid.voxel,
        "caveats": caveats,
    }


def write_correlate_record(
    root: Path,
    folder: Path,
    params: CorrelateParams,
    about: dict[str, Any],
    inputs: list[Path],
    outputs: list[Path],
    started: str,
    clock: float,
) -> None:
    """The mark that the results are whole, which `eucentric status` reads."""
    metrics = ("rms_angstrom", "left_out_rms_angstrom", "sigma_at_middle_angstrom", "scale")
    record = Record(
        stage=FOLDER,
        series=COLLECTIVE,
        outcome="done",
        fingerprint="",
        upstream="",
        stage_version=1,
        parameters=params.model_dump(mode="json"),
        project={},
        seed=0,
        inputs=records.stat_files([str(p.resolve()) for p in inputs], root),
        outputs=tuple(p.relative_to(root).as_posix() for p in outputs),
        metrics={key: float(about[key]) for key in metrics},
        caveats=tuple(about["caveats"]),
        host=socket.gethostname(),
        started=started,
        ended=records.now(),
        seconds=round(time.perf_counter() - clock, 3),
        versions=records.software_versions(),
    )
    records.write_record(folder, record)
