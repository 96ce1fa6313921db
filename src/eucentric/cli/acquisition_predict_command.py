"""`eucentric acquisition predict`."""

import io
import sys
from pathlib import Path
from typing import Annotated

from eucentric.acquisition.params import PredictionParams
from eucentric.cli.options import SETTINGS, Debug


def predict(
    *,
    goniometer: Path | None = None,
    state: Path | None = None,
    settings: Annotated[PredictionParams | None, SETTINGS] = None,
    debug: Debug = False,
) -> int:
    """Answer lines on the standard input: where targets will be at the next tilt, and whether to track.

    Lines are `target NAME X Y`, `spot NAME X Y`, `predict TILT`, `measured TILT X Y`, `residual DX DY`, `height TILT Z`, `state`,
    `save FILE` and `quit`; lengths are um. Each is answered by one line. Something wrong is answered by `error ...`.

    Parameters
    ----------
    goniometer
        run-out of this stage, as `eucentric acquisition learn` writes it
    state
        a file that is written after each measurement; where it exists, the series is taken up again
    """
    del debug  # read by the program itself
    from eucentric.acquisition.goniometer import GoniometerModel  # here, so that --help does not load scipy
    from eucentric.io.goniometer_files import read_goniometer
    from eucentric.pipeline.prediction_session import PredictionSession

    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")  # a stray byte is a wrong line, not the end
    model = GoniometerModel.from_dict(read_goniometer(goniometer)) if goniometer else None
    for line in PredictionSession(settings, model, state).answers(sys.stdin):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    return 0
