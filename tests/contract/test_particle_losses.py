"""What a format of particle lists loses is told: every format is written and read with a full set, and what comes back compared."""

from pathlib import Path

import numpy as np
import pytest

from eucentric.geometry import Rotation
from eucentric.io.particle_losses import particle_losses
from eucentric.io.particles import ONE_TOMOGRAM, PARTICLE_FORMATS, READ_ONLY, read_particles, write_particles
from eucentric.io.plain_particles import PlainWords
from eucentric.models import ParticleSet
from eucentric.models.tomogram_frames import TomogramFrame, TomogramFrames

FRAMES = TomogramFrames(
    by_name={
        "TS_01_1": TomogramFrame(voxel_size_angstrom=8.0, size_xyz=(120, 100, 50)),
        "TS_02_1": TomogramFrame(voxel_size_angstrom=8.0, size_xyz=(101, 97, 33)),
    }
)
PIXEL = "rlnTomoTiltSeriesPixelSize"
ANGLES = np.array([[20.0, 35, -110], [10, 20, 30], [-170, 100, 50], [5, 90, 0], [77, 144, 178]])
WRITTEN = [*sorted(set(PARTICLE_FORMATS) - READ_ONLY), "eman2:places.json", "plain:none"]
ABOUT = {
    "orientations": "orientations",
    "kinds": "kinds",
    "no kind": "without a kind",
    "scores": "scores",
    "no score": "without a score",
    "columns": "of numbers",
    "names": "names of the particles|named anew",
    "texts": "of texts",
}


def full(**changes: object) -> ParticleSet:
    """Everything that a set can have, in two tomograms."""
    fields: dict = {
        "rotations": Rotation.from_relion(*ANGLES.T).matrices,
        "scores": [0.5, 0.25, np.nan, 0.125, 0.625],
        "kinds": ["ribosome", "", "atpase", "ribosome", "atpase"],
        "columns": {
            PIXEL: [4.0] * 5,
            "rlnRandomSubset": [2, 1, 2, 2, 1],
            "eucInstance": [3, 1, 2, 3, 2],
            "rlnCutOff": [0.1, 0.2, 0.3, 0.4, 0.5],
            "dynRegion": [5, 6, 7, 8, 9],
            "mine": [1.5, 2.5, np.nan, 4.5, 5.5],
        },
        "texts": {"rlnTomoParticleName": list("abcde"), "rlnImageName": [f"stack/{i}" for i in range(5)]},
    }
    return ParticleSet.build(
        ["TS_01_1", "TS_01_1", "TS_02_1", "TS_01_1", "TS_02_1"],
        [[123.4, -321.07, 55.5], [0, 0, 0], [-400.25, 17.5, -99.9], [8.0, 16, -24], [1.0, -2, 3]],
        **(fields | changes),
    )


def carried(sort: str, ours: ParticleSet, folder: Path) -> tuple[ParticleSet, tuple[str, ...]]:
    """What comes back of a set in its own order, and what is told to be lost."""
    name, _, variant = sort.partition(":")
    words = PlainWords(origin="centre", unit="angstrom", euler="none") if name == "plain" and variant else None
    ending = "" if name in ONE_TOMOGRAM else PARTICLE_FORMATS[name]
    path = folder / (variant if name == "eman2" and variant else f"list{ending}")
    write_particles(path, ours, name, FRAMES, words=words)
    back = read_particles(path, FRAMES, name)
    gap = np.linalg.norm(back.positions_angstrom[None] - ours.positions_angstrom[:, None], axis=-1)
    assert gap.min(axis=1).max() < 0.08
    assert len(back) == len(ours)
    return back.select(gap.argmin(axis=1)), particle_losses(ours, name, path=path, words=words)


def lost(ours: ParticleSet, back: ParticleSet) -> set[str]:
    """What came back otherwise."""
    found = set()
    turned = Rotation(back.rotations).angle_to_deg(Rotation(ours.rotations))
    if np.max(turned) > 0.01:
        found.add("orientations")
    kind, none = ours.kinds != "", ours.kinds == ""
    if (back.kinds != ours.kinds)[kind].any():
        found.add("kinds")
    if kind.any() and (back.kinds[none] != "").any():
        found.add("no kind")
    known = np.isfinite(ours.scores)
    if not np.allclose(back.scores[known], ours.scores[known], atol=1e-6):
        found.add("scores")
    if np.isfinite(back.scores[~known]).any():
        found.add("no score")
    for label, column in ours.columns.items():
        # the pixel size of images is that of the grids given
        same = label in back.columns and (label == PIXEL or np.allclose(back.columns[label], column, equal_nan=True))
        found |= set() if same else {"columns"}
    for label, text in ours.texts.items():
        if label not in back.texts or (back.texts[label] != text).any():
            found.add("names" if label == "rlnTomoParticleName" else "texts")
    return found


