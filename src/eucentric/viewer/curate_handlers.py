"""`/api/curation/...`: edits from pages into the project's log and files; `/curation`: the log as a page."""

from collections.abc import Iterable, Sequence
from typing import Any

from eucentric.errors import InputError
from eucentric.pipeline.curation_base import FOLDER, Edit
from eucentric.pipeline.curation_kinds import edit_of
from eucentric.pipeline.curation_log import LOG, Log
from eucentric.pipeline.curation_pick_table import CURATED, ORIGINAL, PICKS, require_list_name
from eucentric.pipeline.curation_picks import AddPick, DeletePick, MovePick, edited_lists
from eucentric.pipeline.curation_session import Curated, Curation
from eucentric.viewer.handlers import ApiHandler, PageHandler
from eucentric.viewer.security import inside_path
from eucentric.viewer.site import Site

_MOST_EDITS = 2000


def next_steps(log: Log, scopes: Sequence[str] | None) -> dict[str, Any]:
    """What undo and redo would do next within some scopes, in words; None where nothing."""
    return {
        "undo": None if (one := log.undoable(scopes)) is None or one.edit is None else one.edit.words(),
        "redo": None if (two := log.redoable(scopes)) is None or two.edit is None else two.edit.words(),
    }


def _scopes(values: dict[str, Any]) -> list[str] | None:
    scopes = values.get("scopes")
    if scopes is None:
        return None
    if not isinstance(scopes, list) or not all(isinstance(s, str) for s in scopes):
        raise InputError("`scopes` says what undo is about; expected a list of texts.")
    return scopes


def need_own_folders(site: Site, lists: Iterable[str]) -> None:
    """Edits are written into the project alone: a folder of it may be a link, but to no place elsewhere.

    Raises
    ------
    InputError : a link that leads out of the project
    """
    folders = [site.root / FOLDER, *(site.root / PICKS / require_list_name(name) for name in lists)]
    for path in (p for folder in folders for p in (folder, *(folder / file for file in (ORIGINAL, CURATED, LOG)))):
        if path.is_symlink() or path.exists():
            inside_path(site.root, path)


def _lists_of(edits: Iterable[Edit]) -> set[str]:
    return {edit.picks for edit in edits if isinstance(edit, AddPick | DeletePick | MovePick)}


def _told(site: Site, made: Sequence[Curated]) -> dict[str, Any]:
    """For pages: what was done, and which files say so now."""
    files = dict.fromkeys(path.relative_to(site.root).as_posix() for one in made for path in one.written)
    return {
        "entries": [one.entry.number for one in made],
        "edits": [one.meant.model_dump(mode="json") for one in made],
        "words": made[-1].meant.words() if made else "",
        "written": list(files),
        "for_next_run": any(one.meant.waits_for_run for one in made),
    }


class EditHandler(ApiHandler):
    """POST an edit, or `{"edits": [...]}`: done one after another, as far as they can be; those before a refused one stay."""

    async def post(self) -> None:
        values = self.body_json()
        self.send(await self.in_thread(do_edits, self.site, values))


def do_edits(site: Site, values: dict[str, Any]) -> dict[str, Any]:
    """Check, log and write edits.

    Raises
    ------
    InputError : one that cannot be done; which it was and how many were done before it, where there are several
    """
    given = values.get("edits", [values])
    if not isinstance(given, list) or not 0 < len(given) <= _MOST_EDITS:
        raise InputError(f"`edits` must be a list of 1 to {_MOST_EDITS} edits.")
    edits = [edit_of(one) for one in given]
    need_own_folders(site, _lists_of(edits))
    curation, made = Curation(site.root), []
    for number, edit in enumerate(edits, start=1):
        try:
            made.append(curation.do(edit))
        except InputError as error:
            if len(edits) == 1:
                raise
            raise InputError(f"Edit {number} of {len(edits)}, after which none was done: {error}") from error
    return _told(site, made)


class UndoHandler(ApiHandler):
    """POST `/api/curation/undo` or `redo`, with `{"scopes": [...]}` for those of a page."""

    async def post(self, action: str) -> None:
        scopes = _scopes(self.body_json())
        self.send(await self.in_thread(undo_or_redo, self.site, action, scopes))


def undo_or_redo(site: Site, action: str, scopes: Sequence[str] | None) -> dict[str, Any]:
    """Take back the latest edit, or bring it again; errors as `Curation.undo`."""
    curation = Curation(site.root)
    need_own_folders(site, edited_lists(curation.log().entries))
    return _told(site, [curation.undo(scopes) if action == "undo" else curation.redo(scopes)])


class NextHandler(ApiHandler):
    """GET `/api/curation/next?scope=...&scope=...`: what undo and redo would do."""

    async def get(self) -> None:
        scopes = self.get_query_arguments("scope") or None
        log = await self.in_thread(lambda: Curation(self.site.root).log())
        self.send(next_steps(log, scopes))


class LogHandler(PageHandler):
    """The page of the log, latest first."""

    async def get(self) -> None:
        values = await self.in_thread(log_values, self.site)
        self.page("curation.html", **values)


def log_values(site: Site) -> dict[str, Any]:
    """What the page of the log shows."""
    curation = Curation(site.root)
    log = curation.log()
    return {
        "entries": curation.history()[::-1],
        "damaged": log.damaged,
        "values": next_steps(log, None),
    }
