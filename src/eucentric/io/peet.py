"""Projects of PEET: a parameter file (`.prm`) with models and motive lists of several tomograms (see `peet_lists`)."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from eucentric.errors import FormatError, InputError
from eucentric.io.atomic import write_text_atomic
from eucentric.io.imod_particles import read_imod_particles, write_imod_particles
from eucentric.io.peet_lists import is_there, prm_models, prm_texts, read_prm
from eucentric.models.particles import ParticleSet
from eucentric.models.tomogram_frames import TomogramFrames, tomogram_name
from eucentric.typing import PathLike


def read_peet(path: PathLike, frames: TomogramFrames) -> ParticleSet:
    """Particles of all tomograms of a `.prm`, or of one motive list (`.csv`) or model (`.mod`).

    Of every tomogram the list of the last iteration is read that lies beside the `.prm`, else the initial one. Points without a
    row in it are left out, as PEET does.

    Raises
    ------
    InputError : no such file, a model is missing, or a tomogram of unknown size
    FormatError : a damaged file, or lists of unequal length
    """
    place = Path(path)
    if place.suffix.lower() != ".prm":
        return read_imod_particles(place, frames)
    entries = read_prm(place)
    volumes = prm_texts(entries.get("fnVolume", ""))
    models = prm_models(place)
    if "fnModParticle" not in entries or len(models) != len(volumes):
        raise FormatError(
            f"`{place}` names {len(volumes)} tomograms (fnVolume) and {len(models)} models (fnModParticle); expected as many of both."
        )
    parts = []
    for volume, (model, lists) in zip(volumes, models, strict=True):
        if not is_there(model):
            raise InputError(
                f"`{place}` names the model `{str(model)[-120:]}`, which is not there. Give the folder it was made in."
            )
        table = next((p for p in lists if is_there(p)), None)
        parts.append(read_imod_particles(model, frames, tomogram_name(volume), table=table))
    return ParticleSet.concatenate(parts)


def write_peet(
    path: PathLike,
    particles: ParticleSet,
    frames: TomogramFrames,
    *,
    volumes: Mapping[str, str] | None = None,
    tilt_ranges_deg: Mapping[str, tuple[float, float]] | None = None,
) -> list[Path]:
    """Write a `.prm`, and a model and a motive list for each tomogram beside it; the files made.

    Parameters
    ----------
    volumes : name of a tomogram -> its file; `<name>.mrc` where not given
    tilt_ranges_deg : name of a tomogram -> least and largest tilt, for the missing wedge; left out unless given for all

    Raises
    ------
    InputError : another ending, a tomogram of unknown size, or a quote in a name
    BackendError : the disk is full
    """
    place = Path(path)
    if place.suffix.lower() != ".prm":
        raise InputError(f"`{place.name}` is no parameter file of PEET. Give a name that ends in .prm.")
    names = particles.tomogram_names
    files = {name: (volumes or {}).get(name, f"{name}.mrc") for name in names}
    if any("'" in text for text in (*files.values(), *names, place.stem)):
        raise InputError("The name of a tomogram or of the project holds a quote, which PEET cannot read. Rename it.")
    made = []
    for name in names:
        model = place.with_name(f"{name}.mod")
        write_imod_particles(model, particles.in_tomogram(name), frames, with_table=True)
        made += [model, model.with_suffix(".csv")]
    ranges = [(tilt_ranges_deg or {}).get(name) for name in names]
    known = [r for r in ranges if r is not None and np.isfinite(r).all()]
    lines = [
        "# Open this file in etomo and set the size of the particles, the mask and the search before running it.",
        f"fnVolume = {_cell([files[name] for name in names])}",
        f"fnModParticle = {_cell([f'{name}.mod' for name in names])}",
        f"initMOTL = {_cell([f'{name}.csv' for name in names])}",
        f"fnOutput = '{place.stem}'",
    ]
    if known and len(known) == len(names):
        lines.append("tiltRange = {" + ", ".join(f"[{low:g}, {high:g}]" for low, high in known) + "}")
        lines.append("flgWedgeWeight = 1")
    write_text_atomic(place, "\n".join(lines) + "\n")
    return [*made, place]


def _cell(texts: list[str]) -> str:
    return "{" + ", ".join(f"'{text}'" for text in texts) + "}"
