"""Particles as annotations of neuroglancer: points with score and kind, and lines along the axes of each.

The format is `neuroglancer_annotations_v1`: little-endian float32 coordinates, then properties, the longest numbers first, padded to
four bytes, then 64-bit numbers of the annotations. Coordinates are A from the specimen centre, x, y, z.
Reference: github.com/google/neuroglancer, src/datasource/precomputed/annotations.md.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from eucentric.models.particles import ParticleSet

Form = Literal["points", "axes"]
COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")
"""Okabe and Ito: told apart by all eyes. Of kinds, in the order of their names."""
_LOW, _HIGH = np.array([72, 40, 120]), np.array([253, 231, 37])
_MIDDLE = np.array([33, 145, 140])
"""Of scores: the ends and the middle of viridis."""
_MARGIN = 1.0


def axis_length_angstrom(particles: ParticleSet) -> float:
    """Of the lines along z: half of the usual distance to the nearest other particle, between 40 and 400 A."""
    if len(particles) < 2:
        return 150.0
    from scipy.spatial import KDTree

    distance = np.asarray(KDTree(particles.positions_angstrom).query(particles.positions_angstrom, k=2)[0])
    return float(np.clip(0.5 * np.median(distance[:, 1]), 40.0, 400.0))


def kind_colours(particles: ParticleSet) -> dict[str, str]:
    """The colour of each kind; nameless ones too."""
    return {kind: COLOURS[i % len(COLOURS)] for i, kind in enumerate(sorted(set(particles.kinds.tolist())))}


def annotation_info(particles: ParticleSet, form: Form) -> dict[str, Any]:
    """The file `info`."""
    ends = _coordinates(particles, form).reshape(-1, 3)
    low = ends.min(axis=0) - _MARGIN if len(ends) else np.full(3, -_MARGIN)
    high = ends.max(axis=0) + _MARGIN if len(ends) else np.full(3, _MARGIN)
    return {
        "@type": "neuroglancer_annotations_v1",
        "dimensions": {name: [1e-10, "m"] for name in "xyz"},
        "lower_bound": low.tolist(),
        "upper_bound": high.tolist(),
        "annotation_type": "POINT" if form == "points" else "LINE",
        "properties": [{"id": name, "type": kind, "description": words} for name, kind, words, _ in _properties(form)],
        "relationships": [],
        "by_id": {"key": "by_id"},
        "spatial": [
            {
                "key": "all",
                "grid_shape": [1, 1, 1],
                "chunk_size": (high - low).tolist(),
                "limit": max(1, len(ends)),
            }
        ],
    }


def _properties(form: Form) -> list[tuple[str, str, str, str]]:
    """Name, type, meaning and numpy type, in the order they are written."""
    number = [("score", "float32", "score of the particle", "<f4"), ("number", "uint32", "row in its list", "<u4")]
    colours = [("kind_color", "rgb", "colour of its kind", "3u1"), ("score_color", "rgb", "colour of its score", "3u1")]
    return [*number, *colours] if form == "points" else [*number, colours[0], ("axis", "uint8", "0 z, 1 x", "u1")]


def _coordinates(particles: ParticleSet, form: Form) -> NDArray[np.float64]:
    places = particles.positions_angstrom
    if form == "points":
        return np.array(places)
    long = axis_length_angstrom(particles)
    along_z = np.concatenate([places, places + long * particles.rotations[:, :, 2]], axis=1)
    along_x = np.concatenate([places, places + 0.5 * long * particles.rotations[:, :, 0]], axis=1)
    return np.stack([along_z, along_x], axis=1).reshape(-1, 6)


def records(particles: ParticleSet, form: Form) -> tuple[NDArray[Any], NDArray[np.uint64]]:
    """What is written of every annotation, and its number: the row of the particle from 0, of axes 2 row and 2 row + 1."""
    coordinates = _coordinates(particles, form)
    fields: list[tuple[str, str]] = [("place", f"{coordinates.shape[1]}<f4")]
    fields += [(name, kind) for name, _, _, kind in _properties(form)]
    size = np.dtype(fields).itemsize
    if size % 4:
        fields.append(("padding", f"V{4 - size % 4}"))
    made = np.zeros(len(coordinates), np.dtype(fields))
    repeat = 1 if form == "points" else 2
    made["place"] = coordinates
    made["score"] = np.repeat(np.nan_to_num(particles.scores), repeat)
    made["number"] = np.repeat(np.arange(1, len(particles) + 1), repeat)
    colours = kind_colours(particles)
    made["kind_color"] = np.repeat(
        np.array([_rgb(colours[k]) for k in particles.kinds.tolist()], np.uint8).reshape(-1, 3), repeat, axis=0
    )
    if form == "points":
        made["score_color"] = score_colours(particles.scores)
    else:
        made["axis"] = np.tile([0, 1], len(particles))
    return made, np.arange(len(made), dtype=np.uint64)


def all_annotations(particles: ParticleSet, form: Form) -> bytes:
    """The one chunk of the spatial index."""
    made, numbers = records(particles, form)
    return len(made).to_bytes(8, "little") + made.tobytes() + numbers.astype("<u8").tobytes()


def one_annotation(particles: ParticleSet, form: Form, number: int) -> bytes:
    """By its number; IndexError where there is none."""
    made, _ = records(particles, form)
    if not 0 <= number < len(made):
        raise IndexError(number)
    return made[number : number + 1].tobytes()


def score_colours(scores: NDArray[np.float64]) -> NDArray[np.uint8]:
    """(particle, 3) from the 2nd to the 98th percentile; grey where there is no score."""
    colours = np.full((len(scores), 3), 128, np.uint8)
    known = np.isfinite(scores)
    if known.any():
        low, high = np.percentile(scores[known], (2, 98))
        place = np.clip((scores[known] - low) / max(high - low, 1e-12), 0, 1)[:, None]
        lower, upper = _LOW + 2 * place * (_MIDDLE - _LOW), _MIDDLE + (2 * place - 1) * (_HIGH - _MIDDLE)
        colours[known] = np.rint(np.where(place < 0.5, lower, upper)).astype(np.uint8)
    return colours


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
