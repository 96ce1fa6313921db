"""Particles of EMAN2: lists (`.lst`), alignments (`particle_parms_*.json`), stacks (`.hdf`), boxes and places to extract (`.json`).

A particle of `particles3d/<tomogram>__<label>.hdf` was cut out at `ptcl_source_coord` (`coord` in lists), in voxels of its own
size (`apix_x`) from the centre of the tomogram. `xform.align3d` takes it to the reference, x_ref = R x + t: it lies at
``coord - R^T t`` and is turned by R^T, which `e2spt_extract.py --jsonali` does with it. A lower `score` is better [1]_.
`boxes_3d` of `info/<tomogram>_info.json` has x, y, z in pixels of the unbinned images (`apix_unbin`) from the centre, how each
was found, a score (higher is better) and its number in `class_list`; without `apix_unbin` it is in voxels from the corner [2]_.
For `e2spt_extract.py --textin` a JSON names tomograms, each with x, y, z in their voxels from the centre and a Transform from
reference to tomogram [1]_. `class` of a list is 0 or 1 for the halves. A list may name another list in place of a stack.

References
----------
.. [1] EMAN2's sources, `programs/e2spt_extract.py` (parse_json, parse_text, make3d)
.. [2] EMAN2's sources, `programs/e2spt_extract.py` (do_extraction), `programs/e2spt_tempmatch.py`
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eucentric.errors import FormatError, InputError
from eucentric.io.eman2_files import (
    ListedImage,
    eman2_name,
    number_rows,
    one_number,
    read_eman2_json,
    read_lst,
    transform_entry,
    transform_matrix,
    write_eman2_json,
    write_lst,
)
from eucentric.io.hdf import HdfHeader, read_hdf_headers
from eucentric.io.particle_columns import known_scores, need_file
from eucentric.models.particles import ParticleSet
from eucentric.models.tomogram_frames import TomogramFrames
from eucentric.typing import FloatArray, PathLike

_INFO = "_info.json"
_KEY = re.compile(r"^\(\s*u?['\"](?P<file>.+)['\"]\s*,\s*(?P<index>\d+)\s*\)$")
_WHOLE = np.hstack([np.eye(3), np.zeros((3, 1))])
_NO_KIND = "particles"
_HALF = "rlnRandomSubset"
_BOX_PX = 64
_ROOTS = 3  # folders above a list in which a project may begin


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A particle as a file tells it."""

    file: str
    index: int
    entries: Mapping[str, Any]


class _Stacks:
    """Headers of the stacks of particles that a list names, read once."""

    def __init__(self, beside: Path) -> None:
        self._beside = beside
        self._known: dict[str, list[HdfHeader]] = {}
        self._lists: dict[str, list[ListedImage]] = {}

    def resolved(self, one: _Found) -> _Found:
        """The particle itself, where a list names a place in another list; what the outer one tells goes first."""
        for _ in range(_ROOTS):
            if not one.file.lower().endswith(".lst"):
                return one
            if one.file not in self._lists:
                place = self._place(one.file)
                self._lists[one.file] = [] if place is None else read_lst(place)
            inner = self._lists[one.file]
            if not 0 <= one.index < len(inner):
                raise InputError(
                    f"`{self._beside}` names particle {one.index} of `{one.file}`, which is not there. Keep it in its EMAN2 project."
                )
            named = inner[one.index]
            one = _Found(file=named.file, index=named.index, entries={**named.entries, **one.entries})
        return one

    def header(self, name: str, index: int) -> HdfHeader | None:
        """The header of a particle; None where its stack is not there."""
        if name not in self._known:
            place = self._place(name) if name.lower().endswith((".hdf", ".h5")) else None
            self._known[name] = [] if place is None else read_hdf_headers(place)
        headers = self._known[name]
        return headers[index] if 0 <= index < len(headers) else None

    def _place(self, name: str) -> Path | None:
        for root in [*self._beside.resolve().parents][:_ROOTS]:
            try:
                if (root / name).is_file():
                    return root / name
            except (OSError, ValueError):  # no name of a file
                return None
        return None


def read_eman2_particles(path: PathLike, frames: TomogramFrames) -> ParticleSet:
    """Particles of any of EMAN2's files of them.

    Parameters
    ----------
    frames : grids of the tomograms; their voxel size stands for that of particles whose stack is not there

    Raises
    ------
    InputError : no such file; or the place or voxel size of a particle is neither in it nor beside it
    FormatError : a damaged file, or one without particles
    """
    place = need_file(path)
    ending = place.suffix.lower()
    if ending == ".lst":
        return _particles(
            place, [_Found(file=i.file, index=i.index, entries=i.entries) for i in read_lst(place)], frames
        )
    if ending in (".hdf", ".h5"):
        count = len(read_hdf_headers(place))
        return _particles(place, [_Found(file=place.name, index=i, entries={}) for i in range(count)], frames)
    entries = read_eman2_json(place)
    if "boxes_3d" in entries:
        return _boxes(place, entries, frames)
    keys = [_KEY.match(key) for key in entries]
    if entries and all(keys):
        return _particles(place, [_aligned(k, place, entries) for k in keys if k is not None], frames)
    if entries and all(isinstance(rows, list) for rows in entries.values()):
        return _places(place, entries, frames)
    raise FormatError(
        f"`{place}` holds no particles of EMAN2. Expected boxes_3d, xform.align3d of particles, or places for e2spt_extract.py."
    )


