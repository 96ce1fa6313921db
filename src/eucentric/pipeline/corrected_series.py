"""One tilt series, corrected for its contrast transfer: its stack, and what other programs need beside it."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from eucentric.errors import InputError
from eucentric.fourier.crop import rescaled_shape
from eucentric.geometry.tilt import TiltGeometry
from eucentric.geometry.warp import ImageWarp
from eucentric.io.imod import write_angles, write_transforms
from eucentric.io.imod_export import imod_transforms
from eucentric.io.mrc import MrcSlabWriter
from eucentric.io.stored_values import StoredType
from eucentric.models.optics import Optics
from eucentric.models.tilt_series import CtfFit, Tilt, TiltPose, TiltSeries
from eucentric.optics.transfer import CtfCorrection
from eucentric.pipeline.images import read_image, read_warp
from eucentric.pipeline.levelling import SpecimenFindings, level_by
from eucentric.pipeline.reprojecting import refuse_to_replace
from eucentric.pipeline.store import ItemStore
from eucentric.projection.resampling import resample_tilts
from eucentric.reconstruction.correct_ctf import correct_ctf
from eucentric.reconstruction.signal_to_noise import SpectralRatio, assumed_signal_to_noise, estimate_signal_to_noise

PARTS = {"": "image", "_half1": "image_even", "_half2": "image_odd"}
"""By the ending of the stack: what of each tilt it is made from."""
_WEIGHED = 15  # tilts that signal and noise are told from: ample for some hundred bands, and little memory
_SAME = 1e-4  # pixel sizes closer than this part of each other are one
_FLAT_DEG = 0.005  # tilts about x that two decimals of a file cannot hold
_DONE = {"flip": "phases flipped", "wiener": "Wiener filtered", "multiply": "multiplied"}


@dataclass(frozen=True, slots=True, kw_only=True)
class StackSettings:
    """How stacks are corrected and written."""

    mode: CtfCorrection = "flip"
    aligned: bool = False
    """Turn the tilt axis onto y and take out shifts, magnification and local deformation, in the one interpolation."""
    dose_weighting: bool = False
    defocus_tolerance_angstrom: float | None = None
    b_factor_angstrom2: float = 0.0
    pixel_size_angstrom: float | None = None
    """Of the stack; that of the images where None."""
    halves: bool = False
    """Also write what even and odd frames show."""
    float16: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectedStack:
    """What was written of one series."""

    series: str
    stacks: tuple[Path, ...]
    tilts: int
    image_shape: tuple[int, int]
    """(y, x)."""
    pixel_size_angstrom: float


def check_settings(settings: StackSettings) -> None:
    """Refuse settings that no series can be corrected with.

    Raises
    ------
    InputError : sizes or tolerances that are not positive, or a B factor where none counts
    """
    size, tolerance, b_factor = (
        settings.pixel_size_angstrom,
        settings.defocus_tolerance_angstrom,
        settings.b_factor_angstrom2,
    )
    if size is not None and not size > 0:
        raise InputError(f"The pixel size is {size:g} A; expected a positive number.")
    if tolerance is not None and not tolerance > 0:
        raise InputError(f"The defocus tolerance is {tolerance:g} A; expected a positive number such as 100.")
    if b_factor and settings.mode == "flip":
        raise InputError(
            f"A B factor of {b_factor:g} A2 was given, but flip changes signs alone. Choose --mode wiener or multiply."
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CorrectedSeries:
    """One series, and what its correction needs."""

    series: TiltSeries
    settings: StackSettings
    store: ItemStore
    device: torch.device
    optics: Optics
    fits: tuple[CtfFit, ...]
    geometry: TiltGeometry
    plane: TiltGeometry
    """The geometry in which the specimen lies flat: where heights come from."""
    signal_to_noise: SpectralRatio | None
    warp: ImageWarp | None
    shape: tuple[int, int]
    """(y, x) of the images of the stack."""
    pixel_size: float

    @classmethod
    def prepare(
        cls, series: TiltSeries, settings: StackSettings, store: ItemStore, device: torch.device, table: Path
    ) -> Self:
        """Refuse what cannot be corrected, and settle the size of the images."""
        fits = tuple(t.ctf for t in series.tilts if t.ctf is not None)
        if not series.tilts:
            raise InputError(f"{series.name} has no tilts to correct.")
        if series.optics is None:
            raise InputError(f"The images of {series.name} have no contrast transfer function to correct.")
        if len(fits) < len(series.tilts):
            raise InputError(
                f"No contrast transfer is known of {len(series.tilts) - len(fits)} of the {len(series.tilts)} tilts of "
                f"{series.name} in `{table}`. Run `eucentric ctf {store.root}` first, or exclude these tilts."
            )
        if settings.halves and not series.has_halves:
            raise InputError(f"{series.name} has no images of even and odd frames. Leave --halves out.")
        geometry = TiltGeometry.from_poses(series.poses)
        old, new = series.pixel_size_angstrom, settings.pixel_size_angstrom or series.pixel_size_angstrom
        shape = series.image_shape
        if settings.aligned:
            axis = np.deg2rad(np.median(geometry.z_rot_deg))
            if abs(np.sin(axis)) > abs(np.cos(axis)):  # the tilt axis comes to lie along what was the width
                shape = (shape[1], shape[0])
        if abs(new / old - 1.0) <= _SAME:
            new = old
        else:
            if new < old:
                raise InputError(
                    f"A pixel size of {new:g} A was asked for, but the images of {series.name} have {old:g} A. "
                    "Choose a larger one."
                )
            shape = (rescaled_shape(shape, old, new)[0], rescaled_shape(shape, old, new)[1])
        return cls(
            series=series,
            settings=settings,
            store=store,
            device=device,
            optics=series.optics,
            fits=fits,
            geometry=geometry,
            plane=_specimen_plane(series),
            signal_to_noise=_signal_to_noise(series, fits, series.optics, settings, store, device),
            warp=read_warp(series, store) if settings.aligned else None,
            shape=shape,
            pixel_size=new,
        )

    def write(self, output: Path) -> tuple[CorrectedStack, TiltSeries]:
        """Write the stacks and what goes beside them; the record of what they are."""
        name, count = self.series.name, len(self.series.tilts)
        parts = PARTS if self.settings.halves else {"": PARTS[""]}
        paths = {part: output / f"{name}{ending}.mrc" for ending, part in parts.items()}
        read = [self.store.resolve(p) for t in self.series.tilts for part in parts.values() if (p := getattr(t, part))]
        refuse_to_replace(list(paths.values()), read, True)
        weighted = ", dose weighted" if self.settings.dose_weighting else ""
        label = f"Tilt series, CTF {_DONE[self.settings.mode]}{weighted}, contrast protein dark"
        kind: StoredType = "float16" if self.settings.float16 else "float32"
        with ExitStack() as whole:
            writers = [
                whole.enter_context(
                    MrcSlabWriter(path, (count, *self.shape), self.pixel_size, kind, labels=(label,), is_volume=False)
                )
                for path in paths.values()
            ]
            for t in range(count):
                for writer, part in zip(writers, paths, strict=True):
                    writer.write(self._image(t, part)[None].cpu().numpy())
        self._write_beside(output / name)
        made = CorrectedStack(
            series=name,
            stacks=tuple(paths.values()),
            tilts=count,
            image_shape=self.shape,
            pixel_size_angstrom=self.pixel_size,
        )
        return made, self._record({part: self.store.relative(path) for part, path in paths.items()})

    def _image(self, t: int, part: str) -> Tensor:
        """One image as the stack holds it."""
        series, settings = self.series, self.settings
        image = torch.from_numpy(read_image(series, series.tilts[t], self.store, part=part)).to(self.device)
        if tuple(image.shape) != series.image_shape:
            raise InputError(
                f"An image of {series.name} is {image.shape[1]} x {image.shape[0]} pixels; expected "
                f"{series.image_shape[1]} x {series.image_shape[0]}."
            )
        tilt = series.tilts[t]
        corrected = correct_ctf(
            image[None],
            self.plane[t],
            pixel_size=series.pixel_size_angstrom,
            fits=self.fits[t : t + 1],
            optics=self.optics,
            hand=series.hand,
            mode=settings.mode,
            signal_to_noise=self.signal_to_noise,
            exposures=[tilt.pre_exposure + 0.5 * tilt.dose] if settings.dose_weighting else None,
            b_factor_angstrom2=settings.b_factor_angstrom2,
            defocus_tolerance_angstrom=settings.defocus_tolerance_angstrom,
        )
        if not settings.aligned and self.pixel_size == series.pixel_size_angstrom:
            return corrected[0]
        mean = corrected.mean()
        resampled = resample_tilts(
            corrected - mean,
            self.geometry[t] if settings.aligned else TiltGeometry.build(0.0),
            series.pixel_size_angstrom,
            out_shape=self.shape,
            out_pixel_size=self.pixel_size,
            warp=None if self.warp is None else self.warp[t],
        )
        return resampled[0] + mean

    def _write_beside(self, stem: Path) -> None:
        """Angles as aligned (`.tlt`, `.xtilt`) and as the stage had them (`.rawtlt`), and transforms still to be made (`.xf`)."""
        write_angles(stem.with_name(f"{stem.name}.tlt"), self.geometry.y_tilt_deg)
        write_angles(stem.with_name(f"{stem.name}.rawtlt"), self.series.nominal_tilts_deg)
        beyond: dict[str, bool] = {
            ".xtilt": float(np.abs(self.geometry.x_tilt_deg).max()) > _FLAT_DEG,
            ".xf": not self.settings.aligned,
        }
        for ending, wanted in beyond.items():
            path = stem.with_name(f"{stem.name}{ending}")
            if not wanted:
                path.unlink(missing_ok=True)  # of an earlier call with other settings
            elif ending == ".xtilt":
                write_angles(path, self.geometry.x_tilt_deg)
            else:
                write_transforms(path, *imod_transforms(self.geometry, self.pixel_size, self.shape, self.shape))

    def _record(self, paths: dict[str, str]) -> TiltSeries:
        """The series as the stack shows it."""
        tilts = [self._tilt(i, t, paths) for i, t in enumerate(self.series.tilts)]
        series = self.series.with_tilts(tilts).replace(image_shape=self.shape, tomogram=None)
        if self.settings.aligned:
            series = series.replace(warp=None)
        if self.pixel_size == self.series.pixel_size_angstrom:
            return series
        scale = self.series.pixel_size_angstrom / self.pixel_size
        volume = self.series.volume_size_px
        return series.replace(
            pixel_size_angstrom=self.pixel_size,
            original_pixel_size_angstrom=self.series.original_pixel_size_angstrom or self.series.pixel_size_angstrom,
            volume_size_px=volume and tuple(max(1, round(n * scale)) for n in volume),
        )

    def _tilt(self, index: int, tilt: Tilt, paths: dict[str, str]) -> Tilt:
        image, even, odd = (f"{index + 1}@{paths[part]}" if part in paths else None for part in PARTS.values())
        pose = tilt.pose
        if pose is not None and self.settings.aligned:
            pose = TiltPose(
                y_tilt_deg=pose.y_tilt_deg,
                z_rot_deg=0.0,
                x_tilt_deg=pose.x_tilt_deg,
                sigma_angstrom=pose.sigma_angstrom,
            )
            tilt = replace(tilt, nominal_axis_deg=0.0)
        tilt = replace(tilt, pose=pose, ctf=None, image=image, image_even=even, image_odd=odd)
        return replace(tilt, dose=0.0, pre_exposure=0.0) if self.settings.dose_weighting else tilt


def _specimen_plane(series: TiltSeries) -> TiltGeometry:
    """The geometry of the series, turned by the inclination that levelling has left of the specimen.

    Its height is left out: the CTF was fitted to where the specimen is.
    """
    if series.specimen is None:
        return TiltGeometry.from_poses(series.poses)
    flat = replace(series.specimen, z_angstrom=0.0)
    found = SpecimenFindings(specimen=flat, slab=None, metrics={}, caveats=())
    return TiltGeometry.from_poses(level_by(series, found).poses)


def _signal_to_noise(
    series: TiltSeries,
    fits: tuple[CtfFit, ...],
    optics: Optics,
    settings: StackSettings,
    store: ItemStore,
    device: torch.device,
) -> SpectralRatio | None:
    """For the Wiener filter: measured where there are halves, else a usual one."""
    if settings.mode != "wiener":
        return None
    if not series.has_halves:
        return assumed_signal_to_noise(float(np.mean(series.doses)))
    some = list(dict.fromkeys(np.linspace(0, len(fits) - 1, min(_WEIGHED, len(fits))).round().astype(int).tolist()))
    even, odd = (torch.stack(list(_images(series, some, part, store, device))) for part in ("image_even", "image_odd"))
    return estimate_signal_to_noise(
        even,
        odd,
        pixel_size=series.pixel_size_angstrom,
        fits=[fits[i] for i in some],
        optics=optics,
        exposures=(series.pre_exposures + 0.5 * series.doses)[some] if settings.dose_weighting else None,
        b_factor_angstrom2=settings.b_factor_angstrom2,
    )


def _images(
    series: TiltSeries, which: list[int], part: str, store: ItemStore, device: torch.device
) -> Iterator[Tensor]:
    for index in which:
        yield torch.from_numpy(read_image(series, series.tilts[index], store, part=part)).to(device)
