"""Motion correction on disk: movies in, sums out."""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from eucentric.compute.seeds import seeded_generator
from eucentric.compute.threads import threads_for
from eucentric.errors import InputError, ProcessingError, ShapeError
from eucentric.fourier.crop import fourier_crop, rescaled_shape
from eucentric.fourier.shells import radial_average
from eucentric.io.atomic import write_text_atomic
from eucentric.io.movies import MovieHeader, open_movie
from eucentric.io.png import write_png
from eucentric.models.tilt_series import FrameShifts, MovieQuality, Tilt, TiltSeries
from eucentric.motion.band_spectra import transform_frames
from eucentric.motion.correct_frames import correct_frames
from eucentric.motion.detector import Detector
from eucentric.motion.estimate_motion import estimate_shifts
from eucentric.motion.find_defects import Defects
from eucentric.motion.local_motion import estimate_local_motion
from eucentric.motion.motion_quality import motion_quality
from eucentric.motion.params import MotionParams
from eucentric.motion.results import MotionResult, RejectedFrame
from eucentric.motion.series_prior import MotionPrior, change_by, series_prior
from eucentric.motion.sum_frames import DoseWeights, Sums, make_sums
from eucentric.pipeline.movie_frames import Camera, MovieFrames, coarser_by, eer_rendering, finer_by, sum_as_recorded
from eucentric.pipeline.stage import ItemStage, Outcome
from eucentric.pipeline.store import ItemStore

_FEWEST = 3
_ORIENTING_MOVIES = 5
_POWER_DOSE = 4.0
"""e/A^2 in groups of frames whose power is added up."""
_POWER_SIDE = 1024
_POWER_SHELLS = 64
_THUMBNAIL = 400
_ARROWS = 7
_WORTH_PX = 0.1
"""A change of shifts, root mean square, for which a movie is summed again."""


