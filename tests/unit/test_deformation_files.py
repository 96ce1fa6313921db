"""Files of deformation, and particles where a deformed specimen is seen."""

import numpy as np
import pytest
import torch

from eucentric.errors import FormatError, InputError
from eucentric.geometry import Deformation, ImageWarp, TiltGeometry, VolumeWarp
from eucentric.io import (
    read_deformation,
    read_folded_warp,
    read_image_warp,
    read_volume_warp,
    write_deformation,
    write_image_warp,
)
from eucentric.models import CtfFit, Tilt, TiltPose, TiltSeries
from eucentric.models.particle_projection import project_particles
from eucentric.pipeline.images import read_deformation as read_deformation_of
from eucentric.pipeline.images import read_warp
from eucentric.pipeline.store import ItemStore

SHAPE, PIXEL = (300, 260), 8.0
TILTS = (-54.0, -12.0, 3.0, 48.0)


def make_series(dose=3.0, **changes):
    tilts = [
        Tilt(
            nominal_tilt_deg=a,
            acquisition=(2, 0, 1, 3)[i],
            dose=dose,
            pre_exposure=dose * (2, 0, 1, 3)[i],
            pose=TiltPose(
                y_tilt_deg=a,
                z_rot_deg=84.0,
                x_tilt_deg=1.0,
                x_shift_angstrom=9.0,
                y_shift_angstrom=-4.0,
                magnification=1.01,
            ),
            ctf=CtfFit(defocus_u_angstrom=31000.0, defocus_v_angstrom=29000.0),
        )
        for i, a in enumerate(TILTS)
    ]
    return TiltSeries(name="TS_01", pixel_size_angstrom=PIXEL, image_shape=SHAPE, tilts=tuple(tilts), **changes)


def volume_warp():
    values = np.random.default_rng(0).normal(0.0, 6.0, (3, 2, 3, 3, 3))
    return VolumeWarp.build(values, [0.0, 4.0, 12.0], (600.0, 2400.0, 2000.0))


def image_warp():
    return ImageWarp.build(np.random.default_rng(1).normal(0.0, 4.0, (4, 3, 2, 2)), SHAPE, PIXEL)


@pytest.mark.parametrize("with_image", [True, False])
def test_what_is_written_is_read(tmp_path, with_image):
    path, series, image = tmp_path / "TS_01.npz", make_series(), image_warp() if with_image else None
    write_deformation(path, Deformation(image=image, volume=volume_warp()), series)
    back = read_deformation(path, series)
    np.testing.assert_array_equal(back.volume.displacement_angstrom, volume_warp().displacement_angstrom)
    np.testing.assert_array_equal(back.volume.doses, [0.0, 4.0, 12.0])
    assert back.volume.extent_angstrom == (600.0, 2400.0, 2000.0)
    assert (back.image is None) is not with_image
    some = read_deformation(path, series.with_tilts([series.tilts[1], series.tilts[3]]))
    if with_image:
        np.testing.assert_array_equal(some.image.displacement_angstrom, image.displacement_angstrom[[1, 3]])


def test_files_without_a_deformed_specimen_are_read_as_before(tmp_path):
    path, series = tmp_path / "TS_01.npz", make_series()
    write_image_warp(path, image_warp(), [t.acquisition for t in series.tilts])
    with np.load(path) as archive:
        assert not [name for name in archive if name.startswith("volume")]
    assert read_volume_warp(path) is None
    back = read_deformation(path, series)
    assert back.volume is None
    np.testing.assert_array_equal(back.image.displacement_angstrom, image_warp().displacement_angstrom)
    np.testing.assert_array_equal(
        read_folded_warp(path, series).displacement_angstrom, back.image.displacement_angstrom
    )


def test_a_damaged_specimen_is_told(tmp_path):
    path, series = tmp_path / "TS_01.npz", make_series()
    write_deformation(path, Deformation(volume=volume_warp()), series)
    with np.load(path) as archive:
        held = dict(archive)
    held["volume_doses"] = held["volume_doses"][::-1]
    np.savez_compressed(path, **held)
    assert len(read_image_warp(path, [0, 1])) == 2
    with pytest.raises(FormatError, match="specimen"):
        read_volume_warp(path)
    with pytest.raises(InputError, match="not a file"):
        read_volume_warp(tmp_path / "none.npz")


def test_a_project_gives_both_and_one_folded_into_the_other(tmp_path):
    series = make_series(warp="warps/TS_01.npz")
    store = ItemStore(tmp_path, "", "TS_01")
    (tmp_path / "warps").mkdir()
    write_deformation(tmp_path / series.warp, Deformation(image=image_warp(), volume=volume_warp()), series)
    bent = read_deformation_of(series, store)
    # at mid-height, in what the images show
    at = np.random.default_rng(2).uniform(-450.0, 450.0, (40, 3)) * np.array([1.0, 1.0, 0.0])
    rigid = TiltGeometry.from_poses(series.poses).project(at)[..., :2]
    exact = TiltGeometry.from_poses(series.poses)
    folded = read_warp(series, store)
    for t in range(4):
        moved = at + bent.volume.at(at, float(series.middle_doses[t]))
        expected = exact[t].project(moved)[0, :, :2]
        expected = expected + bent.image.at(t, torch.from_numpy(rigid[t])).numpy()
        got = rigid[t] + folded.at(t, torch.from_numpy(rigid[t])).numpy()
        assert np.abs(got - expected).max() < 0.1
    assert read_warp(series.replace(warp=None), store) is None
    assert read_deformation_of(series.replace(warp=None), store).volume is None


def test_particles_are_where_the_specimen_has_moved_them():
    series, volume, image = make_series(), volume_warp(), image_warp()
    at = np.random.default_rng(3).uniform(-400.0, 400.0, (7, 3))
    got = project_particles(at, series, image, volume=volume)
    for t, tilt in enumerate(series.tilts):
        moved = at + volume.at(at, tilt.pre_exposure + 0.5 * tilt.dose)
        camera = TiltGeometry.from_poses([tilt.pose]).project(moved)[0]
        seen = camera[:, :2] + image.at(t, torch.from_numpy(np.ascontiguousarray(camera[:, :2]))).numpy()
        np.testing.assert_allclose(got.pixels[t], seen / PIXEL + [130, 150], atol=1e-9)
        np.testing.assert_allclose(got.heights_angstrom[t], camera[:, 2], atol=1e-9)
        np.testing.assert_allclose(got.defocus_u_angstrom[t], 31000.0 - camera[:, 2], atol=1e-9)
    rigid = project_particles(at, series)
    assert np.abs(rigid.pixels - got.pixels).max() > 0.1


def test_a_deformed_specimen_needs_doses():
    series = make_series(dose=float("nan"))
    with pytest.raises(InputError, match="dose of some images is not known"):
        project_particles(np.zeros((1, 3)), series, volume=volume_warp())
