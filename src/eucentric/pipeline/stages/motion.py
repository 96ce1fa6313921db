"""Motion correction on disk: movies in, sums out."""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from eucentric.compute.seeds import seeded_generator
from eucentric.compute.threads import threads_for
from eucentric.errors import InputError, ProcessingError
from eucentric.io.movies import read_gain, read_movie
from eucentric.models.tilt_series import FrameShifts, Tilt, TiltSeries
from eucentric.motion.correct_frames import correct_frames
from eucentric.motion.estimate_motion import estimate_motion
from eucentric.motion.params import MotionParams
from eucentric.motion.results import DetectorCorrection, MotionResult
from eucentric.motion.sum_frames import dose_weighted_sum, sum_frames
from eucentric.pipeline.stage import ItemStage, Outcome
from eucentric.pipeline.store import ItemStore

_FEWEST = 3


class EstimateMotion(ItemStage):
    """Align and sum the frames of every tilt."""

    name = "motion"
    params = MotionParams
    version = 1
    after = "import"
    uses: ClassVar[tuple[str, ...]] = ("gain",)
    tilts_are_independent: ClassVar[bool] = True

    def peak_bytes(self, series: TiltSeries, params: MotionParams) -> int:
        """Frames as recorded, as float, padded and their spectra."""
        del params
        frames = max((t.frame_count for t in series.tilts), default=1)
        return 300 * 2**20 + 24 * (frames + 4) * series.image_shape[0] * series.image_shape[1]

    def run(self, series: TiltSeries, params: MotionParams, store: ItemStore, device: torch.device) -> Outcome:
        """Sum every movie; a movie that cannot be used leaves its tilt out, with the reason."""
        if not any(t.movie for t in series.tilts):
            return Outcome(
                series=series,
                caveats=("The images were given as sums; there was no motion to correct.",) if series.tilts else (),
            )
        gain = None if store.project.gain is None else _gain(store.resolve(store.project.gain), str(device))
        tilts: list[Tilt] = []
        results: list[MotionResult | None] = []
        reasons: dict[int, str] = {}
        defects = 0
        for i, tilt in enumerate(series.tilts):
            store.progress(i / len(series.tilts), f"{tilt.nominal_tilt_deg:.1f} degrees")
            if tilt.movie is None:
                tilts.append(tilt)
                results.append(None)
                continue
            with threads_for(series.image_shape[0] * series.image_shape[1]):
                try:
                    corrected, result = _correct_movie(series, tilt, gain, params, store, device)
                except InputError as error:
                    if gain is not None and "gain reference" in str(error):
                        raise
                    reasons[i] = _reason(error, tilt.movie)
                    tilts.append(tilt)
                    results.append(None)
                    continue
                # Outside of the `try`: a sum that cannot be written is no fault of the movie.
                tilts.append(_write_sums(series, tilt, corrected.frames, result, params, store))
            defects = max(defects, int(corrected.defects.sum()))
            results.append(result)
        if len(tilts) - len(reasons) < min(_FEWEST, len(series.tilts)) or len(reasons) == len(tilts):
            raise ProcessingError(
                f"Only {len(tilts) - len(reasons)} of {len(tilts)} movies of {series.name} could be used. "
                f"The first that could not: {next(iter(reasons.values()))}"
            )
        out = series.with_tilts(tilts).without(reasons)
        kept = [r for i, r in enumerate(results) if i not in reasons and r is not None]
        _write_curves(store, [t for i, t in enumerate(tilts) if i not in reasons and results[i] is not None], kept)
        totals = [t.motion.total_angstrom for t in out.tilts if t.motion is not None]
        sigma = [float(r.sigma_angstrom.mean()) for r in kept]
        caveats = tuple(
            f"{series.tilts[i].nominal_tilt_deg:.1f} degrees was left out: {why}" for i, why in reasons.items()
        )
        return Outcome(
            series=out,
            metrics={
                "total_motion_median_angstrom": float(np.median(totals)),
                "total_motion_max_angstrom": float(np.max(totals)),
                "sigma_median_angstrom": float(np.median(sigma)),
                "defective_pixels": float(defects),
                "tilts_left_out": float(len(reasons)),
            },
            caveats=caveats,
        )


@lru_cache(maxsize=1)
def _gain_file(path: Path, modified: float, device: str) -> torch.Tensor:
    del modified
    return torch.from_numpy(np.array(read_gain(path), dtype=np.float32)).to(device)


def _gain(path: Path, device: str) -> torch.Tensor:
    if not path.exists():
        raise InputError(f"The gain reference `{path}` does not exist. Give its path with `eucentric import --gain`.")
    return _gain_file(path, path.stat().st_mtime, device)


def _reason(error: InputError, movie: str) -> str:
    """Why a movie could not be used, with its name."""
    text = str(error)
    return text if movie.rpartition("/")[2] in text else f"`{movie}`: {text}"


def _correct_movie(
    series: TiltSeries,
    tilt: Tilt,
    gain: torch.Tensor | None,
    params: MotionParams,
    store: ItemStore,
    device: torch.device,
) -> tuple[DetectorCorrection, MotionResult]:
    movie, _ = read_movie(store.resolve(str(tilt.movie)))
    frames = torch.from_numpy(np.array(movie)).to(device=device, dtype=torch.float32)
    generator = seeded_generator(store.seed + tilt.acquisition, device)
    corrected = correct_frames(frames, gain, defect_sigma=params.defect_sigma, generator=generator)
    return corrected, estimate_motion(corrected.frames, series.pixel_size_angstrom, params)


def _write_sums(
    series: TiltSeries, tilt: Tilt, frames: torch.Tensor, result: MotionResult, params: MotionParams, store: ItemStore
) -> Tilt:
    pixel = series.pixel_size_angstrom
    stem = f"{series.name}_{tilt.acquisition:03d}"

    def save(name: str, image: torch.Tensor) -> str:
        return store.write_image(name, image.cpu().numpy(), pixel)

    def total(part: slice) -> torch.Tensor:
        return sum_frames(frames[part], result.shifts_angstrom[part], pixel)

    image = save(stem, total(slice(None)))
    even = odd = None
    if params.halves and len(frames) > 1:
        even, odd = save(f"{stem}_even", total(slice(0, None, 2))), save(f"{stem}_odd", total(slice(1, None, 2)))
    if params.dose_weighted_copy:
        weighted: dict[str, Any] = {"dose": tilt.dose, "pre_exposure": tilt.pre_exposure}
        voltage = series.optics.voltage_kv if series.optics else 300.0
        save(
            f"{stem}_dose_weighted",
            dose_weighted_sum(frames, result.shifts_angstrom, pixel, voltage_kv=voltage, **weighted),
        )
    shifts = FrameShifts(
        shifts_angstrom=result.shifts_angstrom.cpu().numpy(), sigma_angstrom=result.sigma_angstrom.cpu().numpy()
    )
    return replace(tilt, image=image, image_even=even, image_odd=odd, motion=shifts, frame_count=len(frames))


def _write_curves(store: ItemStore, tilts: list[Tilt], results: list[MotionResult]) -> None:
    if results:
        store.write_arrays(
            tilt_deg=np.array([t.nominal_tilt_deg for t in tilts]),
            frame_correlation_frequency=results[0].frequency.cpu().numpy(),
            frame_correlation=torch.stack([r.frame_correlation for r in results]).cpu().numpy(),
        )
