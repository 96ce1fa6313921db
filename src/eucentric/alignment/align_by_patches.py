"""The most probable geometry and deformation, from patches tracked against what all other images show.

Every round is a step of Gauss and Newton on the whitened residual between the images and the projections of the
reconstruction made without each of them. Patches carry its gradient and curvature into the bundle adjustment, where points that
are free to move stand for the reconstruction that follows the images.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from eucentric.alignment.bundle_adjustment import BundleResult, adjust_bundle
from eucentric.alignment.bundle_model import BundleModel
from eucentric.alignment.track_patches import PatchTracker, PatchTracks
from eucentric.errors import InputError
from eucentric.geometry.tilt import TiltGeometry
from eucentric.geometry.warp import ImageWarp
from eucentric.models.tracks import Tracks
from eucentric.typing import FloatArray

_USUAL_COURSE = 30.0
_OTHER_COURSES = (10.0, 100.0)
"""e/A^2 after which a deformation has reached 63% of its end."""
_SURE = 2.0
"""Standard errors by which the deformation must raise the scores to be kept."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PatchAlignment:
    """What patches say about a tilt series."""

    geometry: TiltGeometry
    warp: ImageWarp | None
    """None where the specimen is taken as rigid."""
    tracks: Tracks
    """What the adjustment was given."""
    bundle: BundleResult
    """The adjustment that gave `geometry` and `warp`."""
    start_scores: FloatArray
    """(tilt,): correlation of each image with the projection of the reconstruction without it, before."""
    scores: FloatArray
    """(tilt,), after."""
    gain_by_local: float | None
    """Mean rise of the scores by the local deformation; None where none was tried."""
    error_of_gain: float | None
    """Standard error of `gain_by_local`, over tilts."""
    rounds: int

    @property
    def improved(self) -> bool:
        """Whether images agree better with each other than at the start."""
        return float(self.scores.mean()) > float(self.start_scores.mean())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _State:
    """A geometry, how well images agree in it, and the adjustment that it came from."""

    geometry: TiltGeometry
    warp: ImageWarp | None
    seen: PatchTracks
    bundle: BundleResult | None
    tracks: Tracks
    """Of the adjustment; where there was none, those seen."""

    @property
    def score(self) -> float:
        return float(self.seen.scores.mean())


