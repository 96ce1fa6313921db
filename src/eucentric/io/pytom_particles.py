"""Particle lists of PyTom (XML) and of pytom-match-pick (STAR).

XML: PickPosition X, Y, Z in voxels counted from 0, Shift in voxels added to it, Rotation Z1, Z2, X in degrees: ``Rz(Z2) Rx(X) Rz(Z1)``
takes reference to tomogram (PyTom's `Rotation`, TOM's phi, psi, theta). The tomogram is the file named by PickPosition's Origin.

STAR: rlnCoordinateX/Y/Z in voxels of rlnDetectorPixelSize (A) counted from 0, the centre at voxel ``n // 2``; RELION's angles; the
score is rlnLCCmax (`extract.py`). With its RELION-5 option it writes centred coordinates, which `relion_particles` reads.
"""

from xml.etree import ElementTree

import numpy as np

from eucentric.errors import FormatError
from eucentric.geometry import Rotation
from eucentric.io.atomic import write_text_atomic
from eucentric.io.particle_columns import known_scores, matrices_from_tom, need_file, tom_angles
from eucentric.io.star import read_star, read_star_text, write_star
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
    try:
        root = ElementTree.parse(place).getroot()
    except ElementTree.ParseError as error:
        raise FormatError(f"`{place}` is not XML that can be read: {error}.") from error
    if root.tag != "ParticleList":
        raise FormatError(f"`{place}` is not a list of particles: it holds <{root.tag}>; expected <ParticleList>.")
    names, index, angles, scores, kinds = [], [], [], [], []
    for number, one in enumerate(root.iter("Particle"), 1):
        try:
            names.append(_tomogram(one))
            pick, shift = one.find("PickPosition"), one.find("Shift")
            if pick is None:
                raise KeyError("PickPosition")
            moved = [float(shift.get(a, "0")) if shift is not None else 0.0 for a in "XYZ"]
            index.append([float(pick.attrib[a]) + m for a, m in zip("XYZ", moved, strict=True)])
            turn = one.find("Rotation")
            angles.append([float(turn.attrib[a]) if turn is not None else 0.0 for a in ("Z1", "Z2", "X")])
            score = one.find("Score")
            scores.append(float(score.get("Value") or "nan") if score is not None else float("nan"))
            group = one.find("Class")
            kinds.append(group.get("Name", "") if group is not None else "")
        except (KeyError, ValueError) as error:
            raise FormatError(
                f"Particle {number} of `{place}` lacks a value, or has one that is no number: {error}."
            ) from error
    tomograms = np.array(names, dtype=np.str_)
    turns = np.array(angles).reshape(-1, 3)
    return ParticleSet.build(
        tomograms,
        frames.to_angstrom(tomograms, np.array(index).reshape(-1, 3)),
        rotations=matrices_from_tom(*turns.T),
        scores=np.array(scores),
        kinds=np.array(kinds, dtype=np.str_),
    )


def _tomogram(particle: ElementTree.Element) -> str:
    for tag, attribute in (("PickPosition", "Origin"), ("InfoTomogram", "TomoName")):
        found = particle.find(tag)
        if found is not None and found.get(attribute):
            return tomogram_name(found.attrib[attribute])
    raise KeyError("the tomogram (Origin of PickPosition)")


def write_pytom_xml(path: PathLike, particles: ParticleSet, frames: TomogramFrames) -> None:
    """Write a PyTom `ParticleList`; kinds become class names."""
    root = ElementTree.Element("ParticleList")
    index = frames.to_index(particles.tomograms, particles.positions_angstrom)
    phi, psi, theta = tom_angles(particles.rotations)
    for i, name in enumerate(particles.tomograms):
        one = ElementTree.SubElement(root, "Particle", Filename=f"Subtomograms/{name}/particle_{i}.em")
        ElementTree.SubElement(
            one, "Rotation", X=f"{theta[i]:.6f}", Paradigm="ZXZ", Z1=f"{phi[i]:.6f}", Z2=f"{psi[i]:.6f}"
        )
        ElementTree.SubElement(one, "Shift", X="0.0", Y="0.0", Z="0.0")
        x, y, z = (f"{v:.5f}" for v in index[i])
        ElementTree.SubElement(one, "PickPosition", Origin=f"{name}.mrc", X=x, Y=y, Z=z)
        if not np.isnan(particles.scores[i]):
            ElementTree.SubElement(one, "Score", Type="FLCFScore", Value=repr(float(particles.scores[i])))
        ElementTree.SubElement(one, "Class", Name=str(particles.kinds[i]))
    ElementTree.indent(root)
    write_text_atomic(path, ElementTree.tostring(root, encoding="unicode") + "\n")


def read_pytom_star(path: PathLike, frames: TomogramFrames) -> ParticleSet:
    """Particles of pytom-match-pick in voxels; errors as :func:`read_pytom_xml`."""
    place = need_file(path)
    needed = (*_COORDINATES, *_ANGLES, _TOMOGRAM)
    block = next((b for b, t in read_star_text(place).items() if all(c in t for c in needed)), None)
    if block is None:
        raise FormatError(f"`{place}` has no table with {', '.join(needed)}.")
    table, texts = read_star(place)[block], read_star_text(place)[block]
    tomograms = np.array([tomogram_name(name or "") for name in texts[_TOMOGRAM]], dtype=np.str_)
    try:
        index, angles = (table[list(c)].to_numpy(dtype=np.float64) for c in (_COORDINATES, _ANGLES))
        scores = table[_SCORE].to_numpy(dtype=np.float64) if _SCORE in table else np.zeros(len(table))
    except ValueError as error:
        raise FormatError(f"`{place}` has a value that is not a number: {error}.") from error
    return ParticleSet.build(
        tomograms,
        frames.to_angstrom(tomograms, index),
        rotations=Rotation.from_relion(*angles.T).matrices,
        scores=known_scores(scores),
        columns={
            label: table[label].to_numpy(dtype=np.float64) for label in ("rlnCutOff", "rlnSearchStd") if label in table
        },
    )


def write_pytom_star(path: PathLike, particles: ParticleSet, frames: TomogramFrames) -> None:
    """Write a table as pytom-match-pick does."""
    index = frames.to_index(particles.tomograms, particles.positions_angstrom)
    angles = Rotation(particles.rotations).as_relion()
    table: dict[str, list[object]] = {name: index[:, i].tolist() for i, name in enumerate(_COORDINATES)}
    table |= {name: angle.tolist() for name, angle in zip(_ANGLES, angles, strict=True)}
    table[_SCORE] = np.nan_to_num(particles.scores).tolist()
    table[_PIXEL] = frames.voxel_sizes(particles.tomograms).tolist()
    table[_TOMOGRAM] = [str(name) for name in particles.tomograms]
    write_star(path, {"": table})
