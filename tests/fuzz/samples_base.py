"""What samples are, and what several of them hold."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eucentric.models import ParticleSet, TomogramFrame, TomogramFrames

FRAMES = TomogramFrames(
    default=TomogramFrame(voxel_size_angstrom=4.0, size_xyz=(60, 50, 40)), numbers={1: "TS_1", 2: "TS_2"}
)
SHAPE = (3, 6, 5)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A reader and what it is tried on."""

    name: str
    make: Callable[[Path], Path]
    """Writes the files into an empty folder; the one to be read."""
    read: Callable[[Path], Any]


def volume(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(10.0, 3.0, SHAPE).astype(np.float32)


def particles() -> ParticleSet:
    from scipy.spatial.transform import Rotation

    rng = np.random.default_rng(1)
    return ParticleSet.build(
        ["TS_1"] * 4 + ["TS_2"] * 2,
        rng.normal(0, 40, (6, 3)).round(2),
        rotations=Rotation.random(6, rng=rng).as_matrix(),
        scores=rng.random(6).round(4),
        kinds=["1", "1", "2", "2", "1", "1"],
    )


def one_file(name: str, make: Callable[[Path], Any], read: Callable[[Path], Any]) -> Sample:
    """Of one file with a name."""

    def written(folder: Path) -> Path:
        make(folder / name)
        return folder / name

    return Sample(name=name, make=written, read=read)


def text_file(name: str, text: str, read: Callable[[Path], Any], title: str | None = None) -> Sample:
    one = one_file(name, lambda place: place.write_text(text, encoding="utf-8"), read)
    return one if title is None else Sample(name=title, make=one.make, read=one.read)
