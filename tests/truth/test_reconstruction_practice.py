"""The practice series with their true geometry: particles, hand, and another program's picture."""

import json
from types import SimpleNamespace

import mrcfile
import numpy as np
import pytest
import tifffile
import torch
from matplotlib.image import imread
from scipy.ndimage import gaussian_filter, map_coordinates, uniform_filter

from eucentric.fourier import fourier_shift
from eucentric.geometry import TiltGeometry
from eucentric.reconstruction import ReconstructParams, reconstruct_volume

PARAMS = ReconstructParams(dose_weighting=False)
SHAPE, VOXEL = (100, 192, 192), 16.0


def _truth(folder, name):
    truth = json.loads((folder / "practice" / f"{name}_truth.json").read_text())
    matrices = np.array(truth["R"])
    axis = np.rad2deg(np.arctan2(-matrices[:, 0, 1], matrices[:, 1, 1]))
    geometry = TiltGeometry.build(truth["true_tilt"], z_rot_deg=axis, shifts_angstrom=truth["shifts"])
    np.testing.assert_allclose(geometry.matrices, matrices, atol=1e-12)
    return SimpleNamespace(geometry=geometry, positions=np.array(truth["positions"]), raw=truth)


def _particle_contrast(volume, positions):
    """Median density at the particles, in standard deviations of 80 A means, from the median of the specimen."""
    mean = uniform_filter(volume.numpy(), 5)
    index = np.rint(positions / VOXEL).astype(int)[:, ::-1] + np.array(SHAPE) // 2
    index = index[((index >= 3) & (index < np.array(SHAPE) - 3)).all(1)]
    assert len(index) > 60
    specimen = mean[20:80, 10:-10, 10:-10]
    return (np.median(mean[tuple(index.T)]) - np.median(specimen)) / specimen.std()


def test_particles_are_dark_where_they_are_and_only_with_the_right_hand(shared_data):
    truth = _truth(shared_data, "TS_01")
    images = torch.from_numpy(np.load(shared_data / "practice" / "TS_01_clean.npz")["clean"].astype(np.float32))
    # 2 x 2 means: the image centre is at 191.75 px of 8 A, a quarter of a pixel before n // 2
    geometry = truth.geometry.replace(shifts_angstrom=truth.geometry.shifts_angstrom - 0.25 * 8.0)

    def reconstruct(images, geometry):
        return reconstruct_volume(images, geometry, pixel_size=8.0, volume_shape=SHAPE, voxel_size=VOXEL, params=PARAMS)

    volume = reconstruct(images, geometry)
    assert _particle_contrast(volume, truth.positions) < -5.0  # -6.7 was measured
    wrong = {
        "z": volume.flip(0),
        "y": volume.flip(1),
        "x": volume.flip(2),
        "tilt": reconstruct(images, geometry.replace(y_tilt_deg=-geometry.y_tilt_deg)),
        "axis": reconstruct(images, geometry.replace(z_rot_deg=-geometry.z_rot_deg)),
        "rows": reconstruct(images.flip(1), geometry),
    }
    for name, other in wrong.items():
        assert abs(_particle_contrast(other, truth.positions)) < 1.0, name


def _expected_slice(folder, panel):
    """Grey values of one panel of the picture, rows y up, and where it is grey at all (truth is circled in colour)."""
    picture = imread(folder / "practice" / "expected_slices.png")[..., :3]
    frame = picture.max(-1) < 0.35
    columns = np.flatnonzero(frame[50:350].sum(0) > 250)
    rows = np.flatnonzero(frame[:, 60:340].sum(1) > 250)
    box = picture[rows[0] + 1 : rows[-1], columns[2 * panel] + 1 : columns[2 * panel + 1]][::-1]
    return box.mean(-1), np.ptp(box, axis=-1) < 0.15


@pytest.mark.slow
@pytest.mark.parametrize(("panel", "name", "least"), [(0, "TS_01", 0.8), (2, "TS_03", 0.75)])
def test_movies_with_true_motion_and_geometry_give_the_expected_slice(shared_data, panel, name, least):
    truth = _truth(shared_data, name)
    folder = shared_data / "practice"
    gain = np.asarray(mrcfile.read(folder / "gain.mrc"), dtype=np.float32)
    images = []
    for movie, motion in zip(truth.raw["names"], truth.raw["motion"], strict=True):
        frames = tifffile.imread(folder / "frames" / movie)[:, ::-1].astype(np.float32) * gain  # rows top first
        frames = np.where(frames > np.median(frames) + 8.0 * frames.std(), np.median(frames), frames)  # hot pixels
        shifts = torch.tensor(-np.array(motion) / 4.0)
        images.append(fourier_shift(torch.from_numpy(np.ascontiguousarray(frames, dtype=np.float32)), shifts).sum(0))
    volume = reconstruct_volume(
        torch.stack(images), truth.geometry, pixel_size=4.0, volume_shape=SHAPE, voxel_size=VOXEL, params=PARAMS
    )
    assert _particle_contrast(volume, truth.positions) < -3.0
    expected, grey = _expected_slice(shared_data, panel)
    slab = gaussian_filter(volume[48:53].mean(0).numpy(), 1.0)  # the picture is smoother than the plain ramp
    # the picture's pixels run from voxel edge to voxel edge
    y, x = ((np.arange(n) + 0.5) / n * 192 - 0.5 for n in expected.shape)
    got = map_coordinates(slab, np.meshgrid(y, x, indexing="ij"), order=1, mode="nearest")

    def match(image):
        return np.corrcoef(image[grey], expected[grey])[0, 1]

    assert match(got) > least  # 0.87 (TS_01) and 0.83 (TS_03) were measured
    for flipped in (got[::-1], got[:, ::-1], got[::-1, ::-1]):
        assert abs(match(flipped)) < 0.1
