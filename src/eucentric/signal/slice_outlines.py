"""Outlines of masks in slices: closed lines half-way between the voxels inside and those outside. numpy.

Filled again (`painted_labels.fill_polygon`) they give the mask they were drawn around: every voxel's centre lies a third of a voxel or
more away from the line.
"""

import numpy as np
from numpy.typing import ArrayLike

from eucentric.errors import ShapeError
from eucentric.typing import FloatArray

# Of the four voxels around a corner: row and column 0 or 1. The line crosses the sides between them.
_UP, _DOWN, _LEFT, _RIGHT = (0, 1), (2, 1), (1, 0), (1, 2)
# By inside voxels (top left 1, top right 2, bottom left 4, bottom right 8): steps with the inside on one hand.
# Two inside voxels across a corner are apart.
_STEPS = {
    1: ((_UP, _LEFT),),
    2: ((_RIGHT, _UP),),
    3: ((_RIGHT, _LEFT),),
    4: ((_LEFT, _DOWN),),
    5: ((_UP, _DOWN),),
    6: ((_RIGHT, _UP), (_LEFT, _DOWN)),
    7: ((_RIGHT, _DOWN),),
    8: ((_DOWN, _RIGHT),),
    9: ((_UP, _LEFT), (_DOWN, _RIGHT)),
    10: ((_DOWN, _UP),),
    11: ((_DOWN, _LEFT),),
    12: ((_LEFT, _RIGHT),),
    13: ((_UP, _RIGHT),),
    14: ((_LEFT, _UP),),
}


def trace_outlines(mask: ArrayLike) -> list[FloatArray]:
    """Closed lines around the pieces of a slice and around their holes, the longest first.

    Parameters
    ----------
    mask : (row, column), True inside

    Returns
    -------
    of each line (point, 2): column and row in voxels, counted from 0 at the centre of the first; the last point joins the first, and
    points on a straight line between others are left out

    Raises
    ------
    ShapeError : not a slice
    """
    inside = np.asarray(mask, dtype=bool)
    if inside.ndim != 2:
        raise ShapeError(f"A mask of shape {inside.shape} was given; expected (row, column).")
    around = np.pad(inside, 1).astype(np.int64)
    case = around[:-1, :-1] + 2 * around[:-1, 1:] + 4 * around[1:, :-1] + 8 * around[1:, 1:]
    # places in half voxels: a crossing of a side is the same for the corners on both of its ends
    following: dict[tuple[int, int], tuple[int, int]] = {}
    for row, column in np.argwhere((case > 0) & (case < 15)).tolist():
        for (y1, x1), (y2, x2) in _STEPS[int(case[row, column])]:
            following[2 * row + y1, 2 * column + x1] = (2 * row + y2, 2 * column + x2)
    lines = []
    while following:
        first, at = following.popitem()
        line = [first]
        while at != first:
            line.append(at)
            at = following.pop(at)
        places = np.array(line, dtype=np.float64)[:, ::-1] / 2.0 - 1.0
        before, after = places - np.roll(places, 1, axis=0), np.roll(places, -1, axis=0) - places
        turns = np.abs(before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]) > 1e-9
        lines.append(places[turns])
    return sorted(lines, key=len, reverse=True)
