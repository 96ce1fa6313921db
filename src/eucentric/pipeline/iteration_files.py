"""One folder for each iteration of an average: what the next one starts from. Its `state.json` is written last."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from eucentric.averaging.iterate_schedule import Round
from eucentric.averaging.results import HalfMapCorrelation
from eucentric.errors import FormatError
from eucentric.io.atomic import make_folder, write_text_atomic
from eucentric.io.mrc import read_mrc, write_mrc
from eucentric.io.particles import read_particles, write_particles
from eucentric.models.particles import ParticleSet
from eucentric.pipeline.average_files import write_fsc
from eucentric.typing import FloatArray

UNFINISHED = ""
"""Fingerprint of a folder that is not yet to be gone on from."""
_STATE, _PARTICLES = "state.json", "particles.star"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Iteration:
    """What an iteration left."""

    history: tuple[Round, ...]
    """Of all rounds up to this one."""
    particles: ParticleSet
    references: tuple[Tensor, Tensor]
    """Half maps, filtered and masked, that the next iteration aligns to."""
    voxel_size_angstrom: float
    low_pass_angstrom: float
    """Detail of the references that counts."""
    diameter_angstrom: float
    turn: FloatArray
    """(3, 3), by which the start was turned: what lay at Q x of it lies at x."""
    helix: tuple[float, float] | None = None
    """Rise in A and twist in degrees as known so far; None where the particle is no helix."""

    def write(self, folder: Path, fingerprint: str, correlation: HalfMapCorrelation | None) -> None:
        """Write everything to a folder, the mark that it is whole at last."""
        make_folder(folder)
        for number, volume in enumerate(self.references, 1):
            write_mrc(folder / f"reference{number}.mrc", volume.cpu().numpy(), self.voxel_size_angstrom)
        write_particles(folder / _PARTICLES, self.particles, "relion5")
        if correlation is not None:
            write_fsc(folder / "fsc.star", correlation)
        values = {
            "fingerprint": fingerprint,
            "voxel_size_angstrom": self.voxel_size_angstrom,
            "low_pass_angstrom": self.low_pass_angstrom,
            "diameter_angstrom": self.diameter_angstrom,
            "turn": self.turn.tolist(),
            "helix": None if self.helix is None else list(self.helix),
            "history": [r.as_json() for r in self.history],
        }
        write_text_atomic(folder / _STATE, json.dumps(values, indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """What was written.

        Raises
        ------
        FormatError : a damaged folder
        """
        try:
            values = json.loads((folder / _STATE).read_text(encoding="utf-8"))
            volumes = [read_mrc(folder / f"reference{n}.mrc")[0] for n in (1, 2)]
            return cls(
                history=tuple(Round.from_json(r) for r in values["history"]),
                particles=read_particles(folder / _PARTICLES),
                references=(torch.from_numpy(np.array(volumes[0])), torch.from_numpy(np.array(volumes[1]))),
                voxel_size_angstrom=values["voxel_size_angstrom"],
                low_pass_angstrom=values["low_pass_angstrom"],
                diameter_angstrom=values["diameter_angstrom"],
                turn=np.array(values["turn"], dtype=np.float64),
                helix=None if values.get("helix") is None else (values["helix"][0], values["helix"][1]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError(
                f"`{folder}` is damaged ({error}). Remove that folder, and the iteration is done again."
            ) from error


def last_iteration(folder: Path, fingerprint: str) -> tuple[int, bool]:
    """Number of the last whole iteration of the same settings, -1 where none; and whether there are others'."""
    last, others = -1, False
    for place in sorted(folder.glob("[0-9][0-9][0-9]")):
        state = place / _STATE
        if not state.is_file():
            continue
        try:
            mark = json.loads(state.read_text(encoding="utf-8")).get("fingerprint")
        except ValueError:
            continue
        if mark == fingerprint and int(place.name) == last + 1:
            last += 1
        others = others or mark not in (fingerprint, UNFINISHED)
    return last, others


def remove_iterations(folder: Path) -> None:
    """Remove the folders of all iterations."""
    for place in folder.glob("[0-9][0-9][0-9]"):
        shutil.rmtree(place)
