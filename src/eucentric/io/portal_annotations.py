"""Annotations of points of the CryoET Data Portal: `Annotations/100/NAME-1.0_orientedpoint.ndjson`, a JSON object a line.

`type` is `point`, `orientedPoint` or `instancePoint`; `location` x, y, z in voxels of the tomogram from the middle of its first voxel;
`xyz_rotation_matrix` takes the reference to the tomogram, as the inverse of RELION's angles does; `instance_id` of filaments and
others that have several points. (chanzuckerberg/cryoet-data-portal-backend, `common/point_converter.py`. Lists of programs that count
voxels from 1, such as STOPGAP's, are stored there as they were given: such annotations lie a voxel off.)
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from eucentric.errors import FormatError, InputError
from eucentric.io import labels
from eucentric.io.atomic import write_text_atomic
from eucentric.io.particle_columns import nearest_rotations, need_file
from eucentric.models.particles import ParticleSet
from eucentric.models.tomogram_frames import TomogramFrames
from eucentric.typing import FloatArray, PathLike

_TYPES = ("point", "orientedPoint", "instancePoint")
_NAME = re.compile(r"^(?:\d+-)?(?P<name>.+?)-\d+(?:\.\d+)*(?P<shape>_[a-z]+)?\.ndjson$")
_FAR = 1e7
_LONGEST_LINE = 100_000


def read_portal_annotations(path: PathLike, frames: TomogramFrames, tomogram: str | None = None) -> ParticleSet:
    """Points of a `.ndjson`, or of all of them in a folder and those below it.

    Parameters
    ----------
    frames : grids of the tomograms that were annotated
    tomogram : its name; where None, the folder above `Reconstructions`, as the portal has it

    Raises
    ------
    InputError : no such file, no name of the tomogram, or a tomogram of unknown size
    FormatError : a line that is not such a point; the message names it
    """
    place = Path(path)
    if not place.is_dir():
        return _read_file(need_file(place), frames, tomogram)
    files = sorted(place.rglob("*.ndjson"))
    if not files:
        raise InputError(f"`{place}` holds no annotation of points (`.ndjson`).")
    return ParticleSet.concatenate([_read_file(file, frames, tomogram) for file in files])


def _run_name(file: Path) -> str:
    parts = file.resolve().parts
    if "Reconstructions" not in parts or parts.index("Reconstructions") < 1:
        raise InputError(
            f"`{file}` does not tell its tomogram: it lies in no folder RUN/Reconstructions. Give the name."
        )
    return parts[parts.index("Reconstructions") - 1]


def _kind(file: Path) -> str:
    """The name of what is annotated: from the metadata beside it, else from the name of the file."""
    match = _NAME.match(file.name)
    for beside in {file.with_suffix(".json"), file.with_name(re.sub(r"_[a-z]+\.ndjson$", ".json", file.name))}:
        try:
            name = json.loads(beside.read_text(encoding="utf-8"))["annotation_object"]["name"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
        if isinstance(name, str) and name.strip():
            return name.strip()
    return file.stem if match is None else match["name"]


def _lines(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with file.open(encoding="utf-8", errors="replace") as stream:
        for line_number, line in enumerate(iter(lambda: stream.readline(_LONGEST_LINE), ""), 1):
            if not line.strip():
                continue
            try:
                point = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise FormatError(
                    f"Line {line_number} of `{file}` is not JSON: {str(error)[:80]}. Copy it again."
                ) from error
            if not isinstance(point, dict):
                raise FormatError(
                    f"Line {line_number} of `{file}` is no JSON object; expected a point with a location."
                )
            yield line_number, point


def _read_file(file: Path, frames: TomogramFrames, tomogram: str | None) -> ParticleSet:
    name = tomogram or _run_name(file)
    where: list[FloatArray] = []
    turns: list[FloatArray | None] = []
    instances: list[float] = []
    for line_number, point in _lines(file):
        if point.get("type", "point") not in _TYPES:
            raise FormatError(
                f"Line {line_number} of `{file}` is of type `{str(point['type'])[:40]}`; expected {', '.join(_TYPES)}."
            )
        try:
            location = np.array([float(point["location"][a]) for a in "xyz"])
            matrix = point.get("xyz_rotation_matrix")
            turn = None if matrix is None else np.array(matrix, dtype=np.float64).reshape(3, 3)
            instance = float(point.get("instance_id") or 0)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise FormatError(
                f"Line {line_number} of `{file}` is no point of the data portal: {type(error).__name__}: {str(error)[:80]}."
            ) from error
        far = not np.isfinite(location).all() or np.abs(location).max() > _FAR or not np.isfinite(instance)
        if far or (turn is not None and not ((np.abs(turn) < 2.0).all() and 0.5 < np.linalg.det(turn) < 2.0)):
            raise FormatError(f"Line {line_number} of `{file}` has a place or a rotation that cannot be.")
        where.append(location)
        turns.append(turn)
        instances.append(instance)
    if not where:
        return ParticleSet.empty()
    matrices = np.array([np.eye(3) if t is None else t for t in turns])
    return ParticleSet.build(
        name,
        frames.of(name).to_angstrom(np.array(where)),
        rotations=nearest_rotations(matrices) if any(t is not None for t in turns) else None,
        kinds=_kind(file),
        columns={labels.INSTANCE: instances} if any(instances) else None,
    )


def write_portal_annotations(folder: PathLike, particles: ParticleSet, frames: TomogramFrames) -> list[Path]:
    """Write `RUN/Reconstructions/VoxelSpacing10.000/Annotations/NUMBER/` for each tomogram and kind; the files made.

    The metadata beside the points hold the name of the object and how many there are. Authors, methods and dates, which the portal
    asks for, are to be filled in by who deposits them. Scores are not kept.

    Raises
    ------
    InputError : a tomogram of unknown size, or a place that cannot be written to
    BackendError : the disk is full
    """
    files: list[Path] = []
    for tomogram in particles.tomogram_names:
        part = particles.in_tomogram(tomogram)
        frame = frames.of(tomogram)
        place = (
            Path(folder) / tomogram / "Reconstructions" / f"VoxelSpacing{frame.voxel_size_angstrom:.3f}" / "Annotations"
        )
        for at, kind in enumerate(sorted({str(k) for k in part.kinds})):
            some = part.select(part.kinds == kind)
            stem = re.sub(r"[^A-Za-z0-9]+", "_", kind).strip("_").lower() or "particle"
            shape = "orientedpoint" if some.oriented else "point"
            file = place / str(100 + at) / f"{stem}-1.0_{shape}.ndjson"
            write_text_atomic(file, _points(some, frame.to_index(some.positions_angstrom)))
            about = {
                "annotation_object": {"name": kind or "particle"},
                "object_count": len(some),
                "version": "1.0",
                "files": [
                    {
                        "format": "ndjson",
                        "path": file.relative_to(Path(folder)).as_posix(),
                        "shape": "OrientedPoint" if some.oriented else "Point",
                        "is_visualization_default": True,
                    }
                ],
            }
            beside = file.with_name(f"{stem}-1.0.json")
            write_text_atomic(beside, json.dumps(about, indent=2) + "\n")
            files += [file, beside]
    return files


def _points(particles: ParticleSet, index: FloatArray) -> str:
    instances = particles.columns.get(labels.INSTANCE, np.zeros(len(particles)))
    lines = []
    for i, place in enumerate(index):
        point: dict[str, object] = {
            "type": "orientedPoint" if particles.oriented else "point",
            "location": dict(zip("xyz", place.tolist(), strict=True)),
        }
        if particles.oriented:
            point["xyz_rotation_matrix"] = particles.rotations[i].tolist()
        if np.isfinite(instances[i]) and instances[i]:
            point["instance_id"] = int(instances[i])
        lines.append(json.dumps(point, allow_nan=False) + "\n")
    return "".join(lines)
