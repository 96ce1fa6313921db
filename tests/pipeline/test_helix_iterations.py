"""`average --auto` with a helix on simulated filaments: rise, twist and poses against those that they were made with."""

import json
import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from eucentric.averaging.iterate_params import IterateParams
from eucentric.averaging.params import AverageParams, ExtractParams
from eucentric.geometry import TiltGeometry
from eucentric.io.mrc import write_mrc
from eucentric.io.particles import read_particles, write_particles
from eucentric.io.tilt_series import write_tilt_series_set
from eucentric.models import Tilt, TiltPose, TiltSeries
from eucentric.models.particles import ParticleSet
from eucentric.pipeline.iterate_average import iterate_average
from eucentric.pipeline.iterate_job import IterateSettings

PIXEL, BOX, SIDE = 7.0, 60, 256
RISE, TWIST = 3 * 40.9 / 13 + 0.13, -360 / 13 + 0.11  # thirteen protofilaments, left-handed; not quite
NEAR = (9.44, -27.69)
UNIT = ((0.0, 0.0, 0.0, 1.0), (14.0, 6.0, 9.0, 0.6), (-10.0, -5.0, 14.0, 0.4))  # out, around, up in A, and height
RADIUS, SPREAD, LENGTH = 100.0, 10.0, 1300.0
ANGLES = np.arange(-60.0, 61.0, 4.0)


def blobs(rise: float, twist: float, length: float) -> tuple[np.ndarray, np.ndarray]:
    """Places (blob, 3) in A and heights of a helix about z, a unit at angle 0 of its middle."""
    places, heights = [], []
    most = math.ceil(0.5 * length / rise)
    for k in range(-most, most + 1):
        for out, beside, up, height in UNIT:
            angle, r = math.radians(k * twist) + beside / RADIUS, RADIUS + out
            places.append((r * math.cos(angle), r * math.sin(angle), k * rise + up))
            heights.append(height)
    return np.array(places), np.array(heights)


