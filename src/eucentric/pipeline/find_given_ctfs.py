"""The contrast transfer of every series among the files that a user names, and its place in the project."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from eucentric.errors import InputError
from eucentric.io.findings import Finding
from eucentric.io.focus_tables import read_focus_table
from eucentric.io.given_ctf import GivenCtf, write_given_ctf
from eucentric.models.tilt_series import TiltSeries
from eucentric.pipeline.focus_images import ctf_from_focus
from eucentric.pipeline.given_ctf import given_ctf_file
from eucentric.pipeline.import_ctf import take_over_own
from eucentric.pipeline.import_files import expand_paths, read_own
from eucentric.typing import PathLike

_CTF_ENDINGS = (".txt", ".defocus", ".xml", ".star")
_FOCUS_ENDINGS = (".txt", ".csv", ".tsv", ".star")


def find_given_ctfs(
    series: Sequence[TiltSeries],
    places: Sequence[str | Path],
    focus_tables: Sequence[str | Path] = (),
    focus_offset_angstrom: float = 0.0,
) -> tuple[dict[str, GivenCtf], list[Finding]]:
    """The contrast transfer of every series among estimates and focus tables that were named, and what is to be told.

    Raises
    ------
    InputError : a place that does not exist or holds nothing of the kind
    """
    estimates = [p for p in (Path(place) for place in places) if p.is_dir()]
    files = [p for p in places if not Path(p).is_dir()]
    estimates += expand_paths(files, _CTF_ENDINGS, "estimate of the CTF") if files else []
    tables = expand_paths(focus_tables, _FOCUS_ENDINGS, "focus table") if focus_tables else []
    found: dict[str, GivenCtf] = {}
    told: list[Finding] = []
    if not (estimates or tables):
        return found, told
    for one in series:
        try:
            taken = take_over_own(one, estimates, series_count=len(series)) if estimates else None
            if taken is None and tables:
                images = read_own(one.name, tables, len(series), lambda path: (path.name, read_focus_table(path)))
                taken = images and ctf_from_focus(
                    one, images[1], source=f"the focus table {images[0]}", offset_angstrom=focus_offset_angstrom
                )
        except InputError as error:
            told.append(Finding(severity="warning", series=one.name, text=f"Its CTF was not taken over: {error}"))
            continue
        if taken is None:
            words = (
                "None of the estimates given is of this series; its CTF will be fitted from its images. The name of a file of its "
                f"own begins with `{one.name}`."
            )
            told.append(Finding(severity="warning", series=one.name, text=words))
            continue
        found[one.name] = taken.given
        told += [Finding(severity="note", series=one.name, text=text) for text in taken.caveats]
    return found, told


def write_given_ctfs(root: PathLike, given: Mapping[str, GivenCtf]) -> None:
    """Write `import/ctf/<name>.star` of every series.

    Raises
    ------
    InputError, BackendError : the place cannot be written to, or the disk is full
    """
    for name, one in given.items():
        write_given_ctf(given_ctf_file(Path(root), name), one)
