"""Half maps on disk: of a folder that `eucentric average` made, or of any program."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from eucentric.averaging.correlate_maps import correlate_halves
from eucentric.averaging.results import HalfMapCorrelation
from eucentric.averaging.soft_mask import ball_mask
from eucentric.errors import InputError
from eucentric.geometry.helix import Helix
from eucentric.io.atomic import write_text_atomic
from eucentric.pipeline.reprojecting import read_volume

RECORD = "average.json"
_BALL = 0.8
"""Of the box, a ball for a mask where none is given."""
_EDGE = 5.0  # voxels


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HalfMaps:
    """Two half maps and what belongs to them."""

    half1: Tensor
    half2: Tensor
    mask: Tensor
    voxel_size_angstrom: float
    symmetry: str
    folder: Path | None
    """Of the average; None for maps of other places."""
    files: tuple[Path, ...]
    """That were read."""
    helix: Helix | None = None
    """That the record of the average tells."""

    def correlate(self, seed: int = 0) -> HalfMapCorrelation:
        """Agreement inside the mask."""
        return correlate_halves(self.half1, self.half2, self.voxel_size_angstrom, self.mask, seed=seed)


def open_half_maps(
    target: Path,
    half2: Path | None,
    *,
    device: torch.device,
    mask: Path | None = None,
    symmetry: str | None = None,
    voxel_size: float | None = None,
) -> HalfMaps:
    """Half maps, mask and symmetry.

    Parameters
    ----------
    target : folder of an average, or half map 1
    half2 : half map 2, where `target` is a file
    mask : 0 to 1; that of the folder, or a ball, where None
    symmetry : that of the average's record, or C1, where None
    voxel_size : A, of maps whose header holds none

    Raises
    ------
    InputError : a half missing, the same map twice, maps or a mask that do not belong together
    """
    if target.is_dir():
        if half2 is not None:
            raise InputError(f"`{target}` is a folder and holds both halves; --half2 goes with a file. Leave it out.")
        first, second, folder = target / "half1.mrc", target / "half2.mrc", target
        mask = mask or (target / "mask.mrc" if (target / "mask.mrc").is_file() else None)
        if not (first.is_file() and second.is_file()):
            classes = sorted(found.parent.name for found in target.glob("class_*/half1.mrc"))
            own = f", such as `{target / classes[0]}`" if classes else ""
            raise InputError(
                f"`{target}` holds no half1.mrc and half2.mrc. Give the folder of an average{own}, or both half maps."
            )
        symmetry = symmetry or _symmetry_of(target)
    else:
        if half2 is None:
            raise InputError(f"`{target}` is one half map. Give the other one with --half2.")
        first, second, folder = target, half2, None
    a, voxel = read_volume(first, voxel_size, device)
    b, other = read_volume(second, voxel_size, device)
    if a.shape != b.shape or len(set(a.shape)) != 1 or abs(voxel / other - 1.0) > 1e-3:
        raise InputError(
            f"`{first}` has {_size(a)} voxels of {voxel:g} A and `{second}` {_size(b)} of {other:g} A. Half maps must be "
            "cubes of the same size and sampling."
        )
    if not bool(torch.isfinite(a).all() and torch.isfinite(b).all()):
        raise InputError(f"`{first}` or `{second}` holds values that are no numbers. Make the half maps again.")
    if torch.equal(a, b):
        raise InputError(f"`{first}` and `{second}` are the same map. Half maps come from different particles.")
    return HalfMaps(
        half1=a,
        half2=b,
        mask=_mask(mask, a, voxel, voxel_size, device),
        voxel_size_angstrom=voxel,
        symmetry=symmetry or "C1",
        folder=folder,
        files=(first, second, *(() if mask is None else (mask,))),
        helix=None if folder is None else helix_of_record(folder),
    )


def _mask(path: Path | None, like: Tensor, voxel: float, given: float | None, device: torch.device) -> Tensor:
    n = like.shape[0]
    if path is None:
        return ball_mask(n, voxel, _BALL * n * voxel, min(_EDGE, 0.5 * (1.0 - _BALL) * n) * voxel).to(like)
    mask, _ = read_volume(path, given or voxel, device)
    if mask.shape != like.shape:
        raise InputError(
            f"The mask `{path}` has {_size(mask)} voxels, and the half maps {_size(like)}. Give one of the same size."
        )
    if not (float(mask.min()) > -1e-3 and 0.0 < float(mask.max()) < 1.001):
        raise InputError(f"The mask `{path}` holds values outside 0 to 1, or is empty.")
    return mask.clamp(0.0, 1.0)


def read_about(folder: Path) -> dict[str, Any]:
    """The record of an average; empty where there is none that can be read."""
    try:
        values = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def note(folder: Path, **values: Any) -> None:
    """Put values into the record of an average."""
    write_text_atomic(folder / RECORD, json.dumps(read_about(folder) | values, indent=1, ensure_ascii=False) + "\n")


def _symmetry_of(folder: Path) -> str | None:
    settings = read_about(folder).get("average")
    found = settings.get("symmetry") if isinstance(settings, dict) else None
    return found if isinstance(found, str) else None


def helix_of_record(folder: Path) -> Helix | None:
    """The helix that was imposed on an average; None where there was none."""
    told = read_about(folder).get("helix")
    if not isinstance(told, dict):
        return None
    return Helix(
        rise_angstrom=float(told["rise_angstrom"]),
        twist_deg=float(told["twist_deg"]),
        group=_symmetry_of(folder) or "C1",
    )


def _size(volume: Tensor) -> str:
    return " x ".join(map(str, volume.shape))
