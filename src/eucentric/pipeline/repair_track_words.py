"""What an alignment says of tracks that a person corrected: how many there were, and which of them disagree."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from eucentric.errors import FormatError
from eucentric.io.tracks import read_tracks_by_hand
from eucentric.pipeline.aligning import Aligned

_FAR = 4.0
"""Median errors of all points, and three standard deviations of its own, beyond which a point disagrees."""
_SIGMAS = 3.0
_NAMED = 5


def with_words_on_given(aligned: Aligned, path: Path) -> Aligned:
    """The alignment with the number of points set by hand, and words on those that the other points do not bear out.

    Parameters
    ----------
    path : tracks that it was made with
    """
    try:
        marks = read_tracks_by_hand(path) if path.suffix == ".star" else set()
    except FormatError:
        return aligned
    tracks, curves = aligned.tracks, aligned.curves
    if tracks is None or not marks or "track_left_out" not in curves:
        return aligned
    tilts = aligned.series.tilts
    hand = np.array(
        [
            (int(p), tilts[t].acquisition) in marks
            for p, t in zip(tracks.points.tolist(), tracks.tilts.tolist(), strict=True)
        ]
    )
    error = np.linalg.norm(curves["track_left_out"], axis=1)
    own = np.sqrt(np.trace(tracks.covariance, axis1=1, axis2=2))
    far = curves["track_outlier"] | ((error > _FAR * np.median(error)) & (error > _SIGMAS * own))
    wrong = np.flatnonzero(hand & far)
    metrics = aligned.metrics | {"tracks_by_hand": float(hand.sum()), "tracks_by_hand_that_disagree": float(len(wrong))}
    if not len(wrong):
        return replace(aligned, metrics=metrics)
    worst = wrong[np.argsort(-error[wrong])]
    named = "; ".join(
        f"point {tracks.points[i]} at {tilts[tracks.tilts[i]].nominal_tilt_deg:.1f} degrees by {error[i]:.0f} A"
        for i in worst[:_NAMED]
    )
    more = " ..." if len(worst) > _NAMED else ""
    words = f"{len(wrong)} of {int(hand.sum())} points set by hand lie elsewhere than the others say: {named}{more}."
    return replace(aligned, metrics=metrics, caveats=(*aligned.caveats, words))
