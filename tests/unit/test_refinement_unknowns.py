"""Columns of every group against finite differences of what its images become when it is applied."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from eucentric.geometry import Deformation, ImageWarp, VolumeWarp
from eucentric.refinement.image_sums import BANDS, LOCAL, ImageSums, RefinedParticles
from eucentric.refinement.image_views import ImageViews
from eucentric.refinement.normal_equations import own_slopes
from eucentric.refinement.unknowns import (
    OPTICS_TERMS,
    AnisotropicMagnification,
    Astigmatism,
    CommonAngles,
    ImageWarpGrid,
    PhaseShift,
    SeriesDefocus,
    SeriesState,
    StageAngles,
    TiltContrast,
    TiltDefocus,
    TiltMagnification,
    TiltShifts,
    VolumeWarpGrid,
    moved_particles,
)
from refinement_scene import OPTICS, PIXEL, SHAPE, astigmatism_of, camera_of, scattered, seen_with, tilt_series

STEP_DEG, COUNT = 24.0, 5
TILTS = 6
KNOTS = np.array([0.0, 6.0, 18.0])
SQUARES = (np.arange(BANDS) / (BANDS - 1) / 11.0) ** 2
GROUPS = [
    TiltShifts(TILTS),
    StageAngles(TILTS),
    CommonAngles(),
    TiltMagnification(TILTS),
    AnisotropicMagnification(),
    ImageWarpGrid(tilts=TILTS, grid=(3, 2), image_shape=SHAPE, pixel_size_angstrom=PIXEL),
    VolumeWarpGrid(grid=(1, 3, 2), doses=KNOTS, extent_angstrom=(900.0, 1800.0, 1900.0)),
    TiltDefocus(TILTS),
    SeriesDefocus(),
    Astigmatism(),
    PhaseShift(),
    TiltContrast(tilts=TILTS, band_squares=SQUARES),
    *OPTICS_TERMS,
]


def _state(*, bent: bool) -> SeriesState:
    series = tilt_series(step=STEP_DEG)
    rng = np.random.default_rng(4)
    tilts = [replace(t, pose=replace(t.pose, magnification=1.0 + 0.02 * rng.normal())) for t in series.tilts]
    series = series.with_tilts(tilts).replace(hand=-1.0)
    positions, rotations = scattered(COUNT)
    deformation = Deformation()
    if bent:
        volume = VolumeWarp.build(rng.normal(0.0, 2.0, (3, 2, 2, 2, 3)), [0.0, 8.0, 18.0], (1000.0, 1900.0, 1900.0))
        image = ImageWarp.build(rng.normal(0.0, 1.0, (TILTS, 2, 2, 2)), SHAPE, PIXEL)
        deformation = Deformation(image=image, volume=volume)
    particles = RefinedParticles(
        positions_angstrom=positions,
        rotations=rotations,
        references=np.zeros(COUNT, np.int64),
        contrasts=np.ones(COUNT),
    )
    return SeriesState(series=series, deformation=deformation, particles=(particles,))


def _views(state: SeriesState) -> ImageViews:
    particle, tilt = np.repeat(np.arange(COUNT), TILTS), np.tile(np.arange(TILTS), COUNT)
    images, local = len(tilt), len(LOCAL)
    sums = ImageSums(
        overlap=np.zeros((images, local)), norm=np.zeros((images, local, local)), particle=particle, tilt=tilt
    )
    positions = state.particles[0].positions_angstrom
    return ImageViews.build(sums, positions, np.zeros(COUNT, np.int64), state.series, state.deformation)


def _measured(state: SeriesState) -> dict[str, np.ndarray]:
    """What every image shows of its particle, particle by particle, written out."""
    series, particles = state.series, state.particles[0]
    places, heights = seen_with(series, state.deformation, particles.positions_angstrom)
    turns = np.array([[camera_of(p) @ r for p in series.poses] for r in particles.rotations]).reshape(-1, 3, 3)
    by_tilt = {
        "magnification": [math.log(t.pose.magnification) for t in series.tilts],
        "astigmatism_x": [astigmatism_of(t.ctf)[0] for t in series.tilts],
        "astigmatism_y": [astigmatism_of(t.ctf)[1] for t in series.tilts],
        "phase": [math.radians(t.ctf.phase_shift_deg) for t in series.tilts],
        "spherical": [series.optics.spherical_aberration_mm] * TILTS,
        "coma_x": [series.optics.beam_tilt_mrad[0]] * TILTS,
        "coma_y": [series.optics.beam_tilt_mrad[1]] * TILTS,
        "trefoil_x": [series.optics.trefoil_rad_angstrom3[0]] * TILTS,
        "trefoil_y": [series.optics.trefoil_rad_angstrom3[1]] * TILTS,
    } | {
        f"band{j}": [math.log(t.signal_scale) - 0.25 * t.b_factor_angstrom2 * s for t in series.tilts]
        for j, s in enumerate(SQUARES)
    }
    centre = np.array([t.ctf.defocus_angstrom for t in series.tilts])
    out = {name: np.tile(values, COUNT) for name, values in by_tilt.items()}
    out["defocus"] = (centre[:, None] + series.hand * heights).T.reshape(-1)
    out["x"], out["y"] = places[..., 0].T.reshape(-1), places[..., 1].T.reshape(-1)
    return out | {"turns": turns}


def _difference(high: dict[str, np.ndarray], low: dict[str, np.ndarray], step: float) -> dict[str, np.ndarray]:
    out = {name: (high[name] - low[name]) / (2.0 * step) for name in high if name != "turns"}
    turn = Rotation.from_matrix(high["turns"] @ np.swapaxes(low["turns"], 1, 2)).as_rotvec() / (2.0 * step)
    return out | {f"turn_{axis}": turn[:, i] for i, axis in enumerate("xyz")}


def _close(got: dict[str, np.ndarray], true: dict[str, np.ndarray], part: float) -> None:
    assert set(got) <= set(LOCAL)
    for name in LOCAL:
        expected = true[name]
        values = got.get(name, np.zeros_like(expected))
        along = ("x", "y", "defocus") if name in ("x", "y", "defocus") else (name,)  # all in A
        largest = max(float(np.abs(true[n]).max()) for n in along)
        assert float(np.abs(values - expected).max()) <= part * largest + 1e-6, name


@pytest.mark.parametrize("bent", [False, True])
@pytest.mark.parametrize("group", GROUPS, ids=lambda g: g.name)
def test_columns_are_what_images_become_when_the_group_is_applied(group, bent):
    if bent and isinstance(group, TiltContrast):
        pytest.skip("nothing of it depends on the deformation")
    state = _state(bent=bent)
    columns = group.columns(_views(state))
    unknowns = next(iter(columns.values())).shape[1]
    assert group.precision(1.0).shape == (unknowns, unknowns)
    rng = np.random.default_rng(6)
    for _ in range(4):  # directions: a column that is wrong is in almost all of them
        direction = rng.normal(size=unknowns)
        if isinstance(group, TiltContrast):  # applied about the mean of the series
            direction = (direction.reshape(-1, 2) - direction.reshape(-1, 2).mean(0)).reshape(-1)
        step = 1e-3 * group.sizes[0]
        high, low = (_measured(group.applied(state, sign * step * direction)) for sign in (1.0, -1.0))
        got = {name: column @ direction for name, column in columns.items()}
        # images that are deformed already turn a displacement of the specimen by a thousandth
        _close(got, _difference(high, low, step), 0.01 if bent else 1e-4)


@pytest.mark.parametrize("bent", [False, True])
@pytest.mark.parametrize("axis", range(6))
def test_slopes_of_a_particle_are_what_its_images_become_when_it_moves(axis, bent):
    state = _state(bent=bent)
    slopes = own_slopes(_views(state))
    step = 0.01 if axis < 3 else 1e-4

    def changed(sign):
        changes = np.zeros((COUNT, 7))
        changes[:, axis] = sign * step
        return _measured(replace(state, particles=(moved_particles(state.particles[0], changes),)))

    got = {name: slopes[:, i, axis] for i, name in enumerate(LOCAL)}
    _close(got, _difference(changed(1.0), changed(-1.0), step), 0.02 if bent else 1e-4)


@pytest.mark.parametrize("group", GROUPS, ids=lambda g: g.name)
def test_nothing_applied_changes_nothing_and_priors_are_positive(group):
    state = _state(bent=True)
    columns = group.columns(_views(state))
    zero = np.zeros(next(iter(columns.values())).shape[1])
    before, after = _measured(state), _measured(group.applied(state, zero))
    for name, values in before.items():
        np.testing.assert_allclose(after[name], values, atol=1e-6)
    for size in group.sizes:
        assert np.linalg.eigvalsh(group.precision(size)).min() > 0.0


def test_a_series_without_optics_keeps_none():
    state = _state(bent=False)
    state = replace(state, series=state.series.replace(optics=None))
    assert OPTICS_TERMS[0].applied(state, np.ones(1)).series.optics is None
    assert OPTICS.beam_tilt_mrad == (0.0, 0.0)
