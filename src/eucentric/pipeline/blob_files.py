"""Blob picking in files: tomograms in, a list of particles out."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from eucentric.errors import InputError
from eucentric.geometry import rotation_x, rotation_y
from eucentric.io import labels
from eucentric.io.particles import write_particles
from eucentric.io.tilt_series import read_tilt_series_set
from eucentric.models import ParticleSet, Specimen, TomogramFrame
from eucentric.models.tomogram_frames import tomogram_name
from eucentric.picking.blob_params import BlobParams
from eucentric.picking.candidates import Candidates
from eucentric.picking.pick_blobs import BlobPicks, pick_blobs
from eucentric.pipeline.curation_lists import not_left_out
from eucentric.pipeline.kept_picks import folder_to_keep, keep_pictures, write_picks_record
from eucentric.pipeline.reprojecting import project_of, read_volume

_NOT_PICKED = 3, 200  # times the picks, or at least: so many of the best of the others are kept
_TABLE = "reconstruct/tilt_series.star"


@dataclass(frozen=True, slots=True, kw_only=True)
class TomogramFile:
    """A tomogram to be picked in."""

    name: str
    path: Path
    specimen: Specimen | None
    pixel_size_angstrom: float | None = None
    """Of its tilt images."""


def find_tomograms(target: Path) -> list[TomogramFile]:
    """The tomograms of a project, of a table of tilt series, or the one volume that is named.

    Raises
    ------
    InputError : nothing there, or no tomogram reconstructed yet
    """
    if target.suffix.lower() in (".mrc", ".rec", ".map"):
        return [TomogramFile(name=tomogram_name(target.name), path=target, specimen=None)]
    table = target if target.suffix.lower() == ".star" else target / _TABLE
    if not table.is_file():
        raise InputError(f"`{table}` does not exist. Run `eucentric reconstruct` first, or name a tomogram (.mrc).")
    root = project_of(table)
    found = [
        TomogramFile(
            name=s.name, path=root / s.tomogram.path, specimen=s.specimen, pixel_size_angstrom=s.pixel_size_angstrom
        )
        for s in read_tilt_series_set(table, root)
        if s.tomogram is not None
    ]
    if not found:
        raise InputError(f"`{table}` names no tomogram. Run `eucentric reconstruct` first.")
    return found


def slab_region(frame: TomogramFrame, low: float, high: float, specimen: Specimen | None = None) -> NDArray[np.bool_]:
    """(z, y, x) voxels at such heights in A: along z, or along the normal of the specimen above its middle."""
    x, y, z = ((np.arange(n) - n // 2) * frame.voxel_size_angstrom for n in frame.size_xyz)
    normal, middle = np.array([0.0, 0.0, 1.0]), 0.0
    if specimen is not None:
        normal = (rotation_y(specimen.y_tilt_deg) @ rotation_x(specimen.x_tilt_deg))[:, 2]
        middle = specimen.z_angstrom
    height = x * normal[0] + (y * normal[1])[:, None] + ((z - middle) * normal[2])[:, None, None]
    return np.asarray((height >= low) & (height <= high))


def pick_blob_files(
    target: Path,
    output: Path,
    params: BlobParams,
    device: torch.device,
    *,
    z_range_angstrom: tuple[float, float] | None = None,
) -> tuple[ParticleSet, dict[str, float]]:
    """Pick in every tomogram and write one RELION-5 table; in a project also what its report shows.

    Parameters
    ----------
    z_range_angstrom : lowest and highest height of a centre from the middle of the specimen; where None the specimen's thickness,
        or everything where that is not known

    Returns
    -------
    the picks, and of each tomogram the part left out as contaminated

    Raises
    ------
    InputError : as :func:`find_tomograms`, `pick_blobs` and `folder_to_keep`
    """
    parts, contaminated, figures = [], {}, {}
    folder = folder_to_keep(target, output)
    for one in not_left_out(find_tomograms(target), target):
        started = time.monotonic()
        volume, voxel = read_volume(one.path, None, device)
        z, y, x = volume.shape
        frame = TomogramFrame(voxel_size_angstrom=voxel, size_xyz=(x, y, z))
        limits = z_range_angstrom
        if limits is None and one.specimen is not None and np.isfinite(one.specimen.thickness_angstrom):
            half = one.specimen.thickness_angstrom / 2.0
            limits = (-half, half)
        region = None if limits is None else torch.from_numpy(slab_region(frame, *limits, one.specimen)).to(device)
        found = pick_blobs(volume, voxel, params, region=region)
        contaminated[one.name] = found.contaminated
        part = ParticleSet.build(
            one.name,
            frame.to_angstrom(found.index_xyz),
            scores=found.scores,
            columns={labels.Q_VALUE: found.q_values, labels.BLOB_DIAMETER: found.diameters_angstrom},
        )
        if one.pixel_size_angstrom is not None:
            part = part.with_column("rlnTomoTiltSeriesPixelSize", one.pixel_size_angstrom)
        parts.append(part)
        if folder is not None:
            looked = torch.ones(volume.shape, dtype=torch.bool) if region is None else region
            candidates, weight = _candidates(found, params, frame), found.rejected.false_weight
            keep_pictures(folder, one.name, "blobs", candidates, volume, voxel, looked, false_weight=weight)
        figures[one.name] = {
            "picks": len(part),
            "contaminated_percent": 100.0 * found.contaminated,
            "seconds": time.monotonic() - started,
        }
    picks = ParticleSet.concatenate(parts)
    write_particles(output, picks, "relion5")
    if folder is not None:
        settings = {**params.model_dump(), "z_range_angstrom": z_range_angstrom}
        write_picks_record(output, "blobs", {"parameters": settings, "tomograms": figures, "caveats": []})
    return picks, contaminated


def _candidates(found: BlobPicks, params: BlobParams, frame: TomogramFrame) -> Candidates:
    """Picks, and what comes near them, of both contrasts."""
    rest = found.rejected
    near = slice(0, max(_NOT_PICKED[0] * len(found.scores), _NOT_PICKED[1]))
    scores = np.concatenate([found.scores, rest.scores[near]])
    least = scores.min() if len(scores) else 0.0
    return Candidates.without_templates(
        ["blobs"],
        [params.largest_diameter_angstrom or params.diameter_angstrom],
        frame.to_angstrom(np.concatenate([found.index_xyz, rest.index_xyz[near]])),
        scores,
        np.concatenate([found.q_values, rest.q_values[near]]),
        np.arange(len(scores)) < len(found.scores),
        false_scores=rest.false_scores[rest.false_scores >= least],
        cutoffs=[np.nan if params.min_score is None else params.min_score],
    )
