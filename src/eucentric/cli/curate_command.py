"""`eucentric curate`: what a person decided about a project, at the command line."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from eucentric.cli.options import AsJson, Debug, Switch, show_json
from eucentric.errors import InputError

if TYPE_CHECKING:
    from eucentric.pipeline.curation_base import Edit
    from eucentric.pipeline.curation_session import Curation

Place = Annotated[tuple[float, float, float] | None, Parameter(allow_leading_hyphen=True, negative=())]


def curate(
    project: Path,
    /,
    *,
    log: Switch = False,
    undo: Switch = False,
    redo: Switch = False,
    exclude: str | None = None,
    include: str | None = None,
    tilt: Annotated[float | None, Parameter(allow_leading_hyphen=True)] = None,
    acquisition: int | None = None,
    rate: Annotated[tuple[str, int] | None, Parameter(negative=())] = None,
    reason: str | None = None,
    picks: str | None = None,
    tomogram: str | None = None,
    add: Place = None,
    move: str | None = None,
    to: Place = None,
    delete: str | None = None,
    user: str | None = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Leave out tilts or series, edit picks, rate tomograms, and take it back; the same as in `eucentric view`.

    Every edit stands in `curation/log.jsonl` with time and user. Without an edit it shows what is in force.

    Parameters
    ----------
    project
        folder made by `eucentric import`
    log
        show every entry, those that were undone too
    undo
        take back the latest edit in force
    redo
        bring again what was taken back last
    exclude
        tilt series to leave out; with --tilt only that tilt of it
    include
        tilt series to take back; with --tilt only that tilt of it
    tilt
        degrees, nominal; the nearest tilt within 0.5 is meant
    acquisition
        order of acquisition from 0, where two tilts have the same angle
    rate
        tomogram and 0 (of no use) to 5 (as good as can be)
    reason
        why, in words: of --exclude and --rate
    picks
        list of picks: the folder below `pick`; a new name begins a list
    tomogram
        that a pick is edited in
    add
        A: x, y and z from the specimen centre of a pick to be added
    move
        name (rlnTomoParticleName) of a pick to be moved; with --to
    to
        A: x, y and z from the specimen centre
    delete
        name of a pick to be deleted
    user
        name for the log; the system's user where not given
    """
    from eucentric.pipeline.curation_session import Curation  # here, so that --help does not load torch

    del debug  # read by the program itself
    edits = _edits(exclude, include, tilt, acquisition, rate, reason) + _pick_edits(
        picks, tomogram, add, move, to, delete
    )
    if len(edits) + undo + redo + log > 1:
        raise InputError("Several things are asked for. Give one edit, --undo, --redo or --log at a time.")
    curation = Curation(project, user)
    if edits or undo or redo:
        made = curation.do(edits[0]) if edits else curation.undo() if undo else curation.redo()
        word = {"edit": "", "undo": "Undone: ", "redo": "Done again: "}[made.entry.action]
        sys.stdout.write(f"{word}{made.meant.words()}.\n")
        sys.stdout.writelines(f"Wrote {path}.\n" for path in made.written)
        if made.meant.waits_for_run:
            sys.stdout.write(f"Next: eucentric run {project}\n")
    else:
        _show(curation, whole=log)
    if as_json:
        show_json({"exit_code": 0, "entries": _entries(curation, whole=True)})
    return 0


def _edits(
    exclude: str | None,
    include: str | None,
    tilt: float | None,
    acquisition: int | None,
    rate: tuple[str, int] | None,
    reason: str | None,
) -> "list[Edit]":
    from eucentric.pipeline.curation_kinds import edit_of

    about = {} if reason is None else {"reason": reason}
    which = {} if tilt is None else {"angle": tilt, "acquisition": acquisition}
    end = "series" if tilt is None else "tilt"
    found = []
    if exclude is not None:
        found.append(edit_of({"kind": f"exclude-{end}", "series": exclude, **which, **about}))
    if include is not None:
        found.append(edit_of({"kind": f"include-{end}", "series": include, **which}))
    if rate is not None:
        found.append(edit_of({"kind": "rate-tomogram", "tomogram": rate[0], "rating": rate[1], "note": reason or ""}))
    if acquisition is not None and tilt is None:
        raise InputError("--acquisition tells tilts of the same angle apart: give --tilt DEGREES with it.")
    if reason is not None and exclude is None and rate is None:
        raise InputError("--reason belongs to --exclude and --rate; other edits have none.")
    if tilt is not None and exclude is None and include is None:
        raise InputError("--tilt says which tilt of a series: give --exclude SERIES or --include SERIES with it.")
    return found


def _pick_edits(
    picks: str | None, tomogram: str | None, add: Place, move: str | None, to: Place, delete: str | None
) -> "list[Edit]":
    from eucentric.pipeline.curation_kinds import edit_of

    if add is None and move is None and delete is None:
        if to is not None or picks is not None or tomogram is not None:
            raise InputError("What is to be done to picks? Give --add X Y Z, --move PICK --to X Y Z or --delete PICK.")
        return []
    if picks is None or tomogram is None:
        raise InputError("Say in which list and tomogram: --picks NAME --tomogram NAME.")
    if (move is None) != (to is None):
        raise InputError("--move PICK and --to X Y Z belong together.")
    where = {"picks": picks, "tomogram": tomogram}
    found = []
    if add is not None:
        found.append(edit_of({"kind": "add-pick", **where, "position": add}))
    if move is not None:
        found.append(edit_of({"kind": "move-pick", **where, "pick": move, "position": to}))
    if delete is not None:
        found.append(edit_of({"kind": "delete-pick", **where, "pick": delete}))
    return found


def _show(curation: "Curation", *, whole: bool) -> None:
    entries = _entries(curation, whole=whole)
    for entry in entries:
        undone = "" if entry["in_force"] else "  (undone)"
        sys.stdout.write(f"{entry['number']:>5}  {entry['time']}  {entry['user']}  {entry['words']}{undone}\n")
    if not entries:
        sys.stdout.write(
            "Nothing was curated. `eucentric view` shows tilts and picks; `eucentric curate --help` says what can be done here.\n"
        )
    damaged = curation.log().damaged
    if damaged:
        lines = ", ".join(map(str, damaged))
        sys.stdout.write(f"Passed over in curation/log.jsonl: line {lines}, cut off by a crash or a full disk.\n")


def _entries(curation: "Curation", *, whole: bool) -> list[dict[str, object]]:
    return [one for one in curation.history() if whole or (one["in_force"] and one["action"] == "edit")]