def _aligned(key: re.Match[str], place: Path, entries: Mapping[str, Any]) -> _Found:
    value = entries[key.string]
    if not isinstance(value, Mapping):
        raise FormatError(
            f"`{place}` has `{str(value)[:60]}` for {key.string[:60]}; expected xform.align3d and a score."
        )
    return _Found(file=key["file"], index=int(key["index"]), entries=value)


def _particles(place: Path, found: list[_Found], frames: TomogramFrames) -> ParticleSet:
    """From aligned particles, with what their stacks' headers add."""
    stacks = _Stacks(place)
    positions, rotations = np.zeros((len(found), 3)), np.zeros((len(found), 3, 3))
    names, scores, kinds, halves = [], [], [], []
    for row, listed in enumerate(found):
        one = stacks.resolved(listed)
        header = stacks.header(one.file, one.index)
        kept = {} if header is None else header.attributes
        name = eman2_name(str(one.entries.get("orig_ptcl") or one.file))
        xform = one.entries.get("xform.align3d", kept.get("xform.align3d"))
        matrix = _WHOLE if xform is None else transform_matrix(xform, place)
        coord = one.entries.get("coord", kept.get("ptcl_source_coord"))
        if coord is None:
            raise InputError(
                f"`{place}` does not tell where particle {one.index} of `{one.file}` lies, and that stack is not there or does not "
                "either. Keep the list in its EMAN2 project."
            )
        at = number_rows([coord], 3, "coord", place)[0]
        size = frames.of(name).voxel_size_angstrom if header is None else _voxel_size(header, name, frames)
        turned = matrix[:, :3].T
        positions[row] = (at - turned @ matrix[:, 3]) * size
        rotations[row] = turned
        names.append(name)
        score = one_number(one.entries.get("score"))
        scores.append(np.nan if score is None else -score)
        kinds.append(_kind(one))
        halves.append(one_number(one.entries.get("class")))
    return ParticleSet.build(
        names,
        positions,
        rotations=rotations,
        scores=np.array(scores),
        kinds=np.array(kinds, dtype=np.str_),
        columns={_HALF: np.array([1.0 + (h or 0.0) for h in halves])} if halves and set(halves) <= {0.0, 1.0} else {},
    )


def _voxel_size(header: HdfHeader, name: str, frames: TomogramFrames) -> float:
    return frames.of(name).voxel_size_angstrom if header.voxel_size_angstrom is None else header.voxel_size_angstrom[0]


def _kind(one: _Found) -> str:
    """What the list calls the particle, else the label of its stack."""
    kind = one.entries.get("eucentric_kind")
    if isinstance(kind, str):
        return kind
    label = Path(one.file.replace("\\", "/")).stem.partition("__")[2]
    return re.sub(r"_(reextract|bin\d+(_5)?)$", "", label).replace(_NO_KIND, "")


def _boxes(place: Path, entries: Mapping[str, Any], frames: TomogramFrames) -> ParticleSet:
    name = eman2_name(place)
    rows = entries["boxes_3d"]
    if not isinstance(rows, list) or not all(isinstance(row, list) and len(row) >= 3 for row in rows):
        raise FormatError(f"`boxes_3d` of `{place}` is not a list of boxes; expected x, y, z and more for each.")
    index = number_rows([row[:3] for row in rows], 3, "boxes_3d", place)
    unit = one_number(entries.get("apix_unbin"))
    positions = index * unit if unit is not None and unit > 0 else frames.of(name).to_angstrom(index)
    scores = [one_number(row[4]) if len(row) > 4 else None for row in rows]
    groups = entries.get("class_list")
    labels = [_label(row[5] if len(row) > 5 else None, groups if isinstance(groups, Mapping) else {}) for row in rows]
    return ParticleSet.build(
        name,
        positions,
        scores=known_scores([np.nan if s is None else s for s in scores]),
        kinds=np.array(labels, dtype=np.str_),
    )


def _label(number: Any, groups: Mapping[str, Any]) -> str:
    group = groups.get(str(number))
    name = str(group["name"]) if isinstance(group, Mapping) and "name" in group else ""
    return "" if name == _NO_KIND else name


