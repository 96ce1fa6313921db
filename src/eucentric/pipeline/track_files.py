"""Tracks on disk: as the alignment leaves them, and as a person gives them back."""

from pathlib import Path

from eucentric.errors import InputError
from eucentric.io.tracks import read_marker_table, read_tracks, read_tracks_model, write_tracks, write_tracks_model
from eucentric.models.tilt_series import TiltSeries
from eucentric.models.tracks import Tracks
from eucentric.pipeline.repair_paths import track_file
from eucentric.pipeline.store import ItemStore, StageStore

_ENDINGS = (".star", ".fid", ".mod", ".txt")


def given_track_file(setting: str | None, series: str, root: Path) -> Path | None:
    """The file of tracks that a person wants to be used for a series; None where there is none.

    Tracks that were corrected in the project (`curation/tracks`) go before those of the setting.

    Parameters
    ----------
    setting : a file, or a folder with files named after the series; from the project's folder, or from where the program
        was started
    """
    corrected = track_file(root, series)
    if corrected.is_file():
        return corrected
    if setting is None:
        return None
    place = next((p for p in (root / setting, Path(setting)) if p.exists()), None)
    if place is None:
        raise InputError(
            f"`{setting}` does not exist. Give a file of tracks, or a folder with files such as `{series}.star`."
        )
    if place.is_file():
        return place
    return next((p for ending in _ENDINGS if (p := place / f"{series}{ending}").is_file()), None)


def read_given_tracks(path: Path, series: TiltSeries) -> Tracks:
    """Tracks of a file, in the tilts of a series as they are.

    Sections of an IMOD model are the images in ascending order of tilt angle, left-out ones included.

    Raises
    ------
    InputError, FormatError : not of this series, or it cannot be read
    """
    shape, pixel = series.image_shape, series.pixel_size_angstrom
    if path.suffix == ".star":
        return read_tracks(path, [t.acquisition for t in series.tilts])
    if path.suffix == ".txt":
        return read_marker_table(path).tracks(series.nominal_tilts_deg, image_shape=shape, pixel_size=pixel)
    return read_tracks_model(path, image_shape=shape, pixel_size=pixel, sections=_sections(series))


def write_found_tracks(store: ItemStore | StageStore, series: TiltSeries, tracks: Tracks) -> None:
    """Write `<stage>/tracks/<name>.star`, and the same as an IMOD model.

    Parameters
    ----------
    series : whose tilts the tracks count
    """
    images = [t.image or "" for t in series.tilts]
    write_tracks(store.output("tracks", f"{series.name}.star"), tracks, [t.acquisition for t in series.tilts], images)
    write_tracks_model(
        store.output("tracks", f"{series.name}.fid"),
        tracks,
        image_shape=series.image_shape,
        pixel_size=series.pixel_size_angstrom,
        sections=_sections(series),
    )


def _sections(series: TiltSeries) -> list[int]:
    """Position of each tilt among all that were recorded, in ascending angle."""
    every = sorted(
        [*series.tilts, *(e.tilt for e in series.excluded)], key=lambda t: (t.nominal_tilt_deg, t.acquisition)
    )
    where = {t.acquisition: i for i, t in enumerate(every)}
    return [where[t.acquisition] for t in series.tilts]
