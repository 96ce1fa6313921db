"""What would have been predicted of series that are over."""

import numpy as np

from eucentric.acquisition.goniometer import GoniometerModel
from eucentric.acquisition.params import PredictionParams
from eucentric.acquisition.predict_position import PositionPredictor
from eucentric.acquisition.results import PredictionErrors, Replay, Way
from eucentric.acquisition.stage_model import filled_times
from eucentric.models.stage_track import StageTrack
from eucentric.typing import FloatArray

FIRST_JUDGED = 4
"""Images before this one tell too little to predict from."""


def replay(
    track: StageTrack, params: PredictionParams | None = None, goniometer: GoniometerModel | None = None
) -> Replay:
    """Predict every tilt of a recorded series from those before it.

    Parameters
    ----------
    track : places in the order of acquisition
    params : what is believed of the stage
    goniometer : learned from other series, never from this one

    Raises
    ------
    InputError : an angle beyond the stage
    """
    predictor = PositionPredictor(params, goniometer)
    times = filled_times(track.times_s, predictor.params)
    count = len(track)
    predicted, sigma = np.full((count, 3), np.nan), np.full((count, 3), np.nan)
    tracking, rejected, ways = [], [], []
    previous: Way = "previous tilts"
    for i, tilt in enumerate(track.tilts_deg):
        if i:
            said = predictor.predict(float(tilt), time_s=float(times[i]))
            predicted[i] = (*said.position_angstrom, said.height_angstrom)
            sigma[i] = (*said.position_sigma_angstrom, said.focus_sigma_angstrom)
            previous = said.way
        tracking.append(bool(i and said.track_now))
        ways.append(previous)
        height, height_sigma = track.height_angstrom[i], track.height_sigma_angstrom[i]
        place_sigma = track.position_sigma_angstrom[i]
        answer = predictor.update(
            float(tilt),
            track.position_angstrom[i],
            sigma_angstrom=float(place_sigma) if np.isfinite(place_sigma) and place_sigma > 0 else None,
            height_angstrom=float(height) if np.isfinite(height) else None,
            height_sigma_angstrom=float(height_sigma) if np.isfinite(height_sigma) and height_sigma > 0 else None,
            time_s=float(times[i]),
        )
        rejected.append(not answer.accepted)
    return Replay(
        name=track.name,
        tilts_deg=track.tilts_deg,
        predicted_angstrom=predicted,
        measured_angstrom=np.column_stack([track.position_angstrom, track.height_angstrom]),
        sigma_angstrom=sigma,
        tracking=tuple(tracking),
        rejected=tuple(rejected),
        ways=tuple(ways),
    )


def prediction_errors(track: StageTrack, goniometer: GoniometerModel | None = None) -> PredictionErrors:
    """Of every tilt of a recorded series, predicted from those before it; errors of the measurements are in them.

    Parameters
    ----------
    track : places in the order of acquisition
    goniometer : learned from other series, never from this one

    Raises
    ------
    InputError : an angle beyond the stage
    """
    error = replay(track, goniometer=goniometer).error_angstrom[FIRST_JUDGED:]
    across, along, height = (_rms(component[np.isfinite(component)]) for component in error.T)
    known = 0 if goniometer is None else goniometer.series_count
    return PredictionErrors(across=across, along=along, height=height, series_known=known)


def _rms(values: FloatArray) -> float:
    return float(np.sqrt(np.mean(values**2))) if values.size else float("nan")
