"""Blob picking: balls in noise are found where they are, of their size, and what is not one is left out."""

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from eucentric.cli.main import run
from eucentric.errors import InputError
from eucentric.io.mrc import write_mrc
from eucentric.io.particles import read_particles
from eucentric.models import Specimen, TomogramFrame
from eucentric.picking.blob_params import BlobParams
from eucentric.picking.pick_blobs import _filtered, pick_blobs, q_values
from eucentric.pipeline.blob_files import slab_region
from eucentric.signal.roundness import roundness

VOXEL, DIAMETER = 10.0, 80.0
CENTRES = np.array([[20.3, 15.1, 12.0], [44.0, 40.6, 20.2], [20.0, 44.5, 24.8], [46.2, 14.0, 11.5]])  # x, y, z


def scene(*, gold: bool = False, noise: float = 0.3, diameters: tuple[float, ...] = (DIAMETER,) * 4) -> torch.Tensor:
    """Dark balls in white noise; a bead is ten times as dark."""
    z, y, x = np.meshgrid(*(np.arange(n) for n in (36, 60, 64)), indexing="ij")
    volume = np.random.default_rng(5).normal(0, noise, z.shape)
    for (a, b, c), d in zip(CENTRES, diameters, strict=True):
        gap = np.sqrt((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2)
        volume -= np.clip(d / 2 / VOXEL - gap + 0.5, 0, 1)
    if gold:
        gap = np.sqrt((x - 32) ** 2 + (y - 28) ** 2 + (z - 18) ** 2)
        volume -= 10.0 * np.clip(4.0 - gap + 0.5, 0, 1)
    return torch.from_numpy(volume.astype(np.float32))


def distances(index: np.ndarray) -> np.ndarray:
    return np.linalg.norm(index[:, None] - CENTRES[None], axis=-1)


@pytest.mark.parametrize("contrast", ["dark", "bright"])
def test_balls_are_found_to_a_fraction_of_a_voxel(contrast):
    volume = scene() if contrast == "dark" else -scene()
    found = pick_blobs(volume, VOXEL, BlobParams(diameter_angstrom=DIAMETER, contrast=contrast, min_score=8))
    assert len(found.scores) == 4
    assert distances(found.index_xyz).min(axis=0).max() < 0.5  # noise; a whole voxel would be off by up to 0.87
    assert (np.diff(found.scores) <= 0).all()
    wrong = pick_blobs(-volume, VOXEL, BlobParams(diameter_angstrom=DIAMETER, contrast=contrast, min_score=8))
    assert not (distances(wrong.index_xyz) < 2).any()


def test_gold_and_its_fringes_are_left_out_unless_asked_for():
    params = BlobParams(diameter_angstrom=DIAMETER, min_score=8, contamination_margin_angstrom=120)
    bead = np.array([32.0, 28.0, 18.0])

    def near(found) -> bool:
        return bool((np.linalg.norm(found.index_xyz - bead, axis=1) < 10).any())

    found = pick_blobs(scene(gold=True), VOXEL, params)
    assert not near(found)
    assert found.contaminated > 0
    assert (distances(found.index_xyz).min(axis=0) < 0.5).sum() >= 3
    assert near(pick_blobs(scene(gold=True), VOXEL, params.replace(contamination_ratio=None)))


def test_the_size_of_each_is_told():
    sizes = (80.0, 125.0, 80.0, 125.0)
    params = BlobParams(diameter_angstrom=80, largest_diameter_angstrom=125, min_score=8)
    found = pick_blobs(scene(diameters=sizes), VOXEL, params)
    row = distances(found.index_xyz).argmin(axis=0)
    np.testing.assert_allclose(found.diameters_angstrom[row], sizes)


def test_noise_alone_gives_no_pick():
    noise = torch.from_numpy(np.random.default_rng(1).normal(size=(36, 60, 64)).astype(np.float32))
    assert len(pick_blobs(noise, VOXEL, BlobParams(diameter_angstrom=DIAMETER)).scores) == 0


def test_q_values_by_hand():
    got = q_values(np.array([3.0, 9.0, 5.0, 7.0]), np.array([4.0, 6.0]))
    np.testing.assert_allclose(got, [0.75, 0.5, 2 / 3, 0.5])
    assert not len(q_values(np.zeros(0), np.zeros(3)))


def test_a_slab_follows_the_inclination_of_the_specimen():
    frame = TomogramFrame(voxel_size_angstrom=10.0, size_xyz=(41, 31, 21))
    flat = slab_region(frame, -35, 25)
    assert flat.any(axis=(1, 2)).nonzero()[0].tolist() == [7, 8, 9, 10, 11, 12]
    tilted = slab_region(frame, -5, 5, Specimen(y_tilt_deg=45.0, z_angstrom=20.0))
    assert tilted[12, 15, 20]
    assert tilted[7, 15, 15] == tilted[17, 15, 25] == False  # noqa: E712 - of numpy
    assert tilted[17, 15, 15] != tilted[17, 15, 25]


def test_picking_from_the_command_line(tmp_path, capsys):
    write_mrc(tmp_path / "TS_01.mrc", scene().numpy(), VOXEL)
    arguments = ["pick-blobs", str(tmp_path / "TS_01.mrc"), "--diameter", "80", "--min-score", "8"]
    assert run(arguments) == 2
    assert "--output" in capsys.readouterr().err
    out = tmp_path / "p.star"
    assert run([*arguments, "--output", str(out), "--z-range", "-70", "80"]) == 0
    picks = read_particles(out)
    centres = (CENTRES - [32, 30, 18]) * VOXEL
    gap = np.linalg.norm(picks.positions_angstrom[:, None] - centres[None], axis=-1)
    assert gap.min(axis=0).max() < 5.0
    assert run([*arguments, "--output", str(out)]) == 2
    assert run(["pick-blobs", str(tmp_path), "--diameter", "80"]) == 2
    assert "eucentric reconstruct" in capsys.readouterr().err


def test_what_cannot_be_picked():
    with pytest.raises(InputError, match="finer voxels"):
        pick_blobs(scene(), VOXEL, BlobParams(diameter_angstrom=20))
    with pytest.raises(InputError, match="larger than the tomogram"):
        pick_blobs(scene(), VOXEL, BlobParams(diameter_angstrom=500))
    with pytest.raises(InputError, match="no voxel"):
        pick_blobs(scene(), VOXEL, BlobParams(diameter_angstrom=80), region=torch.zeros((36, 60, 64), dtype=torch.bool))
    with pytest.raises((InputError, ValidationError)):
        BlobParams(diameter_angstrom=80, largest_diameter_angstrom=50)


def test_roundness_of_forms_that_are_known():
    """Curvatures of exp(-sum (x/w)^2 / 2) at 0 are 1/w^2: differences of two steps tell them apart."""
    z, y, x = np.meshgrid(*(np.arange(41) - 20.0 for _ in range(3)), indexing="ij")

    def form(a: float, b: float, c: float) -> np.ndarray:
        return np.exp(-((x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2) / 2)

    middle = np.array([[20.0, 20.0, 20.0]])
    for widths, expected in (((5, 5, 5), 1.0), ((5, 5, 20), 1.0), ((4, 40, 40), 0.01), ((5, 10, 10), 0.25)):
        assert roundness(form(*widths), middle, 1)[0] == pytest.approx(expected, abs=0.02)
    tilted = np.exp(-(((x + y + z) / math.sqrt(3) / 4) ** 2) / 2)
    assert roundness(tilted, middle, 1)[0] < 0.02
    with pytest.raises(InputError, match="step"):
        roundness(tilted, middle, 0)


def test_membranes_and_edges_are_told_from_balls():
    volume = scene()
    x = torch.arange(64)
    volume = volume - 1.5 * torch.exp(-(((x - 32.0) / 2) ** 2) / 2)  # a wall between the balls
    volume[:, :4] -= 3.0  # the field ends
    params = BlobParams(diameter_angstrom=DIAMETER, min_score=6, contamination_ratio=None)
    everything = pick_blobs(volume, VOXEL, params.replace(min_roundness=0.0))
    found = pick_blobs(volume, VOXEL, params)
    assert (distances(everything.index_xyz).min(axis=1) > 3).sum() >= 3
    assert (distances(found.index_xyz).min(axis=1) > 3).sum() <= 1
    assert distances(found.index_xyz).min(axis=0).max() < 1.0


def test_tiles_give_what_the_whole_volume_gives():
    volume = scene()
    whole, tiled = (_filtered(volume, VOXEL, [(20.0, 1.0), (30.0, -1.0)], n) for n in (10**9, 20000))
    torch.testing.assert_close(tiled, whole, atol=2e-5 * float(whole.abs().max()), rtol=0)  # the halo leaves out 4e-6
