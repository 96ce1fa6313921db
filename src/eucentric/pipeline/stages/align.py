"""Tilt-series alignment on disk."""

from dataclasses import replace
from pathlib import Path

import torch

from eucentric.alignment.params import AlignParams
from eucentric.io.warps import write_image_warp
from eucentric.models.tilt_series import TiltPose, TiltSeries
from eucentric.pipeline.aligning import Aligned, align_by_mass, align_series, nominal_axis, with_poses
from eucentric.pipeline.images import read_images
from eucentric.pipeline.repair_track_words import with_words_on_given
from eucentric.pipeline.stage import ItemStage, Outcome
from eucentric.pipeline.store import ItemStore, StageStore
from eucentric.pipeline.track_files import given_track_file, read_given_tracks, write_found_tracks


class AlignTiltSeries(ItemStage):
    """Find shifts, tilt axis and local deformation; leave out tilts that cannot be used."""

    name = "align"
    params = AlignParams
    version = 2
    after = "motion"

    def peak_bytes(self, series: TiltSeries, params: AlignParams) -> int:
        """The images twice, and a few volumes at the matching pixel size."""
        pixels = series.image_shape[0] * series.image_shape[1]
        side = max(series.image_shape) * series.pixel_size_angstrom / params.match_pixel_angstrom
        depth = params.thickness_angstrom / params.match_pixel_angstrom
        return int(400 * 2**20 + 12 * len(series.tilts) * pixels + 32 * side * side * depth)

    def reads(self, series: str, params: AlignParams, root: Path) -> tuple[Path, ...]:
        """The tracks that a person corrected."""
        path = given_track_file(params.tracks, series, root)
        return () if path is None else (path,)

    def run(self, series: TiltSeries, params: AlignParams, store: ItemStore, device: torch.device) -> Outcome:
        """Reject tilts that cannot be used, then align the rest."""
        if not series.tilts:
            return Outcome(series=series, caveats=("There are no images to align, only a finished tomogram.",))
        axis = nominal_axis(series)
        path = given_track_file(params.tracks, series.name, store.root)
        if params.method == "none":
            poses = [t.pose or TiltPose(y_tilt_deg=t.nominal_tilt_deg, z_rot_deg=axis or 0.0) for t in series.tilts]
            caveats: tuple[str, ...] = ("The images were taken as aligned already, as asked for.",)
            return Outcome(series=with_poses(series, poses), caveats=caveats + _unused(path, store, params))
        images = read_images(series, store, device)
        if params.method == "centre-of-mass":
            aligned = align_by_mass(series, images if series.optics is None else -images, axis)
            aligned = replace(aligned, caveats=aligned.caveats + _unused(path, store, params))
        else:
            tracks = None if path is None else read_given_tracks(path, series)
            aligned = align_series(series, images, params, axis_deg=axis, tracks=tracks, progress=store.progress)
            aligned = aligned if path is None else with_words_on_given(aligned, path)
        return Outcome(series=write_aligned(aligned, store), metrics=aligned.metrics, caveats=aligned.caveats)


def _unused(path: Path | None, store: ItemStore, params: AlignParams) -> tuple[str, ...]:
    if path is None:
        return ()
    return (f"The tracks of `{store.relative(path)}` were not used: the method is {params.method}.",)


def write_aligned(aligned: Aligned, store: ItemStore | StageStore) -> TiltSeries:
    """Write curves, tracks and local deformation; the series that names them."""
    series = aligned.series
    if aligned.curves:
        store.save_arrays(store.output("curves", f"{series.name}.npz"), aligned.curves)
    if aligned.pictures:
        store.save_arrays(store.output("pictures", f"{series.name}.npz"), aligned.pictures)
    if aligned.tracks is not None:
        write_found_tracks(store, series, aligned.tracks)
    if aligned.warp is None:
        return series.replace(warp=None)
    path = store.output("warps", f"{series.name}.npz")
    write_image_warp(path, aligned.warp, [t.acquisition for t in series.tilts])
    return series.replace(warp=store.relative(path))
