"""One tomogram searched for templates: how it was made, where in it to look, what its tilts show of a template."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import torch
from torch import Tensor

from eucentric.errors import InputError
from eucentric.geometry.tilt import TiltGeometry
from eucentric.io.mrc import read_mrc
from eucentric.models.tilt_series import TiltSeries
from eucentric.optics.box_transfer import Correction
from eucentric.optics.tilt_strength import TiltStrength
from eucentric.picking.decoys import decoy_count
from eucentric.picking.match_templates import MatchResult, match_templates
from eucentric.picking.params import MatchParams
from eucentric.picking.templates import Template
from eucentric.picking.tomogram_transfer import TomogramTransfer
from eucentric.pipeline.reprojecting import read_volume
from eucentric.reconstruction.params import ReconstructParams

_MOST_DECOYS = 20  # that the settings take


class TemplateReader(Protocol):
    """Reads the templates at a voxel size, which only the tomogram tells."""

    def __call__(self, *, voxel_size: float) -> list[Template]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TomogramJob:
    """One tomogram to be searched."""

    name: str
    path: Path
    series: TiltSeries | None
    """None, or a series without tilts, where nothing is known of them."""
    correction: Correction = "none"
    dose_weighting: bool = False

    @classmethod
    def of_series(cls, series: TiltSeries, root: Path, folder: Path | None = None) -> Self:
        """That of a tilt series of a project; the series must have one.

        Parameters
        ----------
        folder : of the reconstruction, whose records tell how it was made; the one above the tomogram's where None
        """
        assert series.tomogram is not None
        path = root / series.tomogram.path
        correction, weighted = _how_made(path.parent.parent if folder is None else folder, series)
        return cls(name=series.name, path=path, series=series, correction=correction, dose_weighting=weighted)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Searched:
    """What came of one tomogram."""

    result: MatchResult
    templates: list[Template]
    volume: Tensor
    """(z, y, x), as recorded."""
    voxel_size_angstrom: float
    region: Tensor
    """(z, y, x) bool, where it was looked."""
    caveats: tuple[str, ...]


def search_tomogram(
    job: TomogramJob,
    read: TemplateReader,
    params: MatchParams,
    *,
    device: torch.device,
    tilts: tuple[float, float] | None = None,
    pixel_size: float | None = None,
    mask: Path | None = None,
    seed: int = 0,
    on_step: Callable[[float], None] | None = None,
) -> Searched:
    """Read a tomogram and look for templates in it.

    Parameters
    ----------
    tilts : degrees, the lowest and the highest, of a tomogram without its tilts
    pixel_size : A, of a tomogram whose header holds none
    mask : volume of the tomogram's shape, above 0 where particles may lie
    seed : of the decoys
    on_step : told the part that is done

    Raises
    ------
    InputError : a tomogram with numbers that are none, or of unknown tilts; errors of templates, masks and the search
    """
    caveats: list[str] = []
    volume, voxel = read_volume(job.path, pixel_size, device)
    bad = int((~volume.isfinite()).sum())
    if bad:
        raise InputError(
            f"`{job.path}` holds values that are not numbers ({bad:,} of its voxels). Reconstruct it again, or replace them by "
            "the mean of the others."
        )
    transfer = _transfer(job, tilts, caveats)
    templates = read(voxel_size=voxel)
    caveats += _undecoyed(templates, params)
    region = _region(volume, voxel, job.series, templates, params, mask)
    result = match_templates(volume, voxel, templates, transfer, params, region=region, seed=seed, on_step=on_step)
    caveats += too_few_to_tell(result, templates, params)
    return Searched(
        result=result,
        templates=templates,
        volume=volume,
        voxel_size_angstrom=voxel,
        region=region,
        caveats=tuple(caveats),
    )


def _how_made(folder: Path, series: TiltSeries) -> tuple[Correction, bool]:
    """What the reconstruction did about the CTF, and whether it faded what radiation destroyed."""
    record = folder / "records" / f"{series.name}.json"
    try:
        written = ReconstructParams.model_validate(json.loads(record.read_text(encoding="utf-8"))["parameters"])
    except (OSError, ValueError, KeyError):
        return "none", False
    made = written.resolved(has_ctf=series.has_ctf, has_halves=series.has_halves)
    if made.method == "ctf" or made.ctf_correction == "wiener":
        return "wiener", made.dose_weighting
    # once more the CTF: its signs are right, its amplitudes are those of the images
    return ("flip" if made.ctf_correction in ("flip", "multiply") else "none"), made.dose_weighting


def _transfer(job: TomogramJob, tilts: tuple[float, float] | None, caveats: list[str]) -> TomogramTransfer:
    series = job.series
    if series is None or not series.tilts:
        if tilts is None:
            raise InputError(
                f"Nothing is known of the tilts of {job.name}. Give a project with its tilt series, or the lowest and highest "
                "tilt: --tilts -60 60."
            )
        caveats.append(
            f"The tilts of {job.name} were given by hand ({tilts[0]:g} to {tilts[1]:g} degrees about y): templates are "
            "weighted by this wedge alone, without CTF and dose."
        )
        return TomogramTransfer.of_wedge(*tilts)
    fits = [t.ctf for t in series.tilts if t.ctf is not None]
    if not series.has_ctf:
        caveats.append(f"No CTF is known of {job.name}: templates are weighted by tilts and dose alone.")
    return TomogramTransfer.of_series(
        TiltGeometry.from_poses(series.poses),
        doses=series.doses,
        pre_exposures=series.pre_exposures,
        fits=fits if series.has_ctf else None,
        optics=series.optics if series.has_ctf else None,
        hand=series.hand,
        correction=job.correction,
        dose_weighting=job.dose_weighting,
        signal=TiltStrength.of(series.tilts),
    )


def _undecoyed(templates: Sequence[Template], params: MatchParams) -> list[str]:
    """What to tell of templates that have no decoys although decoys were asked for."""
    balls = [t.name for t in templates if t.isotropic]
    if not balls or params.decoys == "none":
        return []
    return [
        f"Picks of {', '.join(balls)} have no q-value, since a scrambled ball is as round as the ball: they are all that chance "
        "alone does not explain, other molecules too. Raise --least-score to be stricter."
    ]


def too_few_to_tell(result: MatchResult, templates: Sequence[Template], params: MatchParams) -> list[str]:
    """What to tell of templates that some places clearly prefer, but fewer than the share of false picks asks for."""
    out = []
    for number, template in enumerate(templates):
        mine, decoys = result.templates == number, decoy_count(template, params)
        if not decoys or result.kept[mine].any():
            continue
        best = float(result.decoy_margins[result.decoy_templates == number].max(initial=0.0))
        clear = int((mine & (result.margins > best) & (result.scores >= result.cutoff)).sum())
        need = math.ceil(1.0 / (decoys * params.false_discovery_rate) - 1e-9)
        if 0 < clear < need:
            more = math.ceil(1.0 / (clear * params.false_discovery_rate) - 1e-9)
            wish = f"--scrambled-decoys {more}, or a larger" if more <= _MOST_DECOYS else "A larger"
            out.append(
                f"{clear} place{'s' * (clear != 1)} fit{'s' * (clear == 1)} {template.name} better than any decoy does, but with "
                f"{decoys} decoy{'s' * (decoys != 1)} a share of {params.false_discovery_rate:.0%} false picks can be told of "
                f"{need} or more only. {wish} --false-discovery-rate keeps them."
            )
    return out


def _region(
    volume: Tensor,
    voxel: float,
    series: TiltSeries | None,
    templates: Sequence[Template],
    params: MatchParams,
    mask: Path | None,
) -> Tensor:
    """Where centres may lie: inside the specimen where it is known, away from the edges, inside the mask."""
    shape = tuple(volume.shape)
    z, y, x = ((torch.arange(n, device=volume.device) - n // 2) * voxel for n in shape)
    edge = 0.5 * min(t.diameter_angstrom for t in templates) if params.edge_angstrom is None else params.edge_angstrom
    inside = (y.abs() <= 0.5 * shape[1] * voxel - edge)[:, None] & (x.abs() <= 0.5 * shape[2] * voxel - edge)
    look = inside.expand(shape).clone()
    specimen = None if series is None else series.specimen
    if specimen is not None and np.isfinite(specimen.thickness_angstrom):
        sigma = specimen.thickness_sigma_angstrom
        half = (
            0.5 * specimen.thickness_angstrom + (sigma if np.isfinite(sigma) else 0.0) + params.specimen_margin_angstrom
        )
        slope_x, slope_y = np.tan(np.deg2rad(specimen.y_tilt_deg)), -np.tan(np.deg2rad(specimen.x_tilt_deg))
        middle = specimen.z_angstrom + slope_x * x + (slope_y * y)[:, None]
        look &= (z[:, None, None] - middle).abs() <= half
    if mask is not None:
        given = np.array(read_mrc(mask)[0])
        if given.shape != shape:
            raise InputError(f"The mask `{mask}` has shape {given.shape} and the tomogram {shape}; expected the same.")
        if not (given > 0).any():
            raise InputError(f"The mask `{mask}` is empty: no voxel is above 0. Check its threshold.")
        look &= torch.from_numpy(given > 0).to(look.device)
    return look
