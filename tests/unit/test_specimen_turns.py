"""How the frame of an estimate is turned against the true one."""

import numpy as np

from eucentric.evaluation.alignment_error import AlignmentError
from eucentric.geometry.rotations import Rotation, rotation_y


def test_a_turn_may_be_told_by_the_slopes_of_the_bend_alone():
    """A rotation by 8 degrees about y, half of it written as slopes: the turn is the rotation nearest to the map."""
    half = 1000.0
    true, part = rotation_y(8.0), rotation_y(4.0)
    bend = np.zeros((6, 3))
    bend[1] = half * (true - part)[:, 0]
    bend[2] = half * (true - part)[:, 1]
    error = AlignmentError(
        rms_angstrom=0.0,
        percentile_95_angstrom=0.0,
        per_tilt_angstrom=np.zeros(1),
        rotation=part,
        bend_angstrom=bend,
        half_field_angstrom=half,
    )
    points = np.array([[0.0, 0.0, 0.0], [300.0, -200.0, 0.0]])
    np.testing.assert_allclose(error.to_estimate(points), points @ true.T, atol=1e-9)
    turns = Rotation(error.turn_at(points))
    both = Rotation(np.broadcast_to(true, (2, 3, 3)).copy())
    # what lies at z = 0 tells x and y; the column of z is shared between both rotations
    assert turns.angle_to_deg(both).max() < 2.1
    np.testing.assert_allclose(np.linalg.det(turns.matrices), 1.0)
