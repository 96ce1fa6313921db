"""Projection lists of PyTom: aligned projections in EM files, listed in XML."""

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from eucentric.errors import FormatError, InputError
from eucentric.typing import PathLike

_ROOT = "ProjectionList"
_UNAPPLIED = {"AlignmentAngle": 0.0, "AlignmentMagnification": 1.0, "AlignmentOffsetX": 0.0, "AlignmentOffsetY": 0.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedProjection:
    """One projection of a list."""

    path: Path
    tilt_deg: float
    """As listed. It turns the other way than RELION's rlnTomoYTilt: ``y_tilt = -tilt_deg``."""
    offset_px: tuple[float, float]
    """(x, y): where the specimen centre is displaced to from pixel ``n // 2``; the shift of our geometry."""


def read_projection_list(path: PathLike) -> tuple[ListedProjection, ...]:
    """Projections of a PyTom `ProjectionList`, in the order listed.

    Paths in such lists are those of the machine that wrote them: each file is looked for there, relative to the list,
    and at last by its name beside the list.

    Raises
    ------
    InputError : no such file, or a projection that is not there
    FormatError : not a projection list, a value missing or not a number, or an alignment that is listed but not yet
        applied to the images
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no projection list `{path}`.")
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise FormatError(f"`{path}` is not XML: {error}. Expected a PyTom projection list.") from error
    entries = list(root.iter("Projection"))
    if root.tag != _ROOT or not entries:
        raise FormatError(f"`{path}` is not a PyTom projection list: its root is <{root.tag}>; expected <{_ROOT}>.")
    return tuple(_listed(entry, number, path) for number, entry in enumerate(entries, 1))


def _listed(entry: ElementTree.Element, number: int, path: Path) -> ListedProjection:
    def value(name: str, default: float | None = None) -> float:
        text = entry.get(name)
        if text is None and default is not None:
            return default
        try:
            return float(text or "")
        except ValueError:
            raise FormatError(f"Projection {number} of `{path}` has {name}={text!r}; expected a number.") from None

    for name, neutral in _UNAPPLIED.items():
        if value(name, neutral) != neutral:
            raise FormatError(
                f"Projection {number} of `{path}` has {name}={entry.get(name)}: its image is not yet aligned. "
                "Give a list whose alignment was applied, or import the raw stack with its angles."
            )
    name = (entry.get("Filename") or "").replace("\\", "/")
    places = [Path(name), path.parent / name, path.parent / Path(name).name]
    found = next((p for p in places if name and p.is_file()), None)
    if found is None:
        raise InputError(
            f"Projection {number} of `{path}` is `{name}`, which is neither there nor beside the list. Copy it there."
        )
    return ListedProjection(
        path=found.resolve(),
        tilt_deg=value("TiltAngle"),
        offset_px=(value("OffsetX", 0.0), value("OffsetY", 0.0)),
    )
