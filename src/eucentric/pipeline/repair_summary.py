"""All that people set by hand between stages in a project: told, made anew after a run, and taken from a file of edits."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from eucentric.errors import FormatError, InputError
from eucentric.io.mrc import read_mrc_header
from eucentric.pipeline.curation_base import Entry, Workplace
from eucentric.pipeline.curation_kinds import edit_of
from eucentric.pipeline.curation_log import log_lock, read_log
from eucentric.pipeline.curation_session import Curation
from eucentric.pipeline.repair_drawn_edits import Draw, drawings_of, everything_drawn
from eucentric.pipeline.repair_drawn_files import write_drawn
from eucentric.pipeline.repair_frames import current_frame
from eucentric.pipeline.repair_label_edits import PaintStroke, label_names, painted, strokes_of
from eucentric.pipeline.repair_label_files import frame_key, write_labels
from eucentric.pipeline.repair_level_edits import face_points
from eucentric.pipeline.repair_paths import label_file
from eucentric.pipeline.repair_track_edits import corrected_tracks

_REPAIRS = ("tracks/", "levels/", "drawn/", "labels/")


def refresh_repairs(root: Path) -> list[Path]:
    """Bring drawings and painted labels into the frames of tomograms that were made anew; the files written.

    Raises
    ------
    EucentricError : the log or a frame cannot be read, or a file not be written
    """
    if not any(isinstance(e.edit, Draw | PaintStroke) for e in read_log(root).done):
        return []
    with log_lock(root):
        log = read_log(root)
        place = Workplace(root=root, number=log.next_number, done=log.done)
        written = write_drawn(root, everything_drawn(place))
        for series in sorted({e.edit.series for e in log.done if isinstance(e.edit, PaintStroke)}):
            path = label_file(root, series)
            if path.is_file() and frame_key(read_mrc_header(path).labels) != current_frame(root, series).key:
                written.append(write_labels(root, series, *painted(place, series)))
    return written


def do_edits_of_file(root: Path, path: Path) -> list[str]:
    """Do edits one after another; each in words. Those before a refused one stay.

    Parameters
    ----------
    path : an edit as JSON on each line, as in the log, or a list of edits

    Raises
    ------
    InputError : no such file, or an edit that cannot be done, with its number
    FormatError : no JSON
    """
    if not path.is_file():
        raise InputError(f"`{path}` does not exist. Expected edits as JSON, one on each line.")
    text = path.read_text(encoding="utf-8")
    try:
        if text.lstrip().startswith("["):
            given: list[Any] = json.loads(text)
        else:
            given = [json.loads(line) for line in text.splitlines() if line.strip()]
    except ValueError as error:
        raise FormatError(
            f"`{path}` is not JSON: {error}. Expected an edit on each line, or a list of them."
        ) from error
    edits = []
    for number, values in enumerate(given, 1):
        try:
            edits.append(edit_of(values))
        except InputError as error:
            raise InputError(f"Edit {number} of `{path}`: {error}") from error
    curation = Curation(root)
    said = []
    for number, edit in enumerate(edits, 1):
        try:
            said.append(curation.do(edit).meant.words())
        except InputError as error:
            raise InputError(f"Edit {number} of `{path}`, after which none was done: {error}") from error
    return said


def repairs_in_words(root: Path) -> dict[str, list[str]]:
    """By series: what is set by hand, a sentence each.

    Raises
    ------
    EucentricError : the log cannot be read
    """
    done = read_log(root).done
    out: dict[str, list[str]] = {}
    for kind, name in sorted({_scope(e) for e in done if _scope(e)[0] + "/" in _REPAIRS}, key=lambda s: (s[1], s[0])):
        out.setdefault(name, []).append(_WORDS[kind](root, name, done))
    return out


def _scope(entry: Entry) -> tuple[str, str]:
    scope = "" if entry.edit is None else entry.edit.scope
    kind, _, name = scope.partition("/")
    return kind, name


def _tracks(root: Path, series: str, done: tuple[Entry, ...]) -> str:
    table = corrected_tracks(root, series, done)
    hand = sum(row.by_hand for row in table.values())
    return f"Its tracks are corrected: {hand} of {len(table)} places set by hand."


def _levels(root: Path, series: str, done: tuple[Entry, ...]) -> str:
    del root
    count = Counter(m.face for m in face_points(series, done).values())
    missing = [face for face in ("top", "bottom") if not count[face]]
    words = f"Marked on the specimen: {count['top']} on its top, {count['bottom']} on its bottom."
    return words if not missing else f"{words} They are used once the {missing[0]} is marked too."


def _drawn(root: Path, series: str, done: tuple[Entry, ...]) -> str:
    del root
    count = Counter(d.shape for d in drawings_of(series, done).values())
    return f"Drawn: groups of points {count['point']}, filaments {count['filament']}, surfaces {count['surface']}."


def _labels(root: Path, series: str, done: tuple[Entry, ...]) -> str:
    del root
    strokes, names = strokes_of(series, done), label_names(done)
    used = sorted({s.label for s in strokes})
    told = ", ".join(f"{n} ({names[n]})" if n in names else str(n) for n in used)
    return f"Painted labels: {told}; strokes {len(strokes)}."


_WORDS = {"tracks": _tracks, "levels": _levels, "drawn": _drawn, "labels": _labels}