def start_map() -> np.ndarray:
    """A tube of the lattice of textbooks."""
    line = (np.arange(BOX) - BOX // 2) * PIXEL
    places, heights = blobs(*NEAR, BOX * PIXEL + 80.0)
    along = [np.exp(-0.5 * ((line - places[:, axis, None]) / SPREAD) ** 2) for axis in range(3)]
    return np.einsum("b,bz,by,bx->zyx", heights, along[2], along[1], along[0], optimize=True).astype(np.float32)


@pytest.fixture(scope="module")
def filaments(tmp_path_factory):
    """A series of four filaments, their poses, and picks on the axes: direction, polarity and turn not known."""
    root = tmp_path_factory.mktemp("filaments")
    (root / "ctf").mkdir()
    (root / "eucentric.toml").write_text("")
    rng = np.random.default_rng(2)
    geometry = TiltGeometry.build(ANGLES, z_rot_deg=85.0)
    line = (np.arange(SIDE) - SIDE // 2) * PIXEL
    images = np.zeros((len(ANGLES), SIDE, SIDE))
    local, heights = blobs(RISE, TWIST, LENGTH)
    # along y of the specimen, some upside down, each with its own slope and turn
    lying = Rotation.from_euler("x", np.array([[-90.0], [90.0], [-90.0], [90.0]]), degrees=True)
    tilted = Rotation.from_rotvec(np.deg2rad(rng.uniform(-6.0, 6.0, (4, 3))) * [1.0, 0.0, 1.0])
    turned = Rotation.from_euler("z", rng.uniform(-180, 180, (4, 1)), degrees=True)
    true = (tilted * lying * turned).as_matrix()
    middles = np.array([[-600.0, 0, -20], [-200.0, 30, 30], [200.0, -20, -30], [600.0, 0, 20]])
    for turn, middle in zip(true, middles, strict=True):
        at = geometry.project(local @ turn.T + middle)[..., :2]
        for t, seen in enumerate(at):
            across, along = (np.exp(-0.5 * ((line - seen[:, axis, None]) / SPREAD) ** 2) for axis in (0, 1))
            images[t] += (along * heights[:, None]).T @ across
    images = 1.0 - 0.02 * images / images.std()
    images += 0.06 * rng.normal(size=images.shape)
    write_mrc(root / "stack.mrc", images.astype(np.float32), PIXEL, "float32", is_volume=False)
    tilts = [
        Tilt(
            nominal_tilt_deg=float(angle), acquisition=i, dose=1.0, pre_exposure=float(i), image=f"{i + 1}@stack.mrc",
            pose=TiltPose(y_tilt_deg=float(angle), z_rot_deg=85.0),
        )
        for i, angle in enumerate(ANGLES)
    ]  # fmt: skip
    series = TiltSeries.sorted(tilts, name="TS_01", pixel_size_angstrom=PIXEL, image_shape=(SIDE, SIDE))
    write_tilt_series_set(root / "ctf" / "tilt_series.star", [series], root)
    steps = np.arange(-400.0, 401.0, 80.0)
    owner = np.repeat(np.arange(4), len(steps))
    along = np.tile(steps, 4) + rng.uniform(-30, 30, len(owner))
    places = middles[owner] + along[:, None] * true[owner, :, 2] + rng.uniform(-8, 8, (len(owner), 3))
    spin = Rotation.from_euler("z", rng.uniform(-180, 180, (len(owner), 1)), degrees=True)
    off = Rotation.from_rotvec(np.deg2rad(3.0) * rng.normal(size=(len(owner), 3)) * [1.0, 1.0, 0.0])
    over = Rotation.from_rotvec(np.pi * np.array([1.0, 0.0, 0.0]) * rng.integers(0, 2, 4)[owner, None])
    picks = ParticleSet.build(
        "TS_01", places, rotations=true[owner] @ (off * over * spin).as_matrix(),
        columns={"rlnHelicalTubeID": owner + 1.0},
    )  # fmt: skip
    write_particles(root / "picks.star", picks, "relion5")
    write_mrc(root / "start.mrc", start_map(), PIXEL, "float32")
    return root, true[owner], middles[owner]


def helical_errors(
    found: ParticleSet, true: np.ndarray, middles: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Off the axis in degrees and in A, and along and about it from the nearest unit, less what all have in common.

    Polarity counts: an axis that points the other way is 180 degrees off.
    """
    axis = true[:, :, 2]
    tilt = np.degrees(np.arccos(np.clip(np.einsum("ni,ni->n", found.rotations[:, :, 2], axis), -1, 1)))
    away = found.positions_angstrom - middles
    along = np.einsum("ni,ni->n", away, axis)
    across = np.linalg.norm(away - along[:, None] * axis, axis=1)
    own = np.swapaxes(true, 1, 2) @ found.rotations
    about = np.degrees(np.arctan2(own[:, 1, 0] - own[:, 0, 1], own[:, 0, 0] + own[:, 1, 1]))
    steps = np.rint(along[:, None] / RISE) + np.arange(-1, 2)
    up = along[:, None] - steps * RISE
    turn = (about[:, None] - steps * TWIST + 180.0) % 360.0 - 180.0
    best = np.argmin(np.hypot(up, np.radians(turn) * RADIUS), axis=1)
    rows = np.arange(len(best))
    up, turn = up[rows, best], turn[rows, best]
    return tilt, across, up - np.median(up), turn - np.median(turn)


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["none", "noise"])
def test_rise_twist_and_poses_of_filaments_are_found_from_their_axes(filaments, weights):
    root, true, middles = filaments
    settings = IterateSettings(
        extract=ExtractParams(box_size=BOX, ctf=False, dose_weighting=False, tilt_weights=weights),
        average=AverageParams(
            helical_rise_angstrom=NEAR[0], helical_twist_deg=NEAR[1], mask_diameter_angstrom=330.0
        ),
        iterate=IterateParams(
            search="global", prior="axis", prior_sigma_deg=4.0, shift_angstrom=14.0, start_low_pass_angstrom=30.0,
            max_iterations=4,
        ),
    )  # fmt: skip
    made = iterate_average(
        root / "picks.star", root / weights, settings, device=torch.device("cpu"), reference=root / "start.mrc"
    )
    told = json.loads((made.folder / "average.json").read_text())["helix"]
    assert told["rise_angstrom"] == pytest.approx(RISE, abs=0.05)
    assert told["twist_deg"] == pytest.approx(TWIST, abs=0.05)
    assert told["deviations"] > 5.0
    assert not any("prior" in caveat or "start map" in caveat for caveat in made.caveats)
    picks, found = read_particles(root / "picks.star"), read_particles(made.folder / "particles.star")
    tilt, across, up, turn = helical_errors(found, true, middles)
    assert np.median(tilt) < 1.0
    assert np.mean(tilt > 10.0) < 0.05  # polarity
    right = tilt < 10.0
    assert np.median(across[right]) < 0.3 * PIXEL
    assert np.median(np.abs(up[right])) < 0.3 * PIXEL
    assert np.median(np.abs(turn[right])) < 1.5  # 2.6 A at the wall
    assert np.mean(np.abs(turn[right]) < 6.0) > 0.9
    # nothing slid farther than half a rise along its axis
    moved = found.positions_angstrom - picks.positions_angstrom
    along = np.einsum("ni,ni->n", moved, picks.rotations[:, :, 2])
    assert np.abs(along).max() < 0.5 * RISE + 1.0
