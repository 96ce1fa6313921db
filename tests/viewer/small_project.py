"""A project with two series, a tomogram of each, and picks: what the tests of the viewer look at."""

from pathlib import Path

import numpy as np

from eucentric.geometry import Rotation
from eucentric.io.mrc import write_mrc
from eucentric.io.particles import write_particles
from eucentric.io.tilt_series import write_tilt_series_set
from eucentric.models.particle_projection import project_particles
from eucentric.models.particles import ParticleSet
from eucentric.models.tilt_series import Tilt, TiltPose, TiltSeries, Tomogram
from eucentric.pipeline.plan import Plan, all_stages

VOXEL_ANGSTROM = 10.0
SHAPE_ZYX = (24, 48, 64)
PLACES_XYZ_ANGSTROM = np.array([[160.0, 40.0, 30.0], [-100.0, 120.0, -40.0], [-180.0, -140.0, 60.0]])
"""In three octants, no two mirror images of each other."""
NAMES = ("TS_01", "TS_02")
ANGLES_DEG = (-40.0, -20.0, 0.0, 20.0, 40.0)
IMAGE_SHAPE = (48, 64)


def blob_volume(places=PLACES_XYZ_ANGSTROM, shape=SHAPE_ZYX, voxel=VOXEL_ANGSTROM, radius=25.0):
    """(z, y, x) dark round things at places in A from voxel n // 2, on noise that is the same each time."""
    z, y, x = ((np.arange(n) - n // 2) * voxel for n in shape)
    volume = np.random.default_rng(1).normal(0.0, 0.05, shape)
    for px, py, pz in places:
        away = (x - px) ** 2 + (y - py)[:, None] ** 2 + ((z - pz) ** 2)[:, None, None]
        volume -= np.exp(-0.5 * away / radius**2)
    return volume.astype(np.float32)


def _images(series):
    """(tilt, y, x) the same things as the microscope sees them."""
    pixels = project_particles(PLACES_XYZ_ANGSTROM, series).pixels
    y, x = np.mgrid[: IMAGE_SHAPE[0], : IMAGE_SHAPE[1]]
    images = np.random.default_rng(2).normal(0.0, 0.05, (len(series.tilts), *IMAGE_SHAPE))
    for image, places in zip(images, pixels, strict=True):
        for px, py in places:
            image -= np.exp(-0.5 * ((x - px) ** 2 + (y - py) ** 2) / 2.5**2)
    return images.astype(np.float32)


def make_series(root: Path, name: str) -> TiltSeries:
    """An aligned series with images and a tomogram; files are written."""
    tilts = tuple(
        Tilt(
            nominal_tilt_deg=angle,
            acquisition=i,
            dose=3.0,
            pre_exposure=3.0 * i,
            image=f"{i + 1}@align/images/{name}.mrc",
            pose=TiltPose(y_tilt_deg=angle, z_rot_deg=85.0, x_shift_angstrom=5.0 * i, y_shift_angstrom=-3.0 * i),
        )
        for i, angle in enumerate(ANGLES_DEG)
    )
    record = Tomogram(path=f"reconstruct/tomograms/{name}.mrc", voxel_size_angstrom=VOXEL_ANGSTROM, shape_zyx=SHAPE_ZYX)
    series = TiltSeries(
        name=name,
        pixel_size_angstrom=VOXEL_ANGSTROM,
        image_shape=IMAGE_SHAPE,
        tilts=tilts,
        volume_size_px=SHAPE_ZYX[::-1],
        tomogram=record,
    )
    for folder in ("align/images", "reconstruct/tomograms"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    write_mrc(root / "align" / "images" / f"{name}.mrc", _images(series), VOXEL_ANGSTROM, "float16", is_volume=False)
    write_mrc(root / record.path, blob_volume(), VOXEL_ANGSTROM, "float16")
    return series


def make_picks(names=NAMES) -> ParticleSet:
    """Three of two kinds in each series, turned each its own way."""
    turns = Rotation.from_relion([10.0, 80.0, 200.0], [30.0, 60.0, 110.0], [50.0, -20.0, 5.0]).matrices
    count = len(names)
    return ParticleSet.build(
        np.repeat(names, 3),
        np.tile(PLACES_XYZ_ANGSTROM, (count, 1)),
        rotations=np.tile(np.asarray(turns), (count, 1, 1)),
        scores=np.tile([0.9, 0.5, 0.2], count),
        kinds=["ribosome", "ribosome", "proteasome"] * count,
    )


def make_project(root: Path, names=NAMES) -> Path:
    """The project's folder."""
    root.mkdir(parents=True)
    every = [make_series(root, name) for name in names]
    for stage in ("import", "align", "reconstruct"):
        write_tilt_series_set(root / stage / "tilt_series.star", every, root)
    folder = root / "pick" / "both"
    folder.mkdir(parents=True)
    write_particles(folder / "particles.star", make_picks(names), "relion5")
    Plan.write_default(root, {}, all_stages())
    return root