def told(losses: tuple[str, ...]) -> set[str]:
    return {
        what
        for what, words in ABOUT.items()
        for sentence in losses
        if any(w in sentence for w in words.split("|"))
        and not (what == "kinds" and "without a kind" in sentence)
        and not (what == "scores" and "without a score" in sentence)
    }


SETS = {
    "full": {},
    "numbered kinds": {"kinds": ["3", "", "1", "3", "1"]},
    "one kind": {"kinds": "ribosome"},
    "no kinds": {"kinds": ""},
    "no scores": {"scores": np.nan},
    "every score": {"scores": [0.5, 0.25, 0.75, 0.125, 0.625]},
    "not turned": {"rotations": None, "scores": [0.5, 0.25, 0.75, 0.125, 0.625]},
    "scores of 0": {"scores": 0.0},
    "other subsets": {"columns": {PIXEL: [4.0] * 5, "rlnRandomSubset": [1, 2, 3, 1, 2]}},
    "columns with gaps": {"columns": {PIXEL: [4.0] * 5, "dynRegion": [1.5, np.nan, 3, 4, 5], "eucInstance": [1.5] * 5}},
    "names twice": {"texts": {"rlnTomoParticleName": ["a", "a", "b", "c", "d"]}},
    "bare": {"rotations": None, "scores": np.nan, "kinds": "", "columns": {PIXEL: [4.0] * 5}, "texts": {}},
}


@pytest.mark.parametrize("sort", WRITTEN)
@pytest.mark.parametrize("name", SETS)
def test_what_is_lost_is_told_and_nothing_else(name, sort, tmp_path):
    ours = full(**SETS[name])
    back, losses = carried(sort, ours, tmp_path)
    assert told(losses) == lost(ours, back), losses
    assert all(len(told((sentence,))) == 1 for sentence in losses), losses


def test_boxes_of_eman2_hold_places_alone(tmp_path):
    ours = full().in_tomogram("TS_01_1")
    path = tmp_path / "TS_01_1_info.json"
    write_particles(path, ours, "eman2", FRAMES)
    back = read_particles(path, FRAMES, "eman2")
    losses = particle_losses(ours, "eman2", path=path)
    assert told(losses) == lost(ours, back)
    assert losses[0] == "The orientations of 3 particles are left out: this list of eman2 holds places alone."


def test_the_sentences_name_and_count(tmp_path):
    assert particle_losses(full(), "dynamo") == (
        "The kinds atpase, ribosome became the numbers 1, 2: dynamo has no names of kinds.",
        "1 particle without a score got 0: dynamo needs one of each.",
        "Left out, as dynamo cannot hold them: 5 columns of numbers (rlnTomoTiltSeriesPixelSize, rlnRandomSubset, eucInstance, "
        "rlnCutOff, mine).",
        "The names of the particles are left out, which dynamo cannot hold.",
        "Left out, as dynamo cannot hold them: 1 column of texts (rlnImageName).",
    )
    assert particle_losses(full(), "relion5") == ()
    assert particle_losses(ParticleSet.empty(), "dynamo") == ()


@pytest.mark.parametrize("name", ["plain", "emclarity"])
def test_kinds_get_the_same_number_in_the_files_of_all_tomograms(name, tmp_path):
    """TS_02_1 has one kind alone: it is still number 1 there, and the ribosomes of TS_01_1 number 2."""
    back, _ = carried(name, full(kinds=["ribosome", "ribosome", "atpase", "ribosome", "atpase"]), tmp_path)
    assert back.kinds.tolist() == ["2", "2", "1", "2", "1"]


@pytest.mark.parametrize(("name", "ending"), [("peet", ".prm"), ("eman2", ".lst")])
def test_a_name_without_ending_becomes_a_folder_where_the_ending_matters(name, ending, tmp_path):
    ours = full()
    made = write_particles(tmp_path / "picks", ours, name, FRAMES)
    assert tmp_path / "picks" / f"picks{ending}" in made
    assert all(file.is_file() for file in made)
    assert len(read_particles(tmp_path / "picks", FRAMES, name)) == len(ours)