def _places(place: Path, entries: Mapping[str, Any], frames: TomogramFrames) -> ParticleSet:
    """From the JSON of `e2spt_extract.py --textin`."""
    parts = []
    for file, rows in entries.items():
        name = eman2_name(file)
        if not all(isinstance(row, list) and len(row) >= 4 for row in rows):
            raise FormatError(f"`{place}` has places in `{file[:60]}` that are not x, y, z and a Transform.")
        index = number_rows([row[:3] for row in rows], 3, file[:60], place)
        xforms = np.array([transform_matrix(row[3], place) for row in rows]).reshape(-1, 3, 4)
        more = [row[4] if len(row) > 4 and isinstance(row[4], Mapping) else {} for row in rows]
        scores = [one_number(m.get("eucentric_score")) for m in more]
        parts.append(
            ParticleSet.build(
                name,
                (index + xforms[:, :, 3]) * frames.of(name).voxel_size_angstrom if len(rows) else np.zeros((0, 3)),
                rotations=xforms[:, :, :3],
                scores=[np.nan if s is None else s for s in scores],
                kinds=np.array([str(m.get("eucentric_kind") or "") for m in more], dtype=np.str_),
            )
        )
    return ParticleSet.concatenate(parts)


def write_eman2_particles(path: PathLike, particles: ParticleSet, frames: TomogramFrames) -> None:
    """Write a `.lst` (for particles that are or will be extracted), an `_info.json` (boxes, of one tomogram), or another `.json`.

    The last is for ``e2spt_extract.py --textin``, which cuts the particles out of `tomograms/<name>.hdf`, turned as they are here.

    Raises
    ------
    InputError : a tomogram of unknown size; boxes of several tomograms; another ending
    FormatError : boxes into an info file that is damaged
    """
    place = Path(path)
    if place.name.lower().endswith(_INFO):
        _write_boxes(place, particles, frames)
    elif place.suffix.lower() == ".lst":
        write_lst(place, _listed(particles, frames))
    elif place.suffix.lower() == ".json":
        _write_places(place, particles, frames)
    else:
        raise InputError(
            f"`{place.name}` is none of EMAN2's lists of particles. Give a name that ends in .lst, {_INFO} or .json."
        )


def _centred_voxels(particles: ParticleSet, frames: TomogramFrames) -> FloatArray:
    """(particle, 3) voxels from the centre of the tomogram."""
    return particles.positions_angstrom / frames.voxel_sizes(particles.tomograms)[:, None]


def _listed(particles: ParticleSet, frames: TomogramFrames) -> list[ListedImage]:
    places = _centred_voxels(particles, frames)
    halves = particles.columns.get(_HALF, np.arange(len(particles)) % 2 + 1.0)
    counts: dict[str, int] = {}
    listed = []
    for row, (name, kind) in enumerate(zip(particles.tomograms, particles.kinds, strict=True)):
        file = f"particles3d/{name}__{re.sub(r'[^A-Za-z0-9]+', '_', str(kind)) or _NO_KIND}.hdf"
        entries: dict[str, Any] = {
            "coord": [float(f"{v:.9g}") for v in places[row]],
            "xform.align3d": transform_entry(np.hstack([particles.rotations[row].T, np.zeros((3, 1))])),
            "class": int(halves[row] == 2.0),
            "eucentric_kind": str(kind),
        }
        if np.isfinite(particles.scores[row]):
            entries["score"] = -float(particles.scores[row])
        listed.append(ListedImage(index=counts.setdefault(file, 0), file=file, entries=entries))
        counts[file] += 1
    return listed


def _write_places(place: Path, particles: ParticleSet, frames: TomogramFrames) -> None:
    places = _centred_voxels(particles, frames)
    out: dict[str, list[Any]] = {}
    for row, name in enumerate(particles.tomograms):
        more: dict[str, Any] = {"eucentric_kind": str(particles.kinds[row])}
        if np.isfinite(particles.scores[row]):
            more["eucentric_score"] = float(particles.scores[row])
        turn = transform_entry(np.hstack([particles.rotations[row], np.zeros((3, 1))]))
        out.setdefault(f"tomograms/{name}.hdf", []).append([*(float(f"{v:.9g}") for v in places[row]), turn, more])
    write_eman2_json(place, out)


def _write_boxes(place: Path, particles: ParticleSet, frames: TomogramFrames) -> None:
    if len(particles.tomogram_names) > 1:
        raise InputError("An info file holds the boxes of one tomogram. Write one for each.")
    kept = read_eman2_json(place) if place.is_file() else {}
    unit = one_number(kept.get("apix_unbin"))
    if unit is None or unit <= 0:
        unit = frames.of(particles.tomogram_names[0]).voxel_size_angstrom if len(particles) else 1.0
    kinds = sorted({str(k) for k in particles.kinds})
    scores = np.nan_to_num(particles.scores)
    kept |= {
        "apix_unbin": unit,
        "boxes_3d": [
            [*(float(f"{v:.9g}") for v in at / unit), "eucentric", float(score), kinds.index(str(kind))]
            for at, score, kind in zip(particles.positions_angstrom, scores, particles.kinds, strict=True)
        ],
        "class_list": {str(i): {"name": kind or _NO_KIND, "boxsize": _BOX_PX} for i, kind in enumerate(kinds)},
    }
    write_eman2_json(place, kept)
