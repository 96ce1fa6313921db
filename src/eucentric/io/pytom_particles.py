"""Particle lists of PyTom (XML) and of pytom-match-pick (STAR).

XML: PickPosition X, Y, Z in voxels counted from 0, Shift in voxels added to it, Rotation Z1, Z2, X in degrees: ``Rz(Z2) Rx(X) Rz(Z1)``
takes reference to tomogram (PyTom's `Rotation`, TOM's phi, psi, theta). The tomogram is the file named by PickPosition's Origin.

STAR: rlnCoordinateX/Y/Z in voxels of rlnDetectorPixelSize (A) counted from 0, the centre at voxel ``n // 2``; RELION's angles; the
score is rlnLCCmax (`extract.py`). With its RELION-5 option it writes centred coordinates, which `relion_particles` reads.
"""

import math
from pathlib import Path
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

import numpy as np

from eucentric.errors import FormatError
from eucentric.geometry import Rotation
from eucentric.io.atomic import atomic_path
from eucentric.io.particle_columns import grouped, known_scores, matrices_from_tom, need_file, need_finite, tom_angles
from eucentric.io.star import Column, read_star_columns, write_star
from eucentric.models.particles import ParticleSet
from eucentric.models.tomogram_frames import TomogramFrames, tomogram_name
from eucentric.typing import PathLike

_COORDINATES = tuple(f"rlnCoordinate{a}" for a in "XYZ")
_ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
_SCORE, _PIXEL, _TOMOGRAM = "rlnLCCmax", "rlnDetectorPixelSize", "rlnMicrographName"


def read_pytom_xml(path: PathLike, frames: TomogramFrames) -> ParticleSet:
    """Particles of a PyTom `ParticleList`.

    Raises
    ------
    InputError : no such file, or a tomogram of unknown size
    FormatError : not such a list, or a value missing or not a number
    """
    place = need_file(path)
    names: list[str] = []
    kinds: list[str] = []
    rows: list[tuple[float, ...]] = []
    try:
        parts = ElementTree.iterparse(place, events=("start", "end"))
        root = next(parts)[1]
        if root.tag != "ParticleList":
            raise FormatError(f"`{place}` is not a list of particles: it holds <{root.tag}>; expected <ParticleList>.")
        for event, one in parts:
            if event == "end" and one.tag == "Particle":
                name, kind, row = _particle(one, len(rows) + 1, place)
                names.append(name)
                kinds.append(kind)
                rows.append(row)
                root.clear()  # a long list would fill the memory
    except (ElementTree.ParseError, StopIteration) as error:
        raise FormatError(f"`{place}` is not XML that can be read: {str(error) or 'it is empty'}.") from error
    tomograms, values = np.array(names, dtype=np.str_), np.array(rows, dtype=np.float64).reshape(-1, 7)
    need_finite(values[:, :6], "positions or angles", place)
    return ParticleSet.build(
        tomograms,
        frames.to_angstrom(tomograms, values[:, :3]),
        rotations=matrices_from_tom(*values[:, 3:6].T),
        scores=values[:, 6],
        kinds=np.array(kinds, dtype=np.str_),
    )


def _particle(one: ElementTree.Element, number: int, place: Path) -> tuple[str, str, tuple[float, ...]]:
    """Tomogram, class, and x, y, z in voxels, Z1, Z2, X and the score."""
    try:
        pick, shift = one.find("PickPosition"), one.find("Shift")
        if pick is None:
            raise KeyError("PickPosition")
        moved = [float(shift.get(a, "0")) if shift is not None else 0.0 for a in "XYZ"]
        index = [float(pick.attrib[a]) + m for a, m in zip("XYZ", moved, strict=True)]
        turn = one.find("Rotation")
        angles = [float(turn.attrib[a]) if turn is not None else 0.0 for a in ("Z1", "Z2", "X")]
        score, group = one.find("Score"), one.find("Class")
        value = float(score.get("Value") or "nan") if score is not None else float("nan")
        return _tomogram(one), group.get("Name", "") if group is not None else "", (*index, *angles, value)
    except (KeyError, ValueError) as error:
        raise FormatError(
            f"Particle {number} of `{place}` lacks a value, or has one that is no number: {error}."
        ) from error


