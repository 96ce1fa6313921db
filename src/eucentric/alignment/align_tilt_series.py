"""Alignment of a tilt series by whatever evidence its images hold."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from eucentric.alignment.align_by_beads import BeadAlignment, TooFewBeadsError, align_by_beads
from eucentric.alignment.align_by_patches import PatchAlignment, align_by_patches
from eucentric.alignment.align_by_projection import align_by_projection, score_geometry
from eucentric.alignment.bundle_adjustment import BundleResult
from eucentric.alignment.coarse import CoarseAlignment, align_coarsely, checked_tilts
from eucentric.alignment.judge_tilts import TiltQuality, find_unmatched, judge_tilts
from eucentric.alignment.params import AlignParams
from eucentric.alignment.results import AlignmentResult
from eucentric.errors import InputError, ProcessingError
from eucentric.geometry.tilt import TiltGeometry
from eucentric.models.tracks import Tracks
from eucentric.typing import FloatArray

_FEWEST = 3
_MATCHED = 0.1
"""Median score below which no image can be told from the others."""
_MOST_POOR = 0.2
Progress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FirstLook:
    """Which tilts can be used, and a first geometry of those."""

    quality: TiltQuality
    """Of all tilts; `quality.kept` are used."""
    coarse: CoarseAlignment
    """Of those."""


def look_first(
    images: Float[Tensor, "tilt y x"],
    tilt_angles_deg: ArrayLike,
    *,
    pixel_size: float,
    axis_deg: float | None,
    params: AlignParams,
    doses: ArrayLike | None = None,
) -> FirstLook:
    """Judge the tilts, and align those that can be used by their neighbours.

    Parameters
    ----------
    images : (tilt, y, x) in ascending angle, as recorded
    doses : (tilt,), e/A^2 of each image
    others : as `align_tilt_series`

    Raises
    ------
    InputError : fewer than three tilts can be used; the message says why
    """
    tilts = np.asarray(tilt_angles_deg, dtype=np.float64)

    def judge(coarse: CoarseAlignment | None, among: list[int]) -> TiltQuality:
        return judge_tilts(
            images[among],
            tilts[among],
            pixel_size=pixel_size,
            doses=None if doses is None else np.asarray(doses)[among],
            coarse=coarse,
            dark_fraction=params.dark_fraction,
            dark_area=params.dark_area,
        )

    def align(kept: list[int]) -> CoarseAlignment:
        light = quality.intensity
        sloped = None if light is None or light.pre_tilt_deg == 0 else light.pre_tilt_deg
        return _by_neighbours(images[kept], tilts[kept], pixel_size, axis_deg, params, sloped)

    quality = judge(None, list(range(len(tilts))))
    kept = quality.kept
    _require(kept, tilts, quality)
    coarse = align(kept)
    again = judge(coarse, kept)
    if again.reasons:
        more = {kept[i]: why for i, why in again.reasons.items()}
        quality = replace(quality, reasons=dict(sorted((quality.reasons | more).items())))
        kept = quality.kept
        _require(kept, tilts, quality)
        coarse = align(kept)
    return FirstLook(quality=quality, coarse=coarse)


def _by_neighbours(
    images: Tensor,
    tilts: FloatArray,
    pixel_size: float,
    axis_deg: float | None,
    params: AlignParams,
    pre_tilt_deg: float | None = None,
) -> CoarseAlignment:
    return align_coarsely(
        images,
        tilts,
        pixel_size,
        axis_deg=axis_deg,
        coarse_pixel_angstrom=params.coarse_pixel_angstrom,
        max_shift_fraction=params.max_shift_fraction,
        pre_tilt_deg=pre_tilt_deg,
    )


def _require(kept: list[int], tilts: FloatArray, quality: TiltQuality) -> None:
    if len(kept) >= _FEWEST:
        return
    why = [f"{tilts[i]:.1f} degrees: {reason}" for i, reason in list(quality.reasons.items())[:3]]
    raise InputError(
        f"Only {len(kept)} of {len(tilts)} tilts can be used; expected at least three to align a tilt series."
        + (f" Left out were {'; '.join(why)}{' ...' if len(quality.reasons) > len(why) else ''}." if why else "")
    )


def align_tilt_series(
    images: Float[Tensor, "tilt y x"],
    tilt_angles_deg: ArrayLike,
    *,
    pixel_size: float,
    axis_deg: float | None,
    params: AlignParams,
    exposures: ArrayLike | None = None,
    coarse: CoarseAlignment | None = None,
    start: TiltGeometry | None = None,
    tracks: Tracks | None = None,
    progress: Progress | None = None,
) -> AlignmentResult:
    """Geometry and local deformation of a tilt series.

    Neighbours come first. Gold beads are used where there are enough (`method` auto or beads); otherwise projections are
    matched, and patches refine what comes out. `reasons` of the result say which, and why.

    Parameters
    ----------
    images : (tilt, y, x) in ascending angle, tilts that cannot be used left out, features dark
    tilt_angles_deg : (tilt,), as the stage gave them; a common offset is a rotation of the specimen and stays as given
    pixel_size : A
    axis_deg : rlnTomoZRot as the microscope gave it, or None to search the half circle
    exposures : (tilt,), e/A^2 received by the time each image was taken; None takes the specimen as rigid
    coarse : of the same tilts, where it is there already (`look_first`)
    start : of the same tilts, to be refined, in place of what neighbours tell
    tracks : corrected by hand: the geometry is fitted to them, whatever `params.method` says
    progress : called with the part done and what is being done

    Raises
    ------
    ShapeError, InputError : images and angles that do not fit together, fewer than three tilts, values that are not finite
    ProcessingError : `method` beads, and there are too few
    """
    tilts = checked_tilts(images, tilt_angles_deg)
    tell = progress or (lambda _part, _text: None)
    if start is None and coarse is None:
        tell(0.0, "neighbouring tilts")
        coarse = _by_neighbours(images, tilts, pixel_size, axis_deg, params)
    first, caveats = (start, ()) if start is not None or coarse is None else (coarse.geometry, coarse.caveats)
    assert first is not None
    bend = None if params.local == "off" or exposures is None else np.asarray(exposures, dtype=np.float64)
    work = _Work(images, tilts, pixel_size, bend, params, first, start is not None, tell)
    return _by_evidence(work, tracks, caveats)


def _by_evidence(work: "_Work", tracks: Tracks | None, caveats: tuple[str, ...]) -> AlignmentResult:
    why: tuple[str, ...] = ()
    method = work.params.method
    if tracks is not None or method in ("auto", "beads"):
        try:
            found = work.by_beads(tracks)
            poor = _poor(found.scores, work.tilts)
            if poor and tracks is None:
                found = _narrowed(work.without(poor, found).by_beads(None), found, poor)
            return replace(found, caveats=caveats + found.caveats)
        except TooFewBeadsError as error:
            if method == "beads":
                raise
            why = (f"No beads were used. {_first_sentence(error)}",)
    matched = work.by_projection(0.6 if method != "projection" else 1.0)
    if poor := _poor(matched.scores, work.tilts):
        work = work.without(poor, matched)
        matched = _narrowed(work.by_projection(0.6), matched, poor)
    if method == "projection":
        why = ("Projection matching was asked for.",)
    matched = replace(matched, reasons=why, caveats=caveats + matched.caveats)
    return matched if method == "projection" else work.by_patches(matched)


def _poor(scores: FloatArray, tilts: FloatArray) -> dict[int, str]:
    """Tilts that do not match the others after alignment, with the reason; none where they are many or all match badly."""
    poor = find_unmatched(scores, tilts)
    if float(np.median(scores)) < _MATCHED or len(poor) > min(_MOST_POOR * len(scores), len(scores) - _FEWEST):
        return {}
    return poor


def _narrowed(again: AlignmentResult, before: AlignmentResult, poor: dict[int, str]) -> AlignmentResult:
    """The alignment without poor tilts, with the axis search that was made with them."""
    return replace(
        again,
        rejected=poor,
        axis_sigma_deg=before.axis_sigma_deg,
        axis_angles_deg=before.axis_angles_deg,
        axis_scores=before.axis_scores,
    )


def _first_sentence(error: Exception) -> str:
    return str(error).partition(". ")[0].rstrip(".") + "."


@dataclass(frozen=True, slots=True)
class _Work:
    """A series with its first geometry."""

    images: Tensor
    tilts: FloatArray
    pixel_size: float
    exposures: FloatArray | None
    params: AlignParams
    first: TiltGeometry
    near: bool
    """The first geometry is one to be refined, not what neighbours tell."""
    tell: Progress

    def without(self, poor: dict[int, str], aligned: AlignmentResult) -> "_Work":
        """The series less some tilts, about the geometry and tilt axis that were found."""
        keep = [i for i in range(len(self.tilts)) if i not in poor]
        return replace(
            self,
            images=self.images[keep],
            tilts=self.tilts[keep],
            exposures=None if self.exposures is None else self.exposures[keep],
            params=self.params.replace(axis_search_deg=0.0),
            first=aligned.geometry[keep],
            near=True,
        )

    def by_projection(self, share: float) -> AlignmentResult:
        """Projection matching; `share` is its part of the progress."""
        return align_by_projection(
            self.images,
            self.tilts,
            self.first,
            pixel_size=self.pixel_size,
            params=self.params,
            near=self.near,
            fine_axis=self.params.method == "projection",
            progress=lambda part, text: self.tell(share * part, text),
        )

    def by_beads(self, tracks: Tracks | None) -> AlignmentResult:
        """The answer of beads, or of tracks that were given; errors as `align_by_beads`."""
        found = align_by_beads(
            self.images,
            self.first,
            pixel_size=self.pixel_size,
            pre_exposures=self.exposures,
            diameter_angstrom=self.params.bead_diameter_angstrom,
            tracks=tracks,
            hold_axis=self.params.axis_search_deg == 0,
            max_shift_fraction=self.params.max_shift_fraction,
            progress=lambda part, text: self.tell(0.9 * part, text),
        )
        why = (
            _words_on_beads(found)
            if tracks is None
            else f"The tracks that were given were used: {len(found.tracks.names)} points."
        )
        self.tell(0.9, "scores")
        scores = score_geometry(self.images, self.tilts, found.geometry, pixel_size=self.pixel_size, params=self.params)
        before = AlignmentResult(
            geometry=found.geometry,
            coarse_geometry=self.first,
            sigma_angstrom=np.full(len(self.tilts), np.nan),
            scores=scores,
            axis_angles_deg=np.zeros(0),
            axis_scores=np.zeros(0),
            last_change_angstrom=float("nan"),
            caveats=found.caveats,
        )
        return _with_bundle(before, found.bundle, found.tracks, "beads", why)

    def by_patches(self, matched: AlignmentResult) -> AlignmentResult:
        """The answer of patches, where images then agree better with what the others show."""
        params = self.params
        coarser = max(1.0, self.pixel_size / params.match_pixel_angstrom)
        try:
            found = align_by_patches(
                self.images,
                matched.geometry,
                pixel_size=self.pixel_size,
                doses=self.exposures,
                local={"auto": None, "on": True, "off": False}[params.local],
                hold_axis=params.axis_search_deg == 0,
                patch_angstrom=coarser * params.patch_angstrom,
                match_pixel_size=params.match_pixel_angstrom,
                thickness=coarser * params.thickness_angstrom,
                low_pass=coarser * params.low_pass_angstrom[3],
                high_pass=coarser * params.high_pass_angstrom,
                progress=lambda part, text: self.tell(0.6 + 0.4 * part, text),
            )
        except ProcessingError as error:
            return replace(matched, reasons=(*matched.reasons, f"Patches told nothing. {_first_sentence(error)}"))
        if not found.improved:
            why = "Patches were followed, and what they told did not make the images agree better: it was not used."
            return replace(matched, reasons=(*matched.reasons, why))
        aligned = _with_bundle(matched, found.bundle, found.tracks, "patches", _words_on_patches(found))
        return replace(aligned, scores=found.scores)


def _words_on_patches(found: PatchAlignment) -> str:
    words = (
        f"Patches were followed: {len(found.tracks.names)}, in {found.rounds} rounds; the mean score rose from "
        f"{found.start_scores.mean():.3f} to {found.scores.mean():.3f}."
    )
    if found.gain_by_local is None:
        return words
    kept = "was kept" if found.warp is not None else "was not kept"
    return f"{words} Local deformation {kept}: it raises the score by {found.gain_by_local:.4f} +- {found.error_of_gain:.4f}."


def _words_on_beads(found: BeadAlignment) -> str:
    return (
        f"Gold beads were used: {len(found.bundle.points)} of {2 * found.radius_angstrom:.0f} A, "
        f"{float(np.median(found.beads_per_tilt)):.0f} in a usual tilt, leave-one-out error "
        f"{found.bundle.leave_one_out_rms_angstrom:.1f} A."
    )


def _with_bundle(
    first: AlignmentResult, bundle: BundleResult, tracks: Tracks, method: str, why: str
) -> AlignmentResult:
    return replace(
        first,
        geometry=bundle.geometry,
        warp=bundle.warp,
        sigma_angstrom=np.sqrt(0.5 * (bundle.shift_sigma_angstrom**2).sum(1)),
        axis_sigma_deg=float(np.median(bundle.axis_sigma_deg)),
        method=method,
        reasons=(*first.reasons, why),
        tracks=tracks,
        bundle=bundle,
    )