def align_by_patches(
    images: Float[Tensor, "tilt y x"],
    start: TiltGeometry,
    *,
    pixel_size: float,
    doses: ArrayLike | None = None,
    local: bool | None = None,
    hold_axis: bool = False,
    patch_angstrom: float = 400.0,
    match_pixel_size: float = 16.0,
    thickness: float = 2400.0,
    low_pass: float = 40.0,
    high_pass: float = 1000.0,
    most_rounds: int = 6,
    least_gain: float = 5e-4,
    progress: Callable[[float, str], None] | None = None,
) -> PatchAlignment:
    """Track patches and adjust the bundle in turn, until images do not agree better with what the others show.

    The specimen is rigid at first, and bends then. Each image is left out of its own reference, so that the scores are
    held-out evidence: they decide when to stop, and whether the deformation is kept.

    Parameters
    ----------
    images : (tilt, y, x), features dark, ascending tilt
    start : right to a fraction of `low_pass`, as projection matching leaves it
    pixel_size : A
    doses : (tilt,), e/A^2 received when each image was taken; None takes the specimen as rigid
    local : whether the specimen may bend with dose; None decides by the scores
    hold_axis : the tilt axis stays as it is
    patch_angstrom : A, side of a patch
    match_pixel_size, thickness, low_pass, high_pass : A, see :class:`PatchTracker`
    most_rounds : of tracking and adjustment, with the specimen rigid, and again with it bent
    least_gain : part of the mean score by which a round must raise it, or it is the last

    Raises
    ------
    ShapeError, InputError : images, angles, doses or sizes that do not fit together
    ProcessingError : no part of the images can be followed
    """
    tell = progress or (lambda _part, _text: None)
    sampling = max(pixel_size, match_pixel_size)
    tracker = PatchTracker(
        images,
        start.y_tilt_deg,
        pixel_size,
        match_pixel_size=sampling,
        thickness=thickness,
        low_pass=max(low_pass, 2.2 * sampling),
        high_pass=high_pass,
        patch_angstrom=patch_angstrom,
    )
    if most_rounds < 1:
        raise InputError(f"{most_rounds} rounds of patch tracking were asked for; expected at least one.")
    work = _Rounds(
        tracker=tracker,
        shape=(int(images.shape[1]), int(images.shape[2])),
        pixel_size=pixel_size,
        doses=None if doses is None else np.asarray(doses, dtype=np.float64),
        hold_axis=hold_axis,
        most=most_rounds,
        least_gain=least_gain,
    )
    bends = doses is not None and local is not False
    share = 0.5 if bends else 1.0
    first = work.begin(start)
    best, rounds = work.improved(first, 0, lambda part: tell(share * part, "patches"))
    gain, error = None, None
    if bends:
        bent, more = work.improved(best, 2, lambda part: tell(share * (1.0 + part), "patches, local"))
        bent = work.best_course(bent)
        rounds += more
        rises = bent.seen.scores - best.seen.scores
        gain, error = float(rises.mean()), float(rises.std(ddof=1) / np.sqrt(len(rises)))
        best = bent if local or gain > _SURE * error else best
    tell(1.0, "")
    return PatchAlignment(
        geometry=best.geometry,
        warp=best.warp,
        tracks=best.tracks,
        bundle=replace(best.bundle or work.adjusted(first, 0), geometry=best.geometry, warp=best.warp),
        start_scores=first.seen.scores,
        scores=best.seen.scores,
        gain_by_local=gain,
        error_of_gain=error,
        rounds=rounds,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Rounds:
    """Tracking and adjustment in turn."""

    tracker: PatchTracker
    shape: tuple[int, int]
    pixel_size: float
    doses: FloatArray | None
    hold_axis: bool
    most: int
    least_gain: float

    def begin(self, geometry: TiltGeometry) -> _State:
        seen = self.tracker.track(geometry)
        return _State(geometry=geometry, warp=None, seen=seen, bundle=None, tracks=seen.tracks)

    def adjusted(self, state: _State, order: Literal[0, 2], course: float = _USUAL_COURSE) -> BundleResult:
        return adjust_bundle(
            state.seen.tracks,
            state.geometry,
            image_shape=self.shape,
            pixel_size=self.pixel_size,
            model=BundleModel(
                axis="fixed" if self.hold_axis else "one", deformation_order=order, deformation_dose=course
            ),
            doses=self.doses,
            down_weight_moved=False,
            hold_axis=self.hold_axis,
        )

    def followed(self, state: _State, order: Literal[0, 2], course: float = _USUAL_COURSE) -> _State:
        """The state after one adjustment to what is seen in another."""
        bundle = self.adjusted(state, order, course)
        seen = self.tracker.track(bundle.geometry, warp=bundle.warp)
        return _State(geometry=bundle.geometry, warp=bundle.warp, seen=seen, bundle=bundle, tracks=state.seen.tracks)

    def best_course(self, bent: _State) -> _State:
        """The state with the course in dose in which images agree best."""
        return max(bent, *(self.followed(bent, 2, course) for course in _OTHER_COURSES), key=lambda state: state.score)

    def improved(self, begun: _State, order: Literal[0, 2], tell: Callable[[float], None]) -> tuple[_State, int]:
        """Rounds with the specimen rigid (0) or bent (2); the best state and the number of rounds.

        A bent specimen is given a round of its own before it is compared, also where that begins from a rigid one.
        """
        best = None if order else begun
        now = begun
        count = 0
        while count < self.most:
            count += 1
            tell(count / self.most)
            now = self.followed(now, order)
            enough = best is not None and now.score < (1.0 + self.least_gain) * best.score
            if best is None or now.score > best.score:
                best = now
            if enough:
                break
        return best or begun, count
