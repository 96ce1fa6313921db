"""A small project of two aligned series whose images and tomograms show points where the geometry puts them."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from eucentric.evaluation.geometry_difference import seen_points
from eucentric.geometry import Rotation
from eucentric.io import write_mrc, write_particles, write_tilt_series_set
from eucentric.models import CtfFit, ExcludedTilt, Optics, ParticleSet, Tilt, TiltPose, TiltSeries, Tomogram
from eucentric.models.tomogram_frames import TomogramFrame
from eucentric.pipeline.plan import Plan

PIXEL, VOXEL, SIZE_XY, VOLUME_XYZ = 5.0, 10.0, (72, 64), (72, 64, 40)
PLACES = np.array([[0.0, 0, 0], [70, 20, 50], [-40, 90, 20], [60, -60, -70], [-100, -30, 40]])
"""A from the specimen centre; no mirror image or turn brings them onto themselves."""


def _blob(shape: tuple[int, ...], at: np.ndarray, width: float) -> np.ndarray:
    grids = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    return -np.exp(-sum((g - c) ** 2 for g, c in zip(grids, at[::-1], strict=True)) / (2 * width**2))


def _tilts(name: str, rng: np.random.Generator) -> list[Tilt]:
    out = []
    for i, angle in enumerate((-50.0, -25.0, 0.0, 25.0, 50.0)):
        order = (3, 1, 0, 2, 4)[i]
        u = 30000.0 + 500 * i
        out.append(
            Tilt(
                nominal_tilt_deg=angle,
                acquisition=order,
                dose=3.0,
                pre_exposure=3.0 * order,
                frame_count=4,
                movie=f"frames/{name}_{order:03d}_{angle:.1f}.tif",
                nominal_axis_deg=84.0,
                image=f"motion/images/{name}/{name}_{order:03d}.mrc",
                pose=TiltPose(
                    y_tilt_deg=angle + 1.0,
                    z_rot_deg=84.0 + round(rng.normal(0, 0.3), 2),
                    x_shift_angstrom=round(rng.normal(0, 10), 1),
                    y_shift_angstrom=round(rng.normal(0, 10), 1),
                ),
                ctf=CtfFit(defocus_u_angstrom=u, defocus_v_angstrom=u - 600.0, astigmatism_angle_deg=20.0, score=0.2),
            )
        )
    return out


def _half_names(path: str) -> tuple[str, str]:
    return path.replace(".mrc", "_a.mrc"), path.replace(".mrc", "_b.mrc")


def _with_halves(tilt: Tilt) -> Tilt:
    even, odd = _half_names(str(tilt.image))
    return replace(tilt, image_even=even, image_odd=odd)


def make_project(
    root: Path, names: tuple[str, ...] = ("TS_01", "TS_02"), *, halves: bool = False, dark_image: bool = False
) -> Path:
    """The project's folder: reconstruct/tilt_series.star, images, tomograms, pick/blobs/particles.star.

    Parameters
    ----------
    halves : with even and odd images and half tomograms
    dark_image : with the image of the excluded tilt, which has none else
    """
    rng = np.random.default_rng(4)
    Plan.write_default(root, {})
    every, particles = [], []
    rotations = Rotation.random(len(PLACES), np.random.default_rng(2)).matrices
    for name in names:
        series = TiltSeries(
            name=name,
            pixel_size_angstrom=PIXEL,
            image_shape=SIZE_XY[::-1],
            tilts=tuple(_tilts(name, rng)),
            optics=Optics(),
            volume_size_px=VOLUME_XYZ,
            thickness_angstrom=150.0,
        )
        for tilt, places in zip(series.tilts, seen_points(series, None, PLACES), strict=True):
            picture = sum(_blob(series.image_shape, p[:2], 1.5) for p in places)
            for path in [str(tilt.image), *(_half_names(str(tilt.image)) if halves else ())]:
                write_mrc(root / path, picture.astype(np.float32), PIXEL, is_volume=False)
        frame = TomogramFrame(voxel_size_angstrom=VOXEL, size_xyz=(36, 32, 20))
        volume = sum(_blob((20, 32, 36), p, 1.0) for p in frame.to_index(PLACES))
        path = f"reconstruct/tomograms/{name}.mrc"
        half1, half2 = _half_names(path) if halves else (None, None)
        for file in [path, half1, half2]:
            if file is not None:
                write_mrc(root / file, volume.astype(np.float32), VOXEL)
        dark = f"motion/images/{name}/{name}_005.mrc" if dark_image else None
        if dark is not None:
            write_mrc(root / dark, np.zeros(series.image_shape, dtype=np.float32), PIXEL, is_volume=False)
        gone = ExcludedTilt(
            tilt=replace(
                series.tilts[0],
                nominal_tilt_deg=-60.0,
                acquisition=5,
                pose=None,
                ctf=None,
                image=dark,
                movie=f"frames/{name}_005_-60.0.tif",
            ),
            reason="dark",
        )
        if halves:
            series = series.with_tilts([_with_halves(t) for t in series.tilts])
        every.append(
            series.replace(
                tomogram=Tomogram(
                    path=path, voxel_size_angstrom=VOXEL, shape_zyx=(20, 32, 36), half1=half1, half2=half2
                ),
                excluded=(gone,),
            )
        )
        particles.append(
            ParticleSet.build(
                name, PLACES, rotations=rotations, scores=np.linspace(0.9, 0.5, len(PLACES)), kinds="blob"
            )
        )
    write_tilt_series_set(root / "reconstruct" / "tilt_series.star", every, root)
    write_particles(root / "pick" / "blobs" / "particles.star", ParticleSet.concatenate(particles), "relion5")
    return root
