"""How many objects belong to each parent: spikes on a virion, receptors on a vesicle. numpy, A."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2

from eucentric.errors import InputError, ShapeError
from eucentric.segmentation.geometry.distances import nearest_places
from eucentric.segmentation.geometry.measures import Table
from eucentric.segmentation.geometry.surfaces import Surface, enclosed_volume, surface_area
from eucentric.typing import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parents:
    """To which parent each object belongs."""

    labels: NDArray[np.int64]
    """(object,), number of the parent; 0 where none is near enough."""
    distance_angstrom: FloatArray
    """(object,), to the nearest parent, whether it is near enough or not; positive on the side of its normals."""
    second_distance_angstrom: FloatArray
    """(object,), to the next parent, without sign; infinite where there is one parent only."""
    limit_angstrom: float

    @property
    def doubtful(self) -> NDArray[np.bool_]:
        """(object,), those that a second parent could claim, too."""
        return np.asarray((self.labels != 0) & (self.second_distance_angstrom <= self.limit_angstrom))


def assign_parents(
    positions_angstrom: ArrayLike,
    parents: Mapping[int, Surface],
    limit_angstrom: float,
    *,
    outside_only: bool = False,
) -> Parents:
    """Each object goes to the nearest surface, where that is within the limit.

    Parameters
    ----------
    parents : surfaces by number, from 1
    outside_only : objects on the side away from the normals, such as inside a closed surface, belong to none

    Raises
    ------
    ShapeError : positions that are not (n, 3)
    InputError : no parents, one without area, a number below 1, or a limit that is not positive
    """
    if not parents or min(parents) < 1:
        raise InputError("Parents are numbered from 1, and one at least is needed. Give their surfaces.")
    if not (np.isfinite(limit_angstrom) and limit_angstrom > 0):
        raise InputError(f"The limit is {limit_angstrom:g} A; expected a positive number.")
    places = np.asarray(positions_angstrom, dtype=np.float64)
    if places.ndim != 2 or places.shape[1] != 3:
        raise ShapeError(f"Positions of shape {places.shape} were given; expected (n, 3).")
    signed = np.stack([nearest_places(s, places).signed_angstrom for s in parents.values()])
    order = np.argsort(np.abs(signed), axis=0, kind="stable")
    row = np.arange(len(places))
    nearest = signed[order[0], row]
    good = np.abs(nearest) <= limit_angstrom
    if outside_only:
        good &= nearest >= 0
    return Parents(
        labels=np.where(good, np.array(list(parents), dtype=np.int64)[order[0]], 0),
        distance_angstrom=nearest,
        second_distance_angstrom=np.abs(signed[order[1], row]) if len(parents) > 1 else np.full(len(places), np.inf),
        limit_angstrom=limit_angstrom,
    )


def stoichiometry_table(
    assigned: Parents,
    parents: Mapping[int, Surface],
    *,
    kinds: Sequence[str] | NDArray[np.str_] | None = None,
    confidence: float = 0.95,
) -> Table:
    """One row a parent and kind, parents without objects too: count, its Poisson interval, density on the area.

    The interval is that of the mean behind one count [1]_. It says nothing of objects that were missed.

    Parameters
    ----------
    kinds : (object,); all are one kind, called ``object``, where None

    Raises
    ------
    ShapeError : kinds of another length
    InputError : a confidence that is not between 0 and 1

    References
    ----------
    .. [1] Garwood, Biometrika 28:437 (1936), doi:10.1093/biomet/28.3-4.437
    """
    if not 0 < confidence < 1:
        raise InputError(f"The confidence is {confidence:g}; expected a number between 0 and 1.")
    names = np.asarray(["object"] * len(assigned.labels) if kinds is None else kinds, dtype=np.str_)
    if names.shape != assigned.labels.shape:
        raise ShapeError(f"{len(names)} kinds were given for {len(assigned.labels)} objects.")
    every = np.unique(names) if len(names) else np.array(["object"])
    rows = [(label, kind) for label in parents for kind in every]
    count = np.array([((assigned.labels == label) & (names == kind)).sum() for label, kind in rows], dtype=np.int64)
    low, high = poisson_interval(count, confidence)
    area = np.array([surface_area(parents[label]) for label, _ in rows])
    return {
        "label": np.array([label for label, _ in rows], dtype=np.int64),
        "kind": np.array([kind for _, kind in rows], dtype=np.str_),
        "count": count,
        "count_low": low,
        "count_high": high,
        "doubtful": np.array(
            [(assigned.doubtful & (assigned.labels == label) & (names == kind)).sum() for label, kind in rows],
            dtype=np.int64,
        ),
        "area_angstrom2": area,
        "enclosed_volume_angstrom3": np.array([abs(enclosed_volume(parents[label])) for label, _ in rows]),
        "density_per_angstrom2": count / area,
        "density_low_per_angstrom2": low / area,
        "density_high_per_angstrom2": high / area,
    }


def poisson_interval(count: NDArray[np.int64], confidence: float) -> tuple[FloatArray, FloatArray]:
    """The exact interval of the mean of a Poisson distribution from one count each."""
    tail = 0.5 * (1.0 - confidence)
    low = np.where(count > 0, 0.5 * chi2.ppf(tail, 2.0 * np.maximum(count, 1)), 0.0)
    high = 0.5 * chi2.ppf(1.0 - tail, 2.0 * (count + 1.0))
    return np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