class EstimateMotion(ItemStage):
    """Align and sum the frames of every tilt."""

    name = "motion"
    params = MotionParams
    version = 2
    after = "import"
    uses: ClassVar[tuple[str, ...]] = ("gain", "dark", "defects")
    tilts_are_independent: ClassVar[bool] = False

    def peak_bytes(self, series: TiltSeries, params: MotionParams) -> int:
        """Frames as recorded, their spectra where they are kept (up to 1 GiB), and some images."""
        frames = max((t.frame_count for t in series.tilts), default=1)
        pixels = series.image_shape[0] * series.image_shape[1]
        if any((t.movie or "").lower().endswith(".eer") for t in series.tilts):
            pixels *= params.eer_grid**2
        return 400 * 2**20 + min(5 * frames * pixels, 2**30 + 2**29) + 40 * pixels

    def run(self, series: TiltSeries, params: MotionParams, store: ItemStore, device: torch.device) -> Outcome:
        """Sum every movie; a movie that cannot be used leaves its tilt out, with the reason."""
        if not any(t.movie for t in series.tilts):
            return Outcome(
                series=series,
                caveats=("The images were given as sums; there was no motion to correct.",) if series.tilts else (),
            )
        work = _Work(
            series=series, params=params, store=store, device=device, camera=Camera.read(store, params, device)
        )
        work.orient_gain()
        for i, tilt in enumerate(series.tilts):
            store.progress(i / len(series.tilts), f"{tilt.nominal_tilt_deg:.1f} degrees")
            with threads_for(series.image_shape[0] * series.image_shape[1]):
                work.correct(i)
        if params.series_prior:
            work.share_motion()
        return work.outcome()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Summed:
    """One tilt after its movie."""

    tilt: Tilt
    result: MotionResult
    figures: dict[str, float]
    power: tuple[Tensor, Tensor]
    """Of the sum of aligned frames, and of the frames as they were."""
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Estimate:
    """What one movie came to, before anything is written."""

    result: MotionResult
    sums: Sums
    frames: MovieFrames
    unaligned: Tensor
    """Power of the frames as they were, in shells."""
    defects: Defects
    dose: float
    pre_exposure: float
    """e/A^2 of the frames, and before the first of them."""
    pixel_size: float
    notes: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class _Work:
    """A series on its way."""

    series: TiltSeries
    params: MotionParams
    store: ItemStore
    device: torch.device
    camera: Camera
    summed: dict[int, _Summed] = field(default_factory=dict)
    """By position of the tilt in the series."""
    reasons: dict[int, str] = field(default_factory=dict)
    image_shape: tuple[int, int] | None = None
    pixel_size: float = 0.0
    """Of the sums."""
    shared: int = 0
    """Movies that were done again with what the others told of them."""

    def orient_gain(self) -> None:
        """Look at some movies, far apart in the series, to see how the gain reference lies on them."""
        if self.camera.gain is None or "auto" not in (self.params.gain_orientation, self.params.gain_operation):
            return
        movies = [t for t in self.series.tilts if t.movie is not None]
        places = np.unique(np.linspace(0, len(movies) - 1, min(_ORIENTING_MOVIES, len(movies))).round().astype(int))
        counts: list[Tensor] = []
        for place in places:
            tilt = movies[place]
            try:
                path = self.store.resolve(str(tilt.movie))
                counts.append(sum_as_recorded(path, tilt.frames, eer_rendering(self.params, tilt.dose), self.device))
            except InputError:
                continue  # its own turn will tell why
        counts = [c for c in counts if c.shape == counts[0].shape and float(c.mean()) > 0]
        if not counts:
            return
        try:
            self.camera.orient(torch.stack(counts), self.params)
        except InputError as error:
            raise ProcessingError(str(error)) from error

    def correct(self, index: int, prior: MotionPrior | None = None) -> None:
        """Align and sum one movie and write what comes out."""
        tilt = self.series.tilts[index]
        if tilt.movie is None:
            return
        try:
            estimate = self._estimate(tilt, prior)
        except InputError as error:
            self.reasons[index] = _reason(error, tilt.movie)
            return
        # Outside of the `try`: a sum that cannot be written is no fault of the movie.
        self.summed[index] = self._write(tilt, estimate)

    def share_motion(self) -> None:
        """Do those movies again whose shifts the other tilts of the series would change."""
        results = {i: one.result for i, one in self.summed.items()}
        changed: dict[int, MotionPrior] = {}
        for i, result in results.items():
            count = len(result.shifts_angstrom)
            others = [r for j, r in results.items() if j != i and len(r.shifts_angstrom) == count]
            prior = series_prior(others) if not result.rejected else None
            if prior is not None and change_by(prior, result) > _WORTH_PX * self.pixel_size:
                changed[i] = prior
        for done, (i, prior) in enumerate(changed.items()):
            self.store.progress(
                done / len(changed), f"{self.series.tilts[i].nominal_tilt_deg:.1f} degrees, with the others"
            )
            with threads_for(self.series.image_shape[0] * self.series.image_shape[1]):
                self.correct(i, prior)
        self.shared = len(changed)

    def _estimate(self, tilt: Tilt, prior: MotionPrior | None) -> _Estimate:
        params, path = self.params, self.store.resolve(str(tilt.movie))
        with open_movie(path, eer=eer_rendering(params, tilt.dose)) as movie:
            header = movie.header
            coarser, pixel = self._check_size(header)
            out_shape = (header.shape[0] // coarser, header.shape[1] // coarser)
            frames = MovieFrames.look_through(movie, tilt.frames, params.skip_frames, self.device)
            if not frames.usable:
                raise InputError(f"No frame can be used; of the first, {frames.unusable[0]}.")
            detector = self._detector(header.shape)
            generator = seeded_generator(self.store.seed + tilt.acquisition, self.device)
            defects = frames.find_defects(detector, params.defect_sigma, generator)
            # of EER movies the electrons of all the finer pixels count, so that the rendering does not change the sums
            electrons = float(finer_by(header, params) ** 2)
            unaligned = _radial_power(electrons * _unaligned(frames, detector, defects, coarser))
            kept, before = frames.kept_dose(tilt.dose), tilt.pre_exposure
            before += tilt.dose - kept
            all_doses = frames.doses(kept)
            doses = all_doses[frames.usable]
            padded, coarse = transform_frames(
                frames.corrected(detector, defects),
                pixel,
                low_pass_angstrom=params.low_pass_angstrom,
                margin_angstrom=params.max_shift_angstrom,
                out_shape=out_shape,
            )
            relative = None if not doses.min() > 0 else doses.tolist()
            if prior is not None and len(prior.mean_angstrom) != len(doses):
                prior = None
            result = estimate_shifts(coarse, params, doses=relative, prior=prior)
            if params.local == "auto" and tilt.dose > 0:
                result = estimate_local_motion(coarse, result, params, doses=torch.from_numpy(doses))
            del coarse
            frames.let_go(and_frames=padded.kept is not None)
            voltage = self.series.optics.voltage_kv if self.series.optics else 300.0
            until_used = before + float(all_doses[: frames.usable[0]].sum())
            weights = DoseWeights(doses=tuple(doses.tolist()), pre_exposure=until_used, voltage_kv=voltage)
            matrix = None if detector.magnification is None else detector.magnification.numpy()
            sums = make_sums(
                padded,
                result.shifts_angstrom,
                field=result.field,
                magnification=matrix,
                used=result.used.tolist(),
                dose_weights=weights if params.dose_weighted_copy and tilt.dose > 0 else None,
                power_groups=_power_groups(doses) if params.power_spectra else None,
                out_shape=out_shape,
                release=True,
            )
            sums = sums.scaled(electrons)
        return _Estimate(
            result=result,
            sums=sums,
            frames=frames,
            unaligned=unaligned,
            defects=defects,
            dose=kept,
            pre_exposure=before,
            pixel_size=pixel * coarser,
            notes=header.notes,
        )

    def _check_size(self, header: MovieHeader) -> tuple[int, float]:
        """How much coarser the sums are than the frames, and the pixel size of the frames."""
        upsampling = self.params.eer_grid if header.eer is not None else 1
        expected = tuple(n * upsampling for n in self.series.image_shape)
        if header.shape != expected:
            raise ShapeError(
                f"The frames are {header.shape[1]} x {header.shape[0]} pixels, those of the series {expected[1]} x {expected[0]}."
            )
        coarser = coarser_by(header, self.params)
        if any(n % coarser for n in header.shape):
            raise ProcessingError(
                f"Frames of {header.shape[1]} x {header.shape[0]} pixels cannot be made {coarser} times coarser. "
                "Choose another --binning."
            )
        return coarser, self.series.pixel_size_angstrom / upsampling

    def _detector(self, shape: tuple[int, int]) -> Detector:
        try:
            return self.camera.detector(shape)
        except InputError as error:  # no fault of this movie alone
            raise ProcessingError(str(error)) from error

    def _write(self, tilt: Tilt, estimate: _Estimate) -> _Summed:
        params, sums, pixel = self.params, estimate.sums, estimate.pixel_size
        stem = f"{self.series.name}_{tilt.acquisition:03d}"

        def save(name: str, image: Tensor) -> str:
            return self.store.write_image(name, image.cpu().numpy(), pixel, params.image_type == "float16")

        total = sums.total
        self.image_shape, self.pixel_size = (total.shape[0], total.shape[1]), pixel
        image, even, odd = save(stem, total), None, None
        if params.halves and len(estimate.frames.usable) > 1:
            even, odd = save(f"{stem}_even", sums.even), save(f"{stem}_odd", sums.odd)
        if sums.dose_weighted is not None:
            save(f"{stem}_dose_weighted", sums.dose_weighted)
        if sums.power is not None:
            save(f"{stem}_power", sums.power)
        if params.thumbnails:
            shape = rescaled_shape((total.shape[0], total.shape[1]), 1.0, max(1.0, max(total.shape) / _THUMBNAIL))
            write_png(self.store.output("thumbnails", f"{stem}.png"), fourier_crop(total, shape).cpu().numpy())
        frames, result = estimate.frames, _of_all_frames(estimate.result, estimate.frames)
        motion = FrameShifts(
            shifts_angstrom=result.shifts_angstrom.cpu().numpy(), sigma_angstrom=result.sigma_angstrom.cpu().numpy()
        )
        # without a dose, the counts still tell how long each frame was
        doses = torch.from_numpy(frames.doses(estimate.dose or 1.0))
        quality = motion_quality(result, doses)
        figures = {
            "sigma_angstrom": quality.sigma_angstrom,
            "residual_angstrom": float(quality.residual_angstrom.square().mean().sqrt()),
            "blur_angstrom": float(quality.blur_angstrom.square().mean().sqrt()),
            "local_angstrom": quality.local_angstrom,
            "mean_counts": frames.mean_counts,
            "defect_fraction": float(estimate.defects.mask.double().mean()),
            "confidence": result.confidence,
            "frames_left_out": float(len(result.rejected)),
        }
        notes = [*estimate.notes, *quality.suspicious]
        new = replace(
            tilt,
            image=image,
            image_even=even,
            image_odd=odd,
            motion=motion,
            quality=MovieQuality(
                sigma_angstrom=quality.sigma_angstrom,
                residual_angstrom=figures["residual_angstrom"],
                blur_angstrom=figures["blur_angstrom"],
                defect_fraction=figures["defect_fraction"],
                mean_counts=figures["mean_counts"],
            ),
            frame_count=len(frames.numbers),
            dose=estimate.dose,
            pre_exposure=estimate.pre_exposure,
        )
        power = (_radial_power(total), estimate.unaligned)
        return _Summed(
            tilt=new,
            result=result,
            figures=figures,
            power=power,
            notes=tuple(f"{tilt.nominal_tilt_deg:.1f} degrees: {note}" for note in notes),
        )

    def outcome(self) -> Outcome:
        """The series with what came of its movies."""
        series, reasons = self.series, self.reasons
        if len(series.tilts) - len(reasons) < min(_FEWEST, len(series.tilts)) or len(reasons) == len(series.tilts):
            raise ProcessingError(
                f"Only {len(series.tilts) - len(reasons)} of {len(series.tilts)} movies of {series.name} could be used. "
                f"The first that could not: {next(iter(reasons.values()))}"
            )
        tilts = [self.summed[i].tilt if i in self.summed else tilt for i, tilt in enumerate(series.tilts)]
        out = series.with_tilts(tilts).without(reasons)
        if self.image_shape is not None and self.image_shape != series.image_shape:
            out = out.replace(
                image_shape=self.image_shape,
                pixel_size_angstrom=self.pixel_size,
                original_pixel_size_angstrom=series.original_pixel_size_angstrom or series.pixel_size_angstrom,
            )
        summed = [self.summed[i] for i in sorted(self.summed)]
        if summed:
            self.store.write_arrays(**self._curves(summed))
            self._write_fields(summed)
        caveats = [
            f"{series.tilts[i].nominal_tilt_deg:.1f} degrees was left out: {why}" for i, why in sorted(reasons.items())
        ]
        if self.params.local == "auto" and any(one.tilt.dose <= 0 for one in summed):
            caveats.append(
                "The dose is not known, so local motion was not looked for. Give it with `eucentric import --dose`."
            )
        caveats += _several([note for one in summed for note in one.notes])
        metrics = self._metrics(summed)
        found = self.camera.found
        if found is not None:
            self._write_evidence()
            metrics["gain_significance"] = found.evidence[0].significance if found.evidence else 0.0
            if (note := self.camera.note) is not None:
                caveats.append(note)
        return Outcome(series=out, metrics=metrics, caveats=tuple(caveats))

    def _metrics(self, summed: list[_Summed]) -> dict[str, float]:
        totals = [one.tilt.motion.total_angstrom for one in summed if one.tilt.motion is not None]
        sigma = [one.figures["sigma_angstrom"] for one in summed]
        return {
            "total_motion_median_angstrom": float(np.median(totals)),
            "total_motion_max_angstrom": float(np.max(totals)),
            "blur_median_angstrom": float(np.median([one.figures["blur_angstrom"] for one in summed])),
            "sigma_median_angstrom": float(np.median(sigma)),
            "defective_pixels_percent": 100.0 * max(one.figures["defect_fraction"] for one in summed),
            "movies_helped_by_others": float(self.shared),
            "movies_with_local_motion": float(sum(one.result.field is not None for one in summed)),
            "frames_left_out": sum(one.figures["frames_left_out"] for one in summed),
            "tilts_left_out": float(len(self.reasons)),
        }

    def _curves(self, summed: list[_Summed]) -> dict[str, Any]:
        """What the report draws."""
        curves: dict[str, Any] = {
            "tilt_deg": np.array([one.tilt.nominal_tilt_deg for one in summed]),
            "frame_correlation_frequency": summed[0].result.frequency.cpu().numpy(),
            "frame_correlation": torch.stack([one.result.frame_correlation for one in summed]).cpu().numpy(),
            "power_frequency": (np.arange(_POWER_SHELLS) + 0.5) * (0.5 / self.pixel_size / _POWER_SHELLS),
            "power_aligned": np.stack([one.power[0].cpu().numpy() for one in summed]),
            "power_unaligned": np.stack([one.power[1].cpu().numpy() for one in summed]),
        }
        for name in summed[0].figures:
            curves[name] = np.array([one.figures[name] for one in summed])
        shown = max(summed, key=lambda one: 0.0 if one.result.field is None else _local_size(one.result))
        if shown.result.field is not None:
            places, moved = _local_arrows(shown.result)
            half_y, half_x = shown.result.field.extent_angstrom
            curves.update(
                local_places=places, local_displacement=moved, local_extent=np.array([2 * half_x, 2 * half_y])
            )
            curves["local_tilt_deg"] = np.array(shown.tilt.nominal_tilt_deg)
        return curves

    def _write_fields(self, summed: list[_Summed]) -> None:
        """Local motion, so that particles can be cut from the frames along it later."""
        arrays: dict[str, Any] = {}
        for one in summed:
            local = one.result.field
            if local is not None:
                name = f"{one.tilt.acquisition:03d}"
                arrays[f"coefficients_{name}"] = local.coefficients.cpu().numpy()
                arrays[f"times_{name}"] = local.times.cpu().numpy()
                arrays[f"extent_angstrom_{name}"] = np.array(local.extent_angstrom)
        if arrays:
            self.store.write_arrays("local_motion", **arrays)

    def _write_evidence(self) -> None:
        found = self.camera.found
        if found is not None:
            note = self.camera.note or found.note
            text = f"{note}\n\n{found.table()}\n" if found.evidence else f"{note}\n"
            write_text_atomic(self.store.output("gain", f"{self.series.name}.txt"), text)


def _reason(error: InputError, movie: str) -> str:
    """Why a movie could not be used, with its name."""
    text = str(error)
    return text if movie.rpartition("/")[2] in text else f"`{movie}`: {text}"


def _several(notes: list[str]) -> list[str]:
    """The notes, or the first of many."""
    return notes if len(notes) <= 12 else [*notes[:11], f"and {len(notes) - 11} more notes on single movies"]


def _power_groups(doses: np.ndarray) -> list[int]:
    """Which group of about 4 e/A^2 each frame belongs to."""
    groups = max(1, round(float(doses.sum()) / _POWER_DOSE))
    middle = np.cumsum(doses) - 0.5 * doses
    return [int(v) for v in np.minimum(middle * groups / max(float(doses.sum()), 1e-12), groups - 1)]


def _unaligned(frames: MovieFrames, detector: Detector, defects: Defects, coarser: int) -> Tensor:
    """Sum of the frames as they were, on the pixels of the sums."""
    count = frames.totals.frame_count
    mean = correct_frames((frames.totals.total / count)[None], detector, defects)
    return count * torch.nn.functional.avg_pool2d(mean, coarser)[0]


def _radial_power(image: Tensor) -> Tensor:
    """Power in shells up to Nyquist of the middle of an image."""
    side = min(_POWER_SIDE, *image.shape)
    top, left = ((n - side) // 2 for n in image.shape)
    part = image[top : top + side, left : left + side].double()
    window = torch.hann_window(side, periodic=False, dtype=part.dtype, device=part.device)
    spectrum = torch.fft.rfft2((part - part.mean()) * window * window[:, None])
    return radial_average(spectrum.abs().square(), (side, side), _POWER_SHELLS)


def _of_all_frames(result: MotionResult, frames: MovieFrames) -> MotionResult:
    """The result with the frames that were not looked at, as frames left out; their shifts lie between their neighbours'."""
    if not frames.unusable:
        return result
    every, usable = np.arange(len(frames.numbers)), np.array(frames.usable)

    def spread(values: Tensor) -> Tensor:
        columns = values.double().cpu().reshape(len(usable), -1).numpy()
        whole = np.stack([np.interp(every, usable, column) for column in columns.T], axis=1)
        return torch.from_numpy(whole.reshape(len(every), *values.shape[1:]))

    sigma = torch.full((len(every),), float("nan"), dtype=torch.float64)
    sigma[usable] = result.sigma_angstrom.double().cpu()
    left_out = [RejectedFrame(frame=i, reason=why) for i, why in frames.unusable.items()]
    left_out += [replace(r, frame=int(usable[r.frame])) for r in result.rejected]
    local = result.field
    return replace(
        result,
        shifts_angstrom=spread(result.shifts_angstrom),
        sigma_angstrom=sigma,
        residual_angstrom=None if result.residual_angstrom is None else spread(result.residual_angstrom),
        rejected=tuple(sorted(left_out, key=lambda r: r.frame)),
        field=None if local is None else replace(local, times=spread(local.times)),
    )


def _local_arrows(result: MotionResult) -> tuple[np.ndarray, np.ndarray]:
    """Places (place, 2) and what each moved beyond the whole from the first frame to the last, A."""
    local = result.field
    assert local is not None
    half_y, half_x = local.extent_angstrom
    y, x = (torch.linspace(-h, h, _ARROWS, dtype=torch.float64) * (1.0 - 1.0 / _ARROWS) for h in (half_y, half_x))
    moved = local.at(len(local.times) - 1, y, x) - local.at(0, y, x)
    places = torch.stack([x.expand(_ARROWS, _ARROWS), y[:, None].expand(_ARROWS, _ARROWS)], dim=-1)
    return places.reshape(-1, 2).numpy(), moved.reshape(-1, 2).cpu().numpy()


def _local_size(result: MotionResult) -> float:
    return float(np.linalg.norm(_local_arrows(result)[1], axis=1).max())
