"""Filaments as labels: tubes painted and pieces joined as geometry says, and a real microtubule."""

import json
import math

import numpy as np
import pytest
import tifffile
from scipy.ndimage import gaussian_filter

from eucentric.cli.main import run
from eucentric.errors import InputError
from eucentric.io.mrc import write_mrc
from eucentric.pipeline.label_files import read_labels
from eucentric.segmentation.filaments import LinkLimits, link_pieces, mean_curvature, paint_tubes

LIMITS = LinkLimits(gap_angstrom=150.0, angle_deg=20.0)


def straight(start, end, step=5.0):
    start, end = (np.asarray(p, dtype=float) for p in (start, end))
    count = 1 + math.ceil(np.linalg.norm(end - start) / step)
    return np.linspace(start, end, count)


def test_a_slanting_tube_is_the_cylinder_of_its_formula():
    shape, voxel = (30, 41, 52), 10.0
    start, end = np.array([-180.0, -90.0, -60.0]), np.array([150.0, 80.0, 70.0])
    labels = paint_tubes([straight(start, end)], shape, voxel, 80.0)
    z, y, x = np.meshgrid(*((np.arange(n) - n // 2) * voxel for n in shape), indexing="ij")
    way = (end - start) / np.linalg.norm(end - start)
    away = np.stack([x, y, z], axis=-1) - start
    along = away @ way
    across = np.sqrt(np.maximum((away**2).sum(-1) - along**2, 0.0))
    sure_in = (across < 39) & (along > 6) & (along < np.linalg.norm(end - start) - 6)
    sure_out = (across > 41) | (along < -6) | (along > np.linalg.norm(end - start) + 6)
    assert labels[sure_in].all()
    assert not labels[sure_out].any()
    crossing = [straight([-200, 0, 0], [200, 0, 0]), straight([0, -150, 10], [0, 150, 10])]
    both = paint_tubes(crossing, shape, voxel, 60.0)
    assert both[15, 20, 10] == 1
    assert both[17, 20, 26] == 2  # nearer to the second axis
    assert both[14, 20, 26] == 1
    with pytest.raises(InputError, match="more than a voxel apart"):
        paint_tubes([straight(start, end, 30.0)], shape, voxel, 80.0)
    with pytest.raises(InputError, match="positive"):
        paint_tubes([straight(start, end)], shape, 0.0, 80.0)


def test_pieces_that_point_to_each_other_are_joined_and_others_are_not():
    first, second = straight([-500, 0, 0], [-60, 0, 0]), straight([40, 10, 0], [500, 40, 0])
    beside, across = straight([-500, 120, 0], [-60, 120, 0]), straight([0, 60, 0], [0, 400, 0])
    far = straight([700, 50, 0], [1000, 70, 0])
    assert link_pieces([first, second, beside, across, far], 70.0, LIMITS) == [
        [(0, False), (1, False)], [(2, False)], [(3, False)], [(4, False)]
    ]  # fmt: skip
    # whichever way round pieces were traced
    turned = link_pieces([first[::-1], second], 70.0, LIMITS)
    assert turned == [[(0, True), (1, False)]]
    # eight pieces of a ring are one, which stays open
    corners = [(math.pi * n / 4, math.pi * n / 4 + 0.5) for n in range(8)]
    ring = [straight(*([300 * math.cos(a), 300 * math.sin(a), 0] for a in pair)) for pair in corners]
    assert [len(chain) for chain in link_pieces(ring, 20.0, LinkLimits(gap_angstrom=150.0, angle_deg=60.0))] == [8]
    with pytest.raises(InputError, match="gap"):
        link_pieces([first], 70.0, LinkLimits(gap_angstrom=-1.0, angle_deg=20.0))


def test_curvature_of_a_circle_is_that_of_its_radius():
    angle = np.linspace(0.3, 2.0, 400)
    arc = 1500.0 * np.stack([np.cos(angle), 0.6 * np.sin(angle), 0.8 * np.sin(angle)], axis=1)
    assert mean_curvature(arc, 140.0) == pytest.approx(1 / 1500.0, rel=0.02)
    assert mean_curvature(straight([0, 0, 0], [900, 30, 20]), 140.0) == pytest.approx(0.0, abs=1e-7)


def ring_centres(volume: np.ndarray, radius: float) -> np.ndarray:
    """(section, 2), z and x where a bright ring fits best in the mean of nine sections across y: no tracing has a part in it."""
    z, x = np.meshgrid(*(np.arange(-18, 19),) * 2, indexing="ij")
    ring = np.exp(-0.5 * ((np.hypot(z, x) - radius) / 1.5) ** 2)
    ring -= ring.mean()
    out = []
    for row in range(12, volume.shape[1] - 12):
        section = volume[:, row - 4 : row + 5].mean(axis=1)
        section = section - gaussian_filter(section, 12.0)
        shape = [n + 2 * 18 for n in section.shape]
        found = np.fft.irfft2(np.fft.rfft2(section, shape) * np.fft.rfft2(ring[::-1, ::-1], shape), shape)[
            18:-18, 18:-18
        ]
        out.append(np.unravel_index(int(found.argmax()), found.shape))
    return np.array(out, dtype=float)


@pytest.mark.slow
def test_a_real_microtubule_is_one_tube_about_its_axis(shared_data, tmp_path, capsys):
    """Goal: one tube, its axis within 2 voxels; rings fitted section by section tell where it is."""
    volume = tifffile.imread(shared_data / "real" / "microtubules" / "13pf_MT.tif").astype(np.float32)
    path, out = tmp_path / "13pf.mrc", tmp_path / "out"
    write_mrc(path, volume, 10.52)
    command = [
        "segment",
        "filaments",
        str(path),
        "--preset",
        "microtubule",
        "--contrast",
        "bright",
        "--output",
        str(out),
        "--json",
    ]
    assert run(command) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])["tomograms"]["13pf"]
    assert told["filaments"] == 1
    labels, _ = read_labels(out / "labels" / "13pf.mrc", like=path)
    rows = range(12, volume.shape[1] - 12)
    axis = np.array([np.argwhere(labels[:, row] > 0).mean(axis=0) for row in rows])
    gap = np.hypot(*(axis - ring_centres(volume, 105.0 / 10.52)).T)
    told_gap = f"median {np.median(gap):.2f}, 95% {np.percentile(gap, 95):.2f} voxels"
    assert np.percentile(gap, 95) < 2.0, told_gap
