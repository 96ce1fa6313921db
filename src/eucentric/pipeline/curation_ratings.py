"""Ratings of tomograms, 0 to 5, with a note: `curation/tomograms.star`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, Self

from pydantic import Field

from eucentric.errors import FormatError, InputError
from eucentric.io import labels
from eucentric.io.star import read_star_text, write_star
from eucentric.pipeline.curation_base import FOLDER, Before, Edit, Entry, Workplace, require_series, require_text

RATINGS = "tomograms.star"
_BLOCK = "tomograms"


class RateTomogram(Edit):
    """Say how good a tomogram is."""

    kind: Literal["rate-tomogram"] = "rate-tomogram"
    tomogram: str = Field(description="name of the tilt series")
    rating: int = Field(ge=0, le=5, description="0 of no use, 5 as good as can be")
    note: str = Field(default="", description="why, in words")

    @property
    def scope(self) -> str:
        """`rating/<tomogram>`."""
        return f"rating/{self.tomogram}"

    def words(self) -> str:
        """The rating and the note."""
        return f"rated {self.tomogram} {self.rating} of 5" + (f": {self.note}" if self.note else "")

    def checked(self, place: Workplace) -> tuple[Self, Before]:
        """Another rating or note than before."""
        require_series(place.root, self.tomogram)
        edit = self.replace(note=require_text(self.note, "note"))
        last = place.last(self.scope)
        if not isinstance(last, RateTomogram):
            return edit, {}
        if (last.rating, last.note) == (edit.rating, edit.note):
            raise InputError(f"{edit.tomogram} is rated {edit.rating} of 5 already.")
        return edit, {"rating": last.rating, "note": last.note}

    def settle(self, place: Workplace, entry: Entry, *, undone: bool) -> list[Path]:
        """Write all ratings."""
        del entry, undone
        path = place.root / FOLDER / RATINGS
        found = ratings_in_force(place.done)
        if not found:
            path.unlink(missing_ok=True)
            return []
        rows = [found[name] for name in sorted(found)]
        write_star(
            path,
            {
                _BLOCK: {
                    "rlnTomoName": [r.tomogram for r in rows],
                    labels.RATING: [r.rating for r in rows],
                    labels.NOTE: [r.note or None for r in rows],
                }
            },
        )
        return [path]


def ratings_in_force(done: Iterable[Entry]) -> dict[str, RateTomogram]:
    """The latest rating of each tomogram, by name."""
    return {e.edit.tomogram: e.edit for e in done if isinstance(e.edit, RateTomogram)}


def read_ratings(path: Path) -> dict[str, int]:
    """Ratings by the name of the tomogram.

    Raises
    ------
    InputError : no such file
    FormatError : no table of ratings in it, or a rating that is not 0 to 5
    """
    if not path.is_file():
        raise InputError(
            f"`{path}` does not exist: no tomogram is rated. Rate some with `eucentric curate PROJECT --rate NAME 4`."
        )
    table = next((t for t in read_star_text(path).values() if labels.RATING in t and "rlnTomoName" in t), None)
    if table is None:
        raise FormatError(f"`{path}` has no table with rlnTomoName and {labels.RATING}.")
    found: dict[str, int] = {}
    for name, text in zip(table["rlnTomoName"], table[labels.RATING], strict=True):
        if name is None or text is None or text not in {"0", "1", "2", "3", "4", "5"}:
            raise FormatError(f"`{path}` rates `{name}` with `{text}`; expected a whole number from 0 to 5.")
        found[name] = int(text)
    return found


def ratings_beside(path: Path) -> Path | None:
    """The ratings of the project that a file lies in; None where it lies in none that has some."""
    places = (parent / FOLDER / RATINGS for parent in path.resolve().parents)
    return next((place for place in places if place.is_file()), None)
