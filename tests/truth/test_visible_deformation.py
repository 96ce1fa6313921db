"""How strongly a specimen bends, from what images show of it: the simulator's own deformation, and what no image shows."""

import numpy as np
import pytest

from eucentric.errors import ShapeError
from eucentric.simulation import SimulationParams, plan_acquisition
from eucentric.simulation.visible_deformation import deformation_amplitude

PARAMS = SimulationParams(image_size_px=(300, 260), pixel_size_angstrom=10.0, tilt_step_deg=6.0, dose_per_tilt=6.0)


def seen(course, params, shift=None):
    """(tilt, point, 2) displacement of image places, and the places: what lies at mid-height below each is moved."""
    x, y = np.meshgrid(*(np.linspace(-0.5 * f, 0.5 * f, 7) for f in params.field_of_view_angstrom))
    places = np.column_stack([x.ravel(), y.ravel()])
    out = []
    for tilt, matrix in enumerate(course.geometry.image_matrices):
        flat = np.linalg.solve(matrix[:, :2], (places - course.geometry.shifts_angstrom[tilt]).T).T
        moved = course.deformation_at(np.column_stack([flat, np.zeros(len(flat))]), params)[tilt]
        out.append(moved @ matrix.T)
    return np.array(out), places


def amplitude(displacement, places, course):
    middle = (course.order + 0.5) * PARAMS.dose_per_tilt
    return deformation_amplitude(displacement, places, course.geometry, middle, PARAMS.field_of_view_angstrom)


@pytest.mark.parametrize("true", [4.0, 12.0])
def test_the_simulators_deformation_is_found_on_average(true):
    params = PARAMS.replace(deformation_angstrom=true)
    squares = []
    for seed in range(40):
        course = plan_acquisition(params, np.random.default_rng(seed))
        squares.append(amplitude(*seen(course, params), course) ** 2)
    # fifteen normal coefficients a draw, of unequal weight: 40 draws tell the mean square to 10% or so
    assert np.sqrt(np.mean(squares)) == pytest.approx(true, rel=0.12)


def test_what_no_series_shows_does_not_count():
    course = plan_acquisition(PARAMS, np.random.default_rng(1))
    moved, places = seen(course, PARAMS)
    rng = np.random.default_rng(5)
    shifts = rng.normal(scale=50.0, size=(len(moved), 1, 2))
    half = 0.5 * max(PARAMS.field_of_view_angstrom)
    bend = []
    for tilt, matrix in enumerate(course.geometry.image_matrices):
        u, v = np.linalg.solve(matrix[:, :2], (places - course.geometry.shifts_angstrom[tilt]).T) / half
        u, v = np.clip(u, -2, 2), np.clip(v, -2, 2)
        static = np.stack([3.0 * u * v, 5.0 * u + v, 20.0 * u**2 - 9.0 * v], axis=1)
        bend.append(static @ matrix.T)
    assert amplitude(moved + shifts + np.array(bend), places, course) == pytest.approx(
        amplitude(moved, places, course), rel=1e-6
    )
    assert amplitude(np.zeros_like(moved), places, course) == 0.0
    assert amplitude(2.0 * moved, places, course) == pytest.approx(2.0 * amplitude(moved, places, course), rel=1e-9)


def test_arrays_must_belong_together():
    course = plan_acquisition(PARAMS, np.random.default_rng(1))
    moved, places = seen(course, PARAMS)
    with pytest.raises(ShapeError, match="places"):
        amplitude(moved[:-1], places, course)