def _tomogram(particle: ElementTree.Element) -> str:
    for tag, attribute in (("PickPosition", "Origin"), ("InfoTomogram", "TomoName")):
        found = particle.find(tag)
        if found is not None and found.get(attribute):
            return tomogram_name(found.attrib[attribute])
    raise KeyError("the tomogram (Origin of PickPosition)")


def write_pytom_xml(path: PathLike, particles: ParticleSet, frames: TomogramFrames) -> None:
    """Write a PyTom `ParticleList`; kinds become class names."""
    index = frames.to_index(particles.tomograms, particles.positions_angstrom).tolist()
    angles = np.stack(tom_angles(particles.rotations), axis=1).tolist()
    scores, kinds = particles.scores.tolist(), particles.kinds.tolist()
    quoted = {name: quoteattr(f"{name}.mrc") for name in particles.tomogram_names}
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as out:
        out.write("<ParticleList>\n")
        for i, name in enumerate(particles.tomograms.tolist()):
            (x, y, z), (phi, psi, theta) = index[i], angles[i]
            score = "" if math.isnan(scores[i]) else f'\n    <Score Type="FLCFScore" Value="{scores[i]!r}" />'
            out.write(
                f"  <Particle Filename={quoteattr(f'Subtomograms/{name}/particle_{i}.em')}>\n"
                f'    <Rotation X="{theta:.6f}" Paradigm="ZXZ" Z1="{phi:.6f}" Z2="{psi:.6f}" />\n'
                f'    <Shift X="0.0" Y="0.0" Z="0.0" />\n'
                f'    <PickPosition Origin={quoted[name]} X="{x:.5f}" Y="{y:.5f}" Z="{z:.5f}" />{score}\n'
                f"    <Class Name={quoteattr(kinds[i])} />\n  </Particle>\n"
            )
        out.write("</ParticleList>\n")


def read_pytom_star(path: PathLike, frames: TomogramFrames) -> ParticleSet:
    """Particles of pytom-match-pick in voxels; errors as :func:`read_pytom_xml`."""
    place = need_file(path)
    needed = (*_COORDINATES, *_ANGLES, _TOMOGRAM)
    table = next((t for t in read_star_columns(place).values() if all(c in t for c in needed)), None)
    if table is None:
        raise FormatError(f"`{place}` has no table with {', '.join(needed)}.")
    names, codes = grouped(table.texts(_TOMOGRAM))
    tomograms = np.array([tomogram_name(name) for name in names], dtype=np.str_)[codes]
    index, angles = (np.stack([table.numbers(c) for c in columns], axis=1) for columns in (_COORDINATES, _ANGLES))
    need_finite(np.concatenate([index, angles], axis=1), "positions or angles", place)
    return ParticleSet.build(
        tomograms,
        frames.to_angstrom(tomograms, index),
        rotations=Rotation.from_relion(*angles.T).matrices,
        scores=known_scores(table.numbers(_SCORE)) if _SCORE in table else np.nan,
        columns={label: table.numbers(label) for label in ("rlnCutOff", "rlnSearchStd") if label in table},
    )


def write_pytom_star(path: PathLike, particles: ParticleSet, frames: TomogramFrames) -> None:
    """Write a table as pytom-match-pick does."""
    index = frames.to_index(particles.tomograms, particles.positions_angstrom)
    angles = Rotation(particles.rotations).as_relion()
    table: dict[str, Column] = {name: index[:, i] for i, name in enumerate(_COORDINATES)}
    table |= dict(zip(_ANGLES, angles, strict=True))
    table |= {label: particles.columns[label] for label in ("rlnCutOff", "rlnSearchStd") if label in particles.columns}
    table[_SCORE] = np.nan_to_num(particles.scores)
    table[_PIXEL] = frames.voxel_sizes(particles.tomograms)
    table[_TOMOGRAM] = particles.tomograms
    write_star(path, {"": table})
