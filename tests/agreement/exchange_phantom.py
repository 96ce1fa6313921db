"""A tilt series of known hand, and points that no mirror image or turn brings onto themselves."""

import numpy as np
import torch
from scipy.interpolate import CubicSpline

from eucentric.geometry import TiltGeometry
from eucentric.geometry.volume_warp import VolumeWarp
from eucentric.geometry.warp import ImageWarp
from eucentric.io.exchange.records import SeriesGeometry
from eucentric.models import CtfFit, ExcludedTilt, Optics, Tilt, TiltPose, TiltSeries

SIZES_XY = [(96, 80), (95, 80), (96, 81), (97, 83)]
"""Of images; odd and even."""


def points() -> np.ndarray:
    """(6, 3): A from the specimen centre; no plane holds them, and they differ from their mirror images."""
    return np.array(
        [[0.0, 0, 0], [40, 12, 30], [-22, 61, 9], [33, -35, -52], [-80, -17, 71], [15, 90, -40]], dtype=np.float64
    )


def phantom_series(
    *,
    name: str = "TS_1",
    size_xy: tuple[int, int] = (96, 80),
    pixel_size: float = 2.5,
    axis_deg: float = 84.0,
    x_tilt: bool = False,
    magnification: bool = False,
    phase_shift: bool = False,
    excluded: bool = False,
    ctf: bool = True,
    warp: bool = False,
    hand: float = -1.0,
    seed: int = 0,
) -> SeriesGeometry:
    """Eleven tilts taken dose-symmetrically, each with a pose of its own (rounded to what text files hold), and astigmatic CTFs.

    Movies are `frames/<name>_<order>_<angle>.tif`, images `<k>@stacks/<name>.mrc` in ascending order of angle.
    """
    rng = np.random.default_rng(seed)
    angles = np.arange(-50.0, 51.0, 10.0)
    order = np.argsort(np.argsort(np.abs(angles - 0.1), kind="stable"), kind="stable")
    tilts = []
    for i, angle in enumerate(angles):
        u = 31000.0 + 400 * i + float(np.round(rng.normal(0, 100)))
        tilts.append(
            Tilt(
                nominal_tilt_deg=float(angle),
                acquisition=int(order[i]),
                dose=3.0,
                pre_exposure=3.0 * int(order[i]),
                movie=f"frames/{name}_{order[i]:03d}_{angle:.1f}.tif",
                image=f"{i + 1}@stacks/{name}.mrc",
                frame_count=4,
                nominal_axis_deg=axis_deg,
                pose=TiltPose(
                    y_tilt_deg=float(np.round(angle + 1.5 + rng.normal(0, 0.2), 2)),
                    z_rot_deg=float(np.round(axis_deg + rng.normal(0, 0.4), 2)),
                    x_tilt_deg=float(np.round(rng.normal(0, 1.5), 2)) if x_tilt else 0.0,
                    x_shift_angstrom=float(np.round(rng.normal(0, 12), 2)),
                    y_shift_angstrom=float(np.round(rng.normal(0, 12), 2)),
                    magnification=float(np.round(1 + rng.normal(0, 0.004), 4)) if magnification else 1.0,
                ),
                ctf=CtfFit(
                    defocus_u_angstrom=u,
                    defocus_v_angstrom=u - 900.0,
                    astigmatism_angle_deg=31.5,
                    phase_shift_deg=72.0 if phase_shift else 0.0,
                    score=0.2,
                    max_resolution_angstrom=6.5,
                )
                if ctf
                else None,
            )
        )
    gone = ()
    if excluded:
        gone = tuple(ExcludedTilt(tilt=tilts[k], reason="dark") for k in (3, 10))
        tilts = [t for k, t in enumerate(tilts) if k not in (3, 10)]
    series = TiltSeries(
        name=name,
        pixel_size_angstrom=pixel_size,
        image_shape=(size_xy[1], size_xy[0]),
        tilts=tuple(tilts),
        excluded=gone,
        optics=Optics(voltage_kv=300.0, spherical_aberration_mm=2.7, amplitude_contrast=0.07),
        hand=hand,
        volume_size_px=(96, 80, 64),
    )
    field = None
    if warp:
        field = ImageWarp.build(rng.normal(0, 3, (len(tilts), 4, 5, 2)), series.image_shape, pixel_size)
    return SeriesGeometry(series=series, warp=field)


def phantom_volume(grid: tuple[int, int, int] = (2, 3, 2), seed: int = 5) -> VolumeWarp:
    """A specimen that moves by some 3 A while it receives 31.5 e/A^2."""
    fields = np.random.default_rng(seed).normal(0, 3, (4, *grid, 3))
    return VolumeWarp.build(fields, [1.5, 9.0, 18.0, 31.5], (180.0, 210.0, 250.0))


def displaced(volume: VolumeWarp, doses: np.ndarray, places: np.ndarray) -> np.ndarray:
    """(tilt, point, 3): places (point, 3) where a specimen has moved them, by scipy's natural splines."""

    def spline(nodes: np.ndarray, values: np.ndarray, at: np.ndarray) -> np.ndarray:
        return values[:1] if len(nodes) == 1 else CubicSpline(nodes, values, bc_type="natural")(at)

    def straight_beyond(nodes: np.ndarray, values: np.ndarray, at: float) -> np.ndarray:
        if len(nodes) == 1:
            return values[0]
        curve, edge = CubicSpline(nodes, values, bc_type="natural"), float(np.clip(at, nodes[0], nodes[-1]))
        return curve(edge) + (at - edge) * curve(edge, 1)

    out = []
    for dose in doses:
        field = spline(volume.doses, volume.displacement_angstrom, np.clip([dose], *volume.doses[[0, -1]]))[0]
        moved = []
        for point in places:
            value = field
            for size, at in zip(volume.extent_angstrom, point[::-1], strict=True):
                nodes = np.linspace(-0.5, 0.5, len(value)) * size if len(value) > 1 else np.zeros(1)
                value = straight_beyond(nodes, value, at)
            moved.append(point + value)
        out.append(moved)
    return np.array(out)


def seen_moving(geometry: SeriesGeometry, places: np.ndarray | None = None) -> np.ndarray:
    """As :func:`seen`, of a specimen that deforms."""
    moved = displaced(geometry.volume, geometry.series.middle_doses, points() if places is None else places)
    return np.array([seen(geometry, here)[t] for t, here in enumerate(moved)])


def seen(geometry: SeriesGeometry, places: np.ndarray | None = None) -> np.ndarray:
    """(tilt, point, 3): x and y in pixels from 0 where we see points (A), deformation included; and z_camera in A."""
    series = geometry.series
    camera = TiltGeometry.from_poses(series.poses).project(points() if places is None else places)
    if geometry.warp is not None:
        for t, c in enumerate(camera):
            c[:, :2] += geometry.warp.at(t, torch.from_numpy(np.ascontiguousarray(c[:, :2]))).numpy()
    camera[..., :2] = camera[..., :2] / series.pixel_size_angstrom + np.array(series.image_shape[::-1]) // 2
    return camera
