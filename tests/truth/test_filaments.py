"""Filaments: centre lines and walls of simulated tubes in noise are found as they were made; and those of real microtubules."""

import json
import math

import numpy as np
import pytest
import tifffile
import torch
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from eucentric.cli.main import run
from eucentric.errors import InputError, ProcessingError
from eucentric.io.mrc import write_mrc
from eucentric.io.particles import read_particles
from eucentric.picking.centre_lines import centre_line
from eucentric.picking.filament_lattice import fit_wall_lattice, unroll_wall, wall_points
from eucentric.picking.refine_lines import VolumeSamples
from eucentric.picking.trace_filaments import trace_between, trace_filaments
from eucentric.picking.trace_params import TraceParams, WallParams
from eucentric.signal.lines import half_sphere, line_response

VOXEL = 12.0
TUBE = TraceParams(diameter_angstrom=250, wall_angstrom=50, contrast="bright")


def bent(length: float, bend: float, n: int = 9) -> np.ndarray:
    """Points of a line about x that bends sideways and upwards, A."""
    x = np.linspace(-length / 2, length / 2, n)
    return np.stack([x, bend * (2 * x / length) ** 2 - 50.0, 30.0 * x / length], axis=1)


def volume_of(points: np.ndarray, shape: tuple[int, int, int], noise: float, *, wedge: bool = True) -> torch.Tensor:
    """Points as soft balls in noise, seen by tilts about x to 60 degrees."""
    index = np.round(points / VOXEL + np.array(shape)[::-1] // 2).astype(int)
    grid = np.zeros(shape)
    inside = ((index >= 0) & (index < np.array(shape)[::-1])).all(axis=1)
    np.add.at(grid, tuple(index[inside][:, ::-1].T), 1.0)
    grid = gaussian_filter(grid, 12.0 / VOXEL)
    grid = grid / grid[grid > 0.1 * grid.max()].mean() + np.random.default_rng(3).normal(0, noise, shape)
    if wedge:
        kz, ky, _ = np.meshgrid(*(np.fft.fftfreq(n) for n in shape), indexing="ij")
        grid = np.fft.ifftn(np.fft.fftn(grid) * (np.abs(kz) <= math.tan(math.radians(60)) * np.abs(ky) + 1e-9)).real
    return torch.from_numpy(grid.astype(np.float32))


def microtubule(line: np.ndarray, number: int, *, hand: float = -1.0) -> np.ndarray:
    """Subunits of a wall with three starts, one for each 41 A of every protofilament."""
    path = centre_line(line)
    every = []
    for j in range(number):
        start = hand * j * 3 * 41.0 / number % 41.0  # counter-clockwise by j protofilaments: up on a right-handed helix
        places, frames = path.at(np.arange(start, path.length_angstrom, 41.0))
        angle = 2 * math.pi * j / number
        every.append(places + 105.0 * (math.cos(angle) * frames[:, :, 0] + math.sin(angle) * frames[:, :, 1]))
    return np.concatenate(every)


def test_half_a_sphere_is_even():
    ways = half_sphere(15.0)
    np.testing.assert_allclose(np.linalg.norm(ways, axis=1), 1.0)
    both = np.concatenate([ways, -ways])
    gap = np.rad2deg(2 * np.arcsin(cKDTree(both).query(both, k=2)[0][:, 1] / 2))
    assert gap.min() > 9
    assert gap.max() < 18


def test_a_line_scores_most_on_itself_and_along_itself():
    z, y, x = np.meshgrid(*(np.arange(n) - n // 2 for n in (24, 40, 40)), indexing="ij")
    way = np.array([math.cos(0.6), math.sin(0.6), 0.0])
    rod = torch.from_numpy((np.hypot(z, x * way[1] - y * way[0]) < 3).astype(np.float32))
    found = line_response(rod, 10.0, 60.0, step_deg=12.0)
    top = np.unravel_index(int(found.score.argmax()), rod.shape)
    assert np.hypot(top[0] - 12, (top[2] - 20) * way[1] - (top[1] - 20) * way[0]) < 1.0
    assert abs(found.directions[int(found.index[top])] @ way) > math.cos(math.radians(10))
    with pytest.raises(InputError, match="finer voxels"):
        line_response(rod, 10.0, 25.0)
    with pytest.raises(InputError, match="degrees"):
        half_sphere(0.0)


@pytest.mark.slow
def test_a_bent_tube_is_traced_to_a_fraction_of_a_voxel_and_noise_is_not():
    line = bent(1700.0, 130.0)
    shape = (40, 56, 150)
    tube = volume_of(microtubule(line, 13), shape, 1.2)
    found = trace_filaments(tube, VOXEL, TUBE)
    assert len(found) == 1
    true = centre_line(line)
    gap = cKDTree(true.places).query(found[0].points_angstrom)[0]
    assert gap.max() < 1.0 * VOXEL  # half of the goal
    assert abs(found[0].length_angstrom - true.length_angstrom) < 250.0
    assert 0 < found[0].sigma_angstrom < VOXEL
    ends = true.at([150.0, true.length_angstrom - 150.0])[0]
    between = trace_between(tube, VOXEL, ends + np.array([[0, 60, -40], [0, -50, 50]]), TUBE)
    assert cKDTree(true.places).query(between.points_angstrom)[0].max() < 1.0 * VOXEL
    noise = volume_of(np.zeros((1, 3)), shape, 1.2)
    assert trace_filaments(noise, VOXEL, TUBE) == []
    with pytest.raises(ProcessingError, match="No filament"):
        trace_between(noise, VOXEL, ends, TUBE)
    with pytest.raises(InputError, match="outside"):
        trace_between(tube, VOXEL, ends + 2000.0, TUBE)
    with pytest.raises(InputError, match="two diameters"):
        trace_between(tube, VOXEL, [ends[0], ends[0] + 50], TUBE)


@pytest.mark.parametrize(("number", "hand"), [(13, -1.0), (14, 1.0)])
def test_the_lattice_of_a_wall_is_found_with_every_subunit(number, hand):
    line = bent(1500.0, 60.0)
    subunits = microtubule(line, number, hand=hand)
    volume = volume_of(subunits, (30, 40, 140), 0.5)
    dense = VolumeSamples(values=volume.numpy(), step_angstrom=np.full(3, VOXEL))
    wall = unroll_wall(dense, line, TUBE, 41.0)
    assert wall.radius_angstrom == pytest.approx(105.0, abs=8.0)
    lattice = fit_wall_lattice(wall, WallParams())
    assert lattice.protofilaments == number
    assert lattice.starts == 3 * hand
    assert lattice.spacing_angstrom == pytest.approx(41.0, abs=0.2)
    assert lattice.twist_deg == pytest.approx(hand * 360 / number, abs=0.1)
    assert lattice.rise_angstrom == pytest.approx(3 * 41.0 / number, abs=0.1)
    assert lattice.score > 1.3 * lattice.runner_up[1]
    picks = wall_points(wall, lattice)
    gap = cKDTree(picks.oriented.points).query(subunits)[0]
    inner = np.abs(subunits[:, 0]) < 650
    assert (gap[inner] < 16.0).mean() > 0.95  # a third of the distance between subunits
    assert len(picks.scores) == pytest.approx(len(subunits), rel=0.05)
    out = picks.oriented.rotations[:, :, 2]
    axis = picks.oriented.rotations[:, :, 0]
    nearest = centre_line(line)
    row = cKDTree(nearest.places).query(picks.oriented.points)[1]
    assert (np.einsum("ni,ni->n", out, picks.oriented.points - nearest.places[row]) > 90).all()
    assert (np.einsum("ni,ni->n", axis, nearest.frames[row][:, :, 2]) > 0.999).all()


def test_walls_without_a_lattice():
    line = bent(900.0, 0.0)
    noise = np.random.default_rng(0).normal(size=(30, 30, 90)).astype(np.float32)
    dense = VolumeSamples(values=noise, step_angstrom=np.full(3, VOXEL))
    with pytest.raises(ProcessingError, match="no layer line"):
        fit_wall_lattice(unroll_wall(dense, line, TUBE, 41.0), WallParams())
    with pytest.raises(InputError, match="finer voxels"):
        unroll_wall(dense, line, TUBE, 20.0)
    with pytest.raises(InputError, match="ten subunits"):
        unroll_wall(dense, line[:3], TUBE, 41.0)
    with pytest.raises(InputError, match="lumen"):
        TraceParams(diameter_angstrom=100, wall_angstrom=60)
    with pytest.raises(InputError, match="protofilaments"):
        WallParams(protofilaments=(14, 12))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "number", "spacing"), [("13pf", 13, 40.9), ("14pf", 14, 40.9)])
def test_real_microtubules_from_the_command_line(shared_data, tmp_path, capsys, name, number, spacing):
    """The wall's lattice is the published one, read either way along; the axis is that of two independent ways."""
    volume = tifffile.imread(shared_data / "real" / "microtubules" / f"{name}_MT.tif").astype(np.float32)
    path, axes, out = tmp_path / f"{name}.mrc", tmp_path / "axis.star", tmp_path / "wall.star"
    write_mrc(path, volume, 10.52)
    tube = ["--diameter", "250", "--wall", "45", "--contrast", "bright"]
    assert run(["pick-geometry", "trace", str(path), *tube, "--output", str(axes)]) == 0
    axis = read_particles(axes)
    assert set(axis.columns["rlnHelicalTubeID"]) == {1.0}
    ends = axis.positions_angstrom[[1, -2]] + [[40, -60, 30], [-60, 40, -40]]
    between = ["--between", *(f"{x:.1f}" for x in ends.ravel())]
    other = tmp_path / "other.star"
    assert run(["pick-geometry", "trace", str(path), *tube, *between, "--output", str(other)]) == 0
    gap = cKDTree(centre_line(axis.positions_angstrom).places).query(read_particles(other).positions_angstrom)[0]
    assert gap.max() < 2 * 10.52
    capsys.readouterr()
    for extra in ([], ["--reverse", "--overwrite"]):
        command = ["pick-geometry", "wall", str(path), str(axes), *tube, "--output", str(out), "--json", *extra]
        assert run(command) == 0
        wall = json.loads(capsys.readouterr().out.splitlines()[-1])["walls"][0]
        assert wall["protofilaments"] == number
        assert wall["starts"] == -3
        assert wall["spacing_angstrom"] == pytest.approx(spacing, rel=0.01)
        assert wall["score"] > 1.5 * wall["runner_up"][1]
    picks = read_particles(out)
    assert set(picks.columns["eucProtofilament"]) == set(range(1, number + 1))
    assert picks.scores.mean() * math.sqrt(len(picks)) > 5  # standard errors above the wall's mean density
