"""Which tilt of a series an entry of another program's list is of: by name, by section, by angle."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from eucentric.io.external_alignments import movie_stem
from eucentric.models.tilt_series import Tilt

_NEAR = 0.45  # of the step between tilts
_STEP_DEG = 3.0  # where there is one tilt only


def tilts_by_name(tilts: Iterable[Tilt]) -> dict[str, int]:
    """Position of each tilt by the names of its movie and image, without folder and ending; the first of one name."""
    where: dict[str, int] = {}
    for i, tilt in enumerate(tilts):
        for name in (tilt.movie, tilt.image):
            if name and "@" not in name:
                where.setdefault(movie_stem(name), i)
    return where


def stack_section(tilt: Tilt) -> int | None:
    """Section of the stack that the tilt's image was imported from, from 0; None for an image from elsewhere."""
    if tilt.movie is not None or not tilt.image:
        return None
    number, at, _ = tilt.image.partition("@")
    return int(number) - 1 if at and number.isdecimal() else None


def near_angle(angles: Sequence[float]) -> float:
    """Degrees: angles of two lists that are closer than this are of the same view."""
    steps = np.diff(np.sort(angles))
    steps = steps[steps > 0.1]
    return _NEAR * (float(np.median(steps)) if len(steps) else _STEP_DEG)


def angles_agree(tilts: Sequence[Tilt], listed: Sequence[float | None], pairs: Mapping[int, int]) -> bool:
    """Whether listed angles differ from those of the tilts that they are paired with by the same, as far as they are known.

    Parameters
    ----------
    pairs : place in `listed` by position in `tilts`
    """
    known = ((tilts[i].nominal_tilt_deg, listed[j]) for i, j in pairs.items())
    away = np.array([angle - own for own, angle in known if angle is not None])
    spread = float(np.abs(away - np.median(away)).max()) if len(away) else 0.0
    return spread < near_angle([t.nominal_tilt_deg for t in tilts])
