"""Picks of copick (`.json`): one kind of particle in one tomogram (a "run").

A point lies at location + the translation of its 4 x 4 transformation, in A from the centre of the first voxel; the 3 x 3 part takes
object to tomogram (copick's `CopickPoint`). Where `trust_orientation` is false the rotation is ignored.
"""

import json
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

_INSTANCE = labels.INSTANCE
_USER = "eucentric"
_FAR = 1e9


def _corner(frames: TomogramFrames, name: str) -> FloatArray:
    """The specimen centre, from the centre of the first voxel, A."""
    frame = frames.of(name)
    return np.asarray(np.array(frame.size_xyz) // 2 * frame.voxel_size_angstrom, dtype=np.float64)


def read_copick(path: PathLike, frames: TomogramFrames) -> ParticleSet:
    """Particles of a file of picks.

    Raises
    ------
    InputError : no such file, or a tomogram of unknown size
    FormatError : not picks of copick, or in another unit than Angstrom
    """
    place = need_file(path)
    try:
        document: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
        name, kind = str(document["run_name"]), str(document["pickable_object_name"])
        points = document.get("points") or []
        if document.get("unit", "angstrom") != "angstrom":
            raise FormatError(f"`{place}` is in {document['unit']}; expected angstrom.")
        where = np.array([[p["location"][a] for a in "xyz"] for p in points], dtype=np.float64).reshape(-1, 3)
        moves = np.array([p.get("transformation_") or np.eye(4) for p in points], dtype=np.float64).reshape(-1, 4, 4)
        scores = [np.nan if p.get("score") is None else float(p["score"]) for p in points]
        instances = [float(p.get("instance_id") or 0) for p in points]
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        raise FormatError(f"`{place}` is not a file of copick's picks: {type(error).__name__}: {error}.") from error
    trusted = document.get("trust_orientation", True) is not False
    if not (np.abs(where) < _FAR).all() or not (np.abs(moves) < _FAR).all():
        raise FormatError(f"`{place}` has a place or a transformation that cannot be. Copy it again.")
    determinants = np.linalg.det(np.clip(moves[:, :3, :3], -2.0, 2.0))
    if trusted and not ((determinants > 0.5) & (determinants < 2.0)).all():
        raise FormatError(f"`{place}` has a transformation that is not a rotation. Copy it again.")
    return ParticleSet.build(
        name,
        where + moves[:, :3, 3] - (_corner(frames, name) if len(points) else 0.0),
        rotations=nearest_rotations(moves[:, :3, :3]) if trusted else None,
        scores=np.array(scores, dtype=np.float64),
        kinds=kind,
        columns={_INSTANCE: instances} if any(instances) else None,
    )


def write_copick(
    path: PathLike,
    particles: ParticleSet,
    frames: TomogramFrames,
    *,
    object_name: str | None = None,
    user: str = _USER,
    session: str = "0",
) -> None:
    """Write the particles of one tomogram and one kind.

    Parameters
    ----------
    object_name : as the project calls them; the kind where None
    user, session : whose picks they are; session 0 is a program's

    Raises
    ------
    InputError : none, or of several tomograms or kinds
    """
    kinds = {str(kind) for kind in particles.kinds}
    if len(particles.tomogram_names) != 1 or len(kinds) != 1:
        raise InputError(
            "A file of copick holds one kind of particle of one tomogram. Give a folder to write one for each."
        )
    name = particles.tomogram_names[0]
    frame = frames.of(name)
    instances = particles.columns.get(_INSTANCE, np.zeros(len(particles)))
    points = []
    for i, place in enumerate(particles.positions_angstrom + _corner(frames, name)):
        move = np.eye(4)
        move[:3, :3] = particles.rotations[i]
        score = particles.scores[i]
        points.append(
            {
                "location": dict(zip("xyz", place.tolist(), strict=True)),
                "transformation_": move.tolist(),
                "instance_id": int(np.nan_to_num(instances[i])),
                "score": None if np.isnan(score) else float(score),
            }
        )
    document = {
        "pickable_object_name": object_name or kinds.pop() or "particle",
        "user_id": user,
        "session_id": session,
        "run_name": name,
        "voxel_spacing": frame.voxel_size_angstrom,
        "unit": "angstrom",
        "points": points,
        "trust_orientation": particles.oriented,
    }
    write_text_atomic(Path(path), json.dumps(document, indent=1) + "\n")
